//! The adapters on the wire: what is asked, how answers are read, and what each fault becomes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_ec2::config::{
    BehaviorVersion, Credentials, Region, SharedHttpClient, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::test_util::{NeverClient, infallible_client_fn};
use ec2_isolation::aws::autoscaling::AutoScaling;
use ec2_isolation::aws::cloudformation::CloudFormation;
use ec2_isolation::aws::dynamodb::Table;
use ec2_isolation::aws::ec2::{self, Ec2};
use ec2_isolation::model::{
    Attribute, Branch, Desired, Groups, InstanceId, Member, Owner, Peer, Profile, Protection, Role, ShutdownBehaviour,
    Snapshots, State, Volume,
};
use ec2_isolation::plan::Prior;
use ec2_isolation::ports::{
    Call, Change as _, Fault, GroupQuery, Look as _, Marking, Originals, Records as _, Stacks as _, Stamp, Written,
};
use serde_json::{Value, json};

macro_rules! config {
    ($sdk:ident, $http:expr) => {
        $sdk::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(100)).build())
            .http_client($http)
            .build()
    };
}

pub fn ec2(http: SharedHttpClient) -> Ec2 {
    with_client(ec2::client(config!(aws_sdk_ec2, http.clone()).to_builder()), http)
}

fn with_client(client: aws_sdk_ec2::Client, http: SharedHttpClient) -> Ec2 {
    let scaling = AutoScaling(aws_sdk_autoscaling::Client::from_conf(config!(aws_sdk_autoscaling, http)));
    Ec2 { client, scaling }
}

pub fn table(http: SharedHttpClient) -> Table {
    Table { client: aws_sdk_dynamodb::Client::from_conf(config!(aws_sdk_dynamodb, http)), name: "records".to_owned() }
}

pub fn stacks(http: SharedHttpClient) -> CloudFormation {
    CloudFormation(aws_sdk_cloudformation::Client::from_conf(config!(aws_sdk_cloudformation, http)))
}

/// The bodies of the requests so far.
pub type Seen = Arc<Mutex<Vec<String>>>;

/// A client that answers with these, in turn, the last one for ever.
pub fn wire(answers: &[(u16, &str)]) -> (SharedHttpClient, Seen) {
    let seen = Seen::default();
    let (log, answers) =
        (Arc::clone(&seen), answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect::<Vec<_>>());
    let client = infallible_client_fn(move |request| {
        let mut log = log.lock().unwrap();
        let (status, body) = answers[log.len().min(answers.len() - 1)].clone();
        log.push(String::from_utf8(request.body().bytes().unwrap_or_default().to_vec()).unwrap());
        http::Response::builder().status(status).body(body).unwrap()
    });
    (client, seen)
}

fn ids(count: usize) -> BTreeSet<InstanceId> {
    (0..count).map(|n| format!("i-{n:017x}").parse().unwrap()).collect()
}

pub fn owner() -> Owner {
    Owner { stack_id: "arn:aws:cloudformation:r:1:stack/ir/1".into(), logical_id: "Isolation".into() }
}

const NO_INSTANCES: &str = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";

#[tokio::test]
async fn instances_are_asked_for_by_filter_in_portions_of_a_hundred() {
    let (http, seen) = wire(&[(200, NO_INSTANCES)]);
    assert_eq!(ec2(http).instances(&ids(204)).await.unwrap(), []);
    let seen = seen.lock().unwrap().clone();
    let mut sizes: Vec<usize> = seen.iter().map(|body| body.matches("Filter.1.Value.").count()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4, 100, 100]);
    assert!(
        seen.iter().all(|body| body.contains("Action=DescribeInstances") && body.contains("Filter.1.Name=instance-id"))
    );
    assert!(seen.iter().all(|body| !body.contains("InstanceId.1") && !body.contains("MaxResults")), "{seen:?}");
}

#[tokio::test]
async fn an_instance_is_read_with_its_interfaces_in_order_its_volumes_and_tags_over_all_pages() {
    let page = |token: &str| {
        format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-0a{}</instanceId>\
             <instanceState><name>running</name></instanceState><vpcId>vpc-01</vpcId>\
             <networkInterfaceSet>\
             <item><networkInterfaceId>eni-02</networkInterfaceId><attachment><deviceIndex>1</deviceIndex></attachment>\
             <groupSet><item><groupId>sg-0b</groupId></item></groupSet></item>\
             <item><networkInterfaceId>eni-01</networkInterfaceId><attachment><deviceIndex>0</deviceIndex></attachment>\
             <groupSet><item><groupId>sg-0a</groupId></item><item><groupId>sg-0b</groupId></item></groupSet></item>\
             </networkInterfaceSet>\
             <blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><volumeId>vol-01</volumeId><deleteOnTermination>true</deleteOnTermination></ebs></item></blockDeviceMapping>\
             <tagSet><item><key>Name</key><value>web</value></item></tagSet>\
             </item></instancesSet></item></reservationSet>{token}</DescribeInstancesResponse>",
            token.len()
        )
    };
    let (first, second) = (page("<nextToken>more</nextToken>"), page(""));
    let (http, seen) = wire(&[(200, &first), (200, &second)]);
    let instances = ec2(http).instances(&ids(1)).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
    assert!(seen.lock().unwrap()[1].contains("NextToken=more"));
    let instance = &instances[1];
    assert_eq!((instance.id.as_str(), instance.state.as_str()), ("i-0a0", "running"));
    let interfaces: Vec<_> = instance.interfaces.iter().map(|i| (i.id.to_string(), i.groups.len())).collect();
    assert_eq!(interfaces, [("eni-01".to_owned(), 2), ("eni-02".to_owned(), 1)]);
    let volume = Volume { device: "/dev/sda1".to_owned(), delete_on_termination: true };
    assert_eq!(instance.volumes, [("vol-01".parse().unwrap(), volume)].into());
    assert_eq!(instance.tags["Name"], "web");
}

