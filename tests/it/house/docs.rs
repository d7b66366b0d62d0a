//! The pages in docs/ against the source: they name every message, and no command that nobody runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What stands in these is no message of its own: names, and what AWS answered, within another message; what names its next
/// step itself; the report; scripts and steps of a capture; questions of the program; what a drill has seen, which docs/drill.md explains; lines of the log; tests.
const NO_SOURCES: [&str; 37] = [
    "aws/autoscaling.rs",
    "aws/ebs.rs",
    "aws/cloudformation.rs",
    "aws/dynamodb",
    "aws/ec2",
    "aws/cloudtrail.rs",
    "aws/error.rs",
    "aws/sts.rs",
    "bin/ec2-isolation/approval.rs",
    "bin/ec2-isolation/commands.rs",
    "bin/ec2-isolation/drill.rs",
    "bin/ec2-isolation/evidence.rs",
    "bin/ec2-isolation/main.rs",
    "bin/ec2-isolation/memory.rs",
    "cloudformation/responder.rs",
    "operator/drill/assumptions.rs",
    "operator/drill/judge.rs",
    "operator/drill/left.rs",
    "operator/drill/notes.rs",
    "operator/drill/probes.rs",
    "operator/drill/shapes.rs",
    "operator/drill/text.rs",
    "operator/memory/run",
    "operator/memory/run.rs",
    "operator/memory/scripts.rs",
    "operator/memory/text.rs",
    "operator/evidence/commands.rs",
    "operator/evidence/text.rs",
    "operator/next.rs",
    "operator/report",
    "operator/seal.rs",
    "operator/shell.rs",
    "operator/text.rs",
    "plan/testing.rs",
    "ports.rs",
    "tests",
    "tests.rs",
];
/// Parts of sentences that stand elsewhere in full, headlines without a problem, lines of the plan in the log, among them its
/// doubts (`? …`), and the value of a tag.
const NO_MESSAGES: [&str; 58] = [
    "on forensic host",
    "&& exec ssh -F",
    "--subnet … --key … --office …",
    "bytes with SHA-256",
    "ec2 modify-instance-attribute --instance-id",
    "ec2 stop-instances --hibernate --instance-ids",
    "ssh -F /dev/null -a -x -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=",
    "--encrypted --kms-key-id <your key> --region",
    "--format powershell | Invoke-Expression",
    "a network interface id",
    "a security group id",
    "a snapshot id",
    "a volume id",
    "a VPC id",
    "an instance id",
    "and OnRollback is KeepIsolated",
    "and take the record out of",
    "by way of",
    "another invocation may still be at work",
    "another stack isolates it, too",
    "back from standby",
    "days after completion",
    "for 1 day after completion",
    "does not allow all traffic",
    "in place of an item that cannot be read",
    "is not in",
    "is not shown",
    "no Auto Scaling group shows the instance",
    "it may have more than is shown",
    "no instance profile is shown",
    "no interface is shown",
    "no record is shown",
    "shows other rules",
    "shows what it should",
    "snapshots of another delivery are not shown yet",
    "the instance is not shown",
    "what was there before",
    "], where it is isolated",
    "To be restored",
    "cloudformation update-termination-protection --no-enable-termination-protection --stack-name",
    "in the new table",
    "to be made",
    "to be updated",
    "take the record out of",
    "record it for",
    "then read back, tag",
    "then read back, take our tags off, and mark the records restored",
    "failed to create",
    "its parent stack",
    "mark snapshots requested",
    "OnRemoval is KeepIsolated",
    "restored that are no longer listed",
    "taken over from",
    "the records table",
    "the stack itself",
    "- deleting the stack restores it too unless that was rolled back",
    "would be restored, unless the stack rolls back: OnRemoval is Restore",
    "would stay isolated though no longer listed: OnRemoval is KeepIsolated",
];

