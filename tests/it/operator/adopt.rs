//! A new stack takes over what an old one holds isolated.

use std::collections::BTreeMap;
use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status as Answered;
use ec2_isolation::cloudformation::stack::StackStatus;
use ec2_isolation::model::{Desired, Group, Groups, Role, ShowGroups};
use ec2_isolation::operator::stack::RECORDS_EXPORT;
use ec2_isolation::operator::{Address, Trouble as Refusal};
use ec2_isolation::ports::{Fault, INTENT_PREFIX};
use serde_json::json;

use super::{ALL, assert_as_at_the_start, by_table, kept, named, operator};
use crate::world::operator::view;
use crate::world::{ISOLATION, STACK, TABLE, TRANSIT, Trouble, VPC, World, groups};
use crate::{A, B, deliver, event, fleet, isolated, once_in, quick_fleet, succeeds, with, with_everything};

const NEW_STACK: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/incident-2/11111111-2222";
const NEW_GROUP: &str = "sg-02e30000000000000";
const NEW_TRANSIT: &str = "sg-02e30000000000001";
const NEW_TABLE: &str = "incident-2-SecurityGroupTable-XYZ";

/// The new stack: deployed, with a group and a table of its own.
pub fn deploy_heir(world: &World) {
    let mut data = world.data();
    let heir = Group {
        id: NEW_GROUP.parse().unwrap(),
        vpc: Some(VPC.parse().unwrap()),
        role: Some(Role::Isolation),
        stack_id: Some(NEW_STACK.to_owned()),
        ingress: vec![],
        egress: vec![],
    };
    let transit = data.groups[&TRANSIT.parse().unwrap()].clone();
    let transit = Group { id: NEW_TRANSIT.parse().unwrap(), stack_id: heir.stack_id.clone(), ..transit };
    data.groups.extend([heir, transit].map(|group| (group.id.clone(), group)));
    data.tables.insert(NEW_TABLE.to_owned(), Default::default());
    let resources = [("SecurityGroupTable", NEW_TABLE), ("IsolatedSecurityGroup", NEW_GROUP)];
    data.views.push(view(NEW_STACK, "CREATE_FAILED", &resources));
}

/// Both stacks beside one responder, which has the table; the old one has rolled back.
fn share_the_table(world: &World) {
    let mut data = world.data();
    data.exports.insert(RECORDS_EXPORT.to_owned(), TABLE.to_owned());
    data.tables.remove(NEW_TABLE);
    data.views.push(view(STACK, "ROLLBACK_FAILED", &[("IsolatedSecurityGroup", ISOLATION)]));
    for view in &mut data.views {
        view.resources
            .retain(|resource| !matches!(resource.logical_id.as_str(), "SecurityGroupTable" | "IsolationFunction"));
        view.function_outlives = true;
    }
}

async fn try_adopt(world: &World) -> Result<(bool, Vec<String>, Vec<String>), Refusal> {
    adopt_from(world, &by_table()).await
}

async fn adopt_from(world: &World, from: &Address) -> Result<(bool, Vec<String>, Vec<String>), Refusal> {
    let program = operator(world);
    let handover = program.handover(from, "incident-2", &ALL).await?;
    let report = program.adopt(&handover).await?;
    Ok((report.failed, report.adopted, report.details))
}

/// The event for the new stack.
fn of_heir(mut event: serde_json::Value) -> serde_json::Value {
    event["StackId"] = json!(NEW_STACK);
    event["PhysicalResourceId"] = json!("incident-2");
    event["ResourceProperties"]["IsolatedSecurityGroupId"] = json!(NEW_GROUP);
    event["ResourceProperties"]["TransitSecurityGroupId"] = json!("");
    event["ResourceProperties"]["CutEstablishedConnections"] = json!("false");
    event
}

/// Every change of an interface since call `n` led to the new group.
fn assert_never_released(world: &World, n: usize, when: &str) {
    for (action, what) in &world.data().calls[n..] {
        if *action == "ec2:ModifyNetworkInterfaceAttribute" {
            assert!(what.ends_with(&format!(" [{NEW_GROUP}]")), "{when}: {what}");
        }
    }
}

fn new_cards(world: &World) -> BTreeMap<String, Groups> {
    world.cards().into_iter().filter(|(_, at)| *at == groups(&[NEW_GROUP])).collect()
}

