//! Elastic Load Balancing's adapter: which targets its groups list. The only file that names its SDK.

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    TargetGroup as Shown, TargetHealthDescription, TargetHealthStateEnum, TargetTypeEnum,
};

use crate::aws::error::sent;
use crate::operator::ports::balancers::{Balancers, Target, TargetGroup};
use crate::ports::Call;

/// 1 to 400 (`PageSize`, DescribeTargetGroups, API reference).
const PAGE: i32 = 400;

#[derive(Debug, Clone)]
pub struct Balancing(pub Client);

impl Balancers for Balancing {
    async fn target_groups(&self, next: Option<String>) -> Call<(Vec<TargetGroup>, Option<String>)> {
        let request = self.0.describe_target_groups().page_size(PAGE).set_marker(next);
        let found = sent("elasticloadbalancing:DescribeTargetGroups", request.send()).await?;
        let next = found.next_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
        Ok((found.target_groups().iter().filter_map(group).collect(), next))
    }

    async fn targets(&self, group: &TargetGroup) -> Call<Option<Vec<Target>>> {
        let request = self.0.describe_target_health().target_group_arn(&group.arn);
        match sent("elasticloadbalancing:DescribeTargetHealth", request.send()).await {
            Ok(found) => Ok(Some(found.target_health_descriptions().iter().filter_map(target).collect())),
            // DescribeTargetHealth, API reference: TargetGroupNotFound. Somebody deleted it meanwhile.
            Err(error) if error.code.starts_with("TargetGroupNotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn group(group: &Shown) -> Option<TargetGroup> {
    Some(TargetGroup {
        arn: group.target_group_arn()?.to_owned(),
        name: group.target_group_name().unwrap_or_default().to_owned(),
        vpc: group.vpc_id().and_then(|id| id.parse().ok()),
        lists_instances: group.target_type() == Some(&TargetTypeEnum::Instance),
    })
}

fn target(described: &TargetHealthDescription) -> Option<Target> {
    let target = described.target()?;
    let state = described.target_health().and_then(|health| health.state());
    Some(Target {
        id: target.id()?.to_owned(),
        port: target.port(),
        is_draining: state == Some(&TargetHealthStateEnum::Draining),
    })
}
