//! Overlaps and late events: nothing is isolated, or released, for a request that was overtaken.

use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::State;
use ec2_isolation::ports::Fault;
use serde_json::{Value, json};

use crate::world::{ISOLATION, TRANSIT, Trouble, World};
use crate::{
    A, B, C, as_request, cutting, deliver, die, entries, event, fleet, isolated, issued_before, listing, quick_fleet,
    run, set_state, succeeds,
};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

fn holding(seconds: u64) -> Value {
    let mut create = cutting(event("create"));
    create["ResourceProperties"]["HoldSeconds"] = json!(seconds.to_string());
    create
}

/// No interface was sent into a group of ours by a call that was sent after the Delete had succeeded.
fn assert_nothing_isolated_after_the_delete(world: &World, case: &str) {
    let data = world.data();
    let delete = event("delete")["RequestId"].as_str().unwrap().to_owned();
    let at = data.answers.iter().zip(&data.at_answers).find(|(answer, _)| answer.request_id == delete);
    let Some((answer, at)) = at.filter(|(answer, _)| answer.status == Status::Success) else { return };
    for ((action, what), called) in data.calls.iter().zip(&data.called_at) {
        let isolates = *action == SWAP && (what.contains(ISOLATION) || what.contains(TRANSIT));
        let log = || {
            let log = data.calls.iter().zip(&data.called_at);
            let lines =
                log.filter(|((action, _), _)| !action.contains("Attribute") || action.contains("NetworkInterface"));
            lines.map(|((action, what), at)| format!("\n  {:?} {action} {what}", *at - data.start)).collect::<String>()
        };
        let when = at.at - data.start;
        assert!(!isolates || *called <= at.at, "{case}: {what} after {}, {when:?}{}", answer.reason, log());
    }
}

#[tokio::test(start_paused = true)]
async fn delete_during_a_create_that_waits_in_a_hold() {
    // The second instance starts at different times of the hold.
    for (n, jitter) in (0..40).map(|n| (n, n % 4)) {
        let case = format!("{n}, jitter {jitter}");
        let world = fleet();
        world.hold_against();
        if jitter == 0 {
            (world.data().latency, world.data().stale_reads) = (Duration::from_millis(50), 0);
        } else {
            world.data().jitter = Some(n);
        }
        set_state(&world, B, "pending");
        let starting = async {
            tokio::time::sleep(Duration::from_millis(700 * n)).await;
            set_state(&world, B, "running");
        };
        let late = async {
            tokio::time::sleep(Duration::from_millis(400 * n)).await;
            run(&world, event("delete")).await
        };
        tokio::join!(run(&world, holding(10)), late, starting);
        assert_nothing_isolated_after_the_delete(&world, &case);
        assert_eq!(world.cards(), fleet().cards(), "{case}");
        assert_eq!(world.protections(), fleet().protections(), "{case}");
        let data = world.data();
        assert!(data.records.values().all(|record| record.state == State::Restored), "{case}");
        assert!(!data.tags.keys().any(|id| !id.starts_with("snap-")), "{case}: {:?}", data.tags);
        assert_eq!(data.violations, [""; 0], "{case}");
        let delete = data.answers.iter().find(|answer| answer.reason.contains("restore")).unwrap();
        assert_eq!(delete.status, Status::Success, "{case}: {}", delete.reason);
    }
}

