//! What protects an instance: EC2 shows it one instance at a time, so it is read as seldom as possible, and never in the way
//! of anything else.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt as _, stream};

use crate::execute::Outcome;
use crate::model::{Attributes, InstanceId, PROTECTING, Wants};
use crate::plan::{Measure, Observed, Plan, Step};
use crate::ports::{Call, CallError, Fault, Look};
use crate::timing::pace::Pace;

/// Instances read at once, with a call for each attribute.
const AT_ONCE: usize = 3;

/// What one phase has read so far.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    attributes: BTreeMap<InstanceId, Option<Attributes>>,
    /// Carried out and not seen yet: the instance is read again.
    unseen: HashSet<Step>,
    unread: BTreeMap<String, CallError>,
}

/// Whose what is to be read.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) attributes: BTreeSet<InstanceId>,
    pub(crate) members: BTreeSet<InstanceId>,
    pub(crate) profiles: BTreeSet<InstanceId>,
}

impl Needs {
    /// What protecting these instances as they are wanted needs.
    pub(crate) fn of(wants: &Wants, ids: &BTreeSet<InstanceId>) -> Self {
        let ids_if = |wanted: bool| if wanted { ids.clone() } else { BTreeSet::new() };
        Self {
            attributes: ids_if(wants.protect),
            members: ids_if(wants.protect),
            profiles: ids_if(wants.detach_profile),
        }
    }
}

impl Inspection {
    /// Adds to `observed` what is needed. Attributes are read where they are not known or were changed since; what cannot
    /// be read is left out.
    pub(crate) async fn read<E: Look>(&mut self, ec2: &E, pace: &Pace, needs: &Needs, observed: &mut Observed) {
        self.unread.clear();
        let (attributes, members, profiles) = tokio::join!(
            self.new_attributes(ec2, pace, &needs.attributes),
            ec2.members(&needs.members),
            ec2.profiles(&needs.profiles),
        );
        for (id, result) in attributes {
            match result {
                Ok(attributes) => drop(self.attributes.insert(id, attributes)),
                Err(error) => {
                    self.attributes.remove(&id);
                    self.unread.insert(format!("the attributes of {id}"), error);
                }
            }
        }
        let known = self.attributes.iter().filter(|(id, _)| needs.attributes.contains(*id));
        observed.attributes = known.map(|(id, attributes)| (id.clone(), *attributes)).collect();
        observed.members = self.unless_unread("membership of Auto Scaling groups", members);
        observed.profiles = self.unless_unread("instance profiles", profiles);
    }

    async fn new_attributes<E: Look>(
        &self,
        ec2: &E,
        pace: &Pace,
        ids: &BTreeSet<InstanceId>,
    ) -> Vec<(InstanceId, Call<Option<Attributes>>)> {
        let changed: BTreeSet<&InstanceId> = self.unseen.iter().filter_map(Step::instance).collect();
        let due = ids.iter().filter(|id| changed.contains(id) || !self.attributes.contains_key(*id));
        let read = async |id: &InstanceId| {
            for _ in PROTECTING {
                pace.turn("ec2:DescribeInstanceAttribute").await;
            }
            (id.clone(), ec2.attributes(id).await)
        };
        let reads: Vec<_> = due.map(read).collect();
        stream::iter(reads).buffer_unordered(AT_ONCE).collect().await
    }

    fn unless_unread<T>(&mut self, what: &str, result: Call<T>) -> Option<T> {
        result.map_err(|error| drop(self.unread.insert(what.to_owned(), error))).ok()
    }

    /// What could not be read at the last look, and why.
    pub(crate) fn unread(&self) -> &BTreeMap<String, CallError> {
        &self.unread
    }

    pub(crate) fn learn(&mut self, outcome: &Outcome) {
        let changes = matches!(outcome.step, Step::Measure(Measure::Protect { .. } | Measure::Unprotect { .. }));
        if changes && !is_refused(&outcome.result) {
            self.unseen.insert(outcome.step.clone());
        }
    }

    /// What is no longer planned was seen.
    pub(crate) fn settle(&mut self, plan: &Plan) {
        self.unseen.retain(|step| plan.steps().any(|planned| planned == step));
    }
}

/// Whether nothing was changed, for certain.
pub(crate) fn is_refused<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(error) if matches!(error.fault, Fault::Denied | Fault::Refused))
}
