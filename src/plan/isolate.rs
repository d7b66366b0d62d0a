//! Create and Update: every interface of a listed instance ends in exactly the isolation group, those that may have open
//! connections by way of the transit group. What is isolated is tagged, marked, snapshotted and protected.
//!
//! **Nothing is touched that is not recorded before.**

use std::collections::{BTreeMap, BTreeSet};

use super::endings::name_endings;
use super::groups::{holder, holder_of_all, own_groups, too_wide, unknown_peers};
use super::protections::protect;
use super::snapshots::{self, snapshot};
use super::tags::{tag_isolated, volumes_to_read};
use super::transit::{MOST_IN_TRANSIT, say_if_in_transit, transit};
use super::{Case, Cut, Doubt, Needs, Originals, Plan, Prior, Problem, Reach, Step, Work};
use crate::model::{GroupId, Groups, Instance, Interface, InterfaceId, Record, State, Wants, comma_list};

/// What has to be read of a listed instance. Before it is isolated nothing is read that its isolation does not need.
pub(super) fn needs(case: &Case<'_>, wants: &Wants, reach: Reach) -> Needs {
    let mut needs = Needs::default();
    let is_unlisted = case.observed.is_unlisted;
    if is_unlisted {
        needs.groups = case.shown_groups();
    }
    if is_unlisted || reach != Reach::First {
        // They are listed in one VPC.
        needs.groups.extend(case.shown_groups_but_in(&wants.vpc));
        // A forensic host may have come since the groups of ours were listed. The one that is named is known by its id.
        let named = wants.forensic_group.as_ref().map(|group| &group.id);
        let peers = unknown_peers(case.observed, &wants.isolation_group);
        needs.groups.extend(peers.filter(|peer| Some(*peer) != named).cloned());
    }
    let Some(record) = case.held() else { return needs };
    let attached: BTreeSet<&InterfaceId> =
        case.shown().into_iter().flat_map(|instance| &instance.interfaces).map(|found| &found.id).collect();
    let recorded = record.interfaces.keys();
    needs.interfaces = recorded.filter(|id| reach == Reach::Full || !attached.contains(id)).cloned().collect();
    let episode = (wants.snapshot_volumes && snapshots::are_needed(record)).then(|| record.episode());
    let lost = if episode.is_some() { snapshots::lost(case, record) } else { BTreeSet::new() };
    let is_locking = wants.snapshot_volumes && wants.lock_days > 0 && record.owner == *case.owner;
    let locks = || record.snapshots.taken.values().filter(|_| is_locking).cloned().collect();
    if case.shown().is_some_and(Instance::is_terminated) {
        return Needs { episode, snapshots: lost, locks: locks(), ..needs };
    }
    let Some(instance) = case.living().filter(|_| reach != Reach::First) else { return needs };
    let isolation = Groups::from([wants.isolation_group.clone()]);
    if !instance.interfaces.iter().any(|interface| interface.groups == isolation) || record.owner != *case.owner {
        return needs;
    }
    needs.trunks = instance.interfaces.iter().filter(|found| found.is_trunk).map(|found| found.id.clone()).collect();
    (needs.episode, needs.snapshots) = (episode, lost);
    needs.locks = locks();
    // Protections are read after the snapshots were asked for: EC2 shows them one instance at a time.
    let are_asked_for = record.snapshots.requested || !record.snapshots.taken.is_empty() || instance.volumes.is_empty();
    if reach == Reach::Full && (are_asked_for || !wants.snapshot_volumes) {
        needs.inspects = true;
        (needs.attributes, needs.members, needs.profiles) = (wants.protect, wants.protect, wants.detach_profile);
        needs.volumes = volumes_to_read(case, wants, record, instance);
    }
    needs
}

pub(super) fn plan(case: &Case<'_>, wants: &Wants, plan: &mut Plan) {
    let has_rival = case.has_rival(plan);
    if let Some(reason) = case.unreadable {
        plan.remember.insert(Problem::Unreadable { item: case.instance.to_string(), reason: reason.clone() });
    }
    let ours = ours(case, wants);
    let Some(transit) = groups(case, wants, plan) else { return stand(case, wants, plan) };
    let isolation = Isolation { case, wants, transit, ours, has_rival };
    // Without it, what was recorded of it may be anywhere.
    let instance = isolation.instance(plan);
    if let Some(instance) = instance.filter(|_| case.only.is_none()) {
        case.may_have_more(instance, plan);
    }
    isolation.plan(instance, plan);
    if !is_narrow(plan) {
        let inside = std::mem::take(&mut plan.standing.isolated);
        plan.standing.open.extend(inside);
    }
}

