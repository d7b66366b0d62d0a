//! Writes of several items at once, all or none: the originals of all who wait, with a check that the intent is still the
//! request's. What is refused is taken out by the reasons that DynamoDB gives, or by halves where it gives none.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, ConditionCheck, Put, TransactWriteItem, Update};

use super::edit::{Edit, PORTION};
use super::item::{
    Item, KEY, OPEN, intent_key, interface_commands, interface_entries, lines, new_record, no_entries, read_record, s,
    set, unreadable_key,
};
use super::{Table, held, opening, pauses, portions};
use crate::aws::error::{call_error, garbled};
use crate::model::{Lease, Owner, State};
use crate::plan::{Originals, Prior};
use crate::ports::{Call, CallError, Fault, Records as _, Stamp, Written};

const TRANSACT: &str = "dynamodb:TransactWriteItems";
const LOST: &str = "ConditionalCheckFailed";
/// Reasons that pass (`TransactionCanceledException`, DynamoDB API reference).
const PASSING: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

/// What belongs together, and what became of it: `Written::Done` until something else is known.
pub(crate) struct Write<'a> {
    pub result: &'a mut Call<Written>,
    pub operations: Vec<TransactWriteItem>,
}

fn built<T>(result: Result<T, BuildError>) -> Call<T> {
    result.map_err(|error| garbled(TRANSACT, error.to_string()))
}

/// What must be true of a record that is written in place of none, or of one that is only history.
pub(crate) fn unless_held() -> Edit {
    Edit::only_if("attribute_not_exists(InstanceId) OR #State = :restored")
        .with(":restored", s(State::Restored.as_str()))
}

impl Table {
    fn check(&self, key: String, edit: &Edit) -> Call<TransactWriteItem> {
        let check =
            ConditionCheck::builder().table_name(&self.name).key(KEY, s(key)).condition_expression(&edit.condition);
        let check = check.set_expression_attribute_values(Some(edit.values.clone())).build();
        Ok(TransactWriteItem::builder().condition_check(built(check)?).build())
    }

    pub(crate) fn change(&self, key: &str, edit: Edit) -> Call<TransactWriteItem> {
        let update = Update::builder()
            .table_name(&self.name)
            .key(KEY, s(key))
            .update_expression(edit.expression())
            .set_condition_expression(edit.condition())
            .set_expression_attribute_names(edit.names())
            .set_expression_attribute_values(Some(edit.values))
            .build();
        Ok(TransactWriteItem::builder().update(built(update)?).build())
    }

    pub(crate) fn put(&self, item: Item, edit: Edit) -> Call<TransactWriteItem> {
        let put = Put::builder()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression(&edit.condition)
            .set_expression_attribute_names(edit.names())
            .set_expression_attribute_values(Some(edit.values).filter(|values| !values.is_empty()))
            .build();
        Ok(TransactWriteItem::builder().put(built(put)?).build())
    }

    /// Saves originals, those with many interfaces in several transactions.
    pub(crate) async fn record_all(
        &self,
        owner: &Owner,
        request_id: &str,
        originals: &[(Originals, Lease)],
        stamp: &Stamp<'_>,
    ) -> Vec<Call<Written>> {
        let is_ours = Edit::only_if("RequestId = :request").with(":request", s(request_id));
        let condition = match self.check(intent_key(owner), &is_ours) {
            Ok(condition) => condition,
            Err(error) => return vec![Err(error); originals.len()],
        };
        let mut results = vec![Ok(Written::Done); originals.len()];
        let parts: Vec<_> = originals.iter().map(parts).collect();
        for round in 0..parts.iter().map(Vec::len).max().unwrap_or_default() {
            let mut writes = Vec::new();
            for (result, parts) in results.iter_mut().zip(&parts) {
                let Some(part) = parts.get(round).filter(|_| *result == Ok(Written::Done)) else { continue };
                match self.operations(owner, part, stamp).await {
                    Ok(Some(operations)) => writes.push(Write { result, operations }),
                    Ok(None) => *result = Ok(Written::Lost),
                    Err(error) => *result = Err(error),
                }
            }
            self.transact_and_open(owner, &condition, writes).await;
        }
        results
    }

