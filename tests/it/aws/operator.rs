//! What the operator's program asks of AWS, on the wire.

use std::collections::BTreeMap;

use ec2_isolation::model::{Owner, Record, State};
use ec2_isolation::operator::ports::{Archive as _, Survey as _, Takeover};
use ec2_isolation::operator::stack::{NewStack, Prepared, StackLife as _, Template};
use ec2_isolation::ports::{Fault, Stamp, Written};
use serde_json::{Value, json};

use super::{ec2, owner, stacks, table, wire};

/// A record of a stack that keeps it, with an attribute that this version does not know.
fn item() -> Value {
    json!({
        "InstanceId": {"S": "i-0a"},
        "Owner": {"S": owner().to_string()},
        "State": {"S": "kept"},
        "KeptReason": {"S": "it rolls back"},
        "VpcId": {"S": "vpc-01"},
        "IsolationGroupId": {"S": "sg-01"},
        "IsolationGroupIds": {"SS": ["sg-01", "sg-07"]},
        "Interfaces": {"M": {"eni-01": {"L": [{"S": "sg-0a"}, {"S": "sg-0b"}]}}},
        "RestoreCommands": {"M": {"eni-01": {"S": "aws …"}}},
        "Protection": {"M": {"TerminationProtection": {"BOOL": false}}},
        "Snapshots": {"M": {"vol-01": {"S": "snap-01"}}},
        "AllSnapshots": {"M": {"snap-01": {"S": "vol-01"}}},
        "LeaseWriter": {"S": "w-0"},
        "LeaseUntil": {"S": "2026-11-25T03:00:40Z"},
        "LeaseOnly": {"SS": ["eni-01"]},
        "ConnectionsCut": {"BOOL": true},
        "History": {"L": [{"S": "first"}]},
        "RecordedAt": {"S": "2026-11-25T03:00:00Z"},
        "UpdatedAt": {"S": "2026-11-25T03:00:00Z"},
        "Later": {"S": "unknown to this version"},
    })
}

async fn read() -> Record {
    let (http, _) = wire(&[(200, &json!({"Items": [item()]}).to_string())]);
    std::sync::Arc::unwrap_or_clone(table(http).scan().await.unwrap().records.into_values().next().unwrap())
}

fn heir() -> Owner {
    Owner { stack_id: "arn:aws:cloudformation:r:1:stack/new/2".into(), logical_id: "Isolation".into() }
}

/// The transaction that writes the new record, if there is one. `past` is what the new table has.
async fn take_over(found: &Value, past: &Value, written: (u16, &str)) -> (Result<Written, Fault>, Option<Value>) {
    let seen = read().await;
    let items = |item: &Value| if item.is_null() { json!([]) } else { json!([item]) };
    let answers = [("records", found), ("records-2", past)]
        .map(|(table, item)| json!({"Responses": {table: items(item)}}).to_string());
    let (http, requests) = wire(&[(200, &answers[0]), (200, &answers[1]), written]);
    let (new, stamp) =
        (heir(), Stamp { now: "2026-11-26T03:00:00Z".parse().unwrap(), asked_by: "somebody", writer: "w-1" });
    let takeover = Takeover { owner: &new, isolation_group: &"sg-02".parse().unwrap(), stamp: &stamp };
    let (from, to) = (table(http.clone()), table(http).named("records-2"));
    let result = to.take_over(&from, &seen, &takeover).await.map_err(|error| error.fault);
    let requests = requests.lock().unwrap();
    let get: Value = serde_json::from_str(&requests[0]).unwrap();
    assert_eq!(get["RequestItems"]["records"]["ConsistentRead"], json!(true));
    (result, requests.get(2).map(|body| serde_json::from_str(body).unwrap()))
}

