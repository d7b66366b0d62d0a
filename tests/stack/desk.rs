//! The program at a person's terminal: the question and what is typed, the bar, Ctrl-C, and a status that goes on looking.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::set_groups;
use crate::operator::{environment, operator, status_ends_with as status};
use crate::terminal::{CTRL_C, CTRL_D, Shown, Terminal, program};
use crate::{Scene, cloud};

/// What a person types who does not mean it.
const NO: [&str; 6] = ["no\n", "\n", "YES!\n", "ye\n", CTRL_D, CTRL_C];

/// In a terminal of so many columns. Standard output goes to a file or another program, if `piped`.
fn open(columns: u16, piped: bool, arguments: &[&str]) -> Terminal {
    let mut command = program(arguments);
    environment(&mut command);
    command.env("TERM", "xterm-256color");
    let command = pty_process::blocking::Command::from(command);
    Terminal::open(columns, if piped { command.stdout(Stdio::piped()) } else { command })
}

/// What the program may do once it was told yes, so far. The function and its watch go on meanwhile.
async fn changes(since: u64) -> Vec<String> {
    let own = ["CreateStack", "ChangeSet", "DeleteStack", "TerminationProtection", "NetworkInterfaceAttribute"];
    let calls = cloud().calls(since).await.into_iter().map(|call| call.action);
    let is_change = |action: &String| !action.starts_with("Describe") && own.iter().any(|own| action.contains(own));
    calls.filter(is_change).collect()
}

/// Says each of these at the question, which changes nothing; then yes.
async fn asks(question: &str, arguments: &[&str]) -> Shown {
    let since = cloud().now().await;
    for keys in NO {
        let mut terminal = open(80, true, arguments);
        terminal.shows(&format!("{question} Type yes:")).types(keys);
        let shown = terminal.ends_with(3).says("\nec2-isolation: nothing was changed: not confirmed");
        assert_eq!((shown.out.as_str(), shown.wide.clone()), ("", vec![]), "{keys:?}: {}", shown.screen);
        assert_eq!(changes(since).await, Vec::<String>::new(), "{keys:?}");
    }
    let mut terminal = open(80, true, arguments);
    terminal.shows(&format!("{question} Type yes:")).types("yes\n");
    terminal.ends_with(0)
}

#[tokio::test]
async fn only_a_typed_yes_isolates_and_restores() {
    let scene = Scene::prepared("desk-yes").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await;
    let before = scene.cards(&[&a]).await;

    let isolated = asks("Isolate them?", &["isolate", &a, "--stack", "desk-yes"]).await;
    scene.assert_isolated(&[&a]).await;
    // The result is for whatever reads it, the bar for the person, and gone.
    assert!(isolated.out.contains("ISOLATED, as EC2 shows it: 1 of 1 instance (2 interfaces)."), "{}", isolated.out);
    assert!(!isolated.screen.contains("ISOLATED, as EC2"), "{}", isolated.screen);
    assert!(!isolated.has_bar() && isolated.wide.is_empty(), "{isolated:#?}");
    let whole = |bar: &&String| bar.contains(" s  2 of 2 interfaces isolated  ██████████");
    assert!(isolated.bars.iter().any(|bar| whole(&bar)) && !isolated.is_bar_broken, "{:#?}", isolated.bars);

    let restored = asks("Restore them?", &["restore", "--stack", "desk-yes"]).await;
    assert!(restored.out.starts_with("1 instance restored\n"), "{}", restored.out);
    assert!(!restored.has_bar(), "{}", restored.screen);
    assert_eq!(scene.cards(&[&a]).await, before);
    let question = "Nothing is held isolated. Turn termination protection off, and delete stack desk-yes?";
    let ended = asks(question, &["restore", "--stack", "desk-yes", "--finish"]).await;
    assert!(ended.out.contains("stack desk-yes is deleted"), "{}", ended.out);
}

