//! What is planned for instances to isolate, as text.

use super::*;
use crate::plan::testing::{World, wants};

fn remembers(interface: &str, accepted: bool) -> Memory {
    Memory { accepted: [(interface.parse().unwrap(), accepted)].into(), ..Memory::default() }
}

/// Checks the text of the plan for these instances, all of whose groups exist.
fn check(world: &World, instances: &[&str], expected: &str) {
    check_with(world, &wants(instances), &Memory::default(), expected);
}

fn check_with(world: &World, wants: &Wants, memory: &Memory, expected: &str) {
    let mut observed = world.observed.clone();
    let shown = observed.interfaces.values().flat_map(|interface| interface.groups.clone());
    for id in shown.collect::<Groups>() {
        observed.groups.entry(id.clone()).or_insert_with(|| crate::plan::testing::group(id.as_str()));
    }
    let (plan, _) = contain(&world.owner, wants, &world.records, &observed, memory);
    assert_eq!(plan.to_string().trim_end(), expected);
}

#[test]
fn isolated_instances_need_nothing() {
    let world =
        World::new().instance("i-1", &[("eni-1", &["sg-150"])]).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    check(&world, &["i-1"], "");
}

#[test]
fn each_interface_is_recorded_and_then_isolated() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-a", "sg-b"]), ("eni-2", &["sg-c"])]);
    check(
        &world,
        &["i-1"],
        "i-1: record eni-1 [sg-a, sg-b] eni-2 [sg-c]\n\
         i-1: isolate eni-1 [sg-a, sg-b] -> [sg-150]\n\
         i-1: isolate eni-2 [sg-c] -> [sg-150]",
    );
}

#[test]
fn a_record_is_never_written_again_from_what_is_seen_later() {
    let world =
        World::new().instance("i-1", &[("eni-1", &["sg-b"])]).record("i-1", State::Isolating, &[("eni-1", &["sg-a"])]);
    check(&world, &["i-1"], "i-1: isolate eni-1 [sg-b] -> [sg-150]");
}

#[test]
fn what_was_seen_isolated_and_is_no_longer_is_marked_so_before_it_is_changed() {
    let world =
        World::new().instance("i-1", &[("eni-1", &["sg-a"])]).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    check(&world, &["i-1"], "i-1: record as isolating\ni-1: isolate eni-1 [sg-a] -> [sg-150]");
}

#[test]
fn what_may_be_a_stale_read_is_written_once_more() {
    for state in [State::Isolating, State::Restoring, State::Kept] {
        let world =
            World::new().instance("i-1", &[("eni-1", &["sg-150"])]).record("i-1", state, &[("eni-1", &["sg-a"])]);
        let (plan, _) = contain(&world.owner, &wants(&["i-1"]), &world.records, &world.observed, &Memory::default());
        let first = if state == State::Isolating { "" } else { "i-1: record as isolating\n" };
        assert_eq!(plan.to_string(), format!("{first}i-1: confirm eni-1 [sg-150] -> [sg-150]\n"));
        for (accepted, isolated) in [(true, 1), (false, 0)] {
            let accepted = remembers("eni-1", accepted);
            let (_, contained) = contain(&world.owner, &wants(&["i-1"]), &world.records, &world.observed, &accepted);
            assert_eq!((contained.interfaces.len(), contained.open.len()), (isolated, 1 - isolated));
        }
    }
}

#[test]
fn an_interface_attached_later_is_added_to_the_record() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]).record(
        "i-1",
        State::Isolated,
        &[("eni-1", &["sg-a"])],
    );
    check(&world, &["i-1"], "i-1: record eni-2 [sg-b] (added)\ni-1: isolate eni-2 [sg-b] -> [sg-150]");
}

