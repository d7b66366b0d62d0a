//! What steps are called, which of them are equal, and what shows them.

use super::*;
use crate::model::{Attribute, Profile};
use crate::plan::testing::groups;

fn change(change: Change, aim: Aim) -> Step {
    Step::Protect { instance: "i-1".parse().unwrap(), change, aim }
}

fn set_groups(from: &[&str], to: &[&str], aim: Aim) -> Step {
    let (instance, interface) = ("i-1".parse().unwrap(), "eni-1".parse().unwrap());
    Step::SetGroups { instance, interface, from: groups(from), to: groups(to), aim }
}

fn pass(from: &[&str], to: &str) -> Step {
    let (instance, interface, through) = ("i-1".parse().unwrap(), "eni-1".parse().unwrap(), "sg-7a5".parse().unwrap());
    let (to, originals) = (to.parse().unwrap(), groups(&["sg-a"]));
    Step::Pass { instance, interface, from: groups(from), through, hold_seconds: 7, to, originals }
}

fn record(interfaces: &[(&str, &[&str])], prior: Prior) -> Step {
    Step::Record(Originals {
        instance: "i-1".parse().unwrap(),
        vpc: "vpc-1".parse().unwrap(),
        isolation_group: "sg-150".parse().unwrap(),
        transit_group: None,
        leased_until: None,
        interfaces: interfaces.iter().map(|(id, ids)| (id.parse().unwrap(), groups(ids))).collect(),
        reopened: [].into(),
        prior,
        hold_seconds: 5,
    })
}

/// Whoever attaches it again makes another association.
#[test]
fn a_profile_is_detached_again_whatever_its_association_is_called() {
    let detach = |association: &str, arn: &str| {
        let profile = Profile { association: association.to_owned(), arn: arn.to_owned() };
        change(Change::DetachProfile(profile), Aim::Isolate).key()
    };
    assert_eq!(detach("iip-assoc-1", "arn:a"), detach("iip-assoc-2", "arn:a"));
    assert_ne!(detach("iip-assoc-1", "arn:a"), detach("iip-assoc-1", "arn:b"));
}

/// Every kind of step, its text, the call that shows it, and whether it may be repeated.
fn steps() -> Vec<(Step, &'static str, &'static str, bool)> {
    let instance = || "i-1".parse::<InstanceId>().unwrap();
    let owner = Owner { stack_id: "stack-1".to_owned(), logical_id: "Old".to_owned() };
    let volumes = || {
        BTreeMap::from([
            ("vol-1".parse().unwrap(), "/dev/sda1".to_owned()),
            ("vol-2".parse().unwrap(), "/dev/sdb".to_owned()),
        ])
    };
    let tags = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    let prior = Protection { scaling_group: Some("web".to_owned()), ..Protection::default() };
    let mark = |state| {
        let (owner, from) = (owner.clone(), State::Isolating);
        Step::Mark { instance: instance(), owner, from, state, reason: None, cut: None, keeps_lease: false }
    };
    let profile = Profile { association: "iip-assoc-1".to_owned(), arn: "arn:a".to_owned() };
    let (interfaces, records) = ("ec2:DescribeNetworkInterfaces", "dynamodb:BatchGetItem");
    let (members, profiles) =
        ("autoscaling:DescribeAutoScalingInstances", "ec2:DescribeIamInstanceProfileAssociations");
    let group = || "web".to_owned();
    let stop = Attribute::StopProtection(true);
    vec![
        (
            record(&[("eni-1", &["sg-a", "sg-b"]), ("eni-2", &[])], Prior::None),
            "i-1: record eni-1 [sg-a, sg-b] eni-2 []",
            records,
            true,
        ),
        (record(&[], Prior::Ours), "i-1: record as isolating", records, true),
        (record(&[("eni-1", &["sg-a"])], Prior::Ours), "i-1: record eni-1 [sg-a] (added)", records, true),
        (record(&[], Prior::Of(owner.clone())), "i-1: record (taken over from Old)", records, true),
        (
            record(&[("eni-1", &["sg-a"])], Prior::Unreadable),
            "i-1: record eni-1 [sg-a] (in place of an item that cannot be read)",
            records,
            true,
        ),
        (set_groups(&["sg-a"], &["sg-150"], Aim::Isolate), "i-1: isolate eni-1 [sg-a] -> [sg-150]", interfaces, true),
        (set_groups(&["sg-150"], &["sg-a"], Aim::Restore), "i-1: restore eni-1 [sg-150] -> [sg-a]", interfaces, true),
        (set_groups(&[], &["sg-a"], Aim::Confirm), "i-1: confirm eni-1 [] -> [sg-a]", interfaces, true),
        (pass(&["sg-a"], "sg-150"), "i-1: isolate eni-1 by way of sg-7a5 for 7 s -> [sg-150]", interfaces, false),
        (
            Step::Tag { instance: instance(), resource: "eni-1".to_owned(), tags: tags.clone().into() },
            "tag eni-1 with a, b",
            interfaces,
            true,
        ),
        (
            Step::Untag { instance: instance(), resource: "eni-1".to_owned(), keys: tags.keys().cloned().collect() },
            "untag eni-1 of a, b",
            interfaces,
            true,
        ),
        (mark(State::Restoring), "i-1: mark restoring", records, true),
        (mark(State::Kept), "i-1: mark kept", records, true),
        (
            Step::RequestSnapshots { instance: instance(), taken: [].into() },
            "i-1: mark snapshots requested",
            records,
            false,
        ),
        (
            Step::TakeSnapshots { instance: instance(), volumes: volumes(), without: [].into(), tags: tags.into() },
            "i-1: snapshot vol-1, vol-2",
            "ec2:DescribeSnapshots",
            false,
        ),
        (
            Step::SaveSnapshots {
                instance: instance(),
                snapshots: [("vol-1".parse().unwrap(), "snap-1".parse().unwrap())].into(),
            },
            "i-1: save snapshots snap-1",
            records,
            true,
        ),
        (
            Step::LockSnapshot { instance: instance(), snapshot: "snap-1".parse().unwrap(), days: 1 },
            "i-1: lock snap-1 for 1 day",
            "ec2:DescribeLockedSnapshots",
            true,
        ),
        (Step::SaveProtection { instance: instance(), prior }, "i-1: save in service of web", records, true),
        (
            change(Change::Attribute(stop), Aim::Isolate),
            "i-1: protect: stop protection on",
            "ec2:DescribeInstanceAttribute",
            true,
        ),
        (
            change(Change::Attribute(stop), Aim::Confirm),
            "i-1: confirm: stop protection on",
            "ec2:DescribeInstanceAttribute",
            true,
        ),
        (
            change(Change::Volumes { volumes: volumes(), go_with_it: false }, Aim::Isolate),
            "i-1: keep vol-1, vol-2 on termination",
            "ec2:DescribeInstances",
            true,
        ),
        (
            change(Change::Volumes { volumes: volumes(), go_with_it: true }, Aim::Restore),
            "i-1: restore: delete vol-1, vol-2 on termination",
            "ec2:DescribeInstances",
            true,
        ),
        (change(Change::EnterStandby { group: group() }, Aim::Isolate), "web: i-1 to standby", members, true),
        (change(Change::ExitStandby { group: group() }, Aim::Restore), "web: i-1 back from standby", members, true),
        (change(Change::DetachProfile(profile), Aim::Isolate), "i-1: detach profile arn:a", profiles, true),
        (
            change(Change::AttachProfile { arn: "arn:a".to_owned() }, Aim::Restore),
            "i-1: restore: profile arn:a",
            profiles,
            true,
        ),
    ]
}

