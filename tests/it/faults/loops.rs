//! Loops over whole invocations: every reading once without each item, every interface changed by somebody else at every
//! call, the event delivered once more at every call. Three instances of two interfaces each.
//!
//! After each: one answer for each delivery, which is true of what was last read; nobody untouched is touched, nobody is in
//! the transit group, the other instances are done, and a last Delete gives the world back.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use ec2_isolation::cloudformation::answer::{Answer, Status};
use ec2_isolation::model::{Groups, InterfaceId, PROTECTING, State};
use ec2_isolation::plan::Problem;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::world::readings::INTENT;
use crate::world::{Data, ISOLATION, TRANSIT, Trouble, VPC, World, groups};
use crate::{A, B, BYSTANDER, C, D, as_request, cutting, deliver, die, entries, event, listing, run};

const SWAP: &str = "ec2:ModifyNetworkInterfaceAttribute";
const INSTANCES: [&str; 3] = [A, B, C];
const INTERFACES: [&str; 6] = ["eni-0a1", "eni-0a2", "eni-0b1", "eni-0b2", "eni-0c1", "eni-0c2"];
/// Two rounds of readings, attributes three instances at a time, with a call in hand.
const LAST_LOOK: Duration = Duration::from_millis(200);
/// Not listed, and a bystander of whatever is moved to it.
const UNTOUCHED: [&str; 3] = ["eni-0d", "eni-0e1", "eni-0e2"];

fn trio() -> World {
    let world = World::new();
    {
        let mut data = world.data();
        (data.latency, data.stale_reads) = (Duration::from_millis(20), 0);
    }
    world.add(A, VPC, &[("eni-0a1", &["sg-0a"]), ("eni-0a2", &["sg-0b"])]);
    world.add(B, VPC, &[("eni-0b1", &["sg-0b", "sg-0c"]), ("eni-0b2", &["sg-0a"])]);
    world.add(C, VPC, &[("eni-0c1", &["sg-0c"]), ("eni-0c2", &["sg-0a", "sg-0c"])]);
    world.add(D, VPC, &[("eni-0d", &["sg-0a"])]);
    world.add(BYSTANDER, VPC, &[("eni-0e1", &["sg-0a", "sg-0d"]), ("eni-0e2", &["sg-0d"])]);
    world.give_profile(A, "arn:aws:iam::123456789012:instance-profile/web");
    world.scale("web", &[A, C, BYSTANDER], "InService");
    world
}

fn instance_of(interface: &str) -> &'static str {
    match &interface[..6] {
        "eni-0a" => A,
        "eni-0b" => B,
        _ => C,
    }
}

fn id(interface: &str) -> InterfaceId {
    interface.parse().unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    /// A is no longer listed, and restored.
    Update,
    Delete,
    /// A Delete in a rollback, after a Create that was killed in the passage.
    Keep,
}

const KINDS: [Kind; 4] = [Kind::Create, Kind::Update, Kind::Delete, Kind::Keep];

impl Kind {
    /// The world before the event under test, and the event.
    async fn prepared(self) -> (World, Value) {
        let world = trio();
        let create = |ids: &[&str]| listing(ids, cutting(event("create")));
        let event = match self {
            Self::Create => create(&INSTANCES),
            Self::Update => {
                deliver(&world, create(&[A, B])).await;
                world.set_status("UPDATE_IN_PROGRESS");
                let mut update = listing(&[B, C], cutting(event("update")));
                update["ResourceProperties"]["OnRemoval"] = json!("Restore");
                update
            }
            Self::Delete => {
                deliver(&world, create(&INSTANCES)).await;
                event("delete")
            }
            Self::Keep => {
                world.data().troubles_of.insert(SWAP, (5, Trouble::DiesAfter));
                die(&world, create(&INSTANCES)).await;
                // Its lease ends.
                tokio::time::sleep(Duration::from_secs(120)).await;
                world.set_status("ROLLBACK_IN_PROGRESS");
                event("delete")
            }
        };
        let mut data = world.data();
        data.answers.clear();
        data.at_answers.clear();
        data.calls.clear();
        data.shown.clear();
        drop(data);
        (world, event)
    }

