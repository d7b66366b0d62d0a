//! `adopt` between deployed stacks, one-shot and beside a responder: isolated throughout, and restored by the last one.

use serde_json::json;

use crate::beside::RESPONDER;
use crate::fleet::protection;
use crate::operator::operator;
use crate::prepared::{responder, without_host};
use crate::rollbacks::{changes_to_others, with_a_resource_that_fails};
use crate::{Scene, cloud};

/// From a one-shot stack that rolled back to a prepared incident, and on to another one beside the same responder.
#[tokio::test]
async fn instances_move_between_one_shot_and_prepared_incidents_without_a_moment_of_release() {
    let mut one_shot = Scene::new("adopted-one-shot").await;
    let a = one_shot.site.plain(&one_shot.ec2, &[0, 1]).await;
    let before = one_shot.cards(&[&a]).await;
    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    one_shot.incident.options = vec!["--no-disable-rollback"];
    let (succeeded, output) = one_shot.incident.list(&[&a]).try_deploy();
    assert!(!succeeded, "{output}");
    cloud().set("launch-failure", &json!({"error_code": null})).await;

    responder().await;
    let move_to = async |from: &str, name: &str| {
        let mut scene = without_host(one_shot.beside(name));
        // It names the one that holds the instance, and then holds it.
        scene.incident.list(&[&a]);
        assert_eq!(scene.incident.create(false).await, "CREATE_FAILED");
        operator(&["adopt", "--from", from, "--to", name, "--yes"]).ends_with(0).says(&format!("adopted: {a}"));
        scene.assert_isolated(&[&a]).await;
        scene.incident.set("Rerun", "1");
        assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
        scene.assert_isolated(&[&a]).await;
        scene
    };
    let first = move_to("adopted-one-shot", "adopted-first").await;
    // While it takes care of the instance, nobody takes it away.
    let works = format!("{a} is still isolated by");
    let mut second = without_host(one_shot.beside("adopted-second"));
    second.incident.list(&[&a]);
    assert_eq!(second.incident.create(false).await, "CREATE_FAILED");
    operator(&["adopt", "--from", "adopted-first", "--to", "adopted-second", "--dry-run"]).says_in_lines(&works);
    operator(&["status", "--stack", "adopted-first"]).ends_with(0).says(&a);
    first.incident.delete().await;
    assert_eq!(second.cards(&[&a]).await, before);
    second.incident.delete().await;
}

/// One that the first incident no longer lists. The other one restores it without having been deployed again.
#[tokio::test]
async fn an_instance_moves_from_one_prepared_incident_to_another_one_which_restores_it() {
    let mut first = Scene::prepared("moved-first").await;
    let mut second = without_host(first.beside("moved-second"));
    let a = first.site.launch(&first.ec2, &[&[0, 1], &[2]], 2).await;
    let (b, c) = (first.site.plain(&first.ec2, &[1]).await, first.site.plain(&first.ec2, &[3]).await);
    let (before, unprotected) = (first.cards(&[&a, &b, &c]).await, protection(&first.ec2, &a).await);
    first.incident.list(&[&a, &b]);
    second.incident.list(&[&c]);
    let (one, two) = tokio::join!(first.incident.create(false), second.incident.create(false));
    assert_eq!((one.as_str(), two.as_str()), ("CREATE_COMPLETE", "CREATE_COMPLETE"));
    let table = first.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    let protected = protection(&first.ec2, &a).await;
    assert_ne!(protected, unprotected);
    let adopt = ["adopt", "--from", "moved-first", "--to", "moved-second", "--instance", &a, "--yes"];
    let works = format!("{a} is still isolated by {}, which works", first.incident.stack_id().await);
    operator(&adopt)
        .ends_with(3)
        .says_in_lines(&works)
        .says_in_lines(&format!("deploy that stack once more without {a}"));
    // As it says.
    first.incident.list(&[&b]);
    assert_eq!(first.incident.update().await, "UPDATE_COMPLETE", "{}", first.happened().await);
    first.assert_isolated(&[&a, &b]).await;
    first.assert_owns(&table, &a, "isolated").await;

    let since = cloud().now().await;
    operator(&adopt).ends_with(0).says(&format!("adopted: {a}"));
    operator(&adopt).ends_with(0).says("adopted: none");
    let group = second.incident.physical_id("IsolatedSecurityGroup").await;
    assert_eq!(changes_to_others(since, &[&group]).await, [""; 0], "it went from one isolation into the other");
    second.assert_isolated(&[&a, &c]).await;
    second.assert_owns(&table, &a, "isolated").await;
    first.assert_isolated(&[&b]).await;
    first.assert_owns(&table, &b, "isolated").await;

    let since = cloud().now().await;
    first.incident.set("OnRemoval", "Restore");
    assert_eq!(first.incident.update().await, "UPDATE_COMPLETE", "{}", first.happened().await);
    assert_eq!(changes_to_others(since, &[]).await, [""; 0], "what it no longer lists is not its own any more");
    first.incident.delete().await;
    assert_eq!(changes_to_others(since, &[&first.site.groups[1]]).await, [""; 0], "b alone is given back");
    second.assert_isolated(&[&a, &c]).await;
    second.assert_owns(&table, &a, "isolated").await;
    assert_eq!(protection(&first.ec2, &a).await, protected);
    second.incident.delete().await;
    assert_eq!(second.cards(&[&a, &b, &c]).await, before);
    assert_eq!(protection(&first.ec2, &a).await, unprotected);
}

/// Out of the table that incidents share, into a stack's own.
#[tokio::test]
async fn an_instance_moves_from_a_prepared_incident_that_rolled_back_to_a_one_shot_stack_which_restores_it() {
    let mut scene = Scene::prepared("moved-back").await;
    let mut one_shot = scene.beside("moved-one-shot");
    let (a, b) = (scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await, scene.site.plain(&scene.ec2, &[3]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a]);
    let failing = with_a_resource_that_fails(&std::fs::read_to_string("incident.yaml").unwrap());
    let request = cloud().cloudformation().await.create_stack().template_body(failing);
    assert_eq!(scene.incident.created(request).await, "ROLLBACK_FAILED", "{}", scene.happened().await);
    let shared = scene.incident.physical_id_in(RESPONDER, "SecurityGroupTable").await;
    scene.assert_owns(&shared, &a, "kept").await;
    one_shot.incident.list(&[&b]).deploy();

    let since = cloud().now().await;
    let adopt = ["adopt", "--from", "moved-back", "--to", "moved-one-shot", "--yes"];
    operator(&adopt).ends_with(0).says(&format!("adopted: {a}"));
    one_shot.assert_isolated(&[&a, &b]).await;
    one_shot.assert_owns(&one_shot.incident.physical_id("SecurityGroupTable").await, &a, "isolated").await;
    assert_eq!(scene.incident.states(&shared).await.get(&a), None);
    scene.incident.delete().await;
    let group = one_shot.incident.physical_id("IsolatedSecurityGroup").await;
    assert_eq!(changes_to_others(since, &[&group]).await, [""; 0], "it never left its isolation");
    one_shot.assert_isolated(&[&a, &b]).await;
    one_shot.incident.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}
