//! EC2's adapter; Auto Scaling's does its part. The only file that names its SDK's operations.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Builder;
use aws_sdk_ec2::config::interceptors::InterceptorContext;
use aws_sdk_ec2::config::retry::{ClassifyRetry, RetryAction, RetryConfig};
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::operation::modify_network_interface_attribute::ModifyNetworkInterfaceAttributeError;
use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, EbsInstanceBlockDeviceSpecification, Filter, GroupIdentifier,
    IamInstanceProfileSpecification, InstanceAttributeName, InstanceBlockDeviceMappingSpecification,
    InstanceNetworkInterface, IpPermission, ResourceType, SnapshotState, Tag as Ec2Tag, TagSpecification,
};
use futures_util::future::try_join_all;

use crate::aws::autoscaling::AutoScaling;
use crate::aws::error::{call_error, garbled, is_throttled};
use crate::model::{
    Attribute, Attributes, Branch, Group, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Member, Peer,
    Profile, ROLE_TAG, Role, Rule, STACK_NAME_TAG, STACK_TAG, ShutdownBehaviour, Snapshot, SnapshotId, Volume,
    VolumeId,
};
use crate::plan::tag;
use crate::ports::{Call, Change, GroupQuery, Look, Survey};

/// A filter takes at most 200 values (`FilterLimitExceeded`); half of that keeps answers small.
const FILTER_VALUES: usize = 100;
/// `CreateTags` and `DeleteTags` take at most 1,000 resources.
const TAGGED_AT_ONCE: usize = 1000;
/// Names the trunk on a branch interface (aws/amazon-vpc-resource-controller-k8s, which makes them for EKS).
const TRUNK_TAG: &str = "vpcresources.k8s.aws/trunk-eni-id";
/// The code for an instance that was terminated an hour ago, or never was.
const NO_INSTANCE: &str = "InvalidInstanceID.NotFound";

const MODIFY_INSTANCE: &str = "ec2:ModifyInstanceAttribute";

#[derive(Debug, Clone)]
pub struct Ec2 {
    pub client: Client,
    pub scaling: AutoScaling,
}

/// The client for [`Ec2`].
#[must_use]
pub fn client(settings: Builder) -> Client {
    Client::from_conf(settings.retry_classifier(NotWhenThrottled).build())
}

/// Keeps the SDK from repeating a change of groups that EC2 throttled: the caller does, in its turn.
#[derive(Debug)]
struct NotWhenThrottled;

impl ClassifyRetry for NotWhenThrottled {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(|result| result.err()?.as_operation_error());
        let code = error.and_then(|error| error.downcast_ref::<ModifyNetworkInterfaceAttributeError>()?.code());
        if code.is_some_and(is_throttled) { RetryAction::RetryForbidden } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "not when throttled"
    }
}

fn chunks<T: ToString>(values: &BTreeSet<T>, size: usize) -> Vec<Vec<String>> {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.chunks(size).map(<[String]>::to_vec).collect()
}

fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// CloudFormation's own tags cannot be forged.
fn of_stack(tag: &str, value: &str) -> Vec<Filter> {
    vec![filter(&format!("tag:{tag}"), vec![value.to_owned()]), filter("tag-key", vec![ROLE_TAG.to_owned()])]
}

fn id<T: FromStr>(action: &'static str, what: &str, text: Option<&str>) -> Call<T> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| garbled(action, format!("{what} {text:?} is no id")))
}

impl Look for Ec2 {
    async fn instances(&self, ids: &BTreeSet<InstanceId>) -> Call<Vec<Instance>> {
        let pages = chunks(ids, FILTER_VALUES).into_iter().map(|ids| self.instances_page(ids));
        Ok(try_join_all(pages).await?.into_iter().flatten().collect())
    }

    async fn interfaces(&self, ids: &BTreeSet<InterfaceId>) -> Call<Vec<Interface>> {
        let pages = chunks(ids, FILTER_VALUES).into_iter().map(|ids| self.interfaces_page(ids));
        Ok(try_join_all(pages).await?.into_iter().flatten().collect())
    }

    async fn branches(&self, trunks: &BTreeSet<InterfaceId>) -> Call<Vec<Branch>> {
        let pages = chunks(trunks, FILTER_VALUES).into_iter().map(|trunks| self.branches_page(trunks));
        Ok(try_join_all(pages).await?.into_iter().flatten().collect())
    }

