//! A dry run as the trigger sees it: **CloudFormation acts on the rest of the template all the same**, so what would change by it
//! must be as it was.

use std::collections::BTreeSet;

use super::event::Before;
use super::rollback::settled_chain;
use super::stack::{StackStatus, Stacks};
use crate::model::{Desired, InstanceId, Intent, Wants, Watch, comma_list};
use crate::ports::{Change, Look, Records};
use crate::reconcile::Reconciler;
use crate::reconcile::report::Report;

/// A Create or Update that is to change nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rehearsal<'a> {
    pub(super) wants: &'a Wants,
    pub(super) before: Option<&'a Before>,
    /// CloudFormation kept the value of `DryRun`.
    pub(super) by_oversight: bool,
    /// The role of the function belongs to the stack.
    pub(super) has_role: bool,
}

/// Says what a Create or Update with these wants would do, unless it is no dry run that is meant as one, or would not be one.
pub(super) async fn rehearse<E: Look + Change, R: Records, S: Stacks>(
    reconciler: &Reconciler<'_, E, R>,
    stacks: &S,
    rehearsal: Rehearsal<'_>,
) -> Report {
    let intent = match reconciler.persist(reconciler.patience(), || reconciler.intent()).await {
        Ok(intent) => intent,
        Err(error) => return Report::failure(format!("the function changed nothing: {error}")),
    };
    let plan = reconciler.dry_run(rehearsal.wants, intent.as_ref(), &[]).await;
    let why = rehearsal.refusal(intent.as_ref());
    // The plan is about what is listed only.
    let is_more_held = intent.iter().flat_map(|intent| &intent.held).any(|id| !rehearsal.wants.instances.contains(id));
    if (why.is_some() || plan.failed || is_more_held) && is_rolling_back(reconciler, stacks).await {
        // A rollback goes back to a dry run, and must succeed: a stack that cannot be rolled back takes no update. What failed before
        // may have left something in the transit group.
        let after = reconciler.look_after().await;
        let plan = reconciler.dry_run(rehearsal.wants, intent.as_ref(), &[]).await;
        let headline = match after.headline {
            Some(headline) => format!("{headline}: the stack rolls back to a dry run"),
            None => plan.headline,
        };
        let mut details = after.details;
        let further: Vec<String> = plan.details.into_iter().filter(|detail| !details.contains(detail)).collect();
        details.extend(further);
        return Report { failed: !after.is_well, headline, details, ..plan };
    }
    match why {
        None => plan,
        Some(why) => {
            let details = std::iter::once(plan.headline).chain(plan.details).collect();
            Report { details, ..Report::failure(why) }
        }
    }
}

impl Rehearsal<'_> {
    /// Why no dry run is made, if it is none that is meant, or if CloudFormation would act on it whatever `DryRun` says.
    fn refusal(&self, intent: Option<&Intent>) -> Option<String> {
        let names = self.new_values(intent.map(|intent| &intent.desired));
        let acts = format!("CloudFormation itself acts on new values of {}", comma_list(&names));
        let text = match (self.by_oversight, names.is_empty()) {
            (false, true) => return None,
            (false, false) => {
                format!("{acts}, even if DryRun is true: set them back and give a new Rerun, or set DryRun=false")
            }
            (true, true) => "DryRun is true, as in the deployment before: set DryRun=false to isolate; to rehearse once more, give a \
                             new Rerun as well"
                .to_owned(),
            (true, false) => format!(
                "DryRun is true, as in the deployment before, and {acts}: set DryRun=false to isolate; to rehearse once more, set \
                 them back and give a new Rerun as well"
            ),
        };
        Some(format!("the function changed nothing: {text}"))
    }

    /// The parameters on which CloudFormation acts by itself, and whose values are not those of the last request in earnest.
    fn new_values(&self, desired: Option<&Desired>) -> Vec<&'static str> {
        let now = self.wants;
        let deployed = self.before.map(|before| &before.wants);
        let asked = match desired {
            Some(Desired::Isolated(asked)) => Some(&**asked),
            Some(Desired::Restored | Desired::Unknown(_)) | None => None,
        };
        let mut names = Vec::new();
        if let Some(before) = asked.or(deployed) {
            let group = |wants: &Wants| (!wants.makes_host).then(|| wants.forensic_group.clone()).flatten();
            // A group of one's own takes the place of a host.
            let is_host_new = before.makes_host != now.makes_host;
            let has_group = before.forensic_group.is_some() && now.forensic_group.is_some();
            let ports = |wants: &Wants| wants.forensic_group.is_some().then(|| wants.forensic_ports.clone());
            let all = [
                ("VpcId", before.vpc != now.vpc),
                ("ForensicHost", is_host_new && !has_group),
                ("ForensicSecurityGroupId", if is_host_new { has_group } else { group(before) != group(now) }),
                // Where a group comes or goes, that is what changes.
                ("ForensicPorts", matches!((ports(before), ports(now)), (Some(before), Some(now)) if before != now)),
                ("Watch", (before.watch == Watch::Off) != (now.watch == Watch::Off)),
                ("DetachInstanceProfile", self.has_role && before.detach_profile != now.detach_profile),
                ("CompromisedInstanceList (for RevokeRoles)", !now.revoke_roles.is_empty() && self.lists_others(asked)),
            ];
            names.extend(all.into_iter().filter_map(|(name, is_new)| is_new.then_some(name)));
        } else if now.makes_host {
            // A dry run comes first, and its stack goes on to make everything else.
            names.push("ForensicHost (a first dry run needs false)");
        }
        let denied = asked.or(deployed).map(|before| &before.revoke_roles);
        if denied.map_or(!now.revoke_roles.is_empty(), |denied| *denied != now.revoke_roles) {
            names.push("RevokeRoles");
        }
        names
    }

    /// Whether CloudFormation has another list. The operator's program takes what it restores off that of the last request; and
    /// the list of a dry run that was refused is none that CloudFormation came to act on.
    fn lists_others(&self, asked: Option<&Wants>) -> bool {
        let listed = |wants: &Wants| wants.instances.iter().cloned().collect::<BTreeSet<InstanceId>>();
        let is_other = |wants: &Wants| listed(wants) != listed(self.wants);
        match self.before {
            Some(before) if before.is_dry_run => is_other(&before.wants) && asked.is_none_or(is_other),
            Some(before) => is_other(&before.wants),
            None => asked.is_some_and(is_other),
        }
    }
}

