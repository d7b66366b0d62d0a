//! One cold start as Lambda makes it, and what was measured of it.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use crate::LOG;
use crate::tls::ROOTS;
use crate::wire::{Shared, listen};
use crate::world::{Groups, World};

/// No run takes longer: 204 instances with everything on take some three minutes.
const LONGEST: Duration = Duration::from_secs(780);

/// From an instance's own containment, which is that of its last interface, to the first call that does something for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// Of the instance that was the first to get it.
    pub first: Duration,
    pub most: Duration,
}

/// What was measured. Times count from the moment the event was handed out, `init` from the start of the process to then.
#[derive(Debug, Clone)]
pub struct Run {
    pub init: Duration,
    /// The first interface is where it is to be; the last one for the first time; all of them, for good.
    pub first: Duration,
    pub last: Duration,
    pub settled: Duration,
    pub answer: Duration,
    pub calls: BTreeMap<String, u32>,
    /// Those before the first change of groups.
    pub calls_before: u32,
    /// How long instances wait for what follows their own containment. None where they are asked for nothing of the kind.
    pub snapshot: Option<Wait>,
    pub protection: Option<Wait>,
    /// Calls that EC2's buckets refused; how often the same one at most.
    pub refused: u32,
    pub refused_most: u32,
    pub connections: u32,
    pub peak_kib: u64,
    /// Processor time of all threads.
    pub cpu: Duration,
}

/// Starts `program`, hands it `event`, and measures until it has told Lambda that it is done. Every interface has to end
/// in the groups that `aim` says, and the answer has to say SUCCESS.
pub async fn run(
    mut program: Command,
    world: World,
    tls: Option<TlsAcceptor>,
    mut event: Value,
    aim: impl Fn(&str) -> Groups,
) -> (World, Run) {
    let shared = Shared::new(world);
    let (runtime, runtime_server) = listen(&shared, None).await;
    let (aws, aws_server) = listen(&shared, tls).await;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
    event["ResponseURL"] = format!("{aws}/answer?X-Amz-Date={now}").into();
    *shared.event.lock().expect("nobody panics in it") = event.to_string();

    speaks_to(&mut program, &aws);
    let started = Instant::now();
    let mut process = program
        .env("AWS_LAMBDA_RUNTIME_API", runtime.trim_start_matches("http://"))
        .env("AWS_LAMBDA_FUNCTION_NAME", "isolation")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "isolation")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/25/[$LATEST]abc")
        .env("SECURITY_GROUP_TABLE_NAME", "records")
        .envs(
            aws.starts_with("https")
                .then_some([("SSL_CERT_FILE", ROOTS), ("AWS_CA_BUNDLE", ROOTS)])
                .into_iter()
                .flatten(),
        )
        .spawn()
        .expect("it starts; `make bench` builds it");
    let limit = Instant::now() + LONGEST;
    while tokio::time::timeout(Duration::from_millis(500), shared.done.notified()).await.is_err() {
        let is_running = matches!(process.try_wait(), Ok(None));
        assert!(is_running && Instant::now() < limit, "it ended, or did not end in {} s: see {LOG}", LONGEST.as_secs());
    }
    let (peak_kib, cpu) = usage(process.id()).expect("it runs");
    // SIGKILL: what is measured is over.
    let _ = process.kill();
    let _ = process.wait();
    runtime_server.abort();
    aws_server.abort();

    let notes = std::mem::take(&mut *shared.notes.lock().expect("nobody panics in it"));
    let world = std::mem::take(&mut *shared.world.lock().expect("nobody panics in it"));
    let answer = notes.answer.expect("an answer");
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    let ready = notes.ready.expect("it asked for an event");
    let [first, last, settled] = times(&world, ready, aim).unwrap_or_else(|problem| panic!("{problem}: {answer}"));
    let run = Run {
        init: ready - started,
        first,
        last,
        settled,
        answer: notes.answered.expect("an answer") - ready,
        calls: world.calls.clone(),
        calls_before: world.calls_before,
        snapshot: None,
        protection: None,
        refused: world.refused.values().sum(),
        refused_most: world.refused.values().max().copied().unwrap_or_default(),
        connections: notes.connections,
        peak_kib,
        cpu,
    };
    (world, run)
}

/// Gives `program` nothing but an AWS at `endpoint` and the log.
pub fn speaks_to(program: &mut Command, endpoint: &str) {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(LOG).expect("a log");
    program
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_SESSION_TOKEN", "token")
        .env("AWS_ENDPOINT_URL", endpoint)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log);
}

/// When the first and the last interface got where `aim` says, and when all were there for good; or which one is not.
pub fn times(world: &World, start: Instant, aim: impl Fn(&str) -> Groups) -> Result<[Duration; 3], String> {
    if let Some((interface, groups)) = world.cards.iter().find(|(interface, groups)| **groups != aim(interface)) {
        return Err(format!("{interface} ended in {groups:?}"));
    }
    let (mut first, mut settled) = (BTreeMap::new(), BTreeMap::new());
    for swap in world.swaps.iter().filter(|swap| swap.groups == aim(&swap.interface)) {
        first.entry(&swap.interface).or_insert(swap.at);
        settled.insert(&swap.interface, swap.at);
    }
    if let Some(interface) = world.cards.keys().find(|interface| !first.contains_key(interface)) {
        return Err(format!("{interface} was never changed"));
    }
    let since = |at: Option<&Instant>| at.expect("there are interfaces").duration_since(start);
    Ok([since(first.values().min()), since(first.values().max()), since(settled.values().max())])
}

/// How long the instances in `done` have waited for it since each was where `aim` says. An instance that is not contained
/// before has not waited.
pub fn wait(world: &World, done: &BTreeMap<String, Instant>, aim: impl Fn(&str) -> Groups) -> Option<Wait> {
    let mut contained = BTreeMap::new();
    for swap in world.swaps.iter().filter(|swap| swap.groups == aim(&swap.interface)) {
        contained.entry(&swap.interface).or_insert(swap.at);
    }
    let since = |(instance, at): (&String, &Instant)| {
        let last = world.instances[instance].iter().map(|card| contained[card]).max().expect("it has interfaces");
        at.saturating_duration_since(last)
    };
    let first = done.iter().min_by_key(|(_, at)| **at).map(since)?;
    Some(Wait { first, most: done.iter().map(since).max()? })
}

/// The most memory that the process ever had, in KiB, and what its threads used of the processor. Nothing once it has ended.
pub fn usage(process: u32) -> Option<(u64, Duration)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some((peak.trim().trim_end_matches(" kB").parse().expect("a number"), Duration::from_nanos(nanoseconds.sum())))
}
