//! What is in the snapshots, written down: the chain of custody, itself hashed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::digest::image;
use super::{Exhibit, LOOK_EVERY, SCHEMA_VERSION, failed_snapshot, recorded};
use crate::model::{InstanceId, SnapshotId};
use crate::operator::incident::Incident;
use crate::operator::ports::disks::{Blocks, Disks};
use crate::operator::ports::{Archive, Evidence, Survey};
use crate::operator::stack::StackLife;
use crate::operator::{Operator, Progress, Trouble, refused, seal};
use crate::ports::Change;

/// What the file says that it is.
const KIND: &str = "ec2-isolation evidence manifest";
const MIB: u64 = 1 << 20;

/// The snapshots of an incident, each with the digest of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub kind: String,
    /// Of this shape: a field that is there stays, with its meaning, until this number changes.
    pub schema_version: u32,
    pub incident: String,
    /// The stacks whose records name the snapshots, by their ids.
    pub stacks: BTreeSet<String>,
    pub account: String,
    pub region: String,
    pub table: String,
    /// In UTC, as every time here.
    pub begun_at: String,
    pub ended_at: String,
    /// The ARN of who asked for it.
    pub made_by: String,
    /// Name and version of what made it.
    pub program: String,
    /// Every snapshot that the records name has a digest, and the records say so.
    pub is_complete: bool,
    pub snapshots: Vec<Held>,
    /// What is missing or not known, and why.
    pub said: Vec<String>,
    /// How to compare this file with the digest at its end.
    pub to_check: String,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub snapshot: String,
    pub instance: String,
    pub volume: String,
    pub device: String,
    pub gib: u64,
    pub state: String,
    pub is_encrypted: bool,
    pub key: Option<String>,
    /// The mode of its lock and its end, `none`, or nothing if it is not known.
    pub lock: Option<String>,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub digest: Option<Digest>,
    /// Why there is no digest.
    pub why: Option<String>,
}

/// Of the image of the whole volume, `gib` GiB long: blocks that were never written are zeros. `sha256sum` of a volume that is made of
/// the snapshot says the same. Each block was compared with the checksum that EBS gave with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    pub algorithm: String,
    pub value: String,
    pub bytes: u64,
    pub block_size: u64,
    /// Blocks that were written, and read.
    pub blocks: u64,
    pub begun_at: String,
    pub ended_at: String,
}

impl Manifest {
    /// The file, with its own digest in its last line but one.
    #[must_use]
    pub fn sealed(&self) -> String {
        seal::seal(self)
    }

    /// Reads a file of [`Manifest::sealed`], and its digest.
    ///
    /// # Errors
    /// It is none, it was changed since, or it is of a newer kind.
    pub fn read(text: &str, file: &str) -> Result<(Self, String), Trouble> {
        let digest = seal::open(text).ok_or_else(|| {
            refused(&format!("{file} is no manifest as it was written: its SHA-256 is not that of its lines"))
        })?;
        let manifest: Self =
            serde_json::from_str(text).map_err(|error| refused(&format!("{file} is no manifest: {error}")))?;
        if manifest.kind != KIND || manifest.schema_version != SCHEMA_VERSION {
            return Err(refused(&format!("{file} is no manifest that this version can read")));
        }
        Ok((manifest, digest))
    }

    /// Refuses one of another incident.
    pub(in crate::operator) fn check_incident(
        &self,
        incident: &Incident,
        account: &str,
        region: &str,
    ) -> Result<(), Trouble> {
        let stacks: BTreeSet<&String> = incident.ledger.records.values().map(|record| &record.owner.stack_id).collect();
        let is_of_it = self.stacks.iter().any(|stack| stacks.contains(stack));
        if is_of_it && self.account == account && self.region == region {
            return Ok(());
        }
        Err(refused(&format!(
            "the manifest is of incident {} in account {}, region {}",
            self.incident, self.account, self.region
        )))
    }
}

