//! `drill`: what is asked before, what is shown, and that everything is taken away, also after Ctrl-C.

use std::collections::BTreeMap;

use ec2_isolation::operator::aws::step_functions::StepFunctions;
use ec2_isolation::operator::{Cleaned, Progress, Trouble, wrapped};

use crate::args::Output;
use crate::commands::{Outcome, Program, confirm, say, show};
use crate::progress;

/// Holds a drill. Its result is the text that may be shown to everybody; what is left is said on standard error.
pub async fn hold(
    program: &Program,
    machines: &StepFunctions,
    subnet: &str,
    image: Option<String>,
    yes: bool,
    output: Output,
) -> Result<Outcome, Trouble> {
    let order = program.drill_order(subnet, image).await?;
    progress::say(order.to_string().trim_end());
    confirm(yes, "Hold the drill?").await?;
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let drill = tokio::select! {
        drill = program.drill(&order, machines, &on_progress) => drill,
        () = progress::interrupted() => {
            watching.end();
            progress::tell("The drill has ended. What it has made is taken away; press Ctrl-C again to leave that to drill --clean.");
            say_left(&program.clean(&order.id).await);
            return Ok(Outcome::Failed);
        }
    };
    watching.end();
    show(output, &drill, &drill);
    say_steps(&drill.left);
    if let Some(failed) = &drill.failed {
        progress::say(wrapped(&format!("ec2-isolation: the drill ended early: {failed}"), "  "));
    }
    Ok(Outcome::done(drill.is_as_assumed()))
}

/// Takes away what killed drills have left.
pub async fn clean(program: &Program, yes: bool, output: Output) -> Result<Outcome, Trouble> {
    let drills = program.drills().await?;
    if drills.is_empty() {
        match output {
            Output::Text => say("No drill has left anything.\n"),
            Output::Json => show(output, &"", &Vec::<Cleaned>::new()),
        }
        return Ok(Outcome::Done);
    }
    for (id, made) in &drills {
        let all: BTreeMap<&str, Vec<String>> = [
            ("instances, with their snapshots", made.instances.iter().map(ToString::to_string).collect()),
            ("interfaces", made.interfaces.iter().map(ToString::to_string).collect()),
            ("groups", made.groups.iter().map(ToString::to_string).collect()),
            ("not deleted, for nothing shows who made them", made.tagged.iter().cloned().collect()),
        ]
        .into();
        progress::say(format_args!("Of drill {id}, with its stack if it is there:"));
        for (kind, ids) in all.iter().filter(|(_, ids)| !ids.is_empty()) {
            progress::say(wrapped(&format!("  {kind}: {}", ids.join(", ")), "    "));
        }
    }
    confirm(yes, "Take them away?").await?;
    let mut all = Vec::new();
    for id in drills.keys() {
        all.push(program.clean(id).await);
    }
    if output == Output::Json {
        show(output, &"", &all);
    }
    for cleaned in &all {
        if output == Output::Text && cleaned.left.is_empty() {
            say(format!("Nothing is left of drill {}.\n", cleaned.drill));
        }
        say_left(cleaned);
    }
    Ok(Outcome::done(all.iter().all(|cleaned| cleaned.left.is_empty())))
}

fn say_left(cleaned: &Cleaned) {
    say_steps(&cleaned.left);
}

fn say_steps(left: &[impl std::fmt::Display]) {
    left.iter().for_each(|step| progress::say(step.to_string().trim_end()));
}
