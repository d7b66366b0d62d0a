//! `evidence`: what is asked before, and what is shown.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ec2_isolation::aws::ebs::Ebs;
use ec2_isolation::model::InstanceId;
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

/// Volumes on the forensic host.
pub async fn attach(program: &Program, chosen: Chosen, output: Output) -> Result<Outcome, Trouble> {
    let again = program.shell.own(&format!("evidence {}", chosen.incident.address.argument()));
    let order = program.volume_order(chosen.incident, &chosen.instances, chosen.host.as_ref()).await?;
    progress::say(order.to_string().trim_end());
    if chosen.dry_run {
        return Ok(Outcome::Done);
    }
    if order.is_anything_to_do() {
        confirm(chosen.yes, "Make and attach them?")?;
    }
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let attached = tokio::select! {
        attached = program.make_volumes(&order, &on_progress) => attached,
        () = progress::interrupted() => {
            watching.end();
            return Ok(interrupted("AWS goes on with what it has begun, and nothing is made twice", &again));
        }
    };
    watching.end();
    let attached = attached?;
    show(output, &attached, &attached);
    Ok(Outcome::done(!attached.failed))
}

/// And away again.
pub async fn remove(program: &Program, chosen: Chosen, output: Output) -> Result<Outcome, Trouble> {
    let again = program.shell.own(&format!("evidence --remove {}", chosen.incident.address.argument()));
    let removal = program.removal(chosen.incident, &chosen.instances, chosen.host.as_ref()).await?;
    progress::say(removal.to_string().trim_end());
    if chosen.dry_run {
        return Ok(Outcome::Done);
    }
    if !removal.is_empty() {
        confirm(chosen.yes, "Are they unmounted, and shall they be deleted?")?;
    }
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let removed = tokio::select! {
        removed = program.take_away(&removal, &on_progress) => removed,
        () = progress::interrupted() => {
            watching.end();
            return Ok(interrupted("AWS goes on with what it has begun", &again));
        }
    };
    watching.end();
    let removed = removed?;
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
    let again = chosen.incident.address.argument();
    let again = program.shell.own(&format!("evidence --share {account} --key {key} {again}"));
    let order = program.share_order(chosen.incident, &chosen.instances, account, key).await?;
    progress::say(order.to_string().trim_end());
    if chosen.dry_run {
        return Ok(Outcome::Done);
    }
    confirm(chosen.yes, &format!("Let account {account} use them?"))?;
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let shared = tokio::select! {
        shared = program.share(&order, &on_progress) => shared,
        () = progress::interrupted() => {
            watching.end();
            return Ok(interrupted("AWS goes on with the copies, and none is shared before it is complete", &again));
        }
    };
    watching.end();
    let shared = shared?;
    show(output, &shared, &shared);
    Ok(Outcome::done(!shared.failed))
}

/// What is in the snapshots.
pub async fn manifest(program: &Program, ebs: &Ebs, chosen: Chosen, to: Option<&Path>) -> Result<Outcome, Trouble> {
    let name = to.map_or("manifest.json".to_owned(), |to| to.to_string_lossy().into_owned());
    let again = program.shell.own(&format!("evidence --manifest {}", chosen.incident.address.argument()));
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
    let manifest = tokio::select! {
        manifest = program.manifest(&chosen.incident, &chosen.instances, ebs, &name, &on_progress) => manifest,
        () = progress::interrupted() => {
            watching.end();
            return Ok(interrupted("Nothing is written, and a snapshot that was read is read again", &again));
        }
    };
    watching.end();
    let manifest = manifest?;
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

fn interrupted(what: &str, again: &str) -> Outcome {
    progress::say(wrapped(&format!("The watching has ended. {what}. To go on:"), "  "));
    progress::say(format_args!("  {again}"));
    Outcome::Failed
}
