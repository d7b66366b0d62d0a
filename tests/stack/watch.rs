//! The watch on deployed stacks: rules call the function, what it finds becomes an alarm, and the alarm a message.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::beside::{RESPONDER, changed_responder, try_responder};
use crate::fleet::aws;
use crate::{Scene, cloud};

/// A sample of what EventBridge puts on the bus.
fn sample(name: &str) -> Value {
    let path = format!("events/watch/{name}.json");
    serde_json::from_str(&std::fs::read_to_string(&path).expect("it is there")).expect("JSON")
}

fn length(list: &Value) -> usize {
    list.as_array().expect("a list").len()
}

/// How often rules have called a function.
async fn so_far() -> usize {
    length(&cloud().get("invocations").await)
}

/// The calls by rules of this stack since, once all of them have ended.
async fn called(stack: &str, since: usize) -> Vec<Value> {
    let is_meant =
        |call: &&Value| call["rule"].as_str().is_some_and(|rule| rule.starts_with(&format!("{stack}-Watch")));
    for _ in 0..600 {
        let calls = cloud().get(&format!("invocations?since={since}")).await;
        let calls: Vec<Value> = calls.as_array().expect("a list").iter().filter(is_meant).cloned().collect();
        if !calls.is_empty() && calls.iter().all(|call| call["status"] != "running") {
            return calls;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("nothing was called, or it never ended");
}

/// Five minutes pass: the schedule of this stack calls the function. What that says.
async fn watch(stack: &str) -> Value {
    let since = so_far().await;
    let fired = cloud().put("schedule", &json!({"stack": stack})).await;
    assert_eq!(length(&fired["fired"]), 1, "{fired}");
    let call = called(stack, since).await.remove(0);
    assert_eq!(call["status"], "done", "{call}");
    call["answer"].clone()
}

/// Evaluates the alarms some seconds from now; what those of this incident then published, subject and message, by subject.
async fn alarms(incident: &str, after: u64) -> Vec<(String, Value)> {
    let since = length(&cloud().get("messages").await);
    cloud().set("alarms", &json!({"after": after})).await;
    let messages = cloud().get(&format!("messages?since={since}")).await;
    let messages = messages.as_array().expect("a list").iter();
    let read = messages.map(|one| {
        let message: Value = serde_json::from_str(one["message"].as_str().expect("a text")).expect("JSON");
        (one["subject"].as_str().expect("a text").to_owned(), message)
    });
    let name = format!("ec2-isolation-{incident}");
    let mut found: Vec<_> =
        read.filter(|(_, message)| message["AlarmName"].as_str().is_some_and(|text| text.starts_with(&name))).collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

fn subjects(messages: &[(String, Value)]) -> Vec<&str> {
    messages.iter().map(|(subject, _)| subject.as_str()).collect()
}

/// Alarm states of these alarms.
fn subject(state: &str, alarm: &str) -> String {
    format!("{state}: \"ec2-isolation-{alarm}\" in US East (N. Virginia)")
}

#[tokio::test]
async fn an_interface_attached_since_is_told_with_a_message_and_nothing_is_changed() {
    let mut scene = Scene::new("watch-notify").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]).set("NotifyEmail", "responder@example.com").deploy();
    let found = watch("watch-notify").await;
    assert_eq!((&found["not_isolated"], &found["drift"]), (&json!(0), &json!(0)), "{found}");
    assert_eq!(found["incidents"][0]["stack"], "watch-notify");
    let first = alarms("watch-notify", 0).await;
    let ok = |alarm: &str| subject("OK", &format!("watch-notify-{alarm}"));
    let expected = ["drift", "errors", "not-isolated", "silent"].map(ok);
    assert_eq!(subjects(&first), expected);
    assert_eq!(alarms("watch-notify", 0).await, [], "a message for a change, not for each look");

    let added = scene.site.attach(&scene.ec2, &a, &[1]).await;
    let attached = scene.cards(&[&a]).await;
    let found = watch("watch-notify").await;
    assert_eq!(found["not_isolated"], 1, "{found}");
    let open = &found["incidents"][0]["not_isolated"][0];
    assert_eq!((&open["instance"], &open["interface"]), (&json!(a), &json!(added)), "{found}");
    assert_eq!(length(&found["incidents"][0]["done"]), 0, "{found}");
    assert_eq!(scene.cards(&[&a]).await, attached, "Notify changes nothing");

    let messages = alarms("watch-notify", 0).await;
    let alarm = |alarm: &str| subject("ALARM", &format!("watch-notify-{alarm}"));
    assert_eq!(subjects(&messages), [alarm("drift"), alarm("not-isolated")]);
    for (_, message) in &messages {
        let text = message["AlarmDescription"].as_str().expect("a text");
        assert!(text.contains("incident watch-notify in us-east-1"), "{text}");
        assert!(text.ends_with("ec2-isolation status --stack watch-notify --region us-east-1"), "{text}");
        assert_eq!((&message["NewStateValue"], &message["OldStateValue"]), (&json!("ALARM"), &json!("OK")));
        assert_eq!(message["Trigger"]["Dimensions"], json!([{"value": "watch-notify", "name": "Incident"}]));
    }

    // Nobody looks for a quarter of an hour: that is told, and what was wrong is still wrong.
    let messages = alarms("watch-notify", 1800).await;
    assert_eq!(subjects(&messages), [alarm("silent")]);
    let text = messages[0].1["AlarmDescription"].as_str().expect("a text");
    let rule = scene.incident.physical_id("WatchSchedule").await;
    assert!(text.contains(&format!("aws events describe-rule --region us-east-1 --name {rule}")), "{text}");

    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await.into_iter().filter(|(id, _)| *id != added).collect::<Vec<_>>(), {
        before.into_iter().collect::<Vec<_>>()
    });
    let fired = cloud().put("schedule", &json!({"stack": "watch-notify"})).await;
    assert_eq!(fired, json!({"fired": []}), "the watch ends with its stack");
    assert_eq!(alarms("watch-notify", 3600).await, []);
}

