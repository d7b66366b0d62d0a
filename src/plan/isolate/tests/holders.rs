//! Whose an instance is: what another stack isolates is left to it.

use super::*;
use crate::model::{Group, Role};
use crate::plan::testing::{groups, rule};

fn held(stack: &str) -> String {
    format!(
        "! i-1 is already isolated by {stack}: take it over with ec2-isolation adopt, or take it off CompromisedInstanceList"
    )
}

/// `i-1` shows these groups; `sg-f0` is an isolation group of `stack-2`.
fn shown(ids: &[&str]) -> World {
    World::new().foreign_group("sg-f0", "stack-2").instance("i-1", &[("eni-1", ids)])
}

#[test]
fn an_instance_in_another_stacks_isolation_is_left_to_it() {
    check(&shown(&["sg-f0"]), &held("stack-2"));
    check(&shown(&["sg-f0", "sg-f1"]).foreign_group("sg-f1", "stack-3"), &held("stack-2"));
    let standing = plan_for(&shown(&["sg-f0"]), &bare()).standing;
    assert_eq!(standing, crate::plan::Standing::default());
}

fn held_open(stack: &str) -> String {
    format!(
        "! i-1 is held by {stack}, but EC2 shows eni-1 outside of its isolation: deploy that stack again with a new Rerun, or take \
         i-1 over with ec2-isolation adopt"
    )
}

/// Its record is in another stack's hands, and EC2 shows what that is worth.
#[test]
fn of_an_instance_that_another_stack_holds_and_does_not_isolate_that_is_said() {
    let of_other = |ids: &[&str]| {
        let world = shown(ids).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
        world.saved_with(|record| record.owner.stack_id = "stack-2".to_owned())
    };
    check(&of_other(&["sg-f0"]), &held("stack-2"));
    let open = held_open("stack-2");
    // It may be about to isolate it.
    check(&of_other(&["sg-a"]), "? another stack isolates it, too");
    check_later(&of_other(&["sg-a"]), &bare(), &format!("{open}\n? another stack isolates it, too"));
    let beside = of_other(&["sg-a", "sg-f0"]);
    check_later(&beside, &bare(), &format!("{open}\n? another stack isolates it, too"));
}

fn part_held(interface: &str, stack: &str) -> String {
    format!(
        "! i-1: {interface} is already isolated by {stack}, and was left to that stack: allow that with AllowPartialIsolation"
    )
}

#[test]
fn of_one_interface_in_another_stacks_isolation_the_others_are_isolated_all_the_same() {
    let part = shown(&[]).instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-f0"])]);
    // The other stack may be about to isolate the rest.
    check(&part, "? another stack isolates it, too");
    let (swap, named) = ("i-1: isolate eni-1 [sg-a] -> [sg-150]", part_held("eni-2", "stack-2"));
    let doubt = "? another stack isolates it, too";
    check_later(&part, &bare(), &format!("i-1: record eni-1 [sg-a]\n{swap}\n{named}\n{doubt}"));
    // What is recorded is ours, whatever hangs beside it.
    for (state, first) in [(State::Isolated, "i-1: record as isolating\n"), (State::Kept, "i-1: record as isolating\n")]
    {
        let moved_back = part.clone().record("i-1", state, &[("eni-1", &["sg-a"])]);
        check(&moved_back, &format!("{first}{swap}\n{named}"));
        check_standing(&moved_back, &bare(), "", "eni-1, eni-2");
    }
    let isolated = part.shows("eni-1", &["sg-150"]).record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    check(&isolated, &format!("{named}\n? eni-1 shows what it should"));
    check_standing(&isolated, &bare(), "eni-1", "eni-2");
}

