//! What one request sets in motion: phases of observe, plan, carry out, and what there is to say afterwards.
//!
//! Every phase works towards the *intent* it reads, not towards its own event: invocations that overlap (a Delete that
//! overtakes a running Create, a duplicate, a retry) converge on what was asked last, whoever ends last.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use crate::answer::Message;
use crate::converge::{Blind, Patience, Phase, Settled, converge, persist};
use crate::event::Request;
use crate::execute::{Executor, Gate, Outcome};
use crate::model::{Desired, InstanceId, Intent, InterfaceId, Owner, Record, Release, Snapshots, State, VpcId, Wants};
use crate::plan::{
    Aim, Contained, Observed, Plan, Problem, Severity, StackStatus, Step, Tried, Verdict, Work, contain, may_release,
    may_restore, preserve, restore,
};
use crate::ports::{Call, CallError, Change, Fault, GroupQuery, Ledger, Look, Records, Stacks};
use crate::report::{Reconciled, Restored};

/// Faults are tried again for a minute: the SDK's own retries have taken their share before.
const FAULT_PATIENCE: Duration = Duration::from_secs(60);
/// IAM changes take seconds to arrive; a denial that lasts longer is meant.
const PERMISSION_PATIENCE: Duration = Duration::from_secs(20);
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
    /// ISO 8601 UTC.
    pub now: &'a str,
    /// A Create may run with a role made seconds ago.
    pub role_may_be_new: bool,
}

