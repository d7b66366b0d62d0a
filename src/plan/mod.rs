//! The decisions: from what is wanted, what was observed and what is recorded, to a [`Plan`].
//!
//! Pure and synchronous; no SDK, no clock. **An empty plan over what was read back is the verification**: there is no
//! other checking code. A plan is data with a voice: it is logged before anything is done, and its text is what tests compare.

mod adopt;
mod contain;
mod ending;
mod guard;
mod hindrance;
mod keep;
mod measures;
mod preserve;
mod protect;
mod rehearsal;
mod restore;
mod rules;
mod standby;
#[cfg(test)]
mod testing;
mod unprotect;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{
    Attributes, Group, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Member, Owner, Profile, Record,
    Role, ShowGroups, Snapshot, SnapshotId, State, VolumeId, VpcId, comma_list, restore_command,
};

pub use adopt::{Adoption, Heir, Legacy, Obstacle, adopt};
pub use contain::{Contained, Memory, contain};
pub use ending::{Ending, StackResource, StackView, ending};
pub use guard::{StackStatus, Verdict, may_release, may_restore};
pub use hindrance::Hindrance;
pub use keep::keep;
pub use measures::Measure;
pub use preserve::preserve;
pub use protect::protect;
pub use rehearsal::carried_out;
pub use restore::{Tried, in_place, restore};
pub use unprotect::Attempts;

/// What a pass read. Only what was asked for is here; absent means not there (or not asked for).
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Read one by one, with their tags; interfaces inside `instances` carry none.
    pub interfaces: BTreeMap<InterfaceId, Interface>,
    pub groups: BTreeMap<GroupId, Group>,
    pub snapshots: Vec<Snapshot>,
    /// Of those that were read; nothing where EC2 no longer knows the instance.
    pub attributes: BTreeMap<InstanceId, Option<Attributes>>,
    /// Those of the instances that are in an Auto Scaling group. Nothing where that could not be read.
    pub members: Option<BTreeMap<InstanceId, Member>>,
    /// Those of the instances that have one. Nothing where that could not be read.
    pub profiles: Option<BTreeMap<InstanceId, Profile>>,
}

/// The records read with an observation.
pub type Records = BTreeMap<InstanceId, Record>;

/// What is to be done, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub work: Vec<Work>,
    pub problems: Vec<Problem>,
}

/// The smallest piece that is carried out on its own: where `first` fails, `then` is left alone. The steps of `then`
/// do not depend on each other, and pieces do not depend on each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub first: Option<Step>,
    pub then: Vec<Step>,
}

impl Work {
    fn only(step: Step) -> Self {
        Self { first: None, then: vec![step] }
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.first.iter().chain(&self.then)
    }
}

/// One remote change. Doing it twice changes nothing more than doing it once, except where said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Saves the groups of interfaces before they are first changed; never overwrites a recorded original.
    Record {
        instance: InstanceId,
        vpc: VpcId,
        isolation_group: GroupId,
        transit_group: Option<GroupId>,
        interfaces: BTreeMap<InterfaceId, Groups>,
        prior: Prior,
    },
    /// Replaces the groups of one interface.
    SetGroups {
        instance: InstanceId,
        interface: InterfaceId,
        from: Groups,
        to: Groups,
        aim: Aim,
    },
    /// Takes an interface through the transit group, where it stays a while, into the isolation group. **It leaves the
    /// transit group whatever fails**; where the isolation group is refused to the end, to its originals.
    Pass {
        instance: InstanceId,
        interface: InterfaceId,
        through: GroupId,
        hold_seconds: u64,
        to: GroupId,
        originals: Groups,
    },
    /// Tags for people; they never decide.
    Tag {
        resources: BTreeSet<String>,
        tags: BTreeMap<String, String>,
    },
    Untag {
        resources: BTreeSet<String>,
        keys: BTreeSet<String>,
    },
    /// Writes the state of a record; refused if it is no longer `from`: what was seen in that state need not hold in another.
    Mark {
        instance: InstanceId,
        from: State,
        state: State,
        /// Why it is kept, or what is to be remembered of a restore.
        reason: Option<String>,
        /// What to say of the connections; nothing where that does not change.
        cut: Option<bool>,
    },
    /// Says in the record that snapshots are about to be asked for.
    RequestSnapshots {
        instance: InstanceId,
    },
    /// One crash-consistent set of all volumes. Twice makes two sets: [`preserve`] looks for the first one by tag.
    TakeSnapshots {
        instance: InstanceId,
        volumes: BTreeMap<VolumeId, String>,
        tags: BTreeMap<String, String>,
    },
    SaveSnapshots {
        instance: InstanceId,
        snapshots: BTreeMap<VolumeId, SnapshotId>,
    },
    Measure(Measure),
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aim {
    Isolate,
    Restore,
    /// The interface shows what it should, but whether an earlier run changed it, unseen as yet, is not known (EC2's
    /// reads trail its writes): it is written once more, which changes nothing where the reading was right.
    Confirm,
}

