//! Cutting connections: whatever fails wherever, nobody stays in the transit group.

use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::State;
use ec2_isolation::ports::Fault;
use serde_json::{Value, json};

use crate::world::{self, ISOLATION, TRANSIT, Trouble, World};
use crate::{A, B, C, D, cutting, deliver, die, event, fails, fleet, isolated, listing, run, succeeds, with};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

/// The event as a request of its own.
fn again(mut event: Value) -> Value {
    event["RequestId"] = json!("again");
    event
}

fn is_cut(world: &World, instance: &str) -> bool {
    world.data().records[&instance.parse().unwrap()].connections_cut
}

/// A Create that died after this many changes of interfaces.
async fn died_inside(swaps: usize) -> World {
    let world = fleet();
    world.data().stale_reads = 0;
    world.data().troubles_of.insert(SWAP, (swaps, Trouble::DiesAfter));
    die(&world, cutting(event("create"))).await;
    world
}

#[tokio::test(start_paused = true)]
async fn every_interface_passes_once_and_the_record_says_so() {
    let world = fleet();
    let start = world.cards();
    let answer = succeeds(&world, cutting(event("create"))).await;
    assert_eq!(answer.reason, "2 instances isolated (2 interfaces), 2 snapshots");
    assert_eq!((isolated(&world), world.count(SWAP)), (vec!["eni-0a".to_owned(), "eni-0b".to_owned()], 4));
    assert!(is_cut(&world, A) && is_cut(&world, B));
    assert_eq!(world.data().most_in_transit, 2);
    world.data().calls.clear();
    succeeds(&world, again(cutting(event("create")))).await;
    assert_eq!(world.count(SWAP), 0);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn what_was_isolated_without_cutting_is_cut_when_that_is_asked_for() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    assert!(!is_cut(&world, A));
    succeeds(&world, again(cutting(event("create")))).await;
    assert!(is_cut(&world, A));
    assert_eq!((isolated(&world).len(), world.count(SWAP)), (2, 2 + 4));
}