/// With the events of a trail at once, without one within a period.
#[tokio::test]
async fn with_isolate_an_attached_interface_is_isolated_and_one_moved_out_by_hand_stays_out_and_is_told() {
    let mut scene = Scene::new("watch-isolate").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let own = scene.cards(&[&a]).await.into_keys().next().expect("one");
    scene.incident.list(&[&a]).set("Watch", "Isolate").deploy();
    let added = scene.site.attach(&scene.ec2, &a, &[1, 2]).await;
    let before = scene.cards(&[&a]).await;
    let found = watch("watch-isolate").await;
    assert_eq!(found["incidents"][0]["done"], json!([format!("{a}: {added} isolated")]), "{found}");
    assert_eq!(found["not_isolated"], 0, "{found}");
    scene.assert_isolated(&[&a]).await;

    // A second one, and the trail tells of it: seconds later, when EC2 shows it.
    cloud().set("stale-reads", &json!({"reads": 0})).await;
    cloud().set("events", &json!({"trail": true, "states": true})).await;
    let since = so_far().await;
    let second = scene.site.attach(&scene.ec2, &a, &[3]).await;
    let calls = called("watch-isolate", since).await;
    assert_eq!(calls.len(), 1, "{calls:?}");
    let record = &calls[0]["input"]["Watch"]["Event"];
    assert_eq!(
        (&record["eventName"], &record["userIdentity"]["type"]),
        (&json!("AttachNetworkInterface"), &json!("IAMUser"))
    );
    assert_eq!(calls[0]["input"]["Watch"]["LogicalResourceId"], "Isolation");
    assert_eq!(calls[0]["answer"]["incidents"][0]["done"], json!([format!("{a}: {second} isolated")]), "{calls:?}");
    scene.assert_isolated(&[&a]).await;
    assert_eq!(called("watch-isolate", since).await.len(), 1, "the function's own calls do not call it");

    // A controller moves it out, as the trail says.
    cloud().set("events", &json!({"trail": false, "states": true})).await;
    let group = scene.site.groups[3].clone();
    let change = scene.ec2.modify_network_interface_attribute().network_interface_id(&second).groups(&group);
    change.send().await.expect("it can be changed");
    let mut event = sample("modify-network-interface-attribute-by-an-eks-controller");
    event["detail"]["requestParameters"] =
        json!({"networkInterfaceId": second, "groupSet": {"items": [{"groupId": group}]}});
    let since = so_far().await;
    cloud().put("event", &event).await;
    let calls = called("watch-isolate", since).await;
    assert_eq!(calls[0]["answer"]["incidents"][0]["done"], json!([format!("{a}: {second} isolated")]), "{calls:?}");
    scene.assert_isolated(&[&a]).await;
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    assert_eq!(scene.incident.record(&table, &a).await["ReturnCount"].as_n().unwrap(), "1");
    cloud().set("events", &json!({"trail": true, "states": true})).await;

    // A person moves one out.
    let since = so_far().await;
    let change = scene.ec2.modify_network_interface_attribute().network_interface_id(&own).groups(&group);
    change.send().await.expect("it can be changed");
    let calls = called("watch-isolate", since).await;
    let answer = &calls[0]["answer"];
    assert_eq!(answer["incidents"][0]["not_isolated"][0]["interface"], own, "{calls:?}");
    assert_eq!(length(&answer["incidents"][0]["done"]), 0, "{calls:?}");
    let again = watch("watch-isolate").await;
    assert_eq!(again["incidents"][0]["not_isolated"][0]["interface"], own, "it is told each time: {again}");
    assert_eq!(scene.cards(&[&a]).await[&own], [group.clone()].into(), "it stays out");

    // Without a trail EC2 still tells what ends an instance.
    cloud().set("events", &json!({"trail": false, "states": true})).await;
    let (since, bystander) = (so_far().await, scene.site.plain(&scene.ec2, &[0]).await);
    scene.ec2.terminate_instances().instance_ids(&bystander).send().await.expect("nothing protects it");
    let calls = called("watch-isolate", since).await;
    let states: Vec<&Value> = calls.iter().map(|call| &call["input"]["Watch"]["Event"]["state"]).collect();
    assert_eq!(states, ["shutting-down", "terminated"]);
    assert_eq!(length(&calls[0]["answer"]["incidents"]), 0, "it is none of this incident's: {calls:?}");
    cloud().set("events", &json!({})).await;
    cloud().set("stale-reads", &json!({"reads": 1})).await;

    scene.incident.delete().await;
    let mut expected = before;
    expected.insert(own, [group].into());
    expected.insert(second, [scene.site.groups[3].clone()].into());
    assert_eq!(scene.cards(&[&a]).await, expected);
}

