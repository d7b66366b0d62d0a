//! What is planned for instances that stay isolated.

use super::*;
use crate::model::Fault;
use crate::plan::testing::{World, rule};
use crate::plan::{Goal, Reach};

/// One recorded instance of two interfaces, and a transit group `sg-7a5`.
fn world(state: State, shown: [&str; 2]) -> World {
    let world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &[shown[0]]), ("eni-2", &[shown[1]])]);
    let world = world.record("i-1", state, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]);
    world.saved_with(|record| _ = record.isolation_groups.insert("sg-7a5".parse().unwrap()))
}

fn goal() -> Goal<'static> {
    Goal::Keep(Some("rollback".to_owned()))
}

/// The plan without what it names and leaves alone.
#[track_caller]
fn check(world: &World, expected: &str) {
    let text = world.plan(&goal()).to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("is not isolated: it was left alone")).collect();
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn what_is_not_isolated_is_named_and_left_alone() {
    let plan = world(State::Isolated, ["sg-150", "sg-a"]).plan(&goal());
    assert_eq!(plan.to_string(), "i-1: mark kept\n! i-1: eni-2 is not isolated: it was left alone in [sg-a]\n");
    assert_eq!(plan.standing.open, ["eni-2".parse().unwrap()].into());
    assert!(world(State::Kept, ["sg-150", "sg-150"]).plan(&goal()).standing.open.is_empty());
    // Without any group nobody knows what EC2 does.
    let bare = World::new().instance("i-1", &[("eni-1", &[])]).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    let plan = bare.plan(&goal());
    assert_eq!(plan.to_string(), "i-1: mark kept\n! i-1: eni-1 is not isolated: it was left alone in []\n");
    assert_eq!(plan.standing.open, ["eni-1".parse().unwrap()].into());
}

fn written(world: World, ids: &[&str]) -> World {
    ids.iter().fold(world, |world, id| world.wrote(id, &["sg-150"], Ok(())))
}

const IN_TRANSIT: &str = "! i-1: eni-2 may be in sg-7a5, which is open to everybody: run aws ec2 \
                          modify-network-interface-attribute --network-interface-id eni-2 --groups sg-150";

#[test]
fn what_is_isolated_or_was_let_out_by_hand_is_left_alone_and_marked() {
    check(&world(State::Isolated, ["sg-150", "sg-a"]), "i-1: mark kept");
    check(&world(State::Kept, ["sg-150", "sg-a"]), "");
    // A restore that has begun must not be forgotten.
    check(&world(State::Restoring, ["sg-150", "sg-a"]), "");
    check(&world(State::Restored, ["sg-150", "sg-7a5"]), "");
    let plan = world(State::Isolated, ["sg-150", "sg-150"]).plan(&goal());
    let Some(Step::Mark { from, reason, cut, .. }) = plan.steps().next() else { unreachable!() };
    assert_eq!((*from, reason.as_deref(), cut), (State::Isolated, Some("rollback"), &None));
}

#[test]
fn without_a_reason_nothing_is_marked() {
    assert!(world(State::Isolated, ["sg-150", "sg-150"]).plan(&Goal::Keep(None)).is_empty());
    let out = world(State::Isolated, ["sg-150", "sg-7a5"]).plan(&Goal::Keep(None)).to_string();
    assert_eq!(out, format!("i-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}\n"));
}

#[test]
fn another_owner_keeps_its_own() {
    let world = || world(State::Isolated, ["sg-150", "sg-7a5"]);
    check(&world().saved_with(|record| record.owner.stack_id = "stack-2".to_owned()), "");
    check(&world().saved_with(|record| record.owner.logical_id = "Old".to_owned()), "");
    check(&World::new().instance("i-1", &[("eni-1", &["sg-7a5"])]), "? no record is shown");
}

