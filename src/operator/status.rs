//! What `status` shows: a table for people, JSON for programs. Pure, once everything is read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::credentials::Credentials;
use super::incident::Incident;
use super::next::{Next, is_history, next_steps, tagged_originals};
use super::{Operator, Site};
use crate::model::{self, Desired, GroupId, InstanceId, InterfaceId, Record, Role, Time};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{StackLife, StackView};
use crate::ports::Change;
use crate::reconcile::contained::{Condition, Contained, shown};

/// Everything there is to see of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Of this shape: a field that is there stays, with its meaning, until this number changes.
    pub schema_version: u32,
    pub account: String,
    pub region: String,
    pub table: String,
    pub stack: Stack,
    pub summary: Summary,
    /// What of the listed instances is not isolated, and why. An empty list is good.
    pub not_isolated: Vec<NotIsolated>,
    /// Group id -> `isolation`, `transit` or `forensic`.
    pub groups: BTreeMap<String, &'static str>,
    pub instances: Vec<Instance>,
    /// Whose credentials are denied; `None` if no operator has asked for it.
    pub credentials: Option<Credentials>,
    /// Why it is not known whether there is a stack that denies them.
    pub credentials_unread: Option<String>,
    /// Why it is not known whether a target group lists one of the instances. Nothing if it was not looked up, too.
    pub target_groups_unread: Option<String>,
    /// In the stack's isolation, and no record says what they had.
    pub without_record: Vec<Unrecorded>,
    /// What the latest request of each owner asked for.
    pub asked: Vec<Asked>,
    /// On the stack's list, and restored: its next update isolates them again.
    pub listed_though_restored: Vec<String>,
    /// Items of the table that are no record, and why.
    pub unreadable: BTreeMap<String, String>,
    pub next: Vec<Next>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stack {
    pub name: String,
    /// Nothing if it is gone.
    pub id: Option<String>,
    pub status: Option<String>,
    pub reason: Option<String>,
    /// When it was made or changed last, in UTC.
    pub changed_at: Option<String>,
    /// Whether it restores what it holds when it is deleted.
    pub works: bool,
    /// CloudFormation is at work on it.
    pub is_busy: bool,
    /// Resources that failed, with the reason that CloudFormation gives.
    pub failed: BTreeMap<String, String>,
}

/// How many instances stand how, as EC2 shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Listed by the stack or its latest request, or recorded, and not restored.
    pub listed: usize,
    pub isolated: usize,
    pub isolated_interfaces: usize,
    pub not_isolated: usize,
    pub unknown: usize,
    pub isolated_elsewhere: usize,
    pub restoring: usize,
    pub terminated: usize,
    /// Seconds since the stack was changed last, while CloudFormation is at work on it.
    pub busy_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotIsolated {
    pub instance: String,
    /// The instance's Name tag. The attacker may have written it.
    pub name: Option<String>,
    /// Nothing if it is about the whole instance.
    pub interface: Option<String>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    pub id: String,
    pub name: Option<String>,
    /// Nothing if it was restored.
    pub condition: Option<Condition>,
    /// EC2's word, or `gone`.
    pub instance_state: String,
    /// `isolating`, `isolated`, `kept`, `restoring`, `restored`; nothing if there is no record.
    pub record_state: Option<&'static str>,
    pub owner: Option<String>,
    pub recorded_at: Option<String>,
    pub connections_cut: bool,
    pub interfaces: Vec<Interface>,
    /// Volume -> snapshot.
    pub snapshots: BTreeMap<String, String>,
    pub snapshots_requested: bool,
    /// What the instance had of the things that were changed: name -> the command that puts it back.
    pub protections: BTreeMap<String, String>,
    /// What is not as it should be, beside its isolation.
    pub warnings: Vec<String>,
    /// What the next update would put right, beside its isolation.
    pub to_do: Vec<String>,
    /// Oldest first: when, what, and who asked.
    pub history: Vec<String>,
}