#[test]
fn a_restored_record_is_history_and_a_new_isolation_starts_afresh() {
    let world =
        World::new().instance("i-1", &[("eni-1", &["sg-b"])]).record("i-1", State::Restored, &[("eni-1", &["sg-a"])]);
    check(&world, &["i-1"], "i-1: record eni-1 [sg-b]\ni-1: isolate eni-1 [sg-b] -> [sg-150]");
}

#[test]
fn what_shows_our_group_though_it_was_restored_is_recorded_with_what_it_had() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-b"])]).record(
        "i-1",
        State::Restored,
        &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])],
    );
    check(
        &world,
        &["i-1"],
        "i-1: record eni-1 [sg-a] eni-2 [sg-b]\n\
         i-1: confirm eni-1 [sg-150] -> [sg-150]\n\
         i-1: isolate eni-2 [sg-b] -> [sg-150]",
    );
}

#[test]
fn our_groups_are_never_recorded_as_originals() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150", "sg-a"])]);
    check(&world, &["i-1"], "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-150, sg-a] -> [sg-150]");
}

#[test]
fn an_interface_in_our_group_without_a_record_is_named() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"])]);
    check(
        &world,
        &["i-1"],
        "! i-1: eni-1 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand",
    );
}

#[test]
fn the_others_are_isolated_whatever_is_wrong_with_one() {
    let world = World::new()
        .instance("i-1", &[("eni-1", &["sg-a"])])
        .instance_in("i-2", "vpc-2", &[("eni-2", &["sg-b"])])
        .terminated("i-3");
    check(
        &world,
        &["i-2", "i-3", "i-4", "i-1"],
        "i-1: record eni-1 [sg-a]\n\
         i-1: isolate eni-1 [sg-a] -> [sg-150]\n\
         ! i-2 is in vpc-2, not in vpc-1: isolate it with a stack of its own, with VpcId vpc-2\n\
         ! i-3 is terminated: take it off CompromisedInstanceList\n\
         ! i-4 does not exist in this account and region: check the id, or take it off CompromisedInstanceList",
    );
}

#[test]
fn an_instance_in_another_stacks_isolation_is_left_to_it() {
    let world = World::new().foreign_group("sg-f0", "stack-2").instance("i-1", &[("eni-1", &["sg-f0"])]);
    check(&world, &["i-1"], "! i-1 is already held isolated by stack-2: delete that stack first, or leave it to it");
}

#[test]
fn a_marker_on_a_group_that_does_not_isolate_protects_nobody_from_isolation() {
    for role in [Role::Isolation, Role::Transit] {
        let mut world = World::new().foreign_group("sg-f0", "stack-2").instance("i-1", &[("eni-1", &["sg-f0"])]);
        let group = world.observed.groups.get_mut(&"sg-f0".parse().unwrap()).unwrap();
        (group.role, group.egress) = (Some(role), vec![crate::plan::testing::rule("-1", None, "0.0.0.0/0")]);
        check(&world, &["i-1"], "i-1: record eni-1 [sg-f0]\ni-1: isolate eni-1 [sg-f0] -> [sg-150]");
    }
}

#[test]
fn an_interface_in_the_transit_group_of_another_stack_is_left_to_it() {
    let mut world = World::new()
        .foreign_group("sg-f0", "stack-2")
        .foreign_group("sg-f1", "stack-2")
        .instance("i-1", &[("eni-1", &["sg-f1"])]);
    world.observed.groups.get_mut(&"sg-f1".parse().unwrap()).unwrap().role = Some(Role::Transit);
    check(&world, &["i-1"], "! i-1 is already held isolated by stack-2: delete that stack first, or leave it to it");
}

/// `i-1` is recorded, one of its interfaces is in our isolation, the other in that of `stack`.
fn shared_with(stack: &str) -> World {
    World::new().foreign_group("sg-f0", stack).instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-f0"])]).record(
        "i-1",
        State::Isolating,
        &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])],
    )
}

