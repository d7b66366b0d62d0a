//! A drill in the world in memory: what it finds, and that nothing of it is left, or is named, whatever fails and whenever it dies.

use std::collections::BTreeMap;
use std::time::Duration;

use ec2_isolation::model::Groups;
use ec2_isolation::operator::ports::drill::{DRILL_TAG, drill_name};
use ec2_isolation::operator::{ASSUMPTIONS, Drill, DrillOutcome, SHAPES, Trouble as Refusal};
use ec2_isolation::ports::Fault;

use super::{operator, reads};
use crate::world::drill::SUBNET;
use crate::world::{Trouble, World};
use crate::{A, fleet};

fn prepared() -> World {
    let world = fleet();
    world.with_responder();
    world
}

async fn try_drill(world: &World) -> Result<Drill, Refusal> {
    let program = operator(world);
    let order = program.drill_order(SUBNET, None).await?;
    Ok(program.drill(&order, world, &|_| ()).await)
}

async fn drill(world: &World) -> Drill {
    try_drill(world).await.expect("it can be held")
}

fn left(world: &World) -> Vec<String> {
    world.data().left_of_drills()
}

/// The interfaces of the fleet: no drill has anything to do with them.
fn others(world: &World) -> BTreeMap<String, Groups> {
    let fleet = fleet().cards();
    world.cards().into_iter().filter(|(id, _)| fleet.contains_key(id)).collect()
}

