//! EC2's reads trail its writes: what a process that died has changed is not visible at once, and is not taken for unchanged.

use ec2_isolation::model::State;
use serde_json::{Value, json};

use crate::world::{self, Trouble, World};
use crate::{A, die, event, fleet, isolated, succeeds, with};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

/// A is isolated and every read shows it.
async fn isolated_fleet() -> World {
    let world = fleet();
    succeeds(&world, with("create", "InstanceIds", json!([A]))).await;
    world.data().calm();
    world.data().stale_reads = 12;
    world
}

fn move_by_hand(world: &World, group: &str) {
    world.data().put_back(&"eni-0a".parse().unwrap(), world::groups(&[group]));
}

fn rerun() -> Value {
    with("update", "InstanceIds", json!([A]))
}

/// The event as a request of its own.
fn again(mut event: Value) -> Value {
    event["RequestId"] = json!("again");
    event
}

/// The next process dies right after its first change of an interface.
async fn dies_after_a_swap(world: &World, event: Value) {
    world.data().troubles_of.insert(SWAP, (0, Trouble::DiesAfter));
    die(world, event).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_restores_what_an_update_isolated_again_unseen() {
    for by_hand in ["sg-0a", "sg-0d"] {
        let world = isolated_fleet().await;
        move_by_hand(&world, by_hand);
        dies_after_a_swap(&world, rerun()).await;
        assert_eq!(isolated(&world), ["eni-0a"], "{by_hand}: what nobody sees yet");
        succeeds(&world, event("delete")).await;
        assert_eq!(isolated(&world), [""; 0], "{by_hand}");
        assert_eq!(world.state(A), Some(State::Restored));
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_isolates_what_a_delete_restored_unseen() {
    let world = isolated_fleet().await;
    dies_after_a_swap(&world, event("delete")).await;
    assert_eq!(isolated(&world), [""; 0]);
    succeeds(&world, rerun()).await;
    assert_eq!(isolated(&world), ["eni-0a"]);
    succeeds(&world, again(event("delete"))).await;
    assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0a"]));
}

#[tokio::test(start_paused = true)]
async fn a_create_after_a_restore_that_is_not_visible_yet_records_what_the_interface_had() {
    let world = isolated_fleet().await;
    world.data().stale_reads = 2;
    succeeds(&world, event("delete")).await;
    // As the next reads see it.
    world.data().stale_reads = 1;
    world.data().show(&"eni-0a".parse().unwrap(), world::groups(&[world::ISOLATION]), 3);
    succeeds(&world, rerun()).await;
    assert_eq!(isolated(&world), ["eni-0a"]);
    succeeds(&world, again(event("delete"))).await;
    assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0a"]));
}

/// The groups carry no tag here: the record alone says whose they are.
#[tokio::test(start_paused = true)]
async fn a_delete_restores_from_the_group_that_an_update_was_about_to_replace() {
    for trouble in [Trouble::Dies, Trouble::DiesAfter] {
        let world = isolated_fleet().await;
        world.data().groups.get_mut(&world::ISOLATION.parse().unwrap()).unwrap().role = None;
        world.data().troubles_of.insert(SWAP, (0, trouble));
        let mut update = rerun();
        update["ResourceProperties"]["IsolatedSecurityGroupId"] = json!(world::REPLACEMENT);
        die(&world, update).await;
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0a"]), "{trouble:?}");
    }
}
