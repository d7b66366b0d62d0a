//! One reading that shows nothing is not believed: EC2's readings trail what is by seconds.

use std::time::Duration;

use ec2_isolation::model::{Peer, Rule, State};
use serde_json::{Value, json};

use crate::world::{ISOLATION, TRANSIT, World};
use crate::{
    A, B, C, D, cutting, deliver, entries, event, isolated, listing, quick_fleet, set_state, succeeds, with_everything,
};

const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";
const GROUPS: &str = "ec2:DescribeSecurityGroups";
const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn directly(event: Value) -> Value {
    event
}

const WAYS: [fn(Value) -> Value; 2] = [directly, cutting];

/// A and B are isolated, and everything of them is done.
fn assert_isolated(world: &World, reason: &str) {
    assert_eq!((isolated(world), reason), (vec!["eni-0a".to_owned(), "eni-0b".to_owned()], HEADLINE));
}

async fn created() -> World {
    let world = quick_fleet();
    succeeds(&world, cutting(with_everything(event("create")))).await;
    world
}

/// The rule that EC2 gives every new group.
fn allow_all() -> Rule {
    Rule { protocol: "-1".to_owned(), ports: None, peer: Peer::Cidr("0.0.0.0/0".to_owned()) }
}

/// https://github.com/hashicorp/packer/issues/3627
/// https://github.com/hashicorp/terraform-provider-aws/issues/21628
#[tokio::test(start_paused = true)]
async fn isolation_group_not_shown_for_the_first_4_s() {
    for way in WAYS {
        let world = quick_fleet();
        world.hide(ISOLATION, seconds(4));
        let answer = succeeds(&world, way(event("create"))).await;
        assert_isolated(&world, &answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn transit_group_not_shown_for_the_first_4_s() {
    let world = quick_fleet();
    world.hide(TRANSIT, seconds(4));
    let answer = succeeds(&world, cutting(event("create"))).await;
    assert_isolated(&world, &answer.reason);
    assert_eq!((entries(&world, "eni-0a"), entries(&world, "eni-0b")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn instance_not_shown_for_the_first_4_s_of_a_create() {
    for way in WAYS {
        let world = quick_fleet();
        world.hide(A, seconds(4));
        let answer = succeeds(&world, way(event("create"))).await;
        assert_isolated(&world, &answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn interface_not_shown_for_the_first_4_s_of_a_create() {
    for way in WAYS {
        let world = quick_fleet();
        world.hide("eni-0a", seconds(4));
        let answer = succeeds(&world, way(event("create"))).await;
        assert_isolated(&world, &answer.reason);
    }
}

/// https://github.com/hashicorp/terraform-provider-aws/issues/5529
#[tokio::test(start_paused = true)]
async fn groups_shown_their_rules_not_yet_3_to_4_s() {
    for (of_transit, of_isolation) in [(true, None), (true, Some(allow_all())), (false, Some(allow_all()))] {
        for time in [seconds(3), seconds(4)] {
            let world = quick_fleet();
            let until = tokio::time::Instant::now() + time;
            if of_transit {
                world.data().ruleless.insert(TRANSIT.parse().unwrap(), (until, vec![]));
            }
            if let Some(rule) = &of_isolation {
                world.data().ruleless.insert(ISOLATION.parse().unwrap(), (until, vec![rule.clone()]));
            }
            let answer = succeeds(&world, cutting(event("create"))).await;
            assert_isolated(&world, &answer.reason);
            assert_eq!((entries(&world, "eni-0a"), entries(&world, "eni-0b")), (1, 1), "{time:?}");
            let data = world.data();
            assert!(data.records.values().all(|record| record.connections_cut), "{time:?}");
            assert!(data.swapped_at[0] < seconds(1), "it waits isolated: {:?}", data.swapped_at);
        }
    }
}

/// https://github.com/hashicorp/terraform-provider-aws/issues/5529
#[tokio::test(start_paused = true)]
async fn isolation_group_still_with_the_allow_all_egress_it_is_born_with() {
    let world = quick_fleet();
    let until = tokio::time::Instant::now() + seconds(4);
    world.data().ruleless.insert(ISOLATION.parse().unwrap(), (until, vec![allow_all()]));
    let answer = succeeds(&world, event("create")).await;
    assert_isolated(&world, &answer.reason);
}

/// https://github.com/hashicorp/packer/issues/3627
#[tokio::test(start_paused = true)]
async fn group_missing_from_the_third_and_fourth_reading_after_the_swap() {
    for way in WAYS {
        for group in [ISOLATION, TRANSIT] {
            for first in 0..8 {
                let world = quick_fleet();
                world.before_call_of(GROUPS, first, move |data| {
                    data.hidden.insert(group.to_owned(), tokio::time::Instant::now() + seconds(3600));
                });
                world.before_call_of(GROUPS, first + 2, |data| data.hidden.clear());
                let answer = deliver(&world, way(event("create"))).await;
                assert_isolated(&world, &answer.reason);
                let record = world.data().records[&A.parse().unwrap()].clone();
                assert_eq!((record.state, record.connections_cut), (State::Isolated, entries(&world, "eni-0a") == 1));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn group_missing_for_good_after_the_swap_is_never_called_nothing_changed() {
    let world = quick_fleet();
    world.before_call_of(SWAP, 1, |data| {
        data.hidden.insert(ISOLATION.to_owned(), tokio::time::Instant::now() + seconds(36_000));
    });
    let answer = deliver(&world, event("create")).await;
    assert!(!answer.reason.contains("nothing was changed"), "{}", answer.reason);
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}

/// https://github.com/kubernetes-sigs/karpenter/issues/1100
#[tokio::test(start_paused = true)]
async fn delete_interface_missing_from_describe_network_interfaces_for_3_s() {
    for first in 0..4 {
        let world = created().await;
        world.before_call_of("ec2:DescribeNetworkInterfaces", first, |data| {
            data.hidden.insert("eni-0a".to_owned(), tokio::time::Instant::now() + seconds(3));
        });
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "2 instances restored", "{first}");
        assert_eq!((world.cards(), world.state(A)), (quick_fleet().cards(), Some(State::Restored)), "{first}");
    }
}

/// https://github.com/kubernetes/cloud-provider-aws/pull/1024
#[tokio::test(start_paused = true)]
async fn delete_instance_missing_from_describe_instances_for_3_s() {
    for first in 0..5 {
        let world = created().await;
        world.before_call_of("ec2:DescribeInstances", first, |data| {
            data.hidden.insert(A.to_owned(), tokio::time::Instant::now() + seconds(3));
        });
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "2 instances restored", "{first}");
        assert_eq!(
            (world.protections(), world.cards()),
            (quick_fleet().protections(), quick_fleet().cards()),
            "{first}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn delete_original_group_missing_for_3_s() {
    for first in 0..3 {
        let world = created().await;
        world.before_call_of(GROUPS, first, |data| {
            data.hidden.insert("sg-0c".to_owned(), tokio::time::Instant::now() + seconds(3));
        });
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!((answer.reason.as_str(), world.cards()), ("2 instances restored", quick_fleet().cards()), "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn delete_isolation_group_missing_for_3_s() {
    for group in [ISOLATION, TRANSIT] {
        let world = created().await;
        world.hide(group, seconds(3));
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!((answer.reason.as_str(), world.cards()), ("2 instances restored", quick_fleet().cards()), "{group}");
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_not_shown_for_3_s_counts() {
    let world = quick_fleet();
    world.before_call_of("ec2:CreateSnapshots", 0, |data| {
        for id in ["snap-10", "snap-11"] {
            data.hidden.insert(id.to_owned(), tokio::time::Instant::now() + seconds(3));
        }
    });
    let answer = succeeds(&world, event("create")).await;
    assert_isolated(&world, &answer.reason);
    assert_eq!((answer.data.snapshot_count.as_str(), world.count("ec2:CreateSnapshots")), ("2", 2));
}

/// A record is read consistently; the reading may be that of a replica that was just restored.
#[tokio::test(start_paused = true)]
async fn record_missing_from_one_reading() {
    let count = {
        let world = created().await;
        world.data().calls.len()
    };
    for n in 1..=count {
        let world = quick_fleet();
        world.data().hide_in_call = Some((n, format!("record {A}")));
        let answer = succeeds(&world, cutting(with_everything(event("create")))).await;
        assert_isolated(&world, &answer.reason);
        let record = world.data().records[&A.parse().unwrap()].clone();
        assert_eq!(record.interfaces[&"eni-0a".parse().unwrap()], crate::world::groups(&["sg-0a"]), "{n}");
        assert_eq!((entries(&world, "eni-0a"), world.count("ec2:CreateSnapshots")), (1, 2), "{n}");
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), quick_fleet().cards(), "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_does_not_see_the_transit_group_leaves_nobody_in_it() {
    for group in [TRANSIT, ISOLATION] {
        let world = quick_fleet();
        world.data().troubles_of.insert(SWAP, (1, crate::world::Trouble::DiesAfter));
        crate::die(&world, cutting(event("create"))).await;
        assert!(!world.data().in_transit().is_empty());
        world.set_status("ROLLBACK_IN_PROGRESS");
        world.hide(group, seconds(3));
        deliver(&world, event("delete")).await;
        assert_eq!(world.data().in_transit(), [""; 0], "{group}");
    }
}

#[tokio::test(start_paused = true)]
async fn instance_that_does_not_exist_is_named_after_a_second_look() {
    let world = quick_fleet();
    let reason = crate::fails(&world, listing(&[A, "i-0123"], event("create"))).await;
    assert!(reason.contains("i-0123 does not exist in this account and region"), "{reason}");
    let data = world.data();
    assert!(data.start.elapsed() >= seconds(5) && data.start.elapsed() < seconds(20), "{:?}", data.start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_doubt_about_one_instance_delays_no_other() {
    for hidden in [A, "eni-0a"] {
        let world = quick_fleet();
        world.hide(hidden, seconds(4));
        succeeds(&world, listing(&[A, B, C], event("create"))).await;
        let data = world.data();
        assert!(data.swapped_at[1] < seconds(1), "{:?}", data.swapped_at);
        let snapshots =
            data.calls.iter().zip(&data.called_at).filter(|((action, _), _)| *action == "ec2:CreateSnapshots");
        let first: Vec<Duration> = snapshots.map(|(_, at)| *at - data.start).collect();
        assert!(first[1] < seconds(2), "{first:?}");
    }
}

/// The ways on which nothing else takes five seconds.
const QUICK_WAYS: [&str; 3] = ["direct", "no hold", "stopped"];

/// D with its two interfaces.
fn quickly(way: &str) -> (World, Value) {
    let (world, mut create) = (quick_fleet(), listing(&[D], cutting(event("create"))));
    match way {
        "direct" => create = listing(&[D], event("create")),
        "no hold" => create["ResourceProperties"]["HoldSeconds"] = json!("0"),
        _ => set_state(&world, D, "stopped"),
    }
    (world, create)
}

#[tokio::test(start_paused = true)]
async fn second_interface_not_shown_for_the_first_4_s() {
    for way in QUICK_WAYS {
        let (world, create) = quickly(way);
        world.hide("eni-0d2", seconds(4));
        let answer = succeeds(&world, create).await;
        assert_eq!(answer.reason, "1 instance isolated (2 interfaces), 1 snapshot");
        assert_eq!(isolated(&world), ["eni-0d1", "eni-0d2"]);
        // The first one waits for nothing.
        assert!(world.data().swapped_at[0] < seconds(1), "{:?}", world.data().swapped_at);
    }
}

#[tokio::test(start_paused = true)]
async fn volumes_not_shown_for_the_first_3_s() {
    for way in QUICK_WAYS {
        let (world, create) = quickly(way);
        let volume = D.replace("i-", "vol-");
        world.hide(&volume, seconds(3));
        let answer = succeeds(&world, create).await;
        assert_eq!(answer.reason, "1 instance isolated (2 interfaces), 1 snapshot");
        assert!(!world.protections()[D].join(" ").contains("is deleted on termination"), "{:?}", world.protections());
    }
}

#[tokio::test(start_paused = true)]
async fn delete_volumes_not_shown_for_3_s() {
    for first in 0..4 {
        let world = created().await;
        world.before_call_of("ec2:DescribeInstances", first, |data| {
            data.hidden.insert(A.replace("i-", "vol-"), tokio::time::Instant::now() + seconds(3));
        });
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "2 instances restored", "{first}");
        assert_eq!(world.protections(), quick_fleet().protections(), "{first}");
    }
}

/// EC2's own tag says that it is a member.
#[tokio::test(start_paused = true)]
async fn membership_not_shown_for_the_first_4_s() {
    let world = quick_fleet();
    world.hide(&format!("member {A}"), seconds(4));
    let answer = succeeds(&world, listing(&[A], event("create"))).await;
    assert_eq!(answer.reason, "1 instance isolated (1 interface), 1 snapshot");
    assert_eq!(world.membership()[A], "Standby in web");
}

#[tokio::test(start_paused = true)]
async fn instance_profile_not_shown_for_the_first_4_s() {
    let world = quick_fleet();
    world.hide(&format!("profile {A}"), seconds(4));
    succeeds(&world, listing(&[A], with_everything(event("create")))).await;
    let profile = "arn:aws:iam::123456789012:instance-profile/web".to_owned();
    assert!(!world.protections()[A].contains(&profile), "{:?}", world.protections());
}
