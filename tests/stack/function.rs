//! The built function itself, in Lambda's place: whatever happens to it, every event is answered once and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, ResourceType, Tag, TagSpecification};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fleet::{Cards, cards, protection};
use crate::runtime::{Function, Received, Surroundings, wait_until};
use crate::{Scene, cloud};

const TIME: Duration = Duration::from_secs(45);
/// Enough to wait until the lease of a killed function is over.
const LONG: Duration = Duration::from_secs(120);

/// Two instances to isolate and a bystander, an isolation group and a table, without a stack.
struct Ground {
    scene: Scene,
    lambda: Surroundings,
    table: String,
    group: String,
    transit: String,
    a: String,
    b: String,
    bystander: String,
    start: Cards,
    /// Otherwise instances are isolated directly and snapshotted: most of these tests are about calls, not about what they do.
    is_everything_on: bool,
}

impl Ground {
    async fn new(name: &str) -> Self {
        let scene = Scene::new(name).await;
        // One volume is snapshotted many times here.
        cloud().set("snapshot-rate", &json!({"seconds": 0})).await;
        let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await;
        let b = scene.site.plain(&scene.ec2, &[3]).await;
        let bystander = scene.site.plain(&scene.ec2, &[0]).await;
        let start = scene.cards(&[&a, &b, &bystander]).await;
        let group = isolation_group(&scene, name).await;
        let transit = transit_group(&scene, name).await;
        let table = table(name).await;
        let lambda = Surroundings::new().await;
        Self { scene, lambda, table, group, transit, a, b, bystander, start, is_everything_on: false }
    }

    /// With everything that can be done to an instance, which each event asks for by itself.
    fn with_everything(mut self) -> Self {
        self.is_everything_on = true;
        self
    }

    /// The function with its settings, against the local AWS.
    fn function(&self) -> Function {
        let mut variables = cloud().credentials();
        variables.push(("SECURITY_GROUP_TABLE_NAME", self.table.as_str()));
        self.lambda.start(&variables)
    }

    fn event(&self, request_type: &str, stack: &str, request: &str, ids: &[&str]) -> Value {
        let mut event = json!({
            "RequestType": request_type,
            "ServiceToken": "arn:aws:lambda:us-east-1:123456789012:function:isolation",
            "ResponseURL": self.lambda.response_url(request),
            "StackId": format!("arn:aws:cloudformation:us-east-1:123456789012:stack/ir/{stack}"),
            "RequestId": request,
            "LogicalResourceId": "Isolation",
            "ResourceType": "Custom::Ec2Isolation",
            "ResourceProperties": {
                "InstanceIds": ids, "VpcId": self.scene.site.vpc, "IsolatedSecurityGroupId": self.group,
                "TransitSecurityGroupId": self.transit, "HoldSeconds": "0", "OnRemoval": "Restore",
                "CutEstablishedConnections": self.is_everything_on, "ProtectInstances": self.is_everything_on,
                "DisableInstanceMetadata": self.is_everything_on,
            },
        });
        if request_type != "Create" {
            event["PhysicalResourceId"] = json!("an id of its own");
        }
        event
    }

    /// Delivers an event to a new function and returns its answer: status and reason.
    async fn run(&self, event: &Value) -> (String, String) {
        let function = self.function();
        let before = self.lambda.done().len();
        self.lambda.deliver(event, LONG);
        let answers = self.lambda.ended(before + 1).await;
        drop(function);
        read(answers.last().expect("an answer"), event)
    }

    async fn cards(&self) -> Cards {
        cards(&self.scene.ec2, &[&self.a, &self.b, &self.bystander]).await
    }

    /// Which of the interfaces that are not as at the start are in anything but the isolation group.
    async fn assert_isolated(&self, instances: &[&str]) {
        let isolated: BTreeSet<String> = [self.group.clone()].into();
        for (interface, groups) in cards(&self.scene.ec2, instances).await {
            assert_eq!(groups, isolated, "{interface}");
        }
    }

    /// Nothing but the recorded interfaces ever differs from the start.
    async fn assert_recorded(&self, when: &str) {
        let recorded = self.recorded_interfaces().await;
        for (interface, groups) in self.cards().await {
            if self.start[&interface] != groups {
                assert_eq!(
                    recorded.get(&interface),
                    Some(&self.start[&interface]),
                    "{when}: {interface} has no record"
                );
            }
        }
    }

