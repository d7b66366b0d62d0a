//! The isolation group: what its rules may let through, and what happens if it is missing or elsewhere.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::{Peer, Rule};
use serde_json::{Value, json};

use crate::world::ISOLATION;
use crate::{A, B, deliver, event, fails, fleet, isolated, move_by_hand, rerun, run, succeeds, with};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

#[tokio::test(start_paused = true)]
async fn a_rule_that_opens_the_isolation_group_fails_the_request_although_everything_is_in_it() {
    let world = fleet();
    let rule = Rule { protocol: "tcp".into(), ports: Some((443, 443)), peer: Peer::Cidr("0.0.0.0/0".into()) };
    world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().egress.push(rule);
    let answer = deliver(&world, event("create")).await;
    assert_eq!((answer.status, answer.data.isolated_instance_count.as_str()), (Status::Failed, "0"));
    assert_eq!(answer.data.not_isolated, format!("{A}/eni-0a,{B}/eni-0b"));
    assert_eq!(
        answer.reason,
        format!(
            "0 of 2 instances isolated (0 interfaces), 2 snapshots | isolation group {ISOLATION} allows out tcp 443 0.0.0.0/0: \
             instances in it are not isolated; remove that rule | {}",
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
        assert_eq!((world.cards(), world.count(SWAP), world.count("dynamodb:TransactWriteItems")), (start, 0, 0));
    }
}

/// What EC2 shows is isolated, whatever the request says.
#[tokio::test(start_paused = true)]
async fn a_wrong_vpc_in_an_update_isolates_nothing_and_leaves_isolated_what_is() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().calm();
    move_by_hand(&world, "eni-0b", &["sg-0b"]);
    let mut update = rerun(&[A, B]);
    update["ResourceProperties"]["VpcId"] = json!("vpc-0e");
    let answer = deliver(&world, update).await;
    assert_eq!(answer.status, Status::Failed);
    let headline = format!("1 of 2 instances isolated (1 interface), 1 snapshot | isolation group {ISOLATION} is in ");
    assert!(answer.reason.starts_with(&headline), "{}", answer.reason);
    assert_eq!(
        (answer.data.isolated_instances.as_str(), answer.data.not_isolated.as_str()),
        (A, &*format!("{B}/eni-0b"))
    );
}
