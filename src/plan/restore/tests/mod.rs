//! What is planned for a recorded instance that is to be restored, as text.

mod interfaces;
mod records;
mod rest;

use super::*;
use crate::model::{Fault, Lease, Time};
use crate::plan::testing::{NOW, World, groups};
use crate::plan::{Goal, Reach};

const BACK: &str = "i-1: restore eni-1 [sg-150] -> [sg-a, sg-b]";
const SHOWS: &str = "? eni-1 shows what it should";

#[track_caller]
fn check(world: &World, expected: &str) {
    let text = world.plan(&Goal::Restore).to_string();
    let mut lines: Vec<&str> = Vec::new();
    // What is remembered as well is a problem once.
    text.lines().for_each(|line| {
        if !lines.contains(&line) {
            lines.push(line)
        }
    });
    assert_eq!(lines.join("\n"), expected);
}

/// What was doubted is read again five seconds later.
fn later(world: &World) -> World {
    world.clone().seen_before(&Goal::Restore)
}

#[track_caller]
fn check_later(world: &World, expected: &str) {
    check(&later(world), expected);
}

#[track_caller]
fn check_standing(world: &World, is_in_place: bool, is_restored: bool) {
    let standing = world.plan(&Goal::Restore).standing;
    assert_eq!((standing.is_in_place, standing.is_restored), (is_in_place, is_restored));
}

/// `i-1` as recorded with `sg-a` and `sg-b`, which exist, and what it shows.
fn recorded(state: State, shown: &[&str]) -> World {
    let world = World::new().plain_group("sg-a").plain_group("sg-b").instance("i-1", &[("eni-1", shown)]);
    world.record("i-1", state, &[("eni-1", &["sg-a", "sg-b"])])
}

fn isolated() -> World {
    recorded(State::Isolated, &["sg-150"])
}

/// It was given its groups by this invocation.
fn back() -> World {
    recorded(State::Restoring, &["sg-a", "sg-b"]).leased().wrote("eni-1", &["sg-a", "sg-b"], Ok(()))
}
