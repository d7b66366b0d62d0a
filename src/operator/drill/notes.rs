//! What a drill has found of each assumption, and how that is told: without anything that says whose account it was.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::assumptions::{ASSUMPTIONS, Assumption};
use crate::ports::{Call, CallError, Fault};

/// What became of an assumption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Confirmed,
    Refuted,
    NotSeen,
}

impl Outcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "REFUTED",
            Self::NotSeen => "not seen",
        }
    }

    fn of(holds: bool) -> Self {
        if holds { Self::Confirmed } else { Self::Refuted }
    }
}

/// One assumption with what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub assumption: &'static str,
    pub source: &'static str,
    pub outcome: Outcome,
    /// Numbers and codes; for what was not seen, why.
    pub seen: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, assumption, source, outcome, seen } = self;
        write!(f, "{:<9}  {id}: {assumption} [{source}] {seen}", outcome.as_str())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Notes(BTreeMap<&'static str, (Outcome, String)>);

impl Notes {
    /// An assumption holds, or does not. What refutes it stays.
    pub fn note(&mut self, id: &'static str, holds: bool, seen: impl Into<String>) {
        self.write(id, Outcome::of(holds), seen.into());
    }

    /// It could not be seen, for this reason.
    pub fn note_unseen(&mut self, id: &'static str, why: impl Into<String>) {
        self.write(id, Outcome::NotSeen, why.into());
    }

    fn write(&mut self, id: &'static str, outcome: Outcome, seen: String) {
        if self.0.get(id).is_none_or(|(before, _)| *before != Outcome::Refuted) {
            self.0.insert(id, (outcome, seen));
        }
    }

    /// Whether a call that should fail failed with one of these codes.
    pub fn note_refusal<T>(&mut self, id: &'static str, codes: &[&str], answer: &Call<T>) {
        match answer {
            Ok(_) => self.note(id, false, "AWS carried it out"),
            Err(error) if codes.contains(&error.code.as_str()) => self.note(id, true, error.code.clone()),
            Err(error) => self.note_failure(id, error),
        }
    }

    /// A call failed, and not in the way that is assumed. What has nothing to do with the question answers nothing.
    pub fn note_failure(&mut self, id: &'static str, error: &CallError) {
        match error.fault {
            Fault::Refused | Fault::Unseen | Fault::Busy => {
                self.note(id, false, format!("{} failed: {}", error.action, error.code))
            }
            _ => self.note_unseen(id, format!("{} failed: {}", error.action, error.code)),
        }
    }

    /// Every assumption, those that were refuted first. What nothing was noted of was not reached.
    pub fn findings(self) -> Vec<Finding> {
        let mut found = self.0;
        let finding = |assumption: &Assumption| {
            let Assumption { id, text, source, unseen } = *assumption;
            let why = if unseen.is_empty() { "the drill ended before" } else { unseen };
            let (outcome, seen) = found.remove(id).unwrap_or((Outcome::NotSeen, why.to_owned()));
            Finding { id, assumption: text, source, outcome, seen: scrubbed(&seen) }
        };
        let mut findings: Vec<Finding> = ASSUMPTIONS.iter().map(finding).collect();
        findings.sort_by_key(|finding| match finding.outcome {
            Outcome::Refuted => 0,
            Outcome::Confirmed => 1,
            Outcome::NotSeen => 2,
        });
        findings
    }
}

/// `120 ms`
pub fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// Without ARNs, account ids, addresses and ids of resources: what is left may be shown to everybody.
#[must_use]
pub fn scrubbed(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    let mut scrubbed = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, word) = rest.split_at(start);
        let (word, after) = word.split_at(word.find(|c| !is_part(c)).unwrap_or(word.len()));
        scrubbed.push_str(before);
        scrubbed.push_str(&scrubbed_word(word));
        rest = after;
    }
    scrubbed + rest
}

/// What EC2's ids begin with.
const PREFIXES: [&str; 11] =
    ["i-", "eni-", "sg-", "vpc-", "subnet-", "vol-", "snap-", "ami-", "eni-attach-", "lt-", "rtb-"];
/// An encoded authorisation message is longer.
const LONGEST_WORD: usize = 64;

fn scrubbed_word(word: &str) -> String {
    let is_hexadecimal = |text: &str| text.len() >= 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_id = |part: &str| {
        PREFIXES.iter().any(|prefix| part.strip_prefix(prefix).is_some_and(is_hexadecimal))
            || part.len() == 12 && part.bytes().all(|b| b.is_ascii_digit())
    };
    let is_address = |part: &str| part.trim_end_matches(['.', ':']).parse::<std::net::IpAddr>().is_ok();
    let has_id = word.split(['.', ':', '/', '_']).any(is_id);
    let is_hidden = word.starts_with("arn:") || word.len() > LONGEST_WORD || has_id || is_address(word);
    // Those of the isolation group are in the template.
    let is_loopback = ["127.0.0.1", "127.0.0.1/32", "::1", "::1/128"].contains(&word);
    let is_network = word.split_once('/').is_some_and(|(address, _)| is_address(address));
    if (is_hidden || is_network) && !is_loopback { "…".to_owned() } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(scrubbed(text), expected);
    }

    #[test]
    fn nothing_says_whose_account_it_was() {
        check("eni-0123456789abcdef0 moved to [sg-0a1b2c3d, sg-0a1b2c3e]", "… moved to […, …]");
        check("User: arn:aws:iam::123456789012:user/x is not authorized", "User: … is not authorized");
        check("at 10.0.0.5, in 10.0.0.0/16 and 2001:db8::1", "at …, in … and …");
        check("account 123456789012", "account …");
        check(&format!("encoded {}", "a".repeat(200)), "encoded …");
    }

    #[test]
    fn numbers_codes_and_times_stay() {
        for text in [
            "3 readings, 120 ms at most",
            "InvalidGroup.NotFound",
            "ec2:CreateTags failed: InvalidParameterValue",
            "all protocols 127.0.0.1/32, all protocols ::1/128",
            "UPDATE_FAILED after 1234 ms",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn what_was_refuted_once_stays_refuted() {
        let mut notes = Notes::default();
        notes.note("ec2-group-in-use", false, "first");
        notes.note("ec2-group-in-use", true, "second");
        let findings = notes.findings();
        assert_eq!((findings[0].outcome, findings[0].seen.as_str()), (Outcome::Refuted, "first"));
        assert_eq!(findings.len(), ASSUMPTIONS.len());
    }
}
