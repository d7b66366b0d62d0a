//! Instances of a stack that keeps them, or is gone, move under another stack without a moment of release.
//!
//! **Record before touch**: a record is in the new table, with everything it held, before an interface leaves the old isolation
//! group, which it leaves for the new one directly; only when all of that was read back is it taken out of the old table. So it can
//! stop anywhere and be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::preserve::{contains, original_groups_tags, way_out};
use super::rules::is_closed;
use super::{Aim, Observed, Plan, Records, Step, Work, own_groups, tag};
use crate::model::{GroupId, Groups, InstanceId, InterfaceId, Owner, Record, ShowGroups, State};

/// What is to be taken over.
#[derive(Debug, Clone, Copy)]
pub struct Legacy<'a> {
    pub records: &'a Records,
    /// Ids of stacks that take care of their records.
    pub in_charge: &'a BTreeSet<String>,
    /// What the latest request of those stacks lists.
    pub listed: &'a BTreeSet<InstanceId>,
    /// Only these, where any are named.
    pub only: &'a BTreeSet<InstanceId>,
}

/// Who takes it over.
#[derive(Debug, Clone, Copy)]
pub struct Heir<'a> {
    pub owner: &'a Owner,
    pub isolation_group: &'a GroupId,
    pub records: &'a Records,
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
    pub obstacles: Vec<Obstacle>,
}

impl Adoption {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.take_over.is_empty() && self.plan.is_empty() && self.let_go.is_empty()
    }

    /// The instances that it is about.
    #[must_use]
    pub fn instances(&self) -> BTreeSet<InstanceId> {
        let steps = self.plan.steps().flat_map(Step::instances);
        self.take_over.iter().chain(&self.let_go).cloned().chain(steps).collect()
    }
}

/// Why something is not taken over. The text names the thing, the reason and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    GroupUnfit { group: GroupId, reason: String },
    InCharge { instance: InstanceId, stack: String },
    BeingRestored { instance: InstanceId, stack: String },
    OtherVpc { instance: InstanceId, vpc: String, wanted: String },
    RecordedTwice { instance: InstanceId, owner: Owner },
    Unrecorded { instance: InstanceId, interface: InterfaceId, groups: Groups },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GroupUnfit { group, reason } => {
                write!(f, "isolation group {group} of the new stack {reason}: deploy the new stack first")
            }
            Self::InCharge { instance, stack } => write!(
                f,
                "{instance} is still isolated by {stack}, which works: deploy that stack once more without {instance} in \
                 CompromisedInstanceList (OnRemoval=KeepIsolated leaves it isolated), then adopt it"
            ),
            Self::BeingRestored { instance, stack } => {
                write!(f, "{instance} is being restored by {stack}: wait until that has ended, then look at its status")
            }
            Self::OtherVpc { instance, vpc, wanted } => write!(
                f,
                "{instance} is recorded in {vpc}, the new stack is for {wanted}: adopt it with a stack that has VpcId={vpc}"
            ),
            Self::RecordedTwice { instance, owner } => write!(
                f,
                "{instance} has another record in the new table already, held by {owner}, with other interfaces: \
                 its originals are not mixed; restore one of the two first"
            ),
            Self::Unrecorded { instance, interface, groups } => write!(
                f,
                "{instance}: {interface} is in {} without a record of its original groups: give it its groups by hand, then adopt {instance}",
                ShowGroups(groups)
            ),
        }
    }
}

/// `observed` holds the instances and interfaces of the records, every group of ours in their VPCs, and the snapshots of the old
/// episodes.
#[must_use]
pub fn adopt(legacy: Legacy<'_>, heir: Heir<'_>, observed: &Observed) -> Adoption {
    let mut adoption = Adoption::default();
    let is_meant = |record: &&Record| legacy.only.is_empty() || legacy.only.contains(&record.instance);
    let held: Vec<&Record> =
        legacy.records.values().filter(|record| record.state != State::Restored).filter(is_meant).collect();
    if held.is_empty() {
        return adoption;
    }
    if let Some(reason) = unfit(heir.isolation_group, observed) {
        adoption.obstacles.push(Obstacle::GroupUnfit { group: heir.isolation_group.clone(), reason });
        return adoption;
    }
    for record in held {
        let case = Case { legacy, heir, observed, record };
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
        Some(group) if !is_closed(group) => Some("lets more through than it may".to_owned()),
        Some(_) => None,
    }
}

struct Case<'a> {
    legacy: Legacy<'a>,
    heir: Heir<'a>,
    observed: &'a Observed,
    /// The old one.
    record: &'a Record,
}

