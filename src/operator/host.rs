//! `host`: the forensic host of an incident, in a stack of its own, which is made and deleted without touching the incident.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::incident::Incident;
use super::{Operator, Progress, Trouble, refused};
use crate::model::InstanceId;
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{NewStack, StackLife, StackView, Template};
use crate::ports::Change;

/// The host's template, as the responder holds it, too.
const HOST: &str = include_str!("../../host.yaml");
/// The host's parameter with the group of the isolated.
const GROUP: &str = "IsolatedSecurityGroupId";
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the host's stack is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOrder {
    pub stack: String,
    parameters: BTreeMap<String, String>,
    role: Option<String>,
}

/// How the host's stack ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    pub failed: bool,
    pub stack: String,
    /// Nothing if it is deleted.
    pub status: Option<String>,
    /// Resources that failed, with the reason that CloudFormation gives.
    pub reasons: BTreeMap<String, String>,
    /// The stack's outputs: how to log in, how to see how far SIFT is.
    pub outputs: BTreeMap<String, String>,
}

impl<E: Survey + Change, R: Archive, S: StackLife> Operator<E, R, S> {
    /// The forensic host of an incident: of its own stack, or of the host's beside it.
    pub(super) async fn forensic_host(
        &self,
        incident: &str,
        stack: Option<&StackView>,
    ) -> Result<Option<InstanceId>, Trouble> {
        match stack.and_then(StackView::forensic_host) {
            Some(id) => Ok(Some(id)),
            None => Ok(self.host_stack(&host_name(incident)).await?.and_then(|stack| stack.forensic_host())),
        }
    }

    /// The stack of this name, if it is of the host's template.
    async fn host_stack(&self, name: &str) -> Result<Option<StackView>, Trouble> {
        Ok(self.view(name).await?.filter(|stack| stack.parameters.contains_key(GROUP)))
    }
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// What would be made for this incident.
    ///
    /// # Errors
    /// The incident has no isolation group, has its host in its own stack, or has one already.
    pub async fn host_order(
        &self,
        incident: &Incident,
        parameters: BTreeMap<String, String>,
    ) -> Result<HostOrder, Trouble> {
        let name = &incident.stack_name;
        let stack = incident.stack.as_ref().ok_or_else(|| refused(&format!("stack {name} is gone")))?;
        if !stack.function_outlives {
            return Err(refused(&match stack.forensic_host() {
                Some(_) => format!("stack {name} makes its forensic host by itself: see its output ForensicHostSsh"),
                None => format!("stack {name} makes its forensic host by itself: deploy it with ForensicHost=true"),
            }));
        }
        let group = stack.physical_id("IsolatedSecurityGroup");
        let (Some(group), Some(vpc)) = (group, stack.parameters.get("VpcId")) else {
            return Err(refused(&format!("stack {name} has no isolation group yet: look again when it has")));
        };
        let stack = host_name(name);
        if let Some(view) = self.view(&stack).await? {
            return Err(refused(&match view.parameters.contains_key(GROUP) {
                true => format!("stack {stack} is there already: ec2-isolation host --delete deletes it"),
                false => {
                    format!("stack {stack} is there, and is no forensic host: deploy host.yaml under another name")
                }
            }));
        }
        let mut all = parameters;
        all.insert(GROUP.to_owned(), group.to_owned());
        all.insert("VpcId".to_owned(), vpc.clone());
        let role = self.responder().await?.and_then(|responder| responder.role);
        Ok(HostOrder { stack, parameters: all, role })
    }

    /// Makes it, and waits until CloudFormation has ended. A host that cannot be made is rolled back; the incident is not touched.
    ///
    /// # Errors
    /// CloudFormation refused, or cannot be asked.
    pub async fn make_host(
        &self,
        order: &HostOrder,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Host, Trouble> {
        let HostOrder { stack, parameters, role } = order;
        let token = format!("host-{}", crate::model::short_digest(&self.request_id));
        let (template, role) = (Template::Body(HOST), role.as_deref());
        let new = NewStack { name: stack, template, parameters, role, token: &token, stays: false };
        let made = self.ports.stacks.create(&new).await;
        let made = made.map_err(|error| Trouble::Failed { what: "the stack cannot be made", error })?;
        let id = made.ok_or_else(|| refused(&format!("stack {stack} was made by another caller a moment ago")))?;
        let ended = self.ended(&id, on_progress).await?;
        Ok(Host::of(stack, ended.as_ref(), "CREATE_COMPLETE"))
    }

    /// Deletes it, and waits until that has ended. Its volume stays, as evidence.
    ///
    /// # Errors
    /// There is none, or CloudFormation cannot be asked.
    pub async fn delete_host(
        &self,
        incident: &str,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Host, Trouble> {
        let name = host_name(incident);
        let stack = self.host_stack(&name).await?;
        let stack = stack.ok_or_else(|| refused(&format!("there is no stack {name} with a forensic host")))?;
        let deleted = self.ports.stacks.delete(&stack.id, &[]).await;
        deleted.map_err(|error| Trouble::Failed { what: "the stack cannot be deleted", error })?;
        let ended = self.ended(&stack.id, on_progress).await?;
        Ok(Host::of(&name, ended.as_ref(), "DELETE_COMPLETE"))
    }

    /// The stack when nothing is under way any more; nothing if it is gone.
    pub(super) async fn ended(
        &self,
        stack: &str,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Option<StackView>, Trouble> {
        let began = Instant::now();
        loop {
            let Some(view) = self.view(stack).await? else { return Ok(None) };
            let parts = view.resources.iter();
            on_progress(&Progress {
                stack: view.name.clone(),
                status: view.status.status.clone(),
                seconds: began.elapsed().as_secs(),
                done: parts.filter(|resource| resource.status == "CREATE_COMPLETE").count(),
                total: view.resources.len(),
                what: "resources made",
            });
            if !view.is_busy() {
                return Ok(Some(view));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The stack of an incident's host.
#[must_use]
pub fn host_name(incident: &str) -> String {
    format!("{incident}-host")
}

impl Host {
    fn of(stack: &str, view: Option<&StackView>, expected: &str) -> Self {
        let status = view.map_or("DELETE_COMPLETE", |view| view.status.status.as_str());
        let failed = view.into_iter().flat_map(|view| &view.resources);
        let failed = failed.filter(|resource| resource.status.ends_with("_FAILED"));
        Self {
            failed: status != expected,
            stack: stack.to_owned(),
            status: view.map(|view| view.status.status.clone()),
            reasons: failed.map(|resource| (resource.logical_id.clone(), resource.reason.clone())).collect(),
            outputs: view.map(|view| view.outputs.clone()).unwrap_or_default(),
        }
    }
}
