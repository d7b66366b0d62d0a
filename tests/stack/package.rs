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
