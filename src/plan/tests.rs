//! What plans, standings and needs are as data.

use super::*;
use crate::plan::testing::{NOW, World, groups, set_groups, wants};

#[test]
fn an_instance_is_whole_if_something_is_isolated_and_nothing_is_open() {
    let set = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect();
    for (isolated, open, is_whole) in
        [(&[][..], &[][..], false), (&["eni-1"], &[], true), (&[], &["eni-1"], false), (&["eni-1"], &["eni-2"], false)]
    {
        let standing = Standing { isolated: set(isolated), open: set(open), ..Standing::default() };
        assert_eq!(standing.is_whole(), is_whole);
    }
}

fn pass() -> Step {
    Step::Pass {
        instance: "i-1".parse().unwrap(),
        interface: "eni-2".parse().unwrap(),
        from: groups(&["sg-a"]),
        through: "sg-7a5".parse().unwrap(),
        hold_seconds: 5,
        to: "sg-150".parse().unwrap(),
        originals: groups(&["sg-a"]),
    }
}

#[test]
fn a_plan_says_its_steps_then_its_problems_then_its_doubts() {
    let work = vec![
        Work {
            first: Some(Step::RequestSnapshots { instance: "i-1".parse().unwrap(), taken: [].into() }),
            then: vec![set_groups("eni-1", &["sg-150"])],
        },
        Work::only(pass()),
    ];
    assert_eq!((work[0].passes(), work[1].passes()), (false, true));
    let plan = Plan {
        work,
        problems: vec![Problem::NoTransit],
        remember: [Problem::NoVolumes { instance: "i-1".parse().unwrap() }].into(),
        doubts: [Doubt::Member, Doubt::Instance].into(),
        standing: Standing::default(),
    };
    assert_eq!(
        plan.to_string(),
        "i-1: mark snapshots requested\n\
         i-1: isolate eni-1 [sg-a] -> [sg-150]\n\
         i-1: isolate eni-2 by way of sg-7a5 for 5 s -> [sg-150]\n\
         ! established connections were not cut: TransitSecurityGroupId is empty\n\
         ! i-1 has no EBS volume to snapshot\n\
         ? the instance is not shown\n\
         ? no Auto Scaling group shows the instance\n"
    );
    assert!(!plan.is_empty() && Plan { work: vec![], ..plan }.is_empty());
}

#[test]
fn only_what_protects_an_isolated_instance_may_wait_for_ec2s_pace() {
    let change = Change::EnterStandby { group: "web".to_owned() };
    let protect = |aim| Step::Protect { instance: "i-1".parse().unwrap(), change: change.clone(), aim };
    let protects = |step| Work::only(step).protects();
    assert!(protects(protect(Aim::Isolate)) && !protects(protect(Aim::Restore)) && !protects(pass()));
}

#[test]
fn an_instance_is_held_by_the_stack_that_isolates_all_of_it() {
    let held = |groups: [&[&str]; 2]| {
        let world = World::new().instance("i-1", &[("eni-1", groups[0]), ("eni-2", groups[1])]);
        holder(&world.observed, &world.observed.instances[&world.id]).cloned()
    };
    assert_eq!(held([&["sg-150"], &["sg-150"]]), Some("stack-1".to_owned()));
    assert_eq!(held([&["sg-150"], &["sg-a"]]), None);
}

#[test]
fn what_is_remembered_as_well_is_said_once() {
    let plan = Plan { problems: vec![Problem::NoTransit], remember: [Problem::NoTransit].into(), ..Plan::default() };
    assert_eq!(plan.to_string(), "! established connections were not cut: TransitSecurityGroupId is empty\n");
}

