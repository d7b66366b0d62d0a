//! The responder of an account and Region, and what it has for incidents.

use super::{Operator, Trouble};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{FUNCTION_EXPORT, StackLife};
use crate::ports::Change;

/// An output of the responder, and a parameter of an incident.
pub(super) const TOPIC: &str = "NotifyTopicArn";
/// A resource of the responder, if its trigger is on.
const STATE_MACHINE: &str = "TriggerStateMachine";

/// What the responder has for incidents.
#[derive(Debug, Clone, Default)]
pub(super) struct Responder {
    /// CloudFormation makes them with it.
    pub role: Option<String>,
    /// Alarms go there.
    pub topic: Option<String>,
    /// The trigger's state machine, if the trigger is on.
    pub trigger: Option<String>,
}

impl<E: Survey + Change, R: Archive, S: StackLife> Operator<E, R, S> {
    /// The responder of this account and Region, if it is there.
    pub(super) async fn responder(&self) -> Result<Option<Responder>, Trouble> {
        let Some(export) = self.export(FUNCTION_EXPORT).await? else { return Ok(None) };
        let stack = self.view(&export.stack_id).await?;
        let output = |name: &str| stack.as_ref().and_then(|stack| stack.outputs.get(name).cloned());
        let mut resources = stack.iter().flat_map(|stack| &stack.resources);
        let trigger = resources.find(|resource| resource.logical_id == STATE_MACHINE);
        let trigger = trigger.map(|resource| resource.physical_id.clone());
        Ok(Some(Responder { role: output("IncidentRoleArn"), topic: output(TOPIC), trigger }))
    }
}
