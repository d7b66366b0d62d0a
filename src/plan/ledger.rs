//! What one invocation did to one instance, and what it saw first: from it follow the two rules about doubtful readings.
//!
//! - **A reading that contradicts an accepted write of ours**: it is looked at again; if it stays, the same is written
//!   again, a few times, and after [`FIGHT`] it is named.
//! - **A reading by which a duty would end or be refused** is a [`Doubt`]: it is believed when it was read again
//!   [`DOUBTED`] later. So is a refusal that says that something is not there.
//!
//! Pure: time comes in as how long the invocation has lasted.

mod doubt;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::{Plan, Problem, Step, StepError, Work};
use crate::model::{CallError, Fault, Groups, InterfaceId, Record, ShowGroups, State, Time};

pub use doubt::Doubt;

/// How long a contradiction may last before it is named. EC2's reads trail its writes by seconds.
const FIGHT: Duration = Duration::from_secs(30);
/// A reading that shows nothing is believed when it is the same after this long.
pub const DOUBTED: Duration = Duration::from_secs(5);
/// What lies between two looks counts for no longer than this: after a long pause the same is written again, and looked at.
const APART: Duration = Duration::from_secs(10);
/// When the same is written again, counted from the first contradicting look.
const REWRITES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(12), Duration::from_secs(25)];
/// How often that is done besides, at once, if a look shows what was never there before: another one's change.
const ANSWERS: usize = 3;
/// So many times, the first one included, are the parts of an instance seen to be others before they are said to keep changing.
const CHANGES: usize = 4;
/// No lease is longer: the longest hold, and half a minute. A longer one was written by another clock.
const LONGEST_LEASE: Duration = Duration::from_secs(90);
/// Calls that are throttled are tried again at least so long: others use the account's buckets for a while only, and
/// giving up leaves an instance in the open.
const THROTTLED: Duration = Duration::from_secs(300);
/// Tags are for people: nothing waits longer for a call that fails, unless it is throttled.
const FOR_TAGS: Duration = Duration::from_secs(60);
/// Pauses double from the first to the longest.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The pause before a call that failed so often is tried again, and between looks that wait for something.
pub(crate) fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.min(8)).min(LONGEST_PAUSE)
}

/// How long failures that may pass are tried again, counted from the first one.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Lost, timed out, HTTP 5xx; throttled for five minutes at least.
    pub for_faults: Duration,
    /// Denied: a new role's permissions take a moment to arrive.
    pub for_permission: Duration,
}

impl Patience {
    /// Whether a failure that has lasted this long may still pass.
    #[must_use]
    pub fn covers(self, fault: Fault, lasted: Duration) -> bool {
        let limit = match fault {
            Fault::Denied => self.for_permission,
            Fault::Throttled => self.for_faults.max(THROTTLED),
            Fault::Unseen => DOUBTED,
            fault if fault.may_pass() => self.for_faults,
            _ => return false,
        };
        lasted < limit
    }

    fn covers_step(self, error: &StepError, lasted: Duration) -> bool {
        match error {
            // Believed, it is another error.
            _ if error.is_unseen() => true,
            StepError::Call(error) | StepError::InTransit { cause: error, .. } => self.covers(error.fault, lasted),
            StepError::Lost | StepError::LeaseOver => lasted < FIGHT,
            // Whoever tries to the end writes it again.
            StepError::NotSeen { .. } => self.for_faults == Duration::MAX,
            StepError::Overtaken => false,
        }
    }
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub step: Step,
    pub result: Result<(), StepError>,
    pub passage: Option<Passage>,
}

/// How an interface fared that was to pass the transit group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    Done,
    /// It went through, and did not show the transit group at the end of its hold: somebody has opened it meanwhile.
    Opened,
    /// It was isolated directly, for this reason.
    Refused(String),
    /// It was isolated directly, since more were to pass than may: its turn comes.
    Postponed,
}

