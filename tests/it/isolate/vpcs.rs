//! The VPC belongs to the interface and the group, not to the instance.

use std::time::Duration;

use ec2_isolation::model::{Branch, Group, GroupId, State};
use serde_json::{Value, json};

use crate::world::{ISOLATION, VPC, World, groups};
use crate::{
    A, B, D, after, as_request, cutting, entries, event, fails, isolated, listing, quick_fleet, set_state, succeeds,
};

const ELSEWHERE: &str = "vpc-0f";

fn directly(event: Value) -> Value {
    event
}

const WAYS: [fn(Value) -> Value; 2] = [directly, cutting];

/// A group that was made in another VPC.
fn add_group(world: &World, id: &str, vpc: &str) {
    let mut data = world.data();
    let id: GroupId = id.parse().unwrap();
    let group =
        Group { id: id.clone(), vpc: Some(vpc.parse().unwrap()), ..data.groups[&"sg-0a".parse().unwrap()].clone() };
    data.groups.insert(id, group);
}

fn associate(world: &World, id: &str) {
    add_group(world, id, ELSEWHERE);
    world.data().associated.insert((id.parse().unwrap(), VPC.parse().unwrap()));
}

/// D with a third interface in another VPC.
fn two_vpcs() -> World {
    let world = quick_fleet();
    add_group(&world, "sg-0f1", ELSEWHERE);
    world.attach_in(D, ELSEWHERE, "eni-0f", &["sg-0f1"]);
    world
}

