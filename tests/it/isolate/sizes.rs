//! Many of everything: interfaces, volumes, instances.

use std::collections::BTreeMap;
use std::time::Duration;

use ec2_isolation::model::{Group, Volume};
use ec2_isolation::ports::Fault;
use serde_json::json;
use tokio::time::Instant;

use crate::world::{ISOLATION, TRANSIT, VPC, World, groups};
use crate::{A, B, cutting, event, isolated, listing, quick_fleet, rerun, succeeds};

#[tokio::test(start_paused = true)]
async fn thirty_three_interfaces_added_at_once() {
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    for n in 0..33 {
        world.attach(A, &format!("eni-0f{n:02}"), &["sg-0a", "sg-0b", "sg-0d"]);
    }
    let answer = succeeds(&world, rerun(&[A, B])).await;
    assert_eq!(answer.reason, "2 instances isolated (35 interfaces), 2 snapshots");
    assert_eq!(isolated(&world).len(), 35);
    assert_eq!(world.data().records[&A.parse().unwrap()].interfaces.len(), 34);
}

#[tokio::test(start_paused = true)]
async fn thirty_one_volumes_that_are_deleted_with_the_instance() {
    let world = quick_fleet();
    for n in 0..31 {
        let volume = Volume { device: format!("/dev/sdb{n}"), delete_on_termination: true };
        let mut data = world.data();
        let instance = data.instances.get_mut(&A.parse().unwrap()).unwrap();
        instance.volumes.insert(format!("vol-0f{n:02}").parse().unwrap(), volume);
    }
    let start = world.protections();
    let answer = succeeds(&world, event("create")).await;
    assert_eq!(answer.reason, "2 instances isolated (2 interfaces), 33 snapshots");
    {
        let data = world.data();
        assert!(data.instances[&A.parse().unwrap()].volumes.values().all(|volume| !volume.delete_on_termination));
    }
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

/// A call of 20 ms, EC2's usual buckets, every default.
#[tokio::test(start_paused = true)]
#[allow(clippy::print_stdout)] // The measurement is the result.
async fn one_hundred_instances_all_defaults_ec2s_usual_bucket() {
    for (count, cut) in [(100, false), (100, true), (204, false)] {
        let world = World::new();
        let ids: Vec<String> = (0..count).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
        for (n, id) in ids.iter().enumerate() {
            world.add(id, VPC, &[(&format!("eni-{:x}", 0x1000 + n), &["sg-0a", "sg-0b"])]);
        }
        {
            let mut data = world.data();
            (data.latency, data.buckets) = (Duration::from_millis(20), Some(BTreeMap::new()));
        }
        let mut create = event("create");
        if cut {
            create = cutting(create);
        }
        create["ResourceProperties"]["InstanceIds"] = json!(ids);
        succeeds(&world, create).await;
        let data = world.data();
        // The first one that EC2 does not throttle.
        let at = |action: &str, what: &str| -> Option<Instant> {
            let is_meant = |call: &(&str, String)| call.0 == action && call.1.starts_with(what);
            let throttled = data.throttled.iter().filter(|call| is_meant(call)).count();
            let mut calls = data.calls.iter().zip(&data.called_at).filter(|(call, _)| is_meant(call));
            calls.nth(throttled).map(|(_, at)| *at)
        };
        let contained =
            |n: usize| at("ec2:ModifyNetworkInterfaceAttribute", &format!("eni-{:x} [sg-0a11", 0x1000 + n)).unwrap();
        let snapshot = |n: usize| at("ec2:CreateSnapshots", &ids[n]).unwrap();
        let protection = |n: usize| {
            let each = ["ec2:ModifyInstanceAttribute", "ec2:ModifyInstanceMetadataOptions"];
            each.into_iter().filter_map(|action| at(action, &ids[n])).min().unwrap()
        };
        let first = (0..count).map(contained).min().unwrap();
        let last = (0..count).map(contained).max().unwrap() - first;
        // Each after its own isolation, not only the first of all.
        let waits = |of: &dyn Fn(usize) -> Instant| {
            let mut waits: Vec<Duration> = (0..count).map(|n| of(n) - contained(n)).collect();
            waits.sort();
            waits
        };
        let (snapshots, protections) = (waits(&snapshot), waits(&protection));
        println!(
            "{count} instances, cut {cut}: last contained {last:?} after the first; after their own isolation, median and \
             longest: snapshots {:?} {:?}, first protections {:?} {:?}",
            snapshots[count / 2],
            snapshots[count - 1],
            protections[count / 2],
            protections[count - 1]
        );
        let limit = Duration::from_secs(2);
        assert!(snapshots[count - 1] <= limit, "{snapshots:?}");
        assert!(protections[count - 1] <= limit, "{protections:?}");
    }
}

/// All defaults, members of an Auto Scaling group, EC2's usual buckets: a load balancer ends a host a minute after it fails. When
/// each was isolated, and what was done to it first. What waits for its passage is looked at as well, and what a policy lets nobody tag.
#[tokio::test(start_paused = true)]
async fn one_hundred_members_go_to_standby_within_2_s_of_their_own_isolation_and_each_is_looked_at_all_the_time() {
    let cases = [(false, "sg-0a", true), (true, "sg-0a", true), (true, TRANSIT, true), (false, "sg-0a", false)];
    for (cuts, change, may_be_tagged) in cases {
        let world = World::new();
        let ids: Vec<String> = (0..100).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
        for (n, id) in ids.iter().enumerate() {
            world.add(id, VPC, &[(&format!("eni-{:x}", 0x1000 + n), &["sg-0a", "sg-0b"])]);
        }
        let members: Vec<&str> = ids.iter().map(String::as_str).collect();
        world.scale("web", &members, "InService");
        {
            let mut data = world.data();
            (data.latency, data.buckets) = (Duration::from_millis(20), Some(BTreeMap::new()));
        }
        if !may_be_tagged {
            world.data().always = Some(("ec2:CreateTags", Fault::Denied));
        }
        let create = listing(&members, if cuts { cutting(event("create")) } else { event("create") });
        let last = format!("eni-{:x}", 0x1000 + 99);
        let isolation = groups(&[ISOLATION]);
        let meddling = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(world.cards()[&last], isolation);
            world.data().put_back(&last.parse().unwrap(), groups(&[change]));
            let begun = Instant::now();
            while world.cards()[&last] != isolation {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(begun.elapsed() <= Duration::from_secs(5), "{cuts} {change}: {:?}", begun.elapsed());
        };
        tokio::join!(succeeds(&world, create), meddling);
        let data = world.data();
        let at = |action: &str, what: &str| {
            let n = data.calls.iter().position(|call| call.0 == action && call.1.contains(what));
            n.map(|n| data.called_at[n]).unwrap_or_else(|| panic!("no {action} of {what}"))
        };
        let limit = Duration::from_secs(2);
        for (n, id) in ids.iter().enumerate() {
            let isolated = at("ec2:ModifyNetworkInterfaceAttribute", &format!("eni-{:x} [{ISOLATION}", 0x1000 + n));
            let standby = at("autoscaling:EnterStandby", id) - isolated;
            let protection = at("ec2:ModifyInstanceMetadataOptions", id) - isolated;
            assert!(standby <= limit && protection <= limit, "{may_be_tagged} {id}: {standby:?} {protection:?}");
        }
        let entries = data.calls.iter().filter(|(_, what)| *what == format!("{last} [{TRANSIT}]")).count();
        assert_eq!(entries, usize::from(cuts), "{change}: nobody passes twice");
    }
}

/// Each has groups of its own, so each tag is a call: late ones hold no right to call that others wait for.
#[tokio::test(start_paused = true)]
async fn tags_that_take_long_keep_nobody_from_anything_else() {
    let world = World::new();
    let ids: Vec<String> = (0..60).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
    for (n, id) in ids.iter().enumerate() {
        let group = format!("sg-{:x}", 0x5000 + n);
        {
            let mut data = world.data();
            let plain = data.groups[&"sg-0a".parse().unwrap()].clone();
            let own = Group { id: group.parse().unwrap(), ..plain };
            data.groups.insert(own.id.clone(), own);
        }
        world.add(id, VPC, &[(&format!("eni-{:x}", 0x1000 + n), &[&group])]);
    }
    {
        let mut data = world.data();
        (data.latency, data.slow) = (Duration::from_millis(20), Some(("ec2:CreateTags", "", Duration::from_secs(2))));
    }
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let answer = succeeds(&world, listing(&all, event("create"))).await;
    assert!(answer.reason.starts_with("60 instances isolated (60 interfaces), 60 snapshots"), "{}", answer.reason);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// Who waits in the isolation group for the passage has all seats, and waits for whoever is still open.
#[tokio::test(start_paused = true)]
async fn who_is_open_does_not_wait_for_those_that_pass_from_inside() {
    let is_isolated = |world: &World| world.cards()["eni-0b"] == groups(&[ISOLATION]);
    let ids: Vec<String> = (0..45).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
    let fleet = || {
        let world = quick_fleet();
        for (n, id) in ids.iter().enumerate() {
            world.add(id, VPC, &[(&format!("eni-{:x}", 0x1000 + n), &["sg-0a"])]);
        }
        world
    };
    let all: Vec<&str> = std::iter::once(B).chain(ids.iter().map(String::as_str)).collect();
    // Isolated without a passage, and one more with it.
    let world = fleet();
    succeeds(&world, listing(&all[1..], event("create"))).await;
    world.set_status("UPDATE_IN_PROGRESS");
    let opened = async {
        let since = Instant::now();
        while !is_isolated(&world) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        since.elapsed()
    };
    let (answer, open) = tokio::join!(succeeds(&world, cutting(rerun(&all))), opened);
    assert!(open < Duration::from_secs(20), "{open:?}: {}", answer.reason);
    // One that comes while the others pass.
    let world = fleet();
    let late = async {
        while world.data().in_transit().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // To one that waits for its passage.
        world.attach(&ids[44], "eni-0fff", &["sg-0a"]);
        let since = Instant::now();
        while world.cards()["eni-0fff"] != groups(&[ISOLATION]) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        since.elapsed()
    };
    let (answer, open) = tokio::join!(succeeds(&world, cutting(listing(&all, event("create")))), late);
    assert!(open < Duration::from_secs(10), "{open:?}: {}", answer.reason);
    assert_eq!(world.data().violations, [""; 0]);
}
