//! What may end an isolated instance although it is isolated, from what EC2 shows of it. **It is only said**: the
//! attacker on the instance may write its tags, so they change nothing of what is done.

use super::{Case, Plan, Problem};
use crate::model::{Instance, ScheduledEvent};

/// What may end it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// A node of a Kubernetes cluster.
    Kubernetes { cluster: Option<String> },
    /// A node that Karpenter has launched.
    Karpenter { pool: Option<String> },
    /// ECS has launched it.
    Ecs { cluster: Option<String>, container_instance: Option<String> },
    /// EC2 may take it back at any time.
    Spot,
    /// A reservation that ends, or that is taken back, in EC2's own word.
    Reservation(String),
    /// Only the operator's program looks for it.
    Scheduled(ScheduledEvent),
}

/// EKS sets the first on the nodes of its node groups, the others in Auto Mode.
const EKS: [&str; 3] = ["eks:cluster-name", "eks:eks-cluster-name", "aws:eks:cluster-name"];
/// The cluster's name stands behind it (EKS user guide, self-managed nodes).
const KUBERNETES: &str = "kubernetes.io/cluster/";
/// The second was its name before version 0.32 (Karpenter's documentation, upgrade guide).
const KARPENTER: [&str; 2] = ["karpenter.sh/nodepool", "karpenter.sh/provisioner-name"];
/// On ECS Managed Instances (ECS developer guide, "Tagging for Amazon ECS Managed Instances").
const ECS: &str = "aws:ecs:clusterName";
const ECS_INSTANCE: &str = "aws:ecs:containerInstanceId";
/// What ends with a reservation (EC2 user guide, "Instance lifecycle in a group").
const RESERVED: [&str; 2] = ["capacity-block", "interruptible-capacity-reservation"];
/// No service above allows a longer name.
const LONGEST_NAME: usize = 255;

/// Says what may end the instance.
pub(super) fn name_endings(case: &Case<'_>, instance: &Instance, plan: &mut Plan) {
    plan.problems.extend(shown(instance).into_iter().map(|ending| Problem::Ending { instance: case.id(), ending }));
}

fn shown(instance: &Instance) -> Vec<Ending> {
    let first = |keys: &[&str]| keys.iter().find_map(|key| instance.tags.get(*key));
    let karpenter = first(&KARPENTER).map(|pool| Ending::Karpenter { pool: name(pool) });
    let of_cluster = instance.tags.keys().find_map(|key| key.strip_prefix(KUBERNETES));
    let cluster = first(&EKS).map(String::as_str).or(of_cluster);
    // Karpenter's nodes have the tags of their cluster, too.
    let kubernetes =
        cluster.filter(|_| karpenter.is_none()).map(|cluster| Ending::Kubernetes { cluster: name(cluster) });
    let ecs = instance.tags.get(ECS).map(|cluster| Ending::Ecs {
        cluster: name(cluster),
        container_instance: instance.tags.get(ECS_INSTANCE).and_then(|id| name(id)),
    });
    let bought = instance.lifecycle.as_deref().and_then(|lifecycle| match lifecycle {
        "spot" => Some(Ending::Spot),
        other => RESERVED.contains(&other).then(|| Ending::Reservation(other.to_owned())),
    });
    [bought, karpenter, kubernetes, ecs].into_iter().flatten().collect()
}

/// A name as it may stand in a message or a command: an attacker may have written it.
fn name(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name =
        !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(is_plain) && !text.starts_with('-');
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Goal;
    use crate::plan::testing::{World, wants};

    /// What is said of an isolated instance with these tags.
    fn said(tags: &[(&str, &str)], lifecycle: Option<&str>) -> Vec<Ending> {
        let world = World::isolated().change_instance(|instance| {
            instance.tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            instance.lifecycle = lifecycle.map(str::to_owned);
        });
        endings(&world)
    }

    fn plan(world: &World) -> Plan {
        world.plan(&Goal::Isolate(&wants(&["i-1"])))
    }

    fn endings(world: &World) -> Vec<Ending> {
        let problems = plan(world).problems;
        let ending = |problem| if let Problem::Ending { ending, .. } = problem { Some(ending) } else { None };
        problems.into_iter().filter_map(ending).collect()
    }

    #[test]
    fn tags_of_controllers_and_what_was_bought_are_named() {
        let kubernetes = |cluster: &str| vec![Ending::Kubernetes { cluster: Some(cluster.to_owned()) }];
        assert_eq!(said(&[("eks:cluster-name", "prod")], None), kubernetes("prod"));
        assert_eq!(said(&[("kubernetes.io/cluster/prod-1", "owned")], None), kubernetes("prod-1"));
        let pool = vec![Ending::Karpenter { pool: Some("default".to_owned()) }];
        let both = [("karpenter.sh/nodepool", "default"), ("kubernetes.io/cluster/prod", "owned")];
        assert_eq!(said(&both, None), pool);
        let ecs = Ending::Ecs { cluster: Some("web".to_owned()), container_instance: Some("0a1b".to_owned()) };
        let tags = [("aws:ecs:clusterName", "web"), ("aws:ecs:containerInstanceId", "0a1b")];
        assert_eq!(said(&tags, Some("spot")), [Ending::Spot, ecs]);
        assert_eq!(said(&[], Some("capacity-block")), [Ending::Reservation("capacity-block".to_owned())]);
        assert_eq!(said(&[("Name", "web")], Some("scheduled")), []);
    }

    #[test]
    fn a_name_that_could_be_a_command_is_left_out() {
        for name in ["", "x; reboot", "$(id)", "-rf", "a b", "a\nb", "é", &"a".repeat(256)] {
            assert_eq!(said(&[("karpenter.sh/nodepool", name)], None), [Ending::Karpenter { pool: None }], "{name}");
        }
    }

    /// The attacker on the instance may write them.
    #[test]
    fn a_tag_changes_nothing_of_what_is_done() {
        let plain = World::isolated();
        let tagged = World::isolated().change_instance(|instance| {
            instance.tags.insert("karpenter.sh/nodepool".to_owned(), "default".to_owned());
        });
        let (plain, tagged) = (plan(&plain), plan(&tagged));
        assert_eq!((plain.work, plain.standing, plain.doubts), (tagged.work, tagged.standing, tagged.doubts));
    }

    #[test]
    fn of_one_that_is_not_isolated_yet_nothing_is_said() {
        let world = World::new()
            .instance("i-1", &[("eni-1", &["sg-a"])])
            .change_instance(|instance| instance.lifecycle = Some("spot".to_owned()));
        assert_eq!(endings(&world), []);
    }
}
