//! `adopt`: the steps of [`crate::plan::adopt`], carried out between two records tables, or in one that both stacks share: there the
//! record changes hands in its place.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::incident::{Address, Incident, cannot_look, index, observe_held};
use super::text::wrapped;
use super::{Operator, Trouble};
use crate::model::{Desired, GroupId, InstanceId, Owner, Record, ShowGroups, State};
use crate::operator::ports::{Archive, Survey, Takeover};
use crate::operator::stack::{StackLife, StackView};
use crate::plan::{Adoption, DOUBTED, Heritage, Observed, Step, adopt};
use crate::ports::{Call, Change, GroupQuery, Items, Ports, Stamp, Written};

/// From where to where.
#[derive(Debug)]
pub struct Handover<R> {
    from: R,
    to: R,
    to_table: String,
    /// Both stacks keep their records in one table, their responder's.
    is_shared: bool,
    pub old: Incident,
    owner: Owner,
    isolation_group: GroupId,
    in_charge: BTreeSet<String>,
    /// Whose records are meant.
    stacks: BTreeSet<String>,
    only: BTreeSet<InstanceId>,
    /// What is to be done, as it was seen first.
    pub first: Adoption,
}

/// What an adoption would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandoverPreview {
    /// Instances whose records are to be copied first; what follows shows after that.
    pub take_over: Vec<String>,
    pub steps: Vec<String>,
    /// Instances whose old records are to be taken out.
    pub let_go: Vec<String>,
    pub obstacles: Vec<String>,
}

/// What an adoption did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandoverReport {
    pub failed: bool,
    pub adopted: Vec<String>,
    /// What failed or stands in the way, and notes.
    pub details: Vec<String>,
}

/// What one look sees.
struct Seen {
    old: Items,
    new: Items,
    listed: BTreeSet<InstanceId>,
    observed: Observed,
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Looks at both, and plans. Changes nothing.
    ///
    /// # Errors
    /// One is not to be found, the new stack cannot take anything over, or something cannot be read.
    pub async fn handover(
        &self,
        from: &Address,
        to: &str,
        only: &BTreeSet<InstanceId>,
    ) -> Result<Handover<R>, Trouble> {
        let mut old = self.incident(from).await?;
        old.check_single()?;
        let new = self.incident(&Address::Stack(to.to_owned())).await?;
        let refuse = |why: &str| Trouble::Refused(format!("nothing was changed: stack {to} {why}: deploy it first"));
        let stack = new.stack.as_ref().ok_or_else(|| refuse("is gone"))?;
        if !stack.takes_updates() || stack.is_busy() {
            return Err(refuse(&format!("is {}", stack.status.status)));
        }
        let custom = stack.isolation().ok_or_else(|| refuse("has no Custom::Ec2Isolation that would restore them"))?;
        let group = stack.physical_id("IsolatedSecurityGroup").and_then(|id| id.parse().ok());
        let owner = Owner { stack_id: stack.id.clone(), logical_id: custom.logical_id.clone() };
        let is_shared = old.table == new.table;
        if is_shared {
            let gone =
                matches!(from, Address::Table(_)) || old.owners().keys().any(|old| old.stack_id == owner.stack_id);
            if gone || old.stack.as_ref().is_some_and(|old| old.id == owner.stack_id) {
                let why = "name two stacks, since a table may hold several incidents";
                return Err(Trouble::Refused(format!("nothing was changed: both are table {}: {why}", old.table)));
            }
            self.remember(&mut old, &owner).await?;
        }
        let mut in_charge = BTreeSet::new();
        let stacks: BTreeSet<String> = old.held().map(|record| record.owner.stack_id.clone()).collect();
        for id in &stacks {
            let stack = self.view(id).await?;
            in_charge.extend(stack.filter(StackView::is_deployable).map(|_| id.clone()));
        }
        let mut handover = Handover {
            from: self.ports.records.named(&old.table),
            to: self.ports.records.named(&new.table),
            to_table: new.table.clone(),
            is_shared,
            owner,
            isolation_group: group.ok_or_else(|| refuse("has no IsolatedSecurityGroup"))?,
            in_charge,
            stacks,
            only: only.clone(),
            first: Adoption::default(),
            old,
        };
        let seen = self.look(&handover).await.map_err(cannot_look)?;
        handover.first = handover.plan(&seen);
        Ok(handover)
    }