impl<E: Look + Change, R: Records, S: Stacks> Reconciler<'_, E, R, S> {
    /// Does what is asked, as far as it can be done, and says what became of it.
    pub async fn run(&self, request: Request) -> Message {
        match request {
            Request::Reconcile(wants) => self.pursue(Desired::Isolated(wants)).await,
            Request::Delete { on_rollback } => self.delete(on_rollback).await,
        }
    }

    async fn pursue(&self, mine: Desired) -> Message {
        let mut tried = Tried::new();
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
        Message::failure(
            "requests of this stack kept overtaking each other; deploy again with a new Rerun when they have ended",
        )
    }

    async fn reconcile(&self, wants: &Wants, intent: Announcement, tried: &mut Tried) -> Result<Message, Intent> {
        let mut contain = Contain { run: self, wants, intent, tried, contained: Contained::default() };
        let isolation = self.converge(&mut contain, self.patience()).await?;
        let contained = contain.contained;
        let blind = isolation.blind.is_some();
        let mut report = Reconciled::new(wants, &contained);
        report.settled.push(isolation);
        // Without its intent written and its isolation seen, nothing else of a request is done, least of all a release.
        if blind {
            return Ok(report.into_message());
        }

        if !contained.interfaces.is_empty() {
            let mut preserve = Preserve { run: self, wants, contained: &contained, ledger: Ledger::default() };
            let preservation = self.converge(&mut preserve, self.patience()).await?;
            report.settled.push(preservation);
            report.snapshots = snapshots(&preserve.ledger, wants);
        }
        self.release(wants, tried, &mut report).await?;
        Ok(report.into_message())
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
            report.kept = Some((ids, "OnRemoval is KeepIsolated".to_owned()));
            return Ok(());
        }
        match self
            .persist("cloudformation:DescribeStacks", || self.stack_chain())
            .await
            .map(|stacks| may_release(&stacks, wants.on_rollback))
        {
            Err(error) => {
                report.troubles.push(format!(
                    "{} stay isolated: the stack's status cannot be read: {error}; allow it, then deploy again with a new Rerun",
                    crate::model::comma_list(&ids)
                ));
            }
            Ok(Verdict::Keep(reason)) => {
                report.settled.push(self.mark_kept(&ids, &reason).await?);
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
        let ledger = match self.persist("dynamodb:Scan", || self.ports.records.read()).await {
            Ok(ledger) => ledger,
            Err(error) => {
                return Message::failure(format!("nothing was restored: the records cannot be read: {error}"));
            }
        };
        let verdict = self
            .persist("cloudformation:DescribeStacks", || self.stack_chain())
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
                let mut trouble = Vec::new();
                if let Err(error) = self
                    .persist("dynamodb:UpdateItem", || self.ports.records.write_kept(self.owner, &reason, self.now))
                    .await
                {
                    trouble.push(error.to_string());
                }
                match self.mark_kept(&ids, &reason).await {
                    Ok(settled) => {
                        trouble.extend(settled.failures.iter().map(|(step, error)| format!("{step}: {error}")))
                    }
                    Err(intent) => {
                        trouble.push(format!("a later request ({}) wants something else", intent.request_id))
                    }
                }
                crate::report::kept(&ids, &reason, trouble)
            }
            Err(error) => crate::report::undecided(&ids, &error),
        }
    }

    async fn restore_all(&self, intent: Announcement, tried: &mut Tried) -> Result<Message, Intent> {
        let mut restore = Restore::new(self, None, intent, tried);
        // A Delete that fails is not sent again while its function still exists: it tries until its time is up.
        let patience = Patience { for_faults: Duration::MAX, for_permission: Duration::ZERO };
        let settled = self.converge(&mut restore, patience).await?;
        Ok(restore.restored(settled).into_message())
    }

    async fn mark_kept(&self, ids: &BTreeSet<InstanceId>, reason: &str) -> Result<Settled, Intent> {
        let mut keep = Keep { run: self, ids, reason };
        self.converge(&mut keep, self.patience()).await
    }

    async fn converge<P: Phase>(&self, phase: &mut P, patience: Patience) -> Result<Settled, Intent> {
        let Self { ports, owner, gate, now, .. } = self;
        let executor = Executor { ec2: &ports.ec2, records: &ports.records, owner, gate, now };
        converge(phase, &executor, patience).await
    }

    /// A call on its own, with the patience of a phase.
    async fn persist<T, F>(&self, action: &'static str, call: impl Fn() -> F + Send + Sync) -> Call<T>
    where
        F: Future<Output = Call<T>> + Send,
    {
        persist(self.gate, self.patience(), action, call).await
    }

    fn patience(&self) -> Patience {
        let for_permission = if self.role_may_be_new { PERMISSION_PATIENCE } else { Duration::ZERO };
        Patience { for_faults: FAULT_PATIENCE, for_permission }
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
    async fn announce(&self, intent: Announcement, desired: &Desired) -> Result<(), Blind> {
        match intent {
            Announcement::Made => Ok(()),
            Announcement::Due => {
                let now = self.ports.records.write_intent(self.owner, self.request_id, desired, self.now).await?;
                if now.desired == *desired { Ok(()) } else { Err(Blind::Overtaken(Box::new(now))) }
            }
        }
    }

    /// Fails where a later request has said something else.
    fn check_intent(&self, ledger: &Ledger, desired: &Desired) -> Result<(), Blind> {
        match ledger.intents.get(&self.owner.digest()) {
            Some(intent) if intent.desired != *desired => Err(Blind::Overtaken(Box::new(intent.clone()))),
            _ => Ok(()),
        }
    }
}

/// Whether the intent of this request is still to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announcement {
    Due,
    Made,
}

/// Records of `owner` that are not only history.
fn held(ledger: &Ledger, owner: &Owner, which: impl Fn(&InstanceId) -> bool) -> Vec<Record> {
    let records = ledger.records.values().filter(|record| record.owner == *owner && record.state != State::Restored);
    records.filter(|record| which(&record.instance)).cloned().collect()
}

fn unreadable(ledger: &Ledger, which: impl Fn(&str) -> bool) -> Vec<Problem> {
    let items = ledger.unreadable.iter().filter(|(item, _)| which(item));
    items.map(|(item, reason)| Problem::Unreadable { item: item.clone(), reason: reason.clone() }).collect()
}

fn snapshots(ledger: &Ledger, wants: &Wants) -> Vec<String> {
    let records = wants.instances.iter().filter_map(|id| ledger.records.get(id));
    let taken = records.filter_map(|record| match &record.snapshots {
        Snapshots::Taken(set) => Some(set.values()),
        _ => None,
    });
    taken.flatten().map(ToString::to_string).collect()
}

fn index<K: Ord, V>(items: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    items.into_iter().map(|item| (key(&item), item)).collect()
}

