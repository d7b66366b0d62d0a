//! Which snapshots are asked for, taken, saved, labelled and counted.

use super::*;
use crate::model::{Lock, State, Volume};
use crate::plan::testing::{World, wants};
use crate::plan::{Goal, Plan, Reach};

/// One isolated instance with tags on; only snapshots are left.
fn world() -> World {
    World::new()
        .instance("i-1", &[("eni-1", &["sg-150"])])
        .record("i-1", State::Isolated, &[("eni-1", &["sg-a"])])
        .wrote("eni-1", &["sg-150"], Ok(()))
}

fn second_volume(world: World) -> World {
    let volume = Volume { device: "/dev/sdb".to_owned(), delete_on_termination: false };
    world.change_instance(|instance| _ = instance.volumes.insert("vol-2".parse().unwrap(), volume))
}

fn taken(world: World, set: &[(&str, &str)]) -> World {
    world.saved_with(|record| {
        record.snapshots.taken =
            set.iter().map(|(volume, id)| (volume.parse().unwrap(), id.parse().unwrap())).collect();
    })
}

fn requested(world: World) -> World {
    world.saved_with(|record| record.snapshots.requested = true)
}

/// EC2 shows a snapshot of this episode, changed so.
fn shown(world: World, id: &str, volume: &str, change: impl FnOnce(&mut Snapshot)) -> World {
    world.with(|world| {
        let (id, volume) = (id.parse().unwrap(), volume.parse().unwrap());
        let episode = world.saved().episode();
        let mut snapshot = Snapshot { id, volume, episode, failed: false, labelled: true };
        change(&mut snapshot);
        world.observed.snapshots.push(snapshot);
    })
}

fn plan_for(world: &World) -> Plan {
    world.plan(&Goal::Isolate(&Wants { protect: false, ..wants(&["i-1"]) }))
}

#[track_caller]
fn check(world: &World, expected: &str) {
    let text = plan_for(world).to_string();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("tag i-1 ") && !line.starts_with("tag eni-1 ")).collect();
    assert_eq!(lines.join("\n"), expected);
}

/// Five, or fifteen, seconds later, with the same to see.
fn later(world: &World, seconds: u64) -> World {
    let plan = plan_for(world);
    world.clone().with(|world| {
        let before = crate::plan::testing::NOW.elapsed - std::time::Duration::from_secs(seconds);
        world.ledger.note_doubts(&plan, before);
    })
}

#[track_caller]
fn check_counted(world: &World, expected: &[&str]) {
    let counted: Vec<String> = plan_for(world).standing.snapshots.iter().map(ToString::to_string).collect();
    assert_eq!(counted, expected);
}

fn take_of(plan: &Plan) -> (Vec<&str>, Vec<&str>, &Tags) {
    let take = plan.steps().find_map(|step| match step {
        Step::TakeSnapshots { volumes, without, tags, .. } => Some((
            volumes.keys().map(VolumeId::as_str).collect(),
            without.keys().map(VolumeId::as_str).collect(),
            &**tags,
        )),
        _ => None,
    });
    take.expect("snapshots")
}

#[test]
fn a_set_is_asked_for_in_the_record_before_it_is_taken() {
    check(&world(), "i-1: mark snapshots requested\ni-1: snapshot vol-1");
    let plan = plan_for(&world());
    let work = plan.work.last().unwrap();
    assert!(matches!(work.first, Some(Step::RequestSnapshots { .. })) && work.then.len() == 1);
    let (volumes, without, tags) = take_of(&plan);
    assert_eq!((volumes, without), (vec!["vol-1"], vec![]));
    let episode = world().saved().episode();
    for (key, value) in [
        ("ec2-isolation:stack", "stack-1"),
        ("ec2-isolation:owner", "Isolation"),
        ("ec2-isolation:instance", "i-1"),
        ("ec2-isolation:purpose", "forensics"),
        ("Purpose", "forensics"),
        ("ec2-isolation:time", "2025-11-25T03:00:00Z"),
        ("ec2-isolation:episode", &episode),
        ("ec2-isolation:volume", "vol-1"),
        ("ec2-isolation:device", "/dev/sda1"),
    ] {
        assert_eq!(tags[key], value, "{key}");
    }
    // Of several each gets its own later.
    let plan = plan_for(&second_volume(world()));
    let (volumes, without, tags) = take_of(&plan);
    assert_eq!((volumes, without, tags.len()), (vec!["vol-1", "vol-2"], vec![], 7));
}

