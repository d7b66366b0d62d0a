//! Who did what when: from the records' histories, from CloudFormation, and from CloudTrail as far as it may be read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::model::{Owner, Time};
use crate::operator::Status;
use crate::operator::incident::Incident;
use crate::operator::ports::{Trail, TrailEvent};
use crate::operator::stack::StackTimes;
use crate::operator::status::Interface;
use crate::ports::Call;

/// CloudTrail allows two look-ups a second in an account and Region (CloudTrail API reference, `LookupEvents`).
const PAUSE: Duration = Duration::from_millis(500);
/// Twenty seconds of look-ups: a case file is waited for.
const MOST_CALLS: usize = 40;
/// Of one resource, at 50 events each.
const MOST_PAGES: usize = 4;
/// What a person or a program does to a stack. CloudFormation's own reading calls are no event of an incident.
const OF_STACKS: [&str; 9] = [
    "CreateStack",
    "CreateChangeSet",
    "ExecuteChangeSet",
    "UpdateStack",
    "CancelUpdateStack",
    "ContinueUpdateRollback",
    "RollbackStack",
    "UpdateTerminationProtection",
    "DeleteStack",
];
/// What a person or a program does to an interface that matters here, and to a group of the incident.
const OF_INTERFACES: [&str; 3] =
    ["ModifyNetworkInterfaceAttribute", "AttachNetworkInterface", "DetachNetworkInterface"];
const OF_GROUPS: [&str; 5] = [
    "AuthorizeSecurityGroupIngress",
    "AuthorizeSecurityGroupEgress",
    "RevokeSecurityGroupIngress",
    "RevokeSecurityGroupEgress",
    "ModifySecurityGroupRules",
];
/// Before what `Rerun` said, in a line of a history.
const NOTE: &str = ", with Rerun ";
/// CloudFormation's times are its own: a call is seen a little earlier.
const SLACK: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Event {
    pub at: String,
    /// An instance, an interface or a stack.
    pub about: String,
    pub what: String,
    pub who: String,
    /// `record`, `stack` or `cloudtrail`.
    pub source: &'static str,
    /// Where the call came from.
    pub address: Option<String>,
    /// CloudTrail's id of it.
    pub id: Option<String>,
}

/// What was read, or was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// `records`, `stack`, `snapshots`, `findings` or `cloudtrail`.
    pub source: &'static str,
    pub said: String,
}

impl Source {
    pub(super) fn new(source: &'static str, said: String) -> Self {
        Self { source, said }
    }
}

/// One isolation of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Containment {
    pub instance: String,
    pub name: Option<String>,
    /// What it had was recorded.
    pub recorded_at: String,
    /// Every interface was read back in the isolation group.
    pub isolated_at: Option<String>,
    /// From the one to the other.
    pub seconds: Option<u64>,
    pub restored_at: Option<String>,
}

/// Oldest first.
pub(super) fn timeline(incident: &Incident, stacks: &BTreeMap<String, StackTimes>, seen: &[TrailEvent]) -> Vec<Event> {
    let mut events: Vec<Event> = seen.iter().map(of_trail).collect();
    for record in incident.ledger.records.values() {
        events.extend(record.history.iter().map(|line| of_record(record.instance.as_str(), line)));
    }
    for (stack, times) in stacks {
        let whats = [(times.created, "created"), (times.updated, "last changed"), (times.deleted, "deleted")];
        events.extend(whats.into_iter().filter_map(|(at, what)| {
            let (about, what, who) = (name(stack), format!("stack {what}"), "CloudFormation".to_owned());
            Some(Event { at: at?.to_string(), about, what, who, source: "stack", address: None, id: None })
        }));
    }
    // Stable: lines of one history keep their order.
    events.sort_by(|a, b| a.at.cmp(&b.at));
    events
}

/// A line of [`crate::model::Record::history`].
fn of_record(instance: &str, line: &str) -> Event {
    let time = line.split_once(' ').filter(|(at, _)| at.parse::<Time>().is_ok());
    let (at, rest) = time.unwrap_or(("unknown", line));
    let (what, asker) = rest.split_once(" (asked by ").unwrap_or((rest, ""));
    Event {
        at: at.to_owned(),
        about: instance.to_owned(),
        what: what.to_owned(),
        who: person(asker.strip_suffix(')').unwrap_or(asker)),
        source: "record",
        address: None,
        id: None,
    }
}

