//! What this project assumes of AWS and nothing but a real account can confirm: the one list of it. docs/drill.md shows it.

/// Something that we assume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assumption {
    pub id: &'static str,
    /// One sentence.
    pub text: &'static str,
    /// The page or the report that says so, or `inferred`.
    pub source: &'static str,
    /// Why a drill cannot see it; empty if it can.
    pub unseen: &'static str,
}

const fn seen(id: &'static str, text: &'static str, source: &'static str) -> Assumption {
    Assumption { id, text, source, unseen: "" }
}

const fn unseen(id: &'static str, text: &'static str, source: &'static str, unseen: &'static str) -> Assumption {
    Assumption { id, text, source, unseen }
}

/// Every one, those that a drill sees first.
pub const ASSUMPTIONS: [Assumption; 77] = [
    seen(
        "ec2-image-by-parameter",
        "RunInstances takes the name of a public parameter as its image.",
        "EC2 User Guide, Use a Systems Manager parameter to find an AMI",
    ),
    seen(
        "ec2-interface-shows-own-groups",
        "DescribeInstances shows each interface with its own groups, and the instance with those of its primary interface.",
        "inferred",
    ),
    seen(
        "ec2-default-egress",
        "A group that is made without rules allows everything out over IPv4.",
        "VPC User Guide, Security group rules",
    ),
    seen(
        "ec2-filter-leaves-out",
        "DescribeInstances by a filter leaves out an id that does not exist, and does not fail.",
        "inferred",
    ),
    seen(
        "ec2-unknown-instance",
        "DescribeInstanceAttribute of an instance that does not exist fails with InvalidInstanceID.NotFound.",
        "EC2 API Reference, Error codes",
    ),
    seen(
        "ec2-unknown-interface",
        "ModifyNetworkInterfaceAttribute of an interface that does not exist fails with InvalidNetworkInterfaceID.NotFound.",
        "EC2 API Reference, Error codes",
    ),
    seen(
        "ec2-unknown-group",
        "ModifyNetworkInterfaceAttribute with a group that does not exist fails with InvalidGroup.NotFound.",
        "EC2 API Reference, Error codes",
    ),
    seen(
        "ec2-dry-run-modify",
        "A dry run of ModifyNetworkInterfaceAttribute answers DryRunOperation and changes nothing.",
        "EC2 API Reference, ModifyNetworkInterfaceAttribute",
    ),
    seen(
        "ec2-dry-run-checks-ids",
        "A dry run of ModifyNetworkInterfaceAttribute fails if a group does not exist.",
        "inferred",
    ),
    seen(
        "ec2-groups-read-back-delay",
        "EC2 shows an interface's new groups within 5 s, in DescribeNetworkInterfaces and in DescribeInstances.",
        "EC2 API Reference, Eventual consistency; the time is inferred",
    ),
    seen(
        "ec2-groups-stay-shown",
        "EC2 does not show an interface's old groups once it has shown the new ones.",
        "inferred",
    ),
    seen(
        "ec2-instance-wide-groups",
        "ModifyInstanceAttribute refuses to change the groups of an instance with several interfaces, with InvalidInstanceID.",
        "boto/boto3#1772",
    ),
    seen(
        "ec2-group-in-use",
        "DeleteSecurityGroup of a group that an interface has fails with DependencyViolation.",
        "EC2 API Reference, DeleteSecurityGroup",
    ),
    seen(
        "ec2-reserved-tags",
        "No caller can give a resource a tag that begins with aws:, so no caller can forge CloudFormation's.",
        "EC2 User Guide, Tag restrictions",
    ),
    seen(
        "ec2-attributes-read-back-delay",
        "DescribeInstanceAttribute shows a changed attribute within 5 s.",
        "EC2 API Reference, Eventual consistency; the time is inferred",
    ),
    seen(
        "ec2-termination-protection",
        "TerminateInstances of an instance with termination protection fails with OperationNotPermitted.",
        "rebuy-de/aws-nuke#279",
    ),
    seen(
        "ec2-metadata-pending",
        "EC2 applies a change of the metadata service of a running instance within 60 s, and shows it as pending until then.",
        "EC2 API Reference, InstanceMetadataOptionsResponse; the time is inferred",
    ),
    seen(
        "ec2-metadata-endpoint-alone",
        "ModifyInstanceMetadataOptions with HttpEndpoint alone leaves it as it is whether tokens are required.",
        "EC2 User Guide, Modify instance metadata options for existing instances",
    ),
    seen(
        "ec2-snapshot-rate",
        "A second snapshot of a volume within 15 s fails with SnapshotCreationPerVolumeRateExceeded.",
        "EC2 API Reference, Error codes",
    ),
    seen("ec2-snapshots-by-tag", "DescribeSnapshots finds a new snapshot by its tag within 5 s.", "inferred"),
    seen(
        "ec2-locks-by-id",
        "DescribeLockedSnapshots leaves out a snapshot that was never locked, and does not fail.",
        "EC2 API Reference, DescribeLockedSnapshots; inferred",
    ),
    seen(
        "ec2-loopback-egress",
        "EC2 takes rules to 127.0.0.1/32 and ::1/128 and shows no others of a group that is made with these.",
        "inferred",
    ),
    seen(
        "ec2-terminated-shows-no-interfaces",
        "EC2 shows a terminated instance for a while, without interfaces.",
        "EC2 User Guide, Terminate Amazon EC2 instances; without interfaces is inferred",
    ),
    seen("cfn-time-to-first-call", "CloudFormation calls the function for a new incident within 60 s.", "inferred"),
    seen(
        "cfn-function-comes-last",
        "CloudFormation calls the function when both groups of the incident are made.",
        "CloudFormation User Guide, DependsOn attribute",
    ),
    seen(
        "cfn-groups-side-by-side",
        "CloudFormation makes the two groups of an incident side by side.",
        "CloudFormation User Guide, DependsOn attribute",
    ),
    seen("cfn-time-to-contained", "A new incident isolates one instance within 120 s of CreateStack.", "inferred"),
    seen(
        "cfn-stack-tag",
        "CloudFormation tags the groups of a stack with the stack's id when it makes them.",
        "CloudFormation User Guide, Resource tag",
    ),
    seen(
        "cfn-protected-from-start",
        "A stack has the termination protection that CreateStack asks for as soon as it is made.",
        "CloudFormation API Reference, CreateStack",
    ),
    seen(
        "cfn-protected-delete",
        "DeleteStack of a stack with termination protection fails with ValidationError.",
        "CloudFormation User Guide, Protect a stack from being deleted; the code is inferred",
    ),
    seen("cfn-change-set-time", "A change set of an incident is ready within 30 s.", "inferred"),
    seen(
        "cfn-change-set-obsolete",
        "CloudFormation refuses to carry a change set out if another one was carried out since it was made.",
        "CloudFormation API Reference, ExecuteChangeSet",
    ),
    seen(
        "cfn-change-set-keeps-parameters",
        "A change set with UsePreviousValue keeps every parameter that it does not name.",
        "CloudFormation API Reference, Parameter",
    ),
    seen(
        "cfn-reason-in-event",
        "CloudFormation shows the Reason of a failed custom resource in its event, with our next step in it.",
        "CloudFormation User Guide, Custom resource response objects",
    ),
    seen(
        "cfn-failed-update-keeps-all",
        "An update that fails with rollback off ends in UPDATE_FAILED and calls the function no further.",
        "CloudFormation User Guide, Stack failure options",
    ),
    seen(
        "cfn-rollback-disabled-update-after-failure",
        "A stack in UPDATE_FAILED takes a further change set with rollback off.",
        "CloudFormation User Guide, Stack failure options",
    ),
    seen(
        "cfn-failed-delete-status",
        "A stack whose function answers a Delete with FAILED ends in DELETE_FAILED and keeps the custom resource.",
        "aws-cloudformation/cloudformation-coverage-roadmap#852",
    ),
    seen(
        "cfn-custom-resource-second-delete",
        "A second DeleteStack sends the function a second Delete for a custom resource that failed to delete.",
        "inferred",
    ),
    seen("cfn-gone-with-groups", "When a stack is deleted EC2 no longer shows its groups.", "inferred"),
    seen(
        "ddb-consistent-read",
        "A consistent reading shows what the function wrote before it answered.",
        "DynamoDB Developer Guide, Read consistency",
    ),
    seen(
        "own-status-names-what-was-moved",
        "Status names an interface that was moved back within 30 s.",
        "docs/runbook.md",
    ),
    seen("own-restore-is-exact", "A restore gives an interface exactly the groups that it had.", "README.md"),
    seen(
        "gd-findings-are-read",
        "Step Functions reads each finding of events/findings as the local AWS does.",
        "Step Functions API Reference, TestState; JSONata in Step Functions",
    ),
    unseen(
        "ec2-connections-are-cut",
        "EC2 ends a tracked connection when its interface leaves a group that allows everything for one that allows nothing.",
        "EC2 User Guide, Security group connection tracking; inferred",
        "a drill sends no packets",
    ),
    unseen(
        "ec2-requester-managed",
        "Changing an interface that AWS manages fails with AuthFailure.",
        "cloud-custodian#3406",
        "a drill makes no load balancer",
    ),
    unseen(
        "ec2-groups-per-interface",
        "More groups than an interface may have fail with SecurityGroupsPerInterfaceLimitExceeded.",
        "EC2 API Reference, Error codes",
        "a drill makes two groups",
    ),
    unseen(
        "ec2-lock-while-pending",
        "EC2 locks a snapshot while it is pending, counts the days from its completion on, and refuses to delete it until they are over.",
        "EBS User Guide, Considerations for Amazon EBS snapshot lock",
        "if you may not unlock it, the snapshot would stay for a day",
    ),
    unseen(
        "ec2-throttle",
        "The account may change the groups of 100 interfaces at once, then of 5 a second.",
        "EC2 Developer Guide, Request throttling",
        "it would take the calls of everybody else in the account",
    ),
    unseen(
        "ec2-iam-checks-instance",
        "IAM checks ModifyNetworkInterfaceAttribute on the attached instance, too.",
        "Service Authorization Reference",
        "a drill calls with your rights, and makes no role",
    ),
    unseen(
        "ec2-metadata-policy",
        "A declarative policy of the organisation makes EC2 refuse a change of the metadata service.",
        "EC2 User Guide, Declarative policies",
        "a drill changes no policy",
    ),
    unseen(
        "ec2-managed-instance",
        "Naming a managed instance without IncludeManagedResources fails with NotFound.",
        "EC2 API Reference, DescribeInstances; inferred",
        "a drill makes no managed instance",
    ),
    unseen(
        "ec2-instance-store",
        "CreateSnapshots of an instance without EBS volumes is never called, and would fail.",
        "inferred",
        "its instance has an EBS volume",
    ),
    unseen(
        "ec2-spot-protection",
        "Termination protection of a Spot Instance fails with UnsupportedOperation.",
        "cloud-custodian#2083",
        "its instance is no Spot Instance",
    ),
    unseen(
        "ec2-branch-interfaces",
        "A branch interface has its trunk's id in the tag vpcresources.k8s.aws/trunk-eni-id.",
        "aws/amazon-vpc-resource-controller-k8s",
        "a drill makes no cluster",
    ),
    unseen(
        "asg-standby",
        "Auto Scaling neither terminates nor replaces an instance in Standby.",
        "Auto Scaling User Guide, Temporarily remove instances",
        "a drill makes no Auto Scaling group",
    ),
    unseen(
        "cfn-terminated-in-list",
        "CloudFormation takes an update whose list still names a terminated instance.",
        "inferred",
        "its instance lives until its stack is deleted",
    ),
    unseen(
        "cfn-express-mode",
        "A stack that failed in express mode takes express operations only.",
        "aws/aws-cdk-cli#1739",
        "a drill uses the standard mode, as isolate does",
    ),
    unseen(
        "cfn-event-twice",
        "Lambda may deliver an event twice, and waits a minute and two before it tries again.",
        "Lambda Developer Guide, Asynchronous invocation",
        "it happens rarely",
    ),
    unseen(
        "cfn-export-in-use",
        "CloudFormation refuses to delete a responder whose function an incident imports.",
        "aws/aws-cdk#604",
        "a drill does not touch the responder",
    ),
    unseen(
        "cfn-service-role",
        "The responder's role for incidents is enough to make, change and delete one.",
        "Service Authorization Reference",
        "it shows only as a drill that works if the responder made that role",
    ),
    unseen(
        "ssm-document-size",
        "A document of Systems Manager takes a template of 64 KB.",
        "Systems Manager API Reference, CreateDocument",
        "a drill does not deploy the responder",
    ),
    unseen(
        "ec2-source-instance",
        "IAM denies a session of a listed instance every call to every service, by ArnEquals and StringLike of ec2:SourceInstanceARN.",
        "IAM User Guide, Global condition context keys; that StringLike compares it is inferred",
        "a drill makes no role",
    ),
    unseen(
        "evt-trail",
        "EventBridge gets a trail's management events as AWS API Call via CloudTrail, minutes after the call at the latest.",
        "EventBridge User Guide, AWS service events delivered via CloudTrail",
        "it takes a trail, and longer than a drill",
    ),
    unseen(
        "evt-transformer",
        "An input transformer puts the object at $.detail into its template as JSON.",
        "EventBridge User Guide, Input transformation",
        "a drill makes no rule",
    ),
    unseen(
        "cw-embedded-metrics",
        "CloudWatch makes metrics of the lines of JSON in the function's log, with the dimension and without it.",
        "CloudWatch User Guide, Embedded metric format",
        "metrics appear minutes later",
    ),
    unseen(
        "cw-alarm-message",
        "An alarm publishes to a topic that is not encrypted with a key.",
        "CloudWatch User Guide, Notify users of alarm changes",
        "the topic may have no subscriber",
    ),
    unseen(
        "gd-finding-shapes",
        "Findings of GuardDuty and Security Hub have the shapes of events/findings, also after EventBridge's rule.",
        "GuardDuty User Guide, Processing findings with EventBridge; Security Hub User Guide",
        "a drill makes no finding",
    ),
    unseen(
        "cfn-template-url-key",
        "The condition key cloudformation:TemplateUrl holds the ssm-doc:// address of a template that a document carries.",
        "inferred",
        "a drill makes no policy",
    ),
    unseen(
        "cfn-console-failure-options",
        "The console's wizard offers stack failure options. Its quick-create page offers none, so every failure there rolls back.",
        "awslabs/service-workbench-on-aws#448; CloudFormation User Guide, Stack failure options",
        "a drill does not use the console",
    ),
    unseen(
        "cfn-stackset-transform",
        "A StackSet with service-managed permissions takes a template with a transform only if you give a custom execution role.",
        "CloudFormation API Reference, CreateStackSet",
        "a drill makes no StackSet",
    ),
    unseen(
        "sar-copies-code",
        "The Serverless Application Repository reads the packaged function from our bucket and copies it to each of its Regions.",
        "inferred",
        "a drill publishes nothing",
    ),
    unseen(
        "ec2-helper-imdsv2",
        "CloudFormation's helper on the forensic host works with a metadata service that takes IMDSv2 only.",
        "inferred",
        "a drill makes no forensic host",
    ),
    unseen(
        "ec2-efa",
        "Groups do not filter traffic of an Elastic Fabric Adapter that bypasses the operating system.",
        "EC2 User Guide, Elastic Fabric Adapter; inferred",
        "its instance has no such adapter",
    ),
    unseen(
        "asg-terminates-protected",
        "Auto Scaling terminates an instance although it has termination protection.",
        "Auto Scaling User Guide, Instance scale-in protection; inferred",
        "a drill makes no Auto Scaling group",
    ),
    unseen(
        "ec2-locked-delete",
        "DeleteSnapshot of a locked snapshot fails, and the code is not documented.",
        "EBS User Guide, Amazon EBS snapshot lock; inferred",
        "if you may not unlock it, the snapshot would stay for a day",
    ),
    unseen(
        "ec2-policy-delay",
        "IAM applies a new policy everywhere within some minutes.",
        "IAM User Guide, Troubleshoot IAM",
        "a drill makes no policy",
    ),
    unseen(
        "cfn-vanished-in-list",
        "CloudFormation refuses an update whose list names an instance that EC2 no longer shows.",
        "CloudFormation User Guide, AWS-specific parameter types; for UsePreviousValue inferred",
        "EC2 shows its instance until the end",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_a_sentence_and_a_source() {
        let ids: BTreeSet<&str> = ASSUMPTIONS.iter().map(|assumption| assumption.id).collect();
        assert_eq!(ids.len(), ASSUMPTIONS.len());
        for Assumption { id, text, source, .. } in ASSUMPTIONS {
            assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{id}");
            assert!(text.ends_with('.') && !source.is_empty(), "{id}");
            assert!(text.split_whitespace().count() <= 25, "{id}");
        }
    }
}
