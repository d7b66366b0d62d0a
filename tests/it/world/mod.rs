//! A small world in memory: EC2 with the refusals that matter, the records table with its conditions, stacks, and a
//! call log. Every call takes one second of (paused) time, so that sequential round trips can be read off the clock.

mod balancers;
mod data;
pub mod disks;
pub mod drill;
pub mod evidence;
pub mod identities;
mod locks;
pub mod machines;
pub mod operator;
mod ports;
mod profiles;
pub mod protection;
pub mod readings;
mod records;
pub mod scaling;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ec2_isolation::cloudformation::answer::Answer;
use ec2_isolation::cloudformation::responder::Undelivered;
use ec2_isolation::cloudformation::stack::StackStatus;
use ec2_isolation::model::{
    Branch, Group, GroupId, Groups, Instance, InstanceId, Intent, Interface, InterfaceId, Lock, Peer, Record, Role,
    Rule, ScheduledEvent, Snapshot, SnapshotId, State, Volume, VolumeId, VpcId,
};
use ec2_isolation::operator::ports::TrailEvent;
use ec2_isolation::operator::ports::approval::Question;
use ec2_isolation::operator::ports::balancers::{Target, TargetGroup};
use ec2_isolation::operator::ports::machines::Machine;
use ec2_isolation::operator::stack::{StackResource, StackTimes, StackView};
use ec2_isolation::ports::{Call, CallError, Fault, Ports};
use tokio::sync::watch;
use tokio::time::Instant;

pub use readings::Meddling;

// Those of the events in events/.
pub const STACK: &str =
    "arn:aws:cloudformation:us-east-1:123456789012:stack/incident-2026-11-25/6f9a1d20-c9c4-11f1-8e0b-0affc2d7a3f1";
pub const VPC: &str = "vpc-0123456789abcdef0";
pub const ISOLATION: &str = "sg-0a11ce0150a7ed000";
pub const TABLE: &str = "incident-SecurityGroupTable-1A2B3C";
/// The transit group of the stack.
pub const TRANSIT: &str = "sg-07a45170a7ed00000";
/// An isolation group in place of the first one, without a tag that would say so.
pub const REPLACEMENT: &str = "sg-0a11ce0150a7ed001";

/// What a test wants to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Fails(Fault),
    /// The call is carried out, and its answer is lost.
    Unanswered,
    /// The call panics, after it was carried out.
    Panics,
    /// The call is never answered.
    Hangs,
    /// The call takes its thread for three seconds.
    Blocks,
    /// The process dies before any call under way is carried out.
    Dies,
    /// The process dies after every call under way was carried out.
    DiesAfter,
}

/// Whether a process lives, and if not, what becomes of its calls that were under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Lives,
    Died,
    DiedAfter,
}

