//! Restore is exact: whatever instances were like, after any isolation, repeated or failed in part, they are like that again.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::cloudformation::answer::{Answer, Status};
use ec2_isolation::model::{Attribute, Group, PROTECTING, ShutdownBehaviour, Volume};
use ec2_isolation::ports::Fault;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use crate::world::{self, Trouble, World};
use crate::{cutting, deliver, event, isolated, with_everything};

#[derive(Debug, Clone)]
struct Host {
    /// The groups of each interface, of sixteen that there are.
    interfaces: Vec<BTreeSet<usize>>,
    /// Whether each goes with the instance.
    volumes: Vec<bool>,
    termination_protection: bool,
    stop_protection: bool,
    shutdown: ShutdownBehaviour,
    /// EC2 does not support termination protection for it.
    is_spot: bool,
    has_profile: bool,
    has_metadata_service: bool,
    /// Its state in the Auto Scaling group.
    membership: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Incident {
    hosts: Vec<Host>,
    detaches: bool,
    cuts: bool,
    /// How many members the group can take back.
    room: usize,
    stale_reads: u32,
    jitter: u64,
    /// Of the Create and of a repeat: which call goes wrong, and how.
    troubles: [Vec<(usize, Trouble)>; 2],
}

fn host() -> impl Strategy<Value = Host> {
    let groups = prop::collection::btree_set(0..16_usize, 1..=16);
    let interfaces = prop::collection::vec(groups, 1..=8);
    let volumes = prop::collection::vec(any::<bool>(), 0..=5);
    let shutdown = prop::sample::select(vec![ShutdownBehaviour::Stop, ShutdownBehaviour::Terminate]);
    let state = prop::sample::select(vec!["InService", "InService", "Pending", "Standby", "Terminating"]);
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), any::<[bool; 2]>());
    (interfaces, volumes, shutdown, flags, prop::option::of(state)).prop_map(
        |(
            interfaces,
            volumes,
            shutdown,
            (termination, stop_protection, is_spot, [has_profile, has_metadata_service]),
            membership,
        )| Host {
            interfaces,
            volumes,
            termination_protection: termination && !is_spot,
            stop_protection,
            shutdown,
            is_spot,
            has_profile,
            has_metadata_service,
            membership,
        },
    )
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let faults = [
        Fault::Throttled,
        Fault::Server,
        Fault::Connection,
        Fault::TimedOut,
        Fault::Denied,
        Fault::Refused,
        Fault::Garbled,
    ];
    let faults: Vec<Trouble> = faults.map(Trouble::Fails).into();
    prop_oneof![4 => prop::sample::select(faults), 1 => Just(Trouble::Panics)]
}

fn incident() -> impl Strategy<Value = Incident> {
    let hosts = prop::collection::vec(host(), 1..=3);
    let troubles = || prop::collection::vec((1..80_usize, trouble()), 0..4);
    let numbers = (0..4_usize, 0..6_u32, any::<u64>());
    (hosts, any::<[bool; 2]>(), numbers, troubles(), troubles()).prop_map(
        |(hosts, [detaches, cuts], (room, stale_reads, jitter), first, second)| Incident {
            hosts,
            detaches,
            cuts,
            room,
            stale_reads,
            jitter,
            troubles: [first, second],
        },
    )
}

fn id(n: usize) -> String {
    format!("i-0{n}")
}

fn world_of(incident: &Incident) -> World {
    let world = World::new();
    let groups: Vec<String> = (0..16).map(|n| format!("sg-0b{n:x}")).collect();
    for group in &groups {
        let group = Group { id: group.parse().unwrap(), ..world.data().groups[&"sg-0a".parse().unwrap()].clone() };
        world.data().groups.insert(group.id.clone(), group);
    }
    for (n, host) in incident.hosts.iter().enumerate() {
        let names: Vec<String> = (0..host.interfaces.len()).map(|k| format!("eni-0{n}{k}")).collect();
        let groups: Vec<Vec<&str>> =
            host.interfaces.iter().map(|own| own.iter().map(|k| groups[*k].as_str()).collect()).collect();
        let cards: Vec<(&str, &[&str])> =
            names.iter().map(String::as_str).zip(groups.iter().map(Vec::as_slice)).collect();
        world.add(&id(n), world::VPC, &cards);
        host_details(&world, n, host);
    }
    let mut data = world.data();
    (data.stale_reads, data.jitter) = (incident.stale_reads, Some(incident.jitter));
    drop(data);
    world.hold_against();
    world
}