    /// The instances that are isolated afterwards.
    fn isolates(self) -> &'static [&'static str] {
        match self {
            Self::Create | Self::Keep => &INSTANCES,
            Self::Update => &[B, C],
            Self::Delete => &[],
        }
    }

    /// What an interface has afterwards if it is attached to this instance: a record holds it wherever it is.
    fn expected(self, world: &World, interface: &str, place: Option<&str>) -> Groups {
        let is_recorded = world.data().records.values().any(|record| record.interfaces.contains_key(&id(interface)));
        let isolates = |instance: &str| self.isolates().contains(&instance);
        let is_isolated = place.is_some_and(isolates) || isolates(instance_of(interface)) && is_recorded;
        if is_isolated { groups(&[ISOLATION]) } else { trio().cards()[interface].clone() }
    }

    /// The calls of an undisturbed run.
    async fn calls(self) -> Vec<(&'static str, String)> {
        let (world, event) = self.prepared().await;
        let answer = deliver(&world, event).await;
        check(self, &world, &answer, None, &format!("{self:?}, undisturbed"));
        assert_eq!(answer.status, Status::Success, "{self:?}: {}", answer.reason);
        world.data().calls.clone()
    }
}

/// What an answer says is true, and whatever was not disturbed is done.
fn check(kind: Kind, world: &World, answer: &Answer, disturbed: Option<(&str, Change)>, case: &str) {
    let case = format!("{case}: {:?} {}", answer.status, answer.reason);
    let start = trio();
    let (at, shown, calls, meddled_at) = {
        let data = world.data();
        let n = data.answers.iter().position(|other| other == answer).unwrap();
        (data.at_answers[n].clone(), data.shown.clone(), data.calls.clone(), data.meddled_at)
    };
    let is_late = meddled_at.is_some_and(|meddled| at.at.saturating_duration_since(meddled) < LAST_LOOK);
    let mut isolated = 0;
    for interface in INTERFACES {
        let change = disturbed.filter(|(other, _)| *other == interface).map(|(_, change)| change);
        let now = at.cards.get(interface);
        // What happened after the last look is not to be known: the answer is true of what that showed.
        let seen = if change.is_some() && is_late { shown.get(&id(interface)).map(|(_, groups)| groups) } else { now };
        let Some(seen) = seen else {
            assert!(is_late || change == Some(Change::Deleted), "{case}: {interface} is gone");
            continue;
        };
        let is_listed = place(world, interface).is_some_and(|place| kind.isolates().contains(&place.as_str()));
        isolated += usize::from(is_listed && *seen == groups(&[ISOLATION]));
        let mut places = vec![place(world, interface)];
        if is_late {
            places.push(Some(instance_of(interface).to_owned()));
        }
        let mut expected = places.iter().map(|place| kind.expected(world, interface, place.as_deref()));
        let is_right = expected.clone().any(|expected| *seen == expected);
        let is_held = expected.all(|expected| expected == groups(&[ISOLATION]));
        let last_calls = || last_calls(world, at.at);
        assert!(is_right || is_told(kind, answer, interface, seen), "{case}: {interface} in {seen:?}{}", last_calls());
        if answer.status == Status::Success && is_held && kind != Kind::Keep {
            assert!(is_right, "{case}: {interface} in {seen:?}{}", last_calls());
        }
        assert!(!seen.contains(&TRANSIT.parse().unwrap()), "{case}: {interface} is in the transit group");
    }
    if matches!(kind, Kind::Create | Kind::Update) && !is_late {
        let counted = answer.data.isolated_interface_count.parse::<usize>().unwrap();
        assert_eq!(counted, isolated, "{case}{}", last_calls(world, at.at));
    }
    for instance in INSTANCES {
        let but = disturbed.map(|(interface, _)| interface).filter(|interface| instance_of(interface) == instance);
        check_done(kind, world, instance, but, &case);
    }
    // Only what was in our group before it could be recorded needs a person.
    let is_due = |part: &str| {
        let is_unknown =
            part.ends_with("without a record of its original groups: it is isolated; give it its groups by hand");
        is_unknown && disturbed.is_some_and(|(it, change)| change == Change::IntoTransit && part.contains(it))
    };
    assert!(answer.status == Status::Success || answer.reason.split(" | ").any(is_due), "{case}");
    for interface in UNTOUCHED {
        assert_eq!(world.cards()[interface], start.cards()[interface], "{case}");
        assert!(!calls.iter().any(|(_, what)| what.contains(interface)), "{case}: {interface}");
    }
}

