//! What went wrong for others: one test for each public bug report of our collection, by its number there. Those that
//! another file shows already:
//!
//! | case | where |
//! |---|---|
//! | 4 | `event::tests::the_physical_id_of_a_given_event_is_a_constant` |
//! | 9 | `isolate::lifecycle::a_delete_of_what_never_was_succeeds_and_touches_nothing` |
//! | 14, 18 | `overlap::deliveries::a_delete_that_overtakes_a_running_create_wins`, `overlap::deliveries::two_deliveries_of_one_create_record_the_originals_once` |
//! | 19 | `faults::every_call::a_create_survives_any_trouble_at_any_call`, and with the built function `a_create_killed_after_any_odd_call_is_finished_by_the_next_delivery` and its siblings |
//! | 28 | `isolate::lifecycle::a_terminated_instance_counts_as_restored`, `…::a_lost_original_group_is_left_out_and_named` |
//! | 30, 39, 40 | `answer::tests` |
//! | 32, 33, 34, 36, 37 | `responder` |
//! | 41, 42 | `bootstrap::no_log_line_at_any_level_shows_a_url_a_secret_or_the_event` |
//! | 43, 44, 54 | `faults::every_call::a_panic_is_answered_with_its_text`, `faults::every_call::a_call_that_hangs_…` |
//! | 46 | with the built function `two_hundred_and_four_instances_of_four_interfaces_fit_in_memory_and_in_the_answer` |
//! | 51 | `faults::every_call::a_permission_that_has_not_arrived_yet_is_waited_for_but_not_on_a_delete` |
//! | 55, 56 | `event::tests` |
//! | 58 | `faults::every_call::throttling_four_times_in_a_row_is_survived` |

use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::cloudformation::event::Envelope;
use ec2_isolation::cloudformation::handler::handle;
use ec2_isolation::cloudformation::responder::Undelivered;
use ec2_isolation::model::State;
use ec2_isolation::ports::{Fault, Ports};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::world::{Trouble, World};
use crate::{A, B, C, deliver, event, fails, fleet, invocation, isolated, run, succeeds, with};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

fn change(mut event: Value, key: &str, value: Value) -> Value {
    event[key] = value;
    event
}

async fn created() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().calls.clear();
    world
}

// A. PhysicalResourceId

// 1, 6
#[tokio::test(start_paused = true)]
async fn a_failed_update_and_a_failed_delete_answer_with_the_id_of_the_event() {
    let world = created().await;
    world.data().always = Some((SWAP, Fault::Denied));
    for name in ["update", "delete"] {
        let answer = deliver(&world, change(event(name), "PhysicalResourceId", json!("its own"))).await;
        assert_eq!((answer.status, answer.physical_resource_id.as_str()), (Status::Failed, "its own"), "{name}");
    }
}

// 2
#[tokio::test(start_paused = true)]
async fn a_delete_with_the_id_of_a_log_stream_touches_nothing_of_another_owner() {
    let world = created().await;
    let mut stranger = change(event("delete"), "PhysicalResourceId", json!("2024/04/30/[$LATEST]abc"));
    stranger["StackId"] = json!("arn:aws:cloudformation:us-east-1:123456789012:stack/other/1");
    assert_eq!(succeeds(&world, stranger).await.physical_resource_id, "2024/04/30/[$LATEST]abc");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    assert_eq!(world.count(SWAP), 0);
}

// 3, 7
#[tokio::test(start_paused = true)]
async fn two_processes_derive_the_same_id_also_when_there_is_nothing_to_do() {
    let mut ids = Vec::new();
    for world in [fleet(), created().await] {
        ids.push(succeeds(&world, event("create")).await.physical_resource_id);
    }
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].starts_with("ec2-isolation-"));
}

