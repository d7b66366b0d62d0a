//! The operator's program on the local AWS: the real binary, and every command that it prints run by the real AWS CLI.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::cloud::changed_template;
use crate::fleet::{self, Cards};
use crate::{Scene, cloud};

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    code: i32,
    pub out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "{text:?} in\n{}\n{}", self.out, self.err);
        self
    }

    /// The same, wherever the lines are broken.
    #[track_caller]
    pub fn says_in_lines(self, text: &str) -> Self {
        let whole = format!("{} {}", self.out, self.err).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(whole.contains(text), "{text:?} in\n{}\n{}", self.out, self.err);
        self
    }

    pub fn succeeded(&self) -> bool {
        self.code == 0
    }

    pub fn out(&self) -> &str {
        &self.out
    }

    pub fn err(&self) -> &str {
        &self.err
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// The program, begun and not waited for.
pub fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ec2-isolation"));
    command.args(arguments);
    let command = environment(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started")
}

pub fn environment(command: &mut Command) -> &mut Command {
    let home = std::fs::canonicalize("target/stack").expect("it is there");
    let command = command.env_clear().envs(cloud().credentials()).env("HOME", home);
    command.env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null())
}

pub fn with_credentials(mut command: Command) -> Ran {
    ended(environment(&mut command).output().expect("it can be started"))
}

