//! A refusal that says "not there" is a reading that shows nothing: it is believed when it is the same five seconds later.
//!
//! https://github.com/hashicorp/packer/issues/3627
//! https://github.com/hashicorp/terraform-provider-aws/issues/35568
//! https://github.com/boto/boto3/issues/620

use std::time::Duration;

use ec2_isolation::model::State;
use serde_json::json;
use tokio::time::Instant;

use crate::world::{ISOLATION, TRANSIT, World, groups};
use crate::{A, cutting, deliver, entries, event, fails, isolated, quick_fleet, succeeds};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";

/// Changes do not find it for so long, from the `n`th change of groups on.
fn lose(world: &World, id: &'static str, n: usize, seconds: u64) {
    world.before_call_of(SWAP, n, move |data| {
        data.unseen.insert(id.to_owned(), Instant::now() + Duration::from_secs(seconds));
    });
}

fn is_cut(world: &World) -> bool {
    world.data().records.values().all(|record| record.state == State::Isolated && record.connections_cut)
}

#[tokio::test(start_paused = true)]
async fn an_isolation_group_that_changes_do_not_find_for_4_s() {
    for way in [|event| event, cutting] {
        let world = quick_fleet();
        lose(&world, ISOLATION, 0, 4);
        let answer = succeeds(&world, way(event("create"))).await;
        assert_eq!((isolated(&world).len(), answer.reason.as_str()), (2, HEADLINE));
        assert!(world.data().in_transit().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_isolation_group_that_is_gone_is_named_after_a_second_refusal() {
    let world = quick_fleet();
    lose(&world, ISOLATION, 0, 36_000);
    let reason = fails(&world, event("create")).await;
    assert!(reason.contains("InvalidGroup.NotFound"), "{reason}");
    let lasted = world.data().start.elapsed();
    assert!(lasted >= Duration::from_secs(5) && lasted < Duration::from_secs(20), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transit_group_that_changes_do_not_find_for_4_s() {
    let world = quick_fleet();
    lose(&world, TRANSIT, 0, 4);
    let answer = succeeds(&world, cutting(event("create"))).await;
    assert_eq!((isolated(&world).len(), answer.reason.as_str(), is_cut(&world)), (2, HEADLINE, true));
    assert!(world.data().swapped_at[1] < Duration::from_secs(1), "they wait in isolation");
}

#[tokio::test(start_paused = true)]
async fn a_transit_group_that_is_gone_is_named_and_the_instances_are_isolated() {
    let world = quick_fleet();
    lose(&world, TRANSIT, 0, 36_000);
    let answer = deliver(&world, cutting(event("create"))).await;
    assert!(answer.reason.contains("InvalidGroup.NotFound"), "{}", answer.reason);
    assert_eq!((isolated(&world).len(), is_cut(&world)), (2, false));
    assert!(entries(&world, "eni-0a") < 10, "it is not asked for without end");
}

/// Both are inside when it begins.
#[tokio::test(start_paused = true)]
async fn the_way_out_does_not_find_the_isolation_group_or_the_interface_for_4_s() {
    for lost in [ISOLATION, "eni-0a"] {
        let world = quick_fleet();
        lose(&world, lost, 2, 4);
        let answer = succeeds(&world, cutting(event("create"))).await;
        assert_eq!((isolated(&world).len(), answer.reason.as_str(), is_cut(&world)), (2, HEADLINE, true), "{lost}");
        assert_eq!((entries(&world, "eni-0a"), entries(&world, "eni-0b")), (1, 1), "{lost}");
    }
}

/// It was believed to be gone, and is not.
#[tokio::test(start_paused = true)]
async fn an_interface_that_the_way_out_does_not_find_for_8_s_is_taken_out_after_it() {
    let world = quick_fleet();
    lose(&world, "eni-0a", 2, 8);
    let answer = deliver(&world, cutting(event("create"))).await;
    assert!(world.data().in_transit().is_empty(), "{}", answer.reason);
    assert_eq!(isolated(&world).len(), 2, "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn a_delete_does_not_find_an_original_group_for_4_s() {
    for lost in ["sg-0c", "eni-0b"] {
        let world = quick_fleet();
        succeeds(&world, event("create")).await;
        lose(&world, lost, 0, 4);
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!((answer.reason.as_str(), world.cards()), ("2 instances restored", quick_fleet().cards()), "{lost}");
    }
}

/// It was deleted a moment ago, and readings show it a little longer.
#[tokio::test(start_paused = true)]
async fn a_delete_of_whose_original_groups_one_is_just_gone() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    lose(&world, "sg-0c", 0, 36_000);
    world.before_call_of(SWAP, 2, |data| drop(data.groups.remove(&"sg-0c".parse().unwrap())));
    let answer = succeeds(&world, event("delete")).await;
    assert!(answer.reason.starts_with("2 instances restored"), "{}", answer.reason);
    assert_eq!(world.cards()["eni-0b"], groups(&["sg-0b"]));
}

#[tokio::test(start_paused = true)]
async fn snapshots_that_locks_and_tags_do_not_find_for_4_s() {
    let world = quick_fleet();
    world.data().instances.get_mut(&A.parse().unwrap()).unwrap().volumes.insert(
        "vol-0f".parse().unwrap(),
        ec2_isolation::model::Volume { device: "/dev/sdf".to_owned(), delete_on_termination: true },
    );
    world.before_call_of("ec2:CreateSnapshots", 0, |data| {
        for snapshot in ["snap-10", "snap-11", "snap-12"] {
            data.unseen.insert(snapshot.to_owned(), Instant::now() + Duration::from_secs(4));
        }
    });
    let mut create = event("create");
    create["ResourceProperties"]["LockSnapshotDays"] = json!("30");
    let answer = succeeds(&world, create).await;
    let data = world.data();
    assert_eq!((data.locks.len(), data.snapshots.len()), (3, 3), "{}", answer.reason);
    assert!(data.snapshots.iter().all(|snapshot| snapshot.labelled), "{}", answer.reason);
}
