//! Tags, for people who find an instance or an interface in the console; they never decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Case, Plan, Step};
use crate::model::{GroupId, Groups, Instance, Interface, Owner, Record, VolumeId, Wants};

/// `ec2-isolation:` keys are the only ones that the function may write.
pub(crate) mod tag {
    pub(crate) const STACK: &str = "ec2-isolation:stack";
    pub(crate) const PURPOSE: &str = "ec2-isolation:purpose";
    pub(crate) const TIME: &str = "ec2-isolation:time";
    /// The way out, where a responder looks who finds the instance and not the stack.
    pub(crate) const RESTORE: &str = "ec2-isolation:restore";
    pub(crate) const INSTANCE: &str = "ec2-isolation:instance";
    pub(crate) const OWNER: &str = "ec2-isolation:owner";
    pub(crate) const EPISODE: &str = "ec2-isolation:episode";
    pub(crate) const VOLUME: &str = "ec2-isolation:volume";
    pub(crate) const DEVICE: &str = "ec2-isolation:device";
    /// Of a volume that was made as evidence: the snapshot that it was made of.
    #[cfg(feature = "operator")]
    pub(crate) const SNAPSHOT: &str = "ec2-isolation:snapshot";
    /// Of a copy that another account may use: what it is a copy of.
    #[cfg(feature = "operator")]
    pub(crate) const COPY_OF: &str = "ec2-isolation:copy-of";
    /// The role of a volume that was made as evidence.
    #[cfg(feature = "operator")]
    pub(crate) const EVIDENCE: &str = "evidence";
    /// Followed by a number: EC2 allows 256 characters in a value, sixteen ids need more.
    pub(crate) const ORIGINAL_GROUPS: &str = "ec2-isolation:original-groups";
}

/// At twelve ids of 20 characters with separators a tag value stays below EC2's 256 characters.
const GROUPS_PER_TAG: usize = 12;

pub(super) type Tags = BTreeMap<String, String>;

/// The volumes of the instance that would have gone with it, as its record says.
fn kept_volumes<'a>(record: &'a Record, instance: &'a Instance) -> impl Iterator<Item = &'a VolumeId> {
    record.protection.volumes.keys().filter(|id| instance.volumes.contains_key(*id))
}

/// Those whose tags are read: not what this invocation has tagged, since tags are for people.
pub(super) fn volumes_to_read(
    case: &Case<'_>,
    wants: &Wants,
    record: &Record,
    instance: &Instance,
) -> BTreeSet<VolumeId> {
    let tags = Arc::new(instance_tags(wants, record));
    let is_tagged = |id: &VolumeId| case.ledger.is_accepted(&tag_step(case, id.to_string(), Arc::clone(&tags)));
    kept_volumes(record, instance).filter(|id| !is_tagged(id)).cloned().collect()
}

fn instance_tags(wants: &Wants, record: &Record) -> Tags {
    let tags = [
        (tag::STACK, record.owner.stack_id.clone()),
        (tag::PURPOSE, wants.purpose.clone()),
        (tag::TIME, record.recorded_at.to_string()),
        (tag::RESTORE, way_out(&record.owner)),
    ];
    tags.map(|(key, value)| (key.to_owned(), value)).into()
}

fn tag_step(case: &Case<'_>, resource: String, tags: Arc<Tags>) -> Step {
    Step::Tag { instance: case.id(), resource, tags }
}

