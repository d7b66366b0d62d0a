//! The life of an incident when AWS does what it is asked.

use std::collections::BTreeSet;

use crate::cloud::changed_template;
use crate::fleet::{self, interface_at, set_groups};
use crate::{Incident, Scene, cloud};

#[tokio::test]
async fn deleting_the_stack_gives_every_interface_back_what_it_had() {
    let mut scene = Scene::new("delete").await;
    let two = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 2).await;
    let plain = scene.site.plain(&scene.ec2, &[3]).await;
    let bystander = scene.site.plain(&scene.ec2, &[0]).await;
    let (before, beside) = (scene.cards(&[&two, &plain]).await, scene.cards(&[&bystander]).await);
    let since = cloud().now().await;

    scene.incident.list(&[&two, &plain]).deploy();
    scene.assert_isolated(&[&two, &plain]).await;
    let outputs = scene.incident.outputs().await;
    assert_eq!(outputs["IsolatedInstanceCount"], "2");
    assert_eq!(outputs["IsolatedInterfaceCount"], "3");
    assert_eq!(outputs["SnapshotCount"], "3");
    assert_eq!(outputs["NotIsolated"], "");
    assert_eq!(outputs["Summary"], "2 instances isolated (3 interfaces), 3 snapshots");
    assert!(outputs["ForensicHostSsh"].starts_with("ssh -i \"delete.pem\" ubuntu@"), "{outputs:?}");
    let table = &outputs["RecordsTable"];
    assert_eq!(scene.incident.states(table).await[&plain], "isolated");

    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&two, &plain]).await, before);
    assert_eq!(scene.cards(&[&bystander]).await, beside);
    assert_eq!(scene.incident.states(table).await, [(two, "restored".into()), (plain, "restored".into())].into());
    // All of that page by page (LARGE_ACCOUNT).
    let pages = cloud().calls(since).await.into_iter().filter(|call| call.parameters.contains_key("NextToken"));
    let pages: BTreeSet<String> = pages.map(|call| call.action).collect();
    assert!(pages.contains("DescribeSecurityGroups"), "{pages:?}");
}

#[tokio::test]
async fn an_instance_taken_off_the_list_stays_isolated() {
    let mut scene = Scene::new("removal-keep").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]).deploy();
    scene.incident.list(&[&b]).deploy();
    scene.assert_isolated(&[&a, &b]).await;
    assert_eq!(scene.incident.outputs().await["IsolatedInstances"], b);
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

#[tokio::test]
async fn an_instance_taken_off_the_list_is_restored_where_that_is_asked_for() {
    let mut scene = Scene::new("removal-restore").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a]).await;
    scene.incident.set("OnRemoval", "Restore").list(&[&a]).deploy();
    scene.assert_isolated(&[&a]).await;
    scene.incident.list(&[&b]).deploy();
    scene.assert_isolated(&[&b]).await;
    assert_eq!(scene.cards(&[&a]).await, before);
    let summary = &scene.incident.outputs().await["Summary"];
    assert_eq!(
        *summary,
        format!("1 instance isolated (1 interface), 1 snapshot, {a} restored that are no longer listed")
    );
    scene.incident.delete().await;
}

#[tokio::test]
async fn a_rerun_of_an_unchanged_stack_changes_nothing() {
    let mut scene = Scene::new("rerun").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).deploy();
    let since = cloud().now().await;
    scene.incident.set("Rerun", "again").deploy();
    let calls = cloud().calls(since).await;
    let changes = ["ModifyNetworkInterfaceAttribute", "CreateSnapshots", "CreateTags", "DeleteTags", "PutItem"];
    let changed: Vec<_> = calls.iter().filter(|call| changes.contains(&call.action.as_str())).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert!(calls.iter().any(|call| call.action == "DescribeInstances"), "the function was called");
    scene.assert_isolated(&[&a]).await;
    scene.incident.delete().await;
}

#[tokio::test]
async fn an_interface_attached_meanwhile_is_isolated_by_a_rerun_and_restored() {
    let mut scene = Scene::new("attached").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).deploy();
    let interface = scene.site.attach(&scene.ec2, &a, &[1, 2]).await;
    let attached = scene.cards(&[&a]).await[&interface].clone();
    scene.incident.set("Rerun", "again").deploy();
    scene.assert_isolated(&[&a]).await;
    scene.incident.delete().await;
    let after = scene.cards(&[&a]).await;
    assert_eq!(after[&interface], attached);
    assert_eq!(after.len(), 2);
}

#[tokio::test]
async fn an_original_group_deleted_meanwhile_is_left_out_of_the_restore() {
    let mut scene = Scene::new("group-gone").await;
    let a = scene.site.plain(&scene.ec2, &[0, 1]).await;
    scene.incident.list(&[&a]).deploy();
    scene.ec2.delete_security_group().group_id(&scene.site.groups[1]).send().await.expect("nothing uses it now");
    scene.incident.delete().await;
    let after: Vec<_> = scene.cards(&[&a]).await.into_values().collect();
    assert_eq!(after, [[scene.site.groups[0].clone()].into()]);
}

