//! What can be done: one remote change each, as data with a voice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::protections::Change;
use crate::model::{
    CallError, Fault, GroupId, Groups, InstanceId, Interface, InterfaceId, Owner, Protection, ShowGroups, SnapshotId,
    State, Time, VolumeId, VpcId, comma_list,
};

/// One remote change. Doing it twice changes nothing more than doing it once, except where said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Saves the groups of interfaces before they are first changed, and takes the lease under which they may be. Never
    /// overwrites a recorded original.
    Record(Originals),
    /// Replaces the groups of one interface.
    SetGroups { instance: InstanceId, interface: InterfaceId, from: Groups, to: Groups, aim: Aim },
    /// Takes an interface through the transit group, where it stays a while, into the isolation group. **It leaves the
    /// transit group whatever fails**; if the isolation group is refused to the end, to its originals. Not twice.
    Pass {
        instance: InstanceId,
        interface: InterfaceId,
        from: Groups,
        through: GroupId,
        hold_seconds: u64,
        to: GroupId,
        originals: Groups,
    },
    /// Tags for people; they never decide.
    Tag { instance: InstanceId, resource: String, tags: Arc<BTreeMap<String, String>> },
    /// Takes tags of ours off.
    Untag { instance: InstanceId, resource: String, keys: BTreeSet<String> },
    /// Writes the state of a record; refused if it is no longer `from`: what was seen in that state need not hold in another.
    Mark {
        instance: InstanceId,
        /// Whose record it is.
        owner: Owner,
        from: State,
        state: State,
        /// Why it is kept, or what is to be remembered of a restore.
        reason: Option<String>,
        /// What to say of the connections; `None` if that does not change.
        cut: Option<Cut>,
        /// Interfaces are still to be changed: whoever has the lease goes on with it.
        keeps_lease: bool,
    },
    /// Says in the record that snapshots are about to be asked for.
    RequestSnapshots {
        instance: InstanceId,
        /// Those that the record holds.
        taken: BTreeMap<VolumeId, SnapshotId>,
    },
    /// One crash-consistent set of these volumes. Twice makes two sets: the plan looks for the first one by tag.
    TakeSnapshots {
        instance: InstanceId,
        volumes: BTreeMap<VolumeId, String>,
        /// Volumes of the instance that have a snapshot already.
        without: BTreeMap<VolumeId, String>,
        tags: Arc<BTreeMap<String, String>>,
    },
    /// Saves snapshots that are there and not in the record.
    SaveSnapshots { instance: InstanceId, snapshots: BTreeMap<VolumeId, SnapshotId> },
    /// Locks a snapshot in governance mode. It is not unlocked by us.
    LockSnapshot { instance: InstanceId, snapshot: SnapshotId, days: u64 },
    /// Saves what the instance has before it is protected; never overwrites what is recorded.
    SaveProtection { instance: InstanceId, prior: Protection },
    /// Changes what protects the instance, or puts it back.
    Protect { instance: InstanceId, change: Change, aim: Aim },
}

/// The originals of one instance, to be saved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Originals {
    pub instance: InstanceId,
    pub vpc: VpcId,
    pub isolation_group: GroupId,
    /// Where interfaces of it pass next.
    pub transit_group: Option<GroupId>,
    /// The lease that the record was seen with. **Where something passes, another one since means that another invocation is at it.**
    pub leased_until: Option<Time>,
    pub interfaces: BTreeMap<InterfaceId, Groups>,
    /// Those that have left isolation since they passed the transit group.
    pub reopened: BTreeSet<InterfaceId>,
    pub prior: Prior,
    /// How long an interface stays in the transit group.
    pub hold_seconds: u64,
}

impl Originals {
    /// Every group of ours that an interface may be found in.
    #[must_use]
    pub fn groups(&self) -> Groups {
        [&self.isolation_group].into_iter().chain(&self.transit_group).cloned().collect()
    }
}

/// What the record of an instance was when a [`Step::Record`] was planned; the write is refused if it no longer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Prior {
    /// None, or one that is only history.
    None,
    /// Ours: interfaces are added to it.
    Ours,
    /// Another resource of the same stack held it: it changes hands.
    Of(Owner),
    /// An item that cannot be read: it is set aside, whole, under a key of its own.
    Unreadable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aim {
    Isolate,
    Restore,
    /// What is seen is as it should be, but an earlier run may have changed it, unseen as yet (EC2's reads trail its
    /// writes): it is written once more, which changes nothing if the reading was right.
    Confirm,
}

/// Which connections of an instance are cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Those of the whole instance.
    pub whole: bool,
    /// Interfaces that passed the transit group, or had no connections.
    pub interfaces: BTreeSet<InterfaceId>,
}

