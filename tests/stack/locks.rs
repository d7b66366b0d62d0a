//! Snapshots that cannot be deleted for a while: through a deployed stack, and the rules that EC2 has for locks.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, LockMode, LockState};

use crate::Scene;
use crate::rules::code;

async fn snapshots_of(ec2: &Client, stack: &str) -> Vec<String> {
    let of_stack = Filter::builder().name("tag:ec2-isolation:stack").values(stack).build();
    let found = ec2.describe_snapshots().filters(of_stack).send().await.unwrap();
    found.snapshots().iter().map(|snapshot| snapshot.snapshot_id().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_snapshots_of_an_incident_are_locked_by_a_later_deployment_too_and_stay_so() {
    let mut scene = Scene::new("locks").await;
    let listed = scene.site.launch(&scene.ec2, &[&[0]], 2).await;
    scene.incident.list(&[&listed]).deploy();
    let stack = scene.incident.stack_id().await;
    let snapshots = snapshots_of(&scene.ec2, &stack).await;
    assert_eq!((scene.incident.outputs().await["SnapshotCount"].as_str(), snapshots.len()), ("2", 2));
    scene.incident.set("LockSnapshotDays", "30").deploy();
    let count = scene.incident.outputs().await["SnapshotCount"].clone();
    let until = count.strip_prefix("2, locked until ").unwrap_or_else(|| panic!("{count}"));
    let shown = scene.ec2.describe_locked_snapshots().set_snapshot_ids(Some(snapshots.clone())).send().await.unwrap();
    assert_eq!(shown.snapshots().len(), 2);
    for lock in shown.snapshots() {
        assert_eq!((lock.lock_state(), lock.lock_duration()), (Some(&LockState::Governance), Some(30)));
        assert!(lock.lock_expires_on().unwrap().to_string().as_str() >= until, "{lock:?}");
    }
    scene.incident.delete().await;
    for snapshot in &snapshots {
        assert_eq!(code(scene.ec2.delete_snapshot().snapshot_id(snapshot).send().await), "OperationNotPermitted");
        scene.ec2.unlock_snapshot().snapshot_id(snapshot).send().await.unwrap();
        scene.ec2.delete_snapshot().snapshot_id(snapshot).send().await.unwrap();
    }
}

#[tokio::test]
async fn locks_follow_the_rules_of_ec2() {
    let scene = Scene::new("rule-locks").await;
    let ec2 = &scene.ec2;
    let instance = scene.site.plain(ec2, &[0]).await;
    let found = ec2.describe_instances().instance_ids(&instance).send().await.unwrap();
    let volume = found.reservations()[0].instances()[0].block_device_mappings()[0].ebs().unwrap().volume_id().unwrap();
    let snapshot = ec2.create_snapshot().volume_id(volume).send().await.unwrap().snapshot_id().unwrap().to_owned();
    let lock = |mode: LockMode| ec2.lock_snapshot().snapshot_id(&snapshot).lock_mode(mode);
    assert_eq!(code(lock(LockMode::Governance).send().await), "InvalidParameterCombination");
    assert_eq!(code(lock(LockMode::Governance).lock_duration(36_501).send().await), "InvalidParameterValue");
    assert_eq!(
        code(lock(LockMode::Governance).lock_duration(1).cool_off_period(1).send().await),
        "InvalidParameterValue"
    );
    let unknown = ec2.lock_snapshot().snapshot_id("snap-0123456789abcdef0").lock_mode(LockMode::Governance);
    assert_eq!(code(unknown.lock_duration(1).send().await), "InvalidSnapshot.NotFound");
    assert_eq!(code(ec2.unlock_snapshot().snapshot_id(&snapshot).send().await), "IncorrectState");
    let none = ec2.describe_locked_snapshots().snapshot_ids(&snapshot).send().await.unwrap();
    assert!(none.snapshots().is_empty());
    lock(LockMode::Governance).lock_duration(2).send().await.unwrap();
    lock(LockMode::Governance).lock_duration(1).send().await.unwrap();
    let compliance = || lock(LockMode::Compliance);
    compliance().lock_duration(2).cool_off_period(1).send().await.unwrap();
    ec2.unlock_snapshot().snapshot_id(&snapshot).send().await.unwrap();
    compliance().lock_duration(2).send().await.unwrap();
    assert_eq!(code(compliance().lock_duration(1).send().await), "OperationNotPermitted");
    assert_eq!(code(lock(LockMode::Governance).lock_duration(9).send().await), "OperationNotPermitted");
    assert_eq!(code(ec2.unlock_snapshot().snapshot_id(&snapshot).send().await), "OperationNotPermitted");
    assert_eq!(code(ec2.delete_snapshot().snapshot_id(&snapshot).send().await), "OperationNotPermitted");
    compliance().lock_duration(3).send().await.unwrap();
    let shown = ec2.describe_locked_snapshots().snapshot_ids(&snapshot).send().await.unwrap();
    assert_eq!(
        (shown.snapshots()[0].lock_state(), shown.snapshots()[0].lock_duration()),
        (Some(&LockState::Compliance), Some(3))
    );
    let gone = ec2.describe_locked_snapshots().snapshot_ids("snap-0123456789abcdef0").send().await;
    assert_eq!(code(gone), "InvalidSnapshot.NotFound");
}
