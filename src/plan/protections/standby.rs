//! Standby: an instance that fails an Auto Scaling group's health checks because it is isolated would be terminated, and its
//! volumes with it.

use super::{Change, Due};
use crate::model::{Fault, Instance, Record};
use crate::plan::{Aim, Case, Doubt, Plan, Problem, Step, StepError};

/// Auto Scaling tags its members (EC2 Auto Scaling User Guide, "Tag Auto Scaling groups and instances").
const MEMBERSHIP: &str = "aws:autoscaling:groupName";

/// Its group is saved with the rest before it is moved.
pub(super) fn protect(case: &Case<'_>, record: &Record, instance: &Instance, due: &mut Due, plan: &mut Plan) {
    let Some(members) = &case.observed.members else { return };
    let Some(member) = members.get(case.instance) else {
        if instance.tags.contains_key(MEMBERSHIP) {
            case.believes(Doubt::Member, plan);
        }
        return;
    };
    let (instance, group, state) = (case.id(), member.group.clone(), member.state.clone());
    let enter = Change::EnterStandby { group: group.clone() };
    let step = Step::Protect { instance: instance.clone(), change: enter.clone(), aim: Aim::Isolate };
    match (state.as_str(), &record.protection.scaling_group) {
        ("Standby", _) => {}
        ("InService", recorded)
            if recorded.as_ref().is_none_or(|recorded| *recorded == group) && !case.ledger.is_accepted(&step) =>
        {
            due.prior.scaling_group = Some(group);
            due.changes.push(enter);
        }
        ("InService", Some(recorded)) if *recorded != group => {
            plan.problems.push(Problem::OtherScalingGroup { instance, group, recorded: recorded.clone() });
        }
        (state, _) => {
            let problem = Problem::NotInStandby { instance, group, state: state.to_owned() };
            let is_on_its_way = matches!(state, "InService" | "EnteringStandby") || state.starts_with("Pending");
            if !is_on_its_way || case.believes(Doubt::UnderWay(problem.clone()), plan) {
                plan.problems.push(problem);
            }
        }
    }
}

