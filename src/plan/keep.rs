//! Instances that stay isolated although no request asks for it any more: a Delete that must not release, an Update
//! that no longer lists them.
//!
//! They are left as they are, but **no interface is left in the transit group**.

use super::groups::own_groups;
use super::transit::{open_groups, say_if_in_transit};
use super::{Aim, Case, Doubt, Needs, Plan, Problem, Step};
use crate::model::{Groups, Interface, Record, State};

/// Whatever is claimed of them is read.
pub(super) fn needs(case: &Case<'_>) -> Needs {
    let mut needs = Needs::default();
    if let Some(record) = case.held() {
        needs.interfaces = record.interfaces.keys().cloned().collect();
        needs.groups = record.isolation_groups.clone();
    }
    needs
}

/// The record is marked kept if there is a `reason` to write down.
pub(super) fn plan(case: &Case<'_>, reason: Option<&str>, plan: &mut Plan) {
    let has_rival = case.has_rival(plan);
    if case.record().is_none() {
        case.believes(Doubt::Record, plan);
    }
    let Some(record) = case.held().filter(|record| record.owner == *case.owner) else { return };
    let target = Groups::from([record.isolation_group.clone()]);
    let ours = own_groups(case.observed, case.owner, &record.isolation_groups);
    let passages = open_groups(case, &ours, &record.isolation_group);
    for id in record.interfaces.keys() {
        let Some(interface) = case.observed.interfaces.get(id) else {
            if case.observed.looked_up.contains(id) {
                case.believes(Doubt::Interface(id.clone()), plan);
            }
            continue;
        };
        say_if_in_transit(case, &ours, &record.isolation_group, interface, plan);
        if may_be_inside(case, record, interface, &passages, &target, plan) {
            let aim = if interface.groups == target { Aim::Confirm } else { Aim::Isolate };
            let (instance, interface, from) = (case.id(), id.clone(), interface.groups.clone());
            plan.push(Step::SetGroups { instance, interface, from, to: target.clone(), aim });
        }
        if !interface.groups.is_subset(&ours) {
            // Somebody moved it, or nobody isolated it: it is left as it is.
            let (instance, interface, groups) = (case.id(), id.clone(), interface.groups.clone());
            plan.standing.open.insert(interface.clone());
            plan.problems.push(Problem::NotKept { instance, interface, groups });
        }
    }
    // A restore that has begun must not be forgotten: what it changed may not be visible yet.
    let may_be_marked = plan.is_empty() && !has_rival && !matches!(record.state, State::Kept | State::Restoring);
    if let Some(reason) = reason.filter(|_| may_be_marked) {
        let (from, state, reason) = (record.state, State::Kept, Some(reason.to_owned()));
        plan.push(Step::Mark { instance: case.id(), owner: record.owner.clone(), from, state, reason, cut: None });
    }
}

/// EC2's reads trail its writes: if a passage may have been cut short, only what this invocation wrote is believed.
fn may_be_inside(
    case: &Case<'_>,
    record: &Record,
    interface: &Interface,
    passages: &Groups,
    target: &Groups,
    plan: &mut Plan,
) -> bool {
    if !interface.groups.is_disjoint(passages) {
        return true;
    }
    let mut is_open = false;
    for id in passages.iter().filter(|_| record.state == State::Isolating) {
        // A group that is not there holds nothing.
        is_open |= case.observed.groups.contains_key(id) || !case.believes(Doubt::Group(id.clone()), plan);
    }
    let confirm = Step::SetGroups {
        instance: case.id(),
        interface: interface.id.clone(),
        from: Groups::new(),
        to: target.clone(),
        aim: Aim::Confirm,
    };
    // EC2 lets nobody change it, whatever the reason: it never went in.
    let never_went_in = case.ledger.failure(&confirm).is_some_and(super::StepError::is_for_good);
    let is_written = case.ledger.has_written(&interface.id, target) && interface.groups == *target;
    is_open && !never_went_in && !is_written
}

#[cfg(test)]
mod tests;
