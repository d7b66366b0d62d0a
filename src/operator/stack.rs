//! A stack as the program sees it, and what ends it once nothing of it is held isolated any more.
//!
//! After a FAILED Delete CloudFormation goes on and deletes the function (cloudformation-coverage-roadmap#852), so the custom
//! resource that is left cannot be deleted any more: it is retained, which CloudFormation allows in DELETE_FAILED only, and
//! only for what failed to delete (`DeleteStack`, API reference).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::cloudformation::stack::{StackStatus, Stacks};
use crate::model::{InstanceId, Owner, Time};
use crate::ports::Call;

/// What the responder stack exports: the table that holds the records of every incident that is made beside it.
pub const RECORDS_EXPORT: &str = "ec2-isolation-v1-RecordsTable";
/// The same of its function.
pub const FUNCTION_EXPORT: &str = "ec2-isolation-v1-FunctionArn";
/// The type of our custom resource.
const ISOLATION: &str = "Custom::Ec2Isolation";

/// What only the program asks of CloudFormation.
pub trait StackLife: Stacks {
    /// `stack` is a name or an id. `None` if there is no such stack, or it is deleted.
    fn view(&self, stack: &str) -> impl Future<Output = Call<Option<StackView>>> + Send;
    /// The ids of the stacks that are there and have parameters of all these names, but for those in which others are nested, which
    /// have them for those, and for those that were never begun.
    fn with_parameters(&self, names: &[&str]) -> impl Future<Output = Call<Vec<String>>> + Send;
    /// When a stack was made, changed and deleted, by its id: CloudFormation knows a deleted one for 90 days. `None` if it does not.
    fn times(&self, stack_id: &str) -> impl Future<Output = Call<Option<StackTimes>>> + Send;
    /// What a deleted stack has left behind by its template's word, by its id; nothing once CloudFormation has forgotten it.
    fn left_behind(&self, stack_id: &str) -> impl Future<Output = Call<Vec<StackResource>>> + Send;
    /// What a stack of this account and Region exports under this name.
    fn export(&self, name: &str) -> impl Future<Output = Call<Option<Export>>> + Send;
    /// Begins to make a stack. Its id; `None` if there is one of this name.
    fn create(&self, stack: &NewStack<'_>) -> impl Future<Output = Call<Option<String>>> + Send;
    /// Prepares a change of these parameters, by a change set of this name; everything else stays as it is.
    fn prepare(
        &self,
        stack: &str,
        name: &str,
        parameters: &BTreeMap<String, String>,
    ) -> impl Future<Output = Call<Prepared>> + Send;
    /// Begins to carry it out, with rollback off. `false` if the stack was changed since it was prepared, which makes it void.
    fn carry_out(&self, change_set: &str) -> impl Future<Output = Call<bool>> + Send;
    /// Takes back what was prepared.
    fn discard(&self, change_set: &str) -> impl Future<Output = Call<()>> + Send;
    /// Turns termination protection on or off.
    fn protect(&self, stack: &str, on: bool) -> impl Future<Output = Call<()>> + Send;
    /// Begins to delete it. `retain` are logical ids that are left as they are, which CloudFormation allows in DELETE_FAILED only.
    fn delete(&self, stack: &str, retain: &[String]) -> impl Future<Output = Call<()>> + Send;
}

/// When CloudFormation did what to a stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StackTimes {
    pub created: Option<Time>,
    /// The last time.
    pub updated: Option<Time>,
    pub deleted: Option<Time>,
}

/// What a stack exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub value: String,
    pub stack_id: String,
}

/// A stack to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStack<'a> {
    pub name: &'a str,
    pub template: Template<'a>,
    pub parameters: &'a BTreeMap<String, String>,
    /// The role that CloudFormation makes it with.
    pub role: Option<&'a str>,
    /// Equal for repeated tries of one call.
    pub token: &'a str,
    /// What is made stays if something fails, or if a person deletes the stack by oversight: rollback is off,
    /// termination protection on.
    pub stays: bool,
}

/// Where a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template<'a> {
    /// At most 51,200 bytes (CloudFormation quotas).
    Body(&'a str),
    Url(&'a str),
}

/// What became of a change set that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// The id of the change set.
    Ready(String),
    /// CloudFormation is at work on the stack.
    Busy,
    /// It cannot be prepared, for this reason.
    Refused(String),
}

/// What CloudFormation shows of a stack that is not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackView {
    pub id: String,
    pub name: String,
    pub status: StackStatus,
    /// By CloudFormation's termination protection.
    pub is_protected: bool,
    /// The function is the responder's: it outlives this stack.
    pub function_outlives: bool,
    /// When it was made or changed last, or its deletion began.
    pub changed_at: Option<Time>,
    pub parameters: BTreeMap<String, String>,
    pub outputs: BTreeMap<String, String>,
    pub resources: Vec<StackResource>,
}