#[tokio::test]
async fn an_instance_terminated_meanwhile_does_not_stop_the_restore() {
    let mut scene = Scene::new("terminated").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&b]).await;
    // Protected it could not be terminated.
    scene.incident.set("ProtectInstances", "false").list(&[&a, &b]).deploy();
    scene.ec2.terminate_instances().instance_ids(&a).send().await.expect("it can be terminated");
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&b]).await, before);
}

#[tokio::test]
async fn what_somebody_moved_meanwhile_is_left_alone() {
    let mut scene = Scene::new("moved").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&b]).await;
    scene.incident.list(&[&a, &b]).deploy();
    let moved = scene.cards(&[&a]).await.into_keys().next().unwrap();
    set_groups(&scene.ec2, &moved, &[&scene.site.groups[3]]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await[&moved], [scene.site.groups[3].clone()].into());
    assert_eq!(scene.cards(&[&b]).await, before);
}

/// CloudFormation creates under the new logical id, then deletes the old one in the clean-up.
#[tokio::test]
async fn a_renamed_resource_keeps_its_instances_isolated_and_restores_them() {
    let mut scene = Scene::new("renamed").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]).deploy();
    let (group, since) = (scene.incident.physical_id("IsolatedSecurityGroup").await, cloud().now().await);
    scene.incident.template = changed_template("renamed", |text| {
        let renamed = text.lines().map(|line| match line.trim() {
            "Isolation:" | "- Isolation" | "DependsOn: Isolation" => format!("{line}\n").replace("Isolation", "Anew"),
            _ => format!("{line}\n"),
        });
        renamed.collect()
    });
    scene.incident.deploy();
    scene.assert_isolated(&[&a]).await;
    assert_eq!(crate::rollbacks::changes_to_others(since, &[&group]).await, [""; 0]);
    let events = scene.incident.events("renamed").await.join("\n");
    assert!(events.contains("DELETE_COMPLETE      Isolation "), "{events}");
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn a_replaced_isolation_group_takes_the_instances_over() {
    let mut scene = Scene::new("replaced-group").await;
    let a = scene.site.plain(&scene.ec2, &[0, 1]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]).deploy();
    let (old, since) = (scene.incident.physical_id("IsolatedSecurityGroup").await, cloud().now().await);
    // A new description replaces the group, which CloudFormation refuses while rollback is disabled.
    scene.incident.options = vec!["--no-disable-rollback"];
    scene.incident.template = changed_template("replaced-group", |text| {
        text.replace("GroupDescription: Isolated instances", "GroupDescription: Anew")
    });
    scene.incident.deploy();
    let cards: Vec<_> = scene.cards(&[&a]).await.into_values().flatten().collect();
    let [new] = cards.as_slice() else { panic!("{cards:?}") };
    assert_ne!(*new, old);
    let events = scene.incident.events("replaced-group").await.join("\n");
    assert!(events.contains("DELETE_COMPLETE      IsolatedSecurityGroup"), "{events}");
    let transit = scene.incident.physical_id("TransitSecurityGroup").await;
    assert_eq!(crate::rollbacks::changes_to_others(since, &[&old, new, &transit]).await, [""; 0]);
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// Everything that is done to an instance, on the ones it matters for, and all of it back.
#[tokio::test]
async fn what_protects_an_instance_is_changed_and_put_back() {
    let mut scene = Scene::new("protect").await;
    let plain = scene.site.launch(&scene.ec2, &[&[0], &[1]], 2).await;
    let spot = scene.site.spot(&scene.ec2).await;
    let member = scene.site.scaling_group(&scene.ec2, cloud(), "protect", [1, 3, 1]).await.remove(0);
    let all = [plain.as_str(), &spot, &member];
    let (before, groups) = (fleet::protection(&scene.ec2, &plain).await, scene.cards(&all).await);
    assert_eq!((before.termination, before.stop, before.shutdown.as_str()), (false, false, "stop"));

    scene.incident.list(&all).deploy();
    scene.assert_isolated(&all).await;
    let now = fleet::protection(&scene.ec2, &plain).await;
    assert_eq!((now.termination, now.stop, now.shutdown.as_str()), (true, true, "stop"));
    assert_eq!(now.deleted.values().filter(|deleted| **deleted).count(), 0);
    let group = fleet::scaling_group(cloud(), "protect");
    assert_eq!((group.instances[&member].as_str(), group.desired), ("Standby", 1));
    let summary = scene.incident.outputs().await.remove("Summary").unwrap();
    assert!(summary.starts_with("3 instances isolated (4 interfaces), "), "{summary}");
    assert!(summary.contains(&spot) && summary.contains("termination protection"), "{summary}");

    scene.incident.delete().await;
    assert_eq!(fleet::protection(&scene.ec2, &plain).await, before);
    assert_eq!(scene.cards(&all).await, groups);
    let group = fleet::scaling_group(cloud(), "protect");
    assert_eq!((group.instances[&member].as_str(), group.desired), ("InService", 2));
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_it_would_do() {
    let mut scene = Scene::new("dry-run").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let (groups, protection) = (scene.cards(&[&a]).await, fleet::protection(&scene.ec2, &a).await);
    let hosts = async |incident: &Incident<'_>| {
        let all = incident.cloud.cloudformation().await.list_stack_resources().stack_name(&incident.name).send().await;
        let all = all.expect("resources");
        let all = all.stack_resource_summaries().iter().filter_map(|one| one.logical_resource_id());
        all.filter(|id| id.starts_with("Forensic")).map(str::to_owned).collect::<Vec<_>>()
    };
    scene.incident.set("DryRun", "true").set("ForensicHost", "false").list(&[&a]).deploy();
    assert_eq!(hosts(&scene.incident).await, [""; 0]);
    assert_eq!((scene.cards(&[&a]).await, fleet::protection(&scene.ec2, &a).await), (groups.clone(), protection));
    let outputs = scene.incident.outputs().await;
    let summary = &outputs["Summary"];
    assert!(summary.starts_with("dry run, nothing was changed: 0 of 1 instance isolated now; "), "{summary}");
    assert!(summary.contains(&format!("{a}: record ")) && outputs["NotIsolated"].starts_with(&a), "{outputs:?}");
    let again = "This stack makes no forensic host. If you want one, add ForensicHost=true. To isolate: sam deploy ";
    assert!(outputs["DryRun"].contains(again) && outputs["DryRun"].ends_with(" DryRun=false"), "{outputs:?}");
    assert!(!outputs.contains_key("ForensicSecurityGroupId"), "{outputs:?}");
    // In earnest, but the parameter keeps its value.
    let b = scene.site.plain(&scene.ec2, &[1]).await;
    let reason = scene.incident.list(&[&a, &b]).deploy_fails().await;
    assert!(reason.contains("DryRun is true, as in the deployment before"), "{reason}");
    scene.incident.list(&[&a]).set("DryRun", "false").set("ForensicHost", "true").deploy();
    scene.assert_isolated(&[&a]).await;
    let made = hosts(&scene.incident).await;
    assert!(made.contains(&"ForensicInstance".to_owned()), "{made:?}");
    // The next one takes nothing away, whatever the parameters say.
    let reason = scene.incident.set("DryRun", "true").set("ForensicHost", "false").deploy_fails().await;
    assert!(
        reason.contains("the function changed nothing: CloudFormation itself acts on new values of ForensicHost, even"),
        "{reason}"
    );
    assert_eq!(hosts(&scene.incident).await, made);
    scene.incident.set("ForensicHost", "true").set("Rerun", "once more").deploy();
    assert!(scene.incident.outputs().await["DryRun"].contains("DRY RUN. To isolate: sam deploy "));
    assert_eq!(hosts(&scene.incident).await, made);
    // In earnest it goes, and the isolation stays.
    scene.incident.set("DryRun", "false").set("ForensicHost", "false").deploy();
    assert_eq!(hosts(&scene.incident).await, [""; 0]);
    scene.assert_isolated(&[&a]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, groups);
}

