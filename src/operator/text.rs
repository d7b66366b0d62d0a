//! What the program prints for people: the worst first, in lines of 80 columns. Commands stay whole, so that they can be pasted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::host::Host;
use super::next::Next;
use super::status::{ISOLATED, Instance, NotIsolated, Status, Summary};
use crate::model::comma_list;
use crate::reconcile::contained::Condition;

/// A terminal has as many columns, and a printed page.
const WIDEST: usize = 80;
/// Ids are as long as this with what stands before them.
const NARROWEST: usize = 30;
/// The columns of a line.
static WIDTH: AtomicUsize = AtomicUsize::new(WIDEST);
/// More lines than these would push the first ones off the screen.
const MOST_LINES: usize = 12;
/// Of a Reason, on one screen.
const MOST_OF_A_REASON: usize = 240;
/// Names in one list.
pub(super) const MOST_NAMES: usize = 8;

/// Makes every line of this process fit into a terminal of so many columns, if it is narrower than 80.
pub fn fit_into(columns: usize) {
    WIDTH.store(columns.clamp(NARROWEST, WIDEST), Ordering::Relaxed);
}

/// Of a line.
#[must_use]
pub fn columns() -> usize {
    WIDTH.load(Ordering::Relaxed)
}

/// In lines of 80 columns, or of as many as the terminal has, those after the first one indented. A command at its end stands whole in a line of its own.
#[must_use]
pub fn wrapped(text: &str, indent: &str) -> String {
    let options = textwrap::Options::new(columns())
        .subsequent_indent(indent)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    match text.split_once(" aws ").filter(|(before, _)| !before.trim().is_empty()) {
        Some((before, command)) => format!("{}\n{indent}aws {command}", textwrap::fill(before, options)),
        None => textwrap::fill(text, options),
    }
}

/// Why a resource failed: CloudFormation's Reason, each part of it in lines of its own.
fn failed(resource: &str, reason: &str) -> String {
    let mut parts = reason.split(" | ");
    let first = parts.next().unwrap_or_default();
    let first = wrapped(&format!("failed   {resource}: {first}"), "         ");
    let rest = parts.map(|part| wrapped(&format!("       - {part}"), "         "));
    std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n")
}

/// `1 instance`, `2 instances`
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `12 s`, `3 min 20 s`, `2 h 5 min`
#[must_use]
pub fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// The first names of a list, and how many follow.
pub(super) fn some(names: &[String]) -> String {
    match names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", comma_list(names.iter().take(MOST_NAMES))),
        None => comma_list(names),
    }
}

