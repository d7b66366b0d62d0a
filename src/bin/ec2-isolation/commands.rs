//! The commands: who asks, what is shown, what is confirmed, what is done.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use ec2_isolation::aws::cloudformation::CloudFormation;
use ec2_isolation::aws::config::{self, Aws};
use ec2_isolation::aws::dynamodb::Table;
use ec2_isolation::aws::ec2::Ec2;
use ec2_isolation::aws::sts;
use ec2_isolation::model::InstanceId;
use ec2_isolation::operator::{Address, Ended, Operator, RestoreReport, Shell, Site, Status, Trouble};
use ec2_isolation::timing::clock::Clock;
use ec2_isolation::timing::gate::Gate;
use ec2_isolation::timing::pace::Pace;
use serde::Serialize;

use crate::args::{Arguments, Command, Output, stack_or_table};
use crate::{manual, progress};

type Program = Operator<Ec2, Table, CloudFormation>;

/// Nobody waits for an answer; this bounds what hangs.
const LONGEST_RUN: Duration = Duration::from_secs(12 * 3600);

/// Whether everything is as it was asked for.
///
/// # Errors
/// Nothing was done, or something could not be read.
pub async fn run(arguments: Arguments) -> Result<bool, Trouble> {
    let Arguments { command, region, profile, output } = arguments;
    if let Some(text) = manual::text(&command) {
        say(text);
        return Ok(true);
    }
    let asked = if matches!(command, Command::Adopt { .. }) { "adopt" } else { "restore" };
    let program = program(region, profile, asked).await?;
    match command {
        Command::Status { incident } => {
            let incident = program.incident(&incident.address()).await?;
            let status = Status::of(&incident, &program.site, &program.shell);
            show(output, &status, &status);
            Ok(true)
        }
        Command::Plan { incident, selection } => plan(&program, &incident.address(), &selection.ids(), output).await,
        Command::Restore { incident, selection, dry_run: true, .. } => {
            plan(&program, &incident.address(), &selection.ids(), output).await
        }
        Command::Restore { incident, selection, finish, yes, .. } => {
            restore(&program, &incident.address(), &selection.ids(), finish, yes, output).await
        }
        Command::Adopt { from, to, selection, dry_run, yes } => {
            adopt(&program, &stack_or_table(&from), &to, &selection.ids(), dry_run, yes, output).await
        }
        // The manual's.
        Command::Completions { .. } | Command::Man => Ok(true),
    }
}

async fn program(region: Option<String>, profile: Option<String>, asked: &str) -> Result<Program, Trouble> {
    let found = config::operator(region, profile.clone()).await;
    let (ports, client, region): (Aws, _, _) = found.map_err(|error| Trouble::Refused(error.to_string()))?;
    let caller = sts::caller(&client).await;
    let (account, caller) = caller.map_err(|error| Trouble::Failed { what: "AWS does not say who you are", error })?;
    let clock = Clock::new(SystemTime::now());
    Ok(Operator {
        ports,
        request_id: format!("operator-{}-{}", clock.now(), std::process::id()),
        asked_by: format!("{caller} with ec2-isolation {asked}"),
        site: Site { account, region: region.clone(), caller },
        shell: Shell { region, profile },
        clock,
        gate: Gate::new(LONGEST_RUN),
        pace: Pace::default(),
    })
}

fn show(output: Output, text: &impl Display, json: &impl Serialize) {
    match output {
        Output::Text => say(text),
        Output::Json => say(format!("{}\n", serde_json::to_string_pretty(json).unwrap_or_default())),
    }
}

/// On standard output. Whoever reads it may stop reading (`| head`): what was done is done all the same.
fn say(text: impl Display) {
    let _ = write!(std::io::stdout(), "{text}");
}

async fn plan(
    program: &Program,
    address: &Address,
    only: &BTreeSet<InstanceId>,
    output: Output,
) -> Result<bool, Trouble> {
    let incident = program.incident(address).await?;
    let preview = program.preview(&incident, only).await?;
    show(output, &preview, &preview);
    Ok(!preview.is_blocked)
}

#[derive(Serialize)]
struct Restored<'a> {
    #[serde(flatten)]
    report: &'a RestoreReport,
    /// How the stack ended, where that was asked for.
    ended: &'a Option<Ended>,
}

async fn restore(
    program: &Program,
    address: &Address,
    only: &BTreeSet<InstanceId>,
    finish: bool,
    yes: bool,
    output: Output,
) -> Result<bool, Trouble> {
    let incident = program.incident(address).await?;
    let preview = program.preview(&incident, only).await?;
    if !preview.held.is_empty() {
        progress::say(preview.to_string().trim_end());
        let question = if finish { "Restore them, and delete the stack?" } else { "Restore them?" };
        confirm(yes, question)?;
    } else if finish && incident.stack.is_some() {
        confirm(yes, &format!("Nothing is held isolated. Delete stack {}?", incident.stack_name))?;
    }
    let report = program.restore(&incident, only).await?;
    let mut ended = None;
    if finish && !report.failed {
        ended = Some(program.finish(&program.incident(address).await?).await?);
    }
    if output == Output::Json {
        show(output, &"", &Restored { report: &report, ended: &ended });
    } else {
        say(&report);
        match &ended {
            Some(ended) => ended.log.iter().for_each(|line| say(format!("{line}\n"))),
            None => report.status.next.iter().for_each(|step| say(format!("\n{step}"))),
        }
    }
    Ok(!report.failed && ended.is_none_or(|ended| ended.is_gone))
}

async fn adopt(
    program: &Program,
    from: &Address,
    to: &str,
    only: &BTreeSet<InstanceId>,
    dry_run: bool,
    yes: bool,
    output: Output,
) -> Result<bool, Trouble> {
    let handover = program.handover(from, to, only).await?;
    let first = &handover.first;
    let text = handover.to_string();
    if dry_run {
        show(output, &text, &handover.preview());
        return Ok(first.obstacles.is_empty());
    }
    progress::say(text.trim_end());
    if !first.is_empty() {
        confirm(yes, "Move them? They stay isolated throughout.")?;
    } else if !first.obstacles.is_empty() {
        return Err(Trouble::Refused("nothing was changed: none of them can be moved".to_owned()));
    }
    let report = program.adopt(&handover).await?;
    show(output, &report, &report);
    if output == Output::Text && !report.failed {
        let after = program.incident(from).await?;
        Status::of(&after, &program.site, &program.shell)
            .next
            .iter()
            .for_each(|step| say(format!("\nOLD STACK, {step}")));
    }
    Ok(!report.failed)
}

/// Asks, where somebody is there to answer.
fn confirm(yes: bool, question: &str) -> Result<(), Trouble> {
    if yes {
        return Ok(());
    }
    let refused = |why: &str| Err(Trouble::Refused(format!("nothing was changed: {why}")));
    if !std::io::stdin().is_terminal() {
        return refused("there is nobody to ask; give --yes");
    }
    let _ = write!(std::io::stderr(), "{question} Type yes: ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim(), "yes" | "y") => Ok(()),
        _ => refused("not confirmed"),
    }
}
