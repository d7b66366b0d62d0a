//! `make bench`: seconds to contain, cost of a start, calls made; each next to its lower bound, to a Python program, and to
//! public tools where they are installed.
//!
//! Exits non-zero where a run did not do its work. What is measured is checked against the bars at the end, and said; a noisy
//! machine fails nothing. Writes target/bench/report.json; with PAGE=1 also docs/measurements.md and its plot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A bench that cannot go on stops.
#![allow(clippy::print_stdout)] // Its output is what it is for.

#[path = "../tests/stack/beside.rs"]
#[allow(dead_code)] // The stack tests use the rest of these modules.
mod beside;
#[path = "../tests/stack/cloud.rs"]
#[allow(dead_code)]
mod cloud;
#[path = "../tests/stack/fleet.rs"]
#[allow(dead_code)]
mod fleet;
#[path = "../tests/stack/incident.rs"]
#[allow(dead_code)]
mod incident;
mod keystroke;
mod lambda;
mod page;
mod tls;
mod tool;
mod wire;
mod world;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use lambda::{Run, Wait};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tool::Tool;
use world::{FORENSIC, Groups, ISOLATION, STACK, TRANSIT, VPC, World};

const BOOTSTRAP: &str = ".aws-sam/build/IsolationFunction/bootstrap";
const ALTERNATIVE: &str = "benches/alternative.py";
/// Set by the Makefile: the interpreter with boto3 beside it.
const PYTHON: &str = "target/venv/bench/bin/python";
const DIRECTORY: &str = "target/bench";
const LOG: &str = "target/bench/programs.log";
/// Of every case; of those that take seconds; the throttled ones take minutes, hardly vary and run once.
const REPETITIONS: usize = 7;
const FEW: usize = 3;
/// Those that run side by side begin so long after each other: each is alone with the processor while it is busiest.
const APART: Duration = Duration::from_secs(6);
/// What the function holds an interface in the transit group for here. The template's default is 5.
const HOLD: Duration = Duration::from_secs(1);
/// Changes of groups that the function has under way at once, beside 40 other calls (src/execute/mod.rs).
const AT_ONCE: usize = 20;
/// EC2's bucket for `ModifyNetworkInterfaceAttribute`: at the start, and each second.
const BUCKET: (usize, f64) = (100, 5.0);
/// The same for `ModifyInstanceAttribute`, which the alternative uses for lone interfaces.
const INSTANCE_BUCKET: (usize, f64) = (50, 5.0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Ours,
    Python,
    /// Public tools, where they are installed.
    Custodian,
    Dredge,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ec2-isolation",
            Self::Python => "Python",
            Self::Custodian => "c7n",
            Self::Dredge => "dredge-ir",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Isolate,
    IsolateAndCut,
    Restore,
}

/// A fleet, and what is done to it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub program: Program,
    pub instances: usize,
    /// Each.
    pub interfaces: usize,
    pub cut: bool,
    /// Tags belong to every case; protections only here.
    pub everything: bool,
    /// Without snapshots, too: what containment alone takes.
    pub bare: bool,
    /// EC2's token buckets are on, in real time.
    pub throttled: bool,
    /// Connections are those of AWS.
    pub tls: bool,
}

impl Case {
    fn new(program: Program, instances: usize, interfaces: usize, cut: bool) -> Self {
        Self { program, instances, interfaces, cut, everything: false, bare: false, throttled: false, tls: false }
    }

    /// Without EC2's buckets a large fleet is all contained in a second. The function would then take its snapshots at the pace
    /// of EC2's bucket, a minute that shows nothing about that second.
    pub fn snapshots(&self) -> bool {
        !self.bare && (self.throttled || self.everything || self.instances <= BUCKET.0)
    }

    /// A fleet with everything on is measured for how long its instances wait for what follows containment.
    pub fn is_for_waits(&self) -> bool {
        self.everything && self.instances > 1
    }
}

/// What a case came to: medians of its runs.
#[derive(Debug, Clone)]
pub struct Row {
    pub case: Case,
    pub act: Act,
    pub run: Run,
    pub repetitions: usize,
    /// Until the last interface is where it is to be, for good; what it is made of.
    pub bound: Duration,
    pub made_of: String,
}

impl Row {
    pub fn ratio(&self) -> f64 {
        self.run.settled.as_secs_f64() / self.bound.as_secs_f64()
    }

