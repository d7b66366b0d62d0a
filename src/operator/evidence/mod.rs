//! `evidence`: the snapshots of an incident as evidence. Volumes of them on the forensic host, and away again; copies for another
//! account; a manifest of what is in them.
//!
//! **Only a snapshot that a record names is one of the incident**, and only a volume or a copy that was made of it is
//! touched: the attacker may write tags. What is made and removed stands in the history of the record.

mod attach;
mod commands;
mod devices;
mod digest;
pub(super) mod left;
mod manifest;
pub(super) mod recorded;
mod remove;
mod share;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::incident::Incident;
use super::{Operator, Trouble, refused};
use crate::model::{InstanceId, Owner, ROLE_TAG, SnapshotId, VolumeId, comma_list};
use crate::operator::ports::disks::{Bench, Disks};
use crate::operator::ports::{Archive, Evidence, SnapshotDetails, SnapshotQuery, Survey, VolumeDetails};
use crate::operator::stack::StackLife;
use crate::plan::tag;
use crate::ports::{CallError, Change, Stamp, Written};

pub use attach::{Attached, Disk, VolumeOrder};
pub(super) use manifest::digests;
pub use manifest::{Digest, Held, Manifest};
pub use remove::{Removal, Removed};
pub use share::{ShareOrder, Shared, SharedSnapshot};

/// Changes with the meaning of a field of what these commands answer.
const SCHEMA_VERSION: u32 = 1;
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A reading that shows nothing is believed when it was read again so much later.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A call that may succeed a little later is tried so often.
const TRIES: u32 = 10;
/// The value of the tag `Purpose` if the incident says none, as in the template.
const PURPOSE: &str = "forensics";

/// A snapshot of the incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exhibit {
    pub snapshot: SnapshotId,
    pub instance: InstanceId,
    pub owner: Owner,
    /// What it is a snapshot of.
    pub volume: VolumeId,
    /// Where the volume was.
    pub device: String,
    pub details: SnapshotDetails,
}

impl Exhibit {
    fn is_failed(&self) -> bool {
        self.details.state == "error"
    }

    /// `snap-… of vol-… of i-…`
    fn name(&self) -> String {
        format!("{} of {} of {}", self.snapshot, self.volume, self.instance)
    }
}

/// The snapshots of an incident, and what is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exhibits {
    pub all: Vec<Exhibit>,
    pub wrong: Vec<String>,
}

impl Exhibits {
    /// What is wrong with them, but for those that failed, which are named with why, and what else is to be said.
    fn said(&self, failed: &[&str], noted: Vec<String>) -> Vec<String> {
        let is_named = |wrong: &&String| failed.iter().any(|snapshot| wrong.starts_with(snapshot));
        self.wrong.iter().filter(|wrong| !is_named(wrong)).cloned().chain(noted).collect()
    }
}

/// How often what is done for each snapshot was tried, and why it was given up.
#[derive(Debug, Default)]
struct Tries {
    made: BTreeMap<SnapshotId, u32>,
    failed: BTreeMap<SnapshotId, String>,
}

impl Tries {
    /// Counts one; whether it is the last.
    fn is_last(&mut self, snapshot: &SnapshotId) -> bool {
        let made = self.made.entry(snapshot.clone()).or_default();
        *made += 1;
        *made >= TRIES
    }

    fn give_up(&mut self, snapshot: &SnapshotId, why: String) {
        self.failed.insert(snapshot.clone(), why);
    }

    fn refusal(&mut self, snapshot: &SnapshotId, error: &CallError, what: &str) {
        if self.is_last(snapshot) || !error.fault.may_pass() {
            self.give_up(snapshot, format!("{what}: {error}"));
        }
    }
}

/// Refuses instances of which the incident has no record.
fn check_recorded(incident: &Incident, only: &BTreeSet<InstanceId>) -> Result<(), Trouble> {
    let unknown: Vec<_> = only.iter().filter(|id| !incident.ledger.records.contains_key(*id)).collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(refused(&format!("{} has no record of {}", incident.stack_name, comma_list(unknown)))),
    }
}

fn cannot(what: &'static str) -> impl Fn(CallError) -> Trouble {
    move |error| Trouble::Failed { what, error }
}

