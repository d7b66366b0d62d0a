//! How one instance stands, **as EC2 shows it**: by the plan that a request would begin with, whatever its record says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::dry_run::Sight;
use crate::model::{
    Group, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Record, Role, ShowGroups, State,
};
use crate::plan::{Observed, Plan, Problem, Severity, Step};

/// How one instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Something of it can be reached.
    NotIsolated,
    /// EC2 could not be asked.
    #[default]
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
#[derive(Debug, Clone, Default)]
pub struct Contained {
    pub condition: Condition,
    /// Why it is not isolated: of one interface, or of the whole instance.
    pub open: Vec<(Option<InterfaceId>, String)>,
    pub isolated: BTreeSet<InterfaceId>,
    /// What else is not as it should be.
    pub warnings: Vec<String>,
    /// What may end it although it is isolated.
    pub endings: Vec<String>,
    /// What the next update would do about it.
    pub to_do: Vec<String>,
    /// As it was when that was found.
    pub observed: Arc<Observed>,
}

/// What is known of one instance beside what EC2 shows.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Its record, unless that is only history.
    pub record: Option<&'a Record>,
    /// It was asked for that it is restored.
    pub is_being_restored: bool,
    /// Groups of ours.
    pub groups: &'a BTreeMap<GroupId, Group>,
    /// Why it may not have been reached yet.
    pub not_reached: &'a str,
}

impl Situation<'_> {
    fn is_ours(&self, record: &Record, id: &GroupId) -> bool {
        let is_tagged = self.groups.get(id).is_some_and(|group| group.isolates_for(&record.owner));
        is_tagged || record.isolation_groups.contains(id)
    }
}

/// Judges what was seen of an instance that is to be in this group.
#[must_use]
pub fn judge(situation: &Situation<'_>, id: &InstanceId, isolation_group: &GroupId, sight: Sight) -> Contained {
    let record = situation.record;
    let (plan, observed) = match sight {
        Ok(seen) => seen,
        Err(error) => {
            let open = vec![(None, format!("it is not known how it stands: {error}"))];
            return Contained { condition: Condition::Unknown, open, ..Contained::default() };
        }
    };
    let instance = observed.instances.get(id);
    let (mut open, mut isolated) = (Vec::new(), plan.standing.isolated.clone());
    let all: BTreeSet<&Problem> = plan.problems.iter().chain(&plan.remember).collect();
    for interface in &plan.standing.open {
        let shown = shown(&observed, instance, interface);
        // The function would write it once more, since it has not seen it happen. EC2 shows it.
        if shown.is_some_and(|shown| shown.groups == Groups::from([isolation_group.clone()])) {
            isolated.insert(interface.clone());
            continue;
        }
        let reason = match all.iter().find(|problem| problem.left_out() == Some(interface)) {
            // Isolated, and not by us.
            Some(Problem::InterfaceHeldByOther { .. }) => continue,
            Some(problem) => problem.to_string(),
            None => why_open(situation, shown),
        };
        open.push((Some(interface.clone()), reason));
    }
    let is_told = |problem: &&Problem| {
        let is_open = problem.left_out().is_some() && opens(problem);
        is_open || matches!(problem, Problem::InTransit { .. })
    };
    let problems: Vec<&Problem> = all.into_iter().filter(|problem| !is_told(problem)).collect();
    open.extend(problems.iter().filter(|problem| opens(problem)).map(|problem| (None, problem.to_string())));
    let condition = if record.is_some() && situation.is_being_restored {
        Condition::Restoring
    } else if instance.is_some_and(Instance::is_terminated) {
        Condition::Terminated
    } else if open.is_empty() && problems.iter().any(|problem| matches!(problem, Problem::HeldByOther { .. })) {
        Condition::IsolatedElsewhere
    } else if !open.is_empty() || isolated.is_empty() {
        Condition::NotIsolated
    } else {
        Condition::Isolated
    };
    if condition == Condition::NotIsolated && open.is_empty() {
        open.push((None, situation.not_reached.to_owned()));
    }
    let said = |is_meant: &dyn Fn(&Problem) -> bool| {
        problems.iter().filter(|problem| is_meant(problem)).map(ToString::to_string).collect()
    };
    Contained {
        warnings: said(&|problem| !opens(problem) && !problem.is_ending()),
        endings: said(&Problem::is_ending),
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
    let is_away = matches!(
        problem,
        Problem::Terminated { .. }
            | Problem::TerminatedUnsaved { .. }
            | Problem::HeldByOther { .. }
            | Problem::InterfaceHeldByOther { .. }
    );
    is_open || is_not_isolated && !is_away
}

/// What EC2 shows of an interface: with the instance if it is attached to it, else by itself.
pub(crate) fn shown<'a>(
    observed: &'a Observed,
    instance: Option<&'a Instance>,
    id: &InterfaceId,
) -> Option<&'a Interface> {
    let attached = instance.and_then(|instance| instance.interfaces.iter().find(|found| found.id == *id));
    attached.or_else(|| observed.interfaces.get(id))
}

/// Why an interface is open, from what EC2 shows and what is recorded.
fn why_open(situation: &Situation<'_>, shown: Option<&Interface>) -> String {
    let Some(shown) = shown else { return "EC2 does not show it".to_owned() };
    let groups = ShowGroups(&shown.groups);
    let role = |id: &GroupId| situation.groups.get(id).and_then(|group| group.role);
    if let Some(transit) = shown.groups.iter().find(|id| role(id) == Some(Role::Transit)) {
        return format!("in transit group {transit}, WHICH IS OPEN TO EVERYBODY");
    }
    let Some(record) = situation.record else { return format!("in {groups}: {}", situation.not_reached) };
    match record.interfaces.get(&shown.id) {
        None if record.state == State::Isolating => format!("in {groups}: {}", situation.not_reached),
        None => format!("attached since the instance was isolated, in {groups}"),
        Some(_) if shown.groups.iter().any(|id| situation.is_ours(record, id)) => {
            let others: Groups = shown.groups.iter().filter(|id| !situation.is_ours(record, id)).cloned().collect();
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
