//! The decisions: from what is wanted of one instance, what was observed, what is recorded and what this invocation did so
//! far, to a [`Plan`].
//!
//! Pure and synchronous; no SDK, no clock. **An empty plan over what was read back is the verification**: there is no
//! other checking code. A plan is data with a voice: it is logged before anything is done, and its text is what tests compare.

mod adopt;
mod endings;
mod groups;
mod isolate;
mod keep;
mod ledger;
mod problem;
pub mod protections;
mod race;
mod restore;
mod simulate;
mod snapshots;
mod step;
mod tags;
#[cfg(test)]
mod testing;
mod transit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Attributes, Branch, Group, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Lock, Member, Owner,
    Profile, Record, Snapshot, SnapshotId, State, Time, VolumeId, VpcId, Wants,
};

pub use adopt::{Adoption, Heritage, adopt};
pub use endings::Ending;
pub use ledger::{DOUBTED, Doubt, Due, Ledger, Outcome, Passage, Patience};
pub(crate) use ledger::{FIRST_PAUSE, pause};
pub use problem::{Problem, Severity, branches_unknown};
pub use protections::Change;
pub use simulate::carried_out;
pub use step::{Aim, Cut, Originals, Prior, Step, StepError};
pub(crate) use tags::tag;
pub use transit::{MOST_IN_TRANSIT, Passages};

/// What was read for one instance, or for several. Only what was asked for is here; absent means not there (or not asked for).
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Read one by one, with their tags; interfaces inside `instances` carry none.
    pub interfaces: BTreeMap<InterfaceId, Interface>,
    /// The interfaces that were looked up by their own id.
    pub looked_up: BTreeSet<InterfaceId>,
    pub groups: BTreeMap<GroupId, Group>,
    /// The groups of ours could not be listed: those that matter are looked up by their ids.
    pub is_unlisted: bool,
    pub snapshots: Vec<Snapshot>,
    /// The snapshots of the record were looked up.
    pub has_snapshots: bool,
    /// Snapshots that were looked up by their ids.
    pub sought: BTreeSet<SnapshotId>,
    /// How those are locked that were asked for.
    pub locks: BTreeMap<SnapshotId, Option<Lock>>,
    /// The tags of those volumes that were asked for.
    pub volume_tags: BTreeMap<VolumeId, BTreeMap<String, String>>,
    /// What protects the instance was asked for.
    pub is_inspected: bool,
    /// Of those that were read; `None` if EC2 no longer knows the instance.
    pub attributes: BTreeMap<InstanceId, Option<Attributes>>,
    /// Those of the instances that are in an Auto Scaling group. `None` if that was not read.
    pub members: Option<BTreeMap<InstanceId, Member>>,
    /// Those of the instances that have one. `None` if that was not read.
    pub profiles: Option<BTreeMap<InstanceId, Profile>>,
    /// The branches of trunks that were looked up.
    pub branches: BTreeMap<InterfaceId, Vec<Branch>>,
}

/// The records that an invocation is about.
pub type Records = BTreeMap<InstanceId, Arc<Record>>;

/// What is wanted of one instance.
#[derive(Debug, Clone)]
pub enum Goal<'a> {
    Isolate(&'a Wants),
    Restore,
    /// It moves under another stack, isolated throughout.
    Adopt(&'a Heritage<'a>),
    /// It stays isolated although no request asks for it any more. With a reason, that is written down.
    Keep(Option<String>),
}

impl Goal<'_> {
    /// Whether a run of this owner is about a record: one of its own, and if a whole stack ends, one of any resource of that stack.
    #[must_use]
    pub fn is_about(&self, record: &Record, owner: &Owner, stays: &BTreeSet<InstanceId>) -> bool {
        let is_whole_stack = matches!(self, Goal::Restore) && stays.is_empty();
        record.owner == *owner || is_whole_stack && record.owner.stack_id == owner.stack_id
    }
}

/// When a plan is made, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// How long the invocation has lasted.
    pub elapsed: Duration,
    pub time: Time,
    /// This invocation, as leases name it.
    pub writer: &'a str,
}

