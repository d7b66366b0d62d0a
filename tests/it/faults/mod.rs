//! What goes wrong between the function and AWS: failures, deaths, repeats and late reads, at any call.

mod chaos;
mod every_call;
mod loops;
mod process;
mod rights;
mod stale;
mod twice;
