//! Instances that are starting or gone when they are to be isolated.

use crate::{A, after, event, fails, fleet, isolated, meanwhile, set_state};

#[tokio::test(start_paused = true)]
async fn a_terminated_instance_is_named_and_the_others_are_isolated() {
    let world = fleet();
    set_state(&world, A, "terminated");
    let reason = fails(&world, event("create")).await;
    assert!(reason.contains(&format!("{A} is terminated: take it off CompromisedInstanceList")), "{reason}");
    assert_eq!(isolated(&world), ["eni-0b"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_starting_is_waited_for() {
    let world = fleet();
    set_state(&world, A, "pending");
    let reason = meanwhile(&world, event("create"), async {
        after(20).await;
        set_state(&world, A, "running");
    })
    .await;
    assert_eq!(reason, "2 instances isolated (2 interfaces), 2 snapshots");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
}
