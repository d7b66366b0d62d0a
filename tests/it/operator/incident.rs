//! How the program finds an incident, and what it says of it.

use ec2_isolation::operator::{Address, Trouble};

use ec2_isolation::operator::stack::RECORDS_EXPORT;

use super::{ALL, by_table, kept, operator, reads};
use crate::world::operator::view;
use crate::world::{ISOLATION, STACK, TABLE, TRANSIT, groups};
use crate::{A, B, fleet, isolated};

#[tokio::test(start_paused = true)]
async fn an_interface_left_in_the_transit_group_is_named_first_with_the_command_that_isolates_it() {
    let world = kept().await;
    world.data().put_back(&"eni-0a".parse().unwrap(), groups(&[TRANSIT]));
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let status = program.status(&incident).await;
    assert!(status.next[0].what.contains("WHICH IS OPEN TO EVERYBODY"), "{:?}", status.next);
    assert_eq!(
        status.next[0].commands,
        [format!(
            "aws ec2 modify-network-interface-attribute --network-interface-id eni-0a --groups {ISOLATION} --region us-east-1"
        )]
    );
    assert_eq!(status.instances[0].interfaces[0].condition, "in transit");
}

#[tokio::test(start_paused = true)]
async fn records_of_another_region_are_refused_before_anything_is_changed() {
    let world = kept().await;
    let mut program = operator(&world);
    program.site.region = "eu-west-1".to_owned();
    let calls = world.data().calls.len();
    let refused = program.incident(&by_table()).await.unwrap_err();
    assert!(refused.to_string().contains("is in account 123456789012, region us-east-1, but you are"), "{refused}");
    assert!(world.data().calls[calls..].iter().all(|(action, _)| reads(action)));
}

/// The responder's table holds every incident: each is shown its own, and none is restored with another.
#[tokio::test(start_paused = true)]
async fn incidents_that_share_a_table_are_told_apart() {
    let world = kept().await;
    let other = "arn:aws:cloudformation:us-east-1:123456789012:stack/other/2";
    world.data().records.get_mut(&B.parse().unwrap()).unwrap().owner.stack_id = other.to_owned();
    world.data().exports.insert(RECORDS_EXPORT.to_owned(), "responder-table".to_owned());
    let data = std::mem::take(&mut world.data().records);
    world.data().tables.entry("responder-table".to_owned()).or_default().records = data;
    let program = operator(&world);
    let held = async |address: &Address| {
        let incident = program.incident(address).await.unwrap();
        incident.held().map(|record| record.instance.to_string()).collect::<Vec<_>>()
    };
    let stack = |name: &str| Address::Stack(name.to_owned());
    // Both are gone; then one of them is there.
    assert_eq!(held(&stack(STACK)).await, [A]);
    assert_eq!(held(&stack("other")).await, [B]);
    let mut beside = view(other, "CREATE_COMPLETE", &[]);
    beside.resources.retain(|resource| resource.logical_id == "Isolation");
    beside.function_outlives = true;
    world.data().views.push(beside);
    assert_eq!(held(&stack("other")).await, [B]);
    let refused = program.incident(&stack("typo")).await.unwrap_err().to_string();
    assert!(refused.starts_with("nothing was changed: there is no stack typo with a records table"), "{refused}");

    let whole = Address::Table("responder-table".to_owned());
    let whole = program.incident(&whole).await.unwrap();
    let refused = program.restore(&whole, &ALL, &|_| ()).await.unwrap_err().to_string();
    let expected = format!(
        "nothing was changed: table responder-table holds several incidents, say which by the ARN of its stack: {STACK}, {other}"
    );
    assert_eq!(refused, expected);
    // A name may have been another stack's before.
    let namesake = "arn:aws:cloudformation:us-east-1:123456789012:stack/other/1";
    let rename = |from: &str, to: &str| {
        let mut data = world.data();
        let table = data.tables.get_mut("responder-table").unwrap();
        let record = table.records.values_mut().find(|record| record.owner.stack_id == from).unwrap();
        record.owner.stack_id = to.to_owned();
    };
    rename(STACK, namesake);
    let view = world.data().views.pop().unwrap();
    let both = program.incident(&stack("other")).await.unwrap();
    let refused = program.restore(&both, &ALL, &|_| ()).await.unwrap_err().to_string();
    assert!(refused.ends_with(&format!("by the ARN of its stack: {namesake}, {other}")), "{refused}");
    assert_eq!((held(&stack(other)).await, held(&stack(namesake)).await), (vec![B.to_owned()], vec![A.to_owned()]));
    rename(namesake, STACK);
    world.data().views.push(view);

    let incident = program.incident(&stack("other")).await.unwrap();
    program.restore(&incident, &ALL, &|_| ()).await.unwrap();
    assert_eq!(isolated(&world), ["eni-0a"]);
    // Nobody is told to delete what the other one needs.
    world.data().views.clear();
    world.data().groups.retain(|_, group| group.stack_id.as_deref() != Some(other));
    let incident = program.incident(&stack("other")).await.unwrap();
    let status = program.status(&incident).await;
    assert!(
        status.next[0].what.ends_with("stays, with the records of every other incident: do not delete it."),
        "{:?}",
        status.next
    );
}

#[tokio::test(start_paused = true)]
async fn the_table_of_a_stack_that_is_gone_is_found_by_its_name_and_several_are_listed() {
    let world = kept().await;
    let program = operator(&world);
    for address in ["incident", "arn:aws:cloudformation:us-east-1:123456789012:stack/incident/1"] {
        let incident = program.incident(&Address::Stack(address.to_owned())).await.unwrap();
        assert_eq!((incident.table.as_str(), incident.held().count()), (TABLE, 2), "{address}");
    }
    world.data().tables.insert("incident-SecurityGroupTable-9Z".to_owned(), Default::default());
    let refused = program.incident(&Address::Stack("incident".to_owned())).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "nothing was changed: several stacks of this name have left their records, say which with --table: \
             incident-SecurityGroupTable-9Z, {TABLE}"
        )
    );
}

/// The one-shot stack makes its own table: if it fails before that, nothing is isolated, and that is what is said.
#[tokio::test]
async fn a_stack_that_failed_before_it_had_a_table_has_isolated_nothing_and_is_open() {
    let world = fleet();
    let whole = "No export named ec2-isolation-v1-FunctionArn found. Rollback requested by user";
    for (status, reason, told, next) in [
        ("CREATE_FAILED", "", String::new(), "Remove the cause, delete the stack, then isolate again"),
        (
            "CREATE_FAILED",
            &format!("{whole}. "),
            format!("; {whole}"),
            "Prepare this account and Region first (make responder), delete the stack, then isolate again",
        ),
        (
            "CREATE_FAILED",
            "No export named network found. Rollback requested by user.",
            "; No export named network found. Rollback requested by user".to_owned(),
            "Remove the cause, delete the stack, then isolate again",
        ),
        ("CREATE_IN_PROGRESS", "User Initiated", String::new(), "It is at work: look again in a minute"),
    ] {
        let mut stack = view(STACK, status, &[]);
        stack.status.reason = reason.to_owned();
        stack.parameters.insert("CompromisedInstanceList".to_owned(), format!("{A},{B}"));
        world.data().views = vec![stack];
        let address = Address::Stack("incident-2026-11-25".to_owned());
        let trouble = operator(&world).incident(&address).await.unwrap_err();
        let said = format!(
            "stack incident-2026-11-25 is {status} and has no records table, so it has isolated none of {A}, {B}{told}. {next}"
        );
        assert_eq!(trouble, Trouble::Open(said));
    }
}
