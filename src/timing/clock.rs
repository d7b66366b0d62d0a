//! The time of day, which records are stamped with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::model::Time;

/// One reading of the time of day, and when it was made: later times follow from it, also under a paused clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    read: SystemTime,
    at: Instant,
}

impl Clock {
    /// `read` is the time now.
    #[must_use]
    pub fn new(read: SystemTime) -> Self {
        Self { read, at: Instant::now() }
    }

    #[must_use]
    pub fn now(&self) -> Time {
        Time((self.read + self.at.elapsed()).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// How long ago it was read.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }
}
