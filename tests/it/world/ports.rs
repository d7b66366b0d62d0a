//! EC2 and CloudFormation as ports of the world, with the refusals that matter.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::cloudformation::answer::Answer;
use ec2_isolation::cloudformation::responder::{Reply, Undelivered};
use ec2_isolation::cloudformation::stack::{StackStatus, Stacks};
use ec2_isolation::model::{
    Attributes, Branch, Group, Groups, Instance, InstanceId, Interface, InterfaceId, Lock, Member, Profile, ShowGroups,
    Snapshot, SnapshotId, VolumeId,
};
use ec2_isolation::plan::Change as Protecting;
use ec2_isolation::ports::{Call, CallError, Change, Fault, GroupQuery, Look};

use tokio::time::Instant;

use super::readings::AtAnswer;
use super::{Life, World};

/// The tag that tells the snapshots of a set apart.
const LABEL: &str = "ec2-isolation:volume";
/// Of one resource (EC2 User Guide, tag restrictions).
const MOST_TAGS: usize = 50;

/// What `IncorrectInstanceState` is on the wire.
pub(super) const INCORRECT_STATE: Fault = Fault::Busy;

pub(super) fn refusal<T>(action: &'static str, fault: Fault, code: &str) -> Call<T> {
    let fault = if code.ends_with(".NotFound") { Fault::Unseen } else { fault };
    Err(CallError { action, fault, code: code.to_owned(), message: "as EC2 does".to_owned() })
}

impl Look for World {
    async fn instances(&self, ids: &BTreeSet<InstanceId>) -> Call<Vec<Instance>> {
        let what = ids.len().to_string();
        self.call("ec2:DescribeInstances", what, |data| {
            let found: Vec<Instance> = ids
                .iter()
                .filter(|id| !data.hides(id.as_str()))
                .filter_map(|id| data.instances.get(id).cloned())
                .collect();
            let shown = found.into_iter().map(|mut instance| {
                instance.interfaces.retain(|interface| !data.hides(interface.id.as_str()));
                instance.interfaces = instance.interfaces.iter().map(|interface| data.shown(interface)).collect();
                data.show_volumes(&mut instance);
                data.show_metadata_service(&mut instance);
                instance.tags = data.tags.get(instance.id.as_str()).cloned().unwrap_or_default();
                instance.tags.extend(data.scaling_tag(&instance.id));
                instance
            });
            Ok(shown.collect())
        })
        .await
    }

    async fn interfaces(&self, ids: &BTreeSet<InterfaceId>) -> Call<Vec<Interface>> {
        self.call("ec2:DescribeNetworkInterfaces", ids.len().to_string(), |data| {
            let wanted = data.interfaces().filter(|interface| ids.contains(&interface.id));
            let found: Vec<Interface> =
                wanted.filter(|interface| !data.hides(interface.id.as_str())).cloned().collect();
            Ok(found.iter().map(|interface| data.shown(interface)).collect())
        })
        .await
    }

    async fn branches(&self, trunks: &BTreeSet<InterfaceId>) -> Call<Vec<Branch>> {
        self.call("ec2:DescribeNetworkInterfaces", "branches".to_owned(), |data| {
            let of_trunks = data.branches.iter().filter(|branch| trunks.contains(&branch.trunk));
            Ok(of_trunks.filter(|branch| !data.hides(branch.id.as_str())).cloned().collect())
        })
        .await
    }

    async fn groups(&self, query: &GroupQuery) -> Call<Vec<Group>> {
        self.call("ec2:DescribeSecurityGroups", format!("{query:?}"), |data| {
            let wanted = |group: &&Group| match query {
                GroupQuery::Marked(vpc) => group.role.is_some() && group.vpc.as_ref() == Some(vpc),
                GroupQuery::Ids(ids) => ids.contains(&group.id),
                GroupQuery::OfStack(id) => group.role.is_some() && group.stack_id.as_ref() == Some(id),
                GroupQuery::OfStackNamed(name) => {
                    let named = |id: &String| id.split('/').nth(1) == Some(name.as_str());
                    group.role.is_some() && group.stack_id.as_ref().is_some_and(named)
                }
                GroupQuery::Ours => group.role.is_some(),
            };
            let found = data.groups.values().filter(wanted).filter(|group| !data.hides(group.id.as_str()));
            Ok(found.map(|group| data.shown_group(group)).collect())
        })
        .await
    }

    async fn snapshots(&self, episodes: &BTreeSet<String>) -> Call<Vec<Snapshot>> {
        if episodes.is_empty() {
            return Ok(vec![]);
        }
        self.call("ec2:DescribeSnapshots", episodes.len().to_string(), |data| {
            let found = data.snapshots.iter().filter(|snapshot| episodes.contains(&snapshot.episode));
            Ok(found.filter(|snapshot| !data.hides(snapshot.id.as_str())).cloned().collect())
        })
        .await
    }

