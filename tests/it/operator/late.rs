//! What a Create leaves behind that died after a Delete overtook it is found and repaired by the program.

use std::time::Duration;

use ec2_isolation::cloudformation::handler::handle;
use serde_json::json;
use tokio::runtime::Handle;

use super::{assert_as_at_the_start, restore};
use crate::world::Trouble;
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
