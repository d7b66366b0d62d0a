//! Fail at call n, for every n: one answer, nothing lost, and a final Delete brings the world back to its start.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::ports::Fault;
use serde_json::{Value, json};

use crate::world::{Trouble, World};
use crate::{A, B, C, cutting, deliver, event, fleet, with, with_everything};

const TROUBLES: [Trouble; 10] = [
    Trouble::Unanswered,
    Trouble::Fails(Fault::Throttled),
    Trouble::Fails(Fault::Server),
    Trouble::Fails(Fault::Connection),
    Trouble::Fails(Fault::TimedOut),
    Trouble::Fails(Fault::Denied),
    Trouble::Fails(Fault::Garbled),
    Trouble::Fails(Fault::Busy),
    Trouble::Panics,
    Trouble::Hangs,
];

/// A situation, the event under test, and which instances must be isolated when it has succeeded. `way` is how the
/// instances are isolated.
async fn prepared(kind: &str, way: fn(Value) -> Value) -> (World, Value, Vec<&'static str>) {
    let world = fleet();
    world.hold_against();
    match kind {
        "Create" => (world, way(with_everything(event("create"))), vec!["eni-0a", "eni-0b"]),
        "Update" => {
            deliver(&world, way(with_everything(event("create")))).await;
            world.set_status("UPDATE_IN_PROGRESS");
            (world, way(with_everything(with("update", "OnRemoval", json!("Restore")))), vec!["eni-0b", "eni-0c"])
        }
        _ => {
            deliver(&world, way(with_everything(event("create")))).await;
            (world, event("delete"), vec![])
        }
    }
}

fn directly(event: Value) -> Value {
    event
}

/// Whatever differs from the start has a record of what it was.
fn assert_recorded(world: &World, start: &World, when: &str) {
    let before = start.cards();
    for (interface, groups) in world.cards() {
        if before[&interface] != groups {
            let data = world.data();
            let recorded = data.records.values().find_map(|record| record.interfaces.get(&interface.parse().unwrap()));
            assert_eq!(recorded, Some(&before[&interface]), "{when}: {interface}");
        }
    }
}

