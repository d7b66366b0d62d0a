//! Validated identifiers, and how lists of them are shown.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {what}: expected {prefix} and up to 17 hexadecimal digits, as in {prefix}0123456789abcdef0")]
pub struct MalformedId {
    value: String,
    what: &'static str,
    prefix: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        // A large fleet has many copies of each.
        pub struct $name(Arc<str>);

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(value: &str) -> Result<Self, MalformedId> {
                let digits = value.strip_prefix($prefix).unwrap_or_default();
                let hexadecimal = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if (1..=17).contains(&digits.len()) && hexadecimal {
                    Ok(Self(value.into()))
                } else {
                    // A pasted essay must not fill the answer.
                    let value = value.chars().take(80).collect();
                    Err(MalformedId { value, what: $what, prefix: $prefix })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = MalformedId;

            fn try_from(value: String) -> Result<Self, MalformedId> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(InstanceId, "i-", "an instance id");
identifier!(InterfaceId, "eni-", "a network interface id");
identifier!(GroupId, "sg-", "a security group id");
identifier!(VpcId, "vpc-", "a VPC id");
identifier!(VolumeId, "vol-", "a volume id");
identifier!(SnapshotId, "snap-", "a snapshot id");

/// The security groups of one interface. EC2 gives their order no meaning.
pub type Groups = BTreeSet<GroupId>;

/// `[sg-a, sg-b]`
#[derive(Debug)]
pub struct ShowGroups<'a>(pub &'a Groups);

impl fmt::Display for ShowGroups<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", comma_list(self.0))
    }
}

/// `a, b, c`
pub fn comma_list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// A forensic group: `sg-…`, or `123456789012/sg-…` in a peered VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupReference {
    account: Option<String>,
    pub id: GroupId,
}

impl FromStr for GroupReference {
    type Err = MalformedId;

    fn from_str(value: &str) -> Result<Self, MalformedId> {
        match value.split_once('/') {
            Some((account, id)) if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self { account: Some(account.to_owned()), id: id.parse()? })
            }
            _ => Ok(Self { account: None, id: value.parse()? }),
        }
    }
}

impl TryFrom<String> for GroupReference {
    type Error = MalformedId;

    fn try_from(value: String) -> Result<Self, MalformedId> {
        value.parse()
    }
}

impl From<GroupReference> for String {
    fn from(group: GroupReference) -> String {
        match group.account {
            Some(account) => format!("{account}/{}", group.id),
            None => group.id.into(),
        }
    }
}

/// 64 hexadecimal digits.
#[must_use]
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 hexadecimal digits.
#[must_use]
pub fn short_digest(text: &str) -> String {
    sha256(text).chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_need_their_prefix_and_hexadecimal_digits() {
        for good in ["i-0123456789abcdef0", "i-1a2b3c4d", "i-0aaa"] {
            assert_eq!(good.parse::<InstanceId>().unwrap().as_str(), good);
        }
        for bad in ["", "i-", "i-xyz", "i-0123456789ABCDEF0", "i-0123456789abcdef01", "eni-0aaa", " i-0aaa", "i-0aaa\n"]
        {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_malformed_identifier_is_named_with_what_was_expected() {
        let error = "web-1".parse::<InstanceId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"web-1\" is not an instance id: expected i- and up to 17 hexadecimal digits, as in i-0123456789abcdef0"
        );
    }

    #[test]
    fn a_forensic_group_may_name_the_account_of_a_peered_vpc() {
        let peered: GroupReference = "123456789012/sg-0aaa".parse().unwrap();
        assert_eq!((peered.id.as_str(), String::from(peered.clone()).as_str()), ("sg-0aaa", "123456789012/sg-0aaa"));
        assert!("12345/sg-0aaa".parse::<GroupReference>().is_err());
    }
}
