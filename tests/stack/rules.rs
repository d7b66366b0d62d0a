//! The local AWS refuses what EC2 refuses, with EC2's codes: without that it could not judge an isolation.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::{Filter, InstanceSpecification};
use serde_json::json;

use crate::fleet::{Site, cards};
use crate::{Scene, cloud};

fn code<T: std::fmt::Debug, E: ProvideErrorMetadata, R>(result: Result<T, SdkError<E, R>>) -> String {
    match result {
        Ok(done) => panic!("EC2 would refuse it: {done:?}"),
        Err(error) => error.as_service_error().and_then(|error| error.code()).unwrap_or("no code").to_owned(),
    }
}

struct Case {
    scene: Scene,
    instance: String,
    interface: String,
}

async fn case(name: &str) -> Case {
    let scene = Scene::new(name).await;
    let instance = scene.site.plain(&scene.ec2, &[0]).await;
    let interface = scene.cards(&[&instance]).await.into_keys().next().unwrap();
    Case { scene, instance, interface }
}

impl Case {
    async fn refused(&self, groups: Vec<String>) -> String {
        let change = self.scene.ec2.modify_network_interface_attribute().network_interface_id(&self.interface);
        code(change.set_groups(Some(groups)).send().await)
    }

    async fn snapshot(&self) -> Result<(), String> {
        let spec = InstanceSpecification::builder().instance_id(&self.instance).build();
        // The SDK would wait and try again.
        let never = aws_sdk_ec2::config::retry::RetryConfig::disabled();
        let quick = aws_sdk_ec2::config::Builder::default().retry_config(never);
        let call = self.scene.ec2.create_snapshots().instance_specification(spec).customize().config_override(quick);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(code::<(), _, _>(Err(error))),
        }
    }
}

#[tokio::test]
async fn an_unknown_group_is_refused() {
    let case = case("rule-unknown-group").await;
    assert_eq!(case.refused(vec!["sg-0123456789abcdef0".into()]).await, "InvalidGroup.NotFound");
}

#[tokio::test]
async fn a_group_of_another_vpc_is_refused() {
    let case = case("rule-other-vpc").await;
    let elsewhere = Site::build(&case.scene.ec2, "rule-elsewhere", 251).await;
    assert_eq!(case.refused(vec![elsewhere.groups[0].clone()]).await, "InvalidGroup.NotFound");
}

#[tokio::test]
async fn more_than_sixteen_groups_are_refused() {
    let case = case("rule-many-groups").await;
    let mut groups = case.scene.site.groups.clone();
    for n in groups.len()..17 {
        let group = case.scene.ec2.create_security_group().group_name(format!("many-{n}")).description("one of many");
        let group = group.vpc_id(&case.scene.site.vpc).send().await.unwrap();
        groups.push(group.group_id().unwrap().to_owned());
    }
    assert_eq!(case.refused(groups).await, "SecurityGroupsPerInterfaceLimitExceeded");
}

#[tokio::test]
async fn an_instance_wide_change_with_several_interfaces_is_refused() {
    let case = case("rule-instance-wide").await;
    case.scene.site.attach(&case.scene.ec2, &case.instance, &[1]).await;
    let change =
        case.scene.ec2.modify_instance_attribute().instance_id(&case.instance).groups(&case.scene.site.groups[1]);
    assert_eq!(code(change.send().await), "InvalidInstanceID");
}

#[tokio::test]
async fn a_requester_managed_interface_is_refused() {
    let case = case("rule-requester-managed").await;
    cloud().set("interface", &json!({"id": case.interface, "requester_managed": true})).await;
    assert_eq!(case.refused(vec![case.scene.site.groups[1].clone()]).await, "AuthFailure");
}

#[tokio::test]
async fn an_instance_that_is_shutting_down_is_refused() {
    let case = case("rule-shutting-down").await;
    cloud().set("instance", &json!({"id": case.instance, "state": "shutting-down"})).await;
    assert_eq!(case.refused(vec![case.scene.site.groups[1].clone()]).await, "IncorrectInstanceState");
}

