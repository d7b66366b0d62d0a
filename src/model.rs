//! The nouns: validated identifiers, what EC2 shows, what a record holds, what a request wants.
//!
//! No decisions, no I/O, no clock.

mod protection;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use protection::{
    Attribute, Attributes, Member, PROFILE_KEY, PROTECTING, Profile, Protection, ShutdownBehaviour, Volume,
    attach_profile_command, exit_standby_command,
};

/// Marks a security group as one of ours; the value is a [`Role`]. CloudFormation's own stack tag beside it names the stack.
pub const ROLE_TAG: &str = "ec2-isolation:role";
/// CloudFormation sets it on every group it creates; the `aws:` prefix is reserved, so nobody can forge it.
pub const STACK_TAG: &str = "aws:cloudformation:stack-id";
/// The same with the stack's name.
pub const STACK_NAME_TAG: &str = "aws:cloudformation:stack-name";

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {what}: expected {prefix} and up to 17 hexadecimal digits, as in {prefix}0123456789abcdef0")]
pub struct MalformedId {
    value: String,
    what: &'static str,
    prefix: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(value: &str) -> Result<Self, MalformedId> {
                let digits = value.strip_prefix($prefix).unwrap_or_default();
                let hexadecimal = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if (1..=17).contains(&digits.len()) && hexadecimal {
                    Ok(Self(value.to_owned()))
                } else {
                    // A pasted essay must not fill the answer.
                    let value = value.chars().take(80).collect();
                    Err(MalformedId { value, what: $what, prefix: $prefix })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = MalformedId;

            fn try_from(value: String) -> Result<Self, MalformedId> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(InstanceId, "i-", "an instance id");
identifier!(InterfaceId, "eni-", "a network interface id");
identifier!(GroupId, "sg-", "a security group id");
identifier!(VpcId, "vpc-", "a VPC id");
identifier!(VolumeId, "vol-", "a volume id");
identifier!(SnapshotId, "snap-", "a snapshot id");

/// The security groups of one interface. EC2 gives their order no meaning.
pub type Groups = BTreeSet<GroupId>;

/// `[sg-a, sg-b]`
#[derive(Debug)]
pub struct ShowGroups<'a>(pub &'a Groups);

impl fmt::Display for ShowGroups<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", comma_list(self.0))
    }
}

/// `a, b, c`
pub fn comma_list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Whose isolation it is: one custom resource of one stack. Equal for every event of that resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    pub stack_id: String,
    pub logical_id: String,
}

impl Owner {
    /// A stable short name for the owner: 32 hexadecimal digits of the SHA-256 of its text.
    #[must_use]
    pub fn digest(&self) -> String {
        short_digest(&self.to_string())
    }

    /// The name of the stack, as it stands in its id.
    #[must_use]
    pub fn stack_name(&self) -> &str {
        self.stack_id.split('/').nth(1).unwrap_or(&self.stack_id)
    }

    /// Reads the text of [`fmt::Display`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (stack_id, logical_id) = text.rsplit_once('|')?;
        Some(Self { stack_id: stack_id.to_owned(), logical_id: logical_id.to_owned() })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.stack_id, self.logical_id)
    }
}

/// 32 hexadecimal digits.
#[must_use]
pub fn short_digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What EC2 shows of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    /// EC2's own word: `pending`, `running`, `shutting-down`, `terminated`, `stopping`, `stopped`.
    pub state: String,
    pub vpc: Option<VpcId>,
    /// Every attached interface, the primary one first.
    pub interfaces: Vec<Interface>,
    /// Attached EBS volumes; instance store has no id and is not here.
    pub volumes: BTreeMap<VolumeId, Volume>,
    pub tags: BTreeMap<String, String>,
}

impl Instance {
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == "terminated"
    }
}

/// What EC2 shows of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub id: InterfaceId,
    pub groups: Groups,
    /// Read by `DescribeNetworkInterfaces` only; `DescribeInstances` does not show them.
    pub tags: BTreeMap<String, String>,
    /// It carries branch interfaces, which have groups of their own and are attached to no instance.
    pub is_trunk: bool,
}

/// A branch of a trunk interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub id: InterfaceId,
    pub trunk: InterfaceId,
    pub groups: Groups,
}

/// What a group of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Isolation,
    Transit,
    Forensic,
}

