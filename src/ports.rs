//! What the core asks of the world: a few traits with the verbs we call, our types in and out.
//!
//! Adapters implement them for AWS, fakes for the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::cloudformation::answer::Answer;
use crate::model::{
    Attribute, Attributes, Branch, Desired, Group, GroupId, Groups, Instance, InstanceId, Intent, Interface,
    InterfaceId, Member, Owner, Profile, Protection, Record, ShowGroups, Snapshot, SnapshotId, State, VolumeId, VpcId,
    comma_list,
};
use crate::plan::{Prior, StackStatus, StackView};

/// How a call failed, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `RequestLimitExceeded` and its kin: for a change of groups at once, else after the SDK's own retries.
    Throttled,
    /// HTTP 5xx.
    Server,
    /// The connection could not be made, or was lost.
    Connection,
    /// No answer within the time allowed.
    TimedOut,
    /// Not permitted: IAM, or EC2 refuses it to everybody but the interface's maker.
    Denied,
    /// Refused in the state the resource is in: an instance that is starting or ending.
    Busy,
    /// Any other refusal: it will be refused again.
    Refused,
    /// An answer that could not be read.
    Garbled,
    /// Not sent: the answer to CloudFormation is due.
    OutOfTime,
}

impl Fault {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Throttled | Self::Server | Self::Connection | Self::TimedOut | Self::Garbled | Self::Busy)
    }

    /// Whether a change that failed so was certainly not made.
    #[must_use]
    pub fn is_without_effect(self) -> bool {
        matches!(self, Self::Throttled | Self::Denied | Self::Busy | Self::Refused)
    }
}

/// A failed call. `action` is its IAM name, as in `ec2:DescribeInstances`; `code` is AWS's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action} failed: {code}: {message}")]
pub struct CallError {
    pub action: &'static str,
    pub fault: Fault,
    pub code: String,
    pub message: String,
}

impl CallError {
    /// The code of the worst that can happen: an interface may be left in the transit group.
    pub const IN_TRANSIT: &str = "InTransit";
}

pub type Call<T> = Result<T, CallError>;

/// A conditional write that found something else than it expected: an outcome, not a failure. The next pass sees the winner's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Done,
    Lost,
}

/// Which security groups to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupQuery {
    /// All groups of the VPC.
    InVpc(VpcId),
    /// All groups of the VPC that carry [`crate::model::ROLE_TAG`].
    Marked(VpcId),
    /// These; what does not exist is left out.
    Ids(BTreeSet<GroupId>),
    /// Those of ours that CloudFormation's own tag says this stack made, by its id.
    OfStack(String),
    /// The same by the stack's name, where nobody knows the id any more.
    OfStackNamed(String),
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
    /// Three calls: EC2 shows one attribute of one instance at a time. Nothing where the instance does not exist.
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
    fn tag(
        &self,
        resources: &BTreeSet<String>,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Call<()>> + Send;
    fn untag(&self, resources: &BTreeSet<String>, keys: &BTreeSet<String>) -> impl Future<Output = Call<()>> + Send;
    /// One crash-consistent set of all volumes of the instance.
    fn take_snapshots(
        &self,
        instance: &InstanceId,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Call<BTreeMap<VolumeId, SnapshotId>>> + Send;
    fn set_attribute(&self, instance: &InstanceId, attribute: Attribute) -> impl Future<Output = Call<()>> + Send;
    /// Sets `DeleteOnTermination` of these devices.
    fn set_deletion(
        &self,
        instance: &InstanceId,
        devices: &BTreeMap<String, bool>,
    ) -> impl Future<Output = Call<()>> + Send;
    /// Takes an instance profile from its instance.
    fn detach_profile(&self, profile: &Profile) -> impl Future<Output = Call<()>> + Send;
    /// Refused where the instance has one, or is about to lose it.
    fn attach_profile(&self, instance: &InstanceId, arn: &str) -> impl Future<Output = Call<()>> + Send;
    /// At most twenty members of one group; its desired capacity stays. All are moved or none.
    fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> impl Future<Output = Call<()>> + Send;
    /// The same back; the desired capacity rises by their number.
    fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> impl Future<Output = Call<()>> + Send;
}

/// What the table holds, read consistently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub records: BTreeMap<InstanceId, Record>,
    /// Intents by [`Owner::digest`].
    pub intents: BTreeMap<String, Intent>,
    /// Items that are no record although they should be, by their key, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// When a record is written, and who asked for what is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// ISO 8601 UTC.
    pub now: String,
    pub asked_by: &'a str,
}

impl Stamp<'_> {
    /// A line of [`Record::history`].
    #[must_use]
    pub fn line(&self, what: &str) -> String {
        format!("{} {what} (asked by {})", self.now, self.asked_by)
    }
}

/// The originals of one instance, to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Originals<'a> {
    pub instance: &'a InstanceId,
    pub owner: &'a Owner,
    pub vpc: &'a VpcId,
    pub isolation_group: &'a GroupId,
    pub transit_group: Option<&'a GroupId>,
    pub interfaces: &'a BTreeMap<InterfaceId, Groups>,
    pub prior: &'a Prior,
    pub stamp: &'a Stamp<'a>,
}

