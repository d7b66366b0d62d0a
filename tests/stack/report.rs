//! The case file of a deployed incident, written by the real binary on the local AWS, whose CloudTrail has recorded nothing.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::operator::{operator, run};
use crate::{Scene, cloud, fleet};

/// The digest of a record as anybody may compute it: its JSON with keys and sets in their order.
fn digest(item: &Value) -> String {
    fn sorted(value: &Value) -> String {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(name, _)| *name);
                let field = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                    ("SS", Value::Array(members)) => {
                        let mut members: Vec<String> = members.iter().map(Value::to_string).collect();
                        members.sort();
                        format!("\"SS\":[{}]", members.join(","))
                    }
                    _ => format!("{}:{}", json!(name), sorted(value)),
                };
                format!("{{{}}}", fields.into_iter().map(field).collect::<Vec<_>>().join(","))
            }
            Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
            other => other.to_string(),
        }
    }
    Sha256::digest(sorted(item).as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_case_file_is_written_once_and_says_what_cloudtrail_does_not() {
    let mut scene = Scene::new("op-report").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 2).await;
    let name = aws_sdk_ec2::types::Tag::builder().key("Name").value("<script>alert(1)</script>").build();
    scene.ec2.create_tags().resources(&a).tags(name).send().await.expect("a tag");
    scene.incident.list(&[&a]).deploy();
    let table = scene.incident.physical_id("SecurityGroupTable").await;
    std::fs::create_dir_all("target/tmp").expect("a folder");
    let file = format!("target/tmp/op-report-{}.html", std::process::id());

    let write = ["report", "--stack", "op-report", "--format", "html", "--to", &file];
    operator(&write).ends_with(0).says(&format!("written: {file}"));
    operator(&write).ends_with(3).says("is there already: give --to another name");
    let page = std::fs::read_to_string(&file).expect("it is there");
    std::fs::remove_file(&file).expect("it is there");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    assert!(page.contains("history has nothing of this incident"), "{page}");

    let report = operator(&["report", "--stack", "op-report", "--output", "json"]).ends_with(0).json();
    assert_eq!((&report["schema_version"], &report["incident"]), (&json!(1), &json!("op-report")));
    assert_eq!(report["snapshots"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!(
        (&report["snapshots"][0]["state"], &report["snapshots"][0]["is_recorded"]),
        (&json!("completed"), &json!(true))
    );
    assert_eq!(report["containments"][0]["instance"], a.as_str());
    assert!(report["containments"][0]["seconds"].is_u64() && report["not_cut"] == json!([]), "{report}");
    let key = json!({"TableName": table, "Key": {"InstanceId": {"S": a}}, "ConsistentRead": true});
    let item = fleet::aws(&cloud().credentials(), "dynamodb", "get_item", &key).expect("an item");
    assert_eq!(report["records"][&a], digest(&item["Item"]).as_str());

    let text = operator(&["report", "--stack", "op-report"]).ends_with(0);
    assert!(text.out.starts_with("# Incident op-report\n") && text.out.contains("stack created"), "{}", text.out);
    for command in text.out.lines().filter_map(|line| line.strip_prefix("    ec2-isolation restore ")) {
        run(&format!("ec2-isolation restore {command} --yes")).ends_with(0);
    }
    // The stack is gone, and its case file is not.
    let report = operator(&["report", "--table", &table, "--output", "json"]).ends_with(0).json();
    assert_eq!(report["status"]["stack"]["id"], Value::Null);
    assert!(report["containments"][0]["restored_at"].is_string(), "{report}");
}
