//! DynamoDB's adapter: the records table. The only file that names its SDK.
//!
//! One item per instance, key `InstanceId`; one more per owner, key `owner:<digest>`, for the intent. Every write is
//! conditional: **a recorded original is never overwritten.**

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use crate::aws::error::{call_error, garbled};
use crate::model::{
    Attribute, Desired, GroupId, Groups, InstanceId, Intent, InterfaceId, Owner, Protection, Record, ShutdownBehaviour,
    SnapshotId, Snapshots, State, VolumeId, restore_command,
};
use crate::plan::Prior;
use crate::ports::{Archive, Call, Ledger, Marking, Originals, Records, Takeover, Written};

const KEY: &str = "InstanceId";
const OWNER_PREFIX: &str = "owner:";
const UPDATE: &str = "dynamodb:UpdateItem";
const TERMINATION_PROTECTION: &str = "TerminationProtection";
const STOP_PROTECTION: &str = "StopProtection";
const SHUTDOWN_BEHAVIOUR: &str = "ShutdownBehaviour";
const SCALING_GROUP: &str = "AutoScalingGroup";
/// Adds `:line` to the history; `:past` is an empty list.
const HISTORY: &str = "History = list_append(if_not_exists(History, :past), :line)";

type Item = HashMap<String, AttributeValue>;

#[derive(Debug, Clone)]
pub struct Table {
    pub client: Client,
    pub name: String,
}

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn groups_value(groups: &Groups) -> AttributeValue {
    AttributeValue::L(groups.iter().map(|group| s(group.as_str())).collect())
}

fn lines(lines: impl IntoIterator<Item = String>) -> AttributeValue {
    AttributeValue::L(lines.into_iter().map(s).collect())
}

fn isolation_groups(originals: &Originals<'_>) -> AttributeValue {
    AttributeValue::Ss(originals.groups().iter().map(ToString::to_string).collect())
}

fn intent_key(owner: &Owner) -> String {
    format!("{OWNER_PREFIX}{}", owner.digest())
}

impl Table {
    fn update(&self, key: impl Into<String>, expression: &str, condition: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.name)
            .key(KEY, s(key))
            .update_expression(expression)
            .condition_expression(condition)
    }

    /// An update of a record that the owner still holds.
    fn update_held(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        expression: &str,
        now: &str,
    ) -> UpdateItemFluentBuilder {
        self.update(instance.as_str(), expression, "#owner = :owner AND #state <> :restored")
            .expression_attribute_names("#owner", "Owner")
            .expression_attribute_names("#state", "State")
            .expression_attribute_values(":owner", s(owner.to_string()))
            .expression_attribute_values(":restored", s(State::Restored.as_str()))
            .expression_attribute_values(":now", s(now))
    }

    async fn put_new(&self, originals: &Originals<'_>) -> Call<Written> {
        let interfaces = originals.interfaces.iter().map(|(id, groups)| (id.to_string(), groups_value(groups)));
        let commands = originals.interfaces.iter().map(|(id, groups)| (id.to_string(), s(restore_command(id, groups))));
        let item = [
            (KEY, s(originals.instance.as_str())),
            ("Owner", s(originals.owner.to_string())),
            ("State", s(State::Isolating.as_str())),
            ("VpcId", s(originals.vpc.as_str())),
            ("IsolationGroupId", s(originals.isolation_group.as_str())),
            ("IsolationGroupIds", isolation_groups(originals)),
            ("Interfaces", AttributeValue::M(interfaces.collect())),
            ("RestoreCommands", AttributeValue::M(commands.collect())),
            ("Protection", AttributeValue::M(HashMap::new())),
            ("AskedBy", s(originals.stamp.asked_by)),
            ("History", lines([originals.history()])),
            ("RecordedAt", s(&originals.stamp.now)),
            ("UpdatedAt", s(&originals.stamp.now)),
        ];
        self.put_unless_held(item.map(|(name, value)| (name.to_owned(), value)).into()).await
    }

    /// Writes a whole record in place of none, or of one that is only history.
    async fn put_unless_held(&self, item: Item) -> Call<Written> {
        let result = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(InstanceId) OR #state = :restored")
            .expression_attribute_names("#state", "State")
            .expression_attribute_values(":restored", s(State::Restored.as_str()))
            .send()
            .await;
        match result {
            Ok(_) => Ok(Written::Done),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(Written::Lost)
            }
            Err(error) => Err(call_error("dynamodb:PutItem", &error)),
        }
    }

    async fn extend(&self, originals: &Originals<'_>, holder: &Owner) -> Call<Written> {
        let mut expression =
            format!("SET #state = :isolating, #owner = :new, IsolationGroupId = :group, UpdatedAt = :now, {HISTORY}");
        for n in 0..originals.interfaces.len() {
            expression.push_str(&format!(
                ", Interfaces.#i{n} = if_not_exists(Interfaces.#i{n}, :g{n}), RestoreCommands.#i{n} = if_not_exists(RestoreCommands.#i{n}, :c{n})"
            ));
        }
        expression.push_str(" ADD IsolationGroupIds :groups");
        let mut update = self
            .update_held(holder, originals.instance, &expression, &originals.stamp.now)
            .expression_attribute_values(":past", lines([]))
            .expression_attribute_values(":line", lines([originals.history()]))
            .expression_attribute_values(":groups", isolation_groups(originals))
            .expression_attribute_values(":isolating", s(State::Isolating.as_str()))
            .expression_attribute_values(":new", s(originals.owner.to_string()))
            .expression_attribute_values(":group", s(originals.isolation_group.as_str()));
        for (n, (interface, groups)) in originals.interfaces.iter().enumerate() {
            update = update
                .expression_attribute_names(format!("#i{n}"), interface.as_str())
                .expression_attribute_values(format!(":g{n}"), groups_value(groups))
                .expression_attribute_values(format!(":c{n}"), s(restore_command(interface, groups)));
        }
        written(update).await
    }
}

