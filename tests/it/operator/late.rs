//! What a Create leaves behind that died after a Delete overtook it is found and repaired by the program.

use std::collections::BTreeMap;
use std::time::Duration;

use ec2_isolation::cloudformation::handler::handle;
use serde_json::json;
use tokio::runtime::Handle;

use super::{assert_as_at_the_start, by_table, operator, restore};
use crate::world::{ISOLATION, TRANSIT, Trouble, World, groups};
use crate::{cutting, deliver, event, invocation, quick_fleet, run, with_everything};

#[tokio::test(start_paused = true)]
async fn the_create_dies_after_a_delete_that_answered_success() {
    for trouble in [Trouble::Dies, Trouble::DiesAfter] {
        for n in 0..40 {
            let case = format!("{trouble:?} {n}");
            let world = quick_fleet();
            let doomed = async {
                let process = world.process();
                let (ports, worker, invocation) = (Ok(process.ports()), Handle::current(), invocation());
                let create = cutting(with_everything(event("create")));
                let work = handle(&ports, &worker, create, &invocation, |_, _| process.clone());
                let time = tokio::time::sleep(Duration::from_millis(10 + 20 * n));
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
