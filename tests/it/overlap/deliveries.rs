//! Invocations that overlap: whoever ends last, what was asked last is what is.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::State;
use serde_json::json;

use crate::{A, D, deliver, event, fleet, isolated, run, with};

#[tokio::test(start_paused = true)]
async fn a_delete_that_overtakes_a_running_create_wins() {
    // The Create's calls take a second each; the Delete starts after every possible number of them.
    for delay in 0..25 {
        let world = fleet();
        let start = world.cards();
        let late = async {
            tokio::time::sleep(std::time::Duration::from_millis(1000 * delay + 500)).await;
            run(&world, event("delete")).await
        };
        tokio::join!(run(&world, event("create")), late);
        assert_eq!(world.cards(), start, "after {delay} s");
        assert_eq!(world.data().answers.len(), 2, "after {delay} s");
        assert!(world.data().records.values().all(|record| record.state == State::Restored), "after {delay} s");
    }
}

#[tokio::test(start_paused = true)]
async fn two_deliveries_of_one_create_record_the_originals_once() {
    let world = fleet();
    tokio::join!(run(&world, event("create")), run(&world, event("create")));
    let answers = world.data().answers.clone();
    assert!(answers.iter().all(|answer| answer.status == Status::Success), "{answers:?}");
    assert_eq!(answers[0].physical_resource_id, answers[1].physical_resource_id);
    let record = world.data().records[&A.parse().unwrap()].clone();
    assert_eq!(record.interfaces[&"eni-0a".parse().unwrap()], crate::world::groups(&["sg-0a"]));
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_one_create_at_once_take_one_set_of_snapshots() {
    for (seed, delay) in (0..40).map(|n| (n, 400 * (n % 20))) {
        let world = fleet();
        world.data().jitter = Some(seed);
        let late = async {
            tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
            run(&world, event("create")).await
        };
        tokio::join!(run(&world, event("create")), late);
        let answers = world.data().answers.clone();
        assert!(answers.iter().all(|answer| answer.status == Status::Success), "{seed}: {answers:?}");
        assert_eq!(world.count("ec2:CreateSnapshots"), 2, "{seed}");
        assert!(answers.iter().all(|answer| answer.data.snapshot_count == "2"), "{seed}: {answers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_delivered_again_after_the_delete_isolates_nothing() {
    let world = fleet();
    let start = world.cards();
    deliver(&world, event("create")).await;
    deliver(&world, event("delete")).await;
    let late = deliver(&world, event("create")).await;
    assert_eq!(late.status, Status::Failed);
    assert!(late.reason.starts_with("superseded by request "), "{}", late.reason);
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn an_update_delivered_again_after_its_rollback_changes_nothing() {
    let world = fleet();
    deliver(&world, event("create")).await;
    deliver(&world, event("update")).await;
    let mut back = with("update", "InstanceIds", json!([A]));
    back["RequestId"] = json!("the rollback");
    deliver(&world, back).await;
    let cards = world.cards();
    deliver(&world, event("update")).await;
    assert_eq!(world.cards(), cards);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_taken_back_while_it_is_under_way_loses_no_original() {
    // Calls take from a quarter of a second to two; the second update starts at any moment after the first said what it wants.
    for (n, delay) in (0..160).map(|n| (n, n % 40)) {
        let world = fleet();
        let start = world.cards();
        deliver(&world, with("create", "InstanceIds", json!([A, D]))).await;
        world.set_status("UPDATE_IN_PROGRESS");
        world.data().jitter = Some(n);
        let update = |ids: serde_json::Value| {
            let mut update = with("update", "OnRemoval", json!("Restore"));
            update["RequestId"] = json!(ids.to_string());
            update["ResourceProperties"]["InstanceIds"] = ids;
            update
        };
        let late = async {
            tokio::time::sleep(std::time::Duration::from_millis(2500 + 500 * delay)).await;
            run(&world, update(json!([A, D]))).await
        };
        tokio::join!(run(&world, update(json!([A]))), late);
        assert_eq!(isolated(&world), ["eni-0a", "eni-0d1", "eni-0d2"], "{n}");
        world.set_status("DELETE_IN_PROGRESS");
        assert_eq!(deliver(&world, event("delete")).await.reason, "2 instances restored", "{n}");
        assert_eq!(world.cards(), start, "{n}");
    }
}
