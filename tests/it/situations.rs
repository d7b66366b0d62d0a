//! What a responder meets on the night: instances that are ending, interfaces that come and go, groups that are not what
//! they should be, other stacks, operators who help.

use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::{Branch, Group, InterfaceId, Peer, Role, Rule, State};
use ec2_isolation::ports::Fault;
use serde_json::{Value, json};

use crate::world::{self, ISOLATION, STACK, World};
use crate::{A, B, D, event, fails, fleet, isolated, run, succeeds, with};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

async fn created() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world
}

fn set_state(world: &World, instance: &str, state: &str) {
    world.data().instances.get_mut(&instance.parse().unwrap()).unwrap().state = state.to_owned();
}

fn move_by_hand(world: &World, interface: &str, groups: &[&str]) {
    world.data().put_back(&interface.parse().unwrap(), world::groups(groups));
}

fn rerun(ids: &[&str]) -> Value {
    let mut rerun = with("update", "Rerun", json!("once more"));
    rerun["ResourceProperties"]["InstanceIds"] = json!(ids);
    rerun
}

/// Handles the event while `later` happens.
async fn meanwhile(world: &World, event: Value, later: impl Future<Output = ()>) -> String {
    tokio::join!(run(world, event), later);
    world.data().answers.last().unwrap().reason.clone()
}

async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_interface_attached_after_the_create_is_isolated_by_a_rerun_and_restored_by_the_delete() {
    let world = created().await;
    world.attach(A, "eni-0f", &["sg-0c", "sg-0d"]);
    world.data().calls.clear();
    let answer = succeeds(&world, rerun(&[A, B])).await;
    assert!(answer.reason.starts_with("2 instances isolated (3 interfaces)"), "{}", answer.reason);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"]);
    assert_eq!(world.count(SWAP), 1);
    let record = world.data().records[&A.parse().unwrap()].clone();
    assert_eq!(record.interfaces[&"eni-0a".parse().unwrap()], world::groups(&["sg-0a"]));
    assert_eq!(record.interfaces[&"eni-0f".parse().unwrap()], world::groups(&["sg-0c", "sg-0d"]));
    assert_eq!(record.state, State::Isolated);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0f"], world::groups(&["sg-0c", "sg-0d"]));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_opens_the_isolation_group_fails_the_request_although_everything_is_in_it() {
    let world = fleet();
    let rule = Rule { protocol: "tcp".into(), ports: Some((443, 443)), peer: Peer::Cidr("0.0.0.0/0".into()) };
    world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().egress.push(rule);
    let reason = fails(&world, event("create")).await;
    assert_eq!(
        reason,
        format!(
            "2 instances isolated (2 interfaces), 2 snapshots | isolation group {ISOLATION} allows out tcp 443 0.0.0.0/0: \
             hosts in it are not cut off; remove that rule | {}",
            crate::deploy_again()
        )
    );
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().egress.clear();
    succeeds(&world, rerun(&[A, B])).await;
}

