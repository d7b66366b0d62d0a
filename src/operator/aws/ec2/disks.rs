//! Volumes of snapshots on a forensic host, and copies of snapshots for another account.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    AttachmentLimitType, EbsNvmeSupport, Filter, Instance, InstanceType, InstanceTypeHypervisor, InstanceTypeInfo,
    OperationType, PermissionGroup, ResourceType, SnapshotAttributeName, TagSpecification, VolumeType,
};

use crate::aws::ec2::change::tag_list;
use crate::aws::ec2::{Ec2, id};
use crate::aws::error::sent;
use crate::model::{InstanceId, SnapshotId, VolumeId};
use crate::operator::ports::disks::{Bench, Copies, Disks, NewVolume};
use crate::ports::{Call, CallError};

/// What is gone, or detached, already.
fn done_or(result: Call<()>, codes: &[&str]) -> Call<()> {
    match result {
        Err(CallError { code, .. }) if codes.contains(&code.as_str()) => Ok(()),
        other => other,
    }
}

fn tagged(kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(tag_list(tags))).build()
}

impl Disks for Ec2 {
    async fn bench(&self, instance: &InstanceId) -> Call<Option<Bench>> {
        let action = "ec2:DescribeInstances";
        let by_id = Filter::builder().name("instance-id").values(instance.as_str()).build();
        let output = sent(action, self.client.describe_instances().filters(by_id).send()).await?;
        let Some(found) = output.reservations().iter().flat_map(|found| found.instances()).next() else {
            return Ok(None);
        };
        let kind = found.instance_type().map(InstanceType::as_str).unwrap_or_default();
        let by_type = Filter::builder().name("instance-type").values(kind).build();
        let output = sent("ec2:DescribeInstanceTypes", self.client.describe_instance_types().filters(by_type).send());
        let output = output.await?;
        let info = output.instance_types().first();
        let state = found.state().and_then(|state| state.name());
        let devices = found.block_device_mappings().iter().filter_map(|mapping| {
            let volume = mapping.ebs()?.volume_id()?.parse().ok()?;
            Some((mapping.device_name()?.to_owned(), volume))
        });
        let zone = found.placement().and_then(|placement| placement.availability_zone());
        Ok(Some(Bench {
            id: id(action, "instance", found.instance_id())?,
            state: state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
            zone: zone.unwrap_or_default().to_owned(),
            kind: kind.to_owned(),
            devices: devices.collect(),
            is_nvme: info.is_some_and(is_nvme),
            room: info.and_then(|info| room(info, found)),
        }))
    }

    async fn make_volume(&self, new: &NewVolume<'_>) -> Call<VolumeId> {
        let action = "ec2:CreateVolume";
        let request = self
            .client
            .create_volume()
            .snapshot_id(new.snapshot.as_str())
            .availability_zone(new.zone)
            .volume_type(VolumeType::Gp3)
            .set_encrypted(new.key.map(|_| true))
            .set_kms_key_id(new.key.map(str::to_owned))
            .client_token(new.token)
            .tag_specifications(tagged(ResourceType::Volume, new.tags));
        id(action, "volume", sent(action, request.send()).await?.volume_id())
    }

    async fn attach(&self, volume: &VolumeId, bench: &InstanceId, device: &str) -> Call<()> {
        let request = self.client.attach_volume().volume_id(volume.as_str()).instance_id(bench.as_str());
        sent("ec2:AttachVolume", request.device(device).send()).await.map(drop)
    }

    async fn detach(&self, volume: &VolumeId) -> Call<()> {
        let request = self.client.detach_volume().volume_id(volume.as_str());
        let result = sent("ec2:DetachVolume", request.send()).await.map(drop);
        // `IncorrectState`: it is available (EC2 error codes).
        done_or(result, &["InvalidVolume.NotFound", "InvalidAttachment.NotFound", "IncorrectState"])
    }

    async fn delete_volume(&self, volume: &VolumeId) -> Call<()> {
        let request = self.client.delete_volume().volume_id(volume.as_str());
        done_or(sent("ec2:DeleteVolume", request.send()).await.map(drop), &["InvalidVolume.NotFound"])
    }
}

fn is_nvme(info: &InstanceTypeInfo) -> bool {
    let support = info.ebs_info().and_then(|ebs| ebs.nvme_support());
    info.hypervisor() == Some(&InstanceTypeHypervisor::Nitro)
        || info.bare_metal() == Some(true)
        || support == Some(&EbsNvmeSupport::Required)
}

/// The limit is for volumes alone, or shared with interfaces and NVMe instance store volumes (EC2 User Guide, "EBS volume limits").
fn room(info: &InstanceTypeInfo, instance: &Instance) -> Option<usize> {
    let ebs = info.ebs_info()?;
    let most = usize::try_from(ebs.maximum_ebs_attachments()?).ok()?;
    let volumes = instance.block_device_mappings().len();
    let is_shared = ebs.attachment_limit_type() != Some(&AttachmentLimitType::Dedicated);
    let stores = info.instance_storage_info().into_iter().flat_map(|store| store.disks());
    let stores: usize = stores.filter_map(|disks| usize::try_from(disks.count()?).ok()).sum();
    let others = if is_shared { instance.network_interfaces().len() + stores } else { 0 };
    Some(most.saturating_sub(volumes + others))
}

impl Copies for Ec2 {
    async fn copy_snapshot(&self, source: &SnapshotId, key: &str, tags: &BTreeMap<String, String>) -> Call<SnapshotId> {
        let action = "ec2:CopySnapshot";
        let region = self.client.config().region().map(ToString::to_string);
        let request = self
            .client
            .copy_snapshot()
            .source_snapshot_id(source.as_str())
            .set_source_region(region)
            .encrypted(true)
            .kms_key_id(key)
            .description(format!("Copy of {source}, evidence"))
            .tag_specifications(tagged(ResourceType::Snapshot, tags));
        id(action, "snapshot", sent(action, request.send()).await?.snapshot_id())
    }

    async fn share(&self, snapshot: &SnapshotId, account: &str) -> Call<()> {
        let request = self
            .client
            .modify_snapshot_attribute()
            .snapshot_id(snapshot.as_str())
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .operation_type(OperationType::Add)
            .user_ids(account);
        sent("ec2:ModifySnapshotAttribute", request.send()).await.map(drop)
    }

    async fn shared_with(&self, snapshot: &SnapshotId) -> Call<BTreeSet<String>> {
        let request = self.client.describe_snapshot_attribute().snapshot_id(snapshot.as_str());
        let request = request.attribute(SnapshotAttributeName::CreateVolumePermission);
        let output = sent("ec2:DescribeSnapshotAttribute", request.send()).await?;
        let accounts = output.create_volume_permissions().iter().filter_map(|permission| {
            let is_public = permission.group() == Some(&PermissionGroup::All);
            permission.user_id().map(str::to_owned).or_else(|| is_public.then(|| "all".to_owned()))
        });
        Ok(accounts.collect())
    }
}
