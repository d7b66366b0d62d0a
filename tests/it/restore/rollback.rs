//! A rollback must not release: what each status of the stack makes of a Delete.

use std::collections::BTreeSet;
use std::time::Duration;

use ec2_isolation::cloudformation::rollback::{may_release, may_restore};
use ec2_isolation::cloudformation::stack::StackStatus;
use ec2_isolation::model::{Desired, Peer, Release, Rule, State};
use ec2_isolation::ports::{Fault, INTENT_PREFIX, Verdict};
use serde_json::json;
use tokio::time::Instant;

use crate::world::readings::INTENT;
use crate::world::{ISOLATION, STACK, TRANSIT, Trouble, World, groups};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
use crate::{A, D, as_request, cutting, deliver, die, entries, event, fails, fleet, isolated, run, succeeds, with};

async fn isolated_fleet() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world
}

/// A Delete in this status, with this policy, keeps everything isolated.
async fn keeps(status: &str, reason: &str, on_rollback: &str, why: &str) {
    let world = isolated_fleet().await;
    let stack = StackStatus { status: status.into(), reason: reason.into(), parent: None, updated: None };
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
    let stack = StackStatus { status: status.into(), reason: reason.into(), parent: None, updated: None };
    world.data().stacks.insert(STACK.into(), stack);
    succeeds(&world, with("delete", "OnRollback", json!(on_rollback))).await;
    assert_eq!(isolated(&world), [""; 0], "{status}");
    assert_eq!(world.state(A), Some(State::Restored), "{status}");
}

const FAILED_CREATE: &str = "The following resource(s) failed to create: [ForensicInstance]. Delete requested by user.";

/// Nothing is held only if that is read twice.
#[tokio::test(start_paused = true)]
async fn a_delete_that_keeps_looks_twice_for_what_was_asked() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    world.hide(INTENT, Duration::from_secs(2));
    let answer = succeeds(&world, event("delete")).await;
    assert!(answer.reason.starts_with("2 instances kept isolated, nothing was restored: "), "{}", answer.reason);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    assert_eq!(world.state(A), Some(State::Kept));
}

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
    for reason in [FAILED_CREATE, "Stack creation time exceeded the specified timeout. Delete requested by user."] {
        let why = format!("the stack is rolling back (DELETE_IN_PROGRESS: {reason}) and OnRollback is KeepIsolated");
        keeps("DELETE_IN_PROGRESS", reason, "KeepIsolated", &why).await;
    }
    restores("DELETE_IN_PROGRESS", FAILED_CREATE, "Restore").await;
}

