//! One incident: a deployed stack, its parameters, outputs, events and records.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use aws_sdk_cloudformation::types::ResourceStatus;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::cloud::{BUILT, Cloud};
use crate::fleet::Site;

/// A stack that is deployed with the SAM CLI, as a responder does it.
#[derive(Debug)]
pub struct Incident<'a> {
    pub cloud: &'a Cloud,
    pub name: String,
    pub template: PathBuf,
    /// Further arguments of `sam deploy`.
    pub options: Vec<&'static str>,
    parameters: BTreeMap<&'static str, String>,
}

impl<'a> Incident<'a> {
    pub fn new(cloud: &'a Cloud, name: &str, site: &Site, key: &str) -> Self {
        let parameters = [
            ("VpcId", site.vpc.clone()),
            ("ForensicSubnetId", site.subnet.clone()),
            ("Ec2KeyName", key.to_owned()),
            ("CompanyIp", "203.0.113.7".to_owned()),
            ("HoldSeconds", "1".to_owned()),
        ];
        Self {
            cloud,
            name: name.to_owned(),
            template: Path::new(BUILT).to_owned(),
            options: vec![],
            parameters: parameters.into(),
        }
    }

    pub fn set(&mut self, parameter: &'static str, value: impl Into<String>) -> &mut Self {
        self.parameters.insert(parameter, value.into());
        self
    }

