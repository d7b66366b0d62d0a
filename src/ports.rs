//! What the core asks of the world: a few traits with the verbs we call, our types in and out.
//!
//! Adapters implement them for AWS, fakes for the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::model::{
    Attributes, Branch, Desired, Group, GroupId, Groups, Instance, InstanceId, Intent, Interface, InterfaceId, Lease,
    Lock, Member, Owner, Profile, Protection, Record, ShowGroups, Snapshot, SnapshotId, State, Time, VolumeId, VpcId,
    comma_list,
};
use crate::plan::{Change as Protecting, Cut, Originals, Prior};

pub use crate::model::{CallError, Fault};

pub type Call<T> = Result<T, CallError>;

/// The ports of one process.
#[derive(Debug, Clone)]
pub struct Ports<E, R, S> {
    pub ec2: E,
    pub records: R,
    /// Whether what is held may be released.
    pub stacks: S,
}

/// A conditional write that found something else than it expected: an outcome, not a failure. The next look sees the winner's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Done,
    Lost,
    /// Another request of the owner has said since what it wants.
    Overtaken,
}

/// Which security groups to read. Every group of a VPC is never read: an account may have thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupQuery {
    /// Those of the VPC that carry [`crate::model::ROLE_TAG`].
    Marked(VpcId),
    /// These; what does not exist is left out.
    Ids(BTreeSet<GroupId>),
    /// Those of ours that CloudFormation's own tag says this stack made, by its id.
    OfStack(String),
    /// Those of a stack of this name, if its id is no longer known.
    OfStackNamed(String),
    /// Those of every stack of the Region that carry [`crate::model::ROLE_TAG`].
    Ours,
}

/// EC2 with its Auto Scaling, reading. What does not exist is left out of the result.
pub trait Look: Send + Sync {
    fn instances(&self, ids: &BTreeSet<InstanceId>) -> impl Future<Output = Call<Vec<Instance>>> + Send;
    fn interfaces(&self, ids: &BTreeSet<InterfaceId>) -> impl Future<Output = Call<Vec<Interface>>> + Send;
    /// The branch interfaces of these trunks.
    fn branches(&self, trunks: &BTreeSet<InterfaceId>) -> impl Future<Output = Call<Vec<Branch>>> + Send;
    fn groups(&self, query: &GroupQuery) -> impl Future<Output = Call<Vec<Group>>> + Send;
    /// Snapshots of this account that carry one of these episode tags.
    fn snapshots(&self, episodes: &BTreeSet<String>) -> impl Future<Output = Call<Vec<Snapshot>>> + Send;
    /// Those of these snapshots that there are.
    fn snapshots_by_id(&self, ids: &BTreeSet<SnapshotId>) -> impl Future<Output = Call<Vec<Snapshot>>> + Send;
    /// Those of these snapshots that are locked, and how.
    fn locks(&self, ids: &BTreeSet<SnapshotId>) -> impl Future<Output = Call<BTreeMap<SnapshotId, Lock>>> + Send;
    /// The tags of these volumes; one that is gone has none.
    fn volume_tags(
        &self,
        ids: &BTreeSet<VolumeId>,
    ) -> impl Future<Output = Call<BTreeMap<VolumeId, BTreeMap<String, String>>>> + Send;
    /// Three calls: EC2 shows one attribute of one instance at a time. `None` if the instance does not exist.
    fn attributes(&self, instance: &InstanceId) -> impl Future<Output = Call<Option<Attributes>>> + Send;
    /// Those that have an instance profile.
    fn profiles(&self, ids: &BTreeSet<InstanceId>) -> impl Future<Output = Call<BTreeMap<InstanceId, Profile>>> + Send;
    /// Those that are in an Auto Scaling group.
    fn members(&self, ids: &BTreeSet<InstanceId>) -> impl Future<Output = Call<BTreeMap<InstanceId, Member>>> + Send;
}