impl Role {
    #[must_use]
    pub fn parse(tag: &str) -> Option<Self> {
        match tag {
            "isolation" => Some(Self::Isolation),
            "transit" => Some(Self::Transit),
            "forensic" => Some(Self::Forensic),
            _ => None,
        }
    }
}

/// What EC2 shows of a security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    pub vpc: Option<VpcId>,
    pub role: Option<Role>,
    /// The stack that CloudFormation's own tag names.
    pub stack_id: Option<String>,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
}

/// One rule for one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub protocol: String,
    /// Absent where the protocol has no ports or all are meant.
    pub ports: Option<(i32, i32)>,
    pub peer: Peer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Cidr(String),
    Group(GroupId),
    /// A prefix list, or a group whose id could not be read.
    Other(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == "-1" { "all protocols" } else { &self.protocol };
        f.write_str(protocol)?;
        match self.ports {
            Some((from, to)) if from == to => write!(f, " {from}")?,
            Some((from, to)) => write!(f, " {from}-{to}")?,
            None => {}
        }
        match &self.peer {
            Peer::Cidr(peer) | Peer::Other(peer) => write!(f, " {peer}"),
            Peer::Group(group) => write!(f, " {group}"),
        }
    }
}

/// A forensic group: `sg-…`, or `123456789012/sg-…` in a peered VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupReference {
    account: Option<String>,
    pub id: GroupId,
}

impl FromStr for GroupReference {
    type Err = MalformedId;

    fn from_str(value: &str) -> Result<Self, MalformedId> {
        match value.split_once('/') {
            Some((account, id)) if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self { account: Some(account.to_owned()), id: id.parse()? })
            }
            _ => Ok(Self { account: None, id: value.parse()? }),
        }
    }
}

impl TryFrom<String> for GroupReference {
    type Error = MalformedId;

    fn try_from(value: String) -> Result<Self, MalformedId> {
        value.parse()
    }
}

impl From<GroupReference> for String {
    fn from(group: GroupReference) -> String {
        match group.account {
            Some(account) => format!("{account}/{}", group.id),
            None => group.id.into(),
        }
    }
}

/// A snapshot found by its episode tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub volume: VolumeId,
    pub episode: String,
    /// State `error`: it will never be usable.
    pub failed: bool,
    /// A tag of its own says of which volume it is.
    pub labelled: bool,
}

/// Where a record stands. The order is that of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Originals are saved; the interfaces may or may not be isolated yet.
    Isolating,
    /// Every interface was read back in exactly the isolation group.
    Isolated,
    /// Isolated, and left so by a rollback or a Delete that must not release.
    Kept,
    /// A restore has begun.
    Restoring,
    /// Every interface was read back with its originals (or is gone). Only history from here on.
    Restored,
}

impl State {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Isolating => "isolating",
            Self::Isolated => "isolated",
            Self::Kept => "kept",
            Self::Restoring => "restoring",
            Self::Restored => "restored",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Isolating, Self::Isolated, Self::Kept, Self::Restoring, Self::Restored]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// What was saved of one instance before it was first changed: one item of the records table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub instance: InstanceId,
    pub owner: Owner,
    pub state: State,
    pub vpc: VpcId,
    pub isolation_group: GroupId,
    /// Every group that isolated this instance so far: an interface may still be in an earlier one.
    pub isolation_groups: Groups,
    /// The groups each interface had before isolation. Never overwritten.
    pub interfaces: BTreeMap<InterfaceId, Groups>,
    /// Every interface went through the transit group, or had no connections to cut.
    pub connections_cut: bool,
    /// ISO 8601 UTC. With owner and instance it names the episode.
    pub recorded_at: String,
    pub snapshots: Snapshots,
    pub protection: Protection,
    /// What became of it, oldest first: when, what, and who asked, a line each. For people; it never decides.
    pub history: Vec<String>,
}

/// How far the snapshots of one record are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshots {
    None,
    /// Asked for, the answer not yet saved: look for them by tag before asking again.
    Requested,
    Taken(BTreeMap<VolumeId, SnapshotId>),
}

impl Record {
    /// Names this isolation of this instance in the tags of its snapshots, the same however often it is asked for.
    #[must_use]
    pub fn episode(&self) -> String {
        short_digest(&format!("{}|{}|{}", self.owner, self.instance, self.recorded_at))
    }

    /// The plain `aws` command lines that put the recorded groups back.
    #[must_use]
    pub fn restore_commands(&self) -> Vec<String> {
        self.interfaces.iter().map(|(interface, groups)| restore_command(interface, groups)).collect()
    }
}