#[test]
fn what_is_taken_and_shown_needs_nothing_and_counts() {
    let done = shown(taken(world(), &[("vol-1", "snap-1")]), "snap-1", "vol-1", |_| {});
    check(&done, "");
    check_counted(&done, &["snap-1"]);
}

#[test]
fn a_volume_attached_later_gets_a_set_of_its_own() {
    let first = || second_volume(shown(taken(world(), &[("vol-1", "snap-1")]), "snap-1", "vol-1", |_| {}));
    check(&first(), "i-1: mark snapshots requested\ni-1: snapshot vol-2");
    let plan = plan_for(&first());
    let (volumes, without, tags) = take_of(&plan);
    assert_eq!((volumes, without, tags["ec2-isolation:volume"].as_str()), (vec!["vol-2"], vec!["vol-1"], "vol-2"));
    check_counted(&first(), &["snap-1"]);
    // The second request is another step than the first.
    let Some(Step::RequestSnapshots { taken, .. }) = &plan.work.last().unwrap().first else { panic!("{plan}") };
    assert_eq!(taken.len(), 1);
    let asked = shown(requested(first()), "snap-2", "vol-2", |_| {});
    check(&asked, "i-1: save snapshots snap-1, snap-2");
}

#[test]
fn a_set_that_an_earlier_try_took_is_saved_not_taken_again() {
    let asked = || requested(world());
    check(&shown(asked(), "snap-1", "vol-1", |_| {}), "i-1: save snapshots snap-1");
    // A whole one only, with what else there is.
    let both = || requested(second_volume(world()));
    let part = shown(both(), "snap-1", "vol-1", |_| {});
    check(&part.clone().with(|world| world.ledger.asked_for_snapshots = true), "i-1: snapshot vol-1, vol-2");
    check(&shown(part.clone(), "snap-2", "vol-2", |_| {}), "i-1: save snapshots snap-1, snap-2");
    // One of the volumes has been detached since.
    check(
        &shown(shown(part, "snap-2", "vol-2", |_| {}), "snap-3", "vol-3", |_| {}),
        "i-1: save snapshots snap-1, snap-2, snap-3",
    );
    // What was not looked up may be there.
    check(&asked().with(|world| (world.observed.has_snapshots, world.ledger.asked_for_snapshots) = (false, true)), "");
}

#[test]
fn what_is_in_error_or_of_another_episode_does_not_count() {
    let asked = || requested(world()).with(|world| world.ledger.asked_for_snapshots = true);
    check(&shown(asked(), "snap-1", "vol-1", |snapshot| snapshot.failed = true), "i-1: snapshot vol-1");
    check(
        &shown(asked(), "snap-1", "vol-1", |snapshot| snapshot.episode = "another".to_owned()),
        "i-1: snapshot vol-1",
    );
    check(&asked(), "i-1: snapshot vol-1");
}

#[test]
fn snapshots_that_another_delivery_asked_for_are_awaited() {
    let awaited = "! i-1: its snapshots were asked for, and are not to be seen yet";
    let doubt = "? snapshots of another delivery are not shown yet";
    let asked = requested(world());
    check(&asked, &format!("{awaited}\n{doubt}"));
    check(&later(&asked, 14), &format!("{awaited}\n{doubt}"));
    check(&later(&asked, 15), &format!("i-1: snapshot vol-1\n{doubt}"));
}

