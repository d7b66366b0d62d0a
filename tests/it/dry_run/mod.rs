//! Dry runs: everything is said, nothing is done.

use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::ports::Fault;
use serde_json::{Value, json};

use crate::operator::{named, try_restore};
use crate::world::{ISOLATION, STACK, TRANSIT, Trouble, World};
use crate::{A, B, C, cutting, deliver, die, event, fails, fleet, isolated, listing, quick_fleet, succeeds, with};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

fn dry(mut event: Value) -> Value {
    event["ResourceProperties"]["DryRun"] = json!("true");
    event["RequestId"] = json!("dry run");
    event
}

/// The calls that can change something.
fn changes(world: &World) -> Vec<String> {
    let data = world.data();
    let changes = data.calls.iter().filter(|(action, what)| {
        let reads = ["ec2:Describe", "dynamodb:BatchGet", "cloudformation:Describe", "autoscaling:Describe"];
        !reads.iter().any(|read| action.starts_with(read)) && !what.starts_with("dry run ")
    });
    changes.map(|(action, what)| format!("{action} {what}")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let world = fleet();
    let answer = succeeds(&world, dry(cutting(event("create")))).await;
    let expected = [
        "dry run, nothing was changed: 0 of 2 instances isolated now; 29 steps would be taken".to_owned(),
        format!("{A}: record eni-0a [sg-0a]"),
        format!("{A}: isolate eni-0a by way of {TRANSIT} for 5 s -> [{ISOLATION}]"),
        format!("{B}: record eni-0b [sg-0b, sg-0c]"),
        format!("{B}: isolate eni-0b by way of {TRANSIT} for 5 s -> [{ISOLATION}]"),
    ];
    assert!(answer.reason.starts_with(&expected.join(" | ")), "{}", answer.reason);
    assert!(answer.reason.contains(&format!("{A}: snapshot vol-0a1b2c3d4e5f60718")), "{}", answer.reason);
    // What follows from what is saved is said, too, and nothing twice.
    assert!(answer.reason.contains(&format!(" | web: {A} to standby")), "{}", answer.reason);
    assert_eq!(answer.reason.matches(&format!("{A}: save ")).count(), 1, "{}", answer.reason);
    assert_eq!((answer.data.isolated_instance_count.as_str(), answer.data.snapshot_count.as_str()), ("0", "0"));
    assert_eq!(answer.data.not_isolated, format!("{A}/eni-0a,{B}/eni-0b"));
    assert!(answer.data.summary.starts_with("dry run, nothing was changed: "), "{}", answer.data.summary);
    assert_eq!(changes(&world), [""; 0]);
    assert_eq!(world.data().intents.len(), 0);
    // The isolation group was asked about for both interfaces, never the transit group.
    assert_eq!(world.count(SWAP), 2);

    succeeds(&world, cutting(event("create"))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

/// Its stack would go on and make the host, since CloudFormation knows nothing of a dry run (trials.md, section 10).
#[tokio::test(start_paused = true)]
async fn a_first_dry_run_fails_before_the_forensic_host_is_made_and_has_the_plan() {
    let world = fleet();
    let with_host = |host: &str| {
        let mut event = dry(cutting(event("create")));
        event["ResourceProperties"]["ForensicHost"] = json!(host);
        event
    };
    let reason = fails(&world, with_host("true")).await;
    let why = "the function changed nothing: CloudFormation itself acts on new values of ForensicHost (a first dry run needs false), even if \
               DryRun is true: set them back and give a new Rerun, or set DryRun=false | dry run, nothing was changed: 0 of 2 instances \
               isolated now; 29 steps would be taken | ";
    assert!(reason.starts_with(why), "{reason}");
    assert!(reason.contains(&format!("{A}: isolate eni-0a by way of {TRANSIT}")), "{reason}");
    assert_eq!((changes(&world), world.data().intents.len()), (vec![], 0));
    // What failed is created again.
    let answer = succeeds(&world, with_host("false")).await;
    assert!(answer.reason.starts_with("dry run, nothing was changed: "), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_fails_where_the_request_would() {
    let world = fleet();
    world.data().refused.insert("eni-0b".parse().unwrap());
    let reason = fails(&world, dry(with("create", "InstanceIds", json!([A, B, "i-0123"])))).await;
    assert!(
        reason.contains(&format!("{B}: isolate eni-0b [sg-0b, sg-0c] -> [{ISOLATION}]: {SWAP} failed: AuthFailure")),
        "{reason}"
    );
    assert!(reason.contains("i-0123 does not exist in this account and region"), "{reason}");
    assert!(reason.contains(&format!("{A}: record eni-0a [sg-0a]")), "{reason}");
    let mut partial = dry(with("create", "InstanceIds", json!([A, B])));
    partial["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
    succeeds(&world, partial).await;
    world.data().always = Some(("ec2:DescribeInstances", Fault::Refused));
    let reason = fails(&world, dry(event("create"))).await;
    assert!(reason.starts_with("dry run, nothing was changed: ec2:DescribeInstances failed"), "{reason}");
    assert_eq!(changes(&world), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_an_update_leaves_what_is_wanted_as_it_is() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().calls.clear();
    let answer = succeeds(&world, dry(with("update", "InstanceIds", json!([A, C])))).await;
    let expected = "dry run, nothing was changed: 1 of 2 instances isolated now; ";
    assert!(answer.reason.starts_with(expected), "{}", answer.reason);
    let kept = format!("{B} would stay isolated though no longer listed: OnRemoval is KeepIsolated");
    assert!(answer.reason.contains(&kept), "{}", answer.reason);
    assert_eq!((changes(&world).len(), isolated(&world)), (0, vec!["eni-0a".to_owned(), "eni-0b".to_owned()]));
    let wanted = world.data().intents.values().next().unwrap().0.clone();
    assert_ne!(wanted.request_id, "dry run");
}

/// What another instance's record says of an interface counts, also if that instance is no longer listed.
#[tokio::test(start_paused = true)]
async fn a_dry_run_knows_the_records_of_what_is_no_longer_listed() {
    let world = fleet();
    world.attach(A, "eni-0f", &["sg-0a"]);
    succeeds(&world, event("create")).await;
    world.data().calm();
    world.move_to("eni-0f", B);
    let answer = succeeds(&world, dry(with("update", "InstanceIds", json!([B])))).await;
    assert!(answer.reason.contains(&format!("{B}: record eni-0f [sg-0a] (added)")), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn what_a_dry_run_did_not_isolate_needs_no_restore_and_what_is_isolated_gets_it() {
    let world = fleet();
    succeeds(&world, dry(event("create"))).await;
    let mut delete = dry(event("delete"));
    delete["RequestId"] = json!("delete");
    let answer = deliver(&world, delete.clone()).await;
    assert_eq!(
        (answer.status, answer.reason.as_str()),
        (Status::Success, "nothing to restore: no instance is held isolated")
    );

    let world = fleet();
    let start = world.cards();
    succeeds(&world, event("create")).await;
    succeeds(&world, dry(event("update"))).await;
    succeeds(&world, delete).await;
    assert_eq!(world.cards(), start);
    assert_eq!(world.state(A), Some(ec2_isolation::model::State::Restored));
}

/// CloudFormation keeps a parameter's last value: who deploys in earnest and forgets it must not read that all went well.
#[tokio::test(start_paused = true)]
async fn a_dry_run_after_a_dry_run_fails_unless_a_new_rerun_says_that_it_is_meant() {
    let text = "the function changed nothing: DryRun is true, as in the deployment before: set DryRun=false to isolate; to rehearse \
                once more, give a new Rerun as well";
    let again = |rerun: &str, instances: Value| {
        let mut event = dry(with("update", "InstanceIds", instances));
        event["OldResourceProperties"] = json!({"DryRun": "true", "Rerun": "1"});
        event["ResourceProperties"]["Rerun"] = json!(rerun);
        event
    };
    let world = fleet();
    world.set_status("UPDATE_IN_PROGRESS");
    let reason = fails(&world, again("1", json!([A, B]))).await;
    assert!(reason.starts_with(text), "{reason}");
    succeeds(&world, again("2", json!([A, B]))).await;
    let mut first = again("1", json!([A]));
    first["OldResourceProperties"]["DryRun"] = json!("false");
    succeeds(&world, first).await;
    // CloudFormation did change something.
    let mut revoking = again("1", json!([A]));
    revoking["ResourceProperties"]["RevokeRoles"] = json!(["web"]);
    let reason = fails(&world, revoking).await;
    let text = "the function changed nothing: DryRun is true, as in the deployment before, and CloudFormation itself acts on new values \
                of RevokeRoles: set DryRun=false to isolate; to rehearse once more, set them back and give a new Rerun as well";
    assert!(reason.starts_with(text), "{reason}");
    // A rollback goes back to what was there, a dry run.
    world.set_status("UPDATE_ROLLBACK_IN_PROGRESS");
    succeeds(&world, again("1", json!([A, B]))).await;
    assert_eq!(isolated(&world), [""; 0]);
}

/// CloudFormation acts on the rest of the template all the same: it deletes the host with an investigation on it, ends the denial of
/// stolen credentials, or denies those of production.
#[tokio::test(start_paused = true)]
async fn a_dry_run_that_cloudformation_itself_would_not_keep_to_fails() {
    let refused = |names: &str| {
        format!(
            "the function changed nothing: CloudFormation itself acts on new values of {names}, even if DryRun is true: set them back \
             and give a new Rerun, or set DryRun=false"
        )
    };
    let earnest = || {
        let mut event = with("update", "InstanceIds", json!([A, B]));
        event["ResourceProperties"]["ForensicHost"] = json!("true");
        event["ResourceProperties"]["RevokeRoles"] = json!(["web"]);
        event
    };
    let other = |name: &str, value: Value| {
        let mut event = dry(earnest());
        event["ResourceProperties"][name] = value;
        event
    };
    let world = fleet();
    world.set_status("UPDATE_IN_PROGRESS");
    // Nothing is isolated yet.
    let first = |mut event: Value| {
        event["OldResourceProperties"].take();
        event["ResourceProperties"]["ForensicHost"] = json!("false");
        event
    };
    let reason = fails(&world, first(dry(earnest()))).await;
    assert!(reason.starts_with(&refused("RevokeRoles")), "{reason}");
    succeeds(&world, first(other("RevokeRoles", json!([""])))).await;
    succeeds(&world, earnest()).await;
    succeeds(&world, dry(earnest())).await;
    let mut without = other("ForensicHost", json!("false"));
    without["ResourceProperties"]["ForensicSecurityGroupId"] = json!("");
    let reason = fails(&world, without).await;
    assert!(reason.starts_with(&refused("ForensicHost")), "{reason}");
    for (name, value, named) in [
        // The id of the stack's own group, copied from its outputs.
        ("ForensicHost", json!("false"), "ForensicSecurityGroupId"),
        ("ForensicPorts", json!("22,3389"), "ForensicPorts"),
        ("Watch", json!("Off"), "Watch"),
        ("RevokeRoles", json!(["web", "db"]), "RevokeRoles"),
        ("RevokeRoles", Value::Null, "RevokeRoles"),
        ("InstanceIds", json!([A, B, C]), "CompromisedInstanceList (for RevokeRoles)"),
    ] {
        let reason = fails(&world, other(name, value.clone())).await;
        assert!(reason.starts_with(&refused(named)), "{name} {value}: {reason}");
    }
    // A rollback goes back to such a one.
    world.set_status("UPDATE_ROLLBACK_IN_PROGRESS");
    succeeds(&world, other("ForensicHost", json!("false"))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

/// DescribeStacks may trail the rollback by seconds, and may fail.
#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_dry_run_succeeds_though_the_stacks_status_trails() {
    let world = fleet();
    world.set_status("UPDATE_IN_PROGRESS");
    let mut earnest = event("update");
    earnest["ResourceProperties"]["ForensicHost"] = json!("true");
    succeeds(&world, earnest).await;
    let first = (0, Trouble::Fails(Fault::Throttled));
    world.data().troubles_of.insert("cloudformation:DescribeStacks", first);
    world.before_call_of("cloudformation:DescribeStacks", 2, |data| {
        data.stacks.get_mut(STACK).unwrap().status = "UPDATE_ROLLBACK_IN_PROGRESS".to_owned();
    });
    let back = succeeds(&world, dry(event("update"))).await;
    assert!(back.reason.starts_with("dry run, nothing was changed: "), "{}", back.reason);
}

/// A stack that cannot be rolled back takes no update, in the middle of the incident.
#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_dry_run_succeeds_where_its_plan_would_fail() {
    let world = quick_fleet();
    succeeds(&world, dry(event("create"))).await;
    world.set_status("UPDATE_IN_PROGRESS");
    world.data().refused.insert("eni-0b".parse().unwrap());
    fails(&world, event("update")).await;
    let mut back = dry(event("update"));
    back["RequestId"] = json!("the rollback");
    fails(&world, dry(event("update"))).await;
    world.set_status("UPDATE_ROLLBACK_IN_PROGRESS");
    let answer = succeeds(&world, back).await;
    assert!(
        answer.reason.starts_with("dry run, nothing was changed: 1 of 2 instances isolated now; "),
        "{}",
        answer.reason
    );
    assert!(answer.reason.contains("eni-0b"), "{}", answer.reason);
}

/// What failed before may have left something in the transit group: no person asked for this dry run.
#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_dry_run_leaves_nothing_in_the_transit_group() {
    // Listed by the dry run to which it goes back, or not.
    for (is_refused, listed) in [(false, A), (false, B), (true, A), (true, B)] {
        let world = quick_fleet();
        succeeds(&world, dry(listing(&[listed], event("create")))).await;
        world.set_status("UPDATE_IN_PROGRESS");
        world.data().troubles_of.insert(SWAP, (0, Trouble::DiesAfter));
        die(&world, cutting(listing(&[A], event("update")))).await;
        assert_eq!(world.data().in_transit(), ["eni-0a"]);
        world.set_status("UPDATE_ROLLBACK_IN_PROGRESS");
        let mut back = dry(listing(&[listed], event("update")));
        back["RequestId"] = json!("the rollback");
        if is_refused {
            world.data().always = Some((SWAP, Fault::Denied));
            let reason = fails(&world, back).await;
            let said = format!(
                "{A} in the transit group, which is open to everybody: the stack rolls back to a dry run | {A}: "
            );
            assert!(reason.starts_with(&said), "{reason}");
            assert_eq!(reason.matches("--network-interface-id eni-0a").count(), 1, "{reason}");
        } else {
            let answer = succeeds(&world, back).await;
            let said = format!(
                "an earlier request had not ended: {A} moved into isolation, nothing else was changed: the stack rolls back to a dry run | "
            );
            assert!(answer.reason.starts_with(&said), "{}", answer.reason);
            assert_eq!(isolated(&world), ["eni-0a"]);
        }
    }
}

/// It is open to everybody, and a dry run does nothing about it.
#[tokio::test(start_paused = true)]
async fn a_dry_run_names_what_is_in_the_transit_group_first() {
    let world = quick_fleet();
    world.data().troubles_of.insert(SWAP, (0, Trouble::DiesAfter));
    die(&world, cutting(listing(&[A], event("create")))).await;
    assert_eq!(world.data().in_transit(), ["eni-0a"]);
    let reason = fails(&world, dry(cutting(listing(&[A], event("update"))))).await;
    let said: Vec<&str> = reason.split(" | ").take(2).collect();
    assert!(said[0].starts_with("dry run, nothing was changed: 0 of 1 instance isolated now; "), "{reason}");
    let command = format!(
        "{A}: eni-0a may be in {TRANSIT}, which is open to everybody: run aws ec2 modify-network-interface-attribute \
         --network-interface-id eni-0a --groups {ISOLATION}"
    );
    assert_eq!(said[1], command, "{reason}");
    assert_eq!(world.data().in_transit(), ["eni-0a"]);
}

/// DescribeStacks may still show how the update before ended: it was rolled back.
#[tokio::test(start_paused = true)]
async fn a_dry_run_is_refused_though_one_reading_shows_the_rollback_before() {
    for (status, is_refused) in [
        ("UPDATE_ROLLBACK_COMPLETE", true),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", true),
        ("ROLLBACK_COMPLETE", true),
        ("UPDATE_ROLLBACK_FAILED", true),
        ("UPDATE_ROLLBACK_IN_PROGRESS", false),
        ("ROLLBACK_IN_PROGRESS", false),
    ] {
        let world = fleet();
        world.set_status("UPDATE_IN_PROGRESS");
        succeeds(&world, hosting(event("update"))).await;
        world.set_status(status);
        world.before_call_of("cloudformation:DescribeStacks", 1, |data| {
            data.stacks.get_mut(STACK).unwrap().status = "UPDATE_IN_PROGRESS".to_owned();
        });
        let answer = deliver(&world, dry(without_host(hosting(event("update"))))).await;
        assert_eq!(answer.status == Status::Failed, is_refused, "{status}: {}", answer.reason);
    }
}

fn hosting(mut event: Value) -> Value {
    event["ResourceProperties"]["ForensicHost"] = json!("true");
    event["ResourceProperties"]["RevokeRoles"] = json!(["web"]);
    event
}

fn without_host(mut event: Value) -> Value {
    event["ResourceProperties"]["ForensicHost"] = json!("false");
    event["ResourceProperties"]["ForensicSecurityGroupId"] = json!("");
    event
}

/// CloudFormation knows nothing of it: what it would act on is what is new since its own last deployment.
#[tokio::test(start_paused = true)]
async fn what_the_operators_program_restored_is_no_new_value() {
    let refused =
        |names: &str| format!("the function changed nothing: CloudFormation itself acts on new values of {names}, ");
    let deployed = || hosting(with("update", "InstanceIds", json!([A, B])));
    let update = |now: Value| {
        let mut event = dry(now);
        event["OldResourceProperties"] = deployed()["ResourceProperties"].take();
        event
    };
    let set = |name: &str, value: Value| {
        let mut event = deployed();
        event["ResourceProperties"][name] = value;
        update(event)
    };
    for restored in [vec![], vec![A], vec![A, B]] {
        let world = fleet();
        world.set_status("UPDATE_IN_PROGRESS");
        succeeds(&world, deployed()).await;
        try_restore(&world, &named(&restored)).await.unwrap();
        for (name, value) in [("DryRun", json!("true")), ("LockSnapshotDays", json!("7"))] {
            let answer = succeeds(&world, set(name, value)).await;
            assert!(answer.reason.starts_with("dry run, nothing was changed: "), "{restored:?}: {}", answer.reason);
        }
        let others = [
            (update(without_host(deployed())), "ForensicHost"),
            (set("Watch", json!("Off")), "Watch"),
            (set("ForensicPorts", json!("22,3389")), "ForensicPorts"),
            (set("RevokeRoles", Value::Null), "RevokeRoles"),
            (set("InstanceIds", json!([A, B, C])), "CompromisedInstanceList (for RevokeRoles)"),
            (set("InstanceIds", json!([B])), "CompromisedInstanceList (for RevokeRoles)"),
        ];
        for (event, name) in others {
            let reason = fails(&world, event).await;
            assert!(reason.starts_with(&refused(name)), "{restored:?} {name}: {reason}");
        }
    }
    // What cannot be read says as little.
    let world = fleet();
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, deployed()).await;
    for (intent, _) in world.data().intents.values_mut() {
        intent.desired = ec2_isolation::model::Desired::Unknown("garbled".to_owned());
    }
    succeeds(&world, update(deployed())).await;
    let reason = fails(&world, update(without_host(deployed()))).await;
    assert!(reason.starts_with(&refused("ForensicHost")), "{reason}");
}

/// CloudFormation may keep the list of a dry run that was refused as what was before.
#[tokio::test(start_paused = true)]
async fn a_dry_run_that_was_refused_can_be_set_back() {
    let world = fleet();
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, hosting(listing(&[A, B], event("update")))).await;
    let further = dry(hosting(listing(&[A, B, C], event("update"))));
    fails(&world, further.clone()).await;
    let mut back = dry(hosting(listing(&[A, B], event("update"))));
    back["OldResourceProperties"] = further["ResourceProperties"].clone();
    back["ResourceProperties"]["Rerun"] = json!("once more");
    succeeds(&world, back).await;
}

/// The role of the function gets the right to detach profiles, or loses it, if it belongs to the stack.
#[tokio::test(start_paused = true)]
async fn a_new_detach_instance_profile_is_acted_on_where_the_role_is_the_stacks() {
    for outlives in ["false", "true"] {
        let world = fleet();
        world.set_status("UPDATE_IN_PROGRESS");
        succeeds(&world, event("update")).await;
        let mut update = dry(with("update", "DetachInstanceProfile", json!("true")));
        update["ResourceProperties"]["FunctionOutlivesStack"] = json!(outlives);
        let answer = deliver(&world, update).await;
        let acts = "the function changed nothing: CloudFormation itself acts on new values of DetachInstanceProfile, ";
        assert_eq!(answer.reason.starts_with(acts), outlives == "false", "{}", answer.reason);
    }
}

/// As the request in earnest would find it.
#[tokio::test(start_paused = true)]
async fn what_one_reading_does_not_show_is_looked_for_again_before_a_dry_run_says_so() {
    for hidden in [ISOLATION, TRANSIT, A, "eni-0a", "the rules"] {
        let world = quick_fleet();
        let four = Duration::from_secs(4);
        if hidden == "the rules" {
            let until = tokio::time::Instant::now() + four;
            world.data().ruleless.insert(TRANSIT.parse().unwrap(), (until, vec![]));
        } else {
            world.hide(hidden, four);
        }
        let answer = succeeds(&world, dry(cutting(event("create")))).await;
        assert!(answer.reason.contains(&format!("isolate eni-0a by way of {TRANSIT}")), "{hidden}: {}", answer.reason);
        assert!(!answer.reason.contains("does not"), "{hidden}: {}", answer.reason);
    }
    // One that is as it should be waits for nothing.
    let world = quick_fleet();
    succeeds(&world, dry(cutting(event("create")))).await;
    assert!(world.data().start.elapsed() < Duration::from_secs(2), "{:?}", world.data().start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_was_never_isolated_does_not_stay_isolated() {
    let world = quick_fleet();
    fails(&world, with("create", "InstanceIds", json!([A, "i-0123"]))).await;
    let answer = succeeds(&world, dry(with("update", "InstanceIds", json!([A])))).await;
    assert!(!answer.reason.contains("would stay isolated"), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_fails_where_partial_isolation_isolates_nothing() {
    for is_dry in [false, true] {
        let world = quick_fleet();
        world.data().refused.extend(["eni-0a", "eni-0b"].map(|id| id.parse().unwrap()));
        let mut partial = with("create", "AllowPartialIsolation", json!("true"));
        if is_dry {
            partial = dry(partial);
        }
        let reason = fails(&world, partial).await;
        assert!(reason.contains("eni-0a") && reason.contains("AuthFailure"), "{reason}");
    }
}

/// They are asked one after the other, and have one patience.
#[tokio::test(start_paused = true)]
async fn a_denial_of_forty_interfaces_is_not_waited_for_four_times() {
    let world = World::new();
    world.data().latency = Duration::from_millis(20);
    let ids: Vec<String> = (0..40).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
    for id in &ids {
        world.add(id, crate::world::VPC, &[(&id.replace("i-", "eni-"), &["sg-0a"])]);
    }
    world.data().always = Some((SWAP, Fault::Denied));
    let reason = fails(&world, dry(with("create", "InstanceIds", json!(ids)))).await;
    assert!(reason.contains("Denied"), "{reason}");
    assert!(world.data().start.elapsed() < Duration::from_secs(120), "{:?}", world.data().start.elapsed());
}
