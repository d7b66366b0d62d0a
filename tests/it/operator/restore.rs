//! The program restores, plans a restore, and ends the stack.

use std::collections::BTreeSet;
use std::time::Duration;

use ec2_isolation::model::{Desired, InstanceId, State};
use ec2_isolation::operator::Address;
use ec2_isolation::ports::{Fault, INTENT_PREFIX};

use super::{ALL, assert_as_at_the_start, by_table, kept, named, operator, reads, restore, try_restore};
use crate::world::operator::view;
use crate::world::{ISOLATION, STACK, TABLE, Trouble, World};
use crate::{A, B, C, event, fleet, isolated, listing, quick_fleet, rerun, run, succeeds};

#[tokio::test(start_paused = true)]
async fn what_a_rollback_kept_is_restored_whatever_the_stack_is_doing() {
    for status in ["ROLLBACK_FAILED", "DELETE_FAILED", "UPDATE_COMPLETE"] {
        let world = kept().await;
        world.set_status(status);
        let report = restore(&world).await;
        assert_eq!((report.failed, report.done), (false, vec!["2 instances restored".to_owned()]), "{status}");
        assert_as_at_the_start(&world, status);
        let history = world.data().records[&A.parse().unwrap()].history.clone();
        assert!(
            history.last().unwrap().contains("restored (asked by arn:aws:iam::123456789012:user/x with"),
            "{history:?}"
        );
        // Again changes nothing.
        let before = world.count("ec2:ModifyNetworkInterfaceAttribute");
        assert_eq!(restore(&world).await.done, ["nothing to restore: no record is held"]);
        assert_eq!(world.count("ec2:ModifyNetworkInterfaceAttribute"), before);
    }
}