fn host_details(world: &World, n: usize, host: &Host) {
    let instance = id(n).parse().unwrap();
    let attributes = [
        Attribute::TerminationProtection(host.termination_protection),
        Attribute::StopProtection(host.stop_protection),
        Attribute::ShutdownBehaviour(host.shutdown),
    ];
    let volumes = host.volumes.iter().enumerate().map(|(k, goes)| {
        let volume = Volume { device: format!("/dev/sd{k}"), delete_on_termination: *goes };
        (format!("vol-0{n}{k}").parse().unwrap(), volume)
    });
    {
        let mut data = world.data();
        data.protections.attributes.insert(instance, attributes);
        let instance = id(n).parse().unwrap();
        let shown = data.instances.get_mut(&instance).unwrap();
        (shown.volumes, shown.has_metadata_service) = (volumes.collect(), host.has_metadata_service);
        if host.is_spot {
            data.protections.unsupported.insert((instance, "termination-protection"));
        }
    }
    if host.has_profile {
        world.give_profile(&id(n), "arn:aws:iam::123456789012:instance-profile/web");
    }
    if let Some(state) = host.membership {
        world.join("web", &id(n), state);
    }
}

/// Isolates with these troubles and returns the answer.
async fn isolate(world: &World, incident: &Incident, name: &str, troubles: &[(usize, Trouble)]) -> Answer {
    let mut event = request(incident, name);
    event["RequestId"] = json!(format!("{name} of the incident"));
    {
        let mut data = world.data();
        let already = data.calls.len();
        data.troubles = troubles.iter().map(|(n, trouble)| (already + n, *trouble)).collect();
    }
    let answer = deliver(world, event).await;
    world.data().troubles.clear();
    answer
}

fn request(incident: &Incident, name: &str) -> Value {
    let mut event = event(name);
    event["ResourceProperties"]["InstanceIds"] = json!((0..incident.hosts.len()).map(id).collect::<Vec<_>>());
    let event = if incident.detaches { with_everything(event) } else { event };
    if incident.cuts { cutting(event) } else { event }
}

/// What an isolation without troubles must have come to.
fn check_isolated(world: &World, incident: &Incident, answer: &Answer) -> Result<(), TestCaseError> {
    prop_assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    prop_assert_eq!(isolated(world).len(), world.cards().len());
    for (n, host) in incident.hosts.iter().enumerate() {
        let mut expected = PROTECTING;
        if host.is_spot {
            expected[0] = Attribute::TerminationProtection(false);
        }
        let mut expected: Vec<String> = expected.map(|attribute| attribute.to_string()).into();
        expected.push("metadata service off".to_owned());
        expected.extend(host.membership.map(|state| match state {
            "Terminating" => "Terminating in web".to_owned(),
            _ => "Standby in web".to_owned(),
        }));
        if host.has_profile && !incident.detaches {
            expected.push("arn:aws:iam::123456789012:instance-profile/web".to_owned());
        }
        prop_assert_eq!(&world.protections()[&id(n)], &expected, "{}", answer.reason);
    }
    Ok(())
}

/// Whatever differs from the start is a member that its full group did not take back, and is named.
fn check_restored(
    world: &World,
    start: &BTreeMap<String, Vec<String>>,
    stays: usize,
    answer: &Answer,
) -> Result<(), TestCaseError> {
    let mut there = world.protections();
    let mut stayed = 0;
    for (id, protections) in &mut there {
        let in_service = start[id].contains(&"InService in web".to_owned());
        for part in protections.iter_mut().filter(|part| in_service && *part == "Standby in web") {
            let named = format!("{id} stays in Standby of Auto Scaling group web");
            prop_assert!(answer.reason.contains(&named), "{}", answer.reason);
            *part = "InService in web".to_owned();
            stayed += 1;
        }
    }
    prop_assert_eq!(&there, start, "{}", answer.reason);
    prop_assert_eq!(stayed, stays, "{}", answer.reason);
    Ok(())
}

async fn live_through(incident: &Incident) -> Result<(), TestCaseError> {
    let world = world_of(incident);
    let (cards, protections) = (world.cards(), world.protections());
    for (name, troubles) in [("create", &incident.troubles[0]), ("update", &incident.troubles[1])] {
        let answer = isolate(&world, incident, name, troubles).await;
        if troubles.is_empty() {
            check_isolated(&world, incident, &answer)?;
        }
    }
    let away = world.make_room("web", incident.room);
    let answer = deliver(&world, event("delete")).await;
    prop_assert_eq!(answer.status, Status::Success, "{}", answer.reason);
    prop_assert_eq!(&world.cards(), &cards);
    prop_assert!(world.data().most_in_transit <= 20);
    check_restored(&world, &protections, away.saturating_sub(incident.room), &answer)?;
    prop_assert_eq!(&world.data().violations, &Vec::<String>::new());

    let (after, calls) = (world.protections(), world.count("ec2:ModifyInstanceAttribute"));
    let mut again = event("delete");
    again["RequestId"] = json!("again");
    prop_assert_eq!(deliver(&world, again).await.status, Status::Success);
    prop_assert_eq!((world.cards(), world.protections()), (cards, after));
    prop_assert_eq!(world.count("ec2:ModifyInstanceAttribute"), calls);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_261_125),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_instances_are_restored_as_they_were(incident in incident()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live_through(&incident))?;
    }
}
