//! Delete, and instances that an Update no longer lists: every recorded interface gets its originals back.
//!
//! **Only what is still in our isolation is changed**; what somebody moved meanwhile is left alone and reported.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::is_closed;
use super::standby::{self, Batches};
use super::unprotect::Undo;
use super::{Aim, Attempts, Measure, Observed, Plan, Problem, Records, Step, Work, own_groups, tag};
use crate::model::{GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Owner, Record, Role, State};

/// What this invocation tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// What it last tried to do to an interface. A refused [`Aim::Confirm`] counts as done: the interface was never changed.
    pub interfaces: BTreeMap<InterfaceId, Aim>,
    /// Instances that it took measures to protect.
    pub protected: BTreeSet<InstanceId>,
    /// Instances whose snapshots it was the one to ask for.
    pub snapshots: BTreeSet<InstanceId>,
    pub attempts: Attempts,
}

/// The plan for `records`, all of them `owner`'s. One that is already `restored` is looked at as well: a Create that was
/// overtaken may have isolated its interfaces once more since.
#[must_use]
pub fn restore(owner: &Owner, records: &Records, observed: &Observed, tried: &Tried) -> Plan {
    let mut plan = Plan::default();
    let mut exits = Batches::new();
    for case in cases(owner, records, observed, tried) {
        case.plan(&mut plan, &mut exits);
    }
    let exit = |group, instances| Measure::ExitStandby { group, instances };
    plan.work.extend(standby::steps(exits, &tried.attempts.alone, exit));
    plan
}

/// The instances whose interfaces need nothing more: the protections that their records hold are next.
#[must_use]
pub fn in_place(owner: &Owner, records: &Records, observed: &Observed, tried: &Tried) -> BTreeSet<InstanceId> {
    let done = cases(owner, records, observed, tried).filter(|case| {
        let (changes, is_stuck) = case.interfaces(&mut Vec::new());
        changes.is_empty() && !is_stuck && case.is_protection_open()
    });
    done.map(|case| case.record.instance.clone()).collect()
}

fn cases<'a>(
    owner: &Owner,
    records: &'a Records,
    observed: &'a Observed,
    tried: &'a Tried,
) -> impl Iterator<Item = Case<'a>> {
    records.values().map(move |record| {
        let ours = own_groups(observed, owner, &record.isolation_groups);
        Case { record, observed, tried, ours }
    })
}

struct Case<'a> {
    record: &'a Record,
    observed: &'a Observed,
    tried: &'a Tried,
    ours: Groups,
}

/// What is to be done about one interface.
enum Due {
    Nothing,
    Change(Step),
    /// It cannot be restored.
    Stuck,
}

