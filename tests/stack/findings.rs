//! Findings for the trigger, and what it tells of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::Cloud;

/// One of events/findings/.
pub fn finding(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("events/findings/{name}.json")).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

/// GuardDuty's finding of this id about this instance.
pub async fn find(cloud: &Cloud, id: &str, instance: &str) {
    let mut event = finding("guardduty-instance");
    event["detail"]["id"] = json!(id);
    event["detail"]["resource"]["instanceDetails"]["instanceId"] = json!(instance);
    cloud.set("event", &event).await;
}

/// How many messages were sent.
pub async fn so_far(cloud: &Cloud) -> usize {
    cloud.get("messages").await.as_array().expect("a list").len()
}

/// The next message, subject and text.
pub async fn told(cloud: &Cloud, since: usize) -> (String, String) {
    for _ in 0..1200 {
        let messages = cloud.get(&format!("messages?since={since}")).await;
        if let Some(first) = messages.as_array().expect("a list").first() {
            let text = |name: &str| first[name].as_str().expect("a text").to_owned();
            return (text("subject"), text("message"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing was told");
}

/// The id in the subject of a question.
pub fn question(subject: &str) -> &str {
    let id = subject.strip_prefix("ec2-isolation: approve ").and_then(|rest| rest.strip_suffix('?'));
    id.unwrap_or_else(|| panic!("{subject} asks nothing"))
}

/// The time for the answer is over.
pub async fn expire(cloud: &Cloud) {
    for _ in 0..100 {
        if cloud.put("expire", &json!({})).await["expired"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no question waits");
}
