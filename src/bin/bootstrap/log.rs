//! Log lines for CloudWatch: our own at the level that Lambda's `AWS_LAMBDA_LOG_LEVEL` names, everybody else's from
//! warnings up. The runtime and the HTTP clients write events and URLs at their finer levels: **those stay off, whatever is set.**

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub fn init() {
    let level =
        std::env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let targets = Targets::new().with_default(LevelFilter::WARN.min(level));
    // The library's crate, not this one's.
    let targets = targets.with_target("ec2_isolation", level);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_target(false);
    // Fails where a subscriber is set already, which then is the one that counts.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
}