#[tokio::test(start_paused = true)]
async fn everything_that_a_drill_can_see_is_seen_and_nothing_is_left() {
    let world = prepared();
    world.with_trigger();
    let drill = drill(&world).await;
    let seen = |finding: &&ec2_isolation::operator::Finding| finding.outcome != DrillOutcome::Confirmed;
    let others_than_confirmed: Vec<String> = drill
        .findings
        .iter()
        .filter(seen)
        .filter(|finding| ASSUMPTIONS.iter().any(|of| of.id == finding.id && of.unseen.is_empty()))
        .map(ToString::to_string)
        .collect();
    // All in one moment.
    let expected = "cfn-groups-side-by-side";
    assert!(
        others_than_confirmed.iter().all(|line| line.contains(expected)) && drill.failed.is_none(),
        "{others_than_confirmed:#?} {:?}",
        drill.failed
    );
    assert!(drill.is_as_assumed());
    assert_eq!((left(&world), others(&world)), (vec![], fleet().cards()));
    assert_eq!(drill.findings.len(), ASSUMPTIONS.len());
    let json = serde_json::to_value(&drill).unwrap();
    assert_eq!((&json["schema_version"], &json["left"]), (&serde_json::json!(1), &serde_json::json!([])));
    let of =
        |id: &str| json["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == id).unwrap().clone();
    let expected = serde_json::json!({
        "id": "ec2-group-in-use",
        "assumption": "DeleteSecurityGroup of a group that an interface has fails with DependencyViolation.",
        "source": "EC2 API Reference, DeleteSecurityGroup",
        "outcome": "confirmed",
        "seen": "DependencyViolation",
    });
    assert_eq!(of("ec2-group-in-use"), expected);
    assert_eq!(of("asg-standby")["outcome"], "not_seen");
}

/// What AWS does otherwise than we assume is found, and costs the rest nothing.
#[tokio::test(start_paused = true)]
async fn what_is_not_as_we_assume_is_refuted() {
    for (what, refuted) in
        [("tags", "ec2-reserved-tags"), ("snapshots", "ec2-snapshot-rate"), ("readings", "ec2-groups-read-back-delay")]
    {
        let world = prepared();
        match what {
            "tags" => world.data().drill.takes_reserved_tags = true,
            "snapshots" => world.data().drill.takes_every_snapshot = true,
            _ => world.data().stale_reads = 12,
        }
        let drill = drill(&world).await;
        let found: Vec<&str> = drill
            .findings
            .iter()
            .filter(|finding| finding.outcome == DrillOutcome::Refuted)
            .map(|finding| finding.id)
            .collect();
        assert!(
            found.contains(&refuted) && drill.failed.is_none() && !drill.is_as_assumed(),
            "{what}: {found:?} {:?}",
            drill.failed
        );
        assert_eq!((left(&world), others(&world)), (vec![], fleet().cards()), "{what}");
    }
}

/// The trigger is asked what it reads, and nothing is started.
#[tokio::test(start_paused = true)]
async fn a_finding_that_step_functions_reads_otherwise_is_named() {
    let of = async |world: &World| {
        let drill = drill(world).await;
        drill.findings.into_iter().find(|finding| finding.id == "gd-findings-are-read").unwrap()
    };
    let world = prepared();
    let found = of(&world).await;
    assert_eq!((found.outcome, found.seen.as_str()), (DrillOutcome::NotSeen, "the responder's trigger is off"));
    world.with_trigger();
    world.data().drill.misreads = Some("guardduty-sample");
    let found = of(&world).await;
    let said = format!("{} of {} findings, but guardduty-sample", SHAPES.len() - 1, SHAPES.len());
    assert_eq!((found.outcome, found.seen), (DrillOutcome::Refuted, said));
    world.data().always = Some(("states:TestState", Fault::Denied));
    assert_eq!(of(&world).await.outcome, DrillOutcome::NotSeen);
}

/// EC2 shows a new instance late: a look that does not show it is no reason to leave it.
#[tokio::test(start_paused = true)]
async fn what_is_not_shown_yet_is_taken_away_when_it_is() {
    let world = prepared();
    world.data().troubles_of.insert("ec2:RunInstances", (0, Trouble::DiesAfter));
    let process = world.process();
    tokio::select! {
        biased;
        () = process.death() => tokio::time::sleep(Duration::from_secs(3)).await,
        _ = try_drill(&process) => panic!("it was to die"),
    }
    let program = operator(&world.process());
    let id = program.drills().await.unwrap().into_keys().next().unwrap();
    let instance = left(&world).into_iter().find(|id| id.starts_with("i-")).unwrap();
    world.hide(&instance, Duration::from_secs(4));
    assert_eq!(program.clean(&id).await.left, []);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_told_says_nothing_of_the_account() {
    let world = prepared();
    world.data().always = Some(("ec2:CreateSecurityGroup", Fault::Denied));
    let drill = drill(&world).await;
    assert!(
        drill.failed.as_deref().is_some_and(|why| why.starts_with("the drill's groups cannot be made: ")),
        "{:?}",
        drill.failed
    );
    assert!(!drill.is_as_assumed() && drill.left.is_empty());
    assert!(drill.findings.iter().all(|finding| finding.outcome == DrillOutcome::NotSeen));
    let text = drill.to_string();
    assert_eq!(crate::words::resource_ids(&text), [""; 0]);
    assert!(!text.contains("123456789012") && !text.contains("arn:"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_without_a_subnet_or_a_responder() {
    let world = prepared();
    let refused = |result: Result<Drill, Refusal>| result.unwrap_err().to_string();
    world.data().exports.clear();
    assert!(refused(try_drill(&world).await).contains("a drill uses the responder, and there is none in account"));
    world.data().drill.subnets.clear();
    assert!(
        refused(try_drill(&world).await).starts_with("nothing was changed: there is no subnet subnet-0a in account")
    );
    assert!(world.data().calls.iter().all(|(action, _)| reads(action)));
}

/// The numbers of the calls, and whether each of them only reads.
async fn calls() -> Vec<bool> {
    let world = prepared();
    drill(&world).await;
    let data = world.data();
    data.calls.iter().map(|(action, _)| reads(action)).collect()
}

#[tokio::test(start_paused = true)]
async fn whichever_call_fails_nothing_is_left_or_it_is_named() {
    for n in 1..=calls().await.len() {
        let fault = if n % 2 == 0 { Fault::Refused } else { Fault::Denied };
        let world = prepared();
        world.data().troubles.insert(n, Trouble::Fails(fault));
        let result = try_drill(&world).await;
        let when = format!("{fault:?} at call {n}: {:?}", world.data().calls.get(n - 1));
        assert_eq!(left(&world), Vec::<String>::new(), "{when}");
        assert_eq!(others(&world), fleet().cards(), "{when}");
        if let Ok(drill) = result {
            assert_eq!(drill.left, [], "{when}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_every_time_is_named_with_its_command() {
    for (action, names) in [
        ("ec2:TerminateInstances", "aws ec2 terminate-instances --instance-ids i-"),
        ("ec2:DeleteSecurityGroup", "aws ec2 delete-security-group --group-id sg-"),
        ("cloudformation:DeleteStack", "ec2-isolation restore --stack ec2-isolation-drill-"),
        ("ec2:DeleteSnapshot", "aws ec2 terminate-instances --instance-ids i-"),
    ] {
        let world = prepared();
        world.data().always = Some((action, Fault::Denied));
        let drill = drill(&world).await;
        let commands: Vec<&String> = drill.left.iter().flat_map(|left| &left.commands).collect();
        assert!(
            !left(&world).is_empty() && commands.iter().any(|line| line.contains(names)),
            "{action}: {commands:#?}"
        );
        assert!(!drill.is_as_assumed());
        // When it is allowed again, that is enough.
        world.data().always = None;
        clean(&world, action).await;
    }
}

async fn clean(world: &World, when: &str) {
    let program = operator(&world.process());
    for id in program.drills().await.unwrap().keys() {
        assert_eq!(program.clean(id).await.left, [], "{when}");
    }
    assert_eq!((left(world), others(world)), (vec![], fleet().cards()), "{when}");
}

#[tokio::test(start_paused = true)]
async fn whenever_it_dies_its_tags_are_enough_to_take_it_away() {
    // Dying in a call that reads is dying before the next one that changes something.
    let changes = calls().await.into_iter().enumerate().filter(|(_, reads)| !reads).map(|(n, _)| n + 1);
    for n in changes {
        for trouble in [Trouble::Dies, Trouble::DiesAfter] {
            let world = prepared();
            world.data().troubles.insert(n, trouble);
            let process = world.process();
            tokio::select! {
                biased;
                () = process.death() => tokio::time::sleep(Duration::from_secs(3)).await,
                _ = try_drill(&process) => panic!("it was to die at call {n}"),
            }
            clean(&world, &format!("{trouble:?} at call {n}: {:?}", world.data().calls.get(n - 1).cloned())).await;
        }
    }
}

/// Whoever may write tags may be the attacker.
#[tokio::test(start_paused = true)]
async fn a_tag_alone_deletes_nothing() {
    let world = prepared();
    let mark = BTreeMap::from([(DRILL_TAG.to_owned(), "0badcafe".to_owned())]);
    for id in [A, "sg-0a"] {
        world.data().tags.insert(id.to_owned(), mark.clone());
    }
    let program = operator(&world);
    assert_eq!(program.drills().await.unwrap().len(), 1);
    let cleaned = program.clean("0badcafe").await;
    let text = cleaned.left.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains(A) && text.contains("sg-0a") && text.contains("See first whose they are"), "{text}");
    assert_eq!(others(&world), fleet().cards());
    assert!(world.data().calls.iter().all(|(action, _)| reads(action)), "{:?}", world.data().calls);
}

/// A stack with a drill's name that isolates something else is an incident.
#[tokio::test(start_paused = true)]
async fn a_stack_that_isolates_what_no_drill_has_launched_is_left_as_it_is() {
    let world = prepared();
    let program = operator(&world);
    let options = ec2_isolation::operator::Options { stack: Some(drill_name("0badcafe")), ..Default::default() };
    let orders = program.orders(&[A.parse().unwrap()], &options).await.unwrap();
    program.isolate(&orders[0], &|_| ()).await.unwrap();
    let isolated = others(&world);
    let cleaned = program.clean("0badcafe").await;
    assert!(cleaned.left[0].what.contains("which no drill has launched"), "{:?}", cleaned.left);
    assert_eq!(others(&world), isolated);
    assert_eq!(world.data().views.len(), 1);
}
