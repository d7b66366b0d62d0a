//! DynamoDB: the records, and the conditions under which they are written.

use ec2_isolation::model::{Attribute, Desired, InstanceId, Owner, Protection, ShutdownBehaviour, Snapshots, State};
use ec2_isolation::plan::Prior;
use ec2_isolation::ports::{Marking, Originals, Records as _, Stamp, Written};
use serde_json::{Value, json};

use super::{owner, table, wire};

fn prior() -> Protection {
    Protection {
        attributes: [
            Attribute::TerminationProtection(false),
            Attribute::ShutdownBehaviour(ShutdownBehaviour::Terminate),
        ]
        .into(),
        volumes: [("vol-0a".parse().unwrap(), "/dev/sda1".to_owned())].into(),
        scaling_group: Some("web".to_owned()),
        profile: Some("arn:web".to_owned()),
    }
}

#[tokio::test]
async fn prior_values_are_saved_in_one_write_that_never_overwrites_one() {
    let (http, seen) = wire(&[(200, "{}")]);
    let saved = table(http).save_protection(&owner(), &"i-0a".parse().unwrap(), &prior(), "now").await;
    assert_eq!((saved, seen.lock().unwrap().len()), (Ok(Written::Done), 1));
    let update: Value = serde_json::from_str(&seen.lock().unwrap()[0]).unwrap();
    assert_eq!(
        update["ConditionExpression"],
        "#owner = :owner AND #state <> :restored AND #state <> :restoring AND attribute_exists(Protection)"
    );
    let expression = update["UpdateExpression"].as_str().unwrap();
    let (names, values) = (&update["ExpressionAttributeNames"], &update["ExpressionAttributeValues"]);
    let mut written: Vec<String> = (0..4)
        .map(|n| {
            let set = format!("Protection.#p{n} = if_not_exists(Protection.#p{n}, :p{n})");
            assert!(expression.contains(&set), "{expression}");
            format!("{} {}", names[format!("#p{n}")], values[format!(":p{n}")])
        })
        .collect();
    written.sort();
    assert_eq!(
        written,
        [
            r#""AutoScalingGroup" {"S":"web"}"#,
            r#""ShutdownBehaviour" {"S":"terminate"}"#,
            r#""TerminationProtection" {"BOOL":false}"#,
            r#""vol-0a" {"S":"/dev/sda1"}"#
        ]
    );
    assert!(expression.contains("InstanceProfile = if_not_exists(InstanceProfile, :profile)"), "{expression}");
    assert_eq!(values[":profile"], json!({"S": "arn:web"}));
    assert!(expression.contains("RestoreCommands.#c0 = if_not_exists(RestoreCommands.#c0, :c0)"), "{expression}");
    assert_eq!(names["#c3"], "termination-protection");
    assert_eq!(values[":c3"]["S"], "aws ec2 modify-instance-attribute --instance-id i-0a --no-disable-api-termination");
}

#[tokio::test]
async fn a_record_of_before_there_were_protections_gets_its_map_first() {
    let lost = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}"#;
    let (http, seen) = wire(&[(400, lost), (200, "{}"), (200, "{}")]);
    let saved = table(http).save_protection(&owner(), &"i-0a".parse().unwrap(), &prior(), "now").await;
    assert_eq!((saved, seen.lock().unwrap().len()), (Ok(Written::Done), 3));
    assert!(seen.lock().unwrap()[1].contains("Protection = if_not_exists(Protection, :none)"));
    let (http, _) = wire(&[(400, lost)]);
    let saved = table(http).save_protection(&owner(), &"i-0a".parse().unwrap(), &prior(), "now").await;
    assert_eq!(saved, Ok(Written::Lost));
}