/// Who may neither make a rule nor an alarm isolates all the same.
#[tokio::test]
async fn off_watches_nothing() {
    let mut scene = Scene::new("watch-off").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).set("Watch", "Off").set("NotifyEmail", "responder@example.com").deploy();
    scene.assert_isolated(&[&a]).await;
    let fired = cloud().put("schedule", &json!({"stack": "watch-off"})).await;
    assert_eq!(fired, json!({"fired": []}));
    assert_eq!(alarms("watch-off", 3600).await, []);
    scene.incident.delete().await;
}

/// Each by the rule that is meant for it; what the function did itself, and what EC2 refused, by none.
#[tokio::test]
async fn every_event_that_can_undo_an_isolation_calls_the_function_by_one_rule() {
    let mut scene = Scene::new("watch-rules").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).deploy();
    let function = scene.incident.physical_id("IsolationFunctionRole").await;
    let mut files: Vec<String> = std::fs::read_dir("events/watch")
        .expect("it is there")
        .map(|file| file.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("schedule"))
        .collect();
    files.sort();
    assert!(files.len() > 25, "{files:?}");
    let since = so_far().await;
    for name in files {
        let mut event = sample(&name);
        let expected = match name.as_str() {
            "modify-network-interface-attribute-by-the-function" => {
                let arn = format!("arn:aws:iam::123456789012:role/{function}");
                event["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = json!(arn);
                None
            }
            "modify-network-interface-attribute-refused" => None,
            state if state.starts_with("instance-state-change") => Some("watch-rules-WatchStates-"),
            _ => Some("watch-rules-WatchCalls-"),
        };
        let called = cloud().put("event", &event).await;
        // The responder that other tests deploy has rules of its own.
        let all = called["called"].as_array().expect("a list").iter().map(|rule| rule.as_str().expect("a name"));
        let rules: Vec<&str> = all.filter(|rule| rule.starts_with("watch-rules-")).collect();
        assert_eq!(rules.len(), usize::from(expected.is_some()), "{name}: {rules:?}");
        assert!(rules.iter().all(|rule| rule.starts_with(expected.unwrap_or("nothing"))), "{name}: {rules:?}");
    }
    for call in called("watch-rules", since).await {
        assert_eq!((&call["status"], &call["answer"]["drift"]), (&json!("done"), &json!(0)), "{call}");
        assert_eq!(call["input"]["Watch"]["StackId"], scene.incident.stack_id().await);
    }
    scene.incident.delete().await;
}