impl Table {
    /// Nothing is protected while it is restored, so nothing is saved then.
    async fn extend_protection(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        prior: &Protection,
        now: &str,
    ) -> Call<Written> {
        let entries = protection_entries(prior);
        let commands = prior.restore_commands(instance);
        let mut expression = "SET UpdatedAt = :now".to_owned();
        for n in 0..entries.len() {
            expression.push_str(&format!(", Protection.#p{n} = if_not_exists(Protection.#p{n}, :p{n})"));
        }
        if prior.profile.is_some() {
            expression.push_str(", InstanceProfile = if_not_exists(InstanceProfile, :profile)");
        }
        for n in 0..commands.len() {
            expression.push_str(&format!(", RestoreCommands.#c{n} = if_not_exists(RestoreCommands.#c{n}, :c{n})"));
        }
        let condition =
            "#owner = :owner AND #state <> :restored AND #state <> :restoring AND attribute_exists(Protection)";
        let mut update = self
            .update_held(owner, instance, &expression, now)
            .condition_expression(condition)
            .expression_attribute_values(":restoring", s(State::Restoring.as_str()));
        if let Some(arn) = &prior.profile {
            update = update.expression_attribute_values(":profile", s(arn));
        }
        for (n, (key, value)) in entries.into_iter().enumerate() {
            update = update
                .expression_attribute_names(format!("#p{n}"), key)
                .expression_attribute_values(format!(":p{n}"), value);
        }
        for (n, (key, command)) in commands.into_iter().enumerate() {
            update = update
                .expression_attribute_names(format!("#c{n}"), key)
                .expression_attribute_values(format!(":c{n}"), s(command));
        }
        written(update).await
    }
}

/// Keys and values of the map `Protection`. That of a volume is its device: the volume was to go with the instance.
fn protection_entries(prior: &Protection) -> Vec<(String, AttributeValue)> {
    let attributes = prior.attributes.iter().map(|attribute| match attribute {
        Attribute::TerminationProtection(on) => (TERMINATION_PROTECTION.to_owned(), AttributeValue::Bool(*on)),
        Attribute::StopProtection(on) => (STOP_PROTECTION.to_owned(), AttributeValue::Bool(*on)),
        Attribute::ShutdownBehaviour(behaviour) => (SHUTDOWN_BEHAVIOUR.to_owned(), s(behaviour.as_str())),
    });
    let volumes = prior.volumes.iter().map(|(volume, device)| (volume.to_string(), s(device)));
    let group = prior.scaling_group.iter().map(|group| (SCALING_GROUP.to_owned(), s(group)));
    attributes.chain(volumes).chain(group).collect()
}

async fn written(update: UpdateItemFluentBuilder) -> Call<Written> {
    match update.send().await {
        Ok(_) => Ok(Written::Done),
        Err(error) if is_lost(&error) => Ok(Written::Lost),
        Err(error) => Err(call_error(UPDATE, &error)),
    }
}

fn is_lost<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception)
}

impl Records for Table {
    fn name(&self) -> &str {
        &self.name
    }

