//! What `make package` uploads and prints: addresses for the console, commands, and what makes a responder of a StackSet.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::beside::{RESPONDER, deploy_responder};
use crate::fleet::aws;
use crate::operator::{operator, run, status_ends_with as status};
use crate::prepared::without_host;
use crate::{Scene, cloud};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ec2-isolation");
/// One at a time: each writes to target/package.
static PACKAGING: Mutex<()> = Mutex::new(());

/// With the SAM CLI's Python, as the Makefile does it: whether it succeeded, and what it printed.
fn try_python(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("target/venv/sam/bin/python")
        .args(arguments)
        .envs(cloud().credentials())
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("SAM_CLI_TELEMETRY", "0")
        .output()
        .expect("`make tools` installs it");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { (true, out.into_owned()) } else { (false, format!("{out}{error}")) }
}

#[track_caller]
fn python(arguments: &[&str]) -> String {
    let (succeeded, text) = try_python(arguments);
    assert!(succeeded, "{text}");
    text
}

fn make_bucket(bucket: &str) {
    python(&["-c", &format!("import boto3; boto3.client('s3').create_bucket(Bucket='{bucket}')")]);
}

/// `make package`, with these parameters.
#[track_caller]
fn package(bucket: &str, parameters: &[&str]) -> String {
    let _guard = PACKAGING.lock().unwrap_or_else(PoisonError::into_inner);
    python(&[&["scripts/package.py", bucket, PROGRAM], parameters].concat())
}

/// Where a template was uploaded to, by what was printed.
#[track_caller]
fn key(printed: &str, bucket: &str, template: &str) -> String {
    let start = format!("https://{bucket}.s3.us-east-1.amazonaws.com/ec2-isolation/{template}-");
    let digests = printed.match_indices(&start).map(|(at, _)| &printed[at + start.len()..]);
    let digest = digests.filter_map(|rest| rest.get(..16)).find(|digest| digest.chars().all(|c| c.is_ascii_hexdigit()));
    let kind = if template == "responder-plain" { "json" } else { "yaml" };
    format!("ec2-isolation/{template}-{}.{kind}", digest.unwrap_or_else(|| panic!("{template}: {printed}")))
}

/// The lines of a printed step, below its heading.
#[track_caller]
fn step<'a>(printed: &'a str, heading: &str) -> &'a str {
    let (_, rest) = printed.split_once(heading).unwrap_or_else(|| panic!("{heading}: {printed}"));
    rest.split("\n\n").nth(1).expect("something stands below it").trim()
}

#[test]
fn the_package_is_uploaded_and_opens_in_the_console_and_with_the_cli() {
    let bucket = "ir-templates-of-the-test";
    make_bucket(bucket);
    let printed = package(bucket, &[]);
    let keys = ["responder", "responder-plain", "incident", "host", "template", "credentials"]
        .map(|template| key(&printed, bucket, template));
    assert!(printed.contains("--capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --disable-rollback"), "{printed}");

    let body = |key: &str| {
        let read = format!(
            "import boto3; print(boto3.client('s3').get_object(Bucket='{bucket}', Key='{key}')['Body'].read().decode())"
        );
        python(&["-c", &read])
    };
    // Without a transform, for a service-managed StackSet; the function as it was built.
    let plain: Value = serde_json::from_str(&body(&keys[1])).unwrap();
    assert_eq!(plain.get("Transform"), None);
    let function = &plain["Resources"]["IsolationFunction"];
    assert_eq!(
        (function["Type"].as_str(), function["Properties"]["FunctionName"].as_str()),
        (Some("AWS::Lambda::Function"), Some("ec2-isolation"))
    );
    assert_eq!(function["Properties"]["Code"]["S3Bucket"], bucket);
    assert_eq!(body(&keys[2]).trim(), std::fs::read_to_string("incident.yaml").unwrap().trim());
    let template = body(&keys[4]);
    // Function, licence and readme are uploaded: no path of the machine that built it is left.
    for uploaded in ["CodeUri: s3://ir-templates-of-the-test/ec2-isolation/", "LicenseUrl: s3://", "ReadmeUrl: s3://"] {
        assert!(template.contains(uploaded), "{uploaded}");
    }
    assert_eq!(package(bucket, &[]), printed, "the same build is the same template");

    // What it prints brings the operator's program to wherever the operator is.
    let fetch = printed.lines().find(|line| line.contains("aws s3 cp")).expect("a command").trim();
    let fetch = fetch.split(" && ./").next().unwrap();
    let there = "target/stack/fetched";
    std::fs::create_dir_all(there).unwrap();
    run(&format!("cd {there} && {fetch} && ./ec2-isolation --version")).ends_with(0).says("ec2-isolation ");
}

