//! What an item is recognised by: the SHA-256 of all that it holds.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use crate::aws::dynamodb::item::{Item, KEY, text};
use crate::model::sha256;

/// The key of an item and the SHA-256 of what DynamoDB shows of it.
pub(super) fn digest(item: &Item) -> Option<(String, String)> {
    let json = serde_json::to_string(&item.iter().map(|(name, value)| (name, json(value))).collect::<BTreeMap<_, _>>());
    Some((text(item, KEY)?.to_owned(), sha256(&json.ok()?)))
}

/// As DynamoDB writes it. What we never write has its kind only.
fn json(value: &AttributeValue) -> Json {
    let of = |kind: &'static str, value: Json| Json::Map(BTreeMap::from([(kind.to_owned(), value)]));
    let text = |text: &String| Json::Text(text.clone());
    match value {
        AttributeValue::S(value) => of("S", text(value)),
        AttributeValue::N(value) => of("N", text(value)),
        AttributeValue::Bool(value) => of("BOOL", Json::Flag(*value)),
        AttributeValue::Null(value) => of("NULL", Json::Flag(*value)),
        AttributeValue::Ss(values) => {
            of("SS", Json::List(values.iter().collect::<BTreeSet<_>>().into_iter().map(text).collect()))
        }
        AttributeValue::L(values) => of("L", Json::List(values.iter().map(json).collect())),
        AttributeValue::M(values) => {
            of("M", Json::Map(values.iter().map(|(name, value)| (name.clone(), json(value))).collect()))
        }
        other => Json::Text(format!("{other:?}")),
    }
}

/// Its keys are in their order whatever other crates make of `serde_json`'s own maps.
#[derive(Serialize)]
#[serde(untagged)]
enum Json {
    Flag(bool),
    Text(String),
    List(Vec<Json>),
    Map(BTreeMap<String, Json>),
}
