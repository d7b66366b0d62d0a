//! Incidents beside a responder: the stacks that README's prepared way makes, by CloudFormation's own API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_cloudformation::operation::create_stack::builders::CreateStackFluentBuilder;
use aws_sdk_cloudformation::types::Parameter;

use crate::cloud::{BUILT, Cloud};
use crate::fleet::Site;
use crate::incident::Incident;

pub const RESPONDER: &str = "ec2-isolation-responder";

/// What CloudFormation does to a stack on its way to a status that lasts.
const ON_THE_WAY: [&str; 7] = [
    "CREATE_IN_PROGRESS",
    "ROLLBACK_IN_PROGRESS",
    "UPDATE_IN_PROGRESS",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    "DELETE_IN_PROGRESS",
];

/// `make responder`.
pub fn deploy_responder(cloud: &Cloud, parameters: &[&str]) {
    let (succeeded, output) = try_responder(cloud, Path::new("responder.yaml"), &[], parameters);
    assert!(succeeded, "{output}");
}

/// The same with another template and further options of `sam deploy`: whether it succeeded, and what it printed.
pub fn try_responder(cloud: &Cloud, template: &Path, options: &[&str], parameters: &[&str]) -> (bool, String) {
    // The SAM CLI looks for its settings beside the template.
    let config = std::fs::canonicalize("samconfig.toml").expect("samconfig.toml is there");
    let [template, config] = [template, &config].map(|path| path.to_str().expect("a path in UTF-8"));
    let mut arguments = vec!["deploy", "--stack-name", RESPONDER, "--template-file", template, "--config-file", config];
    arguments.extend(options);
    if !parameters.is_empty() {
        arguments.push("--parameter-overrides");
    }
    arguments.extend(parameters);
    cloud.sam(&arguments)
}

/// The responder's template with changes, written beside the built one. Its function is in `IsolationFunction` there.
pub fn changed_responder(name: &str, change: impl Fn(&str) -> String) -> PathBuf {
    let text = std::fs::read_to_string("responder.yaml").expect("it is there");
    let mut text = text.replace(".aws-sam/build/IsolationFunction", "IsolationFunction");
    for beside in ["LICENSE-APACHE", "README.md"] {
        text = text.replace(&format!("Url: {beside}"), &format!("Url: ../../{beside}"));
    }
    let path = Path::new(BUILT).with_file_name(format!("responder-{name}.yaml"));
    std::fs::write(&path, change(&text)).expect("the build directory can be written");
    path
}

/// Where the responder keeps a template.
pub fn template_url(of: &str) -> String {
    format!("ssm-doc://arn:aws:ssm:us-east-1:123456789012:document/ec2-isolation-{of}")
}

pub fn parameters(given: &BTreeMap<&'static str, String>) -> Vec<Parameter> {
    given.iter().map(|(key, value)| Parameter::builder().parameter_key(*key).parameter_value(value).build()).collect()
}

impl Incident<'_> {
    /// `create-stack` with the responder's template; the status that it ends in.
    pub async fn create(&self, rollback: bool) -> String {
        let cloudformation = self.cloud.cloudformation().await;
        let request = cloudformation.create_stack().template_url(template_url("incident"));
        self.created(request.disable_rollback(!rollback)).await
    }

    /// The same with another template, role or caller.
    pub async fn created(&self, request: CreateStackFluentBuilder) -> String {
        let request = request.stack_name(&self.name).set_parameters(Some(parameters(self.parameters())));
        let id = request.send().await.expect("it is accepted").stack_id.expect("an id");
        self.ends_in(&id, &ON_THE_WAY).await
    }

    /// `update-stack` with these parameters; the status that it ends in.
    pub async fn update(&self) -> String {
        let cloudformation = self.cloud.cloudformation().await;
        let request = cloudformation.update_stack().stack_name(&self.name).use_previous_template(true);
        let request = request.set_parameters(Some(parameters(self.parameters()))).disable_rollback(true);
        let id = request.send().await.expect("it is accepted").stack_id.expect("an id");
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.ends_in(&id, &ON_THE_WAY).await
    }

    fn host_name(&self) -> String {
        format!("{}-host", self.name)
    }

    /// Makes the incident's forensic host, or changes it; the status that its stack ends in.
    pub async fn host(&self, site: &Site, key: &str, ports: &str) -> String {
        self.host_with(site, key, &[("ForensicPorts", ports)], None).await
    }

    /// The same with other parameters, or a service role.
    pub async fn host_with(&self, site: &Site, key: &str, more: &[(&'static str, &str)], role: Option<&str>) -> String {
        let cloudformation = self.cloud.cloudformation().await;
        let mut given = BTreeMap::from([
            ("VpcId", site.vpc.clone()),
            ("IsolatedSecurityGroupId", self.physical_id("IsolatedSecurityGroup").await),
            ("ForensicSubnetId", site.subnet.clone()),
            ("Ec2KeyName", key.to_owned()),
            ("CompanyIp", "203.0.113.7".to_owned()),
        ]);
        given.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let (name, url, given) = (self.host_name(), template_url("host"), Some(parameters(&given)));
        let id = if cloudformation.describe_stacks().stack_name(&name).send().await.is_ok() {
            let request = cloudformation.update_stack().stack_name(name).template_url(url).set_parameters(given);
            let request = request.set_role_arn(role.map(str::to_owned));
            request.send().await.expect("it is accepted").stack_id
        } else {
            let request = cloudformation.create_stack().stack_name(name).template_url(url).set_parameters(given);
            let request = request.set_role_arn(role.map(str::to_owned));
            request.send().await.expect("it is accepted").stack_id
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.ends_in(&id.expect("an id"), &ON_THE_WAY).await
    }

    /// The forensic host that there is now.
    pub async fn host_instance(&self) -> String {
        let cloudformation = self.cloud.cloudformation().await;
        let read = cloudformation.describe_stack_resource().stack_name(self.host_name());
        let read = read.logical_resource_id("ForensicInstance").send().await.expect("it is there");
        let id = read.stack_resource_detail().and_then(|host| host.physical_resource_id());
        id.expect("an id").to_owned()
    }

    pub async fn delete_host(&self) -> String {
        let cloudformation = self.cloud.cloudformation().await;
        let name = self.host_name();
        let stacks = cloudformation.describe_stacks().stack_name(&name).send().await.expect("it is there");
        let id = stacks.stacks()[0].stack_id().expect("an id").to_owned();
        cloudformation.delete_stack().stack_name(name).send().await.expect("it is accepted");
        self.ends_in(&id, &ON_THE_WAY).await
    }

    /// Asks for the deletion of the responder, which is refused: in what words.
    pub async fn responder_is_kept(&self) -> String {
        let cloudformation = self.cloud.cloudformation().await;
        match cloudformation.delete_stack().stack_name(RESPONDER).send().await {
            Err(error) => aws_sdk_cloudformation::error::DisplayErrorContext(error).to_string(),
            Ok(_) => {
                let status = self.ends_in(RESPONDER, &ON_THE_WAY).await;
                let last = self.events(RESPONDER).await.pop().unwrap_or_default();
                format!("{status}: {last}")
            }
        }
    }
}
