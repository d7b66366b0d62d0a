//! Carries [`Work`] out against the ports and says what became of each step. Makes no choices, but for `transit`, which says so.

mod transit;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::model::{CallError, Fault, Groups, InstanceId, InterfaceId, Lease, Owner, State, Time};
use crate::plan::{Change as Protecting, Originals, Outcome, Passage, Prior, Step, StepError, Work};
use crate::ports::{Call, Change, Entry, Look, Marking, Records, Stamp, Written};
use crate::timing::clock::Clock;
use crate::timing::gate::{Gate, out_of_time};
use crate::timing::pace::Pace;

use transit::Transit;
use writes::Writes;

/// Calls under way at once.
const CONCURRENCY: usize = 40;
/// Changes of groups under way at once.
const SWAPS: usize = 20;
/// A change that EC2 finds to be one too many is asked for so often before it counts as failed: as often as the SDK would.
const TRIES: u32 = 6;
/// A swap that has waited longer than this for its turn reads the intent again before.
const FRESH: Duration = Duration::from_secs(1);
/// How long beyond its hold an invocation may change interfaces without saying so again.
const LEASE: Duration = Duration::from_secs(30);

/// A change of groups is answered within this, or counts as lost: what comes after it has to fit into the lease.
const ANSWER: Duration = Duration::from_secs(15);

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

type Done = Result<(), StepError>;

/// For whom, by whom and until when work is carried out.
#[derive(Debug)]
pub struct Executor<'a, E, R> {
    ec2: &'a E,
    records: &'a R,
    mandate: Mandate<'a>,
    transit: Transit,
    writes: Writes,
    calls: Semaphore,
    /// Direct changes of groups: they do not wait for anything else.
    swaps: Semaphore,
    leases: Mutex<BTreeMap<InstanceId, (Time, Renewal)>>,
    overtaken: watch::Sender<bool>,
    last_change: Mutex<Option<Instant>>,
}

/// How a lease is taken again.
#[derive(Debug, Clone)]
enum Renewal {
    /// By recording once more, which checks the intent.
    Record(Box<Originals>),
    /// By marking this owner's record once more.
    Restoring(Owner),
}

/// Who asks, and what limits them.
#[derive(Debug, Clone, Copy)]
pub struct Mandate<'a> {
    pub owner: &'a Owner,
    pub request_id: &'a str,
    pub gate: &'a Gate,
    pub clock: &'a Clock,
    pub pace: &'a Pace,
    /// What the history of the records says of it.
    pub asked_by: &'a str,
    /// This invocation, as leases name it.
    pub writer: &'a str,
    /// Whether the intent is this request's: then nothing is done once it no longer is.
    pub follows_intent: bool,
    /// The interfaces that may be changed, if not all.
    pub only: Option<&'a BTreeSet<InterfaceId>>,
}

impl<'a, E: Look + Change, R: Records> Executor<'a, E, R> {
    #[must_use]
    pub fn new(ec2: &'a E, records: &'a R, mandate: Mandate<'a>) -> Self {
        Self {
            ec2,
            records,
            mandate,
            transit: Transit::default(),
            writes: Writes::default(),
            calls: Semaphore::new(CONCURRENCY),
            swaps: Semaphore::new(SWAPS),
            leases: Mutex::default(),
            overtaken: watch::Sender::new(false),
            last_change: Mutex::default(),
        }
    }

    /// Whether another request of the owner has said since what it wants: nothing more is done for this one.
    pub fn is_overtaken(&self) -> bool {
        *self.overtaken.borrow()
    }

    pub fn overtake(&self) {
        self.overtaken.send_replace(true);
    }