    async fn groups(&self, query: &GroupQuery) -> Call<Vec<Group>> {
        let queries = match query {
            GroupQuery::InVpc(vpc) => vec![vec![filter("vpc-id", vec![vpc.to_string()])]],
            GroupQuery::Marked(vpc) => {
                vec![vec![filter("vpc-id", vec![vpc.to_string()]), filter("tag-key", vec![ROLE_TAG.to_owned()])]]
            }
            GroupQuery::OfStack(id) => vec![of_stack(STACK_TAG, id)],
            GroupQuery::OfStackNamed(name) => vec![of_stack(STACK_NAME_TAG, name)],
            GroupQuery::Ids(ids) => {
                chunks(ids, FILTER_VALUES).into_iter().map(|ids| vec![filter("group-id", ids)]).collect()
            }
        };
        let pages = queries.into_iter().map(|filters| self.groups_page(filters));
        Ok(try_join_all(pages).await?.into_iter().flatten().collect())
    }

    async fn snapshots(&self, episodes: &BTreeSet<String>) -> Call<Vec<Snapshot>> {
        let pages = chunks(episodes, FILTER_VALUES).into_iter().map(|episodes| self.snapshots_page(episodes));
        Ok(try_join_all(pages).await?.into_iter().flatten().collect())
    }

    async fn attributes(&self, instance: &InstanceId) -> Call<Option<Attributes>> {
        let names = [
            InstanceAttributeName::DisableApiTermination,
            InstanceAttributeName::DisableApiStop,
            InstanceAttributeName::InstanceInitiatedShutdownBehavior,
        ];
        match try_join_all(names.map(|name| self.attribute(instance, name))).await {
            Ok(found) => Ok(found.try_into().ok()),
            Err(error) if error.code == NO_INSTANCE => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn profiles(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Profile>> {
        let pages = chunks(ids, FILTER_VALUES).into_iter().map(|ids| self.profiles_page(ids));
        Ok(try_join_all(pages).await?.into_iter().flatten().collect())
    }

    async fn members(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Member>> {
        self.scaling.members(ids).await
    }
}

impl Survey for Ec2 {
    async fn interfaces_in(&self, groups: &Groups) -> Call<Vec<(Interface, Option<InstanceId>)>> {
        let pages = chunks(groups, FILTER_VALUES).into_iter().map(|ids| self.attached_page(filter("group-id", ids)));
        Ok(try_join_all(pages).await?.into_iter().flatten().collect())
    }
}

impl Ec2 {
    async fn instances_page(&self, ids: Vec<String>) -> Call<Vec<Instance>> {
        let action = "ec2:DescribeInstances";
        // Asked for by id, one unknown instance would fail the whole call (InvalidInstanceID.NotFound).
        let request = self.client.describe_instances().filters(filter("instance-id", ids));
        let mut pages = request.into_paginator().send();
        let mut instances = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for instance in page.reservations().iter().flat_map(|reservation| reservation.instances()) {
                instances.push(read_instance(action, instance)?);
            }
        }
        Ok(instances)
    }

    async fn interfaces_page(&self, ids: Vec<String>) -> Call<Vec<Interface>> {
        let found = self.attached_page(filter("network-interface-id", ids)).await?;
        Ok(found.into_iter().map(|(interface, _)| interface).collect())
    }

    async fn attached_page(&self, which: Filter) -> Call<Vec<(Interface, Option<InstanceId>)>> {
        let action = "ec2:DescribeNetworkInterfaces";
        let mut pages = self.client.describe_network_interfaces().filters(which).into_paginator().send();
        let mut interfaces = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for interface in page.network_interfaces() {
                let instance = interface.attachment().and_then(|attachment| attachment.instance_id());
                let found = Interface {
                    id: id(action, "interface", interface.network_interface_id())?,
                    groups: groups_of(action, interface.groups())?,
                    tags: tags_of(interface.tag_set()),
                    is_trunk: interface.interface_type().is_some_and(|kind| kind.as_str() == "trunk"),
                };
                interfaces.push((found, instance.and_then(|id| id.parse().ok())));
            }
        }
        Ok(interfaces)
    }

    async fn branches_page(&self, trunks: Vec<String>) -> Call<Vec<Branch>> {
        let action = "ec2:DescribeNetworkInterfaces";
        let tagged = filter(&format!("tag:{TRUNK_TAG}"), trunks);
        let mut pages = self.client.describe_network_interfaces().filters(tagged).into_paginator().send();
        let mut branches = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for interface in page.network_interfaces() {
                branches.push(Branch {
                    id: id(action, "interface", interface.network_interface_id())?,
                    trunk: id(action, "trunk", tags_of(interface.tag_set()).get(TRUNK_TAG).map(String::as_str))?,
                    groups: groups_of(action, interface.groups())?,
                });
            }
        }
        Ok(branches)
    }

    async fn groups_page(&self, filters: Vec<Filter>) -> Call<Vec<Group>> {
        let action = "ec2:DescribeSecurityGroups";
        let request = self.client.describe_security_groups().set_filters(Some(filters));
        let mut pages = request.into_paginator().send();
        let mut groups = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for group in page.security_groups() {
                let tags = tags_of(group.tags());
                groups.push(Group {
                    id: id(action, "group", group.group_id())?,
                    vpc: group.vpc_id().and_then(|id| id.parse().ok()),
                    role: tags.get(ROLE_TAG).and_then(|role| Role::parse(role)),
                    stack_id: tags.get(STACK_TAG).cloned(),
                    ingress: group.ip_permissions().iter().flat_map(rules).collect(),
                    egress: group.ip_permissions_egress().iter().flat_map(rules).collect(),
                });
            }
        }
        Ok(groups)
    }

