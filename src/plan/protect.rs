//! Keeps contained instances and their volumes from being lost.
//!
//! What is changed is recorded before. **None of it bears on isolation**: that comes first and stands whatever becomes of
//! this. [`super::unprotect`] is the way back.

use std::collections::BTreeMap;

use super::standby::{self, Batches, Course};
use super::{Attempts, Contained, Hindrance, Measure, Observed, Plan, Problem, Records, Step, Work};
use crate::model::{Instance, InstanceId, Owner, PROTECTING, Protection, Record, VolumeId, Wants};

/// The plan for the instances that [`super::contain`] found contained, wholly or in part.
#[must_use]
pub fn protect(
    owner: &Owner,
    wants: &Wants,
    contained: &Contained,
    records: &Records,
    observed: &Observed,
    attempts: &Attempts,
) -> Plan {
    let mut plan = Plan::default();
    let mut batches = Batches::new();
    for id in &contained.touched() {
        let Some(record) = records.get(id).filter(|record| record.owner == *owner) else { continue };
        let Some(instance) = living(record, observed) else { continue };
        let mut due = Due::default();
        if wants.protect {
            due.attributes(id, observed);
            due.volumes(instance);
            due.standby(record, observed, attempts);
        }
        if wants.detach_profile {
            due.profile(record, observed);
        }
        plan.problems.extend(due.problems.into_iter().map(Problem::Hindrance));
        if let Some(group) = due.standby {
            batches.entry(group).or_default().insert(id.clone());
        }
        let prior = due.prior.without(&record.protection);
        let first = (!prior.is_empty()).then(|| Step::Measure(Measure::Save { instance: id.clone(), prior }));
        if first.is_some() || !due.measures.is_empty() {
            plan.work.push(Work { first, then: due.measures.into_iter().map(Step::Measure).collect() });
        }
    }
    let enter = |group, instances| Measure::EnterStandby { group, instances };
    plan.work.extend(standby::steps(batches, &attempts.alone, enter));
    plan
}

/// What one instance has where it should have something else, and the measures that change it.
#[derive(Debug, Default)]
struct Due {
    prior: Protection,
    measures: Vec<Measure>,
    /// The Auto Scaling group in whose Standby it should be. Its record holds it.
    standby: Option<String>,
    problems: Vec<Hindrance>,
}

impl Due {
    fn attributes(&mut self, id: &InstanceId, observed: &Observed) {
        let attributes = observed.attributes.get(id).and_then(Option::as_ref);
        for (now, wanted) in attributes.into_iter().flatten().zip(PROTECTING) {
            if *now != wanted {
                self.prior.attributes.insert(*now);
                self.measures.push(Measure::Protect { instance: id.clone(), attribute: wanted });
            }
        }
    }

    fn volumes(&mut self, instance: &Instance) {
        let volumes = devices(instance, |_, is_lost| is_lost);
        if !volumes.is_empty() {
            self.prior.volumes = volumes.clone();
            self.measures.push(Measure::KeepVolumes { instance: instance.id.clone(), volumes });
        }
    }

    fn standby(&mut self, record: &Record, observed: &Observed, attempts: &Attempts) {
        let id = &record.instance;
        let Some(member) = observed.members.as_ref().and_then(|members| members.get(id)) else { return };
        match standby::enter(id, member, record.protection.scaling_group.as_ref(), attempts) {
            Course::Nothing => {}
            Course::Save => self.prior.scaling_group = Some(member.group.clone()),
            Course::Move => self.standby = Some(member.group.clone()),
            Course::Wait(hindrance) | Course::Leave(hindrance) => self.problems.push(hindrance),
        }
    }

    fn profile(&mut self, record: &Record, observed: &Observed) {
        let instance = record.instance.clone();
        let Some(profile) = observed.profiles.as_ref().and_then(|profiles| profiles.get(&instance)) else { return };
        match record.protection.profile.clone().filter(|recorded| *recorded != profile.arn) {
            Some(recorded) => {
                let (association, arn) = (profile.association.clone(), profile.arn.clone());
                self.problems.push(Hindrance::OtherProfile { instance, association, arn, recorded });
            }
            None => {
                self.prior.profile = Some(profile.arn.clone());
                self.measures.push(Measure::DetachProfile { instance, profile: profile.clone() });
            }
        }
    }
}

/// The attached volumes that `which` selects by id and by whether they go with the instance, with their devices.
pub(super) fn devices(instance: &Instance, which: impl Fn(&VolumeId, bool) -> bool) -> BTreeMap<VolumeId, String> {
    let selected = instance.volumes.iter().filter(|(id, volume)| which(id, volume.delete_on_termination));
    selected.map(|(id, volume)| (id.clone(), volume.device.clone())).collect()
}

