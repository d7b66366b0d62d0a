//! Round trips, calls, sizes.

use std::time::Duration;

use serde_json::json;

use crate::world::{VPC, World};
use crate::{event, isolated, succeeds};

fn many(count: usize, interfaces: usize) -> (World, Vec<String>) {
    let world = World::new();
    let ids: Vec<String> = (0..count).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
    for (n, id) in ids.iter().enumerate() {
        let own: Vec<String> = (0..interfaces).map(|k| format!("eni-{:x}", 0x10000 + n * 16 + k)).collect();
        let cards: Vec<(&str, &[&str])> = own.iter().map(|id| (id.as_str(), ["sg-0a", "sg-0b"].as_slice())).collect();
        world.add(id, VPC, &cards);
    }
    (world, ids)
}

/// With everything on, or nothing but the isolation itself.
async fn create(world: &World, ids: &[String], everything: &str) -> ec2_isolation::answer::Answer {
    let mut create = event("create");
    create["ResourceProperties"]["InstanceIds"] = json!(ids);
    for option in ["SnapshotVolumes", "ProtectInstances"] {
        create["ResourceProperties"][option] = json!(everything);
    }
    succeeds(world, create).await
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_contained_after_three_sequential_round_trips() {
    let (world, ids) = many(1, 1);
    create(&world, &ids, "true").await;
    // Every call takes a second: describe, record, swap.
    assert_eq!(world.data().swapped_at, [Duration::from_secs(3)]);
}

#[tokio::test(start_paused = true)]
async fn one_more_instance_adds_at_most_four_calls() {
    let calls = |count| async move {
        let (world, ids) = many(count, 1);
        create(&world, &ids, "false").await;
        world.data().calls.len()
    };
    let (one, two, ten) = (calls(1).await, calls(2).await, calls(10).await);
    assert!(two - one <= 4, "{one} -> {two}");
    assert!(ten - one <= 9 * 4, "{one} -> {ten}");
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_four_instances_are_isolated_and_restored() {
    for (interfaces, total) in [(1, 204), (4, 816)] {
        let (world, ids) = many(204, interfaces);
        let start = world.cards();
        let answer = create(&world, &ids, "true").await;
        assert_eq!(isolated(&world).len(), total);
        assert_eq!(answer.reason, format!("204 instances isolated ({total} interfaces), 204 snapshots"));
        assert_eq!(answer.data.isolated_instance_count, "204");
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), start);
    }
}
