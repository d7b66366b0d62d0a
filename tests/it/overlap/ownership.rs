//! Whose isolation it is: one owner for each instance, with its true originals, whoever else asks.

use std::sync::Arc;
use std::time::Duration;

use ec2_isolation::cloudformation::answer::{Answer, Status};
use ec2_isolation::cloudformation::handler::handle;
use ec2_isolation::cloudformation::stack::StackStatus;
use ec2_isolation::model::{Group, Groups, Peer, Role, Rule, State};
use ec2_isolation::ports::Ports;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::world::{self, ISOLATION, REPLACEMENT, STACK, World, groups};
use crate::{
    A, B, D, after, as_request, created, cutting, event, fails, fleet, invocation, isolated, meanwhile, move_by_hand,
    run, set_state, succeeds, with,
};

const OTHER_ISOLATION: &str = "sg-0bbbbbbbbbbbbbbbb";
const OTHER_TRANSIT: &str = "sg-0bbbbbbbbbbbbbbbc";

/// Another stack in the same VPC, with a records table of its own.
struct Other {
    stack_id: String,
    ports: Arc<Ports<World, World, World>>,
    table: World,
}

impl Other {
    /// Its id is less than the first stack's, or greater.
    fn new(world: &World, is_lesser: bool) -> Self {
        let stack_id = STACK.replace("stack/", if is_lesser { "stack/a" } else { "stack/z" });
        assert_eq!(stack_id.as_str() < STACK, is_lesser);
        let mut data = world.data();
        for (id, like) in [(OTHER_ISOLATION, ISOLATION), (OTHER_TRANSIT, crate::world::TRANSIT)] {
            let group = data.groups[&like.parse().unwrap()].clone();
            let group = Group { id: id.parse().unwrap(), stack_id: Some(stack_id.clone()), ..group };
            data.groups.insert(group.id.clone(), group);
        }
        let status =
            StackStatus { status: "DELETE_IN_PROGRESS".into(), reason: String::new(), parent: None, updated: None };
        data.stacks.insert(stack_id.clone(), status);
        drop(data);
        let table = World::new();
        let ports = Ports { ec2: world.clone(), records: table.clone(), stacks: world.clone() };
        Self { stack_id, ports: Arc::new(ports), table }
    }

    fn event(&self, mut event: Value) -> Value {
        event["StackId"] = json!(self.stack_id);
        event["ResourceProperties"]["IsolatedSecurityGroupId"] = json!(OTHER_ISOLATION);
        event["ResourceProperties"]["TransitSecurityGroupId"] = json!(OTHER_TRANSIT);
        event
    }

    async fn run(&self, event: Value) -> Answer {
        let before = self.table.data().answers.len();
        let reply = |_, _| self.table.clone();
        handle(&Ok(Arc::clone(&self.ports)), &Handle::current(), self.event(event), &invocation(), reply)
            .await
            .unwrap();
        let answers = self.table.data().answers.clone();
        assert_eq!(answers.len(), before + 1, "exactly one answer");
        answers.last().unwrap().clone()
    }
}

fn wanting(instances: &[&str]) -> Value {
    with("create", "InstanceIds", json!(instances))
}

fn of_d(world: &World) -> Vec<Groups> {
    world.cards().into_iter().filter(|(id, _)| id.starts_with("eni-0d")).map(|(_, groups)| groups).collect()
}