#[test]
fn nobody_is_left_in_the_transit_group() {
    for state in [State::Isolated, State::Kept, State::Restoring] {
        let world = world(state, ["sg-150", "sg-7a5"]);
        check(&world, &format!("i-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}"));
        // Not even if this was tried.
        check(&written(world, &["eni-2"]), &format!("i-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}"));
    }
    let beside = world(State::Isolated, ["sg-150", "sg-a"]).shows("eni-2", &["sg-a", "sg-7a5"]);
    check(&beside, &format!("i-1: isolate eni-2 [sg-7a5, sg-a] -> [sg-150]\n{IN_TRANSIT}"));
}

#[test]
fn an_earlier_isolation_group_is_no_passage_unless_it_lets_something_through() {
    let earlier = |egress| {
        let world = world(State::Isolated, ["sg-150", "sg-01d"]).plain_group("sg-01d");
        let world = world.change_group("sg-01d", |group| group.egress = egress);
        world.saved_with(|record| _ = record.isolation_groups.insert("sg-01d".parse().unwrap()))
    };
    check(&earlier(vec![]), "i-1: mark kept");
    let out = "i-1: isolate eni-2 [sg-01d] -> [sg-150]";
    let text = earlier(vec![rule("-1", None, "0.0.0.0/0")]).plan(&goal()).to_string();
    assert!(text.starts_with(out), "{text}");
}

#[test]
fn where_a_passage_may_have_been_cut_short_only_what_was_written_is_believed() {
    let world = || world(State::Isolating, ["sg-150", "sg-a"]);
    let second = "i-1: isolate eni-2 [sg-a] -> [sg-150]";
    check(&world(), &format!("i-1: confirm eni-1 [sg-150] -> [sg-150]\n{second}"));
    check(&written(world(), &["eni-1", "eni-2"]), second);
    check(&written(world().shows("eni-2", &["sg-150"]), &["eni-1", "eni-2"]), "i-1: mark kept");
    // EC2 lets nobody change it: it never went in.
    let refused = |fault| written(world(), &["eni-1"]).wrote("eni-2", &["sg-150"], Err(fault));
    check(&refused(Fault::Refused), "i-1: mark kept");
    check(&refused(Fault::Denied), second);
    let inside = refused(Fault::Refused).shows("eni-2", &["sg-7a5"]);
    check(&inside, &format!("i-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}"));
    // Something else was written.
    let other = written(world(), &["eni-2"]).wrote("eni-1", &["sg-a"], Ok(()));
    check(&other, &format!("i-1: confirm eni-1 [sg-150] -> [sg-150]\n{second}"));
}

/// It was seen isolated; its transit group is not shown.
fn gone_settled() -> World {
    world(State::Isolated, ["sg-150", "sg-a"]).without_group("sg-7a5")
}

#[test]
fn without_a_transit_group_what_was_never_isolated_is_left_alone() {
    let world = world(State::Isolating, ["sg-150", "sg-a"]);
    let gone = world.clone().without_group("sg-7a5");
    let doubt = "? sg-7a5 is not shown";
    check(&gone, &format!("i-1: confirm eni-1 [sg-150] -> [sg-150]\ni-1: isolate eni-2 [sg-a] -> [sg-150]\n{doubt}"));
    check(&gone.seen_before(&goal()), &format!("i-1: mark kept\n{doubt}"));
    // Where it holds an interface it is there.
    let inside = world.clone().without_group("sg-7a5").shows("eni-2", &["sg-7a5"]).state(State::Isolated);
    check(&inside, &format!("i-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}"));
    check(&gone_settled(), "i-1: mark kept");
    check(&world.change_group("sg-7a5", |group| (group.ingress, group.egress) = (vec![], vec![])), "i-1: mark kept");
}

#[test]
fn what_is_not_shown_is_doubted() {
    let gone = world(State::Isolated, ["sg-150", "sg-150"])
        .with(|world| _ = world.observed.interfaces.remove(&"eni-2".parse().unwrap()));
    check(&gone, "i-1: mark kept\n? eni-2 is not shown");
    check(&gone.with(|world| world.observed.looked_up.clear()), "i-1: mark kept");
    check(&world(State::Isolated, ["sg-150", "sg-150"]).rival(10), "? another invocation may still be at work");
}

