//! What each event of `events/watch` says, by CloudTrail's own shape.

use std::collections::BTreeMap;

use ec2_isolation::watch::{Cause, Trigger};
use serde_json::{Value, json};

/// Every sample but the schedules, as the rule passes it on.
pub fn samples() -> BTreeMap<String, Value> {
    let files = std::fs::read_dir("events/watch").unwrap().map(|entry| entry.unwrap().path());
    let read = files.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        (name, event)
    });
    read.filter(|(name, _)| !name.starts_with("schedule")).collect()
}

/// What the rule's target makes of a sample.
pub fn passed_on(sample: &Value) -> Value {
    json!({"Watch": {"Event": sample["detail"]}})
}

fn causes() -> BTreeMap<String, Cause> {
    let cause = |sample: &Value| Trigger::read(&passed_on(sample)).unwrap().cause.unwrap();
    samples().iter().map(|(name, sample)| (name.clone(), cause(sample))).collect()
}

#[test]
fn a_controller_is_told_from_a_person() {
    let causes = causes();
    let controllers: Vec<&str> =
        causes.iter().filter(|(_, cause)| cause.is_controller).map(|(name, _)| name.as_str()).collect();
    let expected = [
        "attach-network-interface-by-an-eks-controller",
        "modify-network-interface-attribute-by-an-eks-controller",
        "modify-network-interface-attribute-by-the-instance",
        "modify-network-interface-attribute-refused",
        "revoke-security-group-ingress",
        "terminate-instances-by-auto-scaling",
    ];
    assert_eq!(controllers, expected);
}

#[test]
fn each_says_what_was_called_by_whom_when_and_on_what() {
    let causes = causes();
    assert!(causes.len() >= 25, "{}", causes.len());
    for (name, cause) in &causes {
        assert!(!cause.ids.is_empty(), "{name} names nothing");
        assert_ne!(cause.call, "an event", "{name}");
        assert_eq!(cause.by.is_some() && cause.at.is_some(), !name.contains("state-change"), "{name}");
        assert_eq!(cause.is_refused, name.ends_with("refused"), "{name}");
        let keys = ["AKIA", "ASIA", "accessKeyId"];
        assert!(!keys.iter().any(|key| format!("{cause:?}").contains(key)), "{name} tells a key");
    }
    let said = causes["modify-network-interface-attribute-by-a-person"].to_string();
    assert_eq!(said, "ModifyNetworkInterfaceAttribute by arn:aws:iam::123456789012:user/alice at 2026-11-25T08:17:42Z");
}

#[test]
fn a_schedule_names_one_incident_or_none() {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("events/watch/{name}.json")).unwrap();
        Trigger::read(&serde_json::from_str(&text).unwrap()).unwrap()
    };
    assert_eq!(read("schedule-of-all"), Trigger { owner: None, cause: None });
    let owner = read("schedule").owner.unwrap();
    assert_eq!((owner.stack_name(), owner.logical_id.as_str()), ("incident-2026-11-25", "Isolation"));
    assert!(Trigger::read(&json!({"RequestType": "Create"})).is_none());
}