/// Tags an isolated instance, its interfaces, and the volumes that outlive it because of us. An interface is tagged by the record that speaks for it. Tags that were not
/// read are written once, if this invocation has recorded the instance.
pub(super) fn tag_isolated(case: &Case<'_>, wants: &Wants, record: &Record, instance: &Instance, plan: &mut Plan) {
    let on_instance = Arc::new(instance_tags(wants, record));
    let is_new = record.lease.as_ref().is_some_and(|lease| lease.writer == case.now.writer);
    let mut add = |resource: String, tags: Arc<Tags>, found: Option<&Tags>| {
        let step = tag_step(case, resource, Arc::clone(&tags));
        let is_there = found.map_or_else(|| !is_new || case.ledger.is_accepted(&step), |found| contains(found, &tags));
        if !is_there {
            plan.push(step);
        }
    };
    for (id, groups) in &record.interfaces {
        let Some(interface) = case.interface(id).filter(|found| case.speaker(found) == Some(case.instance)) else {
            continue;
        };
        let found = case.observed.looked_up.contains(id).then_some(&interface.tags);
        add(id.to_string(), Arc::new(original_groups_tags(groups)), found);
    }
    // Those that go with it are about to be kept: so they are tagged in one call with it.
    let is_kept = |id: &VolumeId, goes: bool| wants.protect && goes || record.protection.volumes.contains_key(id);
    for (id, _) in instance.volumes.iter().filter(|(id, volume)| is_kept(id, volume.delete_on_termination)) {
        add(id.to_string(), Arc::clone(&on_instance), case.observed.volume_tags.get(id));
    }
    add(instance.id.to_string(), on_instance, Some(&instance.tags));
}

/// Takes our tags off a restored instance, its interfaces and its volumes. What left the instance keeps them, as a leftover.
pub(super) fn untag_restored(case: &Case<'_>, record: &Record, plan: &mut Plan) {
    let interfaces = record.interfaces.keys().filter_map(|id| case.observed.interfaces.get(id));
    let interfaces = interfaces.filter(|interface: &&Interface| case.speaker(interface) == Some(case.instance));
    let tagged = interfaces.map(|interface| (interface.id.to_string(), &interface.tags));
    let tagged = tagged.chain(case.living().map(|instance| (instance.id.to_string(), &instance.tags)));
    let volumes = case.living().into_iter().flat_map(|instance| instance.volumes.keys());
    let volumes = volumes.filter_map(|id| Some((id.to_string(), case.observed.volume_tags.get(id)?)));
    // Another incident's evidence may be attached to look into it.
    let volumes = volumes.filter(|(_, tags)| tags.get(tag::STACK) == Some(&record.owner.stack_id));
    for (resource, tags) in tagged.chain(volumes) {
        let keys: BTreeSet<String> = tags.keys().filter(|key| is_our_tag(key)).cloned().collect();
        if !keys.is_empty() {
            plan.push(Step::Untag { instance: case.id(), resource, keys });
        }
    }
}

fn is_our_tag(key: &str) -> bool {
    matches!(key, tag::STACK | tag::PURPOSE | tag::TIME | tag::RESTORE) || key.starts_with(tag::ORIGINAL_GROUPS)
}

/// The value of [`tag::RESTORE`]. A stack's name has at most 128 characters: it stays below EC2's 256. The stack that a rollback
/// ends comes second: deleting that restores nothing.
pub(super) fn way_out(owner: &Owner) -> String {
    format!(
        "run: ec2-isolation restore --stack {} - deleting the stack restores it too unless that was rolled back",
        owner.stack_name()
    )
}

pub(super) fn contains(tags: &Tags, wanted: &Tags) -> bool {
    wanted.iter().all(|(key, value)| tags.get(key) == Some(value))
}

