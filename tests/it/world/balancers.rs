//! Elastic Load Balancing of the world.

use ec2_isolation::operator::ports::balancers::{Balancers, Target, TargetGroup};
use ec2_isolation::ports::Call;

use super::World;

/// Target groups in one page.
const PAGE: usize = 2;

impl Balancers for World {
    async fn target_groups(&self, next: Option<String>) -> Call<(Vec<TargetGroup>, Option<String>)> {
        self.call("elasticloadbalancing:DescribeTargetGroups", next.clone().unwrap_or_default(), |data| {
            let from: usize = next.map_or(0, |next| next.parse().unwrap());
            let all = data.target_groups.iter().map(|(group, _)| group.clone());
            let page: Vec<TargetGroup> = all.skip(from).take(PAGE).collect();
            let more = (from + page.len() < data.target_groups.len()).then(|| (from + page.len()).to_string());
            Ok((page, more))
        })
        .await
    }

    async fn targets(&self, group: &TargetGroup) -> Call<Option<Vec<Target>>> {
        self.call("elasticloadbalancing:DescribeTargetHealth", group.name.clone(), |data| {
            let found = data.target_groups.iter().find(|(known, _)| known.arn == group.arn);
            Ok(found.map(|(_, targets)| targets.clone()))
        })
        .await
    }
}
