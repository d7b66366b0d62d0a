//! What is written down before anything is touched, and what is believed of a record.

use super::*;
use crate::model::{Fault, Lease, Time};
use crate::plan::testing::{NOW, groups};

const CONFIRM: &str = "i-1: confirm eni-1 [sg-150] -> [sg-150]";
const AGAIN: &str = "i-1: record as isolating\ni-1: isolate eni-1 [sg-a] -> [sg-150]";

#[test]
fn each_interface_is_recorded_and_then_isolated() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-a", "sg-b"]), ("eni-2", &["sg-c"])]);
    check(
        &world,
        "i-1: record eni-1 [sg-a, sg-b] eni-2 [sg-c]\n\
         i-1: isolate eni-1 [sg-a, sg-b] -> [sg-150]\n\
         i-1: isolate eni-2 [sg-c] -> [sg-150]",
    );
    check_standing(&world, &bare(), "", "eni-1, eni-2");
    let plan = plan_for(&world, &bare());
    assert_eq!(plan.work.len(), 1);
    let Originals { vpc, isolation_group, transit_group, reopened, prior, hold_seconds, .. } = record_of(&plan);
    assert_eq!((vpc.as_str(), isolation_group.as_str(), transit_group, *hold_seconds), ("vpc-1", "sg-150", &None, 5));
    assert_eq!((ids(reopened).as_str(), prior), ("eni-1, eni-2", &Prior::None));
}

#[test]
fn an_isolated_instance_needs_nothing_once_that_was_read_twice() {
    let world = recorded(State::Isolated, &["sg-150"]);
    check(&world, "? eni-1 shows what it should");
    check_later(&world, &bare(), "? eni-1 shows what it should");
    check_standing(&world, &bare(), "eni-1", "");
    // What this invocation wrote is no question.
    check(&world.wrote("eni-1", &["sg-150"], Ok(())), "");
}

#[test]
fn what_may_be_a_stale_read_is_written_once_more() {
    for state in [State::Isolating, State::Restoring, State::Kept] {
        let world = recorded(state, &["sg-150"]);
        check(&world, &format!("i-1: record as isolating\n{CONFIRM}"));
        check_standing(&world, &bare(), "", "eni-1");
        let world = world.wrote("eni-1", &["sg-150"], Err(Fault::Server));
        check(&world, &format!("i-1: record as isolating\n{CONFIRM}"));
        check_standing(&world.wrote("eni-1", &["sg-150"], Ok(())), &bare(), "eni-1", "");
    }
    // Isolated, in another group than this one, or after this invocation wrote something else.
    let other =
        recorded(State::Isolated, &["sg-150"]).saved_with(|record| record.isolation_group = "sg-01d".parse().unwrap());
    check(&other, &format!("i-1: record as isolating\n{CONFIRM}"));
    let world = recorded(State::Isolated, &["sg-150"]).wrote("eni-1", &["sg-a"], Ok(()));
    check(&world, "? eni-1 shows what it should");
    let world = recorded(State::Isolating, &["sg-150"]).leased().wrote("eni-1", &["sg-a"], Ok(()));
    check(&world, CONFIRM);
    let world = recorded(State::Isolated, &["sg-150"]).wrote("eni-1", &["sg-150"], Err(Fault::Server));
    check(&world, &format!("i-1: record as isolating\n{CONFIRM}"));
}

/// Another tool fights for it: it was written, taken out, and written again.
#[test]
fn what_had_to_be_written_again_is_believed_when_it_is_read_again() {
    let second = std::time::Duration::from_secs(1);
    let patience = crate::plan::Patience { for_faults: 60 * second, for_permission: 60 * second };
    let fought = |looks: [u32; 2]| {
        let world = recorded(State::Isolating, &["sg-a"]).leased().wrote("eni-1", &["sg-150"], Ok(()));
        let plan = plan_for(&world, &bare());
        let world = world.with(|world| {
            looks.iter().for_each(|look| _ = world.ledger.due(&plan, *look * second, patience));
        });
        world.wrote("eni-1", &["sg-150"], Ok(())).shows("eni-1", &["sg-150"])
    };
    let contested = "i-1: mark isolated\n? eni-1 shows what it should";
    check(&fought([58, 59]), contested);
    check_later(&fought([58, 59]), &bare(), contested);
    check_standing(&fought([58, 59]), &bare(), "eni-1", "");
    // It was never written again, or long ago.
    check(&fought([58, 58]), "i-1: mark isolated");
    check(&fought([29, 30]), contested);
    check(&fought([28, 29]), "i-1: mark isolated");
}

