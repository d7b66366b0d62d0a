//! The next step that works, in every state an incident can be in. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::evidence::recorded;
use super::incident::Incident;
use super::isolate::VPC;
use super::memory::CAPTURED;
use super::shell::Shell;
use super::text::{MOST_NAMES, count};
use crate::model::{
    Group, GroupId, Groups, InstanceId, Interface, InterfaceId, Peer, Record, Role, State, VpcId, comma_list,
};
use crate::operator::stack::{Ending, StackView, ending};
use crate::plan::tag;
use crate::reconcile::contained::{Condition, Contained};

/// Instances whose memory is named: one screen.
const MOST_MEMORIES: usize = 4;

/// What to do, why, and the commands. Several are to be done in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    pub what: String,
    pub commands: Vec<String>,
}

fn next(what: impl Into<String>, commands: Vec<String>) -> Next {
    Next { what: what.into(), commands }
}

/// Worst first.
#[must_use]
pub fn next_steps(incident: &Incident, containment: &BTreeMap<InstanceId, Contained>, shell: &Shell) -> Vec<Next> {
    let mut steps = in_transit(incident, shell);
    steps.extend(open(incident, containment, shell));
    steps.extend(stuck(incident, shell));
    steps.extend(incident.ledger.unreadable.iter().map(|(item, reason)| {
        next(
            format!(
                "item {item} of table {} cannot be read: {reason}. Mend it in the DynamoDB console.",
                incident.table
            ),
            vec![],
        )
    }));
    let is_held = incident.held().next().is_some();
    steps.extend(memory(incident, containment, shell));
    if is_held {
        steps.extend(examine(incident, shell));
        steps.push(held(incident, containment, shell));
    }
    steps.extend(strays(incident, shell));
    if !is_held && incident.strays.is_empty() && incident.ledger.unreadable.is_empty() {
        steps.extend(end(incident, shell));
    }
    steps
}

/// Listed, and not isolated: the stack isolates them, or a person does.
fn open(incident: &Incident, containment: &BTreeMap<InstanceId, Contained>, shell: &Shell) -> Vec<Next> {
    let open: BTreeMap<&InstanceId, &Contained> =
        containment.iter().filter(|(_, found)| found.condition == Condition::NotIsolated).collect();
    if open.is_empty() || incident.stack.as_ref().is_some_and(StackView::is_busy) {
        return vec![];
    }
    let is_deployable =
        |stack: &&StackView| stack.is_deployable() && stack.takes_updates() && stack.status.parent.is_none();
    // CloudFormation refuses every update that lists an instance which is not there.
    let listed = incident.parameter_list();
    let is_not_shown = |(id, found): &(&InstanceId, &Contained)| {
        found.condition != Condition::Unknown && listed.contains(*id) && !found.observed.instances.contains_key(*id)
    };
    let gone: Vec<&InstanceId> = containment.iter().filter(is_not_shown).map(|(id, _)| id).collect();
    let deployable = incident.stack.as_ref().filter(is_deployable).filter(|_| gone.is_empty());
    if let Some(stack) = deployable {
        let vpc = stack.parameters.get(VPC).map(String::as_str);
        let again: Vec<&InstanceId> =
            open.iter().filter(|(id, found)| is_within(vpc, id, found)).map(|(id, _)| *id).collect();
        let what = "Not everything that is listed is isolated. Put right what stands above";
        if again.is_empty() {
            return vec![next(format!("{what}."), vec![])];
        }
        // More names are longer than a screen.
        let (on_list, off): (Vec<&InstanceId>, Vec<&InstanceId>) =
            again.into_iter().partition(|id| listed.contains(*id));
        let (most, how) = match on_list.len() <= MOST_NAMES {
            true => (MOST_NAMES, "then isolate again:"),
            false => (1, "then isolate again. One is named, and the update looks at everything that the stack lists:"),
        };
        let named = off.into_iter().chain(on_list.into_iter().take(most));
        let command = shell.own(&format!("isolate --stack {} {}", stack.name, plain_list(named)));
        return vec![next(format!("{what}, {how}"), vec![command])];
    }
    let interfaces = open.iter().flat_map(|(id, found)| {
        let record = incident.ledger.records.get(*id);
        let interfaces = found.open.iter().filter_map(|(interface, _)| interface.as_ref());
        let interfaces = interfaces.filter(move |interface| {
            record.is_some_and(|record| vpc_of(id, found, interface).is_none_or(|vpc| *vpc == record.vpc))
        });
        interfaces
            .filter_map(move |interface| Some(shell.set_groups(interface, &[record?.isolation_group.clone()].into())))
    });
    let mut commands: Vec<String> = interfaces.collect();
    let unrecorded: Vec<&InstanceId> = open
        .iter()
        .filter(|(id, found)| {
            found.observed.instances.contains_key(**id)
                && incident.ledger.records.get(**id).is_none_or(|record| !incident.is_held(record))
        })
        .map(|(id, _)| *id)
        .collect();
    if !unrecorded.is_empty() {
        commands.push(shell.own(&format!("isolate {}", plain_list(unrecorded))));
    }
    let why = match gone.is_empty() {
        true => String::new(),
        false => format!(
            ": CloudFormation refuses every update, since it lists {}, which EC2 no longer shows",
            comma_list(&gone)
        ),
    };
    let what = format!(
        "Not everything that is held is isolated, and the stack cannot isolate it any more{why}. Put right what stands above."
    );
    let by_hand = if commands.is_empty() { "" } else { " These isolate what they name:" };
    vec![next(format!("{what}{by_hand}"), commands)]
}

