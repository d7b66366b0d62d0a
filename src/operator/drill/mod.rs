//! `drill`: a rehearsal in a real account, on an instance that it makes for it, which shows what nothing but a real account can.
//!
//! **It touches nothing that it has not made**, and takes away what it has made, whatever fails. A drill that was killed is taken away
//! by its tags, and by what EC2 shows beside them that cannot be forged.

mod assumptions;
mod clean;
mod judge;
mod left;
mod notes;
mod probes;
mod rehearsal;
mod shapes;
mod text;

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::incident::cannot_look;
use super::isolate::INCIDENT;
use super::next::Next;
use super::{Operator, Progress, Trouble, refused};
use crate::model::{GroupId, Groups, InstanceId, InterfaceId, VpcId, short_digest};
use crate::operator::ports::drill::{Evaluates, Events, Fixtures, Launch, Probes};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::ports::{Call, CallError, Change};

pub use assumptions::{ASSUMPTIONS, Assumption};
pub use clean::Cleaned;
pub use notes::{Finding, Outcome, scrubbed};
pub use shapes::{SHAPES, Shape};

/// The newest image of Amazon Linux (EC2 User Guide, "Reference AMIs using Systems Manager parameters").
pub const IMAGE: &str = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
/// The smallest that takes a second interface costs no more than it must.
pub const KIND: &str = "t3.micro";
/// Changes with the meaning of a field of [`Drill`].
const SCHEMA_VERSION: u32 = 1;
/// EC2 starts an instance within a minute or two.
const LONGEST_START: Duration = Duration::from_secs(600);
/// A group that was made a moment ago may not be known everywhere.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a drill would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillOrder {
    /// Eight hexadecimal digits.
    pub id: String,
    pub subnet: String,
    pub vpc: VpcId,
    /// Of the image, where it is not the newest Amazon Linux 2023.
    pub image: Option<String>,
}

/// What a drill has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drill {
    pub schema_version: u32,
    pub version: &'static str,
    /// Eight hexadecimal digits of the digest of the incident's template.
    pub template: String,
    pub region: String,
    pub instance_type: &'static str,
    /// When it began, in UTC.
    pub at: String,
    pub seconds: u64,
    /// Why it ended early.
    pub failed: Option<String>,
    pub findings: Vec<Finding>,
    /// What could not be taken away, and how to.
    pub left: Vec<Next>,
}

impl Drill {
    /// It came to its end, everything that was seen is as we assume, and nothing is left.
    #[must_use]
    pub fn is_as_assumed(&self) -> bool {
        let is_refuted = self.findings.iter().any(|finding| finding.outcome == Outcome::Refuted);
        self.failed.is_none() && self.left.is_empty() && !is_refuted
    }
}

/// What there is to practise on.
struct Stage {
    /// One for each interface.
    groups: [GroupId; 2],
    instance: InstanceId,
    /// The primary one first.
    cards: [InterfaceId; 2],
}

/// Why a drill ended before its end. What it has made is taken away.
fn broken(why: &str) -> Trouble {
    Trouble::Refused(why.to_owned())
}

fn failed(what: &'static str) -> impl Fn(CallError) -> Trouble {
    move |error| Trouble::Failed { what, error }
}

fn only(group: &GroupId) -> Groups {
    [group.clone()].into()
}

/// Asks until it is so, or the time is up: how long that took, and how many readings.
async fn until(limit: Duration, every: Duration, is_so: impl AsyncFn() -> Call<bool>) -> Call<Option<(Duration, u32)>> {
    let (began, mut readings) = (Instant::now(), 0);
    loop {
        readings += 1;
        if is_so().await? {
            return Ok(Some((began.elapsed(), readings)));
        }
        if began.elapsed() >= limit {
            return Ok(None);
        }
        tokio::time::sleep(every).await;
    }
}

