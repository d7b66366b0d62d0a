//! What a case file is made from, in the world: snapshots in full, locks, CloudTrail.

use ec2_isolation::model::{Snapshot, Time};
use ec2_isolation::ports::{
    Call, Evidence, SnapshotDetails, SnapshotQuery, Trail, TrailEvent, VolumeDetails, VolumeQuery,
};

use super::{Data, World};

/// Of a page of CloudTrail's.
const PAGE: usize = 50;
/// Of every volume of the world.
pub const GIB: u64 = 8;

impl Data {
    fn details(&self, snapshot: &Snapshot) -> SnapshotDetails {
        SnapshotDetails {
            id: snapshot.id.clone(),
            volume: Some(snapshot.volume.clone()),
            gib: GIB,
            state: if snapshot.failed { "error" } else { "completed" }.to_owned(),
            is_encrypted: true,
            key: Some("arn:aws:kms:us-east-1:123456789012:key/k".to_owned()),
            started_at: Some(Time(1_764_039_660)),
            tags: self.tags.get(snapshot.id.as_str()).cloned().unwrap_or_default(),
        }
    }
}

impl Evidence for World {
    async fn snapshot_details(&self, query: &SnapshotQuery) -> Call<Vec<SnapshotDetails>> {
        self.call("ec2:DescribeSnapshots", "details".to_owned(), |data| {
            let all = data.snapshots.iter().map(|snapshot| data.details(snapshot));
            let is_wanted = |snapshot: &SnapshotDetails| match query {
                SnapshotQuery::Marked => snapshot.tags.contains_key("ec2-isolation:episode"),
                SnapshotQuery::Ids(ids) => ids.contains(&snapshot.id),
                SnapshotQuery::OfStacks(stacks) => {
                    snapshot.tags.get("ec2-isolation:stack").is_some_and(|stack| stacks.contains(stack))
                }
            };
            Ok(all.filter(is_wanted).collect())
        })
        .await
    }

    async fn volumes(&self, query: &VolumeQuery) -> Call<Vec<VolumeDetails>> {
        self.call("ec2:DescribeVolumes", format!("{query:?}"), |data| {
            let attached = data.instances.values().flat_map(|instance| instance.volumes.keys().map(|id| (id, true)));
            let all = attached.chain(data.loose_volumes.iter().map(|id| (id, false))).map(|(id, is_attached)| {
                let tags = data.tags.get(id.as_str()).cloned().unwrap_or_default();
                VolumeDetails { id: id.clone(), gib: GIB, is_attached, tags }
            });
            let is_wanted = |volume: &VolumeDetails| match query {
                VolumeQuery::Ids(ids) => ids.contains(&volume.id),
                VolumeQuery::Marked => volume.tags.contains_key("ec2-isolation:restore"),
                VolumeQuery::OfHosts => {
                    volume.tags.get("ec2-isolation:role").is_some_and(|role| role == "forensic-host")
                }
            };
            Ok(all.filter(is_wanted).collect())
        })
        .await
    }
}

impl Trail for World {
    async fn page(&self, resource: &str, next: Option<String>) -> Call<(Vec<TrailEvent>, Option<String>)> {
        self.call("cloudtrail:LookupEvents", resource.to_owned(), |data| {
            let from: usize = next.map_or(0, |next| next.parse().unwrap());
            let all = data.trail.iter().rev().filter(|(resources, _)| resources.contains(resource));
            let all: Vec<TrailEvent> = all.map(|(_, event)| event.clone()).collect();
            let page: Vec<TrailEvent> = all.iter().skip(from).take(PAGE).cloned().collect();
            let more = (from + page.len() < all.len()).then(|| (from + page.len()).to_string());
            Ok((page, more))
        })
        .await
    }
}
