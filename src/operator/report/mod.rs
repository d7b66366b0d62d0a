//! `report`: an incident for the case file, made from what is read at one moment. It changes nothing.
//!
//! A [`Report`] is data; Markdown, HTML and JSON are three renderings of it. **Names, tags and the notes of requests may have been
//! written by the attacker**: each rendering escapes all that it shows.

mod document;
mod render;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::evidence::{Manifest, digests, left, recorded};
use super::incident::Incident;
use super::{Operator, Status, Trouble};
use crate::model::{Record, SnapshotId};
use crate::operator::ports::approval::Questions;
use crate::operator::ports::{Archive, Evidence, SnapshotDetails, SnapshotQuery, Survey, Trail};
use crate::operator::stack::{StackLife, StackTimes};
use crate::plan::tag;
use crate::ports::{Change, INTENT_PREFIX};

pub use render::Format;
pub use timeline::{Containment, Event, Source};

/// Changes with the meaning of a field of [`Report`].
const SCHEMA_VERSION: u32 = 1;

/// What isolation does not cover, whatever the incident: docs/reference/behaviour.md, "What it does not cut", and the threat model.
const NOT_COVERED: [&str; 12] = [
    "A connection that EC2 goes on tracking may live on, as through a NAT gateway, a load balancer, a transit gateway or PrivateLink. A network ACL ends it.",
    "No API of AWS shows whether a connection has ended, so this report does not claim it of any.",
    "Security groups do not filter the Amazon DNS resolver, the metadata service, Amazon Time Sync, DHCP and Windows activation. DNS tunnels go on working.",
    "Credentials that the instance was given are valid until they expire, unless they are denied. Sessions of other roles that were assumed with them are not.",
    "Other instances, credentials and access to the account that the attacker has are not touched.",
    "What runs on an isolated instance goes on, and may delete or encrypt what is on it. The snapshots are the evidence.",
    "The memory of an instance is in no snapshot, and ends when it is stopped.",
    "An instance store volume is in no snapshot, and ends with the instance.",
    "A branch interface of a trunk, as pods of EKS and tasks of ECS have it, keeps its groups.",
    "Traffic of an Elastic Fabric Adapter that bypasses the operating system may not be filtered.",
    "An instance that is in a target group but in no Auto Scaling group stays registered with the load balancer.",
    "The watch tells of an interface that is attached later, and isolates it only with Watch=Isolate. A volume that is attached later is snapshotted by the next update of the stack only.",
];

/// An incident as it was read at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Of this shape: a field that is there stays, with its meaning, until this number changes.
    pub schema_version: u32,
    pub incident: String,
    pub account: String,
    pub region: String,
    /// In UTC, as every time here.
    pub made_at: String,
    /// The ARN of who asked for it.
    pub made_by: String,
    /// Name and version of what made it.
    pub program: String,
    /// The stacks that hold the records, or held them, by their ids.
    pub stacks: BTreeMap<String, Times>,
    /// As `status --output json` shows it: what is not isolated first, interfaces before and now, the next steps.
    pub status: Status,
    /// What the trigger isolated for, in the order of their ids.
    pub findings: Vec<Finding>,
    pub containments: Vec<Containment>,
    /// Oldest first.
    pub timeline: Vec<Event>,
    /// What the timeline was made from, and what of it could not be read.
    pub sources: Vec<Source>,
    pub snapshots: Vec<Snapshot>,
    /// Interfaces whose connections from before may be open.
    pub not_cut: Vec<NotCut>,
    pub not_covered: Vec<&'static str>,
    /// The SHA-256 of each item of the records table, by its key, as it was read.
    pub records: BTreeMap<String, String>,
    /// What `evidence --manifest` wrote, if it was given.
    pub manifest: Option<Enclosed>,
}

/// A finding, or several at once, that the trigger made this incident for or extended it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// As the trigger's message and `Rerun` name it. The finding's own id stands in `about`.
    pub id: String,
    /// A line for each finding, or nothing if the table does not say.
    pub about: Option<String>,
    pub answered_by: Option<String>,
    /// The instances that were asked for because of it.
    pub instances: BTreeSet<String>,
}

/// A manifest whose file was as its own digest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enclosed {
    /// The digest in the file.
    pub sha256: String,
    #[serde(flatten)]
    pub manifest: Manifest,
}

