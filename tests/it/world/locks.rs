//! What keeps snapshots from being deleted, with EC2's refusals.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::model::{Lock, SnapshotId, VolumeId};
use ec2_isolation::ports::{Call, Fault};

use super::World;
use super::ports::refusal;

impl World {
    /// One that does not exist fails the call of the adapter, which then looks through all of them.
    pub(super) async fn read_locks(&self, ids: &BTreeSet<SnapshotId>) -> Call<BTreeMap<SnapshotId, Lock>> {
        self.call("ec2:DescribeLockedSnapshots", ids.len().to_string(), |data| {
            let locked = data.locks.iter().filter(|(id, _)| ids.contains(*id) && !data.hides(id.as_str()));
            Ok(locked.map(|(id, lock)| (id.clone(), lock.clone())).collect())
        })
        .await
    }

    pub(super) async fn lock(&self, snapshot: &SnapshotId, days: u64) -> Call<()> {
        let action = "ec2:LockSnapshot";
        self.call(action, snapshot.to_string(), |data| {
            // A lock is cancelled if its snapshot fails (EBS User Guide, "Snapshot lock considerations").
            let is_there = data.snapshots.iter().any(|found| found.id == *snapshot && !found.failed);
            if !is_there || data.is_unseen(snapshot.as_str()) {
                return refusal(action, Fault::Refused, "InvalidSnapshot.NotFound");
            }
            if data.locks.get(snapshot).is_some_and(|lock| lock.mode == "compliance") {
                return refusal(action, Fault::Refused, "InvalidParameterCombination");
            }
            let lock = Lock { mode: "governance".to_owned(), days: Some(days), until: None };
            data.locks.insert(snapshot.clone(), lock);
            Ok(())
        })
        .await
    }

    pub(super) async fn read_volume_tags(
        &self,
        ids: &BTreeSet<VolumeId>,
    ) -> Call<BTreeMap<VolumeId, BTreeMap<String, String>>> {
        self.call("ec2:DescribeTags", ids.len().to_string(), |data| {
            let tags = |id: &VolumeId| data.tags.get(id.as_str()).cloned().unwrap_or_default();
            Ok(ids.iter().map(|id| (id.clone(), tags(id))).collect())
        })
        .await
    }
}
