//! How records change hands: taken over, let go of, and noted in.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::aws::dynamodb::Table;
use crate::aws::dynamodb::edit::Edit;
use crate::aws::dynamodb::item::{KEY, intent_key, lines, map, read_history, read_record, s, set, sort};
use crate::aws::dynamodb::transaction::{Write, unless_held};
use crate::aws::error::call_error;
use crate::model::{InstanceId, Owner, Record, State};
use crate::operator::aws::dynamodb::digest::digest;
use crate::operator::ports::{Archive, Takeover};
use crate::ports::{Call, Items, Written};

/// What must be true of a record that changes hands in its place, or is taken out.
fn as_seen(seen: &Record) -> Edit {
    Edit::only_if("#Owner = :owner AND #State = :state AND RecordedAt = :recorded")
        .with(":owner", s(&seen.owner))
        .with(":state", s(seen.state.as_str()))
        .with(":recorded", s(seen.recorded_at))
}

impl Archive for Table {
    async fn tables(&self, prefix: &str) -> Call<Vec<String>> {
        let mut names = Vec::new();
        let mut pages = self.client.list_tables().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error("dynamodb:ListTables", &error))?;
            names.extend(page.table_names().iter().filter(|name| name.starts_with(prefix)).cloned());
        }
        Ok(names)
    }

    async fn scan(&self) -> Call<Items> {
        let mut items = Items::default();
        let mut pages = self.client.scan().table_name(&self.name).consistent_read(true).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error("dynamodb:Scan", &error))?;
            for item in page.items() {
                sort(item, &mut items);
                if let Some((key, digest)) = digest(item) {
                    items.digests.insert(key, digest);
                }
            }
        }
        Ok(items)
    }

    fn named(&self, table: &str) -> Self {
        Self { client: self.client.clone(), name: table.to_owned() }
    }

    async fn take_over(&self, from: &Self, seen: &Record, takeover: &Takeover<'_>) -> Call<Written> {
        let key = seen.instance.as_str();
        // The whole item, so that nothing is left behind which a later version wrote.
        let Some(mut item) = from.get(key).await?.filter(|item| read_record(item).as_ref() == Ok(seen)) else {
            return Ok(Written::Lost);
        };
        // What is only history here stays. In one table the record itself changes hands.
        let is_elsewhere = from.name != self.name;
        let past = if is_elsewhere { self.get(key).await?.unwrap_or_default() } else { HashMap::default() };
        let condition = if is_elsewhere {
            unless_held()
        } else {
            // The whole item is written: an interface that was recorded meanwhile must not be lost.
            let interfaces = item.get("Interfaces").cloned().unwrap_or_else(|| AttributeValue::M(HashMap::new()));
            as_seen(seen).and("Interfaces = :interfaces").with(":interfaces", interfaces)
        };
        let snapshots = [&past, &item].into_iter().filter_map(|item| map(item, "AllSnapshots").ok()?);
        let snapshots = snapshots.flatten().map(|(snapshot, volume)| (snapshot.clone(), volume.clone())).collect();
        let line = takeover.history(seen, &from.name);
        let history = read_history(&past).into_iter().chain(seen.history.iter().cloned()).chain([line]);
        let groups = seen.isolation_groups.iter().chain([takeover.isolation_group]);
        let changes = [
            ("Owner", s(takeover.owner)),
            ("State", s(State::Isolating.as_str())),
            ("IsolationGroupId", s(takeover.isolation_group)),
            ("AllSnapshots", AttributeValue::M(snapshots)),
            ("History", lines(history)),
            ("AskedBy", s(takeover.stamp.asked_by)),
            ("UpdatedAt", s(takeover.stamp.now)),
        ];
        let groups = set(groups.collect::<BTreeSet<_>>()).map(|groups| ("IsolationGroupIds", groups));
        item.extend(changes.into_iter().chain(groups).map(|(name, value)| (name.to_owned(), value)));
        for name in ["KeptReason", "LeaseWriter", "LeaseUntil", "LeaseOnly"] {
            item.remove(name);
        }
        let holds = Edit::only_if("attribute_exists(InstanceId)").add("Held", [&seen.instance]);
        let holds = self.change(&intent_key(takeover.owner), holds)?;
        let mut result = Ok(Written::Done);
        let write = Write { result: &mut result, operations: vec![self.put(item, condition)?] };
        self.transact_and_open(takeover.owner, &holds, vec![write]).await;
        // No intent, no heir.
        result.map(|written| if written == Written::Overtaken { Written::Lost } else { written })
    }

    async fn note(&self, owner: &Owner, instance: &InstanceId, line: &str) -> Call<Written> {
        let edit = Edit::only_if("#Owner = :holder").with(":holder", s(owner)).log(line.to_owned());
        self.write(instance.as_str(), edit).await
    }

    async fn let_go(&self, seen: &Record) -> Call<Written> {
        let condition = as_seen(seen);
        let delete = self
            .client
            .delete_item()
            .table_name(&self.name)
            .key(KEY, s(&seen.instance))
            .set_expression_attribute_names(condition.names())
            .condition_expression(condition.condition)
            .set_expression_attribute_values(Some(condition.values));
        match Box::pin(delete.send()).await {
            Ok(_) => Ok(Written::Done),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(Written::Lost)
            }
            Err(error) => Err(call_error("dynamodb:DeleteItem", &error)),
        }
    }
}
