//! What the drill's incident shows of what we assume. Pure.

use std::collections::BTreeMap;

use super::super::incident::Incident;
use super::super::isolate::Isolated;
use super::notes::Notes;
use super::{Stage, only};
use crate::model::{Groups, Role};
use crate::operator::ports::drill::StackEvent;
use crate::operator::stack::StackView;

const LONGEST_WAIT_FOR_FUNCTION: u64 = 60_000;
const LONGEST_WAIT_FOR_CONTAINMENT: u64 = 120_000;
/// What is made faster does not tell whether something else was made beside it.
const SHORTEST_MAKING: u64 = 500;
/// The logical id of the custom resource.
const ISOLATION: &str = "Isolation";
const GROUP: &str = "AWS::EC2::SecurityGroup";

/// After the first isolation: the stack, its groups, and the record.
pub(super) fn creation(incident: &Incident, stack: &StackView, isolated: &Isolated, stage: &Stage, notes: &mut Notes) {
    let contained = "cfn-time-to-contained";
    match isolated.contained_after_ms {
        Some(time) => notes.note(contained, time <= LONGEST_WAIT_FOR_CONTAINMENT, format!("{time} ms")),
        None => notes.note_unseen(contained, "it was not seen isolated while the stack was at work"),
    }
    let word = if stack.is_protected { "protected" } else { "not protected" };
    notes.note("cfn-protected-from-start", stack.is_protected, word);
    let roles: Vec<Option<Role>> = incident.groups.values().map(|group| group.role).collect();
    let has_both = roles.contains(&Some(Role::Isolation)) && roles.contains(&Some(Role::Transit));
    notes.note("cfn-stack-tag", has_both, format!("{} groups", roles.len()));
    if let Some(group) = incident.groups.values().find(|group| group.role == Some(Role::Isolation)) {
        let rules: Vec<String> = group.egress.iter().map(ToString::to_string).collect();
        let expected = ["all protocols 127.0.0.1/32", "all protocols ::1/128"];
        let holds = group.ingress.is_empty()
            && rules.len() == expected.len()
            && expected.iter().all(|rule| rules.iter().any(|found| found == rule));
        notes.note("ec2-loopback-egress", holds, rules.join(", "));
    }
    let recorded = incident.held().find(|record| record.instance == stage.instance);
    let expected: Vec<Groups> = stage.groups.iter().map(only).collect();
    let is_exact = recorded.is_some_and(|record| {
        let of = stage.cards.iter().map(|card| record.interfaces.get(card));
        of.eq(expected.iter().map(Some))
    });
    let state = recorded.map_or("no record", |record| record.state.as_str());
    notes.note("ddb-consistent-read", is_exact && state == "isolated", state);
}

/// In which order the stack was made.
pub(super) fn order(events: &[StackEvent], notes: &mut Notes) {
    let is_call = |event: &&StackEvent| event.logical_id == ISOLATION && event.status == "CREATE_IN_PROGRESS";
    let (Some(began), Some(called)) = (events.first(), events.iter().find(is_call)) else { return };
    let time = called.at_ms.saturating_sub(began.at_ms);
    notes.note("cfn-time-to-first-call", time <= LONGEST_WAIT_FOR_FUNCTION, format!("{time} ms"));
    // When each group was begun, and when it was made.
    let mut groups: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == GROUP) {
        let (_, made) = groups.entry(&event.logical_id).or_insert((event.at_ms, u64::MAX));
        if event.status == "CREATE_COMPLETE" {
            *made = event.at_ms;
        }
    }
    let is_last = !groups.is_empty() && groups.values().all(|(_, made)| *made <= called.at_ms);
    notes.note("cfn-function-comes-last", is_last, format!("{} groups", groups.len()));
    let [(begun, made), (next_begun, next_made)] = groups.into_values().collect::<Vec<_>>()[..] else { return };
    let id = "cfn-groups-side-by-side";
    if made.saturating_sub(begun).min(next_made.saturating_sub(next_begun)) < SHORTEST_MAKING {
        return notes.note_unseen(id, "they were made too fast to tell");
    }
    let (first_made, last_begun) = (made.min(next_made), begun.max(next_begun));
    match first_made.checked_sub(last_begun) {
        Some(time) => notes.note(id, true, format!("both were being made for {time} ms")),
        None => notes.note(id, false, format!("one was begun {} ms after the other was made", last_begun - first_made)),
    }
}

/// An update that the function has answered with FAILED: the stack's status, and its events since.
pub(super) fn failed_update(status: &str, new: &[StackEvent], notes: &mut Notes) {
    let own: Vec<&StackEvent> = new.iter().filter(|event| event.logical_id == ISOLATION).collect();
    let further = own.iter().rev().take_while(|event| event.status != "UPDATE_FAILED").count();
    let keeps = status == "UPDATE_FAILED" && further == 0;
    notes.note("cfn-failed-update-keeps-all", keeps, format!("{status}, {further} events of it afterwards"));
    let reason = own.iter().find(|event| event.status == "UPDATE_FAILED");
    let reason = reason.map(|event| event.reason.as_str()).unwrap_or_default();
    let is_told = reason.contains("isolation group") && reason.contains("next: ");
    notes.note("cfn-reason-in-event", is_told, format!("{} characters", reason.chars().count()));
}

