//! What `status` says is what EC2 shows, whatever the records say: one situation of trials.md section 11 after the other.

use ec2_isolation::model::{Fault, Peer, Rule, ScheduledEvent, Time};
use ec2_isolation::operator::stack::RECORDS_EXPORT;
use ec2_isolation::operator::{Address, Condition, Status};

use super::{by_table, operator};
use crate::isolate::tags::{OTHER_STACK, other_incident};
use crate::world::operator::{host_view, view};
use crate::world::{ISOLATION, STACK, TABLE, TRANSIT, VPC, World, groups};
use crate::{A, B, event, fleet, listing, succeeds};

/// A and B, isolated by a stack that works.
pub async fn isolated() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().views.push(stack("CREATE_COMPLETE"));
    world
}

fn stack(status: &str) -> ec2_isolation::operator::stack::StackView {
    let mut stack = view(STACK, status, &[("SecurityGroupTable", TABLE)]);
    stack.parameters.insert("CompromisedInstanceList".to_owned(), format!("{A},{B}"));
    stack
}

pub async fn status(world: &World) -> Status {
    let program = operator(world);
    program.status(&program.incident(&Address::Stack(STACK.to_owned())).await.unwrap()).await
}

/// What is not isolated, and why, a line each.
fn open(status: &Status) -> Vec<String> {
    let line = |open: &ec2_isolation::operator::NotIsolated| {
        format!("{} {}: {}", open.instance, open.interface.as_deref().unwrap_or("-"), open.reason)
    };
    status.not_isolated.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_isolated_is_said_to_be_and_nothing_is_open() {
    let world = isolated().await;
    let status = status(&world).await;
    assert_eq!((open(&status), status.is_anything_open()), (vec![], false));
    assert_eq!((status.summary.listed, status.summary.isolated, status.summary.isolated_interfaces), (2, 2, 2));
    assert!(
        status.to_string().starts_with("ISOLATED, as EC2 shows it: 2 of 2 instances (2 interfaces).\n"),
        "{status}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_was_moved_back_is_named_first() {
    let world = isolated().await;
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    let status = status(&world).await;
    assert_eq!(open(&status), [format!("{B} eni-0b: moved out of the isolation, to [sg-0d]")]);
    assert!(status.is_anything_open());
    assert_eq!(status.instances[1].condition, Some(Condition::NotIsolated));
    let first = status.to_string();
    assert!(first.starts_with("NOT ISOLATED: 1 of 2 instances. Isolated: 1 (1 interface).\n"), "{first}");
    assert_eq!(
        status.next[0].commands,
        [format!("ec2-isolation isolate --stack incident-2026-11-25 {B} --region us-east-1")],
        "{:?}",
        status.next
    );
}

#[tokio::test(start_paused = true)]
async fn what_aws_has_scheduled_is_named_and_so_is_that_it_is_not_known() {
    let world = isolated().await;
    let not_before = Some("2026-12-01T04:00:00Z".parse().unwrap());
    let event = ScheduledEvent { code: "instance-retirement".to_owned(), not_before };
    world.data().events.insert(B.parse().unwrap(), vec![event]);
    let warnings = |status: &Status| status.instances.iter().map(|one| one.warnings.clone()).collect::<Vec<_>>();
    let said = format!(
        "AWS has scheduled instance-retirement of {B} from 2026-12-01T04:00:00Z on: its memory is lost then, and no protection stops that. \
         Capture it before: ec2-isolation memory {B}"
    );
    let found = status(&world).await;
    assert_eq!((warnings(&found), found.is_anything_open()), (vec![vec![], vec![said]], false));
    world.data().always = Some(("ec2:DescribeInstanceStatus", Fault::Denied));
    let found = status(&world).await;
    let said =
        "whether AWS has scheduled a stop, a reboot or a retirement is not known: ec2:DescribeInstanceStatus failed";
    assert!(warnings(&found)[0][0].starts_with(said) && warnings(&found)[1].is_empty(), "{:?}", warnings(&found));
    assert!(!found.is_anything_open());
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_between_two_looks_is_said() {
    let world = isolated().await;
    let first = status(&world).await;
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    let second = status(&world).await;
    let moved = format!("open: {B} eni-0b: moved out of the isolation, to [sg-0d]");
    assert_eq!(second.changes_since(&first), [moved]);
    assert_eq!(second.changes_since(&second), [""; 0]);
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&[ISOLATION]));
    assert_eq!(status(&world).await.changes_since(&second), [format!("no longer open: {B} eni-0b")]);
}

#[tokio::test(start_paused = true)]
async fn an_interface_with_the_groups_that_it_had_before_is_open() {
    let world = isolated().await;
    let before = fleet().cards();
    world.data().put_back(&"eni-0a".parse().unwrap(), before["eni-0a"].clone());
    let status = status(&world).await;
    let reason = open(&status).pop().unwrap();
    assert!(reason.starts_with(&format!("{A} eni-0a: back in [")), "{reason}");
    assert!(reason.ends_with("where it was before its isolation"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_group_beside_the_isolation_group_opens_an_interface() {
    let world = isolated().await;
    world.data().put_back(&"eni-0a".parse().unwrap(), groups(&[ISOLATION, "sg-0d"]));
    let status = status(&world).await;
    assert_eq!(open(&status), [format!("{A} eni-0a: has [sg-0d] beside the isolation group")]);
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_was_attached_since_is_shown_and_open() {
    let world = isolated().await;
    world.attach(B, "eni-0f", &["sg-0b"]);
    let status = status(&world).await;
    assert_eq!(open(&status), [format!("{B} eni-0f: attached since the instance was isolated, in [sg-0b]")]);
    let shown = &status.instances[1].interfaces;
    let attached = shown.iter().find(|interface| interface.id == "eni-0f").unwrap();
    assert_eq!((attached.condition, attached.now.as_slice()), ("attached since", ["sg-0b".to_owned()].as_slice()));
}

#[tokio::test(start_paused = true)]
async fn an_interface_of_another_incident_hides_nothing_and_is_named() {
    let world = isolated().await;
    let other = other_incident(&world);
    world.attach(B, "eni-0f", &[other]);
    let text = format!(
        "{B}: eni-0f is already isolated by {OTHER_STACK}, and was left to that stack: allow that with AllowPartialIsolation"
    );
    let shown = status(&world).await;
    assert_eq!((open(&shown), shown.is_anything_open()), (vec![], false));
    assert_eq!(shown.instances[1].condition, Some(Condition::Isolated));
    assert_eq!(shown.instances[1].warnings, std::slice::from_ref(&text));
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    let shown = status(&world).await;
    assert_eq!(open(&shown), [format!("{B} eni-0b: moved out of the isolation, to [sg-0d]")]);
    assert!(shown.is_anything_open());
    assert_eq!(shown.instances[1].condition, Some(Condition::NotIsolated));
    assert_eq!(shown.instances[1].warnings, [text]);
    // Everything of it is another incident's.
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&[other]));
    let shown = status(&world).await;
    assert_eq!((open(&shown), shown.summary.isolated_elsewhere), (vec![], 1));
}

/// A responder's table has the records of every stack.
#[tokio::test(start_paused = true)]
async fn what_another_stack_has_recorded_and_does_not_isolate_is_open() {
    let world = isolated().await;
    {
        let mut data = world.data();
        data.exports.insert(RECORDS_EXPORT.to_owned(), TABLE.to_owned());
        for view in &mut data.views {
            view.resources.retain(|resource| resource.logical_id != "SecurityGroupTable");
            view.resources.extend(self::view(STACK, "", &[("IsolatedSecurityGroup", ISOLATION)]).resources);
            view.function_outlives = true;
        }
        let record = data.records.get_mut(&B.parse().unwrap()).unwrap();
        record.owner.stack_id = OTHER_STACK.to_owned();
        data.put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    }
    let shown = status(&world).await;
    let why = format!("{B} -: {B} is held by {OTHER_STACK}, but EC2 shows eni-0b outside of its isolation: ");
    assert!(open(&shown).iter().any(|line| line.starts_with(&why)), "{:?}", open(&shown));
    assert_eq!((shown.is_anything_open(), shown.summary.isolated_elsewhere), (true, 0));
    assert_eq!(shown.instances[1].condition, Some(Condition::NotIsolated));
}

/// What cannot be isolated here has its reason from there, and the printed command names only what the stack isolates.
#[tokio::test(start_paused = true)]
async fn what_is_in_another_vpc_is_named_with_that_and_the_command_names_the_rest() {
    let world = fleet();
    world.add("i-0c", "vpc-2", &[("eni-0e1", &["sg-0b"])]);
    world.add("i-0f", "vpc-0f", &[("eni-0f1", &["sg-0f1"])]);
    world.attach_in("i-0f", VPC, "eni-0f2", &["sg-0a"]);
    crate::fails(&world, listing(&[A, "i-0c", "i-0dead", "i-0f"], event("create"))).await;
    let mut stack = stack("UPDATE_COMPLETE");
    stack.parameters.insert("CompromisedInstanceList".to_owned(), format!("{A},i-0c,i-0f"));
    stack.parameters.insert("VpcId".to_owned(), VPC.to_owned());
    world.data().views.push(stack);
    let shown = status(&world).await;
    let elsewhere = format!(
        "i-0f eni-0f1: i-0f: eni-0f1 is in vpc-0f, not in {VPC}: give it a group of vpc-0f that allows nothing: aws ec2 \
         modify-network-interface-attribute --network-interface-id eni-0f1 --groups <group ids>"
    );
    let not_here = [
        format!("i-0c -: i-0c is in vpc-2, not in {VPC}: isolate it with a stack of its own, with VpcId vpc-2"),
        "i-0dead -: i-0dead does not exist in this account and region: check the id, or take it off CompromisedInstanceList".to_owned(),
        elsewhere,
    ];
    assert_eq!(open(&shown), not_here);
    // The stack can isolate none of these.
    assert_eq!(shown.next[0].commands, [""; 0]);
    assert_eq!(shown.next[0].what, "Not everything that is listed is isolated. Put right what stands above.");
    world.data().put_back(&"eni-0f2".parse().unwrap(), groups(&["sg-0a"]));
    let shown = status(&world).await;
    assert_eq!(open(&shown).len(), 4, "{:?}", open(&shown));
    assert_eq!(
        shown.next[0].commands,
        ["ec2-isolation isolate --stack incident-2026-11-25 i-0f --region us-east-1".to_owned()]
    );
    // Nor does a person isolate what is elsewhere in this stack's group.
    world.data().views[0].status.status = "ROLLBACK_FAILED".to_owned();
    let by_hand = format!(
        "aws ec2 modify-network-interface-attribute --network-interface-id eni-0f2 --groups {ISOLATION} --region us-east-1"
    );
    assert_eq!(
        status(&world).await.next[0].commands,
        [by_hand, "ec2-isolation isolate i-0c --region us-east-1".to_owned()]
    );
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_named_once_with_its_own_reason() {
    let world = isolated().await;
    {
        let mut data = world.data();
        data.instances.get_mut(&A.parse().unwrap()).unwrap().interfaces[0].is_trunk = true;
        let (id, trunk) = ("eni-0b1".parse().unwrap(), "eni-0a".parse().unwrap());
        data.branches.push(ec2_isolation::model::Branch { id, trunk, groups: groups(&["sg-0d"]) });
    }
    let shown = status(&world).await;
    let reason = format!("{A} eni-0b1: {A}: eni-0b1, a branch of its trunk eni-0a, is in [sg-0d]: ");
    let open = open(&shown);
    assert!(open.len() == 1 && open[0].starts_with(&reason), "{open:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_had_no_group_is_not_said_to_have_lost_some() {
    let world = fleet();
    world.attach(A, "eni-0f", &[]);
    succeeds(&world, event("create")).await;
    world.data().views.push(stack("CREATE_COMPLETE"));
    let next = status(&world).await.next;
    let what = format!(
        "{A}: eni-0f stays isolated, it had no security group when it was recorded. Choose some, then restore again:"
    );
    assert!(next.iter().any(|next| next.what == what), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn an_isolation_group_that_lets_the_world_in_isolates_nothing() {
    let world = isolated().await;
    let rule = Rule { protocol: "tcp".into(), ports: Some((22, 22)), peer: Peer::Cidr("0.0.0.0/0".into()) };
    world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().ingress.push(rule);
    let status = status(&world).await;
    let reason = format!(
        "isolation group {ISOLATION} allows in tcp 22 0.0.0.0/0: instances in it are not isolated; remove that rule"
    );
    assert_eq!(open(&status), [format!("{A} -: {reason}"), format!("{B} -: {reason}")]);
    // Once for both.
    let text = status.to_string();
    assert!(text.starts_with("NOT ISOLATED: 2 of 2 instances. Isolated: 0 (2 interfaces).\n"), "{text}");
    assert_eq!(text.matches("remove that").count(), 1, "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_the_function_refused_is_open() {
    let world = fleet();
    world.add("i-0c", "vpc-2", &[("eni-0e", &["sg-0b"])]);
    crate::fails(&world, listing(&[A, "i-0c", "i-0dead"], event("create"))).await;
    let mut stack = stack("CREATE_FAILED");
    stack.parameters.insert("CompromisedInstanceList".to_owned(), format!("{A},i-0c,i-0dead"));
    world.data().views.push(stack);
    let status = status(&world).await;
    assert_eq!(
        open(&status),
        [
            &format!("i-0c -: i-0c is in vpc-2, not in {VPC}: isolate it with a stack of its own, with VpcId vpc-2"),
            "i-0dead -: i-0dead does not exist in this account and region: check the id, or take it off CompromisedInstanceList",
        ]
    );
    assert_eq!(status.summary.isolated, 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_function_works_nothing_is_an_alarm() {
    let world = isolated().await;
    world.data().put_back(&"eni-0a".parse().unwrap(), groups(&[TRANSIT]));
    let now = humantime::parse_rfc3339("2026-11-25T03:00:12Z").unwrap();
    let began: Time = "2026-11-25T03:00:00Z".parse().unwrap();
    world.data().views[0].status.status = "UPDATE_IN_PROGRESS".to_owned();
    world.data().views[0].changed_at = Some(began);
    let mut program = operator(&world);
    program.clock = ec2_isolation::timing::clock::Clock::new(now);
    let status = program.status(&program.incident(&by_table()).await.unwrap()).await;
    let text = status.to_string();
    assert!(text.starts_with("IN PROGRESS for "), "{text}");
    assert!(text.contains(" s (UPDATE_IN_PROGRESS): 1 of 2 instances isolated so far (1\n  interface).\n"), "{text}");
    // It is open all the same, and said to be.
    assert!(status.is_anything_open());
    assert!(open(&status)[0].contains(&format!("in transit group {TRANSIT}")), "{:?}", status.not_isolated);
    let next = &status.next[0].what;
    assert!(next.contains("look again when that has ended") && !text.contains("Isolate them now"), "{text}");
    assert!(!text.contains("restores nothing by itself"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn before_the_function_is_called_its_instances_are_not_reached_yet() {
    let world = fleet();
    world.data().views.push(stack("CREATE_IN_PROGRESS"));
    let status = status(&world).await;
    assert_eq!(
        open(&status),
        [
            format!("{A} eni-0a: in [sg-0a]: the function has not come to it yet"),
            format!("{B} eni-0b: in [sg-0b, sg-0c]: the function has not come to it yet"),
        ]
    );
    assert!(status.to_string().starts_with("IN PROGRESS for 0 s (CREATE_IN_PROGRESS): 0 of 2"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_known() {
    let world = isolated().await;
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    world.data().always = Some(("ec2:DescribeInstances", Fault::Refused));
    let status = program.status(&incident).await;
    assert_eq!((status.summary.unknown, status.is_anything_open()), (2, true));
    assert!(status.to_string().starts_with("NOT KNOWN whether 2 of 2 instances are isolated.\n"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn what_was_restored_though_the_stack_lists_it_is_named() {
    let world = isolated().await;
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    program.restore(&incident, &super::named(&[A]), &|_| ()).await.unwrap();
    let status = status(&world).await;
    assert_eq!((status.listed_though_restored.clone(), open(&status)), (vec![A.to_owned()], vec![]));
    let text = status.to_string();
    assert!(text.contains(&format!("so its next update isolates it again:\n  {A}")), "{text}");
}

/// A recovered table has a new name; the function goes on reading the old one (GH/ustaxcourt/ef-cms/issues/415).
#[tokio::test(start_paused = true)]
async fn of_records_in_a_recovered_table_no_deletion_of_the_stack_is_advised() {
    let world = isolated().await;
    let records = std::mem::take(&mut world.data().records);
    world.data().tables.entry("recovered-2".to_owned()).or_default().records = records;
    let program = operator(&world);
    assert_eq!(program.address("recovered-2").await, Ok(Address::Table("recovered-2".to_owned())));
    assert_eq!(program.address("incident-2026-11-25").await, Ok(Address::Stack("incident-2026-11-25".to_owned())));
    let status = program.status(&program.incident(&Address::Table("recovered-2".to_owned())).await.unwrap()).await;
    let next = &status.next[0];
    assert!(next.what.contains("so deleting the stack restores nothing from it"), "{next:?}");
    assert_eq!(next.commands, ["ec2-isolation restore --table recovered-2 --region us-east-1"]);
}

/// Nothing is isolated, and nothing is said to be.
#[tokio::test(start_paused = true)]
async fn of_what_is_terminated_no_isolation_is_claimed() {
    let world = isolated().await;
    world.data().terminate(A);
    world.data().terminate(B);
    let status = status(&world).await;
    assert_eq!((status.summary.terminated, status.is_anything_open()), (2, false));
    assert!(
        status.to_string().starts_with("Nothing is isolated by this stack now.\n2 instances: terminated\n"),
        "{status}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_an_interface_is_named_with_that_reason() {
    let world = isolated().await;
    world.data().instances.get_mut(&A.parse().unwrap()).unwrap().interfaces.clear();
    world.data().calm();
    let status = status(&world).await;
    assert_eq!(open(&status), [format!("{A} -: {A} (running) has no network interface: wait until it has one")]);
}

/// What the stack takes no update for, a person isolates; a command that would be refused is not printed.
#[tokio::test(start_paused = true)]
async fn of_a_stack_that_takes_no_update_the_commands_of_ec2_are_printed() {
    let world = isolated().await;
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    for status in ["UPDATE_ROLLBACK_FAILED", "ROLLBACK_FAILED"] {
        world.data().views[0].status.status = status.to_owned();
        let shown = self::status(&world).await;
        assert_eq!(
            shown.next[0].commands,
            [format!(
                "aws ec2 modify-network-interface-attribute --network-interface-id eni-0b --groups {ISOLATION} --region us-east-1"
            )],
            "{status}"
        );
    }
    // Nothing by which a person could isolate it: no command, and no sentence that announces one.
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&[ISOLATION]));
    let rule = Rule { protocol: "tcp".into(), ports: Some((22, 22)), peer: Peer::Cidr("0.0.0.0/0".into()) };
    world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().ingress.push(rule);
    let next = self::status(&world).await.next;
    assert!(next[0].commands.is_empty() && next[0].what.ends_with("Put right what stands above."), "{next:?}");
}

/// Once there are snapshots, and a host to look into them on.
#[tokio::test(start_paused = true)]
async fn the_disks_are_a_next_step_until_volumes_were_made_of_their_snapshots() {
    let world = isolated().await;
    let examine =
        |status: &Status| status.next.iter().find(|next| next.what.starts_with("There are snapshots of")).cloned();
    assert_eq!(examine(&status(&world).await), None);
    world.data().views.push(host_view("incident-2026-11-25", "i-0f"));
    let next = examine(&status(&world).await).unwrap();
    assert_eq!(
        next.what,
        "There are snapshots of 2 volumes. This attaches volumes made of them to the forensic host i-0f:"
    );
    assert_eq!(next.commands, ["ec2-isolation evidence --stack incident-2026-11-25 --region us-east-1"]);
    for (id, volume) in [(A, "vol-0e1"), (B, "vol-0e2")] {
        let line = format!("2026-11-25T03:10:00Z evidence volumes made: {volume} of snap-10, for i-0f (asked by x)");
        world.data().records.get_mut(&id.parse().unwrap()).unwrap().history.push(line);
    }
    assert_eq!(examine(&status(&world).await), None);
}

/// In the order of volatility: before what a restore ends. Without a forensic host there is no way to it.
#[tokio::test(start_paused = true)]
async fn memory_is_the_next_step_until_it_is_captured() {
    let world = isolated().await;
    let says_memory =
        |status: &Status| status.next.iter().any(|next| next.what.starts_with("Memory is in no snapshot"));
    assert!(!says_memory(&status(&world).await));
    world.data().views.push(host_view("incident-2026-11-25", "i-0f"));
    let shown = status(&world).await;
    assert!(says_memory(&shown), "{:?}", shown.next);
    // What a rollback has deleted is listed all the same.
    let set = |status: &str| world.data().views[1].resources.last_mut().unwrap().status = status.to_owned();
    set("DELETE_COMPLETE");
    assert!(!says_memory(&self::status(&world).await));
    set("CREATE_COMPLETE");
    let command = |id: &str| format!("ec2-isolation memory {id} --stack incident-2026-11-25 --region us-east-1");
    assert_eq!(shown.next[0].commands, [command(A), command(B)]);
    let line =
        "2026-11-25T03:10:00Z memory captured: 5 bytes with SHA-256 00, in memory/a.lime (asked by x)".to_owned();
    world.data().records.get_mut(&A.parse().unwrap()).unwrap().history.push(line);
    world.data().instances.get_mut(&B.parse().unwrap()).unwrap().state = "stopped".to_owned();
    assert!(!says_memory(&status(&world).await));
}

/// A restored record hides an instance that is listed still. Not so where the stack was asked for it again, and its function never came.
#[tokio::test(start_paused = true)]
async fn an_instance_that_is_isolated_again_is_open_until_the_function_has_come_to_it() {
    let world = isolated().await;
    let report = super::restore(&world).await;
    assert!(!report.failed, "{report}");
    assert_eq!((status(&world).await.summary.listed, open(&status(&world).await)), (0, vec![]));
    let issued = world.data().intents.values().next().unwrap().0.issued.unwrap();
    for (state, is_open) in [("UPDATE_FAILED", true), ("UPDATE_IN_PROGRESS", true), ("UPDATE_COMPLETE", false)] {
        {
            let mut data = world.data();
            data.views[0].status.status = state.to_owned();
            data.views[0].changed_at = Some(Time(issued.0 + 60_000));
        }
        let shown = status(&world).await;
        assert_eq!(shown.summary.listed, if is_open { 2 } else { 0 }, "{state}");
        assert_eq!(shown.is_anything_open(), is_open, "{state}: {shown}");
    }
}

/// CloudFormation refuses every update of its stack, so its stack is no way on.
#[tokio::test(start_paused = true)]
async fn what_a_stack_lists_beside_an_instance_that_is_gone_goes_to_another_stack_or_is_isolated_by_hand() {
    let world = isolated().await;
    world.add("i-0c", VPC, &[("eni-0c", &["sg-0b"])]);
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    world.data().views[0].parameters.insert("CompromisedInstanceList".to_owned(), format!("{A},{B},i-0c,i-0dead"));
    let shown = status(&world).await;
    assert_eq!(
        shown.next[0].what,
        "Not everything that is held is isolated, and the stack cannot isolate it any more: CloudFormation refuses every update, since it \
         lists i-0dead, which EC2 no longer shows. Put right what stands above. These isolate what they name:"
    );
    assert_eq!(
        shown.next[0].commands,
        [
            format!(
                "aws ec2 modify-network-interface-attribute --network-interface-id eni-0b --groups {ISOLATION} --region us-east-1"
            ),
            "ec2-isolation isolate i-0c --region us-east-1".to_owned()
        ]
    );
}

/// Whoever may write tags may write a name that looks like a line of ours.
#[tokio::test(start_paused = true)]
async fn a_name_stays_in_one_piece_and_on_one_line() {
    let world = isolated().await;
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    let name = "x aws ec2 terminate-instances --instance-ids i-0c\nISOLATED, as EC2 shows it: \u{202e}2".to_owned();
    world.data().tags.insert(B.to_owned(), [("Name".to_owned(), name)].into());
    let shown = status(&world).await;
    let whole = "(x aws ec2 terminate-instances --instance-ids i-0c ISOLATED, as EC2 shows it: \\u{202e}2)";
    for text in [shown.to_string(), shown.short()] {
        assert!(text.replace('\u{a0}', " ").contains(whole), "{text}");
        assert!(
            !text.contains("\n  aws ec2 terminate") && !text.lines().any(|line| line.starts_with("ISOLATED")),
            "{text}"
        );
    }
}

/// What fails a stack as a whole names no resource.
#[tokio::test(start_paused = true)]
async fn the_reason_of_a_stack_that_failed_as_a_whole_is_shown() {
    let world = isolated().await;
    {
        let mut data = world.data();
        let stack = &mut data.views[0].status;
        stack.status = "UPDATE_FAILED".to_owned();
        stack.reason = "No export named ec2-isolation-v1-FunctionArn found".to_owned();
    }
    let short = status(&world).await.short();
    assert!(
        short.contains("failed   incident-2026-11-25: No export named ec2-isolation-v1-FunctionArn found"),
        "{short}"
    );
}
