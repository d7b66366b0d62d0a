//! `plan` and `restore`: everything that the records hold, or some of it, through the planner and the executor of the function.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::incident::Incident;
use super::text::{duration, wrapped};
use super::{Operator, Progress, Status, Trouble};
use crate::model::{Groups, InstanceId, Interface, InterfaceId, Owner, Record};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::plan::{Plan, Severity};
use crate::ports::Change;

/// Between two looks at how far a restore is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a restore would do now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// One line each, in order.
    pub steps: Vec<String>,
    /// What stands in the way, or is worth saying.
    pub problems: Vec<String>,
    /// Records that are not only history.
    pub held: Vec<String>,
    /// Something would stay isolated.
    pub is_blocked: bool,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Something failed, or stays isolated.
    pub failed: bool,
    /// One line for each owner of records.
    pub done: Vec<String>,
    /// Worst first.
    pub details: Vec<String>,
    /// How long it took, until everything was read again.
    pub seconds: u64,
    /// Read again afterwards.
    pub status: Status,
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// What [`Operator::restore`] would do now. Changes nothing.
    ///
    /// # Errors
    /// An instance is named that has no record, or something cannot be read.
    pub async fn preview(&self, incident: &Incident, only: &BTreeSet<InstanceId>) -> Result<Preview, Trouble> {
        check_names(incident, only)?;
        let ports = self.ports_of(incident);
        let mut whole = Plan::default();
        for owner in incident.owners().keys() {
            let plan = self.reconciler(&ports, owner).rehearse_restore(&of(incident, owner), only).await;
            let plan = plan.map_err(|error| Trouble::Failed { what: "cannot tell what would be done", error })?;
            whole.work.extend(plan.work);
            whole.problems.extend(plan.problems);
        }
        let held = incident.held().map(|record| &record.instance).filter(|id| only.is_empty() || only.contains(*id));
        Ok(Preview {
            steps: whole.steps().map(ToString::to_string).collect(),
            problems: whole.problems.iter().map(ToString::to_string).collect(),
            held: held.map(ToString::to_string).collect(),
            is_blocked: whole.problems.iter().any(|problem| problem.severity() != Severity::Note),
        })
    }

    /// Restores, and reads everything again.
    ///
    /// # Errors
    /// An instance is named that has no record, the records are of another account or region, or nothing can be read
    /// afterwards.
    pub async fn restore(
        &self,
        incident: &Incident,
        only: &BTreeSet<InstanceId>,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<RestoreReport, Trouble> {
        let began = Instant::now();
        check_names(incident, only)?;
        let owners = incident.owners();
        for owner in owners.keys() {
            self.check_place(&owner.stack_id)?;
        }
        incident.check_single()?;
        let ports = self.ports_of(incident);
        let work = async {
            let (mut failed, mut done, mut details) = (false, vec![], vec![]);
            for owner in owners.keys() {
                match self.reconciler(&ports, owner).restore(&of(incident, owner), only).await {
                    Ok(restored) => {
                        let message = restored.report();
                        failed |= message.failed;
                        done.push(message.headline);
                        details.extend(message.details);
                    }
                    Err(request) => {
                        failed = true;
                        details.push(format!(
                            "overtaken by request {} of {}, which wants something else: what it wants is done, not this; look at the status, then run this again",
                            request, owner.stack_id
                        ));
                    }
                }
            }
            (failed, done, details)
        };
        let (mut failed, mut done, mut details) = tokio::select! {
            biased;
            ended = work => ended,
            never = self.watch_restore(incident, only, began, on_progress) => match never {},
        };
        let after = self.incident(&incident.address).await?;
        let status = self.status(&after).await;
        let late =
            after.held().map(|record| &record.instance).filter(|id| !incident.held().any(|seen| seen.instance == **id));
        let late: Vec<String> = late.filter(|_| only.is_empty()).map(ToString::to_string).collect();
        if !late.is_empty() {
            details.push(format!(
                "isolated since the plan was shown, and left so: {}; to restore what is left, run this again",
                late.join(", ")
            ));
        }
        let is_left = |record: &Record| only.is_empty() || only.contains(&record.instance);
        failed |= after.held().any(is_left) || only.is_empty() && status.is_anything_held();
        if done.is_empty() {
            done.push("nothing to restore: no record is held".to_owned());
        }
        Ok(RestoreReport { failed, done, details, seconds: began.elapsed().as_secs(), status })
    }
}

impl<E: Survey + Change, R: Archive, S: StackLife> Operator<E, R, S> {
    /// Shows how far a restore is, for as long as it is polled.
    async fn watch_restore(
        &self,
        incident: &Incident,
        only: &BTreeSet<InstanceId>,
        began: Instant,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Infallible {
        let meant = incident.held().filter(|record| only.is_empty() || only.contains(&record.instance));
        let recorded: BTreeMap<&InterfaceId, Groups> =
            meant.flat_map(|record| record.interfaces.keys().map(|id| (id, incident.isolating(record)))).collect();
        let ids: BTreeSet<InterfaceId> = recorded.keys().map(|id| (*id).clone()).collect();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // What fails here fails where it matters as well.
            let Ok(shown) = self.ports.ec2.interfaces(&ids).await else { continue };
            let is_inside = |found: &&Interface| {
                recorded.get(&found.id).is_some_and(|isolating| !isolating.is_disjoint(&found.groups))
            };
            on_progress(&Progress {
                stack: incident.stack_name.clone(),
                status: incident.stack.as_ref().map_or_else(|| "gone".to_owned(), |stack| stack.status.status.clone()),
                seconds: began.elapsed().as_secs(),
                // Of what is not shown nothing is said.
                done: shown.iter().filter(|found| !is_inside(found)).count(),
                total: ids.len(),
                what: "interfaces restored",
            });
        }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.held.is_empty() {
            return writeln!(f, "{}", wrapped("Nothing is held isolated: there is nothing to restore.", "  "));
        }
        writeln!(f, "{}", wrapped(&format!("To be restored: {}", self.held.join(", ")), "  "))?;
        for step in &self.steps {
            writeln!(f, "{}", wrapped(&format!("  {step}"), "    "))?;
        }
        if !self.steps.is_empty() {
            let last = "  then read back, take our tags off, and mark the records restored";
            writeln!(f, "{}", wrapped(last, "    "))?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "{}", wrapped(&format!("! {problem}"), "  ")))
    }
}

impl RestoreReport {
    /// A warning, if the stack stays and its next update isolates again what was restored.
    #[must_use]
    pub fn relisted(&self) -> Option<String> {
        self.status.relisted()
    }
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.done.iter().try_for_each(|line| writeln!(f, "{}", wrapped(line, "  ")))?;
        writeln!(f, "This took {}.", duration(self.seconds))?;
        self.details.iter().try_for_each(|line| writeln!(f, "{}", wrapped(&format!("! {line}"), "  ")))
    }
}

/// The instances that are held for an owner.
fn of(incident: &Incident, owner: &Owner) -> BTreeSet<InstanceId> {
    incident.held().filter(|record| record.owner == *owner).map(|record| record.instance.clone()).collect()
}

fn check_names(incident: &Incident, only: &BTreeSet<InstanceId>) -> Result<(), Trouble> {
    let unknown: Vec<String> =
        only.iter().filter(|id| !incident.ledger.records.contains_key(*id)).map(ToString::to_string).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Trouble::Refused(format!(
        "nothing was changed: table {} holds no record of {}",
        incident.table,
        unknown.join(", ")
    )))
}
