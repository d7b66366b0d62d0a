//! Step Functions' adapter: the answer that the trigger waits for. The only file that names its SDK.

use aws_sdk_sfn::Client;

use crate::aws::error::sent;
use crate::ports::Call;
use crate::ports::approval::{Answers, Token};

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