#[test]
fn of_two_stacks_that_share_an_instance_the_one_with_the_lesser_id_takes_all_of_it() {
    let mut world = shared_with("stack-2");
    let wants = Wants { cut_connections: true, transit_group: Some("sg-7a5".parse().unwrap()), ..wants(&["i-1"]) };
    let taken = "i-1: confirm eni-1 [sg-150] -> [sg-150]\ni-1: isolate eni-2 [sg-f0] -> [sg-150]";
    check(&world, &["i-1"], taken);
    // Nothing of it passes through the open: it is isolated.
    world = world.transit_group("sg-7a5");
    record(&mut world).isolation_groups.insert("sg-7a5".parse().unwrap());
    check_with(&world, &wants, &remembers("eni-1", true), "i-1: isolate eni-2 [sg-f0] -> [sg-150]");
}

#[test]
fn of_two_stacks_that_share_an_instance_the_one_with_the_greater_id_moves_its_part_over() {
    let held = "! i-1 is already held isolated by stack-0: delete that stack first, or leave it to it";
    check(&shared_with("stack-0"), &["i-1"], &format!("i-1: isolate eni-1 [sg-150] -> [sg-f0]\n{held}"));
    let mut lost = shared_with("stack-0");
    let interfaces = &mut lost.observed.instances.values_mut().next().unwrap().interfaces;
    interfaces[0].groups = crate::plan::testing::groups(&["sg-f0"]);
    check(&lost, &["i-1"], held);
}

#[test]
fn a_part_that_somebody_moved_later_is_left_to_the_other_stack_and_the_rest_stays_ours() {
    for (stack, state) in [("stack-0", State::Isolated), ("stack-2", State::Isolated), ("stack-0", State::Kept)] {
        let mut world = shared_with(stack);
        record(&mut world).state = state;
        let held = format!("! i-1 is already held isolated by {stack}: delete that stack first, or leave it to it");
        check(&world, &["i-1"], &held);
    }
}

#[test]
fn what_another_stack_had_before_we_recorded_it_is_left_to_it_and_not_shared() {
    for stack in ["stack-0", "stack-2"] {
        let mut world = shared_with(stack);
        record(&mut world).interfaces.remove(&"eni-2".parse().unwrap());
        let held = format!("! i-1 is already held isolated by {stack}: delete that stack first, or leave it to it");
        check(&world, &["i-1"], &held);
    }
}

#[test]
fn a_record_of_another_stack_is_never_overwritten() {
    let mut world =
        World::new().instance("i-1", &[("eni-1", &["sg-a"])]).record("i-1", State::Kept, &[("eni-1", &["sg-a"])]);
    world.records.get_mut(&"i-1".parse().unwrap()).unwrap().owner.stack_id = "stack-2".into();
    check(&world, &["i-1"], "! i-1 is already held isolated by stack-2: delete that stack first, or leave it to it");
}

#[test]
fn another_logical_id_of_the_same_stack_takes_the_record_over() {
    let mut world =
        World::new().instance("i-1", &[("eni-1", &["sg-150"])]).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    world.records.get_mut(&"i-1".parse().unwrap()).unwrap().owner.logical_id = "Old".into();
    check(&world, &["i-1"], "i-1: record (taken over from Old)");
}

#[test]
fn a_missing_or_foreign_isolation_group_means_no_change_at_all() {
    let mut world = World::new().instance("i-1", &[("eni-1", &["sg-a"])]);
    world.observed.groups.get_mut(&"sg-150".parse().unwrap()).unwrap().vpc = Some("vpc-2".parse().unwrap());
    check(&world, &["i-1"], "! isolation group sg-150 is in vpc-2, not in vpc-1: nothing was changed; correct VpcId");
    world.observed.groups.clear();
    check(
        &world,
        &["i-1"],
        "! isolation group sg-150 does not exist: nothing was changed; put the stack right (it makes this group)",
    );
}

