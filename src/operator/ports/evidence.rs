//! What a case file is made from: snapshots in full, their locks, and what CloudTrail saw.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::model::{GroupId, InstanceId, InterfaceId, SnapshotId, Time, VolumeId};
use crate::ports::Call;

/// What EC2 shows of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDetails {
    pub id: SnapshotId,
    pub volume: Option<VolumeId>,
    /// Of the volume. EC2 does not say how much of it a snapshot takes.
    pub gib: u64,
    /// EC2's own word: `pending`, `completed`, `error`, `recoverable`, `recovering`.
    pub state: String,
    /// Why it is in that state, mostly of `error`.
    pub why: Option<String>,
    /// How much of it is done, in percent.
    pub percent: u8,
    pub is_encrypted: bool,
    /// The ARN of its KMS key.
    pub key: Option<String>,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub tags: BTreeMap<String, String>,
}

/// Which snapshots of this account to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotQuery {
    /// These; what does not exist is left out.
    Ids(BTreeSet<SnapshotId>),
    /// Those whose tag of ours names one of these stacks.
    OfStacks(BTreeSet<String>),
    /// Those that carry the tag of an isolation, and the copies of them.
    Marked,
    /// Those whose tag says that they are copies of these.
    CopiesOf(BTreeSet<SnapshotId>),
}

/// What EC2 shows of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeDetails {
    pub id: VolumeId,
    pub gib: u64,
    /// EC2's own word: `creating`, `available`, `in-use`, `deleting`, `deleted`, `error`.
    pub state: String,
    pub is_attached: bool,
    /// What it was made of.
    pub snapshot: Option<SnapshotId>,
    /// The Availability Zone that it is in.
    pub zone: String,
    pub attachment: Option<Attachment>,
    pub tags: BTreeMap<String, String>,
}

/// Where a volume is, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub instance: InstanceId,
    /// As in `/dev/sdf`.
    pub device: String,
    /// EC2's own word: `attaching`, `attached`, `detaching`, `detached`, `busy`.
    pub state: String,
}

/// Which volumes to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeQuery {
    /// These; what does not exist is left out.
    Ids(BTreeSet<VolumeId>),
    /// Those that carry the tag of a forensic host.
    OfHosts,
    /// Those that carry the tags of an isolation: they outlived their instance because of us, or it is isolated.
    Marked,
    /// Those that were made of these snapshots.
    OfSnapshots(BTreeSet<SnapshotId>),
    /// Those that carry the tag of a volume that was made as evidence.
    OfEvidence,
}

/// EC2, for what is kept as evidence.
pub trait Evidence: Send + Sync {
    fn snapshot_details(&self, query: &SnapshotQuery) -> impl Future<Output = Call<Vec<SnapshotDetails>>> + Send;
    fn volumes(&self, query: &VolumeQuery) -> impl Future<Output = Call<Vec<VolumeDetails>>> + Send;
}

/// A call that CloudTrail has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailEvent {
    pub at: Time,
    /// CloudTrail's own id of it.
    pub id: String,
    /// As in `DeleteStack`.
    pub name: String,
    /// The ARN of the caller, or the service of AWS that called.
    pub caller: String,
    /// Where the call came from: an IP address, or a service.
    pub address: Option<String>,
    /// The code with which AWS refused it.
    pub error: Option<String>,
    /// The stack that it names, by name or ARN.
    pub stack: Option<String>,
    pub interface: Option<InterfaceId>,
    /// The security group whose rules it changes.
    pub group: Option<GroupId>,
    /// The security groups that it names.
    pub groups: Vec<String>,
}

/// CloudTrail's event history.
pub trait Trail: Send + Sync {
    /// What was called on this resource in the last 90 days, newest first: one page of at most 50.
    fn page(
        &self,
        resource: &str,
        next: Option<String>,
    ) -> impl Future<Output = Call<(Vec<TrailEvent>, Option<String>)>> + Send;
}
