//! What `isolate` makes of what an alert names, and that it never takes an instance off a list, whoever else is at work.

use ec2_isolation::model::{Peer, Rule};
use ec2_isolation::operator::stack::{FUNCTION_EXPORT, RECORDS_EXPORT};
use ec2_isolation::operator::{Options, Target};

use super::operator;
use crate::isolate::tags::{OTHER_STACK, other_incident};
use crate::world::operator::{RESPONDER, view};
use crate::world::{STACK, VPC, World};
use crate::{A, B, D, event, fleet, move_by_hand, succeeds};

/// A and B free, beside a responder.
pub fn prepared() -> World {
    let world = fleet();
    let table = "responder-SecurityGroupTable-1";
    world.data().exports.insert(FUNCTION_EXPORT.to_owned(), "the function".to_owned());
    world.data().exports.insert(RECORDS_EXPORT.to_owned(), table.to_owned());
    world.data().tables.entry(table.to_owned()).or_default();
    world
}

pub fn targets(texts: &[&str]) -> Vec<Target> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The stacks that are asked, each with what is asked of it, as a person is shown it.
async fn orders(world: &World, names: &[&str], stack: Option<&str>) -> Result<Vec<String>, String> {
    let options = Options { stack: stack.map(str::to_owned), ..Options::default() };
    let orders = operator(world).orders(&targets(names), &options).await;
    let orders = orders.map_err(|error| error.to_string().trim_start_matches("nothing was changed: ").to_owned())?;
    Ok(orders.iter().map(|order| order.to_string().trim_end().replace('\n', "|")).collect())
}

