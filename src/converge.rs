//! Observe, plan, carry out, again until the plan is empty.
//!
//! EC2's reads trail its writes, calls are throttled, and permissions of a role made a minute ago are not everywhere
//! yet: all of that is waited for here, and nowhere else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::execute::{Executor, Outcome};
use crate::model::Intent;
use crate::plan::{Passes, Plan, Problem, Step, Work};
use crate::ports::{Call, CallError, Change, Fault, Records, Written};
use crate::timing::gate::{Gate, out_of_time};

/// How long EC2 may go on showing what was there before a change that it accepted, from the first look on.
const STALE_READ_LIMIT: Duration = Duration::from_secs(30);
/// How long calls that are throttled are tried again at least, from the first time on: others who use the account's buckets have them
/// for a while, not for good, and whoever gives up leaves a host in the open.
const THROTTLED: Duration = Duration::from_secs(300);
/// How long a surprising reading is doubted, from the first time on.
const DOUBT: Duration = Duration::from_secs(5);
/// Whoever asked for snapshots may have died before, in which case Lambda delivers again after a minute.
const SNAPSHOTS_AWAITED: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How long failures that may pass are tried again, counted from the first one.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Lost, timed out, HTTP 5xx; throttled for five minutes at least.
    pub for_faults: Duration,
    /// Denied: a new role's permissions take a moment to arrive.
    pub for_permission: Duration,
}

impl Patience {
    fn covers(self, error: &CallError, since: Instant) -> bool {
        let limit = match error.fault {
            Fault::Denied => self.for_permission,
            Fault::Throttled => self.for_faults.max(THROTTLED),
            fault if fault.may_pass() => self.for_faults,
            _ => return false,
        };
        since.elapsed() < limit
    }
}

/// Why a look gave no plan.
#[derive(Debug)]
pub enum Blind {
    Failed(CallError),
    /// Another request of this owner has said what it wants meanwhile.
    Overtaken(Box<Intent>),
}

impl From<CallError> for Blind {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

/// One way of looking at the world and planning from it.
pub trait Phase: Send {
    fn look(&mut self) -> impl Future<Output = Result<Plan, Blind>> + Send;
    /// Told of every outcome before the next look.
    fn learn(&mut self, _outcome: &Outcome) {}
    /// Asked when nothing is left to do and surprising readings were doubted long enough: whether another look, which
    /// believes them, is worth it.
    fn believe(&mut self) -> bool {
        false
    }
    /// What the last look could do without, though it should have been read, and why it was not.
    fn unread(&self) -> BTreeMap<String, CallError> {
        BTreeMap::new()
    }
}

/// What is left when there is nothing more to do.
#[derive(Debug, Default)]
pub struct Settled {
    pub problems: Vec<Problem>,
    pub failures: Vec<(Step, CallError)>,
    /// The look that failed to the end: nothing after it is known.
    pub blind: Option<CallError>,
    /// What could not be read to the end: nothing about it is known.
    pub unread: BTreeMap<String, CallError>,
}

/// Repeats a phase until its plan is empty, or what is left of it has failed.
///
/// # Errors
/// The intent of the request that overtook this one.
pub async fn converge<P: Phase, E: Change, R: Records>(
    phase: &mut P,
    executor: &Executor<'_, E, R>,
    patience: Patience,
) -> Result<Settled, Intent> {
    let mut state = Convergence::new(patience);
    loop {
        let plan = match executor.gate.while_open(phase.look()).await {
            None => return Ok(state.settle_in_the_dark()),
            Some(Ok(plan)) => plan,
            Some(Err(Blind::Overtaken(intent))) => return Err(*intent),
            Some(Err(Blind::Failed(error))) => {
                tracing::warn!(%error, "cannot look");
                if state.may_look_again(&error) {
                    state.pauses.pause(executor.gate).await;
                    continue;
                }
                return Ok(state.settle(Plan::default(), Some(error)));
            }
        };
        state.blind = None;
        state.note_unread(phase.unread());
        state.note_problems(&plan);
        let due = state.due(&plan);
        if !due.is_empty() {
            tracing::info!(plan = %due, "to do");
            let outcomes = executor.carry_out(&due).await;
            let mut slow = false;
            for outcome in outcomes {
                phase.learn(&outcome);
                slow |= !state.take(outcome);
            }
            if slow {
                state.pauses.pause(executor.gate).await;
            } else {
                state.pauses = Pauses::default();
            }
        } else if state.waits_for(&plan) || state.doubts() || state.may_read_again() {
            state.pauses.pause(executor.gate).await;
        } else if !phase.believe() {
            return Ok(state.settle(plan, None));
        }
    }
}

/// One call on its own, with the patience of a phase.
///
/// # Errors
/// Its last failure, also where the time ran out meanwhile.
pub async fn persist<T, F: Future<Output = Call<T>>>(
    gate: &Gate,
    patience: Patience,
    action: &'static str,
    call: impl Fn() -> F,
) -> Call<T> {
    let since = Instant::now();
    let mut pauses = Pauses::default();
    let mut last = None;
    loop {
        match gate.while_open(call()).await {
            None => return Err(last.unwrap_or_else(|| out_of_time(action))),
            Some(Err(error)) if patience.covers(&error, since) => {
                tracing::warn!(%error, "trying again");
                pauses.pause(gate).await;
                last = Some(error);
            }
            Some(result) => return result,
        }
    }
}

/// Longer and longer, cut short when the gate closes.
#[derive(Debug, Default)]
struct Pauses(u32);

impl Pauses {
    async fn pause(&mut self, gate: &Gate) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.0.min(8)).min(LONGEST_PAUSE);
        self.0 += 1;
        let _ = gate.while_open(tokio::time::sleep(pause)).await;
    }
}