#[tokio::test]
async fn marked_groups_are_read_with_their_role_their_stack_and_one_rule_for_each_peer() {
    let (http, seen) = wire(&[(
        200,
        "<DescribeSecurityGroupsResponse><securityGroupInfo><item><groupId>sg-0a</groupId><vpcId>vpc-01</vpcId>\
         <ipPermissions><item><ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>22</toPort>\
         <groups><item><groupId>sg-0f</groupId></item></groups></item></ipPermissions>\
         <ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>127.0.0.1/32</cidrIp></item></ipRanges>\
         <ipv6Ranges><item><cidrIpv6>::1/128</cidrIpv6></item></ipv6Ranges></item></ipPermissionsEgress>\
         <tagSet><item><key>ec2-isolation:role</key><value>isolation</value></item>\
         <item><key>aws:cloudformation:stack-id</key><value>arn</value></item></tagSet>\
         </item></securityGroupInfo></DescribeSecurityGroupsResponse>",
    )]);
    let groups = ec2(http).groups(&GroupQuery::Marked("vpc-01".parse().unwrap())).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    for part in [
        "Filter.1.Name=vpc-id",
        "Filter.1.Value.1=vpc-01",
        "Filter.2.Name=tag-key",
        "Filter.2.Value.1=ec2-isolation%3Arole",
    ] {
        assert!(body.contains(part), "{body}");
    }
    let group = &groups[0];
    assert_eq!((group.role, group.stack_id.as_deref()), (Some(Role::Isolation), Some("arn")));
    assert_eq!(group.ingress.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tcp 22 sg-0f"]);
    let peers: Vec<_> = group.egress.iter().map(|rule| rule.peer.clone()).collect();
    assert_eq!(peers, [Peer::Cidr("127.0.0.1/32".into()), Peer::Cidr("::1/128".into())]);
}

#[tokio::test]
async fn groups_are_set_on_the_interface_never_on_the_instance() {
    let (http, seen) = wire(&[(
        200,
        "<ModifyNetworkInterfaceAttributeResponse><return>true</return></ModifyNetworkInterfaceAttributeResponse>",
    )]);
    let groups: Groups = ["sg-0a", "sg-0b"].map(|id| id.parse().unwrap()).into();
    ec2(http).set_groups(&"eni-01".parse().unwrap(), &groups).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    assert!(
        body.contains("Action=ModifyNetworkInterfaceAttribute&") && body.contains("NetworkInterfaceId=eni-01"),
        "{body}"
    );
    assert!(body.contains("SecurityGroupId.1=sg-0a") && body.contains("SecurityGroupId.2=sg-0b"), "{body}");
}

const THROTTLED: &str =
    "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow</Message></Error></Errors></Response>";

/// With the function's own retries.
fn persistent(http: SharedHttpClient) -> Ec2 {
    let mut config = config!(aws_sdk_ec2, http.clone()).to_builder();
    config.set_retry_config(Some(RetryConfig::standard().with_max_attempts(6)));
    with_client(ec2::client(config), http)
}

#[tokio::test(start_paused = true)]
async fn a_change_of_groups_that_is_throttled_is_left_to_its_turn_and_one_that_is_lost_is_repeated_by_the_sdk() {
    let lost = "<Response><Errors><Error><Code>InternalError</Code><Message>lost</Message></Error></Errors></Response>";
    for (answers, fault, calls) in [
        ([(503, THROTTLED), (503, THROTTLED)], Fault::Throttled, 1),
        ([(500, lost), (503, THROTTLED)], Fault::Throttled, 2),
        ([(500, lost), (500, lost)], Fault::Server, 6),
    ] {
        let (http, seen) = wire(&answers);
        let ec2 = persistent(http);
        let error = ec2.set_groups(&"eni-01".parse().unwrap(), &["sg-0a".parse().unwrap()].into()).await.unwrap_err();
        assert_eq!((error.fault, seen.lock().unwrap().len()), (fault, calls));
    }
}

#[tokio::test]
async fn snapshots_are_never_asked_for_twice_by_the_sdk() {
    let (http, seen) = wire(&[(503, THROTTLED)]);
    let ec2 = persistent(http);
    let error = ec2.take_snapshots(&"i-0a".parse().unwrap(), &[].into()).await.unwrap_err();
    assert_eq!((error.fault, seen.lock().unwrap().len()), (Fault::Throttled, 1));
}

fn attribute(name: &str, value: &str) -> String {
    format!(
        "<DescribeInstanceAttributeResponse><instanceId>i-0a</instanceId><{name}><value>{value}</value></{name}></DescribeInstanceAttributeResponse>"
    )
}

#[tokio::test]
async fn attributes_are_read_one_by_one() {
    let answers = [
        attribute("disableApiTermination", "true"),
        attribute("disableApiStop", "false"),
        attribute("instanceInitiatedShutdownBehavior", "terminate"),
    ];
    let (http, seen) = wire(&answers.each_ref().map(|body| (200, body.as_str())));
    let attributes = ec2(http).attributes(&"i-0a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(
        attributes.map(|attribute| attribute.to_string()),
        ["termination protection on", "stop protection off", "shutdown behaviour terminate"]
    );
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen.iter().all(|body| body.contains("Action=DescribeInstanceAttribute&") && body.contains("InstanceId=i-0a"))
    );
    for (body, name) in
        seen.iter().zip(["disableApiTermination", "disableApiStop", "instanceInitiatedShutdownBehavior"])
    {
        assert!(body.contains(&format!("Attribute={name}")), "{body}");
    }
}

