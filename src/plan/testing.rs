//! Small worlds for the planner's tests: VPC `vpc-1`, isolation group `sg-150`, stack `stack-1`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Aim, Case, Doubt, Goal, Ledger, Needs, Now, Observed, Outcome, Passages, Plan, Reach, Records, Step, StepError,
    needs, plan,
};
use crate::model::{
    Attribute, Attributes, CallError, Fault, Group, Groups, Instance, InstanceId, Interface, InterfaceId, Lease,
    Member, Owner, PROTECTING, Peer, Profile, Protection, Record, Release, Role, Rule, ShutdownBehaviour, Snapshots,
    State, Time, Volume, Wants, Watch,
};

#[derive(Clone)]
pub(super) struct World {
    /// The instance that plans are made for: `i-1`.
    pub id: InstanceId,
    pub owner: Owner,
    pub observed: Observed,
    pub records: Records,
    pub ledger: Ledger,
    pub unreadable: Option<String>,
    pub stays: BTreeSet<InstanceId>,
    pub only: Option<BTreeSet<InterfaceId>>,
    pub passages: Passages,
    pub kept: Option<String>,
    pub elapsed: Duration,
}

/// Interface ids with their groups.
type Cards<'a> = &'a [(&'a str, &'a [&'a str])];

pub(super) fn groups(ids: &[&str]) -> Groups {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

pub(super) fn group(id: &str) -> Group {
    Group {
        id: id.parse().unwrap(),
        vpc: Some("vpc-1".parse().unwrap()),
        role: None,
        stack_id: None,
        ingress: vec![],
        egress: vec![],
    }
}

pub(super) fn rule(protocol: &str, ports: Option<(i32, i32)>, peer: &str) -> Rule {
    let peer = peer.parse().map_or_else(|_| Peer::Cidr(peer.to_owned()), Peer::Group);
    Rule { protocol: protocol.to_owned(), ports, peer }
}

pub(super) fn wants(instances: &[&str]) -> Wants {
    Wants {
        instances: instances.iter().map(|id| id.parse().unwrap()).collect(),
        vpc: "vpc-1".parse().unwrap(),
        isolation_group: "sg-150".parse().unwrap(),
        forensic_group: None,
        snapshot_volumes: true,
        lock_days: 0,
        on_removal: Release::KeepIsolated,
        on_rollback: Release::KeepIsolated,
        allow_partial: false,
        protect: true,
        detach_profile: false,
        disable_metadata: false,
        purpose: "forensics".to_owned(),
        cut_connections: false,
        transit_group: None,
        hold_seconds: 5,
        watch: Watch::Notify,
        makes_host: false,
        revoke_roles: std::collections::BTreeSet::new(),
        forensic_ports: crate::model::ssh_only(),
    }
}

/// One that goes with its instance.
pub(super) fn root_volume() -> Volume {
    Volume { device: "/dev/sda1".to_owned(), delete_on_termination: true }
}

/// Equal to any step that gives an interface of `i-1` these groups.
pub(super) fn set_groups(interface: &str, to: &[&str]) -> Step {
    let (instance, interface) = ("i-1".parse().unwrap(), interface.parse().unwrap());
    Step::SetGroups { instance, interface, from: groups(&["sg-a"]), to: groups(to), aim: Aim::Isolate }
}

pub(super) fn failure(fault: Fault) -> StepError {
    let (action, code, message) = ("ec2:Something", "Code".to_owned(), "message".to_owned());
    StepError::Call(CallError { action, fault, code, message })
}

pub(super) fn interface(id: &str, ids: &[&str]) -> Interface {
    Interface {
        id: id.parse().unwrap(),
        groups: groups(ids),
        tags: BTreeMap::new(),
        is_trunk: false,
        vpc: Some("vpc-1".parse().unwrap()),
        instance: None,
    }
}

impl World {
    pub(super) fn new() -> Self {
        let owner = Owner { stack_id: "stack-1".to_owned(), logical_id: "Isolation".to_owned() };
        let world = Self {
            id: "i-1".parse().unwrap(),
            owner,
            observed: Observed {
                has_snapshots: true,
                sought: ["snap-1".parse().unwrap()].into(),
                is_inspected: true,
                ..Observed::default()
            },
            records: Records::new(),
            ledger: Ledger::default(),
            unreadable: None,
            stays: BTreeSet::new(),
            only: None,
            passages: Passages::default(),
            kept: None,
            elapsed: NOW.elapsed,
        };
        world.with_group("sg-150", "stack-1")
    }

    fn with_group(mut self, id: &str, stack: &str) -> Self {
        let group = Group { role: Some(Role::Isolation), stack_id: Some(stack.to_owned()), ..group(id) };
        self.observed.groups.insert(group.id.clone(), group);
        self
    }

    /// An isolation group of another stack.
    pub(super) fn foreign_group(self, id: &str, stack: &str) -> Self {
        self.with_group(id, stack)
    }

    /// The stack's transit group, open to everybody.
    pub(super) fn transit_group(self, id: &str) -> Self {
        let mut world = self.with_group(id, "stack-1");
        let group = world.observed.groups.get_mut(&id.parse().unwrap()).unwrap();
        group.role = Some(Role::Transit);
        group.ingress = vec![rule("-1", None, "0.0.0.0/0"), rule("-1", None, "::/0")];
        group.egress = group.ingress.clone();
        world
    }

    /// A group that has nothing to do with us.
    pub(super) fn plain_group(mut self, id: &str) -> Self {
        self.observed.groups.insert(id.parse().unwrap(), group(id));
        self
    }

    pub(super) fn instance(self, id: &str, cards: Cards) -> Self {
        self.instance_in(id, "vpc-1", cards)
    }

    /// An instance with one volume, whose interfaces can also be read one by one.
    pub(super) fn instance_in(mut self, id: &str, vpc: &str, cards: Cards) -> Self {
        let at = |card: Interface| Interface {
            vpc: Some(vpc.parse().unwrap()),
            instance: Some(id.parse().unwrap()),
            ..card
        };
        let interfaces: Vec<Interface> = cards.iter().map(|(id, groups)| at(interface(id, groups))).collect();
        self.observed.looked_up.extend(interfaces.iter().map(|i| i.id.clone()));
        self.observed.interfaces.extend(interfaces.iter().map(|i| (i.id.clone(), i.clone())));
        let volume = format!("vol-{}", id.trim_start_matches("i-"));
        let instance = Instance {
            id: id.parse().unwrap(),
            state: "running".to_owned(),
            vpc: Some(vpc.parse().unwrap()),
            interfaces,
            volumes: [(volume.parse().unwrap(), root_volume())].into(),
            tags: BTreeMap::new(),
            has_metadata_service: true,
            is_metadata_pending: false,
            lifecycle: None,
        };
        self.observed.instances.insert(instance.id.clone(), instance);
        self
    }

    /// What `DescribeInstanceAttribute` shows of it.
    pub(super) fn attributes(mut self, id: &str, attributes: Attributes) -> Self {
        self.observed.attributes.insert(id.parse().unwrap(), Some(attributes));
        self
    }

    pub(super) fn terminated(mut self, id: &str) -> Self {
        let instance = Instance {
            id: id.parse().unwrap(),
            state: "terminated".to_owned(),
            vpc: None,
            interfaces: vec![],
            volumes: BTreeMap::new(),
            tags: BTreeMap::new(),
            has_metadata_service: true,
            is_metadata_pending: false,
            lifecycle: None,
        };
        self.observed.instances.insert(instance.id.clone(), instance);
        self
    }

    pub(super) fn record(mut self, id: &str, state: State, cards: Cards) -> Self {
        let interfaces: BTreeMap<InterfaceId, Groups> =
            cards.iter().map(|(id, ids)| (id.parse().unwrap(), groups(ids))).collect();
        let record = Record {
            returns: 0,
            instance: id.parse().unwrap(),
            owner: self.owner.clone(),
            state,
            vpc: "vpc-1".parse().unwrap(),
            isolation_group: "sg-150".parse().unwrap(),
            isolation_groups: groups(&["sg-150"]),
            interfaces,
            connections_cut: false,
            passed: BTreeSet::new(),
            recorded_at: NOW.time,
            lease: None,
            snapshots: Snapshots::default(),
            protection: Protection::default(),
            history: vec![],
        };
        self.records.insert(record.instance.clone(), Arc::new(record));
        self
    }
}

/// What an instance has that nothing protects.
pub(super) const UNPROTECTED: Attributes = [
    Attribute::TerminationProtection(false),
    Attribute::StopProtection(false),
    Attribute::ShutdownBehaviour(ShutdownBehaviour::Terminate),
];

/// Worlds of one instance `i-1`, with one volume `vol-1`.
impl World {
    /// It is isolated, nothing protects it, and its volume goes with it.
    pub(super) fn isolated() -> Self {
        Self::new().instance("i-1", &[("eni-1", &["sg-150"])]).attributes("i-1", UNPROTECTED).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a"])],
        )
    }

    /// The same after everything was saved and done.
    pub(super) fn protected() -> Self {
        let mut world = Self::isolated().attributes("i-1", PROTECTING);
        world.saved().protection.attributes = UNPROTECTED.into();
        world.saved().protection.volumes = [("vol-1".parse().unwrap(), "/dev/sda1".to_owned())].into();
        world.delete_volume(false);
        world
    }

    /// It is protected but for its profile: what it has, and what its record says.
    pub(super) fn with_profile(arn: Option<&str>, recorded: Option<&str>) -> Self {
        let mut world = Self::isolated().attributes("i-1", PROTECTING);
        world.delete_volume(false);
        let profile = |arn: &str| Profile { association: "iip-assoc-1".to_owned(), arn: arn.to_owned() };
        world.observed.profiles = Some(arn.map(|arn| ("i-1".parse().unwrap(), profile(arn))).into_iter().collect());
        world.saved().protection.profile = recorded.map(str::to_owned);
        world
    }

    pub(super) fn delete_volume(&mut self, on_termination: bool) {
        let instance = self.observed.instances.values_mut().next().unwrap();
        instance.volumes.values_mut().next().unwrap().delete_on_termination = on_termination;
    }

    /// Its Auto Scaling group is `web`.
    pub(super) fn member(&mut self, state: &str) {
        let member = Member { group: "web".to_owned(), state: state.to_owned() };
        self.observed.members = Some([("i-1".parse().unwrap(), member)].into());
    }

    pub(super) fn saved(&mut self) -> &mut Record {
        Arc::make_mut(self.records.values_mut().next().unwrap())
    }
}

/// When every plan is made.
pub(super) const NOW: Now<'static> =
    Now { elapsed: Duration::from_secs(60), time: Time(1_764_039_600), writer: "this invocation" };

/// Plans as text.
impl World {
    /// Every plan of an isolation doubts that all of the instance is shown; that has tests of its own.
    pub(super) fn plan(&self, goal: &Goal<'_>) -> Plan {
        let mut plan = plan(&self.case(goal));
        plan.doubts.retain(|doubt| !matches!(doubt, Doubt::Parts(..)));
        plan
    }

    pub(super) fn needs(&self, goal: &Goal<'_>, reach: Reach) -> Needs {
        needs(&self.case(goal), reach)
    }

    pub(super) fn case<'a>(&'a self, goal: &'a Goal<'a>) -> Case<'a> {
        Case {
            instance: &self.id,
            owner: &self.owner,
            goal,
            records: &self.records,
            unreadable: self.unreadable.as_ref(),
            observed: &self.observed,
            ledger: &self.ledger,
            now: Now { elapsed: self.elapsed, ..NOW },
            kept: self.kept.as_deref(),
            passages: &self.passages,
            stays: &self.stays,
            only: self.only.as_ref(),
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The first record is changed.
    pub(super) fn saved_with(mut self, change: impl FnOnce(&mut Record)) -> Self {
        change(self.saved());
        self
    }

    pub(super) fn state(self, state: State) -> Self {
        self.saved_with(|record| record.state = state)
    }

    pub(super) fn change_group(mut self, id: &str, change: impl FnOnce(&mut Group)) -> Self {
        change(self.observed.groups.get_mut(&id.parse().unwrap()).unwrap());
        self
    }

    pub(super) fn without_group(mut self, id: &str) -> Self {
        self.observed.groups.remove(&id.parse().unwrap());
        self
    }

    /// Whatever shows the interface shows it so.
    pub(super) fn change_interface(mut self, id: &str, change: impl Fn(&mut Interface)) -> Self {
        let id: InterfaceId = id.parse().unwrap();
        let attached = self.observed.instances.values_mut().flat_map(|instance| &mut instance.interfaces);
        attached.chain(self.observed.interfaces.values_mut()).filter(|found| found.id == id).for_each(change);
        self
    }

    pub(super) fn shows(self, id: &str, ids: &[&str]) -> Self {
        self.change_interface(id, |interface| interface.groups = groups(ids))
    }

    pub(super) fn change_instance(mut self, change: impl FnOnce(&mut Instance)) -> Self {
        change(self.observed.instances.get_mut(&self.id).unwrap());
        self
    }

    /// An interface that is found by its own id only.
    pub(super) fn elsewhere(mut self, id: &str, ids: &[&str], at: Option<&str>) -> Self {
        let found = Interface { instance: at.map(|at| at.parse().unwrap()), ..interface(id, ids) };
        self.observed.looked_up.insert(found.id.clone());
        self.observed.interfaces.insert(found.id.clone(), found);
        self
    }

    pub(super) fn stays(mut self, id: &str) -> Self {
        self.stays.insert(id.parse().unwrap());
        self
    }

    /// What this invocation wrote to an interface.
    pub(super) fn wrote(mut self, interface: &str, to: &[&str], result: Result<(), Fault>) -> Self {
        self.learn(&set_groups(interface, to), result);
        self
    }

    pub(super) fn learn(&mut self, step: &Step, result: Result<(), Fault>) {
        let result = result.map_err(failure);
        self.ledger.learn(&Outcome { step: step.clone(), result, passage: None }, NOW.elapsed);
    }

    /// Another invocation may be at work for this long.
    pub(super) fn rival(mut self, seconds: u64) -> Self {
        let lease = Lease { writer: "another".to_owned(), until: Time(NOW.time.0 + seconds), only: BTreeSet::new() };
        let world =
            Self::isolated().saved_with(|record| (record.state, record.lease) = (State::Isolating, Some(lease)));
        self.ledger.note_record(world.records.values().next().map(Arc::as_ref), NOW.writer, NOW.time);
        self
    }

    /// What can never succeed is given up.
    pub(super) fn given_up(mut self, goal: &Goal<'_>) -> Self {
        let plan = self.plan(goal);
        let minute = Duration::from_secs(60);
        self.ledger.due(&plan, NOW.elapsed, super::Patience { for_faults: minute, for_permission: minute });
        self
    }

    /// What is doubted was read five seconds ago as well.
    pub(super) fn seen_before(mut self, goal: &Goal<'_>) -> Self {
        let plan = self.plan(goal);
        self.ledger.note_doubts(&plan, NOW.elapsed.checked_sub(Duration::from_secs(5)).unwrap());
        self
    }

    /// Every step of the next plan of an isolation or a restore was accepted.
    pub(super) fn accept_everything(&mut self) {
        self.answer(&Ok(()));
    }

    pub(super) fn refuse_everything(&mut self, code: &str, message: &str) {
        let (action, code, message) = ("ec2:Something", code.to_owned(), message.to_owned());
        let error = CallError { action, fault: Fault::Refused, code, message };
        self.answer(&Err(StepError::Call(error)));
    }

    fn answer(&mut self, result: &Result<(), StepError>) {
        let wants = Wants { detach_profile: true, ..wants(&["i-1"]) };
        let plans = [self.plan(&Goal::Isolate(&wants)), self.restored().plan(&Goal::Restore)];
        for step in plans.iter().flat_map(Plan::steps) {
            let outcome = Outcome { step: step.clone(), result: result.clone(), passage: None };
            self.ledger.learn(&outcome, NOW.elapsed);
        }
    }

    /// Whatever is read is believed.
    pub(super) fn trust(&mut self) {
        self.ledger.is_trusting = true;
    }

    /// The lease of the record is this invocation's.
    pub(super) fn leased(mut self) -> Self {
        self.saved().lease =
            Some(Lease { writer: NOW.writer.to_owned(), until: Time(NOW.time.0 + 35), only: BTreeSet::new() });
        self
    }

    /// The same with the interface as it was, which is believed.
    fn restored(&self) -> Self {
        let mut world = self.clone().plain_group("sg-a").wrote("eni-1", &["sg-a"], Ok(()));
        world.observed.interfaces.values_mut().next().unwrap().groups = groups(&["sg-a"]);
        world
    }

    /// The protections, of what is planned for an isolated instance.
    pub(super) fn check_protected(&self, expected: &str) {
        self.check_with_options(&wants(&["i-1"]), expected);
    }

    pub(super) fn check_detached(&self, expected: &str) {
        self.check_with_options(&Wants { detach_profile: true, ..wants(&["i-1"]) }, expected);
    }

    fn check_with_options(&self, wants: &Wants, expected: &str) {
        let wants = Wants { snapshot_volumes: false, ..wants.clone() };
        let text = self.plan(&Goal::Isolate(&wants)).to_string();
        let others = ["tag ", "? eni-1 shows what it should"];
        let lines: Vec<&str> =
            text.lines().filter(|line| !others.iter().any(|other| line.starts_with(other))).collect();
        assert_eq!(lines.join("\n"), expected);
    }

    /// What is planned for a restore once the interface has its groups back. What is remembered is a problem as well.
    pub(super) fn check_unprotected(&self, expected: &str) {
        let plan = Plan { remember: BTreeSet::new(), ..self.restored().plan(&Goal::Restore) };
        assert_eq!(plan.to_string().trim_end(), expected);
    }
}
