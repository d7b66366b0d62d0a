//! `make demo`: a fleet on the local AWS is isolated by the real `sam deploy` and restored by `sam delete`; then the same in an account
//! that was prepared, where the function is there already.
//!
//! Exits non-zero unless every interface of every listed instance was exactly in the isolation group and every instance
//! protected, afterwards equal to their start, and the bystander never changed. Writes target/demo/report.json.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A demo that cannot go on stops.
#![allow(clippy::print_stdout)] // Its output is what it is for.
#![allow(dead_code)] // The stack tests use the rest of these modules.

mod beside;
mod cloud;
#[path = "demo_credentials.rs"]
mod credentials;
mod findings;
mod fleet;
mod incident;
#[path = "demo_prepared.rs"]
mod prepared;
#[path = "demo_trigger.rs"]
mod trigger;
#[path = "demo_watch.rs"]
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use aws_sdk_ec2::types::{AttributeBooleanValue, Filter};
use cloud::Cloud;
use fleet::{Cards, Site, cards, profile, protection, scaling_group};
use incident::Incident;
use serde_json::{Map, Value, json};

const STACK: &str = "incident-demo";
const GROUP: &str = "demo-web";

struct Clock(Instant);

impl Clock {
    fn step(&self, what: &str) {
        println!("[{:>4} s] {what}", self.0.elapsed().as_secs());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let clock = Clock(Instant::now());
    std::fs::create_dir_all("target/demo").expect("target can be written");

    clock.step("starting the local AWS");
    let cloud = Cloud::start(Path::new("target/demo/local-aws.log"));
    let ec2 = cloud.ec2().await;

    clock.step("launching a fleet");
    let site = Site::build(&ec2, "demo", 1).await;
    ec2.create_key_pair().key_name("demo").send().await.expect("a key pair");
    let three_groups = site.launch(&ec2, &[&[0, 1, 2]], 1).await;
    let two_interfaces = site.launch(&ec2, &[&[0, 1], &[2, 3]], 1).await;
    let stopped = site.launch(&ec2, &[&[1]], 2).await;
    ec2.stop_instances().instance_ids(&stopped).send().await.expect("it stops");
    let protected = site.plain(&ec2, &[0]).await;
    let protection = AttributeBooleanValue::builder().value(true).build();
    let protect = ec2.modify_instance_attribute().instance_id(&protected).disable_api_termination(protection);
    protect.send().await.expect("it can be protected");
    let (with_profile, _) = site.with_profile(&ec2, &cloud, "demo-role").await;
    let member = site.scaling_group(&ec2, &cloud, GROUP, [0, 3, 1]).await.remove(0);
    let bystander = site.launch(&ec2, &[&[0, 3]], 1).await;
    let listed = [
        (&three_groups, "running, three groups"),
        (&two_interfaces, "running, two interfaces"),
        (&stopped, "stopped, two volumes"),
        (&protected, "running, termination protection on already"),
        (&with_profile, "running, with an instance profile"),
        (&member, "running, member of an Auto Scaling group"),
    ];
    for (id, what) in listed.iter().chain(&[(&bystander, "bystander, not listed")]) {
        println!("         {id}  {what}");
    }
    let ids: Vec<&str> = listed.iter().map(|(id, _)| id.as_str()).collect();
    let before = read(&ec2, &ids).await;
    let beside_before = cards(&ec2, &[&bystander]).await;
    let kept_before = guard(&ec2, &cloud, &ids).await;

    let mut incident = Incident::new(&cloud, STACK, &site, "demo");
    incident.list(&ids).set("DetachInstanceProfile", "true").set("LockSnapshotDays", "30");
    clock.step(&format!(
        "sam deploy --stack-name {STACK} --parameter-overrides VpcId={} CompromisedInstanceList={} DetachInstanceProfile=true LockSnapshotDays=30 …",
        site.vpc,
        ids.join(",")
    ));
    let started = Instant::now();
    let (deployed, output) = incident.try_deploy();
    let deploy_seconds = started.elapsed().as_secs_f64();
    let stack_id = stack_id(&cloud).await;
    if !deployed {
        println!("{output}");
        print_events(&incident, &stack_id).await;
        println!("FAILED: sam deploy did not succeed");
        return ExitCode::FAILURE;
    }
    let isolated = read(&ec2, &ids).await;
    let beside_isolated = cards(&ec2, &[&bystander]).await;
    let kept = guard(&ec2, &cloud, &ids).await;
    let group = incident.physical_id("IsolatedSecurityGroup").await;
    let snapshots = snapshots(&ec2, &stack_id).await;

    println!("\n  Outputs");
    for (key, value) in incident.outputs().await {
        println!("    {key:24} {value}");
    }
    println!("\n  Snapshots");
    for snapshot in &snapshots {
        let [id, volume, instance, device] =
            ["id", "volume", "instance", "device"].map(|key| snapshot[key].as_str().unwrap_or_default());
        println!("    {id}  of {volume}  {device:10} {instance}");
    }
    let first = snapshots[0]["id"].as_str().expect("an id");
    let deleted_lock = ec2.delete_snapshot().snapshot_id(first).send().await;
    let refusal = deleted_lock.as_ref().err().and_then(|error| error.as_service_error()?.meta().message());
    println!("    aws ec2 delete-snapshot --snapshot-id {first}: {}", refusal.unwrap_or("deleted"));
    let is_locked = refusal.is_some_and(|refusal| refusal.contains("is locked"));
    println!("\n  Stack events");
    print_events(&incident, &stack_id).await;
    println!();

    clock.step(&format!("sam delete --no-prompts --stack-name {STACK}"));
    let started = Instant::now();
    let (deleted, output) = cloud.sam(&["delete", "--no-prompts", "--stack-name", STACK]);
    let delete_seconds = started.elapsed().as_secs_f64();
    let restored = read(&ec2, &ids).await;
    let beside_after = cards(&ec2, &[&bystander]).await;
    let kept_after = guard(&ec2, &cloud, &ids).await;

    println!("\n  {:24} {:22} {:46} {:14} restored", "interface", "instance", "before", "isolated");
    for (interface, (instance, groups)) in &before {
        let now = |cards: &Interfaces| cards.get(interface).map_or("gone".to_owned(), |(_, groups)| short(groups));
        println!("  {interface:24} {instance:22} {:46} {:14} {}", short(groups), now(&isolated), now(&restored));
    }
    for (interface, groups) in &beside_before {
        let now = |cards: &Cards| cards.get(interface).map_or("gone".to_owned(), short);
        println!(
            "  {interface:24} {:22} {:46} {:14} {}",
            "bystander",
            short(groups),
            now(&beside_isolated),
            now(&beside_after)
        );
    }
    println!("  (groups by the last four digits; the isolation group is …{})\n", &group[group.len() - 4..]);

    println!("  {:22} {:26} before -> isolated -> restored", "instance", "attribute");
    for (id, had) in &kept_before {
        let (now, after) = (&kept[id], &kept_after[id]);
        for (name, value) in had.as_object().expect("attributes") {
            println!("  {id:22} {name:26} {} -> {} -> {}", shown(value), shown(&now[name]), shown(&after[name]));
        }
    }
    println!();

    let (prepared, prepared_faults) = prepared::show(&cloud, &clock, &ec2).await;
    write_report(
        &prepared,
        [&before, &isolated, &restored],
        [&kept_before, &kept, &kept_after],
        (&beside_before, &beside_after),
        &snapshots,
        deploy_seconds,
        delete_seconds,
    );

    let mut faults = prepared_faults;
    if !deleted {
        println!("{output}");
        print_events(&incident, &stack_id).await;
        faults.push("sam delete did not succeed".to_owned());
    }
    for (interface, (_, groups)) in &before {
        if isolated.get(interface).is_none_or(|(_, now)| *now != [group.clone()].into()) {
            faults.push(format!("{interface} was not in exactly the isolation group"));
        }
        if restored.get(interface).is_none_or(|(_, now)| now != groups) {
            faults.push(format!("{interface} did not get its groups back"));
        }
    }
    for id in &ids {
        let now = &kept[*id];
        let is_kept = now["termination_protection"] == json!(true)
            && now["stop_protection"] == json!(true)
            && now["shutdown_behaviour"] == json!("stop")
            && now["volumes_deleted_with_it"] == json!(0)
            && now["metadata_service"] == json!(false)
            && now["instance_profile"].is_null()
            && now["auto_scaling"].as_str().is_none_or(|state| state == "Standby");
        if !is_kept {
            faults.push(format!("{id} was not protected: {now}"));
        }
        if kept_before[*id] != kept_after[*id] {
            faults.push(format!("{id} has not what it had: {}", kept_after[*id]));
        }
    }
    if beside_before != beside_isolated || beside_before != beside_after {
        faults.push("the bystander was changed".to_owned());
    }
    let volumes: u64 = kept_before.values().map(|had| had["volumes"].as_u64().unwrap_or_default()).sum();
    if !is_locked {
        faults.push(format!("{first} can be deleted although it was to be locked"));
    }
    if snapshots.len() as u64 != volumes {
        faults.push(format!("{} snapshots of {volumes} volumes", snapshots.len()));
    }
    clock.step("stopping the local AWS");
    drop(cloud);
    if faults.is_empty() {
        println!(
            "OK: {} interfaces of {} instances isolated and restored, and what protects them, the bystander never changed; beside a responder {} more; report in target/demo/report.json",
            before.len(),
            ids.len(),
            prepared["interfaces"].as_object().map_or(0, Map::len)
        );
        ExitCode::SUCCESS
    } else {
        for fault in faults {
            println!("FAILED: {fault}");
        }
        ExitCode::FAILURE
    }
}

/// Interface id -> instance and groups.
type Interfaces = std::collections::BTreeMap<String, (String, std::collections::BTreeSet<String>)>;

async fn read(ec2: &aws_sdk_ec2::Client, ids: &[&str]) -> Interfaces {
    let mut all = Interfaces::new();
    for id in ids {
        let own = cards(ec2, &[id]).await;
        all.extend(own.into_iter().map(|(interface, groups)| (interface, ((*id).to_owned(), groups))));
    }
    all
}

/// Instance id -> what keeps it from being lost, by name.
type Guard = std::collections::BTreeMap<String, Value>;

async fn guard(ec2: &aws_sdk_ec2::Client, cloud: &Cloud, ids: &[&str]) -> Guard {
    let members = scaling_group(cloud, GROUP).instances;
    let mut guard = Guard::new();
    for id in ids {
        let protection = protection(ec2, id).await;
        let attributes = json!({
            "termination_protection": protection.termination,
            "stop_protection": protection.stop,
            "shutdown_behaviour": protection.shutdown,
            "metadata_service": protection.metadata_service,
            "volumes": protection.deleted.len(),
            "volumes_deleted_with_it": protection.deleted.values().filter(|deleted| **deleted).count(),
            "instance_profile": profile(ec2, id).await,
            "auto_scaling": members.get(*id),
        });
        guard.insert((*id).to_owned(), attributes);
    }
    guard
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.rsplit('/').next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

fn short(groups: &std::collections::BTreeSet<String>) -> String {
    groups.iter().map(|group| format!("…{}", &group[group.len() - 4..])).collect::<Vec<_>>().join(" ")
}

async fn stack_id(cloud: &Cloud) -> String {
    let stacks = cloud.cloudformation().await.describe_stacks().stack_name(STACK).send().await;
    stacks
        .ok()
        .and_then(|stacks| Some(stacks.stacks().first()?.stack_id()?.to_owned()))
        .unwrap_or_else(|| STACK.to_owned())
}

async fn print_events(incident: &Incident<'_>, stack: &str) {
    for event in incident.events(stack).await {
        println!("    {event}");
    }
}

async fn snapshots(ec2: &aws_sdk_ec2::Client, stack_id: &str) -> Vec<Map<String, Value>> {
    let of_stack = Filter::builder().name("tag:ec2-isolation:stack").values(stack_id).build();
    let found = ec2.describe_snapshots().filters(of_stack).send().await.expect("snapshots");
    let describe = |snapshot: &aws_sdk_ec2::types::Snapshot| {
        let tag = |key: &str| {
            snapshot.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value()).unwrap_or_default()
        };
        let fields = [
            ("id", snapshot.snapshot_id().unwrap_or_default()),
            ("volume", tag("ec2-isolation:volume")),
            ("instance", tag("ec2-isolation:instance")),
            ("device", tag("ec2-isolation:device")),
        ];
        fields.map(|(key, value)| (key.to_owned(), json!(value))).into_iter().collect()
    };
    found.snapshots().iter().map(describe).collect()
}

fn write_report(
    prepared: &Value,
    [before, isolated, restored]: [&Interfaces; 3],
    [kept_before, kept, kept_after]: [&Guard; 3],
    (beside_before, beside_after): (&Cards, &Cards),
    snapshots: &[Map<String, Value>],
    deploy_seconds: f64,
    delete_seconds: f64,
) {
    let groups = |cards: &Interfaces, interface: &str| {
        cards.get(interface).map(|(_, groups)| groups.clone()).unwrap_or_default()
    };
    let interfaces: Map<String, Value> = before
        .iter()
        .map(|(interface, (instance, had))| {
            let entry = json!({
                "instance": instance, "before": had,
                "isolated": groups(isolated, interface), "restored": groups(restored, interface),
            });
            (interface.clone(), entry)
        })
        .collect();
    let bystanders: Map<String, Value> = beside_before
        .iter()
        .map(|(interface, had)| (interface.clone(), json!({"before": had, "after": beside_after.get(interface)})))
        .collect();
    let report = json!({
        "interfaces": interfaces,
        "instances": kept_before.iter().map(|(id, had)| {
            (id.clone(), json!({"before": had, "isolated": kept[id], "restored": kept_after[id]}))
        }).collect::<Map<_, _>>(),
        "bystanders": bystanders,
        "snapshots": snapshots.iter().map(|snapshot| snapshot["id"].clone()).collect::<Vec<_>>(),
        "deploy_seconds": deploy_seconds,
        "delete_seconds": delete_seconds,
        "prepared": prepared,
    });
    let text = serde_json::to_string_pretty(&report).expect("it is JSON");
    std::fs::write("target/demo/report.json", text + "\n").expect("target can be written");
}
