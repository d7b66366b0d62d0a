//! The case file: what it says of an incident, in three formats, and that nothing in it is the attacker's markup.

use std::collections::BTreeSet;

use ec2_isolation::model::{Fault, Lock, Time};
use ec2_isolation::operator::ports::TrailEvent;
use ec2_isolation::operator::ports::approval::Question;
use ec2_isolation::operator::stack::StackTimes;
use ec2_isolation::operator::{Address, Format, Report};
use ec2_isolation::timing::clock::Clock;
use serde_json::json;

use super::{Program, by_table, operator};
use crate::world::operator::view;
use crate::world::{ISOLATION, STACK, TABLE, VPC, World, groups};
use crate::{A, B, cutting, event, fleet, listing, succeeds};

const PERSON: &str = "arn:aws:sts::123456789012:assumed-role/ir/jane";

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

/// A and B, isolated and cut at a known time by a stack that works; jane has moved B's interface back since.
pub(super) async fn incident() -> World {
    let world = fleet();
    succeeds(&world, cutting(event("create"))).await;
    let mut data = world.data();
    let mut stack = view(STACK, "CREATE_COMPLETE", &[("SecurityGroupTable", TABLE)]);
    stack.parameters.insert("CompromisedInstanceList".to_owned(), format!("{A},{B}"));
    data.views.push(stack);
    let created = Some(time("2026-11-25T02:59:50Z"));
    data.times.insert(STACK.to_owned(), StackTimes { created, ..StackTimes::default() });
    let mut episodes = vec![];
    for record in data.records.values_mut() {
        record.recorded_at = time("2026-11-25T03:00:00Z");
        episodes.push(record.episode());
        for (n, line) in record.history.iter_mut().enumerate() {
            *line = format!("2026-11-25T03:00:{:02}Z{}", 12 * n, &line[20..]);
        }
    }
    for (snapshot, episode) in data.snapshots.iter_mut().zip(episodes) {
        snapshot.episode = episode;
    }
    data.latency = std::time::Duration::from_millis(20);
    data.put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    data.trail.push(([STACK.to_owned()].into(), call("2026-11-25T02:59:49Z", "CreateStack", Some(STACK), None)));
    let moved = call("2026-11-25T04:00:00Z", "ModifyNetworkInterfaceAttribute", None, Some("eni-0b"));
    data.trail.push((["eni-0b".to_owned()].into(), moved));
    let mut opened = call("2026-11-25T04:30:00Z", "AuthorizeSecurityGroupIngress", None, None);
    opened.group = Some(ISOLATION.parse().unwrap());
    data.trail.push(([ISOLATION.to_owned()].into(), opened));
    let lock = data.snapshots[0].id.clone();
    let until = Some("2026-12-25T03:01:00Z".parse().unwrap());
    data.locks.insert(lock, Lock { mode: "governance".to_owned(), days: Some(30), until });
    drop(data);
    world
}

fn call(at: &str, name: &str, stack: Option<&str>, interface: Option<&str>) -> TrailEvent {
    TrailEvent {
        at: time(at),
        id: format!("{name} {at}"),
        name: name.to_owned(),
        caller: PERSON.to_owned(),
        address: Some("203.0.113.7".to_owned()),
        error: None,
        stack: stack.map(str::to_owned),
        interface: interface.map(|id| id.parse().unwrap()),
        group: None,
        groups: interface.map(|_| vec!["sg-0d".to_owned()]).unwrap_or_default(),
    }
}

fn at_six(world: &World) -> Program {
    let mut program = operator(world);
    program.clock = Clock::new(humantime::parse_rfc3339("2026-11-25T06:00:00Z").unwrap());
    program
}

async fn report_of(world: &World, address: &Address) -> Report {
    let program = at_six(world);
    program.report(&program.incident(address).await.unwrap(), world, None).await.unwrap()
}

pub(super) async fn report(world: &World) -> Report {
    report_of(world, &Address::Stack(STACK.to_owned())).await
}