struct Convergence {
    patience: Patience,
    /// The problems of the last look, and since when there are.
    problems: BTreeMap<Problem, Instant>,
    pauses: Pauses,
    /// Since when no look succeeds, and why the last one did not.
    blind: Option<(Instant, CallError)>,
    /// The same for what was left out of the last look.
    unread: BTreeMap<String, (Instant, CallError)>,
    /// Carried out, and the first look that did not show it.
    accepted: HashMap<Step, Option<Instant>>,
    failing: HashMap<Step, (Instant, CallError)>,
    /// In the order they failed.
    given_up: Vec<(Step, CallError)>,
}

impl Convergence {
    fn new(patience: Patience) -> Self {
        Self {
            patience,
            problems: BTreeMap::new(),
            pauses: Pauses::default(),
            blind: None,
            unread: BTreeMap::new(),
            accepted: HashMap::new(),
            failing: HashMap::new(),
            given_up: Vec::new(),
        }
    }

    /// What is neither given up nor accepted a moment ago.
    fn due(&mut self, plan: &Plan) -> Plan {
        // What is no longer planned was seen done. Should it be planned again, it is a new change.
        let planned: HashSet<&Step> = plan.steps().collect();
        self.accepted.retain(|step, _| planned.contains(step));
        for since in self.accepted.values_mut() {
            since.get_or_insert_with(Instant::now);
        }
        let stale: Vec<Step> = plan.steps().filter(|step| self.is_overdue(step)).cloned().collect();
        for step in stale {
            self.accepted.remove(&step);
            let error = not_visible(&step);
            self.give_up(step, error);
        }
        let work = plan.work.iter().filter(|work| !work.first.as_ref().is_some_and(|first| self.has_given_up(first)));
        let work = work.filter_map(|work| {
            let open = |step: &&Step| !self.has_given_up(step) && !self.accepted.contains_key(*step);
            let first = work.first.as_ref().filter(open).cloned();
            let then: Vec<Step> = work.then.iter().filter(open).cloned().collect();
            (first.is_some() || !then.is_empty()).then_some(Work { first, then })
        });
        Plan { work: work.collect(), problems: plan.problems.clone() }
    }

    fn has_given_up(&self, step: &Step) -> bool {
        self.given_up.iter().any(|(given_up, _)| given_up == step)
    }

    fn give_up(&mut self, step: Step, error: CallError) {
        if !self.has_given_up(&step) {
            self.given_up.push((step, error));
        }
    }

    fn is_overdue(&self, step: &Step) -> bool {
        self.accepted.get(step).copied().flatten().is_some_and(|since| since.elapsed() >= STALE_READ_LIMIT)
    }

