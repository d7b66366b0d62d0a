//! The template, evaluated as CloudFormation does it: what a stack gets for given parameters.

use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

const ACCOUNT: &str = "111111111111";

/// The template for given parameters: resources of false conditions are gone, functions are resolved. What only a deployment
/// knows stays as `${LogicalId}` and `${LogicalId.Attribute}`.
pub struct Stack {
    parameters: BTreeMap<String, Value>,
    conditions: Value,
    pub resources: BTreeMap<String, Value>,
    pub outputs: BTreeMap<String, Value>,
}

impl Stack {
    pub fn new(overrides: &[(&str, &str)]) -> Self {
        let text = std::fs::read_to_string("template.yaml").unwrap();
        let template = plain(&Yaml::load_from_str(&text).unwrap()[0]);
        let mut parameters: BTreeMap<String, Value> = BTreeMap::new();
        for (name, parameter) in template["Parameters"].as_object().unwrap() {
            let default =
                parameter.get("Default").map_or_else(|| json!(format!("a-{name}")), |value| json!(shown(value)));
            parameters.insert(name.clone(), default);
        }
        for (name, value) in overrides {
            assert!(template["Parameters"].get(*name).is_some(), "no parameter {name}");
            parameters.insert((*name).to_owned(), json!(value));
        }
        for (name, value) in [
            ("AWS::Partition", "aws"),
            ("AWS::Region", "us-east-1"),
            ("AWS::AccountId", ACCOUNT),
            ("AWS::URLSuffix", "amazonaws.com"),
            ("AWS::StackName", "incident-42"),
            ("AWS::StackId", "arn:aws:cloudformation:us-east-1:111111111111:stack/incident-42/1"),
        ] {
            parameters.insert(name.to_owned(), json!(value));
        }
        let conditions = template["Conditions"].clone();
        let mut stack = Self { parameters, conditions, resources: BTreeMap::new(), outputs: BTreeMap::new() };
        stack.resources = stack.present(&template["Resources"]);
        stack.outputs = stack.present(&template["Outputs"]);
        stack
    }

    fn present(&self, section: &Value) -> BTreeMap<String, Value> {
        let wanted = |item: &&Value| item.get("Condition").is_none_or(|name| self.condition(name.as_str().unwrap()));
        let items = section.as_object().unwrap().iter().filter(|(_, item)| wanted(item));
        items.map(|(name, item)| (name.clone(), self.resolve(item))).collect()
    }

    pub fn condition(&self, name: &str) -> bool {
        self.is_true(&self.conditions[name])
    }

    fn is_true(&self, value: &Value) -> bool {
        let (function, argument) = value.as_object().unwrap().iter().next().unwrap();
        let mut arguments = argument.as_array().into_iter().flatten();
        match function.as_str() {
            "Fn::Equals" => self.resolve(&argument[0]) == self.resolve(&argument[1]),
            "Fn::Not" => !self.is_true(&argument[0]),
            "Fn::And" => arguments.all(|value| self.is_true(value)),
            "Fn::Or" => arguments.any(|value| self.is_true(value)),
            "Condition" => self.condition(argument.as_str().unwrap()),
            other => panic!("{other} in a condition"),
        }
    }

    /// Nothing where the value is `AWS::NoValue`.
    fn value(&self, value: &Value) -> Option<Value> {
        Some(match value {
            Value::Array(items) => items.iter().filter_map(|item| self.value(item)).collect(),
            Value::Object(map) if map.len() == 1 => {
                let (function, argument) = map.iter().next().unwrap();
                match function.as_str() {
                    "Ref" if argument == "AWS::NoValue" => return None,
                    "Ref" => self.reference(argument.as_str().unwrap()),
                    "Fn::GetAtt" => json!(format!("${{{}}}", argument.as_str().unwrap())),
                    "Fn::Base64" => self.resolve(argument),
                    "Fn::Sub" => json!(self.substitute(argument)),
                    "Fn::Select" => {
                        let index: usize = shown(&argument[0]).parse().unwrap();
                        self.resolve(&argument[1])[index].clone()
                    }
                    "Fn::Join" => {
                        let parts = self.resolve(&argument[1]);
                        let parts: Vec<_> = parts.as_array().unwrap().iter().map(shown).collect();
                        json!(parts.join(argument[0].as_str().unwrap()))
                    }
                    "Fn::Split" => {
                        let text = shown(&self.resolve(&argument[1]));
                        text.split(argument[0].as_str().unwrap()).collect()
                    }
                    "Fn::If" => {
                        let chosen = if self.condition(argument[0].as_str().unwrap()) { 1 } else { 2 };
                        return self.value(&argument[chosen]);
                    }
                    _ => json!({function: self.resolve(argument)}),
                }
            }
            Value::Object(map) => {
                Value::Object(map.iter().filter_map(|(key, item)| Some((key.clone(), self.value(item)?))).collect())
            }
            scalar => scalar.clone(),
        })
    }