// 5, 47
#[tokio::test(start_paused = true)]
async fn missing_settings_are_answered_failed_with_a_usable_id_also_on_a_delete() {
    for name in ["create", "update", "delete"] {
        let world = fleet();
        let broken: Result<std::sync::Arc<Ports<World, World, World>>, _> =
            Err("environment variable SECURITY_GROUP_TABLE_NAME is not set".to_owned());
        handle(&broken, &Handle::current(), event(name), &invocation(), |_, _| world.clone()).await.unwrap();
        let answer = world.data().answers[0].clone();
        assert_eq!(answer.status, Status::Failed);
        assert_eq!(answer.physical_resource_id, "ec2-isolation-af46e4b7d4bfea65b7dbb2f6181b4fc5");
        assert!(answer.reason.contains("SECURITY_GROUP_TABLE_NAME is not set"), "{}", answer.reason);
        assert_eq!(world.data().calls, []);
    }
}

// 5
#[tokio::test(start_paused = true)]
async fn a_create_that_runs_out_of_time_names_the_cause_and_has_the_same_id() {
    let world = fleet();
    world.data().troubles.insert(1, Trouble::Hangs);
    let answer = deliver(&world, event("create")).await;
    assert_eq!(answer.physical_resource_id, "ec2-isolation-af46e4b7d4bfea65b7dbb2f6181b4fc5");
    assert!(answer.reason.contains("the time for an answer ran out"), "{}", answer.reason);
}

// 8
#[tokio::test(start_paused = true)]
async fn the_delete_after_a_create_that_isolated_nothing_succeeds_without_a_change() {
    let world = fleet();
    fails(&world, with("create", "InstanceIds", json!(["i-0123"]))).await;
    succeeds(&world, event("delete")).await;
    assert_eq!(world.count(SWAP), 0);
}

// 10
#[tokio::test(start_paused = true)]
async fn two_updates_in_a_row_release_nothing() {
    let world = created().await;
    for n in ["one", "two"] {
        succeeds(&world, change(event("update"), "RequestId", json!(n))).await;
    }
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
    assert_eq!(world.count("ec2:DeleteTags"), 0);
}

// 11, 13: the id never changes, and a Delete inside an update restores nothing.
#[tokio::test(start_paused = true)]
async fn a_clean_up_delete_with_old_properties_never_releases_what_is_wanted() {
    let world = created().await;
    let id = succeeds(&world, event("update")).await.physical_resource_id;
    assert_eq!(id, event("update")["PhysicalResourceId"]);
    world.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS");
    succeeds(&world, change(event("delete"), "PhysicalResourceId", json!("an older id"))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
}

// B. Order, retries, idempotency

// 15
#[tokio::test(start_paused = true)]
async fn a_delete_with_an_invented_id_while_the_create_runs_finds_its_state() {
    let world = fleet();
    let start = world.cards();
    let late = async {
        tokio::time::sleep(Duration::from_millis(3500)).await;
        run(&world, event("delete-after-failed-create")).await
    };
    tokio::join!(run(&world, event("create")), late);
    assert_eq!(world.cards(), start);
    assert_eq!(world.data().answers.len(), 2);
}

// 17
#[tokio::test(start_paused = true)]
async fn a_failed_answer_that_was_accepted_is_no_failure_of_the_function() {
    let world = fleet();
    world.data().always = Some((SWAP, Fault::Denied));
    assert_eq!(run(&world, event("create")).await, json!({"answered": true}));
    assert_eq!(world.data().answers[0].status, Status::Failed);
}

// 21
#[tokio::test(start_paused = true)]
async fn no_timer_of_one_invocation_fires_in_the_next() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    succeeds(&world, event("update")).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.data().answers.len(), 2);
}

// 22
#[tokio::test(start_paused = true)]
async fn each_answer_goes_to_the_url_of_its_own_event() {
    let world = fleet();
    for n in 1..=2 {
        let url = format!("{}&n={n}", crate::url());
        succeeds(&world, change(event("create"), "ResponseURL", json!(url))).await;
        assert_eq!(world.data().url, url);
    }
}

// C. Rollback