#[test]
fn doubts_say_what_is_doubted() {
    let problem = Problem::NoVolumes { instance: "i-1".parse().unwrap() };
    for (doubt, text) in [
        (Doubt::Group("sg-a".parse().unwrap()), "sg-a is not shown"),
        (Doubt::Original("sg-a".parse().unwrap()), "sg-a is not shown"),
        (Doubt::Rules("sg-a".parse().unwrap()), "sg-a shows other rules"),
        (Doubt::Record, "no record is shown"),
        (Doubt::Holder, "another stack isolates it, too"),
        (Doubt::Interfaces, "no interface is shown"),
        (Doubt::Interface("eni-1".parse().unwrap()), "eni-1 is not shown"),
        (Doubt::AsWanted("eni-1".parse().unwrap()), "eni-1 shows what it should"),
        (Doubt::Snapshot("snap-1".parse().unwrap()), "snap-1 is not shown"),
        (Doubt::SnapshotsAwaited, "snapshots of another delivery are not shown yet"),
        (Doubt::UnderWay(problem), "under way: i-1 has no EBS volume to snapshot"),
        (Doubt::Rival, "another invocation may still be at work"),
    ] {
        assert_eq!(doubt.to_string(), text);
    }
}

#[test]
fn each_goal_has_its_plan_and_its_needs() {
    let world = World::isolated().plain_group("sg-a");
    let wants = Wants { detach_profile: true, ..wants(&["i-1"]) };
    let text = |goal: &Goal<'_>| world.plan(goal).to_string();
    assert!(text(&Goal::Isolate(&wants)).contains("i-1: snapshot vol-1"));
    assert!(text(&Goal::Restore).starts_with("i-1: mark restoring"));
    assert_eq!(text(&Goal::Keep(Some("why".to_owned()))), "i-1: mark kept\n");
    assert_eq!(text(&Goal::Keep(None)), "");
    let needs = |goal: &Goal<'_>, reach| world.needs(goal, reach);
    assert_eq!(needs(&Goal::Isolate(&wants), Reach::Full).interfaces.len(), 1);
    assert_eq!(needs(&Goal::Restore, Reach::Light).groups, groups(&["sg-150", "sg-a"]));
    assert_eq!(needs(&Goal::Keep(None), Reach::Full).interfaces.len(), 1);
}

fn all() -> Needs {
    Needs {
        locks: [].into(),
        snapshots: ["snap-1".parse().unwrap(), "snap-2".parse().unwrap()].into(),
        volumes: [].into(),
        interfaces: ["eni-1".parse().unwrap(), "eni-2".parse().unwrap()].into(),
        instances: ["i-1".parse().unwrap(), "i-2".parse().unwrap()].into(),
        groups: groups(&["sg-a", "sg-b"]),
        marked: ["vpc-1".parse().unwrap(), "vpc-2".parse().unwrap()].into(),
        episode: Some("episode".to_owned()),
        inspects: true,
        attributes: true,
        members: true,
        profiles: true,
        trunks: ["eni-3".parse().unwrap(), "eni-4".parse().unwrap()].into(),
    }
}

#[test]
fn what_was_asked_for_is_not_asked_for_again() {
    assert_eq!(all().without(&Needs::default()), all());
    assert_eq!(Needs::default().without(&Needs::default()), Needs::default());
    assert_eq!(all().without(&all()), Needs::default());
    assert_eq!(Needs::default().without(&all()), Needs::default());
    let some = Needs {
        interfaces: ["eni-1".parse().unwrap()].into(),
        instances: ["i-1".parse().unwrap()].into(),
        groups: groups(&["sg-a"]),
        marked: ["vpc-1".parse().unwrap()].into(),
        trunks: ["eni-3".parse().unwrap()].into(),
        ..Needs::default()
    };
    let rest = Needs {
        interfaces: ["eni-2".parse().unwrap()].into(),
        instances: ["i-2".parse().unwrap()].into(),
        groups: groups(&["sg-b"]),
        marked: ["vpc-2".parse().unwrap()].into(),
        trunks: ["eni-4".parse().unwrap()].into(),
        ..all()
    };
    assert_eq!(all().without(&some), rest);
    for (asked, left) in [
        (Needs { inspects: true, ..Needs::default() }, Needs { inspects: false, ..all() }),
        (Needs { attributes: true, ..Needs::default() }, Needs { attributes: false, ..all() }),
        (Needs { members: true, ..Needs::default() }, Needs { members: false, ..all() }),
        (Needs { profiles: true, ..Needs::default() }, Needs { profiles: false, ..all() }),
        (Needs { episode: Some("other".to_owned()), ..Needs::default() }, Needs { episode: None, ..all() }),
    ] {
        assert_eq!(all().without(&asked), left);
    }
}

