//! The ports of the world: what EC2, DynamoDB and CloudFormation do, with the refusals that matter.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::cloudformation::answer::Answer;
use ec2_isolation::model::{
    Attribute, Attributes, Branch, Desired, Group, Groups, Instance, InstanceId, Intent, Interface, InterfaceId,
    Member, Owner, Profile, Protection, Record, ShowGroups, Snapshot, SnapshotId, Snapshots, State, VolumeId,
};
use ec2_isolation::plan::{Prior, StackStatus};
use ec2_isolation::ports::{
    Call, CallError, Change, Fault, GroupQuery, Ledger, Look, Marking, Originals, Records, Reply, Stacks, Undelivered,
    Written,
};

use super::{Life, World};

/// The tag that tells the snapshots of a set apart.
const LABEL: &str = "ec2-isolation:volume";

/// What `IncorrectInstanceState` is on the wire.
pub(super) const INCORRECT_STATE: Fault = Fault::Busy;

pub(super) fn refusal<T>(action: &'static str, fault: Fault, code: &str) -> Call<T> {
    Err(CallError { action, fault, code: code.to_owned(), message: "as EC2 does".to_owned() })
}

impl Look for World {
    async fn instances(&self, ids: &BTreeSet<InstanceId>) -> Call<Vec<Instance>> {
        let what = ids.len().to_string();
        self.call("ec2:DescribeInstances", what, |data| {
            let found: Vec<Instance> = ids.iter().filter_map(|id| data.instances.get(id).cloned()).collect();
            let shown = found.into_iter().map(|mut instance| {
                instance.interfaces = instance.interfaces.iter().map(|interface| data.shown(interface)).collect();
                data.show_volumes(&mut instance);
                instance.tags = data.tags.get(instance.id.as_str()).cloned().unwrap_or_default();
                instance
            });
            Ok(shown.collect())
        })
        .await
    }

    async fn interfaces(&self, ids: &BTreeSet<InterfaceId>) -> Call<Vec<Interface>> {
        self.call("ec2:DescribeNetworkInterfaces", ids.len().to_string(), |data| {
            let all = data.instances.values().flat_map(|instance| instance.interfaces.clone());
            let found: Vec<Interface> = all.filter(|interface| ids.contains(&interface.id)).collect();
            Ok(found.iter().map(|interface| data.shown(interface)).collect())
        })
        .await
    }

    async fn branches(&self, trunks: &BTreeSet<InterfaceId>) -> Call<Vec<Branch>> {
        self.call("ec2:DescribeNetworkInterfaces", "branches".to_owned(), |data| {
            Ok(data.branches.iter().filter(|branch| trunks.contains(&branch.trunk)).cloned().collect())
        })
        .await
    }

    async fn groups(&self, query: &GroupQuery) -> Call<Vec<Group>> {
        self.call("ec2:DescribeSecurityGroups", format!("{query:?}"), |data| {
            let wanted = |group: &&Group| match query {
                GroupQuery::InVpc(vpc) => group.vpc.as_ref() == Some(vpc),
                GroupQuery::Marked(vpc) => group.role.is_some() && group.vpc.as_ref() == Some(vpc),
                GroupQuery::Ids(ids) => ids.contains(&group.id),
                GroupQuery::OfStack(id) => group.role.is_some() && group.stack_id.as_ref() == Some(id),
                GroupQuery::OfStackNamed(name) => {
                    let named = |id: &String| id.split('/').nth(1) == Some(name.as_str());
                    group.role.is_some() && group.stack_id.as_ref().is_some_and(named)
                }
            };
            Ok(data.groups.values().filter(wanted).cloned().collect())
        })
        .await
    }

