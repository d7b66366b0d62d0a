//! What is in the snapshots, written down.

use ec2_isolation::model::Fault;
use ec2_isolation::operator::{Format, Manifest};

use super::*;
use crate::world::disks::{Pending, image};

async fn manifest_of(world: &World, only: &BTreeSet<InstanceId>) -> Manifest {
    let program = operator(world);
    let incident = program.incident(&by_table()).await.unwrap();
    program.manifest(&incident, only, world, "manifest.json", &|_| ()).await.unwrap()
}

async fn manifest(world: &World) -> Manifest {
    manifest_of(world, &ALL).await
}

/// Of no size: to hash a gibibyte takes a test without optimisation half a minute.
async fn empty() -> World {
    let world = isolated().await;
    world.data().disks.gib = Some(0);
    world
}

/// How an image is read is tested in `digest.rs`: this is that of the whole volume.
#[tokio::test(start_paused = true)]
async fn the_digest_is_that_of_the_whole_image_and_in_the_record() {
    let world = isolated().await;
    let snapshot = snapshot_of(&world, A);
    world.data().disks.gib = Some(1);
    world.data().disks.written.insert(snapshot.clone(), [(0, 1), (7, 3), (2047, 5)].into());
    let found = manifest_of(&world, &named(&[A])).await;
    assert!(found.is_complete, "{}", found.summary());
    let held = &found.snapshots[0];
    let digest = held.digest.as_ref().unwrap();
    assert_eq!((held.snapshot.as_str(), &digest.value), (snapshot.as_str(), &image(&world, &snapshot)));
    assert_eq!((digest.bytes, digest.block_size, digest.blocks), (1 << 30, 1 << 19, 3));
    assert_eq!((held.lock.as_deref(), held.gib, held.device.as_str()), (Some("none"), 1, "/dev/sda1"));
    let line = history(&world, A).pop().unwrap();
    let expected = format!(" snapshot hashed: SHA-256 {} of {snapshot}, 1073741824 bytes (asked by arn:", digest.value);
    assert!(line.contains(&expected), "{line}");
    assert_eq!((found.made_by.as_str(), found.account.as_str()), ("arn:aws:iam::123456789012:user/x", "123456789012"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_said_and_the_others_are_hashed() {
    let world = empty().await;
    world.data().always_on = Some(("ebs:ListSnapshotBlocks", snapshot_of(&world, A).to_string(), Fault::Denied));
    let found = manifest(&world).await;
    assert!(!found.is_complete && found.snapshots[0].digest.is_none());
    assert!(
        found.snapshots[0]
            .why
            .as_ref()
            .unwrap()
            .starts_with("its blocks cannot be read: ebs:ListSnapshotBlocks failed")
    );
    assert!(found.snapshots[1].digest.is_some());
    assert!(found.summary().starts_with("NOT COMPLETE: 1 of 2 snapshots hashed.\n"), "{}", found.summary());
}

#[tokio::test(start_paused = true)]
async fn a_pending_snapshot_is_waited_for_and_one_that_fails_is_named() {
    let world = empty().await;
    let (a, b) = (snapshot_of(&world, A), snapshot_of(&world, B));
    world.data().disks.pending.insert(a, Pending { looks: Some(5), fails: None });
    world.data().disks.pending.insert(b, Pending { looks: Some(5), fails: Some("no".to_owned()) });
    let found = manifest(&world).await;
    assert!(found.snapshots[0].digest.is_some());
    assert_eq!((found.snapshots[0].state.as_str(), found.snapshots[1].digest.as_ref()), ("completed", None));
    assert!(
        found.snapshots[1].why.as_ref().unwrap().ends_with("EC2 could not finish the snapshot: no"),
        "{:?}",
        found.snapshots[1]
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_changed_is_refused_and_so_is_one_of_another_incident() {
    let world = empty().await;
    let found = manifest(&world).await;
    let text = found.sealed();
    let (read, digest) = Manifest::read(&text, "m.json").unwrap();
    assert_eq!(read, found);
    assert!(text.ends_with(&format!("  \"sha256\": \"{digest}\"\n}}\n")));
    let changed = text.replacen("\"gib\": 0", "\"gib\": 9", 1);
    assert_ne!(changed, text);
    assert_eq!(
        Manifest::read(&changed, "m.json").unwrap_err().to_string(),
        "nothing was changed: m.json is no manifest as it was written: its SHA-256 is not that of its lines"
    );
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let other = Manifest { stacks: ["arn:other".to_owned()].into(), ..found.clone() };
    let refused = program.report(&incident, &world, Some((other, digest.clone()))).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "nothing was changed: the manifest is of incident incident-2026-11-25 in account 123456789012, region us-east-1"
    );

    let report = program.report(&incident, &world, Some((read, digest.clone()))).await.unwrap();
    let value = found.snapshots[0].digest.as_ref().unwrap().value.clone();
    assert_eq!(report.snapshots[0].sha256.as_ref(), Some(&value));
    for format in [Format::Markdown, Format::Html, Format::Json] {
        let text = report.render(format, "report");
        assert!(text.contains(&value) && text.contains(&digest), "{format:?}");
    }
}
