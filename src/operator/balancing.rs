//! Which target groups list the instances of an incident. **It is looked up after everything else, in so many calls at most**, and
//! only said: to take an instance out of a group is a person's decision.

use std::collections::{BTreeMap, BTreeSet};

use super::incident::Incident;
use super::status::Status;
use super::{Operator, Shell};
use crate::model::{InstanceId, VpcId};
use crate::operator::ports::balancers::{Balancers, Target, TargetGroup};
use crate::reconcile::contained::Condition;

/// There is no look-up by instance: each group takes a call. An account was throttled at 340 calls a minute (spinnaker/spinnaker#3419).
const MOST_CALLS: usize = 60;

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// Each instance with the groups that list it.
    listed: BTreeMap<InstanceId, Vec<(TargetGroup, Target)>>,
    /// Why it is not all.
    unread: Option<String>,
}

impl<E, R, S> Operator<E, R, S> {
    /// Adds to a status which target groups list its instances. What cannot be read is said there.
    pub async fn name_target_groups(&self, incident: &Incident, status: &mut Status, balancers: &impl Balancers) {
        let is_there =
            |condition| !matches!(condition, Condition::Terminated | Condition::Restoring | Condition::Unknown);
        let listed = status.instances.iter().filter(|instance| instance.condition.is_some_and(is_there));
        let ids: BTreeSet<InstanceId> = listed.filter_map(|instance| instance.id.parse().ok()).collect();
        let found = look_up(&ids, &vpcs(incident, &ids), balancers).await;
        for (id, groups) in &found.listed {
            let shown = status.instances.iter_mut().find(|instance| instance.id == id.as_str());
            let Some(instance) = shown else { continue };
            instance.warnings.extend(groups.iter().map(|(group, target)| warning(id, group, target, &self.shell)));
        }
        status.target_groups_unread = found.unread;
    }
}

/// The VPCs where these instances are known to be; nothing if one of them is not known to be anywhere.
fn vpcs(incident: &Incident, ids: &BTreeSet<InstanceId>) -> Option<BTreeSet<VpcId>> {
    let vpc = |id: &InstanceId| {
        let shown = incident.instance(id).and_then(|instance| instance.vpc.clone());
        shown.or_else(|| incident.ledger.records.get(id).map(|record| record.vpc.clone()))
    };
    ids.iter().map(vpc).collect()
}

async fn look_up(ids: &BTreeSet<InstanceId>, vpcs: &Option<BTreeSet<VpcId>>, balancers: &impl Balancers) -> Found {
    let mut found = Found::default();
    if ids.is_empty() {
        return found;
    }
    let is_here = |group: &TargetGroup| match (vpcs, &group.vpc) {
        (Some(vpcs), Some(vpc)) => vpcs.contains(vpc),
        _ => true,
    };
    let (mut groups, mut next, mut calls) = (Vec::new(), None, 0);
    loop {
        calls += 1;
        match balancers.target_groups(next).await {
            Ok((page, more)) => {
                groups.extend(page.into_iter().filter(|group| group.lists_instances && is_here(group)));
                next = more;
            }
            Err(error) => {
                found.unread = Some(error.to_string());
                return found;
            }
        }
        if next.is_none() || calls == MOST_CALLS {
            break;
        }
    }
    let (mut seen, total) = (0, groups.len());
    for group in groups {
        if calls == MOST_CALLS {
            break;
        }
        calls += 1;
        match balancers.targets(&group).await {
            Ok(targets) => {
                for target in targets.into_iter().flatten().filter(|target| !target.is_draining) {
                    if let Some(id) = ids.iter().find(|id| id.as_str() == target.id) {
                        found.listed.entry(id.clone()).or_default().push((group.clone(), target));
                    }
                }
                seen += 1;
            }
            Err(error) => {
                found.unread = Some(format!("{error}; {seen} of {total} groups were looked at"));
                return found;
            }
        }
    }
    if seen < total || next.is_some() {
        let more = if next.is_some() { " or more" } else { "" };
        found.unread = Some(format!("{MOST_CALLS} calls were made, and {seen} of {total}{more} groups were looked at"));
    }
    found
}

fn warning(id: &InstanceId, group: &TargetGroup, target: &Target, shell: &Shell) -> String {
    let TargetGroup { arn, name, .. } = group;
    let port = target.port.map(|port| format!(",Port={port}")).unwrap_or_default();
    let command = shell.aws(&format!("elbv2 deregister-targets --target-group-arn {arn} --targets Id={id}{port}"));
    format!(
        "target group {name} lists {id}: its health checks fail now, and an Auto Scaling group that goes by them ends the instance unless it is in Standby. Take it out: {command}"
    )
}