/// EC2 with its Auto Scaling, changing.
pub trait Change: Send + Sync {
    fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> impl Future<Output = Call<()>> + Send;
    /// Asks EC2 whether it would carry `set_groups` out (`DryRun`); changes nothing. It checks permissions and ids.
    fn may_set_groups(&self, interface: &InterfaceId, groups: &Groups) -> impl Future<Output = Call<()>> + Send;
    /// At most 1,000 resources, as in `untag`.
    fn tag(
        &self,
        resources: &BTreeSet<String>,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Call<()>> + Send;
    fn untag(&self, resources: &BTreeSet<String>, keys: &BTreeSet<String>) -> impl Future<Output = Call<()>> + Send;
    /// One crash-consistent set of the volumes of the instance, less those of `without` (volume, device).
    fn take_snapshots(
        &self,
        instance: &InstanceId,
        without: &BTreeMap<VolumeId, String>,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Call<BTreeMap<VolumeId, SnapshotId>>> + Send;
    /// In governance mode, for so many days from its completion on. One that is locked is locked for as long instead.
    fn lock_snapshot(&self, snapshot: &SnapshotId, days: u64) -> impl Future<Output = Call<()>> + Send;
    /// Changes what protects an instance; Standby is moved in and out by the other two.
    fn protect(&self, instance: &InstanceId, change: &Protecting) -> impl Future<Output = Call<()>> + Send;
    /// At most twenty members of one group; its desired capacity stays. All are moved or none.
    fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> impl Future<Output = Call<()>> + Send;
    /// As many back; the desired capacity rises by their number.
    fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> impl Future<Output = Call<()>> + Send;
}

/// The key of an intent's item is this and [`Owner::digest`].
pub const INTENT_PREFIX: &str = "owner:";

/// What was read of the table, consistently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// Shared by all who look: every look is planned from all of them.
    pub records: BTreeMap<InstanceId, Arc<Record>>,
    /// Intents by [`Owner::digest`].
    pub intents: BTreeMap<String, Intent>,
    /// Items that are no record or intent although they should be, by their key, and why.
    pub unreadable: BTreeMap<String, String>,
    /// The SHA-256 of each item as it was read, by its key; only a scan fills it. It is that of the item as DynamoDB's JSON, on one
    /// line without blanks, keys and the members of sets in their order.
    pub digests: BTreeMap<String, String>,
}

/// When a record is written, and who asked for what is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp<'a> {
    pub now: Time,
    pub asked_by: &'a str,
    /// The invocation, as leases name it.
    pub writer: &'a str,
}

impl Stamp<'_> {
    /// A line of [`Record::history`].
    #[must_use]
    pub fn line(&self, what: &str) -> String {
        format!("{} {what} (asked by {})", self.now, self.asked_by)
    }

    /// The line for these originals.
    #[must_use]
    pub fn recorded(&self, Originals { interfaces, prior, .. }: &Originals) -> String {
        let groups = interfaces.iter().map(|(interface, groups)| format!("{interface} {}", ShowGroups(groups)));
        let what = if interfaces.is_empty() { "to be isolated again".to_owned() } else { comma_list(groups) };
        let holder = match prior {
            Prior::None | Prior::Ours => String::new(),
            Prior::Of(holder) => format!(", taken over from {}", holder.logical_id),
            Prior::Unreadable => ", in place of an item that could not be read".to_owned(),
        };
        self.line(&format!("recorded{holder}: {what}"))
    }
}

/// A request, as the intent holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    pub owner: &'a Owner,
    pub request_id: &'a str,
    /// When it was issued, if that is known: an older one than the intent's changes nothing.
    pub issued: Option<Time>,
    pub desired: &'a Desired,
}

/// A new state of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marking<'a> {
    pub owner: &'a Owner,
    pub instance: &'a InstanceId,
    pub from: State,
    pub state: State,
    /// Why it was kept, or what is to be remembered of the restore.
    pub reason: Option<&'a str>,
    /// Which connections are cut; `None` leaves what is written.
    pub cut: Option<&'a Cut>,
    /// Who may change the interfaces from now on.
    pub lease: Option<Lease>,
    pub stamp: &'a Stamp<'a>,
}

impl Marking<'_> {
    /// Its line of [`Record::history`].
    #[must_use]
    pub fn history(&self) -> String {
        let connections = match self.cut {
            Some(Cut { whole: true, .. }) => ", passed the transit group",
            Some(Cut { whole: false, .. }) => ", connections not cut",
            None => "",
        };
        let reason = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        self.stamp.line(&format!("{}{connections}{reason}", self.state.as_str()))
    }
}

