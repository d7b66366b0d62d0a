//! The local AWS as a process, and everything the tests and the demo do with it: SDK clients, the SAM CLI, its control endpoint.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::Credentials;
use serde::Deserialize;
use serde_json::Value;

/// Where the SAM CLI puts what it built.
pub const BUILT: &str = ".aws-sam/build/template.yaml";

/// A running local AWS. It stops when this is dropped, and when this process ends, however that happens.
#[derive(Debug)]
pub struct Cloud {
    process: Child,
    ready: Ready,
}

#[derive(Debug, Deserialize)]
struct Ready {
    endpoint: String,
    region: String,
    access_key_id: String,
    secret_access_key: String,
}

/// A call that the local AWS saw.
#[derive(Debug, Clone, Deserialize)]
pub struct SeenCall {
    pub n: u64,
    pub action: String,
    #[serde(deserialize_with = "texts")]
    pub parameters: BTreeMap<String, String>,
}

/// Parameters of the query protocols are texts; what else DynamoDB's bodies hold is left out.
fn texts<'de, D: serde::Deserializer<'de>>(parameters: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all = serde_json::Map::deserialize(parameters)?;
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect())
}

/// The responder's client brings its TLS provider.
fn http() -> reqwest::Client {
    ec2_isolation::cloudformation::responder::client().expect("TLS can be set up")
}

impl Cloud {
    /// Starts it and waits until it answers. Its log goes to `log`.
    pub fn start(log: &Path) -> Self {
        let python = "target/venv/cloud/bin/python";
        let mut process = Command::new(python)
            .args(["local-aws/local_aws.py", "--log"])
            .arg(log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {python}: {error}; run `make tools`"));
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("its output can be read");
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the local AWS did not start; see {}", log.display()));
        Self { process, ready }
    }

    async fn sdk_config(&self) -> SdkConfig {
        let key = Credentials::new(&self.ready.access_key_id, &self.ready.secret_access_key, None, None, "local");
        aws_config::defaults(BehaviorVersion::latest())
            .http_client(ec2_isolation::aws::config::http_client())
            .region(Region::new(self.ready.region.clone()))
            .endpoint_url(&self.ready.endpoint)
            .credentials_provider(key)
            .load()
            .await
    }

    pub async fn ec2(&self) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(&self.sdk_config().await)
    }

    pub async fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.sdk_config().await)
    }

    pub async fn cloudformation(&self) -> aws_sdk_cloudformation::Client {
        aws_sdk_cloudformation::Client::new(&self.sdk_config().await)
    }

    /// `PUT /_local/<what>`
    pub async fn set(&self, what: &str, value: &Value) {
        self.put(what, value).await;
    }

    /// The same, and what it answers.
    pub async fn put(&self, what: &str, value: &Value) -> Value {
        self.try_put(what, value).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// The same, or why it was refused.
    pub async fn try_put(&self, what: &str, value: &Value) -> Result<Value, String> {
        let url = format!("{}/_local/{what}", self.ready.endpoint);
        let response = http().put(url).body(value.to_string()).send().await.expect("the local AWS answers");
        let is_done = response.status().is_success();
        let text = response.text().await.expect("a text");
        if is_done { Ok(serde_json::from_str(&text).expect("JSON")) } else { Err(text) }
    }

    /// `GET /_local/<what>`
    pub async fn get(&self, what: &str) -> Value {
        let response =
            http().get(format!("{}/_local/{what}", self.ready.endpoint)).send().await.expect("the local AWS answers");
        serde_json::from_str(&response.text().await.expect("a text")).expect("JSON")
    }

    /// The environment of a program that is to call it.
    pub fn credentials(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("AWS_ENDPOINT_URL", &self.ready.endpoint),
            ("AWS_ACCESS_KEY_ID", &self.ready.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.ready.secret_access_key),
            ("AWS_REGION", &self.ready.region),
        ]
    }

    /// Every call after number `since`.
    pub async fn calls(&self, since: u64) -> Vec<SeenCall> {
        serde_json::from_value(self.get(&format!("calls?since={since}")).await).expect("a list of calls")
    }

    /// The number of the latest call.
    pub async fn now(&self) -> u64 {
        self.calls(0).await.last().map_or(0, |call| call.n)
    }

    /// Runs the SAM CLI against the local AWS: whether it succeeded, and what it printed.
    pub fn sam(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("target/venv/sam/bin/sam")
            .args(arguments)
            .env("AWS_ENDPOINT_URL", &self.ready.endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.ready.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.ready.secret_access_key)
            .env("AWS_DEFAULT_REGION", &self.ready.region)
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("SAM_CLI_TELEMETRY", "0")
            .env("SAM_CLI_POLL_DELAY", "0.5")
            .stdin(Stdio::null())
            .output()
            .expect("target/venv/sam/bin/sam runs; `make tools` installs it");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It stops by itself when its standard input ends.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The built template with changes, written beside it, so that its paths still hold.
pub fn changed_template(name: &str, change: impl Fn(&str) -> String) -> PathBuf {
    let built = std::fs::read_to_string(BUILT).expect("`make build` has been run");
    let path = Path::new(BUILT).with_file_name(format!("template-{name}.yaml"));
    std::fs::write(&path, change(&built)).expect("the build directory can be written");
    path
}
