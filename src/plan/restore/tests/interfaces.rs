//! Which groups an interface gets, and which interfaces are left alone.

use std::collections::BTreeSet;

use super::*;

#[test]
fn an_isolated_interface_gets_its_originals_back() {
    for state in [State::Isolating, State::Isolated, State::Kept, State::Restoring] {
        check(&recorded(state, &["sg-150"]), &format!("i-1: mark restoring\n{BACK}"));
        check_standing(&recorded(state, &["sg-150"]), false, false);
    }
    // Whatever stands beside our group, which nobody gave it back.
    check(
        &recorded(State::Isolated, &["sg-150", "sg-c"]),
        "i-1: mark restoring\ni-1: restore eni-1 [sg-150, sg-c] -> [sg-a, sg-b]",
    );
    let plan = isolated().plan(&Goal::Restore);
    let Some(Step::Mark { from, state, reason, cut, .. }) = plan.steps().next() else { unreachable!() };
    assert_eq!((*from, *state, reason, cut), (State::Isolated, State::Restoring, &None, &None));
}

#[test]
fn interfaces_are_changed_under_a_lease_of_this_invocation_only() {
    let lease = |writer: &str, seconds| {
        let lease = Lease { writer: writer.to_owned(), until: Time(NOW.time.0 + seconds), only: BTreeSet::new() };
        recorded(State::Restoring, &["sg-150"]).saved_with(|record| record.lease = Some(lease))
    };
    check(&lease(NOW.writer, 1), BACK);
    let again = format!("i-1: mark restoring\n{BACK}");
    check(&lease(NOW.writer, 0), &again);
    check(&lease("another", 30), &again);
    check(&lease(NOW.writer, 30).state(State::Isolating), &again);
}

#[test]
fn an_interface_that_an_overtaken_create_isolated_again_is_restored_again() {
    check(&recorded(State::Restored, &["sg-150"]), BACK);
    check_standing(&recorded(State::Restored, &["sg-150"]), false, false);
    let restored = recorded(State::Restored, &["sg-a", "sg-b"]);
    check(&restored, SHOWS);
    check_standing(&restored, false, false);
    check_standing(&later(&restored), true, true);
    check_standing(&restored.wrote("eni-1", &["sg-a", "sg-b"], Ok(())), true, true);
}

#[test]
fn what_may_be_a_stale_read_is_written_once_more() {
    let confirm = "i-1: confirm eni-1 [sg-a, sg-b] -> [sg-a, sg-b]";
    for state in [State::Isolating, State::Kept, State::Restoring] {
        let world = recorded(state, &["sg-a", "sg-b"]);
        check(&world, &format!("i-1: mark restoring\n{confirm}"));
        check_standing(&world, false, false);
        check(
            &world.clone().wrote("eni-1", &["sg-a", "sg-b"], Err(Fault::Denied)),
            &format!("i-1: mark restoring\n{confirm}"),
        );
        // Somebody changed what this invocation gave back: it is left alone.
        let changed = world.clone().wrote("eni-1", &["sg-a"], Ok(()));
        check(&changed, SHOWS);
        check_later(&changed, &format!("i-1: mark restored\n{SHOWS}"));
        for result in [Ok(()), Err(Fault::Refused)] {
            let written = world.clone().wrote("eni-1", &["sg-a", "sg-b"], result);
            check(&written, "i-1: mark restored");
            check_standing(&written, true, false);
        }
    }
    // Of what was isolated a second reading is enough, unless this invocation changed it.
    for state in [State::Isolated, State::Restored] {
        let world = recorded(state, &["sg-a", "sg-b"]);
        check(&world, SHOWS);
        check_standing(&world, false, false);
        check_standing(&later(&world), true, state == State::Restored);
    }
    check_later(&recorded(State::Isolated, &["sg-a", "sg-b"]), &format!("i-1: mark restored\n{SHOWS}"));
}

/// This invocation isolated it for a request that a Delete has overtaken since.
#[test]
fn what_this_invocation_isolated_before_is_not_isolated_again_by_a_restore() {
    let confirm = "i-1: confirm eni-1 [sg-a, sg-b] -> [sg-a, sg-b]";
    for state in [State::Isolating, State::Isolated, State::Kept, State::Restoring, State::Restored] {
        let world = recorded(state, &["sg-a", "sg-b"]).wrote("eni-1", &["sg-150"], Ok(()));
        let first = if state == State::Restored { "" } else { "i-1: mark restoring\n" };
        check(&world, &format!("{first}{confirm}"));
    }
}

#[test]
fn what_somebody_moved_meanwhile_is_left_alone_and_reported() {
    let moved = |ids: &str| format!("! i-1: eni-1 was left alone: it was moved to [{ids}] meanwhile");
    let world = recorded(State::Isolated, &["sg-a"]);
    check(&world, &format!("{}\n{SHOWS}", moved("sg-a")));
    check_later(&world, &format!("i-1: mark restored\n{}\n{SHOWS}", moved("sg-a")));
    // What was never seen isolated is written once more as it shows.
    let world = recorded(State::Restoring, &["sg-c"]).leased();
    check(&world, "i-1: confirm eni-1 [sg-c] -> [sg-c]");
    check(&world.wrote("eni-1", &["sg-c"], Ok(())), &format!("i-1: mark restored\n{}", moved("sg-c")));
    // No group at all is a move, too.
    check(&recorded(State::Isolated, &[]), &format!("{}\n{SHOWS}", moved("")));
}

