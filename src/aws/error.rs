//! What the adapters share: how an SDK call is sent, and how its failure becomes a [`CallError`].

use std::future::Future;

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::primitives::DateTime;

use crate::model::Time;
use crate::ports::{Call, CallError, Fault};

/// Codes for "too fast" or "too much at once" beyond those that the SDK knows (EC2 and DynamoDB error code references).
const THROTTLED: [&str; 7] = [
    // Its item is in a transaction that is under way.
    "TransactionConflictException",
    // One set of snapshots per volume and 15 s.
    "SnapshotCreationPerVolumeRateExceeded",
    "ConcurrentSnapshotLimitExceeded",
    "PendingSnapshotLimitExceeded",
    // Another call is changing the tags of the same resource.
    "ConcurrentTagAccess",
    "ResourceInUse",
    // Of EBS's direct APIs.
    "ConcurrentLimitExceededException",
];
/// Codes for "not in this state", which an instance that is starting or ending, or a group that is scaling, leaves by itself.
const BUSY: [&str; 4] = ["IncorrectInstanceState", "IncorrectState", "ScalingActivityInProgress", "ResourceContention"];
/// Codes for "not you".
const DENIED: [&str; 9] = [
    "UnauthorizedOperation",
    "AuthFailure",
    "AccessDenied",
    "AccessDeniedException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "ExpiredToken",
    "ExpiredTokenException",
    "OptInRequired",
];

pub(crate) fn is_throttled(code: &str) -> bool {
    THROTTLING_ERRORS.contains(&code) || THROTTLED.contains(&code)
}

/// What the call whose IAM name is `action` answers. The SDK's futures take kilobytes: on the heap, and only once it is their
/// turn, or each of those that wait holds room for its own.
pub(crate) fn sent<'a, T, E: ProvideErrorMetadata + std::error::Error + 'static>(
    action: &'static str,
    sending: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send + 'a,
) -> impl Future<Output = Call<T>> + Send + 'a {
    let sending = Box::pin(sending);
    async move { sending.await.map_err(|error| call_error(action, &error)) }
}

/// Reads `error`, the failure of the call whose IAM name is `action`.
pub(crate) fn call_error<E: ProvideErrorMetadata + std::error::Error + 'static>(
    action: &'static str,
    error: &SdkError<E, HttpResponse>,
) -> CallError {
    let (fault, code, message) = match error {
        SdkError::TimeoutError(_) => (Fault::TimedOut, "Timeout", "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (Fault::TimedOut, "Timeout", "no connection in time".to_owned())
        }
        // Among them credentials that cannot be had any more.
        SdkError::DispatchFailure(_) => (Fault::Connection, "NoAnswer", innermost(error)),
        SdkError::ResponseError(_) => (Fault::Garbled, "Garbled", "the answer could not be read".to_owned()),
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let message = context.err().message().unwrap_or("no message").to_owned();
            match context.err().code() {
                Some(code) if is_throttled(code) => (Fault::Throttled, code, message),
                Some(code) if TRANSIENT_ERRORS.contains(&code) => (Fault::TimedOut, code, message),
                Some(code) if BUSY.contains(&code) => (Fault::Busy, code, message),
                // No right that may still arrive: EC2 lets only the maker of a requester-managed interface change it.
                Some(code @ "AuthFailure") if message.contains("permission to access the specified resource") => {
                    (Fault::Refused, code, message)
                }
                Some(code) if DENIED.contains(&code) => (Fault::Denied, code, message),
                Some(code) if code.ends_with(".NotFound") => (Fault::Unseen, code, message),
                Some(code) if status < 500 => (Fault::Refused, code, message),
                code if status >= 500 => (Fault::Server, code.unwrap_or("ServerError"), message),
                _ => (Fault::Garbled, "Garbled", format!("HTTP status {status} without an error code")),
            }
        }
        other => (Fault::Refused, "NotSent", innermost(other)),
    };
    CallError { action, fault, code: code.to_owned(), message }
}

/// An answer that lacks what it must have.
pub(crate) fn garbled(action: &'static str, what: impl Into<String>) -> CallError {
    CallError { action, fault: Fault::Garbled, code: "Garbled".to_owned(), message: what.into() }
}

/// Of the SDK's, in whole seconds; nothing before 1970.
pub(crate) fn time(at: &DateTime) -> Option<Time> {
    u64::try_from(at.secs()).ok().map(Time)
}

/// The cause of it all. An answer of AWS is shown as everywhere else: the SDK would print a structure.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    match error.downcast_ref::<ErrorMetadata>() {
        Some(said) => format!("{}: {}", said.code().unwrap_or("Error"), said.message().unwrap_or("no message")),
        None => error.to_string(),
    }
}
