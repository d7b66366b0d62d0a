//! The properties of the custom resource, in one table: an event is read by it, and a test holds it against the template.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::event::InvalidRequest;
use crate::model::{GroupId, InstanceId, Release, VpcId, Wants, comma_list};

/// What a value has to be. CloudFormation sends every scalar as a text; emulators and hand-made events send others, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One or more, in a list or in one text with commas.
    Ids,
    Id,
    Flag,
    Release,
    Watch,
    /// In a list or in one text with commas.
    Names,
    /// In a list or in one text with commas.
    Ports,
    /// A whole number of this unit, within these bounds.
    Number(&'static str, u64, u64),
    /// At most so many characters.
    Text(usize),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids => f.write_str("a list of ids"),
            Self::Names => f.write_str("a list of names"),
            Self::Id => f.write_str("a string"),
            Self::Flag => f.write_str("true or false"),
            Self::Release => f.write_str("KeepIsolated or Restore"),
            Self::Watch => f.write_str("Off, Notify or Isolate"),
            Self::Ports => f.write_str("a list of tcp ports from 1 to 65535, as in 22,3389"),
            Self::Number(unit, least, most) => write!(f, "a whole number of {unit} from {least} to {most}"),
            Self::Text(most) => write!(f, "at most {most} characters of text"),
        }
    }
}

/// A property: how it is called, what it has to be, and what a missing or blank one means. Without a default that is nothing.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Option<&'static str>,
}

const fn property(name: &'static str, kind: Kind) -> Property {
    Property { name, kind, default: None }
}

const fn or(default: &'static str, property: Property) -> Property {
    Property { default: Some(default), ..property }
}

pub const INSTANCE_IDS: Property = property("InstanceIds", Kind::Ids);
pub const VPC_ID: Property = property("VpcId", Kind::Id);
pub const ISOLATION_GROUP: Property = property("IsolatedSecurityGroupId", Kind::Id);
const FORENSIC_GROUP: Property = property("ForensicSecurityGroupId", Kind::Id);
/// The stack makes that group itself, and a host in it.
const FORENSIC_HOST: Property = or("false", property("ForensicHost", Kind::Flag));
const FORENSIC_PORTS: Property = or("22", property("ForensicPorts", Kind::Ports));
pub const TRANSIT_GROUP: Property = property("TransitSecurityGroupId", Kind::Id);
const CUT_CONNECTIONS: Property = or("true", property("CutEstablishedConnections", Kind::Flag));
/// An interface in the transit group is open to everybody: longer than a minute is no hold but an exposure.
const HOLD_SECONDS: Property = or("5", property("HoldSeconds", Kind::Number("seconds", 0, 60)));
const PROTECT: Property = or("true", property("ProtectInstances", Kind::Flag));
const DETACH_PROFILE: Property = or("false", property("DetachInstanceProfile", Kind::Flag));
const DISABLE_METADATA: Property = or("true", property("DisableInstanceMetadata", Kind::Flag));
/// The stack denies their credentials to the listed instances.
const REVOKE_ROLES: Property = property("RevokeRoles", Kind::Names);
const SNAPSHOT_VOLUMES: Property = or("true", property("SnapshotVolumes", Kind::Flag));
/// EC2 takes 1 to 36,500 days (EC2 API reference, LockSnapshot); 0 locks nothing.
const LOCK_DAYS: Property = or("0", property("LockSnapshotDays", Kind::Number("days", 0, 36_500)));
const ALLOW_PARTIAL: Property = or("false", property("AllowPartialIsolation", Kind::Flag));
const ON_REMOVAL: Property = or("KeepIsolated", property("OnRemoval", Kind::Release));
const ON_ROLLBACK: Property = or("KeepIsolated", property("OnRollback", Kind::Release));
const WATCH: Property = or("Notify", property("Watch", Kind::Watch));
const DRY_RUN: Property = or("false", property("DryRun", Kind::Flag));
/// EC2 takes tag values of 256 characters.
const PURPOSE: Property = or("forensics", property("Purpose", Kind::Text(256)));
/// The function is not part of the stack: a Delete that failed can be sent once more.
const OUTLIVES_STACK: Property = or("false", property("FunctionOutlivesStack", Kind::Flag));
/// How long CloudFormation waits for the answer; its own default and bound.
const SERVICE_TIMEOUT: Property = or("3600", property("ServiceTimeout", Kind::Number("seconds", 1, 3600)));

