//! What was made of the snapshots of incidents that are over, for `leftovers`.

use std::collections::{BTreeMap, BTreeSet};

use super::{is_there, recorded};
use crate::model::{Record, SnapshotId, VolumeId};
use crate::operator::leftovers::{Kind, Left};
use crate::operator::ports::{Archive, Evidence, Survey, VolumeDetails, VolumeQuery};
use crate::operator::stack::StackLife;
use crate::operator::{Operator, Shell};
use crate::plan::tag;
use crate::ports::{Call, Change};

impl<E: Survey + Evidence + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Volumes that were made as evidence of these records, and those of which only the tags say so. `is_over` is asked about stacks.
    pub(in crate::operator) async fn evidence_left(
        &self,
        records: &[&Record],
        is_over: impl Fn(&str) -> bool,
    ) -> Call<Vec<Left>> {
        let mut made: BTreeMap<VolumeId, &Record> = BTreeMap::new();
        for record in records {
            made.extend(recorded::volumes(record).into_iter().map(|volume| (volume, *record)));
        }
        let by_id = VolumeQuery::Ids(made.keys().cloned().collect());
        let (by_id, tagged) =
            tokio::try_join!(self.ports.ec2.volumes(&by_id), self.ports.ec2.volumes(&VolumeQuery::OfEvidence))?;
        let mut left = Vec::new();
        for volume in by_id.iter().filter(|volume| is_there(volume)) {
            let Some(record) = made.get(&volume.id) else { continue };
            let known = recorded::snapshots([*record]);
            // Nothing but EC2 says what a volume was made of.
            let is_of_it = volume.snapshot.as_ref().is_some_and(|snapshot| known.contains_key(snapshot));
            let what = format!("made as evidence of {}", record.instance);
            left.push(found(volume, &what, is_of_it, Some(record.owner.stack_name().to_owned()), &self.shell));
        }
        let is_of_one = |volume: &&VolumeDetails| volume.tags.get(tag::STACK).is_some_and(|stack| is_over(stack));
        let known: BTreeSet<&VolumeId> = made.keys().collect();
        for volume in tagged.iter().filter(|volume| is_there(volume) && !known.contains(&volume.id)).filter(is_of_one) {
            left.push(found(volume, "made as evidence, as its tags say", false, None, &self.shell));
        }
        Ok(left)
    }
}

/// Copies that were made for other accounts, as the records say: each with what it is a copy of.
pub(in crate::operator) fn copies<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> BTreeMap<SnapshotId, SnapshotId> {
    records.into_iter().flat_map(recorded::copies).collect()
}

fn found(volume: &VolumeDetails, what: &str, is_certain: bool, incident: Option<String>, shell: &Shell) -> Left {
    let id = &volume.id;
    let look = (!is_certain).then(|| shell.show_volume(id));
    let at = match &volume.attachment {
        Some(at) => format!("attached to {}: unmount it there first", at.instance),
        None => "attached to nothing now".to_owned(),
    };
    let detach = volume.attachment.as_ref().map(|_| [shell.detach_volume(id), shell.wait_for_volume(id)]);
    let commands = look.into_iter().chain(detach.into_iter().flatten()).chain([shell.delete_volume(id)]);
    Left {
        kind: Kind::Volume,
        id: id.to_string(),
        gib: Some(volume.gib),
        incident,
        why: format!("{what}, {at}"),
        commands: commands.collect(),
    }
}