impl<E, R, S> Operator<E, R, S>
where
    E: Survey + Change + Fixtures + Probes + Clone,
    R: Archive,
    S: StackLife + Events + Clone,
{
    /// Looks whether a drill can be held there. Changes nothing.
    ///
    /// # Errors
    /// There is no such subnet, or no responder.
    pub async fn drill_order(&self, subnet: &str, image: Option<String>) -> Result<DrillOrder, Trouble> {
        let vpc = self.ports.ec2.vpc_of(subnet).await.map_err(cannot_look)?;
        let (account, region) = (&self.site.account, &self.site.region);
        let Some(vpc) = vpc else {
            return Err(refused(&format!("there is no subnet {subnet} in account {account}, region {region}")));
        };
        if self.responder().await?.is_none() {
            return Err(refused(&format!(
                "a drill uses the responder, and there is none in account {account}, region {region}. Prepare it first (a minute; in the project's folder: make responder)"
            )));
        }
        let mut id = short_digest(&self.request_id);
        id.truncate(8);
        Ok(DrillOrder { id, subnet: subnet.to_owned(), vpc, image })
    }

    /// Holds it, and takes away what it has made.
    pub async fn drill(
        &self,
        order: &DrillOrder,
        machines: &impl Evaluates,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Drill {
        let (began, at) = (Instant::now(), self.clock.now().to_string());
        let mut notes = notes::Notes::default();
        self.read_findings(machines, &mut notes).await;
        let result = self.act(order, &mut notes, on_progress).await;
        tracing::info!("taking everything of the drill away");
        let cleaned = self.clean(&order.id).await;
        let mut template = short_digest(INCIDENT);
        template.truncate(8);
        Drill {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            template,
            region: self.site.region.clone(),
            instance_type: KIND,
            at,
            seconds: began.elapsed().as_secs(),
            failed: result.err().map(|trouble| scrubbed(&trouble.to_string())),
            findings: notes.findings(),
            left: cleaned.left,
        }
    }

    async fn act(
        &self,
        order: &DrillOrder,
        notes: &mut notes::Notes,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<(), Trouble> {
        let stage = self.set(order).await?;
        if order.image.is_some() {
            notes.note_unseen("ec2-image-by-parameter", "another image");
        } else {
            notes.note("ec2-image-by-parameter", true, KIND);
        }
        self.probe(&stage, &order.id, notes).await;
        self.rehearse_incident(&stage, order, notes, on_progress).await?;
        self.part(&stage, notes).await
    }

    /// Makes two groups, and an instance with an interface in each.
    async fn set(&self, order: &DrillOrder) -> Result<Stage, Trouble> {
        let ec2 = &self.ports.ec2;
        tracing::info!("making two groups and an instance");
        let mut groups = Vec::new();
        for letter in ['a', 'b'] {
            groups.push(
                ec2.make_group(&order.vpc, &order.id, letter)
                    .await
                    .map_err(failed("the drill's groups cannot be made"))?,
            );
        }
        let [a, b] = <[GroupId; 2]>::try_from(groups).map_err(|_| broken("the drill has no groups"))?;
        let image = order.image.as_deref().unwrap_or(IMAGE);
        let launch = Launch { drill: &order.id, image, kind: KIND, subnet: &order.subnet, groups: [&a, &b] };
        let began = Instant::now();
        let instance = loop {
            match ec2.launch(&launch).await {
                Ok(instance) => break instance,
                Err(error) if error.code == "InvalidGroup.NotFound" && began.elapsed() < LONGEST_DELAY => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(failed("the drill's instance cannot be launched")(error)),
            }
        };
        tracing::info!("waiting until the instance runs");
        let ids = [instance.clone()].into();
        let began = Instant::now();
        loop {
            let found = ec2.instances(&ids).await.map_err(cannot_look)?;
            let running = found.first().filter(|found| found.state == "running");
            let cards = running.map(|found| found.interfaces.iter().map(|card| card.id.clone()).collect::<Vec<_>>());
            if let Some(Ok(cards)) = cards.map(<[InterfaceId; 2]>::try_from) {
                return Ok(Stage { groups: [a, b], instance, cards });
            }
            if began.elapsed() > LONGEST_START {
                return Err(broken("the drill's instance does not run"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets the instance go, and looks what EC2 shows of it then.
    async fn part(&self, stage: &Stage, notes: &mut notes::Notes) -> Result<(), Trouble> {
        let ec2 = &self.ports.ec2;
        // By the way of every drill, so that nothing stays of its volumes.
        self.end_instances(&[stage.instance.clone()].into())
            .await
            .map_err(failed("the drill's instance cannot be terminated"))?;
        let shown = ec2.instances(&[stage.instance.clone()].into()).await.map_err(cannot_look)?;
        match shown.first() {
            Some(shown) => {
                let holds = shown.is_terminated() && shown.interfaces.is_empty();
                let seen = format!("{}, {} interfaces", shown.state, shown.interfaces.len());
                notes.note("ec2-terminated-shows-no-interfaces", holds, seen);
            }
            None => notes.note("ec2-terminated-shows-no-interfaces", false, "not shown"),
        }
        Ok(())
    }
}
