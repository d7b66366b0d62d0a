//! The sample events, the fleet that they speak of, what may become of it, and the delivery of an event to the handler.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ec2_isolation::cloudformation::answer::{Answer, Status};
use ec2_isolation::cloudformation::handler::{Invocation, handle};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::world::{self, World};

pub const A: &str = "i-0a1b2c3d4e5f60718";
pub const B: &str = "i-0b2c3d4e5f6071829";
pub const C: &str = "i-0c3d4e5f60718293a";
pub const D: &str = "i-0d4e5f60718293a4b";
pub const BYSTANDER: &str = "i-0e";

/// The instances that the sample events speak of, and a bystander.
pub fn fleet() -> World {
    let world = World::new();
    world.add(A, world::VPC, &[("eni-0a", &["sg-0a"])]);
    world.add(B, world::VPC, &[("eni-0b", &["sg-0b", "sg-0c"])]);
    world.add(C, world::VPC, &[("eni-0c", &["sg-0c"])]);
    world.add(D, world::VPC, &[("eni-0d1", &["sg-0a"]), ("eni-0d2", &["sg-0b", "sg-0d"])]);
    world.add(BYSTANDER, world::VPC, &[("eni-0e", &["sg-0a", "sg-0d"])]);
    world.give_profile(A, "arn:aws:iam::123456789012:instance-profile/web");
    world.scale("web", &[A, C, BYSTANDER], "InService");
    world
}

/// The fleet where a call takes as long as it does on AWS, and every reading shows what is.
pub fn quick_fleet() -> World {
    let world = fleet();
    {
        let mut data = world.data();
        (data.latency, data.stale_reads) = (Duration::from_millis(20), 0);
    }
    world
}

/// A sample event from events/, signed now, that isolates directly.
pub fn event(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("events/{name}.json")).expect("the sample is there");
    let mut event: Value = serde_json::from_str(&text).expect("it is JSON");
    event["ResponseURL"] = json!(url());
    event["ResourceProperties"]["CutEstablishedConnections"] = json!("false");
    event
}

/// The same by way of the transit group.
pub fn cutting(mut event: Value) -> Value {
    event["ResourceProperties"]["CutEstablishedConnections"] = json!("true");
    event["ResourceProperties"]["TransitSecurityGroupId"] = json!(world::TRANSIT);
    event["ResourceProperties"]["HoldSeconds"] = json!("5");
    event
}

/// What a FAILED Create or Update ends with.
pub fn deploy_again() -> String {
    format!(
        "next: remove the cause, then deploy again with a new Rerun; what is recorded is in table {} | log stream: a log stream",
        world::TABLE
    )
}

/// One moment for all events: which of two was issued first is never for the clock to say that a test happens to meet.
pub static NOW: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

pub fn url() -> String {
    url_signed(*NOW)
}

fn url_signed(at: SystemTime) -> String {
    let now = humantime::format_rfc3339_seconds(at).to_string().replace(['-', ':'], "");
    format!(
        "https://bucket.s3.amazonaws.com/arn%3Aaws%7CIsolation?X-Amz-Date={now}&X-Amz-Expires=7200&X-Amz-Signature=secret"
    )
}

/// The event as one that CloudFormation signed so many seconds ago.
pub fn issued_before(seconds: u64, mut event: Value) -> Value {
    event["ResponseURL"] = json!(url_signed(*NOW - Duration::from_secs(seconds)));
    event
}

/// The event as a request of its own.
pub fn as_request(id: &str, mut event: Value) -> Value {
    event["RequestId"] = json!(id);
    event
}

/// The event for these instances.
pub fn listing(ids: &[&str], mut event: Value) -> Value {
    event["ResourceProperties"]["InstanceIds"] = json!(ids);
    event
}

/// The event with every option on.
pub fn with_everything(mut event: Value) -> Value {
    event["ResourceProperties"]["DetachInstanceProfile"] = json!("true");
    event
}

/// The sample event with one property changed and a request id of its own.
pub fn with(name: &str, property: &str, value: Value) -> Value {
    let mut event = event(name);
    event["RequestId"] = json!(format!("{name} {property} {value}"));
    event["ResourceProperties"][property] = value;
    event
}