pub fn ended(output: std::process::Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub fn operator(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ec2-isolation"));
    command.args(arguments);
    with_credentials(command)
}

/// Runs a printed command as it stands, in a shell that knows the AWS CLI and the operator's program.
pub fn run(line: &str) -> Ran {
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_ec2-isolation")).parent().expect("a folder");
    let aws = std::fs::canonicalize("target/venv/aws/bin").expect("`make tools` installs it");
    let path = format!("{}:{}:/usr/bin:/bin", aws.display(), own.display());
    let mut command = Command::new("sh");
    // What is cleared and set again for every program is not enough for the shell's own look-up.
    command.args(["-c", &format!("PATH={path}; export PATH AWS_DEFAULT_REGION=$AWS_REGION; {line}")]);
    with_credentials(command)
}

/// Of a stack of which nothing is open.
fn status(stack: &str) -> Value {
    status_ends_with(stack, 0)
}

pub fn status_ends_with(stack: &str, code: i32) -> Value {
    operator(&["status", "--stack", stack, "--output", "json"]).ends_with(code).json()
}

/// All commands of the next steps.
fn next(status: &Value) -> Vec<String> {
    let steps = status["next"].as_array().expect("a list").iter();
    let commands = steps.flat_map(|step| step["commands"].as_array().expect("a list"));
    commands.map(|command| command.as_str().expect("a text").to_owned()).collect()
}

fn restore_command(stack: &str) -> String {
    format!("ec2-isolation restore --stack {stack} --finish --region us-east-1")
}

/// Does what `status` says until nothing is left to do.
pub fn follow_next_steps(stack: &str) {
    for _ in 0..4 {
        let commands = next(&status(stack));
        if commands.is_empty() {
            return;
        }
        for command in commands {
            let yes = if command.starts_with("ec2-isolation restore") { " --yes" } else { "" };
            run(&format!("{command}{yes}")).ends_with(0);
        }
    }
    panic!("there is no end to the next steps of {stack}: {:?}", next(&status(stack)));
}

async fn roll_back(scene: &mut Scene, instances: &[&str]) {
    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    scene.incident.options = vec!["--no-disable-rollback"];
    let (succeeded, output) = scene.incident.list(instances).try_deploy();
    cloud().set("launch-failure", &json!({"error_code": null})).await;
    assert!(!succeeded, "{output}");
    scene.incident.options = vec![];
}

/// Whether a stack of this name is there.
async fn exists(name: &str) -> bool {
    cloud().cloudformation().await.describe_stacks().stack_name(name).send().await.is_ok()
}

async fn changes_since(since: u64) -> Vec<String> {
    let calls = cloud().calls(since).await;
    let reads = ["BatchGet", "Describe", "Get", "List", "Scan"];
    let changes = calls.into_iter().filter(|call| !reads.iter().any(|read| call.action.starts_with(read)));
    changes.map(|call| call.action).collect()
}

#[tokio::test]
async fn a_stack_that_rolled_back_is_restored_and_ended_without_its_function() {
    let mut scene = Scene::new("op-rollback").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 2).await;
    let before = scene.cards(&[&a]).await;
    roll_back(&mut scene, &[&a]).await;
    assert_eq!(scene.incident.status().await, "ROLLBACK_FAILED");
    scene.assert_isolated(&[&a]).await;
    let table = scene.incident.physical_id("SecurityGroupTable").await;

    let shown = status("op-rollback");
    assert_eq!(shown["stack"]["status"], "ROLLBACK_FAILED");
    assert_eq!(shown["stack"]["works"], false);
    assert_eq!(shown["table"], table.as_str());
    let instance = &shown["instances"][0];
    assert_eq!((instance["id"].as_str(), instance["record_state"].as_str()), (Some(a.as_str()), Some("kept")));
    for interface in instance["interfaces"].as_array().unwrap() {
        assert_eq!(interface["condition"], "isolated");
        let was: std::collections::BTreeSet<String> = serde_json::from_value(interface["before"].clone()).unwrap();
        assert_eq!(was, before[interface["id"].as_str().unwrap()]);
    }
    assert_eq!(next(&shown), [restore_command("op-rollback")]);
    operator(&["status", "--stack", "op-rollback"])
        .ends_with(0)
        .says("op-rollback: ROLLBACK_FAILED, restores nothing by itself any more")
        .says(&restore_command("op-rollback"))
        .says("ISOLATED, as EC2 shows it: 1 of 1 instance (2 interfaces).")
        .says(&format!("{a}  ISOLATED (running)"));

    let since = cloud().now().await;
    let plan = operator(&["plan", "--stack", "op-rollback"]).ends_with(0).says(&format!("To be restored: {a}"));
    for interface in before.keys() {
        plan.out.find(&format!("{a}: restore {interface} ")).unwrap_or_else(|| panic!("{interface} in {}", plan.out));
    }
    operator(&["restore", "--stack", "op-rollback"]).ends_with(3).says("no terminal to ask at; give --yes");
    assert_eq!(changes_since(since).await, Vec::<String>::new());

    let ran = run(&format!("{} --yes", restore_command("op-rollback"))).ends_with(0).says("1 instance restored");
    let ran = ran.says("stack op-rollback is deleted");
    assert_eq!(ran.err.matches(&format!("{a}: mark restoring")).count(), 1, "the plan is shown once: {}", ran.err);
    assert_eq!(scene.cards(&[&a]).await, before);
    assert!(!exists("op-rollback").await);

    let shown = status("op-rollback");
    assert_eq!((&shown["stack"]["status"], &shown["instances"][0]["record_state"]), (&Value::Null, &json!("restored")));
    assert_eq!(next(&shown), Vec::<String>::new());
    let history: Vec<String> = serde_json::from_value(shown["instances"][0]["history"].clone()).unwrap();
    assert!(history.last().unwrap().contains("with ec2-isolation restore"), "{history:?}");
    assert!(history.last().unwrap().contains(":user/administrator"), "{history:?}");
    operator(&["restore", "--table", &table, "--yes"]).ends_with(0).says("nothing to restore");
}

/// The template without the custom resource and the outputs that speak of it.
fn without_isolation(text: &str) -> String {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        // A section, or one resource, parameter or output of it.
        if !line.starts_with("   ") || blocks.is_empty() {
            blocks.push(Vec::new());
        }
        blocks.last_mut().expect("one was pushed").push(line);
    }
    let is_of_isolation = |block: &Vec<&str>| {
        block[0].starts_with("  Isolation:") || block.iter().any(|line| line.trim() == "- Isolation")
    };
    let kept = blocks.into_iter().filter(|block| !is_of_isolation(block)).flatten();
    kept.filter(|line| line.trim() != "DependsOn: Isolation").collect::<Vec<_>>().join("\n") + "\n"
}

