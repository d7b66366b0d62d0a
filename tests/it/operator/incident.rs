//! How the program finds an incident, and what it says of it.

use ec2_isolation::operator::{Address, Status};

use super::{by_table, kept, operator, reads};
use crate::world::{ISOLATION, TABLE, TRANSIT, groups};

#[tokio::test(start_paused = true)]
async fn an_interface_left_in_the_transit_group_is_named_first_with_the_command_that_isolates_it() {
    let world = kept().await;
    world.data().put_back(&"eni-0a".parse().unwrap(), groups(&[TRANSIT]));
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let status = Status::of(&incident, &program.site, &program.shell);
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