/// The wizard asks for the stack failure options. The quick-create page takes parameters, and always rolls back: that is for the
/// stacks that lose nothing by it.
#[test]
fn the_consoles_pages_are_those_that_can_do_what_each_stack_needs() {
    let bucket = "ir-console-of-the-test";
    make_bucket(bucket);
    let given = ["VpcId=vpc-1", "CompanyIp=203.0.113.7", "Ec2KeyName=key of ours", "RevokeRoles=web,batch"];
    let printed = package(bucket, &given);
    let page = |page: &str, template: &str| {
        let home = "https://us-east-1.console.aws.amazon.com/cloudformation/home?region=us-east-1#/stacks/create/";
        let url =
            format!("{bucket}.s3.us-east-1.amazonaws.com%2F{}", key(&printed, bucket, template).replace('/', "%2F"));
        let stack = match template {
            "incident" | "template" => "incident-42".to_owned(),
            other => format!("incident-42-{other}"),
        };
        format!("{home}{page}?templateURL=https%3A%2F%2F{url}&stackName={stack}")
    };
    for (heading, expected) in [
        ("An incident in the console, by the wizard.", page("template", "incident")),
        (
            "An incident in the console, on one page, with your parameters filled in.",
            page("review", "incident") + "&param_VpcId=vpc-1",
        ),
        (
            "Its forensic host, on one page, with your parameters filled in:",
            page("review", "host") + "&param_VpcId=vpc-1&param_CompanyIp=203.0.113.7&param_Ec2KeyName=key%20of%20ours",
        ),
        ("The stack that denies the credentials of its instances, by the wizard:", page("template", "credentials")),
        // A rollback would cost it the function that restores.
        ("Without a responder, all in one stack, by the wizard only.", page("template", "template")),
    ] {
        assert_eq!(step(&printed, heading), expected, "{heading}");
    }
    assert_eq!(printed.matches("choose 'Preserve successfully provisioned resources'").count(), 2, "{printed}");
    assert_eq!(printed.matches("/stacks/create/").count(), 5, "{printed}");
    // The commands have them as well, each in its shell's words.
    let host = step(&printed, "Its forensic host, after the isolation:");
    for word in [
        "ParameterKey=VpcId,ParameterValue=vpc-1 ",
        "ParameterKey=IsolatedSecurityGroupId,ParameterValue=sg-… ",
        "ParameterKey=Ec2KeyName,ParameterValue='key of ours'",
    ] {
        assert!(host.contains(word), "{word}: {host}");
    }
    assert!(printed.contains(r"ParameterKey=RevokeRoles,ParameterValue='web\,batch'"), "{printed}");

    // A word that no template knows would be missing at night.
    let (succeeded, text) = try_python(&["scripts/package.py", bucket, PROGRAM, "VpcID=vpc-1"]);
    assert!(!succeeded && text.contains("no template has a parameter VpcID: nothing was uploaded"), "{text}");
    assert!(!package(bucket, &[]).contains("param_"));
}