    async fn recorded_interfaces(&self) -> BTreeMap<String, BTreeSet<String>> {
        let items = cloud().dynamodb().await.scan().table_name(&self.table).send().await.expect("a table");
        let maps = items.items().iter().filter_map(|item| item.get("Interfaces")?.as_m().ok());
        let groups = |value: &AttributeValue| {
            value.as_l().expect("a list").iter().map(|group| group.as_s().expect("text").clone()).collect()
        };
        maps.flat_map(|map| map.iter().map(|(interface, value)| (interface.clone(), groups(value)))).collect()
    }

    /// As if the leases of a killed function were over.
    async fn end_leases(&self) {
        let records = cloud().dynamodb().await;
        let items = records.scan().table_name(&self.table).send().await.expect("a table");
        for item in items.items().iter().filter(|item| item.contains_key("LeaseUntil")) {
            let update = records.update_item().table_name(&self.table).key("InstanceId", item["InstanceId"].clone());
            let update = update.update_expression("SET LeaseUntil = :past");
            let past = AttributeValue::S("2026-01-01T00:00:00Z".to_owned());
            update.expression_attribute_values(":past", past).send().await.expect("an item");
        }
    }

    /// Kills the function in the middle of its nth call, for every other n from the first one on, and delivers the event again.
    /// `kind` is whether that call was carried out before. `prepare` and the final Delete surround each round.
    async fn kill_at_calls(
        &self,
        (kind, first): (&str, u32),
        request_type: &str,
        ids: &[&str],
        isolated: &[&str],
        prepare: Option<&[&str]>,
    ) {
        let unprotected = protection(&self.scene.ec2, &self.a).await;
        for call in (first..).step_by(2) {
            let stack = format!("{request_type}-{kind}-{call}");
            if let Some(ids) = prepare {
                let (status, reason) = self.run(&self.event("Create", &stack, &format!("{stack}-prepare"), ids)).await;
                assert_eq!(status, "SUCCESS", "{reason}");
            }
            let event = self.event(request_type, &stack, &stack, ids);
            let was_killed = self.kill(&event, kind, call).await;
            self.assert_recorded(&stack).await;
            // Once the lease of the dead is waited for.
            if call != 8 {
                self.end_leases().await;
            }
            let answered = self.lambda.answers().len();
            let (status, reason) = self.run(&event).await;
            assert_eq!(status, "SUCCESS", "{stack}: {reason}");
            assert_eq!(self.lambda.answers().len(), answered + 1, "{stack}: one answer");
            self.assert_isolated(isolated).await;
            let (status, reason) = self.run(&self.event("Delete", &stack, &format!("{stack}-end"), &[])).await;
            assert_eq!(status, "SUCCESS", "{stack}: {reason}");
            assert_eq!(self.cards().await, self.start, "{stack}");
            if self.is_everything_on {
                assert_eq!(protection(&self.scene.ec2, &self.a).await, unprotected, "{stack}");
            }
            if !was_killed {
                assert!(call > 5, "{call} calls are too few to have been counted");
                break;
            }
        }
    }

