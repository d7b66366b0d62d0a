//! What is read of EC2: by filters, since one unknown id would fail a whole call (`InvalidInstanceID.NotFound`), and in pages:
//! accounts with very many resources refuse others (hashicorp/terraform-provider-aws#38841).

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, Filter, GroupIdentifier, IamInstanceProfileAssociation,
    Instance as Ec2Instance, InstanceAttributeName, InstanceMetadataEndpointState, InstanceMetadataOptionsState,
    InstanceNetworkInterface, InstanceStateName, IpPermission, LockState, NetworkInterface, Reservation, SecurityGroup,
    Snapshot as Ec2Snapshot, SnapshotState, Tag,
};
use futures_util::future::try_join_all;

use super::{Ec2, NO_INSTANCE, PAGE, chunks, found, id};
use crate::aws::error::{garbled, sent, time};
use crate::model::{
    Attribute, Attributes, Branch, Group, Groups, Instance, InstanceId, Interface, InterfaceId, LOGICAL_ID_TAG, Lock,
    Member, Peer, Profile, ROLE_TAG, Role, Rule, STACK_NAME_TAG, STACK_TAG, ShutdownBehaviour, Snapshot, SnapshotId,
    Volume, VolumeId,
};
use crate::plan::tag;
use crate::ports::{Call, GroupQuery, Look};

/// A filter takes at most 200 values (`FilterLimitExceeded`); half of that keeps answers small.
const FILTER_VALUES: usize = 100;
/// Names the trunk on a branch interface (aws/amazon-vpc-resource-controller-k8s, which makes them for EKS).
const TRUNK_TAG: &str = "vpcresources.k8s.aws/trunk-eni-id";
const NO_SNAPSHOT: &str = "InvalidSnapshot.NotFound";

const INSTANCES: &str = "ec2:DescribeInstances";
const INTERFACES: &str = "ec2:DescribeNetworkInterfaces";
const GROUPS: &str = "ec2:DescribeSecurityGroups";
pub(crate) const SNAPSHOTS: &str = "ec2:DescribeSnapshots";
const LOCKS: &str = "ec2:DescribeLockedSnapshots";
const TAGS: &str = "ec2:DescribeTags";
const PROFILES: &str = "ec2:DescribeIamInstanceProfileAssociations";

pub(crate) fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// What `read` finds by filters for these values, a portion at a time. One that fails fails all.
pub(crate) async fn by<V: ToString, T, F: Future<Output = Call<Vec<T>>>>(
    name: &str,
    values: &BTreeSet<V>,
    read: impl Fn(Filter) -> F,
) -> Call<Vec<T>> {
    let portions = chunks(values, FILTER_VALUES).into_iter().map(|values| read(filter(name, values)));
    Ok(try_join_all(portions).await?.into_iter().flatten().collect())
}

impl Look for Ec2 {
    async fn instances(&self, ids: &BTreeSet<InstanceId>) -> Call<Vec<Instance>> {
        by("instance-id", ids, |ids| self.instances_by(ids)).await
    }

    async fn interfaces(&self, ids: &BTreeSet<InterfaceId>) -> Call<Vec<Interface>> {
        by("network-interface-id", ids, |ids| self.interfaces_by(ids)).await
    }

    async fn branches(&self, trunks: &BTreeSet<InterfaceId>) -> Call<Vec<Branch>> {
        let found = by(&format!("tag:{TRUNK_TAG}"), trunks, |trunks| self.interfaces_by(trunks)).await?;
        let branches = found.into_iter().map(|Interface { id: branch, groups, tags, .. }| {
            let trunk = id(INTERFACES, "trunk", tags.get(TRUNK_TAG).map(String::as_str))?;
            Ok(Branch { id: branch, trunk, groups })
        });
        branches.collect()
    }

    async fn groups(&self, query: &GroupQuery) -> Call<Vec<Group>> {
        let marked = |name: &str, value: &str| {
            self.groups_by(vec![filter(name, vec![value.to_owned()]), filter("tag-key", vec![ROLE_TAG.to_owned()])])
        };
        match query {
            GroupQuery::Ids(ids) => by("group-id", ids, |ids| self.groups_by(vec![ids])).await,
            GroupQuery::Marked(vpc) => marked("vpc-id", vpc.as_str()).await,
            // CloudFormation's own tags cannot be forged.
            GroupQuery::OfStack(id) => marked(&format!("tag:{STACK_TAG}"), id).await,
            GroupQuery::OfStackNamed(name) => marked(&format!("tag:{STACK_NAME_TAG}"), name).await,
            GroupQuery::Ours => self.groups_by(vec![filter("tag-key", vec![ROLE_TAG.to_owned()])]).await,
        }
    }

