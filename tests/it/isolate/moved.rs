//! Interfaces that move while an instance is isolated: each keeps its true originals, and none is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::State;
use serde_json::Value;

use crate::world::{ISOLATION, Trouble, World, groups};
use crate::{
    A, B, C, D, as_request, cutting, deliver, die, event, fails, isolated, listing, quick_fleet, rerun, succeeds,
};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

/// A with a second interface, isolated together with B.
async fn two_isolated() -> World {
    let world = quick_fleet();
    world.attach(A, "eni-0f", &["sg-0a", "sg-0b"]);
    world.hold_against();
    succeeds(&world, event("create")).await;
    world
}

fn cards(world: &World, interfaces: &[&str]) -> Vec<(String, BTreeSet<String>)> {
    let all = world.cards().into_iter().filter(|(id, _)| interfaces.contains(&id.as_str()));
    all.map(|(id, groups)| (id, groups.iter().map(ToString::to_string).collect())).collect()
}

#[tokio::test(start_paused = true)]
async fn moved_from_a_to_b_and_given_other_groups_in_between() {
    let world = two_isolated().await;
    world.move_to("eni-0f", B);
    crate::move_by_hand(&world, "eni-0f", &["sg-0d"]);
    let tags = world.count("ec2:CreateTags");
    let answer = deliver(&world, rerun(&[A, B])).await;
    assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"]);
    assert!(world.count("ec2:CreateTags") - tags <= 6, "{} CreateTags", world.count("ec2:CreateTags") - tags);
    let of = |instance: &str| world.data().records[&instance.parse().unwrap()].interfaces.clone();
    assert_eq!(of(A)[&"eni-0f".parse().unwrap()], groups(&["sg-0a", "sg-0b"]));
    succeeds(&world, event("delete")).await;
    let restored = world.cards();
    assert_eq!((&restored["eni-0a"], &restored["eni-0b"]), (&groups(&["sg-0a"]), &groups(&["sg-0b", "sg-0c"])));
    let differs = answer.reason.contains("eni-0f is in two records with different groups");
    assert!(differs || restored["eni-0f"] == groups(&["sg-0a", "sg-0b"]), "{restored:?}: {}", answer.reason);
    assert_eq!(world.data().violations, [""; 0]);
}

/// As an earlier version left them.
#[tokio::test(start_paused = true)]
async fn both_records_hold_a_moved_interface_with_different_groups() {
    for at in [A, B] {
        let world = two_isolated().await;
        world.move_to("eni-0f", at);
        let recorded = ("eni-0f".parse().unwrap(), groups(&["sg-0d"]));
        world.data().records.get_mut(&B.parse().unwrap()).unwrap().interfaces.extend([recorded]);
        let tags = world.count("ec2:CreateTags");
        let answer = deliver(&world, rerun(&[A, B])).await;
        assert_eq!(answer.status, Status::Success, "{at}: {}", answer.reason);
        assert!(world.count("ec2:CreateTags") - tags <= 6, "{at}: livelock");
        assert!(world.data().start.elapsed() < Duration::from_secs(30), "{at}");
        for (instance, before) in [(A, ["sg-0a", "sg-0b"].as_slice()), (B, &["sg-0d"])] {
            let record = world.data().records[&instance.parse().unwrap()].clone();
            assert_eq!(record.interfaces[&"eni-0f".parse().unwrap()], groups(before), "{at}: each keeps its originals");
        }
        assert!(answer.reason.contains("eni-0f is in two records with different groups"), "{at}: {}", answer.reason);
        let answer = succeeds(&world, event("delete")).await;
        let speaks = if at == A { ["sg-0a", "sg-0b"].as_slice() } else { &["sg-0d"] };
        assert_eq!(world.cards()["eni-0f"], groups(speaks), "{at}: {}", answer.reason);
        assert!(answer.reason.contains("eni-0f is in two records with different groups"), "{at}: {}", answer.reason);
        assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Restored)), "{at}");
    }
}

/// What becomes of the interface after the process was killed.
const FATES: [&str; 4] =
    ["detached", "moved to a listed one", "moved to one that is not listed", "moved to an unknown one"];

