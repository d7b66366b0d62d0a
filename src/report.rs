//! What became of a request, in words for a tired responder: worst first, each with the thing, the reason and the way out.

use std::collections::BTreeSet;

use crate::answer::Message;
use crate::converge::{LOST, NOT_VISIBLE, Settled};
use crate::model::{InstanceId, Wants, attach_profile_command, comma_list};
use crate::plan::{Aim, Contained, Measure, Severity, Step};
use crate::ports::{CallError, Fault};

/// The outcome of a Create or Update.
#[derive(Debug)]
pub struct Reconciled<'a> {
    wants: &'a Wants,
    contained: &'a Contained,
    pub settled: Vec<Settled>,
    pub snapshots: Vec<String>,
    /// Instances no longer listed that stay isolated, and why.
    pub kept: Option<(BTreeSet<InstanceId>, String)>,
    pub restored: Restored,
    pub troubles: Vec<String>,
}

impl<'a> Reconciled<'a> {
    #[must_use]
    pub fn new(wants: &'a Wants, contained: &'a Contained) -> Self {
        let (settled, snapshots, kept, restored, troubles) = Default::default();
        Self { wants, contained, settled, snapshots, kept, restored, troubles }
    }

    #[must_use]
    pub fn into_message(self) -> Message {
        let isolated = &self.contained.instances;
        let total = self.wants.instances.len();
        let mut findings = Findings::default();
        for settled in self.settled.iter().chain([&self.restored.settled]) {
            findings.add(settled);
        }
        findings.fatal.extend(self.troubles);
        let none_isolated = self.contained.interfaces.is_empty();
        let tolerable = self.wants.allow_partial && !none_isolated;
        let incomplete = isolated.len() < total && !tolerable;
        let failed = !findings.fatal.is_empty() || incomplete || !self.restored.open.is_empty();

        let mut headline = if isolated.len() == total {
            count(total, "instance")
        } else {
            format!("{} of {}", isolated.len(), count(total, "instance"))
        };
        headline.push_str(&format!(" isolated ({})", count(self.contained.interfaces.len(), "interface")));
        if self.wants.snapshot_volumes {
            headline.push_str(&format!(", {}", count(self.snapshots.len(), "snapshot")));
        }
        if !self.restored.restored.is_empty() {
            headline.push_str(&format!(", {} restored that are no longer listed", comma_list(&self.restored.restored)));
        }
        if let Some((kept, why)) = &self.kept {
            findings.notes.push(format!("{} stay isolated though no longer listed: {why}", comma_list(kept)));
        }
        Message {
            failed,
            headline,
            details: findings.in_order(),
            isolated_instances: isolated.iter().map(ToString::to_string).collect(),
            isolated_interface_count: self.contained.interfaces.len(),
            snapshots: self.snapshots,
            not_isolated: not_isolated(self.wants, self.contained),
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
        findings.add(&self.settled);
        let failed = !findings.fatal.is_empty() || !findings.not_isolated.is_empty() || !self.open.is_empty();
        let headline = match (self.restored.len(), self.open.len()) {
            (0, 0) if failed => "it is not known what is isolated; nothing was restored".to_owned(),
            (0, 0) => "nothing to restore: no instance was isolated".to_owned(),
            (restored, 0) => format!("{} restored", count(restored, "instance")),
            (restored, open) => format!(
                "{restored} of {} restored; {}. The commands that restore each one are in RestoreCommands of its item in the records table, which stays",
                count(restored + open, "instance"),
                self.still_open()
            ),
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
pub fn kept(ids: &BTreeSet<InstanceId>, reason: &str, troubles: Vec<String>) -> Message {
    let headline = format!(
        "{} kept isolated, nothing was restored: {reason}. The commands that restore each one are in RestoreCommands of its item in the records table, which stays",
        count(ids.len(), "instance")
    );
    Message { headline, details: troubles, ..Message::default() }
}

/// The answer to a Delete when nobody can say whether the stack is being deleted or rolls back.
#[must_use]
pub fn undecided(ids: &BTreeSet<InstanceId>, error: &CallError) -> Message {
    Message::failure(format!(
        "{} kept isolated, nothing was restored: whether this stack is being deleted cannot be read: {error}. \
         Allow cloudformation:DescribeStacks and delete again, or run the commands in RestoreCommands of each item in the records table",
        count(ids.len(), "instance")
    ))
}

/// Problems and failures by weight.
#[derive(Default)]
struct Findings {
    fatal: Vec<String>,
    not_isolated: Vec<String>,
    notes: Vec<String>,
}

impl Findings {
    fn add(&mut self, settled: &Settled) {
        for (step, error) in &settled.failures {
            let text = failure(step, error);
            match step {
                // What EC2 refuses for good is what partial isolation allows.
                Step::SetGroups { .. } if matches!(error.fault, Fault::Denied | Fault::Refused | Fault::Busy) => {
                    self.not_isolated.push(text)
                }
                // Tags are for people: an instance that has fifty of its own is isolated all the same.
                Step::Tag { .. } | Step::Untag { .. } if error.fault == Fault::Refused => self.notes.push(text),
                Step::Measure(measure) if measure.is_for_some_instances_only() && is_for_good(error) => {
                    self.notes.push(text)
                }
                _ => self.fatal.push(text),
            }
        }
        if let Some(error) = &settled.blind {
            self.fatal.push(format!("{error}{}: what is true now is not known", advice(error)));
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

    fn in_order(self) -> Vec<String> {
        let Self { fatal, not_isolated, notes } = self;
        let mut seen = BTreeSet::new();
        let all = not_isolated.into_iter().chain(fatal).chain(notes);
        all.filter(|text| seen.insert(text.clone())).collect()
    }
}

/// AWS said no, and will again.
fn is_for_good(error: &CallError) -> bool {
    error.fault == Fault::Refused && ![NOT_VISIBLE, LOST].contains(&error.code.as_str())
}

fn failure(step: &Step, error: &CallError) -> String {
    let advice = match step {
        Step::SetGroups { aim: Aim::Isolate, .. } if error.code == "AuthFailure" => {
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
        Fault::Denied => " (allow the function's role this action, then deploy again with a new Rerun)",
        Fault::Busy => " (deploy again with a new Rerun when the instance is running, stopped or gone)",
        Fault::Throttled => " (deploy again with a new Rerun in a few minutes)",
        Fault::Server | Fault::Connection | Fault::TimedOut | Fault::Garbled => {
            " (AWS did not answer properly; deploy again with a new Rerun)"
        }
        Fault::Refused | Fault::OutOfTime => "",
    }
}

fn count(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}
