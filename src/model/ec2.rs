//! What EC2 shows.

use std::collections::BTreeMap;
use std::fmt;

use super::{GroupId, Groups, InstanceId, InterfaceId, Owner, SnapshotId, Time, Volume, VolumeId, VpcId};

/// By this tag our groups are found, and nothing more: an attacker may be able to write it.
pub const ROLE_TAG: &str = "ec2-isolation:role";
/// CloudFormation sets it on every group it creates; the `aws:` prefix is reserved, so it cannot be forged.
pub const STACK_TAG: &str = "aws:cloudformation:stack-id";
/// The same with the stack's name.
pub const STACK_NAME_TAG: &str = "aws:cloudformation:stack-name";
/// The same with the group's name in its template, which says what it is for.
pub const LOGICAL_ID_TAG: &str = "aws:cloudformation:logical-id";

/// What EC2 shows of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    /// EC2's own word: `pending`, `running`, `shutting-down`, `terminated`, `stopping`, `stopped`.
    pub state: String,
    pub vpc: Option<VpcId>,
    /// Every attached interface, the primary one first.
    pub interfaces: Vec<Interface>,
    /// Attached EBS volumes; instance store has no id and is not here.
    pub volumes: BTreeMap<VolumeId, Volume>,
    pub tags: BTreeMap<String, String>,
    /// Whether its metadata service is to answer.
    pub has_metadata_service: bool,
    /// EC2 has accepted a change of that, and has not applied it yet.
    pub is_metadata_pending: bool,
    /// EC2's own word for what was bought: `spot`, `capacity-block`, … Nothing for On-Demand.
    pub lifecycle: Option<String>,
}

/// What AWS has scheduled for an instance, and has not done yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduledEvent {
    /// EC2's own word: `instance-retirement`, `instance-stop`, `instance-reboot`, `system-reboot` or `system-maintenance`.
    pub code: String,
    pub not_before: Option<Time>,
}

impl Instance {
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == "terminated"
    }

    /// The devices of those attached volumes that are meant.
    #[must_use]
    pub fn devices(&self, is_meant: impl Fn(&VolumeId, &Volume) -> bool) -> BTreeMap<VolumeId, String> {
        let meant = self.volumes.iter().filter(|(id, volume)| is_meant(id, volume));
        meant.map(|(id, volume)| (id.clone(), volume.device.clone())).collect()
    }
}

/// What EC2 shows of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub id: InterfaceId,
    pub groups: Groups,
    /// Read by `DescribeNetworkInterfaces` only; `DescribeInstances` does not show them.
    pub tags: BTreeMap<String, String>,
    /// It carries branch interfaces, which have groups of their own and are attached to no instance.
    pub is_trunk: bool,
    pub vpc: Option<VpcId>,
    /// What it is attached to.
    pub instance: Option<InstanceId>,
}

/// A branch of a trunk interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub id: InterfaceId,
    pub trunk: InterfaceId,
    pub groups: Groups,
}

/// What a group of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Isolation,
    Transit,
    Forensic,
}

impl Role {
    /// By the names that our templates give these groups.
    #[must_use]
    pub fn of_resource(logical_id: &str) -> Option<Self> {
        match logical_id {
            "IsolatedSecurityGroup" => Some(Self::Isolation),
            "TransitSecurityGroup" => Some(Self::Transit),
            "ForensicSecurityGroup" => Some(Self::Forensic),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Isolation => "isolation",
            Self::Transit => "transit",
            Self::Forensic => "forensic",
        }
    }
}

/// What EC2 shows of a security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    pub vpc: Option<VpcId>,
    pub role: Option<Role>,
    /// The stack that CloudFormation's own tag names.
    pub stack_id: Option<String>,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
}

impl Group {
    /// Whether it isolates or cuts for the stack of this owner, by CloudFormation's own tag.
    #[must_use]
    pub fn isolates_for(&self, owner: &Owner) -> bool {
        matches!(self.role, Some(Role::Isolation | Role::Transit)) && self.stack_id.as_ref() == Some(&owner.stack_id)
    }
}

/// One rule for one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub protocol: String,
    /// Absent where the protocol has no ports or all are meant.
    pub ports: Option<(i32, i32)>,
    pub peer: Peer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Cidr(String),
    Group(GroupId),
    /// A prefix list, or a group whose id could not be read.
    Other(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == "-1" { "all protocols" } else { &self.protocol };
        f.write_str(protocol)?;
        match self.ports {
            Some((from, to)) if from == to => write!(f, " {from}")?,
            Some((from, to)) => write!(f, " {from}-{to}")?,
            None => {}
        }
        match &self.peer {
            Peer::Cidr(peer) | Peer::Other(peer) => write!(f, " {peer}"),
            Peer::Group(group) => write!(f, " {group}"),
        }
    }
}

/// What keeps a snapshot from being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// EC2's own word: `governance`, `compliance` or `compliance-cooloff`.
    pub mode: String,
    /// How long it lasts from the snapshot's completion on. `None` if it was given an end instead.
    pub days: Option<u64>,
    /// Its end, once that is known: the days of a pending snapshot's lock have not begun.
    pub until: Option<Time>,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mode)?;
        match (self.until, self.days) {
            (Some(until), _) => write!(f, " until {until}"),
            (None, Some(1)) => f.write_str(" for 1 day after completion"),
            (None, Some(days)) => write!(f, " for {days} days after completion"),
            (None, None) => Ok(()),
        }
    }
}

/// A snapshot found by its episode tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub volume: VolumeId,
    pub episode: String,
    /// State `error`: it will never be usable.
    pub failed: bool,
    /// A tag of its own says of which volume it is.
    pub labelled: bool,
}
