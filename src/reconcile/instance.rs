//! The loop of one instance: observe, plan, carry out, until its plan is empty or what is left of it has failed. Loops run side
//! by side, so that an instance that makes trouble costs the others nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::execute::{Executor, Mandate};
use crate::model::{CallError, Fault, Groups, InstanceId, Intent, InterfaceId, State, Wants};
use crate::observe::{Base, Inspection, Observer};
use crate::plan::{
    Case, Change as Protecting, DOUBTED, FIRST_PAUSE, Goal, Ledger, Needs, Now, Observed, Outcome, Passage, Passages,
    Patience, Plan, Problem, Reach, Records as Known, Step, StepError, Work, needs, pause, plan,
};
use crate::ports::{Call, Change, Look, Records};
use crate::timing::gate::out_of_time;

/// A look that waited longer for the intent shows what was.
const OUTDATED: Duration = Duration::from_secs(2);

/// What the loops of one invocation share.
pub(crate) struct Run<'a, E, R> {
    pub(crate) observer: Observer<'a, E, R>,
    pub(crate) executor: Executor<'a, E, R>,
    pub(crate) mandate: Mandate<'a>,
    pub(crate) patience: Patience,
    /// The intent once it is written; `None` for a run that follows none.
    pub(crate) intent: Option<&'a watch::Sender<Option<Announced>>>,
    /// The instances that stay isolated.
    pub(crate) stays: &'a BTreeSet<InstanceId>,
    pub(crate) passages: Mutex<Passages>,
}

/// One instance, and what became of it.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) instance: InstanceId,
    pub(crate) goal: Goal<'a>,
    pub(crate) ledger: Ledger,
    /// It was held when it was first looked at.
    pub(crate) was_held: bool,
    /// When every interface of it was first read back in isolation, unless it was so at the first look.
    pub(crate) contained_after: Option<Duration>,
    has_been_open: bool,
    pub(super) inspection: Inspection,
    groups: BTreeMap<crate::model::GroupId, crate::model::Group>,
    /// Of the last look.
    pub(crate) plan: Plan,
    /// When the look began that found nothing more to do.
    pub(crate) settled_at: Option<Instant>,
    /// Why nothing could be read to the end: nothing is known.
    pub(crate) blind: Option<CallError>,
    /// Since when something could not be read.
    unread: BTreeMap<String, (Duration, CallError)>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(instance: InstanceId, goal: Goal<'a>) -> Self {
        Self {
            instance,
            goal,
            ledger: Ledger::default(),
            was_held: false,
            contained_after: None,
            has_been_open: false,
            inspection: Inspection::default(),
            groups: BTreeMap::new(),
            plan: Plan::default(),
            settled_at: None,
            blind: None,
            unread: BTreeMap::new(),
        }
    }

    /// Whether it was settled before something else was changed, or long before another one was: what it claims has to be looked
    /// at once more.
    pub(crate) fn is_stale(&self, last_change: Option<Instant>, youngest: Option<Instant>) -> bool {
        let is_old = |at: Instant| {
            last_change.is_some_and(|change| at <= change) || youngest.is_some_and(|youngest| at + DOUBTED < youngest)
        };
        self.blind.is_none() && self.settled_at.is_none_or(is_old)
    }

    /// Whether everything that it held was given back, and read back.
    pub(crate) fn is_restored(&self) -> bool {
        self.blind.is_none() && matches!(self.goal, Goal::Restore) && self.plan.standing.is_restored
    }

    /// Whether the last look says how it stands: it was read, no later look failed, and what was changed since was read back. That
    /// the time is up says nothing else.
    pub(crate) fn is_seen(&self) -> bool {
        let is_late = |error: &CallError| {
            let is_open = |step| matches!(step, &Step::SetGroups { .. }) && self.ledger.is_accepted(step);
            error.fault == Fault::OutOfTime && self.plan != Plan::default() && !self.plan.steps().any(is_open)
        };
        let is_unreadable = self.plan.problems.iter().any(|problem| matches!(problem, Problem::Unreadable { .. }));
        self.blind.as_ref().is_none_or(is_late) && !is_unreadable
    }

    /// Whether one of its interfaces may be in the transit group.
    pub(crate) fn is_in_transit(&self) -> bool {
        let is_shown = self.plan.problems.iter().any(|problem| matches!(problem, Problem::InTransit { .. }));
        is_shown || self.failures().iter().any(|(_, error)| matches!(error, StepError::InTransit { .. }))
    }

    /// What could not be read at the last look, and why.
    pub(crate) fn unread(&self) -> impl Iterator<Item = (&String, &CallError)> {
        self.unread.iter().map(|(what, (_, error))| (what, error))
    }

    /// Steps that can never succeed and are still to be done, or that another person or tool keeps undoing.
    pub(crate) fn failures(&self) -> Vec<(&Step, &StepError)> {
        let planned = self.plan.steps().filter_map(|step| Some((step, self.ledger.failure(step)?)));
        let mut failures: Vec<(&Step, &StepError)> = planned.collect();
        let planned: BTreeSet<String> = failures.iter().map(|(step, _)| step.key().to_string()).collect();
        for (step, error) in self.ledger.failures() {
            // What was given back and read back is, however long that took to show.
            let is_fought_over =
                matches!((step, error), (Step::SetGroups { .. }, StepError::NotSeen { .. })) && !self.is_restored();
            let is_tag = matches!(step, Step::Untag { .. });
            let is_said = is_fought_over || is_tag || self.blind.is_some();
            if is_said && !planned.contains(&step.to_string()) {
                failures.push((step, error));
            }
        }
        failures
    }
}

