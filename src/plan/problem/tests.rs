//! How each problem bears on the answer, and what it says.

use super::*;
use crate::model::{ScheduledEvent, Time};
use crate::plan::testing::groups;

#[test]
fn each_problem_says_what_it_is_about_and_how_bad_it_is() {
    let instance = || "i-1".parse::<InstanceId>().unwrap();
    let interface = || "eni-1".parse::<InterfaceId>().unwrap();
    let group = || "sg-150".parse::<GroupId>().unwrap();
    let vpc = || "vpc-1".parse::<VpcId>().unwrap();
    let text = |text: &str| text.to_owned();
    let owner = Owner { stack_id: text("stack-1"), logical_id: text("Isolation") };
    let web = |state: &str| (instance(), text("web"), text(state));
    let in_standby = |state: &str| {
        let (instance, group, state) = web(state);
        Problem::NotInStandby { instance, group, state }
    };
    let g = || groups(&["sg-a", "sg-b"]);
    let modify = "aws ec2 modify-network-interface-attribute --network-interface-id eni-1 --groups";
    use Severity::{Fatal, NotIsolated, Note, Open};
    let check = |severity: Severity, problem: Problem, expected: &str| {
        let expected = expected.replace("{modify}", modify);
        let is_of_interface = severity == NotIsolated && expected.starts_with("i-1: eni-1");
        assert_eq!(problem.left_out(), Some(&interface()).filter(|_| is_of_interface), "{expected}");
        assert_eq!((problem.severity(), problem.to_string()), (severity, expected));
    };
    check(
        Open,
        Problem::InTransit {
            instance: instance(),
            interface: interface(),
            through: "sg-7a5".parse().unwrap(),
            isolation_group: group(),
        },
        "i-1: eni-1 may be in sg-7a5, which is open to everybody: run {modify} sg-150",
    );
    check(
        Fatal,
        Problem::Unreadable { item: text("i-1"), reason: text("no State") },
        "item i-1 of the records table cannot be read: no State; mend it in the DynamoDB console",
    );
    check(
        Note,
        Problem::NothingKept { instance: instance() },
        "i-1: nothing of it is left to keep isolated: it is terminated, or its interfaces are gone",
    );
    check(
        Fatal,
        Problem::GroupMissing { group: group() },
        "isolation group sg-150 does not exist: put the stack right (it makes this group)",
    );
    check(
        Fatal,
        Problem::GroupElsewhere { group: group(), vpc: text("vpc-2"), wanted: vpc() },
        "isolation group sg-150 is in vpc-2, not in vpc-1: nothing was changed; correct VpcId",
    );
    check(
        Fatal,
        Problem::TooWide { group: group(), direction: "in", rule: text("tcp 443 sg-a") },
        "isolation group sg-150 allows in tcp 443 sg-a: instances in it are not isolated; remove that rule",
    );
    check(Note, Problem::NoTransit, "established connections were not cut: TransitSecurityGroupId is empty");
    check(
        Fatal,
        Problem::TransitUnfit { group: group(), reason: text("does not exist") },
        "established connections are not cut: transit group sg-150 does not exist; put its rules right",
    );
    check(
        NotIsolated,
        Problem::BranchOpen {
            instance: instance(),
            interface: interface(),
            trunk: "eni-2".parse().unwrap(),
            groups: g(),
            isolation_group: group(),
        },
        "i-1: eni-1, a branch of its trunk eni-2, is in [sg-a, sg-b]: branches are not isolated for you; write its groups down, then run {modify} sg-150",
    );
    check(
        Fatal,
        Problem::NotCut { instance: instance(), interface: interface(), reason: text("why") },
        "i-1: eni-1 is isolated, but connections that were open may live on: why",
    );
    check(
        Note,
        Problem::Undone { instance: instance(), interface: interface() },
        "i-1: eni-1 was opened during or after its passage, and is isolated again: what connected meanwhile may live on; deploy again with a new Rerun",
    );
    check(
        Note,
        Problem::KeepsChanging { instance: instance() },
        "i-1: its interfaces, branches or volumes keep changing: find out who changes them (CloudTrail), then deploy again with a new Rerun",
    );
    check(
        NotIsolated,
        Problem::Unknown { instance: instance() },
        "i-1 does not exist in this account and region: check the id, or take it off CompromisedInstanceList",
    );
    check(
        NotIsolated,
        Problem::Terminated { instance: instance() },
        "i-1 is terminated: take it off CompromisedInstanceList",
    );
    check(
        NotIsolated,
        Problem::TerminatedUnsaved { instance: instance() },
        "i-1 was terminated before its snapshots: look for volumes that outlived it, then take it off CompromisedInstanceList",
    );
    check(
        NotIsolated,
        Problem::NoInterface { instance: instance(), state: text("pending") },
        "i-1 (pending) has no network interface: wait until it has one",
    );
    check(
        NotIsolated,
        Problem::OtherVpc { instance: instance(), vpc: text("vpc-2"), wanted: vpc() },
        "i-1 is in vpc-2, not in vpc-1: isolate it with a stack of its own, with VpcId vpc-2",
    );
    check(
        NotIsolated,
        Problem::InterfaceElsewhere {
            instance: instance(),
            interface: interface(),
            vpc: "vpc-2".parse().unwrap(),
            wanted: vpc(),
        },
        "i-1: eni-1 is in vpc-2, not in vpc-1: give it a group of vpc-2 that allows nothing: {modify} <group ids>",
    );
    check(
        NotIsolated,
        Problem::HeldByOther { instance: instance(), holder: text("stack-2") },
        "i-1 is already isolated by stack-2: take it over with ec2-isolation adopt, or take it off CompromisedInstanceList",
    );
    check(
        NotIsolated,
        Problem::HeldOpen { instance: instance(), holder: text("stack-2"), interfaces: [interface()].into() },
        "i-1 is held by stack-2, but EC2 shows eni-1 outside of its isolation: deploy that stack again with a new Rerun, or take i-1 over with ec2-isolation adopt",
    );
    check(
        NotIsolated,
        Problem::InterfaceHeldByOther { instance: instance(), interface: interface(), holder: text("stack-2") },
        "i-1: eni-1 is already isolated by stack-2, and was left to that stack: allow that with AllowPartialIsolation",
    );
    check(
        Fatal,
        Problem::OriginalUnknown { instance: instance(), interface: interface(), group: group() },
        "i-1: eni-1 is in sg-150 without a record of its original groups: it is isolated; give it its groups by hand",
    );
    check(
        Note,
        Problem::OriginalsDiffer {
            instance: instance(),
            interface: interface(),
            groups: g(),
            recorded: groups(&["sg-c"]),
        },
        "i-1: eni-1 was in [sg-a, sg-b] when it was isolated, but its record of an earlier try says [sg-c], which a restore gives it: correct the record if that is outdated",
    );
    check(
        Note,
        Problem::RecordsDiffer {
            interface: interface(),
            instance: instance(),
            groups: g(),
            other: "i-2".parse().unwrap(),
            others: groups(&["sg-c"]),
        },
        "eni-1 is in two records with different groups: [sg-a, sg-b] in that of i-1, which a restore gives it, [sg-c] in that of i-2",
    );
    check(
        Fatal,
        Problem::OriginalsGone { instance: instance(), interface: interface(), groups: g() },
        "i-1: eni-1 stays isolated, its original groups [sg-a, sg-b] no longer exist: choose others: {modify} <group ids>",
    );
    check(
        Note,
        Problem::OriginalDropped { instance: instance(), interface: interface(), groups: g() },
        "i-1: eni-1 was restored without [sg-a, sg-b], which no longer exist",
    );
    check(
        Fatal,
        Problem::NoOriginals { instance: instance(), interface: interface() },
        "i-1: eni-1 stays isolated, it had no security group when it was recorded: choose one: {modify} <group ids>",
    );
    check(
        Note,
        Problem::Moved { instance: instance(), interface: interface(), groups: g() },
        "i-1: eni-1 was left alone: it was moved to [sg-a, sg-b] meanwhile",
    );
    check(
        Note,
        Problem::RecordedElsewhere { instance: instance(), interface: interface(), other: "i-2".parse().unwrap() },
        "i-1: eni-1 stays isolated, i-2 has it in its record: restore i-2 to give it its groups back",
    );
    check(
        Fatal,
        Problem::AttachedElsewhere { instance: instance(), interface: interface(), other: "i-2".parse().unwrap() },
        "i-1: eni-1 is attached to i-2 by now, which stays isolated: restore i-2 too, or detach it first",
    );
    check(
        Note,
        Problem::ProtectionLeft { instance: instance(), holder: text("stack-2") },
        "i-1: what protects it was left on, stack-2 isolates it by now; its record has what it had before",
    );
    check(Note, Problem::NoVolumes { instance: instance() }, "i-1 has no EBS volume to snapshot");
    check(
        Note,
        Problem::SnapshotsAwaited { instance: instance() },
        "i-1: its snapshots were asked for, and are not to be seen yet",
    );
    check(
        Note,
        Problem::SnapshotLost {
            instance: instance(),
            snapshot: "snap-1".parse().unwrap(),
            volume: "vol-1".parse().unwrap(),
            reason: "failed",
        },
        "i-1: snapshot snap-1 of vol-1 failed, and is not counted: take another one",
    );
    // Asked for, accepted, and not seen.
    for (state, severity) in [("InService", Fatal), ("Terminating", Note), ("EnteringStandby", Note)] {
        let expected = format!(
            "i-1 is {state} in Auto Scaling group web, not in Standby: Auto Scaling may terminate it; look at the group"
        );
        check(severity, in_standby(state), &expected);
    }
    check(
        Note,
        Problem::OtherScalingGroup { instance: instance(), group: text("web"), recorded: text("old") },
        "i-1 is in service of Auto Scaling group web, its record says old: it was not moved to Standby; do so by hand: aws autoscaling enter-standby",
    );
    let exit = "aws autoscaling exit-standby --auto-scaling-group-name 'web' --instance-ids i-1";
    let (instance_, group_, state) = web("Standby");
    check(
        Fatal,
        Problem::StillInStandby { instance: instance_, group: group_, state },
        &format!("i-1 is Standby in Auto Scaling group web: it is not back in service; when it is in Standby: {exit}"),
    );
    let (instance_, group_, reason) = web("full");
    check(
        Note,
        Problem::StaysInStandby { instance: instance_, group: group_, reason },
        &format!("i-1 stays in Standby of Auto Scaling group web (full): raise the group's maximum size, then: {exit}"),
    );
    check(
        Note,
        Problem::LeftScalingGroup { instance: instance(), group: text("web") },
        "i-1 is no longer in Auto Scaling group web: it was not put back into service",
    );
    check(
        Note,
        Problem::MetadataPending { instance: instance() },
        "the metadata service of i-1 is still being turned off: until that has ended it gives credentials; look again: aws ec2 describe-instances --instance-ids i-1 --query 'Reservations[].Instances[].MetadataOptions'",
    );
    check(
        Note,
        Problem::OtherProfile {
            instance: instance(),
            association: text("iip-assoc-1"),
            arn: text("arn:b"),
            recorded: text("arn:a"),
        },
        "i-1 has instance profile arn:b, its record says arn:a: it was not detached; do so by hand: aws ec2 disassociate-iam-instance-profile --association-id iip-assoc-1",
    );
    check(
        Note,
        Problem::ProfileReplaced { instance: instance(), arn: text("arn:b"), recorded: text("arn:a") },
        "i-1 was left with instance profile arn:b, which it was given meanwhile; before it had arn:a",
    );
    check(
        Fatal,
        Problem::GroupUnfit { group: group(), reason: text("does not exist") },
        "isolation group sg-150 of the new stack does not exist: deploy the new stack first",
    );
    check(
        Fatal,
        Problem::InCharge { instance: instance(), stack: text("stack-1") },
        "i-1 is still isolated by stack-1, which works: deploy that stack once more without i-1 in CompromisedInstanceList (OnRemoval=KeepIsolated leaves it isolated), then adopt it",
    );
    check(
        Fatal,
        Problem::BeingRestored { instance: instance(), stack: text("stack-1") },
        "i-1 is being restored by stack-1: wait until that has ended, then look at its status",
    );
    check(
        Fatal,
        Problem::AdoptedElsewhere { instance: instance(), vpc: text("vpc-1"), wanted: text("vpc-2") },
        "i-1 is recorded in vpc-1, the new stack is for vpc-2: adopt it with a stack that has VpcId=vpc-1",
    );
    check(
        Fatal,
        Problem::RecordedTwice { instance: instance(), owner },
        "i-1 has another record in the new table already, held by stack-1|Isolation, with other interfaces: its originals are not mixed; restore one of the two first",
    );
    check(
        Fatal,
        Problem::HeldWith { instance: instance(), interface: interface(), other: "i-2".parse().unwrap() },
        "i-1: eni-1 is in the record of i-2: adopt i-2 with it",
    );
    check(
        Fatal,
        Problem::Unrecorded { instance: instance(), interface: interface(), groups: g() },
        "i-1: eni-1 is in [sg-a, sg-b] without a record of its original groups: give it its groups by hand, then adopt i-1",
    );
}