impl Passage {
    #[must_use]
    pub fn is_through(&self) -> bool {
        matches!(self, Self::Done | Self::Opened)
    }
}

#[derive(Debug, Clone, Default)]
struct Attempt {
    is_accepted: bool,
    /// Of the last try, and when the first of an unbroken series failed.
    failure: Option<Box<(StepError, Duration)>>,
    tries: u32,
    /// What an interface showed before each time this was written to it, and went through: what readings that trail may show.
    before: Vec<Groups>,
    contradicted: Option<Contradiction>,
    next: Duration,
    over: Option<Box<StepError>>,
}

impl Attempt {
    fn failure(&self) -> Option<&StepError> {
        self.over.as_deref().or(self.failure.as_ref().map(|failure| &failure.0))
    }
}

/// Looks that show what was there before an accepted write.
#[derive(Debug, Clone, Copy)]
struct Contradiction {
    /// When the last such look was.
    last: Duration,
    /// How long they have gone on, without what is beyond [`APART`] between two of them.
    lasted: Duration,
    /// How often the same was written again since the first, and how often because another one had changed it.
    rewrites: usize,
    answers: usize,
}

/// What this invocation did to one instance.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    attempts: HashMap<Step, Attempt>,
    /// By their keys.
    under_way: HashMap<Step, Step>,
    /// When it was looked last, and before that.
    looked: (Option<Duration>, Option<Duration>),
    doubts: BTreeMap<Doubt, Duration>,
    /// Since when the parts of the instance are doubted without an end, and how many looks have shown others than the one before.
    changing: Option<(Duration, usize)>,
    written: BTreeMap<InterfaceId, (Groups, bool)>,
    passages: BTreeMap<InterfaceId, Passage>,
    /// The transit group of those that passed, while a reading that trails may show it: until one shows them isolated.
    trailing: BTreeMap<InterfaceId, Groups>,
    /// The lease of another invocation: as its record says it, and until when it counts.
    rival: Option<(Time, Time)>,
    /// Problems that are seen once only, and must not go unsaid.
    pub said: BTreeSet<Problem>,
    /// This invocation is the one that asked for the snapshots.
    pub asked_for_snapshots: bool,
    /// It took measures to protect the instance.
    pub has_protected: bool,
    /// Its record said once that it was isolated as a whole.
    pub was_settled: bool,
    /// Its record said that it was being restored, by another invocation.
    was_restoring: bool,
    /// Readings are taken as they are: nothing is waited for.
    pub is_trusting: bool,
}

impl Due {
    fn by(&mut self, at: Option<Duration>) {
        self.until = self.until.into_iter().chain(at).min();
    }
}

/// What of a plan is to be done now.
#[derive(Debug, Default)]
pub struct Due {
    pub work: Vec<Work>,
    /// Something is not over yet: look again.
    pub waits: bool,
    /// Nothing but that there may be more than is shown: one look when the time is over is enough.
    pub rests: bool,
    /// When the invocation has lasted this long, at the latest.
    pub until: Option<Duration>,
    /// A step was given up just now: what follows from that is not in this plan.
    pub gave_up: bool,
}

impl Ledger {
    /// Whether a doubtful reading is believed by now.
    #[must_use]
    pub(super) fn believes(&self, doubt: &Doubt, elapsed: Duration) -> bool {
        self.is_trusting || self.doubts.get(doubt).is_some_and(|since| elapsed.saturating_sub(*since) >= doubt.limit())
    }

    /// Whether the parts of the instance have changed so often, and for so long, that nobody waits for their end.
    #[must_use]
    pub(super) fn saw_changing_parts(&self, elapsed: Duration) -> bool {
        self.changing.is_some_and(|(since, changes)| changes >= CHANGES && elapsed.saturating_sub(since) >= FIGHT)
    }

    /// What was last written to an interface, and whether that was accepted.
    #[must_use]
    pub fn written(&self, interface: &InterfaceId) -> Option<(&Groups, bool)> {
        self.written.get(interface).map(|(groups, is_accepted)| (groups, *is_accepted))
    }

