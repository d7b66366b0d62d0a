//! The deployed stack on the local AWS, a fleet for each scenario. Run with `make stack`.
//!
//! Most of the time is waiting, for holds, doubts and denials: several tests run at once. Each has a local AWS to itself, since what it
//! asks of that is for everybody in it; the next test goes on with one that is free.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test fails by panicking.
#![allow(clippy::print_stdout)] // What is measured is shown with --nocapture.

mod beside;
mod cloud;
mod controls;
mod credentials;
mod desk;
mod drill;
mod endings;
mod evidence;
mod failures;
mod findings;
mod fleet;
mod function;
mod host;
mod incident;
mod isolate;
mod leftovers;
mod locks;
mod memory;
mod moves;
mod operator;
mod package;
mod people;
mod permissions;
mod prepared;
mod readme;
mod replacements;
mod report;
mod rollbacks;
mod rules;
#[path = "../support/runtime.rs"]
mod runtime;
mod scenarios;
#[path = "../support/ssh.rs"]
#[allow(dead_code)] // The tests in memory use all of it.
mod ssh;
mod stacks;
#[path = "../support/terminal.rs"]
mod terminal;
mod trigger;
mod volumes;
mod watch;
#[path = "../support/words.rs"]
mod words;

use std::cell::OnceCell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cloud::Cloud;
use fleet::Site;
use incident::Incident;
use serde_json::json;

/// Files whose tests get pages of two from EC2, and refusals of what asks for everything at once, as a large account does. They isolate
/// and restore by each way: the stack alone, the program, and from one incident to another.
const LARGE_ACCOUNT: [&str; 3] = ["isolate::", "moves::", "scenarios::"];

/// Local AWSs that no test has now.
static FREE: Mutex<Vec<&'static Cloud>> = Mutex::new(vec![]);

/// A thread's local AWS, which is free again when the thread ends: every test has a thread.
struct Lease {
    cloud: &'static Cloud,
    is_lent: bool,
}

thread_local! {
    static LEASE: OnceCell<Lease> = const { OnceCell::new() };
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_lent {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.cloud);
        }
    }
}

/// The local AWS of this test. It stops when this process ends: its standard input does then.
fn cloud() -> &'static Cloud {
    LEASE.with(|lease| lease.get_or_init(|| Lease { cloud: free(), is_lent: false }).cloud)
}

/// Lets a thread that a test has started use the test's.
fn lend(cloud: &'static Cloud) {
    LEASE.with(|lease| lease.get_or_init(|| Lease { cloud, is_lent: true }).cloud);
}

/// Ends `work` in this thread, which has no runtime: the SAM CLI, for one, blocks its thread.
fn alone(cloud: &'static Cloud, work: impl Future<Output = ()>) {
    lend(cloud);
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work);
}

fn free() -> &'static Cloud {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let cloud = free.unwrap_or_else(|| {
        std::fs::create_dir_all("target/stack").expect("target can be written");
        let log = format!("target/stack/local-aws-{}.log", STARTED.fetch_add(1, Ordering::Relaxed));
        Box::leak(Box::new(Cloud::start(Path::new(&log))))
    });
    // By the name of the test, which its thread has: always the same for each.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let prepare = async {
        // A test that failed, for one, left what it had asked for.
        cloud.set("reset", &json!({})).await;
        if LARGE_ACCOUNT.iter().any(|file| test.starts_with(file)) {
            cloud.set("page-size", &json!({"size": 2})).await;
            cloud.set("unpaginated", &json!({"refused": true})).await;
        }
    };
    std::thread::scope(|scope| scope.spawn(|| alone(cloud, prepare)).join()).expect("it is as the test wants it");
    cloud
}

/// A scenario of its own: EC2 client, network and incident.
struct Scene {
    ec2: aws_sdk_ec2::Client,
    site: Site,
    incident: Incident<'static>,
}

impl Scene {
    async fn new(name: &str) -> Self {
        static NETWORK: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
        let ec2 = cloud().ec2().await;
        let site = Site::build(&ec2, name, NETWORK.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).await;
        ec2.create_key_pair().key_name(name).send().await.expect("a key pair");
        let incident = Incident::new(cloud(), name, &site, name);
        Self { ec2, site, incident }
    }

    /// Another incident among the same instances.
    fn beside(&self, name: &str) -> Self {
        let incident = Incident::new(cloud(), name, &self.site, &self.incident.name);
        Self { ec2: self.ec2.clone(), site: self.site.clone(), incident }
    }

    async fn cards(&self, instances: &[&str]) -> fleet::Cards {
        fleet::cards(&self.ec2, instances).await
    }

    /// Asserts that every interface of these instances is in exactly the isolation group of the deployed stack.
    async fn assert_isolated(&self, instances: &[&str]) {
        let group = self.incident.physical_id("IsolatedSecurityGroup").await;
        for (interface, groups) in self.cards(instances).await {
            assert_eq!(groups, [group.clone()].into(), "{interface}");
        }
    }
}