/// A resource of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackResource {
    pub logical_id: String,
    pub physical_id: String,
    /// As in `AWS::Lambda::Function`.
    pub kind: String,
    pub status: String,
    pub reason: String,
}

impl StackResource {
    /// Whether the stack still holds it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !matches!(self.status.as_str(), "DELETE_COMPLETE" | "DELETE_SKIPPED")
    }

    #[must_use]
    pub fn failed_to_delete(&self) -> bool {
        self.status == "DELETE_FAILED"
    }
}

impl StackView {
    /// The instances that its parameter lists.
    #[must_use]
    pub fn instances(&self) -> BTreeSet<InstanceId> {
        let list = self.parameters.get("CompromisedInstanceList").map_or("", String::as_str);
        list.split(',').filter_map(|id| id.trim().parse().ok()).collect()
    }

    /// The id behind a logical id, also of what a rollback has left behind.
    #[must_use]
    pub fn physical_id(&self, logical_id: &str) -> Option<&str> {
        let found = self.resources.iter().find(|resource| resource.logical_id == logical_id);
        found.map(|resource| resource.physical_id.as_str()).filter(|id| !id.is_empty())
    }

    /// The forensic host, while the stack holds it.
    #[must_use]
    pub fn forensic_host(&self) -> Option<InstanceId> {
        let host =
            self.resources.iter().find(|resource| resource.logical_id == "ForensicInstance" && resource.is_there())?;
        host.physical_id.parse().ok()
    }

    /// The custom resource, while the stack holds it.
    #[must_use]
    pub fn isolation(&self) -> Option<&StackResource> {
        self.resources.iter().find(|resource| resource.kind == ISOLATION && resource.is_there())
    }

    /// Whose records its custom resource writes.
    #[must_use]
    pub fn owner(&self) -> Owner {
        let logical_id = self.isolation().map_or("Isolation", |isolation| &isolation.logical_id);
        Owner { stack_id: self.id.clone(), logical_id: logical_id.to_owned() }
    }

    /// Whether CloudFormation can still call the function for its custom resource.
    #[must_use]
    pub fn is_in_charge(&self) -> bool {
        let is_function = |resource: &&StackResource| resource.kind == "AWS::Lambda::Function";
        let has_function = || self.resources.iter().filter(is_function).any(StackResource::is_there);
        self.isolation().is_some() && (self.function_outlives || has_function())
    }

    /// Whether it restores what it holds when it is deleted.
    #[must_use]
    pub fn takes_care(&self) -> bool {
        self.is_deployable() || self.function_outlives && self.is_in_charge()
    }

    /// Whether it takes care of what it holds to the end: it restores that when it is deleted, and can be deployed
    /// again until then.
    #[must_use]
    pub fn is_deployable(&self) -> bool {
        self.is_in_charge() && !matches!(self.status.status.as_str(), "ROLLBACK_FAILED" | "DELETE_FAILED")
    }

    /// Whether CloudFormation updates it, now or when what is under way has ended.
    #[must_use]
    pub fn takes_updates(&self) -> bool {
        matches!(
            self.status.status.as_str(),
            "CREATE_COMPLETE"
                | "CREATE_FAILED"
                | "UPDATE_COMPLETE"
                | "UPDATE_FAILED"
                | "UPDATE_ROLLBACK_COMPLETE"
                | "CREATE_IN_PROGRESS"
                | "UPDATE_IN_PROGRESS"
                | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
                | "UPDATE_ROLLBACK_IN_PROGRESS"
                | "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"
                | "IMPORT_COMPLETE"
                | "IMPORT_IN_PROGRESS"
                | "IMPORT_ROLLBACK_COMPLETE"
                | "IMPORT_ROLLBACK_IN_PROGRESS"
        )
    }

    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.status.status.ends_with("_IN_PROGRESS") && self.status.status != "REVIEW_IN_PROGRESS"
    }
}

/// What ends a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// One `delete-stack`, which leaves these logical ids alone.
    Delete { retain: Vec<String> },
    /// A first `delete-stack` ends in DELETE_FAILED, since no function answers for these any more; a second one leaves
    /// them alone.
    DeleteTwice { retain: Vec<String> },
    /// Something is under way; look again when it has ended.
    Wait,
    /// It goes with the stack that it is nested in.
    WithParent { parent: String },
}