fn ec2_error(code: &str) -> String {
    format!("<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>")
}

#[tokio::test]
async fn an_instance_that_ec2_no_longer_knows_has_no_attributes() {
    let (http, _) = wire(&[(400, &ec2_error("InvalidInstanceID.NotFound"))]);
    assert_eq!(ec2(http).attributes(&"i-0a".parse().unwrap()).await, Ok(None));
    let (http, _) = wire(&[(403, &ec2_error("UnauthorizedOperation"))]);
    let error = ec2(http).attributes(&"i-0a".parse().unwrap()).await.unwrap_err();
    assert_eq!((error.action, error.fault), ("ec2:DescribeInstanceAttribute", Fault::Denied));
    let (http, _) = wire(&[(200, &attribute("disableApiStop", "true"))]);
    assert_eq!(ec2(http).attributes(&"i-0a".parse().unwrap()).await.unwrap_err().fault, Fault::Garbled);
}

#[tokio::test]
async fn one_call_sets_one_attribute_or_the_deletion_of_all_volumes() {
    let done = "<ModifyInstanceAttributeResponse><return>true</return></ModifyInstanceAttributeResponse>";
    let instance: InstanceId = "i-0a".parse().unwrap();
    for (attribute, parameter) in [
        (Attribute::TerminationProtection(true), "DisableApiTermination.Value=true"),
        (Attribute::StopProtection(false), "DisableApiStop.Value=false"),
        (Attribute::ShutdownBehaviour(ShutdownBehaviour::Stop), "InstanceInitiatedShutdownBehavior.Value=stop"),
    ] {
        let (http, seen) = wire(&[(200, done)]);
        ec2(http).set_attribute(&instance, attribute).await.unwrap();
        let body = seen.lock().unwrap()[0].clone();
        assert!(body.starts_with("Action=ModifyInstanceAttribute&") && body.contains("InstanceId=i-0a"), "{body}");
        assert!(body.contains(parameter) && body.matches(".Value=").count() == 1, "{body}");
    }
    let (http, seen) = wire(&[(200, done)]);
    let devices = [("/dev/sda1".to_owned(), false), ("/dev/sdf".to_owned(), false)].into();
    ec2(http).set_deletion(&instance, &devices).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    for (n, device) in [(1, "%2Fdev%2Fsda1"), (2, "%2Fdev%2Fsdf")] {
        assert!(body.contains(&format!("BlockDeviceMapping.{n}.DeviceName={device}")), "{body}");
        assert!(body.contains(&format!("BlockDeviceMapping.{n}.Ebs.DeleteOnTermination=false")), "{body}");
    }
}

#[tokio::test]
async fn an_interface_that_only_its_maker_may_change_is_refused_and_bad_credentials_are_a_denial() {
    for (message, fault) in [
        ("You do not have permission to access the specified resource.", Fault::Refused),
        ("AWS was not able to validate the provided access credentials", Fault::Denied),
    ] {
        let body = format!(
            "<Response><Errors><Error><Code>AuthFailure</Code><Message>{message}</Message></Error></Errors></Response>"
        );
        let (http, _) = wire(&[(401, &body)]);
        let error =
            ec2(http).set_groups(&"eni-01".parse().unwrap(), &["sg-01".parse().unwrap()].into()).await.unwrap_err();
        assert_eq!((error.fault, error.code.as_str()), (fault, "AuthFailure"));
    }
}

