//! CloudFormation's adapter: the status of a stack. Only this file and the program's part of it name its SDK.

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::Stack;

use crate::aws::error::{garbled, sent, time};
use crate::cloudformation::stack::{StackStatus, Stacks};
use crate::ports::Call;

#[derive(Debug, Clone)]
pub struct CloudFormation(pub Client);

impl Stacks for CloudFormation {
    async fn status(&self, stack_id: &str) -> Call<StackStatus> {
        let action = "cloudformation:DescribeStacks";
        let output = sent(action, self.0.describe_stacks().stack_name(stack_id).send()).await?;
        read_status(output.stacks().first().ok_or_else(|| garbled(action, "the answer has no stack"))?)
    }
}

pub(crate) fn read_status(stack: &Stack) -> Call<StackStatus> {
    let status =
        stack.stack_status().ok_or_else(|| garbled("cloudformation:DescribeStacks", "the stack has no status"))?;
    Ok(StackStatus {
        status: status.as_str().to_owned(),
        reason: stack.stack_status_reason().unwrap_or_default().to_owned(),
        parent: stack.parent_id().filter(|id| !id.is_empty()).map(str::to_owned),
        updated: stack.last_updated_time().and_then(time),
    })
}
