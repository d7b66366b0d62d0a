//! The incident of a drill, by the way of a real one: isolated, moved back and seen, isolated again, an update and a deletion that fail,
//! restored, and its stack deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::incident::{Address, Incident};
use super::super::isolate::{Isolated, Options};
use super::super::target::Target;
use super::super::{Operator, Progress, Trouble};
use super::notes::{Notes, ms};
use super::{DrillOrder, Stage, broken, failed, judge, only, until};
use crate::model::{GroupId, Groups, Role};
use crate::operator::ports::drill::{Events, Fixtures, Probes, StackEvent, drill_name};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{Prepared, StackLife, StackView};
use crate::ports::{Change, GroupQuery};
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_secs(2);
const LONGEST_TRAILING: Duration = Duration::from_secs(30);
const LONGEST_CHANGE_SET: Duration = Duration::from_secs(30);

impl<E, R, S> Operator<E, R, S>
where
    E: Survey + Change + Fixtures + Probes + Clone,
    R: Archive,
    S: StackLife + Events + Clone,
{
    /// From nothing to the end of the stack.
    pub(super) async fn rehearse_incident(
        &self,
        stage: &Stage,
        order: &DrillOrder,
        notes: &mut Notes,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<(), Trouble> {
        let name = drill_name(&order.id);
        tracing::info!(stack = name, "isolating the instance");
        let isolated = self.isolate_once(stage, &name, on_progress).await?;
        check_isolated(&isolated)?;
        let incident = self.incident(&Address::Stack(name.clone())).await?;
        let Some(stack) = incident.stack.clone() else { return Err(broken("the drill's stack is gone")) };
        judge::creation(&incident, &stack, &isolated, stage, notes);
        self.question(&stack, notes).await;

        let void = self.prepare_change(&stack, order, notes).await;
        tracing::info!("moving an interface back, as a person might");
        self.move_back(stage, &name, notes).await?;
        tracing::info!("isolating it again");
        check_isolated(&self.isolate_once(stage, &name, on_progress).await?)?;
        self.carry_out_void(void, &stack, notes).await?;

        tracing::info!("letting an update fail");
        self.fail_an_update(stage, &incident, &name, notes, on_progress).await?;
        tracing::info!("letting a deletion fail");
        self.fail_a_deletion(stage, &stack, notes).await?;

        tracing::info!("restoring it, and deleting the stack");
        let incident = self.incident(&Address::Stack(name.clone())).await?;
        let report = self.restore(&incident, &BTreeSet::new(), on_progress).await?;
        if report.failed {
            return Err(broken(&format!("the drill's instance was not restored: {}", report.details.join("; "))));
        }
        self.judge_restore(stage, notes).await;
        self.end_and_judge(&stack, notes).await
    }

    async fn isolate_once(
        &self,
        stage: &Stage,
        name: &str,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Isolated, Trouble> {
        let options = Options { stack: Some(name.to_owned()), ..Options::default() };
        let orders = self.orders(&[Target::Instance(stage.instance.clone())], &options).await?;
        let order = orders.first().ok_or_else(|| broken("the drill's stack is gone"))?;
        self.isolate(order, on_progress).await
    }

    /// What CloudFormation tells of the new stack, and whether it lets the stack be deleted.
    async fn question(&self, stack: &StackView, notes: &mut Notes) {
        match self.ports.stacks.events(&stack.id).await {
            Ok(events) => judge::order(&events, notes),
            Err(error) => notes.note_failure("cfn-time-to-first-call", &error),
        }
        // It is protected: nothing must happen.
        let answer = self.ports.stacks.delete(&stack.id, &[]).await;
        notes.note_refusal("cfn-protected-delete", &["ValidationError"], &answer);
    }

    /// A change set that shall never be carried out.
    async fn prepare_change(&self, stack: &StackView, order: &DrillOrder, notes: &mut Notes) -> Option<String> {
        let id = "cfn-change-set-time";
        let parameters = BTreeMap::from([("Rerun".to_owned(), format!("drill {}, void", order.id))]);
        let began = Instant::now();
        let name = format!("ec2-isolation-void-{}", order.id);
        match self.ports.stacks.prepare(&stack.id, &name, &parameters).await {
            Ok(Prepared::Ready(change_set)) => {
                notes.note(id, began.elapsed() <= LONGEST_CHANGE_SET, ms(began.elapsed()));
                Some(change_set)
            }
            Ok(other) => {
                notes.note(id, false, format!("{other:?}"));
                None
            }
            Err(error) => {
                notes.note_failure(id, &error);
                None
            }
        }
    }

    async fn carry_out_void(
        &self,
        change_set: Option<String>,
        seen: &StackView,
        notes: &mut Notes,
    ) -> Result<(), Trouble> {
        let Some(now) = self.view(&seen.id).await? else { return Err(broken("the drill's stack is gone")) };
        let others = |view: &StackView| {
            let others = view.parameters.iter().filter(|(name, _)| *name != "Rerun");
            others.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let count = others(seen).len();
        notes.note("cfn-change-set-keeps-parameters", others(seen) == others(&now), format!("{count} parameters"));
        let Some(change_set) = change_set else { return Ok(()) };
        let id = "cfn-change-set-obsolete";
        match self.ports.stacks.carry_out(&change_set).await {
            Ok(false) => notes.note(id, true, "refused"),
            Ok(true) => {
                notes.note(id, false, "carried out");
                self.settled(&seen.id).await?;
            }
            Err(error) => notes.note_failure(id, &error),
        }
        // It may be gone already.
        let _ = self.ports.stacks.discard(&change_set).await;
        Ok(())
    }

    /// Gives the second interface its groups back, and looks whether status says so.
    async fn move_back(&self, stage: &Stage, name: &str, notes: &mut Notes) -> Result<(), Trouble> {
        let Stage { groups: [_, b], cards: [_, card], .. } = stage;
        self.ports.ec2.set_groups(card, &only(b)).await.map_err(failed("the drill's interface cannot be moved"))?;
        let began = Instant::now();
        let id = "own-status-names-what-was-moved";
        loop {
            let status = self.status(&self.incident(&Address::Stack(name.to_owned())).await?).await;
            let is_named = status.not_isolated.iter().any(|open| open.interface.as_deref() == Some(card.as_str()));
            if is_named {
                notes.note(id, true, ms(began.elapsed()));
                return Ok(());
            }
            if began.elapsed() > LONGEST_TRAILING {
                notes.note(id, false, format!("not within {}", ms(LONGEST_TRAILING)));
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Opens the isolation group to a group of the drill, so that the function answers FAILED, and closes it again.
    async fn fail_an_update(
        &self,
        stage: &Stage,
        incident: &Incident,
        name: &str,
        notes: &mut Notes,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<(), Trouble> {
        let isolation = incident.groups.values().find(|group| group.role == Some(Role::Isolation));
        let (Some(isolation), Some(stack)) = (isolation, &incident.stack) else {
            return Err(broken("the drill's stack is gone"));
        };
        let from = &stage.groups[0];
        let shown = async |is_open: bool| self.shows_ingress(&isolation.id, is_open).await;
        self.ports
            .ec2
            .admit(&isolation.id, from)
            .await
            .map_err(failed("the isolation group cannot be opened or closed"))?;
        shown(true).await?;
        let before = self.events_of(&stack.id).await;
        let failing = self.isolate_once(stage, name, on_progress).await;
        self.ports
            .ec2
            .dismiss(&isolation.id, from)
            .await
            .map_err(failed("the isolation group cannot be opened or closed"))?;
        shown(false).await?;
        let failing = failing?;
        let status = failing.status.stack.status.clone().unwrap_or_default();
        let events = self.events_of(&stack.id).await;
        let new = events.get(before.len()..).unwrap_or_default();
        judge::failed_update(&status, new, notes);
        if !failing.failed {
            return Ok(());
        }
        let again = self.isolate_once(stage, name, on_progress).await?;
        let status = again.status.stack.status.clone().unwrap_or_default();
        notes.note("cfn-rollback-disabled-update-after-failure", !again.failed, status);
        check_isolated(&again)
    }

    /// Waits until EC2 shows the group with a way in, or without.
    async fn shows_ingress(&self, group: &GroupId, is_open: bool) -> Result<(), Trouble> {
        let looked = until(LONGEST_TRAILING, LOOK_EVERY, async || {
            let found = self.ports.ec2.groups(&GroupQuery::Ids(only(group))).await?;
            Ok(found.iter().all(|group| group.ingress.is_empty() != is_open))
        });
        looked.await.map(drop).map_err(super::super::incident::cannot_look)
    }

    async fn events_of(&self, stack: &str) -> Vec<StackEvent> {
        self.ports.stacks.events(stack).await.unwrap_or_default()
    }

    /// Takes a group away that the function would have to give back, so that it answers a Delete with FAILED; then gives the interface
    /// another one.
    async fn fail_a_deletion(&self, stage: &Stage, stack: &StackView, notes: &mut Notes) -> Result<(), Trouble> {
        let Stage { groups: [a, b], cards: [_, card], .. } = stage;
        let ec2 = &self.ports.ec2;
        ec2.delete_group(b).await.map_err(failed("a group of the drill cannot be deleted"))?;
        let stacks = &self.ports.stacks;
        stacks.protect(&stack.id, false).await.map_err(failed("termination protection cannot be turned off"))?;
        stacks.delete(&stack.id, &[]).await.map_err(failed("the stack cannot be deleted"))?;
        let after = self.settled(&stack.id).await?;
        let id = "cfn-failed-delete-status";
        let Some(after) = after else {
            notes.note(id, false, "gone");
            return Err(broken("the drill's stack was deleted although its function had to fail"));
        };
        let is_kept = after.isolation().is_some_and(|isolation| isolation.failed_to_delete());
        notes.note(id, after.status.status == "DELETE_FAILED" && is_kept, after.status.status.clone());
        ec2.set_groups(card, &only(a)).await.map_err(failed("the drill's interface cannot be moved"))
    }

    async fn judge_restore(&self, stage: &Stage, notes: &mut Notes) {
        let id = "own-restore-is-exact";
        // The group of the other one was deleted on purpose.
        let Stage { groups: [a, _], cards, .. } = stage;
        let ids = cards.iter().cloned().collect();
        let looked = until(LONGEST_TRAILING, LOOK_EVERY, async || {
            let found = self.ports.ec2.interfaces(&ids).await?;
            Ok(found.len() == cards.len() && found.iter().all(|card| card.groups == only(a)))
        });
        match looked.await {
            Ok(Some((time, _))) => notes.note(id, true, ms(time)),
            Ok(None) => notes.note(id, false, "others"),
            Err(error) => notes.note_failure(id, &error),
        }
    }

    async fn end_and_judge(&self, stack: &StackView, notes: &mut Notes) -> Result<(), Trouble> {
        let incident = self.incident(&Address::Stack(stack.id.clone())).await?;
        let groups: Groups = incident.groups.keys().cloned().collect();
        let ended = self.finish(&incident).await?;
        match self.ports.stacks.events(&stack.id).await {
            Ok(events) => judge::deletions(&events, notes),
            Err(error) => notes.note_failure("cfn-custom-resource-second-delete", &error),
        }
        if !ended.is_gone {
            return Err(broken(&format!("the drill's stack was not deleted: {}", ended.log.join("; "))));
        }
        let id = "cfn-gone-with-groups";
        match self.ports.ec2.groups(&GroupQuery::Ids(groups.clone())).await {
            Ok(found) => notes.note(id, found.is_empty(), format!("{} of {} groups shown", found.len(), groups.len())),
            Err(error) => notes.note_failure(id, &error),
        }
        Ok(())
    }
}

/// Fails if the drill's incident is not isolated: everything after it rests on that.
fn check_isolated(isolated: &Isolated) -> Result<(), Trouble> {
    if !isolated.failed && !isolated.status.is_anything_open() {
        return Ok(());
    }
    let failures = isolated.status.stack.failed.values().cloned();
    let open = isolated.status.not_isolated.iter().map(|open| open.reason.clone());
    let why: Vec<String> = failures.chain(open).collect();
    Err(broken(&format!("the drill's instance was not isolated: {}", why.join("; "))))
}