#[test]
fn what_was_isolated_and_is_no_longer_is_recorded_so_before_it_is_changed() {
    for state in [State::Isolated, State::Kept, State::Restoring] {
        check(&recorded(state, &["sg-a"]), AGAIN);
    }
}

#[test]
fn an_interface_is_changed_under_a_lease_of_this_invocation_only() {
    let lease = |writer: &str, seconds| {
        let lease = Lease { writer: writer.to_owned(), until: Time(NOW.time.0 + seconds), only: BTreeSet::new() };
        recorded(State::Isolating, &["sg-a"]).saved_with(|record| record.lease = Some(lease))
    };
    let at_once = "i-1: isolate eni-1 [sg-a] -> [sg-150]";
    check(&lease(NOW.writer, 6), at_once);
    // It must outlast the hold.
    check(&lease(NOW.writer, 5), AGAIN);
    check(&lease("another", 35), AGAIN);
    check(&lease(NOW.writer, 6).state(State::Isolated), AGAIN);
    check(&recorded(State::Isolating, &["sg-a"]), AGAIN);
}

#[test]
fn what_is_recorded_is_isolated_beside_whoever_has_the_lease() {
    let lease = || Lease { writer: "another".to_owned(), until: Time(NOW.time.0 + 10), only: BTreeSet::new() };
    let leased = |state| recorded(state, &["sg-a"]).saved_with(|record| record.lease = Some(lease())).rival(10);
    let check = |world: &World, steps: &str| {
        check(world, &format!("{steps}\n? another invocation may still be at work"));
    };
    let swap = "i-1: isolate eni-1 [sg-a] -> [sg-150]";
    check(&leased(State::Isolating), swap);
    // What the record does not say yet is written down before.
    check(&leased(State::Isolated), AGAIN);
    let other_group = |record: &mut Record| record.isolation_group = "sg-01d".parse().unwrap();
    check(&leased(State::Isolating).saved_with(other_group), AGAIN);
    let other_owner = |record: &mut Record| record.owner.logical_id = "Old".to_owned();
    let taken_over = format!("i-1: record (taken over from Old)\n{swap}");
    check(&leased(State::Isolating).saved_with(other_owner), &taken_over);
    let unknown = |record: &mut Record| record.interfaces.clear();
    let added = format!("i-1: record eni-1 [sg-a] (added)\n{swap}");
    check(&leased(State::Isolating).saved_with(unknown), &added);
}

#[test]
fn a_leased_record_says_in_which_group_an_interface_may_be() {
    let world = || recorded(State::Isolating, &["sg-a"]).leased();
    let plan = plan_for(&world().saved_with(|record| record.isolation_group = "sg-01d".parse().unwrap()), &bare());
    assert!(plan.to_string().starts_with(AGAIN), "{plan}");
    // Also if there is nothing else to do.
    let written = world().shows("eni-1", &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
    let written = written.saved_with(|record| record.isolation_group = "sg-01d".parse().unwrap());
    check(&written, "i-1: record as isolating\ni-1: mark isolated");
}

#[test]
fn an_interface_that_left_isolation_is_recorded_as_no_longer_cut() {
    let passed = |shown: &[&str]| {
        recorded(State::Isolating, shown)
            .leased()
            .saved_with(|record| _ = record.passed.insert("eni-1".parse().unwrap()))
    };
    check(&passed(&["sg-a"]), AGAIN);
    let plan = plan_for(&passed(&["sg-a"]), &bare());
    let Originals { reopened, prior, interfaces, .. } = record_of(&plan);
    assert_eq!((ids(reopened).as_str(), prior, interfaces.len()), ("eni-1", &Prior::Ours, 0));
    // Connections were opened through a group beside ours as well.
    let beside = "i-1: record as isolating\ni-1: isolate eni-1 [sg-150, sg-a] -> [sg-150]";
    check(&passed(&["sg-150", "sg-a"]), beside);
    check(&passed(&["sg-150"]), CONFIRM);
    // Another one that passed is not concerned.
    let other = passed(&["sg-a"]).saved_with(|record| record.passed = ["eni-2".parse().unwrap()].into());
    check(&other, "i-1: isolate eni-1 [sg-a] -> [sg-150]");
}

#[test]
fn a_record_of_an_earlier_try_that_differs_is_kept_and_named() {
    let differs = "! i-1: eni-1 was in [sg-b] when it was isolated, but its record of an earlier try says [sg-a], which a \
                   restore gives it: correct the record if that is outdated";
    let world = |state| recorded(state, &["sg-b"]);
    let again = "i-1: record as isolating\ni-1: isolate eni-1 [sg-b] -> [sg-150]";
    check(&world(State::Isolating), &format!("{again}\n{differs}"));
    // It was seen isolated since, or changed by this invocation, or shows no groups of its own.
    for state in [State::Isolated, State::Kept, State::Restoring] {
        check(&world(state), again);
    }
    check(&world(State::Isolating).wrote("eni-1", &["sg-150"], Ok(())), again);
    check(&recorded(State::Isolating, &["sg-a"]), AGAIN);
    check(&recorded(State::Isolating, &[]), "i-1: record as isolating\ni-1: isolate eni-1 [] -> [sg-150]");
    let inside = "i-1: record as isolating\ni-1: isolate eni-1 [sg-150, sg-b] -> [sg-150]";
    check(&recorded(State::Isolating, &["sg-150", "sg-b"]), inside);
    // It is said once only, and not forgotten.
    assert_eq!(plan_for(&world(State::Isolating), &bare()).remember.len(), 1);
}

#[test]
fn an_interface_attached_later_is_added_to_the_record() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]);
    let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    check(
        &world,
        "i-1: record eni-2 [sg-b] (added)\ni-1: isolate eni-2 [sg-b] -> [sg-150]\n? eni-1 shows what it should",
    );
    check_standing(&world, &bare(), "eni-1", "eni-2");
    // In our group, of which it was put beside its own: also while the record is leased.
    let world = world.shows("eni-2", &["sg-150", "sg-b"]).state(State::Isolating).leased();
    let world = world.wrote("eni-1", &["sg-150"], Ok(()));
    check(&world, "i-1: record eni-2 [sg-b] (added)\ni-1: isolate eni-2 [sg-150, sg-b] -> [sg-150]");
}