/// Whether something of an instance is open that a stack of this VPC isolates.
fn is_within(vpc: Option<&str>, id: &InstanceId, found: &Contained) -> bool {
    let Some(instance) = found.observed.instances.get(id) else { return false };
    let is_here = |of: Option<&VpcId>| vpc.is_none_or(|vpc| of.is_none_or(|of| of.as_str() == vpc));
    found.open.iter().any(|(interface, _)| match interface {
        Some(interface) => is_here(vpc_of(id, found, interface)),
        None => is_here(instance.vpc.as_ref()) || instance.interfaces.iter().any(|found| is_here(found.vpc.as_ref())),
    })
}

/// The VPC of an interface, as far as that was read.
fn vpc_of<'a>(id: &InstanceId, found: &'a Contained, interface: &InterfaceId) -> Option<&'a VpcId> {
    let attached = found.observed.instances.get(id).into_iter().flat_map(|instance| &instance.interfaces);
    let mut shown = attached.chain(found.observed.interfaces.get(interface)).filter(|shown| shown.id == *interface);
    shown.next()?.vpc.as_ref()
}

fn plain_list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// Left in the group that is open to everybody, by a function that was killed.
fn in_transit(incident: &Incident, shell: &Shell) -> Vec<Next> {
    if incident.stack.as_ref().is_some_and(StackView::is_busy) {
        return vec![];
    }
    let is_open = |id: &GroupId| incident.observed.groups.get(id).or_else(|| incident.groups.get(id));
    let is_open = |id: &GroupId| is_open(id).is_some_and(|group| group.role == Some(Role::Transit));
    let commands: Vec<String> = incident
        .held()
        .flat_map(|record| record.interfaces.keys().map(move |id| (record, id)))
        .filter(|(_, id)| incident.observed.interfaces.get(*id).is_some_and(|found| found.groups.iter().any(is_open)))
        .map(|(record, id)| shell.set_groups(id, &[record.isolation_group.clone()].into()))
        .collect();
    if commands.is_empty() {
        return vec![];
    }
    vec![next("These are in the transit group, WHICH IS OPEN TO EVERYBODY. Isolate them now:", commands)]
}

/// Interfaces whose original groups are all gone: only a person can say where they belong.
fn stuck(incident: &Incident, shell: &Shell) -> Vec<Next> {
    let mut steps = Vec::new();
    for record in incident.held() {
        for (id, originals) in &record.interfaces {
            let is_isolated = incident
                .observed
                .interfaces
                .get(id)
                .is_some_and(|interface| !interface.groups.is_disjoint(&incident.isolating(record)));
            let is_gone = originals.iter().all(|group| !incident.observed.groups.contains_key(group));
            if is_isolated && is_gone {
                let choose = format!(
                    "ec2 describe-security-groups --filters Name=vpc-id,Values={} --query 'SecurityGroups[].[GroupId,GroupName,Description]' --output text",
                    record.vpc
                );
                let why = match originals.is_empty() {
                    true => "it had no security group when it was recorded. Choose some".to_owned(),
                    false => format!("its original groups {} no longer exist. Choose others", comma_list(originals)),
                };
                steps.push(next(
                    format!("{}: {id} stays isolated, {why}, then restore again:", record.instance),
                    vec![shell.aws(&choose), shell.choose_groups(id)],
                ));
            }
        }
    }
    steps
}

