//! What is sent back to CloudFormation, and how it is made to fit.
//!
//! The whole body may have 4,096 bytes; a longer one is itself a failure ("Response object is too long").

use serde::Serialize;

use super::event::{Envelope, RequestType, escaped_length};
use crate::reconcile::report::Report;

/// Bytes of the serialised body, inclusive (awsdocs/aws-cloudformation-user-guide#262).
const BODY_LIMIT: usize = 4096;
/// Bytes of each list in `Data`, widest first: tried until the body fits.
const LIST_LIMITS: [usize; 5] = [900, 600, 300, 100, 0];

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer {
    pub status: Status,
    pub reason: String,
    pub physical_resource_id: String,
    pub stack_id: String,
    pub request_id: String,
    pub logical_resource_id: String,
    pub data: Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    #[serde(rename = "SUCCESS")]
    Success,
    #[serde(rename = "FAILED")]
    Failed,
}

/// The attributes for `Fn::GetAtt`: the same string keys on every answer, or CloudFormation fails the ones that miss.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Data {
    pub isolated_instance_count: String,
    pub isolated_interface_count: String,
    pub snapshot_count: String,
    pub isolated_instances: String,
    pub snapshots: String,
    pub not_isolated: String,
    pub summary: String,
}

impl Report {
    /// Says what a person does now, where the answer is FAILED. `table` is the records table, where it is known.
    ///
    /// CloudFormation calls again on a Create or Update. After a FAILED Delete it goes on and deletes the function too, if that is in
    /// the stack (cloudformation-coverage-roadmap#852).
    #[must_use]
    pub fn with_next_step(mut self, envelope: &Envelope, table: Option<&str>) -> Self {
        let is_asked_again = envelope.function_outlives_stack && self.kept.is_some();
        if !self.failed || !self.next.is_empty() && !is_asked_again {
            return self;
        }
        let table = table.map_or_else(|| "the records table".to_owned(), |name| format!("table {name}"));
        self.next = if envelope.request_type == Some(RequestType::Delete) {
            let owner = envelope.owner();
            let name = owner.stack_name();
            let (first, items) = match envelope.function_outlives_stack {
                true => (
                    format!(
                        "when the incident is over, delete the stack once more: aws cloudformation delete-stack --stack-name {name}; if that fails,"
                    ),
                    "each item of this stack in",
                ),
                false => ("the function goes with the stack, so".to_owned(), "each item of"),
            };
            format!(
                "{first} run ec2-isolation restore --stack {name} --finish, or restore by hand: run the \
                 commands in RestoreCommands of {items} {table} (the tags ec2-isolation:original-groups-… of each interface \
                 say the same), then aws cloudformation delete-stack --stack-name {name} --retain-resources {}",
                owner.logical_id
            )
        } else {
            format!("remove the cause, then deploy again with a new Rerun; what is recorded is in {table}")
        };
        self
    }

    /// The answer to `envelope`, at most 4,096 bytes of JSON. `log_stream` is where everything that was left out can be read.
    #[must_use]
    pub fn into_answer(self, envelope: &Envelope, log_stream: &str) -> Answer {
        let mut answer = self.answer(envelope, LIST_LIMITS[0], usize::MAX, log_stream);
        for list_limit in LIST_LIMITS {
            let without_reason = self.answer(envelope, list_limit, 0, log_stream).json_length();
            let room = BODY_LIMIT.saturating_sub(without_reason);
            // A FAILED answer's attributes are not read: the reason comes first there.
            let enough = if self.failed { 2400 } else { 400 };
            answer = self.answer(envelope, list_limit, room, log_stream);
            if answer.json_length() <= BODY_LIMIT
                && (room >= enough || self.reason(usize::MAX, log_stream).len() <= room)
            {
                return answer;
            }
        }
        answer.shrink_ids();
        answer
    }