#[test]
fn what_is_in_our_group_and_in_no_record_is_not_written() {
    let world = |state| {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-150"])]);
        world.record("i-1", state, &[("eni-1", &["sg-a"])]).leased().wrote("eni-1", &["sg-150"], Ok(()))
    };
    let unknown =
        "! i-1: eni-2 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand";
    check(&world(State::Isolating), &format!("i-1: mark isolated\n{unknown}"));
    check(&world(State::Isolated), unknown);
    check(&world(State::Kept), unknown);
}

#[test]
fn an_interface_without_groups_is_recorded_as_having_none() {
    let world = World::new().instance("i-1", &[("eni-1", &[])]);
    check(&world, "i-1: record eni-1 []\ni-1: isolate eni-1 [] -> [sg-150]");
}

#[test]
fn our_groups_are_never_recorded_as_originals() {
    let beside = World::new().instance("i-1", &[("eni-1", &["sg-150", "sg-a"])]);
    check(&beside, "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-150, sg-a] -> [sg-150]");
    let unknown = |group: &str| {
        format!(
            "! i-1: eni-1 is in {group} without a record of its original groups: it is isolated; give it its groups by hand"
        )
    };
    let within = World::new().instance("i-1", &[("eni-1", &["sg-150"])]);
    let doubt = "? no record is shown";
    check(&within, doubt);
    check_later(&within, &bare(), &format!("{}\n{doubt}", unknown("sg-150")));
    check_standing(&within, &bare(), "eni-1", "");
    // Nothing is recorded, nothing is touched, whatever else is wanted.
    let wants = Wants { snapshot_volumes: true, protect: true, ..cutting() };
    check_later(&within.transit_group("sg-7a5"), &wants, &format!("{}\n{doubt}", unknown("sg-150")));
    // It goes out of a group of ours that does not isolate, though nothing is known of it.
    let through = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-7a5"])]);
    let text = plan_for(&through.seen_before(&Goal::Isolate(&cutting())), &cutting()).to_string();
    assert!(text.contains("i-1: isolate eni-1 [sg-7a5] -> [sg-150]") && text.contains(&unknown("sg-7a5")), "{text}");
}

