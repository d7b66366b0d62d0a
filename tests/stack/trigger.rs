//! The trigger on a deployed responder: a finding becomes a message, and an incident if a person approves.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ec2_isolation::operator::SHAPES;
use serde_json::{Value, json};

use crate::beside::{RESPONDER, deploy_responder, template_url};
use crate::findings::{expire, find, finding, question, so_far, told};
use crate::fleet::{Site, aws};
use crate::operator::operator;
use crate::{Scene, cloud};

/// Of a finding about which nothing is done.
const QUIET: &str = "quiet";

/// The limit begins anew with each hour of the clock: nothing of a test may lie on both sides of that.
async fn within_the_hour() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() % 3600;
    if now > 3600 - 240 {
        tokio::time::sleep(Duration::from_secs(3601 - now)).await;
    }
}

/// What the state machine reads in each of events/findings, with these parameters.
fn read(parameters: &[&str]) -> BTreeMap<String, (String, usize)> {
    let mut python = Command::new("target/venv/cloud/bin/python");
    let output = python.arg("scripts/findings.py").args(parameters).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| {
            let read: Value = serde_json::from_str(line).expect("JSON");
            let text = |name: &str| read[name].as_str().expect("a text").to_owned();
            (text("file"), (text("verdict"), read["ids"].as_array().expect("a list").len()))
        })
        .collect()
}

#[test]
fn each_shape_of_a_finding_is_read_and_in_doubt_nothing_is_isolated() {
    let expected = SHAPES.iter().map(|shape| (shape.name.to_owned(), (shape.verdict.to_owned(), shape.instances)));
    assert_eq!(read(&[]), expected.collect());
}

/// Blanks between them do not count, and any of a finding's types does.
#[test]
fn types_that_are_given_decide_alone_which_findings_count() {
    let read = read(&["Types=Backdoor:EC2/, TTPs/ ,Exposure/,Software and Configuration Checks/Vulnerabilities"]);
    for (name, verdict) in [
        ("guardduty-instance", QUIET),
        ("security-hub-imported", "go"),
        ("security-hub-vulnerability", "go"),
        ("security-hub-v2-exposure", "go"),
        ("security-hub-control", QUIET),
        ("security-hub-custom-action", "go"),
        ("security-hub-v2-no-class", "tell"),
    ] {
        assert_eq!(read[name].0, verdict, "{name}");
    }
}

