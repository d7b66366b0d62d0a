//! `isolate`: from what an alert names to an incident stack that holds it, and back when EC2 shows it isolated.
//!
//! The function isolates, not this program: what is here makes or changes the stack, and watches. **No instance is ever taken off
//! a list**: the list is read, added to and written (`deploy`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::deploy::{Deployment, LONGEST_WAIT, LOOK_EVERY};
use super::incident::{Address, cannot_look};
use super::responder::{Responder, TOPIC};
use super::shell::quoted;
use super::target::Target;
use super::text::{count, named, wrapped};
use super::{Operator, Progress, Status, TRAILING, Trouble, refused};
use crate::cloudformation::properties;
use crate::model::{
    Group, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Owner, Peer, Role, Rule, State, VpcId,
    comma_list,
};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{StackLife, StackResource, StackView, Template};
use crate::plan::{Observed, holder};
use crate::ports::{Change, GroupQuery};
use crate::reconcile::report::Report;

/// The incident's template, as the responder holds it, too.
pub(super) const INCIDENT: &str = include_str!("../../incident.yaml");
/// The parameter with the list of instances.
pub(super) const LIST: &str = "CompromisedInstanceList";
/// Whether interfaces pass the transit group.
const CUT: &str = "CutEstablishedConnections";
/// The one with their VPC.
pub(super) const VPC: &str = "VpcId";
const DRY_RUN: &str = "DryRun";
const RERUN: &str = "Rerun";
/// Parameters that are not a person's here.
const OWN: [&str; 4] = [DRY_RUN, RERUN, LIST, VPC];
/// A parameter of CloudFormation takes 4,096 characters: so many ids with their commas.
pub(super) const MOST_INSTANCES: usize = 204;
/// Names that are tried if the stack of the first one can no longer be used.
const MOST_NAMES: u32 = 50;
/// They stand for the groups that a new stack makes.
const ISOLATION: &str = "sg-00000000000000000";
const TRANSIT: &str = "sg-00000000000000001";

/// How a new stack is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The name of the stack; for several VPCs, how their names begin.
    pub stack: Option<String>,
    /// The one-shot template's address, which needs no responder.
    pub template_url: Option<String>,
    /// Further parameters.
    pub parameters: BTreeMap<String, String>,
}

/// What is to be asked of one stack.
#[derive(Debug, Clone)]
pub struct Order {
    pub stack: String,
    pub vpc: VpcId,
    /// What was asked for.
    pub targets: Vec<Instance>,
    /// The stack as it was.
    existing: Option<StackView>,
    options: Options,
    /// CloudFormation makes a new stack with it.
    role: Option<String>,
    /// Where the alarms of a new stack go.
    topic: Option<String>,
    /// CloudFormation has begun it.
    has_begun: Arc<AtomicBool>,
}

