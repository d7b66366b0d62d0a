//! The commands: who asks, what is shown, what is confirmed, what is done.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use ec2_isolation::aws::cloudformation::CloudFormation;
use ec2_isolation::aws::dynamodb::Table;
use ec2_isolation::aws::ec2::Ec2;
use ec2_isolation::model::InstanceId;
use ec2_isolation::operator::aws::config::{self, Operators};
use ec2_isolation::operator::aws::sts;
use ec2_isolation::operator::{
    Address, Decision, Ended, Operator, Options, Progress, RestoreReport, Shell, Site, Status, Target, Trouble, Wish,
    host_name, wrapped,
};
use ec2_isolation::timing::clock::Clock;
use ec2_isolation::timing::gate::Gate;
use ec2_isolation::timing::pace::Pace;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::json;

use crate::args::{Arguments, Command, Incident, Output, Way};
use crate::revoke::{self, Revoking};
use crate::{approval, drill, evidence, manual, memory, progress, report};

pub type Program = Operator<Ec2, Table, CloudFormation>;

const WATCH_EVERY: Duration = Duration::from_secs(5);
/// No caller waits for an answer; this bounds what hangs.
const LONGEST_RUN: Duration = Duration::from_secs(12 * 3600);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Not everything is as it was asked for.
    Failed,
    /// Something that is to be isolated is not, or may not be.
    Open,
}

impl Outcome {
    pub fn done(is_done: bool) -> Self {
        if is_done { Self::Done } else { Self::Failed }
    }

    pub fn closed(is_open: bool) -> Self {
        if is_open { Self::Open } else { Self::Done }
    }
}

