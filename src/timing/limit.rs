//! Work that ends when its time is up, whatever it does.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::gate::Gate;
use crate::model::short_digest;

/// What the work may take to stop and say how far it came once the time is up.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// Used where Lambda gives no usable deadline (`cargo lambda watch` says 1970).
const DEFAULT_TIME: Duration = Duration::from_secs(60);
/// No Lambda function runs longer.
const LONGEST_TIME: Duration = Duration::from_secs(900);

/// Why work has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    #[error("internal error, please report it: {0}")]
    Panicked(String),
    #[error("the time for an answer ran out while a call was under way")]
    OutOfTime,
}

/// Does work on `worker`, and has its result at the latest after `time + grace`. The gate closes after `time`: from there on the work
/// changes nothing and says how far it came.
///
/// # Errors
/// It panicked, or took longer.
pub async fn within<T: Send + 'static>(
    worker: &Handle,
    gate: &Gate,
    (time, grace): (Duration, Duration),
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Unfinished> {
    let mut task = worker.spawn(work);
    let first = tokio::select! {
        biased;
        result = &mut task => Some(result),
        () = tokio::time::sleep(time) => None,
    };
    let result = match first {
        Some(result) => Ok(result),
        None => {
            tracing::warn!("the time is up");
            gate.close();
            tokio::time::timeout(grace, &mut task).await
        }
    };
    match result {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            gate.close();
            Err(Unfinished::Panicked(panic_text(error)))
        }
        Err(_) => {
            task.abort();
            Err(Unfinished::OutOfTime)
        }
    }
}

fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned()),
        Err(error) => error.to_string(),
    }
}

/// The time until Lambda ends the invocation. A deadline of zero or in the past, in milliseconds since the epoch, means that it is
/// not known.
pub(crate) fn time_left(deadline_ms: u64, now: SystemTime) -> Duration {
    let deadline = UNIX_EPOCH + Duration::from_millis(deadline_ms);
    match deadline.duration_since(now) {
        Ok(left) if !left.is_zero() => left.min(LONGEST_TIME),
        _ => DEFAULT_TIME,
    }
}

/// Names one invocation: two deliveries of one request, at once or one after the other, are two.
pub(crate) fn writer(request_id: &str) -> String {
    static INVOCATIONS: AtomicU64 = AtomicU64::new(0);
    let count = INVOCATIONS.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    short_digest(&format!("{request_id}|{}|{count}|{now}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_of_zero_or_in_the_past_is_not_known() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(time_left(0, now), DEFAULT_TIME);
        assert_eq!(time_left(600_000, now), DEFAULT_TIME);
        assert_eq!(time_left(1_000_030_000, now), Duration::from_secs(30));
        assert_eq!(time_left(u64::MAX / 2, now), LONGEST_TIME);
    }
}