    /// Carries it out. Run again it goes on where it stopped.
    ///
    /// # Errors
    /// Nothing can be read.
    pub async fn adopt(&self, handover: &Handover<R>) -> Result<HandoverReport, Trouble> {
        let mut details = Vec::new();
        let ports = Ports {
            ec2: self.ports.ec2.clone(),
            records: handover.to.named(&handover.to_table),
            stacks: self.ports.stacks.clone(),
        };
        let reconciler = self.reconciler(&ports, &handover.owner);
        let patience = reconciler.patience();
        let seen = self.look(handover).await.map_err(cannot_look)?;
        let adoption = handover.plan(&seen);
        let mut adopted = adoption.instances();
        let (now, asked_by) = (self.clock.now(), self.asked_by.as_str());
        let stamp = Stamp { now, asked_by, writer: &self.request_id };
        let takeover = Takeover { owner: &handover.owner, isolation_group: &handover.isolation_group, stamp: &stamp };
        for record in adoption.take_over.iter().filter_map(|id| seen.old.records.get(id)) {
            let id = &record.instance;
            tracing::info!(instance = %id, "recording in the new table");
            let copying = || handover.to.take_over(&handover.from, record, &takeover);
            details.extend(said(id, "was not recorded in the new table", reconciler.persist(patience, copying).await));
        }

        let seen = self.look(handover).await.map_err(cannot_look)?;
        let moving = handover.plan(&seen).instances();
        let (unsettled, problems) = reconciler.adopt(&handover.heritage(&seen), &moving).await;
        let mut failed = !unsettled.is_empty();
        details.extend(problems);

        let seen = self.look(handover).await.map_err(cannot_look)?;
        let adoption = handover.plan(&seen);
        for record in adoption.let_go.difference(&unsettled).filter_map(|id| seen.old.records.get(id)) {
            let id = &record.instance;
            tracing::info!(instance = %id, "taking the record out of the old table");
            let letting_go = || handover.from.let_go(record);
            details.extend(said(
                id,
                "is still recorded in the old table, too",
                reconciler.persist(patience, letting_go).await,
            ));
        }

        let seen = self.look(handover).await.map_err(cannot_look)?;
        let left = handover.plan(&seen);
        let tags_only = |step: &Step| matches!(step, Step::Tag { .. });
        failed |=
            !left.take_over.is_empty() || !left.let_go.is_empty() || left.plan.steps().any(|step| !tags_only(step));
        failed |= !left.obstacles.is_empty();
        details.extend(left.obstacles.iter().map(ToString::to_string));
        let open = left.instances();
        adopted.retain(|id| !open.contains(id) && !unsettled.contains(id));
        adopted.retain(|id| handover.is_shared || !seen.old.records.contains_key(id));
        Ok(HandoverReport { failed, adopted: adopted.iter().map(ToString::to_string).collect(), details })
    }

    /// Adds to the records of the old stack those that an adoption in the same table has begun to move: the new stack's, of
    /// interfaces that are still in groups of the old one.
    async fn remember(&self, old: &mut Incident, owner: &Owner) -> Result<(), Trouble> {
        let Some(before) = old.stack.as_ref().map(StackView::owner) else { return Ok(()) };
        let items = self.ports.records.named(&old.table).scan().await.map_err(cannot_look)?;
        for (id, record) in items.records {
            let is_begun = record.owner == *owner && record.state == State::Isolating;
            if is_begun && record.isolation_groups.iter().any(|group| old.groups.contains_key(group)) {
                old.ledger.records.insert(id, Arc::new(Record { owner: before.clone(), ..Record::clone(&record) }));
            }
        }
        Ok(())
    }

    async fn look(&self, handover: &Handover<R>) -> Call<Seen> {
        let (old, new) = if handover.is_shared {
            // What the old stack had, when this began: in the table it is the new one's by and by.
            let mut new = handover.to.scan().await?;
            new.records.retain(|_, record| record.owner == handover.owner);
            (handover.old.ledger.clone(), new)
        } else {
            let (mut old, new) = tokio::try_join!(handover.from.scan(), handover.to.scan())?;
            // A responder's table holds other incidents as well.
            old.records.retain(|_, record| handover.stacks.contains(&record.owner.stack_id));
            (old, new)
        };
        let mut observed = observe_held(&self.ports.ec2, &old.records).await?;
        let episodes: BTreeSet<String> = old.records.values().map(|record| record.episode()).collect();
        let group = GroupQuery::Ids([handover.isolation_group.clone()].into());
        let reading = self.ports.ec2.groups(&group);
        let (snapshots, mut groups) = tokio::try_join!(self.ports.ec2.snapshots(&episodes), reading)?;
        if groups.is_empty() {
            // One reading that does not show it is not believed.
            tokio::time::sleep(DOUBTED).await;
            groups = self.ports.ec2.groups(&group).await?;
        }
        observed.snapshots = snapshots;
        observed.groups.extend(index(groups, |group| group.id.clone()));
        Ok(Seen { listed: listed(&old), old, new, observed })
    }
}

