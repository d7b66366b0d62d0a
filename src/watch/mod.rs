//! The watch, which a schedule and CloudTrail's events call: containment is a state and no event. It looks at every open incident
//! of the table, says what is not as it should be, and sends CloudFormation no answer.
//!
//! **It changes nothing unless the incident says `Watch=Isolate`.** Then it isolates interfaces that were attached since, and those
//! that a controller moved out, by the same loop as a request. What a person moved out stays out, and is told each time. It goes on
//! with the request that asked last: whatever CloudFormation asks meanwhile ends it.

mod event;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::cloudformation::handler::Invocation;
use crate::cloudformation::stack::Stacks;
use crate::metrics::{self, Metric};
use crate::model::{Groups, InstanceId, InterfaceId, Record, State, Time, Watch};
use crate::plan::{DOUBTED, Observed};
use crate::ports::{Call, CallError, Change, Entry, INTENT_PREFIX, Items, Look, Ports, Records, Stamp, Written};
use crate::reconcile::Reconciler;
use crate::reconcile::contained::{Condition, Contained};
use crate::reconcile::report::Asker;
use crate::timing::clock::Clock;
use crate::timing::gate::Gate;
use crate::timing::limit::{GRACE, Unfinished, time_left, within, writer};
use crate::timing::pace::Pace;

pub use event::{Cause, Trigger};
use look::Incident;

/// How often the watch isolates an instance again that a controller moves out: it tells, and does not fight.
pub const MOST_RETURNS: u64 = 3;

/// What one watch found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// Those that were looked at, in the order of their stacks' ids.
    pub incidents: Vec<WatchedIncident>,
    /// Interfaces and instances of all of them that should be isolated and are not.
    pub not_isolated: usize,
    /// Everything that is not as it should be, these included.
    pub drift: usize,
}

/// How one open incident stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WatchedIncident {
    /// The name of its stack.
    pub stack: String,
    pub stack_id: String,
    /// What called the watch, where that was no schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// A request is under way: what is not as it should be may be just that.
    pub in_progress: bool,
    /// There was a call whose change no look shows, now or later.
    #[serde(skip)]
    pub is_unseen: bool,
    /// A second look failed: this is what the first one saw.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_doubtful: bool,
    pub not_isolated: Vec<Open>,
    pub warnings: Vec<String>,
    /// What the watch did.
    pub done: Vec<String>,
    /// What a person does now, if anything is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What should be isolated and is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    pub instance: String,
    /// `None` if that is the whole instance.
    pub interface: Option<String>,
    pub why: String,
}

impl Watched {
    /// Of a look at everything: that there was one, and if all of it is known to be isolated, that.
    fn metrics(&self) -> Vec<Metric> {
        let is_known = self.incidents.iter().all(|incident| !incident.in_progress && !incident.is_doubtful);
        let closed = (is_known && self.not_isolated == 0).then(|| Metric::count("NotIsolated", 0));
        closed.into_iter().chain([looks()]).collect()
    }
}

/// Without it nobody watches, whatever else calls the function.
fn looks() -> Metric {
    Metric::count("Looks", 1)
}

impl WatchedIncident {
    fn drift(&self) -> usize {
        self.not_isolated.len() + self.warnings.len()
    }

    /// What an alarm watches. While a request is under way nothing is said but of a call that nobody sees later, and a look that failed
    /// proves nothing.
    fn metrics(&self) -> Vec<Metric> {
        if self.in_progress {
            return Vec::from_iter(self.is_unseen.then(|| Metric::count("Drift", 1)));
        }
        let open = Metric::count("NotIsolated", self.not_isolated.len());
        let open = (!self.is_doubtful || !self.not_isolated.is_empty()).then_some(open);
        open.into_iter().chain([Metric::count("Drift", self.drift())]).collect()
    }
}

