//! The credentials that instances of an incident got for their roles: whether they are denied, and what ends that.
//!
//! A policy denies them, in a one-shot stack or in a stack of its own beside a prepared incident. **Ending one incident never lifts the
//! denial of an instance that another one holds.**

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::incident::{Incident, cannot_look};
use super::isolate::LIST;
use super::shell::Shell;
use super::text::{count, some, wrapped};
use super::{Operator, TRAILING, Trouble};
use crate::model::{InstanceId, comma_list};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{StackLife, StackView};
use crate::ports::Change;

/// Its logical id in both templates.
const POLICY: &str = "InstanceCredentialsPolicy";
/// The parameter with the names of the roles.
pub(super) const ROLES: &str = "RevokeRoles";

/// The stack that denies, beside a prepared incident.
#[must_use]
pub(super) fn credentials_name(incident: &str) -> String {
    format!("{incident}-credentials")
}

/// Whether a stack is of our template that denies.
pub(super) fn denies(stack: &StackView) -> bool {
    [ROLES, LIST].iter().all(|name| stack.parameters.contains_key(*name))
}

/// The roles that a stack's parameter names.
#[must_use]
pub(super) fn roles(stack: &StackView) -> BTreeSet<String> {
    let list = stack.parameters.get(ROLES).map_or("", String::as_str);
    list.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned).collect()
}

/// Whose credentials a stack denies, by CloudFormation's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credentials {
    pub stack: String,
    /// Of the stack.
    pub status: String,
    /// CloudFormation has made the policy of all of them, and has attached it to all of the roles. IAM itself was not asked.
    pub is_denied: bool,
    /// Why it has not.
    pub reason: Option<String>,
    pub roles: BTreeSet<String>,
    pub instances: BTreeSet<String>,
    /// The incident lists them, and the policy does not name them.
    pub missing: BTreeSet<String>,
}

impl Credentials {
    /// Nothing if the stack is to deny nothing. `listed` is what the incident lists.
    pub(super) fn of(stack: &StackView, listed: &BTreeSet<InstanceId>) -> Option<Self> {
        let (roles, named) = (roles(stack), stack.instances());
        if roles.is_empty() {
            return None;
        }
        let policy = stack.resources.iter().find(|resource| resource.logical_id == POLICY && resource.is_there());
        // A stack that failed has the new parameters, and what came after the failure is as it was before.
        let is_complete = |status: &str| matches!(status, "CREATE_COMPLETE" | "UPDATE_COMPLETE");
        let is_made = policy.is_some_and(|policy| is_complete(&policy.status));
        let reason = policy.map(|policy| policy.reason.clone()).filter(|reason| !is_made && !reason.is_empty());
        let is_failed = stack.status.status.ends_with("_FAILED");
        let reason = reason.or_else(|| Some(stack.status.reason.clone()).filter(|why| is_failed && !why.is_empty()));
        let texts = |ids: &mut dyn Iterator<Item = &InstanceId>| ids.map(ToString::to_string).collect();
        Some(Self {
            stack: stack.name.clone(),
            status: stack.status.status.clone(),
            is_denied: is_made && is_complete(&stack.status.status),
            reason,
            roles,
            instances: texts(&mut named.iter()),
            missing: texts(&mut listed.difference(&named)),
        })
    }
}

/// At the beginning of each line of `status` after its first word.
const INDENT: &str = "         ";

impl Credentials {
    /// In lines of 80 columns.
    pub(super) fn headline(&self) -> String {
        wrapped(&self.sentence(), "  ")
    }

    pub(super) fn sentence(&self) -> String {
        let Self { stack, status, .. } = self;
        let of = format!("the credentials of {}", count(self.instances.len(), "instance"));
        let roles: Vec<String> = self.roles.iter().cloned().collect();
        let roles = format!("for {} {}", if roles.len() == 1 { "role" } else { "roles" }, some(&roles));
        match self.is_denied {
            true => format!("DENIED, as CloudFormation says: {of} {roles}, by stack {stack} ({status})."),
            false if status.ends_with("_IN_PROGRESS") => {
                format!("NOT DENIED YET: {of} {roles}. Stack {stack} is {status}.")
            }
            false => format!("NOT KNOWN whether they are denied: {of} {roles}. Stack {stack} is {status}."),
        }
    }

    /// As a part of `status`.
    pub(super) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", wrapped(&format!("denied   {}", self.sentence()), INDENT))?;
        if let Some(reason) = &self.reason {
            writeln!(f, "{}", wrapped(&format!("{INDENT}{reason}"), INDENT))?;
        }
        if !self.missing.is_empty() {
            let missing: Vec<String> = self.missing.iter().cloned().collect();
            let text = format!("{INDENT}Not those of {}: isolate them again with --revoke", some(&missing));
            writeln!(f, "{}", wrapped(&text, INDENT))?;
        }
        Ok(())
    }
}

impl<E: Survey + Change, R: Archive, S: StackLife> Operator<E, R, S> {
    /// The stack of this name, if it is one that denies credentials: somebody else may have one of the same name.
    pub(super) async fn denying(&self, name: &str) -> Result<Option<StackView>, Trouble> {
        Ok(self.view(name).await?.filter(denies))
    }
}

