//! The local CloudFormation between stacks: imports and exports, templates in documents, express mode, service roles.

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::config::Credentials;
use aws_sdk_cloudformation::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudformation::types::{
    ChangeSetType, DeploymentConfig, DeploymentConfigMode, Parameter, Stack as Described,
};
use serde_json::{Value, json};

use crate::cloud;
use crate::fleet::aws;
use crate::rules::code;

pub const ACCOUNT: &str = "123456789012";

/// A stack by its name. Its calls go to the administrator's client, unless another one is given.
pub struct Stack {
    pub client: Client,
    pub name: String,
}

/// Logical id, status and reason of an event.
type Event = (String, String, String);

impl Stack {
    pub async fn new(name: &str) -> Self {
        Self { client: cloud().cloudformation().await, name: name.to_owned() }
    }

    /// The same stack in the hands of somebody else.
    fn with(&self, client: &Client) -> Self {
        Self { client: client.clone(), name: self.name.clone() }
    }

    /// Creates a stack without anything special about the call, and says how it ended.
    async fn create(&self, template: &str) -> String {
        self.client.create_stack().stack_name(&self.name).template_body(template).send().await.expect("it begins");
        self.settled().await
    }

    async fn update(&self, template: &str) -> String {
        self.client.update_stack().stack_name(&self.name).template_body(template).send().await.expect("it begins");
        self.settled().await
    }

    async fn delete(&self) -> String {
        self.client.delete_stack().stack_name(&self.name).send().await.expect("it begins");
        self.settled().await
    }

    async fn described(&self) -> Option<Described> {
        let answer = self.client.describe_stacks().stack_name(&self.name).send().await.ok()?;
        answer.stacks.and_then(|stacks| stacks.into_iter().next())
    }