#[tokio::test]
async fn a_person_approves_or_rejects_what_a_finding_names_and_without_an_answer_it_stays() {
    let scene = Scene::new("trigger").await;
    let instances = [
        scene.site.plain(&scene.ec2, &[0]).await,
        scene.site.plain(&scene.ec2, &[0]).await,
        scene.site.plain(&scene.ec2, &[1]).await,
    ];
    let [approved, rejected, expired] = instances.each_ref().map(String::as_str);
    let before = scene.cards(&[rejected, expired]).await;
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Approve"]);

    let since = so_far(cloud()).await;
    for shape in SHAPES.iter().filter(|shape| shape.verdict == QUIET) {
        cloud().set("event", &finding(shape.name)).await;
    }
    find(cloud(), "f1", approved).await;
    let (subject, text) = told(cloud(), since).await;
    let id = question(&subject);
    assert!(text.contains(&format!("  {approved}")) && text.contains("Finding f1, severity 8"), "{text}");
    let items = cloud().dynamodb().await;
    let table = scene.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    let key = aws_sdk_dynamodb::types::AttributeValue::S(format!("trigger:{id}"));
    let item = items.get_item().table_name(&table).key("InstanceId", key).send().await.unwrap().item.unwrap();
    assert!(!text.contains(item["TaskToken"].as_s().unwrap()), "who reads the mail could answer");
    assert_eq!(so_far(cloud()).await, since + 1, "samples and what is archived or elsewhere do nothing");

    let answer = operator(&["approve", id, "--yes", "--output", "json"]).ends_with(0).json();
    assert!(answer["by"].as_str().unwrap().ends_with(":user/administrator"), "{answer}");
    let (subject, text) = told(cloud(), since + 1).await;
    assert_eq!(subject, "ec2-isolation: isolated", "{text}");
    assert!(text.contains(":user/administrator"), "{text}");
    let stack = format!("incident-{}", scene.site.vpc);
    let group = scene.incident.physical_id_in(&stack, "IsolatedSecurityGroup").await;
    for (interface, groups) in scene.cards(&[approved]).await {
        assert_eq!(groups, [group.clone()].into(), "{interface}");
    }
    operator(&["approve", id, "--yes"]).ends_with(3);
    let report = operator(&["report", "--stack", &stack, "--format", "json"]).ends_with(0).json();
    let found = &report["findings"][0];
    assert_eq!((&found["id"], &found["instances"]), (&json!(id), &json!([approved])), "{report}");
    assert!(found["about"].as_str().unwrap().starts_with("Finding f1, severity 8"), "{found}");
    assert!(found["answered_by"].as_str().unwrap().ends_with(":user/administrator"), "{found}");

    // What an open incident holds is told, and asked about no more.
    find(cloud(), "f2", approved).await;
    let (subject, text) = told(cloud(), since + 2).await;
    assert_eq!(subject, "ec2-isolation: told, not isolated: nothing is left to isolate", "{text}");
    assert!(text.contains("an open incident holds it"), "{text}");

    find(cloud(), "f3", rejected).await;
    let (subject, _) = told(cloud(), since + 3).await;
    operator(&["reject", question(&subject), "--yes"]).ends_with(0);
    let (subject, text) = told(cloud(), since + 4).await;
    assert_eq!(subject, "ec2-isolation: rejected, not isolated", "{text}");

    find(cloud(), "f4", expired).await;
    let (subject, _) = told(cloud(), since + 5).await;
    let id = question(&subject).to_owned();
    expire(cloud()).await;
    let (subject, text) = told(cloud(), since + 6).await;
    assert_eq!(subject, "ec2-isolation: told, not isolated: no answer came", "{text}");
    operator(&["approve", &id, "--yes"]).ends_with(3);
    assert_eq!(scene.cards(&[rejected, expired]).await, before);

    // A person's order is answered each time.
    let mut order = finding("security-hub-custom-action");
    for found in order["detail"]["findings"].as_array_mut().expect("a list") {
        found["Resources"][0]["Id"] = json!(format!("arn:aws:ec2:us-east-1:123456789012:instance/{approved}"));
    }
    for press in 0..2 {
        cloud().set("event", &order).await;
        let (subject, text) = told(cloud(), since + 7 + press).await;
        assert_eq!(subject, "ec2-isolation: told, not isolated: nothing is left to isolate", "{text}");
    }
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Off"]);
}

/// One VPC, so one incident, which each finding extends; the list of those that are never isolated; the limit.
#[tokio::test]
async fn isolate_extends_one_incident_up_to_the_hourly_limit_and_never_what_is_exempt() {
    let scene = Scene::new("trigger-isolate").await;
    let mut instances = vec![];
    for _ in 0..4 {
        instances.push(scene.site.plain(&scene.ec2, &[0]).await);
    }
    let [a, b, c, never] = [0, 1, 2, 3].map(|n: usize| instances[n].as_str());
    let before = scene.cards(&[c, never]).await;
    let exempt = format!("TriggerNeverInstances={never}");
    let settings = ["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Isolate", "TriggerInstancesPerHour=2"];
    deploy_responder(cloud(), &[&settings[..], &[exempt.as_str()]].concat());
    within_the_hour().await;
    let since = so_far(cloud()).await;
    let mut subjects = vec![];
    for (n, instance) in [a, b, c, never].into_iter().enumerate() {
        find(cloud(), &format!("g{n}"), instance).await;
        subjects.push(told(cloud(), since + n).await.0);
    }
    let prefix = "ec2-isolation: told, not isolated";
    assert_eq!(
        subjects,
        [
            "ec2-isolation: isolated".to_owned(),
            "ec2-isolation: isolated".to_owned(),
            format!("{prefix}: the hourly limit"),
            format!("{prefix}: nothing is left to isolate"),
        ]
    );
    let stack = format!("incident-{}", scene.site.vpc);
    let group = scene.incident.physical_id_in(&stack, "IsolatedSecurityGroup").await;
    for (interface, groups) in scene.cards(&[a, b]).await {
        assert_eq!(groups, [group.clone()].into(), "{interface}");
    }
    assert_eq!(scene.cards(&[c, never]).await, before);
    // The same finding again is no message.
    find(cloud(), "g0", a).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(so_far(cloud()).await, since + 4);
    // After a day it is one: as if the claims were made long ago.
    let items = cloud().dynamodb().await;
    let table = scene.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    let at = aws_sdk_dynamodb::types::AttributeValue::S("2020-01-01T00:00:00.000Z".to_owned());
    for item in items.scan().table_name(&table).send().await.unwrap().items() {
        let key = item["InstanceId"].clone();
        if key.as_s().unwrap().starts_with("trigger:claim:") {
            let update =
                items.update_item().table_name(&table).key("InstanceId", key).update_expression("SET #At = :at");
            let update = update.expression_attribute_names("#At", "At");
            update.expression_attribute_values(":at", at.clone()).send().await.unwrap();
        }
    }
    find(cloud(), "g0", a).await;
    let (subject, text) = told(cloud(), since + 4).await;
    assert_eq!(subject, format!("{prefix}: nothing is left to isolate"), "{text}");
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Off"]);
}