/// What no snapshot holds is first in the order of volatility. Without a forensic host there is no way to it.
fn memory(incident: &Incident, containment: &BTreeMap<InstanceId, Contained>, shell: &Shell) -> Option<Next> {
    let is_captured = |record: &Record| record.history.iter().any(|line| line.contains(CAPTURED));
    let is_ready = |record: &&Record| {
        let found = containment.get(&record.instance).filter(|found| found.condition == Condition::Isolated);
        let shown = found.and_then(|found| found.observed.instances.get(&record.instance));
        shown.is_some_and(|shown| shown.state == "running") && !is_captured(record)
    };
    let ready: Vec<&InstanceId> = incident.held().filter(is_ready).map(|record| &record.instance).collect();
    if ready.is_empty()
        || !matches!(incident.host, Ok(Some(_)))
        || incident.stack.as_ref().is_some_and(StackView::is_busy)
    {
        return None;
    }
    let address = incident.address.argument();
    let commands = ready.iter().take(MOST_MEMORIES).map(|id| shell.own(&format!("memory {id} {address}")));
    let more = match ready.len().saturating_sub(MOST_MEMORIES) {
        0 => String::new(),
        more => format!(" {more} more are in the same state."),
    };
    Some(next(
        format!(
            "Memory is in no snapshot, and ends when an instance stops.{more} If the case needs it, this prints how it is captured:"
        ),
        commands.collect(),
    ))
}

/// The snapshots, once they were taken: there is something to look into, and a place for it. Until volumes of them were made.
fn examine(incident: &Incident, shell: &Shell) -> Option<Next> {
    let left = |record: &Record| record.snapshots.taken.len().saturating_sub(recorded::volumes(record).len());
    let number: usize = incident.held().map(left).sum();
    let Ok(Some(host)) = &incident.host else { return None };
    if number == 0 || incident.stack.as_ref().is_some_and(StackView::is_busy) {
        return None;
    }
    Some(next(
        format!(
            "There are snapshots of {}. This attaches volumes made of them to the forensic host {host}:",
            count(number, "volume")
        ),
        vec![shell.own(&format!("evidence {}", incident.address.argument()))],
    ))
}

fn held(incident: &Incident, containment: &BTreeMap<InstanceId, Contained>, shell: &Shell) -> Next {
    let is_nested = incident.stack.as_ref().is_some_and(|stack| stack.status.parent.is_some());
    // A nested stack ends with its parent.
    let finish = if is_nested { "" } else { " --finish" };
    let restore = shell.own(&format!("restore {}{finish}", incident.address.argument()));
    let held = incident.held().count();
    let is_open = |record: &&Record| {
        let found = containment.get(&record.instance);
        found.is_some_and(|found| matches!(found.condition, Condition::NotIsolated | Condition::Unknown))
    };
    let is_restoring = |record: &&Record| {
        containment.get(&record.instance).is_some_and(|found| found.condition == Condition::Restoring)
    };
    let restoring = incident.held().filter(is_restoring).count();
    let isolated = match (incident.held().filter(is_open).count(), restoring) {
        (0, 0) => "held isolated".to_owned(),
        (0, restoring) if restoring == held => "being restored".to_owned(),
        (0, restoring) => format!("held, {restoring} of them being restored"),
        (open, _) => format!("held, {open} of them not isolated"),
    };
    let instances =
        if held == 1 { format!("1 instance is {isolated}") } else { format!("{held} instances are {isolated}") };
    match &incident.stack {
        None => next(
            format!("The stack is gone, {instances}. When the incident is over, this restores them:"),
            vec![restore],
        ),
        Some(stack) if stack.is_busy() => next(
            format!("{instances}, and the stack is {}: look again when that has ended:", stack.status.status),
            vec![shell.own(&format!("status {}", incident.address.argument()))],
        ),
        Some(_) if incident.is_copy => next(
            format!(
                "{instances}. Table {} is not the one that the stack's function reads, so deleting the stack restores nothing from it. \
                 When the incident is over, this restores them:",
                incident.table
            ),
            vec![shell.own(&format!("restore {}", incident.address.argument()))],
        ),
        Some(_) if restoring > 0 => next(
            format!("{instances}. A restore was asked for and has not ended. This goes on with it:"),
            vec![restore],
        ),
        Some(stack) if stack.takes_care() && stack.status.parent.is_none() => {
            let delete = match stack.is_protected {
                true => "turn off the stack's termination protection and delete it",
                false => "delete the stack",
            };
            next(
                format!(
                    "{instances}. When the incident is over, {delete}, whose function restores them, or restore them with your own credentials, which needs no function:"
                ),
                vec![restore],
            )
        }
        Some(_) => next(
            format!(
                "{instances}, and it takes you to restore them. When the incident is over, this does{}:",
                if is_nested { "" } else { ", and ends the stack" }
            ),
            vec![restore],
        ),
    }
}

