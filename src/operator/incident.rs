//! Everything there is to see of one incident, read once: stack, records, hosts, groups. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::credentials::credentials_name;
use super::{Operator, Trouble};
use crate::model::{
    Group, GroupId, Groups, Instance, InstanceId, Interface, InterfaceId, Owner, Record, Role, State, VpcId, comma_list,
};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::{Export, RECORDS_EXPORT, StackLife, StackView};
use crate::plan::{Observed, Records};
use crate::ports::{Call, Change, GroupQuery, INTENT_PREFIX, Items, Look, Ports};

/// The logical id of the records table in our template.
const TABLE: &str = "SecurityGroupTable";

/// How an operator names an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A name or an ARN.
    Stack(String),
    Table(String),
}

impl Address {
    /// As it is given to this program again.
    #[must_use]
    pub fn argument(&self) -> String {
        match self {
            Self::Stack(stack) => format!("--stack {}", super::shell::quoted(stack)),
            Self::Table(table) => format!("--table {}", super::shell::quoted(table)),
        }
    }
}

/// Where an incident is to be read.
struct Located {
    /// Nothing where it is gone.
    stack: Option<StackView>,
    table: String,
    /// The table is the responder's, and holds other incidents as well.
    is_shared: bool,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Incident {
    pub address: Address,
    pub table: String,
    /// The table is a responder's, and holds other incidents as well.
    pub is_shared: bool,
    /// The stack's function reads another table: what is deleted by it is not restored from this one.
    pub is_copy: bool,
    /// Nothing where it is gone.
    pub stack: Option<StackView>,
    /// The stack's name, known from its table's where it is gone.
    pub stack_name: String,
    /// The stack beside it that denies the credentials of its instances, if there is one.
    pub(super) credentials: Result<Option<StackView>, Trouble>,
    pub ledger: Items,
    /// Of the records: instances, interfaces, groups of ours and original groups.
    pub observed: Observed,
    /// The groups that CloudFormation says the stack made.
    pub groups: BTreeMap<GroupId, Group>,
    /// Interfaces in a group of ours of which there is no record.
    pub strays: Vec<Interface>,
    /// Interfaces in the stack's groups, the forensic one included.
    pub members: Vec<Interface>,
    /// The forensic host, if there is one.
    pub(super) host: Result<Option<InstanceId>, Trouble>,
}

impl Incident {
    /// Records that are not only history.
    pub fn held(&self) -> impl Iterator<Item = &Record> {
        self.ledger.records.values().map(Arc::as_ref).filter(|record| self.is_held(record))
    }

    /// Whether a record is more than history: by its word, or since EC2 shows an interface of it, which no other one holds, in a group
    /// of ours.
    pub(super) fn is_held(&self, record: &Record) -> bool {
        if record.state != State::Restored {
            return true;
        }
        let ours = self.isolating(record);
        let shows = |id| self.observed.interfaces.get(id).is_some_and(|found| !found.groups.is_disjoint(&ours));
        let others = || self.ledger.records.values().filter(|other| other.state != State::Restored);
        let is_only_here = |id| !others().any(|other| other.interfaces.contains_key(id));
        record.interfaces.keys().any(|id| shows(id) && is_only_here(id))
    }

    /// Whose they are, each with one of its instances.
    #[must_use]
    pub fn owners(&self) -> BTreeMap<Owner, InstanceId> {
        self.held().map(|record| (record.owner.clone(), record.instance.clone())).collect()
    }

    /// Refuses what names several incidents in a table that they share: the table itself, or a name that a stack which is gone had
    /// before another one. One may be over, and the others not.
    pub(super) fn check_single(&self) -> Result<(), Trouble> {
        let owners = self.owners();
        let stacks: BTreeSet<&String> = owners.keys().map(|owner| &owner.stack_id).collect();
        if stacks.len() > 1 {
            return Err(Trouble::Refused(format!(
                "nothing was changed: table {} holds several incidents, say which by the ARN of its stack: {}",
                self.table,
                comma_list(stacks)
            )));
        }
        Ok(())
    }

    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.observed.instances.get(id)
    }

    /// Every group that isolates or cuts for this record.
    #[must_use]
    pub fn isolating(&self, record: &Record) -> Groups {
        let tagged = self.observed.groups.values().filter(|group| group.isolates_for(&record.owner));
        tagged.map(|group| group.id.clone()).chain(record.isolation_groups.iter().cloned()).collect()
    }
}

