//! Snapshots that nobody deletes for a while, not even the account's administrator by mistake.

use ec2_isolation::model::{Lock, SnapshotId};
use ec2_isolation::ports::Fault;
use serde_json::{Value, json};

use super::{HEADLINE, SWAP, assert_after, id, rerun};
use crate::world::World;
use crate::{A, B, event, fails, fleet, succeeds, with};

const LOCK: &str = "ec2:LockSnapshot";
const READ_LOCKS: &str = "ec2:DescribeLockedSnapshots";

fn locking(mut event: Value) -> Value {
    event["ResourceProperties"]["LockSnapshotDays"] = json!("30");
    event
}

/// How every snapshot of the world is locked.
fn locks(world: &World) -> Vec<String> {
    let data = world.data();
    data.snapshots
        .iter()
        .map(|snapshot| data.locks.get(&snapshot.id).map(Lock::to_string).unwrap_or_default())
        .collect()
}

fn snapshot_of(world: &World, instance: &str) -> SnapshotId {
    world.data().records[&id(instance)].snapshots.taken.values().next().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn every_snapshot_is_locked_after_the_isolation_and_stays_locked_after_the_restore() {
    let world = fleet();
    let answer = succeeds(&world, locking(event("create"))).await;
    assert_eq!(answer.reason, format!("{HEADLINE} (locked for 30 days after completion)"));
    assert_eq!(answer.data.snapshot_count, "2, locked for 30 days after completion");
    assert_after(&world, LOCK, SWAP);
    assert_eq!((world.count(LOCK), locks(&world)), (2, vec!["governance for 30 days after completion".to_owned(); 2]));
    // Once they are complete EC2 says until when, and the lock that ends first is the one that counts.
    let until = |time: &str| Some(time.parse().unwrap());
    let (a, b) = (snapshot_of(&world, A), snapshot_of(&world, B));
    world.data().locks.get_mut(&a).unwrap().until = until("2025-12-25T03:01:00Z");
    world.data().locks.get_mut(&b).unwrap().until = until("2025-12-25T03:07:00Z");
    let answer = succeeds(&world, locking(rerun())).await;
    assert_eq!(answer.data.snapshot_count, "2, locked until 2025-12-25T03:01:00Z");
    assert_eq!(world.count(LOCK), 2);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.data().locks.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_locked_and_no_lock_is_read_if_that_was_not_asked_for() {
    let world = fleet();
    let answer = succeeds(&world, event("create")).await;
    assert_eq!((answer.reason.as_str(), answer.data.snapshot_count.as_str()), (HEADLINE, "2"));
    assert_eq!((world.count(LOCK), world.count(READ_LOCKS)), (0, 0));
    let world = fleet();
    let mut bare = locking(event("create"));
    bare["ResourceProperties"]["SnapshotVolumes"] = json!("false");
    succeeds(&world, bare).await;
    assert_eq!((world.count(LOCK), world.count(READ_LOCKS)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_later_locks_what_was_taken_before() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let answer = succeeds(&world, locking(rerun())).await;
    assert_eq!(answer.data.snapshot_count, "2, locked for 30 days after completion");
    // A longer lock takes the place of a shorter one, never the other way round.
    let mut longer = locking(rerun());
    longer["ResourceProperties"]["LockSnapshotDays"] = json!("90");
    succeeds(&world, longer).await;
    assert_eq!(locks(&world), vec!["governance for 90 days after completion"; 2]);
    let answer = succeeds(&world, locking(rerun())).await;
    assert_eq!((world.count(LOCK), answer.data.snapshot_count.as_str()), (4, "2, locked for 30 days after completion"));
    assert_eq!(locks(&world), vec!["governance for 90 days after completion"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_named_and_leaves_the_isolation_standing() {
    for (action, said) in [(LOCK, "LockSnapshot failed: Denied"), (READ_LOCKS, "cannot be read: ")] {
        let world = fleet();
        world.data().always = Some((action, Fault::Denied));
        let reason = fails(&world, locking(event("create"))).await;
        assert!(reason.starts_with(&format!("{HEADLINE} (not locked)")) && reason.contains(said), "{reason}");
        assert_eq!(world.data().records[&id(A)].state, ec2_isolation::model::State::Isolated);
        world.data().always = None;
        let answer = succeeds(&world, locking(rerun())).await;
        assert_eq!(answer.data.snapshot_count, "2, locked for 30 days after completion");
        succeeds(&world, event("delete")).await;
    }
}

/// Whoever terminated it may want its snapshots gone as well.
#[tokio::test(start_paused = true)]
async fn the_snapshots_of_an_instance_terminated_since_are_locked_and_said_to_be() {
    for was_locked in [true, false] {
        let world = fleet();
        let create = if was_locked { locking(event("create")) } else { event("create") };
        succeeds(&world, create).await;
        world.data().terminate(A);
        let mut partial = locking(rerun());
        partial["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
        let answer = succeeds(&world, partial).await;
        let count = (answer.data.snapshot_count.as_str(), world.count(LOCK));
        assert_eq!(count, ("2, locked for 30 days after completion", 2), "{was_locked}: {}", answer.reason);
        assert_eq!(locks(&world), vec!["governance for 30 days after completion"; 2], "{was_locked}");
        assert!(!answer.reason.contains("not locked"), "{was_locked}: {}", answer.reason);
    }
}

/// As that of a snapshot on an Outpost: nobody can lock it.
#[tokio::test(start_paused = true)]
async fn what_ec2_refuses_for_good_is_a_note() {
    let world = fleet();
    world.data().always = Some((LOCK, Fault::Refused));
    let answer = succeeds(&world, locking(event("create"))).await;
    assert_eq!(answer.data.snapshot_count, "2, not locked");
    let named = format!("{A}: lock {} for 30 days: {LOCK} failed: Refused", snapshot_of(&world, A));
    assert!(answer.reason.contains(&named), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn what_is_locked_of_several_is_counted() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let compliance = Lock { mode: "compliance".to_owned(), days: Some(7), until: None };
    let a = snapshot_of(&world, A);
    world.data().locks.insert(a, compliance);
    let answer = succeeds(&world, locking(rerun())).await;
    assert_eq!(answer.data.snapshot_count, "2, 1 of 2 locked for 30 days after completion");
}

#[tokio::test(start_paused = true)]
async fn days_out_of_bounds_are_refused_before_anything_is_done() {
    let world = fleet();
    for days in ["-1", "36501", "a week"] {
        let reason = fails(&world, with("create", "LockSnapshotDays", json!(days))).await;
        assert!(
            reason.contains("LockSnapshotDays") && reason.contains("a whole number of days from 0 to 36500"),
            "{reason}"
        );
    }
    assert_eq!(world.count(SWAP), 0);
}