#[test]
fn every_recorded_interface_is_read() {
    let world = world(State::Isolated, ["sg-150", "sg-150"]);
    let needs = world.needs(&goal(), Reach::Full);
    assert_eq!((needs.interfaces.len(), needs.groups.len()), (2, 2));
    assert_eq!(Needs { interfaces: [].into(), groups: [].into(), ..needs }, Needs::default());
    assert_eq!(world.clone().state(State::Restored).needs(&goal(), Reach::Full), Needs::default());
    let single = world.saved_with(|record| _ = record.isolation_groups.remove(&"sg-7a5".parse().unwrap()));
    assert_eq!(
        (single.needs(&goal(), Reach::Full).interfaces.len(), single.needs(&goal(), Reach::Full).groups.len()),
        (2, 1)
    );
}

#[test]
fn only_what_is_shown_in_a_closed_group_of_ours_counts_as_isolated() {
    let standing = |world: &World| {
        let standing = world.plan(&goal()).standing;
        (crate::model::comma_list(&standing.isolated), crate::model::comma_list(&standing.open))
    };
    let both = || world(State::Isolated, ["sg-150", "sg-150"]);
    assert_eq!(standing(&both()), ("eni-1, eni-2".to_owned(), String::new()));
    let apart = world(State::Isolated, ["sg-150", "sg-7a5"]);
    assert_eq!(standing(&apart), ("eni-1".to_owned(), "eni-2".to_owned()));
    let opened = both().change_group("sg-150", |group| group.egress.push(rule("-1", None, "0.0.0.0/0")));
    assert_eq!(standing(&opened), (String::new(), "eni-1, eni-2".to_owned()));
    let text = opened.plan(&goal()).to_string();
    assert!(text.contains("! isolation group sg-150 allows out all protocols 0.0.0.0/0"), "{text}");
}

#[test]
fn an_interface_that_is_not_recorded_is_named() {
    let with = |shown: &[&str]| {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-3", shown)]);
        world.record("i-1", State::Kept, &[("eni-1", &["sg-a"])])
    };
    let text = |world: &World| world.plan(&goal()).to_string();
    assert_eq!(text(&with(&["sg-c"])), "! i-1: eni-3 is not isolated: it was left alone in [sg-c]\n");
    let named = "! i-1: eni-3 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand\n";
    assert_eq!(text(&with(&["sg-150"])), named);
    // What another record holds is that one's.
    let elsewhere = with(&["sg-150"]).record("i-2", State::Isolated, &[("eni-3", &["sg-a"])]);
    assert_eq!(text(&elsewhere), "");
}

#[test]
fn what_cannot_be_read_or_is_gone_is_said() {
    let world = || world(State::Kept, ["sg-150", "sg-150"]);
    let text = |world: &World| world.plan(&goal()).to_string();
    let unreadable = world().with(|world| world.unreadable = Some("no State".to_owned()));
    assert_eq!(
        text(&unreadable),
        "! item i-1 of the records table cannot be read: no State; mend it in the DynamoDB console\n"
    );
    let gone = world().terminated("i-1").with(|world| world.observed.interfaces.clear());
    let doubts = "? eni-1 is not shown\n? eni-2 is not shown\n";
    assert_eq!(text(&gone), doubts);
    let nothing = "! i-1: nothing of it is left to keep isolated: it is terminated, or its interfaces are gone\n";
    assert_eq!(text(&gone.seen_before(&goal())), format!("{nothing}{doubts}"));
}

/// Its rules are what makes it an isolation.
#[test]
fn an_isolation_group_that_is_not_shown_is_looked_for_again() {
    let inside = world(State::Kept, ["sg-150", "sg-150"]).without_group("sg-150");
    check(&inside, "? sg-150 is not shown");
    check(&world(State::Kept, ["sg-a", "sg-a"]).without_group("sg-150"), "? sg-150 is not shown");
}
