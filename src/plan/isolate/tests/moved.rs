//! The interface is what is isolated; the instance is only where it was found. What is gone, or somewhere else.

use super::*;
use crate::model::Fault;
use crate::plan::testing::groups;

#[test]
fn an_instance_that_is_not_shown_is_doubted_first() {
    let world = World::new();
    check(&world, "? the instance is not shown");
    check_later(
        &world,
        &bare(),
        "! i-1 does not exist in this account and region: check the id, or take it off CompromisedInstanceList\n\
         ? the instance is not shown",
    );
}

#[test]
fn a_terminated_instance_is_said_to_be_and_whether_before_its_snapshots() {
    let wants = |snapshot_volumes| Wants { snapshot_volumes, ..bare() };
    let terminated = "! i-1 is terminated: take it off CompromisedInstanceList";
    let unsaved = "! i-1 was terminated before its snapshots: look for volumes that outlived it, then take it off CompromisedInstanceList";
    let world = World::new().terminated("i-1");
    check_for(&world, &wants(true), terminated);
    let held = world.record("i-1", State::Isolated, &[]);
    check_for(&held, &wants(true), unsaved);
    check_for(&held, &wants(false), terminated);
    check_for(&held.clone().state(State::Restored), &wants(true), terminated);
    let saved = held.saved_with(|record| {
        _ = record.snapshots.taken.insert("vol-1".parse().unwrap(), "snap-1".parse().unwrap());
    });
    check_for(&saved, &wants(true), &format!("{terminated}\n? snap-1 is not shown"));
    let (id, volume, episode) = ("snap-1".parse().unwrap(), "vol-1".parse().unwrap(), String::new());
    let snapshot = crate::model::Snapshot { id, volume, episode, failed: false, labelled: true };
    let shown = saved.with(|world| world.observed.snapshots = vec![snapshot]);
    check_for(&shown, &wants(true), terminated);
    assert_eq!(plan_for(&shown, &wants(true)).standing.snapshots.len(), 1);
}

/// The stack's isolation group was replaced meanwhile.
#[test]
fn an_instance_that_is_not_isolated_is_not_recorded_as_isolating() {
    let replaced = |world: World| {
        let world = world.record("i-1", State::Isolated, &[]);
        let world = world.saved_with(|record| record.isolation_group = "sg-01d".parse().unwrap());
        plan_for(&world, &bare()).steps().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(replaced(World::new()), [""; 0]);
    assert_eq!(replaced(World::new().terminated("i-1")), [""; 0]);
    let held = World::new().foreign_group("sg-f0", "stack-2").instance("i-1", &[("eni-1", &["sg-f0"])]);
    assert_eq!(replaced(held), [""; 0]);
}

#[test]
fn an_instance_without_interfaces_is_doubted_first() {
    let world = World::new().instance("i-1", &[]).change_instance(|instance| instance.state = "pending".to_owned());
    check(&world, "? no interface is shown");
    check_later(
        &world,
        &bare(),
        "! i-1 (pending) has no network interface: wait until it has one\n? no interface is shown",
    );
}

#[test]
fn an_instance_in_another_vpc_is_named() {
    let elsewhere = World::new().instance_in("i-1", "vpc-2", &[("eni-1", &["sg-a"])]);
    let named = "! i-1 is in vpc-2, not in vpc-1: isolate it with a stack of its own, with VpcId vpc-2";
    check(&elsewhere, named);
    check(&World::new().instance_in("i-1", "vpc-2", &[]), named);
    let swap = "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]";
    check(
        &elsewhere.clone().change_instance(|instance| instance.vpc = Some("vpc-1".parse().unwrap())),
        INTERFACE_ELSEWHERE,
    );
    check(&elsewhere.clone().change_instance(|instance| instance.vpc = None), INTERFACE_ELSEWHERE);
    // Where the interface is decides.
    check(
        &elsewhere.clone().change_interface("eni-1", |interface| interface.vpc = Some("vpc-1".parse().unwrap())),
        swap,
    );
    check(&elsewhere.change_interface("eni-1", |interface| interface.vpc = None), swap);
}

const INTERFACE_ELSEWHERE: &str = "! i-1: eni-1 is in vpc-2, not in vpc-1: give it a group of vpc-2 that allows nothing: \
                                   aws ec2 modify-network-interface-attribute --network-interface-id eni-1 --groups <group ids>";

#[test]
fn an_interface_in_another_vpc_is_named_and_the_others_are_isolated() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])]);
    let world = world.change_interface("eni-1", |interface| interface.vpc = Some("vpc-2".parse().unwrap()));
    check(&world, &format!("i-1: record eni-2 [sg-b]\ni-1: isolate eni-2 [sg-b] -> [sg-150]\n{INTERFACE_ELSEWHERE}"));
    check_standing(&world, &bare(), "", "eni-1, eni-2");
    // It does not keep what is isolated from being preserved.
    let world = world.shows("eni-2", &["sg-150"]).record("i-1", State::Isolating, &[("eni-2", &["sg-b"])]);
    let world = world.wrote("eni-2", &["sg-150"], Ok(())).attributes("i-1", crate::model::PROTECTING);
    check_for(
        &world,
        &Wants { snapshot_volumes: true, ..bare() },
        &format!("i-1: mark snapshots requested\ni-1: snapshot vol-1\n{INTERFACE_ELSEWHERE}"),
    );
    check_standing(&world, &bare(), "eni-2", "eni-1");
}

