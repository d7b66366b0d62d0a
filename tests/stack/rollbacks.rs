//! Whatever CloudFormation undoes when something else fails: no host leaves its isolation.

use aws_sdk_cloudformation::types::{Capability, OnFailure, Parameter};
use serde_json::json;

use crate::cloud::{BUILT, changed_template};
use crate::fleet::Cards;
use crate::incident::Incident;
use crate::operator::follow_next_steps;
use crate::{Scene, cloud, operator};

/// `ModifyNetworkInterfaceAttribute` calls after call `since` that name a group other than `groups`.
pub async fn changes_to_others(since: u64, groups: &[&str]) -> Vec<String> {
    let calls = cloud().calls(since).await.into_iter();
    let swaps = calls.filter(|call| call.action == "ModifyNetworkInterfaceAttribute");
    let named =
        swaps.flat_map(|call| call.parameters.into_iter().filter(|(name, _)| name.starts_with("SecurityGroupId")));
    named.map(|(_, group)| group).filter(|group| !groups.contains(&group.as_str())).collect()
}

/// A template in which one more resource, made after everything else, cannot be made.
pub fn with_a_resource_that_fails(text: &str) -> String {
    let failing = "  Late:\n    Type: AWS::EC2::SecurityGroup\n    DependsOn: Isolation\n    Properties:\n      \
                   GroupDescription: late\n      VpcId: vpc-00000000000000000\n";
    text.replacen("\nResources:\n", &format!("\nResources:\n{failing}"), 1)
}

/// `create-stack`, with the template that `sam package` makes.
async fn create_stack(incident: &Incident<'_>, on_failure: OnFailure) {
    let packaged = incident.template.with_file_name(format!("packaged-{}.yaml", incident.name));
    let (template, file) = (incident.template.to_str().expect("UTF-8"), packaged.to_str().expect("UTF-8"));
    let (succeeded, said) =
        cloud().sam(&["package", "--resolve-s3", "--template-file", template, "--output-template-file", file]);
    assert!(succeeded, "{said}");
    // It is too large to be part of the request: it goes where its code went.
    let text = std::fs::read_to_string(&packaged).expect("it was packaged");
    let bucket = text.split_once("s3://").and_then(|(_, rest)| rest.split('/').next()).expect("its bucket");
    let name = &incident.name;
    operator::run(&format!("aws s3 cp {file} s3://{bucket}/{name}.yaml")).ends_with(0);
    let parameters = incident.parameters().iter();
    let parameters =
        parameters.map(|(key, value)| Parameter::builder().parameter_key(*key).parameter_value(value).build());
    let request = cloud().cloudformation().await.create_stack().stack_name(name);
    request
        .template_url(format!("https://s3.us-east-1.amazonaws.com/{bucket}/{name}.yaml"))
        .set_parameters(Some(parameters.collect()))
        .capabilities(Capability::CapabilityIam)
        .capabilities(Capability::CapabilityAutoExpand)
        .on_failure(on_failure)
        .send()
        .await
        .expect("it begins");
}

