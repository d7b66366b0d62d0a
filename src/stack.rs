//! CloudFormation's adapter: the status of a stack. The only file that names its SDK.

use aws_sdk_cloudformation::Client;

use crate::aws::{call_error, garbled};
use crate::plan::StackStatus;
use crate::ports::{Call, Stacks};

#[derive(Debug, Clone)]
pub struct CloudFormation(pub Client);

impl Stacks for CloudFormation {
    async fn status(&self, stack_id: &str) -> Call<StackStatus> {
        let action = "cloudformation:DescribeStacks";
        let output = self.0.describe_stacks().stack_name(stack_id).send().await.map_err(|e| call_error(action, &e))?;
        let stack = output.stacks().first().ok_or_else(|| garbled(action, "the answer has no stack"))?;
        let status = stack.stack_status().ok_or_else(|| garbled(action, "the stack has no status"))?;
        Ok(StackStatus {
            status: status.as_str().to_owned(),
            reason: stack.stack_status_reason().unwrap_or_default().to_owned(),
            parent: stack.parent_id().filter(|id| !id.is_empty()).map(str::to_owned),
        })
    }
}
