//! Whether the instances of an incident are contained, **as EC2 shows it**: by the plan that the function would begin with,
//! whatever the records say. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Operator;
use super::incident::Incident;
use crate::cloudformation::properties;
use crate::model::{Desired, Group, GroupId, InstanceId, Owner, Record, Role, State, VpcId, Wants};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{StackLife, StackView};
use crate::plan::{Ending, Problem};
use crate::ports::Change;
use crate::reconcile::contained::{Condition, Contained, Situation, judge};

/// Instances that one custom resource holds in one group.
type Portions = BTreeMap<(Owner, VpcId, GroupId), BTreeSet<InstanceId>>;

impl Incident {
    /// Instances that are to be isolated: those that the stack and its latest request list, and those that are recorded, but for
    /// those that were restored.
    #[must_use]
    pub fn listed(&self) -> BTreeSet<InstanceId> {
        let is_over = |id: &InstanceId| {
            self.ledger.records.get(id).is_some_and(|record| !self.is_held(record) && self.was_reached(record))
        };
        // A stack that is gone asks for nothing any more.
        let intents = self.ledger.intents.values().filter(|_| self.stack.is_some());
        let intents = intents.filter_map(|intent| match &intent.desired {
            Desired::Isolated(wants) => Some(wants.instances.iter().cloned()),
            Desired::Restored | Desired::Unknown(_) => None,
        });
        let stacks = self.parameter_list().into_iter().filter(|id| !is_over(id));
        let held = self.held().map(|record| record.instance.clone());
        stacks.chain(intents.flatten()).chain(held).collect()
    }

    /// What the stack's parameter lists.
    #[must_use]
    pub fn parameter_list(&self) -> BTreeSet<InstanceId> {
        self.stack.as_ref().map(StackView::instances).unwrap_or_default()
    }

    /// Whether the latest change of the stack has come to its function, so that the record of what it asked for is its answer.
    fn was_reached(&self, record: &Record) -> bool {
        let known = self.ledger.intents.get(&record.owner.digest()).and_then(|intent| intent.issued);
        let changed = self
            .stack
            .as_ref()
            .filter(|stack| stack.status.status.starts_with("UPDATE_") && !stack.status.status.ends_with("_COMPLETE"));
        let changed = changed.and_then(|stack| stack.changed_at);
        known.zip(changed).is_none_or(|(known, changed)| known >= changed)
    }

    /// What a request of this owner wants, as far as that is known.
    fn wants(
        &self,
        owner: &Owner,
        vpc: VpcId,
        isolation_group: GroupId,
        instances: BTreeSet<InstanceId>,
    ) -> Option<Wants> {
        let intent = self.ledger.intents.get(&owner.digest());
        match intent.map(|intent| &intent.desired) {
            Some(Desired::Isolated(wants)) => {
                let instances = instances.into_iter().collect();
                Some(Wants { instances, vpc, isolation_group, ..wants.as_ref().clone() })
            }
            _ => properties::least(&instances, &vpc, &isolation_group).ok(),
        }
    }

    fn is_being_restored(&self, record: &Record) -> bool {
        let intent = self.ledger.intents.get(&record.owner.digest());
        record.state == State::Restoring || intent.is_some_and(|intent| intent.desired == Desired::Restored)
    }

    /// Where each listed instance is to be looked for. Without a group of ours there is nothing to look at.
    fn portions(&self) -> Portions {
        let own = self.stack.as_ref().and_then(|stack| {
            let group = self.groups.values().find(|group| group.role == Some(Role::Isolation))?;
            Some((stack.owner(), group.vpc.clone()?, group.id.clone()))
        });
        let mut portions = Portions::new();
        for id in self.listed() {
            let held = self
                .held_record(&id)
                .map(|record| (record.owner.clone(), record.vpc.clone(), record.isolation_group.clone()));
            if let Some(key) = held.or_else(|| own.clone()) {
                portions.entry(key).or_default().insert(id);
            }
        }
        portions
    }

    fn held_record(&self, id: &InstanceId) -> Option<&Record> {
        self.ledger.records.get(id).map(Arc::as_ref).filter(|record| self.is_held(record))
    }
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Looks at every listed instance.
    pub async fn containment(&self, incident: &Incident) -> BTreeMap<InstanceId, Contained> {
        let ports = self.ports_of(incident);
        let seen = incident.observed.groups.values().chain(incident.groups.values());
        let groups: BTreeMap<GroupId, Group> = seen.map(|group| (group.id.clone(), group.clone())).collect();
        let groups = &groups;
        let looks = incident.portions().into_iter().map(async |((owner, vpc, group), instances)| {
            let Some(wants) = incident.wants(&owner, vpc, group, instances) else { return vec![] };
            let looked = self.reconciler(&ports, &owner).look(&wants).await;
            let judged = looked.into_iter().map(|(id, sight)| {
                let record = incident.held_record(&id);
                let is_being_restored = record.is_some_and(|record| incident.is_being_restored(record));
                let situation = Situation { record, is_being_restored, groups, not_reached: &not_reached(incident) };
                let found = judge(&situation, &id, &wants.isolation_group, sight);
                (id, found)
            });
            judged.collect()
        });
        let looked = futures_util::future::join_all(looks).await;
        let mut found: BTreeMap<InstanceId, Contained> = looked.into_iter().flatten().collect();
        for id in incident.listed() {
            found.entry(id).or_insert_with(|| Contained {
                condition: Condition::NotIsolated,
                open: vec![(None, not_reached(incident))],
                observed: Arc::new(incident.observed.clone()),
                ..Contained::default()
            });
        }
        found
    }

    /// Adds what AWS has scheduled for them. That it cannot be read is said once.
    pub(super) async fn name_scheduled(&self, found: &mut BTreeMap<InstanceId, Contained>) {
        let living = found.iter().filter(|(_, found)| found.condition != Condition::Terminated);
        let ids: BTreeSet<InstanceId> = living.map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        match self.ports.ec2.scheduled_events(&ids).await {
            Ok(events) => {
                for (id, events) in events {
                    let problem = |event| Problem::Ending { instance: id.clone(), ending: Ending::Scheduled(event) };
                    let texts = events.into_iter().map(|event| problem(event).to_string());
                    found.entry(id.clone()).and_modify(|found| found.endings.extend(texts));
                }
            }
            Err(error) => {
                let text = Problem::EventsUnknown { reason: error.to_string() }.to_string();
                found.values_mut().take(1).for_each(|found| found.endings.push(text.clone()));
            }
        }
    }
}

fn not_reached(incident: &Incident) -> String {
    match &incident.stack {
        Some(stack) if stack.is_busy() => "the function has not come to it yet".to_owned(),
        Some(stack) => format!("no record says that it was ever isolated: the stack is {}", stack.status.status),
        None => "the stack is gone".to_owned(),
    }
}