/// What cannot be read is taken for a deployment that a person asked for, and so is how an earlier one ended: the function is
/// called while the stack rolls back, never after.
async fn is_rolling_back<E: Look + Change, R: Records, S: Stacks>(
    reconciler: &Reconciler<'_, E, R>,
    stacks: &S,
) -> bool {
    let is_rollback: fn(&[StackStatus]) -> bool =
        |chain| chain.first().is_some_and(|stack| stack.status.ends_with("ROLLBACK_IN_PROGRESS"));
    let reading = || settled_chain(stacks, &reconciler.owner.stack_id, is_rollback);
    reconciler.persist(reconciler.patience(), reading).await.is_ok_and(|chain| is_rollback(&chain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloudformation::properties::least;

    fn wants(change: impl FnOnce(&mut Wants)) -> Wants {
        let id = "i-0a".parse().unwrap();
        let mut wants = least(&[id].into(), &"vpc-01".parse().unwrap(), &"sg-01".parse().unwrap()).unwrap();
        change(&mut wants);
        wants
    }

    fn new_values(before: Option<&Wants>, now: &Wants) -> Vec<&'static str> {
        let desired = before.map(|before| Desired::Isolated(Box::new(before.clone())));
        let rehearsal = Rehearsal { wants: now, before: None, by_oversight: false, has_role: true };
        rehearsal.new_values(desired.as_ref())
    }

    #[test]
    fn what_cloudformation_acts_on_is_named_by_its_parameter() {
        fn check(before: impl FnOnce(&mut Wants), now: impl FnOnce(&mut Wants), names: &[&str]) {
            assert_eq!(new_values(Some(&wants(before)), &wants(now)), names);
        }
        let own = |id: &str| Some(id.parse().unwrap());
        let host =
            |wants: &mut Wants| (wants.makes_host, wants.forensic_group) = (true, Some("sg-0f".parse().unwrap()));
        let roles = |wants: &mut Wants| wants.revoke_roles = ["web".to_owned()].into();
        check(|_| (), |_| (), &[]);
        check(|_| (), |wants| wants.vpc = "vpc-02".parse().unwrap(), &["VpcId"]);
        check(host, |_| (), &["ForensicHost"]);
        check(|_| (), host, &["ForensicHost"]);
        // The group's own id, copied from the outputs, is no host.
        check(host, |wants| wants.forensic_group = own("sg-0f"), &["ForensicSecurityGroupId"]);
        check(|wants| wants.forensic_group = own("sg-0e"), |_| (), &["ForensicSecurityGroupId"]);
        // A host that is made again has another group.
        check(host, |wants| (wants.makes_host, wants.forensic_group) = (true, own("sg-0d")), &[]);
        let other_ports = |wants: &mut Wants| wants.forensic_ports = [3389].into();
        check(|_| (), other_ports, &[]);
        check(
            host,
            |wants| {
                host(wants);
                other_ports(wants);
            },
            &["ForensicPorts"],
        );
        check(|_| (), |wants| wants.watch = Watch::Isolate, &[]);
        check(|_| (), |wants| wants.watch = Watch::Off, &["Watch"]);
        check(|_| (), |wants| wants.detach_profile = true, &["DetachInstanceProfile"]);
        check(|_| (), roles, &["RevokeRoles"]);
        check(roles, |_| (), &["RevokeRoles"]);
        check(roles, roles, &[]);
        let further = |wants: &mut Wants| wants.instances.push("i-0b".parse().unwrap());
        check(|_| (), further, &[]);
        check(
            roles,
            |wants| {
                roles(wants);
                further(wants);
            },
            &["CompromisedInstanceList (for RevokeRoles)"],
        );
        // The stack of a first dry run goes on to make what comes after it.
        assert_eq!(new_values(None, &wants(host)), ["ForensicHost (a first dry run needs false)"]);
        assert_eq!(new_values(None, &wants(roles)), ["RevokeRoles"]);
    }
}
