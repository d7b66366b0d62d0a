//! Command lines for the operator's own shell: complete, with region and profile, so that they can be pasted.

use crate::model::{GroupId, Groups, InterfaceId, SnapshotId, VolumeId, restore_command};

/// What commands need so that they reach the same account and region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    pub region: String,
    pub profile: Option<String>,
}

impl Shell {
    /// Where a command has to look: `--region … --profile …`.
    fn place(&self) -> String {
        let profile = self.profile.as_ref().map(|name| format!(" --profile {}", quoted(name))).unwrap_or_default();
        format!("--region {}{profile}", self.region)
    }

    /// `aws <service> <operation> …`
    #[must_use]
    pub fn aws(&self, command: &str) -> String {
        format!("aws {command} {}", self.place())
    }

    /// This program.
    #[must_use]
    pub fn own(&self, command: &str) -> String {
        format!("ec2-isolation {command} {}", self.place())
    }

    /// Gives an interface these groups.
    #[must_use]
    pub fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> String {
        format!("{} {}", restore_command(interface, groups), self.place())
    }

    /// The same, with the groups left to choose.
    #[must_use]
    pub fn choose_groups(&self, interface: &InterfaceId) -> String {
        self.aws(&format!(
            "ec2 modify-network-interface-attribute --network-interface-id {interface} --groups <group ids>"
        ))
    }

    #[must_use]
    pub fn delete_stack(&self, stack: &str, retain: &[String]) -> String {
        let retain =
            if retain.is_empty() { String::new() } else { format!(" --retain-resources {}", retain.join(" ")) };
        self.aws(&format!("cloudformation delete-stack --stack-name {stack}{retain}"))
    }

    #[must_use]
    pub fn unprotect(&self, stack: &str) -> String {
        self.aws(&format!(
            "cloudformation update-termination-protection --no-enable-termination-protection --stack-name {stack}"
        ))
    }

    #[must_use]
    pub fn protect(&self, stack: &str) -> String {
        self.aws(&format!(
            "cloudformation update-termination-protection --enable-termination-protection --stack-name {stack}"
        ))
    }

    #[must_use]
    pub fn stack_status(&self, stack: &str) -> String {
        self.aws(&format!("cloudformation describe-stacks --query 'Stacks[0].StackStatus' --stack-name {stack}"))
    }

    #[must_use]
    pub fn wait_for_deletion(&self, stack: &str) -> String {
        self.aws(&format!("cloudformation wait stack-delete-complete --stack-name {stack}"))
    }

    #[must_use]
    pub fn delete_group(&self, group: &GroupId) -> String {
        self.aws(&format!("ec2 delete-security-group --group-id {group}"))
    }

    #[must_use]
    pub fn delete_volume(&self, volume: &VolumeId) -> String {
        self.aws(&format!("ec2 delete-volume --volume-id {volume}"))
    }

    #[must_use]
    pub fn show_volume(&self, volume: &VolumeId) -> String {
        self.aws(&format!("ec2 describe-volumes --volume-ids {volume}"))
    }

    #[must_use]
    pub fn detach_volume(&self, volume: &VolumeId) -> String {
        self.aws(&format!("ec2 detach-volume --volume-id {volume}"))
    }

    #[must_use]
    pub fn wait_for_volume(&self, volume: &VolumeId) -> String {
        self.aws(&format!("ec2 wait volume-available --volume-ids {volume}"))
    }

    #[must_use]
    pub fn delete_snapshot(&self, snapshot: &SnapshotId) -> String {
        self.aws(&format!("ec2 delete-snapshot --snapshot-id {snapshot}"))
    }

    #[must_use]
    pub fn show_snapshot(&self, snapshot: &SnapshotId) -> String {
        self.aws(&format!("ec2 describe-snapshots --snapshot-ids {snapshot}"))
    }

    #[must_use]
    pub fn delete_table(&self, table: &str) -> String {
        self.aws(&format!("dynamodb delete-table --table-name {}", quoted(table)))
    }

    #[must_use]
    pub fn delete_log_group(&self, name: &str) -> String {
        self.aws(&format!("logs delete-log-group --log-group-name {}", quoted(name)))
    }
}

/// For a shell, where it is more than letters, digits and the like.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=+@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_region_and_profile() {
        let shell = Shell { region: "eu-west-1".to_owned(), profile: Some("ir team".to_owned()) };
        assert_eq!(
            shell.delete_stack("incident-42", &["Isolation".to_owned()]),
            "aws cloudformation delete-stack --stack-name incident-42 --retain-resources Isolation --region eu-west-1 --profile 'ir team'"
        );
        let shell = Shell { region: "eu-west-1".to_owned(), profile: None };
        assert_eq!(
            shell.set_groups(&"eni-01".parse().unwrap(), &["sg-0a".parse().unwrap()].into()),
            "aws ec2 modify-network-interface-attribute --network-interface-id eni-01 --groups sg-0a --region eu-west-1"
        );
    }
}