#[tokio::test]
async fn what_ec2_does_not_support_for_an_instance_is_refused() {
    let (http, _) = wire(&[(400, &ec2_error("UnsupportedOperation"))]);
    let error = ec2(http).set_attribute(&"i-0a".parse().unwrap(), Attribute::StopProtection(true)).await.unwrap_err();
    assert_eq!((error.action, error.fault), ("ec2:ModifyInstanceAttribute", Fault::Refused));
}

#[tokio::test]
async fn members_are_asked_for_fifty_at_a_time_over_all_pages() {
    let page = |id: &str, more: &str| {
        format!(
            "<DescribeAutoScalingInstancesResponse><DescribeAutoScalingInstancesResult><AutoScalingInstances><member>\
             <InstanceId>{id}</InstanceId><AutoScalingGroupName>web</AutoScalingGroupName><LifecycleState>InService</LifecycleState>\
             </member></AutoScalingInstances>{more}</DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>"
        )
    };
    let (first, second) = (page("i-0a", "<NextToken>more</NextToken>"), page("i-0b", ""));
    let (http, seen) = wire(&[(200, &first), (200, &second)]);
    let members = ec2(http).members(&ids(1)).await.unwrap();
    let in_service = Member { group: "web".into(), state: "InService".into() };
    assert_eq!(members, ["i-0a", "i-0b"].map(|id| (id.parse().unwrap(), in_service.clone())).into());
    assert!(seen.lock().unwrap()[1].contains("NextToken=more"));

    let (http, seen) = wire(&[(200, &page("i-0a", ""))]);
    ec2(http).members(&ids(204)).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    let mut sizes: Vec<usize> = seen.iter().map(|body| body.matches("InstanceIds.member.").count()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4, 50, 50, 50, 50]);
    assert!(seen.iter().all(|body| body.contains("Action=DescribeAutoScalingInstances&")), "{seen:?}");
}

#[tokio::test]
async fn standby_leaves_the_desired_capacity_as_it_is() {
    let group = ["i-0a", "i-0b"].map(|id| id.parse().unwrap()).into();
    let (http, seen) = wire(&[(200, "<EnterStandbyResponse><EnterStandbyResult/></EnterStandbyResponse>")]);
    ec2(http).enter_standby("web", &group).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    for part in [
        "Action=EnterStandby&",
        "AutoScalingGroupName=web",
        "InstanceIds.member.1=i-0a",
        "InstanceIds.member.2=i-0b",
        "ShouldDecrementDesiredCapacity=false",
    ] {
        assert!(body.contains(part), "{body}");
    }
    let (http, seen) = wire(&[(200, "<ExitStandbyResponse><ExitStandbyResult/></ExitStandbyResponse>")]);
    ec2(http).exit_standby("web", &group).await.unwrap();
    assert!(seen.lock().unwrap()[0].contains("Action=ExitStandby&"));
}

#[tokio::test]
async fn a_group_that_is_scaling_is_busy_and_a_full_one_refuses() {
    for (status, code, fault) in [
        (400, "ScalingActivityInProgress", Fault::Busy),
        (500, "ResourceContention", Fault::Busy),
        (400, "ValidationError", Fault::Refused),
        (403, "AccessDenied", Fault::Denied),
    ] {
        let body = format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>");
        let (http, _) = wire(&[(status, &body)]);
        let error = ec2(http).exit_standby("web", &["i-0a".parse().unwrap()].into()).await.unwrap_err();
        assert_eq!((error.action, error.fault), ("autoscaling:ExitStandby", fault), "{code}");
    }
}

#[tokio::test]
async fn profiles_are_asked_for_by_filter_in_portions_of_a_hundred() {
    let found = "<DescribeIamInstanceProfileAssociationsResponse><iamInstanceProfileAssociationSet><item>\
         <associationId>iip-assoc-1</associationId><instanceId>i-0a</instanceId><state>associated</state>\
         <iamInstanceProfile><arn>arn:web</arn><id>AIPA</id></iamInstanceProfile></item></iamInstanceProfileAssociationSet>\
         </DescribeIamInstanceProfileAssociationsResponse>";
    let (http, seen) = wire(&[(200, found)]);
    let profiles = ec2(http).profiles(&ids(204)).await.unwrap();
    let profile = Profile { association: "iip-assoc-1".into(), arn: "arn:web".into() };
    assert_eq!(profiles, [("i-0a".parse().unwrap(), profile)].into());
    let seen = seen.lock().unwrap().clone();
    let mut sizes: Vec<usize> = seen.iter().map(|body| body.matches("Filter.1.Value.").count()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4, 100, 100]);
    for part in [
        "Filter.1.Name=instance-id",
        "Filter.2.Name=state",
        "Filter.2.Value.1=associating",
        "Filter.2.Value.2=associated",
    ] {
        assert!(seen.iter().all(|body| body.contains(part)), "{seen:?}");
    }
}

