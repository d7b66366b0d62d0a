//! Volumes that are deleted with the instance: they outlive it.

use super::{Change, Due, is_confirmed, put_back};
use crate::model::{Instance, Record};
use crate::plan::{Aim, Case, Doubt, Plan, Step};

pub(super) fn protect(instance: &Instance, due: &mut Due) {
    let volumes = instance.devices(|_, volume| volume.delete_on_termination);
    if !volumes.is_empty() {
        due.prior.volumes = volumes.clone();
        due.changes.push(Change::Volumes { volumes, go_with_it: false });
    }
}

pub(super) fn unprotect(case: &Case<'_>, record: &Record, instance: &Instance, plan: &mut Plan) {
    let recorded = &record.protection.volumes;
    for volume in recorded.keys().filter(|volume| !instance.volumes.contains_key(*volume)) {
        case.believes(Doubt::Volume(volume.clone()), plan);
    }
    let all = instance.devices(|id, _| recorded.contains_key(id));
    if all.is_empty() {
        return;
    }
    let change = Change::Volumes { volumes: all, go_with_it: true };
    let confirm = Step::Protect { instance: case.id(), change: change.clone(), aim: Aim::Confirm };
    let stay = instance.devices(|id, volume| recorded.contains_key(id) && !volume.delete_on_termination);
    if stay.is_empty() {
        put_back(case, change, false, plan);
    } else if is_confirmed(case, &confirm) {
        put_back(case, Change::Volumes { volumes: stay, go_with_it: true }, true, plan);
    } else {
        put_back(case, change, true, plan);
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{NOW, World};
    use crate::plan::{DOUBTED, Doubt, Plan};

    #[test]
    fn an_instance_whose_attributes_are_not_known_keeps_its_volumes_all_the_same() {
        for attributes in [None, Some(None)] {
            let mut world = World::isolated();
            world.observed.attributes = attributes.map(|none| ("i-1".parse().unwrap(), none)).into_iter().collect();
            let doubt = if attributes.is_some() { "\n? the instance is not shown" } else { "" };
            world.check_protected(&format!(
                "i-1: save deletion of vol-1 on termination\ni-1: keep vol-1 on termination{doubt}"
            ));
        }
    }

    use crate::model::{Fault, Volume};
    use crate::plan::Goal;

    /// Both of its volumes are recorded; whether the first and the second go with it by now.
    fn two(first: bool, second: bool) -> World {
        let mut world = World::protected();
        world.saved().protection.attributes.clear();
        world.saved().protection.volumes.insert("vol-2".parse().unwrap(), "/dev/sdb".to_owned());
        world.delete_volume(first);
        let volume = Volume { device: "/dev/sdb".to_owned(), delete_on_termination: second };
        world.change_instance(|instance| _ = instance.volumes.insert("vol-2".parse().unwrap(), volume))
    }

    #[test]
    fn all_recorded_volumes_are_put_back_in_one_call_and_then_those_that_are_left() {
        two(false, false).check_unprotected("i-1: restore: delete vol-1, vol-2 on termination");
        two(true, false).check_unprotected("i-1: restore: delete vol-1, vol-2 on termination");
        two(true, true).check_unprotected("i-1: confirm: delete vol-1, vol-2 on termination");
        // One that is not recorded is none of ours.
        let mut other = two(false, false);
        other.saved().protection.volumes.remove(&"vol-1".parse().unwrap());
        other.check_unprotected("i-1: restore: delete vol-2 on termination");
        let mut going = two(false, true);
        going.saved().protection.volumes.remove(&"vol-1".parse().unwrap());
        going.check_unprotected("i-1: confirm: delete vol-2 on termination");
        going.accept_everything();
        going.check_unprotected("i-1: mark restored");
        let mut accepted = two(true, false);
        accepted.accept_everything();
        accepted.check_unprotected("i-1: restore: delete vol-2 on termination");
        accepted.observed.instances.values_mut().next().unwrap().volumes.remove(&"vol-2".parse().unwrap());
        accepted.check_unprotected("i-1: confirm: delete vol-1 on termination\n? vol-2 is not shown");
    }

    #[test]
    fn what_shows_as_put_back_is_done_once_it_was_written_or_refused() {
        let world = two(true, true);
        for (result, expected) in [
            (Ok(()), "i-1: mark restored"),
            (Err(Fault::Refused), "i-1: mark restored"),
            (Err(Fault::Denied), "i-1: mark restored"),
            (Err(Fault::Busy), "i-1: mark restored"),
            (Err(Fault::Server), "i-1: confirm: delete vol-1, vol-2 on termination"),
        ] {
            let mut world =
                world.clone().plain_group("sg-a").shows("eni-1", &["sg-a"]).wrote("eni-1", &["sg-a"], Ok(()));
            let step = world.plan(&Goal::Restore).steps().next().unwrap().clone();
            world.learn(&step, result);
            world.check_unprotected(expected);
        }
        let mut trusting = world;
        trusting.trust();
        trusting.check_unprotected("i-1: mark restored");
    }

    #[test]
    fn volumes_that_go_with_it_are_saved_and_kept() {
        let mut world = two(false, true).attributes("i-1", crate::model::PROTECTING);
        world.saved().protection.volumes.clear();
        world.check_protected("i-1: save deletion of vol-2 on termination\ni-1: keep vol-2 on termination");
        world.delete_volume(true);
        world.check_protected(
            "i-1: save deletion of vol-1 on termination, deletion of vol-2 on termination\ni-1: keep vol-1, vol-2 on termination",
        );
    }

    #[test]
    fn a_detached_volume_needs_nothing_once_it_is_not_shown_a_second_time() {
        let mut world = World::protected();
        world.saved().protection.attributes.clear();
        world.observed.instances.values_mut().next().unwrap().volumes.clear();
        world.check_unprotected("? vol-1 is not shown");
        world.ledger.note_doubts(
            &Plan { doubts: [Doubt::Volume("vol-1".parse().unwrap())].into(), ..Plan::default() },
            NOW.elapsed - DOUBTED,
        );
        world.check_unprotected("i-1: mark restored\n? vol-1 is not shown");
    }
}
