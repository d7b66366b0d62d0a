//! What the records say of an incident's snapshots, and of what was made of them. Pure.
//!
//! **Tags never decide**: the attacker may write them. Only a snapshot that a record names is one of an incident.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{InstanceId, Record, SnapshotId, VolumeId};

/// How lines of a history begin, after their time.
pub(super) const MADE: &str = "evidence volumes made: ";
/// Those that were there already, and that no record named.
pub(super) const FOUND: &str = "evidence volumes found: ";
pub(super) const REMOVED: &str = "evidence volumes removed: ";
pub(super) const COPIED: &str = "snapshots copied: ";
pub(super) const SHARED: &str = "snapshots shared: ";
pub(super) const HASHED: &str = "snapshot hashed: ";
const SNAPSHOTS: &str = "snapshots: ";

/// A snapshot that a record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operator) struct Recorded {
    pub instance: InstanceId,
    /// Nothing if the history alone names the snapshot, without its volume.
    pub volume: Option<VolumeId>,
    /// Of the isolation that the record is about, not of an earlier one.
    pub is_current: bool,
}

/// Every snapshot that these records name, also those of an earlier isolation, which the history names.
pub(in crate::operator) fn snapshots<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> BTreeMap<SnapshotId, Recorded> {
    let mut found = BTreeMap::new();
    for record in records {
        for (snapshot, volume) in pairs(record, SNAPSHOTS) {
            let past = Recorded { instance: record.instance.clone(), volume, is_current: false };
            found.insert(snapshot, past);
        }
        for (volume, snapshot) in &record.snapshots.taken {
            let (instance, volume) = (record.instance.clone(), Some(volume.clone()));
            found.insert(snapshot.clone(), Recorded { instance, volume, is_current: true });
        }
    }
    found
}

/// Volumes that were made of the snapshots of a record as evidence, and were not removed since.
pub(in crate::operator) fn volumes(record: &Record) -> BTreeSet<VolumeId> {
    let mut found = BTreeSet::new();
    for (what, text) in lines(record) {
        let ids = words(text).filter_map(|word| word.parse::<VolumeId>().ok());
        match what {
            MADE | FOUND => found.extend(ids),
            REMOVED => ids.for_each(|id| {
                found.remove(&id);
            }),
            _ => {}
        }
    }
    found
}

/// Copies that were made of the snapshots of a record: each with what it is a copy of.
pub(in crate::operator) fn copies(record: &Record) -> BTreeMap<SnapshotId, SnapshotId> {
    let texts = lines(record).filter(|(what, _)| *what == COPIED).map(|(_, text)| text);
    let pairs = texts.flat_map(|text| text.split(", ")).filter_map(|part| {
        let (copy, rest) = part.split_once(" of ")?;
        Some((copy.parse().ok()?, words(rest).next()?.parse().ok()?))
    });
    pairs.collect()
}

/// `snap-… of vol-…`, as lines with this beginning name them.
fn pairs(record: &Record, begins: &str) -> Vec<(SnapshotId, Option<VolumeId>)> {
    let texts = lines(record).filter(|(what, _)| *what == begins).map(|(_, text)| text);
    let parts = texts.flat_map(|text| text.split(", ")).filter_map(|part| {
        let mut ids = part.split(" of ");
        let snapshot = ids.next()?.parse().ok()?;
        Some((snapshot, ids.next().and_then(|volume| volume.parse().ok())))
    });
    parts.collect()
}

/// What the lines of a history say: how they begin, and what follows, without who asked for it.
fn lines(record: &Record) -> impl Iterator<Item = (&'static str, &str)> {
    record.history.iter().filter_map(|line| {
        let (_, rest) = line.split_once(' ')?;
        let said = rest.split(" (asked by ").next().unwrap_or_default();
        let begins =
            [MADE, FOUND, REMOVED, COPIED, SHARED, SNAPSHOTS].into_iter().find(|begins| said.starts_with(begins))?;
        Some((begins, said.strip_prefix(begins)?))
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ','])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Owner, Protection, Snapshots, State, Time};

    fn record(history: &[&str]) -> Record {
        Record {
            returns: 0,
            instance: "i-0a".parse().unwrap(),
            owner: Owner { stack_id: "arn".into(), logical_id: "Isolation".into() },
            state: State::Isolated,
            vpc: "vpc-0a".parse().unwrap(),
            isolation_group: "sg-0a".parse().unwrap(),
            isolation_groups: BTreeSet::new(),
            interfaces: BTreeMap::new(),
            connections_cut: true,
            passed: BTreeSet::new(),
            recorded_at: Time(0),
            lease: None,
            snapshots: Snapshots {
                taken: [("vol-0c".parse().unwrap(), "snap-0c".parse().unwrap())].into(),
                requested: false,
            },
            protection: Protection::default(),
            history: history
                .iter()
                .map(|line| format!("2026-11-25T03:00:00Z {line} (asked by arn:x, snapshots: snap-0e)"))
                .collect(),
        }
    }

    #[test]
    fn snapshots_of_an_earlier_isolation_are_known_from_the_history_and_who_asked_adds_none() {
        let record =
            record(&["snapshots: snap-0a of vol-0a, snap-0b", "isolated: snapshots: snap-0f", "snapshots: none"]);
        let found: Vec<_> = snapshots([&record])
            .into_iter()
            .map(|(id, found)| (id.to_string(), found.volume.map(|id| id.to_string()), found.is_current))
            .collect();
        let of = |id: &str, volume: Option<&str>, is_current| (id.to_owned(), volume.map(str::to_owned), is_current);
        assert_eq!(
            found,
            [of("snap-0a", Some("vol-0a"), false), of("snap-0b", None, false), of("snap-0c", Some("vol-0c"), true)]
        );
    }

    #[test]
    fn what_was_removed_is_not_there_and_what_was_made_again_is() {
        let made = "evidence volumes made: vol-01 of snap-0a, vol-02 of snap-0b, for i-0f";
        let removed = "evidence volumes removed: vol-01 of snap-0a";
        let found = |history: &[&str]| volumes(&record(history)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found(&[made, removed, "evidence volumes found: vol-03 of snap-0a"]), ["vol-02", "vol-03"]);
        assert_eq!(found(&["recorded: evidence volumes made: vol-04 of snap-0a"]), Vec::<String>::new());
    }

    #[test]
    fn a_copy_is_known_with_what_it_is_a_copy_of() {
        let record =
            record(&["snapshots copied: snap-11 of snap-0a with key arn:k, snap-12 of snap-0b with key arn:k"]);
        let found: Vec<_> = copies(&record).into_iter().map(|(copy, of)| format!("{copy} {of}")).collect();
        assert_eq!(found, ["snap-11 snap-0a", "snap-12 snap-0b"]);
    }
}
