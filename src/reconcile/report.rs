//! What became of a request, in words for a tired responder: worst first, each with the thing, the reason and the way out.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::Why;
use super::instance::Subject;
use crate::model::{CallError, Fault, InstanceId, Release, Time, Wants, attach_profile_command, comma_list};
use crate::plan::{Aim, Change, Goal, Plan, Problem, Severity, Step, StepError};
use crate::ports::{Call, Verdict};

/// What there is to say, before it is made to fit. Nothing here is longer than it needs to be, but the lists have no bound.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub failed: bool,
    /// One sentence.
    pub headline: String,
    /// Worst first; cut from the end.
    pub details: Vec<String>,
    /// What a person does now. Stands behind the details, however many of them are left out.
    pub next: String,
    pub isolated_instances: Vec<String>,
    pub isolated_interface_count: usize,
    pub snapshots: Vec<String>,
    /// How many of them are locked and until when, if that was asked for.
    pub locks: Option<String>,
    pub not_isolated: Vec<String>,
    /// How long after the invocation's begin the last listed instance was read back contained, if any of them was not before.
    pub contained_after: Option<Duration>,
    /// How many instances a Delete left isolated.
    pub kept: Option<usize>,
    /// Of a dry run, after which nothing is other than before.
    pub is_rehearsal: bool,
}

impl Report {
    #[must_use]
    pub fn failure(headline: impl Into<String>) -> Self {
        Self { failed: true, headline: headline.into(), ..Self::default() }
    }
}

/// The report of a request that a later one has overtaken.
#[must_use]
pub fn overtaken(request_id: &str) -> Report {
    Report {
        next: "look for the answer of that request in the events of the stack".to_owned(),
        ..Report::failure(format!(
            "superseded by request {request_id} of this stack: nothing more was done for this one"
        ))
    }
}

/// Who asked, and is told what to do about a denial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asker {
    #[default]
    Deployment,
    Deletion,
    /// The operator's program, with its user's credentials.
    Program,
}

/// The outcome of a Create or Update.
pub(super) struct Isolated<'a> {
    pub(super) asker: Asker,
    pub(super) wants: &'a Wants,
    pub(super) ended: &'a [Subject<'a>],
    /// What becomes of instances that are held and no longer listed, if there are any.
    pub(super) verdict: Option<Call<Verdict>>,
    pub(super) unannounced: Option<&'a CallError>,
}