pub(super) fn living<'a>(record: &Record, observed: &'a Observed) -> Option<&'a Instance> {
    observed.instances.get(&record.instance).filter(|instance| !instance.is_terminated())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Attribute;
    use crate::plan::testing::{UNPROTECTED, World, wants};

    fn check(world: &World, expected: &str) {
        check_wants(world, &wants(&["i-1"]), expected);
    }

    fn check_detached(world: &World, expected: &str) {
        check_wants(world, &Wants { detach_profile: true, ..wants(&["i-1"]) }, expected);
    }

    fn check_wants(world: &World, wants: &Wants, expected: &str) {
        let interfaces = world.observed.interfaces.keys().map(|id| (id.clone(), "i-1".parse().unwrap()));
        let contained = Contained { interfaces: interfaces.collect(), ..Contained::default() };
        let plan = protect(&world.owner, wants, &contained, &world.records, &world.observed, &Attempts::default());
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    #[test]
    fn what_is_protected_needs_nothing() {
        check(&World::protected(), "");
        let mut world = World::protected();
        world.saved().protection = Protection::default();
        check(&world, "");
    }

    #[test]
    fn what_it_has_is_saved_and_then_changed() {
        check(
            &World::isolated(),
            "i-1: save termination protection off, stop protection off, shutdown behaviour terminate, deletion of vol-1 on termination\n\
             i-1: protect: termination protection on\n\
             i-1: protect: stop protection on\n\
             i-1: protect: shutdown behaviour stop\n\
             i-1: keep vol-1 on termination",
        );
    }

    #[test]
    fn what_it_should_have_is_neither_saved_nor_changed() {
        let mut now = PROTECTING;
        now[0] = Attribute::TerminationProtection(false);
        let mut world = World::isolated().attributes("i-1", now);
        world.delete_volume(false);
        check(&world, "i-1: save termination protection off\ni-1: protect: termination protection on");
    }

    #[test]
    fn what_is_recorded_is_changed_again_and_not_saved_again() {
        let world = World::protected().attributes("i-1", UNPROTECTED);
        check(
            &world,
            "i-1: protect: termination protection on\n\
             i-1: protect: stop protection on\n\
             i-1: protect: shutdown behaviour stop",
        );
    }

    #[test]
    fn an_instance_whose_attributes_are_not_known_keeps_its_volumes_all_the_same() {
        for attributes in [None, Some(None)] {
            let mut world = World::isolated();
            world.observed.attributes = attributes.map(|none| ("i-1".parse().unwrap(), none)).into_iter().collect();
            check(&world, "i-1: save deletion of vol-1 on termination\ni-1: keep vol-1 on termination");
        }
    }

    #[test]
    fn nothing_is_protected_that_is_not_asked_for_not_ours_or_gone() {
        check_wants(&World::isolated(), &Wants { protect: false, ..wants(&["i-1"]) }, "");
        let mut world = World::isolated();
        world.saved().owner.logical_id = "Other".to_owned();
        check(&world, "");
        let mut world = World::isolated();
        world.observed.instances.values_mut().next().unwrap().state = "terminated".to_owned();
        check(&world, "");
    }

    #[test]
    fn the_group_of_a_member_is_saved_with_the_rest_and_it_is_moved_once_that_is_seen() {
        let mut world = World::isolated().attributes("i-1", PROTECTING);
        world.delete_volume(false);
        world.member("InService");
        check(&world, "i-1: save in service of web");
        world.saved().protection.scaling_group = Some("web".to_owned());
        check(&world, "web: i-1 to standby");
        world.member("Standby");
        check(&world, "");
    }

    #[test]
    fn a_profile_is_recorded_and_detached_where_that_is_asked_for() {
        check(&World::with_profile(Some("arn:a"), None), "");
        check_detached(&World::with_profile(Some("arn:a"), None), "i-1: save profile arn:a\ni-1: detach profile arn:a");
        check_detached(&World::with_profile(Some("arn:a"), Some("arn:a")), "i-1: detach profile arn:a");
        check_detached(&World::with_profile(None, Some("arn:a")), "");
        check_detached(
            &World::with_profile(Some("arn:b"), Some("arn:a")),
            "! i-1 has instance profile arn:b, its record says arn:a: it was not detached; do so by hand: \
             aws ec2 disassociate-iam-instance-profile --association-id iip-assoc-1",
        );
    }
}
