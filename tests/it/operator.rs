//! The operator's program in the world in memory: faults and deaths at every call, and whoever else is at work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use ec2_isolation::cloudformation::answer::Status as Answered;
use ec2_isolation::model::{Desired, Group, Groups, InstanceId, Role, State};
use ec2_isolation::operator::{Address, Operator, RestoreReport, Shell, Site, Status, Trouble as Refusal};
use ec2_isolation::ports::Fault;
use ec2_isolation::reconcile::Ports;
use ec2_isolation::timing::clock::Clock;
use ec2_isolation::timing::gate::Gate;
use ec2_isolation::timing::pace::Pace;
use serde_json::json;

use crate::world::operator::view;
use crate::world::{ISOLATION, STACK, TABLE, TRANSIT, Trouble, VPC, World, groups};
use crate::{A, B, C, cutting, deliver, event, fleet, isolated, run, succeeds, with, with_everything};

const NEW_STACK: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/incident-2/11111111-2222";
const NEW_GROUP: &str = "sg-02e30000000000000";
const NEW_TABLE: &str = "incident-2-SecurityGroupTable-XYZ";
static ALL: BTreeSet<InstanceId> = BTreeSet::new();

type Program = Operator<World, World, World>;

fn operator(world: &World) -> Program {
    static RUN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let run = RUN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Operator {
        ports: Ports { ec2: world.clone(), records: world.clone(), stacks: world.clone() },
        site: Site {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            caller: "arn:aws:iam::123456789012:user/x".into(),
        },
        shell: Shell { region: "us-east-1".into(), profile: None },
        request_id: format!("operator-{run}"),
        clock: Clock::new(SystemTime::now()),
        asked_by: "arn:aws:iam::123456789012:user/x with ec2-isolation restore".into(),
        gate: Gate::new(Duration::from_secs(3600)),
        pace: Pace::default(),
    }
}

fn by_table() -> Address {
    Address::Table(TABLE.to_owned())
}

/// A and B, isolated with everything on by a stack that has rolled back since.
async fn kept() -> World {
    let world = fleet();
    succeeds(&world, cutting(with_everything(event("create")))).await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.state(A), Some(State::Kept));
    world
}

async fn try_restore(world: &World, only: &BTreeSet<InstanceId>) -> Result<RestoreReport, Refusal> {
    let program = operator(world);
    let incident = program.incident(&by_table()).await?;
    program.restore(&incident, only).await
}

async fn restore(world: &World) -> RestoreReport {
    try_restore(world, &ALL).await.expect("it can be read")
}

fn named(ids: &[&str]) -> BTreeSet<InstanceId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

/// Nothing of it is left: groups, protections, tags, records.
fn assert_as_at_the_start(world: &World, when: &str) {
    let start = fleet();
    assert_eq!(world.cards(), start.cards(), "{when}");
    assert!(world.data().records.values().all(|record| record.state == State::Restored), "{when}");
    let tagged = world.data().tags.iter().filter(|(id, tags)| !id.starts_with("snap-") && !tags.is_empty()).count();
    assert_eq!(tagged, 0, "{when}");
}

