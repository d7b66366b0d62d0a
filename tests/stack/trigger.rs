//! The trigger on a deployed responder: a finding becomes a message, and an incident if a person approves.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::beside::{RESPONDER, deploy_responder, template_url};
use crate::fleet::aws;
use crate::operator::operator;
use crate::{Scene, cloud};

/// The findings that the trigger tells or isolates, with how many instances they name. All others do nothing.
const TOLD: [(&str, &str, usize); 13] = [
    ("guardduty-attack-sequence", "go", 25),
    ("guardduty-attack-sequence-elsewhere", "tell", 25),
    ("guardduty-attack-sequence-s3", "tell", 0),
    ("guardduty-attack-sequence-too-long", "tell", 125),
    ("guardduty-container", "tell", 0),
    ("guardduty-instance", "go", 1),
    ("guardduty-no-instance", "tell", 0),
    ("guardduty-no-severity", "tell", 0),
    ("security-hub-custom-action", "go", 2),
    ("security-hub-imported", "go", 1),
    ("security-hub-no-severity", "tell", 0),
    ("security-hub-v2", "go", 1),
    ("unknown", "tell", 0),
];
const QUIET: [&str; 8] = [
    "guardduty-archived",
    "guardduty-low",
    "guardduty-other-account",
    "guardduty-other-region",
    "guardduty-sample",
    "security-hub-archived",
    "security-hub-imported-guardduty",
    "security-hub-v2-guardduty",
];

fn finding(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("events/findings/{name}.json")).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

/// GuardDuty's finding of this id about this instance.
async fn find(id: &str, instance: &str) {
    let mut event = finding("guardduty-instance");
    event["detail"]["id"] = json!(id);
    event["detail"]["resource"]["instanceDetails"]["instanceId"] = json!(instance);
    cloud().set("event", &event).await;
}

async fn so_far() -> usize {
    cloud().get("messages").await.as_array().expect("a list").len()
}

