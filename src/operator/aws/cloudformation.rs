//! A stack in full, what makes, changes and ends it, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_cloudformation::types::builders::DeploymentConfigBuilder;
use aws_sdk_cloudformation::types::{
    Capability, ChangeSetStatus, ChangeSetType, DeploymentConfig, DeploymentConfigMode, Parameter, ResourceStatus,
    StackEvent, StackStatus,
};

use crate::aws::cloudformation::{CloudFormation, read_status};
use crate::aws::error::{call_error, garbled, sent, time};
use crate::operator::ports::drill::{Events, StackEvent as DrillEvent};
use crate::operator::stack::{Export, NewStack, Prepared, StackLife, StackResource, StackTimes, StackView, Template};
use crate::ports::{Call, CallError};

/// CloudFormation has no code of its own for it: `Stack with id … does not exist`.
fn is_missing(error: &CallError) -> bool {
    error.code == "ValidationError" && error.message.contains("does not exist")
}

/// What the one-shot template needs; an incident needs none.
const CAPABILITIES: [Capability; 2] = [Capability::CapabilityIam, Capability::CapabilityAutoExpand];
/// A change set takes seconds; of a template that includes others, a minute.
const CHANGE_SET_LOOKS: u32 = 240;
const CHANGE_SET_PAUSE: Duration = Duration::from_millis(500);

/// `Stack:arn:… is in UPDATE_IN_PROGRESS state and can not be updated.`
fn is_busy(error: &CallError) -> bool {
    error.code == "ValidationError" && error.message.contains("_IN_PROGRESS state")
}

/// A stack that failed in express mode takes nothing else until it is complete (aws/aws-cdk-cli#1739).
fn wants_express(error: &CallError) -> bool {
    error.message.contains("mode=EXPRESS")
}

fn express_mode() -> DeploymentConfigBuilder {
    DeploymentConfig::builder().mode(DeploymentConfigMode::Express)
}

fn is_void(error: &CallError) -> bool {
    matches!(
        error.code.as_str(),
        "InvalidChangeSetStatus"
            | "InvalidChangeSetStatusException"
            | "ChangeSetNotFound"
            | "ChangeSetNotFoundException"
    )
}

fn given(parameters: &BTreeMap<String, String>) -> Vec<Parameter> {
    let given = parameters.iter();
    given.map(|(name, value)| Parameter::builder().parameter_key(name).parameter_value(value).build()).collect()
}

fn pair(key: Option<&str>, value: Option<&str>) -> Option<(String, String)> {
    Some((key?.to_owned(), value?.to_owned()))
}

