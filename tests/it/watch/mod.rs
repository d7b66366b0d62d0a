//! What the watch says between two requests, and what it does where it may.

mod event;
mod fights;

use std::collections::BTreeSet;
use std::time::Duration;

use ec2_isolation::model::{Desired, State};
use ec2_isolation::ports::{Fault, INTENT_PREFIX};
use ec2_isolation::watch::{Trigger, handle};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::world::{self, ISOLATION, STACK, Trouble, World};
use crate::{A, B, C, D, event, fleet, invocation, isolated, listing, move_by_hand, run, set_state, succeeds};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

pub async fn watch(world: &World, event: Value) -> Value {
    let trigger = Trigger::read(&event).expect("it is for the watch");
    handle(&Ok(world.ports()), &Handle::current(), trigger, &invocation()).await.expect("it can look")
}

pub fn schedule() -> Value {
    json!({"Watch": {}})
}

/// A and B are isolated for a stack that is done, with this policy.
pub async fn watched(policy: &str) -> World {
    let world = fleet();
    let mut create = event("create");
    create["ResourceProperties"]["Watch"] = json!(policy);
    succeeds(&world, create).await;
    world.set_status("CREATE_COMPLETE");
    world.data().calm();
    world.data().calls.clear();
    world
}

/// A creation that failed is made anew by an update, and CloudFormation may take away the failed one at the end of it.
#[tokio::test(start_paused = true)]
async fn the_delete_of_what_an_update_has_made_anew_leaves_the_incident_as_it_is() {
    let world = fleet();
    let mut create = event("create");
    create["ResourceProperties"]["Watch"] = json!("Isolate");
    succeeds(&world, create).await;
    world.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS");
    let begun = world.data().intents.values().next().unwrap().0.issued;
    world.data().stacks.get_mut(crate::world::STACK).unwrap().updated = begun;
    let answer = succeeds(&world, event("delete")).await;
    let expected = "2 instances kept isolated, nothing was restored: this update has made the resource again";
    assert!(answer.reason.starts_with(expected), "{}", answer.reason);
    assert!(!answer.reason.contains("ec2-isolation restore"), "{}", answer.reason);
    assert_eq!((isolated(&world).len(), world.state(A)), (2, Some(State::Isolated)));
    world.set_status("UPDATE_COMPLETE");
    world.attach(A, "eni-0f", &["sg-0a"]);
    watch(&world, schedule()).await;
    watch(&world, schedule()).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"]);

    // What was asked for before the update began is what the update has taken out.
    let world = watched("Isolate").await;
    world.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS");
    world.data().stacks.get_mut(crate::world::STACK).unwrap().updated =
        begun.map(|begun| begun + Duration::from_secs(1));
    succeeds(&world, event("delete")).await;
    assert_eq!(world.state(A), Some(State::Kept));
}

fn is_read(action: &str) -> bool {
    action.contains(":Describe") || ["dynamodb:Scan", "dynamodb:BatchGetItem"].contains(&action)
}

pub fn writes(world: &World) -> Vec<String> {
    let data = world.data();
    let writes = data.calls.iter().filter(|(action, _)| !is_read(action));
    writes.map(|(action, what)| format!("{action} {what}")).collect()
}

pub fn open(found: &Value) -> Vec<String> {
    let incidents = found["incidents"].as_array().unwrap();
    let open = incidents.iter().flat_map(|incident| incident["not_isolated"].as_array().unwrap());
    open.map(|open| format!("{} {}: {}", open["instance"], open["interface"], open["why"]).replace('"', "")).collect()
}

