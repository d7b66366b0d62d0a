//! Readings that are not believed at once.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::DOUBTED;
use crate::model::{GroupId, InterfaceId, SnapshotId, VolumeId};
use crate::plan::Problem;

/// Another delivery asked for the snapshots, and may have died before; Lambda then delivers again after a minute.
const AWAITED: Duration = Duration::from_secs(15);
/// EC2 or Auto Scaling are at work.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// A reading by which a duty would end or be refused, or that waits for another request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The record of an instance that is held is not there.
    Record,
    /// A group of ours is not there.
    Group(GroupId),
    /// A group of ours does not have the rules that it should have.
    Rules(GroupId),
    /// The instance is not there.
    Instance,
    /// The instance has no interface.
    Interfaces,
    /// An interface is not there.
    Interface(InterfaceId),
    /// The instance has these interfaces, volumes and branches. It may have more.
    Parts(BTreeSet<InterfaceId>, BTreeSet<VolumeId>, BTreeSet<InterfaceId>),
    /// A recorded volume is not attached.
    Volume(VolumeId),
    /// An interface is as it should be, and this invocation has not written it.
    AsWanted(InterfaceId),
    /// A group that an interface had is not there.
    Original(GroupId),
    /// A recorded snapshot is not there.
    Snapshot(SnapshotId),
    /// Another stack has an instance that this one was isolating, too: it may be about to give it up.
    Holder,
    /// The instance is in no Auto Scaling group, or in none any more.
    Member,
    /// The instance has no profile.
    Profile,
    /// Another delivery of the request asked for snapshots that are not to be seen yet.
    SnapshotsAwaited,
    /// EC2 or Auto Scaling are at it: the problem may be gone a little later.
    UnderWay(Problem),
    /// Another invocation may still change the interfaces.
    Rival,
}

impl Doubt {
    pub(super) fn limit(&self) -> Duration {
        match self {
            Self::SnapshotsAwaited => AWAITED,
            Self::UnderWay(_) => UNDER_WAY,
            // It ends with the lease.
            Self::Rival => Duration::MAX,
            _ => DOUBTED,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) | Self::Original(group) => write!(f, "{group} is not shown"),
            Self::Rules(group) => write!(f, "{group} shows other rules"),
            Self::Record => f.write_str("no record is shown"),
            Self::Instance => f.write_str("the instance is not shown"),
            Self::Interfaces => f.write_str("no interface is shown"),
            Self::Interface(interface) => write!(f, "{interface} is not shown"),
            Self::Parts(..) => f.write_str("it may have more than is shown"),
            Self::Volume(volume) => write!(f, "{volume} is not shown"),
            Self::AsWanted(interface) => write!(f, "{interface} shows what it should"),
            Self::Snapshot(snapshot) => write!(f, "{snapshot} is not shown"),
            Self::Holder => f.write_str("another stack isolates it, too"),
            Self::Member => f.write_str("no Auto Scaling group shows the instance"),
            Self::Profile => f.write_str("no instance profile is shown"),
            Self::SnapshotsAwaited => f.write_str("snapshots of another delivery are not shown yet"),
            Self::UnderWay(problem) => write!(f, "under way: {problem}"),
            Self::Rival => f.write_str("another invocation may still be at work"),
        }
    }
}