#[tokio::test(start_paused = true)]
async fn what_a_rollback_kept_is_restored_whatever_the_stack_is_doing() {
    for status in ["ROLLBACK_FAILED", "DELETE_FAILED", "UPDATE_COMPLETE"] {
        let world = kept().await;
        world.set_status(status);
        let report = restore(&world).await;
        assert_eq!((report.failed, report.done), (false, vec!["2 instances restored".to_owned()]), "{status}");
        assert_as_at_the_start(&world, status);
        let history = world.data().records[&A.parse().unwrap()].history.clone();
        assert!(
            history.last().unwrap().contains("restored (asked by arn:aws:iam::123456789012:user/x with"),
            "{history:?}"
        );
        // Again changes nothing.
        let before = world.count("ec2:ModifyNetworkInterfaceAttribute");
        assert_eq!(restore(&world).await.done, ["nothing to restore: no record is held"]);
        assert_eq!(world.count("ec2:ModifyNetworkInterfaceAttribute"), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_changes_nothing_and_names_every_interface_and_protection() {
    let world = kept().await;
    let (cards, calls) = (world.cards(), world.data().calls.len());
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let preview = program.preview(&incident, &ALL).await.unwrap();
    let text = preview.to_string();
    for part in [
        format!("{A}: restore eni-0a [{ISOLATION}] -> [sg-0a]"),
        format!("{B}: restore eni-0b [{ISOLATION}] -> [sg-0b, sg-0c]"),
        "termination protection off".to_owned(),
        "instance-profile/web".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    assert!(!preview.is_blocked);
    let data = world.data();
    let writes: Vec<_> = data.calls[calls..].iter().filter(|(action, _)| !reads(action)).collect();
    assert_eq!((writes, &data.intents.len()), (vec![], &1));
    drop(data);
    assert_eq!(world.cards(), cards);
}

#[tokio::test(start_paused = true)]
async fn a_plan_names_each_protection_of_an_instance_whose_interface_is_gone_once() {
    let world = kept().await;
    {
        let mut data = world.data();
        data.instances.get_mut(&A.parse().unwrap()).unwrap().interfaces.clear();
        data.calm();
    }
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let preview = program.preview(&incident, &named(&[A])).await.unwrap();
    let mut expected = [
        format!("{A}: restore: delete {} on termination", A.replace("i-", "vol-")),
        format!("{A}: restore: profile arn:aws:iam::123456789012:instance-profile/web"),
        format!("{A}: restore: shutdown behaviour terminate"),
        format!("{A}: restore: stop protection off"),
        format!("{A}: restore: termination protection off"),
    ];
    expected.sort();
    let text = preview.to_string();
    let mut steps: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with(A)).collect();
    steps.sort_unstable();
    assert_eq!(steps, expected);
}

fn reads(action: &str) -> bool {
    ["Describe", "Scan", "List", "Get"].iter().any(|read| action.split(':').nth(1).unwrap().starts_with(read))
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_fails_or_dies_at_any_call_is_finished_by_the_next_one() {
    for trouble in [
        Trouble::Fails(Fault::Denied),
        Trouble::Fails(Fault::Throttled),
        Trouble::Fails(Fault::Refused),
        Trouble::Dies,
        Trouble::DiesAfter,
    ] {
        for n in 1.. {
            let when = format!("{trouble:?} at call {n}");
            let world = kept().await;
            let already = world.data().calls.len();
            world.data().troubles.insert(already + n, trouble);
            let process = world.process();
            tokio::select! {
                biased;
                () = process.death() => tokio::time::sleep(Duration::from_secs(3)).await,
                result = try_restore(&process, &ALL) => {
                    // Success is claimed for what is so only.
                    if result.is_ok_and(|report| !report.failed) {
                        assert_as_at_the_start(&world, &when);
                    }
                }
            }
            let struck = world.data().troubles.is_empty();
            world.data().troubles.clear();
            let report = restore(&world).await;
            assert!(!report.failed, "{when}: {:?} {:?}", report.done, report.details);
            assert_as_at_the_start(&world, &when);
            if !struck {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_create_converges_on_a_restore_that_was_asked_for_later() {
    for delay in 0..25 {
        let world = fleet();
        let late = async {
            tokio::time::sleep(Duration::from_millis(1000 * delay + 500)).await;
            restore(&world).await
        };
        tokio::join!(run(&world, event("create")), late);
        // Where there was no record yet, there was nothing to ask about: the operator looks again.
        if world.data().records.values().any(|record| record.state != State::Restored) {
            assert!(delay < 3, "after {delay} s");
            assert!(!restore(&world).await.failed, "after {delay} s");
        }
        assert_eq!(world.cards(), fleet().cards(), "after {delay} s");
    }
}

#[tokio::test(start_paused = true)]
async fn one_instance_is_restored_and_the_others_stay_isolated_also_for_the_function() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let report = try_restore(&world, &named(&[A])).await.unwrap();
    assert_eq!((report.failed, report.done), (false, vec!["1 instance restored".to_owned()]));
    assert_eq!(isolated(&world), ["eni-0b"]);
    assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Isolated)));
    let wanted = world.data().intents.values().next().unwrap().0.desired.clone();
    let Desired::Isolated(wants) = wanted else { panic!("the others are still wanted isolated") };
    assert_eq!(wants.instances, [B.parse::<InstanceId>().unwrap()]);
    assert!(try_restore(&world, &named(&[B])).await.is_ok());
    assert_as_at_the_start(&world, "the last one");
    succeeds(&world, event("delete")).await;
    assert_as_at_the_start(&world, "deleted");
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_a_record_is_refused_by_name() {
    let world = kept().await;
    let refused = try_restore(&world, &named(&[A, C])).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("nothing was changed: table {TABLE} holds no record of {C}"));
}

#[tokio::test(start_paused = true)]
async fn an_interface_left_in_the_transit_group_is_named_first_with_the_command_that_isolates_it() {
    let world = kept().await;
    world.data().put_back(&"eni-0a".parse().unwrap(), groups(&[TRANSIT]));
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let status = Status::of(&incident, &program.site, &program.shell);
    assert!(status.next[0].what.contains("WHICH IS OPEN TO EVERYBODY"), "{:?}", status.next);
    assert_eq!(
        status.next[0].commands,
        [format!(
            "aws ec2 modify-network-interface-attribute --network-interface-id eni-0a --groups {ISOLATION} --region us-east-1"
        )]
    );
    assert_eq!(status.instances[0].interfaces[0].condition, "in transit");
}

#[tokio::test(start_paused = true)]
async fn records_of_another_region_are_refused_before_anything_is_changed() {
    let world = kept().await;
    let mut program = operator(&world);
    program.site.region = "eu-west-1".to_owned();
    let calls = world.data().calls.len();
    let refused = program.incident(&by_table()).await.unwrap_err();
    assert!(refused.to_string().contains("is in account 123456789012, region us-east-1, but you are"), "{refused}");
    assert!(world.data().calls[calls..].iter().all(|(action, _)| reads(action)));
}

/// The new stack: deployed, with a group and a table of its own.
fn deploy_heir(world: &World) {
    let mut data = world.data();
    let heir = Group {
        id: NEW_GROUP.parse().unwrap(),
        vpc: Some(VPC.parse().unwrap()),
        role: Some(Role::Isolation),
        stack_id: Some(NEW_STACK.to_owned()),
        ingress: vec![],
        egress: vec![],
    };
    data.groups.insert(heir.id.clone(), heir);
    data.tables.insert(NEW_TABLE.to_owned(), Default::default());
    let resources = [("SecurityGroupTable", NEW_TABLE), ("IsolatedSecurityGroup", NEW_GROUP)];
    data.views.push(view(NEW_STACK, "CREATE_FAILED", &resources));
}

async fn try_adopt(world: &World) -> Result<(bool, Vec<String>, Vec<String>), Refusal> {
    let program = operator(world);
    let handover = program.handover(&by_table(), "incident-2", &ALL).await?;
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
    for trouble in [Trouble::Fails(Fault::Denied), Trouble::Fails(Fault::Server), Trouble::Dies, Trouble::DiesAfter] {
        for n in 1.. {
            let when = format!("{trouble:?} at call {n}");
            let world = kept().await;
            deploy_heir(&world);
            let already = world.data().calls.len();
            world.data().troubles.insert(already + n, trouble);
            let process = world.process();
            tokio::select! {
                biased;
                () = process.death() => tokio::time::sleep(Duration::from_secs(3)).await,
                _ = try_adopt(&process) => {}
            }
            let struck = world.data().troubles.is_empty();
            world.data().troubles.clear();
            let (failed, _, details) = try_adopt(&world).await.expect("it can be read");
            assert!(!failed, "{when}: {details:?}");
            assert_never_released(&world, already, &when);
            assert_eq!(new_cards(&world).into_keys().collect::<Vec<_>>(), ["eni-0a", "eni-0b"], "{when}");
            assert_eq!(world.data().records.len(), 0, "{when}");
            // The new stack finds what is its own, takes no second set of snapshots, and restores the true originals.
            let snapshots = world.count("ec2:CreateSnapshots");
            let heir = world.named_table(NEW_TABLE);
            world.data().stacks.insert(NEW_STACK.to_owned(), status("UPDATE_IN_PROGRESS"));
            let writes = world.count("ec2:ModifyNetworkInterfaceAttribute");
            let answer = deliver(&heir, of_heir(with_everything(event("create")))).await;
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

fn status(status: &str) -> ec2_isolation::plan::StackStatus {
    ec2_isolation::plan::StackStatus { status: status.to_owned(), reason: String::new(), parent: None }
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
async fn a_stack_is_ended_by_as_many_calls_as_that_takes() {
    let world = kept().await;
    let mut stuck = view(STACK, "DELETE_FAILED", &[]);
    stuck.resources.retain(|resource| resource.kind == "Custom::Ec2Isolation");
    stuck.resources[0].status = "DELETE_FAILED".to_owned();
    world.data().views.push(stuck);
    assert!(!restore(&world).await.failed);
    let program = operator(&world);
    let ended = program.finish(&program.incident(&by_table()).await.unwrap()).await.unwrap();
    assert!(ended.is_gone, "{ended:?}");
    assert!(ended.log[0].contains("--retain-resources Isolation"), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn the_table_of_a_stack_that_is_gone_is_found_by_its_name_and_several_are_listed() {
    let world = kept().await;
    let program = operator(&world);
    for address in ["incident", "arn:aws:cloudformation:us-east-1:123456789012:stack/incident/1"] {
        let incident = program.incident(&Address::Stack(address.to_owned())).await.unwrap();
        assert_eq!((incident.table.as_str(), incident.held().count()), (TABLE, 2), "{address}");
    }
    world.data().tables.insert("incident-SecurityGroupTable-9Z".to_owned(), Default::default());
    let refused = program.incident(&Address::Stack("incident".to_owned())).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "nothing was changed: several stacks of this name have left their records, say which with --table: \
             incident-SecurityGroupTable-9Z, {TABLE}"
        )
    );
}
