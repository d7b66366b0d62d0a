//! What an incident leaves behind on the local AWS, and that the commands for it, run as they are printed, leave nothing.

use serde_json::Value;

use crate::operator::{operator, run};
use crate::{Scene, cloud};

/// Of the whole account, in which other tests have left something.
fn leftovers() -> Value {
    operator(&["leftovers", "--output", "json"]).ends_with(0).json()
}

fn ids(leftovers: &Value, kind: &str) -> Vec<String> {
    let left = leftovers["left"].as_array().expect("a list").iter().filter(|left| left["kind"] == kind);
    left.map(|left| left["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn what_is_left_of_an_incident_is_named_and_deleted_by_what_is_printed() {
    let mut scene = Scene::new("op-left").await;
    let a = scene.site.launch(&scene.ec2, &[&[0]], 2).await;
    scene.incident.list(&[&a]).deploy();
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    let log_group = scene.incident.physical_id("IsolationLogGroup").await;
    let open = leftovers();
    let mut said = open["said"].as_array().unwrap().iter().filter_map(Value::as_str);
    let is_open = |line: &str| line.starts_with("Not over, so nothing of it is listed: ") && line.contains("op-left");
    assert!(said.any(is_open), "{open}");
    assert!(!ids(&open, "table").contains(&table), "{open}");
    // Terminated while it is isolated: its volumes stay.
    let of_it = aws_sdk_ec2::types::Filter::builder().name("attachment.instance-id").values(&a).build();
    let volumes = scene.ec2.describe_volumes().filters(of_it).send().await.expect("volumes");
    let volumes: Vec<String> =
        volumes.volumes().iter().filter_map(|volume| volume.volume_id().map(str::to_owned)).collect();
    let off = || aws_sdk_ec2::types::AttributeBooleanValue::builder().value(false).build();
    let change = || scene.ec2.modify_instance_attribute().instance_id(&a);
    change().disable_api_termination(off()).send().await.expect("protection is off");
    change().disable_api_stop(off()).send().await.expect("protection is off");
    scene.ec2.terminate_instances().instance_ids(&a).send().await.expect("it ends");
    run("ec2-isolation restore --stack op-left --finish --yes").ends_with(0).says("stack op-left is deleted");

    let whole = leftovers();
    let left = operator(&["leftovers", "--stack", "op-left", "--output", "json"]).ends_with(0).json();
    assert!(ids(&whole, "table").contains(&table), "{whole}");
    let named = ids(&left, "volume");
    assert!(volumes.iter().all(|volume| named.contains(volume)), "{volumes:?} in {left}");
    let snapshots = ids(&left, "snapshot");
    assert_eq!(snapshots.len(), 2, "{left}");
    assert!(snapshots.iter().all(|snapshot| ids(&whole, "snapshot").contains(snapshot)), "{snapshots:?} in {whole}");
    assert_eq!((ids(&left, "table"), ids(&left, "log_group")), (vec![table.clone()], vec![log_group]));
    assert!(left["volumes_gib"].as_u64() >= Some(2), "{left}");
    let text = operator(&["leftovers", "--stack", "op-left"]).ends_with(0).out;
    for line in text.lines().filter_map(|line| line.strip_prefix("  aws ")) {
        run(&format!("aws {line}")).ends_with(0);
    }
    let now = leftovers();
    for kind in ["volume", "snapshot", "table", "security_group"] {
        let (before, now) = (ids(&left, kind), ids(&now, kind));
        assert!(before.iter().all(|id| !now.contains(id)), "{kind}: {before:?} in {now:?}");
    }
    let tables = cloud().dynamodb().await.list_tables().send().await.expect("tables");
    assert!(!tables.table_names().contains(&table));
}
