//! The second half of the demo: an account that was prepared. Responder, incident, forensic host, each a stack of its own.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::beside::{RESPONDER, deploy_responder};
use crate::cloud::Cloud;
use crate::credentials::Theft;
use crate::fleet::{Cards, Site, cards};
use crate::incident::Incident;
use crate::{Clock, short};

const STACK: &str = "incident-prepared";

/// Plays it through: what belongs into the report, and what went wrong.
pub async fn show(cloud: &Cloud, clock: &Clock, ec2: &aws_sdk_ec2::Client) -> (Value, Vec<String>) {
    let mut faults = Vec::new();
    let mut expect = |is_so: bool, what: &str| {
        if !is_so {
            faults.push(format!("prepared: {what}"));
        }
    };
    println!("\n  PREPARED: the function is there before the night\n");
    clock.step(&format!("sam deploy --stack-name {RESPONDER} --template-file responder.yaml"));
    deploy_responder(cloud, &[]);
    let site = Site::build(ec2, "prepared", 2).await;
    let first = site.launch(ec2, &[&[0, 1], &[2]], 1).await;
    let second = site.launch(ec2, &[&[1, 2, 3]], 1).await;
    let before = cards(ec2, &[&first, &second]).await;

    let theft = Theft::commit(cloud, clock, [&first, &second]).await;
    let mut incident = Incident::new(cloud, STACK, &site, "demo");
    for of_the_host in ["ForensicSubnetId", "Ec2KeyName", "CompanyIp"] {
        incident.unset(of_the_host);
    }
    let topic = incident.outputs_of(RESPONDER).await.remove("NotifyTopicArn").unwrap_or_default();
    incident.list(&[&first]).set("NotifyTopicArn", topic);
    clock.step(&format!(
        "aws cloudformation create-stack --stack-name {STACK} --template-url ssm-doc://… --disable-rollback"
    ));
    let started = Instant::now();
    let status = incident.create(false).await;
    let incident_seconds = started.elapsed().as_secs_f64();
    expect(status == "CREATE_COMPLETE", &format!("the incident ended in {status}"));
    let events = incident.events(STACK).await;
    events.iter().for_each(|event| println!("    {event}"));
    let called =
        events.iter().position(|event| event.starts_with("CREATE_IN_PROGRESS") && event.contains(" Isolation "));
    let made = events[..called.unwrap_or_default()].iter().filter(|event| event.starts_with("CREATE_COMPLETE")).count();
    expect(made == 2, &format!("{made} resources were made before the function was called, not two groups"));
    println!("    {made} resources were made before the function was called; complete after {incident_seconds:.1} s");
    let group = BTreeSet::from([incident.physical_id("IsolatedSecurityGroup").await]);
    expect(cards(ec2, &[&first]).await.values().all(|now| *now == group), "the first instance was not isolated");

    let is_denied = theft.deny(STACK, &first);
    expect(is_denied, "the stolen credentials were not denied, or the sibling's were");

    clock.step("create-stack of host.yaml: the forensic host comes after the isolation");
    let status = incident.host(&site, "demo", "22").await;
    expect(status == "CREATE_COMPLETE", &format!("the forensic host ended in {status}"));

    clock.step(&format!(
        "ec2-isolation evidence --stack {STACK}: a volume of each snapshot on the forensic host, and away again"
    ));
    let evidence = program(cloud, &["evidence", "--stack", STACK, "--yes"]);
    println!("    {}", evidence.lines().next().unwrap_or_default());
    expect(evidence.contains(" attached to i-"), &format!("no volume came to the forensic host: {evidence}"));
    let removed = program(cloud, &["evidence", "--stack", STACK, "--yes", "--remove"]);
    println!("    {}", removed.lines().next().unwrap_or_default());
    expect(removed.contains(" taken away."), &format!("the volumes stayed: {removed}"));

    clock.step("update-stack: one more instance");
    incident.list(&[&first, &second]);
    let status = incident.update().await;
    expect(status == "UPDATE_COMPLETE", &format!("the update ended in {status}"));
    let isolated = cards(ec2, &[&first, &second]).await;
    expect(isolated.values().all(|now| *now == group), "not everything was isolated");

    let untold = crate::watch::show(cloud, clock, ec2, &site, &second).await;
    expect(untold.is_empty(), &untold.join("; "));

    clock.step(&format!("delete-stack {RESPONDER}: refused while an incident is open"));
    let refusal = incident.responder_is_kept().await;
    println!("    {}", refusal.split_whitespace().collect::<Vec<_>>().join(" "));
    expect(refusal.contains("in use by"), "the responder could be deleted under an open incident");

    let status = incident.delete_host().await;
    expect(status == "DELETE_COMPLETE", &format!("the deletion of the forensic host ended in {status}"));
    expect(cards(ec2, &[&first, &second]).await == isolated, "deleting the forensic host touched the isolation");

    let refused = before.keys().next().cloned().unwrap_or_default();
    clock.step(&format!("update-termination-protection {STACK}: isolate has turned it on"));
    incident.unprotect().await;
    clock.step(&format!("delete-stack {STACK}, while EC2 refuses every change of {refused}"));
    let refuse =
        json!({"action": "ModifyNetworkInterfaceAttribute", "id": refused, "error_code": "OperationNotPermitted"});
    cloud.set("refuse", &refuse).await;
    let status = incident.delete_ends_in().await;
    expect(status == "DELETE_FAILED", &format!("the first deletion ended in {status}"));
    incident.reasons("Isolation").await.first().iter().for_each(|reason| println!("    {reason}"));
    let still = cards(ec2, &[&first, &second]).await;
    expect(still.get(&refused) == Some(&group), "what EC2 refused to change is not isolated");
    cloud.set("refuse", &json!({})).await;
    clock.step(&format!("delete-stack {STACK}, once more"));
    let second_delete = incident.delete_ends_in().await;
    let restored = cards(ec2, &[&first, &second]).await;
    let second_delete_restored = second_delete == "DELETE_COMPLETE" && restored == before;
    expect(second_delete_restored, &format!("the second deletion ended in {second_delete} and did not restore"));

    expect(theft.lift(STACK), "the credentials did not work again after the incident");

    let untold = crate::trigger::show(cloud, clock, ec2, &site).await;
    expect(untold.is_empty(), &untold.join("; "));

    println!("\n  {:24} {:46} {:14} restored", "interface", "before", "isolated");
    for (interface, groups) in &before {
        let now = |cards: &Cards| cards.get(interface).map_or("gone".to_owned(), short);
        println!("  {interface:24} {:46} {:14} {}", short(groups), now(&isolated), now(&restored));
    }
    println!();
    let interfaces: Map<String, Value> = before
        .iter()
        .map(|(id, had)| {
            (id.clone(), json!({"before": had, "isolated": isolated.get(id), "restored": restored.get(id)}))
        })
        .collect();
    let report = json!({
        "resources_before_isolation": made,
        "incident_seconds": incident_seconds,
        "interfaces": interfaces,
        "stolen_credentials_denied": is_denied,
        "second_delete_restored": second_delete_restored,
    });
    (report, faults)
}

/// What the program prints.
pub fn program(cloud: &Cloud, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ec2-isolation"));
    let command = command.args(arguments).env_clear().envs(cloud.credentials());
    let command = command.env("AWS_EC2_METADATA_DISABLED", "true").stdin(std::process::Stdio::null());
    let output = command.output().expect("the program can be started");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { out } else { err }
}
