//! The page that is checked in. What was tried is told in tried.md, which goes in as it stands. scripts/draw.py draws the plot from the page.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::keystroke::Keystroke;
use crate::tool::Tool;
use crate::{Act, Bar, PYTHON, Program, Row, latency, ms};

const TRIED: &str = include_str!("tried.md");

/// What the page is made of.
#[derive(Debug)]
pub struct Measured<'a> {
    pub rows: &'a [Row],
    pub keystrokes: &'a [Keystroke],
    pub bars: &'a [Bar],
    pub tools: &'a [Tool],
    pub skipped: &'a [String],
    /// Of the function, in MiB.
    pub zipped: f64,
}

pub fn write(directory: &Path, measured: &Measured<'_>) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("measurements.md"), page(measured))?;
    let status = Command::new(PYTHON).args(["scripts/draw.py", "measurements"]).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("scripts/draw.py ended with {status}"))) }
}

fn page(measured: &Measured<'_>) -> String {
    let Measured { rows, keystrokes, bars, tools, skipped, zipped } = *measured;
    let mut page = format!(
        "<!-- Written by `make bench PAGE=1`: edit benches/page.rs and benches/tried.md. -->\n\
         # Measured\n\n\
         How long it takes from a cold start until instances are contained, next to the time that cannot be undercut, and next \
         to what is usually done instead. One command measures it again: `make bench`.\n\n\
         ![Time from process start until all instances are contained](measurements.svg)\n\n\
         ## How\n\n\
         The built function is started cold, as Lambda starts it, against a double of AWS on this machine that answers every \
         call after {} ms over plain HTTP. Lambda's own share of a cold start, TLS and AWS's real latencies are not in these \
         figures; they are the same for all programs. Figures are medians of up to {} runs, rounds interleaved.\n\n\
         - *init*: from the start of the process until it asks for its first event. All other times count from then on.\n\
         - *first*, *last*: the first and the last interface is in the isolation group (on a restore: has its own groups back).\n\
         - *settled*: the last one is there for good. Where connections are cut in a fleet of more than 20 interfaces, all are \
         isolated first and pass through the transit group later, so this is later than *last*. Interfaces are held there for \
         1 s here; the template's default is 5 s.\n\
         - *bound*: what *settled* cannot undercut: the calls that have to follow each other (look, record, swap), with so many \
         changes of groups at once as the function allows itself (20), times the latency; or what EC2's token bucket lets through. The \
         function changes groups as fast as EC2 takes it, but enters the transit group at the bucket's pace (100 calls, then 5 a \
         second), so where it cuts, that is its bound in a large fleet whether the other side has a bucket or not.\n\
         - *no snapshots*: the function takes snapshots once all are isolated, at the pace of EC2's bucket. In these rows it is \
         asked for none: that would be a minute more, after what they are for. For one instance, it shows what containment \
         alone takes.\n\
         - *buckets*: EC2's token buckets are on, in real time, nothing scaled; one run each.\n\
         - *CPU*: what the program used of a processor until its answer. Lambda gives it some 29 % of one at 512 MB.\n\
         - *Python*: the usual walk-through on boto3, [benches/alternative.py](../benches/alternative.py), one instance after the \
         other; nothing is verified, read again or cut. Where it had a choice it got the faster one.\n\
         - *refused*: calls for which EC2's bucket had nothing left, repeated ones included.\n\n\
         ## Bars\n\n\
         | what | measured | at most | |\n|---|--:|--:|---|\n",
        latency().as_millis(),
        rows.iter().map(|row| row.repetitions).max().unwrap_or_default(),
    );
    for bar in bars {
        let verdict = if bar.is_met() { "met" } else { "**missed**" };
        let _ = writeln!(page, "| {} | {:.2} | {:.2} | {verdict} |", bar.what, bar.value, bar.at_most);
    }
    let _ = write!(
        page,
        "\nThe function zips to {zipped:.2} MiB.\n\n## Rows\n\n\
         | | init | first | last | settled | bound | ratio | answer | calls | refused | peak MiB | CPU |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    let is_tool = |row: &&Row| tools.iter().any(|tool| tool.program == row.case.program);
    for row in rows.iter().filter(|row| !is_tool(row)) {
        let run = &row.run;
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {:.2} | {} | {} | {} | {:.1} | {} |",
            row.name().replace("   ", " ").replace("  ", " "),
            ms(run.init),
            ms(run.first),
            ms(run.last),
            ms(run.settled),
            ms(row.bound),
            row.ratio(),
            ms(run.answer),
            run.calls.values().sum::<u32>(),
            run.refused,
            run.peak_kib as f64 / 1024.0,
            ms(run.cpu),
        );
    }
    page.push_str(&waits(rows));
    page.push_str(&public_tools(rows, tools, skipped));
    page.push_str(&from_the_keystroke(keystrokes));
    page.push_str("\n## Calls\n\n| | calls, by action | the bound is |\n|---|---|---|\n");
    for row in rows {
        let calls: Vec<String> = row.run.calls.iter().map(|(action, count)| format!("{action} {count}")).collect();
        let name = row.name().replace("   ", " ").replace("  ", " ");
        let _ = writeln!(page, "| {name} | {} | {} |", calls.join(", "), row.made_of);
    }
    page.push('\n');
    page.push_str(TRIED);
    page
}