/// The Create dies at any call after the Delete began; a second Delete finds what is left of it.
#[tokio::test(start_paused = true)]
async fn delete_during_a_create_that_waits_in_a_hold_and_dies() {
    for trouble in [Trouble::Dies, Trouble::DiesAfter] {
        for n in 0..24 {
            let case = format!("{trouble:?} {n}");
            let world = quick_fleet();
            world.hold_against();
            let doomed = async {
                let process = world.process();
                let ports = Ok(process.ports());
                let (worker, invocation) = (tokio::runtime::Handle::current(), crate::invocation());
                let work =
                    ec2_isolation::cloudformation::handler::handle(&ports, &worker, holding(5), &invocation, |_, _| {
                        process.clone()
                    });
                let time = tokio::time::sleep(Duration::from_millis(500 * n + 40));
                tokio::pin!(time);
                tokio::select! {
                    biased;
                    _ = work => {}
                    () = &mut time => process.kill(trouble),
                }
            };
            let late = async {
                tokio::time::sleep(Duration::from_millis(300 * (n % 12))).await;
                crate::run(&world, event("delete")).await
            };
            tokio::join!(doomed, late);
            assert_nothing_isolated_after_the_delete(&world, &case);
            let end = succeeds(&world, as_request("the end", event("delete"))).await;
            assert_eq!(world.cards(), fleet().cards(), "{case}: {}", end.reason);
            assert_eq!(world.protections(), fleet().protections(), "{case}: {}", end.reason);
            assert!(world.data().records.values().all(|record| record.state == State::Restored), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn delete_nothing_held_then_the_create_that_was_issued_five_minutes_earlier_is_delivered_for_the_first_time() {
    for way in [|event: Value| event, cutting] {
        let world = quick_fleet();
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "nothing to restore: no instance is held isolated");
        let late = deliver(&world, issued_before(300, way(event("create")))).await;
        assert_eq!(late.status, Status::Failed);
        assert!(late.reason.starts_with("superseded by request "), "{}", late.reason);
        assert_eq!((world.cards(), world.count(SWAP)), (quick_fleet().cards(), 0));
        assert_eq!((world.count("ec2:CreateSnapshots"), world.data().records.len()), (0, 0));
    }
}

/// The same of a Delete that keeps, whatever keeps it.
#[tokio::test(start_paused = true)]
async fn delete_that_keeps_nothing_then_the_create_that_was_issued_earlier_is_delivered_for_the_first_time() {
    for status in ["ROLLBACK_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_IN_PROGRESS"] {
        let world = quick_fleet();
        world.set_status(status);
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "nothing to restore: no instance is held isolated");
        let late = deliver(&world, issued_before(300, cutting(event("create")))).await;
        assert!(late.reason.starts_with("superseded by request "), "{status}: {}", late.reason);
        assert_eq!((world.cards(), world.count(SWAP)), (quick_fleet().cards(), 0), "{status}");
        // What a person deploys next counts.
        succeeds(&world, as_request("next", event("create"))).await;
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{status}");
    }
}

/// So does one that keeps what a request before has isolated: what the rolled-back update asked for besides is not isolated later.
#[tokio::test(start_paused = true)]
async fn delete_that_keeps_what_is_isolated_then_the_update_that_was_issued_earlier_is_delivered_for_the_first_time() {
    let world = quick_fleet();
    succeeds(&world, issued_before(600, event("create"))).await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    let kept = succeeds(&world, as_request("delete", event("delete"))).await;
    assert!(kept.reason.starts_with("2 instances kept isolated"), "{}", kept.reason);
    let update = issued_before(300, listing(&[A, B, C], as_request("update", event("update"))));
    let late = deliver(&world, update).await;
    assert!(late.reason.starts_with("superseded by request "), "{}", late.reason);
    assert_eq!((isolated(&world), world.state(A)), (vec!["eni-0a".into(), "eni-0b".into()], Some(State::Kept)));
    // A Delete that CloudFormation issued earlier, and that comes after what a person has deployed since, says nothing of that.
    world.set_status("UPDATE_COMPLETE");
    succeeds(&world, as_request("next", event("create"))).await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    deliver(&world, issued_before(100, as_request("late", event("delete")))).await;
    assert_eq!(world.data().intents.values().next().unwrap().0.kept, None);
}

/// CloudFormation gives the id of a request again; its URL is signed anew.
/// https://github.com/aws/aws-cdk/issues/35957
#[tokio::test(start_paused = true)]
async fn a_later_request_with_the_id_of_an_earlier_one_is_a_request_of_its_own() {
    let world = quick_fleet();
    succeeds(&world, issued_before(600, event("create"))).await;
    world.set_status("UPDATE_IN_PROGRESS");
    let update = |seconds, id, ids: &[&str]| issued_before(seconds, listing(ids, as_request(id, event("update"))));
    succeeds(&world, update(500, "one", &[A, B, C])).await;
    world.set_status("UPDATE_ROLLBACK_IN_PROGRESS");
    succeeds(&world, update(400, "back", &[A, B])).await;
    world.set_status("UPDATE_IN_PROGRESS");
    let answer = deliver(&world, update(300, "one", &[A, B, C])).await;
    assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    // The first one, delivered once more, is not.
    let late = deliver(&world, update(500, "one", &[A])).await;
    assert!(late.reason.starts_with("superseded by request "), "{}", late.reason);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);

    // The same of a Delete that failed.
    world.set_status("DELETE_IN_PROGRESS");
    world.data().always = Some((SWAP, Fault::Denied));
    let delete = |seconds| issued_before(seconds, as_request("delete", event("delete")));
    assert_eq!(deliver(&world, delete(200)).await.status, Status::Failed);
    world.data().always = None;
    let newer = issued_before(150, listing(&[A, B, C], as_request("between", event("update"))));
    succeeds(&world, newer).await;
    let end = deliver(&world, delete(100)).await;
    assert_eq!((end.status, world.cards()), (Status::Success, quick_fleet().cards()), "{}", end.reason);
}

#[tokio::test(start_paused = true)]
async fn an_older_update_with_on_removal_restore_is_first_delivered_after_a_newer_one() {
    let world = quick_fleet();
    succeeds(&world, issued_before(600, event("create"))).await;
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, listing(&[A, B, C], as_request("newer", event("update")))).await;
    let cards = world.cards();
    let mut older = issued_before(300, listing(&[A], as_request("older", event("update"))));
    older["ResourceProperties"]["OnRemoval"] = json!("Restore");
    let late = deliver(&world, older).await;
    assert_eq!(late.status, Status::Failed, "{}", late.reason);
    assert!(late.reason.starts_with("superseded by request newer"), "{}", late.reason);
    assert_eq!(world.cards(), cards);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
    // What was asked last is still what is wanted.
    let wanted = world.data().intents.values().next().unwrap().0.clone();
    assert_eq!((wanted.request_id.as_str(), wanted.held.len()), ("newer", 3));
}

