//! What a Create leaves behind that died after a Delete overtook it is found and repaired by the program.

use std::collections::BTreeMap;
use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::cloudformation::handler::handle;
use ec2_isolation::model::State;
use serde_json::json;
use tokio::runtime::Handle;

use super::{assert_as_at_the_start, by_table, operator, restore};
use crate::world::{ISOLATION, TRANSIT, Trouble, World, groups};
use crate::{C, as_request, cutting, deliver, die, event, invocation, listing, quick_fleet, run, with_everything};

#[tokio::test(start_paused = true)]
async fn the_create_dies_after_a_delete_that_answered_success() {
    for trouble in [Trouble::Dies, Trouble::DiesAfter] {
        // In its hold, and when that has ended.
        let times = (0..40).map(|n| 10 + 20 * n).chain((50..70).map(|n| 100 * n));
        for (n, time) in (0..).zip(times) {
            let case = format!("{trouble:?} after {time} ms");
            let world = quick_fleet();
            let doomed = async {
                let process = world.process();
                let (ports, worker, invocation) = (Ok(process.ports()), Handle::current(), invocation());
                let create = cutting(with_everything(event("create")));
                let work = handle(&ports, &worker, create, &invocation, |_, _| process.clone());
                let time = tokio::time::sleep(Duration::from_millis(time));
                tokio::select! {
                    biased;
                    _ = work => {}
                    () = time => process.kill(trouble),
                }
            };
            let late = async {
                tokio::time::sleep(Duration::from_millis(30 * (n % 8))).await;
                run(&world, event("delete")).await
            };
            tokio::join!(doomed, late);
            assert_status_is_true(&world, &case).await;
            let report = restore(&world).await;
            assert!(!report.failed, "{case}: {:?} {:?}", report.done, report.details);
            assert_as_at_the_start(&world, &case);
            // Whatever is delivered again finds nothing to do.
            let mut again = event("delete");
            again["RequestId"] = json!("again");
            deliver(&world, again).await;
            assert_as_at_the_start(&world, &case);
        }
    }
}

/// What no Create of ours leaves any more: overtaken in its hold by a Delete that answered SUCCESS, it recorded and isolated
/// another instance 6.4 s later, and died before it had tagged it; or the Delete marked that record meanwhile.
#[tokio::test(start_paused = true)]
async fn the_create_isolates_another_instance_after_the_delete_and_dies() {
    for state in [State::Isolating, State::Restored] {
        let case = format!("{state:?}");
        let world = quick_fleet();
        let create = cutting(with_everything(event("create")));
        let overtaking = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            run(&world, event("delete")).await
        };
        tokio::join!(run(&world, create), overtaking);
        let answers = world.data().answers.clone();
        let [create, delete] = ["Create", "Delete"].map(|kind| {
            answers.iter().find(|answer| answer.request_id == event(&kind.to_lowercase())["RequestId"]).unwrap().status
        });
        assert_eq!((create, delete), (Status::Failed, Status::Success), "{answers:?}");
        assert_as_at_the_start(&world, &case);
        tokio::time::sleep(Duration::from_millis(5_400)).await;
        // The intent stays that of the Delete.
        let intents = world.data().intents.clone();
        world.data().troubles_of.insert("ec2:ModifyNetworkInterfaceAttribute", (0, Trouble::DiesAfter));
        die(&world, as_request("late", listing(&[C], event("create")))).await;
        {
            let mut data = world.data();
            data.intents = intents;
            data.records.get_mut(&C.parse().unwrap()).unwrap().state = state;
            assert!(data.tags.get(C).is_none_or(BTreeMap::is_empty), "{case}: {:?}", data.tags);
        }
        assert_eq!(world.cards()["eni-0c"], groups(&[ISOLATION]), "{case}");

        assert_status_is_true(&world, &case).await;
        let program = operator(&world);
        let shown = program.status(&program.incident(&by_table()).await.unwrap()).await.to_string();
        assert!(shown.contains(C) && shown.contains("eni-0c"), "{case}: {shown}");
        let report = restore(&world).await;
        assert!(!report.failed, "{case}: {:?} {:?}", report.done, report.details);
        assert_as_at_the_start(&world, &case);
    }
}

/// Whatever is in a group of ours is known, and nothing is said to be isolated, or restored, that is not.
async fn assert_status_is_true(world: &World, case: &str) {
    let program = operator(world);
    let shown = program.status(&program.incident(&by_table()).await.unwrap()).await;
    let (isolation, transit) = (groups(&[ISOLATION]), groups(&[TRANSIT]));
    let cards = world.cards();
    let without = shown.without_record.iter().map(|stray| (stray.interface.clone(), None));
    let known = shown.instances.iter().flat_map(|instance| {
        let is_isolated = instance.condition == Some(ec2_isolation::operator::Condition::Isolated);
        instance.interfaces.iter().map(move |interface| (interface.id.clone(), Some((interface, is_isolated))))
    });
    let known: BTreeMap<_, _> = without.chain(known).collect();
    for (interface, at) in cards.iter().filter(|(_, at)| **at == isolation || **at == transit) {
        assert!(known.contains_key(interface), "{case}: {interface} in {at:?} is not in the status");
    }
    for (id, (interface, is_isolated)) in known.iter().filter_map(|(id, known)| Some((id, known.as_ref()?))) {
        let now: Vec<String> = cards[id].iter().map(ToString::to_string).collect();
        assert_eq!(interface.now, now, "{case}: {id}");
        assert_eq!(interface.condition == "isolated", cards[id] == isolation, "{case}: {id}");
        assert!(!is_isolated || cards[id] == isolation, "{case}: {id} in {now:?} is said to be isolated");
    }
    let is_anything_inside = cards.values().any(|at| *at == isolation);
    assert_eq!(shown.summary.isolated_interfaces > 0 || !shown.without_record.is_empty(), is_anything_inside, "{case}");
    let is_in_transit = cards.values().any(|at| *at == transit);
    assert!(!is_in_transit || shown.is_anything_open() && shown.to_string().contains(TRANSIT), "{case}: {shown}");
}
