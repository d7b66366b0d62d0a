//! CloudFormation, which calls: its requests, its stacks, the one answer. The only folder that knows it.

pub mod answer;
pub mod event;
pub mod handler;
pub mod properties;
mod rehearsal;
pub mod responder;
pub mod rollback;
pub mod stack;
