//! The shape of the source: what may name what.

use std::path::{Path, PathBuf};

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut paths = Vec::new();
    walk(Path::new("src"), &mut paths);
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The code without comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The files in which a word may stand; everywhere else it is a mistake.
fn only_in(word: &str, files: &[&str]) {
    for (path, text) in sources() {
        assert!(!code(&text).contains(word) || files.iter().any(|file| path.starts_with(file)), "{path} names {word}");
    }
}

fn is_in_a_pure_folder(path: &str) -> bool {
    path.starts_with("src/plan/") || path.starts_with("src/model/")
}

#[test]
fn the_core_knows_no_sdk_no_runtime_and_no_clock() {
    for (path, text) in sources() {
        let core = ["src/cloudformation/event.rs", "src/cloudformation/answer.rs"].contains(&path.as_str())
            || is_in_a_pure_folder(&path);
        for word in ["aws_", "tokio", "reqwest", "SystemTime", "Instant", "std::env", "std::fs", "async "] {
            assert!(!core || !code(&text).contains(word), "{path} names {word}");
        }
    }
}

#[test]
fn each_remote_api_is_named_in_one_file() {
    let (clients, of_operator) = ("src/aws/config.rs", "src/operator/aws/config.rs");
    only_in("aws_sdk_autoscaling", &["src/aws/autoscaling.rs", clients]);
    // The program asks more of these than the function does.
    only_in("aws_sdk_ec2", &["src/aws/ec2/", "src/operator/aws/ec2/", "src/aws/error.rs", clients]);
    only_in("aws_sdk_dynamodb", &["src/aws/dynamodb/", "src/operator/aws/dynamodb/", clients]);
    let stacks = ["src/aws/cloudformation.rs", "src/operator/aws/cloudformation.rs", clients];
    only_in("aws_sdk_cloudformation", &stacks);
    only_in("aws_sdk_cloudtrail", &["src/operator/aws/cloudtrail.rs", of_operator]);
    only_in("aws_sdk_ebs", &["src/operator/aws/ebs.rs", of_operator]);
    only_in("aws_sdk_elasticloadbalancingv2", &["src/operator/aws/balancing.rs", of_operator]);
    only_in("aws_sdk_iam", &["src/operator/aws/iam.rs", of_operator]);
    only_in("aws_sdk_sfn", &["src/operator/aws/step_functions.rs", of_operator]);
    only_in("aws_sdk_sts", &["src/operator/aws/sts.rs", "src/operator/aws/credentials.rs", of_operator]);
    only_in("reqwest", &["src/cloudformation/responder.rs"]);
    // And the width of a terminal.
    let own = "src/bin/ec2-isolation/main.rs";
    let files =
        ["src/aws/config.rs", "src/operator/aws/credentials.rs", "src/bin/bootstrap/log.rs", "src/lambda.rs", own];
    only_in("std::env", &files);
}

/// Each partition has a suffix of its own: the SDK knows it, and CloudFormation as `AWS::URLSuffix`.
#[test]
fn no_address_of_aws_is_written_down() {
    only_in("amazonaws", &[]);
}

/// The modules in the order of `lib.rs`, lowest first.
fn layers() -> Vec<String> {
    let lib = std::fs::read_to_string("src/lib.rs").unwrap();
    lib.lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.trim_end_matches(';').to_owned())).collect()
}

#[test]
fn an_import_goes_to_an_earlier_line_of_the_map_only() {
    let layers = layers();
    let lower = ["model", "plan", "ports", "timing", "observe", "execute", "reconcile", "metrics"];
    assert_eq!(layers, [&lower[..], &["cloudformation", "watch", "aws", "lambda", "operator"]].concat());
    let rank = |name: &str| layers.iter().position(|layer| layer == name);
    for (path, text) in sources() {
        let module = path.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned();
        if matches!(module.as_str(), "lib" | "bin") {
            continue;
        }
        let own = rank(&module).unwrap_or_else(|| panic!("{path}: a new folder joins the map"));
        let code = code(&text);
        let production = code.split("#[cfg(test)]\nmod tests").next().unwrap();
        for import in production.split("crate::").skip(1) {
            let name = import.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            assert!(rank(name).is_some_and(|rank| rank <= own), "{path} imports {name}");
        }
    }
}

#[test]
fn the_planner_imports_the_model_only() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("src/plan/")) {
        for line in code(text).lines().filter(|line| line.trim_start().starts_with("use crate::")) {
            let fine =
                ["use crate::model::", "use crate::plan::"].iter().any(|start| line.trim_start().starts_with(start));
            assert!(fine, "{path}: {line}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_can_be_read_in_one_sitting() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path} has no module text");
        assert!(text.lines().count() <= 600, "{path} has {} lines", text.lines().count());
    }
}

#[test]
fn a_panic_unwinds_in_the_release_profile() {
    let manifest = std::fs::read_to_string("Cargo.toml").unwrap();
    let (_, release) = manifest.split_once("[profile.release]").unwrap();
    assert!(release.contains("panic = \"unwind\""));
}

#[test]
fn no_file_of_the_repository_names_a_secret_url_in_a_log_line() {
    for (path, text) in sources() {
        for line in code(&text).lines().filter(|line| line.contains("tracing::")) {
            assert!(
                !line.contains("response_url") && !line.contains("payload") && !line.contains("?event"),
                "{path}: {line}"
            );
        }
    }
}
