//! Interfaces that come later, that somebody moves by hand, and the branches of trunks.

use ec2_isolation::model::{Branch, InterfaceId, State};
use ec2_isolation::ports::Fault;
use serde_json::json;

use crate::world::{self, ISOLATION};
use crate::{A, B, D, created, event, fails, fleet, isolated, move_by_hand, rerun, succeeds, with};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

#[tokio::test(start_paused = true)]
async fn an_interface_attached_after_the_create_is_isolated_by_a_rerun_and_restored_by_the_delete() {
    let world = created().await;
    world.attach(A, "eni-0f", &["sg-0c", "sg-0d"]);
    world.data().calls.clear();
    let answer = succeeds(&world, rerun(&[A, B])).await;
    assert!(answer.reason.starts_with("2 instances isolated (3 interfaces)"), "{}", answer.reason);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"]);
    // The other interface is written once more with it: its record no longer says that it was seen isolated.
    assert_eq!(world.count(SWAP), 2);
    let record = world.data().records[&A.parse().unwrap()].clone();
    assert_eq!(record.interfaces[&"eni-0a".parse().unwrap()], world::groups(&["sg-0a"]));
    assert_eq!(record.interfaces[&"eni-0f".parse().unwrap()], world::groups(&["sg-0c", "sg-0d"]));
    assert_eq!(record.state, State::Isolated);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0f"], world::groups(&["sg-0c", "sg-0d"]));
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
    assert_eq!((world.count(SWAP), world.count("dynamodb:TransactWriteItems")), (0, 0));
    assert_eq!(world.state(A), Some(State::Restored));
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