    /// The status once no operation runs; a stack that is gone is `DELETE_COMPLETE`.
    pub async fn settled(&self) -> String {
        loop {
            let Some(stack) = self.described().await else { return "DELETE_COMPLETE".to_owned() };
            let status = stack.stack_status().expect("it has one").as_str().to_owned();
            if !status.ends_with("_IN_PROGRESS") {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn reason(&self) -> String {
        self.described().await.and_then(|stack| stack.stack_status_reason).unwrap_or_default()
    }

    async fn output(&self, name: &str) -> String {
        let stack = self.described().await.expect("it exists");
        let found = stack.outputs().iter().find(|output| output.output_key() == Some(name));
        found.and_then(|output| output.output_value()).expect("it has this output").to_owned()
    }

    /// All events, oldest first.
    async fn events(&self) -> Vec<Event> {
        let answer = self.client.describe_stack_events().stack_name(&self.name).send().await.expect("events");
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let of = |event: &aws_sdk_cloudformation::types::StackEvent| {
            let status = event.resource_status().map(|status| status.as_str());
            (text(event.logical_resource_id()), text(status), text(event.resource_status_reason()))
        };
        answer.stack_events().iter().rev().map(of).collect()
    }

    /// What the events say about a resource that failed.
    pub async fn failure_of(&self, resource: &str) -> String {
        let failed =
            self.events().await.into_iter().rev().find(|(id, status, _)| id == resource && status.ends_with("_FAILED"));
        failed.map(|(_, _, reason)| reason).unwrap_or_default()
    }

    /// An event of the stack itself.
    fn event(&self, status: &str, reason: &str) -> Event {
        (self.name.clone(), status.to_owned(), reason.to_owned())
    }
}

/// The message with which AWS refuses a call.
fn message<T: std::fmt::Debug, E: ProvideErrorMetadata, R>(result: Result<T, SdkError<E, R>>) -> String {
    match result {
        Ok(done) => panic!("AWS would refuse it: {done:?}"),
        Err(error) => error.as_service_error().and_then(|error| error.message()).unwrap_or("no message").to_owned(),
    }
}

/// One parameter `P` with this value, and what follows the resource.
fn parameter(value: &str) -> String {
    format!("Resources:\n  P:\n    Type: AWS::SSM::Parameter\n    Properties: {{Type: String, Value: {value}}}\n")
}

/// A parameter whose value is exported under a name.
fn exporting(value: &str, name: &str) -> String {
    format!("{}Outputs:\n  O:\n    Value: !GetAtt P.Value\n    Export: {{Name: {name}}}\n", parameter(value))
}

/// A parameter, and then a group that cannot be made.
fn failing(value: &str) -> String {
    format!(
        "{}  G:\n    Type: AWS::EC2::SecurityGroup\n    DependsOn: P\n    Properties: {{GroupDescription: fails, VpcId: vpc-00000000000000000}}\n",
        parameter(value)
    )
}

#[tokio::test]
async fn a_stack_that_imports_what_nobody_exports_fails_before_any_resource() {
    let stack = Stack::new("import-nothing").await;
    let template = parameter("!ImportValue import-nothing-export");
    assert_eq!(stack.create(&template).await, "ROLLBACK_COMPLETE");
    let reason = "No export named import-nothing-export found. Rollback requested by user.";
    let expected = [
        stack.event("CREATE_IN_PROGRESS", "User Initiated"),
        stack.event("ROLLBACK_IN_PROGRESS", reason),
        stack.event("ROLLBACK_COMPLETE", "Rollback complete"),
    ];
    assert_eq!(stack.events().await, expected);

    let kept = Stack::new("import-nothing-kept").await;
    let create = kept.client.create_stack().stack_name(&kept.name).template_body(&template).disable_rollback(true);
    create.send().await.unwrap();
    assert_eq!(kept.settled().await, "CREATE_FAILED");
    let reason = "No export named import-nothing-export found";
    let expected = [kept.event("CREATE_IN_PROGRESS", "User Initiated"), kept.event("CREATE_FAILED", reason)];
    assert_eq!(kept.events().await, expected);
    assert_eq!(kept.delete().await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn a_change_set_that_imports_what_nobody_exports_fails_when_it_is_executed() {
    let stack = Stack::new("import-change-set").await;
    let create = stack.client.create_change_set().stack_name(&stack.name).change_set_name("first");
    let template = parameter("!ImportValue import-change-set-export");
    create.change_set_type(ChangeSetType::Create).template_body(template).send().await.unwrap();
    stack.client.execute_change_set().stack_name(&stack.name).change_set_name("first").send().await.unwrap();
    assert_eq!(stack.settled().await, "ROLLBACK_COMPLETE");
    let reason = "No export named import-change-set-export found. Rollback requested by user.";
    assert_eq!(stack.reason().await, reason);
}

#[tokio::test]
async fn an_import_behind_a_condition_that_is_false_is_none() {
    let stack = Stack::new("import-condition").await;
    let template = format!(
        "Parameters:\n  Wanted: {{Type: String, Default: 'no'}}\nConditions:\n  Is: !Equals [!Ref Wanted, 'yes']\n{}",
        parameter("!If [Is, !ImportValue import-condition-export, own]")
    );
    assert_eq!(stack.create(&template).await, "CREATE_COMPLETE");
    let wanted = Parameter::builder().parameter_key("Wanted").parameter_value("yes").build();
    let update = stack.client.update_stack().stack_name(&stack.name).use_previous_template(true).parameters(wanted);
    update.send().await.unwrap();
    assert_eq!(stack.settled().await, "UPDATE_ROLLBACK_COMPLETE");
    let told = stack.event("UPDATE_ROLLBACK_IN_PROGRESS", "No export named import-condition-export found");
    assert!(stack.events().await.contains(&told), "{:?}", stack.events().await);
}

#[tokio::test]
async fn an_export_in_use_keeps_its_stack() {
    let (name, exports) = ("export-in-use-name", Stack::new("export-in-use").await);
    assert_eq!(exports.create(&exporting("one", name)).await, "CREATE_COMPLETE");
    let imports = Stack::new("export-in-use-importer").await;
    assert_eq!(imports.create(&parameter(&format!("!ImportValue {name}"))).await, "CREATE_COMPLETE");
    let before = exports.events().await;
    assert_eq!(exports.delete().await, "CREATE_COMPLETE");
    let reason = format!("Export {name} cannot be deleted as it is in use by export-in-use-importer");
    assert_eq!(exports.reason().await, reason);
    assert_eq!(exports.events().await[before.len()..], [exports.event("CREATE_COMPLETE", &reason)]);

    // Neither may its value change, nor may it go in an update; what the update changed goes back.
    for (verb, template) in [("updated", exporting("two", name)), ("deleted", parameter("two"))] {
        assert_eq!(exports.update(&template).await, "UPDATE_ROLLBACK_COMPLETE");
        let reason = format!("Export {name} cannot be {verb} as it is in use by export-in-use-importer");
        let told = exports.event("UPDATE_ROLLBACK_IN_PROGRESS", &reason);
        assert!(exports.events().await.contains(&told), "{:?}", exports.events().await);
        assert_eq!(exports.output("O").await, "one");
    }
    let users = exports.client.list_imports().export_name(name).send().await.unwrap();
    assert_eq!(users.imports(), ["export-in-use-importer"]);
    assert_eq!(imports.delete().await, "DELETE_COMPLETE");
    assert_eq!(exports.delete().await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn a_stack_that_failed_still_imports() {
    let (name, exports) = ("export-failed-name", Stack::new("export-failed").await);
    assert_eq!(exports.create(&exporting("one", name)).await, "CREATE_COMPLETE");
    let imports = Stack::new("export-failed-importer").await;
    let template = failing("one").replace("fails", &format!("!ImportValue {name}"));
    let create = imports.client.create_stack().stack_name(&imports.name).template_body(&template);
    create.disable_rollback(true).send().await.unwrap();
    assert_eq!(imports.settled().await, "CREATE_FAILED");
    assert_eq!(exports.delete().await, "CREATE_COMPLETE");
    assert!(exports.reason().await.contains("in use by export-failed-importer"), "{}", exports.reason().await);
    assert_eq!(imports.delete().await, "DELETE_COMPLETE");
    assert_eq!(exports.delete().await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn an_update_that_was_rolled_back_imports_what_it_did_before() {
    let mut exports = Vec::new();
    for name in ["import-before", "import-after"] {
        let stack = Stack::new(name).await;
        assert_eq!(stack.create(&exporting("one", &format!("{name}-name"))).await, "CREATE_COMPLETE");
        exports.push(stack);
    }
    let imports = Stack::new("import-rolled-back").await;
    assert_eq!(imports.create(&parameter("!ImportValue import-before-name")).await, "CREATE_COMPLETE");
    assert_eq!(imports.update(&failing("!ImportValue import-after-name")).await, "UPDATE_ROLLBACK_COMPLETE");
    assert_eq!(exports[0].delete().await, "CREATE_COMPLETE");
    assert_eq!(exports[1].delete().await, "DELETE_COMPLETE");
    assert_eq!(imports.delete().await, "DELETE_COMPLETE");
    assert_eq!(exports[0].delete().await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn a_name_is_exported_once() {
    let (first, second) = (Stack::new("export-once").await, Stack::new("export-twice").await);
    assert_eq!(first.create(&exporting("one", "export-once-name")).await, "CREATE_COMPLETE");
    assert_eq!(second.create(&exporting("two", "export-once-name")).await, "ROLLBACK_COMPLETE");
    let reason =
        "Export with name export-once-name is already exported by stack export-once. Rollback requested by user.";
    assert_eq!(second.reason().await, reason);
    // What a stack no longer exports is free for others.
    assert_eq!(first.update(&parameter("one")).await, "UPDATE_COMPLETE");
    assert_eq!(second.delete().await, "DELETE_COMPLETE");
    assert_eq!(second.create(&exporting("two", "export-once-name")).await, "CREATE_COMPLETE");
}

/// A template that carries another one as a document.
fn document(name: &str, properties: &str, description: &str) -> String {
    let inner = format!(
        "Description: {description}\nResources:\n  P:\n    Type: AWS::SSM::Parameter\n    Properties: {{Type: String, Value: !Ref AWS::StackName}}\n\
         Outputs:\n  Name: {{Value: !Sub '${{AWS::StackName}} of ${{P.Value}}'}}\n"
    );
    let content: String = inner.lines().map(|line| format!("        {line}\n")).collect();
    format!(
        "Resources:\n  D:\n    Type: AWS::SSM::Document\n    Properties:\n      {properties}\n      Name: {name}\n      Content: |\n{content}"
    )
}

const TEMPLATE: &str = "DocumentType: CloudFormation\n      DocumentFormat: YAML\n      UpdateMethod: NewVersion";

fn document_url(name: &str) -> String {
    format!("ssm-doc://arn:aws:ssm:us-east-1:{ACCOUNT}:document/{name}")
}

/// A call by the administrator.
fn called(service: &str, operation: &str, arguments: Value) -> Result<Value, String> {
    aws(&cloud().credentials(), service, operation, &arguments)
}

#[tokio::test]
async fn a_stack_is_made_from_the_default_version_of_a_document() {
    let (carrier, stack) = (Stack::new("document").await, Stack::new("document-made").await);
    let url = document_url("document-template");
    let create = || stack.client.create_stack().stack_name(&stack.name).template_url(&url);
    assert_eq!(code(create().send().await), "ValidationError");
    assert_eq!(carrier.create(&document("document-template", TEMPLATE, "one")).await, "CREATE_COMPLETE");
    let described = async || {
        let valid = stack.client.validate_template().template_url(&url).send().await.unwrap();
        let summary = stack.client.get_template_summary().template_url(&url).send().await.unwrap();
        assert_eq!(valid.description(), summary.description());
        valid.description.unwrap()
    };
    assert_eq!(described().await, "one");
    create().send().await.unwrap();
    assert_eq!(stack.settled().await, "CREATE_COMPLETE");
    // The text came unresolved through the stack that carries it.
    assert_eq!(stack.output("Name").await, "document-made of document-made");

    assert_eq!(carrier.update(&document("document-template", TEMPLATE, "two")).await, "UPDATE_COMPLETE");
    assert_eq!(described().await, "two");
    let update = stack.client.create_change_set().stack_name(&stack.name).change_set_name("none").template_url(&url);
    update.send().await.unwrap();
    called("ssm", "update_document_default_version", json!({"Name": "document-template", "DocumentVersion": "1"}))
        .unwrap();
    assert_eq!(described().await, "one");
    let latest = json!({"Name": "document-template", "DocumentVersion": "$LATEST"});
    let content = called("ssm", "get_document", latest).unwrap();
    assert!(content["Content"].as_str().unwrap().starts_with("Description: two\n"), "{content}");
    assert_eq!(carrier.delete().await, "DELETE_COMPLETE");
    let gone = called("ssm", "get_document", json!({"Name": "document-template"}));
    assert_eq!(gone, Err("InvalidDocument".to_owned()));
}

#[tokio::test]
async fn only_documents_of_the_type_cloudformation_are_templates() {
    let stack = Stack::new("document-command").await;
    let command = TEMPLATE.replace("CloudFormation", "Command");
    assert_eq!(stack.create(&document("document-command", &command, "one")).await, "CREATE_COMPLETE");
    let validate = stack.client.validate_template().template_url(document_url("document-command"));
    let refusal = message(validate.send().await);
    assert!(refusal.contains("of type Command"), "{refusal}");
    let versioned = stack.client.validate_template().template_url(document_url("document-command:1"));
    assert_eq!(code(versioned.send().await), "ValidationError");
}

#[tokio::test]
async fn a_named_document_is_not_replaced() {
    let stack = Stack::new("document-replaced").await;
    let replaced = TEMPLATE.replace("NewVersion", "Replace");
    assert_eq!(stack.create(&document("document-replaced", &replaced, "one")).await, "CREATE_COMPLETE");
    let update = document("document-replaced", &replaced, "two");
    assert_eq!(stack.update(&update).await, "UPDATE_ROLLBACK_COMPLETE");
    let reason = stack.failure_of("D").await;
    assert!(reason.contains("a custom-named resource requires replacing. Rename document-replaced"), "{reason}");
    let taken = Stack::new("document-taken").await;
    assert_eq!(taken.create(&update).await, "ROLLBACK_COMPLETE");
    let reason = taken.failure_of("D").await;
    assert!(reason.contains("already exists") && reason.contains("DocumentAlreadyExists"), "{reason}");
}

#[tokio::test]
async fn a_document_holds_sixty_four_kilobytes_and_a_template_in_a_call_less() {
    let create = |size: usize| {
        let document = json!({
            "Name": format!("document-of-{size}"), "Content": "x".repeat(size), "DocumentFormat": "TEXT", "DocumentType": "CloudFormation",
        });
        called("ssm", "create_document", document)
    };
    assert_eq!(create(65_537), Err("MaxDocumentSizeExceeded".to_owned()));
    create(65_536).unwrap();
    let longer = json!({"Name": "document-of-65536", "Content": "y".repeat(65_537), "DocumentVersion": "$LATEST", "DocumentFormat": "TEXT"});
    assert_eq!(called("ssm", "update_document", longer), Err("MaxDocumentSizeExceeded".to_owned()));
    let client = cloud().cloudformation().await;
    let body = format!("{}# {}", parameter("one"), "x".repeat(51_200));
    assert_eq!(code(client.validate_template().template_body(body).send().await), "ValidationError");
}

#[tokio::test]
async fn a_parameter_keeps_its_name() {
    let (stack, other) = (Stack::new("parameter").await, Stack::new("parameter-other").await);
    let named = |value: &str, name: &str| parameter(&format!("{value}, Name: {name}"));
    let value = |name: &str| {
        let found = called("ssm", "get_parameter", json!({"Name": name}))?;
        Ok::<String, String>(found["Parameter"]["Value"].as_str().unwrap().to_owned())
    };
    assert_eq!(stack.create(&named("one", "parameter-name")).await, "CREATE_COMPLETE");
    assert_eq!(value("parameter-name").as_deref(), Ok("one"));
    assert_eq!(other.create(&named("two", "parameter-name")).await, "ROLLBACK_COMPLETE");
    let reason = other.failure_of("P").await;
    assert!(reason.contains("ParameterAlreadyExists"), "{reason}");
    assert_eq!(stack.update(&named("two", "parameter-name")).await, "UPDATE_COMPLETE");
    assert_eq!(value("parameter-name").as_deref(), Ok("two"));
    assert_eq!(stack.update(&named("two", "parameter-renamed")).await, "UPDATE_COMPLETE");
    assert_eq!(value("parameter-name"), Err("ParameterNotFound".to_owned()));
    assert_eq!(stack.delete().await, "DELETE_COMPLETE");
    assert_eq!(value("parameter-renamed"), Err("ParameterNotFound".to_owned()));
}

fn express() -> DeploymentConfig {
    DeploymentConfig::builder().mode(DeploymentConfigMode::Express).build()
}

#[tokio::test]
async fn a_stack_that_failed_in_express_mode_takes_express_operations_only() {
    let stack = Stack::new("express").await;
    let create = stack.client.create_stack().stack_name(&stack.name).template_body(parameter("one"));
    create.deployment_config(express()).send().await.unwrap();
    assert_eq!(stack.settled().await, "CREATE_COMPLETE");
    let config = stack.described().await.and_then(|stack| stack.deployment_config).expect("it is shown");
    assert_eq!((config.mode(), config.disable_rollback()), (Some(&DeploymentConfigMode::Express), Some(true)));
    // A complete one takes ordinary operations.
    assert_eq!(stack.update(&parameter("two")).await, "UPDATE_COMPLETE");

    let update = |template: &str| stack.client.update_stack().stack_name(&stack.name).template_body(template);
    update(&failing("three")).deployment_config(express()).send().await.unwrap();
    assert_eq!(stack.settled().await, "UPDATE_FAILED", "rollback is disabled");
    let change = stack.client.create_change_set().stack_name(&stack.name).change_set_name("ordinary");
    let refusals = [
        message(update(&parameter("two")).send().await),
        message(update(&parameter("two")).disable_rollback(true).send().await),
        message(change.template_body(parameter("two")).send().await),
        message(stack.client.delete_stack().stack_name(&stack.name).send().await),
    ];
    for refusal in refusals {
        assert!(refusal.contains("in a UPDATE_FAILED state from a previous operation that used EXPRESS"), "{refusal}");
        assert!(refusal.contains("must use the same DeploymentConfig (mode=EXPRESS)"), "{refusal}");
    }
    let refusal = message(stack.client.rollback_stack().stack_name(&stack.name).send().await);
    assert!(refusal.starts_with("RollbackStack is not supported for stacks that were last updated"), "{refusal}");
    let rolling_back = DeploymentConfig::builder().mode(DeploymentConfigMode::Express).disable_rollback(false).build();
    let refusal = message(update(&parameter("two")).deployment_config(rolling_back).send().await);
    assert!(refusal.contains("non-terminal [UPDATE_FAILED] state"), "{refusal}");

    update(&parameter("two")).deployment_config(express()).send().await.unwrap();
    assert_eq!(stack.settled().await, "UPDATE_COMPLETE");
    assert_eq!(stack.delete().await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn a_failed_express_stack_is_deleted_in_express_mode() {
    let stack = Stack::new("express-change-set").await;
    let create = stack.client.create_change_set().stack_name(&stack.name).change_set_name("first");
    let create = create.change_set_type(ChangeSetType::Create).template_body(failing("one"));
    create.deployment_config(express()).send().await.unwrap();
    stack.client.execute_change_set().stack_name(&stack.name).change_set_name("first").send().await.unwrap();
    assert_eq!(stack.settled().await, "CREATE_FAILED");
    assert_eq!(code(stack.client.delete_stack().stack_name(&stack.name).send().await), "ValidationError");
    stack.client.delete_stack().stack_name(&stack.name).deployment_config(express()).send().await.unwrap();
    assert_eq!(stack.settled().await, "DELETE_COMPLETE");
}

/// A role that this service may assume and that may do these actions, on everything. Its ARN.
pub fn role(name: &str, service: &str, actions: &[&str]) -> String {
    let trust = json!({"Version": "2012-10-17", "Statement":
        {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}});
    called("iam", "create_role", json!({"RoleName": name, "AssumeRolePolicyDocument": trust.to_string()})).unwrap();
    let policy = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}});
    let put = json!({"RoleName": name, "PolicyName": "actions", "PolicyDocument": policy.to_string()});
    called("iam", "put_role_policy", put).unwrap();
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

const CLOUDFORMATION: &str = "cloudformation.amazonaws.com";

/// A client of a user who may do these actions on everything.
async fn user(name: &str, actions: &[&str]) -> Client {
    let policy = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}});
    called("iam", "create_user", json!({"UserName": name})).unwrap();
    let put = json!({"UserName": name, "PolicyName": "actions", "PolicyDocument": policy.to_string()});
    called("iam", "put_user_policy", put).unwrap();
    let made = called("iam", "create_access_key", json!({"UserName": name})).unwrap();
    let part = |name: &str| made["AccessKey"][name].as_str().unwrap().to_owned();
    let key = Credentials::new(part("AccessKeyId"), part("SecretAccessKey"), None, None, "user");
    let administrator = cloud().cloudformation().await;
    Client::from_conf(administrator.config().to_builder().credentials_provider(key).build())
}

#[tokio::test]
async fn a_service_role_exists_trusts_cloudformation_and_is_passed() {
    let stack = Stack::new("role-given").await;
    let create = |client: &Client, role: &str| {
        client.create_stack().stack_name(&stack.name).template_body(parameter("one")).role_arn(role)
    };
    let fit = role("role-given", CLOUDFORMATION, &["ssm:*"]);
    let foreign = role("role-given-lambda", "lambda.amazonaws.com", &["ssm:*"]);
    for unfit in [foreign, format!("arn:aws:iam::{ACCOUNT}:role/role-given-nobody")] {
        let refusal = message(create(&stack.client, &unfit).send().await);
        assert_eq!(refusal, format!("Role {unfit} is invalid or cannot be assumed"));
    }
    let refusal = message(create(&stack.client, "role-given-without-arn").send().await);
    assert_eq!(refusal, "role-given-without-arn is not a valid RoleARN");

    let theirs = user("role-given-user", &["cloudformation:*"]).await;
    let refusal = create(&theirs, &fit).send().await;
    assert_eq!(code(refusal), "AccessDenied");
    create(&user("role-given-passes", &["cloudformation:*", "iam:PassRole"]).await, &fit).send().await.unwrap();
    assert_eq!(stack.settled().await, "CREATE_COMPLETE");
    assert_eq!(stack.described().await.unwrap().role_arn(), Some(fit.as_str()));
    // Whoever may operate on the stack uses its role without passing it.
    assert_eq!(stack.with(&theirs).update(&parameter("two")).await, "UPDATE_COMPLETE");
}

#[tokio::test]
async fn a_service_role_that_is_gone_stops_its_stacks_until_another_one_is_given() {
    let stack = Stack::new("role-gone").await;
    let gone = role("role-gone", CLOUDFORMATION, &["ssm:*"]);
    let create = stack.client.create_stack().stack_name(&stack.name).template_body(parameter("one"));
    create.role_arn(&gone).send().await.unwrap();
    assert_eq!(stack.settled().await, "CREATE_COMPLETE");
    called("iam", "delete_role_policy", json!({"RoleName": "role-gone", "PolicyName": "actions"})).unwrap();
    called("iam", "delete_role", json!({"RoleName": "role-gone"})).unwrap();
    let refusal = message(stack.client.delete_stack().stack_name(&stack.name).send().await);
    assert_eq!(refusal, format!("Role {gone} is invalid or cannot be assumed"));
    let other = role("role-gone-other", CLOUDFORMATION, &["ssm:*"]);
    stack.client.delete_stack().stack_name(&stack.name).role_arn(other).send().await.unwrap();
    assert_eq!(stack.settled().await, "DELETE_COMPLETE");
}

/// The default VPC and one of its subnets.
async fn default_network() -> (String, String) {
    let subnets = cloud().ec2().await.describe_subnets().send().await.unwrap();
    let subnet = subnets.subnets().iter().find(|subnet| subnet.default_for_az() == Some(true)).expect("a default VPC");
    (subnet.vpc_id().unwrap().to_owned(), subnet.subnet_id().unwrap().to_owned())
}

/// A host with its group, a rule beside it and its launch template.
async fn host() -> String {
    let (vpc, subnet) = default_network().await;
    format!(
        "Resources:
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: of the host
      VpcId: {vpc}
      SecurityGroupEgress: [{{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0}}]
  Rule:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: {{GroupId: !Ref Group, IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: 192.0.2.0/24}}
  Template:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        ImageId: resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id
  Host:
    Type: AWS::EC2::Instance
    Properties:
      InstanceType: t3.micro
      LaunchTemplate: {{LaunchTemplateId: !Ref Template, Version: !GetAtt Template.LatestVersionNumber}}
      NetworkInterfaces: [{{DeviceIndex: '0', SubnetId: {subnet}, GroupSet: [!Ref Group]}}]
"
    )
}

const WRITES: [(&str, &str); 13] = [
    ("Group", "ec2:CreateSecurityGroup"),
    ("Group", "ec2:CreateTags"),
    ("Group", "ec2:RevokeSecurityGroupEgress"),
    ("Group", "ec2:AuthorizeSecurityGroupEgress"),
    ("Rule", "ec2:AuthorizeSecurityGroupIngress"),
    ("Template", "ec2:CreateLaunchTemplate"),
    ("Host", "ec2:RunInstances"),
    ("Host", "ssm:GetParameters"),
    // What a delete needs.
    ("Host", "ec2:TerminateInstances"),
    ("Template", "ec2:DeleteLaunchTemplate"),
    ("Rule", "ec2:RevokeSecurityGroupIngress"),
    ("Group", "ec2:DeleteSecurityGroup"),
    ("Host", "ec2:DescribeInstances"),
];

#[tokio::test]
async fn a_service_role_needs_each_action_of_each_resource() {
    let template = host().await;
    // Reads that a wildcard leaves out where they are among the actions of the table.
    let reads = [
        "ec2:DescribeI*",
        "ec2:DescribeK*",
        "ec2:DescribeL*",
        "ec2:DescribeN*",
        "ec2:DescribeS*",
        "ec2:DescribeV*",
        "ssm:*Association*",
    ];
    let all: Vec<&str> = WRITES.iter().map(|(_, action)| *action).chain(reads).collect();
    let create = async |stack: &Stack, role: &str| {
        let create = stack.client.create_stack().stack_name(&stack.name).template_body(&template).role_arn(role);
        create.disable_rollback(true).send().await.unwrap();
        stack.settled().await
    };
    let stack = Stack::new("role-host").await;
    let whole = role("role-host", CLOUDFORMATION, &all);
    assert_eq!(create(&stack, &whole).await, "CREATE_COMPLETE");
    assert_eq!(stack.delete().await, "DELETE_COMPLETE");
    for (n, (resource, action)) in WRITES.iter().enumerate() {
        let less: Vec<&str> = all
            .iter()
            .copied()
            .filter(|other| other != action && !(*action == "ec2:DescribeInstances" && *other == "ec2:DescribeI*"))
            .collect();
        let (stack, name) = (Stack::new(&format!("role-host-{n}")).await, format!("role-host-{n}"));
        let part = role(&name, CLOUDFORMATION, &less);
        if create(&stack, &part).await == "CREATE_COMPLETE" {
            assert_eq!(stack.delete().await, "DELETE_FAILED", "{action}");
        }
        let reason = stack.failure_of(resource).await;
        let denied = format!(
            "User: arn:aws:sts::{ACCOUNT}:assumed-role/{name}/AWSCloudFormation is not authorized to perform: {action} on resource: "
        );
        assert!(reason.starts_with(&denied), "{resource}, {action}: {reason}");
        stack.client.delete_stack().stack_name(&stack.name).role_arn(&whole).send().await.unwrap();
        assert_eq!(stack.settled().await, "DELETE_COMPLETE");
    }
}

#[tokio::test]
async fn a_service_role_is_asked_about_parameters_and_what_it_knows_nothing_of() {
    let nothing = role("role-nothing", CLOUDFORMATION, &["s3:*"]);
    let (vpc, _) = default_network().await;
    let stack = Stack::new("role-nothing").await;
    let typed = format!("Parameters:\n  V: {{Type: 'AWS::EC2::VPC::Id', Default: {vpc}}}\n{}", parameter("!Ref V"));
    let create =
        |template: &str| stack.client.create_stack().stack_name(&stack.name).template_body(template).role_arn(&nothing);
    let refusal = message(create(&typed).send().await);
    assert_eq!(refusal, "AccessDenied. User doesn't have permission to call ec2:DescribeVpcs");
    create(&parameter("one")).send().await.unwrap();
    assert_eq!(stack.settled().await, "ROLLBACK_COMPLETE");
    let reason = stack.failure_of("P").await;
    assert!(reason.contains("ssm:PutParameter on resource: arn:aws:ssm:us-east-1:123456789012:parameter/"), "{reason}");
    // A type whose actions are not written down is refused: the local AWS would prove nothing.
    let everything = role("role-everything", CLOUDFORMATION, &["*"]);
    let queue = Stack::new("role-everything").await;
    let create = queue.client.create_stack().stack_name(&queue.name).role_arn(everything);
    create.template_body("Resources:\n  Q: {Type: AWS::SQS::Queue}\n").send().await.unwrap();
    assert_eq!(queue.settled().await, "ROLLBACK_COMPLETE");
    let reason = queue.failure_of("Q").await;
    assert!(reason.contains("does not know what a service role needs for AWS::SQS::Queue"), "{reason}");
}

#[tokio::test]
async fn a_custom_resource_fails_at_once_where_its_function_cannot_be_invoked() {
    let function = format!("arn:aws:lambda:us-east-1:{ACCOUNT}:function:nobody");
    let template =
        format!("Resources:\n  C:\n    Type: Custom::Nobody\n    Properties: {{ServiceToken: '{function}'}}\n");
    let nobody = Stack::new("function-nobody").await;
    let create = |stack: &Stack| stack.client.create_stack().stack_name(&stack.name).template_body(&template);
    let since = std::time::Instant::now();
    create(&nobody).disable_rollback(true).send().await.unwrap();
    assert_eq!(nobody.settled().await, "CREATE_FAILED");
    let reason = nobody.failure_of("C").await;
    assert!(reason.starts_with(&format!("Function not found: {function}")), "{reason}");

    let denied = Stack::new("function-denied").await;
    let nothing = role("function-denied", CLOUDFORMATION, &["s3:*"]);
    create(&denied).disable_rollback(true).role_arn(nothing).send().await.unwrap();
    assert_eq!(denied.settled().await, "CREATE_FAILED");
    let reason = denied.failure_of("C").await;
    assert!(reason.contains(&format!("lambda:InvokeFunction on resource: {function}")), "{reason}");
    assert!(since.elapsed() < std::time::Duration::from_secs(30), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_template_in_a_bucket_is_read_with_the_callers_rights() {
    called("s3", "create_bucket", json!({"Bucket": "templates-of-a-caller"})).unwrap();
    let object = json!({"Bucket": "templates-of-a-caller", "Key": "of/one.yaml", "Body": parameter("one")});
    called("s3", "put_object", object).unwrap();
    let url = |key: &str| format!("https://templates-of-a-caller.s3.us-east-1.amazonaws.com/{key}");
    let stack = Stack::new("bucket-template").await;
    let create = |stack: &Stack, key: &str| stack.client.create_stack().stack_name(&stack.name).template_url(url(key));
    let nobody = stack.with(&user("bucket-template", &["cloudformation:*"]).await);
    let more = "\nFor more information check http://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html";
    assert_eq!(message(create(&nobody, "of/one.yaml").send().await), format!("S3 error: Access Denied{more}"));
    let missing = message(create(&stack, "of/two.yaml").send().await);
    assert_eq!(missing, format!("S3 error: The specified key does not exist.{more}"));
    create(&stack, "of/one.yaml").send().await.unwrap();
    assert_eq!(stack.settled().await, "CREATE_COMPLETE");
}
