//! The metadata service: it gives the instance the credentials of its role, and no security group keeps the instance from it.

use super::{Change, Due, put_back};
use crate::model::{Instance, Record};
use crate::plan::{Case, Doubt, Plan, Problem};

/// Until EC2 has applied it the instance still gets credentials.
pub(super) fn protect(case: &Case<'_>, instance: &Instance, due: &mut Due, plan: &mut Plan) {
    if instance.has_metadata_service {
        due.prior.metadata_service = true;
        due.changes.push(Change::MetadataService { is_on: false });
    } else if instance.is_metadata_pending {
        let problem = Problem::MetadataPending { instance: case.id() };
        if case.believes(Doubt::UnderWay(problem.clone()), plan) {
            plan.problems.push(problem);
        }
    }
}

/// Whatever else its options were: they stay as they are.
pub(super) fn unprotect(case: &Case<'_>, record: &Record, instance: &Instance, plan: &mut Plan) {
    if record.protection.metadata_service {
        put_back(case, Change::MetadataService { is_on: true }, !instance.has_metadata_service, plan);
    }
}

#[cfg(test)]
mod tests {
    use crate::model::Protection;
    use crate::plan::testing::{World, wants};
    use crate::plan::{Change, Doubt, Goal, Step};

    /// Nothing else protects it.
    fn world(is_on: bool, was_on: bool) -> World {
        let mut world = World::protected();
        world.saved().protection = Protection { metadata_service: was_on, ..Protection::default() };
        world.change_instance(|instance| instance.has_metadata_service = is_on)
    }

    fn check(world: &World, expected: &str) {
        let wants = crate::model::Wants { disable_metadata: true, ..wants(&["i-1"]) };
        let plan = world.plan(&Goal::Isolate(&wants));
        let is_protection = |step: &&Step| matches!(step, Step::SaveProtection { .. } | Step::Protect { .. });
        let steps: Vec<String> = plan.steps().filter(is_protection).map(ToString::to_string).collect();
        assert_eq!(steps.join("\n"), expected);
    }

    #[test]
    fn it_is_turned_off_where_that_is_asked_for_and_what_was_is_saved_before() {
        check(&world(true, false), "i-1: save metadata service on\ni-1: protect: metadata service off");
        check(&world(true, true), "i-1: protect: metadata service off");
        check(&world(false, true), "");
        // It was off before.
        check(&world(false, false), "");
        world(true, false).check_protected("");
    }

    #[test]
    fn it_is_waited_for_until_ec2_has_applied_it_and_named_after_a_minute() {
        let wants = crate::model::Wants { disable_metadata: true, ..wants(&["i-1"]) };
        let mut world = world(false, true).change_instance(|instance| instance.is_metadata_pending = true);
        let plan = world.plan(&Goal::Isolate(&wants));
        let [doubt] = plan.doubts.iter().filter(|doubt| matches!(doubt, Doubt::UnderWay(_))).collect::<Vec<_>>()[..]
        else {
            panic!("{plan}");
        };
        assert!(doubt.to_string().starts_with("under way: the metadata service of i-1 is still being turned off"));
        assert!(!plan.to_string().contains("! the metadata service"));
        let applied = world.clone().change_instance(|instance| instance.is_metadata_pending = false);
        assert!(!applied.plan(&Goal::Isolate(&wants)).to_string().contains("metadata service of"));
        world.ledger.note_doubts(&plan, world.elapsed);
        world.elapsed += std::time::Duration::from_secs(60);
        let plan = world.plan(&Goal::Isolate(&wants));
        assert!(plan.to_string().contains("! the metadata service of i-1 is still being turned off"), "{plan}");
    }

    #[test]
    fn it_comes_back_where_it_was_on_and_stays_as_it_is_elsewhere() {
        world(false, true).check_unprotected("i-1: restore: metadata service on");
        world(false, false).check_unprotected("i-1: mark restored");
        let mut on = world(true, true);
        on.check_unprotected("i-1: confirm: metadata service on");
        on.accept_everything();
        on.check_unprotected("i-1: mark restored");
    }

    #[test]
    fn what_a_policy_of_the_organisation_refuses_is_no_reason_to_fail_an_isolation() {
        let change = |is_on| Change::MetadataService { is_on };
        assert!(change(false).is_for_some_instances_only() && !change(true).is_for_some_instances_only());
        assert_eq!(
            (change(true).action(), change(true).seen_by()),
            ("ec2:ModifyInstanceMetadataOptions", "ec2:DescribeInstances")
        );
    }
}