impl StackLife for CloudFormation {
    async fn view(&self, stack: &str) -> Call<Option<StackView>> {
        let action = "cloudformation:DescribeStacks";
        let output = match sent(action, self.0.describe_stacks().stack_name(stack).send()).await {
            Ok(output) => output,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stack = output.stacks().first().ok_or_else(|| garbled(action, "the answer has no stack"))?;
        let id = stack.stack_id().ok_or_else(|| garbled(action, "the stack has no id"))?;
        let status = read_status(stack)?;
        // By its id CloudFormation knows a deleted stack for 90 days.
        if status.status == "DELETE_COMPLETE" {
            return Ok(None);
        }
        let action = "cloudformation:DescribeStackResources";
        let output = sent(action, self.0.describe_stack_resources().stack_name(id).send()).await?;
        // The one-shot template has a function, hence a parameter for its runtime; an incident beside a responder has neither.
        let is_function = |kind: Option<&str>| kind == Some("AWS::Lambda::Function");
        let has_function = output.stack_resources().iter().any(|resource| is_function(resource.resource_type()))
            || stack.parameters().iter().any(|parameter| parameter.parameter_key() == Some("LambdaRuntime"));
        let parameters = stack.parameters().iter();
        let parameters =
            parameters.filter_map(|parameter| pair(parameter.parameter_key(), parameter.parameter_value()));
        let outputs = stack.outputs().iter();
        let outputs = outputs.filter_map(|output| pair(output.output_key(), output.output_value()));
        let changed_at = stack.deletion_time().or(stack.last_updated_time()).or(stack.creation_time());
        let resources = output.stack_resources().iter().map(|resource| StackResource {
            logical_id: resource.logical_resource_id().unwrap_or_default().to_owned(),
            physical_id: resource.physical_resource_id().unwrap_or_default().to_owned(),
            kind: resource.resource_type().unwrap_or_default().to_owned(),
            status: resource.resource_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            reason: resource.resource_status_reason().unwrap_or_default().to_owned(),
        });
        Ok(Some(StackView {
            id: id.to_owned(),
            name: stack.stack_name().unwrap_or_default().to_owned(),
            status,
            is_protected: stack.enable_termination_protection().unwrap_or_default(),
            function_outlives: !has_function,
            changed_at: changed_at.and_then(time),
            parameters: parameters.collect(),
            outputs: outputs.collect(),
            resources: resources.collect(),
        }))
    }

    async fn times(&self, stack_id: &str) -> Call<Option<StackTimes>> {
        let sending = self.0.describe_stacks().stack_name(stack_id).send();
        let output = match sent("cloudformation:DescribeStacks", sending).await {
            Ok(output) => output,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(output.stacks().first().map(|stack| StackTimes {
            created: stack.creation_time().and_then(time),
            updated: stack.last_updated_time().and_then(time),
            deleted: stack.deletion_time().and_then(time),
        }))
    }

    async fn with_parameters(&self, names: &[&str]) -> Call<Vec<String>> {
        let action = "cloudformation:DescribeStacks";
        let mut pages = self.0.describe_stacks().into_paginator().send();
        let (mut found, mut parents) = (BTreeSet::new(), BTreeSet::new());
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for stack in page.stacks() {
                let has = |name: &&str| stack.parameters().iter().any(|given| given.parameter_key() == Some(*name));
                if names.iter().all(has) && stack.stack_status() != Some(&StackStatus::ReviewInProgress) {
                    found.extend(stack.stack_id().map(str::to_owned));
                }
                parents.extend(stack.parent_id().map(str::to_owned));
            }
        }
        Ok(found.difference(&parents).cloned().collect())
    }

    async fn left_behind(&self, stack_id: &str) -> Call<Vec<StackResource>> {
        let action = "cloudformation:DescribeStackEvents";
        let mut pages = self.0.describe_stack_events().stack_name(stack_id).into_paginator().send();
        // By its physical id: an update may have replaced a resource and left the old one, too.
        let mut left = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = match page.map_err(|error| call_error(action, &error)) {
                Err(error) if is_missing(&error) => return Ok(vec![]),
                page => page?,
            };
            let is_skipped = |event: &&StackEvent| event.resource_status() == Some(&ResourceStatus::DeleteSkipped);
            for event in page.stack_events().iter().filter(is_skipped) {
                let resource = StackResource {
                    logical_id: event.logical_resource_id().unwrap_or_default().to_owned(),
                    physical_id: event.physical_resource_id().unwrap_or_default().to_owned(),
                    kind: event.resource_type().unwrap_or_default().to_owned(),
                    status: ResourceStatus::DeleteSkipped.as_str().to_owned(),
                    reason: event.resource_status_reason().unwrap_or_default().to_owned(),
                };
                left.insert(resource.physical_id.clone(), resource);
            }
        }
        Ok(left.into_values().collect())
    }