/// The names of the fields, with what they are in: lists have no index.
fn fields(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| fields(value, &format!("{at}.{name}"), found)),
        Value::Array(items) => items.iter().for_each(|item| fields(item, &format!("{at}[]"), found)),
        _ => _ = found.insert(at.to_owned()),
    }
}

/// The local AWS records calls as CloudTrail does: the same fields, by the samples.
#[tokio::test]
async fn the_local_aws_records_calls_in_the_shape_of_the_samples() {
    let scene = Scene::new("watch-records").await;
    let (ec2, credentials) = (&scene.ec2, cloud().credentials());
    let a = scene.site.launch(ec2, &[&[0], &[0]], 1).await;
    let cards = scene.cards(&[&a]).await;
    let interface = cards.keys().next().expect("one");
    let (group, other) = (&scene.site.groups[0], &scene.site.groups[1]);
    let call =
        |operation: &str, arguments: Value| aws(&credentials, "ec2", operation, &arguments).expect("it succeeds");
    let volume = call("describe_instances", json!({"InstanceIds": [a]}))["Reservations"][0]["Instances"][0]
        ["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        .clone();
    let snapshot = call("create_snapshot", json!({"VolumeId": volume}))["SnapshotId"].clone();
    let free = call("create_network_interface", json!({"SubnetId": scene.site.subnet, "Groups": [group]}));
    let free = free["NetworkInterface"]["NetworkInterfaceId"].clone();
    let rule = json!([{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
    let all = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]);
    let since = length(&cloud().get("events").await);
    cloud().set("events", &json!({"trail": true})).await;
    let modify = "modify_network_interface_attribute";
    call(modify, json!({"NetworkInterfaceId": interface, "Groups": [other]}));
    call(modify, json!({"NetworkInterfaceId": interface, "SourceDestCheck": {"Value": false}}));
    call("attach_network_interface", json!({"NetworkInterfaceId": free, "InstanceId": a, "DeviceIndex": 2}));
    call("modify_instance_attribute", json!({"InstanceId": a, "DisableApiTermination": {"Value": false}}));
    call("authorize_security_group_ingress", json!({"GroupId": group, "IpPermissions": rule}));
    call("authorize_security_group_egress", json!({"GroupId": group, "IpPermissions": all}));
    call("revoke_security_group_egress", json!({"GroupId": group, "IpPermissions": all}));
    call("modify_instance_metadata_options", json!({"InstanceId": a, "HttpEndpoint": "enabled"}));
    let permission = json!({"SnapshotId": snapshot, "CreateVolumePermission": {"Add": [{"UserId": "210987654321"}]}});
    call("modify_snapshot_attribute", permission);
    call("delete_snapshot", json!({"SnapshotId": snapshot}));
    call("stop_instances", json!({"InstanceIds": [a]}));
    call("terminate_instances", json!({"InstanceIds": [a]}));
    cloud().set("events", &json!({})).await;
    let recorded = cloud().get(&format!("events?since={since}")).await;
    let samples = [
        "modify-network-interface-attribute-by-a-person",
        "modify-network-interface-attribute-source-dest-check",
        "attach-network-interface-by-a-person",
        "modify-instance-attribute-termination",
        "authorize-security-group-ingress",
        "authorize-security-group-egress",
        "revoke-security-group-egress",
        "modify-instance-metadata-options",
        "modify-snapshot-attribute",
        "delete-snapshot",
        "stop-instances",
        "terminate-instances-by-a-person",
    ];
    assert_eq!(length(&recorded), samples.len(), "{recorded}");
    for (event, name) in recorded.as_array().expect("a list").iter().zip(samples) {
        let sample = sample(name);
        assert_eq!((&event["source"], &event["detail-type"]), (&sample["source"], &sample["detail-type"]), "{name}");
        let (detail, expected) = (&event["detail"], &sample["detail"]);
        assert_eq!(detail["eventName"], expected["eventName"], "{name}");
        let of = |part: &Value| {
            let mut found = BTreeSet::new();
            fields(&part["requestParameters"], "requestParameters", &mut found);
            found.extend(part.as_object().expect("an object").keys().cloned());
            found.remove("tlsDetails");
            found.remove("sessionCredentialFromConsole");
            found
        };
        assert_eq!(of(detail), of(expected), "{name}: {detail}");
    }
}

/// What EventBridge, CloudWatch and SNS refuse and ministack does not.
#[tokio::test]
async fn the_local_aws_refuses_rules_targets_and_messages_that_aws_refuses() {
    let mut scene = Scene::new("watch-refused").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).set("NotifyEmail", "responder@example.com").deploy();
    let credentials = cloud().credentials();
    let put = |rule: Value| aws(&credentials, "events", "put_rule", &rule).map(|_| ());
    let refused = |code: &str| Err(code.to_owned());
    assert_eq!(put(json!({"Name": "r", "ScheduleExpression": "rate(5 minute)"})), refused("ValidationException"));
    assert_eq!(put(json!({"Name": "r", "ScheduleExpression": "rate(1 minutes)"})), refused("ValidationException"));
    assert_eq!(put(json!({"Name": "r", "ScheduleExpression": "every 5 minutes"})), refused("ValidationException"));
    assert_eq!(
        put(json!({"Name": "r", "EventPattern": "{\"source\": \"aws.ec2\"}"})),
        refused("InvalidEventPatternException")
    );
    assert_eq!(put(json!({"Name": "r"})), refused("ValidationException"));
    assert_eq!(put(json!({"Name": "r", "ScheduleExpression": "rate(1 minute)"})), Ok(()));

    // A rule that the function does not let in.
    let function = scene.incident.physical_id("IsolationFunction").await;
    let arn = format!("arn:aws:lambda:us-east-1:123456789012:function:{function}");
    let target = json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": arn, "Input": "{\"Watch\": {}}"}]});
    aws(&credentials, "events", "put_targets", &target).expect("a target of a function is taken as it is");
    let deleted = aws(&credentials, "events", "delete_rule", &json!({"Name": "r"})).map(|_| ());
    assert_eq!(deleted, refused("ValidationException"), "it has a target");
    let policy = aws(&credentials, "lambda", "get_policy", &json!({"FunctionName": function})).expect("a policy");
    let policy: Value = serde_json::from_str(policy["Policy"].as_str().expect("a text")).expect("JSON");
    let statements = policy["Statement"].as_array().expect("a list");
    let of_schedule = |statement: &&Value| statement.to_string().contains("-WatchSchedule-");
    let statement = statements.iter().find(of_schedule).expect("a permission")["Sid"].clone();
    let remove = json!({"FunctionName": function, "StatementId": statement});
    aws(&credentials, "lambda", "remove_permission", &remove).expect("it can be removed");
    let since = so_far().await;
    cloud().set("schedule", &json!({"stack": "watch-refused"})).await;
    let call = called("watch-refused", since).await.remove(0);
    assert_eq!((&call["status"], &call["answer"]), (&json!("not permitted"), &Value::Null));

    // An alarm looks at exactly its dimensions, and its message needs a topic that CloudWatch may write to.
    let topic = scene.incident.physical_id("NotifyTopic").await;
    let alarm = |name: &str, incident: &str, topic: &str| {
        let dimensions = json!([{"Name": "Incident", "Value": incident}]);
        let alarm = json!({"AlarmName": name, "Namespace": "ec2-isolation", "MetricName": "Kept", "Dimensions": dimensions,
            "Statistic": "Maximum", "Period": 300, "EvaluationPeriods": 1, "Threshold": 0, "TreatMissingData": "ignore",
            "ComparisonOperator": "GreaterThanThreshold", "AlarmActions": [topic]});
        aws(&credentials, "cloudwatch", "put_metric_alarm", &alarm).expect("an alarm");
    };
    let encrypted = json!({"Name": "encrypted", "Attributes": {"KmsMasterKeyId": "alias/aws/sns"}});
    let encrypted = aws(&credentials, "sns", "create_topic", &encrypted).expect("a topic")["TopicArn"].clone();
    alarm("ec2-isolation-watch-refused-right", "watched-incident", &topic);
    alarm("ec2-isolation-watch-refused-other", "another-incident", &topic);
    alarm("ec2-isolation-watch-refused-encrypted", "watched-incident", encrypted.as_str().expect("an ARN"));
    alarms("watch-refused", 0).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later").as_millis();
    let document = |dimension: &str| {
        let directive =
            json!({"Namespace": "ec2-isolation", "Dimensions": [[dimension]], "Metrics": [{"Name": "Kept"}]});
        let aws = json!({"Timestamp": now as u64, "CloudWatchMetrics": [directive]});
        json!({"line": json!({"_aws": aws, "Incident": "watched-incident", "Kept": 1}).to_string()})
    };
    assert_eq!(cloud().put("embedded-metrics", &document("Stack")).await, json!({"metrics": 0}), "no such field");
    assert_eq!(alarms("watch-refused", 0).await, []);
    assert_eq!(cloud().put("embedded-metrics", &document("Incident")).await, json!({"metrics": 1}));
    let messages = alarms("watch-refused", 0).await;
    assert_eq!(subjects(&messages), [subject("ALARM", "watch-refused-right")]);
    scene.incident.delete().await;
}

