//! EC2's adapter; Auto Scaling's does its part. Only this folder and the program's part of it name its operations.

pub(crate) mod change;
pub(crate) mod read;

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Builder;
use aws_sdk_ec2::config::retry::RetryConfig;

use crate::aws::autoscaling::AutoScaling;
use crate::aws::error::garbled;
use crate::ports::Call;

/// The code for an instance that was terminated an hour ago, or never was.
pub(crate) const NO_INSTANCE: &str = "InvalidInstanceID.NotFound";
/// A describe request allows 5 to 1,000 (`MaxResults`, EC2 API reference).
pub(crate) const PAGE: i32 = 1000;

/// Everything that a describe request finds, over all pages.
macro_rules! found {
    ($action:expr, $request:expr) => {{
        let items = $request.into_paginator().page_size($crate::aws::ec2::PAGE).items().send().try_collect().await;
        items.map_err(|error| $crate::aws::error::call_error($action, &error))
    }};
}
pub(crate) use found;

#[derive(Debug, Clone)]
pub struct Ec2 {
    pub client: Client,
    changes: Client,
    scaling: AutoScaling,
}

impl Ec2 {
    /// **The SDK repeats no change**: it does not know whether that is still wanted. The loop of an instance repeats it in its turn.
    #[must_use]
    pub fn new(settings: Builder, scaling: AutoScaling) -> Self {
        let once = settings.clone().retry_config(RetryConfig::disabled());
        Self { client: Client::from_conf(settings.build()), changes: Client::from_conf(once.build()), scaling }
    }
}

fn chunks<T: ToString>(values: &BTreeSet<T>, size: usize) -> Vec<Vec<String>> {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.chunks(size).map(<[String]>::to_vec).collect()
}

pub(crate) fn id<T: std::str::FromStr>(action: &'static str, what: &str, text: Option<&str>) -> Call<T> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| garbled(action, format!("{what} {text:?} is no id")))
}