    pub fn name(&self) -> String {
        let Case { program, instances, interfaces, everything, throttled, tls, .. } = self.case;
        let program = program.name();
        let act = match self.act {
            Act::Isolate => "isolate",
            Act::IsolateAndCut => "isolate, cut",
            Act::Restore if self.case.cut => "restore, cut",
            Act::Restore => "restore",
        };
        let fleet = if interfaces == 1 { format!("{instances}") } else { format!("{instances} x {interfaces}") };
        let all = if everything { ", all options" } else { "" };
        let bare = if self.case.snapshots() { "" } else { ", no snapshots" };
        let buckets = if throttled { ", buckets" } else { "" };
        let tls = if tls { ", TLS" } else { "" };
        format!("{program:<13} {act}{all}{bare}{tls}{buckets}: {fleet}")
    }
}

fn latency() -> Duration {
    Duration::from_millis(
        std::env::var("LATENCY_MS").ok().map_or(20, |text| text.parse().expect("LATENCY_MS is a number")),
    )
}

/// The sequential calls that no order of doing it safely can do without, times what a call takes; or what EC2's bucket gives.
fn bound(case: &Case, act: Act) -> (Duration, String) {
    let trips = |count: usize| latency() * u32::try_from(count).expect("few");
    let (cards, interface_waves) =
        (case.instances * case.interfaces, (case.instances * case.interfaces).div_ceil(AT_ONCE));
    let ((size, rate), swaps) = match (case.program, act) {
        (Program::Python, _) if case.interfaces == 1 => (INSTANCE_BUCKET, cards),
        (Program::Ours, Act::IsolateAndCut) if cards <= AT_ONCE => (BUCKET, 2 * cards),
        (Program::Ours, Act::IsolateAndCut) if case.throttled => (BUCKET, 3 * cards),
        // Nobody refuses anything, so only those who enter wait for a token; what went before has taken the first ones.
        (Program::Ours, Act::IsolateAndCut) => (BUCKET, cards.min(BUCKET.0) + cards),
        _ => (BUCKET, cards),
    };
    let (trips, made_of) = match (case.program, act) {
        (Program::Python, Act::Isolate | Act::IsolateAndCut) => {
            let calls = case.instances * (2 + case.interfaces);
            (trips(calls), format!("{calls} calls, one after the other"))
        }
        (Program::Python, Act::Restore) => {
            let calls = case.instances * (1 + case.interfaces) + case.instances.saturating_sub(1);
            (trips(calls), format!("{calls} calls, one after the other"))
        }
        // Look, then swap.
        (Program::Custodian, _) => (trips(1 + cards), format!("{} calls, one after the other", 1 + cards)),
        // Look, find no group, make one, empty it, then swap.
        (Program::Dredge, _) => (trips(4 + cards), format!("{} calls, one after the other", 4 + cards)),
        // Look, record, then swap; so many interfaces at once.
        (Program::Ours, Act::Isolate) => (trips(2 + interface_waves), format!("{} round trips", 2 + interface_waves)),
        // Look, record, enter, leave.
        (Program::Ours, Act::IsolateAndCut) if cards <= AT_ONCE => {
            (trips(4) + HOLD, format!("4 round trips, {} s hold", HOLD.as_secs()))
        }
        // All directly, a look, then in waves.
        (Program::Ours, Act::IsolateAndCut) => {
            let (count, hold) = (3 + 3 * interface_waves, HOLD * u32::try_from(interface_waves).unwrap());
            (trips(count) + hold, format!("{count} round trips, {interface_waves} holds"))
        }
        // Status of the stack, intent, look, mark, then swap.
        (Program::Ours, Act::Restore) => (trips(4 + interface_waves), format!("{} round trips", 4 + interface_waves)),
    };
    let refill = Duration::from_secs_f64(swaps.saturating_sub(size) as f64 / rate);
    // The function enters the transit group at the bucket's pace, whether the other side has one or not.
    let is_paced = case.throttled || (case.program, act) == (Program::Ours, Act::IsolateAndCut);
    if is_paced && refill > trips { (refill, format!("({swaps} - {size}) / {rate} s")) } else { (trips, made_of) }
}

