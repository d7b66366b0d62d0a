//! What a drill says: what it will make, before it asks, and what it has found, as a text that can be pasted into an issue.

use std::fmt;

use super::super::text::{duration, wrapped};
use super::{Drill, DrillOrder, IMAGE, KIND, Outcome};
use crate::operator::ports::drill::{DRILL_TAG, drill_name};

impl fmt::Display for DrillOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, subnet, vpc, image } = self;
        let name = drill_name(id);
        let image = image.as_deref().unwrap_or(IMAGE);
        let lines = [
            format!("The drill {id} makes in {subnet} of {vpc}, and nothing else is touched:"),
            format!("  two security groups, {name}-a and {name}-b, without a rule that lets anything in"),
            format!("  one {KIND} instance with a second network interface and no public address, from {image}"),
            format!("  one incident stack, {name}, with its two groups, beside the responder that you have"),
            "  two snapshots of the instance's volume, one by the drill and one by the stack".to_owned(),
            format!("All but what the stack makes carry the tag {DRILL_TAG}={id}."),
            "Then it isolates the instance through the stack, moves an interface back, isolates it again, lets an update and a deletion fail, \
             restores it, deletes the stack, and terminates the instance. It takes everything away again, whatever fails. \
             The records table keeps the instance's history, and the log group keeps the function's lines."
                .to_owned(),
            "It takes about fifteen minutes. It costs what such an instance and its volume cost for that time, and a few calls of the \
             function; snapshots that live for minutes cost next to nothing."
                .to_owned(),
            "If it is killed, ec2-isolation drill --clean takes away what is left.".to_owned(),
        ];
        lines.iter().try_for_each(|line| writeln!(f, "{}", wrapped(line, "    ")))
    }
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, template, region, instance_type, at, seconds, .. } = self;
        let count = |outcome| self.findings.iter().filter(|finding| finding.outcome == outcome).count();
        let took = duration(*seconds);
        writeln!(
            f,
            "ec2-isolation {version}, incident template {template}, Region {region}, {instance_type}, {at}, {took}"
        )?;
        writeln!(
            f,
            "{} confirmed, {} refuted, {} not seen",
            count(Outcome::Confirmed),
            count(Outcome::Refuted),
            count(Outcome::NotSeen)
        )?;
        if let Some(failed) = &self.failed {
            writeln!(f, "The drill ended early: {failed}")?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