#[tokio::test]
async fn the_custom_resource_taken_out_of_the_template_leaves_hosts_isolated_until_restored() {
    let mut scene = Scene::new("op-removed").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]).deploy();
    scene.incident.template = changed_template("op-removed", without_isolation);
    scene.incident.deploy();
    scene.assert_isolated(&[&a]).await;
    let shown = status("op-removed");
    assert_eq!((&shown["stack"]["status"], &shown["stack"]["works"]), (&json!("UPDATE_COMPLETE"), &json!(false)));
    assert_eq!(shown["instances"][0]["record_state"], "kept");
    // Its forensic host is there.
    let own = |command: &str| format!("ec2-isolation {command}--stack op-removed --region us-east-1");
    let steps = [own(&format!("memory {a} ")), own("evidence "), restore_command("op-removed")];
    assert_eq!(next(&shown), steps);
    run(&format!("{} --yes", restore_command("op-removed"))).ends_with(0).says("stack op-removed is deleted");
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn a_host_whose_original_groups_are_gone_gets_others_by_the_command_that_is_printed() {
    let mut scene = Scene::new("op-gone").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&b]).await;
    scene.incident.list(&[&a, &b]).deploy();
    scene.ec2.delete_security_group().group_id(&scene.site.groups[0]).send().await.expect("nothing uses it now");
    let interface = scene.cards(&[&a]).await.into_keys().next().unwrap();

    operator(&["plan", "--stack", "op-gone"]).ends_with(1).says(&format!("{a}: {interface} stays isolated"));
    let ran = operator(&["restore", "--stack", "op-gone", "--finish", "--yes", "--output", "json"]).ends_with(1);
    let report = ran.json();
    assert_eq!((&report["failed"], &report["ended"]), (&json!(true), &Value::Null));
    assert!(report["done"][0].as_str().unwrap().starts_with("1 of 2 instances restored; still isolated: "), "{report}");
    scene.assert_isolated(&[&a]).await;
    assert_eq!(scene.cards(&[&b]).await, before);

    let [list, choose, evidence, restore] = <[String; 4]>::try_from(next(&report["status"])).unwrap();
    assert_eq!(evidence, "ec2-isolation evidence --stack op-gone --region us-east-1");
    let groups = run(&list).ends_with(0).out;
    assert!(groups.contains("op-gone-admin") && !groups.contains("op-gone-web"), "{groups}");
    let admin = groups.lines().find(|line| line.contains("op-gone-admin")).and_then(|line| line.split('\t').next());
    assert!(choose.contains(&interface), "{choose}");
    run(&choose.replace("<group ids>", admin.unwrap())).ends_with(0);
    run(&format!("{restore} --yes")).ends_with(0).says("stack op-gone is deleted");
    assert_eq!(scene.cards(&[&a]).await, [(interface, [admin.unwrap().to_owned()].into())].into());
}

async fn empty(table: &str) {
    let dynamodb = cloud().dynamodb().await;
    let items = dynamodb.scan().table_name(table).send().await.expect("items");
    for item in items.items() {
        let delete = dynamodb.delete_item().table_name(table).key("InstanceId", item["InstanceId"].clone());
        delete.send().await.expect("it can be deleted");
    }
}

