//! DynamoDB: the items, and the conditions under which they are written.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::model::{
    Attribute, Desired, Groups, InstanceId, InterfaceId, Lease, Owner, Protection, ShutdownBehaviour, Snapshots, State,
    Time, Wants, Watch,
};
use ec2_isolation::operator::ports::Archive as _;
use ec2_isolation::plan::{Cut, Originals, Prior};
use ec2_isolation::ports::{Asked, CallError, Entry, Fault, Marking, Records as _, Stamp, Written};
use serde_json::{Value, json};

use super::{Seen, ids, owner, table, wire};

const LOST: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}"#;

fn now() -> Time {
    "2026-11-25T03:00:00Z".parse().unwrap()
}

/// Of those who take it through the transit group, one at a time.
const NO_RIVAL: &str = "(attribute_not_exists(LeaseWriter) OR LeaseWriter = w-1 OR LeaseUntil = 2026-11-25T02:00:00Z)";

fn stamp() -> Stamp<'static> {
    Stamp { now: now(), asked_by: "CloudFormation Create req-1", writer: "w-1" }
}

fn lease() -> Lease {
    Lease { writer: "w-1".to_owned(), until: "2026-11-25T03:00:40Z".parse().unwrap(), only: BTreeSet::new() }
}

fn heir() -> Owner {
    Owner { logical_id: "Second".into(), ..owner() }
}

fn instance() -> InstanceId {
    "i-0a".parse().unwrap()
}

fn requests(seen: &Seen) -> Vec<Value> {
    seen.lock().unwrap().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
}

/// What an update says, with the names and values put in.
fn said(update: &Value) -> String {
    let mut text = update["UpdateExpression"].as_str().unwrap_or_default().to_owned();
    let condition = update["ConditionExpression"].as_str().unwrap_or_default();
    assert!(text.len() <= 4096 && condition.len() <= 4096, "{} bytes", text.len());
    text = format!("{text} IF {condition}");
    assert_eq!(reserved(&text), [""; 0], "DynamoDB refuses these names without an alias");
    let mut replacements: Vec<(String, String)> = Vec::new();
    for (placeholder, name) in update["ExpressionAttributeNames"].as_object().into_iter().flatten() {
        replacements.push((placeholder.clone(), name.as_str().unwrap().to_owned()));
    }
    for (placeholder, value) in update["ExpressionAttributeValues"].as_object().into_iter().flatten() {
        replacements.push((placeholder.clone(), shown(value)));
    }
    // DynamoDB refuses what nothing uses.
    assert!(replacements.iter().all(|(placeholder, _)| text.contains(placeholder.as_str())), "{update}");
    replacements.sort_by_key(|(placeholder, _)| std::cmp::Reverse(placeholder.len()));
    for (placeholder, value) in replacements {
        text = text.replace(&placeholder, &value);
    }
    text
}

/// The bare names that DynamoDB keeps for itself: DynamoDB Developer Guide, "Reserved words in DynamoDB".
fn reserved(expression: &str) -> Vec<&str> {
    const GRAMMAR: [&str; 7] = ["SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT"];
    const WORDS: &str = include_str!("reserved-words.txt");
    let words = expression.split(|c: char| !(c.is_alphanumeric() || "_#:".contains(c)));
    let bare = words.filter(|word| !word.is_empty() && !word.starts_with(['#', ':']) && !GRAMMAR.contains(word));
    bare.filter(|word| WORDS.lines().any(|reserved| reserved == word.to_uppercase()))
        .filter(|word| *word != "IF")
        .collect()
}