    async fn snapshots(&self, episodes: &BTreeSet<String>) -> Call<Vec<Snapshot>> {
        by(&format!("tag:{}", tag::EPISODE), episodes, |episodes| self.snapshots_by(episodes)).await
    }

    async fn snapshots_by_id(&self, ids: &BTreeSet<SnapshotId>) -> Call<Vec<Snapshot>> {
        by("snapshot-id", ids, |ids| self.snapshots_by(ids)).await
    }

    async fn locks(&self, ids: &BTreeSet<SnapshotId>) -> Call<BTreeMap<SnapshotId, Lock>> {
        let named = chunks(ids, FILTER_VALUES).into_iter().map(|ids| self.locks_by(Some(ids)));
        let found = match try_join_all(named).await {
            // It has no filter for ids: one that is gone fails the call, and all of the account's are looked through.
            Err(error) if error.code == NO_SNAPSHOT => vec![self.locks_by(None).await?],
            found => found?,
        };
        Ok(found.into_iter().flatten().filter(|(id, _)| ids.contains(id)).collect())
    }

    async fn volume_tags(&self, ids: &BTreeSet<VolumeId>) -> Call<BTreeMap<VolumeId, BTreeMap<String, String>>> {
        let read = |which| async move {
            let request = self.client.describe_tags().filters(which);
            found!(TAGS, request)
        };
        let mut tags: BTreeMap<VolumeId, BTreeMap<String, String>> =
            ids.iter().map(|id| (id.clone(), BTreeMap::new())).collect();
        for tag in by("resource-id", ids, read).await? {
            let of: VolumeId = id(TAGS, "volume", tag.resource_id())?;
            let tags = tags.entry(of).or_default();
            tags.extend(tag.key().map(|key| (key.to_owned(), tag.value().unwrap_or_default().to_owned())));
        }
        Ok(tags)
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
        Ok(by("instance-id", ids, |ids| self.profiles_by(ids)).await?.into_iter().collect())
    }

    async fn members(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Member>> {
        self.scaling.members(ids).await
    }
}

impl Ec2 {
    async fn instances_by(&self, which: Filter) -> Call<Vec<Instance>> {
        // An account may hide what another service of AWS manages (EC2 API reference).
        let request = self.client.describe_instances().include_managed_resources(true).filters(which);
        let found = found!(INSTANCES, request)?;
        found.iter().flat_map(Reservation::instances).map(read_instance).collect()
    }

    pub(crate) async fn interfaces_by(&self, which: Filter) -> Call<Vec<Interface>> {
        let request = self.client.describe_network_interfaces().include_managed_resources(true).filters(which);
        found!(INTERFACES, request)?.iter().map(read_interface).collect()
    }

    async fn groups_by(&self, which: Vec<Filter>) -> Call<Vec<Group>> {
        let request = self.client.describe_security_groups().set_filters(Some(which));
        found!(GROUPS, request)?.iter().map(read_group).collect()
    }

    async fn snapshots_by(&self, which: Filter) -> Call<Vec<Snapshot>> {
        let request = self.client.describe_snapshots().owner_ids("self").filters(which);
        found!(SNAPSHOTS, request)?.iter().map(read_snapshot).collect()
    }

    async fn profiles_by(&self, which: Filter) -> Call<Vec<(InstanceId, Profile)>> {
        // One that is being taken away no longer counts.
        let states = filter("state", vec!["associating".to_owned(), "associated".to_owned()]);
        let request = self.client.describe_iam_instance_profile_associations().filters(which).filters(states);
        found!(PROFILES, request)?.iter().map(read_profile).collect()
    }

    /// The locks of these snapshots, or of all that the account has locked.
    async fn locks_by(&self, ids: Option<Vec<String>>) -> Call<Vec<(SnapshotId, Lock)>> {
        let request = self.client.describe_locked_snapshots();
        // Ids and a page do not go together.
        let request = if ids.is_some() { request.set_snapshot_ids(ids) } else { request.max_results(PAGE) };
        let (mut locked, mut next) = (Vec::new(), None);
        loop {
            let output = sent(LOCKS, request.clone().set_next_token(next).send()).await?;
            for found in output.snapshots() {
                let Some(mode) = found.lock_state().filter(|state| **state != LockState::Expired) else { continue };
                let lock = Lock {
                    mode: mode.as_str().to_owned(),
                    days: found.lock_duration().and_then(|days| days.try_into().ok()),
                    until: found.lock_expires_on().and_then(time),
                };
                locked.push((id(LOCKS, "snapshot", found.snapshot_id())?, lock));
            }
            next = output.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(locked);
            }
        }
    }

