//! Isolation: from a request to instances in the isolation group, with their connections cut if that is asked for.

mod beside;
mod endings;
mod group;
mod instances;
mod interfaces;
mod lifecycle;
mod listings;
mod moved;
mod numbers;
mod readings;
mod rivals;
mod said;
mod sizes;
pub mod tags;
mod transit;
mod unseen;
mod vpcs;
