//! Takes the volumes away that `evidence` made: detach, delete, until none is shown any more.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tokio::time::Instant;

use super::{LOOK_AGAIN, LOOK_EVERY, SCHEMA_VERSION, TRIES, check_recorded, is_of, recorded};
use crate::model::{InstanceId, Owner, SnapshotId, VolumeId};
use crate::operator::incident::Incident;
use crate::operator::ports::disks::Disks;
use crate::operator::ports::{Archive, Attachment, Evidence, Survey, VolumeDetails};
use crate::operator::stack::StackLife;
use crate::operator::{Operator, Progress, Trouble};
use crate::ports::Change;

/// What would be taken away.
#[derive(Debug, Clone)]
pub struct Removal {
    pub(super) incident: Incident,
    /// The forensic host, if there is one.
    host: Option<InstanceId>,
    pub(super) volumes: Vec<Made>,
    /// Of ours, and somewhere else.
    pub(super) left: Vec<String>,
    /// Made of the same snapshots, by others.
    pub(super) others: Vec<String>,
}

/// A volume that was made as evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub volume: VolumeId,
    pub snapshot: SnapshotId,
    pub gib: u64,
    pub instance: InstanceId,
    owner: Owner,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    pub schema_version: u32,
    pub incident: String,
    pub failed: bool,
    /// Volumes that EC2 does not show any more.
    pub removed: Vec<String>,
    /// What is left, or not recorded, and why.
    pub left: Vec<String>,
    /// Volumes of the same snapshots that others have made: they were not touched.
    pub others: Vec<String>,
}

impl Removal {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }
}

impl<E: Survey + Evidence + Change + Disks + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// What `evidence --remove` would take away. **A volume is ours if EC2 says that it was made of a snapshot which a record names**,
    /// and its tags say so too.
    ///
    /// # Errors
    /// An instance has no record, or a call failed.
    pub async fn removal(
        &self,
        incident: Incident,
        only: &BTreeSet<InstanceId>,
        host: Option<&InstanceId>,
    ) -> Result<Removal, Trouble> {
        let records = &incident.ledger.records;
        check_recorded(&incident, only)?;
        let host = match host {
            Some(id) => Some(id.clone()),
            None => incident.host.clone()?,
        };
        let known = recorded::snapshots(records.values().map(AsRef::as_ref));
        let known: BTreeMap<_, _> =
            known.into_iter().filter(|(_, of)| only.is_empty() || only.contains(&of.instance)).collect();
        let (mut volumes, mut left, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for volume in self.volumes_of(known.keys().cloned().collect()).await? {
            let Some((snapshot, of)) = volume.snapshot.as_ref().and_then(|id| known.get_key_value(id)) else {
                continue;
            };
            let Some(record) = records.get(&of.instance) else { continue };
            if !is_of(&volume, snapshot) {
                others.push(format!("{} of {snapshot}: its tags do not say that this program made it", volume.id));
                continue;
            }
            match elsewhere(&volume, host.as_ref()) {
                Some(at) => left.push(format!(
                    "{} of {snapshot}: it is attached to {at}, which is not the forensic host: detach it there, or name that host with --host",
                    volume.id
                )),
                None => volumes.push(Made {
                    volume: volume.id,
                    snapshot: snapshot.clone(),
                    gib: volume.gib,
                    instance: of.instance.clone(),
                    owner: record.owner.clone(),
                }),
            }
        }
        Ok(Removal { incident, host, volumes, left, others })
    }

    /// Detaches and deletes them, waits until EC2 does not show them any more, and records that.
    ///
    /// # Errors
    /// EC2 cannot be read.
    pub async fn take_away(
        &self,
        removal: &Removal,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Removed, Trouble> {
        let began = Instant::now();
        let mut failed: BTreeMap<&VolumeId, String> = BTreeMap::new();
        let mut tries: BTreeMap<&VolumeId, u32> = BTreeMap::new();
        let mut gone_since: BTreeMap<&VolumeId, Instant> = BTreeMap::new();
        let mut gone: Vec<&Made> = Vec::new();
        let mut said = removal.left.clone();
        loop {
            let shown = self.volumes_of(removal.volumes.iter().map(|made| made.snapshot.clone()).collect()).await?;
            for made in &removal.volumes {
                if failed.contains_key(&made.volume) || gone.contains(&made) {
                    continue;
                }
                let Some(volume) = shown.iter().find(|volume| volume.id == made.volume) else {
                    let since = *gone_since.entry(&made.volume).or_insert_with(Instant::now);
                    if since.elapsed() >= LOOK_AGAIN {
                        gone.push(made);
                        let what = format!("{}{} of {}", recorded::REMOVED, made.volume, made.snapshot);
                        said.extend(self.write_down(&removal.incident, &made.owner, &made.instance, &what).await);
                    }
                    continue;
                };
                gone_since.remove(&made.volume);
                if let Some(at) = elsewhere(volume, removal.host.as_ref()) {
                    failed.insert(&made.volume, format!("it was attached to {at} a moment ago"));
                    continue;
                }
                let done = match &volume.attachment {
                    Some(at) if is_detaching(at) => Ok(()),
                    Some(_) => self.ports.ec2.detach(&made.volume).await,
                    None => self.ports.ec2.delete_volume(&made.volume).await,
                };
                if let Err(error) = done {
                    let tries = tries.entry(&made.volume).or_default();
                    *tries += 1;
                    if !error.fault.may_pass() && error.code != "VolumeInUse" || *tries >= TRIES {
                        failed.insert(&made.volume, error.to_string());
                    }
                }
            }
            let total = removal.volumes.len();
            let is_held = |volume: &&VolumeDetails| {
                let is_ours = removal.volumes.iter().any(|made| made.volume == volume.id);
                is_ours && volume.attachment.as_ref().is_some_and(is_detaching)
            };
            let held = shown.iter().filter(is_held).count();
            on_progress(&Progress {
                stack: removal.incident.stack_name.clone(),
                status: if held == 0 { String::new() } else { format!("{held} detaching, unmounted on the host?") },
                seconds: began.elapsed().as_secs(),
                done: gone.len(),
                total,
                what: "volumes taken away",
            });
            if gone.len() + failed.len() == total {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let why = failed.iter().map(|(volume, why)| format!("{volume} is still there: {why}"));
        Ok(Removed {
            schema_version: SCHEMA_VERSION,
            incident: removal.incident.stack_name.clone(),
            failed: !failed.is_empty() || !said.is_empty(),
            left: why.chain(said).collect(),
            others: removal.others.clone(),
            removed: gone.iter().map(|made| made.volume.to_string()).collect(),
        })
    }
}

/// What is mounted stays so until it is unmounted.
fn is_detaching(at: &Attachment) -> bool {
    matches!(at.state.as_str(), "detaching" | "busy")
}

/// Where it is attached, if that is not the host: the person who uses it there is not asked.
fn elsewhere<'a>(volume: &'a VolumeDetails, host: Option<&InstanceId>) -> Option<&'a InstanceId> {
    volume.attachment.as_ref().map(|at| &at.instance).filter(|at| Some(*at) != host)
}