    /// When something was last changed.
    pub fn last_change(&self) -> Option<Instant> {
        *self.last_change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps that were not tried, because the one before them failed, have no outcome.
    pub async fn carry_out(&self, work: Work) -> Vec<Outcome> {
        let _crowd = self.transit.begin(&work);
        // Whoever passes from inside takes a seat before the right to change the interface, which does not last long.
        let _seats = self.seats(&work).await;
        let mut outcomes = Vec::new();
        if let Some(first) = &work.first {
            let outcome = self.step(first).await;
            let go_on = outcome.result.is_ok();
            outcomes.push(outcome);
            if !go_on {
                return outcomes;
            }
        }
        outcomes.extend(join_all(work.then.iter().map(|step| self.step(step))).await);
        outcomes
    }

    async fn step(&self, step: &Step) -> Outcome {
        let mut passage = None;
        let result = self.call(step, &mut passage).await;
        if result.is_ok() || passage.is_some() {
            *self.last_change.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        Outcome { step: step.clone(), result, passage }
    }

    /// A call, when it is its turn and while the gate is open.
    fn pass<T>(&self, action: &'static str, call: impl Future<Output = Call<T>>) -> impl Future<Output = Call<T>> {
        self.mandate.gate.pass(action, async move {
            self.mandate.pace.turn(action).await;
            let _turn = self.calls.acquire().await;
            let result = call.await;
            if result.as_ref().is_err_and(|error| error.fault == Fault::Throttled) {
                self.mandate.pace.refused(action);
            }
            result
        })
    }

    /// The same, but not for a request that was overtaken while the call waited: for its turn, or for others since it was asked for.
    pub(super) fn pass_if_current<T>(
        &self,
        action: &'static str,
        since: Instant,
        call: impl Future<Output = Call<T>>,
    ) -> impl Future<Output = Call<T>> {
        let passing = self.pass(action, async move {
            match self.check_current(since).await {
                Ok(()) => call.await,
                Err(StepError::Call(error)) => Err(error),
                Err(_) => Err(out_of_time(action)),
            }
        });
        async move {
            // No turn is taken for it.
            if self.is_overtaken() { Err(out_of_time(action)) } else { passing.await }
        }
    }

    /// What became of such a call.
    fn unless_overtaken<T>(&self, result: Call<T>) -> Result<T, StepError> {
        result.map_err(|error| if self.is_overtaken() { StepError::Overtaken } else { error.into() })
    }

    /// Gives an interface groups, in turn, and in turn again if EC2 finds it to be one too many.
    async fn set_groups(&self, instance: &InstanceId, interface: &InterfaceId, groups: &Groups) -> Done {
        let _swap = self.swaps.acquire().await;
        let turn = || async { Ok(self.mandate.gate.pass(SWAP, self.mandate.pace.urgent_turn(SWAP).map(Ok)).await?) };
        self.until_taken(instance, interface, groups, turn).await
    }

    async fn until_taken<F: Future<Output = Done>>(
        &self,
        instance: &InstanceId,
        interface: &InterfaceId,
        groups: &Groups,
        turn: impl Fn() -> F,
    ) -> Done {
        let mut tries = 1;
        loop {
            let since = Instant::now();
            turn().await?;
            self.check_right(instance, since).await?;
            // What is not answered while the lease lasts must not be sent again after it.
            let swap = self.swap(interface, groups, self.lease_left(instance));
            match self.mandate.gate.pass(SWAP, swap).await {
                Err(error) if error.fault == Fault::Throttled && tries < TRIES => tries += 1,
                result => return Ok(result?),
            }
        }
    }

    /// Nothing is changed for a request that has been overtaken; a lease that is over is taken again first.
    async fn check_right(&self, instance: &InstanceId, since: Instant) -> Done {
        self.check_current(since).await?;
        let lease = self.leases().get(instance).cloned();
        match lease.filter(|(until, _)| self.mandate.clock.now() >= *until) {
            Some((_, renewal)) => Box::pin(self.renew(instance, renewal)).await,
            None => Ok(()),
        }
    }

    /// How long the record's lease still lasts, if it has one.
    fn lease_left(&self, instance: &InstanceId) -> Duration {
        self.leases().get(instance).map_or(Duration::MAX, |(until, _)| self.mandate.clock.now().until(*until))
    }

    async fn renew(&self, instance: &InstanceId, renewal: Renewal) -> Done {
        let stamp = &self.stamp();
        match renewal {
            Renewal::Record(originals) => {
                let (interfaces, prior, reopened) = (BTreeMap::new(), Prior::Ours, BTreeSet::new());
                self.record_leased(Originals { interfaces, prior, reopened, ..*originals }, stamp).await
            }
            Renewal::Restoring(owner) => {
                let (from, state) = (State::Restoring, State::Restoring);
                let marking =
                    Marking { owner: &owner, instance, from, state, reason: None, cut: None, lease: None, stamp };
                self.mark_leased(marking, Renewal::Restoring(owner.clone())).await
            }
        }
    }

    /// What was true `since` then may have changed.
    async fn check_current(&self, since: Instant) -> Done {
        if self.mandate.follows_intent && since.elapsed() > FRESH {
            self.check_intent().await?;
        }
        if self.is_overtaken() { Err(StepError::Overtaken) } else { Ok(()) }
    }

    async fn check_intent(&self) -> Done {
        let reading = self.writes.intent(self.records, self.mandate.owner);
        let intent = self.mandate.gate.pass("dynamodb:BatchGetItem", reading).await?;
        if intent.is_some_and(|intent| intent.request_id != self.mandate.request_id) {
            self.overtake();
            return Err(StepError::Overtaken);
        }
        Ok(())
    }

    /// One call. That it is refused slows down all that come after it.
    async fn swap(&self, interface: &InterfaceId, groups: &Groups, within: Duration) -> Call<()> {
        let answer = tokio::time::timeout(within.min(ANSWER), self.ec2.set_groups(interface, groups)).await;
        let result = answer.unwrap_or_else(|_| Err(unanswered(SWAP)));
        if result.as_ref().is_err_and(|error| error.fault == Fault::Throttled) {
            self.mandate.pace.refused(SWAP);
        }
        result
    }

    fn stamp(&self) -> Stamp<'a> {
        Stamp { now: self.mandate.clock.now(), asked_by: self.mandate.asked_by, writer: self.mandate.writer }
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<InstanceId, (Time, Renewal)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a record that is written now says of its lease.
    fn lease(&self, hold: Duration) -> Lease {
        let only = self.mandate.only.cloned().unwrap_or_default();
        Lease { writer: self.mandate.writer.to_owned(), until: self.mandate.clock.now() + hold + LEASE, only }
    }

    /// Writes a record with a lease. **That counts once it is done.** If it may have been, and none was there before, it is taken
    /// again before anything is changed.
    async fn take(
        &self,
        instance: &InstanceId,
        (until, renewal): (Time, Renewal),
        writing: impl Future<Output = Call<Written>>,
    ) -> Done {
        let result = writing.await;
        match &result {
            Ok(Written::Done) => drop(self.leases().insert(instance.clone(), (until, renewal))),
            Err(error) if !error.fault.is_without_effect() => {
                self.leases().entry(instance.clone()).or_insert_with(|| (self.mandate.clock.now(), renewal));
            }
            _ => {}
        }
        self.written(result?)
    }

    /// Records originals with a lease from now on.
    async fn record_leased(&self, originals: Originals, stamp: &Stamp<'_>) -> Done {
        let lease = self.lease(Duration::from_secs(originals.hold_seconds));
        let (instance, renewal) = (originals.instance.clone(), Renewal::Record(Box::new(originals.clone())));
        let until = lease.until;
        self.take(&instance, (until, renewal), self.record((originals, lease), stamp)).await
    }

    /// Marks a record with a lease from now on.
    async fn mark_leased(&self, marking: Marking<'_>, renewal: Renewal) -> Done {
        let hold = match &renewal {
            Renewal::Record(originals) => Duration::from_secs(originals.hold_seconds),
            Renewal::Restoring(_) => Duration::ZERO,
        };
        let lease = self.lease(hold);
        let until = lease.until;
        let marking = Marking { lease: Some(lease), ..marking };
        let writing = self.pass("dynamodb:UpdateItem", self.records.mark(&marking));
        self.take(marking.instance, (until, renewal), writing).await
    }

    async fn enter(&self, instance: &InstanceId, entry: Entry<'_>) -> Done {
        let stamp = &self.stamp();
        let entering = self.records.enter(self.mandate.owner, instance, entry, stamp);
        self.written(self.pass("dynamodb:UpdateItem", entering).await?)
    }

    fn written(&self, written: Written) -> Done {
        match written {
            Written::Done => Ok(()),
            Written::Lost => Err(StepError::Lost),
            Written::Overtaken => {
                self.overtake();
                Err(StepError::Overtaken)
            }
        }
    }

    async fn call(&self, step: &Step, passage: &mut Option<Passage>) -> Done {
        let Self { ec2, records, .. } = self;
        let stamp = &self.stamp();
        match step {
            Step::Record(originals) => self.record_leased(originals.clone(), stamp).await,
            Step::Pass { .. } => self.pass_through(step, passage).await,
            Step::SetGroups { instance, interface, to, .. } => self.set_groups(instance, interface, to).await,
            Step::Tag { resource, tags, .. } => self.unless_overtaken(self.tag(resource, tags).await),
            Step::Untag { resource, keys, .. } => self.unless_overtaken(self.untag(resource, keys).await),
            Step::Mark { instance, owner, from, state, reason, cut, keeps_lease } => {
                let (reason, cut) = (reason.as_deref(), cut.as_ref());
                let marking = Marking { owner, instance, from: *from, state: *state, reason, cut, lease: None, stamp };
                let renewal = match state {
                    State::Restoring => Some(Renewal::Restoring(owner.clone())),
                    _ if *keeps_lease => self.leases().get(instance).map(|(_, renewal)| renewal.clone()),
                    // The interfaces are as they should be.
                    _ => None,
                };
                if let Some(renewal) = renewal {
                    return self.mark_leased(marking, renewal).await;
                }
                self.leases().remove(instance);
                self.written(self.pass("dynamodb:UpdateItem", records.mark(&marking)).await?)
            }
            Step::RequestSnapshots { instance, taken } => self.enter(instance, Entry::RequestSnapshots(taken)).await,
            Step::TakeSnapshots { instance, without, tags, .. } => {
                let taking = ec2.take_snapshots(instance, without, tags);
                let snapshots =
                    self.unless_overtaken(self.pass_if_current("ec2:CreateSnapshots", Instant::now(), taking).await)?;
                self.enter(instance, Entry::SaveSnapshots(&snapshots)).await
            }
            Step::SaveSnapshots { instance, snapshots } => self.enter(instance, Entry::SaveSnapshots(snapshots)).await,
            Step::LockSnapshot { snapshot, days, .. } => {
                let locking = ec2.lock_snapshot(snapshot, *days);
                self.unless_overtaken(self.pass_if_current("ec2:LockSnapshot", Instant::now(), locking).await)
            }
            Step::SaveProtection { instance, prior } => self.enter(instance, Entry::SaveProtection(prior)).await,
            Step::Protect { instance, change, .. } => self.unless_overtaken(self.protect(instance, change).await),
        }
    }

    async fn protect(&self, instance: &InstanceId, change: &Protecting) -> Call<()> {
        match change {
            Protecting::EnterStandby { group } => self.standby(group, instance, true).await,
            Protecting::ExitStandby { group } => self.standby(group, instance, false).await,
            _ => self.pass_if_current(change.action(), Instant::now(), self.ec2.protect(instance, change)).await,
        }
    }
}

/// Whether it was carried out is not known.
fn unanswered(action: &'static str) -> CallError {
    let message = "no answer in time".to_owned();
    CallError { action, fault: Fault::TimedOut, code: "Timeout".to_owned(), message }
}

/// Nothing was changed, since the time for an answer is over.
fn too_late(action: &'static str) -> CallError {
    CallError { fault: Fault::Refused, ..out_of_time(action) }
}