    fn waits_for(&self, plan: &Plan) -> bool {
        plan.steps().any(|step| self.accepted.contains_key(step))
    }

    fn note_problems(&mut self, plan: &Plan) {
        let since = |problem: &Problem| self.problems.get(problem).copied().unwrap_or_else(Instant::now);
        self.problems = plan.problems.iter().map(|problem| (problem.clone(), since(problem))).collect();
    }

    /// Whether a problem may be gone a little later.
    fn doubts(&self) -> bool {
        self.problems.iter().any(|(problem, since)| {
            let limit = problem.passes().map(|passes| match passes {
                Passes::AsStaleRead => DOUBT,
                Passes::WithOtherRequest => SNAPSHOTS_AWAITED,
                Passes::ByItself => self.patience.for_faults,
            });
            limit.is_some_and(|limit| since.elapsed() < limit)
        })
    }

    /// Whether the next look can follow at once.
    fn take(&mut self, Outcome { step, result, .. }: Outcome) -> bool {
        match result {
            Ok(Written::Done) => {
                self.failing.remove(&step);
                self.accepted.insert(step, None);
                true
            }
            Ok(Written::Lost) => {
                tracing::info!(%step, "somebody else wrote first");
                let (since, error) = self.failing.entry(step.clone()).or_insert_with(|| (Instant::now(), lost()));
                let (since, error) = (*since, error.clone());
                if since.elapsed() >= STALE_READ_LIMIT {
                    self.give_up(step, error);
                }
                false
            }
            Err(error) => {
                tracing::warn!(%step, %error, "failed");
                let since = self.failing.get(&step).map_or_else(Instant::now, |(since, _)| *since);
                if self.patience.covers(&error, since) {
                    self.failing.insert(step, (since, error));
                } else {
                    self.failing.remove(&step);
                    self.give_up(step, error);
                }
                false
            }
        }
    }

    fn may_look_again(&mut self, error: &CallError) -> bool {
        let since = self.blind.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        self.blind = Some((since, error.clone()));
        self.patience.covers(error, since)
    }

    fn note_unread(&mut self, unread: BTreeMap<String, CallError>) {
        let since = |what: &String| self.unread.get(what).map_or_else(Instant::now, |(since, _)| *since);
        self.unread = unread.into_iter().map(|(what, error)| (what.clone(), (since(&what), error))).collect();
    }

    fn may_read_again(&self) -> bool {
        self.unread.values().any(|(since, error)| self.patience.covers(error, *since))
    }

    /// The time ran out during a look: what kept the ones before from succeeding says more than that.
    fn settle_in_the_dark(mut self) -> Settled {
        let last = self.blind.take().map_or_else(|| out_of_time("ec2:DescribeInstances"), |(_, error)| error);
        self.settle(Plan::default(), Some(last))
    }

    fn settle(self, plan: Plan, blind: Option<CallError>) -> Settled {
        let mut failures = self.given_up;
        if blind.is_some() {
            failures.extend(self.failing.into_iter().map(|(step, (_, error))| (step, error)));
        } else {
            // A measure that is no longer planned was taken after all, or there is nothing left to protect.
            let planned: HashSet<&Step> = plan.steps().collect();
            failures.retain(|(step, _)| !matches!(step, Step::Measure(_)) || planned.contains(step));
        }
        let unread = self.unread.into_iter().map(|(what, (_, error))| (what, error)).collect();
        Settled { problems: plan.problems, failures, blind, unread }
    }
}

/// The code of [`not_visible`].
pub(crate) const NOT_VISIBLE: &str = "NotVisible";

fn not_visible(step: &Step) -> CallError {
    let action = match step {
        Step::Measure(measure) => measure.seen_by(),
        _ => "ec2:DescribeNetworkInterfaces",
    };
    CallError {
        action,
        fault: Fault::TimedOut,
        code: NOT_VISIBLE.to_owned(),
        message: "EC2 accepted the change but 30 s later still shows the old state".to_owned(),
    }
}

/// The code of [`lost`].
pub(crate) const LOST: &str = "ConditionalCheckFailedException";

fn lost() -> CallError {
    CallError {
        action: "dynamodb:PutItem",
        fault: Fault::Refused,
        code: LOST.to_owned(),
        message: "another request kept changing this record; wait until it has ended".to_owned(),
    }
}
