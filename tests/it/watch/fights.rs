//! The watch against a controller, beside a request, and killed.

use std::time::Duration;

use ec2_isolation::model::State;
use ec2_isolation::watch::MOST_RETURNS;
use serde_json::{Value, json};

use super::event::{passed_on, samples};
use super::{SWAP, open, schedule, watch, watched, writes};
use crate::world::{self, ISOLATION, Trouble, World};
use crate::{A, event, fleet, isolated, move_by_hand, run, succeeds};

/// The sample as a call on this interface that gave it these groups.
fn on(name: &str, interface: &str, groups: &[&str]) -> Value {
    let mut sample = samples()[name].clone();
    let items: Vec<Value> = groups.iter().map(|id| json!({"groupId": id})).collect();
    sample["detail"]["requestParameters"] = json!({"networkInterfaceId": interface, "groupSet": {"items": items}});
    passed_on(&sample)
}

const BY_A_CONTROLLER: &str = "modify-network-interface-attribute-by-an-eks-controller";

#[tokio::test(start_paused = true)]
async fn what_a_controller_moves_out_is_isolated_again_a_few_times_and_then_told() {
    let world = watched("Isolate").await;
    for n in 1..=MOST_RETURNS {
        move_by_hand(&world, "eni-0a", &["sg-0a"]);
        let found = watch(&world, on(BY_A_CONTROLLER, "eni-0a", &["sg-0a"])).await;
        assert_eq!(found["incidents"][0]["done"], json!([format!("{A}: eni-0a isolated")]), "{found}");
        assert_eq!((isolated(&world), world.state(A)), (vec!["eni-0a".into(), "eni-0b".into()], Some(State::Isolated)));
        assert_eq!(world.data().records[&A.parse().unwrap()].returns, n);
    }
    let history = world.data().records[&A.parse().unwrap()].history.join("\n");
    assert!(history.contains("(asked by the watch, after ModifyNetworkInterfaceAttribute by arn:aws:sts"), "{history}");
    move_by_hand(&world, "eni-0a", &["sg-0a"]);
    let swaps = world.count(SWAP);
    let found = watch(&world, on(BY_A_CONTROLLER, "eni-0a", &["sg-0a"])).await;
    assert_eq!((open(&found).len(), world.count(SWAP)), (1, swaps), "{found}");
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), fleet().cards());
}