/// The groups of ours are listed in one VPC.
#[test]
fn whose_an_interface_in_another_vpc_is_is_read() {
    let world = shown(&["sg-150"]).instance_in("i-1", "vpc-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-f9"])]);
    let vpc = Some("vpc-2".parse().unwrap());
    let world = world.change_interface("eni-2", |found| found.vpc.clone_from(&vpc));
    let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
    assert_eq!(world.needs(&Goal::Isolate(&bare()), Reach::Light).groups, groups(&["sg-f9"]));
    assert!(world.needs(&Goal::Isolate(&bare()), Reach::First).groups.is_empty());
    let here = world.change_interface("eni-2", |found| found.vpc = Some("vpc-1".parse().unwrap()));
    assert!(here.needs(&Goal::Isolate(&bare()), Reach::Light).groups.is_empty());
    // All of it is in another VPC, where another stack isolates it.
    let away = World::new().foreign_group("sg-f0", "stack-2").instance_in("i-1", "vpc-2", &[("eni-1", &["sg-f0"])]);
    check(&away, &held("stack-2"));
}

#[test]
fn only_an_interface_whose_every_group_isolates_for_a_stack_is_held() {
    let taken = |world: &World, before: &str, from: &str| {
        check(world, &format!("i-1: record eni-1 [{before}]\ni-1: isolate eni-1 [{from}] -> [sg-150]"));
    };
    // A colleague put the group beside open ones.
    taken(&shown(&["sg-f0", "sg-a"]).plain_group("sg-a"), "sg-a, sg-f0", "sg-a, sg-f0");
    taken(&shown(&["sg-f0", "sg-a"]), "sg-a, sg-f0", "sg-a, sg-f0");
    taken(&shown(&["sg-150", "sg-f0"]), "sg-f0", "sg-150, sg-f0");
    // The attacker tagged a group of the host, or nobody made it part of a stack.
    taken(&shown(&["sg-f0"]).change_group("sg-f0", |group| group.stack_id = None), "sg-f0", "sg-f0");
    taken(&shown(&["sg-f0"]).change_group("sg-f0", |group| group.role = None), "sg-f0", "sg-f0");
    taken(&shown(&["sg-f0"]).change_group("sg-f0", |group| group.role = Some(Role::Forensic)), "sg-f0", "sg-f0");
    taken(&shown(&["sg-f0"]).without_group("sg-f0"), "sg-f0", "sg-f0");
    // It lets something through.
    let open = vec![rule("-1", None, "0.0.0.0/0")];
    taken(&shown(&["sg-f0"]).change_group("sg-f0", |group| group.egress = open.clone()), "sg-f0", "sg-f0");
    taken(&shown(&["sg-f0"]).change_group("sg-f0", |group| group.ingress = open), "sg-f0", "sg-f0");
    taken(&shown(&[]), "", "");
}

#[test]
fn an_interface_in_the_transit_group_of_another_stack_is_left_to_it_if_that_isolates() {
    let transit = || {
        shown(&["sg-f1"]).foreign_group("sg-f1", "stack-2").change_group("sg-f1", |group| {
            (group.role, group.egress) = (Some(Role::Transit), vec![rule("-1", None, "0.0.0.0/0")]);
        })
    };
    check(&transit(), &held("stack-2"));
    let swap = "i-1: record eni-1 [sg-f1]\ni-1: isolate eni-1 [sg-f1] -> [sg-150]";
    check(&transit().without_group("sg-f0"), swap);
    check(&transit().change_group("sg-f0", |group| group.egress = vec![rule("-1", None, "0.0.0.0/0")]), swap);
    check(&transit().change_group("sg-f0", |group| group.stack_id = Some("stack-3".to_owned())), swap);
    check(&transit().change_group("sg-f0", |group| group.role = Some(Role::Transit)), swap);
}

/// `i-1` is recorded, one of its interfaces is in our isolation, the other in that of `stack`.
fn shared_with(stack: &str) -> World {
    let world = World::new().foreign_group("sg-f0", stack).leased_record();
    world.instance("i-1", &[("eni-1", &["sg-150"]), ("eni-2", &["sg-f0"])])
}

impl World {
    fn leased_record(self) -> Self {
        self.record("i-1", State::Isolating, &[("eni-1", &["sg-a"]), ("eni-2", &["sg-b"])]).leased()
    }
}

