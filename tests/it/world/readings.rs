//! Readings that do not show what is, and what somebody else does between two calls.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ec2_isolation::model::{Group, Groups, InstanceId};
use tokio::time::Instant;

use super::{Data, World};

/// What somebody else does to the world.
pub struct Meddling(pub Box<dyn FnOnce(&mut Data) + Send>);

impl fmt::Debug for Meddling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddling")
    }
}

/// What was when an answer was sent.
#[derive(Debug, Clone)]
pub struct AtAnswer {
    pub at: Instant,
    /// The groups of every interface.
    pub cards: BTreeMap<String, Groups>,
    pub in_transit: Vec<String>,
}

/// A record among [`Data::hidden`].
pub fn record(instance: &InstanceId) -> String {
    format!("record {instance}")
}

/// What the stack asked for last, among [`Data::hidden`].
pub const INTENT: &str = "intent";

impl Data {
    /// Whether readings leave it out.
    pub(super) fn hides(&self, id: &str) -> bool {
        self.hidden_now.as_deref() == Some(id) || self.hidden.get(id).is_some_and(|until| Instant::now() < *until)
    }

    /// Whether changes do not find it.
    pub(super) fn is_unseen(&self, id: &str) -> bool {
        self.unseen.get(id).is_some_and(|until| Instant::now() < *until)
    }

    /// What readings show of a group.
    pub(super) fn shown_group(&self, group: &Group) -> Group {
        match self.ruleless.get(&group.id).filter(|(until, _)| Instant::now() < *until) {
            Some((_, rules)) => Group { ingress: vec![], egress: rules.clone(), ..group.clone() },
            None => group.clone(),
        }
    }

    /// Writes a call into the log. Its number.
    pub(super) fn log(&mut self, action: &'static str, what: String) -> usize {
        self.called_at.truncate(self.calls.len());
        self.calls.push((action, what));
        self.called_at.push(Instant::now());
        self.calls.len()
    }

    /// What happens right before call `n`.
    pub(super) fn meddling(&mut self, action: &str, n: usize) -> Vec<Meddling> {
        let mut due: Vec<Meddling> = self.before_call.remove(&n).into_iter().collect();
        for (of, left, meddling) in std::mem::take(&mut self.before_call_of) {
            match left.checked_sub(usize::from(of == action)) {
                Some(left) => self.before_call_of.push((of, left, meddling)),
                None => due.push(meddling),
            }
        }
        due
    }
}

impl World {
    /// No reading shows it for so long.
    pub fn hide(&self, id: &str, time: Duration) {
        self.data().hidden.insert(id.to_owned(), Instant::now() + time);
    }

    /// This happens right before the `n`th call from now on is carried out; the next one is the first.
    pub fn before_call(&self, n: usize, meddling: impl FnOnce(&mut Data) + Send + 'static) {
        let mut data = self.data();
        let n = data.calls.len() + n;
        data.before_call.insert(n, Meddling(Box::new(meddling)));
    }

    /// The same of a call of this action, of which `n` come first.
    pub fn before_call_of(&self, action: &'static str, n: usize, meddling: impl FnOnce(&mut Data) + Send + 'static) {
        self.data().before_call_of.push((action, n, Meddling(Box::new(meddling))));
    }
}