    /// Whether the event had a call of this number, in which the function was killed.
    async fn kill(&self, event: &Value, kind: &str, call: u32) -> bool {
        cloud().set("fault", &json!({"app": "isolation", "call": call, "kind": kind})).await;
        let function = self.function();
        let done = self.lambda.done().len();
        self.lambda.deliver(event, TIME);
        let struck = loop {
            if self.lambda.done().len() > done {
                break false;
            }
            if cloud().get("fault").await["seen"].as_u64() >= Some(u64::from(call)) {
                break true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        if struck && kind == AFTER {
            // The call is carried out before it is left without an answer.
            wait_for_carried_out().await;
        }
        drop(function);
        cloud().set("fault", &json!({})).await;
        struck
    }
}

async fn wait_for_carried_out() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Status and reason, after everything that holds for every answer was checked.
fn read(answer: &Received, event: &Value) -> (String, String) {
    let json = answer.json();
    for key in ["StackId", "RequestId", "LogicalResourceId"] {
        assert_eq!(json[key], event[key], "{key}");
    }
    let url = event["ResponseURL"].as_str().unwrap();
    assert!(url.ends_with(&answer.target), "{} is not the URL of the event", answer.target);
    assert!(answer.body.len() <= 4096, "{} bytes", answer.body.len());
    assert!(!answer.headers.iter().any(|(name, _)| name == "content-type"), "{:?}", answer.headers);
    let text = |key: &str| json[key].as_str().expect("text").to_owned();
    assert!(!text("PhysicalResourceId").is_empty());
    (text("Status"), text("Reason"))
}

async fn group(scene: &Scene, name: &str, role: &str) -> String {
    let tags = TagSpecification::builder()
        .resource_type(ResourceType::SecurityGroup)
        .tags(Tag::builder().key("ec2-isolation:role").value(role).build())
        .build();
    let group = scene.ec2.create_security_group().group_name(format!("{name}-{role}")).description(role);
    let group = group.vpc_id(&scene.site.vpc).tag_specifications(tags).send().await.expect("a group");
    group.group_id().expect("its id").to_owned()
}

/// A group that allows everything: EC2 gives every group the rule for IPv4 out.
async fn transit_group(scene: &Scene, name: &str) -> String {
    let id = group(scene, name, "transit").await;
    let all = || IpPermission::builder().ip_protocol("-1");
    let v4 = || all().ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build()).build();
    let v6 = || all().ipv6_ranges(Ipv6Range::builder().cidr_ipv6("::/0").build()).build();
    let ingress = scene.ec2.authorize_security_group_ingress().group_id(&id).ip_permissions(v4()).ip_permissions(v6());
    ingress.send().await.expect("everything in");
    scene
        .ec2
        .authorize_security_group_egress()
        .group_id(&id)
        .ip_permissions(v6())
        .send()
        .await
        .expect("everything out");
    id
}

async fn isolation_group(scene: &Scene, name: &str) -> String {
    let id = group(scene, name, "isolation").await;
    let everything =
        IpPermission::builder().ip_protocol("-1").ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build());
    let closed = scene.ec2.revoke_security_group_egress().group_id(&id).ip_permissions(everything.build());
    closed.send().await.expect("EC2 gives every group this rule");
    id
}

async fn table(name: &str) -> String {
    let key = KeySchemaElement::builder().attribute_name("InstanceId").key_type(KeyType::Hash).build().unwrap();
    let attribute = AttributeDefinition::builder().attribute_name("InstanceId").attribute_type(ScalarAttributeType::S);
    let table = cloud().dynamodb().await.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    table.key_schema(key).attribute_definitions(attribute.build().unwrap()).send().await.expect("a table");
    name.to_owned()
}

/// Each is half of the calls, so that they run side by side. With everything on, which takes three times as many calls, before and after
/// go in turns.
const ODD: u32 = 1;
const EVEN: u32 = 2;
const BEFORE: &str = "hold-before";
const AFTER: &str = "hold-after";

#[tokio::test]
async fn a_create_killed_after_any_odd_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-create-after-odd").await.with_everything();
    ground.kill_at_calls((AFTER, ODD), "Create", &[&ground.a], &[&ground.a], None).await;
}

#[tokio::test]
async fn a_create_killed_before_any_even_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-create-before-even").await.with_everything();
    ground.kill_at_calls((BEFORE, EVEN), "Create", &[&ground.a], &[&ground.a], None).await;
}

#[tokio::test]
async fn an_update_killed_after_any_odd_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-update-after-odd").await;
    ground.kill_at_calls((AFTER, ODD), "Update", &[&ground.b], &[&ground.b], Some(&[&ground.a])).await;
}

#[tokio::test]
async fn an_update_killed_before_any_odd_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-update-before-odd").await;
    ground.kill_at_calls((BEFORE, ODD), "Update", &[&ground.b], &[&ground.b], Some(&[&ground.a])).await;
}

#[tokio::test]
async fn an_update_killed_after_any_even_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-update-after-even").await;
    ground.kill_at_calls((AFTER, EVEN), "Update", &[&ground.b], &[&ground.b], Some(&[&ground.a])).await;
}

