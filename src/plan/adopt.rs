//! Instances of a stack that keeps them, or is gone, move under another stack without a moment of release.
//!
//! **Record before touch**: a record is in the new table, with everything it held, before an interface leaves the old isolation
//! group, which it leaves for the new one directly; only when all of that was read back is it taken out of the old table. So it can
//! stop anywhere and be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::groups::{is_closed, own_groups, unknown_peers};
use super::tags::{Tags, contains, original_groups_tags, way_out};
use super::{Aim, Doubt, Ledger, Needs, Observed, Plan, Problem, Records, Step, Work, tag};
use crate::model::{GroupId, Groups, InstanceId, InterfaceId, Owner, Record, State};

/// What is to be taken over, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Heritage<'a> {
    pub records: &'a Records,
    /// Ids of stacks that take care of their records.
    pub in_charge: &'a BTreeSet<String>,
    /// What the latest request of those stacks lists.
    pub listed: &'a BTreeSet<InstanceId>,
    /// Only these, where any are named.
    pub only: &'a BTreeSet<InstanceId>,
    /// Who takes it over.
    pub owner: &'a Owner,
    pub isolation_group: &'a GroupId,
}

impl Heritage<'_> {
    fn is_meant(&self, instance: &InstanceId) -> bool {
        self.only.is_empty() || self.only.contains(instance)
    }
}

/// What has to be read of an instance whose record was copied.
pub(super) fn needs(case: &super::Case<'_>, heritage: &Heritage<'_>) -> Needs {
    let Some(record) = heritage.records.get(case.instance) else { return Needs::default() };
    let named = record.interfaces.values().flatten().chain(&record.isolation_groups).chain([heritage.isolation_group]);
    let peers = unknown_peers(case.observed, heritage.isolation_group);
    Needs {
        interfaces: record.interfaces.keys().cloned().collect(),
        groups: named.chain(peers).cloned().chain(case.shown_groups()).collect(),
        marked: [record.vpc.clone()].into(),
        episode: Some(record.episode()),
        volumes: case.living().into_iter().flat_map(|instance| instance.volumes.keys()).cloned().collect(),
        ..Needs::default()
    }
}

/// What follows for one instance once its record was copied.
pub(super) fn plan(case: &super::Case<'_>, heritage: &Heritage<'_>, plan: &mut Plan) {
    let isolation_group = heritage.isolation_group;
    let old = heritage.records.get(case.instance).filter(|record| record.state != State::Restored);
    let Some(record) = old.map(Arc::as_ref) else { return };
    let one = Case { heritage, known: case.records, observed: case.observed, record, ledger: Some(case.ledger) };
    if let Some(reason) = unfit(isolation_group, case.observed) {
        let is_shown = case.observed.groups.contains_key(isolation_group);
        if is_shown || case.believes(Doubt::Group(isolation_group.clone()), plan) {
            plan.problems.push(Problem::GroupUnfit { group: isolation_group.clone(), reason });
        }
        return;
    }
    if let Some(obstacle) = one.obstacle() {
        plan.problems.push(obstacle);
        return;
    }
    let mut adoption = Adoption::default();
    one.plan(&mut adoption);
    plan.work = adoption.plan.work;
    // What is not shown may be in the old group still: nothing is marked before that was read again.
    let mut waits = case.shown().is_none() && !case.believes(Doubt::Instance, plan);
    for id in record.interfaces.keys().filter(|id| !case.observed.interfaces.contains_key(*id)) {
        waits |= !case.believes(Doubt::Interface(id.clone()), plan);
    }
    plan.work.retain(|work| !waits || !work.steps().any(|step| matches!(step, Step::Mark { .. })));
}

/// What is to be done, in this order. Nothing of it is left when the instances have changed hands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Records to be copied.
    pub take_over: BTreeSet<InstanceId>,
    /// What follows for those that were copied.
    pub plan: Plan,
    /// Records to be taken out of the old table, unless steps of the plan for them are left other than tags.
    pub let_go: BTreeSet<InstanceId>,
    pub obstacles: Vec<Problem>,
}

impl Adoption {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.take_over.is_empty() && self.plan.is_empty() && self.let_go.is_empty()
    }

    /// The instances that it is about.
    #[must_use]
    pub fn instances(&self) -> BTreeSet<InstanceId> {
        let steps = self.plan.steps().map(Step::instance).cloned();
        self.take_over.iter().chain(&self.let_go).cloned().chain(steps).collect()
    }
}

