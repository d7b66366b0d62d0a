//! Snapshots of an isolated instance: one crash-consistent set, and one more of the volumes that were attached later.

use std::collections::{BTreeMap, BTreeSet};

use super::tags::{Tags, tag};
use super::{Case, Doubt, Plan, Problem, Step, Work};
use crate::model::{Instance, Record, Snapshot, SnapshotId, VolumeId, Wants};

/// Whether the snapshots of a record have to be looked up. A set that this invocation asked for is looked up, too, before any
/// of it is counted.
pub(super) fn are_needed(record: &Record) -> bool {
    record.snapshots.requested || !record.snapshots.taken.is_empty()
}

/// Recorded snapshots that their tag does not find: anybody may have taken it off.
pub(super) fn lost(case: &Case<'_>, record: &Record) -> BTreeSet<SnapshotId> {
    let shown = |id: &&SnapshotId| case.observed.snapshots.iter().any(|snapshot| snapshot.id == **id);
    record.snapshots.taken.values().filter(|id| case.observed.has_snapshots && !shown(id)).cloned().collect()
}

/// Snapshots every volume of `instance` that has none; labels and counts those that there are.
pub(super) fn snapshot(case: &Case<'_>, wants: &Wants, record: &Record, instance: &Instance, plan: &mut Plan) {
    let taken = &record.snapshots.taken;
    let volumes = instance.devices(|id, _| !taken.contains_key(id));
    count(case, record, plan);
    label(case, record, instance, plan);
    lock(case, wants, plan);
    if instance.volumes.is_empty() && taken.is_empty() {
        plan.problems.push(Problem::NoVolumes { instance: case.id() });
    }
    if volumes.is_empty() {
        return;
    }
    let take = take(case, wants, record, instance, volumes.clone());
    if !record.snapshots.requested {
        plan.work.push(Work {
            first: Some(Step::RequestSnapshots { instance: case.id(), taken: taken.clone() }),
            then: vec![take],
        });
        return;
    }
    if !case.observed.has_snapshots {
        return;
    }
    if let Some(found) = found(case, record, &volumes) {
        let snapshots = taken.iter().map(|(volume, id)| (volume.clone(), id.clone())).chain(found).collect();
        plan.push(Step::SaveSnapshots { instance: case.id(), snapshots });
    } else if case.ledger.asked_for_snapshots || case.believes(Doubt::SnapshotsAwaited, plan) {
        plan.push(take);
    } else {
        plan.problems.push(Problem::SnapshotsAwaited { instance: case.id() });
    }
}

/// Counts the recorded snapshots that exist and did not fail, and names the others.
pub(super) fn count(case: &Case<'_>, record: &Record, plan: &mut Plan) {
    for (volume, id) in &record.snapshots.taken {
        let shown = case.observed.snapshots.iter().find(|snapshot| snapshot.id == *id);
        let reason = match shown {
            Some(snapshot) if snapshot.failed => "failed",
            Some(_) => {
                plan.standing.snapshots.insert(id.clone());
                continue;
            }
            None if !case.observed.sought.contains(id) => continue,
            None if case.believes(Doubt::Snapshot(id.clone()), plan) => "does not exist any more",
            None => continue,
        };
        let (instance, snapshot, volume) = (case.id(), id.clone(), volume.clone());
        plan.problems.push(Problem::SnapshotLost { instance, snapshot, volume, reason });
    }
}

/// Labels, locks and counts the snapshots of an instance that is terminated, and saves those that were taken and are not in its record
/// yet. Whether there are any.
pub(super) fn outlive(case: &Case<'_>, wants: &Wants, record: &Record, instance: &Instance, plan: &mut Plan) -> bool {
    count(case, record, plan);
    let taken = &record.snapshots.taken;
    let is_ours = record.owner == *case.owner;
    if is_ours {
        label(case, record, instance, plan);
        lock(case, wants, plan);
    }
    let is_ours = is_ours && record.snapshots.requested;
    let unsaved: BTreeMap<VolumeId, SnapshotId> = usable(case, record)
        .filter(|snapshot| is_ours && !taken.contains_key(&snapshot.volume))
        .map(|snapshot| (snapshot.volume.clone(), snapshot.id.clone()))
        .collect();
    if !unsaved.is_empty() {
        let snapshots = taken.clone().into_iter().chain(unsaved).collect();
        plan.push(Step::SaveSnapshots { instance: case.id(), snapshots });
        return true;
    }
    // Those that were asked for may not be shown yet.
    if record.snapshots.requested && case.observed.has_snapshots {
        case.believes(Doubt::SnapshotsAwaited, plan);
    }
    !taken.is_empty()
}

