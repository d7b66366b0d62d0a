//! The watch in the demo: an interface is attached to an isolated instance, and a message tells of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Clock;
use crate::beside::RESPONDER;
use crate::cloud::Cloud;
use crate::fleet::{Site, cards};

/// Plays it through, and takes the interface away again: what went wrong.
pub async fn show(cloud: &Cloud, clock: &Clock, ec2: &aws_sdk_ec2::Client, site: &Site, instance: &str) -> Vec<String> {
    let mut faults = Vec::new();
    watch(cloud).await;
    cloud.set("alarms", &json!({})).await;
    clock.step(&format!("aws ec2 attach-network-interface --instance-id {instance}: nobody asked the isolation"));
    let added = site.attach(ec2, instance, &[0]).await;
    clock.step("five minutes pass: EventBridge's schedule calls the function, CloudWatch evaluates its alarms");
    let found = watch(cloud).await;
    println!("    {found}");
    let messages = messages(cloud).await;
    for (subject, message) in &messages {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        println!("\n    {subject}\n    {}\n    {}", text("AlarmDescription"), text("NewStateReason"));
    }
    println!();
    let is_told = found.to_string().contains(&added)
        && messages.iter().any(|(subject, message)| {
            subject.starts_with("ALARM: \"ec2-isolation-incident-prepared-not-isolated\"")
                && message["AlarmDescription"].to_string().contains("ec2-isolation status --stack incident-prepared")
        });
    if !is_told {
        faults.push(format!("prepared: nobody was told of {added}"));
    }

    clock.step("detach-network-interface, and the next look");
    let shown = ec2.describe_network_interfaces().network_interface_ids(&added).send().await.expect("it is there");
    let attachment = shown.network_interfaces()[0].attachment().and_then(|found| found.attachment_id());
    let detached = ec2.detach_network_interface().attachment_id(attachment.expect("an id")).force(true).send().await;
    detached.expect("it can be detached");
    ec2.delete_network_interface().network_interface_id(&added).send().await.expect("nobody uses it");
    cards(ec2, &[instance]).await;
    let found = watch(cloud).await;
    if found["not_isolated"] != 0 {
        faults.push(format!("prepared: the watch still tells of an interface that is gone: {found}"));
    }
    faults
}

/// What the function says when the schedule calls it.
async fn watch(cloud: &Cloud) -> Value {
    let since = cloud.get("invocations").await.as_array().map_or(0, Vec::len);
    cloud.set("schedule", &json!({"stack": RESPONDER})).await;
    for _ in 0..600 {
        let calls = cloud.get(&format!("invocations?since={since}")).await;
        if calls[0]["status"] != "running" {
            return calls[0]["answer"].clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    json!("the function never ended")
}

/// What is published when the alarms are evaluated: subject and message.
async fn messages(cloud: &Cloud) -> Vec<(String, Value)> {
    let since = cloud.get("messages").await.as_array().map_or(0, Vec::len);
    cloud.set("alarms", &json!({})).await;
    let messages = cloud.get(&format!("messages?since={since}")).await;
    let read = |one: &Value| {
        let message = one["message"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        (one["subject"].as_str().unwrap_or_default().to_owned(), message)
    };
    messages.as_array().expect("a list").iter().map(read).collect()
}
