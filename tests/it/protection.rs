//! What keeps instances and their evidence from being lost: taken after isolation, never in its way, and put back.

use ec2_isolation::model::{InstanceId, PROTECTING, State};
use ec2_isolation::ports::Fault;
use serde_json::{Value, json};

use crate::world::World;
use crate::{A, B, C, event, fails, fleet, isolated, succeeds, with, with_everything};

const READ: &str = "ec2:DescribeInstanceAttribute";
const MODIFY: &str = "ec2:ModifyInstanceAttribute";
const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
const PROFILE: &str = "arn:aws:iam::123456789012:instance-profile/web";
const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";

fn id(instance: &str) -> InstanceId {
    instance.parse().unwrap()
}

/// What protects an instance that is in no Auto Scaling group.
fn protected() -> Vec<String> {
    PROTECTING.map(|attribute| attribute.to_string()).into()
}

/// The same of a member of the group `web` that has a profile.
fn protected_member() -> Vec<String> {
    protected().into_iter().chain(["Standby in web".to_owned(), PROFILE.to_owned()]).collect()
}

fn rerun() -> Value {
    with("update", "InstanceIds", json!([A, B]))
}

/// The first call of `action` comes after the last of `before`.
fn assert_after(world: &World, action: &str, before: &str) {
    let calls = world.data().calls.clone();
    let first = calls.iter().position(|(called, _)| *called == action).unwrap();
    let last = calls.iter().rposition(|(called, _)| *called == before).unwrap();
    assert!(first > last, "{action} before {before}");
}

#[tokio::test(start_paused = true)]
async fn a_create_protects_and_a_delete_puts_everything_back() {
    let world = fleet();
    let start = world.protections();
    let answer = succeeds(&world, event("create")).await;
    assert_eq!(answer.reason, HEADLINE);
    assert_eq!((&world.protections()[A], &world.protections()[B]), (&protected_member(), &protected()));
    assert_after(&world, READ, SWAP);
    assert_after(&world, READ, "ec2:CreateSnapshots");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
    assert_eq!(world.state(A), Some(State::Restored));
}

#[tokio::test(start_paused = true)]
async fn a_delete_gives_interfaces_back_before_it_unprotects() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().calls.clear();
    succeeds(&world, event("delete")).await;
    assert_after(&world, READ, SWAP);
    assert_after(&world, MODIFY, SWAP);
}