    async fn snapshots(&self, episodes: &BTreeSet<String>) -> Call<Vec<Snapshot>> {
        if episodes.is_empty() {
            return Ok(vec![]);
        }
        self.call("ec2:DescribeSnapshots", episodes.len().to_string(), |data| {
            Ok(data.snapshots.iter().filter(|snapshot| episodes.contains(&snapshot.episode)).cloned().collect())
        })
        .await
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
            let mut interfaces = data.instances.values_mut().flat_map(|instance| &mut instance.interfaces);
            let Some(found) = interfaces.find(|found| found.id == *interface) else {
                return refusal(action, Fault::Refused, "InvalidNetworkInterfaceID.NotFound");
            };
            let old = std::mem::replace(&mut found.groups, groups.clone());
            data.trail(interface, old);
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
        self.call("ec2:CreateTags", format!("{resources:?}"), |data| {
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
        self.call("ec2:DeleteTags", format!("{resources:?}"), |data| {
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
        tags: &BTreeMap<String, String>,
    ) -> Call<BTreeMap<VolumeId, SnapshotId>> {
        self.call("ec2:CreateSnapshots", instance.to_string(), |data| {
            let volumes: Vec<VolumeId> = data.instances[instance].volumes.keys().cloned().collect();
            let episode = tags["ec2-isolation:episode"].clone();
            let set = volumes.into_iter().map(|volume| {
                let id: SnapshotId = format!("snap-{:x}", 0x10 + data.snapshots.len()).parse().unwrap();
                let labelled = tags.contains_key(LABEL);
                let (volume_id, episode) = (volume.clone(), episode.clone());
                let snapshot = Snapshot { id: id.clone(), volume: volume_id, episode, failed: false, labelled };
                data.snapshots.push(snapshot);
                (volume, id)
            });
            Ok(set.collect())
        })
        .await
    }

    async fn set_attribute(&self, instance: &InstanceId, attribute: Attribute) -> Call<()> {
        self.write_attribute(instance, attribute).await
    }

    async fn set_deletion(&self, instance: &InstanceId, devices: &BTreeMap<String, bool>) -> Call<()> {
        self.write_deletion(instance, devices).await
    }

    async fn detach_profile(&self, profile: &Profile) -> Call<()> {
        self.take_profile(profile).await
    }

    async fn attach_profile(&self, instance: &InstanceId, arn: &str) -> Call<()> {
        self.put_profile(instance, arn).await
    }

    async fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.enter_standby_of(group, instances).await
    }

    async fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.exit_standby_of(group, instances).await
    }
}

impl Records for World {
    fn name(&self) -> &str {
        &self.table
    }

    async fn read(&self) -> Call<Ledger> {
        self.call("dynamodb:Scan", String::new(), |data| {
            let intents = data.intents.iter().map(|(key, (intent, _))| (key.clone(), intent.clone()));
            Ok(Ledger { records: data.records.clone(), intents: intents.collect(), unreadable: BTreeMap::new() })
        })
        .await
    }

    async fn write_intent(&self, owner: &Owner, request_id: &str, desired: &Desired, _now: &str) -> Call<Intent> {
        self.call("dynamodb:UpdateItem", format!("intent {request_id}"), |data| {
            let new = Intent { request_id: request_id.to_owned(), desired: desired.clone(), kept: None };
            let (now, seen) = data.intents.entry(owner.digest()).or_insert_with(|| (new.clone(), BTreeSet::new()));
            if seen.insert(request_id.to_owned()) || now.request_id == request_id {
                *now = new;
            }
            Ok(now.clone())
        })
        .await
    }

    async fn write_kept(&self, owner: &Owner, reason: &str, _now: &str) -> Call<()> {
        self.call("dynamodb:UpdateItem", "kept".to_owned(), |data| {
            if let Some((intent, _)) = data.intents.get_mut(&owner.digest()) {
                intent.kept = Some(reason.to_owned());
            }
            Ok(())
        })
        .await
    }

    async fn record(&self, originals: &Originals<'_>) -> Call<Written> {
        self.call("dynamodb:PutItem", originals.instance.to_string(), |data| {
            let holder = match originals.prior {
                Prior::None => {
                    let free =
                        data.records.get(originals.instance).is_none_or(|record| record.state == State::Restored);
                    if free {
                        let record = Record {
                            instance: originals.instance.clone(),
                            owner: originals.owner.clone(),
                            state: State::Isolating,
                            vpc: originals.vpc.clone(),
                            isolation_group: originals.isolation_group.clone(),
                            isolation_groups: originals.groups(),
                            interfaces: originals.interfaces.clone(),
                            connections_cut: false,
                            recorded_at: originals.stamp.now.clone(),
                            snapshots: Snapshots::None,
                            protection: Protection::default(),
                            history: vec![originals.history()],
                        };
                        data.records.insert(originals.instance.clone(), record);
                        return Ok(Written::Done);
                    }
                    return Ok(Written::Lost);
                }
                Prior::Ours => originals.owner,
                Prior::Of(holder) => holder,
            };
            let Some(record) = data.held(holder, originals.instance) else { return Ok(Written::Lost) };
            record.owner = originals.owner.clone();
            record.history.push(originals.history());
            record.state = State::Isolating;
            record.isolation_group = originals.isolation_group.clone();
            record.isolation_groups.extend(originals.groups());
            for (interface, groups) in originals.interfaces {
                record.interfaces.entry(interface.clone()).or_insert_with(|| groups.clone());
            }
            Ok(Written::Done)
        })
        .await
    }

    async fn mark(&self, marking: &Marking<'_>) -> Call<Written> {
        let Marking { owner, instance, from, state, cut, .. } = *marking;
        self.call("dynamodb:UpdateItem", format!("{instance} {}", state.as_str()), |data| {
            let Some(record) = data.held(owner, instance).filter(|record| record.state == from) else {
                return Ok(Written::Lost);
            };
            record.state = state;
            record.history.push(marking.history());
            record.connections_cut = cut.unwrap_or(record.connections_cut);
            Ok(Written::Done)
        })
        .await
    }

    async fn request_snapshots(&self, owner: &Owner, instance: &InstanceId, _now: &str) -> Call<Written> {
        self.call("dynamodb:UpdateItem", format!("{instance} requested"), |data| {
            let Some(record) = data.held(owner, instance) else { return Ok(Written::Lost) };
            if record.snapshots != Snapshots::None {
                return Ok(Written::Lost);
            }
            record.snapshots = Snapshots::Requested;
            Ok(Written::Done)
        })
        .await
    }

    async fn save_snapshots(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        snapshots: &BTreeMap<VolumeId, SnapshotId>,
        _now: &str,
    ) -> Call<Written> {
        self.call("dynamodb:UpdateItem", format!("{instance} snapshots"), |data| {
            let Some(record) = data.held(owner, instance) else { return Ok(Written::Lost) };
            record.snapshots = Snapshots::Taken(snapshots.clone());
            Ok(Written::Done)
        })
        .await
    }

    async fn save_protection(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        prior: &Protection,
        _now: &str,
    ) -> Call<Written> {
        self.call("dynamodb:UpdateItem", format!("{instance} protection"), |data| {
            let Some(record) = data.held(owner, instance).filter(|record| record.state != State::Restoring) else {
                return Ok(Written::Lost);
            };
            let new = prior.clone().without(&record.protection);
            record.protection.attributes.extend(new.attributes);
            record.protection.volumes.extend(new.volumes);
            record.protection.profile = record.protection.profile.take().or(new.profile);
            record.protection.scaling_group = record.protection.scaling_group.take().or(new.scaling_group);
            Ok(Written::Done)
        })
        .await
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
        let mut data = self.data();
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
        let holder = self.instances.values().find(|instance| instance.interfaces.iter().any(|i| i.id == *interface));
        let (state, vpc) = holder.map_or((String::new(), None), |holder| (holder.state.clone(), holder.vpc.clone()));
        // As EC2: a group of another VPC has the same code as one that does not exist.
        if !groups.iter().all(|group| self.groups.get(group).is_some_and(|group| group.vpc == vpc)) {
            return refusal(action, Fault::Refused, "InvalidGroup.NotFound");
        }
        if matches!(state.as_str(), "pending" | "shutting-down" | "terminated") {
            return refusal(action, INCORRECT_STATE, "IncorrectInstanceState");
        }
        Ok(())
    }
}