/// Of a stack of whose records none is held.
#[must_use]
pub fn ending(stack: &StackView) -> Ending {
    if stack.is_busy() {
        return Ending::Wait;
    }
    if let Some(parent) = &stack.status.parent {
        return Ending::WithParent { parent: parent.clone() };
    }
    let custom = stack.isolation();
    let is_deleted = stack.status.status == "DELETE_FAILED";
    match custom {
        Some(custom) if is_deleted && custom.failed_to_delete() && !stack.function_outlives => {
            Ending::Delete { retain: vec![custom.logical_id.clone()] }
        }
        Some(custom) if !stack.is_in_charge() => Ending::DeleteTwice { retain: vec![custom.logical_id.clone()] },
        _ => Ending::Delete { retain: vec![] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: (&str, &str) = ("IsolationFunction", "AWS::Lambda::Function");
    const CUSTOM: (&str, &str) = ("Isolation", ISOLATION);
    const GROUP: (&str, &str) = ("IsolatedSecurityGroup", "AWS::EC2::SecurityGroup");

    fn stack(status: &str, resources: &[((&str, &str), &str)]) -> StackView {
        let resources = resources.iter().map(|((logical_id, kind), status)| StackResource {
            logical_id: (*logical_id).to_owned(),
            physical_id: "id".to_owned(),
            kind: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: String::new(),
        });
        StackView {
            id: "arn".to_owned(),
            name: "ir".to_owned(),
            status: StackStatus { status: status.to_owned(), reason: String::new(), parent: None, updated: None },
            is_protected: false,
            function_outlives: false,
            changed_at: None,
            parameters: BTreeMap::new(),
            outputs: BTreeMap::new(),
            resources: resources.collect(),
        }
    }

    fn check(stack: &StackView, expected: Ending) {
        assert_eq!(ending(stack), expected, "{stack:?}");
    }

    #[test]
    fn a_stack_with_its_function_is_simply_deleted() {
        for status in [
            "CREATE_COMPLETE",
            "UPDATE_COMPLETE",
            "CREATE_FAILED",
            "UPDATE_FAILED",
            "UPDATE_ROLLBACK_COMPLETE",
            "UPDATE_ROLLBACK_FAILED",
            "REVIEW_IN_PROGRESS",
        ] {
            let stack = stack(status, &[(FUNCTION, "CREATE_COMPLETE"), (CUSTOM, "CREATE_COMPLETE")]);
            check(&stack, Ending::Delete { retain: vec![] });
        }
    }

    #[test]
    fn a_rolled_back_stack_whose_group_was_in_use_is_simply_deleted() {
        let left = [(FUNCTION, "DELETE_COMPLETE"), (CUSTOM, "DELETE_COMPLETE"), (GROUP, "DELETE_FAILED")];
        check(&stack("ROLLBACK_FAILED", &left), Ending::Delete { retain: vec![] });
        check(&stack("ROLLBACK_FAILED", &left[2..]), Ending::Delete { retain: vec![] });
        check(&stack("DELETE_FAILED", &left[2..]), Ending::Delete { retain: vec![] });
    }

    #[test]
    fn what_a_responders_function_answers_for_is_deleted_once_more_and_not_retained() {
        let left = [(CUSTOM, "DELETE_FAILED"), (GROUP, "DELETE_FAILED")];
        for status in ["DELETE_FAILED", "ROLLBACK_FAILED"] {
            let stack = StackView { function_outlives: true, ..stack(status, &left) };
            check(&stack, Ending::Delete { retain: vec![] });
            assert!(stack.takes_care() && !stack.is_deployable(), "{status}");
        }
        let gone = StackView { function_outlives: true, ..stack("DELETE_FAILED", &left[1..]) };
        assert!(!gone.takes_care() && !gone.is_deployable(), "CloudFormation has nothing to call the function for");
    }

    #[test]
    fn a_custom_resource_that_failed_to_delete_is_retained() {
        let left = [(CUSTOM, "DELETE_FAILED"), (GROUP, "DELETE_FAILED")];
        check(&stack("DELETE_FAILED", &left), Ending::Delete { retain: vec!["Isolation".to_owned()] });
    }

    #[test]
    fn retaining_takes_a_delete_that_failed() {
        let left = [(CUSTOM, "DELETE_FAILED"), (GROUP, "DELETE_FAILED")];
        check(&stack("ROLLBACK_FAILED", &left), Ending::DeleteTwice { retain: vec!["Isolation".to_owned()] });
        let left = [(CUSTOM, "CREATE_COMPLETE"), (FUNCTION, "DELETE_COMPLETE")];
        check(&stack("UPDATE_COMPLETE", &left), Ending::DeleteTwice { retain: vec!["Isolation".to_owned()] });
    }

    #[test]
    fn what_is_under_way_is_waited_for() {
        for status in ["DELETE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "CREATE_IN_PROGRESS"] {
            check(&stack(status, &[(CUSTOM, "DELETE_FAILED")]), Ending::Wait);
        }
    }

    #[test]
    fn a_nested_stack_goes_with_its_parent() {
        let mut nested = stack("ROLLBACK_FAILED", &[]);
        nested.status.parent = Some("parent".to_owned());
        check(&nested, Ending::WithParent { parent: "parent".to_owned() });
    }
}