impl<E: Survey + Change, R: Archive, S: StackLife> Operator<E, R, S> {
    /// Reads everything there is to see.
    ///
    /// # Errors
    /// It is not to be found, several are, it is elsewhere, or a call failed.
    pub async fn incident(&self, address: &Address) -> Result<Incident, Trouble> {
        let Located { mut stack, table, is_shared } = self.locate(address).await?;
        let records = self.ports.records.named(&table);
        let mut ledger = records.scan().await.map_err(|error| unknown_table(&table, error))?;
        // Also by other incidents in this table.
        let others = ledger.records.values().filter(|record| record.state != State::Restored);
        let others: BTreeSet<InterfaceId> = others.flat_map(|record| record.interfaces.keys().cloned()).collect();
        if let (Address::Stack(named), true) = (address, is_shared) {
            keep_own(&mut ledger, stack.as_ref(), named);
            if stack.is_none() && ledger.records.is_empty() {
                return Err(self.unknown_stack(named));
            }
        }
        let stack_ids: BTreeSet<&str> = ledger.records.values().map(|record| record.owner.stack_id.as_str()).collect();
        for id in &stack_ids {
            self.check_place(id)?;
        }
        // By the table alone, its records say which stack it was.
        let only_stack = stack_ids.first().filter(|_| stack_ids.len() == 1);
        if let (None, Some(id)) = (&stack, only_stack) {
            stack = self.view(id).await?;
        }
        let stack_name = match (&stack, address) {
            (Some(stack), _) => stack.name.clone(),
            (None, Address::Stack(stack)) => name_of(stack).to_owned(),
            (None, Address::Table(table)) => {
                let by_table = stack_of(table);
                only_stack.map_or(by_table, |id| name_of(id)).to_owned()
            }
        };
        let query = match (&stack, only_stack) {
            (Some(stack), _) => GroupQuery::OfStack(stack.id.clone()),
            (None, Some(id)) => GroupQuery::OfStack((*id).to_owned()),
            (None, None) => GroupQuery::OfStackNamed(stack_name.clone()),
        };
        let groups = self.ports.ec2.groups(&query).await.map_err(cannot_look)?;
        let observed = observe_held(&self.ports.ec2, &ledger.records).await.map_err(cannot_look)?;
        let isolating = groups.iter().filter(|group| group.role.is_some()).map(|group| group.id.clone());
        let isolating: Groups = isolating
            .chain(ledger.records.values().flat_map(|record| record.isolation_groups.clone()))
            .filter(|id| observed.groups.contains_key(id) || groups.iter().any(|group| group.id == *id))
            .collect();
        let members = if isolating.is_empty() {
            vec![]
        } else {
            self.ports.ec2.interfaces_in(&isolating).await.map_err(cannot_look)?
        };
        let forensic: Groups =
            groups.iter().filter(|group| group.role == Some(Role::Forensic)).map(|group| group.id.clone()).collect();
        let recorded = |id: &InterfaceId| {
            others.contains(id) || ledger.records.values().any(|record| record.interfaces.contains_key(id))
        };
        let strays = members.iter().filter(|interface| {
            !recorded(&interface.id) && !interface.groups.iter().all(|group| forensic.contains(group))
        });
        let address = match (address, &stack) {
            (Address::Stack(_), Some(stack)) => Address::Stack(stack.name.clone()),
            (address, _) => address.clone(),
        };
        // A stack that is named is read with its own table.
        let is_copy = match (&address, &stack) {
            (Address::Table(_), Some(stack)) => self.own_table(stack).await?.is_some_and(|own| own != table),
            _ => false,
        };
        let denial = credentials_name(&stack_name);
        let (credentials, host) = tokio::join!(self.denying(&denial), self.forensic_host(&stack_name, stack.as_ref()));
        Ok(Incident {
            address,
            credentials,
            host,
            is_copy,
            stack,
            stack_name,
            strays: strays.cloned().collect(),
            members,
            groups: index(groups, |group| group.id.clone()),
            table,
            is_shared,
            ledger,
            observed,
        })
    }

    /// What a person means by a name: a stack, or a table if there is no such stack.
    ///
    /// # Errors
    /// A call failed.
    pub async fn address(&self, name: &str) -> Result<Address, Trouble> {
        if !name.starts_with("arn:") && self.view(name).await?.is_none() {
            let tables = self.ports.records.tables(name).await;
            let tables = tables.map_err(|error| Trouble::Failed { what: "the tables cannot be listed", error })?;
            if tables.iter().any(|table| table == name) {
                return Ok(Address::Table(name.to_owned()));
            }
        }
        Ok(Address::Stack(name.to_owned()))
    }

