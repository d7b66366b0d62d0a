//! The end of a stack of which nothing is held any more: the calls that `status` prints, made.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::credentials::credentials_name;
use super::incident::Incident;
use super::text::wrapped;
use super::{Operator, Trouble};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{Ending, StackLife, StackView, ending};
use crate::ports::Change;

/// CloudFormation needs minutes: no hurry.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// CloudFormation waits up to 50 minutes for the answer of a custom resource, and retries groups in use for some more.
const LONGEST_WAIT: Duration = Duration::from_secs(90 * 60);
/// A delete that must fail, and one that leaves out what failed; once more for what was under way before.
const MOST_DELETES: usize = 3;

/// How a stack ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// The stack is gone, and the one that denied the credentials of its instances.
    pub is_gone: bool,
    /// What was done, in order, and how it ended.
    pub log: Vec<String>,
    /// The command that shows what is left and costs, once the stack is gone.
    pub next: Option<String>,
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Deletes the stack that denies the credentials of its instances, then the stack, by as many calls as that takes, and waits for their
    /// end. Only while nothing of it is held isolated, and nothing is listed that `incident` did not list.
    ///
    /// # Errors
    /// A call failed.
    pub async fn finish(&self, incident: &Incident) -> Result<Ended, Trouble> {
        let mut log = Vec::new();
        let is_lifted = self.lift(incident, &mut log).await.unwrap_or_else(|error| {
            let name = credentials_name(&incident.stack_name);
            log.push(format!("stack {name} was not deleted, and may still deny credentials: {error}"));
            false
        });
        let ended = self.end(incident).await?;
        log.extend(ended.log);
        // Both are kept from it by the same.
        log.dedup();
        let is_gone = ended.is_gone && is_lifted;
        let next = ended.is_gone.then(|| self.shell.own("leftovers"));
        Ok(Ended { is_gone, log, next })
    }

    async fn end(&self, incident: &Incident) -> Result<Ended, Trouble> {
        let shown = match &incident.stack {
            Some(stack) => self.view(&stack.id).await?,
            None => None,
        };
        let Some(mut stack) = shown else {
            let log = vec![format!("stack {} is gone already", incident.stack_name)];
            return Ok(Ended { is_gone: true, log, next: None });
        };
        let (mut log, mut is_retained) = (Vec::new(), false);
        for _ in 0..MOST_DELETES {
            let retain = match ending(&stack) {
                Ending::WithParent { parent } => {
                    log.push(format!("{} is nested in {parent} and ends with it: it was left as it is", stack.name));
                    return Ok(Ended { is_gone: false, log, next: None });
                }
                Ending::Wait => {
                    tracing::info!(status = stack.status.status, "waiting for what is under way");
                    match self.settled(&stack.id).await? {
                        Some(next) => stack = next,
                        None => return Ok(gone(stack, log)),
                    }
                    continue;
                }
                Ending::Delete { retain } => retain,
                Ending::DeleteTwice { .. } => vec![],
            };
            // What was left out once and is in the way still is in the way for good.
            if is_retained {
                break;
            }
            if let Some(held) = self.held_meanwhile(incident).await? {
                log.push(held);
                return Ok(Ended { is_gone: false, log, next: None });
            }
            if stack.is_protected {
                let off = self.ports.stacks.protect(&stack.id, false).await;
                off.map_err(|error| Trouble::Failed { what: "termination protection cannot be turned off", error })?;
                log.push(self.shell.unprotect(&stack.name));
            }
            is_retained = !retain.is_empty();
            let command = self.shell.delete_stack(&stack.name, &retain);
            tracing::info!(command, "ending the stack");
            let deleted = self.ports.stacks.delete(&stack.id, &retain).await;
            deleted.map_err(|error| Trouble::Failed { what: "the stack cannot be deleted", error })?;
            log.push(command);
            match self.settled(&stack.id).await? {
                Some(next) => stack = next,
                None => return Ok(gone(stack, log)),
            }
            log.push(format!("{}: {}", stack.status.status, stack.status.reason));
            if matches!(ending(&stack), Ending::Delete { retain } if retain.is_empty()) {
                break;
            }
        }
        log.extend(stack.resources.iter().filter(|resource| resource.failed_to_delete()).map(|resource| {
            format!("{} {} was not deleted: {}", resource.logical_id, resource.physical_id, resource.reason)
        }));
        Ok(Ended { is_gone: false, log, next: None })
    }

    /// Deleting the stack would restore what another person has isolated since, and this one was not shown that.
    pub(super) async fn held_meanwhile(&self, incident: &Incident) -> Result<Option<String>, Trouble> {
        // A stack that is gone restores nothing.
        let Some(stack) = &incident.stack else { return Ok(None) };
        let Some(now) = self.settled(&stack.id).await? else { return Ok(None) };
        let new = now.instances().difference(&stack.instances()).next().cloned();
        let held = match new {
            Some(new) => Some(new),
            None => self.incident(&incident.address).await?.held().next().map(|record| record.instance.clone()),
        };
        Ok(held.map(|id| {
            format!("{id} was isolated meanwhile, so the stack was not deleted. To go on, run the same command again.")
        }))
    }

    /// The stack when nothing is under way any more; nothing where it is gone.
    pub(super) async fn settled(&self, id: &str) -> Result<Option<StackView>, Trouble> {
        let until = tokio::time::Instant::now() + LONGEST_WAIT;
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let stack = self.view(id).await?;
            match &stack {
                Some(stack) if stack.is_busy() && tokio::time::Instant::now() < until => {
                    tracing::info!(status = stack.status.status, "waiting for the stack");
                }
                _ => return Ok(stack),
            }
            pause = (pause * 2).min(LOOK_EVERY);
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            match line.starts_with("aws ") {
                true => writeln!(f, "ran: {line}")?,
                false => writeln!(f, "{}", wrapped(line, "  "))?,
            }
        }
        let Some(command) = &self.next else { return Ok(()) };
        writeln!(f)?;
        writeln!(f, "To see what is left, and what deletes it:")?;
        writeln!(f, "  {command}")
    }
}

fn gone(stack: StackView, mut log: Vec<String>) -> Ended {
    log.push(format!("stack {} is deleted", stack.name));
    Ended { is_gone: true, log, next: None }
}