#[test]
fn of_two_stacks_that_share_an_instance_the_one_with_the_lesser_id_takes_all_of_it() {
    let world = shared_with("stack-2").saved_with(|record| {
        _ = record.interfaces.insert("eni-2".parse().unwrap(), groups(&["sg-f0"]));
    });
    let taken = "i-1: confirm eni-1 [sg-150] -> [sg-150]\ni-1: isolate eni-2 [sg-f0] -> [sg-150]";
    check(&world, taken);
    // Nothing of it passes through the open: it is isolated.
    let world = world.transit_group("sg-7a5").wrote("eni-1", &["sg-150"], Ok(()));
    let world = world.saved_with(|record| {
        record.isolation_groups.insert("sg-7a5".parse().unwrap());
        record.passed.insert("eni-1".parse().unwrap());
    });
    check_cut(&world, "i-1: isolate eni-2 [sg-f0] -> [sg-150]");
}

#[test]
fn a_group_that_another_stack_put_it_in_is_no_sign_that_its_record_is_outdated() {
    check(&shared_with("stack-2"), "i-1: confirm eni-1 [sg-150] -> [sg-150]\ni-1: isolate eni-2 [sg-f0] -> [sg-150]");
}

/// It may be about to give it up as well.
fn given_up_to(stack: &str) -> String {
    format!("{}\n? another stack isolates it, too", held(stack))
}

#[test]
fn of_two_stacks_that_share_an_instance_the_one_with_the_greater_id_moves_its_part_over() {
    let moved = "i-1: isolate eni-1 [sg-150] -> [sg-f0]";
    let held = given_up_to("stack-0");
    check(&shared_with("stack-0"), &format!("{moved}\n{held}"));
    check(
        &shared_with("stack-0").shows("eni-1", &["sg-150", "sg-a"]),
        &format!("i-1: isolate eni-1 [sg-150, sg-a] -> [sg-f0]\n{held}"),
    );
    let unleased = shared_with("stack-0").saved_with(|record| record.lease = None);
    check(&unleased, &format!("i-1: record as isolating\n{moved}\n{held}"));
    check(&shared_with("stack-0").shows("eni-1", &["sg-f0"]), &held);
}

#[test]
fn an_interface_that_is_nobodys_is_isolated_before_two_stacks_settle_whose_the_instance_is() {
    for stack in ["stack-0", "stack-2"] {
        let third = shared_with(stack).change_instance(|instance| {
            instance.interfaces.push(crate::plan::testing::interface("eni-3", &["sg-a"]));
        });
        let third =
            third.saved_with(|record| _ = record.interfaces.insert("eni-3".parse().unwrap(), groups(&["sg-a"])));
        let rest = format!("{}\n? another stack isolates it, too", part_held("eni-2", stack));
        check(
            &third,
            &format!("i-1: confirm eni-1 [sg-150] -> [sg-150]\ni-1: isolate eni-3 [sg-a] -> [sg-150]\n{rest}"),
        );
    }
}

#[test]
fn a_part_is_moved_over_only_into_a_group_that_isolates_here() {
    let moved = |group: &str| format!("i-1: isolate eni-1 [sg-150] -> [{group}]\n{}", given_up_to("stack-0"));
    let world = || shared_with("stack-0");
    let second = |change: fn(&mut Group)| world().foreign_group("sg-e0", "stack-0").change_group("sg-e0", change);
    check(&second(|_| {}), &moved("sg-e0"));
    check(&second(|group| group.role = Some(Role::Transit)), &moved("sg-f0"));
    check(&second(|group| group.vpc = Some("vpc-2".parse().unwrap())), &moved("sg-f0"));
    check(&second(|group| group.egress = vec![rule("-1", None, "0.0.0.0/0")]), &moved("sg-f0"));
    check(&second(|group| group.stack_id = Some("stack-00".to_owned())), &moved("sg-f0"));
    let none = world().change_group("sg-f0", |group| group.vpc = Some("vpc-2".parse().unwrap()));
    check(&none, &given_up_to("stack-0"));
}

