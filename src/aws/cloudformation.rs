//! CloudFormation's adapter: the status of a stack; for the operator its resources and its end. The only file that names its SDK.

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{DeploymentConfig, DeploymentConfigMode, Stack};

use crate::aws::error::{call_error, garbled, sent};
use crate::cloudformation::stack::{StackLife, StackResource, StackStatus, StackView, Stacks};
use crate::ports::{Call, CallError};

#[derive(Debug, Clone)]
pub struct CloudFormation(pub Client);

impl Stacks for CloudFormation {
    async fn status(&self, stack_id: &str) -> Call<StackStatus> {
        let action = "cloudformation:DescribeStacks";
        let output = sent(action, self.0.describe_stacks().stack_name(stack_id).send()).await?;
        read_status(output.stacks().first().ok_or_else(|| garbled(action, "the answer has no stack"))?)
    }
}

fn read_status(stack: &Stack) -> Call<StackStatus> {
    let status =
        stack.stack_status().ok_or_else(|| garbled("cloudformation:DescribeStacks", "the stack has no status"))?;
    Ok(StackStatus {
        status: status.as_str().to_owned(),
        reason: stack.stack_status_reason().unwrap_or_default().to_owned(),
        parent: stack.parent_id().filter(|id| !id.is_empty()).map(str::to_owned),
    })
}

/// CloudFormation has no code of its own for it: `Stack with id … does not exist`.
fn is_missing(error: &CallError) -> bool {
    error.code == "ValidationError" && error.message.contains("does not exist")
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
            resources: resources.collect(),
        }))
    }

    async fn export(&self, name: &str) -> Call<Option<String>> {
        let action = "cloudformation:ListExports";
        let mut pages = self.0.list_exports().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            let found = page.exports().iter().find(|export| export.name() == Some(name));
            if let Some(value) = found.and_then(|export| export.value()) {
                return Ok(Some(value.to_owned()));
            }
        }
        Ok(None)
    }

    async fn delete(&self, stack: &str, retain: &[String]) -> Call<()> {
        let action = "cloudformation:DeleteStack";
        let retain = (!retain.is_empty()).then(|| retain.to_vec());
        let request = self.0.delete_stack().stack_name(stack).set_retain_resources(retain);
        match sent(action, request.clone().send()).await {
            // A stack that failed in express mode takes nothing else (aws/aws-cdk-cli#1739).
            Err(error) if error.message.contains("mode=EXPRESS") => {
                let express = DeploymentConfig::builder().mode(DeploymentConfigMode::Express).build();
                sent(action, request.deployment_config(express).send()).await?;
            }
            other => drop(other?),
        }
        Ok(())
    }
}
