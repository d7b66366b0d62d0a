//! Create and Update, first phase: every interface of every listed instance ends in exactly the isolation group.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{is_closed, too_wide};
use super::{Aim, Observed, Plan, Prior, Problem, Records, Step, Work, own_groups};
use crate::model::{Group, Groups, Instance, InstanceId, InterfaceId, Owner, Record, Role, State, Wants};

/// What an observation shows as isolated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contained {
    /// Instances all of whose interfaces are isolated.
    pub instances: BTreeSet<InstanceId>,
    pub interfaces: BTreeMap<InterfaceId, InstanceId>,
    /// Interfaces of listed instances that are not.
    pub open: BTreeMap<InterfaceId, InstanceId>,
}

impl Contained {
    /// Instances of which at least one interface is isolated.
    #[must_use]
    pub fn touched(&self) -> BTreeSet<InstanceId> {
        self.interfaces.values().cloned().collect()
    }
}

/// Interfaces that this invocation has written or found isolated, and whether EC2 accepted it.
pub type Accepted = BTreeMap<InterfaceId, bool>;

/// The plan, and what needs none.
#[must_use]
pub fn contain(
    owner: &Owner,
    wants: &Wants,
    records: &Records,
    observed: &Observed,
    accepted: &Accepted,
) -> (Plan, Contained) {
    let mut plan = Plan::default();
    let mut contained = Contained::default();
    match isolation_group(wants, observed) {
        Err(problem) => plan.problems.push(problem),
        Ok(group) => {
            plan.problems.extend(too_wide(group, wants.forensic_group.as_ref()));
            for id in &wants.instances {
                let case = Case { owner, wants, observed, record: records.get(id), accepted };
                match case.instance(id) {
                    Err(problem) => plan.problems.push(problem),
                    Ok(instance) => case.plan(instance, &mut plan, &mut contained),
                }
            }
        }
    }
    (plan, contained)
}

fn isolation_group<'a>(wants: &Wants, observed: &'a Observed) -> Result<&'a Group, Problem> {
    let id = &wants.isolation_group;
    let group = observed.groups.get(id).ok_or_else(|| Problem::GroupMissing { group: id.clone() })?;
    match &group.vpc {
        Some(vpc) if *vpc == wants.vpc => Ok(group),
        vpc => Err(Problem::GroupElsewhere {
            group: id.clone(),
            vpc: vpc.as_ref().map_or_else(|| "no VPC".to_owned(), ToString::to_string),
            wanted: wants.vpc.clone(),
        }),
    }
}

struct Case<'a> {
    owner: &'a Owner,
    wants: &'a Wants,
    observed: &'a Observed,
    record: Option<&'a Record>,
    accepted: &'a Accepted,
}

