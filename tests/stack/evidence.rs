//! Evidence of a deployed incident on the local AWS, by the real program: volumes on its forensic host, the manifest, copies for another
//! account, and away again.

use aws_sdk_ec2::types::{Filter, Volume};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::operator::{operator, run, start};
use crate::{Scene, cloud};

const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012";
const ACCOUNT: &str = "111122223333";

impl Scene {
    /// The volumes that were made as evidence of this scene's incident.
    pub async fn evidence(&self, instance: &str) -> Vec<Volume> {
        let tagged =
            |name: &str, value: &str| Filter::builder().name(format!("tag:ec2-isolation:{name}")).values(value).build();
        let of_it = [tagged("role", "evidence"), tagged("instance", instance)];
        let found = self.ec2.describe_volumes().set_filters(Some(of_it.to_vec())).send().await.expect("volumes");
        found.volumes().to_vec()
    }

    async fn snapshots(&self, instance: &str) -> Vec<aws_sdk_ec2::types::Snapshot> {
        let of_it = Filter::builder().name("tag:ec2-isolation:instance").values(instance).build();
        let found = self.ec2.describe_snapshots().owner_ids("self").filters(of_it).send().await.expect("snapshots");
        found.snapshots().to_vec()
    }
}

/// Runs the program to its end, and gives how much memory it had at most, in KiB.
fn most_memory(arguments: &[&str]) -> u64 {
    let mut program = start(arguments);
    let status = format!("/proc/{}/status", program.id());
    let mut most = 0;
    while program.try_wait().expect("it is ours").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(most);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = program.wait_with_output().expect("it has ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    most
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn volumes_of_the_snapshots_come_to_the_forensic_host_once_and_go_again() {
    let mut scene = Scene::new("op-evidence").await;
    let a = scene.site.launch(&scene.ec2, &[&[0]], 2).await;
    let b = scene.site.plain(&scene.ec2, &[1]).await;
    scene.incident.list(&[&a, &b]).deploy();
    let host = scene.incident.physical_id("ForensicInstance").await;
    // What status names is what works.
    let status = operator(&["status", "--stack", "op-evidence"]).ends_with(0).out;
    let named = status.split("There are snapshots of 3 volumes.").nth(1).expect("it is named");
    assert!(named.contains(&host) && named.contains("  ec2-isolation evidence --stack op-evidence "), "{status}");

    let snapshots = scene.snapshots(&a).await;
    let pending = snapshots[0].snapshot_id().expect("an id");
    cloud().set("snapshot", &json!({"id": pending, "state": "pending", "percent": 40})).await;
    operator(&["evidence", "--stack", "op-evidence", "--dry-run"])
        .ends_with(0)
        .says("3 volumes to be made")
        .says("complete (40%)");
    assert!(scene.evidence(&a).await.is_empty(), "a dry run makes nothing");
    operator(&["evidence", "--stack", "op-evidence"]).ends_with(3).says("there is no terminal to ask at; give --yes");
    cloud().set("snapshot", &json!({"id": pending, "state": null})).await;

    let attached = operator(&["evidence", "--stack", "op-evidence", "--yes", "--output", "json"]).ends_with(0).json();
    assert_eq!(
        (&attached["failed"], attached["disks"].as_array().map(Vec::len)),
        (&json!(false), Some(3)),
        "{attached}"
    );
    for volume in scene.evidence(&a).await.iter().chain(&scene.evidence(&b).await) {
        let at = &volume.attachments()[0];
        assert_eq!(
            (at.instance_id(), volume.volume_type().map(|kind| kind.as_str())),
            (Some(host.as_str()), Some("gp3"))
        );
        let id = volume.volume_id().expect("an id");
        assert!(attached["script"].as_str().is_some_and(|script| script.contains(&id.replace('-', ""))), "{attached}");
    }
    let again = operator(&["evidence", "--stack", "op-evidence", "--yes", "--output", "json"]).ends_with(0).json();
    assert_eq!(again["disks"], attached["disks"]);
    assert_eq!((scene.evidence(&a).await.len(), scene.evidence(&b).await.len()), (2, 1));
    let report = operator(&["report", "--stack", "op-evidence", "--output", "json"]).ends_with(0).json();
    let timeline = report["timeline"].as_array().expect("a list");
    let made = timeline
        .iter()
        .filter(|event| event["what"].as_str().is_some_and(|what| what.starts_with("evidence volumes made: vol-")));
    assert_eq!(made.count(), 3, "{timeline:?}");

    operator(&["evidence", "--remove", "--stack", "op-evidence", "--yes", &b])
        .ends_with(0)
        .says("1 volume of op-evidence taken away");
    assert_eq!((scene.evidence(&a).await.len(), scene.evidence(&b).await.len()), (2, 0));
    run("ec2-isolation restore --stack op-evidence --finish --yes").ends_with(0);
    // The incident is over: what is left is named, and what is printed deletes it.
    let table = report["status"]["table"].as_str().expect("a table").to_owned();
    let left = operator(&["leftovers", "--table", &table]).ends_with(0).out;
    for volume in scene.evidence(&a).await {
        assert!(left.contains(&format!("volume {}", volume.volume_id().expect("an id"))), "{left}");
    }
    for line in left.lines().filter_map(|line| line.strip_prefix("  aws ec2 ")).filter(|line| line.contains("volume")) {
        run(&format!("aws ec2 {line}")).ends_with(0);
    }
    assert!(scene.evidence(&a).await.is_empty());
}

/// What is printed goes on with what was asked for: other instances are left alone.
#[tokio::test]
async fn ctrl_c_ends_the_watching_and_what_was_begun_is_finished_by_the_command_that_is_printed() {
    let mut scene = Scene::new("op-evidence-ctrl-c").await;
    let a = scene.site.launch(&scene.ec2, &[&[0]], 2).await;
    let b = scene.site.plain(&scene.ec2, &[1]).await;
    scene.incident.list(&[&a, &b]).deploy();
    let snapshots = scene.snapshots(&a).await;
    let pending = snapshots[0].snapshot_id().expect("an id");
    cloud().set("snapshot", &json!({"id": pending, "state": "pending", "percent": 40})).await;
    let child = start(&["evidence", "--stack", "op-evidence-ctrl-c", "--yes", &a]);
    // One of the two is on the host, the other is waited for.
    while scene.evidence(&a).await.iter().all(|volume| volume.attachments().is_empty()) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("a kill");
    assert!(killed.success());
    let ended = child.wait_with_output().expect("it ends");
    let said = String::from_utf8(ended.stderr).expect("text");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let goes_on = "The watching has ended. AWS goes on with what it has begun, and nothing is made twice. To go on:";
    assert!(words.contains(goes_on), "{said}");
    assert!(ended.stdout.is_empty(), "nothing is claimed: {}", String::from_utf8_lossy(&ended.stdout));
    let next = said.lines().last().expect("a line").trim();
    assert_eq!(next, format!("ec2-isolation evidence --stack op-evidence-ctrl-c {a} --region us-east-1"));
    let begun = scene.evidence(&a).await;
    assert_eq!(begun.len(), 1);

    cloud().set("snapshot", &json!({"id": pending, "state": null})).await;
    run(&format!("{next} --yes")).ends_with(0);
    let now = scene.evidence(&a).await;
    let is_attached = |volume: &Volume| !volume.attachments().is_empty();
    assert!(now.len() == 2 && now.iter().all(is_attached), "{now:?}");
    assert!(now.iter().any(|volume| volume.volume_id() == begun[0].volume_id()), "{now:?}");
    assert!(scene.evidence(&b).await.is_empty(), "of {b} nobody has spoken");
    operator(&["evidence", "--remove", "--stack", "op-evidence-ctrl-c", "--yes"]).ends_with(0);
    scene.incident.delete().await;
}

#[tokio::test]
async fn a_manifest_says_what_is_in_the_snapshots_and_is_part_of_the_report() {
    let mut scene = Scene::new("op-manifest").await;
    let a = scene.site.launch(&scene.ec2, &[&[0]], 1).await;
    scene.incident.list(&[&a]).deploy();
    let snapshot = scene.snapshots(&a).await.swap_remove(0);
    let volume = snapshot.volume_id().expect("a volume");
    // 300 MiB of 1 GiB are written.
    let last = 2047;
    let written = |index: u64| index < 300 || (1000..1299).contains(&index) || index == last;
    let indexes: Vec<u64> = (0..=last).filter(|index| written(*index)).collect();
    cloud().set("blocks", &json!({"volume": volume, "indexes": indexes, "gib": 1})).await;
    std::fs::create_dir_all("target/tmp").expect("a folder");
    let file = format!("target/tmp/op-manifest-{}.json", std::process::id());
    let write = ["evidence", "--manifest", "--stack", "op-manifest", "--to", &file];
    let most = most_memory(&write);
    // Without optimisation the program alone takes more than with it: what counts is what the blocks add.
    let alone = most_memory(&["report", "--stack", "op-manifest", "--output", "json"]);
    println!("memory: {most} KiB for 300 MiB of blocks, {alone} KiB without");
    // With all code in it that is not optimised: what is released takes less.
    assert!(most < 64 << 10, "{most} KiB at its highest");
    assert!(
        alone > 0 && most < alone + (32 << 10),
        "{most} KiB at its highest, {alone} KiB without: it does not stream"
    );
    operator(&write).ends_with(3).says("is there already: give --to another name");
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("it is there")).expect("JSON");
    let held = manifest["snapshots"].as_array().expect("a list");
    let held = held.iter().find(|held| held["volume"] == volume).expect("it is in it");

    // As anybody may compute it.
    let (mut image, zeros) = (Sha256::new(), vec![0; 1 << 19]);
    for index in 0..=last {
        match written(index) {
            true => image.update(Sha256::digest(format!("{volume} {index}")).repeat(1 << 14)),
            false => image.update(&zeros),
        }
    }
    let image: String = image.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&held["digest"]["value"], &held["digest"]["blocks"]), (&json!(image), &json!(600)), "{manifest}");
    // The command in it checks it.
    let check = manifest["to_check"].as_str().expect("a command");
    let output = std::process::Command::new("sh").args(["-c", check]).output().expect("a shell");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with(manifest["sha256"].as_str().expect("a digest")),
        "{check}"
    );

    let report =
        operator(&["report", "--stack", "op-manifest", "--output", "json", "--manifest", &file]).ends_with(0).json();
    assert_eq!(
        (&report["manifest"]["sha256"], &report["manifest"]["incident"]),
        (&manifest["sha256"], &json!("op-manifest"))
    );
    let changed = std::fs::read_to_string(&file).expect("it is there").replacen(&image, &"0".repeat(64), 1);
    std::fs::write(&file, changed).expect("it can be written");
    operator(&["report", "--stack", "op-manifest", "--manifest", &file])
        .ends_with(3)
        .says("its SHA-256 is not that of its lines");
    std::fs::remove_file(&file).expect("it is there");
    scene.incident.delete().await;
}

