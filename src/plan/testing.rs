//! Small worlds for the planner's tests: VPC `vpc-1`, isolation group `sg-150`, stack `stack-1`.

use std::collections::BTreeMap;

use super::{Observed, Records};
use crate::model::{
    Attribute, Attributes, Group, Groups, Instance, Interface, InterfaceId, Member, Owner, PROTECTING, Peer, Profile,
    Protection, Record, Release, Role, Rule, ShutdownBehaviour, Snapshots, State, Volume, Wants,
};

pub(super) struct World {
    pub owner: Owner,
    pub observed: Observed,
    pub records: Records,
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
        on_removal: Release::KeepIsolated,
        on_rollback: Release::KeepIsolated,
        allow_partial: false,
        protect: true,
        detach_profile: false,
        purpose: "forensics".to_owned(),
        cut_connections: false,
        transit_group: None,
        hold_seconds: 5,
        forensic_ports: crate::model::ssh_only(),
    }
}

/// One that goes with its instance.
pub(super) fn root_volume() -> Volume {
    Volume { device: "/dev/sda1".to_owned(), delete_on_termination: true }
}

fn interface(id: &str, ids: &[&str]) -> Interface {
    Interface { id: id.parse().unwrap(), groups: groups(ids), tags: BTreeMap::new(), is_trunk: false }
}

impl World {
    pub(super) fn new() -> Self {
        let owner = Owner { stack_id: "stack-1".to_owned(), logical_id: "Isolation".to_owned() };
        let world = Self { owner, observed: Observed::default(), records: Records::new() };
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
        let interfaces: Vec<Interface> = cards.iter().map(|(id, groups)| interface(id, groups)).collect();
        self.observed.interfaces.extend(interfaces.iter().map(|i| (i.id.clone(), i.clone())));
        let volume = format!("vol-{}", id.trim_start_matches("i-"));
        let instance = Instance {
            id: id.parse().unwrap(),
            state: "running".to_owned(),
            vpc: Some(vpc.parse().unwrap()),
            interfaces,
            volumes: [(volume.parse().unwrap(), root_volume())].into(),
            tags: BTreeMap::new(),
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
        };
        self.observed.instances.insert(instance.id.clone(), instance);
        self
    }

    pub(super) fn record(mut self, id: &str, state: State, cards: Cards) -> Self {
        let interfaces: BTreeMap<InterfaceId, Groups> =
            cards.iter().map(|(id, ids)| (id.parse().unwrap(), groups(ids))).collect();
        let record = Record {
            instance: id.parse().unwrap(),
            owner: self.owner.clone(),
            state,
            vpc: "vpc-1".parse().unwrap(),
            isolation_group: "sg-150".parse().unwrap(),
            isolation_groups: groups(&["sg-150"]),
            interfaces,
            connections_cut: false,
            recorded_at: "2026-11-25T03:00:00Z".to_owned(),
            snapshots: Snapshots::None,
            protection: Protection::default(),
            history: vec![],
        };
        self.records.insert(record.instance.clone(), record);
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
        self.records.values_mut().next().unwrap()
    }
}
