//! The built program as a person runs it: whose credentials it uses, whom it trusts, and what it says of itself.

mod credentials;
mod trust;
mod words;

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

/// What the program did.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    /// On standard error, and nothing that only a programmer understands.
    #[track_caller]
    fn complains(&self, text: &str) {
        assert!(self.err.contains(text), "{text:?} in\n{}", self.err);
        for word in ["cargo feature", "ConnectionLost", "CredentialsNotLoaded"] {
            assert!(!self.err.contains(word), "{}", self.err);
        }
        assert_eq!(self.out, "", "results only");
    }
}

/// A person's machine: a home with the AWS CLI's files, and an environment.
struct Person {
    home: PathBuf,
    variables: Vec<(String, String)>,
}

impl Person {
    /// With this in `~/.aws/config`.
    fn new(name: &str, config: &str) -> Self {
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(home.join(".aws/sso/cache")).unwrap();
        std::fs::create_dir_all(home.join("bin")).unwrap();
        std::fs::write(home.join(".aws/config"), config).unwrap();
        let region = [("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")];
        Self { home, variables: region.map(|(name, value)| (name.to_owned(), value.to_owned())).into() }
    }

    fn with(mut self, variables: &[(&str, &str)]) -> Self {
        self.variables.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// A program of this name that a shell finds first.
    fn having(self, name: &str, script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ec2-isolation"));
        command.args(arguments).env_clear().env("HOME", &self.home);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.home.join("bin").display()));
        command.envs(self.variables.clone());
        command
    }

    async fn runs(&self, arguments: &[&str]) -> Ran {
        let output = Command::from(self.command(arguments)).stdin(Stdio::null()).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// What AWS answers: who somebody is, and that nothing else is allowed. Status and body.
fn aws_says(request: &str) -> (u16, &'static str) {
    if request.contains("Action=GetCallerIdentity") {
        let known = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/x</Arn>\
            <UserId>x</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
        (200, known)
    } else {
        let denied = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
            <Message>nothing but who you are</Message></Error></ErrorResponse>";
        (403, denied)
    }
}
