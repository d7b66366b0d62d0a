//! A report as a document: what stands where, before anything is written in a format. Pure.

use std::collections::BTreeMap;

use super::timeline::Event;
use super::{Enclosed, Report, Snapshot};
use crate::model::comma_list;
use crate::operator::Status;
use crate::operator::text::{count, duration};

/// A piece of the document. Its texts are as they were read: a rendering escapes them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    Title(String),
    Heading(&'static str),
    Text(String),
    List(Vec<String>),
    /// Two columns without a head.
    Facts(Vec<(&'static str, String)>),
    Table {
        head: &'static [&'static str],
        rows: Vec<Vec<String>>,
    },
    Commands(Vec<String>),
}

use Block::{Commands, Facts, Heading, List, Table, Text, Title};

pub(super) fn document(report: &Report) -> Vec<Block> {
    let mut blocks = vec![Title(format!("Incident {}", report.incident)), Facts(facts(report))];
    standing(report, &mut blocks);
    findings(report, &mut blocks);
    containments(report, &mut blocks);
    timeline(report, &mut blocks);
    interfaces(report, &mut blocks);
    snapshots(report, &mut blocks);
    manifest(report, &mut blocks);
    not_cut(report, &mut blocks);
    blocks.push(Heading("What isolation does not cover"));
    blocks.push(List(report.not_covered.iter().map(|text| (*text).to_owned()).collect()));
    next(report, &mut blocks);
    records(report, &mut blocks);
    blocks
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Account", report.account.clone()),
        ("Region", report.region.clone()),
        ("Records table", report.status.table.clone()),
        ("Report made at", format!("{} (all times are in UTC)", report.made_at)),
        ("Report made by", report.made_by.clone()),
        ("Report made with", report.program.clone()),
    ];
    facts.extend(report.stacks.iter().map(|(id, times)| {
        let times =
            [("created", &times.created_at), ("last changed", &times.updated_at), ("deleted", &times.deleted_at)];
        let times = times.into_iter().filter_map(|(what, at)| Some(format!(", {what} {}", at.as_ref()?)));
        ("Stack", format!("{id}{}", times.collect::<String>()))
    }));
    let state = report.status.stack.status.as_deref().unwrap_or("gone");
    facts.push(("State of the stack", state.to_owned()));
    facts.extend(report.status.stack.reason.clone().map(|reason| ("Its reason", reason)));
    facts
}

/// Whether the credentials of the instances are denied.
fn credentials(status: &Status) -> String {
    match (&status.credentials, &status.credentials_unread) {
        (Some(credentials), _) => format!("Credentials: {}", credentials.sentence()),
        (None, Some(error)) => format!("Whether credentials of the instances are denied is not known: {error}"),
        (None, None) => "Credentials of the instances are not denied by a stack of this incident.".to_owned(),
    }
}