    async fn attribute(&self, instance: &InstanceId, name: InstanceAttributeName) -> Call<Attribute> {
        let action = "ec2:DescribeInstanceAttribute";
        let request = self.client.describe_instance_attribute().instance_id(instance.as_str()).attribute(name.clone());
        let output = sent(action, request.send()).await?;
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
}

fn read_instance(instance: &Ec2Instance) -> Call<Instance> {
    let here: InstanceId = id(INSTANCES, "instance", instance.instance_id())?;
    let mut interfaces: Vec<&InstanceNetworkInterface> = instance.network_interfaces().iter().collect();
    interfaces.sort_by_key(|interface| interface.attachment().and_then(|attachment| attachment.device_index()));
    let interfaces = interfaces.into_iter().map(|interface| {
        Ok(Interface {
            id: id(INSTANCES, "interface", interface.network_interface_id())?,
            groups: groups_of(INSTANCES, interface.groups())?,
            tags: BTreeMap::new(),
            is_trunk: interface.interface_type() == Some("trunk"),
            vpc: interface.vpc_id().and_then(|id| id.parse().ok()),
            instance: Some(here.clone()),
        })
    });
    let ebs = instance.block_device_mappings().iter().filter_map(|mapping| {
        let ebs = mapping.ebs()?;
        let device = mapping.device_name().unwrap_or_default().to_owned();
        let delete_on_termination = ebs.delete_on_termination().unwrap_or_default();
        Some((ebs.volume_id()?.parse().ok()?, Volume { device, delete_on_termination }))
    });
    let state = instance.state().and_then(|state| state.name());
    let metadata = instance.metadata_options();
    Ok(Instance {
        state: state.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        vpc: instance.vpc_id().and_then(|id| id.parse().ok()),
        interfaces: interfaces.collect::<Call<_>>()?,
        volumes: ebs.collect(),
        tags: tags_of(instance.tags()),
        has_metadata_service: metadata
            .is_none_or(|options| options.http_endpoint() != Some(&InstanceMetadataEndpointState::Disabled)),
        // To one that does not run, EC2 applies it at its next start.
        is_metadata_pending: state == Some(&InstanceStateName::Running)
            && metadata.is_some_and(|options| options.state() == Some(&InstanceMetadataOptionsState::Pending)),
        lifecycle: instance.instance_lifecycle().map(|lifecycle| lifecycle.as_str().to_owned()),
        id: here,
    })
}

fn read_interface(interface: &NetworkInterface) -> Call<Interface> {
    let instance = interface.attachment().and_then(|attachment| attachment.instance_id());
    Ok(Interface {
        id: id(INTERFACES, "interface", interface.network_interface_id())?,
        groups: groups_of(INTERFACES, interface.groups())?,
        tags: tags_of(interface.tag_set()),
        is_trunk: interface.interface_type().is_some_and(|kind| kind.as_str() == "trunk"),
        vpc: interface.vpc_id().and_then(|id| id.parse().ok()),
        instance: instance.and_then(|id| id.parse().ok()),
    })
}

fn read_group(group: &SecurityGroup) -> Call<Group> {
    let tags = tags_of(group.tags());
    Ok(Group {
        id: id(GROUPS, "group", group.group_id())?,
        vpc: group.vpc_id().and_then(|id| id.parse().ok()),
        role: tags.get(LOGICAL_ID_TAG).and_then(|id| Role::of_resource(id)),
        stack_id: tags.get(STACK_TAG).cloned(),
        ingress: group.ip_permissions().iter().flat_map(rules).collect(),
        egress: group.ip_permissions_egress().iter().flat_map(rules).collect(),
    })
}

fn read_snapshot(snapshot: &Ec2Snapshot) -> Call<Snapshot> {
    let mut tags = tags_of(snapshot.tags());
    Ok(Snapshot {
        id: id(SNAPSHOTS, "snapshot", snapshot.snapshot_id())?,
        volume: id(SNAPSHOTS, "volume", snapshot.volume_id())?,
        labelled: tags.contains_key(tag::VOLUME),
        episode: tags.remove(tag::EPISODE).unwrap_or_default(),
        failed: snapshot.state() == Some(&SnapshotState::Error),
    })
}

fn read_profile(found: &IamInstanceProfileAssociation) -> Call<(InstanceId, Profile)> {
    let missing = || garbled(PROFILES, "an association has no id or no ARN");
    let association = found.association_id().ok_or_else(missing)?.to_owned();
    let arn = found.iam_instance_profile().and_then(|profile| profile.arn()).ok_or_else(missing)?.to_owned();
    Ok((id(PROFILES, "instance", found.instance_id())?, Profile { association, arn }))
}

pub(crate) fn groups_of(action: &'static str, groups: &[GroupIdentifier]) -> Call<Groups> {
    groups.iter().map(|group| id(action, "group", group.group_id())).collect()
}

pub(crate) fn tags_of(tags: &[Tag]) -> BTreeMap<String, String> {
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