    async fn read(&self) -> Call<Ledger> {
        let mut ledger = Ledger::default();
        let scan = self.client.scan().table_name(&self.name).consistent_read(true);
        let mut pages = scan.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error("dynamodb:Scan", &error))?;
            for item in page.items() {
                let key = text(item, KEY).unwrap_or_default().to_owned();
                if let Some(digest) = key.strip_prefix(OWNER_PREFIX) {
                    match read_intent(item) {
                        Ok(intent) => drop(ledger.intents.insert(digest.to_owned(), intent)),
                        // Written again by the next request; what is held stands in the records.
                        Err(reason) => tracing::warn!(item = key, reason, "unreadable intent"),
                    }
                } else {
                    match read_record(item) {
                        Ok(record) => drop(ledger.records.insert(record.instance.clone(), record)),
                        Err(reason) => drop(ledger.unreadable.insert(key, reason)),
                    }
                }
            }
        }
        Ok(ledger)
    }

    async fn write_intent(&self, owner: &Owner, request_id: &str, desired: &Desired, now: &str) -> Call<Intent> {
        let key = intent_key(owner);
        let json = serde_json::to_string(desired).map_err(|error| garbled(UPDATE, error.to_string()))?;
        // Every request that ever wrote is in Requests; all but RequestId are superseded.
        let update = self
            .update(
                &key,
                "SET #owner = :owner, RequestId = :request, Desired = :desired, UpdatedAt = :now REMOVE KeptReason ADD Requests :requests",
                "attribute_not_exists(Requests) OR NOT contains(Requests, :request) OR RequestId = :request",
            )
            .expression_attribute_names("#owner", "Owner")
            .expression_attribute_values(":owner", s(owner.to_string()))
            .expression_attribute_values(":request", s(request_id))
            .expression_attribute_values(":desired", s(json))
            .expression_attribute_values(":now", s(now))
            .expression_attribute_values(":requests", AttributeValue::Ss(vec![request_id.to_owned()]))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match update.send().await {
            Ok(_) => return Ok(Intent { request_id: request_id.to_owned(), desired: desired.clone(), kept: None }),
            Err(error) if is_lost(&error) => error,
            Err(error) => return Err(call_error(UPDATE, &error)),
        };
        let item = match error.into_service_error() {
            UpdateItemError::ConditionalCheckFailedException(lost) => lost.item,
            _ => None,
        };
        match item {
            Some(item) => read_intent(&item).map_err(|reason| garbled(UPDATE, format!("item {key}: {reason}"))),
            None => {
                let mut ledger = self.read().await?;
                ledger.intents.remove(&owner.digest()).ok_or_else(|| garbled(UPDATE, format!("item {key} vanished")))
            }
        }
    }

    async fn write_kept(&self, owner: &Owner, reason: &str, now: &str) -> Call<()> {
        let update = self
            .update(intent_key(owner), "SET KeptReason = :reason, UpdatedAt = :now", "attribute_exists(InstanceId)")
            .expression_attribute_values(":reason", s(reason))
            .expression_attribute_values(":now", s(now));
        written(update).await.map(|_| ())
    }

    async fn record(&self, originals: &Originals<'_>) -> Call<Written> {
        match originals.prior {
            Prior::None => self.put_new(originals).await,
            Prior::Ours => self.extend(originals, originals.owner).await,
            Prior::Of(holder) => self.extend(originals, holder).await,
        }
    }

    async fn mark(&self, marking: &Marking<'_>) -> Call<Written> {
        let mut expression = format!("SET #state = :state, UpdatedAt = :now, {HISTORY}");
        let kept = marking.reason.filter(|_| marking.state == State::Kept);
        if marking.cut.is_some() {
            expression.push_str(", ConnectionsCut = :cut");
        }
        expression.push_str(if kept.is_some() { ", KeptReason = :reason" } else { " REMOVE KeptReason" });
        let mut update = self
            .update(marking.instance.as_str(), &expression, "#owner = :owner AND #state = :from")
            .expression_attribute_names("#owner", "Owner")
            .expression_attribute_names("#state", "State")
            .expression_attribute_values(":owner", s(marking.owner.to_string()))
            .expression_attribute_values(":from", s(marking.from.as_str()))
            .expression_attribute_values(":state", s(marking.state.as_str()))
            .expression_attribute_values(":now", s(&marking.stamp.now))
            .expression_attribute_values(":past", lines([]))
            .expression_attribute_values(":line", lines([marking.history()]));
        if let Some(reason) = kept {
            update = update.expression_attribute_values(":reason", s(reason));
        }
        if let Some(cut) = marking.cut {
            update = update.expression_attribute_values(":cut", AttributeValue::Bool(cut));
        }
        written(update).await
    }

    async fn request_snapshots(&self, owner: &Owner, instance: &InstanceId, now: &str) -> Call<Written> {
        let update = self
            .update_held(owner, instance, "SET Snapshots = :none, UpdatedAt = :now", now)
            .condition_expression("#owner = :owner AND #state <> :restored AND attribute_not_exists(Snapshots)")
            .expression_attribute_values(":none", AttributeValue::M(HashMap::new()));
        written(update).await
    }

    async fn save_snapshots(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        snapshots: &BTreeMap<VolumeId, SnapshotId>,
        now: &str,
    ) -> Call<Written> {
        let set = snapshots.iter().map(|(volume, snapshot)| (volume.to_string(), s(snapshot.as_str()))).collect();
        let update = self
            .update_held(owner, instance, "SET Snapshots = :snapshots, UpdatedAt = :now", now)
            .expression_attribute_values(":snapshots", AttributeValue::M(set));
        written(update).await
    }

    async fn save_protection(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        prior: &Protection,
        now: &str,
    ) -> Call<Written> {
        let saved = self.extend_protection(owner, instance, prior, now).await?;
        if saved == Written::Done {
            return Ok(saved);
        }
        // Either somebody else holds the record, or it was written before there was the map.
        let update = self
            .update_held(owner, instance, "SET Protection = if_not_exists(Protection, :none), UpdatedAt = :now", now)
            .expression_attribute_values(":none", AttributeValue::M(HashMap::new()));
        match written(update).await? {
            Written::Done => self.extend_protection(owner, instance, prior, now).await,
            Written::Lost => Ok(Written::Lost),
        }
    }
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

    fn named(&self, table: &str) -> Self {
        Self { client: self.client.clone(), name: table.to_owned() }
    }

    async fn take_over(&self, from: &Self, seen: &Record, takeover: &Takeover<'_>) -> Call<Written> {
        let key = s(seen.instance.as_str());
        let get = from.client.get_item().table_name(&from.name).key(KEY, key).consistent_read(true);
        let item = get.send().await.map_err(|error| call_error("dynamodb:GetItem", &error))?.item;
        // The whole item, so that nothing is left behind which a later version wrote.
        let Some(mut item) = item.filter(|item| read_record(item).as_ref() == Ok(seen)) else {
            return Ok(Written::Lost);
        };
        let groups = seen.isolation_groups.iter().chain([takeover.isolation_group]).map(ToString::to_string);
        let groups: std::collections::BTreeSet<String> = groups.collect();
        item.insert("Owner".to_owned(), s(takeover.owner.to_string()));
        item.insert("State".to_owned(), s(State::Isolating.as_str()));
        item.insert("IsolationGroupId".to_owned(), s(takeover.isolation_group.as_str()));
        item.insert("IsolationGroupIds".to_owned(), AttributeValue::Ss(groups.into_iter().collect()));
        let line = takeover.history(seen, &from.name);
        item.insert("History".to_owned(), lines(seen.history.iter().cloned().chain([line])));
        item.insert("AskedBy".to_owned(), s(takeover.stamp.asked_by));
        item.insert("UpdatedAt".to_owned(), s(&takeover.stamp.now));
        item.remove("KeptReason");
        self.put_unless_held(item).await
    }

    async fn let_go(&self, seen: &Record) -> Call<Written> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.name)
            .key(KEY, s(seen.instance.as_str()))
            .condition_expression("#owner = :owner AND #state = :state AND RecordedAt = :recorded")
            .expression_attribute_names("#owner", "Owner")
            .expression_attribute_names("#state", "State")
            .expression_attribute_values(":owner", s(seen.owner.to_string()))
            .expression_attribute_values(":state", s(seen.state.as_str()))
            .expression_attribute_values(":recorded", s(&seen.recorded_at));
        match delete.send().await {
            Ok(_) => Ok(Written::Done),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(Written::Lost)
            }
            Err(error) => Err(call_error("dynamodb:DeleteItem", &error)),
        }
    }
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn required<'a>(item: &'a Item, name: &str) -> Result<&'a str, String> {
    text(item, name).ok_or_else(|| format!("attribute {name} is missing or no string"))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn map<'a>(item: &'a Item, name: &str) -> Result<Option<&'a Item>, String> {
    let Some(value) = item.get(name) else { return Ok(None) };
    value.as_m().map(Some).map_err(|_| format!("attribute {name} is no map"))
}

