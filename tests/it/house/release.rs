//! What a release consists of: the workflow, the Makefile and the page agree, and what is packed is what was built. Building it takes an
//! hour, so no test does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of a variable of the Makefile.
fn variable(name: &str) -> BTreeSet<String> {
    let makefile = read("Makefile");
    let line = makefile.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap().split_once(":=").unwrap().1.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_workflow_builds_by_the_target_that_builds_anywhere() {
    let workflow = read(".github/workflows/release.yml");
    assert!(workflow.contains("tags: ['v*']") && workflow.contains("- run: make release\n"));
    assert!(workflow.contains("runner: [ubuntu-24.04, macos-15]"), "one for each half of the Makefile's target");
    assert_eq!(read("Makefile").matches("\nrelease: ").count(), 2);
    // Where the files come from can be proved, and what is in them is listed.
    let provenance = "subject-checksums: target/release-assets/SHA256SUMS";
    assert!(workflow.contains("uses: actions/attest-build-provenance@") && workflow.contains(provenance));
    assert!(workflow.contains("id-token: write") && workflow.contains("attestations: write"));
    let makefile = read("Makefile");
    let release = makefile.lines().find(|line| line.starts_with("release: ") && line.contains("ON_LINUX")).unwrap();
    assert!(release.contains(" build release-sbom "), "{release}");
    let uploaded = workflow.matches("target/release-assets").count();
    assert!(uploaded >= 4 && read("scripts/release.py").contains("target/release-assets"));
}

#[test]
fn the_page_names_each_program_of_a_release() {
    let page = read("CONTRIBUTING.md");
    let named: BTreeSet<_> = page
        .split("`ec2-isolation-…-")
        .skip(1)
        .map(|rest| rest.split_once('`').unwrap().0.to_owned())
        .filter(|name| {
            !["templates.zip", "function.zip", "program.cdx.json", "function.cdx.json"].contains(&name.as_str())
        })
        .collect();
    let ending = |target: &String| if target.contains("windows") { ".zip" } else { ".tar.gz" };
    let targets = variable("ON_LINUX").into_iter().chain(variable("ON_MAC"));
    assert_eq!(named, targets.map(|target| format!("{target}{}", ending(&target))).collect());
}

/// A tag of an action can be moved to anything.
#[test]
fn every_action_is_pinned_by_its_commit() {
    for workflow in ["ci", "release"] {
        let text = read(&format!(".github/workflows/{workflow}.yml"));
        for line in text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: ")) {
            let (_, commit) = line.split_once('@').unwrap();
            let (commit, version) = commit.split_once(" # v").unwrap_or_else(|| panic!("{workflow}: {line}"));
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{workflow}: {line}");
            assert_eq!(version.split('.').count(), 3, "{workflow}: {line}");
        }
    }
}

#[test]
fn the_workflows_build_with_the_oldest_rust_that_may_be_used() {
    let manifest = read("Cargo.toml");
    let oldest = manifest.split_once("rust-version = \"").unwrap().1.split('"').next().unwrap();
    for workflow in ["ci", "release"] {
        let text = read(&format!(".github/workflows/{workflow}.yml"));
        let found: BTreeSet<_> =
            text.split("toolchain install ").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
        assert_eq!(found, [oldest].into(), "{workflow}");
    }
}

/// `scripts/release.py` with these calls, into a folder of the test.
fn released(name: &str, calls: &str) -> PathBuf {
    let assets = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&assets);
    let script = format!(
        "import sys, pathlib; sys.path.insert(0, 'scripts'); sys.dont_write_bytecode = True; import release; \
         release.ASSETS = pathlib.Path(sys.argv[1]); {calls}"
    );
    let ran =
        Command::new("python3").args(["-c", &script]).arg(&assets).env("SOURCE_DATE_EPOCH", "1764039600").output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assets
}

/// Unpacked by what people have: the files, and which of them may be run.
#[test]
fn an_archive_of_the_program_holds_it_with_manual_completions_and_licences() {
    // The real one takes a minute to pack.
    let program = concat!(env!("CARGO_TARGET_TMPDIR"), "/stand-in");
    std::fs::write(program, "#!/bin/sh\necho ran $1\n").unwrap();
    let speaker = env!("CARGO_BIN_EXE_ec2-isolation");
    let calls = format!(
        "release.program('x86_64-unknown-linux-gnu', '{program}', '{speaker}'); \
         release.program('x86_64-pc-windows-gnu', '{program}', '{speaker}'); release.sums()"
    );
    let assets = released("release-program", &calls);
    let version = env!("CARGO_PKG_VERSION");
    let [linux, windows] = ["linux-gnu", "pc-windows-gnu"].map(|system| {
        format!("ec2-isolation-{version}-x86_64-{}{system}", if system == "linux-gnu" { "unknown-" } else { "" })
    });
    let sums = read(assets.join("SHA256SUMS").to_str().unwrap());
    assert_eq!(sums.lines().count(), 2, "{sums}");
    let run = |line: &str| {
        let ran = Command::new("sh").args(["-c", line]).current_dir(&assets).output().unwrap();
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    run("sha256sum --check --quiet SHA256SUMS");
    run(&format!("tar --extract --file {linux}.tar.gz"));
    assert_eq!(run(&format!("./{linux}/ec2-isolation --version")), "ran --version\n");
    run(&format!("python3 -c \"import shutil; shutil.unpack_archive('{windows}.zip')\""));
    for (whole, binary) in [(&linux, "ec2-isolation"), (&windows, "ec2-isolation.exe")] {
        let file =
            |name: &str| std::fs::read(assets.join(whole).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file(binary), std::fs::read(program).unwrap());
        for name in ["LICENSE-APACHE", "LICENSE-MIT", "README.md"] {
            assert_eq!(file(name), std::fs::read(name).unwrap(), "{name}");
        }
        for (name, word) in [
            ("bash", "complete -F"),
            ("fish", "complete -c"),
            ("ps1", "Register-ArgumentCompleter"),
            ("zsh", "#compdef"),
        ] {
            let text = String::from_utf8(file(&format!("completions/ec2-isolation.{name}"))).unwrap();
            assert!(text.contains(word) && text.contains("isolate"), "{name}: {text}");
        }
        assert!(String::from_utf8(file("ec2-isolation.1")).unwrap().contains(".TH ec2-isolation 1"));
    }
    // Packed again, later: the same byte by byte.
    let again = released("release-program-again", &calls);
    assert_eq!(read(again.join("SHA256SUMS").to_str().unwrap()), sums);
}

/// The list of what is in there has no line for itself, also the second time.
#[test]
fn checksums_are_of_every_file_but_their_own_and_say_when_one_was_changed() {
    let assets =
        released("release-sums", "release.put('b', b'two'); release.put('a', b'one'); release.sums(); release.sums()");
    let one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed  a";
    let two = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3  b";
    assert_eq!(read(assets.join("SHA256SUMS").to_str().unwrap()), format!("{one}\n{two}\n"));
    std::fs::write(assets.join("b"), "three").unwrap();
    let check =
        Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&assets).output().unwrap();
    assert!(!check.status.success() && String::from_utf8_lossy(&check.stdout).contains("b: FAILED"), "{check:?}");
}
