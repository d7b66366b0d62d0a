//! The transit group on the way into isolation: who passes, who has passed, who is left in it.
//!
//! What is tracked through a group that allows everything is not tracked, and ends when the interface leaves it. **An
//! interface passes once**, and nothing is left inside.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::{holder, is_closed, not_open};
use super::isolate::Isolation;
use super::{Aim, Case, Doubt, Passage, Plan, Problem, Step};
use crate::model::{GroupId, Groups, Instance, Interface, InterfaceId, State, Wants};

/// How many interfaces may be in the transit group at once: it is open to everybody.
pub const MOST_IN_TRANSIT: usize = 20;

/// The transit group, if connections are to be cut and it is fit for it.
pub(super) fn transit<'a>(case: &Case<'a>, wants: &'a Wants, plan: &mut Plan) -> Option<&'a GroupId> {
    if !wants.cut_connections {
        return None;
    }
    let Some(id) = &wants.transit_group else {
        plan.problems.push(Problem::NoTransit);
        return None;
    };
    let unfit = match case.observed.groups.get(id) {
        Some(group) if group.vpc.as_ref() == Some(&wants.vpc) => not_open(group),
        Some(_) => Some(format!("is not in {}", wants.vpc)),
        None => Some("does not exist".to_owned()),
    };
    let Some(reason) = unfit else { return Some(id) };
    case.believes(Doubt::Rules(id.clone()), plan);
    plan.problems.push(Problem::TransitUnfit { group: id.clone(), reason });
    None
}

/// What an invocation has done with interfaces in the transit group, whatever they are attached to by now.
#[derive(Debug, Clone, Default)]
pub struct Passages {
    /// Those that a passage holds now, or held when the look began.
    pub held: BTreeSet<InterfaceId>,
    /// Those that it took through.
    pub done: BTreeSet<InterfaceId>,
    /// Those of them that were open after that, and are isolated again. They do not pass twice.
    pub undone: BTreeSet<InterfaceId>,
}

impl Isolation<'_> {
    /// Whether a passage of ours holds an interface, or is about to. **One that comes from isolation waits for its seat, perhaps for
    /// minutes**: what shows anything else meanwhile was moved.
    pub(super) fn is_passing(&self, interface: &Interface) -> bool {
        let Some(passage) = self.case.ledger.passage_under_way(&interface.id) else { return false };
        let is_inside = !interface.groups.is_empty() && interface.groups.is_subset(&self.ours);
        let is_held = is_inside && self.case.passages.held.contains(&interface.id);
        passage.isolates() || is_held || self.shows_target(interface)
    }

    /// Whether an interface in our isolation has no connections from before.
    pub(super) fn is_cut(&self, interface: &Interface, instance: Option<&Instance>) -> bool {
        let id = &interface.id;
        let records = self.case.records.values().filter(|record| record.owner.stack_id == self.case.owner.stack_id);
        let is_undone = self.case.passages.undone.contains(id);
        let has_passed = self.case.ledger.passage(id).is_some_and(Passage::is_through)
            || self.case.passages.done.contains(id)
            || records.into_iter().any(|record| record.state != State::Restored && record.passed.contains(id));
        has_passed && !is_undone || instance.is_none_or(|instance| instance.state == "stopped")
    }

    /// The passage of an interface that is isolated already.
    pub(super) fn passage_from_inside(
        &self,
        interface: &Interface,
        instance: Option<&Instance>,
        originals: &BTreeMap<InterfaceId, Groups>,
        plan: &mut Plan,
    ) -> Option<Step> {
        let (ledger, passages) = (self.case.ledger, self.case.passages);
        if passages.undone.contains(&interface.id) {
            plan.problems.push(Problem::Undone { instance: self.case.id(), interface: interface.id.clone() });
            return None;
        }
        let passage = match ledger.passage(&interface.id) {
            Some(Passage::Done | Passage::Opened) => return None,
            Some(Passage::Refused(reason)) => Err(reason.clone()),
            Some(Passage::Postponed) | None => {
                let passage = self.passage(interface, instance, originals)?;
                ledger.given_up(&passage).map_or(Ok(passage), |error| Err(error.to_string()))
            }
        };
        let not_cut = |reason| Problem::NotCut { instance: self.case.id(), interface: interface.id.clone(), reason };
        passage.map_err(|reason| plan.problems.push(not_cut(reason))).ok()
    }

    /// The way of an interface into isolation: once through the transit group, unless it comes from isolation.
    pub(super) fn isolate(
        &self,
        interface: &Interface,
        instance: Option<&Instance>,
        originals: &BTreeMap<InterfaceId, Groups>,
    ) -> Step {
        let is_inside = !interface.groups.is_empty() && interface.groups.is_subset(&self.ours);
        let is_foreign = holder(self.case.observed, &self.ours, interface).is_some();
        let ledger = self.case.ledger;
        let was_tried = ledger.written(&interface.id).is_some() || ledger.passage_under_way(&interface.id).is_some();
        let may_pass = !is_inside && !is_foreign && !was_tried && !self.case.passages.done.contains(&interface.id);
        let passage = if may_pass { self.passage(interface, instance, originals) } else { None };
        let aim = if self.shows_target(interface) { Aim::Confirm } else { Aim::Isolate };
        passage.unwrap_or_else(|| Step::set_groups(self.case.id(), interface, &self.target(), aim))
    }

    pub(super) fn passage(
        &self,
        interface: &Interface,
        instance: Option<&Instance>,
        originals: &BTreeMap<InterfaceId, Groups>,
    ) -> Option<Step> {
        let may_have_connections = instance.is_some_and(|instance| instance.state != "stopped");
        let through = self.transit.filter(|_| may_have_connections && !self.has_rival)?;
        let recorded = self.case.held().and_then(|record| record.interfaces.get(&interface.id));
        let originals = recorded.or_else(|| originals.get(&interface.id))?;
        Some(Step::Pass {
            instance: self.case.id(),
            interface: interface.id.clone(),
            from: interface.groups.clone(),
            through: through.clone(),
            hold_seconds: self.wants.hold_seconds,
            to: self.wants.isolation_group.clone(),
            originals: originals.clone(),
        })
    }
}

/// Names an interface that shows a group of ours that does not isolate.
pub(super) fn say_if_in_transit(
    case: &Case<'_>,
    ours: &Groups,
    isolation_group: &GroupId,
    interface: &Interface,
    plan: &mut Plan,
) {
    if let Some(through) = interface.groups.intersection(&open_groups(case, ours, isolation_group)).next() {
        plan.problems.push(Problem::InTransit {
            instance: case.id(),
            interface: interface.id.clone(),
            through: through.clone(),
            isolation_group: isolation_group.clone(),
        });
    }
}

/// The groups of ours, beside the isolation group, that are not known to isolate: an invocation that died may have left an
/// interface there.
pub(super) fn open_groups(case: &Case<'_>, ours: &Groups, isolation_group: &GroupId) -> Groups {
    let is_closed = |id| case.observed.groups.get(id).is_some_and(|group| is_closed(case.observed, group));
    ours.iter().filter(|id| *id != isolation_group && !is_closed(*id)).cloned().collect()
}
