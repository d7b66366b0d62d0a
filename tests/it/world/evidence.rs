//! What a case file is made from, in the world: snapshots in full, locks, CloudTrail.

use ec2_isolation::model::{Snapshot, SnapshotId, Time};
use ec2_isolation::operator::ports::{
    Evidence, SnapshotDetails, SnapshotQuery, Trail, TrailEvent, VolumeDetails, VolumeQuery,
};
use ec2_isolation::ports::Call;

use super::disks::{KEY, ZONE};
use super::{Data, World};

/// Of a page of CloudTrail's.
const PAGE: usize = 50;
/// Of every volume of the world.
pub const GIB: u64 = 8;

impl Data {
    fn details(&mut self, snapshot: &Snapshot) -> SnapshotDetails {
        let (state, percent, why) = self.state_of(snapshot);
        let key = self.disks.copies.get(&snapshot.id).map_or(KEY, String::as_str).to_owned();
        SnapshotDetails {
            id: snapshot.id.clone(),
            volume: Some(snapshot.volume.clone()),
            gib: self.disks.gib.unwrap_or(GIB),
            completed_at: (state == "completed").then_some(Time(1_764_039_720)),
            state,
            why,
            percent,
            is_encrypted: true,
            key: Some(key),
            started_at: Some(Time(1_764_039_660)),
            tags: self.tags.get(snapshot.id.as_str()).cloned().unwrap_or_default(),
        }
    }
}

impl Evidence for World {
    async fn snapshot_details(&self, query: &SnapshotQuery) -> Call<Vec<SnapshotDetails>> {
        self.call("ec2:DescribeSnapshots", "details".to_owned(), |data| {
            let all: Vec<Snapshot> =
                data.snapshots.iter().filter(|found| !data.hides(found.id.as_str())).cloned().collect();
            let all: Vec<SnapshotDetails> = all.iter().map(|snapshot| data.details(snapshot)).collect();
            let says = |snapshot: &SnapshotDetails, key: &str| snapshot.tags.contains_key(key);
            let is_wanted = |snapshot: &SnapshotDetails| match query {
                SnapshotQuery::Marked => {
                    says(snapshot, "ec2-isolation:episode") || says(snapshot, "ec2-isolation:copy-of")
                }
                SnapshotQuery::CopiesOf(ids) => {
                    let source = snapshot.tags.get("ec2-isolation:copy-of").and_then(|source| source.parse().ok());
                    source.is_some_and(|source: SnapshotId| ids.contains(&source))
                }
                SnapshotQuery::Ids(ids) => ids.contains(&snapshot.id),
                SnapshotQuery::OfStacks(stacks) => {
                    snapshot.tags.get("ec2-isolation:stack").is_some_and(|stack| stacks.contains(stack))
                }
            };
            Ok(all.into_iter().filter(is_wanted).collect())
        })
        .await
    }

    async fn volumes(&self, query: &VolumeQuery) -> Call<Vec<VolumeDetails>> {
        self.call("ec2:DescribeVolumes", format!("{query:?}"), |data| {
            let made: Vec<VolumeDetails> = data.disks.volumes.values().cloned().collect();
            data.look_at_volumes();
            let made: Vec<_> = made.into_iter().filter(|volume| !data.hides(volume.id.as_str())).collect();
            let attached = data.instances.values().flat_map(|instance| instance.volumes.keys().map(|id| (id, true)));
            let all = attached.chain(data.loose_volumes.iter().map(|id| (id, false))).map(|(id, is_attached)| {
                let tags = data.tags.get(id.as_str()).cloned().unwrap_or_default();
                let state = if is_attached { "in-use" } else { "available" }.to_owned();
                let (zone, attachment) = (ZONE.to_owned(), None);
                VolumeDetails { id: id.clone(), gib: GIB, state, is_attached, snapshot: None, zone, attachment, tags }
            });
            let is_wanted = |volume: &VolumeDetails| match query {
                VolumeQuery::Ids(ids) => ids.contains(&volume.id),
                VolumeQuery::Marked => volume.tags.contains_key("ec2-isolation:restore"),
                VolumeQuery::OfHosts => {
                    volume.tags.get("ec2-isolation:role").is_some_and(|role| role == "forensic-host")
                }
                VolumeQuery::OfSnapshots(ids) => volume.snapshot.as_ref().is_some_and(|id| ids.contains(id)),
                VolumeQuery::OfEvidence => volume.tags.get("ec2-isolation:role").is_some_and(|role| role == "evidence"),
            };
            Ok(all.chain(made).filter(is_wanted).collect())
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
