//! What is left to do after a plan was carried out on paper.

use super::*;
use crate::model::Wants;
use crate::plan::Goal;
use crate::plan::testing::{NOW, World, groups, wants};

fn after(world: &World, goal: &Goal<'_>) -> World {
    let case = world.case(goal);
    let (records, observed) = carried_out(&super::super::plan(&case), &case);
    world.clone().with(|world| (world.records, world.observed) = (records, observed))
}

fn bare() -> Wants {
    Wants { snapshot_volumes: false, protect: false, ..wants(&["i-1"]) }
}

fn cutting() -> Wants {
    Wants { cut_connections: true, transit_group: Some("sg-7a5".parse().unwrap()), ..bare() }
}

fn shown(world: &World, id: &str) -> [Groups; 2] {
    let id: InterfaceId = id.parse().unwrap();
    let attached = world.observed.instances.values().flat_map(|instance| &instance.interfaces);
    let attached = attached.filter(|found| found.id == id).map(|found| found.groups.clone()).next().unwrap();
    [attached, world.observed.interfaces[&id].groups.clone()]
}

fn saved(world: &World) -> &Record {
    &world.records[&world.id]
}

#[test]
fn what_is_isolated_on_paper_shows_it_and_is_recorded() {
    let world =
        World::new().instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-150", "sg-b"]), ("eni-3", &["sg-c"])]);
    let wants = bare();
    let done = after(&world, &Goal::Isolate(&wants));
    let Record { owner, state, vpc, isolation_group, isolation_groups, interfaces, recorded_at, lease, .. } =
        saved(&done);
    assert_eq!((owner, *state, vpc.as_str()), (&world.owner, State::Isolating, "vpc-1"));
    assert_eq!((isolation_group.as_str(), isolation_groups), ("sg-150", &groups(&["sg-150"])));
    assert_eq!((recorded_at, lease.as_ref().unwrap().writer.as_str()), (&NOW.time, NOW.writer));
    let originals: Vec<Groups> = interfaces.values().cloned().collect();
    assert_eq!(originals, [groups(&["sg-a"]), groups(&["sg-b"]), groups(&["sg-c"])]);
    for id in ["eni-1", "eni-2", "eni-3"] {
        assert_eq!(shown(&done, id), [groups(&["sg-150"]), groups(&["sg-150"])]);
    }
    // Nothing is left to do but what follows.
    let done = ["eni-1", "eni-2", "eni-3"].iter().fold(done, |world, id| world.wrote(id, &["sg-150"], Ok(())));
    let next = after(&done, &Goal::Isolate(&wants));
    assert_eq!(saved(&next).state, State::Isolated);
    let text = next.plan(&Goal::Isolate(&wants)).to_string();
    assert!(text.lines().all(|line| line.starts_with("tag ")), "{text}");
}

#[test]
fn what_passes_on_paper_has_passed() {
    let world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-a"])]);
    let done = after(&world, &Goal::Isolate(&cutting()));
    assert_eq!(shown(&done, "eni-1"), [groups(&["sg-150"]), groups(&["sg-150"])]);
    assert_eq!(saved(&done).isolation_groups, groups(&["sg-150", "sg-7a5"]));
    assert_eq!(saved(&done).passed, ["eni-1".parse().unwrap()].into());
}

