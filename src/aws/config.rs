//! Settings from the environment, and the clients made from them.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_ec2::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};

use crate::aws::autoscaling::AutoScaling;
#[cfg(feature = "operator")]
use crate::aws::balancing::Balancing;
use crate::aws::cloudformation::CloudFormation;
#[cfg(feature = "operator")]
use crate::aws::cloudtrail::CloudTrail;
#[cfg(feature = "operator")]
use crate::aws::credentials::{Personal, certificates};
use crate::aws::dynamodb::Table;
#[cfg(feature = "operator")]
use crate::aws::ebs::Ebs;
use crate::aws::ec2::{self, Ec2};
#[cfg(feature = "operator")]
use crate::aws::iam::Iam;
#[cfg(feature = "operator")]
use crate::aws::step_functions::StepFunctions;
use crate::ports::Ports;

/// The function's one setting.
pub const TABLE_NAME: &str = "SECURITY_GROUP_TABLE_NAME";

/// A new TLS connection from Lambda takes well below a second at 512 MB.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// EC2's describe calls take longer than that in an account with very many of everything. A change of groups has a limit of its
/// own.
const EC2_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Upper bounds all: when the invocation's time is up, `timing::gate` ends whatever call is under way.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);
/// With standard back-off this outlasts four throttled calls in a row.
const ATTEMPTS: u32 = 6;
/// A person waits for the first call, and can repeat it.
#[cfg(feature = "operator")]
const FIRST_ATTEMPTS: u32 = 2;

/// Why the function, or the operator's program, cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    #[error("environment variable {0} is not set; the template sets it, deploy the stack again")]
    Missing(&'static str),
    #[cfg(feature = "operator")]
    #[error("no region is set: give --region, or set AWS_REGION")]
    NoRegion,
    #[cfg(feature = "operator")]
    #[error("the AWS configuration cannot be read: {0}")]
    Files(String),
    #[cfg(feature = "operator")]
    #[error("there is no profile {name} in {places}; choose one with --profile: {others}")]
    NoProfile { name: String, places: String, others: String },
    #[cfg(feature = "operator")]
    #[error("{path} cannot be used as AWS_CA_BUNDLE or ca_bundle: {cause}")]
    Bundle { path: String, cause: String },
    #[cfg(feature = "operator")]
    #[error("there are no credentials: {cause}; {advice}")]
    NoCredentials { cause: String, advice: String },
}

/// The ports for AWS.
pub type Aws = Ports<Ec2, Table, CloudFormation>;

/// Reads the environment and makes the clients. No call is made.
///
/// # Errors
/// A variable is missing.
pub async fn aws() -> Result<Aws, BadSettings> {
    let name =
        std::env::var(TABLE_NAME).ok().filter(|name| !name.is_empty()).ok_or(BadSettings::Missing(TABLE_NAME))?;
    Ok(ports(&loader(http_client()).load().await, name))
}

/// The ports for an operator, with a records table that is still to be named.
#[cfg(feature = "operator")]
#[derive(Debug)]
pub struct Operators {
    pub ports: Aws,
    pub trail: CloudTrail,
    pub iam: Iam,
    pub blocks: Ebs,
    pub balancing: Balancing,
    pub answers: StepFunctions,
    /// Says who it is.
    pub identity: aws_sdk_sts::Client,
    pub region: String,
}

/// The ports for an operator.
///
/// # Errors
/// There is no such profile, no region, or there are no credentials.
#[cfg(feature = "operator")]
pub async fn operator(region: Option<String>, profile: Option<String>) -> Result<Operators, BadSettings> {
    let personal = Personal::read(profile.clone()).await?;
    let certificates = personal.ca_bundle().map_or_else(|| Ok(Vec::new()), |path| certificates(&path))?;
    let mut loader = loader(http_client_trusting(&certificates));
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = region {
        loader = loader.region(aws_config::Region::new(region));
    }
    let config = loader.load().await;
    let region = config.region().map(ToString::to_string).ok_or(BadSettings::NoRegion)?;
    let config = personal.log_in(config).await?;
    let identity = aws_sdk_sts::config::Builder::from(&config);
    let identity = identity.retry_config(RetryConfig::standard().with_max_attempts(FIRST_ATTEMPTS)).build();
    Ok(Operators {
        ports: ports(&config, String::new()),
        trail: CloudTrail(aws_sdk_cloudtrail::Client::new(&config)),
        iam: Iam(aws_sdk_iam::Client::new(&config)),
        blocks: Ebs(aws_sdk_ebs::Client::new(&config)),
        balancing: Balancing(aws_sdk_elasticloadbalancingv2::Client::new(&config)),
        answers: StepFunctions(aws_sdk_sfn::Client::new(&config)),
        identity: aws_sdk_sts::Client::from_conf(identity),
        region,
    })
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// EC2 with the time that it may take.
#[must_use]
pub fn ec2_client(config: &SdkConfig) -> aws_sdk_ec2::Client {
    ec2::client(aws_sdk_ec2::config::Builder::from(config).timeout_config(timeouts(EC2_ATTEMPT_TIMEOUT)))
}

fn loader(http: SharedHttpClient) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts(ATTEMPT_TIMEOUT))
}

/// One for all services: the roots that it trusts are read and parsed once. Proxies are those of the environment, as with the
/// SDK's own.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    http_client_trusting(&[])
}

/// One that also trusts these certificates, each readable and in PEM format.
fn http_client_trusting(certificates: &[String]) -> SharedHttpClient {
    let mut roots = TrustStore::default();
    for certificate in certificates {
        roots.add_pem_certificate(certificate.as_bytes());
    }
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::Ring));
        if let Ok(context) = TlsContext::builder().with_trust_store(roots.clone()).build() {
            connector.set_tls_context(context);
        }
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    })
}

fn ports(config: &SdkConfig, table: String) -> Aws {
    Ports {
        ec2: Ec2 { client: ec2_client(config), scaling: AutoScaling(aws_sdk_autoscaling::Client::new(config)) },
        records: Table { client: aws_sdk_dynamodb::Client::new(config), name: table },
        stacks: CloudFormation(aws_sdk_cloudformation::Client::new(config)),
    }
}
