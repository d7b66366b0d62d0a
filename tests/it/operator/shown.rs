//! What each command prints, as a person sees it on a terminal of 80 columns: each text is a file in `shown/`.
//!
//! `SHOWN=1 cargo test --features operator --test it shown` writes them anew. Read the difference before you commit it.

use std::time::{Duration, UNIX_EPOCH};

use ec2_isolation::operator::ports::approval::{Answers, Question, Token};
use ec2_isolation::operator::{Address, Decision, Host, Image, Options, Wish};
use ec2_isolation::ports::Call;
use ec2_isolation::timing::clock::Clock;

use super::evidence::{self, order, removal, share_order};
use super::isolate::{incident, prepared, targets};
use super::status::{isolated, status};
use super::{ALL, by_table, kept, operator};
use crate::world::{ISOLATION, VPC, World, groups};
use crate::{A, B, fleet};

const WIDTH: usize = 80;

/// One moment for every time in it, and one name for every run of the program.
fn at_one_moment(text: &str) -> String {
    let is_run = |word: &str| word.strip_prefix("operator-").is_some_and(|run| run.parse::<u32>().is_ok());
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.as_bytes().get(10) == Some(&b'T');
    let pieces = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !"-:".contains(c));
    let mut shown = String::new();
    for piece in pieces {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let rest = &piece[word.len()..];
        shown.push_str(match word {
            word if is_time(word) => "2026-11-25T03:00:00Z",
            word if is_run(word) => "operator-1",
            word => word,
        });
        shown.push_str(rest);
    }
    shown
}

/// Lines that are commands stay whole; every other one fits.
#[track_caller]
pub fn fits(name: &str, text: &str) {
    for line in text.lines().filter(|line| line.chars().count() > WIDTH) {
        let commands = ["aws ", "ec2-isolation ", "  echo ", "  printf ", "  ssh ", "  ssh-agent "];
        let is_whole = commands.iter().any(|command| line.contains(command));
        assert!(is_whole || !line.trim().contains(' '), "{name}: {line:?} is wider than {WIDTH} columns");
    }
}

/// Compares with the file of this name.
#[track_caller]
pub fn check(name: &str, text: &str) {
    let shown = at_one_moment(text);
    fits(name, &shown);
    let path = format!("tests/it/operator/shown/{name}.txt");
    if std::env::var_os("SHOWN").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (shown, expected) in shown.lines().zip(expected.lines()) {
        assert_eq!(shown, expected, "{path}");
    }
    assert_eq!(shown.lines().count(), expected.lines().count(), "{path}");
}

#[tokio::test(start_paused = true)]
async fn the_status_of_an_isolated_incident() {
    let world = isolated().await;
    let status = status(&world).await;
    check("status", &status.to_string());
    check("status-short", &status.short());
}

#[tokio::test(start_paused = true)]
async fn the_status_of_one_that_slipped_back() {
    let world = isolated().await;
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    world.attach(A, "eni-0f", &["sg-0c"]);
    world.data().tags.insert(B.to_owned(), [("Name".to_owned(), "web-1".to_owned())].into());
    check("status-open", &status(&world).await.to_string());
}

#[tokio::test(start_paused = true)]
async fn the_status_of_204_instances_is_one_screen() {
    let world = isolated().await;
    let list: Vec<String> = (0..204).map(|n| format!("i-{n:017x}")).collect();
    for (n, id) in list.iter().enumerate() {
        world.add(id, VPC, &[(&format!("eni-{n:017x}"), &["sg-0a"])]);
    }
    world.data().views[0].parameters.insert("CompromisedInstanceList".to_owned(), list.join(","));
    let shown = status(&world).await;
    assert_eq!((shown.summary.listed, shown.summary.not_isolated), (206, 204));
    let short = shown.short();
    assert!(rows(&short) <= 24, "{short}");
    // The command names one: an update looks at all of them.
    assert_eq!(
        shown.next[0].commands,
        [format!("ec2-isolation isolate --stack incident-2026-11-25 {} --region us-east-1", list[0])]
    );
    assert!(shown.next[0].what.ends_with("One is named, and the update looks at everything that the stack lists:"));
    // Whatever else there is to say.
    let mut worse = shown.clone();
    worse.stack.failed = [("Isolation".to_owned(), "i-0123456789abcdef0 is open. ".repeat(140))].into();
    for (n, open) in worse.not_isolated.iter_mut().enumerate() {
        open.reason = format!("moved out of the isolation, to [sg-0{:x}]", n % 12);
    }
    let short = worse.short();
    assert!(rows(&short) <= 30, "{} rows: {short}", rows(&short));
    assert!(
        short.contains("(whole: status without --short)") && short.contains(" more reasons; the whole list:"),
        "{short}"
    );
    assert_eq!(worse.to_string().matches("is open.").count(), 140, "the whole Reason is in the whole status");
}

