//! Instances to isolate, and what AWS shows of them: interfaces, protections, instance profile, Auto Scaling group.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, Filter, IamInstanceProfileSpecification, InstanceAttributeName,
    InstanceMarketOptionsRequest, InstanceMetadataEndpointState, InstanceNetworkInterfaceSpecification, InstanceType,
    MarketType, NetworkInterface, RequestLaunchTemplateData,
};
use serde_json::{Value, json};

use crate::cloud::Cloud;

/// Interface id -> group ids.
pub type Cards = BTreeMap<String, BTreeSet<String>>;

/// A VPC with a subnet and some groups.
#[derive(Debug, Clone)]
pub struct Site {
    pub vpc: String,
    pub subnet: String,
    pub groups: Vec<String>,
    ami: String,
}

/// What keeps an instance and its volumes from being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    pub termination: bool,
    pub stop: bool,
    /// `stop` or `terminate`.
    pub shutdown: String,
    /// Volume id -> whether it is deleted with the instance.
    pub deleted: BTreeMap<String, bool>,
    /// Whether the instance gets credentials from its metadata service.
    pub metadata_service: bool,
}

/// An Auto Scaling group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingGroup {
    pub desired: i64,
    /// Instance id -> lifecycle state, such as `InService` or `Standby`.
    pub instances: BTreeMap<String, String>,
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).expect("the local AWS names it")
}

impl Site {
    /// A VPC of its own with one subnet and four groups.
    pub async fn build(ec2: &Client, name: &str, network: u8) -> Self {
        let vpc = ec2.create_vpc().cidr_block(format!("10.{network}.0.0/16")).send().await.expect("a VPC");
        let vpc = text(vpc.vpc().and_then(|vpc| vpc.vpc_id()));
        let subnet = ec2.create_subnet().vpc_id(&vpc).cidr_block(format!("10.{network}.1.0/24")).send().await;
        let subnet = text(subnet.expect("a subnet").subnet().and_then(|subnet| subnet.subnet_id()));
        let mut groups = Vec::new();
        for role in ["web", "app", "db", "admin"] {
            let group = ec2.create_security_group().group_name(format!("{name}-{role}")).description(role).vpc_id(&vpc);
            groups.push(text(group.send().await.expect("a group").group_id()));
        }
        let images = ec2.describe_images().owners("099720109477").send().await.expect("images");
        let ami = match images.images().first() {
            Some(image) => text(image.image_id()),
            None => {
                let all = ec2.describe_images().send().await.expect("images");
                text(all.images().first().and_then(|image| image.image_id()))
            }
        };
        Self { vpc, subnet, groups, ami }
    }

    /// Launches an instance: for each interface the indexes of its groups, and how many volumes.
    pub async fn launch(&self, ec2: &Client, interfaces: &[&[usize]], volumes: usize) -> String {
        launched(self.request(ec2, interfaces, volumes)).await
    }

    fn request(&self, ec2: &Client, interfaces: &[&[usize]], volumes: usize) -> RunInstancesFluentBuilder {
        let specifications = interfaces.iter().zip(0..).map(|(groups, index)| {
            let groups = groups.iter().map(|n| self.groups[*n].clone()).collect();
            InstanceNetworkInterfaceSpecification::builder()
                .device_index(index)
                .subnet_id(&self.subnet)
                .set_groups(Some(groups))
                .build()
        });
        let devices = (0..volumes).map(|n| {
            let device = if n == 0 { "/dev/sda1".to_owned() } else { format!("/dev/sd{}", char::from(b'e' + n as u8)) };
            let ebs = EbsBlockDevice::builder().volume_size(8).build();
            BlockDeviceMapping::builder().device_name(device).ebs(ebs).build()
        });
        ec2.run_instances()
            .image_id(&self.ami)
            .instance_type(InstanceType::T3Small)
            .min_count(1)
            .max_count(1)
            .set_network_interfaces(Some(specifications.collect()))
            .set_block_device_mappings(Some(devices.collect()))
    }

    /// A plain instance with one interface in these groups.
    pub async fn plain(&self, ec2: &Client, groups: &[usize]) -> String {
        self.launch(ec2, &[groups], 1).await
    }

    /// A Spot Instance of a one-time request.
    pub async fn spot(&self, ec2: &Client) -> String {
        let market = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
        launched(self.request(ec2, &[&[0]], 1).instance_market_options(market)).await
    }