/// The groups that the tags of an interface say it had. Tags never decide: the attacker may write them.
#[must_use]
pub fn tagged_originals(tags: &BTreeMap<String, String>) -> Groups {
    let values = tags.iter().filter(|(key, _)| key.starts_with(tag::ORIGINAL_GROUPS)).map(|(_, value)| value);
    values.flat_map(|value| value.split(' ')).filter_map(|id| id.parse().ok()).collect()
}

/// Interfaces in the isolation of which there is no record: their tags say what they had.
fn strays(incident: &Incident, shell: &Shell) -> Vec<Next> {
    if incident.strays.is_empty() {
        return vec![];
    }
    let (known, unknown): (Vec<&Interface>, Vec<&Interface>) =
        incident.strays.iter().partition(|stray| !tagged_originals(&stray.tags).is_empty());
    let name = |stray: &&Interface| {
        let instance = stray.instance.as_ref().map_or("no instance".to_owned(), ToString::to_string);
        format!("{} of {instance}", stray.id)
    };
    let mut steps = Vec::new();
    if !known.is_empty() {
        let mut commands: Vec<String> =
            known.iter().map(|stray| shell.set_groups(&stray.id, &tagged_originals(&stray.tags))).collect();
        commands.push(untag(&known, shell));
        steps.push(next(
            format!(
                "{} in the isolation group without a record in table {}, so nothing can be restored from it (a copy of it may: \
                 point-in-time recovery goes back 35 days). Their tags say which groups they had. Check these with somebody who knows the hosts, \
                 since an attacker may write tags; then:",
                be(&known, name),
                incident.table
            ),
            commands,
        ));
    }
    if !unknown.is_empty() {
        let commands = unknown.iter().map(|stray| shell.choose_groups(&stray.id)).collect();
        steps.push(next(
            format!(
                "{} in the isolation group with neither record nor tags. CloudTrail knows what they had (ModifyNetworkInterfaceAttribute). Give them their groups:",
                be(&unknown, name)
            ),
            commands,
        ));
    }
    steps
}

fn be(strays: &[&Interface], name: impl Fn(&&Interface) -> String) -> String {
    let names = comma_list(strays.iter().map(name));
    format!("{names} {}", if strays.len() == 1 { "is" } else { "are" })
}

/// Takes our tags off interfaces and instances again.
fn untag(strays: &[&Interface], shell: &Shell) -> String {
    let interfaces = strays.iter().map(|stray| stray.id.to_string());
    let instances = strays.iter().filter_map(|stray| stray.instance.as_ref()).map(ToString::to_string);
    let resources: BTreeSet<String> = interfaces.chain(instances).collect();
    let on_interfaces = strays.iter().flat_map(|stray| stray.tags.keys());
    let on_interfaces = on_interfaces.filter(|key| key.starts_with(tag::ORIGINAL_GROUPS)).map(String::as_str);
    let keys: BTreeSet<&str> = on_interfaces.chain([tag::STACK, tag::PURPOSE, tag::TIME, tag::RESTORE]).collect();
    let keys: Vec<String> = keys.into_iter().map(|key| format!("Key={key}")).collect();
    let resources: Vec<String> = resources.into_iter().collect();
    shell.aws(&format!("ec2 delete-tags --resources {} --tags {}", resources.join(" "), keys.join(" ")))
}

/// What ends the stack, and what it leaves behind.
pub(super) fn end(incident: &Incident, shell: &Shell) -> Vec<Next> {
    let mut steps = Vec::new();
    if let Some(denies) = incident.credentials_stack() {
        let what = format!(
            "Nothing is held isolated, and stack {denies} still denies the credentials of the instances. This deletes it, with the \
             incident's stack:"
        );
        steps.push(next(what, vec![shell.own(&format!("restore --stack {} --finish", incident.stack_name))]));
    }
    match &incident.stack {
        Some(stack) => steps.push(ending_of(stack, incident, shell)),
        None => steps.extend(leftovers(incident, shell)),
    }
    steps
}

