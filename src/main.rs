//! The Lambda function.

use ec2_isolation::{config, lambda, log};

fn main() -> Result<(), lambda_runtime::Error> {
    log::init();
    lambda::run(config::aws())
}
