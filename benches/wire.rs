//! All that surrounds a measured program, on ports of 127.0.0.1: the Runtime API, AWS with a set latency, and the place that
//! the answer goes to. It notes when what happened.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::latency;
use crate::world::World;

/// What the ports of one run have in common.
pub struct Shared {
    pub world: Mutex<World>,
    latency: Duration,
    /// What Lambda hands out.
    pub event: Mutex<String>,
    pub notes: Mutex<Notes>,
    pub done: Notify,
}

#[derive(Default)]
pub struct Notes {
    pub ready: Option<Instant>,
    pub answered: Option<Instant>,
    pub answer: Option<Value>,
    /// To AWS.
    pub connections: u32,
}

impl Shared {
    pub fn new(world: World) -> Arc<Self> {
        Arc::new(Self {
            world: Mutex::new(world),
            latency: latency(),
            event: Mutex::default(),
            notes: Mutex::default(),
            done: Notify::new(),
        })
    }
}

/// Accepts connections, with TLS where there is an acceptor. Returns where, and what to end it by.
pub async fn listen(shared: &Arc<Shared>, tls: Option<TlsAcceptor>) -> (String, JoinHandle<()>) {
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
    let error = |code: &str, message: &str| {
        format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
             <RequestID>r</RequestID></Response>"
        )
    };
    if !is_admitted {
        return ("503 Service Unavailable", headers, error("RequestLimitExceeded", "Request limit exceeded."));
    }
    match world().query(&action, &query) {
        Some(body) => ("200 OK", headers, body),
        None => ("400 Bad Request", headers, error("InvalidAction", &format!("nobody is expected to call {action}"))),
    }
}