/// On one line, with nothing that cannot be seen: control characters, and those that turn the direction of writing.
pub(super) fn plain(text: &str) -> String {
    let is_hidden = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let show = |c: char| match c {
        '\n' | '\r' | '\t' => " ".to_owned(),
        c if c.is_control() || is_hidden(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(show).collect()
}

/// An id with its name. Whoever may write tags may write a name that looks like a line or a command of ours: it stays in one piece.
pub(super) fn named(id: &str, name: Option<&str>) -> String {
    name.map_or_else(|| id.to_owned(), |name| format!("{id} ({})", plain(name).replace(' ', "\u{a0}")))
}

impl NotIsolated {
    fn thing(&self) -> String {
        let instance = named(&self.instance, self.name.as_deref());
        self.interface.as_ref().map_or(instance.clone(), |interface| format!("{instance} {interface}"))
    }
}

impl Status {
    /// One screen: how many instances are isolated, which are not, and the next step.
    #[must_use]
    pub fn short(&self) -> String {
        self.brief(MOST_OF_A_REASON)
    }

    /// The same, with so many characters of each Reason.
    pub(super) fn brief(&self, most: usize) -> String {
        let mut text = self.headlines();
        text.push('\n');
        for (resource, reason) in self.why_failed() {
            let is_cut = reason.chars().count() > most;
            let mut reason: String = reason.chars().take(most).collect();
            if is_cut {
                reason.push_str("… (whole: status without --short)");
            }
            text.push_str(&format!("\n{}\n", failed(&resource, &reason)));
        }
        if let Some(next) = self.next.first() {
            text.push_str(&format!("\n{next}"));
        }
        text
    }

    /// Each resource that failed with its reason. What fails a stack as a whole names no resource.
    fn why_failed(&self) -> BTreeMap<String, String> {
        let stack = &self.stack;
        let is_failed = |status: &String| status.ends_with("_FAILED") || status.contains("ROLLBACK");
        match (&stack.reason, &stack.status) {
            (Some(reason), Some(status)) if stack.failed.is_empty() && is_failed(status) => {
                [(stack.name.clone(), reason.clone())].into()
            }
            _ => stack.failed.clone(),
        }
    }

    /// What has become open or closed since an earlier look, a line each.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let is_in = |open: &NotIsolated, list: &[NotIsolated]| {
            list.iter().any(|other| (&other.instance, &other.interface) == (&open.instance, &open.interface))
        };
        let opened = self.not_isolated.iter().filter(|open| !before.not_isolated.contains(open));
        let closed = before.not_isolated.iter().filter(|open| !is_in(open, &self.not_isolated));
        let opened = opened.map(|open| format!("open: {}: {}", open.thing(), open.reason));
        opened.chain(closed.map(|open| format!("no longer open: {}", open.thing()))).collect()
    }

    fn headlines(&self) -> String {
        let mut lines = vec![wrapped(&self.headline(), "  ")];
        // What is the same for several instances is said once.
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for open in &self.not_isolated {
            reasons.entry(&open.reason).or_default().push(open.thing());
        }
        let said = reasons.iter().map(|(reason, things)| wrapped(&format!("  {}: {reason}", some(things)), "    "));
        let mut rows = 0;
        let shown: Vec<String> = said
            .take_while(|line| {
                let is_first = rows == 0;
                rows += line.lines().count();
                is_first || rows <= MOST_LINES
            })
            .collect();
        let more = reasons.len() - shown.len();
        lines.extend(shown);
        if more > 0 {
            let more = count(more, "more reason");
            lines.push(format!("  and {more}; the whole list: ec2-isolation status without --short"));
        }
        let Summary { restoring, isolated_elsewhere, terminated, .. } = self.summary;
        let others = [
            (restoring, "being restored"),
            (isolated_elsewhere, "isolated by another stack, which has to be asked"),
            (terminated, "terminated"),
        ];
        let others = others.iter().filter(|(number, _)| *number > 0);
        lines.extend(others.map(|(number, what)| format!("{}: {what}", count(*number, "instance"))));
        lines.extend(self.relisted());
        lines.join("\n")
    }

    /// A warning, if the next update of the stack isolates again what was restored.
    pub(super) fn relisted(&self) -> Option<String> {
        let ids = some(&self.listed_though_restored);
        let text = format!("Restored, but still on the stack's list, so its next update isolates it again: {ids}");
        (!self.listed_though_restored.is_empty()).then(|| wrapped(&text, "  "))
    }

    pub(super) fn headline(&self) -> String {
        let Summary { listed, isolated, isolated_interfaces, not_isolated, unknown, restoring, busy_seconds, .. } =
            self.summary;
        let of = |number| format!("{number} of {}", count(listed, "instance"));
        let interfaces = count(isolated_interfaces, "interface");
        if let Some(seconds) = busy_seconds {
            let status = self.stack.status.as_deref().unwrap_or_default();
            let since = duration(seconds);
            return match listed {
                0 => format!("IN PROGRESS for {since}: the stack is {status}. Nothing is listed to be isolated."),
                _ => format!("IN PROGRESS for {since} ({status}): {} isolated so far ({interfaces}).", of(isolated)),
            };
        }
        match (listed, not_isolated, unknown) {
            (0, _, _) if self.is_anything_held() => "Nothing is listed to be isolated.".to_owned(),
            (0, _, _) => "Nothing is held isolated.".to_owned(),
            (_, 0, 0) if isolated == 0 && restoring > 0 => {
                let all = self.instances.iter().filter(|found| found.condition == Some(Condition::Restoring));
                let all: Vec<_> = all.flat_map(|instance| &instance.interfaces).collect();
                let inside = all.iter().filter(|found| found.condition == ISOLATED).count();
                format!("BEING RESTORED: {inside} of {} still isolated.", count(all.len(), "interface"))
            }
            (_, 0, 0) if isolated == 0 => "Nothing is isolated by this stack now.".to_owned(),
            (_, 0, 0) => format!("ISOLATED, as EC2 shows it: {} ({interfaces}).", of(isolated)),
            (_, 0, _) => {
                format!("NOT KNOWN whether {} {} isolated.", of(unknown), if unknown == 1 { "is" } else { "are" })
            }
            _ => format!("NOT ISOLATED: {}. Isolated: {isolated} ({interfaces}).", of(not_isolated)),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.headlines())?;
        let stack = &self.stack;
        let condition = match &stack.status {
            None => "gone".to_owned(),
            Some(status) if stack.works || stack.is_busy => status.clone(),
            Some(status) => format!("{status}, restores nothing by itself any more"),
        };
        let since = stack.changed_at.as_ref().map(|at| format!(" since {at}")).unwrap_or_default();
        let name = if stack.name.is_empty() { "unknown" } else { &stack.name };
        writeln!(f, "{}", wrapped(&format!("stack    {name}: {condition}{since}"), "         "))?;
        if let Some(reason) = &stack.reason {
            writeln!(f, "{}", wrapped(&format!("         {reason}"), "         "))?;
        }
        for (resource, reason) in &stack.failed {
            writeln!(f, "{}", failed(resource, reason))?;
        }
        writeln!(f, "{}", wrapped(&format!("table    {}", self.table), "         "))?;
        writeln!(f, "{}", wrapped(&format!("account  {}, region {}", self.account, self.region), "         "))?;
        for (id, role) in &self.groups {
            writeln!(f, "{}", wrapped(&format!("group    {id} ({role})"), "         "))?;
        }
        if let Some(credentials) = &self.credentials {
            credentials.show(f)?;
        }
        if let Some(error) = &self.credentials_unread {
            let text = format!("denied   NOT KNOWN whether credentials are denied: {error}");
            writeln!(f, "{}", wrapped(&text, "         "))?;
        }
        if let Some(why) = &self.target_groups_unread {
            let text = format!("targets  NOT KNOWN whether a target group lists an instance: {why}");
            writeln!(f, "{}", wrapped(&text, "         "))?;
        }
        for asked in &self.asked {
            let of = if asked.instances.is_empty() { String::new() } else { format!(" {}", some(&asked.instances)) };
            let text = format!("asked    {}{of}, by request {}", asked.what, asked.request);
            writeln!(f, "{}", wrapped(&text, "         "))?;
            if let Some(kept) = &asked.kept {
                writeln!(f, "{}", wrapped(&format!("kept     {kept}"), "         "))?;
            }
        }
        for instance in &self.instances {
            writeln!(f)?;
            instance.show(self.stack.is_busy, f)?;
        }
        if self.instances.is_empty() {
            writeln!(f, "\nThe table holds no record.")?;
        }
        if !self.without_record.is_empty() {
            writeln!(f, "\nISOLATED WITHOUT A RECORD")?;
        }
        for stray in &self.without_record {
            let instance = stray.instance.as_deref().unwrap_or("attached to nothing");
            let tagged = if stray.tagged.is_empty() { "nothing".to_owned() } else { stray.tagged.join(" ") };
            let now = stray.now.join(" ");
            let text = format!("  {} ({instance})  now {now}  by its tags it had: {tagged}", stray.interface);
            writeln!(f, "{}", wrapped(&text, "    "))?;
        }
        for step in &self.next {
            writeln!(f)?;
            step.fmt(f)?;
        }
        Ok(())
    }
}

