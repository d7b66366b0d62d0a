//! Delete, and instances that an Update no longer lists: every recorded interface gets its originals back, then what protected
//! the instance is put back.
//!
//! **Only what is still in our isolation is changed**; what was moved meanwhile is left alone and reported.

use super::groups::{holder, own_groups};
use super::protections::unprotect;
use super::tags::untag_restored;
use super::transit::say_if_in_transit;
use super::{Aim, Case, Doubt, Needs, Plan, Problem, Severity, Step, Work};
use crate::model::{Groups, InstanceId, Interface, InterfaceId, Record, State};

/// What has to be read of a recorded instance; what protects it only once its interfaces are in place.
pub(super) fn needs(case: &Case<'_>) -> Needs {
    let mut needs = Needs::default();
    needs.marked.extend(case.living().and_then(|instance| instance.vpc.clone()));
    needs.groups = case.shown_groups();
    let Some(record) = case.record() else { return needs };
    needs.marked.insert(record.vpc.clone());
    needs.interfaces = record.interfaces.keys().cloned().collect();
    needs.groups.extend(record.interfaces.values().flatten().chain(&record.isolation_groups).cloned());
    // Somebody else may isolate what they are attached to by now.
    let recorded = record.interfaces.keys().filter_map(|id| case.observed.interfaces.get(id));
    needs.instances = recorded.filter_map(|found| found.instance.clone()).filter(|at| at != case.instance).collect();
    let others = needs.instances.iter().filter_map(|id| case.observed.instances.get(id));
    needs.groups.extend(others.flat_map(|other| &other.interfaces).flat_map(|interface| &interface.groups).cloned());
    let is_looked_up = needs.interfaces.is_subset(&case.observed.looked_up);
    if !is_looked_up || !interfaces(case, record, &mut Plan::default()).is_done() {
        return needs;
    }
    if is_protection_open(case, record) {
        let protection = &record.protection;
        needs.attributes = !protection.attributes.is_empty();
        needs.members = protection.scaling_group.is_some();
        needs.profiles = protection.profile.is_some();
    }
    // They were tagged before it was saved that they were to be kept.
    if record.state != State::Restored {
        needs.volumes = case.living().into_iter().flat_map(|instance| instance.volumes.keys()).cloned().collect();
    }
    needs
}

pub(super) fn plan(case: &Case<'_>, plan: &mut Plan) {
    if let Some(reason) = case.unreadable {
        plan.problems.push(Problem::Unreadable { item: case.instance.to_string(), reason: reason.clone() });
        return;
    }
    let has_rival = case.has_rival(plan);
    if case.record().is_some_and(|record| !case.goal.is_about(record, case.owner, case.stays)) {
        // It changed hands.
        plan.standing.is_restored = true;
        return;
    }
    let Some(record) = case.record() else {
        let is_gone = case.believes(Doubt::Record, plan);
        let has_strays = unrecorded(case, &own_groups(case.observed, case.owner, []), &[], plan);
        plan.standing.is_in_place = !has_strays;
        plan.standing.is_restored = !has_strays && !has_rival && is_gone;
        return;
    };
    let todo = interfaces(case, record, plan);
    plan.standing.is_in_place = todo.is_done();
    if !todo.changes.is_empty() {
        let is_begun = record.state == State::Restored
            || record.state == State::Restoring
                && record
                    .lease
                    .as_ref()
                    .is_some_and(|lease| lease.writer == case.now.writer && case.now.time < lease.until);
        let first = (!is_begun).then(|| mark(case, record, State::Restoring, None));
        plan.work.push(Work { first, then: todo.changes });
    } else if todo.is_done() && !has_rival {
        put_back(case, record, plan);
    }
    plan.standing.is_restored = record.state == State::Restored
        && plan.standing.is_in_place
        && plan.is_empty()
        && plan.doubts.iter().all(|doubt| case.ledger.believes(doubt, case.now.elapsed));
}

/// What the interfaces of a record need.
#[derive(Default)]
struct Todo {
    changes: Vec<Step>,
    /// One of them cannot be restored.
    is_stuck: bool,
    /// One reading is not believed yet.
    waits: bool,
}