#[tokio::test(start_paused = true)]
async fn the_forensic_group_may_come_in_on_the_ports_that_were_asked_for_and_no_others() {
    for (asked, outcome) in
        [(json!("22,3389"), Status::Success), (json!("22"), Status::Failed), (Value::Null, Status::Failed)]
    {
        let world = fleet();
        let forensic = "sg-0f0f".parse().unwrap();
        let rdp = Rule { protocol: "tcp".into(), ports: Some((3389, 3389)), peer: Peer::Group(forensic) };
        world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().ingress.push(rdp);
        let mut create = with("create", "ForensicSecurityGroupId", json!("sg-0f0f"));
        create["ResourceProperties"]["ForensicPorts"] = asked;
        run(&world, create).await;
        let answer = world.data().answers.last().unwrap().clone();
        assert_eq!(answer.status, outcome, "{}", answer.reason);
        let named = answer.reason.contains("allows in tcp 3389 sg-0f0f");
        assert_eq!(named, outcome == Status::Failed, "{}", answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn an_isolation_group_that_is_missing_or_elsewhere_means_no_change_at_all() {
    for (vpc, text) in [(None, "does not exist"), (Some("vpc-0e"), "is in vpc-0e, not in")] {
        let world = fleet();
        let start = world.cards();
        match vpc {
            None => drop(world.data().groups.remove(&ISOLATION.parse().unwrap())),
            Some(vpc) => {
                world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().vpc = Some(vpc.parse().unwrap());
            }
        }
        let reason = fails(&world, event("create")).await;
        assert!(reason.contains(&format!("isolation group {ISOLATION} {text}")), "{reason}");
        assert_eq!((world.cards(), world.count(SWAP), world.count("dynamodb:PutItem")), (start, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminated_instance_is_named_and_the_others_are_isolated() {
    let world = fleet();
    set_state(&world, A, "terminated");
    let reason = fails(&world, event("create")).await;
    assert!(reason.contains(&format!("{A} is terminated: take it off CompromisedInstanceList")), "{reason}");
    assert_eq!(isolated(&world), ["eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_starting_is_waited_for() {
    let world = fleet();
    set_state(&world, A, "pending");
    let reason = meanwhile(&world, event("create"), async {
        after(20).await;
        set_state(&world, A, "running");
    })
    .await;
    assert_eq!(reason, "2 instances isolated (2 interfaces), 2 snapshots");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_waits_for_an_instance_that_is_ending() {
    let world = created().await;
    set_state(&world, A, "shutting-down");
    let reason = meanwhile(&world, event("delete"), async {
        after(200).await;
        world.data().instances.remove(&A.parse().unwrap());
    })
    .await;
    assert_eq!(reason, "2 instances restored");
    assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Restored)));
}

#[tokio::test(start_paused = true)]
async fn what_is_isolated_again_while_a_delete_still_works_is_restored_again() {
    let world = created().await;
    let start = fleet().cards();
    set_state(&world, B, "pending");
    let reason = meanwhile(&world, event("delete"), async {
        after(60).await;
        move_by_hand(&world, "eni-0a", &[ISOLATION]);
        after(60).await;
        set_state(&world, B, "running");
    })
    .await;
    assert_eq!(reason, "2 instances restored");
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn a_delete_outlasts_minutes_of_trouble_and_names_the_one_that_lasts() {
    for action in ["dynamodb:Scan", "cloudformation:DescribeStacks", "ec2:DescribeNetworkInterfaces", SWAP] {
        let world = created().await;
        world.data().always = Some((action, Fault::Server));
        let reason = meanwhile(&world, event("delete"), async {
            after(300).await;
            world.data().always = None;
        })
        .await;
        assert_eq!(reason, "2 instances restored", "{action}");

        let world = created().await;
        world.data().always = Some((action, Fault::Server));
        let reason = fails(&world, event("delete")).await;
        assert!(reason.contains(&format!("{action} failed: Server: a test wants it")), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_moved_meanwhile_is_left_to_her_and_named() {
    let world = created().await;
    world.data().calm();
    move_by_hand(&world, "eni-0a", &["sg-0d"]);
    world.data().calls.clear();
    let answer = succeeds(&world, event("delete")).await;
    assert!(
        answer.reason.contains(&format!("{A}: eni-0a was left alone: somebody moved it to [sg-0d] meanwhile")),
        "{}",
        answer.reason
    );
    assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0d"]));
    assert!(!world.data().calls.iter().any(|(action, what)| *action == SWAP && what.starts_with("eni-0a ")));
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_let_out_is_isolated_again_by_a_rerun_and_keeps_its_original() {
    let world = created().await;
    world.data().calm();
    move_by_hand(&world, "eni-0a", &["sg-0d"]);
    succeeds(&world, rerun(&[A, B])).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0a"]));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_resource_takes_over_and_the_delete_of_its_old_name_releases_nothing() {
    let world = created().await;
    let start = fleet().cards();
    let renamed = |mut event: Value, request: &str| {
        event["LogicalResourceId"] = json!("Isolation2");
        event["RequestId"] = json!(request);
        event
    };
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, renamed(event("create"), "renamed")).await;
    world.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS");
    let answer = succeeds(&world, event("delete")).await;
    assert_eq!(answer.reason, "nothing to restore: no instance was isolated");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, renamed(event("delete"), "renamed's delete")).await;
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn an_instance_in_the_isolation_of_another_stack_is_left_to_it() {
    let world = fleet();
    let other = "arn:aws:cloudformation:us-east-1:123456789012:stack/other/1";
    let theirs = Group {
        id: "sg-0f".parse().unwrap(),
        vpc: Some(world::VPC.parse().unwrap()),
        role: Some(Role::Isolation),
        stack_id: Some(other.to_owned()),
        ingress: vec![],
        egress: vec![],
    };
    world.data().groups.insert(theirs.id.clone(), theirs);
    move_by_hand(&world, "eni-0d1", &["sg-0f"]);
    let start = world.cards();
    let reason = fails(&world, with("create", "InstanceIds", json!([D, A]))).await;
    assert!(
        reason
            .contains(&format!("{D} is already held isolated by {other}: delete that stack first, or leave it to it")),
        "{reason}"
    );
    assert_eq!(isolated(&world), ["eni-0a"]);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
    assert_ne!(other, STACK);
}

#[tokio::test(start_paused = true)]
async fn an_interface_put_into_the_group_by_hand_after_a_restore_is_named_and_left_there() {
    let world = created().await;
    succeeds(&world, event("delete")).await;
    world.data().calm();
    world.data().instances.get_mut(&A.parse().unwrap()).unwrap().interfaces.clear();
    world.attach(A, "eni-0f", &[ISOLATION]);
    world.data().calls.clear();
    let reason = fails(&world, rerun(&[A])).await;
    assert!(
        reason.contains(&format!("{A}: eni-0f is in {ISOLATION} without a record of its original groups")),
        "{reason}"
    );
    assert_eq!((world.count(SWAP), world.count("dynamodb:PutItem")), (0, 0));
    assert_eq!(world.state(A), Some(State::Restored));
}

#[tokio::test(start_paused = true)]
async fn sixteen_original_groups_come_back_all_of_them() {
    let world = fleet();
    let many: Vec<String> = (0..16).map(|n| format!("sg-0b{n:x}")).collect();
    for id in &many {
        let group = Group { id: id.parse().unwrap(), ..world.data().groups[&"sg-0a".parse().unwrap()].clone() };
        world.data().groups.insert(group.id.clone(), group);
    }
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    move_by_hand(&world, "eni-0a", &many);
    succeeds(&world, event("create")).await;
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0a"], world::groups(&many));
}

#[tokio::test(start_paused = true)]
async fn the_branches_of_a_trunk_are_named_and_everything_attached_is_isolated() {
    let world = fleet();
    world.data().instances.get_mut(&D.parse().unwrap()).unwrap().interfaces[1].is_trunk = true;
    let trunk: InterfaceId = "eni-0d2".parse().unwrap();
    let branch = |id: &str, group: &str| Branch {
        id: id.parse().unwrap(),
        trunk: trunk.clone(),
        groups: world::groups(&[group]),
    };
    world.data().branches = vec![branch("eni-0f1", "sg-0c"), branch("eni-0f2", ISOLATION)];
    let mut create = with("create", "InstanceIds", json!([A, D]));
    let reason = fails(&world, create.clone()).await;
    let named = format!(
        "1 of 2 instances isolated (3 interfaces), 2 snapshots | {D}: eni-0f1, a branch of its trunk eni-0d2, is in [sg-0c]: \
         branches are not isolated for you; write its groups down, then run aws ec2 modify-network-interface-attribute \
         --network-interface-id eni-0f1 --groups {ISOLATION} | "
    );
    assert!(reason.starts_with(&named), "{reason}");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0d1", "eni-0d2"]);

    create["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
    create["RequestId"] = json!("partial");
    let answer = succeeds(&world, create.clone()).await;
    assert_eq!(answer.data.not_isolated, format!("{D}/eni-0f1"));

    // As the command leaves it.
    world.data().branches = vec![branch("eni-0f1", ISOLATION)];
    create["ResourceProperties"]["AllowPartialIsolation"] = json!("false");
    create["RequestId"] = json!("by hand");
    succeeds(&world, create).await;
    assert_eq!(world.state(D), Some(State::Isolated));
}

#[tokio::test(start_paused = true)]
async fn a_trunk_whose_branches_cannot_be_looked_up_is_named() {
    let world = fleet();
    world.data().instances.get_mut(&A.parse().unwrap()).unwrap().interfaces[0].is_trunk = true;
    world.data().always_on = Some(("ec2:DescribeNetworkInterfaces", "branches".to_owned(), Fault::Refused));
    let reason = fails(&world, event("create")).await;
    let named = "2 instances isolated (2 interfaces), 2 snapshots | whether trunk eni-0a has branches, which are not isolated, is not known: ";
    assert!(reason.starts_with(named), "{reason}");
}
