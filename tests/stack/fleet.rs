//! Instances to isolate, and what EC2 shows of their interfaces.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, Filter, InstanceNetworkInterfaceSpecification, InstanceType,
};

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
        let instance = ec2
            .run_instances()
            .image_id(&self.ami)
            .instance_type(InstanceType::T3Small)
            .min_count(1)
            .max_count(1)
            .set_network_interfaces(Some(specifications.collect()))
            .set_block_device_mappings(Some(devices.collect()))
            .send()
            .await
            .expect("an instance");
        text(instance.instances().first().and_then(|instance| instance.instance_id()))
    }

    /// A plain instance with one interface in these groups.
    pub async fn plain(&self, ec2: &Client, groups: &[usize]) -> String {
        self.launch(ec2, &[groups], 1).await
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
        let answer = ec2.describe_network_interfaces().filters(filter("attachment.instance-id", instance)).send().await;
        for interface in answer.expect("interfaces").network_interfaces() {
            let groups = interface.groups().iter().map(|group| text(group.group_id()));
            cards.insert(text(interface.network_interface_id()), groups.collect());
        }
    }
    cards
}

/// Gives an interface these groups by hand.
pub async fn set_groups(ec2: &Client, interface: &str, groups: &[&str]) {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let change = ec2.modify_network_interface_attribute().network_interface_id(interface).set_groups(Some(groups));
    change.send().await.expect("EC2 accepts it");
}