#[tokio::test(start_paused = true)]
async fn the_way_out_is_tried_until_it_is_free() {
    for fault in [Fault::Throttled, Fault::Server, Fault::Connection, Fault::TimedOut, Fault::Garbled] {
        let world = fleet();
        let freed = async {
            // After the describe, the record and the way in.
            tokio::time::sleep(Duration::from_millis(4500)).await;
            world.data().always = Some((SWAP, fault));
            tokio::time::sleep(Duration::from_secs(400)).await;
            assert_eq!(world.data().in_transit().len(), 2, "{fault:?}");
            world.data().always = None;
        };
        tokio::join!(run(&world, cutting(event("create"))), freed);
        let answer = world.data().answers.last().unwrap().clone();
        assert_eq!((answer.status, isolated(&world).len()), (Status::Success, 2), "{}", answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_left_in_the_transit_group_at_the_end_is_named_first_and_freed_by_whatever_comes_next() {
    for next in ["create", "delete", "rollback"] {
        let world = fleet();
        let start = world.cards();
        let stuck = async {
            tokio::time::sleep(Duration::from_millis(4500)).await;
            world.data().always_on = Some((SWAP, "eni-0b".to_owned(), Fault::Throttled));
        };
        tokio::join!(run(&world, cutting(event("create"))), stuck);
        let reason = world.data().answers.last().unwrap().reason.clone();
        let expected = format!(
            "1 of 2 instances isolated (1 interface) | {B}: isolate eni-0b by way of {TRANSIT} for 5 s -> [{ISOLATION}]: {SWAP} failed: InTransit: \
             eni-0b may be in {TRANSIT}, which is open to everybody: run aws ec2 modify-network-interface-attribute \
             --network-interface-id eni-0b --groups {ISOLATION} ("
        );
        let seen = reason.replace("it is not known what is isolated now; last seen: ", "").replace(", 0 snapshots", "");
        assert!(seen.contains(&expected[expected.find(" | ").unwrap()..]), "{reason}");
        assert_eq!(world.data().in_transit(), ["eni-0b"]);

        world.data().always_on = None;
        match next {
            "create" => {
                succeeds(&world, again(cutting(event("create")))).await;
                assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
            }
            "rollback" => {
                world.set_status("ROLLBACK_IN_PROGRESS");
                succeeds(&world, event("delete")).await;
                assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
            }
            _ => {
                succeeds(&world, event("delete")).await;
                assert_eq!(world.cards(), start);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_isolation_group_is_refused_to_the_end_the_originals_come_back() {
    let world = fleet();
    world.data().refused_groups.insert(("eni-0b".parse().unwrap(), ISOLATION.parse().unwrap()));
    let reason = fails(&world, cutting(event("create"))).await;
    assert_eq!(world.cards()["eni-0b"], world::groups(&["sg-0b", "sg-0c"]));
    assert_eq!(isolated(&world), ["eni-0a"]);
    let cause = format!("{B}: isolate eni-0b [sg-0b, sg-0c] -> [{ISOLATION}]: {SWAP} failed: OperationNotPermitted");
    assert!(reason.starts_with(&format!("1 of 2 instances isolated (1 interface), 1 snapshot | {cause}")), "{reason}");
}

/// Nothing else gives them back.
#[tokio::test(start_paused = true)]
async fn originals_that_come_back_are_sent_again_where_that_is_lost() {
    for fault in [Fault::Server, Fault::Throttled, Fault::Connection] {
        let world = fleet();
        world.data().refused_groups.insert(("eni-0b".parse().unwrap(), ISOLATION.parse().unwrap()));
        // After the way in and three ways out.
        world.data().troubles_of.insert(SWAP, (4, Trouble::Fails(fault)));
        let reason = fails(&world, cutting(listing(&[B], event("create")))).await;
        assert_eq!(world.cards()["eni-0b"], world::groups(&["sg-0b", "sg-0c"]), "{fault:?}: {reason}");
        assert_eq!(world.data().in_transit(), [""; 0], "{fault:?}");
    }
}

/// The SDK sends no change again.
#[tokio::test(start_paused = true)]
async fn a_way_in_that_is_lost_once_is_tried_again_from_isolation() {
    for trouble in [Trouble::Fails(Fault::Server), Trouble::Fails(Fault::Connection), Trouble::Unanswered] {
        for way_in in 0..2 {
            let world = fleet();
            world.data().troubles_of.insert(SWAP, (way_in, trouble));
            let answer = succeeds(&world, cutting(event("create"))).await;
            assert_eq!(answer.reason, "2 instances isolated (2 interfaces), 2 snapshots", "{trouble:?} {way_in}");
            assert!(is_cut(&world, A) && is_cut(&world, B), "{trouble:?} {way_in}");
            assert_eq!(world.data().in_transit(), [""; 0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_enter_is_isolated_all_the_same_and_named() {
    let world = fleet();
    world.data().refused_groups.insert(("eni-0b".parse().unwrap(), TRANSIT.parse().unwrap()));
    let reason = fails(&world, cutting(event("create"))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    assert!(reason.starts_with("2 instances isolated (2 interfaces), 2 snapshots | "), "{reason}");
    let cause = format!("{B}: eni-0b is isolated, but connections that were open may live on: {SWAP} failed");
    assert!(reason.contains(&cause), "{reason}");
    assert!(is_cut(&world, A) && !is_cut(&world, B));
    world.data().refused_groups.clear();
    succeeds(&world, again(cutting(event("create")))).await;
    assert!(is_cut(&world, B));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_left_behind_by_an_update_that_no_longer_lists_it() {
    for removal in ["KeepIsolated", "Restore"] {
        let world = died_inside(1).await;
        assert!(!world.data().in_transit().is_empty());
        world.set_status("UPDATE_IN_PROGRESS");
        let mut update = cutting(with("update", "InstanceIds", json!([C])));
        update["ResourceProperties"]["OnRemoval"] = json!(removal);
        succeeds(&world, update).await;
        assert_eq!(world.data().in_transit(), [""; 0], "{removal}");
        let state = if removal == "Restore" { State::Restored } else { State::Isolating };
        assert_eq!(world.state(A), Some(state), "{removal}");
    }
}

/// The time for leaving is kept: with less than that nobody enters.
#[tokio::test(start_paused = true)]
async fn when_time_is_short_the_hold_is_cut_and_then_nobody_enters() {
    for (seconds, swaps) in [(30, 4), (15, 2)] {
        let world = fleet();
        world.data().stale_reads = 0;
        let deadline = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let deadline = deadline + Duration::from_secs(seconds);
        let invocation = ec2_isolation::cloudformation::handler::Invocation {
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap(),
            log_stream: String::new(),
        };
        let mut create = cutting(event("create"));
        create["ResourceProperties"]["HoldSeconds"] = json!("60");
        create["ResourceProperties"]["SnapshotVolumes"] = json!("false");
        let (ports, worker) = (Ok(world.ports()), tokio::runtime::Handle::current());
        ec2_isolation::cloudformation::handler::handle(&ports, &worker, create, &invocation, |_, _| world.clone())
            .await
            .unwrap();
        assert_eq!((isolated(&world).len(), world.count(SWAP)), (2, swaps), "{seconds} s");
        assert_eq!(world.data().in_transit(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn stopped_instances_go_straight_into_isolation() {
    let world = fleet();
    world.data().instances.get_mut(&A.parse().unwrap()).unwrap().state = "stopped".to_owned();
    succeeds(&world, cutting(event("create"))).await;
    assert_eq!((isolated(&world).len(), world.count(SWAP)), (2, 3));
    assert!(is_cut(&world, A));
}

#[tokio::test(start_paused = true)]
async fn without_a_transit_group_the_answer_says_that_nothing_was_cut() {
    let world = fleet();
    let mut create = cutting(event("create"));
    create["ResourceProperties"]["TransitSecurityGroupId"] = json!("");
    let answer = deliver(&world, create).await;
    assert_eq!(answer.status, Status::Success);
    assert!(answer.data.summary.ends_with("established connections were not cut: TransitSecurityGroupId is empty"));
}

/// One has passed, which the record says; the other is still to be isolated. Whoever overtakes that sees the lease until then.
#[tokio::test(start_paused = true)]
async fn that_one_has_passed_is_told_without_giving_up_the_lease_under_which_the_other_is_changed() {
    for fault in [Fault::Denied, Fault::Busy] {
        let world = fleet();
        world.data().stale_reads = 0;
        world.data().always_on = Some((SWAP, "eni-0d2".to_owned(), fault));
        let watched = async {
            let mut is_told = false;
            tokio::time::sleep(Duration::from_secs(30)).await;
            world.data().always_on = None;
            while world.cards()["eni-0d2"] != world::groups(&[ISOLATION]) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let data = world.data();
            let swaps = data.calls.iter().zip(&data.called_at);
            let swaps = swaps.filter(|((action, what), _)| *action == SWAP && what.starts_with("eni-0d2"));
            is_told |= data.calls.iter().any(|(_, what)| *what == format!("{D} isolating"));
            (is_told, swaps.count())
        };
        let unleased = async {
            let mut unleased = Vec::new();
            let end = tokio::time::Instant::now() + Duration::from_secs(120);
            while tokio::time::Instant::now() < end && world.cards()["eni-0d2"] != world::groups(&[ISOLATION]) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let data = world.data();
                let record = data.records.get(&D.parse().unwrap());
                if record.is_some_and(|record| record.state == State::Isolating && record.lease.is_none()) {
                    unleased.push(data.start.elapsed());
                }
            }
            unleased
        };
        let create = cutting(with("create", "InstanceIds", json!([D])));
        let (answer, (is_told, swaps), unleased) = tokio::join!(deliver(&world, create), watched, unleased);
        assert_eq!(answer.status, Status::Success, "{fault:?}: {}", answer.reason);
        assert!(is_told && swaps > 2, "{fault:?}: {is_told} {swaps}");
        assert_eq!(unleased, [Duration::ZERO; 0], "{fault:?}");
        assert_eq!(world.data().records[&D.parse().unwrap()].lease, None, "{fault:?}");
    }
}