/// A value without its types.
fn shown(value: &Value) -> String {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "L" => format!("[{}]", value.as_array().unwrap().iter().map(shown).collect::<Vec<_>>().join(" ")),
        "M" => {
            let entries = value.as_object().unwrap().iter().map(|(key, value)| format!("{key}: {}", shown(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
        }
        "SS" => format!(
            "{{{}}}",
            value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>().join(" ")
        ),
        "S" => value.as_str().unwrap().to_owned(),
        _ => value.to_string(),
    }
}

/// The operations of a transaction, but for the second one, which lists the incident as open.
fn operations(request: &Value) -> Vec<&Value> {
    let mut operations: Vec<&Value> = request["TransactItems"].as_array().unwrap().iter().collect();
    let opening = &operations.remove(1)["Update"];
    assert_eq!(opening["Key"], json!({"InstanceId": {"S": "incidents:open"}}));
    assert_eq!(said(opening), format!("ADD Owners {{{}}} IF ", owner().digest()));
    assert!(opening.get("ConditionExpression").is_none(), "{opening}");
    operations
}

/// DynamoDB's word for a transaction that was cancelled for these reasons of [`operations`].
fn cancelled(reasons: &[&str]) -> String {
    let mut reasons: Vec<Value> = reasons.iter().map(|code| json!({"Code": code, "Message": "m"})).collect();
    reasons.insert(1.min(reasons.len()), json!({"Code": "None"}));
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    json!({"__type": kind, "Message": "cancelled", "CancellationReasons": reasons}).to_string()
}

fn groups(ids: &[&str]) -> Groups {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn interfaces(count: usize) -> BTreeMap<InterfaceId, Groups> {
    (0..count).map(|n| (format!("eni-{n:017x}").parse().unwrap(), groups(&["sg-0123456789abcdef0"]))).collect()
}

fn originals(instance: &str, interfaces: BTreeMap<InterfaceId, Groups>, prior: Prior) -> (Originals, Lease) {
    let originals = Originals {
        instance: instance.parse().unwrap(),
        vpc: "vpc-01".parse().unwrap(),
        isolation_group: "sg-0150".parse().unwrap(),
        transit_group: Some("sg-07a5".parse().unwrap()),
        leased_until: Some("2026-11-25T02:00:00Z".parse().unwrap()),
        interfaces,
        reopened: BTreeSet::new(),
        prior,
        hold_seconds: 5,
    };
    (originals, lease())
}

fn one() -> BTreeMap<InterfaceId, Groups> {
    [("eni-01".parse().unwrap(), groups(&["sg-0a"]))].into()
}

/// Records these, DynamoDB answering so.
async fn record(
    originals: &[(Originals, Lease)],
    answers: &[(u16, &str)],
) -> (Vec<Result<Written, CallError>>, Vec<Value>) {
    let (http, seen) = wire(answers);
    let results = table(http).record(&owner(), "req-1", originals, &stamp()).await;
    let requests = requests(&seen);
    for request in &requests {
        let check = &operations(request)[0]["ConditionCheck"];
        assert_eq!(check["Key"], json!({"InstanceId": {"S": format!("owner:{}", owner().digest())}}));
        assert_eq!(said(check), " IF RequestId = req-1");
    }
    (results, requests)
}

fn three() -> Vec<(Originals, Lease)> {
    ["i-0a", "i-0b", "i-0c"].map(|instance| originals(instance, one(), Prior::None)).into()
}

/// The keys that each of these transactions writes.
fn written(requests: &[Value]) -> Vec<String> {
    let key = |operation: &&Value| operation["Update"]["Key"]["InstanceId"]["S"].as_str().map(str::to_owned);
    let keys = requests.iter().map(|request| operations(request).iter().filter_map(key).collect::<Vec<_>>().join(" "));
    keys.collect()
}

#[tokio::test]
async fn originals_of_all_are_put_in_one_transaction_and_only_where_there_are_none() {
    let (results, requests) = record(&three(), &[(200, "{}")]).await;
    assert_eq!(results, vec![Ok(Written::Done); 3]);
    assert_eq!(written(&requests), ["i-0a i-0b i-0c"]);
    let command = "aws ec2 modify-network-interface-attribute --network-interface-id eni-01 --groups sg-0a";
    let line = "2026-11-25T03:00:00Z recorded: eni-01 [sg-0a] (asked by CloudFormation Create req-1)";
    assert_eq!(
        said(&operations(&requests[0])[1]["Update"]),
        format!(
            "SET Owner = {owner}, State = isolating, VpcId = vpc-01, IsolationGroupId = sg-0150, \
             Interfaces = {{eni-01: [sg-0a]}}, RestoreCommands = {{eni-01: {command}}}, Protection = {{}}, Snapshots = {{}}, \
             LeaseWriter = w-1, LeaseUntil = 2026-11-25T03:00:40Z, AskedBy = CloudFormation Create req-1, \
             RecordedAt = 2026-11-25T03:00:00Z, UpdatedAt = 2026-11-25T03:00:00Z, IsolationGroupIds = {{sg-0150 sg-07a5}}, \
             AllSnapshots = if_not_exists(AllSnapshots, {{}}), History = list_append(if_not_exists(History, []), [{line}]) \
             REMOVE InstanceProfile, SnapshotsRequestedAt, ConnectionsCut, Passed, KeptReason, LeaseOnly, ReturnCount, ReturnWriter \
             IF attribute_not_exists(InstanceId) OR State = restored",
            owner = owner()
        )
    );
}

/// The first one is counted where none was, each further one on top of what was seen.
#[tokio::test]
async fn a_return_is_counted_once_by_however_many_watches() {
    let (http, seen) = wire(&[(200, "{}"), (200, "{}")]);
    let table = table(http);
    for before in [0, 2] {
        assert_eq!(table.enter(&owner(), &instance(), Entry::CountReturn(before), &stamp()).await, Ok(Written::Done));
    }
    let [first, third] = &requests(&seen)[..] else { panic!("two calls") };
    let expected = |count: &str, condition: &str| {
        format!(
            "SET ReturnCount = {count}, ReturnWriter = w-1, UpdatedAt = 2026-11-25T03:00:00Z IF Owner = {} AND State <> restored \
             AND ({condition} OR ReturnCount = {count} AND ReturnWriter = w-1)",
            owner()
        )
    };
    assert_eq!(said(first), expected("\"1\"", "attribute_not_exists(ReturnCount)"));
    assert_eq!(said(third), expected("\"3\"", "ReturnCount = \"2\""));
}

/// As the watch takes it. A record that has one is read with it.
#[tokio::test]
async fn a_lease_of_some_interfaces_names_them() {
    let mut added = originals("i-0a", one(), Prior::Ours);
    added.1.only = ["eni-01".parse().unwrap()].into();
    let (results, requests) = record(&[added], &[(200, "{}")]).await;
    assert_eq!(results, [Ok(Written::Done)]);
    let update = said(&operations(&requests[0])[1]["Update"]);
    assert!(update.contains("LeaseUntil = 2026-11-25T03:00:40Z, LeaseOnly = {eni-01}, UpdatedAt"), "{update}");
}

#[tokio::test]
async fn interfaces_are_added_to_a_record_that_is_still_its_holders() {
    let mut added = originals("i-0a", one(), Prior::Of(heir()));
    added.0.reopened = ["eni-07".parse().unwrap()].into();
    let (results, requests) = record(&[added], &[(200, "{}")]).await;
    assert_eq!(results, [Ok(Written::Done)]);
    let line =
        "2026-11-25T03:00:00Z recorded, taken over from Second: eni-01 [sg-0a] (asked by CloudFormation Create req-1)";
    assert_eq!(
        said(&operations(&requests[0])[1]["Update"]),
        format!(
            "SET Owner = {}, State = isolating, IsolationGroupId = sg-0150, LeaseWriter = w-1, \
             LeaseUntil = 2026-11-25T03:00:40Z, UpdatedAt = 2026-11-25T03:00:00Z, \
             History = list_append(if_not_exists(History, []), [{line}]), \
             Interfaces.eni-01 = if_not_exists(Interfaces.eni-01, [sg-0a]), \
             RestoreCommands.eni-01 = if_not_exists(RestoreCommands.eni-01, aws ec2 modify-network-interface-attribute \
             --network-interface-id eni-01 --groups sg-0a) REMOVE LeaseOnly ADD IsolationGroupIds {{sg-0150 sg-07a5}} \
             DELETE Passed {{eni-07}} IF Owner = {} AND State <> restored AND {NO_RIVAL}",
            owner(),
            heir()
        )
    );
    let mut direct = originals("i-0a", one(), Prior::Ours);
    direct.0.transit_group = None;
    let (_, requests) = record(&[direct], &[(200, "{}")]).await;
    let text = said(&operations(&requests[0])[1]["Update"]);
    assert!(text.ends_with(&format!(" IF Owner = {} AND State <> restored", owner())), "{text}");
}

#[tokio::test]
async fn an_interface_without_groups_is_recorded_without_a_command() {
    let bare = [("eni-01".parse().unwrap(), Groups::new())].into();
    let (_, requests) = record(&[originals("i-0a", bare, Prior::Ours)], &[(200, "{}")]).await;
    let text = said(&operations(&requests[0])[1]["Update"]);
    assert!(text.contains("Interfaces.eni-01 = if_not_exists(Interfaces.eni-01, [])"), "{text}");
    assert!(!text.contains("RestoreCommands"), "{text}");
}

#[tokio::test]
async fn many_interfaces_are_recorded_in_portions_under_the_same_conditions() {
    let many = [originals("i-0a", interfaces(60), Prior::Of(heir())), originals("i-0b", one(), Prior::None)];
    let (results, requests) = record(&many, &[(200, "{}")]).await;
    assert_eq!(results, vec![Ok(Written::Done); 2]);
    assert_eq!(written(&requests), ["i-0a i-0b", "i-0a", "i-0a"]);
    let updates: Vec<String> = requests.iter().map(|request| said(&operations(request)[1]["Update"])).collect();
    for (n, (holder, interfaces)) in [(heir(), 25), (owner(), 25), (owner(), 10)].into_iter().enumerate() {
        assert_eq!(updates[n].matches(" Interfaces.eni-").count(), interfaces, "{}", updates[n]);
        let condition = format!(" IF Owner = {holder} AND State <> restored AND {NO_RIVAL}");
        assert!(updates[n].ends_with(&condition), "{}", updates[n]);
    }
    // One that is put whole takes them all.
    let (_, requests) = record(&[originals("i-0a", interfaces(60), Prior::None)], &[(200, "{}")]).await;
    assert_eq!(requests.len(), 1);
    // After a refusal the other portions are left.
    let lost = cancelled(&["None", "ConditionalCheckFailed"]);
    let (results, requests) = record(&[originals("i-0a", interfaces(60), Prior::Ours)], &[(400, &lost)]).await;
    assert_eq!((results, requests.len()), (vec![Ok(Written::Lost)], 1));
}

#[tokio::test]
async fn nothing_is_recorded_for_a_request_that_has_been_overtaken() {
    let reasons = cancelled(&["ConditionalCheckFailed", "None", "ConditionalCheckFailed", "TransactionConflict"]);
    let (results, requests) = record(&three(), &[(400, &reasons)]).await;
    assert_eq!((results, requests.len()), (vec![Ok(Written::Overtaken); 3], 1));
}

#[tokio::test]
async fn one_that_is_lost_is_left_out_and_the_others_are_recorded() {
    let reasons = cancelled(&["None", "None", "ConditionalCheckFailed", "None"]);
    let (results, requests) = record(&three(), &[(400, &reasons), (200, "{}")]).await;
    assert_eq!(results, [Ok(Written::Done), Ok(Written::Lost), Ok(Written::Done)]);
    assert_eq!(written(&requests), ["i-0a i-0b i-0c", "i-0a i-0c"]);
    let all = cancelled(&["None", "ConditionalCheckFailed", "ConditionalCheckFailed", "ConditionalCheckFailed"]);
    assert_eq!(record(&three(), &[(400, &all)]).await.0, vec![Ok(Written::Lost); 3]);
}

#[tokio::test]
async fn one_that_is_refused_is_named_and_the_others_are_recorded() {
    let reasons = cancelled(&["None", "None", "None", "ValidationError"]);
    let (results, requests) = record(&three(), &[(400, &reasons), (200, "{}")]).await;
    assert_eq!(results[..2], [Ok(Written::Done), Ok(Written::Done)]);
    let error = results[2].clone().unwrap_err();
    assert_eq!(
        (error.action, error.fault, error.code.as_str()),
        ("dynamodb:TransactWriteItems", Fault::Refused, "ValidationError")
    );
    assert_eq!(written(&requests), ["i-0a i-0b i-0c", "i-0a i-0b"]);
}

#[tokio::test]
async fn a_refusal_without_reasons_is_split_until_it_names_the_one_it_is_about() {
    let invalid = r#"{"__type":"com.amazon.coral.validate#ValidationException","message":"m"}"#;
    // All; the first; the other two; the second; the third.
    let answers = [(400, invalid), (200, "{}"), (400, invalid), (400, invalid), (200, "{}")];
    let (results, requests) = record(&three(), &answers).await;
    assert_eq!(written(&requests), ["i-0a i-0b i-0c", "i-0a", "i-0b i-0c", "i-0b", "i-0c"]);
    assert_eq!((&results[0], &results[2]), (&Ok(Written::Done), &Ok(Written::Done)));
    assert_eq!(results[1].clone().unwrap_err().code, "ValidationException");
    // What has nothing to do with any of them is not split.
    let denied = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"m"}"#;
    let (results, requests) = record(&three(), &[(400, denied)]).await;
    assert_eq!(requests.len(), 1);
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().fault == Fault::Denied));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_of_transactions_passes_or_is_a_throttled_call() {
    for conflict in [["TransactionConflict", "None", "None", "None"], ["None", "None", "TransactionConflict", "None"]] {
        let reasons = cancelled(&conflict);
        let (results, requests) = record(&three(), &[(400, &reasons), (400, &reasons), (200, "{}")]).await;
        assert_eq!((results, requests.len()), (vec![Ok(Written::Done); 3], 3));
        let (results, requests) = record(&three(), &[(400, &reasons)]).await;
        assert_eq!(requests.len(), 6);
        let error = results[0].clone().unwrap_err();
        assert_eq!((error.fault, error.code.as_str()), (Fault::Throttled, "TransactionConflict"));
        assert!(results.iter().all(|result| *result == results[0]));
    }
    // One that is lost meanwhile is not asked for again.
    let reasons = cancelled(&["None", "ConditionalCheckFailed", "TransactionConflict", "None"]);
    let (results, requests) = record(&three(), &[(400, &reasons), (200, "{}")]).await;
    assert_eq!(results, [Ok(Written::Lost), Ok(Written::Done), Ok(Written::Done)]);
    assert_eq!(written(&requests), ["i-0a i-0b i-0c", "i-0b i-0c"]);
}

/// https://github.com/aws/aws-sdk-java-v2/issues/2518
#[tokio::test]
async fn a_transaction_whose_first_try_is_still_under_way_is_a_throttled_call() {
    let in_progress = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionInProgressException","message":"m"}"#;
    let (results, requests) = record(&three(), &[(400, in_progress)]).await;
    assert_eq!(requests.len(), 1, "it is not split");
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().fault == Fault::Throttled), "{results:?}");
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_set_aside_whole_and_never_overwritten() {
    let item = json!({"InstanceId": {"S": "i-0a"}, "State": {"S": "melted"}, "UpdatedAt": {"S": "then"}});
    let found = json!({"Responses": {"records": [item]}}).to_string();
    let (http, seen) = wire(&[(200, &found), (200, "{}"), (200, "{}")]);
    let table = table(http);
    let both = [originals("i-0a", one(), Prior::Unreadable), originals("i-0b", one(), Prior::None)];
    let results = table.record(&owner(), "req-1", &both, &stamp()).await;
    assert_eq!(results, vec![Ok(Written::Done); 2]);
    let requests = requests(&seen);
    assert_eq!(requests[0]["RequestItems"]["records"]["ConsistentRead"], json!(true));
    let transaction = requests.iter().find(|request| request["TransactItems"][2]["Put"].is_object()).unwrap();
    let (copy, put) = (&operations(transaction)[1]["Put"], &operations(transaction)[2]["Put"]);
    let mut expected = item.clone();
    expected["InstanceId"]["S"] = json!("unreadable:i-0a:2026-11-25T03:00:00Z");
    assert_eq!((&copy["Item"], said(copy).as_str()), (&expected, " IF attribute_not_exists(InstanceId)"));
    assert_eq!(said(put), " IF UpdatedAt = then");
    assert_eq!(put["Item"]["InstanceId"], json!({"S": "i-0a"}));
    assert_eq!(put["Item"]["State"], json!({"S": "isolating"}));
    assert!(shown(&put["Item"]["History"]).contains("recorded, in place of an item that could not be read: eni-01"));
    // It is gone, or has become readable.
    let readable = json!({"Responses": {"records": [item_of("i-0a", "kept")]}}).to_string();
    for found in ["{}", &readable] {
        let (http, seen) = wire(&[(200, found)]);
        let results = super::table(http).record(&owner(), "req-1", &both[..1], &stamp()).await;
        assert_eq!((results, seen.lock().unwrap().len()), (vec![Ok(Written::Lost)], 1));
    }
}

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
        metadata_service: true,
    }
}

