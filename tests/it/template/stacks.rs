//! Responder, incident and forensic host: what must never change about them, and what must fit.

use std::collections::BTreeSet;

use ec2_isolation::cloudformation::properties::PROPERTIES;
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Value, json};

use super::{Stack, plain};
use crate::template::shown;

/// The properties of an incident that the contract of the exports' names, `v1`, is about.
const CONTRACT_1: [&str; 21] = [
    "AllowPartialIsolation",
    "CutEstablishedConnections",
    "DetachInstanceProfile",
    "DisableInstanceMetadata",
    "DryRun",
    "ForensicPorts",
    "ForensicSecurityGroupId",
    "FunctionOutlivesStack",
    "HoldSeconds",
    "InstanceIds",
    "IsolatedSecurityGroupId",
    "LockSnapshotDays",
    "OnRemoval",
    "OnRollback",
    "ProtectInstances",
    "Purpose",
    "Rerun",
    "SnapshotVolumes",
    "TransitSecurityGroupId",
    "VpcId",
    "Watch",
];

fn text(file: &str) -> String {
    std::fs::read_to_string(file).unwrap()
}

fn template(file: &str) -> Value {
    plain(&Yaml::load_from_str(&text(file)).unwrap()[0])
}

/// Its ARN is the `ServiceToken` of every open incident, which CloudFormation does not change: another name, or another logical id
/// under the same name, would replace the function under them.
#[test]
fn the_responders_function_has_its_name_for_ever() {
    let responder = template("responder.yaml");
    let function = &responder["Resources"]["IsolationFunction"];
    assert_eq!(function["Type"], "AWS::Serverless::Function");
    assert_eq!(function["Properties"]["FunctionName"], "ec2-isolation");
    assert_eq!(function["Properties"].get("PackageType"), None);
    let exports: Vec<String> = responder["Outputs"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|output| Some(shown(output.get("Export")?.get("Name")?)))
        .collect();
    for name in ["FunctionArn", "RecordsTable", "LogGroup"] {
        assert!(exports.contains(&format!("ec2-isolation-v1-{name}")), "{name}: {exports:?}");
    }
    assert!(exports.contains(&ec2_isolation::operator::stack::RECORDS_EXPORT.to_owned()));
}

#[test]
fn an_incident_imports_what_a_responder_exports_and_nothing_else() {
    let (incident, responder) = (text("incident.yaml"), text("responder.yaml"));
    let imports: Vec<&str> =
        incident.split("!ImportValue ").skip(1).map(|rest| rest.split([' ', '\n', '}', ']']).next().unwrap()).collect();
    assert!(imports.len() >= 3, "{imports:?}");
    for import in imports {
        assert!(responder.contains(&format!("Export: {{Name: {import}}}")), "{import}");
    }
    let token = &template("incident.yaml")["Resources"]["Isolation"]["Properties"]["ServiceToken"];
    assert_eq!(token, &json!({"Fn::ImportValue": "ec2-isolation-v1-FunctionArn"}));
}

