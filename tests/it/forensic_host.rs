//! The scripts of the forensic host, as they stand in the template, run in a scratch root: systemd's, apt's and the network's part
//! is played by a stand-in (`forensic_host/stand-in.sh`), signatures are checked with the real `ar`, `gpgv` and `openssl`.
//!
//! The downloads in `forensic_host/` are made as the publishers make theirs, and signed with keys made for it: cast.deb by
//! `ar q cast.deb _gpgorigin` with a signature over its three parts, checksums.txt by `openssl dgst -sha256 -sign`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::template::Stack;

const STAND_INS: [&str; 8] = ["apt-get", "cast", "cloud-init", "curl", "python3", "sleep", "systemctl", "wall"];
const ISOLATION_STANDS: &str = "The isolation is not affected: ssh to the isolated instances goes through.";
const TWO_OF_THREE: &str = "local:\n  a:\n    result: true\n  b:\n    result: false\n  c:\n    result: false\n";

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
        let stand_in = host.rooted(include_str!("forensic_host/stand-in.sh"));
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
    PathBuf::from("tests/it/forensic_host").join(name)
}

#[test]
fn sift_is_installed_from_what_was_verified_and_only_once() {
    let host = Host::booted("installed", &[]);
    assert_eq!(host.called("systemctl enable --now forensic-host.timer"), 1);
    assert_eq!(host.tick(), "installed", "{}", host.read("var/log/forensic-host.log"));
    host.assert_says("SIFT v2026.03.24 is installed.");
    let calls = host.read("calls");
    let cast: Vec<_> = calls.lines().filter(|line| line.starts_with("cast ")).collect();
    assert_eq!(cast.len(), 1);
    assert!(
        cast[0].starts_with("cast install --mode=server --user ubuntu /") && cast[0].ends_with("/sift"),
        "{cast:?}"
    );
    // The last line of the console is the one that counts.
    let console = host.read("dev/console");
    assert!(console.ends_with(" installed: SIFT v2026.03.24 is installed.\n"), "{console}");
    assert_eq!(host.read("heard").matches("is installed.").count(), 1, "who is logged in hears of it");

    assert_eq!(host.tick(), "installed");
    assert_eq!((host.called("cast "), host.called("curl "), host.called("cfn-init ")), (1, 3 + 1, 2));
    assert_eq!(host.read("heard").matches("is installed.").count(), 1);
}

#[test]
fn a_change_of_the_metadata_installs_anew_on_the_host_that_is_there() {
    let host = Host::booted("changed", &[]);
    assert_eq!(host.tick(), "installed");
    let checksum = sha256("sift.tar.gz");
    host.write_metadata(&Stack::new(&[("SiftSha256", &checksum)]));
    assert_eq!(host.tick(), "installed");
    assert_eq!(host.called("cast "), 2);
    assert_eq!(host.tick(), "installed");
    assert_eq!(host.called("cast "), 2);
}