#[tokio::test]
async fn a_profile_is_taken_by_its_association_and_given_by_its_arn() {
    let (http, seen) = wire(&[(200, "<DisassociateIamInstanceProfileResponse/>")]);
    let profile = Profile { association: "iip-assoc-1".into(), arn: "arn:web".into() };
    ec2(http).detach_profile(&profile).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    assert!(
        body.contains("Action=DisassociateIamInstanceProfile&") && body.contains("AssociationId=iip-assoc-1"),
        "{body}"
    );

    let (http, seen) = wire(&[(200, "<AssociateIamInstanceProfileResponse/>")]);
    ec2(http).attach_profile(&"i-0a".parse().unwrap(), "arn:web").await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    for part in ["Action=AssociateIamInstanceProfile&", "InstanceId=i-0a", "IamInstanceProfile.Arn=arn%3Aweb"] {
        assert!(body.contains(part), "{body}");
    }

    let (http, _) = wire(&[(400, &ec2_error("IncorrectState"))]);
    let error = ec2(http).attach_profile(&"i-0a".parse().unwrap(), "arn:web").await.unwrap_err();
    assert_eq!((error.action, error.fault), ("ec2:AssociateIamInstanceProfile", Fault::Busy));
}

fn prior() -> Protection {
    Protection {
        attributes: [
            Attribute::TerminationProtection(false),
            Attribute::ShutdownBehaviour(ShutdownBehaviour::Terminate),
        ]
        .into(),
        volumes: [("vol-0a".parse().unwrap(), "/dev/sda1".to_owned())].into(),
        scaling_group: Some("web".to_owned()),
        profile: Some("arn:web".to_owned()),
    }
}

#[tokio::test]
async fn prior_values_are_saved_in_one_write_that_never_overwrites_one() {
    let (http, seen) = wire(&[(200, "{}")]);
    let saved = table(http).save_protection(&owner(), &"i-0a".parse().unwrap(), &prior(), "now").await;
    assert_eq!((saved, seen.lock().unwrap().len()), (Ok(Written::Done), 1));
    let update: Value = serde_json::from_str(&seen.lock().unwrap()[0]).unwrap();
    assert_eq!(
        update["ConditionExpression"],
        "#owner = :owner AND #state <> :restored AND #state <> :restoring AND attribute_exists(Protection)"
    );
    let expression = update["UpdateExpression"].as_str().unwrap();
    let (names, values) = (&update["ExpressionAttributeNames"], &update["ExpressionAttributeValues"]);
    let mut written: Vec<String> = (0..4)
        .map(|n| {
            let set = format!("Protection.#p{n} = if_not_exists(Protection.#p{n}, :p{n})");
            assert!(expression.contains(&set), "{expression}");
            format!("{} {}", names[format!("#p{n}")], values[format!(":p{n}")])
        })
        .collect();
    written.sort();
    assert_eq!(
        written,
        [
            r#""AutoScalingGroup" {"S":"web"}"#,
            r#""ShutdownBehaviour" {"S":"terminate"}"#,
            r#""TerminationProtection" {"BOOL":false}"#,
            r#""vol-0a" {"S":"/dev/sda1"}"#
        ]
    );
    assert!(expression.contains("InstanceProfile = if_not_exists(InstanceProfile, :profile)"), "{expression}");
    assert_eq!(values[":profile"], json!({"S": "arn:web"}));
    assert!(expression.contains("RestoreCommands.#c0 = if_not_exists(RestoreCommands.#c0, :c0)"), "{expression}");
    assert_eq!(names["#c3"], "termination-protection");
    assert_eq!(values[":c3"]["S"], "aws ec2 modify-instance-attribute --instance-id i-0a --no-disable-api-termination");
}

#[tokio::test]
async fn a_record_of_before_there_were_protections_gets_its_map_first() {
    let lost = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}"#;
    let (http, seen) = wire(&[(400, lost), (200, "{}"), (200, "{}")]);
    let saved = table(http).save_protection(&owner(), &"i-0a".parse().unwrap(), &prior(), "now").await;
    assert_eq!((saved, seen.lock().unwrap().len()), (Ok(Written::Done), 3));
    assert!(seen.lock().unwrap()[1].contains("Protection = if_not_exists(Protection, :none)"));
    let (http, _) = wire(&[(400, lost)]);
    let saved = table(http).save_protection(&owner(), &"i-0a".parse().unwrap(), &prior(), "now").await;
    assert_eq!(saved, Ok(Written::Lost));
}