/// Two stacks create at once, the second one `delay` later; the reads of the first may trail.
async fn race(delay: Duration, is_lesser: bool, jitter: Option<u64>, change: fn(Value) -> Value) {
    let case = format!("{delay:?}, lesser {is_lesser}, jitter {jitter:?}");
    let world = fleet();
    let start = world.cards();
    world.data().jitter = jitter;
    let other = Other::new(&world, is_lesser);
    let late = async {
        tokio::time::sleep(delay).await;
        other.run(change(wanting(&[D]))).await
    };
    let (_, theirs) = tokio::join!(run(&world, change(wanting(&[D]))), late);
    let ours = world.data().answers.last().unwrap().clone();

    let end = of_d(&world);
    let is_ours = end.iter().all(|card| *card == groups(&[ISOLATION]));
    let is_theirs = end.iter().all(|card| *card == groups(&[OTHER_ISOLATION]));
    assert!(is_ours || is_theirs, "{case}: {end:?}");
    let (winner, loser) = if is_ours { (&ours, &theirs) } else { (&theirs, &ours) };
    assert_eq!(winner.status, Status::Success, "{case}: {}", winner.reason);
    // The first one may have ended before the other one came with an old view of it.
    let holder = if is_ours { STACK } else { &other.stack_id };
    let names = loser.reason.contains(&format!("{D} is already isolated by {holder}"));
    assert!(loser.status == Status::Success || names, "{case}: {}", loser.reason);
    let table = if is_ours { &world } else { &other.table };
    let record = table.data().records[&D.parse().unwrap()].clone();
    assert_eq!(record.interfaces[&"eni-0d1".parse().unwrap()], start["eni-0d1"], "{case}");
    assert_eq!(record.interfaces[&"eni-0d2".parse().unwrap()], start["eni-0d2"], "{case}");

    // The loser's Delete changes nothing of it, the winner's gives everything back.
    world.data().jitter = None;
    world.data().calm();
    let tags = || [D, "eni-0d1", "eni-0d2"].map(|id| world.data().tags.get(id).cloned().unwrap_or_default());
    let tagged = tags();
    assert!(tagged.iter().all(|tags| !tags.is_empty()), "{case}: {tagged:?}");
    if is_ours {
        drop(other.run(event("delete")).await)
    } else {
        drop(run(&world, event("delete")).await)
    }
    assert_eq!((of_d(&world), tags()), (end, tagged), "{case}");
    if is_ours {
        drop(run(&world, event("delete")).await)
    } else {
        drop(other.run(event("delete")).await)
    }
    assert_eq!(world.cards(), start, "{case}");
}