#[test]
fn an_original_that_is_not_shown_is_doubted_and_then_dropped_and_named() {
    let gone = |world: World| world.without_group("sg-b");
    let doubt = "? sg-b is not shown";
    check(&gone(isolated()), doubt);
    check_standing(&gone(isolated()), false, false);
    check_later(&gone(isolated()), &format!("i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]\n{doubt}"));
    let dropped = "! i-1: eni-1 was restored without [sg-b], which no longer exist";
    let done = gone(back()).shows("eni-1", &["sg-a"]).wrote("eni-1", &["sg-a"], Ok(()));
    check(&done, &format!("{dropped}\n{doubt}"));
    check_later(&done, &format!("i-1: mark restored\n{dropped}\n{doubt}"));
    check_standing(&done.clone().state(State::Restored), false, false);
    check_standing(&later(&done.state(State::Restored)), true, true);
    // A group that an interface shows is there.
    check_later(&gone(back()), &format!("i-1: mark restored\n{doubt}"));
    // The reason is written down.
    let plan = later(&gone(back()).shows("eni-1", &["sg-a"]).wrote("eni-1", &["sg-a"], Ok(()))).plan(&Goal::Restore);
    let Some(Step::Mark { reason: Some(reason), .. }) = plan.steps().next() else { panic!("{plan}") };
    assert_eq!(reason, &dropped[2..]);
}

#[test]
fn an_interface_of_which_nothing_is_left_to_give_back_stays_isolated() {
    let choose = "aws ec2 modify-network-interface-attribute --network-interface-id eni-1 --groups <group ids>";
    let gone = isolated().without_group("sg-a").without_group("sg-b");
    let doubts = "? sg-a is not shown\n? sg-b is not shown";
    check(&gone, doubts);
    let named = format!(
        "! i-1: eni-1 stays isolated, its original groups [sg-a, sg-b] no longer exist: choose others: {choose}"
    );
    check_later(&gone, &format!("{named}\n{doubts}"));
    check_standing(&later(&gone), false, false);
    check_standing(&later(&gone.state(State::Restored)), false, false);
    let none = isolated().saved_with(|record| record.interfaces.values_mut().for_each(Groups::clear));
    check(
        &none,
        &format!("! i-1: eni-1 stays isolated, it had no security group when it was recorded: choose one: {choose}"),
    );
    check_standing(&none, false, false);
    // Once somebody chose one it is theirs.
    check_later(
        &none.shows("eni-1", &["sg-c"]),
        &format!("i-1: mark restored\n! i-1: eni-1 was left alone: it was moved to [sg-c] meanwhile\n{SHOWS}"),
    );
}

#[test]
fn one_that_is_stuck_does_not_keep_the_others_isolated() {
    let world = World::new().plain_group("sg-a").instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-150"])]);
    let world = world.record("i-1", State::Isolated, &[("eni-1", &[]), ("eni-2", &["sg-a"])]);
    let text = world.plan(&Goal::Restore).to_string();
    assert!(
        text.starts_with("i-1: mark restoring\ni-1: restore eni-2 [sg-150] -> [sg-a]\n! i-1: eni-1 stays isolated"),
        "{text}"
    );
}

#[test]
fn one_that_is_doubted_does_not_keep_the_others_isolated() {
    let world = World::new().plain_group("sg-a").instance("i-1", &[("eni-2", &["sg-150"])]);
    let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a", "sg-b"])]);
    let back = "i-1: mark restoring\ni-1: restore eni-2 [sg-150]";
    let there = world.clone().plain_group("sg-b");
    check(&there, &format!("{back} -> [sg-a, sg-b]\n? eni-1 is not shown"));
    // The group of this one is gone, which was read twice; the other one is doubted only now.
    let elsewhere = world.clone().elsewhere("eni-1", &["sg-150"], None);
    let seen = later(&elsewhere).with(|world| _ = world.observed.interfaces.remove(&"eni-1".parse().unwrap()));
    check(&seen, &format!("{back} -> [sg-a]\n? eni-1 is not shown\n? sg-b is not shown"));
}

#[test]
fn an_interface_in_transit_is_named_and_restored() {
    let world = recorded(State::Isolating, &["sg-7a5"]).transit_group("sg-7a5");
    let named = "! i-1: eni-1 may be in sg-7a5, which is open to everybody: run aws ec2 modify-network-interface-attribute \
                 --network-interface-id eni-1 --groups sg-150";
    let out = format!("i-1: mark restoring\ni-1: restore eni-1 [sg-7a5] -> [sg-a, sg-b]\n{named}");
    check(&world, &out);
    // By the record, if nothing on the group says whose it is.
    let untagged = world.change_group("sg-7a5", |group| group.role = None);
    check(&untagged.clone().saved_with(|record| _ = record.isolation_groups.insert("sg-7a5".parse().unwrap())), &out);
    check(&untagged, "i-1: mark restoring\ni-1: confirm eni-1 [sg-7a5] -> [sg-7a5]");
}
