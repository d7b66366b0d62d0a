//! Volumes of the snapshots, on the forensic host: observe, plan, carry out, until every volume was read back attached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{
    Exhibit, Exhibits, LOOK_AGAIN, LOOK_EVERY, SCHEMA_VERSION, Tries, cannot, devices, failed_snapshot, is_of,
    is_there, recorded, tags,
};
use crate::model::{InstanceId, ROLE_TAG, SnapshotId, VolumeId, comma_list, short_digest};
use crate::operator::incident::Incident;
use crate::operator::ports::disks::{Bench, Disks, NewVolume};
use crate::operator::ports::{Archive, Evidence, SnapshotDetails, Survey, VolumeDetails, VolumeQuery};
use crate::operator::stack::StackLife;
use crate::operator::text::count;
use crate::operator::{Operator, Progress, Trouble, refused};
use crate::plan::tag;
use crate::ports::Change;

/// EC2 takes a volume away again if its key does not work: so long one that was made may not be shown.
const VANISHED: Duration = Duration::from_secs(60);
/// So long a volume may be shown as before after EC2 has accepted to attach it.
const ACCEPTED: Duration = Duration::from_secs(60);

/// What would be made, and where.
#[derive(Debug, Clone)]
pub struct VolumeOrder {
    pub(super) incident: Incident,
    pub(super) bench: Bench,
    pub(super) exhibits: Exhibits,
    /// Volumes that are there already.
    pub(super) found: BTreeMap<SnapshotId, VolumeDetails>,
}

/// What was made, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attached {
    pub schema_version: u32,
    pub incident: String,
    pub host: String,
    pub zone: String,
    /// Something is not attached, or not recorded.
    pub failed: bool,
    pub disks: Vec<Disk>,
    /// What is wrong with snapshots, and what was not recorded.
    pub said: Vec<String>,
    /// To be pasted on the forensic host: mounts everything, read-only.
    pub script: String,
}

/// A snapshot, and the volume that was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub instance: String,
    /// The volume of the instance, and where that was attached.
    pub of_volume: String,
    pub of_device: String,
    pub snapshot: String,
    pub gib: u64,
    /// The volume that was made.
    pub volume: Option<String>,
    /// EC2's name for where it is on the host.
    pub device: Option<String>,
    /// The name by which the host's kernel finds it.
    pub path: Option<String>,
    /// Why it is not attached.
    pub why: Option<String>,
}

impl VolumeOrder {
    /// Something is to be made or attached.
    #[must_use]
    pub fn is_anything_to_do(&self) -> bool {
        !self.to_make().is_empty() || self.found.values().any(|volume| !is_at(volume, &self.bench.id))
    }

    pub(super) fn to_make(&self) -> Vec<&Exhibit> {
        let usable = self.exhibits.all.iter().filter(|exhibit| !exhibit.is_failed());
        usable.filter(|exhibit| !self.found.contains_key(&exhibit.snapshot)).collect()
    }
}

pub(super) fn is_at(volume: &VolumeDetails, bench: &InstanceId) -> bool {
    volume.attachment.as_ref().is_some_and(|at| at.instance == *bench && at.state == "attached")
}

/// Where one volume stands, and what is to be done for it.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Failed(String),
    /// The snapshot is not complete: how much of it is, in percent.
    Pending(u8),
    Waits,
    Make,
    Attach(VolumeId),
    /// Read back, under this name.
    Ready(VolumeId, String),
}

/// What this run did and saw.
#[derive(Debug, Default)]
struct Memory {
    made: BTreeMap<SnapshotId, (VolumeId, Instant)>,
    /// Since when no volume of a snapshot is shown.
    absent: BTreeMap<SnapshotId, Instant>,
    unseen: BTreeMap<SnapshotId, Instant>,
    /// When EC2 accepted to attach it.
    asked: BTreeMap<VolumeId, Instant>,
    taken_names: BTreeSet<String>,
    tries: Tries,
    said: Vec<String>,
}

/// One look.
struct Seen {
    snapshots: BTreeMap<SnapshotId, SnapshotDetails>,
    volumes: Vec<VolumeDetails>,
    bench: Bench,
}

