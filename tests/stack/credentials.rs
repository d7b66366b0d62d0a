//! `isolate --revoke` on deployed stacks, by IAM's own evaluator: a session of a listed instance is denied, wherever it is used, and a
//! sibling's with the same role is not.

use serde_json::{Value, json};

use crate::operator::{Ran, operator, run, status_ends_with};
use crate::{Scene, cloud};

const EVERYTHING: &str = r#"'{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}'"#;
const NOTHING: &str = r#"'{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"a:b","Resource":"*"}}'"#;
const TRUST: &str = r#"'{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}}'"#;

fn iam(command: &str) -> Ran {
    run(&format!("aws iam {command}"))
}

/// A role that may do everything, with a path, and a profile of the same name and another path.
fn make_role(name: &str) {
    iam(&format!("create-role --role-name {name} --path /team/web/ --assume-role-policy-document {TRUST}"))
        .ends_with(0);
    iam(&format!("put-role-policy --role-name {name} --policy-name all --policy-document {EVERYTHING}")).ends_with(0);
    make_profile(name, name);
}

fn make_profile(name: &str, role: &str) {
    iam(&format!("create-instance-profile --instance-profile-name {name} --path /profiles/")).ends_with(0);
    iam(&format!("add-role-to-instance-profile --instance-profile-name {name} --role-name {role}")).ends_with(0);
}

fn give(instance: &str, profile: &str) {
    let command = format!(
        "aws ec2 associate-iam-instance-profile --instance-id {instance} --iam-instance-profile Name={profile}"
    );
    run(&command).ends_with(0);
}

/// What an attacker takes along from an instance.
struct Stolen(String);

impl Stolen {
    async fn from(instance: &str) -> Self {
        let got = cloud().put("instance-credentials", &json!({"id": instance})).await;
        let text = |name: &str| got[name].as_str().unwrap().to_owned();
        Self(format!(
            "AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_SESSION_TOKEN={}",
            text("access_key_id"),
            text("secret_access_key"),
            text("session_token")
        ))
    }

    fn tries(&self, command: &str) -> Ran {
        run(&format!("{} aws {command}", self.0))
    }

    /// Whether they work: with every service or with none.
    #[track_caller]
    fn work(&self) -> bool {
        let calls = ["dynamodb list-tables", "ec2 describe-vpcs", "iam list-roles", "cloudformation list-exports"];
        let works: Vec<bool> = calls.iter().map(|call| self.tries(call).succeeded()).collect();
        assert!(works.iter().all(|works_there| *works_there == works[0]), "{calls:?}: {works:?}");
        works[0]
    }
}

fn revoke(stack: &str, instances: &[&str]) -> Ran {
    operator(&[&["isolate"], instances, &["--stack", stack, "--revoke", "--yes"]].concat())
}

fn finish(stack: &str) -> Ran {
    operator(&["restore", "--stack", stack, "--finish", "--yes"])
}

