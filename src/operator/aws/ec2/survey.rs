//! What is read of EC2 beside what a plan needs: interfaces by their groups or address, and what AWS has scheduled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aws_sdk_ec2::types::{EventCode, InstanceStatusEvent};
use futures_util::future::try_join_all;

use crate::aws::ec2::read::{by, filter};
use crate::aws::ec2::{Ec2, found, id};
use crate::aws::error::time;
use crate::model::{Groups, InstanceId, Interface, ScheduledEvent};
use crate::operator::ports::Survey;
use crate::ports::Call;

const EVENTS: &str = "ec2:DescribeInstanceStatus";
/// How the description of an event begins that will not come any more.
const ENDED: [&str; 2] = ["[Completed]", "[Canceled]"];

impl Survey for Ec2 {
    async fn scheduled_events(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Vec<ScheduledEvent>>> {
        // It has no filter for ids, and one that is gone would fail the call. Few instances of an account have events.
        let codes = EventCode::values().iter().map(|code| (*code).to_owned()).collect();
        let request = self.client.describe_instance_status().include_all_instances(true);
        let request = request.include_managed_resources(true).filters(filter("event.code", codes));
        let mut found = BTreeMap::new();
        for status in found!(EVENTS, request)? {
            let instance: InstanceId = id(EVENTS, "instance", status.instance_id())?;
            let events: Vec<ScheduledEvent> = status.events().iter().filter_map(read_event).collect();
            if ids.contains(&instance) && !events.is_empty() {
                found.insert(instance, events);
            }
        }
        Ok(found)
    }

    async fn interfaces_in(&self, groups: &Groups) -> Call<Vec<Interface>> {
        by("group-id", groups, |groups| self.interfaces_by(groups)).await
    }

    async fn interfaces_at(&self, address: IpAddr) -> Call<Vec<Interface>> {
        let names: &[&str] = match address {
            IpAddr::V4(_) => &["addresses.private-ip-address", "addresses.association.public-ip"],
            IpAddr::V6(_) => &["ipv6-addresses.ipv6-address"],
        };
        let found = names.iter().map(|name| self.interfaces_by(filter(name, vec![address.to_string()])));
        Ok(try_join_all(found).await?.into_iter().flatten().collect())
    }
}

/// Nothing of one that has ended: EC2 shows it for a week more (EC2 API reference, InstanceStatusEvent).
fn read_event(event: &InstanceStatusEvent) -> Option<ScheduledEvent> {
    let is_over = event.description().is_some_and(|text| ENDED.iter().any(|word| text.starts_with(word)));
    let code = event.code().filter(|_| !is_over)?.as_str().to_owned();
    Some(ScheduledEvent { code, not_before: event.not_before().and_then(time) })
}