#[test]
fn a_recorded_snapshot_that_failed_or_is_gone_is_named_and_not_counted() {
    let set = || taken(world(), &[("vol-1", "snap-1")]);
    let lost = |reason: &str| format!("! i-1: snapshot snap-1 of vol-1 {reason}, and is not counted: take another one");
    let failed = shown(set(), "snap-1", "vol-1", |snapshot| (snapshot.failed, snapshot.labelled) = (true, false));
    check(&failed, &lost("failed"));
    check_counted(&failed, &[]);
    let other = || shown(set(), "snap-2", "vol-1", |_| {});
    check(&other(), "? snap-1 is not shown");
    check_counted(&other(), &[]);
    check(&later(&other(), 5), &format!("{}\n? snap-1 is not shown", lost("does not exist any more")));
    check_counted(&later(&other(), 5), &[]);
    let unread = set().with(|world| world.observed.has_snapshots = false);
    check_counted(&unread, &[]);
    // Its tag may be gone: it is looked up by its id before anything is said of it.
    let unsought = other().with(|world| world.observed.sought.clear());
    check(&unsought, "");
    let lost = |world: &World| world.needs(&Goal::Isolate(&wants(&["i-1"])), Reach::Full).snapshots;
    assert_eq!(lost(&other()), ["snap-1".parse().unwrap()].into());
    assert_eq!(lost(&shown(set(), "snap-1", "vol-1", |_| {})), [].into());
    assert_eq!(lost(&unread), [].into());
    let untagged = shown(set(), "snap-1", "vol-1", |snapshot| {
        (snapshot.episode, snapshot.labelled) = (String::new(), false);
    });
    check(&untagged, "");
    check_counted(&untagged, &["snap-1"]);
}

#[test]
fn each_snapshot_of_a_set_gets_tags_of_its_own_until_it_is_seen_with_them() {
    let set =
        || shown(taken(second_volume(world()), &[("vol-1", "snap-1"), ("vol-2", "snap-2")]), "snap-1", "vol-1", |_| {});
    let unlabelled = shown(set(), "snap-2", "vol-2", |snapshot| snapshot.labelled = false);
    check(&unlabelled, "tag snap-2 with ec2-isolation:device, ec2-isolation:volume");
    check_counted(&unlabelled, &["snap-1", "snap-2"]);
    let tags = |world: &World| {
        let plan = plan_for(world);
        let tags = plan.steps().find_map(|step| match step {
            Step::Tag { resource, tags, .. } if resource == "snap-2" => {
                Some(tags.values().cloned().collect::<Vec<_>>())
            }
            _ => None,
        });
        tags.unwrap()
    };
    assert_eq!(tags(&unlabelled), ["/dev/sdb", "vol-2"]);
    // A volume that is detached by now has no device.
    let detached = unlabelled.change_instance(|instance| _ = instance.volumes.remove(&"vol-2".parse().unwrap()));
    assert_eq!(tags(&detached), ["", "vol-2"]);
    check(&shown(set(), "snap-2", "vol-2", |_| {}), "");
}

#[test]
fn an_instance_without_volumes_is_noted_unless_it_had_some() {
    let bare = |world: World| world.change_instance(|instance| instance.volumes.clear());
    check(&bare(world()), "! i-1 has no EBS volume to snapshot");
    check(&bare(requested(world())), "! i-1 has no EBS volume to snapshot");
    check(&bare(shown(taken(world(), &[("vol-1", "snap-1")]), "snap-1", "vol-1", |_| {})), "");
}

#[test]
fn snapshots_are_looked_up_if_there_may_be_some() {
    let needed = |world: World| are_needed(world.records.values().next().unwrap());
    assert!(!needed(world()) && needed(requested(world())) && needed(taken(world(), &[("vol-1", "snap-1")])));
}

/// EC2 shows `snap-1` of `vol-1`, and how it is locked; nothing of its lock was read if that is `None`.
fn locked(lock: Option<Option<(&str, Option<u64>)>>) -> World {
    shown(taken(world(), &[("vol-1", "snap-1")]), "snap-1", "vol-1", |_| {}).with(|world| {
        let lock = lock.map(|lock| lock.map(|(mode, days)| Lock { mode: mode.to_owned(), days, until: None }));
        world.observed.locks.extend(lock.map(|lock| ("snap-1".parse().unwrap(), lock)));
    })
}

#[track_caller]
fn check_lock(world: &World, expected: &str, counted: &[&str]) {
    let plan = world.plan(&Goal::Isolate(&Wants { protect: false, lock_days: 30, ..wants(&["i-1"]) }));
    let locks: Vec<String> =
        plan.steps().filter(|step| matches!(step, Step::LockSnapshot { .. })).map(ToString::to_string).collect();
    assert_eq!(locks.join("\n"), expected);
    assert_eq!(plan.standing.locked.keys().map(ToString::to_string).collect::<Vec<_>>(), counted);
}