/// Everything that one plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub instance: &'a InstanceId,
    pub owner: &'a Owner,
    pub goal: &'a Goal<'a>,
    /// Of every instance that the invocation is about.
    pub records: &'a Records,
    /// Why the instance's item cannot be read, if it cannot.
    pub unreadable: Option<&'a String>,
    pub observed: &'a Observed,
    pub ledger: &'a Ledger,
    pub now: Now<'a>,
    /// Why a Delete left the instances isolated, if one came while they were being isolated.
    pub kept: Option<&'a str>,
    pub passages: &'a Passages,
    /// The instances that stay isolated.
    pub stays: &'a BTreeSet<InstanceId>,
    /// The interfaces that may be moved into isolation, where not all of them may.
    pub only: Option<&'a BTreeSet<InterfaceId>>,
}

/// What is to be done, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub work: Vec<Work>,
    pub problems: Vec<Problem>,
    /// Readings that are not simply believed.
    pub doubts: BTreeSet<Doubt>,
    /// Problems that only this look shows, and that must not go unsaid.
    pub remember: BTreeSet<Problem>,
    pub standing: Standing,
}

/// The smallest piece that is carried out on its own: if `first` fails, `then` is left alone. The steps of `then`
/// do not depend on each other, and pieces do not depend on each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub first: Option<Step>,
    pub then: Vec<Step>,
}

/// How an instance stands, by what was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Interfaces in exactly the isolation group.
    pub isolated: BTreeSet<InterfaceId>,
    /// Interfaces that should be and are not.
    pub open: BTreeSet<InterfaceId>,
    /// Those of the open ones that show a group that is not ours, or none: connections may be opened.
    pub exposed: BTreeSet<InterfaceId>,
    /// Trunk interfaces. Their branches are not attached to an instance, and are not isolated.
    pub trunks: BTreeSet<InterfaceId>,
    /// Usable snapshots of this isolation.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Those of them that are locked as long as is wanted, and until when, if that is known.
    pub locked: BTreeMap<SnapshotId, Option<Time>>,
    /// On a restore: every interface has its groups back, or is gone.
    pub is_in_place: bool,
    /// On a restore: nothing is left to do or to wait for.
    pub is_restored: bool,
}

impl Standing {
    /// Whether every interface is isolated.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.open.is_empty() && !self.isolated.is_empty()
    }
}

/// The stack in whose isolation all interfaces of an instance are, by the groups that were read.
#[must_use]
pub fn holder<'a>(observed: &'a Observed, instance: &Instance) -> Option<&'a String> {
    groups::holder_of_all(observed, &Groups::new(), instance)
}

/// The plan for one instance.
#[must_use]
pub fn plan(case: &Case<'_>) -> Plan {
    let mut plan = Plan::default();
    match case.goal {
        Goal::Isolate(wants) => isolate::plan(case, wants, &mut plan),
        Goal::Restore => restore::plan(case, &mut plan),
        Goal::Adopt(heritage) => adopt::plan(case, heritage, &mut plan),
        Goal::Keep(reason) => keep::plan(case, reason.as_deref(), &mut plan),
    }
    plan
}

