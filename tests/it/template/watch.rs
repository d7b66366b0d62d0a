//! The watch in the templates: it holds no isolation back, it ends with its stack, and its alarms can be acted on.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Stack, shown};

/// What the watch is made of.
const KINDS: [&str; 4] = ["AWS::Events::Rule", "AWS::Lambda::Permission", "AWS::SNS::Topic", "AWS::CloudWatch::Alarm"];
const TOPIC: &str = "arn:aws:sns:us-east-1:111111111111:security";

fn watch(stack: &Stack) -> BTreeSet<&str> {
    let is_watch = |body: &Value| KINDS.contains(&body["Type"].as_str().unwrap());
    stack.resources.iter().filter(|(_, body)| is_watch(body)).map(|(name, _)| name.as_str()).collect()
}

/// What CloudFormation makes before it, and deletes after it.
fn waits_for(stack: &Stack, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let text = stack.resources[&name].to_string();
        for other in stack.resources.keys() {
            let is_referred = text.contains(&format!("${{{other}}}")) || text.contains(&format!("${{{other}."));
            let is_named = stack.resources[&name].get("DependsOn").is_some_and(|waits| waits == other);
            if (is_referred || is_named) && found.insert(other.clone()) {
                open.push(other.clone());
            }
        }
    }
    found
}

#[test]
fn the_watch_comes_after_the_isolation_and_goes_before_it() {
    for file in ["template.yaml", "incident.yaml"] {
        let overrides: &[(&str, &str)] =
            if file == "template.yaml" { &[("NotifyEmail", "a@example.com")] } else { &[("NotifyTopicArn", TOPIC)] };
        let stack = Stack::of(file, overrides);
        let before = waits_for(&stack, "Isolation");
        assert!(before.contains("IsolatedSecurityGroup"), "{before:?}");
        let watch = watch(&stack);
        assert!(watch.len() >= 2, "{file}: {watch:?}");
        for name in watch {
            assert!(!before.contains(name), "{file}: the isolation waits for {name}");
            assert!(waits_for(&stack, name).contains("Isolation"), "{file}: {name} may come before the isolation");
        }
    }
}

/// A way out for who may not make a rule or an alarm: then there is none.
#[test]
fn off_makes_nothing_of_the_watch() {
    for file in ["template.yaml", "incident.yaml"] {
        let off = Stack::of(file, &[("Watch", "Off"), ("NotifyTopicArn", TOPIC)]);
        assert_eq!(watch(&off), BTreeSet::new(), "{file}");
        assert_eq!(off.resources["Isolation"]["Properties"]["Watch"], "Off", "{file}");
        for value in ["Notify", "Isolate"] {
            let on = Stack::of(file, &[("Watch", value)]);
            assert!(watch(&on).contains("DriftAlarm"), "{file}");
            assert_eq!(on.resources["Isolation"]["Properties"]["Watch"], value, "{file}");
        }
    }
    let off = Stack::new(&[("Watch", "Off"), ("NotifyEmail", "a@example.com")]);
    assert_eq!(watch(&off), BTreeSet::new());
}

/// Each rule may call the function, and nothing else of EventBridge may.
#[test]
fn each_rule_calls_the_function_by_its_own_permission() {
    for file in ["template.yaml", "responder.yaml"] {
        let stack = Stack::of(file, &[]);
        let of = |kind: &str| {
            let bodies = stack.resources.iter().filter(move |(_, body)| body["Type"] == kind);
            bodies.map(|(name, body)| (name.clone(), body["Properties"].clone())).collect::<Vec<_>>()
        };
        let mut sources: Vec<String> = Vec::new();
        for (_, permission) in of("AWS::Lambda::Permission") {
            assert_eq!(permission["Principal"], "events.amazonaws.com", "{file}");
            assert_eq!(permission["Action"], "lambda:InvokeFunction", "{file}");
            sources.push(shown(&permission["SourceArn"]));
        }
        let rules = of("AWS::Events::Rule");
        let expected: Vec<String> = rules.iter().map(|(name, _)| format!("${{{name}.Arn}}")).collect();
        assert_eq!(sources, expected, "{file}");
        assert_eq!(rules.len(), 3, "{file}");
        for (name, rule) in rules {
            assert_eq!(rule["Targets"].as_array().unwrap().len(), 1, "{file} {name}");
            assert_eq!(rule["Targets"][0]["Arn"], "${IsolationFunction.Arn}", "{file} {name}");
        }
    }
}

/// What the function is called with, as its own tests have it from events/watch.
#[test]
fn the_function_is_called_with_what_it_reads() {
    let sample = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(format!("events/watch/{name}.json")).unwrap()).unwrap()
    };
    let input = |stack: &Stack| -> Value {
        let target = &stack.resources["WatchSchedule"]["Properties"]["Targets"][0];
        serde_json::from_str(target["Input"].as_str().unwrap()).unwrap()
    };
    let (alone, all) = (Stack::new(&[]), Stack::of("responder.yaml", &[]));
    let mut expected = sample("schedule");
    expected["Watch"]["StackId"] = json!("arn:aws:cloudformation:us-east-1:111111111111:stack/incident-42/1");
    assert_eq!(input(&alone), expected);
    assert_eq!(input(&all), sample("schedule-of-all"));
    for (stack, mut expected) in [(&alone, expected), (&all, sample("schedule-of-all"))] {
        expected["Watch"]["Event"] = json!("event");
        for rule in ["WatchCalls", "WatchStates"] {
            let transformer = &stack.resources[rule]["Properties"]["Targets"][0]["InputTransformer"];
            assert_eq!(transformer["InputPathsMap"], json!({"event": "$.detail"}), "{rule}");
            let text = transformer["InputTemplate"].as_str().unwrap();
            assert!(text.contains(": <event>"), "without quotes, or it would be a text");
            let given: Value = serde_json::from_str(&text.replace("<event>", "\"event\"")).unwrap();
            assert_eq!(given, expected, "{rule}");
        }
    }
}