    /// Whether EC2 accepted any groups.
    #[must_use]
    pub(crate) fn has_moved(&self) -> bool {
        self.written.values().any(|(_, is_accepted)| *is_accepted)
    }

    /// Whether these groups were written to an interface, which EC2 accepted.
    #[must_use]
    pub(super) fn has_written(&self, interface: &InterfaceId, groups: &Groups) -> bool {
        self.written(interface) == Some((groups, true))
    }

    /// Whether these groups had to be written to an interface again a moment ago: another person or tool may be at it
    /// still.
    #[must_use]
    pub(super) fn is_contested(&self, interface: &InterfaceId, groups: &Groups, elapsed: Duration) -> bool {
        self.attempts.iter().any(|(step, attempt)| {
            let is_meant = matches!(step, Step::SetGroups { interface: of, to, .. } if of == interface && to == groups);
            let is_recent = |last: Duration| elapsed.saturating_sub(last) <= FIGHT;
            is_meant
                && attempt.contradicted.is_some_and(|seen| seen.rewrites + seen.answers > 0 && is_recent(seen.last))
        })
    }

    #[must_use]
    pub fn passage(&self, interface: &InterfaceId) -> Option<&Passage> {
        self.passages.get(interface)
    }

    /// The passages of ours that hold an interface, or wait for it.
    pub fn passing(&self) -> impl Iterator<Item = &Step> {
        self.under_way.values().filter(|step| matches!(step, Step::Pass { .. }))
    }

    /// That of one interface.
    #[must_use]
    pub(super) fn passage_under_way(&self, of: &InterfaceId) -> Option<&Step> {
        self.passing().find(|step| matches!(step, Step::Pass { interface, .. } if interface == of))
    }

    /// Whether a step is being carried out.
    #[must_use]
    pub fn is_under_way(&self, step: &Step) -> bool {
        self.under_way.contains_key(&step.key())
    }

    #[must_use]
    pub(super) fn has_rival(&self, now: Time) -> bool {
        self.rival.is_some_and(|(_, until)| now < until) && !self.is_trusting
    }

    /// Whether a step was carried out.
    #[must_use]
    pub(crate) fn is_accepted(&self, step: &Step) -> bool {
        self.attempts.get(&step.key()).is_some_and(|attempt| attempt.is_accepted)
    }

    /// Why a step is not tried any more.
    #[must_use]
    pub(super) fn given_up(&self, step: &Step) -> Option<&StepError> {
        self.attempts.get(&step.key()).and_then(|attempt| attempt.over.as_deref())
    }

    /// Why a step is not done yet, or will not be.
    #[must_use]
    pub fn failure(&self, step: &Step) -> Option<&StepError> {
        self.attempts.get(&step.key())?.failure()
    }

    /// Every step that failed and did not succeed since.
    pub fn failures(&self) -> impl Iterator<Item = (&Step, &StepError)> {
        self.attempts.iter().filter_map(|(step, attempt)| Some((step, attempt.failure()?)))
    }

    /// Looks at the record that was read: `writer` is this invocation.
    pub fn note_record(&mut self, record: Option<&Record>, writer: &str, now: Time) {
        let is_settled = |record: &Record| !matches!(record.state, State::Isolating | State::Restored);
        self.was_settled |= record.is_some_and(is_settled);
        self.was_restoring |= record.is_some_and(|record| {
            record.state == State::Restoring && record.lease.as_ref().is_none_or(|lease| lease.writer != writer)
        });
        match record.map(|record| (record, &record.lease)) {
            Some((record, Some(lease))) if matches!(record.state, State::Isolating | State::Restoring) => {
                if lease.writer != writer && self.rival.is_none_or(|(said, _)| said < lease.until) {
                    self.rival = Some((lease.until, lease.until.min(now + LONGEST_LEASE)));
                }
            }
            // Whoever had it has ended.
            _ => self.rival = None,
        }
    }