/// Does what was asked for.
///
/// # Errors
/// Nothing was done, or something could not be read.
pub async fn run(arguments: Arguments) -> Result<Outcome, Trouble> {
    let Arguments { command, region, profile, output } = arguments;
    if let Some(text) = manual::text(&command) {
        say(text);
        return Ok(Outcome::Done);
    }
    let asked = match command {
        Command::Isolate { .. } => "isolate",
        Command::Adopt { .. } => "adopt",
        Command::Approve { .. } => "approve",
        Command::Reject { .. } => "reject",
        Command::Drill { .. } => "drill",
        Command::Evidence { .. } => "evidence",
        Command::Memory { .. } => "memory",
        _ => "restore",
    };
    let (program, Operators { trail, iam, blocks, balancing, answers, .. }) = program(region, profile, asked).await?;
    match command {
        Command::Isolate { targets, stack, parameter, template_url, revoke, role, dry_run, yes } => {
            let options = Options { stack, template_url, parameters: parameter.into_iter().collect() };
            let revoking = revoke.then(|| Revoking { iam: &iam, roles: role.into_iter().collect() });
            isolate(&program, &targets, &options, revoking.as_ref(), dry_run, yes, output).await
        }
        Command::Approve { id, yes } => approval::answer(&program, &answers, &id, Decision::Approve, yes, output).await,
        Command::Reject { id, yes } => approval::answer(&program, &answers, &id, Decision::Reject, yes, output).await,
        Command::Status { incident, short, watch } => {
            let address = address_of(&program, &incident).await?;
            if watch {
                return watch_status(&program, &address, output).await;
            }
            let incident = program.incident(&address).await?;
            let mut status = program.status(&incident).await;
            if short {
                show(output, &status.short(), &status);
            } else {
                program.name_target_groups(&incident, &mut status, &balancing).await;
                show(output, &status, &status);
            }
            Ok(Outcome::closed(status.is_anything_open()))
        }
        Command::Host { incident, subnet, key, office, ports, parameter, delete, yes } => {
            let incident = program.incident(&address_of(&program, &incident).await?).await?;
            let named = [
                ("ForensicSubnetId", subnet),
                ("Ec2KeyName", key),
                ("CompanyIp", office.map(|office| office.to_string())),
                ("ForensicPorts", ports),
            ];
            let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let (name, stack) = (&incident.stack_name, host_name(&incident.stack_name));
            let (order, question) = if delete {
                (None, format!("Delete the forensic host of {name}?"))
            } else {
                let order = program.host_order(&incident, named.chain(parameter).collect()).await?;
                (Some(order), format!("Make a forensic host, in stack {stack}?"))
            };
            confirm(yes, &question).await?;
            let watching = progress::Watching::new();
            let on_progress = |progress: &Progress| watching.show(progress);
            let work = async {
                match &order {
                    Some(order) => program.make_host(order, &on_progress).await,
                    None => program.delete_host(name, &on_progress).await,
                }
            };
            let host = tokio::select! {
                host = work => host?,
                () = progress::interrupted() => {
                    watching.end();
                    return Ok(goes_on([program.shell.stack_status(&stack)]));
                }
            };
            watching.end();
            show(output, &host, &host);
            Ok(Outcome::done(!host.failed))
        }
        Command::Memory { instance, incident, way, avml, avml_sha256, to, scratch, run, yes } => {
            let Way { user, key, address, host, host_user, host_key } = way;
            let wish = Wish { user, key, address, host, host_user, host_key, avml, avml_sha256, to, scratch };
            let address = match incident.address() {
                Some(address) => address,
                None => program.incident_of(&instance).await?,
            };
            let capture = program.memory(&program.incident(&address).await?, &instance, wish).await?;
            match run {
                true => memory::run(&program, capture, yes, output).await,
                false => Ok(memory::print(&capture, output)),
            }
        }
        Command::List => {
            let list = program.list().await?;
            show(output, &list, &list);
            Ok(Outcome::closed(list.is_anything_open()))
        }
        Command::Report { incident, format, to, manifest } => {
            let address = address_of(&program, &incident).await?;
            let manifest = manifest.as_deref().map(report::manifest).transpose()?;
            let format = report::format(format, output);
            report::report(&program, &trail, &balancing, &address, manifest, format, to.as_deref()).await
        }
        Command::Evidence { incident, instances, host, remove, share, key, manifest, to, dry_run, yes } => {
            let incident = program.incident(&address_of(&program, &incident).await?).await?;
            let chosen = evidence::Chosen { incident, instances: instances.into_iter().collect(), host, dry_run, yes };
            match (remove, manifest, share.zip(key)) {
                (true, ..) => evidence::remove(&program, chosen, output).await,
                (_, true, _) => evidence::manifest(&program, &blocks, chosen, to.as_deref()).await,
                (_, _, Some((account, key))) => evidence::share(&program, chosen, &account, &key, output).await,
                _ => evidence::attach(&program, chosen, output).await,
            }
        }
        Command::Leftovers { incident } => {
            let incident = match incident.address() {
                Some(address) => Some(program.incident(&address).await?),
                None => None,
            };
            let leftovers = program.leftovers(incident.as_ref()).await?;
            show(output, &leftovers, &leftovers);
            Ok(Outcome::done(!leftovers.is_incomplete))
        }
        Command::Plan { incident, selection } | Command::Restore { incident, selection, dry_run: true, .. } => {
            let address = address_of(&program, &incident).await?;
            plan(&program, &address, &selection.ids(), output).await
        }
        Command::Restore { incident, selection, finish, yes, .. } => {
            let address = address_of(&program, &incident).await?;
            restore(&program, &address, &selection.ids(), finish, yes, output).await
        }
        Command::Adopt { from, to, selection, dry_run, yes } => {
            adopt(&program, &program.address(&from).await?, &to, &selection.ids(), dry_run, yes, output).await
        }
        Command::Drill { clean: true, yes, .. } => drill::clean(&program, yes, output).await,
        Command::Drill { subnet, image, yes, .. } => {
            drill::hold(&program, &answers, &subnet.unwrap_or_default(), image, yes, output).await
        }
        // The manual's.
        Command::Completions { .. } | Command::Man => Ok(Outcome::Done),
    }
}

async fn address_of(program: &Program, incident: &Incident) -> Result<Address, Trouble> {
    match incident.address() {
        Some(address) => Ok(address),
        None => program.only_incident().await,
    }
}

/// Ctrl-C ends the watching only.
fn goes_on(commands: impl IntoIterator<Item = String>) -> Outcome {
    progress::tell("The watching has ended. What CloudFormation has begun goes on. To see how it stands:");
    commands.into_iter().for_each(|command| progress::say(format_args!("  {command}")));
    Outcome::Failed
}