fn read_intent(item: &Item) -> Result<Intent, String> {
    let desired = required(item, "Desired")?;
    Ok(Intent {
        request_id: required(item, "RequestId")?.to_owned(),
        desired: serde_json::from_str(desired).map_err(|error| format!("attribute Desired: {error}"))?,
        kept: text(item, "KeptReason").map(str::to_owned),
    })
}

fn read_record(item: &Item) -> Result<Record, String> {
    let owner = required(item, "Owner")?;
    let state = required(item, "State")?;
    let interfaces = map(item, "Interfaces")?.ok_or("attribute Interfaces is missing")?;
    let isolation_group: GroupId = parsed(required(item, "IsolationGroupId")?)?;
    let isolation_groups = item.get("IsolationGroupIds").and_then(|value| value.as_ss().ok());
    let isolation_groups = isolation_groups.into_iter().flatten().map(|id| parsed::<GroupId>(id));
    let snapshots = match map(item, "Snapshots")? {
        None => Snapshots::None,
        Some(set) if set.is_empty() => Snapshots::Requested,
        Some(set) => {
            let pairs = set.iter().map(|(volume, snapshot)| {
                let snapshot = snapshot.as_s().map_err(|_| format!("snapshot of {volume} is no string"))?;
                Ok((parsed::<VolumeId>(volume)?, parsed::<SnapshotId>(snapshot)?))
            });
            Snapshots::Taken(pairs.collect::<Result<_, String>>()?)
        }
    };
    Ok(Record {
        instance: parsed(required(item, KEY)?)?,
        owner: Owner::parse(owner).ok_or_else(|| format!("attribute Owner is {owner:?}"))?,
        state: State::parse(state).ok_or_else(|| format!("attribute State is {state:?}"))?,
        vpc: parsed(required(item, "VpcId")?)?,
        isolation_groups: isolation_groups.chain([Ok(isolation_group.clone())]).collect::<Result<_, String>>()?,
        isolation_group,
        connections_cut: item.get("ConnectionsCut").and_then(|value| value.as_bool().ok()).copied().unwrap_or(false),
        interfaces: interfaces.iter().map(|(id, groups)| read_groups(id, groups)).collect::<Result<_, String>>()?,
        recorded_at: required(item, "RecordedAt")?.to_owned(),
        snapshots,
        protection: read_protection(item)?,
        history: item
            .get("History")
            .and_then(|value| value.as_l().ok())
            .map(|lines| read_lines(lines))
            .unwrap_or_default(),
    })
}

