//! What keeps an instance and its evidence from being lost, and what it had before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{InstanceId, VolumeId, comma_list};

/// What EC2 does with an instance that is shut down from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShutdownBehaviour {
    Stop,
    Terminate,
}

impl ShutdownBehaviour {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Terminate => "terminate",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stop, Self::Terminate].into_iter().find(|behaviour| behaviour.as_str() == text)
    }
}

/// An attribute of an instance with a value; only `DescribeInstanceAttribute` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// `disableApiTermination`
    TerminationProtection(bool),
    /// `disableApiStop`
    StopProtection(bool),
    /// `instanceInitiatedShutdownBehavior`
    ShutdownBehaviour(ShutdownBehaviour),
}

/// All attributes that we look at, in the order of [`PROTECTING`].
pub type Attributes = [Attribute; 3];

/// What a protected instance has.
pub const PROTECTING: Attributes = [
    Attribute::TerminationProtection(true),
    Attribute::StopProtection(true),
    Attribute::ShutdownBehaviour(ShutdownBehaviour::Stop),
];

impl Attribute {
    /// The name without the value, as in `RestoreCommands` of a record.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::TerminationProtection(_) => "termination-protection",
            Self::StopProtection(_) => "stop-protection",
            Self::ShutdownBehaviour(_) => "shutdown-behaviour",
        }
    }

    /// The plain `aws` command line that sets it.
    #[must_use]
    pub fn command(self, instance: &InstanceId) -> String {
        let option = match self {
            Self::TerminationProtection(true) => "--disable-api-termination",
            Self::TerminationProtection(false) => "--no-disable-api-termination",
            Self::StopProtection(true) => "--disable-api-stop",
            Self::StopProtection(false) => "--no-disable-api-stop",
            Self::ShutdownBehaviour(ShutdownBehaviour::Stop) => "--instance-initiated-shutdown-behavior Value=stop",
            Self::ShutdownBehaviour(ShutdownBehaviour::Terminate) => {
                "--instance-initiated-shutdown-behavior Value=terminate"
            }
        };
        format!("aws ec2 modify-instance-attribute --instance-id {instance} {option}")
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_or_off = |on: &bool| if *on { "on" } else { "off" };
        match self {
            Self::TerminationProtection(on) => write!(f, "termination protection {}", on_or_off(on)),
            Self::StopProtection(on) => write!(f, "stop protection {}", on_or_off(on)),
            Self::ShutdownBehaviour(behaviour) => write!(f, "shutdown behaviour {}", behaviour.as_str()),
        }
    }
}

/// An attached EBS volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// As in `/dev/sda1`.
    pub device: String,
    /// Whether it goes when the instance is terminated.
    pub delete_on_termination: bool,
}

/// What Auto Scaling shows of an instance that is in one of its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub group: String,
    /// Auto Scaling's own word: `InService`, `EnteringStandby`, `Standby`, `Pending`, `Terminating`, …
    pub state: String,
}

/// The association of an instance with its instance profile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// As in `iip-assoc-0123456789abcdef0`.
    pub association: String,
    pub arn: String,
}

/// The plain `aws` command line that gives an instance its profile back.
#[must_use]
pub fn attach_profile_command(arn: &str, instance: &InstanceId) -> String {
    format!(
        "aws ec2 associate-iam-instance-profile --instance-id {instance} --iam-instance-profile Arn={}",
        quoted(arn)
    )
}

/// The plain `aws` command line that brings an instance back from Standby.
#[must_use]
pub fn exit_standby_command(group: &str, instance: &InstanceId) -> String {
    format!("aws autoscaling exit-standby --auto-scaling-group-name {} --instance-ids {instance}", quoted(group))
}

/// What an instance had before it was protected, as far as that was changed. Never overwritten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Protection {
    /// At most one value of each.
    pub attributes: BTreeSet<Attribute>,
    /// Volumes that were to be deleted with the instance, and their devices.
    pub volumes: BTreeMap<VolumeId, String>,
    /// The Auto Scaling group in which it was in service.
    pub scaling_group: Option<String>,
    /// The ARN of its instance profile.
    pub profile: Option<String>,
    /// Its metadata service was on.
    pub metadata_service: bool,
}