/// The texts of three words and more in a source, as people read them: the longest piece between two values.
fn messages(source: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(source).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut found = BTreeSet::new();
    let mut rest = code.join("\n");
    while let Some(start) = rest.find('"') {
        let is_log = rest[..start].rsplit(';').next().unwrap().contains("tracing::");
        let (literal, after) = literal(&rest[start + 1..]);
        rest = after.to_owned();
        let pieces = literal.split(['{', '}']).step_by(2).map(|piece| piece.trim_matches(|c| " :;,.()|".contains(c)));
        let longest = pieces.max_by_key(|piece| piece.len()).unwrap_or_default();
        let is_command = longest.starts_with("aws ");
        if longest.split_whitespace().count() >= 3 && !is_log && !is_command && !NO_MESSAGES.contains(&longest) {
            found.insert(longest.to_owned());
        }
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = entries.filter(|path| !NO_SOURCES.iter().any(|name| path.ends_with(name)));
    read.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// A string literal without its quotes and line breaks, and what follows it.
fn literal(text: &str) -> (String, &str) {
    let (mut literal, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (literal, &text[at + 1..]),
            '\\' => match characters.next() {
                Some((at, '\n')) => {
                    let indent = text[at + 1..].len() - text[at + 1..].trim_start().len();
                    for _ in 0..indent {
                        characters.next();
                    }
                }
                Some((_, escaped)) => literal.push(escaped),
                None => break,
            },
            other => literal.push(other),
        }
    }
    (literal, "")
}

#[test]
fn every_message_is_in_the_page_of_messages() {
    let page = std::fs::read_to_string("docs/reference/messages.md").unwrap();
    let said: Vec<_> = sources(Path::new("src"))
        .into_iter()
        .flat_map(|source| messages(&source).into_iter().map(move |message| (source.clone(), message)))
        .collect();
    assert!(said.len() > 80, "only {} messages were found: the search is broken", said.len());
    let unknown: Vec<_> = said.iter().filter(|(_, message)| !page.contains(message)).collect();
    assert!(unknown.is_empty(), "docs/reference/messages.md does not have {unknown:#?}");
}

/// What the forensic host says of a failure.
#[test]
fn every_failure_of_the_forensic_host_is_in_the_page_of_messages() {
    let template = std::fs::read_to_string("template.yaml").unwrap();
    let page = std::fs::read_to_string("docs/reference/messages.md").unwrap();
    let steps = template.lines().filter_map(|line| line.trim().strip_prefix("step='")?.strip_suffix('\''));
    let steps: Vec<_> =
        steps.filter(|step| !["begin", "run cast"].contains(step) && !step.starts_with("check ")).collect();
    assert!(steps.len() > 5, "{steps:?}");
    for step in steps {
        assert!(page.contains(&format!("could not {step}")), "could not {step}");
    }
    let failures =
        template.lines().filter_map(|line| line.split_once("failed '").or_else(|| line.split_once("failed \"")));
    for (_, reason) in failures {
        let reason = reason.split(['"', '\'']).next().unwrap().split('$').next().unwrap().trim();
        let is_said = reason.len() < 10 || page.contains(reason.trim_start_matches("SIFT is NOT installed: "));
        assert!(is_said, "{reason}");
    }
}

/// Every page for people.
fn pages() -> Vec<String> {
    let folders = [".", "docs", "docs/reference"];
    let files = folders.into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = files.map(|file| file.unwrap().path().display().to_string().trim_start_matches("./").to_owned());
    let mut pages: Vec<String> = paths.filter(|path| path.ends_with(".md") && path != "CHANGELOG.md").collect();
    pages.sort();
    assert!(pages.len() >= 20, "{pages:?}");
    pages
}

/// At night nobody reads more before the first command.
#[test]
fn the_first_page_is_short_and_its_two_commands_come_first() {
    let text = std::fs::read_to_string("README.md").unwrap();
    assert!(text.split_whitespace().count() <= 1_200, "{} words", text.split_whitespace().count());
    let screen: String = text.lines().take(40).collect::<Vec<_>>().join("\n");
    assert!(screen.contains("\nmake demo ") && screen.contains("\nmake test "), "{screen}");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    for page in &pages() {
        let text = std::fs::read_to_string(page).unwrap();
        let folder = Path::new(page).parent().unwrap();
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if target.starts_with("http") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { page.into() } else { folder.join(path) };
            assert!(file.exists(), "{page}: {target}");
            if !anchor.is_empty() {
                let linked = std::fs::read_to_string(&file).unwrap();
                let anchors = linked.lines().filter_map(|line| line.strip_prefix('#')).map(anchor_of);
                assert!(anchors.into_iter().any(|found| found == anchor), "{page}: {target}");
            }
        }
    }
}

