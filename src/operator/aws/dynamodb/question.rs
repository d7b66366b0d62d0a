//! The trigger's items: read only, since its state machine writes them.

use crate::aws::dynamodb::Table;
use crate::aws::dynamodb::item::{TRIGGER_PREFIX, text};
use crate::operator::ports::approval::{Question, Questions, Token};
use crate::ports::Call;

impl Questions for Table {
    async fn question(&self, id: &str) -> Call<Option<Question>> {
        let item = self.get(&format!("{TRIGGER_PREFIX}{id}")).await?;
        Ok(item.map(|item| {
            let shown = |name| text(&item, name).map(str::to_owned);
            Question {
                state: shown("State").unwrap_or_default(),
                about: shown("About").unwrap_or_default(),
                list: shown("Question").unwrap_or_default(),
                answered_by: shown("AnsweredBy"),
                token: shown("TaskToken").map(Token),
            }
        }))
    }
}
