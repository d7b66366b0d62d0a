//! Whether the instances of an incident are contained, **as EC2 shows it**: by the plan that the function would begin with,
//! whatever the records say. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::Operator;
use super::incident::Incident;
use crate::cloudformation::properties;
use crate::cloudformation::stack::{StackLife, StackView};
use crate::model::{
    Desired, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Owner, Record, Role, ShowGroups, State,
    VpcId, Wants, comma_list,
};
use crate::plan::{Observed, Plan, Problem, Severity, Step};
use crate::ports::{Archive, Change, Survey};
use crate::reconcile::Looked;

/// How one instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Something of it can be reached.
    NotIsolated,
    /// EC2 could not be asked.
    Unknown,
    /// It was asked for that it is restored, and that has not ended.
    Restoring,
    /// Another stack isolates it.
    IsolatedElsewhere,
    Isolated,
    /// EC2 shows it as terminated.
    Terminated,
}

impl Condition {
    /// In capitals, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotIsolated => "NOT ISOLATED",
            Self::Unknown => "NOT KNOWN",
            Self::Restoring => "BEING RESTORED",
            Self::IsolatedElsewhere => "ISOLATED BY ANOTHER STACK",
            Self::Isolated => "ISOLATED",
            Self::Terminated => "TERMINATED",
        }
    }
}

/// What EC2 shows of one instance that is listed or held.
#[derive(Debug, Clone)]
pub struct Contained {
    pub condition: Condition,
    /// Why it is not isolated: of one interface, or of the whole instance.
    pub open: Vec<(Option<InterfaceId>, String)>,
    pub isolated: BTreeSet<InterfaceId>,
    /// What else is not as it should be.
    pub warnings: Vec<String>,
    /// What the next update would do about it.
    pub to_do: Vec<String>,
    /// As it was when that was found.
    pub observed: Observed,
}

/// Instances that one custom resource holds in one group.
type Portions = BTreeMap<(Owner, VpcId, GroupId), BTreeSet<InstanceId>>;

impl Incident {
    /// Instances that are to be isolated: those that the stack and its latest request list, and those that are recorded, but for
    /// those that were restored.
    #[must_use]
    pub fn listed(&self) -> BTreeSet<InstanceId> {
        let is_over =
            |id: &InstanceId| self.ledger.records.get(id).is_some_and(|record| record.state == State::Restored);
        // A stack that is gone asks for nothing any more.
        let intents = self.ledger.intents.values().filter(|_| self.stack.is_some());
        let intents = intents.filter_map(|intent| match &intent.desired {
            Desired::Isolated(wants) => Some(wants.instances.iter().cloned()),
            Desired::Restored | Desired::Unknown(_) => None,
        });
        let stacks = self.parameter_list().into_iter().filter(|id| !is_over(id));
        let held = self.held().map(|record| record.instance.clone());
        stacks.chain(intents.flatten()).chain(held).collect()
    }

    /// What the stack's parameter lists.
    #[must_use]
    pub fn parameter_list(&self) -> BTreeSet<InstanceId> {
        self.stack.as_ref().map(StackView::instances).unwrap_or_default()
    }

    /// What a request of this owner wants, as far as that is known.
    fn wants(
        &self,
        owner: &Owner,
        vpc: VpcId,
        isolation_group: GroupId,
        instances: BTreeSet<InstanceId>,
    ) -> Option<Wants> {
        let intent = self.ledger.intents.get(&owner.digest());
        match intent.map(|intent| &intent.desired) {
            Some(Desired::Isolated(wants)) => {
                let instances = instances.into_iter().collect();
                Some(Wants { instances, vpc, isolation_group, ..wants.as_ref().clone() })
            }
            _ => properties::wants(&[
                (properties::INSTANCE_IDS, comma_list(instances)),
                (properties::VPC_ID, vpc.to_string()),
                (properties::ISOLATION_GROUP, isolation_group.to_string()),
            ])
            .ok(),
        }
    }

    fn is_being_restored(&self, record: &Record) -> bool {
        let intent = self.ledger.intents.get(&record.owner.digest());
        record.state == State::Restoring || intent.is_some_and(|intent| intent.desired == Desired::Restored)
    }

    /// Where each listed instance is to be looked for. Without a group of ours there is nothing to look at.
    fn portions(&self) -> Portions {
        let own = self.stack.as_ref().and_then(|stack| {
            let group = self.groups.values().find(|group| group.role == Some(Role::Isolation))?;
            Some((stack.owner(), group.vpc.clone()?, group.id.clone()))
        });
        let mut portions = Portions::new();
        for id in self.listed() {
            let held = self
                .held_record(&id)
                .map(|record| (record.owner.clone(), record.vpc.clone(), record.isolation_group.clone()));
            if let Some(key) = held.or_else(|| own.clone()) {
                portions.entry(key).or_default().insert(id);
            }
        }
        portions
    }

    fn held_record(&self, id: &InstanceId) -> Option<&Record> {
        self.ledger.records.get(id).map(Arc::as_ref).filter(|record| record.state != State::Restored)
    }
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Looks at every listed instance.
    pub async fn containment(&self, incident: &Incident) -> BTreeMap<InstanceId, Contained> {
        let ports = self.ports_of(incident);
        let looks = incident.portions().into_iter().map(async |((owner, vpc, group), instances)| {
            let Some(wants) = incident.wants(&owner, vpc, group, instances) else { return vec![] };
            let looked = self.reconciler(&ports, &owner).look(&wants).await;
            let judged = looked
                .into_iter()
                .map(|looked| (looked.instance.clone(), judge(incident, &wants.isolation_group, looked)));
            judged.collect()
        });
        let looked = futures_util::future::join_all(looks).await;
        let mut found: BTreeMap<InstanceId, Contained> = looked.into_iter().flatten().collect();
        for id in incident.listed() {
            found.entry(id).or_insert_with(|| Contained {
                condition: Condition::NotIsolated,
                open: vec![(None, not_reached(incident))],
                isolated: BTreeSet::new(),
                warnings: vec![],
                to_do: vec![],
                observed: incident.observed.clone(),
            });
        }
        found
    }
}

