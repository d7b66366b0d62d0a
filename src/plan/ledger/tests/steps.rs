//! When a step is done, done again, waited for or given up.

use super::*;

/// One step, and what became of it.
struct Story {
    ledger: Ledger,
    step: Step,
}

impl Story {
    fn of(step: Step) -> Self {
        Self { ledger: Ledger::default(), step }
    }

    fn accepted(self, seconds: f64) -> Self {
        self.ends(seconds, Ok(()))
    }

    fn failed(self, seconds: f64, fault: Fault) -> Self {
        self.ends(seconds, Err(failure(fault)))
    }

    fn ends(mut self, seconds: f64, result: Result<(), StepError>) -> Self {
        self.ledger.learn(&outcome(&self.step, result), at(seconds));
        self
    }

    /// What is to be done with the step at these times, at which it is planned.
    fn check(mut self, looks: &[(f64, &str)]) -> Self {
        for (seconds, expected) in looks {
            assert_eq!((*seconds, verdict(&mut self.ledger, &self.step, *seconds)), (*seconds, *expected));
        }
        self
    }
}

#[test]
fn what_was_never_tried_is_due_until_it_is_begun() {
    let mut story = Story::of(isolate()).check(&[(0.0, "due"), (100.0, "due")]);
    assert!(!story.ledger.is_under_way(&story.step));
    story.ledger.begin(&story.step);
    assert!(story.ledger.is_under_way(&story.step));
    // Whatever was seen before it.
    let Step::SetGroups { from, aim, .. } = &mut story.step else { unreachable!() };
    (*from, *aim) = (groups(&["sg-c"]), Aim::Confirm);
    story.check(&[(100.0, "wait")]);
    let mut story = Story::of(isolate());
    story.ledger.begin(&story.step);
    story.ledger.drop_untried(&Work { first: Some(request()), then: vec![story.step.clone()] });
    story.check(&[(0.0, "due")]);
}

#[test]
fn that_something_is_not_there_is_believed_when_it_is_said_again_5_s_later() {
    let unseen = |story: Story, seconds| story.failed(seconds, Fault::Unseen);
    let story = unseen(Story::of(isolate()), 0.0).check(&[(0.1, "wait"), (0.25, "due"), (100.0, "due")]);
    let story = unseen(unseen(story, 1.0), 4.0).check(&[(4.9, "wait"), (5.0, "due")]);
    assert!(!story.ledger.failure(&isolate()).unwrap().is_for_good());
    let story = unseen(story, 5.0).check(&[(5.0, "over")]);
    assert!(story.ledger.given_up(&isolate()).unwrap().is_for_good());
    // What failed before for another reason says nothing of it.
    let story = unseen(Story::of(isolate()).failed(0.0, Fault::Server), 10.0).check(&[(11.0, "due")]);
    unseen(unseen(story, 14.9).check(&[(15.0, "due")]), 15.0).check(&[(15.0, "over")]);
}

