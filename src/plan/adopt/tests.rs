//! What is planned for instances that change hands, as text.

use super::*;
use crate::model::{Snapshot, Snapshots};
use crate::plan::testing::{World, group, groups, rule};

/// `i-1` of the old `stack-1` in its `sg-150`; `stack-2` has `sg-250`. Both tables.
struct Scene {
    old: World,
    heir: Owner,
    new: Records,
    in_charge: BTreeSet<String>,
    listed: BTreeSet<InstanceId>,
    only: BTreeSet<InstanceId>,
}

fn scene(state: State) -> Scene {
    let mut old = World::new()
        .foreign_group("sg-250", "stack-2")
        .plain_group("sg-a")
        .instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-150"])])
        .record("i-1", state, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]);
    let interfaces = old.observed.interfaces.values_mut();
    interfaces.for_each(|interface| interface.tags = original_groups_tags(&groups(&["sg-a"])));
    let heir = Owner { stack_id: "stack-2".to_owned(), logical_id: "Isolation".to_owned() };
    let (new, in_charge, listed, only) = Default::default();
    Scene { old, heir, new, in_charge, listed, only }
}

impl Scene {
    fn look(&self) -> Adoption {
        let Self { old, heir, new, in_charge, listed, only } = self;
        let isolation_group = &"sg-250".parse().unwrap();
        let heritage = Heritage { records: &old.records, in_charge, listed, only, owner: heir, isolation_group };
        adopt(&heritage, new, &old.observed)
    }

    /// What is to be done, in its order, and what stands in the way.
    fn check(&self, expected: &str) {
        let Adoption { take_over, plan, let_go, obstacles } = self.look();
        let mut text: Vec<String> = take_over.iter().map(|id| format!("take over {id}")).collect();
        text.extend(plan.to_string().lines().map(str::to_owned));
        text.extend(let_go.iter().map(|id| format!("let go {id}")));
        text.extend(obstacles.iter().map(|obstacle| format!("! {obstacle}")));
        assert_eq!(text.join("\n"), expected);
    }

    /// The record is copied.
    fn taken_over(mut self) -> Self {
        let mut record = self.old.saved().clone();
        record.owner = self.heir.clone();
        record.state = State::Isolating;
        record.isolation_groups.insert("sg-250".parse().unwrap());
        self.new.insert(record.instance.clone(), Arc::new(record));
        self
    }

    fn moved(mut self, interface: &str, to: &str) -> Self {
        let id: InterfaceId = interface.parse().unwrap();
        let attached = self.old.observed.instances.values_mut().flat_map(|instance| &mut instance.interfaces);
        attached.filter(|found| found.id == id).for_each(|found| found.groups = groups(&[to]));
        self.old.observed.interfaces.get_mut(&id).unwrap().groups = groups(&[to]);
        self
    }

    fn tagged(mut self) -> Self {
        let instance = self.old.observed.instances.values_mut().next().unwrap();
        instance.tags.insert(tag::STACK.to_owned(), "stack-2".to_owned());
        instance.tags.insert(tag::RESTORE.to_owned(), way_out(&self.heir));
        self
    }

    fn marked(mut self, state: State) -> Self {
        self.new.values_mut().for_each(|record| Arc::make_mut(record).state = state);
        self
    }
}

#[test]
fn nothing_is_touched_before_it_is_recorded_in_the_new_table() {
    scene(State::Kept).check("take over i-1");
}

#[test]
fn interfaces_go_from_one_isolation_straight_into_the_other() {
    scene(State::Kept)
        .taken_over()
        .check("i-1: isolate eni-1 [sg-150] -> [sg-250]\ni-1: isolate eni-2 [sg-150] -> [sg-250]");
    scene(State::Kept).taken_over().moved("eni-1", "sg-250").check("i-1: isolate eni-2 [sg-150] -> [sg-250]");
}

#[test]
fn an_instance_that_was_in_the_new_group_once_goes_back_into_it_once() {
    let mut scene = scene(State::Kept).tagged();
    scene.old.saved().isolation_groups.insert("sg-250".parse().unwrap());
    let scene = scene.taken_over().moved("eni-1", "sg-250");
    scene.check("i-1: isolate eni-2 [sg-150] -> [sg-250]");
    scene.moved("eni-2", "sg-250").marked(State::Isolated).check("let go i-1");
}

