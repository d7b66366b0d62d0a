//! The instance profiles of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ec2_isolation::model::{InstanceId, Profile};
use ec2_isolation::ports::{Call, Fault};
use tokio::time::Instant;

use super::World;
use super::ports::{INCORRECT_STATE, refusal};

/// How long an association that is taken away still is one.
const DISASSOCIATING: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Profiles {
    associations: BTreeMap<InstanceId, Profile>,
    ending: BTreeMap<InstanceId, Instant>,
    /// What reads still show, and how often.
    stale: BTreeMap<InstanceId, (Option<Profile>, u32)>,
    made: usize,
}

impl Profiles {
    pub(super) fn calm(&mut self) {
        self.stale.clear();
    }

    pub(super) fn arn(&self, instance: &InstanceId) -> Option<&str> {
        self.associations.get(instance).map(|profile| profile.arn.as_str())
    }

    fn attach(&mut self, instance: &InstanceId, arn: &str) {
        self.made += 1;
        let profile = Profile { association: format!("iip-assoc-{}", self.made), arn: arn.to_owned() };
        self.associations.insert(instance.clone(), profile);
    }

    fn shown(&mut self, instance: &InstanceId) -> Option<Profile> {
        match self.stale.get_mut(instance).filter(|(_, left)| *left > 0) {
            Some((old, left)) => {
                *left -= 1;
                old.clone()
            }
            None => self.associations.get(instance).cloned(),
        }
    }
}

impl World {
    /// An operator's change, seen at once.
    pub fn give_profile(&self, instance: &str, arn: &str) {
        self.data().profiles.attach(&instance.parse().unwrap(), arn);
    }

    pub(super) async fn read_profiles(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Profile>> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.call("ec2:DescribeIamInstanceProfileAssociations", ids.len().to_string(), |data| {
            let there = ids.iter().filter(|id| data.instances.contains_key(*id) && !data.hides(id.as_str()));
            let there = there.filter(|id| !data.hides(&format!("profile {id}")));
            let there: Vec<&InstanceId> = there.collect();
            Ok(there.into_iter().filter_map(|id| Some((id.clone(), data.profiles.shown(id)?))).collect())
        })
        .await
    }

    pub(super) async fn take_profile(&self, profile: &Profile) -> Call<()> {
        let action = "ec2:DisassociateIamInstanceProfile";
        self.call(action, profile.arn.clone(), |data| {
            let stale_reads = data.stale_reads.div_ceil(3);
            let held = data.profiles.associations.iter().find(|(_, held)| held.association == profile.association);
            let Some(instance) = held.map(|(instance, _)| instance.clone()) else {
                return refusal(action, Fault::Refused, "InvalidAssociationID.NotFound");
            };
            let recorded = data.records.get(&instance).and_then(|record| record.protection.profile.clone());
            if recorded.as_ref() != Some(&profile.arn) {
                data.violations
                    .push(format!("{instance}: {} was detached while {recorded:?} was recorded", profile.arn));
            }
            let old = data.profiles.associations.remove(&instance);
            data.profiles.stale.insert(instance.clone(), (old, stale_reads));
            data.profiles.ending.insert(instance, Instant::now());
            Ok(())
        })
        .await
    }

    pub(super) async fn put_profile(&self, instance: &InstanceId, arn: &str) -> Call<()> {
        let action = "ec2:AssociateIamInstanceProfile";
        self.call(action, format!("{instance} {arn}"), |data| {
            let stale_reads = data.stale_reads.div_ceil(3);
            if !data.instances.contains_key(instance) {
                return refusal(action, Fault::Refused, "InvalidInstanceID.NotFound");
            }
            let ending = data.profiles.ending.get(instance);
            if data.profiles.associations.contains_key(instance)
                || ending.is_some_and(|since| since.elapsed() < DISASSOCIATING)
            {
                return refusal(action, INCORRECT_STATE, "IncorrectState");
            }
            data.profiles.attach(instance, arn);
            data.profiles.stale.insert(instance.clone(), (None, stale_reads));
            Ok(())
        })
        .await
    }
}
