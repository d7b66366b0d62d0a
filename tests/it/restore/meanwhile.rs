//! What a Delete meets: instances that are ending, trouble that lasts, interfaces that somebody moves while it works.

use std::time::Duration;

use ec2_isolation::model::{Group, State};
use ec2_isolation::ports::Fault;
use ec2_isolation::reconcile::report::NOTHING_HELD;
use serde_json::json;

use crate::world::{self, ISOLATION};
use crate::{A, B, after, created, event, fails, fleet, meanwhile, move_by_hand, quick_fleet, set_state, succeeds};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

#[tokio::test(start_paused = true)]
async fn a_delete_waits_for_an_instance_that_is_ending() {
    let world = created().await;
    set_state(&world, A, "shutting-down");
    let reason = meanwhile(&world, event("delete"), async {
        after(200).await;
        world.data().instances.remove(&A.parse().unwrap());
    })
    .await;
    assert_eq!(reason, "2 instances restored");
    assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Restored)));
}

#[tokio::test(start_paused = true)]
async fn what_is_isolated_again_while_a_delete_still_works_is_restored_again() {
    let world = created().await;
    let start = fleet().cards();
    set_state(&world, B, "pending");
    let reason = meanwhile(&world, event("delete"), async {
        after(60).await;
        move_by_hand(&world, "eni-0a", &[ISOLATION]);
        after(60).await;
        set_state(&world, B, "running");
    })
    .await;
    assert_eq!(reason, "2 instances restored");
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_moves_after_it_was_given_back_is_left_to_her_and_named() {
    let world = created().await;
    set_state(&world, B, "pending");
    let reason = meanwhile(&world, event("delete"), async {
        after(60).await;
        move_by_hand(&world, "eni-0a", &["sg-0d"]);
        after(60).await;
        set_state(&world, B, "running");
    })
    .await;
    let moved = format!("{A}: eni-0a was left alone: it was moved to [sg-0d] meanwhile");
    assert!(reason.starts_with("2 instances restored") && reason.contains(&moved), "{reason}");
    assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0d"]));
    assert_eq!(world.state(A), Some(State::Restored));
}

#[tokio::test(start_paused = true)]
async fn a_delete_outlasts_minutes_of_trouble_and_names_the_one_that_lasts() {
    for action in ["dynamodb:BatchGetItem", "cloudformation:DescribeStacks", "ec2:DescribeNetworkInterfaces", SWAP] {
        let world = created().await;
        world.data().always = Some((action, Fault::Server));
        let reason = meanwhile(&world, event("delete"), async {
            after(300).await;
            world.data().always = None;
        })
        .await;
        assert_eq!(reason, "2 instances restored", "{action}");

        let world = created().await;
        world.data().always = Some((action, Fault::Server));
        let reason = fails(&world, event("delete")).await;
        assert!(reason.contains(&format!("{action} failed: Server: a test wants it")), "{reason}");
    }
}

/// What was given back is not said to be isolated because it cannot be looked at.
#[tokio::test(start_paused = true)]
async fn what_a_delete_cannot_look_at_is_said_not_to_be_known() {
    for fault in [Fault::Denied, Fault::Server] {
        let world = created().await;
        world.before_call_of(SWAP, 1, move |data| data.always = Some(("ec2:DescribeInstances", fault)));
        let reason = fails(&world, event("delete")).await;
        assert_eq!(world.cards(), fleet().cards(), "{reason}");
        let headline = format!("0 of 2 instances restored; it is not known how they stand: {A}, {B} | ");
        assert!(reason.starts_with(&headline), "{fault:?}: {reason}");
    }
    // A person gave the groups back by hand.
    let world = created().await;
    move_by_hand(&world, "eni-0a", &["sg-0a"]);
    world.data().unreadable.insert(A.to_owned(), "attribute State is missing".to_owned());
    let reason = fails(&world, event("delete")).await;
    let headline = format!("1 of 2 instances restored; it is not known how they stand: {A} | ");
    assert!(reason.starts_with(&headline), "{reason}");
}

/// Whatever was taken back before it: it was held a moment ago.
#[tokio::test(start_paused = true)]
async fn a_delete_that_is_delivered_again_after_it_has_restored_does_not_say_that_nothing_was_isolated() {
    let world = created().await;
    assert_eq!(succeeds(&world, event("delete")).await.reason, "2 instances restored");
    assert_eq!(succeeds(&world, event("delete")).await.reason, NOTHING_HELD);
    assert_eq!(NOTHING_HELD, "nothing to restore: no instance is held isolated");
}

/// Nothing protects them: their tags and strays are looked for all the same.
#[tokio::test(start_paused = true)]
async fn an_unprotected_instance_that_is_not_shown_for_a_moment_is_doubted_on_delete() {
    let bare = |name: &str| {
        let mut event = event(name);
        event["ResourceProperties"]["ProtectInstances"] = json!("false");
        event["ResourceProperties"]["DisableInstanceMetadata"] = json!("false");
        event
    };
    let world = quick_fleet();
    succeeds(&world, bare("create")).await;
    world.hide(A, Duration::from_secs(3));
    assert_eq!(succeeds(&world, bare("delete")).await.reason, "2 instances restored");
    let tagged: Vec<String> = world.data().tags.keys().filter(|id| !id.starts_with("snap-")).cloned().collect();
    assert_eq!(tagged, [""; 0]);

    let world = quick_fleet();
    succeeds(&world, bare("create")).await;
    world.attach(A, "eni-0f", &[ISOLATION]);
    world.hide(A, Duration::from_secs(3));
    let reason = fails(&world, bare("delete")).await;
    assert!(reason.contains(&format!("{A}: eni-0f")), "{reason}");
}

/// Each is told what helps: a Delete is not deployed again, and a person's credentials are not the function's role.
#[tokio::test(start_paused = true)]
async fn a_denial_on_delete_is_the_roles_and_no_deployment_mends_it() {
    let world = created().await;
    world.data().always = Some((SWAP, Fault::Denied));
    let reason = fails(&world, event("delete")).await;
    assert!(reason.contains(" (allow the function's role this action)"), "{reason}");
    assert!(!reason.contains("deploy again"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_moved_meanwhile_is_left_to_her_and_named() {
    let world = created().await;
    world.data().calm();
    move_by_hand(&world, "eni-0a", &["sg-0d"]);
    world.data().calls.clear();
    let answer = succeeds(&world, event("delete")).await;
    assert!(
        answer.reason.contains(&format!("{A}: eni-0a was left alone: it was moved to [sg-0d] meanwhile")),
        "{}",
        answer.reason
    );
    assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0d"]));
    assert!(!world.data().calls.iter().any(|(action, what)| *action == SWAP && what.starts_with("eni-0a ")));
}

#[tokio::test(start_paused = true)]
async fn sixteen_original_groups_come_back_all_of_them() {
    let world = fleet();
    let many: Vec<String> = (0..16).map(|n| format!("sg-0b{n:x}")).collect();
    for id in &many {
        let group = Group { id: id.parse().unwrap(), ..world.data().groups[&"sg-0a".parse().unwrap()].clone() };
        world.data().groups.insert(group.id.clone(), group);
    }
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    move_by_hand(&world, "eni-0a", &many);
    succeeds(&world, event("create")).await;
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0a"], world::groups(&many));
}