impl Case<'_> {
    fn id(&self) -> InstanceId {
        self.instance.clone()
    }

    fn record(&self) -> Option<&Record> {
        self.records.get(self.instance).map(Arc::as_ref)
    }

    /// The record, unless it is only history.
    fn held(&self) -> Option<&Record> {
        self.record().filter(|record| record.state != State::Restored)
    }

    fn shown(&self) -> Option<&Instance> {
        self.observed.instances.get(self.instance)
    }

    fn living(&self) -> Option<&Instance> {
        self.shown().filter(|instance| !instance.is_terminated())
    }

    /// Adds a doubtful reading to the plan. Whether it is believed by now.
    fn believes(&self, doubt: Doubt, plan: &mut Plan) -> bool {
        let believed = self.ledger.believes(&doubt, self.now.elapsed);
        plan.doubts.insert(doubt);
        believed
    }

    /// What an instance has is believed when it was read twice: an interface that is not shown yet would stay open.
    fn may_have_more(&self, instance: &Instance, plan: &mut Plan) {
        let interfaces = instance.interfaces.iter().map(|interface| interface.id.clone());
        let branches = self.observed.branches.values().flatten().map(|branch| branch.id.clone());
        let volumes = instance.volumes.keys().cloned();
        let parts = Doubt::Parts(interfaces.collect(), volumes.collect(), branches.collect());
        if self.ledger.saw_changing_parts(self.now.elapsed) && !self.ledger.believes(&parts, self.now.elapsed) {
            plan.problems.push(Problem::KeepsChanging { instance: self.id() });
        } else {
            self.believes(parts, plan);
        }
    }

    /// Whether another invocation may still change the interfaces: nothing is settled until it has ended.
    fn has_rival(&self, plan: &mut Plan) -> bool {
        let has_rival = self.ledger.has_rival(self.now.time);
        if has_rival {
            plan.doubts.insert(Doubt::Rival);
        }
        has_rival
    }

    /// What EC2 shows of an interface, wherever it is attached.
    fn interface(&self, id: &InterfaceId) -> Option<&Interface> {
        let attached = self.shown().and_then(|instance| instance.interfaces.iter().find(|found| found.id == *id));
        self.observed.interfaces.get(id).or(attached)
    }

    /// The groups that its interfaces show and that were not read yet: whose they are, a listing may not say.
    fn shown_groups(&self) -> Groups {
        let attached = self.shown().into_iter().flat_map(|instance| &instance.interfaces);
        let shown = attached.chain(self.observed.interfaces.values()).flat_map(|interface| &interface.groups);
        shown.filter(|group| !self.observed.groups.contains_key(*group)).cloned().collect()
    }

    /// Those of them on interfaces in another VPC than this one.
    fn shown_groups_but_in(&self, vpc: &VpcId) -> Groups {
        let attached = self.shown().into_iter().flat_map(|instance| &instance.interfaces);
        let away = attached.filter(|interface| interface.vpc.as_ref().is_some_and(|at| at != vpc));
        let groups = away.flat_map(|interface| &interface.groups);
        groups.filter(|group| !self.observed.groups.contains_key(*group)).cloned().collect()
    }

    /// The instance whose record speaks for a recorded interface: the one that it is attached to, if that has a record of
    /// it, or else the first that has.
    fn speaker(&self, interface: &Interface) -> Option<&InstanceId> {
        // While several are restored, the one that spoke first goes on speaking. One that was history when another began does not.
        let is_restoring = matches!(self.goal, Goal::Restore);
        let knows = |record: &Record| {
            record.owner.stack_id == self.owner.stack_id && record.interfaces.contains_key(&interface.id)
        };
        let is_history = |record: &Record| {
            let began = |other: &Record| other.state != State::Restored && other.recorded_at > record.recorded_at;
            record.state == State::Restored
                && (!is_restoring || self.records.values().any(|other| knows(other) && began(other)))
        };
        let holds = |record: &&Arc<Record>| knows(record) && !is_history(record);
        let attached = interface.instance.as_ref().and_then(|id| self.records.get(id)).filter(holds);
        attached.or_else(|| self.records.values().find(holds)).map(|record| &record.instance)
    }

    /// What another record of the stack says that an interface had.
    fn recorded_elsewhere(&self, interface: &InterfaceId) -> Option<(&InstanceId, &Groups)> {
        let others = self.records.values().filter(|record| {
            record.instance != *self.instance
                && record.owner.stack_id == self.owner.stack_id
                && record.state != State::Restored
        });
        others.filter_map(|record| Some((&record.instance, record.interfaces.get(interface)?))).next()
    }

    /// Says so if two records hold an interface with different groups.
    fn compare_records(&self, interface: &InterfaceId, groups: &Groups, plan: &mut Plan) {
        if let Some((other, others)) = self.recorded_elsewhere(interface).filter(|(_, others)| *others != groups) {
            plan.remember.insert(Problem::RecordsDiffer {
                interface: interface.clone(),
                instance: self.id(),
                groups: groups.clone(),
                other: other.clone(),
                others: others.clone(),
            });
        }
    }
}

