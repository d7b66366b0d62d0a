//! The Auto Scaling groups of the world: states that take a moment, and the refusals that matter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ec2_isolation::model::{InstanceId, Member};
use ec2_isolation::ports::{Call, Fault};
use tokio::time::Instant;

use super::ports::refusal;
use super::{Data, World};

/// How long a member is on its way.
const TRANSITION: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct ScalingGroup {
    pub desired: usize,
    pub max: usize,
    members: BTreeMap<InstanceId, (String, Instant)>,
}

impl ScalingGroup {
    fn state(&self, instance: &InstanceId, now: Instant) -> Option<&str> {
        let (state, since) = self.members.get(instance)?;
        Some(match state.as_str() {
            "EnteringStandby" if now.duration_since(*since) >= TRANSITION => "Standby",
            "Pending" if now.duration_since(*since) >= TRANSITION => "InService",
            state => state,
        })
    }

    /// Whatever is under way starts now.
    pub fn restart(&mut self) {
        self.members.values_mut().for_each(|(_, since)| *since = Instant::now());
    }

    /// Moves all of them from one state to another, or none.
    fn shift(&mut self, action: &'static str, ids: &BTreeSet<InstanceId>, from: &str, to: &str) -> Call<()> {
        let now = Instant::now();
        if ids.len() > 20 || !ids.iter().all(|id| self.state(id, now) == Some(from)) {
            return refusal(action, Fault::Refused, "ValidationError");
        }
        self.members.extend(ids.iter().map(|id| (id.clone(), (to.to_owned(), now))));
        Ok(())
    }
}

impl Data {
    /// Auto Scaling tags its members (EC2 Auto Scaling User Guide, "Tag Auto Scaling groups and instances").
    pub(super) fn scaling_tag(&self, instance: &InstanceId) -> Option<(String, String)> {
        let (name, _) = self.scaling.iter().find(|(_, group)| group.members.contains_key(instance))?;
        Some(("aws:autoscaling:groupName".to_owned(), name.clone()))
    }
}

impl World {
    /// A group that may still grow, with these members in this state.
    pub fn scale(&self, group: &str, members: &[&str], state: &str) {
        let members = members.iter().map(|id| (id.parse().unwrap(), (state.to_owned(), Instant::now())));
        let members: BTreeMap<_, _> = members.collect();
        let group_of = ScalingGroup { desired: members.len(), max: members.len() * 10, members };
        self.data().scaling.insert(group.to_owned(), group_of);
    }

    /// One more member, of a group that may still grow.
    pub fn join(&self, group: &str, instance: &str, state: &str) {
        let mut data = self.data();
        let group = data.scaling.entry(group.to_owned()).or_insert_with(|| ScalingGroup {
            desired: 0,
            max: usize::MAX,
            members: BTreeMap::new(),
        });
        group.desired += 1;
        group.members.insert(instance.parse().unwrap(), (state.to_owned(), Instant::now()));
    }

    /// Lets the group take back so many members and no more. Returns how many are recorded as away.
    pub fn make_room(&self, group: &str, room: usize) -> usize {
        let mut data = self.data();
        let Some(found) = data.scaling.get_mut(group) else { return 0 };
        found.max = found.desired + room;
        let later = Instant::now() + TRANSITION;
        let away: Vec<InstanceId> =
            found.members.keys().filter(|id| found.state(id, later) == Some("Standby")).cloned().collect();
        let recorded = |id: &&InstanceId| {
            data.records.get(*id).is_some_and(|record| record.protection.scaling_group.as_deref() == Some(group))
        };
        away.iter().filter(recorded).count()
    }

    /// Where each member is, once nothing is under way.
    pub fn membership(&self) -> BTreeMap<String, String> {
        let (data, later) = (self.data(), Instant::now() + TRANSITION);
        let all = data.scaling.iter().flat_map(|(name, group)| group.members.keys().map(move |id| (name, group, id)));
        let there = all.filter(|(_, _, id)| data.instances.contains_key(*id));
        there
            .map(|(name, group, id)| (id.to_string(), format!("{} in {name}", group.state(id, later).unwrap())))
            .collect()
    }

    pub(super) async fn read_members(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Member>> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.call("autoscaling:DescribeAutoScalingInstances", ids.len().to_string(), |data| {
            let now = Instant::now();
            let is_there = |id: &&InstanceId| {
                data.instances.contains_key(*id) && !data.hides(id.as_str()) && !data.hides(&format!("member {id}"))
            };
            let there: BTreeSet<&InstanceId> = ids.iter().filter(is_there).collect();
            let found = data.scaling.iter().flat_map(|(name, group)| {
                let states = there.iter().filter_map(|id| Some((*id, group.state(id, now)?)));
                states.map(move |(id, state)| (id.clone(), Member { group: name.clone(), state: state.to_owned() }))
            });
            Ok(found.collect())
        })
        .await
    }

    pub(super) async fn enter_standby_of(&self, group: &str, ids: &BTreeSet<InstanceId>) -> Call<()> {
        let action = "autoscaling:EnterStandby";
        self.call(action, format!("{group} {ids:?}"), |data| {
            let unrecorded: Vec<&InstanceId> = ids
                .iter()
                .filter(|id| {
                    let record = data.records.get(*id);
                    record.and_then(|record| record.protection.scaling_group.as_deref()) != Some(group)
                })
                .collect();
            let violation = format!("{unrecorded:?} went to Standby of {group} without a record");
            data.violations.extend((!unrecorded.is_empty()).then_some(violation));
            let Some(group) = data.scaling.get_mut(group) else {
                return refusal(action, Fault::Refused, "ValidationError");
            };
            group.shift(action, ids, "InService", "EnteringStandby")
        })
        .await
    }

    pub(super) async fn exit_standby_of(&self, group: &str, ids: &BTreeSet<InstanceId>) -> Call<()> {
        let action = "autoscaling:ExitStandby";
        self.call(action, format!("{group} {ids:?}"), |data| {
            let group = data.scaling.get_mut(group).filter(|group| group.desired + ids.len() <= group.max);
            let Some(group) = group else { return refusal(action, Fault::Refused, "ValidationError") };
            group.shift(action, ids, "Standby", "Pending")?;
            group.desired += ids.len();
            Ok(())
        })
        .await
    }
}