    pub fn parameters(&self) -> &BTreeMap<&'static str, String> {
        &self.parameters
    }

    pub fn unset(&mut self, parameter: &'static str) {
        self.parameters.remove(parameter);
    }

    pub fn list(&mut self, instances: &[&str]) -> &mut Self {
        self.set("CompromisedInstanceList", instances.join(","))
    }

    /// `sam deploy`: whether it succeeded, and what it printed.
    pub fn try_deploy(&self) -> (bool, String) {
        let parameters: Vec<String> = self.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let template = self.template.to_str().expect("a path in UTF-8");
        let config = std::fs::canonicalize("samconfig.toml").expect("samconfig.toml is there");
        let config = config.to_str().expect("a path in UTF-8");
        let mut arguments =
            vec!["deploy", "--stack-name", &self.name, "--template-file", template, "--config-file", config];
        arguments.extend(&self.options);
        arguments.push("--parameter-overrides");
        arguments.extend(parameters.iter().map(String::as_str));
        self.cloud.sam(&arguments)
    }

    pub fn deploy(&self) {
        let (succeeded, output) = self.try_deploy();
        assert!(succeeded, "{output}");
    }

    /// Deploys, which must fail; returns why the custom resource failed.
    pub async fn deploy_fails(&self) -> String {
        let (succeeded, output) = self.try_deploy();
        assert!(!succeeded, "{:?}: {output}", self.parameters);
        match self.reasons("Isolation").await.into_iter().next() {
            Some(reason) => reason,
            None => panic!("the custom resource did not fail:\n{output}\n{}", self.events(&self.name).await.join("\n")),
        }
    }

    /// Lets a stack be deleted that the program has made or changed.
    pub async fn unprotect(&self) {
        let cloudformation = self.cloud.cloudformation().await;
        let off = cloudformation.update_termination_protection().enable_termination_protection(false);
        off.stack_name(&self.name).send().await.expect("it is there");
    }

    /// `delete-stack`, which must succeed. Not with the SAM CLI: its waiter looks every 30 s.
    pub async fn delete(&self) {
        assert_eq!(self.delete_ends_in().await, "DELETE_COMPLETE", "{}", self.events(&self.name).await.join("\n"));
    }

    /// `delete-stack`, and the status that the stack ends in.
    pub async fn delete_ends_in(&self) -> String {
        let id = self.stack_id().await;
        let cloudformation = self.cloud.cloudformation().await;
        cloudformation.delete_stack().stack_name(&self.name).send().await.expect("it can be deleted");
        self.ends_in(&id, &["DELETE_IN_PROGRESS"]).await
    }

    /// The first status of a stack that is none of these.
    pub async fn ends_in(&self, stack: &str, on_the_way: &[&str]) -> String {
        let cloudformation = self.cloud.cloudformation().await;
        for _ in 0..600 {
            let stacks = cloudformation.describe_stacks().stack_name(stack).send().await.expect("the id stays known");
            let status = stacks.stacks().first().and_then(|stack| stack.stack_status()).expect("a status").as_str();
            if !on_the_way.contains(&status) {
                return status.to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        panic!("{stack} is still in one of {on_the_way:?} after two minutes");
    }

    pub async fn stack_id(&self) -> String {
        let stacks = self.cloud.cloudformation().await.describe_stacks().stack_name(&self.name).send().await;
        let stacks = stacks.expect("the stack is there");
        stacks.stacks().first().and_then(|stack| stack.stack_id()).expect("an id").to_owned()
    }

    pub async fn status(&self) -> String {
        let stacks = self.cloud.cloudformation().await.describe_stacks().stack_name(&self.name).send().await;
        let stacks = stacks.expect("the stack is there");
        stacks.stacks().first().and_then(|stack| stack.stack_status()).expect("a status").as_str().to_owned()
    }

    pub async fn outputs(&self) -> BTreeMap<String, String> {
        self.outputs_of(&self.name).await
    }

    pub async fn outputs_of(&self, stack: &str) -> BTreeMap<String, String> {
        let stacks = self.cloud.cloudformation().await.describe_stacks().stack_name(stack).send().await;
        let stacks = stacks.expect("the stack is there");
        let outputs = stacks.stacks().first().expect("one stack").outputs().iter();
        outputs
            .map(|output| {
                (
                    output.output_key().unwrap_or_default().to_owned(),
                    output.output_value().unwrap_or_default().to_owned(),
                )
            })
            .collect()
    }

    /// `time status logical id: reason`, oldest first. `stack` is the name, or the id once the stack is deleted.
    pub async fn events(&self, stack: &str) -> Vec<String> {
        let events = self.cloud.cloudformation().await.describe_stack_events().stack_name(stack).send().await;
        let mut lines: Vec<String> = events
            .expect("events")
            .stack_events()
            .iter()
            .map(|event| {
                let status = event.resource_status().map(ResourceStatus::as_str).unwrap_or_default();
                let reason = event.resource_status_reason().unwrap_or_default();
                format!("{status:20} {:32} {reason}", event.logical_resource_id().unwrap_or_default())
            })
            .collect();
        lines.reverse();
        lines
    }

    /// Why a resource failed, latest first.
    pub async fn reasons(&self, logical_id: &str) -> Vec<String> {
        let events = self.cloud.cloudformation().await.describe_stack_events().stack_name(&self.name).send().await;
        let events = events.expect("events");
        let failed = events.stack_events().iter().filter(|event| {
            let status = event.resource_status().map(ResourceStatus::as_str).unwrap_or_default();
            event.logical_resource_id() == Some(logical_id) && status.ends_with("_FAILED")
        });
        failed.map(|event| event.resource_status_reason().unwrap_or_default().to_owned()).collect()
    }

    pub async fn physical_id(&self, logical_id: &str) -> String {
        self.physical_id_in(&self.name, logical_id).await
    }

    /// From the events: a retained resource is no longer listed after a rollback.
    pub async fn physical_id_in(&self, stack: &str, logical_id: &str) -> String {
        let events = self.cloud.cloudformation().await.describe_stack_events().stack_name(stack).send().await;
        let events = events.expect("events");
        let of_resource = events.stack_events().iter().filter(|event| event.logical_resource_id() == Some(logical_id));
        let mut ids = of_resource.filter_map(|event| event.physical_resource_id().filter(|id| !id.is_empty()));
        ids.next().unwrap_or_else(|| panic!("no event names {logical_id}")).to_owned()
    }

    /// The record of one instance, as it stands in the table.
    pub async fn record(&self, table: &str, instance: &str) -> HashMap<String, AttributeValue> {
        let key = AttributeValue::S(instance.to_owned());
        let item = self.cloud.dynamodb().await.get_item().table_name(table).key("InstanceId", key).send().await;
        item.expect("the table stays").item.expect("a record")
    }

    /// The state of the record of each instance, from the records table.
    pub async fn states(&self, table: &str) -> BTreeMap<String, String> {
        let items = self.cloud.dynamodb().await.scan().table_name(table).send().await.expect("the table stays");
        let text = |item: &HashMap<String, AttributeValue>, name: &str| {
            item.get(name).and_then(|value| value.as_s().ok()).cloned()
        };
        items.items().iter().filter_map(|item| Some((text(item, "InstanceId")?, text(item, "State")?))).collect()
    }
}
