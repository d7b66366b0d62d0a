//! Keeps contained instances and their volumes from being lost, and undoes that on a restore.
//!
//! What is changed is recorded before, and only what is recorded is put back. **None of it bears on isolation**: that
//! comes first and stands whatever becomes of this.

use std::collections::{BTreeMap, BTreeSet};

use super::standby::{self, Batches, Course};
use super::{Aim, Contained, Measure, Observed, Plan, Problem, Records, Step, Work};
use crate::model::{Instance, InstanceId, Owner, PROTECTING, Protection, Record, VolumeId, Wants};

/// What a phase has done about protections so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// What was written back, by the names of [`Protection::restore_commands`]: what shows it now has it.
    pub undone: BTreeSet<(InstanceId, String)>,
    /// Those that Auto Scaling agreed to move into Standby, or out of it.
    pub moved: BTreeSet<InstanceId>,
    /// Those that it refused to move together with others.
    pub alone: BTreeSet<InstanceId>,
    /// Those that it refused to move at all, and why.
    pub stuck: BTreeMap<InstanceId, String>,
}

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
        let (mut prior, then) = if wants.protect { due(instance, observed) } else { Default::default() };
        let member = observed.members.as_ref().and_then(|members| members.get(id)).filter(|_| wants.protect);
        if let Some(member) = member {
            match standby::enter(id, member, record.protection.scaling_group.as_ref(), attempts) {
                Course::Nothing => {}
                Course::Save => prior.scaling_group = Some(member.group.clone()),
                Course::Move => drop(batches.entry(member.group.clone()).or_default().insert(id.clone())),
                Course::Wait(hindrance) | Course::Leave(hindrance) => {
                    plan.problems.push(Problem::Hindrance(hindrance));
                }
            }
        }
        let prior = prior.without(&record.protection);
        let first = (!prior.is_empty()).then(|| Step::Measure(Measure::Save { instance: id.clone(), prior }));
        if first.is_some() || !then.is_empty() {
            plan.work.push(Work { first, then: then.into_iter().map(Step::Measure).collect() });
        }
    }
    plan.work.extend(standby::steps(batches, &attempts.alone, |group, instances| Measure::EnterStandby {
        group,
        instances,
    }));
    plan
}

/// What the instance has now where it should have something else, and the measures that change it.
fn due(instance: &Instance, observed: &Observed) -> (Protection, Vec<Measure>) {
    let id = &instance.id;
    let mut prior = Protection::default();
    let mut measures = Vec::new();
    let attributes = observed.attributes.get(id).and_then(Option::as_ref);
    for (now, wanted) in attributes.into_iter().flatten().zip(PROTECTING) {
        if *now != wanted {
            prior.attributes.insert(*now);
            measures.push(Measure::Protect { instance: id.clone(), attribute: wanted });
        }
    }
    prior.volumes = devices(instance, |_, is_lost| is_lost);
    if !prior.volumes.is_empty() {
        measures.push(Measure::KeepVolumes { instance: id.clone(), volumes: prior.volumes.clone() });
    }
    (prior, measures)
}

/// The attached volumes that `which` selects by id and by whether they go with the instance, with their devices.
fn devices(instance: &Instance, which: impl Fn(&VolumeId, bool) -> bool) -> BTreeMap<VolumeId, String> {
    let selected = instance.volumes.iter().filter(|(id, volume)| which(id, volume.delete_on_termination));
    selected.map(|(id, volume)| (id.clone(), volume.device.clone())).collect()
}

fn living<'a>(record: &Record, observed: &'a Observed) -> Option<&'a Instance> {
    observed.instances.get(&record.instance).filter(|instance| !instance.is_terminated())
}

/// What is left to undo of one record.
#[derive(Debug, Default)]
pub(super) struct Undo {
    pub(super) measures: Vec<Measure>,
    /// The Auto Scaling group from whose Standby it comes back.
    pub(super) exits: Option<String>,
    /// Something is not known yet, or under way.
    pub(super) waits: bool,
    pub(super) problems: Vec<Problem>,
}

impl Undo {
    /// Whether everything that can be put back was read back.
    pub(super) fn is_done(&self) -> bool {
        self.measures.is_empty() && self.exits.is_none() && !self.waits
    }
}

