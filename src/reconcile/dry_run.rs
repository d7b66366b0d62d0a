//! A dry run: looks, plans, asks EC2 whether it would, and says what would be done. **Nothing is changed**, not even what
//! the table says is wanted.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::Reconciler;
use super::instance::{Run, Seen, Subject};
use super::report::{Rehearsed, Report};
use crate::execute::Executor;
use crate::model::{CallError, Group, InstanceId, Intent, Wants};
use crate::observe::Observer;
use crate::plan::{
    DOUBTED, Doubt, Goal, Needs, Observed, Outcome, Passage, Patience, Plan, Reach, Severity, Step, carried_out, needs,
    plan,
};
use crate::ports::{Call, Change, Look, Records};

/// EC2 counts a dry run against the same throttle as the change.
const AT_ONCE: usize = 10;
/// A plan follows from the one before as it is carried out, a few times at most.
const MOST_ROUNDS: usize = 4;

/// What a request would begin with, whose standing says which interfaces are open; and what it follows from.
pub type Sight = Call<(Plan, Arc<Observed>)>;

impl<E: Look + Change, R: Records> Reconciler<'_, E, R> {
    /// Says what a Create or Update with these wants would do now, after what was asked last. `imagined` are groups that the stack
    /// would make before it.
    pub async fn dry_run(&self, wants: &Wants, intent: Option<&Intent>, imagined: &[Group]) -> Report {
        let stays: BTreeSet<InstanceId> = wants.instances.iter().cloned().collect();
        let mut subjects: Vec<Subject<'_>> =
            wants.instances.iter().map(|id| Subject::new(id.clone(), Goal::Isolate(wants))).collect();
        let rehearsing = async {
            let removed = self.persist(self.patience(), || self.recorded_since(intent, &stays)).await?;
            Ok::<_, CallError>((self.rehearse(&mut subjects, &stays, &removed, imagined).await?, removed))
        };
        let (plans, removed) = match rehearsing.await {
            Ok(rehearsed) => rehearsed,
            Err(error) => return Report::failure(format!("dry run, nothing was changed: {error}")),
        };
        // EC2 cannot say whether it would accept a group that is not there yet.
        let refusals = if imagined.is_empty() { self.ask(&plans).await } else { vec![] };
        Rehearsed { asker: self.asker, wants, subjects: &subjects, plans, refusals, removed }.report()
    }

    /// How the instances of these wants stand now, by the plan that a request would begin with. Changes nothing.
    pub async fn look(&self, wants: &Wants) -> Vec<(InstanceId, Sight)> {
        let stays: BTreeSet<InstanceId> = wants.instances.iter().cloned().collect();
        let run = self.by_steps(&stays);
        let looks = wants.instances.iter().map(async |id| {
            let mut subject = Subject::new(id.clone(), Goal::Isolate(wants));
            let seen = first_sight(&run, &mut subject).await;
            let sight = seen.map(|(seen, observed)| (plan(&run.case(&subject, &seen, &observed)), Arc::new(observed)));
            (id.clone(), sight)
        });
        join_all(looks).await
    }

    /// Says what [`Reconciler::restore`] would do now.
    ///
    /// # Errors
    /// Something cannot be read.
    pub async fn rehearse_restore(&self, all: &BTreeSet<InstanceId>, only: &BTreeSet<InstanceId>) -> Call<Plan> {
        let stays = if only.is_empty() { BTreeSet::new() } else { all.difference(only).cloned().collect() };
        let meant = all.iter().filter(|id| only.is_empty() || only.contains(*id));
        let mut subjects: Vec<Subject<'_>> = meant.map(|id| Subject::new(id.clone(), Goal::Restore)).collect();
        let mut whole = Plan::default();
        for plan in self.rehearse(&mut subjects, &stays, &stays, &[]).await? {
            // What follows, tags and marks, goes without saying.
            let is_said = |step: &Step| matches!(step, Step::SetGroups { .. } | Step::Protect { .. });
            whole.work.extend(plan.work.into_iter().filter(|work| work.steps().any(is_said)));
            whole.problems.extend(plan.problems);
        }
        whole.problems.sort();
        whole.problems.dedup();
        Ok(whole)
    }

    /// The plans that would follow from each other, as far as that can be seen now. The records of `others` count as well.
    async fn rehearse(
        &self,
        subjects: &mut [Subject<'_>],
        stays: &BTreeSet<InstanceId>,
        others: &BTreeSet<InstanceId>,
        imagined: &[Group],
    ) -> Call<Vec<Plan>> {
        let mut run = self.by_steps(stays);
        run.observer.imagined = imagined;
        run.observer.items(others.clone()).await?;
        let mut plans: Vec<Vec<Plan>> = Vec::new();
        let looks = join_all(subjects.iter_mut().map(|subject| async {
            let (mut seen, mut observed) = first_sight(&run, subject).await?;
            subject.plan = plan(&run.case(subject, &seen, &observed));
            // What is not shown is looked for once more before that is said of it.
            if subject.plan.doubts.iter().any(|doubt| !matches!(doubt, Doubt::AsWanted(_) | Doubt::Parts(..))) {
                let _ = self.gate.while_open(tokio::time::sleep(DOUBTED)).await;
                (seen, observed) = run.observe(subject, Reach::Full).await?;
                subject.plan = plan(&run.case(subject, &seen, &observed));
            }
            Ok((subject, seen, observed))
        }));
        for looked in looks.await {
            let (subject, seen, observed): (&mut Subject<'_>, Seen, Observed) = looked?;
            plans.push(self.rounds(&run, subject, seen, observed).await?);
        }
        // What comes first of all instances comes first.
        let rounds = plans.iter().map(Vec::len).max().unwrap_or_default();
        Ok((0..rounds).flat_map(|round| plans.iter().filter_map(move |plans| plans.get(round))).cloned().collect())
    }

    /// A run that follows no intent: whoever has one asks it step by step.
    pub(super) fn by_steps<'r>(&'r self, stays: &'r BTreeSet<InstanceId>) -> Run<'r, E, R> {
        let (mandate, patience) = (self.mandate(false, None), self.patience());
        let observer = Observer::new(self.ec2, self.records, self.owner, self.pace);
        let executor = Executor::new(self.ec2, self.records, mandate);
        Run { observer, executor, mandate, patience, intent: None, stays, passages: Mutex::default() }
    }

    async fn rounds(
        &self,
        run: &Run<'_, E, R>,
        subject: &mut Subject<'_>,
        mut seen: Seen,
        mut observed: Observed,
    ) -> Call<Vec<Plan>> {
        let mut plans: Vec<Plan> = Vec::new();
        for _ in 0..MOST_ROUNDS {
            let next = {
                let case = run.case(subject, &seen, &observed);
                let mut next = plan(&case);
                let said: HashSet<Step> = plans.iter().flat_map(Plan::steps).map(Step::key).collect();
                for work in &mut next.work {
                    work.first.take_if(|step| said.contains(&step.key()));
                    work.then.retain(|step| !said.contains(&step.key()));
                }
                next.work.retain(|work| work.first.is_some() || !work.then.is_empty());
                let (known, after) = carried_out(&next, &case);
                (seen.known, observed) = (Arc::new(known), after);
                next
            };
            for step in next.steps() {
                let outcome = Outcome { step: step.clone(), result: Ok(()), passage: passage(step) };
                subject.ledger.learn(&outcome, self.clock.elapsed());
            }
            let is_over = next.is_empty();
            plans.push(next);
            if is_over {
                break;
            }
            let wanted = needs(&run.case(subject, &seen, &observed), Reach::Full);
            let unread = Needs {
                interfaces: wanted.interfaces.difference(&observed.looked_up).cloned().collect(),
                inspects: wanted.inspects && !observed.is_inspected,
                attributes: wanted.attributes && observed.attributes.is_empty(),
                members: wanted.members && observed.members.is_none(),
                profiles: wanted.profiles && observed.profiles.is_none(),
                episode: wanted.episode.filter(|_| !observed.has_snapshots),
                ..Needs::default()
            };
            run.observer.more(&subject.instance, &unread, &mut subject.inspection, &mut observed).await?;
        }
        // The last one says what stands in the way; those before it said it as well, but for what is open now.
        let mut last = plans.last().map(|plan| plan.problems.clone()).unwrap_or_default();
        let now = plans.first().into_iter().flat_map(|plan| &plan.problems);
        let open = now.filter(|problem| problem.severity() == Severity::Open && !last.contains(problem));
        last.splice(0..0, open.cloned().collect::<Vec<_>>());
        plans.iter_mut().for_each(|plan| plan.problems.clear());
        if let Some(plan) = plans.first_mut() {
            plan.problems = last;
        }
        Ok(plans)
    }

    /// What EC2 says to each change of an interface: whether the isolation group would be accepted. An emulator that does not
    /// know dry runs then isolates, which is what is asked for. All of the questions have one patience.
    async fn ask(&self, plans: &[Plan]) -> Vec<(Step, CallError)> {
        let (began, patience) = (Instant::now(), self.patience());
        let changes = plans.iter().flat_map(Plan::steps).filter_map(|step| match step {
            Step::SetGroups { interface, to, .. } => Some((step, interface, to.clone())),
            Step::Pass { interface, to, .. } => Some((step, interface, [to.clone()].into())),
            _ => None,
        });
        let questions: Vec<_> = changes
            .map(|(step, interface, groups)| async move {
                let action = "ec2:ModifyNetworkInterfaceAttribute";
                let ask = || async {
                    self.pace.turn(action).await;
                    self.ec2.may_set_groups(interface, &groups).await
                };
                let left = Patience {
                    for_faults: patience.for_faults.saturating_sub(began.elapsed()),
                    for_permission: patience.for_permission.saturating_sub(began.elapsed()),
                };
                let answer = self.persist(left, ask).await;
                answer.err().map(|error| (step.clone(), error))
            })
            .collect();
        stream::iter(questions).buffered(AT_ONCE).filter_map(std::future::ready).collect().await
    }
}

/// Everything that there is to see of one instance.
async fn first_sight<E: Look + Change, R: Records>(
    run: &Run<'_, E, R>,
    subject: &mut Subject<'_>,
) -> Call<(Seen, Observed)> {
    // What is doubted in a real run is shown here as it is.
    subject.ledger.is_trusting = true;
    // The groups of ours that others marked are read on the first look only.
    run.observe(subject, Reach::First).await?;
    run.observe(subject, Reach::Full).await
}

fn passage(step: &Step) -> Option<Passage> {
    matches!(step, Step::Pass { .. }).then_some(Passage::Done)
}
