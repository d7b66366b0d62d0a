//! `leftovers`: what still costs or lies about after incidents that are over, and the commands that delete it. It deletes nothing.
//!
//! **An incident that is not over has no leftovers**: while its stack is there or a record is held, what it has is evidence.
//! **Tags can be written by the attacker**, who may want a backup deleted: what only its tags say is ours comes with a command to look at
//! it first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::credentials::{credentials_name, stays};
use super::evidence::{left as evidence, recorded};
use super::incident::{Incident, cannot_look, index, stack_of};
use super::next::revoke;
use super::text::{count, some, wrapped};
use super::{Operator, Trouble};
use crate::model::{Group, GroupId, Groups, Interface, Owner, Record, Role, SnapshotId, State, VolumeId, comma_list};
use crate::operator::ports::{Archive, Evidence, SnapshotDetails, SnapshotQuery, Survey, VolumeDetails, VolumeQuery};
use crate::operator::stack::StackLife;
use crate::plan::tag;
use crate::ports::{CallError, Change, GroupQuery};

/// Changes with the meaning of a field of [`Leftovers`].
const SCHEMA_VERSION: u32 = 1;
const LOG_GROUP: &str = "AWS::Logs::LogGroup";
/// As docs/reference/records.md has them, "What stays, and what it costs".
const PRICES: &str = "Rough list prices in us-east-1, for each GiB and month: 0.08 USD of a volume, 0.05 USD of what a snapshot takes. See docs/reference/records.md#what-stays-and-what-it-costs";

/// What is left of incidents that are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftovers {
    pub schema_version: u32,
    pub account: String,
    pub region: String,
    /// Size of the volumes, and of the volumes that the snapshots are of. EC2 does not say how much a snapshot takes.
    pub volumes_gib: u64,
    pub snapshots_gib: u64,
    pub left: Vec<Left>,
    /// What is not listed, and why.
    pub said: Vec<String>,
    /// Something could not be read.
    pub is_incomplete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Left {
    pub kind: Kind,
    pub id: String,
    pub gib: Option<u64>,
    /// Of which incident, by its stack's name, if that is known.
    pub incident: Option<String>,
    pub why: String,
    /// What deletes it, in this order. Empty if it cannot be deleted now.
    pub commands: Vec<String>,
}

/// In the order in which they are shown: what costs most comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Volume,
    Snapshot,
    Table,
    LogGroup,
    SecurityGroup,
    /// It costs nothing, and still denies credentials.
    CredentialsStack,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
            Self::Table => "table",
            Self::LogGroup => "log group",
            Self::SecurityGroup => "security group",
            Self::CredentialsStack => "stack",
        }
    }
}

/// What the records tables say.
#[derive(Debug, Default)]
struct Known {
    records: Vec<std::sync::Arc<Record>>,
    /// Tables of one stack each, with the stacks of their records.
    tables: BTreeMap<String, BTreeSet<String>>,
    /// Stacks that are there, or of which something is held.
    open: BTreeSet<String>,
    /// Stacks that are gone, and of which nothing is held.
    over: BTreeSet<String>,
}

impl Known {
    fn is_over(&self, record: &Record) -> bool {
        self.over.contains(&record.owner.stack_id)
    }

    /// Whether what the tags of something say to be of this stack may be named.
    fn is_not_open(&self, stack: &str, only: Option<&Incident>) -> bool {
        match only {
            Some(_) => self.over.contains(stack),
            None => !self.open.contains(stack),
        }
    }
}

