//! The records table of the world, with the conditions of its writes.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::model::{
    Desired, InstanceId, Intent, Lease, Owner, Protection, Record, Snapshots, State, Time, comma_list, sha256,
};
use ec2_isolation::plan::{Originals, Prior};
use ec2_isolation::ports::{
    Asked, Call, CallError, Entry, Fault, INTENT_PREFIX, Items, Marking, RECORDED_AT_ONCE, Records, Stamp, Written,
};

use super::readings::{INTENT, record as record_key};
use super::{Data, World};

const READ: &str = "dynamodb:BatchGetItem";
const TRANSACT: &str = "dynamodb:TransactWriteItems";
const UPDATE: &str = "dynamodb:UpdateItem";

/// What one table holds.
#[derive(Debug, Default)]
pub struct Table {
    pub records: BTreeMap<InstanceId, Record>,
    pub intents: BTreeMap<String, (Intent, BTreeSet<String>)>,
    pub unreadable: BTreeMap<String, String>,
    pub open: BTreeSet<String>,
}

impl Data {
    /// A record that `owner` holds.
    fn held(&mut self, owner: &Owner, instance: &InstanceId) -> Option<&mut Record> {
        if self.unreadable.contains_key(instance.as_str()) {
            return None;
        }
        self.records.get_mut(instance).filter(|record| record.owner == *owner && record.state != State::Restored)
    }

    /// What a consistent reading shows of the items that are wanted.
    pub(super) fn items(&self, has_intent: impl Fn(&str) -> bool, has_record: impl Fn(&str) -> bool) -> Items {
        let is_shown = |id: &InstanceId| {
            has_record(id.as_str()) && !self.unreadable.contains_key(id.as_str()) && !self.hides(&record_key(id))
        };
        let records = self.records.iter().filter(|(id, _)| is_shown(id));
        let is_lost = |digest: &str| self.unreadable.contains_key(&format!("{INTENT_PREFIX}{digest}"));
        let is_shown = |digest: &str| has_intent(digest) && !is_lost(digest) && !self.hides(INTENT);
        let intents = self.intents.iter().filter(|(digest, _)| is_shown(digest));
        let is_asked = |key: &str| key.strip_prefix(INTENT_PREFIX).map_or_else(|| has_record(key), &has_intent);
        let unreadable = self.unreadable.iter().filter(|(key, _)| is_asked(key));
        Items {
            records: records.map(|(id, record)| (id.clone(), std::sync::Arc::new(record.clone()))).collect(),
            intents: intents.map(|(digest, (intent, _))| (digest.clone(), intent.clone())).collect(),
            unreadable: unreadable.map(|(key, reason)| (key.clone(), reason.clone())).collect(),
            digests: self.records.keys().map(|id| (id.to_string(), sha256(id.as_str()))).collect(),
        }
    }

    fn record(&mut self, owner: &Owner, recorded: &(Originals, Lease), stamp: &Stamp<'_>) -> Written {
        let (originals, lease) = recorded;
        let instance = &originals.instance;
        let holder = match &originals.prior {
            Prior::None => {
                let is_held = self.records.get(instance).is_some_and(|record| record.state != State::Restored);
                if is_held || self.unreadable.contains_key(instance.as_str()) {
                    return Written::Lost;
                }
                self.start(owner, recorded, stamp);
                return Written::Done;
            }
            Prior::Unreadable => {
                let Some(reason) = self.unreadable.remove(instance.as_str()) else { return Written::Lost };
                self.set_aside.insert(instance.to_string(), reason);
                self.records.remove(instance);
                self.start(owner, recorded, stamp);
                return Written::Done;
            }
            Prior::Ours => owner,
            Prior::Of(holder) => holder,
        };
        let Some(record) = self.held(holder, instance) else { return Written::Lost };
        let is_anothers = |held: &Lease| held.writer != lease.writer && originals.leased_until != Some(held.until);
        if originals.transit_group.is_some() && record.lease.as_ref().is_some_and(is_anothers) {
            return Written::Lost;
        }
        record.owner = owner.clone();
        record.history.push(stamp.recorded(originals));
        record.state = State::Isolating;
        record.isolation_group = originals.isolation_group.clone();
        record.isolation_groups.extend(originals.groups());
        record.lease = Some(lease.clone());
        record.passed.retain(|interface| !originals.reopened.contains(interface));
        for (interface, groups) in &originals.interfaces {
            record.interfaces.entry(interface.clone()).or_insert_with(|| groups.clone());
        }
        Written::Done
    }

    /// A record of its own; what came of an earlier one stays.
    fn start(&mut self, owner: &Owner, (originals, lease): &(Originals, Lease), stamp: &Stamp<'_>) {
        let past = self.records.get(&originals.instance).map(|record| record.history.clone());
        let record = Record {
            returns: 0,
            instance: originals.instance.clone(),
            owner: owner.clone(),
            state: State::Isolating,
            vpc: originals.vpc.clone(),
            isolation_group: originals.isolation_group.clone(),
            isolation_groups: originals.groups(),
            interfaces: originals.interfaces.clone(),
            connections_cut: false,
            passed: BTreeSet::new(),
            recorded_at: stamp.now,
            lease: Some(lease.clone()),
            snapshots: Snapshots::default(),
            protection: Protection::default(),
            history: past.into_iter().flatten().chain([stamp.recorded(originals)]).collect(),
        };
        self.records.insert(originals.instance.clone(), record);
    }
}