#[tokio::test]
async fn an_original_is_put_only_where_there_is_none() {
    let (http, seen) = wire(&[(200, "{}")]);
    let interfaces = [("eni-01".parse().unwrap(), ["sg-0a".parse().unwrap()].into())].into();
    let (owner, instance) = (owner(), "i-0a".parse().unwrap());
    let (vpc, group) = ("vpc-01".parse().unwrap(), "sg-0150".parse().unwrap());
    let transit = "sg-07a5".parse().unwrap();
    let stamp = stamp();
    let originals = |prior| Originals {
        instance: &instance,
        owner: &owner,
        vpc: &vpc,
        isolation_group: &group,
        transit_group: Some(&transit),
        interfaces: &interfaces,
        prior,
        stamp: &stamp,
    };
    let table = table(http);
    assert_eq!(table.record(&originals(&Prior::None)).await, Ok(Written::Done));
    assert_eq!(table.record(&originals(&Prior::Ours)).await, Ok(Written::Done));
    let seen = seen.lock().unwrap().clone();
    let put: Value = serde_json::from_str(&seen[0]).unwrap();
    assert_eq!(put["ConditionExpression"], "attribute_not_exists(InstanceId) OR #state = :restored");
    assert_eq!(put["Item"]["Interfaces"], json!({"M": {"eni-01": {"L": [{"S": "sg-0a"}]}}}));
    let command = "aws ec2 modify-network-interface-attribute --network-interface-id eni-01 --groups sg-0a";
    assert_eq!(put["Item"]["RestoreCommands"]["M"]["eni-01"]["S"], command);
    let recorded = "2026-11-25T03:00:00Z recorded: eni-01 [sg-0a] (asked by CloudFormation Create req-1)";
    assert_eq!(put["Item"]["History"], json!({"L": [{"S": recorded}]}));
    assert_eq!(put["Item"]["AskedBy"]["S"], "CloudFormation Create req-1");
    let update: Value = serde_json::from_str(&seen[1]).unwrap();
    assert_eq!(line(&update), recorded);
    assert_eq!(update["ConditionExpression"], "#owner = :owner AND #state <> :restored");
    let expression = update["UpdateExpression"].as_str().unwrap();
    assert!(expression.contains("Interfaces.#i0 = if_not_exists(Interfaces.#i0, :g0)"), "{expression}");
    // Every group that ever isolated the instance is remembered.
    assert_eq!(put["Item"]["IsolationGroupIds"], json!({"SS": ["sg-0150", "sg-07a5"]}));
    assert!(expression.ends_with(" ADD IsolationGroupIds :groups"), "{expression}");
    assert_eq!(update["ExpressionAttributeValues"][":groups"], json!({"SS": ["sg-0150", "sg-07a5"]}));
}

fn stamp() -> Stamp<'static> {
    Stamp { now: "2026-11-25T03:00:00Z".to_owned(), asked_by: "CloudFormation Create req-1" }
}

fn marking<'a>(owner: &'a Owner, instance: &'a InstanceId, stamp: &'a Stamp<'a>) -> Marking<'a> {
    let (from, state) = (State::Isolating, State::Isolated);
    Marking { owner, instance, from, state, reason: None, cut: Some(true), stamp }
}

#[tokio::test]
async fn a_lost_condition_is_an_outcome_not_a_failure() {
    let lost = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}"#;
    let (http, _) = wire(&[(400, lost)]);
    let (owner, instance) = (owner(), "i-0a".parse().unwrap());
    let result = table(http).mark(&marking(&owner, &instance, &stamp())).await;
    assert_eq!(result, Ok(Written::Lost));
}

