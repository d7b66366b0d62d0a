//! Whether a stack's status allows a restore.
//!
//! CloudFormation sends Delete, or a reversed Update, whenever anything else in the stack fails. **Containment is never
//! undone by accident**: a Delete restores only when the stack itself is being deleted.

use futures_util::future::BoxFuture;

use super::stack::{StackStatus, Stacks};
use crate::model::Release;
use crate::plan::DOUBTED;
use crate::ports::{Call, Guard, Verdict};

/// Judges a Delete by the stack's own status followed by its ancestors', innermost first.
#[must_use]
pub fn may_restore(stacks: &[StackStatus], on_rollback: Release) -> Verdict {
    judge(stacks, on_rollback, "being deleted", |row| row.on_delete)
}

/// Whether the stack rolls back. CloudFormation leaves what a rollback could not delete, and a later delete-stack sends its Delete again.
#[must_use]
pub fn rolls_back(stacks: &[StackStatus]) -> bool {
    let courses = stacks.iter().map(|stack| Row::of(stack).map_or(Keep, |row| row.on_delete));
    courses.clone().all(|course| course != Keep) && courses.into_iter().any(|course| course == RollsBack)
}

/// Judges the restore of instances that an Update no longer lists.
#[must_use]
pub fn may_release(stacks: &[StackStatus], on_rollback: Release) -> Verdict {
    judge(stacks, on_rollback, "being updated", |row| row.on_update)
}

/// What a status of a stack, or of one that it is nested in, makes of a request that would release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// A person asked for it.
    Restore,
    /// Something failed: `OnRollback` decides.
    RollsBack,
    /// It serves something else, or never comes in this status.
    Keep,
}

use Course::{Keep, Restore, RollsBack};

#[derive(Debug, Clone, Copy)]
struct Row {
    status: &'static str,
    /// It counts only if the status reason names a person, or nobody.
    is_asked_for: bool,
    on_delete: Course,
    on_update: Course,
}

const fn row(status: &'static str, on_delete: Course, on_update: Course) -> Row {
    Row { status, is_asked_for: false, on_delete, on_update }
}

/// The statuses of the API's `StackStatus` that release anything, the first row that fits counts; any other status keeps. A Delete
/// inside an update serves that update (a resource is replaced, taken out, or its creation undone), in an order that AWS does not
/// document.
const TABLE: &[Row] = &[
    row("CREATE_IN_PROGRESS", Keep, Restore),
    row("ROLLBACK_IN_PROGRESS", RollsBack, RollsBack),
    row("ROLLBACK_FAILED", Keep, RollsBack),
    row("ROLLBACK_COMPLETE", Keep, RollsBack),
    Row { status: "DELETE_IN_PROGRESS", is_asked_for: true, on_delete: Restore, on_update: Keep },
    // `OnFailure=DELETE` deletes instead of rolling back: only the reason tells, and it names whatever had failed.
    row("DELETE_IN_PROGRESS", RollsBack, Keep),
    row("UPDATE_IN_PROGRESS", Keep, Restore),
    row("UPDATE_ROLLBACK_IN_PROGRESS", Keep, RollsBack),
    row("UPDATE_ROLLBACK_FAILED", Keep, RollsBack),
    row("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Keep, RollsBack),
    row("UPDATE_ROLLBACK_COMPLETE", Keep, RollsBack),
];

fn judge(stacks: &[StackStatus], on_rollback: Release, doing: &str, course: impl Fn(&Row) -> Course) -> Verdict {
    if stacks.is_empty() {
        return Verdict::Keep("the stack's status is not known".to_owned());
    }
    let mut verdict = Verdict::Restore;
    for (stack, which) in
        stacks.iter().zip(["the stack itself"].into_iter().chain(std::iter::repeat("its parent stack")))
    {
        let status = &stack.status;
        match Row::of(stack).map_or(Keep, &course) {
            Restore => {}
            RollsBack if on_rollback == Release::Restore => {}
            RollsBack => {
                let which = which.trim_end_matches(" itself");
                let why =
                    if status.starts_with("DELETE") { format!("{status}: {}", stack.reason) } else { status.clone() };
                verdict = Verdict::Keep(format!("{which} is rolling back ({why}) and OnRollback is KeepIsolated"));
            }
            Keep => return Verdict::Keep(format!("{which} is not {doing} ({status})")),
        }
    }
    verdict
}

impl Row {
    fn of(stack: &StackStatus) -> Option<&'static Self> {
        let is_asked_for = ["", "user initiated"].contains(&stack.reason.trim().to_ascii_lowercase().as_str());
        TABLE.iter().find(|row| row.status == stack.status && (is_asked_for || !row.is_asked_for))
    }
}

