//! The operator's program in the world in memory: faults and deaths at every call, and whoever else is at work.

mod adopt;
mod balancing;
mod drill;
mod evidence;
mod incident;
mod isolate;
mod late;
mod leftovers;
mod memory;
mod picture;
mod report;
mod restore;
mod revoke;
mod shown;
mod status;

use std::collections::BTreeSet;
use std::time::Duration;

use ec2_isolation::model::{InstanceId, State};
use ec2_isolation::operator::{Address, Operator, RestoreReport, Shell, Site, Trouble as Refusal};
use ec2_isolation::ports::Ports;
use ec2_isolation::timing::clock::Clock;
use ec2_isolation::timing::gate::Gate;
use ec2_isolation::timing::pace::Pace;

use crate::world::{TABLE, World};
use crate::{A, cutting, event, fleet, succeeds, with_everything};

static ALL: BTreeSet<InstanceId> = BTreeSet::new();

type Program = Operator<World, World, World>;

fn operator(world: &World) -> Program {
    static RUN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let run = RUN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Operator {
        ports: Ports { ec2: world.clone(), records: world.clone(), stacks: world.clone() },
        site: Site {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            caller: "arn:aws:iam::123456789012:user/x".into(),
        },
        shell: Shell { region: "us-east-1".into(), profile: None },
        request_id: format!("operator-{run}"),
        clock: Clock::new(*crate::delivery::NOW),
        asked_by: "arn:aws:iam::123456789012:user/x with ec2-isolation restore".into(),
        gate: Gate::new(Duration::from_secs(3600)),
        pace: Pace::default(),
    }
}

fn by_table() -> Address {
    Address::Table(TABLE.to_owned())
}

/// A and B, isolated with everything on by a stack that has rolled back since.
async fn kept() -> World {
    let world = fleet();
    succeeds(&world, cutting(with_everything(event("create")))).await;
    world.set_status("ROLLBACK_IN_PROGRESS");
    succeeds(&world, event("delete")).await;
    assert_eq!(world.state(A), Some(State::Kept));
    world
}

pub async fn try_restore(world: &World, only: &BTreeSet<InstanceId>) -> Result<RestoreReport, Refusal> {
    let program = operator(world);
    let incident = program.incident(&by_table()).await?;
    program.restore(&incident, only, &|_| ()).await
}

async fn restore(world: &World) -> RestoreReport {
    try_restore(world, &ALL).await.expect("it can be read")
}

pub fn named(ids: &[&str]) -> BTreeSet<InstanceId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

/// Nothing of it is left: groups, protections, tags, records.
fn assert_as_at_the_start(world: &World, when: &str) {
    let start = fleet();
    assert_eq!(world.cards(), start.cards(), "{when}");
    assert!(world.data().records.values().all(|record| record.state == State::Restored), "{when}");
    let tagged = world.data().tags.iter().filter(|(id, tags)| !id.starts_with("snap-") && !tags.is_empty()).count();
    assert_eq!(tagged, 0, "{when}");
}

fn reads(action: &str) -> bool {
    ["Describe", "Scan", "List", "Get", "BatchGet"]
        .iter()
        .any(|read| action.split(':').nth(1).unwrap().starts_with(read))
}