fn ending_of(stack: &StackView, incident: &Incident, shell: &Shell) -> Next {
    let name = &stack.name;
    let mut commands = Vec::new();
    if stack.is_protected {
        commands.push(shell.unprotect(name));
    }
    let wait = shell.wait_for_deletion(name);
    match ending(stack) {
        Ending::Delete { retain } => {
            commands.extend([shell.delete_stack(name, &retain), wait]);
            let why = match retain.as_slice() {
                [] => String::new(),
                _ => format!(
                    " Its {} could not be deleted and is left out: no function answers for it any more, and it holds nothing",
                    comma_list(&retain)
                ),
            };
            next(format!("Nothing is held isolated. This ends the stack ({}).{why}", stack.status.status), commands)
        }
        Ending::DeleteTwice { retain } => {
            // The wait ends with an error: the first delete must fail.
            commands.extend([
                shell.delete_stack(name, &[]),
                format!("{wait} || true"),
                shell.delete_stack(name, &retain),
                wait,
            ]);
            next(
                format!(
                    "Nothing is held isolated. The function is gone, so the first of these ends in DELETE_FAILED; only then CloudFormation lets {} be left out. \
                     Together they end the stack ({}):",
                    comma_list(&retain),
                    stack.status.status
                ),
                commands,
            )
        }
        Ending::Wait => next(
            format!("The stack is {}: look again when that has ended:", stack.status.status),
            vec![shell.own(&format!("status {}", incident.address.argument()))],
        ),
        Ending::WithParent { parent } => next(
            format!(
                "Nothing is held isolated. The stack is nested in {parent} and ends with it: take it out of that stack's template and update, \
                 or, where nothing of that stack is needed any more, delete that one, WITH EVERYTHING IN IT:"
            ),
            vec![shell.delete_stack(&parent, &[])],
        ),
    }
}

/// Groups of a stack that is gone.
fn leftovers(incident: &Incident, shell: &Shell) -> Vec<Next> {
    if incident.groups.is_empty() {
        let stays = match incident.is_shared {
            true => "stays, with the records of every other incident: do not delete it",
            false => "stays as the record of the incident; delete it when the case is closed",
        };
        let what = format!(
            "Nothing is held isolated and the stack is gone. Snapshots, volumes and tables may still cost: see ec2-isolation leftovers. Table {} {stays}.",
            incident.table
        );
        return vec![next(what, vec![])];
    }
    let mut steps = Vec::new();
    let users = |group: &&Group| -> Vec<&InterfaceId> {
        let members = incident.members.iter().filter(|interface| interface.groups.contains(&group.id));
        members.map(|interface| &interface.id).collect()
    };
    let (used, free): (Vec<&Group>, Vec<&Group>) = incident.groups.values().partition(|group| !users(group).is_empty());
    for group in &used {
        steps.push(next(
            format!(
                "{} of the stack that is gone is still used by {}: it is deleted when that is gone, too",
                group.id,
                comma_list(users(group))
            ),
            vec![],
        ));
    }
    if !free.is_empty() {
        // A group that a rule of another one names cannot be deleted. The isolation group names the forensic one: that goes last, and
        // what it says of the others before.
        let (last, first): (Vec<&Group>, Vec<&Group>) =
            free.iter().partition(|group| group.role == Some(Role::Forensic));
        let ours: BTreeSet<&GroupId> = first.iter().map(|group| &group.id).collect();
        let forensic = incident.groups.values().filter(|group| group.role == Some(Role::Forensic));
        let mut commands: Vec<String> = forensic.flat_map(|group| revoke(group, &ours, shell)).collect();
        commands.extend(first.iter().chain(&last).map(|group| shell.delete_group(&group.id)));
        steps.push(next(
            "Nothing is held isolated and the stack is gone. These remove the groups that it left:",
            commands,
        ));
    }
    steps
}

/// The rules of a group that name one of the others.
pub(super) fn revoke(group: &Group, ours: &BTreeSet<&GroupId>, shell: &Shell) -> Vec<String> {
    let ways = [("ingress", &group.ingress), ("egress", &group.egress)];
    let rules = ways.into_iter().flat_map(|(way, rules)| rules.iter().map(move |rule| (way, rule)));
    let rules = rules.filter_map(|(way, rule)| match &rule.peer {
        Peer::Group(peer) if ours.contains(peer) && *peer != group.id => {
            let ports = rule.ports.map(|(from, to)| format!("FromPort={from},ToPort={to},")).unwrap_or_default();
            Some(shell.aws(&format!(
                "ec2 revoke-security-group-{way} --group-id {} --ip-permissions 'IpProtocol={},{ports}UserIdGroupPairs=[{{GroupId={peer}}}]'",
                group.id, rule.protocol
            )))
        }
        _ => None,
    });
    rules.collect()
}

/// Whether a record is only history.
pub(super) fn is_history(state: State) -> bool {
    state == State::Restored
}