    /// Whether what protects the instance is to be read again, although nothing of it was changed: another invocation may have been
    /// at it when it was read, or had sent a change that arrives later.
    pub fn rereads(&mut self, elapsed: Duration) -> bool {
        let is_believed = |doubt: &Doubt| matches!(doubt, Doubt::Parts(..)) && self.believes(doubt, elapsed);
        let is_later = self.was_restoring && self.doubts.keys().any(is_believed);
        // Once is enough.
        self.was_restoring &= !is_later;
        is_later || self.doubts.contains_key(&Doubt::Rival)
    }

    /// Looks at what a plan doubts, which is what the look behind it has shown.
    pub fn note_doubts(&mut self, plan: &Plan, elapsed: Duration) {
        self.looked = (Some(elapsed), self.looked.0);
        self.trailing.retain(|interface, _| !plan.standing.isolated.contains(interface));
        let since = |doubt: &Doubt| self.doubts.get(doubt).copied().unwrap_or(elapsed);
        let is_said = plan.problems.iter().any(|problem| matches!(problem, Problem::KeepsChanging { .. }));
        let parts = plan.doubts.iter().find(|doubt| matches!(doubt, Doubt::Parts(..)));
        self.changing = match parts.filter(|parts| !self.believes(parts, elapsed)) {
            Some(parts) => {
                let (begun, changes) = self.changing.unwrap_or((elapsed, 0));
                Some((begun, changes + usize::from(!self.doubts.contains_key(parts))))
            }
            None => self.changing.filter(|_| is_said),
        };
        self.doubts = plan.doubts.iter().map(|doubt| (doubt.clone(), since(doubt))).collect();
        self.said.extend(plan.remember.iter().cloned());
    }

    /// What of a plan is to be done now.
    pub fn due(&mut self, plan: &Plan, elapsed: Duration, patience: Patience) -> Due {
        let mut due = Due { waits: !self.under_way.is_empty(), ..Due::default() };
        let given_up = self.count_given_up();
        for doubt in plan.doubts.iter().filter(|doubt| !self.believes(doubt, elapsed)) {
            *(if matches!(doubt, Doubt::Parts(..) | Doubt::Profile) { &mut due.rests } else { &mut due.waits }) = true;
            due.by(self.doubts.get(doubt).and_then(|since| since.checked_add(doubt.limit())));
        }
        for work in &plan.work {
            // What is done first is done for the others: it may be done again with them.
            let is_alone = work.then.is_empty();
            let first = work.first.as_ref().map(|step| match is_alone {
                true => self.admit(step, elapsed, patience),
                false => self.admit_untried(&step.key(), elapsed, patience).unwrap_or(Admission::Due),
            });
            match first {
                Some(Admission::Over) => continue,
                Some(Admission::Wait) => {
                    due.waits = true;
                    continue;
                }
                _ => {}
            }
            let admitted: Vec<(&Step, Admission)> =
                work.then.iter().map(|step| (step, self.admit(step, elapsed, patience))).collect();
            due.waits |= admitted.iter().any(|(_, admission)| *admission == Admission::Wait);
            let then: Vec<Step> = admitted
                .into_iter()
                .filter(|(_, admission)| *admission == Admission::Due)
                .map(|(step, _)| step.clone())
                .collect();
            // The first step is there for the others.
            if is_alone || !then.is_empty() {
                due.work.push(Work { first: work.first.clone(), then });
            }
        }
        let waiting = plan.steps().filter_map(|step| self.attempts.get(&step.key()));
        for attempt in waiting.filter(|attempt| attempt.over.is_none()) {
            let again = attempt
                .contradicted
                .filter(|_| attempt.failure.is_none())
                .map(|seen| seen.last + REWRITES.get(seen.rewrites).unwrap_or(&FIGHT).saturating_sub(seen.lasted));
            due.by(again.or(Some(attempt.next)).filter(|at| *at > elapsed));
        }
        due.gave_up = self.count_given_up() > given_up;
        due
    }