/// `i-1` is isolated; its record also holds `eni-2`, which is not attached to it any more.
fn left(state: State, shown: &[&str], at: Option<&str>) -> World {
    let world = recorded(state, &["sg-150"]).wrote("eni-1", &["sg-150"], Ok(())).transit_group("sg-7a5").leased();
    let world = world.elsewhere("eni-2", shown, at);
    world.saved_with(|record| {
        record.interfaces.insert("eni-2".parse().unwrap(), groups(&["sg-b"]));
        record.isolation_groups.insert("sg-7a5".parse().unwrap());
    })
}

const IN_TRANSIT: &str = "! i-1: eni-2 may be in sg-7a5, which is open to everybody: run aws ec2 \
                          modify-network-interface-attribute --network-interface-id eni-2 --groups sg-150";

#[test]
fn an_interface_that_left_its_instance_half_way_is_isolated_wherever_it_is() {
    let out = |state| {
        let first = if state == State::Isolating { "" } else { "i-1: record as isolating\n" };
        format!("{first}i-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}")
    };
    for state in [State::Isolating, State::Isolated, State::Kept, State::Restoring] {
        for at in [None, Some("i-2")] {
            check(&left(state, &["sg-7a5"], at), &out(state));
            check_cut(
                &left(state, &["sg-7a5"], at).saved_with(|record| _ = record.passed.insert("eni-1".parse().unwrap())),
                &out(state),
            );
        }
    }
    check_standing(&left(State::Isolating, &["sg-7a5"], None), &bare(), "eni-1", "eni-2");
    let beside = left(State::Isolated, &["sg-150", "sg-c"], None);
    check(&beside, "i-1: record as isolating\ni-1: isolate eni-2 [sg-150, sg-c] -> [sg-150]");
    // The record may not be believed while it is isolating.
    check(&left(State::Isolating, &["sg-150"], None), "i-1: confirm eni-2 [sg-150] -> [sg-150]");
    check(&left(State::Isolating, &["sg-b"], None), "i-1: isolate eni-2 [sg-b] -> [sg-150]");
    let settled = "i-1: mark isolated";
    let seen = left(State::Isolating, &["sg-150"], None).wrote("eni-2", &["sg-150"], Ok(()));
    check(&seen, settled);
    check_standing(&seen, &bare(), "eni-1", "");
    check_cut(&seen.saved_with(|record| _ = record.passed.insert("eni-1".parse().unwrap())), settled);
    let opened = left(State::Isolating, &["sg-b"], None).wrote("eni-2", &["sg-150"], Ok(()));
    check(&opened, "i-1: isolate eni-2 [sg-b] -> [sg-150]");
    // Seen isolated once: what somebody did with it since is none of ours.
    for shown in ["sg-150", "sg-b"] {
        for state in [State::Isolated, State::Kept, State::Restoring] {
            let text = plan_for(&left(state, &[shown], None), &bare()).to_string();
            assert!(!text.contains("[sg-150]"), "{text}");
        }
    }
}