#[tokio::test]
async fn a_table_that_somebody_emptied_leaves_the_way_of_the_tags() {
    let mut scene = Scene::new("op-empty").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await;
    let b = scene.site.plain(&scene.ec2, &[3]).await;
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a, &b]).deploy();
    empty(&scene.incident.physical_id("SecurityGroupTable").await).await;

    let ran = operator(&["restore", "--stack", "op-empty", "--finish", "--yes"]).ends_with(1);
    let ran = ran.says("nothing to restore: no record is held").says("so nothing can be restored from it");
    for id in [&a, &b] {
        assert!(ran.out.contains(id), "{}", ran.out);
    }
    scene.assert_isolated(&[&a, &b]).await;
    let shown = status("op-empty");
    let strays = shown["without_record"].as_array().unwrap();
    assert_eq!(strays.len(), 3);
    for stray in strays {
        let tagged: std::collections::BTreeSet<String> = serde_json::from_value(stray["tagged"].clone()).unwrap();
        assert_eq!(tagged, before[stray["interface"].as_str().unwrap()]);
    }
    let commands = next(&shown);
    assert_eq!(commands.len(), 4, "one for each interface, and one for the tags: {commands:?}");
    for command in &commands {
        run(command).ends_with(0);
    }
    assert_eq!(scene.cards(&[&a, &b]).await, before);
    let left = scene.ec2.describe_tags().send().await.unwrap();
    let left = left.tags().iter().filter(|tag| [&a, &b].iter().any(|id| tag.resource_id() == Some(id)));
    assert_eq!(left.filter(|tag| tag.key().unwrap_or_default().starts_with("ec2-isolation:")).count(), 0);
    // The stack lists them, and they are free: it says so first, and how the stack is ended after that.
    let shown = status_ends_with("op-empty", 4);
    assert_eq!(shown["without_record"], json!([]));
    let commands = next(&shown);
    assert!(commands[0].starts_with("ec2-isolation isolate --stack op-empty "), "{commands:?}");
    for command in commands[1..].to_vec() {
        run(&command).ends_with(0);
    }
    assert!(!exists("op-empty").await);
}

#[tokio::test]
async fn a_stack_whose_function_is_gone_when_it_is_deleted_ends_without_it() {
    let mut scene = Scene::new("op-function").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a, &b]).deploy();
    let function = scene.incident.physical_id("IsolationFunction").await;
    let gone = fleet::aws(&cloud().credentials(), "lambda", "delete_function", &json!({"FunctionName": function}));
    gone.expect("it can be deleted");
    assert_eq!(scene.incident.delete_ends_in().await, "DELETE_FAILED");
    scene.assert_isolated(&[&a, &b]).await;
    // One first, then the rest.
    operator(&["restore", "--stack", "op-function", "--instance", &a, "--yes"])
        .ends_with(0)
        .says("1 instance restored");
    assert_eq!(scene.cards(&[&a]).await, only(&before, &scene.cards(&[&a]).await));
    scene.assert_isolated(&[&b]).await;
    operator(&["restore", "--stack", "op-function", "--yes"]).ends_with(0);
    assert_eq!(scene.cards(&[&a, &b]).await, before);
    let commands = next(&status("op-function"));
    assert!(commands[0].contains(" --retain-resources Isolation "), "{commands:?}");
    for command in commands {
        run(&command).ends_with(0);
    }
    assert!(!exists("op-function").await);
}

/// The function cannot tell whether the stack is being deleted, so it restores nothing, and goes with the stack.
#[tokio::test]
async fn a_rolled_back_stack_whose_custom_resource_is_left_ends_by_two_deletes() {
    let mut scene = Scene::new("op-twice").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    let blind = |text: &str| text.replace("cloudformation:DescribeStacks", "cloudformation:ListStacks");
    scene.incident.template = changed_template("op-twice", blind);
    roll_back(&mut scene, &[&a]).await;
    assert_eq!(scene.incident.status().await, "ROLLBACK_FAILED");
    scene.assert_isolated(&[&a]).await;
    operator(&["restore", "--stack", "op-twice", "--yes"]).ends_with(0);
    assert_eq!(scene.cards(&[&a]).await, before);
    let commands = next(&status("op-twice"));
    assert_eq!(commands.len(), 4, "{commands:?}");
    for command in commands {
        run(&command).ends_with(0);
    }
    assert!(!exists("op-twice").await);
}

#[tokio::test]
async fn a_function_that_somebody_deleted_keeps_no_stack_from_ending() {
    let mut scene = Scene::new("op-deleted").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]).deploy();
    let function = scene.incident.physical_id("IsolationFunction").await;
    let gone = fleet::aws(&cloud().credentials(), "lambda", "delete_function", &json!({"FunctionName": function}));
    gone.expect("it can be deleted");
    let ran = run(&format!("{} --yes", restore_command("op-deleted"))).ends_with(0);
    let ran = ran.says("DELETE_FAILED: ").says(" --retain-resources Isolation ");
    ran.says("stack op-deleted is deleted");
    assert_eq!(scene.cards(&[&a]).await, before);
    assert!(!exists("op-deleted").await);
}

