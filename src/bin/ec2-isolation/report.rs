//! `report`: where the case file is written.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use ec2_isolation::operator::aws::balancing::Balancing;
use ec2_isolation::operator::aws::cloudtrail::CloudTrail;
use ec2_isolation::operator::{Address, Format, Manifest, Trouble};

use crate::args::{self, Output};
use crate::commands::{Outcome, Program, say};
use crate::progress;

/// What `--format` says, else what `--output` does.
pub fn format(format: Option<args::Format>, output: Output) -> Format {
    match (format, output) {
        (Some(args::Format::Md), _) | (None, Output::Text) => Format::Markdown,
        (Some(args::Format::Html), _) => Format::Html,
        (Some(args::Format::Json), _) | (None, Output::Json) => Format::Json,
    }
}

pub async fn report(
    program: &Program,
    trail: &CloudTrail,
    balancing: &Balancing,
    address: &Address,
    manifest: Option<(Manifest, String)>,
    format: Format,
    to: Option<&Path>,
) -> Result<Outcome, Trouble> {
    let incident = program.incident(address).await?;
    progress::tell("Reading the incident, and CloudTrail, which allows two calls a second: at most half a minute.");
    let mut report = program.report(&incident, trail, manifest).await?;
    program.name_target_groups(&incident, &mut report.status, balancing).await;
    let name = to.map(|to| to.to_string_lossy().into_owned()).unwrap_or_else(|| {
        match format {
            Format::Markdown => "report.md",
            Format::Html => "report.html",
            Format::Json => "report.json",
        }
        .to_owned()
    });
    let text = report.render(format, &name);
    match to {
        None => say(text),
        Some(to) => {
            write(to, &text)?;
            progress::say(format_args!("written: {name}"));
        }
    }
    Ok(Outcome::closed(report.status.is_anything_open()))
}

/// A manifest, with its digest.
pub fn manifest(file: &Path) -> Result<(Manifest, String), Trouble> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file);
    let text =
        text.map_err(|error| Trouble::Refused(format!("nothing was changed: {name} cannot be read: {error}")))?;
    Manifest::read(&text, &name)
}

/// Whether it may be written.
pub fn check_new(to: &Path) -> Result<(), Trouble> {
    match to.exists() {
        true => Err(Trouble::Refused(is_there(to))),
        false => Ok(()),
    }
}

fn is_there(to: &Path) -> String {
    format!("nothing was changed: {} is there already: give --to another name", to.display())
}

/// Never over a file that is there: it may be an earlier report.
pub fn write(to: &Path, text: &str) -> Result<(), Trouble> {
    let file = OpenOptions::new().write(true).create_new(true).open(to);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let name = to.display();
        Trouble::Refused(match error.kind() {
            ErrorKind::AlreadyExists => is_there(to),
            _ => format!("the report cannot be written to {name}: {error}"),
        })
    })
}
