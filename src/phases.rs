//! The ways of looking at the world, each with the plan it makes: contain, preserve, restore, keep.
//!
//! Every look checks the intent first: what was asked for meanwhile comes before what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::converge::{Blind, Phase, Settled};
use crate::execute::Outcome;
use crate::inspect::{Inspection, Needs, is_refused};
use crate::model::{Desired, InstanceId, InterfaceId, Record, Snapshots, State, VpcId, Wants};
use crate::plan::{
    Accepted, Aim, Attempts, Contained, Measure, Observed, Plan, Problem, Severity, Step, Tried, Work, contain,
    in_place, preserve, protect, restore,
};
use crate::ports::{Call, CallError, Change, Fault, GroupQuery, Ledger, Look, Records, Stacks, Written};
use crate::reconcile::{Reconciler, held};
use crate::report::Restored;

/// Whether the intent of this request is still to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announcement {
    Due,
    Made,
}

fn unreadable(ledger: &Ledger, which: impl Fn(&str) -> bool) -> Vec<Problem> {
    let items = ledger.unreadable.iter().filter(|(item, _)| which(item));
    items.map(|(item, reason)| Problem::Unreadable { item: item.clone(), reason: reason.clone() }).collect()
}

fn index<K: Ord, V>(items: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    items.into_iter().map(|item| (key(&item), item)).collect()
}

/// Every wanted instance ends isolated. The first look takes one round trip; the intent is written beside it.
pub(crate) struct Contain<'a, 'r, E, R, S> {
    pub(crate) run: &'a Reconciler<'r, E, R, S>,
    pub(crate) wants: &'a Wants,
    pub(crate) intent: Announcement,
    pub(crate) tried: &'a mut Tried,
    pub(crate) accepted: Accepted,
    pub(crate) contained: Contained,
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Contain<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        let desired = Desired::Isolated(self.wants.clone());
        let ids: BTreeSet<InstanceId> = self.wants.instances.iter().cloned().collect();
        let marked = GroupQuery::Marked(self.wants.vpc.clone());
        let named = GroupQuery::Ids([self.wants.isolation_group.clone()].into());
        let (instances, marked, named, ledger, ()) = tokio::try_join!(
            blind(ports.ec2.instances(&ids)),
            blind(ports.ec2.groups(&marked)),
            blind(ports.ec2.groups(&named)),
            blind(ports.records.read()),
            self.run.announce(self.intent, &desired),
        )?;
        // What was read beside the first writing of the intent may be older than it.
        if self.intent == Announcement::Made {
            self.run.check_intent(&ledger, &desired)?;
        }
        self.intent = Announcement::Made;
        let groups = marked.into_iter().chain(named).collect();
        let observed = Observed {
            instances: index(instances, |instance| instance.id.clone()),
            groups: index(groups, |group| group.id.clone()),
            ..Observed::default()
        };
        let (mut plan, contained) = contain(owner, self.wants, &ledger.records, &observed, &self.accepted);
        plan.problems.extend(unreadable(&ledger, |item| ids.iter().any(|id| id.as_str() == item)));
        self.accepted.extend(contained.interfaces.keys().map(|interface| (interface.clone(), true)));
        self.contained = contained;
        Ok(plan)
    }

    fn learn(&mut self, outcome: &Outcome) {
        if let Step::SetGroups { interface, .. } = &outcome.step {
            self.tried.interfaces.insert(interface.clone(), Aim::Isolate);
            self.accepted.insert(interface.clone(), outcome.result.is_ok());
        }
    }
}

async fn blind<T>(call: impl Future<Output = Call<T>>) -> Result<T, Blind> {
    call.await.map_err(Blind::Failed)
}

/// Marks, tags, snapshots and protections of what is contained.
pub(crate) struct Preserve<'a, 'r, E, R, S> {
    pub(crate) run: &'a Reconciler<'r, E, R, S>,
    pub(crate) wants: &'a Wants,
    pub(crate) contained: &'a Contained,
    pub(crate) tried: &'a mut Tried,
    inspection: Inspection,
    has_looked: bool,
    pub(crate) ledger: Ledger,
    /// An earlier request, not yet aware of this one, restores what was contained: it has to be contained again.
    pub(crate) is_undone: bool,
}

