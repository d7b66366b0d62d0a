//! Responder, incident and forensic host as stacks of their own, each in every life: made, changed, rolled back, failed, deleted again.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_sdk_cloudformation::types::{DeploymentConfig, DeploymentConfigMode, OnFailure};
use aws_sdk_ec2::types::IpPermission;
use serde_json::json;

use crate::beside::{RESPONDER, changed_responder, deploy_responder, parameters, template_url, try_responder};
use crate::cloud::BUILT;
use crate::fleet::aws;
use crate::operator::{operator, run};
use crate::permissions::without;
use crate::rollbacks::{changes_to_others, with_a_resource_that_fails};
use crate::{Scene, cloud};

/// `make responder`: the one of this account and Region, if it is not there.
pub async fn responder() {
    let cloudformation = cloud().cloudformation().await;
    if cloudformation.describe_stacks().stack_name(RESPONDER).send().await.is_err() {
        deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true"]);
    }
}

/// The incident's template takes none of the host's parameters.
pub fn without_host(mut scene: Scene) -> Scene {
    for parameter in ["ForensicSubnetId", "Ec2KeyName", "CompanyIp"] {
        scene.incident.unset(parameter);
    }
    scene
}

/// EC2 refuses to change this interface from now on.
async fn refuse(interface: &str) {
    let refuse =
        json!({"action": "ModifyNetworkInterfaceAttribute", "id": interface, "error_code": "OperationNotPermitted"});
    cloud().set("refuse", &refuse).await;
}

pub async fn refuse_no_more() {
    cloud().set("refuse", &json!({})).await;
}

impl Scene {
    /// A scene whose incident is made beside the responder.
    pub async fn prepared(name: &str) -> Self {
        responder().await;
        without_host(Self::new(name).await)
    }

    /// One of two instances to isolate, and another one that EC2 refuses to change.
    pub async fn half_refused(name: &str) -> (Self, String) {
        let mut scene = Self::prepared(name).await;
        let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
        refuse(&scene.cards(&[&b]).await.into_keys().next().unwrap()).await;
        scene.incident.list(&[&a, &b]);
        (scene, a)
    }

    pub async fn happened(&self) -> String {
        self.incident.events(&self.incident.name).await.join("\n")
    }

    /// The record of this instance is this incident's, in this state.
    pub async fn assert_owns(&self, table: &str, instance: &str, state: &str) {
        let record = self.incident.record(table, instance).await;
        let [is_owner, is] = ["Owner", "State"].map(|name| record[name].as_s().unwrap().as_str());
        let owner = format!("{}|Isolation", self.incident.stack_id().await);
        assert_eq!((is_owner, is), (owner.as_str(), state), "{instance}");
    }

    /// On which ports the host's group may reach the isolation group, which lets that group in.
    async fn host_reaches(&self) -> Vec<i32> {
        let isolation = self.incident.physical_id("IsolatedSecurityGroup").await;
        let host = self.incident.physical_id_in(&format!("{}-host", self.incident.name), "ForensicSecurityGroup").await;
        let groups = self.ec2.describe_security_groups().group_ids(&isolation).group_ids(&host).send().await.unwrap();
        let of = |id: &str| groups.security_groups().iter().find(|group| group.group_id() == Some(id)).unwrap();
        let to =
            |rule: &&IpPermission, id: &str| rule.user_id_group_pairs().iter().any(|pair| pair.group_id() == Some(id));
        let ingress: Vec<_> = of(&isolation).ip_permissions().iter().collect();
        assert!(
            matches!(ingress.as_slice(), [one] if to(one, &host) && one.ip_protocol() == Some("tcp")),
            "{ingress:?}"
        );
        let egress = of(&host).ip_permissions_egress().iter().filter(|rule| to(rule, &isolation));
        let mut ports: Vec<i32> = egress
            .map(|rule| {
                assert_eq!((rule.ip_protocol(), rule.from_port()), (Some("tcp"), rule.to_port()));
                rule.from_port().unwrap()
            })
            .collect();
        ports.sort_unstable();
        ports
    }
}