#[test]
fn a_group_that_replaces_ours_moves_its_interfaces_without_a_new_original() {
    let mut world =
        World::new().instance("i-1", &[("eni-1", &["sg-01d"])]).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    world.records.get_mut(&"i-1".parse().unwrap()).unwrap().isolation_groups = ["sg-01d".parse().unwrap()].into();
    world.records.get_mut(&"i-1".parse().unwrap()).unwrap().isolation_group = "sg-01d".parse().unwrap();
    check(&world, &["i-1"], "i-1: record as isolating\ni-1: isolate eni-1 [sg-01d] -> [sg-150]");
}

#[test]
fn what_is_contained_is_counted_from_what_was_read() {
    let world = World::new()
        .instance("i-1", &[("eni-1", &["sg-150"])])
        .instance("i-2", &[("eni-2", &["sg-150"]), ("eni-3", &["sg-a"])])
        .record("i-1", State::Isolated, &[("eni-1", &["sg-a"])])
        .record("i-2", State::Isolating, &[("eni-2", &["sg-a"]), ("eni-3", &["sg-a"])]);
    let accepted = remembers("eni-2", true);
    let (_, contained) = contain(&world.owner, &wants(&["i-1", "i-2"]), &world.records, &world.observed, &accepted);
    let ids = |map: &BTreeMap<InterfaceId, _>| map.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(contained.instances, BTreeSet::from(["i-1".parse().unwrap()]));
    assert_eq!(ids(&contained.interfaces), ["eni-1", "eni-2"]);
    assert_eq!(ids(&contained.open), ["eni-3"]);
    assert_eq!(contained.touched().len(), 2);
}

/// Wants that go through `sg-7a5`.
fn cutting(instances: &[&str]) -> Wants {
    Wants { cut_connections: true, transit_group: Some("sg-7a5".parse().unwrap()), ..wants(instances) }
}

/// One instance, isolated and recorded so.
fn isolated(world: World) -> World {
    world.instance("i-1", &[("eni-1", &["sg-150"])]).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])])
}

fn record(world: &mut World) -> &mut Record {
    world.records.get_mut(&"i-1".parse().unwrap()).unwrap()
}

#[test]
fn connections_are_cut_on_the_way() {
    let world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])]);
    check_with(
        &world,
        &cutting(&["i-1"]),
        &Memory::default(),
        "i-1: record eni-1 [sg-a] eni-2 [sg-b]\n\
         i-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]\n\
         i-1: isolate eni-2 by way of sg-7a5 for 5 s -> [sg-150]",
    );
}

#[test]
fn a_stopped_instance_has_no_connections() {
    let mut world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-a"])]);
    world.observed.instances.values_mut().next().unwrap().state = "stopped".to_owned();
    let direct = "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]";
    check_with(&world, &cutting(&["i-1"]), &Memory::default(), direct);
}

#[test]
fn what_was_written_and_is_not_visible_yet_is_planned_the_same() {
    for (shown, cut, expected) in [
        ("sg-a", true, "i-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]"),
        ("sg-7a5", true, "i-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]"),
        ("sg-a", false, "i-1: isolate eni-1 [sg-a] -> [sg-150]"),
        ("sg-7a5", false, "i-1: isolate eni-1 [sg-7a5] -> [sg-150]"),
    ] {
        let mut world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &[shown])]).record(
            "i-1",
            State::Isolating,
            &[("eni-1", &["sg-a"])],
        );
        record(&mut world).isolation_groups.insert("sg-7a5".parse().unwrap());
        let cut = if cut { ["eni-1".parse().unwrap()].into() } else { BTreeSet::new() };
        check_with(&world, &cutting(&["i-1"]), &Memory { cut, ..remembers("eni-1", true) }, expected);
    }
}

