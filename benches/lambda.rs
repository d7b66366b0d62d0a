//! One cold start as Lambda makes it, and all that surrounds it on one port of 127.0.0.1: the Runtime API, AWS with a set
//! latency, and the place that the answer goes to. It notes when what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::tls::ROOTS;
use crate::world::{Groups, World};

/// No run takes longer: 204 instances with every bucket empty take some two minutes.
const LONGEST: Duration = Duration::from_secs(420);

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
    /// Calls that EC2's buckets refused; how often the same one at most.
    pub refused: u32,
    pub refused_most: u32,
    pub connections: u32,
    pub peak_kib: u64,
    /// Processor time of all threads.
    pub cpu: Duration,
}

struct Shared {
    world: Mutex<World>,
    latency: Duration,
    event: Mutex<String>,
    notes: Mutex<Notes>,
    done: Notify,
}

#[derive(Default)]
struct Notes {
    ready: Option<Instant>,
    answered: Option<Instant>,
    answer: Option<Value>,
    connections: u32,
}

/// Accepts connections, with TLS where there is an acceptor. Returns where, and what to end it by.
async fn listen(shared: &Arc<Shared>, tls: Option<TlsAcceptor>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = format!("{scheme}://{}", listener.local_addr().expect("an address"));
    let shared = Arc::clone(shared);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let (shared, tls) = (Arc::clone(&shared), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, shared).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, shared).await;
                        }
                    }
                }
            });
        }
    });
    (address, server)
}

/// Starts `program`, hands it `event`, and measures until it has told Lambda that it is done. Every interface has to end
/// in the groups that `aim` says, and the answer has to say SUCCESS.
pub async fn run(
    mut program: Command,
    log_path: &str,
    world: World,
    latency: Duration,
    tls: Option<TlsAcceptor>,
    mut event: Value,
    aim: impl Fn(&str) -> Groups,
) -> (World, Run) {
    let shared = Arc::new(Shared {
        world: Mutex::new(world),
        latency,
        event: Mutex::default(),
        notes: Mutex::default(),
        done: Notify::new(),
    });
    let (runtime, runtime_server) = listen(&shared, None).await;
    let (aws, aws_server) = listen(&shared, tls).await;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
    event["ResponseURL"] = format!("{aws}/answer?X-Amz-Date={now}").into();
    *shared.event.lock().expect("nobody panics in it") = event.to_string();

    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path).expect("a log");
    let started = Instant::now();
    let mut process = program
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("AWS_LAMBDA_RUNTIME_API", runtime.trim_start_matches("http://"))
        .env("AWS_LAMBDA_FUNCTION_NAME", "isolation")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "isolation")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/25/[$LATEST]abc")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_SESSION_TOKEN", "token")
        .env("AWS_ENDPOINT_URL", &aws)
        .env("SECURITY_GROUP_TABLE_NAME", "records")
        .envs(
            aws.starts_with("https")
                .then_some([("SSL_CERT_FILE", ROOTS), ("AWS_CA_BUNDLE", ROOTS)])
                .into_iter()
                .flatten(),
        )
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("it starts; `make bench` builds it");
    let limit = Instant::now() + LONGEST;
    while tokio::time::timeout(Duration::from_millis(500), shared.done.notified()).await.is_err() {
        let is_running = matches!(process.try_wait(), Ok(None));
        assert!(
            is_running && Instant::now() < limit,
            "it ended, or did not end in {} s: see {log_path}",
            LONGEST.as_secs()
        );
    }
    let (peak_kib, cpu) = usage(process.id());
    // SIGKILL: what is measured is over.
    let _ = process.kill();
    let _ = process.wait();
    runtime_server.abort();
    aws_server.abort();

    let notes = std::mem::take(&mut *shared.notes.lock().expect("nobody panics in it"));
    let world = std::mem::take(&mut *shared.world.lock().expect("nobody panics in it"));
    let answer = notes.answer.expect("an answer");
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    for (interface, groups) in &world.cards {
        assert_eq!(*groups, aim(interface), "{interface}: {answer}");
    }
    let ready = notes.ready.expect("it asked for an event");
    let (mut first, mut settled) = (BTreeMap::new(), BTreeMap::new());
    for swap in world.swaps.iter().filter(|swap| swap.groups == aim(&swap.interface)) {
        first.entry(&swap.interface).or_insert(swap.at);
        settled.insert(&swap.interface, swap.at);
    }
    let all: BTreeSet<&String> = world.cards.keys().collect();
    assert_eq!(first.keys().copied().collect::<BTreeSet<_>>(), all, "an interface was never changed");
    let since = |at: Option<&Instant>| at.expect("there are interfaces").duration_since(ready);
    let run = Run {
        init: ready - started,
        first: since(first.values().min()),
        last: since(first.values().max()),
        settled: since(settled.values().max()),
        answer: notes.answered.expect("an answer") - ready,
        calls: world.calls.clone(),
        refused: world.refused.values().sum(),
        refused_most: world.refused.values().max().copied().unwrap_or_default(),
        connections: notes.connections,
        peak_kib,
        cpu,
    };
    (world, run)
}

