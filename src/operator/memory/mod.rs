//! `memory`: the memory of an isolated instance, read over ssh by way of the forensic host.
//!
//! **Never before the isolation**, which EC2 must show; never through Systems Manager; no credentials on the instance. What is printed is
//! what is run: both come from [`Capture`].

mod avml;
mod broken;
mod image;
mod lime;
mod run;
mod scripts;
mod seen;
mod ssh;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use super::incident::{Address, Incident, cannot_look};
use super::shell::Shell;
use super::{Operator, Trouble, refused};
use crate::model::{InstanceId, Owner, short_digest};
use crate::operator::ports::machines::{Machine, Machines};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::ports::{Change, Stamp, Written};
use crate::reconcile::contained::Condition;

pub use avml::NoAvml;
pub use broken::{Broken, Why};
pub use image::Image;
pub use lime::Incomplete;
pub use run::Watch;
pub use seen::NotReadable;
pub use ssh::{Endpoint, Line, Login, NoEndpoint, NoUser, Route, User};
pub use text::Step;

/// How a history begins a line about an image.
pub(super) const CAPTURED: &str = "memory captured";

/// What the command line asks for; what it leaves out is looked up.
#[derive(Debug, Clone)]
pub struct Wish {
    pub user: User,
    pub key: Option<String>,
    /// Where the instance listens for ssh.
    pub address: Option<Endpoint>,
    pub host: Option<Endpoint>,
    pub host_user: User,
    pub host_key: Option<String>,
    pub avml: PathBuf,
    pub avml_sha256: Option<String>,
    pub to: Destination,
    /// On the instance, in its memory.
    pub scratch: Folder,
}

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into this folder of the forensic host.
    Host(Folder),
    /// Into this file at the desk.
    Desk(PathBuf),
}

/// A folder of another machine, by a name that needs no quotes in a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(String);

/// Why it is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no folder of letters, digits and - _ . /")]
pub struct NoFolder(String);

impl FromStr for Folder {
    type Err = NoFolder;

    fn from_str(text: &str) -> Result<Self, NoFolder> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let folder = text.trim_end_matches('/');
        match !folder.is_empty() && !folder.starts_with('-') && folder.chars().all(is_plain) {
            true => Ok(Self(folder.to_owned())),
            false => Err(NoFolder(text.chars().take(200).collect())),
        }
    }
}

impl FromStr for Destination {
    type Err = NoFolder;

    /// `host`, `host:FOLDER`, or a file.
    fn from_str(text: &str) -> Result<Self, NoFolder> {
        match text.strip_prefix("host") {
            Some("") => Ok(Self::Host(Folder("memory".to_owned()))),
            Some(rest) if rest.starts_with(':') => Ok(Self::Host(rest.trim_start_matches(':').parse()?)),
            _ if text.is_empty() => Err(NoFolder(String::new())),
            _ => Ok(Self::Desk(text.into())),
        }
    }
}

/// One capture, with everything that it needs to know.
#[derive(Debug, Clone)]
pub struct Capture {
    pub instance: InstanceId,
    /// The name of the incident's stack.
    pub incident: String,
    pub route: Route,
    pub to: Destination,
    pub avml: PathBuf,
    pub avml_sha256: Option<String>,
    /// EC2's word for the processor.
    architecture: String,
    /// On the instance, for the time of the capture.
    scratch: String,
    /// Of the image on the forensic host.
    name: String,
    /// When it was asked for.
    at: String,
    /// What else may be done if the memory cannot be read.
    instead: String,
    /// Who holds the record, and in which table.
    record: Option<(Owner, String)>,
}

