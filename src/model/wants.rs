//! What a request wants, and what was wanted last.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{GroupId, GroupReference, InstanceId, Owner, Time, VpcId};

/// What happens to an instance that an Update no longer lists, and on a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Release {
    #[default]
    KeepIsolated,
    Restore,
}

/// What the watch does about an incident between its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Watch {
    /// It does not look at it.
    Off,
    /// It says what is not as it should be, and changes nothing.
    #[default]
    Notify,
    /// It also isolates interfaces that were attached since, and those that a controller moved out.
    Isolate,
}

/// What a Create or Update asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// In the order of the request, without repeats; empty only where an operator has restored the last one.
    pub instances: Vec<InstanceId>,
    pub vpc: VpcId,
    pub isolation_group: GroupId,
    pub forensic_group: Option<GroupReference>,
    /// The stack makes that group itself, and a host in it.
    #[serde(default)]
    pub makes_host: bool,
    /// The tcp ports on which it may reach the instances.
    pub forensic_ports: BTreeSet<u16>,
    pub snapshot_volumes: bool,
    /// For how many days each snapshot is locked; 0 locks none. A function that does not know it locks none.
    #[serde(default)]
    pub lock_days: u64,
    pub on_removal: Release,
    pub on_rollback: Release,
    pub allow_partial: bool,
    /// Keep the instance and its volumes from being lost.
    pub protect: bool,
    /// The roles whose credentials the stack, not the function, denies to the listed instances.
    #[serde(default)]
    pub revoke_roles: BTreeSet<String>,
    /// Take the instance profile from it, so that it gets no more credentials.
    pub detach_profile: bool,
    /// Turn its metadata service off, which gives it the credentials of its role. A function that does not know it leaves it on.
    #[serde(default)]
    pub disable_metadata: bool,
    pub purpose: String,
    /// Asked to end the connections that were open before.
    pub cut_connections: bool,
    /// The group that interfaces pass through for it.
    pub transit_group: Option<GroupId>,
    /// How long each stays there.
    pub hold_seconds: u64,
    #[serde(default)]
    pub watch: Watch,
}

/// What `ForensicPorts` is where nothing is said.
#[must_use]
pub fn ssh_only() -> BTreeSet<u16> {
    BTreeSet::from([22])
}

/// What the latest request of an owner asked for. Every pass of every invocation works towards it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Desired {
    Isolated(Box<Wants>),
    Restored,
    /// It cannot be read, for this reason: what is held may be wanted.
    #[serde(skip)]
    Unknown(String),
}

/// The intent item of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub owner: Owner,
    pub request_id: String,
    /// When that request was issued, if that is known.
    pub issued: Option<Time>,
    pub desired: Desired,
    /// Every instance that may be held for the owner: added before it is recorded, removed once it is restored.
    pub held: BTreeSet<InstanceId>,
    /// Why a Delete left the instances isolated, if one did since the last Create or Update.
    pub kept: Option<String>,
}
