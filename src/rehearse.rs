//! A dry run: looks, plans, asks EC2 whether it would, and says what would be done. **Nothing is changed**, not even what
//! the table says is wanted.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::cloudformation::answer::Message;
use crate::inspect::{Inspection, Needs};
use crate::model::{Groups, InstanceId, InterfaceId, Wants};
use crate::phases::{Seen, index, needs_of, observe, observe_held};
use crate::plan::{
    Aim, Attempts, Memory, Plan, Step, Tried, carried_out, contain, in_place, preserve, protect, restore,
};
use crate::ports::{Call, CallError, Change, Look, Records, Stacks};
use crate::reconcile::{Reconciler, held};
use crate::report::Rehearsed;

/// EC2 counts a dry run against the same throttle as the change.
const AT_ONCE: usize = 10;

impl<E: Look + Change, R: Records, S: Stacks> Reconciler<'_, E, R, S> {
    /// Says what a Create or Update with these wants would do now.
    pub(crate) async fn rehearse(&self, wants: &Wants) -> Message {
        let looking = self.persist("ec2:DescribeInstances", || observe(self, wants));
        let Seen { ledger, observed } = match looking.await {
            Ok(seen) => seen,
            Err(error) => return Message::failure(format!("dry run, nothing was changed: {error}")),
        };
        let owner = self.owner;
        // What is doubted in earnest is shown here as it is.
        let memory = Memory { believes: true, ..Memory::default() };
        let (mut containment, mut contained) = contain(owner, wants, &ledger.records, &observed, &memory);
        containment.problems.extend(self.name_branches(wants, &mut contained).await);
        let refusals = self.ask(&containment).await;

        let (records, mut after) = carried_out(&containment, owner, &ledger.records, &observed, &self.clock.now());
        let memory = Memory::of_everything(&after);
        let (_, then_contained) = contain(owner, wants, &records, &after, &memory);
        let interfaces: BTreeSet<InterfaceId> = then_contained.interfaces.keys().cloned().collect();
        let tags = self.persist("ec2:DescribeNetworkInterfaces", || self.ports.ec2.interfaces(&interfaces)).await;
        let preservation = tags.map(|interfaces| {
            after.interfaces = index(interfaces, |interface| interface.id.clone());
            preserve(owner, wants, &then_contained, None, &BTreeSet::new(), &records, &after)
        });
        let mut inspection = Inspection::default();
        let needs = Needs::of(wants, &then_contained.touched());
        inspection.read(&self.ports.ec2, self.pace, &needs, &mut after).await;
        let preservation = preservation.map(|mut plan| {
            let protection = protect(owner, wants, &then_contained, &records, &after, &Attempts::default());
            plan.work.extend(protection.work);
            plan.problems.extend(protection.problems);
            plan
        });
        let unread = inspection.unread().clone();
        let removed: BTreeSet<InstanceId> = held(&ledger, owner, |id| !wants.instances.contains(id))
            .into_iter()
            .map(|record| record.instance)
            .collect();
        Rehearsed { wants, contained, containment, refusals, preservation, unread, removed }.into_message()
    }

    /// Says what [`Reconciler::restore`] would do now: the interfaces first, then what protects the instances. What follows
    /// those steps, tags and marks, is left out.
    ///
    /// # Errors
    /// The records or the hosts cannot be read.
    pub async fn rehearse_restore(&self, only: &BTreeSet<InstanceId>) -> Call<Plan> {
        let ledger = self.persist("dynamodb:Scan", || self.ports.records.read()).await?;
        let records = held(&ledger, self.owner, |id| only.is_empty() || only.contains(id));
        let observed = self.persist("ec2:DescribeInstances", || observe_held(&self.ports.ec2, &records)).await?;
        let records = index(records, |record| record.instance.clone());
        let mut tried = Tried::default();
        let mut plan = restore(self.owner, &records, &observed, &tried);
        let (records, mut after) = carried_out(&plan, self.owner, &records, &observed, &self.clock.now());
        tried.interfaces.extend(after.interfaces.keys().map(|interface| (interface.clone(), Aim::Restore)));
        let half = in_place(self.owner, &records, &after, &tried);
        let mut inspection = Inspection::default();
        inspection.read(&self.ports.ec2, self.pace, &needs_of(&half, &records), &mut after).await;
        // What is planned for protections already is planned again, with all that was read since.
        plan.work.retain(|work| !work.steps().all(|step| matches!(step, Step::Measure(_))));
        let mut then = restore(self.owner, &records, &after, &tried);
        then.work.retain(|work| work.steps().any(|step| matches!(step, Step::Measure(_))));
        plan.work.extend(then.work);
        plan.problems.extend(then.problems);
        plan.problems.sort();
        plan.problems.dedup();
        Ok(plan)
    }

    /// What EC2 says to each change of an interface.
    async fn ask(&self, plan: &Plan) -> Vec<(Step, CallError)> {
        let changes = plan.steps().filter_map(|step| {
            let (interface, groups) = match step {
                Step::SetGroups { interface, to, .. } => (interface, vec![to.clone()]),
                Step::Pass { interface, through, to, .. } => {
                    (interface, [through, to].map(|group| Groups::from([group.clone()])).to_vec())
                }
                _ => return None,
            };
            Some((step, interface, groups))
        });
        let questions: Vec<_> = changes
            .flat_map(|(step, interface, groups)| groups.into_iter().map(move |groups| (step, interface, groups)))
            .map(|(step, interface, groups)| async move {
                let ec2 = &self.ports.ec2;
                let action = "ec2:ModifyNetworkInterfaceAttribute";
                let ask = || async {
                    self.pace.turn(action).await;
                    ec2.may_set_groups(interface, &groups).await
                };
                let answer = self.persist(action, ask).await;
                answer.err().map(|error| (step.clone(), error))
            })
            .collect();
        stream::iter(questions).buffered(AT_ONCE).filter_map(std::future::ready).collect().await
    }
}
