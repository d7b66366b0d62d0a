//! What stands in the way, or is worth saying: every text of a problem. Each names the thing, the reason and what to do.

use std::collections::BTreeSet;
use std::fmt;

use super::endings::Ending;
use crate::model::{
    GroupId, Groups, InstanceId, InterfaceId, Owner, ShowGroups, SnapshotId, VolumeId, VpcId, comma_list,
    exit_standby_command, restore_command,
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    #[error(
        "{instance}: {interface} may be in {through}, which is open to everybody: run {}",
        isolate_by_hand(.interface, .isolation_group)
    )]
    InTransit { instance: InstanceId, interface: InterfaceId, through: GroupId, isolation_group: GroupId },
    #[error("item {item} of the records table cannot be read: {reason}; mend it in the DynamoDB console")]
    Unreadable { item: String, reason: String },
    #[error("isolation group {group} does not exist: put the stack right (it makes this group)")]
    GroupMissing { group: GroupId },
    #[error("isolation group {group} is in {vpc}, not in {wanted}: nothing was changed; correct VpcId")]
    GroupElsewhere { group: GroupId, vpc: String, wanted: VpcId },
    #[error("isolation group {group} allows {direction} {rule}: instances in it are not isolated; remove that rule")]
    TooWide { group: GroupId, direction: &'static str, rule: String },
    #[error("established connections were not cut: TransitSecurityGroupId is empty")]
    NoTransit,
    /// The transit group is not what it must be: no interface goes through it.
    #[error("established connections are not cut: transit group {group} {reason}; put its rules right")]
    TransitUnfit { group: GroupId, reason: String },
    /// A branch of a trunk interface, with groups of its own, which are not changed: a container on the host may use it.
    #[error(
        "{instance}: {interface}, a branch of its trunk {trunk}, is in {}: branches are not isolated for you; write its groups down, then run {}",
        ShowGroups(.groups), isolate_by_hand(.interface, .isolation_group)
    )]
    BranchOpen {
        instance: InstanceId,
        interface: InterfaceId,
        trunk: InterfaceId,
        groups: Groups,
        isolation_group: GroupId,
    },
    #[error("{instance}: {interface} is isolated, but connections that were open may live on: {reason}")]
    NotCut { instance: InstanceId, interface: InterfaceId, reason: String },
    /// It passes once in a request: the next one takes it through again.
    #[error(
        "{instance}: {interface} was opened during or after its passage, and is isolated again: what connected meanwhile may live on; \
         deploy again with a new Rerun"
    )]
    Undone { instance: InstanceId, interface: InterfaceId },
    #[error(
        "{instance}: its interfaces, branches or volumes keep changing: find out who changes them (CloudTrail), then deploy again \
         with a new Rerun"
    )]
    KeepsChanging { instance: InstanceId },
    #[error(
        "{instance} does not exist in this account and region: check the id, or take it off CompromisedInstanceList"
    )]
    Unknown { instance: InstanceId },
    /// It is gone, and its snapshots are there.
    #[error("{instance} is terminated: take it off CompromisedInstanceList")]
    Terminated { instance: InstanceId },
    /// It is recorded, and there is no snapshot of it.
    #[error(
        "{instance} was terminated before its snapshots: look for volumes that outlived it, then take it off CompromisedInstanceList"
    )]
    TerminatedUnsaved { instance: InstanceId },
    #[error("{instance} ({state}) has no network interface: wait until it has one")]
    NoInterface { instance: InstanceId, state: String },
    /// None of its interfaces is in the right VPC.
    #[error("{instance} is in {vpc}, not in {wanted}: isolate it with a stack of its own, with VpcId {vpc}")]
    OtherVpc { instance: InstanceId, vpc: String, wanted: VpcId },
    /// One interface of an instance whose others are in the right VPC.
    #[error(
        "{instance}: {interface} is in {vpc}, not in {wanted}: give it a group of {vpc} that allows nothing: {}",
        choose_groups(.interface)
    )]
    InterfaceElsewhere { instance: InstanceId, interface: InterfaceId, vpc: VpcId, wanted: VpcId },
    #[error(
        "{instance} is already isolated by {holder}: take it over with ec2-isolation adopt, or take it off CompromisedInstanceList"
    )]
    HeldByOther { instance: InstanceId, holder: String },
    /// Another stack has it in its records, and EC2 does not show that it isolates it.
    #[error(
        "{instance} is held by {holder}, but EC2 shows {} outside of its isolation: deploy that stack again with a new Rerun, \
         or take {instance} over with ec2-isolation adopt",
        comma_list(.interfaces)
    )]
    HeldOpen { instance: InstanceId, holder: String, interfaces: BTreeSet<InterfaceId> },
    /// One interface of an instance whose others are not.
    #[error(
        "{instance}: {interface} is already isolated by {holder}, and was left to that stack: allow that with AllowPartialIsolation"
    )]
    InterfaceHeldByOther { instance: InstanceId, interface: InterfaceId, holder: String },
    #[error(
        "{instance}: {interface} is in {group} without a record of its original groups: it is isolated; give it its groups by hand"
    )]
    OriginalUnknown { instance: InstanceId, interface: InterfaceId, group: GroupId },
    /// It shows other groups than those that were recorded, and was never seen isolated since.
    #[error(
        "{instance}: {interface} was in {} when it was isolated, but its record of an earlier try says {}, which a restore gives it: \
         correct the record if that is outdated",
        ShowGroups(.groups), ShowGroups(.recorded)
    )]
    OriginalsDiffer { instance: InstanceId, interface: InterfaceId, groups: Groups, recorded: Groups },
    #[error(
        "{interface} is in two records with different groups: {} in that of {instance}, which a restore gives it, {} in that of {other}",
        ShowGroups(.groups), ShowGroups(.others)
    )]
    RecordsDiffer { interface: InterfaceId, instance: InstanceId, groups: Groups, other: InstanceId, others: Groups },
    #[error(
        "{instance}: {interface} stays isolated, its original groups {} no longer exist: choose others: {}",
        ShowGroups(.groups), choose_groups(.interface)
    )]
    OriginalsGone { instance: InstanceId, interface: InterfaceId, groups: Groups },
    #[error("{instance}: {interface} was restored without {}, which no longer exist", ShowGroups(.groups))]
    OriginalDropped { instance: InstanceId, interface: InterfaceId, groups: Groups },
    #[error(
        "{instance}: {interface} stays isolated, it had no security group when it was recorded: choose one: {}",
        choose_groups(.interface)
    )]
    NoOriginals { instance: InstanceId, interface: InterfaceId },
    /// Of an instance that is kept.
    #[error("{instance}: {interface} is not isolated: it was left alone in {}", ShowGroups(.groups))]
    NotKept { instance: InstanceId, interface: InterfaceId, groups: Groups },
    /// Of an instance that is kept: terminated, or without an interface.
    #[error("{instance}: nothing of it is left to keep isolated: it is terminated, or its interfaces are gone")]
    NothingKept { instance: InstanceId },
    #[error("{instance}: {interface} was left alone: it was moved to {} meanwhile", ShowGroups(.groups))]
    Moved { instance: InstanceId, interface: InterfaceId, groups: Groups },
    /// Attached to an instance that stays isolated, whose record does not hold it.
    #[error(
        "{instance}: {interface} is attached to {other} by now, which stays isolated: restore {other} too, or detach it first"
    )]
    AttachedElsewhere { instance: InstanceId, interface: InterfaceId, other: InstanceId },
    /// It came from an instance that stays isolated, whose record holds it.
    #[error(
        "{instance}: {interface} stays isolated, {other} has it in its record: restore {other} to give it its groups back"
    )]
    RecordedElsewhere { instance: InstanceId, interface: InterfaceId, other: InstanceId },
    #[error("{instance}: what protects it was left on, {holder} isolates it by now; its record has what it had before")]
    ProtectionLeft { instance: InstanceId, holder: String },
    #[error("{instance} has no EBS volume to snapshot")]
    NoVolumes { instance: InstanceId },
    /// Another delivery asked for its snapshots, and they are not shown.
    #[error("{instance}: its snapshots were asked for, and are not to be seen yet")]
    SnapshotsAwaited { instance: InstanceId },
    #[error("{instance}: snapshot {snapshot} of {volume} {reason}, and is not counted: take another one")]
    SnapshotLost { instance: InstanceId, snapshot: SnapshotId, volume: VolumeId, reason: &'static str },
    /// A member of an Auto Scaling group that is not in Standby, in Auto Scaling's words.
    #[error(
        "{instance} is {state} in Auto Scaling group {group}, not in Standby: Auto Scaling may terminate it; \
         look at the group"
    )]
    NotInStandby { instance: InstanceId, group: String, state: String },
    #[error(
        "{instance} is in service of Auto Scaling group {group}, its record says {recorded}: it was not moved to \
         Standby; do so by hand: aws autoscaling enter-standby"
    )]
    OtherScalingGroup { instance: InstanceId, group: String, recorded: String },
    /// On a restore: on its way into Standby or out of it.
    #[error(
        "{instance} is {state} in Auto Scaling group {group}: it is not back in service; when it is in Standby: {}",
        exit_standby_command(.group, .instance)
    )]
    StillInStandby { instance: InstanceId, group: String, state: String },
    /// On a restore: its group does not take it back.
    #[error(
        "{instance} stays in Standby of Auto Scaling group {group} ({reason}): raise the group's maximum size, then: {}",
        exit_standby_command(.group, .instance)
    )]
    StaysInStandby { instance: InstanceId, group: String, reason: String },
    #[error(
        "{instance} was left without instance profile {arn}, which does not exist any more: if it is to have one, give it another one"
    )]
    ProfileGone { instance: InstanceId, arn: String },
    /// EC2 has accepted that it is turned off.
    #[error(
        "the metadata service of {instance} is still being turned off: until that has ended it gives credentials; \
         look again: aws ec2 describe-instances --instance-ids {instance} --query \
         'Reservations[].Instances[].MetadataOptions'"
    )]
    MetadataPending { instance: InstanceId },
    #[error("{instance} is no longer in Auto Scaling group {group}: it was not put back into service")]
    LeftScalingGroup { instance: InstanceId, group: String },
    #[error(
        "{instance} has instance profile {arn}, its record says {recorded}: it was not detached; do so by hand: \
         aws ec2 disassociate-iam-instance-profile --association-id {association}"
    )]
    OtherProfile { instance: InstanceId, association: String, arn: String, recorded: String },
    /// On a restore: it was given another one.
    #[error("{instance} was left with instance profile {arn}, which it was given meanwhile; before it had {recorded}")]
    ProfileReplaced { instance: InstanceId, arn: String, recorded: String },
    /// Something may end it although it is isolated.
    #[error(fmt = write_ending)]
    Ending { instance: InstanceId, ending: Ending },
    #[error("whether AWS has scheduled a stop, a reboot or a retirement is not known: {reason}")]
    EventsUnknown { reason: String },
    // Adoption:
    #[error("isolation group {group} of the new stack {reason}: deploy the new stack first")]
    GroupUnfit { group: GroupId, reason: String },
    #[error(
        "{instance} is still isolated by {stack}, which works: deploy that stack once more without {instance} in \
         CompromisedInstanceList (OnRemoval=KeepIsolated leaves it isolated), then adopt it"
    )]
    InCharge { instance: InstanceId, stack: String },
    #[error("{instance} is being restored by {stack}: wait until that has ended, then look at its status")]
    BeingRestored { instance: InstanceId, stack: String },
    #[error(
        "{instance} is recorded in {vpc}, the new stack is for {wanted}: adopt it with a stack that has VpcId={vpc}"
    )]
    AdoptedElsewhere { instance: InstanceId, vpc: String, wanted: String },
    #[error(
        "{instance} has another record in the new table already, held by {owner}, with other interfaces: \
         its originals are not mixed; restore one of the two first"
    )]
    RecordedTwice { instance: InstanceId, owner: Owner },
    #[error(
        "{instance}: {interface} is in {} without a record of its original groups: give it its groups by hand, then adopt {instance}",
        ShowGroups(.groups)
    )]
    Unrecorded { instance: InstanceId, interface: InterfaceId, groups: Groups },
    /// It came from an instance that is not to be adopted.
    #[error("{instance}: {interface} is in the record of {other}: adopt {other} with it")]
    HeldWith { instance: InstanceId, interface: InterfaceId, other: InstanceId },
}

