//! Termination protection, stop protection, and what a shutdown from inside does.

use super::{Change, Due, put_back};
use crate::model::{PROTECTING, Record};
use crate::plan::{Case, Doubt, Plan};

pub(super) fn protect(case: &Case<'_>, due: &mut Due, plan: &mut Plan) {
    if let Some(None) = case.observed.attributes.get(case.instance) {
        case.believes(Doubt::Instance, plan);
    }
    let now = case.observed.attributes.get(case.instance).and_then(Option::as_ref);
    for (now, wanted) in now.into_iter().flatten().zip(PROTECTING) {
        if *now != wanted {
            due.prior.attributes.insert(*now);
            due.changes.push(Change::Attribute(wanted));
        }
    }
}

/// Whether the attributes are known, if any is recorded.
pub(super) fn unprotect(case: &Case<'_>, record: &Record, plan: &mut Plan) -> bool {
    let recorded = &record.protection.attributes;
    let Some(now) = case.observed.attributes.get(case.instance) else { return recorded.is_empty() };
    let Some(now) = now else { return case.believes(Doubt::Instance, plan) };
    for attribute in recorded {
        put_back(case, Change::Attribute(*attribute), !now.contains(attribute), plan);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attribute, Protection};
    use crate::plan::testing::{UNPROTECTED, World};

    #[test]
    fn what_it_has_is_saved_and_then_changed() {
        World::isolated().check_protected(
            "i-1: save termination protection off, stop protection off, shutdown behaviour terminate, deletion of vol-1 on termination\n\
             i-1: protect: termination protection on\n\
             i-1: protect: stop protection on\n\
             i-1: protect: shutdown behaviour stop\n\
             i-1: keep vol-1 on termination",
        );
    }

    #[test]
    fn what_it_should_have_is_neither_saved_nor_changed() {
        let mut now = PROTECTING;
        now[0] = Attribute::TerminationProtection(false);
        let mut world = World::isolated().attributes("i-1", now);
        world.delete_volume(false);
        world.check_protected("i-1: save termination protection off\ni-1: protect: termination protection on");
    }

    #[test]
    fn what_is_recorded_is_changed_again_and_not_saved_again() {
        World::protected().attributes("i-1", UNPROTECTED).check_protected(
            "i-1: protect: termination protection on\n\
             i-1: protect: stop protection on\n\
             i-1: protect: shutdown behaviour stop",
        );
    }

    #[test]
    fn what_is_protected_needs_nothing() {
        World::protected().check_protected("");
        let mut world = World::protected();
        world.saved().protection = Protection::default();
        world.check_protected("");
    }

    #[test]
    fn what_shows_its_prior_value_already_is_written_once_more() {
        let mut world = World::protected().attributes("i-1", UNPROTECTED);
        world.delete_volume(true);
        world.saved().protection.attributes = [Attribute::StopProtection(false)].into();
        world.check_unprotected("i-1: confirm: stop protection off\ni-1: confirm: delete vol-1 on termination");
        world.accept_everything();
        world.check_unprotected("i-1: mark restored");
    }

    #[test]
    fn a_restore_puts_back_what_is_recorded() {
        World::protected().check_unprotected(
            "i-1: restore: termination protection off\n\
             i-1: restore: stop protection off\n\
             i-1: restore: shutdown behaviour terminate\n\
             i-1: restore: delete vol-1 on termination",
        );
    }

    #[test]
    fn a_record_is_not_done_while_its_attributes_are_not_known() {
        let mut world = World::protected();
        world.observed.attributes.clear();
        world.saved().protection.volumes.clear();
        world.check_unprotected("");
    }

    #[test]
    fn an_instance_that_ec2_no_longer_knows_is_doubted_first() {
        let mut world = World::protected();
        world.saved().protection.volumes.clear();
        world.observed.attributes = [("i-1".parse().unwrap(), None)].into();
        world.check_unprotected("? the instance is not shown");
        world.trust();
        world.check_unprotected("i-1: mark restored\n? the instance is not shown");
    }

    #[test]
    fn what_is_not_recorded_is_not_touched() {
        let mut world = World::protected();
        world.saved().protection = Protection::default();
        world.check_unprotected("i-1: mark restored");
    }
}