/// As a terminal of this width shows it.
fn rows(text: &str) -> usize {
    text.lines().map(|line| line.chars().count().div_ceil(WIDTH).max(1)).sum()
}

#[tokio::test(start_paused = true)]
async fn the_list_of_incidents() {
    let world = isolated().await;
    let mut second = incident("second", "UPDATE_FAILED", "i-0c");
    second.parameters.insert("VpcId".to_owned(), "vpc-2".to_owned());
    let mut group = world.data().groups[&ISOLATION.parse().unwrap()].clone();
    (group.id, group.stack_id) = ("sg-0e".parse().unwrap(), Some(second.id.clone()));
    world.data().groups.insert(group.id.clone(), group);
    world.add("i-0c", VPC, &[("eni-0e", &["sg-0b"])]);
    second.resources.push(ec2_isolation::operator::stack::StackResource {
        logical_id: "SecurityGroupTable".to_owned(),
        physical_id: "second-SecurityGroupTable-2".to_owned(),
        kind: "AWS::DynamoDB::Table".to_owned(),
        status: "CREATE_COMPLETE".to_owned(),
        reason: String::new(),
    });
    world.data().tables.entry("second-SecurityGroupTable-2".to_owned()).or_default();
    world.data().views.push(second);
    let list = operator(&world).list().await.unwrap();
    assert!(list.is_anything_open());
    check("list", &list.to_string());
    let several = operator(&world).only_incident().await.unwrap_err().to_string();
    assert!(
        several.contains("there are 2 incidents in account 123456789012, region us-east-1. Say which:"),
        "{several}"
    );
}

/// Its stack is gone, and what it holds is not.
#[tokio::test(start_paused = true)]
async fn an_incident_whose_stack_is_gone_is_listed() {
    let world = kept().await;
    world.data().groups.retain(|_, group| group.stack_id.is_none());
    let list = operator(&world).list().await.unwrap();
    assert_eq!(list.incidents.len(), 1, "{list:?}");
    assert_eq!(list.incidents[0].summary.listed, 2);
    assert_eq!(operator(&world).only_incident().await.unwrap(), by_table());
    let empty = World::new();
    empty.data().groups.clear();
    let list = operator(&empty).list().await.unwrap();
    assert_eq!(list.to_string(), "There is no incident in account 123456789012, region us-east-1.\n");
    assert!(operator(&empty).only_incident().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_isolate_shows_before_it_asks() {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", B));
    let program = operator(&world);
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    check("isolate", &orders[0].to_string());
}

#[tokio::test(start_paused = true)]
async fn what_a_dry_run_of_isolate_shows_and_what_isolate_ends_with() {
    let world = fleet();
    world.with_responder();
    let program = operator(&world);
    let orders = program.orders(&targets(&[A, B]), &Options::default()).await.unwrap();
    let report = program.rehearse(&orders[0]).await.unwrap();
    check("isolate-dry-run", &orders[0].rehearsed(&report));
    let isolated = program.isolate(&orders[0], &|_| ()).await.unwrap();
    check("isolate-done", &isolated.to_string());
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&["sg-0d"]));
    let again = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    world.data().drill.has_function = false;
    check("isolate-open", &program.isolate(&again[0], &|_| ()).await.unwrap().to_string());
}

#[test]
fn what_host_ends_with() {
    let made = |status: &str, reasons: &[(&str, &str)], outputs: &[(&str, &str)]| Host {
        stack: "incident-42-host".to_owned(),
        status: Some(status.to_owned()),
        failed: !reasons.is_empty(),
        reasons: reasons.iter().map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned())).collect(),
        outputs: outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let state = "aws ec2 get-console-output --region us-east-1 --instance-id i-0f0e --latest --output text | grep forensic-host:";
    let outputs = [("ForensicHostSsh", "ssh -i \"my-key.pem\" ubuntu@203.0.113.9"), ("ForensicHostState", state)];
    check("host", &made("CREATE_COMPLETE", &[], &outputs).to_string());
    let reason = "You have requested more vCPU capacity than your current vCPU limit of 1 allows for the instance bucket that the specified \
        instance type belongs to";
    check("host-failed", &made("ROLLBACK_COMPLETE", &[("ForensicInstance", reason)], &[]).to_string());
    let deleted = Host { status: None, ..made("", &[], &[]) };
    check("host-deleted", &deleted.to_string());
}