/// Everything that is wanted. What else an event has is of no account, but for `Rerun`: its change is what calls the function.
pub const PROPERTIES: [Property; 23] = [
    INSTANCE_IDS,
    VPC_ID,
    ISOLATION_GROUP,
    FORENSIC_GROUP,
    FORENSIC_HOST,
    FORENSIC_PORTS,
    TRANSIT_GROUP,
    CUT_CONNECTIONS,
    HOLD_SECONDS,
    PROTECT,
    DETACH_PROFILE,
    DISABLE_METADATA,
    REVOKE_ROLES,
    SNAPSHOT_VOLUMES,
    LOCK_DAYS,
    ALLOW_PARTIAL,
    ON_REMOVAL,
    ON_ROLLBACK,
    WATCH,
    DRY_RUN,
    PURPOSE,
    OUTLIVES_STACK,
    SERVICE_TIMEOUT,
];

/// What a request with these properties would want; the others have their defaults.
///
/// # Errors
/// A value is not what it has to be, or one is missing that has no default.
pub fn wants(given: &[(Property, String)]) -> Result<Wants, InvalidRequest> {
    let given = given.iter().map(|(property, value)| (property.name.to_owned(), Value::from(value.as_str())));
    Properties(Some(&given.collect())).wants()
}

/// What a request for these instances would want that gives nothing but what has no default. It cuts nothing, since no transit
/// group is known.
///
/// # Errors
/// There is no instance.
pub fn least(
    instances: &BTreeSet<InstanceId>,
    vpc: &VpcId,
    isolation_group: &GroupId,
) -> Result<Wants, InvalidRequest> {
    wants(&[
        (INSTANCE_IDS, comma_list(instances)),
        (VPC_ID, vpc.to_string()),
        (ISOLATION_GROUP, isolation_group.to_string()),
        (CUT_CONNECTIONS, false.to_string()),
    ])
}

/// The properties of one event.
#[derive(Debug)]
pub(super) struct Properties<'a>(Option<&'a Map<String, Value>>);

impl<'a> Properties<'a> {
    pub(super) fn of(event: &'a Value) -> Self {
        Self(event.get("ResourceProperties").and_then(Value::as_object))
    }

    /// Those of the request before an Update.
    pub(super) fn before(event: &'a Value) -> Self {
        Self(event.get("OldResourceProperties").and_then(Value::as_object))
    }

    /// Its change is what calls the function, and it says who asks and why.
    pub(super) fn rerun(&self) -> Option<&Value> {
        self.0.and_then(|properties| properties.get("Rerun"))
    }

    pub(super) fn wants(&self) -> Result<Wants, InvalidRequest> {
        Ok(Wants {
            instances: self.ids(&INSTANCE_IDS)?,
            vpc: given(&VPC_ID, self.id(&VPC_ID)?)?,
            isolation_group: given(&ISOLATION_GROUP, self.id(&ISOLATION_GROUP)?)?,
            forensic_group: self.id(&FORENSIC_GROUP)?,
            makes_host: self.flag(&FORENSIC_HOST)?,
            forensic_ports: self.ports(&FORENSIC_PORTS)?,
            snapshot_volumes: self.flag(&SNAPSHOT_VOLUMES)?,
            lock_days: self.number(&LOCK_DAYS)?,
            on_removal: self.value(&ON_REMOVAL, named)?,
            on_rollback: self.on_rollback()?,
            allow_partial: self.flag(&ALLOW_PARTIAL)?,
            protect: self.flag(&PROTECT)?,
            detach_profile: self.flag(&DETACH_PROFILE)?,
            disable_metadata: self.flag(&DISABLE_METADATA)?,
            revoke_roles: self.names(&REVOKE_ROLES)?,
            purpose: self.value(&PURPOSE, |text, _| Some(text.to_owned()))?,
            cut_connections: self.flag(&CUT_CONNECTIONS)?,
            transit_group: self.id(&TRANSIT_GROUP)?,
            hold_seconds: self.number(&HOLD_SECONDS)?,
            watch: self.value(&WATCH, named)?,
        })
    }

    pub(super) fn is_dry_run(&self) -> Result<bool, InvalidRequest> {
        self.flag(&DRY_RUN)
    }

    pub(super) fn on_rollback(&self) -> Result<Release, InvalidRequest> {
        self.value(&ON_ROLLBACK, named)
    }

    pub(super) fn function_outlives_stack(&self) -> bool {
        self.flag(&OUTLIVES_STACK).unwrap_or_default()
    }