pub fn incident(name: &str, status: &str, list: &str) -> ec2_isolation::operator::stack::StackView {
    let id = format!("arn:aws:cloudformation:us-east-1:123456789012:stack/{name}/1");
    let mut stack = view(&id, status, &[]);
    stack.function_outlives = true;
    stack.resources.retain(|resource| resource.logical_id == "Isolation");
    stack.parameters = [("CompromisedInstanceList", list), ("VpcId", VPC), ("HoldSeconds", "7")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    stack
}

#[tokio::test(start_paused = true)]
async fn instances_of_one_vpc_go_to_one_stack_whose_name_everybody_finds() {
    let world = prepared();
    let one =
        format!("stack incident-{VPC} in {VPC}: to be made|  {A}  running, 1 interface|  {B}  running, 1 interface");
    assert_eq!(orders(&world, &[B, A, B], None).await, Ok(vec![one]));
    world.add("i-0c", "vpc-2", &[("eni-0e", &["sg-0b"])]);
    let stacks = |orders: Vec<String>| {
        orders.iter().map(|order| order.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let both = orders(&world, &[A, "i-0c"], None).await.map(stacks);
    assert_eq!(both, Ok(vec![format!("incident-{VPC}"), "incident-vpc-2".to_owned()]));
    let named = orders(&world, &[A, "i-0c"], Some("case-7")).await.map(stacks);
    assert_eq!(named, Ok(vec![format!("case-7-{VPC}"), "case-7-vpc-2".to_owned()]));
    assert_eq!(orders(&world, &[A], Some("case-7")).await.map(stacks), Ok(vec!["case-7".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_there_keeps_its_list_and_says_what_else_it_isolates() {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", B));
    let orders = orders(&world, &[A], None).await.unwrap();
    assert!(
        orders[0].contains("CREATE_COMPLETE,")
            && orders[0].contains(&format!("isolates them again if they are open:|  {B}")),
        "{orders:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_takes_no_update_is_passed_over_or_refused_by_its_name() {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "ROLLBACK_FAILED", ""));
    assert!(
        orders(&world, &[A], None).await.unwrap()[0]
            .starts_with(&format!("stack incident-{VPC}-2 in {VPC}: to be made"))
    );
    let refused = orders(&world, &[A], Some(&format!("incident-{VPC}"))).await;
    assert_eq!(
        refused,
        Err(format!("stack incident-{VPC} is ROLLBACK_FAILED and takes no update: give another --stack"))
    );
    let mut elsewhere = incident("elsewhere", "CREATE_COMPLETE", "");
    elsewhere.parameters.insert("VpcId".to_owned(), "vpc-2".to_owned());
    world.data().views.push(elsewhere);
    let refused = orders(&world, &[A], Some("elsewhere")).await;
    assert_eq!(refused, Err(format!("stack elsewhere is for vpc-2, not for {VPC}: give another --stack")));
    world.data().views.push(view(
        "arn:aws:cloudformation:us-east-1:123456789012:stack/website/1",
        "CREATE_COMPLETE",
        &[],
    ));
    let refused = orders(&world, &[A], Some("website")).await;
    assert_eq!(refused, Err("stack website is no incident: give another --stack".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_goes_to_the_stack_that_holds_it() {
    let world = prepared();
    succeeds(&world, event("create")).await;
    let mut holder = incident("x", "CREATE_COMPLETE", A);
    (holder.id, holder.name) = (STACK.to_owned(), STACK.split('/').nth(1).unwrap().to_owned());
    let name = holder.name.clone();
    world.data().views.push(holder);
    assert!(
        orders(&world, &[A], None).await.unwrap()[0]
            .starts_with(&format!("stack {name} in {VPC}: CREATE_COMPLETE, to"))
    );
    let refused = orders(&world, &[A], Some("another")).await;
    assert_eq!(
        refused,
        Err(format!(
            "{A} is held by {STACK}, not by stack another: leave --stack out, or take them over with ec2-isolation adopt"
        ))
    );
    world.data().views[0].status.status = "ROLLBACK_FAILED".to_owned();
    let refused = orders(&world, &[A], None).await.unwrap_err();
    let held = format!(
        "{A} is held by stack {name}, which is ROLLBACK_FAILED and takes no update: ec2-isolation status --stack {name} shows"
    );
    assert!(refused.starts_with(&held), "{refused}");
    world.data().views.clear();
    let refused = orders(&world, &[A], None).await.unwrap_err();
    assert!(refused.ends_with(&format!("with ec2-isolation adopt --from {STACK}")), "{refused}");
}

/// By the rule of the function: all groups of every interface isolate, or there is a record.
#[tokio::test(start_paused = true)]
async fn a_group_of_another_incident_beside_an_open_one_holds_nothing() {
    let made = Ok(vec![format!("stack incident-{VPC} in {VPC}: to be made|  {A}  running, 1 interface")]);
    let world = prepared();
    let other = other_incident(&world);
    move_by_hand(&world, "eni-0a", &["sg-0a", other]);
    assert_eq!(orders(&world, &[A], None).await, made);
    // One of its interfaces is open.
    move_by_hand(&world, "eni-0d1", &[other]);
    assert!(orders(&world, &[D], None).await.unwrap()[0].contains("to be made"));
    move_by_hand(&world, "eni-0a", &[other]);
    let held = orders(&world, &[A], None).await.unwrap_err();
    assert!(held.starts_with(&format!("{A} is held by {OTHER_STACK}, which is gone: ")), "{held}");
    // It isolates nothing.
    let anywhere = Rule { protocol: "-1".into(), ports: None, peer: Peer::Cidr("0.0.0.0/0".into()) };
    world.data().groups.get_mut(&other.parse().unwrap()).unwrap().egress.push(anywhere);
    assert_eq!(orders(&world, &[A], None).await, made);
}

#[tokio::test(start_paused = true)]
async fn an_instance_with_an_interface_in_the_stacks_vpc_goes_to_that_stack() {
    let world = prepared();
    world.add("i-0f", "vpc-0f", &[("eni-0f1", &["sg-0f1"])]);
    world.attach_in("i-0f", VPC, "eni-0f2", &["sg-0a"]);
    let stack = incident("x", "CREATE_COMPLETE", "i-0f");
    let id = stack.id.clone();
    world.data().views.push(stack);
    let first = |orders: Result<Vec<String>, String>| {
        let orders = orders.unwrap();
        assert_eq!(orders.len(), 1, "{orders:?}");
        orders[0].split(':').next().unwrap().to_owned()
    };
    let expected = format!("stack x in {VPC}");
    assert_eq!(first(orders(&world, &["i-0f"], Some("x")).await), expected);
    assert_eq!(first(orders(&world, &[A, "i-0f"], Some("x")).await), expected);
    // It holds it.
    let mut create = crate::listing(&["i-0f"], event("create"));
    create["StackId"] = serde_json::json!(id);
    crate::fails(&world, create).await;
    {
        let mut data = world.data();
        let records = std::mem::take(&mut data.records);
        data.tables.get_mut("responder-SecurityGroupTable-1").unwrap().records = records;
    }
    for stack in [None, Some("x")] {
        assert_eq!(first(orders(&world, &["i-0f"], stack).await), expected);
    }
    assert_eq!(first(orders(&world, &[A, "i-0f"], Some("x")).await), expected);
    // Where nothing of it is there, its own VPC counts.
    world.detach("eni-0f2");
    let refused = orders(&world, &["i-0f"], Some("x")).await.unwrap_err();
    assert_eq!(refused, format!("stack x is for {VPC}, not for vpc-0f: give another --stack"));
}

#[tokio::test(start_paused = true)]
async fn an_address_stands_for_the_one_instance_that_has_it() {
    let world = prepared();
    let at = |address: &str, interfaces: &[&str]| {
        let interfaces = interfaces.iter().map(|id| id.parse().unwrap()).collect();
        world.data().addresses.insert(address.parse().unwrap(), interfaces);
    };
    at("203.0.113.9", &["eni-0a"]);
    assert!(orders(&world, &["203.0.113.9"], None).await.unwrap()[0].contains(A));
    at("10.0.0.5", &["eni-0a", "eni-0b"]);
    assert_eq!(
        orders(&world, &["10.0.0.5"], None).await,
        Err(format!("10.0.0.5 is the address of several instances, in different VPCs: {A}, {B}. Say which by its id"))
    );
    world.detach("eni-0b");
    at("10.0.0.6", &["eni-0b"]);
    let unattached = orders(&world, &["10.0.0.6"], None).await.unwrap_err();
    assert!(unattached.starts_with("10.0.0.6 belongs to eni-0b, which is attached to no instance"), "{unattached}");
    let nothing = orders(&world, &["10.0.0.7"], None).await.unwrap_err();
    assert!(
        nothing.starts_with("nothing in account 123456789012, region us-east-1 has the address 10.0.0.7"),
        "{nothing}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_named_before_anything_is_made() {
    let world = prepared();
    let missing = orders(&world, &[A, "i-0dead"], None).await.unwrap_err();
    assert!(missing.starts_with("there is no instance i-0dead in account 123456789012, region us-east-1"), "{missing}");
    let elsewhere = orders(&world, &["arn:aws:ec2:eu-west-1:123456789012:instance/i-0a"], None).await.unwrap_err();
    assert!(elsewhere.contains("is in account 123456789012, region eu-west-1, but you are"), "{elsewhere}");
    world.data().terminate(A);
    assert_eq!(orders(&world, &[A], None).await, Err(format!("already terminated: {A}. Leave them out")));
    world.data().exports.clear();
    let bare = orders(&world, &[B], None).await.unwrap_err();
    assert!(bare.starts_with("there is no responder in account 123456789012, region us-east-1"), "{bare}");
    assert!(world.data().views.is_empty());
}

/// Its exports have the contract in their names: one of another contract is none.
#[tokio::test(start_paused = true)]
async fn a_responder_that_is_missing_or_of_another_contract_is_prepared_first() {
    let expected = "there is no responder in account 123456789012, region us-east-1. Prepare it (a minute; in the project's folder: \
        make responder), or give --template-url with the address of the packaged one-shot template (make package)";
    for other in [None, Some("v0"), Some("v2")] {
        let world = prepared();
        world.data().exports.clear();
        if let Some(contract) = other {
            for name in [FUNCTION_EXPORT, RECORDS_EXPORT] {
                let name = name.replace("-v1-", &format!("-{contract}-"));
                world.data().exports.insert(name, "of another contract".to_owned());
            }
        }
        assert_eq!(orders(&world, &[A], None).await, Err(expected.to_owned()), "{other:?}");
        let calls = world.data().calls.clone();
        assert!(calls.iter().all(|(action, _)| super::reads(action)), "{other:?}: {calls:?}");
    }
}

/// SAM drops what follows a blank (aws/aws-sam-cli#2018): here it is refused, and nothing is left out unseen.
#[test]
fn a_target_with_a_blank_in_it_is_refused_by_its_name() {
    for wrong in [format!("{A} {B}"), format!(" {A}"), format!("{A} "), format!("{A}\t{B}"), "10.0.0.5 10.0.0.6".into()]
    {
        let error = wrong.parse::<Target>().unwrap_err().to_string();
        let expected =
            format!("{wrong:?} is no instance id (i-0123456789abcdef0), no ARN of an instance, and no IP address");
        assert_eq!(error, expected);
    }
}

/// However two responders' calls interleave, the stack lists what both of them asked for.
#[tokio::test(start_paused = true)]
async fn whoever_changes_the_list_meanwhile_nobody_is_taken_off_it() {
    let (name, other) = (format!("incident-{VPC}"), "i-0feed");
    let mut met = 0;
    for n in 1..=12 {
        for is_there in [false, true] {
            let world = prepared();
            if is_there {
                world.data().views.push(incident(&name, "CREATE_COMPLETE", B));
            }
            let program = operator(&world);
            let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
            let now = world.data().calls.len();
            let colleagues = incident(&name, "UPDATE_COMPLETE", &format!("{B},{other}"));
            world.before_call(n, move |data| {
                data.views.clear();
                data.views.push(colleagues);
            });
            program.isolate(&orders[0], &|_| ()).await.unwrap();
            let data = world.data();
            let list = &data.views[0].parameters["CompromisedInstanceList"];
            let has = |id: &str| list.split(',').any(|listed| listed == id);
            // A change after ours is the colleague's own, who has seen our list.
            let is_before_ours = data.calls[now..now + n - 1]
                .iter()
                .all(|(action, _)| !["cloudformation:CreateStack", "cloudformation:ExecuteChangeSet"].contains(action));
            if is_before_ours && data.calls.len() >= now + n {
                met += 1;
                assert!(has(A) && has(B) && has(other), "call {n}, there {is_there}: {list}");
            }
            assert!(data.prepared.is_empty(), "call {n}: a change set is left");
        }
    }
    assert_eq!(met, 6, "before each call up to the one that changes the stack");
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_every_other_parameter_and_says_who_asks() {
    let world = prepared();
    let mut stack = incident(&format!("incident-{VPC}"), "UPDATE_FAILED", B);
    stack.parameters.insert("DryRun".to_owned(), "true".to_owned());
    world.data().views.push(stack);
    let program = operator(&world);
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    program.isolate(&orders[0], &|_| ()).await.unwrap();
    let parameters = world.data().views[0].parameters.clone();
    assert_eq!((parameters["HoldSeconds"].as_str(), parameters["DryRun"].as_str()), ("7", "false"));
    assert_eq!(parameters["CompromisedInstanceList"], format!("{A},{B}"));
    assert!(parameters["Rerun"].contains(" by arn:aws:iam::123456789012:user/x with ec2-isolation"), "{parameters:?}");
}

#[tokio::test(start_paused = true)]
async fn the_alarms_of_a_new_incident_go_where_the_responders_go_unless_told_otherwise() {
    const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:ec2-isolation";
    const OWN: &str = "arn:aws:sns:us-east-1:123456789012:mine";
    let made = async |given: Option<&str>, existing: bool| {
        let world = prepared();
        let mut responder = view(RESPONDER, "CREATE_COMPLETE", &[]);
        responder.outputs.insert("NotifyTopicArn".to_owned(), TOPIC.to_owned());
        world.data().views.push(responder);
        if existing {
            world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", B));
        }
        let parameters = given.map(|topic| ("NotifyTopicArn".to_owned(), topic.to_owned())).into_iter().collect();
        let program = operator(&world);
        let orders = program.orders(&targets(&[A]), &Options { parameters, ..Options::default() }).await.unwrap();
        program.isolate(&orders[0], &|_| ()).await.unwrap();
        world.data().views.last().unwrap().parameters.get("NotifyTopicArn").cloned()
    };
    assert_eq!(made(None, false).await.as_deref(), Some(TOPIC));
    assert_eq!(made(Some(OWN), false).await.as_deref(), Some(OWN));
    // Its template may not know the parameter.
    assert_eq!(made(None, true).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_list_longer_than_a_parameter_is_refused() {
    let world = prepared();
    let list: Vec<String> = (0..204).map(|n| format!("i-{n:017x}")).collect();
    list.iter().for_each(|id| world.add(id, VPC, &[]));
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", &list.join(",")));
    let refused = orders(&world, &[A], None).await.unwrap_err();
    assert!(refused.contains("would list 205 instances, and takes 204"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_plans_with_the_groups_that_the_stack_would_make_and_changes_nothing() {
    let world = prepared();
    let program = operator(&world);
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    let calls = world.data().calls.len();
    let report = program.rehearse(&orders[0]).await.unwrap();
    assert!(!report.failed, "{report:?}");
    assert!(report.headline.starts_with("dry run, nothing was changed: 0 of 1 instance isolated now; "), "{report:?}");
    let passage = format!("{A}: isolate eni-0a by way of sg-00000000000000001 for 5 s -> [sg-00000000000000000]");
    assert!(report.details.contains(&passage), "{report:?}");
    assert!(world.data().calls[calls..].iter().all(|(action, _)| super::reads(action)));
    // As the stack's own options say.
    let options = Options {
        parameters: [("CutEstablishedConnections".to_owned(), "false".to_owned())].into(),
        ..Options::default()
    };
    let orders = program.orders(&targets(&[A]), &options).await.unwrap();
    let report = program.rehearse(&orders[0]).await.unwrap();
    assert!(report.details.contains(&format!("{A}: isolate eni-0a [sg-0a] -> [sg-00000000000000000]")), "{report:?}");
}

/// A reading that shows nothing is no containment.
#[tokio::test(start_paused = true)]
async fn no_time_of_containment_is_claimed_of_what_ec2_does_not_show() {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", A));
    let program = operator(&world);
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    world.hide(A, std::time::Duration::from_secs(3600));
    let shown = std::sync::Mutex::new(vec![]);
    let isolated = program
        .isolate(&orders[0], &|progress| shown.lock().unwrap().push((progress.done, progress.total)))
        .await
        .unwrap();
    assert_eq!(isolated.contained_after_ms, None);
    assert!(shown.lock().unwrap().iter().all(|shown| *shown == (0, 1)), "{shown:?}");
}

/// DESIGN 5.3: nothing of such a stack would be isolated.
#[tokio::test(start_paused = true)]
async fn where_a_guardrail_refuses_the_transit_group_it_isolates_without_and_says_so() {
    let made = async |given: &[(&str, &str)]| {
        let world = fleet();
        world.with_responder();
        world.data().drill.refuses_open_groups = true;
        let program = operator(&world);
        let parameters = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { parameters, ..Options::default() };
        let orders = program.orders(&targets(&[A]), &options).await.unwrap();
        let isolated = program.isolate(&orders[0], &|_| ()).await.unwrap();
        let cut = world.data().views.last().unwrap().parameters.get("CutEstablishedConnections").cloned();
        (isolated, cut)
    };
    let (isolated, cut) = made(&[]).await;
    assert_eq!((isolated.failed, isolated.status.is_anything_open(), cut.as_deref()), (false, false, Some("false")));
    let said = format!(
        "TransitSecurityGroup was refused: The following hook(s) failed: [Guardrail::NoOpenGroups]. So stack incident-{VPC} was changed to \
         CutEstablishedConnections=false: established connections are not cut"
    );
    assert_eq!(isolated.not_cut, Some(said.clone()));
    let text = isolated.to_string().replace("\n  ", " ");
    assert!(text.contains(&format!("! {said}.")), "{text}");
    // A person who asked for it decides.
    let (isolated, cut) = made(&[("CutEstablishedConnections", "true")]).await;
    assert_eq!((isolated.failed, isolated.not_cut, cut.as_deref()), (true, None, Some("true")));
}

/// CloudFormation checks the ids of a list, those of before as well.
#[tokio::test(start_paused = true)]
async fn a_stack_that_lists_an_instance_which_is_gone_is_passed_over_or_refused_with_the_reason() {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", &format!("{B},i-0dead")));
    let shown = orders(&world, &[A], None).await.unwrap();
    assert!(shown[0].starts_with(&format!("stack incident-{VPC}-2 in {VPC}: to be made")), "{shown:?}");
    let refused = orders(&world, &[A], Some(&format!("incident-{VPC}"))).await;
    let why = "lists i-0dead, which EC2 no longer shows, so that CloudFormation refuses every update";
    assert_eq!(refused, Err(format!("stack incident-{VPC} {why}: give another --stack")));
    // One reading that leaves B out is not believed.
    world.data().views[0].parameters.insert("CompromisedInstanceList".to_owned(), B.to_owned());
    world.hide(B, std::time::Duration::from_secs(4));
    let shown = orders(&world, &[A], None).await.unwrap();
    assert!(shown[0].starts_with(&format!("stack incident-{VPC} in {VPC}: CREATE_COMPLETE")), "{shown:?}");
    // What was asked for, and what the stack lists: nothing is read twice.
    let before = world.count("ec2:DescribeInstances");
    orders(&world, &[A], None).await.unwrap();
    assert_eq!(world.count("ec2:DescribeInstances") - before, 2);
}

#[tokio::test(start_paused = true)]
async fn parameters_that_isolate_sets_are_refused_and_every_other_one_is_shown() {
    let world = prepared();
    let program = operator(&world);
    let asked = async |name: &str, value: &str| {
        let parameters = [(name.to_owned(), value.to_owned())].into();
        let orders = program.orders(&targets(&[A]), &Options { parameters, ..Options::default() }).await;
        orders.map(|orders| orders[0].to_string()).map_err(|refused| refused.to_string())
    };
    for (name, instead) in
        [("DryRun", ": give --dry-run"), ("Rerun", ""), ("VpcId", ""), ("CompromisedInstanceList", "")]
    {
        let refused = asked(name, "true").await.unwrap_err();
        assert_eq!(refused, format!("nothing was changed: isolate sets parameter {name} by itself{instead}"));
    }
    let shown = asked("ForensicHost", "false").await.unwrap();
    assert!(shown.ends_with("\n  with ForensicHost=false\n"), "{shown}");
    // Nor does the command that asks once more leave anything out.
    let options = Options {
        template_url: Some("https://b.s3.amazonaws.com/template.yaml".to_owned()),
        parameters: [("PurposeTag".to_owned(), "case 7".to_owned())].into(),
        ..Options::default()
    };
    let orders = program.orders(&targets(&[A]), &options).await.unwrap();
    assert_eq!(
        orders[0].again_by_hand(),
        format!(
            "isolate --stack incident-{VPC} {A} --template-url https://b.s3.amazonaws.com/template.yaml --parameter 'PurposeTag=case 7'"
        )
    );
}

/// Ctrl-C ends the watching only, once there is something to watch.
#[tokio::test(start_paused = true)]
async fn what_waits_for_another_request_has_not_begun() {
    let world = prepared();
    let name = format!("incident-{VPC}");
    world.data().views.push(incident(&name, "UPDATE_IN_PROGRESS", B));
    let program = operator(&world);
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    let waiting = tokio::time::timeout(std::time::Duration::from_secs(30), program.isolate(&orders[0], &|_| ())).await;
    assert!(waiting.is_err() && !orders[0].has_begun());
    assert_eq!(orders[0].again_by_hand(), format!("isolate --stack {name} {A}"));
    world.data().views[0].status.status = "UPDATE_COMPLETE".to_owned();
    program.isolate(&orders[0], &|_| ()).await.unwrap();
    assert!(orders[0].has_begun());
}

/// The responder's role for incidents can make neither function nor table: CloudFormation would fail at once, and nothing be isolated.
#[tokio::test(start_paused = true)]
async fn the_responders_role_makes_what_is_beside_it_and_no_one_shot_stack() {
    const ROLE: &str = "arn:aws:iam::123456789012:role/incidents";
    for (template_url, role) in
        [(None, Some(ROLE)), (Some("https://b.s3.amazonaws.com/template.yaml".to_owned()), None)]
    {
        let world = prepared();
        let mut responder = view(RESPONDER, "CREATE_COMPLETE", &[]);
        responder.outputs.insert("IncidentRoleArn".to_owned(), ROLE.to_owned());
        world.data().views.push(responder);
        let program = operator(&world);
        let options = Options { template_url, ..Options::default() };
        let orders = program.orders(&targets(&[A]), &options).await.unwrap();
        program.isolate(&orders[0], &|_| ()).await.unwrap();
        assert_eq!(world.data().service_roles.get(&format!("incident-{VPC}")).map(String::as_str), role);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_was_made_otherwise_is_protected_from_deletion_as_well() {
    let world = prepared();
    world.data().views.push(incident(&format!("incident-{VPC}"), "CREATE_COMPLETE", B));
    let program = operator(&world);
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    // Without the right to do that the isolation stands.
    let denied = crate::world::Trouble::Fails(ec2_isolation::model::Fault::Denied);
    world.data().troubles_of.insert("cloudformation:UpdateTerminationProtection", (0, denied));
    assert!(!program.isolate(&orders[0], &|_| ()).await.unwrap().failed);
    assert!(!world.data().views[0].is_protected);
    world.data().troubles_of.clear();
    let orders = program.orders(&targets(&[A]), &Options::default()).await.unwrap();
    program.isolate(&orders[0], &|_| ()).await.unwrap();
    assert!(world.data().views[0].is_protected);
}
