//! What an update replaces, and that the local CloudFormation replaces nothing while rollback is disabled, as AWS does.

use std::collections::BTreeSet;

use aws_sdk_cloudformation::types::Capability;
use serde_json::{Value, json};

use crate::Scene;
use crate::beside::parameters;
use crate::cloud;
use crate::fleet::aws;
use crate::stacks::{ACCOUNT, Stack, role};

const REFUSED: &str = "Replacement type updates not supported on stack with disable-rollback.";
/// What the registry schemas leave to conditions, and replaces here. Of a document: if UpdateMethod does not say otherwise.
const ON_CONDITIONS: [(&str, &[&str]); 3] = [
    ("AWS::DynamoDB::Table", &["KeySchema"]),
    ("AWS::EC2::Instance", &["BlockDeviceMappings"]),
    ("AWS::SSM::Document", &["Attachments", "Content", "DocumentFormat", "Requires", "TargetType", "VersionName"]),
];

/// The host's are tried with the host (host.rs); a queue's policy is replaced by nothing.
const UNTRIED: [&str; 2] = ["AWS::EC2::Instance", "AWS::SQS::QueuePolicy"];

/// The types of our templates, after the SAM transform.
fn types() -> BTreeSet<String> {
    let facts = std::fs::read_to_string("tests/template-facts.txt").unwrap();
    let kinds = facts.lines().filter(|line| !line.starts_with([' ', '='])).filter_map(|line| line.split(' ').nth(1));
    kinds.filter(|kind| kind.starts_with("AWS::")).map(str::to_owned).collect()
}

/// The registry schema of a type, as cfn-lint carries it.
fn schema(kind: &str) -> Value {
    let libraries = std::fs::read_dir("target/venv/cloud/lib").expect("`make tools` installs it");
    let python = libraries.map(|entry| entry.unwrap().path()).find(|path| path.join("site-packages/cfnlint").is_dir());
    let schemas = python.expect("cfn-lint is there").join("site-packages/cfnlint/data/schemas");
    let read = |path: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(schemas.join(path)).expect(path)).unwrap()
    };
    let file = read("providers/us-east-1.json")[kind].as_str().unwrap_or_else(|| panic!("no {kind}")).to_owned();
    read(&format!("resources/{file}.json"))
}