    async fn snapshots_by_id(&self, ids: &BTreeSet<SnapshotId>) -> Call<Vec<Snapshot>> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        self.call("ec2:DescribeSnapshots", ids.len().to_string(), |data| {
            let found = data.snapshots.iter().filter(|snapshot| ids.contains(&snapshot.id));
            Ok(found.filter(|snapshot| !data.hides(snapshot.id.as_str())).cloned().collect())
        })
        .await
    }

    async fn locks(&self, ids: &BTreeSet<SnapshotId>) -> Call<BTreeMap<SnapshotId, Lock>> {
        self.read_locks(ids).await
    }

    async fn volume_tags(&self, ids: &BTreeSet<VolumeId>) -> Call<BTreeMap<VolumeId, BTreeMap<String, String>>> {
        self.read_volume_tags(ids).await
    }

    async fn attributes(&self, instance: &InstanceId) -> Call<Option<Attributes>> {
        let read = |n| self.read_attribute(instance, n);
        match tokio::try_join!(read(0), read(1), read(2)) {
            Ok((termination, stop, shutdown)) => Ok(Some([termination, stop, shutdown])),
            Err(error) if error.code == "InvalidInstanceID.NotFound" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn profiles(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Profile>> {
        self.read_profiles(ids).await
    }

    async fn members(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Member>> {
        self.read_members(ids).await
    }
}

impl Change for World {
    async fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let action = "ec2:ModifyNetworkInterfaceAttribute";
        self.call(action, format!("{interface} {}", ShowGroups(groups)), |data| {
            data.check_groups(interface, groups)?;
            data.hold_against_records(interface);
            let swapped = data.start.elapsed();
            let Some(found) = data.interface_mut(interface) else {
                return refusal(action, Fault::Refused, "InvalidNetworkInterfaceID.NotFound");
            };
            let old = std::mem::replace(&mut found.groups, groups.clone());
            if old != *groups {
                data.trail(interface, old);
            }
            data.swapped_at.push(swapped);
            data.most_in_transit = data.most_in_transit.max(data.in_transit().len());
            Ok(())
        })
        .await
    }

    async fn may_set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let action = "ec2:ModifyNetworkInterfaceAttribute";
        self.call(action, format!("dry run {interface} {}", ShowGroups(groups)), |data| {
            data.check_groups(interface, groups)
        })
        .await
    }

    async fn tag(&self, resources: &BTreeSet<String>, tags: &BTreeMap<String, String>) -> Call<()> {
        let action = "ec2:CreateTags";
        self.call(action, format!("{resources:?}"), |data| {
            if !data.drill.takes_reserved_tags && tags.keys().any(|key| key.starts_with("aws:")) {
                return refusal(action, Fault::Refused, "InvalidParameterValue");
            }
            // All of them or none.
            for resource in resources {
                if data.is_unseen(resource) {
                    return refusal(action, Fault::Unseen, "InvalidSnapshot.NotFound");
                }
                if let Some((fault, code)) = data.untaggable.get(resource) {
                    return refusal(action, *fault, code);
                }
                let now = data.tags.get(resource).into_iter().flat_map(BTreeMap::keys);
                if now.chain(tags.keys()).collect::<BTreeSet<_>>().len() > MOST_TAGS {
                    return refusal(action, Fault::Refused, "TagLimitExceeded");
                }
            }
            for resource in resources {
                for snapshot in data.snapshots.iter_mut().filter(|snapshot| snapshot.id.as_str() == resource) {
                    snapshot.labelled |= tags.contains_key(LABEL);
                    if let Some(episode) = tags.get("ec2-isolation:episode") {
                        snapshot.episode = episode.clone();
                    }
                }
                data.tags.entry(resource.clone()).or_default().extend(tags.clone());
            }
            Ok(())
        })
        .await
    }

    async fn untag(&self, resources: &BTreeSet<String>, keys: &BTreeSet<String>) -> Call<()> {
        let action = "ec2:DeleteTags";
        self.call(action, format!("{resources:?}"), |data| {
            if let Some((fault, code)) = resources.iter().find_map(|resource| data.not_to_be_untagged.get(resource)) {
                return refusal(action, *fault, code);
            }
            for resource in resources {
                if let Some(tags) = data.tags.get_mut(resource) {
                    tags.retain(|key, _| !keys.contains(key));
                }
            }
            data.tags.retain(|_, tags| !tags.is_empty());
            Ok(())
        })
        .await
    }

    async fn take_snapshots(
        &self,
        instance: &InstanceId,
        without: &BTreeMap<VolumeId, String>,
        tags: &BTreeMap<String, String>,
    ) -> Call<BTreeMap<VolumeId, SnapshotId>> {
        let action = "ec2:CreateSnapshots";
        self.call(action, instance.to_string(), |data| {
            let Some(found) = data.instances.get(instance) else {
                return refusal(action, Fault::Refused, "InvalidInstanceID.NotFound");
            };
            if found.state == "terminated" {
                return refusal(action, Fault::Refused, "IncorrectInstanceState");
            }
            let found = found.clone();
            if !data.may_take_snapshots(instance) {
                return refusal(action, Fault::Refused, "SnapshotCreationPerVolumeRateExceeded");
            }
            let volumes: Vec<VolumeId> =
                found.volumes.keys().filter(|id| !without.contains_key(*id)).cloned().collect();
            let episode = tags["ec2-isolation:episode"].clone();
            let set = volumes.into_iter().map(|volume| {
                let id: SnapshotId = format!("snap-{:x}", 0x10 + data.snapshots.len()).parse().unwrap();
                let labelled = tags.contains_key(LABEL);
                let (volume_id, episode) = (volume.clone(), episode.clone());
                let snapshot = Snapshot { id: id.clone(), volume: volume_id, episode, failed: false, labelled };
                data.snapshots.push(snapshot);
                data.tags.insert(id.to_string(), tags.clone());
                (volume, id)
            });
            Ok(set.collect())
        })
        .await
    }

    async fn lock_snapshot(&self, snapshot: &SnapshotId, days: u64) -> Call<()> {
        self.lock(snapshot, days).await
    }

    async fn protect(&self, instance: &InstanceId, change: &Protecting) -> Call<()> {
        match change {
            Protecting::Attribute(attribute) => self.write_attribute(instance, *attribute).await,
            Protecting::Volumes { volumes, go_with_it } => {
                let devices = volumes.values().map(|device| (device.clone(), *go_with_it)).collect();
                self.write_deletion(instance, &devices).await
            }
            Protecting::DetachProfile(profile) => self.take_profile(profile).await,
            Protecting::AttachProfile { arn } => self.put_profile(instance, arn).await,
            Protecting::MetadataService { is_on } => self.write_metadata_service(instance, *is_on).await,
            Protecting::EnterStandby { .. } | Protecting::ExitStandby { .. } => panic!("not by this call: {change:?}"),
        }
    }

    async fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.enter_standby_of(group, instances).await
    }

    async fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.exit_standby_of(group, instances).await
    }
}

