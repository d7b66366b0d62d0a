//! What may end an isolated instance is named, last, and changes nothing else.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::model::ScheduledEvent;
use ec2_isolation::ports::Fault;

use crate::world::World;
use crate::{A, B, deliver, event, fleet, succeeds};

const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";
const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
const EVENTS: &str = "ec2:DescribeInstanceStatus";

fn tag(world: &World, instance: &str, key: &str, value: &str) {
    world.data().tags.entry(instance.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
}

fn retiring(world: &World, instance: &str) {
    let not_before = Some("2026-12-01T04:00:00Z".parse().unwrap());
    let event = ScheduledEvent { code: "instance-retirement".to_owned(), not_before };
    world.data().events.insert(instance.parse().unwrap(), vec![event]);
}

#[tokio::test(start_paused = true)]
async fn controllers_spot_and_a_retirement_are_named_with_what_keeps_the_evidence() {
    let world = fleet();
    tag(&world, A, "karpenter.sh/nodepool", "default");
    world.data().instances.get_mut(&B.parse().unwrap()).unwrap().lifecycle = Some("spot".to_owned());
    retiring(&world, B);
    let answer = succeeds(&world, event("create")).await;
    assert_eq!(
        answer.reason,
        format!(
            "{HEADLINE} | {A} is a node of Karpenter's pool default, by its tags: Karpenter may terminate it, since it no longer answers. \
             Leave its termination protection on: aws ec2 modify-instance-attribute --instance-id {A} --disable-api-termination \
             | {B} is a Spot Instance: EC2 may end it with a notice of two minutes, and no protection stops that. \
             Capture its memory now: ec2-isolation memory {B} \
             | AWS has scheduled instance-retirement of {B} from 2026-12-01T04:00:00Z on: its memory is lost then, and no protection stops \
             that. Capture it before: ec2-isolation memory {B}"
        )
    );
    assert_eq!(answer.data.not_isolated, "");
    // After everything is isolated, and once.
    let data = world.data();
    let at = |action: &str| data.calls.iter().rposition(|(called, _)| *called == action);
    let first = data.calls.iter().position(|(called, _)| *called == EVENTS);
    assert!(first > at(SWAP), "{:?}", data.calls);
    assert_eq!(data.calls.iter().filter(|(called, _)| *called == EVENTS).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_scheduled_and_cannot_be_read_fails_nothing() {
    for fault in [Fault::Denied, Fault::Throttled, Fault::Server, Fault::TimedOut] {
        let world = fleet();
        let before = { succeeds(&fleet(), event("create")).await.reason };
        world.data().always = Some((EVENTS, fault));
        let answer = deliver(&world, event("create")).await;
        assert_eq!(answer.status, Status::Success, "{}", answer.reason);
        let said = format!(
            "{before} | whether AWS has scheduled a stop, a reboot or a retirement is not known: {EVENTS} failed"
        );
        assert!(answer.reason.starts_with(&said), "{}", answer.reason);
        assert_eq!(answer.reason.matches("is not known").count(), 1, "{}", answer.reason);
        succeeds(&world, event("delete")).await;
        assert_eq!(world.cards(), fleet().cards());
    }
}

/// However many there are of them.
#[tokio::test(start_paused = true)]
async fn what_is_not_isolated_comes_before_what_may_end() {
    let world = fleet();
    for instance in [A, B] {
        for key in ["karpenter.sh/nodepool", "aws:ecs:clusterName"] {
            tag(&world, instance, key, &"x".repeat(250));
        }
        retiring(&world, instance);
    }
    world.data().always_on = Some((SWAP, "eni-0b".to_owned(), Fault::Denied));
    let answer = deliver(&world, event("create")).await;
    assert_eq!(answer.status, Status::Failed);
    let (open, ends) = (answer.reason.find("eni-0b").unwrap(), answer.reason.find("may terminate it").unwrap());
    assert!(open < ends, "{}", answer.reason);
    assert!(answer.data.not_isolated.contains("eni-0b"), "{}", answer.data.not_isolated);
    assert!(answer.body().len() <= 4096);
}
