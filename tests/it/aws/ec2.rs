//! EC2: instances, groups, attributes, profiles and branches.

use std::collections::BTreeSet;

use ec2_isolation::aws::ec2::Ec2;
use ec2_isolation::model::{
    Attribute, Branch, Groups, InstanceId, Peer, Profile, Role, ScheduledEvent, ShutdownBehaviour, Volume,
};
use ec2_isolation::operator::ports::Survey as _;
use ec2_isolation::plan::Change as Protecting;
use ec2_isolation::ports::{Call, Change as _, Fault, GroupQuery, Look as _};

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
    assert!(seen.iter().all(|body| !body.contains("InstanceId.1") && body.contains("&MaxResults=1000")), "{seen:?}");
    // What another service manages may be hidden.
    assert!(seen.iter().all(|body| body.contains("&IncludeManagedResources=true")), "{seen:?}");
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
             <item><networkInterfaceId>eni-01</networkInterfaceId><vpcId>vpc-02</vpcId><attachment><deviceIndex>0</deviceIndex></attachment>\
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
    assert!(seen.lock().unwrap()[1].contains("NextToken=more") && seen.lock().unwrap()[1].contains("MaxResults="));
    let instance = &instances[1];
    assert_eq!((instance.id.as_str(), instance.state.as_str()), ("i-0a0", "running"));
    let interfaces: Vec<_> = instance.interfaces.iter().map(|i| (i.id.to_string(), i.groups.len())).collect();
    assert_eq!(interfaces, [("eni-01".to_owned(), 2), ("eni-02".to_owned(), 1)]);
    let first = &instance.interfaces[0];
    assert_eq!((first.vpc.as_ref(), first.instance.as_ref()), (Some(&"vpc-02".parse().unwrap()), Some(&instance.id)));
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
         <item><key>aws:cloudformation:logical-id</key><value>IsolatedSecurityGroup</value></item>\
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

/// What our own tag says, an attacker may have written; CloudFormation's nobody can.
#[tokio::test]
async fn what_a_group_is_for_is_said_by_the_name_that_its_template_gives_it() {
    let roles = [
        (Some("IsolatedSecurityGroup"), Some(Role::Isolation)),
        (Some("TransitSecurityGroup"), Some(Role::Transit)),
        (Some("ForensicSecurityGroup"), Some(Role::Forensic)),
        (Some("WebSecurityGroup"), None),
        (None, None),
    ];
    for forged in ["isolation", "transit", "forensic", "none of ours"] {
        for (logical_id, role) in roles {
            let item = |key: &str, value: &str| format!("<item><key>{key}</key><value>{value}</value></item>");
            let name = logical_id.map(|id| item("aws:cloudformation:logical-id", id)).unwrap_or_default();
            let tags = item("ec2-isolation:role", forged) + &item("aws:cloudformation:stack-id", "arn") + &name;
            let body = format!(
                "<DescribeSecurityGroupsResponse><securityGroupInfo><item><groupId>sg-0a</groupId>\
                 <tagSet>{tags}</tagSet></item></securityGroupInfo></DescribeSecurityGroupsResponse>"
            );
            let (http, _) = wire(&[(200, &body)]);
            let groups = ec2(http).groups(&GroupQuery::Ours).await.unwrap();
            assert_eq!(groups[0].role, role, "{forged} {logical_id:?}");
        }
    }
}

#[test]
fn every_template_gives_its_groups_the_names_that_say_what_they_are_for() {
    let groups = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let is_group = |pair: &&[&str]| pair[1].trim() == "Type: AWS::EC2::SecurityGroup";
        let names = lines.windows(2).filter(is_group).map(|pair| pair[0].trim().trim_end_matches(':').to_owned());
        names.map(|name| Role::of_resource(&name).unwrap_or_else(|| panic!("{file}: {name}"))).collect::<Vec<_>>()
    };
    use Role::{Forensic, Isolation, Transit};
    assert_eq!(groups("template.yaml"), [Forensic, Isolation, Transit]);
    assert_eq!(groups("incident.yaml"), [Isolation, Transit]);
    assert_eq!(groups("host.yaml"), [Forensic]);
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
        ec2(http).protect(&instance, &Protecting::Attribute(attribute)).await.unwrap();
        let body = seen.lock().unwrap()[0].clone();
        assert!(body.starts_with("Action=ModifyInstanceAttribute&") && body.contains("InstanceId=i-0a"), "{body}");
        assert!(body.contains(parameter) && body.matches(".Value=").count() == 1, "{body}");
    }
    let (http, seen) = wire(&[(200, done)]);
    let device = |id: &str, device: &str| (id.parse().unwrap(), device.to_owned());
    let volumes = [device("vol-01", "/dev/sda1"), device("vol-02", "/dev/sdf")].into();
    ec2(http).protect(&instance, &Protecting::Volumes { volumes, go_with_it: false }).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    for (n, device) in [(1, "%2Fdev%2Fsda1"), (2, "%2Fdev%2Fsdf")] {
        assert!(body.contains(&format!("BlockDeviceMapping.{n}.DeviceName={device}")), "{body}");
        assert!(body.contains(&format!("BlockDeviceMapping.{n}.Ebs.DeleteOnTermination=false")), "{body}");
    }
}