/// Who asked. The function knows CloudFormation's request only; `isolate` leaves the person in `Rerun`, and the trigger the finding.
/// It is a parameter: anyone who may change the stack may have written anything there.
fn person(asker: &str) -> String {
    let Some((request, note)) = asker.split_once(NOTE) else { return asker.to_owned() };
    let note = note.trim_matches('"');
    let arn = note.split_once(" by ").map(|(_, person)| person).filter(|person| person.starts_with("arn:"));
    match arn.filter(|_| finding(note).is_none()) {
        Some(person) => format!("{person}, as Rerun says ({request})"),
        None => format!("{request}, with Rerun {note}"),
    }
}

/// The id that the trigger gives to a finding: 12 hexadecimal digits.
fn finding(note: &str) -> Option<&str> {
    let id = note.strip_prefix("finding ")?.get(..12)?;
    id.chars().all(|c| c.is_ascii_hexdigit()).then_some(id)
}

/// The findings that the histories name, each with the instances that were asked for because of it.
pub(super) fn findings(incident: &Incident) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in incident.ledger.records.values() {
        let notes = record.history.iter().filter_map(|line| line.split_once(NOTE));
        for id in notes.filter_map(|(_, note)| finding(note.trim_start_matches('"'))) {
            found.entry(id.to_owned()).or_default().insert(record.instance.to_string());
        }
    }
    found
}

fn of_trail(event: &TrailEvent) -> Event {
    let named = event.interface.as_ref().map(ToString::to_string).or_else(|| event.stack.as_deref().map(name));
    let about = named.or_else(|| Some(event.group.clone()?.to_string()));
    let to = if event.groups.is_empty() { String::new() } else { format!(": to {}", event.groups.join(", ")) };
    let refused = event.error.as_ref().map(|code| format!(", refused: {code}")).unwrap_or_default();
    Event {
        at: event.at.to_string(),
        about: about.unwrap_or_default(),
        what: format!("{}{to}{refused}", event.name),
        who: event.caller.clone(),
        source: "cloudtrail",
        address: event.address.clone(),
        id: Some(event.id.clone()),
    }
}

/// The times of each isolation, as the records' histories have them.
pub(super) fn containments(timeline: &[Event], status: &Status) -> Vec<Containment> {
    let mut all = Vec::new();
    for instance in &status.instances {
        let mut open: Option<Containment> = None;
        for event in timeline.iter().filter(|event| event.source == "record" && event.about == instance.id) {
            // `isolated, passed the transit group`, `recorded: eni-…`
            let what = event.what.split([',', ':', ' ']).next().unwrap_or_default();
            match (what, &mut open) {
                ("recorded", None) => {
                    open = Some(Containment {
                        instance: instance.id.clone(),
                        name: instance.name.clone(),
                        recorded_at: event.at.clone(),
                        isolated_at: None,
                        seconds: None,
                        restored_at: None,
                    });
                }
                ("isolated", Some(found)) if found.isolated_at.is_none() => {
                    found.isolated_at = Some(event.at.clone());
                    let times = found.recorded_at.parse::<Time>().ok().zip(event.at.parse().ok());
                    found.seconds = times.map(|(from, to)| from.until(to).as_secs());
                }
                ("restored", Some(found)) => {
                    found.restored_at = Some(event.at.clone());
                    all.extend(open.take());
                }
                _ => {}
            }
        }
        all.extend(open);
    }
    all
}

/// What CloudTrail has of the stacks and of the interfaces, and what is to be said of that.
pub(super) async fn ask(
    trail: &impl Trail,
    stacks: &BTreeMap<String, StackTimes>,
    status: &Status,
) -> (Vec<TrailEvent>, Source) {
    let said = |text: String| Source::new("cloudtrail", text);
    let mut found = BTreeMap::new();
    let mut left = MOST_CALLS;
    // An event names the stack as its caller did: by name or by id.
    let names = stacks.iter().flat_map(|(id, times)| [(id.clone(), times), (name(id), times)]);
    for (stack, times) in names {
        match about(trail, &stack, &mut left).await {
            Ok(events) => found.extend(events.into_iter().filter(|event| is_of(event, times)).map(with_id)),
            Err(error) => {
                return (
                    vec![],
                    said(format!(
                        "CloudTrail could not be read: {error}. It would say who made, changed and deleted the stack, and who moved interfaces."
                    )),
                );
            }
        }
    }
    let (mut asked, all) = (0, subjects(status));
    for subject in &all {
        if left == 0 {
            break;
        }
        match about(trail, subject, &mut left).await {
            Ok(events) => {
                asked += 1;
                let is_meant = |event: &TrailEvent| {
                    let name = event.name.as_str();
                    OF_INTERFACES.contains(&name) || OF_GROUPS.contains(&name)
                };
                found.extend(events.into_iter().filter(is_meant).map(with_id));
            }
            Err(error) => {
                let text = format!(
                    "CloudTrail could not be read to the end: {error}. Events of groups and interfaces may be missing."
                );
                return (found.into_values().collect(), said(text));
            }
        }
    }
    let skipped = all.len() - asked;
    let what = match found.len() {
        0 => "CloudTrail's event history has nothing of this incident".to_owned(),
        number => format!("CloudTrail's event history has {number} events of this incident"),
    };
    let limits = "It keeps 90 days, and shows a call some minutes later";
    let cut = match skipped {
        0 => String::new(),
        _ => format!(
            " It was not asked about {skipped} of {} groups and interfaces, since it allows two calls a second.",
            all.len()
        ),
    };
    (found.into_values().collect(), said(format!("{what}. {limits}.{cut}")))
}

