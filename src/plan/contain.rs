//! Create and Update, first phase: every interface of every listed instance ends in exactly the isolation group, those that
//! may have open connections by way of the transit group, which cuts them.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{is_closed, not_open, too_wide};
use super::{Aim, Observed, Plan, Prior, Problem, Records, Step, Work, own_groups};
use crate::model::{
    Branch, Group, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Owner, Record, Role, State, Wants,
};

/// How many interfaces may be in the transit group at once: it is open to everybody.
const MOST_IN_TRANSIT: usize = 20;

/// What an observation shows as isolated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contained {
    /// Instances all of whose interfaces are isolated.
    pub instances: BTreeSet<InstanceId>,
    pub interfaces: BTreeMap<InterfaceId, InstanceId>,
    /// Interfaces of listed instances that are not.
    pub open: BTreeMap<InterfaceId, InstanceId>,
    /// Trunk interfaces of listed instances. Their branches are not attached to an instance, and are not isolated.
    pub trunks: BTreeMap<InterfaceId, InstanceId>,
    /// Interfaces in the isolation group whose connections were cut, now or by an earlier request, or that had none.
    pub cut: BTreeSet<InterfaceId>,
}

impl Contained {
    /// Instances of which at least one interface is isolated.
    #[must_use]
    pub fn touched(&self) -> BTreeSet<InstanceId> {
        self.interfaces.values().cloned().collect()
    }

    /// Adds the branches of its trunks: the instance of each that is not in the isolation group as well is not isolated
    /// as a whole.
    #[must_use]
    pub fn with_branches(&mut self, wants: &Wants, branches: Vec<Branch>) -> Vec<Problem> {
        let target = Groups::from([wants.isolation_group.clone()]);
        let open = branches.into_iter().filter(|branch| branch.groups != target);
        let problems = open.filter_map(|Branch { id: interface, trunk, groups }| {
            let instance = self.trunks.get(&trunk)?.clone();
            self.instances.remove(&instance);
            self.open.insert(interface.clone(), instance.clone());
            let isolation_group = wants.isolation_group.clone();
            Some(Problem::BranchOpen { instance, interface, trunk, groups, isolation_group })
        });
        problems.collect()
    }

    /// Whether the connections of the whole instance are cut.
    #[must_use]
    pub fn is_cut(&self, instance: &InstanceId) -> bool {
        self.instances.contains(instance)
            && self.interfaces.iter().filter(|(_, of)| *of == instance).all(|(id, _)| self.cut.contains(id))
    }
}

/// What an invocation knows beyond what it reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Interfaces that it has written or found isolated, and whether EC2 accepted it.
    pub accepted: BTreeMap<InterfaceId, bool>,
    /// Interfaces that it has seen cut, or has taken through the transit group.
    pub cut: BTreeSet<InterfaceId>,
    /// Interfaces that were isolated without that, and why.
    pub not_cut: BTreeMap<InterfaceId, String>,
    /// Surprising readings were doubted long enough.
    pub believes: bool,
}

impl Memory {
    /// As if everything that is observed had been written by this invocation.
    #[must_use]
    pub fn of_everything(observed: &Observed) -> Self {
        let interfaces = observed.instances.values().flat_map(|instance| &instance.interfaces);
        let cut: BTreeSet<InterfaceId> = interfaces.map(|interface| interface.id.clone()).collect();
        let accepted = cut.iter().map(|id| (id.clone(), true)).collect();
        Self { accepted, cut, ..Self::default() }
    }
}

/// The plan, and what needs none. `observed` holds every group of the VPC.
#[must_use]
pub fn contain(
    owner: &Owner,
    wants: &Wants,
    records: &Records,
    observed: &Observed,
    memory: &Memory,
) -> (Plan, Contained) {
    let mut plan = Plan::default();
    let mut contained = Contained::default();
    let group = match isolation_group(wants, observed) {
        Err(problem) => {
            plan.problems.push(problem);
            return (plan, contained);
        }
        Ok(group) => group,
    };
    let wide = too_wide(group, wants.forensic_group.as_ref(), &wants.forensic_ports);
    let is_narrow = wide.is_empty();
    plan.problems.extend(wide);
    // Nobody enters unless both groups are what they should be.
    let transit = transit(wants, observed, &mut plan.problems).filter(|_| is_narrow);
    let mut cases = Vec::new();
    for id in &wants.instances {
        let case = Case { owner, wants, observed, record: records.get(id), memory, transit };
        match case.instance(id) {
            Err(problem) => {
                plan.problems.push(problem);
                plan.work.extend(case.yielding(id));
            }
            Ok(instance) => cases.push((case, instance)),
        }
    }
    let mut passages = Passages::new(&cases);
    let work = cases
        .iter()
        .filter_map(|(case, instance)| case.plan(instance, &mut passages, &mut plan.problems, &mut contained));
    let mut work: Vec<(Urgency, Work)> = work.collect();
    work.sort_by_key(|(urgency, _)| *urgency);
    plan.work.extend(work.into_iter().map(|(_, work)| work));
    (plan, contained)
}

