//! What one request sets in motion: phases of observe, plan, carry out, and what there is to say afterwards.
//!
//! Every phase works towards the *intent* it reads, not towards its own event: invocations that overlap (a Delete that
//! overtakes a running Create, a duplicate, a retry) converge on what was asked last, whoever ends last.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use crate::cloudformation::answer::Message;
use crate::cloudformation::event::Request;
use crate::converge::{Blind, Patience, Phase, Settled, converge, persist};
use crate::execute::{Executor, Exit};
use crate::model::{
    Desired, InstanceId, Intent, InterfaceId, Owner, Record, Release, Snapshots, State, Wants, comma_list,
};
use crate::phases::{Announcement, Contain, Keep, Preserve, Restore};
use crate::plan::{Contained, Problem, StackStatus, Tried, Verdict, may_release, may_restore};
use crate::ports::{Call, Change, Ledger, Look, Records, Stacks};
use crate::report::{Reconciled, Restored, kept, undecided};
use crate::timing::clock::Clock;
use crate::timing::gate::Gate;
use crate::timing::pace::Pace;

/// Faults are tried again for a minute: the SDK's own retries have taken their share before.
const FAULT_PATIENCE: Duration = Duration::from_secs(60);
/// IAM changes take seconds to arrive; a denial that lasts longer is meant. A Create may run with a role made a moment ago.
const NEW_ROLE_PATIENCE: Duration = Duration::from_secs(20);
/// An Update may run with rights that the role was just given.
const NEW_RIGHT_PATIENCE: Duration = Duration::from_secs(8);
/// A Delete that fails is not sent again while its function still exists: it tries until its time is up.
const TO_THE_END: Patience = Patience { for_faults: Duration::MAX, for_permission: Duration::ZERO };
/// Somebody sits before it: a fault that lasts is told rather than waited for.
pub(crate) const OPERATORS_PATIENCE: Patience = Patience { for_faults: FAULT_PATIENCE, for_permission: Duration::ZERO };
/// Nested stacks nest a few levels deep; a chain longer than this is a mistake.
const DEEPEST_NESTING: usize = 20;
/// Requests that overtake each other without end are somebody's loop.
const MOST_TURNS: usize = 10;

/// The ports of one process.
#[derive(Debug)]
pub struct Ports<E, R, S> {
    pub ec2: E,
    pub records: R,
    pub stacks: S,
}

/// One request of one owner.
#[derive(Debug)]
pub struct Reconciler<'a, E, R, S> {
    pub ports: &'a Ports<E, R, S>,
    pub owner: &'a Owner,
    pub request_id: &'a str,
    pub gate: &'a Gate,
    pub pace: &'a Pace,
    pub clock: &'a Clock,
    /// Who or what asked, as the history of the records says it.
    pub asked_by: &'a str,
    /// How long a denial is doubted.
    pub permission_patience: Duration,
}

/// How long a request of this type doubts a denial.
#[must_use]
pub fn permission_patience(request_type: &str) -> Duration {
    match request_type {
        "Create" => NEW_ROLE_PATIENCE,
        "Update" => NEW_RIGHT_PATIENCE,
        _ => Duration::ZERO,
    }
}

