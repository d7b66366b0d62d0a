//! What became of a request, in words for a tired responder: worst first, each with the thing, the reason and the way out.

use std::collections::{BTreeMap, BTreeSet};

use crate::cloudformation::answer::Message;
use crate::converge::{LOST, Settled};
use crate::model::{InstanceId, Release, Wants, attach_profile_command, comma_list};
use crate::plan::{Aim, Contained, Measure, Plan, Severity, Step};
use crate::ports::{Call, CallError, Fault};

/// The outcome of a Create or Update.
#[derive(Debug)]
pub struct Reconciled<'a> {
    wants: &'a Wants,
    contained: &'a Contained,
    pub isolation: Settled,
    pub preservation: Vec<Settled>,
    pub snapshots: Vec<String>,
    /// Instances no longer listed that stay isolated, and why.
    pub kept: Option<(BTreeSet<InstanceId>, String)>,
    pub restored: Restored,
    pub troubles: Vec<String>,
}

impl<'a> Reconciled<'a> {
    #[must_use]
    pub fn new(wants: &'a Wants, contained: &'a Contained, isolation: Settled) -> Self {
        let (preservation, snapshots, kept, restored, troubles) = Default::default();
        Self { wants, contained, isolation, preservation, snapshots, kept, restored, troubles }
    }

    #[must_use]
    pub fn into_message(self) -> Message {
        let isolated = &self.contained.instances;
        let total = self.wants.instances.len();
        let mut findings = Findings::default();
        findings.add(&self.isolation, UNKNOWN);
        for settled in &self.preservation {
            findings.add(settled, "whether tags and snapshots are complete is not known");
        }
        findings.add(&self.restored.settled, UNKNOWN);
        findings.fatal.extend(self.troubles);
        let none_isolated = self.contained.interfaces.is_empty();
        let tolerable = self.wants.allow_partial && !none_isolated;
        let incomplete = isolated.len() < total && !tolerable;
        let failed = findings.is_fatal() || incomplete || !self.restored.open.is_empty();

        let mut headline = if isolated.len() == total {
            count(total, "instance")
        } else {
            format!("{} of {}", isolated.len(), count(total, "instance"))
        };
        headline.push_str(&format!(" isolated ({})", count(self.contained.interfaces.len(), "interface")));
        if self.isolation.blind.is_some() {
            headline = match isolated.len() {
                0 => format!("it is not known whether {} isolated", are(total, "instance")),
                _ => format!("it is not known what is isolated now; last seen: {headline}"),
            };
        } else if self.wants.snapshot_volumes {
            headline.push_str(&format!(", {}", count(self.snapshots.len(), "snapshot")));
        }
        if !self.restored.restored.is_empty() {
            headline.push_str(&format!(", {} restored that are no longer listed", comma_list(&self.restored.restored)));
        }
        if let Some((kept, why)) = &self.kept {
            findings.notes.push(format!("{} still isolated though no longer listed: {why}", comma_list(kept)));
        }
        Message {
            failed,
            headline,
            details: findings.in_order(),
            isolated_instances: isolated.iter().map(ToString::to_string).collect(),
            isolated_interface_count: self.contained.interfaces.len(),
            snapshots: self.snapshots,
            not_isolated: not_isolated(self.wants, self.contained),
            ..Message::default()
        }
    }
}

/// The outcome of a dry run.
#[derive(Debug)]
pub struct Rehearsed<'a> {
    pub wants: &'a Wants,
    /// What is isolated already.
    pub contained: Contained,
    pub containment: Plan,
    /// What EC2 says it would refuse.
    pub refusals: Vec<(Step, CallError)>,
    pub preservation: Call<Plan>,
    /// What could not be read that would be protected.
    pub unread: BTreeMap<String, CallError>,
    /// Held, and no longer listed.
    pub removed: BTreeSet<InstanceId>,
}

