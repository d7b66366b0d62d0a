//! The adapters that only the program uses; those that the function uses as well are in `crate::aws`.

pub mod balancing;
mod cloudformation;
pub mod cloudtrail;
pub mod config;
mod credentials;
mod dynamodb;
pub mod ebs;
mod ec2;
pub mod iam;
pub mod step_functions;
pub mod sts;
