//! A small world in memory: EC2 with the refusals that matter, the records table with its conditions, stacks, and a
//! call log. Every call takes one second of (paused) time, so that sequential round trips can be read off the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ec2_isolation::answer::Answer;
use ec2_isolation::model::{
    Desired, Group, Groups, Instance, InstanceId, Intent, Interface, InterfaceId, Owner, Record, Role, Snapshot,
    SnapshotId, Snapshots, State, VolumeId,
};
use ec2_isolation::plan::{Prior, StackStatus};
use ec2_isolation::ports::{
    Call, CallError, Change, Fault, GroupQuery, Ledger, Look, Originals, Records, Reply, Stacks, Undelivered, Written,
};
use ec2_isolation::reconcile::Ports;
use tokio::time::Instant;

// Those of the events in events/.
pub const STACK: &str =
    "arn:aws:cloudformation:us-east-1:123456789012:stack/incident-2026-11-25/6f9a1d20-c9c4-11f1-8e0b-0affc2d7a3f1";
pub const VPC: &str = "vpc-0123456789abcdef0";
pub const ISOLATION: &str = "sg-0a11ce0150a7ed000";

/// What a test wants to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Fails(Fault),
    /// The call panics, after it was carried out.
    Panics,
    /// The call is never answered.
    Hangs,
    /// The call takes its thread for three seconds.
    Blocks,
}