impl Rehearsed<'_> {
    /// FAILED where the request in earnest would fail, as far as that can be seen.
    #[must_use]
    pub fn into_message(self) -> Message {
        let mut settled = Settled {
            problems: self.containment.problems.clone(),
            failures: self.refusals,
            unread: self.unread,
            ..Settled::default()
        };
        let mut steps: Vec<String> = self.containment.steps().map(ToString::to_string).collect();
        match self.preservation {
            Ok(plan) => {
                steps.extend(plan.steps().map(ToString::to_string));
                settled.problems.extend(plan.problems);
            }
            Err(error) => settled.blind = Some(error),
        }
        let mut findings = Findings::default();
        findings.add(&settled, "what would be tagged and snapshotted is not known");
        if !self.removed.is_empty() {
            let fate = match self.wants.on_removal {
                Release::KeepIsolated => "would stay isolated though no longer listed: OnRemoval is KeepIsolated",
                Release::Restore => "would be restored, unless the stack rolls back: OnRemoval is Restore",
            };
            findings.notes.push(format!("{} {fate}", comma_list(&self.removed)));
        }
        let failed = findings.is_fatal() || !findings.not_isolated.is_empty() && !self.wants.allow_partial;
        let headline = format!(
            "dry run, nothing was changed: {} of {} isolated now; {} would be taken",
            self.contained.instances.len(),
            count(self.wants.instances.len(), "instance"),
            count(steps.len(), "step")
        );
        let mut details = findings.in_order();
        details.extend(steps);
        let isolated = self.contained.instances.iter();
        Message {
            failed,
            headline,
            details,
            isolated_instances: isolated.map(ToString::to_string).collect(),
            isolated_interface_count: self.contained.interfaces.len(),
            not_isolated: not_isolated(self.wants, &self.contained),
            ..Message::default()
        }
    }
}

/// `i-…` where no interface of it is isolated, `i-…/eni-…` for each open interface otherwise.
fn not_isolated(wants: &Wants, contained: &Contained) -> Vec<String> {
    let mut names = Vec::new();
    for id in wants.instances.iter().filter(|id| !contained.instances.contains(*id)) {
        let open: Vec<String> = contained
            .open
            .iter()
            .filter(|(_, instance)| *instance == id)
            .map(|(eni, _)| format!("{id}/{eni}"))
            .collect();
        if open.is_empty() {
            names.push(id.to_string());
        } else {
            names.extend(open);
        }
    }
    names
}

/// The outcome of a Delete, or of the restore of what an Update no longer lists.
#[derive(Debug, Default)]
pub struct Restored {
    pub restored: BTreeSet<InstanceId>,
    /// Still held.
    pub open: BTreeSet<InstanceId>,
    /// Those of them whose interfaces have their groups back.
    pub half: BTreeSet<InstanceId>,
    pub settled: Settled,
}

impl Restored {
    #[must_use]
    pub fn into_message(self) -> Message {
        let mut findings = Findings::default();
        findings.add(&self.settled, UNKNOWN);
        let failed = findings.is_fatal() || !findings.not_isolated.is_empty() || !self.open.is_empty();
        let headline = match (self.restored.len(), self.open.len()) {
            (0, 0) if failed => "it is not known what is isolated; nothing was restored".to_owned(),
            (0, 0) => "nothing to restore: no instance was isolated".to_owned(),
            (restored, 0) => format!("{} restored", count(restored, "instance")),
            (restored, open) => {
                format!("{restored} of {} restored; {}", count(restored + open, "instance"), self.still_open())
            }
        };
        Message { failed, headline, details: findings.in_order(), ..Message::default() }
    }

    fn still_open(&self) -> String {
        let isolated: Vec<&InstanceId> = self.open.difference(&self.half).collect();
        let half: Vec<&InstanceId> = self.open.intersection(&self.half).collect();
        let parts = [("still isolated", isolated), ("with their groups back, but not restored otherwise", half)];
        let parts = parts.into_iter().filter(|(_, ids)| !ids.is_empty());
        parts.map(|(what, ids)| format!("{what}: {}", comma_list(ids))).collect::<Vec<_>>().join("; ")
    }
}

/// The answer to a Delete that must not release: SUCCESS, since CloudFormation has nothing left to do about it.
#[must_use]
pub fn kept(
    ids: &BTreeSet<InstanceId>,
    reason: &str,
    mut troubles: Vec<String>,
    settled: &Settled,
    table: &str,
) -> Message {
    // An interface in the transit group must not be left there; a mark that is missing harms nobody.
    let is_open = |step: &Step| matches!(step, Step::SetGroups { .. });
    let failed = settled.blind.is_some() || settled.failures.iter().any(|(step, _)| is_open(step));
    let mut findings = Findings::default();
    findings.add(settled, UNKNOWN);
    troubles.splice(0..0, findings.in_order());
    let headline = format!("{} kept isolated, nothing was restored: {reason}", count(ids.len(), "instance"));
    let next = format!(
        "to restore them run ec2-isolation restore --table {table}, or the commands in RestoreCommands of each of its items; the table stays"
    );
    Message { failed, headline, details: troubles, next, ..Message::default() }
}