#[tokio::test]
async fn a_prepared_incident_isolates_grows_gets_a_host_and_restores() {
    let mut scene = Scene::prepared("prepared").await;
    let (a, b) = (scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a]).await;
    // What CloudFormation made before it called the function: two groups.
    let events = scene.incident.events(&scene.incident.name).await;
    let isolation = events
        .iter()
        .position(|event| event.starts_with("CREATE_IN_PROGRESS") && event.contains("Isolation  "))
        .unwrap();
    let made = events[..isolation].iter().filter(|event| event.starts_with("CREATE_COMPLETE")).count();
    assert_eq!(made, 2, "{events:#?}");

    scene.incident.list(&[&a, &b]);
    assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a, &b]).await;
    let outputs = scene.incident.outputs().await;
    assert_eq!((outputs["IsolatedInstanceCount"].as_str(), outputs["NotIsolated"].as_str()), ("2", ""));

    assert_eq!(scene.incident.host(&scene.site, "prepared", "22,3389").await, "CREATE_COMPLETE");
    // The function takes the host's rule for what it is, and changed ports replace nothing.
    scene.incident.set("Rerun", "1");
    assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    assert_eq!(scene.host_reaches().await, [22, 3389]);
    assert_eq!(scene.incident.host(&scene.site, "prepared", "3389,5985").await, "UPDATE_COMPLETE");
    assert_eq!(scene.host_reaches().await, [3389, 5985]);
    scene.incident.set("Rerun", "2");
    assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    assert_eq!(scene.incident.outputs().await["Summary"], outputs["Summary"], "nothing is said of the host");

    // Another image replaces the host, which an incident's stack with rollback disabled could not.
    let host = scene.incident.host_instance().await;
    let image = cloud().put("ubuntu-image", &json!({})).await["id"].as_str().unwrap().to_owned();
    let replaced = [("ForensicPorts", "3389,5985"), ("ForensicAmiId", image.as_str())];
    assert_eq!(scene.incident.host_with(&scene.site, "prepared", &replaced, None).await, "UPDATE_COMPLETE");
    assert_ne!(scene.incident.host_instance().await, host);
    // One that is not there: the host stack rolls back by itself.
    let unknown = [("ForensicPorts", "3389,5985"), ("ForensicAmiId", "ami-0123456789abcdef0")];
    let rolled_back = scene.incident.host_with(&scene.site, "prepared", &unknown, None).await;
    assert_eq!(rolled_back, "UPDATE_ROLLBACK_COMPLETE");
    assert_eq!(scene.host_reaches().await, [3389, 5985]);
    scene.assert_isolated(&[&a, &b]).await;

    assert_eq!(scene.incident.delete_host().await, "DELETE_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// The host's group names the isolation group, which EC2 then does not delete: restored it is all the same, and ended once the host is.
#[tokio::test]
async fn an_incident_deleted_before_its_host_restores_and_ends_after_it() {
    let mut scene = Scene::prepared("prepared-order").await;
    let a = scene.site.plain(&scene.ec2, &[1]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    assert_eq!(scene.incident.host(&scene.site, "prepared-order", "22").await, "CREATE_COMPLETE");
    assert_eq!(scene.incident.delete_ends_in().await, "DELETE_FAILED");
    assert_eq!(scene.cards(&[&a]).await, before);
    assert_eq!(scene.incident.delete_host().await, "DELETE_COMPLETE");
    scene.incident.delete().await;
}

/// CloudFormation sends Delete once more for what failed to delete, and the function is still there.
#[tokio::test]
async fn an_incident_whose_delete_failed_is_deleted_once_more() {
    let mut scene = Scene::prepared("prepared-twice").await;
    let a = scene.site.plain(&scene.ec2, &[0, 1]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    refuse(before.keys().next().unwrap()).await;
    assert_eq!(scene.incident.delete_ends_in().await, "DELETE_FAILED");
    let reason = scene.incident.reasons("Isolation").await.remove(0);
    let next = "when the incident is over, delete the stack once more: aws cloudformation delete-stack --stack-name prepared-twice";
    assert!(reason.contains(next), "{reason}");
    scene.assert_isolated(&[&a]).await;
    refuse_no_more().await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// With rollback it is safe as well: the rollback keeps everything, and deleting what it left restores.
#[tokio::test]
async fn an_incident_that_rolled_back_stays_isolated_until_it_is_deleted() {
    let (scene, a) = Scene::half_refused("prepared-back").await;
    let before = scene.cards(&[&a]).await;
    assert_eq!(scene.incident.create(true).await, "ROLLBACK_FAILED", "{}", scene.happened().await);
    refuse_no_more().await;
    scene.assert_isolated(&[&a]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn an_incident_that_is_deleted_for_its_failure_stays_isolated_until_a_person_deletes_it() {
    let (scene, a) = Scene::half_refused("prepared-gone").await;
    let before = scene.cards(&[&a]).await;
    let cloudformation = cloud().cloudformation().await;
    let request = cloudformation.create_stack().stack_name(&scene.incident.name).template_url(template_url("incident"));
    let request = request.on_failure(OnFailure::Delete).set_parameters(Some(parameters(scene.incident.parameters())));
    let id = request.send().await.unwrap().stack_id.unwrap();
    assert_eq!(scene.incident.ends_in(&id, &["CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS"]).await, "DELETE_FAILED");
    refuse_no_more().await;
    scene.assert_isolated(&[&a]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn two_incidents_in_two_vpcs_share_one_responder_and_neither_touches_the_other() {
    let (mut one, mut two) = (Scene::prepared("prepared-one").await, Scene::prepared("prepared-two").await);
    let (a, b) = (one.site.plain(&one.ec2, &[0]).await, two.site.plain(&two.ec2, &[0, 1]).await);
    let before = (one.cards(&[&a]).await, two.cards(&[&b]).await);
    one.incident.list(&[&a]);
    two.incident.list(&[&b]);
    let (first, second) = tokio::join!(one.incident.create(false), two.incident.create(false));
    assert_eq!((first.as_str(), second.as_str()), ("CREATE_COMPLETE", "CREATE_COMPLETE"));
    one.assert_isolated(&[&a]).await;
    two.assert_isolated(&[&b]).await;
    // The function changes under open incidents; its ARN does not.
    let arn = one.incident.outputs_of(RESPONDER).await["FunctionArn"].clone();
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true", "LambdaRuntime=provided.al2023"]);
    assert_eq!(one.incident.outputs_of(RESPONDER).await["FunctionArn"], arn);

    one.incident.delete().await;
    assert_eq!(one.cards(&[&a]).await, before.0);
    two.assert_isolated(&[&b]).await;
    // Nobody takes the responder away from an open incident.
    let text = two.incident.responder_is_kept().await;
    assert!(text.contains("cannot be deleted as it is in use by prepared-two"), "{text}");
    assert!(two.incident.outputs_of(RESPONDER).await.contains_key("FunctionArn"));
    two.incident.delete().await;
    assert_eq!(two.cards(&[&b]).await, before.1);
}

/// The name of the export says which responder a template needs: none, another Region's and an older one are told before anything is made.
#[tokio::test]
async fn an_incident_without_the_responder_that_it_needs_makes_nothing_and_says_which() {
    let mut scene = Scene::prepared("prepared-v2").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]);
    let newer = std::fs::read_to_string("incident.yaml").unwrap().replace("ec2-isolation-v1-", "ec2-isolation-v2-");
    let request = cloud().cloudformation().await.create_stack().template_body(newer).disable_rollback(true);
    assert_eq!(scene.incident.created(request).await, "CREATE_FAILED");
    let events = scene.incident.events("prepared-v2").await;
    assert!(
        events.iter().any(|event| event.contains("No export named ec2-isolation-v2-FunctionArn found")),
        "{events:#?}"
    );
    assert!(events.iter().all(|event| event.contains(" prepared-v2 ")), "nothing of the stack was made: {events:#?}");
    scene.incident.delete().await;
}

/// With the responder's service role a person needs no right for EC2 or Lambda.
#[tokio::test]
async fn a_service_role_makes_isolates_and_deletes_an_incident_and_its_host() {
    let mut scene = Scene::prepared("prepared-role").await;
    let a = scene.site.plain(&scene.ec2, &[0, 2]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]);
    let role = scene.incident.outputs_of(RESPONDER).await["IncidentRoleArn"].clone();
    let cloudformation = cloud().cloudformation().await;
    let request = cloudformation.create_stack().template_url(template_url("incident")).role_arn(&role);
    assert_eq!(
        scene.incident.created(request.disable_rollback(true)).await,
        "CREATE_COMPLETE",
        "{}",
        scene.happened().await
    );
    scene.assert_isolated(&[&a]).await;
    let host = scene.incident.host_with(&scene.site, "prepared-role", &[], Some(&role)).await;
    assert_eq!(host, "CREATE_COMPLETE", "{:#?}", scene.incident.events("prepared-role-host").await);
    assert_eq!(
        scene.incident.host_with(&scene.site, "prepared-role", &[("ForensicPorts", "3389")], Some(&role)).await,
        "UPDATE_COMPLETE"
    );
    assert_eq!(scene.incident.delete_host().await, "DELETE_COMPLETE");
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// Alarms come after the isolation, so it stands, and without the watch the incident is complete.
#[tokio::test]
async fn without_a_right_for_alarms_the_isolation_stands_and_watch_off_is_the_way_on() {
    let parameters = ["IncidentRole=true", "DetachInstanceProfile=true"];
    for (sid, action) in [("MakeAlarms", "cloudwatch:PutMetricAlarm"), ("ReadAlarms", "cloudwatch:DescribeAlarms")] {
        let name = format!("prepared-{}", sid.to_lowercase());
        let mut scene = Scene::prepared(&name).await;
        let a = scene.site.plain(&scene.ec2, &[0]).await;
        let before = scene.cards(&[&a]).await;
        let (succeeded, output) = try_responder(cloud(), &changed_responder(sid, without(sid)), &[], &parameters);
        assert!(succeeded, "{output}");
        let role = scene.incident.outputs_of(RESPONDER).await["IncidentRoleArn"].clone();
        scene.incident.list(&[&a]);
        let request = cloud().cloudformation().await.create_stack().template_url(template_url("incident"));
        let status = scene.incident.created(request.role_arn(&role).disable_rollback(true)).await;
        let events = scene.happened().await;
        assert!(status == "CREATE_FAILED" && events.contains(action), "{sid}: {status} {events}");
        scene.assert_isolated(&[&a]).await;
        scene.incident.set("Watch", "Off");
        assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{sid}: {}", scene.happened().await);
        scene.assert_isolated(&[&a]).await;
        scene.incident.delete().await;
        assert_eq!(scene.cards(&[&a]).await, before);
    }
    deploy_responder(cloud(), &parameters);
}

/// Whoever made it in express mode: it takes express operations only, and the program knows.
#[tokio::test]
async fn an_incident_that_failed_in_express_mode_is_restored_and_ended_by_the_program() {
    let (scene, a) = Scene::half_refused("prepared-express").await;
    let before = scene.cards(&[&a]).await;
    let express = DeploymentConfig::builder().mode(DeploymentConfigMode::Express).build();
    let request = cloud().cloudformation().await.create_stack().template_url(template_url("incident"));
    assert_eq!(scene.incident.created(request.deployment_config(express)).await, "CREATE_FAILED");
    // A change is made in that mode, too, and fails for its own cause.
    let b = scene.incident.parameters()["CompromisedInstanceList"].split(',').nth(1).unwrap().to_owned();
    let isolate = ["isolate", &a, &b, "--stack", "prepared-express", "--yes"];
    let ran = operator(&isolate).ends_with(4);
    ran.says("NOT ISOLATED: 1 of 2 instances. Isolated: 1 (1 interface).").says("OperationNotPermitted");
    refuse_no_more().await;
    scene.assert_isolated(&[&a]).await;
    let id = scene.incident.stack_id().await;
    operator(&["restore", "--stack", "prepared-express", "--finish", "--yes"]).ends_with(0).says("is deleted");
    assert_eq!(scene.incident.ends_in(&id, &[]).await, "DELETE_COMPLETE");
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn an_incident_that_failed_in_express_mode_isolates_the_rest_by_the_program() {
    let (scene, a) = Scene::half_refused("prepared-express-on").await;
    let b = scene.incident.parameters()["CompromisedInstanceList"].split(',').nth(1).unwrap().to_owned();
    let before = scene.cards(&[&a, &b]).await;
    let express = DeploymentConfig::builder().mode(DeploymentConfigMode::Express).build();
    let request = cloud().cloudformation().await.create_stack().template_url(template_url("incident"));
    assert_eq!(scene.incident.created(request.deployment_config(express)).await, "CREATE_FAILED");
    refuse_no_more().await;
    let ran = operator(&["isolate", &a, &b, "--stack", "prepared-express-on", "--yes"]).ends_with(0);
    ran.says("ISOLATED, as EC2 shows it: 2 of 2 instances");
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.unprotect().await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// What Lambda runs for every incident.
fn code_sha256() -> String {
    let name = json!({"FunctionName": "ec2-isolation"});
    let read = aws(&cloud().credentials(), "lambda", "get_function_configuration", &name).expect("it is there");
    read["CodeSha256"].as_str().expect("a digest").to_owned()
}

/// A newer function: the built one, which says so when it starts.
fn write_newer_function(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(folder.with_file_name("IsolationFunction").join("bootstrap"), folder.join("built")).unwrap();
    let script = "#!/bin/sh\necho 'a newer function starts'\nexec \"$LAMBDA_TASK_ROOT/built\"\n";
    std::fs::write(folder.join("bootstrap"), script).unwrap();
    std::fs::set_permissions(folder.join("bootstrap"), Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn the_responders_code_changes_under_an_open_incident_which_then_grows_and_is_restored() {
    let mut scene = Scene::prepared("prepared-newer").await;
    let (a, b) = (scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    let table = scene.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    let (record, code) = (scene.incident.record(&table, &a).await, code_sha256());
    let arn = scene.incident.outputs_of(RESPONDER).await["FunctionArn"].clone();

    let since = cloud().now().await;
    write_newer_function(&Path::new(BUILT).with_file_name("NewerFunction"));
    let template = changed_responder("newer", |text| text.replace("Uri: IsolationFunction", "Uri: NewerFunction"));
    let parameters = ["IncidentRole=true", "DetachInstanceProfile=true"];
    let (succeeded, output) = try_responder(cloud(), &template, &[], &parameters);
    assert!(succeeded, "{output}");
    let newer = code_sha256();
    assert_ne!(newer, code);
    assert_eq!(scene.incident.outputs_of(RESPONDER).await["FunctionArn"], arn);
    scene.assert_isolated(&[&a]).await;
    assert_eq!(scene.incident.record(&table, &a).await, record);
    assert_eq!(changes_to_others(since, &[]).await, [""; 0], "no interface was touched");

    scene.incident.list(&[&a, &b]);
    assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a, &b]).await;
    for instance in [&a, &b] {
        scene.assert_owns(&table, instance, "isolated").await;
    }
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
    assert_eq!(code_sha256(), newer);
    let group = scene.incident.physical_id_in(RESPONDER, "IsolationLogGroup").await;
    let log = aws(&cloud().credentials(), "logs", "filter_log_events", &json!({"logGroupName": group})).expect("a log");
    assert!(log.to_string().contains("a newer function starts"), "{log}");
    deploy_responder(cloud(), &parameters);
    assert_eq!(code_sha256(), code);
}

/// The new code is taken back with everything else. The incident keeps its function, its records and its isolation.
#[tokio::test]
async fn a_responder_whose_update_rolls_back_serves_its_open_incidents_as_before() {
    let mut scene = Scene::prepared("prepared-undone").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    let table = scene.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    let (record, code, since) = (scene.incident.record(&table, &a).await, code_sha256(), cloud().now().await);
    write_newer_function(&Path::new(BUILT).with_file_name("UndoneFunction"));
    let failing = changed_responder("undone", |text| {
        let newer = text.replace("Uri: IsolationFunction", "Uri: UndoneFunction");
        with_a_resource_that_fails(&newer).replace("DependsOn: Isolation\n", "DependsOn: IsolationFunction\n")
    });
    let parameters = ["IncidentRole=true", "DetachInstanceProfile=true"];
    let (succeeded, output) = try_responder(cloud(), &failing, &["--no-disable-rollback"], &parameters);
    assert!(!succeeded && output.contains("Initiating deployment"), "{output}");
    let on_the_way = ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"];
    assert_eq!(scene.incident.ends_in(RESPONDER, &on_the_way).await, "UPDATE_ROLLBACK_COMPLETE");
    let events = scene.incident.events(RESPONDER).await;
    let changes =
        events.iter().filter(|event| event.starts_with("UPDATE_COMPLETE ") && event.contains(" IsolationFunction "));
    assert!(changes.count() >= 2, "the code was there, and went back: {events:#?}");
    assert_eq!(code_sha256(), code);
    scene.assert_isolated(&[&a]).await;
    assert_eq!(scene.incident.record(&table, &a).await, record);
    assert_eq!(changes_to_others(since, &[]).await, [""; 0], "no interface was touched");

    scene.incident.list(&[&a, &b]);
    assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// The old list no longer names what the update isolated, and OnRemoval says Restore: a rollback releases nobody all the same.
#[tokio::test]
async fn an_incident_whose_update_rolls_back_keeps_what_the_update_isolated() {
    let mut scene = Scene::prepared("prepared-undone-list").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.set("OnRemoval", "Restore").list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    let ours = [
        scene.incident.physical_id("IsolatedSecurityGroup").await,
        scene.incident.physical_id("TransitSecurityGroup").await,
    ];
    let since = cloud().now().await;
    scene.incident.list(&[&a, &b]);
    let failing = with_a_resource_that_fails(&std::fs::read_to_string("incident.yaml").unwrap());
    let update =
        cloud().cloudformation().await.update_stack().stack_name("prepared-undone-list").template_body(failing);
    let update = update.set_parameters(Some(parameters(scene.incident.parameters()))).disable_rollback(false);
    let id = update.send().await.unwrap().stack_id.unwrap();
    let on_the_way =
        ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"];
    assert_eq!(scene.incident.ends_in(&id, &on_the_way).await, "UPDATE_ROLLBACK_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    assert_eq!(changes_to_others(since, &[&ours[0], &ours[1]]).await, [""; 0]);
    let table = scene.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    scene.assert_owns(&table, &a, "isolated").await;
    scene.assert_owns(&table, &b, "kept").await;

    assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_owns(&table, &b, "isolated").await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// Its names are fixed: what a rollback or a deletion left must not be in the way of the next one.
#[tokio::test]
async fn a_responder_that_rolled_back_or_was_deleted_is_made_again() {
    let scene = Scene::new("responder-again").await;
    let cloudformation = cloud().cloudformation().await;
    let delete = async || {
        if let Ok(stacks) = cloudformation.describe_stacks().stack_name(RESPONDER).send().await {
            let id = stacks.stacks()[0].stack_id().unwrap().to_owned();
            cloudformation.delete_stack().stack_name(RESPONDER).send().await.unwrap();
            assert_eq!(scene.incident.ends_in(&id, &["DELETE_IN_PROGRESS"]).await, "DELETE_COMPLETE");
        }
    };
    delete().await;
    let failing = changed_responder("failing", |text| {
        with_a_resource_that_fails(text).replace("DependsOn: Isolation\n", "DependsOn: IsolationFunction\n")
    });
    let (succeeded, output) = try_responder(cloud(), &failing, &["--no-disable-rollback"], &[]);
    assert!(!succeeded && output.contains("Initiating deployment"), "{output}");
    assert_eq!(scene.incident.ends_in(RESPONDER, &["ROLLBACK_IN_PROGRESS"]).await, "ROLLBACK_COMPLETE");
    delete().await;
    deploy_responder(cloud(), &[]);
    delete().await;
    deploy_responder(cloud(), &["IncidentRole=true", "DetachInstanceProfile=true"]);
    assert!(scene.incident.outputs_of(RESPONDER).await["FunctionArn"].ends_with(":function:ec2-isolation"));
}

/// What `make responder` does after its deployment, by the real AWS CLI: nobody deletes it by a slip.
#[tokio::test]
async fn make_responder_protects_it_from_being_deleted() {
    let scene = Scene::new("responder-protected").await;
    responder().await;
    let cloudformation = cloud().cloudformation().await;
    let described = async || {
        let answer = cloudformation.describe_stacks().stack_name(RESPONDER).send().await.unwrap();
        answer.stacks()[0].clone()
    };
    assert_eq!(described().await.enable_termination_protection(), Some(false));
    let mut make = std::process::Command::new("make");
    // It may be make that runs this.
    let make = make.args(["--dry-run", "responder"]).env_remove("MAKEFLAGS").env_remove("MAKELEVEL").output().unwrap();
    let printed = String::from_utf8(make.stdout).unwrap();
    let protect = printed.lines().find(|line| line.contains("update-termination-protection")).expect("a command");
    run(protect).ends_with(0).says("arn:aws:cloudformation:us-east-1:123456789012:stack/ec2-isolation-responder/");
    assert_eq!(described().await.enable_termination_protection(), Some(true));
    let refused = cloudformation.delete_stack().stack_name(RESPONDER).send().await.unwrap_err();
    let text = aws_sdk_cloudformation::error::DisplayErrorContext(refused).to_string();
    assert!(text.contains("cannot be deleted while TerminationProtection is enabled"), "{text}");
    let status = scene.incident.ends_in(RESPONDER, &[]).await;
    assert!(status.ends_with("_COMPLETE") && !status.starts_with("DELETE"), "{status}");
    // As it was for the tests after it.
    run(&protect.replace("--enable-", "--no-enable-")).ends_with(0);
    assert_eq!(described().await.enable_termination_protection(), Some(false));
}
