//! The findings of events/findings, what the trigger is to make of each, and whether the real Step Functions does so.

use serde_json::{Value, json};

use super::super::Operator;
use super::notes::Notes;
use crate::operator::ports::drill::Evaluates;
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::ports::{Call, Change};

/// A finding as EventBridge hands it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Of its file, without `.json`.
    pub name: &'static str,
    /// Of account 123456789012 in us-east-1.
    pub text: &'static str,
    /// `go`, `tell` or `quiet`.
    pub verdict: &'static str,
    /// How many instances the trigger reads in it.
    pub instances: usize,
}

macro_rules! shapes {
    ($($name:literal $verdict:ident $instances:literal,)*) => {
        &[$(Shape {
            name: $name,
            text: include_str!(concat!("../../../events/findings/", $name, ".json")),
            verdict: stringify!($verdict),
            instances: $instances,
        }),*]
    };
}

/// Every one of events/findings.
pub const SHAPES: &[Shape] = shapes! {
    "guardduty-archived" quiet 0,
    "guardduty-attack-sequence" go 25,
    "guardduty-attack-sequence-elsewhere" tell 25,
    "guardduty-attack-sequence-s3" tell 0,
    "guardduty-attack-sequence-too-long" tell 125,
    "guardduty-container" tell 0,
    "guardduty-instance" go 1,
    "guardduty-low" quiet 0,
    "guardduty-no-instance" tell 0,
    "guardduty-no-severity" tell 0,
    "guardduty-other-account" quiet 0,
    "guardduty-other-region" quiet 0,
    "guardduty-sample" quiet 0,
    "security-hub-archived" quiet 0,
    "security-hub-control" quiet 0,
    "security-hub-custom-action" go 2,
    "security-hub-custom-action-archived" tell 1,
    "security-hub-imported" go 1,
    "security-hub-imported-guardduty" quiet 0,
    "security-hub-no-severity" tell 0,
    "security-hub-no-type" tell 0,
    "security-hub-v2" go 1,
    "security-hub-v2-exposure" quiet 0,
    "security-hub-v2-guardduty" quiet 0,
    "security-hub-v2-no-class" tell 0,
    "security-hub-v2-vulnerability" quiet 0,
    "security-hub-vulnerability" quiet 0,
    "security-hub-wrong-account" tell 1,
    "unknown" tell 0,
};

const ID: &str = "gd-findings-are-read";

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Lets Step Functions evaluate the trigger's own expressions. Nothing is started, told or isolated.
    pub(super) async fn read_findings(&self, machines: &impl Evaluates, notes: &mut Notes) {
        let responder = self.responder().await.ok().flatten();
        let Some(machine) = responder.and_then(|responder| responder.trigger) else {
            return notes.note_unseen(ID, "the responder's trigger is off");
        };
        match self.misread(machines, &machine).await {
            Ok(misread) => {
                let all = SHAPES.len();
                let but = if misread.is_empty() { String::new() } else { format!(", but {}", misread.join(", ")) };
                notes.note(ID, misread.is_empty(), format!("{} of {all} findings{but}", all - misread.len()));
            }
            Err(error) => notes.note_failure(ID, &error),
        }
    }

    /// The names of those that are read otherwise.
    async fn misread(&self, machines: &impl Evaluates, machine: &str) -> Call<Vec<&'static str>> {
        let definition = machines.definition(machine).await?;
        let expression = |state: &str, name: &str| {
            let path = format!("/States/Handle/Branches/0/States/{state}/Assign/{name}");
            let text = definition.pointer(&path).and_then(Value::as_str).unwrap_or_default().trim();
            text.trim_start_matches("{%").trim_end_matches("%}").trim().to_owned()
        };
        // One expression for both states, since TestState is given an input and no variables.
        let whole = format!(
            "{{% ( $kind := {}; $findings := {}; {} ) %}}",
            expression("Read", "kind"),
            expression("Read", "findings"),
            expression("Judge", "judged")
        );
        let state = json!({"Type": "Pass", "QueryLanguage": "JSONata", "Output": whole, "End": true});
        let mut misread = Vec::new();
        for shape in SHAPES {
            let read = machines.evaluate(&state, &self.here(shape)).await?;
            let instances = read.get("ids").and_then(Value::as_array).map(Vec::len);
            let verdict = read.get("verdict").and_then(Value::as_str);
            if verdict != Some(shape.verdict) || instances != Some(shape.instances) {
                misread.push(shape.name);
            }
        }
        Ok(misread)
    }

    /// The finding, of this account and Region.
    fn here(&self, shape: &Shape) -> Value {
        let partition = self.site.caller.split(':').nth(1).unwrap_or("aws");
        // The file of another Region names this one.
        let elsewhere = if self.site.region == "eu-west-1" { "us-east-1" } else { "eu-west-1" };
        let text = shape.text.replace("eu-west-1", "ELSEWHERE").replace("us-east-1", &self.site.region);
        let text = text.replace("ELSEWHERE", elsewhere).replace("123456789012", &self.site.account);
        serde_json::from_str(&text.replace("arn:aws:", &format!("arn:{partition}:"))).unwrap_or_default()
    }
}
