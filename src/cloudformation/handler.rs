//! One invocation: an event in, exactly one answer out, whatever happens.
//!
//! Success, failure, panic, a deadline, an invalid event and missing settings all end in the same place: one
//! [`Report`], one [`Reply::send`]. The work runs on a runtime of its own: neither its panic nor a thread that it takes
//! can keep the answer from being sent. A task of its own would not do: tokio's timers stand still while the worker
//! that last drove them is taken.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::event::{Envelope, InvalidRequest, Request, RequestType};
use super::rehearsal::{Rehearsal, rehearse};
use super::responder::{Reply, Undelivered};
use super::rollback::{StackGuard, may_restore, rolls_back, settled_chain};
use super::stack::{StackStatus, Stacks};
use crate::metrics::{self, Metric};
use crate::model::{Intent, Release, Time};
use crate::plan::DOUBTED;
use crate::ports::{Change, Look, Ports, Records, Verdict};
use crate::reconcile::report::{Asker, Report, overtaken};
use crate::reconcile::{Reconciler, TO_THE_END, Why};
use crate::timing::clock::Clock;
use crate::timing::gate::Gate;
use crate::timing::limit::{GRACE, time_left, within, writer};
use crate::timing::pace::Pace;

/// IAM changes take up to a minute to arrive; a denial that lasts longer is meant. A Create may run with a role made a moment ago, an
/// Update with rights that the role was just given.
const NEW_RIGHT: Duration = Duration::from_secs(60);
/// What sending the answer may take at the end of an invocation.
const SEND_BUDGET: Duration = Duration::from_secs(8);
/// What Lambda says of an invocation.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Milliseconds since the epoch.
    pub deadline_ms: u64,
    pub log_stream: String,
}