/// EC2 applies a change to a running instance a moment later, and to a stopped one when it starts.
#[tokio::test]
async fn the_metadata_service_is_off_once_ec2_has_applied_it() {
    for (state, options, shown) in [
        ("running", "<httpEndpoint>enabled</httpEndpoint><state>applied</state>", (true, false)),
        ("running", "<httpEndpoint>enabled</httpEndpoint><state>pending</state>", (true, true)),
        ("running", "<httpEndpoint>disabled</httpEndpoint><state>pending</state>", (false, true)),
        ("running", "<httpEndpoint>disabled</httpEndpoint><state>applied</state>", (false, false)),
        ("stopped", "<httpEndpoint>disabled</httpEndpoint><state>pending</state>", (false, false)),
    ] {
        let found = format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-0a</instanceId>\
             <instanceState><code>16</code><name>{state}</name></instanceState>\
             <metadataOptions>{options}</metadataOptions></item></instancesSet></item></reservationSet>\
             </DescribeInstancesResponse>"
        );
        let (http, _) = wire(&[(200, &found)]);
        let instances = ec2(http).instances(&ids(1)).await.unwrap();
        let found = (instances[0].has_metadata_service, instances[0].is_metadata_pending);
        assert_eq!(found, shown, "{state} {options}");
    }
}

