//! The passage of one interface through the transit group: enter, hold, leave. The one place of the executor that chooses:
//! whether there is room for the passage, whether there is time for it, and what to do if the way out is refused.
//!
//! **Nothing is left in the transit group, which is open to everybody.**

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::{ANSWER, Done, Executor, SWAP, too_late};
use tokio::time::Instant;

use crate::model::{Fault, GroupId, Groups, InstanceId, InterfaceId, restore_command};
use crate::plan::{DOUBTED, MOST_IN_TRANSIT, Passage, Step, StepError, Work};
use crate::ports::{Call, Change, Look, Records};
use crate::timing::gate::out_of_time;

/// The isolation group is asked for so often before it counts as refused: the interface then waits in the open.
const REFUSALS: u32 = 3;
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// What the way out of the transit group may take at the end of the time; nothing enters when less is left.
const WAY_OUT: Duration = Duration::from_secs(10);
/// In the last fifth of its hold it is looked whether an interface is still held.
const LAST_PART: u32 = 5;
/// The last try of the way out, once the time is up.
const LAST_TRY: Duration = Duration::from_secs(1);

/// Who is inside, and who goes first.
#[derive(Debug)]
pub(super) struct Transit {
    seats: Semaphore,
    /// Those who leave go before those who enter.
    leaving: watch::Sender<usize>,
    /// Interfaces being isolated: those that are isolated already pass after them.
    isolating: watch::Sender<usize>,
    /// More are to pass than may: all are isolated directly first.
    is_crowded: AtomicBool,
    /// Interfaces that a passage holds, or is about to, and for which instance.
    held: watch::Sender<BTreeMap<InterfaceId, InstanceId>>,
}

impl Default for Transit {
    fn default() -> Self {
        let [leaving, isolating] = [(); 2].map(|()| watch::Sender::new(0));
        let seats = Semaphore::new(MOST_IN_TRANSIT);
        Self { seats, leaving, isolating, is_crowded: AtomicBool::new(false), held: watch::Sender::default() }
    }
}

/// Counted as long as it lives.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a watch::Sender<usize>, usize, Option<&'a AtomicBool>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= self.1);
        if let Some(is_crowded) = self.2.filter(|_| *self.0.borrow() == 0) {
            is_crowded.store(false, Ordering::Relaxed);
        }
    }
}

/// A passage that may hold its interface, as long as it lives.
struct Holding<'a>(&'a Transit, &'a InterfaceId, &'a InstanceId);

impl Holding<'_> {
    /// Whether it holds its interface now: one that was attached to another instance a moment ago may be passing for that.
    fn take(&self) -> bool {
        let Self(transit, interface, instance) = self;
        let mut is_taken = false;
        transit.held.send_modify(|held| {
            is_taken = held.entry((*interface).clone()).or_insert_with(|| (*instance).clone()) == *instance;
        });
        is_taken
    }

    /// Returns once no passage holds the interface.
    async fn is_free(&self) {
        let _ = self.0.held.subscribe().wait_for(|held| !held.contains_key(self.1)).await;
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.held.send_if_modified(|held| {
            let is_mine = held.get(self.1) == Some(self.2);
            is_mine && held.remove(self.1).is_some()
        });
    }
}

