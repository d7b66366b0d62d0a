//! Carries a [`Plan`] out against the ports and collects what became of each step. Makes no choices.

use std::future::Future;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::watch;

use crate::model::{GroupId, Groups, InterfaceId, Owner, restore_command};
use crate::plan::{Measure, Plan, Step, Work};
use crate::ports::{Call, CallError, Change, Fault, Marking, Originals, Records, Stamp, Written};
use crate::timing::clock::Clock;
use crate::timing::gate::{Gate, out_of_time};
use crate::timing::pace::Pace;

/// Pieces of work under way at once: as many as may be in the transit group, or those behind would wait for its hold.
const CONCURRENCY: usize = 20;
/// The isolation group is asked for so often before it counts as refused: the interface then waits in the open.
const REFUSALS: u32 = 3;
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// What the way out of the transit group may take at the end of the time; nobody enters when less is left.
const WAY_OUT: Duration = Duration::from_secs(10);
/// A change that EC2 finds to be one too many is asked for so often before it counts as failed: as often as the SDK would.
const TRIES: u32 = 6;
/// The last try of it, once the time is up.
const LAST_TRY: Duration = Duration::from_secs(1);

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub step: Step,
    pub result: Result<Written, CallError>,
    /// Isolated, but not by way of the transit group.
    pub not_cut: Option<CallError>,
}

/// For whom and when a plan is carried out.
#[derive(Debug)]
pub struct Executor<'a, E, R> {
    pub ec2: &'a E,
    pub records: &'a R,
    pub owner: &'a Owner,
    pub gate: &'a Gate,
    pub clock: &'a Clock,
    /// What the history of the records says of it.
    pub asked_by: &'a str,
    pub exit: Exit,
    pub pace: &'a Pace,
}

/// The way out of the transit group: whoever leaves goes first.
#[derive(Debug)]
pub struct Exit(watch::Sender<usize>);

impl Default for Exit {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Exit {
    async fn is_clear(&self) {
        let _ = self.0.subscribe().wait_for(|leaving| *leaving == 0).await;
    }

    async fn leave<T>(&self, call: impl Future<Output = T>) -> T {
        self.0.send_modify(|leaving| *leaving += 1);
        let done = call.await;
        self.0.send_modify(|leaving| *leaving -= 1);
        done
    }
}

impl<E: Change, R: Records> Executor<'_, E, R> {
    /// Steps that were not tried, because the one before them failed, have no outcome.
    pub async fn carry_out(&self, plan: &Plan) -> Vec<Outcome> {
        let work = plan.work.iter().map(|work| self.work(work)).collect::<Vec<_>>();
        stream::iter(work).buffer_unordered(CONCURRENCY).concat().await
    }

