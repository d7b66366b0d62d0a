//! What a drill asks of EC2 and CloudFormation, on the wire.

use std::collections::BTreeSet;

use ec2_isolation::operator::ports::drill::{
    DRILL_TAG, Details, Events as _, Fixtures as _, Launch, Made, Probes as _, StackEvent,
};

use super::{ec2, ec2_error, stacks, wire};
use crate::world::groups;

const ID: &str = "0badcafe";

fn tagged(value: &str) -> String {
    format!("<item><key>{DRILL_TAG}</key><value>{value}</value></item>")
}

/// Every parameter of a request.
fn has(body: &str, parts: &[&str]) {
    for part in parts {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[tokio::test]
async fn an_instance_is_launched_once_with_an_interface_in_each_group_and_everything_is_tagged() {
    let answer = "<RunInstancesResponse><instancesSet><item><instanceId>i-0a</instanceId></item></instancesSet></RunInstancesResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let [a, b] = ["sg-0a", "sg-0b"].map(|id| id.parse().unwrap());
    let image = "resolve:ssm:/aws/service/image";
    let launch = Launch { drill: ID, image, kind: "t3.micro", subnet: "subnet-0a", groups: [&a, &b] };
    assert_eq!(ec2(http).launch(&launch).await.unwrap().as_str(), "i-0a");
    let body = seen.lock().unwrap()[0].clone();
    has(
        &body,
        &[
            "ImageId=resolve%3Assm%3A%2Faws%2Fservice%2Fimage&InstanceType=t3.micro",
            "MaxCount=1&MinCount=1",
            "ClientToken=ec2-isolation-drill-0badcafe",
            "NetworkInterface.1.DeleteOnTermination=true&NetworkInterface.1.DeviceIndex=0",
            "NetworkInterface.1.SecurityGroupId.1=sg-0a&NetworkInterface.1.SubnetId=subnet-0a",
            "NetworkInterface.2.DeleteOnTermination=true&NetworkInterface.2.DeviceIndex=1",
            "NetworkInterface.2.SecurityGroupId.1=sg-0b",
            "MetadataOptions.HttpTokens=required",
            "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=ec2-isolation%3Adrill&TagSpecification.1.Tag.1.Value=0badcafe",
            "TagSpecification.2.ResourceType=network-interface",
            "TagSpecification.3.ResourceType=volume",
        ],
    );
    assert!(!body.contains("KeyName") && !body.contains("AssociatePublicIpAddress"), "{body}");
}

#[tokio::test]
async fn a_group_is_made_with_the_drills_name_and_tag() {
    let answer = "<CreateSecurityGroupResponse><groupId>sg-0a</groupId></CreateSecurityGroupResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let made = ec2(http).make_group(&"vpc-01".parse().unwrap(), ID, 'b').await.unwrap();
    assert_eq!(made.as_str(), "sg-0a");
    let body = seen.lock().unwrap()[0].clone();
    has(
        &body,
        &["GroupName=ec2-isolation-drill-0badcafe-b&VpcId=vpc-01", "ResourceType=security-group", "Value=0badcafe"],
    );
}

#[tokio::test]
async fn a_subnet_that_does_not_exist_has_no_vpc() {
    let found = "<DescribeSubnetsResponse><subnetSet><item><subnetId>subnet-0a</subnetId><vpcId>vpc-01</vpcId></item></subnetSet></DescribeSubnetsResponse>";
    for (answer, vpc) in
        [(found, Some("vpc-01")), ("<DescribeSubnetsResponse><subnetSet/></DescribeSubnetsResponse>", None)]
    {
        let (http, seen) = wire(&[(200, answer)]);
        let read = ec2(http).vpc_of("subnet-0a").await.unwrap();
        assert_eq!(read.as_ref().map(|vpc| vpc.as_str()), vpc);
        has(&seen.lock().unwrap()[0], &["Filter.1.Name=subnet-id&Filter.1.Value.1=subnet-0a"]);
    }
}

/// By tags, and by what nobody can forge: the token of the launch, the name of a group.
#[tokio::test]
async fn what_a_drill_has_made_is_told_from_what_has_its_tag_only() {
    let instance = |id: &str, state: &str, token: &str| {
        format!(
            "<item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState><clientToken>{token}</clientToken><tagSet>{}</tagSet></item>",
            tagged(ID)
        )
    };
    let own = "ec2-isolation-drill-0badcafe";
    let instances =
        [instance("i-01", "running", own), instance("i-02", "running", "x"), instance("i-03", "terminated", own)]
            .concat();
    let instances = format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{instances}</instancesSet></item></reservationSet></DescribeInstancesResponse>"
    );
    let interface = |id: &str, more: &str| {
        format!("<item><networkInterfaceId>{id}</networkInterfaceId><tagSet>{}</tagSet>{more}</item>", tagged(ID))
    };
    let attached = "<attachment><instanceId>i-01</instanceId></attachment>";
    let interfaces = [interface("eni-01", attached), interface("eni-02", "")].concat();
    let interfaces = format!(
        "<DescribeNetworkInterfacesResponse><networkInterfaceSet>{interfaces}</networkInterfaceSet></DescribeNetworkInterfacesResponse>"
    );
    let group = |id: &str, name: &str| {
        format!("<item><groupId>{id}</groupId><groupName>{name}</groupName><tagSet>{}</tagSet></item>", tagged(ID))
    };
    let found = [group("sg-01", "ec2-isolation-drill-0badcafe-a"), group("sg-02", "web")].concat();
    let found = format!(
        "<DescribeSecurityGroupsResponse><securityGroupInfo>{found}</securityGroupInfo></DescribeSecurityGroupsResponse>"
    );
    let volume = |id: &str, more: &str| {
        format!(
            "<item><volumeId>{id}</volumeId><attachmentSet>{more}</attachmentSet><tagSet>{}</tagSet></item>",
            tagged(ID)
        )
    };
    let volumes = [volume("vol-01", "<item><instanceId>i-01</instanceId></item>"), volume("vol-02", "")].concat();
    let volumes = format!("<DescribeVolumesResponse><volumeSet>{volumes}</volumeSet></DescribeVolumesResponse>");
    let snapshot = format!("<item><snapshotId>snap-01</snapshotId><tagSet>{}</tagSet></item>", tagged(ID));
    let snapshots =
        format!("<DescribeSnapshotsResponse><snapshotSet>{snapshot}</snapshotSet></DescribeSnapshotsResponse>");
    let answers = [instances, interfaces, found, volumes, snapshots];
    let answers: Vec<(u16, &str)> = answers.iter().map(|answer| (200, answer.as_str())).collect();
    let (http, seen) = wire(&answers);
    let made = Made {
        instances: BTreeSet::from(["i-01".parse().unwrap()]),
        interfaces: BTreeSet::from(["eni-02".parse().unwrap()]),
        groups: groups(&["sg-01"]),
        tagged: ["i-02", "sg-02", "snap-01", "vol-02"].map(str::to_owned).into(),
    };
    assert_eq!(ec2(http).made().await.unwrap(), [(ID.to_owned(), made)].into());
    for body in seen.lock().unwrap().iter() {
        has(body, &["Filter.1.Name=tag-key&Filter.1.Value.1=ec2-isolation%3Adrill", "MaxResults=1000"]);
    }
    has(&seen.lock().unwrap()[4], &["Owner.1=self"]);
}

#[tokio::test]
async fn snapshots_are_found_by_their_volumes_and_without_a_volume_nothing_is_asked() {
    let answer = "<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>snap-01</snapshotId></item></snapshotSet></DescribeSnapshotsResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let ec2 = ec2(http);
    assert_eq!(ec2.snapshots_of(&BTreeSet::new()).await.unwrap(), BTreeSet::new());
    let found = ec2.snapshots_of(&["vol-01".parse().unwrap()].into()).await.unwrap();
    assert_eq!(found, ["snap-01".parse().unwrap()].into());
    let seen = seen.lock().unwrap();
    has(&seen[0], &["Filter.1.Name=volume-id&Filter.1.Value.1=vol-01", "Owner.1=self"]);
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn deleting_what_is_gone_succeeds_and_what_is_in_use_is_an_error() {
    for (code, is_done) in [("InvalidGroup.NotFound", true), ("DependencyViolation", false)] {
        let (http, seen) = wire(&[(400, &ec2_error(code))]);
        let deleted = ec2(http).delete_group(&"sg-0a".parse().unwrap()).await;
        assert_eq!(deleted.is_ok(), is_done, "{code}");
        has(&seen.lock().unwrap()[0], &["Action=DeleteSecurityGroup", "GroupId=sg-0a"]);
    }
    let (http, seen) = wire(&[(400, &ec2_error("InvalidInstanceID.NotFound"))]);
    let ec2 = ec2(http);
    ec2.terminate(&"i-0a".parse().unwrap()).await.unwrap();
    ec2.delete_interface(&"eni-0a".parse().unwrap()).await.unwrap();
    ec2.delete_snapshot(&"snap-0a".parse().unwrap()).await.unwrap();
    let seen = seen.lock().unwrap();
    has(&seen[0], &["Action=TerminateInstances", "InstanceId.1=i-0a"]);
    has(&seen[1], &["Action=DeleteNetworkInterface", "NetworkInterfaceId=eni-0a"]);
    has(&seen[2], &["Action=DeleteSnapshot", "SnapshotId=snap-0a"]);
}

#[tokio::test]
async fn the_details_of_an_instance_are_its_own_groups_and_its_metadata_options() {
    let answer = "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-0a</instanceId>\
        <groupSet><item><groupId>sg-0a</groupId></item></groupSet>\
        <metadataOptions><state>pending</state><httpTokens>required</httpTokens><httpEndpoint>disabled</httpEndpoint></metadataOptions>\
        </item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
    let (http, _) = wire(&[(200, answer)]);
    let details = ec2(http).details(&"i-0a".parse().unwrap()).await.unwrap().unwrap();
    let expected = Details {
        groups: groups(&["sg-0a"]),
        is_metadata_on: false,
        metadata_state: "pending".to_owned(),
        metadata_tokens: "required".to_owned(),
    };
    assert_eq!(details, expected);
}

#[tokio::test]
async fn one_group_is_let_into_another_by_ssh_and_out_again() {
    let (http, seen) =
        wire(&[(200, "<AuthorizeSecurityGroupIngressResponse/>"), (400, &ec2_error("InvalidPermission.NotFound"))]);
    let ec2 = ec2(http);
    let [group, from] = ["sg-0a", "sg-0b"].map(|id| id.parse().unwrap());
    ec2.admit(&group, &from).await.unwrap();
    ec2.dismiss(&group, &from).await.unwrap();
    let rule = "GroupId=sg-0a&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22";
    let seen = seen.lock().unwrap();
    has(&seen[0], &["Action=AuthorizeSecurityGroupIngress", rule, "IpPermissions.1.Groups.1.GroupId=sg-0b"]);
    has(&seen[1], &["Action=RevokeSecurityGroupIngress", rule, "IpPermissions.1.ToPort=22"]);
}

#[tokio::test]
async fn the_groups_of_a_whole_instance_are_set_by_the_call_that_is_about_it() {
    let (http, seen) = wire(&[(400, &ec2_error("InvalidInstanceID"))]);
    let answer = ec2(http).set_groups_of_instance(&"i-0a".parse().unwrap(), &groups(&["sg-0a"])).await;
    assert_eq!(answer.unwrap_err().code, "InvalidInstanceID");
    has(&seen.lock().unwrap()[0], &["Action=ModifyInstanceAttribute", "InstanceId=i-0a", "GroupId.1=sg-0a"]);
}

#[tokio::test]
async fn a_stacks_events_are_read_over_all_pages_oldest_first() {
    let page = |events: &str, token: &str| {
        format!(
            "<DescribeStackEventsResponse><DescribeStackEventsResult><StackEvents>{events}</StackEvents>{token}</DescribeStackEventsResult></DescribeStackEventsResponse>"
        )
    };
    let event = |at: &str, status: &str| {
        format!(
            "<member><StackId>s</StackId><EventId>{at}</EventId><StackName>s</StackName><LogicalResourceId>Isolation</LogicalResourceId>\
             <ResourceType>Custom::Ec2Isolation</ResourceType><Timestamp>2026-11-27T02:00:0{at}Z</Timestamp>\
             <ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>why</ResourceStatusReason></member>"
        )
    };
    let first = page(&event("2.250", "CREATE_FAILED"), "<NextToken>more</NextToken>");
    let second = page(&event("1", "CREATE_IN_PROGRESS"), "");
    let (http, seen) = wire(&[(200, &first), (200, &second)]);
    let events = stacks(http).events("the stack").await.unwrap();
    let expected = |at_ms, status: &str| StackEvent {
        at_ms,
        logical_id: "Isolation".to_owned(),
        kind: "Custom::Ec2Isolation".to_owned(),
        status: status.to_owned(),
        reason: "why".to_owned(),
    };
    assert_eq!(
        events,
        [expected(1_795_744_801_000, "CREATE_IN_PROGRESS"), expected(1_795_744_802_250, "CREATE_FAILED")]
    );
    has(&seen.lock().unwrap()[1], &["Action=DescribeStackEvents", "StackName=the%20stack", "NextToken=more"]);
}