#[test]
fn what_was_accepted_and_is_still_planned_is_written_four_times_more_and_then_named() {
    let story = Story::of(isolate()).accepted(9.0).check(&[
        (10.0, "wait"),
        (10.999, "wait"),
        (11.0, "due"),
        (11.001, "wait"),
        (13.999, "wait"),
        (14.0, "due"),
        (21.999, "wait"),
        (22.0, "due"),
        (30.0, "wait"),
        (34.999, "wait"),
        (35.0, "due"),
        (39.999, "wait"),
    ]);
    assert_eq!(story.ledger.given_up(&isolate()), None);
    assert!(story.ledger.is_accepted(&isolate()) && story.ledger.failure(&isolate()).is_none());
    let story = story.check(&[(40.0, "over"), (41.0, "over"), (500.0, "over")]);
    let not_seen = |story: &Story| match story.ledger.given_up(&story.step) {
        Some(StepError::NotSeen { seen_by, shown }) => format!("{seen_by}: {shown}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(not_seen(&story), "ec2:DescribeNetworkInterfaces: eni-1 in [sg-a]");
    assert!(story.ledger.failure(&isolate()).is_some());
    // Looks that come late give nothing up before it was written again.
    let story = Story::of(protect(Aim::Isolate)).accepted(0.0);
    let story = story.check(&[
        (0.0, "wait"),
        (30.0, "due"),
        (30.1, "due"),
        (70.0, "due"),
        (70.1, "wait"),
        (79.8, "due"),
        (79.9, "over"),
    ]);
    assert_eq!(not_seen(&story), "ec2:DescribeInstanceAttribute: what was there before");
}

#[test]
fn an_interface_is_contested_while_it_had_to_be_written_again_a_moment_ago() {
    let contested = |story: &Story, seconds| {
        let is_contested =
            |id: &str, to: &str| story.ledger.is_contested(&id.parse().unwrap(), &groups(&[to]), at(seconds));
        assert!(!is_contested("eni-2", "sg-150") && !is_contested("eni-1", "sg-a"));
        is_contested("eni-1", "sg-150")
    };
    let looked = Story::of(isolate()).accepted(0.0).check(&[(1.0, "wait"), (1.5, "wait")]);
    assert!(!contested(&looked, 1.5));
    let again = looked.check(&[(2.0, "due")]);
    assert!(contested(&again, 2.0) && contested(&again, 32.0) && !contested(&again, 32.001));
    assert!(!contested(&Story::of(pass()).accepted(0.0).check(&[(1.0, "wait"), (2.0, "wait")]), 2.0));
}

#[test]
fn a_write_in_between_does_not_start_the_fight_anew() {
    let story = Story::of(isolate()).accepted(0.0).check(&[(0.0, "wait"), (1.0, "due")]).accepted(1.1);
    story.check(&[
        (1.2, "wait"),
        (4.0, "due"),
        (12.0, "due"),
        (21.0, "wait"),
        (29.9, "due"),
        (29.999, "wait"),
        (30.0, "over"),
    ]);
}

#[test]
fn a_contradiction_that_ended_more_than_30_s_ago_starts_anew() {
    let ended = || {
        let mut story = Story::of(isolate()).accepted(0.0).check(&[(10.0, "wait"), (15.0, "due")]);
        story.ledger.note_doubts(&Plan::default(), at(16.0));
        story
    };
    ended().check(&[(45.0, "due"), (45.1, "due"), (45.2, "wait"), (55.0, "due"), (60.0, "over")]);
    ended().check(&[(45.001, "wait"), (46.0, "wait"), (46.001, "due"), (75.0, "due"), (75.001, "wait"), (80.0, "due")]);
}

#[test]
fn a_contradiction_goes_on_until_a_look_shows_that_it_is_over() {
    let story = Story::of(isolate()).accepted(0.0).check(&[(10.0, "wait")]);
    story.check(&[(50.0, "due"), (90.0, "due"), (130.0, "due"), (170.0, "due"), (210.0, "over")]);
}

/// A Delete that fails is not sent again while its function still exists.
#[test]
fn whoever_tries_to_the_end_writes_on_and_says_what_is_shown() {
    const ENDLESS: Patience = Patience { for_faults: Duration::MAX, ..PATIENCE };
    let mut story = Story::of(isolate()).accepted(0.0);
    let plan = plan_of(&[Work::only(isolate())]);
    let mut due = Vec::new();
    for seconds in 0..=125 {
        if !story.ledger.due(&plan, at(f64::from(seconds)), ENDLESS).work.is_empty() {
            due.push(seconds);
            assert_eq!(story.ledger.failure(&isolate()).is_some(), seconds > 30);
            story = story.accepted(f64::from(seconds));
        }
    }
    assert_eq!(due, [1, 4, 12, 25, 60, 91, 122]);
    assert_eq!(story.ledger.given_up(&isolate()), None);
    assert!(matches!(story.ledger.failure(&isolate()), Some(StepError::NotSeen { .. })));
}

/// What follows from giving up is in the next plan only.
#[test]
fn it_is_said_once_that_a_step_was_given_up() {
    let mut story = Story::of(isolate()).failed(0.0, Fault::Denied);
    let plan = plan_of(&[Work::only(isolate())]);
    let mut gave_up = |seconds| story.ledger.due(&plan, at(seconds), PATIENCE).gave_up;
    assert_eq!([0.0, 19.999, 20.0, 20.0, 30.0].map(&mut gave_up), [false, false, true, false, false]);
}

/// A passage takes as long as its hold, and leaves what it should: what reads showed before says nothing of that.
#[test]
fn a_passage_in_between_starts_the_fight_anew() {
    let mut story =
        Story::of(isolate()).accepted(0.0).check(&[(0.0, "wait"), (1.0, "due"), (4.0, "due")]).accepted(4.1);
    let passed = Outcome { step: pass(), result: Ok(()), passage: Some(Passage::Done) };
    story.ledger.learn(&passed, at(64.0));
    story.check(&[(64.1, "wait"), (65.0, "wait"), (65.1, "due"), (68.1, "due"), (76.1, "due"), (94.0, "wait")]);
}

#[test]
fn some_steps_are_never_repeated_once_they_were_accepted() {
    for step in [pass(), take(), request()] {
        assert!(!step.may_be_repeated());
        Story::of(step).accepted(0.0).check(&[
            (0.0, "wait"),
            (1.0, "wait"),
            (10.0, "wait"),
            (20.0, "wait"),
            (29.999, "wait"),
            (30.0, "over"),
        ]);
    }
    assert!(isolate().may_be_repeated() && protect(Aim::Isolate).may_be_repeated());
}

#[test]
fn a_failure_is_tried_again_after_pauses_that_grow() {
    let (mut story, mut now) = (Story::of(isolate()), 0.0);
    for pause in [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0] {
        story = story.failed(now, Fault::Server).check(&[
            (now, "wait"),
            (now + pause - 0.001, "wait"),
            (now + pause, "due"),
        ]);
        now += pause;
    }
    for _ in 0..40 {
        story = story.failed(40.0, Fault::Throttled);
    }
    // What succeeds in between starts with the shortest.
    let story = story.check(&[(47.999, "wait"), (48.0, "due")]).accepted(50.0).failed(51.0, Fault::Server);
    story.check(&[(51.249, "wait"), (51.25, "due")]);
}

#[test]
fn each_failure_has_its_patience() {
    use Fault::{Busy, Connection, Denied, Garbled, OutOfTime, Refused, Server, Throttled, TimedOut};
    let lasts = [(Server, 60.0), (Connection, 60.0), (TimedOut, 60.0), (Garbled, 60.0), (Busy, 60.0), (Denied, 20.0)];
    for (fault, seconds) in [(Throttled, 300.0)].into_iter().chain(lasts) {
        assert!(PATIENCE.covers(fault, at(seconds - 0.001)), "{fault:?}");
        assert!(!PATIENCE.covers(fault, at(seconds)), "{fault:?}");
        let story = Story::of(isolate()).failed(5.0, fault).failed(6.0, fault);
        let story = story.check(&[(4.999 + seconds, "due"), (5.0 + seconds, "over"), (1.0, "over")]);
        assert_eq!(story.ledger.given_up(&isolate()), Some(&failure(fault)));
    }
    for fault in [Refused, OutOfTime] {
        assert!(!PATIENCE.covers(fault, Duration::ZERO), "{fault:?}");
        Story::of(isolate()).failed(5.0, fault).check(&[(5.0, "over")]);
    }
    let longer = Patience { for_faults: at(400.0), ..PATIENCE };
    assert!(longer.covers(Throttled, at(399.999)) && !longer.covers(Throttled, at(400.0)));
}

/// They are for people: nobody waits for them longer.
#[test]
fn tags_are_tried_for_a_minute_however_long_other_steps_are() {
    let longer = Patience { for_faults: at(400.0), ..PATIENCE };
    let (instance, resource) = ("i-1".parse().unwrap(), "i-1".to_owned());
    let tag = Step::Tag { instance, resource, tags: Default::default() };
    for (step, seconds) in [(tag, 60.0), (isolate(), 400.0)] {
        let mut story = Story::of(step).failed(0.0, Fault::Server);
        let plan = plan_of(&[Work::only(story.step.clone())]);
        let mut is_due = |seconds| !story.ledger.due(&plan, at(seconds), longer).work.is_empty();
        assert_eq!((is_due(seconds - 0.001), is_due(seconds)), (true, false), "{}", story.step);
    }
}

#[test]
fn that_the_time_is_up_says_less_than_what_failed_before() {
    let said = |faults: &[Fault]| {
        let story = faults.iter().fold(Story::of(isolate()), |story, fault| story.failed(0.0, *fault));
        story.ledger.failure(&isolate()).and_then(StepError::fault)
    };
    assert_eq!(said(&[Fault::Denied, Fault::OutOfTime]), Some(Fault::Denied));
    assert_eq!(said(&[Fault::OutOfTime]), Some(Fault::OutOfTime));
    assert_eq!(said(&[Fault::OutOfTime, Fault::Server]), Some(Fault::Server));
    assert_eq!(said(&[Fault::Denied, Fault::Server]), Some(Fault::Server));
}

#[test]
fn what_succeeded_in_between_starts_a_new_series() {
    let story = Story::of(isolate()).failed(0.0, Fault::Denied).accepted(10.0).failed(15.0, Fault::Denied);
    story.check(&[(34.999, "due"), (35.0, "over")]);
}

#[test]
fn what_other_writers_cause_is_tried_for_30_s() {
    let ends = |error: StepError| Story::of(isolate()).ends(5.0, Err(error));
    ends(StepError::LeaseOver).check(&[(5.0, "due"), (34.999, "due"), (35.0, "over")]);
    ends(StepError::Lost).check(&[(5.0, "wait"), (5.249, "wait"), (5.25, "due"), (34.999, "due"), (35.0, "over")]);
    ends(StepError::Overtaken).check(&[(5.0, "over")]);
    ends(StepError::NotSeen { seen_by: "", shown: String::new() }).check(&[(5.0, "over")]);
    let in_transit = |fault| {
        let StepError::Call(cause) = failure(fault) else { unreachable!() };
        StepError::InTransit { danger: "eni-1 may be open".to_owned(), cause }
    };
    ends(in_transit(Fault::Refused)).check(&[(5.0, "over")]);
    ends(in_transit(Fault::Denied)).check(&[(24.999, "due"), (25.0, "over")]);
}

#[test]
fn an_error_says_whether_a_call_failed_and_for_good() {
    let StepError::Call(cause) = failure(Fault::Refused) else { unreachable!() };
    let in_transit = StepError::InTransit { danger: "eni-1 may be open".to_owned(), cause };
    for (error, fault, is_for_good) in [
        (failure(Fault::Refused), Some(Fault::Refused), true),
        (failure(Fault::Denied), Some(Fault::Denied), false),
        (in_transit, Some(Fault::Refused), false),
        (StepError::Lost, None, false),
        (StepError::LeaseOver, None, false),
    ] {
        assert_eq!((error.fault(), error.is_for_good()), (fault, is_for_good), "{error}");
    }
}

#[test]
fn failures_are_told_until_a_step_succeeds() {
    let (tag, mark) = (protect(Aim::Isolate), request());
    let mut ledger = Ledger::default();
    let told = |ledger: &Ledger| {
        let mut told: Vec<String> = ledger.failures().map(|(step, error)| format!("{step}: {error}")).collect();
        told.sort();
        told.join("; ")
    };
    ledger.learn(&outcome(&isolate(), Err(failure(Fault::Server))), at(0.0));
    ledger.learn(&outcome(&tag, Ok(())), at(0.0));
    ledger.learn(&outcome(&mark, Err(StepError::Lost)), at(0.0));
    assert_eq!(
        told(&ledger),
        "i-1: confirm eni-1 [] -> [sg-150]: ec2:Something failed: Code: message; \
         i-1: mark snapshots requested: another request kept changing this record; wait until it has ended"
    );
    assert_eq!(ledger.failure(&mark), Some(&StepError::Lost));
    assert!(
        ledger.failure(&mark).is_some()
            && ledger.failure(&isolate()).is_some()
            && ledger.failure(&tag).is_none()
            && ledger.failure(&take()).is_none()
    );
    assert!(ledger.is_accepted(&tag) && !ledger.is_accepted(&mark) && !ledger.is_accepted(&take()));
    assert_eq!((ledger.failure(&tag), ledger.failure(&take()), ledger.given_up(&mark)), (None, None, None));
    ledger.learn(&outcome(&mark, Ok(())), at(1.0));
    ledger.learn(&outcome(&isolate(), Ok(())), at(1.0));
    assert_eq!(told(&ledger), "");
    // What is given up without a failure is told, too.
    for seconds in [1.0, 2.0, 5.0, 13.0, 22.0, 26.0, 31.0] {
        verdict(&mut ledger, &tag, seconds);
    }
    assert!(told(&ledger).contains("30 s later"), "{}", told(&ledger));
}

/// What is due of a step and those that follow it.
fn due_of(ledger: &mut Ledger, first: &Step, then: &[Step]) -> (String, bool) {
    let due = ledger.due(&plan_of(&[Work { first: Some(first.clone()), then: then.to_vec() }]), at(0.0), PATIENCE);
    (due.work.iter().flat_map(Work::steps).map(ToString::to_string).collect::<Vec<_>>().join("; "), due.waits)
}

#[test]
fn what_follows_a_step_waits_for_it_and_ends_with_it() {
    let (first, then) = (request(), [isolate(), protect(Aim::Isolate)]);
    let told = |ended: &[(&Step, Result<(), StepError>)]| {
        let mut ledger = Ledger::default();
        for (step, result) in ended {
            ledger.learn(&outcome(step, result.clone()), at(0.0));
        }
        due_of(&mut ledger, &first, &then)
    };
    let (record, swap, protect) =
        ("i-1: mark snapshots requested", "i-1: isolate eni-1 [sg-a] -> [sg-150]", "i-1: protect: stop protection on");
    let text = |steps: &[&str], waits| (steps.join("; "), waits);
    assert_eq!(told(&[]), text(&[record, swap, protect], false));
    // It is done again with them, however often it was accepted.
    assert_eq!(told(&[(&first, Ok(()))]), text(&[record, swap, protect], false));
    assert_eq!(told(&[(&first, Ok(())), (&then[0], Ok(()))]), text(&[record, protect], true));
    assert_eq!(told(&[(&first, Err(failure(Fault::Server)))]), text(&[], true));
    assert_eq!(told(&[(&first, Err(failure(Fault::Refused)))]), text(&[], false));
    // The first step is there for the others.
    assert_eq!(told(&[(&then[0], Ok(()))]), text(&[record, protect], true));
    assert_eq!(told(&[(&then[0], Err(failure(Fault::Refused)))]), text(&[record, protect], false));
    assert_eq!(told(&[(&then[0], Ok(())), (&then[1], Err(failure(Fault::Refused)))]), text(&[], true));
    let refused = [(&then[0], Err(failure(Fault::Refused))), (&then[1], Err(failure(Fault::Refused)))];
    assert_eq!(told(&refused), text(&[], false));
    // Unless there are none.
    assert_eq!(due_of(&mut Ledger::default(), &first, &[]), text(&[record], false));
    let mut ledger = Ledger::default();
    ledger.learn(&outcome(&first, Ok(())), at(0.0));
    assert_eq!(due_of(&mut ledger, &first, &[]), text(&[], true));
    // While it is under way they wait.
    let mut ledger = Ledger::default();
    ledger.begin(&first);
    assert_eq!(due_of(&mut ledger, &first, &then), text(&[], true));
    // Others are not held up.
    let mut ledger = Ledger::default();
    ledger.learn(&outcome(&first, Err(failure(Fault::Refused))), at(0.0));
    ledger.learn(&outcome(&take(), Err(failure(Fault::Server))), at(0.0));
    let works = [
        Work { first: Some(first.clone()), then: vec![isolate()] },
        Work { first: Some(take()), then: vec![isolate()] },
        Work::only(then[1].clone()),
    ];
    let due = ledger.due(&plan_of(&works), at(0.0), PATIENCE);
    assert_eq!((due.work.as_slice(), due.waits), (&works[2..], true));
}

#[test]
fn what_is_under_way_is_waited_for_whatever_is_planned() {
    let mut ledger = Ledger::default();
    assert!(!ledger.due(&Plan::default(), at(0.0), PATIENCE).waits);
    ledger.begin(&isolate());
    assert!(ledger.due(&Plan::default(), at(0.0), PATIENCE).waits);
    ledger.learn(&outcome(&isolate(), Ok(())), at(0.0));
    assert!(!ledger.due(&Plan::default(), at(0.0), PATIENCE).waits);
}

/// When to look again at the latest, in milliseconds.
fn until(ledger: &mut Ledger, plan: &Plan, seconds: f64) -> Option<u128> {
    ledger.due(plan, at(seconds), PATIENCE).until.map(|until| until.as_millis())
}

#[test]
fn the_next_look_is_when_something_can_be_done_or_believed() {
    let only = |step: &Step| plan_of(&[Work::only(step.clone())]);
    let mut ledger = Ledger::default();
    assert_eq!((until(&mut ledger, &Plan::default(), 0.0), until(&mut ledger, &only(&isolate()), 0.0)), (None, None));
    // What was accepted is written again, and named in the end.
    ledger.learn(&outcome(&isolate(), Ok(())), at(9.0));
    for (look, next) in [
        (10.0, 11_000),
        (10.5, 11_000),
        (11.0, 14_000),
        (14.0, 22_000),
        (22.0, 35_000),
        (31.0, 35_000),
        (35.0, 40_000),
        (39.0, 40_000),
    ] {
        assert_eq!(until(&mut ledger, &only(&isolate()), look), Some(next), "{look}");
    }
    assert_eq!(until(&mut ledger, &only(&isolate()), 40.0), None);
    // What failed is tried again.
    ledger.learn(&outcome(&protect(Aim::Isolate), Err(failure(Fault::Server))), at(5.0));
    let failed = only(&protect(Aim::Isolate));
    assert_eq!((until(&mut ledger, &failed, 5.0), until(&mut ledger, &failed, 5.25)), (Some(5_250), None));
    // Also if it was accepted before, and something else was seen since.
    let mut fought = ledger.clone();
    fought.learn(&outcome(&protect(Aim::Isolate), Ok(())), at(6.0));
    assert_eq!(until(&mut fought, &failed, 6.0), Some(7_000));
    fought.learn(&outcome(&protect(Aim::Isolate), Err(failure(Fault::Server))), at(6.1));
    assert_eq!(until(&mut fought, &failed, 6.1), Some(6_350));
    // What is given up is not.
    fought.learn(&outcome(&protect(Aim::Isolate), Err(failure(Fault::Refused))), at(6.5));
    assert_eq!(until(&mut fought, &failed, 6.5), None);
    // A reading is believed. The first of all counts.
    let (instance, awaited) = (Doubt::Instance, Doubt::SnapshotsAwaited);
    let doubting = |doubts: &[&Doubt], plan: Plan| Plan { doubts: doubts.iter().copied().cloned().collect(), ..plan };
    let both = doubting(&[&instance, &awaited], Plan::default());
    assert_eq!(until(&mut ledger, &both, 0.0), None);
    ledger.note_doubts(&both, at(2.0));
    assert_eq!((until(&mut ledger, &both, 3.0), until(&mut ledger, &both, 7.0)), (Some(7_000), Some(17_000)));
    assert_eq!(until(&mut ledger, &both, 17.0), None);
    assert_eq!(until(&mut ledger, &doubting(&[&awaited], failed), 5.0), Some(5_250));
    // A rival may end at any time.
    let rival = doubting(&[&Doubt::Rival], Plan::default());
    ledger.note_doubts(&rival, at(2.0));
    assert_eq!(until(&mut ledger, &rival, 3.0), None);
    assert!(ledger.due(&rival, at(3.0), PATIENCE).waits);
}
