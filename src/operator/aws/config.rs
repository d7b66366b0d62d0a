//! The clients for an operator, made from the settings of the AWS CLI.

use aws_config::Region;
use aws_config::retry::RetryConfig;

use crate::aws::config::{Aws, http_client_trusting, loader, ports};
use crate::operator::aws::balancing::Balancing;
use crate::operator::aws::cloudtrail::CloudTrail;
use crate::operator::aws::credentials::{Personal, certificates};
use crate::operator::aws::ebs::Ebs;
use crate::operator::aws::iam::Iam;
use crate::operator::aws::step_functions::StepFunctions;

/// A person waits for the first call, and can repeat it.
const FIRST_ATTEMPTS: u32 = 2;

/// Why the program cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    #[error("no region is set: give --region, or set AWS_REGION")]
    NoRegion,
    #[error("the AWS configuration cannot be read: {0}")]
    Files(String),
    #[error("there is no profile {name} in {places}; choose one with --profile: {others}")]
    NoProfile { name: String, places: String, others: String },
    #[error("{path} cannot be used as AWS_CA_BUNDLE or ca_bundle: {cause}")]
    Bundle { path: String, cause: String },
    #[error("there are no credentials: {cause}; {advice}")]
    NoCredentials { cause: String, advice: String },
}

/// The ports for an operator, with a records table that is still to be named.
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
pub async fn operator(region: Option<String>, profile: Option<String>) -> Result<Operators, BadSettings> {
    let personal = Personal::read(profile.clone()).await?;
    let certificates = personal.ca_bundle().map_or_else(|| Ok(Vec::new()), |path| certificates(&path))?;
    let mut loader = loader(http_client_trusting(&certificates));
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
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
