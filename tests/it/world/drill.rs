//! What a drill makes in the world, and a responder's function that answers at once: CloudFormation's part in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ec2_isolation::model::{
    Attribute, Group, GroupId, Groups, Instance, InstanceId, InterfaceId, Owner, Peer, Record, Role, Rule, Snapshot,
    SnapshotId, Snapshots, State, Time, Volume, VolumeId, VpcId,
};
use ec2_isolation::operator::SHAPES;
use ec2_isolation::operator::ports::drill::{
    DRILL_TAG, Details, Evaluates, Events, Fixtures, Launch, Made, Probes, StackEvent, drill_name,
};
use ec2_isolation::operator::stack::{StackResource, StackView};
use ec2_isolation::ports::{Call, Fault};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::operator::{RESPONDER, view};
use super::ports::refusal;
use super::whereabouts::interface;
use super::{Data, World};

/// The responder's.
pub const RECORDS: &str = "responder-SecurityGroupTable-1";
pub const SUBNET: &str = "subnet-0a";

/// What only a drill has to do with.
#[derive(Debug, Default)]
pub struct Drills {
    /// The function of a responder is there, and answers.
    pub has_function: bool,
    /// A guardrail of the account refuses a group that is open to everybody.
    pub refuses_open_groups: bool,
    /// The VPC of each subnet.
    pub subnets: BTreeMap<String, VpcId>,
    /// EC2 is not as we assume.
    pub takes_reserved_tags: bool,
    pub takes_every_snapshot: bool,
    /// Step Functions reads this finding otherwise.
    pub misreads: Option<&'static str>,
    tokens: BTreeMap<InstanceId, String>,
    names: BTreeMap<GroupId, String>,
    /// Volumes that outlived their instance.
    pub volumes: BTreeSet<VolumeId>,
    events: BTreeMap<String, Vec<StackEvent>>,
    snapshot_at: BTreeMap<InstanceId, Instant>,
    count: u64,
}

fn everywhere() -> Rule {
    Rule { protocol: "-1".to_owned(), ports: None, peer: Peer::Cidr("0.0.0.0/0".to_owned()) }
}

fn ssh_from(group: &GroupId) -> Rule {
    Rule { protocol: "tcp".to_owned(), ports: Some((22, 22)), peer: Peer::Group(group.clone()) }
}

impl Data {
    fn next(&mut self) -> u64 {
        self.drill.count += 1;
        0xd00 + self.drill.count
    }

    fn has_tag(&self, id: &str) -> Option<&String> {
        self.tags.get(id).and_then(|tags| tags.get(DRILL_TAG))
    }

    /// What is there of drills, however it is known: tags, names, stacks, snapshots and volumes.
    pub fn left_of_drills(&self) -> Vec<String> {
        let launched = self.drill.tokens.keys();
        let launched = launched.filter(|id| self.instances.get(*id).is_some_and(|found| !found.is_terminated()));
        let groups = self.drill.names.keys().filter(|id| self.groups.contains_key(*id));
        let stacks =
            self.views.iter().map(|view| view.name.clone()).filter(|name| name.starts_with("ec2-isolation-drill-"));
        let snapshots = self.snapshots.iter().filter(|snapshot| snapshot.volume.as_str().starts_with("vol-0d"));
        launched
            .map(ToString::to_string)
            .chain(groups.map(ToString::to_string))
            .chain(stacks)
            .chain(snapshots.map(|snapshot| snapshot.id.to_string()))
            .chain(self.drill.volumes.iter().map(ToString::to_string))
            .collect()
    }

    fn tell(&mut self, stack: &str, logical_id: &str, kind: &str, status: &str, reason: &str) {
        let at_ms = u64::try_from((Instant::now() - self.start).as_millis()).unwrap();
        let event = StackEvent {
            at_ms,
            logical_id: logical_id.to_owned(),
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
        };
        self.drill.events.entry(stack.to_owned()).or_default().push(event);
    }

