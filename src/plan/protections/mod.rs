//! What keeps an isolated instance and its evidence from being lost: each protection in its file, both ways.
//!
//! What is changed is recorded before, and only that is put back. **None of it bears on isolation**: that comes first and
//! stands whatever becomes of this.

pub mod attributes;
pub mod metadata;
pub mod profile;
pub mod standby;
pub mod volumes;

use std::collections::BTreeMap;
use std::fmt;

use super::{Aim, Case, Plan, Step, Work};
use crate::model::{Attribute, Fault, Instance, InstanceId, Profile, Protection, Record, VolumeId, Wants, comma_list};

/// A change of what protects an instance. Doing it twice changes nothing more than doing it once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// Termination or stop protection, or what a shutdown does.
    Attribute(Attribute),
    /// Whether volumes, by their devices, go with the instance: all in one call.
    Volumes { volumes: BTreeMap<VolumeId, String>, go_with_it: bool },
    /// Out of service of its Auto Scaling group, without lowering the group's desired capacity.
    EnterStandby { group: String },
    /// Back into service, which raises the desired capacity by one.
    ExitStandby { group: String },
    /// Takes the instance profile off.
    DetachProfile(Profile),
    /// Refused if the instance has a profile.
    AttachProfile { arn: String },
    /// Whether the metadata service answers.
    MetadataService { is_on: bool },
}

impl Change {
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, instance: &InstanceId, aim: Aim) -> fmt::Result {
        let verb = match aim {
            Aim::Isolate => "protect",
            Aim::Restore => "restore",
            Aim::Confirm => "confirm",
        };
        match self {
            Self::Attribute(attribute) => write!(f, "{instance}: {verb}: {attribute}"),
            Self::Volumes { volumes, go_with_it: true } => {
                write!(f, "{instance}: {verb}: delete {} on termination", comma_list(volumes.keys()))
            }
            Self::Volumes { volumes, go_with_it: false } => {
                write!(f, "{instance}: keep {} on termination", comma_list(volumes.keys()))
            }
            Self::EnterStandby { group } => write!(f, "{group}: {instance} to standby"),
            Self::ExitStandby { group } => write!(f, "{group}: {instance} back from standby"),
            Self::DetachProfile(profile) => write!(f, "{instance}: detach profile {}", profile.arn),
            Self::AttachProfile { arn } => write!(f, "{instance}: {verb}: profile {arn}"),
            Self::MetadataService { is_on } => {
                write!(f, "{instance}: {verb}: metadata service {}", if *is_on { "on" } else { "off" })
            }
        }
    }

    /// The call that carries it out.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Attribute(_) | Self::Volumes { .. } => "ec2:ModifyInstanceAttribute",
            Self::EnterStandby { .. } => "autoscaling:EnterStandby",
            Self::ExitStandby { .. } => "autoscaling:ExitStandby",
            Self::DetachProfile(_) => "ec2:DisassociateIamInstanceProfile",
            Self::AttachProfile { .. } => "ec2:AssociateIamInstanceProfile",
            Self::MetadataService { .. } => "ec2:ModifyInstanceMetadataOptions",
        }
    }

    /// The call that shows whether it was carried out.
    #[must_use]
    pub(super) fn seen_by(&self) -> &'static str {
        match self {
            Self::Attribute(_) => "ec2:DescribeInstanceAttribute",
            Self::Volumes { .. } | Self::MetadataService { .. } => "ec2:DescribeInstances",
            Self::EnterStandby { .. } | Self::ExitStandby { .. } => "autoscaling:DescribeAutoScalingInstances",
            Self::DetachProfile(_) | Self::AttachProfile { .. } => "ec2:DescribeIamInstanceProfileAssociations",
        }
    }

    /// Whether AWS may refuse it for what the instance is (a Spot instance, an instance-store root) or for a policy of the
    /// organisation, which no responder can mend.
    #[must_use]
    pub fn is_for_some_instances_only(&self) -> bool {
        match self {
            Self::Attribute(_) | Self::Volumes { .. } | Self::EnterStandby { .. } | Self::DetachProfile(_) => true,
            Self::ExitStandby { .. } | Self::AttachProfile { .. } => false,
            Self::MetadataService { is_on } => !is_on,
        }
    }
}

/// What one instance has that it should not have, and what changes it.
#[derive(Debug, Default)]
struct Due {
    prior: Protection,
    changes: Vec<Change>,
}