/// Every wanted instance ends isolated. The first look takes one round trip; the intent is written beside it.
struct Contain<'a, 'r, E, R, S> {
    run: &'a Reconciler<'r, E, R, S>,
    wants: &'a Wants,
    intent: Announcement,
    tried: &'a mut Tried,
    contained: Contained,
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Contain<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        let desired = Desired::Isolated(self.wants.clone());
        let ids: BTreeSet<InstanceId> = self.wants.instances.iter().cloned().collect();
        let marked = GroupQuery::Marked(self.wants.vpc.clone());
        let named = GroupQuery::Ids([self.wants.isolation_group.clone()].into());
        let (instances, marked, named, ledger, ()) = tokio::try_join!(
            blind(ports.ec2.instances(&ids)),
            blind(ports.ec2.groups(&marked)),
            blind(ports.ec2.groups(&named)),
            blind(ports.records.read()),
            self.run.announce(self.intent, &desired),
        )?;
        // What was read beside the first writing of the intent may be older than it.
        if self.intent == Announcement::Made {
            self.run.check_intent(&ledger, &desired)?;
        }
        self.intent = Announcement::Made;
        let groups = marked.into_iter().chain(named).collect();
        let observed = Observed {
            instances: index(instances, |instance| instance.id.clone()),
            groups: index(groups, |group| group.id.clone()),
            ..Observed::default()
        };
        let (mut plan, contained) = contain(owner, self.wants, &ledger.records, &observed);
        plan.problems.extend(unreadable(&ledger, |item| ids.iter().any(|id| id.as_str() == item)));
        self.contained = contained;
        Ok(plan)
    }

    fn learn(&mut self, outcome: &Outcome) {
        if let Step::SetGroups { interface, aim, .. } = &outcome.step {
            self.tried.insert(interface.clone(), *aim);
        }
    }
}

async fn blind<T>(call: impl Future<Output = Call<T>>) -> Result<T, Blind> {
    call.await.map_err(Blind::Failed)
}

/// Marks, tags and snapshots of what is contained.
struct Preserve<'a, 'r, E, R, S> {
    run: &'a Reconciler<'r, E, R, S>,
    wants: &'a Wants,
    contained: &'a Contained,
    ledger: Ledger,
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Preserve<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        // Before the snapshots: a request for them that is not in the ledger yet cannot be looked up.
        self.ledger = ports.records.read().await?;
        self.run.check_intent(&self.ledger, &Desired::Isolated(self.wants.clone()))?;
        let ids = self.contained.touched();
        let records: Vec<&Record> = ids.iter().filter_map(|id| self.ledger.records.get(id)).collect();
        let interfaces: BTreeSet<InterfaceId> =
            records.iter().flat_map(|record| record.interfaces.keys().cloned()).collect();
        let requested = records.iter().filter(|record| record.snapshots == Snapshots::Requested);
        let episodes: BTreeSet<String> = requested.map(|record| record.episode()).collect();
        let (instances, interfaces, snapshots) = tokio::try_join!(
            ports.ec2.instances(&ids),
            ports.ec2.interfaces(&interfaces),
            ports.ec2.snapshots(&episodes),
        )?;
        let observed = Observed {
            instances: index(instances, |instance| instance.id.clone()),
            interfaces: index(interfaces, |interface| interface.id.clone()),
            snapshots,
            ..Observed::default()
        };
        let intent = self.ledger.intents.get(&owner.digest());
        let kept = intent.and_then(|intent| intent.kept.as_deref());
        Ok(preserve(owner, self.wants, self.contained, kept, &self.ledger.records, &observed))
    }
}

/// Records get their interfaces back: all of the owner's, or those that are no longer wanted.
struct Restore<'a, 'r, E, R, S> {
    run: &'a Reconciler<'r, E, R, S>,
    /// What stays isolated; nothing on a Delete.
    keep: Option<&'a Wants>,
    intent: Announcement,
    /// What there was to restore, and what still is.
    all: BTreeSet<InstanceId>,
    open: BTreeSet<InstanceId>,
    tried: &'a mut Tried,
    /// Notes go with the look that made them; what was done must not go unsaid.
    notes: BTreeSet<Problem>,
}

impl<'a, 'r, E: Look + Change, R: Records, S: Stacks> Restore<'a, 'r, E, R, S> {
    fn new(
        run: &'a Reconciler<'r, E, R, S>,
        keep: Option<&'a Wants>,
        intent: Announcement,
        tried: &'a mut Tried,
    ) -> Self {
        let (all, open, notes) = Default::default();
        Self { run, keep, intent, all, open, tried, notes }
    }