/// Nested stacks nest a few levels deep; a chain longer than this is a mistake.
const DEEPEST_NESTING: usize = 20;

/// The stack's own status, then its ancestors'.
///
/// # Errors
/// One of them cannot be read.
pub async fn stack_chain<S: Stacks>(stacks: &S, stack_id: &str) -> Call<Vec<StackStatus>> {
    let mut chain = Vec::new();
    let mut next = Some(stack_id.to_owned());
    while let Some(id) = next.filter(|_| chain.len() < DEEPEST_NESTING) {
        let stack = stacks.status(&id).await?;
        next = stack.parent.clone();
        chain.push(stack);
    }
    Ok(chain)
}

/// The same, read again a moment later unless the first reading is `certain`: DescribeStacks may still show what was before the
/// operation (<https://github.com/aws/aws-cdk-cli/issues/1802>).
///
/// # Errors
/// One of them cannot be read.
pub async fn settled_chain<S: Stacks>(
    stacks: &S,
    stack_id: &str,
    certain: fn(&[StackStatus]) -> bool,
) -> Call<Vec<StackStatus>> {
    let chain = stack_chain(stacks, stack_id).await?;
    if certain(&chain) {
        return Ok(chain);
    }
    tokio::time::sleep(DOUBTED).await;
    stack_chain(stacks, stack_id).await
}

/// Lets an Update release what it no longer lists, unless the stack rolls back.
#[derive(Debug)]
pub struct StackGuard<'a, S> {
    pub stacks: &'a S,
    pub stack_id: &'a str,
    pub on_rollback: Release,
}

