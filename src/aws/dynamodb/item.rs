//! The items of the records table, read and written. No call is made here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::model::{
    Desired, GroupId, Groups, InstanceId, Intent, InterfaceId, Lease, Owner, Protection, Record, SnapshotId, Snapshots,
    State, Stored, Time, VolumeId, restore_command,
};
use crate::plan::Originals;
use crate::ports::{INTENT_PREFIX, Items, Stamp};

pub(crate) const KEY: &str = "InstanceId";
const UNREADABLE_PREFIX: &str = "unreadable:";
/// Items of the trigger's state machine: which findings it has handled, what it asks, how many instances it isolated in an hour.
pub(crate) const TRIGGER_PREFIX: &str = "trigger:";
/// The item that lists the open incidents: which intents the watch reads.
pub(crate) const OPEN: &str = "incidents:open";
/// Its one attribute, a set of [`Owner::digest`].
pub(crate) const OWNERS: &str = "Owners";

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn s(text: impl ToString) -> AttributeValue {
    AttributeValue::S(text.to_string())
}

/// Nothing if there are no members: DynamoDB has no empty sets.
pub(crate) fn set<T: ToString>(members: impl IntoIterator<Item = T>) -> Option<AttributeValue> {
    let members: Vec<String> = members.into_iter().map(|member| member.to_string()).collect();
    (!members.is_empty()).then_some(AttributeValue::Ss(members))
}

pub(crate) fn lines(lines: impl IntoIterator<Item = String>) -> AttributeValue {
    AttributeValue::L(lines.into_iter().map(s).collect())
}

pub(crate) fn no_entries() -> AttributeValue {
    AttributeValue::M(Item::new())
}

pub(crate) fn intent_key(owner: &Owner) -> String {
    format!("{INTENT_PREFIX}{}", owner.digest())
}

/// Where an item of that key goes which cannot be read.
pub(crate) fn unreadable_key(key: &str, stamp: &Stamp<'_>) -> String {
    format!("{UNREADABLE_PREFIX}{key}:{}", stamp.now)
}

/// The groups of interfaces, for the map `Interfaces`.
pub(crate) fn interface_entries(interfaces: &BTreeMap<InterfaceId, Groups>) -> Vec<(String, AttributeValue)> {
    let entry =
        |(id, groups): (&InterfaceId, &Groups)| (id.to_string(), AttributeValue::L(groups.iter().map(s).collect()));
    interfaces.iter().map(entry).collect()
}

/// What puts them back, for the map `RestoreCommands`. An interface cannot be given no groups.
pub(crate) fn interface_commands(interfaces: &BTreeMap<InterfaceId, Groups>) -> Vec<(String, AttributeValue)> {
    let known = interfaces.iter().filter(|(_, groups)| !groups.is_empty());
    known.map(|(id, groups)| (id.to_string(), s(restore_command(id, groups)))).collect()
}

/// Keys and values of the map `Protection`.
pub(crate) fn protection_entries(prior: &Protection) -> impl Iterator<Item = (String, AttributeValue)> {
    prior.entries().into_iter().map(|(name, value)| match value {
        Stored::Flag(on) => (name, AttributeValue::Bool(on)),
        Stored::Text(text) => (name, s(text)),
    })
}

/// A new record, without its key, its history and what outlives it.
pub(crate) fn new_record(
    owner: &Owner,
    (originals, lease): &(Originals, Lease),
    stamp: &Stamp<'_>,
) -> Vec<(&'static str, AttributeValue)> {
    let map = |entries: Vec<_>| AttributeValue::M(entries.into_iter().collect());
    let mut record = vec![
        ("Owner", s(owner)),
        ("State", s(State::Isolating.as_str())),
        ("VpcId", s(&originals.vpc)),
        ("IsolationGroupId", s(&originals.isolation_group)),
        ("Interfaces", map(interface_entries(&originals.interfaces))),
        ("RestoreCommands", map(interface_commands(&originals.interfaces))),
        ("Protection", no_entries()),
        ("Snapshots", no_entries()),
        ("LeaseWriter", s(&lease.writer)),
        ("LeaseUntil", s(lease.until)),
        ("AskedBy", s(stamp.asked_by)),
        ("RecordedAt", s(stamp.now)),
        ("UpdatedAt", s(stamp.now)),
    ];
    record.extend(set(originals.groups()).map(|groups| ("IsolationGroupIds", groups)));
    record
}

