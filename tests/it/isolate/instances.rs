//! Instances that are starting or gone when they are to be isolated.

use crate::{A, B, after, event, fails, fleet, isolated, meanwhile, rerun, set_state, succeeds};

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

/// Its interfaces go before EC2 says that it is terminated.
#[tokio::test(start_paused = true)]
async fn an_instance_that_is_ending_is_terminated_and_not_one_that_will_have_an_interface() {
    for (seconds, is_saved) in [(10, false), (40, false), (40, true)] {
        let world = fleet();
        let mut asked = event("create");
        if is_saved {
            succeeds(&world, asked).await;
            asked = rerun(&[A, B]);
        }
        set_state(&world, A, "shutting-down");
        world.data().instances.get_mut(&A.parse().unwrap()).unwrap().interfaces.clear();
        let reason = meanwhile(&world, asked, async {
            after(seconds).await;
            world.data().terminate(A);
        })
        .await;
        assert!(reason.contains(&format!("{A} is terminated: ")), "{seconds}: {reason}");
        assert!(!reason.contains("wait until it has one"), "{seconds}: {reason}");
    }
}
