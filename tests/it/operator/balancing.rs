//! Which target groups list an incident's instances: looked up last, in so many calls at most, and only said.

use ec2_isolation::model::Fault;
use ec2_isolation::operator::Status;
use ec2_isolation::operator::ports::balancers::{Target, TargetGroup};

use super::operator;
use super::status::isolated;
use crate::world::{STACK, VPC, World};
use crate::{A, B};

const GROUPS: &str = "elasticloadbalancing:DescribeTargetGroups";
const HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";

fn group(name: &str) -> TargetGroup {
    let arn = format!("arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/{name}/0123456789abcdef");
    TargetGroup { arn, name: name.to_owned(), vpc: Some(VPC.parse().unwrap()), lists_instances: true }
}

fn target(id: &str, port: i32) -> Target {
    Target { id: id.to_owned(), port: Some(port), is_draining: false }
}

async fn status(world: &World) -> Status {
    let program = operator(world);
    let incident = program.incident(&ec2_isolation::operator::Address::Stack(STACK.to_owned())).await.unwrap();
    let mut status = program.status(&incident).await;
    program.name_target_groups(&incident, &mut status, world).await;
    status
}

fn warnings(status: &Status) -> Vec<&String> {
    status.instances.iter().flat_map(|instance| &instance.warnings).collect()
}

#[tokio::test(start_paused = true)]
async fn each_group_that_lists_an_instance_is_named_with_the_command_that_takes_it_out() {
    let world = isolated().await;
    let draining = Target { is_draining: true, ..target(B, 80) };
    let elsewhere = TargetGroup { vpc: Some("vpc-0e".parse().unwrap()), ..group("elsewhere") };
    let addresses = TargetGroup { lists_instances: false, ..group("addresses") };
    world.data().target_groups = vec![
        (group("other"), vec![target("i-0f", 80)]),
        (group("web"), vec![target(A, 8080), target("i-0f", 80), draining]),
        (elsewhere, vec![target(A, 80)]),
        (addresses, vec![target("10.0.0.7", 80)]),
        (group("api"), vec![target(B, 443)]),
    ];
    let status = status(&world).await;
    let said = |name: &str, id: &str, port: i32| {
        format!(
            "target group {name} lists {id}: its health checks fail now, and an Auto Scaling group that goes by them ends the instance \
             unless it is in Standby. Take it out: aws elbv2 deregister-targets --target-group-arn {} --targets Id={id},Port={port} \
             --region us-east-1",
            group(name).arn
        )
    };
    assert_eq!(warnings(&status), [&said("web", A, 8080), &said("api", B, 443)]);
    assert_eq!(status.target_groups_unread, None);
    assert!(!status.is_anything_open(), "it says nothing of the isolation");
    // Three pages, and only groups that may list one.
    assert_eq!((world.count(GROUPS), world.count(HEALTH)), (3, 3));
    let text = status.to_string();
    assert!(
        text.contains(&format!("\n    aws elbv2 deregister-targets --target-group-arn {}", group("web").arn)),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn after_sixty_calls_it_stops_and_says_so() {
    let world = isolated().await;
    world.data().target_groups = (0..70).map(|n| (group(&format!("g{n}")), vec![target(A, 80)])).collect();
    let status = status(&world).await;
    assert_eq!((world.count(GROUPS), world.count(HEALTH)), (35, 25));
    assert_eq!(warnings(&status).len(), 25);
    let why = "60 calls were made, and 25 of 70 groups were looked at";
    assert_eq!(status.target_groups_unread.as_deref(), Some(why));
    let said = status.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&format!("targets NOT KNOWN whether a target group lists an instance: {why}")), "{said}");

    let world = isolated().await;
    world.data().target_groups = (0..130).map(|n| (group(&format!("g{n}")), vec![])).collect();
    let why = "60 calls were made, and 0 of 120 or more groups were looked at";
    assert_eq!(self::status(&world).await.target_groups_unread.as_deref(), Some(why));
    assert_eq!((world.count(GROUPS), world.count(HEALTH)), (60, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_said_and_what_was_found_stays() {
    let world = isolated().await;
    world.data().target_groups = vec![(group("web"), vec![target(A, 80)]), (group("api"), vec![target(A, 80)])];
    world.data().always_on = Some((HEALTH, "api".to_owned(), Fault::Throttled));
    let found = status(&world).await;
    assert_eq!(warnings(&found).len(), 1);
    let why = found.target_groups_unread.unwrap();
    assert!(why.starts_with(&format!("{HEALTH} failed: ")) && why.ends_with("; 1 of 2 groups were looked at"), "{why}");

    world.data().always_on = None;
    world.data().always = Some((GROUPS, Fault::Denied));
    let found = status(&world).await;
    assert!(found.target_groups_unread.unwrap().starts_with(&format!("{GROUPS} failed: ")));
    assert_eq!(found.instances.len(), 2);
}
