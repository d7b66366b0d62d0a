//! Which targets a target group lists, on the wire.

use ec2_isolation::operator::ports::balancers::{Balancers as _, Target, TargetGroup};
use ec2_isolation::ports::Fault;

use super::{balancing, wire};

fn group() -> TargetGroup {
    TargetGroup {
        arn: "arn:aws:elasticloadbalancing:r:1:targetgroup/web/01".to_owned(),
        name: "web".to_owned(),
        vpc: Some("vpc-1".parse().unwrap()),
        lists_instances: true,
    }
}

#[tokio::test]
async fn groups_are_read_a_page_at_a_time_with_the_kind_of_their_targets() {
    let item = |name: &str, kind: &str| {
        format!(
            "<member><TargetGroupArn>arn:aws:elasticloadbalancing:r:1:targetgroup/{name}/01</TargetGroupArn>\
             <TargetGroupName>{name}</TargetGroupName><VpcId>vpc-1</VpcId><TargetType>{kind}</TargetType></member>"
        )
    };
    let answer = format!(
        "<DescribeTargetGroupsResponse><DescribeTargetGroupsResult><TargetGroups>{}{}</TargetGroups><NextMarker>more</NextMarker>\
         </DescribeTargetGroupsResult></DescribeTargetGroupsResponse>",
        item("web", "instance"),
        item("pods", "ip")
    );
    let (http, seen) = wire(&[(200, &answer)]);
    let (found, next) = balancing(http).target_groups(Some("before".to_owned())).await.unwrap();
    assert_eq!((&found[0], next.as_deref()), (&group(), Some("more")));
    assert_eq!((found[1].name.as_str(), found[1].lists_instances), ("pods", false));
    let body = seen.lock().unwrap()[0].clone();
    for part in ["Action=DescribeTargetGroups", "PageSize=400", "Marker=before"] {
        assert!(body.contains(part), "{part}: {body}");
    }
}

#[tokio::test]
async fn targets_are_read_with_their_port_and_whether_they_leave() {
    let item = |id: &str, state: &str| {
        format!(
            "<member><Target><Id>{id}</Id><Port>8080</Port></Target><TargetHealth><State>{state}</State></TargetHealth></member>"
        )
    };
    let answer = format!(
        "<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions>{}{}</TargetHealthDescriptions>\
         </DescribeTargetHealthResult></DescribeTargetHealthResponse>",
        item("i-1", "unhealthy"),
        item("i-2", "draining")
    );
    let (http, seen) = wire(&[(200, &answer)]);
    let found = balancing(http).targets(&group()).await.unwrap().unwrap();
    let target = |id: &str, is_draining| Target { id: id.to_owned(), port: Some(8080), is_draining };
    assert_eq!(found, [target("i-1", false), target("i-2", true)]);
    let body = seen.lock().unwrap()[0].clone();
    assert!(body.contains("Action=DescribeTargetHealth") && body.contains("targetgroup%2Fweb%2F01"), "{body}");
}

#[tokio::test]
async fn a_group_that_is_gone_is_no_error_and_what_may_not_be_read_is() {
    let refused = |code: &str| {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
        )
    };
    let (http, _) = wire(&[(400, &refused("TargetGroupNotFound"))]);
    assert_eq!(balancing(http).targets(&group()).await.unwrap(), None);
    let (http, _) = wire(&[(403, &refused("AccessDenied"))]);
    let error = balancing(http).targets(&group()).await.unwrap_err();
    assert_eq!((error.action, error.fault), ("elasticloadbalancing:DescribeTargetHealth", Fault::Denied));
}
