//! README and the pages that go on from it, followed by somebody who has never seen the project: its blocks of commands as they stand, in the shell of `make try`.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Interface -> its instance, and the names of its groups.
type Look = BTreeMap<String, (String, String)>;

/// The first block of commands with this in it.
fn block(text: &str) -> String {
    let pages = ["README.md", "docs/isolate.md", "docs/restoring.md", "docs/stuck-stack.md"];
    let text_of = pages.map(|page| std::fs::read_to_string(page).unwrap()).join("\n");
    let found = text_of.split("```\n").skip(1).step_by(2).find(|block| block.contains(text));
    found.unwrap_or_else(|| panic!("no page has a block with {text:?}")).to_owned()
}

/// What docs/isolate.md types into the shell that its first line opens and its last one leaves.
fn walk() -> String {
    let lines = block("groups_of() {");
    let (first, rest) = lines.split_once('\n').unwrap();
    assert!(first.starts_with("make try "), "{first}");
    rest.split("\nexit ").next().unwrap().to_owned()
}

/// Types these lines into the shell of `make try`, which must succeed with each; what they print.
fn follow(lines: &str) -> String {
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_ec2-isolation")).parent().unwrap();
    let output = Command::new("target/venv/cloud/bin/python")
        .args(["scripts/try.py", "sh", "-e", "-c", lines])
        .env("PATH", format!("{}:{}", own.display(), std::env::var("PATH").unwrap()))
        .stdin(Stdio::null())
        .output()
        .expect("`make tools` installs it");
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// What each `groups_of` printed, for the three interfaces that there are.
fn looks(out: &str) -> Vec<Look> {
    let rows: Vec<_> = out.lines().filter_map(|line| row(line, "i-", "eni-")).collect();
    let of_one = |rows: &[[String; 3]]| -> Look {
        rows.iter()
            .map(|[instance, interface, groups]| (interface.clone(), (instance.clone(), groups.clone())))
            .collect()
    };
    rows.chunks(3).map(of_one).collect()
}

/// A line of three columns, the first two of which begin so.
fn row(line: &str, first: &str, second: &str) -> Option<[String; 3]> {
    let columns: Vec<String> = line.split('\t').map(ToOwned::to_owned).collect();
    let columns: [String; 3] = columns.try_into().ok()?;
    (columns[0].starts_with(first) && columns[1].starts_with(second)).then_some(columns)
}

#[track_caller]
fn assert_isolated(look: &Look, before: &Look) {
    assert_eq!(look.len(), 3);
    for (interface, (instance, groups)) in look {
        assert_eq!(&before[interface].0, instance);
        let is_alone = groups.starts_with("incident-42-IsolatedSecurityGroup-") && !groups.contains(',');
        assert!(is_alone, "{interface}: {groups}");
    }
}

/// The first look of all: no two interfaces have the same groups.
#[track_caller]
fn assert_as_launched(look: &Look) {
    let groups: Vec<&str> = look.values().map(|(_, groups)| groups.as_str()).collect();
    for expected in ["admin,web", "app,web", "admin,app"] {
        assert!(groups.contains(&expected), "{groups:?}");
    }
}

/// Where the program asks, the test says yes.
fn agreeing(lines: &str) -> String {
    let asks =
        |line: &str| ["ec2-isolation isolate ", "ec2-isolation restore "].iter().any(|asks| line.starts_with(asks));
    let agree = |line: &str| match line.split_once(" #").filter(|_| asks(line)) {
        Some((command, _)) => format!("{command} --yes\n"),
        None => format!("{line}\n"),
    };
    lines.lines().map(agree).collect()
}

#[test]
fn who_follows_readme_with_the_program_isolates_sees_what_slipped_and_restores() {
    let lines = block("ec2-isolation isolate $INSTANCES");
    let (first, rest) = lines.split_once('\n').unwrap();
    assert!(first.starts_with("make try "), "{first}");
    let out = follow(&agreeing(rest.split("\nexit ").next().unwrap()));
    let (isolated, later) =
        out.split_once("NOT ISOLATED: 1 of 2 instances. Isolated: 1 (2 interfaces).").expect("it slipped");
    assert_eq!(isolated.matches("ISOLATED, as EC2 shows it: 2 of 2 instances (3 interfaces).").count(), 2, "{out}");
    let (slipped, later) = later.split_once("exit code 4").expect("its exit code");
    let words = slipped.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("moved out of the isolation, to [sg-"), "{slipped}");
    let (again, restored) = later.split_once("2 instances restored").expect("it is restored");
    assert_eq!(again.matches("ISOLATED, as EC2 shows it: 2 of 2 instances (3 interfaces).").count(), 1, "{out}");
    assert!(restored.contains(" is deleted"), "{restored}");
    let report = std::fs::read_to_string("target/try/report.md").unwrap();
    assert!(report.contains("ISOLATED, as EC2 shows it: 2 of 2 instances (3 interfaces)."), "{report}");
}