impl Work {
    fn only(step: Step) -> Self {
        Self { first: None, then: vec![step] }
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.first.iter().chain(&self.then)
    }

    /// Whether it takes interfaces through the transit group.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.then.iter().any(|step| matches!(step, Step::Pass { .. }))
    }

    /// Whether it only makes tags.
    #[must_use]
    pub fn tags(&self) -> bool {
        self.steps().all(|step| matches!(step, Step::Tag { .. }))
    }

    /// Whether it protects an isolated instance, which may wait for EC2's pace for a minute.
    #[must_use]
    pub fn protects(&self) -> bool {
        self.then.iter().any(|step| matches!(step, Step::Protect { aim: Aim::Isolate, .. }))
    }
}

impl Plan {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.work.iter().flat_map(Work::steps)
    }

    fn push(&mut self, step: Step) {
        self.work.push(Work::only(step));
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps().try_for_each(|step| writeln!(f, "{step}"))?;
        let remembered = self.remember.iter().filter(|problem| !self.problems.contains(problem));
        self.problems.iter().chain(remembered).try_for_each(|problem| writeln!(f, "! {problem}"))?;
        self.doubts.iter().try_for_each(|doubt| writeln!(f, "? {doubt}"))
    }
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What isolation needs, the groups of ours included.
    First,
    /// What is read back after a change of groups.
    Light,
    /// Everything: groups and tags too. The claims of an answer are made of it.
    Full,
}

/// What of an instance has to be read beyond itself, its record and the groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub interfaces: BTreeSet<InterfaceId>,
    /// What recorded interfaces are attached to by now.
    pub instances: BTreeSet<InstanceId>,
    /// Groups by their ids.
    pub groups: Groups,
    /// The groups of ours in these VPCs.
    pub marked: BTreeSet<VpcId>,
    pub episode: Option<String>,
    /// Snapshots that do not carry it.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Snapshots whose locks are looked up.
    pub locks: BTreeSet<SnapshotId>,
    /// Volumes whose tags are.
    pub volumes: BTreeSet<VolumeId>,
    /// What protects the instance is looked at, as far as the following is asked for.
    pub inspects: bool,
    pub attributes: bool,
    pub members: bool,
    pub profiles: bool,
    pub trunks: BTreeSet<InterfaceId>,
}

impl Needs {
    /// What is not among what was asked for already.
    #[must_use]
    pub fn without(&self, asked: &Self) -> Self {
        Self {
            interfaces: self.interfaces.difference(&asked.interfaces).cloned().collect(),
            instances: self.instances.difference(&asked.instances).cloned().collect(),
            groups: self.groups.difference(&asked.groups).cloned().collect(),
            marked: self.marked.difference(&asked.marked).cloned().collect(),
            episode: self.episode.clone().filter(|_| asked.episode.is_none()),
            snapshots: self.snapshots.difference(&asked.snapshots).cloned().collect(),
            locks: self.locks.difference(&asked.locks).cloned().collect(),
            volumes: self.volumes.difference(&asked.volumes).cloned().collect(),
            inspects: self.inspects && !asked.inspects,
            attributes: self.attributes && !asked.attributes,
            members: self.members && !asked.members,
            profiles: self.profiles && !asked.profiles,
            trunks: self.trunks.difference(&asked.trunks).cloned().collect(),
        }
    }
}

/// What is to be read for an instance once it and its record are known.
#[must_use]
pub fn needs(case: &Case<'_>, reach: Reach) -> Needs {
    match case.goal {
        Goal::Isolate(wants) => isolate::needs(case, wants, reach),
        Goal::Restore => restore::needs(case),
        Goal::Adopt(heritage) => adopt::needs(case, heritage),
        Goal::Keep(_) => keep::needs(case),
    }
}

#[cfg(test)]
mod tests;
