//! What a case file is made from, on the wire: snapshots in full, locks, CloudTrail, the times of a stack, digests of records.

use ec2_isolation::model::{Lock, Time, sha256};
use ec2_isolation::operator::ports::Archive as _;
use ec2_isolation::operator::ports::{Evidence as _, SnapshotQuery, Trail as _, VolumeQuery};
use ec2_isolation::operator::stack::{StackLife as _, StackTimes};
use ec2_isolation::ports::{Change as _, Fault, Look as _};
use serde_json::{Value, json};

use super::{ec2, ec2_error, stacks, table, trail, wire};

#[tokio::test]
async fn a_snapshot_is_read_with_size_key_and_time() {
    let answer = "<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>snap-01</snapshotId><volumeId>vol-01</volumeId>\
        <status>completed</status><startTime>2026-11-25T03:00:00.500Z</startTime><volumeSize>100</volumeSize>\
        <encrypted>true</encrypted><kmsKeyId>arn:k</kmsKeyId><tagSet><item><key>ec2-isolation:instance</key><value>i-0a</value></item></tagSet>\
        </item><item><snapshotId>snap-02</snapshotId><volumeId>vol-ffffffff</volumeId></item></snapshotSet></DescribeSnapshotsResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let stacks = SnapshotQuery::OfStacks(["arn".to_owned()].into());
    let found = ec2(http).snapshot_details(&stacks).await.unwrap();
    let asked = seen.lock().unwrap()[0].clone();
    assert!(asked.contains("Filter.1.Name=tag%3Aec2-isolation%3Astack&Filter.1.Value.1=arn"), "{asked}");
    assert!(asked.contains("Owner.1=self") && asked.contains("MaxResults=1000"), "{asked}");
    let first = &found[0];
    assert_eq!((first.gib, first.state.as_str(), first.is_encrypted), (100, "completed", true));
    assert_eq!(
        (first.key.as_deref(), first.started_at),
        (Some("arn:k"), Some("2026-11-25T03:00:00Z".parse().unwrap()))
    );
    assert_eq!(first.tags["ec2-isolation:instance"], "i-0a");
    assert_eq!((found[1].gib, found[1].key.as_deref(), found[1].started_at), (0, None, None));
    let none = SnapshotQuery::Ids([].into());
    assert_eq!(ec2(wire(&[(500, "")]).0).snapshot_details(&none).await, Ok(vec![]));
}

#[tokio::test]
async fn locks_are_read_over_all_pages_and_one_that_has_expired_locks_nothing() {
    let page = |locks: &[(&str, &str)], next: &str| {
        let item = |(id, state): &(&str, &str)| {
            format!("<item><snapshotId>{id}</snapshotId><lockState>{state}</lockState></item>")
        };
        let items: String = locks.iter().map(item).collect();
        format!(
            "<DescribeLockedSnapshotsResponse><snapshotSet>{items}</snapshotSet>{next}</DescribeLockedSnapshotsResponse>"
        )
    };
    let first = page(&[("snap-01", "governance"), ("snap-02", "expired")], "<nextToken>2</nextToken>");
    let second = page(&[("snap-03", "compliance"), ("snap-04", "compliance")], "");
    let (http, seen) = wire(&[(200, &first), (200, &second)]);
    let ids = ["snap-01", "snap-02", "snap-03"].map(|id| id.parse().unwrap()).into();
    let locks = ec2(http).locks(&ids).await.unwrap();
    let locks: Vec<String> = locks.iter().map(|(id, lock)| format!("{id} {lock}")).collect();
    assert_eq!(locks, ["snap-01 governance", "snap-03 compliance"]);
    assert!(seen.lock().unwrap()[1].contains("NextToken=2"));
    let denied = ec2(wire(&[(403, &ec2_error("UnauthorizedOperation"))]).0).locks(&ids).await;
    assert_eq!(denied.map_err(|error| error.fault), Err(Fault::Denied));
}

#[tokio::test]
async fn a_snapshot_that_is_gone_costs_the_locks_of_the_others_nothing() {
    let item = "<item><snapshotId>snap-01</snapshotId><lockState>governance</lockState><lockDuration>30</lockDuration>\
                <lockExpiresOn>2026-12-25T03:01:00.000Z</lockExpiresOn></item>\
                <item><snapshotId>snap-09</snapshotId><lockState>governance</lockState></item>";
    let all =
        format!("<DescribeLockedSnapshotsResponse><snapshotSet>{item}</snapshotSet></DescribeLockedSnapshotsResponse>");
    let (http, seen) = wire(&[(400, &ec2_error("InvalidSnapshot.NotFound")), (200, &all)]);
    let locks = ec2(http).locks(&["snap-01", "snap-02"].map(|id| id.parse().unwrap()).into()).await.unwrap();
    let until = Some("2026-12-25T03:01:00Z".parse().unwrap());
    let lock = Lock { mode: "governance".to_owned(), days: Some(30), until };
    assert_eq!(locks, [("snap-01".parse().unwrap(), lock)].into());
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("SnapshotId.2=snap-02") && !seen[0].contains("MaxResults"), "{}", seen[0]);
    assert!(seen[1].contains("MaxResults=1000") && !seen[1].contains("SnapshotId"), "{}", seen[1]);
}

