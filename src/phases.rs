//! The ways of looking at the world, each with the plan it makes: contain, preserve, restore, keep.
//!
//! Every look checks the intent first: what was asked for meanwhile comes before what was asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::converge::{Blind, Phase, Settled};
use crate::execute::Outcome;
use crate::inspect::{Inspection, Needs, is_refused};
use crate::model::{Desired, InstanceId, InterfaceId, Record, Snapshots, State, VpcId, Wants};
use crate::plan::{
    Aim, Attempts, Contained, Measure, Memory, Observed, Passes, Plan, Problem, Severity, Step, Tried, contain,
    in_place, keep, preserve, protect, restore,
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

pub(crate) fn index<K: Ord, V>(items: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    items.into_iter().map(|item| (key(&item), item)).collect()
}

/// Every wanted instance ends isolated. The first look takes one round trip; the intent is written beside it.
pub(crate) struct Contain<'a, 'r, E, R, S> {
    run: &'a Reconciler<'r, E, R, S>,
    wants: &'a Wants,
    intent: Announcement,
    tried: &'a mut Tried,
    memory: Memory,
    contained: Contained,
    /// Of the last look: a reading that is doubted.
    is_surprised: bool,
    /// What is only seen once must not go unsaid.
    surprises: BTreeSet<Problem>,
}

impl<'a, 'r, E, R, S> Contain<'a, 'r, E, R, S> {
    pub(crate) fn new(
        run: &'a Reconciler<'r, E, R, S>,
        wants: &'a Wants,
        intent: Announcement,
        tried: &'a mut Tried,
    ) -> Self {
        let (memory, contained, is_surprised, surprises) = Default::default();
        Self { run, wants, intent, tried, memory, contained, is_surprised, surprises }
    }

    pub(crate) fn done(self, mut settled: Settled) -> (Settled, Contained) {
        let unsaid = self.surprises.into_iter().filter(|problem| !settled.problems.contains(problem));
        let unsaid: Vec<_> = unsaid.collect();
        settled.problems.extend(unsaid);
        (settled, self.contained)
    }
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Contain<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { owner, .. } = self.run;
        let desired = Desired::Isolated(Box::new(self.wants.clone()));
        let looking = async { observe(self.run, self.wants).await.map_err(Blind::Failed) };
        let (seen, ()) = tokio::try_join!(looking, self.run.announce(self.intent, &desired))?;
        let Seen { ledger, observed } = seen;
        // What was read beside the first writing of the intent may be older than it.
        if self.intent == Announcement::Made {
            self.run.check_intent(&ledger, &desired)?;
        }
        self.intent = Announcement::Made;
        let (mut plan, contained) = contain(owner, self.wants, &ledger.records, &observed, &self.memory);
        plan.problems.extend(unreadable(&ledger, |item| self.wants.instances.iter().any(|id| id.as_str() == item)));
        let doubtful = plan.problems.iter().filter(|problem| matches!(problem, Problem::OriginalDoubtful { .. }));
        self.is_surprised = doubtful.clone().next().is_some();
        self.surprises =
            if self.memory.believes { doubtful.chain(&self.surprises).cloned().collect() } else { BTreeSet::new() };
        self.memory.accepted.extend(contained.interfaces.keys().map(|interface| (interface.clone(), true)));
        self.memory.cut.extend(contained.cut.iter().cloned());
        self.contained = contained;
        Ok(plan)
    }

    fn learn(&mut self, outcome: &Outcome) {
        if let Step::SetGroups { interface, .. } | Step::Pass { interface, .. } = &outcome.step {
            self.tried.interfaces.insert(interface.clone(), Aim::Isolate);
            let is_accepted = outcome.result.is_ok();
            self.memory.accepted.insert(interface.clone(), is_accepted);
            if let Some(error) = &outcome.not_cut {
                self.memory.not_cut.insert(interface.clone(), error.to_string());
            } else if is_accepted && let Step::Pass { .. } = outcome.step {
                self.memory.cut.insert(interface.clone());
            }
        }
    }

    fn believe(&mut self) -> bool {
        self.is_surprised && !std::mem::replace(&mut self.memory.believes, true)
    }
}