/// Beside a responder the function is still there: what fails is deleted once more, and that restores.
#[tokio::test(start_paused = true)]
async fn a_rollback_fails_where_the_function_outlives_the_stack_and_the_next_delete_restores() {
    let outlives = |delete| with(delete, "FunctionOutlivesStack", json!("true"));
    for (status, reason) in [("ROLLBACK_IN_PROGRESS", ""), ("DELETE_IN_PROGRESS", FAILED_CREATE)] {
        let world = isolated_fleet().await;
        let set = |status: &str, reason: &str| {
            let stack = StackStatus { status: status.into(), reason: reason.into(), parent: None, updated: None };
            world.data().stacks.insert(STACK.into(), stack);
        };
        set(status, reason);
        let name = STACK.split('/').nth(1).unwrap();
        let reason = fails(&world, outlives("delete")).await;
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{status}");
        assert!(reason.starts_with("2 instances kept isolated, nothing was restored: "), "{}", reason);
        let next = format!(
            "when the incident is over, delete the stack once more: aws cloudformation delete-stack --stack-name {name}; if that fails, \
             run ec2-isolation restore --stack {name} --finish"
        );
        assert!(reason.contains(&next), "{}", reason);

        set("DELETE_IN_PROGRESS", "User Initiated");
        succeeds(&world, outlives("delete")).await;
        assert_eq!(isolated(&world), [""; 0], "{status}");
        assert_eq!(world.state(A), Some(State::Restored), "{status}");
    }
    // Nothing comes after these: a failure would only stand in the way.
    for status in ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"] {
        let world = isolated_fleet().await;
        world.set_status(status);
        succeeds(&world, outlives("delete")).await;
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{status}");
    }
    let nothing = fleet();
    nothing.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&nothing, outlives("delete")).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_last_and_cannot_be_read_neither_releases_nor_loses_anything() {
    let spoilt = async |status: &str| {
        let world = isolated_fleet().await;
        world.set_status(status);
        for (intent, _) in world.data().intents.values_mut() {
            intent.desired = Desired::Unknown("attribute Desired: EOF".to_owned());
        }
        world
    };
    let world = spoilt("ROLLBACK_IN_PROGRESS").await;
    let answer = succeeds(&world, event("delete")).await;
    assert!(answer.reason.starts_with("2 instances kept isolated, nothing was restored"), "{}", answer.reason);
    assert_eq!((isolated(&world), world.state(A)), (vec!["eni-0a".into(), "eni-0b".into()], Some(State::Kept)));
    let world = spoilt("DELETE_IN_PROGRESS").await;
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), fleet().cards());
    // Where it does not say which instances are held, nothing is said to be held by nobody.
    for status in ["ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS"] {
        let world = isolated_fleet().await;
        world.set_status(status);
        let key = format!("{INTENT_PREFIX}{}", world.data().intents.keys().next().unwrap());
        world.data().unreadable.insert(key, "attribute Held is no set of strings".to_owned());
        let answer = fails(&world, event("delete")).await;
        assert!(answer.starts_with("nothing was restored: the records cannot be read"), "{answer}");
        assert!(answer.contains("attribute Held is no set of strings"), "{answer}");
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{status}");
    }
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
    let parent =
        StackStatus { status: "ROLLBACK_IN_PROGRESS".into(), reason: String::new(), parent: None, updated: None };
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

/// What is said of them is what EC2 shows, whatever keeps them.
#[tokio::test(start_paused = true)]
async fn whatever_keeps_them_only_what_is_seen_isolated_is_said_to_be() {
    for (status_is_read, why) in [
        (true, "the stack is rolling back (ROLLBACK_IN_PROGRESS)"),
        (false, "whether this stack is being deleted cannot be read"),
    ] {
        let begin = async || {
            let world = isolated_fleet().await;
            world.set_status("ROLLBACK_IN_PROGRESS");
            if !status_is_read {
                world.data().always_on = Some(("cloudformation:DescribeStacks", String::new(), Fault::Denied));
            }
            world
        };
        let world = begin().await;
        world.data().put_back(&"eni-0a".parse().unwrap(), groups(&["sg-0a"]));
        let reason = match status_is_read {
            true => succeeds(&world, event("delete")).await.reason,
            false => fails(&world, event("delete")).await,
        };
        let expected = format!("1 of 2 instances kept isolated, nothing was restored: {why}");
        assert!(reason.starts_with(&expected), "{}", reason);
        assert!(reason.contains("eni-0a is not isolated: it was left alone in [sg-0a]"), "{}", reason);
        assert_eq!(isolated(&world), ["eni-0b"]);

        let world = begin().await;
        world.data().always = Some(("ec2:DescribeNetworkInterfaces", Fault::Denied));
        let reason = fails(&world, event("delete")).await;
        let expected = format!("nothing was restored; it is not known whether 2 instances are isolated: {why}");
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(!reason.contains("kept isolated"), "{reason}");
    }
}

/// The transit group is open to everybody: nothing waits in it for a status that cannot be read.
#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_read_leaves_no_interface_in_the_transit_group() {
    let world = fleet();
    succeeds(&world, cutting(event("create"))).await;
    world.data().always = Some(("cloudformation:DescribeStacks", Fault::Denied));
    world.data().put_back(&"eni-0a".parse().unwrap(), groups(&[TRANSIT]));
    let reason = fails(&world, cutting(event("delete"))).await;
    assert!(reason.starts_with("2 instances kept isolated, nothing was restored: whether this stack"), "{reason}");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    assert_eq!(world.state(A), Some(State::Isolated), "no reason to keep it is known");
}