#[test]
fn the_old_record_goes_when_everything_was_read_back() {
    let scene = scene(State::Kept).taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250");
    scene.check("i-1: mark isolated\ntag i-1 with ec2-isolation:restore, ec2-isolation:stack");
    let scene = scene.marked(State::Isolated);
    scene.check("tag i-1 with ec2-isolation:restore, ec2-isolation:stack\nlet go i-1");
    let mut scene = scene.tagged();
    scene.check("let go i-1");
    scene.old.records.clear();
    scene.check("");
}

#[test]
fn snapshots_are_found_by_the_new_record() {
    let mut scene = scene(State::Kept).tagged();
    scene.old.saved().snapshots = Snapshots { requested: true, ..Snapshots::default() };
    let mut scene = scene.taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250").marked(State::Isolated);
    let episode = scene.old.saved().episode();
    let (id, volume) = ("snap-1".parse().unwrap(), "vol-1".parse().unwrap());
    scene.old.observed.snapshots = vec![Snapshot { id, volume, episode, failed: false, labelled: true }];
    let adoption = scene.look();
    let Some(Step::Tag { tags, .. }) = adoption.plan.steps().next() else { panic!("{}", adoption.plan) };
    assert_eq!(tags[tag::EPISODE], scene.new.values().next().unwrap().episode());
    assert_eq!((tags[tag::STACK].as_str(), tags.len()), ("stack-2", 3));
    scene.check("tag snap-1 with ec2-isolation:episode, ec2-isolation:owner, ec2-isolation:stack\nlet go i-1");
}

#[test]
fn what_was_never_isolated_or_moved_since_is_left_to_a_deployment() {
    let scene = scene(State::Isolating).tagged().taken_over().moved("eni-1", "sg-a").moved("eni-2", "sg-250");
    scene.check("let go i-1");
    assert_eq!(scene.new.values().next().unwrap().state, State::Isolating);
}

#[test]
fn a_stack_that_takes_care_of_its_records_keeps_them() {
    let mut scene = scene(State::Isolated);
    scene.in_charge.insert("stack-1".to_owned());
    scene.check("take over i-1");
    scene.listed.insert("i-1".parse().unwrap());
    scene.check(
        "! i-1 is still isolated by stack-1, which works: deploy that stack once more without i-1 in \
         CompromisedInstanceList (OnRemoval=KeepIsolated leaves it isolated), then adopt it",
    );
    scene.old.saved().state = State::Kept;
    assert!(matches!(scene.look().obstacles.as_slice(), [Problem::InCharge { .. }]));
    scene.old.saved().state = State::Restoring;
    scene.check("! i-1 is being restored by stack-1: wait until that has ended, then look at its status");
}

#[test]
fn a_restore_of_either_stack_is_not_worked_against() {
    let scene = scene(State::Kept).taken_over().marked(State::Restoring);
    scene.check("! i-1 is being restored by stack-2: wait until that has ended, then look at its status");
}

#[test]
fn two_records_are_never_mixed() {
    let mut scene = scene(State::Kept).taken_over();
    Arc::make_mut(scene.new.values_mut().next().unwrap()).interfaces.remove(&"eni-2".parse().unwrap());
    assert!(matches!(scene.look().obstacles.as_slice(), [Problem::RecordedTwice { .. }]));
    let mut scene = scene.taken_over();
    Arc::make_mut(scene.new.values_mut().next().unwrap())
        .interfaces
        .insert("eni-1".parse().unwrap(), groups(&["sg-b"]));
    assert!(matches!(scene.look().obstacles.as_slice(), [Problem::RecordedTwice { .. }]));
    // History is no record.
    scene.marked(State::Restored).check("take over i-1");
}

#[test]
fn an_interface_without_a_record_is_named() {
    let mut scene = scene(State::Kept);
    scene.old.saved().interfaces.remove(&"eni-2".parse().unwrap());
    scene.check(
        "! i-1: eni-2 is in [sg-150] without a record of its original groups: give it its groups by hand, then adopt i-1",
    );
}

