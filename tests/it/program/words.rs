//! The command line: help, typing errors, completions, the manual.

use super::Person;
use crate::terminal::Terminal;

/// Every command, as the program's own help lists them.
async fn commands() -> Vec<String> {
    let help = say(&["--help"], 0).await;
    let list = help.split_once("Commands:\n").unwrap().1.split("\n\n").next().unwrap();
    // A line that goes on is indented further.
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    let names: Vec<String> = names.filter(|name| name != "help").collect();
    assert!(names.len() >= 16, "{names:?} in\n{help}");
    names
}

async fn say(arguments: &[&str], code: i32) -> String {
    let ran = Person::new(&format!("words-{}", arguments.join("-")), "").runs(arguments).await.ends_with(code);
    let (said, silent) = if code == 0 { (ran.out, ran.err) } else { (ran.err, ran.out) };
    assert_eq!(silent, "", "results on standard output, everything else on standard error");
    said
}

#[tokio::test]
async fn a_typing_error_is_met_with_the_word_that_was_meant() {
    for (arguments, meant) in [
        (&["statsu"][..], "'status'"),
        (&["restore", "--stak", "ir"], "'--stack'"),
        (&["status", "--stack", "ir", "--output", "jsno"], "'json'"),
    ] {
        let said = say(arguments, 2).await;
        assert!(said.contains("tip: a similar") && said.contains(meant), "{said}");
    }
}

#[tokio::test]
async fn help_names_every_exit_code() {
    let said = say(&["--help"], 0).await.split_whitespace().collect::<Vec<_>>().join(" ");
    let codes = said.split_once("Exit codes: ").unwrap().1.split_once(" Usage").unwrap().0;
    for code in ["0 done", "1 something failed", "2 usage", "3 refused", "4 something"] {
        assert!(codes.contains(code), "{code} in {codes}");
    }
}

/// Nothing is coloured, so `NO_COLOR` has nothing to turn off.
#[tokio::test]
async fn help_fits_into_a_narrow_terminal_and_has_no_colours() {
    let commands = commands().await;
    for (columns, color) in [("40", "NO_COLOR"), ("80", "CLICOLOR_FORCE"), ("300", "FORCE_COLOR")] {
        let person = Person::new(&format!("narrow-{columns}"), "").with(&[("COLUMNS", columns), (color, "1")]);
        for command in &commands {
            let said = person.runs(&["help", command]).await.ends_with(0).out;
            // Neither wider than the terminal nor than what can be read.
            let limit = columns.parse::<usize>().unwrap().min(120);
            let wide: Vec<_> =
                said.lines().filter(|line| line.chars().count() > limit && !line.starts_with("Usage")).collect();
            assert!(wide.is_empty() && !said.contains('\x1b'), "{wide:#?}");
        }
    }
}

#[tokio::test]
async fn every_shell_completes_every_command() {
    let commands = commands().await;
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = say(&["completions", shell], 0).await;
        let has =
            |command: &&String| script.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == *command);
        let missing: Vec<&String> = commands.iter().filter(|command| !has(command)).collect();
        assert!(missing.is_empty(), "{shell}: {missing:?}");
    }
    assert!(say(&["completions", "csh"], 2).await.contains("possible values: bash, elvish, fish, powershell, zsh"));
}

#[tokio::test]
async fn the_manual_has_every_command_with_its_options() {
    let page = say(&["man"], 0).await;
    assert!(page.contains(".TH ec2-isolation 1"), "{page}");
    for command in commands().await {
        let heading = format!(".SH \"ec2\\-isolation {command}\"");
        assert!(page.contains(&heading), "{heading} in\n{page}");
    }
    assert!(page.contains("\\-\\-dry\\-run") && page.contains("4 something"), "{page}");
}

/// A complaint in lines of the terminal's width, in one line for a program that reads it.
#[tokio::test]
async fn what_is_wrong_is_said_in_lines_that_fit_and_to_a_program_in_one() {
    let nowhere = Person::new("nowhere-narrow", "");
    let piped = nowhere.runs(&["status", "--stack", "ir"]).await.ends_with(3);
    assert_eq!(piped.err.lines().count(), 1, "{}", piped.err);
    for columns in [40, 80] {
        let mut command = nowhere.command(&["status", "--stack", "ir"]);
        command.env("TERM", "xterm").env_remove("COLUMNS");
        let shown = Terminal::open(columns, command).ends_with(3);
        assert_eq!(shown.wide, Vec::<String>::new(), "{}", shown.screen);
        let whole = shown.screen.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(whole, piped.err.trim());
    }
}
