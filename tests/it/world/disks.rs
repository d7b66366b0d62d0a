//! Volumes of snapshots, copies and blocks, in the world: with the refusals that EC2 has. What is begun shows its end at a later look.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::model::{InstanceId, Snapshot, SnapshotId, VolumeId};
use ec2_isolation::operator::ports::disks::{Bench, BlockPage, Blocks, Copies, Disks, NewVolume};
use ec2_isolation::operator::ports::{Attachment, VolumeDetails};
use ec2_isolation::ports::{Call, CallError, Fault};

use super::ports::refusal;
use super::{Data, World};

pub const ZONE: &str = "us-east-1a";
/// The key of every snapshot of the world.
pub const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/k";
/// EC2 shows a copy as one of this volume.
const NO_VOLUME: &str = "vol-ffffffff";
/// So many looks show what is begun as it was before.
const LOOKS: u32 = 1;
pub const BLOCK: usize = 1 << 19;
const GIB: u64 = 1 << 30;

/// How far a snapshot is.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Looks until it is complete; one that never is has none.
    pub looks: Option<u32>,
    pub fails: Option<String>,
}

#[derive(Debug, Default)]
pub struct Disked {
    pub volumes: BTreeMap<VolumeId, VolumeDetails>,
    pub keys: BTreeMap<VolumeId, Option<String>>,
    pub benches: BTreeMap<InstanceId, Bench>,
    pub pending: BTreeMap<SnapshotId, Pending>,
    /// Copies, with their keys.
    pub copies: BTreeMap<SnapshotId, String>,
    pub shared: BTreeMap<SnapshotId, BTreeSet<String>>,
    /// Keys that EC2 may not use: it says so by the end of what they are for.
    pub bad_keys: BTreeSet<String>,
    /// Keys that AWS manages: what they encrypt cannot be shared.
    pub default_keys: BTreeSet<String>,
    /// What is mounted is not detached.
    pub mounted: BTreeSet<VolumeId>,
    /// What was written into snapshots, by the index of the block; each byte of a block is this one.
    pub written: BTreeMap<SnapshotId, BTreeMap<u64, u8>>,
    /// Of every snapshot, if it is another one than [`super::evidence::GIB`].
    pub gib: Option<u64>,
    looks: BTreeMap<VolumeId, u32>,
}

impl Data {
    /// A look moves everything on.
    pub(super) fn look_at_volumes(&mut self) {
        let disks = &mut self.disks;
        let mut gone = Vec::new();
        for (id, volume) in &mut disks.volumes {
            let left = disks.looks.entry(id.clone()).or_default();
            if *left > 0 {
                *left -= 1;
                continue;
            }
            let bad = disks.keys.get(id).and_then(Option::as_ref).is_some_and(|key| disks.bad_keys.contains(key));
            match (volume.state.as_str(), &mut volume.attachment) {
                ("creating", _) if bad => gone.push(id.clone()),
                ("creating", _) => volume.state = "available".to_owned(),
                ("deleting", _) => gone.push(id.clone()),
                (_, Some(at)) if at.state == "attaching" => at.state = "attached".to_owned(),
                (_, Some(at)) if at.state == "detaching" && !disks.mounted.contains(id) => {
                    for bench in disks.benches.values_mut() {
                        bench.devices.retain(|_, volume| volume != id);
                    }
                    volume.attachment = None;
                    volume.is_attached = false;
                    volume.state = "available".to_owned();
                }
                _ => {}
            }
        }
        disks.volumes.retain(|id, _| !gone.contains(id));
    }

    /// State, percent and why, and a look moves it on.
    pub(super) fn state_of(&mut self, snapshot: &Snapshot) -> (String, u8, Option<String>) {
        if snapshot.failed {
            return ("error".to_owned(), 40, None);
        }
        let Some(pending) = self.disks.pending.get_mut(&snapshot.id) else {
            return ("completed".to_owned(), 100, None);
        };
        match (&mut pending.looks, &pending.fails) {
            (Some(0), Some(why)) => ("error".to_owned(), 60, Some(why.clone())),
            (Some(0), None) => ("completed".to_owned(), 100, None),
            (Some(left), _) => {
                *left -= 1;
                ("pending".to_owned(), 60, None)
            }
            (None, _) => ("pending".to_owned(), 60, None),
        }
    }

    fn is_complete(&self, snapshot: &SnapshotId) -> bool {
        self.disks.pending.get(snapshot).is_none_or(|pending| pending.looks == Some(0) && pending.fails.is_none())
    }

    fn snapshot(&self, id: &SnapshotId) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == *id)
    }
}

