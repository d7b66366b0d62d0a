//! Round trips, calls, sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ec2_isolation::cloudformation::answer::Answer;
use ec2_isolation::cloudformation::properties;
use ec2_isolation::cloudformation::rollback::StackGuard;
use ec2_isolation::model::Owner;
use ec2_isolation::reconcile::Reconciler;
use ec2_isolation::reconcile::report::Asker;
use ec2_isolation::timing::clock::Clock;
use ec2_isolation::timing::gate::Gate;
use ec2_isolation::timing::pace::Pace;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::watch::{schedule, watch};
use crate::world::{self, VPC, World, groups};
use crate::{cutting, event, isolated, succeeds, with_everything};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

fn many(count: usize, interfaces: usize) -> (World, Vec<String>) {
    let world = World::new();
    let ids: Vec<String> = (0..count).map(|n| format!("i-{:x}", 0x1000 + n)).collect();
    for (n, id) in ids.iter().enumerate() {
        let own: Vec<String> = (0..interfaces).map(|k| format!("eni-{:x}", 0x10000 + n * 16 + k)).collect();
        let cards: Vec<(&str, &[&str])> = own.iter().map(|id| (id.as_str(), ["sg-0a", "sg-0b"].as_slice())).collect();
        world.add(id, VPC, &cards);
    }
    (world, ids)
}

fn directly(event: Value) -> Value {
    event
}

/// With everything on, or nothing but the isolation itself.
async fn create(world: &World, ids: &[String], everything: &str) -> Answer {
    create_with(world, ids, everything, directly).await
}

