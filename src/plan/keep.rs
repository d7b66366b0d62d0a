//! Instances that stay isolated although no request asks for it any more: a Delete that must not release, an Update
//! that no longer lists them.
//!
//! They are left as they are, but **no interface is left in the transit group**. What they are said to be is what EC2 shows of every
//! interface, recorded or attached since.

use super::groups::{not_closed, own_groups, unknown_peers};
use super::transit::{open_groups, say_if_in_transit};
use super::{Aim, Case, Doubt, Needs, Plan, Problem, Standing, Step};
use crate::model::{Groups, Interface, Record, State};

/// Whatever is claimed of them is read.
pub(super) fn needs(case: &Case<'_>) -> Needs {
    let mut needs = Needs::default();
    if let Some(record) = case.held() {
        needs.interfaces = record.interfaces.keys().cloned().collect();
        let peers = record.isolation_groups.iter().flat_map(|group| unknown_peers(case.observed, group));
        needs.groups = peers.chain(&record.isolation_groups).cloned().collect();
    }
    needs
}

/// The record is marked kept if there is a `reason` to write down.
pub(super) fn plan(case: &Case<'_>, reason: Option<&str>, plan: &mut Plan) {
    let has_rival = case.has_rival(plan);
    if let Some(reason) = case.unreadable {
        plan.problems.push(Problem::Unreadable { item: case.instance.to_string(), reason: reason.clone() });
        return;
    }
    if case.record().is_none() {
        case.believes(Doubt::Record, plan);
    }
    let Some(record) = case.held().filter(|record| record.owner == *case.owner) else { return };
    let target = Groups::from([record.isolation_group.clone()]);
    let ours = own_groups(case.observed, case.owner, &record.isolation_groups);
    let passages = open_groups(case, &ours, &record.isolation_group);
    let wide = match case.observed.groups.get(&record.isolation_group) {
        Some(group) => not_closed(case.observed, group),
        None => {
            // One that is not there holds nothing.
            case.believes(Doubt::Group(record.isolation_group.clone()), plan);
            vec![]
        }
    };
    let (mut is_gone, is_narrow) = (true, wide.is_empty());
    if !is_narrow {
        case.believes(Doubt::Rules(record.isolation_group.clone()), plan);
    }
    plan.problems.extend(wide);
    let is_ours = |groups: &Groups| !groups.is_empty() && groups.is_subset(&ours);
    let isolates =
        |interface: &Interface| is_narrow && is_ours(&interface.groups) && interface.groups.is_disjoint(&passages);
    for id in record.interfaces.keys() {
        let Some(interface) = case.observed.interfaces.get(id) else {
            is_gone &= case.observed.looked_up.contains(id) && case.believes(Doubt::Interface(id.clone()), plan);
            continue;
        };
        is_gone = false;
        stand(interface, isolates(interface), plan);
        say_if_in_transit(case, &ours, &record.isolation_group, interface, plan);
        if may_be_inside(case, record, interface, &passages, &target, plan) {
            let aim = if interface.groups == target { Aim::Confirm } else { Aim::Isolate };
            plan.push(Step::set_groups(case.id(), interface, &target, aim));
        }
        if !is_ours(&interface.groups) {
            // Somebody moved it, or nobody isolated it: it is left as it is.
            let (instance, interface, groups) = (case.id(), id.clone(), interface.groups.clone());
            plan.problems.push(Problem::NotKept { instance, interface, groups });
        }
    }
    let attached = case.living().into_iter().flat_map(|instance| &instance.interfaces);
    let is_unrecorded = |id| !record.interfaces.contains_key(id) && case.recorded_elsewhere(id).is_none();
    for interface in attached.filter(|interface| is_unrecorded(&interface.id)) {
        is_gone = false;
        stand(interface, isolates(interface), plan);
        say_if_in_transit(case, &ours, &record.isolation_group, interface, plan);
        let (instance, id, groups) = (case.id(), interface.id.clone(), interface.groups.clone());
        plan.problems.push(match groups.intersection(&ours).next().cloned() {
            Some(group) => Problem::OriginalUnknown { instance, interface: id, group },
            None => Problem::NotKept { instance, interface: id, groups },
        });
    }
    if is_gone {
        plan.problems.push(Problem::NothingKept { instance: case.id() });
    }
    // A restore that has begun must not be forgotten: what it changed may not be visible yet.
    let may_be_marked = plan.is_empty() && !has_rival && !matches!(record.state, State::Kept | State::Restoring);
    if let Some(reason) = reason.filter(|_| may_be_marked) {
        let (from, state, reason) = (record.state, State::Kept, Some(reason.to_owned()));
        let (owner, keeps_lease) = (record.owner.clone(), false);
        plan.push(Step::Mark { instance: case.id(), owner, from, state, reason, cut: None, keeps_lease });
    }
}

fn stand(interface: &Interface, is_isolated: bool, plan: &mut Plan) {
    let Standing { isolated, open, .. } = &mut plan.standing;
    (if is_isolated { isolated } else { open }).insert(interface.id.clone());
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
    let confirm = Step::set_groups(case.id(), interface, target, Aim::Confirm);
    // EC2 lets nobody change it, whatever the reason: it never went in.
    let never_went_in = case.ledger.failure(&confirm).is_some_and(super::StepError::is_for_good);
    let is_written = case.ledger.has_written(&interface.id, target) && interface.groups == *target;
    is_open && !never_went_in && !is_written
}

#[cfg(test)]
mod tests;
