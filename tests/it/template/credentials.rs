//! The policy that denies the credentials of the listed instances, in both templates: whom it denies, and that it fits.

use serde_json::{Value, json};

use super::Stack;

/// IAM's quota for a managed policy, without white space.
const POLICY_SIZE: usize = 6144;
const POLICY: &str = "InstanceCredentialsPolicy";

fn policy(file: &str, list: &str, place: &[(&str, &str)]) -> Value {
    let parameters = [&[("CompromisedInstanceList", list), ("RevokeRoles", "web,db")], place].concat();
    Stack::of(file, &parameters).resources[POLICY]["Properties"].clone()
}

#[test]
fn it_denies_everything_to_sessions_of_the_listed_instances_and_to_no_others() {
    for file in ["template.yaml", "credentials.yaml"] {
        let properties = policy(file, "i-0a,i-0b", &[]);
        assert_eq!(properties["Roles"], json!(["web", "db"]), "{file}");
        let statement = json!([{
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {
                "ArnEquals": {"ec2:SourceInstanceARN": "arn:aws:ec2:us-east-1:111111111111:instance/*"},
                "StringLike": {"ec2:SourceInstanceARN": ["*/i-0a", "*/i-0b"]},
            },
        }]);
        assert_eq!(properties["PolicyDocument"]["Statement"], statement, "{file}");
    }
}

/// A parameter holds 4,096 characters: with the ids of today, and with the short ones of old.
#[test]
fn every_list_that_a_parameter_can_hold_fits_one_policy_in_every_partition() {
    let places = [
        ("aws-us-gov", "us-gov-west-1"),
        ("aws", "ap-southeast-1"),
        ("aws-cn", "cn-northwest-1"),
        ("aws-iso-b", "us-isob-east-1"),
    ];
    for (digits, most) in [(17, 204), (8, 372)] {
        let ids: Vec<String> = (0..most).map(|n| format!("i-{n:0digits$x}")).collect();
        let list = ids.join(",");
        assert!(list.len() <= 4096 && list.len() + digits + 3 > 4096, "{}", list.len());
        for (partition, region) in places {
            let place = [("AWS::Partition", partition), ("AWS::Region", region)];
            let document = policy("credentials.yaml", &list, &place)["PolicyDocument"].to_string();
            assert!(document.contains(&format!("*/{}\"", ids[most - 1])), "{document}");
            assert!(document.len() < POLICY_SIZE, "{partition}, {most} ids: {} characters", document.len());
        }
    }
}

/// CloudFormation replaces nothing while rollback is disabled: name, path and description are create-only.
#[test]
fn what_changes_it_changes_it_in_place() {
    for file in ["template.yaml", "credentials.yaml"] {
        let properties = policy(file, "i-0a", &[]);
        let mut names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["PolicyDocument", "Roles"], "{file}");
    }
}

#[test]
fn the_one_shot_stack_denies_after_the_isolation_and_only_if_it_is_asked_to() {
    assert!(!Stack::new(&[]).resources.contains_key(POLICY));
    let stack = Stack::new(&[("RevokeRoles", "web")]);
    assert_eq!(stack.resources[POLICY]["DependsOn"], "Isolation");
    let waits = |name: &&String| stack.resources[*name].to_string().contains(POLICY);
    assert_eq!(stack.resources.keys().find(waits), None, "nothing waits for it");
}

/// What was terminated is gone from EC2, and its credentials still work.
#[test]
fn beside_an_incident_nobody_asks_whether_the_instances_exist() {
    let text = std::fs::read_to_string("credentials.yaml").unwrap();
    assert!(text.contains("Type: CommaDelimitedList") && !text.contains("AWS::EC2::Instance::Id"), "{text}");
    assert!(text.len() <= 51_200);
}
