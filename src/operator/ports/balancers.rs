//! Elastic Load Balancing: which target groups list an instance.

use std::future::Future;

use crate::model::VpcId;
use crate::ports::Call;

/// A target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    pub arn: String,
    pub name: String,
    pub vpc: Option<VpcId>,
    /// Its targets are instances; of others they are addresses, functions or load balancers.
    pub lists_instances: bool,
}

/// What a target group lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub id: String,
    pub port: Option<i32>,
    /// It is being taken out.
    pub is_draining: bool,
}

/// Elastic Load Balancing, one call at a time: an account may have thousands of target groups, and few calls a second.
pub trait Balancers: Send + Sync {
    /// One page, and how to ask for the next.
    fn target_groups(
        &self,
        next: Option<String>,
    ) -> impl Future<Output = Call<(Vec<TargetGroup>, Option<String>)>> + Send;
    /// `None` if there is no such group any more.
    fn targets(&self, group: &TargetGroup) -> impl Future<Output = Call<Option<Vec<Target>>>> + Send;
}