#[test]
fn a_snapshot_is_locked_until_it_is_seen_locked_for_as_long_as_is_wanted() {
    let lock = "i-1: lock snap-1 for 30 days";
    check_lock(&locked(Some(None)), lock, &[]);
    check_lock(&locked(Some(Some(("governance", Some(29))))), lock, &[]);
    check_lock(&locked(Some(Some(("governance", Some(30))))), "", &["snap-1"]);
    check_lock(&locked(Some(Some(("compliance", Some(365))))), "", &["snap-1"]);
    // It was given an end instead.
    check_lock(&locked(Some(Some(("governance", None)))), "", &["snap-1"]);
    // What was not read is not known to be unlocked.
    check_lock(&locked(None), "", &[]);
}

#[test]
fn a_snapshot_that_failed_or_is_not_shown_is_not_locked() {
    let failed = locked(Some(None)).with(|world| world.observed.snapshots[0].failed = true);
    check_lock(&failed, "", &[]);
    check_lock(&locked(Some(None)).with(|world| world.observed.snapshots.clear()), "", &[]);
}

#[test]
fn locks_are_looked_up_if_some_are_wanted() {
    let needed = |lock_days, snapshot_volumes| {
        let wants = Wants { lock_days, snapshot_volumes, ..wants(&["i-1"]) };
        locked(None).needs(&Goal::Isolate(&wants), crate::plan::Reach::Light).locks.len()
    };
    assert_eq!([needed(30, true), needed(0, true), needed(30, false)], [1, 0, 0]);
}

/// It was terminated before they were told apart, or locked.
#[test]
fn the_snapshots_of_a_terminated_instance_are_labelled_and_locked() {
    let world = World::new().terminated("i-1").record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    let world = taken(world, &[("vol-1", "snap-1")]);
    let world = shown(world, "snap-1", "vol-1", |snapshot| snapshot.labelled = false);
    let locking = Wants { lock_days: 30, ..wants(&["i-1"]) };
    let goal = Goal::Isolate(&locking);
    assert_eq!(world.needs(&goal, crate::plan::Reach::Full).locks, ["snap-1".parse().unwrap()].into());
    let read = |lock: Option<Lock>| {
        world.clone().with(|world| _ = world.observed.locks.insert("snap-1".parse().unwrap(), lock)).plan(&goal)
    };
    let said = |plan: &Plan| plan.steps().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let open = read(None);
    assert!(said(&open).contains("i-1: lock snap-1 for 30 days"), "{open}");
    assert!(open.steps().any(|step| matches!(step, Step::Tag { resource, .. } if resource == "snap-1")), "{open}");
    let locked = read(Some(Lock { mode: "governance".to_owned(), days: Some(30), until: None }));
    assert!(!said(&locked).contains("lock snap-1"), "{locked}");
    assert_eq!(locked.standing.locked.len(), 1);
    // Those of another stack are that one's.
    let theirs = world.saved_with(|record| record.owner.stack_id = "stack-2".to_owned());
    assert!(theirs.needs(&goal, crate::plan::Reach::Full).locks.is_empty());
    assert!(theirs.plan(&goal).is_empty());
}

#[test]
fn what_was_taken_of_a_terminated_instance_and_is_not_recorded_yet_is_saved() {
    let gone = || {
        let world = World::new().terminated("i-1").record("i-1", State::Isolating, &[("eni-1", &["sg-a"])]);
        shown(taken(world, &[("vol-1", "snap-1")]), "snap-1", "vol-1", |_| {})
    };
    let both = || shown(gone(), "snap-2", "vol-2", |_| {});
    let terminated = "! i-1 is terminated: take it off CompromisedInstanceList";
    check(&requested(both()), &format!("i-1: save snapshots snap-1, snap-2\n{terminated}"));
    // Nothing is new, nothing was asked for, or it was for another resource.
    check(&requested(gone()), &format!("{terminated}\n? snapshots of another delivery are not shown yet"));
    check(&both(), terminated);
    let other = both().saved_with(|record| record.owner.logical_id = "Old".to_owned());
    check(&other, terminated);
    check(&requested(other), &format!("{terminated}\n? snapshots of another delivery are not shown yet"));
}
