//! What is printed: the whole capture as commands, and what came of it.

use std::fmt;

use serde::Serialize;

use super::run::{df, folder_of, partial};
use super::{Capture, Destination, Image, scripts};
use crate::operator::shell::quoted;
use crate::operator::text::{duration, wrapped};

/// What an operator should not expect of an image.
const MISSES: &str = "The memory changes while it is read, so the parts of an image are of different moments. The kernel that gives it out may be the \
                      attacker's. AVML is one process more, and 8 MB in the instance's memory; nothing is written to its disk but the log of the login.";

/// One command, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub what: String,
    pub command: String,
}

fn step(what: &str, command: impl Into<String>) -> Step {
    Step { what: what.to_owned(), command: command.into() }
}

impl Capture {
    /// All of it, in its order, for the shell of the desk.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let Self { route, scratch, name, .. } = self;
        let (avml, file) = (quoted(&self.avml.display().to_string()), quoted(&route.config_file()));
        let config: Vec<String> = route.config().iter().map(|line| quoted(line)).collect();
        let mut steps = vec![
            match &self.avml_sha256 {
                Some(sha256) => step(
                    "AVML is what its release says",
                    format!("echo {} | sha256sum --check", quoted(&format!("{sha256}  {}", self.avml.display()))),
                ),
                None => step("Compare AVML's checksum with what its release shows", format!("sha256sum {avml}")),
            },
            step("A folder for what ssh needs in this incident", format!("mkdir -p -m 700 {}", quoted(&route.folder))),
            step(
                "The way: the forensic host is the jump, and nothing is forwarded",
                format!("printf '%s\\n' {} > {file}", config.join(" ")),
            ),
            step("The forensic host answers", route.on_host("true").to_string()),
            step(
                "What the instance is: processor, kernel, memory, lockdown",
                route.on_instance(&scripts::look()).to_string(),
            ),
        ];
        let place = step(
            "AVML goes into the memory of the instance",
            format!("{} < {avml}", route.on_instance(&scripts::place(scratch))),
        );
        match &self.to {
            Destination::Host(folder) => steps.extend([
                step(
                    "The forensic host has a folder and room for the memory and 1 GiB",
                    format!("{} < {}", route.on_host(&scripts::room(&folder.0)), quoted(&route.known_hosts())),
                ),
                place,
                step(
                    "The forensic host reads the memory. It may use this one key, by an agent made for it, until this command ends",
                    route.on_host_with_key(&scripts::receive(route, scratch, &folder.0, name)).to_string(),
                ),
                step(
                    "Both digests are the same, and the records are whole",
                    route.on_host(&scripts::verify(&folder.0, name)).to_string(),
                ),
                step("The image gets its name", route.on_host(&scripts::keep(&folder.0, name)).to_string()),
            ]),
            Destination::Desk(file) => {
                let part = quoted(&partial(file).display().to_string());
                steps.extend([
                    step("The desk has room for the memory and 1 GiB", df(&folder_of(file)).to_string()),
                    place,
                    step(
                        "The desk reads the memory, and hashes it on the way",
                        format!("{} | tee {part} | sha256sum", route.on_instance(&scripts::read(scratch))),
                    ),
                    step("What was written has the same digest", format!("sha256sum {part}")),
                    step("The image gets its name", format!("mv {part} {}", quoted(&file.display().to_string()))),
                ]);
            }
        }
        steps.push(step(
            "AVML is taken off the instance, whatever came before",
            route.on_instance(&scripts::clean(scratch)).to_string(),
        ));
        steps
    }

    /// What it is about, and what an image misses.
    #[must_use]
    pub fn summary(&self) -> String {
        let (host, target) = (&self.route.host, &self.route.target);
        let text = format!(
            "The memory of {}, as {} at {}, by way of forensic host {} (as {}), into {}.",
            self.instance,
            target.user,
            target.at,
            host.at,
            host.user,
            self.whereto()
        );
        format!("{}\n{}", wrapped(&text, "  "), wrapped(MISSES, "  "))
    }

    fn whereto(&self) -> String {
        match &self.to {
            Destination::Host(folder) => format!("{}/{} on the forensic host", folder.0, self.name),
            Destination::Desk(file) => file.display().to_string(),
        }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        for (n, Step { what, command }) in self.steps().iter().enumerate() {
            writeln!(f, "\n{}\n  {command}", wrapped(&format!("{}. {what}:", n + 1), "   "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, left_out, memory_total, system_ram, .. } = self;
        let place = match self.place {
            "host" => format!("{} on forensic host {}", self.file, self.forensic_host),
            _ => self.file.clone(),
        };
        writeln!(f, "{}\n", wrapped(&format!("CAPTURED: the memory of {} is in {place}.", self.instance), "  "))?;
        writeln!(f, "bytes    {bytes}, in {}", duration(self.seconds))?;
        writeln!(f, "sha256   {}", self.sha256)?;
        writeln!(f, "         the same while it was received and when it was read back")?;
        writeln!(f, "memory   {memory_total} bytes (MemTotal), {system_ram} at addresses of RAM")?;
        writeln!(f, "         {left_out} of them left out, as AVML does with blocks of zeros")?;
        writeln!(f, "kernel   {}", self.kernel)?;
        writeln!(f, "by       {}, SHA-256", self.avml)?;
        writeln!(f, "         {}", self.avml_sha256)?;
        for left in &self.left {
            writeln!(f, "{}", wrapped(&format!("! {left}"), "  "))?;
        }
        Ok(())
    }
}
