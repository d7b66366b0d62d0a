//! `evidence`: what is asked before, and what is shown.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ec2_isolation::model::InstanceId;
use ec2_isolation::operator::aws::ebs::Ebs;
use ec2_isolation::operator::{Incident, Progress, Trouble, wrapped};

use crate::args::Output;
use crate::commands::{Outcome, Program, confirm, say, show};
use crate::{progress, report};

/// Between two lines about how far the reading of a snapshot is.
const SHOWN_EVERY: Duration = Duration::from_secs(5);

/// What the command line says of every part of it.
pub struct Chosen {
    pub incident: Incident,
    pub instances: BTreeSet<InstanceId>,
    pub host: Option<InstanceId>,
    pub dry_run: bool,
    pub yes: bool,
}

impl Chosen {
    /// The command that goes on with exactly this.
    fn again(&self, program: &Program, part: &str) -> String {
        let host = self.host.iter().map(|host| format!(" --host {host}"));
        let rest: String = host.chain(self.instances.iter().map(|id| format!(" {id}"))).collect();
        program.shell.own(&format!("evidence{part} {}{rest}", self.incident.address.argument()))
    }
}

/// Volumes on the forensic host.
pub async fn attach(program: &Program, chosen: Chosen, output: Output) -> Result<Outcome, Trouble> {
    let again = chosen.again(program, "");
    let order = program.volume_order(chosen.incident, &chosen.instances, chosen.host.as_ref()).await?;
    progress::say(order.to_string().trim_end());
    if chosen.dry_run {
        return Ok(Outcome::Done);
    }
    if order.is_anything_to_do() {
        confirm(chosen.yes, "Make and attach them?").await?;
    }
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let work = program.make_volumes(&order, &on_progress);
    let Some(attached) =
        watched(&watching, work, "AWS goes on with what it has begun, and nothing is made twice", &again).await?
    else {
        return Ok(Outcome::Failed);
    };
    show(output, &attached, &attached);
    Ok(Outcome::done(!attached.failed))
}

/// And away again.
pub async fn remove(program: &Program, chosen: Chosen, output: Output) -> Result<Outcome, Trouble> {
    let again = chosen.again(program, " --remove");
    let removal = program.removal(chosen.incident, &chosen.instances, chosen.host.as_ref()).await?;
    progress::say(removal.to_string().trim_end());
    if chosen.dry_run {
        return Ok(Outcome::Done);
    }
    if !removal.is_empty() {
        confirm(chosen.yes, "Are they unmounted, and shall they be deleted?").await?;
    }
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let work = program.take_away(&removal, &on_progress);
    let Some(removed) = watched(&watching, work, "AWS goes on with what it has begun", &again).await? else {
        return Ok(Outcome::Failed);
    };
    show(output, &removed, &removed);
    Ok(Outcome::done(!removed.failed))
}

/// Copies for another account.
pub async fn share(
    program: &Program,
    chosen: Chosen,
    account: &str,
    key: &str,
    output: Output,
) -> Result<Outcome, Trouble> {
    let again = chosen.again(program, &format!(" --share {account} --key {key}"));
    let order = program.share_order(chosen.incident, &chosen.instances, account, key).await?;
    progress::say(order.to_string().trim_end());
    if chosen.dry_run {
        return Ok(Outcome::Done);
    }
    confirm(chosen.yes, &format!("Let account {account} use them?")).await?;
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let work = program.share(&order, &on_progress);
    let Some(shared) =
        watched(&watching, work, "AWS goes on with the copies, and none is shared before it is complete", &again)
            .await?
    else {
        return Ok(Outcome::Failed);
    };
    show(output, &shared, &shared);
    Ok(Outcome::done(!shared.failed))
}

/// What is in the snapshots.
pub async fn manifest(program: &Program, ebs: &Ebs, chosen: Chosen, to: Option<&Path>) -> Result<Outcome, Trouble> {
    let name = to.map_or("manifest.json".to_owned(), |to| to.to_string_lossy().into_owned());
    let again = chosen.again(program, &to.map_or(" --manifest".to_owned(), |_| format!(" --manifest --to {name}")));
    if chosen.dry_run {
        progress::say(
            "It would read every block of the snapshots, which EBS charges by the block. It changes nothing but the records' history.",
        );
        return Ok(Outcome::Done);
    }
    // Before hours of reading.
    if let Some(to) = to {
        report::check_new(to)?;
    }
    let watching = progress::Watching::new();
    let last: Mutex<Option<(String, Instant)>> = Mutex::default();
    let on_progress = |progress: &Progress| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_new = last.as_ref().is_none_or(|(of, at)| *of != progress.stack || at.elapsed() >= SHOWN_EVERY);
        if is_new || progress.done == progress.total {
            *last = Some((progress.stack.clone(), Instant::now()));
            watching.show(progress);
        }
    };
    let work = program.manifest(&chosen.incident, &chosen.instances, ebs, &name, &on_progress);
    let Some(manifest) =
        watched(&watching, work, "Nothing is written, and a snapshot that was read is read again", &again).await?
    else {
        return Ok(Outcome::Failed);
    };
    progress::say(manifest.summary());
    match to {
        None => say(manifest.sealed()),
        Some(to) => {
            report::write(to, &manifest.sealed())?;
            progress::say(format_args!("written: {name}"));
        }
    }
    Ok(Outcome::done(manifest.is_complete))
}

/// What came of it; nothing if a person has ended the watching, who reads then what goes on, and how to go on.
async fn watched<T>(
    watching: &progress::Watching,
    work: impl Future<Output = Result<T, Trouble>>,
    goes_on: &str,
    again: &str,
) -> Result<Option<T>, Trouble> {
    let done = tokio::select! {
        done = work => Some(done),
        () = progress::interrupted() => None,
    };
    watching.end();
    if done.is_none() {
        progress::say(wrapped(&format!("The watching has ended. {goes_on}. To go on:"), "  "));
        progress::say(format_args!("  {again}"));
    }
    done.transpose()
}