impl Isolated<'_> {
    pub(super) fn report(&self) -> Report {
        let listed: Vec<&Subject<'_>> =
            self.ended.iter().filter(|subject| matches!(subject.goal, Goal::Isolate(_))).collect();
        let is_whole = |subject: &&&Subject<'_>| subject.plan.standing.is_whole();
        let isolated: Vec<String> =
            listed.iter().filter(is_whole).map(|subject| subject.instance.to_string()).collect();
        let interfaces: usize = listed.iter().map(|subject| subject.plan.standing.isolated.len()).sum();
        let snapshots: Vec<String> =
            listed.iter().flat_map(|subject| &subject.plan.standing.snapshots).map(ToString::to_string).collect();
        let locks = (self.wants.lock_days > 0 && !snapshots.is_empty()).then(|| locks(&listed, self.wants.lock_days));
        let total = self.wants.instances.len();
        let mut findings = Findings::by(self.asker);
        findings.add(self.ended);
        findings.unknown(self.unannounced);
        let restored = Restored::of(self.asker, self.ended, None);
        let tolerable = self.wants.allow_partial && interfaces > 0;
        let incomplete = isolated.len() < total && !tolerable;

        let mut headline = if isolated.len() == total {
            count(total, "instance")
        } else {
            format!("{} of {}", isolated.len(), count(total, "instance"))
        };
        headline.push_str(&format!(" isolated ({})", count(interfaces, "interface")));
        if self.unannounced.is_some() || listed.iter().any(|subject| subject.blind.is_some()) {
            headline = match isolated.len() {
                0 => format!("it is not known whether {} isolated", are(total, "instance")),
                _ => format!("it is not known what is isolated now; last seen: {headline}"),
            };
        } else if self.wants.snapshot_volumes {
            headline.push_str(&format!(", {}", count(snapshots.len(), "snapshot")));
            headline.push_str(&locks.as_ref().map(|locks| format!(" ({locks})")).unwrap_or_default());
        }
        if !restored.restored.is_empty() {
            headline.push_str(&format!(", {} restored that are no longer listed", comma_list(&restored.restored)));
        }
        // Of what is no longer held nothing is claimed, and what was left elsewhere says so itself.
        let is_kept = |subject: &&Subject<'_>| {
            let is_inside = subject.plan.standing.is_whole() && !subject.is_in_transit();
            matches!(subject.goal, Goal::Keep(_)) && subject.was_held && subject.blind.is_none() && is_inside
        };
        let kept = comma_list(self.ended.iter().filter(is_kept).map(|subject| &subject.instance));
        match &self.verdict {
            Some(Ok(Verdict::Keep(why))) if !kept.is_empty() => {
                findings.notes.push(format!("{kept} still isolated though no longer listed: {why}"));
                if !self.wants.revoke_roles.is_empty() {
                    findings.notes.push(format!(
                        "the credentials of {kept} are no longer denied: RevokeRoles denies those of listed instances only; list them again"
                    ));
                }
            }
            Some(Err(error)) => {
                let what = if kept.is_empty() { "nothing was restored" } else { &format!("{kept} still isolated") };
                findings.fatal.push(format!("{what}: the stack's status cannot be read: {error}"));
            }
            _ => {}
        }
        // What is held is looked after, too.
        let is_open = |subject: &&Subject<'_>| match subject.goal {
            Goal::Isolate(_) => !subject.plan.standing.is_whole(),
            Goal::Keep(_) => subject.was_held && !subject.plan.standing.open.is_empty(),
            Goal::Restore | Goal::Adopt(_) => false,
        };
        Report {
            failed: findings.is_fatal() || incomplete || !restored.open.is_empty(),
            headline,
            details: findings.in_order(),
            isolated_interface_count: interfaces,
            not_isolated: self.ended.iter().filter(is_open).flat_map(open).collect(),
            contained_after: listed.iter().filter_map(|subject| subject.contained_after).max(),
            isolated_instances: isolated,
            snapshots,
            locks,
            ..Report::default()
        }
    }
}

/// `locked until …`, by the lock that ends first.
fn locks(listed: &[&Subject<'_>], days: u64) -> String {
    let standings = || listed.iter().map(|subject| &subject.plan.standing);
    let total: usize = standings().map(|standing| standing.snapshots.len()).sum();
    let locked: Vec<Option<Time>> = standings().flat_map(|standing| standing.locked.values().copied()).collect();
    let until = match locked.iter().copied().min() {
        None => return "not locked".to_owned(),
        Some(Some(until)) => format!("locked until {until}"),
        Some(None) => format!("locked for {} after completion", count(days.try_into().unwrap_or(usize::MAX), "day")),
    };
    if locked.len() == total { until } else { format!("{} of {total} {until}", locked.len()) }
}

/// `i-…` if no interface of it is known to be open, `i-…/eni-…` for each open interface otherwise.
fn open(subject: &Subject<'_>) -> Vec<String> {
    let id = &subject.instance;
    let open = &subject.plan.standing.open;
    if open.is_empty() {
        vec![id.to_string()]
    } else {
        open.iter().map(|interface| format!("{id}/{interface}")).collect()
    }
}

/// The outcome of a dry run.
pub(super) struct Rehearsed<'a> {
    pub(super) asker: Asker,
    pub(super) wants: &'a Wants,
    /// How the instances stand now, with what is to be done about them.
    pub(super) subjects: &'a [Subject<'a>],
    /// What would be done, in order.
    pub(super) plans: Vec<Plan>,
    /// What EC2 says it would refuse.
    pub(super) refusals: Vec<(Step, CallError)>,
    /// Held, and no longer listed.
    pub(super) removed: BTreeSet<InstanceId>,
}

