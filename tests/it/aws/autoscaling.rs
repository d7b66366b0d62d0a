//! Auto Scaling: members and Standby.

use ec2_isolation::model::Member;
use ec2_isolation::ports::{Change as _, Fault, Look as _};

use super::{ec2, ids, wire};

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