#[test]
fn a_new_group_that_does_not_isolate_takes_nothing() {
    let mut scene = scene(State::Kept);
    let heir = scene.old.observed.groups.get_mut(&"sg-250".parse().unwrap()).unwrap();
    heir.egress = vec![rule("-1", None, "0.0.0.0/0")];
    scene.check("! isolation group sg-250 of the new stack lets more through than it may: deploy the new stack first");
    scene.old.observed.groups.insert(
        "sg-250".parse().unwrap(),
        crate::model::Group { vpc: Some("vpc-2".parse().unwrap()), ..group("sg-250") },
    );
    scene.check("! i-1 is recorded in vpc-1, the new stack is for vpc-2: adopt it with a stack that has VpcId=vpc-1");
    scene.old.observed.groups.remove(&"sg-250".parse().unwrap());
    scene.check("! isolation group sg-250 of the new stack does not exist: deploy the new stack first");
}

#[test]
fn others_than_those_named_are_left_alone() {
    let mut scene = scene(State::Kept);
    scene.only.insert("i-2".parse().unwrap());
    scene.check("");
}

#[test]
fn history_stays_where_it_is() {
    let mut scene = scene(State::Restored);
    scene.check("");
    // Whatever the new group is.
    scene.old.observed.groups.remove(&"sg-250".parse().unwrap());
    scene.check("");
}

#[test]
fn those_that_are_named_are_taken_over() {
    let mut scene = scene(State::Kept);
    scene.only.insert("i-1".parse().unwrap());
    scene.check("take over i-1");
}

#[test]
fn what_an_adoption_is_about() {
    let ids = |scene: &Scene| scene.look().instances().iter().map(ToString::to_string).collect::<Vec<_>>();
    let untouched = scene(State::Kept);
    assert!(!untouched.look().is_empty());
    assert_eq!(ids(&untouched), ["i-1"]);
    let moving = scene(State::Kept).taken_over();
    assert!(!moving.look().is_empty() && moving.look().let_go.is_empty());
    assert_eq!(ids(&moving), ["i-1"]);
    let left = scene(State::Kept).taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250");
    let left = left.marked(State::Isolated).tagged();
    assert!(!left.look().is_empty() && left.look().plan.is_empty());
    assert_eq!(ids(&left), ["i-1"]);
    let mut done = left;
    done.old.records.clear();
    assert!(done.look().is_empty());
    assert_eq!(ids(&done), [""; 0]);
}

#[test]
fn a_stack_that_works_but_does_not_list_it_lets_it_go() {
    let mut scene = scene(State::Restoring);
    scene.check("take over i-1");
    scene.listed.insert("i-1".parse().unwrap());
    scene.check("take over i-1");
    scene.in_charge.insert("stack-3".to_owned());
    scene.check("take over i-1");
}

#[test]
fn a_record_that_another_resource_holds_in_the_new_table_is_not_mixed_either() {
    let mut scene = scene(State::Kept).taken_over();
    Arc::make_mut(scene.new.values_mut().next().unwrap()).owner.logical_id = "Other".to_owned();
    scene.check(
        "! i-1 has another record in the new table already, held by stack-2|Other, with other interfaces: its originals are \
         not mixed; restore one of the two first",
    );
    // More than was recorded before is no harm.
    let mut scene = self::scene(State::Kept).taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250").tagged();
    let record = Arc::make_mut(scene.new.values_mut().next().unwrap());
    record.interfaces.insert("eni-3".parse().unwrap(), groups(&["sg-a"]));
    scene.check("i-1: mark isolated");
}

#[test]
fn a_group_of_no_vpc_takes_nothing() {
    let mut scene = scene(State::Kept);
    scene.old.observed.groups.get_mut(&"sg-250".parse().unwrap()).unwrap().vpc = None;
    scene.check("! i-1 is recorded in vpc-1, the new stack is for no VPC: adopt it with a stack that has VpcId=vpc-1");
}

