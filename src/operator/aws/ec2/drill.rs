//! What a drill makes, asks and deletes.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    Filter, HttpTokensState, InstanceMetadataEndpointState, InstanceMetadataOptionsRequest,
    InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType, IpPermission, Reservation, ResourceType,
    Tag, TagSpecification, UserIdGroupPair,
};

use crate::aws::ec2::read::groups_of;
use crate::aws::ec2::{Ec2, id};
use crate::aws::error::{call_error, sent};
use crate::model::{GroupId, Groups, InstanceId, InterfaceId, SnapshotId, VolumeId, VpcId};
use crate::operator::ports::drill::{DRILL_TAG, Details, Fixtures, Launch, Made, Probes, drill_name};
use crate::ports::{Call, CallError};

/// As everywhere (`MaxResults`, EC2 API reference).
const PAGE: i32 = 1000;
const SSH: i32 = 22;

fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

fn tagged() -> Filter {
    filter("tag-key", vec![DRILL_TAG.to_owned()])
}

fn mark(kind: ResourceType, drill: &str) -> TagSpecification {
    let name = Tag::builder().key("Name").value(drill_name(drill)).build();
    let own = Tag::builder().key(DRILL_TAG).value(drill).build();
    TagSpecification::builder().resource_type(kind).tags(own).tags(name).build()
}

fn drill_of(tags: &[Tag]) -> Option<&str> {
    tags.iter().find(|tag| tag.key() == Some(DRILL_TAG)).and_then(Tag::value)
}

/// What is gone already needs no deletion.
fn done_or_gone(result: Call<()>) -> Call<()> {
    match result {
        Err(CallError { code, .. }) if code.ends_with(".NotFound") => Ok(()),
        other => other,
    }
}

/// Everything that a describe request finds, over all pages.
macro_rules! all {
    ($action:expr, $request:expr) => {{
        let items = $request.into_paginator().page_size(PAGE).items().send().try_collect().await;
        items.map_err(|error| call_error($action, &error))?
    }};
}

impl Fixtures for Ec2 {
    async fn vpc_of(&self, subnet: &str) -> Call<Option<VpcId>> {
        let action = "ec2:DescribeSubnets";
        let by_id = filter("subnet-id", vec![subnet.to_owned()]);
        let found = all!(action, self.client.describe_subnets().filters(by_id));
        found.first().map(|found| id(action, "VPC", found.vpc_id())).transpose()
    }

    async fn make_group(&self, vpc: &VpcId, drill: &str, letter: char) -> Call<GroupId> {
        let action = "ec2:CreateSecurityGroup";
        let request = self.client.create_security_group().vpc_id(vpc.as_str());
        let request = request.group_name(format!("{}-{letter}", drill_name(drill)));
        let request = request.description("Of a drill of ec2-isolation, which deletes it");
        let request = request.tag_specifications(mark(ResourceType::SecurityGroup, drill));
        id(action, "group", sent(action, request.send()).await?.group_id())
    }

    async fn launch(&self, launch: &Launch<'_>) -> Call<InstanceId> {
        let action = "ec2:RunInstances";
        let interfaces = launch.groups.iter().zip(0..).map(|(group, index)| {
            InstanceNetworkInterfaceSpecification::builder()
                .device_index(index)
                .subnet_id(launch.subnet)
                .groups(group.as_str())
                .delete_on_termination(true)
                .build()
        });
        let metadata = InstanceMetadataOptionsRequest::builder()
            .http_tokens(HttpTokensState::Required)
            .http_endpoint(InstanceMetadataEndpointState::Enabled)
            .build();
        let marked = [ResourceType::Instance, ResourceType::NetworkInterface, ResourceType::Volume];
        let request = self
            .client
            .run_instances()
            .image_id(launch.image)
            .instance_type(InstanceType::from(launch.kind))
            .min_count(1)
            .max_count(1)
            .client_token(drill_name(launch.drill))
            .metadata_options(metadata)
            .set_network_interfaces(Some(interfaces.collect()))
            .set_tag_specifications(Some(marked.map(|kind| mark(kind, launch.drill)).to_vec()));
        let output = sent(action, request.send()).await?;
        id(action, "instance", output.instances().first().and_then(|made| made.instance_id()))
    }

