//! The template, evaluated as CloudFormation does it: what a stack gets for given parameters.

mod credentials;
mod replacements;
mod resources;
mod stacks;
mod watch;

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
        Self::of("template.yaml", overrides)
    }

    /// The stack that this template makes.
    pub fn of(file: &str, overrides: &[(&str, &str)]) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let template = plain(&Yaml::load_from_str(&text).unwrap()[0]);
        let mut parameters: BTreeMap<String, Value> = BTreeMap::new();
        for (name, parameter) in template["Parameters"].as_object().unwrap() {
            let default =
                parameter.get("Default").map_or_else(|| json!(format!("a-{name}")), |value| json!(shown(value)));
            parameters.insert(name.clone(), default);
        }
        for (name, value) in overrides {
            assert!(name.starts_with("AWS::") || template["Parameters"].get(*name).is_some(), "no parameter {name}");
            parameters.insert((*name).to_owned(), json!(value));
        }
        for (name, value) in parameters.iter_mut().filter(|(name, _)| !name.starts_with("AWS::")) {
            let kind = template["Parameters"][name]["Type"].as_str().unwrap();
            if kind == "CommaDelimitedList" || kind.starts_with("List<") {
                *value = shown(value).split(',').collect();
            }
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
        for (name, value) in overrides.iter().filter(|(name, _)| name.starts_with("AWS::")) {
            parameters.insert((*name).to_owned(), json!(value));
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
