//! What an alert names: an instance, by its id, its ARN or an address.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::incident::cannot_look;
use super::{Operator, Trouble, refused};
use crate::model::{Instance, InstanceId, comma_list};
use crate::operator::ports::{Archive, Survey};
use crate::operator::stack::StackLife;
use crate::ports::Change;

/// What an alert names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Instance(InstanceId),
    Arn { arn: String, instance: InstanceId },
    Address(IpAddr),
}

/// Why a target could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no instance id (i-0123456789abcdef0), no ARN of an instance, and no IP address")]
pub struct UnknownTarget(String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        let unknown = || UnknownTarget(text.chars().take(200).collect());
        let id = |text: &str| text.parse::<InstanceId>().map_err(|_| unknown());
        if let Some((_, resource)) = text.strip_prefix("arn:").and_then(|arn| arn.split_once(":instance/")) {
            return Ok(Self::Arn { arn: text.to_owned(), instance: id(resource)? });
        }
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => Ok(Self::Instance(id(text)?)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => id.fmt(f),
            Self::Arn { arn, .. } => f.write_str(arn),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl<E: Survey + Change + Clone, R: Archive, S: StackLife + Clone> Operator<E, R, S> {
    /// The instances that these targets name.
    pub(super) async fn resolve(&self, targets: &[Target]) -> Result<Vec<Instance>, Trouble> {
        let mut ids: BTreeSet<InstanceId> = BTreeSet::new();
        for target in targets {
            match target {
                Target::Instance(id) => drop(ids.insert(id.clone())),
                Target::Arn { arn, instance } => {
                    self.check_place(arn)?;
                    ids.insert(instance.clone());
                }
                Target::Address(address) => drop(ids.insert(self.at(*address).await?)),
            }
        }
        let found = self.ports.ec2.instances(&ids).await.map_err(cannot_look)?;
        let gone: Vec<&InstanceId> =
            found.iter().filter(|instance| instance.is_terminated()).map(|instance| &instance.id).collect();
        let missing = ids.iter().filter(|id| !found.iter().any(|instance| instance.id == **id));
        let missing = comma_list(missing);
        if !missing.is_empty() {
            let Self { site, .. } = self;
            return Err(refused(&format!(
                "there is no instance {missing} in account {}, region {}: check the id, --region and --profile",
                site.account, site.region
            )));
        }
        if !gone.is_empty() {
            return Err(refused(&format!("already terminated: {}. Leave them out", comma_list(gone))));
        }
        Ok(found)
    }

    /// The one instance at an address.
    async fn at(&self, address: IpAddr) -> Result<InstanceId, Trouble> {
        let found = self.ports.ec2.interfaces_at(address).await.map_err(cannot_look)?;
        let instances: BTreeSet<&InstanceId> = found.iter().filter_map(|found| found.instance.as_ref()).collect();
        let mut several = instances.iter();
        match (several.next(), several.next()) {
            (Some(only), None) => Ok((*only).clone()),
            (Some(_), Some(_)) => Err(refused(&format!(
                "{address} is the address of several instances, in different VPCs: {}. Say which by its id",
                comma_list(instances)
            ))),
            (None, _) if !found.is_empty() => Err(refused(&format!(
                "{address} belongs to {}, which is attached to no instance: to a load balancer, a NAT gateway or another service",
                comma_list(found.iter().map(|interface| &interface.id))
            ))),
            (None, _) => Err(refused(&format!(
                "nothing in account {}, region {} has the address {address}: it may have been given up since the alert, or be elsewhere",
                self.site.account, self.site.region
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let read = text.parse::<Target>();
        let read = read.map(|target| format!("{target:?}")).map_err(|error| error.to_string());
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn what_an_alert_names_is_read() {
        check("i-0123456789abcdef0", Ok("Instance(i-0123456789abcdef0)"));
        check("203.0.113.9", Ok("Address(203.0.113.9)"));
        check("2001:db8::1", Ok("Address(2001:db8::1)"));
        check(
            "arn:aws-cn:ec2:cn-north-1:123456789012:instance/i-0a",
            Ok(r#"Arn { arn: "arn:aws-cn:ec2:cn-north-1:123456789012:instance/i-0a", instance: i-0a }"#),
        );
        for wrong in ["web-1", "", "i-", "10.0.0", "arn:aws:ec2:r:1:volume/vol-1", "arn:aws:ec2:r:1:instance/web"] {
            let error =
                format!("{wrong:?} is no instance id (i-0123456789abcdef0), no ARN of an instance, and no IP address");
            check(wrong, Err(&error));
        }
    }
}
