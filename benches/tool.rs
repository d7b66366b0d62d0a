//! Public tools, where they are installed: command-line programs that isolate a fleet, and no more than that.
//!
//! Each is asked as its documentation has it, once for the whole fleet, with everything it could otherwise look up.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lambda::{Run, speaks_to, times, usage};
use crate::wire::{Shared, listen};
use crate::world::{DREDGE, Groups, ISOLATION, ORIGINALS, VPC, World};
use crate::{DIRECTORY, LOG, Program};

/// No run takes longer.
const LONGEST: Duration = Duration::from_secs(120);
/// What a process used is looked at so often: once it has ended nobody can say.
const LOOK: Duration = Duration::from_millis(10);

/// A tool that was found and has isolated an instance.
#[derive(Debug)]
pub struct Tool {
    pub program: Program,
    path: PathBuf,
    pub version: String,
}

/// What a tool is to isolate, and what it would otherwise look up.
#[derive(Debug)]
pub struct Target {
    pub instances: Vec<String>,
    pub vpc: String,
    /// The names of the groups that they have.
    pub originals: Vec<String>,
    /// A group that is there for it.
    pub isolation: String,
}

impl Tool {
    /// Looks where the variable says, else on the PATH, and tries it out: what is first to run pays for the disk.
    pub async fn ready(program: Program) -> Result<Self, String> {
        let (command, variable, version) = match program {
            Program::Custodian => ("custodian", "CUSTODIAN", "version"),
            Program::Dredge => ("dredge", "DREDGE", "--version"),
            Program::Ours | Program::Python => panic!("{program:?} is no public tool"),
        };
        let name = program.name();
        let on_path = || {
            std::env::split_paths(&std::env::var_os("PATH")?).map(|path| path.join(command)).find(|path| path.is_file())
        };
        let path = std::env::var_os(variable).map(PathBuf::from).or_else(on_path);
        let path = path.ok_or_else(|| format!("{name}: no `{command}` on the PATH, nor does {variable} name one"))?;
        let output = Command::new(&path)
            .arg(version)
            .output()
            .map_err(|error| format!("{name}: {}: {error}", path.display()))?;
        let version = String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .last()
            .unwrap_or("of no known version")
            .to_owned();
        let tool = Self { program, path, version };
        tool.isolate(1).await.map_err(|problem| format!("{name} {}: {problem}", tool.version))?;
        Ok(tool)
    }

    /// Asks it to isolate these.
    pub fn command(&self, target: &Target) -> Command {
        let mut command = Command::new(&self.path);
        if self.program == Program::Dredge {
            command.args(["--region", "us-east-1", "aws", "response", "isolate-ec2", "--vpc-id", &target.vpc]);
            command.args(&target.instances);
            return command;
        }
        // All groups by name: with `remove: all` an interface of several groups keeps every second one.
        let policy = json!({"policies": [{
            "name": "isolate",
            "resource": "aws.ec2",
            "query": [{"InstanceIds": target.instances}],
            "actions": [{"type": "modify-security-groups", "remove": target.originals, "isolation-group": target.isolation}],
        }]});
        let path = format!("{DIRECTORY}/policy.json");
        std::fs::write(&path, policy.to_string()).expect("target can be written");
        // It remembers for 15 minutes what it saw; the next fleet has the same instances.
        command.args(["run", "--region", "us-east-1", "--cache-period", "0", "--output-dir", DIRECTORY, &path]);
        command
    }

    /// Measures from the start of the process on. An error where it did not isolate them all.
    pub async fn isolate(&self, instances: usize) -> Result<Run, String> {
        let world = World::new(instances, 1, false);
        let mut command = self.command(&Target {
            instances: world.instances.keys().cloned().collect(),
            vpc: VPC.to_owned(),
            originals: ORIGINALS.map(str::to_owned).into(),
            isolation: ISOLATION.to_owned(),
        });
        let shared = Shared::new(world);
        let (aws, server) = listen(&shared, None).await;
        speaks_to(&mut command, &aws);
        let started = Instant::now();
        let mut process =
            tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(|error| error.to_string())?;
        let id = process.id().expect("nobody has waited for it");
        let mut used = None;
        let status = loop {
            tokio::select! {
                status = process.wait() => break status.expect("it is ours"),
                () = tokio::time::sleep(LOOK) => used = usage(id).or(used),
            }
            if started.elapsed() > LONGEST {
                return Err(format!("it did not end in {} s: see {LOG}", LONGEST.as_secs()));
            }
        };
        let ended = started.elapsed();
        server.abort();
        if !status.success() {
            return Err(format!("it ended with {status}: see {LOG}"));
        }
        let world = shared.world.lock().expect("nobody panics in it");
        let aim = if self.program == Program::Dredge { DREDGE } else { ISOLATION };
        let [first, last, settled] = times(&world, started, |_| Groups::from([aim.to_owned()]))?;
        let (peak_kib, cpu) = used.expect("it takes longer than a look");
        Ok(Run {
            init: Duration::ZERO,
            first,
            last,
            settled,
            answer: ended,
            calls: world.calls.clone(),
            calls_before: world.calls_before,
            snapshot: None,
            protection: None,
            refused: 0,
            refused_most: 0,
            connections: shared.notes.lock().expect("nobody panics in it").connections,
            peak_kib,
            cpu,
        })
    }
}
