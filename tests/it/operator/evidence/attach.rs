//! Volumes of the snapshots on the forensic host.

use std::sync::Mutex;
use std::time::Duration;

use ec2_isolation::model::{Fault, Snapshot, State};
use ec2_isolation::operator::Progress;

use super::*;
use crate::world::STACK;
use crate::world::disks::{Pending, ZONE};

#[tokio::test(start_paused = true)]
async fn each_snapshot_becomes_a_volume_on_the_host_which_is_read_back_and_recorded() {
    let world = isolated().await;
    let attached = attach(&world).await;
    assert!(!attached.failed, "{attached}");
    let (a, b) = (snapshot_of(&world, A), snapshot_of(&world, B));
    let at = |device: &str| Some((HOST.to_owned(), device.to_owned()));
    assert_eq!(places(&world), [(a.clone(), at("/dev/sdf")), (b.clone(), at("/dev/sdg"))].into());
    let first = &attached.disks[0];
    let volume = first.volume.clone().unwrap();
    assert_eq!((first.instance.as_str(), first.snapshot.as_str(), first.gib), (A, a.as_str(), 8));
    let path = format!("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}", volume.replace('-', ""));
    assert_eq!((first.device.as_deref(), first.path.as_deref()), (Some("/dev/sdf"), Some(path.as_str())));
    assert_eq!((attached.host.as_str(), attached.zone.as_str()), (HOST, ZONE));
    let line = history(&world, A).pop().unwrap();
    assert!(
        line.contains(&format!(" evidence volumes made: {volume} of {a}, for {HOST} (asked by arn:aws:iam::")),
        "{line}"
    );
    let data = world.data();
    let made = &data.disks.volumes[&volume.parse().unwrap()];
    let tag = |key: &str| made.tags[key].as_str();
    assert_eq!(
        (tag("ec2-isolation:role"), tag("ec2-isolation:stack"), tag("ec2-isolation:snapshot")),
        ("evidence", STACK, a.as_str())
    );
    assert_eq!((tag("ec2-isolation:instance"), tag("ec2-isolation:device")), (A, "/dev/sda1"));
    assert_eq!((tag("Purpose"), tag("Name")), ("forensics", format!("incident-2026-11-25 {A} /dev/sda1").as_str()));
    assert_eq!(data.disks.keys[&made.id].as_deref(), Some(crate::world::disks::KEY));
}

#[tokio::test(start_paused = true)]
async fn repeating_it_makes_and_attaches_nothing_and_says_where_everything_is() {
    let world = isolated().await;
    let first = attach(&world).await;
    let calls = world.data().calls.len();
    let again = order(&world, &ALL).await.unwrap();
    assert!(!again.is_anything_to_do(), "{again}");
    assert_eq!(operator(&world).make_volumes(&again, &|_| ()).await.unwrap(), first);
    let changed: Vec<_> =
        world.data().calls[calls..].iter().filter(|(action, _)| !super::super::reads(action)).cloned().collect();
    assert_eq!(changed, []);
}

/// Killed after any call, and begun anew: one volume for each snapshot, attached.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_at_any_call_is_gone_on_with_and_makes_nothing_twice() {
    for after in [false, true] {
        for call in 1.. {
            let world = isolated().await;
            if !dies(&world, call, after, async |process| attach(process).await).await {
                assert!(call > 11, "{call}");
                break;
            }
            let attached = attach(&world).await;
            assert!(attached.disks.iter().all(|disk| disk.why.is_none()), "call {call}: {attached}");
            assert_eq!(made(&world).len(), 2, "call {call}, after: {after}");
            for (instance, disk) in [A, B].iter().zip(&attached.disks) {
                let volume = disk.volume.clone().unwrap();
                let is_named = |line: &String| line.contains("evidence volumes ") && line.contains(&volume);
                assert!(history(&world, instance).iter().any(is_named), "call {call}: {volume} of {instance}");
            }
        }
    }
}