#[test]
fn an_interface_of_the_instance_in_other_groups_needs_no_record() {
    let attach = |group: &str| {
        let mut scene = scene(State::Kept);
        let interface = crate::plan::testing::interface("eni-3", &[group]);
        scene.old.observed.instances.values_mut().next().unwrap().interfaces.push(interface);
        scene
    };
    attach("sg-a").check("take over i-1");
    attach("sg-250").check("take over i-1");
    assert!(matches!(attach("sg-150").look().obstacles.as_slice(), [Problem::Unrecorded { .. }]));
    // It is not isolated: the new record is not marked so.
    let scene = attach("sg-a").taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250").tagged();
    scene.check("let go i-1");
}

#[test]
fn an_interface_that_another_record_holds_is_adopted_with_the_instance_that_it_came_from() {
    let beside = |state, stack: &str| {
        let mut scene = scene(State::Kept);
        let interface = crate::plan::testing::interface("eni-3", &["sg-150"]);
        scene.old.observed.instances.values_mut().next().unwrap().interfaces.push(interface);
        scene.old = scene.old.record("i-2", state, &[("eni-3", &["sg-a"])]);
        let record = scene.old.records.get_mut(&"i-2".parse().unwrap()).unwrap();
        Arc::make_mut(record).owner.stack_id = stack.to_owned();
        scene
    };
    let named = |ids: &[&str]| {
        let mut scene = beside(State::Kept, "stack-1");
        scene.only.extend(ids.iter().map(|id| id.parse().unwrap()));
        scene
    };
    let both = "take over i-1\ntake over i-2";
    named(&[]).check(both);
    named(&["i-1", "i-2"]).check(both);
    named(&["i-1"]).check("! i-1: eni-3 is in the record of i-2: adopt i-2 with it");
    // What is only history, or another stack's, says nothing of it.
    let unrecorded = "! i-1: eni-3 is in [sg-150] without a record of its original groups: give it its groups by hand, then \
                      adopt i-1";
    beside(State::Restored, "stack-1").check(unrecorded);
    beside(State::Kept, "stack-3").check(&format!("take over i-2\n{unrecorded}"));
}

#[test]
fn an_interface_that_only_one_of_two_readings_shows_moved_is_not_whole() {
    let mut scene = scene(State::Kept).taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250").tagged();
    scene.old.observed.interfaces.get_mut(&"eni-2".parse().unwrap()).unwrap().groups = groups(&["sg-c"]);
    scene.check("let go i-1");
    scene.old.observed.interfaces.remove(&"eni-2".parse().unwrap());
    scene.check("i-1: mark isolated");
}

#[test]
fn tags_say_whose_it_is_now() {
    let isolated =
        || scene(State::Kept).taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250").marked(State::Isolated);
    let mut untagged = isolated().tagged();
    let interface = untagged.old.observed.interfaces.get_mut(&"eni-2".parse().unwrap()).unwrap();
    interface.tags = original_groups_tags(&groups(&["sg-b"]));
    untagged.check("tag eni-2 with ec2-isolation:original-groups-1\nlet go i-1");
    untagged.old.observed.interfaces.remove(&"eni-2".parse().unwrap());
    untagged.check("let go i-1");
    let mut terminated = isolated();
    terminated.old.observed.instances.values_mut().next().unwrap().state = "terminated".to_owned();
    terminated.check("let go i-1");
    terminated.old.observed.instances.clear();
    terminated.check("let go i-1");
    // So do the volumes that say they are the old stack's, and no others.
    let mut volume = isolated().tagged();
    let tags = |stack: &str| [(tag::STACK.to_owned(), stack.to_owned())].into();
    for (stack, expected) in [
        ("stack-1", "tag vol-1 with ec2-isolation:restore, ec2-isolation:stack\nlet go i-1"),
        ("stack-2", "let go i-1"),
        ("stack-3", "let go i-1"),
    ] {
        volume.old.observed.volume_tags.insert("vol-1".parse().unwrap(), tags(stack));
        volume.check(expected);
    }
    // Snapshots of another isolation are none of ours.
    let mut other = isolated().tagged();
    let (id, volume, episode) = ("snap-1".parse().unwrap(), "vol-1".parse().unwrap(), "another".to_owned());
    other.old.observed.snapshots = vec![Snapshot { id, volume, episode, failed: false, labelled: true }];
    other.check("let go i-1");
}

