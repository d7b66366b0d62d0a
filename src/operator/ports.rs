//! What only the program asks of the world, beside [`crate::ports`].

pub mod approval;
pub mod balancers;
pub mod disks;
pub mod drill;
mod evidence;
mod identities;
pub mod machines;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{GroupId, Groups, InstanceId, Interface, Owner, Record, ScheduledEvent};
use crate::ports::{Call, Items, Look, Records, Stamp, Written};

pub use evidence::{
    Attachment, Evidence, SnapshotDetails, SnapshotQuery, Trail, TrailEvent, VolumeDetails, VolumeQuery,
};
pub use identities::{Identities, ProfileRole};

/// EC2.
pub trait Survey: Look {
    /// Interfaces that are in at least one of these groups.
    fn interfaces_in(&self, groups: &Groups) -> impl Future<Output = Call<Vec<Interface>>> + Send;
    /// Interfaces that have this address, private or public: private ones repeat from VPC to VPC.
    fn interfaces_at(&self, address: IpAddr) -> impl Future<Output = Call<Vec<Interface>>> + Send;
    /// Those for which AWS has scheduled something.
    fn scheduled_events(
        &self,
        ids: &BTreeSet<InstanceId>,
    ) -> impl Future<Output = Call<BTreeMap<InstanceId, Vec<ScheduledEvent>>>> + Send;
}

/// DynamoDB.
pub trait Archive: Records {
    /// The names of all tables that begin so.
    fn tables(&self, prefix: &str) -> impl Future<Output = Call<Vec<String>>> + Send;
    /// Everything that the table holds.
    fn scan(&self) -> impl Future<Output = Call<Items>> + Send;
    /// These ports for another table.
    fn named(&self, table: &str) -> Self;
    /// Copies a record into this table, with everything that it holds, for its new owner, whose intent holds it from then on;
    /// refused if it is no longer as it was `seen`, or if there is one here that is not only history.
    fn take_over(
        &self,
        from: &Self,
        seen: &Record,
        takeover: &Takeover<'_>,
    ) -> impl Future<Output = Call<Written>> + Send;
    /// Takes a record out, if it still is as it was seen.
    fn let_go(&self, seen: &Record) -> impl Future<Output = Call<Written>> + Send;
    /// Adds a line to the history of a record, restored or not, if this owner's it still is. Nothing else of it changes.
    fn note(&self, owner: &Owner, instance: &InstanceId, line: &str) -> impl Future<Output = Call<Written>> + Send;
}

/// How a record changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover<'a> {
    pub owner: &'a Owner,
    pub isolation_group: &'a GroupId,
    pub stamp: &'a Stamp<'a>,
}

impl Takeover<'_> {
    /// Its line of [`Record::history`]. `from` is the table where the record was.
    #[must_use]
    pub fn history(&self, seen: &Record, from: &str) -> String {
        self.stamp.line(&format!("taken over from {} (table {from}, {})", seen.owner, seen.state.as_str()))
    }
}