impl<E: Survey + Evidence + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// What is left of this incident, or of all of the account and Region.
    ///
    /// # Errors
    /// Tables, stacks or groups cannot be read: without them it is not known what is over.
    pub async fn leftovers(&self, only: Option<&Incident>) -> Result<Leftovers, Trouble> {
        let known = self.known(only).await?;
        let mut found = Leftovers {
            schema_version: SCHEMA_VERSION,
            account: self.site.account.clone(),
            region: self.site.region.clone(),
            volumes_gib: 0,
            snapshots_gib: 0,
            left: vec![],
            said: vec![],
            is_incomplete: false,
        };
        self.volumes_left(&known, only, &mut found).await;
        let over: Vec<&Record> =
            known.records.iter().map(AsRef::as_ref).filter(|record| known.is_over(record)).collect();
        match self.evidence_left(&over, |stack| known.is_not_open(stack, only)).await {
            Ok(left) => found.left.extend(left),
            Err(error) => found.cannot_read("volumes that were made as evidence", &error),
        }
        self.snapshots_left(&known, only, &mut found).await;
        self.tables_left(&known, &mut found);
        self.log_groups_left(&known, &mut found).await;
        self.groups_left(&known, &mut found).await?;
        self.denials_left(&known, &mut found).await;
        if !known.open.is_empty() {
            let names = comma_list(known.open.iter().map(|id| name(id)));
            found.said.push(format!("Not over, so nothing of it is listed: {names}"));
        }
        let size = |kind| found.left.iter().filter(|left| left.kind == kind).filter_map(|left| left.gib).sum();
        (found.volumes_gib, found.snapshots_gib) = (size(Kind::Volume), size(Kind::Snapshot));
        found.left.sort();
        Ok(found)
    }

    async fn known(&self, only: Option<&Incident>) -> Result<Known, Trouble> {
        let shared = self.responders_table().await?;
        let mut known = Known::default();
        let mut ledgers = Vec::new();
        match only {
            Some(incident) => ledgers.push((incident.table.clone(), incident.ledger.clone())),
            None => ledgers.extend(self.ledgers().await?),
        }
        let (mut stacks, mut held) = (BTreeSet::new(), BTreeSet::new());
        for (table, items) in ledgers {
            let owners: BTreeSet<String> = items.records.values().map(|record| record.owner.stack_id.clone()).collect();
            let is_held = |record: &&std::sync::Arc<Record>| record.state != State::Restored;
            held.extend(items.records.values().filter(is_held).map(|record| record.owner.stack_id.clone()));
            // What cannot be read may be held.
            let is_own = shared.as_ref() != Some(&table) && !only.is_some_and(|incident| incident.is_shared);
            if is_own && items.unreadable.is_empty() {
                let by_table = stack_of(&table).to_owned();
                known.tables.insert(table, if owners.is_empty() { [by_table].into() } else { owners.clone() });
            }
            stacks.extend(owners);
            known.records.extend(items.records.into_values());
        }
        let groups: Vec<Group> = match only {
            Some(incident) => {
                stacks.extend(incident.stack.as_ref().map(|stack| stack.id.clone()));
                incident.groups.values().cloned().collect()
            }
            None => self.ports.ec2.groups(&GroupQuery::Ours).await.map_err(cannot_look)?,
        };
        let isolating = groups.iter().filter(|group| matches!(group.role, Some(Role::Isolation | Role::Transit)));
        let of: BTreeMap<&GroupId, &String> =
            isolating.filter_map(|group| Some((&group.id, group.stack_id.as_ref()?))).collect();
        stacks.extend(of.values().map(|stack| (*stack).clone()));
        if !of.is_empty() {
            // Whatever became of stack and record: what is isolated by it is not over.
            let ids: Groups = of.keys().map(|id| (*id).clone()).collect();
            let inside = self.ports.ec2.interfaces_in(&ids).await.map_err(cannot_look)?;
            let isolated = inside.iter().filter(|interface| interface.groups.is_subset(&ids));
            let theirs = isolated.flat_map(|interface| &interface.groups).filter_map(|group| of.get(group));
            held.extend(theirs.map(|stack| (*stack).clone()));
        }
        for stack in stacks.into_iter().chain(known.tables.values().flatten().cloned()) {
            let is_open = held.contains(&stack) || self.view(&stack).await?.is_some();
            if is_open {
                known.open.insert(stack)
            } else {
                known.over.insert(stack)
            };
        }
        Ok(known)
    }

    /// Volumes that were kept when their instance was terminated, or that were detached since, and those of forensic hosts.
    async fn volumes_left(&self, known: &Known, only: Option<&Incident>, found: &mut Leftovers) {
        let mut of: BTreeMap<&VolumeId, &Record> = BTreeMap::new();
        for record in known.records.iter().filter(|record| known.is_over(record)) {
            of.extend(volumes_of(record).map(|volume| (volume, record.as_ref())));
        }
        let recorded = VolumeQuery::Ids(of.keys().map(|id| (*id).clone()).collect());
        let volumes = tokio::try_join!(
            self.ports.ec2.volumes(&recorded),
            self.ports.ec2.volumes(&VolumeQuery::Marked),
            self.ports.ec2.volumes(&VolumeQuery::OfHosts)
        );
        let (recorded, marked, hosts) = match volumes {
            Ok(volumes) => volumes,
            Err(error) => return found.cannot_read("volumes", &error),
        };
        // Whatever its tags say, and whoever recorded it first: it may have changed hands.
        let is_held = |volume: &VolumeDetails| {
            let held = known.records.iter().filter(|record| !known.is_over(record));
            held.flat_map(|record| volumes_of(record)).any(|id| *id == volume.id)
        };
        let is_loose = |volume: &&VolumeDetails| !volume.is_attached && !is_held(volume);
        for volume in recorded.iter().filter(is_loose) {
            let Some(record) = of.get(&volume.id) else { continue };
            let why = format!("a volume of {}, attached to nothing now", record.instance);
            let delete = self.shell.delete_volume(&volume.id);
            found.left.push(left(volume, why, Some(name(&record.owner.stack_id)), vec![delete]));
        }
        let known_already = |volume: &&VolumeDetails| !of.contains_key(&volume.id);
        for volume in marked.iter().filter(is_loose).filter(known_already) {
            let Some(stack) = volume.tags.get(tag::STACK).filter(|stack| !known.open.contains(*stack)) else {
                continue;
            };
            if only.is_some() && !known.over.contains(stack) {
                continue;
            }
            let why =
                "of an isolated instance, in no record that is left: only its tags say that it is ours".to_owned();
            let (look, delete) = (self.shell.show_volume(&volume.id), self.shell.delete_volume(&volume.id));
            found.left.push(left(volume, why, Some(name(stack)), vec![look, delete]));
        }
        for volume in hosts.iter().filter(|volume| !volume.is_attached).filter(known_already) {
            let called = volume.tags.get("Name").map_or("", String::as_str);
            if only.is_some_and(|incident| !is_of_host(called, &incident.stack_name)) {
                continue;
            }
            let why = "the volume of a forensic host, as its tags say, attached to nothing now".to_owned();
            let (look, delete) = (self.shell.show_volume(&volume.id), self.shell.delete_volume(&volume.id));
            found.left.push(left(volume, why, None, vec![look, delete]));
        }
    }

    async fn snapshots_left(&self, known: &Known, only: Option<&Incident>, found: &mut Leftovers) {
        let query = match only {
            Some(_) => SnapshotQuery::OfStacks(known.over.clone()),
            None => SnapshotQuery::Marked,
        };
        let snapshots = match self.ports.ec2.snapshot_details(&query).await {
            Ok(snapshots) => snapshots,
            Err(error) => return found.cannot_read("snapshots", &error),
        };
        let is_open =
            |snapshot: &SnapshotDetails| snapshot.tags.get(tag::STACK).is_some_and(|stack| known.open.contains(stack));
        let snapshots: Vec<SnapshotDetails> = snapshots.into_iter().filter(|snapshot| !is_open(snapshot)).collect();
        let ids: BTreeSet<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id.clone()).collect();
        let locks = if ids.is_empty() { Ok(BTreeMap::new()) } else { self.ports.ec2.locks(&ids).await };
        let locks = locks.unwrap_or_else(|error| {
            found.said.push(format!("Whether snapshots are locked is not known: {error}"));
            BTreeMap::new()
        });
        let recorded = recorded::snapshots(known.records.iter().map(AsRef::as_ref));
        let copies = evidence::copies(known.records.iter().map(AsRef::as_ref));
        for snapshot in snapshots {
            let stack = snapshot.tags.get(tag::STACK);
            let of = snapshot.volume.as_ref().map_or("a volume".to_owned(), ToString::to_string);
            // EC2 shows a copy as one of a volume that nobody has.
            let source = copies.get(&snapshot.id).map(ToString::to_string);
            let of = source
                .or_else(|| snapshot.tags.get(tag::COPY_OF).cloned())
                .map_or(of, |source| format!("a copy of {source}"));
            let delete = self.shell.delete_snapshot(&snapshot.id);
            let (why, commands) =
                match (locks.get(&snapshot.id), recorded.get(copies.get(&snapshot.id).unwrap_or(&snapshot.id))) {
                    (Some(lock), _) => {
                        (format!("of {of}, locked ({lock}): it cannot be deleted before that ends"), vec![])
                    }
                    (None, Some(recorded)) => (format!("of {of} of {}", recorded.instance), vec![delete]),
                    (None, None) => {
                        let look = self.shell.show_snapshot(&snapshot.id);
                        (
                            format!("of {of}, in no record that is left: only its tags say that it is ours"),
                            vec![look, delete],
                        )
                    }
                };
            let SnapshotDetails { id, gib, .. } = &snapshot;
            let incident = stack.map(|stack| name(stack));
            found.left.push(Left {
                kind: Kind::Snapshot,
                id: id.to_string(),
                gib: Some(*gib),
                incident,
                why,
                commands,
            });
        }
    }

    /// Never a responder's, nor one of which anything is held or cannot be read.
    fn tables_left(&self, known: &Known, found: &mut Leftovers) {
        for (table, stacks) in known.tables.iter().filter(|(_, stacks)| stacks.is_subset(&known.over)) {
            let delete = self.shell.delete_table(table);
            let why = "its records are history: write the report first".to_owned();
            let incident = stacks.first().map(|stack| name(stack));
            found.left.push(Left {
                kind: Kind::Table,
                id: table.clone(),
                gib: None,
                incident,
                why,
                commands: vec![delete],
            });
        }
    }

    /// As CloudFormation left them behind, which it knows for 90 days.
    async fn log_groups_left(&self, known: &Known, found: &mut Leftovers) {
        for stack in known.over.iter().filter(|stack| stack.starts_with("arn:")) {
            match self.ports.stacks.left_behind(stack).await {
                Ok(resources) => {
                    for resource in resources.into_iter().filter(|resource| resource.kind == LOG_GROUP) {
                        let id = resource.physical_id;
                        let delete = self.shell.delete_log_group(&id);
                        let why = "the stack left it behind; it may be deleted already".to_owned();
                        let (kind, incident) = (Kind::LogGroup, Some(name(stack)));
                        found.left.push(Left { kind, id, gib: None, incident, why, commands: vec![delete] });
                    }
                }
                Err(error) => found.cannot_read("log groups", &error),
            }
        }
    }

    /// Groups of stacks that are gone, also of those whose instances were adopted by another one.
    async fn groups_left(&self, known: &Known, found: &mut Leftovers) -> Result<(), Trouble> {
        for stack in known.over.iter().filter(|stack| stack.starts_with("arn:")) {
            let groups = self.ports.ec2.groups(&GroupQuery::OfStack(stack.clone())).await.map_err(cannot_look)?;
            let ids: Groups = groups.iter().map(|group| group.id.clone()).collect();
            if ids.is_empty() {
                continue;
            }
            let members = self.ports.ec2.interfaces_in(&ids).await.map_err(cannot_look)?;
            let groups = index(groups, |group| group.id.clone());
            // What a rule of another group names cannot be deleted. The isolation group names the forensic one, which goes last.
            let (last, first): (Vec<&Group>, Vec<&Group>) =
                groups.values().partition(|group| group.role == Some(Role::Forensic));
            let ours: BTreeSet<&GroupId> = ids.iter().collect();
            for (n, group) in first.into_iter().chain(last).enumerate() {
                let users = users(&members, &group.id);
                let role = group.role.map_or("unknown", Role::as_str);
                let mut commands = if n == 0 { rules_between(&groups, &ours, self) } else { vec![] };
                commands.push(self.shell.delete_group(&group.id));
                let (why, commands) = match users.is_empty() {
                    true => (format!("{role} group of a stack that is gone"), commands),
                    false => (format!("{role} group of a stack that is gone, still used by {users}"), vec![]),
                };
                let (id, incident) = (group.id.to_string(), Some(name(stack)));
                found.left.push(Left { kind: Kind::SecurityGroup, id, gib: None, incident, why, commands });
            }
        }
        Ok(())
    }

    /// Stacks that deny the credentials of instances that no stack isolates any more. An open incident of the name has
    /// it now.
    async fn denials_left(&self, known: &Known, found: &mut Leftovers) {
        let open: BTreeSet<String> = known.open.iter().map(|id| name(id)).collect();
        let over: BTreeSet<String> = known.over.iter().map(|id| name(id)).collect();
        for incident in over.difference(&open).filter(|name| !name.is_empty()) {
            let read = async {
                let Some(stack) = self.denying(&credentials_name(incident)).await? else { return Ok(None) };
                let held = self.still_held(&stack, &known.over).await?;
                Ok::<_, Trouble>(Some((stack, held)))
            };
            let (stack, held) = match read.await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    found
                        .said
                        .push(format!("Whether stack {} is left is not known: {error}", credentials_name(incident)));
                    found.is_incomplete = true;
                    continue;
                }
            };
            if !held.is_empty() {
                found.said.push(stays(&stack, &held, &self.shell));
                continue;
            }
            let ids: Vec<String> = stack.instances().iter().map(ToString::to_string).collect();
            let (id, why) = (stack.name.clone(), format!("it still denies the credentials of {}", some(&ids)));
            let mut commands = if stack.is_protected { vec![self.shell.unprotect(&id)] } else { vec![] };
            commands.extend([self.shell.delete_stack(&id, &[]), self.shell.wait_for_deletion(&id)]);
            let (kind, incident) = (Kind::CredentialsStack, Some(incident.clone()));
            found.left.push(Left { kind, id, gib: None, incident, why, commands });
        }
    }
}

