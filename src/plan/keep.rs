//! Instances that stay isolated although nobody asks for it any more: a Delete that must not release, an Update that no
//! longer lists them.
//!
//! They are left as they are, but **nobody is left in the transit group**.

use super::{Aim, Observed, Plan, Records, Step, Tried, Work, own_groups};
use crate::model::{Groups, Interface, Owner, Record, State};
use crate::plan::rules::is_closed;

/// The plan for `records`, all of them `owner`'s; each is then marked kept, where there is a `reason` to write down.
#[must_use]
pub fn keep(owner: &Owner, records: &Records, observed: &Observed, tried: &Tried, reason: Option<&str>) -> Plan {
    let mut plan = Plan::default();
    for record in records.values() {
        let target = Groups::from([record.isolation_group.clone()]);
        let passages = passages(owner, record, observed);
        let interfaces = record.interfaces.keys().filter_map(|id| observed.interfaces.get(id));
        let swaps =
            interfaces.filter(|interface| may_be_inside(record, interface, &passages, tried)).map(|interface| {
                let aim = if interface.groups == target { Aim::Confirm } else { Aim::Isolate };
                let (instance, interface, from) =
                    (record.instance.clone(), interface.id.clone(), interface.groups.clone());
                Step::SetGroups { instance, interface, from, to: target.clone(), aim }
            });
        let swaps: Vec<Step> = swaps.collect();
        if !swaps.is_empty() {
            plan.work.push(Work { first: None, then: swaps });
        } else if let Some(reason) = reason
            // A restore that has begun must not be forgotten: what it changed may not be visible yet.
            && !matches!(record.state, State::Kept | State::Restoring)
        {
            plan.work.push(Work::only(Step::Mark {
                instance: record.instance.clone(),
                from: record.state,
                state: State::Kept,
                reason: Some(reason.to_owned()),
                cut: None,
            }));
        }
    }
    plan
}

/// Groups that interfaces of this record went through, or were isolated in once, and that let something through.
fn passages(owner: &Owner, record: &Record, observed: &Observed) -> Groups {
    let mut passages = own_groups(observed, owner, &record.isolation_groups);
    passages.remove(&record.isolation_group);
    passages.retain(|id| observed.groups.get(id).is_some_and(|group| !is_closed(group)));
    passages
}

/// EC2's reads trail its writes: where a passage may have been cut short, only what this invocation wrote is believed.
fn may_be_inside(record: &Record, interface: &Interface, passages: &Groups, tried: &Tried) -> bool {
    let shows_passage = !interface.groups.is_disjoint(passages);
    let was_under_way = record.state == State::Isolating && !passages.is_empty();
    let is_isolated = interface.groups.len() == 1 && interface.groups.contains(&record.isolation_group);
    let may_be_on_its_way = match tried.interfaces.get(&interface.id) {
        // EC2 lets nobody but its maker change it: it never went in.
        Some(Aim::Confirm) => false,
        Some(_) => !is_isolated,
        None => true,
    };
    shows_passage || was_under_way && may_be_on_its_way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    /// One recorded instance of two interfaces, and a transit group `sg-7a5`.
    fn world(state: State, shown: [&str; 2]) -> World {
        let mut world = World::new()
            .transit_group("sg-7a5")
            .instance("i-1", &[("eni-1", &[shown[0]]), ("eni-2", &[shown[1]])])
            .record("i-1", state, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]);
        world.records.values_mut().next().unwrap().isolation_groups.insert("sg-7a5".parse().unwrap());
        world
    }

    fn check(world: &World, tried: &Tried, expected: &str) {
        let plan = keep(&world.owner, &world.records, &world.observed, tried, Some("rollback"));
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    #[test]
    fn what_is_isolated_or_was_let_out_by_hand_is_left_alone_and_marked() {
        check(&world(State::Isolated, ["sg-150", "sg-a"]), &Tried::default(), "i-1: mark kept");
        check(&world(State::Kept, ["sg-150", "sg-a"]), &Tried::default(), "");
        check(&world(State::Restoring, ["sg-150", "sg-a"]), &Tried::default(), "");
    }

    #[test]
    fn without_a_reason_nothing_is_marked() {
        let world = world(State::Isolated, ["sg-150", "sg-150"]);
        assert!(keep(&world.owner, &world.records, &world.observed, &Tried::default(), None).is_empty());
    }

    #[test]
    fn nobody_is_left_in_the_transit_group() {
        for state in [State::Isolated, State::Kept, State::Restoring] {
            let world = world(state, ["sg-150", "sg-7a5"]);
            check(&world, &Tried::default(), "i-1: isolate eni-2 [sg-7a5] -> [sg-150]");
        }
    }

    #[test]
    fn where_a_passage_may_have_been_cut_short_only_what_was_written_is_believed() {
        let world = world(State::Isolating, ["sg-150", "sg-a"]);
        check(
            &world,
            &Tried::default(),
            "i-1: confirm eni-1 [sg-150] -> [sg-150]\ni-1: isolate eni-2 [sg-a] -> [sg-150]",
        );
        let interfaces = [("eni-1".parse().unwrap(), Aim::Isolate), ("eni-2".parse().unwrap(), Aim::Isolate)].into();
        let tried = Tried { interfaces, ..Tried::default() };
        check(&world, &tried, "i-1: isolate eni-2 [sg-a] -> [sg-150]");
        let interfaces = [("eni-1".parse().unwrap(), Aim::Isolate), ("eni-2".parse().unwrap(), Aim::Confirm)].into();
        check(&world, &Tried { interfaces, ..Tried::default() }, "i-1: mark kept");
    }

    #[test]
    fn without_a_transit_group_what_was_never_isolated_is_left_alone() {
        let mut world = world(State::Isolating, ["sg-150", "sg-a"]);
        world.observed.groups.remove(&"sg-7a5".parse().unwrap());
        check(&world, &Tried::default(), "i-1: mark kept");
    }
}