/// Why nothing is known. Lambda then calls the watch again, up to twice.
#[derive(Debug, thiserror::Error)]
pub enum Unwatched {
    #[error("nothing is watched: {0}")]
    Settings(String),
    #[error("nothing is known of the open incidents: {0}")]
    Call(#[from] CallError),
    #[error("nothing is known of the open incidents: {0}")]
    Unfinished(#[from] Unfinished),
}

/// One event for the watch: what it found, as JSON, and its figures in the log. `ports` is the reason where the function's settings
/// are wrong; the work is done on `worker`.
///
/// # Errors
/// Nothing can be said.
pub async fn handle<E, R, S>(
    ports: &Result<Arc<Ports<E, R, S>>, String>,
    worker: &Handle,
    trigger: Trigger,
    invocation: &Invocation,
) -> Result<Value, Unwatched>
where
    E: Look + Change + 'static,
    R: Records + 'static,
    S: Stacks + 'static,
{
    let ports = ports.as_ref().map_err(|reason| Unwatched::Settings(reason.clone()))?;
    let now = SystemTime::now();
    let time = time_left(invocation.deadline_ms, now);
    let grace = GRACE.min(time / 6);
    let gate = Gate::new(time.saturating_sub(grace * 2));
    let (owner, is_scheduled) = (trigger.owner.clone(), trigger.cause.is_none());
    let work = {
        let (ports, gate) = (Arc::clone(ports), gate.clone());
        async move {
            let clock = Clock::new(now);
            Watcher { ports: &ports, clock: &clock, gate: &gate, writer: &writer("watch") }.watch(&trigger).await
        }
    };
    let watched = within(worker, &gate, (time.saturating_sub(grace * 2), grace), work).await??;
    match owner {
        Some(owner) if is_scheduled => metrics::write(Some(owner.stack_name()), &[looks()]),
        None if is_scheduled => metrics::write(None, &watched.metrics()),
        _ => {}
    }
    for incident in &watched.incidents {
        metrics::write(Some(&incident.stack), &incident.metrics());
        for open in &incident.not_isolated {
            tracing::warn!(
                stack = incident.stack,
                instance = open.instance,
                interface = open.interface,
                open.why,
                "not isolated"
            );
        }
        incident.warnings.iter().for_each(|warning| tracing::warn!(stack = incident.stack, warning));
        incident.done.iter().for_each(|done| tracing::info!(stack = incident.stack, done));
    }
    tracing::info!(
        incidents = watched.incidents.len(),
        not_isolated = watched.not_isolated,
        drift = watched.drift,
        "watched"
    );
    // Nothing in it can fail to be JSON.
    Ok(serde_json::to_value(&watched).unwrap_or_default())
}

/// One watch of one table.
#[derive(Debug)]
pub struct Watcher<'a, E, R, S> {
    pub ports: &'a Ports<E, R, S>,
    pub clock: &'a Clock,
    pub gate: &'a Gate,
    /// This invocation, as no other is named.
    pub writer: &'a str,
}

impl<E: Look + Change, R: Records, S: Stacks> Watcher<'_, E, R, S> {
    /// Looks, acts where that is allowed, and says what is left.
    ///
    /// # Errors
    /// The table or EC2 cannot be read: nothing is known.
    pub async fn watch(&self, trigger: &Trigger) -> Call<Watched> {
        let items = self.ports.records.incidents(trigger.owner.as_ref()).await?;
        let mut incidents = look::open(&items, trigger.owner.as_ref());
        incidents.retain(|incident| incident.policy() != Watch::Off);
        if let Some(cause) = &trigger.cause {
            incidents.retain(|incident| !cause.is_refused && incident.is_meant(&cause.ids, &items));
        }
        let mut found = Watched { incidents: lost(&items, &incidents, trigger.cause.is_some()), ..Watched::default() };
        if incidents.is_empty() {
            found.drift = found.incidents.len();
            return Ok(found);
        }
        let observed = look::observe(&self.ports.ec2, &items, &incidents).await?;
        let looks = incidents.iter().map(|incident| self.one(incident, trigger.cause.as_ref(), &items, &observed));
        found.incidents.extend(join_all(looks).await);
        found.not_isolated = found.incidents.iter().map(|incident| incident.not_isolated.len()).sum();
        found.drift = found.incidents.iter().map(WatchedIncident::drift).sum();
        Ok(found)
    }