#[tokio::test]
async fn prior_values_are_saved_in_one_write_that_never_overwrites_one() {
    let (http, seen) = wire(&[(200, "{}")]);
    let saved = table(http).enter(&owner(), &instance(), Entry::SaveProtection(&prior()), &stamp()).await;
    assert_eq!((saved, seen.lock().unwrap().len()), (Ok(Written::Done), 1));
    let text = said(&requests(&seen)[0]);
    assert!(text.ends_with(&format!(" IF Owner = {} AND State <> restored AND State <> restoring", owner())), "{text}");
    for set in [
        "Protection.TerminationProtection = if_not_exists(Protection.TerminationProtection, false)",
        "Protection.ShutdownBehaviour = if_not_exists(Protection.ShutdownBehaviour, terminate)",
        "Protection.vol-0a = if_not_exists(Protection.vol-0a, /dev/sda1)",
        "Protection.AutoScalingGroup = if_not_exists(Protection.AutoScalingGroup, web)",
        "Protection.MetadataService = if_not_exists(Protection.MetadataService, true)",
        "RestoreCommands.metadata-service = if_not_exists(RestoreCommands.metadata-service, \
         aws ec2 modify-instance-metadata-options --instance-id i-0a --http-endpoint enabled)",
        "InstanceProfile = if_not_exists(InstanceProfile, arn:web)",
        "RestoreCommands.termination-protection = if_not_exists(RestoreCommands.termination-protection, \
         aws ec2 modify-instance-attribute --instance-id i-0a --no-disable-api-termination)",
    ] {
        assert!(text.contains(set), "{text}");
    }
    let (http, _) = wire(&[(400, LOST)]);
    assert_eq!(
        table(http).enter(&owner(), &instance(), Entry::SaveProtection(&prior()), &stamp()).await,
        Ok(Written::Lost)
    );
}