async fn create_with(world: &World, ids: &[String], everything: &str, way: fn(Value) -> Value) -> Answer {
    let mut create = way(event("create"));
    create["ResourceProperties"]["InstanceIds"] = json!(ids);
    for option in ["SnapshotVolumes", "ProtectInstances", "DisableInstanceMetadata"] {
        create["ResourceProperties"][option] = json!(everything);
    }
    succeeds(world, create).await
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_contained_after_three_sequential_round_trips() {
    let (world, ids) = many(1, 1);
    create(&world, &ids, "true").await;
    // Every call takes a second: describe, record, swap.
    assert_eq!(world.data().swapped_at, [Duration::from_secs(3)]);
}

/// The isolation itself, without snapshots and protections. In real time: where the clock stands still between two calls, a look that
/// follows a change is no younger than that change, and everything is looked at once more.
#[tokio::test]
async fn an_instance_is_isolated_by_at_most_sixteen_calls_and_six_before_the_first_swap() {
    let (world, ids) = many(1, 1);
    {
        let mut data = world.data();
        (data.latency, data.stale_reads) = (Duration::from_millis(1), 0);
    }
    create(&world, &ids, "false").await;
    let calls = world.data().calls.clone();
    let before = calls.iter().position(|(action, _)| *action == SWAP).unwrap();
    assert!(before <= 6 && calls.len() <= 16, "{before} of {}: {calls:#?}", calls.len());
}

/// Describe, record, enter, leave; the hold of five seconds aside.
#[tokio::test(start_paused = true)]
async fn an_instance_whose_connections_are_cut_is_contained_after_four_sequential_round_trips() {
    let (world, ids) = many(1, 1);
    create_with(&world, &ids, "true", cutting).await;
    assert_eq!(world.data().swapped_at, [Duration::from_secs(3), Duration::from_secs(4 + 5)]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_restored_after_six_sequential_round_trips() {
    let (world, ids) = many(1, 1);
    world.data().stale_reads = 0;
    create(&world, &ids, "false").await;
    let begun = world.data().start.elapsed();
    succeeds(&world, event("delete")).await;
    // The intent beside the stack's status, the intent written, the records, what is there; mark, swap.
    assert_eq!(*world.data().swapped_at.last().unwrap() - begun, Duration::from_secs(6));
}

/// The responder's table holds every incident of the account; an invocation reads its own, by their keys.
#[tokio::test(start_paused = true)]
async fn a_table_with_a_thousand_old_incidents_costs_nothing() {
    let life = |old: usize| async move {
        let (world, ids) = many(2, 2);
        create(&world, &ids, "true").await;
        succeeds(&world, event("delete")).await;
        {
            let mut data = world.data();
            let restored = data.records.values().next().unwrap().clone();
            for n in 0..old {
                let mut record = restored.clone();
                record.instance = format!("i-{:x}", 0x90000 + n).parse().unwrap();
                record.owner.stack_id = format!("arn:aws:cloudformation:us-east-1:123456789012:stack/old-{n}/1");
                let mut intent = data.intents.values().next().unwrap().clone();
                intent.0.owner = record.owner.clone();
                data.intents.insert(record.owner.digest(), intent);
                data.records.insert(record.instance.clone(), record);
            }
        }
        let begun = {
            let data = world.data();
            (data.calls.len(), data.start.elapsed())
        };
        for name in ["create", "delete"] {
            let mut again = event(name);
            again["RequestId"] = json!(format!("{name} again"));
            again["ResourceProperties"]["InstanceIds"] = json!(ids);
            succeeds(&world, again).await;
        }
        let mut open = event("create");
        open["RequestId"] = json!("open");
        open["ResourceProperties"]["InstanceIds"] = json!(ids);
        succeeds(&world, open).await;
        // It looks at what is open, whatever else the table holds.
        let found = watch(&world, schedule()).await;
        assert_eq!(found["incidents"].as_array().unwrap().len(), 1, "{found}");
        let data = world.data();
        assert!(data.calls.iter().all(|(action, _)| *action != "dynamodb:Scan"));
        (data.calls.len() - begun.0, data.start.elapsed() - begun.1)
    };
    assert_eq!(life(1000).await, life(0).await);
}

#[tokio::test(start_paused = true)]
async fn one_more_instance_adds_at_most_four_calls_and_five_where_connections_are_cut() {
    for (way, most) in [(directly as fn(Value) -> Value, 4), (cutting, 5)] {
        let calls = |count| async move {
            let (world, ids) = many(count, 1);
            create_with(&world, &ids, "false", way).await;
            world.data().calls.len()
        };
        let (one, two, ten) = (calls(1).await, calls(2).await, calls(10).await);
        assert!(two - one <= most, "{one} -> {two}");
        assert!(ten - one <= 9 * most, "{one} -> {ten}");
    }
}

/// What one more instance adds to a Create with every option on, where every read shows what is, without the calls for
/// its Auto Scaling group. No two have the same groups, so none shares its tag with another.
#[tokio::test(start_paused = true)]
async fn one_more_instance_adds_at_most_twenty_calls_with_everything_on() {
    for (way, swaps) in [(directly as fn(Value) -> Value, 1), (cutting, 2)] {
        let (added, most) = added_with_everything(way).await;
        let expected = [
            ("ec2:ModifyNetworkInterfaceAttribute", swaps),
            // Snapshots requested, snapshots saved, prior values, isolated.
            ("dynamodb:UpdateItem", 4),
            ("ec2:CreateSnapshots", 1),
            ("ec2:CreateTags", 1),
            // Before and after.
            ("ec2:DescribeInstanceAttribute", 6),
            ("ec2:ModifyInstanceAttribute", 4),
            ("ec2:ModifyInstanceMetadataOptions", 1),
            ("ec2:DisassociateIamInstanceProfile", 1),
        ];
        assert_eq!(added, expected.into());
        // Loops of many drift apart, and share fewer reads.
        assert!(added.values().sum::<i32>() <= 20 && most <= 9 * 22, "{added:?}, nine more: {most}");
    }
}

/// What the second instance adds, and how many calls nine more do.
async fn added_with_everything(way: fn(Value) -> Value) -> (BTreeMap<&'static str, i32>, i32) {
    let calls = |count| async move {
        let (world, ids) = many(count, 1);
        let members: Vec<&str> = ids.iter().map(String::as_str).collect();
        world.scale("web", &members, "InService");
        for id in &ids {
            world.give_profile(id, "arn:aws:iam::123456789012:instance-profile/web");
        }
        world.data().stale_reads = 0;
        for (n, interface) in (1..).zip(world.cards().keys()) {
            let own =
                ["sg-0a", "sg-0b", "sg-0c", "sg-0d"].into_iter().enumerate().filter(|(bit, _)| n & (1 << bit) != 0);
            let own: Vec<&str> = own.map(|(_, group)| group).collect();
            world.data().put_back(&interface.parse().unwrap(), groups(&own));
        }
        let mut create = way(with_everything(event("create")));
        create["ResourceProperties"]["InstanceIds"] = json!(ids);
        succeeds(&world, create).await;
        let data = world.data();
        let calls = data.calls.iter().map(|(action, _)| *action).filter(|action| !action.starts_with("autoscaling:"));
        let mut counts = BTreeMap::new();
        calls.for_each(|action| *counts.entry(action).or_insert(0) += 1);
        counts
    };
    let (one, two, ten) = (calls(1).await, calls(2).await, calls(10).await);
    let added: BTreeMap<_, _> = two.iter().map(|(action, count)| (*action, count - one[action])).collect();
    let total = |counts: &BTreeMap<&str, i32>| counts.values().sum::<i32>();
    (added.into_iter().filter(|(_, count)| *count > 0).collect(), total(&ten) - total(&one))
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_four_instances_are_isolated_and_restored() {
    for (interfaces, total) in [(1, 204), (4, 816)] {
        let (world, ids) = many(204, interfaces);
        let start = world.cards();
        let answer = create(&world, &ids, "true").await;
        assert_eq!(isolated(&world).len(), total);
        assert_eq!(answer.reason, format!("204 instances isolated ({total} interfaces), 204 snapshots"));
        assert_eq!(answer.data.isolated_instance_count, "204");
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), start);
    }
}

/// What EC2 refused since the last time: nothing but direct changes of groups, each once, and no more than were under way.
fn assert_refused_once_each(world: &World) {
    let refused = std::mem::take(&mut world.data().throttled);
    // What protects an instance was changed a moment ago: EC2's bucket has not filled again since.
    let modify = "ec2:ModifyInstanceAttribute";
    let is_expected =
        |(action, what): &&(&str, String)| *action == modify || *action == SWAP && !what.contains(world::TRANSIT);
    let expected: Vec<_> = refused.iter().filter(is_expected).collect();
    let each: BTreeSet<_> = refused.iter().collect();
    assert_eq!((expected.len(), each.len()), (refused.len(), refused.len()), "{refused:?}");
    let swaps = refused.iter().filter(|(action, _)| *action == SWAP).count();
    assert!(swaps <= 20 && refused.len() - swaps <= 50, "{refused:?}");
}

/// The lower bound is the bucket's: (calls - 100) / 5 seconds.
#[tokio::test(start_paused = true)]
#[allow(clippy::print_stdout)] // The measurement is the result.
async fn two_hundred_and_four_instances_take_what_ec2s_throttle_gives_and_no_call_is_refused_twice() {
    for (way, bound) in [(directly as fn(Value) -> Value, (204 - 100) / 5), (cutting, (204 - 100) / 5)] {
        let (world, ids) = many(204, 1);
        let members: Vec<&str> = ids.iter().map(String::as_str).collect();
        world.scale("web", &members, "InService");
        for id in &ids {
            world.give_profile(id, "arn:aws:iam::123456789012:instance-profile/web");
        }
        {
            let mut data = world.data();
            (data.latency, data.buckets) = (Duration::from_millis(20), Some(BTreeMap::new()));
        }
        let start = Instant::now();
        let mut everything = with_everything(way(event("create")));
        everything["ResourceProperties"]["InstanceIds"] = json!(ids);
        succeeds(&world, everything).await;
        let (contained, all) = (world.data().swapped_at[203], start.elapsed());
        println!(
            "204 instances: all isolated after {:.1} simulated s, everything done after {:.1} s",
            contained.as_secs_f64(),
            all.as_secs_f64()
        );
        assert_refused_once_each(&world);
        assert!(contained <= Duration::from_secs(bound).mul_f64(1.1), "{contained:?}");
        succeeds(&world, event("delete")).await;
        assert_refused_once_each(&world);
    }
}

/// An account whose limits AWS has raised: nothing is refused, so nothing waits. Look, then record and swap, twenty at once.
#[tokio::test(start_paused = true)]
async fn where_ec2_refuses_nothing_two_hundred_and_four_instances_wait_for_nothing_but_their_calls() {
    let (world, ids) = many(204, 1);
    world.data().stale_reads = 0;
    create(&world, &ids, "false").await;
    let waves = 204_u64.div_ceil(20);
    assert_eq!(world.data().swapped_at[203], Duration::from_secs(2 + waves));
    let begun = world.data().start.elapsed();
    succeeds(&world, event("delete")).await;
    assert_eq!(*world.data().swapped_at.last().unwrap() - begun, Duration::from_secs(5 + waves));
}

/// Somebody else's calls have left nothing, and go on taking of what comes back: most of it, or half of it where each interface
/// needs three changes.
#[tokio::test(start_paused = true)]
async fn a_bucket_that_somebody_else_empties_delays_the_isolation_and_leaves_nothing_out() {
    for (way, taken) in [(directly as fn(Value) -> Value, 0.8), (cutting, 0.5)] {
        let (world, ids) = many(204, 1);
        let start = world.cards();
        {
            let mut data = world.data();
            (data.latency, data.buckets) = (Duration::from_millis(20), Some(BTreeMap::new()));
        }
        let somebody_else = async {
            loop {
                world.data().drain(SWAP, taken);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let ours = async {
            let answer = create_with(&world, &ids, "false", way).await;
            assert_eq!(answer.reason, "204 instances isolated (204 interfaces)");
            succeeds(&world, event("delete")).await;
        };
        tokio::select! {
            () = somebody_else => unreachable!("it never ends"),
            () = ours => {}
        }
        assert_ne!(world.data().throttled, []);
        assert_eq!(world.cards(), start);
    }
}

/// One more than may pass at once: what reads show late of one wave is no contradiction to what the next one leaves.
#[tokio::test(start_paused = true)]
async fn twenty_one_interfaces_pass_in_waves_though_reads_trail() {
    for jitter in [5_609_548_150_009_519_451, 1_594_670_056_970_484_749, 4_753_411_771_261_865_321, 1, 2, 3] {
        let (world, ids) = many(3, 7);
        let start = world.cards();
        {
            let mut data = world.data();
            (data.stale_reads, data.jitter) = (3, Some(jitter));
        }
        let answer = create_with(&world, &ids, "true", cutting).await;
        assert_eq!(answer.reason, "3 instances isolated (21 interfaces), 3 snapshots");
        assert_eq!(isolated(&world).len(), 21);
        assert!(world.data().most_in_transit <= 20);
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), start);
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_four_interfaces_are_isolated_before_the_first_passes_the_transit_group_and_never_more_than_twenty_at_once()
 {
    for (instances, interfaces) in [(204, 1), (51, 4)] {
        let (world, ids) = many(instances, interfaces);
        let start = world.cards();
        world.data().stale_reads = 0;
        create_with(&world, &ids, "false", cutting).await;
        assert_eq!(isolated(&world).len(), 204);
        let calls = world.data().calls.clone();
        let swaps = calls.iter().filter(|(action, _)| *action == SWAP);
        let entered: Vec<bool> = swaps.map(|(_, what)| what.contains(world::TRANSIT)).collect();
        assert_eq!(entered.iter().position(|entered| *entered), Some(204));
        assert_eq!((entered.len(), entered.iter().filter(|entered| **entered).count()), (3 * 204, 204));
        assert_eq!(world.data().most_in_transit, 20);
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), start);
    }
}

/// What the figure `SecondsToContain` says of a request: all of it until the last instance is read back isolated, and nothing of what
/// comes after, or of a request that found everything isolated.
#[tokio::test(start_paused = true)]
async fn how_long_it_took_to_contain_them_is_measured_until_the_last_one_is_read_back() {
    let (world, ids) = many(3, 1);
    let wants = properties::wants(&[
        (properties::INSTANCE_IDS, ids.join(",")),
        (properties::VPC_ID, VPC.to_owned()),
        (properties::ISOLATION_GROUP, world::ISOLATION.to_owned()),
    ]);
    let wants = wants.unwrap();
    let owner = Owner { stack_id: world::STACK.to_owned(), logical_id: "Isolation".to_owned() };
    let (gate, pace) = (Gate::new(Duration::from_secs(900)), Pace::default());
    let guard = StackGuard { stacks: &world, stack_id: world::STACK, on_rollback: wants.on_rollback };
    let isolate = async |request_id: &str| {
        let clock = Clock::new(*crate::NOW);
        let reconciler = Reconciler {
            ec2: &world,
            records: &world,
            owner: &owner,
            request_id,
            issued: None,
            writer: request_id,
            gate: &gate,
            pace: &pace,
            clock: &clock,
            asked_by: "a test",
            asker: Asker::Deployment,
            for_permission: Duration::ZERO,
        };
        (reconciler.isolate(&wants, &guard).await, clock.elapsed())
    };
    let (report, elapsed) = isolate("first").await;
    let contained = report.contained_after.expect("they were open");
    // The instances, their records, the swap and one look: each takes a second here.
    assert!(contained >= Duration::from_secs(4) && contained < elapsed, "{contained:?} of {elapsed:?}");
    assert_eq!(isolated(&world).len(), 3);
    assert_eq!(isolate("second").await.0.contained_after, None);
}
