//! `isolate --revoke`: which roles are found, that nothing that is denied is taken off, and that one incident never lifts another's.

use std::collections::BTreeSet;
use std::time::Duration;

use ec2_isolation::operator::ports::ProfileRole;
use ec2_isolation::operator::stack::StackView;
use ec2_isolation::operator::{Address, Options, Revocation, Revoked};
use ec2_isolation::ports::Fault;

use super::isolate::{incident, prepared, targets};
use super::{by_table, named, operator};
use crate::world::identities::role;
use crate::world::{STACK, Trouble, VPC, World};
use crate::{A, B, event, fleet, succeeds};

const C: &str = "i-0c";

fn arn(profile: &str) -> String {
    format!("arn:aws:iam::123456789012:instance-profile/team/{profile}")
}

fn roles(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A and B listed by an incident beside a responder; A has profile `front` with role `web`, B `back` with `db`.
pub fn two_roles() -> World {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", &format!("{A},{B}")));
    world.give_profile(A, &arn("front"));
    world.give_profile(B, &arn("back"));
    world.make_profile("front", &[role("web")]);
    world.make_profile("back", &[role("db")]);
    world
}

pub async fn found(world: &World, further: &[&str]) -> Revocation {
    let program = operator(world);
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    program.revocation(&orders[0], &roles(further), world).await.unwrap()
}

async fn revoke(world: &World) -> Result<Revoked, String> {
    let revocation = found(world, &[]).await;
    operator(world).revoke(&revocation, &|_| ()).await.map_err(|error| error.to_string())
}

fn beside(world: &World) -> Option<StackView> {
    world.data().views.iter().find(|view| view.name.ends_with("-credentials")).cloned()
}

fn unwrapped(text: &impl ToString) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn the_roles_of_all_that_the_incident_lists_are_denied_by_a_stack_beside_it() {
    let world = two_roles();
    let shown = unwrapped(&found(&world, &[]).await);
    assert_eq!(
        shown,
        format!(
            "Credentials of 2 instances of incident-{VPC}, by stack incident-{VPC}-credentials: to be made \
             role db, of {B} role web, of {A}"
        )
    );
    let revoked = revoke(&world).await.unwrap();
    assert!(!revoked.failed && revoked.not_denied.is_empty(), "{revoked:?}");
    let stack = beside(&world).unwrap();
    assert_eq!(stack.parameters["CompromisedInstanceList"], format!("{A},{B}"));
    assert_eq!(stack.parameters["RevokeRoles"], "db,web");
    assert!(stack.parameters["AskedBy"].contains(" by arn:aws:iam::123456789012:user/x with"), "{stack:?}");
    assert!(stack.is_protected, "nobody lifts it by oversight");
    let text = unwrapped(&revoked);
    assert!(
        text.starts_with("DENIED, as CloudFormation says: the credentials of 2 instances for roles db, web,"),
        "{text}"
    );
    assert!(text.contains("keys found on their disks, ECS task roles"), "{text}");
    // Again changes nothing.
    let changes = world.count("cloudformation:CreateChangeSet");
    assert!(found(&world, &[]).await.is_done());
    assert!(!revoke(&world).await.unwrap().failed);
    assert_eq!(world.count("cloudformation:CreateChangeSet"), changes);
}

/// The record has the profile that the function detached.
#[tokio::test(start_paused = true)]
async fn the_role_of_a_detached_profile_is_found_by_the_record() {
    let world = two_roles();
    let mut create = event("create");
    create["ResourceProperties"]["DetachInstanceProfile"] = serde_json::json!("true");
    create["ResourceProperties"]["InstanceIds"] = serde_json::json!([A]);
    succeeds(&world, create).await;
    {
        let mut data = world.data();
        let record = data.records[&A.parse().unwrap()].clone();
        assert_eq!(record.protection.profile, Some(arn("front")));
        (data.views[0].id, data.views[0].name) = (STACK.to_owned(), STACK.split('/').nth(1).unwrap().to_owned());
        let table = data.exports["ec2-isolation-v1-RecordsTable"].clone();
        data.tables.get_mut(&table).unwrap().records.insert(record.instance.clone(), record);
    }
    let shown = unwrapped(&found(&world, &[]).await);
    assert!(shown.ends_with(&format!("role db, of {B} role web, of {A}")), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_denied_is_named_with_what_to_do_and_the_rest_is_denied() {
    let protected = ProfileRole { name: "AWSServiceRoleForX".to_owned(), is_protected: true };
    for (profile, further, said, is_partial) in [
        (
            Some((B, vec![])),
            vec![],
            format!("{B}: instance profile back holds no role, so there is no role to deny"),
            false,
        ),
        (Some((B, vec![protected])), vec![], "role AWSServiceRoleForX belongs to AWS itself".to_owned(), true),
        (Some((B, vec![role("a,b")])), vec![], "role a,b has a comma in its name".to_owned(), true),
        (None, vec![], format!("{B}: there is no instance profile back any more. CloudTrail says"), true),
        (Some((B, vec![role("db")])), vec!["typo"], "there is no role typo: give its name".to_owned(), true),
    ] {
        let world = two_roles();
        world.data().iam.profiles.remove("back");
        if let Some((_, roles)) = &profile {
            world.make_profile("back", roles);
        }
        let revocation = found(&world, &further).await;
        let shown = unwrapped(&revocation);
        assert!(shown.contains(&said), "{said} in {shown}");
        let revoked = operator(&world).revoke(&revocation, &|_| ()).await.unwrap();
        assert_eq!(revoked.failed, is_partial, "{shown}");
        let denied = revoked.credentials.unwrap();
        assert!(denied.is_denied && denied.roles.contains("web"), "{denied:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_that_may_not_be_read_is_named_and_can_be_given_by_name() {
    let world = two_roles();
    world.data().troubles_of.insert("iam:GetInstanceProfile", (0, Trouble::Fails(Fault::Denied)));
    let shown = unwrapped(&found(&world, &["db"]).await);
    assert!(shown.contains("which role instance profile back holds cannot be read: iam:GetInstanceProfile"), "{shown}");
    assert!(shown.contains("role db, as you named it"), "{shown}");
    assert!(shown.contains(&format!("role web, of {A}")), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn without_a_role_there_is_nothing_to_deny_and_no_stack_is_made() {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", B));
    let program = operator(&world);
    let orders = program.orders(&targets(&[B]), &Options::default()).await.unwrap();
    let revocation = program.revocation(&orders[0], &BTreeSet::new(), &world).await.unwrap();
    assert!(unwrapped(&revocation).contains(&format!("{B}: EC2 shows no instance profile")), "{revocation}");
    let revoked = program.revoke(&revocation, &|_| ()).await.unwrap();
    assert!(!revoked.failed && revoked.credentials.is_none(), "{revoked:?}");
    assert!(revoked.to_string().starts_with("No credentials are denied."), "{revoked}");
    assert_eq!(beside(&world), None);
}

/// However a colleague's call interleaves, both lists are denied.
#[tokio::test(start_paused = true)]
async fn whoever_denies_meanwhile_no_instance_and_no_role_is_taken_off() {
    let mut met = 0;
    for n in 1..=8 {
        for is_there in [false, true] {
            let world = two_roles();
            let name = format!("incident-{VPC}-credentials");
            let denial = |status: &str, list: &str, roles: &str| {
                let mut view = incident(&name, status, list);
                view.resources.clear();
                view.parameters.remove("VpcId");
                view.parameters.insert("RevokeRoles".to_owned(), roles.to_owned());
                view
            };
            world.make_profile("others", &[role("old"), role("theirs")]);
            if is_there {
                world.data().views.push(denial("CREATE_COMPLETE", C, "old"));
            }
            let revocation = found(&world, &[]).await;
            let now = world.data().calls.len();
            let theirs = denial("UPDATE_COMPLETE", &format!("{C},i-0d"), "old,theirs");
            world.before_call(n, move |data| {
                data.views.retain(|view| !view.name.ends_with("-credentials"));
                data.views.push(theirs);
            });
            operator(&world).revoke(&revocation, &|_| ()).await.unwrap();
            let stack = beside(&world).unwrap();
            let data = world.data();
            let is_change = |action: &str| action.ends_with("CreateStack") || action.ends_with("ExecuteChangeSet");
            let is_before_ours = data.calls[now..].iter().take(n - 1).all(|(action, _)| !is_change(action));
            if is_before_ours && data.calls.len() >= now + n {
                met += 1;
                let list = format!("{A},{B},{C},i-0d");
                let parameters = ["CompromisedInstanceList", "RevokeRoles"].map(|name| stack.parameters[name].as_str());
                assert_eq!(parameters, [&list, "db,old,theirs,web"], "call {n}, there {is_there}");
            }
            assert!(data.prepared.is_empty(), "call {n}: a change set is left");
        }
    }
    assert_eq!(met, 6, "before each call up to the one that changes the stack");
}

/// A role that is deleted has no sessions; IAM would refuse it.
#[tokio::test(start_paused = true)]
async fn a_role_that_was_deleted_since_is_left_out() {
    let world = two_roles();
    revoke(&world).await.unwrap();
    world.make_profile("back", &[role("db-2")]);
    let shown = unwrapped(&found(&world, &[]).await);
    assert!(shown.contains("role db was denied, and does not exist any more: it is left out"), "{shown}");
    assert!(!revoke(&world).await.unwrap().failed);
    assert_eq!(beside(&world).unwrap().parameters["RevokeRoles"], "db-2,web");
}

#[tokio::test(start_paused = true)]
async fn a_role_whose_quota_is_full_is_not_claimed_to_be_denied() {
    let world = two_roles();
    world.data().iam.full.insert("db".to_owned());
    let revoked = revoke(&world).await.unwrap();
    assert!(revoked.failed, "{revoked:?}");
    let text = unwrapped(&revoked);
    assert!(text.starts_with("NOT KNOWN whether they are denied:") && text.contains("PoliciesPerRole: 10"), "{text}");
    assert!(text.contains("10 by default"), "{text}");
    // The same again, once there is room.
    world.data().iam.full.clear();
    assert!(!revoke(&world).await.unwrap().failed);
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_stack_denies_by_itself_and_only_after_an_isolation_that_succeeded() {
    let world = two_roles();
    let set = |status: &str| {
        let mut data = world.data();
        data.views[0].status.status = status.to_owned();
        data.views[0].parameters.entry("RevokeRoles".to_owned()).or_default();
    };
    set("UPDATE_FAILED");
    let refused = revoke(&world).await.unwrap_err();
    assert_eq!(
        refused,
        format!(
            "stack incident-{VPC} denies no more than before: its policy comes after an isolation that succeeds: put that right first"
        )
    );
    set("UPDATE_COMPLETE");
    let revoked = revoke(&world).await.unwrap();
    assert!(!revoked.failed, "{revoked:?}");
    let parameters = world.data().views[0].parameters.clone();
    assert_eq!((parameters["RevokeRoles"].as_str(), parameters["HoldSeconds"].as_str()), ("db,web", "7"));
    assert_eq!(parameters["CompromisedInstanceList"], format!("{A},{B}"));
    assert!(!parameters.contains_key("Rerun"), "the function is not called for it");
    assert_eq!(beside(&world), None);
}

#[tokio::test(start_paused = true)]
async fn more_instances_than_a_parameter_holds_are_refused() {
    let world = two_roles();
    let list: Vec<String> = (0..203).map(|n| format!("i-{n:017x}")).collect();
    let mut denial = incident(&format!("incident-{VPC}-credentials"), "CREATE_COMPLETE", &list.join(","));
    denial.parameters.remove("VpcId");
    denial.parameters.insert("RevokeRoles".to_owned(), "web".to_owned());
    world.data().views.push(denial);
    let refused = revoke(&world).await.unwrap_err();
    assert!(refused.ends_with("it would list 205 instances, and takes 204"), "{refused}");
}

/// A and B isolated by the stack of the events, which is beside a responder, and denied.
async fn denied() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let mut own = incident("x", "CREATE_COMPLETE", &format!("{A},{B}"));
    (own.id, own.name) = (STACK.to_owned(), STACK.split('/').nth(1).unwrap().to_owned());
    let table = ec2_isolation::operator::stack::StackResource {
        logical_id: "SecurityGroupTable".to_owned(),
        physical_id: crate::world::TABLE.to_owned(),
        kind: "AWS::DynamoDB::Table".to_owned(),
        status: "CREATE_COMPLETE".to_owned(),
        reason: String::new(),
    };
    own.resources.push(table);
    world.data().views.push(own);
    world.data().exports.insert("ec2-isolation-v1-FunctionArn".to_owned(), "the function".to_owned());
    world.give_profile(A, &arn("front"));
    world.make_profile("front", &[role("web")]);
    assert!(!revoke(&world).await.unwrap().failed);
    world
}

async fn at(world: &World) -> ec2_isolation::operator::Incident {
    let name = STACK.split('/').nth(1).unwrap();
    operator(world).incident(&Address::Stack(name.to_owned())).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_status_says_whose_credentials_are_denied_and_whose_are_not() {
    let world = denied().await;
    let status = operator(&world).status(&at(&world).await).await;
    let text = unwrapped(&status);
    assert!(
        text.contains("denied DENIED, as CloudFormation says: the credentials of 2 instances for role web"),
        "{text}"
    );
    world.add(C, VPC, &[("eni-0e", &["sg-0b"])]);
    let list = format!("{A},{B},{C}");
    world.data().views[0].parameters.insert("CompromisedInstanceList".to_owned(), list);
    let status = operator(&world).status(&at(&world).await).await;
    assert_eq!(status.credentials.as_ref().unwrap().missing, roles(&[C]));
    assert!(unwrapped(&status).contains(&format!("Not those of {C}: isolate them again with --revoke")));
    // What failed is not claimed, though the parameters say so.
    for view in &mut world.data().views[1..] {
        view.status.status = "UPDATE_FAILED".to_owned();
    }
    let status = operator(&world).status(&at(&world).await).await;
    assert!(!status.credentials.as_ref().unwrap().is_denied);
    assert!(unwrapped(&status).contains("NOT KNOWN whether they are denied"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn the_denial_ends_with_its_incident_after_the_restore_and_before_the_stack() {
    let world = denied().await;
    let program = operator(&world);
    let report = program.restore(&at(&world).await, &named(&[]), &|_| ()).await.unwrap();
    assert!(!report.failed, "{report}");
    assert!(beside(&world).is_some(), "a restore alone lifts nothing");
    let status = program.status(&at(&world).await).await;
    let command = "ec2-isolation restore --stack incident-2026-11-25 --finish --region us-east-1";
    assert_eq!(status.next[0].commands, [command], "{status}");
    let ended = program.finish(&at(&world).await).await.unwrap();
    assert!(ended.is_gone, "{ended:?}");
    assert!(world.data().views.is_empty(), "{ended:?}");
    let deleted = world
        .data()
        .calls
        .iter()
        .filter(|(action, _)| *action == "cloudformation:DeleteStack")
        .map(|(_, what)| what.clone())
        .collect::<Vec<_>>();
    assert!(deleted[0].contains("-credentials/") && deleted[1].starts_with(STACK), "{deleted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_cannot_be_deleted_is_named_and_the_incident_ends_all_the_same() {
    let world = denied().await;
    let program = operator(&world);
    program.restore(&at(&world).await, &named(&[]), &|_| ()).await.unwrap();
    let incident = at(&world).await;
    world.data().troubles_of.insert("cloudformation:UpdateTerminationProtection", (0, Trouble::Fails(Fault::Denied)));
    let ended = program.finish(&incident).await.unwrap();
    assert!(!ended.is_gone, "{ended:?}");
    let said =
        "stack incident-2026-11-25-credentials was not deleted, and may still deny credentials: termination protection";
    assert!(ended.log[0].starts_with(said), "{ended:?}");
    assert_eq!(world.data().views.len(), 1, "the incident's is gone");
    // Then it is left over, with what deletes it.
    let left = program.leftovers(None).await.unwrap();
    let denial = left.left.iter().find(|left| left.kind == ec2_isolation::operator::Kind::CredentialsStack).unwrap();
    assert_eq!(denial.id, "incident-2026-11-25-credentials");
    assert_eq!(denial.commands.len(), 3, "{denial:?}");
    assert!(denial.commands[1].contains("delete-stack --stack-name incident-2026-11-25-credentials"), "{denial:?}");
    // So does its own command, once there is the right for it.
    let ended = program.finish(&program.incident(&by_table()).await.unwrap()).await.unwrap();
    assert!(ended.is_gone && world.data().views.is_empty(), "{ended:?}");
}

/// Another stack has taken A over; ending the old one must not give A's credentials back.
#[tokio::test(start_paused = true)]
async fn the_denial_of_an_instance_that_another_incident_holds_stays_until_that_one_denies_it() {
    let world = denied().await;
    let program = operator(&world);
    program.restore(&at(&world).await, &named(&[]), &|_| ()).await.unwrap();
    let other = incident("other", "CREATE_COMPLETE", A);
    {
        let mut data = world.data();
        let mut group = data.groups[&crate::world::ISOLATION.parse().unwrap()].clone();
        (group.id, group.stack_id) = ("sg-0e".parse().unwrap(), Some(other.id.clone()));
        data.groups.insert(group.id.clone(), group);
        data.put_back(&"eni-0a".parse().unwrap(), crate::world::groups(&["sg-0e"]));
        data.views.push(other);
    }
    let seen = at(&world).await;
    // A reading that does not show it ends no denial.
    world.hide(A, Duration::from_secs(4));
    let mut ended = program.finish(&seen).await.unwrap();
    assert!(!ended.is_gone, "{ended:?}");
    assert!(
        ended.log[0]
            .starts_with(&format!("stack incident-2026-11-25-credentials stays: other still holds {A}. Deny their")),
        "{ended:?}"
    );
    assert!(beside(&world).is_some());
    // The whole command: another Region is another account's, as far as it goes.
    assert!(ended.log[0].ends_with(&format!("isolate --stack other --revoke {A} --region us-east-1")), "{ended:?}");
    let left = program.leftovers(None).await.unwrap();
    assert!(left.said.iter().any(|said| said.contains(" stays: other still holds ")), "{left:?}");
    // Once the other one denies them, too, the first may go.
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    let revocation = program.revocation(&orders[0], &BTreeSet::new(), &world).await.unwrap();
    assert!(!program.revoke(&revocation, &|_| ()).await.unwrap().failed);
    ended = program.finish(&program.incident(&by_table()).await.unwrap()).await.unwrap();
    assert!(ended.is_gone, "{ended:?}");
    let names: Vec<String> = world.data().views.iter().map(|view| view.name.clone()).collect();
    assert_eq!(names, ["other", "other-credentials"]);
}

/// Another team may have a stack of that name.
#[tokio::test(start_paused = true)]
async fn a_stack_that_has_only_the_name_of_ours_is_left_alone() {
    let world = denied().await;
    for view in &mut world.data().views[1..] {
        view.parameters = [("Environment".to_owned(), "test".to_owned())].into();
    }
    let program = operator(&world);
    let seen = at(&world).await;
    assert_eq!((seen.credentials_stack(), program.status(&seen).await.credentials), (None, None));
    program.restore(&seen, &named(&[]), &|_| ()).await.unwrap();
    let ended = program.finish(&at(&world).await).await.unwrap();
    assert!(ended.is_gone, "{ended:?}");
    assert!(beside(&world).is_some());
    assert!(
        program
            .leftovers(None)
            .await
            .unwrap()
            .left
            .iter()
            .all(|left| left.kind != ec2_isolation::operator::Kind::CredentialsStack)
    );
    // Nor is it changed.
    let world = two_roles();
    let mut other = incident(&format!("incident-{}-credentials", crate::world::VPC), "CREATE_COMPLETE", "");
    other.parameters.clear();
    world.data().views.push(other.clone());
    let revocation = found(&world, &[]).await;
    let refused = operator(&world).revoke(&revocation, &|_| ()).await.unwrap_err().to_string();
    assert!(refused.ends_with("it has a parameter too few to be ours, so somebody else has made it"), "{refused}");
    assert!(world.data().views.contains(&other));
}
