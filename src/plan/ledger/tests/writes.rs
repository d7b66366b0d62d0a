//! What this invocation wrote, as far as it knows.

use super::*;
use crate::plan::testing::{World, wants};
use crate::plan::{Goal, Standing};

#[test]
fn what_was_written_is_what_ec2_may_have_taken() {
    let told = |writes: &[(&str, Result<(), StepError>)]| {
        let mut ledger = Ledger::default();
        for (group, result) in writes {
            ledger.learn(&outcome(&set_groups("eni-1", &[group]), result.clone()), at(0.0));
        }
        assert_eq!(ledger.written(&"eni-2".parse().unwrap()), None);
        let written = ledger.written(&"eni-1".parse().unwrap());
        for group in ["sg-a", "sg-b"] {
            let is_written = written == Some((&groups(&[group]), true));
            assert_eq!(ledger.has_written(&"eni-1".parse().unwrap(), &groups(&[group])), is_written);
        }
        written.map(|(groups, is_accepted)| (ShowGroups(groups).to_string(), is_accepted))
    };
    let some = |group: &str, is_accepted| Some((format!("[{group}]"), is_accepted));
    assert_eq!(told(&[]), None);
    assert_eq!(told(&[("sg-a", Ok(()))]), some("sg-a", true));
    assert_eq!(told(&[("sg-a", Ok(())), ("sg-b", Ok(()))]), some("sg-b", true));
    // Refused: what was there before is there still.
    let without_effect = [Fault::Throttled, Fault::Denied, Fault::Busy, Fault::Unseen, Fault::Refused].map(failure);
    for error in without_effect.into_iter().chain([StepError::LeaseOver, StepError::Overtaken]) {
        assert_eq!(told(&[("sg-a", Ok(())), ("sg-b", Err(error.clone()))]), some("sg-a", true), "{error}");
        assert_eq!(told(&[("sg-b", Err(error.clone()))]), some("sg-b", false), "{error}");
    }
    // Perhaps taken.
    let uncertain = [Fault::Server, Fault::Connection, Fault::TimedOut, Fault::Garbled].map(failure);
    for error in uncertain.into_iter().chain([StepError::Lost]) {
        assert_eq!(told(&[("sg-a", Ok(())), ("sg-b", Err(error.clone()))]), some("sg-b", false), "{error}");
    }
}

#[test]
fn a_passage_is_remembered_and_counts_as_a_write() {
    let interface: InterfaceId = "eni-1".parse().unwrap();
    let told = |passage: Option<Passage>, result: Result<(), StepError>| {
        let mut ledger = Ledger::default();
        ledger.begin(&pass());
        assert_eq!(ledger.passage_under_way(&interface), Some(&pass()));
        assert_eq!(ledger.passage_under_way(&"eni-2".parse().unwrap()), None);
        ledger.learn(&Outcome { step: pass(), result: result.clone(), passage: passage.clone() }, at(0.0));
        assert_eq!(ledger.passage_under_way(&interface), None);
        assert_eq!(ledger.passage(&interface), passage.as_ref());
        assert_eq!(ledger.written(&interface), Some((&groups(&["sg-150"]), result.is_ok())));
        // What failed in any other way than for good is tried directly at once.
        let is_for_good = result.as_ref().is_err_and(StepError::is_for_good);
        assert_eq!(
            (ledger.is_accepted(&isolate()), ledger.failure(&isolate()).is_some()),
            (result.is_ok(), is_for_good)
        );
        (ledger.is_accepted(&pass()), ledger.failure(&pass()).is_some())
    };
    assert_eq!(told(Some(Passage::Done), Ok(())), (true, false));
    assert_eq!(told(Some(Passage::Done), Err(failure(Fault::Server))), (false, true));
    assert_eq!(told(None, Err(failure(Fault::Server))), (false, true));
    assert_eq!(told(None, Err(failure(Fault::Refused))), (false, true));
    // It was isolated directly, and may pass later.
    for passage in [Passage::Postponed, Passage::Refused("why".to_owned())] {
        assert_eq!(told(Some(passage.clone()), Ok(())), (false, false));
        assert_eq!(told(Some(passage.clone()), Err(failure(Fault::Refused))), (false, false));
        assert_eq!(told(Some(passage), Err(failure(Fault::Server))), (false, false));
    }
    // A change of groups that is under way is no passage.
    let mut ledger = Ledger::default();
    ledger.begin(&isolate());
    assert_eq!(ledger.passage_under_way(&interface), None);
}

