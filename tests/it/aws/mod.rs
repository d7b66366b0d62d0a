//! The adapters on the wire: what is asked, how answers are read, and what each fault becomes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_smithy_http_client::test_util::infallible_client_fn;
use ec2_isolation::aws::autoscaling::AutoScaling;
use ec2_isolation::aws::cloudformation::CloudFormation;
use ec2_isolation::aws::dynamodb::Table;
use ec2_isolation::aws::ec2::Ec2;
use ec2_isolation::model::{InstanceId, Owner};
use ec2_isolation::operator::aws::balancing::Balancing;
use ec2_isolation::operator::aws::cloudtrail::CloudTrail;
use ec2_isolation::operator::aws::ebs::Ebs;
use ec2_isolation::operator::aws::iam::Iam;

macro_rules! config {
    ($sdk:ident, $http:expr) => {
        $sdk::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(100)).build())
            .http_client($http)
            .build()
    };
}

// They use the macro above.
mod autoscaling;
mod balancing;
mod cloudformation;
mod disks;
mod drill;
mod dynamodb;
mod ec2;
mod errors;
mod evidence;
mod iam;
mod operator;

pub fn ec2(http: SharedHttpClient) -> Ec2 {
    with_settings(config!(aws_sdk_ec2, http.clone()).to_builder(), http)
}

fn with_settings(settings: aws_sdk_ec2::config::Builder, http: SharedHttpClient) -> Ec2 {
    Ec2::new(settings, AutoScaling(aws_sdk_autoscaling::Client::from_conf(config!(aws_sdk_autoscaling, http))))
}

pub fn table(http: SharedHttpClient) -> Table {
    Table { client: aws_sdk_dynamodb::Client::from_conf(config!(aws_sdk_dynamodb, http)), name: "records".to_owned() }
}

pub fn stacks(http: SharedHttpClient) -> CloudFormation {
    CloudFormation(aws_sdk_cloudformation::Client::from_conf(config!(aws_sdk_cloudformation, http)))
}

pub fn trail(http: SharedHttpClient) -> CloudTrail {
    CloudTrail(aws_sdk_cloudtrail::Client::from_conf(config!(aws_sdk_cloudtrail, http)))
}

pub fn iam(http: SharedHttpClient) -> Iam {
    Iam(aws_sdk_iam::Client::from_conf(config!(aws_sdk_iam, http)))
}

pub fn balancing(http: SharedHttpClient) -> Balancing {
    Balancing(aws_sdk_elasticloadbalancingv2::Client::from_conf(config!(aws_sdk_elasticloadbalancingv2, http)))
}

pub fn blocks(http: SharedHttpClient) -> Ebs {
    Ebs(aws_sdk_ebs::Client::from_conf(config!(aws_sdk_ebs, http)))
}

/// The bodies of the requests so far.
pub type Seen = Arc<Mutex<Vec<String>>>;

/// A client that answers with these, in turn, the last one for ever.
pub fn wire(answers: &[(u16, &str)]) -> (SharedHttpClient, Seen) {
    let seen = Seen::default();
    let (log, answers) =
        (Arc::clone(&seen), answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect::<Vec<_>>());
    let client = infallible_client_fn(move |request| {
        let mut log = log.lock().unwrap();
        let (status, body) = answers[log.len().min(answers.len() - 1)].clone();
        log.push(String::from_utf8(request.body().bytes().unwrap_or_default().to_vec()).unwrap());
        http::Response::builder().status(status).body(body).unwrap()
    });
    (client, seen)
}

fn ids(count: usize) -> BTreeSet<InstanceId> {
    (0..count).map(|n| format!("i-{n:017x}").parse().unwrap()).collect()
}

pub fn owner() -> Owner {
    Owner { stack_id: "arn:aws:cloudformation:r:1:stack/ir/1".into(), logical_id: "Isolation".into() }
}

fn ec2_error(code: &str) -> String {
    format!("<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>")
}
