//! CloudFormation's request, read in two steps.
//!
//! [`Envelope`] is what it takes to answer at all: reading it cannot fail, since a request that is not answered
//! freezes the stack for up to an hour. [`Request`] is what we are asked to do, validated; on a Delete nothing in
//! the properties is needed, because they may be old, invalid or missing.
//!
//! No I/O, no SDK.

use std::fmt;

use serde_json::Value;

use super::properties::Properties;
use crate::model::{Owner, Release, Wants};

/// A physical id longer than this is refused by CloudFormation (custom resource reference: 1 KB).
const PHYSICAL_ID_LIMIT: usize = 1024;

/// Characters of a `Rerun` that the history of a record keeps.
const NOTE_LIMIT: usize = 256;

/// What CloudFormation sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestType {
    Create,
    Update,
    Delete,
}

impl RequestType {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Delete => "Delete",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The fields of a request that an answer needs, verbatim; what is missing or no string is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `None` for what CloudFormation does not send.
    pub request_type: Option<RequestType>,
    /// A bearer credential: a reader of it can forge the answer. Never logged.
    pub response_url: String,
    pub stack_id: String,
    pub request_id: String,
    pub logical_id: String,
    physical_id: String,
    /// Seconds that CloudFormation waits for the answer.
    pub service_timeout: u64,
    /// The function is not part of the stack.
    pub function_outlives_stack: bool,
    /// What `Rerun` says, if it is new: who asks and why, in a person's words.
    pub note: Option<String>,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("request_type", &self.request_type)
            .field("stack_id", &self.stack_id)
            .field("request_id", &self.request_id)
            .field("logical_id", &self.logical_id)
            .finish_non_exhaustive()
    }
}

impl Envelope {
    #[must_use]
    pub fn read(event: &Value) -> Self {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            request_type: RequestType::parse(&text("RequestType")),
            response_url: text("ResponseURL"),
            stack_id: text("StackId"),
            request_id: text("RequestId"),
            logical_id: text("LogicalResourceId"),
            physical_id: text("PhysicalResourceId"),
            service_timeout: Properties::of(event).service_timeout(),
            function_outlives_stack: Properties::of(event).function_outlives_stack(),
            note: Properties::of(event)
                .rerun()
                .filter(|rerun| Properties::before(event).rerun() != Some(rerun))
                .and_then(note),
        }
    }

    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { stack_id: self.stack_id.clone(), logical_id: self.logical_id.clone() }
    }

    /// The id to answer with: the event's own, verbatim, or where there is none one that depends on the owner only.
    /// **It never changes**: any other id makes CloudFormation send a Delete for the old one, which is a release.
    #[must_use]
    pub fn physical_id(&self) -> String {
        if self.physical_id.is_empty() || escaped_length(&self.physical_id) > PHYSICAL_ID_LIMIT {
            format!("ec2-isolation-{}", self.owner().digest())
        } else {
            self.physical_id.clone()
        }
    }
}

/// As much of a text as a line of a record's history takes.
fn note(rerun: &Value) -> Option<String> {
    let text: String = rerun.as_str()?.chars().filter(|c| !c.is_control()).take(NOTE_LIMIT).collect();
    (!text.trim().is_empty()).then_some(text)
}

/// Bytes that `text` takes inside a JSON string.
pub(super) fn escaped_length(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len() - 2)
}

/// What a valid request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create and Update: every listed instance ends isolated.
    Reconcile(Wants),
    /// Either of them with `DryRun`: nothing is changed. `DryRun` may be there by oversight, as CloudFormation keeps a parameter's
    /// last value: it was true before, and no new `Rerun` says that it is meant.
    Rehearse { wants: Wants, before: Option<Box<Before>>, by_oversight: bool },
    /// Delete: every instance that the owner holds ends restored, unless the stack's status forbids it.
    Delete { on_rollback: Release },
}