impl Case<'_> {
    fn id(&self) -> InstanceId {
        self.record.instance.clone()
    }

    /// The new record, where there is one that is not only history.
    fn successor(&self) -> Option<&Record> {
        self.heir.records.get(&self.record.instance).filter(|record| record.state != State::Restored)
    }

    fn obstacle(&self) -> Option<Obstacle> {
        let (record, instance) = (self.record, self.id());
        let stack = record.owner.stack_id.clone();
        let is_in_charge = self.legacy.in_charge.contains(&stack);
        if is_in_charge && record.state == State::Restoring {
            return Some(Obstacle::BeingRestored { instance, stack });
        }
        // Whatever its state: a deployment that followed a rollback may not have marked it again.
        if is_in_charge && self.legacy.listed.contains(&instance) {
            return Some(Obstacle::InCharge { instance, stack });
        }
        if self.successor().is_some_and(|found| found.state == State::Restoring) {
            return Some(Obstacle::BeingRestored { instance, stack: self.heir.owner.stack_id.clone() });
        }
        let vpc = self.observed.groups.get(self.heir.isolation_group).and_then(|group| group.vpc.as_ref());
        if vpc != Some(&record.vpc) {
            let wanted = vpc.map_or_else(|| "no VPC".to_owned(), ToString::to_string);
            return Some(Obstacle::OtherVpc { instance, vpc: record.vpc.to_string(), wanted });
        }
        let is_ours = |found: &&Record| {
            found.owner == *self.heir.owner
                && record.interfaces.iter().all(|(id, at)| found.interfaces.get(id) == Some(at))
        };
        if let Some(other) = self.successor().filter(|found| !is_ours(found)) {
            return Some(Obstacle::RecordedTwice { instance, owner: other.owner.clone() });
        }
        let attached = self.observed.instances.get(&instance).into_iter().flat_map(|instance| &instance.interfaces);
        let mut strays = attached.filter(|interface| {
            !record.interfaces.contains_key(&interface.id) && !interface.groups.is_disjoint(&self.old_groups())
        });
        let stray = strays.next()?;
        let (interface, groups) = (stray.id.clone(), stray.groups.clone());
        Some(Obstacle::Unrecorded { instance, interface, groups })
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
            let mark = Step::Mark { instance: self.id(), from, state, reason: None, cut: None };
            adoption.plan.work.push(Work::only(mark));
        } else {
            adoption.let_go.insert(self.id());
        }
        adoption.plan.work.extend(self.tags().map(Work::only));
    }

    /// From the old isolation straight to the new one. What is in neither, nobody isolated or somebody moved: a deployment of the
    /// new stack isolates it.
    fn moves(&self) -> Vec<Step> {
        let target = Groups::from([self.heir.isolation_group.clone()]);
        let ours = self.old_groups();
        let interfaces = self.record.interfaces.keys().filter_map(|id| self.observed.interfaces.get(id));
        let left = interfaces.filter(|interface| interface.groups != target && !interface.groups.is_disjoint(&ours));
        let moves = left.map(|interface| Step::SetGroups {
            instance: self.id(),
            interface: interface.id.clone(),
            from: interface.groups.clone(),
            to: target.clone(),
            aim: Aim::Isolate,
        });
        moves.collect()
    }

    /// Whether every interface of the instance shows the new group.
    fn is_whole(&self) -> bool {
        let target = Groups::from([self.heir.isolation_group.clone()]);
        let shows = |id: &InterfaceId, groups: &Groups| {
            *groups == target && self.observed.interfaces.get(id).is_none_or(|interface| interface.groups == target)
        };
        let mut attached = self.observed.instances.get(&self.record.instance).into_iter().flat_map(|i| &i.interfaces);
        attached.all(|interface| shows(&interface.id, &interface.groups))
    }

    /// What shows on instance, interfaces and snapshots whose they are now.
    fn tags(&self) -> impl Iterator<Item = Step> {
        let mut tags: BTreeMap<BTreeMap<String, String>, BTreeSet<String>> = BTreeMap::new();
        let stack = BTreeMap::from([(tag::STACK.to_owned(), self.heir.owner.stack_id.clone())]);
        let mut on_instance = stack.clone();
        on_instance.insert(tag::RESTORE.to_owned(), way_out(self.heir.owner));
        if let Some(instance) = self.observed.instances.get(&self.record.instance)
            && !instance.is_terminated()
            && !contains(&instance.tags, &on_instance)
        {
            tags.entry(on_instance).or_default().insert(instance.id.to_string());
        }
        for (id, originals) in &self.record.interfaces {
            let wanted = original_groups_tags(originals);
            if self.observed.interfaces.get(id).is_some_and(|interface| !contains(&interface.tags, &wanted)) {
                tags.entry(wanted).or_default().insert(id.to_string());
            }
        }
        // The function finds its snapshots by the episode, and may tag those only that carry its stack.
        let successor = Record { owner: self.heir.owner.clone(), ..self.record.clone() };
        let mut on_snapshots = stack;
        on_snapshots.insert(tag::OWNER.to_owned(), self.heir.owner.logical_id.clone());
        on_snapshots.insert(tag::EPISODE.to_owned(), successor.episode());
        let episode = self.record.episode();
        let of_record = self.observed.snapshots.iter().filter(|snapshot| snapshot.episode == episode);
        let snapshots: BTreeSet<String> = of_record.map(|snapshot| snapshot.id.to_string()).collect();
        if !snapshots.is_empty() {
            tags.insert(on_snapshots, snapshots);
        }
        tags.into_iter().map(|(tags, resources)| Step::Tag { resources, tags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Snapshot, Snapshots};
    use crate::plan::testing::{World, group, groups, rule};

    /// `i-1` of the old `stack-1` in its `sg-150`; `stack-2` has `sg-250`. Both tables.
    struct Scene {
        old: World,
        heir: Owner,
        new: Records,
        in_charge: BTreeSet<String>,
        listed: BTreeSet<InstanceId>,
        only: BTreeSet<InstanceId>,
    }

    fn scene(state: State) -> Scene {
        let mut old = World::new()
            .foreign_group("sg-250", "stack-2")
            .plain_group("sg-a")
            .instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-150"])])
            .record("i-1", state, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]);
        let interfaces = old.observed.interfaces.values_mut();
        interfaces.for_each(|interface| interface.tags = original_groups_tags(&groups(&["sg-a"])));
        let heir = Owner { stack_id: "stack-2".to_owned(), logical_id: "Isolation".to_owned() };
        let (new, in_charge, listed, only) = Default::default();
        Scene { old, heir, new, in_charge, listed, only }
    }

    impl Scene {
        fn look(&self) -> Adoption {
            let Self { old, heir, new, in_charge, listed, only } = self;
            let isolation_group = &"sg-250".parse().unwrap();
            let legacy = Legacy { records: &old.records, in_charge, listed, only };
            adopt(legacy, Heir { owner: heir, isolation_group, records: new }, &old.observed)
        }

        /// What is to be done, in its order, and what stands in the way.
        fn check(&self, expected: &str) {
            let Adoption { take_over, plan, let_go, obstacles } = self.look();
            let mut text: Vec<String> = take_over.iter().map(|id| format!("take over {id}")).collect();
            text.extend(plan.to_string().lines().map(str::to_owned));
            text.extend(let_go.iter().map(|id| format!("let go {id}")));
            text.extend(obstacles.iter().map(|obstacle| format!("! {obstacle}")));
            assert_eq!(text.join("\n"), expected);
        }

        /// The record is copied.
        fn taken_over(mut self) -> Self {
            let mut record = self.old.saved().clone();
            record.owner = self.heir.clone();
            record.state = State::Isolating;
            record.isolation_groups.insert("sg-250".parse().unwrap());
            self.new.insert(record.instance.clone(), record);
            self
        }

        fn moved(mut self, interface: &str, to: &str) -> Self {
            let id: InterfaceId = interface.parse().unwrap();
            let attached = self.old.observed.instances.values_mut().flat_map(|instance| &mut instance.interfaces);
            attached.filter(|found| found.id == id).for_each(|found| found.groups = groups(&[to]));
            self.old.observed.interfaces.get_mut(&id).unwrap().groups = groups(&[to]);
            self
        }

        fn tagged(mut self) -> Self {
            let instance = self.old.observed.instances.values_mut().next().unwrap();
            instance.tags.insert(tag::STACK.to_owned(), "stack-2".to_owned());
            instance.tags.insert(tag::RESTORE.to_owned(), way_out(&self.heir));
            self
        }

        fn marked(mut self, state: State) -> Self {
            self.new.values_mut().for_each(|record| record.state = state);
            self
        }
    }

    #[test]
    fn nothing_is_touched_before_it_is_recorded_in_the_new_table() {
        scene(State::Kept).check("take over i-1");
    }

    #[test]
    fn interfaces_go_from_one_isolation_straight_into_the_other() {
        scene(State::Kept)
            .taken_over()
            .check("i-1: isolate eni-1 [sg-150] -> [sg-250]\ni-1: isolate eni-2 [sg-150] -> [sg-250]");
        scene(State::Kept).taken_over().moved("eni-1", "sg-250").check("i-1: isolate eni-2 [sg-150] -> [sg-250]");
    }

    #[test]
    fn the_old_record_goes_when_everything_was_read_back() {
        let scene = scene(State::Kept).taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250");
        scene.check("i-1: mark isolated\ntag i-1 with ec2-isolation:restore, ec2-isolation:stack");
        let scene = scene.marked(State::Isolated);
        scene.check("tag i-1 with ec2-isolation:restore, ec2-isolation:stack\nlet go i-1");
        let mut scene = scene.tagged();
        scene.check("let go i-1");
        scene.old.records.clear();
        scene.check("");
    }

    #[test]
    fn snapshots_are_found_by_the_new_record() {
        let mut scene = scene(State::Kept).tagged();
        scene.old.saved().snapshots = Snapshots::Requested;
        let mut scene = scene.taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250").marked(State::Isolated);
        let episode = scene.old.saved().episode();
        let (id, volume) = ("snap-1".parse().unwrap(), "vol-1".parse().unwrap());
        scene.old.observed.snapshots = vec![Snapshot { id, volume, episode, failed: false, labelled: true }];
        let adoption = scene.look();
        let Some(Step::Tag { tags, .. }) = adoption.plan.steps().next() else { panic!("{}", adoption.plan) };
        assert_eq!(tags[tag::EPISODE], scene.new.values().next().unwrap().episode());
        assert_eq!((tags[tag::STACK].as_str(), tags.len()), ("stack-2", 3));
        scene.check("tag snap-1 with ec2-isolation:episode, ec2-isolation:owner, ec2-isolation:stack\nlet go i-1");
    }

    #[test]
    fn what_was_never_isolated_or_moved_since_is_left_to_a_deployment() {
        let scene = scene(State::Isolating).tagged().taken_over().moved("eni-1", "sg-a").moved("eni-2", "sg-250");
        scene.check("let go i-1");
        assert_eq!(scene.new.values().next().unwrap().state, State::Isolating);
    }

    #[test]
    fn a_stack_that_takes_care_of_its_records_keeps_them() {
        let mut scene = scene(State::Isolated);
        scene.in_charge.insert("stack-1".to_owned());
        scene.check("take over i-1");
        scene.listed.insert("i-1".parse().unwrap());
        scene.check(
            "! i-1 is still isolated by stack-1, which works: deploy that stack once more without i-1 in \
             CompromisedInstanceList (OnRemoval=KeepIsolated leaves it isolated), then adopt it",
        );
        scene.old.saved().state = State::Kept;
        assert!(matches!(scene.look().obstacles.as_slice(), [Obstacle::InCharge { .. }]));
        scene.old.saved().state = State::Restoring;
        scene.check("! i-1 is being restored by stack-1: wait until that has ended, then look at its status");
    }

    #[test]
    fn a_restore_of_either_stack_is_not_worked_against() {
        let scene = scene(State::Kept).taken_over().marked(State::Restoring);
        scene.check("! i-1 is being restored by stack-2: wait until that has ended, then look at its status");
    }

    #[test]
    fn two_records_are_never_mixed() {
        let mut scene = scene(State::Kept).taken_over();
        scene.new.values_mut().next().unwrap().interfaces.remove(&"eni-2".parse().unwrap());
        assert!(matches!(scene.look().obstacles.as_slice(), [Obstacle::RecordedTwice { .. }]));
        let mut scene = scene.taken_over();
        scene.new.values_mut().next().unwrap().interfaces.insert("eni-1".parse().unwrap(), groups(&["sg-b"]));
        assert!(matches!(scene.look().obstacles.as_slice(), [Obstacle::RecordedTwice { .. }]));
        // History is no record.
        scene.marked(State::Restored).check("take over i-1");
    }

    #[test]
    fn an_interface_without_a_record_is_named() {
        let mut scene = scene(State::Kept);
        scene.old.saved().interfaces.remove(&"eni-2".parse().unwrap());
        scene.check(
            "! i-1: eni-2 is in [sg-150] without a record of its original groups: give it its groups by hand, then adopt i-1",
        );
    }

    #[test]
    fn a_new_group_that_does_not_isolate_takes_nothing() {
        let mut scene = scene(State::Kept);
        let heir = scene.old.observed.groups.get_mut(&"sg-250".parse().unwrap()).unwrap();
        heir.egress = vec![rule("-1", None, "0.0.0.0/0")];
        scene.check(
            "! isolation group sg-250 of the new stack lets more through than it may: deploy the new stack first",
        );
        scene.old.observed.groups.insert(
            "sg-250".parse().unwrap(),
            crate::model::Group { vpc: Some("vpc-2".parse().unwrap()), ..group("sg-250") },
        );
        scene.check(
            "! i-1 is recorded in vpc-1, the new stack is for vpc-2: adopt it with a stack that has VpcId=vpc-1",
        );
        scene.old.observed.groups.remove(&"sg-250".parse().unwrap());
        scene.check("! isolation group sg-250 of the new stack does not exist: deploy the new stack first");
    }

    #[test]
    fn others_than_those_named_are_left_alone() {
        let mut scene = scene(State::Kept);
        scene.only.insert("i-2".parse().unwrap());
        scene.check("");
    }

    #[test]
    fn history_stays_where_it_is() {
        scene(State::Restored).check("");
    }
}