fn isolation_group<'a>(wants: &Wants, observed: &'a Observed) -> Result<&'a Group, Problem> {
    let id = &wants.isolation_group;
    let group = observed.groups.get(id).ok_or_else(|| Problem::GroupMissing { group: id.clone() })?;
    match &group.vpc {
        Some(vpc) if *vpc == wants.vpc => Ok(group),
        vpc => Err(Problem::GroupElsewhere {
            group: id.clone(),
            vpc: vpc.as_ref().map_or_else(|| "no VPC".to_owned(), ToString::to_string),
            wanted: wants.vpc.clone(),
        }),
    }
}

/// The transit group, where connections are to be cut and it is fit for it.
fn transit<'a>(wants: &'a Wants, observed: &Observed, problems: &mut Vec<Problem>) -> Option<&'a GroupId> {
    if !wants.cut_connections {
        return None;
    }
    let Some(id) = &wants.transit_group else {
        problems.push(Problem::NoTransit);
        return None;
    };
    let unfit = match observed.groups.get(id) {
        Some(group) if group.vpc.as_ref() == Some(&wants.vpc) => not_open(group),
        Some(_) => Some(format!("is not in {}", wants.vpc)),
        None => Some("does not exist".to_owned()),
    };
    let Some(reason) = unfit else { return Some(id) };
    problems.push(Problem::TransitUnfit { group: id.clone(), reason });
    None
}

/// What is carried out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// An interface was left in the transit group.
    InTransit,
    Outside,
    /// Isolated; only its connections are left.
    Inside,
}

/// Who may go through the transit group in this plan.
struct Passages {
    room: usize,
    /// More interfaces are outside than may pass at once: all are isolated directly first.
    direct_first: bool,
    /// Interfaces are outside that nothing was tried with yet: those that are isolated already wait for them.
    is_somebody_outside: bool,
}

impl Passages {
    fn new(cases: &[(Case<'_>, &Instance)]) -> Self {
        let interfaces =
            cases.iter().flat_map(|(case, instance)| instance.interfaces.iter().map(move |i| (case, *instance, i)));
        let outside = interfaces.filter(|(case, _, interface)| !case.shows_target(interface));
        let outside: Vec<_> = outside.filter(|(case, _, i)| case.memory.accepted.get(&i.id) != Some(&true)).collect();
        let passing = outside.iter().filter(|(case, instance, _)| case.can_pass(instance)).count();
        Self {
            room: MOST_IN_TRANSIT,
            direct_first: passing > MOST_IN_TRANSIT,
            is_somebody_outside: outside.iter().any(|(case, _, i)| !case.memory.accepted.contains_key(&i.id)),
        }
    }

    fn enter(&mut self) -> bool {
        let may = self.room > 0;
        self.room = self.room.saturating_sub(1);
        may
    }
}

struct Case<'a> {
    owner: &'a Owner,
    wants: &'a Wants,
    observed: &'a Observed,
    record: Option<&'a Record>,
    memory: &'a Memory,
    transit: Option<&'a GroupId>,
}

impl<'a> Case<'a> {
    /// The instance, if it is one that we may isolate.
    fn instance(&self, id: &InstanceId) -> Result<&'a Instance, Problem> {
        let id = id.clone();
        let Some(instance) = self.observed.instances.get(&id) else { return Err(Problem::Unknown { instance: id }) };
        if instance.is_terminated() {
            return Err(Problem::Terminated { instance: id });
        }
        if let Some(vpc) = instance.vpc.as_ref().filter(|vpc| **vpc != self.wants.vpc) {
            return Err(Problem::OtherVpc { instance: id, vpc: vpc.to_string(), wanted: self.wants.vpc.clone() });
        }
        if let Some(record) = self.held().filter(|record| record.owner.stack_id != self.owner.stack_id) {
            return Err(Problem::HeldByOther { instance: id, holder: record.owner.stack_id.clone() });
        }
        if let Some(group) = self.foreign_holder(instance).filter(|group| !self.wins(instance, group)) {
            let holder = group.stack_id.clone().unwrap_or_else(|| format!("group {}, which no stack owns", group.id));
            return Err(Problem::HeldByOther { instance: id, holder });
        }
        if instance.interfaces.is_empty() {
            return Err(Problem::NoInterface { instance: id, state: instance.state.clone() });
        }
        Ok(instance)
    }

