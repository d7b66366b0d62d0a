//! Standby: whoever fails an Auto Scaling group's health checks because it is isolated would be terminated, and its
//! volumes with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attempts, Hindrance, Measure, Step, Work};
use crate::model::{InstanceId, Member};

/// `EnterStandby` and `ExitStandby` take up to 20 instances (Auto Scaling API reference).
const AT_ONCE: usize = 20;

/// Instances by group.
pub(super) type Batches = BTreeMap<String, BTreeSet<InstanceId>>;

/// The way into Standby, or out of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Course {
    Nothing,
    /// Its group is to be saved first.
    Save,
    Move,
    /// Not now.
    Wait(Hindrance),
    /// Not at all.
    Leave(Hindrance),
}

/// `recorded` is the group that the record holds.
pub(super) fn enter(id: &InstanceId, member: &Member, recorded: Option<&String>, attempts: &Attempts) -> Course {
    let Member { group, state } = member;
    let (instance, group, state) = (id.clone(), group.clone(), state.clone());
    match (state.as_str(), recorded) {
        ("Standby", _) => Course::Nothing,
        ("InService", _) if attempts.moved.contains(id) => {
            Course::Wait(Hindrance::NotInStandby { instance, group, state })
        }
        ("InService", None) => Course::Save,
        ("InService", Some(recorded)) if *recorded == group => Course::Move,
        ("InService", Some(recorded)) => {
            Course::Leave(Hindrance::OtherGroup { instance, group, recorded: recorded.clone() })
        }
        _ => Course::Wait(Hindrance::NotInStandby { instance, group, state }),
    }
}

/// `group` is the one that the record holds.
pub(super) fn exit(id: &InstanceId, member: Option<&Member>, group: &str, attempts: &Attempts) -> Course {
    let (instance, group) = (id.clone(), group.to_owned());
    let state = member.filter(|member| member.group == group).map_or("", |member| member.state.as_str());
    match (state, attempts.stuck.get(id)) {
        ("Standby", Some(reason)) => {
            Course::Leave(Hindrance::StaysInStandby { instance, group, reason: reason.clone() })
        }
        ("Standby", None) if !attempts.moved.contains(id) => Course::Move,
        ("Standby" | "EnteringStandby", _) => {
            Course::Wait(Hindrance::StillInStandby { instance, group, state: state.to_owned() })
        }
        ("InService", _) => Course::Nothing,
        (state, _) if state.starts_with("Pending") => Course::Nothing,
        _ => Course::Leave(Hindrance::LeftGroup { instance, group }),
    }
}

