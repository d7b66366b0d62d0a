//! What follows once every interface is isolated, or failed to be: tags, mark, snapshots, protections, branches.

use super::*;
use crate::model::{Branch, Fault};
use crate::plan::testing::groups;

/// `i-1` as it is once it was isolated, and everything asked for.
fn done(state: State) -> World {
    recorded(state, &["sg-150"])
        .wrote("eni-1", &["sg-150"], Ok(()))
        .attributes("i-1", crate::plan::testing::UNPROTECTED)
}

#[test]
fn an_isolated_instance_is_tagged_marked_snapshotted_and_protected() {
    assert_eq!(
        plan_for(&done(State::Isolating), &wants(&["i-1"])).to_string(),
        "tag eni-1 with ec2-isolation:original-groups-1\n\
         tag i-1 with ec2-isolation:purpose, ec2-isolation:restore, ec2-isolation:stack, ec2-isolation:time\n\
         i-1: mark isolated\n\
         i-1: mark snapshots requested\n\
         i-1: snapshot vol-1\n\
         i-1: save termination protection off, stop protection off, shutdown behaviour terminate, deletion of vol-1 on termination\n\
         i-1: protect: termination protection on\n\
         i-1: protect: stop protection on\n\
         i-1: protect: shutdown behaviour stop\n\
         i-1: keep vol-1 on termination\n"
    );
}

#[test]
fn what_somebody_else_restores_or_keeps_meanwhile_is_not_marked_isolated() {
    for (state, mark) in
        [(State::Isolating, "i-1: mark isolated"), (State::Isolated, ""), (State::Kept, ""), (State::Restoring, "")]
    {
        check(&done(state), mark);
    }
}

#[test]
fn an_instance_isolated_after_a_delete_that_keeps_is_marked_kept() {
    let kept = |state| done(state).with(|world| world.kept = Some("rollback".to_owned()));
    for (state, mark) in [
        (State::Isolating, "i-1: mark kept"),
        (State::Isolated, "i-1: mark kept"),
        (State::Kept, ""),
        (State::Restoring, ""),
    ] {
        check(&kept(state), mark);
    }
    let plan = plan_for(&kept(State::Isolated), &bare());
    let Some(Step::Mark { from, reason, cut, .. }) = plan.steps().find(|step| matches!(step, Step::Mark { .. })) else {
        unreachable!()
    };
    assert_eq!((*from, reason.as_deref(), cut.is_some()), (State::Isolated, Some("rollback"), true));
}

#[test]
fn a_part_that_failed_holds_nothing_back_but_the_mark() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]);
    let world = world.record("i-1", State::Isolating, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])]).leased();
    let world = world.wrote("eni-1", &["sg-150"], Ok(()));
    let wants = Wants { snapshot_volumes: true, ..bare() };
    let swap = "i-1: isolate eni-2 [sg-b] -> [sg-150]";
    check_for(&world, &wants, swap);
    assert!(!plan_for(&world, &wants).to_string().contains("tag "));
    let accepted = world.clone().wrote("eni-2", &["sg-150"], Ok(()));
    check_for(&accepted, &wants, swap);
    let failed = world.wrote("eni-2", &["sg-150"], Err(Fault::Denied));
    check_for(&failed, &wants, &format!("{swap}\ni-1: mark snapshots requested\ni-1: snapshot vol-1"));
    assert!(plan_for(&failed, &wants).to_string().contains("tag i-1 with"));
    // If none is isolated there is nothing to preserve.
    let none = failed.shows("eni-1", &["sg-a"]).wrote("eni-1", &["sg-150"], Err(Fault::Denied));
    assert!(!plan_for(&none, &wants).to_string().contains("snapshot"));
}

#[test]
fn nothing_is_preserved_before_the_record_has_changed_hands() {
    let world = done(State::Isolated).saved_with(|record| record.owner.logical_id = "Old".to_owned());
    assert_eq!(plan_for(&world, &wants(&["i-1"])).to_string(), "i-1: record (taken over from Old)\n");
}

#[test]
fn the_options_decide_what_is_done() {
    let text = |wants: &Wants| plan_for(&done(State::Isolated), wants).to_string();
    let (snapshots, protections) = ("i-1: snapshot vol-1", "i-1: protect: stop protection on");
    for (snapshot_volumes, protect) in [(true, true), (true, false), (false, true), (false, false)] {
        let text = text(&Wants { snapshot_volumes, protect, ..bare() });
        assert_eq!((text.contains(snapshots), text.contains(protections)), (snapshot_volumes, protect), "{text}");
    }
}

#[test]
fn nothing_is_protected_before_it_was_asked_what_protects_it() {
    let unread = done(State::Isolated).with(|world| world.observed.is_inspected = false);
    check_for(&unread, &wants(&["i-1"]), "i-1: mark snapshots requested\ni-1: snapshot vol-1");
}

