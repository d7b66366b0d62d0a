//! Every statement of the function's policy is needed: without it the answer names the action.

use std::sync::Mutex;

use aws_sdk_ec2::types::Tag;
use serde_json::{Value, json};

use crate::cloud::{BUILT, changed_template};
use crate::fleet::aws;
use crate::{Scene, alone, cloud, fleet};

/// A template without one statement of a policy.
pub fn without(sid: &str) -> impl Fn(&str) -> String {
    let wanted = format!("Sid: {sid}");
    move |text| {
        let mut kept = Vec::new();
        let mut dropping = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if dropping.is_some_and(|start| indent > start) {
                continue;
            }
            dropping = (line.trim_start().strip_prefix("- ") == Some(wanted.as_str())).then_some(indent);
            if dropping.is_none() {
                kept.push(line);
            }
        }
        assert!(kept.len() < text.lines().count(), "no statement {sid}");
        kept.join("\n") + "\n"
    }
}

/// Statements that are taken away together, each with the action that the answer then names.
type Denied = &'static [(&'static str, &'static str)];

/// An incident with its first instance isolated.
async fn deployed(name: &str) -> (Scene, String) {
    let mut scene = Scene::new(name).await;
    let listed = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.set("OnRemoval", "Restore").set("LockSnapshotDays", "1").list(&[&listed]);
    // The first `sam deploy` of all makes the bucket of all.
    static FIRST: Mutex<()> = Mutex::new(());
    {
        let _alone = FIRST.lock().expect("nobody panics in it");
        scene.incident.deploy();
    }
    (scene, listed)
}

/// Each step takes statements away, and swaps the listed instance for a new one with `OnRemoval=Restore`: isolating,
/// snapshotting and restoring are all asked for.
async fn deny(name: &str, steps: &[Denied]) {
    let (mut scene, mut listed) = deployed(name).await;
    for denied in steps {
        let names: Vec<&str> = denied.iter().map(|(sid, _)| *sid).collect();
        let name = names.join("-");
        if name != "ReadSnapshots" {
            // A single snapshot is born with its tags; of several each gets its own.
            let volumes = if name.starts_with("TagOwnSnapshots") { 2 } else { 1 };
            listed = scene.site.launch(&scene.ec2, &[&[0]], volumes).await;
        }
        let all = |text: &str| names.iter().fold(text.to_owned(), |text, sid| without(sid)(&text));
        scene.incident.template = changed_template(&name, all);
        let reason = scene.incident.set("Rerun", &name).list(&[&listed]).deploy_fails().await;
        for (sid, actions) in *denied {
            assert!(actions.split(" or ").any(|action| reason.contains(action)), "{sid}: {reason}");
        }
        assert!(reason.contains("UnauthorizedOperation") || reason.contains("AccessDenied"), "{name}: {reason}");
        assert!(!reason.contains("superseded"), "{name}: {reason}");
    }
    scene.incident.template = BUILT.into();
    scene.incident.set("Rerun", "all").deploy();
    scene.assert_isolated(&[&listed]).await;
    scene.incident.delete().await;
}

/// What the statements leave out: a user who holds the role's policy does what the function may do, and nothing beside that.
#[test]
fn the_policy_reaches_its_own_snapshots_keys_and_log_only() {
    alone(cloud(), async {
        let (scene, listed) = deployed("narrow").await;
        let iam =
            |operation: &str, arguments: Value| aws(&cloud().credentials(), "iam", operation, &arguments).unwrap();
        let role = scene.incident.physical_id("IsolationFunctionRole").await;
        let policy =
            iam("get_role_policy", json!({"RoleName": role, "PolicyName": "isolation"}))["PolicyDocument"].clone();
        iam("create_user", json!({"UserName": "narrow"}));
        let put = json!({"UserName": "narrow", "PolicyName": "isolation", "PolicyDocument": policy.to_string()});
        iam("put_user_policy", put);
        let key = iam("create_access_key", json!({"UserName": "narrow"}))["AccessKey"].clone();
        let part = |name: &str| key[name].as_str().unwrap();
        let mut environment = cloud().credentials();
        let keys = [("AWS_ACCESS_KEY_ID", "AccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey")];
        environment.extend(keys.map(|(name, of)| (name, part(of))));

        let own = scene.incident.outputs().await["Snapshots"].clone();
        let volume = scene.ec2.describe_instances().instance_ids(&listed).send().await.unwrap();
        let mapping = &volume.reservations()[0].instances()[0].block_device_mappings()[0];
        let volume = mapping.ebs().and_then(|disk| disk.volume_id()).unwrap();
        // Of somebody else, and of another stack. EC2 would want a pause after the function's own.
        cloud().set("snapshot-rate", &json!({"seconds": 0})).await;
        let foreign = scene.ec2.create_snapshot().volume_id(volume).send().await.unwrap().snapshot_id.unwrap();
        let tag = |snapshot: &str, key: &str| {
            let tag = json!({"Resources": [snapshot], "Tags": [{"Key": key, "Value": "of the test"}]});
            aws(&environment, "ec2", "create_tags", &tag).map(drop)
        };
        let refused = Err("UnauthorizedOperation".to_owned());
        assert_eq!(tag(&own, "ec2-isolation:test"), Ok(()));
        assert_eq!(tag(&own, "Name"), refused);
        assert_eq!(tag(&own, "Purpose"), refused, "that is given with the snapshot, once");
        assert_eq!(tag(&foreign, "ec2-isolation:test"), refused);
        let other = scene.incident.stack_id().await.replace(":stack/", ":stack/another-");
        let mark = Tag::builder().key("ec2-isolation:stack").value(other).build();
        scene.ec2.create_tags().resources(&foreign).tags(mark).send().await.unwrap();
        assert_eq!(tag(&foreign, "ec2-isolation:test"), refused);

        let log = scene.incident.physical_id("IsolationLogGroup").await;
        aws(&cloud().credentials(), "logs", "create_log_group", &json!({"logGroupName": "narrow-other"})).unwrap();
        let begin = |group: &str| {
            let stream = json!({"logGroupName": group, "logStreamName": "of the test"});
            aws(&environment, "logs", "create_log_stream", &stream).map(drop)
        };
        assert_eq!(begin(&log), Ok(()));
        assert_eq!(begin("narrow-other"), Err("AccessDeniedException".to_owned()));
        scene.incident.delete().await;
    });
}

