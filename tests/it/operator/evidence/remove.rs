//! The volumes are taken away again, and nothing else is.

use ec2_isolation::model::Fault;
use ec2_isolation::operator::{Removal, Removed};

use super::*;

pub(super) async fn removal(world: &World, host: Option<&str>) -> Removal {
    let program = operator(world);
    let incident = program.incident(&by_table()).await.unwrap();
    program.removal(incident, &ALL, host.map(|id| id.parse().unwrap()).as_ref()).await.unwrap()
}

async fn remove(world: &World) -> Removed {
    let removal = removal(world, Some(HOST)).await;
    operator(world).take_away(&removal, &|_| ()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_made_is_detached_deleted_read_back_and_recorded_and_the_snapshots_stay() {
    let world = isolated().await;
    attach(&world).await;
    let (volumes, snapshots) = (made(&world), world.data().snapshots.len());
    let removed = remove(&world).await;
    assert_eq!(removed.removed, volumes.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(!removed.failed && removed.left.is_empty(), "{removed}");
    assert_eq!((made(&world), world.data().snapshots.len()), (vec![], snapshots));
    let line = history(&world, A).pop().unwrap();
    let expected = format!(" evidence volumes removed: {} of {} (asked by ", volumes[0], snapshot_of(&world, A));
    assert!(line.contains(&expected), "{line}");
    assert!(removal(&world, Some(HOST)).await.is_empty());
    assert!(!attach(&world).await.failed, "and made again");
}

/// A name in a tag is no reason to delete a volume, and neither is a snapshot in one.
#[tokio::test(start_paused = true)]
async fn a_volume_of_another_snapshot_is_not_touched_whatever_its_tags_say_and_one_without_our_tags_neither() {
    let world = isolated().await;
    attach(&world).await;
    let volumes = made(&world);
    {
        let mut data = world.data();
        let forged = data.disks.volumes.get_mut(&volumes[0]).unwrap();
        forged.snapshot = Some("snap-0bad".parse().unwrap());
        data.disks.volumes.get_mut(&volumes[1]).unwrap().tags.remove("ec2-isolation:role");
    }
    let removal = removal(&world, Some(HOST)).await;
    assert!(removal.is_empty(), "{removal}");
    let removed = operator(&world).take_away(&removal, &|_| ()).await.unwrap();
    let b = snapshot_of(&world, B);
    assert_eq!(removed.others, [format!("{} of {b}: its tags do not say that this program made it", volumes[1])]);
    assert!(!removed.failed);
    assert_eq!(made(&world), volumes);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_attached_to_another_instance_is_left_there_and_named() {
    let world = isolated().await;
    attach(&world).await;
    // No host is known: whatever has the volume is another instance.
    let removal = removal(&world, None).await;
    assert!(removal.is_empty());
    assert!(
        removal.to_string().contains(&format!("it is attached to {HOST}, which is not the forensic host")),
        "{removal}"
    );
    let removed = operator(&world).take_away(&removal, &|_| ()).await.unwrap();
    assert!(removed.failed && removed.left.len() == 2, "{removed}");
    assert_eq!(made(&world).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_mounted_is_waited_for() {
    let world = isolated().await;
    attach(&world).await;
    let mounted = made(&world)[0].clone();
    world.data().disks.mounted.insert(mounted.clone());
    let removal = removal(&world, Some(HOST)).await;
    let shown = std::sync::Mutex::new(vec![]);
    let unmounting = async {
        tokio::time::sleep(std::time::Duration::from_secs(120)).await;
        world.data().disks.mounted.clear();
        std::future::pending::<()>().await
    };
    let program = operator(&world);
    let on_progress =
        |progress: &ec2_isolation::operator::Progress| shown.lock().unwrap().push(progress.status.clone());
    let removed = tokio::select! {
        removed = program.take_away(&removal, &on_progress) => removed.unwrap(),
        () = unmounting => unreachable!(),
    };
    assert!(!removed.failed && made(&world).is_empty());
    let waits =
        shown.into_inner().unwrap().iter().filter(|status| *status == "1 detaching, unmounted on the host?").count();
    assert!(waits > 10, "{waits}");
}

#[tokio::test(start_paused = true)]
async fn what_ec2_refuses_to_delete_is_left_and_named() {
    let world = isolated().await;
    attach(&world).await;
    let stays = made(&world)[0].clone();
    world.data().always_on = Some(("ec2:DeleteVolume", stays.to_string(), Fault::Denied));
    let removed = remove(&world).await;
    assert!(
        removed.failed && removed.left[0].starts_with(&format!("{stays} is still there: ec2:DeleteVolume failed")),
        "{removed}"
    );
    assert_eq!(made(&world), [stays]);
    assert_eq!(removed.removed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_once_is_made_again() {
    for action in ["ec2:DetachVolume", "ec2:DeleteVolume"] {
        let world = isolated().await;
        attach(&world).await;
        world.data().troubles_of.insert(action, (0, crate::world::Trouble::Fails(Fault::Throttled)));
        let removed = remove(&world).await;
        assert!(!removed.failed && made(&world).is_empty(), "{action}: {removed}");
    }
}

/// Killed after any call, and begun anew: nothing is left.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_at_any_call_is_gone_on_with() {
    for after in [false, true] {
        for call in 1.. {
            let world = isolated().await;
            attach(&world).await;
            if !dies(&world, call, after, async |process| remove(process).await).await {
                assert!(call > 10, "{call}");
                break;
            }
            let removed = remove(&world).await;
            assert!(!removed.failed && made(&world).is_empty(), "call {call}: {removed}");
        }
    }
}