#[tokio::test]
async fn an_update_killed_before_any_even_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-update-before-even").await;
    ground.kill_at_calls((BEFORE, EVEN), "Update", &[&ground.b], &[&ground.b], Some(&[&ground.a])).await;
}

#[tokio::test]
async fn a_delete_killed_after_any_odd_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-delete-after-odd").await.with_everything();
    ground.kill_at_calls((AFTER, ODD), "Delete", &[], &[], Some(&[&ground.a])).await;
}

#[tokio::test]
async fn a_delete_killed_before_any_even_call_is_finished_by_the_next_delivery() {
    let ground = Ground::new("kill-delete-before-even").await.with_everything();
    ground.kill_at_calls((BEFORE, EVEN), "Delete", &[], &[], Some(&[&ground.a])).await;
}

#[tokio::test]
async fn a_call_that_goes_wrong_once_costs_nothing() {
    let ground = Ground::new("fault").await;
    let (a, b) = (ground.a.as_str(), ground.b.as_str());
    for kind in ["throttled", "server", "lost", "garbled"] {
        for (request_type, ids) in [("Create", vec![a, b]), ("Update", vec![b]), ("Delete", vec![])] {
            let request = format!("{kind}-{request_type}");
            cloud().set("fault", &json!({"app": "isolation", "call": 3, "kind": kind})).await;
            let (status, reason) = ground.run(&ground.event(request_type, kind, &request, &ids)).await;
            cloud().set("fault", &json!({})).await;
            assert_eq!(status, "SUCCESS", "{request}: {reason}");
            ground.assert_recorded(&request).await;
        }
        assert_eq!(ground.cards().await, ground.start, "{kind}");
    }
}

#[tokio::test]
async fn a_call_that_is_never_answered_is_made_again() {
    let ground = Ground::new("timeout").await;
    cloud().set("fault", &json!({"app": "isolation", "call": 3, "kind": "timeout"})).await;
    let (status, reason) = ground.run(&ground.event("Create", "timeout", "create", &[&ground.a])).await;
    cloud().set("fault", &json!({})).await;
    assert_eq!(status, "SUCCESS", "{reason}");
    ground.assert_isolated(&[&ground.a]).await;
    assert_eq!(ground.run(&ground.event("Delete", "timeout", "delete", &[])).await.0, "SUCCESS");
    assert_eq!(ground.cards().await, ground.start);
}

#[tokio::test]
async fn a_denied_call_is_answered_with_its_action() {
    let ground = Ground::new("denied").await;
    assert_eq!(ground.run(&ground.event("Create", "denied", "create", &[&ground.a])).await.0, "SUCCESS");
    cloud().set("fault", &json!({"app": "isolation", "call": 1, "kind": "denied"})).await;
    let (status, reason) = ground.run(&ground.event("Delete", "denied", "delete", &[])).await;
    cloud().set("fault", &json!({})).await;
    assert_eq!(status, "FAILED");
    assert!(reason.contains("dynamodb:BatchGetItem failed: AccessDeniedException"), "{reason}");
    ground.assert_isolated(&[&ground.a]).await;
    assert_eq!(ground.run(&ground.event("Delete", "denied", "delete-2", &[])).await.0, "SUCCESS");
    assert_eq!(ground.cards().await, ground.start);
}

#[tokio::test]
async fn missing_settings_are_answered_event_by_event() {
    let ground = Ground::new("settings").await;
    let mut function = ground.lambda.start(&cloud().credentials());
    for (n, request_type) in [(1, "Create"), (2, "Delete")] {
        let event = ground.event(request_type, "settings", &format!("request-{n}"), &[&ground.a]);
        ground.lambda.deliver(&event, TIME);
        let answers = ground.lambda.ended(n).await;
        let (status, reason) = read(&answers[n - 1], &event);
        assert_eq!(status, "FAILED");
        assert!(
            reason.starts_with("nothing was changed: environment variable SECURITY_GROUP_TABLE_NAME is not set"),
            "{reason}"
        );
    }
    assert!(function.is_running());
    assert!(ground.lambda.done().iter().all(|(_, succeeded)| *succeeded));
}