/// The deletions of the custom resource: one that failed, then one that did not.
pub(super) fn deletions(events: &[StackEvent], notes: &mut Notes) {
    let own = events.iter().filter(|event| event.logical_id == ISOLATION && event.status.starts_with("DELETE"));
    let found: Vec<&str> = own.map(|event| event.status.as_str()).collect();
    let mut since = found.iter().skip_while(|status| **status != "DELETE_FAILED");
    let is_sent = since.any(|status| *status == "DELETE_IN_PROGRESS");
    let is_done = found.last() == Some(&"DELETE_COMPLETE");
    notes.note("cfn-custom-resource-second-delete", is_sent && is_done, found.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `at_ms logical-id status`, one for each event.
    fn events(lines: &[&str]) -> Vec<StackEvent> {
        let event = |line: &&str| {
            let [at, logical_id, status]: [&str; 3] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let kind = if logical_id.ends_with("Group") { GROUP } else { "other" };
            StackEvent {
                at_ms: at.parse().unwrap(),
                logical_id: logical_id.to_owned(),
                kind: kind.to_owned(),
                status: status.to_owned(),
                reason: "isolation group sg-0a allows it | next: deploy again".to_owned(),
            }
        };
        lines.iter().map(event).collect()
    }

    fn check(judge: impl Fn(&mut Notes), id: &str, expected: &str) {
        let mut notes = Notes::default();
        judge(&mut notes);
        let finding = notes.findings().into_iter().find(|finding| finding.id == id).unwrap();
        assert_eq!(format!("{} {}", finding.outcome.as_str(), finding.seen), expected);
    }

    #[test]
    fn groups_that_are_made_at_once_are_told_from_groups_that_are_made_in_a_row() {
        let side_by_side = "cfn-groups-side-by-side";
        let made = |lines: &[&str]| {
            let mut all = vec!["0 stack CREATE_IN_PROGRESS"];
            all.extend(lines);
            all.push("9000 Isolation CREATE_IN_PROGRESS");
            events(&all)
        };
        let at_once = [
            "10 AGroup CREATE_IN_PROGRESS",
            "20 BGroup CREATE_IN_PROGRESS",
            "4000 AGroup CREATE_COMPLETE",
            "5000 BGroup CREATE_COMPLETE",
        ];
        check(|notes| order(&made(&at_once), notes), side_by_side, "confirmed both were being made for 3980 ms");
        let in_a_row = [
            "10 AGroup CREATE_IN_PROGRESS",
            "4000 AGroup CREATE_COMPLETE",
            "4008 BGroup CREATE_IN_PROGRESS",
            "8000 BGroup CREATE_COMPLETE",
        ];
        check(
            |notes| order(&made(&in_a_row), notes),
            side_by_side,
            "REFUTED one was begun 8 ms after the other was made",
        );
        check(|notes| order(&made(&in_a_row), notes), "cfn-time-to-first-call", "confirmed 9000 ms");
        let quick = [
            "10 AGroup CREATE_IN_PROGRESS",
            "12 AGroup CREATE_COMPLETE",
            "15 BGroup CREATE_IN_PROGRESS",
            "17 BGroup CREATE_COMPLETE",
        ];
        check(|notes| order(&made(&quick), notes), side_by_side, "not seen they were made too fast to tell");
        check(|notes| order(&made(&quick), notes), "cfn-function-comes-last", "confirmed 2 groups");
        check(|notes| order(&made(&at_once[..3]), notes), "cfn-function-comes-last", "REFUTED 2 groups");
    }

    #[test]
    fn a_function_that_is_called_again_after_its_failure_is_seen() {
        let (keeps, told) = ("cfn-failed-update-keeps-all", "cfn-reason-in-event");
        let failed = ["1 Isolation UPDATE_IN_PROGRESS", "2 Isolation UPDATE_FAILED"];
        let judge = |status: &'static str, lines: Vec<&'static str>| {
            move |notes: &mut Notes| failed_update(status, &events(&lines), notes)
        };
        check(judge("UPDATE_FAILED", failed.to_vec()), keeps, "confirmed UPDATE_FAILED, 0 events of it afterwards");
        check(judge("UPDATE_FAILED", failed.to_vec()), told, "confirmed 52 characters");
        let back = [&failed[..], &["3 Isolation UPDATE_IN_PROGRESS"]].concat();
        check(
            judge("UPDATE_ROLLBACK_COMPLETE", back),
            keeps,
            "REFUTED UPDATE_ROLLBACK_COMPLETE, 1 events of it afterwards",
        );
    }

    #[test]
    fn a_second_delete_is_one_after_the_failed_one() {
        let id = "cfn-custom-resource-second-delete";
        let (first, second) = (
            ["1 Isolation DELETE_IN_PROGRESS", "2 Isolation DELETE_FAILED"],
            ["3 Isolation DELETE_IN_PROGRESS", "4 Isolation DELETE_COMPLETE"],
        );
        let all = "DELETE_IN_PROGRESS, DELETE_FAILED, DELETE_IN_PROGRESS, DELETE_COMPLETE";
        check(|notes| deletions(&events(&[first, second].concat()), notes), id, &format!("confirmed {all}"));
        check(|notes| deletions(&events(&first), notes), id, "REFUTED DELETE_IN_PROGRESS, DELETE_FAILED");
        check(|notes| deletions(&events(&second), notes), id, "REFUTED DELETE_IN_PROGRESS, DELETE_COMPLETE");
    }
}