    async fn profiles_page(&self, ids: Vec<String>) -> Call<Vec<(InstanceId, Profile)>> {
        let action = "ec2:DescribeIamInstanceProfileAssociations";
        // One that is being taken away no longer counts.
        let states = vec!["associating".to_owned(), "associated".to_owned()];
        let request = self.client.describe_iam_instance_profile_associations();
        let request = request.filters(filter("instance-id", ids)).filters(filter("state", states));
        let mut pages = request.into_paginator().send();
        let mut profiles = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for found in page.iam_instance_profile_associations() {
                let missing = || garbled(action, "an association has no id or no ARN");
                let association = found.association_id().ok_or_else(missing)?.to_owned();
                let arn = found.iam_instance_profile().and_then(|profile| profile.arn()).ok_or_else(missing)?;
                let instance = id(action, "instance", found.instance_id())?;
                profiles.push((instance, Profile { association, arn: arn.to_owned() }));
            }
        }
        Ok(profiles)
    }

    async fn attribute(&self, instance: &InstanceId, name: InstanceAttributeName) -> Call<Attribute> {
        let action = "ec2:DescribeInstanceAttribute";
        let request = self.client.describe_instance_attribute().instance_id(instance.as_str()).attribute(name.clone());
        let output = request.send().await.map_err(|error| call_error(action, &error))?;
        let flag = |value: Option<&AttributeBooleanValue>| value.and_then(AttributeBooleanValue::value);
        let shutdown = output.instance_initiated_shutdown_behavior().and_then(AttributeValue::value);
        let found = match &name {
            InstanceAttributeName::DisableApiTermination => {
                flag(output.disable_api_termination()).map(Attribute::TerminationProtection)
            }
            InstanceAttributeName::DisableApiStop => flag(output.disable_api_stop()).map(Attribute::StopProtection),
            _ => shutdown.and_then(ShutdownBehaviour::parse).map(Attribute::ShutdownBehaviour),
        };
        found.ok_or_else(|| garbled(action, format!("the answer has no {name} of {instance}")))
    }

    async fn snapshots_page(&self, episodes: Vec<String>) -> Call<Vec<Snapshot>> {
        let action = "ec2:DescribeSnapshots";
        let request = self
            .client
            .describe_snapshots()
            .owner_ids("self")
            .filters(filter(&format!("tag:{}", tag::EPISODE), episodes));
        let mut pages = request.into_paginator().send();
        let mut snapshots = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for snapshot in page.snapshots() {
                let mut tags = tags_of(snapshot.tags());
                snapshots.push(Snapshot {
                    id: id(action, "snapshot", snapshot.snapshot_id())?,
                    volume: id(action, "volume", snapshot.volume_id())?,
                    labelled: tags.contains_key(tag::VOLUME),
                    episode: tags.remove(tag::EPISODE).unwrap_or_default(),
                    failed: snapshot.state() == Some(&SnapshotState::Error),
                });
            }
        }
        Ok(snapshots)
    }
}

