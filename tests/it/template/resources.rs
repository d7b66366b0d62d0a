//! What the template makes of its parameters, and what the console shows of them.

use std::collections::BTreeSet;

use ec2_isolation::cloudformation::properties::{Kind, PROPERTIES, Property};
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Value, json};

use super::{ACCOUNT, Stack, plain, shown};

/// The group of a forensic host elsewhere, in each form, and what the isolation group then admits.
#[test]
fn the_isolation_group_admits_the_forensic_group_on_the_forensic_ports_and_nobody_else() {
    const HEX: &str = "0123456789abcdef0";
    for (group, peer) in [
        ("", "${ForensicSecurityGroup.GroupId}".to_owned()),
        (&format!("sg-{HEX}"), format!("sg-{HEX} of {ACCOUNT}")),
        (&format!("222222222222/sg-{HEX}"), format!("sg-{HEX} of 222222222222")),
        ("222222222222/sg-01234567", "sg-01234567 of 222222222222".to_owned()),
    ] {
        for (ports, expected) in [
            ("22", vec![22]),
            ("22,3389", vec![22, 3389]),
            ("3389,5985,5986", vec![3389, 5985, 5986]),
            ("22,22", vec![22]),
            ("22,3389,22", vec![22, 3389]),
            ("22,3389,3389", vec![22, 3389]),
            ("22,22,3389", vec![22, 3389]),
        ] {
            for image in ["", "ami-0123456789abcdef0"] {
                let stack = Stack::new(&[
                    ("ForensicSecurityGroupId", group),
                    ("ForensicPorts", ports),
                    ("ForensicAmiId", image),
                ]);
                let rules: Vec<_> = expected.iter().map(|port| format!("tcp {port}-{port} {peer}")).collect();
                assert_eq!(stack.rules("IsolatedSecurityGroup", "SecurityGroupIngress"), rules, "{group} {ports}");
                let isolation = &stack.resources["Isolation"]["Properties"];
                assert_eq!(isolation["ForensicPorts"], json!(ports));
                let passed = if group.is_empty() { "${ForensicSecurityGroup.GroupId}" } else { group };
                assert_eq!(isolation["ForensicSecurityGroupId"], json!(passed));
                check_host(&stack, group.is_empty(), image);
            }
        }
    }
}

/// Host, group and way out are there together or not at all. What the isolation group lets in is for that group to say.
fn check_host(stack: &Stack, is_here: bool, image: &str) {
    for name in ["ForensicInstance", "ForensicLaunchTemplate", "ForensicSecurityGroup"] {
        assert_eq!(stack.resources.contains_key(name), is_here, "{name}");
    }
    assert_eq!(stack.outputs.contains_key("ForensicHostSsh"), is_here);
    assert_eq!(stack.outputs.contains_key("ForensicHostState"), is_here && image.is_empty());
    let egress = stack.resources.values().filter(|resource| resource["Type"] == "AWS::EC2::SecurityGroupEgress");
    let out: Vec<_> = egress.map(|rule| ["FromPort", "ToPort"].map(|port| shown(&rule["Properties"][port]))).collect();
    assert_eq!(
        out,
        if is_here { vec![["0".to_owned(), "65535".to_owned()]] } else { vec![] },
        "no parameter changes it"
    );
    if !is_here {
        return;
    }
    assert_eq!(
        stack.rules("ForensicSecurityGroup", "SecurityGroupIngress"),
        ["tcp 22-22 a-CompanyIp/32"],
        "ssh from one address is the only way in"
    );
    let data = &stack.resources["ForensicLaunchTemplate"]["Properties"]["LaunchTemplateData"];
    let host = &stack.resources["ForensicInstance"]["Properties"];
    if image.is_empty() {
        let path = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id";
        assert_eq!(data["ImageId"], json!(format!("resolve:ssm:{path}")));
        // EC2's limit, before encoding.
        assert!(host["UserData"].as_str().unwrap().len() < 16 * 1024);
    } else {
        assert_eq!(data["ImageId"], json!(image));
        assert_eq!(host.get("UserData"), None, "nothing is installed on an image of one's own");
    }
    assert_eq!(host.get("DisableApiTermination"), None, "it would keep the stack from being deleted");
    assert_eq!(host.get("IamInstanceProfile"), None);
    // A type that cannot be, as t2, is refused with it. Where it can be, it is by itself.
    assert_eq!((host.get("EbsOptimized"), data.get("EbsOptimized")), (None, None));
    assert_eq!(data["MetadataOptions"]["HttpTokens"], "required");
    let disk = &host["BlockDeviceMappings"][0]["Ebs"];
    assert_eq!(
        (&disk["VolumeType"], &disk["Encrypted"], &disk["DeleteOnTermination"]),
        (&json!("gp3"), &json!(true), &json!(false))
    );
}