#[tokio::test(start_paused = true)]
async fn an_older_update_that_lists_less_and_is_first_delivered_after_the_delete() {
    let world = quick_fleet();
    succeeds(&world, issued_before(600, event("create"))).await;
    succeeds(&world, event("delete")).await;
    let late = deliver(&world, issued_before(300, as_request("older", event("update")))).await;
    assert_eq!(late.status, Status::Failed, "{}", late.reason);
    assert_eq!((world.cards(), world.count(SWAP)), (quick_fleet().cards(), 4));
}

#[tokio::test(start_paused = true)]
async fn custom_resource_renamed_after_the_process_died_between_create_snapshots_and_saving() {
    for first in 0..2 {
        let world = quick_fleet();
        world.data().troubles_of.insert("ec2:CreateSnapshots", (first, Trouble::DiesAfter));
        die(&world, cutting(event("create"))).await;
        let taken = world.data().snapshots.len();
        assert!(taken > 0);
        let renamed = |mut event: Value| {
            event["LogicalResourceId"] = json!("Renamed");
            as_request("renamed", event)
        };
        world.set_status("UPDATE_IN_PROGRESS");
        let answer = succeeds(&world, renamed(cutting(event("create")))).await;
        assert_eq!(answer.data.snapshot_count, "2", "{}", answer.reason);
        assert_eq!(world.data().snapshots.len(), 2, "one set each");
        assert_eq!((entries(&world, "eni-0a"), entries(&world, "eni-0b")), (1, 1), "nobody passes twice");
    }
}

