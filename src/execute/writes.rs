//! Writes that are batched: a call that is refused is split until the refusal names the one that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Executor;
use crate::model::{Fault, Groups, InstanceId, Intent, InterfaceId, Lease, Owner};
use crate::plan::Originals;
use crate::ports::{Call, Change, Look, RECORDED_AT_ONCE, Records, Stamp, Written};
use crate::timing::gather::Gather;

/// `CreateTags` and `DeleteTags` take at most 1,000 resources.
const TAGGED_AT_ONCE: usize = 1000;
/// `EnterStandby` and `ExitStandby` take up to 20 instances (Auto Scaling API reference).
const MOVED_AT_ONCE: usize = 20;
const ALL: usize = usize::MAX;

type Tags = BTreeMap<String, String>;

/// What waits to be sent together.
#[derive(Debug, Default)]
pub(super) struct Writes {
    records: Gather<(Originals, Lease), Call<Written>>,
    intents: Gather<(), Call<Option<Intent>>>,
    tags: Gather<(Arc<Tags>, String), Call<()>>,
    untags: Gather<(BTreeSet<String>, String), Call<()>>,
    moves: Gather<((String, bool), InstanceId), Call<()>>,
    looks: Gather<InterfaceId, Call<Option<Groups>>>,
}

impl Writes {
    /// The owner's intent, as it is now.
    pub(super) async fn intent<R: Records>(&self, records: &R, owner: &Owner) -> Call<Option<Intent>> {
        let read = |asked: Vec<()>| async move {
            let read = records.read(owner, &BTreeSet::new()).await;
            let intent = read.map(|mut items| items.intents.remove(&owner.digest()));
            vec![intent; asked.len()]
        };
        self.intents.ask((), ALL, read).await
    }

    /// The groups that an interface shows, read with all others who ask.
    pub(super) async fn shown<E: Look>(&self, ec2: &E, interface: &InterfaceId) -> Call<Option<Groups>> {
        let read = |asked: Vec<InterfaceId>| async move {
            let found = ec2.interfaces(&asked.iter().cloned().collect()).await;
            let groups = |id: &InterfaceId| {
                let found = found.as_ref().map_err(Clone::clone)?;
                Ok(found.iter().find(|interface| interface.id == *id).map(|interface| interface.groups.clone()))
            };
            asked.iter().map(groups).collect()
        };
        self.looks.ask(interface.clone(), ALL, read).await
    }
}

impl<E: Look + Change, R: Records> Executor<'_, E, R> {
    /// Saves originals, with those of all others who wait: records of one owner share the check of its intent.
    pub(super) async fn record(&self, originals: (Originals, Lease), stamp: &Stamp<'_>) -> Call<Written> {
        let action = "dynamodb:TransactWriteItems";
        let write = |all: Vec<(Originals, Lease)>| async move {
            let count = all.len();
            let writing =
                async { Ok(self.records.record(self.mandate.owner, self.mandate.request_id, &all, stamp).await) };
            self.pass(action, writing).await.unwrap_or_else(|error| vec![Err(error); count])
        };
        self.writes.records.ask(originals, RECORDED_AT_ONCE, write).await
    }

    pub(super) async fn tag(&self, resource: &str, tags: &Arc<Tags>) -> Call<()> {
        let (action, since) = ("ec2:CreateTags", Instant::now());
        let write = |asked| {
            alike(asked, TAGGED_AT_ONCE, move |tags: Arc<Tags>, resources: BTreeSet<String>| async move {
                self.pass_if_current(action, since, self.ec2.tag(&resources, &tags)).await
            })
        };
        self.writes.tags.ask((Arc::clone(tags), resource.to_owned()), ALL, write).await
    }

    pub(super) async fn untag(&self, resource: &str, keys: &BTreeSet<String>) -> Call<()> {
        let (action, since) = ("ec2:DeleteTags", Instant::now());
        let write = |asked| {
            alike(asked, TAGGED_AT_ONCE, move |keys: BTreeSet<String>, resources: BTreeSet<String>| async move {
                self.pass_if_current(action, since, self.ec2.untag(&resources, &keys)).await
            })
        };
        self.writes.untags.ask((keys.clone(), resource.to_owned()), ALL, write).await
    }

    /// Moves an instance into Standby of its group, or out of it.
    pub(super) async fn standby(&self, group: &str, instance: &InstanceId, enters: bool) -> Call<()> {
        let since = Instant::now();
        let write = |asked| {
            alike(
                asked,
                MOVED_AT_ONCE,
                move |(group, enters): (String, bool), instances: BTreeSet<InstanceId>| async move {
                    let (enter, exit) = ("autoscaling:EnterStandby", "autoscaling:ExitStandby");
                    match enters {
                        true => self.pass_if_current(enter, since, self.ec2.enter_standby(&group, &instances)).await,
                        false => self.pass_if_current(exit, since, self.ec2.exit_standby(&group, &instances)).await,
                    }
                },
            )
        };
        self.writes.moves.ask(((group.to_owned(), enters), instance.clone()), ALL, write).await
    }
}

