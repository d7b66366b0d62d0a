//! When a doubtful reading is believed, and when another invocation is waited for.

use std::collections::BTreeSet;

use super::*;
use crate::model::Lease;
use crate::plan::testing::{NOW, World};

/// A plan that doubts.
fn doubting(doubts: &[&Doubt]) -> Plan {
    Plan { doubts: doubts.iter().copied().cloned().collect(), ..Plan::default() }
}

#[test]
fn a_doubtful_reading_is_believed_when_it_has_lasted() {
    let problem = Problem::NoVolumes { instance: "i-1".parse().unwrap() };
    for (doubt, seconds) in [
        (Doubt::Record, 5.0),
        (Doubt::Holder, 5.0),
        (Doubt::Instance, 5.0),
        (Doubt::Interfaces, 5.0),
        (Doubt::Member, 5.0),
        (Doubt::Group("sg-a".parse().unwrap()), 5.0),
        (Doubt::Rules("sg-a".parse().unwrap()), 5.0),
        (Doubt::Original("sg-a".parse().unwrap()), 5.0),
        (Doubt::Interface("eni-1".parse().unwrap()), 5.0),
        (Doubt::AsWanted("eni-1".parse().unwrap()), 5.0),
        (Doubt::Snapshot("snap-1".parse().unwrap()), 5.0),
        (Doubt::SnapshotsAwaited, 15.0),
        (Doubt::UnderWay(problem), 60.0),
    ] {
        let mut ledger = Ledger::default();
        let plan = doubting(&[&doubt]);
        let waits = |ledger: &mut Ledger, seconds| ledger.due(&plan, at(seconds), PATIENCE).waits;
        assert!(!ledger.believes(&doubt, at(1000.0)) && waits(&mut ledger, 1000.0));
        ledger.note_doubts(&plan, at(2.0));
        // It counts from the first look.
        ledger.note_doubts(&plan, at(3.0));
        assert!(!ledger.believes(&doubt, at(1.999 + seconds)) && waits(&mut ledger, 1.999 + seconds), "{doubt}");
        assert!(ledger.believes(&doubt, at(2.0 + seconds)) && !waits(&mut ledger, 2.0 + seconds), "{doubt}");
        // A look that does not raise it ends it.
        ledger.note_doubts(&doubting(&[&Doubt::Rival]), at(4.0));
        assert!(!ledger.believes(&doubt, at(1000.0)));
        ledger.note_doubts(&plan, at(5.0));
        assert!(!ledger.believes(&doubt, at(4.999 + seconds)) && ledger.believes(&doubt, at(5.0 + seconds)), "{doubt}");
    }
}

/// A look may be a minute after the one before: what was attached once meanwhile is doubted like any other.
#[test]
fn parts_keep_changing_only_where_looks_show_others_again_and_again() {
    let parts = |n: usize| {
        let ids = (0..n).map(|n| format!("vol-{n:x}").parse().unwrap()).collect();
        doubting(&[&Doubt::Parts(BTreeSet::new(), ids, BTreeSet::new())])
    };
    let said = |looks: &[(f64, usize)]| {
        let mut ledger = Ledger::default();
        looks.iter().for_each(|(seconds, n)| ledger.note_doubts(&parts(*n), at(*seconds)));
        ledger.saw_changing_parts(at(looks.last().unwrap().0))
    };
    assert!(!said(&[(0.0, 1), (61.0, 2)]) && !said(&[(0.0, 1), (40.0, 2), (80.0, 3)]));
    assert!(!said(&[(0.0, 1), (3.0, 2), (6.0, 3), (9.0, 4), (29.9, 5)]));
    assert!(said(&[(0.0, 1), (10.0, 2), (20.0, 3), (30.0, 4)]));
    // Looks that show the same are no change, and what lasts ends it.
    assert!(!said(&[(0.0, 1), (10.0, 2), (12.0, 2), (14.0, 2), (30.0, 3)]));
    assert!(!said(&[(0.0, 1), (4.0, 2), (8.0, 3), (13.0, 3), (20.0, 4), (30.0, 5), (40.0, 6)]));
    // Once it is said, it stays said until something lasts.
    let mut ledger = Ledger::default();
    for n in 0..4 {
        ledger.note_doubts(&parts(n + 1), Duration::from_secs(10 * n as u64));
    }
    let problems = vec![Problem::KeepsChanging { instance: "i-1".parse().unwrap() }];
    ledger.note_doubts(&Plan { problems, ..Plan::default() }, at(31.0));
    assert!(ledger.saw_changing_parts(at(31.0)));
    ledger.note_doubts(&Plan::default(), at(32.0));
    assert!(!ledger.saw_changing_parts(at(100.0)));
}