/// The next message, subject and text.
async fn told(since: usize) -> (String, String) {
    for _ in 0..1200 {
        let messages = cloud().get(&format!("messages?since={since}")).await;
        if let Some(first) = messages.as_array().expect("a list").first() {
            let text = |name: &str| first[name].as_str().expect("a text").to_owned();
            return (text("subject"), text("message"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing was told");
}

/// The id in the subject of a question.
fn question(subject: &str) -> &str {
    let id = subject.strip_prefix("ec2-isolation: approve ").and_then(|rest| rest.strip_suffix('?'));
    id.unwrap_or_else(|| panic!("{subject} asks nothing"))
}

#[test]
fn each_shape_of_a_finding_is_read_and_in_doubt_nothing_is_isolated() {
    let output = Command::new("target/venv/cloud/bin/python").arg("scripts/findings.py").output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let read: BTreeMap<String, (String, usize)> = text
        .lines()
        .map(|line| {
            let read: Value = serde_json::from_str(line).expect("JSON");
            let text = |name: &str| read[name].as_str().expect("a text").to_owned();
            (text("file"), (text("verdict"), read["ids"].as_array().expect("a list").len()))
        })
        .collect();
    let told = TOLD.iter().map(|(file, verdict, ids)| ((*file).to_owned(), ((*verdict).to_owned(), *ids)));
    let quiet = QUIET.iter().map(|file| ((*file).to_owned(), ("quiet".to_owned(), 0)));
    assert_eq!(read, told.chain(quiet).collect());
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

    let since = so_far().await;
    for name in QUIET {
        cloud().set("event", &finding(name)).await;
    }
    find("f1", approved).await;
    let (subject, text) = told(since).await;
    let id = question(&subject);
    assert!(text.contains(&format!("  {approved}")) && text.contains("Finding f1, severity 8"), "{text}");
    let items = cloud().dynamodb().await;
    let table = scene.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    let key = aws_sdk_dynamodb::types::AttributeValue::S(format!("trigger:{id}"));
    let item = items.get_item().table_name(&table).key("InstanceId", key).send().await.unwrap().item.unwrap();
    assert!(!text.contains(item["TaskToken"].as_s().unwrap()), "who reads the mail could answer");
    assert_eq!(so_far().await, since + 1, "samples and what is archived or elsewhere do nothing");

    let answer = operator(&["approve", id, "--yes", "--output", "json"]).ends_with(0).json();
    assert!(answer["by"].as_str().unwrap().ends_with(":user/administrator"), "{answer}");
    let (subject, text) = told(since + 1).await;
    assert_eq!(subject, "ec2-isolation: isolated", "{text}");
    assert!(text.contains(":user/administrator"), "{text}");
    let stack = format!("incident-{}", scene.site.vpc);
    let group = scene.incident.physical_id_in(&stack, "IsolatedSecurityGroup").await;
    for (interface, groups) in scene.cards(&[approved]).await {
        assert_eq!(groups, [group.clone()].into(), "{interface}");
    }
    operator(&["approve", id, "--yes"]).ends_with(3);

    // What an open incident holds is told, and asked about no more.
    find("f2", approved).await;
    let (subject, text) = told(since + 2).await;
    assert_eq!(subject, "ec2-isolation: told, not isolated: nothing is left to isolate", "{text}");
    assert!(text.contains("an open incident holds it"), "{text}");

    find("f3", rejected).await;
    let (subject, _) = told(since + 3).await;
    operator(&["reject", question(&subject), "--yes"]).ends_with(0);
    let (subject, text) = told(since + 4).await;
    assert_eq!(subject, "ec2-isolation: rejected, not isolated", "{text}");

    find("f4", expired).await;
    let (subject, _) = told(since + 5).await;
    let id = question(&subject).to_owned();
    for _ in 0..100 {
        if cloud().put("expire", &json!({})).await["expired"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (subject, text) = told(since + 6).await;
    assert_eq!(subject, "ec2-isolation: told, not isolated: no answer came", "{text}");
    operator(&["approve", &id, "--yes"]).ends_with(3);
    assert_eq!(scene.cards(&[rejected, expired]).await, before);
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
    let since = so_far().await;
    let mut subjects = vec![];
    for (n, instance) in [a, b, c, never].into_iter().enumerate() {
        find(&format!("g{n}"), instance).await;
        subjects.push(told(since + n).await.0);
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
    find("g0", a).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(so_far().await, since + 4);
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
    let refusal = |policy: &Value, arguments: &Value| {
        let document = policy.to_string();
        iam("put_user_policy", json!({"UserName": "pins", "PolicyName": "pins", "PolicyDocument": document}));
        aws(&environment, "cloudformation", "create_stack", arguments).expect_err("it lacks parameters")
    };
    let right = json!({
        "StackName": "incident-pins",
        "TemplateURL": template_url("incident"),
        "RoleARN": incident,
        "ResourceTypes": ["AWS::EC2::SecurityGroup"],
    });
    let allowed = refusal(&policy, &right);
    assert!(!allowed.contains("AccessDenied"), "{allowed}");
    let wrong = [
        ("StringEquals", "cloudformation:TemplateUrl", "TemplateURL", json!(template_url("host"))),
        ("StringEquals", "cloudformation:RoleArn", "RoleARN", Value::Null),
        ("ForAllValues:StringEquals", "cloudformation:ResourceTypes", "ResourceTypes", json!(["AWS::IAM::Role"])),
        ("Null", "cloudformation:ResourceTypes", "ResourceTypes", Value::Null),
    ];
    for (operator, pin, parameter, value) in wrong {
        let mut arguments = right.clone();
        match value {
            Value::Null => drop(arguments.as_object_mut().unwrap().remove(parameter)),
            value => arguments[parameter] = value,
        }
        let denied = refusal(&policy, &arguments);
        assert!(denied.contains("AccessDenied"), "{pin}: {denied}");
        let mut loose = policy.clone();
        let statements = loose["Statement"].as_array_mut().unwrap();
        let make = statements.iter_mut().find(|statement| statement["Sid"] == "MakeIncident").unwrap();
        make["Condition"][operator].as_object_mut().unwrap().remove(pin).expect("it is pinned");
        let allowed = refusal(&loose, &arguments);
        assert!(!allowed.contains("AccessDenied"), "{pin} is needless: {allowed}");
    }
    let mut other = right.clone();
    other["StackName"] = json!("another");
    assert!(refusal(&policy, &other).contains("AccessDenied"));
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "Trigger=Off"]);
}
