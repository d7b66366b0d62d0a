//! EC2's token buckets, as far as we know what is left in them: a call that would be throttled waits instead.
//!
//! EC2 counts calls by action, for the whole account and region (EC2 Developer Guide, "Request throttling"). The sizes
//! here are those of an account that never asked AWS for more, and other programs may have emptied a bucket: what
//! cannot wait goes by what EC2 says instead ([`Pace::urgent_turn`]), and the loop of each instance tries again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Tokens at the start, and how many come back in a second, of what differs from [`CHANGES`].
const BUCKETS: [(&str, f64, f64); 4] = [
    ("ec2:CreateTags", 100.0, 10.0),
    ("ec2:DeleteTags", 100.0, 10.0),
    ("ec2:ModifyInstanceAttribute", 50.0, 5.0),
    ("ec2:DescribeInstanceAttribute", 100.0, 20.0),
];
/// The same of every other change.
const CHANGES: (f64, f64) = (100.0, 5.0);

/// EC2 counts a call when it arrives, and the first one arrives late: it opens the connection. Without this much time in
/// hand every second call at the limit is refused, and each retry takes the token of another (benches/tried.md).
const SLACK: f64 = 0.3;

/// What a timer can tell apart.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
    /// EC2 has said that it is empty: from then on it is as we think it is.
    is_known: bool,
}

/// Full at the start of an invocation, but for the slack.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<&'static str, Bucket>>);

impl Pace {
    /// Returns when it is this call's turn. The first to ask goes first.
    pub async fn turn(&self, action: &'static str) {
        tokio::time::sleep(self.reserve(action)).await;
    }

    /// Takes a turn, without waiting for it: when it is.
    pub fn reserve(&self, action: &'static str) -> Duration {
        self.take(action, |_| f64::NEG_INFINITY).unwrap_or_default()
    }

    /// The same for a call that is worth a refusal: it waits only once EC2 has refused one.
    pub async fn urgent_turn(&self, action: &'static str) {
        let least = |bucket: &Bucket| if bucket.is_known { f64::NEG_INFINITY } else { 1.0 };
        let wait = self.take(action, least).unwrap_or_default();
        tokio::time::sleep(wait).await;
    }

    /// EC2 had no token for such a call.
    pub fn refused(&self, action: &'static str) {
        self.with(action, |bucket, rate| {
            bucket.tokens = bucket.tokens.min(-rate * SLACK);
            bucket.is_known = true;
        });
    }

    /// Takes a token if there is one; else says when there may be.
    pub fn try_turn(&self, action: &'static str) -> Result<(), Duration> {
        self.take(action, |_| 1.0).map(|_| ())
    }

    /// Takes a token if at least `least` are there, which may be less than none: how long it is until the token taken is
    /// a real one, or until there are as many as that.
    fn take(&self, action: &'static str, least: impl FnOnce(&Bucket) -> f64) -> Result<Duration, Duration> {
        let taken = self.with(action, |bucket, rate| {
            let least = least(bucket);
            if bucket.tokens < least {
                // Rounded down to nothing it would be asked for again at once.
                return Err(Duration::from_secs_f64((least - bucket.tokens) / rate).max(TICK));
            }
            bucket.tokens -= 1.0;
            Ok(Duration::from_secs_f64((-bucket.tokens).max(0.0) / rate))
        });
        taken.unwrap_or(Ok(Duration::ZERO))
    }

    /// Works on the bucket as it is now, where the action has one of its own.
    fn with<T>(&self, action: &'static str, work: impl FnOnce(&mut Bucket, f64) -> T) -> Option<T> {
        let named = BUCKETS.iter().find(|(name, ..)| *name == action).map(|(_, size, rate)| (*size, *rate));
        let is_change = action.starts_with("ec2:") && !action.starts_with("ec2:Describe");
        let (size, rate) = named.or(is_change.then_some(CHANGES))?;
        let size = size - rate * SLACK;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let bucket = buckets.entry(action).or_insert(Bucket { tokens: size, filled_at: now, is_known: false });
        bucket.tokens = size.min(bucket.tokens + rate * (now - bucket.filled_at).as_secs_f64());
        bucket.filled_at = now;
        Some(work(bucket, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";

    #[tokio::test(start_paused = true)]
    async fn almost_a_hundred_go_at_once_and_five_a_second_after_that() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..98 {
            pace.turn(SWAP).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Two more make a hundred, all of which EC2 would take at once: the slack.
        for _ in 0..2 + 10 {
            pace.turn(SWAP).await;
        }
        let elapsed = start.elapsed().as_secs_f64();
        assert!((2.29..2.32).contains(&elapsed), "{elapsed}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_only_tries_goes_behind_those_who_wait() {
        let pace = Pace::default();
        for _ in 0..98 {
            assert_eq!(pace.try_turn(SWAP), Ok(()));
        }
        let waiting = pace.turn(SWAP);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        // Half a token was left, and the one that waits has taken a whole one.
        assert_eq!(pace.try_turn(SWAP), Err(Duration::from_millis(300)));
        waiting.await;
        assert!(pace.try_turn(SWAP).is_err());
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(pace.try_turn(SWAP), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_tries_when_a_token_is_all_but_there_is_told_to_wait_for_as_long_as_can_be_waited() {
        let pace = Pace::default();
        for _ in 0..98 {
            assert_eq!(pace.try_turn(SWAP), Ok(()));
        }
        pace.with(SWAP, |bucket, _| bucket.tokens = 1.0 - 1e-12);
        assert_eq!(pace.try_turn(SWAP), Err(Duration::from_millis(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_urgent_waits_only_once_ec2_has_refused_it() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..150 {
            pace.urgent_turn(SWAP).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        // What was taken beyond the bucket is no debt: EC2 took it, so it had it.
        assert_eq!(pace.try_turn(SWAP), Err(Duration::from_millis(100)));
        // Twenty were under way when the first was refused; each of them waits for a turn of its own.
        for n in 1..=20 {
            pace.refused(SWAP);
            pace.urgent_turn(SWAP).await;
            let (elapsed, expected) = (start.elapsed().as_secs_f64(), 0.5 * f64::from(n));
            assert!((expected - 0.01..expected + 0.04).contains(&elapsed), "{n}: {elapsed}");
        }
        pace.urgent_turn(SWAP).await;
        assert!(start.elapsed() >= Duration::from_millis(10_190), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_refused_together_take_turns() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..20 {
            pace.refused(SWAP);
        }
        futures_util::future::join_all((0..20).map(|_| pace.urgent_turn(SWAP))).await;
        let elapsed = start.elapsed().as_secs_f64();
        assert!((4.29..4.32).contains(&elapsed), "{elapsed}");
        assert_eq!(pace.try_turn("dynamodb:PutItem"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_never_holds_more_than_its_size() {
        let (pace, start) = (Pace::default(), Instant::now());
        pace.turn(SWAP).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        for _ in 0..101 {
            pace.turn(SWAP).await;
        }
        let elapsed = start.elapsed().as_secs_f64() - 3600.0;
        assert!((0.49..0.52).contains(&elapsed), "{elapsed}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_bucket_of_its_own_never_waits() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..1000 {
            pace.turn("dynamodb:PutItem").await;
            pace.turn("ec2:DescribeInstances").await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