/// Whether it is known where the instance is, if its group is recorded.
pub(super) fn unprotect(case: &Case<'_>, record: &Record, plan: &mut Plan) -> bool {
    let Some(group) = record.protection.scaling_group.clone() else { return true };
    let Some(members) = &case.observed.members else { return false };
    let instance = case.id();
    let member = members.get(case.instance).filter(|member| member.group == group);
    let state = member.map_or("", |member| member.state.as_str());
    let change = Change::ExitStandby { group: group.clone() };
    let step = Step::Protect { instance: instance.clone(), change, aim: Aim::Restore };
    match state {
        "InService" => {}
        state if state.starts_with("Pending") => {}
        "Standby" if !case.ledger.is_accepted(&step) => match case.ledger.failure(&step) {
            Some(StepError::Call(error)) if error.fault == Fault::Refused => {
                let reason = format!("{}: {}", error.code, error.message);
                plan.problems.push(Problem::StaysInStandby { instance, group, reason });
            }
            _ => plan.push(step),
        },
        "Standby" | "EnteringStandby" => {
            let problem = Problem::StillInStandby { instance, group, state: state.to_owned() };
            if case.believes(Doubt::UnderWay(problem.clone()), plan) {
                plan.problems.push(problem);
            }
            return false;
        }
        _ if case.believes(Doubt::Member, plan) => plan.problems.push(Problem::LeftScalingGroup { instance, group }),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::MEMBERSHIP;
    use crate::model::{Fault, PROTECTING};
    use crate::plan::Goal;
    use crate::plan::testing::{NOW, World, wants};

    #[test]
    fn the_group_of_a_member_is_saved_with_the_rest_and_then_it_is_moved() {
        let mut world = World::isolated().attributes("i-1", PROTECTING);
        world.delete_volume(false);
        world.member("InService");
        world.check_protected("i-1: save in service of web\nweb: i-1 to standby");
        world.saved().protection.scaling_group = Some("web".to_owned());
        world.check_protected("web: i-1 to standby");
        world.accept_everything();
        world.check_protected(
            "? under way: i-1 is InService in Auto Scaling group web, not in Standby: Auto Scaling may terminate it; look at the group",
        );
        world.member("Standby");
        world.check_protected("");
        world.member("Terminating");
        world.check_protected(
            "! i-1 is Terminating in Auto Scaling group web, not in Standby: Auto Scaling may terminate it; look at the group",
        );
        world.saved().protection.scaling_group = Some("old".to_owned());
        world.member("InService");
        world.check_protected(
            "! i-1 is in service of Auto Scaling group web, its record says old: it was not moved to Standby; do so by hand: \
             aws autoscaling enter-standby",
        );
    }

    /// Its attributes and its volume are as they should be.
    fn member(state: &str, recorded: Option<&str>) -> World {
        let mut world = World::isolated().attributes("i-1", PROTECTING);
        world.delete_volume(false);
        world.saved().protection.scaling_group = recorded.map(str::to_owned);
        world.member(state);
        world
    }

    #[test]
    fn a_member_that_is_on_its_way_is_waited_for_and_then_named() {
        let named = |state: &str| {
            format!(
                "i-1 is {state} in Auto Scaling group web, not in Standby: Auto Scaling may terminate it; look at the group"
            )
        };
        let goal = wants(&["i-1"]);
        let goal = Goal::Isolate(&goal);
        let since = |world: &World, seconds| {
            let plan = world.plan(&goal);
            world.clone().with(|world| {
                world.ledger.note_doubts(&plan, NOW.elapsed - std::time::Duration::from_secs(seconds));
            })
        };
        let accepted = || {
            let world = member("InService", Some("web"));
            let step =
                world.plan(&goal).steps().find(|step| step.to_string() == "web: i-1 to standby").unwrap().clone();
            world.with(|world| world.learn(&step, Ok(())))
        };
        for (state, world) in [
            ("EnteringStandby", member("EnteringStandby", None)),
            ("EnteringStandby", member("EnteringStandby", Some("old"))),
            ("Pending", member("Pending", None)),
            ("Pending:Wait", member("Pending:Wait", Some("web"))),
            ("InService", accepted()),
        ] {
            let doubt = format!("? under way: {}", named(state));
            world.check_protected(&doubt);
            since(&world, 59).check_protected(&doubt);
            since(&world, 60).check_protected(&format!("! {}\n{doubt}", named(state)));
        }
        for state in ["Terminating", "Detached", "Quarantined"] {
            member(state, None).check_protected(&format!("! {}", named(state)));
        }
        for recorded in [None, Some("web"), Some("old")] {
            member("Standby", recorded).check_protected("");
        }
        // It is moved in the group that its record names, or by hand.
        member("InService", Some("old")).check_protected(
            "! i-1 is in service of Auto Scaling group web, its record says old: it was not moved to Standby; do so by hand: \
             aws autoscaling enter-standby",
        );
        // Who is in no group, or was not looked up, needs nothing.
        let none = member("InService", None).with(|world| world.observed.members = Some([].into()));
        none.check_protected("");
        // Auto Scaling has tagged it.
        let tagged = none.change_instance(|instance| _ = instance.tags.insert(MEMBERSHIP.to_owned(), "web".to_owned()));
        tagged.check_protected("? no Auto Scaling group shows the instance");
        member("InService", None).with(|world| world.observed.members = None).check_protected("");
        // A failed try is made again.
        let mut failed = member("InService", Some("web"));
        let step = failed.plan(&goal).steps().find(|step| step.to_string() == "web: i-1 to standby").unwrap().clone();
        failed.learn(&step, Err(Fault::Server));
        failed.check_protected("web: i-1 to standby");
    }

    #[test]
    fn a_member_that_does_not_come_back_is_waited_for_and_then_named() {
        let back = |world: &World| {
            let world = world.clone().plain_group("sg-a").shows("eni-1", &["sg-a"]).wrote("eni-1", &["sg-a"], Ok(()));
            let step = world.plan(&Goal::Restore).steps().next().unwrap().clone();
            assert_eq!(step.to_string(), "web: i-1 back from standby");
            (world, step)
        };
        let still = |state: &str| {
            format!(
                "i-1 is {state} in Auto Scaling group web: it is not back in service; when it is in Standby: \
                 aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1"
            )
        };
        let (mut world, step) = back(&member("Standby", Some("web")));
        world.learn(&step, Err(Fault::Server));
        world.check_unprotected("web: i-1 back from standby");
        world.learn(&step, Ok(()));
        for state in ["Standby", "EnteringStandby"] {
            world.member(state);
            let doubt = format!("? under way: {}", still(state));
            world.check_unprotected(&doubt);
            let plan = world.plan(&Goal::Restore);
            let mut later = world.clone();
            later.ledger.note_doubts(&plan, NOW.elapsed - std::time::Duration::from_secs(60));
            later.check_unprotected(&format!("! {}\n{doubt}", still(state)));
        }
        // A permission may come.
        let (mut refused, step) = back(&member("Standby", Some("web")));
        refused.learn(&step, Err(Fault::Denied));
        refused.check_unprotected("web: i-1 back from standby");
        refused.learn(&step, Err(Fault::Refused));
        let text = refused.plan(&Goal::Restore).to_string();
        assert!(
            text.starts_with("i-1: mark restored\n! i-1 stays in Standby of Auto Scaling group web (Code: message)"),
            "{text}"
        );
        // In another group, or on its way out, it is no longer in this one.
        for (state, recorded) in [("InService", "old"), ("Terminating", "web")] {
            member(state, Some(recorded)).check_unprotected("? no Auto Scaling group shows the instance");
        }
        member("Pending:Wait", Some("web")).check_unprotected("i-1: mark restored");
        member("Standby", None).check_unprotected("i-1: mark restored");
    }

    #[test]
    fn a_restore_brings_a_member_back_before_its_record_is_done() {
        let standby = |state: &str| {
            let mut world = World::isolated();
            world.saved().protection.scaling_group = Some("web".to_owned());
            world.member(state);
            world
        };
        standby("Standby").check_unprotected("web: i-1 back from standby");
        standby("Pending").check_unprotected("i-1: mark restored");
        standby("InService").check_unprotected("i-1: mark restored");
        standby("EnteringStandby").check_unprotected(
            "? under way: i-1 is EnteringStandby in Auto Scaling group web: it is not back in service; when it is in Standby: \
             aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1",
        );
        let mut gone = standby("Standby");
        gone.observed.members = Some([].into());
        gone.check_unprotected("? no Auto Scaling group shows the instance");
        gone.trust();
        gone.check_unprotected(
            "i-1: mark restored\n! i-1 is no longer in Auto Scaling group web: it was not put back into service\n? no Auto Scaling group shows the instance",
        );
        let mut unread = standby("Standby");
        unread.observed.members = None;
        unread.check_unprotected("");
        let mut stuck = standby("Standby");
        stuck.refuse_everything("ValidationError", "full");
        stuck.check_unprotected(
            "i-1: mark restored\n! i-1 stays in Standby of Auto Scaling group web (ValidationError: full): raise the group's maximum size, \
             then: aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1",
        );
    }
}