/// The condition of an interface that EC2 shows in our groups only.
pub(super) const ISOLATED: &str = "isolated";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub id: String,
    /// Nothing if it is not recorded.
    pub before: Vec<String>,
    pub now: Vec<String>,
    /// `isolated`, `in transit`, `as before`, `moved`, `attached since`, `not recorded`, `gone`.
    pub condition: &'static str,
    /// Groups of `before` that no longer exist.
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unrecorded {
    pub interface: String,
    pub instance: Option<String>,
    pub now: Vec<String>,
    /// What its tags say it had. The attacker may have written them.
    pub tagged: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    pub request: String,
    /// `isolate`, `restore`, or `unknown` where it cannot be read.
    pub what: &'static str,
    pub instances: Vec<String>,
    /// Why a Delete left the instances isolated since.
    pub kept: Option<String>,
}

/// Changes with the meaning of a field of [`Status`].
const SCHEMA_VERSION: u32 = 1;

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// How an incident stands, by a look at EC2.
    pub async fn status(&self, incident: &Incident) -> Status {
        let mut containment = self.containment(incident).await;
        self.name_scheduled(&mut containment).await;
        Status::of(incident, &containment, &self.site, self)
    }
}

impl Status {
    fn of<E, R, S>(
        incident: &Incident,
        containment: &BTreeMap<InstanceId, Contained>,
        site: &Site,
        program: &Operator<E, R, S>,
    ) -> Self {
        let role = |role: Option<Role>| role.map_or("unknown", Role::as_str);
        let ids: BTreeSet<&InstanceId> = incident.ledger.records.keys().chain(containment.keys()).collect();
        let instances = ids.into_iter().map(|id| instance(incident, id, containment.get(id))).collect();
        let held = incident.listed();
        Self {
            schema_version: SCHEMA_VERSION,
            account: site.account.clone(),
            region: site.region.clone(),
            table: incident.table.clone(),
            stack: stack(incident),
            summary: summary(incident, containment, program.clock.now()),
            not_isolated: not_isolated(containment),
            groups: incident.groups.values().map(|group| (group.id.to_string(), role(group.role))).collect(),
            instances,
            credentials: incident.denied(),
            credentials_unread: incident.credentials.as_ref().err().map(ToString::to_string),
            target_groups_unread: None,
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
                        Desired::Unknown(_) => ("unknown", vec![]),
                    };
                    Asked { request: intent.request_id.clone(), what, instances, kept: intent.kept.clone() }
                })
                .collect(),
            listed_though_restored: texts(incident.parameter_list().difference(&held)),
            unreadable: incident.ledger.unreadable.clone(),
            next: next_steps(incident, containment, &program.shell),
        }
    }

    /// Records that are not only history, and interfaces that are isolated without one.
    #[must_use]
    pub fn is_anything_held(&self) -> bool {
        let is_held = |instance: &Instance| instance.record_state.is_some_and(|state| state != "restored");
        !self.without_record.is_empty() || !self.unreadable.is_empty() || self.instances.iter().any(is_held)
    }

    /// Whether something that is to be isolated is not, or may not be.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        self.summary.not_isolated + self.summary.unknown > 0
    }
}

fn stack(incident: &Incident) -> Stack {
    let stack = incident.stack.as_ref();
    let failed = stack.into_iter().flat_map(|stack| &stack.resources);
    let failed = failed.filter(|resource| resource.status.ends_with("_FAILED") && !resource.reason.is_empty());
    Stack {
        name: incident.stack_name.clone(),
        id: stack.map(|stack| stack.id.clone()),
        status: stack.map(|stack| stack.status.status.clone()),
        reason: stack.map(|stack| stack.status.reason.clone()).filter(|reason| !reason.is_empty()),
        changed_at: stack.and_then(|stack| stack.changed_at).map(|at| at.to_string()),
        works: stack.is_some_and(StackView::takes_care),
        is_busy: stack.is_some_and(StackView::is_busy),
        failed: failed.map(|resource| (resource.logical_id.clone(), resource.reason.clone())).collect(),
    }
}

fn summary(incident: &Incident, containment: &BTreeMap<InstanceId, Contained>, now: Time) -> Summary {
    let count = |condition| containment.values().filter(|found| found.condition == condition).count();
    let isolated = containment.values().map(|found| found.isolated.len());
    let busy = incident.stack.as_ref().filter(|stack| stack.is_busy());
    Summary {
        listed: containment.len(),
        isolated: count(Condition::Isolated),
        isolated_interfaces: isolated.sum(),
        not_isolated: count(Condition::NotIsolated),
        unknown: count(Condition::Unknown),
        isolated_elsewhere: count(Condition::IsolatedElsewhere),
        restoring: count(Condition::Restoring),
        terminated: count(Condition::Terminated),
        busy_seconds: busy.map(|stack| stack.changed_at.map_or(Duration::ZERO, |at| at.until(now)).as_secs()),
    }
}