    async fn work(&self, work: &Work) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if let Some(first) = &work.first {
            let outcome = self.step(first).await;
            let go_on = outcome.result == Ok(Written::Done);
            outcomes.push(outcome);
            if !go_on {
                return outcomes;
            }
        }
        let rest = work.then.iter().map(|step| self.step(step));
        outcomes.extend(futures_util::future::join_all(rest).await);
        outcomes
    }

    async fn step(&self, step: &Step) -> Outcome {
        let mut not_cut = None;
        let result = self.call(step, &mut not_cut).await;
        Outcome { step: step.clone(), result, not_cut }
    }

    /// The whole passage of one interface. `not_cut` is why it did not take the way through the transit group, where it
    /// did not.
    async fn pass(
        &self,
        interface: &InterfaceId,
        through: &GroupId,
        hold: Duration,
        isolation: &Groups,
        originals: &Groups,
        not_cut: &mut Option<CallError>,
    ) -> Call<()> {
        let entered = self.until_taken(interface, &Groups::from([through.clone()]), || self.turn_to_enter()).await;
        let is_outside = entered.as_ref().is_err_and(|error| error.fault.is_without_effect());
        match entered {
            Ok(()) => drop(self.gate.while_open(tokio::time::sleep(hold.min(self.time_to_hold()))).await),
            Err(error) => {
                tracing::warn!(%interface, %error, "not through the transit group");
                *not_cut = Some(error);
            }
        }
        if is_outside {
            return self.set_groups(interface, isolation).await;
        }
        self.exit.leave(self.leave(interface, through, isolation, originals)).await
    }

    fn time_to_hold(&self) -> Duration {
        self.gate.time_left().saturating_sub(WAY_OUT)
    }

    /// Whoever leaves goes first, for a token of EC2's as well; and nobody comes in who could not leave in time.
    async fn turn_to_enter(&self) -> Call<()> {
        let turn = async {
            loop {
                self.exit.is_clear().await;
                let Err(wait) = self.pace.try_turn(SWAP) else { return };
                tokio::time::sleep(wait).await;
            }
        };
        let is_open = self.gate.while_open(turn).await.is_some() && !self.time_to_hold().is_zero();
        is_open.then_some(()).ok_or_else(|| CallError { fault: Fault::Refused, ..out_of_time(SWAP) })
    }

    async fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let turn = || self.gate.pass(SWAP, self.pace.urgent_turn(SWAP).map(Ok));
        self.until_taken(interface, groups, turn).await
    }

    /// In turn, and in turn again where EC2 finds it to be one too many.
    async fn until_taken<F: Future<Output = Call<()>>>(
        &self,
        interface: &InterfaceId,
        groups: &Groups,
        turn: impl Fn() -> F,
    ) -> Call<()> {
        let mut tries = 1;
        loop {
            turn().await?;
            match self.gate.pass(SWAP, self.swap(interface, groups)).await {
                Err(error) if error.fault == Fault::Throttled && tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// One call. That it is refused slows down all that come after it.
    async fn swap(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let result = self.ec2.set_groups(interface, groups).await;
        if result.as_ref().is_err_and(|error| error.fault == Fault::Throttled) {
            self.pace.refused(SWAP);
        }
        result
    }

    /// A call, when it is its turn and while the gate is open.
    async fn in_turn<T>(&self, action: &'static str, call: impl Future<Output = Call<T>>) -> Call<T> {
        let paced = async {
            self.pace.turn(action).await;
            call.await
        };
        self.gate.pass(action, paced).await
    }

    /// Sets the isolation group until EC2 accepts it or the time is over. Refused to the end, the originals come back: the
    /// transit group is open to everybody.
    async fn leave(
        &self,
        interface: &InterfaceId,
        through: &GroupId,
        isolation: &Groups,
        originals: &Groups,
    ) -> Call<()> {
        let mut refusals = 0;
        let trying = async {
            loop {
                let is_last = self.gate.while_open(self.pace.urgent_turn(SWAP)).await.is_none();
                let Err(error) = self.swap(interface, isolation).await else { return Ok(()) };
                refusals += u32::from(!error.fault.may_pass());
                if is_last || refusals >= REFUSALS {
                    return Err(error);
                }
                tracing::warn!(%interface, %error, "still to leave the transit group");
                let _ = self.gate.while_open(tokio::time::sleep(REFUSAL_PAUSE)).await;
            }
        };
        let Err(error) = self.until_last_try(trying).await else { return Ok(()) };
        let going_back = self.ec2.set_groups(interface, originals);
        if refusals >= REFUSALS && self.until_last_try(going_back).await.is_ok() {
            return Err(error);
        }
        let command = restore_command(interface, isolation);
        Err(CallError {
            code: CallError::IN_TRANSIT.to_owned(),
            message: format!("{interface} may be in {through}, which is open to everybody: run {command} ({error})"),
            ..error
        })
    }

    /// Ends a little after the gate is closed.
    async fn until_last_try(&self, call: impl Future<Output = Call<()>>) -> Call<()> {
        let end = async {
            self.gate.closed().await;
            tokio::time::sleep(LAST_TRY).await;
        };
        tokio::select! {
            biased;
            done = call => done,
            () = end => Err(out_of_time(SWAP)),
        }
    }

    async fn call(&self, step: &Step, not_cut: &mut Option<CallError>) -> Call<Written> {
        let Self { ec2, records, owner, gate, asked_by, .. } = self;
        let stamp = &Stamp { now: self.clock.now(), asked_by };
        let now = stamp.now.as_str();
        let done = |()| Written::Done;
        match step {
            Step::Record { instance, vpc, isolation_group, transit_group, interfaces, prior } => {
                let transit_group = transit_group.as_ref();
                let originals =
                    Originals { instance, owner, vpc, isolation_group, transit_group, interfaces, prior, stamp };
                gate.pass("dynamodb:PutItem", records.record(&originals)).await
            }
            Step::Pass { interface, through, hold_seconds, to, originals, .. } => {
                let (hold, to) = (Duration::from_secs(*hold_seconds), Groups::from([to.clone()]));
                self.pass(interface, through, hold, &to, originals, not_cut).await.map(done)
            }
            Step::SetGroups { interface, to, .. } => self.set_groups(interface, to).await.map(done),
            Step::Tag { resources, tags } => self.in_turn("ec2:CreateTags", ec2.tag(resources, tags)).await.map(done),
            Step::Untag { resources, keys } => {
                self.in_turn("ec2:DeleteTags", ec2.untag(resources, keys)).await.map(done)
            }
            Step::Mark { instance, from, state, reason, cut } => {
                let (from, state, reason, cut) = (*from, *state, reason.as_deref(), *cut);
                let marking = Marking { owner, instance, from, state, reason, cut, stamp };
                gate.pass("dynamodb:UpdateItem", records.mark(&marking)).await
            }
            Step::RequestSnapshots { instance } => {
                gate.pass("dynamodb:UpdateItem", records.request_snapshots(owner, instance, now)).await
            }
            Step::TakeSnapshots { instance, tags, .. } => {
                let snapshots = self.in_turn("ec2:CreateSnapshots", ec2.take_snapshots(instance, tags)).await?;
                let saving = records.save_snapshots(owner, instance, &snapshots, now);
                gate.pass("dynamodb:UpdateItem", saving).await
            }
            Step::SaveSnapshots { instance, snapshots } => {
                gate.pass("dynamodb:UpdateItem", records.save_snapshots(owner, instance, snapshots, now)).await
            }
            Step::Measure(measure) => self.measure(measure).await,
        }
    }

    async fn measure(&self, measure: &Measure) -> Call<Written> {
        let Self { ec2, records, owner, gate, .. } = self;
        let now = &self.clock.now();
        let modify = "ec2:ModifyInstanceAttribute";
        let changed = match measure {
            Measure::Save { instance, prior } => {
                return gate.pass("dynamodb:UpdateItem", records.save_protection(owner, instance, prior, now)).await;
            }
            Measure::Protect { instance, attribute } | Measure::Unprotect { instance, attribute, .. } => {
                self.in_turn(modify, ec2.set_attribute(instance, *attribute)).await
            }
            Measure::KeepVolumes { instance, volumes } => {
                let devices = volumes.values().map(|device| (device.clone(), false)).collect();
                self.in_turn(modify, ec2.set_deletion(instance, &devices)).await
            }
            Measure::UnkeepVolumes { instance, volumes, .. } => {
                let devices = volumes.values().map(|device| (device.clone(), true)).collect();
                self.in_turn(modify, ec2.set_deletion(instance, &devices)).await
            }
            Measure::DetachProfile { profile, .. } => {
                self.in_turn("ec2:DisassociateIamInstanceProfile", ec2.detach_profile(profile)).await
            }
            Measure::AttachProfile { instance, arn, .. } => {
                self.in_turn("ec2:AssociateIamInstanceProfile", ec2.attach_profile(instance, arn)).await
            }
            Measure::EnterStandby { group, instances } => {
                gate.pass("autoscaling:EnterStandby", ec2.enter_standby(group, instances)).await
            }
            Measure::ExitStandby { group, instances } => {
                gate.pass("autoscaling:ExitStandby", ec2.exit_standby(group, instances)).await
            }
        };
        changed.map(|()| Written::Done)
    }
}