#[tokio::test]
async fn many_volumes_are_saved_in_portions() {
    let volumes = |count: usize| (0..count).map(|n| (format!("vol-{n:017x}").parse().unwrap(), format!("/dev/sd{n}")));
    let many = Protection { volumes: volumes(31).collect(), ..prior() };
    let (http, seen) = wire(&[(200, "{}")]);
    assert_eq!(
        table(http).enter(&owner(), &instance(), Entry::SaveProtection(&many), &stamp()).await,
        Ok(Written::Done)
    );
    let updates: Vec<String> = requests(&seen).iter().map(said).collect();
    let counts = |text: &str| updates.iter().map(|update| update.matches(text).count()).collect::<Vec<_>>();
    assert_eq!(counts(" Protection.vol-"), [25, 6]);
    assert_eq!(counts(" RestoreCommands.vol-"), [25, 6]);
    assert_eq!(counts(" InstanceProfile ="), [1, 0]);
    let (http, seen) = wire(&[(400, LOST)]);
    assert_eq!(
        table(http).enter(&owner(), &instance(), Entry::SaveProtection(&many), &stamp()).await,
        Ok(Written::Lost)
    );
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn snapshots_are_asked_for_by_the_first_and_saved_beside_those_that_are_there() {
    let (http, seen) = wire(&[(200, "{}"), (400, LOST), (200, "{}")]);
    let table = table(http);
    assert_eq!(
        table.enter(&owner(), &instance(), Entry::RequestSnapshots(&BTreeMap::new()), &stamp()).await,
        Ok(Written::Done)
    );
    assert_eq!(
        table.enter(&owner(), &instance(), Entry::RequestSnapshots(&BTreeMap::new()), &stamp()).await,
        Ok(Written::Lost)
    );
    let taken = [("vol-0a".parse().unwrap(), "snap-0a".parse().unwrap())].into();
    assert_eq!(table.enter(&owner(), &instance(), Entry::SaveSnapshots(&taken), &stamp()).await, Ok(Written::Done));
    let requests = requests(&seen);
    let held = format!("Owner = {} AND State <> restored", owner());
    assert_eq!(
        said(&requests[0]),
        format!(
            "SET SnapshotsRequestedAt = 2026-11-25T03:00:00Z, UpdatedAt = 2026-11-25T03:00:00Z \
             IF {held} AND attribute_not_exists(SnapshotsRequestedAt) AND Snapshots = {{}}"
        )
    );
    let line = "2026-11-25T03:00:00Z snapshots: snap-0a of vol-0a (asked by CloudFormation Create req-1)";
    assert_eq!(
        said(&requests[2]),
        format!(
            "SET UpdatedAt = 2026-11-25T03:00:00Z, History = list_append(if_not_exists(History, []), [{line}]), \
             Snapshots.vol-0a = if_not_exists(Snapshots.vol-0a, snap-0a), \
             AllSnapshots.snap-0a = if_not_exists(AllSnapshots.snap-0a, vol-0a) REMOVE SnapshotsRequestedAt IF {held}"
        )
    );
}

#[tokio::test]
async fn many_snapshots_are_saved_in_portions_and_asked_for_until_the_last() {
    let many = (0..60).map(|n| (format!("vol-{n:017x}").parse().unwrap(), format!("snap-{n:017x}").parse().unwrap()));
    let (http, seen) = wire(&[(200, "{}")]);
    assert_eq!(
        table(http).enter(&owner(), &instance(), Entry::SaveSnapshots(&many.collect()), &stamp()).await,
        Ok(Written::Done)
    );
    let updates: Vec<String> = requests(&seen).iter().map(said).collect();
    let is_last: Vec<bool> = updates.iter().map(|update| update.contains("REMOVE SnapshotsRequestedAt")).collect();
    assert_eq!(is_last, [false, false, true]);
}

fn marking<'a>(owner: &'a Owner, instance: &'a InstanceId, cut: Option<&'a Cut>, stamp: &'a Stamp<'a>) -> Marking<'a> {
    let (from, state) = (State::Isolating, State::Isolated);
    Marking { owner, instance, from, state, reason: None, cut, lease: None, stamp }
}

#[tokio::test]
async fn a_lost_condition_is_an_outcome_not_a_failure() {
    let (http, _) = wire(&[(400, LOST)]);
    assert_eq!(table(http).mark(&marking(&owner(), &instance(), None, &stamp())).await, Ok(Written::Lost));
}

#[tokio::test(start_paused = true)]
async fn an_update_waits_for_a_transaction_that_has_its_item() {
    let conflict = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"m"}"#;
    let (http, seen) = wire(&[(400, conflict), (400, conflict), (200, "{}")]);
    assert_eq!(table(http).mark(&marking(&owner(), &instance(), None, &stamp())).await, Ok(Written::Done));
    assert_eq!(seen.lock().unwrap().len(), 3);
    let (http, seen) = wire(&[(400, conflict)]);
    let error = table(http).mark(&marking(&owner(), &instance(), None, &stamp())).await.unwrap_err();
    assert_eq!((error.fault, seen.lock().unwrap().len()), (Fault::Throttled, 6));
}