/// A prior value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    Flag(bool),
    Text(String),
}

const TERMINATION_PROTECTION: &str = "TerminationProtection";
const STOP_PROTECTION: &str = "StopProtection";
const SHUTDOWN_BEHAVIOUR: &str = "ShutdownBehaviour";
const SCALING_GROUP: &str = "AutoScalingGroup";
const METADATA_SERVICE: &str = "MetadataService";

/// The name of the instance profile among [`Protection::restore_commands`].
pub const PROFILE_KEY: &str = "instance-profile";

impl Protection {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is not in `recorded`, whatever its value there.
    #[must_use]
    pub fn without(mut self, recorded: &Self) -> Self {
        self.attributes.retain(|attribute| !recorded.attributes.iter().any(|other| other.key() == attribute.key()));
        self.volumes.retain(|volume, _| !recorded.volumes.contains_key(volume));
        self.scaling_group = self.scaling_group.filter(|_| recorded.scaling_group.is_none());
        self.profile = self.profile.filter(|_| recorded.profile.is_none());
        self.metadata_service &= !recorded.metadata_service;
        self
    }

    /// With what another look has found. What is recorded stays.
    #[must_use]
    pub fn with(mut self, found: Self) -> Self {
        let Self { attributes, volumes, profile, scaling_group, metadata_service } = found.without(&self);
        self.attributes.extend(attributes);
        self.volumes.extend(volumes);
        self.profile = self.profile.or(profile);
        self.scaling_group = self.scaling_group.or(scaling_group);
        self.metadata_service |= metadata_service;
        self
    }

