//! What the command line says of itself: completions for shells, and the manual page. Neither needs AWS.

use clap::{Command as Words, CommandFactory as _};
use clap_mangen::Man;

use crate::args::{Arguments, Command};

/// The text that the command asks for, if it is one of these.
pub fn text(command: &Command) -> Option<String> {
    let text = match command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "ec2-isolation", &mut text);
            text
        }
        Command::Man => page(&Arguments::command()),
        _ => return None,
    };
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// One page for everything: an operator does not look for the page of a subcommand at night.
fn page(program: &Words) -> Vec<u8> {
    let mut page = Vec::new();
    let whole = Man::new(program.clone());
    // Nothing fails that writes into memory.
    let _ = whole.render_title(&mut page);
    let _ = whole.render_name_section(&mut page);
    let _ = whole.render_description_section(&mut page);
    let _ = whole.render_options_section(&mut page);
    for command in program.get_subcommands() {
        let part = Man::new(command.clone().disable_help_flag(true));
        let mut text = Vec::new();
        let _ = part.render_description_section(&mut text);
        let _ = part.render_options_section(&mut text);
        let heading = format!(".SH \"{} {}\"\n", program.get_name(), command.get_name()).replace('-', r"\-");
        page.extend(heading.into_bytes());
        let lines = String::from_utf8_lossy(&text);
        let lines = lines.lines().filter(|line| !line.starts_with(".SH")).flat_map(|line| [line, "\n"]);
        page.extend(lines.collect::<String>().into_bytes());
    }
    page
}
