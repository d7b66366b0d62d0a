//! What follows once the interfaces have their groups: protections, tags, the mark.

use super::*;

#[test]
fn a_record_is_marked_restored_only_after_the_read_back_and_without_tags() {
    let tagged = back().change_instance(|instance| {
        instance.tags =
            [("ec2-isolation:stack", "stack-1"), ("Name", "web")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    });
    let untag = "untag i-1 of ec2-isolation:stack";
    check(&tagged, untag);
    check_standing(&tagged, true, false);
    check(&back(), "i-1: mark restored");
    check_standing(&back(), true, false);
    check_standing(&back().state(State::Restored), true, true);
    // A tag that cannot be taken off is no reason to call it isolated.
    let step = tagged.plan(&Goal::Restore).steps().next().unwrap().clone();
    let ended = |result| tagged.clone().with(|world| world.learn(&step, result));
    check(&ended(Err(Fault::Refused)), untag);
    check(&ended(Err(Fault::Refused)).given_up(&Goal::Restore), &format!("{untag}\ni-1: mark restored"));
    check(&ended(Err(Fault::Denied)).given_up(&Goal::Restore), untag);
    check(&ended(Ok(())).given_up(&Goal::Restore), untag);
}

#[test]
fn what_is_still_to_be_put_back_comes_before_tags_and_mark() {
    let world = back().saved_with(|record| {
        record.protection.attributes = [crate::model::Attribute::StopProtection(false)].into();
    });
    let world = world.attributes("i-1", crate::model::PROTECTING);
    check(&world, "i-1: restore: stop protection off");
    let tagged = world.clone().change_instance(|instance| {
        instance.tags = [("ec2-isolation:stack".to_owned(), "stack-1".to_owned())].into();
    });
    check(&tagged, "i-1: restore: stop protection off");
    // What was not read is not known to be as it was.
    let unread = world.clone().with(|world| world.observed.attributes.clear());
    check(&unread, "");
    check_standing(&unread, true, false);
    let refused = world.with(|world| {
        let step = world.plan(&Goal::Restore).steps().next().unwrap().clone();
        world.learn(&step, Err(Fault::Refused));
    });
    let refused = refused.given_up(&Goal::Restore);
    check(&refused, "i-1: restore: stop protection off");
}

#[test]
fn a_restored_record_whose_protections_this_invocation_set_again_is_seen_to() {
    let world = |has_protected| {
        let world = World::protected().plain_group("sg-a").state(State::Restored).shows("eni-1", &["sg-a"]);
        world.wrote("eni-1", &["sg-a"], Ok(())).with(|world| world.ledger.has_protected = has_protected)
    };
    check(&world(false), "");
    check_standing(&world(false), true, true);
    assert!(world(true).plan(&Goal::Restore).to_string().starts_with("i-1: restore: termination protection off"));
    check_standing(&world(true), true, false);
    // A member that no reading shows may be in Standby still.
    let member = world(true).saved_with(|record| {
        record.protection = crate::model::Protection { scaling_group: Some("web".to_owned()), ..Default::default() };
    });
    let gone = member.with(|world| world.observed.members = Some([].into()));
    check(&gone, "? no Auto Scaling group shows the instance");
    check_standing(&gone, true, false);
    check_standing(&later(&gone), true, true);
}

#[test]
fn what_is_only_mentioned_is_remembered_once_everything_is_in_place() {
    let remembered = |world: &World| world.plan(&Goal::Restore).remember.len();
    let moved = recorded(State::Isolated, &["sg-c"]);
    assert_eq!((remembered(&moved), remembered(&later(&moved))), (0, 1));
    let stuck = isolated().saved_with(|record| record.interfaces.values_mut().for_each(Groups::clear));
    assert_eq!(remembered(&stuck), 0);
    // What is a failure is not.
    let standby = back().saved_with(|record| record.protection.scaling_group = Some("web".to_owned())).with(|world| {
        world.member("EnteringStandby");
        world.trust();
    });
    check(
        &standby,
        "! i-1 is EnteringStandby in Auto Scaling group web: it is not back in service; when it is in Standby: \
         aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1\n\
         ? under way: i-1 is EnteringStandby in Auto Scaling group web: it is not back in service; when it is in Standby: \
         aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1",
    );
    assert_eq!(remembered(&standby), 0);
}

#[test]
fn what_protects_an_instance_that_another_stack_isolates_by_now_is_left() {
    let world = World::protected().foreign_group("sg-f0", "stack-2").plain_group("sg-a").shows("eni-1", &["sg-f0"]);
    let left = "! i-1: eni-1 was left alone: it was moved to [sg-f0] meanwhile\n\
                ! i-1: what protects it was left on, stack-2 isolates it by now; its record has what it had before";
    check_later(&world, &format!("i-1: mark restored\n{left}\n{SHOWS}"));
    // The record says both.
    let plan = later(&world).plan(&Goal::Restore);
    let Some(Step::Mark { reason: Some(reason), .. }) = plan.steps().next() else { panic!("{plan}") };
    assert_eq!(format!("! {}", reason.replace("; i-1: what", "\n! i-1: what")), left);
    // Beside an open group it isolates nobody: everything is put back.
    let beside = later(&world.shows("eni-1", &["sg-f0", "sg-c"])).plan(&Goal::Restore).to_string();
    assert!(beside.contains("i-1: restore: termination protection off"), "{beside}");
    // There is nothing to leave.
    let unprotected = recorded(State::Isolated, &["sg-f0"]).foreign_group("sg-f0", "stack-2");
    check_later(
        &unprotected,
        &format!("i-1: mark restored\n! i-1: eni-1 was left alone: it was moved to [sg-f0] meanwhile\n{SHOWS}"),
    );
}

#[test]
fn what_protects_an_instance_is_read_once_its_interfaces_are_in_place() {
    let text = |world: &World| {
        let needs = world.needs(&Goal::Restore, Reach::Full);
        let ids = [
            needs.interfaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            needs.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            needs.marked.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        ];
        (ids.join("; "), [needs.attributes, needs.members, needs.profiles])
    };
    let named = "eni-1; sg-150 sg-a sg-b; vpc-1".to_owned();
    assert_eq!(text(&World::new()), ("; ; ".to_owned(), [false; 3]));
    assert_eq!(text(&World::new().terminated("i-1")), ("; ; ".to_owned(), [false; 3]));
    assert_eq!(text(&World::new().instance_in("i-1", "vpc-2", &[])), ("; ; vpc-2".to_owned(), [false; 3]));
    assert_eq!(text(&isolated()), (named.clone(), [false; 3]));
    let moved = isolated().change_instance(|instance| instance.vpc = Some("vpc-2".parse().unwrap()));
    assert_eq!(text(&moved).0, "eni-1; sg-150 sg-a sg-b; vpc-1 vpc-2");
    // Somebody else may hold it, or what an interface of it is attached to by now.
    assert_eq!(text(&recorded(State::Isolated, &["sg-f0"])).0, "eni-1; sg-150 sg-a sg-b sg-f0; vpc-1");
    let away = isolated().instance("i-2", &[("eni-2", &["sg-f1"])]);
    let away = away.change_interface("eni-1", |found| found.instance = Some("i-2".parse().unwrap()));
    let needs = away.needs(&Goal::Restore, Reach::Full);
    assert_eq!(needs.instances, ["i-2".parse().unwrap()].into());
    assert_eq!(needs.groups, groups(&["sg-150", "sg-a", "sg-b", "sg-f1"]));
    let protected = |world: World, which: [bool; 3]| {
        world.saved_with(|record| {
            let protection = &mut record.protection;
            protection.attributes.extend(which[0].then_some(crate::model::Attribute::StopProtection(false)));
            protection.scaling_group = which[1].then(|| "web".to_owned());
            protection.profile = which[2].then(|| "arn:a".to_owned());
        })
    };
    for which in [[true, false, false], [false, true, false], [false, false, true], [true; 3], [false; 3]] {
        assert_eq!(text(&protected(back(), which)), (named.clone(), which));
        assert_eq!(text(&protected(isolated(), which)).1, [false; 3]);
        assert_eq!(text(&protected(back().state(State::Restored), which)).1, [false; 3]);
        let again = protected(back().state(State::Restored), which).with(|world| world.ledger.has_protected = true);
        assert_eq!(text(&again).1, which);
        let unread = protected(back(), which).with(|world| world.observed.looked_up.clear());
        assert_eq!(text(&unread).1, [false; 3]);
        // Stuck, or not believed yet.
        let stuck =
            protected(isolated(), which).saved_with(|record| record.interfaces.values_mut().for_each(Groups::clear));
        assert_eq!(text(&stuck).1, [false; 3]);
        let doubted = protected(back(), which).without_group("sg-b");
        assert_eq!(text(&doubted).1, [false; 3]);
        assert_eq!(text(&later(&doubted)).1, which);
    }
    // The groups of an earlier isolation, too.
    let earlier = isolated().saved_with(|record| record.isolation_groups = groups(&["sg-01d", "sg-150"]));
    assert_eq!(text(&earlier).0, "eni-1; sg-01d sg-150 sg-a sg-b; vpc-1");
}

#[test]
fn the_tags_of_its_volumes_are_read_once_its_interfaces_are_in_place() {
    let read = |world: &World| {
        let volumes = world.needs(&Goal::Restore, Reach::Full).volumes;
        volumes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(read(&back()), "vol-1");
    assert_eq!(read(&isolated()), "");
    assert_eq!(read(&back().with(|world| world.observed.looked_up.clear())), "");
    // They are taken off, or somebody else's.
    assert_eq!(read(&back().state(State::Restored)), "");
    assert_eq!(read(&back().change_instance(|instance| instance.state = "terminated".to_owned())), "");
}