impl<'a, 'r, E, R, S> Preserve<'a, 'r, E, R, S> {
    pub(crate) fn new(
        run: &'a Reconciler<'r, E, R, S>,
        wants: &'a Wants,
        contained: &'a Contained,
        tried: &'a mut Tried,
    ) -> Self {
        let (inspection, has_looked, ledger, is_undone) = Default::default();
        tried.attempts = Attempts::default();
        Self { run, wants, contained, tried, inspection, has_looked, ledger, is_undone }
    }
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Preserve<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        // Before the snapshots: a request for them that is not in the ledger yet cannot be looked up.
        self.ledger = ports.records.read().await?;
        self.run.check_intent(&self.ledger, &Desired::Isolated(self.wants.clone()))?;
        let ids = self.contained.touched();
        let records: Vec<&Record> = ids.iter().filter_map(|id| self.ledger.records.get(id)).collect();
        let contained = |record: &Record| record.interfaces.keys().any(|id| self.contained.interfaces.contains_key(id));
        let undone = records.iter().filter(|record| matches!(record.state, State::Restoring | State::Restored));
        self.is_undone = undone.filter(|record| record.owner == **owner).any(|record| contained(record));
        if self.is_undone {
            return Ok(Plan::default());
        }
        let interfaces: BTreeSet<InterfaceId> =
            records.iter().flat_map(|record| record.interfaces.keys().cloned()).collect();
        let requested = records.iter().filter(|record| record.snapshots == Snapshots::Requested);
        let episodes: BTreeSet<String> = requested.map(|record| record.episode()).collect();
        let (instances, interfaces, snapshots) = tokio::try_join!(
            ports.ec2.instances(&ids),
            ports.ec2.interfaces(&interfaces),
            ports.ec2.snapshots(&episodes),
        )?;
        let mut observed = Observed {
            instances: index(instances, |instance| instance.id.clone()),
            interfaces: index(interfaces, |interface| interface.id.clone()),
            snapshots,
            ..Observed::default()
        };
        let intent = self.ledger.intents.get(&owner.digest());
        let kept = intent.and_then(|intent| intent.kept.as_deref());
        let mut plan = preserve(owner, self.wants, self.contained, kept, &self.ledger.records, &observed);
        // Snapshots first: reading what has to be protected takes minutes for hundreds of instances.
        if self.has_looked || plan.is_empty() {
            let own = observed.instances.values().filter(|instance| !instance.is_terminated());
            let own: BTreeSet<InstanceId> = own.map(|instance| instance.id.clone()).collect();
            let where_wanted = |wanted: bool| if wanted { own.clone() } else { BTreeSet::new() };
            let needs = Needs {
                attributes: where_wanted(self.wants.protect),
                members: where_wanted(self.wants.protect),
                profiles: where_wanted(self.wants.detach_profile),
            };
            self.inspection.read(&ports.ec2, &needs, &mut observed).await;
            let attempts = &self.tried.attempts;
            let protection = protect(owner, self.wants, self.contained, &self.ledger.records, &observed, attempts);
            self.inspection.settle(&protection);
            plan.work.extend(protection.work);
            plan.problems.extend(protection.problems);
        }
        self.has_looked = true;
        Ok(plan)
    }

    fn learn(&mut self, outcome: &Outcome) {
        self.inspection.learn(outcome);
        if let Step::Measure(measure) = &outcome.step {
            self.tried.protected.extend(measure.instances());
            learn_standby(&mut self.tried.attempts, measure, &outcome.result);
        }
    }

    fn unread(&self) -> BTreeMap<String, CallError> {
        self.inspection.unread().clone()
    }
}

