//! What only a drill asks of AWS: to make what it practises on, to take it away again, and calls that nothing else makes, for the
//! sake of their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::model::{GroupId, Groups, InstanceId, InterfaceId, SnapshotId, VolumeId, VpcId};
use crate::ports::Call;

/// On everything that a drill makes; the value is the drill's id. It never decides alone: the attacker may write tags.
pub const DRILL_TAG: &str = "ec2-isolation:drill";

/// How a drill with this id names what it makes: its stack, the launch of its instance, and, with a letter behind it, its groups.
#[must_use]
pub fn drill_name(id: &str) -> String {
    format!("ec2-isolation-drill-{id}")
}

/// An instance to be launched, with one interface in each of two groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch<'a> {
    pub drill: &'a str,
    /// An image's id, or `resolve:ssm:` and the name of a parameter.
    pub image: &'a str,
    /// As in `t3.micro`.
    pub kind: &'a str,
    pub subnet: &'a str,
    pub groups: [&'a GroupId; 2],
}

/// What is there of one drill.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Launched by it, by the token of the launch, which cannot be changed afterwards; the terminated ones are left out.
    pub instances: BTreeSet<InstanceId>,
    /// Tagged, and attached to nothing.
    pub interfaces: BTreeSet<InterfaceId>,
    /// Tagged, and named by it: a group cannot be renamed.
    pub groups: BTreeSet<GroupId>,
    /// What carries the tag and nothing else that would show who made it: volumes and snapshots.
    pub tagged: BTreeSet<String>,
}

impl Made {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// EC2, making what a drill needs and deleting it. Deleting what is gone succeeds.
pub trait Fixtures: Send + Sync {
    /// `None` if there is no such subnet.
    fn vpc_of(&self, subnet: &str) -> impl Future<Output = Call<Option<VpcId>>> + Send;
    /// A group without rules of its own.
    fn make_group(&self, vpc: &VpcId, drill: &str, letter: char) -> impl Future<Output = Call<GroupId>> + Send;
    /// Launched twice with one id, it is one instance.
    fn launch(&self, launch: &Launch<'_>) -> impl Future<Output = Call<InstanceId>> + Send;
    /// What every drill of this account and Region has left, by its id.
    fn made(&self) -> impl Future<Output = Call<BTreeMap<String, Made>>> + Send;
    /// Snapshots of this account of these volumes.
    fn snapshots_of(&self, volumes: &BTreeSet<VolumeId>) -> impl Future<Output = Call<BTreeSet<SnapshotId>>> + Send;
    fn terminate(&self, instance: &InstanceId) -> impl Future<Output = Call<()>> + Send;
    fn delete_interface(&self, interface: &InterfaceId) -> impl Future<Output = Call<()>> + Send;
    fn delete_group(&self, group: &GroupId) -> impl Future<Output = Call<()>> + Send;
    fn delete_snapshot(&self, snapshot: &SnapshotId) -> impl Future<Output = Call<()>> + Send;
}

/// What `DescribeInstances` shows beside what the core reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Of the instance as a whole.
    pub groups: Groups,
    /// Whether the metadata service is to answer.
    pub is_metadata_on: bool,
    /// EC2's word for how far a change of the metadata options is: `pending` or `applied`.
    pub metadata_state: String,
    /// EC2's word for whether the metadata service wants tokens: `required` or `optional`.
    pub metadata_tokens: String,
}

/// EC2, asked for the sake of its answers.
pub trait Probes: Send + Sync {
    /// `None` if EC2 does not show the instance.
    fn details(&self, instance: &InstanceId) -> impl Future<Output = Call<Option<Details>>> + Send;
    /// Gives the instance these groups by the call that is not about an interface.
    fn set_groups_of_instance(&self, instance: &InstanceId, groups: &Groups) -> impl Future<Output = Call<()>> + Send;
    /// Lets a group into another one by tcp port 22.
    fn admit(&self, group: &GroupId, from: &GroupId) -> impl Future<Output = Call<()>> + Send;
    /// Takes that back; no error if it is not there.
    fn dismiss(&self, group: &GroupId, from: &GroupId) -> impl Future<Output = Call<()>> + Send;
}

/// One line of a stack's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackEvent {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub logical_id: String,
    /// As in `AWS::EC2::SecurityGroup`.
    pub kind: String,
    pub status: String,
    pub reason: String,
}

/// What CloudFormation tells of a stack, also of one that is deleted, if it is named by its id.
pub trait Events: Send + Sync {
    /// Oldest first.
    fn events(&self, stack_id: &str) -> impl Future<Output = Call<Vec<StackEvent>>> + Send;
}

/// Step Functions, asked what an expression is.
pub trait Evaluates: Send + Sync {
    /// Of a state machine, by its ARN.
    fn definition(&self, machine: &str) -> impl Future<Output = Call<serde_json::Value>> + Send;
    /// The output of one state for this input. Nothing else happens.
    fn evaluate(
        &self,
        state: &serde_json::Value,
        input: &serde_json::Value,
    ) -> impl Future<Output = Call<serde_json::Value>> + Send;
}
