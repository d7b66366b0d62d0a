//! Termination and stop protection, the shutdown behaviour, and the volumes that outlive their instance.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::{PROTECTING, State};
use ec2_isolation::ports::Fault;
use serde_json::json;

use super::{HEADLINE, MODIFY, READ, SWAP, assert_after, id, protected, protected_member, rerun};
use crate::{A, B, event, fails, fleet, isolated, succeeds, with};

#[tokio::test(start_paused = true)]
async fn a_create_protects_and_a_delete_puts_everything_back() {
    let world = fleet();
    let start = world.protections();
    let answer = succeeds(&world, event("create")).await;
    assert_eq!(answer.reason, HEADLINE);
    assert_eq!((&world.protections()[A], &world.protections()[B]), (&protected_member(), &protected()));
    assert_after(&world, READ, SWAP);
    for instance in [A, B] {
        let calls = world.data().calls.clone();
        let of = |action: &str| calls.iter().position(|(called, what)| *called == action && what.starts_with(instance));
        assert!(of(READ) > of("ec2:CreateSnapshots"), "{instance}: snapshots first");
    }
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
    assert_eq!(world.state(A), Some(State::Restored));
}

#[tokio::test(start_paused = true)]
async fn a_delete_gives_interfaces_back_before_it_unprotects() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().calls.clear();
    succeeds(&world, event("delete")).await;
    assert_after(&world, READ, SWAP);
    assert_after(&world, MODIFY, SWAP);
}

#[tokio::test(start_paused = true)]
async fn what_was_protected_before_stays_protected() {
    let world = fleet();
    world.data().protections.attributes.insert(id(A), PROTECTING);
    succeeds(&world, event("create")).await;
    assert!(world.data().records[&id(A)].protection.attributes.is_empty());
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections()[A][..3], protected()[..3]);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_reads_and_changes_nothing() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    world.data().calls.clear();
    succeeds(&world, rerun()).await;
    assert_eq!((world.count(MODIFY), world.count(READ), world.count("dynamodb:UpdateItem")), (0, 6, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attribute_that_an_operator_changed_is_set_again_and_its_prior_value_stays() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, event("create")).await;
    world.data().calm();
    world.data().protections.attributes.remove(&id(A));
    succeeds(&world, rerun()).await;
    assert_eq!(world.protections()[A], protected_member());
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn without_the_option_nothing_is_read_or_changed() {
    let world = fleet();
    succeeds(&world, with("create", "ProtectInstances", json!("false"))).await;
    assert_eq!((world.count(READ), world.count(MODIFY)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_option_switched_off_changes_nothing_until_the_delete() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, event("create")).await;
    let mut off = rerun();
    off["ResourceProperties"]["ProtectInstances"] = json!("false");
    succeeds(&world, off).await;
    assert_eq!(world.protections()[A], protected_member());
    succeeds(&world, event("delete")).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn a_spot_instance_and_an_instance_store_host_are_protected_as_far_as_ec2_allows() {
    let world = fleet();
    let start = world.protections();
    world.data().protections.unsupported.extend([(id(A), "termination-protection"), (id(B), "shutdown-behaviour")]);
    world.data().instances.get_mut(&id(B)).unwrap().volumes.clear();
    let answer = succeeds(&world, with("create", "SnapshotVolumes", json!("false"))).await;
    assert_eq!(
        answer.reason,
        format!(
            "2 instances isolated (2 interfaces) | \
             {A}: protect: termination protection on: {MODIFY} failed: UnsupportedOperation: as EC2 does | \
             {B}: protect: shutdown behaviour stop: {MODIFY} failed: UnsupportedOperation: as EC2 does"
        )
    );
    assert_eq!(
        world.protections()[A][..3],
        ["termination protection off", "stop protection on", "shutdown behaviour stop"]
    );
    succeeds(&world, event("delete")).await;
    assert_eq!((&world.protections()[A], &world.protections()[B][..]), (&start[A], &start[B][..3]));
}

#[tokio::test(start_paused = true)]
async fn a_denied_protection_fails_the_request_and_stops_nothing_else() {
    for (action, text) in [
        (MODIFY, format!("{A}: protect: stop protection on: {MODIFY} failed: Denied")),
        (READ, format!("the attributes of {A} cannot be read: {READ} failed: Denied")),
    ] {
        let world = fleet();
        world.data().always = Some((action, Fault::Denied));
        let reason = fails(&world, event("create")).await;
        assert!(reason.starts_with(HEADLINE), "{reason}");
        assert!(reason.contains(&text), "{reason}");
        assert_eq!((isolated(&world).len(), world.state(A)), (2, Some(State::Isolated)));
        world.data().always = None;
        succeeds(&world, rerun()).await;
        assert_eq!((&world.protections()[A], &world.protections()[B]), (&protected_member(), &protected()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_unprotected_is_named_as_restored_in_part() {
    let world = fleet();
    let start = world.protections();
    succeeds(&world, event("create")).await;
    world.data().always = Some((MODIFY, Fault::Denied));
    let reason = fails(&world, event("delete")).await;
    assert_eq!(isolated(&world), [""; 0]);
    assert!(
        reason.starts_with(&format!(
            "0 of 2 instances restored; security groups restored, the rest not yet: {A}, {B} | "
        )),
        "{reason}"
    );
    assert!(reason.contains(&format!("{A}: restore: stop protection off: {MODIFY} failed: Denied")), "{reason}");
    world.data().always = None;
    let mut again = event("delete");
    again["RequestId"] = json!("again");
    succeeds(&world, again).await;
    assert_eq!(world.protections(), start);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_protects_after_a_restore_is_hers() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    succeeds(&world, event("delete")).await;
    world.data().calm();
    world.data().protections.attributes.insert(id(A), PROTECTING);
    let mut again = event("delete");
    again["RequestId"] = json!("again");
    succeeds(&world, again).await;
    assert_eq!(world.protections()[A][..3], protected()[..3]);
}

/// What a Delete had sent arrives when it was overtaken, or had died.
#[tokio::test(start_paused = true)]
async fn what_a_delete_turned_off_while_an_update_was_at_work_is_on_again() {
    for (lease, arrives) in [(true, 3), (true, 20), (true, 25), (false, 1), (false, 3)] {
        let case = format!("lease {lease}, after {arrives} s");
        let world = crate::quick_fleet();
        succeeds(&world, event("create")).await;
        world.data().troubles_of.insert(MODIFY, (0, crate::world::Trouble::Dies));
        crate::die(&world, event("delete")).await;
        assert_eq!(world.state(A), Some(State::Restoring));
        if !lease {
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        }
        world.set_status("UPDATE_IN_PROGRESS");
        let off = async {
            tokio::time::sleep(std::time::Duration::from_secs(arrives)).await;
            world.data().protections.attributes.insert(id(B), crate::world::protection::UNPROTECTED);
        };
        let (answer, ()) = tokio::join!(crate::deliver(&world, rerun()), off);
        assert_eq!(answer.status, Status::Success, "{case}: {}", answer.reason);
        assert_eq!(world.protections()[B], protected(), "{case}");
    }
}
