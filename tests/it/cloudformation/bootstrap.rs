//! The real `bootstrap` in Lambda's place, with a wire-level double of AWS that knows no instance and no record. What needs
//! a world that remembers is shown with the built function on the local AWS.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::event;
use crate::runtime::{Function, Surroundings};

/// An account in which nothing is.
struct Nothing;

impl Respond for Nothing {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let Some(action) = body.split('&').find_map(|pair| pair.strip_prefix("Action=")) else {
            // DynamoDB: no item, and every write succeeds. Who asks for what is written gets it.
            let asked: Value = serde_json::from_str(&body).unwrap_or_default();
            let values = asked["ExpressionAttributeValues"].as_object().cloned().unwrap_or_default();
            let written = values.into_iter().map(|(name, value)| (name.trim_start_matches(':').to_owned(), value));
            return ResponseTemplate::new(200).set_body_json(match asked["ReturnValues"].as_str() {
                Some("ALL_NEW") => json!({"Attributes": written.collect::<serde_json::Map<_, _>>()}),
                _ => json!({}),
            });
        };
        ResponseTemplate::new(200).set_body_string(format!("<{action}Response/>"))
    }
}

struct Ground {
    lambda: Surroundings,
    aws: MockServer,
    log: PathBuf,
}

impl Ground {
    async fn new(name: &str) -> Self {
        std::fs::create_dir_all("target/stack").expect("target can be written");
        let aws = MockServer::start().await;
        Mock::given(any()).respond_with(Nothing).mount(&aws).await;
        Self { lambda: Surroundings::new().await, aws, log: PathBuf::from(format!("target/stack/binary-{name}.log")) }
    }

    fn start(&self, aws: &str, variables: &[(&str, &str)]) -> Function {
        let mut program = Command::new("sh");
        program.args(["-c", r#"exec "$0" >"$1" 2>&1"#, env!("CARGO_BIN_EXE_bootstrap")]).arg(&self.log);
        let mut all = vec![
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "hush-key"),
            ("AWS_SESSION_TOKEN", "hush-token"),
            ("AWS_ENDPOINT_URL", aws),
        ];
        all.extend(variables);
        self.lambda.start_program(program, &all)
    }

    fn event(&self, name: &str, request: &str) -> Value {
        let mut event = event(name);
        event["ResponseURL"] = json!(self.lambda.response_url(request));
        event["RequestId"] = json!(request);
        event
    }

    /// Delivers the event, with so much time, and returns status and reason of the `n`th answer.
    async fn answer(&self, event: &Value, time: Duration, n: usize) -> (String, String) {
        self.lambda.deliver(event, time);
        let answers = self.lambda.ended(n).await;
        assert_eq!(answers.len(), n, "one answer each");
        let answer = answers[n - 1].json();
        assert_eq!(answer["RequestId"], event["RequestId"]);
        let text = |key: &str| answer[key].as_str().expect("text").to_owned();
        (text("Status"), text("Reason"))
    }
}

const TABLE: (&str, &str) = ("SECURITY_GROUP_TABLE_NAME", "records");
const MINUTE: Duration = Duration::from_secs(60);

// 5, 47
#[tokio::test]
async fn a_missing_setting_is_answered_event_by_event_and_calls_nothing() {
    let ground = Ground::new("settings").await;
    let mut function = ground.start(&ground.aws.uri(), &[]);
    for (n, name) in [(1, "create"), (2, "update"), (3, "delete")] {
        let (status, reason) = ground.answer(&ground.event(name, name), MINUTE, n).await;
        assert_eq!(status, "FAILED", "{name}");
        let expected = "nothing was changed: environment variable SECURITY_GROUP_TABLE_NAME is not set";
        assert!(reason.starts_with(expected), "{reason}");
    }
    assert!(function.is_running());
    assert_eq!(ground.aws.received_requests().await.unwrap().len(), 0);
}

#[tokio::test]
async fn one_process_answers_each_event_once_whatever_its_deadline_says() {
    let ground = Ground::new("deadline").await;
    let mut function = ground.start(&ground.aws.uri(), &[TABLE]);
    let (status, reason) = ground.answer(&ground.event("delete", "no deadline"), Duration::ZERO, 1).await;
    assert_eq!((status.as_str(), reason.as_str()), ("SUCCESS", "nothing to restore: no instance is held isolated"));
    let (status, reason) = ground.answer(&ground.event("create", "a minute"), MINUTE, 2).await;
    assert_eq!(status, "FAILED");
    assert!(reason.contains("isolation group sg-0a11ce0150a7ed000 does not exist"), "{reason}");
    assert!(function.is_running());
    assert!(ground.lambda.done().iter().all(|(_, succeeded)| *succeeded));
}

// 44
#[tokio::test]
async fn a_service_that_accepts_and_never_replies_is_answered_before_the_deadline() {
    let ground = Ground::new("silent").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut function = ground.start(&format!("http://{}", silent.local_addr().unwrap()), &[TABLE]);
    for (n, name) in [(1, "create"), (2, "delete")] {
        let time = Duration::from_secs(3);
        let started = Instant::now();
        let (status, reason) = ground.answer(&ground.event(name, name), time, n).await;
        assert!(started.elapsed() < time, "{:?}", started.elapsed());
        assert_eq!(status, "FAILED");
        assert!(reason.contains("the time for an answer ran out"), "{reason}");
    }
    assert!(function.is_running());
}

// 41, 42
#[tokio::test]
async fn no_log_line_at_any_level_shows_a_url_a_secret_or_the_event() {
    for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "nonsense"] {
        let ground = Ground::new(&format!("log-{level}")).await;
        let variables = [TABLE, ("AWS_LAMBDA_LOG_LEVEL", level), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")];
        let function = ground.start(&ground.aws.uri(), &variables);
        let mut create = ground.event("create", "answered");
        create["ResourceProperties"]["Note"] = json!("hush-event");
        ground.lambda.deliver(&create, MINUTE);
        // Nobody is there to take the second answer, and the third is an invalid URL.
        for (request, url) in [
            ("lost", "http://127.0.0.1:9/key?X-Amz-Signature=hush-signature"),
            ("no-url", "no-url?X-Amz-Signature=hush-signature"),
        ] {
            let mut event = ground.event("delete", request);
            event["ResponseURL"] = json!(url);
            ground.lambda.deliver(&event, Duration::from_secs(4));
        }
        ground.lambda.ended(3).await;
        let succeeded: Vec<bool> = ground.lambda.done().iter().map(|(_, succeeded)| *succeeded).collect();
        assert_eq!(succeeded, [true, false, true], "only a lost answer is worth another delivery");
        drop(function);
        let log = std::fs::read_to_string(&ground.log).unwrap();
        assert!(level == "ERROR" || log.contains("the answer was not accepted"), "{level}: {log}");
        for word in ["hush", "secret", "Signature", "127.0.0.1:9", "X-Amz-"] {
            assert!(!log.contains(word), "{level} shows {word}: {log}");
        }
    }
}