#[tokio::test(start_paused = true)]
async fn an_incident_that_is_as_it_was_left_costs_five_reads_and_is_said_to_be() {
    let world = watched("Isolate").await;
    for event in [schedule(), json!({"Watch": {"StackId": STACK, "LogicalResourceId": "Isolation"}})] {
        world.data().calls.clear();
        let found = watch(&world, event).await;
        let expected = json!({"stack": "incident-2026-11-25", "stack_id": STACK, "in_progress": false,
            "not_isolated": [], "warnings": [], "done": []});
        assert_eq!(found, json!({"incidents": [expected], "not_isolated": 0, "drift": 0}));
        let calls: Vec<_> = world.data().calls.iter().map(|(action, _)| *action).collect();
        assert_eq!(calls.iter().filter(|action| action.starts_with("ec2:")).count(), 2, "{calls:?}");
        assert!(calls.len() <= 5 && writes(&world).is_empty(), "{calls:?}");
    }
    // Of another stack there is nothing.
    let other = json!({"Watch": {"StackId": "arn:aws:cloudformation:us-east-1:1:stack/other/1"}});
    assert_eq!(watch(&world, other).await, json!({"incidents": [], "not_isolated": 0, "drift": 0}));
}

#[tokio::test(start_paused = true)]
async fn an_interface_attached_since_is_told_and_isolated_where_that_is_allowed() {
    let world = watched("Notify").await;
    world.attach(A, "eni-0f", &["sg-0c", "sg-0d"]);
    for _ in 0..2 {
        let found = watch(&world, schedule()).await;
        assert_eq!(open(&found), [format!("{A} eni-0f: attached since the instance was isolated, in [sg-0c, sg-0d]")]);
        assert_eq!((&found["not_isolated"], &found["drift"]), (&json!(1), &json!(1)));
        let next = "ec2-isolation status --stack incident-2026-11-25 --region us-east-1";
        assert_eq!(found["incidents"][0]["next"], next);
    }
    assert_eq!((writes(&world), isolated(&world)), (vec![], vec!["eni-0a".to_owned(), "eni-0b".to_owned()]));

    let world = watched("Isolate").await;
    world.attach(A, "eni-0f", &["sg-0c", "sg-0d"]);
    let found = watch(&world, schedule()).await;
    assert_eq!(found["incidents"][0]["done"], json!([format!("{A}: eni-0f isolated")]), "{found}");
    assert_eq!((open(&found), &found["drift"]), (vec![], &json!(0)));
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"]);
    // Nothing is opened for it, and nothing else is changed.
    assert!(world.data().in_transit().is_empty());
    assert!(!writes(&world).iter().any(|write| write.contains(world::TRANSIT) || write.contains("CreateSnapshots")));
    let record = world.data().records[&A.parse().unwrap()].clone();
    assert_eq!(record.state, State::Isolated);
    assert!(record.history.iter().any(|line| line.contains("eni-0f") && line.ends_with("(asked by the watch)")));
    let calls = world.data().calls.len();
    watch(&world, schedule()).await;
    assert!(world.data().calls[calls..].iter().all(|(action, _)| is_read(action)), "once is enough");
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0f"], world::groups(&["sg-0c", "sg-0d"]));
    let before = fleet().cards();
    assert!(before.iter().all(|(id, groups)| world.cards()[id] == *groups));
}

