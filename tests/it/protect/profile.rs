//! The instance profile: detached if that is asked for, and given back.

use std::time::Duration;

use ec2_isolation::model::State;
use ec2_isolation::ports::Fault;
use serde_json::json;

use super::{HEADLINE, PROFILE, SWAP, assert_after, id, rerun};
use crate::world::World;
use crate::{A, event, fails, fleet, succeeds, with_everything};

const DETACH: &str = "ec2:DisassociateIamInstanceProfile";
const ATTACH: &str = "ec2:AssociateIamInstanceProfile";

async fn detached() -> World {
    let world = fleet();
    succeeds(&world, with_everything(event("create"))).await;
    world.data().calm();
    world
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_detached_where_that_is_asked_for_and_comes_back() {
    let world = fleet();
    let start = world.protections();
    let answer = succeeds(&world, with_everything(event("create"))).await;
    assert_eq!(answer.reason, HEADLINE);
    assert_after(&world, DETACH, SWAP);
    assert!(!world.protections()[A].contains(&PROFILE.to_owned()));
    assert_eq!(world.data().records[&id(A)].protection.profile.as_deref(), Some(PROFILE));
    let mut off = rerun();
    off["ResourceProperties"]["DetachInstanceProfile"] = json!("false");
    succeeds(&world, off).await;
    assert!(!world.protections()[A].contains(&PROFILE.to_owned()), "only a restore gives it back");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
    assert_eq!((world.count(DETACH), world.count(ATTACH)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_somebody_attached_meanwhile_is_left_and_named() {
    let world = detached().await;
    world.give_profile(A, "arn:other");
    let answer = succeeds(&world, with_everything(rerun())).await;
    let named =
        format!("{A} has instance profile arn:other, its record says {PROFILE}: it was not detached; do so by hand: ");
    assert!(answer.reason.contains(&named), "{}", answer.reason);
    let answer = succeeds(&world, event("delete")).await;
    let named =
        format!("{A} was left with instance profile arn:other, which it was given meanwhile; before it had {PROFILE}");
    assert!(answer.reason.contains(&named), "{}", answer.reason);
    assert_eq!(world.count(ATTACH), 0);
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_the_operator_gave_back_is_as_it_was() {
    let world = detached().await;
    world.give_profile(A, PROFILE);
    assert_eq!(succeeds(&world, event("delete")).await.reason, "2 instances restored");
    assert!(world.protections()[A].contains(&PROFILE.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_the_role_may_not_give_back_is_named_with_the_operators_command() {
    for fault in [Fault::Denied, Fault::Refused] {
        let world = detached().await;
        world.data().always = Some((ATTACH, fault));
        let reason = fails(&world, event("delete")).await;
        assert!(
            reason
                .starts_with(&format!("1 of 2 instances restored; security groups restored, the rest not yet: {A} | ")),
            "{reason}"
        );
        let command = format!(
            "{A}: restore: profile {PROFILE}: {ATTACH} failed: {fault:?}: a test wants it \
             (by hand: aws ec2 associate-iam-instance-profile --instance-id {A} --iam-instance-profile Arn='{PROFILE}')"
        );
        assert!(reason.contains(&command), "{reason}");
        // Everything else of it is back, and what the operator does counts.
        assert_eq!(world.protections()[A].len(), 5);
        world.give_profile(A, PROFILE);
        let mut again = event("delete");
        again["RequestId"] = json!("again");
        succeeds(&world, again).await;
        assert_eq!(world.state(A), Some(State::Restored));
    }
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_ec2_does_not_take_away_is_named() {
    let world = fleet();
    world.data().always = Some((DETACH, Fault::Refused));
    let answer = succeeds(&world, with_everything(event("create"))).await;
    assert_eq!(
        answer.reason,
        format!("{HEADLINE} | {A}: detach profile {PROFILE}: {DETACH} failed: Refused: a test wants it")
    );
    world.data().always = Some((DETACH, Fault::Denied));
    fails(&world, with_everything(rerun())).await;
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), fleet().protections());
}

/// Each time it has an association of its own.
#[tokio::test(start_paused = true)]
async fn a_profile_that_is_attached_again_each_time_is_named() {
    let world = fleet();
    let controller = async {
        loop {
            if !world.protections()[A].contains(&PROFILE.to_owned()) {
                world.give_profile(A, PROFILE);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let reason = tokio::select! {
        reason = fails(&world, with_everything(event("create"))) => reason,
        () = controller => unreachable!("it never ends"),
    };
    assert!(reason.starts_with(HEADLINE), "{reason}");
    let named = format!("{A}: detach profile {PROFILE}: ec2:DescribeIamInstanceProfileAssociations failed: NotVisible");
    assert!(reason.contains(&named), "{reason}");
    assert!(world.data().start.elapsed() < Duration::from_secs(75), "{:?}", world.data().start.elapsed());
    assert!(world.count(DETACH) <= 6, "{}", world.count(DETACH));
}