impl Rehearsed<'_> {
    /// FAILED if the real request would fail, as far as that can be seen.
    pub(super) fn report(self) -> Report {
        let mut findings = Findings::by(self.asker);
        for (step, error) in &self.refusals {
            findings.step(step, &StepError::Call(error.clone()));
        }
        for subject in self.subjects {
            findings.unread(subject);
        }
        for problem in self.plans.iter().flat_map(|plan| plan.problems.iter().chain(&plan.remember)) {
            findings.problem(problem);
        }
        if !self.removed.is_empty() {
            let fate = match self.wants.on_removal {
                Release::KeepIsolated => "would stay isolated though no longer listed: OnRemoval is KeepIsolated",
                Release::Restore => "would be restored, unless the stack rolls back: OnRemoval is Restore",
            };
            findings.notes.push(format!("{} {fate}", comma_list(&self.removed)));
        }
        let steps: Vec<String> = self.plans.iter().flat_map(Plan::steps).map(ToString::to_string).collect();
        let is_whole = |subject: &&Subject<'_>| subject.plan.standing.is_whole();
        let isolated: Vec<String> =
            self.subjects.iter().filter(is_whole).map(|subject| subject.instance.to_string()).collect();
        let headline = format!(
            "dry run, nothing was changed: {} of {} isolated now; {} would be taken",
            isolated.len(),
            count(self.wants.instances.len(), "instance"),
            count(steps.len(), "step")
        );
        let interfaces: usize = self.subjects.iter().map(|subject| subject.plan.standing.isolated.len()).sum();
        let is_refused = |step: &Step| self.refusals.iter().any(|(refused, _)| refused == step);
        let is_taken = |step: &&Step| matches!(step, Step::SetGroups { .. } | Step::Pass { .. }) && !is_refused(step);
        let taken = self.plans.iter().flat_map(Plan::steps).filter(is_taken).count();
        let tolerable = self.wants.allow_partial && interfaces + taken > 0;
        let failed = findings.is_fatal() || !findings.not_isolated.is_empty() && !tolerable;
        let mut details = findings.in_order();
        details.extend(steps);
        let not_isolated = self.subjects.iter().filter(|subject| !is_whole(subject));
        Report {
            failed,
            headline,
            details,
            isolated_interface_count: interfaces,
            not_isolated: not_isolated.flat_map(open).collect(),
            isolated_instances: isolated,
            is_rehearsal: true,
            ..Report::default()
        }
    }
}

/// The outcome of a Delete, or of the restore of what an Update no longer lists.
#[derive(Debug, Default)]
pub struct Restored {
    pub restored: BTreeSet<InstanceId>,
    /// Still held.
    pub open: BTreeSet<InstanceId>,
    /// Those of them whose interfaces have their groups back.
    pub half: BTreeSet<InstanceId>,
    /// Those of them that may be in the transit group.
    pub in_transit: BTreeSet<InstanceId>,
    /// Those of them that could not be looked at.
    pub unseen: BTreeSet<InstanceId>,
    /// Why nothing is known.
    pub blind: Option<CallError>,
    pub(super) findings: Findings,
}