#[tokio::test]
async fn no_log_line_at_any_level_shows_a_response_url() {
    let ground = Ground::new("log").await;
    let log = || std::fs::read_to_string("target/stack/function.log").unwrap();
    for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"] {
        let before = log().len();
        let mut variables = cloud().credentials();
        variables.extend([("SECURITY_GROUP_TABLE_NAME", ground.table.as_str()), ("AWS_LAMBDA_LOG_LEVEL", level)]);
        variables.extend([("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")]);
        let function = ground.lambda.start(&variables);
        let done = ground.lambda.done().len();
        // Answered, and not answered: the port of the second URL is closed.
        let mut answered = ground.event("Create", "log", level, &[&ground.a]);
        answered["ResourceProperties"]["Rerun"] = json!("only in the raw event");
        let mut lost = ground.event("Update", "log", &format!("{level}-lost"), &[&ground.a]);
        lost["ResponseURL"] = json!("http://127.0.0.1:9/key?X-Amz-Signature=secret");
        ground.lambda.deliver(&answered, TIME);
        ground.lambda.deliver(&lost, Duration::from_secs(6));
        ground.lambda.ended(done + 2).await;
        drop(function);
        let new = &log()[before..];
        assert!(level == "ERROR" || new.contains("not accepted"), "{level}: {new}");
        for word in ["only in the raw event", "secret", "Signature", "ResponseURL\"", "http://127.0.0.1:9"] {
            assert!(!new.contains(word), "{level} shows {word}: {new}");
        }
    }
    assert_eq!(ground.run(&ground.event("Delete", "log", "delete", &[])).await.0, "SUCCESS");
}

#[tokio::test]
async fn the_answer_goes_through_the_proxy_that_the_environment_names() {
    let ground = Ground::new("proxy").await;
    let proxy = ground.lambda.response_url("").split("/arn").next().unwrap().to_owned();
    let mut variables = cloud().credentials();
    variables.extend([("SECURITY_GROUP_TABLE_NAME", "none"), ("HTTP_PROXY", &proxy), ("http_proxy", &proxy)]);
    let function = ground.lambda.start(&variables);
    let mut event = ground.event("Create", "proxy", "create", &[]);
    event["ResponseURL"] = json!("http://bucket.invalid/key%7C1?X-Amz-Signature=secret");
    ground.lambda.deliver(&event, TIME);
    let answers = ground.lambda.ended(1).await;
    drop(function);
    assert_eq!(answers[0].target, "http://bucket.invalid/key%7C1?X-Amz-Signature=secret");
    assert_eq!(answers[0].json()["Status"], "FAILED");
}

#[tokio::test]
async fn a_service_that_never_replies_is_answered_before_the_deadline() {
    let ground = Ground::new("silent").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut variables = cloud().credentials();
    variables.retain(|(name, _)| *name != "AWS_ENDPOINT_URL");
    variables.extend([("AWS_ENDPOINT_URL", endpoint.as_str()), ("SECURITY_GROUP_TABLE_NAME", ground.table.as_str())]);
    let mut function = ground.lambda.start(&variables);
    for (n, request_type) in [(1, "Create"), (2, "Update"), (3, "Delete")] {
        let event = ground.event(request_type, "silent", &format!("request-{n}"), &[&ground.a]);
        ground.lambda.deliver(&event, Duration::from_secs(3));
        let started = std::time::Instant::now();
        let answers = ground.lambda.ended(n).await;
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let (status, reason) = read(&answers[n - 1], &event);
        assert_eq!(status, "FAILED");
        assert!(reason.contains("the time for an answer ran out"), "{reason}");
    }
    assert!(function.is_running());
    // The answers to earlier events came then, not now.
    assert_eq!(ground.lambda.answers().len(), 3);
    drop(silent);
}

#[tokio::test]
async fn a_deadline_in_the_past_means_that_it_is_not_known() {
    let ground = Ground::new("no-deadline").await;
    let function = ground.function();
    let event = ground.event("Create", "no-deadline", "create", &[&ground.a]);
    ground.lambda.deliver(&event, Duration::ZERO);
    let answers = ground.lambda.ended(1).await;
    assert_eq!(read(&answers[0], &event).0, "SUCCESS");
    drop(function);
    ground.assert_isolated(&[&ground.a]).await;
}

