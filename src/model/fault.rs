//! How a call failed.

/// How a call failed, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `RequestLimitExceeded` and its kin: for a change of groups at once, else after the SDK's own retries.
    Throttled,
    /// HTTP 5xx.
    Server,
    /// The connection could not be made, or was lost.
    Connection,
    /// No answer within the time allowed.
    TimedOut,
    /// IAM does not permit it.
    Denied,
    /// Refused in the state the resource is in: an instance that is starting or ending.
    Busy,
    /// Refused because something is not there (`…NotFound`): a reading like any other, which may trail what is.
    Unseen,
    /// Any other refusal: it will be refused again.
    Refused,
    /// An answer that could not be read.
    Garbled,
    /// Not sent: the answer is due.
    OutOfTime,
}

impl Fault {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn may_pass(self) -> bool {
        let is_trouble = matches!(self, Self::Server | Self::Connection | Self::TimedOut | Self::Garbled);
        is_trouble || matches!(self, Self::Throttled | Self::Busy | Self::Unseen)
    }

    /// Whether a change that failed so was certainly not made.
    #[must_use]
    pub fn is_without_effect(self) -> bool {
        matches!(self, Self::Throttled | Self::Denied | Self::Busy | Self::Unseen | Self::Refused)
    }
}

/// A failed call. `action` is its IAM name, as in `ec2:DescribeInstances`; `code` is AWS's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{action} failed: {code}: {message}")]
pub struct CallError {
    pub action: &'static str,
    pub fault: Fault,
    pub code: String,
    pub message: String,
}