#[tokio::test]
async fn a_snapshot_is_locked_in_governance_mode() {
    let (http, seen) = wire(&[(200, "<LockSnapshotResponse><lockState>governance</lockState></LockSnapshotResponse>")]);
    ec2(http).lock_snapshot(&"snap-01".parse().unwrap(), 36_500).await.unwrap();
    let asked = seen.lock().unwrap()[0].clone();
    for part in ["Action=LockSnapshot", "SnapshotId=snap-01", "LockMode=governance", "LockDuration=36500"] {
        assert!(asked.contains(part), "{asked}");
    }
}

#[tokio::test]
async fn a_call_is_read_from_cloudtrails_own_words() {
    let detail = json!({
        "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/ir/jane"},
        "sourceIPAddress": "203.0.113.7", "errorCode": "Client.UnauthorizedOperation",
        "requestParameters": {"networkInterfaceId": "eni-01", "groupSet": {"items": [{"groupId": "sg-01"}, {"groupId": "sg-02"}]}},
    });
    let moved = json!({"EventId": "1", "EventName": "ModifyNetworkInterfaceAttribute", "EventTime": 1_764_039_600,
        "CloudTrailEvent": detail.to_string()});
    let made = json!({"EventId": "2", "EventName": "CreateStack", "EventTime": 1_764_039_600, "Username": "jane",
        "CloudTrailEvent": json!({"requestParameters": {"stackName": "ir"}}).to_string()});
    let nameless = json!({"EventId": "3", "EventTime": 1_764_039_600});
    let answer = json!({"Events": [moved, made, nameless], "NextToken": "more"}).to_string();
    let (http, seen) = wire(&[(200, &answer)]);
    let (events, next) = trail(http).page("eni-01", Some("here".to_owned())).await.unwrap();
    let asked: Value = serde_json::from_str(&seen.lock().unwrap()[0]).unwrap();
    let by = json!([{"AttributeKey": "ResourceName", "AttributeValue": "eni-01"}]);
    assert_eq!(asked, json!({"LookupAttributes": by, "MaxResults": 50, "NextToken": "here"}));
    assert_eq!((events.len(), next.as_deref()), (2, Some("more")));
    let moved = &events[0];
    assert_eq!((moved.caller.as_str(), moved.at), ("arn:aws:sts::1:assumed-role/ir/jane", Time(1_764_039_600)));
    assert_eq!(
        (moved.address.as_deref(), moved.error.as_deref()),
        (Some("203.0.113.7"), Some("Client.UnauthorizedOperation"))
    );
    assert_eq!(moved.interface.as_ref().map(|id| id.as_str()), Some("eni-01"));
    assert_eq!(moved.groups, ["sg-01", "sg-02"]);
    assert_eq!((events[1].caller.as_str(), events[1].stack.as_deref()), ("jane", Some("ir")));
    let denied = json!({"__type": "AccessDeniedException", "message": "no"}).to_string();
    let denied = trail(wire(&[(400, &denied)]).0).page("eni-01", None).await;
    assert_eq!(denied.map_err(|error| error.fault), Err(Fault::Denied));
}

#[tokio::test]
async fn cloudformation_still_knows_the_times_of_a_deleted_stack() {
    let stack = "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>ir</StackName>\
        <StackStatus>DELETE_COMPLETE</StackStatus><CreationTime>2026-11-25T03:00:00Z</CreationTime>\
        <DeletionTime>2026-11-25T06:00:00Z</DeletionTime></member></Stacks></DescribeStacksResult></DescribeStacksResponse>";
    let at = |text: &str| Some(text.parse().unwrap());
    let expected =
        StackTimes { created: at("2026-11-25T03:00:00Z"), updated: None, deleted: at("2026-11-25T06:00:00Z") };
    assert_eq!(stacks(wire(&[(200, stack)]).0).times("arn").await, Ok(Some(expected)));
    let gone = "<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack with id arn does not exist</Message></Error></ErrorResponse>";
    assert_eq!(stacks(wire(&[(400, gone)]).0).times("arn").await, Ok(None));
}

