//! What `status` shows: a table for people, JSON for programs. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Site;
use super::incident::Incident;
use super::next::{Next, is_history, next_steps, tagged_originals};
use super::shell::Shell;
use crate::model::{Desired, GroupId, Groups, InterfaceId, Record, Role, State, comma_list};

/// Everything there is to see of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub account: String,
    pub region: String,
    pub table: String,
    pub stack: Stack,
    /// Group id -> `isolation`, `transit` or `forensic`.
    pub groups: BTreeMap<String, &'static str>,
    pub instances: Vec<Instance>,
    /// In the stack's isolation, and no record says what they had.
    pub without_record: Vec<Unrecorded>,
    /// What the latest request of each owner asked for.
    pub asked: Vec<Asked>,
    /// Items of the table that are no record, and why.
    pub unreadable: BTreeMap<String, String>,
    pub next: Vec<Next>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stack {
    pub name: String,
    /// Nothing where it is gone.
    pub id: Option<String>,
    pub status: Option<String>,
    pub reason: Option<String>,
    /// Whether it restores what it holds when it is deleted.
    pub works: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    pub id: String,
    /// EC2's word, or `gone`.
    pub instance_state: String,
    /// `isolating`, `isolated`, `kept`, `restoring`, `restored`.
    pub record_state: &'static str,
    pub owner: String,
    pub recorded_at: String,
    pub connections_cut: bool,
    pub interfaces: Vec<Interface>,
    /// Volume -> snapshot.
    pub snapshots: BTreeMap<String, String>,
    pub snapshots_requested: bool,
    /// What the instance had of the things that were changed: name -> the command that puts it back.
    pub protections: BTreeMap<String, String>,
    /// Oldest first: when, what, and who asked.
    pub history: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub id: String,
    pub before: Vec<String>,
    pub now: Vec<String>,
    /// `isolated`, `in transit`, `as before`, `moved`, `gone`.
    pub condition: &'static str,
    /// Groups of `before` that no longer exist.
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unrecorded {
    pub interface: String,
    pub instance: Option<String>,
    pub now: Vec<String>,
    /// What its tags say it had. Whoever may write tags may have written them.
    pub tagged: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    pub request: String,
    /// `isolate` or `restore`.
    pub what: &'static str,
    pub instances: Vec<String>,
    /// Why a Delete left the hosts isolated since.
    pub kept: Option<String>,
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

impl Status {
    #[must_use]
    pub fn of(incident: &Incident, site: &Site, shell: &Shell) -> Self {
        let stack = incident.stack.as_ref();
        let role = |role| match role {
            Some(Role::Isolation) => "isolation",
            Some(Role::Transit) => "transit",
            Some(Role::Forensic) => "forensic",
            None => "unknown",
        };
        Self {
            account: site.account.clone(),
            region: site.region.clone(),
            table: incident.table.clone(),
            stack: Stack {
                name: incident.stack_name.clone(),
                id: stack.map(|stack| stack.id.clone()),
                status: stack.map(|stack| stack.status.status.clone()),
                reason: stack.map(|stack| stack.status.reason.clone()).filter(|reason| !reason.is_empty()),
                works: stack.is_some_and(crate::cloudformation::stack::StackView::takes_care),
            },
            groups: incident.groups.values().map(|group| (group.id.to_string(), role(group.role))).collect(),
            instances: incident.ledger.records.values().map(|record| instance(incident, record)).collect(),
            without_record: incident
                .strays
                .iter()
                .map(|stray| Unrecorded {
                    interface: stray.id.to_string(),
                    instance: stray.instance.as_ref().map(ToString::to_string),
                    now: texts(&stray.groups),
                    tagged: texts(tagged_originals(&stray.tags)),
                })
                .collect(),
            asked: incident
                .ledger
                .intents
                .values()
                .map(|intent| {
                    let (what, instances) = match &intent.desired {
                        Desired::Isolated(wants) => ("isolate", texts(&wants.instances)),
                        Desired::Restored => ("restore", vec![]),
                    };
                    Asked { request: intent.request_id.clone(), what, instances, kept: intent.kept.clone() }
                })
                .collect(),
            unreadable: incident.ledger.unreadable.clone(),
            next: next_steps(incident, shell),
        }
    }

    /// Records that are not only history, and interfaces that are isolated without one.
    #[must_use]
    pub fn is_anything_held(&self) -> bool {
        !self.without_record.is_empty()
            || !self.unreadable.is_empty()
            || self.instances.iter().any(|instance| instance.record_state != "restored")
    }
}

fn instance(incident: &Incident, record: &Record) -> Instance {
    let taken = record.snapshots.taken.iter();
    let snapshots = taken.map(|(volume, id)| (volume.to_string(), id.to_string())).collect();
    let interfaces = record.interfaces.iter();
    Instance {
        id: record.instance.to_string(),
        instance_state: incident.instance(&record.instance).map_or("gone".to_owned(), |found| found.state.clone()),
        record_state: record.state.as_str(),
        owner: record.owner.to_string(),
        recorded_at: record.recorded_at.to_string(),
        connections_cut: record.connections_cut,
        interfaces: interfaces.map(|(id, before)| interface(incident, record, id, before)).collect(),
        snapshots,
        snapshots_requested: record.snapshots.requested,
        protections: record.protection.restore_commands(&record.instance).into_iter().collect(),
        history: record.history.clone(),
    }
}

fn interface(incident: &Incident, record: &Record, id: &InterfaceId, before: &Groups) -> Interface {
    let found = incident.observed.interfaces.get(id);
    let ours = incident.isolating(record);
    let is_transit =
        |id: &GroupId| incident.observed.groups.get(id).is_some_and(|group| group.role == Some(Role::Transit));
    let condition = match found {
        None => "gone",
        Some(found) if found.groups.iter().any(is_transit) => "in transit",
        Some(found) if !found.groups.is_disjoint(&ours) => "isolated",
        Some(found) if found.groups == *before => "as before",
        Some(_) => "moved",
    };
    Interface {
        id: id.to_string(),
        before: texts(before),
        now: found.map(|found| texts(&found.groups)).unwrap_or_default(),
        condition,
        missing: if is_history(record.state) {
            vec![]
        } else {
            texts(before.iter().filter(|group| !incident.observed.groups.contains_key(*group)))
        },
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stack = &self.stack;
        let condition = match &stack.status {
            None => "gone".to_owned(),
            Some(status) if stack.works => status.clone(),
            Some(status) => format!("{status}, restores nothing by itself any more"),
        };
        writeln!(f, "stack    {}: {condition}", if stack.name.is_empty() { "unknown" } else { &stack.name })?;
        if let Some(reason) = &stack.reason {
            writeln!(f, "         {reason}")?;
        }
        writeln!(f, "table    {}", self.table)?;
        writeln!(f, "account  {}, region {}", self.account, self.region)?;
        for (id, role) in &self.groups {
            writeln!(f, "group    {id} ({role})")?;
        }
        for asked in &self.asked {
            let of =
                if asked.instances.is_empty() { String::new() } else { format!(" {}", comma_list(&asked.instances)) };
            writeln!(f, "asked    {}{of}, by request {}", asked.what, asked.request)?;
            if let Some(kept) = &asked.kept {
                writeln!(f, "kept     {kept}")?;
            }
        }
        for instance in &self.instances {
            writeln!(f)?;
            instance.fmt(f)?;
        }
        if self.instances.is_empty() {
            writeln!(f, "\nThe table holds no record.")?;
        }
        if !self.without_record.is_empty() {
            writeln!(f, "\nISOLATED WITHOUT A RECORD")?;
        }
        for stray in &self.without_record {
            let instance = stray.instance.as_deref().unwrap_or("attached to nothing");
            let tagged = if stray.tagged.is_empty() { "nothing".to_owned() } else { stray.tagged.join(" ") };
            writeln!(
                f,
                "  {} ({instance})  now {}  by its tags it had: {tagged}",
                stray.interface,
                stray.now.join(" ")
            )?;
        }
        for step in &self.next {
            writeln!(f)?;
            step.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {} ({})", self.id, self.record_state.to_uppercase(), self.instance_state)?;
        let width = self.interfaces.iter().map(|interface| interface.condition.len()).max().unwrap_or_default();
        for interface in &self.interfaces {
            let condition = interface.condition;
            write!(f, "  {}  {condition:width$}", interface.id)?;
            write!(f, "  before {}  now {}", interface.before.join(" "), interface.now.join(" "))?;
            if !interface.missing.is_empty() {
                write!(f, "  (no longer exist: {})", interface.missing.join(" "))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "  recorded {}, owner {}", self.recorded_at, self.owner)?;
        writeln!(
            f,
            "  connections open before: {}",
            if self.connections_cut { "cut, as far as that goes" } else { "not cut" }
        )?;
        if !self.snapshots.is_empty() {
            let snapshots = self.snapshots.iter().map(|(volume, snapshot)| format!("{snapshot} of {volume}"));
            writeln!(f, "  snapshots {}", comma_list(snapshots))?;
        } else if self.snapshots_requested {
            writeln!(f, "  snapshots were asked for, which ones is not recorded yet")?;
        }
        let is_held = self.record_state != State::Restored.as_str();
        for command in self.protections.values().filter(|_| is_held) {
            writeln!(f, "  was changed, and is put back by: {command}")?;
        }
        for line in &self.history {
            writeln!(f, "  history {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "NEXT  {}", self.what)?;
        for command in &self.commands {
            writeln!(f, "  {command}")?;
        }
        Ok(())
    }
}