fn said<T>(action: &'static str, code: &str, message: &str) -> Call<T> {
    Err(CallError { action, fault: Fault::Refused, code: code.to_owned(), message: message.to_owned() })
}

impl World {
    /// A forensic host that is none of the incident's stacks.
    pub fn add_bench(&self, id: &str, room: Option<usize>) {
        let id: InstanceId = id.parse().unwrap();
        let bench = Bench {
            id: id.clone(),
            state: "running".to_owned(),
            zone: ZONE.to_owned(),
            kind: "t3.large".to_owned(),
            devices: [("/dev/sda1".to_owned(), "vol-0f".parse().unwrap())].into(),
            is_nvme: true,
            room,
        };
        self.data().disks.benches.insert(id, bench);
    }
}

impl Disks for World {
    async fn bench(&self, instance: &InstanceId) -> Call<Option<Bench>> {
        self.call("ec2:DescribeInstances", format!("bench {instance}"), |data| {
            let plain = data.instances.get(instance).map(|found| Bench {
                id: instance.clone(),
                state: found.state.clone(),
                zone: ZONE.to_owned(),
                kind: "t2.micro".to_owned(),
                devices: BTreeMap::new(),
                is_nvme: false,
                room: None,
            });
            Ok(data.disks.benches.get(instance).cloned().or(plain))
        })
        .await
    }

    async fn make_volume(&self, new: &NewVolume<'_>) -> Call<VolumeId> {
        let action = "ec2:CreateVolume";
        self.call(action, new.snapshot.to_string(), |data| {
            if data.snapshot(new.snapshot).is_none() {
                return refusal(action, Fault::Refused, "InvalidSnapshot.NotFound");
            }
            if !data.is_complete(new.snapshot) {
                return refusal(action, Fault::Busy, "IncorrectState");
            }
            let id: VolumeId =
                format!("vol-{:x}", 0xe0 + data.disks.volumes.len() + data.disks.keys.len()).parse().unwrap();
            let volume = VolumeDetails {
                id: id.clone(),
                gib: data.disks.gib.unwrap_or(super::evidence::GIB),
                state: "creating".to_owned(),
                is_attached: false,
                snapshot: Some(new.snapshot.clone()),
                zone: new.zone.to_owned(),
                attachment: None,
                tags: new.tags.clone(),
            };
            data.disks.volumes.insert(id.clone(), volume);
            data.disks.keys.insert(id.clone(), new.key.map(str::to_owned));
            data.disks.looks.insert(id.clone(), LOOKS);
            Ok(id)
        })
        .await
    }

    async fn attach(&self, volume: &VolumeId, bench: &InstanceId, device: &str) -> Call<()> {
        let action = "ec2:AttachVolume";
        self.call(action, format!("{volume} {bench} {device}"), |data| {
            let Some(host) = data.disks.benches.get_mut(bench) else {
                return refusal(action, Fault::Refused, "InvalidInstanceID.NotFound");
            };
            let Some(found) = data.disks.volumes.get_mut(volume) else {
                return refusal(action, Fault::Refused, "InvalidVolume.NotFound");
            };
            if !matches!(host.state.as_str(), "running" | "stopped") {
                return refusal(action, Fault::Busy, "IncorrectState");
            }
            if found.zone != host.zone {
                return refusal(action, Fault::Refused, "InvalidVolume.ZoneMismatch");
            }
            if found.attachment.is_some() {
                return refusal(action, Fault::Refused, "VolumeInUse");
            }
            if found.state != "available" {
                return refusal(action, Fault::Busy, "IncorrectState");
            }
            if host.devices.contains_key(device) {
                let text =
                    format!("Invalid value '{device}' for unixDevice. Attachment point {device} is already in use");
                return said(action, "InvalidParameterValue", &text);
            }
            if host.room == Some(0) {
                return refusal(action, Fault::Refused, "AttachmentLimitExceeded");
            }
            host.room = host.room.map(|room| room - 1);
            host.devices.insert(device.to_owned(), volume.clone());
            found.state = "in-use".to_owned();
            found.is_attached = true;
            let (instance, device) = (bench.clone(), device.to_owned());
            found.attachment = Some(Attachment { instance, device, state: "attaching".to_owned() });
            data.disks.looks.insert(volume.clone(), LOOKS);
            Ok(())
        })
        .await
    }

    async fn detach(&self, volume: &VolumeId) -> Call<()> {
        let action = "ec2:DetachVolume";
        self.call(action, volume.to_string(), |data| {
            let attachment = data.disks.volumes.get_mut(volume).and_then(|found| found.attachment.as_mut());
            if let Some(at) = attachment {
                at.state = "detaching".to_owned();
                data.disks.looks.insert(volume.clone(), LOOKS);
            }
            Ok(())
        })
        .await
    }

