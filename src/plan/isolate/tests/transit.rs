//! Once through the transit group, and never left there.

use super::*;
use crate::model::Fault;
use crate::plan::Passage;
use crate::plan::testing::{NOW, failure, groups};

const PASS: &str = "i-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]";
const OUT: &str = "i-1: isolate eni-1 [sg-7a5] -> [sg-150]";
const DIRECT: &str = "i-1: isolate eni-1 [sg-a] -> [sg-150]";
const RECORD: &str = "i-1: record as isolating";
const IN_TRANSIT: &str = "! i-1: eni-1 may be in sg-7a5, which is open to everybody: run aws ec2 \
                          modify-network-interface-attribute --network-interface-id eni-1 --groups sg-150";

#[test]
fn connections_are_cut_on_the_way() {
    let world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])]);
    check_cut(
        &world,
        "i-1: record eni-1 [sg-a] eni-2 [sg-b]\n\
         i-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]\n\
         i-1: isolate eni-2 by way of sg-7a5 for 5 s -> [sg-150]",
    );
    let plan = plan_for(&world, &cutting());
    assert!(plan.work[0].passes());
    assert_eq!(record_of(&plan).transit_group, Some("sg-7a5".parse().unwrap()));
    let Some(Step::Pass { originals, from, through, .. }) = plan.steps().nth(2) else { unreachable!() };
    assert_eq!((originals, from, through.as_str()), (&groups(&["sg-b"]), &groups(&["sg-b"]), "sg-7a5"));
}

#[test]
fn the_originals_of_a_passage_are_those_of_the_record() {
    let plan = plan_for(&cut(State::Isolating, &["sg-b"]), &cutting());
    let Some(Step::Pass { originals, from, .. }) = plan.steps().next() else { panic!("{plan}") };
    assert_eq!((originals, from), (&groups(&["sg-a"]), &groups(&["sg-b"])));
}