/// By the SDK's own endpoints. A console whose address is not public is not made up.
#[test]
fn the_addresses_are_those_of_the_buckets_partition() {
    for (region, suffix, console) in [
        ("eu-central-1", "amazonaws.com", Some("eu-central-1.console.aws.amazon.com")),
        ("cn-northwest-1", "amazonaws.com.cn", Some("cn-northwest-1.console.amazonaws.cn")),
        ("us-gov-west-1", "amazonaws.com", Some("us-gov-west-1.console.amazonaws-us-gov.com")),
        ("eusc-de-east-1", "amazonaws.eu", Some("eusc-de-east-1.console.amazonaws-eusc.eu")),
        ("us-iso-east-1", "c2s.ic.gov", None),
        ("us-isob-east-1", "sc2s.sgov.gov", None),
        ("eu-isoe-west-1", "cloud.adc-e.uk", None),
        ("us-isof-south-1", "csp.hci.ic.gov", None),
    ] {
        let bucket = format!("ir-{region}");
        let constraint = format!("CreateBucketConfiguration={{'LocationConstraint': '{region}'}}");
        let printed = python(&[
            "-c",
            &format!(
                "import pathlib, sys, boto3; sys.path.insert(0, 'scripts'); import package\n\
                 boto3.client('s3').create_bucket(Bucket='{bucket}', {constraint})\n\
                 bucket = package.Bucket('{bucket}')\n\
                 names = ('incident', 'host', 'credentials', 'template')\n\
                 paths = [pathlib.Path(name + '.yaml') for name in names]\n\
                 templates = [package.Template(path, bucket.upload(path)) for path in paths]\n\
                 package.Shown(bucket, {{}}).all('https://responder', 'https://plain', *templates)"
            ),
        ]);
        let start = format!(" --template-url https://{bucket}.s3.{region}.{suffix}/ec2-isolation/");
        assert!(printed.matches(&start).count() == 4, "{start}: {printed}");
        assert!(suffix.starts_with("amazonaws.com") || !printed.contains("amazonaws.com"), "{printed}");
        let home =
            console.map(|console| format!("https://{console}/cloudformation/home?region={region}#/stacks/create/"));
        let pages = home.map_or(0, |home| printed.matches(&home).count());
        assert_eq!(
            (pages, printed.matches("/stacks/create/").count()),
            if console.is_some() { (5, 5) } else { (0, 0) }
        );
    }
}

/// What `sam publish` would send, by the SAM CLI's own code, and the bounds of CreateApplication.
#[test]
fn the_packaged_templates_are_what_the_application_repository_takes() {
    let bucket = "ir-publish-of-the-test";
    make_bucket(bucket);
    let _guard = PACKAGING.lock().unwrap_or_else(PoisonError::into_inner);
    python(&["scripts/package.py", bucket, PROGRAM]);
    for (file, name) in [("responder.yaml", "ec2-isolation-responder"), ("template.yaml", "ec2-isolation")] {
        let sent = python(&[
            "-c",
            &format!(
                "import json\n\
                 from samcli.commands._utils.template import get_template_data\n\
                 from samcli.vendor.serverlessrepo import publish_application\n\
                 class Client:\n\
                 \x20   def create_application(self, **request):\n\
                 \x20       print(json.dumps(request))\n\
                 \x20       return {{'ApplicationId': 'one'}}\n\
                 publish_application(template=get_template_data('target/package/{file}'), sar_client=Client())"
            ),
        ]);
        let sent: Value = serde_json::from_str(&sent).unwrap();
        let text = |field: &str| sent[field].as_str().unwrap_or_else(|| panic!("{file}: no {field}")).to_owned();
        assert_eq!(text("Name"), name);
        assert!((1..=256).contains(&text("Description").len()), "{file}: {}", text("Description").len());
        // Lower case and single hyphens.
        let author = text("Author");
        let is_plain = author.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(is_plain && !author.contains("--") && !author.starts_with('-') && !author.ends_with('-'), "{author}");
        assert_eq!(
            (text("SpdxLicenseId"), text("SemanticVersion")),
            ("Apache-2.0".into(), env!("CARGO_PKG_VERSION").into())
        );
        for (field, original) in [("LicenseUrl", "LICENSE-APACHE"), ("ReadmeUrl", "README.md")] {
            let address = text(field);
            let at = address.strip_prefix(&format!("s3://{bucket}/")).unwrap_or_else(|| panic!("{field}: {address}"));
            let read = format!(
                "import boto3; print(boto3.client('s3').get_object(Bucket='{bucket}', Key='{at}')['Body'].read().decode())"
            );
            assert_eq!(
                python(&["-c", &read]).trim(),
                std::fs::read_to_string(original).unwrap().trim(),
                "{file}: {field}"
            );
        }
        let labels = sent["Labels"].as_array().unwrap();
        assert!((1..=10).contains(&labels.len()), "{labels:?}");
        let body = text("TemplateBody");
        assert!(body.contains(&format!("s3://{bucket}/ec2-isolation/")) && !body.contains(".aws-sam"), "{file}");
    }
}