fn properties(case: &Case, world: &World) -> Value {
    let flag = |on: bool| if on { "true" } else { "false" };
    json!({
        "ServiceToken": "arn:aws:lambda:us-east-1:123456789012:function:isolation",
        "ServiceTimeout": "3000",
        "InstanceIds": world.instances.keys().collect::<Vec<_>>(),
        "VpcId": VPC,
        "IsolatedSecurityGroupId": ISOLATION,
        "ForensicSecurityGroupId": FORENSIC,
        "TransitSecurityGroupId": TRANSIT,
        "CutEstablishedConnections": flag(case.cut),
        "HoldSeconds": HOLD.as_secs().to_string(),
        "ProtectInstances": flag(case.everything),
        "DisableInstanceMetadata": flag(case.everything),
        "DetachInstanceProfile": flag(case.everything),
        "SnapshotVolumes": flag(case.snapshots()),
        "Purpose": "forensics",
    })
}

/// What Lambda starts.
fn function(program: Program) -> Command {
    if program == Program::Ours {
        return Command::new(std::env::var("BOOTSTRAP").unwrap_or_else(|_| BOOTSTRAP.to_owned()));
    }
    let mut python = Command::new(PYTHON);
    python.arg(ALTERNATIVE);
    python
}

/// One isolation and its restore, each a cold start; a public tool only isolates.
async fn measure(case: &Case, tools: &[Tool], tls: Option<&TlsAcceptor>) -> Vec<Run> {
    if let Some(tool) = tools.iter().find(|tool| tool.program == case.program) {
        return vec![
            tool.isolate(case.instances).await.unwrap_or_else(|problem| panic!("{}: {problem}", case.program.name())),
        ];
    }
    let tls = tls.filter(|_| case.tls).cloned();
    let world = World::new(case.instances, case.interfaces, case.throttled);
    let start = world.cards.clone();
    let mut event = json!({
        "RequestType": "Create",
        "StackId": STACK,
        "RequestId": "create",
        "LogicalResourceId": "Isolation",
        "ResourceType": "Custom::Ec2Isolation",
        "ResourceProperties": properties(case, &world),
    });
    let isolated = |_: &str| Groups::from([ISOLATION.to_owned()]);
    let (mut world, mut isolate) =
        lambda::run(function(case.program), world, tls.clone(), event.clone(), isolated).await;
    let volumes = if case.snapshots() { 2 * case.instances } else { 0 };
    assert_eq!(world.snapshots.len(), volumes, "snapshots of all volumes");
    if case.everything {
        assert_eq!(world.protected.len(), case.instances, "all protected");
        isolate.snapshot = lambda::wait(&world, &world.snapshotted, isolated);
        isolate.protection = lambda::wait(&world, &world.protected, isolated);
    }
    if case.is_for_waits() {
        return vec![isolate];
    }
    world.rest();
    event["RequestType"] = "Delete".into();
    event["RequestId"] = "delete".into();
    event["PhysicalResourceId"] = STACK.into();
    let original = |interface: &str| start[interface].clone();
    let (_, restore) = lambda::run(function(case.program), world, tls, event, original).await;
    vec![isolate, restore]
}

/// Of each figure by itself.
fn median(runs: &[Run]) -> Run {
    fn middle<T: Ord + Copy>(runs: &[Run], figure: impl Fn(&Run) -> T) -> T {
        let mut all: Vec<T> = runs.iter().map(figure).collect();
        all.sort_unstable();
        all[all.len() / 2]
    }
    Run {
        init: middle(runs, |run| run.init),
        first: middle(runs, |run| run.first),
        last: middle(runs, |run| run.last),
        settled: middle(runs, |run| run.settled),
        answer: middle(runs, |run| run.answer),
        calls: runs[0].calls.clone(),
        calls_before: middle(runs, |run| run.calls_before),
        snapshot: middle(runs, |run| run.snapshot),
        protection: middle(runs, |run| run.protection),
        refused: middle(runs, |run| run.refused),
        refused_most: middle(runs, |run| run.refused_most),
        connections: middle(runs, |run| run.connections),
        peak_kib: middle(runs, |run| run.peak_kib),
        cpu: middle(runs, |run| run.cpu),
    }
}

