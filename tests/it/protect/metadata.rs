//! The metadata service: off while the instance is isolated, and on again where it was on.

use ec2_isolation::ports::Fault;
use serde_json::json;

use super::{HEADLINE, SWAP, assert_after, id, rerun};
use crate::{A, B, as_request, event, fails, fleet, succeeds, with};

const MODIFY_METADATA: &str = "ec2:ModifyInstanceMetadataOptions";

#[tokio::test(start_paused = true)]
async fn it_is_turned_off_after_the_isolation_and_on_again_where_it_was_on() {
    let world = fleet();
    world.data().instances.get_mut(&id(B)).unwrap().has_metadata_service = false;
    let start = world.protections();
    let answer = succeeds(&world, event("create")).await;
    assert_eq!(answer.reason, HEADLINE);
    assert_after(&world, MODIFY_METADATA, SWAP);
    assert!(world.data().records[&id(A)].protection.metadata_service);
    assert!(!world.data().records[&id(B)].protection.metadata_service);
    let calls = world.data().calls.clone();
    let changed: Vec<&String> =
        calls.iter().filter(|(action, _)| *action == MODIFY_METADATA).map(|(_, what)| what).collect();
    assert!(changed.iter().all(|what| **what == format!("{A} false")), "{changed:?}");
    assert!([A, B].iter().all(|instance| !world.data().instances[&id(instance)].has_metadata_service));
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn it_is_turned_off_whatever_else_is_asked_for_and_left_alone_where_that_is_not() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, with("create", "ProtectInstances", json!("false"))).await;
    assert!(!world.data().instances[&id(A)].has_metadata_service);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);

    let world = fleet();
    succeeds(&world, with("create", "DisableInstanceMetadata", json!("false"))).await;
    assert_eq!(world.count(MODIFY_METADATA), 0);
}

#[tokio::test(start_paused = true)]
async fn an_option_switched_off_during_an_incident_leaves_it_off_until_the_delete() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, event("create")).await;
    let mut off = rerun();
    off["ResourceProperties"]["DisableInstanceMetadata"] = json!("false");
    succeeds(&world, off).await;
    assert!(!world.data().instances[&id(A)].has_metadata_service);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

/// Nobody in the account can change that: it is named, and the isolation stands.
#[tokio::test(start_paused = true)]
async fn what_a_declarative_policy_refuses_is_named_and_fails_nothing() {
    let world = fleet();
    let start = world.protections();
    world.data().protections.metadata_policy.insert(id(A));
    let answer = succeeds(&world, event("create")).await;
    let named = format!("{A}: protect: metadata service off: {MODIFY_METADATA} failed: UnsupportedOperation");
    assert!(answer.reason.starts_with(HEADLINE) && answer.reason.contains(&named), "{}", answer.reason);
    assert!(!world.data().instances[&id(B)].has_metadata_service);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn a_declarative_policy_that_came_after_the_create_leaves_it_off_at_the_delete_and_is_named() {
    let world = fleet();
    let (cards, start) = (world.cards(), world.protections());
    succeeds(&world, event("create")).await;
    world.data().protections.metadata_policy.insert(id(A));
    let reason = fails(&world, event("delete")).await;
    let named = format!("{A}: restore: metadata service on: {MODIFY_METADATA} failed: UnsupportedOperation");
    assert!(reason.contains(&named), "{reason}");
    assert!(
        reason.contains("next: the function goes with the stack, so run ec2-isolation restore --stack "),
        "{reason}"
    );
    // The record, which the answer names as well, has the command.
    let commands = world.data().records[&id(A)].protection.restore_commands(&id(A));
    let way_out = format!("aws ec2 modify-instance-metadata-options --instance-id {A} --http-endpoint enabled");
    assert!(commands.values().any(|command| *command == way_out), "{commands:?}");
    assert_eq!(world.cards(), cards, "the groups are back");
    let expected = |instance: &str| start[instance].clone();
    let left: Vec<String> = world.protections()[A].iter().filter(|now| !expected(A).contains(now)).cloned().collect();
    assert_eq!(left, ["metadata service off"]);
    assert_eq!(world.protections()[B], expected(B));
    // Once the policy is gone the next Delete does the rest.
    world.data().protections.metadata_policy.clear();
    succeeds(&world, as_request("again", event("delete"))).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn what_ec2_has_not_applied_after_a_minute_is_named_and_fails_nothing() {
    let world = fleet();
    let start = world.protections();
    world.data().protections.is_metadata_slow = true;
    let answer = succeeds(&world, event("create")).await;
    let named = format!("the metadata service of {A} is still being turned off");
    assert!(answer.reason.starts_with(HEADLINE) && answer.reason.contains(&named), "{}", answer.reason);
    assert!(world.data().start.elapsed() > std::time::Duration::from_secs(60));
    world.data().protections.is_metadata_slow = false;
    assert_eq!(succeeds(&world, rerun()).await.reason, HEADLINE);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn a_denial_fails_the_request_and_stops_nothing_else() {
    let world = fleet();
    let start = world.protections();
    world.data().always = Some((MODIFY_METADATA, Fault::Denied));
    let reason = fails(&world, event("create")).await;
    let named = format!("{A}: protect: metadata service off: {MODIFY_METADATA} failed: Denied");
    assert!(reason.starts_with(HEADLINE) && reason.contains(&named), "{reason}");
    assert_eq!(world.protections()[A][..3], super::protected()[..3]);
    world.data().always = None;
    succeeds(&world, rerun()).await;
    assert!(!world.data().instances[&id(A)].has_metadata_service);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}
