//! The PUT on a real socket.

use std::time::{Duration, Instant};

use ec2_isolation::cloudformation::answer::Answer;
use ec2_isolation::cloudformation::event::Envelope;
use ec2_isolation::cloudformation::responder::{Reply as _, Responder, Undelivered, client};
use ec2_isolation::reconcile::report::Report;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const TARGET: &str = "/arn%3Aaws%3Astack%7CIso%7Creq+1?X-Amz-Date=20261125T030000Z&X-Amz-Signature=se%2Bcret";

fn answer(reason: &str) -> Answer {
    let envelope = Envelope::read(&json!({"StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}));
    Report::failure(reason).into_answer(&envelope, "")
}

async fn send(base: &str, budget: Duration) -> Result<(), Undelivered> {
    Responder::new(client().unwrap(), format!("{base}{TARGET}"), budget).send(answer("é漢🙂 \"quoted\"")).await
}

/// Answers with these statuses, one after the other, the last one for ever.
struct Statuses(std::sync::Mutex<Vec<u16>>);

impl Respond for Statuses {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let mut left = self.0.lock().unwrap();
        let status = if left.len() > 1 { left.remove(0) } else { left[0] };
        ResponseTemplate::new(status)
    }
}

async fn server(statuses: &[u16]) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(Statuses(std::sync::Mutex::new(statuses.to_vec()))).mount(&server).await;
    server
}

async fn attempts(statuses: &[u16], expected: Result<(), Undelivered>) -> usize {
    let server = server(statuses).await;
    assert_eq!(send(&server.uri(), Duration::from_secs(5)).await, expected, "{statuses:?}");
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn the_answer_is_a_put_without_content_type_to_exactly_that_url() {
    // wiremock parses the URL; the raw socket shows the bytes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; 65536];
        let mut length = 0;
        let body = answer("é漢🙂 \"quoted\"").body();
        while !String::from_utf8_lossy(&seen[..length]).ends_with(&body) {
            length += stream.read(&mut seen[length..]).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(seen[..length].to_vec()).unwrap()
    });
    send(&base, Duration::from_secs(5)).await.unwrap();
    let seen = peer.await.unwrap();
    let body = answer("é漢🙂 \"quoted\"").body();
    assert!(seen.starts_with(&format!("PUT {TARGET} HTTP/1.1\r\n")), "{seen}");
    let head = seen.to_ascii_lowercase();
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{seen}");
    assert!(
        !head.contains("content-type") && !head.contains("transfer-encoding") && !head.contains("x-amz-acl"),
        "{seen}"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_accepted_is_sent_again() {
    assert_eq!(attempts(&[200], Ok(())).await, 1);
    assert_eq!(attempts(&[500, 503, 200], Ok(())).await, 3);
    assert_eq!(attempts(&[429, 408, 200], Ok(())).await, 3);
    assert_eq!(attempts(&[403, 200], Ok(())).await, 2);
}

#[tokio::test]
async fn a_refusal_is_believed_the_second_time_and_is_no_success() {
    assert_eq!(attempts(&[403], Err(Undelivered::Lost("HTTP status 403".into()))).await, 2);
}

#[tokio::test]
async fn a_redirect_is_followed_with_the_same_answer() {
    let target = server(&[200]).await;
    let first = MockServer::start().await;
    let moved = ResponseTemplate::new(307).insert_header("location", format!("{}/elsewhere", target.uri()).as_str());
    Mock::given(any()).respond_with(moved).mount(&first).await;
    send(&first.uri(), Duration::from_secs(5)).await.unwrap();
    let received = target.received_requests().await.unwrap();
    assert_eq!((received.len(), received[0].method.as_str()), (1, "PUT"));
    assert_eq!(String::from_utf8(received[0].body.clone()).unwrap(), answer("é漢🙂 \"quoted\"").body());
}

#[tokio::test]
async fn a_redirect_that_would_fetch_a_page_is_no_success() {
    for status in [301, 302, 303] {
        let target = server(&[200]).await;
        let first = MockServer::start().await;
        let moved = ResponseTemplate::new(status).insert_header("location", format!("{}/page", target.uri()).as_str());
        Mock::given(any()).respond_with(moved).mount(&first).await;
        let error = send(&first.uri(), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error, Undelivered::Lost(format!("HTTP status {status}")));
        assert_eq!(target.received_requests().await.unwrap().len(), 0, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_without_end_is_no_success() {
    let server = MockServer::start().await;
    let again = ResponseTemplate::new(307).insert_header("location", server.uri().as_str());
    Mock::given(any()).respond_with(again).mount(&server).await;
    let error = send(&server.uri(), Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error, Undelivered::Lost("HTTP status 307".into()));
    assert!(server.received_requests().await.unwrap().len() <= 2 * 5);
}

#[tokio::test]
async fn a_lost_connection_and_a_silent_peer_are_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (reset, _) = listener.accept().await.unwrap();
        drop(reset);
        let (silent, _) = listener.accept().await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = [0; 4096];
        let _ = stream.read(&mut seen).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        drop(silent);
    });
    assert_eq!(send(&base, Duration::from_secs(8)).await, Ok(()));
}

#[tokio::test]
async fn a_peer_that_is_not_there_costs_no_more_than_the_budget() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let started = Instant::now();
    let error = send(&base, Duration::from_secs(1)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(error, Undelivered::Lost("could not connect".into()));
}

#[tokio::test]
async fn a_url_that_is_none_is_said_to_be_none() {
    for url in ["pre-signed-url-for-create-response", "", "ftp://host/key", "file:///etc/passwd"] {
        let responder = Responder::new(client().unwrap(), url.to_owned(), Duration::from_secs(1));
        assert_eq!(responder.send(answer("x")).await, Err(Undelivered::UnusableUrl), "{url}");
    }
}

#[tokio::test]
async fn a_peer_that_never_replies_costs_no_more_than_the_budget() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let error = send(&base, Duration::from_secs(1)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(error, Undelivered::Lost("no answer in time".into()));
}