/// What became of one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Isolated {
    /// The stack did not complete.
    pub failed: bool,
    /// From the call of CloudFormation until EC2 showed every interface of what was asked for isolated, if it did.
    pub contained_after_ms: Option<u64>,
    /// Why established connections were not cut although that was asked for.
    pub not_cut: Option<String>,
    pub status: Status,
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Finds the instances, and the stack of each. Changes nothing.
    ///
    /// # Errors
    /// A target is not to be found or stands for several instances, its stack cannot take it, or something cannot be read.
    pub async fn orders(&self, targets: &[Target], options: &Options) -> Result<Vec<Order>, Trouble> {
        if let Some(own) = OWN.iter().find(|name| options.parameters.contains_key(**name)) {
            let instead = if *own == DRY_RUN { ": give --dry-run" } else { "" };
            return Err(refused(&format!("isolate sets parameter {own} by itself{instead}")));
        }
        let instances = self.resolve(targets).await?;
        let mut groups: BTreeMap<(VpcId, Option<String>), Vec<Instance>> = BTreeMap::new();
        let holders = self.holders(&instances).await?;
        let mut known: BTreeMap<&String, Option<StackView>> = BTreeMap::new();
        for stack in options.stack.iter().chain(holders.values()) {
            if !known.contains_key(stack) {
                known.insert(stack, self.view(stack).await?);
            }
        }
        let view = |stack: &String| known.get(stack)?.as_ref();
        let named = options.stack.as_ref().and_then(view);
        let place = |view: Option<&StackView>| view?.parameters.get(VPC).cloned();
        for instance in instances {
            let is_named = |holder: &&String| named.is_some_and(|view| view.id == **holder);
            let holder = holders.get(&instance.id).filter(|holder| !is_named(holder)).cloned();
            // The stack's, if an interface of the instance is there: the others have to be isolated by others.
            let place = place(named.or_else(|| view(holder.as_ref()?)));
            let mut shown = instance.interfaces.iter().filter_map(|interface| interface.vpc.as_ref());
            let own = shown.find(|vpc| place.as_deref() == Some(vpc.as_str()));
            let Some(vpc) = own.or(instance.vpc.as_ref()).cloned() else {
                return Err(refused(&format!("{} is in no VPC: it has no security groups", instance.id)));
            };
            groups.entry((vpc, holder)).or_default().push(instance);
        }
        let vpcs: BTreeSet<&VpcId> = groups.keys().map(|(vpc, _)| vpc).collect();
        let is_single = vpcs.len() == 1;
        let responder = self.responder().await?;
        let mut orders = Vec::new();
        for ((vpc, holder), targets) in groups {
            let (stack, existing) = match (&options.stack, holder) {
                (Some(name), holder) => {
                    let is_its_own = place(named).as_deref() == Some(vpc.as_str());
                    let is_whole = is_single || is_its_own || name.starts_with("arn:");
                    let name = if is_whole { name.clone() } else { format!("{name}-{vpc}") };
                    let view = self.view(&name).await?;
                    let is_other = |holder: &String| view.as_ref().is_none_or(|view| view.id != *holder);
                    if let Some(holder) = holder.filter(is_other) {
                        return Err(refused(&format!(
                            "{} held by {holder}, not by stack {name}: leave --stack out, or take them over with ec2-isolation adopt",
                            ids_are(&targets)
                        )));
                    }
                    if let Some(view) = &view {
                        self.check_usable_now(view, &vpc).await?;
                    }
                    (name, view)
                }
                (None, Some(holder)) => {
                    let view = self.view(&holder).await?;
                    let name = holder.split('/').nth(1).unwrap_or(&holder).to_owned();
                    let Some(view) = view else {
                        return Err(refused(&format!(
                            "{} held by {holder}, which is gone: take them over into another stack with ec2-isolation adopt --from {holder}",
                            ids_are(&targets)
                        )));
                    };
                    // Another stack would be refused for them, too.
                    if let Some(why) = self.takes_no_update(&view).await? {
                        return Err(refused(&format!(
                            "{} held by stack {name}, which {why}: ec2-isolation status --stack {name} shows what is open, with the commands \
                             that isolate it",
                            ids_are(&targets)
                        )));
                    }
                    check_usable(&view, &vpc)?;
                    (name, Some(view))
                }
                (None, None) => self.free_name(&vpc).await?,
            };
            if existing.is_none() && responder.is_none() && options.template_url.is_none() {
                return Err(refused(&format!(
                    "there is no responder in account {}, region {}. Prepare it (a minute; in the project's folder: make responder), or give \
                     --template-url with the address of the packaged one-shot template (make package)",
                    self.site.account, self.site.region
                )));
            }
            // A one-shot stack is beside no responder, whose role for incidents can make neither its function nor its table.
            let beside = responder.clone().filter(|_| options.template_url.is_none());
            let Responder { role, topic, .. } = beside.unwrap_or_default();
            let (options, has_begun) = (options.clone(), Arc::default());
            let order = Order { stack, vpc, targets, existing, options, role, topic, has_begun };
            let listed = order.list(order.existing.as_ref()).len();
            if listed > MOST_INSTANCES {
                return Err(refused(&format!(
                    "stack {} would list {listed} instances, and takes {MOST_INSTANCES}: give --stack with another name for some of them",
                    order.stack
                )));
            }
            orders.push(order);
        }
        Ok(orders)
    }

    /// What isolating would do now, by the plans of the function and with these credentials. Makes no stack.
    ///
    /// # Errors
    /// There is no table to look into, or a parameter is wrong.
    pub async fn rehearse(&self, order: &Order) -> Result<Report, Trouble> {
        let view = order.existing.as_ref();
        let listed = order.list(view).into_iter().map(|id| id.to_string());
        let group = |name: &str, role: Role, imagined: &str| {
            let id: Option<GroupId> = view.and_then(|view| view.physical_id(name)).unwrap_or(imagined).parse().ok();
            id.map(|id| group_to_be(id, role, &order.vpc))
        };
        let isolation = group("IsolatedSecurityGroup", Role::Isolation, ISOLATION);
        let transit = group("TransitSecurityGroup", Role::Transit, TRANSIT);
        let (Some(isolation), Some(transit)) = (isolation, transit) else {
            return Err(refused(&format!("stack {} has no groups of ours", order.stack)));
        };
        let parameters = view.map(|view| view.parameters.clone()).unwrap_or_default();
        let parameters: BTreeMap<String, String> =
            parameters.into_iter().chain(order.options.parameters.clone()).collect();
        let mut given = vec![
            (properties::INSTANCE_IDS, comma_list(listed)),
            (properties::VPC_ID, order.vpc.to_string()),
            (properties::ISOLATION_GROUP, isolation.id.to_string()),
            (properties::TRANSIT_GROUP, transit.id.to_string()),
        ];
        let is_named = |name: &str| ![DRY_RUN, VPC].contains(&name);
        let named = properties::PROPERTIES.iter().filter(|property| is_named(property.name));
        given.extend(named.filter_map(|property| Some((*property, parameters.get(property.name)?.clone()))));
        let wants = properties::wants(&given).map_err(|error| refused(&error.to_string()))?;
        let records = match view.and_then(|view| view.physical_id("SecurityGroupTable")) {
            Some(table) => table.to_owned(),
            None => self
                .responders_table()
                .await?
                .ok_or_else(|| refused("there is no responder, hence no records table"))?,
        };
        let owner = view.map_or_else(
            || Owner { stack_id: format!("the new stack {}", order.stack), logical_id: "Isolation".to_owned() },
            StackView::owner,
        );
        let ports = self.ports_in(&records);
        let imagined = if view.is_some() { vec![] } else { vec![isolation, transit] };
        let reconciler = self.reconciler(&ports, &owner);
        Ok(match reconciler.persist(reconciler.patience(), || reconciler.intent()).await {
            Ok(intent) => reconciler.dry_run(&wants, intent.as_ref(), &imagined).await,
            Err(error) => Report::failure(format!("dry run, nothing was changed: {error}")),
        })
    }

    /// Makes or changes the stack, watches until CloudFormation has ended, and looks.
    ///
    /// # Errors
    /// CloudFormation refused, or cannot be asked. What was begun goes on.
    pub async fn isolate(&self, order: &Order, on_progress: &(impl Fn(&Progress) + Sync)) -> Result<Isolated, Trouble> {
        let began = Instant::now();
        let (mut isolated, stack) = self.try_to_isolate(order, began, on_progress).await?;
        if let Some((order, refused)) = stack.and_then(|stack| order.without_transit(stack)) {
            isolated = self.try_to_isolate(&order, began, on_progress).await?.0;
            isolated.not_cut = Some(refused);
        }
        Ok(isolated)
    }

    async fn try_to_isolate(
        &self,
        order: &Order,
        began: Instant,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<(Isolated, Option<StackView>), Trouble> {
        let id = self.begin(order, on_progress, began).await?;
        let mut contained_after_ms = None;
        let stack = loop {
            let view = self.view(&id).await;
            // What cannot be read is asked for again: the stack is at work, whatever becomes of the watching.
            if let (Err(error), true) = (&view, began.elapsed() > LONGEST_WAIT) {
                return Err(error.clone());
            }
            if let Ok(progress) = self.progress(order, &id, view.as_ref().ok().and_then(Option::as_ref), began).await {
                // An interface may leave the isolation group once more, to have its connections cut.
                if progress.done < progress.total || progress.total == 0 {
                    contained_after_ms = None;
                } else if contained_after_ms.is_none() {
                    contained_after_ms = Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
                }
                on_progress(&progress);
            }
            if let Ok(view) = view
                && view.as_ref().is_none_or(|stack| !stack.is_busy())
            {
                break view;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let incident = self.incident(&Address::Stack(id)).await;
        let incident = incident.map_err(|trouble| match trouble {
            // It was there, and is gone again.
            Trouble::Refused(_) => {
                let ids = ids_are(&order.targets);
                Trouble::Open(format!("{ids} not isolated by stack {}, which was deleted meanwhile", order.stack))
            }
            other => other,
        })?;
        let status = self.status(&incident).await;
        let failed = stack.as_ref().is_none_or(|stack| !is_complete(stack));
        let contained_after_ms = contained_after_ms.filter(|_| !status.is_anything_open());
        Ok((Isolated { failed, contained_after_ms, not_cut: None, status }, stack))
    }

    /// Asks CloudFormation. The id of the stack.
    async fn begin(
        &self,
        order: &Order,
        on_progress: &(impl Fn(&Progress) + Sync),
        began: Instant,
    ) -> Result<String, Trouble> {
        let template = order.options.template_url.as_deref().map_or(Template::Body(INCIDENT), Template::Url);
        let deployment = Deployment { name: &order.stack, template, role: order.role.as_deref() };
        let parameters = |seen: Option<&StackView>| {
            seen.map_or(Ok(()), |stack| check_usable(stack, &order.vpc))?;
            Ok(order.parameters(seen, &self.note()))
        };
        let meanwhile = async |stack: &StackView| {
            if let Ok(progress) = self.progress(order, &stack.id, Some(stack), began).await {
                on_progress(&progress);
            }
        };
        let id = self.deploy(&deployment, &parameters, &meanwhile).await?;
        order.has_begun.store(true, Ordering::Relaxed);
        Ok(id)
    }

    async fn progress(
        &self,
        order: &Order,
        stack: &str,
        view: Option<&StackView>,
        began: Instant,
    ) -> Result<Progress, Trouble> {
        let ids: BTreeSet<InstanceId> = order.targets.iter().map(|target| target.id.clone()).collect();
        let query = GroupQuery::OfStack(stack.to_owned());
        let looked = tokio::try_join!(self.ports.ec2.instances(&ids), self.ports.ec2.groups(&query));
        let (instances, groups) = looked.map_err(cannot_look)?;
        let isolating: BTreeSet<GroupId> =
            groups.into_iter().filter(|group| group.role == Some(Role::Isolation)).map(|group| group.id).collect();
        let shown: BTreeMap<&InterfaceId, &Groups> =
            interfaces_of(&instances).map(|interface| (&interface.id, &interface.groups)).collect();
        // A reading that leaves one out says nothing of it.
        let all: BTreeSet<&InterfaceId> =
            interfaces_of(&order.targets).map(|interface| &interface.id).chain(shown.keys().copied()).collect();
        let is_isolated = |groups: &&&Groups| !groups.is_empty() && groups.is_subset(&isolating);
        Ok(Progress {
            stack: order.stack.clone(),
            status: view.map(|view| view.status.status.clone()).unwrap_or_default(),
            seconds: began.elapsed().as_secs(),
            done: shown.values().filter(is_isolated).count(),
            total: all.len(),
            what: "interfaces isolated",
        })
    }

    /// The stacks that hold some of the instances already, by their records and by the groups that they are in: the function would
    /// leave these to them.
    pub(super) async fn holders(&self, instances: &[Instance]) -> Result<BTreeMap<InstanceId, String>, Trouble> {
        let ids: BTreeSet<InstanceId> = instances.iter().map(|instance| instance.id.clone()).collect();
        let mut holders = BTreeMap::new();
        let vpcs: BTreeSet<&VpcId> = interfaces_of(instances).filter_map(|interface| interface.vpc.as_ref()).collect();
        let mut observed = Observed::default();
        for vpc in vpcs {
            let groups = self.ports.ec2.groups(&GroupQuery::Marked(vpc.clone())).await.map_err(cannot_look)?;
            observed.groups.extend(groups.into_iter().map(|group| (group.id.clone(), group)));
        }
        let held = instances.iter().filter_map(|found| Some((found.id.clone(), holder(&observed, found)?.clone())));
        holders.extend(held);
        if let Some(table) = self.responders_table().await? {
            let nobody = Owner { stack_id: String::new(), logical_id: String::new() };
            let items = self.ports.records.named(&table).read(&nobody, &ids).await;
            let items = items.map_err(|error| Trouble::Failed { what: "the records cannot be read", error })?;
            let held = items.records.values().filter(|record| record.state != State::Restored);
            holders.extend(held.map(|record| (record.instance.clone(), record.owner.stack_id.clone())));
        }
        Ok(holders)
    }

    /// A name for the incident of a VPC: one and the same for all who ask, so that they add to one list.
    async fn free_name(&self, vpc: &VpcId) -> Result<(String, Option<StackView>), Trouble> {
        for number in 1..=MOST_NAMES {
            let name = if number == 1 { format!("incident-{vpc}") } else { format!("incident-{vpc}-{number}") };
            let view = self.view(&name).await?;
            if let Some(view) = &view {
                match self.check_usable_now(view, vpc).await {
                    Err(Trouble::Refused(_)) => continue,
                    other => other?,
                }
            }
            return Ok((name, view));
        }
        Err(refused(&format!("{MOST_NAMES} stacks named incident-{vpc}-… cannot be used any more: give --stack")))
    }

    /// Why CloudFormation refuses every update of a stack, if it does.
    async fn takes_no_update(&self, stack: &StackView) -> Result<Option<String>, Trouble> {
        if !stack.takes_updates() {
            return Ok(Some(format!("is {} and takes no update", stack.status.status)));
        }
        // The type of the parameter is a list of instances that are there.
        let mut gone = stack.instances();
        for pause in [Duration::ZERO, TRAILING] {
            if !gone.is_empty() {
                tokio::time::sleep(pause).await;
                let shown = self.ports.ec2.instances(&gone).await.map_err(cannot_look)?;
                gone.retain(|id| !shown.iter().any(|instance| instance.id == *id));
            }
        }
        Ok((!gone.is_empty()).then(|| {
            format!(
                "lists {}, which EC2 no longer shows, so that CloudFormation refuses every update",
                comma_list(gone)
            )
        }))
    }

    async fn check_usable_now(&self, stack: &StackView, vpc: &VpcId) -> Result<(), Trouble> {
        check_usable(stack, vpc)?;
        match self.takes_no_update(stack).await? {
            Some(why) => Err(refused(&format!("stack {} {why}: give another --stack", stack.name))),
            None => Ok(()),
        }
    }
}

impl Order {
    /// What a dry run of it says, as a person reads it.
    #[must_use]
    pub fn rehearsed(&self, report: &Report) -> String {
        let first = wrapped(&format!("{}: {}", self.stack, report.headline), "  ");
        let rest = report.details.iter().map(|line| wrapped(&format!("  {line}"), "    "));
        std::iter::once(first).chain(rest).map(|line| line + "\n").collect()
    }

    /// Whether CloudFormation has begun it, which does not end with this program.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// The command that asks for the same once more.
    #[must_use]
    pub fn again_by_hand(&self) -> String {
        let ids: Vec<String> = self.targets.iter().map(|target| target.id.to_string()).collect();
        let url = self.options.template_url.iter().map(|url| format!(" --template-url {}", quoted(url)));
        let given = self.options.parameters.iter();
        let given = given.map(|(name, value)| format!(" --parameter {}", quoted(&format!("{name}={value}"))));
        format!("isolate --stack {} {}{}", self.stack, ids.join(" "), url.chain(given).collect::<String>())
    }

    /// It makes a stack that has everything in it.
    pub(super) fn is_one_shot(&self) -> bool {
        self.options.template_url.is_some()
    }

    /// Everything that the stack lists then, in a stable order.
    pub(super) fn list(&self, stack: Option<&StackView>) -> BTreeSet<InstanceId> {
        let listed = stack.map(StackView::instances).unwrap_or_default();
        listed.into_iter().chain(self.targets.iter().map(|target| target.id.clone())).collect()
    }

    fn parameters(&self, stack: Option<&StackView>, note: &str) -> BTreeMap<String, String> {
        let mut parameters = self.options.parameters.clone();
        let list: Vec<String> = self.list(stack).iter().map(ToString::to_string).collect();
        parameters.insert(LIST.to_owned(), list.join(","));
        parameters.insert(RERUN.to_owned(), note.to_owned());
        // CloudFormation keeps a parameter's last value.
        parameters.insert(DRY_RUN.to_owned(), "false".to_owned());
        parameters.insert(VPC.to_owned(), self.vpc.to_string());
        // One that is there keeps its own.
        let topic = self.topic.iter().filter(|_| stack.is_none());
        for topic in topic {
            parameters.entry(TOPIC.to_owned()).or_insert_with(|| topic.clone());
        }
        parameters
    }

    /// A guardrail of the account may refuse a group that is open to everybody, which keeps everything else from being made. So the same
    /// once more without it, and why; nothing if it was not that, or if a person has decided about it.
    fn without_transit(&self, stack: StackView) -> Option<(Self, String)> {
        let is_cut = stack.parameters.get(CUT).is_none_or(|cut| cut == "true");
        if !is_cut || self.options.parameters.contains_key(CUT) || !stack.takes_updates() {
            return None;
        }
        let is_refused =
            |group: &&StackResource| group.logical_id == "TransitSecurityGroup" && group.status.ends_with("_FAILED");
        let refused = stack.resources.iter().find(is_refused)?;
        let why = format!(
            "TransitSecurityGroup was refused: {}. So stack {} was changed to {CUT}=false: established connections are not cut",
            refused.reason.trim_end_matches(['.', ' ']),
            stack.name
        );
        let mut order = self.clone();
        order.options.parameters.insert(CUT.to_owned(), "false".to_owned());
        order.existing = Some(stack);
        Some((order, why))
    }

    /// Instances that the stack lists already and the operator did not name now: its update looks at them as well.
    fn again(&self) -> Vec<InstanceId> {
        let listed = self.existing.as_ref().map(StackView::instances).unwrap_or_default();
        listed.into_iter().filter(|id| !self.targets.iter().any(|target| target.id == *id)).collect()
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.existing {
            None => "to be made".to_owned(),
            Some(stack) => format!("{}, to be updated", stack.status.status),
        };
        writeln!(f, "{}", wrapped(&format!("stack {} in {}: {what}", self.stack, self.vpc), "  "))?;
        for target in &self.targets {
            let target_named = named(target.id.as_str(), target.tags.get("Name").map(String::as_str));
            let interfaces = count(target.interfaces.len(), "interface");
            writeln!(f, "{}", wrapped(&format!("  {target_named}  {}, {interfaces}", target.state), "    "))?;
        }
        for (name, value) in &self.options.parameters {
            writeln!(f, "{}", wrapped(&format!("  with {name}={value}"), "    "))?;
        }
        let again = self.again();
        if !again.is_empty() {
            let text =
                format!("  It lists these already, and isolates them again if they are open: {}", comma_list(again));
            writeln!(f, "{}", wrapped(&text, "  "))?;
        }
        Ok(())
    }
}

fn interfaces_of(instances: &[Instance]) -> impl Iterator<Item = &Interface> {
    instances.iter().flat_map(|instance| &instance.interfaces)
}

fn ids_are(instances: &[Instance]) -> String {
    let ids = comma_list(instances.iter().map(|instance| &instance.id));
    format!("{ids} {}", if instances.len() == 1 { "is" } else { "are" })
}

pub(super) fn is_complete(stack: &StackView) -> bool {
    matches!(stack.status.status.as_str(), "CREATE_COMPLETE" | "UPDATE_COMPLETE")
}

/// Fails if an update of this stack isolates nothing in this VPC.
fn check_usable(stack: &StackView, vpc: &VpcId) -> Result<(), Trouble> {
    let Some(own) = stack.parameters.get(VPC).filter(|_| stack.parameters.contains_key(LIST)) else {
        return Err(refused(&format!("stack {} is no incident: give another --stack", stack.name)));
    };
    if own != vpc.as_str() {
        return Err(refused(&format!("stack {} is for {own}, not for {vpc}: give another --stack", stack.name)));
    }
    if stack.takes_updates() {
        return Ok(());
    }
    let status = &stack.status.status;
    Err(refused(&format!("stack {} is {status} and takes no update: give another --stack", stack.name)))
}

/// A group of ours as the template makes it.
fn group_to_be(id: GroupId, role: Role, vpc: &VpcId) -> Group {
    let rules = match role {
        Role::Transit => ["0.0.0.0/0", "::/0"]
            .map(|cidr| Rule { protocol: "-1".to_owned(), ports: None, peer: Peer::Cidr(cidr.to_owned()) })
            .to_vec(),
        _ => vec![],
    };
    let (ingress, egress) = (rules.clone(), rules);
    Group { id, vpc: Some(vpc.clone()), role: Some(role), stack_id: None, ingress, egress }
}

impl fmt::Display for Isolated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ms) = self.contained_after_ms {
            let stack = &self.status.stack.name;
            let (seconds, tenths) = (ms / 1000, ms % 1000 / 100);
            let text = format!("{stack}: contained {seconds}.{tenths} s after CloudFormation was called.");
            writeln!(f, "{}", wrapped(&text, "  "))?;
        }
        if let Some(not_cut) = &self.not_cut {
            writeln!(f, "{}", wrapped(&format!("! {not_cut}."), "  "))?;
        }
        f.write_str(&self.status.brief(usize::MAX))
    }
}