fn only(cards: &Cards, which: &Cards) -> Cards {
    cards.iter().filter(|(id, _)| which.contains_key(*id)).map(|(id, groups)| (id.clone(), groups.clone())).collect()
}

#[tokio::test]
async fn a_stack_that_works_is_restored_and_ended_too() {
    let mut scene = Scene::new("op-works").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]).deploy();
    let shown = status("op-works");
    assert_eq!((&shown["stack"]["works"], &shown["instances"][0]["record_state"]), (&json!(true), &json!("isolated")));
    let restored = operator(&["restore", "--stack", "op-works", "--yes"]).ends_with(0);
    let restored =
        restored.says("aws cloudformation delete-stack").says_in_lines("still on the stack's list, so its next update");
    let shown = [restored.out(), restored.err()].map(|text| text.matches("To be restored:").count());
    assert_eq!(shown.iter().sum::<usize>(), 1, "the plan is shown once");
    assert_eq!(scene.cards(&[&a]).await, before);
    for command in next(&status("op-works")) {
        run(&command).ends_with(0);
    }
    assert!(!exists("op-works").await);
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn what_is_in_another_account_or_region_is_refused() {
    let mut scene = Scene::new("op-elsewhere").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).deploy();
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    let since = cloud().now().await;
    for (arn, what) in [
        ("arn:aws:cloudformation:us-east-1:999999999999:stack/op-elsewhere/x", "is in account 999999999999"),
        ("arn:aws:cloudformation:eu-west-1:123456789012:stack/op-elsewhere/x", "--region eu-west-1"),
    ] {
        operator(&["restore", "--stack", arn, "--yes"]).ends_with(3).says(what);
    }
    operator(&["restore", "--stack", "op-elsewhere", "--region", "eu-west-1", "--yes"]).ends_with(3);
    operator(&["restore", "--stack", "op-nowhere", "--yes"]).ends_with(3).says("there is no stack op-nowhere");
    operator(&["restore", "--table", "op-nowhere", "--yes"]).ends_with(3).says("there is no table op-nowhere");
    operator(&["restore", "--stack", "op-elsewhere", "--instance", "i-0bad", "--yes"])
        .ends_with(3)
        .says("no record of i-0bad");
    // The only incident there is, or which of several: never without asking.
    operator(&["restore"]).ends_with(3);
    operator(&["restore", "--stack", "x", "--instance", "web-1"]).ends_with(2).says("is not an instance id");
    // A record that says it is somebody else's.
    let owner = "arn:aws:cloudformation:us-east-1:999999999999:stack/op-elsewhere/x|Isolation";
    let dynamodb = cloud().dynamodb().await;
    let value = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let forged = dynamodb.update_item().table_name(&table).key("InstanceId", value(&a));
    let forged = forged.update_expression("SET #owner = :owner").expression_attribute_names("#owner", "Owner");
    forged.expression_attribute_values(":owner", value(owner)).send().await.expect("it can be written");
    operator(&["restore", "--table", &table, "--yes"]).ends_with(3).says("is in account 999999999999");
    assert_eq!(changes_since(since).await, ["UpdateItem"]);
    scene.assert_isolated(&[&a]).await;
}

