//! `list`: every incident of the account and Region, by the groups that isolate and by the records that are held.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::incident::{Address, cannot_look};
use super::isolate::{LIST, VPC};
use super::text::{columns, count, wrapped};
use super::{Operator, Status, Trouble, refused};
use crate::model::{Fault, Role, State};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::ports::{Change, GroupQuery};

/// The incidents of an account and Region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct List {
    pub account: String,
    pub region: String,
    pub incidents: Vec<Status>,
    /// Incidents that could not be read, and why.
    pub unreadable: BTreeMap<String, String>,
}

impl List {
    /// Whether something that is to be isolated is not, or may not be.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        !self.unreadable.is_empty() || self.incidents.iter().any(Status::is_anything_open)
    }
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// How each incident stands.
    ///
    /// # Errors
    /// Groups, tables or exports cannot be listed.
    pub async fn list(&self) -> Result<List, Trouble> {
        let (mut incidents, mut unreadable) = (Vec::new(), BTreeMap::new());
        for (stack, address) in self.addresses().await? {
            match self.incident(&address).await {
                Ok(incident) => incidents.push(self.status(&incident).await),
                Err(trouble) => drop(unreadable.insert(stack, trouble.to_string())),
            }
        }
        let (account, region) = (self.site.account.clone(), self.site.region.clone());
        Ok(List { account, region, incidents, unreadable })
    }

    /// The only incident there is.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub async fn only_incident(&self) -> Result<Address, Trouble> {
        let addresses = self.addresses().await?;
        let (account, region) = (&self.site.account, &self.site.region);
        let mut found = addresses.values();
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(refused(&format!("there is no incident in account {account}, region {region}"))),
            _ => {
                let names: Vec<String> =
                    addresses.values().map(|address| format!("  {}", address.argument())).collect();
                Err(refused(&format!(
                    "there are {} in account {account}, region {region}. Say which:\n{}",
                    count(addresses.len(), "incident"),
                    names.join("\n")
                )))
            }
        }
    }

    /// Every incident by the id of its stack: those whose stack is there, by parameters or groups, and those of which something is held.
    async fn addresses(&self) -> Result<BTreeMap<String, Address>, Trouble> {
        let mut found = BTreeMap::new();
        let groups = self.ports.ec2.groups(&GroupQuery::Ours).await.map_err(cannot_look)?;
        let isolating = groups.into_iter().filter(|group| group.role == Some(Role::Isolation));
        for stack in isolating.filter_map(|group| group.stack_id) {
            found.insert(stack.clone(), Address::Stack(stack));
        }
        // One that failed before it had a group, or a record, has isolated nothing of what it lists.
        let listing = self.ports.stacks.with_parameters(&[LIST, VPC]).await;
        match listing {
            Ok(stacks) => found.extend(stacks.into_iter().map(|stack| (stack.clone(), Address::Stack(stack)))),
            // Who may see the incidents only is shown these.
            Err(error) if error.fault == Fault::Denied => {
                tracing::warn!("stacks that failed before they had a group are not listed, for {error}");
            }
            Err(error) => return Err(Trouble::Failed { what: "the stacks cannot be listed", error }),
        }
        let shared = self.responders_table().await?;
        for (table, items) in self.ledgers().await? {
            let held = items.records.values().filter(|record| record.state != State::Restored);
            for stack in held.map(|record| record.owner.stack_id.clone()) {
                if found.contains_key(&stack) {
                    continue;
                }
                let is_gone = self.view(&stack).await?.is_none();
                let is_own = shared.as_ref() != Some(&table);
                let address = match is_gone && is_own {
                    true => Address::Table(table.clone()),
                    false => Address::Stack(stack.clone()),
                };
                found.insert(stack, address);
            }
        }
        Ok(found)
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.incidents.is_empty() && self.unreadable.is_empty() {
            let none = format!("There is no incident in account {}, region {}.", self.account, self.region);
            return writeln!(f, "{}", wrapped(&none, "  "));
        }
        let width = self.incidents.iter().map(|status| status.stack.name.len()).max().unwrap_or_default().max(5);
        let mut rows = vec![format!("{:width$}  {:>12}  {:>8}  STATUS", "STACK", "NOT ISOLATED", "ISOLATED")];
        let mut lines = Vec::new();
        for status in &self.incidents {
            let (name, isolated) = (&status.stack.name, status.summary.isolated);
            let condition = status.stack.status.as_deref().unwrap_or("gone");
            let open = status.summary.not_isolated + status.summary.unknown;
            rows.push(format!("{name:width$}  {open:>12}  {isolated:>8}  {condition}"));
            lines.push(wrapped(&format!("{name}: {open} not isolated, {isolated} isolated, {condition}"), "  "));
        }
        let is_too_wide = rows.iter().any(|row| row.len() > columns());
        (if is_too_wide { lines } else { rows }).iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let unreadable = self.unreadable.iter().map(|(stack, why)| wrapped(&format!("! {stack}: {why}"), "  "));
        unreadable.into_iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