/// `aws cloudformation create-stack --on-failure DELETE`. The SAM CLI's `--on-failure DELETE` is something else: it deletes
/// the failed stack itself, as the person who runs it.
#[tokio::test]
async fn on_failure_delete_leaves_everything_isolated_and_recorded() {
    let mut scene = Scene::new("on-failure-delete").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    create_stack(scene.incident.list(&[&a]), OnFailure::Delete).await;
    let end = scene
        .incident
        .ends_in("on-failure-delete", &["CREATE_IN_PROGRESS", "CREATE_FAILED", "DELETE_IN_PROGRESS"])
        .await;
    cloud().set("launch-failure", &json!({"error_code": null})).await;
    assert_eq!(end, "DELETE_FAILED");
    scene.assert_isolated(&[&a]).await;
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    assert_eq!(scene.incident.states(&table).await[&a], "kept");
    follow_next_steps("on-failure-delete");
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn an_update_that_fails_half_way_and_rolls_back_leaves_everything_isolated() {
    let mut scene = Scene::new("update-rolls-back").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.options = vec!["--no-disable-rollback"];
    scene.incident.set("OnRemoval", "Restore").list(&[&a]).deploy();
    let groups = [
        scene.incident.physical_id("IsolatedSecurityGroup").await,
        scene.incident.physical_id("TransitSecurityGroup").await,
    ];
    let since = cloud().now().await;
    scene.incident.template = changed_template("update-rolls-back", with_a_resource_that_fails);
    let (succeeded, output) = scene.incident.list(&[&a, &b]).try_deploy();
    assert!(!succeeded, "{output}");
    // The old list no longer names b, and OnRemoval says Restore: it stays isolated all the same.
    assert_eq!(scene.incident.status().await, "UPDATE_ROLLBACK_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    assert_eq!(changes_to_others(since, &[&groups[0], &groups[1]]).await, [""; 0]);
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    assert_eq!(scene.incident.states(&table).await[&b], "kept");
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_update_leaves_everything_isolated() {
    let mut scene = Scene::new("cancelled").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]).deploy();
    let since = cloud().now().await;
    // It is cancelled while the function holds b in the transit group; what comes after the custom resource never comes.
    scene.incident.template = changed_template("cancelled", with_a_resource_that_fails);
    scene.incident.options = vec!["--no-disable-rollback"];
    scene.incident.set("HoldSeconds", "4").list(&[&a, &b]);
    let cloud = cloud();
    let cancelling = tokio::spawn(async move {
        while !cloud.calls(since).await.iter().any(|seen| seen.action == "ModifyNetworkInterfaceAttribute") {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let cloudformation = cloud.cloudformation().await;
        cloudformation.cancel_update_stack().stack_name("cancelled").send().await.expect("it can be cancelled");
    });
    let (succeeded, output) = tokio::task::block_in_place(|| scene.incident.try_deploy());
    cancelling.await.expect("it was cancelled");
    assert!(!succeeded, "{output}");
    assert_eq!(scene.incident.status().await, "UPDATE_ROLLBACK_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// What samconfig.toml's `disable_rollback` leaves after the likeliest failure of all.
async fn deployed_without_its_host(name: &str) -> (Scene, String, Cards) {
    let mut scene = Scene::new(name).await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    let (succeeded, output) = scene.incident.list(&[&a]).try_deploy();
    cloud().set("launch-failure", &json!({"error_code": null})).await;
    assert!(!succeeded, "{output}");
    assert_eq!(scene.incident.status().await, "CREATE_FAILED");
    scene.assert_isolated(&[&a]).await;
    (scene, a, before)
}

/// After a failed creation `sam deploy` suggests it.
#[tokio::test]
async fn a_rollback_by_hand_leaves_everything_isolated_and_recorded() {
    let (scene, a, before) = deployed_without_its_host("rollback-stack").await;
    let cloudformation = cloud().cloudformation().await;
    cloudformation.rollback_stack().stack_name("rollback-stack").send().await.expect("it can be rolled back");
    assert_eq!(
        scene.incident.ends_in("rollback-stack", &["ROLLBACK_IN_PROGRESS", "CREATE_FAILED"]).await,
        "ROLLBACK_FAILED"
    );
    scene.assert_isolated(&[&a]).await;
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    assert_eq!(scene.incident.states(&table).await[&a], "kept");
    follow_next_steps("rollback-stack");
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn a_stack_whose_host_failed_is_completed_by_deploying_again() {
    let (mut scene, a, mut before) = deployed_without_its_host("host-failed").await;
    let b = scene.site.plain(&scene.ec2, &[1]).await;
    before.extend(scene.cards(&[&b]).await);
    let groups = [
        scene.incident.physical_id("IsolatedSecurityGroup").await,
        scene.incident.physical_id("TransitSecurityGroup").await,
    ];
    let baked = scene.ec2.create_image().instance_id(&b).name("baked").send().await.expect("an image");
    let baked = baked.image_id().expect("it has an id").to_owned();
    let since = cloud().now().await;
    scene.incident.set("ForensicAmiId", baked.clone()).list(&[&a, &b]).deploy();
    assert_eq!(scene.incident.status().await, "UPDATE_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    assert_eq!(changes_to_others(since, &[&groups[0], &groups[1]]).await, [""; 0]);
    assert_eq!(scene.image_of_host().await.1, baked);
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

#[tokio::test]
async fn a_stack_whose_host_failed_restores_when_it_is_deleted() {
    let (scene, a, before) = deployed_without_its_host("host-failed-deleted").await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn two_stacks_that_claim_one_instance_end_with_one_owner() {
    let mut first = Scene::new("claim").await;
    let (a, b) = (first.site.plain(&first.ec2, &[0]).await, first.site.plain(&first.ec2, &[1]).await);
    let (before, of_a) = (first.cards(&[&a, &b]).await, first.cards(&[&a]).await);
    let mut second = first.beside("claim-too");
    first.incident.list(&[&a]).deploy();
    let reason = second.incident.list(&[&a, &b]).deploy_fails().await;
    let holder = first.incident.stack_id().await;
    let advice = "take it over with ec2-isolation adopt, or take it off CompromisedInstanceList";
    assert!(reason.contains(&format!("{a} is already isolated by {holder}: {advice}")), "{reason}");
    first.assert_isolated(&[&a]).await;
    second.assert_isolated(&[&b]).await;
    // Deleting the first of two incidents restores what is its own, and what the second one named is free for it.
    first.incident.delete().await;
    assert_eq!(first.cards(&[&a]).await, of_a);
    second.assert_isolated(&[&b]).await;
    second.incident.set("Rerun", "again").deploy();
    second.assert_isolated(&[&a, &b]).await;
    second.incident.delete().await;
    assert_eq!(first.cards(&[&a, &b]).await, before);
}

/// The incident's stack is nested in one that fails after it was complete.
#[tokio::test]
async fn a_stack_nested_in_a_parent_that_rolls_back_leaves_everything_isolated() {
    let mut scene = Scene::new("parent").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]);
    let parameters: String =
        scene.incident.parameters().iter().map(|(key, value)| format!("        {key}: \"{value}\"\n")).collect();
    let built = std::path::Path::new(BUILT).file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
    let parent = format!(
        "Resources:\n  Incident:\n    Type: AWS::CloudFormation::Stack\n    Properties:\n      TemplateURL: {built}\n      \
         Parameters:\n{parameters}  Late:\n    Type: AWS::EC2::SecurityGroup\n    DependsOn: Incident\n    Properties:\n      \
         GroupDescription: late\n      VpcId: vpc-00000000000000000\n"
    );
    let template = changed_template("parent", |_| parent.clone());
    let config = std::fs::canonicalize("samconfig.toml").unwrap();
    let (succeeded, output) = cloud().sam(&[
        "deploy",
        "--stack-name",
        "parent",
        "--template-file",
        template.to_str().unwrap(),
        "--config-file",
        config.to_str().unwrap(),
        "--no-disable-rollback",
        "--capabilities",
        "CAPABILITY_IAM",
        "CAPABILITY_AUTO_EXPAND",
    ]);
    assert!(!succeeded, "{output}");
    assert_eq!(scene.incident.status().await, "ROLLBACK_FAILED", "{output}");
    let nested = scene.incident.physical_id("Incident").await;
    let isolation = scene.incident.physical_id_in(&nested, "IsolatedSecurityGroup").await;
    let cards: Vec<_> = scene.cards(&[&a]).await.into_values().collect();
    assert_eq!(cards, [[isolation].into()]);
    let table = scene.incident.physical_id_in(&nested, "SecurityGroupTable").await;
    let item = scene.incident.record(&table, &a).await;
    let reason = item["KeptReason"].as_s().unwrap();
    assert!(reason.starts_with("its parent stack is rolling back (ROLLBACK_IN_PROGRESS)"), "{reason}");
    // It ends with its parent, which the last step deletes.
    follow_next_steps(&nested);
    assert_eq!(scene.cards(&[&a]).await, before);
    let cloudformation = cloud().cloudformation().await;
    assert!(cloudformation.describe_stacks().stack_name("parent").send().await.is_err());
}
