//! Volumes of snapshots, copies and blocks on the wire: what is asked, how answers are read, and what is no failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_smithy_http_client::test_util::infallible_client_fn;
use ec2_isolation::model::Owner;
use ec2_isolation::operator::aws::ebs::Ebs;
use ec2_isolation::operator::ports::disks::{Blocks as _, Copies as _, Disks as _, NewVolume};
use ec2_isolation::operator::ports::{Archive as _, Evidence as _, SnapshotQuery, VolumeQuery};
use ec2_isolation::ports::{Fault, Written};

use super::{ec2, ec2_error, table, wire};

fn tags() -> BTreeMap<String, String> {
    [("Name".to_owned(), "a b".to_owned())].into()
}

#[tokio::test]
async fn a_volume_is_made_of_a_snapshot_with_its_key_its_tags_and_a_token() {
    let answer = "<CreateVolumeResponse><volumeId>vol-01</volumeId></CreateVolumeResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let ec2 = ec2(http);
    let (snapshot, tags) = ("snap-01".parse().unwrap(), tags());
    let mut new = NewVolume { snapshot: &snapshot, zone: "us-east-1a", key: Some("arn:k"), tags: &tags, token: "t" };
    assert_eq!(ec2.make_volume(&new).await.unwrap().as_str(), "vol-01");
    new.key = None;
    ec2.make_volume(&new).await.unwrap();
    let seen = seen.lock().unwrap();
    for part in [
        "Action=CreateVolume",
        "AvailabilityZone=us-east-1a",
        "Encrypted=true",
        "KmsKeyId=arn%3Ak",
        "SnapshotId=snap-01",
        "VolumeType=gp3",
        "ClientToken=t",
        "TagSpecification.1.ResourceType=volume",
        "TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=a%20b",
    ] {
        assert!(seen[0].contains(part), "{part} in {}", seen[0]);
    }
    assert!(!seen[1].contains("Encrypted") && !seen[1].contains("KmsKeyId"), "{}", seen[1]);
}

#[tokio::test]
async fn what_is_detached_or_gone_needs_nothing_and_what_is_in_use_is_refused() {
    let volume = "vol-01".parse().unwrap();
    for (code, detach, delete) in [
        ("InvalidVolume.NotFound", Ok(()), Ok(())),
        ("IncorrectState", Ok(()), Err(Fault::Busy)),
        ("InvalidAttachment.NotFound", Ok(()), Err(Fault::Unseen)),
        ("VolumeInUse", Err(Fault::Refused), Err(Fault::Refused)),
        ("UnauthorizedOperation", Err(Fault::Denied), Err(Fault::Denied)),
    ] {
        let ec2 = ec2(wire(&[(400, &ec2_error(code))]).0);
        assert_eq!(ec2.detach(&volume).await.map_err(|error| error.fault), detach, "{code}");
        assert_eq!(ec2.delete_volume(&volume).await.map_err(|error| error.fault), delete, "{code}");
    }
    let (http, seen) = wire(&[(200, "<AttachVolumeResponse/>")]);
    ec2(http).attach(&volume, &"i-01".parse().unwrap(), "/dev/sdf").await.unwrap();
    assert!(
        seen.lock().unwrap()[0].contains("Device=%2Fdev%2Fsdf&InstanceId=i-01&VolumeId=vol-01"),
        "{:?}",
        seen.lock().unwrap()
    );
}