#[tokio::test(start_paused = true)]
async fn two_stacks_racing_for_an_instance_end_with_one_owner_and_its_true_originals() {
    for half_seconds in 0..16 {
        for is_lesser in [false, true] {
            let delay = Duration::from_millis(500 * half_seconds);
            race(delay, is_lesser, None, |event| event).await;
            race(delay, is_lesser, None, cutting).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_calls_of_two_racing_stacks_take_one_owner_has_the_instance_in_the_end() {
    for seed in 0..60 {
        let delay = Duration::from_millis(350 * (seed % 12));
        let change = if seed % 3 == 0 { cutting } else { |event| event };
        race(delay, seed % 2 == 0, Some(seed), change).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_another_stack_isolated_is_refused_by_name_and_the_others_are_isolated() {
    let world = fleet();
    succeeds(&world, wanting(&[A])).await;
    let cards = world.cards();
    let other = Other::new(&world, true);
    let answer = other.run(wanting(&[A, B])).await;
    assert_eq!(answer.status, Status::Failed);
    let named = format!(
        "{A} is already isolated by {STACK}: take it over with ec2-isolation adopt, or take it off CompromisedInstanceList"
    );
    assert!(answer.reason.contains(&named), "{}", answer.reason);
    assert_eq!(world.cards()["eni-0a"], cards["eni-0a"]);
    assert_eq!(world.cards()["eni-0b"], groups(&[OTHER_ISOLATION]));
    assert!(!other.table.data().records.contains_key(&A.parse().unwrap()), "nothing of it is recorded");
}

#[tokio::test(start_paused = true)]
async fn deleting_one_of_two_incidents_restores_its_own_instances_only() {
    let world = fleet();
    let start = world.cards();
    let other = Other::new(&world, false);
    succeeds(&world, wanting(&[A])).await;
    assert_eq!(other.run(wanting(&[B])).await.status, Status::Success);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0a"], start["eni-0a"]);
    assert_eq!(world.cards()["eni-0b"], groups(&[OTHER_ISOLATION]));
    assert_eq!(other.run(event("delete")).await.status, Status::Success);
    assert_eq!(world.cards(), start);
}

/// A waits for B when it has been given back, and is looked at once more.
#[tokio::test(start_paused = true)]
async fn what_another_incident_isolates_while_a_delete_still_works_is_left_to_it() {
    let world = fleet();
    let start = world.cards();
    succeeds(&world, wanting(&[A, B])).await;
    world.data().calm();
    set_state(&world, B, "pending");
    let other = Other::new(&world, false);
    let later = async {
        after(40).await;
        assert_eq!(world.cards()["eni-0a"], start["eni-0a"]);
        assert_eq!(other.run(wanting(&[A])).await.status, Status::Success);
        assert_eq!(world.cards()["eni-0a"], groups(&[OTHER_ISOLATION]));
        after(20).await;
        set_state(&world, B, "running");
    };
    let reason = meanwhile(&world, event("delete"), later).await;
    assert_eq!(world.cards()["eni-0a"], groups(&[OTHER_ISOLATION]), "{reason}");
    assert_eq!(world.cards()["eni-0b"], start["eni-0b"], "{reason}");
    let moved = format!("{A}: eni-0a was left alone: it was moved to [{OTHER_ISOLATION}] meanwhile");
    assert!(reason.starts_with("2 instances restored") && reason.contains(&moved), "{reason}");
    assert_eq!(other.run(event("delete")).await.status, Status::Success);
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_moved_to_an_instance_of_another_incident_stays_isolated_as_long_as_that() {
    let world = fleet();
    world.attach(A, "eni-0f", &["sg-0a"]);
    let start = world.cards();
    let other = Other::new(&world, false);
    succeeds(&world, wanting(&[A])).await;
    assert_eq!(other.run(wanting(&[B])).await.status, Status::Success);
    world.move_to("eni-0f", B);
    let reason = fails(&world, event("delete")).await;
    let named = format!("{A}: eni-0f is attached to {B} by now, which stays isolated: ");
    assert!(reason.contains(&named), "{reason}");
    assert_eq!((&world.cards()["eni-0a"], &world.cards()["eni-0f"]), (&start["eni-0a"], &groups(&[ISOLATION])));
    assert_eq!(other.run(event("delete")).await.status, Status::Success);
    assert_eq!(world.cards()["eni-0b"], start["eni-0b"]);
    succeeds(&world, crate::as_request("again", event("delete"))).await;
    assert_eq!((world.cards(), world.state(A)), (start, Some(State::Restored)));
}

/// Each isolates what is in its VPC.
#[tokio::test(start_paused = true)]
async fn what_protects_an_instance_stays_while_a_stack_of_another_vpc_isolates_a_part_of_it() {
    const ELSEWHERE: &str = "vpc-0f";
    let world = fleet();
    let other = Other::new(&world, false);
    {
        let mut data = world.data();
        let plain = data.groups[&"sg-0a".parse().unwrap()].clone();
        let vpc = Some(ELSEWHERE.parse().unwrap());
        let plain = Group { id: "sg-0f1".parse().unwrap(), vpc: vpc.clone(), ..plain };
        data.groups.insert(plain.id.clone(), plain);
        for id in [OTHER_ISOLATION, OTHER_TRANSIT] {
            data.groups.get_mut(&id.parse().unwrap()).unwrap().vpc.clone_from(&vpc);
        }
    }
    world.attach_in(D, ELSEWHERE, "eni-0f", &["sg-0f1"]);
    let (start, unprotected) = (world.cards(), world.protections());
    let partial = |vpc: &str| {
        let mut event = wanting(&[D]);
        event["ResourceProperties"]["AllowPartialIsolation"] = json!("true");
        event["ResourceProperties"]["VpcId"] = json!(vpc);
        event
    };
    succeeds(&world, partial(world::VPC)).await;
    let answer = other.run(partial(ELSEWHERE)).await;
    assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    assert_eq!(world.cards()["eni-0f"], groups(&[OTHER_ISOLATION]), "{}", answer.reason);
    let protected = world.protections();
    assert_ne!(protected, unprotected);
    // It needs no other group: that would take it out of the other isolation.
    let mut again = as_request("again", partial(world::VPC));
    again["ResourceProperties"]["Rerun"] = json!("again");
    let answer = succeeds(&world, again).await;
    let theirs = format!("{D}: eni-0f is already isolated by {}, and was left to that stack", other.stack_id);
    assert!(answer.reason.contains(&theirs) && !answer.reason.contains("allows nothing"), "{}", answer.reason);
    let answer = succeeds(&world, event("delete")).await;
    let named = format!("what protects it was left on, {} isolates it by now", other.stack_id);
    assert!(answer.reason.contains(&named), "{}", answer.reason);
    assert_eq!(world.protections(), protected);
    let card = |id: &str| world.cards()[id].clone();
    assert_eq!((card("eni-0d1"), card("eni-0f")), (start["eni-0d1"].clone(), groups(&[OTHER_ISOLATION])));
}

/// CloudFormation creates under the new logical id first, then deletes the old one, in the clean-up of an update.
#[tokio::test(start_paused = true)]
async fn a_renamed_resource_takes_the_records_over_and_the_delete_of_the_old_one_restores_nothing() {
    for status in ["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "DELETE_IN_PROGRESS"] {
        let world = fleet();
        let start = world.cards();
        succeeds(&world, event("create")).await;
        let renamed = |mut event: Value| {
            event["LogicalResourceId"] = json!("Renamed");
            event["RequestId"] = json!(format!("{} of the new one", event["RequestType"]));
            event
        };
        succeeds(&world, renamed(event("create"))).await;
        world.set_status(status);
        let answer = succeeds(&world, event("delete")).await;
        if status == "DELETE_IN_PROGRESS" {
            // The whole stack ends, and which of its Deletes comes first says nothing.
            assert_eq!((answer.reason.as_str(), world.cards()), ("2 instances restored", start.clone()));
        } else {
            assert_eq!(answer.reason, "nothing to restore: no instance is held isolated");
            assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
        }
        world.set_status("DELETE_IN_PROGRESS");
        succeeds(&world, renamed(event("delete"))).await;
        assert_eq!(world.cards(), start, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_isolation_group_moves_the_interfaces_and_leaves_the_originals() {
    let world = fleet();
    let start = world.cards();
    succeeds(&world, event("create")).await;
    let originals = world.data().records[&A.parse().unwrap()].interfaces.clone();
    {
        let mut data = world.data();
        let closed = data.groups[&ISOLATION.parse().unwrap()].clone();
        let group = data.groups.get_mut(&REPLACEMENT.parse().unwrap()).unwrap();
        (group.role, group.stack_id) = (Some(Role::Isolation), closed.stack_id.clone());
        (group.ingress, group.egress) = (closed.ingress.clone(), closed.egress.clone());
        // An attacker's group with our marker in the same VPC changes nothing.
        let rule = Rule { protocol: "-1".into(), ports: None, peer: Peer::Cidr("0.0.0.0/0".into()) };
        let open = Group { id: "sg-0bad".parse().unwrap(), stack_id: None, egress: vec![rule], ..closed };
        data.groups.insert(open.id.clone(), open);
    }
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, with("create", "IsolatedSecurityGroupId", json!(REPLACEMENT))).await;
    assert_eq!(world.cards()["eni-0a"], groups(&[REPLACEMENT]));
    assert_eq!(world.data().records[&A.parse().unwrap()].interfaces, originals);
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
    assert_eq!(world.state(A), Some(State::Restored));
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
    assert_eq!(answer.reason, "nothing to restore: no instance is held isolated");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, renamed(event("delete"), "renamed's delete")).await;
    assert_eq!(world.cards(), start);
}

/// The event under another logical id.
fn renamed(event: Value, request: &str) -> Value {
    let mut event = as_request(request, event);
    event["LogicalResourceId"] = json!("Renamed");
    event
}

/// What the new name has taken over when the update that brought it rolls back, the old name gives back in the end.
#[tokio::test(start_paused = true)]
async fn a_renamed_resource_whose_update_rolls_back_is_restored_by_the_delete_of_its_old_name() {
    for instances in [&[A, B][..], &[A]] {
        let world = created().await;
        let start = fleet().cards();
        world.set_status("UPDATE_IN_PROGRESS");
        succeeds(&world, renamed(wanting(instances), "renamed")).await;
        world.set_status("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS");
        let kept = succeeds(&world, renamed(event("delete"), "cleanup")).await;
        let expected = format!(
            "{} kept isolated, nothing was restored: ",
            if instances.len() == 2 { "2 instances" } else { "1 instance" }
        );
        assert!(kept.reason.starts_with(&expected), "{}", kept.reason);
        assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
        world.set_status("DELETE_IN_PROGRESS");
        let answer = succeeds(&world, as_request("the end", event("delete"))).await;
        assert_eq!(answer.reason, "2 instances restored");
        assert_eq!(world.cards(), start);
        assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Restored)));
    }
}

/// The instance that the new name does not list stays with the old one, whose Delete comes first.
#[tokio::test(start_paused = true)]
async fn what_a_renamed_resource_no_longer_lists_is_restored_by_its_delete() {
    let world = created().await;
    let start = fleet().cards();
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, renamed(wanting(&[A]), "renamed")).await;
    world.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS");
    let kept = succeeds(&world, as_request("cleanup", event("delete"))).await;
    assert!(kept.reason.starts_with("1 instance kept isolated, nothing was restored: "), "{}", kept.reason);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    world.set_status("DELETE_IN_PROGRESS");
    let answer = succeeds(&world, renamed(event("delete"), "the end")).await;
    assert_eq!(answer.reason, "2 instances restored");
    assert_eq!(world.cards(), start);
}

#[tokio::test(start_paused = true)]
async fn an_interface_in_the_isolation_of_another_stack_is_left_to_it() {
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
        reason.contains(&format!("{D}: eni-0d1 is already isolated by {other}, and was left to that stack: ")),
        "{reason}"
    );
    // What is in no isolation is not left open because of it.
    assert_eq!(isolated(&world), ["eni-0a", "eni-0d2"]);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), start);
    assert_ne!(other, STACK);
}
