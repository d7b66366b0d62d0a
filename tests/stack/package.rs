//! What `make package` uploads, and what it prints.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::operator::{operator, status_ends_with as status};
use crate::{Scene, cloud};

/// With the SAM CLI's Python, as the Makefile does it.
fn python(arguments: &[&str]) -> String {
    // What is packaged goes by way of one folder.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new("target/venv/sam/bin/python")
        .args(arguments)
        .envs(cloud().credentials())
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("SAM_CLI_TELEMETRY", "0")
        .output()
        .expect("`make tools` installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_package_is_uploaded_and_opens_in_the_console_and_with_the_cli() {
    let bucket = "ir-templates-of-the-test";
    python(&["-c", &format!("import boto3; boto3.client('s3').create_bucket(Bucket='{bucket}')")]);
    let program = env!("CARGO_BIN_EXE_ec2-isolation");
    let printed = python(&["scripts/package.py", bucket, program]);
    // Each template by its address: with the AWS CLI, and in the console's wizard, which asks for the stack failure options.
    let keys = ["responder", "responder-plain", "incident", "host", "template", "credentials"].map(|template| {
        let start = format!("https://{bucket}.s3.us-east-1.amazonaws.com/ec2-isolation/{template}-");
        let digests = printed.match_indices(&start).map(|(at, _)| &printed[at + start.len()..]);
        let digest = digests.filter_map(|rest| rest.get(..16)).find(|digest| digest.chars().all(|c| c.is_ascii_hexdigit()));
        let kind = if template == "responder-plain" { "json" } else { "yaml" };
        let key = format!("ec2-isolation/{template}-{}.{kind}", digest.unwrap_or_else(|| panic!("{template}: {printed}")));
        if !template.starts_with("responder") {
            let wizard = "https://us-east-1.console.aws.amazon.com/cloudformation/home?region=us-east-1#/stacks/create/template?templateURL=";
            let encoded = key.replace('/', "%2F");
            let address = format!("{wizard}https%3A%2F%2F{bucket}.s3.us-east-1.amazonaws.com%2F{encoded}&stackName=incident-42");
            assert!(printed.contains(&address), "{printed}\nnot: {address}");
        }
        key
    });
    assert!(printed.contains("--capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --disable-rollback"), "{printed}");

    let body = |key: &str| {
        let read = format!(
            "import boto3; print(boto3.client('s3').get_object(Bucket='{bucket}', Key='{key}')['Body'].read().decode())"
        );
        python(&["-c", &read])
    };
    // Without a transform, for a service-managed StackSet; the function as it was built.
    let plain: serde_json::Value = serde_json::from_str(&body(&keys[1])).unwrap();
    assert_eq!(plain.get("Transform"), None);
    let function = &plain["Resources"]["IsolationFunction"];
    assert_eq!(
        (function["Type"].as_str(), function["Properties"]["FunctionName"].as_str()),
        (Some("AWS::Lambda::Function"), Some("ec2-isolation"))
    );
    assert_eq!(function["Properties"]["Code"]["S3Bucket"], bucket);
    assert_eq!(body(&keys[2]).trim(), std::fs::read_to_string("incident.yaml").unwrap().trim());
    let key = &keys[4];
    let read = format!(
        "import boto3; print(boto3.client('s3').get_object(Bucket='{bucket}', Key='{key}')['Body'].read().decode())"
    );
    let template = python(&["-c", &read]);
    // Function, licence and readme are uploaded: no path of the machine that built it is left.
    for uploaded in ["CodeUri: s3://ir-templates-of-the-test/ec2-isolation/", "LicenseUrl: s3://", "ReadmeUrl: s3://"] {
        assert!(template.contains(uploaded), "{uploaded}");
    }
    assert_eq!(python(&["scripts/package.py", bucket, program]), printed, "the same build is the same template");

    // What it prints brings the operator's program to wherever the operator is.
    let fetch = printed.lines().find(|line| line.contains("aws s3 cp")).expect("a command").trim();
    let fetch = fetch.split(" && ./").next().unwrap();
    let there = "target/stack/fetched";
    std::fs::create_dir_all(there).unwrap();
    crate::operator::run(&format!("cd {there} && {fetch} && ./ec2-isolation --version"))
        .ends_with(0)
        .says("ec2-isolation ");
}

/// The address of the one-shot template, in a bucket of this name.
fn one_shot(bucket: &str) -> String {
    python(&["-c", &format!("import boto3; boto3.client('s3').create_bucket(Bucket='{bucket}')")]);
    // Any file stands for the program.
    let printed = python(&["scripts/package.py", bucket, "README.md"]);
    let start = format!("https://{bucket}.s3.us-east-1.amazonaws.com/ec2-isolation/template-");
    let rest = printed.split_once(&start).unwrap_or_else(|| panic!("{printed}")).1;
    format!("{start}{}.yaml", rest.split_once(".yaml").expect("a template").0)
}

/// `isolate --template-url`: function, table and forensic host in the incident's own stack, whether there is a responder or not.
#[tokio::test]
async fn the_packaged_template_isolates_without_a_responder() {
    let scene = Scene::new("cli-url").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    let before = scene.cards(&[&a, &b]).await;
    let url = one_shot("ir-one-shot-of-the-test");
    let isolate = ["isolate", &a, "--stack", "cli-url", "--template-url", &url, "--yes"];
    // Its forensic host needs more than an alert says: nothing is made.
    operator(&isolate).ends_with(1).says("the stack cannot be made: ").says("ForensicSubnetId");
    operator(&["status", "--stack", "cli-url"]).ends_with(3).says("there is no stack cli-url");
    let parameters = ["ForensicSubnetId", "Ec2KeyName", "CompanyIp", "HoldSeconds"];
    let parameters = parameters.map(|name| format!("{name}={}", scene.incident.parameters()[name]));
    let parameters: Vec<&str> = parameters.iter().flat_map(|one| ["--parameter", one]).collect();
    operator(&[&isolate[..], &parameters].concat())
        .ends_with(0)
        .says("ISOLATED, as EC2 shows it: 1 of 1 instance (1 interface).");
    scene.assert_isolated(&[&a]).await;
    let shown = status("cli-url", 0);
    assert!(shown["table"].as_str().unwrap().starts_with("cli-url-SecurityGroupTable-"), "{shown}");
    assert_eq!(shown["stack"]["works"], true);
    // A second one goes into it without its address, and keeps its template and parameters.
    operator(&["isolate", &b, "--stack", "cli-url", "--yes"]).ends_with(0).says("2 of 2 instances (2 interfaces)");
    assert_eq!(scene.incident.outputs().await["IsolatedInstanceCount"], "2");
    operator(&["restore", "--stack", "cli-url", "--finish", "--yes"]).ends_with(0).says("stack cli-url is deleted");
    assert_eq!(scene.cards(&[&a, &b]).await, before);
}

/// What `make release` makes of templates and function, in a folder of the test.
#[test]
fn the_templates_of_a_release_name_the_function_beside_them() {
    let assets = std::path::absolute("target/stack/release-assets").unwrap();
    let _ = std::fs::remove_dir_all(&assets);
    let script = "import sys, pathlib; sys.path.insert(0, 'scripts'); import release; \
        release.ASSETS = pathlib.Path(sys.argv[1]); release.function(); release.sums()";
    let digests = |()| {
        python(&["-c", script, assets.to_str().unwrap()]);
        std::fs::read_to_string(assets.join("SHA256SUMS")).unwrap()
    };
    let first = digests(());
    assert_eq!(digests(()), first, "what is packed twice is the same byte by byte");
    let version = env!("CARGO_PKG_VERSION");
    let whole = format!("ec2-isolation-{version}-templates");
    let names: Vec<&str> = first.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    assert_eq!(names, [format!("ec2-isolation-{version}-function.zip"), format!("{whole}.zip")]);
    let unpack = format!("import shutil; shutil.unpack_archive('{whole}.zip')");
    let unpacked = Command::new("python3").args(["-c", &unpack]).current_dir(&assets).status().unwrap();
    assert!(unpacked.success());
    let read = |name: &str| std::fs::read_to_string(assets.join(&whole).join(name)).unwrap();
    for name in ["template.yaml", "responder.yaml"] {
        let text = read(name);
        assert_eq!(text.matches("CodeUri: function.zip\n").count(), 1, "{name}");
    }
    for name in ["incident.yaml", "host.yaml", "credentials.yaml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        assert_eq!(read(name), std::fs::read_to_string(name).unwrap(), "{name}");
    }
    let plain: serde_json::Value = serde_json::from_str(&read("responder-plain.json")).unwrap();
    let function = &plain["Resources"]["IsolationFunction"];
    assert_eq!(plain.get("Transform"), None);
    assert_eq!(
        (function["Type"].as_str(), function["Properties"]["Code"].as_str()),
        (Some("AWS::Lambda::Function"), Some("function.zip"))
    );
    // The AWS CLI packages it: what it uploads is the function as it was built.
    let bucket = "ir-release-of-the-test";
    python(&["-c", &format!("import boto3; boto3.client('s3').create_bucket(Bucket='{bucket}')")]);
    let folder = assets.join(&whole);
    for template in ["responder-plain.json", "responder.yaml", "template.yaml"] {
        let package = format!(
            "aws cloudformation package --template-file {template} --s3-bucket {bucket} --output-template-file packaged-{template}"
        );
        crate::operator::run(&format!("cd {} && {package}", folder.display())).ends_with(0);
        let packaged = read(&format!("packaged-{template}"));
        assert!(packaged.contains(bucket), "{template}: {packaged}");
    }
}
