//! What is planned for an instance to isolate, as text.

mod groups;
mod holders;
mod moved;
mod preserve;
mod records;
mod transit;

use super::*;
use crate::plan::testing::{World, wants};
use crate::plan::{Goal, Outcome, Passage};

/// Isolation and tags, nothing else.
fn bare() -> Wants {
    Wants { snapshot_volumes: false, protect: false, ..wants(&["i-1"]) }
}

/// The same through `sg-7a5`.
fn cutting() -> Wants {
    Wants { cut_connections: true, transit_group: Some("sg-7a5".parse().unwrap()), ..bare() }
}

fn plan_for(world: &World, wants: &Wants) -> Plan {
    world.plan(&Goal::Isolate(wants))
}

/// The text of the plan without tags.
#[track_caller]
fn check_for(world: &World, wants: &Wants, expected: &str) {
    let text = plan_for(world, wants).to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("tag ")).collect();
    assert_eq!(lines.join("\n"), expected);
}

#[track_caller]
fn check(world: &World, expected: &str) {
    check_for(world, &bare(), expected);
}

#[track_caller]
fn check_cut(world: &World, expected: &str) {
    check_for(world, &cutting(), expected);
}

/// What was doubted is read again five seconds later.
#[track_caller]
fn check_later(world: &World, wants: &Wants, expected: &str) {
    check_for(&world.clone().seen_before(&Goal::Isolate(wants)), wants, expected);
}

/// `i-1` in a group of its own, without a record.
fn open() -> World {
    World::new().instance("i-1", &[("eni-1", &["sg-a"])])
}

/// `i-1` with a record that says `sg-a`, and what it shows.
fn recorded(state: State, shown: &[&str]) -> World {
    World::new().instance("i-1", &[("eni-1", shown)]).record("i-1", state, &[("eni-1", &["sg-a"])])
}

/// The same with the stack's transit group, which the record knows, under a lease of this invocation.
fn cut(state: State, shown: &[&str]) -> World {
    let world = recorded(state, shown).transit_group("sg-7a5").leased();
    world.saved_with(|record| _ = record.isolation_groups.insert("sg-7a5".parse().unwrap()))
}

fn record_of(plan: &Plan) -> &Originals {
    let recorded = plan.steps().find_map(|step| match step {
        Step::Record(originals) => Some(originals),
        _ => None,
    });
    recorded.expect("a record")
}

/// What became of the passage of `eni-1`, and of its groups.
fn passed(mut world: World, passage: Passage, is_ok: bool) -> World {
    let outside = cut(State::Isolating, &["sg-a"]);
    let step = plan_for(&outside, &cutting()).steps().next().unwrap().clone();
    assert!(matches!(step, Step::Pass { .. }), "{step}");
    let result = if is_ok { Ok(()) } else { Err(crate::plan::testing::failure(crate::model::Fault::Server)) };
    world.ledger.learn(&Outcome { step, result, passage: Some(passage) }, crate::plan::testing::NOW.elapsed);
    world
}

fn ids(interfaces: &BTreeSet<InterfaceId>) -> String {
    crate::model::comma_list(interfaces)
}

/// Which interfaces are isolated, and which are open.
#[track_caller]
fn check_standing(world: &World, wants: &Wants, isolated: &str, open: &str) {
    let standing = plan_for(world, wants).standing;
    assert_eq!((ids(&standing.isolated), ids(&standing.open)), (isolated.to_owned(), open.to_owned()));
    assert_eq!(standing.is_whole(), open.is_empty() && !isolated.is_empty());
}
