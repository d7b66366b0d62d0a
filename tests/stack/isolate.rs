//! `ec2-isolation isolate` and what `status` makes of it, on deployed stacks: the real program, CloudFormation and function.

use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::fleet::{interface_at, set_groups};
use crate::operator::{operator, run, start, status_ends_with as status};
use crate::{Scene, cloud};

/// A hook refuses the group that is open to everybody: nothing of the stack would be isolated (DESIGN 5.3).
#[tokio::test]
async fn where_a_guardrail_refuses_the_transit_group_the_instance_is_isolated_without_it() {
    let scene = Scene::prepared("cli-guard").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    cloud().set("open-groups", &json!({"refused": true})).await;
    let isolated = operator(&["isolate", &a, "--stack", "cli-guard", "--yes"]).ends_with(0);
    let isolated = isolated.says_in_lines(
        "! TransitSecurityGroup was refused: The following hook(s) failed: [Guardrail::Network::NoOpenGroups]. So stack cli-guard was \
         changed to CutEstablishedConnections=false: established connections are not cut.",
    );
    isolated.says("ISOLATED, as EC2 shows it: 1 of 1 instance (1 interface).");
    scene.assert_isolated(&[&a]).await;
    operator(&["restore", "--stack", "cli-guard", "--finish", "--yes"]).ends_with(0).says("stack cli-guard is deleted");
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// The output is pasted as it stands: `isolate` protects what it makes from deletion.
#[tokio::test]
async fn how_to_restore_can_be_pasted_for_a_stack_that_isolate_made() {
    let scene = Scene::prepared("cli-paste").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    operator(&["isolate", &a, "--stack", "cli-paste", "--yes"]).ends_with(0);
    let id = scene.incident.stack_id().await;
    let command = scene.incident.outputs().await["HowToRestore"].clone();
    run(&command).ends_with(0);
    assert_eq!(scene.incident.ends_in(&id, &[]).await, "DELETE_COMPLETE");
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// What is not isolated: instance, interface, reason.
fn open(status: &Value) -> Vec<(String, String, String)> {
    let open = status["not_isolated"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    open.map(|open| (text(&open["instance"]), text(&open["interface"]), text(&open["reason"]))).collect()
}

fn commands(status: &Value) -> Vec<String> {
    let steps = status["next"].as_array().unwrap().iter();
    steps
        .flat_map(|step| step["commands"].as_array().unwrap())
        .map(|command| command.as_str().unwrap().to_owned())
        .collect()
}

/// The walk of issue 13: isolate, somebody moves one back, status says so, isolate again, restore.
#[tokio::test]
async fn a_newcomer_isolates_sees_what_slipped_back_isolates_again_and_restores() {
    let scene = Scene::prepared("cli-walk").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await;
    let b = scene.site.plain(&scene.ec2, &[3]).await;
    let before = scene.cards(&[&a, &b]).await;
    let both = format!("{a},{b}");

    operator(&["isolate", &both]).ends_with(3).says("there is no terminal to ask at; give --yes").says("to be made");
    let rehearsed = operator(&["isolate", &both, "--dry-run", "--stack", "cli-walk"]).ends_with(0);
    let rehearsed = rehearsed.says_in_lines("dry run, nothing was changed: 0 of 2 instances isolated now");
    rehearsed.says(&format!("{b}: isolate "));
    assert_eq!(scene.cards(&[&a, &b]).await, before);

    let isolated = operator(&["isolate", &both, "--stack", "cli-walk", "--yes"]).ends_with(0);
    let isolated =
        isolated.says("cli-walk: contained ").says("ISOLATED, as EC2 shows it: 2 of 2 instances (3 interfaces).");
    isolated.says("3 of 3 interfaces isolated, cli-walk CREATE_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    let shown = status("cli-walk", 0);
    assert_eq!((open(&shown), &shown["summary"]["isolated"]), (vec![], &json!(2)));
    let history = shown["instances"][0]["history"][0].as_str().unwrap();
    assert!(history.contains("user/administrator with ec2-isolation isolate"), "{history}");
    let stacks = cloud().cloudformation().await.describe_stacks().stack_name("cli-walk").send().await.unwrap();
    assert_eq!(stacks.stacks()[0].enable_termination_protection(), Some(true));
    assert!(stacks.stacks()[0].role_arn().unwrap_or_default().contains(":role/"), "the responder's role for incidents");

    // Somebody gives one interface its groups back.
    let interface = interface_at(&scene.ec2, &a, 1).await;
    set_groups(&scene.ec2, &interface, &[scene.site.groups[2].as_str()]).await;
    let shown = status("cli-walk", 4);
    let back = format!("back in [{}], where it was before its isolation", scene.site.groups[2]);
    assert_eq!(open(&shown), [(a.clone(), interface.clone(), back)]);
    operator(&["status", "--stack", "cli-walk", "--short"]).ends_with(4).says("NOT ISOLATED: 1 of 2 instances.");
    operator(&["list"]).ends_with(4).says("cli-walk");
    let again = commands(&shown);
    assert_eq!(again[0], format!("ec2-isolation isolate --stack cli-walk {a} --region us-east-1"));

    let repaired = run(&format!("{} --yes", again[0])).ends_with(0);
    repaired.says(&format!("It lists these already, and isolates them again if they are open:\n  {b}"));
    assert_eq!(open(&status("cli-walk", 0)), []);

    let restored = operator(&["restore", "--stack", "cli-walk", "--finish", "--yes"]).ends_with(0);
    let restored = restored.says("2 instances restored").says("stack cli-walk is deleted");
    restored.says("update-termination-protection --no-enable-termination-protection --stack-name cli-walk");
    assert_eq!(scene.cards(&[&a, &b]).await, before);
    operator(&["status", "--stack", "cli-walk"]).ends_with(0).says("Nothing is held isolated.");
}

/// Two responders name different instances of one VPC, at the same moment.
#[tokio::test]
async fn whoever_comes_second_adds_to_the_list() {
    let scene = Scene::prepared("cli-two").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let c = scene.site.plain(&scene.ec2, &[2]).await;
    let before = scene.cards(&[&a, &b, &c]).await;
    let stack = format!("incident-{}", scene.site.vpc);
    let both: [Child; 2] = [&a, &b].map(|id| start(&["isolate", id, "--yes"]));
    for child in both {
        let ended = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
        // The first one may take its last look while the second one's instance is on its way.
        let is_beside = ended.status.code() == Some(4) && text.contains("IN PROGRESS");
        assert!(ended.status.success() || is_beside, "{text}");
    }
    let shown = status(&stack, 0);
    assert_eq!((&shown["summary"]["listed"], &shown["summary"]["isolated"]), (&json!(2), &json!(2)));
    // By its address, and by its ARN.
    let instances = scene.ec2.describe_instances().instance_ids(&c).send().await.unwrap();
    let address = instances.reservations()[0].instances()[0].private_ip_address().unwrap().to_owned();
    operator(&["isolate", &address, "--yes"]).ends_with(0).says("ISOLATED, as EC2 shows it: 3 of 3 instances");
    let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/{c}");
    operator(&["isolate", &arn, "--dry-run"])
        .ends_with(0)
        .says_in_lines("3 of 3 instances isolated now; 0 steps would be taken");
    operator(&["restore", "--stack", &stack, "--finish", "--yes"]).ends_with(0);
    assert_eq!(scene.cards(&[&a, &b, &c]).await, before);
}

#[tokio::test]
async fn what_ec2_refuses_is_said_first_and_in_full_and_the_printed_command_goes_on() {
    let (scene, a) = Scene::half_refused("cli-refused").await;
    let list: Vec<&str> = scene.incident.parameters()["CompromisedInstanceList"].split(',').collect();
    let b = list[1].to_owned();
    let ran = operator(&["isolate", &a, &b, "--stack", "cli-refused", "--yes"]).ends_with(4);
    let ran = ran.says("NOT ISOLATED: 1 of 2 instances. Isolated: 1 (1 interface).").says("OperationNotPermitted");
    // The Reason in full: what CloudFormation shows at the end of it, too.
    let unwrapped = ran.out().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains("next: remove the cause, then deploy again"), "{unwrapped}");
    scene.assert_isolated(&[&a]).await;
    let shown = status("cli-refused", 4);
    assert_eq!(open(&shown)[0].0, b);
    crate::prepared::refuse_no_more().await;
    run(&format!("{} --yes", commands(&shown)[0])).ends_with(0).says("ISOLATED, as EC2 shows it: 2 of 2 instances");
    operator(&["restore", "--stack", "cli-refused", "--finish", "--yes"]).ends_with(0);
}

/// The one-shot stack is an incident as well: it keeps its own template.
#[tokio::test]
async fn a_one_shot_stack_takes_further_instances() {
    let mut scene = Scene::new("cli-one-shot").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]).deploy();
    operator(&["isolate", &b, "--stack", "cli-one-shot", "--yes"])
        .ends_with(0)
        .says("ISOLATED, as EC2 shows it: 2 of 2 instances (2 interfaces).");
    scene.assert_isolated(&[&a, &b]).await;
    // Whoever made it: what isolate has changed is protected from deletion.
    let stacks = cloud().cloudformation().await.describe_stacks().stack_name("cli-one-shot").send().await.unwrap();
    assert_eq!(stacks.stacks()[0].enable_termination_protection(), Some(true));
    scene.incident.unprotect().await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

#[tokio::test]
async fn ctrl_c_ends_the_watching_and_not_the_isolation() {
    let scene = Scene::prepared("cli-ctrl-c").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    let child = start(&["isolate", &a, "--stack", "cli-ctrl-c", "--yes"]);
    let cloudformation = cloud().cloudformation().await;
    while cloudformation.describe_stacks().stack_name("cli-ctrl-c").send().await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("The watching has ended. What CloudFormation has begun goes on."), "{said}");
    let next = said.lines().last().unwrap().trim();
    assert_eq!(next, "ec2-isolation status --stack cli-ctrl-c --region us-east-1");
    assert_eq!(scene.incident.ends_in("cli-ctrl-c", &["CREATE_IN_PROGRESS"]).await, "CREATE_COMPLETE");
    scene.assert_isolated(&[&a]).await;
    run(next).ends_with(0).says("ISOLATED, as EC2 shows it: 1 of 1 instance (1 interface).");
    operator(&["restore", "--stack", "cli-ctrl-c", "--finish", "--yes"]).ends_with(0);
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// What was restored is not counted as held, and the same command goes on.
#[tokio::test]
async fn ctrl_c_in_a_restore_leaves_true_counts() {
    let scene = Scene::prepared("cli-restore-ctrl-c").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    operator(&["isolate", &a, &b, "--stack", "cli-restore-ctrl-c", "--yes"]).ends_with(0);
    let busy = scene.cards(&[&b]).await.into_keys().next().unwrap();
    let throttle =
        json!({"action": "ModifyNetworkInterfaceAttribute", "id": busy, "error_code": "RequestLimitExceeded"});
    cloud().set("refuse", &throttle).await;
    let child = start(&["restore", "--stack", "cli-restore-ctrl-c", "--yes"]);
    while scene.cards(&[&a]).await.iter().any(|(id, groups)| before[id] != *groups) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = child.wait_with_output().unwrap();
    let [out, err] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(ended.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("What it has restored stays restored."), "{err}");
    // The first one has its groups. Its record may say so, or not yet.
    let (interfaces, instances, are) = match out.contains("  RESTORED (running)") {
        true => ("1 of 1 interface", "1 instance", "is"),
        false => ("1 of 2 interfaces", "2 instances", "are"),
    };
    let begin = format!("BEING RESTORED: {interfaces} still isolated.\n{instances}: being restored");
    assert!(out.starts_with(&begin), "{out}");
    let next = format!("NEXT  {instances} {are} being restored. A restore was asked for and has not ended.");
    assert!(out.contains(&next), "{out}");
    assert!(!out.contains("connections were not cut"), "{out}");
    crate::prepared::refuse_no_more().await;
    operator(&["restore", "--stack", "cli-restore-ctrl-c", "--finish", "--yes"]).ends_with(0);
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// The host comes later, and goes by itself: the incident is not touched.
#[tokio::test]
async fn a_forensic_host_is_made_and_deleted_beside_the_incident() {
    let scene = Scene::new("cli-host").await;
    crate::prepared::responder().await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    let subnet = scene.incident.parameters()["ForensicSubnetId"].clone();
    let key = scene.incident.parameters()["Ec2KeyName"].clone();
    operator(&["isolate", &a, "--stack", "cli-host", "--yes"]).ends_with(0);
    let make = ["host", "--stack", "cli-host", "--subnet", &subnet, "--key", &key, "--office", "203.0.113.7"];
    operator(&make[..5]).ends_with(2);
    operator(&make).ends_with(3).says("give --yes");
    let made = operator(&[make.as_slice(), &["--ports", "22,3389", "--yes"]].concat()).ends_with(0);
    made.says("cli-host-host: CREATE_COMPLETE").says("ForensicHostSsh:\n  ssh -i");
    operator(&[make.as_slice(), &["--yes"]].concat()).ends_with(3).says("stack cli-host-host is there already");
    // Its group may enter, and the incident is isolated all the same.
    assert_eq!(open(&status("cli-host", 0)), []);
    operator(&["host", "--stack", "cli-host", "--delete", "--yes"]).ends_with(0).says("cli-host-host: deleted");
    operator(&["host", "--stack", "cli-host", "--delete", "--yes"])
        .ends_with(3)
        .says("there is no stack cli-host-host");
    assert_eq!(open(&status("cli-host", 0)), []);
    operator(&["restore", "--stack", "cli-host", "--finish", "--yes"]).ends_with(0);
    assert_eq!(scene.cards(&[&a]).await, before);
}
