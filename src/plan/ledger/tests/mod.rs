//! What is done again, what is waited for, what is given up, and what is believed.

mod doubts;
mod steps;
mod writes;

use super::*;
use crate::model::Attribute;
use crate::plan::Aim;
use crate::plan::protections::Change;
use crate::plan::testing::{failure, groups, set_groups};

const PATIENCE: Patience = Patience { for_faults: Duration::from_secs(60), for_permission: Duration::from_secs(20) };

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn plan_of(work: &[Work]) -> Plan {
    Plan { work: work.to_vec(), ..Plan::default() }
}

fn isolate() -> Step {
    set_groups("eni-1", &["sg-150"])
}

fn pass() -> Step {
    let (instance, interface) = ("i-1".parse().unwrap(), "eni-1".parse().unwrap());
    let (through, to) = ("sg-7a5".parse().unwrap(), "sg-150".parse().unwrap());
    Step::Pass {
        instance,
        interface,
        from: groups(&["sg-a"]),
        through,
        hold_seconds: 5,
        to,
        originals: groups(&["sg-a"]),
    }
}

fn request() -> Step {
    Step::RequestSnapshots { instance: "i-1".parse().unwrap(), taken: [].into() }
}

fn take() -> Step {
    let instance = "i-1".parse().unwrap();
    Step::TakeSnapshots { instance, volumes: [].into(), without: [].into(), tags: Default::default() }
}

fn protect(aim: Aim) -> Step {
    let change = Change::Attribute(Attribute::StopProtection(true));
    Step::Protect { instance: "i-1".parse().unwrap(), change, aim }
}

fn outcome(step: &Step, result: Result<(), StepError>) -> Outcome {
    Outcome { step: step.clone(), result, passage: None }
}

fn verdict(ledger: &mut Ledger, step: &Step, seconds: f64) -> &'static str {
    let plan = plan_of(&[Work::only(step.clone())]);
    ledger.note_doubts(&plan, at(seconds));
    let due = ledger.due(&plan, at(seconds), PATIENCE);
    match (due.work.as_slice(), due.waits) {
        ([], true) => "wait",
        ([], false) => "over",
        ([work], false) if *work == Work::only(step.clone()) => "due",
        _ => panic!("{due:?}"),
    }
}