#[tokio::test]
async fn a_record_changes_hands_with_everything_that_it_holds_and_its_heirs_intent_holds_it() {
    let past = json!({"InstanceId": {"S": "i-0a"}, "State": {"S": "restored"}, "History": {"L": [{"S": "long ago"}]},
        "AllSnapshots": {"M": {"snap-00": {"S": "vol-01"}}}});
    let (result, transaction) = take_over(&item(), &past, (200, "{}")).await;
    assert_eq!(result, Ok(Written::Done));
    let transaction = transaction.unwrap();
    let (intent, put) = (&transaction["TransactItems"][0]["Update"], &transaction["TransactItems"][2]["Put"]);
    let opening = &transaction["TransactItems"][1]["Update"];
    assert_eq!(opening["Key"], json!({"InstanceId": {"S": "incidents:open"}}));
    assert_eq!(opening["ExpressionAttributeValues"], json!({":Owners": {"SS": [heir().digest()]}}));
    assert_eq!((&intent["TableName"], &put["TableName"]), (&json!("records-2"), &json!("records-2")));
    assert_eq!(intent["Key"], json!({"InstanceId": {"S": format!("owner:{}", heir().digest())}}));
    assert_eq!(
        (&intent["UpdateExpression"], &intent["ConditionExpression"]),
        (&json!("ADD Held :Held"), &json!("attribute_exists(InstanceId)"))
    );
    assert_eq!(intent["ExpressionAttributeValues"], json!({":Held": {"SS": ["i-0a"]}}));
    assert_eq!(put["ConditionExpression"], "attribute_not_exists(InstanceId) OR #State = :restored");
    let mut expected = item();
    let changes = expected.as_object_mut().unwrap();
    for name in ["KeptReason", "LeaseWriter", "LeaseUntil", "LeaseOnly"] {
        changes.remove(name);
    }
    let line = format!("2026-11-26T03:00:00Z taken over from {} (table records, kept) (asked by somebody)", owner());
    for (name, value) in [
        ("Owner", json!({"S": heir().to_string()})),
        ("State", json!({"S": "isolating"})),
        ("IsolationGroupId", json!({"S": "sg-02"})),
        ("IsolationGroupIds", json!({"SS": ["sg-01", "sg-02", "sg-07"]})),
        ("AllSnapshots", json!({"M": {"snap-00": {"S": "vol-01"}, "snap-01": {"S": "vol-01"}}})),
        ("History", json!({"L": [{"S": "long ago"}, {"S": "first"}, {"S": line}]})),
        ("AskedBy", json!({"S": "somebody"})),
        ("UpdatedAt", json!({"S": "2026-11-26T03:00:00Z"})),
    ] {
        changes.insert(name.to_owned(), value);
    }
    assert_eq!(put["Item"], expected);
}

/// Two stacks beside one responder: the record changes its owner where it is, and its history is there once.
#[tokio::test]
async fn a_record_changes_hands_in_its_place() {
    let seen = read().await;
    let (http, requests) = wire(&[(200, &json!({"Responses": {"records": [item()]}}).to_string()), (200, "{}")]);
    let stamp = Stamp { now: "2026-11-26T03:00:00Z".parse().unwrap(), asked_by: "somebody", writer: "w-1" };
    let takeover = Takeover { owner: &heir(), isolation_group: &"sg-02".parse().unwrap(), stamp: &stamp };
    let table = table(http);
    assert_eq!(table.take_over(&table, &seen, &takeover).await, Ok(Written::Done));
    let transaction: Value = serde_json::from_str(&requests.lock().unwrap()[1]).unwrap();
    let put = &transaction["TransactItems"][2]["Put"];
    // The whole item is written: what was recorded meanwhile is not lost.
    let condition = "#Owner = :owner AND #State = :state AND RecordedAt = :recorded AND Interfaces = :interfaces";
    assert_eq!(put["ConditionExpression"], condition);
    let values = json!({
        ":owner": {"S": owner().to_string()}, ":state": {"S": "kept"}, ":recorded": {"S": "2026-11-25T03:00:00Z"},
        ":interfaces": item()["Interfaces"],
    });
    assert_eq!(put["ExpressionAttributeValues"], values);
    let line = format!("2026-11-26T03:00:00Z taken over from {} (table records, kept) (asked by somebody)", owner());
    assert_eq!(put["Item"]["History"], json!({"L": [{"S": "first"}, {"S": line}]}));
    assert_eq!(put["Item"]["Owner"], json!({"S": heir().to_string()}));
}

#[tokio::test]
async fn a_record_that_changed_meanwhile_or_meets_another_one_does_not_change_hands() {
    let mut restoring = item();
    restoring["State"]["S"] = json!("restoring");
    for found in [restoring, Value::Null] {
        assert_eq!(take_over(&found, &Value::Null, (200, "{}")).await, (Ok(Written::Lost), None), "{found}");
    }
    // There is a record, or no intent.
    for reasons in [["None", "None", "ConditionalCheckFailed"], ["ConditionalCheckFailed", "None", "None"]] {
        let reasons = reasons.map(|code| json!({"Code": code}));
        let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
        let lost = json!({"__type": kind, "CancellationReasons": reasons}).to_string();
        assert_eq!(take_over(&item(), &Value::Null, (400, &lost)).await.0, Ok(Written::Lost));
    }
}