impl Restored {
    pub(super) fn of(asker: Asker, subjects: &[Subject<'_>], unannounced: Option<CallError>) -> Self {
        let mut outcome = Self { blind: unannounced, findings: Findings::by(asker), ..Self::default() };
        let restoring = || subjects.iter().filter(|subject| matches!(subject.goal, Goal::Restore));
        outcome.findings.add(subjects.iter().filter(|subject| !matches!(subject.goal, Goal::Isolate(_))));
        for subject in restoring() {
            let id = subject.instance.clone();
            if !subject.is_restored() {
                if subject.is_in_transit() {
                    outcome.in_transit.insert(id.clone());
                } else if !subject.is_seen() {
                    outcome.unseen.insert(id.clone());
                } else if subject.plan.standing.is_in_place {
                    outcome.half.insert(id.clone());
                }
                outcome.open.insert(id);
            } else if subject.was_held {
                outcome.restored.insert(id);
            }
        }
        outcome
    }

    /// Nothing could be read, and nothing was done.
    pub(super) fn unread(asker: Asker, error: CallError, open: &BTreeSet<InstanceId>) -> Self {
        let (open, unseen) = (open.clone(), open.clone());
        Self { open, unseen, blind: Some(error), findings: Findings::by(asker), ..Self::default() }
    }

    #[must_use]
    pub fn report(mut self) -> Report {
        self.findings.unknown(self.blind.as_ref());
        let failed = self.findings.is_fatal() || !self.findings.not_isolated.is_empty() || !self.open.is_empty();
        let headline = match (self.restored.len(), self.open.len()) {
            (0, 0) if failed => "it is not known what is isolated; nothing was restored".to_owned(),
            (0, 0) => NOTHING_HELD.to_owned(),
            (restored, 0) => format!("{} restored", count(restored, "instance")),
            (restored, open) => {
                format!("{restored} of {} restored; {}", count(restored + open, "instance"), self.still_open())
            }
        };
        Report { failed, headline, details: self.findings.in_order(), ..Report::default() }
    }

    fn still_open(&self) -> String {
        let Self { open, half, in_transit, unseen, .. } = self;
        let others: BTreeSet<&InstanceId> = half.iter().chain(in_transit).chain(unseen).collect();
        let isolated = open.iter().filter(|id| !others.contains(id)).cloned().collect();
        let parts = [
            ("in the transit group, which is open to everybody", in_transit),
            ("still isolated", &isolated),
            ("it is not known how they stand", unseen),
            ("security groups restored, the rest not yet", half),
        ];
        let parts = parts.into_iter().filter(|(_, ids)| !ids.is_empty());
        parts.map(|(what, ids)| format!("{what}: {}", comma_list(ids))).collect::<Vec<_>>().join("; ")
    }
}

/// The headline if there was nothing to do.
pub const NOTHING_HELD: &str = "nothing to restore: no instance is held isolated";

/// The report of a Delete that must not release. It succeeds if it is known that the stack is not being deleted and what is true
/// of the instances, since there is nothing left to do about it.
pub(super) fn kept(
    asker: Asker,
    ids: &BTreeSet<InstanceId>,
    why: &Why,
    mut troubles: Vec<String>,
    subjects: &[Subject<'_>],
    table: &str,
) -> Report {
    let meant = || subjects.iter().filter(|subject| ids.contains(&subject.instance));
    let unseen = meant().filter(|subject| subject.blind.is_some()).count();
    let seen = || meant().filter(|subject| subject.was_held && subject.blind.is_none());
    let held = unseen + seen().count();
    if held == 0 {
        return Report { headline: NOTHING_HELD.to_owned(), ..Report::default() };
    }
    let mut findings = Findings::by(asker);
    findings.add(subjects);
    // An interface in the transit group must not be left there; a mark that is missing harms nobody.
    let is_open =
        |subject: &Subject<'_>| subject.failures().into_iter().any(|(step, _)| matches!(step, Step::SetGroups { .. }));
    let failed =
        matches!(why, Why::Unknown(_)) || unseen > 0 || subjects.iter().any(is_open) || !findings.open.is_empty();
    troubles.splice(0..0, findings.in_order());
    let reason = match why {
        Why::Over(reason) | Why::GoesOn(reason) => reason.clone(),
        Why::Unknown(error) => format!("whether this stack is being deleted cannot be read: {error}"),
    };
    let inside: Vec<&InstanceId> =
        subjects.iter().filter(|subject| subject.is_in_transit()).map(|subject| &subject.instance).collect();
    let isolated = seen().filter(|subject| subject.plan.standing.is_whole()).count();
    let headline = if !inside.is_empty() {
        format!("{} in the transit group, which is open to everybody: {reason}", comma_list(inside))
    } else if unseen > 0 {
        format!("nothing was restored; it is not known whether {} isolated: {reason}", are(unseen, "instance"))
    } else {
        let of = if isolated == held { String::new() } else { format!("{isolated} of ") };
        format!("{of}{} kept isolated, nothing was restored: {reason}", count(held, "instance"))
    };
    if let Why::GoesOn(_) = why {
        let next = "deploy the stack again, which looks after them: nothing of it is to be restored".to_owned();
        return Report { failed, headline, details: troubles, next, ..Report::default() };
    }
    let next = format!(
        "to restore them run ec2-isolation restore --table {table}, or the commands in RestoreCommands of each of its items; the table stays"
    );
    Report { failed, headline, details: troubles, next, kept: Some(isolated), ..Report::default() }
}

/// How what is held stands after a request of which nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedAfter {
    /// What there is to say first, if there is anything.
    pub headline: Option<String>,
    /// Whether it is known that nothing is in the transit group.
    pub is_well: bool,
    pub details: Vec<String>,
}

impl LookedAfter {
    pub(super) fn of(asker: Asker, held: &[Subject<'_>], unread: Option<&CallError>) -> Self {
        let among = |is_meant: &dyn Fn(&Subject<'_>) -> bool| {
            comma_list(held.iter().filter(|subject| is_meant(subject)).map(|subject| &subject.instance))
        };
        let inside = among(&|subject| subject.is_in_transit());
        let unseen = among(&|subject| !subject.is_in_transit() && !subject.is_seen());
        let out = among(&|subject| !subject.is_in_transit() && subject.is_seen() && subject.ledger.has_moved());
        let headline = if !inside.is_empty() {
            Some(format!("{inside} in the transit group, which is open to everybody"))
        } else if unread.is_some() || !unseen.is_empty() {
            let what = if unread.is_some() { "anything" } else { &unseen };
            Some(format!("it is not known whether the transit group, which is open to everybody, holds {what}"))
        } else {
            let moved =
                || format!("an earlier request had not ended: {out} moved into isolation, nothing else was changed");
            (!out.is_empty()).then(moved)
        };
        let mut findings = Findings::by(asker);
        findings.unknown(unread);
        findings.add(held);
        let (not_isolated, notes, endings) = Default::default();
        let is_well = inside.is_empty() && unseen.is_empty() && unread.is_none();
        Self { headline, is_well, details: Findings { not_isolated, notes, endings, ..findings }.in_order() }
    }

    /// The report of a request that was refused.
    #[must_use]
    pub fn report(self, why: &impl fmt::Display) -> Report {
        let headline = self.headline.unwrap_or_else(|| "nothing was changed".to_owned());
        Report { details: self.details, ..Report::failure(format!("{headline}: {why}")) }
    }
}

/// Problems and failures by weight.
#[derive(Debug, Default)]
pub(super) struct Findings {
    asker: Asker,
    open: Vec<String>,
    fatal: Vec<String>,
    not_isolated: Vec<String>,
    notes: Vec<String>,
    /// What may end an instance later comes last: it never takes the place of what is wrong now.
    endings: Vec<String>,
}

impl Findings {
    fn by(asker: Asker) -> Self {
        Self { asker, ..Self::default() }
    }