fn read_instance(action: &'static str, instance: &aws_sdk_ec2::types::Instance) -> Call<Instance> {
    let mut interfaces: Vec<&InstanceNetworkInterface> = instance.network_interfaces().iter().collect();
    interfaces.sort_by_key(|interface| interface.attachment().and_then(|a| a.device_index()));
    let interfaces = interfaces.into_iter().map(|interface| {
        Ok(Interface {
            id: id(action, "interface", interface.network_interface_id())?,
            groups: groups_of(action, interface.groups())?,
            tags: BTreeMap::new(),
            is_trunk: interface.interface_type() == Some("trunk"),
        })
    });
    let ebs = instance.block_device_mappings().iter().filter_map(|mapping| {
        let ebs = mapping.ebs()?;
        let device = mapping.device_name().unwrap_or_default().to_owned();
        let delete_on_termination = ebs.delete_on_termination().unwrap_or_default();
        Some((ebs.volume_id()?.parse().ok()?, Volume { device, delete_on_termination }))
    });
    let state = instance.state().and_then(|state| state.name());
    Ok(Instance {
        id: id(action, "instance", instance.instance_id())?,
        state: state.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        vpc: instance.vpc_id().and_then(|id| id.parse().ok()),
        interfaces: interfaces.collect::<Call<_>>()?,
        volumes: ebs.collect(),
        tags: tags_of(instance.tags()),
    })
}

fn groups_of(action: &'static str, groups: &[GroupIdentifier]) -> Call<Groups> {
    groups.iter().map(|group| id(action, "group", group.group_id())).collect()
}

fn tags_of(tags: &[Ec2Tag]) -> BTreeMap<String, String> {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))).collect()
}

/// One of our rules for each peer of EC2's.
fn rules(permission: &IpPermission) -> Vec<Rule> {
    let ports = match (permission.from_port(), permission.to_port()) {
        (Some(from), Some(to)) if (from, to) != (-1, -1) => Some((from, to)),
        _ => None,
    };
    let v4 = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip().map(|cidr| Peer::Cidr(cidr.to_owned())));
    let v6 =
        permission.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6().map(|cidr| Peer::Cidr(cidr.to_owned())));
    let groups = permission.user_id_group_pairs().iter().map(|pair| {
        let text = pair.group_id().unwrap_or("a group without an id");
        text.parse().map_or_else(|_| Peer::Other(text.to_owned()), Peer::Group)
    });
    let lists = permission
        .prefix_list_ids()
        .iter()
        .map(|list| Peer::Other(list.prefix_list_id().unwrap_or("a prefix list").to_owned()));
    let protocol = permission.ip_protocol().unwrap_or("-1");
    let peers = v4.chain(v6).chain(groups).chain(lists);
    peers.map(|peer| Rule { protocol: protocol.to_owned(), ports, peer }).collect()
}

fn ec2_tags(tags: &BTreeMap<String, String>) -> Vec<Ec2Tag> {
    tags.iter().map(|(key, value)| Ec2Tag::builder().key(key).value(value).build()).collect()
}