impl Incident {
    /// Whose credentials are denied for it, and by which stack.
    pub(super) fn denied(&self) -> Option<Credentials> {
        let own = self.stack.as_ref().filter(|stack| stack.parameters.contains_key(ROLES));
        let beside = self.credentials.as_ref().ok().and_then(Option::as_ref);
        let listed = self.listed();
        let found = [own, beside].into_iter().flatten();
        found.filter_map(|stack| Credentials::of(stack, &listed)).next()
    }

    /// The stack that denies, beside it, if it is there.
    #[must_use]
    pub fn credentials_stack(&self) -> Option<&str> {
        self.credentials.as_ref().ok()?.as_ref().map(|stack| stack.name.as_str())
    }
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// The instances whose credentials this stack denies, and that an incident holds which is none of `over` and does not deny them itself:
    /// each with that one's stack.
    pub(super) async fn still_held(
        &self,
        stack: &StackView,
        over: &BTreeSet<String>,
    ) -> Result<BTreeMap<InstanceId, String>, Trouble> {
        let mut holders = self.other_holders(stack, over).await?;
        if holders.is_empty() {
            // Nobody is denied any longer because of one reading that shows nothing.
            tokio::time::sleep(TRAILING).await;
            holders = self.other_holders(stack, over).await?;
        }
        for holder in holders.values().cloned().collect::<BTreeSet<String>>() {
            let theirs = self.denial(&holder).await?.and_then(|stack| Credentials::of(&stack, &BTreeSet::new()));
            let theirs = theirs.filter(|theirs| theirs.is_denied && theirs.roles.is_superset(&roles(stack)));
            let denied = theirs.map(|theirs| theirs.instances).unwrap_or_default();
            holders.retain(|id, held_by| *held_by != holder || !denied.contains(id.as_str()));
        }
        Ok(holders)
    }

    async fn other_holders(
        &self,
        stack: &StackView,
        over: &BTreeSet<String>,
    ) -> Result<BTreeMap<InstanceId, String>, Trouble> {
        let found = self.ports.ec2.instances(&stack.instances()).await.map_err(cannot_look)?;
        let mut holders = self.holders(&found).await?;
        holders.retain(|_, holder| !over.contains(holder));
        Ok(holders)
    }

    /// The stack that is to deny the credentials of an incident, if it is there.
    async fn denial(&self, incident: &str) -> Result<Option<StackView>, Trouble> {
        match self.view(incident).await? {
            Some(stack) if stack.parameters.contains_key(ROLES) => Ok(Some(stack)),
            Some(stack) => self.denying(&credentials_name(&stack.name)).await,
            None => Ok(None),
        }
    }

    /// Deletes the stack that denies the credentials, and says so in the log. Whether there is none any more.
    pub(super) async fn lift(&self, incident: &Incident, log: &mut Vec<String>) -> Result<bool, Trouble> {
        let Some(stack) = incident.credentials.clone()? else { return Ok(true) };
        let stack = if stack.is_busy() { self.settled(&stack.id).await? } else { Some(stack) };
        let Some(stack) = stack else { return Ok(true) };
        let own = incident.stack.iter().map(|stack| stack.id.clone());
        let recorded = incident.ledger.records.values().map(|record| record.owner.stack_id.clone());
        let held = self.still_held(&stack, &own.chain(recorded).collect()).await?;
        if !held.is_empty() {
            log.push(stays(&stack, &held, &self.shell));
            return Ok(false);
        }
        if let Some(held) = self.held_meanwhile(incident).await? {
            log.push(held);
            return Ok(false);
        }
        if stack.is_protected {
            let off = self.ports.stacks.protect(&stack.id, false).await;
            off.map_err(|error| Trouble::Failed { what: "termination protection cannot be turned off", error })?;
            log.push(self.shell.unprotect(&stack.name));
        }
        log.push(self.shell.delete_stack(&stack.name, &[]));
        let deleted = self.ports.stacks.delete(&stack.id, &[]).await;
        deleted.map_err(|error| Trouble::Failed { what: "the stack cannot be deleted", error })?;
        let Some(stack) = self.settled(&stack.id).await? else {
            log.push(format!("stack {} is deleted: credentials are denied no longer", stack.name));
            return Ok(true);
        };
        log.push(format!("stack {} is {}: {}", stack.name, stack.status.status, stack.status.reason));
        log.extend(stack.resources.iter().filter(|resource| resource.failed_to_delete()).map(|resource| {
            format!("{} {} was not deleted: {}", resource.logical_id, resource.physical_id, resource.reason)
        }));
        Ok(false)
    }
}

/// Why a stack that denies credentials is not deleted with its incident.
pub(super) fn stays(stack: &StackView, held: &BTreeMap<InstanceId, String>, shell: &Shell) -> String {
    let holders: BTreeSet<&str> = held.values().map(|holder| holder.split('/').nth(1).unwrap_or(holder)).collect();
    let ids = held.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let first = holders.first().copied().unwrap_or_default();
    format!(
        "stack {} stays: {} still holds {}. Deny their credentials there first, then delete this stack: {}",
        stack.name,
        comma_list(&holders),
        comma_list(held.keys()),
        shell.own(&format!("isolate --stack {first} --revoke {ids}")),
    )
}
