//! What calls the watch: a schedule, or a call to AWS, as EventBridge passes it on.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::model::{GroupId, Groups, InstanceId, InterfaceId, Owner, Time};

/// The logical id of the custom resource in our templates.
const LOGICAL_ID: &str = "Isolation";
/// An EKS cluster is the identity provider of its service accounts (EKS User Guide, "IAM roles for service accounts").
const EKS_PROVIDER: &str = ":oidc-provider/oidc.eks.";
/// Service-linked roles have this path, and only their service assumes them (IAM User Guide, "Service-linked roles").
const SERVICE_ROLE: &str = ":role/aws-service-role/";
/// Calls whose outcome no look shows.
const UNSEEN: [&str; 7] = [
    "AssociateIamInstanceProfile",
    "ReplaceIamInstanceProfileAssociation",
    "DeleteSnapshot",
    "UnlockSnapshot",
    "ModifySnapshotAttribute",
    "EnterStandby",
    "ExitStandby",
];
/// How the ids begin that an incident is found by.
const PREFIXES: [&str; 5] = ["i-", "eni-", "sg-", "snap-", "vol-"];

/// One event for the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The incident to be looked at; all of the table where none is named.
    pub owner: Option<Owner>,
    /// The event that is the reason for the look, if there is one.
    pub cause: Option<Cause>,
}

/// A call to AWS, by CloudTrail's record of it; or a change of an instance's state, which has no caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Its name, as in `ModifyNetworkInterfaceAttribute`.
    pub call: String,
    /// ARN or service of the caller.
    pub by: Option<String>,
    pub at: Option<Time>,
    /// The caller is a program that puts things back, and no person.
    pub is_controller: bool,
    /// AWS refused it: nothing was changed.
    pub is_refused: bool,
    /// Every id that it names.
    pub ids: BTreeSet<String>,
    /// The groups that it gave to interfaces.
    pub groups: Groups,
}

impl Trigger {
    /// `None` if the event is not for the watch.
    #[must_use]
    pub fn read(event: &Value) -> Option<Self> {
        let watch = event.get("Watch")?;
        let text = |name: &str| watch.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let logical_id = text("LogicalResourceId").unwrap_or(LOGICAL_ID);
        let owner = text("StackId").map(|id| Owner { stack_id: id.to_owned(), logical_id: logical_id.to_owned() });
        Some(Self { owner, cause: watch.get("Event").filter(|event| event.is_object()).map(Cause::read) })
    }
}

impl Cause {
    fn read(event: &Value) -> Self {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str);
        let mut strings = Vec::new();
        for part in ["requestParameters", "responseElements", "instance-id"] {
            event.get(part).into_iter().for_each(|part| gather(part, "", &mut strings));
        }
        let is_id = |text: &str| PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        let ids = strings.iter().map(|(_, text)| *text).filter(|text| is_id(text)).map(str::to_owned).collect();
        let mut given = Vec::new();
        event.get("requestParameters").into_iter().for_each(|part| gather(part, "", &mut given));
        let groups = given.into_iter().filter(|(name, _)| *name == "groupId");
        let state = text("/state").map(|state| format!("instance {state}"));
        Self {
            call: text("/eventName").map(str::to_owned).or(state).unwrap_or_else(|| "an event".to_owned()),
            by: ["/userIdentity/arn", "/userIdentity/invokedBy"].into_iter().find_map(text).map(str::to_owned),
            at: text("/eventTime").and_then(|time| time.parse().ok()),
            is_controller: event.get("userIdentity").is_some_and(is_controller),
            is_refused: text("/errorCode").is_some(),
            ids,
            groups: groups.filter_map(|(_, id)| id.parse::<GroupId>().ok()).collect(),
        }
    }

    /// Whether it is why an interface of this instance shows these groups, and the doing of a controller. A later change has
    /// given it others.
    pub(super) fn has_moved(&self, instance: &InstanceId, interface: &InterfaceId, shown: Option<&Groups>) -> bool {
        self.gives_groups(instance, interface) && self.is_controller && shown == Some(&self.groups)
    }

    /// Whether a person, as far as that is known, has given this interface other groups. Who attached it decides nothing.
    pub(super) fn is_of_a_person(&self, instance: &InstanceId, interface: &InterfaceId) -> bool {
        self.gives_groups(instance, interface) && !self.is_controller
    }

    /// Whether no look shows what it did: that it was made is what there is to tell. Of an instance's attributes a look reads the
    /// groups only.
    pub(super) fn is_unseen(&self) -> bool {
        UNSEEN.contains(&self.call.as_str()) || self.call == "ModifyInstanceAttribute" && self.groups.is_empty()
    }

    fn gives_groups(&self, instance: &InstanceId, interface: &InterfaceId) -> bool {
        let is_named = match self.call.as_str() {
            "ModifyNetworkInterfaceAttribute" => self.ids.contains(interface.as_str()),
            // On the one interface of an instance.
            "ModifyInstanceAttribute" => self.ids.contains(instance.as_str()),
            _ => false,
        };
        is_named && !self.is_refused && !self.groups.is_empty()
    }
}

/// Every text, with the name of its field.
fn gather<'e>(value: &'e Value, name: &'e str, found: &mut Vec<(&'e str, &'e str)>) {
    match value {
        Value::String(text) => found.push((name, text)),
        Value::Array(items) => items.iter().for_each(|item| gather(item, name, found)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| gather(field, name, found)),
        _ => {}
    }
}

/// Whether a service, an instance or a workload of a cluster called. What CloudFormation or the console does for a person is that
/// person's (`invokedBy` beside a person's identity), and a role that anybody may assume is taken for a person's.
fn is_controller(identity: &Value) -> bool {
    let text = |path: &str| identity.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let session = text("/arn").rsplit('/').next().unwrap_or_default();
    let is_instance = text("/type") == "AssumedRole"
        && session.strip_prefix("i-").is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text("/type") == "AWSService"
        || text("/sessionContext/sessionIssuer/arn").contains(SERVICE_ROLE)
        || text("/sessionContext/webIdFederationData/federatedProvider").contains(EKS_PROVIDER)
        || is_instance
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call)?;
        self.by.iter().try_for_each(|by| write!(f, " by {by}"))?;
        self.at.iter().try_for_each(|at| write!(f, " at {at}"))
    }
}