/// As `jq -cjS .Item` prints what `get-item` answers.
#[tokio::test]
async fn a_record_is_digested_as_dynamodb_writes_it() {
    let item = r#"{"Held":{"SS":["i-b","i-a"]},"InstanceId":{"S":"owner:1"},"List":{"L":[{"BOOL":true},{"N":"1"},{"NULL":true}]},"Map":{"M":{"b":{"S":"\"ü"},"a":{"S":""}}}}"#;
    let (http, _) = wire(&[(200, &format!("{{\"Items\":[{item}]}}"))]);
    let items = table(http).scan().await.unwrap();
    let sorted = r#"{"Held":{"SS":["i-a","i-b"]},"InstanceId":{"S":"owner:1"},"List":{"L":[{"BOOL":true},{"N":"1"},{"NULL":true}]},"Map":{"M":{"a":{"S":""},"b":{"S":"\"ü"}}}}"#;
    assert_eq!(items.digests, [("owner:1".to_owned(), sha256(sorted))].into());
}

#[tokio::test]
async fn volumes_are_read_by_their_ids_or_by_the_tag_of_a_host() {
    let answer = "<DescribeVolumesResponse><volumeSet><item><volumeId>vol-01</volumeId><size>100</size><status>available</status>\
        <tagSet><item><key>Name</key><value>ir forensic host</value></item></tagSet></item>\
        <item><volumeId>vol-02</volumeId><size>8</size><status>in-use</status></item></volumeSet></DescribeVolumesResponse>";
    let (http, seen) = wire(&[(200, answer)]);
    let ec2 = ec2(http);
    let found = ec2.volumes(&VolumeQuery::Ids(["vol-01".parse().unwrap()].into())).await.unwrap();
    assert_eq!((found[0].gib, found[0].is_attached, found[0].tags["Name"].as_str()), (100, false, "ir forensic host"));
    assert_eq!((found[1].gib, found[1].is_attached), (8, true));
    ec2.volumes(&VolumeQuery::OfHosts).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("Filter.1.Name=volume-id&Filter.1.Value.1=vol-01"), "{}", seen[0]);
    assert!(seen[1].contains("Filter.1.Name=tag%3Aec2-isolation%3Arole&Filter.1.Value.1=forensic-host"), "{}", seen[1]);
}

#[tokio::test]
async fn what_a_deleted_stack_has_left_behind_is_what_cloudformation_skipped() {
    let page = |name: &str, status: &str, next: &str| {
        format!(
            "<DescribeStackEventsResponse><DescribeStackEventsResult><StackEvents><member><LogicalResourceId>{name}</LogicalResourceId>\
             <PhysicalResourceId>{name}-1</PhysicalResourceId><ResourceType>AWS::Logs::LogGroup</ResourceType>\
             <ResourceStatus>{status}</ResourceStatus></member></StackEvents>{next}</DescribeStackEventsResult></DescribeStackEventsResponse>"
        )
    };
    let [second, third] = ["<NextToken>2</NextToken>", "<NextToken>3</NextToken>"];
    let pages =
        [page("A", "DELETE_COMPLETE", second), page("B", "DELETE_SKIPPED", third), page("B", "CREATE_COMPLETE", "")];
    let (http, seen) = wire(&pages.each_ref().map(|page| (200, page.as_str())));
    let left = stacks(http).left_behind("arn").await.unwrap();
    let left: Vec<_> = left.iter().map(|left| (left.physical_id.as_str(), left.kind.as_str())).collect();
    assert_eq!((left, seen.lock().unwrap().len()), (vec![("B-1", "AWS::Logs::LogGroup")], 3));
    let gone = "<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack [arn] does not exist</Message></Error></ErrorResponse>";
    assert_eq!(stacks(wire(&[(400, gone)]).0).left_behind("arn").await, Ok(vec![]));
}

#[tokio::test]
async fn the_tags_of_volumes_are_read_without_the_volumes() {
    let item = "<item><resourceId>vol-01</resourceId><resourceType>volume</resourceType><key>Name</key><value>web</value></item>";
    let answer = format!("<DescribeTagsResponse><tagSet>{item}</tagSet></DescribeTagsResponse>");
    let (http, seen) = wire(&[(200, &answer)]);
    let tags = ec2(http).volume_tags(&["vol-01", "vol-02"].map(|id| id.parse().unwrap()).into()).await.unwrap();
    let named = [("Name".to_owned(), "web".to_owned())].into();
    assert_eq!(tags, [("vol-01".parse().unwrap(), named), ("vol-02".parse().unwrap(), [].into())].into());
    let asked = seen.lock().unwrap()[0].clone();
    assert!(asked.contains("Action=DescribeTags") && asked.contains("Filter.1.Name=resource-id"), "{asked}");
    assert!(asked.contains("Filter.1.Value.2=vol-02") && asked.contains("MaxResults=1000"), "{asked}");
}
