//! Reads what every open incident needs at once, and judges each instance by the plan that a request would begin with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cloudformation::properties;
use crate::model::{Desired, Groups, InstanceId, Intent, InterfaceId, Owner, Record, State, Time, Wants, Watch};
use crate::plan::{Case, Goal, Ledger, Now, Observed, Passages, Records as Known, plan};
use crate::ports::{Call, GroupQuery, Items, Look};
use crate::reconcile::contained::{Contained, Situation, judge};

/// An incident that is open: its stack asked for isolation last, and no request has asked for its restore.
#[derive(Debug, Clone)]
pub(super) struct Incident {
    pub(super) owner: Owner,
    pub(super) wants: Wants,
    pub(super) intent: Option<Intent>,
    /// Listed or held.
    pub(super) instances: BTreeSet<InstanceId>,
}

impl Incident {
    /// The request that asked last, if that can be read.
    pub(super) fn request(&self) -> Option<&str> {
        self.intent.as_ref().map(|intent| intent.request_id.as_str())
    }

    /// What the watch may do. No stack answers for an incident that was kept in a rollback: it is only told.
    pub(super) fn policy(&self) -> Watch {
        match &self.intent {
            Some(Intent { desired: Desired::Isolated(wants), kept: None, .. }) => wants.watch,
            Some(Intent { desired: Desired::Isolated(wants), .. }) if wants.watch == Watch::Off => Watch::Off,
            _ => Watch::Notify,
        }
    }

    /// Whether it has anything to do with these ids.
    pub(super) fn is_meant(&self, ids: &BTreeSet<String>, items: &Items) -> bool {
        let wants = &self.wants;
        let named = |id: &str| ids.contains(id);
        let groups = [&wants.isolation_group].into_iter().chain(&wants.transit_group);
        let mut groups =
            groups.map(|group| group.as_str()).chain(wants.forensic_group.iter().map(|group| group.id.as_str()));
        let is_recorded = |record: &Arc<Record>| {
            record.interfaces.keys().any(|id| named(id.as_str()))
                || record.isolation_groups.iter().any(|id| named(id.as_str()))
                || record.snapshots.taken.iter().any(|(volume, id)| named(volume.as_str()) || named(id.as_str()))
        };
        let records = || self.instances.iter().filter_map(|id| items.records.get(id));
        groups.any(named)
            || self.instances.iter().any(|id| named(id.as_str()))
            || records().filter(|record| record.owner == self.owner).any(is_recorded)
    }
}

fn held<'a>(items: &'a Items, owner: &Owner, id: &InstanceId) -> Option<&'a Record> {
    let record = items.records.get(id).map(Arc::as_ref);
    record.filter(|record| record.state != State::Restored && record.owner == *owner)
}

/// The open incidents of the table; `only` this one where it is named.
pub(super) fn open(items: &Items, only: Option<&Owner>) -> Vec<Incident> {
    let held = items.records.values().filter(|record| record.state != State::Restored);
    let mut owners: BTreeMap<&Owner, BTreeSet<InstanceId>> = BTreeMap::new();
    for record in held {
        owners.entry(&record.owner).or_default().insert(record.instance.clone());
    }
    for intent in items.intents.values() {
        // A Delete that kept what it had isolated has ended one that holds nothing.
        let may_hold = |wants: &Wants| {
            let is_unread = |id: &InstanceId| items.unreadable.contains_key(id.as_str());
            owners.contains_key(&intent.owner) || wants.instances.iter().any(is_unread)
        };
        if let Desired::Isolated(wants) = &intent.desired
            && (intent.kept.is_none() || may_hold(wants))
        {
            owners.entry(&intent.owner).or_default().extend(wants.instances.iter().cloned());
        }
    }
    let meant = owners.into_iter().filter(|(owner, _)| only.is_none_or(|only| only == *owner));
    meant.filter_map(|(owner, instances)| incident(items, owner, instances)).collect()
}

fn incident(items: &Items, owner: &Owner, instances: BTreeSet<InstanceId>) -> Option<Incident> {
    let intent = items.intents.get(&owner.digest()).cloned();
    let wants = match intent.as_ref().map(|intent| &intent.desired) {
        Some(Desired::Restored) => return None,
        Some(Desired::Isolated(wants)) => wants.as_ref().clone(),
        // Nobody can read what was asked for: what is recorded is looked at all the same.
        Some(Desired::Unknown(_)) | None => {
            let record = instances.iter().find_map(|id| held(items, owner, id))?;
            properties::least(&instances, &record.vpc, &record.isolation_group).ok()?
        }
    };
    Some(Incident { owner: owner.clone(), wants, intent, instances })
}