/// Each block of commands says in a comment which file runs it, or tells the reader that it needs a real account.
#[test]
fn every_command_is_run_by_a_test_or_needs_a_real_account() {
    let mut blocks = 0;
    // What developers type is theirs to run.
    for page in pages().iter().filter(|page| *page != "CONTRIBUTING.md") {
        let text = std::fs::read_to_string(page).unwrap();
        for before in text.split("```").step_by(2).take(text.matches("```").count() / 2) {
            let paragraph = before.trim_end().rsplit("\n\n").next().unwrap();
            let runner = paragraph.rsplit_once("<!-- run by ").and_then(|(_, rest)| rest.strip_suffix(" -->"));
            let is_run = runner.is_some_and(|file| Path::new(file).is_file());
            assert!(is_run || paragraph.contains("eeds a real account"), "{page}: who runs what follows?\n{paragraph}");
            blocks += 1;
        }
    }
    assert!(blocks >= 16, "{blocks}");
}

#[test]
fn every_make_target_that_the_pages_name_exists() {
    let makefile = std::fs::read_to_string("Makefile").unwrap();
    for page in &pages() {
        let text = std::fs::read_to_string(page).unwrap();
        for rest in text.split("make ").skip(1) {
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let is_command = text.contains(&format!("`make {target}")) || text.contains(&format!("\nmake {target}"));
            assert!(!is_command || makefile.contains(&format!("\n{target}:")), "{page}: make {target}");
        }
    }
}

/// Before anything is built: at night the wrong word costs seconds, not minutes.
#[test]
fn make_checks_its_arguments_first() {
    let lists = "PARAMETERS=VpcId=vpc-1 CompromisedInstanceList=i-1,i-2 i-3";
    for (arguments, refusal) in [
        (&["deploy"][..], "STACK is missing"),
        (&["deploy", "STACK=incident-42", lists], "i-3 belongs to no parameter"),
        (&["responder", "PARAMETERS=a b"], "a belongs to no parameter"),
        (&["responder", "PARAMETERS=IncidentRole=true b"], "b belongs to no parameter"),
        (&["package"], "BUCKET is missing"),
        (&["package", "BUCKET=b", "PARAMETERS=a b"], "a belongs to no parameter"),
        (&["status"], "STACK is missing"),
        (&["restore"], "STACK is missing"),
    ] {
        let mut make = std::process::Command::new("make");
        // It may be make that runs this.
        let output = make.args(arguments).env_remove("MAKEFLAGS").env_remove("MAKELEVEL").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && text.starts_with(refusal), "{arguments:?}: {text}");
    }
}

fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The page shows the one list of assumptions as it is.
#[test]
fn the_page_of_the_drill_has_every_assumption_word_for_word() {
    let page = std::fs::read_to_string("docs/drill.md").unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| {
            ["ec2", "cfn", "ddb", "own", "asg", "ssm", "evt", "cw", "gd", "sar"]
                .iter()
                .any(|start| line.starts_with(&format!("| `{start}-")))
        })
        .collect();
    let expected = ec2_isolation::operator::ASSUMPTIONS.iter().map(|of| {
        let why = if of.unseen.is_empty() { String::new() } else { format!(" {} |", of.unseen) };
        format!("| `{}` | {} | {} |{why}", of.id, of.text, of.source)
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}