/// Nothing that becomes of the forensic host is waited for: the isolation comes first, and no signal is.
#[test]
fn nothing_waits_for_the_forensic_host() {
    let stack = Stack::new(&[]);
    for name in ["ForensicInstance", "ForensicEgressToIsolated"] {
        assert_eq!(stack.resources[name]["DependsOn"], "Isolation", "{name}");
    }
    let host = ["ForensicInstance", "ForensicLaunchTemplate"];
    for (name, resource) in &stack.resources {
        assert_eq!(resource.get("CreationPolicy"), None, "{name}");
        assert_ne!(resource["Type"], "AWS::CloudFormation::WaitCondition", "{name}");
        if !host.contains(&name.as_str()) {
            let text = resource.to_string();
            assert!(host.iter().all(|host| !text.contains(&format!("${{{host}"))), "{name} waits for the host");
        }
    }
}

/// What CloudFormation must have made before it calls the function. Each of these can keep an isolation from happening.
#[test]
fn the_isolation_waits_for_its_groups_and_its_function_and_for_the_group_of_the_host() {
    let before = |file: &str| {
        let stack = Stack::of(file, &[]);
        let mut found: BTreeSet<String> = ["Isolation".to_owned()].into();
        loop {
            let texts: Vec<String> = found.iter().map(|name| stack.resources[name].to_string()).collect();
            let is_named = |name: &&String| {
                let (whole, attribute) = (format!("${{{name}}}"), format!("${{{name}."));
                let waits = |of: &String| stack.resources[of].get("DependsOn").is_some_and(|on| on == name.as_str());
                texts.iter().any(|text| text.contains(&whole) || text.contains(&attribute)) || found.iter().any(waits)
            };
            let more: BTreeSet<String> = stack.resources.keys().filter(is_named).cloned().collect();
            if more.is_subset(&found) {
                found.remove("Isolation");
                return found.into_iter().collect::<Vec<_>>();
            }
            found.extend(more);
        }
    };
    assert_eq!(before("incident.yaml"), ["IsolatedSecurityGroup", "TransitSecurityGroup"]);
    let expected = [
        // The isolation group names it.
        "ForensicSecurityGroup",
        "IsolatedSecurityGroup",
        "IsolationFunction",
        "IsolationFunctionRole",
        "IsolationLogGroup",
        "SecurityGroupTable",
        "TransitSecurityGroup",
    ];
    assert_eq!(before("template.yaml"), expected);
}

/// It is read after a success, too: the alarm stands in the value, where there is something to do.
#[test]
fn what_an_output_says_of_its_value_is_no_alarm_and_no_call() {
    for file in ["template.yaml", "incident.yaml", "host.yaml", "responder.yaml", "credentials.yaml"] {
        let template = plain(&Yaml::load_from_str(&std::fs::read_to_string(file).unwrap()).unwrap()[0]);
        for (name, output) in template["Outputs"].as_object().unwrap() {
            let description = output["Description"].as_str().unwrap();
            let value = output["Value"].to_string();
            // Of a command it is said when to run it.
            let is_command = ["aws ", "sam ", "ssh "].iter().any(|command| value.contains(command));
            let said = format!(" {} ", description.to_lowercase().replace(['.', ','], " "));
            for call in [" now ", " at once ", " by hand ", " isolate it ", "!", " run this ", " should "] {
                assert!(is_command || !said.contains(call), "{file}, {name}: {description}");
            }
        }
    }
    let template = plain(&Yaml::load_from_str(&std::fs::read_to_string("template.yaml").unwrap()).unwrap()[0]);
    let said = &template["Outputs"]["NotIsolated"]["Description"];
    assert_eq!(said, "What is still reachable. Empty if everything is isolated.");
}