/// What EC2 shows of all of them: the instances with their interfaces, the groups of ours, and the recorded interfaces that are
/// attached to none of them.
pub(super) async fn observe<E: Look>(ec2: &E, items: &Items, incidents: &[Incident]) -> Call<Arc<Observed>> {
    let ids: BTreeSet<InstanceId> = incidents.iter().flat_map(|incident| &incident.instances).cloned().collect();
    let (instances, groups) = tokio::try_join!(ec2.instances(&ids), ec2.groups(&GroupQuery::Ours))?;
    let mut observed = Observed { is_inspected: true, ..Observed::default() };
    observed.instances.extend(instances.into_iter().map(|instance| (instance.id.clone(), instance)));
    observed.groups.extend(groups.into_iter().map(|group| (group.id.clone(), group)));
    let attached: BTreeSet<&InterfaceId> =
        observed.instances.values().flat_map(|instance| &instance.interfaces).map(|interface| &interface.id).collect();
    let records = ids.iter().filter_map(|id| items.records.get(id)).filter(|record| record.state != State::Restored);
    let detached: BTreeSet<InterfaceId> =
        records.flat_map(|record| record.interfaces.keys()).filter(|id| !attached.contains(id)).cloned().collect();
    // A group that lost our tag is a group all the same.
    let unmarked: Groups = incidents.iter().map(|incident| incident.wants.isolation_group.clone()).collect();
    let unmarked: Groups = unmarked.into_iter().filter(|id| !observed.groups.contains_key(id)).collect();
    let interfaces = async { if detached.is_empty() { Ok(vec![]) } else { ec2.interfaces(&detached).await } };
    let groups =
        async { if unmarked.is_empty() { Ok(vec![]) } else { ec2.groups(&GroupQuery::Ids(unmarked.clone())).await } };
    let (interfaces, groups) = tokio::try_join!(interfaces, groups)?;
    observed.interfaces.extend(interfaces.into_iter().map(|interface| (interface.id.clone(), interface)));
    observed.groups.extend(groups.into_iter().map(|group| (group.id.clone(), group)));
    observed.looked_up = detached;
    Ok(Arc::new(observed))
}

/// How each instance of an incident stands.
pub(super) fn judged(
    incident: &Incident,
    items: &Items,
    observed: &Arc<Observed>,
    now: Time,
) -> BTreeMap<InstanceId, Contained> {
    let mut ledger = Ledger::default();
    ledger.is_trusting = true;
    let known: Known =
        incident.instances.iter().filter_map(|id| Some((id.clone(), Arc::clone(items.records.get(id)?)))).collect();
    let stays = incident.instances.clone();
    let one = |id: &InstanceId| {
        let record = held(items, &incident.owner, id);
        let wants = Wants {
            isolation_group: record.map_or(&incident.wants.isolation_group, |record| &record.isolation_group).clone(),
            // What takes a call for each instance is not looked at.
            snapshot_volumes: false,
            detach_profile: false,
            ..incident.wants.clone()
        };
        let goal = Goal::Isolate(&wants);
        let case = Case {
            instance: id,
            owner: &incident.owner,
            goal: &goal,
            records: &known,
            unreadable: items.unreadable.get(id.as_str()),
            observed,
            ledger: &ledger,
            now: Now { elapsed: std::time::Duration::ZERO, time: now, writer: "" },
            kept: incident.intent.as_ref().and_then(|intent| intent.kept.as_deref()),
            passages: &Passages::default(),
            stays: &stays,
            only: None,
        };
        let sight = Ok((plan(&case), Arc::clone(observed)));
        let situation = Situation {
            record,
            is_being_restored: record.is_some_and(|record| record.state == State::Restoring),
            groups: &observed.groups,
            not_reached: "no record says that it was ever isolated",
        };
        judge(&situation, id, &wants.isolation_group, sight)
    };
    incident.instances.iter().map(|id| (id.clone(), one(id))).collect()
}