#[test]
fn an_interface_that_a_dead_invocation_left_in_transit_comes_first_and_goes_straight_out() {
    let mut world = World::new()
        .transit_group("sg-7a5")
        .instance("i-2", &[("eni-2", &["sg-b"])])
        .instance("i-1", &[("eni-1", &["sg-7a5"])])
        .record("i-1", State::Isolating, &[("eni-1", &["sg-a"])]);
    record(&mut world).isolation_groups.insert("sg-7a5".parse().unwrap());
    check_with(
        &world,
        &cutting(&["i-2", "i-1"]),
        &Memory::default(),
        "i-1: isolate eni-1 [sg-7a5] -> [sg-150]\n\
         i-2: record eni-2 [sg-b]\n\
         i-2: isolate eni-2 by way of sg-7a5 for 5 s -> [sg-150]",
    );
    // Also where the option is off by now.
    check(&world, &["i-1"], "i-1: isolate eni-1 [sg-7a5] -> [sg-150]");
}

#[test]
fn before_an_interface_passes_the_record_says_where_it_can_be_found() {
    let world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-a"])]).record(
        "i-1",
        State::Isolating,
        &[("eni-1", &["sg-a"])],
    );
    let expected = "i-1: record as isolating\ni-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]";
    check_with(&world, &cutting(&["i-1"]), &Memory::default(), expected);
}

/// Twenty-one instances, with their ids.
fn crowd(group: &str) -> (World, Vec<String>) {
    let ids: Vec<String> = (0x10..0x25).map(|n| format!("i-{n:x}")).collect();
    let world = ids.iter().fold(World::new().transit_group("sg-7a5"), |world, id| {
        world.instance(id, &[(&id.replace("i-", "eni-"), &[group])])
    });
    (world, ids)
}

fn counts(world: &World, ids: &[String], memory: &Memory) -> (usize, usize) {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut observed = world.observed.clone();
    observed.groups.insert("sg-a".parse().unwrap(), crate::plan::testing::group("sg-a"));
    let (plan, _) = contain(&world.owner, &cutting(&ids), &world.records, &observed, memory);
    let passes = plan.steps().filter(|step| matches!(step, Step::Pass { .. })).count();
    (passes, plan.steps().filter(|step| matches!(step, Step::SetGroups { .. })).count())
}

#[test]
fn more_than_may_pass_at_once_are_isolated_directly_and_then_pass_in_waves() {
    let (world, ids) = crowd("sg-a");
    assert_eq!(counts(&world, &ids[..20], &Memory::default()), (20, 0));
    assert_eq!(counts(&world, &ids, &Memory::default()), (0, 21));

    let (mut world, ids) = crowd("sg-150");
    for id in &ids {
        world = world.record(id, State::Isolating, &[(&id.replace("i-", "eni-"), &["sg-a"])]);
    }
    let interfaces = || world.observed.interfaces.keys().cloned();
    let mut memory = Memory { accepted: interfaces().map(|id| (id, true)).collect(), ..Memory::default() };
    assert_eq!(counts(&world, &ids, &memory), (20, 0));
    memory.cut = interfaces().take(20).collect();
    assert_eq!(counts(&world, &ids, &memory), (1, 0));
    memory.cut = interfaces().collect();
    assert_eq!(counts(&world, &ids, &memory), (0, 0));
}

#[test]
fn what_is_isolated_waits_while_nothing_was_tried_with_somebody_outside() {
    let world = isolated(World::new().transit_group("sg-7a5")).instance("i-2", &[("eni-2", &["sg-b"])]);
    check_with(
        &world,
        &cutting(&["i-1", "i-2"]),
        &Memory::default(),
        "i-2: record eni-2 [sg-b]\ni-2: isolate eni-2 by way of sg-7a5 for 5 s -> [sg-150]",
    );
}

#[test]
fn what_an_earlier_request_isolated_without_cutting_is_cut_once() {
    let mut world = isolated(World::new().transit_group("sg-7a5"));
    let expected = "i-1: record as isolating\ni-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]";
    check_with(&world, &cutting(&["i-1"]), &Memory::default(), expected);
    record(&mut world).connections_cut = true;
    check_with(&world, &cutting(&["i-1"]), &Memory::default(), "");
}

