//! The operator's program: the way in, and the way out when the stack, the function or its role are gone.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 something failed or stays isolated,
//! 2 usage, 3 refused (wrong account or region, no credentials, not found, ambiguous, not confirmed): nothing was changed; 4 something
//! that is to be isolated is open.

mod approval;
mod args;
mod commands;
mod drill;
mod evidence;
mod manual;
mod memory;
mod progress;
mod report;
mod revoke;

use std::process::ExitCode;

use clap::Parser as _;
use commands::Outcome;
use ec2_isolation::operator::{Trouble, fit_into};

const FAILED: u8 = 1;
const REFUSED: u8 = 3;
const OPEN: u8 = 4;

/// Of the terminal, if there is one: `COLUMNS` if a person has set it.
fn terminal_columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    told.unwrap_or_else(textwrap::termwidth)
}

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    progress::init();
    fit_into(terminal_columns());
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            progress::say(format_args!("no thread can be started: {error}"));
            return FAILED.into();
        }
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => FAILED.into(),
        Ok(Outcome::Open) => OPEN.into(),
        Err(trouble) => {
            progress::complain(&trouble);
            match trouble {
                Trouble::Refused(_) => REFUSED.into(),
                Trouble::Open(_) => OPEN.into(),
                Trouble::Failed { .. } => FAILED.into(),
            }
        }
    }
}