impl Step {
    /// The instance it is for, where there is exactly one.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceId> {
        match self {
            Self::Record { instance, .. }
            | Self::SetGroups { instance, .. }
            | Self::Pass { instance, .. }
            | Self::Mark { instance, .. }
            | Self::RequestSnapshots { instance }
            | Self::TakeSnapshots { instance, .. }
            | Self::SaveSnapshots { instance, .. } => Some(instance),
            Self::Measure(measure) => measure.instance(),
            Self::Tag { .. } | Self::Untag { .. } => None,
        }
    }

    /// The instances whose records or resources it changes.
    #[must_use]
    pub fn instances(&self) -> BTreeSet<InstanceId> {
        match self {
            Self::Measure(measure) => measure.instances(),
            step => step.instance().cloned().into_iter().collect(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { instance, interfaces, prior, .. } => {
                write!(f, "{instance}: record")?;
                for (interface, groups) in interfaces {
                    write!(f, " {interface} {}", ShowGroups(groups))?;
                }
                match prior {
                    Prior::None => Ok(()),
                    Prior::Ours if interfaces.is_empty() => f.write_str(" as isolating"),
                    Prior::Ours => f.write_str(" (added)"),
                    Prior::Of(owner) => write!(f, " (taken over from {})", owner.logical_id),
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
            Self::Tag { resources, tags } => {
                write!(f, "tag {} with {}", comma_list(resources), comma_list(tags.keys()))
            }
            Self::Untag { resources, keys } => write!(f, "untag {} of {}", comma_list(resources), comma_list(keys)),
            Self::Mark { instance, state, .. } => write!(f, "{instance}: mark {}", state.as_str()),
            Self::RequestSnapshots { instance } => write!(f, "{instance}: mark snapshots requested"),
            Self::TakeSnapshots { instance, volumes, .. } => {
                write!(f, "{instance}: snapshot {}", comma_list(volumes.keys()))
            }
            Self::SaveSnapshots { instance, snapshots } => {
                write!(f, "{instance}: save snapshots {}", comma_list(snapshots.values()))
            }
            Self::Measure(measure) => measure.fmt(f),
        }
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
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.steps() {
            writeln!(f, "{step}")?;
        }
        for problem in &self.problems {
            writeln!(f, "! {problem}")?;
        }
        Ok(())
    }
}

/// What stands in the way, or is worth saying. The text names the thing, the reason and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    Unreadable {
        item: String,
        reason: String,
    },
    GroupMissing {
        group: GroupId,
    },
    GroupElsewhere {
        group: GroupId,
        vpc: String,
        wanted: VpcId,
    },
    /// The isolation group lets more through than it may.
    TooWide {
        group: GroupId,
        direction: &'static str,
        rule: String,
    },
    /// Cutting connections is asked for, and no group is named for it.
    NoTransit,
    /// The transit group is not what it must be: nobody goes through it.
    TransitUnfit {
        group: GroupId,
        reason: String,
    },
    /// A branch of a trunk interface, with groups of its own, which are not changed: a container on the host may use it.
    BranchOpen {
        instance: InstanceId,
        interface: InterfaceId,
        trunk: InterfaceId,
        groups: Groups,
        isolation_group: GroupId,
    },
    BranchesUnknown {
        trunks: BTreeSet<InterfaceId>,
        reason: String,
    },
    /// Isolated, but its connections may live on.
    NotCut {
        instance: InstanceId,
        interface: InterfaceId,
        reason: String,
    },
    Unknown {
        instance: InstanceId,
    },
    Terminated {
        instance: InstanceId,
    },
    NoInterface {
        instance: InstanceId,
        state: String,
    },
    OtherVpc {
        instance: InstanceId,
        vpc: String,
        wanted: VpcId,
    },
    HeldByOther {
        instance: InstanceId,
        holder: String,
    },
    /// It shows a group that does not exist: what it shows may be older than what it has.
    OriginalDoubtful {
        instance: InstanceId,
        interface: InterfaceId,
        groups: Groups,
    },
    OriginalUnknown {
        instance: InstanceId,
        interface: InterfaceId,
        group: GroupId,
    },
    OriginalsGone {
        instance: InstanceId,
        interface: InterfaceId,
        groups: Groups,
    },
    OriginalDropped {
        instance: InstanceId,
        interface: InterfaceId,
        groups: Groups,
    },
    Moved {
        instance: InstanceId,
        interface: InterfaceId,
        groups: Groups,
    },
    /// Another stack isolates it by now.
    ProtectionLeft {
        instance: InstanceId,
        holder: String,
    },
    NoVolumes {
        instance: InstanceId,
    },
    /// Another delivery of the request asked for its snapshots, and they are not to be seen yet.
    SnapshotsAwaited {
        instance: InstanceId,
    },
    Hindrance(Hindrance),
}