/// How a problem bears on the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// FAILED, and said first.
    Open,
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
            Self::InTransit { .. } => Severity::Open,
            Self::Unreadable { .. }
            | Self::GroupMissing { .. }
            | Self::GroupElsewhere { .. }
            | Self::TooWide { .. }
            | Self::TransitUnfit { .. }
            | Self::NotCut { .. }
            | Self::OriginalUnknown { .. }
            | Self::OriginalsGone { .. }
            | Self::NoOriginals { .. }
            | Self::AttachedElsewhere { .. }
            | Self::StillInStandby { .. }
            | Self::GroupUnfit { .. }
            | Self::InCharge { .. }
            | Self::BeingRestored { .. }
            | Self::AdoptedElsewhere { .. }
            | Self::RecordedTwice { .. }
            | Self::Unrecorded { .. }
            | Self::HeldWith { .. } => Severity::Fatal,
            // Asked for, accepted, and not seen.
            Self::NotInStandby { state, .. } if state == "InService" => Severity::Fatal,
            Self::Unknown { .. }
            | Self::Terminated { .. }
            | Self::TerminatedUnsaved { .. }
            | Self::NoInterface { .. }
            | Self::OtherVpc { .. }
            | Self::InterfaceElsewhere { .. }
            | Self::BranchOpen { .. }
            | Self::HeldByOther { .. }
            | Self::HeldOpen { .. }
            | Self::InterfaceHeldByOther { .. } => Severity::NotIsolated,
            Self::NoTransit
            | Self::Undone { .. }
            | Self::KeepsChanging { .. }
            | Self::OriginalsDiffer { .. }
            | Self::RecordsDiffer { .. }
            | Self::OriginalDropped { .. }
            | Self::NotKept { .. }
            | Self::NothingKept { .. }
            | Self::Moved { .. }
            | Self::RecordedElsewhere { .. }
            | Self::ProtectionLeft { .. }
            | Self::NoVolumes { .. }
            | Self::SnapshotsAwaited { .. }
            | Self::SnapshotLost { .. }
            | Self::NotInStandby { .. }
            | Self::OtherScalingGroup { .. }
            | Self::StaysInStandby { .. }
            | Self::LeftScalingGroup { .. }
            | Self::MetadataPending { .. }
            | Self::Ending { .. }
            | Self::EventsUnknown { .. }
            | Self::OtherProfile { .. }
            | Self::ProfileReplaced { .. }
            | Self::ProfileGone { .. } => Severity::Note,
        }
    }
    /// The interface that it is about, if it says why that cannot be isolated.
    #[must_use]
    pub fn left_out(&self) -> Option<&InterfaceId> {
        match self {
            Self::InterfaceElsewhere { interface, .. }
            | Self::BranchOpen { interface, .. }
            | Self::InterfaceHeldByOther { interface, .. } => Some(interface),
            _ => None,
        }
    }

    /// Whether it is about what may come, and nothing that is not as it should be.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        matches!(self, Self::Ending { .. } | Self::EventsUnknown { .. })
    }
}