#[tokio::test(start_paused = true)]
async fn what_was_protected_before_stays_protected() {
    let world = fleet();
    world.data().protections.attributes.insert(id(A), PROTECTING);
    succeeds(&world, event("create")).await;
    assert!(world.data().records[&id(A)].protection.attributes.is_empty());
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections()[A][..3], protected());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_reads_and_changes_nothing() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().calls.clear();
    succeeds(&world, rerun()).await;
    assert_eq!((world.count(MODIFY), world.count(READ), world.count("dynamodb:UpdateItem")), (0, 6, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attribute_that_an_operator_changed_is_set_again_and_its_prior_value_stays() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, event("create")).await;
    world.data().calm();
    world.data().protections.attributes.remove(&id(A));
    succeeds(&world, rerun()).await;
    assert_eq!(world.protections()[A], protected_member());
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn without_the_option_nothing_is_read_or_changed() {
    let world = fleet();
    succeeds(&world, with("create", "ProtectInstances", json!("false"))).await;
    assert_eq!((world.count(READ), world.count(MODIFY)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_option_switched_off_changes_nothing_until_the_delete() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, event("create")).await;
    let mut off = rerun();
    off["ResourceProperties"]["ProtectInstances"] = json!("false");
    succeeds(&world, off).await;
    assert_eq!(world.protections()[A], protected_member());
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn a_spot_instance_and_an_instance_store_host_are_protected_as_far_as_ec2_allows() {
    let world = fleet();
    let start = world.protections();
    world.data().protections.unsupported.extend([(id(A), "termination-protection"), (id(B), "shutdown-behaviour")]);
    world.data().instances.get_mut(&id(B)).unwrap().volumes.clear();
    let answer = succeeds(&world, with("create", "SnapshotVolumes", json!("false"))).await;
    assert_eq!(
        answer.reason,
        format!(
            "2 instances isolated (2 interfaces) | \
             {A}: protect: termination protection on: {MODIFY} failed: UnsupportedOperation: as EC2 does | \
             {B}: protect: shutdown behaviour stop: {MODIFY} failed: UnsupportedOperation: as EC2 does"
        )
    );
    assert_eq!(
        world.protections()[A][..3],
        ["termination protection off", "stop protection on", "shutdown behaviour stop"]
    );
    succeeds(&world, event("delete")).await;
    assert_eq!((&world.protections()[A], &world.protections()[B][..]), (&start[A], &start[B][..3]));
}

#[tokio::test(start_paused = true)]
async fn a_denied_protection_fails_the_request_and_stops_nothing_else() {
    for (action, text) in [
        (MODIFY, format!("{A}: protect: stop protection on: {MODIFY} failed: Denied")),
        (READ, format!("the attributes of {A} cannot be read: {READ} failed: Denied")),
    ] {
        let world = fleet();
        world.data().always = Some((action, Fault::Denied));
        let reason = fails(&world, event("create")).await;
        assert!(reason.starts_with(HEADLINE), "{reason}");
        assert!(reason.contains(&text), "{reason}");
        assert_eq!((isolated(&world).len(), world.state(A)), (2, Some(State::Isolated)));
        world.data().always = None;
        succeeds(&world, rerun()).await;
        assert_eq!((&world.protections()[A], &world.protections()[B]), (&protected_member(), &protected()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_unprotected_is_named_as_restored_in_part() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, event("create")).await;
    world.data().always = Some((MODIFY, Fault::Denied));
    let reason = fails(&world, event("delete")).await;
    assert_eq!(isolated(&world), [""; 0]);
    assert!(
        reason.starts_with(&format!(
            "0 of 2 instances restored; with their groups back, but not restored otherwise: {A}, {B} | "
        )),
        "{reason}"
    );
    assert!(reason.contains(&format!("{A}: restore: stop protection off: {MODIFY} failed: Denied")), "{reason}");
    world.data().always = None;
    let mut again = event("delete");
    again["RequestId"] = json!("again");
    succeeds(&world, again).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_protects_after_a_restore_is_hers() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    succeeds(&world, event("delete")).await;
    world.data().calm();
    world.data().protections.attributes.insert(id(A), PROTECTING);
    let mut again = event("delete");
    again["RequestId"] = json!("again");
    succeeds(&world, again).await;
    assert_eq!(world.protections()[A][..3], protected());
}

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
    assert_eq!((&world.protections()[A][..3], &world.protections()[B]), (&protected()[..], &protected()));
    world.data().always = None;
    succeeds(&world, rerun()).await;
    world.data().always = Some((MEMBERS, Fault::Denied));
    let reason = fails(&world, event("delete")).await;
    assert!(
        reason.starts_with(&format!(
            "1 of 2 instances restored; with their groups back, but not restored otherwise: {A} | "
        )),
        "{reason}"
    );
    world.data().always = Some((EXIT, Fault::Denied));
    let mut again = event("delete");
    again["RequestId"] = json!("again");
    let reason = fails(&world, again).await;
    assert!(reason.contains(&format!("web: {A} back from standby: {EXIT} failed: Denied")), "{reason}");
}

const DETACH: &str = "ec2:DisassociateIamInstanceProfile";
const ATTACH: &str = "ec2:AssociateIamInstanceProfile";

async fn detached() -> World {
    let world = fleet();
    succeeds(&world, with_everything(event("create"))).await;
    world.data().calm();
    world
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_detached_where_that_is_asked_for_and_comes_back() {
    let world = fleet();
    let start = world.protections();
    let answer = succeeds(&world, with_everything(event("create"))).await;
    assert_eq!(answer.reason, HEADLINE);
    assert_after(&world, DETACH, SWAP);
    assert!(!world.protections()[A].contains(&PROFILE.to_owned()));
    assert_eq!(world.data().records[&id(A)].protection.profile.as_deref(), Some(PROFILE));
    let mut off = rerun();
    off["ResourceProperties"]["DetachInstanceProfile"] = json!("false");
    succeeds(&world, off).await;
    assert!(!world.protections()[A].contains(&PROFILE.to_owned()), "only a restore gives it back");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
    assert_eq!((world.count(DETACH), world.count(ATTACH)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_somebody_attached_meanwhile_is_left_and_named() {
    let world = detached().await;
    world.give_profile(A, "arn:other");
    let answer = succeeds(&world, with_everything(rerun())).await;
    let named =
        format!("{A} has instance profile arn:other, its record says {PROFILE}: it was not detached; do so by hand: ");
    assert!(answer.reason.contains(&named), "{}", answer.reason);
    let answer = succeeds(&world, event("delete")).await;
    let named = format!(
        "{A} was left with instance profile arn:other, which somebody gave it meanwhile; before it had {PROFILE}"
    );
    assert!(answer.reason.contains(&named), "{}", answer.reason);
    assert_eq!(world.count(ATTACH), 0);
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_the_operator_gave_back_is_as_it_was() {
    let world = detached().await;
    world.give_profile(A, PROFILE);
    assert_eq!(succeeds(&world, event("delete")).await.reason, "2 instances restored");
    assert!(world.protections()[A].contains(&PROFILE.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_the_role_may_not_give_back_is_named_with_the_operators_command() {
    for fault in [Fault::Denied, Fault::Refused] {
        let world = detached().await;
        world.data().always = Some((ATTACH, fault));
        let reason = fails(&world, event("delete")).await;
        assert!(
            reason.starts_with(&format!(
                "1 of 2 instances restored; with their groups back, but not restored otherwise: {A} | "
            )),
            "{reason}"
        );
        let command = format!(
            "{A}: restore: profile {PROFILE}: {ATTACH} failed: {fault:?}: a test wants it \
             (by hand: aws ec2 associate-iam-instance-profile --instance-id {A} --iam-instance-profile Arn='{PROFILE}')"
        );
        assert!(reason.contains(&command), "{reason}");
        // Everything else of it is back, and what the operator does counts.
        assert_eq!(world.protections()[A].len(), 5);
        world.give_profile(A, PROFILE);
        let mut again = event("delete");
        again["RequestId"] = json!("again");
        succeeds(&world, again).await;
        assert_eq!(world.state(A), Some(State::Restored));
    }
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_ec2_does_not_take_away_is_named() {
    let world = fleet();
    world.data().always = Some((DETACH, Fault::Refused));
    let answer = succeeds(&world, with_everything(event("create"))).await;
    assert_eq!(
        answer.reason,
        format!("{HEADLINE} | {A}: detach profile {PROFILE}: {DETACH} failed: Refused: a test wants it")
    );
    world.data().always = Some((DETACH, Fault::Denied));
    fails(&world, with_everything(rerun())).await;
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), fleet().protections());
}