    /// The table that the function of a stack reads.
    async fn own_table(&self, stack: &StackView) -> Result<Option<String>, Trouble> {
        match stack.physical_id(TABLE) {
            Some(table) => Ok(Some(table.to_owned())),
            None if stack.function_outlives => self.responders_table().await,
            None => Ok(None),
        }
    }

    /// The ports with the records table of this incident.
    pub(super) fn ports_of(&self, incident: &Incident) -> Ports<E, R, S>
    where
        E: Clone,
        S: Clone,
    {
        self.ports_in(&incident.table)
    }

    pub(super) fn ports_in(&self, table: &str) -> Ports<E, R, S>
    where
        E: Clone,
        S: Clone,
    {
        Ports {
            ec2: self.ports.ec2.clone(),
            records: self.ports.records.named(table),
            stacks: self.ports.stacks.clone(),
        }
    }

    pub(super) async fn view(&self, stack: &str) -> Result<Option<StackView>, Trouble> {
        let view = self.ports.stacks.view(stack).await;
        view.map_err(|error| Trouble::Failed { what: "the stack cannot be read", error })
    }

    async fn locate(&self, address: &Address) -> Result<Located, Trouble> {
        let own = |stack, table| Ok(Located { stack, table, is_shared: false });
        let shared = |stack, table| Ok(Located { stack, table, is_shared: true });
        let stack = match address {
            Address::Table(table) => return own(None, table.clone()),
            Address::Stack(stack) => stack,
        };
        if stack.starts_with("arn:") {
            self.check_place(stack)?;
        }
        let view = self.view(stack).await?;
        if let Some(table) = view.as_ref().and_then(|view| view.physical_id(TABLE)) {
            let table = table.to_owned();
            return own(view, table);
        }
        if view.as_ref().is_some_and(|view| view.function_outlives)
            && let Some(table) = self.responders_table().await?
        {
            return shared(view, table);
        }
        // The table outlives its stack; CloudFormation made its name from the stack's.
        let prefix = format!("{}-{TABLE}-", name_of(stack));
        let tables = self.ports.records.tables(&prefix).await;
        let tables = tables.map_err(|error| Trouble::Failed { what: "the tables cannot be listed", error })?;
        match tables.as_slice() {
            [table] => own(view, table.clone()),
            [] => match self.responders_table().await? {
                // Its stack is gone; what the responder's table says of it is left.
                Some(table) if view.is_none() => shared(None, table),
                _ => Err(view.and_then(|view| without_table(&view)).unwrap_or_else(|| self.unknown_stack(stack))),
            },
            several => Err(Trouble::Refused(format!(
                "nothing was changed: several stacks of this name have left their records, say which with --table: {}",
                several.join(", ")
            ))),
        }
    }

    /// Every records table that a stack of ours has made, with everything that it holds.
    pub(super) async fn ledgers(&self) -> Result<Vec<(String, Items)>, Trouble> {
        let failed = |error| Trouble::Failed { what: "the tables cannot be read", error };
        let tables = self.ports.records.tables("").await.map_err(failed)?;
        let mut ledgers = Vec::new();
        for table in tables.into_iter().filter(|table| !stack_of(table).is_empty()) {
            let items = self.ports.records.named(&table).scan().await.map_err(failed)?;
            ledgers.push((table, items));
        }
        Ok(ledgers)
    }

    /// The table of all incidents that have no table of their own.
    pub(super) async fn responders_table(&self) -> Result<Option<String>, Trouble> {
        Ok(self.export(RECORDS_EXPORT).await?.map(|export| export.value))
    }

    pub(super) async fn export(&self, name: &str) -> Result<Option<Export>, Trouble> {
        let export = self.ports.stacks.export(name).await;
        export.map_err(|error| Trouble::Failed { what: "the exports cannot be listed", error })
    }

    fn unknown_stack(&self, stack: &str) -> Trouble {
        Trouble::Refused(format!(
            "nothing was changed: there is no stack {stack} with a records table, and no table {}-{TABLE}-…, in account {}, region {}",
            name_of(stack),
            self.site.account,
            self.site.region
        ))
    }
}