impl Todo {
    fn is_done(&self) -> bool {
        self.changes.is_empty() && !self.is_stuck && !self.waits
    }
}

fn interfaces(case: &Case<'_>, record: &Record, plan: &mut Plan) -> Todo {
    let ours = own_groups(case.observed, &record.owner, &record.isolation_groups);
    let mut todo = Todo::default();
    for (id, originals) in &record.interfaces {
        match case.interface(id) {
            Some(interface) => one(case, record, interface, originals, &ours, plan, &mut todo),
            // One that is gone counts as restored.
            None => todo.waits |= !case.believes(Doubt::Interface(id.clone()), plan),
        }
    }
    let recorded: Vec<&InterfaceId> = record.interfaces.keys().collect();
    todo.is_stuck |= unrecorded(case, &ours, &recorded, plan);
    if case.shown().is_none() && record.state != State::Restored {
        todo.waits |= !case.believes(Doubt::Instance, plan);
    }
    todo
}

fn one(
    case: &Case<'_>,
    record: &Record,
    interface: &Interface,
    originals: &Groups,
    ours: &Groups,
    plan: &mut Plan,
    todo: &mut Todo,
) {
    let id = &interface.id;
    if let Some(other) = interface.instance.as_ref().filter(|at| *at != case.instance && case.stays.contains(at)) {
        // It stays isolated with what it is attached to, whose record then has to know its groups.
        let is_held = case
            .records
            .get(other)
            .is_some_and(|record| record.state != State::Restored && record.interfaces.contains_key(id));
        if !is_held && !interface.groups.is_disjoint(ours) {
            let (instance, interface) = (case.id(), id.clone());
            plan.problems.push(Problem::AttachedElsewhere { instance, interface, other: other.clone() });
            todo.is_stuck = true;
        }
        return;
    }
    if case.speaker(interface).is_some_and(|speaker| speaker != case.instance) {
        return;
    }
    let elsewhere = interface.instance.as_ref().filter(|at| *at != case.instance);
    if let Some(other) =
        elsewhere.filter(|at| !interface.groups.is_disjoint(ours) && holder_at(case, ours, at).is_some())
    {
        let (instance, interface) = (case.id(), id.clone());
        plan.problems.push(Problem::AttachedElsewhere { instance, interface, other: other.clone() });
        todo.is_stuck = true;
        return;
    }
    if record.state != State::Restored {
        case.compare_records(id, originals, plan);
    }
    say_if_in_transit(case, ours, &record.isolation_group, interface, plan);
    let change = |to: &Groups, aim| Step::set_groups(case.id(), interface, to, aim);
    let (target, gone): (Groups, Groups) =
        originals.iter().cloned().partition(|group| case.observed.groups.contains_key(group));
    let mut is_doubted = false;
    for group in &gone {
        is_doubted |= !case.believes(Doubt::Original(group.clone()), plan);
    }
    todo.waits |= is_doubted;
    if interface.groups.is_disjoint(ours) {
        let confirm = change(&interface.groups, Aim::Confirm);
        let was_settled = matches!(record.state, State::Isolated | State::Restored);
        // A reading that is older than what this invocation gave back shows a group of ours.
        let is_over = |(written, is_accepted): (&Groups, bool)| is_accepted && written.is_disjoint(ours);
        if is_written(case, &confirm, id, &interface.groups) {
            // As this invocation left it.
        } else if case.ledger.written(id).map_or(was_settled, is_over) {
            todo.waits |= !case.believes(Doubt::AsWanted(id.clone()), plan);
        } else {
            todo.changes.push(confirm);
            return;
        }
        if interface.groups != target && interface.groups != *originals {
            let (instance, interface, groups) = (case.id(), id.clone(), interface.groups.clone());
            plan.problems.push(Problem::Moved { instance, interface, groups });
        } else if !gone.is_empty() && interface.groups == target {
            let (instance, interface) = (case.id(), id.clone());
            plan.problems.push(Problem::OriginalDropped { instance, interface, groups: gone });
        }
    } else if is_doubted {
        // Its groups may be there after all.
    } else if target.is_empty() {
        let (instance, interface) = (case.id(), id.clone());
        plan.problems.push(match originals.is_empty() {
            true => Problem::NoOriginals { instance, interface },
            false => Problem::OriginalsGone { instance, interface, groups: gone },
        });
        todo.is_stuck = true;
    } else {
        todo.changes.push(change(&target, Aim::Restore));
    }
}