impl Change for Ec2 {
    async fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        // The instance-wide call is refused with several interfaces.
        let request = self.client.modify_network_interface_attribute().network_interface_id(interface.as_str());
        let request = request.set_groups(Some(groups.iter().map(GroupId::to_string).collect()));
        request.send().await.map_err(|error| call_error("ec2:ModifyNetworkInterfaceAttribute", &error))?;
        Ok(())
    }

    async fn may_set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let request = self.client.modify_network_interface_attribute().network_interface_id(interface.as_str());
        let request = request.set_groups(Some(groups.iter().map(GroupId::to_string).collect())).dry_run(true);
        let action = "ec2:ModifyNetworkInterfaceAttribute";
        match request.send().await.map_err(|error| call_error(action, &error)) {
            Err(error) if error.code == "DryRunOperation" => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(garbled(action, "a dry run was carried out")),
        }
    }

    async fn tag(&self, resources: &BTreeSet<String>, tags: &BTreeMap<String, String>) -> Call<()> {
        for resources in chunks(resources, TAGGED_AT_ONCE) {
            let request = self.client.create_tags().set_resources(Some(resources)).set_tags(Some(ec2_tags(tags)));
            request.send().await.map_err(|error| call_error("ec2:CreateTags", &error))?;
        }
        Ok(())
    }

    async fn untag(&self, resources: &BTreeSet<String>, keys: &BTreeSet<String>) -> Call<()> {
        let keys: Vec<Ec2Tag> = keys.iter().map(|key| Ec2Tag::builder().key(key).build()).collect();
        for resources in chunks(resources, TAGGED_AT_ONCE) {
            let request = self.client.delete_tags().set_resources(Some(resources)).set_tags(Some(keys.clone()));
            request.send().await.map_err(|error| call_error("ec2:DeleteTags", &error))?;
        }
        Ok(())
    }

    async fn take_snapshots(
        &self,
        instance: &InstanceId,
        tags: &BTreeMap<String, String>,
    ) -> Call<BTreeMap<VolumeId, SnapshotId>> {
        let action = "ec2:CreateSnapshots";
        let spec = aws_sdk_ec2::types::InstanceSpecification::builder().instance_id(instance.as_str()).build();
        let tags =
            TagSpecification::builder().resource_type(ResourceType::Snapshot).set_tags(Some(ec2_tags(tags))).build();
        let request = self
            .client
            .create_snapshots()
            .instance_specification(spec)
            .description(format!("{instance}, taken after its isolation"))
            .tag_specifications(tags)
            .customize()
            // There is no client token: a repeated call makes a second set. The caller looks for the first one before it asks again.
            .config_override(Builder::default().retry_config(RetryConfig::disabled()));
        let output = request.send().await.map_err(|error| call_error(action, &error))?;
        let pairs = output
            .snapshots()
            .iter()
            .map(|info| Ok((id(action, "volume", info.volume_id())?, id(action, "snapshot", info.snapshot_id())?)));
        pairs.collect()
    }

    async fn set_attribute(&self, instance: &InstanceId, attribute: Attribute) -> Call<()> {
        let flag = |on| AttributeBooleanValue::builder().value(on).build();
        let request = self.client.modify_instance_attribute().instance_id(instance.as_str());
        // At most one attribute a call.
        let request = match attribute {
            Attribute::TerminationProtection(on) => request.disable_api_termination(flag(on)),
            Attribute::StopProtection(on) => request.disable_api_stop(flag(on)),
            Attribute::ShutdownBehaviour(behaviour) => request
                .instance_initiated_shutdown_behavior(AttributeValue::builder().value(behaviour.as_str()).build()),
        };
        request.send().await.map_err(|error| call_error(MODIFY_INSTANCE, &error))?;
        Ok(())
    }

    async fn set_deletion(&self, instance: &InstanceId, devices: &BTreeMap<String, bool>) -> Call<()> {
        let mappings = devices.iter().map(|(device, delete)| {
            let ebs = EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(*delete).build();
            InstanceBlockDeviceMappingSpecification::builder().device_name(device).ebs(ebs).build()
        });
        let request = self.client.modify_instance_attribute().instance_id(instance.as_str());
        let request = request.set_block_device_mappings(Some(mappings.collect()));
        request.send().await.map_err(|error| call_error(MODIFY_INSTANCE, &error))?;
        Ok(())
    }

    async fn detach_profile(&self, profile: &Profile) -> Call<()> {
        let request = self.client.disassociate_iam_instance_profile().association_id(&profile.association);
        request.send().await.map_err(|error| call_error("ec2:DisassociateIamInstanceProfile", &error))?;
        Ok(())
    }

    async fn attach_profile(&self, instance: &InstanceId, arn: &str) -> Call<()> {
        let profile = IamInstanceProfileSpecification::builder().arn(arn).build();
        let request = self.client.associate_iam_instance_profile().instance_id(instance.as_str());
        let request = request.iam_instance_profile(profile);
        request.send().await.map_err(|error| call_error("ec2:AssociateIamInstanceProfile", &error))?;
        Ok(())
    }

    async fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.scaling.enter_standby(group, instances).await
    }

    async fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.scaling.exit_standby(group, instances).await
    }
}