/// When CloudFormation made, changed and deleted a stack, as far as it still knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    pub deleted_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    pub id: String,
    pub volume: Option<String>,
    pub instance: Option<String>,
    /// The snapshot that it is a copy of, for another account.
    pub copy_of: Option<String>,
    /// Of the volume; EC2 does not say how much of it a snapshot takes.
    pub gib: Option<u64>,
    /// EC2's word, or nothing if EC2 does not show the snapshot.
    pub state: Option<String>,
    pub is_encrypted: Option<bool>,
    pub key: Option<String>,
    /// `governance`, `compliance`, `compliance-cooloff`, `none`, or nothing if it is not known.
    pub lock: Option<String>,
    pub started_at: Option<String>,
    /// A record names it.
    pub is_recorded: bool,
    /// Of its image, as the manifest says.
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCut {
    pub instance: String,
    pub name: Option<String>,
    pub interfaces: Vec<String>,
}

impl<E: Survey + Evidence + Change + Clone, R: Archive + Questions, S: StackLife + Clone> Operator<E, R, S> {
    /// Everything that there is to say of an incident now. What cannot be read is said, and fails nothing.
    ///
    /// # Errors
    /// The manifest is of another incident.
    pub async fn report(
        &self,
        incident: &Incident,
        trail: &impl Trail,
        manifest: Option<(Manifest, String)>,
    ) -> Result<Report, Trouble> {
        if let Some((manifest, _)) = &manifest {
            manifest.check_incident(incident, &self.site.account, &self.site.region)?;
        }
        let made_at = self.clock.now().to_string();
        let status = self.status(incident).await;
        let mut sources = vec![Source::new("records", format!("The records table {} was read.", incident.table))];
        let mut stacks = BTreeMap::new();
        for id in stack_ids(incident) {
            match self.ports.stacks.times(&id).await {
                Ok(times) => drop(stacks.insert(id, times.unwrap_or_default())),
                Err(error) => {
                    sources.push(Source::new(
                        "stack",
                        format!("When the stack was made and changed is not known: {error}."),
                    ));
                    stacks.insert(id, StackTimes::default());
                }
            }
        }
        let (mut snapshots, said) = self.snapshots(incident, stacks.keys().cloned().collect()).await;
        if let Some((manifest, _)) = &manifest {
            let digests = digests(manifest);
            for snapshot in &mut snapshots {
                snapshot.sha256 = digests.get(snapshot.id.as_str()).map(|digest| digest.value.clone());
            }
        }
        sources.extend(said);
        let (findings, said) = self.findings(incident).await;
        sources.extend(said);
        let (seen, said) = timeline::ask(trail, &stacks, &status).await;
        sources.push(said);
        let timeline = timeline::timeline(incident, &stacks, &seen);
        Ok(Report {
            schema_version: SCHEMA_VERSION,
            incident: incident.stack_name.clone(),
            account: self.site.account.clone(),
            region: self.site.region.clone(),
            made_at,
            made_by: self.site.caller.clone(),
            program: concat!("ec2-isolation ", env!("CARGO_PKG_VERSION")).to_owned(),
            stacks: stacks.iter().map(|(id, times)| (id.clone(), Times::of(times))).collect(),
            findings,
            containments: timeline::containments(&timeline, &status),
            timeline,
            sources,
            snapshots,
            not_cut: not_cut(incident, &status),
            not_covered: NOT_COVERED.to_vec(),
            records: incident.digests(),
            manifest: manifest.map(|(manifest, sha256)| Enclosed { sha256, manifest }),
            status,
        })
    }

    /// What the trigger knows of the findings that the records name.
    async fn findings(&self, incident: &Incident) -> (Vec<Finding>, Vec<Source>) {
        let (mut found, mut said) = (Vec::new(), Vec::new());
        let table = self.ports.records.named(&incident.table);
        for (id, instances) in timeline::findings(incident) {
            let question = table.question(&id).await.unwrap_or_else(|error| {
                said.push(Source::new("findings", format!("What finding {id} says is not known: {error}.")));
                None
            });
            let (about, answered_by) = question.map_or((None, None), |known| (Some(known.about), known.answered_by));
            found.push(Finding { id, about, answered_by, instances });
        }
        (found, said)
    }