impl Case<'_> {
    fn plan(&self, plan: &mut Plan, exits: &mut Batches) {
        let already = plan.problems.len();
        let (changes, is_stuck) = self.interfaces(&mut plan.problems);
        if !changes.is_empty() {
            let begun = matches!(self.record.state, State::Restoring | State::Restored);
            let first = (!begun).then(|| self.mark(State::Restoring));
            plan.work.push(Work { first, then: changes });
            return;
        }
        if is_stuck {
            return;
        }
        let undo = match self.other_holder() {
            _ if !self.is_protection_open() => Undo::default(),
            Some(holder) => {
                plan.problems.push(Problem::ProtectionLeft { instance: self.record.instance.clone(), holder });
                Undo::default()
            }
            None => Undo::of(self.record, self.observed, &self.tried.attempts),
        };
        let is_done = undo.is_done();
        plan.problems.extend(undo.problems.into_iter().map(Problem::Hindrance));
        if let Some(group) = undo.standby {
            exits.entry(group).or_default().insert(self.record.instance.clone());
        }
        if !undo.measures.is_empty() {
            // Not marked as restoring, where it is not: what its state says of the interfaces goes on counting.
            plan.work.push(Work { first: None, then: undo.measures.into_iter().map(Step::Measure).collect() });
        } else if is_done && self.record.state != State::Restored {
            plan.work
                .push(Work::only(self.untag().unwrap_or_else(|| self.restored(plan.problems.iter().skip(already)))));
        }
    }

    /// Whether the protections of the record are to be undone. In a restored one they were: what is there now is somebody
    /// else's, unless this invocation was overtaken while it set them.
    fn is_protection_open(&self) -> bool {
        let record = self.record;
        !record.protection.is_empty()
            && (record.state != State::Restored || self.tried.protected.contains(&record.instance))
    }

    /// The stack in whose isolation the instance is by now: what protects it, it needs.
    fn other_holder(&self) -> Option<String> {
        let live = self.instance().into_iter().flat_map(|instance| &instance.interfaces);
        let others = live.flat_map(|interface| &interface.groups).filter(|id| !self.ours.contains(id));
        let group = others
            .filter_map(|id| self.observed.groups.get(id))
            .find(|group| group.role == Some(Role::Isolation) && is_closed(group))?;
        Some(group.stack_id.clone().unwrap_or_else(|| group.id.to_string()))
    }

    /// The changes that the interfaces need, and whether one of them cannot be restored.
    fn interfaces(&self, problems: &mut Vec<Problem>) -> (Vec<Step>, bool) {
        let mut changes = Vec::new();
        let mut stuck = false;
        for (id, originals) in &self.record.interfaces {
            // A detached interface that still exists is restored as well; one that is gone counts as restored.
            let Some(interface) = self.observed.interfaces.get(id) else { continue };
            match self.interface(interface, originals, problems) {
                Due::Nothing => {}
                Due::Change(step) => changes.push(step),
                Due::Stuck => stuck = true,
            }
        }
        for (interface, group) in self.unrecorded() {
            stuck = true;
            let instance = self.record.instance.clone();
            problems.push(Problem::OriginalUnknown { instance, interface, group });
        }
        (changes, stuck)
    }

    fn interface(&self, interface: &Interface, originals: &Groups, problems: &mut Vec<Problem>) -> Due {
        let instance = self.record.instance.clone();
        let exists = |group: &_| self.observed.groups.contains_key(group);
        let (target, gone): (Groups, Groups) = originals.iter().cloned().partition(exists);
        let change = |to: &Groups, aim| {
            Due::Change(Step::SetGroups {
                instance: instance.clone(),
                interface: interface.id.clone(),
                from: interface.groups.clone(),
                to: to.clone(),
                aim,
            })
        };
        // A group in use cannot be deleted: whoever shows one that is gone shows what no longer is.
        if interface.groups.is_disjoint(&self.ours) && interface.groups.is_disjoint(&gone) {
            if !self.is_known(&interface.id) {
                return change(&interface.groups, Aim::Confirm);
            }
            if interface.groups != target {
                let groups = interface.groups.clone();
                problems.push(Problem::Moved { instance, interface: interface.id.clone(), groups });
                return Due::Nothing;
            }
            if !gone.is_empty() {
                problems.push(Problem::OriginalDropped { instance, interface: interface.id.clone(), groups: gone });
            }
            return Due::Nothing;
        }
        if target.is_empty() {
            problems.push(Problem::OriginalsGone { instance, interface: interface.id.clone(), groups: gone });
            return Due::Stuck;
        }
        change(&target, Aim::Restore)
    }

    /// Whether an interface that is not in our isolation really is out of it. Where it was once read back as isolated,
    /// somebody moved it; otherwise an earlier change may not be visible yet.
    fn is_known(&self, interface: &InterfaceId) -> bool {
        match self.tried.interfaces.get(interface) {
            Some(Aim::Restore | Aim::Confirm) => true,
            Some(Aim::Isolate) => false,
            None => matches!(self.record.state, State::Isolated | State::Restored),
        }
    }

    /// Interfaces of the instance that are in our isolation although nothing was recorded of them.
    fn unrecorded(&self) -> impl Iterator<Item = (InterfaceId, GroupId)> {
        let attached = self.instance().into_iter().flat_map(|instance| &instance.interfaces);
        attached.filter(|interface| !self.record.interfaces.contains_key(&interface.id)).filter_map(|interface| {
            let group = interface.groups.intersection(&self.ours).next()?;
            Some((interface.id.clone(), group.clone()))
        })
    }

    fn instance(&self) -> Option<&Instance> {
        self.observed.instances.get(&self.record.instance).filter(|instance| !instance.is_terminated())
    }

    fn mark(&self, state: State) -> Step {
        Step::Mark { instance: self.record.instance.clone(), from: self.record.state, state, reason: None, cut: None }
    }

    /// What could not be put back as it was goes into the record's history.
    fn restored<'p>(&self, problems: impl Iterator<Item = &'p Problem>) -> Step {
        let problems: Vec<String> = problems.map(ToString::to_string).collect();
        let reason = (!problems.is_empty()).then(|| problems.join("; "));
        let (instance, from, state) = (self.record.instance.clone(), self.record.state, State::Restored);
        Step::Mark { instance, from, state, reason, cut: None }
    }

    /// Takes our tags off the instance and its interfaces, if any are left.
    fn untag(&self) -> Option<Step> {
        let interfaces = self.record.interfaces.keys().filter_map(|id| self.observed.interfaces.get(id));
        let tagged = interfaces.map(|interface| (interface.id.to_string(), &interface.tags));
        let tagged = tagged.chain(self.instance().map(|instance| (instance.id.to_string(), &instance.tags)));
        let (mut resources, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for (resource, tags) in tagged {
            let ours: Vec<_> = tags.keys().filter(|key| is_our_tag(key)).cloned().collect();
            if !ours.is_empty() {
                resources.insert(resource);
                keys.extend(ours);
            }
        }
        (!resources.is_empty()).then_some(Step::Untag { resources, keys })
    }
}

