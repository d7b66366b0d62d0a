//! Somebody else changes an interface while it is being isolated or restored: that is not a late reading.

use std::time::Duration;

use ec2_isolation::cloudformation::answer::{Answer, Status};
use ec2_isolation::model::{State, Volume};
use serde_json::{Value, json};

use crate::world::{ISOLATION, TRANSIT, World, groups};
use crate::{
    A, B, C, cards_but, cutting, deliver, entries, event, isolated, listing, once_in, quick_fleet, run, snapshotted,
    succeeds,
};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
const ALL: [&str; 3] = ["eni-0a", "eni-0b", "eni-0c"];

fn directly(event: Value) -> Value {
    event
}

fn create(way: fn(Value) -> Value) -> Value {
    listing(&[A, B, C], way(event("create")))
}

fn put(world: &World, interface: &str, ids: &[&str]) {
    world.data().put_back(&interface.parse().unwrap(), groups(ids));
}

/// Handles the event while somebody is at work for good.
async fn against(world: &World, event: Value, somebody: impl Future<Output = ()>) -> Answer {
    tokio::select! {
        answer = deliver(world, event) => answer,
        () = somebody => unreachable!("it never ends"),
    }
}

async fn every(time: Duration, mut act: impl FnMut()) {
    loop {
        act();
        tokio::time::sleep(time).await;
    }
}

/// The others of the three have everything, each at the latest so long after the first change of an interface.
fn assert_others_have_everything(world: &World, within: Duration) {
    for (instance, interface) in [(B, "eni-0b"), (C, "eni-0c")] {
        assert_eq!(world.cards()[interface], groups(&[ISOLATION]));
        let data = world.data();
        let begun = data.swapped_at[0];
        for (action, what) in [
            ("ec2:CreateSnapshots", instance.to_owned()),
            ("ec2:ModifyInstanceAttribute", format!("{instance} termination protection on")),
            ("dynamodb:UpdateItem", format!("{instance} isolated")),
            ("ec2:CreateTags", interface.to_owned()),
        ] {
            let call = data.calls.iter().position(|call| call.0 == action && call.1.contains(&what));
            let at = data.called_at[call.unwrap_or_else(|| panic!("{action} {what}"))] - data.start;
            assert!(at <= begun + within, "{action} {what}: {at:?}");
        }
    }
}

/// Lambda delivers an event twice at once; both find what somebody opened.
#[tokio::test(start_paused = true)]
async fn an_update_that_is_delivered_twice_takes_what_was_opened_through_the_transit_group_once() {
    for seed in 0..40 {
        let world = quick_fleet();
        succeeds(&world, create(cutting)).await;
        put(&world, "eni-0a", &["sg-0a"]);
        let before = entries(&world, "eni-0a");
        world.data().jitter = Some(seed).filter(|seed| *seed > 0);
        let update = || listing(&[A, B, C], cutting(event("update")));
        let late = async {
            tokio::time::sleep(Duration::from_millis(200 * (seed % 10))).await;
            run(&world, update()).await
        };
        tokio::join!(run(&world, update()), late);
        assert_eq!(entries(&world, "eni-0a"), before + 1, "{seed}");
        assert_eq!(isolated(&world), ALL, "{seed}");
        assert!(world.data().at_answers.iter().all(|at| at.in_transit.is_empty()), "{seed}");
    }
}

/// The second delivery's intent is written when the first one has done everything.
#[tokio::test(start_paused = true)]
async fn a_look_that_waited_for_the_intent_is_not_acted_on() {
    let world = quick_fleet();
    succeeds(&world, create(cutting)).await;
    put(&world, "eni-0a", &["sg-0a"]);
    let before = entries(&world, "eni-0a");
    let update = listing(&[A, B, C], cutting(event("update")));
    let slow = world.process();
    world.data().slow_intent = Some(Duration::from_secs(20));
    let (late, _) = tokio::join!(run(&slow, update.clone()), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        run(&world, update.clone()).await
    });
    drop(late);
    assert_eq!((entries(&world, "eni-0a"), isolated(&world)), (before + 1, ALL.map(String::from).to_vec()));
}