/// https://github.com/aws/amazon-vpc-cni-k8s/issues/3564
/// https://github.com/aws/aws-cdk/pull/28901
#[tokio::test(start_paused = true)]
async fn second_interface_of_the_instance_is_in_another_vpc() {
    for way in WAYS {
        let world = two_vpcs();
        let start = world.cards();
        let create = listing(&[A, D], way(event("create")));
        let reason = fails(&world, create.clone()).await;
        let named = format!("{D}: eni-0f is in {ELSEWHERE}, not in {VPC}: ");
        assert!(reason.contains(&named), "{reason}");
        assert!(
            reason.contains("aws ec2 modify-network-interface-attribute --network-interface-id eni-0f --groups"),
            "{reason}"
        );
        assert!(!reason.contains("does not exist") && !reason.contains("InvalidGroup"), "{reason}");
        assert_eq!(isolated(&world), ["eni-0a", "eni-0d1", "eni-0d2"]);

        let mut partial = as_request("partial", create);
        partial["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
        let answer = succeeds(&world, partial).await;
        assert_eq!(answer.data.not_isolated, format!("{D}/eni-0f"));

        let answer = succeeds(&world, event("delete")).await;
        assert_eq!((answer.reason.as_str(), world.cards()), ("2 instances restored", start));
        assert_eq!(world.state(D), Some(State::Restored));
    }
}

#[tokio::test(start_paused = true)]
async fn first_interface_of_the_instance_is_in_another_vpc() {
    let world = quick_fleet();
    add_group(&world, "sg-0f1", ELSEWHERE);
    world.add("i-0f", ELSEWHERE, &[("eni-0f1", &["sg-0f1"])]);
    world.attach_in("i-0f", VPC, "eni-0f2", &["sg-0a"]);
    let start = world.cards();
    let reason = fails(&world, listing(&["i-0f"], event("create"))).await;
    assert!(reason.contains(&format!("i-0f: eni-0f1 is in {ELSEWHERE}, not in {VPC}: ")), "{reason}");
    assert_eq!(isolated(&world), ["eni-0f2"]);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
}

/// https://github.com/turbot/steampipe-plugin-aws/pull/2597
#[tokio::test(start_paused = true)]
async fn an_original_group_was_made_in_another_vpc_and_is_associated_with_this_one() {
    for way in WAYS {
        for own in [["sg-0a", "sg-0f2"].as_slice(), &["sg-0f2"]] {
            let world = quick_fleet();
            associate(&world, "sg-0f2");
            crate::move_by_hand(&world, "eni-0a", own);
            let start = world.cards();
            let answer = succeeds(&world, way(event("create"))).await;
            assert_eq!(answer.reason, "2 instances isolated (2 interfaces), 2 snapshots");
            let record = world.data().records[&A.parse().unwrap()].clone();
            assert_eq!(record.interfaces[&"eni-0a".parse().unwrap()], groups(own));
            let answer = succeeds(&world, event("delete")).await;
            assert_eq!((answer.reason.as_str(), world.cards()), ("2 instances restored", start));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_original_group_of_another_vpc_that_is_no_longer_associated_is_named() {
    let world = quick_fleet();
    associate(&world, "sg-0f2");
    crate::move_by_hand(&world, "eni-0a", &["sg-0a", "sg-0f2"]);
    succeeds(&world, event("create")).await;
    world.data().associated.clear();
    let reason = fails(&world, event("delete")).await;
    assert!(reason.contains("eni-0a") && reason.contains("sg-0f2"), "{reason}");
    assert_eq!((isolated(&world), world.state(B)), (vec!["eni-0a".to_owned()], Some(State::Restored)));
}

/// https://github.com/turbot/steampipe-plugin-aws/pull/2597
#[tokio::test(start_paused = true)]
async fn that_doubt_while_another_instance_is_pending_for_30_s() {
    let world = quick_fleet();
    associate(&world, "sg-0f2");
    crate::move_by_hand(&world, "eni-0b", &["sg-0b", "sg-0f2"]);
    set_state(&world, A, "pending");
    let pending = async {
        after(2).await;
        assert_eq!(world.cards()["eni-0b"], groups(&[ISOLATION]));
        {
            let data = world.data();
            for (action, what) in
                [("ec2:CreateSnapshots", B), ("ec2:CreateTags", B), ("ec2:ModifyInstanceAttribute", B)]
            {
                let done = data.calls.iter().any(|call| call.0 == action && call.1.contains(what));
                assert!(done, "{action} {what} does not wait for another instance");
            }
        }
        after(28).await;
        set_state(&world, A, "running");
    };
    let (answer, ()) = tokio::join!(succeeds(&world, event("create")), pending);
    assert_eq!(answer.reason, "2 instances isolated (2 interfaces), 2 snapshots");
    assert!(world.data().start.elapsed() < Duration::from_secs(45));
}

/// Whatever keeps the other interface open, and however often it is asked for.
#[tokio::test(start_paused = true)]
async fn nobody_passes_again_because_another_interface_can_never_be_isolated() {
    for case in ["in another VPC", "refused", "a branch"] {
        let world = if case == "in another VPC" { two_vpcs() } else { quick_fleet() };
        match case {
            "refused" => drop(world.data().refused.insert("eni-0d2".parse().unwrap())),
            "a branch" => {
                let mut data = world.data();
                data.instances.get_mut(&D.parse().unwrap()).unwrap().interfaces[1].is_trunk = true;
                let (id, trunk) = ("eni-0d3".parse().unwrap(), "eni-0d2".parse().unwrap());
                data.branches.push(Branch { id, trunk, groups: groups(&["sg-0a"]) });
            }
            _ => {}
        }
        let create = listing(&[D], cutting(event("create")));
        fails(&world, create.clone()).await;
        let mut partial = as_request("partial", create.clone());
        partial["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
        succeeds(&world, partial).await;
        let mut again = as_request("again", create);
        again["ResourceProperties"]["Rerun"] = json!("again");
        fails(&world, again).await;
        assert_eq!(entries(&world, "eni-0d1"), 1, "{case}");
        let record = world.data().records[&D.parse().unwrap()].clone();
        assert!(record.passed.contains(&"eni-0d1".parse().unwrap()), "{case}: {record:?}");
        // It claims nothing.
        assert_eq!((record.state, record.connections_cut, record.lease), (State::Isolating, false, None), "{case}");
    }
}
