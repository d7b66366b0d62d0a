//! A rollback must not release: what each status of the stack makes of a Delete.

use ec2_isolation::model::State;
use ec2_isolation::plan::StackStatus;
use ec2_isolation::ports::Fault;
use serde_json::json;

use crate::world::{STACK, World};
use crate::{A, event, fails, fleet, isolated, succeeds, with};

async fn isolated_fleet() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world
}

/// A Delete in this status, with this policy, keeps everything isolated.
async fn keeps(status: &str, reason: &str, on_rollback: &str, why: &str) {
    let world = isolated_fleet().await;
    let stack = StackStatus { status: status.into(), reason: reason.into(), parent: None };
    world.data().stacks.insert(STACK.into(), stack);
    let answer = succeeds(&world, with("delete", "OnRollback", json!(on_rollback))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{status}");
    assert_eq!(world.state(A), Some(State::Kept), "{status}");
    assert!(
        answer.reason.starts_with(&format!("2 instances kept isolated, nothing was restored: {why}")),
        "{}",
        answer.reason
    );
}

async fn restores(status: &str, reason: &str, on_rollback: &str) {
    let world = isolated_fleet().await;
    let stack = StackStatus { status: status.into(), reason: reason.into(), parent: None };
    world.data().stacks.insert(STACK.into(), stack);
    succeeds(&world, with("delete", "OnRollback", json!(on_rollback))).await;
    assert_eq!(isolated(&world), [""; 0], "{status}");
    assert_eq!(world.state(A), Some(State::Restored), "{status}");
}

const FAILED_CREATE: &str = "The following resource(s) failed to create: [ForensicInstance]. Delete requested by user.";

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_being_deleted_is_restored() {
    restores("DELETE_IN_PROGRESS", "User Initiated", "KeepIsolated").await;
    restores("DELETE_IN_PROGRESS", "", "Restore").await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_keeps_everything_isolated_unless_asked_otherwise() {
    keeps("ROLLBACK_IN_PROGRESS", "", "KeepIsolated", "the stack is rolling back (ROLLBACK_IN_PROGRESS)").await;
    restores("ROLLBACK_IN_PROGRESS", "", "Restore").await;
}

#[tokio::test(start_paused = true)]
async fn on_failure_delete_keeps_everything_isolated_unless_asked_otherwise() {
    keeps("DELETE_IN_PROGRESS", FAILED_CREATE, "KeepIsolated", "the stack is rolling back (DELETE_IN_PROGRESS)").await;
    restores("DELETE_IN_PROGRESS", FAILED_CREATE, "Restore").await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_inside_an_update_keeps_everything_isolated_whatever_was_asked() {
    for status in ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"] {
        for policy in ["KeepIsolated", "Restore"] {
            keeps(status, "", policy, &format!("the stack itself is not being deleted ({status})")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_stack_of_a_parent_that_rolls_back_stays_isolated() {
    let world = isolated_fleet().await;
    let parent = StackStatus { status: "ROLLBACK_IN_PROGRESS".into(), reason: String::new(), parent: None };
    world.data().stacks.insert("parent".into(), parent);
    world.data().stacks.get_mut(STACK).unwrap().parent = Some("parent".into());
    succeeds(&world, event("delete")).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_read_keeps_everything_isolated_and_fails() {
    let world = isolated_fleet().await;
    world.data().always = Some(("cloudformation:DescribeStacks", Fault::Denied));
    let reason = fails(&world, event("delete")).await;
    assert!(reason.starts_with("2 instances kept isolated, nothing was restored: whether this stack is being deleted cannot be read: cloudformation:DescribeStacks failed"), "{reason}");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn kept_records_are_restored_when_the_stack_is_deleted_after_all() {
    let world = isolated_fleet().await;
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, with("delete", "Rerun", json!("inside an update"))).await;
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(isolated(&world), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_rolls_back_releases_nothing() {
    let world = isolated_fleet().await;
    let update = |n: &str| {
        let mut event = with("update", "OnRemoval", json!("Restore"));
        event["RequestId"] = json!(n);
        event
    };
    world.set_status("UPDATE_ROLLBACK_IN_PROGRESS");
    let answer = succeeds(&world, update("rolls back")).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
    assert_eq!(world.state(A), Some(State::Kept));
    assert!(
        answer.reason.contains(&format!("{A} stay isolated though no longer listed: the stack is rolling back")),
        "{}",
        answer.reason
    );
    world.data().always = Some(("cloudformation:DescribeStacks", Fault::Denied));
    let reason = fails(&world, update("status unknown")).await;
    assert!(reason.contains(&format!("{A} stay isolated: the stack's status cannot be read")), "{reason}");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
}

/// The guard's table names every status that the API knows: README's table is made from the same words.
#[test]
fn the_guard_knows_every_status_of_the_api() {
    let known = include_str!("../../src/plan/guard.rs");
    let readme = include_str!("../../README.md");
    for status in aws_sdk_cloudformation::types::StackStatus::values() {
        assert!(known.contains(&format!("\"{status}\"")), "{status} is not in the table of guard.rs");
        assert!(readme.contains(&format!("`{status}`")), "README does not say what {status} means");
    }
}
