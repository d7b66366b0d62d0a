//! The time of day, as records hold it.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

/// Whole seconds since 1970. Shown and read as ISO 8601 UTC: `2026-11-25T03:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// Why a time could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time, as in 2026-11-25T03:00:00Z")]
pub struct MalformedTime(String);

impl Time {
    /// How long it is until `later`; zero if that has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(later.0.saturating_sub(self.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Rounded up.
    fn add(self, time: Duration) -> Self {
        Self(self.0 + time.as_secs() + u64::from(time.subsec_nanos() > 0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.0)).fmt(f)
    }
}

impl FromStr for Time {
    type Err = MalformedTime;

    fn from_str(text: &str) -> Result<Self, MalformedTime> {
        let time = humantime::parse_rfc3339(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        time.map(|since| Self(since.as_secs())).ok_or_else(|| MalformedTime(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_their_text_form_and_order_by_it() {
        let time: Time = "2026-11-25T03:00:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-25T03:00:00Z");
        assert_eq!((time + Duration::from_millis(1)).to_string(), "2026-11-25T03:00:01Z");
        assert_eq!(
            (time.until(Time(time.0 + 5)), Time(time.0 + 5).until(time)),
            (Duration::from_secs(5), Duration::ZERO)
        );
        assert!("yesterday".parse::<Time>().is_err());
    }
}