fn not_reached(incident: &Incident) -> String {
    match &incident.stack {
        Some(stack) if stack.is_busy() => "the function has not come to it yet".to_owned(),
        Some(stack) => format!("no record says that it was ever isolated: the stack is {}", stack.status.status),
        None => "the stack is gone".to_owned(),
    }
}

fn judge(incident: &Incident, isolation_group: &GroupId, looked: Looked) -> Contained {
    let id = &looked.instance;
    let record = incident.held_record(id);
    let (plan, observed) = match looked.seen {
        Ok(seen) => seen,
        Err(error) => {
            return Contained {
                condition: Condition::Unknown,
                open: vec![(None, format!("it is not known how it stands: {error}"))],
                isolated: BTreeSet::new(),
                warnings: vec![],
                to_do: vec![],
                observed: Observed::default(),
            };
        }
    };
    let instance = observed.instances.get(id);
    let (mut open, mut isolated) = (Vec::new(), plan.standing.isolated.clone());
    for interface in &plan.standing.open {
        let shown = shown(&observed, instance, interface);
        // The function would write it once more, since it has not seen it happen. EC2 shows it.
        if shown.is_some_and(|shown| shown.groups == Groups::from([isolation_group.clone()])) {
            isolated.insert(interface.clone());
            continue;
        }
        open.push((Some(interface.clone()), why_open(incident, record, shown)));
    }
    let is_told =
        |problem: &&Problem| matches!(problem, Problem::InTransit { .. } | Problem::InterfaceElsewhere { .. });
    let all: BTreeSet<&Problem> = plan.problems.iter().chain(&plan.remember).collect();
    let problems: Vec<&Problem> = all.into_iter().filter(|problem| !is_told(problem)).collect();
    open.extend(problems.iter().filter(|problem| opens(problem)).map(|problem| (None, problem.to_string())));
    let condition = if record.is_some_and(|record| incident.is_being_restored(record)) {
        Condition::Restoring
    } else if instance.is_some_and(Instance::is_terminated) {
        Condition::Terminated
    } else if problems.iter().any(|problem| matches!(problem, Problem::HeldByOther { .. })) {
        Condition::IsolatedElsewhere
    } else if !open.is_empty() || isolated.is_empty() {
        Condition::NotIsolated
    } else {
        Condition::Isolated
    };
    if condition == Condition::NotIsolated && open.is_empty() {
        open.push((None, not_reached(incident)));
    }
    Contained {
        warnings: problems.iter().filter(|problem| !opens(problem)).map(ToString::to_string).collect(),
        to_do: to_do(&plan),
        isolated,
        condition,
        open,
        observed,
    }
}

/// Whether an instance can be reached because of it, although its interfaces are in the isolation group, or whether it is not known
/// which instance is meant.
fn opens(problem: &Problem) -> bool {
    let is_open =
        matches!(problem, Problem::GroupMissing { .. } | Problem::GroupElsewhere { .. } | Problem::TooWide { .. });
    let is_not_isolated = problem.severity() == Severity::NotIsolated;
    let is_away =
        matches!(problem, Problem::Terminated { .. } | Problem::TerminatedUnsaved { .. } | Problem::HeldByOther { .. });
    is_open || is_not_isolated && !is_away
}

fn shown<'a>(observed: &'a Observed, instance: Option<&'a Instance>, id: &InterfaceId) -> Option<&'a Interface> {
    let attached = instance.and_then(|instance| instance.interfaces.iter().find(|found| found.id == *id));
    attached.or_else(|| observed.interfaces.get(id))
}

/// Why an interface is open, from what EC2 shows and what is recorded.
fn why_open(incident: &Incident, record: Option<&Record>, shown: Option<&Interface>) -> String {
    let Some(shown) = shown else { return "EC2 does not show it".to_owned() };
    let groups = ShowGroups(&shown.groups);
    let role = |id: &GroupId| {
        incident.groups.get(id).or_else(|| incident.observed.groups.get(id)).and_then(|group| group.role)
    };
    if let Some(transit) = shown.groups.iter().find(|id| role(id) == Some(Role::Transit)) {
        return format!("in transit group {transit}, WHICH IS OPEN TO EVERYBODY");
    }
    let Some(record) = record else { return format!("in {groups}: {}", not_reached(incident)) };
    let is_ours = |id: &&GroupId| incident.isolating(record).contains(*id);
    match record.interfaces.get(&shown.id) {
        None if record.state == State::Isolating => format!("in {groups}: {}", not_reached(incident)),
        None => format!("attached since the instance was isolated, in {groups}"),
        Some(_) if shown.groups.iter().any(|id| is_ours(&id)) => {
            let others: Groups = shown.groups.iter().filter(|id| !is_ours(id)).cloned().collect();
            format!("has {} beside the isolation group", ShowGroups(&others))
        }
        Some(before) if *before == shown.groups && record.state == State::Isolating => {
            format!("still in {groups}")
        }
        Some(before) if *before == shown.groups => format!("back in {groups}, where it was before its isolation"),
        Some(_) => format!("moved out of the isolation, to {groups}"),
    }
}

/// What beside the groups of interfaces the next update would put right.
fn to_do(plan: &Plan) -> Vec<String> {
    let is_said = |step: &&Step| matches!(step, Step::Protect { .. } | Step::TakeSnapshots { .. });
    plan.steps().filter(is_said).map(ToString::to_string).collect()
}