#[test]
fn a_record_keeps_what_it_has_unless_it_is_history() {
    let world = |state| {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-b"]), ("eni-2", &["sg-c"])]);
        let world = world.record("i-1", state, &[("eni-1", &["sg-a"])]);
        world.saved_with(|record| {
            (record.isolation_group, record.isolation_groups) = ("sg-01d".parse().unwrap(), groups(&["sg-01d"]));
            (record.owner.logical_id, record.history) = ("Old".to_owned(), vec!["isolated".to_owned()]);
        })
    };
    let done = after(&world(State::Kept), &Goal::Isolate(&bare()));
    let record = saved(&done);
    assert_eq!(
        (record.owner.logical_id.as_str(), record.state, record.history.len()),
        ("Isolation", State::Isolating, 1)
    );
    assert_eq!((record.isolation_group.as_str(), &record.isolation_groups), ("sg-150", &groups(&["sg-01d", "sg-150"])));
    let originals: Vec<Groups> = record.interfaces.values().cloned().collect();
    assert_eq!(originals, [groups(&["sg-a"]), groups(&["sg-c"])]);
    let afresh = after(&world(State::Restored), &Goal::Isolate(&bare()));
    let record = saved(&afresh);
    assert_eq!((record.isolation_groups.clone(), record.history.len()), (groups(&["sg-150"]), 0));
    assert_eq!(record.interfaces.values().next().unwrap(), &groups(&["sg-b"]));
    // Never overwritten, even by a step that says otherwise.
    let world = world(State::Isolated);
    let goal = Goal::Restore;
    let case = world.case(&goal);
    let mut plan = Plan::default();
    plan.push(Step::Record(Originals {
        instance: "i-1".parse().unwrap(),
        vpc: "vpc-1".parse().unwrap(),
        isolation_group: "sg-150".parse().unwrap(),
        transit_group: None,
        leased_until: None,
        interfaces: [("eni-1".parse().unwrap(), groups(&["sg-b"]))].into(),
        reopened: BTreeSet::new(),
        prior: super::super::Prior::Ours,
        hold_seconds: 5,
    }));
    let (records, _) = carried_out(&plan, &case);
    assert_eq!(records[&world.id].interfaces.values().next().unwrap(), &groups(&["sg-a"]));
}

#[test]
fn a_restore_on_paper_gives_the_groups_back() {
    let world = World::isolated().plain_group("sg-a");
    let done = after(&world, &Goal::Restore);
    assert_eq!(shown(&done, "eni-1"), [groups(&["sg-a"]), groups(&["sg-a"])]);
    assert_eq!(saved(&done).state, State::Restoring);
    let next = after(&done.leased().wrote("eni-1", &["sg-a"], Ok(())), &Goal::Restore);
    assert!(next.plan(&Goal::Restore).standing.is_restored);
}

#[test]
fn an_interface_that_is_attached_to_nothing_is_changed_too() {
    let world = World::new().plain_group("sg-a").elsewhere("eni-1", &["sg-150"], None);
    let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    let done = after(&world, &Goal::Restore);
    assert_eq!(done.observed.interfaces.values().next().unwrap().groups, groups(&["sg-a"]));
}

#[test]
fn what_is_asked_for_and_saved_on_paper_is_in_the_record() {
    let wants = wants(&["i-1"]);
    let done = after(&World::isolated(), &Goal::Isolate(&wants));
    assert!(saved(&done).snapshots.requested);
    assert_eq!(
        saved(&done).protection.to_string(),
        "termination protection off, stop protection off, shutdown behaviour terminate, deletion of vol-1 on termination"
    );
    // What is recorded stays.
    let profile = |recorded: Option<&str>| {
        let world = World::with_profile(Some("arn:a"), None).attributes("i-1", crate::plan::testing::UNPROTECTED);
        let world = world.saved_with(|record| record.protection.scaling_group = recorded.map(str::to_owned));
        saved(&after(&world, &Goal::Isolate(&Wants { detach_profile: true, ..wants.clone() }))).protection.clone()
    };
    assert_eq!((profile(Some("web")).scaling_group.as_deref(), profile(None).scaling_group), (Some("web"), None));
    assert_eq!(profile(None).profile.as_deref(), Some("arn:a"));
}

#[test]
fn a_member_goes_to_standby_on_paper_and_comes_back() {
    let wants = wants(&["i-1"]);
    let state = |world: &World| world.observed.members.as_ref().unwrap()[&world.id].state.clone();
    let world = World::isolated().with(|world| world.member("InService"));
    let away = after(&world, &Goal::Isolate(&wants));
    assert_eq!((saved(&away).protection.scaling_group.as_deref(), state(&away).as_str()), (Some("web"), "Standby"));
    let back = away.plain_group("sg-a").shows("eni-1", &["sg-a"]).wrote("eni-1", &["sg-a"], Ok(()));
    assert_eq!(state(&after(&back, &Goal::Restore)), "InService");
}