#[test]
fn each_step_has_a_text_and_a_call_that_shows_it() {
    for (step, text, seen_by, may_be_repeated) in steps() {
        assert_eq!(
            (step.to_string().as_str(), step.seen_by(), step.may_be_repeated()),
            (text, seen_by, may_be_repeated)
        );
        assert_eq!(step.instance().as_str(), "i-1", "{text}");
    }
}

#[test]
fn steps_that_write_the_same_have_one_key() {
    let same = |left: Step, right: Step| assert_eq!(left.key(), right.key());
    let differ = |left: Step, right: Step| assert_ne!(left.key(), right.key());
    same(set_groups(&["sg-a"], &["sg-150"], Aim::Isolate), set_groups(&["sg-b"], &["sg-150"], Aim::Confirm));
    differ(set_groups(&["sg-a"], &["sg-150"], Aim::Isolate), set_groups(&["sg-a"], &["sg-b"], Aim::Isolate));
    same(pass(&["sg-a"], "sg-150"), pass(&["sg-b"], "sg-150"));
    differ(pass(&["sg-a"], "sg-150"), pass(&["sg-a"], "sg-b"));
    let attribute = |on, aim| change(Change::Attribute(Attribute::StopProtection(on)), aim);
    same(attribute(true, Aim::Isolate), attribute(true, Aim::Restore));
    differ(attribute(true, Aim::Isolate), attribute(false, Aim::Isolate));
    let recorded = record(&[("eni-1", &["sg-a"])], Prior::Ours);
    let mut under_a_lease = recorded.clone();
    let Step::Record(originals) = &mut under_a_lease else { unreachable!() };
    originals.leased_until = Some(Time(1));
    same(under_a_lease, recorded);
    for (step, ..) in steps() {
        assert_eq!(step.key().key(), step.key());
        let is_changed = matches!(step, Step::SetGroups { .. } | Step::Pass { .. } | Step::Protect { .. });
        assert!(is_changed || step.key() == step, "{step}");
    }
}

#[test]
fn what_is_confirmed_may_be_outside_and_what_passes_from_inside_is_not() {
    let isolating = [
        set_groups(&["sg-a"], &["sg-150"], Aim::Isolate),
        set_groups(&["sg-150"], &["sg-150"], Aim::Confirm),
        pass(&["sg-a"], "sg-150"),
        pass(&["sg-150", "sg-a"], "sg-150"),
    ];
    assert!(isolating.iter().all(Step::isolates));
    let others =
        [set_groups(&["sg-150"], &["sg-a"], Aim::Restore), pass(&["sg-150"], "sg-150"), record(&[], Prior::Ours)];
    assert!(!others.iter().any(Step::isolates));
}

#[test]
fn some_protections_may_be_refused_for_what_an_instance_is() {
    for (step, ..) in steps() {
        let Step::Protect { change, .. } = &step else { continue };
        let is_put_back_only = matches!(change, Change::ExitStandby { .. } | Change::AttachProfile { .. });
        assert_eq!(change.is_for_some_instances_only(), !is_put_back_only, "{step}");
    }
}