fn rows(case: &Case, runs: &[Vec<Run>]) -> Vec<Row> {
    let isolate = if case.cut { Act::IsolateAndCut } else { Act::Isolate };
    let row = |(n, act)| {
        let runs: Vec<Run> = runs.iter().filter_map(|acts| acts.get(n)).cloned().collect();
        let (bound, made_of) = bound(case, act);
        (!runs.is_empty()).then(|| Row {
            case: *case,
            act,
            run: median(&runs),
            repetitions: runs.len(),
            bound,
            made_of,
        })
    };
    [(0, isolate), (1, Act::Restore)].into_iter().filter_map(row).collect()
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10_000.0 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

fn print(row: &Row) {
    let Row { run, .. } = row;
    println!(
        "{:<46} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>5.2} {:>6} {:>4} {:>7.1} {:>8}",
        row.name(),
        if run.init.is_zero() { "-".to_owned() } else { ms(run.init) },
        ms(run.first),
        ms(run.last),
        ms(run.settled),
        ms(run.answer),
        ms(row.bound),
        row.ratio(),
        run.calls.values().sum::<u32>(),
        run.refused,
        run.peak_kib as f64 / 1024.0,
        ms(run.cpu),
    );
}

fn print_waits(rows: &[Row]) {
    println!("\nfrom an instance's own containment: of the first instance to get it, and the longest of all");
    for row in rows {
        if let (Some(snapshot), Some(protection)) = (row.run.snapshot, row.run.protection) {
            println!(
                "{:<46} snapshot {:>8} {:>8}   protection {:>8} {:>8}",
                row.name(),
                ms(snapshot.first),
                ms(snapshot.most),
                ms(protection.first),
                ms(protection.most),
            );
        }
    }
}

/// A figure that is to stay below another.
#[derive(Debug)]
pub struct Bar {
    pub what: String,
    pub value: f64,
    pub at_most: f64,
}

impl Bar {
    fn new(what: impl Into<String>, value: f64, at_most: f64) -> Self {
        Self { what: what.into(), value, at_most }
    }

    pub fn is_met(&self) -> bool {
        self.value <= self.at_most
    }
}

fn bars(rows: &[Row], zipped: f64) -> Vec<Bar> {
    let isolates = |program, instances, throttled| {
        rows.iter().find(|row| {
            row.case.program == program
                && (row.case.instances, row.case.interfaces) == (instances, 1)
                && row.act == Act::Isolate
                && row.case.throttled == throttled
                && !row.case.everything
                && !row.case.bare
                && !row.case.tls
        })
    };
    let ours = |instances, throttled| isolates(Program::Ours, instances, throttled);
    let python = |instances| isolates(Program::Python, instances, false);
    let mut bars = vec![Bar::new("zipped function, MiB", zipped, 4.6)];
    for (instances, throttled, most) in [(1, false, 1.25), (204, false, 1.5), (204, true, 1.1)] {
        if let Some(row) = ours(instances, throttled) {
            let buckets = if throttled { " with buckets" } else { "" };
            bars.push(Bar::new(format!("{instances} isolated{buckets}, times the lower bound"), row.ratio(), most));
        }
    }
    if let Some(row) = ours(204, true) {
        bars.push(Bar::new("204 instances: peak memory, MiB", row.run.peak_kib as f64 / 1024.0, 32.0));
        let times = f64::from(row.run.refused_most);
        bars.push(Bar::new("204 instances with buckets: times the same call was refused", times, 1.0));
    }
    if let Some(row) = rows.iter().find(|row| row.case.bare && row.act == Act::Isolate) {
        let all = row.run.calls.values().sum::<u32>();
        bars.push(Bar::new("1 instance without snapshots and protections: calls", f64::from(all), 16.0));
        bars.push(Bar::new("the same: calls before its groups are changed", f64::from(row.run.calls_before), 6.0));
    }
    let share = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let from_start = |run: &Run| run.init + run.last;
    if let (Some(ours), Some(python)) = (ours(1, false), python(1)) {
        bars.push(Bar::new("init, share of Python's", share(ours.run.init, python.run.init), 0.1));
        let shares = share(from_start(&ours.run), from_start(&python.run));
        bars.push(Bar::new("process start to 1 isolated, share of Python's", shares, 1.0 / 3.0));
        let memory = ours.run.peak_kib as f64 / python.run.peak_kib as f64;
        bars.push(Bar::new("peak memory, share of Python's", memory, 1.0 / 3.0));
    }
    if let (Some(ours), Some(python)) = (ours(50, false), python(50)) {
        let shares = share(from_start(&ours.run), from_start(&python.run));
        bars.push(Bar::new("process start to 50 isolated, share of Python's", shares, 0.1));
    }
    bars
}

fn cases(tools: &[Tool]) -> Vec<(Case, usize)> {
    let case = Case::new;
    let mut cases = Vec::new();
    for instances in [1, 10, 50] {
        cases.push((case(Program::Ours, instances, 1, false), REPETITIONS));
    }
    for (instances, interfaces) in [(204, 1), (51, 4)] {
        cases.push((case(Program::Ours, instances, interfaces, false), FEW));
    }
    for instances in [1, 10, 50] {
        cases.push((case(Program::Ours, instances, 1, true), FEW));
    }
    cases.push((Case { everything: true, ..case(Program::Ours, 1, 1, false) }, REPETITIONS));
    cases.push((Case { bare: true, ..case(Program::Ours, 1, 1, false) }, REPETITIONS));
    for (program, instances) in [(Program::Ours, 1), (Program::Ours, 50), (Program::Python, 1)] {
        cases.push((Case { tls: true, ..case(program, instances, 1, false) }, REPETITIONS));
    }
    for instances in [1, 10, 50] {
        cases.push((case(Program::Python, instances, 1, false), if instances < 50 { REPETITIONS } else { FEW }));
        cases.extend(tools.iter().map(|tool| (case(tool.program, instances, 1, false), FEW)));
    }
    cases
}

fn throttled_cases() -> Vec<Case> {
    let kinds = [(Program::Ours, false), (Program::Ours, true), (Program::Python, false)];
    let fleets = [(204, 1), (51, 4)];
    let all = kinds.into_iter().flat_map(|kind| fleets.map(|fleet| (kind, fleet)));
    all.map(|((program, cut), (instances, interfaces))| Case {
        throttled: true,
        ..Case::new(program, instances, interfaces, cut)
    })
    .collect()
}

/// The function keeps what follows containment to EC2's buckets whether the other side has them or not.
fn waiting_cases() -> Vec<Case> {
    let case = |instances| Case { everything: true, ..Case::new(Program::Ours, instances, 1, false) };
    let all = [100, 204].into_iter().flat_map(|instances| [(instances, false), (instances, true)]);
    all.map(|(instances, throttled)| Case { throttled, ..case(instances) }).collect()
}

fn json_of(row: &Row) -> Value {
    let Row { case, run, .. } = row;
    let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    let wait = |wait: Option<Wait>| wait.map(|wait| json!({"first_ms": ms(wait.first), "most_ms": ms(wait.most)}));
    json!({
        "row": row.name(),
        "instances": case.instances,
        "interfaces": case.instances * case.interfaces,
        "throttled": case.throttled,
        "repetitions": row.repetitions,
        "init_ms": ms(run.init),
        "first_ms": ms(run.first),
        "last_ms": ms(run.last),
        "settled_ms": ms(run.settled),
        "answer_ms": ms(run.answer),
        "bound_ms": ms(row.bound),
        "bound_is": row.made_of,
        "ratio": (row.ratio() * 100.0).round() / 100.0,
        "calls": run.calls,
        "calls_before_groups_are_changed": run.calls_before,
        "snapshot_after_containment": wait(run.snapshot),
        "protection_after_containment": wait(run.protection),
        "refused": run.refused,
        "same_call_refused_at_most": run.refused_most,
        "connections": run.connections,
        "peak_kib": run.peak_kib,
        "cpu_ms": ms(run.cpu),
    })
}

/// As `sam deploy` zips it: deflate at its default level, which Python's zipfile has.
fn zipped() -> f64 {
    let script = "import sys,zlib; print(len(zlib.compress(open(sys.argv[1],'rb').read(),6))/2**20)";
    let path = std::env::var("BOOTSTRAP").unwrap_or_else(|_| BOOTSTRAP.to_owned());
    let output = Command::new(PYTHON).args(["-c", script, &path]).output().expect("Python runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a size")
}

#[tokio::main]
async fn main() -> ExitCode {
    std::fs::create_dir_all(DIRECTORY).expect("target can be written");
    let _ = std::fs::remove_file(LOG);
    let quick = std::env::var("QUICK").is_ok();
    println!(
        "latency {} ms a call; medians; times from the event on, but init; of public tools from their start",
        latency().as_millis()
    );
    println!(
        "{:<46} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>5} {:>6} {:>4} {:>7} {:>8}",
        "", "init", "first", "last", "settled", "answer", "bound", "ratio", "calls", "ref.", "MiB", "CPU"
    );
    let mut all = Vec::new();
    // What is first to run pays for the disk.
    for program in [Program::Ours, Program::Python] {
        let case = cases(&[]).into_iter().find(|(case, _)| case.program == program).expect("each has cases").0;
        measure(&case, &[], None).await;
    }
    let (mut tools, mut skipped) = (Vec::new(), Vec::new());
    for program in [Program::Custodian, Program::Dredge] {
        match Tool::ready(program).await {
            Ok(tool) => tools.push(tool),
            Err(reason) => {
                println!("skipped: {reason}");
                skipped.push(reason);
            }
        }
    }
    let tls = tls::acceptor(&Path::new(DIRECTORY).join("tls"));
    if tls.is_none() {
        println!("no openssl: without the rows over TLS");
    }
    let cases: Vec<_> = cases(&tools).into_iter().filter(|(case, _)| tls.is_some() || !case.tls).collect();
    let most = if quick { FEW } else { REPETITIONS };
    // Round by round: what disturbs the machine for a while disturbs every case.
    let mut runs = vec![Vec::new(); cases.len()];
    for round in 0..most {
        for ((case, _), runs) in cases.iter().zip(&mut runs).filter(|((_, repetitions), _)| round < *repetitions) {
            runs.push(measure(case, &tools, tls.as_ref()).await);
        }
        println!("  round {} of {most}", round + 1);
    }
    for ((case, _), runs) in cases.iter().zip(&runs) {
        for row in rows(case, runs) {
            print(&row);
            all.push(row);
        }
    }
    if quick {
        println!("QUICK: without EC2's token buckets and fleets with everything on, which take four minutes");
    } else {
        println!("EC2's token buckets, in real time and side by side (they wait most of the time): four minutes");
        let cases = [throttled_cases(), waiting_cases()].concat();
        let runs = cases.iter().zip(0..).map(|(case, n)| async move {
            tokio::time::sleep(APART * n).await;
            measure(case, &[], None).await
        });
        let runs = futures_util::future::join_all(runs).await;
        for (case, run) in cases.iter().zip(runs) {
            for row in rows(case, &[run]) {
                print(&row);
                all.push(row);
            }
        }
    }
    print_waits(&all);
    println!("from the keystroke on, on the local AWS, beside a prepared responder");
    let keystrokes = keystroke::measure(&tools).await;
    for keystroke in &keystrokes {
        println!("{:<46} contained {:>8} ended {:>8}", keystroke.name, ms(keystroke.contained), ms(keystroke.ended));
    }

    let zipped = zipped();
    let bars = bars(&all, zipped);
    println!("\nbars");
    for bar in &bars {
        let verdict = if bar.is_met() { "met" } else { "MISSED" };
        println!("  {:<60} {:>7.2}, at most {:>5.2}: {verdict}", bar.what, bar.value, bar.at_most);
    }
    let rows: Vec<Value> = all.iter().map(json_of).collect();
    let bars_json: Vec<Value> =
        bars.iter().map(|bar| json!({"what": bar.what, "value": bar.value, "at_most": bar.at_most})).collect();
    let report = json!({"keystrokes": keystrokes.iter().map(|found| json!({"name": found.name, "contained_ms": found.contained.as_millis() as u64, "ended_ms": found.ended.as_millis() as u64})).collect::<Vec<_>>(), "latency_ms": latency().as_millis() as u64, "zipped_mib": zipped, "rows": rows, "bars": bars_json});
    std::fs::write(format!("{DIRECTORY}/report.json"), format!("{report:#}\n")).expect("target can be written");
    println!("\nwritten: {DIRECTORY}/report.json");
    if std::env::var("PAGE").is_ok() {
        let measured = page::Measured {
            rows: &all,
            keystrokes: &keystrokes,
            bars: &bars,
            tools: &tools,
            skipped: &skipped,
            zipped,
        };
        page::write(Path::new("docs"), &measured).expect("docs can be written");
        println!("written: docs/measurements.md, docs/measurements.svg");
    }
    ExitCode::SUCCESS
}
