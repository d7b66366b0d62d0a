//! The local AWS, where a test makes it awkward: short pages, hidden and vanishing resources, calls that are refused for one
//! of theirs. And the refusals that large accounts meet.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Tag};
use serde_json::json;

use crate::rules::code;
use crate::{Scene, cloud};

fn by(name: &str, values: &[&str]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.iter().map(|value| (*value).to_owned()).collect())).build()
}

/// The instances that a filter on these ids finds, page by page.
async fn pages(ec2: &Client, ids: &[&str]) -> Vec<usize> {
    let mut pages = ec2.describe_instances().filters(by("instance-id", ids)).into_paginator().page_size(1000).send();
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await {
        sizes.push(page.expect("a page").reservations().iter().map(|reservation| reservation.instances().len()).sum());
    }
    sizes
}

#[tokio::test]
async fn pages_are_as_short_as_asked_for_and_refused_where_ec2_refuses_them() {
    let scene = Scene::new("control-pages").await;
    let ec2 = &scene.ec2;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(scene.site.plain(ec2, &[0]).await);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(pages(ec2, &ids).await, [3]);
    cloud().set("page-size", &json!({"size": 2})).await;
    let short = pages(ec2, &ids).await;
    cloud().set("page-size", &json!({"size": null})).await;
    assert_eq!(short, [2, 1]);
    let named = ec2.describe_instances().instance_ids(ids[0]).max_results(5).send().await;
    assert_eq!(code(named), "InvalidParameterCombination");
    assert_eq!(code(ec2.describe_instances().max_results(4).send().await), "InvalidParameterValue");
    let unknown = ec2.describe_instances().max_results(5).next_token("nonsense").send().await;
    assert_eq!(code(unknown), "InvalidPaginationToken");
}

#[tokio::test]
async fn an_account_with_very_many_groups_refuses_reads_that_are_not_paged() {
    let scene = Scene::new("control-unpaged").await;
    let (ec2, group) = (&scene.ec2, scene.site.groups[0].as_str());
    cloud().set("unpaginated", &json!({"refused": true})).await;
    let groups = ec2.describe_security_groups().filters(by("vpc-id", &[&scene.site.vpc])).send().await;
    let interfaces = ec2.describe_network_interfaces().filters(by("tag-key", &["x"])).send().await;
    let paged = ec2.describe_security_groups().max_results(1000).send().await;
    let named = ec2.describe_security_groups().group_ids(group).send().await;
    let of_vpc = ec2.describe_network_interfaces().filters(by("vpc-id", &[&scene.site.vpc])).send().await;
    cloud().set("unpaginated", &json!({"refused": false})).await;
    for refused in [code(groups), code(interfaces)] {
        assert_eq!(refused, "OperationNotPermitted");
    }
    assert!(paged.is_ok() && named.is_ok() && of_vpc.is_ok());
}

#[tokio::test]
async fn what_is_hidden_is_left_out_of_so_many_answers_and_a_call_that_names_it_says_not_found() {
    let scene = Scene::new("control-hide").await;
    let instance = scene.site.plain(&scene.ec2, &[0]).await;
    let named = || scene.ec2.describe_instances().instance_ids(&instance).send();
    cloud().set("hide", &json!({"action": "DescribeInstances", "id": instance, "calls": 2})).await;
    assert_eq!(pages(&scene.ec2, &[&instance]).await, [0]);
    assert_eq!(code(named().await), "InvalidInstanceID.NotFound");
    assert_eq!(pages(&scene.ec2, &[&instance]).await, [1]);
    cloud().set("hide", &json!({"action": "DescribeInstances", "id": instance, "seconds": 60})).await;
    assert_eq!(pages(&scene.ec2, &[&instance]).await, [0]);
    cloud().set("hide", &json!({})).await;
    assert_eq!(pages(&scene.ec2, &[&instance]).await, [1]);
}

#[tokio::test]
async fn what_goes_is_gone_just_before_the_call_that_was_chosen() {
    let scene = Scene::new("control-gone").await;
    let group = scene.site.groups[3].as_str();
    let read = || scene.ec2.describe_security_groups().group_ids(group).send();
    cloud().set("gone", &json!({"action": "DescribeSecurityGroups", "id": group, "call": 2})).await;
    read().await.expect("it is still there");
    assert_eq!(code(read().await), "InvalidGroup.NotFound");
}