    /// Nothing if what is there is no longer what was seen.
    async fn operations(
        &self,
        owner: &Owner,
        recorded: &(Originals, Lease),
        stamp: &Stamp<'_>,
    ) -> Call<Option<Vec<TransactWriteItem>>> {
        let key = recorded.0.instance.as_str();
        let edit = match &recorded.0.prior {
            Prior::None => renew(owner, recorded, stamp),
            Prior::Ours => extend(owner, owner, recorded, stamp),
            Prior::Of(holder) => extend(holder, owner, recorded, stamp),
            Prior::Unreadable => {
                let found = self.get(key).await?.filter(|item| read_record(item).is_err());
                return found.map(|found| self.set_aside(owner, recorded, found, stamp)).transpose();
            }
        };
        Ok(Some(vec![self.change(key, edit)?]))
    }

    /// Keeps an item that cannot be read under a key of its own, and writes a record in its place.
    fn set_aside(
        &self,
        owner: &Owner,
        recorded: &(Originals, Lease),
        found: Item,
        stamp: &Stamp<'_>,
    ) -> Call<Vec<TransactWriteItem>> {
        let key = recorded.0.instance.as_str();
        let as_read = match found.get("UpdatedAt") {
            Some(time) => Edit::only_if("UpdatedAt = :seen").with(":seen", time.clone()),
            None => Edit::only_if("attribute_exists(InstanceId) AND attribute_not_exists(UpdatedAt)"),
        };
        let own = [(KEY, s(key)), ("History", lines([stamp.recorded(&recorded.0)])), ("AllSnapshots", no_entries())];
        let record = own.into_iter().chain(new_record(owner, recorded, stamp));
        let record = record.map(|(name, value)| (name.to_owned(), value)).collect();
        let mut copy = found;
        copy.insert(KEY.to_owned(), s(unreadable_key(key, stamp)));
        Ok(vec![self.put(copy, Edit::only_if("attribute_not_exists(InstanceId)"))?, self.put(record, as_read)?])
    }

    /// Also lists the owner's incident as open, which is for the watch: nothing waits for it.
    pub(crate) async fn transact_and_open(&self, owner: &Owner, condition: &TransactWriteItem, writes: Vec<Write<'_>>) {
        let opening = self.change(OPEN, opening(owner)).ok();
        if !self.transact(condition, opening.as_ref(), writes).await
            && let Err(error) = self.open(owner).await
        {
            tracing::warn!(%error, "the incident is not listed as open");
        }
    }

    /// Writes what can be written, unless the `condition`, which goes with each transaction, does not hold. Whether `beside` went
    /// with them as well: if it is refused, they go without it.
    pub(crate) async fn transact(
        &self,
        condition: &TransactWriteItem,
        mut beside: Option<&TransactWriteItem>,
        writes: Vec<Write<'_>>,
    ) -> bool {
        let is_alone = beside.is_none();
        let (simple, other): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.operations.len() == 1);
        let mut batches: Vec<Vec<Write<'_>>> = other.into_iter().map(|write| vec![write]).chain([simple]).collect();
        let mut pauses = pauses();
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let firsts = || std::iter::once(condition).chain(beside);
            let operations = firsts().chain(batch.iter().flat_map(|write| &write.operations));
            let request = self.client.transact_write_items().set_transact_items(Some(operations.cloned().collect()));
            let Err(error) = Box::pin(request.send()).await else { continue };
            let whole = call_error(TRANSACT, &error);
            let mut reasons = reasons(error).into_iter();
            let of_first = reasons.by_ref().take(firsts().count()).fold(None, Option::or);
            if of_first.as_ref().is_some_and(|error| error.code == LOST) {
                set_all(batch, &Ok(Written::Overtaken));
                continue;
            }
            if beside.is_some() && of_first.as_ref().is_some_and(|error| error.fault == Fault::Refused) {
                beside = None;
                batches.push(batch);
                continue;
            }
            let mut passing = of_first.filter(|error| error.fault == Fault::Throttled);
            let (mut rest, count) = (Vec::new(), batch.len());
            for write in batch {
                // Of two, one at most has a reason of its own.
                match reasons.by_ref().take(write.operations.len()).fold(None, Option::or) {
                    None => rest.push(write),
                    Some(error) if error.code == LOST => *write.result = Ok(Written::Lost),
                    Some(error) if error.fault == Fault::Throttled => {
                        passing = Some(error);
                        rest.push(write);
                    }
                    Some(error) => *write.result = Err(error),
                }
            }
            if let Some(error) = passing {
                match pauses.next() {
                    Some(pause) => {
                        tokio::time::sleep(pause).await;
                        batches.push(rest);
                    }
                    None => set_all(rest, &Err(error)),
                }
            } else if rest.len() < count {
                batches.push(rest);
            } else if whole.fault == Fault::Refused && count > 1 {
                batches.push(rest.split_off(count / 2));
                batches.push(rest);
            } else {
                set_all(rest, &Err(whole));
            }
        }
        is_alone || beside.is_some()
    }
}

