//! EC2's adapter; Auto Scaling's does its part. Only this folder and the program's part of it name its operations.

pub(crate) mod change;
pub(crate) mod read;

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Builder;
use aws_sdk_ec2::config::interceptors::InterceptorContext;
use aws_sdk_ec2::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::operation::modify_network_interface_attribute::ModifyNetworkInterfaceAttributeError;

use crate::aws::autoscaling::AutoScaling;
use crate::aws::error::{garbled, is_throttled};
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
    pub scaling: AutoScaling,
}

/// The client for [`Ec2`].
#[must_use]
pub fn client(settings: Builder) -> Client {
    Client::from_conf(settings.retry_classifier(NotWhenThrottled).build())
}

/// Keeps the SDK from repeating a change of groups that EC2 throttled: the caller does, in its turn.
#[derive(Debug)]
struct NotWhenThrottled;

impl ClassifyRetry for NotWhenThrottled {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(|result| result.err()?.as_operation_error());
        let code = error.and_then(|error| error.downcast_ref::<ModifyNetworkInterfaceAttributeError>()?.code());
        if code.is_some_and(is_throttled) { RetryAction::RetryForbidden } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "not when throttled"
    }
}

fn chunks<T: ToString>(values: &BTreeSet<T>, size: usize) -> Vec<Vec<String>> {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.chunks(size).map(<[String]>::to_vec).collect()
}

pub(crate) fn id<T: std::str::FromStr>(action: &'static str, what: &str, text: Option<&str>) -> Call<T> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| garbled(action, format!("{what} {text:?} is no id")))
}