    fn count_given_up(&self) -> usize {
        self.attempts.values().filter(|attempt| attempt.over.is_some()).count()
    }

    fn admit(&mut self, step: &Step, elapsed: Duration, patience: Patience) -> Admission {
        let key = step.key();
        if let Some(admission) = self.admit_untried(&key, elapsed, patience) {
            return admission;
        }
        let Some(attempt) = self.attempts.get_mut(&key) else { return Admission::Due };
        // Where looks are far between, nothing has shown that it was over.
        let goes_on = |seen: &Contradiction| {
            elapsed.saturating_sub(seen.last) <= FIGHT || self.looked.1.is_none_or(|before| before <= seen.last)
        };
        let seen = attempt.contradicted.filter(goes_on);
        let mut seen = seen.unwrap_or(Contradiction { last: elapsed, lasted: Duration::ZERO, rewrites: 0, answers: 0 });
        seen.lasted += elapsed.saturating_sub(seen.last).min(APART);
        seen.last = elapsed;
        // What was never there before is another one's change, not a late reading.
        let is_foreign = matches!(step, Step::SetGroups { interface, from, .. }
            if !attempt.before.contains(from) && self.trailing.get(interface) != Some(from));
        let rewrite = REWRITES.get(seen.rewrites).filter(|_| step.may_be_repeated());
        let admission = match rewrite {
            Some(_) if is_foreign && seen.answers < ANSWERS => {
                seen.answers += 1;
                Admission::Due
            }
            // However late a look comes: what may be written again is, before it is given up.
            Some(after) if seen.lasted >= *after => {
                seen.rewrites += 1;
                Admission::Due
            }
            None if seen.lasted >= FIGHT => {
                let shown = match step {
                    Step::SetGroups { interface, from, .. } => format!("{interface} in {}", ShowGroups(from)),
                    _ => "what was there before".to_owned(),
                };
                let error = StepError::NotSeen { seen_by: step.seen_by(), shown };
                attempt.failure = Some(Box::new((error, elapsed)));
                attempt.next = elapsed + FIGHT;
                attempt.contradicted = Some(seen);
                return self.admit_untried(&key, elapsed, patience).unwrap_or(Admission::Wait);
            }
            _ => Admission::Wait,
        };
        attempt.contradicted = Some(seen);
        admission
    }

    /// Of a step that was not accepted. `None` if it was.
    fn admit_untried(&mut self, key: &Step, elapsed: Duration, patience: Patience) -> Option<Admission> {
        if self.under_way.contains_key(key) {
            return Some(Admission::Wait);
        }
        let Some(attempt) = self.attempts.get_mut(key) else { return Some(Admission::Due) };
        if attempt.over.is_some() {
            return Some(Admission::Over);
        }
        let (error, since) = &**attempt.failure.as_ref()?;
        let for_faults = match key {
            Step::Tag { .. } | Step::Untag { .. } => patience.for_faults.min(FOR_TAGS),
            _ => patience.for_faults,
        };
        let patience = Patience { for_faults, ..patience };
        if !patience.covers_step(error, elapsed.saturating_sub(*since)) {
            attempt.over = Some(Box::new(error.clone()));
            return Some(Admission::Over);
        }
        Some(if elapsed >= attempt.next { Admission::Due } else { Admission::Wait })
    }

    pub fn begin(&mut self, step: &Step) {
        self.under_way.insert(step.key(), step.clone());
        self.has_protected |= matches!(step, Step::Protect { aim: super::Aim::Isolate, .. });
    }

    /// A step that was not tried, because the one before it failed.
    pub fn drop_untried(&mut self, work: &Work) {
        for step in work.steps() {
            self.under_way.remove(&step.key());
        }
    }

