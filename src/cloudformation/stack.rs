//! A stack as CloudFormation shows it to the function.

use std::future::Future;

use crate::model::Time;
use crate::ports::Call;

/// What `DescribeStacks` says of one stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackStatus {
    pub status: String,
    pub reason: String,
    /// The stack that this one is nested in.
    pub parent: Option<String>,
    /// When its last update began.
    pub updated: Option<Time>,
}

/// CloudFormation.
pub trait Stacks: std::fmt::Debug + Send + Sync {
    fn status(&self, stack_id: &str) -> impl Future<Output = Call<StackStatus>> + Send;
}