impl<E: Survey + Evidence + Change + Disks + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Reads every block of the snapshots of these instances, or of all, and writes the digests into the records. Waits for those that
    /// are pending. What cannot be read is said, and costs the others nothing. `file` is its name, for the command that checks it.
    ///
    /// # Errors
    /// There is no snapshot, or a call failed that all depends on.
    pub async fn manifest(
        &self,
        incident: &Incident,
        only: &BTreeSet<InstanceId>,
        ebs: &impl Blocks,
        file: &str,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Manifest, Trouble> {
        let began = Instant::now();
        let begun_at = self.clock.now().to_string();
        let exhibits = self.exhibits(incident, only).await?;
        let mut said = Vec::new();
        let mut missing = exhibits.wrong.clone();
        let ids: BTreeSet<SnapshotId> = exhibits.all.iter().map(|exhibit| exhibit.snapshot.clone()).collect();
        let locks = self.ports.ec2.locks(&ids).await;
        let locks =
            locks.map_err(|error| said.push(format!("Whether snapshots are locked is not known: {error}"))).ok();
        let mut snapshots = Vec::new();
        let total = exhibits.all.len();
        for (n, exhibit) in exhibits.all.iter().enumerate() {
            let show = |status: String, done: u64, all: u64| {
                on_progress(&Progress {
                    stack: exhibit.snapshot.to_string(),
                    status,
                    seconds: began.elapsed().as_secs(),
                    done: usize::try_from(done / MIB).unwrap_or(usize::MAX),
                    total: usize::try_from(all / MIB).unwrap_or(usize::MAX),
                    what: "MiB hashed",
                });
            };
            let which = format!("({} of {total})", n + 1);
            let lock =
                locks.as_ref().map(|locks| locks.get(&exhibit.snapshot).map_or("none".to_owned(), ToString::to_string));
            let mut held = Held::of(exhibit, lock);
            match self.complete(exhibit, |percent| show(format!("{which}, waits for it, {percent}% done"), 0, 0)).await
            {
                Ok(complete) => held = Held { state: complete.details.state.clone(), ..Held::of(&complete, held.lock) },
                Err(why) => {
                    held.why = Some(why);
                    snapshots.push(held);
                    continue;
                }
            }
            let begun_at = self.clock.now().to_string();
            let read =
                image(ebs, &exhibit.snapshot, exhibit.details.gib << 30, &|done, all| show(which.clone(), done, all))
                    .await;
            match read {
                Ok(image) => {
                    let what = format!(
                        "{}SHA-256 {} of {}, {} bytes",
                        recorded::HASHED,
                        image.sha256,
                        exhibit.snapshot,
                        image.bytes
                    );
                    missing.extend(self.write_down(incident, &exhibit.owner, &exhibit.instance, &what).await);
                    held.digest = Some(Digest {
                        algorithm: "SHA-256".to_owned(),
                        value: image.sha256,
                        bytes: image.bytes,
                        block_size: image.block_size,
                        blocks: image.blocks,
                        begun_at,
                        ended_at: self.clock.now().to_string(),
                    });
                }
                Err(error) => held.why = Some(format!("its blocks cannot be read: {error}")),
            }
            snapshots.push(held);
        }
        let stacks = exhibits.all.iter().map(|exhibit| exhibit.owner.stack_id.clone()).collect();
        Ok(Manifest {
            kind: KIND.to_owned(),
            schema_version: SCHEMA_VERSION,
            incident: incident.stack_name.clone(),
            stacks,
            account: self.site.account.clone(),
            region: self.site.region.clone(),
            table: incident.table.clone(),
            begun_at,
            ended_at: self.clock.now().to_string(),
            made_by: self.site.caller.clone(),
            program: concat!("ec2-isolation ", env!("CARGO_PKG_VERSION")).to_owned(),
            is_complete: missing.is_empty() && snapshots.iter().all(|held| held.digest.is_some()),
            snapshots,
            said: missing.into_iter().chain(said).collect(),
            to_check: seal::check(file),
        })
    }

    /// The snapshot when EC2 has completed it, or why that will not be.
    async fn complete(&self, exhibit: &Exhibit, on_progress: impl Fn(u8)) -> Result<Exhibit, String> {
        let mut seen = exhibit.clone();
        loop {
            match seen.details.state.as_str() {
                "completed" => return Ok(seen),
                "error" => return Err(failed_snapshot(&seen.details)),
                _ => on_progress(seen.details.percent),
            }
            tokio::time::sleep(LOOK_EVERY).await;
            let shown = self.shown(&[exhibit.snapshot.clone()].into()).await.map_err(|error| error.to_string())?;
            seen.details = shown.into_values().next().ok_or("EC2 does not show it any more")?;
        }
    }
}

impl Held {
    fn of(exhibit: &Exhibit, lock: Option<String>) -> Self {
        let details = &exhibit.details;
        Self {
            snapshot: exhibit.snapshot.to_string(),
            instance: exhibit.instance.to_string(),
            volume: exhibit.volume.to_string(),
            device: exhibit.device.clone(),
            gib: details.gib,
            state: details.state.clone(),
            is_encrypted: details.is_encrypted,
            key: details.key.clone(),
            lock,
            started_at: details.started_at.map(|at| at.to_string()),
            completed_at: details.completed_at.map(|at| at.to_string()),
            digest: None,
            why: None,
        }
    }
}

/// By what it is a digest of.
pub(in crate::operator) fn digests(manifest: &Manifest) -> BTreeMap<&str, &Digest> {
    manifest.snapshots.iter().filter_map(|held| Some((held.snapshot.as_str(), held.digest.as_ref()?))).collect()
}