#[tokio::test]
async fn a_record_is_marked_only_in_the_state_it_was_seen_in() {
    let (http, seen) = wire(&[(200, "{}")]);
    let table = table(http);
    let (owner, instance, stamp) = (owner(), instance(), stamp());
    let whole = Cut { whole: true, interfaces: BTreeSet::new() };
    let part = Cut { whole: false, interfaces: ["eni-01".parse().unwrap()].into() };
    let isolated = marking(&owner, &instance, Some(&whole), &stamp);
    let kept = Marking {
        from: State::Restoring,
        state: State::Kept,
        reason: Some("the stack is rolling back"),
        cut: Some(&part),
        ..isolated.clone()
    };
    let restoring =
        Marking { from: State::Kept, state: State::Restoring, cut: None, lease: Some(lease()), ..isolated.clone() };
    let restored = Marking {
        from: State::Restoring,
        state: State::Restored,
        reason: Some("eni-01 was left alone"),
        cut: None,
        ..isolated.clone()
    };
    for marking in [&isolated, &kept, &restoring, &restored] {
        assert_eq!(table.mark(marking).await, Ok(Written::Done));
    }
    let requests = requests(&seen);
    assert_eq!(requests[0]["Key"], json!({"InstanceId": {"S": "i-0a"}}));
    let expected = |state: &str, said: &str, rest: &str, from: &str| {
        let line = format!("2026-11-25T03:00:00Z {said} (asked by CloudFormation Create req-1)");
        format!(
            "SET State = {state}, UpdatedAt = 2026-11-25T03:00:00Z, \
             History = list_append(if_not_exists(History, []), [{line}]){rest} IF Owner = {owner} AND State = {from}"
        )
    };
    let bare = " REMOVE KeptReason, LeaseWriter, LeaseUntil, LeaseOnly";
    for (n, expected) in [
        expected("isolated", "isolated, passed the transit group", &format!(", ConnectionsCut = true{bare}, Passed"), "isolating"),
        expected(
            "kept",
            "kept, connections not cut: the stack is rolling back",
            ", KeptReason = the stack is rolling back, ConnectionsCut = false, Passed = {eni-01} REMOVE LeaseWriter, LeaseUntil, LeaseOnly",
            "restoring",
        ),
        expected(
            "restoring",
            "restoring",
            ", LeaseWriter = w-1, LeaseUntil = 2026-11-25T03:00:40Z REMOVE KeptReason, LeaseOnly",
            "kept",
        ),
        expected("restored", "restored: eni-01 was left alone", bare, "restoring"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(said(&requests[n]), expected);
    }
}

fn wants() -> Desired {
    Desired::Isolated(Box::new(Wants {
        instances: vec!["i-0b".parse().unwrap(), "i-0a".parse().unwrap()],
        vpc: "vpc-01".parse().unwrap(),
        isolation_group: "sg-0150".parse().unwrap(),
        forensic_group: None,
        makes_host: true,
        forensic_ports: [22].into(),
        revoke_roles: ["web".to_owned()].into(),
        snapshot_volumes: true,
        lock_days: 30,
        on_removal: Default::default(),
        on_rollback: Default::default(),
        allow_partial: false,
        protect: true,
        detach_profile: false,
        disable_metadata: true,
        purpose: "test".to_owned(),
        cut_connections: false,
        transit_group: None,
        hold_seconds: 0,
        watch: Watch::Isolate,
    }))
}

fn intent(request: &str, desired: &Desired) -> Value {
    let desired = serde_json::to_string(desired).unwrap();
    json!({"InstanceId": {"S": "owner:x"}, "Owner": {"S": owner().to_string()}, "RequestId": {"S": request}, "Desired": {"S": desired},
        "IssuedAt": {"S": "2026-11-25T02:59:59Z"}, "Held": {"SS": ["i-0a", "i-0c"]}})
}

#[tokio::test]
async fn an_intent_says_what_is_wanted_and_which_instances_may_be_held() {
    let answer = json!({"Attributes": intent("req-1", &wants())}).to_string();
    let (http, seen) = wire(&[(200, &answer)]);
    let table = table(http);
    let issued = Some("2026-11-25T02:59:59Z".parse().unwrap());
    let (owner, wants) = (owner(), wants());
    let asked = Asked { owner: &owner, request_id: "req-1", issued, desired: &wants };
    let now_wanted = table.write_intent(&asked, now()).await.unwrap();
    assert_eq!((now_wanted.request_id.as_str(), now_wanted.issued, &now_wanted.desired), ("req-1", issued, &wants));
    // What an earlier request held is held still.
    assert_eq!(now_wanted.held, ["i-0a", "i-0c"].map(|id| id.parse().unwrap()).into());
    let restored = Asked { issued: None, desired: &Desired::Restored, ..asked };
    table.write_intent(&restored, now()).await.unwrap();
    let requests = requests(&seen);
    assert_eq!(requests[0]["ReturnValues"], "ALL_NEW");
    let first = "attribute_not_exists(Requests) OR NOT contains(Requests, req-1) OR RequestId = req-1 AND attribute_not_exists(KeptReason)";
    let sets = |json: &str| {
        format!("SET Owner = {owner}, RequestId = req-1, Desired = {json}, UpdatedAt = 2026-11-25T03:00:00Z")
    };
    assert_eq!(
        said(&requests[0]),
        format!(
            "{}, IssuedAt = 2026-11-25T02:59:59Z REMOVE KeptReason ADD Requests {{req-1}}, Held {{i-0b i-0a}} \
             IF ({first} OR IssuedAt < 2026-11-25T02:59:59Z) AND (attribute_not_exists(IssuedAt) OR IssuedAt <= 2026-11-25T02:59:59Z)",
            sets(&serde_json::to_string(&wants).unwrap())
        )
    );
    assert_eq!(
        said(&requests[1]),
        format!("{} REMOVE KeptReason ADD Requests {{req-1}} IF ({first})", sets("\"Restored\""))
    );
}

/// A Delete that keeps what was never asked for is what was asked last.
#[tokio::test]
async fn why_it_was_kept_is_written_to_the_intent_or_to_a_first_one() {
    let lost = r#"{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "no"}"#;
    let owner = owner();
    let issued = Some("2026-11-25T02:59:59Z".parse().unwrap());
    let asked = Asked { owner: &owner, request_id: "req-1", issued, desired: &Desired::Restored };
    // What was issued before it and comes later changes nothing; if that came first, it was issued after it.
    let kept = "SET KeptReason = it rolls back, UpdatedAt = 2026-11-25T03:00:00Z, IssuedAt = 2026-11-25T02:59:59Z \
                IF attribute_exists(InstanceId) AND (attribute_not_exists(IssuedAt) OR IssuedAt <= 2026-11-25T02:59:59Z)";
    let first = format!(
        "SET Owner = {owner}, RequestId = req-1, Desired = \"Restored\", UpdatedAt = 2026-11-25T03:00:00Z, \
         IssuedAt = 2026-11-25T02:59:59Z REMOVE KeptReason ADD Requests {{req-1}} IF attribute_not_exists(InstanceId)"
    );
    for (answers, expected) in [
        (vec![(200, "{}")], vec![kept]),
        (vec![(400, lost), (200, "{}")], vec![kept, &first]),
        (vec![(400, lost), (400, lost), (200, "{}")], vec![kept, &first, kept]),
    ] {
        let (http, seen) = wire(&answers);
        table(http).write_kept(&asked, "it rolls back", now()).await.unwrap();
        assert_eq!(requests(&seen).iter().map(said).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_superseded_intent_is_answered_with_what_is_wanted_now() {
    let found = intent("req-2", &Desired::Restored);
    let kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
    let with_item = json!({"__type": kind, "message": "no", "Item": found}).to_string();
    let item = json!({"Responses": {"records": [found]}}).to_string();
    let owner = owner();
    let asked = Asked { owner: &owner, request_id: "req-1", issued: None, desired: &wants() };
    for answers in [vec![(400, with_item.as_str())], vec![(400, LOST), (200, item.as_str())]] {
        let (http, seen) = wire(&answers);
        let now_wanted = table(http).write_intent(&asked, now()).await.unwrap();
        assert_eq!((now_wanted.request_id.as_str(), now_wanted.desired), ("req-2", Desired::Restored));
        assert_eq!(seen.lock().unwrap().len(), answers.len());
    }
    let (http, _) = wire(&[(400, LOST), (200, "{}")]);
    assert_eq!(table(http).write_intent(&asked, now()).await.unwrap_err().fault, Fault::Garbled);
}

/// Somebody has edited it. What it says is not lost, and what can be read of it is held still.
#[tokio::test]
async fn an_intent_that_cannot_be_read_is_mended_and_what_stood_there_is_kept() {
    let known: BTreeSet<InstanceId> = ["i-0a", "i-0b"].map(|id| id.parse().unwrap()).into();
    let owner = owner();
    let mend = |name: &'static str, value: Option<Value>, known: Option<BTreeSet<InstanceId>>| {
        let owner = owner.clone();
        async move {
            let mut spoilt = intent("req-1", &wants());
            match value {
                Some(value) => spoilt[name] = value,
                None => drop(spoilt.as_object_mut().unwrap().remove(name)),
            }
            let item = json!({"Responses": {"records": [spoilt]}}).to_string();
            let (http, seen) = wire(&[(200, item.as_str()), (200, "{}")]);
            let written = table(http).mend(&owner, known.as_ref()).await.unwrap();
            let said = requests(&seen).get(1).map(said);
            assert_eq!(written, if said.is_some() { Written::Done } else { Written::Lost });
            said
        }
    };
    let there = "attribute_exists(InstanceId) AND";
    for (held, kept) in [
        (json!({"SS": ["i-0c", "web-1"]}), "{i-0a i-0b i-0c}"),
        (json!({"S": "i-0c, web-1"}), "{i-0a i-0b i-0c}"),
        (json!({"L": [{"S": "i-0c "}, {"N": "1"}]}), "{i-0a i-0b i-0c}"),
        (json!({"BOOL": true}), "{i-0a i-0b}"),
    ] {
        let text = mend("Held", Some(held.clone()), Some(known.clone())).await.unwrap();
        let before = shown(&held);
        assert_eq!(text, format!("SET HeldBefore = {before}, Held = {kept} IF {there} Held = {before}"));
        // A restore must not take what cannot be read for nothing.
        assert_eq!(mend("Held", Some(held), None).await, None);
    }
    let text = |name: &str, before: &str, value: &str| match value {
        "" => Some(format!("SET {name}Before = {before} REMOVE {name} IF {there} {name} = {before}")),
        value => Some(format!("SET {name}Before = {before}, {name} = {value} IF {there} {name} = {before}")),
    };
    for known in [None, Some(known)] {
        let mend = |name, value| mend(name, value, known.clone());
        // What sorts after any date, and what is compared with no text at all, would keep out every later request.
        assert_eq!(mend("IssuedAt", Some(json!({"S": "never"}))).await, text("IssuedAt", "never", ""));
        assert_eq!(mend("IssuedAt", Some(json!({"N": "9"}))).await, text("IssuedAt", "\"9\"", ""));
        assert_eq!(mend("Requests", Some(json!({"S": "req-1"}))).await, text("Requests", "req-1", ""));
        assert_eq!(mend("Owner", Some(json!({"S": "web"}))).await, text("Owner", "web", &owner.to_string()));
        assert_eq!(mend("RequestId", Some(json!({"N": "1"}))).await, text("RequestId", "\"1\"", "unreadable"));
        let absent = format!("SET Desired = unreadable IF {there} attribute_not_exists(Desired)");
        assert_eq!(mend("Desired", None).await, Some(absent));
        // Nothing is written of one that can be read.
        assert_eq!(mend("KeptReason", Some(json!({"S": "why"}))).await, None);
    }
    let (http, seen) = wire(&[(200, r#"{"Responses":{},"UnprocessedKeys":{}}"#)]);
    assert_eq!((table(http).mend(&owner, None).await, requests(&seen).len()), (Ok(Written::Lost), 1));
}

/// What cannot be read is told as such, also where it comes back from a write.
#[tokio::test]
async fn an_intent_with_an_issue_time_that_is_none_is_not_read_as_one_without() {
    for issued in [json!({"N": "9"}), json!({"S": "never"})] {
        let mut spoilt = intent("req-2", &wants());
        spoilt["IssuedAt"] = issued;
        let kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        let answer = json!({"__type": kind, "message": "no", "Item": spoilt}).to_string();
        let (http, _) = wire(&[(400, answer.as_str())]);
        let issued = Some(now());
        let owner = owner();
        let asked = Asked { owner: &owner, request_id: "req-3", issued, desired: &Desired::Restored };
        assert_eq!(table(http).write_intent(&asked, now()).await.unwrap_err().fault, Fault::Refused);
    }
}

/// An import or a person made a list of the set: DynamoDB adds nothing to it.
#[tokio::test]
async fn a_list_of_open_incidents_that_is_none_keeps_nobody_from_isolating() {
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let reasons =
        [json!({"Code": "None"}), json!({"Code": "ValidationError", "Message": "m"}), json!({"Code": "None"})];
    let refused = json!({"__type": kind, "Message": "cancelled", "CancellationReasons": reasons}).to_string();
    let invalid = r#"{"__type":"com.amazon.coral.validate#ValidationException","message":"incorrect data type"}"#;
    let open = json!({"InstanceId": {"S": "incidents:open"}, "Owners": {"L": [{"S": "aa"}]}});
    let found = json!({"Responses": {"records": [open]}, "UnprocessedKeys": {}}).to_string();
    let (http, seen) = wire(&[(400, &refused), (200, "{}"), (400, invalid), (200, &found), (200, "{}")]);
    let originals = [originals("i-0a", interfaces(1), Prior::None)];
    let results = table(http).record(&owner(), "req-1", &originals, &stamp()).await;
    assert_eq!(results, [Ok(Written::Done)]);
    let sent = requests(&seen);
    let count = |request: &Value| request["TransactItems"].as_array().unwrap().len();
    assert_eq!((sent.len(), count(&sent[0]), count(&sent[1])), (5, 3, 2));
    assert_eq!(sent[4]["Key"], json!({"InstanceId": {"S": "incidents:open"}}));
    let digest = owner().digest();
    let mut all = ["aa", digest.as_str()];
    all.sort_unstable();
    let values = sent[4]["ExpressionAttributeValues"].as_object().unwrap();
    assert!(values.values().any(|value| *value == json!({"SS": all})), "{values:?}");
    assert!(values.values().any(|value| *value == json!({"L": [{"S": "aa"}]})), "what stood there is kept: {values:?}");
}

#[tokio::test]
async fn restored_instances_are_taken_off_the_intent_only_if_it_is_still_the_requests() {
    let (http, seen) = wire(&[(200, "{}"), (400, LOST)]);
    let table = table(http);
    let restored: BTreeSet<InstanceId> = ["i-0a", "i-0b"].map(|id| id.parse().unwrap()).into();
    assert_eq!(table.release(&owner(), "req-1", &restored, false).await, Ok(()));
    assert_eq!(table.release(&owner(), "req-1", &restored, false).await, Ok(()));
    assert_eq!(table.release(&owner(), "req-1", &BTreeSet::new(), false).await, Ok(()));
    let requests = requests(&seen);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0]["Key"], json!({"InstanceId": {"S": format!("owner:{}", owner().digest())}}));
    assert_eq!(said(&requests[0]), "DELETE Held {i-0a i-0b} IF RequestId = req-1");
}

#[tokio::test]
async fn the_last_of_an_incident_is_taken_off_and_the_incident_off_the_open_ones_at_once() {
    let release = |held: &'static [&'static str], answers: &'static [(u16, &'static str)]| async move {
        let (http, seen) = wire(answers);
        let held = held.iter().map(|id| id.parse().unwrap()).collect();
        assert_eq!(table(http).release(&owner(), "req-1", &held, true).await, Ok(()));
        requests(&seen)
    };
    let closed = release(&["i-0a", "i-0b"], &[(200, "{}")]).await;
    let updates: Vec<&Value> = closed[0]["TransactItems"].as_array().unwrap().iter().map(|of| &of["Update"]).collect();
    let key = |key: &str| json!({"InstanceId": {"S": key}});
    assert_eq!((closed.len(), updates.len()), (1, 2));
    assert_eq!(updates[0]["Key"], key(&format!("owner:{}", owner().digest())));
    let condition = "IF RequestId = req-1 AND (attribute_not_exists(Held) OR Held = {i-0a i-0b})";
    assert_eq!(said(updates[0]), format!("REMOVE Held {condition}"));
    assert_eq!(updates[1]["Key"], key("incidents:open"));
    assert_eq!(said(updates[1]), format!("DELETE Owners {{{}}} IF ", owner().digest()));
    // One that holds nothing is over as well.
    let nothing = release(&[], &[(200, "{}")]).await;
    let intent = &nothing[0]["TransactItems"][0]["Update"];
    assert_eq!(said(intent), "REMOVE Held IF RequestId = req-1 AND attribute_not_exists(Held)");
    // It holds more, or another request has come: it stays open.
    const MORE: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"no",
        "CancellationReasons":[{"Code":"ConditionalCheckFailed"},{"Code":"None"}]}"#;
    let more = release(&["i-0a"], &[(400, MORE), (200, "{}")]).await;
    assert_eq!((more.len(), said(&more[1]).as_str()), (2, "DELETE Held {i-0a} IF RequestId = req-1"));
    assert_eq!(release(&[], &[(400, MORE)]).await.len(), 1);
}

