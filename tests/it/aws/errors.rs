//! What each error of a service becomes, and what the SDK repeats.

use std::time::Duration;

use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::test_util::NeverClient;
use ec2_isolation::aws::autoscaling::AutoScaling;
use ec2_isolation::aws::ec2::Ec2;
use ec2_isolation::cloudformation::stack::Stacks as _;
use ec2_isolation::model::{Attribute, InstanceId, Profile};
use ec2_isolation::plan::Change as Protecting;
use ec2_isolation::ports::{Call, CallError, Change as _, Fault, Look as _, Records as _};

use super::{ec2, ec2_error, ids, owner, stacks, table, wire, with_settings};

const THROTTLED: &str =
    "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow</Message></Error></Errors></Response>";

/// With the function's own retries.
fn persistent(http: SharedHttpClient) -> Ec2 {
    let retries = RetryConfig::standard().with_max_attempts(6);
    let mut settings = config!(aws_sdk_ec2, http.clone()).to_builder();
    settings.set_retry_config(Some(retries.clone()));
    let scaling = config!(aws_sdk_autoscaling, http).to_builder().retry_config(retries).build();
    Ec2::new(settings, AutoScaling(aws_sdk_autoscaling::Client::from_conf(scaling)))
}

/// What it repeats may come after a later request has put back what was changed.
#[tokio::test(start_paused = true)]
async fn what_changes_something_is_never_repeated_by_the_sdk() {
    let instance: InstanceId = "i-0a".parse().unwrap();
    let (interface, groups) = ("eni-01".parse().unwrap(), ["sg-0a".parse().unwrap()].into());
    let (some, tags) = (["i-0a".to_owned()].into(), [("Key".to_owned(), "value".to_owned())].into());
    let keys = ["Key".to_owned()].into();
    let profile = Profile { association: "iip-assoc-01".to_owned(), arn: "arn:profile".to_owned() };
    let volumes = [("vol-01".parse().unwrap(), "/dev/sda1".to_owned())].into();
    let group = "web".to_owned();
    let protections = [
        Protecting::Attribute(Attribute::StopProtection(true)),
        Protecting::Volumes { volumes, go_with_it: false },
        Protecting::EnterStandby { group: group.clone() },
        Protecting::ExitStandby { group },
        Protecting::DetachProfile(profile),
        Protecting::AttachProfile { arn: "arn:profile".to_owned() },
        Protecting::MetadataService { is_on: false },
    ];
    let lost = "<Response><Errors><Error><Code>InternalError</Code><Message>lost</Message></Error></Errors></Response>";
    for (answer, fault) in [((503, THROTTLED), Fault::Throttled), ((500, lost), Fault::Server)] {
        let (http, seen) = wire(&[answer]);
        let ec2 = persistent(http);
        let mut results = vec![
            ec2.set_groups(&interface, &groups).await,
            ec2.may_set_groups(&interface, &groups).await,
            ec2.tag(&some, &tags).await,
            ec2.untag(&some, &keys).await,
            ec2.take_snapshots(&instance, &[].into(), &[].into()).await.map(drop),
            ec2.lock_snapshot(&"snap-01".parse().unwrap(), 7).await,
        ];
        for change in &protections {
            results.push(ec2.protect(&instance, change).await);
        }
        let is_scaling = |error: &CallError| error.action.starts_with("autoscaling:");
        for error in results.iter().map(|result| result.as_ref().unwrap_err()) {
            assert!(error.fault == fault || is_scaling(error), "{error}");
        }
        assert_eq!(seen.lock().unwrap().len(), results.len(), "{fault:?}");
    }
    // A reading is repeated.
    let (http, seen) = wire(&[(500, lost)]);
    assert_eq!(persistent(http).instances(&ids(1)).await.unwrap_err().fault, Fault::Server);
    assert_eq!(seen.lock().unwrap().len(), 6);
}

/// One call of each adapter with this client: what its fault was.
async fn faults(http: impl Fn() -> SharedHttpClient) -> [Fault; 3] {
    fn fault<T: std::fmt::Debug>(result: Call<T>) -> Fault {
        result.unwrap_err().fault
    }
    [
        fault(ec2(http()).instances(&ids(1)).await),
        fault(table(http()).read(&owner(), &ids(1)).await),
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
    for code in ["LimitExceededException", "BandwidthLimitExceeded", "SlowDown", "PriorRequestNotComplete"] {
        check([(400, code); 3], Fault::Throttled).await;
    }
    check(
        [(400, "PendingSnapshotLimitExceeded"), (400, "TransactionInProgressException"), (400, "ThrottledException")],
        Fault::Throttled,
    )
    .await;
    for code in ["ConcurrentTagAccess", "ResourceInUse", "EC2ThrottledException"] {
        let (http, _) = wire(&[(400, &ec2_error(code))]);
        assert_eq!(faults(|| http.clone()).await[0], Fault::Throttled, "{code}");
    }
    for code in ["InvalidGroup.NotFound", "InvalidNetworkInterfaceID.NotFound", "InvalidSnapshot.NotFound"] {
        let (http, _) = wire(&[(400, &ec2_error(code))]);
        assert_eq!(faults(|| http.clone()).await[0], Fault::Unseen, "{code}");
    }
    for code in ["RequestTimeout", "RequestTimeoutException"] {
        check([(400, code); 3], Fault::TimedOut).await;
    }
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

/// https://github.com/cilium/cilium/pull/41684
#[tokio::test(start_paused = true)]
async fn what_ec2_answers_after_twelve_seconds_is_waited_for() {
    let config = aws_config::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
        .retry_config(RetryConfig::disabled())
        .http_client(NeverClient::new())
        .build();
    let ec2 = ec2_isolation::aws::config::ec2(&config);
    let start = tokio::time::Instant::now();
    assert_eq!(ec2.instances(&ids(1)).await.unwrap_err().fault, Fault::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 30);
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
        let ec2 = with_settings(config, http);
        let error = ec2.instances(&ids(1)).await.unwrap_err();
        assert_eq!(error.fault, Fault::Connection, "{error}");
        assert_eq!(error.action, "ec2:DescribeInstances");
    }
}

/// Those of a session may end at any time.
#[tokio::test]
async fn credentials_that_cannot_be_had_any_more_are_named() {
    let (http, seen) = wire(&[(200, "")]);
    let mut config = config!(aws_sdk_ec2, http.clone()).to_builder();
    config.set_credentials_provider(Some(SharedCredentialsProvider::new(provide_credentials_fn(|| async {
        Err(CredentialsError::provider_error("the session is over"))
    }))));
    let error = with_settings(config, http).instances(&ids(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "ec2:DescribeInstances failed: NoAnswer: the session is over");
    assert!(seen.lock().unwrap().is_empty() && error.fault.may_pass());
}
