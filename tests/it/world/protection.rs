//! What protects the instances of the world, with EC2's refusals and its trailing reads.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::model::{Attribute, Attributes, InstanceId, ShutdownBehaviour, VolumeId};
use ec2_isolation::ports::{Call, Fault};

use super::ports::{INCORRECT_STATE, refusal};
use super::{Data, World};

const MODIFY: &str = "ec2:ModifyInstanceAttribute";
const MODIFY_METADATA: &str = "ec2:ModifyInstanceMetadataOptions";

/// Nothing protects a new instance.
pub const UNPROTECTED: Attributes = [
    Attribute::TerminationProtection(false),
    Attribute::StopProtection(false),
    Attribute::ShutdownBehaviour(ShutdownBehaviour::Terminate),
];

#[derive(Debug, Default)]
pub struct Protections {
    /// Of all instances that are not [`UNPROTECTED`].
    pub attributes: BTreeMap<InstanceId, Attributes>,
    /// Attributes that EC2 lets nobody set, by their names: `termination-protection` of a Spot instance.
    pub unsupported: BTreeSet<(InstanceId, &'static str)>,
    /// Instances whose metadata options a declarative policy of the organisation sets.
    pub metadata_policy: BTreeSet<InstanceId>,
    /// EC2 applies no change of metadata options for now.
    pub is_metadata_slow: bool,
    /// What reads still show, and how often: less often than of an interface, which a restore reads twice a look.
    stale_attributes: BTreeMap<(InstanceId, &'static str), (Attribute, u32)>,
    stale_volumes: BTreeMap<VolumeId, (bool, u32)>,
    /// EC2 is still about to change it.
    pending_metadata: BTreeMap<InstanceId, u32>,
    /// What was when a test said so: changes are held against it.
    originals: BTreeMap<InstanceId, (Attributes, BTreeSet<VolumeId>, bool)>,
}

impl Protections {
    fn of(&self, instance: &InstanceId) -> Attributes {
        self.attributes.get(instance).copied().unwrap_or(UNPROTECTED)
    }
}

impl World {
    /// What protects each instance, as it really is.
    pub fn protections(&self) -> BTreeMap<String, Vec<String>> {
        let membership = self.membership();
        let data = self.data();
        let each = data.instances.iter().map(|(id, instance)| {
            let attributes = data.protections.of(id).map(|attribute| attribute.to_string());
            let volumes = instance.volumes.iter().filter(|(_, volume)| volume.delete_on_termination);
            let volumes = volumes.map(|(id, _)| format!("{id} is deleted on termination"));
            let metadata = (!instance.has_metadata_service).then(|| "metadata service off".to_owned());
            let membership = membership.get(id.as_str()).cloned();
            let profile = data.profiles.arn(id).map(str::to_owned);
            let all = attributes.into_iter().chain(volumes).chain(metadata).chain(membership).chain(profile);
            (id.to_string(), all.collect())
        });
        each.collect()
    }

    pub(super) async fn read_attribute(&self, instance: &InstanceId, n: usize) -> Call<Attribute> {
        let (action, key) = ("ec2:DescribeInstanceAttribute", UNPROTECTED[n].key());
        self.call(action, format!("{instance} {key}"), |data| {
            if !data.instances.contains_key(instance) || data.hides(instance.as_str()) {
                return refusal(action, Fault::Refused, "InvalidInstanceID.NotFound");
            }
            let now = data.protections.of(instance)[n];
            let stale = data.protections.stale_attributes.get_mut(&(instance.clone(), key));
            Ok(stale.filter(|(_, left)| *left > 0).map_or(now, |(old, left)| {
                *left -= 1;
                *old
            }))
        })
        .await
    }

    pub(super) async fn write_attribute(&self, instance: &InstanceId, attribute: Attribute) -> Call<()> {
        self.call(MODIFY, format!("{instance} {attribute}"), |data| {
            data.may_modify(instance)?;
            let key = attribute.key();
            if data.protections.unsupported.contains(&(instance.clone(), key)) {
                return refusal(MODIFY, Fault::Refused, "UnsupportedOperation");
            }
            data.hold_attribute_against_records(instance, attribute);
            let mut attributes = data.protections.of(instance);
            let slot = attributes.iter_mut().find(|slot| slot.key() == key).unwrap();
            let old = std::mem::replace(slot, attribute);
            data.protections.stale_attributes.insert((instance.clone(), key), (old, data.stale_reads.div_ceil(3)));
            data.protections.attributes.insert(instance.clone(), attributes);
            Ok(())
        })
        .await
    }

    pub(super) async fn write_deletion(&self, instance: &InstanceId, devices: &BTreeMap<String, bool>) -> Call<()> {
        self.call(MODIFY, format!("{instance} {devices:?}"), |data| {
            data.may_modify(instance)?;
            let mut volumes = data.instances[instance].volumes.clone();
            for (device, delete) in devices {
                let Some((id, volume)) = volumes.iter_mut().find(|(_, volume)| volume.device == *device) else {
                    return refusal(MODIFY, Fault::Refused, "InvalidInstanceAttributeValue");
                };
                data.hold_volume_against_records(instance, id, *delete);
                let old = std::mem::replace(&mut volume.delete_on_termination, *delete);
                data.protections.stale_volumes.insert(id.clone(), (old, data.stale_reads.div_ceil(3)));
            }
            data.instances.get_mut(instance).unwrap().volumes = volumes;
            Ok(())
        })
        .await
    }
}

impl World {
    pub(super) async fn write_metadata_service(&self, instance: &InstanceId, is_on: bool) -> Call<()> {
        self.call(MODIFY_METADATA, format!("{instance} {is_on}"), |data| {
            match data.instances.get(instance).map(|instance| instance.state.as_str()) {
                None => return refusal(MODIFY_METADATA, Fault::Refused, "InvalidInstanceID.NotFound"),
                Some("shutting-down" | "terminated") => {
                    return refusal(MODIFY_METADATA, INCORRECT_STATE, "IncorrectInstanceState");
                }
                Some(_) => {}
            }
            if data.protections.metadata_policy.contains(instance) {
                return refusal(MODIFY_METADATA, Fault::Refused, "UnsupportedOperation");
            }
            data.hold_metadata_against_records(instance, is_on);
            let pending = data.stale_reads.div_ceil(3);
            let held = data.instances.get_mut(instance).unwrap();
            if std::mem::replace(&mut held.has_metadata_service, is_on) != is_on {
                data.protections.pending_metadata.insert(instance.clone(), pending);
            }
            Ok(())
        })
        .await
    }
}

impl Data {
    /// What DescribeInstances shows while a change is pending: that it is, or a stale read.
    pub(super) fn show_metadata_service(&mut self, instance: &mut ec2_isolation::model::Instance) {
        instance.is_metadata_pending = self.protections.is_metadata_slow;
        if let Some(left) = self.protections.pending_metadata.get_mut(&instance.id).filter(|left| **left > 0) {
            *left -= 1;
            if *left % 2 == 0 {
                instance.is_metadata_pending = true;
            } else {
                instance.has_metadata_service = !instance.has_metadata_service;
            }
        }
    }

    fn hold_metadata_against_records(&mut self, instance: &InstanceId, is_on: bool) {
        let Some((_, _, was_on)) = self.protections.originals.get(instance) else { return };
        let is_recorded = self.records.get(instance).is_some_and(|record| record.protection.metadata_service);
        if is_on != *was_on && !is_recorded {
            self.violations.push(format!("{instance}: its metadata service was changed without a record"));
        }
    }

    fn may_modify(&self, instance: &InstanceId) -> Call<()> {
        match self.instances.get(instance).map(|instance| instance.state.as_str()) {
            None => refusal(MODIFY, Fault::Refused, "InvalidInstanceID.NotFound"),
            Some("shutting-down" | "terminated") => refusal(MODIFY, INCORRECT_STATE, "IncorrectInstanceState"),
            Some(_) => Ok(()),
        }
    }

    /// What describe calls show of the volumes of an instance.
    pub(super) fn show_volumes(&mut self, instance: &mut ec2_isolation::model::Instance) {
        instance.volumes.retain(|id, _| !self.hides(id.as_str()));
        for (id, volume) in &mut instance.volumes {
            if let Some((old, left)) = self.protections.stale_volumes.get_mut(id).filter(|(_, left)| *left > 0) {
                *left -= 1;
                volume.delete_on_termination = *old;
            }
        }
    }

    pub(super) fn calm_protections(&mut self) {
        self.protections.stale_attributes.clear();
        self.protections.stale_volumes.clear();
        self.protections.pending_metadata.clear();
        self.profiles.calm();
    }

    pub(super) fn hold_protections(&mut self) {
        let originals = self.instances.iter().map(|(id, instance)| {
            let deleted = instance.volumes.iter().filter(|(_, volume)| volume.delete_on_termination);
            let volumes = deleted.map(|(id, _)| id.clone()).collect();
            (id.clone(), (self.protections.of(id), volumes, instance.has_metadata_service))
        });
        self.protections.originals = originals.collect();
    }

    fn hold_attribute_against_records(&mut self, instance: &InstanceId, attribute: Attribute) {
        let Some((originals, ..)) = self.protections.originals.get(instance) else { return };
        let original = originals.iter().find(|original| original.key() == attribute.key()).unwrap();
        let recorded = self.records.get(instance).map(|record| &record.protection.attributes);
        if attribute != *original && !recorded.is_some_and(|recorded| recorded.contains(original)) {
            self.violations.push(format!("{instance}: {attribute} was set while {recorded:?} was recorded of it"));
        }
    }

    fn hold_volume_against_records(&mut self, instance: &InstanceId, volume: &VolumeId, delete: bool) {
        let Some((_, originals, _)) = self.protections.originals.get(instance) else { return };
        let is_recorded =
            self.records.get(instance).is_some_and(|record| record.protection.volumes.contains_key(volume));
        if delete != originals.contains(volume) && !is_recorded {
            self.violations.push(format!("{instance}: {volume} was changed without a record"));
        }
    }
}
