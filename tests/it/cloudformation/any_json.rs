//! Any JSON as event: nothing panics, and whoever can be answered is, once, within 4,096 bytes.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Map, Value, json};

use crate::fleet;

/// Any JSON value, a few levels deep, with any Unicode in it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "i-[0-9a-f]{1,17}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// An event whose fields are right or anything at all.
fn any_event() -> impl Strategy<Value = Value> {
    let field = |right: Value| prop_oneof![2 => Just(right), 1 => any_json()];
    let properties = (
        field(json!([crate::A, crate::B])),
        field(json!(crate::world::VPC)),
        field(json!(crate::world::ISOLATION)),
        field(json!("true")),
        any_json(),
    );
    let properties = properties.prop_map(|(ids, vpc, group, snapshots, other)| {
        json!({"InstanceIds": ids, "VpcId": vpc, "IsolatedSecurityGroupId": group, "SnapshotVolumes": snapshots, "Rerun": other})
    });
    let request_type = prop::sample::select(vec!["Create", "Update", "Delete"]).prop_map(Value::from);
    (
        prop_oneof![3 => request_type, 1 => any_json()],
        field(json!(crate::world::STACK)),
        field(json!("Isolation")),
        any_json(),
        any_json(),
        prop_oneof![3 => properties, 1 => any_json()],
    )
        .prop_map(|(request_type, stack, logical, request, physical, properties)| {
            json!({
                "RequestType": request_type, "ResponseURL": crate::url(), "StackId": stack, "LogicalResourceId": logical,
                "RequestId": request, "PhysicalResourceId": physical, "ResourceProperties": properties,
            })
        })
}

/// Handles an event in a world of its own and returns the bodies of the answers.
fn answers(event: &Value) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = fleet();
        crate::run(&world, event.clone()).await;
        let answers = world.data().answers.clone();
        answers.iter().map(ec2_isolation::cloudformation::answer::Answer::body).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, rng_seed: RngSeed::Fixed(20_261_125), ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_survived(event in any_json()) {
        prop_assert!(answers(&event).is_empty());
    }

    #[test]
    fn any_event_with_a_usable_url_is_answered_once_and_within_bounds(event in any_event()) {
        let answers = answers(&event);
        prop_assert_eq!(answers.len(), 1);
        prop_assert!(answers[0].len() <= 4096, "{} bytes", answers[0].len());
        let body: Value = serde_json::from_str(&answers[0]).unwrap();
        for key in ["StackId", "RequestId", "LogicalResourceId"] {
            prop_assert_eq!(body[key].as_str().unwrap(), event[key].as_str().unwrap_or_default());
        }
        prop_assert!(body["PhysicalResourceId"].as_str().is_some_and(|id| !id.is_empty()));
        prop_assert!(body["Data"].as_object().unwrap().values().all(Value::is_string));
    }
}