/// What EC2 and others do meanwhile.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    /// How many looks later than the next EC2 shows what was done.
    late: usize,
    /// Before this look another person gives `eni-1` these groups, once.
    meddles: Option<(usize, &'static [&'static str])>,
}

/// What an invocation does to `i-1` until nothing is left to do or to wait for: everything is accepted. Each step as text.
fn run(mut world: World, goal: &Goal<'_>, weather: Weather) -> (World, Vec<String>) {
    let Weather { late, meddles } = weather;
    let patience = Patience { for_faults: Duration::from_secs(60), for_permission: Duration::from_secs(20) };
    let mut done = Vec::new();
    let mut readings = vec![world.observed.clone(); late + 1];
    for round in 0..60 {
        if let Some((_, ids)) = meddles.filter(|(when, _)| *when == round) {
            world.observed = readings.pop().unwrap();
            world = world.shows("eni-1", ids);
            readings.push(world.observed.clone());
        }
        world.observed = readings[readings.len() - 1 - late].clone();
        world.elapsed = Duration::from_secs(4 * round as u64);
        let record = world.records.get(&world.id).cloned();
        world.ledger.note_record(record.as_deref(), NOW.writer, NOW.time);
        let mut plan = world.plan(goal);
        // What is for people only is not waited for.
        plan.work.retain(|work| !work.steps().all(|step| matches!(step, Step::Tag { .. })));
        world.ledger.note_doubts(&plan, world.elapsed);
        let due = world.ledger.due(&plan, world.elapsed, patience);
        world.observed = readings[readings.len() - 1].clone();
        if due.work.is_empty() && !due.waits {
            return (world, done);
        }
        let due = Plan { work: due.work, ..Plan::default() };
        let (records, observed) = carried_out(&due, &world.case(goal));
        for step in due.steps() {
            done.push(step.to_string());
            world.ledger.begin(step);
            let passage = matches!(step, Step::Pass { .. }).then_some(Passage::Done);
            world.ledger.learn(&Outcome { step: step.clone(), result: Ok(()), passage }, world.elapsed);
        }
        world.records = records;
        readings.push(observed);
    }
    panic!("{}\n{done:#?}", world.plan(goal));
}

const STATES: [Option<State>; 6] = [
    None,
    Some(State::Isolating),
    Some(State::Isolated),
    Some(State::Kept),
    Some(State::Restoring),
    Some(State::Restored),
];

/// `i-1` with two interfaces as they may be found, the second of which its record may not know.
fn situations() -> Vec<(String, World)> {
    const SHOWN: [&[&str]; 7] =
        [&[], &["sg-a"], &["sg-b"], &["sg-150"], &["sg-7a5"], &["sg-150", "sg-a"], &["sg-7a5", "sg-b"]];
    let mut situations = Vec::new();
    let pairs = SHOWN.iter().flat_map(|first| SHOWN.map(|second| (*first, second)));
    let stated = pairs.flat_map(|(first, second)| STATES.map(|state| (state, first, second)));
    for (state, first, second, knows) in
        stated.flat_map(|(state, first, second)| [true, false].map(|knows| (state, first, second, knows)))
    {
        let world = World::new().transit_group("sg-7a5").plain_group("sg-a").plain_group("sg-b");
        let mut world = world.instance("i-1", &[("eni-1", first), ("eni-2", second)]);
        if let Some(state) = state {
            let both: &[(&str, &[&str])] = &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])];
            world = world.record("i-1", state, if knows { both } else { &both[..1] });
            world.saved().isolation_groups.insert("sg-7a5".parse().unwrap());
        }
        situations.push((format!("{state:?} {first:?} {second:?} {knows}"), world));
    }
    situations
}

