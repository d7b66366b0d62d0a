//! The reads that plans are made from, batched: however many instances ask, one call answers all who wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::model::{
    Attributes, Branch, CallError, Group, GroupId, Groups, Instance, InstanceId, Intent, Interface, InterfaceId, Lock,
    Member, Owner, PROTECTING, Profile, Record, Snapshot, SnapshotId, VolumeId, VpcId,
};
use crate::plan::{Needs, Observed, Records as Known};
use crate::ports::{Call, GroupQuery, Look, Records};
use crate::timing::gather::Gather;
use crate::timing::pace::Pace;

/// Ids in one call.
const AT_ONCE: usize = 100;
/// Instances whose attributes are read at once, with a call for each attribute.
const INSPECTED_AT_ONCE: usize = 10;
/// The groups of ours are listed within this, or they are looked up by their ids: containment waits for no listing.
const LISTED: Duration = Duration::from_secs(2);
/// A turn that was taken is good for so long.
const KEPT: Duration = Duration::from_secs(4);
/// However many ask, they share a call.
const ALL: usize = usize::MAX;

type Found<K, V> = BTreeMap<K, V>;
type Batch<K, V> = Gather<BTreeSet<K>, Call<Found<K, V>>>;

/// An item of the records table, or why it is no record.
pub type Item = Result<Arc<Record>, String>;

/// Reads for all instances of one invocation.
#[derive(Debug)]
pub struct Observer<'a, E, R> {
    pub ec2: &'a E,
    pub records: &'a R,
    pub owner: &'a Owner,
    pub pace: &'a Pace,
    batches: Batches,
    inspecting: Semaphore,
    /// Groups that are taken for there, and not asked for: a rehearsal needs them before their stack is made.
    pub imagined: &'a [Group],
    /// As it was read last.
    intent: Mutex<Option<Intent>>,
    /// Every record as it was read last.
    known: Mutex<Arc<Known>>,
    /// Groups of ours by VPC, listed once only. `None` where that was not to be had.
    known_marked: Mutex<BTreeMap<VpcId, Option<Vec<Group>>>>,
}

/// Who waits for which reading.
#[derive(Debug, Default)]
struct Batches {
    instances: Batch<InstanceId, Instance>,
    interfaces: Batch<InterfaceId, Interface>,
    items: Batch<InstanceId, Item>,
    groups: Batch<GroupId, Group>,
    marked: Batch<VpcId, Vec<Group>>,
    snapshots: Batch<String, Vec<Snapshot>>,
    lost: Batch<SnapshotId, Snapshot>,
    locks: Batch<SnapshotId, Lock>,
    volumes: Batch<VolumeId, BTreeMap<String, String>>,
    branches: Batch<InterfaceId, Vec<Branch>>,
    members: Batch<InstanceId, Member>,
    profiles: Batch<InstanceId, Profile>,
}

/// What was read of one instance before anything else of it could be.
#[derive(Debug)]
pub struct Base {
    pub instance: Option<Instance>,
    pub item: Option<Item>,
    pub groups: Vec<Group>,
}

/// What of the protections of one instance is known.
#[derive(Debug, Default)]
pub struct Inspection {
    attributes: Option<Option<Attributes>>,
    /// When it is their turn to be read, where EC2 has no token for it before.
    turn: Option<Instant>,
    /// It was not their turn yet when the last look wanted them.
    pub is_late: bool,
    /// What could not be read at the last look, and why.
    pub unread: BTreeMap<String, CallError>,
}

impl Inspection {
    /// A new look begins.
    pub fn begin(&mut self) {
        self.unread.clear();
        self.is_late = false;
    }

    /// The attributes were changed: they are read again.
    pub fn forget(&mut self) {
        self.attributes = None;
    }
}

async fn read<K, V, F>(batch: &Batch<K, V>, keys: BTreeSet<K>, fetch: impl Fn(BTreeSet<K>) -> F) -> Call<Found<K, V>>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    F: Future<Output = Call<Found<K, V>>> + Send,
{
    if keys.is_empty() {
        return Ok(Found::new());
    }
    batch.ask(keys, ALL, |asked| portions(asked, &fetch)).await
}