    fn resolve(&self, value: &Value) -> Value {
        self.value(value).unwrap_or(Value::Null)
    }

    fn reference(&self, name: &str) -> Value {
        self.parameters.get(name).cloned().unwrap_or_else(|| json!(format!("${{{name}}}")))
    }

    fn substitute(&self, argument: &Value) -> String {
        let mut text = argument.as_str().or_else(|| argument[0].as_str()).unwrap().to_owned();
        for (name, value) in argument.get(1).and_then(Value::as_object).into_iter().flatten() {
            text = text.replace(&format!("${{{name}}}"), &shown(&self.resolve(value)));
        }
        for (name, value) in &self.parameters {
            text = text.replace(&format!("${{{name}}}"), &shown(value));
        }
        text.replace("${!", "${")
    }

    /// The rules of a group in one direction, as `tcp 22-22 sg-1 of 111111111111`.
    fn rules(&self, group: &str, direction: &str) -> Vec<String> {
        let rules = self.resources[group]["Properties"][direction].as_array().unwrap().iter();
        let text = |rule: &Value| {
            let peer = ["CidrIp", "CidrIpv6", "SourceSecurityGroupId"].iter().find_map(|name| rule.get(*name)).unwrap();
            let owner = rule.get("SourceSecurityGroupOwnerId").map(|owner| format!(" of {}", shown(owner)));
            let ports = rule.get("FromPort").map(|from| format!(" {}-{}", shown(from), shown(&rule["ToPort"])));
            let protocol = shown(&rule["IpProtocol"]);
            format!("{protocol}{} {}{}", ports.unwrap_or_default(), shown(peer), owner.unwrap_or_default())
        };
        rules.map(text).collect()
    }
}

/// A scalar as CloudFormation passes it: as text.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// YAML with its short tags spelt out, as JSON.
fn plain(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.0),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(plain).collect(),
        Yaml::Mapping(map) => {
            Value::Object(map.iter().map(|(key, value)| (shown(&plain(key)), plain(value))).collect::<Map<_, _>>())
        }
        Yaml::Tagged(tag, inner) => {
            let name = match tag.suffix.as_str() {
                short @ ("Ref" | "Condition") => short.to_owned(),
                other => format!("Fn::{other}"),
            };
            json!({name: plain(inner)})
        }
        other => panic!("{other:?}"),
    }
}

/// The group of a forensic host elsewhere, in each form, and what the isolation group then admits.
#[test]
fn the_isolation_group_admits_the_forensic_group_on_the_forensic_ports_and_nobody_else() {
    const HEX: &str = "0123456789abcdef0";
    for (group, peer) in [
        ("", "${ForensicSecurityGroup.GroupId}".to_owned()),
        (&format!("sg-{HEX}"), format!("sg-{HEX} of {ACCOUNT}")),
        (&format!("222222222222/sg-{HEX}"), format!("sg-{HEX} of 222222222222")),
        ("222222222222/sg-01234567", "sg-01234567 of 222222222222".to_owned()),
    ] {
        for (ports, expected) in [
            ("22", vec![22]),
            ("22,3389", vec![22, 3389]),
            ("3389,5985,5986", vec![3389, 5985, 5986]),
            ("22,22", vec![22]),
            ("22,3389,22", vec![22, 3389]),
            ("22,3389,3389", vec![22, 3389]),
            ("22,22,3389", vec![22, 3389]),
        ] {
            for image in ["", "ami-0123456789abcdef0"] {
                let stack = Stack::new(&[
                    ("ForensicSecurityGroupId", group),
                    ("ForensicPorts", ports),
                    ("ForensicAmiId", image),
                ]);
                let rules: Vec<_> = expected.iter().map(|port| format!("tcp {port}-{port} {peer}")).collect();
                assert_eq!(stack.rules("IsolatedSecurityGroup", "SecurityGroupIngress"), rules, "{group} {ports}");
                let isolation = &stack.resources["Isolation"]["Properties"];
                assert_eq!(isolation["ForensicPorts"], json!(ports));
                let passed = if group.is_empty() { "${ForensicSecurityGroup.GroupId}" } else { group };
                assert_eq!(isolation["ForensicSecurityGroupId"], json!(passed));
                check_host(&stack, group.is_empty(), image, &expected);
            }
        }
    }
}

