//! What is read of EC2: by filters, since one unknown id would fail a whole call (`InvalidInstanceID.NotFound`), and in pages:
//! accounts with very many resources refuse others (hashicorp/terraform-provider-aws#38841).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, EventCode, Filter, GroupIdentifier, IamInstanceProfileAssociation,
    Instance as Ec2Instance, InstanceAttributeName, InstanceMetadataEndpointState, InstanceMetadataOptionsState,
    InstanceNetworkInterface, InstanceStateName, InstanceStatusEvent, IpPermission, LockState, NetworkInterface,
    Reservation, SecurityGroup, Snapshot as Ec2Snapshot, SnapshotState, Tag, Volume as Ec2Volume, VolumeState,
};
use futures_util::future::try_join_all;

use super::{Ec2, NO_INSTANCE, chunks, id};
use crate::aws::error::{call_error, garbled, sent, time};
use crate::model::{
    Attribute, Attributes, Branch, Group, Groups, Instance, InstanceId, Interface, InterfaceId, LOGICAL_ID_TAG, Lock,
    Member, Peer, Profile, ROLE_TAG, Role, Rule, STACK_NAME_TAG, STACK_TAG, ScheduledEvent, ShutdownBehaviour,
    Snapshot, SnapshotId, Volume, VolumeId,
};
use crate::plan::tag;
use crate::ports::{
    Attachment, Call, Evidence, GroupQuery, Look, SnapshotDetails, SnapshotQuery, Survey, VolumeDetails, VolumeQuery,
};

/// A filter takes at most 200 values (`FilterLimitExceeded`); half of that keeps answers small.
const FILTER_VALUES: usize = 100;
/// Each call here allows 5 to 1,000 (`MaxResults`, EC2 API reference).
const PAGE: i32 = 1000;
/// Names the trunk on a branch interface (aws/amazon-vpc-resource-controller-k8s, which makes them for EKS).
const TRUNK_TAG: &str = "vpcresources.k8s.aws/trunk-eni-id";
/// How the description of an event begins that will not come any more.
const ENDED: [&str; 2] = ["[Completed]", "[Canceled]"];
const NO_SNAPSHOT: &str = "InvalidSnapshot.NotFound";

const INSTANCES: &str = "ec2:DescribeInstances";
const INTERFACES: &str = "ec2:DescribeNetworkInterfaces";
const GROUPS: &str = "ec2:DescribeSecurityGroups";
const SNAPSHOTS: &str = "ec2:DescribeSnapshots";
const LOCKS: &str = "ec2:DescribeLockedSnapshots";
const TAGS: &str = "ec2:DescribeTags";
const VOLUMES: &str = "ec2:DescribeVolumes";
const EVENTS: &str = "ec2:DescribeInstanceStatus";
const PROFILES: &str = "ec2:DescribeIamInstanceProfileAssociations";

/// Everything that a describe request finds, over all pages.
macro_rules! found {
    ($action:expr, $request:expr) => {{
        let items = $request.into_paginator().page_size(PAGE).items().send().try_collect().await;
        items.map_err(|error| call_error($action, &error))
    }};
}

fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// What `read` finds by filters for these values, a portion at a time. One that fails fails all.
async fn by<V: ToString, T, F: Future<Output = Call<Vec<T>>>>(
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

impl Survey for Ec2 {
    async fn scheduled_events(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Vec<ScheduledEvent>>> {
        // It has no filter for ids, and one that is gone would fail the call. Few instances of an account have events.
        let codes = EventCode::values().iter().map(|code| (*code).to_owned()).collect();
        let request = self.client.describe_instance_status().include_all_instances(true);
        let request = request.include_managed_resources(true).filters(filter("event.code", codes));
        let mut found = BTreeMap::new();
        for status in found!(EVENTS, request)? {
            let instance: InstanceId = id(EVENTS, "instance", status.instance_id())?;
            let events: Vec<ScheduledEvent> = status.events().iter().filter_map(read_event).collect();
            if ids.contains(&instance) && !events.is_empty() {
                found.insert(instance, events);
            }
        }
        Ok(found)
    }

    async fn interfaces_in(&self, groups: &Groups) -> Call<Vec<Interface>> {
        by("group-id", groups, |groups| self.interfaces_by(groups)).await
    }

    async fn interfaces_at(&self, address: IpAddr) -> Call<Vec<Interface>> {
        let names: &[&str] = match address {
            IpAddr::V4(_) => &["addresses.private-ip-address", "addresses.association.public-ip"],
            IpAddr::V6(_) => &["ipv6-addresses.ipv6-address"],
        };
        let found = names.iter().map(|name| self.interfaces_by(filter(name, vec![address.to_string()])));
        Ok(try_join_all(found).await?.into_iter().flatten().collect())
    }
}

impl Ec2 {
    async fn instances_by(&self, which: Filter) -> Call<Vec<Instance>> {
        // An account may hide what another service of AWS manages (EC2 API reference).
        let request = self.client.describe_instances().include_managed_resources(true).filters(which);
        let found = found!(INSTANCES, request)?;
        found.iter().flat_map(Reservation::instances).map(read_instance).collect()
    }

    async fn interfaces_by(&self, which: Filter) -> Call<Vec<Interface>> {
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

impl Evidence for Ec2 {
    async fn snapshot_details(&self, query: &SnapshotQuery) -> Call<Vec<SnapshotDetails>> {
        let read = |which| async move {
            let request = self.client.describe_snapshots().owner_ids("self").filters(which);
            found!(SNAPSHOTS, request)?.iter().map(read_details).collect()
        };
        match query {
            SnapshotQuery::Ids(ids) => by("snapshot-id", ids, read).await,
            SnapshotQuery::Marked => {
                read(filter("tag-key", vec![tag::EPISODE.to_owned(), tag::COPY_OF.to_owned()])).await
            }
            SnapshotQuery::CopiesOf(ids) => by(&format!("tag:{}", tag::COPY_OF), ids, read).await,
            SnapshotQuery::OfStacks(stacks) => by(&format!("tag:{}", tag::STACK), stacks, read).await,
        }
    }

    async fn volumes(&self, query: &VolumeQuery) -> Call<Vec<VolumeDetails>> {
        let read = |which| async move {
            let request = self.client.describe_volumes().include_managed_resources(true).filters(which);
            found!(VOLUMES, request)?.iter().map(read_volume).collect()
        };
        match query {
            VolumeQuery::Ids(ids) => by("volume-id", ids, read).await,
            VolumeQuery::Marked => read(filter("tag-key", vec![tag::RESTORE.to_owned()])).await,
            VolumeQuery::OfHosts => read(filter(&format!("tag:{ROLE_TAG}"), vec!["forensic-host".to_owned()])).await,
            VolumeQuery::OfEvidence => read(filter(&format!("tag:{ROLE_TAG}"), vec![tag::EVIDENCE.to_owned()])).await,
            VolumeQuery::OfSnapshots(ids) => by("snapshot-id", ids, read).await,
        }
    }
}

fn read_volume(volume: &Ec2Volume) -> Call<VolumeDetails> {
    let attachment = volume.attachments().iter().find_map(|found| {
        Some(Attachment {
            instance: found.instance_id()?.parse().ok()?,
            device: found.device().unwrap_or_default().to_owned(),
            state: found.state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        })
    });
    Ok(VolumeDetails {
        id: id(VOLUMES, "volume", volume.volume_id())?,
        gib: volume.size().and_then(|gib| gib.try_into().ok()).unwrap_or_default(),
        state: volume.state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        is_attached: volume.state() != Some(&VolumeState::Available),
        snapshot: volume.snapshot_id().and_then(|id| id.parse().ok()),
        zone: volume.availability_zone().unwrap_or_default().to_owned(),
        attachment,
        tags: tags_of(volume.tags()),
    })
}

fn read_details(snapshot: &Ec2Snapshot) -> Call<SnapshotDetails> {
    Ok(SnapshotDetails {
        id: id(SNAPSHOTS, "snapshot", snapshot.snapshot_id())?,
        // A copy has `vol-ffffffff`.
        volume: snapshot.volume_id().and_then(|id| id.parse().ok()),
        gib: snapshot.volume_size().and_then(|gib| gib.try_into().ok()).unwrap_or_default(),
        state: snapshot.state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        why: snapshot.state_message().filter(|why| !why.is_empty()).map(str::to_owned),
        percent: snapshot.progress().and_then(|text| text.trim_end_matches('%').parse().ok()).unwrap_or_default(),
        is_encrypted: snapshot.encrypted().unwrap_or_default(),
        key: snapshot.kms_key_id().filter(|key| !key.is_empty()).map(str::to_owned),
        started_at: snapshot.start_time().and_then(time),
        completed_at: snapshot.completion_time().and_then(time),
        tags: tags_of(snapshot.tags()),
    })
}

/// Nothing of one that has ended: EC2 shows it for a week more (EC2 API reference, InstanceStatusEvent).
fn read_event(event: &InstanceStatusEvent) -> Option<ScheduledEvent> {
    let is_over = event.description().is_some_and(|text| ENDED.iter().any(|word| text.starts_with(word)));
    let code = event.code().filter(|_| !is_over)?.as_str().to_owned();
    Some(ScheduledEvent { code, not_before: event.not_before().and_then(time) })
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

pub(super) fn groups_of(action: &'static str, groups: &[GroupIdentifier]) -> Call<Groups> {
    groups.iter().map(|group| id(action, "group", group.group_id())).collect()
}

fn tags_of(tags: &[Tag]) -> BTreeMap<String, String> {
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
