//! The instance profile: without it the instance gets no more credentials.

use super::{Change, Due, put_back};
use crate::model::Record;
use crate::plan::{Aim, Case, Doubt, Plan, Problem, Step, StepError};

/// What EC2 says of a profile that is not there (lacework/go-sdk#1045). One without a role is refused with the same code
/// (Capgemini/kubeform#116).
const NO_PROFILE: (&str, &str) = ("InvalidParameterValue", "iamInstanceProfile");

pub(super) fn protect(case: &Case<'_>, record: &Record, due: &mut Due, plan: &mut Plan) {
    let Some(profiles) = &case.observed.profiles else { return };
    let Some(profile) = profiles.get(case.instance) else {
        // What is recorded was detached.
        if record.protection.profile.is_none() {
            case.believes(Doubt::Profile, plan);
        }
        return;
    };
    match record.protection.profile.clone().filter(|recorded| *recorded != profile.arn) {
        Some(recorded) => {
            let (instance, association, arn) = (case.id(), profile.association.clone(), profile.arn.clone());
            plan.problems.push(Problem::OtherProfile { instance, association, arn, recorded });
        }
        None => {
            due.prior.profile = Some(profile.arn.clone());
            due.changes.push(Change::DetachProfile(profile.clone()));
        }
    }
}

/// Whether the profile is known, if one is recorded.
pub(super) fn unprotect(case: &Case<'_>, record: &Record, plan: &mut Plan) -> bool {
    let Some(arn) = record.protection.profile.clone() else { return true };
    let Some(profiles) = &case.observed.profiles else { return false };
    match profiles.get(case.instance) {
        Some(now) if now.arn != arn => {
            let (arn, recorded) = (now.arn.clone(), arn);
            plan.problems.push(Problem::ProfileReplaced { instance: case.id(), arn, recorded });
        }
        now => {
            let step = Step::Protect {
                instance: case.id(),
                change: Change::AttachProfile { arn: arn.clone() },
                aim: Aim::Restore,
            };
            match case.ledger.failure(&step) {
                Some(StepError::Call(error))
                    if now.is_none() && error.code == NO_PROFILE.0 && error.message.contains(NO_PROFILE.1) =>
                {
                    plan.problems.push(Problem::ProfileGone { instance: case.id(), arn });
                }
                _ => put_back(case, Change::AttachProfile { arn }, now.is_none(), plan),
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::World;

    #[test]
    fn a_profile_is_recorded_and_detached_if_that_is_asked_for() {
        World::with_profile(Some("arn:a"), None).check_protected("");
        World::with_profile(Some("arn:a"), None).check_detached("i-1: save profile arn:a\ni-1: detach profile arn:a");
        World::with_profile(Some("arn:a"), Some("arn:a")).check_detached("i-1: detach profile arn:a");
        World::with_profile(None, Some("arn:a")).check_detached("");
        World::with_profile(None, None).check_detached("? no instance profile is shown");
        World::with_profile(Some("arn:a"), None).with(|world| world.observed.profiles = None).check_detached("");
        World::with_profile(Some("arn:b"), Some("arn:a")).check_detached(
            "! i-1 has instance profile arn:b, its record says arn:a: it was not detached; do so by hand: \
             aws ec2 disassociate-iam-instance-profile --association-id iip-assoc-1",
        );
    }

    #[test]
    fn a_profile_comes_back_unless_there_is_another_one() {
        World::with_profile(None, Some("arn:a")).check_unprotected("i-1: restore: profile arn:a");
        let mut world = World::with_profile(Some("arn:a"), Some("arn:a"));
        world.check_unprotected("i-1: confirm: profile arn:a");
        world.accept_everything();
        world.check_unprotected("i-1: mark restored");
        World::with_profile(Some("arn:b"), Some("arn:a")).check_unprotected(
            "i-1: mark restored\n! i-1 was left with instance profile arn:b, which it was given meanwhile; before it had arn:a",
        );
        let mut gone = World::with_profile(None, Some("arn:a"));
        gone.refuse_everything(
            "InvalidParameterValue",
            "Value (arn:a) for parameter iamInstanceProfile.arn is invalid.",
        );
        gone.check_unprotected(
            "i-1: mark restored\n! i-1 was left without instance profile arn:a, which does not exist any more: if it is to have one, \
             give it another one",
        );
        let mut bare = World::with_profile(None, Some("arn:a"));
        bare.refuse_everything("InvalidParameterValue", "IAM Instance Profile \"arn:a\" has no associated IAM Roles");
        bare.check_unprotected("i-1: restore: profile arn:a");
        // Any other refusal says nothing of that, and one that is there exists.
        let mut refused = World::with_profile(None, Some("arn:a"));
        refused.refuse_everything("UnauthorizedOperation", "You are not authorized");
        refused.check_unprotected("i-1: restore: profile arn:a");
        let mut there = World::with_profile(Some("arn:a"), Some("arn:a"));
        there.refuse_everything(
            "InvalidParameterValue",
            "Value (arn:a) for parameter iamInstanceProfile.arn is invalid.",
        );
        there.check_unprotected("i-1: mark restored");
        // Whoever detached it, a second reading changes nothing of that.
        World::with_profile(None, None).check_unprotected("i-1: mark restored");
        let mut unread = World::with_profile(None, Some("arn:a"));
        unread.observed.profiles = None;
        unread.check_unprotected("");
    }
}
