//! The rights of a new role, which take up to a minute to arrive, and those that never do.

use std::collections::BTreeSet;
use std::time::Duration;

use ec2_isolation::cloudformation::answer::{Answer, Status};
use ec2_isolation::ports::Fault;
use serde_json::Value;

use crate::world::World;
use crate::{A, B, C, cutting, deliver, event, isolated, listing, quick_fleet, with_everything};

const ADVICE: &str = "(allow the function's role this action, or wait a minute and deploy again)";

/// The world before a Create, or before an Update that adds an instance, and that event.
async fn prepared(kind: &str) -> (World, Value) {
    let world = quick_fleet();
    let create = cutting(with_everything(event("create")));
    if kind == "Create" {
        return (world, create);
    }
    deliver(&world, create).await;
    world.set_status("UPDATE_IN_PROGRESS");
    let update = listing(&[A, B, C], cutting(with_everything(event("update"))));
    world.data().calls.clear();
    (world, update)
}

async fn actions(kind: &str) -> BTreeSet<&'static str> {
    let (world, event) = prepared(kind).await;
    assert_eq!(deliver(&world, event).await.status, Status::Success);
    world.data().calls.iter().map(|(action, _)| *action).collect()
}

fn assert_done(world: &World, kind: &str, answer: &Answer, case: &str) {
    assert_eq!(answer.status, Status::Success, "{case}: {}", answer.reason);
    assert!(!answer.reason.contains("Denied"), "{case}: {}", answer.reason);
    let expected: &[&str] = if kind == "Create" { &["eni-0a", "eni-0b"] } else { &["eni-0a", "eni-0b", "eni-0c"] };
    assert_eq!(isolated(world), expected, "{case}");
}

/// Each action in turn, and all at once.
#[tokio::test(start_paused = true)]
async fn what_a_new_role_is_not_allowed_for_50_s_is_waited_for_on_a_create_and_on_an_update() {
    for kind in ["Create", "Update"] {
        for denied in actions(kind).await.into_iter().map(Some).chain([None]) {
            let (world, event) = prepared(kind).await;
            world.data().always = denied.map(|action| (action, Fault::Denied));
            world.data().denies_all = denied.is_none();
            let arriving = async {
                tokio::time::sleep(Duration::from_secs(50)).await;
                (world.data().always, world.data().denies_all) = (None, false);
            };
            let (answer, ()) = tokio::join!(deliver(&world, event), arriving);
            assert_done(&world, kind, &answer, &format!("{kind}, {}", denied.unwrap_or("everything")));
        }
    }
}

/// It is denied for good: each denial is named with what to do about it.
#[tokio::test(start_paused = true)]
async fn what_a_role_is_never_allowed_is_named_with_what_to_do() {
    for kind in ["Create", "Update"] {
        for denied in actions(kind).await {
            let (world, event) = prepared(kind).await;
            world.data().always = Some((denied, Fault::Denied));
            let begun = tokio::time::Instant::now();
            let answer = deliver(&world, event).await;
            let case = format!("{kind}, {denied}: {:?} after {:?}: {}", answer.status, begun.elapsed(), answer.reason);
            // Tags are for people; those of interfaces are read to save two writes.
            let is_told = denied != "ec2:DescribeTags";
            let fails = is_told && denied != "ec2:CreateTags";
            let named = format!("{denied} failed: Denied: a test wants it {ADVICE}");
            let unknown = format!("{named}: what is true now is not known");
            let tells = |part: &str| part.ends_with(&named) || part.ends_with(&unknown);
            assert_eq!(answer.reason.split(" | ").skip(1).any(tells), is_told, "{case}");
            assert_eq!(answer.status == Status::Failed, fails, "{case}");
            assert!(!fails || begun.elapsed() >= Duration::from_secs(60), "{case}");
        }
    }
}
