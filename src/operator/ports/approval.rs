//! What the trigger asks a person, and the way of the answer.

use std::fmt;
use std::future::Future;

use crate::ports::Call;

/// Its holder can answer: it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A question of the trigger, as the records table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `asked` while it waits.
    pub state: String,
    /// The finding.
    pub about: String,
    /// What would be isolated.
    pub list: String,
    pub answered_by: Option<String>,
    pub token: Option<Token>,
}

/// Where the questions are.
pub trait Questions {
    /// Nothing if there is no such question.
    fn question(&self, id: &str) -> impl Future<Output = Call<Option<Question>>> + Send;
}

/// Who waits for the answer.
pub trait Answers {
    /// False if no execution waits any more.
    fn answer(&self, token: &Token, answer: &str) -> impl Future<Output = Call<bool>> + Send;
}
