//! The rules of the groups of ours, and whose group holds an interface.
//!
//! The isolation group lets the forensic ports through, tcp 22 by default, from the forensic group, and nothing out but to
//! the instance itself. A forensic host that came later, in a stack of its own, is known by its group. The transit group lets
//! everything through, or connections through it would be tracked and not end with it.

use super::{Observed, Problem};
use crate::model::{Group, GroupId, Groups, Instance, Interface, Owner, Peer, Role, Rule, Wants};

/// Every rule of the isolation group that is wider than it may be: it lets in the forensic group that the request names, on its
/// ports, and by tcp the group of a forensic host's own stack, whose own rules say on which ports.
pub(super) fn too_wide(observed: &Observed, group: &Group, wants: &Wants) -> Vec<Problem> {
    let may_enter = |rule: &Rule| match (&rule.peer, &wants.forensic_group) {
        (Peer::Group(peer), Some(named)) if named.id == *peer => {
            port(rule).is_some_and(|port| wants.forensic_ports.contains(&port))
        }
        _ => is_of_forensic_host(observed, rule),
    };
    open_by(group, may_enter)
}

/// Every rule but those inwards that `may_enter` allows and those that stay on the host.
fn open_by(group: &Group, may_enter: impl Fn(&Rule) -> bool) -> Vec<Problem> {
    let ingress = group.ingress.iter().filter(|rule| !may_enter(rule)).map(|rule| ("in", rule));
    let egress = group.egress.iter().filter(|rule| !is_loopback(rule)).map(|rule| ("out", rule));
    ingress
        .chain(egress)
        .map(|(direction, rule)| Problem::TooWide { group: group.id.clone(), direction, rule: rule.to_string() })
        .collect()
}

/// The groups that a group lets in and that were not read.
pub(super) fn unknown_peers<'a>(observed: &'a Observed, group: &GroupId) -> impl Iterator<Item = &'a GroupId> {
    let rules = observed.groups.get(group).into_iter().flat_map(|group| &group.ingress);
    let peers = rules.filter_map(|rule| if let Peer::Group(peer) = &rule.peer { Some(peer) } else { None });
    peers.filter(|peer| !observed.groups.contains_key(*peer))
}

/// A rule by tcp from the group of a forensic host: so CloudFormation's own tags say, which cannot be forged.
fn is_of_forensic_host(observed: &Observed, rule: &Rule) -> bool {
    let Peer::Group(peer) = &rule.peer else { return false };
    let is_forensic = |group: &Group| group.role == Some(Role::Forensic) && group.stack_id.is_some();
    rule.protocol == "tcp" && observed.groups.get(peer).is_some_and(is_forensic)
}

/// Whether a group could be another stack's isolation: it lets nothing through but single ports from a group (which
/// ones, its own stack knows), a forensic host, and what stays on the host.
pub(super) fn is_closed(observed: &Observed, group: &Group) -> bool {
    not_closed(observed, group).is_empty()
}

/// The rules by which a group could not be.
pub(super) fn not_closed(observed: &Observed, group: &Group) -> Vec<Problem> {
    let is_port_from_group = |rule: &Rule| matches!(rule.peer, Peer::Group(_)) && port(rule).is_some();
    open_by(group, |rule| is_port_from_group(rule) || is_of_forensic_host(observed, rule))
}

/// What a transit group lacks to let everything through, both ways, IPv4 and IPv6.
pub(super) fn not_open(group: &Group) -> Option<String> {
    let lacks = |rules: &[Rule], cidr: &str| {
        !rules.iter().any(|rule| rule.protocol == "-1" && rule.peer == Peer::Cidr(cidr.to_owned()))
    };
    let ways = [("in", &group.ingress), ("out", &group.egress)];
    let missing = ways.into_iter().flat_map(|(direction, rules)| {
        ["0.0.0.0/0", "::/0"]
            .into_iter()
            .filter(|cidr| lacks(rules, cidr))
            .map(move |cidr| format!("{direction} {cidr}"))
    });
    let missing: Vec<String> = missing.collect();
    (!missing.is_empty()).then(|| format!("does not allow all traffic {}", missing.join(", ")))
}

/// The one tcp port that a rule is about.
fn port(rule: &Rule) -> Option<u16> {
    match rule.ports {
        Some((from, to)) if from == to && rule.protocol == "tcp" => u16::try_from(from).ok(),
        _ => None,
    }
}

fn is_loopback(rule: &Rule) -> bool {
    matches!(&rule.peer, Peer::Cidr(cidr) if cidr == "127.0.0.1/32" || cidr == "::1/128")
}

