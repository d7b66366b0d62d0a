//! Containment waits for no listing: what is asked for by its id decides, and the groups of ours are listed beside it.

use std::time::Duration;

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::{Group, Peer, Role, Rule, State};
use ec2_isolation::ports::Fault;

use crate::world::{ISOLATION, VPC, World};
use crate::{A, B, cutting, deliver, entries, event, fails, isolated, quick_fleet, rerun, succeeds, with_everything};

const GROUPS: &str = "ec2:DescribeSecurityGroups";
const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";

/// The listing fails so each time, or comes after twelve seconds.
fn hold_up_the_listing(world: &World, fault: Option<Fault>) {
    let mut data = world.data();
    match fault {
        Some(fault) => data.always_on = Some((GROUPS, "Marked".to_owned(), fault)),
        None => data.slow = Some((GROUPS, "Marked", Duration::from_secs(12))),
    }
}

const TROUBLES: [Option<Fault>; 4] = [Some(Fault::TimedOut), Some(Fault::Server), Some(Fault::Denied), None];

/// https://github.com/cilium/cilium/pull/41684
#[tokio::test(start_paused = true)]
async fn the_listing_of_the_groups_takes_12_s_or_fails() {
    for trouble in TROUBLES {
        let world = quick_fleet();
        let start = (world.cards(), world.protections());
        hold_up_the_listing(&world, trouble);
        let answer = succeeds(&world, cutting(with_everything(event("create")))).await;
        assert_eq!((isolated(&world).len(), answer.reason.as_str()), (2, HEADLINE), "{trouble:?}");
        let swapped_at = world.data().swapped_at.clone();
        assert!(swapped_at[0] < Duration::from_millis(2500), "{swapped_at:?}");
        assert_eq!((entries(&world, "eni-0a"), entries(&world, "eni-0b")), (1, 1), "{trouble:?}");
        let begun = world.data().start.elapsed();
        let answer = succeeds(&world, event("delete")).await;
        assert_eq!(answer.reason, "2 instances restored", "{trouble:?}");
        assert_eq!((world.cards(), world.protections()), start, "{trouble:?}");
        let first = world.data().swapped_at[swapped_at.len()] - begun;
        assert!(first < Duration::from_millis(2500), "{trouble:?}: {first:?}");
    }
}

/// What the listing would have said is found by the ids that the interfaces show.
#[tokio::test(start_paused = true)]
async fn an_instance_in_the_isolation_of_another_stack_is_left_there_without_a_listing() {
    for trouble in TROUBLES {
        let world = quick_fleet();
        let other = "arn:aws:cloudformation:us-east-1:123456789012:stack/other/1";
        let group = Group {
            id: "sg-0f".parse().unwrap(),
            vpc: Some(VPC.parse().unwrap()),
            role: Some(Role::Isolation),
            stack_id: Some(other.to_owned()),
            ingress: vec![],
            egress: vec![],
        };
        world.data().groups.insert(group.id.clone(), group);
        world.data().put_back(&"eni-0a".parse().unwrap(), crate::world::groups(&["sg-0f"]));
        hold_up_the_listing(&world, trouble);
        let reason = fails(&world, event("create")).await;
        assert!(reason.contains(&format!("{A} is already isolated by {other}")), "{reason}");
        assert_eq!(isolated(&world), ["eni-0b"], "{trouble:?}");
        assert_eq!(world.cards()["eni-0a"], crate::world::groups(&["sg-0f"]), "{trouble:?}");
    }
}

/// The group of a forensic host that has a stack of its own.
fn forensic() -> Group {
    Group {
        id: "sg-0f0f".parse().unwrap(),
        vpc: Some(VPC.parse().unwrap()),
        role: Some(Role::Forensic),
        stack_id: Some("arn:aws:cloudformation:us-east-1:123456789012:stack/host/1".to_owned()),
        ingress: vec![],
        egress: vec![],
    }
}

/// A forensic host of its own stack, whose group the listing at the start did not have.
#[tokio::test(start_paused = true)]
async fn the_group_of_a_forensic_host_that_the_first_listing_did_not_show() {
    for is_made_later in [false, true] {
        let world = quick_fleet();
        let rule =
            Rule { protocol: "tcp".into(), ports: Some((22, 22)), peer: Peer::Group("sg-0f0f".parse().unwrap()) };
        world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().ingress.push(rule);
        if is_made_later {
            world.before_call_of("ec2:ModifyNetworkInterfaceAttribute", 0, move |data| {
                data.groups.insert(forensic().id, forensic());
            });
        } else {
            world.data().groups.insert(forensic().id, forensic());
            world.hide("sg-0f0f", Duration::from_secs(4));
        }
        let answer = succeeds(&world, cutting(event("create"))).await;
        assert_eq!((isolated(&world).len(), answer.reason.as_str()), (2, HEADLINE));
        assert_eq!((entries(&world, "eni-0a"), entries(&world, "eni-0b")), (1, 1));
    }
}

/// A forensic host beside the incident is let in on every port, by its own stack.
#[tokio::test(start_paused = true)]
async fn what_is_kept_with_a_forensic_host_beside_it_is_isolated() {
    let forensic = forensic();
    let rule = Rule { protocol: "tcp".into(), ports: Some((0, 65535)), peer: Peer::Group(forensic.id.clone()) };
    let world = quick_fleet();
    succeeds(&world, event("create")).await;
    world.data().groups.get_mut(&ISOLATION.parse().unwrap()).unwrap().ingress.push(rule);
    world.data().groups.insert(forensic.id.clone(), forensic);
    world.set_status("UPDATE_IN_PROGRESS");
    let answer = succeeds(&world, rerun(&[B])).await;
    let kept = format!("{A} still isolated though no longer listed: ");
    assert!(answer.reason.contains(&kept), "{}", answer.reason);
    assert!(!answer.reason.contains("remove that rule"), "{}", answer.reason);
    world.set_status("ROLLBACK_IN_PROGRESS");
    let answer = succeeds(&world, event("delete")).await;
    assert!(answer.reason.starts_with("2 instances kept isolated, "), "{}", answer.reason);
}

#[tokio::test(start_paused = true)]
async fn snapshots_that_cannot_be_read_cost_the_instances_nothing_else() {
    let done = quick_fleet();
    succeeds(&done, with_everything(event("create"))).await;
    for fault in [Fault::Denied, Fault::TimedOut, Fault::Refused] {
        let world = quick_fleet();
        world.data().always = Some(("ec2:DescribeSnapshots", fault));
        let answer = deliver(&world, with_everything(event("create"))).await;
        assert_eq!(answer.status, Status::Failed, "what is not known is not called done");
        assert!(answer.reason.starts_with("2 instances isolated (2 interfaces)"), "{}", answer.reason);
        assert!(answer.reason.contains(&format!("the snapshots of {A} cannot be read: ")), "{}", answer.reason);
        assert_eq!((world.protections(), world.membership()), (done.protections(), done.membership()), "{fault:?}");
        assert_eq!((world.count("ec2:CreateSnapshots"), world.state(A)), (2, Some(State::Isolated)), "{fault:?}");
    }
}