/// Killed with every interface of A and D in the transit group; then `eni-0d2` leaves D.
async fn killed_in_the_passage(fate: &str) -> World {
    let world = quick_fleet();
    world.hold_against();
    world.data().troubles_of.insert(SWAP, (2, Trouble::DiesAfter));
    die(&world, listing(&[A, D], cutting(event("create")))).await;
    assert!(world.data().in_transit().contains(&"eni-0d2".to_owned()));
    match fate {
        "detached" => world.detach("eni-0d2"),
        "moved to a listed one" => world.move_to("eni-0d2", A),
        "moved to one that is not listed" => world.move_to("eni-0d2", C),
        _ => world.move_to("eni-0d2", "i-0ffff"),
    }
    world
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_passage_then_the_interface_is_detached_or_moves_deliver_again_or_update() {
    for fate in FATES {
        for next in ["deliver again", "update", "update without it"] {
            let case = format!("{fate}, {next}");
            let world = killed_in_the_passage(fate).await;
            let event = match next {
                "deliver again" => listing(&[A, D], cutting(event("create"))),
                "update" => listing(&[A, D], as_request("update", cutting(event("update")))),
                _ => listing(&[A], as_request("update", cutting(event("update")))),
            };
            let answer = deliver(&world, event).await;
            assert_eq!(world.data().at_answers[0].in_transit, [""; 0], "{case}: {}", answer.reason);
            assert_eq!(world.cards()["eni-0d2"], groups(&[ISOLATION]), "{case}: {}", answer.reason);
            assert_eq!(isolated(&world), ["eni-0a", "eni-0d1", "eni-0d2"], "{case}");
            assert_eq!(answer.status, Status::Success, "{case}: {}", answer.reason);

            let end = deliver(&world, crate::event("delete")).await;
            assert_eq!(end.status, Status::Success, "{case}: {}", end.reason);
            assert_eq!(world.cards(), quick_fleet().cards(), "{case}: {}", end.reason);
            assert_eq!(world.data().violations, [""; 0], "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_passage_then_the_only_interface_is_detached() {
    let world = quick_fleet();
    world.data().troubles_of.insert(SWAP, (1, Trouble::DiesAfter));
    die(&world, cutting(event("create"))).await;
    world.detach("eni-0a");
    let reason = fails(&world, cutting(event("create"))).await;
    assert!(reason.contains(&format!("{A} (running) has no network interface")), "{reason}");
    assert_eq!((isolated(&world).len(), world.data().in_transit()), (2, vec![]));
    let end = succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), quick_fleet().cards(), "{}", end.reason);
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_passage_then_moved_and_deleted_or_rolled_back() {
    for fate in FATES {
        for status in ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"] {
            let world = killed_in_the_passage(fate).await;
            world.set_status(status);
            let answer = succeeds(&world, event("delete")).await;
            assert_eq!(world.data().in_transit(), [""; 0], "{fate}, {status}: {}", answer.reason);
            if status == "DELETE_IN_PROGRESS" {
                assert_eq!(world.cards(), quick_fleet().cards(), "{fate}: {}", answer.reason);
            } else {
                assert_eq!(isolated(&world), ["eni-0a", "eni-0d1", "eni-0d2"], "{fate}: {}", answer.reason);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_isolated_interface_that_is_detached_is_restored_wherever_it_is() {
    for fate in ["detached", "moved to an unknown one", "moved to one that is not listed"] {
        let world = two_isolated().await;
        let start = {
            let fresh = quick_fleet();
            fresh.attach(A, "eni-0f", &["sg-0a", "sg-0b"]);
            fresh.cards()
        };
        match fate {
            "detached" => world.detach("eni-0f"),
            "moved to one that is not listed" => world.move_to("eni-0f", C),
            _ => world.move_to("eni-0f", "i-0ffff"),
        }
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), start, "{fate}: {}", answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn an_interface_without_any_group() {
    for way in [|event: Value| event, cutting] {
        let world = quick_fleet();
        world.attach(A, "eni-0f", &[]);
        let answer = succeeds(&world, way(event("create"))).await;
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"]);
        assert_eq!(answer.reason, "2 instances isolated (3 interfaces), 2 snapshots");
        let record = world.data().records[&A.parse().unwrap()].clone();
        assert_eq!(record.interfaces[&"eni-0f".parse().unwrap()], groups(&[]));
        let reason = fails(&world, event("delete")).await;
        assert!(reason.contains(&format!("{A}: eni-0f stays isolated, it had no security group")), "{reason}");
        assert_eq!(cards(&world, &["eni-0a"]), [("eni-0a".to_owned(), ["sg-0a".to_owned()].into())]);
        // As the text says.
        crate::move_by_hand(&world, "eni-0f", &["sg-0d"]);
        succeeds(&world, as_request("again", event("delete"))).await;
        assert_eq!(world.state(A), Some(State::Restored));
    }
}