/// Puts an item where it belongs.
pub(crate) fn sort(item: &Item, items: &mut Items) {
    let key = text(item, KEY).unwrap_or_default();
    if key == OPEN || key.starts_with(UNREADABLE_PREFIX) || key.starts_with(TRIGGER_PREFIX) {
        return;
    }
    if let Some(digest) = key.strip_prefix(INTENT_PREFIX) {
        match read_intent(item) {
            Ok(intent) => drop(items.intents.insert(digest.to_owned(), intent)),
            Err(reason) => drop(items.unreadable.insert(key.to_owned(), reason)),
        }
        return;
    }
    match read_record(item) {
        Ok(record) => drop(items.records.insert(record.instance.clone(), Arc::new(record))),
        Err(reason) => drop(items.unreadable.insert(key.to_owned(), reason)),
    }
}

pub(crate) fn read_intent(item: &Item) -> Result<Intent, String> {
    let desired = serde_json::from_str(required(item, "Desired")?);
    let owner = required(item, "Owner")?;
    Ok(Intent {
        owner: Owner::parse(owner).ok_or_else(|| format!("attribute Owner is {owner:?}"))?,
        request_id: required(item, "RequestId")?.to_owned(),
        issued: issued(item)?,
        // The next request writes it anew; what is held is known all the same.
        desired: desired.unwrap_or_else(|error| Desired::Unknown(format!("attribute Desired: {error}"))),
        held: members(item, "Held")?,
        kept: text(item, "KeptReason").map(str::to_owned),
    })
}

fn issued(item: &Item) -> Result<Option<Time>, String> {
    let Some(value) = item.get("IssuedAt") else { return Ok(None) };
    value.as_s().map_err(|_| "attribute IssuedAt is no string".to_owned()).and_then(|text| parsed(text)).map(Some)
}

/// What makes an intent readable, and lets the next request write it: a value for each attribute that is in the way, or none. What
/// it holds is not left to what can be read of it, but where the rest is `known`.
pub(crate) fn mended(
    item: &Item,
    owner: &Owner,
    known: Option<&BTreeSet<InstanceId>>,
) -> Vec<(&'static str, Option<AttributeValue>)> {
    let mut values = Vec::new();
    if text(item, "Owner").and_then(Owner::parse).is_none() {
        values.push(("Owner", Some(s(owner))));
    }
    for name in ["RequestId", "Desired"].into_iter().filter(|name| text(item, name).is_none()) {
        values.push((name, Some(s("unreadable"))));
    }
    if issued(item).is_err() {
        values.push(("IssuedAt", None));
    }
    if members::<String>(item, "Requests").is_err() {
        values.push(("Requests", None));
    }
    if let Some(known) = known.filter(|_| members::<InstanceId>(item, "Held").is_err()) {
        values.push(("Held", set(held_by(item).union(known))));
    }
    values
}

/// What an intent holds: as much of it as can be read, with what it asked for last.
pub(crate) fn held_by(item: &Item) -> BTreeSet<InstanceId> {
    let asked = match text(item, "Desired").and_then(|text| serde_json::from_str(text).ok()) {
        Some(Desired::Isolated(wants)) => wants.instances,
        Some(Desired::Restored | Desired::Unknown(_)) | None => vec![],
    };
    texts(item, "Held").into_iter().filter_map(|text| text.parse().ok()).chain(asked).collect()
}

/// The members of what is to be a set, as much of it as can be read.
pub(crate) fn texts<'a>(item: &'a Item, name: &str) -> BTreeSet<&'a str> {
    let texts: Vec<&str> = match item.get(name) {
        Some(AttributeValue::Ss(members)) => members.iter().map(String::as_str).collect(),
        Some(AttributeValue::L(members)) => {
            members.iter().filter_map(|member| member.as_s().ok()).map(String::as_str).collect()
        }
        Some(AttributeValue::S(text)) => text.split(',').collect(),
        _ => vec![],
    };
    texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect()
}