    /// A stack beside a responder whose function works.
    pub(super) fn deploy(&mut self, view: &mut StackView) {
        if !self.drill.has_function {
            return;
        }
        let id = view.id.clone();
        view.is_protected = true;
        self.tell(&id, &view.name, "AWS::CloudFormation::Stack", "CREATE_IN_PROGRESS", "");
        let vpc: VpcId = view.parameters["VpcId"].parse().unwrap();
        let loopback = ["127.0.0.1/32", "::1/128"];
        let anywhere = ["0.0.0.0/0", "::/0"];
        let rules =
            |cidrs: [&str; 2]| cidrs.map(|cidr| Rule { peer: Peer::Cidr(cidr.to_owned()), ..everywhere() }).to_vec();
        for (name, role, ingress, egress) in [
            ("IsolatedSecurityGroup", Role::Isolation, vec![], rules(loopback)),
            ("TransitSecurityGroup", Role::Transit, rules(anywhere), rules(anywhere)),
        ] {
            if role == Role::Transit
                && view.parameters.get("CutEstablishedConnections").is_some_and(|cut| cut == "false")
            {
                continue;
            }
            if role == Role::Transit && self.drill.refuses_open_groups {
                view.resources.retain(|resource| resource.logical_id != "Isolation");
                view.resources.push(StackResource {
                    logical_id: name.to_owned(),
                    physical_id: String::new(),
                    kind: "AWS::EC2::SecurityGroup".to_owned(),
                    status: "CREATE_FAILED".to_owned(),
                    reason: "The following hook(s) failed: [Guardrail::NoOpenGroups]".to_owned(),
                });
                view.status.status = "CREATE_FAILED".to_owned();
                return;
            }
            let group: GroupId = format!("sg-{:x}", self.next()).parse().unwrap();
            view.resources.push(StackResource {
                logical_id: name.to_owned(),
                physical_id: group.to_string(),
                kind: "AWS::EC2::SecurityGroup".to_owned(),
                status: "CREATE_COMPLETE".to_owned(),
                reason: String::new(),
            });
            self.tell(&id, name, "AWS::EC2::SecurityGroup", "CREATE_IN_PROGRESS", "");
            let (vpc, stack_id) = (Some(vpc.clone()), Some(id.clone()));
            self.groups.insert(group.clone(), Group { id: group, vpc, role: Some(role), stack_id, ingress, egress });
        }
        let made = ["IsolatedSecurityGroup", "TransitSecurityGroup"];
        for name in made.into_iter().filter(|name| view.physical_id(name).is_some()) {
            self.tell(&id, name, "AWS::EC2::SecurityGroup", "CREATE_COMPLETE", "");
        }
        self.call_function(view, "CREATE");
    }

    /// Isolates what the stack lists, unless its group has a way in.
    pub(super) fn call_function(&mut self, view: &mut StackView, verb: &str) {
        if !self.drill.has_function {
            return;
        }
        let id = view.id.clone();
        self.tell(&id, "Isolation", "Custom::Ec2Isolation", &format!("{verb}_IN_PROGRESS"), "");
        let isolation: GroupId = view.physical_id("IsolatedSecurityGroup").unwrap().parse().unwrap();
        for instance in view.instances() {
            self.record_and_isolate(&view.owner(), &instance, &isolation);
        }
        let is_open = self.groups.get(&isolation).is_some_and(|group| !group.ingress.is_empty());
        let (outcome, reason) =
            if is_open { ("FAILED", "isolation group allows it | next: remove the cause") } else { ("COMPLETE", "") };
        self.tell(&id, "Isolation", "Custom::Ec2Isolation", &format!("{verb}_{outcome}"), reason);
        view.status.status = format!("{verb}_{outcome}");
        view.changed_at = Some(Time(1));
    }

    fn record_and_isolate(&mut self, owner: &Owner, id: &InstanceId, isolation: &GroupId) {
        let Some(found) = self.instances.get(id).cloned() else { return };
        let records = &mut self.tables.entry(RECORDS.to_owned()).or_default().records;
        let is_held = records.get(id).is_some_and(|record| record.state != State::Restored);
        if !is_held {
            let interfaces = found.interfaces.iter().map(|card| (card.id.clone(), card.groups.clone())).collect();
            let record = Record {
                returns: 0,
                instance: id.clone(),
                owner: owner.clone(),
                state: State::Isolated,
                vpc: found.vpc.clone().unwrap(),
                isolation_group: isolation.clone(),
                isolation_groups: [isolation.clone()].into(),
                interfaces,
                connections_cut: true,
                passed: BTreeSet::new(),
                recorded_at: Time(1),
                lease: None,
                snapshots: Snapshots::default(),
                protection: Default::default(),
                history: vec!["recorded".to_owned()],
            };
            let episode = record.episode();
            let taken: BTreeMap<VolumeId, SnapshotId> = found
                .volumes
                .keys()
                .map(|volume| (volume.clone(), format!("snap-{}", &volume.as_str()[4..]).parse().unwrap()))
                .collect();
            for (volume, id) in &taken {
                let (id, volume) = (id.clone(), volume.clone());
                self.snapshots.push(Snapshot { id, volume, episode: episode.clone(), failed: false, labelled: true });
            }
            let record = Record { snapshots: Snapshots { taken, requested: false }, ..record };
            self.tables.get_mut(RECORDS).unwrap().records.insert(id.clone(), record);
        }
        for card in &mut self.instances.get_mut(id).unwrap().interfaces {
            card.groups = [isolation.clone()].into();
        }
    }