async fn fail_at_every_call(kind: &str, way: fn(Value) -> Value) {
    for trouble in TROUBLES {
        for n in 1.. {
            let when = format!("{kind}, {trouble:?} at call {n}");
            let (world, event, isolated) = prepared(kind, way).await;
            let already = world.data().calls.len();
            world.data().troubles.insert(already + n, trouble);
            let answer = deliver(&world, event.clone()).await;
            let struck = world.data().troubles.is_empty();
            assert_recorded(&world, &fleet(), &when);
            if answer.status == Status::Success {
                assert_eq!(crate::isolated(&world), isolated, "{when}");
            }
            world.data().troubles.clear();

            // Lambda or a person sends it again; the person's has an id of its own.
            let again = deliver(&world, event.clone()).await;
            assert_eq!(again.status, Status::Success, "{when}: {}", again.reason);
            assert_eq!(crate::isolated(&world), isolated, "{when}");
            assert_eq!(world.data().in_transit(), [""; 0], "{when}");

            world.set_status("DELETE_IN_PROGRESS");
            let mut end = crate::event("delete");
            end["RequestId"] = json!("the end");
            let end = deliver(&world, end).await;
            assert_eq!(end.status, Status::Success, "{when}: {}", end.reason);
            assert_eq!(world.cards(), fleet().cards(), "{when}");
            assert_eq!(world.protections(), fleet().protections(), "{when}");
            assert_eq!(world.data().violations, [""; 0], "{when}");
            if !struck {
                assert!(n > 8, "{when}: too few calls to have been counted");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_survives_any_trouble_at_any_call() {
    fail_at_every_call("Create", directly).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_survives_any_trouble_at_any_call() {
    fail_at_every_call("Update", directly).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_survives_any_trouble_at_any_call() {
    fail_at_every_call("Delete", directly).await;
}

#[tokio::test(start_paused = true)]
async fn a_create_that_cuts_connections_survives_any_trouble_at_any_call() {
    fail_at_every_call("Create", cutting).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_that_cuts_connections_survives_any_trouble_at_any_call() {
    fail_at_every_call("Update", cutting).await;
}

/// Killed at any call, a rollback's Delete, which releases nothing, leaves nobody in the transit group.
#[tokio::test(start_paused = true)]
async fn a_create_killed_at_any_call_and_rolled_back_leaves_nobody_in_the_transit_group() {
    for trouble in [Trouble::Dies, Trouble::DiesAfter] {
        for n in 1..100 {
            let world = fleet();
            world.data().stale_reads = 3;
            world.data().troubles.insert(n, trouble);
            crate::die(&world, cutting(event("create"))).await;
            let when = format!("{trouble:?} at call {n}");
            assert_recorded(&world, &fleet(), &when);
            world.set_status("ROLLBACK_IN_PROGRESS");
            deliver(&world, event("delete")).await;
            assert_eq!(world.data().in_transit(), [""; 0], "{when}");

            world.set_status("DELETE_IN_PROGRESS");
            let mut end = event("delete");
            end["RequestId"] = json!("the end");
            deliver(&world, end).await;
            assert_eq!(world.cards(), fleet().cards(), "{when}");
            if world.data().calls.iter().any(|(action, _)| *action == "ec2:CreateSnapshots") {
                assert!(n > 8, "{when}: too few calls to have been counted");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_four_times_in_a_row_is_survived() {
    for event in [event("create"), with("update", "InstanceIds", json!([A, B, C])), event("delete")] {
        let world = fleet();
        if event["RequestType"] != "Create" {
            deliver(&world, crate::event("create")).await;
        }
        let already = world.data().calls.len();
        for n in 1..=4 {
            world.data().troubles.insert(already + 2 * n, Trouble::Fails(Fault::Throttled));
        }
        let answer = deliver(&world, event).await;
        assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_has_not_arrived_yet_is_waited_for_but_not_on_a_delete() {
    let world = fleet();
    for n in 1..=3 {
        world.data().troubles.insert(n, Trouble::Fails(Fault::Denied));
    }
    assert_eq!(deliver(&world, event("create")).await.status, Status::Success);

    let start = tokio::time::Instant::now();
    world.data().always = Some(("dynamodb:BatchGetItem", Fault::Denied));
    let answer = deliver(&world, event("delete")).await;
    assert_eq!(answer.status, Status::Failed);
    assert!(answer.reason.contains("dynamodb:BatchGetItem failed: Denied"), "{}", answer.reason);
    assert!(start.elapsed().as_secs() <= 2, "{:?}", start.elapsed());
}

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

/// The right to change interfaces takes up to a minute to arrive, and EC2's bucket may be empty for longer.
#[tokio::test(start_paused = true)]
async fn a_way_into_the_transit_group_that_is_not_free_yet_is_waited_for() {
    let into = format!("[{}]", crate::world::TRANSIT);
    for (fault, seconds) in [(Fault::Denied, 50), (Fault::Throttled, 200)] {
        for only in ["eni-0", into.as_str()] {
            // From outside, from outside beside what has passed, and from inside.
            for kind in ["Create", "Update", "Update of what was not cut"] {
                let case = format!("{kind}, {fault:?} of {only}");
                let world = fleet();
                let event = if kind == "Create" {
                    cutting(event("create"))
                } else {
                    let first = event("create");
                    deliver(&world, if kind == "Update" { cutting(first) } else { first }).await;
                    world.set_status("UPDATE_IN_PROGRESS");
                    cutting(with("update", "InstanceIds", json!([A, B, C])))
                };
                world.data().always_on = Some((SWAP, only.to_owned(), fault));
                let freed = async {
                    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                    world.data().always_on = None;
                };
                let (answer, ()) = tokio::join!(deliver(&world, event), freed);
                assert_eq!(answer.status, Status::Success, "{case}: {}", answer.reason);
                let data = world.data();
                assert!(data.records.values().all(|record| record.connections_cut), "{case}");
                assert_eq!(data.in_transit(), [""; 0], "{case}");
            }
        }
    }
}

/// After a minute it is no matter of time: isolated, and named.
#[tokio::test(start_paused = true)]
async fn a_way_into_the_transit_group_that_is_denied_for_good_is_named() {
    let into = format!("[{}]", crate::world::TRANSIT);
    for kind in ["Create", "Update"] {
        let world = fleet();
        let event = if kind == "Create" {
            cutting(event("create"))
        } else {
            deliver(&world, event("create")).await;
            world.set_status("UPDATE_IN_PROGRESS");
            cutting(with("update", "InstanceIds", json!([A, B])))
        };
        world.data().always_on = Some((SWAP, into.clone(), Fault::Denied));
        let begun = tokio::time::Instant::now();
        let answer = deliver(&world, event).await;
        assert_eq!(answer.status, Status::Failed, "{kind}: {}", answer.reason);
        assert!((60..100).contains(&begun.elapsed().as_secs()), "{kind}: {:?}", begun.elapsed());
        assert_eq!(crate::isolated(&world), ["eni-0a", "eni-0b"], "{kind}");
        for (instance, interface) in [(A, "eni-0a"), (B, "eni-0b")] {
            let named = format!(
                "{instance}: {interface} is isolated, but connections that were open may live on: {SWAP} failed: Denied"
            );
            assert!(answer.reason.contains(&named), "{kind}: {}", answer.reason);
        }
        assert!(answer.reason.starts_with("2 instances isolated (2 interfaces), 2 snapshots | "), "{}", answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_never_becomes_visible_is_not_claimed() {
    let world = fleet();
    world.data().stale_reads = 1_000_000;
    let answer = deliver(&world, event("create")).await;
    assert_eq!(answer.status, Status::Failed);
    assert!(answer.reason.starts_with("0 of 2 instances isolated (0 interfaces), 0 snapshots | "), "{}", answer.reason);
    assert!(
        answer.reason.contains("NotVisible: EC2 accepted the change but 30 s later still shows the old state"),
        "{}",
        answer.reason
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_answered_with_its_text() {
    let world = fleet();
    world.data().troubles.insert(2, Trouble::Panics);
    let answer = deliver(&world, event("create")).await;
    assert_eq!(answer.status, Status::Failed);
    assert!(answer.reason.starts_with("internal error, please report it: a test wants it."), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_answered_before_the_deadline_and_nothing_is_changed_after() {
    let world = fleet();
    // The read-back after the swap.
    world.data().troubles_of.insert("ec2:DescribeInstances", (1, Trouble::Hangs));
    let answer = deliver(&world, event("create")).await;
    assert_eq!(answer.status, Status::Failed);
    assert!(answer.reason.contains("OutOfTime: the time for an answer ran out"), "{}", answer.reason);
    let calls = world.data().calls.len();
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(world.data().calls.len(), calls);
}

/// In real time: a thread that is taken cannot be paused.
#[tokio::test]
async fn work_that_takes_its_thread_does_not_keep_the_answer_from_being_sent() {
    let world = fleet();
    world.data().troubles.insert(1, Trouble::Blocks);
    let start = std::time::Instant::now();
    let deadline = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    let deadline = deadline.duration_since(std::time::UNIX_EPOCH).unwrap();
    let invocation = ec2_isolation::cloudformation::handler::Invocation {
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap(),
        log_stream: String::new(),
    };
    let ports = Ok(world.ports());
    let worker = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let reply = |_, _| world.clone();
    ec2_isolation::cloudformation::handler::handle(&ports, worker.handle(), event("create"), &invocation, reply)
        .await
        .unwrap();
    worker.shutdown_background();
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    let answer = world.data().answers[0].clone();
    assert_eq!(answer.status, Status::Failed);
    assert!(
        answer.reason.starts_with("the time for an answer ran out while a call was under way."),
        "{}",
        answer.reason
    );
}
