//! From the keystroke to containment: `ec2-isolation isolate`, beside a prepared responder, and what public tools take for it.
//!
//! On the local AWS of the tests, since it takes CloudFormation: its stacks are made at once. How long CloudFormation takes on AWS is not
//! in these figures, nor is a latency: both sides have none.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Filter;

use crate::beside::deploy_responder;
use crate::cloud::Cloud;
use crate::fleet::{Site, cards};
use crate::lambda::speaks_to;
use crate::tool::{Target, Tool};
use crate::{DIRECTORY, FEW};

/// As `make bench` compiles it, beside this program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_ec2-isolation");
const LOOK: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(120);

/// What it came to: medians.
#[derive(Debug, Clone)]
pub struct Keystroke {
    pub name: String,
    /// From the start of the program until EC2 shows the interface in an isolation group and in no other one.
    pub contained: Duration,
    pub ended: Duration,
}

/// The instance of each run is another one, in a VPC of its own: its incident is another one, too.
pub async fn measure(tools: &[Tool]) -> Vec<Keystroke> {
    let cloud = Cloud::start(&Path::new(DIRECTORY).join("keystroke.log"));
    let ec2 = cloud.ec2().await;
    deploy_responder(&cloud, &[]);
    let mut network = 0;
    let mut found = Vec::new();
    for (name, options) in [
        ("ec2-isolation isolate", vec!["--parameter", "CutEstablishedConnections=false"]),
        ("ec2-isolation isolate, connections cut", vec![]),
    ] {
        let command = |target: &Target| {
            let mut command = Command::new(PROGRAM);
            command.arg("isolate").arg(&target.instances[0]).arg("--yes").args(&options);
            command
        };
        found.push(middle(&cloud, &ec2, name, command, &mut network).await);
    }
    for tool in tools {
        found.push(middle(&cloud, &ec2, tool.program.name(), |target| tool.command(target), &mut network).await);
    }
    found
}

async fn middle(
    cloud: &Cloud,
    ec2: &Client,
    name: &str,
    command: impl Fn(&Target) -> Command,
    network: &mut u8,
) -> Keystroke {
    let mut runs = Vec::new();
    for _ in 0..FEW {
        *network += 1;
        let site = Site::build(ec2, &format!("keystroke-{network}"), *network).await;
        let instance = site.plain(ec2, &[0, 1]).await;
        let isolation = ec2.create_security_group().group_name("quarantine").description("of a tool").vpc_id(&site.vpc);
        let isolation = isolation.send().await.expect("a group").group_id().expect("an id").to_owned();
        let originals: BTreeSet<String> = cards(ec2, &[&instance]).await.into_values().flatten().collect();
        let groups = names(ec2, &originals).await;
        let target = Target { instances: vec![instance], vpc: site.vpc.clone(), originals: groups, isolation };
        runs.push(run(cloud, ec2, command(&target), &target, &originals).await);
    }
    let median = |of: fn(&(Duration, Duration)) -> Duration| {
        let mut all: Vec<Duration> = runs.iter().map(of).collect();
        all.sort();
        all[all.len() / 2]
    };
    Keystroke { name: name.to_owned(), contained: median(|run| run.0), ended: median(|run| run.1) }
}

async fn run(
    cloud: &Cloud,
    ec2: &Client,
    mut command: Command,
    target: &Target,
    originals: &BTreeSet<String>,
) -> (Duration, Duration) {
    speaks_to(&mut command, "");
    command.env_remove("AWS_SESSION_TOKEN").envs(cloud.credentials());
    let started = Instant::now();
    let mut process = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("it starts");
    let mut contained = None;
    let status = loop {
        if let Some(status) = process.try_wait().expect("it is ours") {
            break status;
        }
        if contained.is_none() && is_contained(ec2, target, originals).await {
            contained = Some(started.elapsed());
        }
        assert!(started.elapsed() < LONGEST, "it does not end");
        tokio::time::sleep(LOOK).await;
    };
    let ended = started.elapsed();
    assert!(status.success(), "it ended with {status}: see {}", crate::LOG);
    assert!(is_contained(ec2, target, originals).await, "it has not isolated the instance");
    (contained.unwrap_or(ended), ended)
}

/// Whether EC2 shows every interface in one group, which is neither one that it had nor the open one that it passes.
async fn is_contained(ec2: &Client, target: &Target, originals: &BTreeSet<String>) -> bool {
    let groups: BTreeSet<String> = cards(ec2, &[&target.instances[0]]).await.into_values().flatten().collect();
    let [group] = groups.iter().collect::<Vec<_>>()[..] else { return false };
    if originals.contains(group) {
        return false;
    }
    let transit = Filter::builder().name("tag:ec2-isolation:role").values("transit").build();
    let found = ec2.describe_security_groups().filters(transit).send().await.expect("groups");
    !found.security_groups().iter().any(|found| found.group_id() == Some(group))
}

async fn names(ec2: &Client, ids: &BTreeSet<String>) -> Vec<String> {
    let found = ec2.describe_security_groups().set_group_ids(Some(ids.iter().cloned().collect())).send().await;
    found.expect("groups").security_groups().iter().map(|group| group.group_name().unwrap().to_owned()).collect()
}