#[test]
fn who_follows_readme_isolates_and_restores() {
    let walk = walk();
    let stuck = block("StackEvents[?contains(ResourceStatus,'FAILED')]");
    // Deleted as the page about restoring says it.
    let (first, rest) = walk.split_once("aws cloudformation delete-stack").unwrap();
    let rest = rest.split_once("stack-delete-complete --stack-name incident-42\n").unwrap().1;
    let out = follow(&format!("{first}{stuck}{}\n{rest}", block("max_by(logGroups")));
    let looks = looks(&out);
    let [before, isolated, restored] = looks.as_slice() else { panic!("{out}") };
    assert_as_launched(before);
    assert_isolated(isolated, before);
    assert_eq!(restored, before);
    for text in [
        "2 instances isolated (3 interfaces), 2 snapshots",
        "CREATE_COMPLETE\tIsolation",
        "stack    incident-42: gone",
        "headline=2 instances restored",
    ] {
        assert!(out.contains(text), "{text:?} in\n{out}");
    }
}

#[test]
fn who_follows_readme_restores_by_hand_and_ends_the_stack_without_its_function() {
    let walk = walk();
    let deploy = walk.split("aws cloudformation describe-stack-events").next().unwrap();
    let records = block("RestoreCommands.M.*").replace("<RecordsTable>", "$(output RecordsTable)");
    let left = block("TagSet[?starts_with").replace("<IsolatedSecurityGroupId>", "$(output IsolatedSecurityGroupId)");
    let commands = "target/try/commands";
    let out = follow(&format!(
        "{deploy}
        output() {{ aws cloudformation describe-stacks --stack-name incident-42 --output text \
          --query \"Stacks[0].Outputs[?OutputKey=='$1'].OutputValue\"; }}
        sh -c \"$(output HowToReadTheLog)\"
        {left}
        recorded() {{
        {records}
        }}
        recorded > {commands}
        sh -e {commands}
        # EC2's reads trail its writes.
        groups_of > /dev/null
        groups_of
        echo LEFT
        {left}
        function=$(aws cloudformation describe-stack-resource --stack-name incident-42 --logical-resource-id IsolationFunction \
          --query StackResourceDetail.PhysicalResourceId --output text)
        aws lambda delete-function --function-name $function
        ec2-isolation restore --stack incident-42 --finish --yes
        aws ec2 describe-tags --filters Name=resource-id,Values=$INSTANCES --output text --query 'Tags[].Key'
        groups_of"
    ));
    let looks = looks(&out);
    let [before, isolated, by_hand, after] = looks.as_slice() else { panic!("{out}") };
    assert_as_launched(before);
    assert_isolated(isolated, before);
    assert_eq!((by_hand, after), (before, before));
    assert!(
        out.contains("headline=2 instances isolated"),
        "the log is shown by the command that the outputs name: {out}"
    );
    let in_the_group = |out: &str| out.lines().filter(|line| row(line, "eni-", "i-").is_some()).count();
    let (first, later) = out.split_once("LEFT").unwrap();
    assert_eq!((in_the_group(first), in_the_group(later)), (3, 0), "{out}");
    assert!(later.contains("2 instances restored") && later.contains("stack incident-42 is deleted"), "{later}");
    assert!(!later.contains("ec2-isolation:"), "no tag of ours is left: {later}");
}
