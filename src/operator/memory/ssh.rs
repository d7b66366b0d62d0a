//! The way from the desk to an isolated instance: by ssh, with the forensic host as the jump. Pure: these are the command lines, as they
//! are printed and as they are run.
//!
//! **The instance never sees an agent**: nothing is forwarded to it. Keys stay at the desk.

use std::fmt;
use std::str::FromStr;

use crate::model::InstanceId;
use crate::operator::shell::quoted;

/// The forensic host, in the configuration of ssh that is written for this.
pub(super) const HOST: &str = "forensic-host";
const SSH: u16 = 22;
/// Of an agent that holds the instance's key alone and ends with its command. It reaches the forensic host and nothing else.
const WITH_AGENT: &str = r#"ssh-add -q "$0" && exec ssh -F "$1" -o ForwardAgent=yes "$2" "$3""#;

/// Where something listens: an address or a name, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: String,
    pub port: u16,
}

/// Why an endpoint could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address, as in 10.0.1.5, 10.0.1.5:2222 or [2001:db8::1]:22")]
pub struct NoEndpoint(String);

impl Endpoint {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), port: SSH }
    }
}

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let wrong = || NoEndpoint(text.chars().take(200).collect());
        let (address, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
            None if text.matches(':').count() == 1 => text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b))),
            None => (text, None),
        };
        // It goes into a configuration file, and into a script.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-%_".contains(c);
        if address.is_empty() || address.starts_with('-') || !address.chars().all(is_plain) {
            return Err(wrong());
        }
        let port = port.map_or(Ok(SSH), |port| port.parse().map_err(|_| wrong()))?;
        Ok(Self { address: address.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port } = self;
        match (*port == SSH, address.contains(':')) {
            (true, _) => f.write_str(address),
            (false, true) => write!(f, "[{address}]:{port}"),
            (false, false) => write!(f, "{address}:{port}"),
        }
    }
}

/// Whom to log in as, and with which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub at: Endpoint,
    pub user: User,
    /// The file with the private key, at the desk.
    pub key: String,
}

/// The name of a user of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(String);

/// Why it is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a user, as in ec2-user")]
pub struct NoUser(String);

impl FromStr for User {
    type Err = NoUser;

    fn from_str(text: &str) -> Result<Self, NoUser> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(NoUser(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A program with its arguments, as a shell takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub program: &'static str,
    pub arguments: Vec<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", quoted(argument)))
    }
}

/// From the desk by the forensic host to the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub instance: InstanceId,
    pub host: Login,
    pub target: Login,
    /// At the desk, for what ssh needs in this incident.
    pub folder: String,
}

impl Route {
    /// What ssh is told with `-F`.
    pub fn config_file(&self) -> String {
        format!("{}/{}.ssh", self.folder, self.instance)
    }

    /// The host keys that were accepted in this incident.
    pub fn known_hosts(&self) -> String {
        format!("{}/known_hosts", self.folder)
    }

    /// The lines of [`Route::config_file`].
    pub fn config(&self) -> Vec<String> {
        let login = |name: &str, Login { at, user, key }: &Login| {
            let Endpoint { address, port } = at;
            vec![
                format!("Host {name}"),
                format!("  HostName {address}"),
                format!("  Port {port}"),
                format!("  User {user}"),
                format!("  IdentityFile \"{key}\""),
            ]
        };
        let mut lines = login(HOST, &self.host);
        lines.extend(login(self.instance.as_str(), &self.target));
        lines.push(format!("  ProxyJump {HOST}"));
        // Private addresses repeat from incident to incident.
        lines.push(format!("  HostKeyAlias {}", self.instance));
        let known = format!("UserKnownHostsFile \"{}\"", self.known_hosts());
        let all = [
            "IdentitiesOnly yes",
            "ForwardAgent no",
            "ForwardX11 no",
            "BatchMode yes",
            "StrictHostKeyChecking accept-new",
            &known,
            "UpdateHostKeys no",
            "ConnectTimeout 20",
            "ServerAliveInterval 15",
            "ServerAliveCountMax 4",
            "RequestTTY no",
            "LogLevel ERROR",
        ];
        lines.push("Host *".to_owned());
        lines.extend(all.iter().map(|line| format!("  {line}")));
        lines
    }

