//! What may end an isolated instance, on the deployed stack: named in the answer, in `status` and in
//! the report, with commands that run.

use aws_sdk_ec2::types::Tag;
use serde_json::{Value, json};

use crate::fleet::aws;
use crate::operator::{operator, run};
use crate::{Scene, cloud};

const NOT_BEFORE: &str = "2026-12-01T04:00:00.000Z";

/// Elastic Load Balancing, as an administrator.
fn elbv2(operation: &str, arguments: &Value) -> Value {
    aws(&cloud().credentials(), "elbv2", operation, arguments).expect("it may")
}

#[tokio::test]
async fn what_may_end_an_isolated_instance_is_named_and_the_command_takes_it_out_of_its_target_group() {
    let mut scene = Scene::new("endings").await;
    let node = scene.site.plain(&scene.ec2, &[0]).await;
    let spot = scene.site.spot(&scene.ec2).await;
    let tag = Tag::builder().key("karpenter.sh/nodepool").value("default").build();
    scene.ec2.create_tags().resources(&node).tags(tag).send().await.expect("a tag");
    let events = json!([
        {"code": "instance-retirement", "description": "The instance is running on degraded hardware", "notBefore": NOT_BEFORE},
        {"code": "system-reboot", "description": "[Completed] a reboot", "notBefore": NOT_BEFORE},
    ]);
    cloud().set("scheduled-events", &json!({"instance": node, "events": events})).await;
    let vpc = scene.incident.parameters()["VpcId"].clone();
    let group = elbv2("create_target_group", &json!({"Name": "endings", "Protocol": "HTTP", "Port": 80, "VpcId": vpc}));
    let group = group["TargetGroups"][0]["TargetGroupArn"].as_str().expect("an ARN").to_owned();
    elbv2("register_targets", &json!({"TargetGroupArn": group, "Targets": [{"Id": node, "Port": 8080}]}));

    scene.incident.list(&[&node, &spot]).deploy();
    scene.assert_isolated(&[&node, &spot]).await;
    let answers = cloud().get("answers").await;
    let answers = answers.as_array().expect("a list");
    let reasons: Vec<&str> = answers.iter().filter_map(|answer| answer["body"].as_str()).collect();
    let retirement = format!("AWS has scheduled instance-retirement of {node} from 2026-12-01T04:00:00Z on");
    for said in [
        format!("{node} is a node of Karpenter's pool default, by its tags"),
        format!("{spot} is a Spot Instance: EC2 may end it"),
    ] {
        assert!(reasons.iter().any(|reason| reason.contains(&said)), "{said}: {reasons:?}");
    }

    let status = operator(&["status", "--stack", "endings", "--output", "json"]).ends_with(0).json();
    let all = status["instances"].as_array().expect("a list").iter();
    let warnings: Vec<&str> =
        all.flat_map(|instance| instance["warnings"].as_array().expect("a list")).filter_map(Value::as_str).collect();
    assert!(warnings.iter().any(|warning| warning.starts_with(&retirement)), "{warnings:?}");
    assert!(!warnings.iter().any(|warning| warning.contains("system-reboot")), "that is over: {warnings:?}");
    let listed = format!("target group endings lists {node}: ");
    let listed = warnings.iter().find(|warning| warning.starts_with(&listed)).expect("it is named");
    let (_, command) = listed.split_once("Take it out: ").expect("a command");
    operator(&["report", "--stack", "endings"])
        .ends_with(0)
        .says("target group endings lists")
        .says("instance-retirement");
    run(command).ends_with(0);
    let health = elbv2("describe_target_health", &json!({"TargetGroupArn": group}));
    assert_eq!(health["TargetHealthDescriptions"], json!([]), "{health}");
    let after = operator(&["status", "--stack", "endings"]).ends_with(0).out;
    assert!(!after.contains("target group endings"), "{after}");

    cloud().set("scheduled-events", &json!({"instance": node, "events": []})).await;
    elbv2("delete_target_group", &json!({"TargetGroupArn": group}));
    scene.incident.delete().await;
}