#[tokio::test]
async fn copies_are_shared_with_another_account_and_a_key_that_does_not_work_is_seen() {
    let mut scene = Scene::new("op-share").await;
    let a = scene.site.launch(&scene.ec2, &[&[0]], 1).await;
    scene.incident.list(&[&a]).deploy();
    let share = |key: &str| {
        operator(&["evidence", "--stack", "op-share", "--share", ACCOUNT, "--key", key, "--yes", "--output", "json"])
    };
    share("alias/aws/ebs")
        .ends_with(3)
        .says("it is managed by AWS, and no snapshot that is encrypted with it can be shared");
    cloud().set("bad-keys", &json!({"keys": [KEY]})).await;
    let failed = share(KEY).ends_with(1).json();
    let why = failed["snapshots"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("failed: Given key ID is not accessible"), "{why}");
    cloud().set("bad-keys", &json!({"keys": []})).await;
    let shared = share(KEY).ends_with(0).json();
    let copy = shared["snapshots"][0]["shared"].as_str().expect("a copy").to_owned();
    let attribute = aws_sdk_ec2::types::SnapshotAttributeName::CreateVolumePermission;
    let read = scene
        .ec2
        .describe_snapshot_attribute()
        .snapshot_id(&copy)
        .attribute(attribute)
        .send()
        .await
        .expect("it is there");
    let accounts: Vec<_> = read.create_volume_permissions().iter().filter_map(|with| with.user_id()).collect();
    assert_eq!(accounts, [ACCOUNT]);
    assert_eq!(share(KEY).ends_with(0).json()["snapshots"], shared["snapshots"], "nothing is copied twice");
    assert!(
        texts(&shared["commands"])[0].starts_with(&format!("aws ec2 copy-snapshot --source-snapshot-id {copy} ")),
        "{shared}"
    );
    let report = operator(&["report", "--stack", "op-share", "--output", "json"]).ends_with(0).json();
    let listed =
        report["snapshots"].as_array().expect("a list").iter().find(|snapshot| snapshot["id"] == copy.as_str());
    assert_eq!(listed.map(|copy| &copy["copy_of"]), Some(&shared["snapshots"][0]["snapshot"]), "{report}");
    scene.incident.delete().await;
}