    async fn one(
        &self,
        incident: &Incident,
        cause: Option<&Cause>,
        items: &Items,
        observed: &Arc<Observed>,
    ) -> WatchedIncident {
        let stands = look::judged(incident, items, observed, self.clock.now());
        let told = said(incident, &stands, cause);
        // A reading may trail the change that the event tells of.
        if told.drift() == 0 && cause.is_none() && !self.is_unfinished(incident, items) {
            return told;
        }
        match self.once_more(incident, cause, told.clone()).await {
            Ok(decided) => decided,
            Err(error) => {
                let mut warnings = told.warnings;
                warnings.push(format!("what is true now is not known: {error}"));
                WatchedIncident { warnings, is_doubtful: true, ..told }
            }
        }
    }

    /// Looks again at what was `told`, and isolates what is due.
    async fn once_more(
        &self,
        incident: &Incident,
        cause: Option<&Cause>,
        mut told: WatchedIncident,
    ) -> Call<WatchedIncident> {
        let status = self.ports.stacks.status(&incident.owner.stack_id).await;
        told.in_progress = status.as_ref().is_ok_and(|stack| stack.status.ends_with("_IN_PROGRESS"));
        if told.in_progress {
            return Ok(told);
        }
        // One reading decides nothing.
        tokio::time::sleep(DOUBTED).await;
        let (items, observed) = self.again(incident).await?;
        let Some(now) = look::open(&items, Some(&incident.owner)).pop() else { return Ok(over(incident)) };
        // A request has come meanwhile: it sees to everything itself.
        if now.request() != incident.request() {
            return Ok(WatchedIncident { in_progress: true, ..told });
        }
        let stands = look::judged(&now, &items, &observed, self.clock.now());
        let is_in_charge = status.is_ok_and(|stack| !stack.status.starts_with("DELETE"));
        let mut due = due(&now, &stands, &items, &observed, cause, self.clock.now());
        due.retain(|_, _| is_in_charge && now.policy() == Watch::Isolate);
        if due.is_empty() {
            return Ok(said(&now, &stands, cause));
        }
        let (done, failures) = self.isolate(&now, due, cause, &items).await;
        let (items, observed) = self.again(incident).await?;
        let Some(now) = look::open(&items, Some(&incident.owner)).pop() else { return Ok(over(incident)) };
        let stands = look::judged(&now, &items, &observed, self.clock.now());
        let mut told = said(&now, &stands, cause);
        (told.done, told.in_progress) = (done, false);
        told.warnings.extend(failures);
        Ok(told)
    }

    /// Whether a watch has ended in the middle of its work, which this one may finish.
    fn is_unfinished(&self, incident: &Incident, items: &Items) -> bool {
        let records = incident.wants.instances.iter().filter_map(|id| items.records.get(id));
        let own = records.filter(|record| record.owner == incident.owner);
        let mut begun = own.filter_map(|record| begun(record, self.clock.now()));
        incident.policy() == Watch::Isolate && begun.any(|begun| !begun.is_empty())
    }

    async fn again(&self, incident: &Incident) -> Call<(Items, Arc<Observed>)> {
        let items = self.ports.records.incidents(Some(&incident.owner)).await?;
        let observed = look::observe(&self.ports.ec2, &items, std::slice::from_ref(incident)).await?;
        Ok((items, observed))
    }

