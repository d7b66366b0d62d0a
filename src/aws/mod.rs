//! AWS: the ports' adapters. Only this folder and the program's `operator::aws` name an SDK.

pub mod autoscaling;
pub mod cloudformation;
pub mod config;
pub mod dynamodb;
pub mod ec2;
pub(crate) mod error;