#[tokio::test(start_paused = true)]
async fn what_adopt_shows_before_it_asks_and_afterwards() {
    let world = kept().await;
    super::adopt::deploy_heir(&world);
    let program = operator(&world);
    let handover = program.handover(&by_table(), "incident-2", &ALL).await.unwrap();
    check("adopt-plan", &handover.to_string());
    check("adopt", &program.adopt(&handover).await.unwrap().to_string());
}

/// What it finds is to be pasted into an issue, a line for each assumption.
#[tokio::test(start_paused = true)]
async fn what_a_drill_shows_before_it_asks() {
    let world = fleet();
    world.with_responder();
    let mut order = operator(&world).drill_order(crate::world::drill::SUBNET, None).await.unwrap();
    order.id = "0123abcd".to_owned();
    check("drill-plan", &order.to_string());
}

#[tokio::test(start_paused = true)]
async fn what_revoke_shows_before_it_asks_and_afterwards() {
    let world = super::revoke::two_roles();
    let revocation = super::revoke::found(&world, &[]).await;
    check("revoke-plan", &revocation.to_string());
    check("revoke", &operator(&world).revoke(&revocation, &|_| ()).await.unwrap().to_string());
}

#[tokio::test(start_paused = true)]
async fn what_restore_shows_before_it_asks_and_afterwards() {
    let world = kept().await;
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    check("restore-plan", &program.preview(&incident, &ALL).await.unwrap().to_string());
    let report = program.restore(&incident, &ALL, &|_| ()).await.unwrap();
    check("restore", &report.to_string());
    check("status-restored", &report.status.to_string());
}

#[tokio::test(start_paused = true)]
async fn the_commands_that_capture_memory() {
    let world = isolated().await;
    for (name, to) in [("memory-host", "host"), ("memory-desk", "web-1.lime")] {
        let wish = Wish {
            user: "ec2-user".parse().unwrap(),
            key: None,
            address: None,
            host: Some("203.0.113.9".parse().unwrap()),
            host_user: "ubuntu".parse().unwrap(),
            host_key: None,
            avml: "avml".into(),
            avml_sha256: Some("0123456789abcdef".repeat(4)),
            to: to.parse().unwrap(),
            scratch: "/dev/shm".parse().unwrap(),
        };
        let mut program = operator(&world);
        (program.request_id, program.clock) =
            ("operator-1".to_owned(), Clock::new(UNIX_EPOCH + Duration::from_secs(1_764_039_600)));
        let incident = program.incident(&program.only_incident().await.unwrap()).await.unwrap();
        let capture = program.memory(&incident, &A.parse().unwrap(), wish).await.unwrap();
        check(name, &capture.to_string());
    }
}

#[test]
fn an_image_that_was_captured() {
    let image = Image {
        instance: A.to_owned(),
        incident: "incident-2026-11-25".to_owned(),
        captured_at: "2026-11-25T03:00:00Z".to_owned(),
        place: "host",
        forensic_host: "203.0.113.9".to_owned(),
        file: format!("memory/{A}-20261125T030000Z.lime"),
        bytes: 16_540_238_624,
        sha256: "fedcba9876543210".repeat(4),
        memory_total: 16_374_562_816,
        system_ram: 16_978_739_200,
        left_out: 438_532_608,
        records: 988,
        kernel: "6.1.150-174.273.amzn2023.x86_64".to_owned(),
        avml: "avml 0.21.0".to_owned(),
        avml_sha256: "0123456789abcdef".repeat(4),
        seconds: 131,
        left: vec![],
    };
    check("memory-captured", &image.to_string());
}

#[tokio::test(start_paused = true)]
async fn what_evidence_shows_before_it_asks_and_afterwards() {
    let world = evidence::isolated().await;
    let order = order(&world, &ALL).await.unwrap();
    check("evidence-plan", &order.to_string());
    check("evidence", &operator(&world).make_volumes(&order, &|_| ()).await.unwrap().to_string());
    let removal = removal(&world).await;
    check("evidence-remove-plan", &removal.to_string());
    check("evidence-remove", &operator(&world).take_away(&removal, &|_| ()).await.unwrap().to_string());
    let share = share_order(&world).await;
    check("evidence-share-plan", &share.to_string());
    check("evidence-share", &operator(&world).share(&share, &|_| ()).await.unwrap().to_string());
}

/// The worst comes first.
#[tokio::test(start_paused = true)]
async fn what_evidence_shows_of_what_failed() {
    let world = evidence::isolated().await;
    let failed = world.data().snapshots[0].id.clone();
    let why = Some("Given key ID is not accessible".to_owned());
    world.data().disks.pending.insert(failed, crate::world::disks::Pending { looks: Some(0), fails: why });
    let order = order(&world, &ALL).await.unwrap();
    check("evidence-failed", &operator(&world).make_volumes(&order, &|_| ()).await.unwrap().to_string());
}

