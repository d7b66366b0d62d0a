//! The life of an incident when something goes wrong.

use serde_json::json;

use crate::cloud::changed_template;
use crate::{Scene, cloud, fleet};

#[tokio::test]
async fn an_instance_of_another_vpc_fails_the_stack_and_the_others_are_isolated() {
    let mut scene = Scene::new("other-vpc").await;
    let elsewhere = Scene::new("elsewhere").await;
    let (a, stranger) = (scene.site.plain(&scene.ec2, &[0]).await, elsewhere.site.plain(&scene.ec2, &[0]).await);
    let (before, untouched) = (scene.cards(&[&a]).await, scene.cards(&[&stranger]).await);
    let reason = scene.incident.list(&[&stranger, &a]).deploy_fails().await;
    let expected = format!(
        "1 of 2 instances isolated (1 interface), 1 snapshot | {stranger} is in {}, not in {}: isolate it with a stack of its own, with VpcId {} | next: remove the cause, then deploy again with a new Rerun; what is recorded is in table other-vpc-SecurityGroupTable-",
        elsewhere.site.vpc, scene.site.vpc, elsewhere.site.vpc
    );
    assert!(reason.contains(&expected), "{reason}");
    scene.assert_isolated(&[&a]).await;
    assert_eq!(scene.cards(&[&stranger]).await, untouched);
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// The Delete of the failed resource comes before or after the new Create, as CloudFormation likes: the instance stays
/// isolated throughout.
async fn a_failed_create_is_corrected_by_deploying_again(delete: &str) {
    cloud().set("failed-resource-order", &json!({"delete": delete})).await;
    let mut scene = Scene::new(&format!("corrected-{delete}")).await;
    let elsewhere = Scene::new(&format!("corrected-{delete}-elsewhere")).await;
    let (a, stranger) = (scene.site.plain(&scene.ec2, &[0]).await, elsewhere.site.plain(&scene.ec2, &[0]).await);
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&stranger, &a]).deploy_fails().await;
    let group = scene.incident.physical_id("IsolatedSecurityGroup").await;
    let since = cloud().now().await;
    scene.incident.list(&[&a]).deploy();
    scene.assert_isolated(&[&a]).await;
    assert_eq!(scene.incident.physical_id("IsolatedSecurityGroup").await, group);
    let calls = cloud().calls(since).await;
    let swaps: Vec<_> = calls.iter().filter(|call| call.action == "ModifyNetworkInterfaceAttribute").collect();
    // A Delete that comes first marks the record kept, and the Create after it does not believe what it reads.
    assert_eq!(swaps.len(), if delete == "before" { 1 } else { 0 });
    for swap in swaps {
        let groups: Vec<_> = swap.parameters.iter().filter(|(name, _)| name.starts_with("SecurityGroupId")).collect();
        assert_eq!(groups, [(&"SecurityGroupId.1".to_owned(), &group)], "the instance left its isolation");
    }
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn a_failed_create_is_corrected_when_its_delete_comes_before_the_new_create() {
    a_failed_create_is_corrected_by_deploying_again("before").await;
}

#[tokio::test]
async fn a_failed_create_is_corrected_when_its_delete_comes_after_the_new_create() {
    a_failed_create_is_corrected_by_deploying_again("after").await;
}

#[tokio::test]
async fn a_rollback_because_of_the_forensic_host_leaves_everything_isolated_and_recorded() {
    let mut scene = Scene::new("rollback").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    scene.incident.options = vec!["--no-disable-rollback"];
    let template = changed_template("rollback", str::to_owned);
    scene.incident.template = template;
    let (succeeded, output) = scene.incident.list(&[&a]).try_deploy();
    cloud().set("launch-failure", &json!({"error_code": null})).await;
    assert!(!succeeded, "{output}");
    assert_eq!(scene.incident.status().await, "ROLLBACK_FAILED");
    scene.assert_isolated(&[&a]).await;
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    assert_eq!(scene.incident.states(&table).await[&a], "kept");
}