/// An intent that cannot be read is found by what can be read of it.
#[tokio::test]
async fn open_incidents_are_read_by_a_list_and_their_intents() {
    let found = |items: &[Value]| json!({"Responses": {"records": items}, "UnprocessedKeys": {}}).to_string();
    let open = json!({"InstanceId": {"S": "incidents:open"}, "Owners": {"SS": ["aa", owner().digest()]}});
    let mut whole = intent("req-1", &Desired::Restored);
    whole["InstanceId"]["S"] = json!(format!("owner:{}", owner().digest()));
    let mut broken = whole.clone();
    (broken["InstanceId"]["S"], broken["Held"]) = (json!("owner:aa"), json!({"L": [{"S": "i-0d"}, {"N": "1"}]}));
    let intents = found(&[whole.clone(), broken]);
    let records = found(&[item_of("i-0a", "kept"), item_of("i-0d", "isolated")]);
    let (http, seen) = wire(&[(200, &found(&[open])), (200, &intents), (200, &records)]);
    let items = table(http).incidents(None).await.unwrap();
    let asked = requests(&seen);
    assert_eq!(keys(&asked[0]), ["incidents:open"]);
    let own = format!("owner:{}", owner().digest());
    assert_eq!(keys(&asked[1]).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["owner:aa", own.as_str()]));
    assert_eq!(keys(&asked[2]), ["i-0a", "i-0c", "i-0d"]);
    assert_eq!(items.records.keys().map(InstanceId::as_str).collect::<Vec<_>>(), ["i-0a", "i-0d"]);
    assert_eq!(items.intents.keys().collect::<Vec<_>>(), [&owner().digest()]);
    let reason = "attribute Held is no set of strings";
    assert_eq!(items.unreadable, [("owner:aa".to_owned(), reason.to_owned())].into());

    // One that is listed and is not there is told.
    let (http, _) = wire(&[
        (200, &found(&[json!({"InstanceId": {"S": "incidents:open"}, "Owners": {"SS": ["aa"]}})])),
        (200, &found(&[])),
    ]);
    let items = table(http).incidents(None).await.unwrap();
    assert_eq!(items.unreadable, [("owner:aa".to_owned(), "it is not in the table".to_owned())].into());

    // One is read without the list, and a table without one has no open incident.
    let (http, seen) = wire(&[(200, &found(&[whole])), (200, &found(&[item_of("i-0a", "kept")]))]);
    let items = table(http).incidents(Some(&owner())).await.unwrap();
    assert_eq!((keys(&requests(&seen)[0]), items.records.len()), (vec![own.as_str()], 1));
    let (http, seen) = wire(&[(200, &found(&[]))]);
    assert_eq!(table(http).incidents(None).await, Ok(ec2_isolation::ports::Items::default()));
    assert_eq!(requests(&seen).len(), 1);
    // A list that cannot be read is no list of nothing.
    let (http, _) = wire(&[(200, &found(&[json!({"InstanceId": {"S": "incidents:open"}, "Owners": {"S": "aa"}})]))]);
    assert_eq!(table(http).incidents(None).await.unwrap_err().fault, Fault::Garbled);
    // One that has recorded nothing is listed by itself.
    let (http, seen) = wire(&[(200, "{}")]);
    assert_eq!(table(http).open(&owner()).await, Ok(()));
    let update = &requests(&seen)[0];
    assert_eq!(update["Key"], json!({"InstanceId": {"S": "incidents:open"}}));
    assert_eq!(said(update), format!("ADD Owners {{{}}} IF ", owner().digest()));
}

