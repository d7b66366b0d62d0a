//! The command line.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ec2_isolation::model::InstanceId;
use ec2_isolation::operator::{Address, Destination, Endpoint, Folder, Target, User};

/// Isolates compromised EC2 instances, shows whether they are isolated, and restores them, with your own credentials.
///
/// To isolate it makes or updates a CloudFormation stack, whose function does it. To restore it needs neither the stack nor its
/// function: the records table is enough.
///
/// Exit codes: 0 done, 1 something failed or stays isolated, 2 usage, 3 refused and nothing changed, 4 something that is to be isolated
/// is open.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// AWS region [default: AWS_REGION, or that of the profile]
    #[arg(long, global = true)]
    pub region: Option<String>,
    /// Profile of your AWS configuration
    #[arg(long, global = true)]
    pub profile: Option<String>,
    /// What standard output gets
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Md,
    Html,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Isolates instances: makes an incident stack, or adds them to the one of their VPC, and watches it
    Isolate {
        /// What the alert names: instance ids, ARNs of instances, private or public addresses
        #[arg(required = true, value_delimiter = ',', value_name = "INSTANCE|ARN|ADDRESS")]
        targets: Vec<Target>,
        /// The stack to make or to add to [default: the one that holds them, or incident-<VPC id>, with a number if that takes no update]
        #[arg(long)]
        stack: Option<String>,
        /// A parameter of the incident's template, as in HoldSeconds=10; may be given several times. DryRun, Rerun, VpcId and the list are refused
        #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
        parameter: Vec<(String, String)>,
        /// The packaged one-shot template (make package), in an account that has no responder
        #[arg(long, value_name = "URL")]
        template_url: Option<String>,
        /// Then denies the credentials that the instances got for their roles: finds the roles, and makes a stack for it
        #[arg(long)]
        revoke: bool,
        /// A further role whose credentials are denied, by its name; may be given several times
        #[arg(long, value_name = "NAME", requires = "revoke")]
        role: Vec<String>,
        /// Shows what would be done, and makes no stack
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Lets the trigger isolate what it asks about, by the id in its message
    Approve {
        #[arg(value_name = "ID", value_parser = question)]
        id: String,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Keeps the trigger from isolating what it asks about
    Reject {
        #[arg(value_name = "ID", value_parser = question)]
        id: String,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Shows whether everything is isolated, as EC2 shows it, and the next step that works. Changes nothing
    Status {
        #[command(flatten)]
        incident: Incident,
        /// One screen: what is not isolated, and the next step
        #[arg(long)]
        short: bool,
        /// Looks again every few seconds until Ctrl-C; what --short shows
        #[arg(long)]
        watch: bool,
    },
    /// Makes the forensic host of an incident, in a stack of its own that only your office can reach, or deletes it
    Host {
        #[command(flatten)]
        incident: Incident,
        /// The subnet for it, with a route to the internet, in the incident's VPC
        #[arg(long, required_unless_present = "delete")]
        subnet: Option<String>,
        /// The key pair to log in with
        #[arg(long, required_unless_present = "delete")]
        key: Option<String>,
        /// The one IPv4 address that may log in, such as 203.0.113.7
        #[arg(long, value_name = "ADDRESS", required_unless_present = "delete")]
        office: Option<std::net::Ipv4Addr>,
        /// The tcp ports on which it may reach the instances [default: 22]
        #[arg(long, value_name = "PORTS")]
        ports: Option<String>,
        /// A parameter of the host's template, as in ForensicAmiId=ami-…; may be given several times
        #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
        parameter: Vec<(String, String)>,
        /// Deletes it. Its volume stays, as evidence
        #[arg(long)]
        delete: bool,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Prints the commands that read the memory of an isolated instance over ssh, by way of the forensic host; --run runs them
    Memory {
        /// The instance; EC2 must show it isolated
        #[arg(value_name = "i-…")]
        instance: InstanceId,
        #[command(flatten)]
        incident: Incident,
        #[command(flatten)]
        way: Way,
        /// AVML, as its releases have it for Linux
        #[arg(long, value_name = "FILE", default_value = "avml")]
        avml: PathBuf,
        /// Its SHA-256, as its release shows it
        #[arg(long, value_name = "HEX", value_parser = sha256)]
        avml_sha256: Option<String>,
        /// Where the image goes: a folder of the forensic host, which is fastest, or a new file here
        #[arg(long, value_name = "host[:FOLDER]|FILE", default_value = "host")]
        to: Destination,
        /// A folder in the instance's memory, for AVML
        #[arg(long, value_name = "FOLDER", default_value = "/dev/shm")]
        scratch: Folder,
        /// Runs the commands
        #[arg(long)]
        run: bool,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Lists the incidents of the account and Region, and whether they are isolated. Changes nothing
    List,
    /// Writes the incident for the case file: how it stands, timeline, interfaces, snapshots, what is not covered. Changes nothing
    Report {
        #[command(flatten)]
        incident: Incident,
        /// What it is written in; HTML is one file without a script, to be read on paper too [default: md]
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// A new file; standard output if nothing is said
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// What evidence --manifest has written of this incident: it becomes part of the report
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
    },
    /// Attaches volumes of the incident's snapshots to the forensic host, and prints what mounts them read-only
    Evidence {
        #[command(flatten)]
        incident: Incident,
        /// Only of these instances [default: all]
        #[arg(value_name = "INSTANCE")]
        instances: Vec<InstanceId>,
        /// The instance that takes the volumes [default: the incident's forensic host]
        #[arg(long, value_name = "i-…")]
        host: Option<InstanceId>,
        /// Detaches and deletes the volumes again. The snapshots stay
        #[arg(long, conflicts_with_all = ["share", "manifest"])]
        remove: bool,
        /// Copies the snapshots with a key that can be shared, and lets this account use the copies
        #[arg(long, value_name = "ACCOUNT", requires = "key", conflicts_with = "host")]
        share: Option<String>,
        /// The key for the copies, by its ARN or id: a customer managed key of this Region whose policy admits that account
        #[arg(long, value_name = "KMS-KEY", requires = "share")]
        key: Option<String>,
        /// Writes down what is in the snapshots: a SHA-256 of each image, with size, key, lock and times
        #[arg(long, conflicts_with_all = ["share", "host"])]
        manifest: bool,
        /// A new file for the manifest; standard output if nothing is said
        #[arg(long, value_name = "FILE", requires = "manifest")]
        to: Option<PathBuf>,
        /// Shows what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Names what incidents that are over have left behind, and the commands that delete it. Deletes nothing
    Leftovers {
        /// The incident [default: all of the account and Region]
        #[command(flatten)]
        incident: Incident,
    },
    /// Shows what restore would do now. Changes nothing
    Plan {
        #[command(flatten)]
        incident: Incident,
        #[command(flatten)]
        selection: Selection,
    },
    /// Gives every interface the groups it had, and puts back what else was changed
    Restore {
        #[command(flatten)]
        incident: Incident,
        #[command(flatten)]
        selection: Selection,
        /// Then deletes the stack and waits for its end, where everything is restored
        #[arg(long, conflicts_with = "instance")]
        finish: bool,
        /// Shows what would be done, as plan does
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Moves instances of a stack that keeps them, or is gone, under another deployed stack; they stay isolated throughout
    Adopt {
        /// The old stack, by name or ARN, or its records table
        #[arg(long, value_name = "STACK|TABLE")]
        from: String,
        /// The new stack, by name or ARN
        #[arg(long, value_name = "STACK")]
        to: String,
        #[command(flatten)]
        selection: Selection,
        /// Shows what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Rehearses an incident on an instance that it makes for it, and says which of our assumptions about AWS hold in your account
    Drill {
        /// Where it makes its instance
        #[arg(long, value_name = "subnet-…", required_unless_present = "clean")]
        subnet: Option<String>,
        /// The instance's image [default: the newest of Amazon Linux 2023]
        #[arg(long, value_name = "ami-…")]
        image: Option<String>,
        /// Takes away what a drill has left that was killed
        #[arg(long, conflicts_with_all = ["subnet", "image"])]
        clean: bool,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Prints what completes this program's words in a shell. In bash: source <(ec2-isolation completions bash)
    Completions { shell: clap_complete::Shell },
    /// Prints the manual: ec2-isolation man | man -l -
    Man,
}

/// By ssh from here to the forensic host, and from there to the instance.
#[derive(Debug, Args)]
pub struct Way {
    /// The user of the instance, as in ec2-user
    #[arg(long, default_value = "ubuntu")]
    pub user: User,
    /// The private key for the instance [default: the name of its key pair, with .pem]
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// Where the instance listens [default: its private address]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub address: Option<Endpoint>,
    /// Where the forensic host listens [default: the public address of the incident's]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub host: Option<Endpoint>,
    /// The user of the forensic host
    #[arg(long, default_value = "ubuntu")]
    pub host_user: User,
    /// The private key for the forensic host [default: as for the instance]
    #[arg(long, value_name = "FILE")]
    pub host_key: Option<String>,
}

/// Which incident it is about: the only one there is, if nothing is said.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Incident {
    /// The stack, by name or ARN; it may be gone
    #[arg(long)]
    stack: Option<String>,
    /// The records table
    #[arg(long)]
    table: Option<String>,
}

fn question(text: &str) -> Result<String, String> {
    let is_id = text.len() == 12 && text.chars().all(|c| c.is_ascii_hexdigit());
    if is_id { Ok(text.to_lowercase()) } else { Err(format!("{text:?} is no id of 12 hexadecimal digits")) }
}

fn sha256(text: &str) -> Result<String, String> {
    let is_digest = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    if is_digest { Ok(text.to_lowercase()) } else { Err(format!("{text:?} is no SHA-256 of 64 hexadecimal digits")) }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("{text:?} is no NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Incident {
    /// Nothing if nothing was said.
    pub fn address(&self) -> Option<Address> {
        match (&self.stack, &self.table) {
            (_, Some(table)) => Some(Address::Table(table.clone())),
            (stack, None) => stack.clone().map(Address::Stack),
        }
    }
}

#[derive(Debug, Args)]
pub struct Selection {
    /// Only this instance; may be given several times
    #[arg(long, value_name = "i-…")]
    instance: Vec<InstanceId>,
}

impl Selection {
    pub fn ids(&self) -> BTreeSet<InstanceId> {
        self.instance.iter().cloned().collect()
    }
}