/// One adoption as the loop of an instance plans it.
fn with_goal<T>(scene: &Scene, ask: impl FnOnce(&World, &crate::plan::Goal<'_>) -> T) -> T {
    let Scene { old, heir, new, in_charge, listed, only } = scene;
    let isolation_group = &"sg-250".parse().unwrap();
    let heritage = Heritage { records: &old.records, in_charge, listed, only, owner: heir, isolation_group };
    let goal = crate::plan::Goal::Adopt(&heritage);
    let world = old.clone().with(|world| world.records = new.clone());
    ask(&world, &goal)
}

#[test]
fn the_loop_of_an_instance_moves_what_was_copied() {
    let text = |scene: &Scene| with_goal(scene, |world, goal| world.plan(goal).to_string());
    // Nothing is touched that is not recorded in the new table.
    assert_eq!(text(&scene(State::Kept)), "");
    let moves = "i-1: isolate eni-1 [sg-150] -> [sg-250]\ni-1: isolate eni-2 [sg-150] -> [sg-250]\n";
    assert_eq!(text(&scene(State::Kept).taken_over()), moves);
    // Whatever is named: this one alone.
    let mut named = scene(State::Kept).taken_over();
    named.only.insert("i-2".parse().unwrap());
    assert_eq!(text(&named), moves);
    let mut others = scene(State::Kept).taken_over();
    others.old = others.old.record("i-2", State::Kept, &[("eni-9", &["sg-a"])]);
    assert_eq!(text(&others), moves);
    assert!(text(&scene(State::Kept).taken_over().marked(State::Restoring)).starts_with("! i-1 is being restored"));
}

#[test]
fn what_was_moved_out_of_the_new_group_while_it_is_adopted_is_put_back() {
    let out = scene(State::Kept).taken_over().moved("eni-1", "sg-c").moved("eni-2", "sg-250").tagged();
    let text = |written: Option<&str>| {
        let wrote = |world: World, to: &str| world.wrote("eni-1", &[to], Ok(()));
        with_goal(&out, |world, goal| written.into_iter().fold(world.clone(), wrote).plan(goal).to_string())
    };
    assert_eq!(text(Some("sg-250")), "i-1: isolate eni-1 [sg-c] -> [sg-250]\n");
    // What this run has not moved is left to a deployment.
    assert_eq!((text(None).as_str(), text(Some("sg-150")).as_str()), ("", ""));
}

#[test]
fn nothing_is_marked_isolated_before_what_is_not_shown_was_read_again() {
    let moved = || scene(State::Kept).taken_over().moved("eni-1", "sg-250").moved("eni-2", "sg-250").tagged();
    let without_interface = |world: &mut World| _ = world.observed.interfaces.remove(&"eni-2".parse().unwrap());
    let without_instance = |world: &mut World| world.observed.instances.clear();
    let (mut first, mut second) = (moved(), moved());
    without_interface(&mut first.old);
    without_instance(&mut second.old);
    for (scene, doubt) in [(first, "? eni-2 is not shown\n"), (second, "? the instance is not shown\n")] {
        let (first, later) = with_goal(&scene, |world, goal| {
            (world.plan(goal).to_string(), world.clone().seen_before(goal).plan(goal).to_string())
        });
        assert_eq!((first, later), (doubt.to_owned(), format!("i-1: mark isolated\n{doubt}")));
    }
}

#[test]
fn what_an_adoption_reads() {
    let needs = |scene: &Scene| with_goal(scene, |world, goal| world.needs(goal, crate::plan::Reach::Full));
    let read = needs(&scene(State::Kept));
    let episode = scene(State::Kept).old.saved().episode();
    assert_eq!(read.groups, groups(&["sg-150", "sg-250", "sg-a"]));
    assert_eq!(read.interfaces.len(), 2);
    assert_eq!((read.marked.len(), read.episode.clone()), (1, Some(episode)));
    assert_eq!(read.volumes, ["vol-1".parse().unwrap()].into());
    let (volumes, groups, marked) = (BTreeSet::new(), Groups::new(), BTreeSet::new());
    let rest = Needs { interfaces: BTreeSet::new(), groups, marked, volumes, episode: None, ..read };
    assert_eq!(rest, Needs::default());
    let mut gone = scene(State::Kept);
    gone.old.records.clear();
    assert_eq!(needs(&gone), Needs::default());
}