/// What takes the rules away by which groups of one stack name each other.
fn rules_between<E, R, S>(
    groups: &BTreeMap<GroupId, Group>,
    ours: &BTreeSet<&GroupId>,
    program: &Operator<E, R, S>,
) -> Vec<String> {
    let forensic = groups.values().filter(|group| group.role == Some(Role::Forensic));
    forensic.flat_map(|group| revoke(group, ours, &program.shell)).collect()
}

fn users(members: &[Interface], group: &GroupId) -> String {
    comma_list(members.iter().filter(|interface| interface.groups.contains(group)).map(|interface| &interface.id))
}

/// The volumes that a record names.
fn volumes_of(record: &Record) -> impl Iterator<Item = &VolumeId> {
    record.protection.volumes.keys().chain(record.snapshots.taken.keys())
}

fn left(volume: &VolumeDetails, why: String, incident: Option<String>, commands: Vec<String>) -> Left {
    Left { kind: Kind::Volume, id: volume.id.to_string(), gib: Some(volume.gib), incident, why, commands }
}

/// `incident-42 forensic host`, or that of its host's own stack, `incident-42-host`.
fn is_of_host(called: &str, stack: &str) -> bool {
    let of = called.strip_suffix(" forensic host").unwrap_or_default();
    of == stack || of.strip_prefix(stack).is_some_and(|rest| rest.starts_with('-'))
}