/// Whether the answer names this interface with what it has, as one that was left alone.
fn is_told(kind: Kind, answer: &Answer, interface: &str, seen: &Groups) -> bool {
    let (instance, interface, groups) = (instance_of(interface).parse().unwrap(), id(interface), seen.clone());
    let told = match kind {
        Kind::Keep => Problem::NotKept { instance, interface, groups },
        _ => Problem::Moved { instance, interface, groups },
    };
    answer.reason.split(" | ").skip(1).any(|part| part == told.to_string())
}

/// The calls of the last second before an answer, and all that change a record or an interface.
fn last_calls(world: &World, at: Instant) -> String {
    let data = world.data();
    let before = |then: Instant| at.saturating_duration_since(then);
    let is_told = |action: &str, then: Instant| {
        before(then) < Duration::from_secs(1) || action == SWAP || action.contains("Write") || action.contains("Update")
    };
    let calls = data.calls.iter().zip(&data.called_at).filter(|((action, _), then)| is_told(action, **then));
    let calls: String =
        calls.map(|((action, what), then)| format!("\n  {:?} before: {action} {what}", before(*then))).collect();
    format!("; it was disturbed {:?} before{calls}", data.meddled_at.map(before))
}

/// The instance that an interface is attached to.
fn place(world: &World, interface: &str) -> Option<String> {
    let data = world.data();
    data.interfaces().find(|found| found.id == id(interface))?.instance.as_ref().map(ToString::to_string)
}

/// Isolated, tagged, snapshotted and protected, or as at the start, `but` for the groups of one interface.
fn check_done(kind: Kind, world: &World, instance: &str, but: Option<&str>, case: &str) {
    let isolates = kind.isolates().contains(&instance);
    let (cards, start, protections) = (world.cards(), trio(), world.protections());
    let of = |interface: &&str| instance_of(interface) == instance && but != Some(*interface);
    for interface in INTERFACES.into_iter().filter(of) {
        let expected = if isolates { &groups(&[ISOLATION]) } else { &start.cards()[interface] };
        assert_eq!(&cards[interface], expected, "{case}: {instance} {interface}");
    }
    let (state, data) = (world.state(instance), world.data());
    let is_tagged = data.tags.get(instance).is_some_and(|tags| tags.contains_key("ec2-isolation:stack"));
    match kind {
        Kind::Keep => assert_eq!(state, Some(State::Kept), "{case}: {instance}"),
        _ if isolates => {
            assert_eq!((state, is_tagged), (Some(State::Isolated), true), "{case}: {instance}");
            let volume = instance.replace("i-", "vol-");
            let snapshots = data.snapshots.iter().filter(|snapshot| snapshot.volume.as_str() == volume).count();
            assert_eq!(snapshots, 1, "{case}: snapshots of {instance}");
            for attribute in PROTECTING {
                assert!(protections[instance].contains(&attribute.to_string()), "{case}: {instance} {attribute}");
            }
        }
        _ if state.is_some() => {
            assert_eq!((state, is_tagged), (Some(State::Restored), false), "{case}: {instance}");
            assert_eq!(protections[instance], start.protections()[instance], "{case}: {instance}");
        }
        _ => {}
    }
}

