//! The page that is checked in. tried.md tells what was tried, and goes in as it stands. scripts/draw.py draws the plot from the page.

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
         This page says how long it takes from a cold start until instances are isolated. Beside it stand the least \
         time that is possible, and what is usually done instead. To measure it again, run `make bench`.\n\n\
         ![Time until all instances are isolated](measurements.svg)\n\n\
         The picture is drawn from the tables below. Each of its parts has a linear scale of its own.\n\n\
         ## How\n\n\
         The bench starts the built function cold, as Lambda does. A double of AWS on this machine answers every call \
         after {} ms over plain HTTP. Lambda's own share of a cold start, TLS and AWS's real latencies are not in these \
         figures. They are alike for all programs. The figures are medians of up to {} runs. In each round every \
         program runs once.\n\n\
         - *init* is the time from the start of the process until it asks for its first event. All other times count \
         from then on.\n\
         - *first* and *last* say when the first and the last interface is in the isolation group. On a restore they \
         say when it has its own groups back.\n\
         - *settled* says when the last interface no longer moves. In the rows with *cut*, each interface passes the \
         transit group, which holds it for 1 s here and for 5 s by default. If there are more than 20 interfaces, the \
         function isolates all of them first, and they pass later. So *settled* is later than *last* there.\n\
         - *bound* is the time that *settled* cannot undercut. It is the longer one of two times. The first is the \
         latency, times the calls that have to follow each other: look, record, swap. The function changes at most 20 \
         interfaces at once. The second is the time for which EC2's token bucket makes the calls wait.\n\
         - The function changes groups as fast as EC2 takes it. It enters the transit group at the bucket's pace, which \
         is 100 calls and then 5 a second. So this pace is the bound of a large fleet with *cut*, even if EC2 has no \
         bucket.\n\
         - *no snapshots*: the function takes no snapshots in these rows. They show what the isolation alone takes. \
         Snapshots of a large fleet take a minute more, at the pace of EC2's bucket.\n\
         - *buckets*: EC2's token buckets are on, in real time. These fleets ran once.\n\
         - *CPU* is the processor time that the program used until its answer. Lambda gives it some 29 % of a processor \
         at 512 MB.\n\
         - *Python* is the usual walk-through on boto3, [benches/alternative.py](../benches/alternative.py). It takes \
         one instance after the other. It verifies nothing, reads nothing again, and does not use a transit group. If \
         there was a choice, it got the faster way.\n\
         - *refused* counts the calls for which EC2's bucket had no token left, with their repetitions.\n\n\
         ## Bars\n\n\
         | what | measured | at most | |\n\
         |---|--:|--:|---|\n",
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
    let mut section = "\n\
        ## From containment to evidence\n\n\
        The times count from an instance's own containment. They end with the answer to the first call that takes \
        snapshots of it, or that protects it. The table shows the time of the instance that gets it first, and the \
        longest time of all. All options are on. The function keeps these calls to EC2's usual buckets, even if the \
        other side has none. So the last instance of a large fleet waits for tokens. Each fleet ran once.\n\n\
        | | first snapshot | longest | first protection | longest |\n\
        |---|--:|--:|--:|--:|\n"
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
    let mut section = "\n\
        ## From the keystroke to containment\n\n\
        These programs isolate one instance with two groups, by its id, on the local AWS of the tests. `ec2-isolation \
        isolate` makes the incident's stack beside a prepared responder, and the responder's function isolates. The \
        public tools change the instance's groups themselves. *contained* is the time from the start of the program \
        until EC2 shows every interface in one isolation group. The transit group, which holds an interface for 5 s by \
        default, does not count. The time that CloudFormation takes on AWS, and AWS's latencies, are not in these \
        figures.\n\n\
        | | contained | ended |\n\
        |---|--:|--:|\n"
        .to_owned();
    for Keystroke { name, contained, ended } in keystrokes {
        let _ = writeln!(section, "| {name} | {} | {} |", ms(*contained), ms(*ended));
    }
    section
}

/// The programs that did the same fleets, all of them from the start of the process.
fn public_tools(rows: &[Row], tools: &[Tool], skipped: &[String]) -> String {
    let mut section = "\n\
        ## Public tools\n\n\
        These command-line programs isolate instances. The bench measures them if they are installed on the `PATH`, or \
        if `CUSTODIAN` and `DREDGE` name them. They have no init of their own. So every time here counts from the \
        start of the process, for the function and the Python program too. *end* is the answer, or the end of the \
        process. Every instance has one interface with two groups, and EC2 has no buckets.\n\n\
        - `c7n` (Cloud Custodian) runs one policy for all instances, by their ids. It uses `modify-security-groups` \
        with an isolation group that is there. The policy lists the groups to remove one by one. With `remove: all`, \
        an interface of two groups keeps the second and is not isolated. It changes each interface, and lists the \
        instances with their groups in a file. It takes no snapshot, and its cache is off.\n\
        - `dredge-ir` runs `aws response isolate-ec2` with all ids and the VPC, which saves it a look at each \
        instance. It makes an isolation group of its own, and takes the rule from it that lets everything out by IPv4. \
        A VPC with IPv6 has another such rule, which stays. Then the program sets the group on the instance, which EC2 \
        refuses if there are several interfaces. It prints the groups that there were, and takes no snapshot.\n\n\
        Neither of them uses a transit group, and neither looks again. The function and the Python program also write \
        records, take snapshots and tag.\n\n"
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