#[test]
fn branches_of_a_trunk_are_named_and_not_touched() {
    let trunk = |groups_of_it: &[&str]| {
        let (id, trunk) = ("eni-b".parse().unwrap(), "eni-1".parse().unwrap());
        let branch = Branch { id, trunk, groups: groups(groups_of_it) };
        let world = done(State::Isolated).change_interface("eni-1", |interface| interface.is_trunk = true);
        world.with(|world| _ = world.observed.branches.insert("eni-1".parse().unwrap(), vec![branch]))
    };
    let named = "! i-1: eni-b, a branch of its trunk eni-1, is in [sg-a]: branches are not isolated for you; write its groups down, \
                 then run aws ec2 modify-network-interface-attribute --network-interface-id eni-b --groups sg-150";
    check(&trunk(&["sg-a"]), named);
    check_standing(&trunk(&["sg-a"]), &bare(), "eni-1", "eni-b");
    assert_eq!(ids(&plan_for(&trunk(&["sg-a"]), &bare()).standing.trunks), "eni-1");
    check(&trunk(&["sg-150"]), "");
    check_standing(&trunk(&["sg-150"]), &bare(), "eni-1", "");
    // It does not hold the mark back for good: who is open is not marked isolated.
    check(&trunk(&["sg-a"]).state(State::Isolating), named);
    // No trunk, no branches.
    let none = trunk(&["sg-a"]).change_interface("eni-1", |interface| interface.is_trunk = false);
    check(&none, "");
    assert!(plan_for(&none, &bare()).standing.trunks.is_empty());
}

/// An interface that cannot be isolated keeps the record from that; who has passed is written down, once.
#[test]
fn what_has_passed_is_recorded_of_an_instance_that_is_isolated_in_part() {
    let world = || {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]);
        let world = world.record("i-1", State::Isolating, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])]).leased();
        world.wrote("eni-1", &["sg-150"], Ok(())).wrote("eni-2", &["sg-150"], Err(Fault::Refused))
    };
    let swap = "i-1: isolate eni-2 [sg-b] -> [sg-150]";
    check(&world(), swap);
    let passed = world().with(|world| _ = world.passages.done.insert("eni-1".parse().unwrap()));
    let plan = plan_for(&passed, &bare());
    let marks: Vec<&Step> = plan.steps().filter(|step| matches!(step, Step::Mark { .. })).collect();
    let [Step::Mark { from, state, reason: None, cut: Some(cut), keeps_lease: true, .. }] = marks.as_slice() else {
        panic!("{plan}")
    };
    assert_eq!(
        (*from, *state, cut.whole, ids(&cut.interfaces).as_str()),
        (State::Isolating, State::Isolating, false, "eni-1")
    );
    let told = passed.saved_with(|record| _ = record.passed.insert("eni-1".parse().unwrap()));
    check(&told, swap);
    // Nothing more is done about the other one: the lease ends.
    let over = plan_for(&told.given_up(&Goal::Isolate(&bare())), &bare());
    let is_end = |step: &Step| matches!(step, Step::Mark { state: State::Isolating, keeps_lease: false, .. });
    assert!(over.steps().any(is_end), "{over}");
}

/// What the instance has, as far as that is doubted.
fn parts(world: &World) -> Option<Doubt> {
    let plan = crate::plan::plan(&world.case(&Goal::Isolate(&bare())));
    plan.doubts.into_iter().find(|doubt| matches!(doubt, Doubt::Parts(..)))
}

#[test]
fn every_plan_doubts_that_all_of_the_instance_is_shown() {
    let world = done(State::Isolated);
    let (interfaces, volumes) = (["eni-1".parse().unwrap()].into(), ["vol-1".parse().unwrap()].into());
    assert_eq!(parts(&world), Some(Doubt::Parts(interfaces, volumes, BTreeSet::new())));
    // Another volume, and it is doubted from then on.
    let less = world.clone().change_instance(|instance| instance.volumes.clear());
    assert_ne!(parts(&less), parts(&world));
    // Where only some interfaces are meant nothing is claimed of the instance.
    assert_eq!(parts(&world.with(|world| world.only = Some(BTreeSet::new()))), None);
    assert_eq!(parts(&World::new().terminated("i-1")), None);
}

#[test]
fn parts_that_change_with_every_look_are_named_unless_the_last_ones_lasted() {
    let now = done(State::Isolated);
    let less = now.clone().change_instance(|instance| instance.volumes.clear());
    let seen = |lasted: u64| {
        let looks = [(&less, 10), (&now, 20), (&less, 30), (&now, 60 - lasted)];
        now.clone().with(|world| {
            for (look, seconds) in looks {
                let plan = Plan { doubts: parts(look).into_iter().collect(), ..Plan::default() };
                world.ledger.note_doubts(&plan, std::time::Duration::from_secs(seconds));
            }
        })
    };
    let named = "! i-1: its interfaces, branches or volumes keep changing: find out who changes them (CloudTrail), then deploy \
                 again with a new Rerun";
    check(&seen(4), named);
    check(&seen(5), "");
}