impl<E: Survey + Evidence + Change + Disks + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// The snapshots of these instances, or of all.
    pub(super) async fn exhibits(&self, incident: &Incident, only: &BTreeSet<InstanceId>) -> Result<Exhibits, Trouble> {
        let records = &incident.ledger.records;
        check_recorded(incident, only)?;
        let records: Vec<_> =
            records.values().filter(|record| only.is_empty() || only.contains(&record.instance)).collect();
        let ids: BTreeSet<SnapshotId> =
            records.iter().flat_map(|record| record.snapshots.taken.values().cloned()).collect();
        let mut wrong: Vec<String> = Vec::new();
        for record in records.iter().filter(|record| record.snapshots.taken.is_empty()) {
            wrong.push(match record.snapshots.requested {
                true => format!("{}: its snapshots were asked for, and which ones is not recorded", record.instance),
                false => format!("{}: its record names no snapshot", record.instance),
            });
        }
        let mut shown = self.shown(&ids).await?;
        if shown.len() < ids.len() {
            tokio::time::sleep(LOOK_AGAIN).await;
            shown.extend(self.shown(&ids).await?);
        }
        let mut all = Vec::new();
        for record in records {
            for (volume, snapshot) in &record.snapshots.taken {
                let Some(details) = shown.get(snapshot).cloned() else {
                    wrong.push(format!(
                        "{snapshot} of {volume} of {}: EC2 does not show it, it may be deleted",
                        record.instance
                    ));
                    continue;
                };
                let attached = incident.instance(&record.instance).and_then(|instance| instance.volumes.get(volume));
                let device =
                    attached.map(|volume| volume.device.clone()).or_else(|| details.tags.get(tag::DEVICE).cloned());
                let exhibit = Exhibit {
                    snapshot: snapshot.clone(),
                    instance: record.instance.clone(),
                    owner: record.owner.clone(),
                    volume: volume.clone(),
                    device: device.unwrap_or_default(),
                    details,
                };
                if exhibit.is_failed() {
                    wrong.push(format!("{}: {}", exhibit.name(), failed_snapshot(&exhibit.details)));
                }
                all.push(exhibit);
            }
        }
        if all.is_empty() && wrong.is_empty() {
            return Err(refused(&format!("{} has no record of an instance", incident.stack_name)));
        }
        Ok(Exhibits { all, wrong })
    }

    /// As EC2 shows them now.
    async fn shown(&self, ids: &BTreeSet<SnapshotId>) -> Result<BTreeMap<SnapshotId, SnapshotDetails>, Trouble> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.ports.ec2.snapshot_details(&SnapshotQuery::Ids(ids.clone())).await;
        let found = found.map_err(cannot("the snapshots cannot be read"))?;
        Ok(found.into_iter().map(|details| (details.id.clone(), details)).collect())
    }

    /// The forensic host that takes volumes: the one that is named, or that of the incident.
    async fn bench(&self, incident: &Incident, named: Option<&InstanceId>) -> Result<Bench, Trouble> {
        let id = match named {
            Some(id) => id.clone(),
            None => incident.host.clone()?.ok_or_else(|| {
                refused(&format!(
                    "{} has no forensic host: make one with ec2-isolation host, or name another with --host i-…",
                    incident.stack_name
                ))
            })?,
        };
        if incident.ledger.records.contains_key(&id) {
            return Err(refused(&format!("{id} is an instance of the incident, not its forensic host")));
        }
        let found = self.ports.ec2.bench(&id).await.map_err(cannot("the forensic host cannot be read"))?;
        let found = found.ok_or_else(|| refused(&format!("there is no instance {id}")))?;
        if !matches!(found.state.as_str(), "running" | "stopped") {
            return Err(refused(&format!("the forensic host {id} is {}: EC2 attaches nothing to it", found.state)));
        }
        Ok(found)
    }

    /// Adds a line to the history of the record. What became of it, if it was not written.
    async fn write_down(
        &self,
        incident: &Incident,
        owner: &Owner,
        instance: &InstanceId,
        what: &str,
    ) -> Option<String> {
        let stamp = Stamp { now: self.clock.now(), asked_by: &self.asked_by, writer: &self.request_id };
        let records = self.ports.records.named(&incident.table);
        match records.note(owner, instance, &stamp.line(what)).await {
            Ok(Written::Done) => None,
            Ok(_) => Some(format!("{instance}: not in its record, which another stack holds by now: {what}")),
            Err(error) => Some(format!("{instance}: not in its record: {what}: {error}")),
        }
    }
}

fn failed_snapshot(details: &SnapshotDetails) -> String {
    let why = details.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("EC2 could not finish the snapshot{why}")
}

/// Whether a volume was made of this snapshot by this command: what EC2 says it was made of counts, the tags alone do not.
fn is_of(volume: &VolumeDetails, snapshot: &SnapshotId) -> bool {
    let says = |key: &str, value: &str| volume.tags.get(key).is_some_and(|found| found == value);
    volume.snapshot.as_ref() == Some(snapshot)
        && says(ROLE_TAG, tag::EVIDENCE)
        && says(tag::SNAPSHOT, snapshot.as_str())
}

/// One that is going, or gone, is no volume any more.
fn is_there(volume: &VolumeDetails) -> bool {
    !matches!(volume.state.as_str(), "deleting" | "deleted")
}

/// For people who find it in the console, and for the program, which never trusts them alone.
fn tags(exhibit: &Exhibit, incident: &Incident, role: (&str, &str), name: &str) -> BTreeMap<String, String> {
    let stack = incident.stack.as_ref();
    let by_parameter = stack.and_then(|stack| stack.parameters.get("PurposeTag"));
    let purpose = by_parameter.or_else(|| exhibit.details.tags.get(tag::PURPOSE)).map_or(PURPOSE, String::as_str);
    let tags = [
        (tag::STACK, exhibit.owner.stack_id.as_str()),
        role,
        (tag::INSTANCE, exhibit.instance.as_str()),
        (tag::VOLUME, exhibit.volume.as_str()),
        (tag::DEVICE, exhibit.device.as_str()),
        ("Purpose", purpose),
        ("Name", name),
    ];
    tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
