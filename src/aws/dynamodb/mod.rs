//! DynamoDB's adapter: the records table. Only this folder and the program's part of it name its SDK.
//!
//! One item per instance, key `InstanceId`; one more per owner, key `owner:<digest>`, for the intent; one that lists the open
//! incidents, by which the watch finds them; and what could not be read, under `unreadable:<instance>:<time>`. Every write of a
//! record is conditional: **a recorded original is never overwritten.**

pub(crate) mod edit;
pub(crate) mod item;
pub(crate) mod transaction;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure};
use futures_util::future::try_join_all;

use self::edit::{Edit, PORTION};
use self::item::{
    Item, KEY, OPEN, OWNERS, held_by, intent_key, members, mended, protection_entries, read_intent, s, set, sort, texts,
};
use self::transaction::Write;
use crate::aws::error::{call_error, garbled, sent};
use crate::model::{
    Desired, InstanceId, Intent, Lease, Owner, Protection, SnapshotId, State, Time, VolumeId, comma_list,
};
use crate::plan::Originals;
use crate::ports::{Asked, Call, CallError, Entry, Fault, INTENT_PREFIX, Items, Marking, Records, Stamp, Written};

const READ: &str = "dynamodb:BatchGetItem";
const UPDATE: &str = "dynamodb:UpdateItem";
/// No later request has written the intent.
const IN_TURN: &str = "(attribute_not_exists(IssuedAt) OR IssuedAt <= :IssuedAt)";
/// `BatchGetItem` takes at most 100 keys (DynamoDB API reference).
const READ_AT_ONCE: usize = 100;
/// Before what DynamoDB did not get to, or what a transaction kept it from, is asked for again.
fn pauses() -> impl Iterator<Item = Duration> + Send {
    [50, 100, 200, 400, 800].into_iter().map(Duration::from_millis)
}

#[derive(Debug, Clone)]
pub struct Table {
    pub client: Client,
    pub name: String,
}

/// A change of a record that this owner holds.
fn held(holder: &Owner) -> Edit {
    Edit::only_if("#Owner = :holder AND #State <> :restored")
        .with(":holder", s(holder))
        .with(":restored", s(State::Restored.as_str()))
}

/// Lists an incident as open.
pub(crate) fn opening(owner: &Owner) -> Edit {
    Edit::default().add(OWNERS, [owner.digest()])
}

fn sorted(found: &[Item]) -> Items {
    let mut items = Items::default();
    found.iter().for_each(|item| sort(item, &mut items));
    items
}

/// An intent that says what this request wants.
fn asking(asked: &Asked<'_>, condition: &str, now: Time) -> Call<Edit> {
    let json = serde_json::to_string(asked.desired).map_err(|error| garbled(UPDATE, error.to_string()))?;
    let instances = match asked.desired {
        Desired::Isolated(wants) => wants.instances.as_slice(),
        Desired::Restored | Desired::Unknown(_) => &[],
    };
    let edit = Edit::only_if(condition)
        .set("Owner", s(asked.owner))
        .set("RequestId", s(asked.request_id))
        .set("Desired", s(json))
        .set("UpdatedAt", s(now))
        .remove(&["KeptReason"])
        .add("Requests", [asked.request_id])
        .add("Held", instances);
    Ok(match asked.issued {
        Some(issued) => edit.set("IssuedAt", s(issued)),
        None => edit,
    })
}

/// As many entries at a time as an expression takes; one empty portion of an empty map.
fn portions<K: Ord + Clone, V: Clone>(entries: &BTreeMap<K, V>) -> Vec<BTreeMap<K, V>> {
    let all: Vec<_> = entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let portions: Vec<_> = all.chunks(PORTION).map(|portion| portion.iter().cloned().collect()).collect();
    if portions.is_empty() { vec![BTreeMap::new()] } else { portions }
}

/// Sends an update; again while a transaction holds its item.
fn updated(
    update: UpdateItemFluentBuilder,
) -> Pin<Box<impl Future<Output = Result<UpdateItemOutput, SdkError<UpdateItemError>>>>> {
    Box::pin(async move {
        for pause in pauses() {
            match update.clone().send().await {
                Err(error)
                    if error.as_service_error().is_some_and(UpdateItemError::is_transaction_conflict_exception) =>
                {
                    tokio::time::sleep(pause).await;
                }
                result => return result,
            }
        }
        update.send().await
    })
}

fn is_lost<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception)
}

impl Table {
    pub(crate) async fn get(&self, key: &str) -> Call<Option<Item>> {
        Ok(self.read_keys(&[key.to_owned()]).await?.pop())
    }