/// Answers every set of keys from as few calls as it takes. A portion that fails is missing to those who asked for it only.
async fn portions<K, V, F>(asked: Vec<BTreeSet<K>>, fetch: impl Fn(BTreeSet<K>) -> F) -> Vec<Call<Found<K, V>>>
where
    K: Ord + Clone,
    V: Clone,
    F: Future<Output = Call<Found<K, V>>>,
{
    let all: Vec<K> = asked.iter().flatten().cloned().collect::<BTreeSet<K>>().into_iter().collect();
    let portions: Vec<BTreeSet<K>> = all.chunks(AT_ONCE).map(|keys| keys.iter().cloned().collect()).collect();
    let results = join_all(portions.iter().map(|portion| fetch(portion.clone()))).await;
    let answer = |keys: BTreeSet<K>| {
        let mut found = Found::new();
        for (portion, result) in portions.iter().zip(&results) {
            if portion.is_disjoint(&keys) {
                continue;
            }
            match result {
                Ok(items) => found
                    .extend(items.iter().filter(|(key, _)| keys.contains(key)).map(|(k, v)| (k.clone(), v.clone()))),
                Err(error) => return Err(error.clone()),
            }
        }
        Ok(found)
    };
    asked.into_iter().map(answer).collect()
}

fn index<K: Ord, V>(items: Call<Vec<V>>, key: impl Fn(&V) -> K) -> Call<Found<K, V>> {
    Ok(items?.into_iter().map(|item| (key(&item), item)).collect())
}

fn sort_by<K: Ord + Clone, V>(
    keys: &BTreeSet<K>,
    items: Call<Vec<V>>,
    key: impl Fn(&V) -> K,
) -> Call<Found<K, Vec<V>>> {
    let mut found: Found<K, Vec<V>> = keys.iter().map(|key| (key.clone(), vec![])).collect();
    for item in items? {
        found.entry(key(&item)).or_default().push(item);
    }
    Ok(found)
}

/// What was read. If it could not be, the reason is noted under `what`.
fn noted<T>(unread: &mut BTreeMap<String, CallError>, what: impl Into<String>, read: Call<T>) -> Option<T> {
    read.map_err(|error| unread.insert(what.into(), error)).ok()
}

impl<'a, E: Look, R: Records> Observer<'a, E, R> {
    #[must_use]
    pub fn new(ec2: &'a E, records: &'a R, owner: &'a Owner, pace: &'a Pace) -> Self {
        Self {
            ec2,
            records,
            owner,
            pace,
            batches: Batches::default(),
            inspecting: Semaphore::new(INSPECTED_AT_ONCE),
            imagined: &[],
            intent: Mutex::default(),
            known: Mutex::default(),
            known_marked: Mutex::default(),
        }
    }

    /// The instance, its item and these groups, in one round trip. The intent is read along.
    ///
    /// # Errors
    /// One of the calls failed.
    pub async fn base(&self, id: &InstanceId, groups: &Groups, marked: &BTreeSet<VpcId>) -> Call<Base> {
        let ids = BTreeSet::from([id.clone()]);
        let reading = async {
            tokio::try_join!(self.instances(ids.clone()), self.items(ids.clone()), self.groups(groups.clone()))
        };
        let (reading, marked) = tokio::join!(reading, self.marked(marked));
        let (mut instances, mut items, named) = reading?;
        let groups =
            marked.into_iter().filter(|group| !groups.contains(&group.id)).chain(named.into_values()).collect();
        Ok(Base { instance: instances.remove(id), item: items.remove(id), groups })
    }

    /// Adds to `observed` what is needed of `id`. What protects the instance and its evidence is no reason to fail: it is left
    /// out, and named.
    ///
    /// # Errors
    /// One of the other calls failed.
    pub async fn more(
        &self,
        id: &InstanceId,
        needs: &Needs,
        inspection: &mut Inspection,
        observed: &mut Observed,
    ) -> Call<()> {
        let interfaces = read(&self.batches.interfaces, needs.interfaces.clone(), |ids| async move {
            index(self.ec2.interfaces(&ids).await, |interface| interface.id.clone())
        });
        let (groups, instances) = (self.groups(needs.groups.clone()), self.instances(needs.instances.clone()));
        let reading = async { tokio::try_join!(interfaces, groups, instances) };
        let inspecting = self.inspect(id, needs, inspection, observed);
        let (reading, marked, ()) = tokio::join!(reading, self.marked(&needs.marked), inspecting);
        let (interfaces, groups, instances) = reading?;
        observed.instances.extend(instances);
        observed.interfaces.extend(interfaces);
        observed.looked_up.extend(needs.interfaces.iter().cloned());
        observed.groups.extend(marked.into_iter().map(|group| (group.id.clone(), group)));
        observed.groups.retain(|id, _| !needs.groups.contains(id));
        observed.groups.extend(groups);
        observed.is_inspected |= needs.inspects;
        Ok(())
    }