/// What of `record` is not what it was. Where the instance is gone, nothing.
pub(super) fn undo(record: &Record, observed: &Observed, attempts: &Attempts) -> Undo {
    let mut undo = Undo::default();
    let (id, recorded) = (&record.instance, &record.protection);
    let Some(instance) = living(record, observed) else { return undo };
    // What shows what it should may be a stale read of what an earlier run changed: it is written once in any case.
    let is_undone = |name: &str| attempts.undone.contains(&(id.clone(), name.to_owned()));
    let aim = |differs: bool| if differs { Aim::Restore } else { Aim::Confirm };

    match observed.attributes.get(id) {
        None => undo.waits = !recorded.attributes.is_empty(),
        Some(None) => {}
        Some(Some(now)) => {
            for attribute in recorded.attributes.iter().copied() {
                let differs = !now.contains(&attribute);
                if differs || !is_undone(attribute.key()) {
                    let aim = aim(differs);
                    undo.measures.push(Measure::Unprotect { instance: id.clone(), attribute, aim });
                }
            }
        }
    }

    let volumes = devices(instance, |volume, is_lost| {
        recorded.volumes.contains_key(volume) && !(is_lost && is_undone(volume.as_str()))
    });
    if !volumes.is_empty() {
        let differs =
            instance.volumes.iter().any(|(id, volume)| volumes.contains_key(id) && !volume.delete_on_termination);
        undo.measures.push(Measure::UnkeepVolumes { instance: id.clone(), volumes, aim: aim(differs) });
    }

    match (&recorded.scaling_group, &observed.members) {
        (None, _) => {}
        (Some(_), None) => undo.waits = true,
        (Some(group), Some(members)) => match standby::exit(id, members.get(id), group, attempts) {
            Course::Nothing | Course::Save => {}
            Course::Move => undo.exits = Some(group.clone()),
            Course::Wait(hindrance) => {
                undo.waits = true;
                undo.problems.push(Problem::Hindrance(hindrance));
            }
            Course::Leave(hindrance) => undo.problems.push(Problem::Hindrance(hindrance)),
        },
    }
    undo
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attribute, Attributes, Member, ShutdownBehaviour, State};
    use crate::plan::testing::{World, wants};
    use crate::plan::{Tried, in_place, restore};

    const UNPROTECTED: Attributes = [
        Attribute::TerminationProtection(false),
        Attribute::StopProtection(false),
        Attribute::ShutdownBehaviour(ShutdownBehaviour::Terminate),
    ];

    /// An isolated instance that nothing protects, with a volume that goes with it.
    fn isolated() -> World {
        World::new().instance("i-1", &[("eni-1", &["sg-150"])]).attributes("i-1", UNPROTECTED).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a"])],
        )
    }

    /// The same after everything was saved and done.
    fn protected() -> World {
        let mut world = isolated().attributes("i-1", PROTECTING);
        let record = world.records.values_mut().next().unwrap();
        record.protection.attributes = UNPROTECTED.into();
        record.protection.volumes = [("vol-1".parse().unwrap(), "/dev/sda1".to_owned())].into();
        keep_volume(&mut world, true);
        world
    }

    fn keep_volume(world: &mut World, keep: bool) {
        let instance = world.observed.instances.values_mut().next().unwrap();
        instance.volumes.values_mut().next().unwrap().delete_on_termination = !keep;
    }

    fn record(world: &mut World) -> &mut Record {
        world.records.values_mut().next().unwrap()
    }

    fn check(world: &World, expected: &str) {
        check_wants(world, &wants(&["i-1"]), expected);
    }

    fn check_wants(world: &World, wants: &Wants, expected: &str) {
        let interfaces = world.observed.interfaces.keys().map(|id| (id.clone(), "i-1".parse().unwrap()));
        let contained = Contained { interfaces: interfaces.collect(), ..Contained::default() };
        let plan = protect(&world.owner, wants, &contained, &world.records, &world.observed, &Attempts::default());
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    /// The restore of an instance whose interface has its groups back.
    fn check_restore(world: World, attempts: Attempts, expected: &str) {
        let mut world = world.plain_group("sg-a");
        world.observed.interfaces.values_mut().next().unwrap().groups = crate::plan::testing::groups(&["sg-a"]);
        let tried = Tried { attempts, ..Tried::default() };
        let plan = restore(&world.owner, &world.records, &world.observed, &tried);
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    #[test]
    fn what_is_protected_needs_nothing() {
        check(&protected(), "");
        let mut world = protected();
        record(&mut world).protection = Protection::default();
        check(&world, "");
    }

    #[test]
    fn what_it_has_is_saved_and_then_changed() {
        check(
            &isolated(),
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
        let mut world = isolated().attributes("i-1", now);
        keep_volume(&mut world, true);
        check(&world, "i-1: save termination protection off\ni-1: protect: termination protection on");
    }

    #[test]
    fn what_is_recorded_is_changed_again_and_not_saved_again() {
        let world = protected().attributes("i-1", UNPROTECTED);
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
            let mut world = isolated();
            world.observed.attributes = attributes.map(|none| ("i-1".parse().unwrap(), none)).into_iter().collect();
            check(&world, "i-1: save deletion of vol-1 on termination\ni-1: keep vol-1 on termination");
        }
    }

    #[test]
    fn nothing_is_protected_that_is_not_asked_for_not_ours_or_gone() {
        check_wants(&isolated(), &Wants { protect: false, ..wants(&["i-1"]) }, "");
        let mut world = isolated();
        record(&mut world).owner.logical_id = "Other".to_owned();
        check(&world, "");
        let mut world = isolated();
        world.observed.instances.values_mut().next().unwrap().state = "terminated".to_owned();
        check(&world, "");
    }

    #[test]
    fn a_restore_puts_back_what_is_recorded_and_reads_it_back() {
        check_restore(
            protected(),
            Attempts::default(),
            "i-1: restore: termination protection off\n\
             i-1: restore: stop protection off\n\
             i-1: restore: shutdown behaviour terminate\n\
             i-1: restore: delete vol-1 on termination",
        );
        let mut undone = protected().attributes("i-1", UNPROTECTED);
        keep_volume(&mut undone, false);
        let names = ["termination-protection", "stop-protection", "shutdown-behaviour", "vol-1"];
        let undone_names = names.map(|name| ("i-1".parse().unwrap(), name.to_owned())).into();
        let attempts = Attempts { undone: undone_names, ..Attempts::default() };
        check_restore(undone, attempts, "i-1: mark restored");
    }

    #[test]
    fn what_shows_its_prior_value_already_is_written_once_more() {
        let mut world = protected().attributes("i-1", UNPROTECTED);
        keep_volume(&mut world, false);
        record(&mut world).protection.attributes = [Attribute::StopProtection(false)].into();
        check_restore(
            world,
            Attempts::default(),
            "i-1: confirm: stop protection off\ni-1: confirm: delete vol-1 on termination",
        );
    }

    #[test]
    fn what_is_not_recorded_is_not_touched() {
        let mut world = protected();
        record(&mut world).protection = Protection::default();
        check_restore(world, Attempts::default(), "i-1: mark restored");
    }

    #[test]
    fn a_record_is_not_done_while_its_attributes_are_not_known() {
        let mut world = protected();
        world.observed.attributes.clear();
        record(&mut world).protection.volumes.clear();
        check_restore(world, Attempts::default(), "");
    }

    #[test]
    fn a_detached_volume_and_a_vanishing_instance_need_nothing() {
        let mut world = protected();
        world.observed.instances.values_mut().next().unwrap().volumes.clear();
        world.observed.attributes = [("i-1".parse().unwrap(), None)].into();
        check_restore(world, Attempts::default(), "i-1: mark restored");
    }

    fn member(world: &mut World, state: &str) {
        let member = Member { group: "web".to_owned(), state: state.to_owned() };
        world.observed.members = Some([("i-1".parse().unwrap(), member)].into());
    }

    #[test]
    fn the_group_of_a_member_is_saved_with_the_rest_and_it_is_moved_once_that_is_seen() {
        let mut world = isolated().attributes("i-1", PROTECTING);
        keep_volume(&mut world, true);
        member(&mut world, "InService");
        check(&world, "i-1: save in service of web");
        record(&mut world).protection.scaling_group = Some("web".to_owned());
        check(&world, "web: i-1 to standby");
        member(&mut world, "Standby");
        check(&world, "");
    }

    #[test]
    fn a_restore_brings_a_member_back_before_its_record_is_done() {
        let standby = |state: &str| {
            let mut world = isolated();
            record(&mut world).protection.scaling_group = Some("web".to_owned());
            member(&mut world, state);
            world
        };
        check_restore(standby("Standby"), Attempts::default(), "web: i-1 back from standby");
        check_restore(standby("Pending"), Attempts::default(), "i-1: mark restored");
        let mut unread = standby("Standby");
        unread.observed.members = None;
        check_restore(unread, Attempts::default(), "");
        let reason = "ValidationError: full".to_owned();
        let stuck = Attempts { stuck: [("i-1".parse().unwrap(), reason)].into(), ..Attempts::default() };
        check_restore(
            standby("Standby"),
            stuck,
            "i-1: mark restored\n! i-1 stays in Standby of Auto Scaling group web (ValidationError: full): raise the group's maximum size, \
             then: aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1",
        );
    }

    #[test]
    fn interfaces_come_first_and_attributes_are_read_after_them() {
        let world = protected().plain_group("sg-a");
        let plan = restore(&world.owner, &world.records, &world.observed, &Tried::default());
        assert_eq!(plan.to_string(), "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]\n");
        assert!(in_place(&world.owner, &world.records, &world.observed, &Tried::default()).is_empty());
    }

    #[test]
    fn a_restored_record_is_history_unless_this_invocation_was_overtaken() {
        let mut world = protected();
        record(&mut world).state = State::Restored;
        check_restore(world, Attempts::default(), "");
        let mut world = protected().plain_group("sg-a");
        record(&mut world).state = State::Restored;
        world.observed.interfaces.values_mut().next().unwrap().groups = crate::plan::testing::groups(&["sg-a"]);
        let tried = Tried { protected: ["i-1".parse().unwrap()].into(), ..Tried::default() };
        let plan = restore(&world.owner, &world.records, &world.observed, &tried);
        assert!(plan.to_string().starts_with("i-1: restore: termination protection off\n"), "{plan}");
    }
}