fn set_all(writes: Vec<Write<'_>>, result: &Call<Written>) {
    for write in writes {
        write.result.clone_from(result);
    }
}

/// Why each operation was refused, if a transaction was cancelled for reasons.
fn reasons(error: SdkError<TransactWriteItemsError>) -> Vec<Option<CallError>> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error.into_service_error() else {
        return Vec::new();
    };
    let refusal = |CancellationReason { code, message, .. }| {
        let code = code.filter(|code| code != "None")?;
        let fault = if PASSING.contains(&code.as_str()) { Fault::Throttled } else { Fault::Refused };
        Some(CallError { action: TRANSACT, fault, code, message: message.unwrap_or_default() })
    };
    cancelled.cancellation_reasons.unwrap_or_default().into_iter().map(refusal).collect()
}

/// Originals with so few interfaces that an expression takes them. A record that is written whole takes any number.
fn parts((originals, lease): &(Originals, Lease)) -> Vec<(Originals, Lease)> {
    if matches!(originals.prior, Prior::None | Prior::Unreadable) || originals.interfaces.len() <= PORTION {
        return vec![(originals.clone(), lease.clone())];
    }
    let mut prior = originals.prior.clone();
    let part = |interfaces: BTreeMap<_, _>| {
        // It is ours from the first part on.
        let prior = std::mem::replace(&mut prior, Prior::Ours);
        (Originals { interfaces, prior, ..originals.clone() }, lease.clone())
    };
    portions(&originals.interfaces).into_iter().map(part).collect()
}

/// A record in place of none, or of one that is only history, which stays.
fn renew(owner: &Owner, recorded: &(Originals, Lease), stamp: &Stamp<'_>) -> Edit {
    let record = new_record(owner, recorded, stamp).into_iter();
    record
        .fold(unless_held(), |edit, (name, value)| edit.set(name, value))
        .set_missing("AllSnapshots", no_entries())
        .log(stamp.recorded(&recorded.0))
        .remove(&[
            "InstanceProfile",
            "SnapshotsRequestedAt",
            "ConnectionsCut",
            "Passed",
            "KeptReason",
            "LeaseOnly",
            "ReturnCount",
            "ReturnWriter",
        ])
}

fn extend(holder: &Owner, owner: &Owner, (originals, lease): &(Originals, Lease), stamp: &Stamp<'_>) -> Edit {
    let mut edit = held(holder);
    if originals.transit_group.is_some() {
        // Of two that have read the record at once, one passes.
        let is_free = "attribute_not_exists(LeaseWriter) OR LeaseWriter = :LeaseWriter";
        edit = match originals.leased_until {
            Some(until) => edit.and(&format!("({is_free} OR LeaseUntil = :seen)")).with(":seen", s(until)),
            None => edit.and(&format!("({is_free})")),
        };
    }
    edit.set("Owner", s(owner))
        .set("State", s(State::Isolating.as_str()))
        .set("IsolationGroupId", s(&originals.isolation_group))
        .set("LeaseWriter", s(&lease.writer))
        .set("LeaseUntil", s(lease.until))
        .set_or_remove("LeaseOnly", set(&lease.only))
        .set("UpdatedAt", s(stamp.now))
        .log(stamp.recorded(originals))
        .fill("Interfaces", interface_entries(&originals.interfaces))
        .fill("RestoreCommands", interface_commands(&originals.interfaces))
        .add("IsolationGroupIds", originals.groups())
        .delete("Passed", &originals.reopened)
}
