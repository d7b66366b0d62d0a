//! Whose an interface is: of this record, of another, of none, or of an instance that stays isolated.

use super::*;

#[test]
fn what_is_gone_counts_as_restored_once_that_was_read_twice() {
    let gone = |world: World| world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]).plain_group("sg-a");
    let both = "? the instance is not shown\n? eni-1 is not shown";
    // The instance must be seen, or not be there: its tags and what protects it are to be put back.
    for (world, doubts) in [(gone(World::new().terminated("i-1")), "? eni-1 is not shown"), (gone(World::new()), both)]
    {
        check(&world, doubts);
        check_standing(&world, false, false);
        check_later(&world, &format!("i-1: mark restored\n{doubts}"));
        check(&world.clone().state(State::Restored), "? eni-1 is not shown");
        check_standing(&world.clone().state(State::Restored), false, false);
        check_standing(&later(&world.state(State::Restored)), true, true);
    }
    let alone = gone(World::new()).saved_with(|record| record.interfaces.clear());
    check(&alone, "? the instance is not shown");
    check_standing(&alone, false, false);
    check_later(&alone, "i-1: mark restored\n? the instance is not shown");
}

/// EC2 shows it with its instance, and not by its own id yet, or any more.
#[test]
fn an_interface_that_one_of_two_readings_shows_is_there() {
    let world = isolated().with(|world| world.observed.interfaces.clear());
    check(&world, &format!("i-1: mark restoring\n{BACK}"));
    check_standing(&later(&world), false, false);
}

#[test]
fn a_detached_interface_is_restored_where_it_is() {
    for at in [None, Some("i-2")] {
        let world = World::new().instance("i-1", &[]).plain_group("sg-a").elsewhere("eni-1", &["sg-150"], at);
        let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
        check(&world, "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]");
    }
}

/// `eni-1` is attached to `i-2`, which stays isolated.
fn attached_elsewhere(shown: &[&str]) -> World {
    let world =
        World::new().instance("i-1", &[]).plain_group("sg-a").elsewhere("eni-1", shown, Some("i-2")).stays("i-2");
    world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"])])
}

#[test]
fn an_interface_on_an_instance_that_stays_isolated_is_not_opened() {
    let named = "! i-1: eni-1 is attached to i-2 by now, which stays isolated: restore i-2 too, or detach it first";
    let world = attached_elsewhere(&["sg-150"]);
    check(&world, named);
    check_standing(&world, false, false);
    // The record of that one knows its groups.
    let held = |state| world.clone().record("i-2", state, &[("eni-1", &["sg-b"])]);
    check(&held(State::Isolated), "i-1: mark restored");
    check(&held(State::Restored), named);
    check(&world.clone().record("i-2", State::Isolated, &[("eni-2", &["sg-b"])]), named);
    // It is not in our isolation.
    check(&attached_elsewhere(&["sg-c"]), "i-1: mark restored");
    // It does not stay, or it is this one.
    let back = "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]";
    check(&world.clone().with(|world| world.stays.clear()), back);
    check(&world.change_interface("eni-1", |found| found.instance = Some("i-1".parse().unwrap())).stays("i-1"), back);
}

#[test]
fn an_interface_beside_one_that_another_stack_isolates_is_opened_only_on_its_own_instance() {
    let beside = |shown: &[&str], at: &str| {
        let world = attached_elsewhere(shown).with(|world| world.stays.clear()).foreign_group("sg-f0", "stack-2");
        let world = world.instance(at, &[("eni-2", &["sg-f0"])]);
        world.change_interface("eni-1", |found| found.instance = Some(at.parse().unwrap()))
    };
    let named = "! i-1: eni-1 is attached to i-2 by now, which stays isolated: restore i-2 too, or detach it first";
    check(&beside(&["sg-150"], "i-2"), named);
    check_standing(&beside(&["sg-150"], "i-2"), false, false);
    check(&beside(&["sg-150"], "i-1"), "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]");
    // It is open already.
    check(&beside(&["sg-a"], "i-2").wrote("eni-1", &["sg-a"], Ok(())), "i-1: mark restored");
}

#[test]
fn of_two_records_that_hold_an_interface_one_speaks_for_it() {
    let both = |at: Option<&str>, state| {
        let world = World::new().instance("i-1", &[]).instance("i-2", &[]).plain_group("sg-a").plain_group("sg-b");
        let world = world.elsewhere("eni-1", &["sg-150"], at);
        let world = world.record("i-1", State::Isolated, &[("eni-1", &["sg-a"])]);
        world.record("i-2", state, &[("eni-1", &["sg-b"])])
    };
    let first = "i-1: mark restoring\ni-1: restore eni-1 [sg-150] -> [sg-a]";
    let differ = "! eni-1 is in two records with different groups: [sg-a] in that of i-1, which a restore gives it, [sg-b] in that of i-2";
    check(&both(Some("i-1"), State::Isolated), &format!("{first}\n{differ}"));
    check(&both(None, State::Isolated), &format!("{first}\n{differ}"));
    check(&both(Some("i-3"), State::Isolated), &format!("{first}\n{differ}"));
    check(&both(Some("i-2"), State::Isolated), "i-1: mark restored");
    // Also while it is restored before the first: its own plan does the rest.
    check(&both(Some("i-2"), State::Restored), "i-1: mark restored");
    let second = |at, state| both(at, state).with(|world| world.id = "i-2".parse().unwrap());
    let theirs = "i-2: mark restoring\ni-2: restore eni-1 [sg-150] -> [sg-b]";
    let differ = "! eni-1 is in two records with different groups: [sg-b] in that of i-2, which a restore gives it, [sg-a] in that of i-1";
    check(&second(None, State::Isolated), "i-2: mark restored");
    check(&second(Some("i-2"), State::Restored), "i-2: restore eni-1 [sg-150] -> [sg-b]");
    check(&second(None, State::Isolated).state(State::Restored), "i-2: mark restored");
    check(&second(Some("i-2"), State::Isolated), &format!("{theirs}\n{differ}"));
    // Where the first is another stack's it says nothing.
    let foreign = second(None, State::Isolated).saved_with(|record| record.owner.stack_id = "stack-2".to_owned());
    check(&foreign, theirs);
    let without = second(Some("i-1"), State::Isolated).saved_with(|record| record.interfaces.clear());
    check(&without, theirs);
    let equal = both(Some("i-1"), State::Isolated).record("i-2", State::Isolated, &[("eni-1", &["sg-a"])]);
    check(&equal, first);
    // A record that is history compares nothing.
    check(&both(None, State::Isolated).state(State::Restored), "i-1: restore eni-1 [sg-150] -> [sg-a]");
}