#[test]
fn an_interface_on_an_instance_that_stays_isolated_is_left_to_that() {
    check(&left(State::Isolated, &["sg-7a5"], Some("i-2")).stays("i-2"), "");
    let own = left(State::Isolated, &["sg-7a5"], Some("i-2")).stays("i-3").stays("i-1");
    check(&own, &format!("i-1: record as isolating\ni-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}"));
    let held = left(State::Isolated, &["sg-7a5"], Some("i-1")).stays("i-1");
    check(&held, &format!("i-1: record as isolating\ni-1: isolate eni-2 [sg-7a5] -> [sg-150]\n{IN_TRANSIT}"));
}

#[test]
fn a_recorded_interface_that_is_not_shown_is_doubted() {
    let gone = |world: World| world.with(|world| _ = world.observed.interfaces.remove(&"eni-2".parse().unwrap()));
    let doubt = "? eni-2 is not shown";
    check(&gone(left(State::Isolated, &["sg-150"], None)), doubt);
    check_later(&gone(left(State::Isolated, &["sg-150"], None)), &bare(), doubt);
    // Unless nobody looked.
    let unread = gone(left(State::Isolated, &["sg-150"], None));
    check(&unread.with(|world| _ = world.observed.looked_up.remove(&"eni-2".parse().unwrap())), "");
}

#[test]
fn the_record_of_another_resource_is_taken_over_before_its_interfaces_are_looked_at() {
    let world =
        left(State::Isolated, &["sg-7a5"], None).saved_with(|record| record.owner.logical_id = "Old".to_owned());
    check(&world, "i-1: record (taken over from Old)");
}

#[test]
fn interfaces_of_an_instance_that_is_gone_are_isolated() {
    let alone = |world: World| {
        world
            .transit_group("sg-7a5")
            .elsewhere("eni-2", &["sg-7a5"], None)
            .record("i-1", State::Isolating, &[("eni-2", &["sg-b"])])
            .leased()
    };
    let text = |world: &World| plan_for(world, &bare()).to_string();
    let out = "i-1: isolate eni-2 [sg-7a5] -> [sg-150]";
    let why = ["? the instance is not shown", "! i-1 is terminated: take it off CompromisedInstanceList"];
    for (world, why) in [World::new(), World::new().terminated("i-1")].map(alone).iter().zip(why) {
        let lines = |world: &World| text(world).lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(lines(world), [out, IN_TRANSIT, why].map(str::to_owned).into());
        // Attached to it still, as EC2 shows it for a while.
        let attached = world.clone().change_interface("eni-2", |found| found.instance = Some("i-1".parse().unwrap()));
        assert_eq!(lines(&attached), lines(world));
    }
}

#[test]
fn what_is_attached_beside_an_interface_of_another_stack_is_isolated_and_so_is_what_left() {
    let world = World::new()
        .foreign_group("sg-f0", "stack-2")
        .transit_group("sg-7a5")
        .instance("i-1", &[("eni-1", &["sg-7a5"]), ("eni-3", &["sg-f0"])]);
    let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]);
    let out = |id: &str| format!("i-1: isolate {id} [sg-7a5] -> [sg-150]");
    let named = "! i-1: eni-3 is already isolated by stack-2, and was left to that stack: allow that with AllowPartialIsolation";
    let in_transit = IN_TRANSIT.replace("eni-2", "eni-1");
    check(&world, &format!("i-1: record as isolating\n{}\n{named}\n{in_transit}", out("eni-1")));
    let left = world.elsewhere("eni-2", &["sg-7a5"], None);
    check(
        &left,
        &format!("i-1: record as isolating\n{}\n{}\n{named}\n{in_transit}\n{IN_TRANSIT}", out("eni-1"), out("eni-2")),
    );
    // All that is attached is another stack's: only what left is ours.
    let theirs = left.shows("eni-1", &["sg-f0"]);
    let held = "! i-1 is already isolated by stack-2: take it over with ec2-isolation adopt, or take it off CompromisedInstanceList";
    check(&theirs, &format!("i-1: record as isolating\n{}\n{held}\n{IN_TRANSIT}", out("eni-2")));
}

