//! The function's process with ports that panic or take their thread: the same runtimes and the same loop as in Lambda.
//!
//! The process is this test program itself, started once more to run [`the_function`] alone.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::runtime::{Function, Surroundings};
use crate::world::{Trouble, World};
use crate::{event, fleet};

/// Says which trouble the function in the other process has at its first call; without it that test has nothing to do.
const TROUBLE: &str = "TROUBLE_AT_THE_FIRST_CALL";

#[test]
fn the_function() {
    let Ok(trouble) = std::env::var(TROUBLE) else { return };
    let trouble = if trouble == "panics" { Trouble::Panics } else { Trouble::Blocks };
    let ports = async {
        let world: World = fleet();
        world.data().troubles.insert(1, trouble);
        Ok::<_, String>(std::sync::Arc::into_inner(world.ports()).expect("nobody else has it"))
    };
    ec2_isolation::lambda::run(ports).expect("it runs until it is killed");
}

fn start(surroundings: &Surroundings, trouble: &str) -> Function {
    let mut program = Command::new(std::env::current_exe().expect("a program has a path"));
    program.args(["--exact", "faults::process::the_function", "--nocapture"]);
    surroundings.start_program(program, &[(TROUBLE, trouble)])
}

/// Delivers a Create that meets the trouble and one that does not, and returns both answers.
async fn two_creates(trouble: &str, time: Duration) -> [Value; 2] {
    let surroundings = Surroundings::new().await;
    let mut function = start(&surroundings, trouble);
    let create = |request: &str| {
        let mut create = event("create");
        create["RequestId"] = json!(request);
        create["ResponseURL"] = json!(surroundings.response_url(request));
        create
    };
    let started = Instant::now();
    surroundings.deliver(&create("first"), time);
    surroundings.ended(1).await;
    assert!(started.elapsed() < time, "{:?}", started.elapsed());
    surroundings.deliver(&create("second"), Duration::from_secs(60));
    let answers = surroundings.ended(2).await;
    assert!(function.is_running());
    assert_eq!(answers.len(), 2, "one answer each");
    assert!(surroundings.done().iter().all(|(_, succeeded)| *succeeded));
    let answers = [answers[0].json(), answers[1].json()];
    assert_eq!((&answers[0]["RequestId"], &answers[1]["RequestId"]), (&json!("first"), &json!("second")));
    answers
}

#[tokio::test]
async fn a_panic_is_answered_and_the_process_lives_on() {
    let [first, second] = two_creates("panics", Duration::from_secs(30)).await;
    assert_eq!(first["Status"], "FAILED");
    assert!(
        first["Reason"].as_str().unwrap().starts_with("internal error, please report it: a test wants it."),
        "{first}"
    );
    assert_eq!(second["Status"], "SUCCESS", "{second}");
}

#[tokio::test]
async fn work_that_takes_its_thread_is_answered_in_time_and_the_process_lives_on() {
    let [first, second] = two_creates("blocks", Duration::from_secs(4)).await;
    assert_eq!(first["Status"], "FAILED");
    assert!(
        first["Reason"].as_str().unwrap().starts_with("the time for an answer ran out while a call was under way."),
        "{first}"
    );
    assert_eq!(second["Status"], "SUCCESS", "{second}");
}
