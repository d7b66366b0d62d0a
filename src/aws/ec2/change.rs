//! What is changed in EC2.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, EbsInstanceBlockDeviceSpecification, IamInstanceProfileSpecification,
    InstanceBlockDeviceMappingSpecification, InstanceMetadataEndpointState, InstanceSpecification, LockMode,
    ResourceType, Tag, TagSpecification,
};

use super::{Ec2, id};
use crate::aws::error::{garbled, sent};
use crate::model::{Attribute, GroupId, Groups, InstanceId, InterfaceId, Profile, SnapshotId, VolumeId};
use crate::plan::Change as Protecting;
use crate::ports::{Call, Change};

/// `CreateSnapshots` excludes at most 40 data volumes (EC2 API reference); a second snapshot of the others beats a refusal.
const EXCLUDED_AT_ONCE: usize = 40;
/// Where AMIs have their root volume (EC2 User Guide, "Device names for volumes"). A root volume is excluded as such: among
/// the data volumes it is refused, which is what becomes of one that an AMI has elsewhere.
const ROOT_DEVICES: [&str; 2] = ["/dev/sda1", "/dev/xvda"];

const MODIFY_INSTANCE: &str = "ec2:ModifyInstanceAttribute";
const MODIFY_INTERFACE: &str = "ec2:ModifyNetworkInterfaceAttribute";

pub(crate) fn tag_list(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

impl Change for Ec2 {
    async fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        // The instance-wide call is refused with several interfaces.
        let request = self.changes.modify_network_interface_attribute().network_interface_id(interface.as_str());
        let request = request.set_groups(Some(groups.iter().map(GroupId::to_string).collect()));
        sent(MODIFY_INTERFACE, request.send()).await.map(drop)
    }

    async fn may_set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let request = self.changes.modify_network_interface_attribute().network_interface_id(interface.as_str());
        let request = request.set_groups(Some(groups.iter().map(GroupId::to_string).collect())).dry_run(true);
        match sent(MODIFY_INTERFACE, request.send()).await {
            Err(error) if error.code == "DryRunOperation" => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(garbled(MODIFY_INTERFACE, "a dry run was carried out")),
        }
    }

    async fn tag(&self, resources: &BTreeSet<String>, tags: &BTreeMap<String, String>) -> Call<()> {
        let resources = resources.iter().cloned().collect();
        let request = self.changes.create_tags().set_resources(Some(resources)).set_tags(Some(tag_list(tags)));
        sent("ec2:CreateTags", request.send()).await.map(drop)
    }

    async fn untag(&self, resources: &BTreeSet<String>, keys: &BTreeSet<String>) -> Call<()> {
        let keys = keys.iter().map(|key| Tag::builder().key(key).build()).collect();
        let resources = resources.iter().cloned().collect();
        let request = self.changes.delete_tags().set_resources(Some(resources)).set_tags(Some(keys));
        sent("ec2:DeleteTags", request.send()).await.map(drop)
    }

    async fn take_snapshots(
        &self,
        instance: &InstanceId,
        without: &BTreeMap<VolumeId, String>,
        tags: &BTreeMap<String, String>,
    ) -> Call<BTreeMap<VolumeId, SnapshotId>> {
        let action = "ec2:CreateSnapshots";
        let (root, data): (Vec<_>, Vec<_>) =
            without.iter().partition(|(_, device)| ROOT_DEVICES.contains(&device.as_str()));
        let data = data.into_iter().take(EXCLUDED_AT_ONCE).map(|(volume, _)| volume.to_string()).collect();
        let spec = InstanceSpecification::builder()
            .instance_id(instance.as_str())
            .set_exclude_boot_volume((!root.is_empty()).then_some(true))
            .set_exclude_data_volume_ids(Some(data))
            .build();
        let tags =
            TagSpecification::builder().resource_type(ResourceType::Snapshot).set_tags(Some(tag_list(tags))).build();
        let request = self
            .changes
            .create_snapshots()
            .instance_specification(spec)
            .description(format!("{instance}, taken after its isolation"))
            // There is no client token: a repeated call makes a second set. The caller looks for the first one before it asks again.
            .tag_specifications(tags);
        let output = sent(action, request.send()).await?;
        let pairs = output
            .snapshots()
            .iter()
            .map(|info| Ok((id(action, "volume", info.volume_id())?, id(action, "snapshot", info.snapshot_id())?)));
        pairs.collect()
    }

    async fn lock_snapshot(&self, snapshot: &SnapshotId, days: u64) -> Call<()> {
        let request = self.changes.lock_snapshot().snapshot_id(snapshot.as_str()).lock_mode(LockMode::Governance);
        let days = i32::try_from(days).unwrap_or(i32::MAX);
        sent("ec2:LockSnapshot", request.lock_duration(days).send()).await.map(drop)
    }

    async fn protect(&self, instance: &InstanceId, change: &Protecting) -> Call<()> {
        let alone = || BTreeSet::from([instance.clone()]);
        match change {
            Protecting::Attribute(attribute) => self.set_attribute(instance, *attribute).await,
            Protecting::Volumes { volumes, go_with_it } => self.set_deletion(instance, volumes, *go_with_it).await,
            Protecting::EnterStandby { group } => self.enter_standby(group, &alone()).await,
            Protecting::ExitStandby { group } => self.exit_standby(group, &alone()).await,
            Protecting::DetachProfile(profile) => self.detach_profile(profile).await,
            Protecting::AttachProfile { arn } => self.attach_profile(instance, arn).await,
            Protecting::MetadataService { is_on } => self.set_metadata_service(instance, *is_on).await,
        }
    }

    async fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.scaling.enter_standby(group, instances).await
    }

    async fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        self.scaling.exit_standby(group, instances).await
    }
}

