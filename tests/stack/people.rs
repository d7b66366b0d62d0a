//! The policy that docs/roll-out.md gives to the people on call: it is enough for an incident's whole life, and each of its pins holds.

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::config::Credentials;
use serde_json::{Value, json};

use crate::beside::{RESPONDER, parameters, template_url};
use crate::fleet::aws;
use crate::rules::code;
use crate::stacks::ACCOUNT;
use crate::{Scene, cloud};

/// The policy of the page, for this account, its Region and this role.
fn policy(role: &str) -> Value {
    let page = std::fs::read_to_string("docs/roll-out.md").unwrap();
    let (_, chapter) = page.split_once("\n## Rights of the people on call\n").expect("the chapter is there");
    let block = chapter.split("```").nth(1).expect("a block").trim();
    for placeholder in ["eu-west-1", "111122223333", "<IncidentRoleArn>"] {
        assert!(block.contains(placeholder), "{placeholder}");
    }
    let block = block.replace("eu-west-1", "us-east-1").replace("111122223333", ACCOUNT);
    serde_json::from_str(&block.replace("<IncidentRoleArn>", role)).expect("JSON")
}

fn iam(operation: &str, arguments: &Value) -> Value {
    aws(&cloud().credentials(), "iam", operation, arguments).unwrap()
}

/// A person who has this policy, and nothing else.
struct Person {
    name: &'static str,
    client: Client,
    environment: Vec<(&'static str, String)>,
}

impl Person {
    async fn new(name: &'static str, policy: &Value) -> Self {
        iam("create_user", &json!({"UserName": name}));
        let key = iam("create_access_key", &json!({"UserName": name}))["AccessKey"].clone();
        let part = |name: &str| key[name].as_str().unwrap().to_owned();
        let (id, secret) = (part("AccessKeyId"), part("SecretAccessKey"));
        let mut environment: Vec<_> =
            cloud().credentials().into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        environment.extend([("AWS_ACCESS_KEY_ID", id.clone()), ("AWS_SECRET_ACCESS_KEY", secret.clone())]);
        let administrator = cloud().cloudformation().await;
        let credentials = Credentials::new(id, secret, None, None, "person");
        let client = Client::from_conf(administrator.config().to_builder().credentials_provider(credentials).build());
        let person = Self { name, client, environment };
        person.may(policy);
        person
    }

    fn may(&self, policy: &Value) {
        let document = policy.to_string();
        iam("put_user_policy", &json!({"UserName": self.name, "PolicyName": "on-call", "PolicyDocument": document}));
    }

    /// With boto3: its code, where it is refused.
    fn call(&self, service: &str, operation: &str, arguments: &Value) -> Result<Value, String> {
        let environment: Vec<_> = self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        aws(&environment, service, operation, arguments)
    }
}

/// The policy without one statement.
fn without(policy: &Value, sid: &str) -> Value {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().unwrap();
    let before = statements.len();
    statements.retain(|statement| statement["Sid"] != sid);
    assert_eq!(statements.len(), before - 1, "{sid}");
    policy
}

#[tokio::test]
async fn the_people_on_call_isolate_and_restore_by_the_policy_of_the_page_and_do_nothing_else() {
    let mut scene = Scene::prepared("incident-people").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    let role = scene.incident.outputs_of(RESPONDER).await["IncidentRoleArn"].clone();
    let policy = policy(&role);
    let person = Person::new("on-call", &policy).await;
    scene.incident.list(&[&a]);
    let given = || Some(parameters(scene.incident.parameters()));
    let create = || person.client.create_stack().stack_name("incident-people").set_parameters(given());

    // What is not the responder's, or not by its role, is refused.
    let incident = template_url("incident");
    let body = std::fs::read_to_string("incident.yaml").unwrap();
    assert_eq!(code(create().template_url(&incident).send().await), "AccessDenied", "without the role");
    assert_eq!(code(create().template_body(&body).role_arn(&role).send().await), "AccessDenied", "another template");
    let other = create().stack_name("another").template_url(&incident).role_arn(&role);
    assert_eq!(code(other.send().await), "AccessDenied", "another name");
    for sid in ["CreateFromTheResponder", "ReadTheTemplates", "PassTheRole"] {
        person.may(&without(&policy, sid));
        let refused = create().template_url(&incident).role_arn(&role).send().await;
        assert_eq!(code(refused), "AccessDenied", "without {sid}");
    }
    person.may(&policy);
    assert_eq!(scene.cards(&[&a, &b]).await, before);

    // One incident, from its first instance to its end.
    let request = person.client.create_stack().template_url(&incident).role_arn(&role).disable_rollback(true);
    assert_eq!(scene.incident.created(request).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a]).await;
    let seen = person.client.describe_stacks().stack_name("incident-people").send().await.unwrap();
    assert_eq!(seen.stacks()[0].role_arn(), Some(role.as_str()));
    scene.incident.list(&[&a, &b]);
    let given = || Some(parameters(scene.incident.parameters()));
    let update = || person.client.update_stack().stack_name("incident-people").set_parameters(given());
    assert_eq!(code(update().use_previous_template(true).send().await), "AccessDenied", "it sends no address");
    assert_eq!(code(update().template_body(&body).send().await), "AccessDenied", "another template");
    // The stack has the role: who may change it uses the role, and need not pass it.
    person.may(&without(&policy, "PassTheRole"));
    let id = update().template_url(&incident).disable_rollback(true).send().await.unwrap().stack_id.unwrap();
    assert_eq!(scene.incident.ends_in(&id, &["UPDATE_IN_PROGRESS"]).await, "UPDATE_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    person.may(&policy);

    // No right of their own: neither by EC2, nor for the function, nor to make themselves one.
    let instance = json!({"InstanceIds": [a]});
    assert_eq!(person.call("ec2", "describe_instances", &instance), Err("UnauthorizedOperation".to_owned()));
    let function = json!({"FunctionName": "ec2-isolation"});
    assert_eq!(person.call("lambda", "invoke", &function), Err("AccessDeniedException".to_owned()));
    let users = person.call("iam", "create_user", &json!({"UserName": "another"}));
    assert_eq!(users, Err("AccessDenied".to_owned()));

    person.client.delete_stack().stack_name("incident-people").send().await.unwrap();
    assert_eq!(scene.incident.ends_in(&id, &["DELETE_IN_PROGRESS"]).await, "DELETE_COMPLETE");
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}