    fn update(&self, key: &str, edit: Edit) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.name)
            .key(KEY, s(key))
            .update_expression(edit.expression())
            .set_condition_expression(edit.condition())
            .set_expression_attribute_names(edit.names())
            .set_expression_attribute_values(Some(edit.values))
    }

    pub(crate) async fn write(&self, key: &str, edit: Edit) -> Call<Written> {
        match updated(self.update(key, edit)).await {
            Ok(_) => Ok(Written::Done),
            Err(error) if is_lost(&error) => Ok(Written::Lost),
            Err(error) => Err(call_error(UPDATE, &error)),
        }
    }

    /// Lists an incident as open where the list is none that DynamoDB adds to.
    async fn relist(&self, owner: &Owner) -> Call<()> {
        let found = self.get(OPEN).await?.unwrap_or_default();
        let digest = owner.digest();
        let mut listed = texts(&found, OWNERS);
        listed.insert(&digest);
        let before = found.get(OWNERS);
        tracing::warn!(?before, "the list of open incidents cannot be read, and is written anew");
        match self.write(OPEN, Edit::default().replace(OWNERS, before, set(&listed))).await? {
            // Another request was quicker with it.
            Written::Lost => self.write(OPEN, opening(owner)).await.map(drop),
            _ => Ok(()),
        }
    }

    async fn read_all(&self, keys: &[String]) -> Call<Vec<Item>> {
        let reads = keys.chunks(READ_AT_ONCE).map(|keys| self.read_keys(keys));
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    async fn read_keys(&self, keys: &[String]) -> Call<Vec<Item>> {
        let keys = keys.iter().map(|key| HashMap::from([(KEY.to_owned(), s(key))])).collect();
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let keys = keys.map_err(|error| garbled(READ, error.to_string()))?;
        let mut asked = HashMap::from([(self.name.clone(), keys)]);
        let mut found = Vec::new();
        for pause in pauses() {
            let output = sent(READ, self.client.batch_get_item().set_request_items(Some(asked)).send()).await?;
            found.extend(output.responses.into_iter().flatten().flat_map(|(_, items)| items));
            asked = output.unprocessed_keys.unwrap_or_default();
            if asked.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(pause).await;
        }
        let message = "DynamoDB did not get to every key".to_owned();
        Err(CallError { action: READ, fault: Fault::Throttled, code: "UnprocessedKeys".to_owned(), message })
    }
}

impl Records for Table {
    fn name(&self) -> &str {
        &self.name
    }