/// What follows the containment of each instance.
fn waits(rows: &[Row]) -> String {
    let mut section = "\n## From containment to evidence\n\n\
        The time from an instance's own containment to the answer of the first call that takes snapshots of it, and of the first \
        one that protects it: of the instance that is the first to get it, and the longest of all. Everything is on. \
        The function keeps these calls to EC2's usual buckets whether the other side has them or not, so in a large fleet the last \
        instance waits for tokens in either case; one run each of a fleet.\n\n\
        | | first snapshot | longest | first protection | longest |\n|---|--:|--:|--:|--:|\n"
        .to_owned();
    for row in rows {
        if let (Some(snapshot), Some(protection)) = (row.run.snapshot, row.run.protection) {
            let _ = writeln!(
                section,
                "| {} | {} | {} | {} | {} |",
                row.name().replace("   ", " ").replace("  ", " "),
                ms(snapshot.first),
                ms(snapshot.most),
                ms(protection.first),
                ms(protection.most),
            );
        }
    }
    section
}

/// What a responder waits for.
fn from_the_keystroke(keystrokes: &[Keystroke]) -> String {
    let mut section = "\n## From the keystroke to containment\n\n\
        One instance with two groups, by its id, on the local AWS of the tests: `ec2-isolation isolate` makes the incident's stack beside a \
        prepared responder, whose function isolates; the public tools change the instance's groups themselves. *contained*: from the start of the program until \
        EC2 shows every interface in one isolation group, and not in the open group that connections are cut by (5 s, the template's \
        default). How long CloudFormation takes on AWS, and AWS's latencies, are not in these figures.\n\n\
        | | contained | ended |\n|---|--:|--:|\n"
        .to_owned();
    for Keystroke { name, contained, ended } in keystrokes {
        let _ = writeln!(section, "| {name} | {} | {} |", ms(*contained), ms(*ended));
    }
    section
}

/// The programs that did the same fleets, all of them from the start of the process.
fn public_tools(rows: &[Row], tools: &[Tool], skipped: &[String]) -> String {
    let mut section = "\n## Public tools\n\n\
        Command-line programs that isolate instances, measured where they are installed: on the `PATH`, or where `CUSTODIAN` and \
        `DREDGE` say. They have no init of their own, so every time here counts from the start of the process, for the function \
        and the Python program as well; *end* is the answer, or the end of the process. Every instance has one interface \
        with two groups; no buckets; isolate only.\n\n\
        - `c7n` (Cloud Custodian): one policy for all instances, by their ids, `modify-security-groups` with an isolation group \
        that is there. The groups to remove are listed one by one: with `remove: all` an interface of two groups keeps the second \
        and is not isolated. It changes each interface, lists the instances with their groups in a file, and takes no snapshot; \
        its cache is off.\n\
        - `dredge-ir`: `aws response isolate-ec2` with all ids and the VPC, which saves it a look at each. It makes an isolation \
        group of its own, takes the rule that lets everything out by IPv4 from it (in a VPC with IPv6 there is another one, \
        which stays), and sets it on the instance, which EC2 refuses where there are several interfaces. It prints the groups that there were, and takes no snapshot.\n\n\
        Neither cuts connections, and neither looks again. The function and the Python program also write records, take snapshots and tag.\n\n"
        .to_owned();
    for tool in tools {
        let _ = writeln!(section, "Measured: `{}` {}.\n", tool.program.name(), tool.version);
    }
    for reason in skipped {
        let _ = writeln!(section, "Not measured: {reason}.\n");
    }
    section.push_str(
        "| isolate | first | last | times ours | end | calls | peak MiB | CPU |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let is_like_them = |row: &&Row| {
        let case = &row.case;
        row.act == Act::Isolate
            && case.interfaces == 1
            && case.snapshots()
            && !(case.everything || case.tls || case.throttled)
    };
    let mut rows: Vec<&Row> = rows.iter().filter(is_like_them).collect();
    rows.sort_by_key(|row| (row.case.instances, row.case.program));
    let last = |row: &Row| row.run.init + row.run.last;
    for row in &rows {
        let run = &row.run;
        let ours =
            rows.iter().find(|other| other.case.instances == row.case.instances && other.case.program == Program::Ours);
        let times = ours.map_or(1.0, |ours| last(row).as_secs_f64() / last(ours).as_secs_f64());
        let _ = writeln!(
            section,
            "| {}: {} | {} | {} | {times:.1} | {} | {} | {:.1} | {} |",
            row.case.program.name(),
            row.case.instances,
            ms(run.init + run.first),
            ms(last(row)),
            ms(run.init + run.answer),
            run.calls.values().sum::<u32>(),
            run.peak_kib as f64 / 1024.0,
            ms(run.cpu),
        );
    }
    section
}