fn first(asked: &Asked<'_>) -> Intent {
    Intent {
        owner: asked.owner.clone(),
        request_id: asked.request_id.to_owned(),
        issued: asked.issued,
        desired: asked.desired.clone(),
        held: BTreeSet::new(),
        kept: None,
    }
}

impl Records for World {
    fn name(&self) -> &str {
        &self.table
    }

    async fn read(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> Call<Items> {
        self.call(READ, ids.len().to_string(), |data| {
            Ok(data.items(|digest| digest == owner.digest(), |key| ids.iter().any(|id| id.as_str() == key)))
        })
        .await
    }

    async fn incidents(&self, owner: Option<&Owner>) -> Call<Items> {
        let digests = match owner {
            Some(owner) => [owner.digest()].into(),
            None => self.call(READ, "open".to_owned(), |data| Ok(data.open.clone())).await?,
        };
        if digests.is_empty() {
            return Ok(Items::default());
        }
        let held: BTreeSet<String> = self
            .call(READ, digests.len().to_string(), |data| {
                let intents = data.intents.iter().filter(|(digest, _)| digests.contains(*digest));
                Ok(intents.flat_map(|(_, (intent, _))| intent.held.iter().map(ToString::to_string)).collect())
            })
            .await?;
        let both = |data: &mut Data| {
            let mut items = data.items(|digest| digests.contains(digest), |key| held.contains(key));
            let missing = digests.iter().filter(|digest| owner.is_none() && !data.intents.contains_key(*digest));
            let told = |digest: &String| (format!("{INTENT_PREFIX}{digest}"), "it is not in the table".to_owned());
            items.unreadable.extend(missing.map(told));
            Ok(items)
        };
        if held.is_empty() { both(&mut self.data()) } else { self.call(READ, held.len().to_string(), both).await }
    }

    async fn open(&self, owner: &Owner) -> Call<()> {
        self.call(UPDATE, "open".to_owned(), |data| {
            data.open.insert(owner.digest());
            Ok(())
        })
        .await
    }

    async fn write_intent(&self, asked: &Asked<'_>, _now: Time) -> Call<Intent> {
        let slow = self.data().slow_intent.take();
        tokio::time::sleep(slow.unwrap_or_default()).await;
        self.call(UPDATE, format!("intent {}", asked.request_id), |data| {
            let key = format!("{INTENT_PREFIX}{}", asked.owner.digest());
            if let Some(reason) = data.unreadable.get(&key) {
                let (fault, code) = (Fault::Refused, "Garbled".to_owned());
                return Err(CallError { action: UPDATE, fault, code, message: format!("item {key}: {reason}") });
            }
            let is_new = !data.intents.contains_key(&asked.owner.digest());
            let (intent, seen) =
                data.intents.entry(asked.owner.digest()).or_insert_with(|| (first(asked), BTreeSet::new()));
            let is_later = asked.issued.is_some_and(|issued| intent.issued.is_some_and(|before| before < issued));
            let is_over = intent.request_id != asked.request_id || intent.kept.is_some();
            let is_superseded = seen.contains(asked.request_id) && is_over && !is_later;
            let is_older = asked.issued.is_some_and(|issued| intent.issued.is_some_and(|now| issued < now));
            if is_superseded || (is_older && !is_new) {
                return Ok(intent.clone());
            }
            seen.insert(asked.request_id.to_owned());
            intent.request_id = asked.request_id.to_owned();
            intent.issued = asked.issued.or(intent.issued);
            intent.desired = asked.desired.clone();
            intent.kept = None;
            if let Desired::Isolated(wants) = asked.desired {
                intent.held.extend(wants.instances.iter().cloned());
            }
            Ok(intent.clone())
        })
        .await
    }

    async fn mend(&self, owner: &Owner, known: Option<&BTreeSet<InstanceId>>) -> Call<Written> {
        self.call(UPDATE, "mend".to_owned(), |data| {
            let key = format!("{INTENT_PREFIX}{}", owner.digest());
            let is_held = data.unreadable.get(&key).is_none_or(|reason| reason.contains("Held"));
            if is_held && known.is_none() || data.unreadable.remove(&key).is_none() {
                return Ok(Written::Lost);
            }
            if let Some((intent, _)) = data.intents.get_mut(&owner.digest()) {
                intent.held.extend(known.into_iter().flatten().filter(|_| is_held).cloned());
            }
            Ok(Written::Done)
        })
        .await
    }

    async fn write_kept(&self, asked: &Asked<'_>, reason: &str, _now: Time) -> Call<()> {
        self.call(UPDATE, "kept".to_owned(), |data| {
            match data.intents.get_mut(&asked.owner.digest()) {
                Some((intent, _)) if asked.issued.is_some() && asked.issued < intent.issued => {}
                Some((intent, _)) => {
                    intent.kept = Some(reason.to_owned());
                    intent.issued = asked.issued.or(intent.issued);
                }
                None => {
                    let requests = [asked.request_id.to_owned()].into();
                    data.intents.insert(asked.owner.digest(), (first(asked), requests));
                }
            }
            Ok(())
        })
        .await
    }

    async fn release(&self, owner: &Owner, request_id: &str, ids: &BTreeSet<InstanceId>, is_over: bool) -> Call<()> {
        let action = if is_over { TRANSACT } else { UPDATE };
        self.call(action, format!("release {}", comma_list(ids)), |data| {
            if let Some((intent, _)) = data.intents.get_mut(&owner.digest())
                && intent.request_id == request_id
            {
                intent.held.retain(|id| !ids.contains(id));
                if is_over && intent.held.is_empty() {
                    data.open.remove(&owner.digest());
                }
            }
            Ok(())
        })
        .await
    }

    async fn hold(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> Call<()> {
        self.call(UPDATE, format!("hold {}", comma_list(ids)), |data| {
            if let Some((intent, _)) = data.intents.get_mut(&owner.digest()) {
                intent.held.extend(ids.iter().cloned());
            }
            Ok(())
        })
        .await
    }

    async fn record(
        &self,
        owner: &Owner,
        request_id: &str,
        originals: &[(Originals, Lease)],
        stamp: &Stamp<'_>,
    ) -> Vec<Call<Written>> {
        assert!(originals.len() <= RECORDED_AT_ONCE, "{} at once", originals.len());
        let what: Vec<&str> = originals.iter().map(|(of, _)| of.instance.as_str()).collect();
        let all = self.call_unless(TRANSACT, what.join(","), None, |data| {
            let is_current =
                data.intents.get(&owner.digest()).is_some_and(|(intent, _)| intent.request_id == request_id);
            if !is_current {
                return Ok(originals.iter().map(|_| Ok(Written::Overtaken)).collect());
            }
            let always_on = data.always_on.clone().filter(|(action, ..)| *action == TRANSACT);
            let each = originals.iter().map(|of| match &always_on {
                Some((_, id, fault)) if of.0.instance.as_str() == id => Err(CallError {
                    action: TRANSACT,
                    fault: *fault,
                    code: format!("{fault:?}"),
                    message: "a test wants it".to_owned(),
                }),
                _ => Ok(data.record(owner, of, stamp)),
            });
            let each = each.collect::<Vec<_>>();
            if each.contains(&Ok(Written::Done)) {
                data.open.insert(owner.digest());
            }
            Ok(each)
        });
        match all.await {
            Ok(each) => each,
            Err(error) => originals.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn mark(&self, marking: &Marking<'_>) -> Call<Written> {
        let Marking { owner, instance, from, state, .. } = *marking;
        self.call(UPDATE, format!("{instance} {}", state.as_str()), |data| {
            let Some(record) = data.held(owner, instance).filter(|record| record.state == from) else {
                return Ok(Written::Lost);
            };
            record.state = state;
            record.history.push(marking.history());
            record.lease = marking.lease.clone();
            if let Some(cut) = marking.cut {
                record.connections_cut = cut.whole;
                record.passed = cut.interfaces.clone();
            }
            Ok(Written::Done)
        })
        .await
    }

    async fn enter(&self, owner: &Owner, instance: &InstanceId, entry: Entry<'_>, stamp: &Stamp<'_>) -> Call<Written> {
        let what = match entry {
            Entry::RequestSnapshots(_) => "requested",
            Entry::SaveSnapshots(_) => "snapshots",
            Entry::CountReturn(_) => "returns",
            Entry::SaveProtection(_) => "protection",
        };
        self.call(UPDATE, format!("{instance} {what}"), |data| {
            let returns = data.returns.get(instance).cloned();
            let Some(record) = data.held(owner, instance) else { return Ok(Written::Lost) };
            match entry {
                Entry::RequestSnapshots(taken) => {
                    if record.snapshots.requested || record.snapshots.taken != *taken {
                        return Ok(Written::Lost);
                    }
                    record.snapshots.requested = true;
                }
                Entry::SaveSnapshots(snapshots) => {
                    record.snapshots.taken.extend(snapshots.clone());
                    record.snapshots.requested = false;
                    record.history.push(stamp.line(&format!("snapshots: {}", comma_list(snapshots.values()))));
                }
                Entry::CountReturn(before) => {
                    let counted = (before + 1, stamp.writer.to_owned());
                    if record.returns != before && returns.as_ref() != Some(&counted) {
                        return Ok(Written::Lost);
                    }
                    record.returns = before + 1;
                    data.returns.insert(instance.clone(), counted);
                }
                Entry::SaveProtection(prior) => {
                    if record.state == State::Restoring {
                        return Ok(Written::Lost);
                    }
                    record.protection = std::mem::take(&mut record.protection).with(prior.clone());
                }
            }
            Ok(Written::Done)
        })
        .await
    }
}
