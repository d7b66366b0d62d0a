//! What is done with snapshots as evidence: volumes of them on a forensic host, copies of them for another account, and what is in
//! them, block by block.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::model::{InstanceId, SnapshotId, VolumeId};
use crate::ports::Call;

/// An instance that takes the volumes, as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    pub id: InstanceId,
    /// EC2's own word, as in `running`.
    pub state: String,
    pub zone: String,
    /// As in `t3.large`.
    pub kind: String,
    /// What it has, by the names that EC2 knows them by.
    pub devices: BTreeMap<String, VolumeId>,
    /// Its kernel names volumes by itself, as in `/dev/nvme1n1`.
    pub is_nvme: bool,
    /// How many more volumes it takes. Nothing if EC2 does not say.
    pub room: Option<usize>,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume<'a> {
    pub snapshot: &'a SnapshotId,
    pub zone: &'a str,
    /// The key of the snapshot; nothing if that is not encrypted.
    pub key: Option<&'a str>,
    pub tags: &'a BTreeMap<String, String>,
    /// Equal for repeated tries of one call.
    pub token: &'a str,
}

/// EC2, for volumes as evidence. EBS attaches nothing read-only.
pub trait Disks: Send + Sync {
    /// `None` if there is no such instance.
    fn bench(&self, instance: &InstanceId) -> impl Future<Output = Call<Option<Bench>>> + Send;
    fn make_volume(&self, new: &NewVolume<'_>) -> impl Future<Output = Call<VolumeId>> + Send;
    /// Begins to.
    fn attach(&self, volume: &VolumeId, bench: &InstanceId, device: &str) -> impl Future<Output = Call<()>> + Send;
    /// Begins to. What is detached or gone already needs nothing.
    fn detach(&self, volume: &VolumeId) -> impl Future<Output = Call<()>> + Send;
    /// What is gone already needs nothing.
    fn delete_volume(&self, volume: &VolumeId) -> impl Future<Output = Call<()>> + Send;
}

/// EC2, for copies of snapshots that another account may use.
pub trait Copies: Send + Sync {
    /// Begins to copy within the Region, encrypted with this key. **A key that does not work does not fail the call**: the copy ends
    /// in state `error` (`CopySnapshot`, EC2 API reference).
    fn copy_snapshot(
        &self,
        source: &SnapshotId,
        key: &str,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Call<SnapshotId>> + Send;
    /// Lets an account make volumes of it, and copy it.
    fn share(&self, snapshot: &SnapshotId, account: &str) -> impl Future<Output = Call<()>> + Send;
    /// Accounts that may; `all` if everybody may.
    fn shared_with(&self, snapshot: &SnapshotId) -> impl Future<Output = Call<BTreeSet<String>>> + Send;
}

/// A page of what a snapshot holds. Blocks that it does not list were never written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPage {
    /// Of the volume.
    pub bytes: u64,
    /// In bytes.
    pub block_size: u64,
    /// Index and token, in ascending order.
    pub blocks: Vec<(u64, String)>,
    pub next: Option<String>,
}

/// EBS, for what is in a snapshot.
pub trait Blocks: Send + Sync {
    /// From this block on; `next` is that of the page before.
    fn list_blocks(
        &self,
        snapshot: &SnapshotId,
        from: u64,
        next: Option<String>,
    ) -> impl Future<Output = Call<BlockPage>> + Send;
    /// The bytes of one block, compared with the checksum that EBS gives with them.
    fn block(&self, snapshot: &SnapshotId, index: u64, token: &str) -> impl Future<Output = Call<Vec<u8>>> + Send;
}