/// A last Delete, which nobody disturbs, gives everything back but what somebody gave other groups.
async fn check_the_end(world: &World, disturbed: Option<(&str, Change)>, case: &str) {
    {
        let mut data = world.data();
        data.calm();
        data.hidden.clear();
        data.before_call.clear();
    }
    world.set_status("DELETE_IN_PROGRESS");
    let end = deliver(world, as_request("the end", event("delete"))).await;
    let case = format!("{case}, the end: {}", end.reason);
    // What was in our group before it could be recorded has no originals.
    let is_unknown = |interface: &str| {
        let is_disturbed = disturbed == Some((interface, Change::IntoTransit));
        let named = format!("{interface} is in {ISOLATION} without a record of its original groups");
        is_disturbed && end.reason.contains(&named)
    };
    let unknown = INTERFACES.into_iter().find(|interface| is_unknown(interface));
    assert_eq!(end.status == Status::Success, unknown.is_none(), "{case}");
    let (start, cards) = (trio().cards(), world.cards());
    for (interface, now) in &cards {
        let given = disturbed.filter(|(other, _)| other == interface).and_then(|(_, change)| change.given(interface));
        let is_right = match unknown.filter(|unknown| unknown == interface) {
            Some(_) => *now == groups(&[ISOLATION]),
            None => *now == start[interface] || given.as_ref() == Some(now),
        };
        assert!(is_right, "{case}: {interface} in {now:?}");
    }
    let is_deleted = |interface: &str| disturbed == Some((interface, Change::Deleted));
    for interface in start.keys() {
        assert!(cards.contains_key(interface) || is_deleted(interface), "{case}: {interface} is gone");
    }
    let (now, before) = (world.protections(), trio().protections());
    for (instance, protections) in before {
        if unknown.map(instance_of) != Some(&instance) {
            assert_eq!(now[&instance], protections, "{case}");
        }
    }
}

/// The cases of a loop that failed.
#[derive(Debug, Default)]
struct Failures(Vec<String>, usize);

impl Failures {
    async fn note(&mut self, case: impl Future<Output = ()>) {
        self.1 += 1;
        if let Err(panic) = AssertUnwindSafe(case).catch_unwind().await {
            let text = panic.downcast_ref::<String>().cloned();
            self.0.push(text.unwrap_or_else(|| panic.downcast_ref::<&str>().copied().unwrap_or_default().to_owned()));
        }
    }

    fn assert_none(self) {
        let first: Vec<&str> = self.0.iter().take(3).map(String::as_str).collect();
        assert!(first.is_empty(), "{} of {} cases failed, as in\n{}", self.0.len(), self.1, first.join("\n"));
    }
}

/// What a reading by this call can leave out.
fn items(action: &str, what: &str) -> Vec<String> {
    let named = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    match action {
        "ec2:DescribeInstances" => {
            let volumes = INSTANCES.map(|id| id.replace("i-", "vol-"));
            [named(&INSTANCES), named(&INTERFACES), volumes.into()].concat()
        }
        "ec2:DescribeNetworkInterfaces" => named(&INTERFACES),
        "ec2:DescribeSecurityGroups" => named(&[ISOLATION, TRANSIT, "sg-0a", "sg-0b", "sg-0c"]),
        "ec2:DescribeSnapshots" => named(&["snap-10", "snap-11", "snap-12"]),
        "dynamodb:BatchGetItem" => {
            let records = INSTANCES.map(|id| format!("record {id}"));
            [records.into(), named(&[INTENT])].concat()
        }
        "ec2:DescribeInstanceAttribute" => {
            INSTANCES.map(str::to_owned).into_iter().filter(|id| what.contains(id)).collect()
        }
        "autoscaling:DescribeAutoScalingInstances" | "ec2:DescribeIamInstanceProfileAssociations" => named(&INSTANCES),
        _ => vec![],
    }
}

/// Every reading once without each item, or from then on for so long.
async fn without_each_item(kind: Kind, time: Option<Duration>) {
    let mut failures = Failures::default();
    for (n, (action, what)) in (1..).zip(kind.calls().await) {
        // A consistent reading of the table misses nothing for long.
        let is_for_long = |item: &String| !item.starts_with("record") && item != INTENT;
        for item in items(action, &what).into_iter().filter(|item| time.is_none() || is_for_long(item)) {
            let case = format!("{kind:?}, {item} left out of call {n} ({action}), for {time:?}");
            let disturbed = async {
                let (world, event) = kind.prepared().await;
                match time {
                    None => world.data().hide_in_call = Some((n, item)),
                    Some(time) => world.before_call(n, move |data: &mut Data| {
                        data.hidden.insert(item, Instant::now() + time);
                    }),
                }
                let answer = deliver(&world, event).await;
                assert_eq!(answer.status, Status::Success, "{case}: {}", answer.reason);
                check(kind, &world, &answer, None, &case);
                check_the_end(&world, None, &case).await;
            };
            failures.note(disturbed).await;
        }
    }
    failures.assert_none();
}