    async fn made(&self) -> Call<BTreeMap<String, Made>> {
        let mut drills: BTreeMap<String, Made> = BTreeMap::new();
        let action = "ec2:DescribeInstances";
        let found = all!(action, self.client.describe_instances().filters(tagged()));
        for instance in found.iter().flat_map(Reservation::instances) {
            let is_over = instance.state().and_then(|state| state.name()) == Some(&InstanceStateName::Terminated);
            let Some(drill) = drill_of(instance.tags()).filter(|_| !is_over) else { continue };
            let found: InstanceId = id(action, "instance", instance.instance_id())?;
            let made = drills.entry(drill.to_owned()).or_default();
            match instance.client_token() == Some(drill_name(drill).as_str()) {
                true => drop(made.instances.insert(found)),
                false => drop(made.tagged.insert(found.to_string())),
            }
        }
        let action = "ec2:DescribeNetworkInterfaces";
        for interface in all!(action, self.client.describe_network_interfaces().filters(tagged())) {
            let Some(drill) = drill_of(interface.tag_set()).filter(|_| interface.attachment().is_none()) else {
                continue;
            };
            let found = id(action, "interface", interface.network_interface_id())?;
            drills.entry(drill.to_owned()).or_default().interfaces.insert(found);
        }
        let action = "ec2:DescribeSecurityGroups";
        for group in all!(action, self.client.describe_security_groups().filters(tagged())) {
            let Some(drill) = drill_of(group.tags()) else { continue };
            let found: GroupId = id(action, "group", group.group_id())?;
            let made = drills.entry(drill.to_owned()).or_default();
            match group.group_name().unwrap_or_default().starts_with(&drill_name(drill)) {
                true => drop(made.groups.insert(found)),
                false => drop(made.tagged.insert(found.to_string())),
            }
        }
        let action = "ec2:DescribeVolumes";
        for volume in all!(action, self.client.describe_volumes().filters(tagged())) {
            // One that is attached goes with its instance.
            let Some(drill) = drill_of(volume.tags()).filter(|_| volume.attachments().is_empty()) else { continue };
            let found: VolumeId = id(action, "volume", volume.volume_id())?;
            drills.entry(drill.to_owned()).or_default().tagged.insert(found.to_string());
        }
        let action = "ec2:DescribeSnapshots";
        for snapshot in all!(action, self.client.describe_snapshots().owner_ids("self").filters(tagged())) {
            let Some(drill) = drill_of(snapshot.tags()) else { continue };
            let found: SnapshotId = id(action, "snapshot", snapshot.snapshot_id())?;
            drills.entry(drill.to_owned()).or_default().tagged.insert(found.to_string());
        }
        Ok(drills)
    }

    async fn snapshots_of(&self, volumes: &BTreeSet<VolumeId>) -> Call<BTreeSet<SnapshotId>> {
        if volumes.is_empty() {
            return Ok(BTreeSet::new());
        }
        let action = "ec2:DescribeSnapshots";
        let of = filter("volume-id", volumes.iter().map(ToString::to_string).collect());
        let found = all!(action, self.client.describe_snapshots().owner_ids("self").filters(of));
        found.iter().map(|found| id(action, "snapshot", found.snapshot_id())).collect()
    }

    async fn terminate(&self, instance: &InstanceId) -> Call<()> {
        let request = self.client.terminate_instances().instance_ids(instance.as_str());
        done_or_gone(sent("ec2:TerminateInstances", request.send()).await.map(drop))
    }

    async fn delete_interface(&self, interface: &InterfaceId) -> Call<()> {
        let request = self.client.delete_network_interface().network_interface_id(interface.as_str());
        done_or_gone(sent("ec2:DeleteNetworkInterface", request.send()).await.map(drop))
    }

    async fn delete_group(&self, group: &GroupId) -> Call<()> {
        let request = self.client.delete_security_group().group_id(group.as_str());
        done_or_gone(sent("ec2:DeleteSecurityGroup", request.send()).await.map(drop))
    }

    async fn delete_snapshot(&self, snapshot: &SnapshotId) -> Call<()> {
        let request = self.client.delete_snapshot().snapshot_id(snapshot.as_str());
        done_or_gone(sent("ec2:DeleteSnapshot", request.send()).await.map(drop))
    }
}

impl Probes for Ec2 {
    async fn details(&self, instance: &InstanceId) -> Call<Option<Details>> {
        let action = "ec2:DescribeInstances";
        let by_id = filter("instance-id", vec![instance.to_string()]);
        let output = sent(action, self.client.describe_instances().filters(by_id).send()).await?;
        let Some(found) = output.reservations().iter().flat_map(|found| found.instances()).next() else {
            return Ok(None);
        };
        let options = found.metadata_options();
        let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
        Ok(Some(Details {
            groups: groups_of(action, found.security_groups())?,
            is_metadata_on: options.and_then(|options| options.http_endpoint())
                != Some(&InstanceMetadataEndpointState::Disabled),
            metadata_state: word(options.and_then(|options| options.state()).map(|state| state.as_str())),
            metadata_tokens: word(options.and_then(|options| options.http_tokens()).map(|state| state.as_str())),
        }))
    }

    async fn set_groups_of_instance(&self, instance: &InstanceId, groups: &Groups) -> Call<()> {
        let request = self.client.modify_instance_attribute().instance_id(instance.as_str());
        let request = request.set_groups(Some(groups.iter().map(GroupId::to_string).collect()));
        sent("ec2:ModifyInstanceAttribute", request.send()).await.map(drop)
    }

    async fn admit(&self, group: &GroupId, from: &GroupId) -> Call<()> {
        let request = self.client.authorize_security_group_ingress().group_id(group.as_str());
        sent("ec2:AuthorizeSecurityGroupIngress", request.ip_permissions(ssh_from(from)).send()).await.map(drop)
    }

    async fn dismiss(&self, group: &GroupId, from: &GroupId) -> Call<()> {
        let request = self.client.revoke_security_group_ingress().group_id(group.as_str());
        done_or_gone(
            sent("ec2:RevokeSecurityGroupIngress", request.ip_permissions(ssh_from(from)).send()).await.map(drop),
        )
    }
}

fn ssh_from(group: &GroupId) -> IpPermission {
    let pair = UserIdGroupPair::builder().group_id(group.as_str()).build();
    IpPermission::builder().ip_protocol("tcp").from_port(SSH).to_port(SSH).user_id_group_pairs(pair).build()
}
