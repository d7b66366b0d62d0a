//! The trigger in the demo: findings are told, asked about and isolated, and what is not meant leaves everything as it was.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Clock;
use crate::beside::{RESPONDER, deploy_responder};
use crate::cloud::Cloud;
use crate::findings::{expire, find, finding, question, so_far, told};
use crate::fleet::{Site, cards};
use crate::prepared::program;

/// Of GuardDuty's findings, those about which nothing is done.
const QUIET: [&str; 4] = ["guardduty-sample", "guardduty-archived", "guardduty-other-account", "guardduty-low"];
/// Of the findings that come at once.
const FLOOD: usize = 12;

/// A responder, what it tells, and the clock of the demo.
struct Trigger<'a> {
    cloud: &'a Cloud,
    clock: &'a Clock,
    told: usize,
    faults: Vec<String>,
}

impl Trigger<'_> {
    fn expect(&mut self, is_so: bool, what: &str) {
        if !is_so {
            self.faults.push(format!("trigger: {what}"));
        }
    }

    fn deploy(&self, parameters: &[&str]) {
        self.clock.step(&format!("sam deploy --stack-name {RESPONDER} … {}", parameters.join(" ")));
        deploy_responder(self.cloud, &[&["IncidentRole=true", "DetachInstanceProfile=true"], parameters].concat());
    }

    /// The next message: printed, and to begin so.
    async fn is_told(&mut self, begin: &str) -> (String, String) {
        let (subject, text) = told(self.cloud, self.told).await;
        self.told += 1;
        println!("    {subject}");
        for line in text.lines().filter(|line| !line.is_empty()) {
            println!("      {line}");
        }
        self.expect(subject.starts_with(&format!("ec2-isolation: {begin}")), &format!("not {begin}, but {subject}"));
        (subject, text)
    }
}

/// Plays it through, and restores what was isolated: what went wrong.
pub async fn show(cloud: &Cloud, clock: &Clock, ec2: &aws_sdk_ec2::Client, site: &Site) -> Vec<String> {
    println!("\n  TRIGGER: from an alert to an incident\n");
    let mut launched = Vec::new();
    for _ in 0..5 {
        launched.push(site.plain(ec2, &[0, 1]).await);
    }
    let [asked, rejected, expired, never, meant] = [0, 1, 2, 3, 4].map(|n: usize| launched[n].as_str());
    let all = launched.iter().map(String::as_str).collect::<Vec<_>>();
    let before = cards(ec2, &all).await;
    let mut trigger = Trigger { cloud, clock, told: so_far(cloud).await, faults: Vec::new() };

    trigger.deploy(&["Trigger=Notify"]);
    find(cloud, "demo-notify", asked).await;
    trigger.is_told("told, not isolated: a finding names instances").await;

    let exempt = format!("TriggerNeverInstances={never}");
    trigger.deploy(&["Trigger=Approve", &exempt]);
    clock.step(&format!("findings about which nothing is done: {}", QUIET.join(", ")));
    for name in QUIET {
        cloud.set("event", &finding(name)).await;
    }
    find(cloud, "demo-never", never).await;
    trigger.is_told("told, not isolated: nothing is left to isolate").await;
    find(cloud, "demo-rejected", rejected).await;
    let (subject, _) = trigger.is_told("approve ").await;
    clock.step("ec2-isolation reject …");
    program(cloud, &["reject", question(&subject), "--yes"]);
    trigger.is_told("rejected, not isolated").await;
    find(cloud, "demo-expired", expired).await;
    trigger.is_told("approve ").await;
    clock.step("an hour passes without an answer");
    expire(cloud).await;
    trigger.is_told("told, not isolated: no answer came").await;
    trigger.expect(cards(ec2, &all).await == before, "something was isolated before a person approved");

    find(cloud, "demo-approved", asked).await;
    let (subject, _) = trigger.is_told("approve ").await;
    clock.step("ec2-isolation approve …");
    println!("    {}", program(cloud, &["approve", question(&subject), "--yes"]).replace('\n', "\n    ").trim_end());
    trigger.is_told("isolated").await;

    trigger.deploy(&["Trigger=Isolate", "TriggerInstancesPerHour=2", &exempt]);
    find(cloud, "demo-isolated", meant).await;
    trigger.is_told("isolated").await;
    let stack = format!("incident-{}", site.vpc);
    let report = program(cloud, &["report", "--stack", &stack, "--format", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap_or_default();
    println!("    ec2-isolation report --stack {stack}:");
    let mut named = BTreeSet::new();
    for found in report["findings"].as_array().into_iter().flatten() {
        let about = found["about"].as_str().unwrap_or_default();
        let how = found["answered_by"].as_str().map_or("by the trigger alone".into(), |by| format!("approved by {by}"));
        println!("      {}: {about}; {how}", found["instances"][0]);
        named.extend(about.split(',').next());
    }
    let expected = BTreeSet::from(["Finding demo-approved", "Finding demo-isolated"]);
    trigger.expect(named == expected, "the report does not name the findings");

    clock
        .step(&format!("{FLOOD} findings at once; two instances an hour may be isolated, and this hour's are used up"));
    for n in 0..FLOOD {
        find(cloud, &format!("demo-flood-{n}"), if n % 2 == 0 { expired } else { rejected }).await;
    }
    let (mut told_of, mut isolated) = (BTreeSet::new(), 0);
    for _ in 0..FLOOD {
        let (subject, text) = told(cloud, trigger.told).await;
        trigger.told += 1;
        told_of.extend(text.lines().next().map(str::to_owned));
        isolated += usize::from(subject == "ec2-isolation: isolated");
        let is_known =
            ["isolated", "the hourly limit", "nothing is left to isolate"].iter().any(|end| subject.ends_with(end));
        trigger.expect(is_known, &format!("of a flood: {subject}"));
    }
    println!("    {} messages, {isolated} more isolated", told_of.len());
    trigger.expect(told_of.len() == FLOOD, "a finding was not told");

    // More only if an hour of the clock has begun meanwhile.
    let own = cards(ec2, &[asked, meant]).await;
    let now = cards(ec2, &all).await;
    let moved = now.iter().filter(|(id, groups)| !own.contains_key(*id) && before[*id] != **groups).count();
    trigger.expect(isolated <= 2 && moved <= isolated, "a flood isolated more than the limit allows");
    trigger.expect(
        own.iter().all(|(id, groups)| before[id] != *groups),
        "what was approved or is isolated by itself is not isolated",
    );
    clock.step(&format!("ec2-isolation restore --stack {stack} --finish"));
    program(cloud, &["restore", "--stack", &stack, "--finish", "--yes"]);
    trigger.expect(cards(ec2, &all).await == before, "the restore did not give everything back");
    trigger.faults
}