#[tokio::test(start_paused = true)]
async fn an_adoption_that_fails_or_dies_at_any_call_is_finished_by_the_next_one() {
    finished_by_the_next_one(false).await;
}

#[tokio::test(start_paused = true)]
async fn so_is_one_between_two_stacks_that_share_a_table() {
    finished_by_the_next_one(true).await;
}

async fn finished_by_the_next_one(is_shared: bool) {
    let from = if is_shared { Address::Stack(STACK.to_owned()) } else { by_table() };
    for trouble in [Trouble::Fails(Fault::Denied), Trouble::Fails(Fault::Server), Trouble::Dies, Trouble::DiesAfter] {
        for n in 1.. {
            let when = format!("{trouble:?} at call {n}");
            let world = kept().await;
            deploy_heir(&world);
            if is_shared {
                share_the_table(&world);
            }
            let already = world.data().calls.len();
            world.data().troubles.insert(already + n, trouble);
            let process = world.process();
            tokio::select! {
                biased;
                () = process.death() => tokio::time::sleep(Duration::from_secs(3)).await,
                _ = adopt_from(&process, &from) => {}
            }
            let struck = world.data().troubles.is_empty();
            world.data().troubles.clear();
            let (failed, _, details) = adopt_from(&world, &from).await.expect("it can be read");
            assert!(!failed, "{when}: {details:?}");
            assert_never_released(&world, already, &when);
            assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a", "eni-0b"], "{when}");
            let owners: Vec<_> = world.data().records.values().map(|record| record.owner.stack_id.clone()).collect();
            assert_eq!(owners, if is_shared { vec![NEW_STACK; 2] } else { vec![] }, "{when}");
            // The new stack finds what is its own, takes no second set of snapshots, and restores the true originals.
            let snapshots = world.count("ec2:CreateSnapshots");
            let heir = world.named_table(if is_shared { TABLE } else { NEW_TABLE });
            world.data().stacks.insert(NEW_STACK.to_owned(), status("UPDATE_IN_PROGRESS"));
            let writes = world.count("ec2:ModifyNetworkInterfaceAttribute");
            // What has passed once passes no second time.
            let mut create = of_heir(with_everything(event("create")));
            create["ResourceProperties"]["TransitSecurityGroupId"] = json!(NEW_TRANSIT);
            create["ResourceProperties"]["CutEstablishedConnections"] = json!("true");
            let answer = deliver(&heir, create).await;
            let enters = |(_, what): &&(&str, String)| what.ends_with(&format!("[{NEW_TRANSIT}]"));
            assert_eq!(world.data().calls.iter().filter(enters).count(), 0, "{when}");
            assert_eq!(
                (answer.status, answer.data.isolated_instance_count.as_str()),
                (Answered::Success, "2"),
                "{when}: {}",
                answer.reason
            );
            assert_eq!(world.count("ec2:ModifyNetworkInterfaceAttribute"), writes, "{when}");
            assert_eq!(world.count("ec2:CreateSnapshots"), snapshots, "{when}");
            world.data().stacks.insert(NEW_STACK.to_owned(), status("DELETE_IN_PROGRESS"));
            let answer = deliver(&heir, of_heir(event("delete"))).await;
            assert_eq!(answer.status, Answered::Success, "{when}: {}", answer.reason);
            assert_as_at_the_start(&world, &when);
            if !struck {
                break;
            }
        }
    }
}

fn status(status: &str) -> StackStatus {
    StackStatus { status: status.to_owned(), reason: String::new(), parent: None, updated: None }
}

