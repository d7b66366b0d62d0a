//! The scripts of the forensic host, as they stand in the template, run in a scratch root: systemd's, apt's and the network's part
//! is played by a stand-in (`stand-in.sh`), signatures are checked with the real `ar`, `gpgv` and `openssl`.
//!
//! The downloads in `downloads/` are made as the publishers make theirs, and signed with keys made for it: cast.deb by
//! `ar q cast.deb _gpgorigin` with a signature over its three parts, checksums.txt by `openssl dgst -sha256 -sign`.

mod installation;
mod signatures;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::template::Stack;

const STAND_INS: [&str; 8] = ["apt-get", "cast", "cloud-init", "curl", "python3", "sleep", "systemctl", "wall"];

struct Host {
    root: PathBuf,
}

impl Host {
    /// A host after its first boot: user data has run, nothing else.
    fn booted(name: &str, parameters: &[(&str, &str)]) -> Self {
        let root = std::env::current_dir().unwrap().join("target/forensic-host").join(name);
        let _ = std::fs::remove_dir_all(&root);
        let host = Self { root };
        for folder in [
            "usr/local/lib",
            "usr/local/sbin",
            "etc/systemd/system",
            "etc/ssh",
            "dev",
            "root/.ssh",
            "var/log",
            "downloads",
        ] {
            std::fs::create_dir_all(host.path(folder)).unwrap();
        }
        let stand_in = host.rooted(include_str!("stand-in.sh"));
        for name in STAND_INS {
            host.write(&format!("usr/local/bin/{name}"), &stand_in);
        }
        for name in ["cast.deb", "sift.tar.gz", "checksums.txt", "checksums.txt.sig"] {
            let to = match name {
                "cast.deb" => "cast-v1.0.30-linux-amd64.deb",
                "sift.tar.gz" => "v2026.03.24",
                other => other,
            };
            std::fs::copy(fixture(name), host.path("downloads").join(to)).unwrap();
        }
        host.write("patience", "1000");
        host.write("cast-result", "0");
        host.write("results.yaml", "local:\n  a:\n    result: true\n");
        host.fail("");
        let stack = Stack::new(parameters);
        host.write_metadata(&stack);
        let resource = &stack.resources["ForensicInstance"];
        let user_data = resource["Properties"]["UserData"].as_str().unwrap();
        host.write("user-data", &host.rooted(user_data));
        let output = host.run("user-data", &[]);
        assert!(output.status.success(), "{output:?}");
        host
    }

    /// What cfn-init puts in place, with the keys that sign the downloads of these tests.
    fn write_metadata(&self, stack: &Stack) {
        let init = &stack.resources["ForensicInstance"]["Metadata"]["AWS::CloudFormation::Init"]["config"];
        for (path, file) in init["files"].as_object().unwrap() {
            let content = self.rooted(file["content"].as_str().unwrap());
            self.write(&format!("metadata{path}"), &content);
        }
        let command = &init["commands"]["install-sift"]["command"];
        assert_eq!(command, &Value::from("/usr/local/sbin/install-sift"), "the stand-in of cfn-init runs that one");
        for key in ["cast.gpg", "sift.pem"] {
            std::fs::copy(fixture(key), self.path("metadata/etc/forensic-host").join(key)).unwrap();
        }
    }

    /// The publishers' own keys, as they stand in the template: nothing here is signed with them.
    fn with_real_keys(&self) {
        let stack = Stack::new(&[]);
        let files = &stack.resources["ForensicInstance"]["Metadata"]["AWS::CloudFormation::Init"]["config"]["files"];
        for key in ["cast.gpg", "sift.pem"] {
            let file = &files[&format!("/etc/forensic-host/{key}")];
            let path = self.path("metadata/etc/forensic-host").join(key);
            std::fs::write(&path, file["content"].as_str().unwrap()).unwrap();
            if file["encoding"] == "base64" {
                let decoded = Command::new("base64").arg("--decode").arg(&path).output().unwrap();
                assert!(decoded.status.success());
                std::fs::write(&path, decoded.stdout).unwrap();
            }
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A script whose absolute paths begin at the scratch root.
    fn rooted(&self, script: &str) -> String {
        let mut script = script.to_owned();
        for path in ["/usr/local/", "/etc/", "/var/", "/opt/", "/dev/console", "/root", "/home/"] {
            script = script.replace(path, &format!("@ROOT@{path}"));
        }
        script.replace("@ROOT@@ROOT@", "@ROOT@").replace("@ROOT@", self.root.to_str().unwrap())
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.path("usr/local/bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg(self.path(script)).args(arguments).env("PATH", path).env_remove("SERVICE_RESULT");
        command.current_dir(&self.root).output().unwrap()
    }

    /// Calls that match one of these lines fail from now on.
    fn fail(&self, patterns: &str) {
        let lines = if patterns.is_empty() { String::new() } else { format!("{patterns}\n") };
        self.write("fail", &lines);
    }

    /// The timer's run, and what systemd calls at its end.
    fn tick(&self) -> String {
        let output = self.run("usr/local/sbin/forensic-host", &[]);
        self.write("var/log/last-run", &format!("{output:?}"));
        self.ended(if output.status.success() { "success" } else { "exit-code" });
        self.read("var/lib/forensic-host/state").trim().to_owned()
    }

    fn ended(&self, result: &str) {
        let mut command = Command::new("bash");
        command.arg(self.path("usr/local/sbin/forensic-host")).arg("ended").env("SERVICE_RESULT", result);
        let path = format!("{}:{}", self.path("usr/local/bin").display(), std::env::var("PATH").unwrap());
        let output = command.env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn called(&self, start: &str) -> usize {
        self.read("calls").lines().filter(|line| line.starts_with(start)).count()
    }

    #[track_caller]
    fn assert_says(&self, text: &str) {
        let motd = self.read("etc/motd");
        assert!(motd.contains("FORENSIC HOST of stack incident-42"), "{motd}");
        let logs = || format!("{}\n{}", self.read("var/log/forensic-host.log"), self.read("var/log/last-run"));
        assert!(motd.contains(text), "{motd}\nnot: {text}\n{}", logs());
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from("tests/it/host/downloads").join(name)
}

fn sha256(name: &str) -> String {
    let output = Command::new("sha256sum").arg(fixture(name)).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}
