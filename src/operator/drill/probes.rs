//! EC2 alone: calls on the instance of the drill, made for the sake of their answers. One that fails costs the others nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::super::{Operator, TRAILING};
use super::notes::{Notes, ms};
use super::{Stage, only, until};
use crate::model::{Attribute, GroupId, Groups, InterfaceId, STACK_TAG, SnapshotId, VolumeId};
use crate::operator::ports::drill::{DRILL_TAG, Details, Events, Fixtures, Probes};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::plan::{Change as Protecting, tag};
use crate::ports::{Call, Change, GroupQuery};

/// No id that EC2 gives: it is well formed, and does not exist.
const NOTHING: &str = "0dead0dead0dead00";
/// After it the delay is a number no longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const BRIEF: Duration = Duration::from_millis(100);
/// Changes of groups that are timed.
const CHANGES: usize = 4;
/// Readings after the first one that shows the new groups.
const FURTHER_READINGS: usize = 10;

impl<E, R, S> Operator<E, R, S>
where
    E: Survey + Change + Fixtures + Probes + Clone,
    R: Archive,
    S: StackLife + Events + Clone,
{
    /// Everything that takes no stack.
    pub(super) async fn probe(&self, stage: &Stage, drill: &str, notes: &mut Notes) {
        tracing::info!("asking EC2 what it answers");
        self.probe_readings(stage, notes).await;
        self.probe_refusals(stage, notes).await;
        self.probe_dry_runs(stage, notes).await;
        self.probe_delay_of_groups(stage, notes).await;
        self.probe_protection(stage, notes).await;
        self.probe_metadata(stage, notes).await;
        self.probe_snapshots(stage, drill, notes).await;
    }

    async fn probe_readings(&self, stage: &Stage, notes: &mut Notes) {
        let ec2 = &self.ports.ec2;
        let id = "ec2-interface-shows-own-groups";
        let own = [stage.instance.clone()].into();
        match tokio::try_join!(ec2.instances(&own), ec2.details(&stage.instance)) {
            Ok((found, Some(details))) => {
                let shown: Vec<&Groups> =
                    found.iter().flat_map(|found| &found.interfaces).map(|card| &card.groups).collect();
                let [a, b] = [only(&stage.groups[0]), only(&stage.groups[1])];
                let holds = shown == [&a, &b] && details.groups == a;
                notes.note(id, holds, format!("{} interfaces", shown.len()));
            }
            Ok((_, None)) => notes.note_unseen(id, "EC2 did not show the instance"),
            Err(error) => notes.note_failure(id, &error),
        }
        let id = "ec2-filter-leaves-out";
        match ec2.instances(&[stage.instance.clone(), unknown("i-")].into()).await {
            Ok(found) => notes.note(id, found.len() == 1, format!("{} of 2 shown", found.len())),
            Err(error) => notes.note_failure(id, &error),
        }
        let id = "ec2-default-egress";
        match ec2.groups(&GroupQuery::Ids(only(&stage.groups[0]))).await {
            Ok(found) => {
                let rules: Vec<String> =
                    found.iter().flat_map(|group| &group.egress).map(ToString::to_string).collect();
                let is_open = rules == ["all protocols 0.0.0.0/0"];
                let seen = if is_open { "one rule".to_owned() } else { format!("rules: {}", rules.join(", ")) };
                notes.note(id, is_open && found.iter().all(|group| group.ingress.is_empty()), seen);
            }
            Err(error) => notes.note_failure(id, &error),
        }
    }

    async fn probe_refusals(&self, stage: &Stage, notes: &mut Notes) {
        let ec2 = &self.ports.ec2;
        let Stage { groups: [a, b], instance, cards: [first, second], .. } = stage;
        let id = "ec2-unknown-instance";
        match ec2.attributes(&unknown("i-")).await {
            // The port says so of exactly this code.
            Ok(found) => notes.note(id, found.is_none(), "InvalidInstanceID.NotFound"),
            Err(error) => notes.note_failure(id, &error),
        }
        let answer = ec2.set_groups(&unknown::<InterfaceId>("eni-"), &only(a)).await;
        notes.note_refusal("ec2-unknown-interface", &["InvalidNetworkInterfaceID.NotFound"], &answer);
        let answer = ec2.set_groups(second, &only(&unknown::<GroupId>("sg-"))).await;
        notes.note_refusal("ec2-unknown-group", &["InvalidGroup.NotFound"], &answer);
        let answer = ec2.set_groups_of_instance(instance, &only(a)).await;
        notes.note_refusal("ec2-instance-wide-groups", &["InvalidInstanceID"], &answer);
        let answer = ec2.delete_group(b).await;
        notes.note_refusal("ec2-group-in-use", &["DependencyViolation"], &answer);
        let forged = BTreeMap::from([(STACK_TAG.to_owned(), "forged".to_owned())]);
        let answer = ec2.tag(&[first.to_string()].into(), &forged).await;
        notes.note_refusal("ec2-reserved-tags", &["InvalidParameterValue"], &answer);
    }

    async fn probe_dry_runs(&self, stage: &Stage, notes: &mut Notes) {
        let ec2 = &self.ports.ec2;
        let Stage { groups: [a, b], cards: [_, card], .. } = stage;
        let id = "ec2-dry-run-modify";
        let asked = async {
            ec2.may_set_groups(card, &only(a)).await?;
            tokio::time::sleep(TRAILING).await;
            self.groups_by_interface(card).await
        };
        match asked.await {
            Ok(groups) => notes.note(id, groups == only(b), "DryRunOperation, and the groups stayed"),
            Err(error) => notes.note_failure(id, &error),
        }
        let answer = ec2.may_set_groups(card, &only(&unknown::<GroupId>("sg-"))).await;
        notes.note_refusal("ec2-dry-run-checks-ids", &["InvalidGroup.NotFound"], &answer);
    }

    async fn groups_by_interface(&self, card: &InterfaceId) -> Call<Groups> {
        let found = self.ports.ec2.interfaces(&[card.clone()].into()).await?;
        Ok(found.into_iter().next().map(|card| card.groups).unwrap_or_default())
    }

    async fn groups_by_instance(&self, stage: &Stage, card: &InterfaceId) -> Call<Groups> {
        let found = self.ports.ec2.instances(&[stage.instance.clone()].into()).await?;
        let found = found.into_iter().flat_map(|found| found.interfaces).find(|found| found.id == *card);
        Ok(found.map(|card| card.groups).unwrap_or_default())
    }

    async fn probe_delay_of_groups(&self, stage: &Stage, notes: &mut Notes) {
        let (delay, stay) = ("ec2-groups-read-back-delay", "ec2-groups-stay-shown");
        match self.time_groups(stage).await {
            Ok(Some((longest, stale, returned))) => {
                let seen = format!("{CHANGES} changes, {} at most, {stale} old readings", ms(longest));
                notes.note(delay, longest <= TRAILING, seen);
                let readings = 2 * CHANGES * FURTHER_READINGS;
                notes.note(
                    stay,
                    returned == 0,
                    format!("{returned} of {readings} later readings showed the old groups"),
                );
            }
            Ok(None) => notes.note(delay, false, format!("not within {}", ms(LONGEST_DELAY))),
            Err(error) => notes.note_failure(delay, &error),
        }
    }

    /// The longest time until both calls showed a change, how many readings were old before, and how many afterwards.
    async fn time_groups(&self, stage: &Stage) -> Call<Option<(Duration, u32, usize)>> {
        let Stage { groups: [a, b], cards: [_, card], .. } = stage;
        let both: Groups = [a.clone(), b.clone()].into();
        let (mut longest, mut stale, mut returned) = (Duration::ZERO, 0, 0);
        for n in 0..CHANGES {
            let groups = if n % 2 == 0 { both.clone() } else { only(b) };
            self.ports.ec2.set_groups(card, &groups).await?;
            let one = until(LONGEST_DELAY, BRIEF, async || Ok(self.groups_by_interface(card).await? == groups));
            let other = until(LONGEST_DELAY, BRIEF, async || Ok(self.groups_by_instance(stage, card).await? == groups));
            let (Some(one), Some(other)) = tokio::try_join!(one, other)? else { return Ok(None) };
            longest = longest.max(one.0).max(other.0);
            stale += one.1 + other.1 - 2;
            for _ in 0..FURTHER_READINGS {
                let read = tokio::try_join!(self.groups_by_interface(card), self.groups_by_instance(stage, card))?;
                returned += usize::from(read.0 != groups) + usize::from(read.1 != groups);
            }
        }
        Ok(Some((longest, stale, returned)))
    }

    /// Sets termination protection and takes it off again.
    async fn probe_protection(&self, stage: &Stage, notes: &mut Notes) {
        let ec2 = &self.ports.ec2;
        let instance = &stage.instance;
        let protect = |on| Protecting::Attribute(Attribute::TerminationProtection(on));
        let delay = "ec2-attributes-read-back-delay";
        let timed = async {
            ec2.protect(instance, &protect(true)).await?;
            let is_on = async || {
                let found = ec2.attributes(instance).await?;
                Ok(found.is_some_and(|found| found.contains(&Attribute::TerminationProtection(true))))
            };
            until(LONGEST_DELAY, BRIEF, is_on).await
        };
        match timed.await {
            Ok(Some((time, readings))) => {
                notes.note(delay, time <= TRAILING, format!("{}, {} old readings", ms(time), readings - 1));
                let answer = ec2.terminate(instance).await;
                notes.note_refusal("ec2-termination-protection", &["OperationNotPermitted"], &answer);
            }
            Ok(None) => notes.note(delay, false, format!("not within {}", ms(LONGEST_DELAY))),
            Err(error) => notes.note_failure(delay, &error),
        }
        // The function records what was before: it shall be as it was.
        if let Err(error) = ec2.protect(instance, &protect(false)).await {
            tracing::warn!("termination protection of the drill's instance stays on: {error}");
        }
    }

    /// Turns the metadata service off and on again.
    async fn probe_metadata(&self, stage: &Stage, notes: &mut Notes) {
        let (pending, alone) = ("ec2-metadata-pending", "ec2-metadata-endpoint-alone");
        let before = match self.details(stage).await {
            Ok(Some(before)) => before,
            Ok(None) => return notes.note_unseen(pending, "EC2 did not show the instance"),
            Err(error) => return notes.note_failure(pending, &error),
        };
        let mut seen = Vec::new();
        for is_on in [false, true] {
            let applied = async || {
                let now = self.details(stage).await?;
                Ok(now.is_some_and(|now| now.is_metadata_on == is_on && now.metadata_state == "applied"))
            };
            let change = Protecting::MetadataService { is_on };
            let turned = async {
                self.ports.ec2.protect(&stage.instance, &change).await?;
                until(LONGEST_DELAY, BRIEF, applied).await
            };
            match turned.await {
                Ok(Some((time, readings))) => seen.push(format!("{} ({} readings before)", ms(time), readings - 1)),
                Ok(None) => return notes.note(pending, false, format!("not within {}", ms(LONGEST_DELAY))),
                Err(error) => return notes.note_failure(pending, &error),
            }
        }
        notes.note(
            pending,
            true,
            format!("off after {}, on after {}", seen.first().map_or("", |s| s), seen.last().map_or("", |s| s)),
        );
        match self.details(stage).await {
            Ok(now) => {
                let tokens = now.map(|now| now.metadata_tokens).unwrap_or_default();
                let holds = tokens == before.metadata_tokens;
                notes.note(alone, holds, format!("tokens {} before, {tokens} afterwards", before.metadata_tokens));
            }
            Err(error) => notes.note_failure(alone, &error),
        }
    }

    async fn details(&self, stage: &Stage) -> Call<Option<Details>> {
        self.ports.ec2.details(&stage.instance).await
    }

    /// Takes a set of snapshots, and asks for another one at once.
    async fn probe_snapshots(&self, stage: &Stage, drill: &str, notes: &mut Notes) {
        let ec2 = &self.ports.ec2;
        let (rate, by_tag) = ("ec2-snapshot-rate", "ec2-snapshots-by-tag");
        let episode = format!("drill-{drill}");
        let tags = [(DRILL_TAG, drill), (tag::EPISODE, episode.as_str())];
        let tags: BTreeMap<String, String> =
            tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let all: BTreeMap<VolumeId, String> = BTreeMap::new();
        let take = || ec2.take_snapshots(&stage.instance, &all, &tags);
        let began = Instant::now();
        let taken = match take().await {
            Ok(taken) => taken,
            Err(error) => return notes.note_failure(by_tag, &error),
        };
        let second = take().await;
        let asked = ms(began.elapsed());
        notes.note_refusal(rate, &["SnapshotCreationPerVolumeRateExceeded"], &second);
        let episodes = BTreeSet::from([episode]);
        let found = until(LONGEST_DELAY, BRIEF, async || Ok(!ec2.snapshots(&episodes).await?.is_empty())).await;
        match found {
            Ok(Some((time, _))) => {
                notes.note(by_tag, time <= TRAILING, format!("{}, asked twice in {asked}", ms(time)))
            }
            Ok(None) => notes.note(by_tag, false, format!("not within {}", ms(LONGEST_DELAY))),
            Err(error) => notes.note_failure(by_tag, &error),
        }
        let taken: BTreeSet<SnapshotId> = taken.into_values().collect();
        match ec2.locks(&taken).await {
            Ok(locks) => {
                notes.note("ec2-locks-by-id", locks.is_empty(), format!("{} of {} shown", locks.len(), taken.len()))
            }
            Err(error) => notes.note_failure("ec2-locks-by-id", &error),
        }
        // The function's own set is to be taken without a refusal.
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
}

/// An id that does not exist.
fn unknown<T: std::str::FromStr>(prefix: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    #[allow(clippy::expect_used)] // A constant that a test reads.
    format!("{prefix}{NOTHING}").parse().expect("it is well formed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InstanceId;

    #[test]
    fn what_does_not_exist_has_ids_that_are_well_formed() {
        assert_eq!(unknown::<InstanceId>("i-").as_str(), "i-0dead0dead0dead00");
        assert_eq!(unknown::<GroupId>("sg-").as_str().len(), 20);
    }
}