#[test]
fn the_rest_is_preserved_while_a_detached_interface_is_fought_over() {
    let world = left(State::Isolating, &["sg-7a5"], None).wrote("eni-2", &["sg-150"], Err(Fault::Server));
    let world = world.attributes("i-1", crate::model::PROTECTING);
    check_for(
        &world,
        &Wants { snapshot_volumes: true, ..bare() },
        &format!(
            "i-1: isolate eni-2 [sg-7a5] -> [sg-150]\ni-1: mark snapshots requested\ni-1: snapshot vol-1\n{IN_TRANSIT}"
        ),
    );
}

/// As the watch asks: one that was attached since is isolated, and one that was moved out stays as it is.
#[test]
fn where_only_some_may_be_moved_the_others_are_open_and_nothing_is_done_about_them() {
    let cards = |third: &'static str| {
        World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-a"]), ("eni-3", &[third])])
    };
    let only = |world: World| world.with(|world| world.only = Some(["eni-3".parse().unwrap()].into()));
    let known: &[(&str, &[&str])] = &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])];
    let world = only(cards("sg-b").record("i-1", State::Isolated, known));
    let plan = plan_for(&world, &bare());
    let swapped = |plan: &Plan| {
        let moved = plan.steps().filter_map(|step| match step {
            Step::SetGroups { interface, .. } | Step::Pass { interface, .. } => Some(interface.to_string()),
            _ => None,
        });
        moved.collect::<Vec<_>>()
    };
    assert_eq!(swapped(&plan), ["eni-3"]);
    assert_eq!(plan.standing.open, ["eni-2", "eni-3"].map(|id| id.parse().unwrap()).into());
    let Some(Step::Record(Originals { interfaces, reopened, .. })) = plan.steps().next() else { panic!("{plan}") };
    assert_eq!(interfaces.keys().map(ToString::to_string).collect::<Vec<_>>(), ["eni-3"]);
    assert!(!reopened.contains(&"eni-2".parse().unwrap()), "{reopened:?}");
    // Once it is read back the record says what is not claimed.
    let all = [known, &[("eni-3", &["sg-b"])]].concat();
    let done = only(cards("sg-150").record("i-1", State::Isolating, &all));
    let plan = plan_for(&done.wrote("eni-3", &["sg-150"], Ok(())), &bare());
    assert_eq!(swapped(&plan), [""; 0]);
    let mark = plan.steps().find_map(|step| match step {
        Step::Mark { state, reason, .. } => Some((*state, reason.clone())),
        _ => None,
    });
    assert_eq!(mark, Some((State::Isolated, Some("but for eni-2, which is not isolated".to_owned()))));
}

#[test]
fn where_only_some_may_be_moved_those_are_confirmed_and_the_others_are_not() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-150"])]);
    let world = world.record("i-1", State::Isolating, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]).leased();
    let only = |ids: &[&str]| {
        let ids: BTreeSet<InterfaceId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        world.clone().with(|world| world.only = Some(ids))
    };
    check(&only(&["eni-2"]), "i-1: confirm eni-2 [sg-150] -> [sg-150]");
    check(&only(&[]), "i-1: mark isolated");
}

#[test]
fn one_in_the_transit_group_is_named_also_where_it_may_not_be_moved() {
    let world = World::new().transit_group("sg-7a5");
    let world = world.instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-7a5"])]);
    let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-a"])]);
    let world = world.with(|world| world.only = Some(BTreeSet::new()));
    check(&world, IN_TRANSIT);
    check_standing(&world, &bare(), "eni-1", "eni-2");
}