impl<S: Stacks> Guard for StackGuard<'_, S> {
    fn may_release(&self) -> BoxFuture<'_, Call<Verdict>> {
        Box::pin(async {
            let chain = settled_chain(self.stacks, self.stack_id, |_| false).await?;
            Ok(may_release(&chain, self.on_rollback))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(status: &str, reason: &str) -> StackStatus {
        StackStatus { status: status.into(), reason: reason.into(), parent: None, updated: None }
    }

    /// The course by the two policies: `Restore`, `Keep`, or `RollsBack` where the policy makes the difference.
    fn course(judge: impl Fn(Release) -> Verdict) -> &'static str {
        match (judge(Release::KeepIsolated), judge(Release::Restore)) {
            (Verdict::Restore, Verdict::Restore) => "Restore",
            (Verdict::Keep(_), Verdict::Restore) => "RollsBack",
            (Verdict::Keep(_), Verdict::Keep(_)) => "Keep",
            (Verdict::Restore, Verdict::Keep(_)) => "upside down",
        }
    }

    const FAILED: &str = "The following resource(s) failed to create: [ForensicInstance]. Delete requested by user.";

    const TIMED_OUT: &str = "Stack creation time exceeded the specified timeout. Delete requested by user.";
    const NAME_TAKEN: &str = "Export with name a is already exported by stack b. Delete requested by user.";

    /// Status, reason, what becomes of a Delete, what becomes of an Update that no longer lists an instance.
    const EXPECTED: [(&str, &str, &str, &str); 31] = [
        ("CREATE_IN_PROGRESS", "User Initiated", "Keep", "Restore"),
        ("CREATE_FAILED", FAILED, "Keep", "Keep"),
        ("CREATE_COMPLETE", "", "Keep", "Keep"),
        ("ROLLBACK_IN_PROGRESS", FAILED, "RollsBack", "RollsBack"),
        ("ROLLBACK_IN_PROGRESS", "", "RollsBack", "RollsBack"),
        ("ROLLBACK_FAILED", "", "Keep", "RollsBack"),
        ("ROLLBACK_COMPLETE", "", "Keep", "RollsBack"),
        ("DELETE_IN_PROGRESS", "User Initiated", "Restore", "Keep"),
        ("DELETE_IN_PROGRESS", "", "Restore", "Keep"),
        ("DELETE_IN_PROGRESS", FAILED, "RollsBack", "Keep"),
        ("DELETE_IN_PROGRESS", "Resource creation cancelled", "RollsBack", "Keep"),
        // With `OnFailure=DELETE` whatever ended the creation stands there. No list of such texts can be complete.
        ("DELETE_IN_PROGRESS", TIMED_OUT, "RollsBack", "Keep"),
        ("DELETE_IN_PROGRESS", NAME_TAKEN, "RollsBack", "Keep"),
        ("DELETE_IN_PROGRESS", "a reason that nobody has seen yet", "RollsBack", "Keep"),
        ("DELETE_FAILED", "", "Keep", "Keep"),
        ("DELETE_COMPLETE", "", "Keep", "Keep"),
        ("UPDATE_IN_PROGRESS", "User Initiated", "Keep", "Restore"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "", "Keep", "Keep"),
        ("UPDATE_COMPLETE", "", "Keep", "Keep"),
        ("UPDATE_FAILED", "", "Keep", "Keep"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "", "Keep", "RollsBack"),
        ("UPDATE_ROLLBACK_FAILED", "", "Keep", "RollsBack"),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "", "Keep", "RollsBack"),
        ("UPDATE_ROLLBACK_COMPLETE", "", "Keep", "RollsBack"),
        ("REVIEW_IN_PROGRESS", "", "Keep", "Keep"),
        ("IMPORT_IN_PROGRESS", "", "Keep", "Keep"),
        ("IMPORT_COMPLETE", "", "Keep", "Keep"),
        ("IMPORT_ROLLBACK_IN_PROGRESS", "", "Keep", "Keep"),
        ("IMPORT_ROLLBACK_FAILED", "", "Keep", "Keep"),
        ("IMPORT_ROLLBACK_COMPLETE", "", "Keep", "Keep"),
        ("SOMETHING_NEW", "", "Keep", "Keep"),
    ];

    #[test]
    fn every_status_has_its_course() {
        for (status, reason, on_delete, on_update) in EXPECTED {
            let stacks = [stack(status, reason)];
            assert_eq!(course(|policy| may_restore(&stacks, policy)), on_delete, "Delete in {status}: {reason}");
            assert_eq!(course(|policy| may_release(&stacks, policy)), on_update, "Update in {status}: {reason}");
        }
        let rows: Vec<&str> =
            TABLE.iter().map(|row| row.status).filter(|s| !EXPECTED.iter().any(|e| e.0 == *s)).collect();
        assert!(rows.is_empty(), "rows without a test: {rows:?}");
    }

    /// A Delete of a nested stack comes in its own DELETE_IN_PROGRESS, whatever its parent does: the stricter one counts.
    #[test]
    fn every_status_of_a_parent_has_its_course() {
        for (status, reason, on_delete, on_update) in EXPECTED {
            for depth in 1..3 {
                let nested = |own: &str| {
                    let between = std::iter::repeat_n(stack(own, ""), depth);
                    between.chain([stack(status, reason)]).collect::<Vec<_>>()
                };
                let deleted = nested("DELETE_IN_PROGRESS");
                assert_eq!(course(|policy| may_restore(&deleted, policy)), on_delete, "parent in {status}: {reason}");
                let updated = nested("UPDATE_IN_PROGRESS");
                assert_eq!(course(|policy| may_release(&updated, policy)), on_update, "parent in {status}: {reason}");
            }
        }
    }

    #[test]
    fn what_keeps_is_named_with_the_status() {
        let reason = |stacks: &[StackStatus]| match may_restore(stacks, Release::KeepIsolated) {
            Verdict::Restore => "Restore".to_owned(),
            Verdict::Keep(reason) => reason,
        };
        let deleted = stack("DELETE_IN_PROGRESS", "");
        for (stacks, expected) in [
            (vec![], "the stack's status is not known"),
            (vec![stack("UPDATE_IN_PROGRESS", "")], "the stack itself is not being deleted (UPDATE_IN_PROGRESS)"),
            (
                vec![stack("ROLLBACK_IN_PROGRESS", "")],
                "the stack is rolling back (ROLLBACK_IN_PROGRESS) and OnRollback is KeepIsolated",
            ),
            (
                vec![stack("DELETE_IN_PROGRESS", FAILED)],
                &format!("the stack is rolling back (DELETE_IN_PROGRESS: {FAILED}) and OnRollback is KeepIsolated"),
            ),
            (
                vec![deleted.clone(), stack("ROLLBACK_IN_PROGRESS", "")],
                "its parent stack is rolling back (ROLLBACK_IN_PROGRESS) and OnRollback is KeepIsolated",
            ),
            (
                vec![deleted, stack("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "")],
                "its parent stack is not being deleted (UPDATE_COMPLETE_CLEANUP_IN_PROGRESS)",
            ),
        ] {
            assert_eq!(reason(&stacks), expected);
        }
        assert_eq!(
            may_release(&[stack("DELETE_IN_PROGRESS", "")], Release::Restore),
            Verdict::Keep("the stack itself is not being updated (DELETE_IN_PROGRESS)".into())
        );
    }
}
