//! What the groups of ours have to be before anybody is put into them.

use super::*;
use crate::plan::testing::rule;

const SWAP: &str = "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 [sg-a] -> [sg-150]";
const PASS: &str = "i-1: record eni-1 [sg-a]\ni-1: isolate eni-1 by way of sg-7a5 for 5 s -> [sg-150]";

#[test]
fn a_missing_isolation_group_is_doubted_first() {
    let world = open().without_group("sg-150");
    check(&world, "? sg-150 is not shown");
    check_later(
        &world,
        &bare(),
        "! isolation group sg-150 does not exist: put the stack right (it makes this group)\n? sg-150 is not shown",
    );
}

#[test]
fn a_group_that_holds_an_interface_is_there() {
    let world = World::new().transit_group("sg-7a5").without_group("sg-150");
    let world = world.instance("i-1", &[("eni-1", &["sg-a"]), ("eni-2", &["sg-150", "sg-b"])]);
    let swaps = "i-1: record eni-1 [sg-a] eni-2 [sg-b]\n\
                 i-1: isolate eni-1 [sg-a] -> [sg-150]\n\
                 i-1: isolate eni-2 [sg-150, sg-b] -> [sg-150]";
    // Nobody passes: whether it isolates is not known.
    check_cut(&world, &format!("{swaps}\n? sg-150 is not shown"));
}

#[test]
fn an_isolation_group_of_another_vpc_means_no_change_at_all() {
    let elsewhere =
        |vpc: Option<&str>| open().change_group("sg-150", |group| group.vpc = vpc.map(|vpc| vpc.parse().unwrap()));
    let named =
        |vpc: &str| format!("! isolation group sg-150 is in {vpc}, not in vpc-1: nothing was changed; correct VpcId");
    check(&elsewhere(Some("vpc-2")), &named("vpc-2"));
    check(&elsewhere(None), &named("no VPC"));
}

#[test]
fn an_isolation_group_that_is_too_wide_is_named_and_isolated_in_directly() {
    let wide = |world: World| world.change_group("sg-150", |group| group.egress = vec![rule("-1", None, "0.0.0.0/0")]);
    let named = "! isolation group sg-150 allows out all protocols 0.0.0.0/0: instances in it are not isolated; remove that rule\n\
                 ? sg-150 shows other rules";
    check_cut(&wide(open().transit_group("sg-7a5")), &format!("{SWAP}\n{named}"));
    check(&wide(open()), &format!("{SWAP}\n{named}"));
    check_later(&wide(open()), &bare(), &format!("{SWAP}\n{named}"));
    check_cut(&open().transit_group("sg-7a5"), PASS);
    // What the request allows is not too wide.
    let entrance = open().change_group("sg-150", |group| group.ingress = vec![rule("tcp", Some((22, 22)), "sg-f")]);
    check_for(&entrance, &Wants { forensic_group: Some("sg-f".parse().unwrap()), ..bare() }, SWAP);
    let named = "! isolation group sg-150 allows in tcp 22 sg-f: instances in it are not isolated; remove that rule\n\
                 ? sg-150 shows other rules";
    let other = Wants { forensic_group: Some("sg-f".parse().unwrap()), forensic_ports: [3389].into(), ..bare() };
    check_for(&entrance, &other, &format!("{SWAP}\n{named}"));
    check(&entrance, &format!("{SWAP}\n{named}"));
}

#[test]
fn nobody_is_isolated_by_a_group_that_lets_more_through_than_it_may() {
    let inside = |vpc: &str, egress: &[crate::model::Rule]| {
        recorded(State::Isolated, &["sg-150"]).change_group("sg-150", |group| {
            (group.vpc, group.egress) = (Some(vpc.parse().unwrap()), egress.to_vec());
        })
    };
    // Nothing is done in a group of another VPC. What is said of who is in it holds there, too.
    for vpc in ["vpc-1", "vpc-2"] {
        check_standing(&inside(vpc, &[]), &bare(), "eni-1", "");
        check_standing(&inside(vpc, &[rule("-1", None, "0.0.0.0/0")]), &bare(), "", "eni-1");
    }
}

#[test]
fn whom_the_isolation_group_lets_in_is_looked_up_after_the_first_look() {
    let wants = Wants { forensic_group: Some("sg-f".parse().unwrap()), ..bare() };
    let entrances = ["sg-e", "sg-f"].map(|peer| rule("tcp", Some((22, 22)), peer));
    let world = open().change_group("sg-150", |group| group.ingress = entrances.into());
    let read = |reach| world.needs(&Goal::Isolate(&wants), reach).groups;
    assert_eq!((read(Reach::First), read(Reach::Light)), (Groups::new(), crate::plan::testing::groups(&["sg-e"])));
}

#[test]
fn nobody_enters_a_transit_group_that_is_not_what_it_should_be() {
    let world = || open().transit_group("sg-7a5");
    let named = |reason: &str| {
        format!(
            "{SWAP}\n! established connections are not cut: transit group sg-7a5 {reason}; put its rules right\n\
             ? sg-7a5 shows other rules"
        )
    };
    check_cut(
        &world().change_group("sg-7a5", |group| _ = group.egress.pop()),
        &named("does not allow all traffic out ::/0"),
    );
    check_cut(
        &world().change_group("sg-7a5", |group| group.vpc = Some("vpc-2".parse().unwrap())),
        &named("is not in vpc-1"),
    );
    check_cut(&world().without_group("sg-7a5"), &named("does not exist"));
    let later = world().without_group("sg-7a5");
    check_later(&later, &cutting(), &named("does not exist"));
    let unnamed = Wants { transit_group: None, ..cutting() };
    check_for(
        &world(),
        &unnamed,
        &format!("{SWAP}\n! established connections were not cut: TransitSecurityGroupId is empty"),
    );
    // If it is not asked for, it is not looked at.
    check_for(&later, &Wants { cut_connections: false, ..cutting() }, SWAP);
}
