//! Step Functions' adapter: the answer that the trigger waits for, and its expressions. The only file that names its SDK.

use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::TestExecutionStatus;
use serde_json::Value;

use crate::aws::error::sent;
use crate::operator::ports::approval::{Answers, Token};
use crate::operator::ports::drill::Evaluates;
use crate::ports::{Call, CallError, Fault};

#[derive(Debug, Clone)]
pub struct StepFunctions(pub Client);

impl Answers for StepFunctions {
    async fn answer(&self, token: &Token, answer: &str) -> Call<bool> {
        let request = self.0.send_task_success().task_token(&token.0).output(answer);
        match sent("states:SendTaskSuccess", request.send()).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.code.as_str(), "TaskDoesNotExist" | "TaskTimedOut") => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Evaluates for StepFunctions {
    async fn definition(&self, machine: &str) -> Call<Value> {
        let request = self.0.describe_state_machine().state_machine_arn(machine);
        let found = sent("states:DescribeStateMachine", request.send()).await?;
        Ok(serde_json::from_str(&found.definition).unwrap_or_default())
    }

    async fn evaluate(&self, state: &Value, input: &Value) -> Call<Value> {
        let request = self.0.test_state().definition(state.to_string()).input(input.to_string());
        // The SDK puts `sync-` before the host, as AWS wants it. A local endpoint is an address, which has no such name.
        let request = request.customize().mutate_request(|request| {
            let uri = request.uri().replacen("//sync-127.", "//127.", 1);
            let _ = request.set_uri(uri);
        });
        let tested = sent("states:TestState", request.send()).await?;
        match (tested.status, tested.output) {
            (Some(TestExecutionStatus::Succeeded), Some(output)) => {
                Ok(serde_json::from_str(&output).unwrap_or_default())
            }
            (_, _) => Err(CallError {
                action: "states:TestState",
                fault: Fault::Refused,
                code: tested.error.unwrap_or_default(),
                message: tested.cause.unwrap_or_default(),
            }),
        }
    }
}
