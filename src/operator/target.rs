//! What an alert names: an instance, by its id, its ARN or an address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::model::InstanceId;

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