fn standing(report: &Report, blocks: &mut Vec<Block>) {
    let status = &report.status;
    blocks.push(Heading("How it stands"));
    blocks.push(Text(status.headline()));
    blocks.push(Text(credentials(status)));
    if !status.not_isolated.is_empty() {
        let rows = status
            .not_isolated
            .iter()
            .map(|open| vec![open.instance.clone(), some(&open.name), some(&open.interface), open.reason.clone()]);
        blocks.push(Table { head: &["Not isolated", "Name", "Interface", "Why"], rows: rows.collect() });
    }
    let rows = status.instances.iter().map(|instance| {
        let condition = instance.condition.map(|condition| condition.as_str().to_lowercase());
        let record = instance.record_state.unwrap_or("none").to_owned();
        vec![instance.id.clone(), some(&instance.name), some(&condition), instance.instance_state.clone(), record]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        blocks.push(Text("The table holds no record of an instance.".to_owned()));
    } else {
        blocks.push(Table { head: &["Instance", "Name", "As EC2 shows it", "EC2's state", "Record"], rows });
    }
    // What several instances are warned of is said once.
    let mut warnings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for instance in &status.instances {
        instance.warnings.iter().for_each(|warning| warnings.entry(warning).or_default().push(&instance.id));
    }
    let failed = status.stack.failed.iter().map(|(resource, reason)| format!("{resource} failed: {reason}"));
    let unreadable = status.unreadable.iter().map(|(key, why)| format!("The item {key} cannot be read: {why}"));
    let warnings = warnings.into_iter().map(|(warning, of)| match of.iter().any(|id| warning.contains(id)) {
        true => warning.to_owned(),
        false => format!("{}: {warning}", comma_list(of)),
    });
    let targets = status.target_groups_unread.as_ref();
    let targets = targets.map(|why| format!("Whether a target group lists an instance is not known: {why}"));
    let warnings: Vec<String> = failed.chain(unreadable).chain(warnings).chain(targets).collect();
    if !warnings.is_empty() {
        blocks.push(List(warnings));
    }
}

/// What the trigger isolated for.
fn findings(report: &Report, blocks: &mut Vec<Block>) {
    if report.findings.is_empty() {
        return;
    }
    blocks.push(Heading("Findings"));
    blocks.push(Text("The trigger isolated instances of this incident because of these findings.".to_owned()));
    let rows = report.findings.iter().map(|found| {
        let about = found.about.clone().unwrap_or_else(|| "The records table does not say".to_owned());
        // Where the question is not known, neither is who answered it.
        let no_answer = if found.about.is_some() { "no approval was asked for" } else { "not known" };
        let by = found.answered_by.clone().unwrap_or_else(|| no_answer.to_owned());
        vec![found.id.clone(), about, by, comma_list(&found.instances)]
    });
    blocks.push(Table { head: &["Id", "What it says", "Approved by", "Instances"], rows: rows.collect() });
}

fn containments(report: &Report, blocks: &mut Vec<Block>) {
    if report.containments.is_empty() {
        return;
    }
    blocks.push(Heading("Times of containment"));
    blocks.push(Text(
        "Recorded: the function had written down what the instance had, and went on to isolate it. Isolated: every interface was read \
         back from EC2 in the isolation group."
            .to_owned(),
    ));
    let rows = report.containments.iter().map(|found| {
        let (recorded, took) = (found.recorded_at.clone(), found.seconds.map(duration));
        vec![
            found.instance.clone(),
            some(&found.name),
            recorded,
            some(&found.isolated_at),
            some(&took),
            some(&found.restored_at),
        ]
    });
    let head = &["Instance", "Name", "Recorded", "Isolated", "Took", "Restored"];
    blocks.push(Table { head, rows: rows.collect() });
}

fn timeline(report: &Report, blocks: &mut Vec<Block>) {
    blocks.push(Heading("Timeline"));
    blocks.push(List(report.sources.iter().map(|source| source.said.clone()).collect()));
    let rows: Vec<_> = grouped(&report.timeline).into_iter().map(row).collect();
    if rows.is_empty() {
        blocks.push(Text("Nothing is known of it.".to_owned()));
    } else {
        blocks.push(Table { head: &["When", "What", "Of", "Who", "Known from"], rows });
    }
}

/// What one asked for of several instances at one moment is one line of the page.
fn grouped(events: &[Event]) -> Vec<Vec<&Event>> {
    let mut groups: Vec<Vec<&Event>> = Vec::new();
    for event in events {
        let is_alike = |first: &&Event| {
            (&first.at, &first.who, first.source) == (&event.at, &event.who, event.source) && head(first) == head(event)
        };
        let recent =
            groups.iter_mut().rev().take_while(|group| group.first().is_some_and(|first| first.at == event.at));
        match recent.into_iter().find(|group| group.first().is_some_and(is_alike)) {
            Some(group) => group.push(event),
            None => groups.push(vec![event]),
        }
    }
    groups
}

/// `isolated, passed the transit group` of that with its reason, `recorded` of that with every interface.
fn head(event: &Event) -> &str {
    event.what.split(": ").next().unwrap_or(&event.what)
}

fn row(group: Vec<&Event>) -> Vec<String> {
    let Some(first) = group.first() else { return vec![] };
    let what = if group.len() == 1 { first.what.clone() } else { head(first).to_owned() };
    let of = match group.len() {
        1 => first.about.clone(),
        number => format!("{number}: {}", comma_list(group.iter().map(|event| &event.about))),
    };
    let from = first.address.as_ref().map(|address| format!(" from {address}")).unwrap_or_default();
    vec![first.at.clone(), what, of, format!("{}{from}", first.who), first.source.to_owned()]
}

fn interfaces(report: &Report, blocks: &mut Vec<Block>) {
    let of = report
        .status
        .instances
        .iter()
        .flat_map(|instance| instance.interfaces.iter().map(move |found| (instance, found)));
    let rows = of.map(|(instance, found)| {
        let (before, now) = (found.before.join(", "), found.now.join(", "));
        vec![instance.id.clone(), found.id.clone(), text(before), text(now), found.condition.to_owned()]
    });
    let strays = report.status.without_record.iter().map(|stray| {
        let tagged =
            if stray.tagged.is_empty() { String::new() } else { format!("its tags say {}", stray.tagged.join(", ")) };
        let now = stray.now.join(", ");
        vec![some(&stray.instance), stray.interface.clone(), text(tagged), text(now), "without a record".to_owned()]
    });
    let rows: Vec<_> = rows.chain(strays).collect();
    if !rows.is_empty() {
        blocks.push(Heading("Interfaces before and now"));
        blocks.push(Table { head: &["Instance", "Interface", "Groups before", "Groups now", "It is"], rows });
    }
}

fn snapshots(report: &Report, blocks: &mut Vec<Block>) {
    blocks.push(Heading("Snapshots"));
    if report.snapshots.is_empty() {
        blocks.push(Text("No snapshot of this incident is known.".to_owned()));
        return;
    }
    let gib: u64 = report.snapshots.iter().filter_map(|snapshot| snapshot.gib).sum();
    let of = count(report.snapshots.len(), "snapshot");
    blocks.push(Text(format!(
        "{of}, of volumes of {gib} GiB in all. EC2 does not say how much of that a snapshot takes."
    )));
    let rows = report.snapshots.iter().map(|snapshot| {
        let gib = snapshot.gib.map(|gib| gib.to_string());
        let lock = snapshot.lock.clone().unwrap_or_else(|| "not known".to_owned());
        let state = snapshot.state.clone().unwrap_or_else(|| "EC2 does not show it".to_owned());
        let volume = snapshot.copy_of.as_ref().map(|source| format!("copy of {source}"));
        let (volume, instance) = (some(&volume.or_else(|| snapshot.volume.clone())), some(&snapshot.instance));
        vec![snapshot.id.clone(), volume, instance, some(&gib), state, key(snapshot), lock, some(&snapshot.started_at)]
    });
    let head = &["Snapshot", "Volume", "Instance", "GiB", "State", "Key", "Locked", "Started"];
    blocks.push(Table { head, rows: rows.collect() });
}

/// What was in the snapshots when a person read them.
fn manifest(report: &Report, blocks: &mut Vec<Block>) {
    let Some(Enclosed { sha256, manifest }) = &report.manifest else { return };
    blocks.push(Heading("What is in the snapshots"));
    blocks.push(Text(format!(
        "From the manifest of {} to {}, made by {} with {}. The SHA-256 of its lines is {sha256}. Each digest is that of the image of the whole \
         volume: blocks that were never written are zeros. sha256sum of a volume that is made of the snapshot says the same.",
        manifest.begun_at, manifest.ended_at, manifest.made_by, manifest.program
    )));
    let rows = manifest.snapshots.iter().map(|held| {
        let digest = held.digest.as_ref();
        let value = digest.map(|digest| digest.value.clone()).or_else(|| held.why.clone());
        let bytes = digest.map(|digest| digest.bytes.to_string());
        let read_at = digest.map(|digest| digest.ended_at.clone());
        vec![held.snapshot.clone(), held.volume.clone(), some(&value), some(&bytes), some(&held.lock), some(&read_at)]
    });
    let head = &["Snapshot", "Volume", "SHA-256", "Bytes", "Lock then", "Read"];
    blocks.push(Table { head, rows: rows.collect() });
    if !manifest.said.is_empty() {
        blocks.push(List(manifest.said.clone()));
    }
}

fn key(snapshot: &Snapshot) -> String {
    match (snapshot.is_encrypted, &snapshot.key) {
        (_, Some(key)) => key.clone(),
        (Some(true), None) => "encrypted".to_owned(),
        (Some(false), None) => "not encrypted".to_owned(),
        (None, None) => "not known".to_owned(),
    }
}

fn not_cut(report: &Report, blocks: &mut Vec<Block>) {
    blocks.push(Heading("What was not cut"));
    if report.not_cut.is_empty() {
        let text = "Of what is isolated, connections that were open before were cut as far as EC2 allows.";
        blocks.push(Text(text.to_owned()));
        return;
    }
    blocks.push(Text("Connections that were open before the isolation may be open still:".to_owned()));
    let rows = report
        .not_cut
        .iter()
        .map(|left| vec![left.instance.clone(), some(&left.name), text(left.interfaces.join(", "))]);
    blocks.push(Table { head: &["Instance", "Name", "Interfaces"], rows: rows.collect() });
}

fn next(report: &Report, blocks: &mut Vec<Block>) {
    blocks.push(Heading("Next steps"));
    if report.status.next.is_empty() {
        blocks.push(Text("Nothing is left to do.".to_owned()));
    }
    for step in &report.status.next {
        blocks.push(Text(step.what.clone()));
        if !step.commands.is_empty() {
            blocks.push(Commands(step.commands.clone()));
        }
    }
}

fn records(report: &Report, blocks: &mut Vec<Block>) {
    blocks.push(Heading("The records as they were read"));
    if report.records.is_empty() {
        blocks.push(Text("There is none.".to_owned()));
        return;
    }
    blocks.push(Text(
        "SHA-256 of each item of the records table: of its JSON as DynamoDB writes it, on one line without blanks, with keys and the members \
         of sets in their order."
            .to_owned(),
    ));
    let rows = report.records.iter().map(|(key, digest)| vec![key.clone(), digest.clone()]);
    blocks.push(Table { head: &["Item", "SHA-256"], rows: rows.collect() });
}

fn some(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".to_owned())
}

fn text(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