impl Ec2 {
    async fn set_attribute(&self, instance: &InstanceId, attribute: Attribute) -> Call<()> {
        let flag = |on| AttributeBooleanValue::builder().value(on).build();
        let request = self.changes.modify_instance_attribute().instance_id(instance.as_str());
        // At most one attribute a call.
        let request = match attribute {
            Attribute::TerminationProtection(on) => request.disable_api_termination(flag(on)),
            Attribute::StopProtection(on) => request.disable_api_stop(flag(on)),
            Attribute::ShutdownBehaviour(behaviour) => request
                .instance_initiated_shutdown_behavior(AttributeValue::builder().value(behaviour.as_str()).build()),
        };
        sent(MODIFY_INSTANCE, request.send()).await.map(drop)
    }

    async fn set_deletion(
        &self,
        instance: &InstanceId,
        volumes: &BTreeMap<VolumeId, String>,
        delete: bool,
    ) -> Call<()> {
        let mappings = volumes.values().map(|device| {
            let ebs = EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(delete).build();
            InstanceBlockDeviceMappingSpecification::builder().device_name(device).ebs(ebs).build()
        });
        let request = self.changes.modify_instance_attribute().instance_id(instance.as_str());
        let request = request.set_block_device_mappings(Some(mappings.collect()));
        sent(MODIFY_INSTANCE, request.send()).await.map(drop)
    }

    /// Whether tokens are required stays as it is: where the account enforces them, naming `optional` again is refused (EC2 User
    /// Guide, "Modify instance metadata options for existing instances").
    async fn set_metadata_service(&self, instance: &InstanceId, is_on: bool) -> Call<()> {
        let endpoint =
            if is_on { InstanceMetadataEndpointState::Enabled } else { InstanceMetadataEndpointState::Disabled };
        let request = self.changes.modify_instance_metadata_options().instance_id(instance.as_str());
        sent("ec2:ModifyInstanceMetadataOptions", request.http_endpoint(endpoint).send()).await.map(drop)
    }

    async fn detach_profile(&self, profile: &Profile) -> Call<()> {
        let request = self.changes.disassociate_iam_instance_profile().association_id(&profile.association);
        sent("ec2:DisassociateIamInstanceProfile", request.send()).await.map(drop)
    }

    async fn attach_profile(&self, instance: &InstanceId, arn: &str) -> Call<()> {
        let profile = IamInstanceProfileSpecification::builder().arn(arn).build();
        let request = self.changes.associate_iam_instance_profile().instance_id(instance.as_str());
        let request = request.iam_instance_profile(profile);
        sent("ec2:AssociateIamInstanceProfile", request.send()).await.map(drop)
    }
}