#[tokio::test]
async fn what_is_handed_on_is_added_to_what_another_owner_holds_if_it_ever_asked_for_anything() {
    let (http, seen) = wire(&[(200, "{}"), (400, LOST)]);
    let table = table(http);
    let left: BTreeSet<InstanceId> = ["i-0a", "i-0b"].map(|id| id.parse().unwrap()).into();
    assert_eq!(table.hold(&owner(), &left).await, Ok(()));
    assert_eq!(table.hold(&owner(), &left).await, Ok(()));
    assert_eq!(table.hold(&owner(), &BTreeSet::new()).await, Ok(()));
    let requests = requests(&seen);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0]["Key"], json!({"InstanceId": {"S": format!("owner:{}", owner().digest())}}));
    assert_eq!(said(&requests[0]), "ADD Held {i-0a i-0b} IF attribute_exists(InstanceId)");
}

/// A record with most of what there is.
fn item_of(id: &str, state: &str) -> Value {
    json!({
        "InstanceId": {"S": id}, "Owner": {"S": "arn|Isolation"}, "State": {"S": state}, "VpcId": {"S": "vpc-01"},
        "IsolationGroupId": {"S": "sg-0150"}, "RecordedAt": {"S": "2026-11-25T03:00:00Z"},
        "Interfaces": {"M": {"eni-01": {"L": [{"S": "sg-0a"}]}}}, "Snapshots": {"M": {"vol-0a": {"S": "snap-0a"}}},
        "SnapshotsRequestedAt": {"S": "2026-11-25T03:00:00Z"}, "Passed": {"SS": ["eni-01"]},
        "LeaseWriter": {"S": "w-1"}, "LeaseUntil": {"S": "2026-11-25T03:00:40Z"}, "InstanceProfile": {"S": "arn:web"},
        "Protection": {"M": {"TerminationProtection": {"BOOL": false}, "ShutdownBehaviour": {"S": "terminate"},
            "AutoScalingGroup": {"S": "web"}, "MetadataService": {"BOOL": true}, "vol-0a": {"S": "/dev/sda1"}}},
    })
}