/// What failed as a whole has no group and no record, and has isolated nothing of what it lists.
#[tokio::test(start_paused = true)]
async fn a_stack_that_failed_before_it_had_anything_is_listed_as_open() {
    let world = World::new();
    world.data().groups.clear();
    let mut failed = incident("first", "CREATE_FAILED", "i-0c");
    failed.resources.clear();
    failed.function_outlives = false;
    failed.status.reason = "No export named ec2-isolation-v1-FunctionArn found".to_owned();
    let mut parent = incident("parent", "CREATE_FAILED", "i-0c");
    parent.resources.clear();
    failed.status.parent = Some(parent.id.clone());
    let prepared = incident("prepared", "REVIEW_IN_PROGRESS", "i-0c");
    world.data().views.extend([failed.clone(), parent, prepared]);
    let list = operator(&world).list().await.unwrap();
    assert!(list.is_anything_open() && list.incidents.is_empty(), "{list}");
    assert_eq!(list.unreadable.keys().collect::<Vec<_>>(), [&failed.id]);
    check("list-failed", &list.to_string());
    assert_eq!(operator(&world).only_incident().await.unwrap(), Address::Stack(failed.id));
}

#[tokio::test(start_paused = true)]
async fn what_restore_ends_with_and_what_a_plan_shows_then() {
    let world = isolated().await;
    world.data().views[0].is_protected = true;
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    assert!(!program.restore(&incident, &ALL, &|_| ()).await.unwrap().failed);
    let after = program.incident(&by_table()).await.unwrap();
    check("plan-none", &program.preview(&after, &ALL).await.unwrap().to_string());
    check("restore-finish", &program.finish(&after).await.unwrap().to_string());
}

/// A finding may be written by whoever may write to Security Hub.
#[tokio::test(start_paused = true)]
async fn what_approve_shows_before_it_asks_and_afterwards() {
    #[derive(Debug)]
    struct Takes;
    impl Answers for Takes {
        async fn answer(&self, _: &Token, _: &str) -> Call<bool> {
            Ok(true)
        }
    }
    let world = prepared();
    let about = "High: i-0a1b2c3d4e5f60718 talks to a command and control server that GuardDuty knows, in 12 requests since an hour\u{202e}";
    let question = Question {
        state: "asked".to_owned(),
        token: Some(Token("token".to_owned())),
        about: about.to_owned(),
        list: A.to_owned(),
        answered_by: None,
    };
    world.data().tables.entry("responder-SecurityGroupTable-1".to_owned()).or_default();
    world.data().questions.insert("0123456789ab".to_owned(), question);
    let program = operator(&world);
    let open = program.open_question("0123456789ab").await.unwrap();
    check("approve-question", &open.to_string());
    for (name, decision) in [("approve", Decision::Approve), ("reject", Decision::Reject)] {
        check(name, &program.answer(&open, decision, &Takes).await.unwrap().to_string());
    }
}

/// What is measured differs from run to run, and is to be pasted into an issue: a line for each assumption, whatever its width.
#[tokio::test(start_paused = true)]
async fn what_a_drill_ends_with() {
    let world = fleet();
    world.with_responder();
    let program = operator(&world);
    let order = program.drill_order(crate::world::drill::SUBNET, None).await.unwrap();
    let text = program.drill(&order, &world, &|_| ()).await.to_string();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("ec2-isolation 0.1.0, incident template "), "{text}");
    assert!(lines.next().unwrap().ends_with(" not seen"), "{text}");
    for assumption in ec2_isolation::operator::ASSUMPTIONS {
        assert_eq!(
            text.lines()
                .filter(|line| line.contains(&format!(" {} ", assumption.id))
                    || line.contains(&format!(" {}:", assumption.id)))
                .count(),
            1,
            "{}: {text}",
            assumption.id
        );
    }
}

/// Who may see the incidents only is shown these.
#[tokio::test(start_paused = true)]
async fn without_the_right_to_see_every_stack_the_incidents_are_listed() {
    let world = isolated().await;
    let denied = crate::world::Trouble::Fails(ec2_isolation::model::Fault::Denied);
    world.data().troubles_of.insert("cloudformation:DescribeStacks", (0, denied));
    let list = operator(&world).list().await.unwrap();
    assert_eq!((list.incidents.len(), list.unreadable.len()), (1, 0), "{list}");
    assert!(world.data().troubles_of.is_empty());
}
