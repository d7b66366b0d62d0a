//! Whose isolation it is, and what was saved of an instance before it was first changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{GroupId, Groups, InstanceId, InterfaceId, Protection, SnapshotId, Time, VolumeId, VpcId, short_digest};

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
    /// Every interface passed the transit group, or had no connections.
    pub connections_cut: bool,
    /// Those that did, as long as they stay in isolation.
    pub passed: BTreeSet<InterfaceId>,
    /// With stack and instance it names the episode.
    pub recorded_at: Time,
    /// Who may still change the interfaces, while the record is `isolating` or `restoring`.
    pub lease: Option<Lease>,
    pub snapshots: Snapshots,
    /// How often the watch has isolated again what a controller had moved out.
    pub returns: u64,
    pub protection: Protection,
    /// What became of it, oldest first: when, what, and who asked, a line each. For people; it never decides.
    pub history: Vec<String>,
}

/// The snapshots of one record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// Of the volumes that were attached when they were asked for.
    pub taken: BTreeMap<VolumeId, SnapshotId>,
    /// More were asked for, and the answer is not saved yet: look for them by tag before asking again.
    pub requested: bool,
}

/// The right to change the interfaces of a record, for a while: a request that overtakes its writer waits for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// One invocation.
    pub writer: String,
    pub until: Time,
    /// Of these interfaces only; none means of all.
    pub only: BTreeSet<InterfaceId>,
}

impl Record {
    /// Names this isolation of this instance in the tags of its snapshots, whichever resource of the stack asks.
    #[must_use]
    pub fn episode(&self) -> String {
        short_digest(&format!("{}|{}|{}", self.owner.stack_id, self.instance, self.recorded_at))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_its_text_form() {
        let owner = Owner { stack_id: "arn:aws:cloudformation:r:1:stack/ir/x".into(), logical_id: "Isolation".into() };
        assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
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
