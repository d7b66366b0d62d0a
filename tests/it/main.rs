//! Whole invocations against a world in memory, the adapters on the wire, the answer on a socket, and the shape of the source.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test fails by panicking.

mod aws;
mod cloudformation;
mod delivery;
mod dry_run;
mod faults;
mod host;
mod house;
mod isolate;
mod operator;
mod overlap;
mod program;
mod protect;
mod restore;
#[path = "../support/runtime.rs"]
#[allow(dead_code)] // The stack tests use all of it.
mod runtime;
#[path = "../support/ssh.rs"]
mod ssh;
mod template;
#[path = "../support/terminal.rs"]
#[allow(dead_code)] // The tests of the stack use all of it.
mod terminal;
mod watch;
#[path = "../support/words.rs"]
mod words;
mod world;

use delivery::*;
