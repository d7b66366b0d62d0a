//! Puts back what kept an instance from being lost: only what its record holds, and only once its interfaces have their
//! groups back.

use std::collections::{BTreeMap, BTreeSet};

use super::protect::{devices, living};
use super::standby::{self, Course};
use super::{Aim, Hindrance, Measure, Observed};
use crate::model::{Instance, InstanceId, PROFILE_KEY, Record};

/// What a phase has done about protections so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// What was written back, by the names of [`crate::model::Protection::restore_commands`]: what shows it now has it.
    pub undone: BTreeSet<(InstanceId, String)>,
    /// Those that Auto Scaling agreed to move into Standby, or out of it.
    pub moved: BTreeSet<InstanceId>,
    /// Those that it refused to move together with others.
    pub alone: BTreeSet<InstanceId>,
    /// Those that it refused to move at all, and why.
    pub stuck: BTreeMap<InstanceId, String>,
}

/// What is left to undo of one record.
#[derive(Debug, Default)]
pub(super) struct Undo {
    pub(super) measures: Vec<Measure>,
    /// The Auto Scaling group from whose Standby it comes back.
    pub(super) standby: Option<String>,
    /// Something is not known yet, or under way.
    waits: bool,
    pub(super) problems: Vec<Hindrance>,
}

impl Undo {
    /// What of `record` is not what it was. Where the instance is gone, nothing.
    pub(super) fn of(record: &Record, observed: &Observed, attempts: &Attempts) -> Self {
        let mut undo = Self::default();
        if let Some(instance) = living(record, observed) {
            let case = Case { record, observed, attempts };
            case.attributes(&mut undo);
            case.volumes(instance, &mut undo);
            case.profile(&mut undo);
            case.standby(&mut undo);
        }
        undo
    }

    /// Whether everything that can be put back was read back.
    pub(super) fn is_done(&self) -> bool {
        self.measures.is_empty() && self.standby.is_none() && !self.waits
    }
}

struct Case<'a> {
    record: &'a Record,
    observed: &'a Observed,
    attempts: &'a Attempts,
}