#[tokio::test]
async fn a_terminated_instance_has_no_interfaces_and_no_snapshots() {
    let case = case("rule-terminated").await;
    case.scene.ec2.terminate_instances().instance_ids(&case.instance).send().await.unwrap();
    assert_eq!(case.scene.cards(&[&case.instance]).await, [].into());
    assert_eq!(case.snapshot().await, Err("IncorrectInstanceState".into()));
}

#[tokio::test]
async fn a_group_in_use_or_referenced_cannot_be_deleted() {
    let case = case("rule-delete-group").await;
    let (ec2, groups) = (&case.scene.ec2, &case.scene.site.groups);
    assert_eq!(code(ec2.delete_security_group().group_id(&groups[0]).send().await), "DependencyViolation");
    let from = aws_sdk_ec2::types::UserIdGroupPair::builder().group_id(&groups[1]).build();
    let rule = aws_sdk_ec2::types::IpPermission::builder()
        .ip_protocol("tcp")
        .from_port(22)
        .to_port(22)
        .user_id_group_pairs(from);
    let rule = ec2.authorize_security_group_ingress().group_id(&groups[2]).ip_permissions(rule.build());
    rule.send().await.unwrap();
    assert_eq!(code(ec2.delete_security_group().group_id(&groups[1]).send().await), "DependencyViolation");
    ec2.delete_security_group().group_id(&groups[3]).send().await.expect("nothing uses it");
}

#[tokio::test]
async fn a_volume_has_its_pause_between_two_snapshots() {
    // Other tests take snapshots in a row.
    cloud().set("snapshot-rate", &json!({"seconds": 15})).await;
    let case = case("rule-snapshot-rate").await;
    assert_eq!(case.snapshot().await, Ok(()));
    assert_eq!(case.snapshot().await, Err("SnapshotCreationPerVolumeRateExceeded".into()));
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_refused() {
    let ec2 = cloud().ec2().await;
    let launch = ec2.run_instances().image_id("ami-0123456789abcdef0").min_count(1).max_count(1);
    assert_eq!(code(launch.send().await), "InvalidAMIID.NotFound");
}

#[tokio::test]
async fn a_filter_takes_at_most_two_hundred_values() {
    let ids = (0..201).map(|n| format!("i-{n:017x}")).collect();
    let filter = Filter::builder().name("instance-id").set_values(Some(ids)).build();
    let ec2 = cloud().ec2().await;
    assert_eq!(code(ec2.describe_instances().filters(filter).send().await), "FilterLimitExceeded");
}

#[tokio::test]
async fn reads_trail_a_change_and_then_show_the_interfaces_own_groups_only() {
    let case = case("rule-stale").await;
    let groups = &case.scene.site.groups;
    crate::fleet::set_groups(&case.scene.ec2, &case.interface, &[&groups[2]]).await;
    let read = || async {
        let instances = case.scene.ec2.describe_instances().instance_ids(&case.instance).send().await.unwrap();
        let interface = &instances.reservations()[0].instances()[0].network_interfaces()[0];
        interface.groups().iter().map(|group| group.group_id().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(read().await, [groups[0].clone()], "EC2's reads trail its writes");
    assert_eq!(read().await, [groups[2].clone()]);
    assert_eq!(cards(&case.scene.ec2, &[&case.instance]).await[&case.interface], [groups[2].clone()].into());
}

#[tokio::test]
async fn cloudformation_refuses_an_instance_id_that_does_not_exist() {
    let mut scene = Scene::new("rule-parameter").await;
    let (succeeded, output) = scene.incident.list(&["i-0123456789abcdef0"]).try_deploy();
    assert!(!succeeded);
    assert!(output.contains("i-0123456789abcdef0") && output.contains("does not exist"), "{output}");
}

#[tokio::test]
async fn cloudformation_refuses_a_forensic_subnet_of_another_vpc() {
    let mut scene = Scene::new("rule-subnet").await;
    let elsewhere = Site::build(&scene.ec2, "rule-subnet-elsewhere", 252).await;
    let instance = scene.site.plain(&scene.ec2, &[0]).await;
    let (succeeded, output) = scene.incident.set("ForensicSubnetId", elsewhere.subnet).list(&[&instance]).try_deploy();
    assert!(!succeeded);
    assert!(output.contains("ForensicSubnetId must be a subnet of VpcId"), "{output}");
}