#[tokio::test]
async fn an_original_is_put_only_where_there_is_none() {
    let (http, seen) = wire(&[(200, "{}")]);
    let interfaces = [("eni-01".parse().unwrap(), ["sg-0a".parse().unwrap()].into())].into();
    let (owner, instance) = (owner(), "i-0a".parse().unwrap());
    let (vpc, group) = ("vpc-01".parse().unwrap(), "sg-0150".parse().unwrap());
    let transit = "sg-07a5".parse().unwrap();
    let stamp = stamp();
    let originals = |prior| Originals {
        instance: &instance,
        owner: &owner,
        vpc: &vpc,
        isolation_group: &group,
        transit_group: Some(&transit),
        interfaces: &interfaces,
        prior,
        stamp: &stamp,
    };
    let table = table(http);
    assert_eq!(table.record(&originals(&Prior::None)).await, Ok(Written::Done));
    assert_eq!(table.record(&originals(&Prior::Ours)).await, Ok(Written::Done));
    let seen = seen.lock().unwrap().clone();
    let put: Value = serde_json::from_str(&seen[0]).unwrap();
    assert_eq!(put["ConditionExpression"], "attribute_not_exists(InstanceId) OR #state = :restored");
    assert_eq!(put["Item"]["Interfaces"], json!({"M": {"eni-01": {"L": [{"S": "sg-0a"}]}}}));
    let command = "aws ec2 modify-network-interface-attribute --network-interface-id eni-01 --groups sg-0a";
    assert_eq!(put["Item"]["RestoreCommands"]["M"]["eni-01"]["S"], command);
    let recorded = "2026-11-25T03:00:00Z recorded: eni-01 [sg-0a] (asked by CloudFormation Create req-1)";
    assert_eq!(put["Item"]["History"], json!({"L": [{"S": recorded}]}));
    assert_eq!(put["Item"]["AskedBy"]["S"], "CloudFormation Create req-1");
    let update: Value = serde_json::from_str(&seen[1]).unwrap();
    assert_eq!(line(&update), recorded);
    assert_eq!(update["ConditionExpression"], "#owner = :owner AND #state <> :restored");
    let expression = update["UpdateExpression"].as_str().unwrap();
    assert!(expression.contains("Interfaces.#i0 = if_not_exists(Interfaces.#i0, :g0)"), "{expression}");
    // Every group that ever isolated the instance is remembered.
    assert_eq!(put["Item"]["IsolationGroupIds"], json!({"SS": ["sg-0150", "sg-07a5"]}));
    assert!(expression.ends_with(" ADD IsolationGroupIds :groups"), "{expression}");
    assert_eq!(update["ExpressionAttributeValues"][":groups"], json!({"SS": ["sg-0150", "sg-07a5"]}));
}

fn stamp() -> Stamp<'static> {
    Stamp { now: "2026-11-25T03:00:00Z".to_owned(), asked_by: "CloudFormation Create req-1" }
}

fn marking<'a>(owner: &'a Owner, instance: &'a InstanceId, stamp: &'a Stamp<'a>) -> Marking<'a> {
    let (from, state) = (State::Isolating, State::Isolated);
    Marking { owner, instance, from, state, reason: None, cut: Some(true), stamp }
}

#[tokio::test]
async fn a_lost_condition_is_an_outcome_not_a_failure() {
    let lost = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}"#;
    let (http, _) = wire(&[(400, lost)]);
    let (owner, instance) = (owner(), "i-0a".parse().unwrap());
    let result = table(http).mark(&marking(&owner, &instance, &stamp())).await;
    assert_eq!(result, Ok(Written::Lost));
}

#[tokio::test]
async fn a_record_is_marked_only_in_the_state_it_was_seen_in() {
    let (http, seen) = wire(&[(200, "{}"), (200, "{}"), (200, "{}")]);
    let table = table(http);
    let (owner, instance) = (owner(), "i-0a".parse().unwrap());
    let stamp = stamp();
    let isolated = marking(&owner, &instance, &stamp);
    let restored = Marking {
        from: State::Restoring,
        state: State::Restored,
        reason: Some("eni-01 was left alone"),
        cut: None,
        ..isolated.clone()
    };
    let kept = Marking {
        from: State::Restoring,
        state: State::Kept,
        reason: Some("the stack is rolling back"),
        cut: None,
        ..isolated.clone()
    };
    assert_eq!(table.mark(&kept).await, Ok(Written::Done));
    assert_eq!(table.mark(&isolated).await, Ok(Written::Done));
    assert_eq!(table.mark(&restored).await, Ok(Written::Done));
    let seen = seen.lock().unwrap().clone();
    let update: Value = serde_json::from_str(&seen[1]).unwrap();
    let past = "SET #state = :state, UpdatedAt = :now, History = list_append(if_not_exists(History, :past), :line)";
    assert_eq!(update["UpdateExpression"], format!("{past}, ConnectionsCut = :cut REMOVE KeptReason"));
    assert_eq!(line(&update), "2026-11-25T03:00:00Z isolated, connections cut (asked by CloudFormation Create req-1)");
    assert_eq!(update["ExpressionAttributeValues"][":cut"], json!({"BOOL": true}));
    let update: Value = serde_json::from_str(&seen[0]).unwrap();
    assert_eq!(update["ConditionExpression"], "#owner = :owner AND #state = :from");
    assert_eq!(update["UpdateExpression"], format!("{past}, KeptReason = :reason"));
    assert!(line(&update).starts_with("2026-11-25T03:00:00Z kept: the stack is rolling back (asked by "), "{update}");
    let values = &update["ExpressionAttributeValues"];
    assert_eq!((&values[":from"]["S"], &values[":state"]["S"]), (&json!("restoring"), &json!("kept")));
    assert_eq!(update["Key"], json!({"InstanceId": {"S": "i-0a"}}));
    let update: Value = serde_json::from_str(&seen[2]).unwrap();
    assert_eq!(update["UpdateExpression"], format!("{past} REMOVE KeptReason"));
    assert!(line(&update).contains(" restored: eni-01 was left alone (asked by "), "{update}");
}