fn not_isolated(containment: &BTreeMap<InstanceId, Contained>) -> Vec<NotIsolated> {
    let open =
        containment.iter().filter(|(_, found)| matches!(found.condition, Condition::NotIsolated | Condition::Unknown));
    let reasons = open.flat_map(|(id, found)| found.open.iter().map(move |open| (id, found, open)));
    reasons
        .map(|(id, found, (interface, reason))| NotIsolated {
            instance: id.to_string(),
            name: found.observed.instances.get(id).and_then(name),
            interface: interface.as_ref().map(ToString::to_string),
            reason: reason.clone(),
        })
        .collect()
}

/// Its Name tag.
fn name(instance: &model::Instance) -> Option<String> {
    instance.tags.get("Name").filter(|name| !name.trim().is_empty()).cloned()
}

fn instance(incident: &Incident, id: &InstanceId, found: Option<&Contained>) -> Instance {
    let record = incident.ledger.records.get(id).map(std::sync::Arc::as_ref);
    let shown = found.and_then(|found| found.observed.instances.get(id)).or_else(|| incident.instance(id));
    let recorded = record.into_iter().flat_map(|record| record.interfaces.keys());
    let attached = shown.into_iter().filter(|_| found.is_some()).flat_map(|instance| &instance.interfaces);
    let interfaces: BTreeSet<&InterfaceId> = recorded.chain(attached.map(|interface| &interface.id)).collect();
    let snapshots = record.map(|record| &record.snapshots);
    Instance {
        id: id.to_string(),
        name: shown.and_then(name),
        condition: found.map(|found| found.condition),
        instance_state: shown.map_or("gone".to_owned(), |found| found.state.clone()),
        record_state: record.map(|record| record.state.as_str()),
        owner: record.map(|record| record.owner.to_string()),
        recorded_at: record.map(|record| record.recorded_at.to_string()),
        connections_cut: record.is_some_and(|record| record.connections_cut),
        interfaces: interfaces.into_iter().map(|of| interface(incident, record, of, shown)).collect(),
        snapshots: snapshots
            .into_iter()
            .flat_map(|snapshots| &snapshots.taken)
            .map(|(volume, id)| (volume.to_string(), id.to_string()))
            .collect(),
        snapshots_requested: snapshots.is_some_and(|snapshots| snapshots.requested),
        protections: record
            .map(|record| record.protection.restore_commands(&record.instance).into_iter().collect())
            .unwrap_or_default(),
        warnings: found.map(|found| [&found.warnings[..], &found.endings].concat()).unwrap_or_default(),
        to_do: found.map(|found| found.to_do.clone()).unwrap_or_default(),
        history: record.map(|record| record.history.clone()).unwrap_or_default(),
    }
}

fn interface(
    incident: &Incident,
    record: Option<&Record>,
    id: &InterfaceId,
    instance: Option<&model::Instance>,
) -> Interface {
    let found = shown(&incident.observed, instance, id);
    let ours = record.map(|record| incident.isolating(record)).unwrap_or_default();
    let before = record.and_then(|record| record.interfaces.get(id));
    let is_transit =
        |id: &GroupId| incident.observed.groups.get(id).is_some_and(|group| group.role == Some(Role::Transit));
    let condition = match found {
        None => "gone",
        Some(found) if found.groups.iter().any(is_transit) => "in transit",
        Some(found) if !found.groups.is_empty() && found.groups.is_subset(&ours) => ISOLATED,
        Some(found) if before.is_some_and(|before| found.groups == *before) => "as before",
        Some(_) if record.is_none() => "not recorded",
        Some(_) if before.is_none() => "attached since",
        Some(_) => "moved",
    };
    let is_held = record.is_some_and(|record| !is_history(record.state));
    let missing = before.into_iter().flatten().filter(|group| !incident.observed.groups.contains_key(*group));
    Interface {
        id: id.to_string(),
        before: before.map(texts).unwrap_or_default(),
        now: found.map(|found| texts(&found.groups)).unwrap_or_default(),
        condition,
        missing: if is_held { texts(missing) } else { vec![] },
    }
}