fn with_id(event: TrailEvent) -> (String, TrailEvent) {
    (event.id.clone(), event)
}

/// An earlier or a later stack may have had the same name.
fn is_of(event: &TrailEvent, times: &StackTimes) -> bool {
    let is_early = times.created.is_some_and(|created| event.at + SLACK < created);
    let is_late = times.deleted.is_some_and(|deleted| deleted + SLACK < event.at);
    OF_STACKS.contains(&event.name.as_str()) && !is_early && !is_late
}

/// Interfaces, and groups of the incident. What is not where it should be comes first: of that it is asked who moved it.
fn subjects(status: &Status) -> Vec<String> {
    let interfaces = status.instances.iter().flat_map(|instance| &instance.interfaces);
    let (inside, outside): (Vec<_>, Vec<_>) = interfaces.partition(|interface| interface.condition == "isolated");
    let ids =
        |interfaces: Vec<&Interface>| interfaces.into_iter().map(|interface| interface.id.clone()).collect::<Vec<_>>();
    let mut seen = BTreeSet::new();
    let all = ids(outside).into_iter().chain(status.groups.keys().cloned()).chain(ids(inside));
    all.filter(|id| seen.insert(id.clone())).collect()
}

async fn about(trail: &impl Trail, resource: &str, left: &mut usize) -> Call<Vec<TrailEvent>> {
    let (mut events, mut next) = (Vec::new(), None);
    for _ in 0..MOST_PAGES.min(*left) {
        if *left < MOST_CALLS {
            tokio::time::sleep(PAUSE).await;
        }
        *left -= 1;
        let (page, more) = trail.page(resource, next).await?;
        events.extend(page);
        next = more;
        if next.is_none() {
            break;
        }
    }
    Ok(events)
}

/// `incident-42` of its id.
pub(super) fn name(stack: &str) -> String {
    let owner = Owner { stack_id: stack.to_owned(), logical_id: String::new() };
    owner.stack_name().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, at: &str, what: &str, who: &str) {
        let event = of_record("i-0a", line);
        assert_eq!((event.at.as_str(), event.what.as_str(), event.who.as_str()), (at, what, who));
    }

    #[test]
    fn a_line_of_a_history_says_when_what_and_who() {
        let arn = "arn:aws:iam::123456789012:user/x";
        let at = "2026-11-25T03:00:00Z";
        check(
            &format!("{at} isolated, passed the transit group (asked by CloudFormation Create 7f)"),
            at,
            "isolated, passed the transit group",
            "CloudFormation Create 7f",
        );
        check(
            &format!(
                "{at} recorded: eni-1 [sg-a] (asked by CloudFormation Update 7f, with Rerun \"{at} by {arn} with ec2-isolation isolate\")"
            ),
            at,
            "recorded: eni-1 [sg-a]",
            &format!("{arn} with ec2-isolation isolate, as Rerun says (CloudFormation Update 7f)"),
        );
        check(
            &format!("{at} restored (asked by {arn} with ec2-isolation restore)"),
            at,
            "restored",
            &format!("{arn} with ec2-isolation restore"),
        );
        check(
            &format!(
                "{at} recorded: eni-1 [sg-a] (asked by CloudFormation Create 7f, with Rerun \"finding 0123456789ab approved by {arn} at {at}\")"
            ),
            at,
            "recorded: eni-1 [sg-a]",
            &format!("CloudFormation Create 7f, with Rerun finding 0123456789ab approved by {arn} at {at}"),
        );
        check("long ago", "unknown", "long ago", "");
    }

    /// Each person who may change the stack can write what it says.
    #[test]
    fn a_note_that_names_nobody_is_shown_as_it_is() {
        assert_eq!(person("CloudFormation Update 7f, with Rerun \"2\""), "CloudFormation Update 7f, with Rerun 2");
        let forged = person("CloudFormation Update 7f, with Rerun \"x (asked by root)\"");
        assert_eq!(forged, "CloudFormation Update 7f, with Rerun x (asked by root)");
    }
}
