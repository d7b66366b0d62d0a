//! Every change is made twice, as when its first answer was lost and the SDK sent it again: what counts is the second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::cloudformation::handler::handle;
use ec2_isolation::model::{
    Attributes, Branch, Group, Groups, Instance, InstanceId, Intent, Interface, InterfaceId, Lease, Lock, Member,
    Owner, Profile, Snapshot, SnapshotId, Time, VolumeId,
};
use ec2_isolation::plan::{Change as Protecting, Originals};
use ec2_isolation::ports::{
    Asked, Call, Change, Entry, GroupQuery, Items, Look, Marking, Ports, Records, Stamp, Written,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::world::World;
use crate::{event, fleet, invocation, isolated, with};

struct Twice(World);

impl Look for Twice {
    async fn instances(&self, ids: &BTreeSet<InstanceId>) -> Call<Vec<Instance>> {
        self.0.instances(ids).await
    }

    async fn interfaces(&self, ids: &BTreeSet<InterfaceId>) -> Call<Vec<Interface>> {
        self.0.interfaces(ids).await
    }

    async fn branches(&self, trunks: &BTreeSet<InterfaceId>) -> Call<Vec<Branch>> {
        self.0.branches(trunks).await
    }

    async fn groups(&self, query: &GroupQuery) -> Call<Vec<Group>> {
        self.0.groups(query).await
    }

    async fn snapshots(&self, episodes: &BTreeSet<String>) -> Call<Vec<Snapshot>> {
        self.0.snapshots(episodes).await
    }

    async fn snapshots_by_id(&self, ids: &BTreeSet<SnapshotId>) -> Call<Vec<Snapshot>> {
        self.0.snapshots_by_id(ids).await
    }

    async fn locks(&self, ids: &BTreeSet<SnapshotId>) -> Call<BTreeMap<SnapshotId, Lock>> {
        self.0.locks(ids).await
    }

    async fn volume_tags(&self, ids: &BTreeSet<VolumeId>) -> Call<BTreeMap<VolumeId, BTreeMap<String, String>>> {
        self.0.volume_tags(ids).await
    }

    async fn attributes(&self, instance: &InstanceId) -> Call<Option<Attributes>> {
        self.0.attributes(instance).await
    }

    async fn profiles(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Profile>> {
        self.0.profiles(ids).await
    }

    async fn members(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Member>> {
        self.0.members(ids).await
    }
}

impl Change for Twice {
    async fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let _ = self.0.set_groups(interface, groups).await;
        self.0.set_groups(interface, groups).await
    }

    async fn tag(&self, resources: &BTreeSet<String>, tags: &BTreeMap<String, String>) -> Call<()> {
        let _ = self.0.tag(resources, tags).await;
        self.0.tag(resources, tags).await
    }

    async fn untag(&self, resources: &BTreeSet<String>, keys: &BTreeSet<String>) -> Call<()> {
        let _ = self.0.untag(resources, keys).await;
        self.0.untag(resources, keys).await
    }

    async fn may_set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        self.0.may_set_groups(interface, groups).await
    }

    /// The one call that the SDK never sends again.
    async fn take_snapshots(
        &self,
        instance: &InstanceId,
        without: &BTreeMap<VolumeId, String>,
        tags: &BTreeMap<String, String>,
    ) -> Call<BTreeMap<VolumeId, SnapshotId>> {
        self.0.take_snapshots(instance, without, tags).await
    }

    async fn lock_snapshot(&self, snapshot: &SnapshotId, days: u64) -> Call<()> {
        let _ = self.0.lock_snapshot(snapshot, days).await;
        self.0.lock_snapshot(snapshot, days).await
    }

    async fn protect(&self, instance: &InstanceId, change: &Protecting) -> Call<()> {
        let _ = self.0.protect(instance, change).await;
        self.0.protect(instance, change).await
    }

    async fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        let _ = self.0.enter_standby(group, instances).await;
        self.0.enter_standby(group, instances).await
    }

    async fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        let _ = self.0.exit_standby(group, instances).await;
        self.0.exit_standby(group, instances).await
    }
}

impl Records for Twice {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn read(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> Call<Items> {
        self.0.read(owner, ids).await
    }

    async fn incidents(&self, owner: Option<&Owner>) -> Call<Items> {
        self.0.incidents(owner).await
    }

    async fn open(&self, owner: &Owner) -> Call<()> {
        let _ = self.0.open(owner).await;
        self.0.open(owner).await
    }

    async fn write_intent(&self, asked: &Asked<'_>, now: Time) -> Call<Intent> {
        let _ = self.0.write_intent(asked, now).await;
        self.0.write_intent(asked, now).await
    }

    async fn mend(&self, owner: &Owner, known: Option<&BTreeSet<InstanceId>>) -> Call<Written> {
        let first = self.0.mend(owner, known).await;
        let _ = self.0.mend(owner, known).await;
        first
    }

    async fn write_kept(&self, asked: &Asked<'_>, reason: &str, now: Time) -> Call<()> {
        let _ = self.0.write_kept(asked, reason, now).await;
        self.0.write_kept(asked, reason, now).await
    }

    async fn release(&self, owner: &Owner, request_id: &str, ids: &BTreeSet<InstanceId>, is_over: bool) -> Call<()> {
        let _ = self.0.release(owner, request_id, ids, is_over).await;
        self.0.release(owner, request_id, ids, is_over).await
    }

    async fn hold(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> Call<()> {
        let _ = self.0.hold(owner, ids).await;
        self.0.hold(owner, ids).await
    }

    async fn record(
        &self,
        owner: &Owner,
        request_id: &str,
        originals: &[(Originals, Lease)],
        stamp: &Stamp<'_>,
    ) -> Vec<Call<Written>> {
        let _ = self.0.record(owner, request_id, originals, stamp).await;
        self.0.record(owner, request_id, originals, stamp).await
    }

    async fn mark(&self, marking: &Marking<'_>) -> Call<Written> {
        let _ = self.0.mark(marking).await;
        self.0.mark(marking).await
    }

    async fn enter(&self, owner: &Owner, instance: &InstanceId, entry: Entry<'_>, stamp: &Stamp<'_>) -> Call<Written> {
        let _ = self.0.enter(owner, instance, entry, stamp).await;
        self.0.enter(owner, instance, entry, stamp).await
    }
}

async fn succeeds(world: &World, event: Value) {
    let ports = Ok(Arc::new(Ports { ec2: Twice(world.clone()), records: Twice(world.clone()), stacks: world.clone() }));
    handle(&ports, &Handle::current(), event, &invocation(), |_, _| world.clone()).await.unwrap();
    let answer = world.data().answers.last().unwrap().clone();
    assert_eq!(answer.status, Status::Success, "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_made_twice_come_to_the_same() {
    let world = fleet();
    world.hold_against();
    let start = (world.cards(), world.protections());
    succeeds(&world, with("create", "DetachInstanceProfile", json!("true"))).await;
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    world.set_status("UPDATE_IN_PROGRESS");
    succeeds(&world, with("update", "OnRemoval", json!("Restore"))).await;
    assert_eq!(isolated(&world), ["eni-0b", "eni-0c"]);
    world.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&world, with("delete", "Rerun", json!("rolls back"))).await;
    assert_eq!(isolated(&world), ["eni-0b", "eni-0c"]);
    world.set_status("DELETE_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!((world.cards(), world.protections()), start);
    assert_eq!(world.data().violations, [""; 0]);
    assert_eq!(world.count("ec2:CreateSnapshots"), 3);
}
