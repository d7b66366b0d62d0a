//! Isolates compromised EC2 instances for CloudFormation, and restores them.
//!
//! One custom resource is one incident. Its Create and Update put every network interface of the listed instances into an
//! isolation group, after saving the groups they had; its Delete gives every interface exactly those groups back.
//!
//! ```text
//! event ── handler ── reconcile ── each instance: ┌─ observe ── plan ── execute ─┐   until its plan is empty
//!            │            │                       └──────────────────────────────┘
//!            │            └─ last look: all of them once more, an instance that is not right goes back into its loop
//!            └─ answer ── responder ── CloudFormation
//! ```
//!
//! The modules stand in layer order, lowest first: an import goes to an earlier line only.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | the nouns: ids, what EC2 shows, what is wanted, what is recorded |
//! | [`plan`] | the decisions for one instance, pure: what is to be done, what stands in the way, what is doubted |
//! | [`ports`] | what the core asks of the world |
//! | [`timing`] | when the answer is due, EC2's pace, the time of day, calls that are shared |
//! | [`observe`] | the batched reads that a plan is made from |
//! | [`execute`] | a step becomes a call; the passage of one interface |
//! | [`reconcile`] | the loop of one instance, all of them side by side, the last look, the report |
//! | [`metrics`] | the figures in the log |
//! | [`cloudformation`] | the trigger: event, answer, rollback |
//! | [`watch`] | the other trigger: what is not as it should be between two requests |
//! | [`aws`] | the adapters |
//! | [`lambda`] | the function's process, which both triggers call |
//! | `operator` | the program for when stack, function or role are gone, with an operator's credentials and the same loop |
//!
//! What only the program asks of the world is in `operator::ports`, with its adapters in `operator::aws`.
//!
//! **Containment is never undone by accident, never claimed without being read back, and never lost track of:**
//!
//! - **Nothing is changed that is not recorded before.** A record's originals are never overwritten.
//! - **Success is claimed for what was read back only**: the plan over the read-back is empty.
//! - **One reading that shows nothing decides nothing**: it is believed when it is read again.
//! - **Nothing is isolated for a request that has been overtaken**: what was asked last is what is.
//! - **One instance that fails costs the others nothing**, and nothing isolated is undone because of it.
//! - **A Delete restores only when the stack itself is being deleted**; a rollback leaves everything isolated.
//! - **Every event gets exactly one answer** before its deadline, and after the answer nothing is changed.
//! - **The response URL and the raw event are never logged.**

pub mod model;

pub mod plan;

pub mod ports;

pub mod timing;

pub mod observe;

pub mod execute;

pub mod reconcile;

pub mod metrics;

pub mod cloudformation;

pub mod watch;

pub mod aws;

pub mod lambda;

#[cfg(feature = "operator")]
pub mod operator;
