//! The deployed stack on the local AWS: one running local AWS, a fleet for each scenario. Run with `make stack`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test fails by panicking.
#![allow(clippy::print_stdout)] // What is measured is shown with --nocapture.

mod beside;
mod cloud;
mod controls;
mod failures;
mod fleet;
mod function;
mod host;
mod incident;
mod operator;
mod package;
mod permissions;
mod prepared;
mod readme;
mod rollbacks;
mod rules;
#[path = "../support/runtime.rs"]
mod runtime;
mod scenarios;
mod stacks;

use std::path::Path;
use std::sync::OnceLock;

use cloud::Cloud;
use fleet::Site;
use incident::Incident;

static CLOUD: OnceLock<Cloud> = OnceLock::new();

/// The one local AWS. It stops when this process ends: its standard input does then.
fn cloud() -> &'static Cloud {
    CLOUD.get_or_init(|| {
        std::fs::create_dir_all("target/stack").expect("target can be written");
        Cloud::start(Path::new("target/stack/local-aws.log"))
    })
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
        // Whatever a test before it left behind.
        cloud().set("launch-failure", &serde_json::json!({"error_code": null})).await;
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