fn sha256(name: &str) -> String {
    let output = Command::new("sha256sum").arg(fixture(name)).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

/// Each step fails in turn: the reason names it, nothing after it is done, and once the cause is gone the next run installs.
#[test]
fn each_step_that_fails_is_named_and_made_up_for() {
    let helper = "CloudFormation's helper could not be fetched; is there a way to the internet?";
    for (step, reason) in [
        ("apt-get*update", helper),
        ("apt-get*python3-venv", helper),
        ("python3 *", helper),
        ("pip install *", helper),
        ("cfn-init *", "CloudFormation did not say what to install"),
        ("apt-get update", "could not install the tools that check signatures"),
        ("apt-get install -y binutils gpgv openssl", "could not install the tools that check signatures"),
        ("curl *.deb", "could not download cast"),
        ("curl */legacy.tar.gz/*", "could not download SIFT"),
        ("curl *checksums.txt", "could not download the checksums of SIFT"),
        ("curl *checksums.txt.sig", "could not download the checksums of SIFT"),
        ("apt-get install -y ./cast-v1.0.30-linux-amd64.deb", "could not install cast"),
        ("cast *", "cast ended with 7 and had installed nothing"),
    ] {
        let host = Host::booted("steps", &[]);
        host.fail(step);
        assert_eq!(host.tick(), "failed", "{step}");
        host.assert_says(&format!("SIFT is NOT installed: {reason}."));
        host.assert_says(ISOLATION_STANDS);
        host.assert_says("It is tried again every 15 minutes. Now: sudo systemctl start --no-block forensic-host");
        let console = host.read("dev/console");
        assert!(console.ends_with(&format!(" failed: SIFT is NOT installed: {reason}.\n")), "{console}");
        if step != "cast *" {
            assert_eq!(host.called("cast "), 0, "{step}");
        }
        assert_eq!(host.tick(), "failed", "{step}");
        assert_eq!(host.read("heard").matches(reason).count(), 1, "{step}: it is said aloud once");
        host.fail("");
        assert_eq!(host.tick(), "installed", "{step}: {}", host.read("var/log/forensic-host.log"));
    }
}

#[test]
fn a_lock_of_apt_and_a_network_that_comes_late_are_waited_for() {
    for late in [
        "apt-get -o *update",
        "apt-get -o *python3-venv",
        "pip install *",
        "apt-get update",
        "apt-get install -y binutils gpgv openssl",
        "apt-get install -y ./*",
    ] {
        let host = Host::booted("late", &[]);
        host.fail(late);
        host.write("patience", "3");
        assert_eq!(host.tick(), "installed", "{late}");
        let calls = host.read("calls");
        let pauses: Vec<_> = calls.lines().filter(|line| line.starts_with("sleep")).collect();
        assert_eq!(pauses, ["sleep 10", "sleep 20", "sleep 40"], "{late}");
        assert!(!host.read("dev/console").contains("failed"), "{late}");
    }
}

/// What is not what its publisher signed is not installed, whatever is wrong with it.
#[test]
fn nothing_is_installed_that_its_publisher_did_not_sign() {
    const DEB: &str = "downloads/cast-v1.0.30-linux-amd64.deb";
    type Tamper = (&'static str, &'static str, &'static dyn Fn(&Host));
    let tamper: [Tamper; 9] = [
        ("other-key", "cast-v1.0.30-linux-amd64.deb", &|host| host.with_real_keys()),
        ("other-key-of-sift", "SIFT v2026.03.24", &|host| {
            host.with_real_keys();
            std::fs::copy(fixture("cast.gpg"), host.path("metadata/etc/forensic-host/cast.gpg")).unwrap();
        }),
        ("changed", "cast-v1.0.30-linux-amd64.deb", &|host| {
            let mut bytes = std::fs::read(host.path(DEB)).unwrap();
            // In the middle of data.tar.gz.
            let at = bytes.windows(4).position(|window| window == b"data").unwrap() + 80;
            bytes[at] ^= 1;
            std::fs::write(host.path(DEB), bytes).unwrap();
        }),
        ("unsigned", "cast-v1.0.30-linux-amd64.deb", &|host| ar(host, &["d", DEB, "_gpgorigin"])),
        // dpkg takes the first of two, a careless check the last.
        ("twice", "cast-v1.0.30-linux-amd64.deb", &|host| {
            host.write("data.tar.gz", "evil");
            ar(host, &["qa", "control.tar.gz", DEB, "data.tar.gz"]);
            ar(host, &["q", DEB, "data.tar.gz"]);
        }),
        ("more", "cast-v1.0.30-linux-amd64.deb", &|host| {
            host.write("more.tar.gz", "evil");
            ar(host, &["rb", "_gpgorigin", DEB, "more.tar.gz"]);
        }),
        ("no-archive", "cast-v1.0.30-linux-amd64.deb", &|host| host.write(DEB, "<html>")),
        ("sift-changed", "SIFT v2026.03.24", &|host| host.write("downloads/v2026.03.24", "evil")),
        ("list-changed", "SIFT v2026.03.24", &|host| {
            let more = host.read("downloads/checksums.txt") + "00 evil\n";
            host.write("downloads/checksums.txt", &more);
        }),
    ];
    for (name, what, tamper) in tamper {
        let host = Host::booted(&format!("refused-{name}"), &[]);
        tamper(&host);
        assert_eq!(host.tick(), "failed", "{name}");
        host.assert_says(&format!("SIFT is NOT installed: {what} is not what its publisher signed, or not what "));
        host.assert_says("then set ");
        assert_eq!((host.called("cast "), host.called("apt-get install -y ./")), (0, 0), "{name}");
    }
}

fn ar(host: &Host, arguments: &[&str]) {
    let output = Command::new("ar").args(arguments).current_dir(&host.root).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A checksum that was given is asked for instead of the signature.
#[test]
fn a_checksum_that_is_given_decides() {
    let (cast, sift) = (sha256("cast.deb"), sha256("sift.tar.gz"));
    let host = Host::booted("checksums", &[("CastSha256", &cast), ("SiftSha256", &sift)]);
    host.with_real_keys();
    assert_eq!(host.tick(), "installed", "{}", host.read("var/log/forensic-host.log"));
    for (name, parameters, parameter) in [
        ("wrong-cast", [("CastSha256", &sift), ("SiftSha256", &sift)], "CastSha256"),
        ("wrong-sift", [("CastSha256", &cast), ("SiftSha256", &cast)], "SiftSha256"),
    ] {
        let host = Host::booted(name, &parameters.map(|(name, value)| (name, value.as_str())));
        assert_eq!(host.tick(), "failed");
        host.assert_says(&format!(" is not what its publisher signed, or not what {parameter} says."));
        assert_eq!((host.called("cast "), host.called("apt-get install -y ./")), (0, 0), "{name}");
    }
}

#[test]
fn parts_that_failed_are_counted_and_not_tried_again_by_themselves() {
    let host = Host::booted("incomplete", &[]);
    host.write("cast-result", "1");
    host.write("results.yaml", TWO_OF_THREE);
    for _ in 0..2 {
        assert_eq!(host.tick(), "incomplete");
        host.assert_says("SIFT v2026.03.24 is installed, but 2 of its 3 parts failed.");
        assert_eq!(host.called("cast "), 1);
    }
    // What the message says to do.
    std::fs::remove_file(host.path("var/lib/forensic-host/ended")).unwrap();
    host.write("cast-result", "0");
    assert_eq!(host.tick(), "installed");
}

#[test]
fn an_installation_that_hung_is_stopped_and_left_and_one_that_a_reboot_cut_off_is_begun_anew() {
    let host = Host::booted("hung", &[]);
    host.write("cast-result", "1");
    host.write("results.yaml", "");
    assert_eq!(host.tick(), "failed");
    assert!(host.path("var/lib/forensic-host/begun").exists());
    // A reboot: systemd ends it with a signal.
    host.ended("signal");
    host.write("cast-result", "0");
    assert_eq!(host.tick(), "installed");

    let host = Host::booted("hung", &[]);
    host.write("cast-result", "1");
    host.write("results.yaml", "");
    host.tick();
    host.ended("timeout");
    host.assert_says("SIFT is NOT installed: the installation took more than two hours and was stopped.");
    let said = host.read("etc/motd");
    let runs = host.called("cast ");
    host.tick();
    assert_eq!((host.called("cast "), host.read("etc/motd")), (runs, said));
    let service = host.read("etc/systemd/system/forensic-host.service");
    assert!(service.contains("\nTimeoutStartSec=2h\n") && service.contains("/forensic-host ended\n"), "{service}");
}

#[test]
fn a_host_whose_stack_does_not_answer_keeps_what_it_said_of_sift() {
    let host = Host::booted("quiet", &[]);
    assert_eq!(host.tick(), "installed");
    let said = host.read("etc/motd");
    host.fail("cfn-init *");
    assert_eq!(host.tick(), "installed");
    assert_eq!(host.read("etc/motd"), said);
}

#[test]
fn a_finished_host_becomes_an_image_and_an_unfinished_one_does_not() {
    let host = Host::booted("image", &[]);
    host.fail("curl *");
    assert_eq!(host.tick(), "failed");
    let refused = host.run("usr/local/sbin/seal-image", &[]);
    assert!(!refused.status.success() && host.path("etc/systemd/system/forensic-host.timer").exists());
    assert_eq!(host.called("systemctl poweroff"), 0);

    host.fail("");
    assert_eq!(host.tick(), "installed");
    host.write("etc/ssh/ssh_host_rsa_key", "secret");
    host.write("root/.ssh/authorized_keys", "key");
    host.write("home/ubuntu/.ssh/authorized_keys", "key");
    let sealed = host.run("usr/local/sbin/seal-image", &[]);
    assert!(sealed.status.success(), "{sealed:?}");
    for gone in [
        "etc/systemd/system/forensic-host.timer",
        "etc/systemd/system/forensic-host.service",
        "var/lib/forensic-host",
        "etc/ssh/ssh_host_rsa_key",
        "root/.ssh/authorized_keys",
        "home/ubuntu/.ssh/authorized_keys",
    ] {
        assert!(!host.path(gone).exists(), "{gone}");
    }
    assert!(host.read("calls").ends_with("cloud-init clean --logs --machine-id\nsystemctl poweroff\n"));
}