#[test]
fn a_rival_is_waited_for_until_its_lease_ends() {
    let mut ledger = Ledger::default();
    ledger.note_doubts(&doubting(&[&Doubt::Rival]), at(0.0));
    assert!(!ledger.believes(&Doubt::Rival, at(1_000_000.0)));
    ledger.is_trusting = true;
    assert!(ledger.believes(&Doubt::Rival, at(0.0)) && ledger.believes(&Doubt::Instance, at(0.0)));
}

#[test]
fn of_two_doubts_each_has_its_own_time() {
    let mut ledger = Ledger::default();
    ledger.note_doubts(&doubting(&[&Doubt::Instance]), at(0.0));
    let both = doubting(&[&Doubt::Instance, &Doubt::Member]);
    ledger.note_doubts(&both, at(3.0));
    assert!(ledger.believes(&Doubt::Instance, at(5.0)) && !ledger.believes(&Doubt::Member, at(5.0)));
    assert!(ledger.due(&both, at(5.0), PATIENCE).waits && !ledger.due(&both, at(8.0), PATIENCE).waits);
}

#[test]
fn what_only_one_look_shows_is_remembered() {
    let problem = |id: &str| Problem::NoVolumes { instance: id.parse().unwrap() };
    let mut ledger = Ledger::default();
    for id in ["i-1", "i-2"] {
        ledger.note_doubts(&Plan { remember: [problem(id)].into(), ..Plan::default() }, at(0.0));
    }
    assert_eq!(ledger.said, [problem("i-1"), problem("i-2")].into());
}

