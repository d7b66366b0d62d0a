//! A plan carried out on paper: what would be read after it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Case, Change, Observed, Originals, Plan, Records, Step};
use crate::model::{Groups, InstanceId, InterfaceId, Lease, Protection, Record, Snapshots, State};

/// Records and observation as they would be once every step was carried out.
#[must_use]
pub fn carried_out(plan: &Plan, case: &Case<'_>) -> (Records, Observed) {
    let (mut records, mut observed) = (case.records.clone(), case.observed.clone());
    for step in plan.steps() {
        match step {
            Step::Record(originals) => {
                let Originals { instance, vpc, isolation_group, interfaces, .. } = originals;
                let held = records.remove(instance).filter(|record| record.state != State::Restored);
                let mut record = held.map(Arc::unwrap_or_clone).unwrap_or_else(|| Record {
                    returns: 0,
                    instance: instance.clone(),
                    owner: case.owner.clone(),
                    state: State::Isolating,
                    vpc: vpc.clone(),
                    isolation_group: isolation_group.clone(),
                    isolation_groups: Groups::new(),
                    interfaces: Default::default(),
                    connections_cut: false,
                    passed: BTreeSet::new(),
                    recorded_at: case.now.time,
                    lease: None,
                    snapshots: Snapshots::default(),
                    protection: Protection::default(),
                    history: vec![],
                });
                record.owner = case.owner.clone();
                record.state = State::Isolating;
                record.lease =
                    Some(Lease { writer: case.now.writer.to_owned(), until: case.now.time, only: BTreeSet::new() });
                record.isolation_group = isolation_group.clone();
                record.isolation_groups.extend(originals.groups());
                for (id, groups) in interfaces {
                    record.interfaces.entry(id.clone()).or_insert_with(|| groups.clone());
                }
                records.insert(instance.clone(), Arc::new(record));
            }
            Step::RequestSnapshots { instance, .. } => {
                records.entry(instance.clone()).and_modify(|record| Arc::make_mut(record).snapshots.requested = true);
            }
            Step::Mark { instance, state, .. } => {
                records.entry(instance.clone()).and_modify(|record| Arc::make_mut(record).state = *state);
            }
            // A member moves to Standby, and a profile is taken off, once they are seen in the record.
            Step::SaveProtection { instance, prior } => {
                records.entry(instance.clone()).and_modify(|record| {
                    let record = Arc::make_mut(record);
                    record.protection = std::mem::take(&mut record.protection).with(prior.clone());
                });
            }
            Step::Protect { instance, change: Change::EnterStandby { .. }, .. } => {
                move_to(&mut observed, instance, "Standby");
            }
            Step::Protect { instance, change: Change::ExitStandby { .. }, .. } => {
                move_to(&mut observed, instance, "InService");
            }
            Step::SetGroups { instance, interface, to, .. } => set(&mut observed, instance, interface, to),
            Step::Pass { instance, interface, to, .. } => {
                set(&mut observed, instance, interface, &Groups::from([to.clone()]));
                records.entry(instance.clone()).and_modify(|record| {
                    Arc::make_mut(record).passed.insert(interface.clone());
                });
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

/// The state of a member of an Auto Scaling group.
fn move_to(observed: &mut Observed, instance: &InstanceId, state: &str) {
    let member = observed.members.as_mut().and_then(|members| members.get_mut(instance));
    member.into_iter().for_each(|member| state.clone_into(&mut member.state));
}

#[cfg(test)]
mod tests;