/// Protects an isolated instance. What it has is saved first.
pub(super) fn protect(case: &Case<'_>, wants: &Wants, record: &Record, instance: &Instance, plan: &mut Plan) {
    let mut due = Due::default();
    if wants.protect {
        attributes::protect(case, &mut due, plan);
        volumes::protect(instance, &mut due);
        standby::protect(case, record, instance, &mut due, plan);
    }
    if wants.disable_metadata {
        metadata::protect(case, instance, &mut due, plan);
    }
    if wants.detach_profile {
        profile::protect(case, record, &mut due, plan);
    }
    let prior = due.prior.without(&record.protection);
    let first = (!prior.is_empty()).then(|| Step::SaveProtection { instance: case.id(), prior });
    let change = |change| Step::Protect { instance: case.id(), change, aim: Aim::Isolate };
    if first.is_some() || !due.changes.is_empty() {
        plan.work.push(Work { first, then: due.changes.into_iter().map(change).collect() });
    }
}

/// Puts back what the record holds. Whether everything that can be put back was read back.
pub(super) fn unprotect(case: &Case<'_>, record: &Record, plan: &mut Plan) -> bool {
    let Some(instance) = case.living() else { return true };
    let before = plan.work.len();
    let is_known = attributes::unprotect(case, record, plan);
    volumes::unprotect(case, record, instance, plan);
    metadata::unprotect(case, record, instance, plan);
    let is_known = profile::unprotect(case, record, plan) && is_known;
    let is_known = standby::unprotect(case, record, plan) && is_known;
    is_known
        && before == plan.work.len()
        && plan.doubts.iter().all(|doubt| case.ledger.believes(doubt, case.now.elapsed))
}

/// Puts something back: it is written once in any case, since what shows what it should may be a stale read of what an
/// earlier run changed.
fn put_back(case: &Case<'_>, change: Change, differs: bool, plan: &mut Plan) {
    let aim = if differs { Aim::Restore } else { Aim::Confirm };
    let step = Step::Protect { instance: case.id(), change, aim };
    if differs || !is_confirmed(case, &step) {
        plan.push(step);
    }
}

/// Whether a step that shows as done was written by this invocation, or refused: then it was needless.
fn is_confirmed(case: &Case<'_>, step: &Step) -> bool {
    case.ledger.is_trusting
        || case.ledger.is_accepted(step)
        || case
            .ledger
            .failure(step)
            .is_some_and(|error| error.fault().is_some_and(|fault| !fault.may_pass() || fault == Fault::Busy))
}

#[cfg(test)]
mod tests {
    use crate::model::{Attribute, PROTECTING};
    use crate::plan::testing::{UNPROTECTED, World, wants};
    use crate::plan::{Goal, Step};

    #[test]
    fn what_is_saved_comes_before_what_is_changed_and_only_once() {
        let goal = wants(&["i-1"]);
        let plan = |world: &World| world.plan(&Goal::Isolate(&goal));
        let is_protection = |step: &Step| matches!(step, Step::SaveProtection { .. } | Step::Protect { .. });
        let work = plan(&World::isolated()).work.into_iter().find(|work| work.steps().any(is_protection)).unwrap();
        assert!(matches!(work.first, Some(Step::SaveProtection { .. })));
        assert_eq!(work.then.len(), 4);
        let saved = plan(&World::protected().attributes("i-1", UNPROTECTED));
        let work = saved.work.into_iter().find(|work| work.steps().any(is_protection)).unwrap();
        assert_eq!((work.first, work.then.len()), (None, 3));
        let done = plan(&World::protected());
        assert!(!done.steps().any(is_protection) && !done.work.iter().any(|work| work.steps().count() == 0), "{done}");
    }

    #[test]
    fn an_instance_that_is_gone_has_nothing_to_put_back() {
        let world = || World::protected().with(|world| world.observed.attributes.clear());
        world()
            .change_instance(|instance| instance.state = "terminated".to_owned())
            .check_unprotected("i-1: mark restored");
        world().check_unprotected("i-1: restore: delete vol-1 on termination");
    }

    #[test]
    fn nothing_is_marked_while_any_protection_is_not_known() {
        let all = || {
            let mut world = World::with_profile(Some("arn:a"), Some("arn:a"));
            world.saved().protection.attributes = [Attribute::StopProtection(true)].into();
            world.saved().protection.scaling_group = Some("web".to_owned());
            world.member("InService");
            world.trust();
            world
        };
        all().check_unprotected("i-1: mark restored");
        all().with(|world| world.observed.attributes.clear()).check_unprotected("");
        all().with(|world| world.observed.profiles = None).check_unprotected("");
        all().with(|world| world.observed.members = None).check_unprotected("");
        assert_eq!(PROTECTING.len(), UNPROTECTED.len());
    }
}