#[test]
fn whatever_is_found_ends_isolated_and_whatever_is_recorded_ends_restored() {
    situations().into_iter().for_each(|found| check_all(found, Weather::default()));
}

#[test]
fn so_it_does_if_everything_is_seen_late() {
    situations().into_iter().step_by(5).for_each(|found| check_all(found, Weather { late: 2, ..Weather::default() }));
}

#[test]
fn so_it_does_if_somebody_meddles_once() {
    let ways: [&[&str]; 4] = [&["sg-b"], &["sg-7a5"], &["sg-150", "sg-b"], &["sg-150"]];
    let weathers = (1..5).flat_map(|when| ways.map(|ids| Weather { late: 0, meddles: Some((when, ids)) }));
    let known = situations().into_iter().filter(|(name, _)| name.ends_with("true") && !name.contains("None"));
    for found in known.step_by(13) {
        weathers.clone().for_each(|weather| check_all(found.clone(), weather));
    }
}

fn check_all(found: (String, World), weather: Weather) {
    let bare = Wants { snapshot_volumes: false, protect: false, ..wants(&["i-1"]) };
    let cutting = Wants { cut_connections: true, transit_group: Some("sg-7a5".parse().unwrap()), ..bare.clone() };
    let ours = groups(&["sg-150", "sg-7a5"]);
    for ((situation, start), wants) in [(found.clone(), &bare), (found, &cutting)] {
        let situation = format!("{situation} {weather:?}");
        let (isolated, done) = run(start.clone(), &Goal::Isolate(wants), weather);
        let plan = isolated.plan(&Goal::Isolate(wants));
        assert!(plan.standing.is_whole(), "{situation}: {done:#?}\n{plan}");
        for id in ["eni-1", "eni-2"] {
            let id: InterfaceId = id.parse().unwrap();
            assert_eq!(isolated.observed.interfaces[&id].groups, groups(&["sg-150"]), "{situation}: {done:#?}");
            let passes = done.iter().filter(|step| step.contains(&format!("{id} by way of"))).count();
            let was_inside = !start.observed.interfaces[&id].groups.is_empty()
                && start.observed.interfaces[&id].groups.is_subset(&ours);
            assert!(passes <= usize::from(wants.cut_connections), "{situation}: {done:#?}");
            // Nobody goes from the outside into isolation with its connections, if they are to be cut.
            assert!(was_inside || passes == usize::from(wants.cut_connections), "{situation}: {done:#?}");
        }
        // What is changed before it is recorded could not be put back.
        let first = done.iter().position(|step| step.contains("isolate") || step.contains("confirm"));
        assert!(
            first.is_none_or(|first| done[..first].iter().any(|step| step.starts_with("i-1: record")))
                || plan.to_string().contains("without a record"),
            "{situation}: {done:#?}"
        );
        let Some(record) = isolated.records.get(&isolated.id) else {
            assert!(plan.to_string().contains("without a record"), "{situation}: {plan}");
            continue;
        };
        assert!(record.interfaces.values().all(|originals| originals.is_disjoint(&ours)), "{situation}: {record:?}");
        assert_eq!(record.state, State::Isolated, "{situation}: {done:#?}");
        let originals = record.interfaces.clone();
        let (restored, done) = run(isolated.with(|world| world.ledger = Ledger::default()), &Goal::Restore, weather);
        let plan = restored.plan(&Goal::Restore);
        for (id, originals) in &originals {
            let now = &restored.observed.interfaces[id].groups;
            // What was changed after it was given back is left alone and named.
            let is_left = weather.meddles.is_some_and(|(_, ids)| *now == groups(ids) && now.is_disjoint(&ours))
                && plan.to_string().contains(&format!("{id} was left alone"));
            assert!(now == originals || originals.is_empty() || is_left, "{situation}: {done:#?}\n{plan}");
        }
        let is_known = originals.len() == 2 && originals.values().all(|originals| !originals.is_empty());
        assert_eq!(plan.standing.is_restored, is_known, "{situation}: {done:#?}\n{plan}");
    }
}