/// An Auto Scaling group, and an instance profile: detaching it, and the restore of an instance that is dropped.
async fn deny_what_few_need() {
    let (mut scene, listed) = deployed("permissions").await;
    let members = scene.site.scaling_group(&scene.ec2, cloud(), "permissions", [0, 2, 1]).await;
    scene.incident.template = changed_template("StandBy", without("StandBy"));
    let reason = scene.incident.set("Rerun", "StandBy").list(&[&members[0], &listed]).deploy_fails().await;
    assert!(reason.contains("autoscaling:EnterStandby") && reason.contains("AccessDenied"), "{reason}");
    scene.assert_isolated(&[&members[0]]).await;

    let (hosted, profile) = scene.site.with_profile(&scene.ec2, cloud(), "permissions-role").await;
    scene.incident.set("DetachInstanceProfile", "true");
    for (sid, action, list) in [
        ("ReadInstanceProfiles", "ec2:DescribeIamInstanceProfileAssociations", vec![hosted.as_str(), &listed]),
        ("DetachInstanceProfile", "ec2:DisassociateIamInstanceProfile", vec![hosted.as_str(), &listed]),
        ("", "", vec![hosted.as_str(), &listed]),
        ("AttachInstanceProfile", "ec2:AssociateIamInstanceProfile", vec![listed.as_str()]),
        ("PassRoleOfInstanceProfile", "iam:PassRole", vec![listed.as_str()]),
    ] {
        if sid.is_empty() {
            scene.incident.template = BUILT.into();
            scene.incident.set("Rerun", "detach").list(&list).deploy();
            assert_eq!(fleet::profile(&scene.ec2, &hosted).await, None);
            continue;
        }
        scene.incident.template = changed_template(sid, without(sid));
        let reason = scene.incident.set("Rerun", sid).list(&list).deploy_fails().await;
        assert!(reason.contains(action), "{sid}: {reason}");
    }
    scene.incident.template = BUILT.into();
    scene.incident.set("Rerun", "all").list(&[&listed]).deploy();
    assert_eq!(fleet::profile(&scene.ec2, &hosted).await, Some(profile));
    scene.incident.set("Rerun", "all").deploy();
    scene.assert_isolated(&[&listed]).await;
    scene.incident.delete().await;
}

/// A denial is waited out for a minute: several incidents wait side by side, each with a role of its own. What does not depend
/// on each other is denied together.
#[test]
fn without_any_statement_of_the_policy_the_answer_names_the_action() {
    const GROUPS: [Denied; 5] = [
        // Reads at once fail in any order.
        &[("ReadInstances", "ec2:DescribeInstances or ec2:DescribeSecurityGroups")],
        &[("ChangeGroupsOfInterfaces", "ec2:ModifyNetworkInterfaceAttribute")],
        &[("ChangeGroupsToGroups", "ec2:ModifyNetworkInterfaceAttribute")],
        &[("ChangeGroupsOfInstances", "ec2:ModifyNetworkInterfaceAttribute")],
        &[
            ("ProtectInstances", "ec2:ModifyInstanceAttribute"),
            ("SwitchMetadataService", "ec2:ModifyInstanceMetadataOptions"),
        ],
    ];
    const TAGS: [Denied; 5] = [
        // Tags of instances are for people: without them the answer has a note, here beside an error.
        &[
            ("UntagRestored", "ec2:DeleteTags"),
            ("ReadAutoScaling", "autoscaling:DescribeAutoScalingInstances"),
            ("ReadLocks", "ec2:DescribeLockedSnapshots"),
        ],
        &[("TagIsolated", "ec2:CreateTags"), ("ReadProtection", "ec2:DescribeInstanceAttribute")],
        &[("TagNewSnapshots", "ec2:CreateTags")],
        &[("TagOwnSnapshots", "ec2:CreateTags"), ("LockSnapshots", "ec2:LockSnapshot")],
        &[("ReadStackStatus", "cloudformation:DescribeStacks")],
    ];
    // ReadSnapshots follows CreateSnapshots: what was asked for and not taken is looked up.
    const RECORDS: [Denied; 4] = [
        &[("CreateSnapshots", "ec2:CreateSnapshots")],
        &[("ReadSnapshots", "ec2:DescribeSnapshots")],
        &[("ReadRecords", "dynamodb:BatchGetItem")],
        &[("WriteRecords", "dynamodb:")],
    ];
    let cloud = cloud();
    std::thread::scope(|scope| {
        for (name, steps) in
            [("denied-groups", GROUPS.as_slice()), ("denied-tags", &TAGS), ("denied-records", &RECORDS)]
        {
            scope.spawn(move || alone(cloud, deny(name, steps)));
        }
        scope.spawn(|| alone(cloud, deny_what_few_need()));
    });
}