/// The SDK, or we, send again what was not answered.
#[tokio::test(start_paused = true)]
async fn a_return_whose_count_is_not_answered_is_isolated_all_the_same() {
    let world = watched("Isolate").await;
    for n in 1..=2 {
        move_by_hand(&world, "eni-0a", &["sg-0a"]);
        world.data().troubles_of.insert("dynamodb:UpdateItem", (0, Trouble::Unanswered));
        let found = watch(&world, on(BY_A_CONTROLLER, "eni-0a", &["sg-0a"])).await;
        assert_eq!(found["incidents"][0]["done"], json!([format!("{A}: eni-0a isolated")]), "{found}");
        assert_eq!(world.data().records[&A.parse().unwrap()].returns, n);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_worked_against() {
    let others = samples().into_keys().filter(|name| name.starts_with("modify-network-interface-attribute"));
    let others = others.filter(|name| !name.ends_with("controller") && !name.ends_with("by-the-instance"));
    let mut tried = 0;
    for name in others {
        let world = watched("Isolate").await;
        move_by_hand(&world, "eni-0a", &["sg-0a"]);
        let found = watch(&world, on(&name, "eni-0a", &["sg-0a"])).await;
        assert_eq!(writes(&world), [""; 0], "{name}: {found}");
        tried += 1;
    }
    assert!(tried >= 4, "{tried}");
    // A person has moved it since, or it is another interface's event, or the incident only tells.
    let late = watched("Isolate").await;
    move_by_hand(&late, "eni-0a", &["sg-0d"]);
    assert_eq!(open(&watch(&late, on(BY_A_CONTROLLER, "eni-0a", &["sg-0a"])).await).len(), 1);
    let other = watched("Isolate").await;
    move_by_hand(&other, "eni-0a", &["sg-0a"]);
    assert_eq!(open(&watch(&other, on(BY_A_CONTROLLER, "eni-0b", &["sg-0a"])).await).len(), 1);
    let telling = watched("Notify").await;
    move_by_hand(&telling, "eni-0a", &["sg-0a"]);
    assert_eq!(open(&watch(&telling, on(BY_A_CONTROLLER, "eni-0a", &["sg-0a"])).await).len(), 1);
    for world in [late, other, telling] {
        assert_eq!(writes(&world), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_no_business_of_ours_costs_reads_of_the_table_only() {
    let world = watched("Isolate").await;
    for event in
        [on(BY_A_CONTROLLER, "eni-0c", &["sg-0a"]), passed_on(&samples()["modify-network-interface-attribute-refused"])]
    {
        world.data().calls.clear();
        assert_eq!(watch(&world, event).await["incidents"], json!([]));
        assert!(world.data().calls.iter().all(|(action, _)| *action == "dynamodb:BatchGetItem"));
        assert_eq!(world.data().calls.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_outcome_no_look_shows_is_told_by_itself() {
    let world = watched("Notify").await;
    let snapshot = world.data().records[&A.parse().unwrap()].snapshots.taken.values().next().unwrap().to_string();
    for (name, call, given) in [
        ("delete-snapshot", "DeleteSnapshot", json!({"snapshotId": snapshot})),
        (
            "modify-instance-attribute-termination",
            "ModifyInstanceAttribute",
            json!({"instanceId": A, "disableApiTermination": {"value": false}}),
        ),
    ] {
        let mut sample = samples()[name].clone();
        sample["detail"]["requestParameters"] = given;
        let found = watch(&world, passed_on(&sample)).await;
        let warning = found["incidents"][0]["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with(&format!("there was a call of {call} by arn:aws:")), "{found}");
        assert_eq!((&found["drift"], writes(&world)), (&json!(1), vec![]));
    }
}

/// Whenever a request comes while the watch is at work, what it asked for is what is.
#[tokio::test(start_paused = true)]
async fn a_delete_beside_the_watch_wins_at_every_moment() {
    for seconds in 0..40 {
        let world = watched("Isolate").await;
        world.attach(A, "eni-0f", &["sg-0c", "sg-0d"]);
        let later = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            world.set_status("DELETE_IN_PROGRESS");
            run(&world, event("delete")).await;
        };
        tokio::join!(watch(&world, schedule()), later);
        // What the Delete could not know of, since it came last, a second one finds: nothing is lost track of.
        if world.data().records.values().any(|record| record.state != State::Restored) {
            succeeds(&world, event("delete")).await;
        }
        assert_restored(&world, &format!("after {seconds} s"));
    }
}

fn assert_restored(world: &World, when: &str) {
    let cards = world.cards();
    assert_eq!(cards["eni-0f"], world::groups(&["sg-0c", "sg-0d"]), "{when}");
    assert!(fleet().cards().iter().all(|(id, groups)| cards[id] == *groups), "{when}: {cards:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_dies_at_any_call_is_finished_by_the_next_one() {
    // Lambda calls it again with the event that it died of: who attached the interface decides nothing.
    let mut attached = samples()["attach-network-interface-by-a-person"].clone();
    attached["detail"]["requestParameters"] =
        json!({"networkInterfaceId": "eni-0f", "instanceId": A, "deviceIndex": 1});
    let (trouble, event_of) = ([Trouble::Dies, Trouble::DiesAfter], [schedule(), passed_on(&attached)]);
    for (trouble, called) in
        trouble.into_iter().flat_map(|trouble| event_of.iter().map(move |called| (trouble, called)))
    {
        for n in 1.. {
            let when = format!("{trouble:?} at call {n} of {called}");
            let world = watched("Isolate").await;
            world.attach(A, "eni-0f", &["sg-0c", "sg-0d"]);
            world.data().troubles.insert(n, trouble);
            let process = world.process();
            tokio::select! {
                biased;
                () = process.death() => tokio::time::sleep(Duration::from_secs(60)).await,
                _ = watch(&process, called.clone()) => {}
            }
            let struck = world.data().troubles.is_empty();
            world.data().troubles.clear();
            // The clock of the world stands still: its lease is over all the same.
            let_the_lease_end(&world);
            let found = watch(&world, called.clone()).await;
            assert_eq!(world.cards()["eni-0f"], world::groups(&[ISOLATION]), "{when}: {found}");
            assert_eq!((open(&found), world.state(A)), (vec![], Some(State::Isolated)), "{when}");
            // From then on a person decides.
            move_by_hand(&world, "eni-0f", &["sg-0c", "sg-0d"]);
            let found = watch(&world, schedule()).await;
            assert_eq!(open(&found).len(), 1, "{when}: {found}");
            assert_eq!(world.cards()["eni-0f"], world::groups(&["sg-0c", "sg-0d"]), "{when}");
            assert!(isolated(&world).starts_with(&["eni-0a".to_owned(), "eni-0b".to_owned()]), "{when}");
            world.set_status("DELETE_IN_PROGRESS");
            succeeds(&world, event("delete")).await;
            assert_restored(&world, &when);
            if !struck {
                break;
            }
        }
    }
}

/// The lease of what it had begun is over.
fn let_the_lease_end(world: &World) {
    for record in world.data().records.values_mut() {
        record.lease.iter_mut().for_each(|lease| lease.until = record.recorded_at);
    }
}

/// EC2 refuses for good: the watch goes on a few times, then it tells, and no more is written.
#[tokio::test(start_paused = true)]
async fn what_ec2_refuses_is_tried_a_few_times_and_then_told() {
    let world = watched("Isolate").await;
    world.attach(A, "eni-0f", &["sg-0c"]);
    world.data().refused.insert("eni-0f".parse().unwrap());
    for _ in 0..=MOST_RETURNS {
        let found = watch(&world, schedule()).await;
        assert_eq!(open(&found).len(), 1, "{found}");
        assert_eq!(world.state(A), Some(State::Isolating));
        let_the_lease_end(&world);
    }
    let found = watch(&world, schedule()).await;
    assert_eq!((open(&found).len(), world.state(A)), (1, Some(State::Isolated)), "{found}");
    let history = world.data().records[&A.parse().unwrap()].history.clone();
    assert!(history.last().unwrap().contains(": but for eni-0f, which is not isolated"), "{history:#?}");
    world.data().calls.clear();
    assert_eq!((open(&watch(&world, schedule()).await).len(), writes(&world)), (1, vec![]));
}

/// Neither the one that died nor the one that goes on takes back what a person has decided.
#[tokio::test(start_paused = true)]
async fn what_a_person_moved_after_a_watch_died_stays_out() {
    let world = watched("Isolate").await;
    world.attach(A, "eni-0f", &["sg-0c"]);
    let before = world.data().calls.len();
    watch(&world, schedule()).await;
    let swap = world.data().calls[before..].iter().position(|(action, _)| *action == SWAP).unwrap();

    let world = watched("Isolate").await;
    world.attach(A, "eni-0f", &["sg-0c"]);
    world.data().troubles.insert(swap + 1, Trouble::DiesAfter);
    let process = world.process();
    tokio::select! {
        biased;
        () = process.death() => tokio::time::sleep(Duration::from_secs(60)).await,
        _ = watch(&process, schedule()) => panic!("it was to die"),
    }
    assert_eq!(world.cards()["eni-0f"], world::groups(&[ISOLATION]));
    let_the_lease_end(&world);
    move_by_hand(&world, "eni-0f", &["sg-0d"]);
    let found = watch(&world, schedule()).await;
    assert_eq!(world.cards()["eni-0f"], world::groups(&["sg-0d"]), "{found}");
    assert_eq!((open(&found).len(), world.state(A)), (1, Some(State::Isolated)), "{found}");
}