impl Originals<'_> {
    /// Its line of [`Record::history`].
    #[must_use]
    pub fn history(&self) -> String {
        let groups = self.interfaces.iter().map(|(interface, groups)| format!("{interface} {}", ShowGroups(groups)));
        let interfaces =
            if self.interfaces.is_empty() { "to be isolated again".to_owned() } else { comma_list(groups) };
        let holder = match self.prior {
            Prior::None | Prior::Ours => String::new(),
            Prior::Of(holder) => format!(", taken over from {}", holder.logical_id),
        };
        self.stamp.line(&format!("recorded{holder}: {interfaces}"))
    }

    /// Every group of ours that an interface may be found in.
    #[must_use]
    pub fn groups(&self) -> Groups {
        [self.isolation_group].into_iter().chain(self.transit_group).cloned().collect()
    }
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
    /// Whether its connections are cut; nothing leaves what is written.
    pub cut: Option<bool>,
    pub stamp: &'a Stamp<'a>,
}

impl Marking<'_> {
    /// Its line of [`Record::history`].
    #[must_use]
    pub fn history(&self) -> String {
        let connections = match self.cut {
            Some(true) => ", connections cut",
            Some(false) => ", connections not cut",
            None => "",
        };
        let reason = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        self.stamp.line(&format!("{}{connections}{reason}", self.state.as_str()))
    }
}

/// The records table.
pub trait Records: Send + Sync {
    /// What a person finds it by.
    fn name(&self) -> &str;
    fn read(&self) -> impl Future<Output = Call<Ledger>> + Send;
    /// Says what this request wants, unless a later one of the same owner was already here. Returns what is wanted now.
    fn write_intent(
        &self,
        owner: &Owner,
        request_id: &str,
        desired: &Desired,
        now: &str,
    ) -> impl Future<Output = Call<Intent>> + Send;
    /// Says why a Delete left everything isolated, without changing what is wanted.
    fn write_kept(&self, owner: &Owner, reason: &str, now: &str) -> impl Future<Output = Call<()>> + Send;
    /// Saves originals; can never overwrite one.
    fn record(&self, originals: &Originals<'_>) -> impl Future<Output = Call<Written>> + Send;
    /// Writes the state of a record that the owner holds, if it is still in state `from`.
    fn mark(&self, marking: &Marking<'_>) -> impl Future<Output = Call<Written>> + Send;
    /// Of several deliveries that say so at once, one is the first.
    fn request_snapshots(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        now: &str,
    ) -> impl Future<Output = Call<Written>> + Send;
    fn save_snapshots(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        snapshots: &BTreeMap<VolumeId, SnapshotId>,
        now: &str,
    ) -> impl Future<Output = Call<Written>> + Send;
    /// Saves what the instance has before it is protected; can never overwrite what is saved.
    fn save_protection(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        prior: &Protection,
        now: &str,
    ) -> impl Future<Output = Call<Written>> + Send;
}

/// CloudFormation.
pub trait Stacks: Send + Sync {
    fn status(&self, stack_id: &str) -> impl Future<Output = Call<StackStatus>> + Send;
}

/// What only the operator's program asks of CloudFormation.
pub trait StackLife: Stacks {
    /// `stack` is a name or an id. Nothing where there is no such stack, or it is deleted.
    fn view(&self, stack: &str) -> impl Future<Output = Call<Option<StackView>>> + Send;
    /// Begins to delete it. `retain` are logical ids that are left as they are, which CloudFormation allows in DELETE_FAILED only.
    fn delete(&self, stack: &str, retain: &[String]) -> impl Future<Output = Call<()>> + Send;
}

/// What only the operator's program asks of EC2.
pub trait Survey: Look {
    /// Interfaces that are in at least one of these groups, and the instance that each is attached to.
    fn interfaces_in(&self, groups: &Groups)
    -> impl Future<Output = Call<Vec<(Interface, Option<InstanceId>)>>> + Send;
}

/// What only the operator's program asks of DynamoDB.
pub trait Archive: Records {
    /// The names of all tables that begin so.
    fn tables(&self, prefix: &str) -> impl Future<Output = Call<Vec<String>>> + Send;
    /// The same, for another table.
    fn named(&self, table: &str) -> Self;
    /// Copies a record into this table, with everything that it holds, for its new owner; refused if it is no longer as it was
    /// `seen`, or if there is one here that is not only history.
    fn take_over(
        &self,
        from: &Self,
        seen: &Record,
        takeover: &Takeover<'_>,
    ) -> impl Future<Output = Call<Written>> + Send;
    /// Takes a record out, if it still is as it was seen.
    fn let_go(&self, seen: &Record) -> impl Future<Output = Call<Written>> + Send;
}

/// How a record changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover<'a> {
    pub owner: &'a Owner,
    pub isolation_group: &'a GroupId,
    pub stamp: &'a Stamp<'a>,
}

impl Takeover<'_> {
    /// Its line of [`Record::history`]. `from` is the table where the record was.
    #[must_use]
    pub fn history(&self, seen: &Record, from: &str) -> String {
        self.stamp.line(&format!("taken over from {} (table {from}, {})", seen.owner, seen.state.as_str()))
    }
}

/// Why an answer did not arrive. Never holds the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    #[error("the ResponseURL is no usable URL")]
    UnusableUrl,
    #[error("the answer was not accepted: {0}")]
    Lost(String),
}

/// Where the one answer goes. Consumed by sending: there is no second one.
pub trait Reply: Send {
    fn send(self, answer: Answer) -> impl Future<Output = Result<(), Undelivered>> + Send;
}