/// The blocks of docs/evidence.md that say so are typed here, in their order, with this stack's name and files of their own.
#[tokio::test]
async fn the_commands_of_the_evidence_page_work_as_they_stand() {
    let mut scene = Scene::new("op-page").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]).deploy();
    // To hash what is not optimised takes half a minute a gibibyte.
    let snapshot = scene.snapshots(&a).await.swap_remove(0);
    cloud().set("blocks", &json!({"volume": snapshot.volume_id(), "indexes": [0, 7], "gib": 1})).await;
    let page = std::fs::read_to_string("docs/evidence.md").expect("the page");
    let parts: Vec<&str> = page.split("```").collect();
    let is_ours = |before: &str| before.trim_end().ends_with("<!-- run by tests/stack/evidence.rs -->");
    let blocks = parts.chunks_exact(2).filter(|pair| is_ours(pair[0])).map(|pair| pair[1]);
    let lines: Vec<&str> = blocks.flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    std::fs::create_dir_all("target/tmp").expect("a folder");
    let file = |name: &str| format!("target/tmp/op-page-{}-{name}", std::process::id());
    let (manifest, html) = (file("manifest.json"), file("case.html"));
    for line in &lines {
        let line = line.replace("incident-42-manifest.json", &manifest).replace("incident-42.html", &html);
        let line = line.replace("incident-42", "op-page").replace("arn:aws:kms:eu-west-1:123456789012:key/…", KEY);
        let asks = line.contains(" evidence ") && !line.contains("--dry-run") && !line.contains("--manifest");
        run(&format!("{line}{}", if asks { " --yes" } else { "" })).ends_with(0);
        if line.ends_with("evidence --stack op-page") {
            assert_eq!(scene.evidence(&a).await.len(), 1, "{line}");
        }
    }
    assert!(scene.evidence(&a).await.is_empty(), "--remove took it away");
    assert!(std::fs::read_to_string(&html).expect("the report").contains("op-page"));
    std::fs::remove_file(&manifest).expect("it is there");
    std::fs::remove_file(&html).expect("it is there");
    scene.incident.delete().await;
}