#[tokio::test]
async fn stolen_credentials_of_an_isolated_instance_are_denied_everywhere_and_a_siblings_work() {
    let scene = Scene::prepared("cred-walk").await;
    make_role("cred-walk-web");
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let c = scene.site.plain(&scene.ec2, &[2]).await;
    for id in [&a, &b, &c] {
        give(id, "cred-walk-web");
    }
    let (of_a, of_b, of_c) = (Stolen::from(&a).await, Stolen::from(&b).await, Stolen::from(&c).await);
    assert!(of_a.work() && of_b.work() && of_c.work());

    operator(&["isolate", &a, "--stack", "cred-walk", "--revoke", "--dry-run"])
        .ends_with(0)
        .says_in_lines("by stack cred-walk-credentials: to be made")
        .says_in_lines(&format!("role cred-walk-web, of {a}"));
    let ran = revoke("cred-walk", &[&a]).ends_with(0);
    let ran = ran
        .says_in_lines("ISOLATED, as EC2 shows it: 1 of 1 instance")
        .says_in_lines("DENIED, as CloudFormation says:");
    ran.says_in_lines("keys found on their disks");
    scene.assert_isolated(&[&a]).await;
    assert!(!of_a.work(), "what was stolen before is denied");
    assert!(of_b.work() && of_c.work(), "siblings with the role go on");
    of_a.tries("dynamodb list-tables").says_in_lines("explicit deny");

    // One more: the first one stays denied.
    revoke("cred-walk", &[&b]).ends_with(0).says_in_lines("the credentials of 2 instances for role");
    assert!(!of_a.work() && !of_b.work() && of_c.work());
    let shown = status_ends_with("cred-walk", 0);
    let credentials = &shown["credentials"];
    assert_eq!((&credentials["is_denied"], &credentials["roles"]), (&json!(true), &json!(["cred-walk-web"])));
    let mut both = [a.clone(), b.clone()];
    both.sort();
    assert_eq!(credentials["instances"], json!(both));
    let again = revoke("cred-walk", &[&b]).ends_with(0);
    again.says_in_lines("denied already");
    let report = operator(&["report", "--stack", "cred-walk", "--format", "md"]).ends_with(0);
    report.says_in_lines("cred-walk-credentials");

    let ended = finish("cred-walk").ends_with(0).says_in_lines("stack cred-walk-credentials is deleted");
    ended.says_in_lines("stack cred-walk is deleted");
    assert!(of_a.work() && of_b.work(), "nothing of it is left");
    let left = operator(&["leftovers", "--stack", "cred-walk", "--output", "json"]).ends_with(0).json();
    assert!(!left.to_string().contains("credentials"), "{left}");
}

#[tokio::test]
async fn two_incidents_on_one_role_each_deny_their_own_and_ending_one_lifts_nothing_of_the_other() {
    let scene = Scene::prepared("cred-one").await;
    make_role("cred-both");
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    for id in [&a, &b] {
        give(id, "cred-both");
    }
    let (of_a, of_b) = (Stolen::from(&a).await, Stolen::from(&b).await);
    revoke("cred-one", &[&a]).ends_with(0);
    assert!(!of_a.work() && of_b.work());
    revoke("cred-two", &[&b]).ends_with(0);
    assert!(!of_a.work() && !of_b.work());
    finish("cred-one").ends_with(0).says_in_lines("stack cred-one-credentials is deleted");
    assert!(of_a.work() && !of_b.work());

    // Deleted by itself, the incident leaves its denial: it is named, and what is printed ends it.
    run("aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name cred-two")
        .ends_with(0);
    run("aws cloudformation delete-stack --stack-name cred-two && aws cloudformation wait stack-delete-complete --stack-name cred-two")
        .ends_with(0);
    assert!(!of_b.work(), "it goes on denying");
    let text = operator(&["leftovers", "--stack", "cred-two"]).ends_with(0);
    let text = text.says_in_lines(&format!("it still denies the credentials of {b}"));
    let commands = text.out().lines().filter(|line| {
        line.contains("cred-two-credentials --") || line.ends_with("cred-two-credentials --region us-east-1")
    });
    let commands: Vec<&str> = commands.map(str::trim).filter(|line| line.starts_with("aws cloudformation")).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    commands.iter().for_each(|command| drop(run(command).ends_with(0)));
    assert!(of_b.work());
}

