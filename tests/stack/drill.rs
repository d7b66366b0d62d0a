//! `ec2-isolation drill` on the local AWS: the real program, CloudFormation and function, from nothing to nothing.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use aws_sdk_ec2::types::Filter;
use serde_json::Value;

use crate::beside::deploy_responder;
use crate::operator::{operator, start};
use crate::{Scene, cloud};

const TAG: &str = "ec2-isolation:drill";

/// What has a drill's tag, by its kind, and the drills' stacks.
async fn left(scene: &Scene) -> Vec<String> {
    let tagged = || Filter::builder().name("tag-key").values(TAG).build();
    let ec2 = &scene.ec2;
    let mut left = Vec::new();
    let instances = ec2.describe_instances().filters(tagged()).send().await.unwrap();
    let instances = instances.reservations().iter().flat_map(|found| found.instances());
    let is_there = |state: &str| state != "terminated";
    left.extend(
        instances
            .filter(|found| found.state().and_then(|state| state.name()).is_some_and(|name| is_there(name.as_str())))
            .map(|found| found.instance_id().unwrap().to_owned()),
    );
    let found = ec2.describe_network_interfaces().filters(tagged()).send().await.unwrap();
    left.extend(found.network_interfaces().iter().map(|found| found.network_interface_id().unwrap().to_owned()));
    let found = ec2.describe_security_groups().filters(tagged()).send().await.unwrap();
    left.extend(found.security_groups().iter().map(|found| found.group_id().unwrap().to_owned()));
    let found = ec2.describe_volumes().filters(tagged()).send().await.unwrap();
    left.extend(found.volumes().iter().map(|found| found.volume_id().unwrap().to_owned()));
    left
}

/// Stacks, groups, volumes and snapshots of the account, whosever they are.
async fn everything(scene: &Scene) -> BTreeMap<&'static str, usize> {
    let ec2 = &scene.ec2;
    let stacks = cloud().cloudformation().await.describe_stacks().send().await.unwrap();
    let groups = ec2.describe_security_groups().send().await.unwrap();
    let interfaces = ec2.describe_network_interfaces().send().await.unwrap();
    let volumes = ec2.describe_volumes().send().await.unwrap();
    let snapshots = ec2.describe_snapshots().owner_ids("self").send().await.unwrap();
    [
        ("stacks", stacks.stacks().len()),
        ("groups", groups.security_groups().len()),
        ("interfaces", interfaces.network_interfaces().len()),
        ("volumes", volumes.volumes().len()),
        ("snapshots", snapshots.snapshots().len()),
    ]
    .into()
}

#[tokio::test]
async fn a_drill_confirms_what_it_sees_and_leaves_nothing() {
    let scene = Scene::prepared("drill").await;
    let responder = ["IncidentRole=true", "DetachInstanceProfile=true"];
    deploy_responder(cloud(), &[&responder[..], &["Trigger=Notify"]].concat());
    let bystander = scene.site.plain(&scene.ec2, &[0]).await;
    let (before, cards) = (everything(&scene).await, scene.cards(&[&bystander]).await);
    operator(&["drill", "--subnet", &scene.site.subnet])
        .ends_with(3)
        .says("there is no terminal to ask at; give --yes")
        .says("one t3.micro instance with a second network interface");
    assert_eq!(everything(&scene).await, before);

    let ran = operator(&["drill", "--subnet", &scene.site.subnet, "--yes"]);
    println!("{}", ran.out());
    let ran = ran.ends_with(0);
    let text = ran.out().to_owned();
    // The local AWS makes one resource after the other, each at once.
    let seen = ec2_isolation::operator::ASSUMPTIONS.iter().filter(|of| of.unseen.is_empty()).count() - 1;
    assert!(text.contains(&format!("\n{seen} confirmed, 0 refuted, ")), "{text}");
    assert!(text.contains("\nnot seen   cfn-groups-side-by-side: "), "{text}");
    assert!(text.starts_with("ec2-isolation ") && text.lines().next().unwrap().contains("Region us-east-1"), "{text}");
    assert_eq!((left(&scene).await, everything(&scene).await), (Vec::<String>::new(), before));
    assert_eq!(scene.cards(&[&bystander]).await, cards);
    assert_eq!(crate::words::resource_ids(&text), [""; 0]);
    assert!(!text.contains("123456789012") && !text.contains("arn:") && !text.contains(" 10."), "{text}");
    operator(&["drill", "--clean"]).ends_with(0).says("No drill has left anything.");
    deploy_responder(cloud(), &responder);
}

/// It is killed at several moments; what `--clean` then does is enough.
#[tokio::test]
async fn a_killed_drill_is_taken_away_by_its_tags() {
    let scene = Scene::prepared("drill-killed").await;
    let bystander = scene.site.plain(&scene.ec2, &[0]).await;
    let (before, cards) = (everything(&scene).await, scene.cards(&[&bystander]).await);
    for action in ["RunInstances", "CreateSnapshots", "CreateStack", "ExecuteChangeSet", "DeleteStack"] {
        let since = cloud().now().await;
        let mut child = start(&["drill", "--subnet", &scene.site.subnet, "--yes"]);
        while !cloud().calls(since).await.iter().any(|call| call.action == action) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before {action}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let killed = Command::new("kill").args(["-KILL", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        child.wait().unwrap();
        let cleaned = operator(&["drill", "--clean", "--yes", "--output", "json"]).ends_with(0).json();
        assert_eq!(cleaned[0]["left"], Value::Array(vec![]), "{action}");
        assert_eq!((left(&scene).await, everything(&scene).await), (Vec::<String>::new(), before.clone()), "{action}");
        assert_eq!(scene.cards(&[&bystander]).await, cards, "{action}");
    }
}