impl<E: Survey + Evidence + Change + Disks + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// What `evidence` would make: of the snapshots of these instances or of all, on this host or on that of the incident.
    ///
    /// # Errors
    /// There is no snapshot, no host, no room on it, or a call failed.
    pub async fn volume_order(
        &self,
        incident: Incident,
        only: &BTreeSet<InstanceId>,
        host: Option<&InstanceId>,
    ) -> Result<VolumeOrder, Trouble> {
        let bench = self.bench(&incident, host).await?;
        let exhibits = self.exhibits(&incident, only).await?;
        let volumes = self.volumes_of(exhibits.all.iter().map(|exhibit| exhibit.snapshot.clone()).collect()).await?;
        let found = exhibits.all.iter().filter_map(|exhibit| {
            Some((exhibit.snapshot.clone(), choose(&exhibit.snapshot, &volumes, &bench.id)?.clone()))
        });
        let order = VolumeOrder { found: found.collect(), incident, bench, exhibits };
        let loose = order.found.values().filter(|volume| !volume.is_attached).count();
        let needed = order.to_make().len() + loose;
        match order.bench.room {
            Some(room) if room < needed => Err(refused(&format!(
                "the forensic host {} ({}) takes {} more, and these are {needed}: name instances, take volumes away \
                 with --remove, or use a host of another type with --host",
                order.bench.id,
                order.bench.kind,
                count(room, "volume")
            ))),
            _ => Ok(order),
        }
    }

    /// Makes, attaches, and waits until each was read back attached. **Repeating it makes nothing twice.** What fails costs the others
    /// nothing.
    ///
    /// # Errors
    /// EC2 cannot be read.
    pub async fn make_volumes(
        &self,
        order: &VolumeOrder,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Attached, Trouble> {
        let began = Instant::now();
        let mut memory = Memory::default();
        self.note_found(order, &mut memory).await;
        loop {
            let seen = self.look_at_disks(order).await?;
            let exhibits = &order.exhibits.all;
            let standing: Vec<Standing> =
                exhibits.iter().map(|exhibit| memory.standing(exhibit, &seen, Instant::now())).collect();
            on_progress(&progress(order, &standing, began));
            for (exhibit, standing) in exhibits.iter().zip(&standing) {
                if let Standing::Failed(why) = standing {
                    memory.tries.give_up(&exhibit.snapshot, why.clone());
                }
            }
            if standing.iter().all(|standing| matches!(standing, Standing::Failed(_) | Standing::Ready(..))) {
                return Ok(attached(order, &seen, &standing, memory.said));
            }
            for (exhibit, standing) in exhibits.iter().zip(&standing) {
                match standing {
                    Standing::Make => self.make(order, exhibit, &mut memory).await,
                    Standing::Attach(volume) => self.put_on(&seen.bench, exhibit, volume, &mut memory).await,
                    _ => {}
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn volumes_of(&self, snapshots: BTreeSet<SnapshotId>) -> Result<Vec<VolumeDetails>, Trouble> {
        let found = self.ports.ec2.volumes(&VolumeQuery::OfSnapshots(snapshots)).await;
        Ok(found.map_err(cannot("the volumes cannot be read"))?.into_iter().filter(is_there).collect())
    }

    async fn look_at_disks(&self, order: &VolumeOrder) -> Result<Seen, Trouble> {
        let ids: BTreeSet<SnapshotId> = order.exhibits.all.iter().map(|exhibit| exhibit.snapshot.clone()).collect();
        let bench = self.ports.ec2.bench(&order.bench.id).await.map_err(cannot("the forensic host cannot be read"))?;
        // One that is not shown is looked at again: what EC2 says to a call about it decides.
        let bench = bench.unwrap_or_else(|| order.bench.clone());
        Ok(Seen { snapshots: self.shown(&ids).await?, volumes: self.volumes_of(ids).await?, bench })
    }

    async fn make(&self, order: &VolumeOrder, exhibit: &Exhibit, memory: &mut Memory) {
        let name = format!("{} {} {}", order.incident.stack_name, exhibit.instance, exhibit.device);
        let mut all = tags(exhibit, &order.incident, (ROLE_TAG, tag::EVIDENCE), &name);
        all.insert(tag::SNAPSHOT.to_owned(), exhibit.snapshot.to_string());
        let token = short_digest(&format!("{}|{}", self.request_id, exhibit.snapshot));
        let new = NewVolume {
            snapshot: &exhibit.snapshot,
            zone: &order.bench.zone,
            key: exhibit.details.key.as_deref(),
            tags: &all,
            token: &token,
        };
        match self.ports.ec2.make_volume(&new).await {
            Ok(volume) => {
                let what = format!("{}{volume} of {}, for {}", recorded::MADE, exhibit.snapshot, order.bench.id);
                memory.made.insert(exhibit.snapshot.clone(), (volume, Instant::now()));
                memory.said.extend(self.write_down(&order.incident, &exhibit.owner, &exhibit.instance, &what).await);
            }
            Err(error) => memory.tries.refusal(&exhibit.snapshot, &error, "no volume can be made of it"),
        }
    }

    async fn put_on(&self, bench: &Bench, exhibit: &Exhibit, volume: &VolumeId, memory: &mut Memory) {
        let taken: BTreeSet<String> = bench.devices.keys().chain(&memory.taken_names).cloned().collect();
        let Some(device) = devices::free(&taken) else {
            let why = format!("{} has no device name left for {volume}", bench.id);
            memory.tries.give_up(&exhibit.snapshot, why);
            return;
        };
        memory.taken_names.insert(device.clone());
        match self.ports.ec2.attach(volume, &bench.id, &device).await {
            Ok(()) => drop(memory.asked.insert(volume.clone(), Instant::now())),
            // Somebody took the name meanwhile.
            Err(error) if error.code == "InvalidParameterValue" && error.message.contains("in use") => {}
            Err(error) => {
                memory.taken_names.remove(&device);
                let what = match error.code.as_str() {
                    "AttachmentLimitExceeded" => {
                        format!("{} takes no more volumes, so {volume} is not attached", bench.id)
                    }
                    _ => format!("{volume} cannot be attached to {}", bench.id),
                };
                memory.tries.refusal(&exhibit.snapshot, &error, &what);
            }
        }
    }

    /// Volumes that are there and that no record names: an earlier run that was ended made them, or a person who writes
    /// our tags.
    async fn note_found(&self, order: &VolumeOrder, memory: &mut Memory) {
        let mut found: BTreeMap<&InstanceId, Vec<&Exhibit>> = BTreeMap::new();
        for exhibit in &order.exhibits.all {
            let record = order.incident.ledger.records.get(&exhibit.instance);
            let recorded = record.map(|record| recorded::volumes(record)).unwrap_or_default();
            if order.found.get(&exhibit.snapshot).is_some_and(|volume| !recorded.contains(&volume.id)) {
                found.entry(&exhibit.instance).or_default().push(exhibit);
            }
        }
        for (instance, exhibits) in found {
            let Some(first) = exhibits.first() else { continue };
            let pairs = exhibits.iter().filter_map(|exhibit| {
                Some(format!("{} of {}", order.found.get(&exhibit.snapshot)?.id, exhibit.snapshot))
            });
            let pairs = comma_list(pairs);
            memory.said.push(format!(
                "{pairs}: was there, and no record named it: in doubt take it away with --remove, and make it again"
            ));
            let what = format!("{}{pairs}", recorded::FOUND);
            memory.said.extend(self.write_down(&order.incident, &first.owner, instance, &what).await);
        }
    }
}

impl Memory {
    /// Pure, but for what it remembers of readings that show nothing.
    fn standing(&mut self, exhibit: &Exhibit, seen: &Seen, now: Instant) -> Standing {
        let id = &exhibit.snapshot;
        if let Some(why) = self.tries.failed.get(id) {
            return Standing::Failed(why.clone());
        }
        let volume = choose(id, &seen.volumes, &seen.bench.id);
        let volume = volume.or_else(|| {
            let (made, _) = self.made.get(id)?;
            seen.volumes.iter().find(|volume| volume.id == *made)
        });
        if let Some(volume) = volume {
            self.absent.remove(id);
            return self.standing_of(volume, &seen.bench, now);
        }
        if let Some((made, at)) = self.made.get(id) {
            return match now.duration_since(*at) < VANISHED {
                true => Standing::Waits,
                false => Standing::Failed(format!(
                    "{made} was made, and EC2 took it away again: mostly its key may not be used, see kms in CloudTrail"
                )),
            };
        }
        let Some(details) = seen.snapshots.get(id) else {
            let since = *self.unseen.entry(id.clone()).or_insert(now);
            return match now.duration_since(since) < LOOK_AGAIN {
                true => Standing::Waits,
                false => Standing::Failed("EC2 does not show the snapshot any more".to_owned()),
            };
        };
        self.unseen.remove(id);
        match details.state.as_str() {
            "completed" => {
                let since = *self.absent.entry(id.clone()).or_insert(now);
                if now.duration_since(since) < LOOK_AGAIN { Standing::Waits } else { Standing::Make }
            }
            "error" => Standing::Failed(failed_snapshot(details)),
            _ => Standing::Pending(details.percent),
        }
    }

    fn standing_of(&self, volume: &VolumeDetails, bench: &Bench, now: Instant) -> Standing {
        let id = &volume.id;
        if volume.zone != bench.zone {
            return Standing::Failed(format!(
                "{id} is there, but in {}, and the forensic host in {}: take it away with --remove first",
                volume.zone, bench.zone
            ));
        }
        match (&volume.attachment, volume.state.as_str()) {
            (Some(at), _) if at.instance != bench.id => Standing::Failed(format!(
                "{id} is there, but attached to {}: detach it there, or name that host with --host",
                at.instance
            )),
            (Some(at), _) if at.state == "attached" => Standing::Ready(id.clone(), at.device.clone()),
            (None, "error") => {
                Standing::Failed(format!("{id} is in state error: take it away with --remove, and try again"))
            }
            (None, "available") => match self.asked.get(id) {
                Some(at) if now.duration_since(*at) < ACCEPTED => Standing::Waits,
                _ => Standing::Attach(id.clone()),
            },
            _ => Standing::Waits,
        }
    }
}

/// Of several volumes the one that the host has.
fn choose<'a>(snapshot: &SnapshotId, volumes: &'a [VolumeDetails], bench: &InstanceId) -> Option<&'a VolumeDetails> {
    let of_it = || volumes.iter().filter(|volume| is_of(volume, snapshot));
    let is_here = |volume: &&VolumeDetails| volume.attachment.as_ref().is_some_and(|at| at.instance == *bench);
    of_it().find(is_here).or_else(|| of_it().min_by_key(|volume| &volume.id))
}

fn progress(order: &VolumeOrder, standing: &[Standing], began: Instant) -> Progress {
    let pending: Vec<u8> = standing
        .iter()
        .filter_map(|standing| match standing {
            Standing::Pending(percent) => Some(*percent),
            _ => None,
        })
        .collect();
    let status = match pending.as_slice() {
        [] => String::new(),
        all => {
            let percent = all.iter().map(|percent| usize::from(*percent)).sum::<usize>() / all.len();
            format!("waits for {}, {percent}% done", count(all.len(), "snapshot"))
        }
    };
    Progress {
        stack: order.incident.stack_name.clone(),
        status,
        seconds: began.elapsed().as_secs(),
        done: standing.iter().filter(|standing| matches!(standing, Standing::Ready(..))).count(),
        total: standing.iter().filter(|standing| !matches!(standing, Standing::Failed(_))).count(),
        what: "volumes attached",
    }
}

fn attached(order: &VolumeOrder, seen: &Seen, standing: &[Standing], noted: Vec<String>) -> Attached {
    let bench = &order.bench;
    let disks: Vec<Disk> = order
        .exhibits
        .all
        .iter()
        .zip(standing)
        .map(|(exhibit, standing)| {
            let (volume, device, why) = match standing {
                Standing::Ready(volume, device) => (Some(volume), Some(device.clone()), None),
                Standing::Failed(why) => (
                    choose(&exhibit.snapshot, &seen.volumes, &bench.id).map(|volume| &volume.id),
                    None,
                    Some(why.clone()),
                ),
                _ => (None, None, None),
            };
            let path = volume.zip(device.as_ref()).map(|(volume, device)| devices::path(volume, device, bench.is_nvme));
            Disk {
                instance: exhibit.instance.to_string(),
                of_volume: exhibit.volume.to_string(),
                of_device: exhibit.device.clone(),
                snapshot: exhibit.snapshot.to_string(),
                gib: exhibit.details.gib,
                volume: volume.map(ToString::to_string),
                device,
                path,
                why,
            }
        })
        .collect();
    let failed = disks.iter().filter(|of| of.why.is_some()).map(|of| of.snapshot.as_str());
    let said = order.exhibits.said(&failed.collect::<Vec<_>>(), noted);
    Attached {
        schema_version: SCHEMA_VERSION,
        incident: order.incident.stack_name.clone(),
        host: bench.id.to_string(),
        zone: bench.zone.clone(),
        failed: !said.is_empty() || disks.iter().any(|disk| disk.why.is_some()),
        script: super::commands::mount(&disks),
        disks,
        said,
    }
}