/// How a problem bears on the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// FAILED.
    Fatal,
    /// FAILED, unless the request allows partial isolation.
    NotIsolated,
    /// Only mentioned.
    Note,
}

impl Problem {
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unreadable { .. }
            | Self::GroupMissing { .. }
            | Self::GroupElsewhere { .. }
            | Self::TooWide { .. }
            | Self::TransitUnfit { .. }
            | Self::BranchesUnknown { .. }
            | Self::NotCut { .. }
            | Self::OriginalDoubtful { .. }
            | Self::OriginalUnknown { .. }
            | Self::OriginalsGone { .. } => Severity::Fatal,
            Self::Unknown { .. }
            | Self::Terminated { .. }
            | Self::NoInterface { .. }
            | Self::OtherVpc { .. }
            | Self::BranchOpen { .. }
            | Self::HeldByOther { .. } => Severity::NotIsolated,
            Self::NoTransit
            | Self::OriginalDropped { .. }
            | Self::Moved { .. }
            | Self::ProtectionLeft { .. }
            | Self::NoVolumes { .. }
            | Self::SnapshotsAwaited { .. } => Severity::Note,
            Self::Hindrance(hindrance) => hindrance.severity(),
        }
    }

    /// Why it may be gone a little later, where it may.
    #[must_use]
    pub fn passes(&self) -> Option<Passes> {
        match self {
            Self::OriginalDoubtful { .. }
            | Self::OriginalUnknown { .. }
            | Self::HeldByOther { .. }
            | Self::Unknown { .. } => Some(Passes::AsStaleRead),
            Self::SnapshotsAwaited { .. } => Some(Passes::WithOtherRequest),
            Self::Hindrance(hindrance) if hindrance.is_under_way() => Some(Passes::ByItself),
            _ => None,
        }
    }
}