    /// The snapshots that the records or their own tags name.
    async fn snapshots(&self, incident: &Incident, stacks: BTreeSet<String>) -> (Vec<Snapshot>, Vec<Source>) {
        let mut said = Vec::new();
        let mut not_known = |what: &str, error| {
            said.push(Source::new("snapshots", format!("{what} not known: {error}.")));
        };
        let records = || incident.ledger.records.values().map(AsRef::as_ref);
        let recorded = recorded::snapshots(records());
        let copies = left::copies(records());
        let mut found = BTreeMap::new();
        for query in [
            SnapshotQuery::Ids(recorded.keys().chain(copies.keys()).cloned().collect()),
            SnapshotQuery::OfStacks(stacks),
        ] {
            match self.ports.ec2.snapshot_details(&query).await {
                Ok(all) => found.extend(all.into_iter().map(|details| (details.id.clone(), details))),
                Err(error) => not_known("Size, key and state of snapshots are", error),
            }
        }
        let ids: BTreeSet<SnapshotId> = recorded.keys().chain(copies.keys()).chain(found.keys()).cloned().collect();
        let locks = if ids.is_empty() { Ok(BTreeMap::new()) } else { self.ports.ec2.locks(&ids).await };
        let locks = locks.map_err(|error| not_known("Whether snapshots are locked is", error)).ok();
        let shown = ids.iter().map(|id| {
            let lock = locks.as_ref().map(|locks| locks.get(id).map_or_else(|| "none".to_owned(), ToString::to_string));
            let details = found.get(id);
            let known = recorded.get(copies.get(id).unwrap_or(id));
            let volume = known.and_then(|known| known.volume.as_ref());
            let tagged = details.and_then(|details| details.tags.get(tag::COPY_OF));
            Snapshot {
                id: id.to_string(),
                volume: volume.or_else(|| details?.volume.as_ref()).map(ToString::to_string),
                instance: known.map(|known| known.instance.to_string()).or_else(|| instance_of(details?)),
                copy_of: copies.get(id).map(ToString::to_string).or_else(|| tagged.cloned()),
                gib: details.map(|details| details.gib),
                state: details.map(|details| details.state.clone()),
                is_encrypted: details.map(|details| details.is_encrypted),
                key: details.and_then(|details| details.key.clone()),
                lock: lock.filter(|_| details.is_some()),
                started_at: details.and_then(|details| details.started_at).map(|at| at.to_string()),
                is_recorded: known.is_some(),
                sha256: None,
            }
        });
        (shown.collect(), said)
    }
}

/// What its tag says; each person who may write tags may have written it.
fn instance_of(snapshot: &SnapshotDetails) -> Option<String> {
    snapshot.tags.get(tag::INSTANCE).cloned()
}

impl Times {
    fn of(times: &StackTimes) -> Self {
        let text = |at: Option<crate::model::Time>| at.map(|at| at.to_string());
        Self { created_at: text(times.created), updated_at: text(times.updated), deleted_at: text(times.deleted) }
    }
}

/// The stack, and each that holds a record or held it last.
fn stack_ids(incident: &Incident) -> BTreeSet<String> {
    let owners = incident.ledger.records.values().map(|record| record.owner.stack_id.clone());
    owners.chain(incident.stack.as_ref().map(|stack| stack.id.clone())).collect()
}

/// Those that did not pass the transit group and are isolated; of what was restored nothing is to be cut.
fn not_cut(incident: &Incident, status: &Status) -> Vec<NotCut> {
    let is_open = |record: &&Record| !record.connections_cut;
    let records = incident.held().filter(is_open).map(|record| {
        let left = record.interfaces.keys().filter(|id| !record.passed.contains(*id)).map(ToString::to_string);
        let instance = record.instance.to_string();
        let name = status.instances.iter().find(|found| found.id == instance).and_then(|found| found.name.clone());
        NotCut { instance, name, interfaces: left.collect() }
    });
    records.collect()
}

impl Incident {
    /// Of the items that are about this incident.
    fn digests(&self) -> BTreeMap<String, String> {
        let records = self.ledger.records.keys().map(ToString::to_string);
        let intents = self.ledger.intents.keys().map(|digest| format!("{INTENT_PREFIX}{digest}"));
        let keys: BTreeSet<String> = records.chain(intents).chain(self.ledger.unreadable.keys().cloned()).collect();
        let own = self.ledger.digests.iter().filter(|(key, _)| keys.contains(*key));
        own.map(|(key, digest)| (key.clone(), digest.clone())).collect()
    }
}