    /// Whether the stack is gone: its function gives everything back, unless a group is gone.
    pub(super) fn undeploy(&mut self, view: &mut StackView) -> bool {
        if !self.drill.has_function {
            return true;
        }
        let id = view.id.clone();
        let owner = view.owner();
        self.tell(&id, "Isolation", "Custom::Ec2Isolation", "DELETE_IN_PROGRESS", "");
        let isolation: Groups =
            view.physical_id("IsolatedSecurityGroup").map(|id| id.parse().unwrap()).into_iter().collect();
        let mut records = std::mem::take(&mut self.tables.entry(RECORDS.to_owned()).or_default().records);
        let mut is_stuck = false;
        for record in records.values_mut().filter(|record| record.owner == owner && record.state != State::Restored) {
            let mut is_left = false;
            for (card, groups) in &record.interfaces {
                let is_there = groups.iter().all(|group| self.groups.contains_key(group));
                let Some(found) = self.interface_mut(card).filter(|found| found.groups == isolation) else { continue };
                match is_there {
                    true => found.groups = groups.clone(),
                    false => is_left = true,
                }
            }
            if !is_left {
                record.state = State::Restored;
            }
            is_stuck |= is_left;
        }
        self.tables.get_mut(RECORDS).unwrap().records = records;
        if is_stuck {
            self.tell(&id, "Isolation", "Custom::Ec2Isolation", "DELETE_FAILED", "a group is gone");
            view.status.status = "DELETE_FAILED".to_owned();
            let own = view.resources.iter_mut().find(|resource| resource.logical_id == "Isolation").unwrap();
            own.status = "DELETE_FAILED".to_owned();
            return false;
        }
        self.tell(&id, "Isolation", "Custom::Ec2Isolation", "DELETE_COMPLETE", "");
        let own = |group: &Group| group.stack_id.as_ref() == Some(&id);
        self.groups.retain(|_, group| !own(group));
        true
    }

    fn is_in_use(&self, group: &GroupId) -> bool {
        let is_named = |rule: &Rule| rule.peer == Peer::Group(group.clone());
        self.interfaces().any(|card| card.groups.contains(group))
            || self.groups.values().any(|other| other.ingress.iter().chain(&other.egress).any(is_named))
    }

    /// EC2 takes one set of snapshots of a volume in 15 s.
    pub(super) fn may_take_snapshots(&mut self, instance: &InstanceId) -> bool {
        let last = self.drill.snapshot_at.get(instance);
        let is_early =
            !self.drill.takes_every_snapshot && last.is_some_and(|at| at.elapsed() < Duration::from_secs(15));
        if self.drill.has_function && !is_early {
            self.drill.snapshot_at.insert(instance.clone(), Instant::now());
        }
        !self.drill.has_function || !is_early
    }
}

impl Fixtures for World {
    async fn vpc_of(&self, subnet: &str) -> Call<Option<VpcId>> {
        self.call("ec2:DescribeSubnets", subnet.to_owned(), |data| Ok(data.drill.subnets.get(subnet).cloned())).await
    }

    async fn make_group(&self, vpc: &VpcId, drill: &str, letter: char) -> Call<GroupId> {
        self.call("ec2:CreateSecurityGroup", letter.to_string(), |data| {
            let id: GroupId = format!("sg-{:x}", data.next()).parse().unwrap();
            let (vpc, egress) = (Some(vpc.clone()), vec![everywhere()]);
            let group = Group { id: id.clone(), vpc, role: None, stack_id: None, ingress: vec![], egress };
            data.groups.insert(id.clone(), group);
            data.tags.entry(id.to_string()).or_default().insert(DRILL_TAG.to_owned(), drill.to_owned());
            data.drill.names.insert(id.clone(), format!("{}-{letter}", drill_name(drill)));
            Ok(id)
        })
        .await
    }