#[test]
fn another_invocation_is_a_rival_while_its_lease_lasts_or_until_the_record_says_that_it_has_ended() {
    let record = |state, lease: Option<(&str, u64)>| {
        let lease = lease.map(|(writer, seconds)| Lease {
            writer: writer.to_owned(),
            until: Time(NOW.time.0 + seconds),
            only: BTreeSet::new(),
        });
        World::isolated().saved_with(|record| (record.state, record.lease) = (state, lease)).saved().clone()
    };
    let rival = |looks: &[Option<&Record>]| {
        let mut ledger = Ledger::default();
        looks.iter().for_each(|record| ledger.note_record(*record, "me", NOW.time));
        (0..60).take_while(|seconds| ledger.has_rival(Time(NOW.time.0 + seconds))).count()
    };
    let other = |state| record(state, Some(("other", 30)));
    assert_eq!(rival(&[]), 0);
    assert_eq!(rival(&[Some(&other(State::Isolating))]), 30);
    assert_eq!(rival(&[Some(&other(State::Restoring))]), 30);
    for state in [State::Isolated, State::Kept, State::Restored] {
        assert_eq!(rival(&[Some(&other(state))]), 0);
        assert_eq!(rival(&[Some(&other(State::Isolating)), Some(&other(state))]), 0);
    }
    assert_eq!(rival(&[Some(&other(State::Isolating)), None]), 0);
    assert_eq!(rival(&[Some(&other(State::Isolating)), Some(&record(State::Isolating, None))]), 0);
    // Our own lease says nothing of theirs.
    let mine = record(State::Isolating, Some(("me", 40)));
    assert_eq!(rival(&[Some(&mine)]), 0);
    assert_eq!(rival(&[Some(&other(State::Isolating)), Some(&mine)]), 30);
    // The longest counts.
    let shorter = record(State::Isolating, Some(("third", 10)));
    assert_eq!(rival(&[Some(&other(State::Isolating)), Some(&shorter)]), 30);
    assert_eq!(rival(&[Some(&shorter), Some(&other(State::Isolating))]), 30);
    // Whoever says more than 90 s has another clock; saying the same again does not make it longer.
    let until = |looks: &[(u64, u64)]| {
        let mut ledger = Ledger::default();
        for (seconds, lease) in looks {
            let far = record(State::Isolating, Some(("other", *lease)));
            ledger.note_record(Some(&far), "me", Time(NOW.time.0 + seconds));
        }
        (0..500).take_while(|seconds| ledger.has_rival(Time(NOW.time.0 + seconds))).count()
    };
    assert_eq!((until(&[(0, 89)]), until(&[(0, 90)]), until(&[(0, 91)]), until(&[(0, 9_000)])), (89, 90, 90, 90));
    assert_eq!((until(&[(0, 9_000), (50, 9_000)]), until(&[(0, 9_000), (50, 9_001)])), (90, 140));
    let mut trusting = Ledger { is_trusting: true, ..Ledger::default() };
    trusting.note_record(Some(&other(State::Isolating)), "me", NOW.time);
    assert!(!trusting.has_rival(NOW.time));
}

/// Whatever another reading of it shows.
#[test]
fn what_a_record_said_once_is_remembered() {
    let said = |states: &[State]| {
        let mut ledger = Ledger::default();
        for state in states {
            ledger.note_record(Some(World::isolated().state(*state).saved()), NOW.writer, NOW.time);
        }
        ledger.was_settled
    };
    for settled in [State::Isolated, State::Kept, State::Restoring] {
        assert!(said(&[settled, settled]), "{settled:?}");
        for other in [State::Isolating, State::Restored] {
            assert!(said(&[settled, other]) && said(&[other, settled]) && !said(&[other]), "{settled:?} {other:?}");
        }
    }
}

/// What a Delete had sent may arrive after it was overtaken.
#[test]
fn what_protects_an_instance_is_read_again_beside_a_rival_and_once_after_a_restore() {
    let parts = Doubt::Parts([].into(), [].into(), [].into());
    let lease = |writer: &str| Lease { writer: writer.to_owned(), until: NOW.time, only: BTreeSet::new() };
    let ledger = |state, lease: Option<Lease>| {
        let world = World::isolated().saved_with(|record| (record.state, record.lease) = (state, lease));
        let mut ledger = Ledger::default();
        ledger.note_record(world.records.values().next().map(std::sync::Arc::as_ref), NOW.writer, NOW.time);
        ledger.note_doubts(&doubting(&[&parts]), at(1.0));
        ledger
    };
    for lease in [None, Some(lease("another"))] {
        let mut restored = ledger(State::Restoring, lease);
        let looks = [5.9, 6.0, 6.1].map(|seconds| restored.rereads(at(seconds)));
        assert_eq!(looks, [false, true, false]);
    }
    for (state, lease) in
        [(State::Restoring, Some(lease(NOW.writer))), (State::Isolated, None), (State::Isolating, None)]
    {
        assert!(!ledger(state, lease).rereads(at(6.0)), "{state:?}");
    }
    let mut beside = ledger(State::Isolating, None);
    beside.note_doubts(&doubting(&[&parts, &Doubt::Rival]), at(2.0));
    assert!(beside.rereads(at(2.1)) && beside.rereads(at(9.0)));
    beside.note_doubts(&doubting(&[&parts]), at(9.1));
    assert!(!beside.rereads(at(9.2)));
}
