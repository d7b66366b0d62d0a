//! An interface of another incident on an instance of ours: it alone is left to that stack, and the rest is isolated and stays so.

use serde_json::{Value, json};

use super::tags::{OTHER_STACK, other_incident};
use crate::world::{Trouble, World, groups};
use crate::{
    A, B, D, as_request, cutting, die, event, fails, isolated, listing, move_by_hand, quick_fleet, rerun, succeeds,
};

fn partial(mut event: Value) -> Value {
    event["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
    as_request("partial", event)
}

fn left(instance: &str, interface: &str) -> String {
    format!("{instance}: {interface} is already isolated by {OTHER_STACK}, and was left to that stack: ")
}

/// D with both of its interfaces in the transit group, and a third one that another incident isolates.
async fn killed_in_the_passage() -> World {
    let world = quick_fleet();
    world.hold_against();
    world.data().troubles_of.insert("ec2:ModifyNetworkInterfaceAttribute", (1, Trouble::DiesAfter));
    die(&world, listing(&[D], cutting(event("create")))).await;
    assert_eq!(world.data().in_transit(), ["eni-0d1", "eni-0d2"]);
    let other = other_incident(&world);
    world.attach(D, "eni-0f", &[other]);
    world
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_passage_then_an_interface_of_another_incident_is_attached() {
    let create = || listing(&[D], cutting(event("create")));
    for next in [create(), as_request("rerun", create())] {
        let world = killed_in_the_passage().await;
        let reason = fails(&world, next).await;
        assert_eq!(world.data().in_transit(), [""; 0], "{reason}");
        assert_eq!(isolated(&world), ["eni-0d1", "eni-0d2"], "{reason}");
        assert_eq!(world.cards()["eni-0f"], groups(&["sg-0f"]));
        assert!(reason.contains(&left(D, "eni-0f")) && !reason.contains("CompromisedInstanceList"), "{reason}");
        let answer = succeeds(&world, partial(create())).await;
        assert_eq!((answer.data.not_isolated, world.data().in_transit().len()), (format!("{D}/eni-0f"), 0));
        succeeds(&world, event("delete")).await;
        let start = quick_fleet().cards();
        assert_eq!((&world.cards()["eni-0d1"], &world.cards()["eni-0d2"]), (&start["eni-0d1"], &start["eni-0d2"]));
        assert_eq!(world.cards()["eni-0f"], groups(&["sg-0f"]));
        assert_eq!(world.data().violations, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_interface_of_another_incident_is_attached_and_the_instances_own_is_moved_back() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    let other = other_incident(&world);
    world.attach(B, "eni-0f", &[other]);
    move_by_hand(&world, "eni-0b", &["sg-0b", "sg-0c"]);
    let reason = fails(&world, rerun(&[A, B])).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{reason}");
    assert!(reason.starts_with("1 of 2 instances isolated (2 interfaces)"), "{reason}");
    assert!(reason.contains(&left(B, "eni-0f")), "{reason}");
    assert_eq!(world.cards()["eni-0f"], groups(&[other]));
    let answer = succeeds(&world, partial(rerun(&[A, B]))).await;
    assert_eq!(answer.data.not_isolated, format!("{B}/eni-0f"));
}

/// Also where both interfaces were isolated by us, and somebody gave one to the other incident.
#[tokio::test(start_paused = true)]
async fn one_interface_was_given_to_another_incident_and_the_other_is_moved_back() {
    let world = quick_fleet();
    succeeds(&world, listing(&[D], event("create"))).await;
    let other = other_incident(&world);
    move_by_hand(&world, "eni-0d1", &[other]);
    move_by_hand(&world, "eni-0d2", &["sg-0b", "sg-0d"]);
    let reason = fails(&world, rerun(&[D])).await;
    assert_eq!(isolated(&world), ["eni-0d2"], "{reason}");
    assert_eq!(world.cards()["eni-0d1"], groups(&[other]), "{reason}");
    assert!(reason.contains(&left(D, "eni-0d1")), "{reason}");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0d2"], quick_fleet().cards()["eni-0d2"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_a_record_has_one_interface_in_another_incident_and_one_open() {
    for way in [|event: Value| event, cutting] {
        let world = quick_fleet();
        let other = other_incident(&world);
        move_by_hand(&world, "eni-0d1", &[other]);
        let start = world.cards();
        let create = || listing(&[A, D], way(event("create")));
        let reason = fails(&world, create()).await;
        assert_eq!(isolated(&world), ["eni-0a", "eni-0d2"], "{reason}");
        assert!(reason.contains(&left(D, "eni-0d1")), "{reason}");
        let answer = succeeds(&world, partial(create())).await;
        assert_eq!(answer.data.not_isolated, format!("{D}/eni-0d1"));
        assert!(
            answer.reason.starts_with("1 of 2 instances isolated (2 interfaces), 2 snapshots"),
            "{}",
            answer.reason
        );
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), start);
    }
}