impl Case<'_> {
    /// The instance, if it is one that we may isolate.
    fn instance(&self, id: &InstanceId) -> Result<&Instance, Problem> {
        let id = id.clone();
        let Some(instance) = self.observed.instances.get(&id) else { return Err(Problem::Unknown { instance: id }) };
        if instance.is_terminated() {
            return Err(Problem::Terminated { instance: id });
        }
        if let Some(vpc) = instance.vpc.as_ref().filter(|vpc| **vpc != self.wants.vpc) {
            return Err(Problem::OtherVpc { instance: id, vpc: vpc.to_string(), wanted: self.wants.vpc.clone() });
        }
        if let Some(record) = self.held().filter(|record| record.owner.stack_id != self.owner.stack_id) {
            return Err(Problem::HeldByOther { instance: id, holder: record.owner.stack_id.clone() });
        }
        if let Some(holder) = self.foreign_holder(instance) {
            return Err(Problem::HeldByOther { instance: id, holder });
        }
        if instance.interfaces.is_empty() {
            return Err(Problem::NoInterface { instance: id, state: instance.state.clone() });
        }
        Ok(instance)
    }

    /// The record, unless it is only history.
    fn held(&self) -> Option<&Record> {
        self.record.filter(|record| record.state != State::Restored)
    }

    /// What a restored record says of an interface: it is in our group still, or again.
    fn history(&self, interface: &InterfaceId) -> Option<&Groups> {
        let record = self.record.filter(|record| record.state == State::Restored)?;
        (record.owner.stack_id == self.owner.stack_id).then(|| record.interfaces.get(interface))?
    }

    fn ours(&self) -> Groups {
        let record = self.record.filter(|record| record.owner.stack_id == self.owner.stack_id);
        let recorded = record.into_iter().flat_map(|record| &record.isolation_groups);
        own_groups(self.observed, self.owner, recorded.chain([&self.wants.isolation_group]))
    }

    /// The stack in whose isolation an interface is, if that is not ours: the live group's own tag decides. An attacker may
    /// be able to put our marker on any group: one that does not isolate is no reason to leave its hosts alone.
    fn foreign_holder(&self, instance: &Instance) -> Option<String> {
        let ours = self.ours();
        let live = instance.interfaces.iter().flat_map(|interface| &interface.groups);
        live.filter(|id| !ours.contains(id))
            .filter_map(|id| self.observed.groups.get(id))
            .find(|group| self.is_isolation(group))
            .map(|group| group.stack_id.clone().unwrap_or_else(|| format!("group {}, which no stack owns", group.id)))
    }

    fn is_isolation(&self, group: &Group) -> bool {
        match group.role {
            Some(Role::Isolation) => is_closed(group),
            // Open by nature: believed where the same stack has a group that isolates.
            Some(Role::Transit) => self.observed.groups.values().any(|other| {
                other.role == Some(Role::Isolation)
                    && other.stack_id.is_some()
                    && other.stack_id == group.stack_id
                    && is_closed(other)
            }),
            Some(Role::Forensic) | None => false,
        }
    }

    fn plan(&self, instance: &Instance, plan: &mut Plan, contained: &mut Contained) {
        let ours = self.ours();
        let target = Groups::from([self.wants.isolation_group.clone()]);
        let mut originals = BTreeMap::new();
        let mut swaps = Vec::new();
        for interface in &instance.interfaces {
            if !self.held().is_some_and(|record| record.interfaces.contains_key(&interface.id)) {
                let others: Groups = interface.groups.difference(&ours).cloned().collect();
                if let Some(before) = self.history(&interface.id).filter(|_| others.is_empty()) {
                    originals.insert(interface.id.clone(), before.clone());
                } else if others.is_empty() {
                    plan.problems.push(Problem::OriginalUnknown {
                        instance: instance.id.clone(),
                        interface: interface.id.clone(),
                        group: interface.groups.first().unwrap_or(&self.wants.isolation_group).clone(),
                    });
                } else {
                    originals.insert(interface.id.clone(), others);
                }
            }
            let shows_target = interface.groups == target;
            if shows_target && self.is_known(&interface.id, &originals) {
                contained.interfaces.insert(interface.id.clone(), instance.id.clone());
            } else {
                contained.open.insert(interface.id.clone(), instance.id.clone());
                swaps.push(Step::SetGroups {
                    instance: instance.id.clone(),
                    interface: interface.id.clone(),
                    from: interface.groups.clone(),
                    to: target.clone(),
                    aim: if shows_target { Aim::Confirm } else { Aim::Isolate },
                });
            }
        }
        if swaps.is_empty() {
            contained.instances.insert(instance.id.clone());
        }
        let first = self.record_step(instance, originals, &swaps);
        if first.is_some() || !swaps.is_empty() {
            plan.work.push(Work { first, then: swaps });
        }
    }

    /// Whether an interface that shows the isolation group really is in it. Unless this invocation wrote it, or it was once
    /// seen so, another change may have been made that is not visible yet.
    fn is_known(&self, interface: &InterfaceId, originals: &BTreeMap<InterfaceId, Groups>) -> bool {
        let Some(record) = self.held().filter(|record| record.interfaces.contains_key(interface)) else {
            // Nothing unrecorded is touched.
            return !originals.contains_key(interface);
        };
        let seen = record.state == State::Isolated && record.isolation_group == self.wants.isolation_group;
        self.accepted.get(interface).copied().unwrap_or(seen)
    }

    fn record_step(
        &self,
        instance: &Instance,
        interfaces: BTreeMap<InterfaceId, Groups>,
        swaps: &[Step],
    ) -> Option<Step> {
        let prior = match self.held() {
            None => Prior::None,
            Some(record) if record.owner != *self.owner => Prior::Of(record.owner.clone()),
            // Any other state claims what is no longer true once an interface is isolated again, or lets a restore that
            // is under way end as if it had not been.
            Some(record) if record.state != State::Isolating && !swaps.is_empty() => Prior::Ours,
            Some(record) if interfaces.is_empty() && record.isolation_group == self.wants.isolation_group => {
                return None;
            }
            Some(_) => Prior::Ours,
        };
        if prior == Prior::None && interfaces.is_empty() {
            return None;
        }
        Some(Step::Record {
            instance: instance.id.clone(),
            vpc: self.wants.vpc.clone(),
            isolation_group: self.wants.isolation_group.clone(),
            interfaces,
            prior,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, wants};

    /// Checks the text of the plan for these instances.
    fn check(world: &World, instances: &[&str], expected: &str) {
        let (plan, _) = contain(&world.owner, &wants(instances), &world.records, &world.observed, &Accepted::new());
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    #[test]
    fn isolated_instances_need_nothing() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150"])]).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a"])],
        );
        check(&world, &["i-1"], "");
    }

    #[test]
    fn each_interface_is_recorded_and_then_isolated() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-a", "sg-b"]), ("eni-2", &["sg-c"])]);
        check(
            &world,
            &["i-1"],
            "i-1: record eni-1 [sg-a, sg-b] eni-2 [sg-c]\n\
             i-1: isolate eni-1 [sg-a, sg-b] -> [sg-150]\n\
             i-1: isolate eni-2 [sg-c] -> [sg-150]",
        );
    }

    #[test]
    fn a_record_is_never_written_again_from_what_is_seen_later() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-b"])]).record(
            "i-1",
            State::Isolating,
            &[("eni-1", &["sg-a"])],
        );
        check(&world, &["i-1"], "i-1: isolate eni-1 [sg-b] -> [sg-150]");
    }

    #[test]
    fn what_was_seen_isolated_and_is_no_longer_is_marked_so_before_it_is_changed() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-a"])]).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a"])],
        );
        check(&world, &["i-1"], "i-1: record as isolating\ni-1: isolate eni-1 [sg-a] -> [sg-150]");
    }

    #[test]
    fn what_may_be_a_stale_read_is_written_once_more() {
        for state in [State::Isolating, State::Restoring, State::Kept] {
            let world =
                World::new().instance("i-1", &[("eni-1", &["sg-150"])]).record("i-1", state, &[("eni-1", &["sg-a"])]);
            let (plan, _) = contain(&world.owner, &wants(&["i-1"]), &world.records, &world.observed, &Accepted::new());
            let first = if state == State::Isolating { "" } else { "i-1: record as isolating\n" };
            assert_eq!(plan.to_string(), format!("{first}i-1: confirm eni-1 [sg-150] -> [sg-150]\n"));
            for (accepted, isolated) in [(true, 1), (false, 0)] {
                let accepted = Accepted::from([("eni-1".parse().unwrap(), accepted)]);
                let (_, contained) =
                    contain(&world.owner, &wants(&["i-1"]), &world.records, &world.observed, &accepted);
                assert_eq!((contained.interfaces.len(), contained.open.len()), (isolated, 1 - isolated));
            }
        }
    }

    #[test]
    fn an_interface_attached_later_is_added_to_the_record() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a"])],
        );
        check(&world, &["i-1"], "i-1: record eni-2 [sg-b] (added)\ni-1: isolate eni-2 [sg-b] -> [sg-150]");
    }

    #[test]
    fn a_restored_record_is_history_and_a_new_isolation_starts_afresh() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-b"])]).record(
            "i-1",
            State::Restored,
            &[("eni-1", &["sg-a"])],
        );
        check(&world, &["i-1"], "i-1: record eni-1 [sg-b]\ni-1: isolate eni-1 [sg-b] -> [sg-150]");
    }

    #[test]
    fn what_shows_our_group_though_it_was_restored_is_recorded_with_what_it_had() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]).record(
            "i-1",
            State::Restored,
            &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])],
        );
        check(
            &world,
            &["i-1"],
            "i-1: record eni-1 [sg-a] eni-2 [sg-b]\n\
             i-1: confirm eni-1 [sg-150] -> [sg-150]\n\
             i-1: isolate eni-2 [sg-b] -> [sg-150]",
        );
    }

    #[test]
    fn our_groups_are_never_recorded_as_originals() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150", "sg-a"])]);
        check(&world, &["i-1"], "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-150, sg-a] -> [sg-150]");
    }

    #[test]
    fn an_interface_in_our_group_without_a_record_is_named() {
        let world = World::new().instance("i-1", &[("eni-1", &["sg-150"])]);
        check(
            &world,
            &["i-1"],
            "! i-1: eni-1 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand",
        );
    }

    #[test]
    fn the_others_are_isolated_whatever_is_wrong_with_one() {
        let world = World::new()
            .instance("i-1", &[("eni-1", &["sg-a"])])
            .instance_in("i-2", "vpc-2", &[("eni-2", &["sg-b"])])
            .terminated("i-3");
        check(
            &world,
            &["i-2", "i-3", "i-4", "i-1"],
            "i-1: record eni-1 [sg-a]\n\
             i-1: isolate eni-1 [sg-a] -> [sg-150]\n\
             ! i-2 is in vpc-2, not in vpc-1: isolate it with a stack of its own, with VpcId vpc-2\n\
             ! i-3 is terminated: take it off CompromisedInstanceList\n\
             ! i-4 does not exist in this account and region: check the id, or take it off CompromisedInstanceList",
        );
    }

    #[test]
    fn an_instance_in_another_stacks_isolation_is_left_to_it() {
        let world = World::new().foreign_group("sg-f0", "stack-2").instance("i-1", &[("eni-1", &["sg-f0"])]);
        check(
            &world,
            &["i-1"],
            "! i-1 is already held isolated by stack-2: delete that stack first, or leave it to it",
        );
    }

    #[test]
    fn a_marker_on_a_group_that_does_not_isolate_protects_nobody_from_isolation() {
        for role in [Role::Isolation, Role::Transit] {
            let mut world = World::new().foreign_group("sg-f0", "stack-2").instance("i-1", &[("eni-1", &["sg-f0"])]);
            let group = world.observed.groups.get_mut(&"sg-f0".parse().unwrap()).unwrap();
            (group.role, group.egress) = (Some(role), vec![crate::plan::testing::rule("-1", None, "0.0.0.0/0")]);
            check(&world, &["i-1"], "i-1: record eni-1 [sg-f0]\ni-1: isolate eni-1 [sg-f0] -> [sg-150]");
        }
    }

    #[test]
    fn an_interface_in_the_transit_group_of_another_stack_is_left_to_it() {
        let mut world = World::new()
            .foreign_group("sg-f0", "stack-2")
            .foreign_group("sg-f1", "stack-2")
            .instance("i-1", &[("eni-1", &["sg-f1"])]);
        world.observed.groups.get_mut(&"sg-f1".parse().unwrap()).unwrap().role = Some(Role::Transit);
        check(
            &world,
            &["i-1"],
            "! i-1 is already held isolated by stack-2: delete that stack first, or leave it to it",
        );
    }

    #[test]
    fn a_record_of_another_stack_is_never_overwritten() {
        let mut world =
            World::new().instance("i-1", &[("eni-1", &["sg-a"])]).record("i-1", State::Kept, &[("eni-1", &["sg-a"])]);
        world.records.get_mut(&"i-1".parse().unwrap()).unwrap().owner.stack_id = "stack-2".into();
        check(
            &world,
            &["i-1"],
            "! i-1 is already held isolated by stack-2: delete that stack first, or leave it to it",
        );
    }

    #[test]
    fn another_logical_id_of_the_same_stack_takes_the_record_over() {
        let mut world = World::new().instance("i-1", &[("eni-1", &["sg-150"])]).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a"])],
        );
        world.records.get_mut(&"i-1".parse().unwrap()).unwrap().owner.logical_id = "Old".into();
        check(&world, &["i-1"], "i-1: record (taken over from Old)");
    }

    #[test]
    fn a_missing_or_foreign_isolation_group_means_no_change_at_all() {
        let mut world = World::new().instance("i-1", &[("eni-1", &["sg-a"])]);
        world.observed.groups.get_mut(&"sg-150".parse().unwrap()).unwrap().vpc = Some("vpc-2".parse().unwrap());
        check(
            &world,
            &["i-1"],
            "! isolation group sg-150 is in vpc-2, not in vpc-1: nothing was changed; correct VpcId",
        );
        world.observed.groups.clear();
        check(
            &world,
            &["i-1"],
            "! isolation group sg-150 does not exist: nothing was changed; put the stack right (it makes this group)",
        );
    }

    #[test]
    fn a_group_that_replaces_ours_moves_its_interfaces_without_a_new_original() {
        let mut world = World::new().instance("i-1", &[("eni-1", &["sg-01d"])]).record(
            "i-1",
            State::Isolated,
            &[("eni-1", &["sg-a"])],
        );
        world.records.get_mut(&"i-1".parse().unwrap()).unwrap().isolation_groups = ["sg-01d".parse().unwrap()].into();
        world.records.get_mut(&"i-1".parse().unwrap()).unwrap().isolation_group = "sg-01d".parse().unwrap();
        check(&world, &["i-1"], "i-1: record as isolating\ni-1: isolate eni-1 [sg-01d] -> [sg-150]");
    }

    #[test]
    fn what_is_contained_is_counted_from_what_was_read() {
        let world = World::new()
            .instance("i-1", &[("eni-1", &["sg-150"])])
            .instance("i-2", &[("eni-2", &["sg-150"]), ("eni-3", &["sg-a"])])
            .record("i-1", State::Isolated, &[("eni-1", &["sg-a"])])
            .record("i-2", State::Isolating, &[("eni-2", &["sg-a"]), ("eni-3", &["sg-a"])]);
        let accepted = Accepted::from([("eni-2".parse().unwrap(), true)]);
        let (_, contained) = contain(&world.owner, &wants(&["i-1", "i-2"]), &world.records, &world.observed, &accepted);
        let ids = |map: &BTreeMap<InterfaceId, _>| map.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(contained.instances, BTreeSet::from(["i-1".parse().unwrap()]));
        assert_eq!(ids(&contained.interfaces), ["eni-1", "eni-2"]);
        assert_eq!(ids(&contained.open), ["eni-3"]);
        assert_eq!(contained.touched().len(), 2);
    }
}