impl<E: Survey + Machines + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// The incident that isolates an instance; the only one there is, if EC2 shows none.
    ///
    /// # Errors
    /// There is none, or several, or something cannot be read.
    pub async fn incident_of(&self, instance: &InstanceId) -> Result<Address, Trouble> {
        let found = self.ports.ec2.instances(&BTreeSet::from([instance.clone()])).await.map_err(cannot_look)?;
        match self.holders(&found).await?.remove(instance) {
            Some(stack) => Ok(Address::Stack(stack)),
            None => self.only_incident().await,
        }
    }

    /// What the capture of an instance takes.
    ///
    /// # Errors
    /// EC2 does not show the instance isolated, its memory cannot be read in this way, there is no way to it, or something cannot be read.
    pub async fn memory(&self, incident: &Incident, id: &InstanceId, wish: Wish) -> Result<Capture, Trouble> {
        let machine = self.machine(id).await?;
        self.check_isolated(incident, id).await?;
        let instead = instead(id, &machine, &self.shell);
        check_readable(id, &machine, &instead)?;
        let key_file = |name: &Option<String>| name.as_ref().map(|name| format!("{name}.pem"));
        let key = wish.key.or_else(|| key_file(&machine.key_name));
        let key = key.ok_or_else(|| {
            refused(&format!("{id} was launched without a key pair: give the file of a key that it takes with --key"))
        })?;
        let (host, host_key) = match wish.host {
            Some(host) => (host, None),
            None => self.way_in(incident).await?,
        };
        let address = wish.address.or_else(|| machine.private_address.as_deref().map(Endpoint::new));
        let address = address.ok_or_else(|| refused(&format!("EC2 shows no address of {id}: give --address")))?;
        let host_key = wish.host_key.or_else(|| key_file(&host_key)).unwrap_or_else(|| key.clone());
        let run = short_digest(&format!("{}|{id}", self.request_id));
        let at = self.clock.now().to_string();
        let record = incident.ledger.records.get(id).map(|record| (record.owner.clone(), incident.table.clone()));
        Ok(Capture {
            instance: id.clone(),
            incident: incident.stack_name.clone(),
            route: Route {
                instance: id.clone(),
                host: Login { at: host, user: wish.host_user, key: host_key },
                target: Login { at: address, user: wish.user, key },
                folder: format!("{}-memory", incident.stack_name),
            },
            to: wish.to,
            avml: wish.avml,
            avml_sha256: wish.avml_sha256,
            architecture: machine.architecture,
            scratch: format!("{}/ec2-isolation-{}", wish.scratch.0, run.get(..12).unwrap_or(&run)),
            name: format!("{id}-{}.lime", at.replace(['-', ':'], "")),
            at,
            instead,
            record,
        })
    }

    /// Writes into the history of the instance's record what was captured.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn record_memory(&self, capture: &Capture, image: &Image) -> Result<(), String> {
        let Some((owner, table)) = &capture.record else {
            return Err(format!("there is no record of {}", capture.instance));
        };
        let stamp = Stamp { now: self.clock.now(), asked_by: &self.asked_by, writer: &self.request_id };
        let line = stamp.line(&image.history());
        match self.ports.records.named(table).note(owner, &capture.instance, &line).await {
            Ok(Written::Done) => Ok(()),
            Ok(_) => Err(format!("the record of {} has changed hands", capture.instance)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn machine(&self, id: &InstanceId) -> Result<Machine, Trouble> {
        let found = self.ports.ec2.machine(id).await.map_err(cannot_look)?;
        found.ok_or_else(|| {
            let Self { site, .. } = self;
            refused(&format!(
                "there is no instance {id} in account {}, region {}: check the id, --region and --profile",
                site.account, site.region
            ))
        })
    }

    async fn check_isolated(&self, incident: &Incident, id: &InstanceId) -> Result<(), Trouble> {
        let isolate = self.shell.own(&format!("isolate {id}"));
        let contained = self.containment(incident).await;
        let Some(found) = contained.get(id) else {
            return Err(refused(&format!(
                "{id} is not of incident {}, and memory is captured after the isolation only. Isolate it first: {isolate}",
                incident.stack_name
            )));
        };
        match found.condition {
            Condition::Isolated => Ok(()),
            condition => {
                let why = found.open.iter().map(|(interface, why)| match interface {
                    Some(interface) => format!("{interface} {why}"),
                    None => why.clone(),
                });
                let why: Vec<String> = why.collect();
                let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
                Err(refused(&format!(
                    "{id} is {}{why}, and memory is captured after the isolation only. Isolate it first: {isolate}",
                    condition.as_str()
                )))
            }
        }
    }

    /// Where the incident's forensic host is, and the key pair that it takes.
    async fn way_in(&self, incident: &Incident) -> Result<(Endpoint, Option<String>), Trouble> {
        let name = &incident.stack_name;
        let Some(id) = incident.host.clone()? else {
            let make = self.shell.own(&format!("host --stack {name} --subnet … --key … --office …"));
            return Err(refused(&format!(
                "incident {name} has no forensic host, which the way to the instance leads through: make one ({make}), or give the \
                 address of your own with --host"
            )));
        };
        let machine = self.machine(&id).await?;
        match machine.public_address.filter(|_| machine.state == "running") {
            Some(address) => Ok((Endpoint::new(&address), machine.key_name)),
            None => Err(refused(&format!(
                "forensic host {id} is {} and EC2 shows no public address of it: start it, or give the address that you reach it at with --host",
                machine.state
            ))),
        }
    }
}

fn check_readable(id: &InstanceId, machine: &Machine, instead: &str) -> Result<(), Trouble> {
    if machine.is_windows {
        return Err(refused(&format!("{id} runs {}, whose memory AVML cannot read. {instead}", machine.platform)));
    }
    match machine.state.as_str() {
        "running" => {}
        "pending" => return Err(refused(&format!("{id} is just starting: wait until it runs"))),
        state => {
            return Err(refused(&format!(
                "{id} is {state}: its memory ended with that. Its disks are in the snapshots"
            )));
        }
    }
    match machine.architecture.as_str() {
        // What EC2 does not say shows when AVML is run.
        "x86_64" | "arm64" | "" => Ok(()),
        other => {
            Err(refused(&format!("{id} has a processor of the kind {other}, and AVML has no build for it. {instead}")))
        }
    }
}

/// What else there is, if AVML cannot read the memory.
fn instead(id: &InstanceId, machine: &Machine, shell: &Shell) -> String {
    let tool = match machine.is_windows {
        true => {
            "Log in through the forensic host, by RDP or WinRM (its parameter ForensicPorts), and run WinPmem, which writes to a disk that you \
             attach. "
        }
        false => "",
    };
    let asleep = match machine.can_hibernate {
        true => format!(
            "Hibernation was turned on at its launch, so EC2 can write the memory to its root volume, of which you then take a snapshot: {} && {}",
            shell.aws(&format!("ec2 modify-instance-attribute --instance-id {id} --no-disable-api-stop")),
            shell.aws(&format!("ec2 stop-instances --hibernate --instance-ids {id}"))
        ),
        false => {
            "Hibernation was not turned on at its launch, and cannot be now. The snapshots of its running disks are what there is".to_owned()
        }
    };
    format!("{tool}{asleep}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Destination>) {
        assert_eq!(text.parse::<Destination>().ok(), expected, "{text}");
    }

    #[test]
    fn an_image_goes_to_the_host_to_a_folder_of_it_or_to_a_file() {
        check("host", Some(Destination::Host(Folder("memory".into()))));
        check("host:/mnt/evidence/", Some(Destination::Host(Folder("/mnt/evidence".into()))));
        check("./host", Some(Destination::Desk("./host".into())));
        check("hosts.lime", Some(Destination::Desk("hosts.lime".into())));
        for wrong in ["", "host:", "host:a b", "host:$(id)", "host:-x"] {
            check(wrong, None);
        }
    }
}
