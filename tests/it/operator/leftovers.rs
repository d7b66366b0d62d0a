//! What is left of incidents that are over, and that nothing of an open one is ever named for deletion.

use ec2_isolation::model::{Fault, Lock, Snapshot};
use ec2_isolation::operator::stack::{RECORDS_EXPORT, StackResource};
use ec2_isolation::operator::{Address, Kind, Leftovers};

use super::{by_table, kept, operator, restore};
use crate::world::operator::view;
use crate::world::{ISOLATION, STACK, TABLE, World, groups};
use crate::{A, event, fleet, succeeds, with_everything};

/// A and B, isolated and restored by a stack that is gone; A is terminated, its volume was kept. A forensic host was there, too.
async fn over() -> World {
    let world = fleet();
    succeeds(&world, with_everything(event("create"))).await;
    restore(&world).await;
    let mut data = world.data();
    let kept = data.instances[&A.parse().unwrap()].volumes.keys().next().unwrap().clone();
    data.terminate(A);
    data.loose_volumes.extend([kept, "vol-0f0e".parse().unwrap()]);
    let tags = [("ec2-isolation:role", "forensic-host"), ("Name", "incident-2026-11-25-host forensic host")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    data.tags.insert("vol-0f0e".to_owned(), tags);
    let log = StackResource {
        logical_id: "IsolationLogGroup".to_owned(),
        physical_id: "incident-2026-11-25-IsolationLogGroup-1".to_owned(),
        kind: "AWS::Logs::LogGroup".to_owned(),
        status: "DELETE_SKIPPED".to_owned(),
        reason: String::new(),
    };
    data.left_behind.insert(STACK.to_owned(), vec![log]);
    drop(data);
    world
}

async fn all(world: &World) -> Leftovers {
    operator(world).leftovers(None).await.unwrap()
}

async fn of(world: &World, address: &Address) -> Leftovers {
    let program = operator(world);
    let incident = program.incident(address).await.unwrap();
    program.leftovers(Some(&incident)).await.unwrap()
}

fn ids(leftovers: &Leftovers, kind: Kind) -> Vec<&str> {
    leftovers.left.iter().filter(|left| left.kind == kind).map(|left| left.id.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_an_incident_that_is_over_has_left_is_named_with_what_deletes_it() {
    let world = over().await;
    let text = all(&world).await.to_string();
    let expected = include_str!("leftovers.txt");
    let none = World::new();
    none.data().groups.clear();
    none.data().exports.insert(RECORDS_EXPORT.to_owned(), TABLE.to_owned());
    super::shown::check("leftovers-none", &all(&none).await.to_string());
    super::shown::fits("leftovers", &text);
    if text != expected {
        std::fs::create_dir_all("target/tmp").unwrap();
        std::fs::write("target/tmp/leftovers.txt", &text).unwrap();
    }
    assert_eq!(text, expected, "the new text is in target/tmp/leftovers.txt");
    let page = std::fs::read_to_string("docs/reference/records.md").unwrap();
    for price in ["snapshots | 0.05 USD per GB and month", "8 USD for 100 GB and month"] {
        assert!(page.contains(price), "the page says something else than {price}");
    }
    let found = of(&world, &by_table()).await;
    assert_eq!(found.to_string(), expected, "one incident is all there is");
    assert_eq!((found.volumes_gib, found.snapshots_gib), (16, 16));
    let changes = |(action, _): &(&str, String)| !super::reads(action) && !action.contains("LookupEvents");
    let before = world.data().calls.len();
    all(&world).await;
    assert!(!world.data().calls[before..].iter().any(changes), "it deletes nothing");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_incident_that_is_open_is_named() {
    // Held without a stack; and over, but its stack is there.
    let (held, mut working) = (kept().await, over().await);
    working.data().views.push(view(STACK, "CREATE_COMPLETE", &[]));
    working.data().loose_volumes.remove(&"vol-0f0e".parse().unwrap());
    for world in [&held, &mut working] {
        world.data().loose_volumes.insert("vol-0b2c3d4e5f6071829".parse().unwrap());
        let found = all(world).await;
        assert_eq!(found.left, vec![], "{found}");
        assert_eq!(found.said, ["Not over, so nothing of it is listed: incident-2026-11-25"]);
        assert!(found.to_string().starts_with("Nothing is left over in account 123456789012, region us-east-1.\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_responders_table_and_one_that_cannot_be_read_whole_stay() {
    let world = over().await;
    assert_eq!(ids(&all(&world).await, Kind::Table), [TABLE]);
    world.data().exports.insert(RECORDS_EXPORT.to_owned(), TABLE.to_owned());
    assert_eq!(ids(&all(&world).await, Kind::Table), Vec::<&str>::new());
    let world = over().await;
    world.data().unreadable.insert("i-0bad".to_owned(), "attribute Owner is missing".to_owned());
    assert_eq!(ids(&all(&world).await, Kind::Table), Vec::<&str>::new());
}

/// Whoever may write tags may want a backup deleted.
#[tokio::test(start_paused = true)]
async fn what_only_tags_say_is_ours_is_looked_at_first() {
    let world = over().await;
    {
        let mut data = world.data();
        let (id, volume) = ("snap-0bac".parse().unwrap(), "vol-0bac".parse().unwrap());
        data.snapshots.push(Snapshot { id, volume, episode: "x".to_owned(), failed: false, labelled: true });
        let tags = [("ec2-isolation:episode", "x"), ("ec2-isolation:stack", STACK)];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        data.tags.insert("snap-0bac".to_owned(), tags);
        let tags = [("ec2-isolation:restore", "x"), ("ec2-isolation:stack", STACK)];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        data.tags.insert("vol-0bad".to_owned(), tags);
        data.loose_volumes.insert("vol-0bad".parse().unwrap());
        let locked = data.snapshots[0].id.clone();
        data.locks.insert(locked, Lock { mode: "compliance".to_owned(), days: Some(365), until: None });
    }
    let found = all(&world).await;
    let left = |id: &str| found.left.iter().find(|left| left.id == id).unwrap();
    let forged = left("snap-0bac");
    assert_eq!(forged.why, "of vol-0bac, in no record that is left: only its tags say that it is ours");
    assert!(forged.commands[0].starts_with("aws ec2 describe-snapshots --snapshot-ids snap-0bac "), "{forged:?}");
    let forged = left("vol-0bad");
    assert_eq!(forged.why, "of an isolated instance, in no record that is left: only its tags say that it is ours");
    assert!(forged.commands[0].starts_with("aws ec2 describe-volumes --volume-ids vol-0bad "), "{forged:?}");
    let locked = left("snap-10");
    assert_eq!(locked.commands, Vec::<String>::new());
    assert!(
        locked
            .why
            .ends_with("locked (compliance for 365 days after completion): it cannot be deleted before that ends"),
        "{locked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_still_used_is_named_and_not_deleted() {
    let world = over().await;
    world.data().put_back(&"eni-0e".parse().unwrap(), groups(&[ISOLATION, "sg-0d"]));
    let found = all(&world).await;
    let group = found.left.iter().find(|left| left.id == ISOLATION).unwrap();
    assert_eq!(group.why, "isolation group of a stack that is gone, still used by eni-0e");
    assert_eq!(group.commands, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_said_and_the_rest_is_named() {
    for (action, what, kind) in [
        ("ec2:DescribeVolumes", "What is left of volumes is not known: ec2:DescribeVolumes failed", Kind::Volume),
        (
            "ec2:DescribeSnapshots",
            "What is left of snapshots is not known: ec2:DescribeSnapshots failed",
            Kind::Snapshot,
        ),
        (
            "cloudformation:DescribeStackEvents",
            "What is left of log groups is not known: cloudformation:DescribeStackEvents failed",
            Kind::LogGroup,
        ),
    ] {
        let world = over().await;
        world.data().always = Some((action, Fault::Denied));
        let found = all(&world).await;
        assert!(found.is_incomplete && found.said[0].starts_with(what), "{:?}", found.said);
        assert_eq!(ids(&found, kind), Vec::<&str>::new());
        assert_eq!(ids(&found, Kind::Table), [TABLE]);
    }
}

/// Only of its own incident, and of that incident's host.
#[tokio::test(start_paused = true)]
async fn the_volume_of_another_incidents_host_is_not_named() {
    let world = over().await;
    for name in ["incident-2026-11-2 forensic host", "incident-2026-11-255 forensic host", "incident-2026-11-25"] {
        world.data().tags.get_mut("vol-0f0e").unwrap().insert("Name".to_owned(), name.to_owned());
        let found = of(&world, &by_table()).await;
        assert!(!ids(&found, Kind::Volume).contains(&"vol-0f0e"), "{name}");
        assert!(ids(&all(&world).await, Kind::Volume).contains(&"vol-0f0e"), "{name}");
    }
}

/// It changed hands with its record: the stack in its tags is gone, and the incident that holds it is not over.
#[tokio::test(start_paused = true)]
async fn a_volume_that_a_held_record_names_is_not_named_whatever_its_tags_say() {
    let world = fleet();
    succeeds(&world, with_everything(event("create"))).await;
    let kept = world.data().instances[&A.parse().unwrap()].volumes.keys().next().unwrap().clone();
    {
        let mut data = world.data();
        data.terminate(A);
        data.loose_volumes.insert(kept.clone());
        let gone = STACK.replace("6f9a1d20", "00000000");
        data.tags.get_mut(kept.as_str()).unwrap().insert("ec2-isolation:stack".to_owned(), gone);
    }
    assert_eq!(ids(&all(&world).await, Kind::Volume), Vec::<&str>::new());
    // Once that one is over, it is.
    restore(&world).await;
    assert_eq!(ids(&all(&world).await, Kind::Volume), [kept.as_str()]);
}

/// Its stack is gone, and its record says that it was restored: what EC2 shows counts.
#[tokio::test(start_paused = true)]
async fn an_incident_in_whose_group_an_interface_is_left_is_not_over() {
    let world = over().await;
    world.data().put_back(&"eni-0b".parse().unwrap(), groups(&[ISOLATION]));
    for found in [all(&world).await, of(&world, &by_table()).await] {
        let of_hosts = |left: &ec2_isolation::operator::Left| left.why.contains("forensic host");
        assert!(found.left.iter().all(of_hosts), "{found}");
        assert_eq!(found.said, ["Not over, so nothing of it is listed: incident-2026-11-25"]);
    }
}

/// A volume may have been recorded by an incident that is over, and again by one that is open.
#[tokio::test(start_paused = true)]
async fn a_volume_that_an_open_incident_has_recorded_too_is_not_named() {
    let world = over().await;
    let table = "second-SecurityGroupTable-2";
    {
        let mut data = world.data();
        let mut record = ec2_isolation::model::Record::clone(&data.records[&A.parse().unwrap()]);
        record.owner.stack_id = STACK.replace("incident-2026-11-25", "second");
        record.state = ec2_isolation::model::State::Isolated;
        data.tables.entry(table.to_owned()).or_default().records.insert(record.instance.clone(), record);
    }
    let volume = format!("vol-{}", A.trim_start_matches("i-"));
    let found = all(&world).await;
    assert!(!ids(&found, Kind::Volume).contains(&volume.as_str()), "{found}");
}