macro_rules! for_each_kind {
    ($($name:ident: $loop:expr;)*) => {
        $(#[tokio::test(start_paused = true)]
        async fn $name() {
            $loop.await;
        })*
    };
}

for_each_kind! {
    every_reading_of_a_create_once_without_each_item: without_each_item(Kind::Create, None);
    every_reading_of_an_update_once_without_each_item: without_each_item(Kind::Update, None);
    every_reading_of_a_delete_once_without_each_item: without_each_item(Kind::Delete, None);
    every_reading_of_a_delete_that_keeps_once_without_each_item: without_each_item(Kind::Keep, None);
    every_reading_of_a_create_without_each_item_for_3_s: without_each_item(Kind::Create, Some(Duration::from_secs(3)));
    every_reading_of_an_update_without_each_item_for_3_s: without_each_item(Kind::Update, Some(Duration::from_secs(3)));
    every_reading_of_a_delete_without_each_item_for_3_s: without_each_item(Kind::Delete, Some(Duration::from_secs(3)));
    every_reading_of_a_delete_that_keeps_without_each_item_for_3_s: without_each_item(Kind::Keep, Some(Duration::from_secs(3)));
}

/// What somebody does to one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    GroupAdded,
    OriginalsBack,
    ThirdGroup,
    IntoTransit,
    Deleted,
    MovedToAListedOne,
    MovedToOneThatIsNotListed,
}

const CHANGES: [Change; 7] = [
    Change::GroupAdded,
    Change::OriginalsBack,
    Change::ThirdGroup,
    Change::IntoTransit,
    Change::Deleted,
    Change::MovedToAListedOne,
    Change::MovedToOneThatIsNotListed,
];

impl Change {
    fn happen(self, data: &mut Data, interface: &str) {
        let now = data.interfaces().find(|found| found.id == id(interface)).map(|found| found.groups.clone());
        let Some(mut now) = now else { return };
        let third: Groups = groups(&["sg-0d"]);
        match self {
            Self::GroupAdded => {
                now.extend(third);
                data.put_back(&id(interface), now);
            }
            Self::OriginalsBack => data.put_back(&id(interface), trio().cards()[interface].clone()),
            Self::ThirdGroup => data.put_back(&id(interface), third),
            Self::IntoTransit => data.put_back(&id(interface), groups(&[TRANSIT])),
            Self::Deleted => data.delete_interface(interface),
            Self::MovedToAListedOne => data.move_to(interface, if instance_of(interface) == C { B } else { C }),
            Self::MovedToOneThatIsNotListed => data.move_to(interface, D),
        }
    }

    /// What the interface may have in the end instead of what it had at the start.
    fn given(self, interface: &str) -> Option<Groups> {
        match self {
            Self::GroupAdded => Some(trio().cards()[interface].iter().cloned().chain(groups(&["sg-0d"])).collect()),
            Self::ThirdGroup => Some(groups(&["sg-0d"])),
            Self::IntoTransit => Some(groups(&[TRANSIT])),
            Self::OriginalsBack | Self::Deleted | Self::MovedToAListedOne | Self::MovedToOneThatIsNotListed => None,
        }
    }
}

/// Somebody else changes an interface right before every call: every change before every call, or every second one of an
/// Update, which makes twice as many. The interfaces take turns, so that every change meets each of them.
async fn changed_at_every_call(kind: Kind) {
    let (count, mut failures) = (kind.calls().await.len(), Failures::default());
    let stride = if kind == Kind::Update { 2 } else { 1 };
    assert!(count / stride >= INTERFACES.len(), "{kind:?}: {count} calls");
    for (k, change) in CHANGES.into_iter().enumerate() {
        for n in (1 + k % stride..=count).step_by(stride) {
            failures.note(changed_at(kind, change, n, INTERFACES[(n / stride + k) % INTERFACES.len()])).await;
        }
    }
    failures.assert_none();
}

