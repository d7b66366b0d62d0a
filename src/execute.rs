//! Carries a [`Plan`] out against the ports and collects what became of each step. Makes no choices.

use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::watch;

use crate::model::Owner;
use crate::plan::{Measure, Plan, Step, Work, volume_tags};
use crate::ports::{Call, CallError, Change, Fault, Originals, Records, Written};

/// Calls under way at once. EC2 refills five `ModifyNetworkInterfaceAttribute` a second (EC2 API throttling): more in
/// parallel would only be throttled.
const CONCURRENCY: usize = 10;

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub step: Step,
    pub result: Result<Written, CallError>,
}

/// Closed once the answer is due: **after the answer no further change is made.**
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Gate {
    pub fn close(&self) {
        self.0.send_replace(true);
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the gate is closed.
    pub async fn closed(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|closed| *closed).await;
    }

    /// Awaits `work` unless the gate is closed; stops waiting when it closes.
    pub async fn while_open<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.closed() => None,
            done = work => Some(done),
        }
    }

    /// The same for a call.
    async fn pass<T>(&self, action: &'static str, call: impl Future<Output = Call<T>>) -> Call<T> {
        self.while_open(call).await.unwrap_or_else(|| Err(out_of_time(action)))
    }
}

pub(crate) fn out_of_time(action: &'static str) -> CallError {
    CallError {
        action,
        fault: Fault::OutOfTime,
        code: "OutOfTime".to_owned(),
        message: "the time for an answer ran out before this was done; deploy again with a new Rerun to go on"
            .to_owned(),
    }
}

/// For whom and when a plan is carried out.
#[derive(Debug)]
pub struct Executor<'a, E, R> {
    pub ec2: &'a E,
    pub records: &'a R,
    pub owner: &'a Owner,
    pub gate: &'a Gate,
    /// ISO 8601 UTC.
    pub now: &'a str,
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
            let result = self.step(first).await;
            let go_on = result == Ok(Written::Done);
            outcomes.push(Outcome { step: first.clone(), result });
            if !go_on {
                return outcomes;
            }
        }
        let rest = work.then.iter().map(|step| async { Outcome { step: step.clone(), result: self.step(step).await } });
        outcomes.extend(futures_util::future::join_all(rest).await);
        outcomes
    }

    async fn step(&self, step: &Step) -> Call<Written> {
        let Self { ec2, records, owner, gate, now } = self;
        let done = |()| Written::Done;
        match step {
            Step::Record { instance, vpc, isolation_group, interfaces, prior } => {
                let originals = Originals { instance, owner, vpc, isolation_group, interfaces, prior, now };
                gate.pass("dynamodb:PutItem", records.record(&originals)).await
            }
            Step::SetGroups { interface, to, .. } => {
                gate.pass("ec2:ModifyNetworkInterfaceAttribute", ec2.set_groups(interface, to)).await.map(done)
            }
            Step::Tag { resources, tags } => gate.pass("ec2:CreateTags", ec2.tag(resources, tags)).await.map(done),
            Step::Untag { resources, keys } => gate.pass("ec2:DeleteTags", ec2.untag(resources, keys)).await.map(done),
            Step::Mark { instance, from, state, reason } => {
                let marking = records.mark(owner, instance, *from, *state, reason.as_deref(), now);
                gate.pass("dynamodb:UpdateItem", marking).await
            }
            Step::RequestSnapshots { instance } => {
                gate.pass("dynamodb:UpdateItem", records.request_snapshots(owner, instance, now)).await
            }
            Step::TakeSnapshots { instance, volumes, tags } => {
                let snapshots = gate.pass("ec2:CreateSnapshots", ec2.take_snapshots(instance, tags)).await?;
                let saving = records.save_snapshots(owner, instance, &snapshots, now);
                let saved = gate.pass("dynamodb:UpdateItem", saving).await?;
                // The set shares its tags; volume and device differ. A single one was born with them.
                for (volume, snapshot) in snapshots.iter().filter(|_| volumes.len() > 1) {
                    let own = volume_tags(volume, volumes.get(volume).map_or("", String::as_str));
                    gate.pass("ec2:CreateTags", ec2.tag(&[snapshot.to_string()].into(), &own)).await?;
                }
                Ok(saved)
            }
            Step::SaveSnapshots { instance, snapshots } => {
                gate.pass("dynamodb:UpdateItem", records.save_snapshots(owner, instance, snapshots, now)).await
            }
            Step::Measure(measure) => self.measure(measure).await,
        }
    }

    async fn measure(&self, measure: &Measure) -> Call<Written> {
        let Self { ec2, records, owner, gate, now } = self;
        let modify = "ec2:ModifyInstanceAttribute";
        let changed = match measure {
            Measure::Save { instance, prior } => {
                return gate.pass("dynamodb:UpdateItem", records.save_protection(owner, instance, prior, now)).await;
            }
            Measure::Protect { instance, attribute } | Measure::Unprotect { instance, attribute, .. } => {
                gate.pass(modify, ec2.set_attribute(instance, *attribute)).await
            }
            Measure::KeepVolumes { instance, volumes } => {
                let devices = volumes.values().map(|device| (device.clone(), false)).collect();
                gate.pass(modify, ec2.set_deletion(instance, &devices)).await
            }
            Measure::UnkeepVolumes { instance, volumes, .. } => {
                let devices = volumes.values().map(|device| (device.clone(), true)).collect();
                gate.pass(modify, ec2.set_deletion(instance, &devices)).await
            }
            Measure::DetachProfile { profile, .. } => {
                gate.pass("ec2:DisassociateIamInstanceProfile", ec2.detach_profile(profile)).await
            }
            Measure::AttachProfile { instance, arn, .. } => {
                gate.pass("ec2:AssociateIamInstanceProfile", ec2.attach_profile(instance, arn)).await
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