/// Whether whoever is in the isolation group is isolated, as far as its rules are known.
fn is_narrow(plan: &Plan) -> bool {
    !plan.problems.iter().any(|problem| matches!(problem, Problem::TooWide { .. }))
}

/// How an instance stands for which nothing can be done.
fn stand(case: &Case<'_>, wants: &Wants, plan: &mut Plan) {
    let wide = case.observed.groups.get(&wants.isolation_group).map(|group| too_wide(case.observed, group, wants));
    plan.problems.extend(wide.into_iter().flatten());
    let target = Groups::from([wants.isolation_group.clone()]);
    for interface in case.shown().into_iter().flat_map(|instance| &instance.interfaces) {
        if interface.groups == target && is_narrow(plan) {
            case.believes(Doubt::AsWanted(interface.id.clone()), plan);
            plan.standing.isolated.insert(interface.id.clone());
        } else {
            plan.standing.open.insert(interface.id.clone());
        }
    }
    if let Some(record) = case.held() {
        snapshots::count(case, record, plan);
    }
}

/// Looks at the groups of ours. `None` if there is nothing to isolate in; else the transit group, if it is to be used and fit
/// for it.
fn groups<'a>(case: &Case<'a>, wants: &'a Wants, plan: &mut Plan) -> Option<Option<&'a GroupId>> {
    let id = &wants.isolation_group;
    let Some(group) = case.observed.groups.get(id) else {
        // A group that holds an interface is there, whatever a reading says.
        let mut attached = case.shown().into_iter().flat_map(|instance| &instance.interfaces);
        let is_in_use = attached.any(|interface| interface.groups.contains(id));
        let is_gone = case.believes(Doubt::Group(id.clone()), plan);
        if is_gone {
            plan.problems.push(Problem::GroupMissing { group: id.clone() });
        }
        return is_in_use.then_some(None);
    };
    if group.vpc.as_ref() != Some(&wants.vpc) {
        let vpc = group.vpc.as_ref().map_or_else(|| "no VPC".to_owned(), ToString::to_string);
        plan.problems.push(Problem::GroupElsewhere { group: id.clone(), vpc, wanted: wants.vpc.clone() });
        return None;
    }
    let wide = too_wide(case.observed, group, wants);
    // Rules that are not to be seen yet: the answer waits for them, the isolation does not.
    if !wide.is_empty() {
        case.believes(Doubt::Rules(id.clone()), plan);
    }
    let is_narrow = wide.is_empty();
    plan.problems.extend(wide);
    Some(transit(case, wants, plan).filter(|_| is_narrow))
}

fn ours(case: &Case<'_>, wants: &Wants) -> Groups {
    let record = case.record().filter(|record| record.owner.stack_id == case.owner.stack_id);
    let recorded = record.into_iter().flat_map(|record| &record.isolation_groups);
    let wanted = [&wants.isolation_group].into_iter().chain(&wants.transit_group);
    own_groups(case.observed, case.owner, recorded.chain(wanted))
}

pub(super) struct Isolation<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) wants: &'a Wants,
    pub(super) transit: Option<&'a GroupId>,
    pub(super) ours: Groups,
    pub(super) has_rival: bool,
}

/// Where one interface stands.
enum Place {
    /// In the isolation group. Where that is not certain the plan has a doubt, and is not settled.
    Isolated {
        is_cut: bool,
    },
    /// A passage of ours holds it, or is about to.
    Passing,
    Outside,
}

