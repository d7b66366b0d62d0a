//! Isolates compromised EC2 instances for CloudFormation, and restores them.
//!
//! One custom resource is one incident. Its Create and Update put every network interface of the listed instances into an
//! isolation group, after saving the groups they had; its Delete gives every interface exactly those groups back.
//!
//! ```text
//! event ── handler ── reconcile ── converge ─┬─ look (phases, ports) ── plan ──┐
//!            │                               └──────── execute (ports) ────────┘  until the plan is empty
//!            └─ answer ── responder ── CloudFormation
//! ```
//!
//! `operator`, the program for when the stack, the function or its role are gone, restores by the same loop with an operator's
//! own credentials; it is compiled with the feature of that name only.
//!
//! **Containment is never undone by accident, never claimed without being read back, and never lost track of:**
//!
//! - **Nothing is changed that is not recorded before.** A record's originals are never overwritten.
//! - **Success is claimed for what was read back only**: the plan over the read-back is empty.
//! - **One instance that fails does not stop the others**, and nothing isolated is undone because of it.
//! - **A Delete restores only when the stack itself is being deleted**; a rollback leaves everything isolated.
//! - **Every event gets exactly one answer** before its deadline, and after the answer nothing is changed.
//! - **The response URL and the raw event are never logged.**
//!
//! `event`, `answer`, `model` and `plan` are pure: no SDK, no clock, no I/O.

pub mod model;
pub mod plan;
pub mod ports;
pub mod timing;

pub mod converge;
pub mod execute;
mod inspect;
mod phases;
pub mod reconcile;
mod rehearse;
pub mod report;

pub mod cloudformation;

pub mod aws;

#[cfg(feature = "operator")]
pub mod operator;