    /// Isolates what is due. What was done, and what failed.
    async fn isolate(
        &self,
        incident: &Incident,
        due: Due,
        cause: Option<&Cause>,
        items: &Items,
    ) -> (Vec<String>, Vec<String>) {
        let Some(intent) = &incident.intent else { return Default::default() };
        let because = cause.map(|cause| format!(", after {cause}")).unwrap_or_default();
        let reconciler = Reconciler {
            ec2: &self.ports.ec2,
            records: &self.ports.records,
            owner: &incident.owner,
            request_id: &intent.request_id,
            issued: intent.issued,
            writer: self.writer,
            gate: self.gate,
            pace: &Pace::default(),
            clock: self.clock,
            asked_by: &format!("the watch{because}"),
            asker: Asker::Deployment,
            for_permission: Duration::ZERO,
        };
        let (mut failures, mut wanted) = (Vec::new(), BTreeMap::new());
        for (id, (interfaces, is_return)) in due {
            let before = items.records.get(&id).map_or(0, |record| record.returns);
            if is_return {
                let stamp = Stamp { now: self.clock.now(), asked_by: reconciler.asked_by, writer: self.writer };
                let counting = || self.ports.records.enter(&incident.owner, &id, Entry::CountReturn(before), &stamp);
                match reconciler.persist(reconciler.patience(), counting).await {
                    Ok(Written::Done) => {}
                    // Another watch is at it.
                    Ok(Written::Lost | Written::Overtaken) => continue,
                    Err(error) => {
                        failures.push(format!("{id} was not isolated again: {error}"));
                        continue;
                    }
                }
            }
            wanted.insert(id, interfaces);
        }
        let again = reconciler.isolate_only(&incident.wants, &wanted).await;
        failures.extend(again.failures);
        failures.extend(again.overtaken_by.map(|request| format!("request {request} of the stack came first")));
        let of = |interface: &InterfaceId| wanted.iter().find(|(_, interfaces)| interfaces.contains(interface));
        let done =
            again.isolated.iter().filter_map(|interface| Some(format!("{}: {interface} isolated", of(interface)?.0)));
        (done.collect(), failures)
    }
}

/// Interfaces to be isolated by their instance, and whether a controller had moved some of them out.
type Due = BTreeMap<InstanceId, (BTreeSet<InterfaceId>, bool)>;

/// What the watch may isolate: what was attached since, and what a controller moved out just now.
fn due(
    incident: &Incident,
    stands: &BTreeMap<InstanceId, Contained>,
    items: &Items,
    observed: &Observed,
    cause: Option<&Cause>,
    now: Time,
) -> Due {
    let mut due = Due::new();
    for (id, found) in stands {
        // What is no longer listed is only kept.
        let is_listed = incident.wants.instances.contains(id);
        let record = items.records.get(id).filter(|record| is_listed && record.owner == incident.owner);
        let Some((record, begun)) = record.and_then(|record| Some((record, begun(record, now)?))) else { continue };
        let is_open = found.condition == Condition::NotIsolated;
        let open = found.open.iter().filter(|_| is_open).filter_map(|(interface, _)| interface.as_ref());
        let shown = observed.instances.get(id).into_iter().flat_map(|instance| &instance.interfaces);
        let shown: BTreeMap<&InterfaceId, &Groups> = shown.map(|found| (&found.id, &found.groups)).collect();
        let is_returning = |interface: &InterfaceId| {
            let groups = shown.get(interface).copied();
            let has_moved = cause.is_some_and(|cause| cause.has_moved(id, interface, groups));
            // As it was before the isolation: nobody has chosen other groups for it since.
            let is_begun = begun.contains(interface) && groups == record.interfaces.get(interface);
            let by_a_person = cause.is_some_and(|cause| cause.is_of_a_person(id, interface));
            (has_moved || is_begun && !by_a_person) && record.returns < MOST_RETURNS
        };
        let (recorded, since): (Vec<_>, Vec<_>) =
            open.partition(|interface| record.interfaces.contains_key(*interface));
        let back: BTreeSet<InterfaceId> = recorded.into_iter().filter(|id| is_returning(id)).cloned().collect();
        let is_return = !back.is_empty();
        let attached = since.into_iter().filter(|interface| shown.contains_key(interface)).cloned();
        let all: BTreeSet<InterfaceId> = back.into_iter().chain(attached).collect();
        // What was begun is marked, whatever came of it.
        if !all.is_empty() || !begun.is_empty() {
            due.insert(id.clone(), (all, is_return));
        }
    }
    due
}

/// What another watch has begun and not finished, if a watch may change anything: every interface was read back in isolation once, and
/// neither a request nor another watch is at work.
fn begun(record: &Record, now: Time) -> Option<&BTreeSet<InterfaceId>> {
    static NOTHING: BTreeSet<InterfaceId> = BTreeSet::new();
    match (record.state, &record.lease) {
        (State::Isolated, _) => Some(&NOTHING),
        // Only a watch has a lease of some interfaces, and it takes it of what was isolated only.
        (State::Isolating, Some(lease)) if !lease.only.is_empty() && lease.until <= now => Some(&lease.only),
        _ => None,
    }
}