#[test]
fn what_may_end_an_instance_is_a_note_with_what_keeps_the_evidence() {
    let protection = "Leave its termination protection on: aws ec2 modify-instance-attribute --instance-id i-1 --disable-api-termination";
    let memory = "ec2-isolation memory i-1";
    let some = |name: &str| Some(name.to_owned());
    let ecs = |cluster, container_instance| Ending::Ecs { cluster, container_instance };
    let capture = format!("its agent no longer answers. Capture its memory first: {memory}");
    let event = |not_before| ScheduledEvent { code: "instance-retirement".to_owned(), not_before };
    for (ending, expected) in [
        (
            Ending::Kubernetes { cluster: some("prod") },
            format!(
                "is a node of Kubernetes cluster prod, by its tags: a controller may terminate it, since it no longer answers. {protection}"
            ),
        ),
        (
            Ending::Kubernetes { cluster: None },
            format!(
                "is a node of Kubernetes cluster, by its tags: a controller may terminate it, since it no longer answers. {protection}"
            ),
        ),
        (
            Ending::Karpenter { pool: some("default") },
            format!(
                "is a node of Karpenter's pool default, by its tags: Karpenter may terminate it, since it no longer answers. {protection}"
            ),
        ),
        (
            ecs(some("web"), some("0a1b")),
            format!(
                "belongs to ECS cluster web, by its tags: ECS may replace it, since {capture}, and only then drain it, which ends its \
                 tasks: aws ecs update-container-instances-state --cluster web --container-instances 0a1b --status DRAINING"
            ),
        ),
        // Without both names there is no command.
        (
            ecs(some("web"), None),
            format!("belongs to ECS cluster web, by its tags: ECS may replace it, since {capture}"),
        ),
        (ecs(None, some("0a1b")), format!("belongs to ECS cluster, by its tags: ECS may replace it, since {capture}")),
        (
            Ending::Spot,
            format!(
                "is a Spot Instance: EC2 may end it with a notice of two minutes, and no protection stops that. Capture its memory now: {memory}"
            ),
        ),
        (
            Ending::Reservation("capacity-block".to_owned()),
            format!(
                "runs in a reservation (capacity-block): EC2 terminates it when that ends, and no protection stops that. Capture its memory now: {memory}"
            ),
        ),
    ] {
        let problem = Problem::Ending { instance: "i-1".parse().unwrap(), ending };
        assert_eq!((problem.severity(), problem.is_ending()), (Severity::Note, true), "{problem}");
        assert_eq!(problem.to_string(), format!("i-1 {expected}"));
    }
    for (not_before, at) in [(None, ""), (Some(Time(1_764_039_600)), " from 2025-11-25T03:00:00Z on")] {
        let ending = Ending::Scheduled(event(not_before));
        let expected = format!(
            "AWS has scheduled instance-retirement of i-1{at}: its memory is lost then, and no protection stops that. Capture it before: {memory}"
        );
        assert_eq!(Problem::Ending { instance: "i-1".parse().unwrap(), ending }.to_string(), expected);
    }
    let unknown = Problem::EventsUnknown { reason: "denied".to_owned() };
    assert_eq!((unknown.severity(), unknown.is_ending()), (Severity::Note, true));
    assert_eq!(unknown.to_string(), "whether AWS has scheduled a stop, a reboot or a retirement is not known: denied");
    // Another note is about what is not as it should be now.
    assert!(!Problem::NoTransit.is_ending());
}

#[test]
fn what_is_open_is_said_first() {
    assert!(
        Severity::Open < Severity::Fatal
            && Severity::Fatal < Severity::NotIsolated
            && Severity::NotIsolated < Severity::Note
    );
}

#[test]
fn trunks_whose_branches_are_not_known_are_named() {
    assert_eq!(
        branches_unknown(&["eni-1".parse().unwrap(), "eni-2".parse().unwrap()].into()),
        "whether trunk eni-1, eni-2 has branches, which are not isolated, is not known"
    );
}
