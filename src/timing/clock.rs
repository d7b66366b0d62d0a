//! The time of day, which records are stamped with.

use std::time::SystemTime;

use tokio::time::Instant;

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

    /// ISO 8601 UTC, whole seconds.
    #[must_use]
    pub fn now(&self) -> String {
        humantime::format_rfc3339_seconds(self.read + self.at.elapsed()).to_string()
    }
}
