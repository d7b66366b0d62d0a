//! A plan carried out on paper: what would be read after it.

use std::collections::BTreeMap;

use super::{Observed, Plan, Records, Step};
use crate::model::{Groups, InstanceId, InterfaceId, Owner, Protection, Record, Snapshots, State};

/// Records and observation as they would be once every step was carried out at `now` (ISO 8601 UTC).
#[must_use]
pub fn carried_out(
    plan: &Plan,
    owner: &Owner,
    records: &Records,
    observed: &Observed,
    now: &str,
) -> (Records, Observed) {
    let (mut records, mut observed) = (records.clone(), observed.clone());
    for step in plan.steps() {
        match step {
            Step::Record { instance, vpc, isolation_group, transit_group, interfaces, .. } => {
                let ours = [isolation_group].into_iter().chain(transit_group).cloned();
                let new = Record {
                    instance: instance.clone(),
                    owner: owner.clone(),
                    state: State::Isolating,
                    vpc: vpc.clone(),
                    isolation_group: isolation_group.clone(),
                    isolation_groups: ours.collect(),
                    interfaces: BTreeMap::new(),
                    connections_cut: false,
                    recorded_at: now.to_owned(),
                    snapshots: Snapshots::None,
                    protection: Protection::default(),
                    history: vec![],
                };
                let held = records.remove(instance).filter(|record| record.state != State::Restored);
                let mut record = Record { state: State::Isolating, owner: owner.clone(), ..held.unwrap_or(new) };
                for (id, groups) in interfaces {
                    record.interfaces.entry(id.clone()).or_insert_with(|| groups.clone());
                }
                records.insert(instance.clone(), record);
            }
            Step::Mark { instance, state, .. } => {
                records.entry(instance.clone()).and_modify(|record| record.state = *state);
            }
            Step::SetGroups { instance, interface, to, .. } => set(&mut observed, instance, interface, to),
            Step::Pass { instance, interface, to, .. } => {
                set(&mut observed, instance, interface, &Groups::from([to.clone()]));
            }
            _ => {}
        }
    }
    (records, observed)
}

fn set(observed: &mut Observed, instance: &InstanceId, interface: &InterfaceId, groups: &Groups) {
    observed.interfaces.entry(interface.clone()).and_modify(|found| found.groups = groups.clone());
    let instance = observed.instances.get_mut(instance).into_iter().flat_map(|instance| &mut instance.interfaces);
    for found in instance.filter(|found| found.id == *interface) {
        found.groups = groups.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, wants};
    use crate::plan::{Memory, contain};

    #[test]
    fn nothing_is_left_to_do_after_a_plan_was_carried_out() {
        let world = World::new()
            .plain_group("sg-a")
            .instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-150", "sg-a"])])
            .instance("i-2", &[("eni-3", &["sg-150"])])
            .record("i-2", State::Isolated, &[("eni-3", &["sg-a"])]);
        let wants = wants(&["i-1", "i-2"]);
        let (plan, _) = contain(&world.owner, &wants, &world.records, &world.observed, &Memory::default());
        assert!(!plan.is_empty());
        let (records, observed) = carried_out(&plan, &world.owner, &world.records, &world.observed, "now");
        let memory = Memory::of_everything(&observed);
        let (plan, contained) = contain(&world.owner, &wants, &records, &observed, &memory);
        assert_eq!((plan.to_string().as_str(), contained.instances.len()), ("", 2));
        assert_eq!(records[&"i-1".parse().unwrap()].interfaces.len(), 2);
    }
}