#[tokio::test]
async fn the_metadata_service_is_switched_by_its_endpoint_alone() {
    for (is_on, endpoint) in [(false, "disabled"), (true, "enabled")] {
        let (http, seen) = wire(&[(200, "<ModifyInstanceMetadataOptionsResponse/>")]);
        ec2(http).protect(&"i-0a".parse().unwrap(), &Protecting::MetadataService { is_on }).await.unwrap();
        let body = seen.lock().unwrap()[0].clone();
        let mut parameters: Vec<&str> = body.split('&').filter(|part| !part.starts_with("Version=")).collect();
        parameters.sort_unstable();
        let endpoint = format!("HttpEndpoint={endpoint}");
        assert_eq!(parameters, ["Action=ModifyInstanceMetadataOptions", &endpoint, "InstanceId=i-0a"]);
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
    let change = Protecting::Attribute(Attribute::StopProtection(true));
    let error = ec2(http).protect(&"i-0a".parse().unwrap(), &change).await.unwrap_err();
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
    let instance: InstanceId = "i-0a".parse().unwrap();
    ec2(http).protect(&instance, &Protecting::DetachProfile(profile)).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    assert!(
        body.contains("Action=DisassociateIamInstanceProfile&") && body.contains("AssociationId=iip-assoc-1"),
        "{body}"
    );

    let (http, seen) = wire(&[(200, "<AssociateIamInstanceProfileResponse/>")]);
    let attach = Protecting::AttachProfile { arn: "arn:web".into() };
    ec2(http).protect(&instance, &attach).await.unwrap();
    let body = seen.lock().unwrap()[0].clone();
    for part in ["Action=AssociateIamInstanceProfile&", "InstanceId=i-0a", "IamInstanceProfile.Arn=arn%3Aweb"] {
        assert!(body.contains(part), "{body}");
    }

    let (http, _) = wire(&[(400, &ec2_error("IncorrectState"))]);
    let error = ec2(http).protect(&instance, &attach).await.unwrap_err();
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

/// What is found where EC2 answers these items twice, in two pages; and the requests.
async fn over_two_pages<T, F: Future<Output = Call<T>>>(
    listing: &str,
    items: &str,
    list: impl FnOnce(Ec2) -> F,
) -> (T, Vec<String>) {
    let page = |token: &str| format!("<Describe{listing}Response>{items}{token}</Describe{listing}Response>");
    let (first, last) = (page("<nextToken>more</nextToken>"), page(""));
    let (http, seen) = wire(&[(200, &first), (200, &last)]);
    let found = list(ec2(http)).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2, "{seen:?}");
    let is_paged = |body: &String| body.contains("&MaxResults=1000") && body.contains("&Filter.1.Name=");
    assert!(seen.iter().all(is_paged) && seen[1].contains("&NextToken=more"), "{seen:?}");
    (found, seen)
}

#[tokio::test]
async fn every_listing_is_paged_and_its_pages_are_followed() {
    let items = "<networkInterfaceSet><item><networkInterfaceId>eni-01</networkInterfaceId>\
        <tagSet><item><key>vpcresources.k8s.aws/trunk-eni-id</key><value>eni-0a</value></item></tagSet></item></networkInterfaceSet>";
    let interfaces = BTreeSet::from(["eni-0a".parse().unwrap()]);
    let groups = Groups::from(["sg-01".parse().unwrap()]);
    let listing = "NetworkInterfaces";
    let (found, seen) = over_two_pages(listing, items, async |ec2| ec2.interfaces(&interfaces).await).await;
    assert!(seen.iter().all(|body| body.contains("&IncludeManagedResources=true")), "{seen:?}");
    assert_eq!(found.len(), 2);
    assert_eq!(over_two_pages(listing, items, async |ec2| ec2.branches(&interfaces).await).await.0.len(), 2);
    assert_eq!(over_two_pages(listing, items, async |ec2| ec2.interfaces_in(&groups).await).await.0.len(), 2);

    let items = "<securityGroupInfo><item><groupId>sg-01</groupId></item></securityGroupInfo>";
    for query in [
        GroupQuery::Ids(groups),
        GroupQuery::Marked("vpc-01".parse().unwrap()),
        GroupQuery::OfStack("arn".to_owned()),
        GroupQuery::OfStackNamed("ir".to_owned()),
    ] {
        let (found, _) = over_two_pages("SecurityGroups", items, async |ec2| ec2.groups(&query).await).await;
        assert_eq!(found.len(), 2);
    }

    let items = "<snapshotSet><item><snapshotId>snap-01</snapshotId><volumeId>vol-01</volumeId></item></snapshotSet>";
    let episodes = BTreeSet::from(["episode".to_owned()]);
    assert_eq!(over_two_pages("Snapshots", items, async |ec2| ec2.snapshots(&episodes).await).await.0.len(), 2);

    let items = "<iamInstanceProfileAssociationSet><item><associationId>a</associationId><instanceId>i-0a</instanceId>\
        <iamInstanceProfile><arn>arn:web</arn></iamInstanceProfile></item></iamInstanceProfileAssociationSet>";
    let listing = "IamInstanceProfileAssociations";
    over_two_pages(listing, items, async |ec2| ec2.profiles(&ids(1)).await).await;
}

#[tokio::test]
async fn one_portion_that_fails_fails_the_call() {
    let throttled = ec2_error("RequestLimitExceeded");
    let (http, _) = wire(&[(200, NO_INSTANCES), (503, &throttled), (200, NO_INSTANCES)]);
    assert_eq!(ec2(http).instances(&ids(204)).await.unwrap_err().fault, Fault::Throttled);
}

#[tokio::test]
async fn an_interface_is_read_with_its_vpc_and_what_it_is_attached_to() {
    let found = "<DescribeNetworkInterfacesResponse><networkInterfaceSet>\
        <item><networkInterfaceId>eni-01</networkInterfaceId><vpcId>vpc-01</vpcId><attachment><instanceId>i-0a</instanceId></attachment></item>\
        <item><networkInterfaceId>eni-02</networkInterfaceId><attachment><instanceOwnerId>amazon-elb</instanceOwnerId></attachment></item>\
        </networkInterfaceSet></DescribeNetworkInterfacesResponse>";
    let (http, _) = wire(&[(200, found)]);
    let interfaces = ec2(http).interfaces(&["eni-01", "eni-02"].map(|id| id.parse().unwrap()).into()).await.unwrap();
    let shown: Vec<_> = interfaces.into_iter().map(|found| (found.vpc, found.instance)).collect();
    assert_eq!(shown, [(Some("vpc-01".parse().unwrap()), Some("i-0a".parse().unwrap())), (None, None)]);
}

#[tokio::test]
async fn volumes_that_have_a_snapshot_are_left_out_of_the_set_the_root_volume_as_such() {
    let taken = "<CreateSnapshotsResponse><snapshotSet><item><snapshotId>snap-02</snapshotId><volumeId>vol-02</volumeId></item></snapshotSet></CreateSnapshotsResponse>";
    let device = |(id, device): (&str, &str)| (id.parse().unwrap(), device.to_owned());
    for (without, root, data) in [
        (vec![], false, 0),
        (vec![("vol-01", "/dev/sda1")], true, 0),
        (vec![("vol-01", "/dev/xvda"), ("vol-03", "/dev/sdf")], true, 1),
        (vec![("vol-03", "/dev/sdf"), ("vol-04", "/dev/xvdb")], false, 2),
    ] {
        let (http, seen) = wire(&[(200, taken)]);
        let without = without.into_iter().map(device).collect();
        let snapshots = ec2(http).take_snapshots(&"i-0a".parse().unwrap(), &without, &[].into()).await.unwrap();
        assert_eq!(snapshots, [("vol-02".parse().unwrap(), "snap-02".parse().unwrap())].into());
        let body = seen.lock().unwrap()[0].clone();
        assert_eq!(body.contains("InstanceSpecification.ExcludeBootVolume=true"), root, "{body}");
        assert_eq!(body.matches("InstanceSpecification.ExcludeDataVolumeId.").count(), data, "{body}");
    }
    let many = (0..50).map(|n| (format!("vol-{n:017x}").parse().unwrap(), format!("/dev/sd{n}"))).collect();
    let (http, seen) = wire(&[(200, taken)]);
    ec2(http).take_snapshots(&"i-0a".parse().unwrap(), &many, &[].into()).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].matches("ExcludeDataVolumeId.").count(), 40);
}

