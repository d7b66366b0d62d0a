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
use crate::aws::cloudformation::CloudFormation;
use crate::aws::dynamodb::Table;
use crate::aws::ec2::Ec2;
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

/// Why the function cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {0} is not set; the template sets it, deploy the stack again")]
pub struct BadSettings(&'static str);

/// The ports for AWS.
pub type Aws = Ports<Ec2, Table, CloudFormation>;

/// Reads the environment and makes the clients. No call is made.
///
/// # Errors
/// A variable is missing.
pub async fn aws() -> Result<Aws, BadSettings> {
    let name = std::env::var(TABLE_NAME).ok().filter(|name| !name.is_empty()).ok_or(BadSettings(TABLE_NAME))?;
    Ok(ports(&loader(http_client()).load().await, name))
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
pub fn ec2(config: &SdkConfig) -> Ec2 {
    let settings = aws_sdk_ec2::config::Builder::from(config).timeout_config(timeouts(EC2_ATTEMPT_TIMEOUT));
    Ec2::new(settings, AutoScaling(aws_sdk_autoscaling::Client::new(config)))
}

pub(crate) fn loader(http: SharedHttpClient) -> ConfigLoader {
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
pub(crate) fn http_client_trusting(certificates: &[String]) -> SharedHttpClient {
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

pub(crate) fn ports(config: &SdkConfig, table: String) -> Aws {
    Ports {
        ec2: ec2(config),
        records: Table { client: aws_sdk_dynamodb::Client::new(config), name: table },
        stacks: CloudFormation(aws_sdk_cloudformation::Client::new(config)),
    }
}