/// The most memory that the process ever had, in KiB, and what its threads used of the processor.
fn usage(process: u32) -> (u64, Duration) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    (peak.trim().trim_end_matches(" kB").parse().expect("a number"), Duration::from_nanos(nanoseconds.sum()))
}

struct Request {
    method: String,
    target: String,
    /// Of DynamoDB: `DynamoDB_20120810.PutItem`.
    operation: Option<String>,
    body: String,
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut first = line.split(' ').map(str::to_owned);
    let (method, target) = (first.next()?, first.next()?);
    let (mut length, mut operation, mut chunked) = (0, None, false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "transfer-encoding" => chunked = true,
            "x-amz-target" => operation = value.trim().split_once('.').map(|(_, name)| name.to_owned()),
            // Python's client asks before it sends.
            "expect" => stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?,
            _ => {}
        }
    }
    assert!(!chunked, "no measured program sends chunks");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, target, operation, body: String::from_utf8(body).ok()? })
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut is_known = false;
    while let Some(request) = read(&mut stream).await {
        if request.method == "POST" && request.target == "/" && !std::mem::replace(&mut is_known, true) {
            shared.notes.lock().expect("nobody panics in it").connections += 1;
        }
        let (status, headers, body) = answer(request, &shared).await;
        let length = body.len();
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        if stream.get_mut().write_all(response.as_bytes()).await.is_err() || stream.get_mut().flush().await.is_err() {
            return;
        }
    }
}

/// Status, further header lines, body.
async fn answer(request: Request, shared: &Shared) -> (&'static str, String, String) {
    let none = String::new;
    match (request.method.as_str(), request.target.strip_prefix("/2018-06-01/runtime/")) {
        ("GET", Some("invocation/next")) => {
            let now = Instant::now();
            let is_first = {
                let mut notes = shared.notes.lock().expect("nobody panics in it");
                notes.ready.is_none() && notes.ready.replace(now).is_none()
            };
            if !is_first {
                shared.done.notify_one();
                std::future::pending::<()>().await;
            }
            let deadline = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock") + Duration::from_secs(900);
            let headers = format!(
                "Lambda-Runtime-Aws-Request-Id: invocation-1\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:isolation\r\n",
                deadline.as_millis()
            );
            ("200 OK", headers, shared.event.lock().expect("nobody panics in it").clone())
        }
        ("POST", Some(_)) => {
            // Lambda's own: the next thing it hears is the wish for another event, which is too late to measure.
            shared.done.notify_one();
            ("202 Accepted", none(), none())
        }
        ("PUT", _) => {
            tokio::time::sleep(shared.latency).await;
            let mut notes = shared.notes.lock().expect("nobody panics in it");
            notes.answered.get_or_insert_with(Instant::now);
            notes.answer = serde_json::from_str(&request.body).ok();
            ("200 OK", none(), none())
        }
        _ => aws(request, shared).await,
    }
}

async fn aws(request: Request, shared: &Shared) -> (&'static str, String, String) {
    let Request { operation, body, .. } = request;
    let begun = Instant::now();
    let world = || shared.world.lock().expect("nobody panics in it");
    if let Some(operation) = operation {
        let input = serde_json::from_str(&body).expect("DynamoDB is spoken to in JSON");
        world().admit(&operation, &body);
        tokio::time::sleep_until((begun + shared.latency).into()).await;
        let output = world().table(&operation, &input).to_string();
        return ("200 OK", "Content-Type: application/x-amz-json-1.0\r\n".to_owned(), output);
    }
    let query = reqwest::Url::parse(&format!("http://aws/?{body}")).expect("a form");
    let query: Vec<(String, String)> = query.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    let action = query.iter().find(|(name, _)| name == "Action").map(|(_, action)| action.clone()).expect("an action");
    let is_admitted = world().admit(&action, &body);
    tokio::time::sleep_until((begun + shared.latency).into()).await;
    let headers = "Content-Type: text/xml;charset=UTF-8\r\n".to_owned();
    if is_admitted {
        ("200 OK", headers, world().query(&action, &query))
    } else {
        let body = "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message>\
                    </Error></Errors><RequestID>r</RequestID></Response>";
        ("503 Service Unavailable", headers, body.to_owned())
    }
}
