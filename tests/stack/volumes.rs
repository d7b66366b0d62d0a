//! The local AWS refuses what EC2 and EBS refuse for volumes of snapshots, for copies, and for blocks.

use aws_sdk_ec2::types::{OperationType, SnapshotAttributeName};
use serde_json::json;

use crate::rules::code;
use crate::{Scene, cloud};

/// An instance with a volume, and a snapshot of that.
struct Case {
    scene: Scene,
    instance: String,
    zone: String,
    snapshot: String,
}

async fn case(name: &str) -> Case {
    let scene = Scene::new(name).await;
    let instance = scene.site.plain(&scene.ec2, &[0]).await;
    let found = scene.ec2.describe_instances().instance_ids(&instance).send().await.unwrap();
    let zone = found.reservations()[0].instances()[0].placement().unwrap().availability_zone().unwrap().to_owned();
    let volume = scene.ec2.create_volume().size(1).availability_zone(&zone).send().await.unwrap();
    let made = scene.ec2.create_snapshot().volume_id(volume.volume_id().unwrap()).send().await.unwrap();
    Case { instance, zone, snapshot: made.snapshot_id().unwrap().to_owned(), scene }
}

impl Case {
    async fn volume(&self, zone: &str) -> String {
        let made =
            self.scene.ec2.create_volume().snapshot_id(&self.snapshot).availability_zone(zone).send().await.unwrap();
        made.volume_id().unwrap().to_owned()
    }

    async fn attach(&self, volume: &str, device: &str) -> Result<(), String> {
        let request = self.scene.ec2.attach_volume().volume_id(volume).instance_id(&self.instance).device(device);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(code::<(), _, _>(Err(error))),
        }
    }
}

#[tokio::test]
async fn a_snapshot_that_is_not_complete_becomes_neither_volume_nor_copy() {
    let case = case("rule-pending").await;
    cloud().set("snapshot", &json!({"id": case.snapshot, "state": "pending", "percent": 40})).await;
    let ec2 = &case.scene.ec2;
    let shown = ec2.describe_snapshots().snapshot_ids(&case.snapshot).send().await.unwrap();
    assert_eq!(
        (shown.snapshots()[0].state().map(|state| state.as_str()), shown.snapshots()[0].progress()),
        (Some("pending"), Some("40%"))
    );
    let volume = ec2.create_volume().snapshot_id(&case.snapshot).availability_zone(&case.zone).send().await;
    assert_eq!(code(volume), "IncorrectState");
    let copy = ec2.copy_snapshot().source_snapshot_id(&case.snapshot).source_region("us-east-1").send().await;
    assert_eq!(code(copy), "IncorrectState");
    cloud().set("snapshot", &json!({"id": case.snapshot, "state": null})).await;
    case.volume(&case.zone).await;
    let nowhere = ec2.create_volume().snapshot_id(&case.snapshot).availability_zone("us-east-1x").send().await;
    assert_eq!(code(nowhere), "InvalidZone.NotFound");
    let unknown = ec2.create_volume().snapshot_id("snap-0123456789abcdef0").availability_zone(&case.zone).send().await;
    assert_eq!(code(unknown), "InvalidSnapshot.NotFound");
}