    /// An instance whose root device is an instance store, and that has no volume.
    pub async fn instance_store(&self, ec2: &Client) -> String {
        let images = ec2.describe_images().filters(filter("root-device-type", "instance-store")).send().await;
        let image = text(images.expect("images").images().first().and_then(|image| image.image_id()));
        launched(self.request(ec2, &[&[0]], 0).image_id(image)).await
    }

    /// An instance with an instance profile of this name, and the profile's ARN. Its role has the same name.
    pub async fn with_profile(&self, ec2: &Client, cloud: &Cloud, name: &str) -> (String, String) {
        let iam = |operation: &str, arguments: Value| {
            aws(&cloud.credentials(), "iam", operation, &arguments).expect("IAM accepts it")
        };
        iam("create_role", json!({"RoleName": name, "AssumeRolePolicyDocument": "{}"}));
        let made = iam("create_instance_profile", json!({"InstanceProfileName": name, "Path": "/fleet/"}));
        iam("add_role_to_instance_profile", json!({"InstanceProfileName": name, "RoleName": name}));
        let profile = IamInstanceProfileSpecification::builder().name(name).build();
        let instance = launched(self.request(ec2, &[&[0]], 1).iam_instance_profile(profile)).await;
        (instance, text(made["InstanceProfile"]["Arn"].as_str()))
    }

    /// An Auto Scaling group with its minimum, maximum and desired number of instances, each with one interface in the
    /// first group. Returns the instances.
    pub async fn scaling_group(&self, ec2: &Client, cloud: &Cloud, name: &str, sizes: [u8; 3]) -> Vec<String> {
        let data = RequestLaunchTemplateData::builder()
            .image_id(&self.ami)
            .instance_type(InstanceType::T3Small)
            .security_group_ids(&self.groups[0])
            .build();
        let template = ec2.create_launch_template().launch_template_name(name).launch_template_data(data);
        template.send().await.expect("a launch template");
        let group = json!({
            "AutoScalingGroupName": name,
            "MinSize": sizes[0],
            "MaxSize": sizes[1],
            "DesiredCapacity": sizes[2],
            "LaunchTemplate": {"LaunchTemplateName": name},
            "VPCZoneIdentifier": self.subnet,
        });
        aws(&cloud.credentials(), "autoscaling", "create_auto_scaling_group", &group).expect("a group");
        scaling_group(cloud, name).instances.into_keys().collect()
    }

    /// A branch interface of this trunk, as the VPC resource controller of EKS makes it: attached to no instance.
    pub async fn branch(&self, ec2: &Client, cloud: &Cloud, trunk: &str, group: usize) -> String {
        let branch = ec2.create_network_interface().subnet_id(&self.subnet).groups(&self.groups[group]).send().await;
        let branch = text(branch.expect("one").network_interface().and_then(|made| made.network_interface_id()));
        let tags = json!({"vpcresources.k8s.aws/trunk-eni-id": trunk, "eks:eni:owner": "eks-vpc-resource-controller"});
        cloud.set("interface", &json!({"id": trunk, "type": "trunk"})).await;
        cloud.set("interface", &json!({"id": branch, "type": "branch", "tags": tags})).await;
        branch
    }

    /// Attaches one more interface and returns its id.
    pub async fn attach(&self, ec2: &Client, instance: &str, groups: &[usize]) -> String {
        let groups = groups.iter().map(|n| self.groups[*n].clone()).collect();
        let interface = ec2.create_network_interface().subnet_id(&self.subnet).set_groups(Some(groups)).send().await;
        let interface =
            text(interface.expect("an interface").network_interface().and_then(|i| i.network_interface_id()));
        let index = cards(ec2, &[instance]).await.len() as i32;
        let attached = ec2.attach_network_interface().network_interface_id(&interface).instance_id(instance);
        attached.device_index(index).send().await.expect("it can be attached");
        interface
    }
}

async fn launched(request: RunInstancesFluentBuilder) -> String {
    let instance = request.send().await.expect("an instance");
    text(instance.instances().first().and_then(|instance| instance.instance_id()))
}

/// The interfaces of these instances with their groups, once two readings in a row agree (EC2's reads trail its writes).
pub async fn cards(ec2: &Client, instances: &[&str]) -> Cards {
    let mut last = read_cards(ec2, instances).await;
    loop {
        let next = read_cards(ec2, instances).await;
        if next == last {
            return next;
        }
        last = next;
    }
}

async fn read_cards(ec2: &Client, instances: &[&str]) -> Cards {
    let mut cards = Cards::new();
    for instance in instances {
        for interface in interfaces_of(ec2, instance).await {
            let groups = interface.groups().iter().map(|group| text(group.group_id()));
            cards.insert(text(interface.network_interface_id()), groups.collect());
        }
    }
    cards
}

