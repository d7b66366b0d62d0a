//! What is not what its publisher signed, or not what a checksum says, is not installed.

use std::process::Command;

use super::{Host, fixture, sha256};

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