/// https://github.com/kubernetes-sigs/cluster-api-provider-aws/issues/3943
#[tokio::test(start_paused = true)]
async fn a_controller_puts_the_original_groups_back_once_right_after_the_swap() {
    for way in [directly, cutting] {
        for delay in 0..20 {
            let world = quick_fleet();
            world.data().stale_reads = delay % 3;
            let controller = async {
                once_in(&world, "eni-0a", ISOLATION).await;
                tokio::time::sleep(Duration::from_millis(5 * u64::from(delay))).await;
                put(&world, "eni-0a", &["sg-0a"]);
                let open = tokio::time::Instant::now();
                once_in(&world, "eni-0a", ISOLATION).await;
                open.elapsed()
            };
            let (answer, open) = tokio::join!(deliver(&world, create(way)), controller);
            assert_eq!(answer.status, Status::Success, "{delay}: {}", answer.reason);
            assert_eq!(world.data().at_answers[0].cards["eni-0a"], groups(&[ISOLATION]), "{delay}");
            assert!(open < Duration::from_secs(5), "{delay}: {open:?} in the open");
            assert_eq!(isolated(&world), ALL, "{delay}");
        }
    }
}

/// https://github.com/kubernetes-sigs/cluster-api-provider-aws/pull/5813
#[tokio::test(start_paused = true)]
async fn delete_put_back_into_the_isolation_group_once() {
    for delay in 0..20 {
        let world = quick_fleet();
        succeeds(&world, create(directly)).await;
        world.data().stale_reads = delay % 3;
        let somebody = async {
            once_in(&world, "eni-0a", "sg-0a").await;
            tokio::time::sleep(Duration::from_millis(5 * u64::from(delay))).await;
            put(&world, "eni-0a", &[ISOLATION]);
            once_in(&world, "eni-0a", "sg-0a").await;
        };
        let (answer, ()) = tokio::join!(deliver(&world, event("delete")), somebody);
        assert_eq!((answer.status, answer.reason.as_str()), (Status::Success, "3 instances restored"), "{delay}");
        assert_eq!(world.cards(), quick_fleet().cards(), "{delay}");
    }
}

/// Whoever gives up after a few seconds does not leave it open for the rest of the request, and after it.
#[tokio::test(start_paused = true)]
async fn somebody_changes_it_six_times_within_seconds_and_then_stops() {
    for to in [["sg-0d"].as_slice(), &["sg-0a"], &[TRANSIT]] {
        let world = quick_fleet();
        let somebody = async {
            for _ in 0..6 {
                tokio::time::timeout(Duration::from_secs(2), once_in(&world, "eni-0a", ISOLATION)).await.ok();
                put(&world, "eni-0a", to);
            }
        };
        let (answer, ()) = tokio::join!(deliver(&world, create(directly)), somebody);
        assert_eq!(answer.status, Status::Success, "{to:?}: {}", answer.reason);
        assert_eq!(isolated(&world), ALL, "{to:?}");
    }
}

/// Nothing waits for an end that somebody with the right to attach volumes puts off at will.
#[tokio::test(start_paused = true)]
async fn somebody_attaches_a_volume_every_three_seconds() {
    let world = quick_fleet();
    let mut n = 0;
    let somebody = every(Duration::from_secs(3), || {
        n += 1;
        let volume = format!("vol-{n:x}").parse().unwrap();
        let of = Volume { device: format!("/dev/sd{n}"), delete_on_termination: false };
        world.data().instances.get_mut(&A.parse().unwrap()).unwrap().volumes.insert(volume, of);
    });
    let mut create = create(directly);
    create["ResourceProperties"]["SnapshotVolumes"] = json!("false");
    let answer = against(&world, create, somebody).await;
    assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    let named =
        format!("{A}: its interfaces, branches or volumes keep changing: find out who changes them (CloudTrail)");
    assert!(answer.reason.contains(&named), "{}", answer.reason);
    let lasted = world.data().start.elapsed();
    assert!((30..60).contains(&lasted.as_secs()), "{lasted:?}");
    assert_eq!(isolated(&world), ALL);
}

