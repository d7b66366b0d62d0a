//! Auto Scaling's adapter: membership and Standby. The only file that names its SDK.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::Builder;
use aws_sdk_autoscaling::config::retry::RetryConfig;
use futures_util::future::try_join_all;

use crate::aws::error::{call_error, garbled, sent};
use crate::model::{InstanceId, Member};
use crate::ports::Call;

/// `DescribeAutoScalingInstances` takes at most 50 ids (Auto Scaling API reference).
const DESCRIBED_AT_ONCE: usize = 50;

#[derive(Debug, Clone)]
pub struct AutoScaling(pub Client);

/// **The SDK repeats no change**, as with [`super::ec2::Ec2`].
fn once() -> Builder {
    Builder::default().retry_config(RetryConfig::disabled())
}

fn texts(ids: &BTreeSet<InstanceId>) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

impl AutoScaling {
    pub(crate) async fn members(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Member>> {
        let ids = texts(ids);
        let portions = ids.chunks(DESCRIBED_AT_ONCE).map(|ids| self.members_of(ids.to_vec()));
        Ok(try_join_all(portions).await?.into_iter().flatten().collect())
    }

    async fn members_of(&self, ids: Vec<String>) -> Call<Vec<(InstanceId, Member)>> {
        let action = "autoscaling:DescribeAutoScalingInstances";
        // An id that is in no group is left out of the answer.
        let request = self.0.describe_auto_scaling_instances().set_instance_ids(Some(ids));
        let mut pages = request.into_paginator().send();
        let mut members = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, &error))?;
            for instance in page.auto_scaling_instances() {
                let missing = || garbled(action, "an instance has no id, group or state");
                let id = instance.instance_id().and_then(|id| id.parse().ok()).ok_or_else(missing)?;
                let group = instance.auto_scaling_group_name().ok_or_else(missing)?.to_owned();
                let state = instance.lifecycle_state().ok_or_else(missing)?.to_owned();
                members.push((id, Member { group, state }));
            }
        }
        Ok(members)
    }

    pub(crate) async fn enter_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        let request = self.0.enter_standby().auto_scaling_group_name(group).set_instance_ids(Some(texts(instances)));
        let request = request.should_decrement_desired_capacity(false);
        sent("autoscaling:EnterStandby", request.customize().config_override(once()).send()).await.map(drop)
    }

    pub(crate) async fn exit_standby(&self, group: &str, instances: &BTreeSet<InstanceId>) -> Call<()> {
        let request = self.0.exit_standby().auto_scaling_group_name(group).set_instance_ids(Some(texts(instances)));
        sent("autoscaling:ExitStandby", request.customize().config_override(once()).send()).await.map(drop)
    }
}