/// What another record of the stack says of it is what it had, whatever it was given since.
#[tokio::test(start_paused = true)]
async fn an_interface_that_moved_to_another_instance_keeps_its_originals() {
    let world = fleet();
    world.attach(A, "eni-0f", &["sg-0a", "sg-0b"]);
    let mut create = event("create");
    create["ResourceProperties"]["Watch"] = json!("Isolate");
    succeeds(&world, create).await;
    world.set_status("CREATE_COMPLETE");
    world.data().calm();
    world.move_to("eni-0f", B);
    move_by_hand(&world, "eni-0f", &["sg-0d"]);
    let found = watch(&world, schedule()).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"], "{found}");
    let record = world.data().records[&B.parse().unwrap()].clone();
    assert_eq!(record.interfaces[&"eni-0f".parse().unwrap()], world::groups(&["sg-0a", "sg-0b"]));
    world.set_status("DELETE_IN_PROGRESS");
    let answer = succeeds(&world, event("delete")).await;
    assert_eq!(world.cards()["eni-0f"], world::groups(&["sg-0a", "sg-0b"]), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_moved_out_stays_out_and_is_told_each_time() {
    let world = watched("Isolate").await;
    move_by_hand(&world, "eni-0a", &["sg-0a"]);
    move_by_hand(&world, "eni-0b", &[ISOLATION, "sg-0d"]);
    // What is attached meanwhile is isolated all the same, and the other one is not touched for it.
    world.attach(A, "eni-0f", &["sg-0c"]);
    for _ in 0..3 {
        let found = watch(&world, schedule()).await;
        let expected = [
            format!("{A} eni-0a: back in [sg-0a], where it was before its isolation"),
            format!("{B} eni-0b: has [sg-0d] beside the isolation group"),
        ];
        assert_eq!(open(&found), expected);
        assert_eq!(world.cards()["eni-0a"], world::groups(&["sg-0a"]));
        assert_eq!(world.cards()["eni-0b"], world::groups(&[ISOLATION, "sg-0d"]));
        assert_eq!(world.cards()["eni-0f"], world::groups(&[ISOLATION]));
        assert_eq!(world.state(A), Some(State::Isolated));
    }
    // What the record says of it claims no more than that.
    let history = world.data().records[&A.parse().unwrap()].history.clone();
    let marked = history.iter().rfind(|line| line.contains(" isolated")).unwrap();
    assert!(marked.ends_with("but for eni-0a, which is not isolated (asked by the watch)"), "{marked}");
    let swaps: Vec<_> = writes(&world).into_iter().filter(|write| write.starts_with(SWAP)).collect();
    assert!(swaps.iter().all(|swap| swap.contains("eni-0f")), "{swaps:?}");
}

#[tokio::test(start_paused = true)]
async fn what_else_is_not_as_it_was_left_is_told() {
    let world = watched("Notify").await;
    world.data().instances.get_mut(&A.parse().unwrap()).unwrap().has_metadata_service = true;
    set_state(&world, B, "terminated");
    let found = watch(&world, schedule()).await;
    let warnings = found["incidents"][0]["warnings"].to_string();
    assert!(warnings.contains(&format!("no longer so: {A}: protect: metadata service off")), "{warnings}");
    assert!(warnings.contains(&format!("{B} is terminated")), "{warnings}");
    assert_eq!((&found["not_isolated"], &found["drift"]), (&json!(0), &json!(2)), "{found}");

    // The isolation group itself was opened.
    let world = watched("Isolate").await;
    let anywhere = world.data().groups[&world::TRANSIT.parse().unwrap()].ingress.clone();
    world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().ingress = anywhere;
    let found = watch(&world, schedule()).await;
    assert!(
        open(&found).iter().all(|open| open.contains("instances in it are not isolated")) && !open(&found).is_empty(),
        "{found}"
    );
    assert_eq!(writes(&world), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_reading_decides_nothing() {
    let world = watched("Notify").await;
    world.data().show(&"eni-0a".parse().unwrap(), world::groups(&["sg-0a"]), 1);
    assert_eq!(watch(&world, schedule()).await["drift"], json!(0));
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_is_no_drift_and_is_not_worked_against() {
    for status in ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"] {
        let world = watched("Isolate").await;
        world.attach(A, "eni-0f", &["sg-0c"]);
        world.set_status(status);
        let found = watch(&world, schedule()).await;
        assert_eq!((&found["incidents"][0]["in_progress"], writes(&world)), (&json!(true), vec![]), "{status}");
    }
    // What a failed Delete has left is the business of its stack.
    let world = watched("Isolate").await;
    world.attach(A, "eni-0f", &["sg-0c"]);
    world.set_status("DELETE_FAILED");
    assert_eq!((open(&watch(&world, schedule()).await).len(), writes(&world)), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_of_one_incident_is_said_of_that_one() {
    let world = watched("Notify").await;
    world.attach(A, "eni-0f", &["sg-0c"]);
    // The look that decides: instances, groups, the stack's status, the records, and the instances again.
    let before = world.data().calls.len();
    watch(&world, schedule()).await;
    let second =
        world.data().calls[before..].iter().rposition(|(action, _)| *action == "ec2:DescribeInstances").unwrap();
    let n = world.data().calls.len() + second + 1;
    world.data().troubles.insert(n, Trouble::Fails(Fault::Denied));
    let found = watch(&world, schedule()).await;
    let warning = found["incidents"][0]["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("what is true now is not known: ec2:DescribeInstances failed"), "{found}");
    // What the first look saw stays said.
    assert_eq!((&found["not_isolated"], &found["incidents"][0]["is_doubtful"]), (&json!(1), &json!(true)), "{found}");
    // Where nothing at all can be read, Lambda calls again.
    world.data().always = Some(("dynamodb:BatchGetItem", Fault::Server));
    let trigger = Trigger::read(&schedule()).unwrap();
    let blind = handle(&Ok(world.ports()), &Handle::current(), trigger, &invocation()).await;
    let said = blind.unwrap_err().to_string();
    assert!(said.starts_with("nothing is known of the open incidents: dynamodb:BatchGetItem failed"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_only_kept_is_told_and_left() {
    let world = watched("Isolate").await;
    world.set_status("UPDATE_IN_PROGRESS");
    let mut update = listing(&[A], event("update"));
    update["ResourceProperties"]["Watch"] = json!("Isolate");
    succeeds(&world, update).await;
    world.set_status("UPDATE_COMPLETE");
    world.data().calm();
    world.attach(B, "eni-0f", &["sg-0c"]);
    world.data().calls.clear();
    assert_eq!((open(&watch(&world, schedule()).await).len(), writes(&world)), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_incident_that_is_over_or_not_to_be_watched_is_not_looked_at() {
    let world = watched("Off").await;
    world.attach(A, "eni-0f", &["sg-0c"]);
    assert_eq!(watch(&world, schedule()).await["incidents"], json!([]));
    let world = watched("Isolate").await;
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    world.set_status("CREATE_COMPLETE");
    world.attach(A, "eni-0f", &["sg-0c"]);
    world.data().calls.clear();
    assert_eq!(watch(&world, schedule()).await["incidents"], json!([]));
    // The list of open incidents only: this one is over.
    assert_eq!(world.data().calls, [("dynamodb:BatchGetItem", "open".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_a_rollback_kept_is_told_and_left_to_a_person() {
    let world = watched("Isolate").await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.state(A), Some(State::Kept));
    world.set_status("ROLLBACK_FAILED");
    world.attach(A, "eni-0f", &["sg-0c"]);
    world.data().calls.clear();
    let found = watch(&world, schedule()).await;
    assert_eq!((open(&found).len(), writes(&world)), (1, vec![]), "{found}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_never_reached_is_told_and_not_isolated() {
    let world = fleet();
    let mut create = listing(&[A, B, C], event("create"));
    create["ResourceProperties"]["Watch"] = json!("Isolate");
    world.data().refused.insert("eni-0c".parse().unwrap());
    run(&world, create).await;
    world.set_status("CREATE_FAILED");
    world.data().calm();
    world.data().refused.clear();
    world.data().calls.clear();
    let found = watch(&world, schedule()).await;
    assert!(open(&found).iter().any(|open| open.starts_with(&format!("{C} eni-0c"))), "{found}");
    assert_eq!(writes(&world), [""; 0]);
}

/// To record something lists the incident as open. One that could record nothing is found all the same.
#[tokio::test(start_paused = true)]
async fn an_incident_that_could_record_nothing_is_watched_too() {
    // Refused at once, and for as long as the request lasts.
    for fault in [Fault::Refused, Fault::Throttled, Fault::Server, Fault::TimedOut] {
        let world = fleet();
        world.data().always = Some(("dynamodb:TransactWriteItems", fault));
        run(&world, event("create")).await;
        assert_eq!(world.data().records.len(), 0);
        world.set_status("CREATE_FAILED");
        world.data().always = None;
        world.data().calm();
        let found = watch(&world, schedule()).await;
        assert!(open(&found).iter().any(|open| open.starts_with(A)), "{found}");
        // Its Delete ends that.
        world.set_status("DELETE_IN_PROGRESS");
        let mut delete = event("delete");
        delete["RequestId"] = json!("delete-it");
        succeeds(&world, delete).await;
        assert_eq!(world.data().open, BTreeSet::new());
        assert_eq!(watch(&world, schedule()).await["incidents"], json!([]));
    }
}

/// Nothing was isolated, and CloudFormation sends no further Delete: nobody could end it.
#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_held_nothing_and_was_rolled_back_is_not_looked_at() {
    let world = fleet();
    run(&world, listing(&["i-0123456789abcdef0"], event("create"))).await;
    world.data().calm();
    world.set_status("CREATE_FAILED");
    assert_eq!(open(&watch(&world, schedule()).await).len(), 1);
    world.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    world.set_status("ROLLBACK_COMPLETE");
    let found = watch(&world, schedule()).await;
    assert_eq!((&found["incidents"], &found["not_isolated"]), (&json!([]), &json!(0)), "{found}");
    // It asked for what is there after all.
    world.set_status("CREATE_IN_PROGRESS");
    let mut create = event("create");
    create["RequestId"] = json!("once more");
    succeeds(&world, create).await;
    assert_eq!(watch(&world, schedule()).await["incidents"].as_array().unwrap().len(), 1);
}

/// Its records changed hands: the intent of the old name holds nothing.
#[tokio::test(start_paused = true)]
async fn an_incident_whose_resource_was_renamed_is_over_when_the_new_name_has_restored_it() {
    let world = watched("Notify").await;
    world.set_status("UPDATE_IN_PROGRESS");
    let renamed = |name: &str, request: &str| {
        let mut event = listing(&[A, B], event(name));
        (event["LogicalResourceId"], event["RequestId"]) = (json!("Renamed"), json!(request));
        event
    };
    succeeds(&world, renamed("create", "renamed")).await;
    world.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    world.set_status("UPDATE_COMPLETE");
    assert_eq!(watch(&world, schedule()).await["incidents"].as_array().unwrap().len(), 1);
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, renamed("delete", "the end")).await;
    assert_eq!(isolated(&world), [""; 0]);
    assert_eq!(watch(&world, schedule()).await["incidents"], json!([]));
}

/// Its intent was deleted by hand: what it held is isolated still.
#[tokio::test(start_paused = true)]
async fn an_open_incident_without_its_intent_is_told() {
    let world = watched("Notify").await;
    let digest = world.data().intents.pop_first().unwrap().0;
    let found = watch(&world, schedule()).await;
    let expected = format!(
        "an open incident cannot be read, and no record of it is known: item {INTENT_PREFIX}{digest}: it is not in the table"
    );
    assert_eq!(found["incidents"][0]["warnings"], json!([expected]), "{found}");
}

/// Some of an incident is restored: it is open as long as it holds anything.
#[tokio::test(start_paused = true)]
async fn an_incident_is_listed_until_the_last_of_it_is_restored() {
    let world = watched("Notify").await;
    let listed = world.data().open.clone();
    assert_eq!(listed.len(), 1);
    world.set_status("DELETE_IN_PROGRESS");
    world.data().refused.insert("eni-0b".parse().unwrap());
    let answer = run(&world, event("delete")).await;
    assert_eq!(world.state(A), Some(State::Restored), "{answer:?}");
    assert_eq!(world.data().open, listed);
    world.data().refused.clear();
    let mut again = event("delete");
    again["RequestId"] = json!("delete-again");
    succeeds(&world, again).await;
    assert_eq!(world.data().open, BTreeSet::new());
}

/// Of what was never isolated as a whole nobody can tell what was moved out.
#[tokio::test(start_paused = true)]
async fn an_instance_that_was_isolated_in_part_is_told_and_its_record_claims_nothing() {
    let world = fleet();
    let mut create = listing(&[D], event("create"));
    create["ResourceProperties"]["Watch"] = json!("Isolate");
    world.data().refused.insert("eni-0d2".parse().unwrap());
    run(&world, create).await;
    assert_eq!(world.state(D), Some(State::Isolating));
    world.set_status("CREATE_FAILED");
    world.data().calm();
    world.data().refused.clear();
    world.attach(D, "eni-0f", &["sg-0c"]);
    world.data().calls.clear();
    let found = watch(&world, schedule()).await;
    assert!(["eni-0d2", "eni-0f"].iter().all(|id| open(&found).iter().any(|open| open.contains(id))), "{found}");
    assert_eq!((writes(&world), world.state(D)), (vec![], Some(State::Isolating)));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_read_what_was_asked_what_is_recorded_is_watched() {
    for whole in [false, true] {
        let world = watched("Isolate").await;
        if whole {
            let key = format!("{INTENT_PREFIX}{}", world.data().intents.keys().next().unwrap());
            world.data().unreadable.insert(key, "attribute Held is no set of strings".to_owned());
        } else {
            world.data().intents.values_mut().next().unwrap().0.desired = Desired::Unknown("EOF".to_owned());
        }
        world.attach(A, "eni-0f", &["sg-0c"]);
        let found = watch(&world, schedule()).await;
        assert_eq!((open(&found).len(), writes(&world)), (1, vec![]), "{found}");
    }
}

/// Nothing of it can be read, and nothing is silent about it.
#[tokio::test(start_paused = true)]
async fn an_open_incident_that_cannot_be_read_at_all_is_told() {
    let world = watched("Notify").await;
    let digest = world.data().intents.keys().next().unwrap().clone();
    world.data().intents.values_mut().next().unwrap().0.held.clear();
    world.data().unreadable.insert(format!("{INTENT_PREFIX}{digest}"), "attribute Owner is missing".to_owned());
    let found = watch(&world, schedule()).await;
    let expected = format!(
        "an open incident cannot be read, and no record of it is known: item {INTENT_PREFIX}{digest}: attribute Owner is missing"
    );
    assert_eq!(found["incidents"][0]["warnings"], json!([expected]), "{found}");
    assert_eq!((&found["drift"], &found["incidents"][0]["is_doubtful"]), (&json!(1), &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn fifty_incidents_cost_at_most_two_describe_calls_for_a_hundred_interfaces_and_no_write() {
    let world = World::new();
    let stack = |n: usize| format!("arn:aws:cloudformation:us-east-1:123456789012:stack/ir-{n}/00000000-0000");
    for n in 0..50 {
        let ids: Vec<String> = (0..4).map(|i| format!("i-{n:04x}{i:04x}")).collect();
        ids.iter().for_each(|id| world.add(id, world::VPC, &[(&id.replace("i-", "eni-"), &["sg-0a"])]));
        let group = format!("sg-{n:08x}");
        {
            let mut data = world.data();
            let mut isolation = data.groups[&ISOLATION.parse().unwrap()].clone();
            (isolation.id, isolation.stack_id) = (group.parse().unwrap(), Some(stack(n)));
            data.groups.insert(isolation.id.clone(), isolation);
        }
        let mut create = listing(&ids.iter().map(String::as_str).collect::<Vec<_>>(), event("create"));
        create["StackId"] = json!(stack(n));
        create["ResourceProperties"]["IsolatedSecurityGroupId"] = json!(group);
        create["ResourceProperties"]["Watch"] = json!("Isolate");
        for off in ["SnapshotVolumes", "ProtectInstances"] {
            create["ResourceProperties"][off] = json!("false");
        }
        succeeds(&world, create).await;
    }
    world.data().calm();
    world.data().calls.clear();
    let found = watch(&world, schedule()).await;
    assert_eq!((found["incidents"].as_array().unwrap().len(), &found["drift"]), (50, &json!(0)));
    let actions: Vec<&str> = world.data().calls.iter().map(|(action, _)| *action).collect();
    let describes = actions.iter().filter(|action| action.contains(":Describe")).count();
    assert!(describes <= 2 * 200 / 100, "{actions:?}");
    let all = ["dynamodb:BatchGetItem", "ec2:DescribeInstances", "ec2:DescribeSecurityGroups"];
    assert_eq!(actions.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(all));
    assert_eq!(writes(&world), [""; 0]);
}