impl Stacks for World {
    async fn status(&self, stack_id: &str) -> Call<StackStatus> {
        let action = "cloudformation:DescribeStacks";
        self.call(action, stack_id.to_owned(), |data| match data.stacks.get(stack_id) {
            Some(status) => Ok(status.clone()),
            None => refusal(action, Fault::Refused, "ValidationError"),
        })
        .await
    }
}

impl Reply for World {
    async fn send(self, answer: Answer) -> Result<(), Undelivered> {
        if *self.life.borrow() != Life::Lives {
            return std::future::pending().await;
        }
        let cards = self.cards();
        let mut data = self.data();
        let in_transit = data.in_transit();
        data.at_answers.push(AtAnswer { at: Instant::now(), cards, in_transit });
        data.answers.push(answer);
        data.undelivered.clone().map_or(Ok(()), Err)
    }
}

impl super::Data {
    /// What EC2 refuses.
    fn check_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let action = "ec2:ModifyNetworkInterfaceAttribute";
        if groups.iter().any(|group| self.refused_groups.contains(&(interface.clone(), group.clone()))) {
            return refusal(action, Fault::Refused, "OperationNotPermitted");
        }
        if self.refused.contains(interface) {
            return refusal(action, Fault::Refused, "AuthFailure");
        }
        if groups.len() > 16 {
            return refusal(action, Fault::Refused, "SecurityGroupsPerInterfaceLimitExceeded");
        }
        let is_seen = |found: &&Interface| found.id == *interface && !self.is_unseen(interface.as_str());
        let Some(found) = self.interfaces().find(is_seen) else {
            return refusal(action, Fault::Refused, "InvalidNetworkInterfaceID.NotFound");
        };
        // As EC2: a group of another VPC has the same code as one that does not exist.
        let fits = |group: &Group| {
            group.vpc == found.vpc
                || found.vpc.clone().is_some_and(|vpc| self.associated.contains(&(group.id.clone(), vpc)))
        };
        let is_seen = |group: &&Group| !self.is_unseen(group.id.as_str());
        if !groups.iter().all(|group| self.groups.get(group).filter(is_seen).is_some_and(fits)) {
            return refusal(action, Fault::Refused, "InvalidGroup.NotFound");
        }
        let holder = found.instance.as_ref().and_then(|instance| self.instances.get(instance));
        if holder.is_some_and(|at| matches!(at.state.as_str(), "pending" | "shutting-down" | "terminated")) {
            return refusal(action, INCORRECT_STATE, "IncorrectInstanceState");
        }
        Ok(())
    }
}