/// What the request before an Update wanted, as CloudFormation says it, if that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    pub wants: Wants,
    pub is_dry_run: bool,
}

/// Why a request was refused before anything was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    #[error("RequestType is {0:?}; CloudFormation sends Create, Update or Delete")]
    RequestType(String),
    #[error("the event has no {0}; it does not come from CloudFormation")]
    Missing(&'static str),
    #[error("property {property} is missing; set it in the template's custom resource")]
    MissingProperty { property: &'static str },
    #[error("property InstanceIds lists no instance; list at least one id, as in [\"i-0123456789abcdef0\"]")]
    NoInstances,
    #[error("property {property}: {reason}")]
    Property { property: &'static str, reason: String },
}

impl InvalidRequest {
    /// Whether it does not come from CloudFormation: no stack has asked for it.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::RequestType(_) | Self::Missing(_))
    }
}

impl Request {
    /// Reads the request behind an envelope.
    pub fn read(event: &Value, envelope: &Envelope) -> Result<Self, InvalidRequest> {
        for (name, value) in [
            ("StackId", &envelope.stack_id),
            ("LogicalResourceId", &envelope.logical_id),
            ("RequestId", &envelope.request_id),
        ] {
            if value.is_empty() {
                return Err(InvalidRequest::Missing(name));
            }
        }
        let properties = Properties::of(event);
        match envelope.request_type {
            Some(RequestType::Create | RequestType::Update) => {
                let wants = properties.wants()?;
                if !properties.is_dry_run()? {
                    return Ok(Self::Reconcile(wants));
                }
                let before = Properties::before(event);
                let is_dry_run = before.is_dry_run() == Ok(true);
                let by_oversight = is_dry_run && before.rerun() == properties.rerun();
                let before = before.wants().ok().map(|wants| Box::new(Before { wants, is_dry_run }));
                Ok(Self::Rehearse { wants, before, by_oversight })
            }
            // What is held is restored whatever DryRun says. Properties of years ago must not stop a Delete: what cannot be read means the safe default.
            Some(RequestType::Delete) => Ok(Self::Delete { on_rollback: properties.on_rollback().unwrap_or_default() }),
            None => {
                let text = event.get("RequestType").and_then(Value::as_str).unwrap_or_default();
                Err(InvalidRequest::RequestType(text.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn properties() -> Value {
        json!({"InstanceIds": ["i-0a"], "VpcId": "vpc-01", "IsolatedSecurityGroupId": "sg-01"})
    }

    fn read(request_type: &str, properties: &Value) -> Result<Request, InvalidRequest> {
        let event = json!({
            "RequestType": request_type, "StackId": "arn:aws:cloudformation:us-east-1:1:stack/ir/1", "RequestId": "req-1",
            "LogicalResourceId": "Iso", "ResourceProperties": properties,
        });
        Request::read(&event, &Envelope::read(&event))
    }

    /// The outcome of a Create with one property set: the wants, or the error's text.
    fn with(property: &str, value: Value) -> Result<Wants, String> {
        let mut properties = properties();
        properties[property] = value;
        match read("Create", &properties) {
            Ok(Request::Reconcile(wants)) => Ok(wants),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_new_rerun_says_who_asks() {
        let note = |now: Value, before: Value| {
            let event = json!({"ResourceProperties": {"Rerun": now}, "OldResourceProperties": before});
            Envelope::read(&event).note
        };
        assert_eq!(note(json!("03:12 by alice\n"), Value::Null), Some("03:12 by alice".to_owned()));
        assert_eq!(note(json!("2"), json!({"Rerun": "1"})), Some("2".to_owned()));
        // CloudFormation keeps a parameter's last value: it says nothing of who asks now.
        assert_eq!(note(json!("1"), json!({"Rerun": "1"})), None);
        assert_eq!((note(json!(""), Value::Null), note(json!(7), Value::Null)), (None, None));
        assert_eq!(note(json!("é".repeat(300)), Value::Null), Some("é".repeat(256)));
    }

    fn ids(value: Value) -> Result<Vec<String>, String> {
        with("InstanceIds", value).map(|wants| wants.instances.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn properties_have_safe_defaults() {
        let wants = with("Unknown", json!({"kept": ["from", 2019]})).unwrap();
        assert!(wants.snapshot_volumes && wants.protect);
        assert!(!wants.allow_partial && !wants.detach_profile);
        assert_eq!((wants.on_removal, wants.on_rollback), (Release::KeepIsolated, Release::KeepIsolated));
        assert_eq!((wants.forensic_group, wants.purpose.as_str()), (None, "forensics"));
    }

    #[test]
    fn instance_ids_come_as_a_list_or_as_text_with_commas_and_repeats_count_once() {
        let two = vec!["i-0a".to_owned(), "i-0b".to_owned()];
        assert_eq!(ids(json!(["i-0a", "i-0b"])), Ok(two.clone()));
        assert_eq!(ids(json!("i-0a, i-0b")), Ok(two.clone()));
        assert_eq!(ids(json!(["i-0a", "", "i-0b", "i-0a"])), Ok(two));
    }

    #[test]
    fn a_request_without_instances_is_refused() {
        let none = "property InstanceIds lists no instance; list at least one id, as in [\"i-0123456789abcdef0\"]";
        for empty in [json!([]), json!([""]), json!(""), json!(" , ")] {
            assert_eq!(ids(empty), Err(none.to_owned()));
        }
        let missing = "property InstanceIds is missing; set it in the template's custom resource";
        assert_eq!(ids(Value::Null), Err(missing.to_owned()));
    }

    #[test]
    fn a_malformed_id_is_named_with_its_property() {
        assert!(
            ids(json!(["web-1"])).unwrap_err().starts_with("property InstanceIds: \"web-1\" is not an instance id")
        );
        assert!(ids(json!([7])).unwrap_err().starts_with("property InstanceIds: 7 is not a list of ids"));
        for property in ["VpcId", "IsolatedSecurityGroupId", "ForensicSecurityGroupId"] {
            assert!(
                with(property, json!("nonsense"))
                    .unwrap_err()
                    .starts_with(&format!("property {property}: \"nonsense\""))
            );
        }
        assert_eq!(
            with("VpcId", json!("")).unwrap_err(),
            "property VpcId is missing; set it in the template's custom resource"
        );
    }

    #[test]
    fn booleans_come_as_strings_numbers_or_booleans() {
        for (no, yes) in [
            (json!("false"), json!("true")),
            (json!(false), json!(true)),
            (json!("False"), json!("TRUE")),
            (json!(0), json!("1")),
        ] {
            assert!(!with("SnapshotVolumes", no).unwrap().snapshot_volumes);
            assert!(with("AllowPartialIsolation", yes).unwrap().allow_partial);
        }
        assert_eq!(
            with("SnapshotVolumes", json!("maybe")).unwrap_err(),
            "property SnapshotVolumes: \"maybe\" is not true or false"
        );
    }

    #[test]
    fn connections_are_cut_unless_told_otherwise_and_a_hold_has_bounds() {
        let wants = with("TransitSecurityGroupId", json!("sg-0a")).unwrap();
        assert!(wants.cut_connections);
        assert_eq!((wants.transit_group.unwrap().as_str(), wants.hold_seconds), ("sg-0a", 5));
        assert_eq!(with("TransitSecurityGroupId", json!("")).unwrap().transit_group, None);
        assert!(!with("CutEstablishedConnections", json!("false")).unwrap().cut_connections);
        for (value, seconds) in [(json!("0"), 0), (json!(7), 7), (json!("60"), 60), (json!(""), 5)] {
            assert_eq!(with("HoldSeconds", value).unwrap().hold_seconds, seconds);
        }
        for value in [json!("61"), json!("2.5"), json!(-1), json!("soon"), json!([5])] {
            let error = with("HoldSeconds", value).unwrap_err();
            assert!(error.ends_with(" is not a whole number of seconds from 0 to 60"), "{error}");
        }
    }

    #[test]
    fn forensic_ports_are_numbers_and_ssh_alone_where_nothing_is_said() {
        let ports = |value| with("ForensicPorts", value).map(|wants| wants.forensic_ports);
        assert_eq!(with("Unknown", json!("")).unwrap().forensic_ports, [22].into());
        for (value, expected) in [
            (json!("22"), vec![22]),
            (json!("22, 3389"), vec![22, 3389]),
            (json!(["3389", 5986, ""]), vec![3389, 5986]),
            (json!(3389), vec![3389]),
            (json!(""), vec![22]),
            (json!([]), vec![22]),
        ] {
            assert_eq!(ports(value), Ok(expected.into_iter().collect()));
        }
        for value in [json!("ssh"), json!("0"), json!("65536"), json!("22-23"), json!("-1"), json!({}), json!([["22"]])]
        {
            let error = ports(value).unwrap_err();
            assert!(error.ends_with(" is not a list of tcp ports from 1 to 65535, as in 22,3389"), "{error}");
        }
    }

    #[test]
    fn a_release_policy_is_one_of_two_words() {
        assert_eq!(with("OnRemoval", json!("Restore")).unwrap().on_removal, Release::Restore);
        assert_eq!(
            with("OnRollback", json!("restore")).unwrap_err(),
            "property OnRollback: \"restore\" is not KeepIsolated or Restore"
        );
    }

    #[test]
    fn a_delete_needs_no_property_at_all() {
        let keep = Request::Delete { on_rollback: Release::KeepIsolated };
        for old in [json!({}), json!(null), json!({"InstanceIds": "??", "OnRollback": 7}), json!([1])] {
            assert_eq!(read("Delete", &old), Ok(keep.clone()));
        }
        let restore = Request::Delete { on_rollback: Release::Restore };
        assert_eq!(read("Delete", &json!({"OnRollback": "Restore"})), Ok(restore));
    }

    #[test]
    fn an_unknown_request_type_is_refused() {
        let error = read("Frobnicate", &properties()).unwrap_err().to_string();
        assert_eq!(error, "RequestType is \"Frobnicate\"; CloudFormation sends Create, Update or Delete");
    }

    #[test]
    fn the_physical_id_of_a_given_event_is_a_constant() {
        let event = json!({"StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/ir/11111111-aaaa", "LogicalResourceId": "Iso"});
        assert_eq!(Envelope::read(&event).physical_id(), "ec2-isolation-90666a1f23217e5c2cc7cff216344912");
    }

    #[test]
    fn the_physical_id_of_the_event_is_answered_verbatim_where_it_is_usable() {
        let with = |id: Value| {
            Envelope::read(&json!({"StackId": "s", "LogicalResourceId": "l", "PhysicalResourceId": id})).physical_id()
        };
        assert_eq!(with(json!("2024/04/30/[$LATEST]abc")), "2024/04/30/[$LATEST]abc");
        let derived = with(json!(null));
        for unusable in [json!(""), json!(7), json!("x".repeat(1025))] {
            assert_eq!(with(unusable), derived);
        }
    }

    #[test]
    fn an_envelope_is_read_from_any_json() {
        for event in [json!(null), json!([]), json!("text"), json!({"ResponseURL": 7, "ResourceProperties": []})] {
            let envelope = Envelope::read(&event);
            assert_eq!((envelope.response_url.as_str(), envelope.service_timeout), ("", 3600));
        }
    }

    #[test]
    fn the_response_url_never_shows_in_debug_output() {
        let envelope = Envelope::read(&json!({"ResponseURL": "https://bucket/key?X-Amz-Signature=secret"}));
        assert!(!format!("{envelope:?}").contains("secret"));
    }
}
