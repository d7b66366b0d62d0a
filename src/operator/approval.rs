//! `approve` and `reject`: a person's answer to what the trigger asks. What it isolates, the trigger's state machine does.

use std::fmt;

use serde::Serialize;
use serde_json::json;

use super::text::{plain, wrapped};
use super::{Operator, Trouble, refused};
use crate::operator::ports::approval::{Answers, Question, Questions, Token};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::ports::Change;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Reject,
}

impl Decision {
    fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// A question that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub id: String,
    question: Question,
    token: Token,
}

/// An answer that the trigger has taken. It says nothing of what is isolated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    pub id: String,
    pub decision: Decision,
    pub by: String,
    /// The command that shows what becomes of it.
    pub next: String,
}

impl<E: Survey + Change + Clone, R: Archive + Questions, S: StackLife + Clone> Operator<E, R, S> {
    /// The question of this id, if it still waits. Changes nothing.
    ///
    /// # Errors
    /// There is no such question, it was answered or has expired, or the records cannot be read.
    pub async fn open_question(&self, id: &str) -> Result<Open, Trouble> {
        let Some(table) = self.responders_table().await? else {
            return Err(refused("there is no responder here, hence no trigger: check --region and --profile"));
        };
        let found = self.ports.records.named(&table).question(id).await;
        let found = found.map_err(|error| Trouble::Failed { what: "the question cannot be read", error })?;
        let Some(question) = found else {
            return Err(refused(&format!(
                "the trigger in account {}, region {} has no question {id}: check the id, --region and --profile",
                self.site.account, self.site.region
            )));
        };
        match (question.state.as_str(), question.token.clone()) {
            ("asked", Some(token)) => Ok(Open { id: id.to_owned(), question, token }),
            _ => Err(refused(&closed(id, question.answered_by.as_deref()))),
        }
    }

    /// Gives the trigger the answer.
    ///
    /// # Errors
    /// It waits no longer, or cannot be told.
    pub async fn answer(&self, open: &Open, decision: Decision, answers: &impl Answers) -> Result<Answered, Trouble> {
        let by = self.site.caller.clone();
        let text = json!({"decision": decision.word(), "by": by}).to_string();
        let taken = answers.answer(&open.token, &text).await;
        if !taken.map_err(|error| Trouble::Failed { what: "the trigger cannot be told", error })? {
            return Err(refused(&closed(&open.id, None)));
        }
        Ok(Answered { id: open.id.clone(), decision, by, next: self.shell.own("list") })
    }
}

fn closed(id: &str, by: Option<&str>) -> String {
    let why = by.map_or_else(|| "it waits for no answer".to_owned(), |by| format!("{by} has answered it"));
    format!("question {id} is closed: {why}. To isolate without it: ec2-isolation isolate")
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A finding may be written by whoever may write to Security Hub.
        let lines = self.question.about.lines().chain(["To be isolated:"]).chain(self.question.list.lines());
        lines.map(plain).try_for_each(|line| writeln!(f, "{}", wrapped(&line, "  ")))
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decision {
            Decision::Approve => {
                writeln!(f, "{}", wrapped(&format!("Approved {} as {}.", self.id, self.by), "  "))?;
                writeln!(f, "{}", wrapped("The trigger isolates now, and tells what came of it. To see it:", "  "))?;
                writeln!(f, "  {}", self.next)
            }
            Decision::Reject => {
                let text = format!("Rejected {} as {}. The trigger isolates nothing of it.", self.id, self.by);
                writeln!(f, "{}", wrapped(&text, "  "))
            }
        }
    }
}
