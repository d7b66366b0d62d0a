//! `make build` in a scratch folder, with a stand-in for the SAM CLI: however a build ends, the last good one stays.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// `sam build`, which writes where it is told to, as the real one does: into an empty folder, the template last.
const SAM: &str = r#"#!/bin/sh
PATH=${PATH#*:}
folder=.aws-sam/build
while [ $# -gt 0 ]; do
    if [ "$1" = --build-dir ]; then folder=$2; fi
    shift
done
rm -rf "$folder"
mkdir -p "$folder/IsolationFunction"
echo "$VERSION" > "$folder/IsolationFunction/bootstrap"
sh -c "$HALF_WAY" || exit 1
echo "$VERSION" > "$folder/template.yaml"
"#;

/// `mv` or `rm`, which gets half of its work done at call number $DIES_AT, and takes the shell that called it along.
const DIES: &str = r#"#!/bin/sh
n=$(($(cat calls) + 1))
echo $n > calls
PATH=${PATH#*:}
if [ $n = "$DIES_AT" ]; then
    for last; do :; done
    case $0 in */rm) rm -rf "$last/IsolationFunction" ;; esac
    kill -KILL $PPID
    exit 1
fi
exec "${0##*/}" "$@"
"#;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let root = std::env::current_dir().unwrap().join("target/make-build").join(name);
        let _ = fs::remove_dir_all(&root);
        let scratch = Self(root);
        for file in ["Makefile", "samconfig.toml"] {
            scratch.write(file, &fs::read_to_string(file).unwrap());
        }
        for tools in ["", "-sam", "-aws", "-lint"] {
            scratch.write(&format!("local-aws/requirements{tools}.txt"), "");
        }
        for tools in ["cloud", "sam", "aws", "lint"] {
            scratch.write(&format!("target/venv/{tools}/ready"), "");
        }
        scratch.write("target/tools/chromium/ready", "");
        scratch.program("target/venv/sam/bin/sam", SAM);
        scratch
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn program(&self, path: &str, script: &str) {
        self.write(path, script);
        fs::set_permissions(self.0.join(path), Permissions::from_mode(0o755)).unwrap();
    }

    /// `mv` and `rm` die at their call number `n`.
    fn dies_at(&self, n: usize) -> String {
        self.write("calls", "0");
        for name in ["mv", "rm"] {
            self.program(&format!("target/venv/lint/bin/{name}"), DIES);
        }
        n.to_string()
    }

    /// `make build` of one version; whether it succeeds.
    fn make(&self, version: &str, variables: &[(&str, &str)]) -> bool {
        let mut make = Command::new("make");
        // A group of its own: what happens to it half-way is not to happen to the tests.
        make.arg("build").current_dir(&self.0).process_group(0);
        // Nothing of a `make` that runs the tests; and no tool is installed.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
        make.envs([("VERSION", version), ("HALF_WAY", ":"), ("PYTHON", "false")]).envs(variables.iter().copied());
        make.output().unwrap().status.success()
    }

    /// The version in a folder, template and function alike.
    fn version(&self, folder: &str) -> Option<String> {
        let read = |file: &str| fs::read_to_string(self.0.join(folder).join(file)).ok();
        let template = read("template.yaml")?;
        assert_eq!(read("IsolationFunction/bootstrap").as_ref(), Some(&template), "{folder} is whole");
        Some(template.trim().to_owned())
    }

    #[track_caller]
    fn assert_built(&self, version: &str) {
        assert_eq!(self.version(".aws-sam/build").as_deref(), Some(version));
        let names = fs::read_dir(self.0.join(".aws-sam")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["build"], "nothing else is left");
    }
}

/// Neither the sources, which could not start, nor a build that is not in place.
#[test]
fn what_is_deployed_is_what_make_build_has_put_in_place() {
    let says = |file: &str, line: &str| fs::read_to_string(file).unwrap().lines().any(|found| found.trim() == line);
    assert!(says("samconfig.toml", "template_file = \".aws-sam/build/template.yaml\""));
    assert!(says("responder.yaml", "CodeUri: .aws-sam/build/IsolationFunction"));
}

#[test]
fn a_build_that_fails_or_is_interrupted_keeps_the_last_one() {
    for (name, half_way) in [
        ("fails", "exit 1"),
        ("sam-is-killed", "kill -KILL $PPID"),
        // With everything that it runs, as by Ctrl-C.
        ("is-ended", "kill -TERM 0; exec sleep 60"),
        ("is-killed", "kill -KILL 0"),
    ] {
        let scratch = Scratch::new(name);
        assert!(!scratch.make("first", &[("HALF_WAY", half_way)]), "{name}");
        assert!(!scratch.0.join(".aws-sam/build").exists(), "{name}: half a build is not put in place");
        assert!(scratch.make("first", &[]));
        scratch.assert_built("first");
        assert!(!scratch.make("second", &[("HALF_WAY", half_way)]), "{name}");
        assert_eq!(scratch.version(".aws-sam/build").as_deref(), Some("first"), "{name}");
        assert!(scratch.make("third", &[]));
        scratch.assert_built("third");
    }
}

/// While it is put in place, too: there is never a template without its function, and one whole build remains.
#[test]
fn a_build_that_dies_at_any_step_of_its_way_into_place_is_made_good_by_the_next_one() {
    for n in 1.. {
        let scratch = Scratch::new(&format!("dies-{n}"));
        let remains = || scratch.version(".aws-sam/build").or_else(|| scratch.version(".aws-sam/last")).is_some();
        assert!(scratch.make("first", &[]));
        let is_built = scratch.make("second", &[("DIES_AT", &scratch.dies_at(n))]);
        assert!(remains(), "it died at call {n}");
        assert!(!scratch.make("third", &[("HALF_WAY", "exit 1")]));
        assert!(remains(), "it died at call {n}, and the next one failed");
        assert!(scratch.make("third", &[]), "it died at call {n}");
        scratch.assert_built("third");
        if is_built {
            assert!(n > 2, "it has died at each call");
            return;
        }
    }
}
