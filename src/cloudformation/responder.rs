//! The one PUT of an answer to CloudFormation's pre-signed URL. The only file that names reqwest.
//!
//! The URL is a bearer credential: it is in no log line and in no error.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::time::Instant;

use super::answer::Answer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// S3 redirects once, to the bucket's region.
const REDIRECTS: usize = 3;
/// A refusal (a bad signature, an expired URL) is tried once more, then believed.
const REFUSALS: u32 = 2;

/// Why an answer did not arrive. Never holds the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    #[error("the ResponseURL is no usable URL")]
    UnusableUrl,
    #[error("the answer was not accepted: {0}")]
    Lost(String),
}

/// Where the one answer goes. Consumed by sending: there is no second one.
pub trait Reply: Send {
    fn send(self, answer: Answer) -> impl Future<Output = Result<(), Undelivered>> + Send;
}

/// Where one answer goes. Consumed by [`Reply::send`].
#[derive(Debug)]
pub struct Responder {
    client: Client,
    url: String,
    /// How long sending may take, all attempts together.
    budget: Duration,
}

/// The client that every answer of this process is sent with.
///
/// # Errors
/// TLS could not be set up.
pub fn client() -> reqwest::Result<Client> {
    // Refused where one is installed already, which is then as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Only these two send the answer on; after any other a GET would fetch a page and look like success.
    let redirects = Policy::custom(|attempt| match attempt.status().as_u16() {
        307 | 308 if attempt.previous().len() <= REDIRECTS => attempt.follow(),
        _ => attempt.stop(),
    });
    Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ATTEMPT_TIMEOUT).redirect(redirects).build()
}

impl Responder {
    #[must_use]
    pub fn new(client: Client, url: String, budget: Duration) -> Self {
        Self { client, url, budget }
    }
}

impl Reply for Responder {
    async fn send(self, answer: Answer) -> Result<(), Undelivered> {
        let url: Url = self.url.parse().map_err(|_| Undelivered::UnusableUrl)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(Undelivered::UnusableUrl);
        }
        let body = answer.body();
        let deadline = Instant::now() + self.budget;
        let mut pause = FIRST_PAUSE;
        let mut refusals = 0;
        let mut last = "no time was left to send it".to_owned();
        while Instant::now() < deadline {
            let attempt = self.client.put(url.clone()).body(body.clone()).send();
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(response)) if response.status().is_success() => return Ok(()),
                Ok(Ok(response)) => {
                    let status = response.status();
                    last = format!("HTTP status {}", status.as_u16());
                    if !(status.is_server_error() || matches!(status.as_u16(), 408 | 429)) {
                        refusals += 1;
                        if refusals == REFUSALS {
                            break;
                        }
                    }
                }
                Ok(Err(error)) => last = describe(&error),
                Err(_) => last = "no answer in time".to_owned(),
            }
            tracing::warn!(cause = %last, "the answer was not accepted");
            tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
            pause *= 2;
        }
        Err(Undelivered::Lost(last))
    }
}

/// reqwest prints the URL in every error.
fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "could not connect"
    } else {
        "the connection failed"
    };
    what.to_owned()
}