#[tokio::test]
async fn a_rollback_releases_where_that_is_asked_for() {
    let mut scene = Scene::new("rollback-restore").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    scene.incident.options = vec!["--no-disable-rollback"];
    let (succeeded, output) = scene.incident.set("OnRollback", "Restore").list(&[&a]).try_deploy();
    cloud().set("launch-failure", &json!({"error_code": null})).await;
    assert!(!succeeded, "{output}");
    assert_eq!(scene.incident.status().await, "ROLLBACK_COMPLETE");
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// Which of its interfaces is refused, and when the Delete of the failed creation comes, makes no difference.
async fn an_interface_that_ec2_refuses(device: usize, delete: &str) {
    cloud().set("failed-resource-order", &json!({"delete": delete})).await;
    let mut scene = Scene::new(&format!("refused-{device}-{delete}")).await;
    let a = scene.site.launch(&scene.ec2, &[&[0], &[1]], 1).await;
    let before = scene.cards(&[&a]).await;
    let refused = fleet::interface_at(&scene.ec2, &a, device).await;
    cloud().set("interface", &json!({"id": refused, "requester_managed": true})).await;
    let reason = scene.incident.list(&[&a]).deploy_fails().await;
    assert!(reason.contains("0 of 1 instance isolated (1 interface)"), "{reason}");
    assert!(reason.contains(&format!("{a}: isolate {refused}")), "{reason}");
    assert!(reason.contains("ec2:ModifyNetworkInterfaceAttribute failed: AuthFailure: "), "{reason}");
    let (succeeded, output) = scene.incident.set("AllowPartialIsolation", "true").try_deploy();
    assert!(succeeded, "{:?}\n{output}", scene.incident.reasons("Isolation").await);
    assert_eq!(scene.incident.outputs().await["NotIsolated"], format!("{a}/{refused}"));
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn an_interface_that_ec2_refuses_is_named_and_can_be_accepted() {
    an_interface_that_ec2_refuses(0, "after").await;
    an_interface_that_ec2_refuses(1, "before").await;
}

#[tokio::test]
async fn an_instance_that_does_not_exist_is_named_and_the_others_are_isolated() {
    let mut scene = Scene::new("unknown").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    // As a parameter CloudFormation would refuse it: the template itself names it.
    let list = format!("[i-0123456789abcdef0, {a}]");
    scene.incident.template = changed_template("unknown", |text| {
        let lines = text.lines().scan(false, |inside, line| {
            let reference = *inside && line.trim() == "Ref: CompromisedInstanceList";
            *inside = line.trim() == "InstanceIds:";
            Some(if reference { format!("        {list}") } else { line.to_owned() })
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    });
    let reason = scene.incident.list(&[&a]).deploy_fails().await;
    let expected = "i-0123456789abcdef0 does not exist in this account and region: check the id, or take it off CompromisedInstanceList";
    assert!(reason.contains(expected), "{reason}");
    scene.assert_isolated(&[&a]).await;
    scene.incident.delete().await;
}

#[tokio::test]
async fn an_isolation_group_that_somebody_opened_fails_the_next_run() {
    let mut scene = Scene::new("opened").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).deploy();
    let group = scene.incident.physical_id("IsolatedSecurityGroup").await;
    let open = scene.ec2.authorize_security_group_ingress().group_id(&group).ip_protocol("tcp");
    open.from_port(443).to_port(443).cidr_ip("0.0.0.0/0").send().await.expect("a rule");
    let reason = scene.incident.set("Rerun", "again").deploy_fails().await;
    let expected = format!("isolation group {group} allows in tcp 443 0.0.0.0/0: instances in it are not isolated");
    assert!(reason.contains(&expected), "{reason}");
    let close = scene.ec2.revoke_security_group_ingress().group_id(&group).ip_protocol("tcp");
    close.from_port(443).to_port(443).cidr_ip("0.0.0.0/0").send().await.expect("no rule");
    scene.incident.delete().await;
}

#[tokio::test]
async fn the_branches_of_a_trunk_are_named() {
    let mut scene = Scene::new("trunk").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let trunk = scene.cards(&[&a]).await.into_keys().next().unwrap();
    let branch = scene.site.branch(&scene.ec2, cloud(), &trunk, 1).await;
    let reason = scene.incident.list(&[&a]).deploy_fails().await;
    assert!(reason.contains(&format!("{a}: {branch}, a branch of its trunk {trunk}, is in [")), "{reason}");
    scene.assert_isolated(&[&a]).await;
    scene.incident.set("AllowPartialIsolation", "true").deploy();
    assert_eq!(scene.incident.outputs().await["NotIsolated"], format!("{a}/{branch}"));
    scene.incident.delete().await;
}
