//! `isolate --revoke`: denies the credentials that the instances of an incident got for their roles. After the isolation, never in its way.
//!
//! It finds the roles; a stack denies, by one policy for all instances that the incident lists. **No instance and no role is ever taken
//! off what is denied**, but for roles that IAM knows no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::credentials::{Credentials, ROLES, credentials_name, denies, roles};
use super::deploy::{Deployment, Parameters};
use super::incident::cannot_look;
use super::isolate::{LIST, MOST_INSTANCES, Order, is_complete};
use super::text::{count, some, wrapped};
use super::{Operator, Progress, Trouble};
use crate::model::{InstanceId, Owner, comma_list};
use crate::operator::ports::{Archive, Identities, ProfileRole, Survey};
use crate::operator::stack::{StackLife, StackView, Template};
use crate::ports::Change;

/// The template of a stack that denies, as the responder holds it, too.
const CREDENTIALS: &str = include_str!("../../credentials.yaml");
/// What a parameter holds (CloudFormation quotas).
const MOST_CHARACTERS: usize = 4096;

/// What is to be denied for one incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The incident's stack.
    incident: String,
    /// The stack that denies, and how it is seen now.
    stack: String,
    existing: Option<StackView>,
    /// It is a stack of its own, beside the incident's.
    is_beside: bool,
    /// Everything that the incident lists.
    instances: BTreeSet<InstanceId>,
    /// The roles that were found or named, each with the instances that have it now.
    roles: BTreeMap<String, BTreeSet<InstanceId>>,
    /// Roles that the stack names and IAM does not know any more.
    gone: BTreeSet<String>,
    /// Whose credentials are not denied, why, and what to do.
    said: Vec<String>,
    /// Something of that should be denied.
    is_partial: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revoked {
    /// Not everything that was asked for is denied.
    pub failed: bool,
    /// Nothing if there was no role to deny.
    pub credentials: Option<Credentials>,
    /// Whose credentials are not denied, why, and what to do.
    pub not_denied: Vec<String>,
}

/// What was found of the roles.
#[derive(Debug, Default)]
struct Found {
    roles: BTreeMap<String, BTreeSet<InstanceId>>,
    said: Vec<String>,
    is_partial: bool,
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// Finds the roles of the instances that the order's stack lists, and of those that it is about. `named` are further roles. Changes nothing.
    ///
    /// # Errors
    /// The stacks, the instances or their records cannot be read. A role that cannot be found out is said in what is returned.
    pub async fn revocation(
        &self,
        order: &Order,
        named: &BTreeSet<String>,
        iam: &impl Identities,
    ) -> Result<Revocation, Trouble> {
        let view = self.view(&order.stack).await?;
        let incident = view.as_ref().map_or(&order.stack, |view| &view.name).clone();
        // The one-shot stack has a policy of its own.
        let is_beside = match &view {
            Some(view) => !view.parameters.contains_key(ROLES),
            None => !order.is_one_shot(),
        };
        let stack = if is_beside { credentials_name(&incident) } else { incident.clone() };
        let existing = if is_beside { self.denying(&stack).await? } else { view.clone() };
        let mut instances = order.list(view.as_ref());
        instances.extend(existing.iter().flat_map(StackView::instances));
        let mut found = self.roles_of(&instances, view.as_ref(), iam).await?;
        for name in named {
            found.named(name, iam.role(name).await);
        }
        let mut gone = BTreeSet::new();
        for role in existing.iter().flat_map(roles).filter(|role| !found.roles.contains_key(role)) {
            if iam.role(&role).await == Ok(None) {
                found.said.push(format!("role {role} was denied, and does not exist any more: it is left out"));
                gone.insert(role);
            }
        }
        let Found { roles, said, is_partial } = found;
        Ok(Revocation { incident, stack, existing, is_beside, instances, roles, gone, said, is_partial })
    }

    /// By their instance profiles, as EC2 shows them, and as the records have those that were detached.
    async fn roles_of(
        &self,
        instances: &BTreeSet<InstanceId>,
        incident: Option<&StackView>,
        iam: &impl Identities,
    ) -> Result<Found, Trouble> {
        let attached = self.ports.ec2.profiles(instances).await.map_err(cannot_look)?;
        let mut profiles: BTreeMap<String, BTreeSet<InstanceId>> = BTreeMap::new();
        for (instance, profile) in attached {
            profiles.entry(profile.arn).or_default().insert(instance);
        }
        let table = match incident.and_then(|incident| incident.physical_id("SecurityGroupTable")) {
            Some(table) => Some(table.to_owned()),
            None => self.responders_table().await?,
        };
        if let Some(table) = table {
            let nobody = Owner { stack_id: String::new(), logical_id: String::new() };
            let items = self.ports.records.named(&table).read(&nobody, instances).await;
            let items = items.map_err(|error| Trouble::Failed { what: "the records cannot be read", error })?;
            for record in items.records.values() {
                let detached = record.protection.profile.clone();
                detached.map(|arn| profiles.entry(arn).or_default().insert(record.instance.clone()));
            }
        }
        let mut found = Found::default();
        let with: BTreeSet<&InstanceId> = profiles.values().flatten().collect();
        let without: BTreeSet<&InstanceId> = instances.iter().filter(|id| !with.contains(id)).collect();
        if !without.is_empty() {
            let ids = comma_list(without);
            found.said.push(format!("{ids}: EC2 shows no instance profile, so there is no role to deny"));
        }
        for (arn, instances) in profiles {
            let name = arn.rsplit('/').next().unwrap_or(&arn);
            found.of_profile(name, &instances, iam.roles(name).await);
        }
        Ok(found)
    }