impl<R> Handover<R> {
    fn heritage<'a>(&'a self, seen: &'a Seen) -> Heritage<'a> {
        Heritage {
            records: &seen.old.records,
            in_charge: &self.in_charge,
            listed: &seen.listed,
            only: &self.only,
            owner: &self.owner,
            isolation_group: &self.isolation_group,
        }
    }

    fn plan(&self, seen: &Seen) -> Adoption {
        let mut adoption = adopt(&self.heritage(seen), &seen.new.records, &seen.observed);
        if self.is_shared {
            // It is out of the old stack's hands already.
            adoption.let_go.clear();
        }
        adoption
    }

    #[must_use]
    pub fn preview(&self) -> HandoverPreview {
        fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
            items.into_iter().map(|item| item.to_string()).collect()
        }
        let Adoption { take_over, plan, let_go, obstacles } = &self.first;
        HandoverPreview {
            take_over: texts(take_over),
            steps: texts(plan.steps()),
            let_go: texts(let_go),
            obstacles: texts(obstacles),
        }
    }
}

impl<R> fmt::Display for Handover<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Adoption { take_over, plan, let_go, obstacles } = &self.first;
        if self.first.is_empty() && obstacles.is_empty() {
            writeln!(f, "{}", wrapped(&format!("Nothing is left to move from {}.", self.old.table), "  "))?;
        }
        for record in take_over.iter().filter_map(|id| self.old.ledger.records.get(id)) {
            let table = if self.is_shared { "their table" } else { "the new table" };
            let text = format!("{}: record it for {} in {table}", record.instance, self.owner.stack_id);
            writeln!(f, "{}", wrapped(&text, "    "))?;
            for interface in record.interfaces.keys().filter_map(|id| self.old.observed.interfaces.get(id)) {
                let (id, groups) = (&interface.id, ShowGroups(&interface.groups));
                let text = if interface.groups.is_disjoint(&self.old.isolating(record)) {
                    format!("  {id} {groups} is not isolated: the next deployment of the new stack isolates it")
                } else {
                    format!("  {id} {groups} -> [{}], where it is isolated", self.isolation_group)
                };
                writeln!(f, "{}", wrapped(&text, "    "))?;
            }
            let last =
                if self.is_shared { String::new() } else { format!(", and take the record out of {}", self.old.table) };
            writeln!(f, "{}", wrapped(&format!("  then read back, tag{last}"), "    "))?;
        }
        plan.steps().try_for_each(|step| writeln!(f, "{}", wrapped(&step.to_string(), "    ")))?;
        let last = |id| wrapped(&format!("{id}: take the record out of {}", self.old.table), "    ");
        let_go.iter().try_for_each(|id| writeln!(f, "{}", last(id)))?;
        obstacles.iter().try_for_each(|obstacle| writeln!(f, "{}", wrapped(&format!("! {obstacle}"), "  ")))
    }
}

impl fmt::Display for HandoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adopted = if self.adopted.is_empty() { "none".to_owned() } else { self.adopted.join(", ") };
        writeln!(f, "{}", wrapped(&format!("adopted: {adopted}"), "  "))?;
        self.details.iter().try_for_each(|line| writeln!(f, "{}", wrapped(&format!("! {line}"), "  ")))?;
        if !self.failed && !self.adopted.is_empty() {
            let next = "Deploy the new stack once more with them in CompromisedInstanceList and a new Rerun.";
            writeln!(f, "{}", wrapped(next, "  "))?;
        }
        Ok(())
    }
}

/// What the latest requests of the old stacks list. Where that cannot be read, it is everything that is recorded for them.
fn listed(old: &Items) -> BTreeSet<InstanceId> {
    let is_listed = |record: &&Arc<Record>| {
        let intent = old.intents.get(&record.owner.digest());
        match intent.map(|intent| &intent.desired) {
            Some(Desired::Isolated(wants)) => wants.instances.contains(&record.instance),
            Some(Desired::Restored) => false,
            Some(Desired::Unknown(_)) | None => true,
        }
    };
    old.records.values().filter(is_listed).map(|record| record.instance.clone()).collect()
}

fn said(id: &InstanceId, what: &str, result: Call<Written>) -> Option<String> {
    match result {
        Ok(Written::Done) => None,
        Ok(Written::Lost | Written::Overtaken) => {
            Some(format!("{id} {what}: another request changed its record meanwhile; run this again"))
        }
        Err(error) => Some(format!("{id} {what}: {error}")),
    }
}