impl<'a> Isolation<'a> {
    /// The instance, if its interfaces are to be isolated.
    fn instance(&self, plan: &mut Plan) -> Option<&'a Instance> {
        let (case, id) = (self.case, self.case.id());
        let Some(instance) = case.shown() else {
            if case.believes(Doubt::Instance, plan) {
                plan.problems.push(Problem::Unknown { instance: id });
            }
            return None;
        };
        if instance.is_terminated() {
            let wants = self.wants;
            let is_saved = case.held().is_none_or(|record| snapshots::outlive(case, wants, record, instance, plan));
            plan.problems.push(match self.wants.snapshot_volumes && !is_saved {
                true => Problem::TerminatedUnsaved { instance: id },
                false => Problem::Terminated { instance: id },
            });
            return None;
        }
        if let Some(record) = case.held().filter(|record| record.owner.stack_id != case.owner.stack_id) {
            self.leave_to(&record.owner.stack_id, instance, plan);
            return None;
        }
        let is_here = |interface: &Interface| interface.vpc.as_ref().is_none_or(|vpc| *vpc == self.wants.vpc);
        if let Some(vpc) = instance.vpc.as_ref().filter(|vpc| **vpc != self.wants.vpc)
            && !instance.interfaces.iter().any(is_here)
        {
            if let Some(holder) = holder_of_all(case.observed, &self.ours, instance).cloned() {
                plan.problems.push(Problem::HeldByOther { instance: id, holder });
                return None;
            }
            let (vpc, wanted) = (vpc.to_string(), self.wants.vpc.clone());
            plan.problems.push(Problem::OtherVpc { instance: id, vpc, wanted });
            return None;
        }
        if let Some(holder) = self.foreign_holder(instance).filter(|holder| !self.wins(instance, holder)) {
            let is_theirs = holder_of_all(case.observed, &self.ours, instance).is_some();
            // It may be about to isolate the rest, or to give it up as well.
            let may_change = case.held().map_or(!is_theirs, |record| record.state == State::Isolating);
            let is_certain = !may_change || case.believes(Doubt::Holder, plan);
            if is_theirs || self.shares(instance) {
                plan.problems.push(Problem::HeldByOther { instance: id, holder: holder.clone() });
                plan.work.extend(self.yielding(instance, holder));
                return None;
            }
            if case.held().is_none() && !is_certain {
                return None;
            }
        }
        if instance.interfaces.is_empty() {
            let problem = Problem::NoInterface { instance: id, state: instance.state.clone() };
            let doubt = match instance.state.as_str() {
                // It will have none any more: it is terminated in a moment.
                "shutting-down" => Doubt::UnderWay(problem.clone()),
                _ => Doubt::Interfaces,
            };
            if case.believes(doubt, plan) {
                plan.problems.push(problem);
            }
            return None;
        }
        Some(instance)
    }

    pub(super) fn target(&self) -> Groups {
        Groups::from([self.wants.isolation_group.clone()])
    }

    pub(super) fn shows_target(&self, interface: &Interface) -> bool {
        interface.groups == self.target()
    }

    /// Every interface that is to be isolated: those attached, and those recorded that are attached to no other listed
    /// instance by now.
    fn interfaces(&self, instance: Option<&'a Instance>, plan: &mut Plan) -> Vec<&'a Interface> {
        let case = self.case;
        let mut interfaces: Vec<&Interface> = instance.into_iter().flat_map(|instance| &instance.interfaces).collect();
        let Some(record) = case.held().filter(|record| record.owner == *case.owner) else { return interfaces };
        for id in record.interfaces.keys() {
            if interfaces.iter().any(|found| found.id == *id) {
                continue;
            }
            let Some(found) = case.observed.interfaces.get(id) else {
                if case.observed.looked_up.contains(id) {
                    case.believes(Doubt::Interface(id.clone()), plan);
                }
                continue;
            };
            let is_held_back =
                instance.is_none() && case.living().is_some() && found.instance.as_ref() == Some(case.instance);
            let is_anothers = found.instance.as_ref().is_some_and(|at| at != case.instance && case.stays.contains(at));
            if !is_held_back && !is_anothers && self.is_left_behind(record, found) {
                interfaces.push(found);
            }
        }
        interfaces
    }

    /// Whether an interface that left its instance was left half-way: in a group of ours that does not isolate, or never seen
    /// isolated.
    fn is_left_behind(&self, record: &Record, interface: &Interface) -> bool {
        let is_inside = !interface.groups.is_disjoint(&self.ours);
        (is_inside && !self.shows_target(interface))
            || (record.state == State::Isolating && !self.is_seen_to(interface))
    }

    /// Whether this invocation has seen to it.
    fn is_seen_to(&self, interface: &Interface) -> bool {
        self.shows_target(interface) && self.case.ledger.has_written(&interface.id, &self.target())
    }

    fn plan(&self, instance: Option<&'a Instance>, plan: &mut Plan) {
        let case = self.case;
        let mut originals = BTreeMap::new();
        let interfaces = self.interfaces(instance, plan);
        let (mut here, mut left) = (Vec::new(), BTreeSet::new());
        let takes_all = instance.is_some_and(|all| self.foreign_holder(all).is_some_and(|other| self.wins(all, other)));
        for interface in interfaces {
            if let Some(holder) = self.holder(interface).filter(|_| !takes_all) {
                let (instance, interface, holder) = (case.id(), interface.id.clone(), holder.clone());
                plan.standing.open.insert(interface.clone());
                // Whose it is may change while two stacks race for the instance.
                if case.ledger.believes(&Doubt::Holder, case.now.elapsed) {
                    left.insert(interface.clone());
                }
                plan.problems.push(Problem::InterfaceHeldByOther { instance, interface, holder });
                continue;
            }
            if let Some(vpc) = interface.vpc.as_ref().filter(|vpc| **vpc != self.wants.vpc) {
                let (vpc, wanted) = (vpc.clone(), self.wants.vpc.clone());
                let (instance, interface) = (case.id(), interface.id.clone());
                plan.standing.open.insert(interface.clone());
                plan.problems.push(Problem::InterfaceElsewhere { instance, interface, vpc, wanted });
                continue;
            }
            if case.only.is_some_and(|only| !only.contains(&interface.id)) && !self.shows_target(interface) {
                plan.standing.open.insert(interface.id.clone());
                say_if_in_transit(case, &self.ours, &self.wants.isolation_group, interface, plan);
                left.insert(interface.id.clone());
                continue;
            }
            self.original(interface, &mut originals, plan);
            here.push(interface);
        }
        let (mut swaps, mut passages, mut cut) = (Vec::new(), Vec::new(), BTreeSet::new());
        // A rival marks what it has done.
        let mut waits = self.has_rival;
        for interface in here {
            if interface.is_trunk {
                plan.standing.trunks.insert(interface.id.clone());
            }
            match self.place(interface, instance, &originals, plan) {
                Place::Isolated { is_cut } => {
                    plan.standing.isolated.insert(interface.id.clone());
                    if is_cut {
                        cut.insert(interface.id.clone());
                    } else if let Some(step) = self.passage_from_inside(interface, instance, &originals, plan) {
                        passages.push(step);
                        waits = true;
                    }
                }
                Place::Passing => {
                    waits = true;
                    if interface.groups.is_subset(&self.ours) {
                        plan.standing.isolated.insert(interface.id.clone());
                    } else {
                        plan.standing.open.insert(interface.id.clone());
                    }
                }
                Place::Outside => {
                    waits |= case.ledger.passage_under_way(&interface.id).is_some();
                    plan.standing.open.insert(interface.id.clone());
                    // Connections were opened through whatever group is not ours.
                    if interface.groups.is_empty() || !interface.groups.is_subset(&self.ours) {
                        plan.standing.exposed.insert(interface.id.clone());
                    }
                    say_if_in_transit(case, &self.ours, &self.wants.isolation_group, interface, plan);
                    swaps.push(self.isolate(interface, instance, &originals));
                }
            }
        }
        let is_settled = self.is_settled(plan, &swaps);
        // Without the instance nothing is isolated, so nothing is recorded either.
        if instance.is_some() || !swaps.is_empty() {
            self.push(originals, plan.standing.exposed.clone(), swaps, plan);
        }
        for portion in passages.chunks(MOST_IN_TRANSIT) {
            self.push(BTreeMap::new(), BTreeSet::new(), portion.to_vec(), plan);
        }
        if let Some(instance) = instance.filter(|_| is_settled) {
            self.name_branches(plan);
            self.preserve(instance, &cut, waits, &left, plan);
            name_endings(case, instance, plan);
        }
    }

    /// Whether what is to be done about the interfaces of an instance is done, or failed at least once: the rest of its work
    /// does not wait any longer.
    fn is_settled(&self, plan: &Plan, swaps: &[Step]) -> bool {
        !plan.standing.isolated.is_empty() && swaps.iter().all(|step| self.case.ledger.failure(step).is_some())
    }

    fn push(
        &self,
        originals: BTreeMap<InterfaceId, Groups>,
        reopened: BTreeSet<InterfaceId>,
        swaps: Vec<Step>,
        plan: &mut Plan,
    ) {
        let first = self.record_step(originals, reopened, &swaps);
        if first.is_some() || !swaps.is_empty() {
            plan.work.push(Work { first, then: swaps });
        }
    }

    /// What is to be recorded of an interface that is not recorded yet.
    fn original(&self, interface: &Interface, originals: &mut BTreeMap<InterfaceId, Groups>, plan: &mut Plan) {
        let (case, id) = (self.case, &interface.id);
        let others: Groups = interface.groups.difference(&self.ours).cloned().collect();
        if let Some(recorded) = case.held().and_then(|record| record.interfaces.get(id)) {
            let is_uncertain = case.held().is_some_and(|record| record.state == State::Isolating);
            let is_written = case.ledger.written(id).is_some_and(|(_, is_accepted)| is_accepted);
            let is_untouched = !is_written && interface.groups.is_disjoint(&self.ours);
            let is_foreign = holder(case.observed, &self.ours, interface).is_some();
            let differs = interface.groups != *recorded && !interface.groups.is_empty();
            if is_uncertain && is_untouched && differs && !is_foreign {
                plan.remember.insert(Problem::OriginalsDiffer {
                    instance: case.id(),
                    interface: id.clone(),
                    groups: interface.groups.clone(),
                    recorded: recorded.clone(),
                });
            }
            case.compare_records(id, recorded, plan);
        } else if let Some((_, before)) = case.recorded_elsewhere(id) {
            originals.insert(id.clone(), before.clone());
        } else if !others.is_empty() || interface.groups.is_empty() {
            originals.insert(id.clone(), others);
        } else if let Some(before) = self.history(id) {
            originals.insert(id.clone(), before.clone());
        } else if case.held().is_some() || case.believes(Doubt::Record, plan) {
            let group = interface.groups.first().unwrap_or(&self.wants.isolation_group).clone();
            let (instance, interface) = (case.id(), id.clone());
            plan.problems.push(Problem::OriginalUnknown { instance, interface, group });
        }
    }

    /// What a restored record says of an interface: it is in our group still, or again.
    fn history(&self, interface: &InterfaceId) -> Option<&Groups> {
        let record = self.case.record().filter(|record| record.owner.stack_id == self.case.owner.stack_id)?;
        record.interfaces.get(interface)
    }

    fn place(
        &self,
        interface: &Interface,
        instance: Option<&Instance>,
        originals: &BTreeMap<InterfaceId, Groups>,
        plan: &mut Plan,
    ) -> Place {
        let (case, id) = (self.case, &interface.id);
        if self.is_passing(interface) {
            return Place::Passing;
        }
        if !self.shows_target(interface) {
            return Place::Outside;
        }
        let is_cut = self.is_cut(interface, instance);
        // Where only others may be changed it is not confirmed either.
        if case.only.is_some_and(|only| !only.contains(id)) {
            return Place::Isolated { is_cut };
        }
        let Some(record) = case.held().filter(|record| record.interfaces.contains_key(id)) else {
            // Nothing unrecorded is touched.
            return if originals.contains_key(id) { Place::Outside } else { Place::Isolated { is_cut } };
        };
        let was_seen = record.state == State::Isolated && record.isolation_group == self.wants.isolation_group;
        let is_doubted = match case.ledger.written(id).filter(|(groups, _)| **groups == self.target()) {
            Some((groups, true)) => case.ledger.is_contested(id, groups, case.now.elapsed),
            // That the record changes hands changes nothing of the interface.
            None if was_seen => record.owner == *case.owner,
            // An earlier change may not be visible yet: it is written once more.
            _ => return Place::Outside,
        };
        if is_doubted {
            case.believes(Doubt::AsWanted(id.clone()), plan);
        }
        Place::Isolated { is_cut }
    }

    pub(super) fn record_step(
        &self,
        interfaces: BTreeMap<InterfaceId, Groups>,
        reopened: BTreeSet<InterfaceId>,
        swaps: &[Step],
    ) -> Option<Step> {
        let case = self.case;
        // The interfaces are changed under a lease of this invocation only.
        let is_leased = |record: &Record| {
            record.state == State::Isolating
                && record.lease.as_ref().is_some_and(|lease| {
                    lease.writer == case.now.writer
                        && case.now.time.until(lease.until).as_secs() > self.wants.hold_seconds
                })
        };
        let passes = swaps.iter().any(|step| matches!(step, Step::Pass { .. }));
        let is_listed = |record: &Record| {
            record.isolation_group == self.wants.isolation_group
                && (!passes || self.transit.is_none_or(|group| record.isolation_groups.contains(group)))
        };
        let prior = match case.held() {
            _ if case.unreadable.is_some() => Prior::Unreadable,
            None => Prior::None,
            // Whoever has the lease goes on with it; what is recorded may be isolated beside it.
            Some(record)
                if self.has_rival
                    && is_listed(record)
                    && interfaces.is_empty()
                    && record.state == State::Isolating
                    && record.owner == *case.owner =>
            {
                return None;
            }
            Some(record) if record.owner != *case.owner => Prior::Of(record.owner.clone()),
            Some(record)
                if interfaces.is_empty()
                    && record.passed.is_disjoint(&reopened)
                    && (swaps.is_empty() || is_leased(record))
                    && is_listed(record) =>
            {
                return None;
            }
            Some(_) => Prior::Ours,
        };
        if matches!(prior, Prior::None | Prior::Unreadable) && interfaces.is_empty() {
            return None;
        }
        Some(Step::Record(Originals {
            instance: case.id(),
            vpc: self.wants.vpc.clone(),
            isolation_group: self.wants.isolation_group.clone(),
            transit_group: self.transit.filter(|_| passes).cloned(),
            leased_until: case.held().and_then(|record| record.lease.as_ref()).map(|lease| lease.until),
            interfaces,
            reopened,
            prior,
            hold_seconds: self.wants.hold_seconds,
        }))
    }

    /// Names branches, whose groups are their own.
    fn name_branches(&self, plan: &mut Plan) {
        let target = self.target();
        for trunk in plan.standing.trunks.clone() {
            let branches = self.case.observed.branches.get(&trunk).into_iter().flatten();
            for branch in branches.filter(|branch| branch.groups != target) {
                plan.standing.open.insert(branch.id.clone());
                plan.problems.push(Problem::BranchOpen {
                    instance: self.case.id(),
                    interface: branch.id.clone(),
                    trunk: trunk.clone(),
                    groups: branch.groups.clone(),
                    isolation_group: self.wants.isolation_group.clone(),
                });
            }
        }
    }

    /// Marks, tags, snapshots and protections of what is isolated. `waits` is whether connections are still to be cut; what was
    /// `left` as it is does not count.
    fn preserve(
        &self,
        instance: &'a Instance,
        cut: &BTreeSet<InterfaceId>,
        waits: bool,
        left: &BTreeSet<InterfaceId>,
        plan: &mut Plan,
    ) {
        let case = self.case;
        let Some(record) = case.held().filter(|record| record.owner == *case.owner) else { return };
        tag_isolated(case, self.wants, record, instance, plan);
        let (state, may_be) = match case.kept {
            Some(_) => (State::Kept, matches!(record.state, State::Isolating | State::Isolated)),
            // In any other state somebody else is at work.
            None => (State::Isolated, record.state == State::Isolating),
        };
        let is_whole = plan.standing.open.is_subset(left) && !plan.standing.isolated.is_empty();
        // It may never be isolated as a whole: who has passed is told, nothing is claimed. The watch goes on by its lease.
        let is_swap = |step: &&Step| matches!(step, Step::SetGroups { .. } | Step::Pass { .. });
        let is_over = plan.steps().filter(is_swap).all(|step| case.ledger.given_up(step).is_some());
        let is_told = record.state == State::Isolating
            && case.only.is_none()
            && (*cut != record.passed || is_over && record.lease.is_some());
        let state = if may_be && is_whole { Some(state) } else { is_told.then_some(State::Isolating) };
        if let Some(state) = state.filter(|_| !waits) {
            let whole = is_whole && plan.standing.isolated.iter().all(|interface| cut.contains(interface));
            let but = but_for(left, plan);
            plan.push(Step::Mark {
                instance: case.id(),
                owner: record.owner.clone(),
                from: record.state,
                state,
                reason: case.kept.map(str::to_owned).or(but),
                cut: Some(Cut { whole, interfaces: cut.clone() }),
                keeps_lease: state == State::Isolating && !is_over,
            });
        }
        if self.wants.snapshot_volumes {
            snapshot(case, self.wants, record, instance, plan);
        }
        if case.observed.is_inspected {
            protect(case, self.wants, record, instance, plan);
        }
    }
}

/// What is not claimed of an instance that was isolated as a whole before: what is open since, and what another stack isolates.
fn but_for(left: &BTreeSet<InterfaceId>, plan: &Plan) -> Option<String> {
    let is_theirs = |id: &InterfaceId| {
        let held =
            |problem: &Problem| matches!(problem, Problem::InterfaceHeldByOther { interface, .. } if interface == id);
        plan.problems.iter().any(held)
    };
    let why = if left.iter().all(is_theirs) { "another stack isolates" } else { "is not isolated" };
    (!left.is_empty()).then(|| format!("but for {}, which {why}", comma_list(left)))
}

#[cfg(test)]
mod tests;