pub(crate) fn read_record(item: &Item) -> Result<Record, String> {
    let owner = required(item, "Owner")?;
    let state = required(item, "State")?;
    let interfaces = map(item, "Interfaces")?.ok_or("attribute Interfaces is missing")?;
    let isolation_group: GroupId = parsed(required(item, "IsolationGroupId")?)?;
    let mut isolation_groups: Groups = members(item, "IsolationGroupIds")?;
    isolation_groups.insert(isolation_group.clone());
    let taken = map(item, "Snapshots")?.into_iter().flatten().map(|(volume, snapshot)| {
        let snapshot = snapshot.as_s().map_err(|_| format!("snapshot of {volume} is no string"))?;
        Ok((parsed::<VolumeId>(volume)?, parsed::<SnapshotId>(snapshot)?))
    });
    let lease = match text(item, "LeaseWriter") {
        Some(writer) => Some(Lease {
            writer: writer.to_owned(),
            until: parsed(required(item, "LeaseUntil")?)?,
            only: members(item, "LeaseOnly")?,
        }),
        None => None,
    };
    Ok(Record {
        instance: parsed(required(item, KEY)?)?,
        owner: Owner::parse(owner).ok_or_else(|| format!("attribute Owner is {owner:?}"))?,
        state: State::parse(state).ok_or_else(|| format!("attribute State is {state:?}"))?,
        vpc: parsed(required(item, "VpcId")?)?,
        isolation_group,
        isolation_groups,
        interfaces: interfaces.iter().map(|(id, groups)| read_groups(id, groups)).collect::<Result<_, String>>()?,
        connections_cut: item.get("ConnectionsCut").and_then(|value| value.as_bool().ok()).copied().unwrap_or(false),
        passed: members(item, "Passed")?,
        recorded_at: parsed(required(item, "RecordedAt")?)?,
        lease,
        snapshots: Snapshots {
            taken: taken.collect::<Result<_, String>>()?,
            requested: item.contains_key("SnapshotsRequestedAt"),
        },
        returns: number(item, "ReturnCount")?,
        protection: read_protection(item)?,
        history: read_history(item),
    })
}

/// For people: what cannot be read is left out.
pub(crate) fn read_history(item: &Item) -> Vec<String> {
    let lines = item.get("History").and_then(|value| value.as_l().ok());
    lines.into_iter().flatten().filter_map(|line| line.as_s().ok().cloned()).collect()
}

fn read_protection(item: &Item) -> Result<Protection, String> {
    let mut protection =
        Protection { profile: text(item, "InstanceProfile").map(str::to_owned), ..Protection::default() };
    for (name, value) in map(item, "Protection")?.into_iter().flatten() {
        let stored = match value {
            AttributeValue::Bool(on) => Stored::Flag(*on),
            AttributeValue::S(text) => Stored::Text(text.clone()),
            other => return Err(format!("{name} in Protection is {other:?}")),
        };
        protection.read(name, &stored)?;
    }
    Ok(protection)
}

fn read_groups(interface: &str, groups: &AttributeValue) -> Result<(InterfaceId, Groups), String> {
    let ids = groups.as_l().map_err(|_| format!("groups of {interface} are no list"))?;
    let ids =
        ids.iter().map(|id| parsed::<GroupId>(id.as_s().map_err(|_| format!("a group of {interface} is no string"))?));
    Ok((parsed(interface)?, ids.collect::<Result<_, String>>()?))
}

pub(crate) fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// None is written as long as it is zero.
fn number(item: &Item, name: &str) -> Result<u64, String> {
    let Some(value) = item.get(name) else { return Ok(0) };
    let parsed = value.as_n().ok().and_then(|number| number.parse().ok());
    parsed.ok_or_else(|| format!("attribute {name} is no whole number"))
}

fn required<'a>(item: &'a Item, name: &str) -> Result<&'a str, String> {
    text(item, name).ok_or_else(|| format!("attribute {name} is missing or no string"))
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

pub(crate) fn map<'a>(item: &'a Item, name: &str) -> Result<Option<&'a Item>, String> {
    let Some(value) = item.get(name) else { return Ok(None) };
    value.as_m().map(Some).map_err(|_| format!("attribute {name} is no map"))
}

pub(crate) fn members<T: FromStr<Err: Display> + Ord>(item: &Item, name: &str) -> Result<BTreeSet<T>, String> {
    let Some(value) = item.get(name) else { return Ok(BTreeSet::new()) };
    let members = value.as_ss().map_err(|_| format!("attribute {name} is no set of strings"))?;
    members.iter().map(|member| parsed(member)).collect()
}