/// Why an invocation is reported to Lambda as failed. Lambda then delivers the event again, up to twice.
#[derive(Debug, thiserror::Error)]
#[error("the answer did not reach CloudFormation")]
pub struct Unanswered(#[source] Undelivered);

/// Handles one event. `ports` is the reason where the function's settings are wrong; the work is done on `worker`;
/// `reply` makes the way back from the response URL and the time that sending may take.
///
/// # Errors
/// The answer was lost: the same event can be handled again.
pub async fn handle<E, R, S, P>(
    ports: &Result<Arc<Ports<E, R, S>>, String>,
    worker: &Handle,
    event: Value,
    invocation: &Invocation,
    reply: impl FnOnce(String, Duration) -> P,
) -> Result<Value, Unanswered>
where
    E: Look + Change + 'static,
    R: Records + 'static,
    S: Stacks + 'static,
    P: Reply,
{
    let envelope = Envelope::read(&event);
    tracing::info!(?envelope, "request");
    let now = SystemTime::now();
    let issued = issued_at(&envelope.response_url);
    if envelope.response_url.is_empty() {
        tracing::error!("the event has no ResponseURL: CloudFormation cannot be answered, so nothing is changed");
        return Ok(json!({"answered": false}));
    }
    let age = issued.and_then(|issued| now.duration_since(issued).ok()).unwrap_or_default();
    let service_timeout = Duration::from_secs(envelope.service_timeout);
    if age >= service_timeout {
        tracing::error!(?age, "CloudFormation no longer waits for this answer: nothing is changed");
        return Ok(json!({"answered": false}));
    }

    let time = time_left(invocation.deadline_ms, now).min(service_timeout - age);
    // A short deadline is split, rather than used up by reserves.
    let send_budget = SEND_BUDGET.min(time / 3);
    let grace = GRACE.min(time / 6);
    let work_time = time.saturating_sub(send_budget + grace);

    let message = match ports {
        Err(reason) => Report::failure(format!("nothing was changed: {reason}")),
        Ok(ports) => {
            let request = Request::read(&event, &envelope);
            let gate = Gate::new(work_time);
            let work = {
                let (ports, envelope, gate) = (Arc::clone(ports), envelope.clone(), gate.clone());
                async move { carry_out(&ports, &envelope, request, &Clock::new(now), &gate).await }
            };
            match within(worker, &gate, (work_time, grace), work).await {
                Ok(report) => report,
                Err(unfinished) => Report::failure(format!("{unfinished}. What was recorded stays recorded")),
            }
        }
    };
    let (stack, figures) = (envelope.owner(), figures(&message, age));
    let table = ports.as_ref().ok().map(|ports| ports.records.name());
    let message = message.with_next_step(&envelope, table);
    let answer = message.clone().into_answer(&envelope, &invocation.log_stream);
    tracing::info!(status = ?answer.status, headline = %message.headline, details = ?message.details, "answer");
    let sent = reply(envelope.response_url, send_budget).send(answer).await;
    metrics::write(Some(stack.stack_name()), &figures);
    match sent {
        Ok(()) => Ok(json!({"answered": true})),
        Err(Undelivered::UnusableUrl) => {
            tracing::error!("the ResponseURL is no usable URL: CloudFormation cannot be answered");
            Ok(json!({"answered": false}))
        }
        Err(lost) => {
            tracing::error!(%lost, "no answer");
            Err(Unanswered(lost))
        }
    }
}

/// What is to be known of a request beside its answer. `age` is how long it was on its way.
fn figures(report: &Report, age: Duration) -> Vec<Metric> {
    let mut figures = vec![Metric::count("FailedRequests", usize::from(report.failed))];
    // What a dry run finds open stays as it was, and the watch tells what is listed.
    if report.is_rehearsal {
        return figures;
    }
    if report.isolated_interface_count > 0 || !report.not_isolated.is_empty() {
        figures.push(Metric::count("NotIsolated", report.not_isolated.len()));
    }
    figures.extend(report.kept.map(|kept| Metric::count("Kept", kept)));
    let contained = report.contained_after.map(|after| (age + after).as_secs_f64());
    figures.extend(contained.map(|seconds| Metric::seconds("SecondsToContain", seconds)));
    figures
}

/// Does what a request asks for, as far as it can be done, and says what became of it.
async fn carry_out<E, R, S>(
    ports: &Ports<E, R, S>,
    envelope: &Envelope,
    request: Result<Request, InvalidRequest>,
    clock: &Clock,
    gate: &Gate,
) -> Report
where
    E: Look + Change,
    R: Records,
    S: Stacks,
{
    let owner = envelope.owner();
    let kind = envelope.request_type.map_or("", RequestType::as_str);
    let note = envelope.note.as_ref().map(|note| format!(", with Rerun {note:?}")).unwrap_or_default();
    let reconciler = Reconciler {
        ec2: &ports.ec2,
        records: &ports.records,
        owner: &owner,
        request_id: &envelope.request_id,
        issued: issued_at(&envelope.response_url)
            .and_then(|issued| Some(Time(issued.duration_since(UNIX_EPOCH).ok()?.as_secs()))),
        writer: &writer(&envelope.request_id),
        gate,
        pace: &Pace::default(),
        clock,
        asked_by: &format!("CloudFormation {kind} {}{note}", envelope.request_id),
        asker: if kind == "Delete" { Asker::Deletion } else { Asker::Deployment },
        for_permission: if kind == "Delete" { Duration::ZERO } else { NEW_RIGHT },
    };
    match request {
        Err(invalid) if invalid.is_foreign() => Report::failure(format!("nothing was changed: {invalid}")),
        Err(invalid) => reconciler.look_after().await.report(&invalid),
        Ok(Request::Reconcile(wants)) => {
            let (stacks, stack_id, on_rollback) = (&ports.stacks, owner.stack_id.as_str(), wants.on_rollback);
            reconciler.isolate(&wants, &StackGuard { stacks, stack_id, on_rollback }).await
        }
        Ok(Request::Rehearse { wants, before, by_oversight }) => {
            let rehearsal = Rehearsal {
                wants: &wants,
                before: before.as_deref(),
                by_oversight,
                has_role: !envelope.function_outlives_stack,
            };
            rehearse(&reconciler, &ports.stacks, rehearsal).await
        }
        Ok(Request::Delete { on_rollback }) => {
            delete(&reconciler, &ports.stacks, on_rollback, envelope.function_outlives_stack).await
        }
    }
}

/// A Delete restores only when the stack itself is being deleted. If `asked_again`, a Delete that failed in a rollback comes once more
/// when a person deletes the stack.
async fn delete<E, R, S>(
    reconciler: &Reconciler<'_, E, R>,
    stacks: &S,
    on_rollback: Release,
    asked_again: bool,
) -> Report
where
    E: Look + Change,
    R: Records,
    S: Stacks,
{
    // A stack is not seen being deleted before it is.
    let certain: fn(&[StackStatus]) -> bool = |chain| may_restore(chain, Release::KeepIsolated) == Verdict::Restore;
    let reading = || settled_chain(stacks, &reconciler.owner.stack_id, certain);
    let asked = || reconciler.persist(TO_THE_END, || reconciler.mended_intent(None));
    let (mut intent, chain) = tokio::join!(asked(), reconciler.clearing(reconciler.persist(TO_THE_END, reading)));
    let chain = chain.0;
    let restores = chain.as_ref().is_ok_and(|chain| may_restore(chain, on_rollback) == Verdict::Restore);
    if !restores && intent == Ok(None) {
        // Without it nothing is kept, and a restore writes it.
        tokio::time::sleep(DOUBTED).await;
        intent = asked().await;
    }
    let intent = match intent {
        Ok(intent) => intent,
        Err(error) => return Report::failure(format!("nothing was restored: the records cannot be read: {error}")),
    };
    let is_late = |intent: &Intent| {
        intent.request_id != reconciler.request_id
            && reconciler.issued.is_some_and(|issued| intent.issued > Some(issued))
    };
    if let Some(later) = intent.as_ref().filter(|intent| is_late(intent)) {
        return overtaken(&later.request_id);
    }
    let stays = asked_again && chain.as_ref().is_ok_and(|chain| rolls_back(chain));
    let why = match chain.as_ref().map(|chain| may_restore(chain, on_rollback)) {
        Ok(Verdict::Restore) => return reconciler.restore_all().await,
        Ok(Verdict::Keep(_))
            if intent.as_ref().is_some_and(|intent| is_made_anew(chain.as_deref().unwrap_or_default(), intent)) =>
        {
            Why::GoesOn(
                "this update has made the resource again, and CloudFormation takes away the one before".to_owned(),
            )
        }
        Ok(Verdict::Keep(reason)) => Why::Over(reason),
        Err(error) => Why::Unknown(error.clone()),
    };
    let held = intent.map(|intent| intent.held).unwrap_or_default();
    let report = reconciler.keep(&held, why).await;
    // SUCCESS would take the resource out of the stack: its Delete would not come again.
    Report { failed: report.failed || stays && report.kept.is_some(), ..report }
}

/// Whether the request that asked last belongs to the update that now takes away what was there before.
fn is_made_anew(chain: &[StackStatus], intent: &Intent) -> bool {
    let [stack, ..] = chain else { return false };
    let is_of_update = intent.issued.zip(stack.updated).is_some_and(|(issued, updated)| updated <= issued);
    is_of_update && intent.kept.is_none() && stack.status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
}

/// When CloudFormation signed the URL: `X-Amz-Date`, as in `20221123T175915Z`.
fn issued_at(url: &str) -> Option<SystemTime> {
    let (_, query) = url.split_once('?')?;
    let date = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Date="))?;
    let mut date = Some(date.to_owned()).filter(|date| date.len() == 16 && date.is_ascii())?;
    for (at, sign) in [(13, ':'), (11, ':'), (6, '-'), (4, '-')] {
        date.insert(at, sign);
    }
    humantime::parse_rfc3339(&date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issue_time_is_read_from_the_url() {
        let read = |query: &str| issued_at(&format!("https://bucket/arn%3Aaws%7Ciso?{query}"));
        let expected = humantime::parse_rfc3339("2022-11-23T17:59:15Z").unwrap();
        assert_eq!(read("X-Amz-Algorithm=x&X-Amz-Date=20221123T175915Z&X-Amz-Expires=7200"), Some(expected));
        for unusable in [
            "AWSAccessKeyId=x&Expires=1&Signature=y",
            "X-Amz-Date=",
            "X-Amz-Date=yesterday",
            "X-Amz-Date=20229923T175915Z",
            "X-Amz-Date=2022é123T175915Z",
        ] {
            assert_eq!(read(unusable), None, "{unusable}");
        }
        assert_eq!(issued_at("no url at all"), None);
    }

    #[test]
    fn a_request_says_what_failed_what_is_open_and_how_long_it_took() {
        let count = Metric::count;
        let whole = Report {
            isolated_interface_count: 2,
            contained_after: Some(Duration::from_millis(1_500)),
            ..Report::default()
        };
        let said = figures(&whole, Duration::from_secs(3));
        let expected =
            vec![count("FailedRequests", 0), count("NotIsolated", 0), Metric::seconds("SecondsToContain", 4.5)];
        assert_eq!(said, expected);
        let open = vec!["i-0a".to_owned(), "i-0b eni-0b".to_owned()];
        let none = Report { failed: true, not_isolated: open, ..Report::default() };
        assert_eq!(figures(&none, Duration::ZERO), [count("FailedRequests", 1), count("NotIsolated", 2)]);
        // A Delete, or a request that changed nothing, says nothing of what is isolated.
        let kept = Report { kept: Some(3), ..Report::default() };
        assert_eq!(figures(&kept, Duration::ZERO), [count("FailedRequests", 0), count("Kept", 3)]);
        assert_eq!(figures(&Report::failure("no"), Duration::ZERO), [count("FailedRequests", 1)]);
    }
}
