//! What the world remembers: EC2's buckets, reads that trail, and what changes are held against.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use ec2_isolation::model::{Groups, Interface, InterfaceId};
use tokio::time::Instant;

use super::{Data, TRANSIT, Trouble};

/// Size and refill a second (EC2 Developer Guide, request throttling); what is not here is [`READS`].
const BUCKETS: [(&str, f64, f64); 8] = [
    ("ec2:ModifyNetworkInterfaceAttribute", 100.0, 5.0),
    ("ec2:CreateSnapshots", 100.0, 5.0),
    ("ec2:CreateTags", 100.0, 10.0),
    ("ec2:DeleteTags", 100.0, 10.0),
    ("ec2:ModifyInstanceAttribute", 50.0, 5.0),
    ("ec2:ModifyInstanceMetadataOptions", 100.0, 5.0),
    ("ec2:AssociateIamInstanceProfile", 100.0, 5.0),
    ("ec2:DisassociateIamInstanceProfile", 100.0, 5.0),
];
const READS: (f64, f64) = (100.0, 20.0);

impl Data {
    pub(super) fn has_token(&mut self, action: &'static str, what: String) -> bool {
        let Some(buckets) = self.buckets.as_mut().filter(|_| action.starts_with("ec2:")) else { return true };
        let bucket = BUCKETS.iter().find(|(name, ..)| *name == action);
        let (size, rate) = bucket.map_or(READS, |(_, size, rate)| (*size, *rate));
        let now = Instant::now();
        let (tokens, at) = buckets.entry(action).or_insert((size, now));
        // A little more than there is: two clocks are never the same.
        let left = size.min(*tokens + rate * (now - *at).as_secs_f64());
        (*tokens, *at) = (if left > 0.99 { left - 1.0 } else { left }, now);
        if left <= 0.99 {
            self.throttled.push((action, what));
        }
        left > 0.99
    }

    /// Somebody else's calls take so many tokens, and always before ours, of a bucket that they emptied before.
    pub fn drain(&mut self, action: &'static str, taken: f64) {
        let buckets = self.buckets.get_or_insert_default();
        let (tokens, _) = buckets.entry(action).or_insert((0.0, Instant::now()));
        *tokens -= taken;
    }

    /// How long call `n` takes.
    pub(super) fn time(&self, n: usize) -> Duration {
        let Some(seed) = self.jitter else { return self.latency };
        let mut hasher = DefaultHasher::new();
        (seed, n).hash(&mut hasher);
        Duration::from_millis(250 * (1 + hasher.finish() % 8))
    }

    pub(super) fn trouble_of(&mut self, action: &str) -> Option<Trouble> {
        let (left, trouble) = self.troubles_of.get_mut(action)?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let trouble = *trouble;
        self.troubles_of.remove(action);
        Some(trouble)
    }

    /// Notes a change of an interface whose originals are in no record. If it was moved, several may hold it.
    pub(super) fn hold_against_records(&mut self, interface: &InterfaceId) {
        let Some(original) = self.originals.get(interface) else { return };
        let recorded: Vec<&Groups> =
            self.records.values().filter_map(|record| record.interfaces.get(interface)).collect();
        if !recorded.contains(&original) && !self.moved.get(interface).is_some_and(|moved| recorded.contains(&moved)) {
            self.violations.push(format!("{interface} was changed while {recorded:?} was recorded of it"));
        }
    }

    /// The interfaces that are in the transit group.
    pub fn in_transit(&self) -> Vec<String> {
        let transit = TRANSIT.parse().unwrap();
        self.interfaces().filter(|interface| interface.groups.contains(&transit)).map(|i| i.id.to_string()).collect()
    }

    /// Reads go on to show `old`, or what they show already: both are older than what is.
    pub(super) fn trail(&mut self, interface: &InterfaceId, old: Groups) {
        let reads = self.stale_reads;
        let keeps_oldest = self.jitter.is_some_and(|seed| seed % 2 == 0);
        match self.stale.get_mut(interface).filter(|(_, left)| keeps_oldest && *left > 0) {
            Some((_, left)) => *left = reads,
            None => drop(self.stale.insert(interface.clone(), (old, reads))),
        }
    }

    /// What describe calls show of an interface.
    pub(super) fn shown(&mut self, interface: &Interface) -> Interface {
        let mut shown = interface.clone();
        shown.tags = self.tags.get(interface.id.as_str()).cloned().unwrap_or_default();
        if let Some((old, left)) = self.stale.get_mut(&interface.id) {
            if *left > 0 {
                *left -= 1;
                shown.groups = old.clone();
            } else {
                self.stale.remove(&interface.id);
            }
        }
        self.shown.insert(interface.id.clone(), (Instant::now(), shown.groups.clone()));
        shown
    }

    /// An operator's change, seen at once.
    pub fn put_back(&mut self, interface: &InterfaceId, groups: Groups) {
        self.stale.remove(interface);
        if let Some(found) = self.interface_mut(interface) {
            found.groups = groups;
        }
    }

    /// The next reads show these groups, whatever is.
    pub fn show(&mut self, interface: &InterfaceId, groups: Groups, reads: u32) {
        self.stale.insert(interface.clone(), (groups, reads));
    }

    /// From now on every read shows what is.
    pub fn calm(&mut self) {
        self.calm_protections();
        self.stale.clear();
    }
}
