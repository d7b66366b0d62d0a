//! Snapshots and volumes in full.

use aws_sdk_ec2::types::{Snapshot, Volume, VolumeState};

use crate::aws::ec2::read::{SNAPSHOTS, by, filter, tags_of};
use crate::aws::ec2::{Ec2, found, id};
use crate::aws::error::time;
use crate::model::ROLE_TAG;
use crate::operator::ports::{Attachment, Evidence, SnapshotDetails, SnapshotQuery, VolumeDetails, VolumeQuery};
use crate::plan::tag;
use crate::ports::Call;

const VOLUMES: &str = "ec2:DescribeVolumes";

impl Evidence for Ec2 {
    async fn snapshot_details(&self, query: &SnapshotQuery) -> Call<Vec<SnapshotDetails>> {
        let read = |which| async move {
            let request = self.client.describe_snapshots().owner_ids("self").filters(which);
            found!(SNAPSHOTS, request)?.iter().map(read_details).collect()
        };
        match query {
            SnapshotQuery::Ids(ids) => by("snapshot-id", ids, read).await,
            SnapshotQuery::Marked => {
                read(filter("tag-key", vec![tag::EPISODE.to_owned(), tag::COPY_OF.to_owned()])).await
            }
            SnapshotQuery::CopiesOf(ids) => by(&format!("tag:{}", tag::COPY_OF), ids, read).await,
            SnapshotQuery::OfStacks(stacks) => by(&format!("tag:{}", tag::STACK), stacks, read).await,
        }
    }

    async fn volumes(&self, query: &VolumeQuery) -> Call<Vec<VolumeDetails>> {
        let read = |which| async move {
            let request = self.client.describe_volumes().include_managed_resources(true).filters(which);
            found!(VOLUMES, request)?.iter().map(read_volume).collect()
        };
        match query {
            VolumeQuery::Ids(ids) => by("volume-id", ids, read).await,
            VolumeQuery::Marked => read(filter("tag-key", vec![tag::RESTORE.to_owned()])).await,
            VolumeQuery::OfHosts => read(filter(&format!("tag:{ROLE_TAG}"), vec!["forensic-host".to_owned()])).await,
            VolumeQuery::OfEvidence => read(filter(&format!("tag:{ROLE_TAG}"), vec![tag::EVIDENCE.to_owned()])).await,
            VolumeQuery::OfSnapshots(ids) => by("snapshot-id", ids, read).await,
        }
    }
}

fn read_volume(volume: &Volume) -> Call<VolumeDetails> {
    let attachment = volume.attachments().iter().find_map(|found| {
        Some(Attachment {
            instance: found.instance_id()?.parse().ok()?,
            device: found.device().unwrap_or_default().to_owned(),
            state: found.state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        })
    });
    Ok(VolumeDetails {
        id: id(VOLUMES, "volume", volume.volume_id())?,
        gib: volume.size().and_then(|gib| gib.try_into().ok()).unwrap_or_default(),
        state: volume.state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        is_attached: volume.state() != Some(&VolumeState::Available),
        snapshot: volume.snapshot_id().and_then(|id| id.parse().ok()),
        zone: volume.availability_zone().unwrap_or_default().to_owned(),
        attachment,
        tags: tags_of(volume.tags()),
    })
}

fn read_details(snapshot: &Snapshot) -> Call<SnapshotDetails> {
    Ok(SnapshotDetails {
        id: id(SNAPSHOTS, "snapshot", snapshot.snapshot_id())?,
        // A copy has `vol-ffffffff`.
        volume: snapshot.volume_id().and_then(|id| id.parse().ok()),
        gib: snapshot.volume_size().and_then(|gib| gib.try_into().ok()).unwrap_or_default(),
        state: snapshot.state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        why: snapshot.state_message().filter(|why| !why.is_empty()).map(str::to_owned),
        percent: snapshot.progress().and_then(|text| text.trim_end_matches('%').parse().ok()).unwrap_or_default(),
        is_encrypted: snapshot.encrypted().unwrap_or_default(),
        key: snapshot.kms_key_id().filter(|key| !key.is_empty()).map(str::to_owned),
        started_at: snapshot.start_time().and_then(time),
        completed_at: snapshot.completion_time().and_then(time),
        tags: tags_of(snapshot.tags()),
    })
}