    /// What is stored, by name; the profile has a place of its own. That of a volume is its device.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, Stored)> {
        let text = |text: &str| Stored::Text(text.to_owned());
        let attributes = self.attributes.iter().map(|attribute| match attribute {
            Attribute::TerminationProtection(on) => (TERMINATION_PROTECTION.to_owned(), Stored::Flag(*on)),
            Attribute::StopProtection(on) => (STOP_PROTECTION.to_owned(), Stored::Flag(*on)),
            Attribute::ShutdownBehaviour(behaviour) => (SHUTDOWN_BEHAVIOUR.to_owned(), text(behaviour.as_str())),
        });
        let volumes = self.volumes.iter().map(|(volume, device)| (volume.to_string(), text(device)));
        let group = self.scaling_group.iter().map(|group| (SCALING_GROUP.to_owned(), text(group)));
        let service = self.metadata_service.then(|| (METADATA_SERVICE.to_owned(), Stored::Flag(true)));
        attributes.chain(volumes).chain(group).chain(service).collect()
    }

    /// Adds what is stored under a name.
    ///
    /// # Errors
    /// It is no such value, or the name is none.
    pub fn read(&mut self, name: &str, value: &Stored) -> Result<(), String> {
        let attribute = match (name, value) {
            (TERMINATION_PROTECTION, Stored::Flag(on)) => Attribute::TerminationProtection(*on),
            (STOP_PROTECTION, Stored::Flag(on)) => Attribute::StopProtection(*on),
            (SHUTDOWN_BEHAVIOUR, Stored::Text(text)) => {
                let behaviour = ShutdownBehaviour::parse(text);
                Attribute::ShutdownBehaviour(behaviour.ok_or_else(|| format!("{name} in Protection is {text:?}"))?)
            }
            (SCALING_GROUP, Stored::Text(group)) => {
                self.scaling_group = Some(group.clone());
                return Ok(());
            }
            (METADATA_SERVICE, Stored::Flag(was_on)) => {
                self.metadata_service = *was_on;
                return Ok(());
            }
            (volume, Stored::Text(device)) if volume.starts_with("vol-") => {
                let volume = volume.parse().map_err(|error| format!("{error}"))?;
                self.volumes.insert(volume, device.clone());
                return Ok(());
            }
            _ => return Err(format!("{name} in Protection is {value:?}")),
        };
        self.attributes.insert(attribute);
        Ok(())
    }

    /// The plain `aws` command lines that put it back, by a name for each.
    #[must_use]
    pub fn restore_commands(&self, instance: &InstanceId) -> BTreeMap<String, String> {
        let attributes =
            self.attributes.iter().map(|attribute| (attribute.key().to_owned(), attribute.command(instance)));
        let volumes = self.volumes.iter().map(|(volume, device)| {
            let mapping = format!(r#"[{{"DeviceName":"{device}","Ebs":{{"DeleteOnTermination":true}}}}]"#);
            let command = format!(
                "aws ec2 modify-instance-attribute --instance-id {instance} --block-device-mappings {}",
                quoted(&mapping)
            );
            (volume.to_string(), command)
        });
        let group = self.scaling_group.iter();
        let group = group.map(|group| ("auto-scaling-group".to_owned(), exit_standby_command(group, instance)));
        let profile = self.profile.iter();
        let profile = profile.map(|arn| (PROFILE_KEY.to_owned(), attach_profile_command(arn, instance)));
        let service = self.metadata_service.then(|| {
            let command =
                format!("aws ec2 modify-instance-metadata-options --instance-id {instance} --http-endpoint enabled");
            ("metadata-service".to_owned(), command)
        });
        attributes.chain(volumes).chain(group).chain(profile).chain(service).collect()
    }
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = self.attributes.iter().map(ToString::to_string);
        let volumes = self.volumes.keys().map(|volume| format!("deletion of {volume} on termination"));
        let group = self.scaling_group.iter().map(|group| format!("in service of {group}"));
        let profile = self.profile.iter().map(|arn| format!("profile {arn}"));
        let service = self.metadata_service.then(|| "metadata service on".to_owned());
        f.write_str(&comma_list(attributes.chain(volumes).chain(group).chain(profile).chain(service)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prior_value_has_the_command_that_puts_it_back() {
        let prior = Protection {
            attributes: [
                Attribute::TerminationProtection(false),
                Attribute::StopProtection(false),
                Attribute::ShutdownBehaviour(ShutdownBehaviour::Terminate),
            ]
            .into(),
            volumes: [("vol-1".parse().unwrap(), "/dev/sda1".to_owned())].into(),
            scaling_group: Some("Bob's web".to_owned()),
            profile: Some("arn:aws:iam::1:instance-profile/web".to_owned()),
            metadata_service: true,
        };
        let commands = prior.restore_commands(&"i-1".parse().unwrap());
        let lines: Vec<String> = commands.iter().map(|(key, command)| format!("{key}: {command}")).collect();
        assert_eq!(
            lines,
            [
                r"auto-scaling-group: aws autoscaling exit-standby --auto-scaling-group-name 'Bob'\''s web' --instance-ids i-1",
                "instance-profile: aws ec2 associate-iam-instance-profile --instance-id i-1 --iam-instance-profile Arn='arn:aws:iam::1:instance-profile/web'",
                "metadata-service: aws ec2 modify-instance-metadata-options --instance-id i-1 --http-endpoint enabled",
                "shutdown-behaviour: aws ec2 modify-instance-attribute --instance-id i-1 --instance-initiated-shutdown-behavior Value=terminate",
                "stop-protection: aws ec2 modify-instance-attribute --instance-id i-1 --no-disable-api-stop",
                "termination-protection: aws ec2 modify-instance-attribute --instance-id i-1 --no-disable-api-termination",
                r#"vol-1: aws ec2 modify-instance-attribute --instance-id i-1 --block-device-mappings '[{"DeviceName":"/dev/sda1","Ebs":{"DeleteOnTermination":true}}]'"#,
            ]
        );
    }

    #[test]
    fn what_is_recorded_is_not_recorded_again() {
        let attribute = |on| Protection { attributes: [Attribute::StopProtection(on)].into(), ..Protection::default() };
        assert!(attribute(true).without(&attribute(false)).is_empty());
        assert_eq!(attribute(true).without(&Protection::default()), attribute(true));
        let service = Protection { metadata_service: true, ..Protection::default() };
        assert!(service.clone().without(&service).is_empty());
        assert_eq!(service.clone().without(&attribute(true)), service);
    }
}