    /// Seconds that CloudFormation waits for the answer, whatever else is wrong with the event.
    pub(super) fn service_timeout(&self) -> u64 {
        let given = self.number(&SERVICE_TIMEOUT);
        given.or_else(|_| Properties(None).number(&SERVICE_TIMEOUT)).unwrap_or_default()
    }

    fn get(&self, property: &Property) -> &Value {
        self.0.and_then(|properties| properties.get(property.name)).unwrap_or(&Value::Null)
    }

    fn flag(&self, property: &Property) -> Result<bool, InvalidRequest> {
        self.value(property, |text, _| match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
    }

    fn number(&self, property: &Property) -> Result<u64, InvalidRequest> {
        self.value(property, |text, kind| match kind {
            Kind::Number(_, least, most) => text.parse().ok().filter(|number| (least..=most).contains(number)),
            _ => None,
        })
    }

    fn value<T>(&self, property: &Property, parse: impl FnOnce(&str, Kind) -> Option<T>) -> Result<T, InvalidRequest> {
        let value = self.get(property);
        let text = scalar(value).ok_or_else(|| unexpected(property, value))?;
        let text = given(property, if text.is_empty() { property.default } else { Some(text.as_str()) })?;
        let is_short = !matches!(property.kind, Kind::Text(most) if text.chars().count() > most);
        parse(text, property.kind).filter(|_| is_short).ok_or_else(|| unexpected(property, value))
    }

    fn id<T: FromStr<Err: fmt::Display>>(&self, property: &Property) -> Result<Option<T>, InvalidRequest> {
        match self.get(property) {
            Value::Null => Ok(None),
            Value::String(text) if text.trim().is_empty() => Ok(None),
            Value::String(text) => parse(property, text.trim()).map(Some),
            other => Err(unexpected(property, other)),
        }
    }

    /// Repeats count once, and blank entries do not: a blank `CommaDelimitedList` arrives as `[""]`.
    fn ids<T: FromStr<Err: fmt::Display> + Ord + Clone>(&self, property: &Property) -> Result<Vec<T>, InvalidRequest> {
        let value = self.get(property);
        let value = given(property, (!value.is_null()).then_some(value))?;
        let texts =
            entries(value, |value| value.as_str().map(str::to_owned)).map_err(|other| unexpected(property, other))?;
        let (mut seen, mut ids) = (BTreeSet::new(), Vec::new());
        for text in texts {
            let id: T = parse(property, &text)?;
            if seen.insert(id.clone()) {
                ids.push(id);
            }
        }
        if ids.is_empty() { Err(InvalidRequest::NoInstances) } else { Ok(ids) }
    }

    fn names(&self, property: &Property) -> Result<BTreeSet<String>, InvalidRequest> {
        let value = self.get(property);
        Ok(entries(value, scalar).map_err(|_| unexpected(property, value))?.into_iter().collect())
    }

    /// None at all means the default: what is verified is then the narrowest that is of any use.
    fn ports(&self, property: &Property) -> Result<BTreeSet<u16>, InvalidRequest> {
        let value = self.get(property);
        let unexpected = || unexpected(property, value);
        let mut texts = entries(value, scalar).map_err(|_| unexpected())?;
        if texts.is_empty() {
            texts.extend(property.default.map(str::to_owned));
        }
        texts.iter().map(|text| text.parse().ok().filter(|port| *port > 0).ok_or_else(unexpected)).collect()
    }
}

fn given<T>(property: &Property, value: Option<T>) -> Result<T, InvalidRequest> {
    value.ok_or(InvalidRequest::MissingProperty { property: property.name })
}

fn parse<T: FromStr<Err: fmt::Display>>(property: &Property, text: &str) -> Result<T, InvalidRequest> {
    text.parse()
        .map_err(|error: T::Err| InvalidRequest::Property { property: property.name, reason: error.to_string() })
}

/// One of the names of an enum.
fn named<T: DeserializeOwned>(text: &str, _: Kind) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The entries of a list, or of one text with commas, that are not blank; or what is neither.
fn entries(value: &Value, text: impl Fn(&Value) -> Option<String>) -> Result<Vec<String>, &Value> {
    let texts: Vec<String> = match value {
        Value::Array(values) => values.iter().map(|value| text(value).ok_or(value)).collect::<Result<_, _>>()?,
        one => text(one).ok_or(one)?.split(',').map(str::to_owned).collect(),
    };
    Ok(texts.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect())
}

fn unexpected(property: &Property, value: &Value) -> InvalidRequest {
    let shown: String = value.to_string().chars().take(80).collect();
    InvalidRequest::Property { property: property.name, reason: format!("{shown} is not {}", property.kind) }
}