// 23: A is isolated throughout, and B stays so too.
#[tokio::test(start_paused = true)]
async fn an_update_and_its_rollback_keep_both_lists_isolated_and_the_originals_intact() {
    let world = fleet();
    let start = world.cards();
    succeeds(&world, with("create", "InstanceIds", json!([A]))).await;
    succeeds(&world, with("update", "InstanceIds", json!([B]))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    world.set_status("UPDATE_ROLLBACK_IN_PROGRESS");
    succeeds(&world, with("update", "InstanceIds", json!([A]))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
}

// 24
#[tokio::test(start_paused = true)]
async fn the_rollback_of_an_invalid_update_succeeds() {
    let world = created().await;
    fails(&world, event("update-bad-property")).await;
    succeeds(&world, with("update", "InstanceIds", json!([A, B]))).await;
    assert_eq!(world.count(SWAP), 0);
}

// 25
#[tokio::test(start_paused = true)]
async fn properties_of_another_age_do_not_stop_a_delete_or_an_update() {
    let world = created().await;
    let old = json!({"InstanceId": 7, "Groups": {"a": [1]}, "SnapshotVolumes": "perhaps"});
    succeeds(&world, change(event("update"), "OldResourceProperties", old.clone())).await;
    succeeds(&world, change(event("delete"), "ResourceProperties", old)).await;
    assert_eq!(isolated(&world), [""; 0]);
}

// 26
#[tokio::test(start_paused = true)]
async fn a_create_needs_its_instances_and_a_delete_needs_nothing() {
    let world = fleet();
    let reason = fails(&world, with("create", "InstanceIds", Value::Null)).await;
    assert!(reason.starts_with("nothing was changed: property InstanceIds is missing"), "{reason}");
    for properties in [json!({}), Value::Null] {
        let world = created().await;
        succeeds(&world, change(event("delete"), "ResourceProperties", properties)).await;
        assert_eq!(isolated(&world), [""; 0]);
    }
}

// 27
#[tokio::test(start_paused = true)]
async fn an_update_of_an_unrelated_property_changes_no_interface() {
    let world = created().await;
    let mut unrelated = with("update", "Rerun", json!("2026-11-25 03:15"));
    unrelated["ResourceProperties"]["InstanceIds"] = json!([A, B]);
    succeeds(&world, unrelated).await;
    assert_eq!(world.count(SWAP), 0);
}

// 29
#[tokio::test(start_paused = true)]
async fn a_delete_that_is_throttled_to_the_end_tries_to_the_end_and_loses_nothing() {
    let world = created().await;
    let started = tokio::time::Instant::now();
    world.data().always = Some((SWAP, Fault::Throttled));
    let reason = fails(&world, event("delete")).await;
    assert!(reason.starts_with(&format!("0 of 2 instances restored; still isolated: {A}, {B} | ")), "{reason}");
    assert!(reason.contains("RestoreCommands"), "{reason}");
    assert!(started.elapsed() > Duration::from_secs(880), "{:?}", started.elapsed());
    assert_eq!((world.state(A), isolated(&world).len()), (Some(State::Restoring), 2));
    world.data().always = None;
    succeeds(&world, event("delete")).await;
}

// D. Response body and PUT

// 35, 38
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_a_failure_of_the_function_so_that_lambda_delivers_again() {
    let world = fleet();
    world.data().undelivered = Some(Undelivered::Lost("HTTP status 403".into()));
    let error = handle(&Ok(world.ports()), &Handle::current(), event("create"), &invocation(), |_, _| world.clone())
        .await
        .unwrap_err();
    let cause = std::error::Error::source(&error).expect("a cause");
    assert_eq!(cause.to_string(), "the answer was not accepted: HTTP status 403");
    assert!(!format!("{error:?} {error}").contains("secret"));
}

// 50
#[tokio::test(start_paused = true)]
async fn an_unusable_url_is_no_reason_to_deliver_again() {
    let world = fleet();
    world.data().undelivered = Some(Undelivered::UnusableUrl);
    let test_event = change(event("create"), "ResponseURL", json!("pre-signed-S3-url-for-response"));
    assert_eq!(run(&world, test_event).await, json!({"answered": false}));
}

// E. Never answered

// 48: the sample of the Lambda developer guide, as it stands there.
#[test]
fn the_fields_of_awss_own_sample_are_found() {
    let sample = json!({
        "RequestType": "Create",
        "ServiceToken": "arn:aws:lambda:us-east-1:123456789012:function:lambda-error-processor-primer-14ROR2T3JKU66",
        "ResponseURL": "https://cloudformation-custom-resource-response-useast1.s3-us-east-1.amazonaws.com/arn%3Aaws%3Acloudformation%3Aus-east-1%3A123456789012%3Astack/lambda-error-processor/1134083a-2608-1e91-9897-022501a2c456%7Cprimerinvoke%7C5d478078-13e9-baf0-464a-7ef285ecc786?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1555451971&Signature=28UijZePE5I4dvukKQqM%2F9Rf1o4%3D",
        "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/lambda-error-processor/1134083a-2608-1e91-9897-022501a2c456",
        "RequestId": "5d478078-13e9-baf0-464a-7ef285ecc786",
        "LogicalResourceId": "primerinvoke",
        "ResourceType": "AWS::CloudFormation::CustomResource",
        "ResourceProperties": {"ServiceToken": "arn:…", "FunctionName": "lambda-error-processor-randomerror-ZWUC391MQAJK"}
    });
    let envelope = Envelope::read(&sample);
    assert_eq!(sample["ResponseURL"], envelope.response_url);
    assert_eq!(sample["RequestId"], envelope.request_id);
    assert_eq!(sample["LogicalResourceId"], envelope.logical_id);
}

// 49
#[tokio::test(start_paused = true)]
async fn odd_events_are_answered_all_the_same() {
    let world = fleet();
    fails(&world, change(event("create"), "RequestType", json!("Frobnicate"))).await;
    fails(&world, change(event("create"), "RequestType", Value::Null)).await;
    fails(&world, change(event("create"), "LogicalResourceId", json!(""))).await;
    assert_eq!(world.data().calls, []);
    // What an earlier request has left is asked for.
    fails(&world, change(event("create"), "ResourceProperties", Value::Null)).await;
    let asked: Vec<&str> = world.data().calls.iter().map(|(action, _)| *action).collect();
    assert_eq!(asked, ["dynamodb:BatchGetItem"]);
    succeeds(&world, change(event("update"), "PhysicalResourceId", Value::Null)).await;
    succeeds(&world, change(event("update"), "Surprise", json!({"deep": [1, 2, {"x": null}]}))).await;
    let long = "p".repeat(1024);
    let answer = succeeds(&world, change(event("update"), "PhysicalResourceId", json!(long))).await;
    assert_eq!(answer.physical_resource_id, long);
    succeeds(&world, with("update", "ServiceTimeout", json!(3000))).await;
}

// 53
#[tokio::test(start_paused = true)]
async fn a_delete_with_nothing_to_do_is_answered_at_once() {
    let world = fleet();
    let started = tokio::time::Instant::now();
    succeeds(&world, event("delete")).await;
    // Each call takes a second here: the records, the stack, the intent, the records again.
    assert!(started.elapsed() <= Duration::from_secs(4), "{:?}", started.elapsed());
}

// F. Property types

// 60
#[tokio::test(start_paused = true)]
async fn a_delete_without_access_to_its_records_names_the_action_and_calls_nothing_else() {
    let world = created().await;
    world.data().always = Some(("dynamodb:BatchGetItem", Fault::Denied));
    let reason = fails(&world, event("delete")).await;
    assert!(
        reason.starts_with("nothing was restored: the records cannot be read: dynamodb:BatchGetItem failed: Denied"),
        "{reason}"
    );
    // The stack's status is read beside them.
    assert_eq!(world.data().calls.len(), 2);
}

// 61
#[tokio::test(start_paused = true)]
async fn the_physical_id_is_a_string_in_every_answer() {
    let world = fleet();
    for id in [json!(7), json!(["x"]), json!(""), Value::Null, json!("y")] {
        let answer = deliver(&world, change(with("update", "InstanceIds", json!([C])), "PhysicalResourceId", id)).await;
        let body: Value = serde_json::from_str(&answer.body()).unwrap();
        assert!(body["PhysicalResourceId"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
    }
}