    fn add<'s>(&mut self, subjects: impl IntoIterator<Item = &'s Subject<'s>, IntoIter: Clone>) {
        let subjects = subjects.into_iter();
        for subject in subjects.clone() {
            subject.failures().into_iter().for_each(|(step, error)| self.step(step, error));
            self.unread(subject);
        }
        for subject in subjects {
            let planned = &subject.plan.problems;
            let said = subject.ledger.said.iter().filter(|problem| !planned.contains(problem));
            planned.iter().chain(said).for_each(|problem| self.problem(problem));
        }
    }

    /// What follows from a look that failed to the end, if one did.
    fn unknown(&mut self, error: Option<&CallError>) {
        let text = |error: &CallError| {
            format!("{error}{}: what is true now is not known", advice(self.asker, Some(error.fault)))
        };
        self.fatal.extend(error.map(text));
    }

    fn unread(&mut self, subject: &Subject<'_>) {
        self.unknown(subject.blind.as_ref());
        self.fatal.extend(subject.unread().map(|(what, error)| {
            let verb = if what.contains(" is not known") { "" } else { " cannot be read" };
            format!("{what}{verb}: {error}{}", advice(self.asker, Some(error.fault)))
        }));
    }

    fn problem(&mut self, problem: &Problem) {
        let list = match problem.severity() {
            Severity::Open => &mut self.open,
            Severity::Fatal => &mut self.fatal,
            Severity::NotIsolated => &mut self.not_isolated,
            Severity::Note if problem.is_ending() => &mut self.endings,
            Severity::Note => &mut self.notes,
        };
        list.push(problem.to_string());
    }