/// What one refused instance costs the others of its batch is made up for: each is tried alone.
fn learn_standby(attempts: &mut Attempts, measure: &Measure, result: &Result<Written, CallError>) {
    let (Measure::EnterStandby { instances, .. } | Measure::ExitStandby { instances, .. }) = measure else { return };
    match result {
        Ok(_) => attempts.moved.extend(instances.clone()),
        Err(error) if error.fault == Fault::Refused && instances.len() > 1 => attempts.alone.extend(instances.clone()),
        Err(error) if error.fault == Fault::Refused => {
            let reason = format!("{}: {}", error.code, error.message);
            attempts.stuck.extend(instances.iter().map(|id| (id.clone(), reason.clone())));
        }
        Err(_) => {}
    }
}

/// EC2 gives an instance no second profile.
fn is_held(measure: &Measure, result: &Result<Written, CallError>) -> bool {
    matches!((measure, result), (Measure::AttachProfile { .. }, Err(error)) if error.fault == Fault::Busy)
}

/// Records get their interfaces back: all of the owner's, or those that are no longer wanted.
pub(crate) struct Restore<'a, 'r, E, R, S> {
    pub(crate) run: &'a Reconciler<'r, E, R, S>,
    /// What stays isolated; nothing on a Delete.
    pub(crate) keep: Option<&'a Wants>,
    pub(crate) intent: Announcement,
    /// What there was to restore, and what still is.
    pub(crate) all: BTreeSet<InstanceId>,
    pub(crate) open: BTreeSet<InstanceId>,
    /// Those whose interfaces need nothing more, though their protections do.
    half: BTreeSet<InstanceId>,
    pub(crate) tried: &'a mut Tried,
    inspection: Inspection,
    /// Notes go with the look that made them; what was done must not go unsaid.
    pub(crate) notes: BTreeSet<Problem>,
}

impl<'a, 'r, E: Look + Change, R: Records, S: Stacks> Restore<'a, 'r, E, R, S> {
    pub(crate) fn new(
        run: &'a Reconciler<'r, E, R, S>,
        keep: Option<&'a Wants>,
        intent: Announcement,
        tried: &'a mut Tried,
    ) -> Self {
        let (all, open, half, inspection, notes) = Default::default();
        // What was undone before may have been done again.
        tried.attempts = Attempts::default();
        Self { run, keep, intent, all, open, half, tried, inspection, notes }
    }

    fn is_to_be_restored(&self, record: &Record) -> bool {
        record.owner == *self.run.owner && !self.keep.is_some_and(|wants| wants.instances.contains(&record.instance))
    }

    pub(crate) fn restored(self, mut settled: Settled) -> Restored {
        settled.failures.retain(|(step, error)| !is_moot(step, error));
        settled.problems.extend(self.notes);
        settled.problems.sort();
        settled.problems.dedup();
        let restored = self.all.difference(&self.open).cloned().collect();
        Restored { restored, open: self.open, half: self.half, settled }
    }
}