/// No pseudo parameter has the console's address: its domain is another one than the services' in every partition.
#[test]
fn no_output_guesses_the_consoles_address() {
    for file in ["template.yaml", "incident.yaml", "host.yaml", "responder.yaml", "credentials.yaml"] {
        let template = plain(&Yaml::load_from_str(&std::fs::read_to_string(file).unwrap()).unwrap()[0]);
        for (name, output) in template["Outputs"].as_object().unwrap() {
            let value = output["Value"].to_string();
            let is_address = ["console.", "/home?", "#dashboards", "signin."].iter().any(|part| value.contains(part));
            assert!(!is_address, "{file}, {name}: {value}");
        }
    }
    let responder = Stack::of("responder.yaml", &[]);
    assert_eq!(responder.outputs["Dashboard"]["Value"], "${Dashboard}");
    assert_eq!(responder.resources["Dashboard"]["Properties"]["DashboardName"], "ec2-isolation-us-east-1");
}

#[test]
fn every_role_has_a_permissions_boundary_where_one_is_given() {
    let boundary = "arn:aws:iam::111111111111:policy/boundary";
    let with_every_role = [("IncidentRole", "true"), ("Trigger", "Approve")];
    for (file, parameters, roles) in [
        ("template.yaml", &[][..], vec!["IsolationFunctionRole"]),
        (
            "responder.yaml",
            &with_every_role,
            vec!["IncidentStackRole", "IsolationFunctionRole", "TriggerEventsRole", "TriggerRole"],
        ),
    ] {
        for (given, expected) in [("", None), (boundary, Some(boundary))] {
            let stack = Stack::of(file, &[parameters, &[("PermissionsBoundaryArn", given)]].concat());
            let found: Vec<_> =
                stack.resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::IAM::Role").collect();
            assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), roles, "{file}");
            for (name, role) in found {
                let boundary = role["Properties"].get("PermissionsBoundary").map(shown);
                assert_eq!(boundary.as_deref(), expected, "{file}, {name}");
            }
            // SAM makes a role for each function that names none.
            let functions = stack.resources.values().filter(|of| of["Type"] == "AWS::Serverless::Function");
            assert!(functions.into_iter().all(|of| of["Properties"].get("Role").is_some()), "{file}");
        }
    }
}

#[test]
fn every_arn_and_host_name_follows_the_partition() {
    let text = std::fs::read_to_string("template.yaml").unwrap();
    assert!(!text.contains("arn:aws:"), "arn:${{AWS::Partition}}: is right in China and GovCloud too");
    // Services' own names, and where the helper scripts are published for every partition.
    let fixed = text.lines().map(str::trim).filter(|line| line.contains(".amazonaws.com"));
    let helper = "https://s3.amazonaws.com/cloudformation-examples/aws-cfn-bootstrap-py3-2.0-39.tar.gz";
    let principal = "Principal: {Service: lambda.amazonaws.com}";
    let services = "StringEquals: {iam:PassedToService: [ec2.amazonaws.com, ec2.amazonaws.com.cn]}";
    let sources = "eventSource: [ec2.amazonaws.com, autoscaling.amazonaws.com]";
    let caller = "Principal: events.amazonaws.com";
    assert_eq!(fixed.collect::<Vec<_>>(), [principal, services, sources, caller, caller, caller, helper]);
}

/// Two incidents side by side: what has a name of its own could be there once only.
#[test]
fn no_resource_has_a_name_of_its_own() {
    for (name, resource) in Stack::new(&[]).resources {
        for property in ["GroupName", "TableName", "LogGroupName", "RoleName", "LaunchTemplateName", "TopicName"] {
            assert_eq!(resource["Properties"].get(property), None, "{name}");
        }
        let function = resource["Properties"].get("FunctionName").map(shown);
        assert!(function.is_none_or(|text| text == "${IsolationFunction.Arn}"), "{name}");
        let alarm = resource["Properties"].get("AlarmName").map(shown);
        assert!(alarm.is_none_or(|text| text.starts_with("ec2-isolation-incident-42-")), "{name}");
    }
}