/// One step for up to twenty members of a group; one each for those in `alone`.
pub(super) fn steps(
    batches: Batches,
    alone: &BTreeSet<InstanceId>,
    measure: impl Fn(String, BTreeSet<InstanceId>) -> Measure,
) -> Vec<Work> {
    let mut work = Vec::new();
    for (group, instances) in batches {
        let (single, together): (Vec<_>, Vec<_>) = instances.into_iter().partition(|id| alone.contains(id));
        for portion in single.chunks(1).chain(together.chunks(AT_ONCE)) {
            let instances = portion.iter().cloned().collect();
            work.push(Work::only(Step::Measure(measure(group.clone(), instances))));
        }
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(group: &str, state: &str) -> Member {
        Member { group: group.to_owned(), state: state.to_owned() }
    }

    fn id() -> InstanceId {
        "i-1".parse().unwrap()
    }

    fn text(course: &Course) -> String {
        match course {
            Course::Wait(hindrance) => format!("wait: {hindrance}"),
            Course::Leave(hindrance) => format!("leave: {hindrance}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    /// The beginning of what becomes of a member of `web` in this state, whose record holds `recorded`.
    fn check_enter(state: &str, recorded: Option<&str>, attempts: &Attempts, expected: &str) {
        let recorded = recorded.map(str::to_owned);
        let text = text(&enter(&id(), &member("web", state), recorded.as_ref(), attempts));
        assert!(text.starts_with(expected), "{state}: {text}");
    }

    fn check_exit(member: Option<Member>, attempts: &Attempts, expected: &str) {
        let text = text(&exit(&id(), member.as_ref(), "web", attempts));
        assert!(text.starts_with(expected), "{member:?}: {text}");
    }

    #[test]
    fn a_member_in_service_is_saved_and_then_moved() {
        let none = Attempts::default();
        check_enter("InService", None, &none, "save");
        check_enter("InService", Some("web"), &none, "move");
        check_enter(
            "InService",
            Some("old"),
            &none,
            "leave: i-1 is in service of Auto Scaling group web, its record says old",
        );
    }

    #[test]
    fn standby_needs_nothing_whoever_moved_it_there() {
        check_enter("Standby", None, &Attempts::default(), "nothing");
        check_enter("Standby", Some("web"), &Attempts::default(), "nothing");
    }

    #[test]
    fn a_member_on_its_way_is_waited_for_and_any_other_is_named() {
        let none = Attempts::default();
        for state in ["Pending", "Pending:Wait", "EnteringStandby", "Terminating", "Detaching", "Warmed:Stopped"] {
            check_enter(state, None, &none, &format!("wait: i-1 is {state} in Auto Scaling group web, not in Standby"));
        }
        let moved = Attempts { moved: [id()].into(), ..Attempts::default() };
        check_enter("InService", Some("web"), &moved, "wait: i-1 is InService");
        let under_way = |state: &str| match enter(&id(), &member("web", state), None, &moved) {
            Course::Wait(hindrance) => hindrance.is_under_way(),
            _ => false,
        };
        assert_eq!(["Pending", "EnteringStandby", "InService"].map(under_way), [true; 3]);
        assert_eq!(["Terminating", "Detached", "Quarantined"].map(under_way), [false; 3]);
    }

    #[test]
    fn only_what_is_in_standby_of_its_group_leaves_it() {
        let none = Attempts::default();
        check_exit(Some(member("web", "Standby")), &none, "move");
        for state in ["InService", "Pending", "Pending:Proceed"] {
            check_exit(Some(member("web", state)), &none, "nothing");
        }
        for gone in [None, Some(member("other", "Standby")), Some(member("web", "Terminating"))] {
            check_exit(gone, &none, "leave: i-1 is no longer in Auto Scaling group web");
        }
        check_exit(Some(member("web", "EnteringStandby")), &none, "wait: i-1 is EnteringStandby");
    }

    #[test]
    fn what_auto_scaling_does_not_take_back_stays_in_standby_and_is_named_with_the_command() {
        let stuck = Attempts { stuck: [(id(), "ValidationError: full".to_owned())].into(), ..Attempts::default() };
        check_exit(
            Some(member("web", "Standby")),
            &stuck,
            "leave: i-1 stays in Standby of Auto Scaling group web (ValidationError: full): raise the group's maximum size, \
             then: aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1",
        );
        let moved = Attempts { moved: [id()].into(), ..Attempts::default() };
        check_exit(Some(member("web", "Standby")), &moved, "wait: i-1 is Standby in Auto Scaling group web");
    }

    #[test]
    fn twenty_go_in_one_step_and_the_refused_alone() {
        let ids: BTreeSet<InstanceId> = (0..22).map(|n| format!("i-{n:02x}").parse().unwrap()).collect();
        let alone = ids.iter().take(1).cloned().collect();
        let batches = [("web".to_owned(), ids), ("db".to_owned(), [id()].into())].into();
        let work = steps(batches, &alone, |group, instances| Measure::EnterStandby { group, instances });
        let sizes: Vec<usize> = work
            .iter()
            .flat_map(Work::steps)
            .map(|step| if let Step::Measure(measure) = step { measure.instances().len() } else { 0 })
            .collect();
        assert_eq!(sizes, [1, 1, 20, 1]);
        assert_eq!(work[0].then[0].to_string(), "db: i-1 to standby");
    }
}