/// What containment is planned from.
pub(crate) struct Seen {
    pub(crate) ledger: Ledger,
    pub(crate) observed: Observed,
}

/// One round trip, with few enough instances.
pub(crate) async fn observe<E: Look + Change, R: Records, S: Stacks>(
    run: &Reconciler<'_, E, R, S>,
    wants: &Wants,
) -> Call<Seen> {
    let ports = run.ports;
    let ids: BTreeSet<InstanceId> = wants.instances.iter().cloned().collect();
    let all = GroupQuery::InVpc(wants.vpc.clone());
    let named = [&wants.isolation_group].into_iter().chain(&wants.transit_group);
    let named = GroupQuery::Ids(named.cloned().collect());
    let (instances, all, named, ledger) = tokio::try_join!(
        ports.ec2.instances(&ids),
        ports.ec2.groups(&all),
        ports.ec2.groups(&named),
        ports.records.read(),
    )?;
    let groups = all.into_iter().chain(named).collect();
    let observed = Observed {
        instances: index(instances, |instance| instance.id.clone()),
        groups: index(groups, |group| group.id.clone()),
        ..Observed::default()
    };
    Ok(Seen { ledger, observed })
}

/// Marks, tags, snapshots and protections of what is contained.
pub(crate) struct Preserve<'a, 'r, E, R, S> {
    pub(crate) run: &'a Reconciler<'r, E, R, S>,
    pub(crate) wants: &'a Wants,
    pub(crate) contained: &'a Contained,
    pub(crate) tried: &'a mut Tried,
    inspection: Inspection,
    has_looked: bool,
    /// Of the last look: snapshots that another delivery asked for are not there yet.
    awaits: bool,
    /// They were awaited long enough.
    believes: bool,
    pub(crate) ledger: Ledger,
    /// What was contained no longer is, by an earlier request that is not yet aware of this one or by somebody else: it has
    /// to be contained again.
    pub(crate) is_undone: bool,
}

impl<'a, 'r, E, R, S> Preserve<'a, 'r, E, R, S> {
    pub(crate) fn new(
        run: &'a Reconciler<'r, E, R, S>,
        wants: &'a Wants,
        contained: &'a Contained,
        tried: &'a mut Tried,
    ) -> Self {
        let (inspection, has_looked, awaits, believes, ledger, is_undone) = Default::default();
        tried.attempts = Attempts::default();
        Self { run, wants, contained, tried, inspection, has_looked, awaits, believes, ledger, is_undone }
    }
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Preserve<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        // Before the snapshots: a request for them that is not in the ledger yet cannot be looked up.
        self.ledger = ports.records.read().await?;
        self.run.check_intent(&self.ledger, &Desired::Isolated(Box::new(self.wants.clone())))?;
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
        let looked_up = records.iter().filter(|record| match &record.snapshots {
            Snapshots::None => false,
            Snapshots::Requested => true,
            Snapshots::Taken(set) => set.len() > 1,
        });
        let episodes: BTreeSet<String> = looked_up.map(|record| record.episode()).collect();
        let (instances, interfaces, snapshots) = tokio::try_join!(
            ports.ec2.instances(&ids),
            ports.ec2.interfaces(&interfaces),
            ports.ec2.snapshots(&episodes),
        )?;
        self.is_undone = records.iter().any(|record| {
            let own = interfaces.iter().filter(|interface| self.contained.interfaces.contains_key(&interface.id));
            let of_record = own.filter_map(|interface| Some((interface, record.interfaces.get(&interface.id)?)));
            // Neither what it has now nor what it may have shown before.
            of_record.into_iter().any(|(interface, originals)| {
                !interface.groups.is_subset(originals) && interface.groups.is_disjoint(&record.isolation_groups)
            })
        });
        if self.is_undone {
            return Ok(Plan::default());
        }
        let mut observed = Observed {
            instances: index(instances, |instance| instance.id.clone()),
            interfaces: index(interfaces, |interface| interface.id.clone()),
            snapshots,
            ..Observed::default()
        };
        let requested = records.iter().filter(|record| record.snapshots == Snapshots::Requested);
        let awaited: BTreeSet<InstanceId> = requested
            .map(|record| record.instance.clone())
            .filter(|id| !self.believes && !self.tried.snapshots.contains(id))
            .collect();
        let intent = self.ledger.intents.get(&owner.digest());
        let kept = intent.and_then(|intent| intent.kept.as_deref());
        let mut plan = preserve(owner, self.wants, self.contained, kept, &awaited, &self.ledger.records, &observed);
        self.awaits = plan.problems.iter().any(|problem| problem.passes() == Some(Passes::WithOtherRequest));
        // Snapshots first: reading what has to be protected takes minutes for hundreds of instances.
        if self.has_looked || plan.is_empty() {
            let own = observed.instances.values().filter(|instance| !instance.is_terminated());
            let own: BTreeSet<InstanceId> = own.map(|instance| instance.id.clone()).collect();
            let needs = Needs::of(self.wants, &own);
            self.inspection.read(&ports.ec2, self.run.pace, &needs, &mut observed).await;
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
        if let (Step::RequestSnapshots { instance }, Ok(Written::Done)) = (&outcome.step, &outcome.result) {
            self.tried.snapshots.insert(instance.clone());
        }
        if let Step::Measure(measure) = &outcome.step {
            self.tried.protected.extend(measure.instances());
            learn_standby(&mut self.tried.attempts, measure, &outcome.result);
        }
    }