    /// Runs a script on the forensic host.
    pub fn on_host(&self, script: &str) -> Line {
        self.on(HOST, script)
    }

    /// Runs a script on the instance.
    pub fn on_instance(&self, script: &str) -> Line {
        self.on(self.instance.as_str(), script)
    }

    fn on(&self, name: &str, script: &str) -> Line {
        let arguments = ["-F", &self.config_file(), name, script].map(str::to_owned);
        Line { program: "ssh", arguments: arguments.into() }
    }

    /// Runs a script on the forensic host, which can log in to the instance meanwhile, and only meanwhile.
    pub fn on_host_with_key(&self, script: &str) -> Line {
        let (key, config) = (&self.target.key, self.config_file());
        let arguments = ["sh", "-c", WITH_AGENT, key, &config, HOST, script].map(str::to_owned);
        Line { program: "ssh-agent", arguments: arguments.into() }
    }

    /// From the forensic host to the instance, with the host keys of this file on it. No agent goes along (`-a`), and no X11 (`-x`).
    pub fn from_host(&self, known_hosts: &str) -> String {
        let Login { at: Endpoint { address, port }, user, .. } = &self.target;
        format!(
            "ssh -F /dev/null -a -x -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={known_hosts} \
             -o HostKeyAlias={} -o ConnectTimeout=20 -o ServerAliveInterval=15 -o LogLevel=ERROR -p {port} -l {user} {address}",
            self.instance
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16)>) {
        let read = text.parse::<Endpoint>();
        let read = read.as_ref().map(|endpoint| (endpoint.address.as_str(), endpoint.port)).ok();
        assert_eq!(read, expected, "{text}");
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
    }

    #[test]
    fn an_endpoint_is_an_address_or_a_name_and_perhaps_a_port() {
        check("10.0.1.5", Some(("10.0.1.5", 22)));
        check("10.0.1.5:2222", Some(("10.0.1.5", 2222)));
        check("2001:db8::1", Some(("2001:db8::1", 22)));
        check("[2001:db8::1]:2222", Some(("2001:db8::1", 2222)));
        check("forensics.example.org", Some(("forensics.example.org", 22)));
        for wrong in ["", "-oProxyCommand=x", "10.0.1.5:", "10.0.1.5:70000", "[::1", "a b", "a;b", "a\nb"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_user_is_a_plain_name() {
        assert_eq!("ec2-user".parse::<User>().map(|user| user.to_string()), Ok("ec2-user".to_owned()));
        for wrong in ["", "-l", "a b", "a\nb", "$(id)"] {
            assert!(wrong.parse::<User>().is_err(), "{wrong}");
        }
    }

    fn route() -> Route {
        let login =
            |at: &str, key: &str| Login { at: at.parse().unwrap(), user: User("ubuntu".into()), key: key.into() };
        Route {
            instance: "i-0a".parse().unwrap(),
            host: login("203.0.113.9", "my key.pem"),
            target: login("10.0.1.5:2222", "web.pem"),
            folder: "incident-42-memory".into(),
        }
    }

    #[test]
    fn nothing_is_forwarded_to_the_instance() {
        let route = route();
        let config = route.config();
        let of_all = config.iter().skip_while(|line| *line != "Host *").map(|line| line.trim()).collect::<Vec<_>>();
        for wanted in ["ForwardAgent no", "ForwardX11 no", "BatchMode yes", "IdentitiesOnly yes"] {
            assert!(of_all.contains(&wanted), "{config:?}");
        }
        assert!(!config.iter().any(|line| line.contains("ForwardAgent yes")), "{config:?}");
        assert!(!route.on_instance("true").to_string().contains("Forward"));
        assert!(route.from_host("known_hosts").starts_with("ssh -F /dev/null -a -x -T "));
    }

    #[test]
    fn a_line_can_be_pasted() {
        assert_eq!(
            route().on_instance("echo \"it's\" $HOME").to_string(),
            r#"ssh -F incident-42-memory/i-0a.ssh i-0a 'echo "it'\''s" $HOME'"#
        );
        assert!(route().config().contains(&"  IdentityFile \"my key.pem\"".to_owned()));
    }
}