#[derive(Debug)]
pub struct Data {
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Those of which more is known than of an ordinary one, and forensic hosts.
    pub machines: BTreeMap<InstanceId, Machine>,
    /// Interfaces that no instance of these has.
    pub loose: Vec<Interface>,
    pub branches: Vec<Branch>,
    pub groups: BTreeMap<GroupId, Group>,
    /// Groups that are associated with a VPC in which they were not made.
    pub associated: BTreeSet<(GroupId, VpcId)>,
    pub records: BTreeMap<InstanceId, Record>,
    /// Intents with every request that ever was one.
    pub intents: BTreeMap<String, (Intent, BTreeSet<String>)>,
    /// Items that cannot be read, by their key, and why.
    pub unreadable: BTreeMap<String, String>,
    /// The digests of owners whose incidents are open.
    pub open: BTreeSet<String>,
    /// How long the next writing of an intent is on its way.
    pub slow_intent: Option<std::time::Duration>,
    /// Who counted a return last, and up to what.
    pub returns: BTreeMap<InstanceId, (u64, String)>,
    /// Those in whose place a record was written.
    pub set_aside: BTreeMap<String, String>,
    /// What other tables hold.
    pub tables: BTreeMap<String, records::Table>,
    /// What CloudFormation shows an operator of stacks that are not deleted.
    pub views: Vec<StackView>,
    /// When CloudFormation did what, by the ids of stacks.
    pub times: BTreeMap<String, StackTimes>,
    /// What deleted stacks have left behind, by their ids.
    pub left_behind: BTreeMap<String, Vec<StackResource>>,
    /// The service role of each stack that was made with one, by its name.
    pub service_roles: BTreeMap<String, String>,
    /// Volumes that no instance has.
    pub loose_volumes: BTreeSet<VolumeId>,
    /// Locked snapshots, and how.
    pub locks: BTreeMap<SnapshotId, Lock>,
    /// Target groups with what they list.
    pub target_groups: Vec<(TargetGroup, Vec<Target>)>,
    /// What AWS has scheduled.
    pub events: BTreeMap<InstanceId, Vec<ScheduledEvent>>,
    /// What CloudTrail has, oldest first, with the resources that it knows an event by.
    pub trail: Vec<(BTreeSet<String>, TrailEvent)>,
    /// What the trigger has asked or told, by its id.
    pub questions: BTreeMap<String, Question>,
    /// What stacks export: name and value.
    pub exports: BTreeMap<String, String>,
    /// Change sets by their names: the stack as it was, and its parameters afterwards.
    pub prepared: BTreeMap<String, (StackView, BTreeMap<String, String>)>,
    /// The interfaces at an address.
    pub addresses: BTreeMap<std::net::IpAddr, BTreeSet<InterfaceId>>,
    pub snapshots: Vec<Snapshot>,
    pub drill: drill::Drills,
    pub disks: disks::Disked,
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
    pub stacks: BTreeMap<String, StackStatus>,
    pub protections: protection::Protections,
    pub profiles: profiles::Profiles,
    pub iam: identities::Iam,
    pub scaling: BTreeMap<String, scaling::ScalingGroup>,
    /// Interfaces that EC2 lets nobody change.
    pub refused: BTreeSet<InterfaceId>,
    /// Groups that EC2 refuses to these interfaces.
    pub refused_groups: BTreeSet<(InterfaceId, GroupId)>,
    /// Resources that may not be tagged, and those whose tags may not be removed.
    pub untaggable: BTreeMap<String, (Fault, &'static str)>,
    pub not_to_be_untagged: BTreeMap<String, (Fault, &'static str)>,
    /// What describe calls still show, and how often.
    stale: BTreeMap<InterfaceId, (Groups, u32)>,
    pub stale_reads: u32,
    /// What no reading shows, and until when: instances, interfaces, groups, volumes, snapshots by their ids,
    /// records by [`readings::record`], the membership and the profile of an instance by `member i-…` and `profile i-…`.
    pub hidden: BTreeMap<String, Instant>,
    /// What changes do not find although readings show it, and until when.
    pub unseen: BTreeMap<String, Instant>,
    /// Groups that are shown with no rule but these, outwards, and until when.
    pub ruleless: BTreeMap<GroupId, (Instant, Vec<Rule>)>,
    /// What one reading, by the number of its call, does not show.
    pub hide_in_call: Option<(usize, String)>,
    hidden_now: Option<String>,
    /// What happens right before a call is carried out, by its number.
    pub before_call: BTreeMap<usize, Meddling>,
    /// The same by the action, and how many of that action come first.
    pub before_call_of: Vec<(&'static str, usize, Meddling)>,
    /// When it last happened.
    pub meddled_at: Option<Instant>,
    /// Calls that go wrong, by their number.
    pub troubles: BTreeMap<usize, Trouble>,
    /// Calls that go wrong, by how many of their action come first.
    pub troubles_of: BTreeMap<&'static str, (usize, Trouble)>,
    /// Every call with this action goes wrong.
    pub always: Option<(&'static str, Fault)>,
    /// Nothing is allowed.
    pub denies_all: bool,
    /// Every call with this action goes wrong for one interface or instance.
    pub always_on: Option<(&'static str, String, Fault)>,
    /// Every call with this action whose text holds this takes so much longer.
    pub slow: Option<(&'static str, &'static str, Duration)>,
    /// Why no answer is accepted.
    pub undelivered: Option<Undelivered>,
    /// The URL of the last answer.
    pub url: String,
    pub calls: Vec<(&'static str, String)>,
    /// When each of them was sent.
    pub called_at: Vec<Instant>,
    pub swapped_at: Vec<Duration>,
    /// The largest number of interfaces that were in the transit group at once.
    pub most_in_transit: usize,
    pub answers: Vec<Answer>,
    /// What was when each of them was sent.
    pub at_answers: Vec<readings::AtAnswer>,
    /// What readings last showed of each interface, and when.
    pub shown: BTreeMap<InterfaceId, (Instant, Groups)>,
    /// The groups that interfaces had when a test said so: changes are held against them.
    pub originals: BTreeMap<InterfaceId, Groups>,
    /// The groups that an operator gave interfaces by hand while they were recorded.
    pub moved: BTreeMap<InterfaceId, Groups>,
    /// Changes of interfaces whose originals were not in a record.
    pub violations: Vec<String>,
    /// Makes calls take from a quarter of a second to two, always the same for the same seed.
    pub jitter: Option<u64>,
    /// How long a call takes.
    pub latency: Duration,
    /// EC2's buckets, where it has them: tokens left, and when that was.
    pub buckets: Option<BTreeMap<&'static str, (f64, Instant)>>,
    /// Calls that found none, and what they were about.
    pub throttled: Vec<(&'static str, String)>,
    pub start: Instant,
}

/// Shared by the ports and the test; seen from one process.
#[derive(Debug, Clone)]
pub struct World {
    data: Arc<Mutex<Data>>,
    life: watch::Sender<Life>,
    /// The records table of these ports.
    table: String,
}

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
        let anywhere = ["0.0.0.0/0", "::/0"].map(|cidr| Rule {
            protocol: "-1".to_owned(),
            ports: None,
            peer: Peer::Cidr(cidr.to_owned()),
        });
        let transit = Group {
            role: Some(Role::Transit),
            stack_id: Some(STACK.to_owned()),
            ingress: anywhere.to_vec(),
            egress: anywhere.to_vec(),
            ..plain(TRANSIT)
        };
        let all = ["sg-0a", "sg-0b", "sg-0c", "sg-0d", REPLACEMENT].map(plain).into_iter().chain([isolation, transit]);
        let status =
            StackStatus { status: "DELETE_IN_PROGRESS".into(), reason: String::new(), parent: None, updated: None };
        let data = Data {
            instances: BTreeMap::new(),
            machines: BTreeMap::new(),
            loose: vec![],
            branches: vec![],
            associated: BTreeSet::new(),
            groups: all.map(|group| (group.id.clone(), group)).collect(),
            records: BTreeMap::new(),
            intents: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            open: BTreeSet::new(),
            slow_intent: None,
            returns: BTreeMap::new(),
            set_aside: BTreeMap::new(),
            tables: BTreeMap::new(),
            views: vec![],
            times: BTreeMap::new(),
            left_behind: BTreeMap::new(),
            service_roles: BTreeMap::new(),
            loose_volumes: BTreeSet::new(),
            locks: BTreeMap::new(),
            target_groups: vec![],
            events: BTreeMap::new(),
            trail: vec![],
            questions: BTreeMap::new(),
            exports: BTreeMap::new(),
            prepared: BTreeMap::new(),
            addresses: BTreeMap::new(),
            snapshots: vec![],
            drill: drill::Drills::default(),
            disks: disks::Disked::default(),
            tags: BTreeMap::new(),
            stacks: [(STACK.to_owned(), status)].into(),
            protections: protection::Protections::default(),
            profiles: profiles::Profiles::default(),
            iam: identities::Iam::default(),
            scaling: BTreeMap::new(),
            refused: BTreeSet::new(),
            refused_groups: BTreeSet::new(),
            untaggable: BTreeMap::new(),
            not_to_be_untagged: BTreeMap::new(),
            stale: BTreeMap::new(),
            stale_reads: 1,
            hidden: BTreeMap::new(),
            unseen: BTreeMap::new(),
            ruleless: BTreeMap::new(),
            hide_in_call: None,
            hidden_now: None,
            before_call: BTreeMap::new(),
            before_call_of: vec![],
            meddled_at: None,
            troubles: BTreeMap::new(),
            troubles_of: BTreeMap::new(),
            always: None,
            denies_all: false,
            always_on: None,
            slow: None,
            undelivered: None,
            url: String::new(),
            calls: vec![],
            called_at: vec![],
            swapped_at: vec![],
            most_in_transit: 0,
            answers: vec![],
            at_answers: vec![],
            shown: BTreeMap::new(),
            originals: BTreeMap::new(),
            moved: BTreeMap::new(),
            violations: vec![],
            jitter: None,
            latency: Duration::from_secs(1),
            buckets: None,
            throttled: vec![],
            start: Instant::now(),
        };
        Self { data: Arc::new(Mutex::new(data)), life: watch::Sender::new(Life::Lives), table: TABLE.to_owned() }
    }

    /// The same world, seen from a process of its own.
    pub fn process(&self) -> Self {
        Self { data: Arc::clone(&self.data), life: watch::Sender::new(Life::Lives), table: self.table.clone() }
    }

    fn end(&self, how: Life) {
        self.life.send_replace(how);
    }

    /// The process dies now, before or after the calls that are under way.
    pub fn kill(&self, trouble: Trouble) {
        self.end(if trouble == Trouble::DiesAfter { Life::DiedAfter } else { Life::Died });
    }

    /// Returns when this process dies.
    pub async fn death(&self) {
        let _ = self.life.subscribe().wait_for(|life| *life != Life::Lives).await;
    }

    /// From now on every change is held against what interfaces, instances and volumes have now.
    pub fn hold_against(&self) {
        let mut data = self.data();
        data.hold_protections();
        data.originals = data.interfaces().map(|found| (found.id.clone(), found.groups.clone())).collect();
    }

    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn ports(&self) -> Arc<Ports<World, World, World>> {
        Arc::new(Ports { ec2: self.clone(), records: self.clone(), stacks: self.clone() })
    }

    pub fn add(&self, id: &str, vpc: &str, interfaces: &[(&str, &[&str])]) {
        let interfaces = interfaces.iter().map(|(card, ids)| whereabouts::interface(card, ids, vpc, Some(id)));
        let volume = format!("vol-{}", id.trim_start_matches("i-"));
        let instance = Instance {
            id: id.parse().unwrap(),
            state: "running".to_owned(),
            vpc: Some(vpc.parse().unwrap()),
            interfaces: interfaces.collect(),
            volumes: [(
                volume.parse().unwrap(),
                Volume { device: "/dev/sda1".to_owned(), delete_on_termination: true },
            )]
            .into(),
            tags: BTreeMap::new(),
            has_metadata_service: true,
            is_metadata_pending: false,
            lifecycle: None,
        };
        self.data().instances.insert(instance.id.clone(), instance);
    }

    pub fn set_status(&self, status: &str) {
        self.data().stacks.get_mut(STACK).unwrap().status = status.to_owned();
    }

    /// The groups of every interface, as they really are.
    pub fn cards(&self) -> BTreeMap<String, Groups> {
        self.data().interfaces().map(|interface| (interface.id.to_string(), interface.groups.clone())).collect()
    }

    pub fn state(&self, instance: &str) -> Option<State> {
        self.data().records.get(&instance.parse().unwrap()).map(|record| record.state)
    }

    pub fn count(&self, action: &str) -> usize {
        self.data().calls.iter().filter(|(called, _)| *called == action).count()
    }

    /// Carries a call out: a second passes, then it goes wrong or `act` happens.
    async fn call<T>(&self, action: &'static str, what: String, act: impl FnOnce(&mut Data) -> Call<T>) -> Call<T> {
        let on = |data: &Data| {
            data.always_on.as_ref().filter(|(of, id, _)| *of == action && what.contains(id)).map(|(.., fault)| *fault)
        };
        let on = on(&self.data());
        self.call_unless(action, what, on, act).await
    }

    /// The same; `fault` is how it goes wrong if nothing else is planned.
    async fn call_unless<T>(
        &self,
        action: &'static str,
        what: String,
        fault: Option<Fault>,
        act: impl FnOnce(&mut Data) -> Call<T>,
    ) -> Call<T> {
        if *self.life.borrow() != Life::Lives {
            return std::future::pending().await;
        }
        let (trouble, time, meddling, n) = {
            let mut data = self.data();
            let n = data.log(action, what.clone());
            let slow = data.slow.filter(|(of, text, _)| *of == action && what.contains(text));
            let time = data.time(n) + slow.map_or(Duration::ZERO, |(.., more)| more);
            let always = data.always.filter(|(always, _)| *always == action).map(|(_, fault)| Trouble::Fails(fault));
            let of = data.trouble_of(action);
            let fault = fault.or(data.denies_all.then_some(Fault::Denied));
            let trouble = data.troubles.remove(&n).or(of).or(always).or(fault.map(Trouble::Fails));
            (trouble, time, data.meddling(action, n), n)
        };
        let act = |data: &mut Data| {
            for meddling in meddling {
                data.meddled_at = Some(Instant::now());
                meddling.0(data);
            }
            data.hidden_now = data.hide_in_call.take_if(|(call, _)| *call == n).map(|(_, id)| id);
            data.turn_to(&self.table);
            let done = act(data);
            data.turn_to(&self.table);
            data.hidden_now = None;
            done
        };
        if trouble != Some(Trouble::Blocks) {
            tokio::time::sleep(time).await;
        }
        match trouble {
            Some(Trouble::Dies) => self.end(Life::Died),
            Some(Trouble::DiesAfter) => self.end(Life::DiedAfter),
            _ => {}
        }
        let life = *self.life.borrow();
        if life != Life::Lives {
            if life == Life::DiedAfter {
                let _ = act(&mut self.data());
            }
            return std::future::pending().await;
        }
        if !self.data().has_token(action, what) {
            let message = "Request limit exceeded.".to_owned();
            return Err(CallError {
                action,
                fault: Fault::Throttled,
                code: "RequestLimitExceeded".to_owned(),
                message,
            });
        }
        match trouble {
            None | Some(Trouble::Dies | Trouble::DiesAfter) => act(&mut self.data()),
            Some(Trouble::Fails(fault)) => {
                Err(CallError { action, fault, code: format!("{fault:?}"), message: "a test wants it".to_owned() })
            }
            Some(Trouble::Unanswered) => {
                let _ = act(&mut self.data());
                let (code, message) = ("ConnectionLost".to_owned(), "a test wants it".to_owned());
                Err(CallError { action, fault: Fault::Connection, code, message })
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
