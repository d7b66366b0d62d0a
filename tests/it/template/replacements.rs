//! Which parameter replaces which resource: CloudFormation replaces nothing while rollback is disabled. `make facts` says it, by
//! the registry schemas of the resource types and by all that a property refers to.

use std::collections::{BTreeMap, BTreeSet};

/// A resource that parameters replace: whether it comes after the isolation, and which parameters.
#[derive(Debug, Default, PartialEq)]
struct Replaced {
    is_after: bool,
    by: BTreeSet<String>,
}

/// What parameters replace in a template, by the resource's name, and how many resources there are.
fn replaced(file: &str) -> (BTreeMap<String, Replaced>, usize) {
    let facts = std::fs::read_to_string("tests/template-facts.txt").unwrap();
    let (_, section) = facts.split_once(&format!("== {file}\n")).unwrap();
    let section = section.split("\n== ").next().unwrap();
    let mut found: BTreeMap<String, Replaced> = BTreeMap::new();
    let (mut name, mut is_after, mut resources) = ("", false, 0);
    for line in section.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with(' ') {
            (name, is_after) = (line.split(' ').next().unwrap(), line.ends_with("DependsOn=Isolation"));
            resources += 1;
        } else if let Some(rest) = line.strip_prefix("  replaced if ") {
            let replaced = found.entry(name.to_owned()).or_default();
            replaced.is_after = is_after;
            replaced.by.insert(rest.split_once(" changes: ").unwrap().0.to_owned());
        }
    }
    (found, resources)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// CloudFormation would refuse the update before it calls the function, and what is newly listed would stay open. Another VPC is
/// another incident.
#[test]
fn no_parameter_but_the_vpc_replaces_what_comes_before_the_isolation() {
    for (file, expected) in [
        ("incident.yaml", &["IsolatedSecurityGroup", "TransitSecurityGroup"][..]),
        ("template.yaml", &["ForensicSecurityGroup", "IsolatedSecurityGroup", "TransitSecurityGroup"]),
    ] {
        let (found, resources) = replaced(file);
        assert!(resources >= 5, "{file}: {resources}");
        let before: BTreeMap<_, _> = found.iter().filter(|(_, replaced)| !replaced.is_after).collect();
        for (name, replaced) in &before {
            assert_eq!(replaced.by, set(&["VpcId"]), "{file}: {name}");
        }
        assert_eq!(before.keys().map(|name| name.as_str()).collect::<Vec<_>>(), expected, "{file}");
    }
}

/// The function of a responder is that of every open incident, and a policy that is replaced is off for a moment.
#[test]
fn no_parameter_replaces_anything_of_a_responder_or_of_a_policy() {
    for (file, at_least) in [("responder.yaml", 30), ("credentials.yaml", 1)] {
        let (found, resources) = replaced(file);
        assert!(resources >= at_least, "{file}: {resources}");
        assert_eq!(found, BTreeMap::new(), "{file}");
    }
}

/// Beside a prepared incident the host is in a stack of its own, which has rollback.
#[test]
fn the_page_names_what_replaces_the_forensic_host() {
    let page = std::fs::read_to_string("docs/reference/behaviour.md").unwrap();
    let (_, line) = page.split_once("**These parameters replace the forensic host** if you change them: ").unwrap();
    let named: BTreeSet<String> =
        line.split('.').next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
    for file in ["template.yaml", "host.yaml"] {
        let (mut found, _) = replaced(file);
        let host = found.remove("ForensicInstance").unwrap();
        assert!(host.by.contains("VpcId"), "{file}: it is in that VPC's group");
        assert_eq!(&host.by - &set(&["VpcId"]), named, "{file}");
        // A rule of its own, which moves with the groups.
        let rule = found.remove("ForensicEgressToIsolated").filter(|rule| rule.is_after);
        assert_eq!(rule.map(|rule| rule.by), (file == "template.yaml").then(|| set(&["VpcId"])), "{file}");
        assert!(found.values().all(|replaced| !replaced.is_after), "{file}: {found:?}");
    }
    // An incident has no host, so nothing of it is replaced after the isolation either.
    let (found, _) = replaced("incident.yaml");
    assert!(found.values().all(|replaced| !replaced.is_after), "{found:?}");
}