/// The groups that isolate on behalf of `owner`: the ones named, and those that CloudFormation tagged as its stack's.
pub(super) fn own_groups<'a>(
    observed: &Observed,
    owner: &Owner,
    named: impl IntoIterator<Item = &'a GroupId>,
) -> Groups {
    let tagged = observed.groups.values().filter(|group| group.isolates_for(owner));
    tagged.map(|group| group.id.clone()).chain(named.into_iter().cloned()).collect()
}

/// The stack in whose isolation an interface is, if that is not ours: **all** its groups isolate, and each carries
/// CloudFormation's own tags, which cannot be forged. Our marker decides nothing: an attacker may be able to write it. A
/// colleague may have put another incident's group beside an open one.
pub(super) fn holder<'a>(observed: &'a Observed, ours: &Groups, interface: &Interface) -> Option<&'a String> {
    let mut holder = None;
    for id in &interface.groups {
        let group = observed.groups.get(id).filter(|_| !ours.contains(id))?;
        let stack = group.stack_id.as_ref()?;
        if !is_isolation(observed, group) {
            return None;
        }
        holder = holder.or(Some(stack));
    }
    holder
}

/// The stack in whose isolation all interfaces of an instance are.
pub(super) fn holder_of_all<'a>(observed: &'a Observed, ours: &Groups, instance: &Instance) -> Option<&'a String> {
    let holders = instance.interfaces.iter().map(|interface| holder(observed, ours, interface));
    holders.collect::<Option<Vec<_>>>()?.first().copied()
}