#[tokio::test(start_paused = true)]
async fn what_a_stack_still_takes_care_of_is_not_adopted_and_the_rest_is() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    deploy_heir(&world);
    world.data().views.push(view(STACK, "CREATE_COMPLETE", &[]));
    let (failed, adopted, details) = try_adopt(&world).await.unwrap();
    assert_eq!((failed, adopted), (true, vec![]));
    assert!(
        details[0].contains(&format!("{A} is still isolated by {STACK}, which works: deploy that stack once more")),
        "{details:?}"
    );
    // As it says: B alone is listed now.
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, with("update", "InstanceIds", json!([B]))).await;
    let (failed, adopted, details) = try_adopt(&world).await.unwrap();
    assert_eq!((failed, adopted), (true, vec![A.to_owned()]), "{details:?}");
    assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a"]);
    assert_eq!(isolated(&world), ["eni-0b"]);
    // The old one's Delete is about what is left to it.
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a"]);
    assert_eq!(world.cards()["eni-0b"], fleet().cards()["eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_works_keeps_everything_where_nobody_can_read_what_it_lists() {
    type Break = fn(&World);
    let ways: [(&str, Break); 3] = [
        ("its latest request cannot be read", |world| {
            for (intent, _) in world.data().intents.values_mut() {
                intent.desired = Desired::Unknown("attribute Desired: missing field `instances`".to_owned());
            }
        }),
        ("the whole item cannot be read", |world| {
            let mut data = world.data();
            let keys: Vec<String> = data.intents.keys().map(|digest| format!("{INTENT_PREFIX}{digest}")).collect();
            data.unreadable.extend(keys.into_iter().map(|key| (key, "attribute Held is no set of strings".to_owned())));
        }),
        ("the item is gone", |world| world.data().intents.clear()),
    ];
    for (when, spoil) in ways {
        for is_shared in [false, true] {
            let world = fleet();
            succeeds(&world, event("create")).await;
            deploy_heir(&world);
            if is_shared {
                share_the_table(&world);
                world.data().views[1].status.status = "CREATE_COMPLETE".to_owned();
            } else {
                world.data().views.push(view(STACK, "CREATE_COMPLETE", &[]));
            }
            spoil(&world);
            let already = world.data().calls.len();
            let from = if is_shared { Address::Stack(STACK.to_owned()) } else { by_table() };
            let (failed, adopted, details) = adopt_from(&world, &from).await.unwrap();
            assert_eq!((failed, adopted), (true, vec![]), "{when}");
            for instance in [A, B] {
                let refused =
                    format!("{instance} is still isolated by {STACK}, which works: deploy that stack once more");
                assert!(details.iter().any(|detail| detail.contains(&refused)), "{when}: {details:?}");
            }
            assert_never_released(&world, already, when);
            assert_eq!(isolated(&world), ["eni-0a", "eni-0b"], "{when}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_adopted_by_a_stack_that_is_not_deployed() {
    let world = kept().await;
    let refused = try_adopt(&world).await.unwrap_err();
    assert!(refused.to_string().contains("there is no stack incident-2"), "{refused}");
    deploy_heir(&world);
    world.data().views[0].status.status = "ROLLBACK_FAILED".to_owned();
    let refused = try_adopt(&world).await.unwrap_err();
    assert_eq!(refused.to_string(), "nothing was changed: stack incident-2 is ROLLBACK_FAILED: deploy it first");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn stacks_that_share_a_table_are_named_and_are_two() {
    let world = kept().await;
    deploy_heir(&world);
    share_the_table(&world);
    for from in [by_table(), Address::Stack("incident-2".to_owned())] {
        let refused = adopt_from(&world, &from).await.unwrap_err().to_string();
        let expected = format!(
            "nothing was changed: both are table {TABLE}: name two stacks, since a table may hold several incidents"
        );
        assert_eq!(refused, expected);
    }
    let (failed, adopted, details) = adopt_from(&world, &Address::Stack(STACK.to_owned())).await.unwrap();
    assert_eq!((failed, adopted), (false, vec![A.to_owned(), B.to_owned()]), "{details:?}");
    // The old one's Delete, sent once more by its rolled back stack, has nothing to release.
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, with("delete", "FunctionOutlivesStack", json!("true"))).await;
    assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a", "eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_stack_that_shares_the_table_still_takes_care_of_is_not_adopted() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    deploy_heir(&world);
    share_the_table(&world);
    world.data().views[1].status.status = "CREATE_COMPLETE".to_owned();
    let (failed, adopted, details) = adopt_from(&world, &Address::Stack(STACK.to_owned())).await.unwrap();
    assert_eq!((failed, adopted), (true, vec![]));
    assert!(details[0].contains(&format!("{A} is still isolated by {STACK}, which works")), "{details:?}");
}

/// From a responder's table into that of a one-shot stack: what other incidents hold in it is theirs.
#[tokio::test(start_paused = true)]
async fn the_incidents_beside_it_in_a_responders_table_stay_where_they_are() {
    let world = kept().await;
    let beside = "arn:aws:cloudformation:us-east-1:123456789012:stack/beside/1";
    world.data().records.get_mut(&B.parse().unwrap()).unwrap().owner.stack_id = beside.to_owned();
    deploy_heir(&world);
    world.data().exports.insert(RECORDS_EXPORT.to_owned(), TABLE.to_owned());
    let mut old = view(STACK, "ROLLBACK_FAILED", &[("IsolatedSecurityGroup", ISOLATION)]);
    old.resources.retain(|resource| resource.logical_id != "IsolationFunction");
    old.function_outlives = true;
    world.data().views.push(old);
    let refused = adopt_from(&world, &by_table()).await.unwrap_err().to_string();
    assert!(refused.ends_with(&format!("say which by the ARN of its stack: {beside}, {STACK}")), "{refused}");
    let (failed, adopted, details) = adopt_from(&world, &Address::Stack(STACK.to_owned())).await.unwrap();
    assert_eq!((failed, adopted), (false, vec![A.to_owned()]), "{details:?}");
    assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a"]);
    let left: Vec<_> = world.data().records.values().map(|record| record.owner.stack_id.clone()).collect();
    assert_eq!(left, [beside]);
    assert_eq!(isolated(&world), ["eni-0b"]);
}

/// A and B are kept, and the second interface of A is attached to B by now, isolated as before.
async fn kept_with_a_moved_interface() -> World {
    let world = quick_fleet();
    world.attach(A, "eni-0f", &["sg-0a", "sg-0b"]);
    succeeds(&world, event("create")).await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    world.move_to("eni-0f", B);
    world
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_moved_between_two_that_are_adopted_is_adopted_with_them() {
    for is_shared in [false, true] {
        let world = kept_with_a_moved_interface().await;
        deploy_heir(&world);
        if is_shared {
            share_the_table(&world);
        }
        let from = if is_shared { Address::Stack(STACK.to_owned()) } else { by_table() };
        let already = world.data().calls.len();
        let (failed, adopted, details) = adopt_from(&world, &from).await.unwrap();
        assert_eq!((failed, adopted), (false, vec![A.to_owned(), B.to_owned()]), "{is_shared}: {details:?}");
        assert_never_released(&world, already, "moved");
        assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a", "eni-0b", "eni-0f"]);
        let heir = world.named_table(if is_shared { TABLE } else { NEW_TABLE });
        for (name, now) in [("create", "UPDATE_IN_PROGRESS"), ("delete", "DELETE_IN_PROGRESS")] {
            world.data().stacks.insert(NEW_STACK.to_owned(), status(now));
            let answer = deliver(&heir, of_heir(event(name))).await;
            assert_eq!(answer.status, Answered::Success, "{}", answer.reason);
        }
        assert_eq!(world.cards()["eni-0a"], groups(&["sg-0a"]));
        assert_eq!(world.cards()["eni-0f"], groups(&["sg-0a", "sg-0b"]));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_an_interface_of_another_is_adopted_with_it_only() {
    let world = kept_with_a_moved_interface().await;
    deploy_heir(&world);
    let program = operator(&world);
    let handover = program.handover(&by_table(), "incident-2", &named(&[B])).await.unwrap();
    let report = program.adopt(&handover).await.unwrap();
    let with = format!("{B}: eni-0f is in the record of {A}: adopt {A} with it");
    assert_eq!((report.failed, report.adopted, report.details), (true, vec![], vec![with]));
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b", "eni-0f"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_shown_for_a_moment_is_waited_for() {
    for hidden in ["eni-0a", A, NEW_GROUP] {
        let world = kept().await;
        deploy_heir(&world);
        world.data().latency = Duration::from_millis(20);
        // When the records are copied, or right at the beginning.
        if hidden == NEW_GROUP {
            world.hide(hidden, Duration::from_secs(4));
        } else {
            world.before_call_of("dynamodb:TransactWriteItems", 0, move |data| {
                data.hidden.insert(hidden.to_owned(), tokio::time::Instant::now() + Duration::from_secs(4));
            });
        }
        let (failed, adopted, details) = try_adopt(&world).await.unwrap();
        assert_eq!((failed, adopted), (false, vec![A.to_owned(), B.to_owned()]), "{hidden}: {details:?}");
        assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a", "eni-0b"], "{hidden}");
    }
}

/// A controller puts the original groups back right after the change.
#[tokio::test(start_paused = true)]
async fn what_is_changed_right_after_it_was_moved_is_moved_again_and_what_goes_on_is_named() {
    let world = kept().await;
    deploy_heir(&world);
    world.data().latency = Duration::from_millis(20);
    let once = async {
        once_in(&world, "eni-0a", NEW_GROUP).await;
        world.data().put_back(&"eni-0a".parse().unwrap(), groups(&["sg-0a"]));
    };
    let (adopted, ()) = tokio::join!(try_adopt(&world), once);
    let (failed, adopted, details) = adopted.unwrap();
    assert_eq!((failed, adopted), (false, vec![A.to_owned(), B.to_owned()]), "{details:?}");
    assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a", "eni-0b"]);

    let world = kept().await;
    deploy_heir(&world);
    world.data().latency = Duration::from_millis(20);
    let always = async {
        loop {
            once_in(&world, "eni-0a", NEW_GROUP).await;
            world.data().put_back(&"eni-0a".parse().unwrap(), groups(&["sg-0a"]));
        }
    };
    let (failed, adopted, details) = tokio::select! {
        adopted = try_adopt(&world) => adopted.unwrap(),
        () = always => unreachable!("it never ends"),
    };
    assert_eq!((failed, adopted), (true, vec![B.to_owned()]), "{details:?}");
    assert!(details.iter().any(|detail| detail.contains("eni-0a") && detail.contains("NotVisible")), "{details:?}");
    assert!(world.data().records.contains_key(&A.parse().unwrap()), "its old record stays");
}

/// Only its record moves, and that is what is said before.
#[tokio::test(start_paused = true)]
async fn what_was_recorded_and_never_isolated_is_said_not_to_be() {
    let world = kept().await;
    deploy_heir(&world);
    let before = fleet().cards()["eni-0b"].clone();
    world.data().put_back(&"eni-0b".parse().unwrap(), before.clone());
    let handover = operator(&world).handover(&by_table(), "incident-2", &ALL).await.unwrap();
    let said = handover.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&format!(" eni-0a [{ISOLATION}] -> [{NEW_GROUP}], where it is isolated ")), "{said}");
    let open = "is not isolated: the next deployment of the new stack isolates it";
    assert!(said.contains(&format!(" eni-0b {} {open} ", ShowGroups(&before))), "{said}");
    let (failed, adopted, details) = try_adopt(&world).await.unwrap();
    assert_eq!((failed, adopted.len()), (false, 2), "{details:?}");
    assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a"]);
    succeeds(&world.named_table(NEW_TABLE), of_heir(event("create"))).await;
    assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a", "eni-0b"]);
}

/// Its own table is lost. What point-in-time recovery gives back has another name, and the old stack's groups are left afterwards.
#[tokio::test(start_paused = true)]
async fn records_of_a_recovered_table_are_adopted_and_the_old_groups_are_left_over() {
    let world = kept().await;
    deploy_heir(&world);
    let records = std::mem::take(&mut world.data().records);
    world.data().tables.entry("recovered-2".to_owned()).or_default().records = records;
    let program = operator(&world);
    let handover = program.handover(&Address::Table("recovered-2".to_owned()), "incident-2", &ALL).await.unwrap();
    let report = program.adopt(&handover).await.unwrap();
    assert_eq!((report.failed, report.adopted), (false, vec![A.to_owned(), B.to_owned()]), "{:?}", report.details);
    assert!(
        world
            .cards()
            .into_iter()
            .filter(|(id, _)| ["eni-0a", "eni-0b"].contains(&id.as_str()))
            .all(|(_, groups)| { groups == [NEW_GROUP.parse().unwrap()].into() })
    );
    let left = program.leftovers(None).await.unwrap();
    let groups = left.left.iter().filter(|left| left.kind == ec2_isolation::operator::Kind::SecurityGroup);
    let groups: Vec<(&str, bool)> = groups.map(|left| (left.id.as_str(), left.commands.is_empty())).collect();
    assert_eq!(groups, [(TRANSIT, false), (ISOLATION, false)]);
    assert!(
        left.said.iter().any(|said| said.starts_with("Not over, so nothing of it is listed: incident-2")),
        "{left}"
    );
}