/// EC2 refused to write what the interface already has: it was never changed. A group that is gone says the opposite.
fn is_moot(step: &Step, error: &CallError) -> bool {
    matches!(step, Step::SetGroups { aim: Aim::Confirm, .. })
        && matches!(error.fault, Fault::Denied | Fault::Refused)
        && error.code != "InvalidGroup.NotFound"
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Restore<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        let desired = self.keep.map_or(Desired::Restored, |wants| Desired::Isolated(wants.clone()));
        self.run.announce(self.intent, &desired).await?;
        self.intent = Announcement::Made;
        let ledger = ports.records.read().await?;
        self.run.check_intent(&ledger, &desired)?;
        let records: Vec<Record> =
            ledger.records.values().filter(|record| self.is_to_be_restored(record)).cloned().collect();
        self.open = records
            .iter()
            .filter(|record| record.state != State::Restored)
            .map(|record| record.instance.clone())
            .collect();
        if records.is_empty() {
            return Ok(Plan { work: vec![], problems: unreadable(&ledger, |_| true) });
        }
        let instances = records.iter().map(|record| record.instance.clone()).collect();
        let interfaces = records.iter().flat_map(|record| record.interfaces.keys().cloned()).collect();
        let originals = records.iter().flat_map(|record| record.interfaces.values().flatten().cloned());
        let groups = GroupQuery::Ids(
            originals.chain(records.iter().flat_map(|record| record.isolation_groups.clone())).collect(),
        );
        let vpcs: BTreeSet<VpcId> = records.iter().map(|record| record.vpc.clone()).collect();
        let marked = futures_util::future::try_join_all(
            vpcs.into_iter().map(|vpc| async move { ports.ec2.groups(&GroupQuery::Marked(vpc)).await }),
        );
        let (instances, interfaces, groups, marked) = tokio::try_join!(
            ports.ec2.instances(&instances),
            ports.ec2.interfaces(&interfaces),
            ports.ec2.groups(&groups),
            marked,
        )?;
        let mut observed = Observed {
            instances: index(instances, |instance| instance.id.clone()),
            interfaces: index(interfaces, |interface| interface.id.clone()),
            groups: index(marked.into_iter().flatten().chain(groups).collect(), |group| group.id.clone()),
            ..Observed::default()
        };
        let records = index(records, |record| record.instance.clone());
        self.half = in_place(owner, &records, &observed, self.tried);
        let mut needs = Needs::default();
        for record in self.half.iter().filter_map(|id| records.get(id)) {
            let id = || record.instance.clone();
            needs.attributes.extend((!record.protection.attributes.is_empty()).then(id));
            needs.members.extend(record.protection.scaling_group.as_ref().map(|_| id()));
            needs.profiles.extend(record.protection.profile.as_ref().map(|_| id()));
        }
        self.inspection.read(&ports.ec2, &needs, &mut observed).await;
        let mut plan = restore(owner, &records, &observed, self.tried);
        self.inspection.settle(&plan);
        self.open.extend(plan.steps().flat_map(Step::instances));
        self.all.extend(self.open.iter().cloned());
        plan.problems.extend(unreadable(&ledger, |_| true));
        let notes =
            plan.problems.iter().filter(|problem| problem.severity() == Severity::Note && !problem.is_under_way());
        self.notes.extend(notes.cloned());
        Ok(plan)
    }

    fn learn(&mut self, outcome: &Outcome) {
        self.inspection.learn(outcome);
        let Outcome { step, result } = outcome;
        if let Step::Measure(measure) = step {
            learn_standby(&mut self.tried.attempts, measure, result);
            let done = result.is_ok() || measure.only_confirms() && (is_refused(result) || is_held(measure, result));
            if let Some(instance) = measure.instance().filter(|_| done) {
                self.tried.attempts.undone.extend(measure.undoes().into_iter().map(|name| (instance.clone(), name)));
            }
        }
        let done = result.as_ref().map_or_else(|error| is_moot(step, error), |_| true);
        if let Step::SetGroups { interface, aim, .. } = step
            && done
        {
            self.tried.interfaces.insert(interface.clone(), *aim);
        }
    }

    fn unread(&self) -> BTreeMap<String, CallError> {
        self.inspection.unread().clone()
    }
}

/// Records that a Delete leaves isolated are marked with the reason; nothing else is changed.
pub(crate) struct Keep<'a, 'r, E, R, S> {
    pub(crate) run: &'a Reconciler<'r, E, R, S>,
    pub(crate) ids: &'a BTreeSet<InstanceId>,
    pub(crate) reason: &'a str,
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Keep<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let ledger = self.run.ports.records.read().await?;
        let records = held(&ledger, self.run.owner, |id| self.ids.contains(id));
        // A restore that has begun must not be forgotten: what it changed may not be visible yet.
        let open = records.into_iter().filter(|record| !matches!(record.state, State::Kept | State::Restoring));
        let work = open.map(|record| {
            let reason = Some(self.reason.to_owned());
            let mark = Step::Mark { instance: record.instance, from: record.state, state: State::Kept, reason };
            Work { first: None, then: vec![mark] }
        });
        Ok(Plan { work: work.collect(), problems: vec![] })
    }
}