/// What is listed as open, and nobody can tell what it is. An event is about what is known.
fn lost(items: &Items, incidents: &[Incident], is_event: bool) -> Vec<WatchedIncident> {
    let known: BTreeSet<String> = incidents.iter().map(|incident| incident.owner.digest()).collect();
    let unknown = items
        .unreadable
        .iter()
        .filter(|(key, _)| !is_event && key.strip_prefix(INTENT_PREFIX).is_some_and(|digest| !known.contains(digest)));
    let told = |(key, reason): (&String, &String)| WatchedIncident {
        stack: key.clone(),
        is_doubtful: true,
        warnings: vec![format!("an open incident cannot be read, and no record of it is known: item {key}: {reason}")],
        ..WatchedIncident::default()
    };
    unknown.map(told).collect()
}

/// What there is to tell of an incident.
fn said(incident: &Incident, stands: &BTreeMap<InstanceId, Contained>, cause: Option<&Cause>) -> WatchedIncident {
    let mut told = over(incident);
    told.because = cause.map(ToString::to_string);
    for (id, found) in stands {
        let is_open = matches!(found.condition, Condition::NotIsolated | Condition::Unknown);
        for (interface, why) in found.open.iter().filter(|_| is_open) {
            let (instance, interface) = (id.to_string(), interface.as_ref().map(ToString::to_string));
            told.not_isolated.push(Open { instance, interface, why: why.clone() });
        }
        told.warnings.extend(found.warnings.iter().cloned());
        told.warnings.extend(found.to_do.iter().map(|step| format!("no longer so: {step}")));
    }
    let unseen = cause.filter(|cause| cause.is_unseen());
    told.is_unseen = unseen.is_some();
    told.warnings.extend(unseen.map(|cause| format!("there was a call of {cause}: look at what it changed")));
    told.warnings.sort();
    told.warnings.dedup();
    let region = incident.owner.stack_id.split(':').nth(3).unwrap_or_default();
    let command = || format!("ec2-isolation status --stack {} --region {region}", told.stack);
    told.next = (told.drift() > 0).then(command);
    told
}

/// An incident of which there is nothing to tell.
fn over(incident: &Incident) -> WatchedIncident {
    WatchedIncident {
        stack: incident.owner.stack_name().to_owned(),
        stack_id: incident.owner.stack_id.clone(),
        ..WatchedIncident::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The alarm over all incidents ends with a look that knows of everything that it is isolated, and with no other.
    #[test]
    fn that_all_is_isolated_is_said_by_a_look_that_knows_it_only() {
        let closed = Metric::count("NotIsolated", 0);
        let incident = WatchedIncident::default;
        let watched = |incidents: Vec<WatchedIncident>, not_isolated| Watched { incidents, not_isolated, drift: 0 };
        assert_eq!(watched(vec![], 0).metrics(), [closed.clone(), looks()]);
        assert_eq!(watched(vec![incident()], 0).metrics(), [closed.clone(), looks()]);
        let in_progress = WatchedIncident { in_progress: true, ..incident() };
        let is_doubtful = WatchedIncident { is_doubtful: true, ..incident() };
        for unknown in [in_progress, is_doubtful.clone()] {
            assert_eq!(watched(vec![incident(), unknown], 0).metrics(), [looks()]);
        }
        let in_progress = |is_unseen| WatchedIncident { in_progress: true, is_unseen, ..incident() };
        assert_eq!(in_progress(false).metrics(), []);
        assert_eq!(in_progress(true).metrics(), [Metric::count("Drift", 1)]);
        assert_eq!(watched(vec![incident()], 1).metrics(), [looks()]);
        assert_eq!(is_doubtful.metrics(), [Metric::count("Drift", 0)]);
        assert_eq!(incident().metrics(), [closed, Metric::count("Drift", 0)]);
    }
}