/// An incident that has not, or never had, a table to record anything in: it has isolated nothing of what it lists.
fn without_table(stack: &StackView) -> Option<Trouble> {
    let listed = stack.instances();
    let failed = stack.resources.iter().filter(|resource| resource.status.ends_with("_FAILED"));
    let mut failed: String = failed.map(|resource| format!("; {}: {}", resource.logical_id, resource.reason)).collect();
    // What fails a stack as a whole names no resource.
    if failed.is_empty() && stack.status.status.ends_with("_FAILED") && !stack.status.reason.is_empty() {
        failed = format!("; {}", stack.status.reason);
    }
    let failed = failed.trim_end_matches(['.', ' ']);
    let next = match stack.is_busy() {
        true => "It is at work: look again in a minute",
        // Beside a responder that is not there: the name is that of one of its exports.
        false if failed.contains("No export named ec2-isolation") => {
            "Prepare this account and Region first (make responder), delete the stack, then isolate again"
        }
        false => "Remove the cause, delete the stack, then isolate again",
    };
    (!listed.is_empty()).then(|| {
        Trouble::Open(format!(
            "stack {} is {} and has no records table, so it has isolated none of {}{failed}. {next}",
            stack.name,
            stack.status.status,
            comma_list(&listed)
        ))
    })
}

/// The stack that made a records table, from which CloudFormation has made the table's name; empty if it is no such name.
pub(super) fn stack_of(table: &str) -> &str {
    table.split_once(&format!("-{TABLE}-")).map_or("", |(name, _)| name)
}

/// `incident-42` of its ARN, or of its name.
fn name_of(stack: &str) -> &str {
    if stack.starts_with("arn:") { stack.split('/').nth(1).unwrap_or(stack) } else { stack }
}

/// Leaves what is of this stack: the responder's table holds every incident. A stack that is gone is known by its name.
fn keep_own(ledger: &mut Items, stack: Option<&StackView>, named: &str) {
    let is_own = |owner: &Owner| match stack {
        Some(stack) => owner.stack_id == stack.id,
        None if named.starts_with("arn:") => owner.stack_id == named,
        None => name_of(&owner.stack_id) == named,
    };
    ledger.records.retain(|_, record| is_own(&record.owner));
    let mut digests: BTreeSet<String> = ledger.records.values().map(|record| record.owner.digest()).collect();
    // Its first request may have recorded nothing yet.
    digests.extend(stack.map(|stack| stack.owner().digest()));
    ledger.intents.retain(|digest, _| digests.contains(digest));
    let is_others = |key: &str| key.strip_prefix(INTENT_PREFIX).is_some_and(|digest| !digests.contains(digest));
    ledger.unreadable.retain(|key, _| !is_others(key));
}

fn unknown_table(table: &str, error: crate::ports::CallError) -> Trouble {
    if error.code == "ResourceNotFoundException" {
        return Trouble::Refused(format!("nothing was changed: there is no table {table} in this account and region"));
    }
    Trouble::Failed { what: "the records cannot be read", error }
}

pub(super) fn cannot_look(error: crate::ports::CallError) -> Trouble {
    Trouble::Failed { what: "the hosts cannot be read", error }
}

pub(super) fn index<K: Ord, V>(items: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    items.into_iter().map(|item| (key(&item), item)).collect()
}

/// Instances, interfaces and groups of these records, with the other groups of ours in their VPCs.
pub(super) async fn observe_held<E: Look>(ec2: &E, records: &Records) -> Call<Observed> {
    let instances = records.values().map(|record| record.instance.clone()).collect();
    let ids: BTreeSet<InterfaceId> = records.values().flat_map(|record| record.interfaces.keys().cloned()).collect();
    let originals = records.values().flat_map(|record| record.interfaces.values().flatten().cloned());
    let groups =
        GroupQuery::Ids(originals.chain(records.values().flat_map(|record| record.isolation_groups.clone())).collect());
    let vpcs: BTreeSet<VpcId> = records.values().map(|record| record.vpc.clone()).collect();
    let marked = futures_util::future::try_join_all(
        vpcs.into_iter().map(|vpc| async move { ec2.groups(&GroupQuery::Marked(vpc)).await }),
    );
    let (instances, interfaces, groups, marked) =
        tokio::try_join!(ec2.instances(&instances), ec2.interfaces(&ids), ec2.groups(&groups), marked)?;
    Ok(Observed {
        instances: index(instances, |instance| instance.id.clone()),
        interfaces: index(interfaces, |interface| interface.id.clone()),
        looked_up: ids,
        groups: index(marked.into_iter().flatten().chain(groups).collect(), |group| group.id.clone()),
        ..Observed::default()
    })
}
