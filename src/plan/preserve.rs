//! Create and Update, second phase: marks, tags and snapshots of what the first phase has contained.

use std::collections::{BTreeMap, BTreeSet};

use super::{Contained, Observed, Plan, Problem, Records, Step, Work, tag};
use crate::model::{
    GroupId, Groups, Instance, InstanceId, Owner, Record, SnapshotId, Snapshots, State, VolumeId, Wants,
};

/// At twelve ids of 20 characters with separators a tag value stays below EC2's 256 characters.
const GROUPS_PER_TAG: usize = 12;

type Tags = BTreeMap<String, String>;

/// The plan for the instances that [`super::contain`] found contained, wholly or in part. `kept` is why a Delete left them so, where one
/// came while they were being isolated. The snapshots of `awaited` were asked for by another delivery of the request, which
/// may still be waiting for EC2.
#[must_use]
pub fn preserve(
    owner: &Owner,
    wants: &Wants,
    contained: &Contained,
    kept: Option<&str>,
    awaited: &BTreeSet<InstanceId>,
    records: &Records,
    observed: &Observed,
) -> Plan {
    let mut plan = Plan::default();
    let mut tags: BTreeMap<Tags, BTreeSet<String>> = BTreeMap::new();
    for id in &contained.touched() {
        let Some(record) = records.get(id).filter(|record| record.owner == *owner) else { continue };
        let Some(instance) = observed.instances.get(id) else { continue };
        let is_newly_cut =
            wants.cut_connections && record.state == State::Isolated && !record.connections_cut && contained.is_cut(id);
        let (state, may_be) = match kept {
            Some(_) => (State::Kept, matches!(record.state, State::Isolating | State::Isolated)),
            // From any other state somebody else is at work: what the first phase has seen no longer counts.
            None => (State::Isolated, record.state == State::Isolating || is_newly_cut),
        };
        if may_be && contained.instances.contains(id) {
            let (reason, cut) = (kept.map(str::to_owned), Some(contained.is_cut(id)));
            plan.work.push(Work::only(Step::Mark { instance: id.clone(), from: record.state, state, reason, cut }));
        }
        for (resource, wanted) in tags_wanted(wants, record, instance, observed) {
            tags.entry(wanted).or_default().insert(resource);
        }
        if wants.snapshot_volumes {
            snapshots(wants, record, instance, awaited, observed, &mut plan);
        }
    }
    let tag_work = tags.into_iter().map(|(tags, resources)| Work::only(Step::Tag { resources, tags }));
    plan.work.splice(0..0, tag_work);
    plan
}