/// https://github.com/aws/aws-cdk-cli/issues/1802: what DescribeStacks shows at first is what was before the operation.
#[tokio::test(start_paused = true)]
async fn a_status_from_before_the_operation_neither_releases_nor_keeps() {
    let meanwhile = |world: &World, status: &str| {
        let (stack, changed) = (STACK.to_owned(), status.to_owned());
        world.before_call_of("cloudformation:DescribeStacks", 1, move |data| {
            data.stacks.get_mut(&stack).unwrap().status = changed;
        });
    };
    for before in ["CREATE_COMPLETE", "UPDATE_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "ROLLBACK_IN_PROGRESS"] {
        let world = isolated_fleet().await;
        world.set_status(before);
        meanwhile(&world, "DELETE_IN_PROGRESS");
        succeeds(&world, event("delete")).await;
        assert_eq!(isolated(&world), [""; 0], "{before}");
    }
    // An update that rolls back, seen as it was when it began.
    let world = isolated_fleet().await;
    world.set_status("UPDATE_IN_PROGRESS");
    meanwhile(&world, "UPDATE_ROLLBACK_IN_PROGRESS");
    let answer = succeeds(&world, with("update", "OnRemoval", json!("Restore"))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"], "{}", answer.reason);
    // One that goes on, seen as it was before it.
    let world = isolated_fleet().await;
    world.set_status("CREATE_COMPLETE");
    meanwhile(&world, "UPDATE_IN_PROGRESS");
    let answer = succeeds(&world, with("update", "OnRemoval", json!("Restore"))).await;
    assert_eq!(isolated(&world), ["eni-0b", "eni-0c"], "{}", answer.reason);
    // Beside a responder a rollback has to fail, or no Delete comes after it.
    let world = isolated_fleet().await;
    world.set_status("CREATE_IN_PROGRESS");
    meanwhile(&world, "ROLLBACK_IN_PROGRESS");
    fails(&world, with("delete", "FunctionOutlivesStack", json!("true"))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

/// Killed in the passage: what it has left in the open group.
async fn left_in_transit() -> World {
    let world = fleet();
    world.data().stale_reads = 0;
    world.data().troubles_of.insert(SWAP, (1, Trouble::DiesAfter));
    die(&world, cutting(event("create"))).await;
    assert_eq!(world.data().in_transit().len(), 2);
    world
}

/// How long the transit group was in use from now on.
async fn time_in_transit(world: &World) -> Duration {
    let since = Instant::now();
    while !world.data().in_transit().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    since.elapsed()
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_in_the_transit_group_for_what_its_way_out_does_not_need() {
    for (action, fault) in [
        ("cloudformation:DescribeStacks", Fault::Connection),
        ("cloudformation:DescribeStacks", Fault::Throttled),
        ("cloudformation:DescribeStacks", Fault::Denied),
        ("dynamodb:UpdateItem", Fault::Connection),
        ("dynamodb:UpdateItem", Fault::Denied),
    ] {
        for status in ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"] {
            for name in ["delete", "create"] {
                if name == "create" && action.contains("DescribeStacks") {
                    continue;
                }
                let case = format!("{name}, {status}, {action} {fault:?}");
                let world = left_in_transit().await;
                world.set_status(status);
                world.data().always = Some((action, fault));
                let (answer, left) = tokio::join!(deliver(&world, cutting(event(name))), time_in_transit(&world));
                assert!(left < Duration::from_secs(15), "{case}: {left:?}");
                assert_eq!(world.data().in_transit(), [""; 0], "{case}: {}", answer.reason);
                assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{case}: {}", answer.reason);
            }
        }
    }
    // Neither does it wait for the verdict on what an update no longer lists.
    let world = left_in_transit().await;
    world.set_status("UPDATE_IN_PROGRESS");
    world.data().always = Some(("cloudformation:DescribeStacks", Fault::Throttled));
    let update = cutting(with("update", "OnRemoval", json!("Restore")));
    let (answer, left) = tokio::join!(deliver(&world, update), time_in_transit(&world));
    assert!(left < Duration::from_secs(15), "{left:?}");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"], "{}", answer.reason);
}

/// Not even then is it left unsaid.
#[tokio::test(start_paused = true)]
async fn what_stays_in_the_transit_group_is_named_although_nothing_can_be_announced() {
    for name in ["delete", "create"] {
        let world = left_in_transit().await;
        world.data().always = Some(("dynamodb:UpdateItem", Fault::Denied));
        world.data().always_on = Some((SWAP, String::new(), Fault::Denied));
        let reason = fails(&world, cutting(event(name))).await;
        assert_eq!(world.data().in_transit().len(), 2);
        let first = reason.split(" | ").nth(1).unwrap();
        assert!(first.contains(TRANSIT) && first.contains("open to everybody"), "{name}: {reason}");
    }
}

/// Lambda delivers an event that it got no answer for once more, also after CloudFormation has given up on it.
#[tokio::test(start_paused = true)]
async fn a_create_that_is_delivered_again_after_the_delete_that_kept_it_changes_nothing() {
    let world = fleet();
    world.data().troubles_of.insert(SWAP, (3, Trouble::DiesAfter));
    die(&world, cutting(event("create"))).await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&world, cutting(event("delete"))).await;
    let entered = ["eni-0a", "eni-0b"].map(|interface| entries(&world, interface));
    let (cards, swaps) = (world.cards(), world.count(SWAP));
    let reason = fails(&world, cutting(event("create"))).await;
    assert!(reason.starts_with("superseded by request "), "{reason}");
    assert_eq!((world.cards(), world.count(SWAP)), (cards, swaps));
    assert_eq!(["eni-0a", "eni-0b"].map(|interface| entries(&world, interface)), entered);
    assert_eq!(world.state(A), Some(State::Kept));
    assert!(world.data().intents.values().all(|(intent, _)| intent.kept.is_some()));
    // What a person deploys next counts.
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, as_request("next", event("update"))).await;
    assert!(world.data().intents.values().all(|(intent, _)| intent.kept.is_none()));
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
        answer.reason.contains(&format!("{A} still isolated though no longer listed: the stack is rolling back")),
        "{}",
        answer.reason
    );
    world.data().always = Some(("cloudformation:DescribeStacks", Fault::Denied));
    let reason = fails(&world, update("status unknown")).await;
    assert!(reason.contains(&format!("{A} still isolated: the stack's status cannot be read")), "{reason}");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
}

