//! AWS: the ports' adapters. The only folder that names an SDK.

pub mod autoscaling;
#[cfg(feature = "operator")]
pub mod balancing;
pub mod cloudformation;
#[cfg(feature = "operator")]
pub mod cloudtrail;
pub mod config;
#[cfg(feature = "operator")]
mod credentials;
pub mod dynamodb;
#[cfg(feature = "operator")]
pub mod ebs;
pub mod ec2;
pub(crate) mod error;
#[cfg(feature = "operator")]
pub mod iam;
#[cfg(feature = "operator")]
pub mod step_functions;
#[cfg(feature = "operator")]
pub mod sts;
