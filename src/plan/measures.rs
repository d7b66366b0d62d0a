//! Measures: the remote changes that keep an instance from being lost, and those that undo them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Aim;
use crate::model::{Attribute, InstanceId, PROFILE_KEY, Profile, Protection, VolumeId, comma_list};

/// Doing one twice changes nothing more than doing it once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Saves what the instance has before it is changed; never overwrites what is recorded.
    Save {
        instance: InstanceId,
        prior: Protection,
    },
    Protect {
        instance: InstanceId,
        attribute: Attribute,
    },
    Unprotect {
        instance: InstanceId,
        attribute: Attribute,
        aim: Aim,
    },
    /// The volumes, with their devices, outlive the instance: all in one call.
    KeepVolumes {
        instance: InstanceId,
        volumes: BTreeMap<VolumeId, String>,
    },
    /// The volumes go with the instance again.
    UnkeepVolumes {
        instance: InstanceId,
        volumes: BTreeMap<VolumeId, String>,
        aim: Aim,
    },
    /// Takes members of an Auto Scaling group out of service without lowering its desired capacity.
    EnterStandby {
        group: String,
        instances: BTreeSet<InstanceId>,
    },
    /// Puts them back into service, which raises the desired capacity by one for each.
    ExitStandby {
        group: String,
        instances: BTreeSet<InstanceId>,
    },
    DetachProfile {
        instance: InstanceId,
        profile: Profile,
    },
    /// Refused where the instance has a profile.
    AttachProfile {
        instance: InstanceId,
        arn: String,
        aim: Aim,
    },
}

impl Measure {
    /// The instance it is for, where there is exactly one.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceId> {
        match self {
            Self::Save { instance, .. }
            | Self::Protect { instance, .. }
            | Self::Unprotect { instance, .. }
            | Self::KeepVolumes { instance, .. }
            | Self::UnkeepVolumes { instance, .. }
            | Self::DetachProfile { instance, .. }
            | Self::AttachProfile { instance, .. } => Some(instance),
            Self::EnterStandby { .. } | Self::ExitStandby { .. } => None,
        }
    }

    #[must_use]
    pub fn instances(&self) -> BTreeSet<InstanceId> {
        match self {
            Self::EnterStandby { instances, .. } | Self::ExitStandby { instances, .. } => instances.clone(),
            _ => self.instance().cloned().into_iter().collect(),
        }
    }

    /// What of a record it puts back: the names of [`Protection::restore_commands`].
    #[must_use]
    pub fn undoes(&self) -> Vec<String> {
        match self {
            Self::Unprotect { attribute, .. } => vec![attribute.key().to_owned()],
            Self::UnkeepVolumes { volumes, .. } => volumes.keys().map(ToString::to_string).collect(),
            Self::AttachProfile { .. } => vec![PROFILE_KEY.to_owned()],
            _ => vec![],
        }
    }

    /// Whether it repeats what is seen, in case that is no longer so: refused, it was needless.
    #[must_use]
    pub fn only_confirms(&self) -> bool {
        match self {
            Self::Unprotect { aim, .. } | Self::UnkeepVolumes { aim, .. } | Self::AttachProfile { aim, .. } => {
                *aim == Aim::Confirm
            }
            _ => false,
        }
    }

    /// Whether AWS may refuse it for what the instance is (a Spot instance, an instance-store root), which nobody can mend.
    #[must_use]
    pub fn is_for_some_instances_only(&self) -> bool {
        matches!(
            self,
            Self::Protect { .. } | Self::KeepVolumes { .. } | Self::EnterStandby { .. } | Self::DetachProfile { .. }
        )
    }

    /// The call that shows whether it was carried out.
    #[must_use]
    pub fn seen_by(&self) -> &'static str {
        match self {
            Self::Save { .. } => "dynamodb:Scan",
            Self::Protect { .. } | Self::Unprotect { .. } => "ec2:DescribeInstanceAttribute",
            Self::KeepVolumes { .. } | Self::UnkeepVolumes { .. } => "ec2:DescribeInstances",
            Self::EnterStandby { .. } | Self::ExitStandby { .. } => "autoscaling:DescribeAutoScalingInstances",
            Self::DetachProfile { .. } | Self::AttachProfile { .. } => "ec2:DescribeIamInstanceProfileAssociations",
        }
    }
}

fn verb(aim: Aim) -> &'static str {
    if aim == Aim::Confirm { "confirm" } else { "restore" }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Save { instance, prior } => write!(f, "{instance}: save {prior}"),
            Self::Protect { instance, attribute } => write!(f, "{instance}: protect: {attribute}"),
            Self::Unprotect { instance, attribute, aim } => write!(f, "{instance}: {}: {attribute}", verb(*aim)),
            Self::KeepVolumes { instance, volumes } => {
                write!(f, "{instance}: keep {} on termination", comma_list(volumes.keys()))
            }
            Self::UnkeepVolumes { instance, volumes, aim } => {
                write!(f, "{instance}: {}: delete {} on termination", verb(*aim), comma_list(volumes.keys()))
            }
            Self::DetachProfile { instance, profile } => write!(f, "{instance}: detach profile {}", profile.arn),
            Self::AttachProfile { instance, arn, aim } => write!(f, "{instance}: {}: profile {arn}", verb(*aim)),
            Self::EnterStandby { group, instances } => write!(f, "{group}: {} to standby", comma_list(instances)),
            Self::ExitStandby { group, instances } => write!(f, "{group}: {} back from standby", comma_list(instances)),
        }
    }
}