/// Page by page: a test may have an account where EC2 shows no more at once.
async fn interfaces_of(ec2: &Client, instance: &str) -> Vec<NetworkInterface> {
    let read = ec2.describe_network_interfaces().filters(filter("attachment.instance-id", instance));
    read.into_paginator().page_size(1000).items().send().try_collect().await.expect("interfaces")
}

/// The interface at this device index.
pub async fn interface_at(ec2: &Client, instance: &str, device: usize) -> String {
    let interfaces = interfaces_of(ec2, instance).await;
    let at = |wanted: i32| {
        interfaces
            .iter()
            .find(|found| found.attachment().and_then(|attachment| attachment.device_index()) == Some(wanted))
    };
    let found = i32::try_from(device).ok().and_then(at);
    text(found.and_then(|interface| interface.network_interface_id()))
}

/// Gives an interface these groups by hand.
pub async fn set_groups(ec2: &Client, interface: &str, groups: &[&str]) {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let change = ec2.modify_network_interface_attribute().network_interface_id(interface).set_groups(Some(groups));
    change.send().await.expect("EC2 accepts it");
}

/// How an instance and its volumes are protected.
pub async fn protection(ec2: &Client, instance: &str) -> Protection {
    let read = async |name| {
        let read = ec2.describe_instance_attribute().instance_id(instance).attribute(name).send().await;
        read.expect("an attribute")
    };
    let termination = read(InstanceAttributeName::DisableApiTermination).await;
    let stop = read(InstanceAttributeName::DisableApiStop).await;
    let shutdown = read(InstanceAttributeName::InstanceInitiatedShutdownBehavior).await;
    let shown = ec2.describe_instances().instance_ids(instance).send().await.expect("an instance");
    let shown = &shown.reservations()[0].instances()[0];
    let endpoint = shown.metadata_options().and_then(|options| options.http_endpoint()).expect("an endpoint");
    let volumes = shown.block_device_mappings().iter();
    let volumes = volumes
        .filter_map(|device| device.ebs())
        .map(|ebs| (text(ebs.volume_id()), ebs.delete_on_termination().expect("EC2 says whether it is deleted")));
    Protection {
        termination: termination.disable_api_termination().and_then(|flag| flag.value()).expect("true or false"),
        stop: stop.disable_api_stop().and_then(|flag| flag.value()).expect("true or false"),
        shutdown: text(shutdown.instance_initiated_shutdown_behavior().and_then(|value| value.value())),
        deleted: volumes.collect(),
        metadata_service: *endpoint == InstanceMetadataEndpointState::Enabled,
    }
}

/// The ARN of an instance's profile.
pub async fn profile(ec2: &Client, instance: &str) -> Option<String> {
    let shown = ec2.describe_instances().instance_ids(instance).send().await.expect("an instance");
    let profile = shown.reservations()[0].instances()[0].iam_instance_profile().and_then(|profile| profile.arn());
    profile.map(str::to_owned)
}

/// An Auto Scaling group as it is now.
pub fn scaling_group(cloud: &Cloud, name: &str) -> ScalingGroup {
    let names = json!({"AutoScalingGroupNames": [name]});
    let answer = aws(&cloud.credentials(), "autoscaling", "describe_auto_scaling_groups", &names).expect("groups");
    let group = &answer["AutoScalingGroups"][0];
    let instances = group["Instances"].as_array().expect("a group of this name").iter();
    let instances =
        instances.map(|member| (text(member["InstanceId"].as_str()), text(member["LifecycleState"].as_str())));
    ScalingGroup { desired: group["DesiredCapacity"].as_i64().expect("a number"), instances: instances.collect() }
}

/// A call by boto3, for services whose SDK is no dependency: its answer, or the code of the error. `environment` is what
/// `Cloud::credentials` gives.
pub fn aws(environment: &[(&str, &str)], service: &str, operation: &str, arguments: &Value) -> Result<Value, String> {
    const CALL: &str = "
import json, os, sys
import boto3, botocore.exceptions
service, operation, arguments = sys.argv[1:]
client = boto3.client(service, region_name=os.environ['AWS_REGION'])
try:
    print(json.dumps({'Ok': getattr(client, operation)(**json.loads(arguments))}, default=str))
except botocore.exceptions.ClientError as error:
    print(json.dumps({'Err': error.response['Error']['Code']}))
";
    let output = Command::new("target/venv/cloud/bin/python")
        .args(["-c", CALL, service, operation, &arguments.to_string()])
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("target/venv/cloud/bin/python runs; `make tools` installs it");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