/// Three hundred findings at once about ten instances: as many are isolated as the limit allows, and each finding is a message.
#[tokio::test]
async fn a_flood_isolates_no_more_than_the_limit_and_loses_no_message() {
    const FINDINGS: usize = 300;
    let scene = Scene::new("trigger-flood").await;
    let mut instances = vec![];
    for _ in 0..10 {
        instances.push(scene.site.plain(&scene.ec2, &[0]).await);
    }
    let ids: Vec<&str> = instances.iter().map(String::as_str).collect();
    let before = scene.cards(&ids).await;
    let settings = ["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Isolate", "TriggerInstancesPerHour=3"];
    deploy_responder(cloud(), &settings);
    within_the_hour().await;
    let since = so_far(cloud()).await;
    for n in 0..FINDINGS {
        find(cloud(), &format!("flood-{n}"), ids[n % ids.len()]).await;
    }
    let messages = async || cloud().get(&format!("messages?since={since}")).await;
    for _ in 0..3000 {
        if messages().await.as_array().expect("a list").len() >= FINDINGS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let messages = messages().await;
    let messages = messages.as_array().expect("a list");
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for message in messages {
        *told.entry(message["subject"].as_str().expect("a text")).or_default() += 1;
    }
    assert_eq!(messages.len(), FINDINGS, "{told:?}");
    let failed =
        messages.iter().find(|message| message["subject"].as_str().is_some_and(|text| text.contains("could not")));
    assert_eq!(failed, None, "{told:?}");
    let named = |n: usize| {
        messages.iter().filter(|message| message.to_string().contains(&format!("Finding flood-{n},"))).count()
    };
    assert!((0..FINDINGS).all(|n| named(n) == 1), "each finding is told once: {told:?}");
    let limit = told["ec2-isolation: told, not isolated: the hourly limit"];
    let held = told.get("ec2-isolation: told, not isolated: nothing is left to isolate").copied().unwrap_or_default();
    let isolated = told["ec2-isolation: isolated"];
    assert_eq!(limit + held + isolated, FINDINGS, "{told:?}");
    let moved = scene.cards(&ids).await.into_iter().filter(|(id, groups)| before[id] != *groups).count();
    assert!((1..=3).contains(&isolated) && (1..=3).contains(&moved), "{moved} interfaces: {told:?}");
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Off"]);
}

/// No role of incidents is needed for that.
#[tokio::test]
async fn notify_tells_the_command_and_what_is_exempt_and_isolates_nothing() {
    let scene = Scene::new("trigger-notify").await;
    let other = Site::build(&scene.ec2, "trigger-other", 77).await;
    let told_of = scene.site.plain(&scene.ec2, &[0]).await;
    let member = scene.site.scaling_group(&scene.ec2, cloud(), "trigger-group", [1, 1, 1]).await.remove(0);
    let elsewhere = other.plain(&scene.ec2, &[0]).await;
    let all = [told_of.as_str(), &member, &elsewhere];
    let before = scene.cards(&all).await;
    let never = format!("TriggerNeverVpcs={}", other.vpc);
    deploy_responder(cloud(), &["Trigger=Notify", "TriggerNeverGroups=other,trigger-group", &never]);
    let since = so_far(cloud()).await;
    let mut texts = vec![];
    for (n, instance) in all.iter().enumerate() {
        find(cloud(), &format!("n{n}"), instance).await;
        texts.push(told(cloud(), since + n).await);
    }
    let prefix = "ec2-isolation: told, not isolated";
    for ((subject, text), (end, said)) in texts.iter().zip([
        ("a finding names instances", format!("To isolate: ec2-isolation isolate {told_of}")),
        (
            "nothing is left to isolate",
            format!("{member}: its Auto Scaling group is in TriggerNeverGroups: trigger-group"),
        ),
        ("nothing is left to isolate", format!("{elsewhere}: its VPC is in TriggerNeverVpcs: {}", other.vpc)),
    ]) {
        assert_eq!(*subject, format!("{prefix}: {end}"), "{text}");
        assert!(text.contains(&said), "{said}: {text}");
    }
    assert_eq!(scene.cards(&all).await, before);
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Off"]);
}

/// The calls lack parameters: what IAM allows, CloudFormation refuses, and no stack is made.
#[tokio::test]
async fn the_trigger_makes_incidents_only_and_each_pin_of_its_role_is_needed() {
    let scene = Scene::new("trigger-pins").await;
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Approve"]);
    let iam = |operation: &str, arguments: Value| aws(&cloud().credentials(), "iam", operation, &arguments).unwrap();
    let trigger = scene.incident.physical_id_in(RESPONDER, "TriggerRole").await;
    let incident = scene.incident.physical_id_in(RESPONDER, "IncidentStackRole").await;
    let incident = iam("get_role", json!({"RoleName": incident}))["Role"]["Arn"].clone();
    let policy =
        iam("get_role_policy", json!({"RoleName": trigger, "PolicyName": "trigger"}))["PolicyDocument"].clone();
    // A pin of its own: the template's document could not be read either.
    let mut policy = policy;
    let any_document = json!({"Effect": "Allow", "Action": "ssm:GetDocument", "Resource": "*"});
    policy["Statement"].as_array_mut().unwrap().push(any_document);
    iam("create_user", json!({"UserName": "pins"}));
    let key = iam("create_access_key", json!({"UserName": "pins"}))["AccessKey"].clone();
    let part = |name: &str| key[name].as_str().unwrap();
    let mut environment = cloud().credentials();
    environment
        .extend([("AWS_ACCESS_KEY_ID", part("AccessKeyId")), ("AWS_SECRET_ACCESS_KEY", part("SecretAccessKey"))]);
    let refusal = |policy: &Value, operation: &str, arguments: &Value| {
        let document = policy.to_string();
        iam("put_user_policy", json!({"UserName": "pins", "PolicyName": "pins", "PolicyDocument": document}));
        aws(&environment, "cloudformation", operation, arguments).expect_err("it lacks parameters")
    };
    let right = json!({
        "StackName": "incident-pins",
        "TemplateURL": template_url("incident"),
        "RoleARN": incident,
        "ResourceTypes": ["AWS::EC2::SecurityGroup"],
    });
    let mut change = right.clone();
    change["ChangeSetName"] = json!("ec2-isolation-pins");
    change["UsePreviousTemplate"] = json!(true);
    change.as_object_mut().unwrap().remove("TemplateURL");
    let template = ("cloudformation:TemplateUrl", "TemplateURL");
    let role = ("StringEquals", "cloudformation:RoleArn", "RoleARN", Value::Null);
    let types = ("cloudformation:ResourceTypes", "ResourceTypes");
    let kinds = ("ForAllValues:StringEquals", types.0, types.1, json!(["AWS::IAM::Role"]));
    let no_kinds = ("Null", types.0, types.1, Value::Null);
    for (operation, sid, right, wrong) in [
        (
            "create_stack",
            "MakeIncident",
            &right,
            vec![
                ("StringEquals", template.0, template.1, json!(template_url("host"))),
                role.clone(),
                kinds.clone(),
                no_kinds.clone(),
            ],
        ),
        (
            "create_change_set",
            "PrepareIncident",
            &change,
            vec![("Null", template.0, template.1, json!(template_url("host"))), role, kinds, no_kinds],
        ),
    ] {
        let allowed = refusal(&policy, operation, right);
        assert!(!allowed.contains("AccessDenied"), "{operation}: {allowed}");
        for (operator, pin, parameter, value) in wrong {
            let mut arguments = right.clone();
            match value {
                Value::Null => drop(arguments.as_object_mut().unwrap().remove(parameter)),
                value => arguments[parameter] = value,
            }
            let denied = refusal(&policy, operation, &arguments);
            assert!(denied.contains("AccessDenied"), "{operation}, {pin}: {denied}");
            let mut loose = policy.clone();
            let statements = loose["Statement"].as_array_mut().unwrap();
            let make = statements.iter_mut().find(|statement| statement["Sid"] == sid).unwrap();
            make["Condition"][operator].as_object_mut().unwrap().remove(pin).expect("it is pinned");
            let allowed = refusal(&loose, operation, &arguments);
            assert!(!allowed.contains("AccessDenied"), "{operation}: {pin} is needless: {allowed}");
        }
        let mut other = right.clone();
        other["StackName"] = json!("another");
        assert!(refusal(&policy, operation, &other).contains("AccessDenied"), "{operation}");
    }
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Off"]);
}