/// Each call fails once for a reason that passes.
#[tokio::test(start_paused = true)]
async fn a_call_that_fails_once_is_made_again() {
    for action in ["ec2:CreateVolume", "ec2:AttachVolume"] {
        for fault in [Fault::Throttled, Fault::Server, Fault::Busy] {
            let world = isolated().await;
            world.data().troubles_of.insert(action, (0, crate::world::Trouble::Fails(fault)));
            let attached = attach(&world).await;
            assert!(!attached.failed && made(&world).len() == 2, "{action} {fault:?}: {attached}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_snapshot_is_waited_for_with_its_percent_and_the_other_does_not_wait() {
    let world = isolated().await;
    let late = snapshot_of(&world, B);
    world.data().disks.pending.insert(late.clone(), Pending { looks: Some(30), fails: None });
    let shown: Mutex<Vec<Progress>> = Mutex::default();
    let order = order(&world, &ALL).await.unwrap();
    assert!(order.to_string().contains("a new volume, once the snapshot is complete (60%)"), "{order}");
    let attached =
        operator(&world).make_volumes(&order, &|progress| shown.lock().unwrap().push(progress.clone())).await.unwrap();
    assert!(!attached.failed, "{attached}");
    let shown = shown.into_inner().unwrap();
    let waiting = |progress: &&Progress| progress.status == "waits for 1 snapshot, 60% done" && progress.done == 1;
    assert!(shown.iter().filter(waiting).count() > 5, "{shown:?}");
    let last = shown.last().unwrap();
    assert_eq!((last.done, last.total, last.what), (2, 2, "volumes attached"));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_failed_or_is_missing_is_named_and_the_others_go_on() {
    let world = isolated().await;
    let failed = snapshot_of(&world, A);
    world
        .data()
        .disks
        .pending
        .insert(failed, Pending { looks: Some(2), fails: Some("the key is disabled".to_owned()) });
    let attached = attach(&world).await;
    assert!(attached.failed);
    let why = attached.disks[0].why.clone().unwrap();
    assert!(why == "EC2 could not finish the snapshot: the key is disabled", "{why}");
    assert_eq!((attached.disks[1].why.clone(), made(&world).len()), (None, 1));

    let world = isolated().await;
    let gone = snapshot_of(&world, A);
    world.data().snapshots.retain(|snapshot| snapshot.id != gone);
    let attached = attach(&world).await;
    assert!(attached.failed && attached.said[0].starts_with(&format!("{gone} of vol-")), "{attached}");
    assert!(attached.said[0].ends_with("EC2 does not show it, it may be deleted"), "{attached}");
    assert_eq!(attached.disks.len(), 1);

    // Nothing but a second look decides that it is not there.
    let world = isolated().await;
    let late = snapshot_of(&world, A);
    world.data().hidden.insert(late.to_string(), tokio::time::Instant::now() + Duration::from_secs(8));
    assert!(!attach(&world).await.failed);
}

#[tokio::test(start_paused = true)]
async fn instances_without_snapshots_are_named() {
    let world = isolated().await;
    world.data().records.get_mut(&A.parse().unwrap()).unwrap().snapshots.taken.clear();
    world.data().records.get_mut(&B.parse().unwrap()).unwrap().snapshots.requested = true;
    let attached = attach(&world).await;
    assert_eq!(attached.said, [format!("{A}: its record names no snapshot")]);
    world.data().records.get_mut(&B.parse().unwrap()).unwrap().snapshots.taken.clear();
    let attached = attach(&world).await;
    assert_eq!(attached.said[1], format!("{B}: its snapshots were asked for, and which ones is not recorded"));
    assert!(attached.failed && attached.script.is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_the_instances_that_are_named() {
    let world = isolated().await;
    let order = order(&world, &named(&[B])).await.unwrap();
    let attached = operator(&world).make_volumes(&order, &|_| ()).await.unwrap();
    assert_eq!(attached.disks.iter().map(|disk| disk.instance.as_str()).collect::<Vec<_>>(), [B]);
    let unknown = super::order(&world, &named(&["i-0bad"])).await.unwrap_err().to_string();
    assert_eq!(unknown, "nothing was changed: incident-2026-11-25 has no record of i-0bad");
}

/// Whoever may write tags may have made a volume of something else, or of the snapshot and changed it.
#[tokio::test(start_paused = true)]
async fn a_volume_is_used_again_only_if_ec2_says_what_it_was_made_of_and_one_without_a_record_is_named() {
    let world = isolated().await;
    let first = attach(&world).await;
    let volume: VolumeId = first.disks[0].volume.clone().unwrap().parse().unwrap();
    world.data().disks.volumes.get_mut(&volume).unwrap().snapshot = Some("snap-0bad".parse().unwrap());
    let second = attach(&world).await;
    assert_ne!(second.disks[0].volume, first.disks[0].volume);
    assert_eq!((made(&world).len(), second.failed), (3, false));

    let world = isolated().await;
    attach(&world).await;
    let instance = A.parse().unwrap();
    world.data().records.get_mut(&instance).unwrap().history.retain(|line| !line.contains("evidence"));
    let again = attach(&world).await;
    assert!(again.failed && again.said[0].contains("was there, and no record named it"), "{again}");
    assert_eq!(made(&world).len(), 2);
    assert!(history(&world, A).pop().unwrap().contains(" evidence volumes found: vol-"));
    assert!(!attach(&world).await.failed, "it is named once");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_somebody_attached_elsewhere_or_in_another_zone_is_left_alone() {
    let world = isolated().await;
    attach(&world).await;
    world.add_bench("i-0f0f", None);
    let first = made(&world)[0].clone();
    world.data().disks.volumes.get_mut(&first).unwrap().attachment.as_mut().unwrap().instance =
        "i-0f0f".parse().unwrap();
    let attached = attach(&world).await;
    let why = attached.disks[0].why.clone().unwrap();
    assert_eq!(
        why,
        format!("{first} is there, but attached to i-0f0f: detach it there, or name that host with --host")
    );

    let world = isolated().await;
    attach(&world).await;
    let first = made(&world)[0].clone();
    world.data().disks.volumes.get_mut(&first).unwrap().zone = "us-east-1b".to_owned();
    let attached = attach(&world).await;
    let why = attached.disks[0].why.clone().unwrap();
    assert_eq!(
        why,
        format!(
            "{first} is there, but in us-east-1b, and the forensic host in us-east-1a: take it away with --remove first"
        )
    );
    assert_eq!(made(&world).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_ec2_may_not_use_is_named_once_the_volume_is_gone() {
    let world = isolated().await;
    world.data().disks.bad_keys.insert(crate::world::disks::KEY.to_owned());
    let attached = attach(&world).await;
    let why = attached.disks[0].why.clone().unwrap();
    assert!(why.contains("was made, and EC2 took it away again: mostly its key may not be used"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_host_without_room_is_refused_before_anything_is_made_and_a_name_that_is_taken_is_passed_over() {
    let world = isolated().await;
    world.add_bench(HOST, Some(1));
    let refused = order(&world, &ALL).await.unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!(
            "nothing was changed: the forensic host {HOST} (t3.large) takes 1 volume more, and these are 2:"
        )),
        "{refused}"
    );
    assert_eq!(world.count("ec2:CreateVolume"), 0);

    // EC2 does not say how many it takes.
    world.add_bench(HOST, None);
    let order = order(&world, &ALL).await.unwrap();
    world.data().disks.benches.get_mut(&HOST.parse().unwrap()).unwrap().room = Some(0);
    let attached = operator(&world).make_volumes(&order, &|_| ()).await.unwrap();
    let why = attached.disks[0].why.clone().unwrap();
    assert!(why.contains(&format!("{HOST} takes no more volumes, so vol-")), "{why}");
    assert!(why.contains("AttachmentLimitExceeded"), "{why}");

    let world = isolated().await;
    let order = super::order(&world, &ALL).await.unwrap();
    let late = |data: &mut crate::world::Data| {
        let bench = data.disks.benches.get_mut(&HOST.parse().unwrap()).unwrap();
        bench.devices.insert("/dev/sdf".to_owned(), "vol-0f1".parse().unwrap());
    };
    world.data().before_call_of.push(("ec2:AttachVolume", 0, crate::world::Meddling(Box::new(late))));
    let attached = operator(&world).make_volumes(&order, &|_| ()).await.unwrap();
    assert!(!attached.failed, "{attached}");
    assert_eq!(attached.disks[0].device.as_deref(), Some("/dev/sdh"), "{attached}");
}

#[tokio::test(start_paused = true)]
async fn the_host_is_that_of_the_incident_or_the_one_that_is_named_and_none_of_the_compromised() {
    let world = isolated().await;
    let program = operator(&world);
    let by = async |host: Option<&str>| {
        let incident = program.incident(&by_table()).await.unwrap();
        let host = host.map(|id| id.parse().unwrap());
        program
            .volume_order(incident, &ALL, host.as_ref())
            .await
            .map(|order| order.to_string())
            .map_err(|error| error.to_string())
    };
    let none = by(None).await.unwrap_err();
    assert_eq!(
        none,
        "nothing was changed: incident-2026-11-25 has no forensic host: make one with ec2-isolation host, or name another with --host i-…"
    );
    assert_eq!(
        by(Some(A)).await.unwrap_err(),
        format!("nothing was changed: {A} is an instance of the incident, not its forensic host")
    );
    assert_eq!(by(Some("i-0bad")).await.unwrap_err(), "nothing was changed: there is no instance i-0bad");
    world.data().disks.benches.get_mut(&HOST.parse().unwrap()).unwrap().state = "terminated".to_owned();
    assert_eq!(
        by(Some(HOST)).await.unwrap_err(),
        format!("nothing was changed: the forensic host {HOST} is terminated: EC2 attaches nothing to it")
    );
    world.add_bench(HOST, None);
    world.data().views.push(crate::world::operator::host_view("incident-2026-11-25", HOST));
    assert!(by(None).await.unwrap().contains(&format!("The forensic host is {HOST} (t3.large, us-east-1a, running).")));
}

/// A record that changed hands is not written to, and that is said.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_said() {
    let world = isolated().await;
    let order = order(&world, &named(&[A])).await.unwrap();
    world.data().records.get_mut(&A.parse().unwrap()).unwrap().owner.stack_id = "arn:other".to_owned();
    let attached = operator(&world).make_volumes(&order, &|_| ()).await.unwrap();
    assert!(attached.failed && attached.disks[0].why.is_none());
    assert!(
        attached.said[0].contains("not in its record, which another stack holds by now: evidence volumes made: vol-"),
        "{attached}"
    );
    let world = isolated().await;
    let order = super::order(&world, &named(&[A])).await.unwrap();
    world.data().always = Some(("dynamodb:UpdateItem", Fault::Denied));
    let attached = operator(&world).make_volumes(&order, &|_| ()).await.unwrap();
    assert!(attached.failed && attached.said[0].contains("dynamodb:UpdateItem failed"), "{attached}");
}

/// Evidence is looked at after the incident, too.
#[tokio::test(start_paused = true)]
async fn after_the_restore_as_well() {
    let world = isolated().await;
    super::super::restore(&world).await;
    assert_eq!(world.state(A), Some(State::Restored));
    assert!(!attach(&world).await.failed);
    assert!(history(&world, A).pop().unwrap().contains(" evidence volumes made: vol-"));
}

/// Of a snapshot that only its tags say to be one of the incident, nothing is made.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_no_record_names_is_none_of_the_incident() {
    let world = isolated().await;
    let (id, volume) = ("snap-0bac".parse().unwrap(), "vol-0bac".parse().unwrap());
    let episode = world.data().snapshots[0].episode.clone();
    world.data().snapshots.push(Snapshot { id, volume, episode, failed: false, labelled: true });
    let first = world.data().snapshots[0].id.to_string();
    let tags = world.data().tags[&first].clone();
    world.data().tags.insert("snap-0bac".to_owned(), tags);
    assert_eq!(attach(&world).await.disks.len(), 2);
}