/// Whether this invocation wrote what an interface shows, or EC2 does not let it be written, whatever the reason: then it was
/// never changed.
fn is_written(case: &Case<'_>, confirm: &Step, interface: &InterfaceId, groups: &Groups) -> bool {
    case.ledger.has_written(interface, groups)
        || case.ledger.failure(confirm).is_some_and(super::StepError::is_for_good)
}

/// Names interfaces of the instance that are in our isolation although its record does not hold them. Whether there are any that no
/// record holds.
fn unrecorded(case: &Case<'_>, ours: &Groups, recorded: &[&InterfaceId], plan: &mut Plan) -> bool {
    let attached = case.living().into_iter().flat_map(|instance| &instance.interfaces);
    let strays = attached.filter(|interface| !recorded.contains(&&interface.id));
    let mut found = false;
    for stray in strays {
        let Some(group) = stray.groups.intersection(ours).next().cloned() else { continue };
        let (instance, interface) = (case.id(), stray.id.clone());
        match case.recorded_elsewhere(&stray.id).map(|(other, _)| other.clone()) {
            None => {
                found = true;
                plan.problems.push(Problem::OriginalUnknown { instance, interface, group });
            }
            Some(other) if case.stays.contains(&other) => {
                plan.problems.push(Problem::RecordedElsewhere { instance, interface, other });
            }
            Some(_) => {}
        }
    }
    found
}

/// Whether the protections of the record are to be undone. In a restored one they were: what is there now is not
/// ours, unless this invocation was overtaken while it set them.
fn is_protection_open(case: &Case<'_>, record: &Record) -> bool {
    !record.protection.is_empty() && (record.state != State::Restored || case.ledger.has_protected)
}

/// What follows once the interfaces have their groups: protections, tags, the mark.
fn put_back(case: &Case<'_>, record: &Record, plan: &mut Plan) {
    // Another stack in whose isolation it is by now needs what protects it.
    let ours = own_groups(case.observed, &record.owner, &record.isolation_groups);
    let holder = holder_at(case, &ours, case.instance);
    let is_done = match holder {
        _ if !is_protection_open(case, record) => true,
        Some(holder) => {
            plan.problems.push(Problem::ProtectionLeft { instance: case.id(), holder: holder.clone() });
            true
        }
        None => unprotect(case, record, plan),
    };
    // Nobody looks at the protections of a restored instance any more.
    plan.remember.extend(plan.problems.iter().filter(|problem| problem.severity() == Severity::Note).cloned());
    if !is_done || record.state == State::Restored {
        return;
    }
    // The tags are the other stack's by now: they say what its interfaces had.
    if holder.is_none() {
        untag_restored(case, record, plan);
    }
    // Tags are for people: one that cannot be taken off is no reason to call the instance isolated.
    if plan.steps().all(|untag| case.ledger.given_up(untag).is_some()) {
        let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        let reason = (!problems.is_empty()).then(|| problems.join("; "));
        plan.push(mark(case, record, State::Restored, reason));
    }
}

/// The stack in whose isolation an interface of an instance is, if that is not ours.
fn holder_at<'a>(case: &Case<'a>, ours: &Groups, instance: &InstanceId) -> Option<&'a String> {
    let mut attached = case.observed.instances.get(instance).into_iter().flat_map(|instance| &instance.interfaces);
    attached.find_map(|interface| holder(case.observed, ours, interface))
}

fn mark(case: &Case<'_>, record: &Record, state: State, reason: Option<String>) -> Step {
    let owner = record.owner.clone();
    Step::Mark { instance: case.id(), owner, from: record.state, state, reason, cut: None, keeps_lease: false }
}

#[cfg(test)]
mod tests;