/// An instance whose work goes on is looked at again after one to two times this, since it may be moved meanwhile. All are at the
/// same moments, and share their reads.
const WATCHED: Duration = Duration::from_secs(2);

/// Tags that take longer are made while the instance is looked at: those of a fleet may be denied one by one, for minutes, and that
/// keeps nobody from protecting it.
const TAGGED: Duration = Duration::from_millis(1100);

type Passing<'f> = FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = Vec<(Work, Vec<Outcome>)>> + Send + 'f>>>;

impl<E: Look + Change, R: Records> Run<'_, E, R> {
    /// Goes on until there is nothing more to do.
    pub(crate) async fn pursue(&self, subject: &mut Subject<'_>, mut depth: Reach) {
        let mut passing: Passing<'_> = FuturesUnordered::new();
        let (mut done, mut pauses) = (Vec::new(), 0);
        let mut blind_since: Option<Duration> = None;
        loop {
            if self.learn(subject, &mut done) {
                depth = Reach::Light;
            }
            // What was to be changed is read again, however that ended.
            let is_attribute = |step: &&Step| matches!(step, Step::Protect { change: Protecting::Attribute(_), .. });
            let is_changed = subject.plan.steps().filter(is_attribute).any(|step| !subject.ledger.is_under_way(step));
            if subject.ledger.rereads(self.mandate.clock.elapsed()) || is_changed {
                subject.inspection.forget();
            }
            if self.mandate.gate.is_closed() || self.executor.is_overtaken() {
                break;
            }
            let began = Instant::now();
            let looking =
                alongside(self.mandate.gate.while_open(self.look(subject, depth)), &mut passing, &mut done).await;
            let Some(looked) = looking else { break };
            let plan = match looked {
                Ok(plan) => plan,
                Err(error) => {
                    let elapsed = self.mandate.clock.elapsed();
                    let since = *blind_since.get_or_insert(elapsed);
                    subject.blind = Some(error.clone());
                    if !self.patience.covers(error.fault, elapsed.saturating_sub(since)) {
                        break;
                    }
                    tracing::warn!(instance = %subject.instance, %error, "cannot look");
                    alongside(self.pause_until(&mut pauses, None), &mut passing, &mut done).await;
                    continue;
                }
            };
            (blind_since, subject.blind) = (None, None);
            let seen = Instant::now();
            if !self.is_ours(began).await {
                // It is said at least how that stands.
                subject.plan = plan;
                break;
            }
            if seen.elapsed() > OUTDATED {
                continue;
            }
            let elapsed = self.mandate.clock.elapsed();
            subject.ledger.note_doubts(&plan, elapsed);
            let due = subject.ledger.due(&plan, elapsed, self.patience);
            let waits = due.waits | self.note_unread(subject, elapsed);
            subject.plan = plan;
            if matches!(subject.goal, Goal::Isolate(_)) {
                subject.has_been_open |= !subject.plan.standing.is_whole();
                let is_contained = subject.has_been_open && subject.plan.standing.is_whole();
                subject.contained_after = subject.contained_after.or_else(|| is_contained.then_some(elapsed));
            }
            if !due.work.is_empty() {
                let plan = Plan { work: due.work, problems: subject.plan.problems.clone(), ..Plan::default() };
                tracing::info!(%plan, "to do");
                plan.steps().for_each(|step| subject.ledger.begin(step));
                self.note_undone(&plan, &subject.plan.standing.exposed);
                let (slow, quick): (Vec<Work>, Vec<Work>) =
                    plan.work.into_iter().partition(|work| work.passes() || work.protects());
                let is_all_slow = quick.is_empty();
                let is_last = follows_nothing(&quick) && !due.waits && passing.is_empty() && slow.is_empty();
                for work in slow {
                    passing.push(Box::pin(self.carry_out_all(vec![work])));
                }
                let (tags, quick): (Vec<Work>, Vec<Work>) = quick.into_iter().partition(Work::tags);
                let (ended, are_tagged) = oneshot::channel();
                passing.push(Box::pin(async {
                    let outcomes = self.carry_out_all(tags).await;
                    let _ = ended.send(());
                    outcomes
                }));
                let tagged = tokio::time::timeout(TAGGED, are_tagged);
                let both = join(tagged, self.carry_out_all(quick));
                let (tagged, outcomes) = alongside(both, &mut passing, &mut done).await;
                let is_late = tagged.is_err();
                done.extend(outcomes);
                let ended = done.iter().filter(|(work, _)| !(work.passes() || work.protects()));
                let is_slow = ended.flat_map(|(_, outcomes)| outcomes).any(|outcome| outcome.result.is_err());
                // What follows from a change of groups is planned from what is read back.
                depth = if depth == Reach::First { Reach::Light } else { Reach::Full };
                if is_all_slow
                    && (subject.plan.standing.isolated.is_empty() || subject.ledger.passing().next().is_none())
                {
                    // There is nothing to look at before one of them is through.
                    self.one_of(&mut passing, subject, &mut done).await;
                } else if is_slow {
                    self.learn(subject, &mut done);
                    alongside(self.pause_until(&mut pauses, None), &mut passing, &mut done).await;
                } else {
                    pauses = 0;
                    if is_last && !is_late && due.rests {
                        self.rest(due.until).await;
                    }
                }
            } else if due.gave_up {
                // Plan again.
            } else if depth != Reach::Full && !subject.plan.standing.isolated.is_empty() {
                depth = Reach::Full;
            } else if !passing.is_empty() {
                self.one_of(&mut passing, subject, &mut done).await;
            } else if subject.inspection.is_late {
                let _ = self.mandate.gate.while_open(tokio::time::sleep(self.until_watched())).await;
                depth = Reach::Full;
            } else if waits {
                self.pause_until(&mut pauses, due.until).await;
                depth = Reach::Full;
            } else if depth == Reach::Full && due.rests {
                self.rest(due.until).await;
            } else if depth == Reach::Full {
                subject.settled_at = Some(began);
                break;
            } else {
                depth = Reach::Full;
            }
        }
        // Whoever is in the transit group leaves it.
        while let Some(passed) = passing.next().await {
            done.extend(passed);
        }
        self.learn(subject, &mut done);
        if self.mandate.gate.is_closed() && subject.settled_at.is_none() && subject.blind.is_none() {
            subject.blind = Some(out_of_time("ec2:DescribeInstances"));
        }
    }

    /// One look, and what it shows in the transit group is taken out.
    pub(crate) async fn clear(&self, subject: &mut Subject<'_>) {
        let gate = self.mandate.gate;
        let Some(Ok(plan)) = gate.while_open(self.look(subject, Reach::Full)).await else { return };
        let is_inside = |of: &InterfaceId| {
            plan.problems
                .iter()
                .any(|problem| matches!(problem, Problem::InTransit { interface, .. } if interface == of))
        };
        let is_way_out = |step: &&Step| matches!(step, Step::SetGroups { interface, .. } if is_inside(interface));
        let then: Vec<Step> = plan.steps().filter(is_way_out).cloned().collect();
        subject.plan = plan;
        if !then.is_empty() {
            then.iter().for_each(|step| subject.ledger.begin(step));
            self.learn(subject, &mut vec![self.carry_out(Work { first: None, then }).await]);
            if let Some(Ok(plan)) = gate.while_open(self.look(subject, Reach::Full)).await {
                subject.plan = plan;
            }
        }
    }

    /// Waits for one piece of work. A passage from outside takes seconds: what it changes is looked at when it has ended. Anything
    /// else may take long, and one from inside waits for its seat.
    async fn one_of(&self, passing: &mut Passing<'_>, subject: &Subject<'_>, done: &mut Vec<(Work, Vec<Outcome>)>) {
        let is_short = subject.ledger.passing().any(Step::isolates);
        let limit = if is_short { Duration::MAX } else { self.until_watched() };
        done.extend(tokio::time::timeout(limit, passing.next()).await.ok().flatten().unwrap_or_default());
    }

    fn until_watched(&self) -> Duration {
        let elapsed = self.mandate.clock.elapsed();
        Duration::from_secs((elapsed.as_secs() / WATCHED.as_secs() + 2) * WATCHED.as_secs()).saturating_sub(elapsed)
    }

    /// Learns what became of work. Whether groups were changed.
    fn learn(&self, subject: &mut Subject<'_>, done: &mut Vec<(Work, Vec<Outcome>)>) -> bool {
        let (elapsed, mut has_swapped) = (self.mandate.clock.elapsed(), false);
        for (work, outcomes) in done.drain(..) {
            subject.ledger.drop_untried(&work);
            for outcome in outcomes {
                if let Err(error) = &outcome.result {
                    tracing::warn!(step = %outcome.step, %error, "failed");
                }
                has_swapped |= matches!(outcome.step, Step::SetGroups { .. } | Step::Pass { .. });
                if let (Step::Pass { interface, .. }, Some(passage)) = (&outcome.step, &outcome.passage) {
                    let mut passages = self.passages();
                    if passage.is_through() {
                        passages.done.insert(interface.clone());
                    }
                    if *passage == Passage::Opened {
                        passages.undone.insert(interface.clone());
                    }
                }
                subject.ledger.learn(&outcome, elapsed);
            }
        }
        has_swapped
    }

    fn passages(&self) -> MutexGuard<'_, Passages> {
        self.passages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is isolated once more after its passage may have connections again.
    fn note_undone(&self, due: &Plan, exposed: &BTreeSet<InterfaceId>) {
        let mut passages = self.passages();
        for step in due.steps() {
            if let Step::SetGroups { interface, .. } = step
                && exposed.contains(interface)
                && passages.done.contains(interface)
            {
                passages.undone.insert(interface.clone());
            }
        }
    }

    async fn carry_out(&self, work: Work) -> (Work, Vec<Outcome>) {
        let outcomes = self.executor.carry_out(work.clone()).await;
        (work, outcomes)
    }

    async fn carry_out_all(&self, work: Vec<Work>) -> Vec<(Work, Vec<Outcome>)> {
        join_all(work.into_iter().map(|work| self.carry_out(work))).await
    }

    /// A pause that ends when the invocation has lasted as long as that, at the latest.
    async fn pause_until(&self, pauses: &mut u32, until: Option<Duration>) {
        let pause = pause(*pauses);
        let left = until.map_or(pause, |until| until.saturating_sub(self.mandate.clock.elapsed()).max(FIRST_PAUSE));
        let pause = pause.min(left);
        *pauses += 1;
        let _ = self.mandate.gate.while_open(tokio::time::sleep(pause)).await;
    }

    /// Waits until the invocation has lasted as long as that.
    async fn rest(&self, until: Option<Duration>) {
        let rest = until.unwrap_or_default().saturating_sub(self.mandate.clock.elapsed());
        let _ = self.mandate.gate.while_open(tokio::time::sleep(rest)).await;
    }

    /// Waits until the intent is written. Whether it is this request's, as far as a look that began then shows.
    async fn is_ours(&self, began: Instant) -> bool {
        let Some(intent) = self.intent else { return true };
        let mut receiver = intent.subscribe();
        let announced = self.mandate.gate.while_open(receiver.wait_for(Option::is_some)).await;
        let Some(Ok(announced)) = announced else { return false };
        let Some(Announced { intent: Ok(_), is_ours, at }) = &*announced else { return false };
        let is_other = |intent: &Intent| intent.request_id != self.mandate.request_id;
        // What was read beside the writing of the intent may be older than it.
        if !is_ours || began >= *at && self.observer.last_intent().as_ref().is_some_and(is_other) {
            self.executor.overtake();
        }
        !self.executor.is_overtaken()
    }

    fn note_unread(&self, subject: &mut Subject<'_>, elapsed: Duration) -> bool {
        let known = std::mem::take(&mut subject.unread);
        let since = |what: &String| known.get(what).map_or(elapsed, |(since, _)| *since);
        let unread = subject.inspection.unread.iter();
        subject.unread = unread.map(|(what, error)| (what.clone(), (since(what), error.clone()))).collect();
        let mut unread = subject.unread.values();
        unread.any(|(since, error)| self.patience.covers(error.fault, elapsed.saturating_sub(*since)))
    }

    /// Reads what is needed, and plans from it.
    pub(crate) async fn look(&self, subject: &mut Subject<'_>, depth: Reach) -> Call<Plan> {
        let (known, observed) = self.observe(subject, depth).await?;
        Ok(plan(&self.case(subject, &known, &observed)))
    }

    /// What one look sees: records and observation.
    pub(crate) async fn observe(&self, subject: &mut Subject<'_>, depth: Reach) -> Call<(Seen, Observed)> {
        let (groups, vpcs) = match &subject.goal {
            Goal::Isolate(wants) if depth == Reach::First => (named(wants), [wants.vpc.clone()].into()),
            Goal::Isolate(wants) if depth == Reach::Full => (named(wants), BTreeSet::new()),
            _ => Default::default(),
        };
        subject.inspection.begin();
        let held = self.executor.held();
        let Base { instance, item, groups: found } = self.observer.base(&subject.instance, &groups, &vpcs).await?;
        subject.groups.retain(|id, _| !groups.contains(id));
        subject.groups.extend(found.into_iter().map(|group| (group.id.clone(), group)));
        let known = self.observer.known();
        let kept = self.observer.last_intent().and_then(|intent| intent.kept);
        let passages = self.passages().clone();
        let mut seen = Seen { known, unreadable: None, kept, passages };
        match item {
            Some(Ok(record)) => {
                let is_about = subject.goal.is_about(&record, self.mandate.owner, self.stays);
                subject.was_held |= record.state != State::Restored && is_about;
            }
            Some(Err(reason)) => {
                subject.was_held = true;
                seen.unreadable = Some(reason);
            }
            None => {}
        }
        let record = seen.known.get(&subject.instance).map(Arc::as_ref);
        subject.ledger.note_record(record, self.mandate.writer, self.mandate.clock.now());
        let mut observed = Observed {
            instances: instance.map(|instance| (instance.id.clone(), instance)).into_iter().collect(),
            groups: subject.groups.clone(),
            is_unlisted: matches!(&subject.goal, Goal::Isolate(wants) if self.observer.lacks_listing(&wants.vpc)),
            ..Observed::default()
        };
        // What one round shows may call for another one: protections are read once the interfaces are in place, and the groups of
        // an instance that a recorded interface was attached to since.
        let mut asked = Needs::default();
        for _ in 0..3 {
            let wanted = needs(&self.case(subject, &seen, &observed), depth);
            if wanted == asked {
                break;
            }
            let due = wanted.without(&asked);
            self.observer.more(&subject.instance, &due, &mut subject.inspection, &mut observed).await?;
            asked = wanted;
        }
        // What was read last counts.
        for interface in observed.instances.values_mut().flat_map(|instance| &mut instance.interfaces) {
            if let Some(read) = observed.interfaces.get(&interface.id) {
                interface.groups.clone_from(&read.groups);
            }
        }
        // Whoever enters or leaves meanwhile may have been read inside.
        seen.passages.held = self.executor.held().into_iter().chain(held).collect();
        Ok((seen, observed))
    }

    pub(crate) fn case<'c>(&'c self, subject: &'c Subject<'_>, seen: &'c Seen, observed: &'c Observed) -> Case<'c> {
        Case {
            instance: &subject.instance,
            owner: self.mandate.owner,
            goal: &subject.goal,
            records: &seen.known,
            unreadable: seen.unreadable.as_ref(),
            observed,
            ledger: &subject.ledger,
            now: Now {
                elapsed: self.mandate.clock.elapsed(),
                time: self.mandate.clock.now(),
                writer: self.mandate.writer,
            },
            kept: seen.kept.as_deref(),
            passages: &seen.passages,
            stays: self.stays,
            only: self.mandate.only,
        }
    }
}

/// The intent of this request, as it was when it had been written.
#[derive(Debug, Clone)]
pub(crate) struct Announced {
    pub(crate) intent: Call<Intent>,
    pub(crate) is_ours: bool,
    pub(crate) at: Instant,
}

/// Records as one look sees them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) kept: Option<String>,
    pub(crate) passages: Passages,
    pub(crate) known: Arc<Known>,
    pub(crate) unreadable: Option<String>,
}

/// Whether nothing follows from work but that it is read back.
fn follows_nothing(work: &[Work]) -> bool {
    work.iter().flat_map(Work::steps).all(|step| matches!(step, Step::Tag { .. } | Step::Mark { .. }))
}

fn named(wants: &Wants) -> Groups {
    [&wants.isolation_group].into_iter().chain(&wants.transit_group).cloned().collect()
}

/// Does something while passages go on.
async fn alongside<T>(
    work: impl Future<Output = T>,
    passing: &mut Passing<'_>,
    done: &mut Vec<(Work, Vec<Outcome>)>,
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(passed) = passing.next(), if !passing.is_empty() => done.extend(passed),
            result = &mut work => return result,
        }
    }
}
