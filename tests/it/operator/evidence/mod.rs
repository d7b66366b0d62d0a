//! The snapshots of an incident as evidence: volumes on the forensic host and away again, copies for another account, the manifest.

mod attach;
mod manifest;
mod mount;
mod remove;
mod share;

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::model::{InstanceId, SnapshotId, VolumeId};
use ec2_isolation::operator::{Attached, Trouble, VolumeOrder};

use super::{ALL, by_table, kept, named, operator};
use crate::world::World;
use crate::{A, B};

/// A forensic host that a person names.
pub(super) const HOST: &str = "i-0f0e";

/// A and B, isolated, each with a volume and its snapshot; and a forensic host.
pub(super) async fn isolated() -> World {
    let world = kept().await;
    world.add_bench(HOST, Some(20));
    world
}

pub(super) async fn order(world: &World, only: &BTreeSet<InstanceId>) -> Result<VolumeOrder, Trouble> {
    let program = operator(world);
    let incident = program.incident(&by_table()).await?;
    program.volume_order(incident, only, Some(&HOST.parse().unwrap())).await
}

async fn attach(world: &World) -> Attached {
    let order = order(world, &ALL).await.unwrap();
    operator(world).make_volumes(&order, &|_| ()).await.unwrap()
}

fn snapshot_of(world: &World, instance: &str) -> SnapshotId {
    let data = world.data();
    data.records[&instance.parse().unwrap()].snapshots.taken.values().next().unwrap().clone()
}

/// Where each volume is, by the snapshot that it was made of.
fn places(world: &World) -> BTreeMap<SnapshotId, Option<(String, String)>> {
    let data = world.data();
    let of = |volume: &ec2_isolation::operator::ports::VolumeDetails| {
        let at = volume.attachment.as_ref().filter(|at| at.state == "attached");
        (volume.snapshot.clone().unwrap(), at.map(|at| (at.instance.to_string(), at.device.clone())))
    };
    data.disks.volumes.values().map(of).collect()
}

fn history(world: &World, instance: &str) -> Vec<String> {
    world.data().records[&instance.parse().unwrap()].history.clone()
}

fn made(world: &World) -> Vec<VolumeId> {
    world.data().disks.volumes.keys().cloned().collect()
}

/// What `--remove` would take from the host.
pub(super) async fn removal(world: &World) -> ec2_isolation::operator::Removal {
    remove::removal(world, Some(HOST)).await
}

pub(super) async fn share_order(world: &World) -> ec2_isolation::operator::ShareOrder {
    share::share_order(world, share::ACCOUNT, share::OWN).await.unwrap()
}

/// Whether it died of it: what is begun in a process of its own that dies at its call of this number, counted from 1, or right after it.
async fn dies<T>(world: &World, call: usize, after: bool, work: impl AsyncFnOnce(&World) -> T) -> bool {
    let process = world.process();
    let trouble = if after { crate::world::Trouble::DiesAfter } else { crate::world::Trouble::Dies };
    let at = world.data().calls.len() + call;
    world.data().troubles.insert(at, trouble);
    let died = tokio::select! {
        () = process.death() => true,
        _ = work(&process) => false,
    };
    world.data().troubles.clear();
    died
}