#[test]
fn a_stopped_instance_has_no_connections() {
    for (state, swap) in [("stopped", DIRECT), ("stopping", PASS), ("pending", PASS)] {
        let world = open().transit_group("sg-7a5").change_instance(|instance| instance.state = state.to_owned());
        check_cut(&world, &format!("i-1: record eni-1 [sg-a]\n{swap}"));
    }
    let stopped = cut(State::Isolating, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
    let stopped = stopped.change_instance(|instance| instance.state = "stopped".to_owned());
    check_cut(&stopped, "i-1: mark isolated");
    assert_eq!(mark(&plan_for(&stopped, &cutting())), (true, "eni-1".to_owned()));
}

#[test]
fn the_record_says_first_where_an_interface_can_be_found() {
    let unlisted = recorded(State::Isolating, &["sg-a"]).transit_group("sg-7a5").leased();
    check_cut(&unlisted, &format!("{RECORD}\n{PASS}"));
    check_cut(&cut(State::Isolating, &["sg-a"]), PASS);
    // Who goes directly needs no such entry.
    check(&unlisted, DIRECT);
    check_cut(&unlisted.change_instance(|instance| instance.state = "stopped".to_owned()), DIRECT);
}

#[test]
fn who_was_written_once_goes_directly() {
    let written = |shown: &str, result| cut(State::Isolating, &[shown]).wrote("eni-1", &["sg-150"], result);
    check_cut(&written("sg-a", Ok(())), DIRECT);
    check_cut(&written("sg-a", Err(Fault::Server)), DIRECT);
    check_cut(&written("sg-7a5", Ok(())), &format!("{OUT}\n{IN_TRANSIT}"));
    for passage in [Passage::Done, Passage::Postponed, Passage::Refused("why".to_owned())] {
        check_cut(&passed(cut(State::Isolating, &["sg-a"]), passage.clone(), true), DIRECT);
        check_cut(&passed(cut(State::Isolating, &["sg-7a5"]), passage, false), &format!("{OUT}\n{IN_TRANSIT}"));
    }
}

#[test]
fn an_interface_in_the_transit_group_that_no_passage_of_ours_holds_goes_straight_out_and_is_named() {
    let dead = || cut(State::Isolating, &["sg-7a5"]).saved_with(|record| record.lease = None);
    for wants in [cutting(), bare()] {
        check_for(&dead(), &wants, &format!("{RECORD}\n{OUT}\n{IN_TRANSIT}"));
        check_standing(&dead(), &wants, "", "eni-1");
        let beside = dead().shows("eni-1", &["sg-150", "sg-7a5"]);
        check_for(&beside, &wants, &format!("{RECORD}\ni-1: isolate eni-1 [sg-150, sg-7a5] -> [sg-150]\n{IN_TRANSIT}"));
    }
    // Its rules are not known: it may be open.
    let unread = dead().without_group("sg-7a5");
    check(&unread, &format!("{RECORD}\n{OUT}\n{IN_TRANSIT}"));
    // Also while its state says something else.
    for state in [State::Isolated, State::Kept, State::Restoring] {
        check_cut(&cut(state, &["sg-7a5"]), &format!("{RECORD}\n{OUT}\n{IN_TRANSIT}"));
    }
    // A group of ours that lets nothing through is no danger.
    let closed = dead().change_group("sg-7a5", |group| (group.ingress, group.egress) = (vec![], vec![]));
    check(&closed, &format!("{RECORD}\n{OUT}"));
    let plan = plan_for(&dead(), &bare());
    assert_eq!(ids(&record_of(&plan).reopened), "");
}

#[test]
fn a_group_that_replaces_ours_takes_its_interfaces_over_directly() {
    let replaced = |world: World| {
        let world = world.shows("eni-1", &["sg-01d"]);
        world.saved_with(|record| {
            record.isolation_group = "sg-01d".parse().unwrap();
            record.isolation_groups = groups(&["sg-01d"]);
        })
    };
    let moved = "i-1: record as isolating\ni-1: isolate eni-1 [sg-01d] -> [sg-150]";
    let closed = || replaced(recorded(State::Isolated, &[])).transit_group("sg-7a5").plain_group("sg-01d");
    check(&closed(), moved);
    check_cut(&closed(), moved);
    // With something beside it, or with nothing at all, it may have connections.
    let pass = format!("{RECORD}\n{PASS}");
    check_cut(&closed().shows("eni-1", &["sg-01d", "sg-c"]), &pass);
    check_cut(&closed().shows("eni-1", &[]), &pass);
}

/// What the mark says of the connections.
fn mark(plan: &Plan) -> (bool, String) {
    let cut = plan.steps().find_map(|step| match step {
        Step::Mark { cut: Some(cut), .. } => Some((cut.whole, ids(&cut.interfaces))),
        _ => None,
    });
    cut.expect("a mark")
}

#[test]
fn what_an_earlier_request_isolated_without_cutting_is_cut_once() {
    let world = cut(State::Isolated, &["sg-150"]);
    let doubt = "? eni-1 shows what it should";
    check_cut(&world, &format!("{RECORD}\n{PASS}\n{doubt}"));
    check_later(&world, &cutting(), &format!("{RECORD}\n{PASS}\n{doubt}"));
    check_standing(&world, &cutting(), "eni-1", "");
    check(&world, doubt);
    check_cut(&world.saved_with(|record| _ = record.passed.insert("eni-1".parse().unwrap())), doubt);
    // Under a lease, and marked only after it.
    let leased = || cut(State::Isolating, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
    check_cut(&leased(), PASS);
    check_for(&leased(), &bare(), "i-1: mark isolated");
    assert_eq!(mark(&plan_for(&leased(), &bare())), (false, String::new()));
    let done = passed(leased(), Passage::Done, true);
    check_cut(&done, "i-1: mark isolated");
    assert_eq!(mark(&plan_for(&done, &cutting())), (true, "eni-1".to_owned()));
    // What is preserved does not wait for it.
    let wants = Wants { snapshot_volumes: true, ..cutting() };
    check_for(&leased(), &wants, &format!("{PASS}\ni-1: mark snapshots requested\ni-1: snapshot vol-1"));
}

#[test]
fn what_the_record_of_another_stack_says_of_a_passage_is_not_believed() {
    let passed = |stack: &str| {
        let world = cut(State::Isolating, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
        let world = world.record("i-2", State::Isolated, &[("eni-1", &["sg-a"])]);
        world.with(|world| {
            let record = world.records.values_mut().next_back().map(std::sync::Arc::make_mut).unwrap();
            record.owner.stack_id = stack.to_owned();
            record.passed.insert("eni-1".parse().unwrap());
        })
    };
    check_cut(&passed("stack-1"), "i-1: mark isolated");
    check_cut(&passed("stack-2"), PASS);
    // Nor what was before a restore.
    let restored = passed("stack-1").with(|world| {
        let record = world.records.values_mut().next_back().map(std::sync::Arc::make_mut).unwrap();
        record.state = State::Restored;
    });
    check_cut(&restored, PASS);
}

/// It was attached to another instance then.
#[test]
fn an_interface_that_this_invocation_took_through_does_not_pass_again() {
    let passed = |shown: &[&str]| {
        cut(State::Isolating, shown).with(|world| world.passages.done = ["eni-1".parse().unwrap()].into())
    };
    check_cut(&passed(&["sg-a"]), DIRECT);
    check_cut(&passed(&["sg-150"]).wrote("eni-1", &["sg-150"], Ok(())), "i-1: mark isolated");
}

/// It was isolated directly then: connections were opened, and nobody passes twice.
#[test]
fn what_was_opened_after_its_passage_is_not_cut_and_does_not_pass_again() {
    let undone = |world: World| {
        world.with(|world| {
            let eni: InterfaceId = "eni-1".parse().unwrap();
            (world.passages.done, world.passages.undone) = ([eni.clone()].into(), [eni].into());
        })
    };
    let inside = || passed(cut(State::Isolating, &["sg-150"]), Passage::Done, true);
    let named = "! i-1: eni-1 was opened during or after its passage, and is isolated again: what connected meanwhile may live on; \
                 deploy again with a new Rerun";
    check_cut(&undone(inside()), &format!("i-1: mark isolated\n{named}"));
    assert_eq!(mark(&plan_for(&undone(inside()), &cutting())), (false, String::new()));
    // Wherever it is attached by now.
    let moved = cut(State::Isolating, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
    check_cut(&undone(moved), &format!("i-1: mark isolated\n{named}"));
    // Opened once more.
    let exposed = undone(inside().shows("eni-1", &["sg-a"]));
    check_cut(&exposed, DIRECT);
    assert_eq!(ids(&plan_for(&exposed, &cutting()).standing.exposed), "eni-1");
    // The transit group opens nothing that stays.
    assert_eq!(ids(&plan_for(&inside().shows("eni-1", &["sg-7a5"]), &cutting()).standing.exposed), "");
    // It is off now.
    let stopped = undone(inside()).change_instance(|instance| instance.state = "stopped".to_owned());
    assert_eq!(mark(&plan_for(&stopped, &cutting())), (true, "eni-1".to_owned()));
}

/// A failed deployment that is corrected must not open again what is cut off.
#[test]
fn what_is_cut_and_kept_is_confirmed_without_passing_again() {
    let world = cut(State::Kept, &["sg-150"]).saved_with(|record| _ = record.passed.insert("eni-1".parse().unwrap()));
    check_cut(&world, &format!("{RECORD}\ni-1: confirm eni-1 [sg-150] -> [sg-150]"));
}

#[test]
fn who_could_not_pass_is_isolated_and_named_and_who_was_postponed_has_its_turn() {
    let world = || cut(State::Isolating, &["sg-150"]);
    let refused = passed(world(), Passage::Refused("the reason".to_owned()), true);
    check_cut(
        &refused,
        "i-1: mark isolated\n! i-1: eni-1 is isolated, but connections that were open may live on: the reason",
    );
    assert_eq!(mark(&plan_for(&refused, &cutting())), (false, String::new()));
    check_cut(&passed(world(), Passage::Postponed, true), PASS);
    check_cut(&passed(world(), Passage::Done, true), "i-1: mark isolated");
}

#[test]
fn of_two_interfaces_of_which_one_is_cut_the_mark_names_that_one() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-150"])]);
    let world = world.record("i-1", State::Isolating, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]).leased();
    let world = world.wrote("eni-1", &["sg-150"], Ok(())).wrote("eni-2", &["sg-150"], Ok(()));
    let world = world.saved_with(|record| _ = record.passed.insert("eni-2".parse().unwrap()));
    check(&world, "i-1: mark isolated");
    assert_eq!(mark(&plan_for(&world, &bare())), (false, "eni-2".to_owned()));
}

#[test]
fn while_a_passage_of_ours_holds_an_interface_it_is_waited_for() {
    let passing = |shown: &[&str]| {
        let mut world = cut(State::Isolating, shown);
        let step = plan_for(&cut(State::Isolating, &["sg-a"]), &cutting()).steps().next().unwrap().clone();
        world.ledger.begin(&step);
        world
    };
    check_cut(&passing(&["sg-7a5"]), "");
    check_standing(&passing(&["sg-7a5"]), &cutting(), "eni-1", "");
    check_cut(&passing(&["sg-150"]), "");
    check_standing(&passing(&["sg-150"]), &cutting(), "eni-1", "");
    check_cut(&passing(&["sg-a"]), "");
    check_standing(&passing(&["sg-a"]), &cutting(), "", "eni-1");
    check_standing(&passing(&["sg-a", "sg-7a5"]), &cutting(), "", "eni-1");
    // The rest of its work is done meanwhile, but for the mark.
    let wants = Wants { snapshot_volumes: true, ..cutting() };
    check_for(&passing(&["sg-7a5"]), &wants, "i-1: mark snapshots requested\ni-1: snapshot vol-1");
}

/// It was isolated when its passage was planned, and waits for its seat.
#[test]
fn what_was_moved_out_while_its_passage_from_inside_waits_goes_straight_back() {
    let waiting = |shown: &[&str]| {
        let mut world = cut(State::Isolating, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
        let step = plan_for(&world, &cutting()).steps().next().unwrap().clone();
        assert!(matches!(step, Step::Pass { .. }) && !step.isolates(), "{step}");
        world.ledger.begin(&step);
        world.shows("eni-1", shown)
    };
    let held = |shown: &[&str]| waiting(shown).with(|world| _ = world.passages.held.insert("eni-1".parse().unwrap()));
    for world in [waiting(&["sg-150"]), held(&["sg-150"]), held(&["sg-7a5"])] {
        check_cut(&world, "");
        check_standing(&world, &cutting(), "eni-1", "");
    }
    let beside = "i-1: isolate eni-1 [sg-150, sg-a] -> [sg-150]";
    for (shown, swap) in [(["sg-a"].as_slice(), DIRECT), (&["sg-150", "sg-a"], beside)] {
        check_cut(&waiting(shown), swap);
        check_cut(&held(shown), swap);
        check_standing(&waiting(shown), &cutting(), "", "eni-1");
    }
    // Nobody who waits is in there.
    check_cut(&waiting(&["sg-7a5"]), &format!("{OUT}\n{IN_TRANSIT}"));
    // An earlier request had isolated it.
    let earlier = || cut(State::Isolated, &["sg-150"]);
    let mut world = earlier();
    world
        .ledger
        .begin(plan_for(&earlier(), &cutting()).steps().find(|step| matches!(step, Step::Pass { .. })).unwrap());
    check_cut(&world.shows("eni-1", &["sg-a"]), &format!("{RECORD}\n{DIRECT}"));
}

#[test]
fn under_a_lease_of_another_invocation_nobody_passes() {
    let doubt = "? another invocation may still be at work";
    check_cut(&cut(State::Isolating, &["sg-a"]).rival(10), &format!("{DIRECT}\n{doubt}"));
    // Nor from inside; the rival marks what it has done.
    let inside = || cut(State::Isolating, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(()));
    check_cut(&inside().rival(10), doubt);
    check(&inside().rival(10), doubt);
    check_cut(&inside().rival(0), PASS);
    check(&inside().rival(0), "i-1: mark isolated");
}

#[test]
fn at_most_twenty_of_those_that_are_isolated_pass_at_once() {
    let cards: Vec<String> = (0x10..0x25).map(|n| format!("eni-{n:x}")).collect();
    let cards: Vec<(&str, &[&str])> = cards.iter().map(|id| (id.as_str(), ["sg-150"].as_slice())).collect();
    let originals: Vec<(&str, &[&str])> = cards.iter().map(|(id, _)| (*id, ["sg-a"].as_slice())).collect();
    let world =
        World::new().transit_group("sg-7a5").instance("i-1", &cards).record("i-1", State::Isolating, &originals);
    let mut world = world.leased().saved_with(|record| _ = record.isolation_groups.insert("sg-7a5".parse().unwrap()));
    for (id, _) in &cards {
        world = world.wrote(id, &["sg-150"], Ok(()));
    }
    let waves = |world: &World| {
        let passes = |work: &Work| work.then.iter().filter(|step| matches!(step, Step::Pass { .. })).count();
        plan_for(world, &cutting()).work.iter().map(passes).filter(|count| *count > 0).collect::<Vec<_>>()
    };
    assert_eq!(waves(&world), [20, 1]);
    world.saved().passed.insert(cards[0].0.parse().unwrap());
    assert_eq!(waves(&world), [20]);
}

#[test]
fn an_interface_that_failed_to_leave_is_tried_again_and_named() {
    let mut world = cut(State::Isolating, &["sg-7a5"]);
    let step = plan_for(&world, &cutting()).steps().next().unwrap().clone();
    let outcome = Outcome { step, result: Err(failure(Fault::Denied)), passage: None };
    world.ledger.learn(&outcome, NOW.elapsed);
    check_cut(&world, &format!("{OUT}\n{IN_TRANSIT}"));
}