#[tokio::test]
async fn a_resource_is_replaced_by_what_its_registry_schema_says() {
    let types = types();
    assert!(types.len() >= 20, "{types:?}");
    for kind in types {
        let schema = schema(&kind);
        let pointers = schema["createOnlyProperties"].as_array().into_iter().flatten().map(|at| at.as_str().unwrap());
        let mut expected: BTreeSet<&str> = pointers.map(|at| at.strip_prefix("/properties/").unwrap()).collect();
        assert!(expected.iter().all(|name| !name.contains('/')), "{kind}: a part of a property: {expected:?}");
        expected.extend(ON_CONDITIONS.iter().filter(|(of, _)| *of == kind).flat_map(|(_, names)| *names));
        let answer = cloud().get(&format!("replacing?type={kind}")).await;
        let found: BTreeSet<&str> =
            answer["replacing"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(found, expected, "{kind}");
    }
}

/// A resource as it is, changed in place, and with what replaces it changed.
struct Case {
    kind: &'static str,
    before: String,
    in_place: Option<String>,
    replaced: String,
}

fn case(kind: &'static str, form: impl Fn(&str, &str) -> String, names: [&str; 2], values: Option<[&str; 2]>) -> Case {
    let value = values.map_or("", |[value, _]| value);
    Case {
        kind,
        before: form(names[0], value),
        in_place: values.map(|[_, other]| form(names[0], other)),
        replaced: form(names[1], value),
    }
}

/// `group` takes rules, and has a VPC.
fn cases(vpc: &str, group: &str) -> Vec<Case> {
    let function = format!("arn:aws:lambda:us-east-1:{ACCOUNT}:function:names-permitted");
    vec![
        case(
            "AWS::IAM::Role",
            |name, value| {
                format!(
                    "{{RoleName: {name}, Description: {value}, AssumeRolePolicyDocument: {{Version: '2012-10-17', Statement: \
                     [{{Effect: Allow, Principal: {{Service: lambda.amazonaws.com}}, Action: 'sts:AssumeRole'}}]}}}}"
                )
            },
            ["names-role", "names-role-other"],
            Some(["one", "two"]),
        ),
        case(
            "AWS::DynamoDB::Table",
            |name, value| {
                format!(
                    "{{TableName: {name}, BillingMode: PAY_PER_REQUEST, Tags: [{{Key: of, Value: {value}}}], AttributeDefinitions: \
                     [{{AttributeName: Id, AttributeType: S}}], KeySchema: [{{AttributeName: Id, KeyType: HASH}}]}}"
                )
            },
            ["names-table", "names-table-other"],
            Some(["one", "two"]),
        ),
        case(
            "AWS::Lambda::Function",
            |name, value| {
                format!(
                    "{{FunctionName: {name}, Description: {value}, Runtime: python3.12, Handler: index.handler, Role: \
                     'arn:aws:iam::{ACCOUNT}:role/names-lambda', Code: {{ZipFile: 'def handler(event, context): pass'}}}}"
                )
            },
            ["names-function", "names-function-other"],
            Some(["one", "two"]),
        ),
        case(
            "AWS::CloudWatch::Alarm",
            |name, value| {
                format!(
                    "{{AlarmName: {name}, Threshold: {value}, MetricName: M, Namespace: names, Statistic: Sum, Period: 60, \
                     EvaluationPeriods: 1, ComparisonOperator: GreaterThanThreshold}}"
                )
            },
            ["names-alarm", "names-alarm-other"],
            Some(["1", "2"]),
        ),
        case(
            "AWS::CloudWatch::Dashboard",
            |name, value| {
                format!(
                    "{{DashboardName: {name}, DashboardBody: '{{\"widgets\": [], \"start\": \"{value}\", \"periodOverride\": \"auto\"}}'}}"
                )
            },
            ["names-dashboard", "names-dashboard-other"],
            Some(["-PT1H", "-PT2H"]),
        ),
        case(
            "AWS::Events::Rule",
            |name, value| format!("{{Name: {name}, ScheduleExpression: {value}}}"),
            ["names-rule", "names-rule-other"],
            Some(["rate(1 hour)", "rate(2 hours)"]),
        ),
        // All that it has replaces it.
        case(
            "AWS::Lambda::Permission",
            |source, _| {
                format!(
                    "{{FunctionName: '{function}', Action: 'lambda:InvokeFunction', Principal: events.amazonaws.com, SourceArn: \
                     'arn:aws:events:us-east-1:{ACCOUNT}:rule/{source}'}}"
                )
            },
            ["names-one", "names-two"],
            None,
        ),
        case(
            "AWS::SNS::Topic",
            |name, value| format!("{{TopicName: {name}, DisplayName: {value}}}"),
            ["names-topic", "names-topic-other"],
            Some(["one", "two"]),
        ),
        case(
            "AWS::SQS::Queue",
            |name, value| format!("{{QueueName: {name}, VisibilityTimeout: {value}}}"),
            ["names-queue", "names-queue-other"],
            Some(["30", "40"]),
        ),
        case(
            "AWS::SSM::Parameter",
            |name, value| format!("{{Name: {name}, Type: String, Value: {value}}}"),
            ["names-parameter", "names-parameter-other"],
            Some(["one", "two"]),
        ),
        case(
            "AWS::SSM::Document",
            |name, value| {
                format!(
                    "{{Name: {name}, DocumentType: CloudFormation, DocumentFormat: YAML, UpdateMethod: NewVersion, Content: \
                     \"Resources:\\n  P:\\n    Type: AWS::SSM::Parameter\\n    Properties: {{Type: String, Value: {value}}}\\n\"}}"
                )
            },
            ["names-document", "names-document-other"],
            Some(["one", "two"]),
        ),
        case(
            "AWS::Logs::LogGroup",
            |name, value| format!("{{LogGroupName: {name}, RetentionInDays: {value}}}"),
            ["names-log", "names-log-other"],
            Some(["7", "14"]),
        ),
        case(
            "AWS::IAM::ManagedPolicy",
            |name, value| {
                format!(
                    "{{ManagedPolicyName: {name}, PolicyDocument: {{Version: '2012-10-17', Statement: \
                     [{{Effect: Deny, Action: 's3:{value}', Resource: '*'}}]}}}}"
                )
            },
            ["names-policy", "names-policy-other"],
            Some(["GetObject", "PutObject"]),
        ),
        case(
            "AWS::EC2::SecurityGroup",
            |description, port| {
                format!(
                    "{{GroupDescription: {description}, VpcId: {vpc}, SecurityGroupIngress: \
                     [{{IpProtocol: tcp, FromPort: {port}, ToPort: {port}, CidrIp: 192.0.2.0/24}}]}}"
                )
            },
            ["one", "another"],
            Some(["22", "3389"]),
        ),
        rule_case("AWS::EC2::SecurityGroupIngress", group, "CidrIp: 192.0.2.0/24"),
        rule_case("AWS::EC2::SecurityGroupEgress", group, "CidrIp: 198.51.100.0/24"),
        case(
            "AWS::EC2::LaunchTemplate",
            |name, kind| format!("{{LaunchTemplateName: {name}, LaunchTemplateData: {{InstanceType: {kind}}}}}"),
            ["names-launch", "names-launch-other"],
            Some(["t3.large", "t3.xlarge"]),
        ),
        case(
            "AWS::Lambda::EventInvokeConfig",
            |qualifier, attempts| {
                format!("{{FunctionName: names-permitted, Qualifier: {qualifier}, MaximumRetryAttempts: {attempts}}}")
            },
            ["$LATEST", "'1'"],
            Some(["0", "1"]),
        ),
        case(
            "AWS::StepFunctions::StateMachine",
            |name, comment| {
                format!(
                    "{{StateMachineName: {name}, RoleArn: 'arn:aws:iam::{ACCOUNT}:role/names-states', Definition: \
                     {{Comment: {comment}, StartAt: Only, States: {{Only: {{Type: Pass, End: true}}}}}}}}"
                )
            },
            ["names-machine", "names-machine-other"],
            Some(["one", "two"]),
        ),
    ]
}

/// A rule beside its group: only its description is changed in place.
fn rule_case(kind: &'static str, group: &str, peer: &str) -> Case {
    case(
        kind,
        |last_port, description| {
            format!(
                "{{GroupId: {group}, IpProtocol: tcp, FromPort: 1000, ToPort: {last_port}, {peer}, Description: {description}}}"
            )
        },
        ["1001", "1002"],
        Some(["one", "two"]),
    )
}

#[tokio::test]
async fn nothing_is_replaced_while_rollback_is_disabled_and_everything_is_changed_in_place() {
    let scene = Scene::new("names-groups").await;
    role("names-lambda", "lambda.amazonaws.com", &["logs:*"]);
    role("names-states", "states.amazonaws.com", &["logs:*"]);
    let permitted = Stack::new("names-permitted").await;
    let template =
        |kind: &str, properties: &str| format!("Resources:\n  R:\n    Type: {kind}\n    Properties: {properties}\n");
    let function = format!(
        "{{FunctionName: names-permitted, Runtime: python3.12, Handler: index.handler, Role: 'arn:aws:iam::{ACCOUNT}:role/names-lambda', \
         Code: {{ZipFile: 'def handler(event, context): pass'}}}}"
    );
    let body = template("AWS::Lambda::Function", &function);
    permitted.client.create_stack().stack_name(&permitted.name).template_body(body).send().await.unwrap();
    assert_eq!(permitted.settled().await, "CREATE_COMPLETE");
    let publish = json!({"FunctionName": "names-permitted"});
    let published = aws(&cloud().credentials(), "lambda", "publish_version", &publish).unwrap();
    assert_eq!(published["Version"], "1");
    let group = scene.site.groups[3].clone();
    let mut tried = BTreeSet::new();
    for Case { kind, before, in_place, replaced } in cases(&scene.site.vpc, &group) {
        tried.insert(kind.to_owned());
        let stack = Stack::new(&format!("names-{}", kind.rsplit("::").next().unwrap().to_lowercase())).await;
        let create = stack.client.create_stack().stack_name(&stack.name).template_body(template(kind, &before));
        create.capabilities(Capability::CapabilityNamedIam).send().await.unwrap();
        assert_eq!(stack.settled().await, "CREATE_COMPLETE", "{kind}: {}", stack.failure_of("R").await);
        let physical_id = async || {
            let read = stack.client.describe_stack_resource().stack_name(&stack.name).logical_resource_id("R");
            let read = read.send().await.unwrap().stack_resource_detail.unwrap();
            read.physical_resource_id.unwrap()
        };
        let update = async |properties: &str, disables: bool| {
            let update = stack.client.update_stack().stack_name(&stack.name).template_body(template(kind, properties));
            let update = update.disable_rollback(disables).capabilities(Capability::CapabilityNamedIam);
            update.send().await.unwrap();
            stack.settled().await
        };
        let id = physical_id().await;
        if let Some(in_place) = &in_place {
            assert_eq!(update(in_place, true).await, "UPDATE_COMPLETE", "{kind}: {}", stack.failure_of("R").await);
            assert_eq!(physical_id().await, id, "{kind}");
        }
        assert_eq!(update(&replaced, true).await, "UPDATE_FAILED", "{kind}");
        assert_eq!(stack.failure_of("R").await, REFUSED, "{kind}");
        assert_eq!(physical_id().await, id, "{kind}");
        // The way on: back, then with rollback.
        stack.client.rollback_stack().stack_name(&stack.name).send().await.unwrap();
        assert_eq!(stack.settled().await, "UPDATE_ROLLBACK_COMPLETE", "{kind}");
        assert_eq!(physical_id().await, id, "{kind}");
        assert_eq!(update(&replaced, false).await, "UPDATE_COMPLETE", "{kind}: {}", stack.failure_of("R").await);
        assert_ne!(physical_id().await, id, "{kind}");
    }
    let untried: Vec<String> = types().difference(&tried).cloned().collect();
    assert_eq!(untried, UNTRIED);
}

/// Another function under an open incident: CloudFormation says so before it calls either, with rollback or without. What is
/// isolated stays so, and the way on is the function of before.
#[tokio::test]
async fn an_incident_keeps_its_function_and_what_it_isolated() {
    let mut scene = Scene::prepared("token").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    let incident = std::fs::read_to_string("incident.yaml").unwrap();
    let token = "ServiceToken: !ImportValue ec2-isolation-v1-FunctionArn";
    assert!(incident.contains(token));
    let other = format!("ServiceToken: arn:aws:lambda:us-east-1:{ACCOUNT}:function:another");
    let changed = incident.replace(token, &other);
    scene.incident.list(&[&a, &b]);
    let (stack, given) = (Stack::new("token").await, parameters(scene.incident.parameters()));
    let since = cloud().now().await;
    for (disables, ends_in) in [(false, "UPDATE_ROLLBACK_COMPLETE"), (true, "UPDATE_FAILED")] {
        let update = stack.client.update_stack().stack_name("token").template_body(&changed);
        let update = update.set_parameters(Some(given.clone())).disable_rollback(disables);
        update.send().await.unwrap();
        assert_eq!(stack.settled().await, ends_in);
        assert_eq!(stack.failure_of("Isolation").await, "Modifying service token is not allowed.");
        scene.assert_isolated(&[&a]).await;
    }
    let changes = cloud().calls(since).await;
    let changes = changes.iter().filter(|call| call.action == "ModifyNetworkInterfaceAttribute").count();
    assert_eq!(changes, 0, "nothing was released, and nothing isolated");

    let update = stack.client.update_stack().stack_name("token").template_body(&incident);
    update.set_parameters(Some(given)).disable_rollback(true).send().await.unwrap();
    assert_eq!(stack.settled().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}