    fn answer(&self, envelope: &Envelope, list_limit: usize, reason_limit: usize, log_stream: &str) -> Answer {
        let list = |items: &[String]| cut_list(items, list_limit);
        Answer {
            status: if self.failed { Status::Failed } else { Status::Success },
            reason: self.reason(reason_limit, log_stream),
            physical_resource_id: envelope.physical_id(),
            stack_id: envelope.stack_id.clone(),
            request_id: envelope.request_id.clone(),
            logical_resource_id: envelope.logical_id.clone(),
            data: Data {
                isolated_instance_count: self.isolated_instances.len().to_string(),
                isolated_interface_count: self.isolated_interface_count.to_string(),
                snapshot_count: match &self.locks {
                    Some(locks) => format!("{}, {locks}", self.snapshots.len()),
                    None => self.snapshots.len().to_string(),
                },
                isolated_instances: list(&self.isolated_instances),
                snapshots: list(&self.snapshots),
                not_isolated: list(&self.not_isolated),
                summary: cut(&printable(&self.findings(self.details.len())), list_limit.min(600)),
            },
        }
    }

    /// The headline, then as many details as fit into `limit` bytes of JSON, then how many were left out and where they are.
    fn reason(&self, limit: usize, log_stream: &str) -> String {
        let full = self.with_details(self.details.len(), log_stream);
        if escaped_length(&full) <= limit {
            return full;
        }
        (1..self.details.len())
            .rev()
            .map(|shown| self.with_details(shown, log_stream))
            .find(|reason| escaped_length(reason) <= limit)
            .unwrap_or_else(|| cut(&self.with_details(1, log_stream), limit))
    }

    fn findings(&self, shown: usize) -> String {
        let mut text = self.headline.clone();
        for detail in self.details.iter().take(shown) {
            text.push_str(" | ");
            text.push_str(detail);
        }
        let left_out = self.details.len().saturating_sub(shown);
        if left_out > 0 {
            text.push_str(&format!(" | and {left_out} more"));
        }
        text
    }

    fn with_details(&self, shown: usize, log_stream: &str) -> String {
        let mut reason = self.findings(shown);
        if !self.next.is_empty() {
            reason.push_str(&format!(" | next: {}", self.next));
        }
        if self.failed && !log_stream.is_empty() {
            reason.push_str(&format!(" | log stream: {log_stream}"));
        }
        printable(&reason)
    }
}