async fn isolate(
    program: &Program,
    targets: &[Target],
    options: &Options,
    revoking: Option<&Revoking<'_>>,
    dry_run: bool,
    yes: bool,
    output: Output,
) -> Result<Outcome, Trouble> {
    let orders = program.orders(targets, options).await?;
    let Site { account, region, caller } = &program.site;
    let intro = format!("To be isolated in account {account}, region {region}, by {caller}:");
    progress::say(wrapped(&intro, "  "));
    orders.iter().for_each(|order| progress::say(order.to_string().trim_end()));
    if dry_run {
        let mut outcome = Outcome::Done;
        for order in &orders {
            let report = program.rehearse(order).await?;
            let json = json!({"stack": order.stack, "failed": report.failed, "headline": report.headline, "details": report.details});
            show(output, &order.rehearsed(&report), &json);
            if report.failed {
                outcome = Outcome::Failed;
            }
            if let Some(revoking) = revoking {
                let found = revoking.find(program, order).await?.to_string();
                match output {
                    Output::Text => say(found),
                    Output::Json => progress::say(found.trim_end()),
                }
            }
        }
        return Ok(outcome);
    }
    confirm(yes, "Isolate them?").await?;
    let watching = progress::Watching::new();
    let on_progress = |progress: &Progress| watching.show(progress);
    let work = join_all(orders.iter().map(|order| program.isolate(order, &on_progress)));
    let results = tokio::select! {
        results = work => results,
        () = progress::interrupted() => {
            watching.end();
            let (begun, waiting): (Vec<_>, Vec<_>) = orders.iter().partition(|order| order.has_begun());
            if !begun.is_empty() {
                goes_on(begun.iter().map(|order| program.shell.own(&format!("status --stack {}", order.stack))));
            }
            if !waiting.is_empty() {
                progress::tell("CloudFormation may not have been asked for these yet, so they may NOT BE ISOLATED. To ask for them:");
                for order in waiting {
                    let revoke = if revoking.is_some() { " --revoke" } else { "" };
                    progress::say(format_args!("  {}", program.shell.own(&(order.again_by_hand() + revoke))));
                }
            }
            return Ok(Outcome::Failed);
        }
    };
    watching.end();
    let (mut failed, mut open, mut trouble, mut done) = (false, false, None, vec![]);
    for (order, result) in orders.iter().zip(results) {
        if let (Ok(isolated), Output::Text) = (&result, output) {
            say(format!("{isolated}\n"));
        }
        // Whatever is left open, or could not be asked for: what can be denied is denied.
        let revoked = match revoking {
            Some(revoking) => revoking.revoke(program, order, yes, output).await,
            None => None,
        };
        failed |= revoking.is_some() && revoked.as_ref().is_none_or(|revoked| revoked.failed);
        let isolated = match result {
            Ok(isolated) => {
                failed |= isolated.failed;
                open |= isolated.status.is_anything_open();
                Some(isolated)
            }
            // Of several stacks, one that fails is no reason to say nothing of the others, and what was done is not undone by it.
            Err(other) if orders.len() > 1 => {
                progress::complain(&other);
                failed = true;
                open |= matches!(other, Trouble::Open(_));
                None
            }
            Err(other) => {
                trouble = Some(other);
                None
            }
        };
        if isolated.is_some() || revoked.is_some() {
            done.push(revoke::Done { isolated, revoked });
        }
    }
    if output == Output::Json {
        show(output, &"", &done);
    }
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    Ok(match (open, failed) {
        (true, _) => Outcome::Open,
        (false, true) => Outcome::Failed,
        (false, false) => Outcome::Done,
    })
}