#[derive(Debug)]
pub struct Data {
    pub instances: BTreeMap<InstanceId, Instance>,
    pub groups: BTreeMap<ec2_isolation::model::GroupId, Group>,
    pub records: BTreeMap<InstanceId, Record>,
    pub intents: BTreeMap<String, (Intent, BTreeSet<String>)>,
    pub snapshots: Vec<Snapshot>,
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
    pub stacks: BTreeMap<String, StackStatus>,
    /// Interfaces that EC2 lets nobody change.
    pub refused: BTreeSet<InterfaceId>,
    /// What describe calls still show, and how often.
    stale: BTreeMap<InterfaceId, (Groups, u32)>,
    pub stale_reads: u32,
    /// Calls that go wrong, by their number.
    pub troubles: BTreeMap<usize, Trouble>,
    /// Every call with this action goes wrong.
    pub always: Option<(&'static str, Fault)>,
    /// Why no answer is accepted.
    pub undelivered: Option<Undelivered>,
    /// The URL of the last answer.
    pub url: String,
    pub calls: Vec<(&'static str, String)>,
    pub swapped_at: Vec<Duration>,
    pub answers: Vec<Answer>,
    start: Instant,
}

/// Shared by the ports and the test.
#[derive(Debug, Clone)]
pub struct World(Arc<Mutex<Data>>);

pub fn groups(ids: &[&str]) -> Groups {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

impl World {
    /// A VPC with an isolation group of the stack, groups `sg-0a` to `sg-0d`, and no instance.
    pub fn new() -> Self {
        let vpc = Some(VPC.parse().unwrap());
        let plain = |id: &str| Group {
            id: id.parse().unwrap(),
            vpc: vpc.clone(),
            role: None,
            stack_id: None,
            ingress: vec![],
            egress: vec![],
        };
        let isolation = Group { role: Some(Role::Isolation), stack_id: Some(STACK.to_owned()), ..plain(ISOLATION) };
        let all = ["sg-0a", "sg-0b", "sg-0c", "sg-0d"].map(plain).into_iter().chain([isolation]);
        let status = StackStatus { status: "DELETE_IN_PROGRESS".into(), reason: String::new(), parent: None };
        Self(Arc::new(Mutex::new(Data {
            instances: BTreeMap::new(),
            groups: all.map(|group| (group.id.clone(), group)).collect(),
            records: BTreeMap::new(),
            intents: BTreeMap::new(),
            snapshots: vec![],
            tags: BTreeMap::new(),
            stacks: [(STACK.to_owned(), status)].into(),
            refused: BTreeSet::new(),
            stale: BTreeMap::new(),
            stale_reads: 1,
            troubles: BTreeMap::new(),
            always: None,
            undelivered: None,
            url: String::new(),
            calls: vec![],
            swapped_at: vec![],
            answers: vec![],
            start: Instant::now(),
        })))
    }

    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn ports(&self) -> Arc<Ports<World, World, World>> {
        Arc::new(Ports { ec2: self.clone(), records: self.clone(), stacks: self.clone() })
    }

    pub fn add(&self, id: &str, vpc: &str, interfaces: &[(&str, &[&str])]) {
        let interfaces = interfaces.iter().map(|(id, ids)| Interface {
            id: id.parse().unwrap(),
            groups: groups(ids),
            tags: BTreeMap::new(),
        });
        let volume = format!("vol-{}", id.trim_start_matches("i-"));
        let instance = Instance {
            id: id.parse().unwrap(),
            state: "running".to_owned(),
            vpc: Some(vpc.parse().unwrap()),
            interfaces: interfaces.collect(),
            volumes: [(volume.parse().unwrap(), "/dev/sda1".to_owned())].into(),
            tags: BTreeMap::new(),
        };
        self.data().instances.insert(instance.id.clone(), instance);
    }

    pub fn set_status(&self, status: &str) {
        self.data().stacks.get_mut(STACK).unwrap().status = status.to_owned();
    }

    /// The groups of every interface, as they really are.
    pub fn cards(&self) -> BTreeMap<String, Groups> {
        let data = self.data();
        let interfaces = data.instances.values().flat_map(|instance| &instance.interfaces);
        interfaces.map(|interface| (interface.id.to_string(), interface.groups.clone())).collect()
    }

    pub fn state(&self, instance: &str) -> Option<State> {
        self.data().records.get(&instance.parse().unwrap()).map(|record| record.state)
    }

    pub fn count(&self, action: &str) -> usize {
        self.data().calls.iter().filter(|(called, _)| *called == action).count()
    }

    /// Carries a call out: a second passes, then it goes wrong or `act` happens.
    async fn call<T>(&self, action: &'static str, what: String, act: impl FnOnce(&mut Data) -> Call<T>) -> Call<T> {
        let trouble = {
            let mut data = self.data();
            data.calls.push((action, what));
            let n = data.calls.len();
            let always = data.always.filter(|(always, _)| *always == action).map(|(_, fault)| Trouble::Fails(fault));
            data.troubles.remove(&n).or(always)
        };
        if trouble != Some(Trouble::Blocks) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        match trouble {
            None => act(&mut self.data()),
            Some(Trouble::Fails(fault)) => {
                Err(CallError { action, fault, code: format!("{fault:?}"), message: "a test wants it".to_owned() })
            }
            Some(Trouble::Hangs) => std::future::pending().await,
            Some(Trouble::Blocks) => {
                std::thread::sleep(Duration::from_secs(3));
                act(&mut self.data())
            }
            Some(Trouble::Panics) => {
                let _ = act(&mut self.data());
                panic!("a test wants it")
            }
        }
    }
}

impl Data {
    /// What describe calls show of an interface.
    fn shown(&mut self, interface: &Interface) -> Interface {
        let mut shown = interface.clone();
        shown.tags = self.tags.get(interface.id.as_str()).cloned().unwrap_or_default();
        if let Some((old, left)) = self.stale.get_mut(&interface.id) {
            if *left > 0 {
                *left -= 1;
                shown.groups = old.clone();
            } else {
                self.stale.remove(&interface.id);
            }
        }
        shown
    }

    fn held(&mut self, owner: &Owner, instance: &InstanceId) -> Option<&mut Record> {
        self.records.get_mut(instance).filter(|record| record.owner == *owner && record.state != State::Restored)
    }
}

fn refusal<T>(action: &'static str, fault: Fault, code: &str) -> Call<T> {
    Err(CallError { action, fault, code: code.to_owned(), message: "as EC2 does".to_owned() })
}

impl Look for World {
    async fn instances(&self, ids: &BTreeSet<InstanceId>) -> Call<Vec<Instance>> {
        let what = ids.len().to_string();
        self.call("ec2:DescribeInstances", what, |data| {
            let found: Vec<Instance> = ids.iter().filter_map(|id| data.instances.get(id).cloned()).collect();
            let shown = found.into_iter().map(|mut instance| {
                instance.interfaces = instance.interfaces.iter().map(|interface| data.shown(interface)).collect();
                instance.tags = data.tags.get(instance.id.as_str()).cloned().unwrap_or_default();
                instance
            });
            Ok(shown.collect())
        })
        .await
    }

    async fn interfaces(&self, ids: &BTreeSet<InterfaceId>) -> Call<Vec<Interface>> {
        self.call("ec2:DescribeNetworkInterfaces", ids.len().to_string(), |data| {
            let all = data.instances.values().flat_map(|instance| instance.interfaces.clone());
            let found: Vec<Interface> = all.filter(|interface| ids.contains(&interface.id)).collect();
            Ok(found.iter().map(|interface| data.shown(interface)).collect())
        })
        .await
    }

    async fn groups(&self, query: &GroupQuery) -> Call<Vec<Group>> {
        self.call("ec2:DescribeSecurityGroups", format!("{query:?}"), |data| {
            let wanted = |group: &&Group| match query {
                GroupQuery::Marked(vpc) => group.role.is_some() && group.vpc.as_ref() == Some(vpc),
                GroupQuery::Ids(ids) => ids.contains(&group.id),
            };
            Ok(data.groups.values().filter(wanted).cloned().collect())
        })
        .await
    }

    async fn snapshots(&self, episodes: &BTreeSet<String>) -> Call<Vec<Snapshot>> {
        if episodes.is_empty() {
            return Ok(vec![]);
        }
        self.call("ec2:DescribeSnapshots", episodes.len().to_string(), |data| {
            Ok(data.snapshots.iter().filter(|snapshot| episodes.contains(&snapshot.episode)).cloned().collect())
        })
        .await
    }
}

impl Change for World {
    async fn set_groups(&self, interface: &InterfaceId, groups: &Groups) -> Call<()> {
        let action = "ec2:ModifyNetworkInterfaceAttribute";
        self.call(action, interface.to_string(), |data| {
            if data.refused.contains(interface) {
                return refusal(action, Fault::Denied, "AuthFailure");
            }
            if !groups.iter().all(|group| data.groups.contains_key(group)) {
                return refusal(action, Fault::Refused, "InvalidGroup.NotFound");
            }
            let swapped = data.start.elapsed();
            let stale_reads = data.stale_reads;
            let mut interfaces = data.instances.values_mut().flat_map(|instance| &mut instance.interfaces);
            let Some(found) = interfaces.find(|found| found.id == *interface) else {
                return refusal(action, Fault::Refused, "InvalidNetworkInterfaceID.NotFound");
            };
            let old = std::mem::replace(&mut found.groups, groups.clone());
            data.stale.insert(interface.clone(), (old, stale_reads));
            data.swapped_at.push(swapped);
            Ok(())
        })
        .await
    }

    async fn tag(&self, resources: &BTreeSet<String>, tags: &BTreeMap<String, String>) -> Call<()> {
        self.call("ec2:CreateTags", format!("{resources:?}"), |data| {
            for resource in resources {
                data.tags.entry(resource.clone()).or_default().extend(tags.clone());
            }
            Ok(())
        })
        .await
    }

    async fn untag(&self, resources: &BTreeSet<String>, keys: &BTreeSet<String>) -> Call<()> {
        self.call("ec2:DeleteTags", format!("{resources:?}"), |data| {
            for resource in resources {
                if let Some(tags) = data.tags.get_mut(resource) {
                    tags.retain(|key, _| !keys.contains(key));
                }
            }
            data.tags.retain(|_, tags| !tags.is_empty());
            Ok(())
        })
        .await
    }

    async fn take_snapshots(
        &self,
        instance: &InstanceId,
        tags: &BTreeMap<String, String>,
    ) -> Call<BTreeMap<VolumeId, SnapshotId>> {
        self.call("ec2:CreateSnapshots", instance.to_string(), |data| {
            let volumes: Vec<VolumeId> = data.instances[instance].volumes.keys().cloned().collect();
            let episode = tags["ec2-isolation:episode"].clone();
            let set = volumes.into_iter().map(|volume| {
                let id: SnapshotId = format!("snap-{:x}", 0x10 + data.snapshots.len()).parse().unwrap();
                let snapshot =
                    Snapshot { id: id.clone(), volume: volume.clone(), episode: episode.clone(), failed: false };
                data.snapshots.push(snapshot);
                (volume, id)
            });
            Ok(set.collect())
        })
        .await
    }
}

impl Records for World {
    async fn read(&self) -> Call<Ledger> {
        self.call("dynamodb:Scan", String::new(), |data| {
            let intents = data.intents.iter().map(|(key, (intent, _))| (key.clone(), intent.clone()));
            Ok(Ledger { records: data.records.clone(), intents: intents.collect(), unreadable: BTreeMap::new() })
        })
        .await
    }

    async fn write_intent(&self, owner: &Owner, request_id: &str, desired: &Desired, _now: &str) -> Call<Intent> {
        self.call("dynamodb:UpdateItem", format!("intent {request_id}"), |data| {
            let new = Intent { request_id: request_id.to_owned(), desired: desired.clone(), kept: None };
            let (now, seen) = data.intents.entry(owner.digest()).or_insert_with(|| (new.clone(), BTreeSet::new()));
            if seen.insert(request_id.to_owned()) || now.request_id == request_id {
                *now = new;
            }
            Ok(now.clone())
        })
        .await
    }

    async fn write_kept(&self, owner: &Owner, reason: &str, _now: &str) -> Call<()> {
        self.call("dynamodb:UpdateItem", "kept".to_owned(), |data| {
            if let Some((intent, _)) = data.intents.get_mut(&owner.digest()) {
                intent.kept = Some(reason.to_owned());
            }
            Ok(())
        })
        .await
    }

    async fn record(&self, originals: &Originals<'_>) -> Call<Written> {
        self.call("dynamodb:PutItem", originals.instance.to_string(), |data| {
            let holder = match originals.prior {
                Prior::None => {
                    let free =
                        data.records.get(originals.instance).is_none_or(|record| record.state == State::Restored);
                    if free {
                        let record = Record {
                            instance: originals.instance.clone(),
                            owner: originals.owner.clone(),
                            state: State::Isolating,
                            vpc: originals.vpc.clone(),
                            isolation_group: originals.isolation_group.clone(),
                            interfaces: originals.interfaces.clone(),
                            recorded_at: originals.now.to_owned(),
                            snapshots: Snapshots::None,
                        };
                        data.records.insert(originals.instance.clone(), record);
                        return Ok(Written::Done);
                    }
                    return Ok(Written::Lost);
                }
                Prior::Ours => originals.owner,
                Prior::Of(holder) => holder,
            };
            let Some(record) = data.held(holder, originals.instance) else { return Ok(Written::Lost) };
            record.owner = originals.owner.clone();
            record.state = State::Isolating;
            record.isolation_group = originals.isolation_group.clone();
            for (interface, groups) in originals.interfaces {
                record.interfaces.entry(interface.clone()).or_insert_with(|| groups.clone());
            }
            Ok(Written::Done)
        })
        .await
    }

    async fn mark(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        state: State,
        _: Option<&str>,
        _: &str,
    ) -> Call<Written> {
        self.call("dynamodb:UpdateItem", format!("{instance} {}", state.as_str()), |data| {
            let Some(record) = data.held(owner, instance) else { return Ok(Written::Lost) };
            record.state = state;
            Ok(Written::Done)
        })
        .await
    }

    async fn request_snapshots(&self, owner: &Owner, instance: &InstanceId, _now: &str) -> Call<Written> {
        self.call("dynamodb:UpdateItem", format!("{instance} requested"), |data| {
            let Some(record) = data.held(owner, instance) else { return Ok(Written::Lost) };
            if record.snapshots == Snapshots::None {
                record.snapshots = Snapshots::Requested;
            }
            Ok(Written::Done)
        })
        .await
    }

    async fn save_snapshots(
        &self,
        owner: &Owner,
        instance: &InstanceId,
        snapshots: &BTreeMap<VolumeId, SnapshotId>,
        _now: &str,
    ) -> Call<Written> {
        self.call("dynamodb:UpdateItem", format!("{instance} snapshots"), |data| {
            let Some(record) = data.held(owner, instance) else { return Ok(Written::Lost) };
            record.snapshots = Snapshots::Taken(snapshots.clone());
            Ok(Written::Done)
        })
        .await
    }
}

impl Stacks for World {
    async fn status(&self, stack_id: &str) -> Call<StackStatus> {
        let action = "cloudformation:DescribeStacks";
        self.call(action, stack_id.to_owned(), |data| match data.stacks.get(stack_id) {
            Some(status) => Ok(status.clone()),
            None => refusal(action, Fault::Refused, "ValidationError"),
        })
        .await
    }
}

impl Reply for World {
    async fn send(self, answer: Answer) -> Result<(), Undelivered> {
        let mut data = self.data();
        data.answers.push(answer);
        data.undelivered.clone().map_or(Ok(()), Err)
    }
}