#[tokio::test]
async fn a_call_is_refused_as_a_whole_for_one_resource_of_its() {
    let scene = Scene::new("control-refuse").await;
    let (one, other) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[0]).await);
    let tag = Tag::builder().key("control").value("refuse").build();
    let change = || scene.ec2.create_tags().resources(&one).resources(&other).tags(tag.clone()).send();
    let tagged = async || {
        let found = scene.ec2.describe_instances().filters(by("tag:control", &["refuse"])).send().await.unwrap();
        found.reservations().iter().flat_map(|reservation| reservation.instances()).count()
    };
    let refusal = json!({"action": "CreateTags", "id": other, "error_code": "TagLimitExceeded", "calls": 1});
    cloud().set("refuse", &refusal).await;
    assert_eq!((code(change().await).as_str(), tagged().await), ("TagLimitExceeded", 0));
    change().await.expect("it is refused once only");
    assert_eq!(tagged().await, 2);
    cloud().set("refuse", &json!({})).await;
}

#[tokio::test]
async fn a_group_may_be_used_in_another_vpc_once_it_is_associated_with_it() {
    let scene = Scene::new("control-associated").await;
    let ec2 = &scene.ec2;
    let instance = scene.site.plain(ec2, &[0]).await;
    let interface = scene.cards(&[&instance]).await.into_keys().next().unwrap();
    let vpc = ec2.create_vpc().cidr_block("10.252.0.0/16").send().await.unwrap();
    let vpc = vpc.vpc().and_then(|vpc| vpc.vpc_id()).unwrap().to_owned();
    let group = ec2.create_security_group().group_name("elsewhere").description("elsewhere").vpc_id(&vpc);
    let group = group.send().await.unwrap().group_id().unwrap().to_owned();
    let swap =
        |group: &str| ec2.modify_network_interface_attribute().network_interface_id(&interface).groups(group).send();
    let associate = |vpc: &str| ec2.associate_security_group_vpc().group_id(&group).vpc_id(vpc).send();
    let end = || ec2.disassociate_security_group_vpc().group_id(&group).vpc_id(&scene.site.vpc).send();
    assert_eq!(code(swap(&group).await), "InvalidGroup.NotFound");
    assert_eq!(code(associate(&vpc).await), "InvalidParameterValue");
    assert_eq!(code(end().await), "InvalidParameterValue");
    associate(&scene.site.vpc).await.unwrap();
    swap(&group).await.expect("the group is associated with the interface's VPC");
    assert_eq!(code(end().await), "DependencyViolation");
    swap(&scene.site.groups[0]).await.unwrap();
    end().await.unwrap();
    assert_eq!(code(swap(&group).await), "InvalidGroup.NotFound");
}

#[tokio::test]
async fn what_a_service_of_aws_manages_is_shown_where_that_is_asked_for() {
    let scene = Scene::new("control-managed").await;
    let instance = scene.site.plain(&scene.ec2, &[0]).await;
    cloud().set("instance", &json!({"id": instance, "managed": true})).await;
    assert_eq!(pages(&scene.ec2, &[&instance]).await, [0]);
    let all = scene.ec2.describe_instances().include_managed_resources(true).instance_ids(&instance).send().await;
    assert_eq!(all.unwrap().reservations().len(), 1);
    assert_eq!(code(scene.ec2.describe_instances().instance_ids(&instance).send().await), "InvalidInstanceID.NotFound");
}

#[tokio::test]
async fn one_read_of_records_takes_a_hundred_keys_and_an_expression_of_four_kilobytes() {
    let mut scene = Scene::new("control-records").await;
    let instance = scene.site.plain(&scene.ec2, &[0]).await;
    scene
        .incident
        .set("SnapshotVolumes", "false")
        .set("CutEstablishedConnections", "false")
        .list(&[&instance])
        .deploy();
    let table = scene.incident.outputs().await["RecordsTable"].clone();
    let dynamodb = cloud().dynamodb().await;
    let read = |keys: usize, expression: String| {
        let keys = (0..keys).map(|n| HashMap::from([("InstanceId".to_owned(), AttributeValue::S(format!("i-{n:x}")))]));
        let asked =
            KeysAndAttributes::builder().set_keys(Some(keys.collect())).projection_expression(expression).build();
        dynamodb.batch_get_item().request_items(&table, asked.unwrap()).send()
    };
    read(100, "InstanceId".to_owned()).await.unwrap();
    assert_eq!(code(read(101, "InstanceId".to_owned()).await), "ValidationException");
    let long = vec!["InstanceId"; 4096 / 11 + 1].join(",");
    assert!(long.len() > 4096 - 11);
    assert_eq!(code(read(1, format!("{long},{long}")).await), "ValidationException");
    scene.incident.delete().await;
}
