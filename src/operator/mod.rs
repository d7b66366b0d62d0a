//! The operator's program, less its command line: isolating through a stack, what there is to see of an incident, its restore and its
//! end, and its hand-over to another stack.
//!
//! **The way out never needs the function**: everything here works with the operator's own credentials from the records
//! table, through the same plan and execute code. Nothing here runs in the function.

mod adopt;
mod approval;
pub mod aws;
mod balancing;
mod containment;
mod credentials;
mod deploy;
mod drill;
mod evidence;
mod finish;
mod host;
mod incident;
mod isolate;
mod leftovers;
mod list;
mod memory;
mod next;
pub mod ports;
mod report;
mod responder;
mod restore;
mod revoke;
mod seal;
mod shell;
pub mod stack;
mod status;
mod target;
mod text;

use std::time::Duration;

use crate::model::Owner;
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::ports::{CallError, Change, Ports};
use crate::reconcile::Reconciler;
use crate::reconcile::report::Asker;
use crate::timing::clock::Clock;
use crate::timing::gate::Gate;
use crate::timing::pace::Pace;

pub use crate::reconcile::contained::Condition;
pub use adopt::{Handover, HandoverPreview, HandoverReport};
pub use approval::{Answered, Decision, Open};
pub use credentials::Credentials;
pub use drill::{
    ASSUMPTIONS, Assumption, Cleaned, Drill, DrillOrder, Finding, Outcome as DrillOutcome, SHAPES, Shape, scrubbed,
};
pub use evidence::{
    Attached, Digest, Disk, Held, Manifest, Removal, Removed, ShareOrder, Shared, SharedSnapshot, VolumeOrder,
};
pub use finish::Ended;
pub use host::{Host, HostOrder, host_name};
pub use incident::{Address, Incident};
pub use isolate::{Isolated, Options, Order};
pub use leftovers::{Kind, Left, Leftovers};
pub use list::List;
pub use memory::{
    Broken, Capture, Destination, Endpoint, Folder, Image, Incomplete, Line, Login, NoAvml, NoEndpoint, NoFolder,
    NoUser, NotReadable, Route, Step, User, Watch, Why, Wish,
};
pub use report::{Format, Report};
pub use restore::{Preview, RestoreReport};
pub use revoke::{Revocation, Revoked};
pub use shell::Shell;
pub use status::{NotIsolated, Status};
pub use target::Target;
pub use text::{columns, fit_into, wrapped};

/// How long a reading may trail: the function doubts what it reads for as long (`plan::ledger`).
const TRAILING: Duration = Duration::from_secs(5);

/// Why nothing, or not everything, was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nothing was changed, and nothing will be until what was asked is put otherwise.
    #[error("{0}")]
    Refused(String),
    /// Something that is to be isolated is not, or may not be, and there are no records to say more.
    #[error("{0}")]
    Open(String),
    #[error("{what}: {error}")]
    Failed { what: &'static str, error: CallError },
}

fn refused(why: &str) -> Trouble {
    Trouble::Refused(format!("nothing was changed: {why}"))
}

/// How far something is that takes a while, as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub stack: String,
    /// Of the stack, in CloudFormation's words.
    pub status: String,
    pub seconds: u64,
    pub done: usize,
    pub total: usize,
    /// Of what, and what is done to it: `interfaces isolated`.
    pub what: &'static str,
}

/// Whose credentials, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub account: String,
    pub region: String,
    /// ARN of the caller.
    pub caller: String,
}

/// The program: ports, where it is, and what it says of itself.
#[derive(Debug)]
pub struct Operator<E, R, S> {
    /// The records table of these is replaced by the one that is asked for.
    pub ports: Ports<E, R, S>,
    pub site: Site,
    pub shell: Shell,
    /// Unique to this run.
    pub request_id: String,
    pub clock: Clock,
    /// What the history of the records says of it.
    pub asked_by: String,
    pub gate: Gate,
    pub pace: Pace,
}

impl<E: Survey + Change, R: Archive, S: StackLife> Operator<E, R, S> {
    fn reconciler<'a>(&'a self, ports: &'a Ports<E, R, S>, owner: &'a Owner) -> Reconciler<'a, E, R> {
        Reconciler {
            ec2: &ports.ec2,
            records: &ports.records,
            owner,
            request_id: &self.request_id,
            // An operator's clock does not decide what comes later.
            issued: None,
            writer: &self.request_id,
            gate: &self.gate,
            pace: &self.pace,
            clock: &self.clock,
            asked_by: &self.asked_by,
            // These are rights that the operator has had for long.
            asker: Asker::Program,
            for_permission: Duration::ZERO,
        }
    }

    /// Fails where what is meant is not in the account and region of the credentials: every call would look in the wrong place.
    fn check_place(&self, stack_id: &str) -> Result<(), Trouble> {
        let mut parts = stack_id.split(':').skip(3);
        let (Some(region), Some(account)) = (parts.next(), parts.next()) else { return Ok(()) };
        let Site { account: own_account, region: own_region, caller } = &self.site;
        if account == own_account && region == own_region {
            return Ok(());
        }
        Err(Trouble::Refused(format!(
            "nothing was changed: {stack_id} is in account {account}, region {region}, but you are {caller} in account {own_account}, \
             region {own_region}: use credentials of that account (--profile) and --region {region}"
        )))
    }
}