/// For people: what cannot be read is left out.
fn read_lines(lines: &[AttributeValue]) -> Vec<String> {
    lines.iter().filter_map(|line| line.as_s().ok().cloned()).collect()
}

fn read_protection(item: &Item) -> Result<Protection, String> {
    let mut protection =
        Protection { profile: text(item, "InstanceProfile").map(str::to_owned), ..Protection::default() };
    for (key, value) in map(item, "Protection")?.into_iter().flatten() {
        let (flag, text) = (value.as_bool().ok().copied(), value.as_s().ok().map(String::as_str));
        let attribute = match key.as_str() {
            TERMINATION_PROTECTION => flag.map(Attribute::TerminationProtection),
            STOP_PROTECTION => flag.map(Attribute::StopProtection),
            SHUTDOWN_BEHAVIOUR => text.and_then(ShutdownBehaviour::parse).map(Attribute::ShutdownBehaviour),
            SCALING_GROUP => {
                protection.scaling_group =
                    Some(text.ok_or_else(|| format!("{key} in Protection is no string"))?.to_owned());
                continue;
            }
            volume => {
                let device = text.ok_or_else(|| format!("Protection of {volume} is no device"))?;
                protection.volumes.insert(parsed(volume)?, device.to_owned());
                continue;
            }
        };
        protection.attributes.insert(attribute.ok_or_else(|| format!("{key} in Protection is {value:?}"))?);
    }
    Ok(protection)
}

fn read_groups(interface: &str, groups: &AttributeValue) -> Result<(InterfaceId, Groups), String> {
    let ids = groups.as_l().map_err(|_| format!("groups of {interface} are no list"))?;
    let ids =
        ids.iter().map(|id| parsed::<GroupId>(id.as_s().map_err(|_| format!("a group of {interface} is no string"))?));
    Ok((parsed(interface)?, ids.collect::<Result<_, String>>()?))
}