    async fn launch(&self, launch: &Launch<'_>) -> Call<InstanceId> {
        self.call("ec2:RunInstances", launch.drill.to_owned(), |data| {
            let token = drill_name(launch.drill);
            if let Some((id, _)) = data.drill.tokens.iter().find(|(_, found)| **found == token) {
                return Ok(id.clone());
            }
            let n = data.next();
            let id = format!("i-{n:x}");
            let vpc = data.drill.subnets[launch.subnet].clone();
            let cards = launch.groups.iter().zip(1..).map(|(group, index)| {
                interface(&format!("eni-{n:x}{index}"), &[group.as_str()], vpc.as_str(), Some(&id))
            });
            let instance = Instance {
                id: id.parse().unwrap(),
                state: "running".to_owned(),
                vpc: Some(vpc.clone()),
                interfaces: cards.collect(),
                volumes: [(
                    format!("vol-0{n:x}").parse().unwrap(),
                    Volume { device: "/dev/xvda".to_owned(), delete_on_termination: true },
                )]
                .into(),
                tags: BTreeMap::new(),
                has_metadata_service: true,
                is_metadata_pending: false,
                lifecycle: None,
            };
            let mark = BTreeMap::from([(DRILL_TAG.to_owned(), launch.drill.to_owned())]);
            let marked = instance.interfaces.iter().map(|card| card.id.to_string()).chain([id]);
            data.tags.extend(marked.map(|id| (id, mark.clone())).collect::<Vec<_>>());
            data.drill.tokens.insert(instance.id.clone(), token);
            data.instances.insert(instance.id.clone(), instance.clone());
            Ok(instance.id)
        })
        .await
    }

    async fn made(&self) -> Call<BTreeMap<String, Made>> {
        self.call("ec2:DescribeInstances", DRILL_TAG.to_owned(), |data| {
            let mut drills: BTreeMap<String, Made> = BTreeMap::new();
            for instance in data.instances.values().filter(|instance| !instance.is_terminated()) {
                if data.hides(instance.id.as_str()) {
                    continue;
                }
                let Some(drill) = data.has_tag(instance.id.as_str()) else { continue };
                let made = drills.entry(drill.clone()).or_default();
                match data.drill.tokens.get(&instance.id) == Some(&drill_name(drill)) {
                    true => drop(made.instances.insert(instance.id.clone())),
                    false => drop(made.tagged.insert(instance.id.to_string())),
                }
            }
            for group in data.groups.keys() {
                let Some(drill) = data.has_tag(group.as_str()) else { continue };
                let made = drills.entry(drill.clone()).or_default();
                let name = data.drill.names.get(group);
                match name.is_some_and(|name| name.starts_with(&drill_name(drill))) {
                    true => drop(made.groups.insert(group.clone())),
                    false => drop(made.tagged.insert(group.to_string())),
                }
            }
            for card in &data.loose {
                let Some(drill) = data.has_tag(card.id.as_str()) else { continue };
                drills.entry(drill.clone()).or_default().interfaces.insert(card.id.clone());
            }
            for id in data.snapshots.iter().map(|snapshot| snapshot.id.to_string()) {
                let Some(drill) = data.has_tag(&id) else { continue };
                drills.entry(drill.clone()).or_default().tagged.insert(id);
            }
            Ok(drills)
        })
        .await
    }

    async fn snapshots_of(&self, volumes: &BTreeSet<VolumeId>) -> Call<BTreeSet<SnapshotId>> {
        self.call("ec2:DescribeSnapshots", volumes.len().to_string(), |data| {
            let found = data.snapshots.iter().filter(|snapshot| volumes.contains(&snapshot.volume));
            Ok(found.map(|snapshot| snapshot.id.clone()).collect())
        })
        .await
    }

    async fn terminate(&self, instance: &InstanceId) -> Call<()> {
        let action = "ec2:TerminateInstances";
        self.call(action, instance.to_string(), |data| {
            if data.is_protected(instance) {
                return refusal(action, Fault::Refused, "OperationNotPermitted");
            }
            let volumes = data.instances.get(instance).map(|found| found.volumes.clone()).unwrap_or_default();
            let kept = volumes.into_iter().filter(|(_, volume)| !volume.delete_on_termination);
            data.drill.volumes.extend(kept.map(|(id, _)| id));
            data.terminate(instance.as_str());
            Ok(())
        })
        .await
    }

    async fn delete_interface(&self, interface: &InterfaceId) -> Call<()> {
        self.call("ec2:DeleteNetworkInterface", interface.to_string(), |data| {
            data.delete_interface(interface.as_str());
            Ok(())
        })
        .await
    }

    async fn delete_group(&self, group: &GroupId) -> Call<()> {
        let action = "ec2:DeleteSecurityGroup";
        self.call(action, group.to_string(), |data| {
            if data.is_in_use(group) {
                return refusal(action, Fault::Refused, "DependencyViolation");
            }
            data.groups.remove(group);
            Ok(())
        })
        .await
    }