#[test]
fn a_restored_record_is_history_and_a_new_isolation_starts_afresh() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]).record(
        "i-1",
        State::Restored,
        &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])],
    );
    // What shows our group still, or again, is recorded with what it had.
    check(
        &world,
        "i-1: record eni-1 [sg-a] eni-2 [sg-b]\n\
         i-1: confirm eni-1 [sg-150] -> [sg-150]\n\
         i-1: isolate eni-2 [sg-b] -> [sg-150]",
    );
    assert_eq!(record_of(&plan_for(&world, &bare())).prior, Prior::None);
    // What another stack restored says nothing.
    let foreign = world.saved_with(|record| record.owner.stack_id = "stack-2".to_owned());
    let text = plan_for(&foreign.seen_before(&Goal::Isolate(&bare())), &bare()).to_string();
    assert!(text.contains("! i-1: eni-1 is in sg-150 without a record"), "{text}");
    // Nor what is held, which is no question.
    let held = recorded(State::Isolated, &["sg-150"]).saved_with(|record| record.interfaces.clear());
    assert!(plan_for(&held, &bare()).to_string().contains("! i-1: eni-1 is in sg-150 without a record"));
}

#[test]
fn another_logical_id_of_the_same_stack_takes_the_record_over() {
    let world =
        |state, shown: &[&str]| recorded(state, shown).saved_with(|record| record.owner.logical_id = "Old".to_owned());
    check(&world(State::Isolated, &["sg-150"]), "i-1: record (taken over from Old)");
    check_standing(&world(State::Isolated, &["sg-150"]), &bare(), "eni-1", "");
    check(
        &world(State::Isolated, &["sg-a"]),
        "i-1: record (taken over from Old)\ni-1: isolate eni-1 [sg-a] -> [sg-150]",
    );
    check(&world(State::Kept, &["sg-150"]), &format!("i-1: record (taken over from Old)\n{CONFIRM}"));
    let plan = plan_for(&world(State::Isolated, &["sg-150"]), &bare());
    let Originals { prior: Prior::Of(owner), .. } = record_of(&plan) else { panic!("{plan}") };
    assert_eq!(owner.logical_id, "Old");
    // What was restored is nobody's.
    let restored = world(State::Restored, &["sg-a"]);
    check(&restored, "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]");
}

#[test]
fn an_item_that_cannot_be_read_does_not_keep_an_instance_open() {
    let unreadable = |world: World| world.with(|world| world.unreadable = Some("no State".to_owned()));
    let named = "! item i-1 of the records table cannot be read: no State; mend it in the DynamoDB console";
    check(
        &unreadable(open()),
        &format!(
            "i-1: record eni-1 [sg-a] (in place of an item that cannot be read)\ni-1: isolate eni-1 [sg-a] -> [sg-150]\n{named}"
        ),
    );
    // With nothing to write down it is left.
    let inside = unreadable(World::new().instance("i-1", &[("eni-1", &["sg-150"])]));
    check_later(
        &inside,
        &bare(),
        &format!(
            "! i-1: eni-1 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand\n\
             {named}\n? no record is shown"
        ),
    );
    assert_eq!(plan_for(&inside, &bare()).remember.len(), 1);
}

#[test]
fn a_record_is_written_with_what_another_record_of_the_stack_says() {
    let other = |state, ids: &[&str]| open().shows("eni-1", &["sg-b"]).record("i-2", state, &[("eni-1", ids)]);
    let swap = "i-1: isolate eni-1 [sg-b] -> [sg-150]";
    check(&other(State::Isolated, &["sg-a"]), &format!("i-1: record eni-1 [sg-a]\n{swap}"));
    check(&other(State::Restored, &["sg-a"]), &format!("i-1: record eni-1 [sg-b]\n{swap}"));
    let foreign = other(State::Isolated, &["sg-a"]).saved_with(|record| record.owner.stack_id = "stack-2".to_owned());
    check(&foreign, &format!("i-1: record eni-1 [sg-b]\n{swap}"));
    let another = open().record("i-2", State::Isolated, &[("eni-2", &["sg-c"])]);
    check(&another, "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]");
    // In our group already: it is not unknown.
    check(
        &other(State::Isolated, &["sg-a"]).shows("eni-1", &["sg-150"]),
        &format!("i-1: record eni-1 [sg-a]\n{CONFIRM}"),
    );
}

