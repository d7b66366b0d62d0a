//! What a release consists of: the workflow, the Makefile and the page agree. Building it takes an hour, so no test does.

use std::collections::BTreeSet;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of a variable of the Makefile.
fn variable(name: &str) -> BTreeSet<String> {
    let makefile = read("Makefile");
    let line = makefile.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap().split_once(":=").unwrap().1.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_workflow_builds_by_the_target_that_builds_anywhere() {
    let workflow = read(".github/workflows/release.yml");
    assert!(workflow.contains("tags: ['v*']") && workflow.contains("- run: make release\n"));
    assert!(workflow.contains("runner: [ubuntu-24.04, macos-15]"), "one for each half of the Makefile's target");
    assert_eq!(read("Makefile").matches("\nrelease: ").count(), 2);
    let uploaded = workflow.matches("target/release-assets").count();
    assert!(uploaded >= 4 && read("scripts/release.py").contains("target/release-assets"));
}

#[test]
fn the_page_names_each_program_of_a_release() {
    let page = read("CONTRIBUTING.md");
    let named: BTreeSet<_> = page
        .split("`ec2-isolation-…-")
        .skip(1)
        .map(|rest| rest.split_once('`').unwrap().0.to_owned())
        .filter(|name| {
            !["templates.zip", "function.zip", "program.cdx.json", "function.cdx.json"].contains(&name.as_str())
        })
        .collect();
    let ending = |target: &String| if target.contains("windows") { ".zip" } else { ".tar.gz" };
    let targets = variable("ON_LINUX").into_iter().chain(variable("ON_MAC"));
    assert_eq!(named, targets.map(|target| format!("{target}{}", ending(&target))).collect());
}

/// A tag of an action can be moved to anything.
#[test]
fn every_action_is_pinned_by_its_commit() {
    for workflow in ["ci", "release"] {
        let text = read(&format!(".github/workflows/{workflow}.yml"));
        for line in text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: ")) {
            let (_, commit) = line.split_once('@').unwrap();
            let (commit, version) = commit.split_once(" # v").unwrap_or_else(|| panic!("{workflow}: {line}"));
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{workflow}: {line}");
            assert_eq!(version.split('.').count(), 3, "{workflow}: {line}");
        }
    }
}

#[test]
fn the_workflows_build_with_the_oldest_rust_that_may_be_used() {
    let manifest = read("Cargo.toml");
    let oldest = manifest.split_once("rust-version = \"").unwrap().1.split('"').next().unwrap();
    for workflow in ["ci", "release"] {
        let text = read(&format!(".github/workflows/{workflow}.yml"));
        let found: BTreeSet<_> =
            text.split("toolchain install ").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
        assert_eq!(found, [oldest].into(), "{workflow}");
    }
}
