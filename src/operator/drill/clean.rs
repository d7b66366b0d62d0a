//! Takes away what a drill has made: looks, deletes, and looks again until nothing is left. What cannot be deleted is named.
//!
//! **A tag decides nothing alone**, since the attacker may write tags: an instance is a drill's by the token it was launched
//! with, a group by its name, snapshots by the volumes of that instance. What has the tag and nothing else is named, and left to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::super::incident::{Address, Incident, cannot_look};
use super::super::next::Next;
use super::super::{Operator, Trouble};
use super::left::left;
use super::{broken, failed, until};
use crate::model::{Attribute, GroupId, Groups, InstanceId, SnapshotId, comma_list};
use crate::operator::ports::drill::{Events, Fixtures, Made, Probes, drill_name};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::plan::Change as Protecting;
use crate::ports::{Call, Change};

/// One that fails is followed by others.
const ROUNDS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(5);
/// EC2 ends an instance within minutes.
const LONGEST_END: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The interfaces of a terminated instance, and the groups that they had, are in use for a while.
const LONGEST_USE: Duration = Duration::from_secs(120);

/// What became of one drill's things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    pub drill: String,
    /// What could not be taken away, and how to.
    pub left: Vec<Next>,
}

impl<E, R, S> Operator<E, R, S>
where
    E: Survey + Change + Fixtures + Probes + Clone,
    R: Archive,
    S: StackLife + Events + Clone,
{
    /// What drills have left in this account and Region, by their ids.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn drills(&self) -> Result<BTreeMap<String, Made>, Trouble> {
        self.ports.ec2.made().await.map_err(cannot_look)
    }

    /// Takes away what a drill has made, and names what cannot be.
    pub async fn clean(&self, id: &str) -> Cleaned {
        let (mut trouble, mut is_clean) = (None, false);
        for round in 1..=ROUNDS {
            match self.clean_once(id, round == ROUNDS).await {
                // What was made a moment ago may not be shown yet: one look that shows nothing decides nothing.
                Ok(true) if is_clean => return Cleaned { drill: id.to_owned(), left: vec![] },
                Ok(is_clean_now) => is_clean = is_clean_now,
                Err(error) => {
                    tracing::warn!("not everything could be taken away: {error}; looking again");
                    (trouble, is_clean) = (Some(error), false);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        let (stack, made) = (self.view(&drill_name(id)).await, self.drills().await);
        let why = trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        Cleaned { drill: id.to_owned(), left: left(id, stack, made, &why, &self.shell) }
    }

    /// Whether nothing is left.
    async fn clean_once(&self, id: &str, is_last: bool) -> Result<bool, Trouble> {
        let ec2 = &self.ports.ec2;
        let made = self.drills().await?.remove(id).unwrap_or_default();
        // As long as its stack is there, something has to tell that there was a drill: its groups stay.
        let stack = self.end_drill_stack(id, &made).await;
        let is_gone = stack.is_ok();
        if !is_last {
            stack?;
        }
        self.end_instances(&made.instances).await.map_err(failed("the drill's instance cannot be terminated"))?;
        let made = self.drills().await?.remove(id).unwrap_or_default();
        for interface in &made.interfaces {
            ec2.delete_interface(interface).await.map_err(failed("an interface of the drill cannot be deleted"))?;
        }
        for group in made.groups.iter().filter(|_| is_gone) {
            self.delete_unused(group).await.map_err(failed("a group of the drill cannot be deleted"))?;
        }
        Ok(is_gone && self.drills().await?.remove(id).unwrap_or_default().is_empty())
    }

    async fn delete_unused(&self, group: &GroupId) -> Call<()> {
        let mut refusal = None;
        let deleted = until(LONGEST_USE, LOOK_EVERY, async || match self.ports.ec2.delete_group(group).await {
            Err(error) if error.code == "DependencyViolation" => Ok(false),
            other => other.map(|()| true),
        });
        if deleted.await?.is_none() {
            refusal = self.ports.ec2.delete_group(group).await.err();
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Restores what the stack of the drill holds, and deletes it.
    async fn end_drill_stack(&self, id: &str, made: &Made) -> Result<(), Trouble> {
        let address = Address::Stack(drill_name(id));
        let mut stack = self.view(&drill_name(id)).await?;
        if let Some(busy) = stack.as_ref().filter(|stack| stack.is_busy()) {
            stack = self.settled(&busy.id).await?;
        }
        let incident = match self.incident(&address).await {
            Ok(incident) => incident,
            // There is none, and no record of one.
            Err(Trouble::Refused(_)) if stack.is_none() => return Ok(()),
            Err(other) => return Err(other),
        };
        self.check_own(&incident, made).await?;
        if incident.held().next().is_some() {
            self.give_other_groups(&incident, &made.groups).await?;
            self.restore(&self.incident(&address).await?, &BTreeSet::new(), &|_| ()).await?;
        }
        if incident.stack.is_none() {
            return Ok(());
        }
        let ended = self.finish(&self.incident(&address).await?).await?;
        match ended.is_gone {
            true => Ok(()),
            false => Err(broken(&format!("the drill's stack was not deleted: {}", ended.log.join("; ")))),
        }
    }

    /// Fails if the stack isolates what no drill has made: then it is none of a drill.
    async fn check_own(&self, incident: &Incident, made: &Made) -> Result<(), Trouble> {
        let foreign: BTreeSet<InstanceId> =
            incident.listed().into_iter().filter(|id| !made.instances.contains(id)).collect();
        let shown = self.ports.ec2.instances(&foreign).await.map_err(cannot_look)?;
        let shown: Vec<InstanceId> =
            shown.into_iter().filter(|instance| !instance.is_terminated()).map(|instance| instance.id).collect();
        if shown.is_empty() {
            return Ok(());
        }
        Err(broken(&format!(
            "stack {} isolates {}, which no drill has launched: it is left as it is",
            incident.stack_name,
            comma_list(shown)
        )))
    }

    /// Interfaces whose recorded groups are all gone would stay isolated: they get a group that the drill still has.
    async fn give_other_groups(&self, incident: &Incident, groups: &Groups) -> Result<(), Trouble> {
        let Some(group) = groups.first() else { return Ok(()) };
        for (id, recorded) in incident.held().flat_map(|record| &record.interfaces) {
            let is_gone = recorded.iter().all(|group| !incident.observed.groups.contains_key(group));
            if is_gone && incident.observed.interfaces.contains_key(id) {
                let given = self.ports.ec2.set_groups(id, &super::only(group)).await;
                given.map_err(failed("the drill's interface cannot be moved"))?;
            }
        }
        Ok(())
    }

    /// Deletes their snapshots, and terminates them with their volumes. Afterwards nothing would tell whose snapshots
    /// they were.
    pub(super) async fn end_instances(&self, ids: &BTreeSet<InstanceId>) -> Call<()> {
        let ec2 = &self.ports.ec2;
        let found = ec2.instances(ids).await?;
        let found: Vec<_> = found.into_iter().filter(|instance| !instance.is_terminated()).collect();
        let volumes = found.iter().flat_map(|instance| instance.volumes.keys().cloned()).collect();
        let snapshots: BTreeSet<SnapshotId> = ec2.snapshots_of(&volumes).await?;
        for snapshot in &snapshots {
            ec2.delete_snapshot(snapshot).await?;
        }
        // One that ends already takes no change.
        for instance in found.iter().filter(|instance| instance.state != "shutting-down") {
            for attribute in [Attribute::TerminationProtection(false), Attribute::StopProtection(false)] {
                ec2.protect(&instance.id, &Protecting::Attribute(attribute)).await?;
            }
            let kept = instance.volumes.iter().filter(|(_, volume)| !volume.delete_on_termination);
            let volumes: BTreeMap<_, _> = kept.map(|(id, volume)| (id.clone(), volume.device.clone())).collect();
            if !volumes.is_empty() {
                ec2.protect(&instance.id, &Protecting::Volumes { volumes, go_with_it: true }).await?;
            }
            ec2.terminate(&instance.id).await?;
        }
        let is_over = async || Ok(ec2.instances(ids).await?.iter().all(|instance| instance.is_terminated()));
        until(LONGEST_END, LOOK_EVERY, is_over).await.map(drop)
    }
}