/// Until Ctrl-C, or until nobody reads it any more. Shows what has changed.
async fn watch_status(program: &Program, address: &Address, output: Output) -> Result<Outcome, Trouble> {
    let last: RefCell<Option<Status>> = RefCell::default();
    let watch = async {
        loop {
            let look = async {
                let status = program.status(&program.incident(address).await?).await;
                Ok::<_, Trouble>(status)
            };
            match look.await {
                Ok(status) => {
                    if !show_changes(program, last.borrow().as_ref(), &status, output) {
                        return Ok(());
                    }
                    last.replace(Some(status));
                }
                Err(trouble @ Trouble::Refused(_)) => return Err(trouble),
                Err(trouble) => progress::complain(format_args!("{trouble}; looking again")),
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    };
    tokio::select! {
        ended = watch => ended?,
        () = progress::interrupted() => {}
    }
    // What was never seen is not known to be closed.
    Ok(last.into_inner().map_or(Outcome::Failed, |status| Outcome::closed(status.is_anything_open())))
}

/// Whether somebody has read it.
fn show_changes(program: &Program, last: Option<&Status>, status: &Status, output: Output) -> bool {
    // How long it has been in progress changes with every look.
    let timeless = |status: &Status| {
        let mut seen = status.clone();
        seen.summary.busy_seconds = seen.summary.busy_seconds.map(|_| 0);
        seen
    };
    if last.map(timeless) == Some(timeless(status)) {
        return true;
    }
    let now = program.clock.now();
    let changes = last.map(|last| status.changes_since(last)).unwrap_or_default();
    let changes = changes.iter().map(|change| format!("{}\n", wrapped(&format!("{now} {change}"), "  ")));
    shown(output, &format!("{now}\n{}{}\n", changes.collect::<String>(), status.short()), status)
}

async fn program(
    region: Option<String>,
    profile: Option<String>,
    asked: &str,
) -> Result<(Program, Operators), Trouble> {
    let found = config::operator(region, profile.clone()).await;
    let operators = found.map_err(|error| Trouble::Refused(error.to_string()))?;
    let (ports, region) = (operators.ports.clone(), operators.region.clone());
    let caller = sts::caller(&operators.identity).await;
    let (account, caller) = caller.map_err(|error| Trouble::Failed { what: "AWS does not say who you are", error })?;
    let clock = Clock::new(SystemTime::now());
    let program = Operator {
        ports,
        request_id: format!("operator-{}-{}", clock.now(), std::process::id()),
        asked_by: format!("{caller} with ec2-isolation {asked}"),
        site: Site { account, region: region.clone(), caller },
        shell: Shell { region, profile },
        clock,
        gate: Gate::new(LONGEST_RUN),
        pace: Pace::default(),
    };
    Ok((program, operators))
}

pub fn show(output: Output, text: &impl Display, json: &impl Serialize) {
    let _ = shown(output, text, json);
}

/// Whether somebody has read it.
fn shown(output: Output, text: &impl Display, json: &impl Serialize) -> bool {
    match output {
        Output::Text => said(text),
        Output::Json => said(format!("{}\n", serde_json::to_string_pretty(json).unwrap_or_default())),
    }
}

/// On standard output. Its reader may stop reading (`| head`), and what was done is done.
pub fn say(text: impl Display) {
    let _ = said(text);
}

fn said(text: impl Display) -> bool {
    let mut out = std::io::stdout();
    write!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

async fn plan(
    program: &Program,
    address: &Address,
    only: &BTreeSet<InstanceId>,
    output: Output,
) -> Result<Outcome, Trouble> {
    let incident = program.incident(address).await?;
    let preview = program.preview(&incident, only).await?;
    show(output, &preview, &preview);
    Ok(Outcome::done(!preview.is_blocked))
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
) -> Result<Outcome, Trouble> {
    let incident = program.incident(address).await?;
    let preview = program.preview(&incident, only).await?;
    let is_protected = incident.stack.as_ref().is_some_and(|stack| stack.is_protected);
    if let (true, Some(denies)) = (finish, incident.credentials_stack()) {
        progress::tell(format_args!("Stack {denies} is deleted as well: it denies the credentials of the instances."));
    }
    if !preview.held.is_empty() {
        progress::say(preview.to_string().trim_end());
        let question = match (finish, is_protected) {
            (false, _) => "Restore them?",
            (true, false) => "Restore them, and delete the stack?",
            (true, true) => "Restore them, turn the stack's termination protection off, and delete it?",
        };
        confirm(yes, question).await?;
    } else if finish && incident.stack.is_some() {
        let first = if is_protected { "Turn termination protection off, and delete" } else { "Delete" };
        confirm(yes, &format!("Nothing is held isolated. {first} stack {}?", incident.stack_name)).await?;
    } else if let (true, Some(denies)) = (finish, incident.credentials_stack()) {
        confirm(yes, &format!("Nothing is held isolated. Delete stack {denies}?")).await?;
    }
    let watching = progress::Watching::new();
    let on_progress = |progress: &_| watching.show(progress);
    let work = async {
        let report = program.restore(&incident, only, &on_progress).await?;
        watching.end();
        let ended = if finish && !report.failed { Some(program.finish(&incident).await?) } else { None };
        Ok::<_, Trouble>((report, ended))
    };
    let done = tokio::select! {
        done = work => Some(done?),
        () = progress::interrupted() => None,
    };
    let Some((report, ended)) = done else {
        watching.end();
        let ending = if finish { " If CloudFormation has begun to delete the stack, that goes on." } else { "" };
        progress::tell(format_args!(
            "The restore was interrupted. What it has restored stays restored.{ending} To go on, run the same command again."
        ));
        let status = program.status(&program.incident(address).await?).await;
        show(output, &status, &status);
        return Ok(Outcome::Failed);
    };
    if output == Output::Json {
        show(output, &"", &Restored { report: &report, ended: &ended });
    } else {
        say(&report);
        if ended.as_ref().is_none_or(|ended| !ended.is_gone) {
            report.relisted().into_iter().for_each(|line| say(format!("{line}\n")));
        }
        match &ended {
            Some(ended) => say(ended),
            None => report.status.next.iter().for_each(|step| say(format!("\n{step}"))),
        }
    }
    Ok(Outcome::done(!report.failed && ended.is_none_or(|ended| ended.is_gone)))
}

async fn adopt(
    program: &Program,
    from: &Address,
    to: &str,
    only: &BTreeSet<InstanceId>,
    dry_run: bool,
    yes: bool,
    output: Output,
) -> Result<Outcome, Trouble> {
    let handover = program.handover(from, to, only).await?;
    let first = &handover.first;
    let text = handover.to_string();
    if dry_run {
        show(output, &text, &handover.preview());
        return Ok(Outcome::done(first.obstacles.is_empty()));
    }
    progress::say(text.trim_end());
    if !first.is_empty() {
        confirm(yes, "Move them? They stay isolated throughout.").await?;
    } else if !first.obstacles.is_empty() {
        return Err(Trouble::Refused("nothing was changed: none of them can be moved".to_owned()));
    }
    let report = program.adopt(&handover).await?;
    show(output, &report, &report);
    // Of a stack that is gone nothing can be read any more, once another one has its records.
    if output == Output::Text
        && !report.failed
        && let Ok(after) = program.incident(from).await
    {
        let status = program.status(&after).await;
        status.next.iter().for_each(|step| say(format!("\nOLD STACK, {step}")));
    }
    Ok(Outcome::done(!report.failed))
}

/// Asks, if a person is there to answer. Anything but a yes changes nothing, Ctrl-C and Ctrl-D included.
pub async fn confirm(yes: bool, question: &str) -> Result<(), Trouble> {
    if yes {
        return Ok(());
    }
    let refused = |why: &str| Err(Trouble::Refused(format!("nothing was changed: {why}")));
    if !std::io::stdin().is_terminal() {
        return refused("there is no terminal to ask at; give --yes");
    }
    let (told, answer) = tokio::sync::oneshot::channel();
    // Not one of the runtime's, whose end would wait for a line that is never typed.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        told.send(read.map(|_| line))
    });
    let interrupted = progress::interrupted();
    progress::ask(format_args!("{} ", wrapped(&format!("{question} Type yes:"), "  ")));
    let answer = tokio::select! {
        answer = answer => answer.ok().and_then(Result::ok),
        () = interrupted => None,
    };
    match answer.as_deref() {
        Some(line) if matches!(line.trim(), "yes" | "y") => Ok(()),
        Some(line) if line.ends_with('\n') => refused("not confirmed"),
        // The question stands in a line that nobody has ended.
        _ => {
            progress::say("");
            refused("not confirmed")
        }
    }
}