/// No end state is left that the program cannot repair: it knows from the records what is held.
#[tokio::test(start_paused = true)]
async fn what_an_intent_holds_that_cannot_be_read_is_restored() {
    for reason in ["attribute Held is no set of strings", "attribute IssuedAt is no string"] {
        for only in [BTreeSet::new(), named(&[A])] {
            let world = kept().await;
            world.set_status("DELETE_FAILED");
            let key = format!("{INTENT_PREFIX}{}", world.data().intents.keys().next().unwrap());
            world.data().unreadable.insert(key, reason.to_owned());
            world.data().intents.values_mut().next().unwrap().0.held.clear();
            let report = try_restore(&world, &only).await.unwrap();
            let expected = if only.is_empty() { "2 instances restored" } else { "1 instance restored" };
            assert_eq!((report.failed, report.done), (false, vec![expected.to_owned()]), "{reason}");
            assert_eq!(isolated(&world).len(), only.len(), "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_changes_nothing_and_names_every_interface_and_protection() {
    let world = kept().await;
    let (cards, calls) = (world.cards(), world.data().calls.len());
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let preview = program.preview(&incident, &ALL).await.unwrap();
    let text = preview.to_string();
    for part in [
        format!("{A}: restore eni-0a [{ISOLATION}] -> [sg-0a]"),
        format!("{B}: restore eni-0b [{ISOLATION}] -> [sg-0b, sg-0c]"),
        "termination protection off".to_owned(),
        "instance-profile/web".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    assert!(!preview.is_blocked);
    let data = world.data();
    let writes: Vec<_> = data.calls[calls..].iter().filter(|(action, _)| !reads(action)).collect();
    assert_eq!((writes, &data.intents.len()), (vec![], &1));
    drop(data);
    assert_eq!(world.cards(), cards);
}

#[tokio::test(start_paused = true)]
async fn a_plan_names_each_protection_of_an_instance_whose_interface_is_gone_once() {
    let world = kept().await;
    {
        let mut data = world.data();
        data.instances.get_mut(&A.parse().unwrap()).unwrap().interfaces.clear();
        data.calm();
    }
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let preview = program.preview(&incident, &named(&[A])).await.unwrap();
    let mut expected = [
        format!("{A}: restore: delete {} on termination", A.replace("i-", "vol-")),
        format!("{A}: restore: metadata service on"),
        format!("{A}: restore: profile arn:aws:iam::123456789012:instance-profile/web"),
        format!("{A}: restore: shutdown behaviour terminate"),
        format!("{A}: restore: stop protection off"),
        format!("{A}: restore: termination protection off"),
    ];
    expected.sort();
    let mut steps: Vec<&str> = preview.steps.iter().map(String::as_str).filter(|step| step.starts_with(A)).collect();
    steps.sort_unstable();
    assert_eq!(steps, expected);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_fails_or_dies_at_any_call_is_finished_by_the_next_one() {
    for trouble in [
        Trouble::Fails(Fault::Denied),
        Trouble::Fails(Fault::Throttled),
        Trouble::Fails(Fault::Refused),
        Trouble::Dies,
        Trouble::DiesAfter,
    ] {
        for n in 1.. {
            let when = format!("{trouble:?} at call {n}");
            let world = kept().await;
            let already = world.data().calls.len();
            world.data().troubles.insert(already + n, trouble);
            let process = world.process();
            tokio::select! {
                biased;
                () = process.death() => tokio::time::sleep(Duration::from_secs(3)).await,
                result = try_restore(&process, &ALL) => {
                    // Success is claimed for what is so only.
                    if result.is_ok_and(|report| !report.failed && !report.details.iter().any(|line| line.contains("untag"))) {
                        assert_as_at_the_start(&world, &when);
                    }
                }
            }
            let struck = world.data().troubles.is_empty();
            world.data().troubles.clear();
            let report = restore(&world).await;
            assert!(!report.failed, "{when}: {:?} {:?}", report.done, report.details);
            // A tag that cannot be taken off stays, and is named.
            let is_untagging =
                world.data().calls.get(already + n - 1).is_some_and(|(action, _)| *action == "ec2:DeleteTags");
            if !is_untagging {
                assert_as_at_the_start(&world, &when);
            }
            if !struck {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_create_converges_on_a_restore_that_was_asked_for_later() {
    for delay in 0..25 {
        let world = fleet();
        let late = async {
            tokio::time::sleep(Duration::from_millis(1000 * delay + 500)).await;
            restore(&world).await
        };
        tokio::join!(run(&world, event("create")), late);
        // Where there was no record yet, there was nothing to ask about: the operator looks again.
        if world.data().records.values().any(|record| record.state != State::Restored) {
            assert!(delay < 3, "after {delay} s");
            assert!(!restore(&world).await.failed, "after {delay} s");
        }
        assert_eq!(world.cards(), fleet().cards(), "after {delay} s");
    }
}

#[tokio::test(start_paused = true)]
async fn one_instance_is_restored_and_the_others_stay_isolated_also_for_the_function() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let report = try_restore(&world, &named(&[A])).await.unwrap();
    assert_eq!((report.failed, report.done), (false, vec!["1 instance restored".to_owned()]));
    assert_eq!(isolated(&world), ["eni-0b"]);
    assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Isolated)));
    let wanted = world.data().intents.values().next().unwrap().0.desired.clone();
    let Desired::Isolated(wants) = wanted else { panic!("the others are still wanted isolated") };
    assert_eq!(wants.instances, [B.parse::<InstanceId>().unwrap()]);
    assert!(try_restore(&world, &named(&[B])).await.is_ok());
    assert_as_at_the_start(&world, "the last one");
    succeeds(&world, event("delete")).await;
    assert_as_at_the_start(&world, "deleted");
}

/// A with a second interface and B are isolated; then that interface moves to B.
async fn with_a_moved_interface() -> World {
    let world = quick_fleet();
    world.attach(A, "eni-0f", &["sg-0a", "sg-0b"]);
    succeeds(&world, event("create")).await;
    world.move_to("eni-0f", B);
    world
}

fn at_the_end() -> World {
    let world = quick_fleet();
    world.attach(B, "eni-0f", &["sg-0a", "sg-0b"]);
    world
}

/// The record of B holds it as well, and B stays.
#[tokio::test(start_paused = true)]
async fn one_whose_interface_moved_to_another_that_stays_is_restored_without_it() {
    let world = with_a_moved_interface().await;
    succeeds(&world, rerun(&[A, B])).await;
    let report = try_restore(&world, &named(&[A])).await.unwrap();
    assert_eq!((report.failed, report.done), (false, vec!["1 instance restored".to_owned()]), "{:?}", report.details);
    assert_eq!((world.state(A), world.state(B)), (Some(State::Restored), Some(State::Isolated)));
    assert_eq!(isolated(&world), ["eni-0b", "eni-0f"]);
    succeeds(&world, event("delete")).await;
    assert_eq!(world.cards(), at_the_end().cards());
}

/// Only the record of A holds it, and A stays.
#[tokio::test(start_paused = true)]
async fn one_to_which_an_interface_of_another_moved_is_restored_and_that_stays_with_the_other() {
    let world = with_a_moved_interface().await;
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let preview = program.preview(&incident, &named(&[B])).await.unwrap();
    let report = try_restore(&world, &named(&[B])).await.unwrap();
    assert_eq!((report.failed, report.done), (false, vec!["1 instance restored".to_owned()]), "{:?}", report.details);
    let stays = format!("{B}: eni-0f stays isolated, {A} has it in its record: restore {A} to give it its groups back");
    assert!(preview.problems == [stays.clone()] && !preview.is_blocked, "{preview:?}");
    assert!(report.details.contains(&stays), "{:?}", report.details);
    assert_eq!((world.state(A), world.state(B)), (Some(State::Isolated), Some(State::Restored)));
    assert_eq!(isolated(&world), ["eni-0a", "eni-0f"]);
    let report = try_restore(&world, &named(&[A])).await.unwrap();
    assert!(!report.failed, "{report:?}");
    assert_eq!(world.cards(), at_the_end().cards());
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_of_the_credentials_with_which_the_program_runs() {
    let world = kept().await;
    world.data().always = Some(("ec2:ModifyNetworkInterfaceAttribute", Fault::Denied));
    let report = restore(&world).await;
    let denied = |detail: &String| detail.ends_with(" (these credentials are not allowed this action)");
    assert!(report.failed && report.details.iter().any(denied), "{:?}", report.details);
    assert!(!report.details.iter().any(|detail| detail.contains("the function's role")), "{:?}", report.details);
    world.data().always = Some(("dynamodb:BatchGetItem", Fault::Denied));
    let report = try_restore(&world, &named(&[A])).await;
    if let Ok(report) = report {
        assert!(!report.details.iter().any(|detail| detail.contains("the function's role")), "{:?}", report.details);
    }
}

#[tokio::test(start_paused = true)]
async fn none_of_several_is_restored_where_nobody_can_read_what_the_others_are_to_be() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    for (intent, _) in world.data().intents.values_mut() {
        intent.desired = Desired::Unknown("attribute Desired: EOF".to_owned());
    }
    let report = try_restore(&world, &named(&[A])).await.unwrap();
    assert!(report.failed && report.details.iter().any(|detail| detail.contains("deploy it once more")), "{report:?}");
    assert_eq!(isolated(&world), ["eni-0a", "eni-0b"]);
    assert!(!restore(&world).await.failed, "all of them are");
    assert_as_at_the_start(&world, "all");
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_a_record_is_refused_by_name() {
    let world = kept().await;
    let refused = try_restore(&world, &named(&[A, C])).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("nothing was changed: table {TABLE} holds no record of {C}"));
}

#[tokio::test(start_paused = true)]
async fn a_stack_is_ended_by_as_many_calls_as_that_takes() {
    let world = kept().await;
    let mut stuck = view(STACK, "DELETE_FAILED", &[]);
    stuck.resources.retain(|resource| resource.kind == "Custom::Ec2Isolation");
    stuck.resources[0].status = "DELETE_FAILED".to_owned();
    world.data().views.push(stuck);
    assert!(!restore(&world).await.failed);
    let program = operator(&world);
    let ended = program.finish(&program.incident(&by_table()).await.unwrap()).await.unwrap();
    assert!(ended.is_gone, "{ended:?}");
    assert!(ended.log[0].contains("--retain-resources Isolation"), "{ended:?}");
    let next = "\nTo see what is left, and what deletes it:\n  ec2-isolation leftovers --region us-east-1\n";
    assert!(ended.to_string().ends_with(next), "{ended}");
}

/// What trials.md, section 11, saw lost: the first history, who restored, and the first snapshots.
#[tokio::test(start_paused = true)]
async fn an_instance_that_is_isolated_again_after_a_restore_keeps_its_history_and_every_snapshot() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    assert!(!try_restore(&world, &named(&[A])).await.unwrap().failed);
    succeeds(&world, rerun(&[A, B])).await;
    let history = world.data().records[&A.parse().unwrap()].history.clone();
    let position = |part: &str, from: usize| {
        let found = history.iter().skip(from).position(|line| line.contains(part));
        from + found.unwrap_or_else(|| panic!("{part} after line {from} of {history:#?}"))
    };
    let first = position(" isolated, connections not cut (asked by CloudFormation Create ", 0);
    let restored = position(" restored (asked by arn:aws:iam::123456789012:user/x with ec2-isolation restore)", first);
    position(" isolated, connections not cut (asked by CloudFormation Update ", restored);
    let taken: Vec<String> = {
        let data = world.data();
        let volume = A.replace("i-", "vol-");
        let of = data.snapshots.iter().filter(|snapshot| snapshot.volume.as_str() == volume);
        of.map(|snapshot| snapshot.id.to_string()).collect()
    };
    assert_eq!(taken.len(), 2, "one of each isolation");
    for snapshot in &taken {
        position(&format!("snapshots: {snapshot}"), 0);
    }
    // They are evidence of this incident: both are named as such once it is over.
    restore(&world).await;
    let left = operator(&world).leftovers(None).await.unwrap();
    for snapshot in &taken {
        let found = left.left.iter().find(|left| left.id == *snapshot).unwrap();
        assert!(found.why.ends_with(&format!(" of {A}")), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_isolated_after_the_plan_was_shown_stays_isolated() {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let shown = program.preview(&incident, &ALL).await.unwrap();
    assert_eq!(shown.held, [A, B]);
    succeeds(&world, listing(&[A, B, C], rerun(&[A, B, C]))).await;
    let report = program.restore(&incident, &ALL, &|_| ()).await.unwrap();
    // Something is left, and the report says which.
    assert!(report.failed, "{report}");
    let left = format!("isolated since the plan was shown, and left so: {C}; to restore what is left, run this again");
    assert_eq!(report.details, [left]);
    assert_eq!(isolated(&world), ["eni-0c"]);
    let states = [A, B, C].map(|id| world.state(id).unwrap());
    assert_eq!(states, [State::Restored, State::Restored, State::Isolated]);
    let Desired::Isolated(wants) = world.data().intents.values().next().unwrap().0.desired.clone() else {
        panic!("it is still wanted isolated")
    };
    assert_eq!(wants.instances, [C.parse::<InstanceId>().unwrap()]);
    // Shown, it is restored.
    assert!(!restore(&world).await.failed);
    assert_as_at_the_start(&world, "the second time");
}

/// However late it is recorded: what nobody was shown is not released.
#[tokio::test(start_paused = true)]
async fn what_is_recorded_while_a_restore_begins_is_not_restored_by_it() {
    for delay in 0..12 {
        let world = fleet();
        succeeds(&world, event("create")).await;
        let program = operator(&world);
        let incident = program.incident(&by_table()).await.unwrap();
        let late = async {
            tokio::time::sleep(Duration::from_millis(500 * delay)).await;
            program.restore(&incident, &ALL, &|_| ()).await.unwrap()
        };
        tokio::join!(run(&world, rerun(&[A, B, C])), late);
        let history = world.data().records.get(&C.parse().unwrap()).map(|record| record.history.join("\n"));
        let history = history.unwrap_or_default();
        assert!(!history.contains("with ec2-isolation restore"), "after {delay}: {history}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_shows_how_far_it_is_and_how_long_it_took() {
    let world = kept().await;
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let shown = std::sync::Mutex::new(vec![]);
    let report = program.restore(&incident, &ALL, &|progress| shown.lock().unwrap().push(progress.clone())).await;
    let (report, shown) = (report.unwrap(), shown.into_inner().unwrap());
    assert!(shown.iter().all(|progress| (progress.total, progress.what) == (2, "interfaces restored")), "{shown:#?}");
    assert!(shown.is_sorted_by_key(|progress| (progress.seconds, progress.done)), "{shown:#?}");
    let (first, last) = (shown.first().unwrap(), shown.last().unwrap());
    assert_eq!((first.done, last.done), (0, 2), "{shown:#?}");
    assert!(report.seconds >= last.seconds, "{} < {}", report.seconds, last.seconds);
    let said = format!("2 instances restored\nThis took {} s.\n", report.seconds);
    assert!(report.seconds < 60 && report.to_string().starts_with(&said), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["seconds"], report.seconds);
}

/// A stack that works, of which nothing is held any more.
async fn over() -> World {
    let world = fleet();
    succeeds(&world, event("create")).await;
    let mut stack = view(STACK, "CREATE_COMPLETE", &[("SecurityGroupTable", TABLE)]);
    stack.is_protected = true;
    stack.parameters.insert("CompromisedInstanceList".to_owned(), format!("{A},{B}"));
    world.data().views.push(stack);
    assert!(!restore(&world).await.failed);
    world
}

/// Deleting the stack would release it, and nobody was shown that.
#[tokio::test(start_paused = true)]
async fn a_stack_that_another_responder_uses_meanwhile_is_not_ended() {
    // Recorded; listed by a request that is at work; recorded only while that is waited for.
    for case in ["recorded", "listed", "late"] {
        let world = over().await;
        let program = operator(&world);
        let seen = program.incident(&Address::Stack(STACK.to_owned())).await.unwrap();
        let (id, expected) = match case {
            "recorded" => (A, A),
            _ => (C, C),
        };
        world.add(C, crate::world::VPC, &[("eni-0c", &["sg-0b"])]);
        let isolate = async || succeeds(&world, listing(&[A, B, id], rerun(&[A, B, id]))).await;
        let later = async {
            if case == "late" {
                tokio::time::sleep(Duration::from_secs(10)).await;
                isolate().await;
                world.data().views[0].status.status = "UPDATE_COMPLETE".to_owned();
            }
        };
        match case {
            "recorded" => drop(isolate().await),
            "listed" => {
                let list = format!("{A},{B},{C}");
                world.data().views[0].parameters.insert("CompromisedInstanceList".to_owned(), list);
            }
            _ => world.data().views[0].status.status = "UPDATE_IN_PROGRESS".to_owned(),
        }
        let (ended, ()) = tokio::join!(program.finish(&seen), later);
        let ended = ended.unwrap();
        let said = |id: &str| {
            format!("{id} was isolated meanwhile, so the stack was not deleted. To go on, run the same command again.")
        };
        let is_said = ended.log == [said(expected)] || case == "late" && ended.log == [said(A)];
        assert!(!ended.is_gone && is_said, "{case}: {ended:?}");
        let stack = world.data().views[0].clone();
        assert!(stack.is_protected, "{case}");
        assert_eq!(world.count("cloudformation:DeleteStack"), 0, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_in_our_group_again_is_held_whatever_its_record_says() {
    let world = over().await;
    world.data().put_back(&"eni-0a".parse().unwrap(), crate::world::groups(&[ISOLATION]));
    let program = operator(&world);
    let incident = program.incident(&Address::Stack(STACK.to_owned())).await.unwrap();
    assert_eq!(incident.strays, vec![]);
    let held: Vec<&str> = incident.held().map(|record| record.instance.as_str()).collect();
    assert_eq!(held, [A]);
    let preview = program.preview(&incident, &ALL).await.unwrap();
    assert!(preview.steps.contains(&format!("{A}: restore eni-0a [{ISOLATION}] -> [sg-0a]")), "{preview}");
    let report = program.restore(&incident, &ALL, &|_| ()).await.unwrap();
    assert!(!report.failed, "{report}");
    assert_eq!(world.cards(), fleet().cards());
}
