//! What a drill could not take away, with the commands that do. Pure.

use std::collections::BTreeMap;

use super::super::Trouble;
use super::super::next::Next;
use super::super::shell::Shell;
use crate::operator::ports::drill::{DRILL_TAG, Made};
use crate::operator::stack::StackView;

/// From what was read at the end. `why` is empty, or in parentheses.
pub(super) fn left(
    id: &str,
    stack: Result<Option<StackView>, Trouble>,
    made: Result<BTreeMap<String, Made>, Trouble>,
    why: &str,
    shell: &Shell,
) -> Vec<Next> {
    let again = shell.own("drill --clean");
    let mut left = Vec::new();
    match stack {
        Ok(None) => {}
        Ok(Some(stack)) => left.push(Next {
            what: format!("Stack {} of the drill is left{why}:", stack.name),
            commands: vec![shell.own(&format!("restore --stack {} --finish", stack.name)), again.clone()],
        }),
        Err(error) => left.push(Next {
            what: format!("Whether the stack of drill {id} is left cannot be read: {error}. Try again:"),
            commands: vec![again.clone()],
        }),
    }
    let made = match made {
        Ok(mut drills) => drills.remove(id).unwrap_or_default(),
        Err(error) => {
            let what = format!("What is left of drill {id} cannot be read: {error}. Try again:");
            left.push(Next { what, commands: vec![again] });
            return left;
        }
    };
    let commands = deletions(&made, shell);
    if !commands.is_empty() {
        left.push(Next { what: format!("These of drill {id} are left{why}:"), commands });
    }
    if !made.tagged.is_empty() {
        left.push(Next {
            what: format!(
                "These have the tag {DRILL_TAG} of drill {id}, and nothing else shows who made them. See first whose they are:"
            ),
            commands: made.tagged.iter().map(|id| look(id, shell)).collect(),
        });
    }
    left
}

fn deletions(made: &Made, shell: &Shell) -> Vec<String> {
    let instances = made.instances.iter().flat_map(|id| {
        let unprotect = format!("ec2 modify-instance-attribute --instance-id {id} --no-disable-api-termination");
        [shell.aws(&unprotect), shell.aws(&format!("ec2 terminate-instances --instance-ids {id}"))]
    });
    let interfaces = made.interfaces.iter();
    let interfaces =
        interfaces.map(|id| shell.aws(&format!("ec2 delete-network-interface --network-interface-id {id}")));
    let groups = made.groups.iter().map(|group| shell.delete_group(group));
    instances.chain(interfaces).chain(groups).collect()
}

/// Shows who made it. What deletes it is for a person to know.
fn look(id: &str, shell: &Shell) -> String {
    let command = match id.split_once('-').map(|(kind, _)| kind) {
        Some("vol") => "describe-volumes --volume-ids",
        Some("snap") => "describe-snapshots --snapshot-ids",
        Some("sg") => "describe-security-groups --group-ids",
        _ => "describe-instances --instance-ids",
    };
    shell.aws(&format!("ec2 {command} {id}"))
}