/// The plain `aws` command line that gives an interface these groups.
#[must_use]
pub fn restore_command(interface: &InterfaceId, groups: &Groups) -> String {
    let groups: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    format!(
        "aws ec2 modify-network-interface-attribute --network-interface-id {interface} --groups {}",
        groups.join(" ")
    )
}

/// What happens to an instance that an Update no longer lists, and on a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Release {
    #[default]
    KeepIsolated,
    Restore,
}

/// What a Create or Update asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// In the order of the request, without repeats; empty only where an operator has restored the last one.
    pub instances: Vec<InstanceId>,
    pub vpc: VpcId,
    pub isolation_group: GroupId,
    pub forensic_group: Option<GroupReference>,
    /// The tcp ports on which it may reach the instances. An intent of before there was the option meant ssh.
    #[serde(default = "ssh_only")]
    pub forensic_ports: BTreeSet<u16>,
    pub snapshot_volumes: bool,
    pub on_removal: Release,
    pub on_rollback: Release,
    pub allow_partial: bool,
    /// Keep the instance and its volumes from being lost. An intent of before there was the option did not ask for it.
    #[serde(default)]
    pub protect: bool,
    /// Take the instance profile from it, so that it gets no more credentials.
    #[serde(default)]
    pub detach_profile: bool,
    pub purpose: String,
    /// Asked to end the connections that were open before.
    #[serde(default)]
    pub cut_connections: bool,
    /// The group that interfaces pass through for it.
    #[serde(default)]
    pub transit_group: Option<GroupId>,
    /// How long each stays there.
    #[serde(default)]
    pub hold_seconds: u64,
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
}

/// The intent item of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub request_id: String,
    pub desired: Desired,
    /// Why a Delete left the hosts isolated, where one did since the last Create or Update.
    pub kept: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_need_their_prefix_and_hexadecimal_digits() {
        for good in ["i-0123456789abcdef0", "i-1a2b3c4d", "i-0aaa"] {
            assert_eq!(good.parse::<InstanceId>().unwrap().as_str(), good);
        }
        for bad in ["", "i-", "i-xyz", "i-0123456789ABCDEF0", "i-0123456789abcdef01", "eni-0aaa", " i-0aaa", "i-0aaa\n"]
        {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_malformed_identifier_is_named_with_what_was_expected() {
        let error = "web-1".parse::<InstanceId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"web-1\" is not an instance id: expected i- and up to 17 hexadecimal digits, as in i-0123456789abcdef0"
        );
    }

    #[test]
    fn a_forensic_group_may_name_the_account_of_a_peered_vpc() {
        let peered: GroupReference = "123456789012/sg-0aaa".parse().unwrap();
        assert_eq!((peered.id.as_str(), String::from(peered.clone()).as_str()), ("sg-0aaa", "123456789012/sg-0aaa"));
        assert!("12345/sg-0aaa".parse::<GroupReference>().is_err());
    }

    #[test]
    fn an_owner_survives_its_text_form() {
        let owner = Owner { stack_id: "arn:aws:cloudformation:r:1:stack/ir/x".into(), logical_id: "Isolation".into() };
        assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
    }

    #[test]
    fn an_intent_of_an_earlier_version_asks_for_no_protection() {
        let stored = r#"{"Isolated":{"instances":["i-01"],"vpc":"vpc-01","isolation_group":"sg-01","forensic_group":null,
            "snapshot_volumes":true,"on_removal":"KeepIsolated","on_rollback":"KeepIsolated","allow_partial":false,"purpose":"ir"}}"#;
        let Desired::Isolated(wants) = serde_json::from_str(stored).unwrap() else { panic!("isolated") };
        assert!(!wants.protect && !wants.detach_profile);
    }

    #[test]
    fn states_survive_their_text_form() {
        for state in [State::Isolating, State::Isolated, State::Kept, State::Restoring, State::Restored] {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
    }

    #[test]
    fn a_record_carries_the_commands_that_restore_it() {
        let groups = ["sg-0a", "sg-0b"].map(|id| id.parse().unwrap()).into();
        assert_eq!(
            restore_command(&"eni-01".parse().unwrap(), &groups),
            "aws ec2 modify-network-interface-attribute --network-interface-id eni-01 --groups sg-0a sg-0b"
        );
    }
}