/// CloudFormation sends a failed Delete again to a function that is gone by then: it goes on for as long as it can.
#[tokio::test(start_paused = true)]
async fn delete_put_back_into_the_isolation_group_for_a_minute() {
    let world = quick_fleet();
    succeeds(&world, create(directly)).await;
    let begun = tokio::time::Instant::now();
    let somebody = async {
        while begun.elapsed() < Duration::from_secs(60) {
            put(&world, "eni-0a", &[ISOLATION]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (answer, ()) = tokio::join!(deliver(&world, event("delete")), somebody);
    assert_eq!((answer.status, answer.reason.as_str()), (Status::Success, "3 instances restored"));
    assert_eq!(world.cards(), quick_fleet().cards());
}

/// A controller keeps a group of its own on everything that is not isolated, as AWS Firewall Manager does.
#[tokio::test(start_paused = true)]
async fn a_group_that_a_controller_adds_to_the_restored_originals_is_left_alone_and_named() {
    let world = quick_fleet();
    succeeds(&world, create(directly)).await;
    let controller = every(Duration::from_millis(200), || {
        if world.cards()["eni-0a"] == groups(&["sg-0a"]) {
            put(&world, "eni-0a", &["sg-0a", "sg-0d"]);
        }
    });
    let swaps = world.count(SWAP);
    let answer = against(&world, event("delete"), controller).await;
    assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    assert!(answer.reason.starts_with("3 instances restored"), "{}", answer.reason);
    let moved = format!("{A}: eni-0a was left alone: it was moved to [sg-0a, sg-0d] meanwhile");
    assert!(answer.reason.contains(&moved), "{}", answer.reason);
    assert_eq!(world.state(A), Some(State::Restored));
    assert_eq!(world.count(SWAP) - swaps, 3, "each was changed once");
}

#[tokio::test(start_paused = true)]
async fn one_of_three_instances_alternates_between_two_groups_for_good() {
    for pair in [["sg-0a", "sg-0d"], ["sg-0d", TRANSIT], ["sg-0a", ISOLATION]] {
        let world = quick_fleet();
        let mut n = 0;
        let somebody = every(Duration::from_millis(200), || {
            n += 1;
            put(&world, "eni-0a", &[pair[n % 2]]);
        });
        let answer = against(&world, create(directly), somebody).await;
        assert_others_have_everything(&world, Duration::from_secs(5));
        assert!(world.count(SWAP) < 20, "{pair:?}: {} swaps", world.count(SWAP));
        if pair[1] == ISOLATION && answer.status == Status::Success {
            // It was isolated when it was looked at.
            assert_eq!(world.data().shown[&"eni-0a".parse().unwrap()].1, groups(&[ISOLATION]), "{}", answer.reason);
            continue;
        }
        assert_eq!(answer.status, Status::Failed, "{pair:?}: {}", answer.reason);
        assert!(answer.reason.contains("eni-0a"), "{pair:?}: {}", answer.reason);
        assert!(answer.data.not_isolated.contains("eni-0a"), "{pair:?}: {}", answer.data.not_isolated);
        let lasted = world.data().start.elapsed();
        assert!((25..70).contains(&lasted.as_secs()), "{pair:?}: named after {lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_three_shows_a_foreign_group_at_each_look_of_the_second_phase() {
    for way in [directly, cutting] {
        let world = quick_fleet();
        let somebody = async {
            once_in(&world, "eni-0a", ISOLATION).await;
            every(Duration::from_millis(10), || put(&world, "eni-0a", &["sg-0d"])).await;
        };
        let answer = against(&world, create(way), somebody).await;
        assert_eq!(answer.status, Status::Failed, "{}", answer.reason);
        assert!(answer.reason.contains("eni-0a"), "{}", answer.reason);
        assert!(ALL.iter().all(|interface| entries(&world, interface) <= 1), "nobody passes twice");
        assert_others_have_everything(&world, Duration::from_secs(15));
        assert_eq!(cards_but(&world, &["eni-0a"]).values().filter(|at| **at == groups(&[ISOLATION])).count(), 2);
    }
}

/// What somebody does to `eni-0a`.
const CHANGES: [&[&str]; 4] = [&[ISOLATION, "sg-0d"], &["sg-0a"], &["sg-0d"], &[TRANSIT]];

/// https://github.com/kubernetes-sigs/cluster-api-provider-aws/pull/4363
#[tokio::test(start_paused = true)]
async fn while_tags_and_snapshots_are_made_a_group_is_added_the_originals_are_put_back_or_it_is_put_into_our_transit_group()
 {
    for way in [directly, cutting] {
        for change in CHANGES {
            for (action, first) in [
                ("ec2:CreateTags", 0),
                ("ec2:CreateTags", 2),
                ("ec2:CreateSnapshots", 0),
                ("ec2:CreateSnapshots", 2),
                ("ec2:ModifyInstanceAttribute", 0),
                ("ec2:ModifyInstanceAttribute", 5),
                ("ec2:DescribeInstanceAttribute", 0),
            ] {
                let case = format!("{change:?} before {action} {first}");
                let world = quick_fleet();
                world.before_call_of(action, first, move |data| {
                    data.put_back(&"eni-0a".parse().unwrap(), groups(change));
                });
                let answer = succeeds(&world, create(way)).await;
                let at_answer = world.data().at_answers[0].clone();
                for interface in ALL {
                    assert_eq!(at_answer.cards[interface], groups(&[ISOLATION]), "{case}: {}", answer.reason);
                }
                assert!(ALL.iter().all(|interface| entries(&world, interface) <= 1), "{case}: nobody passes twice");
                assert_eq!(snapshotted(&world).len(), 3, "{case}");
            }
        }
    }
}

/// What was opened during or after its passage may have connections again: it does not pass twice, so that is said, and the next request
/// takes it through.
#[tokio::test(start_paused = true)]
async fn what_was_opened_after_its_passage_is_not_said_to_be_cut_and_passes_with_the_next_request() {
    for change in [&["sg-0a"] as &[&str], &[ISOLATION, "sg-0d"], &[]] {
        // Right after the passage, and once the record says that it has passed.
        for action in ["ec2:CreateSnapshots", "ec2:ModifyInstanceAttribute"] {
            let case = format!("{change:?} before {action}");
            let world = quick_fleet();
            world.before_call_of(action, 2, move |data| data.put_back(&"eni-0a".parse().unwrap(), groups(change)));
            let answer = succeeds(&world, create(cutting)).await;
            assert_not_cut_before_the_next_request(&world, &answer, &case).await;
        }
    }
}

/// A look in its hold shows that nothing holds it.
#[tokio::test(start_paused = true)]
async fn what_was_opened_during_its_hold_is_not_said_to_be_cut_and_passes_with_the_next_request() {
    for change in [&["sg-0a"] as &[&str], &["sg-0a", "sg-0d"], &[]] {
        for milliseconds in [10, 1000, 3900] {
            let case = format!("{change:?} after {milliseconds} ms");
            let world = quick_fleet();
            let somebody = async {
                once_in(&world, "eni-0a", TRANSIT).await;
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                put(&world, "eni-0a", change);
            };
            let (answer, ()) = tokio::join!(succeeds(&world, create(cutting)), somebody);
            assert_not_cut_before_the_next_request(&world, &answer, &case).await;
        }
    }
}

/// One reading that trails is no opening.
#[tokio::test(start_paused = true)]
async fn a_late_reading_in_its_hold_is_no_opening() {
    let world = quick_fleet();
    world.data().stale_reads = 1;
    let answer = succeeds(&world, create(cutting)).await;
    assert!(!answer.data.summary.contains("was opened"), "{}", answer.data.summary);
    assert!(world.data().records[&A.parse().unwrap()].connections_cut);
}

/// `eni-0a` was opened when it was cut, and the others were not.
async fn assert_not_cut_before_the_next_request(world: &World, answer: &Answer, case: &str) {
    assert_eq!((isolated(world), entries(world, "eni-0a")), (ALL.map(String::from).to_vec(), 1), "{case}");
    let record = |id: &str| world.data().records[&id.parse().unwrap()].clone();
    let others: Vec<bool> = [B, C].map(|id| record(id).connections_cut).to_vec();
    assert_eq!((record(A).passed.len(), record(A).connections_cut, others), (0, false, vec![true; 2]), "{case}");
    let history = record(A).history;
    let line = history.iter().rfind(|line| line.contains(" isolated")).unwrap();
    assert!(line.contains("isolated, connections not cut"), "{case}: {history:?}");
    let said = format!("{A}: eni-0a was opened during or after its passage");
    assert!(answer.data.summary.contains(&said), "{case}: {}", answer.data.summary);
    let rerun = listing(&[A, B, C], cutting(event("update")));
    let answer = succeeds(world, rerun).await;
    assert!(!answer.data.summary.contains("was opened"), "{case}: {}", answer.data.summary);
    assert_eq!((entries(world, "eni-0a"), entries(world, "eni-0b")), (2, 1), "{case}");
    assert!(record(A).connections_cut && record(A).passed.len() == 1, "{case}");
}

/// https://github.com/kubernetes-sigs/cluster-api-provider-aws/pull/4363
#[tokio::test(start_paused = true)]
async fn while_tags_and_snapshots_are_made_it_is_changed_every_200_ms() {
    for way in [directly, cutting] {
        for change in CHANGES {
            let world = quick_fleet();
            let somebody = async {
                while world.count("ec2:CreateTags") == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                every(Duration::from_millis(200), || put(&world, "eni-0a", change)).await;
            };
            let answer = against(&world, create(way), somebody).await;
            let is_right = world.data().at_answers[0].cards["eni-0a"] == groups(&[ISOLATION]);
            match answer.status {
                Status::Success => assert!(is_right, "{change:?}: {}", answer.reason),
                Status::Failed => assert!(answer.reason.contains("eni-0a"), "{change:?}: {}", answer.reason),
            }
            assert_others_have_everything(&world, Duration::from_secs(15));
        }
    }
}

/// What was read of one instance is old when another one has been waited for.
#[tokio::test(start_paused = true)]
async fn it_is_changed_while_another_instance_is_still_pending() {
    for way in [directly, cutting] {
        for change in CHANGES {
            for seconds in [5, 15, 28, 30] {
                let world = quick_fleet();
                crate::set_state(&world, C, "pending");
                let somebody = async {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    put(&world, "eni-0a", change);
                    tokio::time::sleep(Duration::from_secs(31 - seconds)).await;
                    crate::set_state(&world, C, "running");
                };
                let (answer, ()) = tokio::join!(deliver(&world, create(way)), somebody);
                let cards = world.data().at_answers[0].cards.clone();
                assert_eq!(cards["eni-0a"], groups(&[ISOLATION]), "{change:?} after {seconds} s: {}", answer.reason);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lambda_delivers_the_create_twice_the_second_enters_the_transit_group_after_the_firsts_read_back() {
    for n in 0..120 {
        let world = quick_fleet();
        if n % 2 == 1 {
            // Calls of a quarter of a second to two.
            world.data().jitter = Some(n);
        }
        let delay = Duration::from_millis(if n % 2 == 1 { 300 * (n % 40) } else { 100 * n });
        let late = async {
            tokio::time::sleep(delay).await;
            run(&world, create(cutting)).await
        };
        tokio::join!(run(&world, create(cutting)), late);
        let (answers, at_answers) = {
            let data = world.data();
            (data.answers.clone(), data.at_answers.clone())
        };
        for (answer, at) in answers.iter().zip(at_answers) {
            let case = format!("{n}, {delay:?}: {}", answer.reason);
            assert_eq!(answer.status, Status::Success, "{case}");
            assert_eq!(at.in_transit, [""; 0], "{case}");
            assert!(ALL.iter().all(|interface| at.cards[*interface] == groups(&[ISOLATION])), "{case}");
        }
        let passed: Vec<usize> = ALL.iter().map(|interface| entries(&world, interface)).collect();
        let data = world.data();
        let log = data.calls.iter().zip(&data.called_at);
        let log = log
            .filter(|((action, what), _)| *action == SWAP || action.contains("Write") || what.ends_with(" isolated"));
        let log: String =
            log.map(|((action, what), at)| format!("\n  {:?} {action} {what}", *at - data.start)).collect();
        assert_eq!(passed, [1, 1, 1], "{n}, {delay:?}: nobody passes twice{log}");
    }
}

/// One that never comes: what is claimed of the others was read when the answer was sent, not when they were done.
#[tokio::test(start_paused = true)]
async fn it_is_changed_while_another_instance_is_waited_for_in_vain() {
    for case in ["it stays pending", "it does not come into service"] {
        for seconds in [10, 30, 50] {
            let world = quick_fleet();
            world.data().stale_reads = 1;
            match case {
                "it stays pending" => crate::set_state(&world, C, "pending"),
                _ => world.scale("web", &[C], "Pending:Wait"),
            }
            let mut event = listing(&[A, C], event("create"));
            event["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
            let controller = async {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                put(&world, "eni-0a", &["sg-0a"]);
            };
            let (answer, ()) = tokio::join!(deliver(&world, event), controller);
            let cards = world.data().at_answers[0].cards.clone();
            assert_eq!(cards["eni-0a"], groups(&[ISOLATION]), "{case}, {seconds} s: {}", answer.reason);
            assert_eq!(answer.status, Status::Success, "{case}, {seconds} s: {}", answer.reason);
        }
    }
}

/// No reading that trails could show it: it was never in there.
#[tokio::test(start_paused = true)]
async fn put_into_our_transit_group_it_is_taken_out_at_once() {
    for (name, way, from, to) in [
        ("create", directly as fn(Value) -> Value, "sg-0a", ISOLATION),
        ("create", cutting, "sg-0a", ISOLATION),
        ("delete", directly, ISOLATION, "sg-0a"),
    ] {
        let world = quick_fleet();
        if name == "delete" {
            succeeds(&world, create(directly)).await;
        }
        assert_eq!(world.cards()["eni-0a"], groups(&[from]));
        let somebody = async {
            once_in(&world, "eni-0a", to).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            put(&world, "eni-0a", &[TRANSIT]);
            let open = tokio::time::Instant::now();
            once_in(&world, "eni-0a", to).await;
            open.elapsed()
        };
        let event = listing(&[A, B, C], way(event(name)));
        let (answer, open) = tokio::join!(deliver(&world, event), somebody);
        assert_eq!(answer.status, Status::Success, "{name}: {}", answer.reason);
        assert!(open < Duration::from_secs(1), "{name}: {open:?} open to everybody");
        assert_eq!(world.data().at_answers.last().unwrap().cards["eni-0a"], groups(&[to]), "{name}");
    }
}
