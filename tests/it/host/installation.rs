//! SIFT is installed once; each failure is named, and made up for by the next run.

use super::{Host, sha256};
use crate::template::Stack;

const ISOLATION_STANDS: &str = "The isolation is not affected: ssh to the isolated instances goes through.";
const TWO_OF_THREE: &str = "local:\n  a:\n    result: true\n  b:\n    result: false\n  c:\n    result: false\n";

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

/// Whoever is logged in may be gone by then, or refuse messages.
#[test]
fn an_installation_is_no_failure_because_nobody_can_be_told() {
    let host = Host::booted("unheard", &[]);
    host.fail("wall *");
    assert_eq!(host.tick(), "installed", "{}", host.read("var/log/forensic-host.log"));
    host.assert_says("SIFT v2026.03.24 is installed.");
    assert!(!host.read("dev/console").contains("NOT installed"), "{}", host.read("dev/console"));
    assert_eq!(host.read("heard"), "");
}

/// A console that is busy, and a disk that is full, for one thing after the other.
#[test]
fn an_installation_goes_on_though_nothing_can_be_said() {
    for mute in ["dev/console", "var/lib/forensic-host/state", "var/lib/forensic-host/said", "etc/motd"] {
        let host = Host::booted("mute", &[]);
        std::fs::create_dir_all(host.path("var/lib/forensic-host")).unwrap();
        match mute {
            "etc/motd" => std::fs::create_dir_all(host.path(mute)).unwrap(),
            _ => std::os::unix::fs::symlink("/dev/full", host.path(mute)).unwrap(),
        }
        let output = host.run("usr/local/sbin/forensic-host", &[]);
        let log = host.read("var/log/forensic-host.log");
        assert!(output.status.success() && !log.contains("NOT installed"), "{mute}: {output:?} {log}");
        assert_eq!(host.called("cast "), 1, "{mute}: {log}");
        assert!(host.path("var/lib/forensic-host/ended").exists(), "{mute}: {log}");
        if mute != "etc/motd" {
            host.assert_says("SIFT v2026.03.24 is installed.");
        }
    }
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