/// What is entered in a record beside its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Snapshots are about to be asked for, if the record still holds what was taken before: this. Of several deliveries that say
    /// so at once, one is the first.
    RequestSnapshots(&'a BTreeMap<VolumeId, SnapshotId>),
    /// Snapshots, beside those that are there.
    SaveSnapshots(&'a BTreeMap<VolumeId, SnapshotId>),
    /// The watch is about to isolate again what a controller had moved out, if that was said so many times so far.
    CountReturn(u64),
    /// What the instance has before it is protected; can never overwrite what is saved.
    SaveProtection(&'a Protection),
}

/// The records table.
pub trait Records: Send + Sync {
    /// What a person finds it by.
    fn name(&self) -> &str;
    /// The owner's intent and the records of these instances, by their keys: what else the table holds costs nothing.
    fn read(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> impl Future<Output = Call<Items>> + Send;
    /// Says what this request wants and which instances it is about, unless a later one of the owner was already here.
    /// Returns what is wanted now.
    fn write_intent(&self, asked: &Asked<'_>, now: Time) -> impl Future<Output = Call<Intent>> + Send;
    /// Writes the owner's intent so that it can be read, and written, and keeps what stood there before. What it holds is written
    /// only where that cannot be read, and these are `known`. `Done` if there was anything to write.
    fn mend(&self, owner: &Owner, known: Option<&BTreeSet<InstanceId>>) -> impl Future<Output = Call<Written>> + Send;
    /// Says why a Delete left everything isolated, without changing what is wanted, unless a later request was already here. What was
    /// issued before it and arrives later changes nothing. If nothing was ever wanted, that Delete is what asked last.
    fn write_kept(&self, asked: &Asked<'_>, reason: &str, now: Time) -> impl Future<Output = Call<()>> + Send;
    /// The intent of this owner, or those of all incidents that are open, and the records that they hold: what else the table
    /// holds costs nothing.
    fn incidents(&self, owner: Option<&Owner>) -> impl Future<Output = Call<Items>> + Send;
    /// Says that the owner's incident is open. [`Records::record`] does so, too.
    fn open(&self, owner: &Owner) -> impl Future<Output = Call<()>> + Send;
    /// Takes restored instances off the intent, if it is still this request's. If that was all, and the incident `is_over`, it is
    /// open no longer.
    fn release(
        &self,
        owner: &Owner,
        request_id: &str,
        ids: &BTreeSet<InstanceId>,
        is_over: bool,
    ) -> impl Future<Output = Call<()>> + Send;
    /// Adds instances to those that an owner holds, if it ever asked for anything.
    fn hold(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> impl Future<Output = Call<()>> + Send;
    /// Saves originals of several instances at once, each with its lease; can never overwrite one. **Nothing is recorded for a
    /// request that has been overtaken.** At most [`RECORDED_AT_ONCE`], of different instances; one result for each.
    fn record(
        &self,
        owner: &Owner,
        request_id: &str,
        originals: &[(Originals, Lease)],
        stamp: &Stamp<'_>,
    ) -> impl Future<Output = Vec<Call<Written>>> + Send;
    /// Writes the state of a record that the owner holds, if it is still in state `from`.
    fn mark(&self, marking: &Marking<'_>) -> impl Future<Output = Call<Written>> + Send;
    /// Enters something in a record that the owner holds.
    fn enter(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        entry: Entry<'_>,
        stamp: &Stamp<'_>,
    ) -> impl Future<Output = Call<Written>> + Send;
}

/// A DynamoDB transaction has at most 100 operations (DynamoDB quotas); one of them checks the intent, one opens the incident.
pub const RECORDED_AT_ONCE: usize = 98;

/// Whether what is held may be released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Restore,
    /// Nothing is released, for this reason.
    Keep(String),
}

/// Says whether instances that a request no longer lists may be released.
pub trait Guard: std::fmt::Debug + Send + Sync {
    fn may_release(&self) -> BoxFuture<'_, Call<Verdict>>;
}