/// The command that isolates an interface.
fn isolate_by_hand(interface: &InterfaceId, group: &GroupId) -> String {
    restore_command(interface, &Groups::from([group.clone()]))
}

/// The command that gives an interface groups that a person chooses.
fn choose_groups(interface: &InterfaceId) -> String {
    restore_command(interface, &Groups::new()).trim_end().to_owned() + " <group ids>"
}

/// What may end an instance, and what keeps the evidence. **No word of an attacker's stands in it** but a plain name.
fn write_ending(instance: &InstanceId, ending: &Ending, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let named = |name: &Option<String>| name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let protection = format!("aws ec2 modify-instance-attribute --instance-id {instance} --disable-api-termination");
    let memory = format!("ec2-isolation memory {instance}");
    match ending {
        Ending::Kubernetes { cluster } => write!(
            f,
            "{instance} is a node of Kubernetes cluster{}, by its tags: a controller may terminate it, since it no longer answers. \
             Leave its termination protection on: {protection}",
            named(cluster)
        ),
        Ending::Karpenter { pool } => write!(
            f,
            "{instance} is a node of Karpenter's pool{}, by its tags: Karpenter may terminate it, since it no longer answers. \
             Leave its termination protection on: {protection}",
            named(pool)
        ),
        Ending::Ecs { cluster, container_instance } => {
            write!(
                f,
                "{instance} belongs to ECS cluster{}, by its tags: ECS may replace it, since its agent no longer answers. Capture its memory first: {memory}",
                named(cluster)
            )?;
            match (cluster, container_instance) {
                (Some(cluster), Some(id)) => write!(
                    f,
                    ", and only then drain it, which ends its tasks: aws ecs update-container-instances-state --cluster {cluster} --container-instances {id} --status DRAINING"
                ),
                _ => Ok(()),
            }
        }
        Ending::Spot => write!(
            f,
            "{instance} is a Spot Instance: EC2 may end it with a notice of two minutes, and no protection stops that. Capture its memory now: {memory}"
        ),
        Ending::Reservation(lifecycle) => write!(
            f,
            "{instance} runs in a reservation ({lifecycle}): EC2 terminates it when that ends, and no protection stops that. Capture its memory now: {memory}"
        ),
        Ending::Scheduled(event) => {
            let at = event.not_before.map(|at| format!(" from {at} on")).unwrap_or_default();
            write!(
                f,
                "AWS has scheduled {} of {instance}{at}: its memory is lost then, and no protection stops that. Capture it before: {memory}",
                event.code
            )
        }
    }
}

/// What could not be read of trunks.
#[must_use]
pub fn branches_unknown(trunks: &BTreeSet<InterfaceId>) -> String {
    format!("whether trunk {} has branches, which are not isolated, is not known", comma_list(trunks))
}

#[cfg(test)]
mod tests;