#[tokio::test]
async fn a_record_is_taken_out_only_as_it_was_seen() {
    let seen = read().await;
    assert_eq!(seen.state, State::Kept);
    let lost = json!({"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}).to_string();
    let (http, requests) = wire(&[(200, "{}"), (400, &lost)]);
    let table = table(http);
    assert_eq!(table.let_go(&seen).await, Ok(Written::Done));
    assert_eq!(table.let_go(&seen).await, Ok(Written::Lost));
    let delete: Value = serde_json::from_str(&requests.lock().unwrap()[0]).unwrap();
    assert_eq!(delete["Key"], json!({"InstanceId": {"S": "i-0a"}}));
    assert_eq!(delete["ConditionExpression"], "#Owner = :owner AND #State = :state AND RecordedAt = :recorded");
    assert_eq!(delete["ExpressionAttributeValues"][":state"], json!({"S": "kept"}));
    assert_eq!(delete["ExpressionAttributeValues"][":owner"], json!({"S": owner().to_string()}));
}

#[tokio::test]
async fn tables_are_listed_over_all_pages() {
    let first = json!({"TableNames": ["ir-SecurityGroupTable-A", "other"], "LastEvaluatedTableName": "other"});
    let second = json!({"TableNames": ["ir-SecurityGroupTable-B"]});
    let (http, _) = wire(&[(200, &first.to_string()), (200, &second.to_string())]);
    let found = table(http).tables("ir-SecurityGroupTable-").await.unwrap();
    assert_eq!(found, ["ir-SecurityGroupTable-A", "ir-SecurityGroupTable-B"]);
}

fn error(message: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
}

fn stack(status: &str) -> String {
    format!(
        "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackId>arn</StackId><StackName>ir</StackName>\
         <StackStatus>{status}</StackStatus><EnableTerminationProtection>true</EnableTerminationProtection></member></Stacks>\
         </DescribeStacksResult></DescribeStacksResponse>"
    )
}

#[tokio::test]
async fn a_stack_that_is_deleted_or_never_was_is_gone_and_any_other_error_is_one() {
    let (http, _) = wire(&[(400, &error("Stack with id ir does not exist"))]);
    assert_eq!(stacks(http).view("ir").await, Ok(None));
    let (http, _) = wire(&[(200, &stack("DELETE_COMPLETE"))]);
    assert_eq!(stacks(http).view("arn").await, Ok(None));
    let (http, _) = wire(&[(400, &error("1 validation error detected"))]);
    assert_eq!(stacks(http).view("?").await.map_err(|error| error.fault), Err(Fault::Refused));
}

#[tokio::test]
async fn a_stack_is_read_with_its_resources() {
    let resources = "<DescribeStackResourcesResponse><DescribeStackResourcesResult><StackResources><member>\
        <LogicalResourceId>Isolation</LogicalResourceId><PhysicalResourceId>id</PhysicalResourceId>\
        <ResourceType>Custom::Ec2Isolation</ResourceType><ResourceStatus>DELETE_FAILED</ResourceStatus>\
        <ResourceStatusReason>nobody answers</ResourceStatusReason></member></StackResources>\
        </DescribeStackResourcesResult></DescribeStackResourcesResponse>";
    // The template of one stack for everything has a parameter for its function's runtime.
    let parameters = "<Parameters><member><ParameterKey>LambdaRuntime</ParameterKey></member></Parameters></member>";
    let one_shot = stack("DELETE_FAILED").replace("</member>", parameters);
    let (http, seen) = wire(&[(200, &one_shot), (200, resources)]);
    let view = stacks(http).view("ir").await.unwrap().unwrap();
    assert_eq!((view.name.as_str(), view.is_protected), ("ir", true));
    assert!(view.isolation().is_some_and(|custom| custom.failed_to_delete() && custom.reason == "nobody answers"));
    assert!(!view.is_in_charge());
    assert!(seen.lock().unwrap()[1].contains("StackName=arn"), "by its id: another one may have the name");

    let (http, _) = wire(&[(200, &stack("DELETE_FAILED")), (200, resources)]);
    let beside_a_responder = stacks(http).view("ir").await.unwrap().unwrap();
    assert!(beside_a_responder.function_outlives && beside_a_responder.is_in_charge());
}

#[tokio::test]
async fn an_export_is_looked_for_on_every_page() {
    let page = |name: &str, next: &str| {
        format!(
            "<ListExportsResponse><ListExportsResult><Exports><member><Name>{name}</Name><Value>of {name}</Value><ExportingStackId>arn</ExportingStackId></member></Exports>\
             {next}</ListExportsResult></ListExportsResponse>"
        )
    };
    let pages = [(200, page("a", "<NextToken>2</NextToken>")), (200, page("b", ""))];
    let answers: Vec<(u16, &str)> = pages.iter().map(|(status, page)| (*status, page.as_str())).collect();
    let found = stacks(wire(&answers).0).export("b").await.unwrap().unwrap();
    assert_eq!((found.value.as_str(), found.stack_id.as_str()), ("of b", "arn"));
    assert_eq!(stacks(wire(&answers).0).export("c").await.unwrap(), None);
}

#[tokio::test]
async fn a_stack_is_made_without_rollback_and_with_termination_protection() {
    let (http, seen) = wire(&[(
        200,
        "<CreateStackResponse><CreateStackResult><StackId>arn</StackId></CreateStackResult></CreateStackResponse>",
    )]);
    let parameters = BTreeMap::from([("VpcId".to_owned(), "vpc-1".to_owned())]);
    let template = Template::Body("Resources: {}");
    let new = NewStack { name: "ir", template, parameters: &parameters, role: Some("a role"), token: "t", stays: true };
    assert_eq!(stacks(http).create(&new).await, Ok(Some("arn".to_owned())));
    let sent = seen.lock().unwrap()[0].clone();
    for said in [
        "DisableRollback=true",
        "EnableTerminationProtection=true",
        "Parameters.member.1.ParameterKey=VpcId",
        "Parameters.member.1.ParameterValue=vpc-1",
        "RoleARN=a%20role",
        "ClientRequestToken=t",
        "TemplateBody=Resources%3A%20%7B%7D",
    ] {
        assert!(sent.contains(said), "{said} in {}", sent);
    }
    let taken = error("Stack [ir] already exists").replace("ValidationError", "AlreadyExistsException");
    assert_eq!(stacks(wire(&[(400, &taken)]).0).create(&new).await, Ok(None));
}

#[tokio::test]
async fn a_change_keeps_every_parameter_that_it_does_not_name() {
    let parameters = "<Parameters><member><ParameterKey>HoldSeconds</ParameterKey></member><member>\
                      <ParameterKey>Rerun</ParameterKey></member></Parameters></member>";
    let shown = stack("UPDATE_COMPLETE").replace("</member>", parameters);
    let made = "<CreateChangeSetResponse><CreateChangeSetResult><Id>set</Id></CreateChangeSetResult></CreateChangeSetResponse>";
    let status = |status: &str| {
        format!(
            "<DescribeChangeSetResponse><DescribeChangeSetResult><Status>{status}</Status></DescribeChangeSetResult></DescribeChangeSetResponse>"
        )
    };
    let (http, seen) =
        wire(&[(200, &shown), (200, made), (200, &status("CREATE_IN_PROGRESS")), (200, &status("CREATE_COMPLETE"))]);
    let change = BTreeMap::from([("Rerun".to_owned(), "now".to_owned())]);
    assert_eq!(stacks(http).prepare("arn", "a-name", &change).await, Ok(Prepared::Ready("set".to_owned())));
    let seen = seen.lock().unwrap();
    for said in [
        "UsePreviousTemplate=true",
        "ChangeSetType=UPDATE",
        "Parameters.member.1.ParameterKey=Rerun&Parameters.member.1.ParameterValue=now",
        "Parameters.member.2.ParameterKey=HoldSeconds&Parameters.member.2.UsePreviousValue=true",
    ] {
        assert!(seen[1].contains(said), "{said} in {}", seen[1]);
    }
    assert!(!seen[1].contains("Parameters.member.3"), "{}", seen[1]);
}

#[tokio::test]
async fn a_change_of_a_stack_at_work_waits_and_one_that_was_overtaken_is_void() {
    let busy = error("Stack:arn is in UPDATE_IN_PROGRESS state and can not be updated.");
    let (http, _) = wire(&[(200, &stack("UPDATE_IN_PROGRESS")), (400, &busy)]);
    assert_eq!(stacks(http).prepare("arn", "a-name", &BTreeMap::new()).await, Ok(Prepared::Busy));
    for code in ["InvalidChangeSetStatus", "ChangeSetNotFound"] {
        let void = error("ChangeSet [set] cannot be executed").replace("ValidationError", code);
        assert_eq!(stacks(wire(&[(400, &void)]).0).carry_out("set").await, Ok(false), "{code}");
    }
    let denied = error("you may not").replace("ValidationError", "AccessDenied");
    assert!(stacks(wire(&[(400, &denied)]).0).carry_out("set").await.is_err());
    let (http, seen) = wire(&[(200, "<ExecuteChangeSetResponse/>")]);
    assert_eq!(stacks(http).carry_out("set").await, Ok(true));
    assert!(seen.lock().unwrap()[0].contains("DisableRollback=true"));
}

#[tokio::test]
async fn a_delete_names_what_is_left_out_only_where_something_is() {
    let (http, seen) = wire(&[(200, "<DeleteStackResponse/>")]);
    let stacks = stacks(http);
    stacks.delete("arn", &[]).await.unwrap();
    stacks.delete("arn", &["Isolation".to_owned()]).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(!seen[0].contains("RetainResources"), "{}", seen[0]);
    assert!(seen[1].contains("RetainResources.member.1=Isolation"), "{}", seen[1]);
}

#[tokio::test]
async fn a_stack_that_failed_in_express_mode_is_deleted_in_express_mode() {
    let refusal = "Stack is in a CREATE_FAILED state from a previous operation that used EXPRESS deployment mode. Follow-up operations \
                   must use the same DeploymentConfig (mode=EXPRESS)";
    let (http, seen) = wire(&[(400, &error(refusal)), (200, "<DeleteStackResponse/>")]);
    stacks(http).delete("arn", &["Isolation".to_owned()]).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(!seen[0].contains("DeploymentConfig"), "{}", seen[0]);
    for part in ["DeploymentConfig.Mode=EXPRESS", "RetainResources.member.1=Isolation", "StackName=arn"] {
        assert!(seen[1].contains(part), "{}", seen[1]);
    }
}

#[tokio::test]
async fn a_stack_that_failed_in_express_mode_is_changed_in_express_mode() {
    let refusal = "This stack is in a CREATE_FAILED state from a previous operation that used EXPRESS deployment mode with disable-rollback. \
                   Follow-up operations must use the same DeploymentConfig (mode=EXPRESS) until the stack reaches a *_COMPLETE state.";
    let made = "<CreateChangeSetResponse><CreateChangeSetResult><Id>set</Id></CreateChangeSetResult></CreateChangeSetResponse>";
    let ready = "<DescribeChangeSetResponse><DescribeChangeSetResult><Status>CREATE_COMPLETE</Status></DescribeChangeSetResult></DescribeChangeSetResponse>";
    let (http, seen) = wire(&[(200, &stack("CREATE_FAILED")), (400, &error(refusal)), (200, made), (200, ready)]);
    let change = BTreeMap::from([("Rerun".to_owned(), "now".to_owned())]);
    assert_eq!(stacks(http).prepare("arn", "a-name", &change).await, Ok(Prepared::Ready("set".to_owned())));
    let seen = seen.lock().unwrap().clone();
    assert!(!seen[1].contains("DeploymentConfig"), "{}", seen[1]);
    // What fails again stays as it is, as with every other change.
    for part in ["DeploymentConfig.Mode=EXPRESS", "DeploymentConfig.DisableRollback=true", "ParameterValue=now"] {
        assert!(seen[2].contains(part), "{part} in {}", seen[2]);
    }
    let (http, _) = wire(&[(200, &stack("CREATE_FAILED")), (400, &error(refusal)), (500, &error("InternalFailure"))]);
    assert!(stacks(http).prepare("arn", "a-name", &change).await.is_err(), "it is sent in express mode once");
}

#[tokio::test]
async fn interfaces_in_a_group_are_found_with_their_tags_and_their_instance() {
    let answer = "<DescribeNetworkInterfacesResponse><networkInterfaceSet>\
        <item><networkInterfaceId>eni-01</networkInterfaceId><attachment><instanceId>i-0a</instanceId></attachment>\
        <groupSet><item><groupId>sg-01</groupId></item></groupSet>\
        <tagSet><item><key>ec2-isolation:original-groups-1</key><value>sg-0a sg-0b</value></item></tagSet></item>\
        <item><networkInterfaceId>eni-02</networkInterfaceId><groupSet><item><groupId>sg-01</groupId></item></groupSet></item>\
        </networkInterfaceSet></DescribeNetworkInterfacesResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let found = ec2(http).interfaces_in(&["sg-01".parse().unwrap()].into()).await.unwrap();
    assert!(
        seen.lock().unwrap()[0].contains("Filter.1.Name=group-id&Filter.1.Value.1=sg-01"),
        "{:?}",
        seen.lock().unwrap()
    );
    let found: Vec<_> =
        found.iter().map(|found| (found.id.as_str(), found.instance.as_ref().map(|id| id.as_str()))).collect();
    assert_eq!(found, [("eni-01", Some("i-0a")), ("eni-02", None)]);
}
