//! EC2: instances, groups, attributes, profiles and branches.

use ec2_isolation::model::{Attribute, Branch, Groups, InstanceId, Peer, Profile, Role, ShutdownBehaviour, Volume};
use ec2_isolation::ports::{Change as _, Fault, GroupQuery, Look as _};

use super::{ec2, ec2_error, ids, wire};

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