#[tokio::test]
async fn a_one_shot_stack_denies_by_itself_and_gives_the_credentials_back_with_the_stack() {
    let mut scene = Scene::new("cred-shot").await;
    make_role("cred-shot-web");
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    for id in [&a, &b] {
        give(id, "cred-shot-web");
    }
    let (of_a, of_b) = (Stolen::from(&a).await, Stolen::from(&b).await);
    scene.incident.list(&[&a]).deploy();
    assert!(of_a.work(), "isolation alone ends no credentials");
    revoke("cred-shot", &[&a]).ends_with(0).says_in_lines("by stack cred-shot: UPDATE_COMPLETE, to be updated");
    assert!(!of_a.work() && of_b.work());
    let since = cloud().now().await;
    revoke("cred-shot", &[&a]).ends_with(0).says_in_lines("denied already");
    assert!(!cloud().calls(since).await.iter().any(|call| call.action == "AttachRolePolicy"));
    let shown = status_ends_with("cred-shot", 0);
    assert_eq!(shown["credentials"]["stack"], "cred-shot");
    scene.incident.unprotect().await;
    scene.incident.delete().await;
    assert!(of_a.work() && of_b.work());
}

fn attached(role: &str) -> usize {
    let list = iam(&format!("list-attached-role-policies --role-name {role}")).ends_with(0).json();
    list["AttachedPolicies"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_role_with_as_many_policies_as_its_quota_allows_is_not_claimed_to_be_denied() {
    let scene = Scene::prepared("cred-full").await;
    make_role("cred-full-web");
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    give(&a, "cred-full-web");
    let policies: Vec<String> = (0..10)
        .map(|n| {
            let made =
                iam(&format!("create-policy --policy-name cred-full-{n} --policy-document {NOTHING}")).ends_with(0);
            made.json()["Policy"]["Arn"].as_str().unwrap().to_owned()
        })
        .collect();
    for policy in &policies {
        iam(&format!("attach-role-policy --role-name cred-full-web --policy-arn {policy}")).ends_with(0);
    }
    let ran = revoke("cred-full", &[&a]).ends_with(1);
    let ran = ran
        .says_in_lines("NOT KNOWN whether they are denied:")
        .says_in_lines("PoliciesPerRole: 10")
        .says_in_lines("10 by default");
    ran.says_in_lines("ISOLATED, as EC2 shows it: 1 of 1 instance");
    assert_eq!(status_ends_with("cred-full", 0)["credentials"]["is_denied"], false);
    assert!(
        !operator(&["status", "--stack", "cred-full"])
            .says_in_lines("PoliciesPerRole")
            .out()
            .contains("denied   DENIED")
    );
    // As it says: with room for one more it works.
    iam(&format!("detach-role-policy --role-name cred-full-web --policy-arn {}", policies[0])).ends_with(0);
    revoke("cred-full", &[&a]).ends_with(0).says_in_lines("DENIED, as CloudFormation says:");
    assert_eq!(attached("cred-full-web"), 10);
    finish("cred-full").ends_with(0);
    assert_eq!(attached("cred-full-web"), 9);
}

#[tokio::test]
async fn a_role_that_aws_keeps_for_itself_is_named_and_the_other_ones_are_denied() {
    let scene = Scene::prepared("cred-slr").await;
    make_role("cred-slr-web");
    iam("create-service-linked-role --aws-service-name autoscaling.amazonaws.com").ends_with(0);
    make_profile("cred-slr-own", "AWSServiceRoleForAutoscaling");
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let c = scene.site.plain(&scene.ec2, &[2]).await;
    give(&a, "cred-slr-web");
    give(&b, "cred-slr-own");
    let of_a = Stolen::from(&a).await;
    let ran = revoke("cred-slr", &[&a, &b, &c]).ends_with(1);
    let ran = ran.says_in_lines("role AWSServiceRoleForAutoscaling belongs to AWS itself");
    ran.says_in_lines(&format!("{c}: EC2 shows no instance profile")).says_in_lines("DENIED, as CloudFormation says:");
    assert!(!of_a.work());
    finish("cred-slr").ends_with(0);
}

/// The longest list that a parameter holds, one of them real.
#[tokio::test]
async fn one_policy_denies_204_instances() {
    let scene = Scene::new("cred-many").await;
    make_role("cred-many-web");
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    for id in [&a, &b] {
        give(id, "cred-many-web");
    }
    let (of_a, of_b) = (Stolen::from(&a).await, Stolen::from(&b).await);
    let mut list: Vec<String> = (0..203).map(|n| format!("i-{n:017x}")).collect();
    list.push(a.clone());
    let create = format!(
        "aws cloudformation create-stack --stack-name cred-many --template-body file://credentials.yaml --capabilities CAPABILITY_IAM \
         --parameters 'ParameterKey=CompromisedInstanceList,ParameterValue={}' ParameterKey=RevokeRoles,ParameterValue=cred-many-web",
        list.join("\\,")
    );
    run(&create.replace("--capabilities CAPABILITY_IAM", "")).ends_with(255).says_in_lines("Requires capabilities");
    run(&create).ends_with(0);
    run("aws cloudformation wait stack-create-complete --stack-name cred-many").ends_with(0);
    assert!(!of_a.work() && of_b.work());
    run("aws cloudformation delete-stack --stack-name cred-many && aws cloudformation wait stack-delete-complete --stack-name cred-many")
        .ends_with(0);
    assert!(of_a.work());
}

/// What the local AWS's IAM refuses as AWS does (local-aws/iam_rules.py).
#[test]
fn iam_refuses_what_a_role_or_a_policy_cannot_have() {
    make_role("cred-rules");
    let large = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Deny","Action":"*","Resource":"{}"}}}}"#,
        "a".repeat(6144)
    );
    iam(&format!("create-policy --policy-name cred-rules-large --policy-document '{large}'"))
        .ends_with(255)
        .says_in_lines("Cannot exceed quota for PolicySize: 6144");
    // White space does not count.
    let wide = format!(
        r#"{{"Version":"2012-10-17",{}"Statement":{{"Effect":"Deny","Action":"*","Resource":"*"}}}}"#,
        " ".repeat(6144)
    );
    let made =
        iam(&format!("create-policy --policy-name cred-rules-wide --policy-document '{wide}'")).ends_with(0).json();
    let policy = made["Policy"]["Arn"].as_str().unwrap();
    let attach = |role: &str| iam(&format!("attach-role-policy --role-name {role} --policy-arn {policy}"));
    attach("cred-rules").ends_with(0);
    attach("cred-rules").ends_with(0);
    attach("cred-nobody").ends_with(255).says_in_lines("(NoSuchEntity)");
    iam("create-service-linked-role --aws-service-name ecs.amazonaws.com").ends_with(0);
    attach("AWSServiceRoleForEcs")
        .ends_with(255)
        .says_in_lines("(UnmodifiableEntity)")
        .says_in_lines("only modifiable by AWS");
}

/// The session knows its instance; one that it assumes does not (local-aws/instance_credentials.py).
#[tokio::test]
async fn the_metadata_service_gives_credentials_of_the_role_unless_it_is_off() {
    let scene = Scene::new("cred-imds").await;
    make_role("cred-imds-web");
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    give(&a, "cred-imds-web");
    let stolen = Stolen::from(&a).await;
    let identity: Value = stolen.tries("sts get-caller-identity").ends_with(0).json();
    assert_eq!(identity["Arn"], format!("arn:aws:sts::123456789012:assumed-role/cred-imds-web/{a}"));
    let document = format!(
        r#"'{{"Version":"2012-10-17","Statement":{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"ArnEquals":{{"ec2:SourceInstanceARN":"arn:aws:ec2:us-east-1:123456789012:instance/{a}"}}}}}}}}'"#
    );
    iam(&format!("put-role-policy --role-name cred-imds-web --policy-name deny --policy-document {document}"))
        .ends_with(0);
    assert!(!stolen.work());
    run(&format!("aws ec2 modify-instance-metadata-options --instance-id {a} --http-endpoint disabled")).ends_with(0);
    let refused = cloud().try_put("instance-credentials", &json!({"id": a})).await;
    assert!(refused.unwrap_err().contains("the metadata service of"));
}
