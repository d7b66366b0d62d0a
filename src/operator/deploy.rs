//! Makes a stack, or changes the one that is there **as it was seen**: by a change set, which CloudFormation refuses to carry out if the
//! stack was changed since. So what another person has added to a list meanwhile is never taken off it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Operator, Trouble, refused};
use crate::model::short_digest;
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{NewStack, Prepared, StackLife, StackView, Template};
use crate::ports::Change;

/// CloudFormation shows a change of a stack within a second.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long what others do to the stack is waited for: a custom resource may take an hour.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2 * 3600);

pub(super) type Parameters = BTreeMap<String, String>;

/// A stack that is to be there. What is made stays, whatever fails.
#[derive(Debug)]
pub(super) struct Deployment<'a> {
    pub name: &'a str,
    /// Of a new one: one that is there keeps its own.
    pub template: Template<'a>,
    /// CloudFormation makes a new one with it.
    pub role: Option<&'a str>,
}

/// What became of a change.
enum Changed {
    Begun,
    /// Another request changed the stack: look again.
    Overtaken,
    Busy,
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Asks CloudFormation, with the `parameters` for the stack as it is seen; waits for a request that is at work on
    /// it, and calls `meanwhile` then. The id of the stack.
    pub(super) async fn deploy(
        &self,
        deployment: &Deployment<'_>,
        parameters: &impl Fn(Option<&StackView>) -> Result<Parameters, Trouble>,
        meanwhile: &impl AsyncFn(&StackView),
    ) -> Result<String, Trouble> {
        let began = Instant::now();
        let mut tries = 0_u32;
        loop {
            tries += 1;
            let request = format!("{}|{}|{tries}", self.request_id, deployment.name);
            let token = format!("ec2-isolation-{}", short_digest(&request));
            let seen = self.view(deployment.name).await?;
            let parameters = parameters(seen.as_ref());
            match &seen {
                None => {
                    let Deployment { name, template, role } = *deployment;
                    let parameters = parameters?;
                    let new = NewStack { name, template, parameters: &parameters, role, token: &token, stays: true };
                    let made = self.ports.stacks.create(&new).await;
                    let made = made.map_err(|error| Trouble::Failed { what: "the stack cannot be made", error })?;
                    // Without an id somebody else has made it meanwhile.
                    if let Some(id) = made {
                        return Ok(id);
                    }
                }
                Some(stack) if stack.is_busy() => meanwhile(stack).await,
                Some(stack) => match self.change(stack, &token, &parameters?).await? {
                    Changed::Begun => return Ok(stack.id.clone()),
                    Changed::Overtaken => {}
                    Changed::Busy => meanwhile(stack).await,
                },
            }
            if began.elapsed() > LONGEST_WAIT {
                let status = seen.map_or_else(|| "not shown".to_owned(), |stack| stack.status.status);
                return Err(refused(&format!("stack {} is {status} for hours", deployment.name)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Changes a stack, if it is still as it was seen when that begins.
    async fn change(&self, seen: &StackView, name: &str, parameters: &Parameters) -> Result<Changed, Trouble> {
        let failed = |error| Trouble::Failed { what: "the stack cannot be changed", error };
        let stacks = &self.ports.stacks;
        let change_set = match stacks.prepare(&seen.id, name, parameters).await.map_err(failed)? {
            Prepared::Ready(id) => id,
            Prepared::Busy => return Ok(Changed::Busy),
            Prepared::Refused(reason) => {
                return Err(refused(&format!("CloudFormation refuses the change of stack {}: {reason}", seen.name)));
            }
        };
        // From here on a change by somebody else makes the change set void. One that came before it shows now.
        let now = self.view(&seen.id).await?;
        let is_as_seen = now.is_some_and(|now| !now.is_busy() && now.parameters == seen.parameters);
        if is_as_seen && stacks.carry_out(&change_set).await.map_err(failed)? {
            // As one that is made here. A nested stack is protected by its parent's.
            if !seen.is_protected && seen.status.parent.is_none() {
                let protected = stacks.protect(&seen.id, true).await;
                protected.unwrap_or_else(|error| {
                    let command = self.shell.protect(&seen.name);
                    tracing::warn!(
                        "stack {} has no termination protection, for {error}. This turns it on: {command}",
                        seen.name
                    );
                });
            }
            return Ok(Changed::Begun);
        }
        // It may be gone with the other change.
        let _ = stacks.discard(&change_set).await;
        Ok(Changed::Overtaken)
    }

    /// Who asks, and when: the records and the stacks keep it.
    pub(super) fn note(&self) -> String {
        format!("{} by {}", self.clock.now(), self.asked_by)
    }
}
