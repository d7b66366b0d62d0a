//! Members of Auto Scaling groups: to Standby and back into service.

use ec2_isolation::model::State;
use ec2_isolation::ports::Fault;
use serde_json::json;

use super::{HEADLINE, id, protected, rerun};
use crate::{A, B, C, event, fails, fleet, succeeds, with};

const MEMBERS: &str = "autoscaling:DescribeAutoScalingInstances";
const ENTER: &str = "autoscaling:EnterStandby";
const EXIT: &str = "autoscaling:ExitStandby";

#[tokio::test(start_paused = true)]
async fn a_member_goes_to_standby_and_comes_back_at_the_price_of_one_more_desired() {
    let world = fleet();
    let before = world.data().scaling["web"].desired;
    succeeds(&world, with("create", "InstanceIds", json!([A, B, C]))).await;
    assert_eq!(world.count(ENTER), 1, "both members in one call");
    let membership = world.membership();
    assert_eq!((membership[A].as_str(), membership[C].as_str()), ("Standby in web", "Standby in web"));
    assert_eq!(membership[crate::BYSTANDER], "InService in web");
    assert_eq!(world.data().scaling["web"].desired, before);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.membership(), fleet().membership());
    assert_eq!(world.data().scaling["web"].desired, before + 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_in_standby_before_stays_there() {
    let world = fleet();
    world.scale("web", &[A], "Standby");
    succeeds(&world, event("create")).await;
    assert_eq!(world.data().records[&id(A)].protection.scaling_group, None);
    succeeds(&world, event("delete")).await;
    assert_eq!((world.count(ENTER), world.count(EXIT)), (0, 0));
    assert_eq!(world.membership()[A], "Standby in web");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_starting_is_waited_for() {
    let world = fleet();
    world.scale("web", &[A], "Pending");
    assert_eq!(succeeds(&world, event("create")).await.reason, HEADLINE);
    assert_eq!(world.membership()[A], "Standby in web");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_in_service_is_named() {
    for state in ["Terminating:Wait", "Pending:Wait", "Detaching"] {
        let world = fleet();
        world.scale("web", &[A], state);
        let answer = succeeds(&world, event("create")).await;
        assert_eq!(
            answer.reason,
            format!(
                "{HEADLINE} | {A} is {state} in Auto Scaling group web, not in Standby: Auto Scaling may terminate it; \
                 look at the group"
            )
        );
        assert_eq!(world.count(ENTER), 0);
        succeeds(&world, event("delete")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_in_service_costs_the_others_nothing() {
    let world = fleet();
    let create = with("create", "InstanceIds", json!([A, B, C]));
    // It leaves the service between the reading and the call.
    let late = async {
        while world.count(ENTER) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        world.scale("web", &[A], "InService");
        world.scale("db", &[C], "Terminating");
    };
    let (answer, ()) = tokio::join!(succeeds(&world, create), late);
    assert!(answer.reason.contains(&format!("{C} is Terminating in Auto Scaling group db")), "{}", answer.reason);
    assert_eq!(world.membership()[A], "Standby in web");
}

#[tokio::test(start_paused = true)]
async fn a_group_at_its_maximum_takes_back_what_it_can_and_the_rest_is_named() {
    let world = fleet();
    succeeds(&world, with("create", "InstanceIds", json!([A, C]))).await;
    {
        let mut data = world.data();
        let group = data.scaling.get_mut("web").unwrap();
        group.max = group.desired + 1;
    }
    let answer = succeeds(&world, event("delete")).await;
    let stays = "stays in Standby of Auto Scaling group web (ValidationError: as EC2 does): raise the group's maximum size, \
                 then: aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids";
    assert_eq!(answer.reason, format!("2 instances restored | {C} {stays} {C}"));
    let membership = world.membership();
    assert_eq!((membership[A].as_str(), membership[C].as_str()), ("InService in web", "Standby in web"));
    assert_eq!((world.state(A), world.state(C)), (Some(State::Restored), Some(State::Restored)));
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_group_is_gone_is_named_and_restored() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().scaling.clear();
    let answer = succeeds(&world, event("delete")).await;
    assert_eq!(
        answer.reason,
        format!("2 instances restored | {A} is no longer in Auto Scaling group web: it was not put back into service")
    );
}

#[tokio::test(start_paused = true)]
async fn a_delete_right_after_a_create_waits_for_standby_before_it_leaves_it() {
    let world = fleet();
    let start = world.protections();
    world.data().troubles_of.insert(ENTER, (0, crate::world::Trouble::DiesAfter));
    crate::die(&world, event("create")).await;
    world.data().scaling.get_mut("web").unwrap().restart();
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn membership_that_cannot_be_read_fails_the_request_and_nothing_else() {
    let world = fleet();
    world.data().always = Some((MEMBERS, Fault::Denied));
    let reason = fails(&world, event("create")).await;
    assert!(
        reason.starts_with(&format!(
            "{HEADLINE} | membership of Auto Scaling groups cannot be read: {MEMBERS} failed: Denied"
        )),
        "{reason}"
    );
    assert_eq!((&world.protections()[A][..4], &world.protections()[B]), (&protected()[..], &protected()));
    world.data().always = None;
    succeeds(&world, rerun()).await;
    world.data().always = Some((MEMBERS, Fault::Denied));
    let reason = fails(&world, event("delete")).await;
    assert!(
        reason.starts_with(&format!("1 of 2 instances restored; security groups restored, the rest not yet: {A} | ")),
        "{reason}"
    );
    world.data().always = Some((EXIT, Fault::Denied));
    let mut again = event("delete");
    again["RequestId"] = json!("again");
    let reason = fails(&world, again).await;
    assert!(reason.contains(&format!("web: {A} back from standby: {EXIT} failed: Denied")), "{reason}");
}