impl Transit {
    /// Counts what a piece of work isolates, until it is done.
    pub(super) fn begin(&self, work: &Work) -> Counted<'_> {
        let count = work.then.iter().filter(|step| step.isolates()).count();
        self.isolating.send_modify(|isolating| *isolating += count);
        if *self.isolating.borrow() > MOST_IN_TRANSIT {
            self.is_crowded.store(true, Ordering::Relaxed);
        }
        Counted(&self.isolating, count, Some(&self.is_crowded))
    }

    async fn are_none(counter: &watch::Sender<usize>) {
        let _ = counter.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl<E: Look + Change, R: Records> Executor<'_, E, R> {
    /// Seats for interfaces that pass although they are isolated already, once nothing is left to be isolated.
    pub(super) async fn seats(&self, work: &Work) -> Option<SemaphorePermit<'_>> {
        let passing = work.then.iter().filter(|step| matches!(step, Step::Pass { .. }) && !step.isolates()).count();
        let count = u32::try_from(passing).ok().filter(|count| *count > 0)?;
        let seats = async {
            let seats = self.transit.seats.acquire_many(count).await.ok();
            Transit::are_none(&self.transit.isolating).await;
            Transit::are_none(&self.transit.leaving).await;
            seats
        };
        self.mandate.gate.while_open(seats).await.flatten()
    }

    /// The interfaces that are in the transit group by a passage, or on their way in or out.
    pub fn held(&self) -> BTreeSet<InterfaceId> {
        self.transit.held.borrow().keys().cloned().collect()
    }

    /// The whole passage of one interface. `passage` is how it fared.
    pub(super) async fn pass_through(&self, step: &Step, passage: &mut Option<Passage>) -> Done {
        let Step::Pass { instance, interface, from, through, hold_seconds, to, originals } = step else {
            return Ok(());
        };
        let isolation = Groups::from([to.clone()]);
        let is_outside = step.isolates();
        let has_room = is_outside && !self.transit.is_crowded.load(Ordering::Relaxed);
        // Whoever comes from inside has a seat, and waits in it until nothing is left to be isolated: who comes from outside cannot wait
        // for it.
        let seat = has_room.then(|| self.transit.seats.try_acquire().ok()).flatten();
        if is_outside && seat.is_none() {
            *passage = Some(Passage::Postponed);
            return self.set_groups(instance, interface, &isolation).await;
        }
        let inside = Groups::from([through.clone()]);
        let holding = Holding(&self.transit, interface, instance);
        let turn = || async {
            self.turn_to_enter().await?;
            if holding.take() {
                return Ok(());
            }
            // It passes once: what is left to do is planned when it has left.
            let _ = self.mandate.gate.while_open(holding.is_free()).await;
            Err(StepError::LeaseOver)
        };
        let mut lost = None;
        match self.until_taken(instance, interface, &inside, turn).await {
            Ok(()) => *passage = Some(Passage::Done),
            Err(StepError::Overtaken | StepError::LeaseOver) if !is_outside => return Err(StepError::LeaseOver),
            Err(error @ (StepError::Overtaken | StepError::LeaseOver)) => return Err(error),
            // It cannot be isolated in any other way either.
            Err(error) if error.fault() == Some(Fault::Busy) => return Err(error),
            // It waits isolated until EC2 has the transit group and lets it in, or that it does not is believed.
            Err(error) if matches!(error.fault(), Some(Fault::Unseen | Fault::Denied | Fault::Throttled)) => {
                *passage = is_outside.then_some(Passage::Postponed);
                return if is_outside { self.set_groups(instance, interface, &isolation).await } else { Err(error) };
            }
            // It may be inside, and waits isolated for another try.
            Err(error) if error.fault().is_some_and(Fault::may_pass) => {
                tracing::warn!(%interface, %error, "not through the transit group yet");
                *passage = is_outside.then_some(Passage::Postponed);
                lost = Some(error).filter(|_| !is_outside);
            }
            Err(error) => {
                tracing::warn!(%interface, %error, "not through the transit group");
                *passage = Some(Passage::Refused(error.to_string()));
                if error.fault().is_some_and(|fault| fault.is_without_effect()) {
                    return match is_outside {
                        true => self.set_groups(instance, interface, &isolation).await,
                        false => Ok(()),
                    };
                }
            }
        }
        let hold = Duration::from_secs(*hold_seconds).min(self.time_to_hold());
        if *passage == Some(Passage::Done)
            && self.mandate.gate.while_open(self.hold(hold, interface, from, &[through, to])).await == Some(false)
        {
            *passage = Some(Passage::Opened);
        }
        self.transit.leaving.send_modify(|leaving| *leaving += 1);
        let _leaving = Counted(&self.transit.leaving, 1, None);
        self.leave(instance, interface, through, &isolation, originals).await?;
        lost.map_or(Ok(()), Err)
    }

    /// Waits as long as the interface is to be held. Whether it is still in `ours` at the end, as far as that is to be seen in time:
    /// **one that was opened meanwhile may have been connected to since**. One reading decides nothing.
    async fn hold(&self, hold: Duration, interface: &InterfaceId, from: &Groups, ours: &[&GroupId]) -> bool {
        let last = hold / LAST_PART;
        // Another delivery may have taken it out already. What trails may show where it came from.
        let is_well = |groups: &Groups| {
            let is_ours = !groups.is_empty() && groups.iter().all(|group| ours.contains(&group));
            is_ours || groups == from && hold < DOUBTED
        };
        // What is not read says nothing.
        let look = || async {
            let shown = self.writes.shown(self.ec2, interface).await;
            shown.ok().flatten().is_none_or(|groups| is_well(&groups))
        };
        let looking = async {
            if look().await {
                return true;
            }
            tokio::time::sleep(last / 2).await;
            look().await
        };
        tokio::time::sleep(hold - last).await;
        let (is_well, ()) = tokio::join!(tokio::time::timeout(last, looking), tokio::time::sleep(last));
        is_well.unwrap_or(true)
    }

    fn time_to_hold(&self) -> Duration {
        self.mandate.gate.time_left().saturating_sub(WAY_OUT)
    }

    /// Those who leave go first, for a token of EC2's as well; and nothing comes in that could not leave in time.
    async fn turn_to_enter(&self) -> Call<()> {
        let turn = async {
            loop {
                Transit::are_none(&self.transit.leaving).await;
                let Err(wait) = self.mandate.pace.try_turn(SWAP) else { return };
                tokio::time::sleep(wait).await;
            }
        };
        let is_open = self.mandate.gate.while_open(turn).await.is_some() && !self.time_to_hold().is_zero();
        is_open.then_some(()).ok_or_else(|| too_late(SWAP))
    }

    /// Sets the isolation group until EC2 accepts it or the time is over. Refused to the end, the originals come back.
    async fn leave(
        &self,
        instance: &InstanceId,
        interface: &InterfaceId,
        through: &GroupId,
        isolation: &Groups,
        originals: &Groups,
    ) -> Done {
        let (mut refusals, mut unseen, mut is_believed) = (0, None, false);
        let trying = async {
            loop {
                let is_last = self.mandate.gate.while_open(self.mandate.pace.urgent_turn(SWAP)).await.is_none();
                // Whoever has overtaken this request takes out what is left inside once the lease is over.
                if self.lease_left(instance).is_zero()
                    && self.check_right(instance, Instant::now()).await == Err(StepError::Overtaken)
                {
                    return Err(too_late(SWAP));
                }
                // As on the way in: what is sent again must not take effect after the lease.
                let left = Some(self.lease_left(instance)).filter(|left| !left.is_zero()).unwrap_or(ANSWER);
                let Err(error) = self.swap(interface, isolation, left).await else { return Ok(()) };
                refusals += u32::from(!error.fault.may_pass());
                unseen = unseen.or_else(|| Some(Instant::now())).filter(|_| error.fault == Fault::Unseen);
                is_believed = unseen.is_some_and(|since| since.elapsed() >= DOUBTED);
                if is_last || refusals >= REFUSALS || is_believed {
                    return Err(error);
                }
                tracing::warn!(%interface, %error, "still to leave the transit group");
                let _ = self.mandate.gate.while_open(tokio::time::sleep(REFUSAL_PAUSE)).await;
            }
        };
        let Err(error) = self.until_last_try(trying).await else { return Ok(()) };
        // What is gone is in no group.
        if is_believed && error.code == GONE {
            return Err(error.into());
        }
        // What was lost is sent again: nothing else gives them back.
        let going_back = async {
            loop {
                match self.ec2.set_groups(interface, originals).await {
                    Err(error)
                        if error.fault.may_pass()
                            && !matches!(error.fault, Fault::Unseen | Fault::Busy)
                            && !self.mandate.gate.is_closed() =>
                    {
                        tracing::warn!(%interface, %error, "still to get its groups back");
                        let _ = self.mandate.gate.while_open(tokio::time::sleep(REFUSAL_PAUSE)).await;
                    }
                    result => return result,
                }
            }
        };
        if (refusals >= REFUSALS || is_believed) && self.until_last_try(going_back).await.is_ok() {
            return Err(error.into());
        }
        let command = restore_command(interface, isolation);
        let danger = format!("{interface} may be in {through}, which is open to everybody: run {command}");
        Err(StepError::InTransit { danger, cause: error })
    }

    /// Ends a little after the gate is closed.
    async fn until_last_try(&self, call: impl Future<Output = Call<()>>) -> Call<()> {
        let end = async {
            self.mandate.gate.closed().await;
            tokio::time::sleep(LAST_TRY).await;
        };
        tokio::select! {
            biased;
            done = call => done,
            () = end => Err(out_of_time(SWAP)),
        }
    }
}

/// EC2's code for an interface that is not there.
const GONE: &str = "InvalidNetworkInterfaceID.NotFound";