async fn changed_at(kind: Kind, change: Change, n: usize, interface: &'static str) {
    let case = format!("{kind:?}, {interface} {change:?} before call {n}");
    let (world, event) = kind.prepared().await;
    world.before_call(n, move |data: &mut Data| change.happen(data, interface));
    let answer = deliver(&world, event).await;
    check(kind, &world, &answer, Some((interface, change)), &case);
    let passes_once = INTERFACES.iter().all(|interface| entries(&world, interface) <= 1);
    assert!(passes_once, "{case}: nobody passes twice{}", last_calls(&world, Instant::now()));
    check_the_end(&world, Some((interface, change)), &case).await;
    // What was given back, somebody may put wherever she likes.
    let gives_back = kind == Kind::Delete || kind == Kind::Update && instance_of(interface) == A;
    assert!(gives_back || world.cards().get(interface) != Some(&groups(&[TRANSIT])), "{case}, the end");
}

/// One instance is about to take it in, the other one sees it already.
#[tokio::test(start_paused = true)]
async fn an_interface_that_moves_while_it_enters_the_transit_group_passes_once() {
    let mut failures = Failures::default();
    for (interface, n) in ["eni-0c1", "eni-0c2"].into_iter().flat_map(|interface| (1..=12).map(move |n| (interface, n)))
    {
        failures.note(changed_at(Kind::Update, Change::MovedToAListedOne, n, interface)).await;
    }
    failures.assert_none();
}

for_each_kind! {
    every_interface_of_a_create_changed_at_every_call: changed_at_every_call(Kind::Create);
    every_interface_of_an_update_changed_at_every_call: changed_at_every_call(Kind::Update);
    every_interface_of_a_delete_changed_at_every_call: changed_at_every_call(Kind::Delete);
    every_interface_of_a_delete_that_keeps_changed_at_every_call: changed_at_every_call(Kind::Keep);
}

/// The same event is delivered once more right before every call.
async fn delivered_again_at_every_call(kind: Kind) {
    let mut failures = Failures::default();
    for n in 1..=kind.calls().await.len() {
        failures.note(delivered_again_at(kind, n)).await;
    }
    failures.assert_none();
}

async fn delivered_again_at(kind: Kind, n: usize) {
    let case = format!("{kind:?}, delivered again at call {n}");
    let (world, event) = kind.prepared().await;
    let (now, begun) = oneshot::channel();
    world.before_call(n, move |_: &mut Data| now.send(()).expect("it is waited for"));
    let second = async {
        begun.await.expect("the call is made");
        run(&world, event.clone()).await
    };
    tokio::join!(run(&world, event.clone()), second);
    let answers = world.data().answers.clone();
    assert_eq!(answers.len(), 2, "{case}: one answer for each");
    for (answer, at) in answers.iter().zip(world.data().at_answers.clone()) {
        let case = format!("{case}: {answer:?}");
        assert_eq!(answer.status, Status::Success, "{case}");
        assert_eq!(at.in_transit, [""; 0], "{case}");
        let isolated: BTreeSet<&str> = INTERFACES
            .into_iter()
            .filter(|interface| at.cards[*interface] == groups(&[ISOLATION]))
            .map(instance_of)
            .collect();
        assert_eq!(isolated, kind.isolates().iter().copied().collect(), "{case}");
    }
    for instance in INSTANCES {
        check_done(kind, &world, instance, None, &case);
    }
    let passes_once = INTERFACES.iter().all(|interface| entries(&world, interface) <= 1);
    assert!(passes_once, "{case}: nobody passes twice{}", last_calls(&world, Instant::now()));
    let taken: BTreeMap<_, usize> = world.data().snapshots.iter().fold(BTreeMap::new(), |mut taken, snapshot| {
        *taken.entry(snapshot.volume.to_string()).or_default() += 1;
        taken
    });
    assert!(taken.values().all(|count| *count == 1), "{case}: {taken:?}");
    check_the_end(&world, None, &case).await;
}

for_each_kind! {
    a_create_delivered_again_at_every_call: delivered_again_at_every_call(Kind::Create);
    an_update_delivered_again_at_every_call: delivered_again_at_every_call(Kind::Update);
    a_delete_delivered_again_at_every_call: delivered_again_at_every_call(Kind::Delete);
    a_delete_that_keeps_delivered_again_at_every_call: delivered_again_at_every_call(Kind::Keep);
}

#[tokio::test(start_paused = true)]
async fn undisturbed_each_kind_does_what_it_should() {
    for kind in KINDS {
        assert!(kind.calls().await.len() > 8, "{kind:?}");
    }
}