/// `incident-42` of its id.
fn name(stack: &str) -> String {
    Owner { stack_id: stack.to_owned(), logical_id: String::new() }.stack_name().to_owned()
}

impl Leftovers {
    fn cannot_read(&mut self, what: &str, error: &CallError) {
        self.is_incomplete = true;
        self.said.push(format!("What is left of {what} is not known: {error}"));
    }

    fn headline(&self) -> String {
        let place = format!("account {}, region {}", self.account, self.region);
        if self.left.is_empty() {
            return format!("Nothing is left over in {place}.");
        }
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        self.left.iter().for_each(|left| *kinds.entry(left.kind).or_default() += 1);
        let kinds = kinds.into_iter().map(|(kind, number)| {
            let size = match kind {
                Kind::Volume => format!(" ({} GiB)", self.volumes_gib),
                Kind::Snapshot => format!(" (of {} GiB)", self.snapshots_gib),
                _ => String::new(),
            };
            format!("{}{size}", count(number, kind.noun()))
        });
        format!("Left over in {place}: {}.", comma_list(kinds))
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", wrapped(&self.headline(), "  "))?;
        if !self.left.is_empty() {
            let warning =
                "Nothing was deleted. Keep what the case still needs, and run the rest as it stands, in its order:";
            writeln!(f, "{}", wrapped(warning, "  "))?;
            writeln!(f, "{}", wrapped(PRICES, "  "))?;
        }
        for left in &self.left {
            let size = left.gib.map(|gib| format!(", {gib} GiB")).unwrap_or_default();
            let incident = left.incident.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            let text = format!("{} {}{size}: {}{incident}", left.kind.noun(), left.id, left.why);
            writeln!(f, "\n{}", wrapped(&text, "  "))?;
            left.commands.iter().try_for_each(|command| writeln!(f, "  {command}"))?;
        }
        if !self.said.is_empty() {
            writeln!(f)?;
        }
        self.said.iter().try_for_each(|said| writeln!(f, "{}", wrapped(said, "  ")))
    }
}