impl Instance {
    fn show(&self, is_busy: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.condition, self.record_state) {
            (Some(condition), _) => condition.as_str(),
            (None, Some(state)) => &state.to_uppercase(),
            (None, None) => "",
        };
        let name = named(&self.id, self.name.as_deref());
        writeln!(f, "{}", wrapped(&format!("{name}  {state} ({})", self.instance_state), "  "))?;
        for interface in &self.interfaces {
            let before = match interface.before.is_empty() {
                true => String::new(),
                false => format!("  before {}", interface.before.join(" ")),
            };
            let missing = match interface.missing.is_empty() {
                true => String::new(),
                false => format!("  (no longer exist: {})", interface.missing.join(" ")),
            };
            let (id, condition, now) = (&interface.id, interface.condition, interface.now.join(" "));
            writeln!(f, "{}", wrapped(&format!("  {id}  {condition}{before}  now {now}{missing}"), "    "))?;
        }
        for warning in &self.warnings {
            writeln!(f, "{}", wrapped(&format!("  ! {warning}"), "    "))?;
        }
        for step in self.to_do.iter().filter(|_| !is_busy) {
            writeln!(f, "{}", wrapped(&format!("  the next update would {step}"), "    "))?;
        }
        if let (Some(state), Some(at), Some(owner)) = (self.record_state, &self.recorded_at, &self.owner) {
            writeln!(f, "{}", wrapped(&format!("  recorded {at} ({state}), owner {owner}"), "    "))?;
        } else {
            writeln!(f, "{}", wrapped("  not recorded: nothing of it was changed", "    "))?;
        }
        if self.record_state.is_some() {
            let passed = match self.connections_cut {
                true => "every interface passed the transit group; no API shows whether one lives on",
                false => "not every interface passed the transit group, so they may live on",
            };
            writeln!(f, "{}", wrapped(&format!("  connections open before: {passed}"), "    "))?;
        }
        if !self.snapshots.is_empty() {
            let snapshots = self.snapshots.iter().map(|(volume, snapshot)| format!("{snapshot} of {volume}"));
            writeln!(f, "{}", wrapped(&format!("  snapshots {}", comma_list(snapshots)), "    "))?;
        } else if self.snapshots_requested {
            writeln!(f, "{}", wrapped("  snapshots were asked for, which ones is not recorded yet", "    "))?;
        }
        let is_held = self.record_state != Some(crate::model::State::Restored.as_str());
        for command in self.protections.values().filter(|_| is_held) {
            writeln!(f, "  was changed, and is put back by:\n    {command}")?;
        }
        for line in &self.history {
            writeln!(f, "{}", wrapped(&format!("  history {line}"), "    "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {}",
            self.stack,
            self.status.as_deref().unwrap_or("deleted; the volume of its host stays, as evidence")
        )?;
        for (resource, reason) in &self.reasons {
            writeln!(f, "{}", failed(resource, reason))?;
        }
        for name in ["ForensicHostSsh", "ForensicHostState"] {
            if let Some(value) = self.outputs.get(name) {
                writeln!(f, "{name}:\n  {value}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", wrapped(&format!("NEXT  {}", self.what), "  "))?;
        for command in &self.commands {
            writeln!(f, "  {command}")?;
        }
        Ok(())
    }
}