#[test]
fn the_ledger_knows_whether_it_protected_and_asked_for_snapshots() {
    for (step, protected) in [
        (protect(Aim::Isolate), true),
        (protect(Aim::Restore), false),
        (protect(Aim::Confirm), false),
        (request(), false),
    ] {
        let mut ledger = Ledger::default();
        ledger.begin(&step);
        assert_eq!(ledger.has_protected, protected, "{step}");
        ledger.begin(&request());
        assert_eq!(ledger.has_protected, protected, "{step}");
    }
    for (step, result, asked) in
        [(request(), Ok(()), true), (request(), Err(StepError::Lost), false), (take(), Ok(()), false)]
    {
        let mut ledger = Ledger::default();
        ledger.learn(&outcome(&step, result), at(0.0));
        assert_eq!(ledger.asked_for_snapshots, asked, "{step}");
        ledger.learn(&outcome(&request(), Err(StepError::Lost)), at(0.0));
        assert_eq!(ledger.asked_for_snapshots, asked, "{step}");
    }
}

/// The two rules together, as the loop of an instance uses them.
#[test]
fn what_somebody_takes_out_of_isolation_once_is_put_back_within_a_second() {
    let world = World::isolated().leased().state(State::Isolating).shows("eni-1", &["sg-a"]);
    let wants = wants(&["i-1"]);
    let plan = world.plan(&Goal::Isolate(&wants));
    let mut ledger = world.ledger.clone();
    let swap = plan.steps().next().unwrap().clone();
    ledger.begin(&swap);
    ledger.learn(&outcome(&swap, Ok(())), at(10.0));
    assert_eq!((verdict(&mut ledger, &swap, 10.1), verdict(&mut ledger, &swap, 11.1)), ("wait", "due"));
}

/// A reading that trails shows what was there before one of our writes, or what it led through.
#[test]
fn what_was_never_there_before_is_another_ones_and_is_written_over_at_once() {
    let seen = |groups_of_it: &[&str]| {
        let mut step = isolate();
        let Step::SetGroups { from, .. } = &mut step else { unreachable!() };
        *from = groups(groups_of_it);
        step
    };
    let passed = Outcome { passage: Some(Passage::Done), ..outcome(&pass(), Ok(())) };
    for (written, may_trail) in [(outcome(&isolate(), Ok(())), false), (passed, true)] {
        let ledger = || {
            let mut ledger = Ledger::default();
            ledger.learn(&written, at(0.0));
            ledger
        };
        assert_eq!(verdict(&mut ledger(), &seen(&["sg-a"]), 0.1), "wait");
        assert_eq!(verdict(&mut ledger(), &seen(&["sg-7a5"]), 0.1), if may_trail { "wait" } else { "due" });
        // Once it was read back, the group that it passed is another one's change.
        let mut read_back = ledger();
        let isolated = Standing { isolated: ["eni-1".parse().unwrap()].into(), ..Standing::default() };
        read_back.note_doubts(&Plan { standing: isolated, ..Plan::default() }, at(0.05));
        assert_eq!(verdict(&mut read_back.clone(), &seen(&["sg-7a5"]), 0.1), "due");
        assert_eq!(verdict(&mut read_back, &seen(&["sg-a"]), 0.1), "wait");
        let mut ledger = ledger();
        assert_eq!(verdict(&mut ledger, &seen(&["sg-d"]), 0.1), "due");
        ledger.learn(&outcome(&seen(&["sg-d"]), Ok(())), at(0.2));
        // From now on that may be a late reading, too.
        for (seconds, expected) in
            [(0.3, "wait"), (1.0, "wait"), (1.2, "due"), (4.0, "wait"), (4.2, "due"), (12.2, "due"), (12.3, "wait")]
        {
            assert_eq!((seconds, verdict(&mut ledger, &seen(&["sg-d"]), seconds)), (seconds, expected));
        }
        // Three changes are answered at once, whatever was written besides; what comes then is a fight.
        for (group, expected) in [("sg-e", "due"), ("sg-f", "due"), ("sg-0", "wait")] {
            assert_eq!((group, verdict(&mut ledger, &seen(&[group]), 12.4)), (group, expected));
        }
        assert_eq!([20.0, 25.2].map(|seconds| verdict(&mut ledger, &seen(&["sg-0"]), seconds)), ["wait", "due"]);
    }
}
