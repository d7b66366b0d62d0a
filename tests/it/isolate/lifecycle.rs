//! The life of an incident, from the sample events.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::State;
use ec2_isolation::ports::Fault;
use serde_json::json;

use crate::world::Trouble;
use crate::{
    A, B, BYSTANDER, C, D, as_request, deliver, event, fails, fleet, isolated, move_by_hand, succeeds, with, world,
};

#[tokio::test(start_paused = true)]
async fn a_create_isolates_and_a_delete_gives_everything_back() {
    let world = fleet();
    let start = world.cards();
    let answer = succeeds(&world, event("create")).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    assert_eq!(answer.reason, "2 instances isolated (2 interfaces), 2 snapshots");
    assert_eq!(answer.data.isolated_instances, format!("{A},{B}"));
    assert_eq!((answer.data.isolated_instance_count.as_str(), answer.data.snapshot_count.as_str()), ("2", "2"));
    assert_eq!(world.state(A), Some(State::Isolated));
    assert_eq!(world.data().tags["eni-0b"]["ec2-isolation:original-groups-1"], "sg-0b sg-0c");

    let answer = succeeds(&world, event("delete")).await;
    assert_eq!(answer.reason, "2 instances restored");
    assert_eq!(world.cards(), start);
    assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Restored)));
    assert!(!world.data().tags.keys().any(|id| id.starts_with("eni-") || id.starts_with("i-")), "our tags are gone");
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_two_interfaces_gets_each_its_own_groups_back() {
    let world = fleet();
    let start = world.cards();
    succeeds(&world, event("create-two-interfaces")).await;
    assert_eq!(isolated(&world), ["eni-0d1", "eni-0d2"]);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_before_it_is_recorded() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let calls = world.data().calls.clone();
    for (instance, interface) in [(A, "eni-0a"), (B, "eni-0b")] {
        let position = |action: &str, what: &str| {
            let action =
                if action == "record" { "dynamodb:TransactWriteItems" } else { "ec2:ModifyNetworkInterfaceAttribute" };
            calls.iter().position(|call| call.0 == action && call.1.contains(what))
        };
        assert!(position("record", instance).unwrap() < position("swap", interface).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_changes_nothing() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let (cards, records) = (world.cards(), world.data().records.clone());
    world.data().calls.clear();
    succeeds(&world, event("create")).await;
    succeeds(&world, with("update", "InstanceIds", json!([A, B]))).await;
    assert_eq!((world.cards(), world.data().records.clone()), (cards, records));
    for change in
        ["ec2:ModifyNetworkInterfaceAttribute", "ec2:CreateSnapshots", "ec2:CreateTags", "dynamodb:TransactWriteItems"]
    {
        assert_eq!(world.count(change), 0, "{change}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_isolates_what_is_new_and_keeps_what_is_no_longer_listed() {
    let world = fleet();
    let start = world.cards();
    succeeds(&world, event("create")).await;
    let answer = succeeds(&world, event("update")).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"]);
    assert_eq!(
        answer.reason,
        format!(
            "2 instances isolated (2 interfaces), 2 snapshots | {A} still isolated though no longer listed: OnRemoval is KeepIsolated"
        )
    );
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_moved_and_is_no_longer_listed_is_not_called_isolated() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    move_by_hand(&world, "eni-0a", &["sg-0a"]);
    let left = format!("{A}: eni-0a is not isolated: it was left alone in [sg-0a]");
    let answer = succeeds(&world, event("update")).await;
    assert!(answer.reason.contains(&left) && !answer.reason.contains("still isolated"), "{}", answer.reason);
    world.data().always = Some(("cloudformation:DescribeStacks", Fault::Denied));
    let reason = fails(&world, as_request("again", with("update", "OnRemoval", json!("Restore")))).await;
    assert!(reason.contains("nothing was restored: the stack's status cannot be read: "), "{reason}");
    assert!(reason.contains(&left) && !reason.contains("still isolated"), "{reason}");
    assert_eq!(isolated(&world), ["eni-0b", "eni-0c"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_restores_what_is_no_longer_listed_where_that_is_asked_for() {
    let world = fleet();
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, event("create")).await;
    succeeds(&world, with("update", "OnRemoval", json!("Restore"))).await;
    assert_eq!(isolated(&world), ["eni-0b", "eni-0c"]);
    assert_eq!(world.state(A), Some(State::Restored));
}

#[tokio::test(start_paused = true)]
async fn an_instance_isolated_again_after_its_restore_starts_afresh() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    succeeds(&world, event("delete")).await;
    world.data().instances.get_mut(&A.parse().unwrap()).unwrap().interfaces[0].groups = world::groups(&["sg-0d"]);
    let mut again = event("create");
    again["RequestId"] = json!("again");
    succeeds(&world, again).await;
    let record = world.data().records[&A.parse().unwrap()].clone();
    assert_eq!(record.interfaces[&"eni-0a".parse().unwrap()], world::groups(&["sg-0d"]));
}

#[tokio::test(start_paused = true)]
async fn one_instance_that_fails_does_not_stop_the_others() {
    let world = fleet();
    world.add("i-0f", "vpc-0f", &[("eni-0f", &["sg-0a"])]);
    world.data().refused.insert("eni-0d2".parse().unwrap());
    let reason = fails(&world, with("create", "InstanceIds", json!(["i-0f", "i-0123", D, A]))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0d1"]);
    let expected = [
        "1 of 4 instances isolated (2 interfaces), 2 snapshots",
        &format!(
            "{D}: isolate eni-0d2 [sg-0b, sg-0d] -> [{}]: ec2:ModifyNetworkInterfaceAttribute failed: AuthFailure: as EC2 does \
             (EC2 lets only its maker change this interface; AllowPartialIsolation accepts that)",
            world::ISOLATION
        ),
        &format!("i-0f is in vpc-0f, not in {}: isolate it with a stack of its own, with VpcId vpc-0f", world::VPC),
        "i-0123 does not exist in this account and region: check the id, or take it off CompromisedInstanceList",
        &crate::deploy_again(),
    ];
    assert_eq!(reason, expected.join(" | "));
}

#[tokio::test(start_paused = true)]
async fn partial_isolation_is_a_success_only_where_it_is_allowed_and_something_is_isolated() {
    let world = fleet();
    world.data().refused.insert("eni-0d2".parse().unwrap());
    let mut partial = with("create-two-interfaces", "AllowPartialIsolation", json!("true"));
    let answer = succeeds(&world, partial.clone()).await;
    assert_eq!(answer.data.not_isolated, format!("{D}/eni-0d2"));
    world.data().refused.insert("eni-0c".parse().unwrap());
    partial["ResourceProperties"]["InstanceIds"] = json!([C]);
    partial["RequestId"] = json!("nothing at all");
    fails(&world, partial).await;
}

/// A denial of IAM can be put right, and a change that nobody sees is none that EC2 refuses.
#[tokio::test(start_paused = true)]
async fn partial_isolation_accepts_what_ec2_refuses_and_nothing_else() {
    let swap = "ec2:ModifyNetworkInterfaceAttribute";
    for (fault, accepted) in [(Fault::Refused, true), (Fault::Denied, false), (Fault::Server, false)] {
        let world = fleet();
        world.data().always_on = Some((swap, "eni-0d2".to_owned(), fault));
        let partial = with("create-two-interfaces", "AllowPartialIsolation", json!("true"));
        let answer = deliver(&world, partial).await;
        assert_eq!(answer.status == Status::Success, accepted, "{fault:?}: {}", answer.reason);
        assert_eq!(isolated(&world), ["eni-0d1"]);
    }
    let world = fleet();
    world.data().show(&"eni-0d2".parse().unwrap(), world::groups(&["sg-0b"]), u32::MAX);
    world.data().stale_reads = u32::MAX;
    let reason = fails(&world, with("create-two-interfaces", "AllowPartialIsolation", json!("true"))).await;
    assert!(
        reason.contains("NotVisible: EC2 accepted the change but 30 s later still shows the old state"),
        "{reason}"
    );
}

/// What is isolated is what was seen; where nothing is seen, no number is given.
#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_look_claims_neither_isolation_nor_its_absence() {
    let world = fleet();
    world.data().always = Some(("ec2:DescribeInstances", Fault::Denied));
    let reason = fails(&world, event("create")).await;
    assert!(
        reason.starts_with("it is not known whether 2 instances are isolated | ec2:DescribeInstances failed"),
        "{reason}"
    );

    for (reads, headline) in [
        (0, "it is not known whether 2 instances are isolated"),
        (1, "it is not known what is isolated now; last seen: 2 instances isolated (2 interfaces)"),
    ] {
        let world = fleet();
        world.data().stale_reads = 0;
        succeeds(&world, event("create")).await;
        world.data().troubles_of.insert("dynamodb:BatchGetItem", (reads, Trouble::Fails(Fault::Refused)));
        let reason = fails(&world, event("update")).await;
        assert!(reason.starts_with(headline) && reason.contains("what is true now is not known"), "{reason}");
    }
}

/// On SUCCESS CloudFormation shows the attributes alone.
#[tokio::test(start_paused = true)]
async fn the_summary_says_what_is_worth_knowing_on_a_success() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let answer = succeeds(&world, with("update", "InstanceIds", json!([A]))).await;
    let expected = format!(
        "1 instance isolated (1 interface), 1 snapshot | {B} still isolated though no longer listed: OnRemoval is KeepIsolated"
    );
    assert_eq!((answer.data.summary, answer.reason), (expected.clone(), expected));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_request_changes_nothing() {
    let world = fleet();
    for (property, value) in [
        ("InstanceIds", json!([])),
        ("InstanceIds", json!([""])),
        ("InstanceIds", json!([A, "web-1"])),
        ("VpcId", json!("")),
        ("IsolatedSecurityGroupId", json!("default")),
        ("SnapshotVolumes", json!("maybe")),
    ] {
        let reason = fails(&world, with("create", property, value.clone())).await;
        assert!(reason.starts_with("nothing was changed: property "), "{property} {value}: {reason}");
        assert!(reason.contains(property), "{property} {value}: {reason}");
    }
    fails(&world, event("update-bad-property")).await;
    // Each asked once what an earlier request may have left.
    let asked: Vec<&str> = world.data().calls.iter().map(|(action, _)| *action).collect();
    assert_eq!(asked, ["dynamodb:BatchGetItem"; 7]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_what_never_was_succeeds_and_touches_nothing() {
    let world = fleet();
    let answer = succeeds(&world, event("delete-after-failed-create")).await;
    assert_eq!(answer.reason, "nothing to restore: no instance is held isolated");
    assert_eq!(answer.physical_resource_id, "incident-2026-11-25-Isolation-1K3XQZ9M7T2RB");
    assert_eq!(world.count("ec2:ModifyNetworkInterfaceAttribute"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delete_under_an_invented_id_finds_what_a_failed_create_isolated() {
    let world = fleet();
    let start = world.cards();
    fails(&world, with("create", "InstanceIds", json!([A, "i-0123"]))).await;
    assert_eq!(isolated(&world), ["eni-0a"]);
    succeeds(&world, event("delete-after-failed-create")).await;
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn a_lost_original_group_is_left_out_and_named() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().groups.remove(&"sg-0c".parse().unwrap());
    let answer = succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0b"], world::groups(&["sg-0b"]));
    assert!(
        answer.reason.ends_with(&format!("{B}: eni-0b was restored without [sg-0c], which no longer exist")),
        "{}",
        answer.reason
    );
}

#[tokio::test(start_paused = true)]
async fn an_interface_without_any_original_left_stays_isolated_and_fails_the_delete() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().groups.remove(&"sg-0a".parse().unwrap());
    let reason = fails(&world, event("delete")).await;
    assert_eq!(isolated(&world), ["eni-0a"]);
    assert!(reason.starts_with(&format!("1 of 2 instances restored; still isolated: {A} | ")), "{reason}");
    assert!(reason.contains("eni-0a stays isolated, its original groups [sg-0a] no longer exist"), "{reason}");
    let next = format!(
        "next: the function goes with the stack, so run ec2-isolation restore --stack incident-2026-11-25 --finish, or restore by \
         hand: run the commands in RestoreCommands of each item of table {} \
         (the tags ec2-isolation:original-groups-… of each interface say the same), then aws cloudformation delete-stack \
         --stack-name incident-2026-11-25 --retain-resources Isolation | log stream: a log stream",
        world::TABLE
    );
    assert!(reason.ends_with(&next) && !reason.contains("Rerun"), "{reason}");
    assert_eq!(world.state(A), Some(State::Isolated));
}

#[tokio::test(start_paused = true)]
async fn a_terminated_instance_counts_as_restored() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().instances.remove(&A.parse().unwrap());
    succeeds(&world, event("delete")).await;
    assert_eq!(world.state(A), Some(State::Restored));
}

#[tokio::test(start_paused = true)]
async fn a_bystander_is_never_in_any_call() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    succeeds(&world, event("update")).await;
    succeeds(&world, event("delete")).await;
    let calls = world.data().calls.clone();
    assert!(!calls.iter().any(|(_, what)| what.contains("eni-0e") || what.contains(BYSTANDER)), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_saves_the_snapshots_that_an_earlier_try_took() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    // The try before took them and was cut off before it could say so.
    {
        let mut data = world.data();
        let snapshots = &mut data.records.get_mut(&A.parse().unwrap()).unwrap().snapshots;
        snapshots.taken.clear();
        snapshots.requested = true;
    }
    let taken = world.count("ec2:CreateSnapshots");
    succeeds(&world, event("create")).await;
    assert_eq!(world.count("ec2:CreateSnapshots"), taken);
    let snapshots = world.data().records[&A.parse().unwrap()].snapshots.clone();
    assert_eq!((snapshots.taken.len(), snapshots.requested), (1, false));
}

#[tokio::test(start_paused = true)]
async fn an_event_nobody_waits_for_changes_nothing() {
    let world = fleet();
    for url in ["", "https://bucket/key?X-Amz-Date=20200101T000000Z&X-Amz-Expires=7200"] {
        let mut old = event("create");
        old["ResponseURL"] = json!(url);
        assert_eq!(crate::run(&world, old).await, json!({"answered": false}));
    }
    assert_eq!(world.data().calls, []);
    assert_eq!(world.data().answers, []);
}

#[tokio::test(start_paused = true)]
async fn the_physical_id_is_the_same_on_every_answer() {
    let world = fleet();
    let mut ids = std::collections::BTreeSet::new();
    for event in [event("create"), event("update"), event("update-bad-property"), event("delete")] {
        ids.insert(deliver(&world, event).await.physical_resource_id);
    }
    assert_eq!(ids, ["ec2-isolation-af46e4b7d4bfea65b7dbb2f6181b4fc5".to_owned()].into());
}

#[tokio::test(start_paused = true)]
async fn each_snapshot_of_a_set_is_labelled_or_the_request_fails() {
    for (fault, lasts) in [(Fault::Throttled, false), (Fault::Denied, false), (Fault::Denied, true)] {
        let world = fleet();
        let mut volume = world.data().instances[&A.parse().unwrap()].volumes.values().next().unwrap().clone();
        volume.device = "/dev/sdb".to_owned();
        let second = "vol-0a2".parse().unwrap();
        world.data().instances.get_mut(&A.parse().unwrap()).unwrap().volumes.insert(second, volume);
        if lasts {
            world.data().always_on = Some(("ec2:CreateTags", "snap-".to_owned(), fault));
        } else {
            // Two interfaces and both instances are tagged first.
            world.data().troubles_of.insert("ec2:CreateTags", (3, Trouble::Fails(fault)));
        }
        let answer = deliver(&world, event("create")).await;
        assert_eq!(answer.status == Status::Failed, lasts, "{}", answer.reason);
        assert_eq!(answer.reason.contains("tag snap-"), lasts, "{}", answer.reason);
        assert_eq!(answer.data.snapshot_count, "3");
        let of_a: Vec<bool> = world.data().snapshots.iter().map(|snapshot| snapshot.labelled).collect();
        assert_eq!(of_a.iter().filter(|labelled| **labelled).count(), if lasts { 1 } else { 3 });
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_tells_when_what_was_done_and_who_asked() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, with("delete", "Rerun", json!("x"))).await;
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    let history = world.data().records[&A.parse().unwrap()].history.clone();
    let told: Vec<&str> = history.iter().map(|line| line.split_once("Z ").unwrap().1).collect();
    let (create, delete) = (&event("create")["RequestId"], &event("delete")["RequestId"]);
    let asked_by =
        |what: &str, id: &serde_json::Value| format!("(asked by CloudFormation {what} {})", id.as_str().unwrap());
    let (create, delete) = (asked_by("Create", create), asked_by("Delete", delete));
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(told[0], format!("recorded: eni-0a [sg-0a] {create}"));
    assert_eq!(told[1], format!("isolated, connections not cut {create}"));
    assert_eq!(told[2], format!("snapshots: snap-10 {create}"));
    assert!(
        told[3].starts_with("kept: the stack itself is not being deleted (UPDATE_IN_PROGRESS) (asked by "),
        "{told:?}"
    );
    assert_eq!(told[4..], [format!("restoring {delete}"), format!("restored {delete}")]);
}
