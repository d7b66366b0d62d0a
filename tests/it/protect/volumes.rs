//! Volumes that outlive their instance because of us say so, until they are restored.

use std::collections::BTreeMap;

use ec2_isolation::model::VolumeId;
use ec2_isolation::ports::Fault;

use super::{id, rerun};
use crate::world::World;
use crate::{A, event, fleet, succeeds};

fn volume(world: &World) -> VolumeId {
    world.data().instances[&id(A)].volumes.keys().next().unwrap().clone()
}

fn tags(world: &World) -> BTreeMap<String, String> {
    let volume = volume(world);
    world.data().tags.get(volume.as_str()).cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_kept_volume_has_the_tags_of_its_instance_until_the_restore() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let of_instance = world.data().tags[A].clone();
    assert!(of_instance["ec2-isolation:restore"].starts_with("run: ec2-isolation restore --stack "));
    assert_eq!(tags(&world), of_instance);
    succeeds(&world, event("delete")).await;
    assert_eq!(tags(&world), BTreeMap::new());
}

/// It is evidence, which `leftovers` finds by these tags.
#[tokio::test(start_paused = true)]
async fn the_volume_of_an_instance_that_was_terminated_keeps_them() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let kept = volume(&world);
    {
        let mut data = world.data();
        data.terminate(A);
        data.loose_volumes.insert(kept.clone());
    }
    succeeds(&world, event("delete")).await;
    assert_eq!(world.data().tags[kept.as_str()]["ec2-isolation:purpose"], "forensics");
}

#[tokio::test(start_paused = true)]
async fn tags_that_cannot_be_read_or_written_fail_nothing() {
    let world = fleet();
    let volume = volume(&world);
    world.data().untaggable.insert(volume.to_string(), (Fault::Refused, "TagLimitExceeded"));
    let answer = succeeds(&world, event("create")).await;
    assert!(answer.reason.contains(&format!("tag {volume} with")), "{}", answer.reason);
    assert_eq!(tags(&world), BTreeMap::new());
    // The others have theirs, with which it would have shared a call.
    assert!(world.data().tags[A].contains_key("ec2-isolation:restore"));
    world.data().untaggable.clear();
    world.data().always = Some(("ec2:DescribeTags", Fault::Denied));
    succeeds(&world, rerun()).await;
    assert_eq!(tags(&world), BTreeMap::new());
    world.data().always = None;
    succeeds(&world, rerun()).await;
    assert_eq!(tags(&world), world.data().tags[A].clone());
}