    async fn delete_snapshot(&self, snapshot: &SnapshotId) -> Call<()> {
        self.call("ec2:DeleteSnapshot", snapshot.to_string(), |data| {
            data.snapshots.retain(|found| found.id != *snapshot);
            Ok(())
        })
        .await
    }
}

impl Probes for World {
    async fn details(&self, instance: &InstanceId) -> Call<Option<Details>> {
        self.call("ec2:DescribeInstances", format!("details of {instance}"), |data| {
            let Some(mut found) = data.instances.get(instance).cloned() else { return Ok(None) };
            data.show_metadata_service(&mut found);
            let state = if found.is_metadata_pending { "pending" } else { "applied" };
            Ok(Some(Details {
                groups: found.interfaces.first().map(|card| card.groups.clone()).unwrap_or_default(),
                is_metadata_on: found.has_metadata_service,
                metadata_state: state.to_owned(),
                metadata_tokens: "required".to_owned(),
            }))
        })
        .await
    }

    async fn set_groups_of_instance(&self, instance: &InstanceId, _groups: &Groups) -> Call<()> {
        let action = "ec2:ModifyInstanceAttribute";
        self.call(action, format!("{instance} groups"), |_| refusal(action, Fault::Refused, "InvalidInstanceID")).await
    }

    async fn admit(&self, group: &GroupId, from: &GroupId) -> Call<()> {
        self.call("ec2:AuthorizeSecurityGroupIngress", group.to_string(), |data| {
            data.groups.get_mut(group).unwrap().ingress.push(ssh_from(from));
            Ok(())
        })
        .await
    }

    async fn dismiss(&self, group: &GroupId, from: &GroupId) -> Call<()> {
        self.call("ec2:RevokeSecurityGroupIngress", group.to_string(), |data| {
            data.groups.get_mut(group).unwrap().ingress.retain(|rule| *rule != ssh_from(from));
            Ok(())
        })
        .await
    }
}

impl Events for World {
    async fn events(&self, stack_id: &str) -> Call<Vec<StackEvent>> {
        self.call("cloudformation:DescribeStackEvents", stack_id.to_owned(), |data| {
            Ok(data.drill.events.get(stack_id).cloned().unwrap_or_default())
        })
        .await
    }
}

impl World {
    /// A responder whose function works, and a subnet.
    pub fn with_responder(&self) {
        use ec2_isolation::operator::stack::{FUNCTION_EXPORT, RECORDS_EXPORT};
        let mut data = self.data();
        data.exports.insert(FUNCTION_EXPORT.to_owned(), "the function".to_owned());
        data.exports.insert(RECORDS_EXPORT.to_owned(), RECORDS.to_owned());
        data.tables.entry(RECORDS.to_owned()).or_default();
        data.drill.subnets.insert(SUBNET.to_owned(), super::VPC.parse().unwrap());
        data.drill.has_function = true;
    }

    /// Its trigger is on.
    pub fn with_trigger(&self) {
        let machine = ("TriggerStateMachine", "arn:aws:states:us-east-1:123456789012:stateMachine:trigger");
        self.data().views.push(view(RESPONDER, "CREATE_COMPLETE", &[machine]));
    }
}

/// The expressions are not evaluated here: what is asked is answered from the list that is tested.
impl Evaluates for World {
    async fn definition(&self, machine: &str) -> Call<Value> {
        let states = json!({"Read": {"Assign": {"kind": "{% 1 %}", "findings": "{% [] %}"}}, "Judge": {"Assign": {"judged": "{% 2 %}"}}});
        let definition = json!({"States": {"Handle": {"Branches": [{"States": states}]}}});
        self.call("states:DescribeStateMachine", machine.to_owned(), |_| Ok(definition)).await
    }

    async fn evaluate(&self, state: &Value, input: &Value) -> Call<Value> {
        assert_eq!(state["Output"], "{% ( $kind := 1; $findings := []; 2 ) %}");
        let shape = SHAPES.iter().find(|shape| serde_json::from_str::<Value>(shape.text).unwrap() == *input).unwrap();
        self.call("states:TestState", shape.name.to_owned(), |data| {
            let verdict = if data.drill.misreads == Some(shape.name) { "go" } else { shape.verdict };
            Ok(json!({"verdict": verdict, "ids": vec!["i-0a"; shape.instances]}))
        })
        .await
    }
}

impl Data {
    fn is_protected(&self, instance: &InstanceId) -> bool {
        let attributes = self.protections.attributes.get(instance);
        attributes.is_some_and(|found| found.contains(&Attribute::TerminationProtection(true)))
    }
}