    /// The record, unless it is only history.
    fn held(&self) -> Option<&Record> {
        self.record.filter(|record| record.state != State::Restored)
    }

    /// What a restored record says of an interface: it is in our group still, or again.
    fn history(&self, interface: &InterfaceId) -> Option<&Groups> {
        let record = self.record.filter(|record| record.state == State::Restored)?;
        (record.owner.stack_id == self.owner.stack_id).then(|| record.interfaces.get(interface))?
    }

    fn ours(&self) -> Groups {
        let record = self.record.filter(|record| record.owner.stack_id == self.owner.stack_id);
        let recorded = record.into_iter().flat_map(|record| &record.isolation_groups);
        let wanted = [&self.wants.isolation_group].into_iter().chain(&self.wants.transit_group);
        own_groups(self.observed, self.owner, recorded.chain(wanted))
    }

    /// The group in which an interface is isolated, if that is not ours: the live group's own tag decides. An attacker may
    /// be able to put our marker on any group: one that does not isolate is no reason to leave its hosts alone.
    fn foreign_holder(&self, instance: &Instance) -> Option<&'a Group> {
        instance.interfaces.iter().find_map(|interface| self.foreign_group(interface))
    }

    fn foreign_group(&self, interface: &Interface) -> Option<&'a Group> {
        let ours = self.ours();
        let live = interface.groups.iter().filter(|id| !ours.contains(id));
        live.filter_map(|id| self.observed.groups.get(id)).find(|group| self.is_isolation(group))
    }

    /// Two stacks that isolate one instance at once may each end with a part of it. **One of them has all of it in the end,
    /// and nothing leaves isolation on the way**: of those that both recorded it, the one with the lesser id goes on, the
    /// other moves its part over.
    fn wins(&self, instance: &Instance, other: &Group) -> bool {
        self.shares(instance) && other.stack_id.as_ref().is_some_and(|id| self.owner.stack_id < *id)
    }

    /// Whether a part of the instance is in our isolation, and every part that is not is recorded: it was free a moment ago.
    /// Where it was once seen isolated as a whole, somebody moved that part: whose it is then is not ours to settle.
    fn shares(&self, instance: &Instance) -> bool {
        let is_racing =
            |record: &&Record| record.state == State::Isolating && record.owner.stack_id == self.owner.stack_id;
        let Some(record) = self.held().filter(is_racing) else { return false };
        let ours = self.ours();
        let (inside, outside): (Vec<_>, Vec<_>) =
            instance.interfaces.iter().partition(|interface| !interface.groups.is_disjoint(&ours));
        !inside.is_empty() && outside.iter().all(|interface| record.interfaces.contains_key(&interface.id))
    }

    /// Moves our part of a shared instance into the isolation group of the stack that has the rest.
    fn yielding(&self, id: &InstanceId) -> Option<Work> {
        let instance = self.observed.instances.get(id).filter(|instance| self.shares(instance))?;
        let holder = self.foreign_holder(instance)?.stack_id.as_ref()?;
        let theirs = self.observed.groups.values().filter(|group| group.stack_id.as_ref() == Some(holder));
        let group = theirs
            .filter(|group| group.role == Some(Role::Isolation) && group.vpc.as_ref() == Some(&self.wants.vpc))
            .find(|group| is_closed(group))?;
        let ours = self.ours();
        let inside = instance.interfaces.iter().filter(|interface| !interface.groups.is_disjoint(&ours));
        let moves = inside.map(|interface| Step::SetGroups {
            instance: id.clone(),
            interface: interface.id.clone(),
            from: interface.groups.clone(),
            to: Groups::from([group.id.clone()]),
            aim: Aim::Isolate,
        });
        Some(Work { first: None, then: moves.collect() })
    }

    fn is_isolation(&self, group: &Group) -> bool {
        match group.role {
            Some(Role::Isolation) => is_closed(group),
            // Open by nature: believed where the same stack has a group that isolates.
            Some(Role::Transit) => self.observed.groups.values().any(|other| {
                other.role == Some(Role::Isolation)
                    && other.stack_id.is_some()
                    && other.stack_id == group.stack_id
                    && is_closed(other)
            }),
            Some(Role::Forensic) | None => false,
        }
    }

    fn shows_target(&self, interface: &Interface) -> bool {
        interface.groups.len() == 1 && interface.groups.contains(&self.wants.isolation_group)
    }

    /// A stopped instance has no connections.
    fn can_pass(&self, instance: &Instance) -> bool {
        self.transit.is_some() && instance.state != "stopped"
    }

    fn plan(
        &self,
        instance: &Instance,
        passages: &mut Passages,
        problems: &mut Vec<Problem>,
        contained: &mut Contained,
    ) -> Option<(Urgency, Work)> {
        let ours = self.ours();
        let mut originals = BTreeMap::new();
        let mut is_surprising = false;
        for interface in &instance.interfaces {
            if self.held().is_some_and(|record| record.interfaces.contains_key(&interface.id)) {
                continue;
            }
            let others: Groups = interface.groups.difference(&ours).cloned().collect();
            if let Some(before) = self.history(&interface.id).filter(|_| others.is_empty()) {
                originals.insert(interface.id.clone(), before.clone());
            } else if others.is_empty() {
                problems.push(Problem::OriginalUnknown {
                    instance: instance.id.clone(),
                    interface: interface.id.clone(),
                    group: interface.groups.first().unwrap_or(&self.wants.isolation_group).clone(),
                });
            } else {
                let gone: Groups =
                    others.iter().filter(|group| !self.observed.groups.contains_key(group)).cloned().collect();
                if !gone.is_empty() {
                    is_surprising = true;
                    let (instance, interface) = (instance.id.clone(), interface.id.clone());
                    problems.push(Problem::OriginalDoubtful { instance, interface, groups: gone });
                }
                originals.insert(interface.id.clone(), others);
            }
        }
        let mut swaps = Vec::new();
        let mut urgency = Urgency::Inside;
        for interface in &instance.interfaces {
            if interface.is_trunk {
                contained.trunks.insert(interface.id.clone(), instance.id.clone());
            }
            let is_cut = self.is_cut(instance, interface);
            if is_cut {
                contained.cut.insert(interface.id.clone());
            }
            if self.shows_target(interface) && self.is_known(&interface.id, &originals) {
                contained.interfaces.insert(interface.id.clone(), instance.id.clone());
                if is_cut {
                    continue;
                } else if let Some(error) = self.memory.not_cut.get(&interface.id) {
                    problems.push(Problem::NotCut {
                        instance: instance.id.clone(),
                        interface: interface.id.clone(),
                        reason: error.clone(),
                    });
                } else if !passages.is_somebody_outside {
                    swaps.extend(self.passage(instance, interface, &originals, passages));
                }
            } else {
                contained.open.insert(interface.id.clone(), instance.id.clone());
                urgency =
                    urgency.min(if self.is_in_transit(interface) { Urgency::InTransit } else { Urgency::Outside });
                swaps.push(self.isolate(instance, interface, &originals, passages));
            }
        }
        if urgency == Urgency::Inside {
            contained.instances.insert(instance.id.clone());
        }
        // EC2's reads trail its writes: a group that is gone was there a moment ago. What is recorded once stays recorded.
        if is_surprising && !self.memory.believes {
            return None;
        }
        let first = self.record_step(instance, originals, &swaps);
        (first.is_some() || !swaps.is_empty()).then_some((urgency, Work { first, then: swaps }))
    }

    /// The way of an interface into isolation.
    fn isolate(
        &self,
        instance: &Instance,
        interface: &Interface,
        originals: &BTreeMap<InterfaceId, Groups>,
        passages: &mut Passages,
    ) -> Step {
        let memory = self.memory;
        let has_been_written = memory.accepted.get(&interface.id) == Some(&true);
        // What was written and is not visible yet is planned as it was written, which waits for it.
        let by_transit = if self.foreign_group(interface).is_some() {
            false
        } else if has_been_written {
            memory.cut.contains(&interface.id)
        } else {
            !passages.direct_first
                && !memory.not_cut.contains_key(&interface.id)
                && !self.is_in_transit(interface)
                && !self.is_cut(instance, interface)
        };
        let passage = by_transit.then(|| self.passage(instance, interface, originals, passages)).flatten();
        passage.unwrap_or_else(|| Step::SetGroups {
            instance: instance.id.clone(),
            interface: interface.id.clone(),
            from: interface.groups.clone(),
            to: Groups::from([self.wants.isolation_group.clone()]),
            aim: if self.shows_target(interface) { Aim::Confirm } else { Aim::Isolate },
        })
    }

    fn passage(
        &self,
        instance: &Instance,
        interface: &Interface,
        originals: &BTreeMap<InterfaceId, Groups>,
        passages: &mut Passages,
    ) -> Option<Step> {
        let through = self.transit.filter(|_| self.can_pass(instance))?;
        let recorded = self.held().and_then(|record| record.interfaces.get(&interface.id));
        let originals = recorded.or_else(|| originals.get(&interface.id))?;
        passages.enter().then(|| Step::Pass {
            instance: instance.id.clone(),
            interface: interface.id.clone(),
            through: through.clone(),
            hold_seconds: self.wants.hold_seconds,
            to: self.wants.isolation_group.clone(),
            originals: originals.clone(),
        })
    }

    /// Left there by an invocation that died.
    fn is_in_transit(&self, interface: &Interface) -> bool {
        let mut ours = self.ours();
        ours.remove(&self.wants.isolation_group);
        interface
            .groups
            .intersection(&ours)
            .any(|id| self.observed.groups.get(id).is_none_or(|group| !is_closed(group)))
    }

    /// Whether an interface that shows the isolation group has no connections from before.
    fn is_cut(&self, instance: &Instance, interface: &Interface) -> bool {
        let by_record = |record: &Record| {
            matches!(record.state, State::Isolated | State::Kept)
                && record.connections_cut
                && record.interfaces.contains_key(&interface.id)
        };
        let known = self.held().is_some_and(by_record) || self.memory.cut.contains(&interface.id);
        self.shows_target(interface) && (known || instance.state == "stopped")
    }

    /// Whether an interface that shows the isolation group really is in it. Unless this invocation wrote it, or it was once
    /// seen so, another change may have been made that is not visible yet.
    fn is_known(&self, interface: &InterfaceId, originals: &BTreeMap<InterfaceId, Groups>) -> bool {
        let Some(record) = self.held().filter(|record| record.interfaces.contains_key(interface)) else {
            // Nothing unrecorded is touched.
            return !originals.contains_key(interface);
        };
        let seen = record.state == State::Isolated && record.isolation_group == self.wants.isolation_group;
        self.memory.accepted.get(interface).copied().unwrap_or(seen)
    }

    fn record_step(
        &self,
        instance: &Instance,
        interfaces: BTreeMap<InterfaceId, Groups>,
        swaps: &[Step],
    ) -> Option<Step> {
        // Where it can be found must be known before it goes there.
        let is_listed = |record: &Record| {
            let passes = swaps.iter().any(|step| matches!(step, Step::Pass { .. }));
            !passes || self.transit.is_none_or(|group| record.isolation_groups.contains(group))
        };
        let prior = match self.held() {
            None => Prior::None,
            Some(record) if record.owner != *self.owner => Prior::Of(record.owner.clone()),
            // Any other state claims what is no longer true once an interface is isolated again, or lets a restore that
            // is under way end as if it had not been.
            Some(record) if record.state != State::Isolating && !swaps.is_empty() => Prior::Ours,
            Some(record)
                if interfaces.is_empty()
                    && record.isolation_group == self.wants.isolation_group
                    && is_listed(record) =>
            {
                return None;
            }
            Some(_) => Prior::Ours,
        };
        if prior == Prior::None && interfaces.is_empty() {
            return None;
        }
        Some(Step::Record {
            instance: instance.id.clone(),
            vpc: self.wants.vpc.clone(),
            isolation_group: self.wants.isolation_group.clone(),
            transit_group: self.transit.cloned(),
            interfaces,
            prior,
        })
    }
}

#[cfg(test)]
mod tests;