    fn step(&mut self, step: &Step, error: &StepError) {
        let text = failure(self.asker, step, error);
        let is_refused = error.is_for_good() || error.fault() == Some(Fault::Busy);
        let list = match step {
            _ if matches!(error, StepError::InTransit { .. }) => &mut self.open,
            // EC2 refuses the interface, whoever asks: that is what partial isolation allows. A denial of IAM is not.
            Step::SetGroups { .. } | Step::Pass { .. } if is_refused => &mut self.not_isolated,
            // Tags are for people: an instance that has fifty of its own is isolated all the same, and one that keeps ours restored.
            // What tells the snapshots of a set apart is evidence.
            Step::Untag { .. } => &mut self.notes,
            Step::Tag { resource, .. } if !resource.starts_with("snap-") || error.is_for_good() => &mut self.notes,
            // EC2 refuses this snapshot's for good, as that of one on an Outpost.
            Step::LockSnapshot { .. } if error.is_for_good() => &mut self.notes,
            Step::Protect { change, aim: Aim::Isolate, .. }
                if change.is_for_some_instances_only() && error.is_for_good() =>
            {
                &mut self.notes
            }
            _ => &mut self.fatal,
        };
        list.push(text);
    }

    fn is_fatal(&self) -> bool {
        !self.fatal.is_empty() || !self.open.is_empty()
    }

    fn in_order(self) -> Vec<String> {
        let Self { open, fatal, not_isolated, notes, endings, .. } = self;
        let mut seen = BTreeSet::new();
        let all = open.into_iter().chain(not_isolated).chain(fatal).chain(notes).chain(endings);
        all.filter(|text| seen.insert(text.clone())).collect()
    }
}

fn failure(asker: Asker, step: &Step, error: &StepError) -> String {
    let advice = match (step, error) {
        (Step::SetGroups { aim: Aim::Isolate, .. } | Step::Pass { .. }, StepError::Call(error))
            if error.code == "AuthFailure" && error.fault == Fault::Refused =>
        {
            " (EC2 lets only its maker change this interface; AllowPartialIsolation accepts that)".to_owned()
        }
        // It takes iam:PassRole, which the role has only if the option is on.
        (Step::Protect { instance, change: Change::AttachProfile { arn }, .. }, _) => {
            format!(" (by hand: {})", attach_profile_command(arn, instance))
        }
        _ => advice(asker, error.fault()).to_owned(),
    };
    format!("{step}: {error}{advice}")
}

/// What to do about it.
fn advice(asker: Asker, fault: Option<Fault>) -> &'static str {
    match fault {
        Some(Fault::Denied) => match asker {
            Asker::Deployment => " (allow the function's role this action, or wait a minute and deploy again)",
            Asker::Deletion => " (allow the function's role this action)",
            Asker::Program => " (these credentials are not allowed this action)",
        },
        Some(Fault::Busy) => " (wait until the instance is running, stopped or gone)",
        Some(Fault::Throttled) => " (AWS allows this account no more calls just now: wait a few minutes)",
        Some(Fault::Server | Fault::Connection | Fault::TimedOut | Fault::Garbled) => " (AWS did not answer properly)",
        Some(Fault::Unseen | Fault::Refused | Fault::OutOfTime) | None => "",
    }
}

/// `1 instance is`, `2 instances are`
fn are(n: usize, noun: &str) -> String {
    format!("{} {}", count(n, noun), if n == 1 { "is" } else { "are" })
}

fn count(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}