/// The page's table of the guard, row by row; what the policy is where nobody set it, and where it was set.
#[test]
fn the_page_says_what_the_guard_does_in_every_status_of_the_api() {
    let page = include_str!("../../../docs/reference/behaviour.md");
    let rows = page.split("| status of the stack | Delete |").nth(1).expect("the table").split("\n\n").next().unwrap();
    let mut said = BTreeSet::new();
    for row in rows.lines().skip(2).filter(|row| row.contains('`')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [which, on_delete, on_update] = cells[..] else { panic!("{row}") };
        let reason = if which.contains("any other reason") { "These resources failed to create: [Host]" } else { "" };
        for status in which.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains('=')) {
            let stack =
                StackStatus { status: status.to_owned(), reason: reason.to_owned(), parent: None, updated: None };
            for policy in [Release::KeepIsolated, Release::Restore] {
                let says = |text: &str| match text {
                    "restores" => true,
                    "keeps" => false,
                    "as `OnRollback` says" => policy == Release::Restore,
                    other => panic!("{other}"),
                };
                let does = |verdict: Verdict| verdict == Verdict::Restore;
                let stacks = std::slice::from_ref(&stack);
                assert_eq!(does(may_restore(stacks, policy)), says(on_delete), "{status} {policy:?} {reason}");
                assert_eq!(does(may_release(stacks, policy)), says(on_update), "{status} {policy:?} {reason}");
            }
            said.insert(status);
        }
    }
    let known = include_str!("../../../src/cloudformation/rollback.rs");
    for status in aws_sdk_cloudformation::types::StackStatus::values() {
        assert!(known.contains(&format!("\"{status}\"")), "{status} is not in rollback.rs");
        assert!(said.contains(status), "the page does not say what {status} means");
    }
}