/// A failed deployment that is corrected must not open again what is cut off.
#[test]
fn what_is_cut_and_kept_is_confirmed_without_passing_again() {
    let mut world = isolated(World::new().transit_group("sg-7a5"));
    (record(&mut world).state, record(&mut world).connections_cut) = (State::Kept, true);
    let expected = "i-1: record as isolating\ni-1: confirm eni-1 [sg-150] -> [sg-150]";
    check_with(&world, &cutting(&["i-1"]), &Memory::default(), expected);
    let (_, contained) = contain(&world.owner, &cutting(&["i-1"]), &world.records, &world.observed, &Memory::default());
    assert!(contained.cut.contains(&"eni-1".parse().unwrap()));
}

#[test]
fn nobody_enters_a_transit_group_or_leaves_for_an_isolation_group_that_is_not_what_it_should_be() {
    let world = || World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-a"])]);
    let direct = "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]\n";
    let check = |world: &World, wants: &Wants, problem: &str| {
        check_with(world, wants, &Memory::default(), &format!("{direct}! {problem}"));
    };
    let mut narrow = world();
    narrow.observed.groups.get_mut(&"sg-7a5".parse().unwrap()).unwrap().egress.pop();
    check(
        &narrow,
        &cutting(&["i-1"]),
        "established connections are not cut: transit group sg-7a5 does not allow all traffic out ::/0; put its rules right",
    );
    let mut missing = world();
    missing.observed.groups.remove(&"sg-7a5".parse().unwrap());
    check(
        &missing,
        &cutting(&["i-1"]),
        "established connections are not cut: transit group sg-7a5 does not exist; put its rules right",
    );
    let mut wide = world();
    wide.observed.groups.get_mut(&"sg-150".parse().unwrap()).unwrap().egress =
        vec![crate::plan::testing::rule("-1", None, "0.0.0.0/0")];
    check(
        &wide,
        &cutting(&["i-1"]),
        "isolation group sg-150 allows out all protocols 0.0.0.0/0: hosts in it are not cut off; remove that rule",
    );
    let unnamed = Wants { transit_group: None, ..cutting(&["i-1"]) };
    check(&world(), &unnamed, "established connections were not cut: TransitSecurityGroupId is empty");
}

#[test]
fn what_could_not_pass_is_isolated_and_named() {
    let world = World::new().transit_group("sg-7a5").instance("i-1", &[("eni-1", &["sg-150"])]).record(
        "i-1",
        State::Isolating,
        &[("eni-1", &["sg-a"])],
    );
    let not_cut = [("eni-1".parse().unwrap(), "the reason".to_owned())].into();
    check_with(
        &world,
        &cutting(&["i-1"]),
        &Memory { not_cut, ..remembers("eni-1", true) },
        "! i-1: eni-1 is isolated, but connections that were open may live on: the reason",
    );
}

#[test]
fn a_group_that_does_not_exist_is_not_recorded_before_it_was_doubted() {
    let world = World::new()
        .plain_group("sg-b")
        .instance("i-1", &[("eni-1", &["sg-a"])])
        .instance("i-2", &[("eni-2", &["sg-b"])]);
    let plan = |believes| {
        let memory = Memory { believes, ..Memory::default() };
        contain(&world.owner, &wants(&["i-1", "i-2"]), &world.records, &world.observed, &memory).0.to_string()
    };
    let other = "i-2: record eni-2 [sg-b]\ni-2: isolate eni-2 [sg-b] -> [sg-150]\n";
    let problem = "! i-1: eni-1 was recorded as it was shown, in [sg-a], but no such group exists: before it is restored \
                   look up its true groups (CloudTrail, ModifyNetworkInterfaceAttribute)\n";
    assert_eq!(plan(false), format!("{other}{problem}"));
    let first = "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]\n";
    assert_eq!(plan(true), format!("{first}{other}{problem}"));
}