/// A function that has fifteen minutes.
pub fn invocation() -> Invocation {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(900);
    Invocation { deadline_ms: u64::try_from(deadline.as_millis()).unwrap(), log_stream: "a log stream".to_owned() }
}

/// Handles the event; the answer is then among the world's. What Lambda is told.
pub async fn run(world: &World, event: Value) -> Value {
    let reply = |url, _| {
        world.data().url = url;
        world.clone()
    };
    handle(&Ok(world.ports()), &Handle::current(), event, &invocation(), reply)
        .await
        .expect("an accepted answer is a success")
}

/// Handles the event and returns its one answer.
pub async fn deliver(world: &World, event: Value) -> Answer {
    let before = world.data().answers.len();
    run(world, event.clone()).await;
    let answers = world.data().answers.clone();
    assert_eq!(answers.len(), before + 1, "exactly one answer");
    let answer = answers.last().unwrap().clone();
    assert!(answer.body().len() <= 4096, "{} bytes", answer.body().len());
    assert_eq!(answer.request_id, event["RequestId"].as_str().unwrap_or_default());
    answer
}

/// Delivers to a process that a planned trouble kills before it answers.
pub async fn die(world: &World, event: Value) {
    let process = world.process();
    let (ports, worker, invocation) = (Ok(process.ports()), Handle::current(), invocation());
    let work = handle(&ports, &worker, event, &invocation, |_, _| process.clone());
    tokio::select! {
        biased;
        () = process.death() => {}
        _ = work => panic!("it lived to answer"),
    }
    // What was on the wire arrives.
    tokio::time::sleep(Duration::from_secs(3)).await;
}

pub async fn succeeds(world: &World, event: Value) -> Answer {
    let answer = deliver(world, event).await;
    assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    answer
}

/// The reason of the FAILED answer.
pub async fn fails(world: &World, event: Value) -> String {
    let answer = deliver(world, event).await;
    assert_eq!(answer.status, Status::Failed, "{}", answer.reason);
    answer.reason
}

/// Which interfaces of the world are in exactly the isolation group.
pub fn isolated(world: &World) -> Vec<String> {
    let group = world::groups(&[world::ISOLATION]);
    world.cards().into_iter().filter(|(_, groups)| *groups == group).map(|(id, _)| id).collect()
}

pub async fn created() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world
}

pub fn set_state(world: &World, instance: &str, state: &str) {
    world.data().instances.get_mut(&instance.parse().unwrap()).unwrap().state = state.to_owned();
}

pub fn move_by_hand(world: &World, interface: &str, groups: &[&str]) {
    world.data().put_back(&interface.parse().unwrap(), world::groups(groups));
}

pub fn rerun(ids: &[&str]) -> Value {
    let mut rerun = with("update", "Rerun", json!("once more"));
    rerun["ResourceProperties"]["InstanceIds"] = json!(ids);
    rerun
}

/// Handles the event while `later` happens.
pub async fn meanwhile(world: &World, event: Value, later: impl Future<Output = ()>) -> String {
    tokio::join!(run(world, event), later);
    world.data().answers.last().unwrap().reason.clone()
}

pub async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Returns once the interface is in exactly this group.
pub async fn once_in(world: &World, interface: &str, group: &str) {
    while world.cards().get(interface) != Some(&world::groups(&[group])) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How often an interface was sent into the transit group.
pub fn entries(world: &World, interface: &str) -> usize {
    let enters = format!("{interface} [{}]", world::TRANSIT);
    world.data().calls.iter().filter(|(_, what)| *what == enters).count()
}

/// The groups of every interface but these.
pub fn cards_but(
    world: &World,
    interfaces: &[&str],
) -> std::collections::BTreeMap<String, ec2_isolation::model::Groups> {
    world.cards().into_iter().filter(|(id, _)| !interfaces.contains(&id.as_str())).collect()
}

pub fn snapshotted(world: &World) -> std::collections::BTreeSet<String> {
    let data = world.data();
    let calls = data.calls.iter().filter(|(action, _)| *action == "ec2:CreateSnapshots");
    calls.map(|(_, what)| what.clone()).collect()
}