/// As a service-managed StackSet makes it, which takes no transform: a stack with another name, and one capability.
#[tokio::test]
async fn a_responder_without_a_transform_isolates_restores_and_is_deleted() {
    let scene = without_host(Scene::new("plain").await);
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await;
    let before = scene.cards(&[&a]).await;
    let cloudformation = cloud().cloudformation().await;
    let delete = async |stack: &str| {
        let Ok(found) = cloudformation.describe_stacks().stack_name(stack).send().await else { return };
        let id = found.stacks()[0].stack_id().unwrap().to_owned();
        cloudformation.delete_stack().stack_name(stack).send().await.unwrap();
        assert_eq!(scene.incident.ends_in(&id, &["DELETE_IN_PROGRESS"]).await, "DELETE_COMPLETE");
    };
    // The names of its function, parameter and documents are those of any responder.
    delete(RESPONDER).await;
    let bucket = "ir-plain-of-the-test";
    make_bucket(bucket);
    let instances = format!("CompromisedInstanceList={a}");
    let printed = package(bucket, &[&format!("VpcId={}", scene.site.vpc), &instances, "HoldSeconds=1"]);
    let plain = step(&printed, "Prepare many accounts by a StackSet");
    let stack = "StackSet-ec2-isolation-responder-us-east-1-1";
    let create = format!("aws cloudformation create-stack --stack-name {stack} {plain}");
    run(&create).ends_with(255).says_in_lines("Requires capabilities : [CAPABILITY_IAM]");
    let parameters = "--parameters ParameterKey=IncidentRole,ParameterValue=true";
    run(&format!("{create} --capabilities CAPABILITY_IAM {parameters}")).ends_with(0);
    assert_eq!(scene.incident.ends_in(stack, &["CREATE_IN_PROGRESS"]).await, "CREATE_COMPLETE");
    let parameter = json!({"Name": "/ec2-isolation/responder"});
    let found = aws(&cloud().credentials(), "ssm", "get_parameter", &parameter).expect("it says where everything is");
    let found: Value = serde_json::from_str(found["Parameter"]["Value"].as_str().unwrap()).unwrap();
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:ec2-isolation";
    assert_eq!(found["function"], arn);
    assert!(found["stack"].as_str().unwrap().contains(stack), "{found}");

    // What it prints for an incident is run as it stands: with the packaged template, and all that was given.
    let command =
        step(&printed, "An incident with the AWS CLI:").replace("--stack-name incident-42", "--stack-name plain");
    run(&command).ends_with(0);
    let status = scene.incident.ends_in("plain", &["CREATE_IN_PROGRESS"]).await;
    assert_eq!(status, "CREATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a]).await;
    // The program finds the incident by its responder, and nobody takes that away.
    let status = run("ec2-isolation status --stack plain --short").ends_with(0);
    assert!(status.out().contains("ISOLATED"), "{}", status.out());
    cloudformation.delete_stack().stack_name(stack).send().await.unwrap();
    let kept = scene.incident.events(stack).await.pop().unwrap();
    assert!(
        kept.contains("Export ec2-isolation-v1-") && kept.contains("cannot be deleted as it is in use by plain"),
        "{kept}"
    );
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
    delete(stack).await;
}

/// The address of the one-shot template, in a bucket of this name.
fn one_shot(bucket: &str) -> String {
    make_bucket(bucket);
    let printed = package(bucket, &[]);
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
    // Its role for incidents is none for this.
    deploy_responder(cloud(), &["IncidentRole=true"]);
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
        let _guard = PACKAGING.lock().unwrap_or_else(PoisonError::into_inner);
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
    for name in ["responder-plain.json", "template-plain.json"] {
        let plain: serde_json::Value = serde_json::from_str(&read(name)).unwrap();
        let function = &plain["Resources"]["IsolationFunction"];
        assert_eq!(plain.get("Transform"), None, "{name}");
        assert_eq!(
            (function["Type"].as_str(), function["Properties"]["Code"].as_str()),
            (Some("AWS::Lambda::Function"), Some("function.zip")),
            "{name}"
        );
    }
    // The AWS CLI packages it: what it uploads is the function as it was built.
    let bucket = "ir-release-of-the-test";
    make_bucket(bucket);
    let folder = assets.join(&whole);
    for template in ["responder-plain.json", "template-plain.json", "responder.yaml", "template.yaml"] {
        let package = format!(
            "aws cloudformation package --template-file {template} --s3-bucket {bucket} --output-template-file packaged-{template}"
        );
        crate::operator::run(&format!("cd {} && {package}", folder.display())).ends_with(0);
        let packaged = read(&format!("packaged-{template}"));
        assert!(packaged.contains(bucket), "{template}: {packaged}");
    }
}

/// Without `make build` nothing is deployed: the sources could not start.
#[test]
fn what_was_not_built_is_not_deployed() {
    let folder = Path::new("target/stack/not-built");
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    for file in ["samconfig.toml", "template.yaml"] {
        std::fs::copy(file, folder.join(file)).unwrap();
    }
    let deploy = |cloud: &crate::cloud::Cloud, sam: &Path| {
        let mut command = Command::new(sam);
        let command = command.args(["deploy", "--stack-name", "not-built"]).current_dir(folder);
        let command = command.envs(cloud.credentials()).env("AWS_DEFAULT_REGION", "us-east-1");
        command.env("AWS_CONFIG_FILE", "/dev/null").env("SAM_CLI_TELEMETRY", "0").output().unwrap()
    };
    let output = deploy(cloud(), &std::path::absolute("target/venv/sam/bin/sam").unwrap());
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("Template file not found at ") && said.contains(".aws-sam/build/template.yaml"), "{said}");
}

