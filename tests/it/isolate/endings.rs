//! What may end an isolated instance is named, last, and changes nothing else.

use ec2_isolation::cloudformation::answer::Status;
use ec2_isolation::ports::Fault;

use crate::world::World;
use crate::{A, B, deliver, event, fleet, succeeds};

const HEADLINE: &str = "2 instances isolated (2 interfaces), 2 snapshots";
const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

fn tag(world: &World, instance: &str, key: &str, value: &str) {
    world.data().tags.entry(instance.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
}

#[tokio::test(start_paused = true)]
async fn controllers_and_spot_are_named_with_what_keeps_the_evidence() {
    let world = fleet();
    tag(&world, A, "karpenter.sh/nodepool", "default");
    world.data().instances.get_mut(&B.parse().unwrap()).unwrap().lifecycle = Some("spot".to_owned());
    let answer = succeeds(&world, event("create")).await;
    assert_eq!(
        answer.reason,
        format!(
            "{HEADLINE} | {A} is a node of Karpenter's pool default, by its tags: Karpenter may terminate it, since it no longer answers. \
             Leave its termination protection on: aws ec2 modify-instance-attribute --instance-id {A} --disable-api-termination \
             | {B} is a Spot Instance: EC2 may end it with a notice of two minutes, and no protection stops that. \
             Capture its memory now: ec2-isolation memory {B}"
        )
    );
    assert_eq!(answer.data.not_isolated, "");
}

/// However many there are of them.
#[tokio::test(start_paused = true)]
async fn what_is_not_isolated_comes_before_what_may_end() {
    let world = fleet();
    for instance in [A, B] {
        for key in ["karpenter.sh/nodepool", "aws:ecs:clusterName"] {
            tag(&world, instance, key, &"x".repeat(250));
        }
    }
    world.data().always_on = Some((SWAP, "eni-0b".to_owned(), Fault::Denied));
    let answer = deliver(&world, event("create")).await;
    assert_eq!(answer.status, Status::Failed);
    let (open, ends) = (answer.reason.find("eni-0b").unwrap(), answer.reason.find("may terminate it").unwrap());
    assert!(open < ends, "{}", answer.reason);
    assert!(answer.data.not_isolated.contains("eni-0b"), "{}", answer.data.not_isolated);
    assert!(answer.body().len() <= 4096);
}