/// `known` holds the records of the new owner; `observed` the instances and interfaces of the old ones, every group of ours in their
/// VPCs, and the snapshots of the old episodes.
#[must_use]
pub fn adopt(heritage: &Heritage<'_>, known: &Records, observed: &Observed) -> Adoption {
    let mut adoption = Adoption::default();
    let records = heritage.records.values().map(Arc::as_ref);
    let held = records.filter(|record| record.state != State::Restored && heritage.is_meant(&record.instance));
    let held: Vec<&Record> = held.collect();
    if held.is_empty() {
        return adoption;
    }
    if let Some(reason) = unfit(heritage.isolation_group, observed) {
        adoption.obstacles.push(Problem::GroupUnfit { group: heritage.isolation_group.clone(), reason });
        return adoption;
    }
    for record in held {
        let case = Case { heritage, known, observed, record, ledger: None };
        match case.obstacle() {
            Some(obstacle) => adoption.obstacles.push(obstacle),
            None => case.plan(&mut adoption),
        }
    }
    adoption
}

fn unfit(group: &GroupId, observed: &Observed) -> Option<String> {
    match observed.groups.get(group) {
        None => Some("does not exist".to_owned()),
        Some(group) if !is_closed(observed, group) => Some("lets more through than it may".to_owned()),
        Some(_) => None,
    }
}

struct Case<'a> {
    heritage: &'a Heritage<'a>,
    /// The new records.
    known: &'a Records,
    observed: &'a Observed,
    /// The old one.
    record: &'a Record,
    /// What was done about it, in a run.
    ledger: Option<&'a Ledger>,
}

