//! The gate that closes when the answer is due.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::ports::{Call, CallError, Fault};

/// Closed once the answer is due: **after the answer no further change is made.**
#[derive(Debug, Clone)]
pub struct Gate {
    closed: watch::Sender<bool>,
    closes_at: Instant,
}

impl Gate {
    /// To be closed after `time`; it does not close by itself.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { closed: watch::Sender::new(false), closes_at: Instant::now() + time }
    }

    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) fn time_left(&self) -> Duration {
        self.closes_at.saturating_duration_since(Instant::now())
    }

    /// Returns when the gate is closed.
    pub async fn closed(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Awaits `work` unless the gate is closed; stops waiting when it closes. On the heap: each one that waits for a
    /// future holds room for it more than once.
    pub fn while_open<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        let mut work = Box::pin(work);
        async move {
            tokio::select! {
                biased;
                () = self.closed() => None,
                done = &mut work => Some(done),
            }
        }
    }

    /// The same for a call.
    pub(crate) fn pass<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Call<T>>,
    ) -> impl Future<Output = Call<T>> {
        let passing = self.while_open(call);
        async move { passing.await.unwrap_or_else(|| Err(out_of_time(action))) }
    }
}

pub(crate) fn out_of_time(action: &'static str) -> CallError {
    CallError {
        action,
        fault: Fault::OutOfTime,
        code: "OutOfTime".to_owned(),
        message: "the time for an answer ran out before this was done".to_owned(),
    }
}