/// A tired person reads it on a telephone: what it is about, in which incident, and what to type. CloudWatch takes 1,024 characters.
#[test]
fn every_alarm_says_what_it_means_and_the_next_command() {
    let region = "--region us-east-1";
    for (file, named) in [("template.yaml", "incident-42"), ("incident.yaml", "incident-42"), ("responder.yaml", "")] {
        let stack = Stack::of(file, &[]);
        let alarms = stack.resources.iter().filter(|(_, body)| body["Type"] == "AWS::CloudWatch::Alarm");
        let mut count = 0;
        for (name, alarm) in alarms {
            let text = shown(&alarm["Properties"]["AlarmDescription"]);
            assert!(text.starts_with("ALARM: ") && text.contains(" OK: "), "{file} {name}: {text}");
            assert!(text.contains(named) && text.len() <= 1024, "{file} {name}: {text}");
            assert!(text.contains("ec2-isolation ") && text.contains(region), "{file} {name}: {text}");
            assert_ne!(alarm["Properties"]["TreatMissingData"], "missing", "{file} {name}");
            count += 1;
        }
        assert!(count >= 2, "{file}: {count}");
    }
    for name in ["NotIsolatedAlarm", "DriftAlarm"] {
        let alarm = &Stack::of("incident.yaml", &[]).resources[name]["Properties"];
        let command = "ec2-isolation status --stack incident-42 --region us-east-1";
        assert!(shown(&alarm["AlarmDescription"]).contains(command), "{name}");
        assert_eq!(alarm["Dimensions"], json!([{"Name": "Incident", "Value": "incident-42"}]), "{name}");
        assert_eq!(alarm["TreatMissingData"], "ignore", "{name}: that nobody looked is no proof that all is well");
    }
}

#[test]
fn an_alarm_goes_to_the_topic_that_is_given_or_made_and_nowhere_without_one() {
    let check = |stack: &Stack, expected: Option<&str>| {
        for (name, alarm) in stack.resources.iter().filter(|(_, body)| body["Type"] == "AWS::CloudWatch::Alarm") {
            for actions in ["AlarmActions", "OKActions"] {
                let expected = expected.map(|topic| json!([topic]));
                assert_eq!(alarm["Properties"].get(actions), expected.as_ref(), "{name} {actions}");
            }
        }
    };
    let (none, email, given) = (Stack::new(&[]), [("NotifyEmail", "a@example.com")], [("NotifyTopicArn", TOPIC)]);
    check(&none, None);
    assert!(!none.resources.contains_key("NotifyTopic"));
    let made = Stack::new(&email);
    check(&made, Some("${NotifyTopic}"));
    let subscribed = |stack: &Stack| stack.resources["NotifyTopic"]["Properties"].get("Subscription").cloned();
    let to_email = Some(json!([{"Protocol": "email", "Endpoint": "a@example.com"}]));
    assert_eq!(subscribed(&made), to_email);
    let both = Stack::new(&[email[0], given[0]]);
    check(&both, Some(TOPIC));
    assert!(!both.resources.contains_key("NotifyTopic"));
    check(&Stack::of("incident.yaml", &[]), None);
    check(&Stack::of("incident.yaml", &given), Some(TOPIC));

    let responder = Stack::of("responder.yaml", &[]);
    check(&responder, Some("${NotifyTopic}"));
    assert_eq!(responder.resources["NotifyTopic"]["Properties"]["TopicName"], "ec2-isolation");
    assert_eq!(subscribed(&responder), None);
    assert_eq!(responder.outputs["NotifyTopicArn"]["Value"], "${NotifyTopic}");
    assert_eq!(subscribed(&Stack::of("responder.yaml", &email)), to_email);
    let responder = Stack::of("responder.yaml", &given);
    check(&responder, Some(TOPIC));
    assert_eq!(responder.outputs["NotifyTopicArn"]["Value"], TOPIC);
}

/// CloudWatch takes any text as a dashboard that is JSON, and shows an empty page for what it does not understand.
#[test]
fn the_dashboard_shows_every_figure_of_every_incident() {
    let body = shown(&Stack::of("responder.yaml", &[]).resources["Dashboard"]["Properties"]["DashboardBody"]);
    assert!(!body.contains("${AWS::"), "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let text = body.to_string();
    for metric in ["NotIsolated", "Drift", "Kept", "FailedRequests", "SecondsToContain"] {
        let search = format!("SEARCH('{{\\\"ec2-isolation\\\",Incident}} MetricName=\\\"{metric}\\\"'");
        assert!(text.contains(&search), "{search}: {text}");
    }
    assert!(text.contains("ec2-isolation list --region us-east-1"));
}