/// Why a problem may be gone a little later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// EC2's reads trail its writes by seconds.
    AsStaleRead,
    /// Another request, which may have died meanwhile, is at it.
    WithOtherRequest,
    /// EC2 or Auto Scaling are at it.
    ByItself,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { item, reason } => {
                write!(f, "item {item} of the records table cannot be read: {reason}; mend it in the DynamoDB console")
            }
            Self::GroupMissing { group } => {
                write!(
                    f,
                    "isolation group {group} does not exist: nothing was changed; put the stack right (it makes this group)"
                )
            }
            Self::GroupElsewhere { group, vpc, wanted } => {
                write!(f, "isolation group {group} is in {vpc}, not in {wanted}: nothing was changed; correct VpcId")
            }
            Self::TooWide { group, direction, rule } => write!(
                f,
                "isolation group {group} allows {direction} {rule}: hosts in it are not cut off; remove that rule"
            ),
            Self::NoTransit => f.write_str("established connections were not cut: TransitSecurityGroupId is empty"),
            Self::TransitUnfit { group, reason } => {
                write!(f, "established connections are not cut: transit group {group} {reason}; put its rules right")
            }
            Self::BranchOpen { instance, interface, trunk, groups, isolation_group } => write!(
                f,
                "{instance}: {interface}, a branch of its trunk {trunk}, is in {}: branches are not isolated for you; write its groups down, then run {}",
                ShowGroups(groups),
                restore_command(interface, &Groups::from([isolation_group.clone()]))
            ),
            Self::BranchesUnknown { trunks, reason } => {
                write!(
                    f,
                    "whether trunk {} has branches, which are not isolated, is not known: {reason}",
                    comma_list(trunks)
                )
            }
            Self::NotCut { instance, interface, reason } => {
                write!(f, "{instance}: {interface} is isolated, but connections that were open may live on: {reason}")
            }
            Self::Unknown { instance } => write!(
                f,
                "{instance} does not exist in this account and region: check the id, or take it off CompromisedInstanceList"
            ),
            Self::Terminated { instance } => {
                write!(f, "{instance} is terminated: take it off CompromisedInstanceList")
            }
            Self::NoInterface { instance, state } => {
                write!(f, "{instance} ({state}) has no network interface: wait until it has one")
            }
            Self::OtherVpc { instance, vpc, wanted } => write!(
                f,
                "{instance} is in {vpc}, not in {wanted}: isolate it with a stack of its own, with VpcId {vpc}"
            ),
            Self::HeldByOther { instance, holder } => {
                write!(f, "{instance} is already held isolated by {holder}: delete that stack first, or leave it to it")
            }
            Self::OriginalDoubtful { instance, interface, groups } => write!(
                f,
                "{instance}: {interface} was recorded as it was shown, in {}, but no such group exists: before it is restored \
                 look up its true groups (CloudTrail, ModifyNetworkInterfaceAttribute)",
                ShowGroups(groups)
            ),
            Self::OriginalUnknown { instance, interface, group } => write!(
                f,
                "{instance}: {interface} is in {group} without a record of its original groups: it is isolated; give it its groups by hand"
            ),
            Self::OriginalsGone { instance, interface, groups } => write!(
                f,
                "{instance}: {interface} stays isolated, its original groups {} no longer exist: choose others: {}",
                ShowGroups(groups),
                restore_command(interface, &Groups::new()).trim_end().to_owned() + " <group ids>"
            ),
            Self::OriginalDropped { instance, interface, groups } => {
                write!(f, "{instance}: {interface} was restored without {}, which no longer exist", ShowGroups(groups))
            }
            Self::Moved { instance, interface, groups } => write!(
                f,
                "{instance}: {interface} was left alone: somebody moved it to {} meanwhile",
                ShowGroups(groups)
            ),
            Self::ProtectionLeft { instance, holder } => write!(
                f,
                "{instance}: what protects it was left on, {holder} isolates it by now; its record has what it had before"
            ),
            Self::NoVolumes { instance } => write!(f, "{instance} has no EBS volume to snapshot"),
            Self::SnapshotsAwaited { instance } => {
                write!(f, "{instance}: its snapshots were asked for, and are not to be seen yet")
            }
            Self::Hindrance(hindrance) => hindrance.fmt(f),
        }
    }
}

/// The groups that isolate on behalf of `owner`: the ones named, and those that CloudFormation tagged as its stack's.
fn own_groups<'a>(observed: &Observed, owner: &Owner, named: impl IntoIterator<Item = &'a GroupId>) -> Groups {
    let tagged =
        observed.groups.values().filter(|group| isolates(group) && group.stack_id.as_ref() == Some(&owner.stack_id));
    tagged.map(|group| group.id.clone()).chain(named.into_iter().cloned()).collect()
}

fn isolates(group: &Group) -> bool {
    matches!(group.role, Some(Role::Isolation | Role::Transit))
}

/// Tags that say so in the console; `ec2-isolation:` keys are the only ones the function may write.
pub(crate) mod tag {
    pub(crate) const STACK: &str = "ec2-isolation:stack";
    pub(crate) const PURPOSE: &str = "ec2-isolation:purpose";
    pub(crate) const TIME: &str = "ec2-isolation:time";
    /// The way out, where a responder looks who finds the instance and not the stack.
    pub(crate) const RESTORE: &str = "ec2-isolation:restore";
    pub(crate) const INSTANCE: &str = "ec2-isolation:instance";
    pub(crate) const OWNER: &str = "ec2-isolation:owner";
    pub(crate) const EPISODE: &str = "ec2-isolation:episode";
    pub(crate) const VOLUME: &str = "ec2-isolation:volume";
    pub(crate) const DEVICE: &str = "ec2-isolation:device";
    /// Followed by a number: EC2 allows 256 characters in a value, sixteen ids need more.
    pub(crate) const ORIGINAL_GROUPS: &str = "ec2-isolation:original-groups";
}
