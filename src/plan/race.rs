//! Two stacks that isolate one instance at once: which of them goes on, and how the other lets go.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::{holder, is_closed};
use super::isolate::Isolation;
use super::{Aim, Doubt, Plan, Problem, Step, Work};
use crate::model::{Group, Groups, Instance, Interface, Record, Role, State};

impl<'a> Isolation<'a> {
    pub(super) fn holder(&self, interface: &Interface) -> Option<&'a String> {
        holder(self.case.observed, &self.ours, interface)
    }

    pub(super) fn foreign_holder(&self, instance: &Instance) -> Option<&'a String> {
        instance.interfaces.iter().find_map(|interface| self.holder(interface))
    }

    /// An instance in the records of another stack is left to that, whether or not EC2 shows that it isolates it.
    pub(super) fn leave_to(&self, holder: &str, instance: &Instance, plan: &mut Plan) {
        let (id, holder) = (self.case.id(), holder.to_owned());
        let open = instance.interfaces.iter().filter(|interface| self.holder(interface).is_none());
        let interfaces: BTreeSet<_> = open.map(|interface| interface.id.clone()).collect();
        if interfaces.is_empty() {
            plan.problems.push(Problem::HeldByOther { instance: id, holder });
        } else if self.case.believes(Doubt::Holder, plan) {
            // It is not about to isolate it.
            plan.problems.push(Problem::HeldOpen { instance: id, holder, interfaces });
        }
    }

    /// Two stacks that isolate one instance at once may each end with a part of it. **One of them has all of it in the end,
    /// and nothing leaves isolation on the way**: of those that both recorded it, the one with the lesser id goes on, the
    /// other moves its part over.
    pub(super) fn wins(&self, instance: &Instance, other: &String) -> bool {
        self.shares(instance) && self.case.owner.stack_id < *other
    }

    /// Whether a part of the instance is in our isolation, and every part that is in another stack's is recorded: it was free a
    /// moment ago. If it was once seen isolated as a whole, that part was moved: whose it is then is not ours to settle.
    pub(super) fn shares(&self, instance: &Instance) -> bool {
        let is_racing =
            |record: &&Record| record.state == State::Isolating && record.owner.stack_id == self.case.owner.stack_id;
        let Some(record) = self.case.held().filter(is_racing).filter(|_| !self.case.ledger.was_settled) else {
            return false;
        };
        let (inside, outside): (Vec<_>, Vec<_>) =
            instance.interfaces.iter().partition(|interface| !interface.groups.is_disjoint(&self.ours));
        let is_lost = |found: &&Interface| self.holder(found).is_some() && record.interfaces.contains_key(&found.id);
        !inside.is_empty() && outside.iter().all(is_lost)
    }

    /// Moves our part of a shared instance into the isolation group of the stack that has the rest.
    pub(super) fn yielding(&self, instance: &Instance, holder: &String) -> Option<Work> {
        if !self.shares(instance) {
            return None;
        }
        let theirs = self.case.observed.groups.values().filter(|group| group.stack_id.as_ref() == Some(holder));
        let group = theirs
            .filter(|group| group.role == Some(Role::Isolation) && group.vpc.as_ref() == Some(&self.wants.vpc))
            .find(|group: &&Group| is_closed(self.case.observed, group))?;
        let inside = instance.interfaces.iter().filter(|interface| !interface.groups.is_disjoint(&self.ours));
        let to = Groups::from([group.id.clone()]);
        let moves: Vec<Step> =
            inside.map(|interface| Step::set_groups(self.case.id(), interface, &to, Aim::Isolate)).collect();
        let first = self.record_step(BTreeMap::new(), BTreeSet::new(), &moves);
        (!moves.is_empty()).then_some(Work { first, then: moves })
    }
}
