//! What stands in the way of protecting an instance, or of undoing it.

use std::fmt;

use super::Severity;
use crate::model::{InstanceId, exit_standby_command};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hindrance {
    /// A member of an Auto Scaling group that is not in Standby, in Auto Scaling's words.
    NotInStandby {
        instance: InstanceId,
        group: String,
        state: String,
    },
    /// Its record names the group in which it was before.
    OtherGroup {
        instance: InstanceId,
        group: String,
        recorded: String,
    },
    /// On a restore: on its way into Standby or out of it.
    StillInStandby {
        instance: InstanceId,
        group: String,
        state: String,
    },
    StaysInStandby {
        instance: InstanceId,
        group: String,
        reason: String,
    },
    LeftGroup {
        instance: InstanceId,
        group: String,
    },
    /// It has another profile than the one that its record holds.
    OtherProfile {
        instance: InstanceId,
        association: String,
        arn: String,
        recorded: String,
    },
    /// On a restore: somebody gave it another one.
    ProfileReplaced {
        instance: InstanceId,
        arn: String,
        recorded: String,
    },
}

impl Hindrance {
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            // Asked for, accepted, and not seen.
            Self::NotInStandby { state, .. } if state == "InService" => Severity::Fatal,
            Self::StillInStandby { .. } => Severity::Fatal,
            Self::NotInStandby { .. }
            | Self::OtherGroup { .. }
            | Self::StaysInStandby { .. }
            | Self::LeftGroup { .. }
            | Self::OtherProfile { .. }
            | Self::ProfileReplaced { .. } => Severity::Note,
        }
    }

    /// Whether it ends by itself, as a rule within seconds.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        match self {
            Self::NotInStandby { state, .. } => {
                matches!(state.as_str(), "InService" | "EnteringStandby") || state.starts_with("Pending")
            }
            Self::StillInStandby { .. } => true,
            _ => false,
        }
    }

    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        match self {
            Self::NotInStandby { instance, .. }
            | Self::OtherGroup { instance, .. }
            | Self::StillInStandby { instance, .. }
            | Self::StaysInStandby { instance, .. }
            | Self::LeftGroup { instance, .. }
            | Self::OtherProfile { instance, .. }
            | Self::ProfileReplaced { instance, .. } => instance,
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInStandby { instance, group, state } => write!(
                f,
                "{instance} is {state} in Auto Scaling group {group}, not in Standby: Auto Scaling may terminate it; \
                 look at the group"
            ),
            Self::OtherGroup { instance, group, recorded } => write!(
                f,
                "{instance} is in service of Auto Scaling group {group}, its record says {recorded}: it was not moved to \
                 Standby; do so by hand: aws autoscaling enter-standby"
            ),
            Self::StillInStandby { instance, group, state } => write!(
                f,
                "{instance} is {state} in Auto Scaling group {group}: it is not back in service; when it is in Standby: {}",
                exit_standby_command(group, instance)
            ),
            Self::StaysInStandby { instance, group, reason } => write!(
                f,
                "{instance} stays in Standby of Auto Scaling group {group} ({reason}): raise the group's maximum size, then: {}",
                exit_standby_command(group, instance)
            ),
            Self::LeftGroup { instance, group } => {
                write!(f, "{instance} is no longer in Auto Scaling group {group}: it was not put back into service")
            }
            Self::OtherProfile { instance, association, arn, recorded } => write!(
                f,
                "{instance} has instance profile {arn}, its record says {recorded}: it was not detached; do so by hand: \
                 aws ec2 disassociate-iam-instance-profile --association-id {association}"
            ),
            Self::ProfileReplaced { instance, arn, recorded } => write!(
                f,
                "{instance} was left with instance profile {arn}, which somebody gave it meanwhile; before it had {recorded}"
            ),
        }
    }
}