#[tokio::test]
async fn a_volume_is_attached_once_in_its_zone_under_a_free_name_to_an_instance_that_lives() {
    let case = case("rule-attach").await;
    let (volume, second) = (case.volume(&case.zone).await, case.volume(&case.zone).await);
    let other = if case.zone == "us-east-1a" { "us-east-1b" } else { "us-east-1a" };
    let elsewhere = case.volume(other).await;
    assert_eq!(case.attach(&elsewhere, "/dev/sdf").await, Err("InvalidVolume.ZoneMismatch".to_owned()));
    assert_eq!(case.attach(&volume, "/dev/nvme1n1").await, Err("InvalidParameterValue".to_owned()));
    assert_eq!(case.attach(&volume, "/dev/sdf").await, Ok(()));
    assert_eq!(case.attach(&volume, "/dev/sdg").await, Err("VolumeInUse".to_owned()));
    assert_eq!(case.attach(&second, "/dev/sdf").await, Err("InvalidParameterValue".to_owned()));
    let ec2 = &case.scene.ec2;
    assert_eq!(code(ec2.delete_volume().volume_id(&volume).send().await), "VolumeInUse");
    ec2.detach_volume().volume_id(&volume).send().await.unwrap();
    assert_eq!(code(ec2.detach_volume().volume_id(&volume).send().await), "IncorrectState");
    ec2.delete_volume().volume_id(&volume).send().await.unwrap();
    assert_eq!(code(ec2.delete_volume().volume_id(&volume).send().await), "InvalidVolume.NotFound");
    ec2.terminate_instances().instance_ids(&case.instance).send().await.unwrap();
    assert_eq!(case.attach(&second, "/dev/sdh").await, Err("IncorrectState".to_owned()));
}

#[tokio::test]
async fn an_instance_takes_no_more_volumes_than_its_type() {
    let case = case("rule-limit").await;
    let names = ('f'..='p')
        .map(|letter| format!("/dev/sd{letter}"))
        .chain(('a'..='z').map(|letter| format!("/dev/xvdb{letter}")));
    let mut refused = None;
    for (n, device) in names.enumerate() {
        let volume = case.volume(&case.zone).await;
        if let Err(code) = case.attach(&volume, &device).await {
            refused = Some((n, code));
            break;
        }
    }
    // Its root volume and its interface are the other two.
    assert_eq!(refused, Some((26, "AttachmentLimitExceeded".to_owned())));
}

#[tokio::test]
async fn what_has_the_default_key_is_not_shared_and_a_bad_key_fails_late() {
    let case = case("rule-share").await;
    let ec2 = &case.scene.ec2;
    let share = |snapshot: &str| {
        let request = ec2
            .modify_snapshot_attribute()
            .snapshot_id(snapshot)
            .attribute(SnapshotAttributeName::CreateVolumePermission);
        request.operation_type(OperationType::Add).user_ids("111122223333").send()
    };
    share(&case.snapshot).await.unwrap();
    let copy = async |key: Option<&str>| {
        let request = ec2.copy_snapshot().source_snapshot_id(&case.snapshot).source_region("us-east-1").encrypted(true);
        request.set_kms_key_id(key.map(str::to_owned)).send().await.unwrap().snapshot_id().unwrap().to_owned()
    };
    let state = async |snapshot: &str| {
        let shown = ec2.describe_snapshots().snapshot_ids(snapshot).send().await.unwrap();
        let shown = &shown.snapshots()[0];
        (
            shown.state().unwrap().as_str().to_owned(),
            shown.state_message().unwrap_or_default().to_owned(),
            shown.volume_id().unwrap().to_owned(),
        )
    };
    let bad = "arn:aws:kms:us-east-1:123456789012:key/bad";
    cloud().set("bad-keys", &json!({"keys": [bad]})).await;
    let failed = copy(Some(bad)).await;
    assert_eq!(state(&failed).await.0, "pending");
    assert_eq!(
        state(&failed).await,
        ("error".to_owned(), "Given key ID is not accessible".to_owned(), "vol-ffffffff".to_owned())
    );
    let key = Some(bad);
    let made = ec2
        .create_volume()
        .snapshot_id(&case.snapshot)
        .availability_zone(&case.zone)
        .encrypted(true)
        .set_kms_key_id(key.map(str::to_owned));
    let vanished = made.send().await.unwrap().volume_id().unwrap().to_owned();
    assert_eq!(code(ec2.describe_volumes().volume_ids(vanished).send().await), "InvalidVolume.NotFound");
    cloud().set("bad-keys", &json!({"keys": []})).await;
    let by_default = copy(None).await;
    assert_eq!(code(share(&by_default).await), "IncorrectState");
    state(&by_default).await;
    assert_eq!(code(share(&by_default).await), "OperationNotPermitted");
}