/// What an update adds to the history.
fn line(update: &Value) -> &str {
    update["ExpressionAttributeValues"][":line"]["L"][0]["S"].as_str().unwrap()
}

#[tokio::test]
async fn a_superseded_intent_is_answered_with_what_is_wanted_now() {
    let lost = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no",
        "Item":{"InstanceId":{"S":"owner:x"},"RequestId":{"S":"req-2"},"Desired":{"S":"\"Restored\""}}}"#;
    let (http, seen) = wire(&[(400, lost)]);
    let now = table(http).write_intent(&owner(), "req-1", &Desired::Restored, "now").await.unwrap();
    assert_eq!((now.request_id.as_str(), now.desired), ("req-2", Desired::Restored));
    let update: Value = serde_json::from_str(&seen.lock().unwrap()[0]).unwrap();
    assert_eq!(
        update["ConditionExpression"],
        "attribute_not_exists(Requests) OR NOT contains(Requests, :request) OR RequestId = :request"
    );
}

#[tokio::test]
async fn records_are_scanned_consistently_over_all_pages_and_what_cannot_be_read_is_named() {
    let page = |id: &str, state: &str, more: &str| {
        format!(
            r#"{{"Items":[{{"InstanceId":{{"S":"{id}"}},"Owner":{{"S":"arn|Isolation"}},"State":{{"S":"{state}"}},
            "VpcId":{{"S":"vpc-01"}},"IsolationGroupId":{{"S":"sg-0150"}},"RecordedAt":{{"S":"t"}},
            "Interfaces":{{"M":{{"eni-01":{{"L":[{{"S":"sg-0a"}}]}}}}}},"Snapshots":{{"M":{{}}}},
            "InstanceProfile":{{"S":"arn:web"}},"Protection":{{"M":{{"TerminationProtection":{{"BOOL":false}},"ShutdownBehaviour":{{"S":"terminate"}},
            "AutoScalingGroup":{{"S":"web"}},"vol-0a":{{"S":"/dev/sda1"}}}}}}}}]{more}}}"#
        )
    };
    let more = r#","LastEvaluatedKey":{"InstanceId":{"S":"i-0a"}}"#;
    let (http, seen) = wire(&[(200, &page("i-0a", "kept", more)), (200, &page("i-0b", "melted", ""))]);
    let ledger = table(http).read().await.unwrap();
    assert!(seen.lock().unwrap().iter().all(|body| body.contains(r#""ConsistentRead":true"#)));
    let record = &ledger.records[&"i-0a".parse().unwrap()];
    assert_eq!((record.state, &record.snapshots), (State::Kept, &Snapshots::Requested));
    assert_eq!(record.protection, prior());
    // An item without the list names one group at least.
    assert_eq!(record.isolation_groups, ["sg-0150".parse().unwrap()].into());
    assert_eq!(ledger.unreadable, [("i-0b".to_owned(), "attribute State is \"melted\"".to_owned())].into());
}

#[tokio::test]
async fn a_stack_is_read_with_its_reason_and_its_parent() {
    let (http, seen) = wire(&[(
        200,
        "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>ir</StackName><CreationTime>2026-11-25T00:00:00Z</CreationTime>\
         <StackStatus>DELETE_IN_PROGRESS</StackStatus><StackStatusReason>User Initiated</StackStatusReason>\
         <ParentId>parent</ParentId></member></Stacks></DescribeStacksResult></DescribeStacksResponse>",
    )]);
    let stack = stacks(http).status("arn:x").await.unwrap();
    assert!(seen.lock().unwrap()[0].contains("StackName=arn%3Ax"));
    assert_eq!(
        (stack.status.as_str(), stack.reason.as_str(), stack.parent.as_deref()),
        ("DELETE_IN_PROGRESS", "User Initiated", Some("parent"))
    );
}

/// One call of each adapter with this client: what its fault was.
async fn faults(http: impl Fn() -> SharedHttpClient) -> [Fault; 3] {
    fn fault<T: std::fmt::Debug>(result: Call<T>) -> Fault {
        result.unwrap_err().fault
    }
    [
        fault(ec2(http()).instances(&ids(1)).await),
        fault(table(http()).read().await),
        fault(stacks(http()).status("arn").await),
    ]
}

/// The errors of EC2, DynamoDB and CloudFormation with these codes and statuses.
async fn check(codes: [(u16, &str); 3], expected: Fault) {
    let bodies = codes.map(|(status, code)| {
        let ec2 =
            format!("<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>");
        let json = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"m"}}"#);
        let query = format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>");
        (status, [ec2, json, query])
    });
    for (n, (status, body)) in bodies.iter().enumerate() {
        let (http, _) = wire(&[(*status, &body[n])]);
        assert_eq!(faults(|| http.clone()).await[n], expected, "{codes:?} of adapter {n}");
    }
}