/// `i-1` was restored, then `eni-1` got other groups and moved to `i-2`, which was isolated, and from there on.
#[test]
fn a_record_that_was_history_before_another_began_does_not_speak() {
    for at in [None, Some("i-1"), Some("i-3")] {
        let world = World::new().instance("i-1", &[]).instance("i-2", &[]).plain_group("sg-a").plain_group("sg-ee");
        let world = world.elsewhere("eni-1", &["sg-150"], at).record("i-2", State::Isolated, &[("eni-1", &["sg-ee"])]);
        let mut history = world.record("i-1", State::Restored, &[("eni-1", &["sg-a"])]);
        let record = std::sync::Arc::make_mut(history.records.get_mut(&"i-1".parse().unwrap()).unwrap());
        record.recorded_at = Time(NOW.time.0 - 60);
        check(&history, "");
        let later = history.clone().with(|world| world.id = "i-2".parse().unwrap());
        check(&later, "i-2: mark restoring\ni-2: restore eni-1 [sg-150] -> [sg-ee]");
    }
}

#[test]
fn an_interface_in_our_group_without_a_record_is_named_and_the_others_are_restored() {
    let named =
        "! i-1: eni-2 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand";
    let stray = |world: World, ids: &[&str]| {
        world.change_instance(|instance| instance.interfaces.push(crate::plan::testing::interface("eni-2", ids)))
    };
    check(&stray(isolated(), &["sg-150"]), &format!("i-1: mark restoring\n{BACK}\n{named}"));
    check(&stray(back(), &["sg-150"]), named);
    check_standing(&stray(back(), &["sg-150"]), false, false);
    check_standing(&stray(back(), &["sg-150"]).state(State::Restored), false, false);
    check(&stray(back(), &["sg-a"]), "i-1: mark restored");
    // Another record knows it.
    let known = |state| stray(back(), &["sg-150"]).record("i-2", state, &[("eni-2", &["sg-a"])]);
    check(&known(State::Isolated), "i-1: mark restored");
    check(&known(State::Restored), named);
    // One that stays, and the interface with it.
    let stays = "! i-1: eni-2 stays isolated, i-2 has it in its record: restore i-2 to give it its groups back";
    check(&known(State::Isolated).stays("i-2"), &format!("i-1: mark restored\n{stays}"));
    check(
        &stray(back(), &["sg-150"]).change_instance(|instance| instance.state = "terminated".to_owned()),
        "i-1: mark restored",
    );
}

#[test]
fn without_a_record_only_what_shows_our_groups_is_left_to_say() {
    let world = |shown: &[&str]| World::new().instance("i-1", &[("eni-1", shown)]);
    let doubt = "? no record is shown";
    check(&world(&["sg-a"]), doubt);
    check_standing(&world(&["sg-a"]), true, false);
    check_standing(&later(&world(&["sg-a"])), true, true);
    check_standing(&later(&World::new()), true, true);
    let named =
        "! i-1: eni-1 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand";
    check(&world(&["sg-150"]), &format!("{named}\n{doubt}"));
    check_standing(&later(&world(&["sg-150"])), false, false);
    let rival = later(&world(&["sg-a"]).rival(10));
    check(&rival, &format!("{doubt}\n? another invocation may still be at work"));
    check_standing(&rival, true, false);
    check_standing(&later(&world(&["sg-150"]).rival(10)), false, false);
}

#[test]
fn a_record_that_changed_hands_is_nothing_to_restore() {
    check(&isolated().saved_with(|record| record.owner.stack_id = "stack-2".to_owned()), "");
    let other = isolated().saved_with(|record| record.owner.logical_id = "New".to_owned());
    let some = other.clone().stays("i-2");
    check(&some, "");
    assert!(some.plan(&Goal::Restore).standing.is_restored);
    // When the whole stack ends, so does what any of its resources holds.
    check(&other, &format!("i-1: mark restoring\n{BACK}"));
}

#[test]
fn while_another_invocation_may_be_at_work_nothing_is_settled() {
    let world = back().state(State::Restored).rival(10);
    check(&world, "? another invocation may still be at work");
    check_standing(&world, true, false);
    check_standing(&back().state(State::Restored).rival(0), true, true);
    // Nor is anything put back or marked, which it may be at.
    check(&back().rival(10), "? another invocation may still be at work");
    check(&back().rival(0), "i-1: mark restored");
    check(&isolated().rival(10), &format!("i-1: mark restoring\n{BACK}\n? another invocation may still be at work"));
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let world = World::new().instance("i-1", &[("eni-1", &["sg-150"])]);
    let world = world.with(|world| world.unreadable = Some("no State".to_owned()));
    check(&world, "! item i-1 of the records table cannot be read: no State; mend it in the DynamoDB console");
    check_standing(&world, false, false);
}