/// One call for all who ask for the same of different things, and at most `most` of them; one answer each.
async fn alike<K, V, F>(asked: Vec<(K, V)>, most: usize, call: impl Fn(K, BTreeSet<V>) -> F) -> Vec<Call<()>>
where
    K: Ord + Clone,
    V: Ord + Clone,
    F: Future<Output = Call<()>>,
{
    let mut portions: Vec<(K, Vec<V>)> = Vec::new();
    let mut by_kind: BTreeMap<&K, BTreeSet<&V>> = BTreeMap::new();
    for (kind, thing) in &asked {
        by_kind.entry(kind).or_default().insert(thing);
    }
    for (kind, things) in by_kind {
        let things: Vec<V> = things.into_iter().cloned().collect();
        portions.extend(things.chunks(most).map(|portion| (kind.clone(), portion.to_vec())));
    }
    let answers = join_all(portions.into_iter().map(|(kind, things)| split(kind, things, &call))).await;
    let answers: BTreeMap<(K, V), Call<()>> = answers.into_iter().flatten().collect();
    asked.into_iter().map(|key| answers.get(&key).cloned().unwrap_or(Ok(()))).collect()
}

/// A refusal of several is asked for again in halves: one that cannot be done costs the others nothing.
async fn split<K, V, F>(kind: K, things: Vec<V>, call: impl Fn(K, BTreeSet<V>) -> F) -> Vec<((K, V), Call<()>)>
where
    K: Clone,
    V: Ord + Clone,
    F: Future<Output = Call<()>>,
{
    let (mut left, mut answers) = (vec![things], Vec::new());
    while let Some(mut things) = left.pop() {
        let result = call(kind.clone(), things.iter().cloned().collect()).await;
        let is_refused =
            result.as_ref().is_err_and(|error| error.fault.is_without_effect() && error.fault != Fault::Throttled);
        if is_refused && things.len() > 1 {
            let other = things.split_off(things.len() / 2);
            left.extend([other, things]);
        } else {
            answers.extend(things.into_iter().map(|thing| ((kind.clone(), thing), result.clone())));
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::CallError;

    #[tokio::test]
    async fn one_that_is_refused_costs_the_others_nothing() {
        let calls = Mutex::new(vec![]);
        let call = |kind: &'static str, things: BTreeSet<u32>| {
            calls.lock().unwrap().push((kind, things.iter().copied().collect::<Vec<_>>()));
            let error = CallError { action: "a:B", fault: Fault::Refused, code: "No".into(), message: String::new() };
            async move { if things.contains(&3) { Err(error) } else { Ok(()) } }
        };
        let asked = vec![("x", 1), ("x", 2), ("y", 9), ("x", 3), ("x", 4)];
        let answers = alike(asked, 1000, call).await;
        let done: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(done, [true, true, true, false, true]);
        let expected = [
            ("x", vec![1, 2, 3, 4]),
            ("x", vec![1, 2]),
            ("x", vec![3, 4]),
            ("x", vec![3]),
            ("x", vec![4]),
            ("y", vec![9]),
        ];
        let mut calls = calls.lock().unwrap().clone();
        calls.sort_by_key(|(kind, _)| *kind);
        assert_eq!(calls, expected);
    }
}
