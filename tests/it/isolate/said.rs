//! What an answer says is so, the worst first, and nothing that it says is untrue.

use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::{Group, State, Volume};
use ec2_isolation::ports::{Fault, INTENT_PREFIX};
use serde_json::{Value, json};

use crate::world::{ISOLATION, REPLACEMENT, TRANSIT, Trouble, World, groups};
use crate::{
    A, B, C, D, after, as_request, cutting, deliver, die, entries, event, fails, isolated, listing, move_by_hand,
    quick_fleet, rerun, set_state, succeeds,
};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";

/// A Create that was killed with everything in the transit group.
async fn killed_in_the_passage(create: Value, interfaces: usize) -> World {
    let world = quick_fleet();
    world.data().troubles_of.insert(SWAP, (interfaces - 1, Trouble::DiesAfter));
    die(&world, create).await;
    assert_eq!(world.data().in_transit().len(), interfaces);
    world
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_passage_then_the_way_out_is_denied_create_delete_delete_in_a_rollback() {
    for fault in [Fault::Denied, Fault::Refused] {
        for next in ["create", "delete", "rollback"] {
            let case = format!("{fault:?}, {next}");
            let world = killed_in_the_passage(cutting(event("create")), 2).await;
            world.data().always = Some((SWAP, fault));
            let event = match next {
                "create" => cutting(event("create")),
                "delete" => event("delete"),
                _ => {
                    world.set_status("ROLLBACK_IN_PROGRESS");
                    event("delete")
                }
            };
            let answer = deliver(&world, event.clone()).await;
            assert_eq!(answer.status, Status::Failed, "{case}: {}", answer.reason);
            let first = answer.reason.split(" | ").take(2).find(|part| part.contains(TRANSIT));
            let first = first.unwrap_or_else(|| panic!("{case}: the open transit group first: {}", answer.reason));
            assert!(first.contains("open to everybody"), "{case}: {first}");
            for interface in ["eni-0a", "eni-0b"] {
                let command = format!(
                    "aws ec2 modify-network-interface-attribute --network-interface-id {interface} --groups {ISOLATION}"
                );
                assert!(answer.reason.contains(&command), "{case}: {}", answer.reason);
            }
            let headline = answer.reason.split(" | ").next().unwrap();
            for untrue in ["still isolated", "kept isolated", "nothing was changed"] {
                assert!(!headline.contains(untrue), "{case}: {headline}");
            }
            world.data().always = None;
            let end = as_request("then", event);
            deliver(&world, end).await;
            assert_eq!(world.data().in_transit(), [""; 0], "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_passage_then_the_next_request_cannot_be_read() {
    let why = "property SnapshotVolumes: \"perhaps\" is not true or false";
    // After a Create that failed, and was not rolled back, CloudFormation sends another Create.
    for next in ["create", "update"] {
        let invalid = || {
            let mut request = as_request("then", cutting(event(next)));
            request["ResourceProperties"]["SnapshotVolumes"] = json!("perhaps");
            request
        };
        let headline = |reason: &str| reason.split(" | ").next().unwrap().to_owned();
        let out =
            format!("an earlier request had not ended: {A}, {B} moved into isolation, nothing else was changed: {why}");
        let world = killed_in_the_passage(cutting(event("create")), 2).await;
        assert_eq!(headline(&fails(&world, invalid()).await), out, "{next}");
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{next}");

        // One call that fails and one reading that shows nothing decide nothing.
        let world = killed_in_the_passage(cutting(event("create")), 2).await;
        world.data().troubles_of.insert("dynamodb:BatchGetItem", (0, Trouble::Fails(Fault::Throttled)));
        world.data().troubles_of.insert("ec2:DescribeNetworkInterfaces", (0, Trouble::Fails(Fault::Server)));
        assert_eq!(headline(&fails(&world, invalid()).await), out, "{next}");
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{next}");

        let world = killed_in_the_passage(cutting(event("create")), 2).await;
        world.data().always = Some(("ec2:DescribeInstances", Fault::Denied));
        let unknown = |what: &str| {
            format!("it is not known whether the transit group, which is open to everybody, holds {what}: {why}")
        };
        let reason = fails(&world, invalid()).await;
        assert_eq!(headline(&reason), unknown(&format!("{A}, {B}")), "{next}");
        assert_eq!(reason.matches("ec2:DescribeInstances failed").count(), 1, "{next}: {reason}");
        world.data().always = Some(("dynamodb:BatchGetItem", Fault::Denied));
        assert_eq!(headline(&fails(&world, invalid()).await), unknown("anything"), "{next}");
        world.data().always = None;
        world.data().unreadable.insert(A.to_owned(), "attribute State is \"x\"".to_owned());
        let reason = fails(&world, invalid()).await;
        assert_eq!(headline(&reason), unknown(A), "{next}");
        assert!(reason.contains("attribute State is"), "{next}: {reason}");

        let world = killed_in_the_passage(cutting(event("create")), 2).await;
        world.data().always = Some((SWAP, Fault::Denied));
        let reason = fails(&world, invalid()).await;
        let inside = format!("{A}, {B} in the transit group, which is open to everybody: {why}");
        assert_eq!(headline(&reason), inside, "{next}");
        for interface in ["eni-0a", "eni-0b"] {
            let command = format!("--network-interface-id {interface} --groups {ISOLATION}");
            assert!(reason.contains(&command), "{next}: {reason}");
        }
    }
    let world = quick_fleet();
    succeeds(&world, cutting(event("create"))).await;
    let mut invalid = as_request("then", event("update"));
    invalid["ResourceProperties"]["SnapshotVolumes"] = json!("perhaps");
    world.data().calls.clear();
    let reason = fails(&world, invalid).await;
    assert!(reason.starts_with(&format!("nothing was changed: {why} | next: ")), "{reason}");
    assert_eq!(world.count(SWAP), 0);
}

#[tokio::test(start_paused = true)]
async fn interface_deleted_while_it_is_in_the_transit_group() {
    // Before each way in and each way out.
    for swap in 0..4 {
        let world = quick_fleet();
        world.before_call_of(SWAP, swap, |data| data.delete_interface("eni-0d2"));
        let answer = succeeds(&world, listing(&[D], cutting(event("create")))).await;
        assert_eq!(answer.reason, "1 instance isolated (1 interface), 1 snapshot", "{swap}");
        assert_eq!(isolated(&world), ["eni-0d1"], "{swap}");
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "1 instance restored", "{swap}");
    }
}

#[tokio::test(start_paused = true)]
async fn interface_vanishes_between_look_and_change_on_delete() {
    for swap in 0..3 {
        let world = quick_fleet();
        succeeds(&world, listing(&[A, D], event("create"))).await;
        world.before_call_of(SWAP, swap, |data| data.delete_interface("eni-0d2"));
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "2 instances restored", "{swap}");
        assert_eq!((world.state(A), world.state(D)), (Some(State::Restored), Some(State::Restored)), "{swap}");
    }
}

#[tokio::test(start_paused = true)]
async fn instance_is_terminated_between_look_and_change_on_delete() {
    for swap in 0..2 {
        let world = quick_fleet();
        succeeds(&world, listing(&[A, D], event("create"))).await;
        world.before_call_of(SWAP, swap, |data| data.terminate(D));
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "2 instances restored", "{swap}");
    }
}

#[tokio::test(start_paused = true)]
async fn instance_terminated_between_isolation_and_snapshots() {
    for (action, first) in [("ec2:CreateSnapshots", 0), ("ec2:CreateTags", 0), ("ec2:DescribeInstances", 1)] {
        let world = quick_fleet();
        world.before_call_of(action, first, |data| data.terminate(A));
        let answer = deliver(&world, event("create")).await;
        assert!(
            answer.reason.contains(&format!("{A} was terminated before its snapshots")),
            "{action}: {}",
            answer.reason
        );
        assert!(!answer.reason.contains("has no EBS volume"), "{action}: {}", answer.reason);
        assert_eq!(
            (isolated(&world), answer.data.snapshot_count.as_str()),
            (vec!["eni-0b".to_owned()], "1"),
            "{action}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorded_snapshot_was_deleted_or_is_in_error() {
    for (what, reason) in [("deleted", "does not exist any more"), ("error", "failed")] {
        let world = quick_fleet();
        succeeds(&world, event("create")).await;
        let lost = world.data().records[&A.parse().unwrap()].snapshots.taken.values().next().unwrap().clone();
        {
            let mut data = world.data();
            match what {
                "deleted" => data.snapshots.retain(|snapshot| snapshot.id != lost),
                _ => data.snapshots.iter_mut().find(|snapshot| snapshot.id == lost).unwrap().failed = true,
            }
        }
        let answer = succeeds(&world, rerun(&[A, B])).await;
        assert_eq!(answer.data.snapshot_count, "1", "{what}: {}", answer.reason);
        assert!(answer.reason.starts_with("2 instances isolated (2 interfaces), 1 snapshot | "), "{}", answer.reason);
        assert!(answer.reason.contains(&format!("snapshot {lost} of ")), "{what}: {}", answer.reason);
        assert!(answer.reason.contains(reason), "{what}: {}", answer.reason);
    }
}

/// Anybody may take the tags off: the record has its id.
#[tokio::test(start_paused = true)]
async fn a_recorded_snapshot_without_its_tags_is_counted_and_locked() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    let untagged = world.data().records[&A.parse().unwrap()].snapshots.taken.values().next().unwrap().clone();
    {
        let mut data = world.data();
        let snapshot = data.snapshots.iter_mut().find(|snapshot| snapshot.id == untagged).unwrap();
        (snapshot.episode, snapshot.labelled) = (String::new(), false);
    }
    let mut update = rerun(&[A, B]);
    update["ResourceProperties"]["LockSnapshotDays"] = json!("7");
    world.data().calls.clear();
    let answer = succeeds(&world, update).await;
    assert!(answer.reason.starts_with("2 instances isolated (2 interfaces), 2 snapshots (locked"), "{}", answer.reason);
    assert!(!answer.reason.contains("does not exist"), "{}", answer.reason);
    // The function may tag those only that carry the tags of its stack.
    assert!(!world.data().calls.iter().any(|(action, what)| *action == "ec2:CreateTags" && what.contains("snap-")));
}

/// What is held and no longer listed is looked after, too.
#[tokio::test(start_paused = true)]
async fn an_instance_that_is_only_kept_and_was_moved_out_is_among_what_is_not_isolated() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    move_by_hand(&world, "eni-0b", &["sg-0c"]);
    let answer = succeeds(&world, rerun(&[A])).await;
    assert_eq!(answer.data.not_isolated, format!("{B}/eni-0b"), "{}", answer.reason);
    assert!(answer.reason.starts_with("1 instance isolated (1 interface), 1 snapshot | "), "{}", answer.reason);
    assert!(answer.reason.contains(&format!("{B}: eni-0b is not isolated: it was left alone in [sg-0c]")));
}

fn add_volume(world: &World, instance: &str, volume: &str) {
    let new = Volume { device: "/dev/sdb".to_owned(), delete_on_termination: false };
    let mut data = world.data();
    data.instances.get_mut(&instance.parse().unwrap()).unwrap().volumes.insert(volume.parse().unwrap(), new);
}

#[tokio::test(start_paused = true)]
async fn a_volume_attached_after_the_first_set_rerun() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    add_volume(&world, A, "vol-0a2");
    let answer = succeeds(&world, rerun(&[A, B])).await;
    assert_eq!(answer.reason, "2 instances isolated (2 interfaces), 3 snapshots");
    let volumes: Vec<String> = world.data().snapshots.iter().map(|snapshot| snapshot.volume.to_string()).collect();
    assert_eq!((volumes.len(), volumes.last().unwrap().as_str()), (3, "vol-0a2"));
    assert_eq!(world.data().records[&A.parse().unwrap()].snapshots.taken.len(), 2);
    // Once.
    succeeds(&world, as_request("again", rerun(&[A, B]))).await;
    assert_eq!(world.count("ec2:CreateSnapshots"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_volume_attached_while_the_first_set_is_taken() {
    for (action, first) in [("ec2:CreateSnapshots", 0), ("dynamodb:UpdateItem", 3)] {
        let world = quick_fleet();
        world.before_call_of(action, first, |data| {
            let new = Volume { device: "/dev/sdb".to_owned(), delete_on_termination: false };
            data.instances.get_mut(&A.parse().unwrap()).unwrap().volumes.insert("vol-0a2".parse().unwrap(), new);
        });
        succeeds(&world, event("create")).await;
        succeeds(&world, rerun(&[A, B])).await;
        let of_new = world.data().snapshots.iter().filter(|snapshot| snapshot.volume.as_str() == "vol-0a2").count();
        assert_eq!(of_new, 1, "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn record_with_an_unreadable_state() {
    for way in [|event: Value| event, cutting] {
        let world = quick_fleet();
        world.data().unreadable.insert(A.to_owned(), "State is \"isolatd\"".to_owned());
        let answer = deliver(&world, way(event("create"))).await;
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{}", answer.reason);
        assert_eq!(answer.reason.matches(&format!("item {A} of the records table")).count(), 1, "{}", answer.reason);
        assert_eq!(answer.status, Status::Failed);
        assert!(answer.reason.starts_with(HEADLINE), "{}", answer.reason);
        {
            let data = world.data();
            assert!(data.set_aside.contains_key(A), "it is not lost");
            assert!(data.swapped_at.iter().all(|at| at.as_secs() < 15), "{:?}", data.swapped_at);
        }
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), quick_fleet().cards());
    }
}

/// As its answer to a Delete says: the next deployment writes it again.
#[tokio::test(start_paused = true)]
async fn intent_whose_held_instances_cannot_be_read() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    let spoil = || {
        let mut data = world.data();
        let key = format!("{INTENT_PREFIX}{}", data.intents.keys().next().unwrap());
        data.unreadable.insert(key, "attribute Held is no set of strings".to_owned());
    };
    spoil();
    let reason = fails(&world, as_request("a delete", event("delete"))).await;
    assert!(reason.contains("cannot be read (attribute Held is no set of strings): deploy it once more"), "{reason}");
    let answer = succeeds(&world, listing(&[A, B, C], rerun(&[A, B]))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"], "{}", answer.reason);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), quick_fleet().cards());
}

/// What else cannot be read of it says nothing of what it holds: no request waits for a person.
#[tokio::test(start_paused = true)]
async fn intent_whose_issue_time_cannot_be_read() {
    for request in [rerun(&[A, B]), as_request("a delete", event("delete"))] {
        let world = quick_fleet();
        succeeds(&world, event("create")).await;
        let key = format!("{INTENT_PREFIX}{}", world.data().intents.keys().next().unwrap());
        world.data().unreadable.insert(key, "attribute IssuedAt is no string".to_owned());
        let is_delete = request["RequestType"] == "Delete";
        let begun = tokio::time::Instant::now();
        succeeds(&world, request).await;
        // It is not read again for a minute first: new instances wait for it.
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert_eq!((isolated(&world).is_empty(), world.data().unreadable.is_empty()), (is_delete, true));
    }
}

#[tokio::test(start_paused = true)]
async fn record_of_a_deployment_that_was_denied_groups_changed_rightly_isolated_delete() {
    let world = quick_fleet();
    world.data().always = Some((SWAP, Fault::Denied));
    fails(&world, event("create")).await;
    assert_eq!(world.state(A), Some(State::Isolating));
    world.data().always = None;
    move_by_hand(&world, "eni-0a", &["sg-0d"]);
    let create = succeeds(&world, as_request("again", event("create"))).await;
    let delete = succeeds(&world, event("delete")).await;
    let what_it_had = world.cards()["eni-0a"] == groups(&["sg-0d"]);
    let named = "eni-0a was in [sg-0d] when it was isolated, but its record of an earlier try says [sg-0a]";
    assert!(what_it_had || create.reason.contains(named), "{} / {}", create.reason, delete.reason);
}

fn dry(event: Value) -> Value {
    let mut event = as_request("dry run", event);
    event["ResourceProperties"]["DryRun"] = json!("true");
    event
}

#[tokio::test(start_paused = true)]
async fn dry_run_on_an_unchanged_isolated_stack() {
    for way in [|event: Value| event, cutting] {
        let world = quick_fleet();
        succeeds(&world, way(event("create"))).await;
        let answer = succeeds(&world, dry(way(event("create")))).await;
        assert!(
            answer
                .reason
                .starts_with("dry run, nothing was changed: 2 of 2 instances isolated now; 0 steps would be taken"),
            "{}",
            answer.reason
        );
        assert!(!answer.reason.contains("tag "), "{}", answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn where_ec2_would_not_honour_dry_run_it_is_asked_with_the_isolation_group() {
    let world = quick_fleet();
    succeeds(&world, dry(cutting(event("create")))).await;
    let data = world.data();
    let asked: Vec<&String> = data.calls.iter().filter(|(action, _)| *action == SWAP).map(|(_, what)| what).collect();
    assert!(!asked.is_empty() && asked.iter().all(|what| what.ends_with(&format!("[{ISOLATION}]"))), "{asked:?}");
}

fn closed_replacement(world: &World) {
    let mut data = world.data();
    let closed = data.groups[&ISOLATION.parse().unwrap()].clone();
    let id = REPLACEMENT.parse().unwrap();
    data.groups.insert(REPLACEMENT.parse().unwrap(), Group { id, ..closed });
}

#[tokio::test(start_paused = true)]
async fn replaced_isolation_group_isolated_and_cut_hosts_go_straight_from_isolation_to_isolation() {
    for was_cut in [true, false] {
        let world = quick_fleet();
        let way = if was_cut { cutting } else { |event: Value| event };
        succeeds(&world, way(event("create"))).await;
        closed_replacement(&world);
        let before = world.data().calls.len();
        let mut update = listing(&[A, B], as_request("replaced", way(event("update"))));
        update["ResourceProperties"]["IsolatedSecurityGroupId"] = json!(REPLACEMENT);
        succeeds(&world, update).await;
        {
            let data = world.data();
            let swaps: Vec<String> = data.calls[before..]
                .iter()
                .filter(|(action, _)| *action == SWAP)
                .map(|(_, what)| what.clone())
                .collect();
            assert_eq!(swaps, ["eni-0a", "eni-0b"].map(|id| format!("{id} [{REPLACEMENT}]")), "cut: {was_cut}");
        }
        assert_eq!(entries(&world, "eni-0a"), usize::from(was_cut));
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), quick_fleet().cards());
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_starting_passes_the_transit_group_once_it_runs() {
    for seconds in [3, 20] {
        let world = quick_fleet();
        crate::set_state(&world, A, "pending");
        let starting = async {
            crate::after(seconds).await;
            crate::set_state(&world, A, "running");
        };
        let (answer, ()) = tokio::join!(deliver(&world, cutting(event("create"))), starting);
        assert_eq!((answer.status, answer.reason.as_str()), (Status::Success, HEADLINE), "{seconds}");
        assert!(world.data().records[&A.parse().unwrap()].connections_cut, "{seconds}");
    }
}

/// A refused try changes nothing: what the interface had when it was isolated is not what was recorded before.
#[tokio::test(start_paused = true)]
async fn groups_changed_rightly_while_the_swap_was_refused_for_now() {
    let world = quick_fleet();
    set_state(&world, C, "pending");
    let rightly = async {
        after(10).await;
        move_by_hand(&world, "eni-0c", &["sg-0d"]);
        after(10).await;
        set_state(&world, C, "running");
    };
    let (create, ()) = tokio::join!(succeeds(&world, listing(&[C], event("create"))), rightly);
    let delete = succeeds(&world, event("delete")).await;
    let what_it_had = world.cards()["eni-0c"] == groups(&["sg-0d"]);
    let named = "eni-0c was in [sg-0d] when it was isolated, but its record of an earlier try says [sg-0c]";
    assert!(what_it_had || create.reason.contains(named), "{} / {}", create.reason, delete.reason);
}

/// Its snapshots outlive it, whether or not they were saved in its record.
#[tokio::test(start_paused = true)]
async fn instance_terminated_after_its_snapshots_were_asked_for_and_before_they_were_saved() {
    for hidden in [0, 3] {
        let world = quick_fleet();
        let create = listing(&[A], event("create"));
        world.data().troubles_of.insert("ec2:CreateSnapshots", (0, Trouble::DiesAfter));
        die(&world, create.clone()).await;
        assert_eq!(world.data().snapshots.len(), 1);
        world.data().terminate(A);
        world.hide("snap-10", std::time::Duration::from_secs(hidden));
        let answer = deliver(&world, create).await;
        assert!(answer.reason.contains(&format!("{A} is terminated: ")), "{hidden}: {}", answer.reason);
        assert!(!answer.reason.contains("before its snapshots"), "{hidden}: {}", answer.reason);
        assert_eq!(answer.data.snapshot_count, "1", "{hidden}: {}", answer.reason);
        assert_eq!(world.data().records[&A.parse().unwrap()].snapshots.taken.len(), 1, "{hidden}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_snapshots_of_an_instance_terminated_since_are_counted_and_those_in_error_named() {
    for is_failed in [false, true] {
        let world = quick_fleet();
        succeeds(&world, event("create")).await;
        let of_a = world.data().records[&A.parse().unwrap()].snapshots.taken.values().next().unwrap().clone();
        world.data().terminate(A);
        world.data().snapshots.iter_mut().filter(|found| found.id == of_a).for_each(|found| found.failed = is_failed);
        let mut partial = rerun(&[A, B]);
        partial["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
        let answer = succeeds(&world, partial).await;
        let count = if is_failed { "1" } else { "2" };
        assert_eq!(answer.data.snapshot_count, count, "{}", answer.reason);
        assert_eq!(answer.reason.contains(&format!("snapshot {of_a} of ")), is_failed, "{}", answer.reason);
    }
}