/// What CloudFormation sends while a stack rolls back, the status that the stack has then, and what stays isolated.
fn undoings() -> [(&'static str, serde_json::Value, Vec<&'static str>); 4] {
    let reversed = |on_removal: &str| {
        let mut update = with("update", "OnRemoval", json!(on_removal));
        update["RequestId"] = json!("the reversed update");
        update["ResourceProperties"]["InstanceIds"] = json!([A]);
        update
    };
    [
        ("ROLLBACK_IN_PROGRESS", event("delete"), vec!["eni-0a", "eni-0b"]),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", event("delete"), vec!["eni-0a", "eni-0b"]),
        ("UPDATE_ROLLBACK_IN_PROGRESS", reversed("Restore"), vec!["eni-0a", "eni-0b"]),
        ("UPDATE_ROLLBACK_IN_PROGRESS", reversed("KeepIsolated"), vec!["eni-0a", "eni-0b"]),
    ]
}

/// No interface that was isolated is given any other groups than those that isolate or pass it.
fn assert_never_released(world: &World, since: usize, isolated_before: &[&str], when: &str) {
    let data = world.data();
    for (action, what) in &data.calls[since..] {
        let is_about = isolated_before.iter().any(|id| what.contains(id));
        let is_release = *action == "ec2:ModifyNetworkInterfaceAttribute" && is_about;
        assert!(!is_release || what.contains(ISOLATION) || what.contains(TRANSIT), "{when}: {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_trouble_at_any_call_releases_anything_while_the_stack_rolls_back() {
    let troubles = [
        Trouble::Fails(Fault::Throttled),
        Trouble::Fails(Fault::Denied),
        Trouble::Fails(Fault::Garbled),
        Trouble::Hangs,
        Trouble::Panics,
        Trouble::Dies,
        Trouble::DiesAfter,
    ];
    for (case, (status, undoing, isolated_after)) in undoings().into_iter().enumerate() {
        for trouble in troubles {
            for n in 1.. {
                let when = format!("case {case} in {status}, {trouble:?} at call {n}");
                let world = isolated_fleet().await;
                world.set_status(status);
                let since = world.data().calls.len();
                world.data().troubles.insert(since + n, trouble);
                let ends = tokio::select! {
                    biased;
                    () = world.death() => false,
                    _ = run(&world, undoing.clone()) => true,
                };
                let struck = world.data().troubles.is_empty();
                world.data().troubles.clear();
                // Lambda delivers again.
                let world = if ends { world } else { world.process() };
                run(&world, undoing.clone()).await;
                assert_eq!(isolated(&world), isolated_after, "{when}");
                assert_never_released(&world, since, &isolated_after, &when);
                if !struck {
                    assert!(n > 2, "{when}: too few calls to have been counted");
                    break;
                }
            }
        }
    }
}

/// A rollback that begins while the Create still runs: CloudFormation cancels it and sends Delete.
#[tokio::test(start_paused = true)]
async fn a_rollback_that_overtakes_a_running_create_releases_nothing() {
    for (seed, delay) in (0..60).map(|n| (n, 300 * (n % 30))) {
        let world = fleet();
        world.set_status("ROLLBACK_IN_PROGRESS");
        world.data().jitter = Some(seed);
        let late = async {
            tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
            run(&world, cutting(event("delete"))).await
        };
        tokio::join!(run(&world, cutting(event("create"))), late);
        let when = format!("{seed}, after {delay} ms");
        assert_eq!(world.data().answers.len(), 2, "{when}");
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{when}");
        assert_never_released(&world, 0, &["eni-0a", "eni-0b"], &when);
    }
}

/// A failed creation is corrected by deploying again, and CloudFormation deletes the failed resource before it creates anew.
#[tokio::test(start_paused = true)]
async fn an_interface_that_ec2_refuses_does_not_fail_the_delete_that_keeps_the_others() {
    let world = fleet();
    world.data().refused.insert("eni-0d2".parse().unwrap());
    let wanting = |name: &str, allow: &str| {
        let mut event = cutting(with(name, "AllowPartialIsolation", json!(allow)));
        event["ResourceProperties"]["InstanceIds"] = json!([D]);
        event
    };
    fails(&world, wanting("create", "false")).await;
    world.set_status("UPDATE_IN_PROGRESS");
    let answer = succeeds(&world, event("delete")).await;
    assert!(answer.reason.starts_with("0 of 1 instance kept isolated, nothing was restored: "), "{}", answer.reason);
    assert!(
        answer.reason.contains("eni-0d2 is not isolated: it was left alone in [sg-0b, sg-0d]"),
        "{}",
        answer.reason
    );
    let answer = succeeds(&world, wanting("create", "true")).await;
    assert_eq!(answer.data.not_isolated, format!("{D}/eni-0d2"));
    assert_eq!(isolated(&world), ["eni-0d1"]);
}

/// A Delete in a rollback of an isolated fleet, after `change`. Its answer.
async fn kept_after(change: impl FnOnce(&World)) -> (World, String) {
    let world = isolated_fleet().await;
    world.data().calm();
    change(&world);
    world.set_status("ROLLBACK_IN_PROGRESS");
    let answer = succeeds(&world, event("delete")).await;
    (world, answer.reason)
}

const ONE_KEPT: &str = "1 of 2 instances kept isolated, nothing was restored: the stack is rolling back";

#[tokio::test(start_paused = true)]
async fn an_interface_attached_since_is_named_and_its_instance_is_not_said_to_be_kept_isolated() {
    let (world, reason) = kept_after(|world| world.attach(A, "eni-0f", &["sg-0c"])).await;
    assert!(reason.starts_with(ONE_KEPT), "{reason}");
    assert!(reason.contains(&format!("{A}: eni-0f is not isolated: it was left alone in [sg-0c]")), "{reason}");
    assert_eq!(world.cards()["eni-0f"], groups(&["sg-0c"]));

    // The same of one that an Update no longer lists.
    let world = isolated_fleet().await;
    world.attach(A, "eni-0f", &["sg-0c"]);
    let answer = succeeds(&world, with("update", "InstanceIds", json!([crate::B]))).await;
    assert!(!answer.reason.contains("still isolated though no longer listed"), "{}", answer.reason);
    assert!(answer.reason.contains(&format!("{A}: eni-0f is not isolated")), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_record_cannot_be_read_is_not_said_to_be_kept_isolated() {
    let (_, reason) =
        kept_after(|world| drop(world.data().unreadable.insert(A.to_owned(), "State is odd".to_owned()))).await;
    assert!(reason.starts_with(ONE_KEPT), "{reason}");
    assert!(reason.contains(&format!("item {A} of the records table cannot be read: State is odd")), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_which_nothing_is_left_is_not_said_to_be_kept_isolated() {
    for is_terminated in [true, false] {
        let (_, reason) = kept_after(|world| match is_terminated {
            true => world.data().terminate(A),
            false => world.data().delete_interface("eni-0a"),
        })
        .await;
        assert!(reason.starts_with(ONE_KEPT), "{is_terminated}: {reason}");
        assert!(reason.contains(&format!("{A}: nothing of it is left to keep isolated")), "{is_terminated}: {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_an_isolation_group_that_was_opened_nobody_is_said_to_be_kept_isolated() {
    let (_, reason) = kept_after(|world| {
        let rule = Rule { protocol: "-1".into(), ports: None, peer: Peer::Cidr("0.0.0.0/0".into()) };
        world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().ingress.push(rule);
    })
    .await;
    assert!(reason.starts_with("0 of 2 instances kept isolated, nothing was restored"), "{reason}");
    assert!(reason.contains(&format!("isolation group {ISOLATION} allows in all protocols 0.0.0.0/0")), "{reason}");
}