/// The tags that are not there yet.
fn tags_wanted(wants: &Wants, record: &Record, instance: &Instance, observed: &Observed) -> Vec<(String, Tags)> {
    let mut missing = Vec::new();
    let on_instance = Tags::from([
        (tag::STACK.to_owned(), record.owner.stack_id.clone()),
        (tag::PURPOSE.to_owned(), wants.purpose.clone()),
        (tag::TIME.to_owned(), record.recorded_at.clone()),
        (tag::RESTORE.to_owned(), way_out(&record.owner)),
    ]);
    if !contains(&instance.tags, &on_instance) {
        missing.push((instance.id.to_string(), on_instance));
    }
    for (interface, groups) in &record.interfaces {
        let on_interface = original_groups_tags(groups);
        if observed.interfaces.get(interface).is_some_and(|interface| !contains(&interface.tags, &on_interface)) {
            missing.push((interface.to_string(), on_interface));
        }
    }
    missing
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

pub(super) fn original_groups_tags(groups: &Groups) -> Tags {
    let ids: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    let numbered = ids.chunks(GROUPS_PER_TAG).zip(1..);
    numbered.map(|(ids, n)| (format!("{}-{n}", tag::ORIGINAL_GROUPS), ids.join(" "))).collect()
}

fn snapshots(
    wants: &Wants,
    record: &Record,
    instance: &Instance,
    awaited: &BTreeSet<InstanceId>,
    observed: &Observed,
    plan: &mut Plan,
) {
    let id = &instance.id;
    match &record.snapshots {
        Snapshots::Taken(set) => label(set, instance, observed, plan),
        _ if instance.volumes.is_empty() => plan.problems.push(Problem::NoVolumes { instance: id.clone() }),
        Snapshots::Requested if let Some(snapshots) = found(record, instance, observed) => {
            plan.work.push(Work::only(Step::SaveSnapshots { instance: id.clone(), snapshots }));
        }
        Snapshots::Requested if awaited.contains(id) => {
            plan.problems.push(Problem::SnapshotsAwaited { instance: id.clone() });
        }
        Snapshots::Requested => plan.work.push(Work::only(take(wants, record, instance))),
        Snapshots::None => plan.work.push(Work {
            first: Some(Step::RequestSnapshots { instance: id.clone() }),
            then: vec![take(wants, record, instance)],
        }),
    }
}

/// The snapshots of a set are born with the same tags: each gets its own, until it is seen with them. A single one is born
/// with its own.
fn label(set: &BTreeMap<VolumeId, SnapshotId>, instance: &Instance, observed: &Observed, plan: &mut Plan) {
    if set.len() < 2 {
        return;
    }
    for (volume, id) in set {
        let is_labelled = observed.snapshots.iter().any(|snapshot| snapshot.id == *id && snapshot.labelled);
        if !is_labelled {
            let device = instance.volumes.get(volume).map_or("", |volume| volume.device.as_str());
            let (resources, tags) = ([id.to_string()].into(), volume_tags(volume, device));
            plan.work.push(Work::only(Step::Tag { resources, tags }));
        }
    }
}

/// The set that an earlier try took, if it is whole. One snapshot in error spoils its set (`CreateSnapshots` is all or nothing).
fn found(record: &Record, instance: &Instance, observed: &Observed) -> Option<BTreeMap<VolumeId, SnapshotId>> {
    let episode = record.episode();
    let usable = observed.snapshots.iter().filter(|snapshot| snapshot.episode == episode && !snapshot.failed);
    let set: BTreeMap<_, _> = usable.map(|snapshot| (snapshot.volume.clone(), snapshot.id.clone())).collect();
    instance.volumes.keys().all(|volume| set.contains_key(volume)).then_some(set)
}

fn take(wants: &Wants, record: &Record, instance: &Instance) -> Step {
    let volumes: BTreeMap<_, _> =
        instance.volumes.iter().map(|(id, volume)| (id.clone(), volume.device.clone())).collect();
    let shared = [
        (tag::STACK, record.owner.stack_id.clone()),
        (tag::OWNER, record.owner.logical_id.clone()),
        (tag::INSTANCE, instance.id.to_string()),
        (tag::PURPOSE, wants.purpose.clone()),
        // As on everything else that the stack makes.
        ("Purpose", wants.purpose.clone()),
        (tag::TIME, record.recorded_at.clone()),
        (tag::EPISODE, record.episode()),
    ];
    let mut tags: Tags = shared.map(|(key, value)| (key.to_owned(), value)).into();
    if let (Some((volume, device)), 1) = (volumes.first_key_value(), volumes.len()) {
        tags.extend(volume_tags(volume, device));
    }
    Step::TakeSnapshots { instance: instance.id.clone(), volumes, tags }
}

/// What tells the snapshots of one set apart.
fn volume_tags(volume: &VolumeId, device: &str) -> Tags {
    [(tag::VOLUME, volume.to_string()), (tag::DEVICE, device.to_owned())].map(|(k, v)| (k.to_owned(), v)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Snapshot;
    use crate::plan::testing::{World, wants};

    /// One isolated instance, as it is after the first phase of a Create.
    fn world() -> World {
        World::new().instance("i-1", &[("eni-1", &["sg-150"])]).record(
            "i-1",
            State::Isolating,
            &[("eni-1", &["sg-a", "sg-b"])],
        )
    }

    fn record(world: &mut World) -> &mut Record {
        world.records.get_mut(&"i-1".parse().unwrap()).unwrap()
    }

    fn check(world: &World, wants: &Wants, expected: &str) {
        let contained = contained(world);
        let plan = preserve(&world.owner, wants, &contained, None, &BTreeSet::new(), &world.records, &world.observed);
        assert_eq!(plan.to_string().trim_end(), expected);
    }

    /// Every interface of every instance.
    fn contained(world: &World) -> Contained {
        let instances = world.observed.instances.values();
        let interfaces =
            instances.flat_map(|i| i.interfaces.iter().map(|interface| (interface.id.clone(), i.id.clone())));
        let instances = world.observed.instances.keys().cloned().collect();
        Contained { instances, interfaces: interfaces.collect(), ..Contained::default() }
    }

    fn snapshot(id: &str, volume: &str, failed: bool, record: &Record) -> Snapshot {
        let (id, volume) = (id.parse().unwrap(), volume.parse().unwrap());
        Snapshot { id, volume, episode: record.episode(), failed, labelled: false }
    }

    /// The same with tags on and the record marked: only snapshots are left.
    fn tagged() -> World {
        let mut world = world();
        record(&mut world).state = State::Isolated;
        let tags = [
            (tag::STACK, "stack-1"),
            (tag::PURPOSE, "forensics"),
            (tag::TIME, "2026-11-25T03:00:00Z"),
            (
                tag::RESTORE,
                "run: ec2-isolation restore --stack stack-1 - deleting the stack restores it too unless that was rolled back",
            ),
        ];
        let instance = world.observed.instances.values_mut().next().unwrap();
        instance.tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let interface = world.observed.interfaces.values_mut().next().unwrap();
        interface.tags = [("ec2-isolation:original-groups-1".to_owned(), "sg-a sg-b".to_owned())].into();
        world
    }

    #[test]
    fn what_is_preserved_needs_nothing() {
        let mut world = tagged();
        record(&mut world).snapshots = Snapshots::Taken([("vol-1".parse().unwrap(), "snap-1".parse().unwrap())].into());
        check(&world, &wants(&["i-1"]), "");
    }

    #[test]
    fn a_contained_instance_is_tagged_marked_and_snapshotted() {
        check(
            &world(),
            &wants(&["i-1"]),
            "tag eni-1 with ec2-isolation:original-groups-1\n\
             tag i-1 with ec2-isolation:purpose, ec2-isolation:restore, ec2-isolation:stack, ec2-isolation:time\n\
             i-1: mark isolated\n\
             i-1: mark snapshots requested\n\
             i-1: snapshot vol-1",
        );
    }

    #[test]
    fn equal_tags_are_written_in_one_step() {
        let world = World::new()
            .instance("i-1", &[("eni-1", &["sg-150"])])
            .instance("i-2", &[("eni-2", &["sg-150"])])
            .record("i-1", State::Isolated, &[("eni-1", &["sg-a"])])
            .record("i-2", State::Isolated, &[("eni-2", &["sg-a"])]);
        let wants = Wants { snapshot_volumes: false, ..wants(&["i-1", "i-2"]) };
        check(
            &world,
            &wants,
            "tag eni-1, eni-2 with ec2-isolation:original-groups-1\n\
             tag i-1, i-2 with ec2-isolation:purpose, ec2-isolation:restore, ec2-isolation:stack, ec2-isolation:time",
        );
    }

    #[test]
    fn sixteen_groups_need_two_tags() {
        let groups: Groups = (0..16).map(|n| format!("sg-{n:017x}").parse().unwrap()).collect();
        let tags = original_groups_tags(&groups);
        assert_eq!(
            tags.keys().collect::<Vec<_>>(),
            ["ec2-isolation:original-groups-1", "ec2-isolation:original-groups-2"]
        );
        assert!(tags.values().all(|value| value.len() <= 256));
    }

    #[test]
    fn what_somebody_else_restores_or_keeps_meanwhile_is_not_marked_isolated() {
        let mut world = tagged();
        let wants = Wants { snapshot_volumes: false, ..wants(&["i-1"]) };
        for (state, mark) in [
            (State::Isolating, "i-1: mark isolated"),
            (State::Isolated, ""),
            (State::Kept, ""),
            (State::Restoring, ""),
            (State::Restored, ""),
        ] {
            record(&mut world).state = state;
            check(&world, &wants, mark);
        }
    }

    #[test]
    fn a_partly_isolated_instance_is_tagged_and_snapshotted_but_not_marked() {
        let world = world();
        let part = Contained { instances: BTreeSet::new(), ..contained(&world) };
        let plan =
            preserve(&world.owner, &wants(&["i-1"]), &part, None, &BTreeSet::new(), &world.records, &world.observed)
                .to_string();
        assert!(plan.contains("i-1: snapshot vol-1") && !plan.contains("mark isolated"), "{plan}");
    }

    #[test]
    fn an_instance_isolated_after_a_delete_that_keeps_is_marked_kept() {
        let mut world = tagged();
        record(&mut world).state = State::Isolating;
        let wants = Wants { snapshot_volumes: false, ..wants(&["i-1"]) };
        let plan = preserve(
            &world.owner,
            &wants,
            &contained(&world),
            Some("rollback"),
            &BTreeSet::new(),
            &world.records,
            &world.observed,
        );
        assert_eq!(plan.to_string(), "i-1: mark kept\n");
    }

    #[test]
    fn a_set_that_an_earlier_try_took_is_saved_not_taken_again() {
        let mut world = tagged();
        record(&mut world).snapshots = Snapshots::Requested;
        world.observed.snapshots =
            vec![snapshot("snap-1", "vol-1", false, &world.records.values().next().unwrap().clone())];
        check(&world, &wants(&["i-1"]), "i-1: save snapshots snap-1");
    }

    #[test]
    fn a_set_in_error_does_not_count() {
        let mut world = tagged();
        record(&mut world).snapshots = Snapshots::Requested;
        world.observed.snapshots =
            vec![snapshot("snap-1", "vol-1", true, &world.records.values().next().unwrap().clone())];
        check(&world, &wants(&["i-1"]), "i-1: snapshot vol-1");
    }

    #[test]
    fn snapshots_of_another_episode_do_not_count() {
        let mut world = tagged();
        record(&mut world).snapshots = Snapshots::Requested;
        let mut other = world.records.values().next().unwrap().clone();
        other.recorded_at = "2025-01-01T00:00:00Z".into();
        world.observed.snapshots = vec![snapshot("snap-1", "vol-1", false, &other)];
        check(&world, &wants(&["i-1"]), "i-1: snapshot vol-1");
    }

    #[test]
    fn each_snapshot_of_a_set_gets_tags_of_its_own_until_it_is_seen_with_them() {
        let mut world = tagged();
        let volume = world.observed.instances.values().next().unwrap().volumes.values().next().unwrap().clone();
        let volumes = &mut world.observed.instances.values_mut().next().unwrap().volumes;
        volumes.insert("vol-2".parse().unwrap(), volume);
        let set = [("vol-1", "snap-1"), ("vol-2", "snap-2")];
        let taken = set.map(|(volume, id)| (volume.parse().unwrap(), id.parse().unwrap()));
        record(&mut world).snapshots = Snapshots::Taken(taken.into());
        let of_record = world.records.values().next().unwrap().clone();
        let first = Snapshot { labelled: true, ..snapshot("snap-1", "vol-1", false, &of_record) };
        world.observed.snapshots = vec![first, snapshot("snap-2", "vol-2", false, &of_record)];
        check(&world, &wants(&["i-1"]), "tag snap-2 with ec2-isolation:device, ec2-isolation:volume");
        world.observed.snapshots[1].labelled = true;
        check(&world, &wants(&["i-1"]), "");
    }

    #[test]
    fn an_instance_store_host_is_noted() {
        let mut world = tagged();
        world.observed.instances.values_mut().next().unwrap().volumes.clear();
        check(&world, &wants(&["i-1"]), "! i-1 has no EBS volume to snapshot");
    }
}