impl Case<'_> {
    fn id(&self) -> InstanceId {
        self.record.instance.clone()
    }

    /// The new record, where there is one that is not only history.
    fn successor(&self) -> Option<&Record> {
        self.known.get(&self.record.instance).map(Arc::as_ref).filter(|record| record.state != State::Restored)
    }

    fn obstacle(&self) -> Option<Problem> {
        let (record, instance) = (self.record, self.id());
        let stack = record.owner.stack_id.clone();
        let is_in_charge = self.heritage.in_charge.contains(&stack);
        if is_in_charge && record.state == State::Restoring {
            return Some(Problem::BeingRestored { instance, stack });
        }
        // Whatever its state: a deployment that followed a rollback may not have marked it again.
        if is_in_charge && self.heritage.listed.contains(&instance) {
            return Some(Problem::InCharge { instance, stack });
        }
        if self.successor().is_some_and(|found| found.state == State::Restoring) {
            return Some(Problem::BeingRestored { instance, stack: self.heritage.owner.stack_id.clone() });
        }
        let vpc = self.observed.groups.get(self.heritage.isolation_group).and_then(|group| group.vpc.as_ref());
        if vpc != Some(&record.vpc) {
            let wanted = vpc.map_or_else(|| "no VPC".to_owned(), ToString::to_string);
            return Some(Problem::AdoptedElsewhere { instance, vpc: record.vpc.to_string(), wanted });
        }
        let is_ours = |found: &&Record| {
            found.owner == *self.heritage.owner
                && record.interfaces.iter().all(|(id, at)| found.interfaces.get(id) == Some(at))
        };
        if let Some(other) = self.successor().filter(|found| !is_ours(found)) {
            return Some(Problem::RecordedTwice { instance, owner: other.owner.clone() });
        }
        let attached = self.observed.instances.get(&instance).into_iter().flat_map(|instance| &instance.interfaces);
        let mut strays = attached.filter(|interface| {
            !record.interfaces.contains_key(&interface.id) && !interface.groups.is_disjoint(&self.old_groups())
        });
        strays.find_map(|stray| {
            let (instance, interface, groups) = (instance.clone(), stray.id.clone(), stray.groups.clone());
            // It is adopted with the instance that it came from.
            match self.recorded_elsewhere(&stray.id).map(|other| other.instance.clone()) {
                None => Some(Problem::Unrecorded { instance, interface, groups }),
                Some(other) if self.heritage.is_meant(&other) => None,
                Some(other) => Some(Problem::HeldWith { instance, interface, other }),
            }
        })
    }

    /// Another record of the old stack that holds an interface.
    fn recorded_elsewhere(&self, interface: &InterfaceId) -> Option<&Record> {
        let mut others = self.heritage.records.values().map(Arc::as_ref);
        others.find(|other| {
            other.state != State::Restored
                && other.owner.stack_id == self.record.owner.stack_id
                && other.interfaces.contains_key(interface)
        })
    }

    fn old_groups(&self) -> Groups {
        own_groups(self.observed, &self.record.owner, &self.record.isolation_groups)
    }

    fn plan(&self, adoption: &mut Adoption) {
        let Some(successor) = self.successor() else {
            adoption.take_over.insert(self.id());
            return;
        };
        let moves = self.moves();
        if !moves.is_empty() {
            adoption.plan.work.push(Work { first: None, then: moves });
            return;
        }
        if successor.state == State::Isolating && self.is_whole() {
            let (from, state) = (successor.state, State::Isolated);
            let owner = successor.owner.clone();
            let mark =
                Step::Mark { instance: self.id(), owner, from, state, reason: None, cut: None, keeps_lease: false };
            adoption.plan.work.push(Work::only(mark));
        } else {
            adoption.let_go.insert(self.id());
        }
        adoption.plan.work.extend(self.tags().into_iter().map(Work::only));
    }

    /// From the old isolation straight to the new one. What is in neither was never isolated, or was moved out: a
    /// deployment of the new stack isolates it, unless this run has moved it before.
    fn moves(&self) -> Vec<Step> {
        let target = Groups::from([self.heritage.isolation_group.clone()]);
        let ours = self.old_groups();
        let interfaces = self.record.interfaces.keys().filter_map(|id| self.observed.interfaces.get(id));
        let is_moved = |id| self.ledger.and_then(|ledger| ledger.written(id)).is_some_and(|(to, _)| *to == target);
        let left = interfaces.filter(|interface| {
            interface.groups != target && (!interface.groups.is_disjoint(&ours) || is_moved(&interface.id))
        });
        left.map(|interface| Step::set_groups(self.id(), interface, &target, Aim::Isolate)).collect()
    }

    /// Whether every interface of the instance shows the new group.
    fn is_whole(&self) -> bool {
        let target = Groups::from([self.heritage.isolation_group.clone()]);
        let shows = |id: &InterfaceId, groups: &Groups| {
            *groups == target && self.observed.interfaces.get(id).is_none_or(|interface| interface.groups == target)
        };
        let mut attached = self.observed.instances.get(&self.record.instance).into_iter().flat_map(|i| &i.interfaces);
        attached.all(|interface| shows(&interface.id, &interface.groups))
    }

    /// What shows on instance, interfaces and snapshots whose they are now.
    fn tags(&self) -> Vec<Step> {
        let stack = BTreeMap::from([(tag::STACK.to_owned(), self.heritage.owner.stack_id.clone())]);
        let mut on_instance = stack.clone();
        on_instance.insert(tag::RESTORE.to_owned(), way_out(self.heritage.owner));
        let on_instance = Arc::new(on_instance);
        let mut steps = Vec::new();
        let mut tag = |resource: String, tags: &Arc<Tags>| {
            steps.push(Step::Tag { instance: self.id(), resource, tags: Arc::clone(tags) });
        };
        // The function finds its snapshots by the episode, and may tag those only that carry its stack.
        let successor = Record { owner: self.heritage.owner.clone(), ..self.record.clone() };
        let mut on_snapshots = stack;
        on_snapshots.insert(tag::OWNER.to_owned(), self.heritage.owner.logical_id.clone());
        on_snapshots.insert(tag::EPISODE.to_owned(), successor.episode());
        let (on_snapshots, episode) = (Arc::new(on_snapshots), self.record.episode());
        for snapshot in self.observed.snapshots.iter().filter(|snapshot| snapshot.episode == episode) {
            tag(snapshot.id.to_string(), &on_snapshots);
        }
        for (id, originals) in &self.record.interfaces {
            let wanted = original_groups_tags(originals);
            if self.observed.interfaces.get(id).is_some_and(|interface| !contains(&interface.tags, &wanted)) {
                tag(id.to_string(), &Arc::new(wanted));
            }
        }
        let shown = self.observed.instances.get(&self.record.instance);
        let Some(instance) = shown.filter(|instance| !instance.is_terminated()) else { return steps };
        for id in instance.volumes.keys() {
            let tags = self.observed.volume_tags.get(id);
            if tags.is_some_and(|tags| tags.get(tag::STACK) == Some(&self.record.owner.stack_id)) {
                tag(id.to_string(), &on_instance);
            }
        }
        if !contains(&instance.tags, &on_instance) {
            tag(instance.id.to_string(), &on_instance);
        }
        steps
    }
}

#[cfg(test)]
mod tests;