/// EC2 allows no empty list in a tag that a person could read: an interface without a group says so.
pub(super) fn original_groups_tags(groups: &Groups) -> Tags {
    let ids: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    let numbered = ids.chunks(GROUPS_PER_TAG).zip(1..);
    let tags: Tags = numbered.map(|(ids, n)| (format!("{}-{n}", tag::ORIGINAL_GROUPS), ids.join(" "))).collect();
    if tags.is_empty() { Tags::from([(format!("{}-1", tag::ORIGINAL_GROUPS), "none".to_owned())]) } else { tags }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;
    use crate::plan::Goal;
    use crate::plan::testing::{World, groups, interface, wants};

    #[test]
    fn sixteen_groups_need_two_tags() {
        let groups: Groups = (0..16).map(|n| format!("sg-{n:017x}").parse().unwrap()).collect();
        let tags = original_groups_tags(&groups);
        assert_eq!(
            tags.keys().collect::<Vec<_>>(),
            ["ec2-isolation:original-groups-1", "ec2-isolation:original-groups-2"]
        );
        assert!(tags.values().all(|value| value.len() <= 256));
        assert_eq!(tags.values().map(|value| value.split(' ').count()).collect::<Vec<_>>(), [12, 4]);
    }

    #[test]
    fn an_interface_without_groups_says_so() {
        let tags = original_groups_tags(&Groups::new());
        assert_eq!(tags, [("ec2-isolation:original-groups-1".to_owned(), "none".to_owned())].into());
    }

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// `i-1` isolated by this invocation, and what its instance and its interface are tagged with.
    fn isolated(on_instance: &[(&str, &str)], on_interface: &[(&str, &str)]) -> World {
        let world = World::isolated().plain_group("sg-a").wrote("eni-1", &["sg-150"], Ok(()));
        let world = world.change_interface("eni-1", |found| found.tags = tags(on_interface));
        world.change_instance(|instance| instance.tags = tags(on_instance))
    }

    const ON_INTERFACE: (&str, &str) = (ORIGINALS, "sg-a");
    const ORIGINALS: &str = "ec2-isolation:original-groups-1";
    const ON_INSTANCE: [(&str, &str); 4] = [
        (tag::STACK, "stack-1"),
        (tag::PURPOSE, "forensics"),
        (tag::TIME, "2025-11-25T03:00:00Z"),
        (
            tag::RESTORE,
            "run: ec2-isolation restore --stack stack-1 - deleting the stack restores it too unless that was rolled back",
        ),
    ];

    #[track_caller]
    fn check(world: &World, expected: &[&str]) {
        let wants = Wants { snapshot_volumes: false, protect: false, ..wants(&["i-1"]) };
        let text = world.plan(&Goal::Isolate(&wants)).to_string();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("tag ")).collect();
        assert_eq!(lines, expected);
    }

    const INTERFACE: &str = "tag eni-1 with ec2-isolation:original-groups-1";
    const INSTANCE: &str =
        "tag i-1 with ec2-isolation:purpose, ec2-isolation:restore, ec2-isolation:stack, ec2-isolation:time";

    #[test]
    fn what_is_isolated_is_tagged_until_it_is_seen_with_its_tags() {
        check(&isolated(&[], &[]), &[INTERFACE, INSTANCE]);
        check(&isolated(&ON_INSTANCE, &[ON_INTERFACE]), &[]);
        let mut others = ON_INSTANCE.to_vec();
        others.push(("Name", "web"));
        check(&isolated(&others, &[ON_INTERFACE, ("Name", "web")]), &[]);
        check(&isolated(&ON_INSTANCE[1..], &[(ORIGINALS, "sg-b")]), &[INTERFACE, INSTANCE]);
        let world = isolated(&[], &[]);
        let wants = wants(&["i-1"]);
        let plan = world.plan(&Goal::Isolate(&wants));
        let written: Vec<&Tags> = plan
            .steps()
            .filter_map(|step| match step {
                Step::Tag { tags, .. } => Some(&**tags),
                _ => None,
            })
            .collect();
        assert_eq!(written, [&tags(&[ON_INTERFACE]), &tags(&ON_INSTANCE)]);
    }

    #[test]
    fn a_volume_that_outlives_the_instance_because_of_us_is_tagged_as_the_instance_is() {
        let kept = |tags: Option<&[(&str, &str)]>| {
            isolated(&ON_INSTANCE, &[ON_INTERFACE]).with(|world| {
                world.saved().protection.volumes = [("vol-1".parse().unwrap(), "/dev/sda1".to_owned())].into();
                let tags = tags.map(|tags| ("vol-1".parse().unwrap(), self::tags(tags)));
                world.observed.volume_tags.extend(tags);
            })
        };
        check(&kept(Some(&[("Name", "web")])), &[&INSTANCE.replace("i-1", "vol-1")]);
        check(&kept(Some(&ON_INSTANCE)), &[]);
        check(&kept(None), &[]);
        // One that was detached by now is somebody else's.
        check(&kept(Some(&[])).change_instance(|instance| instance.volumes.clear()), &[]);
        // One that stays anyway is not ours.
        check(&kept(Some(&[])).with(|world| world.saved().protection.volumes.clear()), &[]);
    }

    #[test]
    fn the_tags_of_a_volume_are_read_until_this_invocation_has_tagged_it() {
        let bare = Wants { snapshot_volumes: false, protect: false, ..wants(&["i-1"]) };
        let read = |world: &World| {
            let needs = world.needs(&Goal::Isolate(&bare), crate::plan::Reach::Full);
            needs.volumes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let kept = isolated(&ON_INSTANCE, &[ON_INTERFACE]).with(|world| {
            world.saved().protection.volumes = [("vol-1".parse().unwrap(), "/dev/sda1".to_owned())].into();
            world.observed.volume_tags.insert("vol-1".parse().unwrap(), Tags::new());
        });
        assert_eq!(read(&kept), "vol-1");
        let step = kept.plan(&Goal::Isolate(&bare)).steps().next().unwrap().clone();
        assert!(step.to_string().starts_with("tag vol-1 with"), "{step}");
        assert_eq!(read(&kept.clone().with(|world| world.learn(&step, Ok(())))), "");
        assert_eq!(read(&kept.clone().with(|world| world.learn(&step, Err(crate::model::Fault::Denied)))), "vol-1");
        // One that was detached, or that stays anyway, is none of ours.
        assert_eq!(read(&kept.clone().change_instance(|instance| instance.volumes.clear())), "");
        assert_eq!(read(&kept.with(|world| world.saved().protection.volumes.clear())), "");
    }

    #[test]
    fn tags_that_were_not_read_are_written_once_by_who_recorded_the_instance() {
        let unread = |world: World| world.with(|world| world.observed.looked_up.clear());
        check(&unread(isolated(&ON_INSTANCE, &[])), &[]);
        let leased = unread(isolated(&ON_INSTANCE, &[])).leased();
        check(&leased, &[INTERFACE]);
        let other = leased.clone().saved_with(|record| record.lease.as_mut().unwrap().writer = "another".to_owned());
        check(&other, &[]);
        let wants = wants(&["i-1"]);
        let step = leased.plan(&Goal::Isolate(&wants)).steps().next().unwrap().clone();
        check(&leased.clone().with(|world| world.learn(&step, Ok(()))), &[]);
        check(&leased.with(|world| world.learn(&step, Err(crate::model::Fault::Denied))), &[INTERFACE]);
    }

    #[test]
    fn an_interface_is_tagged_by_the_record_that_speaks_for_it() {
        let world = |at: &str| {
            let world = isolated(&ON_INSTANCE, &[ON_INTERFACE]).elsewhere("eni-2", &["sg-150"], Some(at));
            let world =
                world.saved_with(|record| _ = record.interfaces.insert("eni-2".parse().unwrap(), groups(&["sg-b"])));
            world.record("i-2", State::Isolated, &[("eni-2", &["sg-b"])])
        };
        check(&world("i-2"), &[]);
        check(&world("i-3"), &["tag eni-2 with ec2-isolation:original-groups-1"]);
        // What was restored does not speak.
        let restored = world("i-2").record("i-2", State::Restored, &[("eni-2", &["sg-b"])]);
        check(&restored, &["tag eni-2 with ec2-isolation:original-groups-1"]);
        // One that is gone is not tagged.
        check(&world("i-3").with(|world| _ = world.observed.interfaces.remove(&"eni-2".parse().unwrap())), &[]);
    }

    #[test]
    fn only_our_tags_are_taken_off() {
        let ours = [
            ("ec2-isolation:original-groups-1", ""),
            ("ec2-isolation:original-groups-2", ""),
            ("ec2-isolation:purpose", ""),
            ("ec2-isolation:restore", ""),
            ("ec2-isolation:stack", ""),
            ("ec2-isolation:time", ""),
        ];
        let others = [("Name", ""), ("Purpose", ""), ("ec2-isolation:instance", ""), ("ec2-isolation:role", "")];
        let restored = |on_instance: &[(&str, &str)], on_interface: &[(&str, &str)]| {
            let world = isolated(on_instance, on_interface).wrote("eni-1", &["sg-a"], Ok(()));
            world.shows("eni-1", &["sg-a"])
        };
        let text = |world: &World| world.plan(&Goal::Restore).to_string();
        let keys = "ec2-isolation:original-groups-1, ec2-isolation:original-groups-2, ec2-isolation:purpose, \
                    ec2-isolation:restore, ec2-isolation:stack, ec2-isolation:time";
        let all: Vec<_> = ours.into_iter().chain(others).collect();
        assert_eq!(text(&restored(&all, &all)), format!("untag eni-1 of {keys}\nuntag i-1 of {keys}\n"));
        assert_eq!(text(&restored(&others, &others)), "i-1: mark restored\n");
        let terminated = restored(&all, &others).change_instance(|instance| instance.state = "terminated".to_owned());
        assert_eq!(text(&terminated), "i-1: mark restored\n");
        // Another record speaks for it.
        let world = |at: &str| {
            let world = restored(&[], &[]).elsewhere("eni-2", &["sg-a"], Some(at)).wrote("eni-2", &["sg-a"], Ok(()));
            let world = world.change_interface("eni-2", |found| found.tags = tags(&ours));
            let world =
                world.saved_with(|record| _ = record.interfaces.insert("eni-2".parse().unwrap(), groups(&["sg-a"])));
            world.record("i-2", State::Isolated, &[("eni-2", &["sg-a"])])
        };
        assert_eq!(text(&world("i-2")), "i-1: mark restored\n");
        assert_eq!(text(&world("i-3")), format!("untag eni-2 of {keys}\n"));
        assert_eq!(interface("eni-2", &[]).tags, Tags::new());
    }

    #[test]
    fn our_tags_are_taken_off_a_volume_that_the_instance_still_has() {
        let ours = [("ec2-isolation:stack", "stack-1"), ("Name", "web")];
        let restored = || {
            let world =
                World::isolated().plain_group("sg-a").wrote("eni-1", &["sg-a"], Ok(())).shows("eni-1", &["sg-a"]);
            world.with(|world| {
                world.trust();
                world.saved().protection.volumes = [("vol-1".parse().unwrap(), "/dev/sda1".to_owned())].into();
                world.observed.volume_tags.insert("vol-1".parse().unwrap(), tags(&ours));
            })
        };
        let text = |world: &World| world.plan(&Goal::Restore).to_string();
        assert_eq!(text(&restored()), "untag vol-1 of ec2-isolation:stack\n");
        let others = [("ec2-isolation:stack", "stack-2"), ("ec2-isolation:time", "")];
        let of_another =
            restored().with(|world| _ = world.observed.volume_tags.insert("vol-1".parse().unwrap(), tags(&others)));
        assert_eq!(text(&of_another), "i-1: mark restored\n");
        let detached = restored().change_instance(|instance| instance.volumes.clear());
        assert_eq!(text(&detached), "i-1: mark restored\n? vol-1 is not shown\n");
        let terminated = restored().change_instance(|instance| instance.state = "terminated".to_owned());
        assert_eq!(text(&terminated), "i-1: mark restored\n");
    }
}