#[tokio::test]
async fn only_a_typed_yes_moves_instances_under_another_stack() {
    let scene = Scene::prepared("desk-old").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    operator(&["isolate", &a, "--stack", "desk-old", "--yes"]).ends_with(0);
    operator(&["isolate", &b, "--stack", "desk-new", "--yes"]).ends_with(0);
    // Nobody lists it any more, and it stays isolated.
    let mut old = scene.beside("desk-old");
    for host in ["ForensicSubnetId", "Ec2KeyName", "CompanyIp"] {
        old.incident.unset(host);
    }
    let other = scene.site.plain(&scene.ec2, &[2]).await;
    assert_eq!(old.incident.list(&[&other]).update().await, "UPDATE_COMPLETE");
    let moved = asks(
        "Move them? They stay isolated throughout.",
        &["adopt", "--from", "desk-old", "--to", "desk-new", "--instance", &a],
    )
    .await;
    assert!(moved.out.contains(&format!("adopted: {a}")), "{}", moved.out);
    assert_eq!(status("desk-new", 0)["summary"]["isolated"], json!(2));
    for stack in ["desk-old", "desk-new"] {
        operator(&["restore", "--stack", stack, "--finish", "--yes"]).ends_with(0);
    }
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// In a window of half a screen, with a name as long as they become.
#[tokio::test]
async fn progress_fits_into_a_narrow_terminal_and_ctrl_c_takes_it_away() {
    let scene = Scene::prepared("desk-bar").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let stack = format!("incident-{}-of-the-night-of-the-25th", scene.site.vpc);
    let interface = scene.cards(&[&a]).await.into_keys().next().unwrap();
    let throttle =
        json!({"action": "ModifyNetworkInterfaceAttribute", "id": interface, "error_code": "RequestLimitExceeded"});
    cloud().set("refuse", &throttle).await;
    let mut terminal = open(40, false, &["isolate", &a, "--stack", &stack]);
    terminal.shows("Isolate them? Type yes:").types("yes\n");
    terminal.shows("0 of 1 interfaces isolated").shows("CREATE_IN_PROGRESS").types(CTRL_C);
    let shown = terminal.ends_with(1).says("The watching has ended.");
    // There is no room for a bar. The terminal's own ^C may leave the last state above what is said.
    assert!(shown.bars.is_empty(), "{shown:#?}");
    // Only what is to be pasted is longer than the terminal is wide: it stays whole.
    let command = format!("  ec2-isolation status --stack {stack} --region us-east-1");
    let said = shown.wide.iter().filter(|line| !line.starts_with("CREATE_IN_PROGRESS"));
    assert_eq!(said.collect::<Vec<_>>(), [&command[..40]], "{}", shown.screen);
    assert!(shown.screen.contains(&command), "{}", shown.screen);
    crate::prepared::refuse_no_more().await;
    assert_eq!(scene.incident.ends_in(&stack, &["CREATE_IN_PROGRESS"]).await, "CREATE_COMPLETE");
    operator(&["restore", "--stack", &stack, "--finish", "--yes"]).ends_with(0);
}

/// What is to be pasted stays in one line, whatever the terminal; an ARN cannot be broken.
fn is_whole(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("ran: ").unwrap_or(line);
    line.starts_with("aws ") || line.starts_with("ec2-isolation ") || !line.contains(' ')
}

#[tokio::test]
async fn on_forty_columns_every_line_fits_that_is_no_command() {
    let scene = Scene::prepared("desk-narrow").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await;
    let run = |arguments: &[&str], code: i32| {
        let mut command = program(arguments);
        environment(&mut command).env("COLUMNS", "40");
        let ran = crate::operator::ended(command.output().unwrap()).ends_with(code);
        let text = ran.out().to_owned() + ran.err();
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 40 && !is_whole(line)).collect();
        assert!(wide.is_empty() && !text.trim().is_empty(), "{arguments:?}: {wide:#?}");
        // A command that is printed is the one of a wide terminal.
        assert!(!text.lines().any(|line| line.trim_end().ends_with(" --region")), "{text}");
    };
    run(&["isolate", &a, "--stack", "desk-narrow", "--dry-run"], 0);
    // Its progress goes into a pipe here, a line each.
    operator(&["isolate", &a, "--stack", "desk-narrow", "--yes"]).ends_with(0);
    let interface = scene.cards(&[&a]).await.into_keys().next().unwrap();
    for (groups, code) in [(None, 0), (Some(&scene.site.groups[0]), 4)] {
        if let Some(group) = groups {
            set_groups(&scene.ec2, &interface, &[group.as_str()]).await;
        }
        run(&["status", "--stack", "desk-narrow"], code);
        run(&["status", "--stack", "desk-narrow", "--short"], code);
        run(&["list"], code);
        run(&["plan", "--stack", "desk-narrow"], 0);
        run(&["restore", "--stack", "desk-narrow", "--dry-run"], 0);
    }
    operator(&["restore", "--stack", "desk-narrow", "--finish", "--yes"]).ends_with(0).says("ran: aws cloudformation");
    run(&["status", "--stack", "desk-narrow"], 0);
    run(&["leftovers", "--stack", "desk-narrow"], 0);
}

/// It shows what has changed and nothing else, until Ctrl-C; how it stands then is its exit code.
#[tokio::test]
async fn a_status_that_watches_shows_each_change_and_ends_as_it_stands() {
    let scene = Scene::prepared("desk-watch").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let interface = scene.cards(&[&a]).await.into_keys().next().unwrap();
    let watch = ["status", "--watch", "--stack", "desk-watch"];
    operator(&watch).ends_with(3).says("there is no stack desk-watch");
    operator(&["isolate", &a, "--stack", "desk-watch", "--yes"]).ends_with(0);

    let isolated = "ISOLATED, as EC2 shows it: 1 of 1 instance (1 interface).";
    let mut terminal = open(80, false, &watch);
    terminal.shows(isolated);
    // Two more looks, that show nothing else.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(terminal.screen().matches(isolated).count(), 1, "{}", terminal.screen());
    set_groups(&scene.ec2, &interface, &[scene.site.groups[0].as_str()]).await;
    terminal.shows(&format!("Z open: {a} {interface}: back in")).shows("NOT ISOLATED: 1 of 1 instance.");
    terminal.types(CTRL_C);
    let shown = terminal.ends_with(4).screen;
    assert!(shown.starts_with("20") && shown.contains("Z\nISOLATED, as EC2"), "when it was seen: {shown}");

    // What is piped is read document by document; a signal ends it as Ctrl-C does.
    let mut terminal = open(80, true, &[&watch[..], &["--output", "json"]].concat());
    tokio::time::sleep(Duration::from_secs(3)).await;
    operator(&["isolate", &a, "--stack", "desk-watch", "--yes"]).ends_with(0);
    tokio::time::sleep(Duration::from_secs(7)).await;
    terminal.types(CTRL_C);
    let out = terminal.ends_with(0).out;
    let documents: Vec<Value> = serde_json::Deserializer::from_str(&out).into_iter().map(Result::unwrap).collect();
    let open_then = |n: usize| documents[n]["summary"]["not_isolated"].clone();
    assert_eq!((open_then(0), open_then(documents.len() - 1)), (json!(1), json!(0)), "{out}");
    operator(&["restore", "--stack", "desk-watch", "--finish", "--yes"]).ends_with(0);
}