/// A rule that cannot be deleted keeps nothing isolated: CloudFormation goes on, and the stack says what is in the way.
#[tokio::test]
async fn a_rule_that_cannot_be_deleted_does_not_prevent_the_restore() {
    let mut scene = Scene::new("watch-stuck").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]).deploy();
    let rule = scene.incident.physical_id("WatchSchedule").await;
    let function = scene.incident.physical_id("IsolationFunction").await;
    let arn = format!("arn:aws:lambda:us-east-1:123456789012:function:{function}");
    let target = json!({"Rule": rule, "Targets": [{"Id": "somebody-elses", "Arn": arn}]});
    aws(&cloud().credentials(), "events", "put_targets", &target).expect("a target");
    assert_eq!(scene.incident.delete_ends_in().await, "DELETE_FAILED");
    assert_eq!(scene.cards(&[&a]).await, before);
    let remove = json!({"Rule": rule, "Ids": ["somebody-elses"]});
    aws(&cloud().credentials(), "events", "remove_targets", &remove).expect("it can be removed");
    scene.incident.delete().await;
}

/// One schedule for all incidents, whose own alarms go to the responder's topic; and the statement that it needs.
#[tokio::test]
async fn a_responder_watches_every_open_incident_and_tells_by_its_topic() {
    let mut first = Scene::prepared("watch-prepared").await;
    let mut second = crate::prepared::without_host(first.beside("watch-beside"));
    let mut off = crate::prepared::without_host(first.beside("watch-unwatched"));
    let ids = [
        first.site.plain(&first.ec2, &[0]).await,
        first.site.plain(&first.ec2, &[1]).await,
        first.site.plain(&first.ec2, &[2]).await,
    ];
    let [a, b, c] = ids.each_ref().map(String::as_str);
    let topic = first.incident.outputs_of(RESPONDER).await.remove("NotifyTopicArn").expect("an output");
    assert!(topic.ends_with(":ec2-isolation"), "{topic}");
    for (scene, id, watch) in [(&mut first, a, "Notify"), (&mut second, b, "Isolate"), (&mut off, c, "Off")] {
        scene.incident.list(&[id]).set("NotifyTopicArn", &topic).set("Watch", watch);
        assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    }
    let found = watch(RESPONDER).await;
    let stacks: BTreeSet<&str> =
        found["incidents"].as_array().expect("a list").iter().filter_map(|one| one["stack"].as_str()).collect();
    assert!(stacks.is_superset(&["watch-prepared", "watch-beside"].into()), "{found}");
    assert!(!stacks.contains("watch-unwatched"), "{found}");
    alarms("", 0).await;

    let (added, taken) = (first.site.attach(&first.ec2, a, &[3]).await, second.site.attach(&first.ec2, b, &[3]).await);
    let found = watch(RESPONDER).await;
    assert_eq!(found["not_isolated"], 1, "{found}");
    assert!(found.to_string().contains(&added) && found.to_string().contains(&format!("{b}: {taken} isolated")));
    second.assert_isolated(&[b]).await;
    let messages = alarms("", 0).await;
    let expected = ["watch-prepared-not-isolated", "watch-prepared-drift"].map(|alarm| subject("ALARM", alarm));
    let named: BTreeSet<String> = subjects(&messages).into_iter().map(str::to_owned).collect();
    assert!(named.is_superset(&expected.into()), "{named:?}");
    let is_told = |(_, message): &(String, Value)| message["AlarmActions"] == json!([topic]);
    let is_own = |(_, message): &&(String, Value)| message["Trigger"]["Dimensions"][0]["value"] == "watch-prepared";
    let own: Vec<_> = messages.iter().filter(is_own).collect();
    assert!(own.len() == 2 && own.into_iter().all(is_told), "{messages:?}");
    // It may have been in this state before, for an incident of another test: then there is no second message.
    let alarm = json!({"AlarmNames": ["ec2-isolation-not-isolated"]});
    let alarm = aws(&cloud().credentials(), "cloudwatch", "describe_alarms", &alarm).expect("it may");
    let alarm = &alarm["MetricAlarms"][0];
    assert_eq!((&alarm["StateValue"], &alarm["AlarmActions"]), (&json!("ALARM"), &json!([topic])), "{alarm}");

    // Without the right to look for incidents nothing is known, and that is told.
    let without = changed_responder("blind", |text| {
        text.replace("Action: dynamodb:BatchGetItem", "Action: dynamodb:DescribeTable")
    });
    let parameters = ["IncidentRole=true", "DetachInstanceProfile=true"];
    let (succeeded, output) = try_responder(cloud(), &without, &[], &parameters);
    assert!(succeeded, "{output}");
    let since = so_far().await;
    cloud().set("schedule", &json!({"stack": RESPONDER})).await;
    let call = called(RESPONDER, since).await.remove(0);
    assert_eq!(call["status"], "failed", "{call}");
    assert!(call["answer"].to_string().contains("dynamodb:BatchGetItem"), "{call}");
    let messages = alarms("", 0).await;
    assert!(subjects(&messages).contains(&subject("ALARM", "errors").as_str()), "{messages:?}");
    crate::beside::deploy_responder(cloud(), &parameters);
    for scene in [first, second, off] {
        scene.incident.delete().await;
    }
    // Other tests may have incidents beside this responder.
    let found = watch(RESPONDER).await;
    let left = found["incidents"].as_array().expect("a list").iter().filter_map(|one| one["stack"].as_str());
    let own = ["watch-prepared", "watch-beside", "watch-unwatched"];
    assert!(left.clone().all(|stack| !own.contains(&stack)), "the watch ends with its incident: {found}");
}