    fn believe(&mut self) -> bool {
        self.awaits && !std::mem::replace(&mut self.believes, true)
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
    /// Of the rest only these, where an operator names them.
    pub(crate) only: Option<&'a BTreeSet<InstanceId>>,
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
        Self { run, keep, only: None, intent, all, open, half, tried, inspection, notes }
    }

    fn is_to_be_restored(&self, record: &Record) -> bool {
        record.owner == *self.run.owner
            && !self.keep.is_some_and(|wants| wants.instances.contains(&record.instance))
            && self.only.is_none_or(|only| only.contains(&record.instance))
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

/// EC2 lets nobody but its maker write what the interface already has, or it is gone: it was never changed, or needs nothing.
/// Any other refusal says nothing about what an earlier run could do.
fn is_moot(step: &Step, error: &CallError) -> bool {
    matches!(step, Step::SetGroups { aim: Aim::Confirm, .. }) && can_never_have_been_changed(error)
}

fn can_never_have_been_changed(error: &CallError) -> bool {
    error.fault == Fault::Refused && matches!(error.code.as_str(), "AuthFailure" | "InvalidNetworkInterfaceID.NotFound")
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Restore<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        let desired = self.keep.map_or(Desired::Restored, |wants| Desired::Isolated(Box::new(wants.clone())));
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
        let mut observed = observe_held(&ports.ec2, &records).await?;
        let records = index(records, |record| record.instance.clone());
        self.half = in_place(owner, &records, &observed, self.tried);
        let needs = needs_of(&self.half, &records);
        self.inspection.read(&ports.ec2, self.run.pace, &needs, &mut observed).await;
        let mut plan = restore(owner, &records, &observed, self.tried);
        self.inspection.settle(&plan);
        self.open.extend(plan.steps().flat_map(Step::instances));
        self.all.extend(self.open.iter().cloned());
        plan.problems.extend(unreadable(&ledger, |_| true));
        let notes =
            plan.problems.iter().filter(|p| p.severity() == Severity::Note && p.passes() != Some(Passes::ByItself));
        self.notes.extend(notes.cloned());
        Ok(plan)
    }

    fn learn(&mut self, outcome: &Outcome) {
        self.inspection.learn(outcome);
        let Outcome { step, result, .. } = outcome;
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

/// What a restore of these records is planned from, but for what protects the instances.
pub(crate) async fn observe_held<E: Look>(ec2: &E, records: &[Record]) -> Call<Observed> {
    let instances = records.iter().map(|record| record.instance.clone()).collect();
    let interfaces = records.iter().flat_map(|record| record.interfaces.keys().cloned()).collect();
    let originals = records.iter().flat_map(|record| record.interfaces.values().flatten().cloned());
    let groups =
        GroupQuery::Ids(originals.chain(records.iter().flat_map(|record| record.isolation_groups.clone())).collect());
    let vpcs: BTreeSet<VpcId> = records.iter().map(|record| record.vpc.clone()).collect();
    let marked = futures_util::future::try_join_all(
        vpcs.into_iter().map(|vpc| async move { ec2.groups(&GroupQuery::Marked(vpc)).await }),
    );
    let (instances, interfaces, groups, marked) =
        tokio::try_join!(ec2.instances(&instances), ec2.interfaces(&interfaces), ec2.groups(&groups), marked)?;
    Ok(Observed {
        instances: index(instances, |instance| instance.id.clone()),
        interfaces: index(interfaces, |interface| interface.id.clone()),
        groups: index(marked.into_iter().flatten().chain(groups).collect(), |group| group.id.clone()),
        ..Observed::default()
    })
}

/// What has to be read of instances whose interfaces are in place, to undo what protects them.
pub(crate) fn needs_of(half: &BTreeSet<InstanceId>, records: &BTreeMap<InstanceId, Record>) -> Needs {
    let mut needs = Needs::default();
    for record in half.iter().filter_map(|id| records.get(id)) {
        let id = || record.instance.clone();
        needs.attributes.extend((!record.protection.attributes.is_empty()).then(id));
        needs.members.extend(record.protection.scaling_group.as_ref().map(|_| id()));
        needs.profiles.extend(record.protection.profile.as_ref().map(|_| id()));
    }
    needs
}

/// Instances that stay isolated although nobody asks for it any more.
pub(crate) struct Keep<'a, 'r, E, R, S> {
    pub(crate) run: &'a Reconciler<'r, E, R, S>,
    pub(crate) ids: &'a BTreeSet<InstanceId>,
    /// What is written into their records; nothing on an Update.
    pub(crate) reason: Option<&'a str>,
    pub(crate) tried: &'a mut Tried,
}

impl<E, R, S> Keep<'_, '_, E, R, S> {
    pub(crate) fn kept(self, mut settled: Settled) -> Settled {
        let is_moot = |step: &Step| matches!(step, Step::SetGroups { interface, .. } if self.tried.interfaces.get(interface) == Some(&Aim::Confirm));
        settled.failures.retain(|(step, _)| !is_moot(step));
        settled
    }
}

impl<E: Look + Change, R: Records, S: Stacks> Phase for Keep<'_, '_, E, R, S> {
    async fn look(&mut self) -> Result<Plan, Blind> {
        let Reconciler { ports, owner, .. } = self.run;
        let ledger = ports.records.read().await?;
        let records = held(&ledger, owner, |id| self.ids.contains(id));
        // Where there never was another group than the one that isolates, nobody can be in it.
        let passed = || records.iter().filter(|record| record.isolation_groups.len() > 1);
        let interfaces: BTreeSet<InterfaceId> = passed().flat_map(|record| record.interfaces.keys().cloned()).collect();
        let groups: BTreeSet<_> = passed().flat_map(|record| record.isolation_groups.clone()).collect();
        let observed = if interfaces.is_empty() {
            Observed::default()
        } else {
            let groups = GroupQuery::Ids(groups);
            let (interfaces, groups) = tokio::try_join!(ports.ec2.interfaces(&interfaces), ports.ec2.groups(&groups))?;
            Observed {
                interfaces: index(interfaces, |interface| interface.id.clone()),
                groups: index(groups, |group| group.id.clone()),
                ..Observed::default()
            }
        };
        Ok(keep(owner, &index(records, |record| record.instance.clone()), &observed, self.tried, self.reason))
    }

    fn learn(&mut self, outcome: &Outcome) {
        let Step::SetGroups { interface, .. } = &outcome.step else { return };
        let aim = match &outcome.result {
            Ok(_) => Aim::Isolate,
            Err(error) if can_never_have_been_changed(error) => Aim::Confirm,
            Err(_) => return,
        };
        self.tried.interfaces.insert(interface.clone(), aim);
    }
}
