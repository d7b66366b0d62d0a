//! Tags decide nothing: not who holds an instance, not whether it is restored, not what becomes of the others.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::{Group, GroupId, Peer, Role, Rule, State};
use ec2_isolation::ports::Fault;
use serde_json::json;

use crate::world::{ISOLATION, VPC, World, groups};
use crate::{A, B, C, as_request, deliver, event, isolated, listing, move_by_hand, quick_fleet, succeeds};

pub const OTHER_STACK: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/other/1";

fn tag_as_isolation(world: &World, group: &str) {
    world.data().groups.get_mut(&group.parse().unwrap()).unwrap().role = Some(Role::Isolation);
}

fn open(world: &World, group: &str) {
    let anywhere = Rule { protocol: "-1".into(), ports: None, peer: Peer::Cidr("0.0.0.0/0".into()) };
    let mut data = world.data();
    let group = data.groups.get_mut(&group.parse().unwrap()).unwrap();
    (group.ingress, group.egress) = (vec![anywhere.clone()], vec![anywhere]);
}

/// The isolation group of another incident.
pub fn other_incident(world: &World) -> &'static str {
    let id: GroupId = "sg-0f".parse().unwrap();
    let group = Group {
        id: id.clone(),
        vpc: Some(VPC.parse().unwrap()),
        role: Some(Role::Isolation),
        stack_id: Some(OTHER_STACK.to_owned()),
        ingress: vec![],
        egress: vec![],
    };
    world.data().groups.insert(id, group);
    "sg-0f"
}