/// The snapshots of this isolation that did not fail.
fn usable<'a>(case: &Case<'a>, record: &Record) -> impl Iterator<Item = &'a Snapshot> {
    let episode = record.episode();
    case.observed.snapshots.iter().filter(move |snapshot| snapshot.episode == episode && !snapshot.failed)
}

/// The snapshots of a set are born with the same tags: each gets its own, until it is seen with them. A single one is born
/// with its own.
fn label(case: &Case<'_>, record: &Record, instance: &Instance, plan: &mut Plan) {
    for (volume, id) in &record.snapshots.taken {
        let shown = case.observed.snapshots.iter().find(|snapshot| snapshot.id == *id);
        // The function may tag those only that carry the tags of its stack.
        let is_ours = |snapshot: &&Snapshot| snapshot.episode == record.episode();
        if shown.filter(is_ours).is_some_and(|snapshot| !snapshot.labelled && !snapshot.failed) {
            let device = instance.volumes.get(volume).map_or("", |volume| volume.device.as_str());
            plan.push(Step::Tag {
                instance: case.id(),
                resource: id.to_string(),
                tags: volume_tags(volume, device).into(),
            });
        }
    }
}

/// Locks every snapshot that counts, which EC2 allows while it is pending, and until it is seen locked for as long as is wanted. A
/// longer lock, or one with an end of its own, stays as it is.
fn lock(case: &Case<'_>, wants: &Wants, plan: &mut Plan) {
    for id in plan.standing.snapshots.clone() {
        let Some(shown) = case.observed.locks.get(&id) else { continue };
        match shown.as_ref().filter(|lock| lock.days.is_none_or(|days| days >= wants.lock_days)) {
            Some(lock) => drop(plan.standing.locked.insert(id, lock.until)),
            None => plan.push(Step::LockSnapshot { instance: case.id(), snapshot: id, days: wants.lock_days }),
        }
    }
}

/// The set that an earlier try took, if it has all of these volumes: a volume may have been detached since. One snapshot in error spoils
/// its set (`CreateSnapshots` is all or nothing).
fn found(
    case: &Case<'_>,
    record: &Record,
    volumes: &BTreeMap<VolumeId, String>,
) -> Option<BTreeMap<VolumeId, SnapshotId>> {
    let set: BTreeMap<_, _> = usable(case, record)
        .filter(|snapshot| !record.snapshots.taken.contains_key(&snapshot.volume))
        .map(|snapshot| (snapshot.volume.clone(), snapshot.id.clone()))
        .collect();
    volumes.keys().all(|volume| set.contains_key(volume)).then_some(set)
}

fn take(
    case: &Case<'_>,
    wants: &Wants,
    record: &Record,
    instance: &Instance,
    volumes: BTreeMap<VolumeId, String>,
) -> Step {
    let shared = [
        (tag::STACK, record.owner.stack_id.clone()),
        (tag::OWNER, record.owner.logical_id.clone()),
        (tag::INSTANCE, instance.id.to_string()),
        (tag::PURPOSE, wants.purpose.clone()),
        // As on everything else that the stack makes.
        ("Purpose", wants.purpose.clone()),
        (tag::TIME, record.recorded_at.to_string()),
        (tag::EPISODE, record.episode()),
    ];
    let mut tags: Tags = shared.map(|(key, value)| (key.to_owned(), value)).into();
    if let (Some((volume, device)), 1) = (volumes.first_key_value(), volumes.len()) {
        tags.extend(volume_tags(volume, device));
    }
    let without = instance.devices(|id, _| !volumes.contains_key(id));
    Step::TakeSnapshots { instance: case.id(), volumes, without, tags: tags.into() }
}

/// What tells the snapshots of one set apart.
fn volume_tags(volume: &VolumeId, device: &str) -> Tags {
    [(tag::VOLUME, volume.to_string()), (tag::DEVICE, device.to_owned())].map(|(k, v)| (k.to_owned(), v)).into()
}

#[cfg(test)]
mod tests;