    /// Makes the stack that denies, or changes it, and waits until CloudFormation has ended.
    ///
    /// # Errors
    /// CloudFormation refused, or cannot be asked.
    pub async fn revoke(
        &self,
        revocation: &Revocation,
        on_progress: &(impl Fn(&Progress) + Sync),
    ) -> Result<Revoked, Trouble> {
        if revocation.is_nothing() || revocation.is_done() {
            return Ok(revocation.ended(revocation.existing.as_ref()));
        }
        // The incident's own role for CloudFormation has no right in IAM: this takes the caller's.
        let deployment = Deployment { name: &revocation.stack, template: Template::Body(CREDENTIALS), role: None };
        let note = self.note();
        let parameters = |seen: Option<&StackView>| revocation.parameters(seen, &note);
        let id = self.deploy(&deployment, &parameters, &async |_: &StackView| ()).await?;
        let ended = self.ended(&id, on_progress).await?;
        Ok(revocation.ended(ended.as_ref()))
    }
}

impl Found {
    fn of_profile(
        &mut self,
        profile: &str,
        instances: &BTreeSet<InstanceId>,
        roles: Result<Option<Vec<ProfileRole>>, crate::ports::CallError>,
    ) {
        let ids = comma_list(instances);
        match roles {
            Ok(Some(roles)) if roles.is_empty() => {
                self.said.push(format!("{ids}: instance profile {profile} holds no role, so there is no role to deny"));
            }
            Ok(Some(roles)) => roles.into_iter().for_each(|role| self.role(role, instances)),
            Ok(None) => self.partial(format!(
                "{ids}: there is no instance profile {profile} any more. CloudTrail says which role it held (AddRoleToInstanceProfile): \
                 give that with --role"
            )),
            Err(error) => self.partial(format!(
                "{ids}: which role instance profile {profile} holds cannot be read: {error}. Get the right to do that, or give the role with --role"
            )),
        }
    }

    fn named(&mut self, name: &str, role: Result<Option<ProfileRole>, crate::ports::CallError>) {
        match role {
            Ok(Some(role)) => self.role(role, &BTreeSet::new()),
            Ok(None) => self.partial(format!("there is no role {name}: give its name, without path or ARN")),
            Err(error) => self.partial(format!("role {name} cannot be read, and is left out: {error}")),
        }
    }

    fn role(&mut self, role: ProfileRole, instances: &BTreeSet<InstanceId>) {
        let ProfileRole { name, is_protected } = role;
        if is_protected {
            self.partial(format!(
                "role {name} belongs to AWS itself, and IAM allows no change of it: its credentials cannot be denied. Ask AWS Support"
            ));
        } else if name.contains(',') {
            self.partial(format!(
                "role {name} has a comma in its name, which a list of CloudFormation cannot hold: attach the policy by hand, with aws iam attach-role-policy"
            ));
        } else {
            self.roles.entry(name).or_default().extend(instances.iter().cloned());
        }
    }

    fn partial(&mut self, what: String) {
        self.said.push(what);
        self.is_partial = true;
    }
}