fn is_isolation(observed: &Observed, group: &Group) -> bool {
    match group.role {
        Some(Role::Isolation) => is_closed(observed, group),
        // Open by nature: believed if the same stack has a group that isolates.
        Some(Role::Transit) => observed.groups.values().any(|other| {
            other.role == Some(Role::Isolation) && other.stack_id == group.stack_id && is_closed(observed, other)
        }),
        Some(Role::Forensic) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{group, rule, wants};

    fn bare() -> Wants {
        wants(&["i-1"])
    }

    fn problems(ingress: &[Rule], egress: &[Rule]) -> Vec<String> {
        let mut group = group("sg-1");
        group.ingress = ingress.to_vec();
        group.egress = egress.to_vec();
        let wants =
            Wants { forensic_group: Some("sg-f".parse().unwrap()), forensic_ports: [22, 3389].into(), ..bare() };
        too_wide(&Observed::default(), &group, &wants).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_forensic_ports_from_the_forensic_group_and_loopback_are_all_it_may_let_through() {
        let egress = [rule("-1", None, "127.0.0.1/32"), rule("tcp", Some((0, 0)), "::1/128")];
        let ingress = [rule("tcp", Some((22, 22)), "sg-f"), rule("tcp", Some((3389, 3389)), "sg-f")];
        assert_eq!(problems(&ingress, &egress), Vec::<String>::new());
        assert_eq!(problems(&[], &[]), Vec::<String>::new());
    }

    #[test]
    fn anything_wider_is_named() {
        let check = |direction: &str, wide: Rule, text: &str| {
            let found = if direction == "in" { problems(&[wide], &[]) } else { problems(&[], &[wide]) };
            let expected = format!(
                "isolation group sg-1 allows {direction} {text}: instances in it are not isolated; remove that rule"
            );
            assert_eq!(found, [expected]);
        };
        check("in", rule("tcp", Some((22, 22)), "0.0.0.0/0"), "tcp 22 0.0.0.0/0");
        check("in", rule("tcp", Some((22, 22)), "sg-e"), "tcp 22 sg-e");
        check("in", rule("tcp", Some((22, 23)), "sg-f"), "tcp 22-23 sg-f");
        check("in", rule("tcp", Some((443, 443)), "sg-f"), "tcp 443 sg-f");
        check("in", rule("udp", Some((3389, 3389)), "sg-f"), "udp 3389 sg-f");
        check("in", rule("-1", None, "sg-f"), "all protocols sg-f");
        check("out", rule("-1", None, "0.0.0.0/0"), "all protocols 0.0.0.0/0");
        check("out", rule("-1", None, "::/0"), "all protocols ::/0");
        check("out", rule("tcp", Some((443, 443)), "sg-f"), "tcp 443 sg-f");
    }

    #[test]
    fn whom_a_group_lets_in_is_looked_up_unless_that_was_read() {
        let mut isolation = group("sg-1");
        isolation.ingress = ["sg-e", "sg-f", "10.0.0.0/8"].map(|peer| rule("tcp", Some((22, 22)), peer)).into();
        let observed = |read: Group| Observed {
            groups: [&isolation, &read].map(|group| (group.id.clone(), group.clone())).into(),
            ..Observed::default()
        };
        let unknown = |observed: &Observed| {
            unknown_peers(observed, &isolation.id).map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(unknown(&observed(group("sg-f"))), "sg-e");
        assert_eq!(unknown(&observed(group("sg-a"))), "sg-e sg-f");
        assert_eq!(unknown(&Observed::default()), "");
    }

    #[test]
    fn a_group_that_lets_anything_else_through_is_nobodys_isolation() {
        let mut isolation = group("sg-1");
        assert!(is_closed(&Observed::default(), &isolation));
        isolation.ingress = vec![rule("tcp", Some((22, 22)), "sg-f"), rule("tcp", Some((3389, 3389)), "sg-f")];
        isolation.egress = vec![rule("-1", None, "127.0.0.1/32")];
        assert!(is_closed(&Observed::default(), &isolation));
        isolation.ingress.push(rule("tcp", Some((0, 65535)), "sg-f"));
        assert!(!is_closed(&Observed::default(), &isolation));
        isolation.ingress.clear();
        isolation.egress = vec![rule("-1", None, "0.0.0.0/0")];
        assert!(!is_closed(&Observed::default(), &isolation));
        isolation.egress.clear();
        isolation.ingress = vec![rule("tcp", Some((22, 22)), "10.0.0.0/8")];
        assert!(!is_closed(&Observed::default(), &isolation));
    }

    #[test]
    fn a_transit_group_lets_everything_through_or_is_none() {
        let mut transit = group("sg-1");
        assert_eq!(
            not_open(&transit).unwrap(),
            "does not allow all traffic in 0.0.0.0/0, in ::/0, out 0.0.0.0/0, out ::/0"
        );
        transit.ingress = vec![rule("-1", None, "0.0.0.0/0"), rule("-1", None, "::/0")];
        transit.egress = transit.ingress.clone();
        assert_eq!(not_open(&transit), None);
        transit.egress = vec![rule("-1", None, "0.0.0.0/0"), rule("tcp", Some((0, 65535)), "::/0")];
        assert_eq!(not_open(&transit).unwrap(), "does not allow all traffic out ::/0");
    }

    #[test]
    fn without_a_forensic_group_nothing_may_come_in() {
        let mut group = group("sg-1");
        group.ingress = vec![rule("tcp", Some((22, 22)), "sg-f")];
        assert_eq!(too_wide(&Observed::default(), &group, &bare()).len(), 1);
    }

    #[test]
    fn the_group_of_a_forensic_hosts_own_stack_may_come_in() {
        let mut isolation = group("sg-1");
        isolation.ingress = vec![rule("tcp", Some((5985, 5985)), "sg-f")];
        let check = |role, stack_id: Option<&str>, wants: &Wants, named: usize| {
            let forensic = Group { role, stack_id: stack_id.map(str::to_owned), ..group("sg-f") };
            let observed = Observed { groups: [(forensic.id.clone(), forensic)].into(), ..Observed::default() };
            assert_eq!(too_wide(&observed, &isolation, wants).len(), named, "{role:?} {stack_id:?}");
        };
        check(Some(Role::Forensic), Some("a stack"), &bare(), 0);
        // The request names another host's group as well: a second one is no harm.
        check(
            Some(Role::Forensic),
            Some("a stack"),
            &Wants { forensic_group: Some("sg-e".parse().unwrap()), ..bare() },
            0,
        );
        // What is named is held to the ports that are named.
        check(
            Some(Role::Forensic),
            Some("a stack"),
            &Wants { forensic_group: Some("sg-f".parse().unwrap()), ..bare() },
            1,
        );
        // Whoever may tag can write our marker.
        check(Some(Role::Forensic), None, &bare(), 1);
        check(Some(Role::Isolation), Some("a stack"), &bare(), 1);
        check(None, Some("a stack"), &bare(), 1);
        // On every port by tcp, since its own rules say on which, and by nothing else.
        let forensic = Group { role: Some(Role::Forensic), stack_id: Some("a stack".into()), ..group("sg-f") };
        let observed = Observed { groups: [(forensic.id.clone(), forensic)].into(), ..Observed::default() };
        isolation.ingress = vec![rule("tcp", Some((0, 65535)), "sg-f")];
        assert_eq!(too_wide(&observed, &isolation, &bare()).len(), 0);
        assert!(is_closed(&observed, &isolation) && !is_closed(&Observed::default(), &isolation));
        isolation.ingress =
            vec![rule("udp", Some((53, 53)), "sg-f"), rule("-1", None, "sg-f"), rule("tcp", Some((0, 65535)), "sg-e")];
        assert_eq!(too_wide(&observed, &isolation, &bare()).len(), 3);
        assert!(!is_closed(&observed, &isolation));
    }
}