#[test]
fn a_part_that_somebody_moved_later_is_left_to_the_other_stack_and_the_rest_stays_ours() {
    for stack in ["stack-0", "stack-2"] {
        for state in [State::Isolated, State::Kept, State::Restoring] {
            let text = plan_for(&shared_with(stack).state(state), &bare()).to_string();
            assert!(text.contains(&part_held("eni-2", stack)), "{text}");
            assert!(!text.contains("sg-f0") && !text.contains("isolate eni-2"), "{text}");
        }
    }
}

#[test]
fn what_another_stack_had_before_we_recorded_it_is_left_to_it_and_not_shared() {
    for stack in ["stack-0", "stack-2"] {
        let unrecorded =
            shared_with(stack).saved_with(|record| _ = record.interfaces.remove(&"eni-2".parse().unwrap()));
        let named = format!("{}\n? another stack isolates it, too", part_held("eni-2", stack));
        check(&unrecorded, &format!("i-1: confirm eni-1 [sg-150] -> [sg-150]\n{named}"));
    }
}

/// Its record is `isolating` again, since another interface was moved back.
#[test]
fn what_was_isolated_as_a_whole_before_is_not_shared() {
    for stack in ["stack-0", "stack-2"] {
        let settled = shared_with(stack).with(|world| world.ledger.was_settled = true);
        let named = format!("{}\n? another stack isolates it, too", part_held("eni-2", stack));
        check(&settled, &format!("i-1: confirm eni-1 [sg-150] -> [sg-150]\n{named}"));
        let back = settled.wrote("eni-1", &["sg-150"], Ok(()));
        check(&back, &format!("i-1: mark isolating\n{named}"));
        check_later(&back, &bare(), &format!("i-1: mark isolated\n{named}"));
        let plan = plan_for(&back.seen_before(&Goal::Isolate(&bare())), &bare());
        let reasons = plan.steps().filter_map(|step| match step {
            Step::Mark { reason, .. } => reason.clone(),
            _ => None,
        });
        assert_eq!(reasons.collect::<Vec<_>>(), ["but for eni-2, which another stack isolates"]);
    }
}

#[test]
fn a_record_of_another_stack_is_never_overwritten() {
    for state in [State::Isolating, State::Isolated, State::Kept, State::Restoring] {
        let world = recorded(state, &["sg-a"]).saved_with(|record| record.owner.stack_id = "stack-2".to_owned());
        check(&world, "? another stack isolates it, too");
        let open = format!("{}\n? another stack isolates it, too", held_open("stack-2"));
        check_later(&world, &bare(), &open);
    }
    // Its history is nobody's.
    let world = recorded(State::Restored, &["sg-a"]).saved_with(|record| record.owner.stack_id = "stack-2".to_owned());
    check(&world, "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]");
}

#[test]
fn the_groups_of_a_record_are_ours_though_nothing_on_them_says_so() {
    let world = |stack: &str| {
        let world = World::new().foreign_group("sg-01d", "stack-2").instance("i-1", &[("eni-1", &["sg-01d"])]);
        let world = world.record("i-1", State::Restored, &[("eni-1", &["sg-a"])]);
        world.saved_with(|record| {
            (record.isolation_groups, record.owner.stack_id) = (groups(&["sg-01d"]), stack.to_owned());
        })
    };
    check(&world("stack-1"), "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-01d] -> [sg-150]");
    check(&world("stack-2"), &held("stack-2"));
    // So are those that the request names.
    let named = shown(&["sg-7a5"]).foreign_group("sg-7a5", "stack-2");
    check(&named, &held("stack-2"));
    let text = plan_for(&named, &cutting()).to_string();
    assert!(text.contains("i-1: isolate eni-1 [sg-7a5] -> [sg-150]"), "{text}");
}
