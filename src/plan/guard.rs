//! Whether a stack's status allows a restore.
//!
//! CloudFormation sends Delete, or a reversed Update, whenever anything else in the stack fails. **Containment is never
//! undone by accident**: a Delete restores only when the stack itself is being deleted.

use crate::model::Release;

/// What `DescribeStacks` says of one stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackStatus {
    pub status: String,
    pub reason: String,
    /// The stack that this one is nested in.
    pub parent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Restore,
    /// Nothing is released, for this reason.
    Keep(String),
}

/// Judges a Delete by the stack's own status followed by its ancestors', innermost first.
#[must_use]
pub fn may_restore(stacks: &[StackStatus], on_rollback: Release) -> Verdict {
    judge(stacks, on_rollback, |stack| match stack.status.as_str() {
        "ROLLBACK_IN_PROGRESS" => Course::RollsBack,
        // `OnFailure=DELETE` deletes instead of rolling back: only the reason tells.
        "DELETE_IN_PROGRESS" if speaks_of_a_failed_create(stack) => Course::RollsBack,
        "DELETE_IN_PROGRESS" => Course::AsAsked,
        // An update that rolls back sends Delete to clean up, in an order that nobody documents.
        _ => Course::Otherwise("the stack itself is not being deleted"),
    })
}

/// Judges the restore of instances that an Update no longer lists.
#[must_use]
pub fn may_release(stacks: &[StackStatus], on_rollback: Release) -> Verdict {
    judge(stacks, on_rollback, |stack| match stack.status.as_str() {
        "CREATE_IN_PROGRESS" | "UPDATE_IN_PROGRESS" => Course::AsAsked,
        status if status.contains("ROLLBACK") => Course::RollsBack,
        _ => Course::Otherwise("the stack is not being updated"),
    })
}

enum Course {
    AsAsked,
    RollsBack,
    Otherwise(&'static str),
}

fn judge(stacks: &[StackStatus], on_rollback: Release, course: impl Fn(&StackStatus) -> Course) -> Verdict {
    if stacks.is_empty() {
        return Verdict::Keep("the stack's status is not known".to_owned());
    }
    let mut verdict = Verdict::Restore;
    for stack in stacks {
        let status = &stack.status;
        match course(stack) {
            Course::AsAsked => {}
            Course::RollsBack if on_rollback == Release::Restore => {}
            Course::RollsBack => {
                verdict = Verdict::Keep(format!("the stack is rolling back ({status}) and OnRollback is KeepIsolated"));
            }
            Course::Otherwise(what) => return Verdict::Keep(format!("{what} ({status})")),
        }
    }
    verdict
}

fn speaks_of_a_failed_create(stack: &StackStatus) -> bool {
    let reason = stack.reason.to_ascii_lowercase();
    reason.contains("failed to create") || reason.contains("creation cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(status: &str, reason: &str) -> StackStatus {
        StackStatus { status: status.into(), reason: reason.into(), parent: None }
    }

    /// `Restore`, or why not, for each of the two policies.
    fn check(stacks: &[StackStatus], keep: &str, restore: &str) {
        for (policy, expected) in [(Release::KeepIsolated, keep), (Release::Restore, restore)] {
            let text = match may_restore(stacks, policy) {
                Verdict::Restore => "Restore".to_owned(),
                Verdict::Keep(reason) => reason,
            };
            assert_eq!(text, expected, "{policy:?}");
        }
    }

    #[test]
    fn a_stack_that_is_being_deleted_restores() {
        check(&[stack("DELETE_IN_PROGRESS", "User Initiated")], "Restore", "Restore");
        check(&[stack("DELETE_IN_PROGRESS", ""), stack("DELETE_IN_PROGRESS", "")], "Restore", "Restore");
    }

    #[test]
    fn a_stack_that_rolls_back_its_creation_restores_only_where_asked_to() {
        let kept = "the stack is rolling back (ROLLBACK_IN_PROGRESS) and OnRollback is KeepIsolated";
        check(&[stack("ROLLBACK_IN_PROGRESS", "")], kept, "Restore");
    }

    #[test]
    fn on_failure_delete_is_a_rollback() {
        let kept = "the stack is rolling back (DELETE_IN_PROGRESS) and OnRollback is KeepIsolated";
        let reason = "The following resource(s) failed to create: [ForensicInstance]. Delete requested by user.";
        check(&[stack("DELETE_IN_PROGRESS", reason)], kept, "Restore");
    }

    #[test]
    fn a_nested_stack_looks_at_its_ancestors() {
        let nested = stack("DELETE_IN_PROGRESS", "");
        let kept = "the stack is rolling back (ROLLBACK_IN_PROGRESS) and OnRollback is KeepIsolated";
        check(&[nested.clone(), stack("ROLLBACK_IN_PROGRESS", "")], kept, "Restore");
        let update = "the stack itself is not being deleted (UPDATE_COMPLETE_CLEANUP_IN_PROGRESS)";
        check(&[nested, stack("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "")], update, update);
    }

    #[test]
    fn a_delete_inside_an_update_restores_nothing_whatever_the_policy() {
        for status in [
            "UPDATE_IN_PROGRESS",
            "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
            "UPDATE_ROLLBACK_IN_PROGRESS",
            "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
            "CREATE_IN_PROGRESS",
            "REVIEW_IN_PROGRESS",
            "SOMETHING_NEW",
        ] {
            let kept = format!("the stack itself is not being deleted ({status})");
            check(&[stack(status, "")], &kept, &kept);
        }
    }

    #[test]
    fn an_unknown_status_restores_nothing() {
        check(&[], "the stack's status is not known", "the stack's status is not known");
    }

    #[test]
    fn an_update_releases_what_it_no_longer_lists_unless_it_rolls_back() {
        let judge = |status: &str, policy| may_release(&[stack(status, "")], policy);
        assert_eq!(judge("UPDATE_IN_PROGRESS", Release::KeepIsolated), Verdict::Restore);
        assert_eq!(judge("UPDATE_ROLLBACK_IN_PROGRESS", Release::Restore), Verdict::Restore);
        assert_eq!(
            judge("UPDATE_ROLLBACK_IN_PROGRESS", Release::KeepIsolated),
            Verdict::Keep(
                "the stack is rolling back (UPDATE_ROLLBACK_IN_PROGRESS) and OnRollback is KeepIsolated".into()
            )
        );
        assert_eq!(
            judge("DELETE_IN_PROGRESS", Release::Restore),
            Verdict::Keep("the stack is not being updated (DELETE_IN_PROGRESS)".into())
        );
    }
}