#[test]
fn two_records_that_differ_are_named() {
    let both = |state, ids: &[&str]| {
        let world = recorded(State::Isolated, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
        world.record("i-2", state, &[("eni-1", ids)])
    };
    check(
        &both(State::Isolated, &["sg-b"]),
        "! eni-1 is in two records with different groups: [sg-a] in that of i-1, which a restore gives it, [sg-b] in that of i-2",
    );
    check(&both(State::Isolated, &["sg-a"]), "");
    check(&both(State::Restored, &["sg-b"]), "");
}

#[test]
fn needs_before_the_first_change_are_few() {
    let wants = wants(&["i-1"]);
    let needs = |world: &World, wants: &Wants, reach| world.needs(&Goal::Isolate(wants), reach);
    let interfaces = |needs: &Needs| ids(&needs.interfaces);
    for reach in [Reach::First, Reach::Light, Reach::Full] {
        assert_eq!(needs(&open(), &wants, reach), Needs::default());
        assert_eq!(needs(&recorded(State::Restored, &["sg-150"]), &wants, reach), Needs::default());
    }
    let world = || recorded(State::Isolated, &["sg-150"]);
    assert_eq!(needs(&world(), &wants, Reach::First), Needs::default());
    let light = needs(&world(), &wants, Reach::Light);
    assert_eq!((interfaces(&light).as_str(), light.episode.clone()), ("", None));
    // Protections are read after the snapshots were asked for.
    assert_eq!([light.inspects, light.attributes, light.members, light.profiles], [false; 4]);
    assert_eq!((light.groups.len(), light.marked.len(), light.trunks.len()), (0, 0, 0));
    let full = |world: &World, wants: &Wants| {
        let full = needs(world, wants, Reach::Full);
        assert_eq!(interfaces(&full), "eni-1");
        [full.inspects, full.attributes, full.members, full.profiles]
    };
    let asked = || world().saved_with(|record| record.snapshots.requested = true);
    let taken = world().saved_with(|record| {
        _ = record.snapshots.taken.insert("vol-1".parse().unwrap(), "snap-1".parse().unwrap());
    });
    assert_eq!(full(&world(), &wants), [false; 4]);
    assert_eq!(full(&asked(), &wants), [true, true, true, false]);
    assert_eq!(full(&taken, &wants), [true, true, true, false]);
    assert_eq!(full(&world().change_instance(|instance| instance.volumes.clear()), &wants), [true, true, true, false]);
    assert_eq!(full(&world(), &Wants { snapshot_volumes: false, ..wants.clone() }), [true, true, true, false]);
    let light = needs(&asked(), &wants, Reach::Light);
    assert_eq!([light.inspects, light.attributes, light.members, light.profiles], [false; 4]);
    // A recorded one that is not attached is looked up in any case.
    let left = world().saved_with(|record| _ = record.interfaces.insert("eni-2".parse().unwrap(), groups(&["sg-a"])));
    assert_eq!(interfaces(&needs(&left, &wants, Reach::First)), "eni-2");
    assert_eq!(interfaces(&needs(&left, &wants, Reach::Light)), "eni-2");
    assert_eq!(interfaces(&needs(&left, &wants, Reach::Full)), "eni-1, eni-2");
    // The options decide.
    assert_eq!(
        full(&asked(), &Wants { protect: false, detach_profile: true, ..wants.clone() }),
        [true, false, false, true]
    );
    // Snapshots are looked up if there may be some, and they are wanted.
    let episode = |wants: &Wants, world: &World| needs(world, wants, Reach::Light).episode;
    assert_eq!(episode(&wants, &asked()), Some(asked().saved().episode()));
    assert_eq!(episode(&bare(), &asked()), None);
    assert!(episode(&wants, &taken).is_some());
    let trunk = world().change_interface("eni-1", |interface| interface.is_trunk = true);
    assert_eq!(ids(&needs(&trunk, &wants, Reach::Light).trunks), "eni-1");
    assert_eq!(ids(&needs(&trunk, &wants, Reach::First).trunks), "");
    // What is not isolated yet, is another's, or is gone needs none of it.
    let nothing = |world: &World| {
        let needs = needs(world, &wants, Reach::Full);
        assert_eq!([needs.inspects, needs.attributes, needs.members], [false; 3]);
        assert_eq!((needs.episode, needs.trunks.len()), (None, 0));
    };
    nothing(&asked().shows("eni-1", &["sg-a"]));
    nothing(&asked().shows("eni-1", &["sg-150", "sg-a"]));
    nothing(&asked().saved_with(|record| record.owner.logical_id = "Old".to_owned()));
    // But for the snapshots that outlive it.
    let gone = asked().change_instance(|instance| instance.state = "terminated".to_owned());
    let of_gone = |wants: &Wants| needs(&gone, wants, Reach::Full);
    assert_eq!((of_gone(&wants).attributes, of_gone(&wants).episode), (false, Some(asked().saved().episode())));
    assert_eq!(of_gone(&bare()).episode, None);
    // One isolated interface is enough.
    let part = World::new().instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-150"])]);
    let part = part.record("i-1", State::Isolating, &[("eni-1", &["sg-a"])]);
    assert!(needs(&part.saved_with(|record| record.snapshots.requested = true), &wants, Reach::Full).attributes);
}