/// <https://github.com/turbot/steampipe-plugin-aws/pull/2597>: a group keeps the VPC that it was made in, and the role's right to
/// give it back knows no VPC.
#[tokio::test]
async fn an_original_group_that_was_made_in_another_vpc_is_recorded_and_given_back_by_the_stacks_role() {
    let mut scene = Scene::new("associated-original").await;
    let ec2 = scene.ec2.clone();
    let a = scene.site.launch(&ec2, &[&[0], &[1]], 1).await;
    let vpc = ec2.create_vpc().cidr_block("10.251.0.0/16").send().await.unwrap();
    let vpc = vpc.vpc().and_then(|vpc| vpc.vpc_id()).unwrap().to_owned();
    let group = ec2.create_security_group().group_name("shared").description("shared").vpc_id(&vpc).send().await;
    let group = group.unwrap().group_id().unwrap().to_owned();
    ec2.associate_security_group_vpc().group_id(&group).vpc_id(&scene.site.vpc).send().await.unwrap();
    // One interface has nothing but that group.
    set_groups(&ec2, &interface_at(&ec2, &a, 0).await, &[&scene.site.groups[0], &group]).await;
    set_groups(&ec2, &interface_at(&ec2, &a, 1).await, &[&group]).await;
    let before = scene.cards(&[&a]).await;
    assert_eq!(before.values().filter(|groups| groups.contains(&group)).count(), 2);

    scene.incident.list(&[&a]).deploy();
    scene.assert_isolated(&[&a]).await;
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}