#[tokio::test]
async fn records_are_scanned_consistently_over_all_pages_and_what_cannot_be_read_is_named() {
    let aside = json!({"InstanceId": {"S": "unreadable:i-0c:2026-11-25T03:00:00Z"}});
    let trigger = json!({"InstanceId": {"S": "trigger:0123456789ab"}, "State": {"S": "asked"}});
    let mut kept = item_of("i-0a", "kept");
    kept["LeaseOnly"] = json!({"SS": ["eni-01"]});
    let open = json!({"InstanceId": {"S": "incidents:open"}, "Owners": {"SS": ["aa"]}});
    let first = json!({"Items": [kept, aside, trigger, open], "LastEvaluatedKey": {"InstanceId": {"S": "i-0a"}}});
    let second = json!({"Items": [item_of("i-0b", "melted")]});
    let (http, seen) = wire(&[(200, &first.to_string()), (200, &second.to_string())]);
    let items = table(http).scan().await.unwrap();
    assert!(requests(&seen).iter().all(|request| request["ConsistentRead"] == json!(true)));
    let record = &items.records[&instance()];
    let leased = Lease { only: ["eni-01".parse().unwrap()].into(), ..lease() };
    assert_eq!((record.state, record.recorded_at, record.lease.clone()), (State::Kept, now(), Some(leased)));
    let taken = [("vol-0a".parse().unwrap(), "snap-0a".parse().unwrap())].into();
    assert_eq!(record.snapshots, Snapshots { taken, requested: true });
    assert_eq!((&record.protection, &record.passed), (&prior(), &["eni-01".parse().unwrap()].into()));
    // An item without the list names one group at least.
    assert_eq!(record.isolation_groups, groups(&["sg-0150"]));
    assert_eq!(items.unreadable, [("i-0b".to_owned(), "attribute State is \"melted\"".to_owned())].into());
}

#[tokio::test]
async fn of_an_intent_everything_that_can_be_read_is_read() {
    // As a function wrote it that did not know these.
    let mut older = serde_json::to_value(wants()).unwrap();
    for name in ["lock_days", "disable_metadata", "watch"] {
        older["Isolated"].as_object_mut().unwrap().remove(name).expect(name);
    }
    let of = |key: &str, desired: String| {
        let mut item = intent("req-1", &Desired::Restored);
        (item["InstanceId"], item["Desired"]) = (json!({"S": key}), json!({"S": desired}));
        item
    };
    let mut held_by_nobody = of("owner:c", older.to_string());
    held_by_nobody["Held"] = json!({"S": "i-0a"});
    let items = [of("owner:a", older.to_string()), of("owner:b", "{\"Melted\":1}".to_owned()), held_by_nobody];
    let (http, _) = wire(&[(200, &json!({"Items": items}).to_string())]);
    let items = table(http).scan().await.unwrap();
    let Desired::Isolated(wants) = &items.intents["a"].desired else { panic!("{:?}", items.intents) };
    assert_eq!((wants.lock_days, wants.disable_metadata, wants.protect), (0, false, true));
    assert_eq!(wants.watch, Watch::Notify);
    let unknown = &items.intents["b"];
    assert!(
        matches!(&unknown.desired, Desired::Unknown(why) if why.contains("unknown variant `Melted`")),
        "{unknown:?}"
    );
    assert_eq!(unknown.held, ["i-0a", "i-0c"].map(|id| id.parse().unwrap()).into());
    assert_eq!(items.intents.len(), 2);
    assert_eq!(items.unreadable, [("owner:c".to_owned(), "attribute Held is no set of strings".to_owned())].into());
}

/// What a `BatchGetItem` asks for.
fn keys(request: &Value) -> Vec<&str> {
    let keys = request["RequestItems"]["records"]["Keys"].as_array().unwrap();
    keys.iter().map(|key| key["InstanceId"]["S"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_owners_intent_and_records_are_read_by_their_keys_until_there_are_none_left() {
    let mut intent = intent("req-1", &Desired::Restored);
    intent["InstanceId"]["S"] = json!(format!("owner:{}", owner().digest()));
    let left = json!({"records": {"Keys": [{"InstanceId": {"S": "i-0a"}}], "ConsistentRead": true}});
    let first = json!({"Responses": {"records": [intent]}, "UnprocessedKeys": left}).to_string();
    let second = json!({"Responses": {"records": [item_of("i-0a", "kept")]}, "UnprocessedKeys": {}}).to_string();
    let (http, seen) = wire(&[(200, &first), (200, &second)]);
    let items = table(http).read(&owner(), &["i-0a", "i-0b"].map(|id| id.parse().unwrap()).into()).await.unwrap();
    let asked = requests(&seen);
    assert_eq!(asked[0]["RequestItems"]["records"]["ConsistentRead"], json!(true));
    let key = format!("owner:{}", owner().digest());
    assert_eq!((keys(&asked[0]), keys(&asked[1])), (vec![key.as_str(), "i-0a", "i-0b"], vec!["i-0a"]));
    assert_eq!(items.intents[&owner().digest()].request_id, "req-1");
    assert_eq!(items.records.keys().map(InstanceId::as_str).collect::<Vec<_>>(), ["i-0a"]);
    assert!(items.unreadable.is_empty());
    // DynamoDB gets to none of them.
    let none = json!({"Responses": {}, "UnprocessedKeys": left}).to_string();
    let (http, seen) = wire(&[(200, &none)]);
    let error = table(http).read(&owner(), &ids(1)).await.unwrap_err();
    assert_eq!((error.action, error.fault), ("dynamodb:BatchGetItem", Fault::Throttled));
    assert_eq!(seen.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn keys_are_read_a_hundred_at_a_time() {
    let (http, seen) = wire(&[(200, r#"{"Responses":{},"UnprocessedKeys":{}}"#)]);
    table(http).read(&owner(), &ids(204)).await.unwrap();
    let mut sizes: Vec<usize> = requests(&seen).iter().map(|request| keys(request).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 100, 100]);
}