/// Host, group and ways out are there together or not at all; the ways out are the ports that the isolation group lets in.
fn check_host(stack: &Stack, is_here: bool, image: &str, ports: &[u16]) {
    for name in ["ForensicInstance", "ForensicLaunchTemplate", "ForensicSecurityGroup"] {
        assert_eq!(stack.resources.contains_key(name), is_here, "{name}");
    }
    assert_eq!(stack.outputs.contains_key("ForensicHostSsh"), is_here);
    assert_eq!(stack.outputs.contains_key("ForensicHostState"), is_here && image.is_empty());
    let egress = stack.resources.values().filter(|resource| resource["Type"] == "AWS::EC2::SecurityGroupEgress");
    let mut out: Vec<_> = egress.map(|rule| shown(&rule["Properties"]["FromPort"]).parse::<u16>().unwrap()).collect();
    out.sort_unstable();
    assert_eq!(out, if is_here { ports } else { &[] });
    if !is_here {
        return;
    }
    assert_eq!(
        stack.rules("ForensicSecurityGroup", "SecurityGroupIngress"),
        ["tcp 22-22 a-CompanyIp/32"],
        "ssh from one address is the only way in"
    );
    let data = &stack.resources["ForensicLaunchTemplate"]["Properties"]["LaunchTemplateData"];
    let host = &stack.resources["ForensicInstance"]["Properties"];
    if image.is_empty() {
        let path = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id";
        assert_eq!(data["ImageId"], json!(format!("resolve:ssm:{path}")));
        // EC2's limit, before encoding.
        assert!(host["UserData"].as_str().unwrap().len() < 16 * 1024);
    } else {
        assert_eq!(data["ImageId"], json!(image));
        assert_eq!(host.get("UserData"), None, "nothing is installed on an image of one's own");
    }
    assert_eq!(host.get("DisableApiTermination"), None, "it would keep the stack from being deleted");
    assert_eq!(host.get("IamInstanceProfile"), None);
    assert_eq!(data["MetadataOptions"]["HttpTokens"], "required");
    let disk = &host["BlockDeviceMappings"][0]["Ebs"];
    assert_eq!(
        (&disk["VolumeType"], &disk["Encrypted"], &disk["DeleteOnTermination"]),
        (&json!("gp3"), &json!(true), &json!(false))
    );
}

/// Nothing that becomes of the forensic host is waited for: the isolation comes first, and no signal is.
#[test]
fn nothing_waits_for_the_forensic_host() {
    let stack = Stack::new(&[]);
    assert_eq!(stack.resources["ForensicInstance"]["DependsOn"], "Isolation");
    let host = ["ForensicInstance", "ForensicLaunchTemplate"];
    for (name, resource) in &stack.resources {
        assert_eq!(resource.get("CreationPolicy"), None, "{name}");
        assert_ne!(resource["Type"], "AWS::CloudFormation::WaitCondition", "{name}");
        if !host.contains(&name.as_str()) {
            let text = resource.to_string();
            assert!(host.iter().all(|host| !text.contains(&format!("${{{host}"))), "{name} waits for the host");
        }
    }
}

#[test]
fn every_arn_and_host_name_follows_the_partition() {
    let text = std::fs::read_to_string("template.yaml").unwrap();
    assert!(!text.contains("arn:aws:"), "arn:${{AWS::Partition}}: is right in China and GovCloud too");
    // Services' own names, and where the helper scripts are published for every partition.
    let fixed = text.lines().map(str::trim).filter(|line| line.contains(".amazonaws.com"));
    let helper = "https://s3.amazonaws.com/cloudformation-examples/aws-cfn-bootstrap-py3-2.0-39.tar.gz";
    let services = "StringEquals: {iam:PassedToService: [ec2.amazonaws.com, ec2.amazonaws.com.cn]}";
    assert_eq!(fixed.collect::<Vec<_>>(), [services, helper]);
}

/// Two incidents side by side: what has a name of its own could be there once only.
#[test]
fn no_resource_has_a_name_of_its_own() {
    for (name, resource) in Stack::new(&[]).resources {
        for property in ["GroupName", "TableName", "LogGroupName", "FunctionName", "RoleName", "LaunchTemplateName"] {
            assert_eq!(resource["Properties"].get(property), None, "{name}");
        }
    }
}

/// Every parameter has its place, its label and its explanation in the console.
#[test]
fn the_console_shows_every_parameter_with_a_label_in_a_group() {
    let text = std::fs::read_to_string("template.yaml").unwrap();
    let template = plain(&Yaml::load_from_str(&text).unwrap()[0]);
    let interface = &template["Metadata"]["AWS::CloudFormation::Interface"];
    let groups = interface["ParameterGroups"].as_array().unwrap().iter();
    let mut grouped: Vec<_> = groups.flat_map(|group| group["Parameters"].as_array().unwrap()).map(shown).collect();
    grouped.sort();
    let parameters = template["Parameters"].as_object().unwrap();
    let mut names: Vec<_> = parameters.keys().cloned().collect();
    names.sort();
    assert_eq!(grouped, names);
    for (name, parameter) in parameters {
        assert!(interface["ParameterLabels"][name]["default"].is_string(), "{name}");
        assert!(parameter["Description"].as_str().is_some_and(|text| text.len() < 4000), "{name}");
        let is_checked = parameter.get("AllowedPattern").is_none() || parameter["ConstraintDescription"].is_string();
        assert!(is_checked, "{name}: what is refused says what is wanted");
    }
}
