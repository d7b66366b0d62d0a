//! What surrounds the built function: Lambda's Runtime API, the place its answers go to, and CloudFormation's
//! `DescribeStacks`, all on one port of 127.0.0.1; and the function's process.

use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const BOOTSTRAP: &str = ".aws-sam/build/IsolationFunction/bootstrap";
/// No wait in these tests is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    events: VecDeque<(String, u64, Value)>,
    answers: Vec<Received>,
    /// What the function told Lambda: request id, and whether it succeeded.
    done: Vec<(String, bool)>,
    stack_status: String,
    delivered: u32,
    /// How many functions were started: what an earlier one still waits for is not its to take.
    started: u32,
}

/// A PUT to a ResponseURL.
#[derive(Debug, Clone)]
pub struct Received {
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("an answer is JSON")
    }
}

/// The surroundings; they outlive a killed function.
#[derive(Debug, Clone)]
pub struct Surroundings {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Surroundings {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(Mutex::new(State { stack_status: "DELETE_IN_PROGRESS".to_owned(), ..State::default() }));
        let accepted = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&accepted)));
            }
        });
        Self { address, state }
    }

    /// A ResponseURL, signed a moment ago, with everything that must arrive byte for byte.
    pub fn response_url(&self, request_id: &str) -> String {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
        format!(
            "http://{}/arn%3Aaws%3Astack%7CIso%7C{request_id}?X-Amz-Date={now}&X-Amz-Signature=secret",
            self.address
        )
    }

    /// Starts the built function with these variables on top of Lambda's own.
    pub fn start(&self, variables: &[(&str, &str)]) -> Function {
        self.start_program(Command::new(BOOTSTRAP), variables)
    }

    /// The same with another program in the function's place.
    pub fn start_program(&self, mut program: Command, variables: &[(&str, &str)]) -> Function {
        self.state.lock().expect("no test panics in it").started += 1;
        std::fs::create_dir_all("target/stack").expect("target can be written");
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open("target/stack/function.log").expect("a log");
        let process = program
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", &self.address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "isolation")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "isolation")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/25/[$LATEST]abc")
            .env("AWS_SDK_UA_APP_ID", "isolation")
            .env("AWS_ENDPOINT_URL_CLOUDFORMATION", format!("http://{}", self.address))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("it starts; `make build` makes the function");
        Function { process }
    }

    /// Queues an event, to be handled until `time` from now; zero gives the deadline zero.
    pub fn deliver(&self, event: &Value, time: Duration) {
        let mut state = self.state.lock().expect("no test panics in it");
        state.delivered += 1;
        let id = format!("invocation-{}", state.delivered);
        let deadline = if time.is_zero() { Duration::ZERO } else { since_epoch() + time };
        state.events.push_back((id, u64::try_from(deadline.as_millis()).expect("a time"), event.clone()));
    }

    pub fn set_stack_status(&self, status: &str) {
        status.clone_into(&mut self.state.lock().expect("no test panics in it").stack_status);
    }

    pub fn answers(&self) -> Vec<Received> {
        self.state.lock().expect("no test panics in it").answers.clone()
    }

    pub fn done(&self) -> Vec<(String, bool)> {
        self.state.lock().expect("no test panics in it").done.clone()
    }

    /// Waits until `count` invocations have ended, and returns the answers to them.
    pub async fn ended(&self, count: usize) -> Vec<Received> {
        wait_until(|| self.done().len() >= count).await;
        self.answers()
    }
}

pub async fn wait_until(condition: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + LONGEST_WAIT;
    while !condition() {
        assert!(tokio::time::Instant::now() < limit, "nothing happened in {} s", LONGEST_WAIT.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock")
}

/// The function's process. Killed when dropped.
#[derive(Debug)]
pub struct Function {
    process: Child,
}

impl Function {
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// The most memory it ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // SIGKILL: it has no say in it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    // A connection is of the function that was started last: a killed one may have asked for more before it died.
    let function = state.lock().expect("no test panics in it").started;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let (status, headers, body) = answer(request, &state, function).await;
        let length = body.len();
        let response = format!("HTTP/1.1 {status} OK\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        if stream.get_mut().write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    Some(Request { method, target, headers, body: String::from_utf8(body).ok()? })
}

/// Status, further header lines, body.
async fn answer(request: Request, state: &Mutex<State>, function: u32) -> (u16, String, String) {
    let path = request.target.strip_prefix("/2018-06-01/runtime/");
    match (request.method.as_str(), path) {
        ("GET", Some("invocation/next")) => next(state, function).await.unwrap_or((410, String::new(), String::new())),
        ("POST", Some(rest)) => {
            let mut parts = rest.trim_start_matches("invocation/").split('/');
            let done = (parts.next().unwrap_or_default().to_owned(), parts.next() == Some("response"));
            state.lock().expect("no test panics in it").done.push(done);
            (202, String::new(), String::new())
        }
        ("PUT", _) => {
            let Request { target, headers, body, .. } = request;
            state.lock().expect("no test panics in it").answers.push(Received { target, headers, body });
            (200, String::new(), String::new())
        }
        _ if request.body.contains("Action=DescribeStacks") => {
            let status = state.lock().expect("no test panics in it").stack_status.clone();
            let body = format!(
                "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>ir</StackName>\
                 <CreationTime>2026-11-25T00:00:00Z</CreationTime><StackStatus>{status}</StackStatus>\
                 </member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
            );
            (200, "Content-Type: text/xml\r\n".to_owned(), body)
        }
        _ => (404, String::new(), String::new()),
    }
}

/// The next event, or none once another function was started.
async fn next(state: &Mutex<State>, function: u32) -> Option<(u16, String, String)> {
    loop {
        {
            let mut state = state.lock().expect("no test panics in it");
            if state.started != function {
                return None;
            }
            if let Some((id, deadline, event)) = state.events.pop_front() {
                let headers = format!(
                    "Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n\
                     Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:isolation\r\n"
                );
                return Some((200, headers, event.to_string()));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