/// A responder that is older than an incident ignores what it does not know. So another property is another contract.
#[test]
fn an_incident_asks_for_what_a_responder_of_this_contract_knows() {
    let isolation = &template("incident.yaml")["Resources"]["Isolation"]["Properties"];
    let given: BTreeSet<&str> = isolation.as_object().unwrap().keys().map(String::as_str).collect();
    let read: BTreeSet<&str> = PROPERTIES.iter().map(|property| property.name).collect();
    // What the first one answers to, beside what CloudFormation reads itself.
    let first: BTreeSet<&str> = CONTRACT_1.into();
    let of_cloudformation = BTreeSet::from(["ServiceToken", "ServiceTimeout"]);
    let raise = "raise the contract to 2 (v1 in the exports)";
    assert_eq!(&given - &of_cloudformation, first, "{raise}");
    // The function reads more than an incident gives, from the stack that has its own host and policy. Whoever comes later reads all.
    assert!(first.difference(&read).all(|name| *name == "Rerun"), "{raise}: {read:?}");
    assert!(text("parts/responder.yaml").contains(r#""contract": 1,"#));
}

/// It goes in the request itself, needs no capability, and only its two groups come before the function is called.
#[test]
fn an_incident_needs_neither_bucket_nor_capability() {
    let incident = template("incident.yaml");
    assert!(text("incident.yaml").len() <= 51_200);
    assert_eq!(incident.get("Transform"), None);
    let (after, before): (Vec<_>, Vec<_>) = incident["Resources"]
        .as_object()
        .unwrap()
        .values()
        .partition(|body| body.get("DependsOn").is_some_and(|waits| waits == "Isolation"));
    let kinds = |bodies: Vec<&Value>| bodies.iter().map(|body| shown(&body["Type"])).collect::<Vec<_>>();
    assert_eq!(kinds(before), ["AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroup", "Custom::Ec2Isolation"]);
    assert_eq!(kinds(after), ["AWS::CloudWatch::Alarm", "AWS::CloudWatch::Alarm"]);
    let properties = &Stack::of("incident.yaml", &[]).resources["Isolation"]["Properties"];
    assert_eq!(properties["FunctionOutlivesStack"], "true");
    assert_eq!(Stack::new(&[]).resources["Isolation"]["Properties"]["FunctionOutlivesStack"], "false");
}

#[test]
fn a_host_stack_touches_nothing_of_the_isolation_but_lets_itself_in() {
    let host = Stack::of("host.yaml", &[("ForensicPorts", "22,3389,22")]);
    assert_eq!(template("host.yaml").get("Transform"), None);
    let ingress = &host.resources["ForensicIngressToIsolated"]["Properties"];
    assert_eq!(ingress["GroupId"], "a-IsolatedSecurityGroupId");
    assert_eq!(ingress["SourceSecurityGroupId"], "${ForensicSecurityGroup.GroupId}");
    let rules = host.resources["ForensicSecurityGroup"]["Properties"]["SecurityGroupEgress"].as_array().unwrap();
    let inside = rules.iter().filter(|rule| rule.get("DestinationSecurityGroupId").is_some());
    let ports: Vec<String> =
        inside.map(|rule| format!("{}-{}", shown(&rule["FromPort"]), shown(&rule["ToPort"]))).collect();
    assert_eq!(ports, ["22-22", "3389-3389"]);
    assert!(text("host.yaml").len() <= 51_200);
}

/// CloudFormation fills in `{{…}}` wherever it stands: in a template that is carried as a text it would be too early.
#[test]
fn the_responder_carries_both_templates_as_they_are() {
    let responder = template("responder.yaml");
    for (document, file) in [
        ("IncidentTemplate", "incident.yaml"),
        ("HostTemplate", "host.yaml"),
        ("CredentialsTemplate", "credentials.yaml"),
    ] {
        let properties = &responder["Resources"][document]["Properties"];
        assert_eq!(properties["Content"].as_str().unwrap(), text(file), "{file}");
        assert!(!text(file).contains("{{"), "{file}");
        assert_eq!(properties["UpdateMethod"], "NewVersion", "a replacement would collide with the name");
    }
    let found = &responder["Resources"]["ResponderParameter"]["Properties"]["Value"]["Fn::Sub"][0];
    let value: Value = serde_json::from_str(found.as_str().unwrap()).unwrap();
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["notify_topic"], "${Topic}");
}

/// What a pipeline or a person reads without knowing the stack's name.
#[test]
fn the_responders_parameter_says_where_everything_is() {
    let responder =
        Stack::of("responder.yaml", &[("IncidentRole", "true"), ("NotifyTopicArn", "arn:aws:sns:r:1:mine")]);
    let parameter = &responder.resources["ResponderParameter"]["Properties"];
    assert_eq!((&parameter["Name"], &parameter["Type"]), (&json!("/ec2-isolation/responder"), &json!("String")));
    let address = |document: &str| {
        let name = &responder.resources[document]["Properties"]["Name"];
        format!("ssm-doc://arn:aws:ssm:us-east-1:111111111111:document/{}", shown(name))
    };
    let value: Value = serde_json::from_str(parameter["Value"].as_str().unwrap()).unwrap();
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "contract": 1,
        "stack": "arn:aws:cloudformation:us-east-1:111111111111:stack/incident-42/1",
        "function": "${IsolationFunction.Arn}",
        "table": "${SecurityGroupTable}",
        "log": "${IsolationLogGroup}",
        "incident_template": address("IncidentTemplate"),
        "host_template": address("HostTemplate"),
        "credentials_template": address("CredentialsTemplate"),
        "incident_role": "${IncidentStackRole.Arn}",
        "notify_topic": "arn:aws:sns:r:1:mine",
    });
    assert_eq!(value, expected);
    // The contract is that of the exports' names.
    assert!(ec2_isolation::operator::stack::FUNCTION_EXPORT.contains("-v1-"));
}