/// Of its limit what it has already is taken away: for most types interfaces and instance store volumes, too.
#[tokio::test]
async fn a_host_is_read_with_its_zone_its_devices_and_how_many_more_volumes_it_takes() {
    let instance = "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-01</instanceId>\
        <instanceState><name>running</name></instanceState><instanceType>t3.large</instanceType>\
        <placement><availabilityZone>us-east-1b</availabilityZone></placement>\
        <blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><volumeId>vol-01</volumeId></ebs></item></blockDeviceMapping>\
        <networkInterfaceSet><item><networkInterfaceId>eni-01</networkInterfaceId></item></networkInterfaceSet>\
        </item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
    let kind = |limit: &str| {
        format!(
            "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>t3.large</instanceType><hypervisor>nitro</hypervisor>\
             <ebsInfo>{limit}</ebsInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>"
        )
    };
    let most = |kind: &str| {
        format!("<maximumEbsAttachments>28</maximumEbsAttachments><attachmentLimitType>{kind}</attachmentLimitType>")
    };
    for (limit, room) in [(most("shared"), Some(26)), (most("dedicated"), Some(27)), (String::new(), None)] {
        let (http, _) = wire(&[(200, instance), (200, &kind(&limit))]);
        let bench = ec2(http).bench(&"i-01".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(
            (bench.zone.as_str(), bench.state.as_str(), bench.kind.as_str()),
            ("us-east-1b", "running", "t3.large")
        );
        assert_eq!((bench.devices["/dev/sda1"].as_str(), bench.is_nvme, bench.room), ("vol-01", true, room), "{limit}");
    }
    let none = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    assert_eq!(ec2(wire(&[(200, none)]).0).bench(&"i-01".parse().unwrap()).await, Ok(None));
}

#[tokio::test]
async fn volumes_are_read_by_what_they_were_made_of_and_where_they_are() {
    let answer = "<DescribeVolumesResponse><volumeSet><item><volumeId>vol-01</volumeId><size>8</size><status>in-use</status>\
        <snapshotId>snap-01</snapshotId><availabilityZone>us-east-1a</availabilityZone>\
        <attachmentSet><item><instanceId>i-01</instanceId><device>/dev/sdf</device><status>attaching</status></item></attachmentSet></item>\
        </volumeSet></DescribeVolumesResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let ec2 = ec2(http);
    let found = ec2.volumes(&VolumeQuery::OfSnapshots(["snap-01".parse().unwrap()].into())).await.unwrap();
    let at = found[0].attachment.clone().unwrap();
    assert_eq!((at.instance.as_str(), at.device.as_str(), at.state.as_str()), ("i-01", "/dev/sdf", "attaching"));
    assert_eq!(
        (found[0].snapshot.as_ref().unwrap().as_str(), found[0].zone.as_str(), found[0].state.as_str()),
        ("snap-01", "us-east-1a", "in-use")
    );
    ec2.volumes(&VolumeQuery::OfEvidence).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("Filter.1.Name=snapshot-id&Filter.1.Value.1=snap-01"), "{}", seen[0]);
    assert!(seen[1].contains("Filter.1.Name=tag%3Aec2-isolation%3Arole&Filter.1.Value.1=evidence"), "{}", seen[1]);
}

#[tokio::test]
async fn a_snapshot_is_read_with_how_far_it_is_and_why_it_failed() {
    let answer = "<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>snap-01</snapshotId><status>error</status>\
        <statusMessage>Given key ID is not accessible</statusMessage><progress>40%</progress>\
        <completionTime>2026-11-25T04:00:00Z</completionTime></item></snapshotSet></DescribeSnapshotsResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let ec2 = ec2(http);
    let found = ec2.snapshot_details(&SnapshotQuery::CopiesOf(["snap-02".parse().unwrap()].into())).await.unwrap();
    assert_eq!((found[0].percent, found[0].why.as_deref()), (40, Some("Given key ID is not accessible")));
    assert_eq!(found[0].completed_at, Some("2026-11-25T04:00:00Z".parse().unwrap()));
    ec2.snapshot_details(&SnapshotQuery::Marked).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("Filter.1.Name=tag%3Aec2-isolation%3Acopy-of&Filter.1.Value.1=snap-02"), "{}", seen[0]);
    assert!(
        seen[1].contains("Filter.1.Value.1=ec2-isolation%3Aepisode&Filter.1.Value.2=ec2-isolation%3Acopy-of"),
        "{}",
        seen[1]
    );
}

#[tokio::test]
async fn a_copy_is_encrypted_with_the_key_and_shared_with_one_account() {
    let answers = [
        (200, "<CopySnapshotResponse><snapshotId>snap-02</snapshotId></CopySnapshotResponse>"),
        (200, "<ModifySnapshotAttributeResponse><return>true</return></ModifySnapshotAttributeResponse>"),
        (
            200,
            "<DescribeSnapshotAttributeResponse><createVolumePermission><item><userId>111122223333</userId></item>\
             <item><group>all</group></item></createVolumePermission></DescribeSnapshotAttributeResponse>",
        ),
    ];
    let (http, seen) = wire(&answers);
    let ec2 = ec2(http);
    let copy = ec2.copy_snapshot(&"snap-01".parse().unwrap(), "arn:k", &tags()).await.unwrap();
    ec2.share(&copy, "111122223333").await.unwrap();
    let with = ec2.shared_with(&copy).await.unwrap();
    assert_eq!(with, ["111122223333".to_owned(), "all".to_owned()].into());
    let seen = seen.lock().unwrap();
    for part in [
        "Encrypted=true",
        "KmsKeyId=arn%3Ak",
        "SourceRegion=us-east-1",
        "SourceSnapshotId=snap-01",
        "ResourceType=snapshot",
    ] {
        assert!(seen[0].contains(part), "{part} in {}", seen[0]);
    }
    for part in ["Attribute=createVolumePermission", "OperationType=add", "UserId.1=111122223333", "SnapshotId=snap-02"]
    {
        assert!(seen[1].contains(part), "{part} in {}", seen[1]);
    }
}