impl<E: Look + Change, R: Records, S: Stacks> Reconciler<'_, E, R, S> {
    /// Does what is asked, as far as it can be done, and says what became of it.
    pub async fn run(&self, request: Request) -> Message {
        match request {
            Request::Reconcile(wants) => self.pursue(Desired::Isolated(Box::new(wants))).await,
            Request::Rehearse(wants) => self.rehearse(&wants).await,
            Request::Delete { on_rollback } => self.delete(on_rollback).await,
        }
    }

    async fn pursue(&self, mine: Desired) -> Message {
        let mut tried = Tried::default();
        let mut desired = mine;
        let mut overtaken_by = None;
        for _ in 0..MOST_TURNS {
            let intent = if overtaken_by.is_none() { Announcement::Due } else { Announcement::Made };
            let result = match &desired {
                Desired::Isolated(wants) => self.reconcile(wants, intent, &mut tried).await,
                Desired::Restored => self.restore_all(intent, &mut tried).await,
            };
            match result {
                Ok(message) => return message.overtaken_by(overtaken_by.as_deref()),
                Err(intent) => {
                    tracing::warn!(request = %intent.request_id, "a later request wants something else");
                    desired = intent.desired;
                    overtaken_by = Some(intent.request_id);
                }
            }
        }
        Message::failure("requests of this stack kept overtaking each other; wait until they have ended")
    }

    async fn reconcile(&self, wants: &Wants, mut intent: Announcement, tried: &mut Tried) -> Result<Message, Intent> {
        for _ in 0..MOST_TURNS {
            if let Some(message) = self.isolate(wants, intent, tried).await? {
                return Ok(message);
            }
            tracing::warn!("what was isolated no longer is");
            intent = Announcement::Made;
        }
        Ok(Message::failure(
            "what is isolated keeps being changed by somebody else: find out who (CloudTrail, ModifyNetworkInterfaceAttribute)",
        ))
    }

    /// Nothing where what was isolated was undone meanwhile.
    async fn isolate(&self, wants: &Wants, intent: Announcement, tried: &mut Tried) -> Result<Option<Message>, Intent> {
        let mut contain = Contain::new(self, wants, intent, tried);
        let isolation = self.converge(&mut contain, self.patience()).await?;
        let (mut isolation, mut contained) = contain.done(isolation);
        let blind = isolation.blind.is_some();
        if !blind {
            isolation.problems.extend(self.name_branches(wants, &mut contained).await);
        }
        let mut report = Reconciled::new(wants, &contained, isolation);
        // Without its intent written and its isolation seen, nothing else of a request is done, least of all a release.
        if blind {
            return Ok(Some(report.into_message()));
        }

        if !contained.interfaces.is_empty() {
            let mut preserve = Preserve::new(self, wants, &contained, tried);
            let preservation = self.converge(&mut preserve, self.patience()).await?;
            if preserve.is_undone {
                return Ok(None);
            }
            report.preservation.push(preservation);
            report.snapshots = snapshots(&preserve.ledger, wants);
        }
        self.release(wants, tried, &mut report).await?;
        Ok(Some(report.into_message()))
    }

    /// Branch interfaces are found by the trunks that were seen, once everything attached is isolated.
    pub(crate) async fn name_branches(&self, wants: &Wants, contained: &mut Contained) -> Vec<Problem> {
        let trunks: BTreeSet<InterfaceId> = contained.trunks.keys().cloned().collect();
        if trunks.is_empty() {
            return vec![];
        }
        match self.persist("ec2:DescribeNetworkInterfaces", || self.ports.ec2.branches(&trunks)).await {
            Ok(branches) => contained.with_branches(wants, branches),
            Err(error) => vec![Problem::BranchesUnknown { trunks, reason: error.to_string() }],
        }
    }

    /// Instances of ours that are no longer listed: kept, or restored where that is asked for and the stack is not rolling back.
    async fn release(&self, wants: &Wants, tried: &mut Tried, report: &mut Reconciled<'_>) -> Result<(), Intent> {
        let removed = match self.persist("dynamodb:Scan", || self.ports.records.read()).await {
            Ok(ledger) => held(&ledger, self.owner, |id| !wants.instances.contains(id)),
            Err(error) => {
                report.troubles.push(format!("cannot tell what is no longer listed: {error}"));
                return Ok(());
            }
        };
        if removed.is_empty() {
            return Ok(());
        }
        let ids: BTreeSet<InstanceId> = removed.iter().map(|record| record.instance.clone()).collect();
        if wants.on_removal == Release::KeepIsolated {
            report.preservation.push(self.keep(&ids, None, tried).await?);
            report.kept = Some((ids, "OnRemoval is KeepIsolated".to_owned()));
            return Ok(());
        }
        match self
            .persist("cloudformation:DescribeStacks", || self.stack_chain())
            .await
            .map(|stacks| may_release(&stacks, wants.on_rollback))
        {
            Err(error) => {
                report
                    .troubles
                    .push(format!("{} still isolated: the stack's status cannot be read: {error}", comma_list(&ids)));
            }
            Ok(Verdict::Keep(reason)) => {
                report.preservation.push(self.keep(&ids, Some(&reason), tried).await?);
                report.kept = Some((ids, reason));
            }
            Ok(Verdict::Restore) => {
                let mut restore = Restore::new(self, Some(wants), Announcement::Made, tried);
                let settled = self.converge(&mut restore, self.patience()).await?;
                report.restored = restore.restored(settled);
            }
        }
        Ok(())
    }

    async fn delete(&self, on_rollback: Release) -> Message {
        let ledger = match persist(self.gate, TO_THE_END, "dynamodb:Scan", || self.ports.records.read()).await {
            Ok(ledger) => ledger,
            Err(error) => {
                return Message::failure(format!("nothing was restored: the records cannot be read: {error}"));
            }
        };
        let verdict = persist(self.gate, TO_THE_END, "cloudformation:DescribeStacks", || self.stack_chain())
            .await
            .map(|stacks| may_restore(&stacks, on_rollback));
        let held = held(&ledger, self.owner, |_| true);
        let ids: BTreeSet<InstanceId> = held.into_iter().map(|record| record.instance).collect();
        let nothing_is_held = ids.is_empty() && ledger.unreadable.is_empty();
        match verdict {
            Ok(Verdict::Restore) => self.pursue(Desired::Restored).await,
            // Whatever the stack is doing, there is nothing to release.
            _ if nothing_is_held => Restored::default().into_message(),
            Ok(Verdict::Keep(reason)) => {
                let (mut trouble, now) = (Vec::new(), self.clock.now());
                if let Err(error) = self
                    .persist("dynamodb:UpdateItem", || self.ports.records.write_kept(self.owner, &reason, &now))
                    .await
                {
                    trouble.push(error.to_string());
                }
                match self.keep(&ids, Some(&reason), &mut Tried::default()).await {
                    Ok(settled) => kept(&ids, &reason, trouble, &settled, self.ports.records.name()),
                    Err(intent) => {
                        trouble.push(format!("a later request ({}) wants something else", intent.request_id));
                        kept(&ids, &reason, trouble, &Settled::default(), self.ports.records.name())
                    }
                }
            }
            Err(error) => undecided(&ids, &error),
        }
    }

    async fn restore_all(&self, intent: Announcement, tried: &mut Tried) -> Result<Message, Intent> {
        let mut restore = Restore::new(self, None, intent, tried);
        let settled = self.converge(&mut restore, TO_THE_END).await?;
        Ok(restore.restored(settled).into_message())
    }

    /// Restores what an operator asks for, whatever the stack is doing: `only` these instances, or all where that is empty.
    ///
    /// # Errors
    /// The intent of a later request, which wants something else.
    pub async fn restore(&self, only: &BTreeSet<InstanceId>) -> Result<Restored, Intent> {
        let keep = match only.is_empty() {
            true => None,
            false => match self.wants_without(only).await {
                Ok(keep) => keep,
                Err(error) => {
                    let settled = Settled { blind: Some(error), ..Settled::default() };
                    return Ok(Restored { open: only.clone(), settled, ..Restored::default() });
                }
            },
        };
        let mut tried = Tried::default();
        let mut restore = Restore::new(self, keep.as_ref(), Announcement::Due, &mut tried);
        restore.only = (!only.is_empty()).then_some(only);
        let settled = self.converge(&mut restore, OPERATORS_PATIENCE).await?;
        Ok(restore.restored(settled))
    }

    /// What the latest request wants less these instances, so that nobody isolates them again, and the others stay.
    async fn wants_without(&self, only: &BTreeSet<InstanceId>) -> Call<Option<Wants>> {
        let ledger = self.persist("dynamodb:Scan", || self.ports.records.read()).await?;
        let desired = ledger.intents.get(&self.owner.digest()).map(|intent| intent.desired.clone());
        Ok(match desired {
            Some(Desired::Isolated(mut wants)) => {
                wants.instances.retain(|id| !only.contains(id));
                Some(*wants)
            }
            _ => None,
        })
    }

    async fn keep(
        &self,
        ids: &BTreeSet<InstanceId>,
        reason: Option<&str>,
        tried: &mut Tried,
    ) -> Result<Settled, Intent> {
        let mut keep = Keep { run: self, ids, reason, tried };
        let settled = self.converge(&mut keep, self.patience()).await?;
        Ok(keep.kept(settled))
    }

    async fn converge<P: Phase>(&self, phase: &mut P, patience: Patience) -> Result<Settled, Intent> {
        let Self { ports, owner, gate, clock, asked_by, pace, .. } = self;
        let (ec2, records, exit) = (&ports.ec2, &ports.records, Exit::default());
        let executor = Executor { ec2, records, owner, gate, clock, asked_by, exit, pace };
        converge(phase, &executor, patience).await
    }

    /// A call on its own, with the patience of a phase.
    pub(crate) async fn persist<T, F>(&self, action: &'static str, call: impl Fn() -> F + Send + Sync) -> Call<T>
    where
        F: Future<Output = Call<T>> + Send,
    {
        persist(self.gate, self.patience(), action, call).await
    }

    fn patience(&self) -> Patience {
        Patience { for_faults: FAULT_PATIENCE, for_permission: self.permission_patience }
    }

    /// The stack's own status, then its ancestors'.
    async fn stack_chain(&self) -> Call<Vec<StackStatus>> {
        let mut chain = Vec::new();
        let mut next = Some(self.owner.stack_id.clone());
        while let Some(id) = next.filter(|_| chain.len() < DEEPEST_NESTING) {
            let stack = self.ports.stacks.status(&id).await?;
            next = stack.parent.clone();
            chain.push(stack);
        }
        Ok(chain)
    }

    /// Says what is wanted, once, and fails where a later request has said something else.
    pub(crate) async fn announce(&self, intent: Announcement, desired: &Desired) -> Result<(), Blind> {
        match intent {
            Announcement::Made => Ok(()),
            Announcement::Due => {
                let now =
                    self.ports.records.write_intent(self.owner, self.request_id, desired, &self.clock.now()).await?;
                if now.desired == *desired { Ok(()) } else { Err(Blind::Overtaken(Box::new(now))) }
            }
        }
    }

    /// Fails where a later request has said something else.
    pub(crate) fn check_intent(&self, ledger: &Ledger, desired: &Desired) -> Result<(), Blind> {
        match ledger.intents.get(&self.owner.digest()) {
            Some(intent) if intent.desired != *desired => Err(Blind::Overtaken(Box::new(intent.clone()))),
            _ => Ok(()),
        }
    }
}

/// Records of `owner` that are not only history.
pub(crate) fn held(ledger: &Ledger, owner: &Owner, which: impl Fn(&InstanceId) -> bool) -> Vec<Record> {
    let records = ledger.records.values().filter(|record| record.owner == *owner && record.state != State::Restored);
    records.filter(|record| which(&record.instance)).cloned().collect()
}

fn snapshots(ledger: &Ledger, wants: &Wants) -> Vec<String> {
    let records = wants.instances.iter().filter_map(|id| ledger.records.get(id));
    let taken = records.filter_map(|record| match &record.snapshots {
        Snapshots::Taken(set) => Some(set.values()),
        _ => None,
    });
    taken.flatten().map(ToString::to_string).collect()
}