    async fn read(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> Call<Items> {
        let keys: Vec<String> = [intent_key(owner)].into_iter().chain(ids.iter().map(ToString::to_string)).collect();
        Ok(sorted(&self.read_all(&keys).await?))
    }

    async fn incidents(&self, owner: Option<&Owner>) -> Call<Items> {
        let intents = match owner {
            Some(owner) => vec![intent_key(owner)],
            None => {
                let open = self.get(OPEN).await?.unwrap_or_default();
                let digests: BTreeSet<String> = members(&open, OWNERS).map_err(|reason| garbled(READ, reason))?;
                digests.iter().map(|digest| format!("{INTENT_PREFIX}{digest}")).collect()
            }
        };
        let mut found = self.read_all(&intents).await?;
        let held: BTreeSet<InstanceId> = found.iter().flat_map(held_by).collect();
        found.extend(self.read_all(&held.iter().map(ToString::to_string).collect::<Vec<_>>()).await?);
        let mut items = sorted(&found);
        let is_there = |key: &String| found.iter().any(|item| item.get(KEY) == Some(&s(key)));
        let missing = intents.into_iter().filter(|key| owner.is_none() && !is_there(key));
        items.unreadable.extend(missing.map(|key| (key, "it is not in the table".to_owned())));
        Ok(items)
    }

    async fn open(&self, owner: &Owner) -> Call<()> {
        match self.write(OPEN, opening(owner)).await {
            Err(error) if error.fault == Fault::Refused => self.relist(owner).await,
            written => written.map(drop),
        }
    }

    async fn write_intent(&self, asked: &Asked<'_>, now: Time) -> Call<Intent> {
        let key = intent_key(asked.owner);
        // Every request that ever wrote is in Requests; all but RequestId are superseded, and so is that one by a Delete that kept
        // what it had isolated.
        let is_new = "attribute_not_exists(Requests) OR NOT contains(Requests, :RequestId) \
                      OR RequestId = :RequestId AND attribute_not_exists(KeptReason)";
        // CloudFormation gives ids again. A URL that was signed later is of another request.
        let is_later = if asked.issued.is_some() { " OR IssuedAt < :IssuedAt" } else { "" };
        let mut edit = asking(asked, &format!("({is_new}{is_later})"), now)?;
        if asked.issued.is_some() {
            edit = edit.and(IN_TURN);
        }
        let update = self
            .update(&key, edit)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let item = match updated(update).await {
            Ok(output) => output.attributes,
            Err(error) if is_lost(&error) => match error.into_service_error() {
                UpdateItemError::ConditionalCheckFailedException(lost) => lost.item,
                _ => None,
            },
            Err(error) => return Err(call_error(UPDATE, &error)),
        };
        let item = if item.is_some() { item } else { self.get(&key).await? };
        let item = item.ok_or_else(|| garbled(UPDATE, format!("item {key} vanished")))?;
        // It is written anew, not read again.
        let refused = |reason| CallError { fault: Fault::Refused, ..garbled(UPDATE, format!("item {key}: {reason}")) };
        read_intent(&item).map_err(refused)
    }

    async fn mend(&self, owner: &Owner, known: Option<&BTreeSet<InstanceId>>) -> Call<Written> {
        let key = intent_key(owner);
        let Some(item) = self.get(&key).await? else { return Ok(Written::Lost) };
        let mut edit = Edit::only_if("attribute_exists(InstanceId)");
        let values = mended(&item, owner, known);
        if values.is_empty() {
            return Ok(Written::Lost);
        }
        for (name, value) in values {
            let before = item.get(name);
            tracing::warn!(item = key, name, ?before, "what cannot be read is written anew");
            edit = edit.replace(name, before, value);
        }
        self.write(&key, edit).await
    }

    async fn write_kept(&self, asked: &Asked<'_>, reason: &str, now: Time) -> Call<()> {
        let key = intent_key(asked.owner);
        let kept = || {
            let edit =
                Edit::only_if("attribute_exists(InstanceId)").set("KeptReason", s(reason)).set("UpdatedAt", s(now));
            match asked.issued {
                Some(issued) => edit.and(IN_TURN).set("IssuedAt", s(issued)),
                None => edit,
            }
        };
        let first = asking(asked, "attribute_not_exists(InstanceId)", now)?;
        // If there is no intent to write it to, and another request is quicker with the first one, there is one then.
        for edit in [kept(), first, kept()] {
            if self.write(&key, edit).await? == Written::Done {
                break;
            }
        }
        Ok(())
    }

    async fn release(&self, owner: &Owner, request_id: &str, ids: &BTreeSet<InstanceId>, is_over: bool) -> Call<()> {
        let key = intent_key(owner);
        let ours = || Edit::only_if("RequestId = :request").with(":request", s(request_id));
        if is_over {
            let all = match set(ids) {
                Some(held) => ours().and("(attribute_not_exists(Held) OR Held = :held)").with(":held", held),
                None => ours().and("attribute_not_exists(Held)"),
            };
            let mut result = Ok(Written::Done);
            let closing = self.change(OPEN, Edit::default().delete(OWNERS, [owner.digest()]))?;
            let write = Write { result: &mut result, operations: vec![closing] };
            self.transact(&self.change(&key, all.remove(&["Held"]))?, None, vec![write]).await;
            // Where it holds more, it is over for these only.
            if result? == Written::Done {
                return Ok(());
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        self.write(&key, ours().delete("Held", ids)).await.map(|_| ())
    }

    async fn hold(&self, owner: &Owner, ids: &BTreeSet<InstanceId>) -> Call<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let edit = Edit::only_if("attribute_exists(InstanceId)").add("Held", ids);
        self.write(&intent_key(owner), edit).await.map(|_| ())
    }

    async fn record(
        &self,
        owner: &Owner,
        request_id: &str,
        originals: &[(Originals, Lease)],
        stamp: &Stamp<'_>,
    ) -> Vec<Call<Written>> {
        self.record_all(owner, request_id, originals, stamp).await
    }

    async fn mark(&self, marking: &Marking<'_>) -> Call<Written> {
        let kept = marking.reason.filter(|_| marking.state == State::Kept);
        let lease = marking.lease.as_ref();
        let mut edit = Edit::only_if("#Owner = :holder AND #State = :from")
            .with(":holder", s(marking.owner))
            .with(":from", s(marking.from.as_str()))
            .set("State", s(marking.state.as_str()))
            .set("UpdatedAt", s(marking.stamp.now))
            .log(marking.history())
            .set_or_remove("KeptReason", kept.map(s))
            .set_or_remove("LeaseWriter", lease.map(|lease| s(&lease.writer)))
            .set_or_remove("LeaseUntil", lease.map(|lease| s(lease.until)))
            .set_or_remove("LeaseOnly", lease.and_then(|lease| set(&lease.only)));
        if let Some(cut) = marking.cut {
            edit = edit
                .set("ConnectionsCut", AttributeValue::Bool(cut.whole))
                .set_or_remove("Passed", set(&cut.interfaces));
        }
        self.write(marking.instance.as_str(), edit).await
    }

    async fn enter(&self, owner: &Owner, instance: &InstanceId, entry: Entry<'_>, stamp: &Stamp<'_>) -> Call<Written> {
        for edit in edits(owner, instance, entry, stamp) {
            match self.write(instance.as_str(), edit).await? {
                Written::Done => {}
                other => return Ok(other),
            }
        }
        Ok(Written::Done)
    }
}

/// What makes an entry: one change after the other.
fn edits(owner: &Owner, instance: &InstanceId, entry: Entry<'_>, stamp: &Stamp<'_>) -> Vec<Edit> {
    match entry {
        Entry::RequestSnapshots(taken) => {
            let taken = taken.iter().map(|(volume, snapshot)| (volume.to_string(), s(snapshot))).collect();
            let edit = held(owner)
                .and("attribute_not_exists(SnapshotsRequestedAt) AND Snapshots = :taken")
                .with(":taken", AttributeValue::M(taken))
                .set("SnapshotsRequestedAt", s(stamp.now))
                .set("UpdatedAt", s(stamp.now));
            vec![edit]
        }
        Entry::SaveSnapshots(snapshots) => {
            let portions = portions(snapshots);
            let mut edits: Vec<_> = portions.iter().map(|portion| with_snapshots(owner, portion, stamp)).collect();
            let last = edits.pop().map(|edit| edit.remove(&["SnapshotsRequestedAt"]));
            edits.into_iter().chain(last).collect()
        }
        Entry::CountReturn(before) => {
            let n = |number: u64| AttributeValue::N(number.to_string());
            // The SDK sends again what was not answered.
            let is_counted = "ReturnCount = :ReturnCount AND ReturnWriter = :ReturnWriter";
            let edit = match before {
                0 => held(owner).and(&format!("(attribute_not_exists(ReturnCount) OR {is_counted})")),
                before => {
                    held(owner).and(&format!("(ReturnCount = :before OR {is_counted})")).with(":before", n(before))
                }
            };
            let edit = edit.set("ReturnCount", n(before + 1)).set("ReturnWriter", s(stamp.writer));
            vec![edit.set("UpdatedAt", s(stamp.now))]
        }
        Entry::SaveProtection(prior) => {
            let mut rest = prior.clone();
            let portion = |volumes| Protection { volumes, ..std::mem::take(&mut rest) };
            let portions = portions(&prior.volumes).into_iter().map(portion);
            portions.map(|portion| with_protection(owner, instance, &portion, stamp)).collect()
        }
    }
}

fn with_protection(owner: &Owner, instance: &InstanceId, prior: &Protection, stamp: &Stamp<'_>) -> Edit {
    // Nothing is protected while it is restored, so nothing is saved then.
    let edit = held(owner)
        .and("#State <> :restoring")
        .with(":restoring", s(State::Restoring.as_str()))
        .set("UpdatedAt", s(stamp.now))
        .fill("Protection", protection_entries(prior))
        .fill("RestoreCommands", prior.restore_commands(instance).into_iter().map(|(key, line)| (key, s(line))));
    match &prior.profile {
        Some(arn) => edit.set_missing("InstanceProfile", s(arn)),
        None => edit,
    }
}

/// Snapshots of the record, which stay in `AllSnapshots` when the instance is isolated again after a restore.
fn with_snapshots(owner: &Owner, snapshots: &BTreeMap<VolumeId, SnapshotId>, stamp: &Stamp<'_>) -> Edit {
    let named = comma_list(snapshots.iter().map(|(volume, snapshot)| format!("{snapshot} of {volume}")));
    held(owner)
        .set("UpdatedAt", s(stamp.now))
        .log(stamp.line(&format!("snapshots: {}", if named.is_empty() { "none" } else { &named })))
        .fill("Snapshots", snapshots.iter().map(|(volume, snapshot)| (volume.to_string(), s(snapshot))))
        .fill("AllSnapshots", snapshots.iter().map(|(volume, snapshot)| (snapshot.to_string(), s(volume))))
}
