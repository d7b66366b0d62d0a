//! Copies of the snapshots for another account: copy with a key that can be shared, wait, share, read back.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    Exhibit, Exhibits, LOOK_AGAIN, LOOK_EVERY, SCHEMA_VERSION, Tries, cannot, failed_snapshot, left, recorded, tags,
};
use crate::model::{InstanceId, ROLE_TAG, Record, SnapshotId};
use crate::operator::incident::Incident;
use crate::operator::ports::disks::{Copies, Disks};
use crate::operator::ports::{Archive, Evidence, SnapshotDetails, SnapshotQuery, Survey};
use crate::operator::stack::StackLife;
use crate::operator::{Operator, Progress, Trouble, refused};
use crate::plan::tag;
use crate::ports::Change;

/// Copies under way to one Region (EBS User Guide, "Copy a snapshot"): one more is `ResourceLimitExceeded`.
const AT_ONCE: usize = 20;
const LIMIT: &str = "ResourceLimitExceeded";
/// The role in the tags of a copy.
const COPY: &str = "evidence-copy";

/// What would be copied and shared.
#[derive(Debug, Clone)]
pub struct ShareOrder {
    pub(super) incident: Incident,
    pub(super) exhibits: Exhibits,
    pub(super) account: String,
    pub(super) key: String,
    /// Copies that records name, and that are not of another key or failed; a snapshot that has the key already is none.
    pub(super) found: BTreeMap<SnapshotId, SnapshotDetails>,
    /// Copies that only their tags say to be ours.
    pub(super) unrecorded: Vec<String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shared {
    pub schema_version: u32,
    pub incident: String,
    pub account: String,
    pub key: String,
    /// Something is not shared, or not recorded.
    pub failed: bool,
    pub snapshots: Vec<SharedSnapshot>,
    pub said: Vec<String>,
    /// To be run with credentials of that account.
    pub commands: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedSnapshot {
    pub instance: String,
    pub snapshot: String,
    pub gib: u64,
    /// What the account may use: a copy, or the snapshot itself.
    pub shared: Option<String>,
    /// Why it is not shared.
    pub why: Option<String>,
}

impl ShareOrder {
    pub(super) fn to_copy(&self) -> Vec<&Exhibit> {
        let usable = self.exhibits.all.iter().filter(|exhibit| !exhibit.is_failed());
        usable.filter(|exhibit| !self.found.contains_key(&exhibit.snapshot) && !self.needs_no_copy(exhibit)).collect()
    }

    pub(super) fn needs_no_copy(&self, exhibit: &Exhibit) -> bool {
        is_key(exhibit.details.key.as_deref(), &self.key)
    }
}

/// Whether what EC2 shows is this key, which is an ARN or an id.
fn is_key(shown: Option<&str>, key: &str) -> bool {
    shown.is_some_and(|shown| shown == key || shown.rsplit('/').next() == Some(key))
}

/// A key that can be shared: what is certain before anything is done.
fn check_key(key: &str, region: &str) -> Result<(), Trouble> {
    let name = key.rsplit_once(":alias/").map(|(_, name)| name).or_else(|| key.strip_prefix("alias/"));
    if let Some(name) = name {
        let why = match name.starts_with("aws/") {
            true => "it is managed by AWS, and no snapshot that is encrypted with it can be shared",
            false => "an alias may mean another key tomorrow",
        };
        return Err(refused(&format!("{key} cannot be used: {why}. Give a customer managed key by its ARN or id")));
    }
    let place = key.strip_prefix("arn:").map(|rest| rest.split(':').nth(2).unwrap_or_default());
    if place.is_some_and(|place| place != region) {
        return Err(refused(&format!("{key} is a key of another Region than {region}, where the copies are made")));
    }
    let id = key.rsplit('/').next().unwrap_or_default();
    let is_id = id.len() >= 36 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_id { Ok(()) } else { Err(refused(&format!("{key} is neither the ARN nor the id of a KMS key"))) }
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Failed(String),
    Pending(u8),
    Waits,
    Copy,
    Share(SnapshotId),
    /// Read back.
    Shared(SnapshotId),
}

#[derive(Debug, Default)]
struct Memory {
    copies: BTreeMap<SnapshotId, (SnapshotId, Instant)>,
    tries: Tries,
    noted: BTreeSet<SnapshotId>,
    said: Vec<String>,
}

impl<E: Survey + Evidence + Change + Disks + Copies + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// What `evidence --share` would do.
    ///
    /// # Errors
    /// The account is none, the key cannot be shared, there is no snapshot, or a call failed.
    pub async fn share_order(
        &self,
        incident: Incident,
        only: &BTreeSet<InstanceId>,
        account: &str,
        key: &str,
    ) -> Result<ShareOrder, Trouble> {
        if account.len() != 12 || !account.chars().all(|c| c.is_ascii_digit()) {
            return Err(refused(&format!("{account:?} is no account: it has 12 digits")));
        }
        if account == self.site.account {
            return Err(refused(&format!("{account} is the account that the snapshots are in")));
        }
        check_key(key, &self.site.region)?;
        let exhibits = self.exhibits(&incident, only).await?;
        let records = || incident.ledger.records.values().map(AsRef::<Record>::as_ref);
        let recorded = left::copies(records());
        let mut shown = self.shown(&recorded.keys().cloned().collect()).await?;
        shown.retain(|_, copy| is_key(copy.key.as_deref(), key) && copy.state != "error");
        let found = recorded.iter().filter_map(|(copy, source)| Some((source.clone(), shown.get(copy)?.clone())));
        let found: BTreeMap<_, _> = found.collect();
        let sources = exhibits.all.iter().map(|exhibit| exhibit.snapshot.clone()).collect();
        let tagged = self.ports.ec2.snapshot_details(&SnapshotQuery::CopiesOf(sources)).await;
        let tagged = tagged.map_err(cannot("the snapshots cannot be read"))?;
        let unrecorded = tagged.iter().filter(|copy| !recorded.contains_key(&copy.id)).map(|copy| {
            let source = copy.tags.get(tag::COPY_OF).map_or("a snapshot", String::as_str);
            format!("{} is a copy of {source}, as only its tags say, so it is not used: in doubt delete it", copy.id)
        });
        let unrecorded = unrecorded.collect();
        Ok(ShareOrder { exhibits, account: account.to_owned(), key: key.to_owned(), found, unrecorded, incident })
    }

    /// Copies what needs it, waits until EC2 has completed it, shares it, and reads that back. **A copy that a record names is not made
    /// twice.** What fails costs the others nothing.
    ///
    /// # Errors
    /// EC2 cannot be read.
    pub async fn share(
        &self,
        order: &ShareOrder,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Shared, Trouble> {
        let began = Instant::now();
        let mut memory = Memory { said: order.unrecorded.clone(), ..Memory::default() };
        loop {
            let exhibits = &order.exhibits.all;
            let targets: BTreeSet<SnapshotId> =
                exhibits.iter().filter_map(|exhibit| order.target(exhibit, &memory)).collect();
            let sources = exhibits.iter().map(|exhibit| exhibit.snapshot.clone());
            let shown = self.shown(&targets.iter().cloned().chain(sources).collect()).await?;
            let mut standing = Vec::new();
            for exhibit in exhibits {
                standing.push(self.share_standing(order, exhibit, &shown, &mut memory).await);
            }
            for (exhibit, standing) in exhibits.iter().zip(&standing) {
                match standing {
                    Standing::Failed(why) => memory.tries.give_up(&exhibit.snapshot, why.clone()),
                    Standing::Shared(shared) if memory.noted.insert(shared.clone()) => {
                        let what = format!("{}{shared} with account {}", recorded::SHARED, order.account);
                        memory
                            .said
                            .extend(self.write_down(&order.incident, &exhibit.owner, &exhibit.instance, &what).await);
                    }
                    _ => {}
                }
            }
            on_progress(&share_progress(order, &standing, began));
            if standing.iter().all(|standing| matches!(standing, Standing::Failed(_) | Standing::Shared(_))) {
                return Ok(self.shared(order, &standing, memory.said));
            }
            let mut under_way =
                standing.iter().filter(|standing| matches!(standing, Standing::Pending(_) | Standing::Waits)).count();
            for (exhibit, standing) in exhibits.iter().zip(&standing) {
                match standing {
                    Standing::Copy if under_way < AT_ONCE => {
                        under_way += 1;
                        self.copy(order, exhibit, &mut memory).await;
                    }
                    Standing::Share(target) => match self.ports.ec2.share(target, &order.account).await {
                        Ok(()) => memory.accepted(exhibit, target),
                        Err(error) => {
                            memory.tries.refusal(&exhibit.snapshot, &error, &format!("{target} cannot be shared"))
                        }
                    },
                    _ => {}
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn share_standing(
        &self,
        order: &ShareOrder,
        exhibit: &Exhibit,
        shown: &BTreeMap<SnapshotId, SnapshotDetails>,
        memory: &mut Memory,
    ) -> Standing {
        if let Some(why) = memory.tries.failed.get(&exhibit.snapshot) {
            return Standing::Failed(why.clone());
        }
        let Some(target) = order.target(exhibit, memory) else {
            let Some(details) = shown.get(&exhibit.snapshot) else { return Standing::Pending(0) };
            return match details.state.as_str() {
                "completed" => Standing::Copy,
                "error" => Standing::Failed(failed_snapshot(details)),
                _ => Standing::Pending(details.percent),
            };
        };
        let Some(details) = shown.get(&target) else {
            let made = memory.copies.get(&exhibit.snapshot);
            return match made.is_some_and(|(_, at)| at.elapsed() < LOOK_AGAIN * 12) {
                true => Standing::Waits,
                false => Standing::Failed(format!("EC2 does not show {target} any more")),
            };
        };
        match details.state.as_str() {
            "completed" => {}
            "error" => {
                let why = details.why.as_deref().unwrap_or("EC2 does not say why");
                return Standing::Failed(format!("the copy {target} failed: {why}; mostly its key may not be used"));
            }
            _ => return Standing::Pending(details.percent),
        }
        match self.ports.ec2.shared_with(&target).await {
            Ok(accounts) if accounts.contains(&order.account) => Standing::Shared(target),
            Ok(_) => Standing::Share(target),
            Err(error) => {
                memory.tries.refusal(
                    &exhibit.snapshot,
                    &error,
                    &format!("whom {target} is shared with cannot be read"),
                );
                Standing::Waits
            }
        }
    }

    async fn copy(&self, order: &ShareOrder, exhibit: &Exhibit, memory: &mut Memory) {
        let name = format!("{} {} {}, copy", order.incident.stack_name, exhibit.instance, exhibit.device);
        let mut all = tags(exhibit, &order.incident, (ROLE_TAG, COPY), &name);
        all.insert(tag::COPY_OF.to_owned(), exhibit.snapshot.to_string());
        match self.ports.ec2.copy_snapshot(&exhibit.snapshot, &order.key, &all).await {
            Ok(copy) => {
                let what = format!("{}{copy} of {} with key {}", recorded::COPIED, exhibit.snapshot, order.key);
                memory.copies.insert(exhibit.snapshot.clone(), (copy, Instant::now()));
                memory.said.extend(self.write_down(&order.incident, &exhibit.owner, &exhibit.instance, &what).await);
            }
            // Others copy as well: once one of those is complete there is room.
            Err(error) if error.code == LIMIT => {}
            Err(error) => memory.tries.refusal(&exhibit.snapshot, &error, "it cannot be copied"),
        }
    }

    fn shared(&self, order: &ShareOrder, standing: &[Standing], noted: Vec<String>) -> Shared {
        let snapshots: Vec<SharedSnapshot> = order
            .exhibits
            .all
            .iter()
            .zip(standing)
            .map(|(exhibit, standing)| {
                let (shared, why) = match standing {
                    Standing::Shared(shared) => (Some(shared.to_string()), None),
                    Standing::Failed(why) => (None, Some(why.clone())),
                    _ => (None, None),
                };
                let (instance, snapshot) = (exhibit.instance.to_string(), exhibit.snapshot.to_string());
                SharedSnapshot { instance, snapshot, gib: exhibit.details.gib, shared, why }
            })
            .collect();
        let failed = snapshots.iter().filter(|of| of.why.is_some()).map(|of| of.snapshot.as_str());
        let said = order.exhibits.said(&failed.collect::<Vec<_>>(), noted);
        let region = &self.site.region;
        let copies = snapshots.iter().filter_map(|snapshot| {
            let shared = snapshot.shared.as_ref()?;
            Some(format!(
                "aws ec2 copy-snapshot --source-snapshot-id {shared} --source-region {region} --encrypted --kms-key-id <your key> --region {region}"
            ))
        });
        let lock = format!(
            "aws ec2 lock-snapshot --snapshot-id <your copy> --lock-mode governance --lock-duration 365 --region {region}"
        );
        let mut commands: Vec<String> = copies.collect();
        if !commands.is_empty() {
            commands.push(lock);
        }
        Shared {
            schema_version: SCHEMA_VERSION,
            incident: order.incident.stack_name.clone(),
            account: order.account.clone(),
            key: order.key.clone(),
            failed: said.len() > order.unrecorded.len() || snapshots.iter().any(|shared| shared.why.is_some()),
            snapshots,
            said,
            commands,
        }
    }
}

impl ShareOrder {
    /// What the account is to use, once it is there.
    fn target(&self, exhibit: &Exhibit, memory: &Memory) -> Option<SnapshotId> {
        if self.needs_no_copy(exhibit) {
            return Some(exhibit.snapshot.clone());
        }
        let made = memory.copies.get(&exhibit.snapshot).map(|(copy, _)| copy.clone());
        made.or_else(|| self.found.get(&exhibit.snapshot).map(|copy| copy.id.clone()))
    }
}

impl Memory {
    /// It is not shared before that was read back, and not asked for without end.
    fn accepted(&mut self, exhibit: &Exhibit, target: &SnapshotId) {
        if self.tries.is_last(&exhibit.snapshot) {
            let why = format!(
                "EC2 accepted to share {target}, and does not show it: find out who takes it back (CloudTrail)"
            );
            self.tries.give_up(&exhibit.snapshot, why);
        }
    }
}

fn share_progress(order: &ShareOrder, standing: &[Standing], began: Instant) -> Progress {
    let of = |is: fn(&Standing) -> bool| standing.iter().filter(|standing| is(standing)).count();
    let pending: Vec<usize> = standing
        .iter()
        .filter_map(|standing| match standing {
            Standing::Pending(percent) => Some(usize::from(*percent)),
            _ => None,
        })
        .collect();
    let status = match pending.len() {
        0 => String::new(),
        number => format!("{number} under way, {}% done", pending.iter().sum::<usize>() / number),
    };
    Progress {
        stack: order.incident.stack_name.clone(),
        status,
        seconds: began.elapsed().as_secs(),
        done: of(|standing| matches!(standing, Standing::Shared(_))),
        total: standing.len() - of(|standing| matches!(standing, Standing::Failed(_))),
        what: "snapshots shared",
    }
}