/// A Create isolates A, whatever its groups look like, and a Delete gives them back.
async fn isolates_and_restores(world: &World, recorded: &[&str]) {
    let start = world.cards();
    let (mut create, mut start_a) = (event("create"), start["eni-0a"].clone());
    create["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
    let answer = succeeds(world, create).await;
    assert_eq!((isolated(world).len(), answer.data.not_isolated.as_str()), (2, ""), "{}", answer.reason);
    let record = world.data().records[&A.parse().unwrap()].clone();
    assert_eq!(record.interfaces[&"eni-0a".parse().unwrap()], groups(recorded));
    let answer = succeeds(world, event("delete")).await;
    start_a.remove(&ISOLATION.parse().unwrap());
    assert_eq!((&world.cards()["eni-0a"], answer.reason.as_str()), (&start_a, "2 instances restored"));
    assert_eq!(world.protections(), quick_fleet().protections());
}

#[tokio::test(start_paused = true)]
async fn the_attacker_tags_a_rule_less_group_that_the_host_has_beside_a_wide_open_one() {
    for own in [["sg-0a", "sg-0d"].as_slice(), &["sg-0d"]] {
        let world = quick_fleet();
        open(&world, "sg-0a");
        tag_as_isolation(&world, "sg-0d");
        move_by_hand(&world, "eni-0a", own);
        isolates_and_restores(&world, own).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_colleague_adds_another_incidents_isolation_group_beside_the_open_groups() {
    let world = quick_fleet();
    open(&world, "sg-0a");
    let other = other_incident(&world);
    move_by_hand(&world, "eni-0a", &["sg-0a", other]);
    isolates_and_restores(&world, &["sg-0a", other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_colleague_adds_our_own_isolation_group_beside_the_open_groups() {
    let world = quick_fleet();
    open(&world, "sg-0a");
    move_by_hand(&world, "eni-0a", &["sg-0a", ISOLATION]);
    isolates_and_restores(&world, &["sg-0a"]).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_in_another_incidents_isolation_alone_is_left_to_it() {
    let world = quick_fleet();
    let other = other_incident(&world);
    move_by_hand(&world, "eni-0a", &[other]);
    let start = world.cards();
    let reason = crate::fails(&world, event("create")).await;
    let named = format!(
        "{A} is already isolated by {OTHER_STACK}: take it over with ec2-isolation adopt, or take it off CompromisedInstanceList"
    );
    assert!(reason.contains(&named) && !reason.contains("delete that stack"), "{reason}");
    assert_eq!((isolated(&world), &world.cards()["eni-0a"]), (vec!["eni-0b".to_owned()], &start["eni-0a"]));
}

#[tokio::test(start_paused = true)]
async fn tagged_so_during_the_incident_delete() {
    for group in ["sg-0a", "sg-0d"] {
        let world = quick_fleet();
        move_by_hand(&world, "eni-0a", &["sg-0a", "sg-0d"]);
        let (start, protections) = (world.cards(), world.protections());
        succeeds(&world, event("create")).await;
        tag_as_isolation(&world, group);
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "2 instances restored");
        assert_eq!((world.cards(), world.protections()), (start, protections));
        assert_eq!(world.state(A), Some(State::Restored));
    }
}

#[tokio::test(start_paused = true)]
async fn delete_tags_refused_for_one_instance_on_delete() {
    for fault in [Fault::Denied, Fault::Refused] {
        for resource in [A, "eni-0a"] {
            let world = quick_fleet();
            succeeds(&world, event("create")).await;
            world.data().not_to_be_untagged.insert(resource.to_owned(), (fault, "UnauthorizedOperation"));
            let answer = succeeds(&world, event("delete")).await;
            assert!(answer.reason.starts_with("2 instances restored | "), "{}", answer.reason);
            assert!(answer.reason.contains(resource) && !answer.reason.contains("still isolated"), "{}", answer.reason);
            assert_eq!((world.cards(), world.protections()), (quick_fleet().cards(), quick_fleet().protections()));
            assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Restored)));
            let tagged: Vec<String> = world.data().tags.keys().filter(|id| !id.starts_with("snap-")).cloned().collect();
            assert_eq!(tagged, [resource.to_owned()], "the others lose theirs");
            // It can end.
            let again = succeeds(&world, as_request("again", event("delete"))).await;
            assert_eq!(again.status, Status::Success);
        }
    }
}

/// A tag that AWS fails to take off is given up in the end, whatever the patience of a Delete.
#[tokio::test(start_paused = true)]
async fn delete_tags_gets_no_proper_answer_or_is_throttled_to_the_end_on_delete() {
    for (fault, minutes) in [(Fault::Server, 2), (Fault::Throttled, 6)] {
        let world = quick_fleet();
        succeeds(&world, event("create")).await;
        world.data().not_to_be_untagged.insert(A.to_owned(), (fault, "InternalError"));
        let begun = tokio::time::Instant::now();
        let answer = succeeds(&world, event("delete")).await;
        assert!(begun.elapsed().as_secs() < 60 * minutes, "{fault:?}: {:?}", begun.elapsed());
        assert!(answer.reason.starts_with("2 instances restored | "), "{}", answer.reason);
        assert!(answer.reason.contains(&format!(" | untag {A} of ")), "{}", answer.reason);
        assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Restored)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_restored_mark_gets_no_proper_answer_to_the_end() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    world.data().always_on = Some(("dynamodb:UpdateItem", format!("{A} restored"), Fault::Server));
    let answer = deliver(&world, event("delete")).await;
    assert_eq!(answer.status, Status::Failed, "{}", answer.reason);
    let headline = format!("1 of 2 instances restored; security groups restored, the rest not yet: {A} | ");
    assert!(answer.reason.starts_with(&headline), "{}", answer.reason);
    assert_eq!(world.cards(), quick_fleet().cards());
}

#[tokio::test(start_paused = true)]
async fn the_restored_mark_cannot_be_written() {
    for fault in [Fault::Denied, Fault::Refused] {
        let world = quick_fleet();
        succeeds(&world, event("create")).await;
        world.data().always_on = Some(("dynamodb:UpdateItem", format!("{A} restored"), fault));
        let answer = deliver(&world, event("delete")).await;
        assert_eq!(answer.status, Status::Failed, "{}", answer.reason);
        assert!(!answer.reason.contains("still isolated"), "{}", answer.reason);
        assert!(
            answer.reason.starts_with("1 of 2 instances restored; ") && answer.reason.contains(A),
            "{}",
            answer.reason
        );
        assert!(answer.reason.contains("mark restored"), "{}", answer.reason);
        assert_eq!((world.cards(), world.state(B)), (quick_fleet().cards(), Some(State::Restored)));
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_three_instances_has_48_tags_or_may_not_be_tagged() {
    for case in ["48 tags", "denied", "refused", "its interface is refused"] {
        let world = quick_fleet();
        let resource = if case == "its interface is refused" { "eni-0a" } else { A };
        {
            let mut data = world.data();
            match case {
                "48 tags" => {
                    let own = (0..48).map(|n| (format!("own-{n}"), String::new()));
                    data.tags.insert(A.to_owned(), own.collect());
                }
                "denied" => drop(data.untaggable.insert(A.to_owned(), (Fault::Denied, "UnauthorizedOperation"))),
                _ => drop(data.untaggable.insert(resource.to_owned(), (Fault::Refused, "OperationNotPermitted"))),
            }
        }
        let answer = deliver(&world, listing(&[A, B, C], event("create"))).await;
        assert_eq!(answer.status, Status::Success, "{case}: {}", answer.reason);
        assert!(answer.reason.contains(&format!("tag {resource}")), "{case}: {}", answer.reason);
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0c"], "{case}");
        let tagged = |id: &str| {
            let data = world.data();
            data.tags.get(id).is_some_and(|tags| tags.keys().any(|key| key.starts_with("ec2-isolation:")))
        };
        assert!([B, C, "eni-0b", "eni-0c"].into_iter().all(tagged), "{case}: {:?}", world.data().tags);
        assert!(!tagged(resource), "{case}");
        let all_isolated = [A, B, C].map(|id| world.state(id)) == [Some(State::Isolated); 3];
        assert!(all_isolated, "{case}");
        assert_eq!(world.count("ec2:CreateSnapshots"), 3, "{case}");
    }
}
