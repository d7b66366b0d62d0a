//! From a request to what became of it: every instance has its loop, then all are looked at once more. Knows no CloudFormation.
//!
//! Every loop works towards the *intent*, which holds what was asked last: **nothing is isolated for a request that has been
//! overtaken**, and whatever ends or dies last, what was asked last is what is.

pub mod contained;
mod dry_run;
pub(crate) mod instance;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::execute::{Executor, Mandate};
use crate::model::{
    CallError, Desired, Fault, InstanceId, Intent, InterfaceId, Owner, Record, Release, State, Time, Wants,
};
use crate::observe::Observer;
use crate::plan::{Goal, Heritage, Patience, Reach, Records as Known, Severity, Step, pause};
use crate::ports::{Asked, Call, Change, Guard, Look, Records, Verdict, Written};
use crate::timing::clock::Clock;
use crate::timing::gate::{Gate, out_of_time};
use crate::timing::pace::Pace;

pub use dry_run::Sight;
use instance::{Announced, Run, Subject};
use report::{Asker, Isolated, LookedAfter, Report, Restored, kept, overtaken};

/// Faults are tried again for a minute: the SDK's own retries have taken their share before.
const FOR_FAULTS: Duration = Duration::from_secs(60);
/// An incident is listed as open after this long, though nothing was recorded yet.
const LISTED: Duration = Duration::from_secs(5);
/// What takes longer may take much longer.
const SOON: Duration = Duration::from_secs(2);

/// A Delete that fails is not sent again while its function still exists: it tries until its time is up.
pub const TO_THE_END: Patience = Patience { for_faults: Duration::MAX, for_permission: Duration::ZERO };

/// One request of one owner.
#[derive(Debug)]
pub struct Reconciler<'a, E, R> {
    pub ec2: &'a E,
    pub records: &'a R,
    pub owner: &'a Owner,
    pub request_id: &'a str,
    /// When the request was issued, if that is known.
    pub issued: Option<Time>,
    /// This invocation, as no other is named.
    pub writer: &'a str,
    pub gate: &'a Gate,
    pub pace: &'a Pace,
    pub clock: &'a Clock,
    /// Who or what asked, as the history of the records says it.
    pub asked_by: &'a str,
    /// Who is told what to do about a denial.
    pub asker: Asker,
    /// How long a denial is doubted.
    pub for_permission: Duration,
}

/// Why a Delete leaves everything isolated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Nothing asks for the isolation any more: the records say so.
    Over(String),
    /// The stack goes on asking for it.
    GoesOn(String),
    /// Whether the stack is being deleted cannot be read.
    Unknown(CallError),
}

/// What became of interfaces that were to be isolated again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Again {
    pub isolated: BTreeSet<InterfaceId>,
    pub failures: Vec<String>,
    /// The request that has been here meanwhile.
    pub overtaken_by: Option<String>,
}

/// What follows from the intent once it is written.
#[derive(Debug, Clone, Copy)]
enum Then<'a> {
    Nothing,
    /// What is held and no longer listed stays so, or is restored if that is allowed.
    Remove(Release, &'a dyn Guard),
    /// Everything that is held is restored.
    RestoreAll,
    /// `only` these are, or `all` that were seen if that is empty.
    Restore {
        all: &'a BTreeSet<InstanceId>,
        only: &'a BTreeSet<InstanceId>,
    },
}

/// What an invocation has read and written when its loops have ended.
struct Ended<'s> {
    subjects: Vec<Subject<'s>>,
    /// Whether what is no longer listed may be restored, if there is any.
    verdict: Option<Call<Verdict>>,
    /// The records as they were read last.
    known: Arc<Known>,
    /// The request that overtook this one.
    overtaken_by: Option<String>,
    /// Why the intent could not be written: nothing was done.
    unannounced: Option<CallError>,
}