/// Every parameter has its place, its label and its explanation in the console.
#[test]
fn the_console_shows_every_parameter_with_a_label_in_a_group() {
    for file in ["template.yaml", "incident.yaml", "host.yaml", "responder.yaml", "credentials.yaml"] {
        let text = std::fs::read_to_string(file).unwrap();
        let template = plain(&Yaml::load_from_str(&text).unwrap()[0]);
        let interface = &template["Metadata"]["AWS::CloudFormation::Interface"];
        let groups = interface["ParameterGroups"].as_array().unwrap().iter();
        let mut grouped: Vec<_> = groups.flat_map(|group| group["Parameters"].as_array().unwrap()).map(shown).collect();
        grouped.sort();
        let parameters = template["Parameters"].as_object().unwrap();
        let mut names: Vec<_> = parameters.keys().cloned().collect();
        names.sort();
        assert_eq!(grouped, names, "{file}");
        for (name, parameter) in parameters {
            let label = interface["ParameterLabels"][name]["default"].as_str().unwrap();
            assert!(label.ends_with(&format!("({name})")), "{file}: {label}");
            assert!(parameter["Description"].as_str().is_some_and(|text| text.len() < 4000), "{file}: {name}");
            let is_told = parameter.get("AllowedPattern").is_none() || parameter["ConstraintDescription"].is_string();
            assert!(is_told, "{file}, {name}: what is refused says what is wanted");
        }
    }
}

/// The function reads what the template gives it, with the same defaults and bounds; so says the page of parameters.
#[test]
fn the_custom_resource_has_the_properties_that_the_function_reads() {
    let text = std::fs::read_to_string("template.yaml").unwrap();
    let page = std::fs::read_to_string("docs/reference/parameters.md").unwrap();
    let template = plain(&Yaml::load_from_str(&text).unwrap()[0]);
    let given = template["Resources"]["Isolation"]["Properties"].as_object().unwrap();
    let unread = ["ServiceToken", "Rerun"];
    let names: BTreeSet<&str> = given.keys().map(String::as_str).filter(|name| !unread.contains(name)).collect();
    assert_eq!(names, PROPERTIES.iter().map(|property| property.name).collect());
    let mut compared = 0;
    for Property { name, kind, default } in PROPERTIES {
        let Some(parameter_name) = given[name].get("Ref").and_then(Value::as_str) else { continue };
        let parameter = &template["Parameters"][parameter_name];
        assert_eq!(parameter.get("Default").map(shown).as_deref(), default, "{name}");
        let allowed: Vec<String> = parameter["AllowedValues"].as_array().into_iter().flatten().map(shown).collect();
        match kind {
            Kind::Ids => assert_eq!(parameter["Type"], "List<AWS::EC2::Instance::Id>"),
            Kind::Names => assert_eq!(parameter["Type"], "CommaDelimitedList"),
            Kind::Id => assert!(shown(&parameter["Type"]).ends_with("::Id"), "{name}"),
            Kind::Flag => assert_eq!(allowed, ["true", "false"], "{name}"),
            Kind::Release => assert_eq!(allowed, ["KeepIsolated", "Restore"], "{name}"),
            Kind::Watch => assert_eq!(allowed, ["Notify", "Isolate", "Off"], "{name}"),
            Kind::Ports => assert!(parameter["AllowedPattern"].is_string(), "{name}"),
            Kind::Number(_, least, most) => {
                let bounds = [&parameter["MinValue"], &parameter["MaxValue"]].map(shown);
                assert_eq!(bounds, [least.to_string(), most.to_string()], "{name}");
                assert!(page.contains(&format!("`{name}` other than a whole number from {least} to {most}")), "{name}");
            }
            Kind::Text(most) => {
                assert!(shown(&parameter["AllowedPattern"]).contains(&format!("{{1,{most}}}")), "{name}")
            }
        }
        let shown = default.map_or_else(String::new, |default| format!("`{default}`"));
        let row = format!("| `{parameter_name}` | {shown} |").replace("|  |", "| |");
        assert!(page.contains(&row), "the page has no row {row}");
        compared += 1;
    }
    assert!(compared > 10, "{compared}");
}
