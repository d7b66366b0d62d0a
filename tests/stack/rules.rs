//! The local AWS refuses what EC2 refuses, with EC2's codes: without that it could not judge an isolation.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Credentials;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::modify_instance_attribute::builders::ModifyInstanceAttributeFluentBuilder as Change;
use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, EbsInstanceBlockDeviceSpecification, Filter, HttpTokensState,
    IamInstanceProfileSpecification, InstanceBlockDeviceMappingSpecification, InstanceMetadataEndpointState,
    InstanceSpecification, IpPermission, IpRange,
};
use serde_json::{Value, json};

use crate::fleet::{Protection, Site, aws, cards, profile, protection, scaling_group};
use crate::{Scene, cloud};

/// The code with which AWS refuses a call.
pub fn code<T: std::fmt::Debug, E: ProvideErrorMetadata, R>(result: Result<T, SdkError<E, R>>) -> String {
    match result {
        Ok(done) => panic!("AWS would refuse it: {done:?}"),
        Err(error) => error.as_service_error().and_then(|error| error.code()).unwrap_or("no code").to_owned(),
    }
}

/// The SDK would wait and try again.
fn without_retries(ec2: &Client) -> Client {
    Client::from_conf(ec2.config().to_builder().retry_config(RetryConfig::disabled()).build())
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
        match without_retries(&self.scene.ec2).create_snapshots().instance_specification(spec).send().await {
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

/// EC2 API errors: InvalidPermission.Duplicate. Another description makes no other rule.
#[tokio::test]
async fn a_rule_that_a_group_has_already_is_refused() {
    let case = case("rule-twice").await;
    let ec2 = &case.scene.ec2;
    let rule = |description: &str| {
        let range = IpRange::builder().cidr_ip("192.0.2.0/24").description(description).build();
        let rule = IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22).ip_ranges(range).build();
        (rule.clone(), ec2.authorize_security_group_ingress().group_id(&case.scene.site.groups[3]).ip_permissions(rule))
    };
    let (permission, first) = rule("one");
    first.send().await.unwrap();
    for description in ["one", "another"] {
        assert_eq!(code(rule(description).1.send().await), "InvalidPermission.Duplicate", "{description}");
    }
    let out = || ec2.authorize_security_group_egress().group_id(&case.scene.site.groups[3]);
    out().ip_permissions(permission.clone()).send().await.unwrap();
    assert_eq!(code(out().ip_permissions(permission).send().await), "InvalidPermission.Duplicate");
}

#[tokio::test]
async fn a_group_in_a_vpc_that_does_not_exist_is_refused() {
    let case = case("rule-group-vpc").await;
    let group = case.scene.ec2.create_security_group().group_name("stray").description("stray");
    assert_eq!(code(group.vpc_id("vpc-00000000000000000").send().await), "InvalidVpcID.NotFound");
}

/// When a test run is ended in the middle of a deployment, nothing of it stays behind.
#[tokio::test]
async fn the_local_aws_stops_though_a_stack_still_waits() {
    let cloud = crate::cloud::Cloud::start(std::path::Path::new("target/stack/local-aws-that-stops.log"));
    let template = r#"{"Resources": {"Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Signal": {"Type": "AWS::CloudFormation::WaitCondition", "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "300"}}}}"#;
    let cloudformation = cloud.cloudformation().await;
    cloudformation.create_stack().stack_name("waits").template_body(template).send().await.expect("it begins");
    let is_waiting = async || {
        let events = cloudformation.describe_stack_events().stack_name("waits").send().await.expect("events");
        events.stack_events().iter().any(|event| event.logical_resource_id() == Some("Signal"))
    };
    while !is_waiting().await {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let since = std::time::Instant::now();
    drop(cloud);
    assert!(since.elapsed() < std::time::Duration::from_secs(30), "{:?}", since.elapsed());
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

fn flag(value: bool) -> AttributeBooleanValue {
    AttributeBooleanValue::builder().value(value).build()
}

fn shutdown(value: &str) -> AttributeValue {
    AttributeValue::builder().value(value).build()
}

fn kept(device: &str) -> InstanceBlockDeviceMappingSpecification {
    let ebs = EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(false).build();
    InstanceBlockDeviceMappingSpecification::builder().device_name(device).ebs(ebs).build()
}

impl Case {
    fn change(&self) -> Change {
        self.scene.ec2.modify_instance_attribute().instance_id(&self.instance)
    }

    /// The codes with which EC2 refuses each protection of another instance; empty where it takes it.
    async fn protections_refused(&self, instance: &str) -> [String; 3] {
        let change = || self.change().instance_id(instance);
        let changes = [
            change().disable_api_termination(flag(true)),
            change().disable_api_stop(flag(true)),
            change().instance_initiated_shutdown_behavior(shutdown("stop")),
        ];
        let mut codes = [const { String::new() }; 3];
        for (result, change) in codes.iter_mut().zip(changes) {
            if let Err(error) = change.send().await {
                *result = code::<(), _, _>(Err(error));
            }
        }
        codes
    }

    async fn terminated(&self) -> String {
        code(self.scene.ec2.terminate_instances().instance_ids(&self.instance).send().await)
    }
}

/// An IAM user who is no administrator.
struct User {
    key_id: String,
    secret: String,
}

impl User {
    /// One who may do what these policy statements say.
    fn new(name: &str, statements: &Value) -> Self {
        let iam = |operation: &str, arguments: Value| {
            aws(&cloud().credentials(), "iam", operation, &arguments).expect("IAM accepts it")
        };
        iam("create_user", json!({"UserName": name}));
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        iam("put_user_policy", json!({"UserName": name, "PolicyName": name, "PolicyDocument": policy}));
        let made = iam("create_access_key", json!({"UserName": name}));
        let part = |name: &str| made["AccessKey"][name].as_str().unwrap().to_owned();
        Self { key_id: part("AccessKeyId"), secret: part("SecretAccessKey") }
    }

    fn ec2(&self, administrator: &Client) -> Client {
        let key = Credentials::new(&self.key_id, &self.secret, None, None, "user");
        Client::from_conf(administrator.config().to_builder().credentials_provider(key).build())
    }

    fn autoscaling(&self, operation: &str, arguments: &Value) -> Result<Value, String> {
        let mut environment = cloud().credentials();
        environment.extend([("AWS_ACCESS_KEY_ID", &*self.key_id), ("AWS_SECRET_ACCESS_KEY", &*self.secret)]);
        aws(&environment, "autoscaling", operation, arguments)
    }
}

/// A call by the administrator.
fn autoscaling(operation: &str, arguments: &Value) -> Result<Value, String> {
    aws(&cloud().credentials(), "autoscaling", operation, arguments)
}

#[tokio::test]
async fn protections_are_changed_one_by_one_and_shown() {
    let case = case("rule-protections").await;
    let instance = case.scene.site.launch(&case.scene.ec2, &[&[0]], 2).await;
    let case = Case { instance, ..case };
    let before = protection(&case.scene.ec2, &case.instance).await;
    let volumes: Vec<String> = before.deleted.keys().cloned().collect();
    let both = |deleted| volumes.iter().map(|volume| (volume.clone(), deleted)).collect();
    let unprotected = Protection {
        termination: false,
        stop: false,
        shutdown: "stop".into(),
        deleted: both(true),
        metadata_service: true,
    };
    assert_eq!(before, unprotected);
    for change in [
        case.change().disable_api_termination(flag(true)),
        case.change().disable_api_stop(flag(true)),
        case.change().instance_initiated_shutdown_behavior(shutdown("terminate")),
        case.change().block_device_mappings(kept("/dev/sda1")).block_device_mappings(kept("/dev/sdf")),
    ] {
        change.send().await.unwrap();
    }
    let protected = Protection {
        termination: true,
        stop: true,
        shutdown: "terminate".into(),
        deleted: both(false),
        metadata_service: true,
    };
    assert_eq!(protection(&case.scene.ec2, &case.instance).await, protected);
}

/// What a call leaves out stays; a running instance applies a change a moment later, a stopped one when it starts.
#[tokio::test]
async fn metadata_options_are_applied_a_moment_later_and_what_is_left_out_stays() {
    let case = case("rule-metadata").await;
    let ec2 = &case.scene.ec2;
    let change = || ec2.modify_instance_metadata_options().instance_id(&case.instance);
    let shown = async || {
        let read = ec2.describe_instances().instance_ids(&case.instance).send().await.unwrap();
        let options = read.reservations()[0].instances()[0].metadata_options().unwrap().clone();
        let texts = [options.http_endpoint().map(|x| x.as_str()), options.http_tokens().map(|x| x.as_str())];
        format!("{} {}", texts.map(Option::unwrap).join(" "), options.state().unwrap().as_str())
    };
    assert_eq!(code(change().send().await), "MissingParameter");
    let both = change().http_endpoint(InstanceMetadataEndpointState::Disabled).http_tokens(HttpTokensState::Required);
    assert_eq!(code(both.send().await), "InvalidParameterCombination");
    let unknown = change().instance_id("i-0123456789abcdef0").http_tokens(HttpTokensState::Required);
    assert_eq!(code(unknown.send().await), "InvalidInstanceID.NotFound");
    change().http_tokens(HttpTokensState::Required).send().await.unwrap();
    change().http_endpoint(InstanceMetadataEndpointState::Disabled).send().await.unwrap();
    assert_eq!(shown().await, "disabled required pending");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(shown().await, "disabled required applied");

    ec2.stop_instances().instance_ids(&case.instance).send().await.unwrap();
    change().http_endpoint(InstanceMetadataEndpointState::Enabled).send().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(shown().await, "enabled required pending");
    ec2.start_instances().instance_ids(&case.instance).send().await.unwrap();
    assert_eq!(shown().await, "enabled required applied");
    ec2.terminate_instances().instance_ids(&case.instance).send().await.unwrap();
    assert_eq!(code(change().http_tokens(HttpTokensState::Optional).send().await), "IncorrectInstanceState");
}

#[tokio::test]
async fn a_change_of_no_or_several_attributes_is_refused() {
    let case = case("rule-attributes").await;
    let several = case.change().disable_api_stop(flag(true)).disable_api_termination(flag(true));
    assert_eq!(code(several.send().await), "InvalidParameterCombination");
    assert_eq!(code(case.change().send().await), "InvalidParameterCombination");
}

#[tokio::test]
async fn a_change_of_what_does_not_exist_is_refused() {
    let case = case("rule-no-device").await;
    let change = case.change().block_device_mappings(kept("/dev/sdz"));
    assert_eq!(code(change.send().await), "InvalidInstanceAttributeValue");
    let change = case.change().instance_id("i-0123456789abcdef0").disable_api_stop(flag(true));
    assert_eq!(code(change.send().await), "InvalidInstanceID.NotFound");
    case.scene.ec2.terminate_instances().instance_ids(&case.instance).send().await.unwrap();
    let change = case.change().disable_api_stop(flag(true));
    assert_eq!(code(change.send().await), "IncorrectInstanceState");
}

#[tokio::test]
async fn a_spot_instance_takes_no_protection() {
    let case = case("rule-spot").await;
    let spot = case.scene.site.spot(&case.scene.ec2).await;
    assert_eq!(case.protections_refused(&spot).await, ["UnsupportedOperation"; 3]);
}

#[tokio::test]
async fn an_instance_without_ebs_cannot_stop() {
    let case = case("rule-instance-store").await;
    let instance = case.scene.site.instance_store(&case.scene.ec2).await;
    let refused = case.protections_refused(&instance).await;
    assert_eq!(refused, ["", "UnsupportedOperation", "InvalidParameterCombination"]);
    assert_eq!(code(case.scene.ec2.stop_instances().instance_ids(&instance).send().await), "UnsupportedOperation");
}

#[tokio::test]
async fn a_protected_instance_is_neither_terminated_nor_stopped() {
    let case = case("rule-protected").await;
    case.change().disable_api_termination(flag(true)).send().await.unwrap();
    assert_eq!(case.terminated().await, "OperationNotPermitted");
    case.change().disable_api_termination(flag(false)).send().await.unwrap();
    case.change().disable_api_stop(flag(true)).send().await.unwrap();
    assert_eq!(case.terminated().await, "OperationNotPermitted");
    let stopped = case.scene.ec2.stop_instances().instance_ids(&case.instance).send().await;
    assert_eq!(code(stopped), "OperationNotPermitted");
}

#[tokio::test]
async fn an_instance_has_one_profile_that_exists() {
    let case = case("rule-profile").await;
    let ec2 = &case.scene.ec2;
    let (instance, arn) = case.scene.site.with_profile(ec2, cloud(), "rule-profile").await;
    assert_eq!(profile(ec2, &instance).await, Some(arn.clone()));
    let associate = |instance: &str, arn: &str| {
        let profile = IamInstanceProfileSpecification::builder().arn(arn).build();
        ec2.associate_iam_instance_profile().instance_id(instance).iam_instance_profile(profile)
    };
    assert_eq!(code(associate(&instance, &arn).send().await), "IncorrectState");

    let known = ec2.describe_iam_instance_profile_associations();
    let known = known.filters(Filter::builder().name("instance-id").values(&instance).build()).send().await.unwrap();
    let association = known.iam_instance_profile_associations()[0].association_id().unwrap();
    let disassociate = || ec2.disassociate_iam_instance_profile().association_id(association);
    disassociate().send().await.unwrap();
    assert_eq!(profile(ec2, &instance).await, None);
    assert_eq!(code(disassociate().send().await), "InvalidAssociationID.NotFound");

    let gone = arn.replace("rule-profile", "gone");
    assert_eq!(code(associate(&instance, &gone).send().await), "InvalidParameterValue");
    associate(&instance, &arn).send().await.unwrap();
    assert_eq!(profile(ec2, &instance).await, Some(arn.clone()));
    ec2.terminate_instances().instance_ids(&case.instance).send().await.unwrap();
    assert_eq!(code(associate(&case.instance, &arn).send().await), "IncorrectInstanceState");
}

#[tokio::test]
async fn a_profile_is_given_only_by_who_may_pass_its_role_to_ec2() {
    let case = case("rule-pass-role").await;
    let (_, arn) = case.scene.site.with_profile(&case.scene.ec2, cloud(), "rule-pass-role").await;
    for (user, service, allowed) in [("rule-pass-lambda", "lambda", false), ("rule-pass-ec2", "ec2", true)] {
        let condition = json!({"StringEquals": {"iam:PassedToService": format!("{service}.amazonaws.com")}});
        let statements = json!([
            {"Effect": "Allow", "Action": "ec2:AssociateIamInstanceProfile", "Resource": "*"},
            {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": condition},
        ]);
        let theirs = User::new(user, &statements).ec2(&case.scene.ec2);
        let profile = IamInstanceProfileSpecification::builder().arn(&arn).build();
        let call = theirs.associate_iam_instance_profile().instance_id(&case.instance);
        let result = call.iam_instance_profile(profile).send().await;
        if allowed {
            result.unwrap();
        } else {
            assert_eq!(code(result), "UnauthorizedOperation");
        }
    }
}

fn standby(operation: &str, group: &str, instances: &[&str]) -> Result<Value, String> {
    let mut arguments = json!({"AutoScalingGroupName": group, "InstanceIds": instances});
    if operation == "enter_standby" {
        arguments["ShouldDecrementDesiredCapacity"] = false.into();
    }
    autoscaling(operation, &arguments)
}

#[tokio::test]
async fn standby_is_for_instances_of_the_group_and_within_its_sizes() {
    let case = case("rule-standby").await;
    let group = "rule-standby";
    let members = case.scene.site.scaling_group(&case.scene.ec2, cloud(), group, [1, 1, 1]).await;
    let member = members[0].as_str();
    let invalid = Err("ValidationError".to_owned());
    assert_eq!(standby("enter_standby", group, &[&case.instance]), invalid, "not in the group");
    assert_eq!(standby("enter_standby", "rule-no-group", &[member]), invalid, "no such group");
    assert_eq!(standby("exit_standby", group, &[member]), invalid, "not in Standby");
    let down = json!({"AutoScalingGroupName": group, "InstanceIds": members, "ShouldDecrementDesiredCapacity": true});
    let below = autoscaling("enter_standby", &down);
    assert_eq!(below, invalid, "below the minimum");

    standby("enter_standby", group, &[member]).unwrap();
    let now = scaling_group(cloud(), group);
    assert_eq!((now.desired, now.instances.len()), (1, 2), "another instance in its place");
    assert_eq!(now.instances[member], "Standby");
    assert_eq!(standby("enter_standby", group, &[member]), invalid, "not InService");
    assert_eq!(standby("exit_standby", group, &[member]), invalid, "above the maximum");

    let more = json!({"AutoScalingGroupName": group, "MaxSize": 2});
    autoscaling("update_auto_scaling_group", &more).unwrap();
    standby("exit_standby", group, &[member]).unwrap();
    let now = scaling_group(cloud(), group);
    assert_eq!((now.desired, now.instances[member].as_str()), (2, "InService"));
}

#[tokio::test]
async fn auto_scaling_takes_twenty_instances_for_standby_and_shows_fifty() {
    let case = case("rule-many-members").await;
    let many: Vec<String> = (0..51).map(|n| format!("i-{n:017x}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    case.scene.site.scaling_group(&case.scene.ec2, cloud(), "rule-many-members", [0, 1, 0]).await;
    assert_eq!(standby("enter_standby", "rule-many-members", &many[..21]), Err("ValidationError".into()));
    let describe = |instances: &[&str]| {
        let arguments = json!({"InstanceIds": instances});
        autoscaling("describe_auto_scaling_instances", &arguments)
    };
    assert_eq!(describe(&many), Err("ValidationError".into()));
    assert_eq!(describe(&many[..50]).unwrap()["AutoScalingInstances"], json!([]), "unknown ones are left out");
}

#[tokio::test]
async fn auto_scaling_refuses_who_may_not_with_its_own_code() {
    let case = case("rule-scaling-denied").await;
    let members = case.scene.site.scaling_group(&case.scene.ec2, cloud(), "rule-scaling-denied", [0, 2, 1]).await;
    let elsewhere = "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/another";
    let statements = json!([
        {"Effect": "Allow", "Action": "autoscaling:EnterStandby", "Resource": elsewhere},
        {"Effect": "Allow", "Action": "autoscaling:DescribeAutoScalingInstances", "Resource": "*"},
    ]);
    let user = User::new("rule-scaling-denied", &statements);
    let enter = json!({
        "AutoScalingGroupName": "rule-scaling-denied", "InstanceIds": members, "ShouldDecrementDesiredCapacity": false,
    });
    assert_eq!(user.autoscaling("enter_standby", &enter), Err("AccessDenied".into()));
    let seen = user.autoscaling("describe_auto_scaling_instances", &json!({"InstanceIds": members})).unwrap();
    assert_eq!(seen["AutoScalingInstances"][0]["LifecycleState"], "InService");
}

#[tokio::test]
async fn a_failed_health_check_ends_an_instance_unless_it_is_in_standby() {
    let case = case("rule-health").await;
    let group = "rule-health";
    let members = case.scene.site.scaling_group(&case.scene.ec2, cloud(), group, [0, 3, 2]).await;
    standby("enter_standby", group, &[&members[0]]).unwrap();
    case.change().instance_id(&members[1]).disable_api_termination(flag(true)).send().await.unwrap();
    for member in &members {
        let unhealthy = json!({"InstanceId": member, "HealthStatus": "Unhealthy"});
        autoscaling("set_instance_health", &unhealthy).unwrap();
    }
    let now = scaling_group(cloud(), group).instances;
    assert_eq!(now.get(&members[0]).map(String::as_str), Some("Standby"));
    assert_eq!(now.get(&members[1]), None, "termination protection does not stop Auto Scaling");
    assert_eq!(now.len(), 3);
}

#[tokio::test]
async fn a_trunk_is_shown_as_one_and_its_branches_are_found_by_tag() {
    let case = case("rule-trunk").await;
    let branch = case.scene.site.branch(&case.scene.ec2, cloud(), &case.interface, 1).await;
    let shown = case.scene.ec2.describe_instances().instance_ids(&case.instance).send().await.unwrap();
    let trunk = &shown.reservations()[0].instances()[0].network_interfaces()[0];
    assert_eq!(trunk.interface_type(), Some("trunk"));
    let by_trunk = Filter::builder().name("tag:vpcresources.k8s.aws/trunk-eni-id").values(&case.interface).build();
    let found = case.scene.ec2.describe_network_interfaces().filters(by_trunk).send().await.unwrap();
    let [found] = found.network_interfaces() else { panic!("one branch: {found:?}") };
    assert_eq!(found.network_interface_id(), Some(branch.as_str()));
    assert_eq!(found.interface_type().map(|kind| kind.as_str()), Some("branch"));
    assert!(found.attachment().is_none());
}

#[tokio::test]
async fn calls_beyond_the_bucket_are_throttled_when_asked_for() {
    let case = case("rule-throttle").await;
    let quick = without_retries(&case.scene.ec2);
    let change = || quick.modify_instance_attribute().instance_id(&case.instance).disable_api_stop(flag(false));
    cloud().set("throttle", &json!({"on": true})).await;
    let mut taken = 0;
    let refused = loop {
        match change().send().await {
            Ok(_) => taken += 1,
            Err(error) => break code::<(), _, _>(Err(error)),
        }
    };
    cloud().set("throttle", &json!({"on": false})).await;
    assert_eq!(refused, "RequestLimitExceeded");
    assert!((50..100).contains(&taken), "50 and what was refilled meanwhile: {taken}");
    change().send().await.unwrap();
}