/// The texts that a page shows, tag by tag, if it is well-formed and holds nothing but its own tags.
#[track_caller]
fn texts(html: &str) -> Vec<String> {
    let (mut open, mut texts) = (Vec::new(), Vec::new());
    let (_, page) = html.split_once("<html").expect("a page");
    for piece in format!("<html{page}").split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "{piece}"),
            None if name == "meta" => {}
            None => open.push(name.to_owned()),
        }
        let own = "html head meta title style body h1 h2 p ul li table thead tbody tr th td pre";
        assert!(own.split(' ').any(|own| own == name.trim_start_matches('/')), "{piece}");
        assert!(name == "meta" || !tag.contains(" on") && !tag.contains("src") && !tag.contains("href"), "{piece}");
        if name != "style" {
            texts.push(text.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    texts
}

#[tokio::test(start_paused = true)]
async fn a_case_file_says_how_it_stands_who_did_what_and_what_was_not_cut() {
    let world = incident().await;
    let text = report(&world).await.render(Format::Markdown, "case 42.md");
    let expected = include_str!("report.md");
    if text != expected {
        std::fs::create_dir_all("target/tmp").unwrap();
        std::fs::write("target/tmp/report.md", &text).unwrap();
    }
    assert_eq!(text, expected, "the new text is in target/tmp/report.md");
}

#[tokio::test(start_paused = true)]
async fn a_page_says_the_same_without_a_script_and_is_well_formed() {
    let world = incident().await;
    let report = report(&world).await;
    let html = report.render(Format::Html, "report.html");
    std::fs::create_dir_all("target/tmp").unwrap();
    std::fs::write("target/tmp/report.html", &html).unwrap();
    let texts = texts(&html).join("\n");
    for said in ["NOT ISOLATED: 1 of 2 instances", PERSON, "governance", "moved out of the isolation, to [sg-0d]"] {
        assert!(texts.contains(said), "{said} in {texts}");
    }
    assert!(html.contains("default-src 'none'") && !html.contains("http://") && !html.contains("https://"), "{html}");
}

/// The command in the file says so, too.
#[tokio::test(start_paused = true)]
async fn each_format_carries_the_digest_of_its_other_lines() {
    let world = incident().await;
    let report = report(&world).await;
    std::fs::create_dir_all("target/tmp").unwrap();
    for (format, name, begins) in [
        (Format::Markdown, "digest it's.md", "SHA-256 of all other lines: "),
        (Format::Html, "digest.html", "<p class=\"digest\">"),
        (Format::Json, "digest.json", "  \"sha256\": "),
    ] {
        let text = report.render(format, name);
        std::fs::write(format!("target/tmp/{name}"), &text).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(begins)).collect();
        let digest: String = lines[0][begins.len()..].chars().filter(char::is_ascii_hexdigit).collect();
        let command = text.lines().find(|line| line.contains("sha256sum"));
        let command = command.map_or("grep -v '^  \"sha256\": ' digest.json | sha256sum".to_owned(), |command| {
            let command = command.trim().trim_start_matches("<pre>").trim_end_matches("</pre>");
            command
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&")
        });
        let run = std::process::Command::new("sh").args(["-c", &command]).current_dir("target/tmp").output().unwrap();
        let found = String::from_utf8(run.stdout).unwrap();
        assert_eq!(lines.len(), 1);
        assert!(digest.ends_with(found.split(' ').next().unwrap()) && found.len() > 64, "{command}: {found} {digest}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_attacker_wrote_is_text() {
    let world = incident().await;
    let name = "<script>alert(1)</script>|\n| x | <img src=//evil onerror=x> [a](http://evil) `b` \u{202e}";
    world.data().tags.entry(A.to_owned()).or_default().insert("Name".to_owned(), name.to_owned());
    world.data().tags.entry(B.to_owned()).or_default().insert("Name".to_owned(), name.to_owned());
    let line = format!("2026-11-25T03:01:00Z isolated (asked by CloudFormation Update 7, with Rerun {name:?})");
    world.data().records.get_mut(&A.parse().unwrap()).unwrap().history.push(line);
    let report = report(&world).await;
    assert_eq!(report.status.not_isolated[0].name.as_deref(), Some(name));
    let html = report.render(Format::Html, "report.html");
    texts(&html);
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;| | x |"), "{html}");
    let markdown = report.render(Format::Markdown, "report.md");
    for line in markdown.lines() {
        assert!(!line.contains("<script") && !line.contains("<img"), "{line}");
        assert!(!line.contains("http://") && !line.contains('\u{202e}'), "{line}");
        let cells = line.replace("\\|", "").matches('|').count();
        assert!(!line.starts_with("| i-") || [3, 4, 5, 6, 7, 9].contains(&cells), "{cells} in {line}");
    }
    let json: serde_json::Value = serde_json::from_str(&report.render(Format::Json, "")).unwrap();
    assert_eq!((&json["schema_version"], &json["status"]["not_isolated"][0]["name"]), (&1.into(), &name.into()));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_said_and_fails_nothing() {
    for (action, source, said) in [
        ("cloudtrail:LookupEvents", "cloudtrail", "CloudTrail could not be read: cloudtrail:LookupEvents failed"),
        ("ec2:DescribeLockedSnapshots", "snapshots", "Whether snapshots are locked is not known"),
        ("ec2:DescribeSnapshots", "snapshots", "Size, key and state of snapshots are not known"),
    ] {
        let world = incident().await;
        world.data().always = Some((action, Fault::Denied));
        let report = report(&world).await;
        let found: Vec<&str> =
            report.sources.iter().filter(|found| found.source == source).map(|found| found.said.as_str()).collect();
        assert!(found.iter().any(|text| text.starts_with(said)), "{found:?}");
        assert_eq!(report.snapshots.len(), 2, "the records name them");
        assert!(report.timeline.iter().any(|event| event.what.starts_with("isolated")), "{:?}", report.timeline);
    }
    // When the stack was made, too; its status cannot be read without that either, so only the second call fails.
    let world = incident().await;
    world.data().trail.clear();
    let report = report(&world).await;
    let said = &report.sources.last().unwrap().said;
    assert!(said.starts_with("CloudTrail's event history has nothing of this incident. It keeps 90 days"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn what_the_trigger_isolated_for_is_named_with_who_approved_it() {
    let world = fleet();
    let arn = "arn:aws:iam::123456789012:user/soc";
    let note = |id: &str, by: &str| format!("finding {id} {by} at 2026-11-25T03:00:00Z");
    let mut create = listing(&[A], event("create"));
    create["ResourceProperties"]["Rerun"] = json!(note("0123456789ab", &format!("approved by {arn}")));
    succeeds(&world, create.clone()).await;
    let mut update = listing(&[A, B], event("update"));
    update["OldResourceProperties"] = create["ResourceProperties"].take();
    update["ResourceProperties"]["Rerun"] = json!(note("ba9876543210", "by the trigger"));
    succeeds(&world, update).await;
    world.data().views.push(view(STACK, "UPDATE_COMPLETE", &[("SecurityGroupTable", TABLE)]));
    let asked = Question {
        state: "approve".to_owned(),
        about: "Finding f1, severity 8, Backdoor:EC2/C&CActivity.B: <b>it</b> | calls home".to_owned(),
        list: String::new(),
        answered_by: Some(arn.to_owned()),
        token: None,
    };
    world.data().questions.insert("0123456789ab".to_owned(), asked);
    let found = report(&world).await;
    let known: Vec<_> = found.findings.iter().map(|found| (found.id.as_str(), found.about.is_some())).collect();
    assert_eq!(known, [("0123456789ab", true), ("ba9876543210", false)]);
    assert_eq!(found.findings[1].instances, [B.to_owned()].into());
    let text = found.render(Format::Markdown, "report.md");
    let row = format!(
        "| 0123456789ab | Finding f1, severity 8, Backdoor:EC2/C&amp;CActivity.B: &lt;b\\>it&lt;/b\\> \\| calls home | {arn} | {A} |"
    );
    assert!(text.contains(&row), "{text}");
    let who = format!(", with Rerun finding 0123456789ab approved by {arn} at 2026-11-25T03:00:00Z |");
    assert!(text.contains(&who), "{text}");
    texts(&found.render(Format::Html, "report.html"));
}

#[tokio::test(start_paused = true)]
async fn an_incident_without_a_record_has_a_case_file() {
    let world = fleet();
    world.data().views.push(view(STACK, "CREATE_FAILED", &[("SecurityGroupTable", TABLE)]));
    let report = report(&world).await;
    assert_eq!((report.containments.len(), report.snapshots.len(), report.records.len()), (0, 0, 0));
    let text = report.render(Format::Markdown, "report.md");
    assert!(text.contains("The table holds no record of an instance.\n"), "{text}");
    assert!(text.contains("No snapshot of this incident is known.\n"), "{text}");
    texts(&report.render(Format::Html, "report.html"));
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_gone_is_known_by_its_records() {
    let world = incident().await;
    super::restore(&world).await;
    world.data().views.clear();
    let deleted = Some(time("2026-11-25T05:00:00Z"));
    world.data().times.get_mut(STACK).unwrap().deleted = deleted;
    // Of another stack of that name, later.
    let name = "incident-2026-11-25".to_owned();
    for at in ["2026-11-25T04:59:59Z", "2026-12-25T00:00:00Z"] {
        world.data().trail.push(([name.clone()].into(), call(at, "DeleteStack", Some(&name), None)));
    }
    let report = report_of(&world, &by_table()).await;
    assert_eq!(report.incident, "incident-2026-11-25");
    assert_eq!(report.stacks[STACK].deleted_at.as_deref(), Some("2026-11-25T05:00:00Z"));
    let of_stack: Vec<String> = report
        .timeline
        .iter()
        .filter(|event| event.about == name)
        .map(|event| format!("{} {}", event.at, event.what))
        .collect();
    assert_eq!(
        of_stack,
        [
            "2026-11-25T02:59:49Z CreateStack",
            "2026-11-25T02:59:50Z stack created",
            "2026-11-25T04:59:59Z DeleteStack",
            "2026-11-25T05:00:00Z stack deleted"
        ]
    );
    assert!(report.containments.iter().all(|found| found.restored_at.is_some()), "{:?}", report.containments);
    assert_eq!((report.snapshots.len(), report.not_cut.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_costs_cloudtrail_twenty_seconds_and_what_is_open_is_asked_about_first() {
    let world = World::new();
    let ids: Vec<String> = (0..204).map(|n| format!("i-{n:017x}")).collect();
    for (n, id) in ids.iter().enumerate() {
        world.add(id, VPC, &[(&format!("eni-{n:017x}"), &["sg-0a"])]);
    }
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    succeeds(&world, listing(&all, event("create"))).await;
    let mut stack = view(STACK, "CREATE_COMPLETE", &[("SecurityGroupTable", TABLE)]);
    stack.parameters.insert("CompromisedInstanceList".to_owned(), all.join(","));
    world.data().views.push(stack);
    let last = format!("eni-{:017x}", 203);
    world.data().put_back(&last.parse().unwrap(), groups(&["sg-0d"]));
    let before = world.data().calls.len();
    let report = report(&world).await;
    let calls: Vec<String> = world.data().calls[before..]
        .iter()
        .filter(|(action, _)| *action == "cloudtrail:LookupEvents")
        .map(|(_, what)| what.clone())
        .collect();
    assert_eq!((calls.len(), &calls[2]), (40, &last), "{calls:?}");
    let said = &report.sources.last().unwrap().said;
    assert!(
        said.ends_with("It was not asked about 168 of 206 groups and interfaces, since it allows two calls a second."),
        "{said}"
    );
    // What was done to all of them at one moment is a line, not 204 of them.
    let text = report.render(Format::Markdown, "report.md");
    let (_, timeline) = text.split_once("## Timeline").unwrap();
    let (timeline, _) = timeline.split_once("## Interfaces").unwrap();
    assert!(timeline.lines().count() < 204, "{} lines", timeline.lines().count());
    let named: BTreeSet<&String> = ids.iter().filter(|id| text.contains(*id)).collect();
    assert_eq!((named.len(), report.containments.len()), (204, 204));
    assert_eq!(report.not_cut.len(), 204, "nothing passed the transit group");
    assert!(text.contains(ISOLATION));
}