    async fn export(&self, name: &str) -> Call<Option<Export>> {
        let action = "cloudformation:ListExports";
        let mut pages = self.0.list_exports().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            let found = page.exports().iter().find(|export| export.name() == Some(name));
            if let Some((value, stack_id)) = found.and_then(|export| pair(export.value(), export.exporting_stack_id()))
            {
                return Ok(Some(Export { value, stack_id }));
            }
        }
        Ok(None)
    }

    async fn create(&self, stack: &NewStack<'_>) -> Call<Option<String>> {
        let action = "cloudformation:CreateStack";
        let request = self
            .0
            .create_stack()
            .stack_name(stack.name)
            .set_parameters(Some(given(stack.parameters)))
            .set_role_arn(stack.role.map(str::to_owned))
            .client_request_token(stack.token)
            .disable_rollback(stack.stays)
            .enable_termination_protection(stack.stays)
            .set_capabilities(Some(CAPABILITIES.to_vec()));
        let request = match stack.template {
            Template::Body(body) => request.template_body(body),
            Template::Url(url) => request.template_url(url),
        };
        match sent(action, request.send()).await {
            Ok(output) => {
                Ok(Some(output.stack_id().ok_or_else(|| garbled(action, "the answer has no id"))?.to_owned()))
            }
            Err(error) if error.code == "AlreadyExistsException" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn prepare(&self, stack: &str, name: &str, parameters: &BTreeMap<String, String>) -> Call<Prepared> {
        let action = "cloudformation:DescribeStacks";
        let output = sent(action, self.0.describe_stacks().stack_name(stack).send()).await?;
        let shown = output.stacks().first().ok_or_else(|| garbled(action, "the answer has no stack"))?;
        let names = shown.parameters().iter().filter_map(|parameter| parameter.parameter_key());
        let kept = names.filter(|name| !parameters.contains_key(*name));
        let kept = kept.map(|name| Parameter::builder().parameter_key(name).use_previous_value(true).build());
        let action = "cloudformation:CreateChangeSet";
        let request = self
            .0
            .create_change_set()
            .stack_name(stack)
            .change_set_name(name)
            .change_set_type(ChangeSetType::Update)
            .use_previous_template(true)
            .set_parameters(Some(given(parameters).into_iter().chain(kept).collect()))
            .set_capabilities(Some(CAPABILITIES.to_vec()));
        let made = match sent(action, request.clone().send()).await {
            Ok(made) => made,
            Err(error) if wants_express(&error) => {
                let express = express_mode().disable_rollback(true).build();
                sent(action, request.deployment_config(express).send()).await?
            }
            Err(error) if is_busy(&error) => return Ok(Prepared::Busy),
            Err(error) => return Err(error),
        };
        let id = made.id().ok_or_else(|| garbled(action, "the answer has no id"))?;
        let action = "cloudformation:DescribeChangeSet";
        for _ in 0..CHANGE_SET_LOOKS {
            let shown = sent(action, self.0.describe_change_set().change_set_name(id).send()).await?;
            match shown.status() {
                Some(ChangeSetStatus::CreateComplete) => return Ok(Prepared::Ready(id.to_owned())),
                Some(ChangeSetStatus::Failed) => {
                    self.discard(id).await?;
                    return Ok(Prepared::Refused(shown.status_reason().unwrap_or_default().to_owned()));
                }
                _ => tokio::time::sleep(CHANGE_SET_PAUSE).await,
            }
        }
        self.discard(id).await?;
        Ok(Prepared::Refused("the change set was not ready in time".to_owned()))
    }

    async fn carry_out(&self, change_set: &str) -> Call<bool> {
        let request = self.0.execute_change_set().change_set_name(change_set).disable_rollback(true);
        match sent("cloudformation:ExecuteChangeSet", request.send()).await {
            Ok(_) => Ok(true),
            // OBSOLETE, or gone with the execution of another one, or the stack is at work (API reference, ExecuteChangeSet).
            Err(error) if is_void(&error) || is_busy(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn discard(&self, change_set: &str) -> Call<()> {
        let request = self.0.delete_change_set().change_set_name(change_set);
        sent("cloudformation:DeleteChangeSet", request.send()).await.map(drop)
    }

    async fn protect(&self, stack: &str, on: bool) -> Call<()> {
        let request = self.0.update_termination_protection().stack_name(stack).enable_termination_protection(on);
        sent("cloudformation:UpdateTerminationProtection", request.send()).await.map(drop)
    }

    async fn delete(&self, stack: &str, retain: &[String]) -> Call<()> {
        let action = "cloudformation:DeleteStack";
        let retain = (!retain.is_empty()).then(|| retain.to_vec());
        let request = self.0.delete_stack().stack_name(stack).set_retain_resources(retain);
        match sent(action, request.clone().send()).await {
            Err(error) if wants_express(&error) => {
                sent(action, request.deployment_config(express_mode().build()).send()).await?;
            }
            other => drop(other?),
        }
        Ok(())
    }
}

impl Events for CloudFormation {
    async fn events(&self, stack_id: &str) -> Call<Vec<DrillEvent>> {
        let action = "cloudformation:DescribeStackEvents";
        let items = self.0.describe_stack_events().stack_name(stack_id).into_paginator().items().send();
        let found = items.try_collect().await.map_err(|error| call_error(action, &error))?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        // CloudFormation shows the latest one first.
        let events = found.iter().rev().map(|event| DrillEvent {
            at_ms: event.timestamp().and_then(|at| u64::try_from(at.to_millis().ok()?).ok()).unwrap_or_default(),
            logical_id: text(event.logical_resource_id()),
            kind: text(event.resource_type()),
            status: text(event.resource_status().map(|status| status.as_str())),
            reason: text(event.resource_status_reason()),
        });
        Ok(events.collect())
    }
}
