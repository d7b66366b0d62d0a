//! What keeps instances and their evidence from being lost: taken after isolation, never in its way, and put back.

mod attributes;
mod locks;
mod metadata;
mod profile;
mod standby;
mod volumes;

use ec2_isolation::model::{InstanceId, PROTECTING};
use serde_json::{Value, json};

use crate::world::World;
use crate::{A, B, with};

const READ: &str = "ec2:DescribeInstanceAttribute";
const MODIFY: &str = "ec2:ModifyInstanceAttribute";
const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
const PROFILE: &str = "arn:aws:iam::123456789012:instance-profile/web";
const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";

fn id(instance: &str) -> InstanceId {
    instance.parse().unwrap()
}

/// What protects an instance that is in no Auto Scaling group.
fn protected() -> Vec<String> {
    PROTECTING.map(|attribute| attribute.to_string()).into_iter().chain(["metadata service off".to_owned()]).collect()
}

/// The same of a member of the group `web` that has a profile.
fn protected_member() -> Vec<String> {
    protected().into_iter().chain(["Standby in web".to_owned(), PROFILE.to_owned()]).collect()
}

fn rerun() -> Value {
    with("update", "InstanceIds", json!([A, B]))
}

/// The first call of `action` comes after the last of `before`.
fn assert_after(world: &World, action: &str, before: &str) {
    let calls = world.data().calls.clone();
    let first = calls.iter().position(|(called, _)| *called == action).unwrap();
    let last = calls.iter().rposition(|(called, _)| *called == before).unwrap();
    assert!(first > last, "{action} before {before}");
}