#[tokio::test]
async fn what_aws_has_scheduled_is_read_of_those_that_are_asked_for_and_what_is_over_is_left_out() {
    let item = |id: &str, description: &str| {
        format!(
            "<item><instanceId>{id}</instanceId><eventsSet><item><instanceEventId>e</instanceEventId><code>instance-retirement</code>\
             <description>{description}</description><notBefore>2026-12-01T04:00:00.000Z</notBefore></item></eventsSet></item>"
        )
    };
    let page = |items: &str, next: &str| {
        format!(
            "<DescribeInstanceStatusResponse><instanceStatusSet>{items}</instanceStatusSet>{next}</DescribeInstanceStatusResponse>"
        )
    };
    let first = item("i-0", "degraded") + &item("i-9", "degraded");
    let second = item("i-1", "[Completed] degraded") + &item("i-2", "[Canceled] degraded");
    let (http, seen) = wire(&[(200, &page(&first, "<nextToken>more</nextToken>")), (200, &page(&second, ""))]);
    let asked = ["i-0", "i-1", "i-2"].map(|id| id.parse().unwrap()).into();
    let found = ec2(http).scheduled_events(&asked).await.unwrap();
    let not_before = Some("2026-12-01T04:00:00Z".parse().unwrap());
    let event = ScheduledEvent { code: "instance-retirement".to_owned(), not_before };
    assert_eq!(found, [("i-0".parse().unwrap(), vec![event])].into());
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 2 && seen[1].contains("NextToken=more"), "{seen:?}");
    for part in
        ["Action=DescribeInstanceStatus", "IncludeAllInstances=true", "Filter.1.Name=event.code", "MaxResults=1000"]
    {
        assert!(seen[0].contains(part), "{part}: {}", seen[0]);
    }
    assert!(!seen[0].contains("InstanceId."), "one that is gone would fail the call: {}", seen[0]);
}

#[tokio::test]
async fn a_spot_instance_is_seen_as_such() {
    for (text, expected) in [("<instanceLifecycle>spot</instanceLifecycle>", Some("spot")), ("", None)] {
        let body = format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-0</instanceId>{text}</item></instancesSet>\
             </item></reservationSet></DescribeInstancesResponse>"
        );
        let (http, _) = wire(&[(200, &body)]);
        let found = ec2(http).instances(&["i-0".parse().unwrap()].into()).await.unwrap();
        assert_eq!(found[0].lifecycle.as_deref(), expected);
    }
}

#[tokio::test]
async fn an_instance_alone_enters_and_leaves_standby() {
    for (action, change) in [
        ("EnterStandby", Protecting::EnterStandby { group: "web".into() }),
        ("ExitStandby", Protecting::ExitStandby { group: "web".into() }),
    ] {
        let (http, seen) = wire(&[(200, &format!("<{action}Response><{action}Result/></{action}Response>"))]);
        ec2(http).protect(&"i-0a".parse().unwrap(), &change).await.unwrap();
        let body = seen.lock().unwrap()[0].clone();
        for part in [&format!("Action={action}&"), "AutoScalingGroupName=web", "InstanceIds.member.1=i-0a"] {
            assert!(body.contains(part), "{body}");
        }
    }
}
