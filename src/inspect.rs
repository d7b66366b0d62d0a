//! What EC2 shows of one instance at a time: read as seldom as possible, and never in the way of anything else.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt as _, stream};

use crate::execute::Outcome;
use crate::model::{Attributes, InstanceId, PROTECTING};
use crate::pace::Pace;
use crate::plan::{Measure, Plan, Step};
use crate::ports::{CallError, Fault, Look};

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

impl Inspection {
    /// The attributes of these instances, read where they are not known or were changed since. What cannot be read is left out.
    pub(crate) async fn attributes<E: Look>(
        &mut self,
        ec2: &E,
        pace: &Pace,
        ids: &BTreeSet<InstanceId>,
    ) -> BTreeMap<InstanceId, Option<Attributes>> {
        let changed: BTreeSet<&InstanceId> = self.unseen.iter().filter_map(Step::instance).collect();
        let due = ids.iter().filter(|id| changed.contains(id) || !self.attributes.contains_key(*id));
        let read = async |id: &InstanceId| {
            for _ in PROTECTING {
                pace.turn("ec2:DescribeInstanceAttribute").await;
            }
            (id.clone(), ec2.attributes(id).await)
        };
        let reads: Vec<_> = due.map(read).collect();
        let results: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
        self.unread.clear();
        for (id, result) in results {
            match result {
                Ok(attributes) => drop(self.attributes.insert(id, attributes)),
                Err(error) => {
                    self.attributes.remove(&id);
                    self.unread.insert(format!("the attributes of {id}"), error);
                }
            }
        }
        self.attributes.iter().filter(|(id, _)| ids.contains(*id)).map(|(id, found)| (id.clone(), *found)).collect()
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