impl Step {
    /// From the groups that were seen.
    pub(super) fn set_groups(instance: InstanceId, interface: &Interface, to: &Groups, aim: Aim) -> Self {
        let (interface, from) = (interface.id.clone(), interface.groups.clone());
        Self::SetGroups { instance, interface, from, to: to.clone(), aim }
    }

    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        match self {
            Self::Record(Originals { instance, .. })
            | Self::SetGroups { instance, .. }
            | Self::Pass { instance, .. }
            | Self::Tag { instance, .. }
            | Self::Untag { instance, .. }
            | Self::Mark { instance, .. }
            | Self::RequestSnapshots { instance, .. }
            | Self::TakeSnapshots { instance, .. }
            | Self::SaveSnapshots { instance, .. }
            | Self::LockSnapshot { instance, .. }
            | Self::SaveProtection { instance, .. }
            | Self::Protect { instance, .. } => instance,
        }
    }

    /// The step without what was seen before it: equal for steps that write the same.
    #[must_use]
    pub fn key(&self) -> Self {
        let mut key = self.clone();
        match &mut key {
            Self::SetGroups { from, aim, .. } => (*from, *aim) = (Groups::new(), Aim::Confirm),
            Self::Pass { from, .. } => *from = Groups::new(),
            Self::Record(originals) => originals.leased_until = None,
            Self::Protect { change, aim, .. } => {
                *aim = Aim::Confirm;
                // One that is attached again is another association of the same profile.
                if let Change::DetachProfile(profile) = change {
                    profile.association.clear();
                }
            }
            _ => {}
        }
        key
    }

    /// Whether it isolates an interface that is outside of isolation.
    #[must_use]
    pub(crate) fn isolates(&self) -> bool {
        match self {
            Self::SetGroups { aim, .. } => *aim != Aim::Restore,
            Self::Pass { from, to, .. } => *from != Groups::from([to.clone()]),
            _ => false,
        }
    }

    /// Whether it may be repeated if what it has done is not seen.
    #[must_use]
    pub(super) fn may_be_repeated(&self) -> bool {
        !matches!(self, Self::Pass { .. } | Self::TakeSnapshots { .. } | Self::RequestSnapshots { .. })
    }

    /// The call that shows whether it was carried out.
    #[must_use]
    pub(super) fn seen_by(&self) -> &'static str {
        match self {
            Self::SetGroups { .. } | Self::Pass { .. } | Self::Tag { .. } | Self::Untag { .. } => {
                "ec2:DescribeNetworkInterfaces"
            }
            Self::TakeSnapshots { .. } => "ec2:DescribeSnapshots",
            Self::LockSnapshot { .. } => "ec2:DescribeLockedSnapshots",
            Self::Protect { change, .. } => change.seen_by(),
            _ => "dynamodb:BatchGetItem",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(Originals { instance, interfaces, prior, .. }) => {
                write!(f, "{instance}: record")?;
                for (interface, groups) in interfaces {
                    write!(f, " {interface} {}", ShowGroups(groups))?;
                }
                match prior {
                    Prior::None => Ok(()),
                    Prior::Ours if interfaces.is_empty() => f.write_str(" as isolating"),
                    Prior::Ours => f.write_str(" (added)"),
                    Prior::Of(owner) => write!(f, " (taken over from {})", owner.logical_id),
                    Prior::Unreadable => f.write_str(" (in place of an item that cannot be read)"),
                }
            }
            Self::SetGroups { instance, interface, from, to, aim } => {
                let verb = match aim {
                    Aim::Isolate => "isolate",
                    Aim::Restore => "restore",
                    Aim::Confirm => "confirm",
                };
                write!(f, "{instance}: {verb} {interface} {} -> {}", ShowGroups(from), ShowGroups(to))
            }
            Self::Pass { instance, interface, through, hold_seconds, to, .. } => {
                write!(f, "{instance}: isolate {interface} by way of {through} for {hold_seconds} s -> [{to}]")
            }
            Self::Tag { resource, tags, .. } => write!(f, "tag {resource} with {}", comma_list(tags.keys())),
            Self::Untag { resource, keys, .. } => write!(f, "untag {resource} of {}", comma_list(keys)),
            Self::Mark { instance, state, .. } => write!(f, "{instance}: mark {}", state.as_str()),
            Self::RequestSnapshots { instance, .. } => write!(f, "{instance}: mark snapshots requested"),
            Self::TakeSnapshots { instance, volumes, .. } => {
                write!(f, "{instance}: snapshot {}", comma_list(volumes.keys()))
            }
            Self::SaveSnapshots { instance, snapshots } => {
                write!(f, "{instance}: save snapshots {}", comma_list(snapshots.values()))
            }
            Self::LockSnapshot { instance, snapshot, days } => {
                write!(f, "{instance}: lock {snapshot} for {days} {}", if *days == 1 { "day" } else { "days" })
            }
            Self::SaveProtection { instance, prior } => write!(f, "{instance}: save {prior}"),
            Self::Protect { instance, change, aim } => change.describe(f, instance, *aim),
        }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("another request kept changing this record; wait until it has ended")]
    Lost,
    /// The lease of the record is over, or the intent has to be read again: the step is to be planned again.
    #[error("the right to change this interface is over")]
    LeaseOver,
    #[error("a later request wants something else")]
    Overtaken,
    #[error(
        "{seen_by} failed: NotVisible: EC2 accepted the change but 30 s later still shows the old state: {shown}; find out who \
         changes it (CloudTrail)"
    )]
    NotSeen { seen_by: &'static str, shown: String },
    /// The worst that can happen.
    #[error("{} failed: InTransit: {danger} ({cause})", cause.action)]
    InTransit { danger: String, cause: CallError },
}

impl StepError {
    /// How the call failed, if a call did.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Call(error) | Self::InTransit { cause: error, .. } => Some(error.fault),
            _ => None,
        }
    }

    /// AWS said no, and will again.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Call(error) if error.fault == Fault::Refused)
    }

    /// AWS said that something is not there, which is not believed yet.
    pub(super) fn is_unseen(&self) -> bool {
        matches!(self, Self::Call(error) if error.fault == Fault::Unseen)
    }
}

#[cfg(test)]
mod tests;