impl Case<'_> {
    /// Why something is written: what shows what it should may be a stale read of what an earlier run changed, so it is
    /// written once in any case.
    fn aim(&self, differs: bool, name: &str) -> Option<Aim> {
        let is_undone = self.attempts.undone.contains(&(self.record.instance.clone(), name.to_owned()));
        match (differs, is_undone) {
            (true, _) => Some(Aim::Restore),
            (false, false) => Some(Aim::Confirm),
            (false, true) => None,
        }
    }

    fn attributes(&self, undo: &mut Undo) {
        let recorded = &self.record.protection.attributes;
        let Some(now) = self.observed.attributes.get(&self.record.instance) else {
            undo.waits |= !recorded.is_empty();
            return;
        };
        for attribute in recorded.iter().copied().filter(|_| now.is_some()) {
            let differs = !now.is_some_and(|now| now.contains(&attribute));
            if let Some(aim) = self.aim(differs, attribute.key()) {
                let instance = self.record.instance.clone();
                undo.measures.push(Measure::Unprotect { instance, attribute, aim });
            }
        }
    }

    fn volumes(&self, instance: &Instance, undo: &mut Undo) {
        let recorded = &self.record.protection.volumes;
        let aim = |volume: &_, is_lost: bool| self.aim(!is_lost, &format!("{volume}"));
        let volumes =
            devices(instance, |volume, is_lost| recorded.contains_key(volume) && aim(volume, is_lost).is_some());
        if volumes.is_empty() {
            return;
        }
        let differs =
            instance.volumes.iter().any(|(id, volume)| volumes.contains_key(id) && !volume.delete_on_termination);
        let aim = if differs { Aim::Restore } else { Aim::Confirm };
        undo.measures.push(Measure::UnkeepVolumes { instance: instance.id.clone(), volumes, aim });
    }

    fn profile(&self, undo: &mut Undo) {
        let Some(arn) = self.record.protection.profile.clone() else { return };
        let Some(profiles) = &self.observed.profiles else {
            undo.waits = true;
            return;
        };
        let instance = self.record.instance.clone();
        match profiles.get(&instance) {
            Some(now) if now.arn != arn => {
                let (arn, recorded) = (now.arn.clone(), arn);
                undo.problems.push(Hindrance::ProfileReplaced { instance, arn, recorded });
            }
            now => {
                if let Some(aim) = self.aim(now.is_none(), PROFILE_KEY) {
                    undo.measures.push(Measure::AttachProfile { instance, arn, aim });
                }
            }
        }
    }

    fn standby(&self, undo: &mut Undo) {
        let Some(group) = &self.record.protection.scaling_group else { return };
        let Some(members) = &self.observed.members else {
            undo.waits = true;
            return;
        };
        let id = &self.record.instance;
        match standby::exit(id, members.get(id), group, self.attempts) {
            Course::Nothing | Course::Save => {}
            Course::Move => undo.standby = Some(group.clone()),
            Course::Wait(hindrance) => {
                undo.waits = true;
                undo.problems.push(hindrance);
            }
            Course::Leave(hindrance) => undo.problems.push(hindrance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attribute, Protection, State};
    use crate::plan::testing::{UNPROTECTED, World, groups};
    use crate::plan::{Tried, in_place, restore};

    /// The restore of an instance whose interface has its groups back.
    fn check(world: World, attempts: Attempts, expected: &str) {
        let mut world = world.plain_group("sg-a");
        world.observed.interfaces.values_mut().next().unwrap().groups = groups(&["sg-a"]);
        let tried = Tried { attempts, ..Tried::default() };
        let plan = restore(&world.owner, &world.records, &world.observed, &tried);
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    #[test]
    fn a_restore_puts_back_what_is_recorded_and_reads_it_back() {
        check(
            World::protected(),
            Attempts::default(),
            "i-1: restore: termination protection off\n\
             i-1: restore: stop protection off\n\
             i-1: restore: shutdown behaviour terminate\n\
             i-1: restore: delete vol-1 on termination",
        );
        let mut undone = World::protected().attributes("i-1", UNPROTECTED);
        undone.delete_volume(true);
        let names = ["termination-protection", "stop-protection", "shutdown-behaviour", "vol-1"];
        let undone_names = names.map(|name| ("i-1".parse().unwrap(), name.to_owned())).into();
        let attempts = Attempts { undone: undone_names, ..Attempts::default() };
        check(undone, attempts, "i-1: mark restored");
    }

    #[test]
    fn what_shows_its_prior_value_already_is_written_once_more() {
        let mut world = World::protected().attributes("i-1", UNPROTECTED);
        world.delete_volume(true);
        world.saved().protection.attributes = [Attribute::StopProtection(false)].into();
        check(
            world,
            Attempts::default(),
            "i-1: confirm: stop protection off\ni-1: confirm: delete vol-1 on termination",
        );
    }

    #[test]
    fn what_is_not_recorded_is_not_touched() {
        let mut world = World::protected();
        world.saved().protection = Protection::default();
        check(world, Attempts::default(), "i-1: mark restored");
    }

    #[test]
    fn a_record_is_not_done_while_its_attributes_are_not_known() {
        let mut world = World::protected();
        world.observed.attributes.clear();
        world.saved().protection.volumes.clear();
        check(world, Attempts::default(), "");
    }

    #[test]
    fn a_detached_volume_and_a_vanishing_instance_need_nothing() {
        let mut world = World::protected();
        world.observed.instances.values_mut().next().unwrap().volumes.clear();
        world.observed.attributes = [("i-1".parse().unwrap(), None)].into();
        check(world, Attempts::default(), "i-1: mark restored");
    }

    #[test]
    fn a_restore_brings_a_member_back_before_its_record_is_done() {
        let standby = |state: &str| {
            let mut world = World::isolated();
            world.saved().protection.scaling_group = Some("web".to_owned());
            world.member(state);
            world
        };
        check(standby("Standby"), Attempts::default(), "web: i-1 back from standby");
        check(standby("Pending"), Attempts::default(), "i-1: mark restored");
        let mut unread = standby("Standby");
        unread.observed.members = None;
        check(unread, Attempts::default(), "");
        let reason = "ValidationError: full".to_owned();
        let stuck = Attempts { stuck: [("i-1".parse().unwrap(), reason)].into(), ..Attempts::default() };
        check(
            standby("Standby"),
            stuck,
            "i-1: mark restored\n! i-1 stays in Standby of Auto Scaling group web (ValidationError: full): raise the group's maximum size, \
             then: aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1",
        );
    }

    #[test]
    fn a_profile_comes_back_unless_there_is_another_one() {
        let none = Attempts::default;
        check(World::with_profile(None, Some("arn:a")), none(), "i-1: restore: profile arn:a");
        check(World::with_profile(Some("arn:a"), Some("arn:a")), none(), "i-1: confirm: profile arn:a");
        let undone = [("i-1".parse().unwrap(), PROFILE_KEY.to_owned())].into();
        let confirmed = Attempts { undone, ..Attempts::default() };
        check(World::with_profile(Some("arn:a"), Some("arn:a")), confirmed, "i-1: mark restored");
        check(
            World::with_profile(Some("arn:b"), Some("arn:a")),
            none(),
            "i-1: mark restored\n! i-1 was left with instance profile arn:b, which somebody gave it meanwhile; before it had arn:a",
        );
        let mut unread = World::with_profile(None, Some("arn:a"));
        unread.observed.profiles = None;
        check(unread, none(), "");
    }

    #[test]
    fn interfaces_come_first_and_attributes_are_read_after_them() {
        let world = World::protected().plain_group("sg-a");
        let plan = restore(&world.owner, &world.records, &world.observed, &Tried::default());
        assert_eq!(plan.to_string(), "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]\n");
        assert!(in_place(&world.owner, &world.records, &world.observed, &Tried::default()).is_empty());
    }

    #[test]
    fn a_restored_record_is_history_unless_this_invocation_was_overtaken() {
        let mut world = World::protected();
        world.saved().state = State::Restored;
        check(world, Attempts::default(), "");
        let mut world = World::protected().plain_group("sg-a");
        world.saved().state = State::Restored;
        world.observed.interfaces.values_mut().next().unwrap().groups = groups(&["sg-a"]);
        let tried = Tried { protected: ["i-1".parse().unwrap()].into(), ..Tried::default() };
        let plan = restore(&world.owner, &world.records, &world.observed, &tried);
        assert!(plan.to_string().starts_with("i-1: restore: termination protection off\n"), "{plan}");
    }
}