impl Revocation {
    /// There is no role to deny.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.roles.is_empty() && self.existing.as_ref().is_none_or(|stack| roles(stack).is_empty())
    }

    /// CloudFormation has denied all of it already.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let denied = self.existing.as_ref().and_then(|stack| Credentials::of(stack, &self.instances));
        denied.is_some_and(|denied| {
            let is_named = self.roles.keys().all(|role| denied.roles.contains(role));
            denied.is_denied && denied.missing.is_empty() && is_named && self.gone.is_empty()
        })
    }

    fn parameters(&self, seen: Option<&StackView>, note: &str) -> Result<Parameters, Trouble> {
        let named = seen.map(roles).unwrap_or_default();
        let named = named.into_iter().filter(|role| !self.gone.contains(role));
        let roles: BTreeSet<String> = named.chain(self.roles.keys().cloned()).collect();
        let roles = roles.into_iter().collect::<Vec<_>>().join(",");
        if roles.len() > MOST_CHARACTERS {
            return Err(self.refused("its list of roles would be longer than the 4,096 characters of a parameter"));
        }
        if !self.is_beside {
            let Some(stack) = seen.filter(|stack| is_complete(stack)) else {
                return Err(self.refused("its policy comes after an isolation that succeeds: put that right first"));
            };
            // CloudFormation refuses a change that changes nothing, and tries again what failed where something is new.
            let is_same = stack.parameters.get(ROLES) == Some(&roles);
            let again = is_same.then(|| ("Rerun".to_owned(), note.to_owned()));
            return Ok([(ROLES.to_owned(), roles)].into_iter().chain(again).collect());
        }
        if seen.is_some_and(|stack| !denies(stack)) {
            return Err(self.refused("it has a parameter too few to be ours, so somebody else has made it"));
        }
        let instances: BTreeSet<InstanceId> =
            seen.map(StackView::instances).unwrap_or_default().into_iter().chain(self.instances.clone()).collect();
        if instances.len() > MOST_INSTANCES {
            let (listed, most) = (instances.len(), MOST_INSTANCES);
            return Err(self.refused(&format!("it would list {listed} instances, and takes {most}")));
        }
        let instances = instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Ok([(LIST, instances), (ROLES, roles), ("AskedBy", note.to_owned())]
            .map(|(name, value)| (name.to_owned(), value))
            .into())
    }

    fn refused(&self, why: &str) -> Trouble {
        Trouble::Refused(format!("stack {} denies no more than before: {why}", self.stack))
    }

    fn ended(&self, stack: Option<&StackView>) -> Revoked {
        let credentials = stack.and_then(|stack| Credentials::of(stack, &self.instances));
        let is_denied = credentials.as_ref().is_some_and(|credentials| credentials.is_denied);
        Revoked {
            failed: self.is_partial || !is_denied && !self.is_nothing(),
            credentials,
            not_denied: self.said.clone(),
        }
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.existing {
            _ if self.is_nothing() => "there is no role to deny".to_owned(),
            _ if self.is_done() => "denied already".to_owned(),
            None => "to be made".to_owned(),
            Some(stack) => format!("{}, to be updated", stack.status.status),
        };
        let instances = count(self.instances.len(), "instance");
        let text = format!("Credentials of {instances} of {}, by stack {}: {what}", self.incident, self.stack);
        writeln!(f, "{}", wrapped(&text, "  "))?;
        for (role, instances) in &self.roles {
            let ids: Vec<String> = instances.iter().map(ToString::to_string).collect();
            let of = if ids.is_empty() { "as you named it".to_owned() } else { format!("of {}", some(&ids)) };
            writeln!(f, "{}", wrapped(&format!("  role {role}, {of}"), "    "))?;
        }
        for line in &self.said {
            writeln!(f, "{}", wrapped(&format!("  ! {line}"), "    "))?;
        }
        Ok(())
    }
}

/// What no policy of this kind reaches.
const NOT_REACHED: &str = "IAM takes some minutes to apply it everywhere. It does not reach sessions of other roles that were assumed with \
                           these credentials, roles that the instances had before, keys found on their disks, ECS task roles, and roles of EKS \
                           pods. How to find those: docs/credentials.md";

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(credentials) = &self.credentials else {
            writeln!(f, "No credentials are denied.")?;
            return self
                .not_denied
                .iter()
                .try_for_each(|line| writeln!(f, "{}", wrapped(&format!("  ! {line}"), "    ")));
        };
        writeln!(f, "{}", credentials.headline())?;
        if let Some(reason) = &credentials.reason {
            writeln!(f, "{}", wrapped(&format!("  {reason}"), "  "))?;
            writeln!(f, "{}", wrapped(&format!("  {}", advice(reason)), "  "))?;
        }
        for line in &self.not_denied {
            writeln!(f, "{}", wrapped(&format!("  ! {line}"), "    "))?;
        }
        if credentials.is_denied {
            writeln!(f, "{}", wrapped(&format!("  {NOT_REACHED}"), "  "))?;
        }
        Ok(())
    }
}

/// What to do about the Reason of a policy that CloudFormation could not make or attach.
fn advice(reason: &str) -> &'static str {
    let says = |word: &str| reason.contains(word);
    if says("PoliciesPerRole") {
        "A role has as many policies as its quota allows, 10 by default. Detach one that it does not need, or ask AWS for a higher quota; \
         then do this again. The Reason does not name the role. This shows what one has: aws iam list-attached-role-policies --role-name <role>"
    } else if says("protected role") || says("UnmodifiableEntity") {
        "The role belongs to AWS itself, and IAM allows no change of it. Take it off RevokeRoles"
    } else if says("be found") || says("NoSuchEntity") {
        "The role does not exist any more. Do this again: it is left out then"
    } else {
        "Put right what it says, then do this again"
    }
}