#[tokio::test]
async fn a_record_is_marked_only_in_the_state_it_was_seen_in() {
    let (http, seen) = wire(&[(200, "{}"), (200, "{}"), (200, "{}")]);
    let table = table(http);
    let (owner, instance) = (owner(), "i-0a".parse().unwrap());
    let stamp = stamp();
    let isolated = marking(&owner, &instance, &stamp);
    let restored = Marking {
        from: State::Restoring,
        state: State::Restored,
        reason: Some("eni-01 was left alone"),
        cut: None,
        ..isolated.clone()
    };
    let kept = Marking {
        from: State::Restoring,
        state: State::Kept,
        reason: Some("the stack is rolling back"),
        cut: None,
        ..isolated.clone()
    };
    assert_eq!(table.mark(&kept).await, Ok(Written::Done));
    assert_eq!(table.mark(&isolated).await, Ok(Written::Done));
    assert_eq!(table.mark(&restored).await, Ok(Written::Done));
    let seen = seen.lock().unwrap().clone();
    let update: Value = serde_json::from_str(&seen[1]).unwrap();
    let past = "SET #state = :state, UpdatedAt = :now, History = list_append(if_not_exists(History, :past), :line)";
    assert_eq!(update["UpdateExpression"], format!("{past}, ConnectionsCut = :cut REMOVE KeptReason"));
    assert_eq!(line(&update), "2026-11-25T03:00:00Z isolated, connections cut (asked by CloudFormation Create req-1)");
    assert_eq!(update["ExpressionAttributeValues"][":cut"], json!({"BOOL": true}));
    let update: Value = serde_json::from_str(&seen[0]).unwrap();
    assert_eq!(update["ConditionExpression"], "#owner = :owner AND #state = :from");
    assert_eq!(update["UpdateExpression"], format!("{past}, KeptReason = :reason"));
    assert!(line(&update).starts_with("2026-11-25T03:00:00Z kept: the stack is rolling back (asked by "), "{update}");
    let values = &update["ExpressionAttributeValues"];
    assert_eq!((&values[":from"]["S"], &values[":state"]["S"]), (&json!("restoring"), &json!("kept")));
    assert_eq!(update["Key"], json!({"InstanceId": {"S": "i-0a"}}));
    let update: Value = serde_json::from_str(&seen[2]).unwrap();
    assert_eq!(update["UpdateExpression"], format!("{past} REMOVE KeptReason"));
    assert!(line(&update).contains(" restored: eni-01 was left alone (asked by "), "{update}");
}

/// What an update adds to the history.
fn line(update: &Value) -> &str {
    update["ExpressionAttributeValues"][":line"]["L"][0]["S"].as_str().unwrap()
}

#[tokio::test]
async fn a_superseded_intent_is_answered_with_what_is_wanted_now() {
    let lost = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no",
        "Item":{"InstanceId":{"S":"owner:x"},"RequestId":{"S":"req-2"},"Desired":{"S":"\"Restored\""}}}"#;
    let (http, seen) = wire(&[(400, lost)]);
    let now = table(http).write_intent(&owner(), "req-1", &Desired::Restored, "now").await.unwrap();
    assert_eq!((now.request_id.as_str(), now.desired), ("req-2", Desired::Restored));
    let update: Value = serde_json::from_str(&seen.lock().unwrap()[0]).unwrap();
    assert_eq!(
        update["ConditionExpression"],
        "attribute_not_exists(Requests) OR NOT contains(Requests, :request) OR RequestId = :request"
    );
}

#[tokio::test]
async fn records_are_scanned_consistently_over_all_pages_and_what_cannot_be_read_is_named() {
    let page = |id: &str, state: &str, more: &str| {
        format!(
            r#"{{"Items":[{{"InstanceId":{{"S":"{id}"}},"Owner":{{"S":"arn|Isolation"}},"State":{{"S":"{state}"}},
            "VpcId":{{"S":"vpc-01"}},"IsolationGroupId":{{"S":"sg-0150"}},"RecordedAt":{{"S":"t"}},
            "Interfaces":{{"M":{{"eni-01":{{"L":[{{"S":"sg-0a"}}]}}}}}},"Snapshots":{{"M":{{}}}},
            "InstanceProfile":{{"S":"arn:web"}},"Protection":{{"M":{{"TerminationProtection":{{"BOOL":false}},"ShutdownBehaviour":{{"S":"terminate"}},
            "AutoScalingGroup":{{"S":"web"}},"vol-0a":{{"S":"/dev/sda1"}}}}}}}}]{more}}}"#
        )
    };
    let more = r#","LastEvaluatedKey":{"InstanceId":{"S":"i-0a"}}"#;
    let (http, seen) = wire(&[(200, &page("i-0a", "kept", more)), (200, &page("i-0b", "melted", ""))]);
    let ledger = table(http).read().await.unwrap();
    assert!(seen.lock().unwrap().iter().all(|body| body.contains(r#""ConsistentRead":true"#)));
    let record = &ledger.records[&"i-0a".parse().unwrap()];
    assert_eq!((record.state, &record.snapshots), (State::Kept, &Snapshots::Requested));
    assert_eq!(record.protection, prior());
    // An item without the list names one group at least.
    assert_eq!(record.isolation_groups, ["sg-0150".parse().unwrap()].into());
    assert_eq!(ledger.unreadable, [("i-0b".to_owned(), "attribute State is \"melted\"".to_owned())].into());
}
