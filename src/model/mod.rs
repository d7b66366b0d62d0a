//! The nouns: validated identifiers, what EC2 shows, what a record holds, what a request wants.
//!
//! No decisions, no I/O, no clock.

mod ec2;
mod fault;
mod id;
mod original;
mod record;
mod time;
mod wants;

pub use ec2::{
    Branch, Group, Instance, Interface, LOGICAL_ID_TAG, Lock, Peer, ROLE_TAG, Role, Rule, STACK_NAME_TAG, STACK_TAG,
    ScheduledEvent, Snapshot,
};
pub use fault::{CallError, Fault};
pub use id::{
    GroupId, GroupReference, Groups, InstanceId, InterfaceId, MalformedId, ShowGroups, SnapshotId, VolumeId, VpcId,
    comma_list, sha256, short_digest,
};
pub use original::{
    Attribute, Attributes, Member, PROFILE_KEY, PROTECTING, Profile, Protection, ShutdownBehaviour, Stored, Volume,
    attach_profile_command, exit_standby_command,
};
pub use record::{Lease, Owner, Record, Snapshots, State, restore_command};
pub use time::{MalformedTime, Time};
pub use wants::{Desired, Intent, Release, Wants, Watch, ssh_only};