impl Answer {
    /// The body to send.
    #[must_use]
    pub fn body(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn json_length(&self) -> usize {
        self.body().len()
    }

    /// CloudFormation's own ids always fit. These do not come from it, so what is cut off is no loss.
    fn shrink_ids(&mut self) {
        for limit in [900, 300, 50] {
            if self.json_length() > BODY_LIMIT {
                self.stack_id = cut(&self.stack_id, limit);
                self.request_id = cut(&self.request_id, limit);
                self.logical_resource_id = cut(&self.logical_resource_id, limit);
            }
        }
    }
}

/// Control characters grow six-fold in JSON and say nothing.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The longest start of `text` that takes at most `limit` bytes of JSON, ending in `…` where something was cut.
fn cut(text: &str, limit: usize) -> String {
    if escaped_length(text) <= limit {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut length = '…'.len_utf8();
    for c in text.chars() {
        length += escaped_length(c.encode_utf8(&mut [0; 4]));
        if length > limit {
            break;
        }
        kept.push(c);
    }
    if limit >= '…'.len_utf8() {
        kept.push('…');
    }
    kept
}

/// `a,b,c`, or `a,b and 7 more` within `limit` bytes.
fn cut_list(items: &[String], limit: usize) -> String {
    let full = items.join(",");
    if escaped_length(&full) <= limit {
        return full;
    }
    (1..items.len())
        .rev()
        .map(|shown| {
            let (first, rest) = items.split_at(shown);
            format!("{} and {} more", first.join(","), rest.len())
        })
        .find(|text| escaped_length(text) <= limit)
        .unwrap_or_else(|| cut(&format!("{} in all", items.len()), limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn envelope(physical_id: &str) -> Envelope {
        Envelope::read(&json!({
            "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/ir/11111111-aaaa",
            "RequestId": "req-1", "LogicalResourceId": "Isolation", "PhysicalResourceId": physical_id,
        }))
    }

    fn many(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("i-{n:017x}")).collect()
    }

    /// The body of the answer, which must fit whatever the message is.
    fn body(message: Report, physical_id: &str) -> Value {
        let body = message.into_answer(&envelope(physical_id), "2026/11/25/[$LATEST]abc").body();
        assert!(body.len() <= BODY_LIMIT, "{} bytes", body.len());
        serde_json::from_str(&body).unwrap()
    }

    #[test]
    fn an_answer_has_cloudformations_fields_and_only_strings_in_data() {
        let message = Report {
            headline: "1 instance isolated".into(),
            isolated_instances: vec!["i-1".into()],
            isolated_interface_count: 2,
            ..Report::default()
        };
        assert_eq!(
            body(message, "p"),
            json!({
                "Status": "SUCCESS", "Reason": "1 instance isolated", "PhysicalResourceId": "p",
                "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/ir/11111111-aaaa",
                "RequestId": "req-1", "LogicalResourceId": "Isolation",
                "Data": {"IsolatedInstanceCount": "1", "IsolatedInterfaceCount": "2", "SnapshotCount": "0",
                    "IsolatedInstances": "i-1", "Snapshots": "", "NotIsolated": "", "Summary": "1 instance isolated"},
            })
        );
    }

    #[test]
    fn two_hundred_instances_fit_with_a_count_of_what_was_left_out() {
        let message = Report {
            headline: "204 instances isolated".into(),
            isolated_instances: many(204),
            snapshots: many(204),
            ..Report::default()
        };
        let data = &body(message, "p")["Data"];
        let instances = data["IsolatedInstances"].as_str().unwrap();
        assert_eq!(data["IsolatedInstanceCount"], "204");
        let shown = instances.matches("i-").count();
        assert!(instances.ends_with(&format!(" and {} more", 204 - shown)), "{instances}");
        assert!(shown > 30, "{shown}");
    }

    #[test]
    fn a_long_reason_keeps_the_worst_and_counts_the_rest() {
        let details = many(300).into_iter().map(|id| format!("{id}: eni-1: UnauthorizedOperation")).collect();
        let message = Report { details, not_isolated: many(300), ..Report::failure("300 instances are not isolated") };
        let answer = body(message, "p");
        let reason = answer["Reason"].as_str().unwrap();
        assert!(reason.starts_with("300 instances are not isolated | i-00000000000000000: eni-1"), "{reason}");
        let shown = reason.matches("UnauthorizedOperation").count();
        assert!(
            reason.ends_with(&format!(" | and {} more | log stream: 2026/11/25/[$LATEST]abc", 300 - shown)),
            "{reason}"
        );
        assert!(reason.len() > 2000, "{}", reason.len());
    }

    #[test]
    fn one_huge_detail_is_cut_at_a_character() {
        for text in ["é漢🙂".repeat(5000), "\"\n\u{1}".repeat(5000), "x".repeat(10_000)] {
            let message = Report { details: vec![text], ..Report::failure("failed") };
            let reason = body(message, "p")["Reason"].as_str().unwrap().to_owned();
            assert!(reason.ends_with('…') && reason.len() > 2000, "{}", reason.len());
        }
    }

    #[test]
    fn the_longest_physical_id_leaves_room_for_the_reason() {
        let message =
            Report { details: vec!["because".repeat(900)], isolated_instances: many(204), ..Report::failure("failed") };
        let id = "p".repeat(1024);
        let answer = body(message, &id);
        assert_eq!(answer["PhysicalResourceId"], id);
        assert!(answer["Reason"].as_str().unwrap().len() > 1500);
    }

    #[test]
    fn every_answer_has_the_same_keys() {
        let keys = |message| body(message, "p")["Data"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(Report::failure("x")), keys(Report { isolated_instances: many(204), ..Report::default() }));
    }
}