#[tokio::test]
async fn instances_of_a_vanished_stack_move_under_another_one_without_leaving_isolation() {
    let mut scene = Scene::new("op-old").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 2).await;
    let before = scene.cards(&[&a]).await;
    let protection = fleet::protection(&scene.ec2, &a).await;
    roll_back(&mut scene, &[&a]).await;
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    let mut left = std::collections::BTreeMap::new();
    for name in ["IsolatedSecurityGroup", "ForensicSecurityGroup"] {
        left.insert(name, scene.incident.physical_id(name).await);
    }
    assert_eq!(scene.incident.delete_ends_in().await, "DELETE_FAILED");
    run("aws cloudformation delete-stack --stack-name op-old --retain-resources IsolatedSecurityGroup ForensicSecurityGroup").ends_with(0);
    run("aws cloudformation wait stack-delete-complete --stack-name op-old").ends_with(0);
    assert_eq!(next(&status("op-old")), [restore_command("op-old")]);

    // The new one: its name differs, its site does not.
    let mut new = crate::Incident::new(cloud(), "op-new", &scene.site, "op-old");
    let reason = new.list(&[&a]).deploy_fails().await;
    assert!(reason.contains("is already isolated by"), "{reason}");
    let group = new.physical_id("IsolatedSecurityGroup").await;
    let since = cloud().now().await;
    let adopt = ["adopt", "--from", &table, "--to", "op-new"];
    operator(&[adopt.as_slice(), &["--dry-run"]].concat()).ends_with(0).says(&format!("{a}: record it for"));
    operator(&adopt).ends_with(3);
    assert_eq!(changes_since(since).await, Vec::<String>::new());
    operator(&[adopt.as_slice(), &["--yes"]].concat()).ends_with(0).says(&format!("adopted: {a}"));
    operator(&[adopt.as_slice(), &["--yes"]].concat()).ends_with(0).says("adopted: none");
    assert_eq!(scene.incident.states(&table).await.get(&a), None);
    let shown = status("op-new");
    assert_eq!(shown["instances"][0]["record_state"], "isolated");
    let history: Vec<String> = serde_json::from_value(shown["instances"][0]["history"].clone()).unwrap();
    assert!(
        history.iter().any(|line| line.contains("taken over from arn:aws:cloudformation:") && line.contains(&table)),
        "{history:?}"
    );
    // What the old one left goes, though its groups name each other.
    let [isolation, forensic] = ["IsolatedSecurityGroup", "ForensicSecurityGroup"].map(|name| left[name].clone());
    let pair = aws_sdk_ec2::types::UserIdGroupPair::builder().group_id(&isolation).build();
    let ssh = aws_sdk_ec2::types::IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22);
    let egress = scene.ec2.authorize_security_group_egress().group_id(&forensic);
    egress.ip_permissions(ssh.user_id_group_pairs(pair).build()).send().await.expect("a rule");
    for command in next(&status("op-old")) {
        run(&command).ends_with(0);
    }

    new.set("Rerun", "adopted").deploy();
    let outputs = new.outputs().await;
    assert_eq!((outputs["IsolatedInstances"].as_str(), outputs["SnapshotCount"].as_str()), (a.as_str(), "2"));
    let calls = cloud().calls(since).await;
    let swaps: Vec<_> = calls.iter().filter(|call| call.action == "ModifyNetworkInterfaceAttribute").collect();
    assert!(swaps.len() >= 2, "{swaps:?}");
    for swap in swaps {
        let groups: Vec<_> = swap.parameters.iter().filter(|(name, _)| name.starts_with("SecurityGroupId")).collect();
        assert_eq!(groups, [(&"SecurityGroupId.1".to_owned(), &group)], "it left its isolation");
    }
    assert!(!calls.iter().any(|call| call.action == "CreateSnapshots"), "the snapshots went with it");

    new.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
    assert_eq!(fleet::protection(&scene.ec2, &a).await, protection);
}

#[tokio::test]
async fn what_a_stack_still_takes_care_of_is_not_adopted() {
    let mut scene = Scene::new("op-alive").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    scene.incident.list(&[&a, &b]).deploy();
    let mut new = crate::Incident::new(cloud(), "op-heir", &scene.site, "op-alive");
    let other = scene.site.plain(&scene.ec2, &[2]).await;
    new.list(&[&other]).deploy();
    let adopt = ["adopt", "--from", "op-alive", "--to", "op-heir", "--yes"];
    operator(&adopt)
        .ends_with(3)
        .says_in_lines(&format!("{a} is still isolated by "))
        .says_in_lines("which works: deploy that stack once more without");
    // As it says.
    scene.incident.list(&[&b]).deploy();
    operator(&[adopt.as_slice(), &["--instance", &a]].concat()).ends_with(0).says(&format!("adopted: {a}"));
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&b]).await, only(&before, &scene.cards(&[&b]).await));
    let group = new.physical_id("IsolatedSecurityGroup").await;
    assert_eq!(scene.cards(&[&a]).await.into_values().next(), Some([group].into()));
    new.list(&[&other, &a]).deploy();
    new.delete().await;
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}