/// Two environments of the function at once, as Lambda has them: the Delete comes after the Create's first calls.
#[tokio::test]
async fn a_delete_that_overtakes_a_running_create_restores_everything() {
    let ground = Ground::new("overtakes").await;
    for calls in [1, 4, 6, 8, 10, 12] {
        let stack = format!("overtakes-{calls}");
        let (first, second) = (ground.function(), ground.function());
        let (before, since) = (ground.lambda.done().len(), cloud().now().await);
        ground
            .lambda
            .deliver(&ground.event("Create", &stack, &format!("{stack}-create"), &[&ground.a, &ground.b]), TIME);
        while cloud().calls(since).await.len() < calls {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ground.lambda.deliver(&ground.event("Delete", &stack, &format!("{stack}-delete"), &[]), TIME);
        let answers = ground.lambda.ended(before + 2).await;
        assert_eq!(answers.len(), before + 2, "both are answered, {calls}");
        drop((first, second));
        assert_eq!(ground.cards().await, ground.start, "{calls}");
    }
}

/// The same event twice at once, to two environments.
#[tokio::test]
async fn two_deliveries_of_one_create_at_once_take_one_set_of_snapshots() {
    let ground = Ground::new("at-once").await;
    let event = ground.event("Create", "at-once", "create", &[&ground.a, &ground.b]);
    let (first, second) = (ground.function(), ground.function());
    let since = cloud().now().await;
    ground.lambda.deliver(&event, TIME);
    ground.lambda.deliver(&event, TIME);
    for answer in ground.lambda.ended(2).await {
        assert_eq!(read(&answer, &event).0, "SUCCESS");
    }
    drop((first, second));
    let sets = cloud().calls(since).await.into_iter().filter(|call| call.action == "CreateSnapshots").count();
    assert_eq!(sets, 2, "one for each instance");
    ground.assert_isolated(&[&ground.a, &ground.b]).await;
    ground.assert_recorded("at once").await;
}

#[tokio::test]
async fn a_delete_while_the_stack_rolls_back_keeps_everything_isolated() {
    let ground = Ground::new("rolls-back").await;
    assert_eq!(ground.run(&ground.event("Create", "rolls-back", "create", &[&ground.a])).await.0, "SUCCESS");
    ground.lambda.set_stack_status("ROLLBACK_IN_PROGRESS");
    let (status, reason) = ground.run(&ground.event("Delete", "rolls-back", "delete", &[])).await;
    assert_eq!(status, "SUCCESS");
    assert!(
        reason.starts_with("1 instance kept isolated, nothing was restored: the stack is rolling back"),
        "{reason}"
    );
    ground.assert_isolated(&[&ground.a]).await;
    ground.lambda.set_stack_status("DELETE_IN_PROGRESS");
    assert_eq!(ground.run(&ground.event("Delete", "rolls-back", "delete-2", &[])).await.0, "SUCCESS");
    assert_eq!(ground.cards().await, ground.start);
}

#[tokio::test]
async fn two_hundred_and_four_instances_of_four_interfaces_fit_in_memory_and_in_the_answer() {
    let ground = Ground::new("many").await;
    let mut ids = Vec::new();
    for _ in 0..204 {
        ids.push(ground.scene.site.launch(&ground.scene.ec2, &[&[0], &[1], &[2], &[3]], 1).await);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut event = ground.event("Create", "many", "create", &ids);
    event["ResourceProperties"]["SnapshotVolumes"] = json!("false");
    let function = ground.function();
    ground.lambda.deliver(&event, Duration::from_secs(300));
    let limit = tokio::time::Instant::now() + Duration::from_secs(300);
    while ground.lambda.done().is_empty() && tokio::time::Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let peak = function.peak_memory();
    let (status, reason) = read(ground.lambda.answers().last().expect("an answer"), &event);
    assert_eq!((status.as_str(), reason.as_str()), ("SUCCESS", "204 instances isolated (816 interfaces)"));
    println!("peak memory with 204 instances of 4 interfaces: {peak} KiB");
    assert!(peak <= 32 * 1024, "{peak} KiB");
    wait_until(|| ground.lambda.done().len() == 1).await;
}