/// The answer to a Delete when nobody can say whether the stack is being deleted or rolls back.
#[must_use]
pub fn undecided(ids: &BTreeSet<InstanceId>, error: &CallError) -> Message {
    Message::failure(format!(
        "{} kept isolated, nothing was restored: whether this stack is being deleted cannot be read: {error}",
        count(ids.len(), "instance")
    ))
}

/// What follows from a look that failed to the end.
const UNKNOWN: &str = "what is true now is not known";

/// Problems and failures by weight.
#[derive(Default)]
struct Findings {
    in_transit: Vec<String>,
    fatal: Vec<String>,
    not_isolated: Vec<String>,
    notes: Vec<String>,
}

impl Findings {
    /// `unknown` is what a failed look leaves in the dark.
    fn add(&mut self, settled: &Settled, unknown: &str) {
        for (step, error) in &settled.failures {
            let text = failure(step, error);
            match step {
                Step::Pass { .. } if error.code == CallError::IN_TRANSIT => self.in_transit.push(text),
                Step::SetGroups { .. } | Step::Pass { .. } if is_refused_to_all(error) => self.not_isolated.push(text),
                // Tags are for people: an instance that has fifty of its own is isolated all the same.
                Step::Tag { .. } | Step::Untag { .. } if error.fault == Fault::Refused => self.notes.push(text),
                Step::Measure(measure) if measure.is_for_some_instances_only() && is_for_good(error) => {
                    self.notes.push(text)
                }
                _ => self.fatal.push(text),
            }
        }
        if let Some(error) = &settled.blind {
            self.fatal.push(format!("{error}{}: {unknown}", advice(error)));
        }
        let unread = settled.unread.iter();
        self.fatal.extend(unread.map(|(what, error)| format!("{what} cannot be read: {error}{}", advice(error))));
        for problem in &settled.problems {
            match problem.severity() {
                Severity::Fatal => self.fatal.push(problem.to_string()),
                Severity::NotIsolated => self.not_isolated.push(problem.to_string()),
                Severity::Note => self.notes.push(problem.to_string()),
            }
        }
    }

    fn is_fatal(&self) -> bool {
        !self.fatal.is_empty() || !self.in_transit.is_empty()
    }

    fn in_order(self) -> Vec<String> {
        let Self { in_transit, fatal, not_isolated, notes } = self;
        let mut seen = BTreeSet::new();
        let all = in_transit.into_iter().chain(not_isolated).chain(fatal).chain(notes);
        all.filter(|text| seen.insert(text.clone())).collect()
    }
}

/// EC2 refuses the interface, whoever asks: that is what partial isolation allows. A denial of IAM is not.
fn is_refused_to_all(error: &CallError) -> bool {
    is_for_good(error) || error.fault == Fault::Busy
}

/// AWS said no, and will again.
fn is_for_good(error: &CallError) -> bool {
    error.fault == Fault::Refused && error.code != LOST
}

fn failure(step: &Step, error: &CallError) -> String {
    let advice = match step {
        Step::SetGroups { aim: Aim::Isolate, .. } | Step::Pass { .. }
            if error.code == "AuthFailure" && error.fault == Fault::Refused =>
        {
            " (EC2 lets only its maker change this interface; AllowPartialIsolation accepts that)".to_owned()
        }
        // It takes iam:PassRole, which the role has only where the option is on.
        Step::Measure(Measure::AttachProfile { instance, arn, .. }) => {
            format!(" (by hand: {})", attach_profile_command(arn, instance))
        }
        _ => advice(error).to_owned(),
    };
    format!("{step}: {error}{advice}")
}

/// What to do about it.
fn advice(error: &CallError) -> &'static str {
    match error.fault {
        Fault::Denied => " (allow the function's role this action)",
        Fault::Busy => " (wait until the instance is running, stopped or gone)",
        Fault::Throttled => " (AWS allows this account no more calls just now: wait a few minutes)",
        Fault::Server | Fault::Connection | Fault::TimedOut | Fault::Garbled => " (AWS did not answer properly)",
        Fault::Refused | Fault::OutOfTime => "",
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