/// `scripts/templates.py check`, as `make check` runs it, over sources in a folder of the test.
#[test]
fn a_template_that_is_stale_or_larger_than_cloudformation_takes_is_refused() {
    let makefile = std::fs::read_to_string("Makefile").unwrap();
    assert!(makefile.contains("\t@$(PY) scripts/templates.py check\n"), "it is what make check runs");
    let folder = std::path::absolute("target/stack/templates").unwrap();
    let _ = std::fs::remove_dir_all(&folder);
    for part in ["forensic-host", "parts", "scripts", "trigger", "."] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
        for entry in std::fs::read_dir(part).unwrap().map(|entry| entry.unwrap().path()) {
            let is_wanted = part != "." || entry.extension().is_some_and(|end| end == "yaml");
            if entry.is_file() && is_wanted {
                std::fs::copy(&entry, folder.join(&entry)).unwrap();
            }
        }
    }
    let python = std::path::absolute("target/venv/cloud/bin/python").unwrap();
    let check = || {
        let output =
            Command::new(&python).args(["scripts/templates.py", "check"]).current_dir(&folder).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
    };
    assert_eq!(check(), (true, String::new()));
    for (file, text, with, refusal) in [
        (
            "incident.yaml",
            "GroupDescription",
            "Groupdescription".to_owned(),
            "not made from their sources: incident.yaml. Make them: make templates",
        ),
        // The responder carries it.
        (
            "parts/host.yaml",
            "A forensic host for an incident.",
            "A forensic host for some incident.".to_owned(),
            "not made from their sources: host.yaml, responder.yaml. Make them: make templates",
        ),
        (
            "parts/host.yaml",
            "A forensic host for an incident.",
            "A forensic host. ".repeat(2_000),
            "bytes: more than the 51200 that CloudFormation takes",
        ),
    ] {
        let path = folder.join(file);
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(before.contains(text), "{file}");
        std::fs::write(&path, before.replacen(text, &with, 1)).unwrap();
        let (succeeded, said) = check();
        assert!(!succeeded && said.ends_with(refusal), "{file}: {said}");
        std::fs::write(&path, before).unwrap();
    }
    assert_eq!(check(), (true, String::new()));
}