/// EC2 takes 50 changes of instances at once and then 5 a second: what waits for its turn meanwhile is not done for a request that
/// was overtaken.
#[tokio::test(start_paused = true)]
async fn delete_while_the_protections_of_a_create_wait_for_ec2s_pace() {
    for seconds in [4, 8] {
        let world = World::new();
        let ids: Vec<String> = (0..150).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
        for (n, id) in ids.iter().enumerate() {
            world.add(id, crate::world::VPC, &[(&format!("eni-{:x}", 0x1000 + n), &["sg-0a"])]);
        }
        {
            let mut data = world.data();
            (data.latency, data.buckets) = (Duration::from_millis(20), Some(std::collections::BTreeMap::new()));
        }
        let (cards, protections) = (world.cards(), world.protections());
        let mut create = event("create");
        create["ResourceProperties"]["InstanceIds"] = json!(ids);
        for option in ["ProtectInstances", "DisableInstanceMetadata"] {
            create["ResourceProperties"][option] = json!("true");
        }
        let late = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            assert_ne!(world.protections(), protections, "{seconds}");
            run(&world, event("delete")).await
        };
        tokio::join!(run(&world, create), late);
        let end = world.data().answers.last().unwrap().clone();
        assert_eq!(world.cards(), cards, "{seconds}: {}", end.reason);
        assert_eq!(world.protections(), protections, "{seconds}: {}", end.reason);
    }
}

/// What waits while others of its kind are under way is not done any more, either.
#[tokio::test(start_paused = true)]
async fn delete_while_tags_snapshots_and_locks_of_a_create_wait_for_others() {
    for action in ["ec2:CreateTags", "ec2:CreateSnapshots", "ec2:LockSnapshot"] {
        let world = World::new();
        let ids: Vec<String> = (0..60).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
        for (n, id) in ids.iter().enumerate() {
            world.add(id, crate::world::VPC, &[(&format!("eni-{:x}", 0x1000 + n), &["sg-0a"])]);
        }
        {
            let mut data = world.data();
            (data.latency, data.stale_reads) = (Duration::from_millis(20), 0);
            data.slow = Some((action, "", Duration::from_secs(60)));
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut create = listing(&ids, event("create"));
        create["ResourceProperties"]["LockSnapshotDays"] = json!("7");
        let late = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_ne!(world.count(action), 0);
            succeeds(&world, event("delete")).await;
            tokio::time::Instant::now()
        };
        let (_, ended) = tokio::join!(run(&world, create), late);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let data = world.data();
        let late = data.calls.iter().zip(&data.called_at).filter(|((of, _), at)| *of == action && **at > ended);
        assert_eq!(late.count(), 0, "{action} after the Delete's answer");
    }
}

/// A lease that could not be taken again is over: whoever is about to leave the transit group asks once more.
#[tokio::test(start_paused = true)]
async fn delete_once_a_create_in_the_transit_group_could_not_take_its_lease_again() {
    let world = quick_fleet();
    world.data().always_on = Some((SWAP, format!("eni-0b [{ISOLATION}]"), Fault::Server));
    world.data().slow = Some((SWAP, "eni-0b [sg-0a11", Duration::from_secs(14)));
    let late = async {
        // It waits for the lease.
        tokio::time::sleep(Duration::from_secs(8)).await;
        run(&world, event("delete")).await;
        tokio::time::Instant::now()
    };
    let meddling = async {
        // The lease is over after the hold and half a minute.
        tokio::time::sleep(Duration::from_secs(34)).await;
        world.data().troubles_of.insert("dynamodb:TransactWriteItems", (0, Trouble::Fails(Fault::Server)));
        while world.data().troubles_of.contains_key("dynamodb:TransactWriteItems") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // The change that is under way now fails as well.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.data().always_on = None;
    };
    let (_, ended, ()) = tokio::join!(run(&world, listing(&[B], holding(5))), late, meddling);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_nothing_isolated_after_the_delete(&world, "a lease that was not taken again");
    let data = world.data();
    assert!(data.calls.iter().zip(&data.called_at).all(|((of, _), at)| *of != SWAP || *at <= ended));
    drop(data);
    assert_eq!(world.cards(), quick_fleet().cards());
}
