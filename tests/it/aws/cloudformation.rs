//! CloudFormation: the stack, its reason and its parent.

use ec2_isolation::cloudformation::stack::Stacks as _;

use super::{stacks, wire};

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