    /// The intent as it was read last.
    pub fn last_intent(&self) -> Option<Intent> {
        self.intent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The records of all instances that were asked for, as they were read last.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the intent, and the records of these instances.
    ///
    /// # Errors
    /// The call failed.
    pub async fn items(&self, ids: BTreeSet<InstanceId>) -> Call<Found<InstanceId, Item>> {
        let fetch = |ids: BTreeSet<InstanceId>| async move {
            let read = self.records.read(self.owner, &ids).await?;
            let intent = read.intents.get(&self.owner.digest()).cloned();
            *self.intent.lock().unwrap_or_else(PoisonError::into_inner) = intent;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let records = Arc::make_mut(&mut known);
            records.retain(|id, _| !ids.contains(id));
            records.extend(read.records.clone());
            drop(known);
            let records = read.records.into_iter().map(|(id, record)| (id, Ok(record)));
            let unreadable = read.unreadable.into_iter();
            let unreadable = unreadable.filter_map(|(key, reason)| Some((key.parse().ok()?, Err(reason))));
            Ok(records.chain(unreadable).collect())
        };
        read(&self.batches.items, ids, fetch).await
    }

    async fn instances(&self, ids: BTreeSet<InstanceId>) -> Call<Found<InstanceId, Instance>> {
        read(&self.batches.instances, ids, |ids| async move {
            index(self.ec2.instances(&ids).await, |instance| instance.id.clone())
        })
        .await
    }

    async fn groups(&self, mut ids: Groups) -> Call<Found<GroupId, Group>> {
        let imagined = self.imagined.iter().filter(|group| ids.remove(&group.id));
        let imagined: Vec<_> = imagined.map(|group| (group.id.clone(), group.clone())).collect();
        let found = read(&self.batches.groups, ids, |ids| async move {
            index(self.ec2.groups(&GroupQuery::Ids(ids)).await, |group| group.id.clone())
        });
        Ok(found.await?.into_iter().chain(imagined).collect())
    }

    /// The groups of ours in these VPCs, as far as a listing of them is to be had.
    async fn marked(&self, vpcs: &BTreeSet<VpcId>) -> Vec<Group> {
        let unknown: BTreeSet<VpcId> = {
            let known = self.known_marked();
            vpcs.iter().filter(|vpc| !known.contains_key(*vpc)).cloned().collect()
        };
        let reading = read(&self.batches.marked, unknown.clone(), |vpcs| async move {
            let reads = vpcs.into_iter().map(|vpc| async move {
                let groups = self.ec2.groups(&GroupQuery::Marked(vpc.clone())).await?;
                Ok((vpc, groups))
            });
            join_all(reads).await.into_iter().collect()
        });
        let found = tokio::time::timeout(LISTED, reading).await;
        let mut known = self.known_marked();
        match found {
            Ok(Ok(found)) => known.extend(found.into_iter().map(|(vpc, groups)| (vpc, Some(groups)))),
            missing => {
                let error = missing.ok().and_then(Result::err).map(|error| error.to_string());
                tracing::warn!(error, "the groups of ours are not listed: they are looked up by their ids");
                known.extend(unknown.into_iter().map(|vpc| (vpc, None)));
            }
        }
        known.iter().filter(|(vpc, _)| vpcs.contains(*vpc)).filter_map(|(_, found)| found.clone()).flatten().collect()
    }

    /// Whether the groups of ours in this VPC were to be listed, and were not.
    pub fn lacks_listing(&self, vpc: &VpcId) -> bool {
        self.known_marked().get(vpc).is_some_and(Option::is_none)
    }

    fn known_marked(&self) -> MutexGuard<'_, BTreeMap<VpcId, Option<Vec<Group>>>> {
        self.known_marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn inspect(&self, id: &InstanceId, needs: &Needs, inspection: &mut Inspection, observed: &mut Observed) {
        let one = |wanted: bool| if wanted { BTreeSet::from([id.clone()]) } else { BTreeSet::new() };
        let (found, snapshots, lost, in_groups, with_profiles, of_trunks, locks, tags) = tokio::join!(
            self.attributes(
                id,
                needs.attributes && inspection.attributes.is_none(),
                (&mut inspection.turn, &mut inspection.is_late)
            ),
            read(&self.batches.snapshots, needs.episode.clone().into_iter().collect(), |episodes| async move {
                sort_by(&episodes, self.ec2.snapshots(&episodes).await, |snapshot| snapshot.episode.clone())
            }),
            read(&self.batches.lost, needs.snapshots.clone(), |ids| async move {
                let found = self.ec2.snapshots_by_id(&ids).await?;
                Ok(found.into_iter().map(|snapshot| (snapshot.id.clone(), snapshot)).collect())
            }),
            read(&self.batches.members, one(needs.members), |ids| async move { self.ec2.members(&ids).await }),
            read(&self.batches.profiles, one(needs.profiles), |ids| async move { self.ec2.profiles(&ids).await }),
            read(&self.batches.branches, needs.trunks.clone(), |trunks| async move {
                sort_by(&trunks, self.ec2.branches(&trunks).await, |branch| branch.trunk.clone())
            }),
            read(&self.batches.locks, needs.locks.clone(), |ids| async move { self.ec2.locks(&ids).await }),
            read(&self.batches.volumes, needs.volumes.clone(), |ids| async move { self.ec2.volume_tags(&ids).await }),
        );
        let unread = &mut inspection.unread;
        match found.and_then(|found| noted(unread, format!("the attributes of {id}"), found)) {
            // One reading that does not know the instance is read again.
            Some(None) => drop(observed.attributes.insert(id.clone(), None)),
            None => {}
            found => inspection.attributes = found,
        }
        if let Some(found) = noted(unread, format!("the snapshots of {id}"), snapshots) {
            observed.has_snapshots |= needs.episode.is_some();
            observed.snapshots.extend(found.into_values().flatten());
        }
        if let Some(found) = noted(unread, format!("the snapshots of {id}"), lost) {
            observed.sought.extend(needs.snapshots.iter().cloned());
            observed.snapshots.extend(found.into_values());
        }
        // What an earlier look read of these stays.
        let found = noted(unread, "membership of Auto Scaling groups", in_groups).filter(|_| needs.members);
        observed.members = found.or(observed.members.take());
        let found = noted(unread, "instance profiles", with_profiles).filter(|_| needs.profiles);
        observed.profiles = found.or(observed.profiles.take());
        let found = noted(unread, crate::plan::branches_unknown(&needs.trunks), of_trunks);
        observed.branches.extend(found.into_iter().flatten());
        if let Some(mut found) = noted(unread, format!("the locks of the snapshots of {id}"), locks) {
            observed.locks.extend(needs.locks.iter().map(|id| (id.clone(), found.remove(id))));
        }
        match tags {
            Ok(found) => observed.volume_tags.extend(found),
            // They are for people: nobody waits for them.
            Err(error) => tracing::warn!(instance = %id, %error, "the tags of its volumes cannot be read"),
        }
        if let Some(known) = inspection.attributes.filter(|_| needs.attributes) {
            observed.attributes.insert(id.clone(), known);
        }
    }

    /// Nothing while it is not their turn: no look waits for that.
    async fn attributes(
        &self,
        id: &InstanceId,
        is_needed: bool,
        (turn, is_late): (&mut Option<Instant>, &mut bool),
    ) -> Option<Call<Option<Attributes>>> {
        if !is_needed {
            return None;
        }
        let reserve = || PROTECTING.map(|_| self.pace.reserve("ec2:DescribeInstanceAttribute")).into_iter().max();
        // EC2's bucket is full by then, and keeps no turn for longer.
        turn.take_if(|at| at.elapsed() > KEPT);
        let at = *turn.get_or_insert_with(|| Instant::now() + reserve().unwrap_or_default());
        if Instant::now() < at {
            *is_late = true;
            return None;
        }
        *turn = None;
        let _turn = self.inspecting.acquire().await.ok()?;
        Some(self.ec2.attributes(id).await)
    }
}
