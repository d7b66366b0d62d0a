//! Several requests for one instance: invocations that overlap, and stacks that want the same.

mod deliveries;
mod late;
mod ownership;
