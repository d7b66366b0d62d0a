//! CloudTrail's adapter: who called what. The only file that names its SDK.

use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::types::{Event, LookupAttribute, LookupAttributeKey};
use serde_json::Value;

use crate::aws::error::{garbled, sent, time};
use crate::operator::ports::{Trail, TrailEvent};
use crate::ports::Call;

const LOOKUP: &str = "cloudtrail:LookupEvents";
/// The most that it answers at once (CloudTrail API reference).
const PAGE: i32 = 50;

#[derive(Debug, Clone)]
pub struct CloudTrail(pub Client);

impl Trail for CloudTrail {
    async fn page(&self, resource: &str, next: Option<String>) -> Call<(Vec<TrailEvent>, Option<String>)> {
        let by = LookupAttribute::builder().attribute_key(LookupAttributeKey::ResourceName).attribute_value(resource);
        let by = by.build().map_err(|error| garbled(LOOKUP, error.to_string()))?;
        let request = self.0.lookup_events().lookup_attributes(by).max_results(PAGE).set_next_token(next);
        let output = sent(LOOKUP, request.send()).await?;
        let next = output.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        Ok((output.events().iter().filter_map(read).collect(), next))
    }
}

/// Nothing if it has no time or no name.
fn read(event: &Event) -> Option<TrailEvent> {
    let whole: Value = event.cloud_trail_event().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let text = |pointer: &str| whole.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let groups = whole.pointer("/requestParameters/groupSet/items").and_then(Value::as_array);
    let groups = groups.into_iter().flatten().filter_map(|group| group["groupId"].as_str().map(str::to_owned));
    let caller = text("/userIdentity/arn").or_else(|| text("/userIdentity/invokedBy"));
    Some(TrailEvent {
        at: event.event_time().and_then(time)?,
        id: event.event_id().unwrap_or_default().to_owned(),
        name: event.event_name()?.to_owned(),
        caller: caller.or_else(|| event.username().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned()),
        address: text("/sourceIPAddress"),
        error: text("/errorCode"),
        stack: text("/requestParameters/stackName"),
        interface: text("/requestParameters/networkInterfaceId").and_then(|id| id.parse().ok()),
        group: text("/requestParameters/groupId").and_then(|id| id.parse().ok()),
        groups: groups.collect(),
    })
}