impl<E: Look + Change, R: Records> Reconciler<'_, E, R> {
    /// The watch: these interfaces of listed instances end isolated, and nothing else is changed. It goes on with the request that
    /// asked for `wants` last, and stops where another one has been here since.
    pub async fn isolate_only(&self, wants: &Wants, interfaces: &BTreeMap<InstanceId, BTreeSet<InterfaceId>>) -> Again {
        let desired = Desired::Isolated(Box::new(wants.clone()));
        let stays: BTreeSet<InstanceId> = wants.instances.iter().cloned().collect();
        // Nothing is opened for it, not even for as long as it takes to cut connections.
        let bare = Wants {
            cut_connections: false,
            transit_group: None,
            snapshot_volumes: false,
            protect: false,
            detach_profile: false,
            disable_metadata: false,
            ..wants.clone()
        };
        let only: BTreeSet<InterfaceId> = interfaces.values().flatten().cloned().collect();
        let goals = interfaces.keys().map(|id| (id.clone(), Goal::Isolate(&bare))).collect();
        let ended = self.run(Some(&desired), (&stays, Some(&only)), goals, self.patience(), Then::Nothing).await;
        let isolated = ended.subjects.iter().flat_map(|subject| &subject.plan.standing.isolated);
        let failures = ended.subjects.iter().flat_map(|subject| {
            let steps = subject.failures().into_iter().map(|(step, error)| format!("{step}: {error}"));
            let blind = subject.blind.iter().map(|error| format!("{}: {error}", subject.instance));
            steps.chain(blind).collect::<Vec<_>>()
        });
        Again {
            isolated: isolated.filter(|id| only.contains(*id)).cloned().collect(),
            failures: failures.chain(ended.unannounced.iter().map(ToString::to_string)).collect(),
            overtaken_by: ended.overtaken_by,
        }
    }

    /// Create and Update: every listed instance ends isolated; what is held and no longer listed stays so, or is restored if the
    /// `guard` allows it.
    pub async fn isolate(&self, wants: &Wants, guard: &dyn Guard) -> Report {
        let desired = Desired::Isolated(Box::new(wants.clone()));
        let stays: BTreeSet<InstanceId> = wants.instances.iter().cloned().collect();
        let listed = wants.instances.iter().map(|id| (id.clone(), Goal::Isolate(wants))).collect();
        let then = Then::Remove(wants.on_removal, guard);
        let ended = self.run(Some(&desired), (&stays, None), listed, self.patience(), then).await;
        self.release(&ended, false).await;
        let Ended { subjects, verdict, unannounced, overtaken_by, .. } = ended;
        let ended = Isolated { asker: self.asker, wants, ended: &subjects, verdict, unannounced: unannounced.as_ref() };
        let report = ended.report();
        match overtaken_by {
            Some(request) => Report { details: report.details, ..overtaken(&request) },
            None => report,
        }
    }

    /// What follows from the intent for instances that were not begun with, and the verdict on those that are no longer listed.
    async fn follow(
        &self,
        then: Then<'_>,
        stays: &BTreeSet<InstanceId>,
        intent: &Intent,
    ) -> (Vec<(InstanceId, Goal<'static>)>, Option<Call<Verdict>>) {
        let with =
            |ids: BTreeSet<InstanceId>, goal: Goal<'static>| ids.into_iter().map(|id| (id, goal.clone())).collect();
        match then {
            Then::Nothing => (vec![], None),
            Then::Remove(on_removal, guard) => {
                let removed: BTreeSet<InstanceId> = intent.held.difference(stays).cloned().collect();
                if removed.is_empty() {
                    return (vec![], None);
                }
                let (goal, verdict) = self.fate(on_removal, guard).await;
                (with(removed, goal), Some(verdict))
            }
            Then::RestoreAll => (with(intent.held.clone(), Goal::Restore), None),
            Then::Restore { all, only } => {
                let held = intent.held.union(all).cloned();
                let meant = if !only.is_empty() {
                    held.filter(|id| only.contains(id)).collect()
                } else {
                    // No overtaken request records any more. What cannot be read is not restored either.
                    match self.persist(self.patience(), || self.recorded_since(Some(intent), all)).await {
                        Ok(since) => held.filter(|id| !since.contains(id)).collect(),
                        Err(_) => all.clone(),
                    }
                };
                (with(meant, Goal::Restore), None)
            }
        }
    }

    /// What becomes of instances that are held and no longer listed, and who says so.
    async fn fate(&self, on_removal: Release, guard: &dyn Guard) -> (Goal<'static>, Call<Verdict>) {
        if on_removal == Release::KeepIsolated {
            return (Goal::Keep(None), Ok(Verdict::Keep("OnRemoval is KeepIsolated".to_owned())));
        }
        let (verdict, _) = self.clearing(self.persist(self.patience(), || guard.may_release())).await;
        let goal = match &verdict {
            Ok(Verdict::Restore) => Goal::Restore,
            Ok(Verdict::Keep(why)) => Goal::Keep(Some(why.clone())),
            Err(_) => Goal::Keep(None),
        };
        (goal, verdict)
    }

    /// Delete: every instance that the owner holds ends restored.
    pub async fn restore_all(&self) -> Report {
        match self.restore_with(&Desired::Restored, &BTreeSet::new(), TO_THE_END, Then::RestoreAll).await {
            Ok(restored) => restored.report(),
            Err(request) => overtaken(&request),
        }
    }

    /// Restores what an operator asks for, whatever the stack is doing: `only` these instances, or all if that is empty.
    /// `all` are the instances that the table held for the owner when the operator was shown them. **One that has been recorded
    /// since stays isolated**, because the operator has not seen it.
    ///
    /// # Errors
    /// The id of the request that wants something else.
    pub async fn restore(&self, all: &BTreeSet<InstanceId>, only: &BTreeSet<InstanceId>) -> Result<Restored, String> {
        let patience = self.patience();
        let intent = match self.persist(patience, || self.mended_intent(Some(all))).await {
            Ok(intent) => intent,
            Err(error) => return Ok(Restored::unread(self.asker, error, only)),
        };
        let since = match self.persist(patience, || self.recorded_since(intent.as_ref(), all)).await {
            Ok(since) => since,
            Err(error) => return Ok(Restored::unread(self.asker, error, only)),
        };
        let meant = if only.is_empty() { all } else { only };
        let is_all = only.is_empty() && since.is_empty();
        // So that nobody isolates them again, and the others stay.
        let desired = match intent.map(|intent| intent.desired) {
            Some(Desired::Isolated(mut wants)) if !is_all => {
                wants.instances.retain(|id| !meant.contains(id));
                Desired::Isolated(wants)
            }
            Some(Desired::Unknown(reason)) if !is_all => {
                return Ok(Restored::unread(self.asker, unreadable(reason), meant));
            }
            _ => Desired::Restored,
        };
        let stays = if is_all { BTreeSet::new() } else { all.difference(meant).chain(&since).cloned().collect() };
        self.restore_with(&desired, &stays, patience, Then::Restore { all, only }).await
    }

    /// Those that the owner has recorded and that are not among `all`.
    async fn recorded_since(&self, intent: Option<&Intent>, all: &BTreeSet<InstanceId>) -> Call<BTreeSet<InstanceId>> {
        let held = intent.into_iter().flat_map(|intent| &intent.held);
        let others: BTreeSet<InstanceId> = held.filter(|id| !all.contains(*id)).cloned().collect();
        if others.is_empty() {
            return Ok(others);
        }
        let mut records = self.records.read(self.owner, &others).await?.records;
        records.retain(|_, record| record.owner == *self.owner && record.state != State::Restored);
        Ok(records.into_keys().collect())
    }

    /// A Delete that must not release: nothing is left in the transit group, and the records say why they are kept, if they are
    /// from now on.
    pub async fn keep(&self, ids: &BTreeSet<InstanceId>, why: Why) -> Report {
        let reason = if let Why::Over(reason) = &why { Some(reason) } else { None };
        let writing = async {
            let Some(reason) = reason else { return Ok(()) };
            let asked = self.asked(&Desired::Restored);
            let now = self.clock.now();
            self.persist(self.patience(), || self.records.write_kept(&asked, reason, now)).await
        };
        let goals = ids.iter().map(|id| (id.clone(), Goal::Keep(reason.cloned())));
        let keeping = self.run(None, (ids, None), goals.collect(), self.patience(), Then::Nothing);
        let (written, ended) = tokio::join!(writing, keeping);
        let mut troubles: Vec<String> = written.err().map(|error| error.to_string()).into_iter().collect();
        // What was renamed meanwhile leaves nothing behind: another resource of the stack goes on with the rest.
        let of = |owner: &Owner| owner != self.owner && owner.stack_id == self.owner.stack_id;
        if let Some(successor) = ended.known.values().map(|record| &record.owner).find(|owner| of(owner)) {
            let holding = || self.records.hold(successor, ids);
            troubles.extend(self.persist(self.patience(), holding).await.err().map(|error| error.to_string()));
        }
        kept(self.asker, ids, &why, troubles, &ended.subjects, self.records.name())
    }

    /// Does what everything else waits for. If that takes long or fails, **what was left in the transit group is taken out of it
    /// meanwhile**, since that group is open to everybody. How the instances stand then that were looked at for that.
    pub(crate) async fn clearing<T>(&self, work: impl Future<Output = Call<T>>) -> (Call<T>, Vec<Subject<'static>>) {
        tokio::pin!(work);
        match tokio::time::timeout(SOON, &mut work).await {
            Ok(Ok(done)) => (Ok(done), vec![]),
            Ok(Err(error)) => (Err(error), self.clear().await),
            Err(_) => tokio::join!(work, self.clear()),
        }
    }

    /// For a request of which nothing is done: **what one that died left in the transit group is taken out of it.**
    pub async fn look_after(&self) -> LookedAfter {
        let held = match self.persist(self.patience(), || self.mended_intent(None)).await {
            Ok(intent) => intent.map(|intent| intent.held).unwrap_or_default(),
            Err(error) => return LookedAfter::of(self.asker, &[], Some(&error)),
        };
        let goals = held.iter().map(|id| (id.clone(), Goal::Keep(None))).collect();
        let ended = self.run(None, (&held, None), goals, self.patience(), Then::Nothing).await;
        LookedAfter::of(self.asker, &ended.subjects, ended.unannounced.as_ref())
    }

    async fn clear(&self) -> Vec<Subject<'static>> {
        let Some(Ok(Some(intent))) = self.gate.while_open(self.mended_intent(None)).await else { return vec![] };
        let run = self.by_steps(&intent.held);
        let mut subjects: Vec<_> = intent.held.iter().map(|id| Subject::new(id.clone(), Goal::Keep(None))).collect();
        join_all(subjects.iter_mut().map(|subject| run.clear(subject))).await;
        subjects
    }

    /// Moves instances whose records were copied under the owner; they stay isolated throughout. Those that are not settled, and
    /// what failed.
    pub async fn adopt(
        &self,
        heritage: &Heritage<'_>,
        ids: &BTreeSet<InstanceId>,
    ) -> (BTreeSet<InstanceId>, Vec<String>) {
        let goals = ids.iter().map(|id| (id.clone(), Goal::Adopt(heritage)));
        let ended = self.run(None, (ids, None), goals.collect(), self.patience(), Then::Nothing).await;
        let (mut unsettled, mut details) = (BTreeSet::new(), Vec::new());
        for subject in &ended.subjects {
            let has_failed = subject.failures().iter().any(|(step, _)| !matches!(step, Step::Tag { .. }));
            let is_hindered = subject.plan.problems.iter().any(|problem| problem.severity() != Severity::Note);
            if has_failed || is_hindered || subject.blind.is_some() {
                unsettled.insert(subject.instance.clone());
            }
            details.extend(subject.failures().into_iter().map(|(step, error)| format!("{step}: {error}")));
            details.extend(subject.blind.iter().map(|error| format!("what is true now is not known: {error}")));
        }
        (unsettled, details)
    }

    /// Whether an intent that was just written is this request's. If this is not its first delivery, a Delete may have kept what it
    /// had isolated, or a later request may have been given the same id.
    fn is_still_ours(&self, intent: &Intent) -> bool {
        let is_later = intent.issued.zip(self.issued).is_some_and(|(of, ours)| ours < of);
        intent.request_id == self.request_id && intent.kept.is_none() && !is_later
    }

    /// The intent of the owner, if it ever asked for anything.
    ///
    /// # Errors
    /// The call failed.
    pub async fn intent(&self) -> Call<Option<Intent>> {
        let mut items = self.records.read(self.owner, &BTreeSet::new()).await?;
        if let Some((_, reason)) = items.unreadable.pop_first() {
            return Err(unreadable(reason));
        }
        Ok(items.intents.remove(&self.owner.digest()))
    }

    /// The same. If it cannot be read, it is written anew first: what it holds only where that is `known`.
    ///
    /// # Errors
    /// A call failed, or what it holds cannot be read.
    pub async fn mended_intent(&self, known: Option<&BTreeSet<InstanceId>>) -> Call<Option<Intent>> {
        match self.intent().await {
            Err(error)
                if error.fault == Fault::Refused && self.records.mend(self.owner, known).await? == Written::Done =>
            {
                self.intent().await
            }
            read => read,
        }
    }

    async fn restore_with(
        &self,
        desired: &Desired,
        stays: &BTreeSet<InstanceId>,
        patience: Patience,
        then: Then<'_>,
    ) -> Result<Restored, String> {
        let ended = self.run(Some(desired), (stays, None), vec![], patience, then).await;
        self.release(&ended, *desired == Desired::Restored).await;
        match ended.overtaken_by {
            Some(request) => Err(request),
            None => Ok(Restored::of(self.asker, &ended.subjects, ended.unannounced)),
        }
    }

    /// Runs the loops of `first`, and of what follows from the intent once it is written, until all of them are settled by a
    /// look that is younger than every change. Where `only` names interfaces, no other one is moved into isolation.
    async fn run<'s>(
        &'s self,
        desired: Option<&Desired>,
        (stays, only): (&'s BTreeSet<InstanceId>, Option<&'s BTreeSet<InterfaceId>>),
        first: Vec<(InstanceId, Goal<'s>)>,
        patience: Patience,
        then: Then<'_>,
    ) -> Ended<'s> {
        let Self { ec2, records, owner, request_id, gate, pace, .. } = *self;
        let mandate = self.mandate(desired.is_some(), only);
        let intent = watch::Sender::new(None);
        let run = Run {
            observer: Observer::new(ec2, records, owner, pace),
            executor: Executor::new(ec2, records, mandate),
            mandate,
            patience,
            intent: desired.map(|_| &intent),
            stays,
            passages: Mutex::default(),
        };
        let Run { observer, executor, .. } = &run;
        let mut subjects: Vec<Subject<'s>> = first.into_iter().map(|(id, goal)| Subject::new(id, goal)).collect();
        // Records of what is not looked at speak of interfaces that moved.
        let looked_at: BTreeSet<InstanceId> = subjects.iter().map(|subject| subject.instance.clone()).collect();
        let others: BTreeSet<InstanceId> = stays.difference(&looked_at).cloned().collect();
        if !others.is_empty()
            && let Err(error) = self.persist(patience, || observer.items(others.clone())).await
        {
            let (known, unannounced) = (observer.known(), Some(error));
            return Ended { subjects, verdict: None, known, overtaken_by: None, unannounced };
        }
        let announcing = async {
            let Some(desired) = desired else { return (vec![], None, None) };
            let (announced, cleared) = match only {
                Some(_) => (self.confirm(patience).await, vec![]),
                None => self.clearing(self.announce(desired, patience)).await,
            };
            let is_ours = announced.as_ref().is_ok_and(|intent| self.is_still_ours(intent));
            intent.send_replace(Some(Announced { intent: announced.clone(), is_ours, at: Instant::now() }));
            match announced {
                Ok(written) if is_ours => {
                    let (wanted, verdict) = self.follow(then, stays, &written).await;
                    let mut others: Vec<Subject<'s>> =
                        wanted.into_iter().map(|(id, goal)| Subject::new(id, goal)).collect();
                    join_all(others.iter_mut().map(|subject| run.pursue(subject, Reach::First))).await;
                    (others, verdict, None)
                }
                Ok(_) => {
                    executor.overtake();
                    (vec![], None, None)
                }
                Err(error) => (cleared, None, Some(error)),
            }
        };
        let looping = join_all(subjects.iter_mut().map(|subject| run.pursue(subject, Reach::First)));
        let working = async { tokio::join!(announcing, looping) };
        let isolates = matches!(desired, Some(Desired::Isolated(_)));
        // An instance is recorded before anything else of it is changed.
        let is_unlisted = || {
            let is_held = |record: &Arc<Record>| record.owner == *owner && record.state != State::Restored;
            let is_recorded = executor.last_change().is_some() || observer.known().values().any(is_held);
            isolates && !is_recorded && intent.borrow().as_ref().is_some_and(|announced| announced.is_ours)
        };
        let ((others, verdict, unannounced), _) = self.opened(is_unlisted, working).await;
        subjects.extend(others);
        // The last look: whoever was settled before something was changed, or while others were waited for, is looked at once more.
        while !gate.is_closed() && !executor.is_overtaken() && unannounced.is_none() {
            let last_change = executor.last_change();
            let youngest = subjects.iter().filter_map(|subject| subject.settled_at).max();
            let stale: Vec<_> = subjects.iter_mut().filter(|subject| subject.is_stale(last_change, youngest)).collect();
            if stale.is_empty() {
                break;
            }
            join_all(stale.into_iter().map(|subject| run.pursue(subject, Reach::Full))).await;
        }
        let overtaken_by = executor.is_overtaken().then(|| {
            let announced = intent.borrow().clone().and_then(|announced| announced.intent.ok());
            let read = observer.last_intent().or(announced.clone()).filter(|intent| intent.request_id != request_id);
            read.or(announced).map_or_else(|| "unknown".to_owned(), |intent| intent.request_id)
        });
        Ended { subjects, verdict, known: observer.known(), overtaken_by, unannounced }
    }

    /// To record something opens the incident. **One that can record nothing is opened by itself**: its watch is to find it.
    async fn opened<T>(&self, is_unlisted: impl Fn() -> bool, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let opening = || async {
            if let Err(error) = self.persist(self.patience(), || self.records.open(self.owner)).await {
                tracing::warn!(%error, "the incident is not listed as open");
            }
        };
        let done = match tokio::time::timeout(LISTED, &mut work).await {
            Ok(done) => done,
            Err(_) if is_unlisted() => return tokio::join!(work, opening()).0,
            Err(_) => work.await,
        };
        if is_unlisted() {
            opening().await;
        }
        done
    }

    fn asked<'d>(&'d self, desired: &'d Desired) -> Asked<'d> {
        Asked { owner: self.owner, request_id: self.request_id, issued: self.issued, desired }
    }

    /// Says what is wanted, unless a later request has said something else. What is wanted now.
    async fn announce(&self, desired: &Desired, patience: Patience) -> Call<Intent> {
        let asked = self.asked(desired);
        let writing = || self.persist(patience, || self.records.write_intent(&asked, self.clock.now()));
        let listed = match desired {
            Desired::Isolated(wants) => Some(wants.instances.iter().cloned().collect()),
            // A restore must not take what cannot be read for nothing.
            Desired::Restored | Desired::Unknown(_) => None,
        };
        match writing().await {
            Err(error) if matches!(error.fault, Fault::Garbled | Fault::Refused) => {
                match self.persist(patience, || self.records.mend(self.owner, listed.as_ref())).await {
                    Ok(Written::Done) => writing().await,
                    _ => Err(error),
                }
            }
            written => written,
        }
    }

    /// Reads what is wanted, for work between two requests: it is not that which says what is wanted.
    async fn confirm(&self, patience: Patience) -> Call<Intent> {
        let intent = self.persist(patience, || self.intent()).await?;
        intent.filter(|intent| intent.kept.is_none()).ok_or_else(|| CallError {
            action: "dynamodb:BatchGetItem",
            fault: Fault::Refused,
            code: "Superseded".to_owned(),
            message: "the stack has asked for something else meanwhile".to_owned(),
        })
    }

    /// Takes what was restored off the intent, which ends an incident that asks for nothing. What is not taken off is looked at
    /// once more by the next request.
    async fn release(&self, ended: &Ended<'_>, ends: bool) {
        let restored = ended.subjects.iter().filter(|subject| subject.is_restored());
        let ids: BTreeSet<InstanceId> = restored.map(|subject| subject.instance.clone()).collect();
        let is_over = ends && ended.unannounced.is_none() && ids.len() == ended.subjects.len();
        if ids.is_empty() && !is_over || ended.overtaken_by.is_some() {
            return;
        }
        let releasing = self.records.release(self.owner, self.request_id, &ids, is_over);
        if let Some(Err(error)) = self.gate.while_open(releasing).await {
            tracing::warn!(%error, "restored instances stay on the intent");
        }
    }

    fn mandate<'s>(&'s self, follows_intent: bool, only: Option<&'s BTreeSet<InterfaceId>>) -> Mandate<'s> {
        let Self { owner, request_id, gate, clock, pace, asked_by, writer, .. } = *self;
        Mandate { owner, request_id, gate, clock, pace, asked_by, writer, follows_intent, only }
    }

    /// How long failures are tried again.
    #[must_use]
    pub fn patience(&self) -> Patience {
        Patience { for_faults: FOR_FAULTS, for_permission: self.for_permission }
    }

    /// One call on its own, with the patience of a loop.
    ///
    /// # Errors
    /// Its last failure, also if the time ran out meanwhile. If there was none, nobody knows which call hangs.
    pub async fn persist<T, F>(&self, patience: Patience, call: impl Fn() -> F) -> Call<T>
    where
        F: Future<Output = Call<T>>,
    {
        let (since, mut tries, mut last) = (Instant::now(), 0, None);
        loop {
            match self.gate.while_open(call()).await {
                None => return Err(last.unwrap_or_else(|| out_of_time("AWS"))),
                Some(Err(error)) if patience.covers(error.fault, since.elapsed()) => {
                    tracing::warn!(%error, "trying again");
                    let _ = self.gate.while_open(tokio::time::sleep(pause(tries))).await;
                    tries += 1;
                    last = Some(error);
                }
                Some(result) => return result,
            }
        }
    }
}

/// The intent is there, and says nothing.
fn unreadable(reason: String) -> CallError {
    let message = format!(
        "what the stack asked for last cannot be read ({reason}): deploy it once more, which writes that again"
    );
    CallError { action: "dynamodb:BatchGetItem", fault: Fault::Refused, code: "Unreadable".to_owned(), message }
}