    /// Learns what became of a step.
    pub fn learn(&mut self, outcome: &Outcome, elapsed: Duration) {
        let Outcome { step, result, passage } = outcome;
        let key = step.key();
        self.under_way.remove(&key);
        match step {
            Step::SetGroups { interface, from, to, .. } => {
                self.wrote(interface, to, result);
                self.attempts.entry(key.clone()).or_default().before.push(from.clone());
            }
            Step::Pass { interface, from, through, to, instance, .. } => {
                let to = Groups::from([to.clone()]);
                self.wrote(interface, &to, result);
                if let Some(passage) = passage {
                    self.passages.insert(interface.clone(), passage.clone());
                }
                let direct = Step::SetGroups {
                    instance: instance.clone(),
                    interface: interface.clone(),
                    from: Groups::new(),
                    to,
                    aim: super::Aim::Isolate,
                };
                let is_through = passage.as_ref().is_some_and(Passage::is_through);
                if is_through && result.is_ok() {
                    self.trailing.insert(interface.clone(), [through.clone()].into());
                }
                self.passed(direct.key(), from.clone(), result, elapsed);
                if passage.is_some() && !is_through {
                    // It was not taken through: whatever became of it is a matter of its groups.
                    return;
                }
            }
            Step::RequestSnapshots { .. } => self.asked_for_snapshots |= result.is_ok(),
            _ => {}
        }
        self.note(key, result, elapsed);
    }

    fn wrote(&mut self, interface: &InterfaceId, to: &Groups, result: &Result<(), StepError>) {
        let is_certain = result.as_ref().err().and_then(StepError::fault).is_some_and(Fault::is_without_effect)
            || matches!(result, Err(StepError::LeaseOver | StepError::Overtaken));
        // A refused write changes nothing of what was written before.
        if !is_certain || !self.written.contains_key(interface) {
            self.written.insert(interface.clone(), (to.clone(), result.is_ok()));
        }
    }

    /// A passage counts as the `direct` way as well; what was there `before` may be read for a while.
    fn passed(&mut self, direct: Step, before: Groups, result: &Result<(), StepError>, elapsed: Duration) {
        // What failed in any other way is tried again directly, at once.
        if result.as_ref().is_err_and(|error| !error.is_for_good()) {
            return;
        }
        self.note(direct.clone(), result, elapsed);
        // What was seen before the passage says nothing of what it left.
        if let Some(attempt) = self.attempts.get_mut(&direct) {
            attempt.before.push(before);
            attempt.contradicted = None;
        }
    }

    fn note(&mut self, key: Step, result: &Result<(), StepError>, elapsed: Duration) {
        let attempt = self.attempts.entry(key).or_default();
        match result {
            Ok(()) => {
                attempt.is_accepted = true;
                (attempt.failure, attempt.tries) = (None, 0);
            }
            Err(error) => {
                // That the time is up says less than what failed before.
                let is_late = error.fault() == Some(Fault::OutOfTime);
                let before = attempt.failure.take().map(|before| *before);
                let goes_on = |(before, _): &&(StepError, Duration)| !error.is_unseen() || before.is_unseen();
                let since = before.as_ref().filter(goes_on).map_or(elapsed, |(_, since)| *since);
                let is_believed = error.is_unseen() && elapsed.saturating_sub(since) >= DOUBTED;
                let last = match error {
                    StepError::Call(error) if is_believed => {
                        CallError { fault: Fault::Refused, ..error.clone() }.into()
                    }
                    _ => error.clone(),
                };
                let said = before.filter(|_| is_late).map_or(last, |(error, _)| error);
                attempt.failure = Some(Box::new((said, since)));
                let pause = pause(attempt.tries);
                attempt.tries += 1;
                // What is to be planned again is planned again at once.
                attempt.next = if *error == StepError::LeaseOver { elapsed } else { elapsed + pause };
                if error.is_unseen() && !is_believed {
                    attempt.next = attempt.next.min(since + DOUBTED);
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Due,
    Wait,
    Over,
}

#[cfg(test)]
mod tests;
