//! The Lambda function.

mod log;

use ec2_isolation::aws::config;
use ec2_isolation::lambda;

fn main() -> Result<(), lambda_runtime::Error> {
    log::init();
    lambda::run(config::aws())
}