#[tokio::test]
async fn each_error_of_a_service_becomes_its_fault() {
    check(
        [(503, "RequestLimitExceeded"), (400, "ProvisionedThroughputExceededException"), (400, "Throttling")],
        Fault::Throttled,
    )
    .await;
    check([(500, "InternalError"), (500, "InternalServerError"), (500, "InternalFailure")], Fault::Server).await;
    check([(403, "UnauthorizedOperation"), (400, "AccessDeniedException"), (403, "AccessDenied")], Fault::Denied).await;
    let (http, _) = wire(&[(
        400,
        "<Response><Errors><Error><Code>IncorrectInstanceState</Code><Message>m</Message></Error></Errors></Response>",
    )]);
    assert_eq!(faults(|| http.clone()).await[0], Fault::Busy);
    check(
        [(400, "InvalidParameterValue"), (400, "ResourceNotFoundException"), (400, "ValidationError")],
        Fault::Refused,
    )
    .await;
}

#[tokio::test]
async fn what_is_no_answer_is_garbled() {
    let (http, _) = wire(&[(200, "<<< not what anybody expects")]);
    assert_eq!(faults(|| http.clone()).await, [Fault::Garbled; 3]);
}

#[tokio::test]
async fn no_answer_at_all_is_a_time_out() {
    assert_eq!(faults(|| SharedHttpClient::new(NeverClient::new())).await, [Fault::TimedOut; 3]);
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_or_breaks_is_lost() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let breaks = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broken = format!("http://{}", breaks.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((stream, _)) = breaks.accept() {
            drop(stream);
        }
    });
    for endpoint in [closed, broken] {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let mut config = config!(aws_sdk_ec2, http.clone()).to_builder();
        config.set_endpoint_url(Some(endpoint));
        config.set_timeout_config(Some(TimeoutConfig::disabled()));
        let ec2 = with_client(ec2::client(config), http);
        let error = ec2.instances(&ids(1)).await.unwrap_err();
        assert_eq!(error.fault, Fault::Connection, "{error}");
        assert_eq!(error.action, "ec2:DescribeInstances");
    }
}

#[tokio::test]
async fn a_dry_run_asks_and_its_refusal_says_yes() {
    let error = |code: &str| {
        format!("<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>")
    };
    let (yes, no) = (error("DryRunOperation"), error("UnauthorizedOperation"));
    let (http, seen) = wire(&[(412, &yes), (403, &no), (200, "<R><return>true</return></R>")]);
    let (ec2, interface, groups) = (ec2(http), "eni-01".parse().unwrap(), ["sg-0a".parse().unwrap()].into());
    assert_eq!(ec2.may_set_groups(&interface, &groups).await, Ok(()));
    assert_eq!(ec2.may_set_groups(&interface, &groups).await.unwrap_err().fault, Fault::Denied);
    assert_eq!(ec2.may_set_groups(&interface, &groups).await.unwrap_err().fault, Fault::Garbled);
    assert!(seen.lock().unwrap().iter().all(|body| body.contains("&DryRun=true")), "{seen:?}");
}

#[tokio::test]
async fn the_branches_of_a_trunk_are_found_by_their_tag() {
    let found = "<DescribeNetworkInterfacesResponse><networkInterfaceSet><item><networkInterfaceId>eni-0b</networkInterfaceId><interfaceType>branch</interfaceType>\
        <groupSet><item><groupId>sg-0a</groupId></item></groupSet>\
        <tagSet><item><key>vpcresources.k8s.aws/trunk-eni-id</key><value>eni-0a</value></item></tagSet></item></networkInterfaceSet></DescribeNetworkInterfacesResponse>";
    let (http, seen) = wire(&[(200, found)]);
    let branches = ec2(http).branches(&["eni-0a".parse().unwrap()].into()).await.unwrap();
    assert_eq!(
        branches,
        [Branch {
            id: "eni-0b".parse().unwrap(),
            trunk: "eni-0a".parse().unwrap(),
            groups: ["sg-0a".parse().unwrap()].into()
        }]
    );
    let body = seen.lock().unwrap()[0].clone();
    assert!(body.contains("Filter.1.Name=tag%3Avpcresources.k8s.aws%2Ftrunk-eni-id&Filter.1.Value.1=eni-0a"), "{body}");
}

#[tokio::test]
async fn a_trunk_is_seen_with_its_instance() {
    let found = "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-0a</instanceId><networkInterfaceSet>\
        <item><networkInterfaceId>eni-0a</networkInterfaceId><interfaceType>trunk</interfaceType></item>\
        <item><networkInterfaceId>eni-0b</networkInterfaceId><interfaceType>efa</interfaceType></item>\
        </networkInterfaceSet></item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
    let (http, _) = wire(&[(200, found)]);
    let instances = ec2(http).instances(&["i-0a".parse().unwrap()].into()).await.unwrap();
    let trunks: Vec<bool> = instances[0].interfaces.iter().map(|interface| interface.is_trunk).collect();
    assert_eq!(trunks, [true, false]);
}
