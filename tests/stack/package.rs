//! What `make package` uploads, and what it prints.

use std::process::Command;

use crate::cloud;

/// With the SAM CLI's Python, as the Makefile does it.
fn python(arguments: &[&str]) -> String {
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
    let key = printed.split("--template-url ").nth(1).unwrap().split_whitespace().next().unwrap();
    let key = key.strip_prefix(&format!("https://{bucket}.s3.us-east-1.amazonaws.com/")).unwrap();
    let console = "https://us-east-1.console.aws.amazon.com/cloudformation/home?region=us-east-1#/stacks/create/review?templateURL=";
    let encoded = key.replace('/', "%2F");
    let address =
        format!("{console}https%3A%2F%2F{bucket}.s3.us-east-1.amazonaws.com%2F{encoded}&stackName=incident-42");
    assert!(printed.contains(&address), "{printed}\nnot: {address}");
    assert!(printed.contains("--capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --disable-rollback"), "{printed}");

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