    async fn delete_volume(&self, volume: &VolumeId) -> Call<()> {
        let action = "ec2:DeleteVolume";
        self.call(action, volume.to_string(), |data| {
            let Some(found) = data.disks.volumes.get_mut(volume) else { return Ok(()) };
            if found.attachment.is_some() {
                return refusal(action, Fault::Refused, "VolumeInUse");
            }
            found.state = "deleting".to_owned();
            Ok(())
        })
        .await
    }
}

impl Copies for World {
    async fn copy_snapshot(&self, source: &SnapshotId, key: &str, tags: &BTreeMap<String, String>) -> Call<SnapshotId> {
        let action = "ec2:CopySnapshot";
        self.call(action, source.to_string(), |data| {
            if data.snapshot(source).is_none() {
                return refusal(action, Fault::Refused, "InvalidSnapshot.NotFound");
            }
            if !data.is_complete(source) {
                return refusal(action, Fault::Busy, "IncorrectState");
            }
            let is_under_way =
                |id: &&SnapshotId| data.disks.pending.get(*id).is_some_and(|found| found.looks != Some(0));
            if data.disks.copies.keys().filter(is_under_way).count() >= 20 {
                return refusal(action, Fault::Refused, "ResourceLimitExceeded");
            }
            let id: SnapshotId = format!("snap-{:x}", 0xc00 + data.disks.copies.len()).parse().unwrap();
            let (volume, episode) = (NO_VOLUME.parse().unwrap(), String::new());
            data.snapshots.push(Snapshot { id: id.clone(), volume, episode, failed: false, labelled: false });
            data.tags.insert(id.to_string(), tags.clone());
            let fails = data.disks.bad_keys.contains(key).then(|| "Given key ID is not accessible".to_owned());
            data.disks.pending.insert(id.clone(), Pending { looks: Some(2), fails });
            data.disks.copies.insert(id.clone(), key.to_owned());
            Ok(id)
        })
        .await
    }

    async fn share(&self, snapshot: &SnapshotId, account: &str) -> Call<()> {
        let action = "ec2:ModifySnapshotAttribute";
        self.call(action, format!("{snapshot} {account}"), |data| {
            let key = data.disks.copies.get(snapshot).map_or(KEY, String::as_str);
            if data.disks.default_keys.contains(key) {
                return refusal(action, Fault::Refused, "OperationNotPermitted");
            }
            if !data.is_complete(snapshot) {
                return refusal(action, Fault::Busy, "IncorrectState");
            }
            data.disks.shared.entry(snapshot.clone()).or_default().insert(account.to_owned());
            Ok(())
        })
        .await
    }

    async fn shared_with(&self, snapshot: &SnapshotId) -> Call<BTreeSet<String>> {
        self.call("ec2:DescribeSnapshotAttribute", snapshot.to_string(), |data| {
            Ok(data.disks.shared.get(snapshot).cloned().unwrap_or_default())
        })
        .await
    }
}

impl Blocks for World {
    async fn list_blocks(&self, snapshot: &SnapshotId, from: u64, next: Option<String>) -> Call<BlockPage> {
        self.call("ebs:ListSnapshotBlocks", format!("{snapshot} from {from} {next:?}"), |data| {
            let written = data.disks.written.get(snapshot).cloned().unwrap_or_default();
            Ok(BlockPage {
                bytes: data.disks.gib.unwrap_or(super::evidence::GIB) * GIB,
                block_size: BLOCK as u64,
                blocks: written.range(from..).map(|(index, _)| (*index, format!("token {index}"))).collect(),
                next: None,
            })
        })
        .await
    }

    async fn block(&self, snapshot: &SnapshotId, index: u64, _token: &str) -> Call<Vec<u8>> {
        self.call("ebs:GetSnapshotBlock", format!("{snapshot} {index}"), |data| {
            Ok(vec![data.disks.written[snapshot][&index]; BLOCK])
        })
        .await
    }
}

/// The image of a snapshot as it is, whole.
pub fn image(world: &World, snapshot: &SnapshotId) -> String {
    use sha2::{Digest as _, Sha256};
    let written = world.data().disks.written.get(snapshot).cloned().unwrap_or_default();
    let gib = world.data().disks.gib.unwrap_or(super::evidence::GIB);
    let (mut hash, zeros) = (Sha256::new(), vec![0; BLOCK]);
    for index in 0..gib * GIB / BLOCK as u64 {
        match written.get(&index) {
            Some(byte) => hash.update(vec![*byte; BLOCK]),
            None => hash.update(&zeros),
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