#[tokio::test]
async fn a_line_is_added_to_the_history_of_a_record_that_is_still_the_owners_and_nothing_else_changes() {
    let owner = Owner { stack_id: "arn".to_owned(), logical_id: "Isolation".to_owned() };
    let (http, seen) = wire(&[(200, "{}")]);
    assert_eq!(table(http).note(&owner, &"i-0a".parse().unwrap(), "a line").await, Ok(Written::Done));
    let asked: serde_json::Value = serde_json::from_str(&seen.lock().unwrap()[0]).unwrap();
    assert_eq!(asked["ConditionExpression"], "#Owner = :holder");
    assert_eq!(asked["UpdateExpression"], "SET History = list_append(if_not_exists(History, :past), :line)");
    let lost = serde_json::json!({"__type": "ConditionalCheckFailedException", "message": "no"}).to_string();
    let lost = table(wire(&[(400, &lost)]).0).note(&owner, &"i-0a".parse().unwrap(), "a line").await;
    assert_eq!(lost, Ok(Written::Lost));
}

/// Status, headers and body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// Answers with these, in turn, the last one for ever; and the addresses that were asked.
fn ebs(answers: &[Answer]) -> (Ebs, Arc<Mutex<Vec<String>>>) {
    let (seen, answers) = (Arc::<Mutex<Vec<String>>>::default(), answers.to_vec());
    let log = Arc::clone(&seen);
    let http = infallible_client_fn(move |request| {
        let mut log = log.lock().unwrap();
        let (status, headers, body) = answers[log.len().min(answers.len() - 1)].clone();
        log.push(request.uri().to_string());
        let response = http::Response::builder().status(status);
        let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, value));
        response.body(body).unwrap()
    });
    (super::blocks(http), seen)
}

#[tokio::test]
async fn a_page_of_blocks_is_asked_for_by_number_or_by_token() {
    let page = r#"{"Blocks":[{"BlockIndex":3,"BlockToken":"t3"},{"BlockIndex":7,"BlockToken":"t7"}],"VolumeSize":8,"BlockSize":524288,"NextToken":"n"}"#;
    let (ebs, seen) = ebs(&[(200, vec![], page.as_bytes().to_vec())]);
    let snapshot = "snap-01".parse().unwrap();
    let found = ebs.list_blocks(&snapshot, 3, None).await.unwrap();
    assert_eq!((found.bytes, found.block_size, found.next.as_deref()), (8 << 30, 524_288, Some("n")));
    assert_eq!(found.blocks, [(3, "t3".to_owned()), (7, "t7".to_owned())]);
    ebs.list_blocks(&snapshot, 3, Some("n".to_owned())).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("/snapshots/snap-01/blocks?") && seen[0].contains("startingBlockIndex=3"), "{}", seen[0]);
    assert!(seen[1].contains("pageToken=n") && !seen[1].contains("startingBlockIndex"), "{}", seen[1]);
}

#[tokio::test]
async fn a_block_that_is_not_what_its_checksum_says_is_not_believed() {
    let data = b"abc".to_vec();
    // printf abc | openssl dgst -sha256 -binary | base64
    let (of_abc, of_other) =
        ("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", "2SmKENGwc1g33EvYXaxkGw887yekfl1TpU8vP1svz/o=");
    let headers = |checksum: &str, algorithm: &str| {
        vec![("x-amz-Checksum", checksum.to_owned()), ("x-amz-Checksum-Algorithm", algorithm.to_owned())]
    };
    let snapshot = "snap-01".parse().unwrap();
    let good = headers(of_abc, "SHA256");
    let (client, seen) = ebs(&[(200, good, data.clone())]);
    assert_eq!(client.block(&snapshot, 7, "t/7").await.unwrap(), data);
    assert!(
        seen.lock().unwrap()[0].contains("/snapshots/snap-01/blocks/7?blockToken=t%2F7"),
        "{:?}",
        seen.lock().unwrap()
    );
    for wrong in [headers(of_other, "SHA256"), headers(of_abc, "MD5"), vec![]] {
        let (client, _) = ebs(&[(200, wrong, data.clone())]);
        assert_eq!(client.block(&snapshot, 7, "t").await.map_err(|error| error.fault), Err(Fault::Garbled));
    }
    for (status, code, fault) in [
        (400, "RequestThrottledException", Fault::Throttled),
        (402, "ConcurrentLimitExceededException", Fault::Throttled),
        (403, "AccessDeniedException", Fault::Denied),
        (400, "ValidationException", Fault::Refused),
        (500, "InternalServerException", Fault::Server),
    ] {
        let (client, _) = ebs(&[(status, vec![("x-amzn-errortype", code.to_owned())], b"{}".to_vec())]);
        assert_eq!(client.block(&snapshot, 7, "t").await.map_err(|error| error.fault), Err(fault), "{code}");
    }
}