    fn is_to_be_restored(&self, record: &Record) -> bool {
        record.owner == *self.run.owner && !self.keep.is_some_and(|wants| wants.instances.contains(&record.instance))
    }

    fn restored(self, mut settled: Settled) -> Restored {
        settled.failures.retain(|(step, error)| !is_moot(step, error));
        settled.problems.extend(self.notes);
        settled.problems.sort();
        settled.problems.dedup();
        Restored { restored: self.all.difference(&self.open).cloned().collect(), open: self.open, settled }
    }
}

/// EC2 refused to write what the interface already has: it was never changed.
fn is_moot(step: &Step, error: &CallError) -> bool {
    matches!(step, Step::SetGroups { aim: Aim::Confirm, .. }) && matches!(error.fault, Fault::Denied | Fault::Refused)
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Restore<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        let desired = self.keep.map_or(Desired::Restored, |wants| Desired::Isolated(wants.clone()));
        self.run.announce(self.intent, &desired).await?;
        self.intent = Announcement::Made;
        let ledger = ports.records.read().await?;
        self.run.check_intent(&ledger, &desired)?;
        let records: Vec<Record> =
            ledger.records.values().filter(|record| self.is_to_be_restored(record)).cloned().collect();
        self.open = records
            .iter()
            .filter(|record| record.state != State::Restored)
            .map(|record| record.instance.clone())
            .collect();
        if records.is_empty() {
            return Ok(Plan { work: vec![], problems: unreadable(&ledger, |_| true) });
        }
        let instances = records.iter().map(|record| record.instance.clone()).collect();
        let interfaces = records.iter().flat_map(|record| record.interfaces.keys().cloned()).collect();
        let originals = records.iter().flat_map(|record| record.interfaces.values().flatten().cloned());
        let groups =
            GroupQuery::Ids(originals.chain(records.iter().map(|record| record.isolation_group.clone())).collect());
        let vpcs: BTreeSet<VpcId> = records.iter().map(|record| record.vpc.clone()).collect();
        let marked = futures_util::future::try_join_all(
            vpcs.into_iter().map(|vpc| async move { ports.ec2.groups(&GroupQuery::Marked(vpc)).await }),
        );
        let (instances, interfaces, groups, marked) = tokio::try_join!(
            ports.ec2.instances(&instances),
            ports.ec2.interfaces(&interfaces),
            ports.ec2.groups(&groups),
            marked,
        )?;
        let observed = Observed {
            instances: index(instances, |instance| instance.id.clone()),
            interfaces: index(interfaces, |interface| interface.id.clone()),
            groups: index(marked.into_iter().flatten().chain(groups).collect(), |group| group.id.clone()),
            ..Observed::default()
        };
        let mut plan = restore(owner, &index(records, |record| record.instance.clone()), &observed, self.tried);
        self.open.extend(plan.steps().filter_map(|step| step.instance().cloned()));
        self.all.extend(self.open.iter().cloned());
        plan.problems.extend(unreadable(&ledger, |_| true));
        let notes = plan.problems.iter().filter(|problem| problem.severity() == Severity::Note);
        self.notes.extend(notes.cloned());
        Ok(plan)
    }

    fn learn(&mut self, outcome: &Outcome) {
        let Outcome { step, result } = outcome;
        let done = result.as_ref().map_or_else(|error| is_moot(step, error), |_| true);
        if let Step::SetGroups { interface, aim, .. } = step
            && done
        {
            self.tried.insert(interface.clone(), *aim);
        }
    }
}

/// Records that a Delete leaves isolated are marked with the reason; nothing else is changed.
struct Keep<'a, 'r, E, R, S> {
    run: &'a Reconciler<'r, E, R, S>,
    ids: &'a BTreeSet<InstanceId>,
    reason: &'a str,
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Keep<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let ledger = self.run.ports.records.read().await?;
        let records = held(&ledger, self.run.owner, |id| self.ids.contains(id));
        let open = records.into_iter().filter(|record| record.state != State::Kept);
        let work = open.map(|record| {
            let reason = Some(self.reason.to_owned());
            Work { first: None, then: vec![Step::Mark { instance: record.instance, state: State::Kept, reason }] }
        });
        Ok(Plan { work: work.collect(), problems: vec![] })
    }
}
