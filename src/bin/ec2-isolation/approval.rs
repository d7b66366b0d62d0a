//! `approve` and `reject`: what is asked before, and what is shown.

use ec2_isolation::operator::aws::step_functions::StepFunctions;
use ec2_isolation::operator::{Decision, Trouble};

use crate::args::Output;
use crate::commands::{Outcome, Program, confirm, show};
use crate::progress;

/// Shows the question, asks, and answers it.
pub async fn answer(
    program: &Program,
    answers: &StepFunctions,
    id: &str,
    decision: Decision,
    yes: bool,
    output: Output,
) -> Result<Outcome, Trouble> {
    let open = program.open_question(id).await?;
    progress::say(open.to_string().trim_end());
    let question = match decision {
        Decision::Approve => "Isolate them?",
        Decision::Reject => "Isolate none of them?",
    };
    confirm(yes, question).await?;
    let answered = program.answer(&open, decision, answers).await?;
    show(output, &answered, &answered);
    Ok(Outcome::Done)
}
