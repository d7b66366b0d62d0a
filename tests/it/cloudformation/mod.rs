//! What CloudFormation and Lambda see: events, the one answer, and the process that gives it.

mod any_json;
mod bootstrap;
mod protocol;
mod responder;