fn is_our_tag(key: &str) -> bool {
    matches!(key, tag::STACK | tag::PURPOSE | tag::TIME | tag::RESTORE) || key.starts_with(tag::ORIGINAL_GROUPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    fn check(world: &World, expected: &str) {
        let plan = restore(&world.owner, &world.records, &world.observed, &Tried::default());
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    /// What this invocation tried to do to `eni-1`.
    fn tried(aim: Aim) -> Tried {
        Tried { interfaces: [("eni-1".parse().unwrap(), aim)].into(), ..Tried::default() }
    }

    /// An isolated instance whose original groups `sg-a` and `sg-b` exist.
    fn isolated() -> World {
        World::new().plain_group("sg-a").plain_group("sg-b").instance("i-1", &[("eni-1", &["sg-150"])]).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a", "sg-b"])],
        )
    }

    fn set_groups(world: &mut World, ids: &[&str]) {
        world.observed.interfaces.get_mut(&"eni-1".parse().unwrap()).unwrap().groups =
            crate::plan::testing::groups(ids);
    }

    #[test]
    fn a_restored_record_needs_nothing() {
        let world = World::new().record("i-1", State::Restored, &[("eni-1", &["sg-a"])]);
        check(&world, "");
    }

    #[test]
    fn an_isolated_interface_gets_its_originals_back() {
        check(&isolated(), "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a, sg-b]");
    }

    #[test]
    fn an_interface_that_an_overtaken_create_isolated_again_is_restored_again() {
        let mut world = isolated();
        world.records.values_mut().next().unwrap().state = State::Restored;
        check(&world, "i-1: restore eni-1 [sg-150] -> [sg-a, sg-b]");
        set_groups(&mut world, &["sg-a", "sg-b"]);
        check(&world, "");
        let tried = tried(Aim::Isolate);
        let plan = restore(&world.owner, &world.records, &world.observed, &tried);
        assert_eq!(plan.to_string(), "i-1: confirm eni-1 [sg-a, sg-b] -> [sg-a, sg-b]\n");
    }

    #[test]
    fn a_restore_goes_on_where_it_was_interrupted() {
        let mut world = isolated();
        world.records.values_mut().next().unwrap().state = State::Restoring;
        check(&world, "i-1: restore eni-1 [sg-150] -> [sg-a, sg-b]");
    }

    #[test]
    fn a_record_is_marked_restored_only_after_the_read_back_and_without_tags() {
        let mut world = isolated();
        set_groups(&mut world, &["sg-a", "sg-b"]);
        let tags = &mut world.observed.instances.values_mut().next().unwrap().tags;
        tags.insert(tag::STACK.to_owned(), "stack-1".to_owned());
        tags.insert("Name".to_owned(), "web".to_owned());
        check(&world, "untag i-1 of ec2-isolation:stack");
        world.observed.instances.values_mut().next().unwrap().tags.clear();
        check(&world, "i-1: mark restored");
    }

    #[test]
    fn what_may_be_a_stale_read_is_written_once_more() {
        for state in [State::Isolating, State::Kept, State::Restoring] {
            let mut world = isolated();
            world.records.values_mut().next().unwrap().state = state;
            set_groups(&mut world, &["sg-a", "sg-b"]);
            let steps = restore(&world.owner, &world.records, &world.observed, &Tried::default()).to_string();
            assert!(steps.ends_with("i-1: confirm eni-1 [sg-a, sg-b] -> [sg-a, sg-b]\n"), "{steps}");
            let tried = tried(Aim::Confirm);
            let steps = restore(&world.owner, &world.records, &world.observed, &tried).to_string();
            assert_eq!(steps, "i-1: mark restored\n");
        }
    }

    #[test]
    fn what_shows_other_groups_but_was_never_seen_isolated_is_written_once_more_as_it_shows() {
        let mut world = isolated().plain_group("sg-c");
        world.records.values_mut().next().unwrap().state = State::Restoring;
        set_groups(&mut world, &["sg-c"]);
        check(&world, "i-1: confirm eni-1 [sg-c] -> [sg-c]");
        let tried = tried(Aim::Confirm);
        let plan = restore(&world.owner, &world.records, &world.observed, &tried).to_string();
        assert_eq!(plan, "i-1: mark restored\n! i-1: eni-1 was left alone: somebody moved it to [sg-c] meanwhile\n");
    }

    #[test]
    fn what_shows_a_group_that_is_gone_is_a_stale_read() {
        let mut world = isolated();
        set_groups(&mut world, &["sg-a", "sg-b"]);
        world.observed.groups.remove(&"sg-b".parse().unwrap());
        check(&world, "i-1: mark restoring\ni-1: restore eni-1 [sg-a, sg-b] -> [sg-a]");
    }

    #[test]
    fn what_somebody_moved_meanwhile_is_left_alone_and_reported() {
        let mut world = isolated();
        set_groups(&mut world, &["sg-a"]);
        check(&world, "i-1: mark restored\n! i-1: eni-1 was left alone: somebody moved it to [sg-a] meanwhile");
    }

    #[test]
    fn what_protects_an_instance_that_another_stack_isolates_by_now_is_left() {
        let mut world = World::protected().foreign_group("sg-f0", "stack-2");
        set_groups(&mut world, &["sg-f0"]);
        world.observed.instances.values_mut().next().unwrap().interfaces[0].groups =
            crate::plan::testing::groups(&["sg-f0"]);
        check(
            &world,
            "i-1: mark restored\n\
             ! i-1: eni-1 was left alone: somebody moved it to [sg-f0] meanwhile\n\
             ! i-1: what protects it was left on, stack-2 isolates it by now; its record has what it had before",
        );
        // The record says both.
        let plan = restore(&world.owner, &world.records, &world.observed, &Tried::default());
        let Some(Step::Mark { reason: Some(reason), .. }) = plan.steps().next() else { panic!("{plan}") };
        assert!(
            reason.contains("was left alone") && reason.contains("; i-1: what protects it was left on"),
            "{reason}"
        );
    }

    #[test]
    fn an_original_that_no_longer_exists_is_dropped_and_named() {
        let mut world = isolated();
        world.observed.groups.remove(&"sg-b".parse().unwrap());
        check(&world, "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]");
        set_groups(&mut world, &["sg-a"]);
        check(&world, "i-1: mark restored\n! i-1: eni-1 was restored without [sg-b], which no longer exist");
    }

    #[test]
    fn an_interface_whose_originals_are_all_gone_stays_isolated() {
        let mut world = isolated();
        world.observed.groups.retain(|id, _| id.as_str() == "sg-150");
        check(
            &world,
            "! i-1: eni-1 stays isolated, its original groups [sg-a, sg-b] no longer exist: choose others: \
             aws ec2 modify-network-interface-attribute --network-interface-id eni-1 --groups <group ids>",
        );
    }

    #[test]
    fn a_terminated_instance_counts_as_restored() {
        let world = World::new().terminated("i-1").record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
        check(&world, "i-1: mark restored");
        let world = World::new().record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
        check(&world, "i-1: mark restored");
    }

    #[test]
    fn an_interface_in_our_group_without_a_record_is_named_and_the_others_are_restored() {
        let mut world = isolated();
        let mut extra = world.observed.interfaces.values().next().unwrap().clone();
        extra.id = "eni-2".parse().unwrap();
        world.observed.instances.values_mut().next().unwrap().interfaces.push(extra);
        check(
            &world,
            "i-1: mark restoring\n\
             i-1: restore eni-1 [sg-150] -> [sg-a, sg-b]\n\
             ! i-1: eni-2 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand",
        );
    }
}
