//! The forensic host of the deployed stack: what replaces it and what does not, and what its ports and its group may be.

use aws_sdk_ec2::types::{InstanceStateName, IpPermission};
use serde_json::json;

use crate::fleet::aws;
use crate::rollbacks::changes_to_others;
use crate::{Scene, cloud};

impl Scene {
    pub async fn image_of_host(&self) -> (String, String) {
        let read = cloud().cloudformation().await.describe_stack_resource();
        let read = read.stack_name(&self.incident.name).logical_resource_id("ForensicInstance").send().await.unwrap();
        let id = read.stack_resource_detail().and_then(|host| host.physical_resource_id()).expect("an id").to_owned();
        let answer = self.ec2.describe_instances().instance_ids(&id).send().await.expect("the host is there");
        let image = answer.reservations()[0].instances()[0].image_id().expect("an image").to_owned();
        (id, image)
    }

    async fn ingress(&self) -> Vec<IpPermission> {
        let id = self.incident.physical_id("IsolatedSecurityGroup").await;
        let answer = self.ec2.describe_security_groups().group_ids(id).send().await.expect("the group is there");
        answer.security_groups()[0].ip_permissions().to_vec()
    }
}

/// `port group`, for each rule.
fn shown(rules: &[IpPermission]) -> Vec<String> {
    let pair = |rule: &IpPermission| rule.user_id_group_pairs()[0].group_id().unwrap_or_default().to_owned();
    let mut shown: Vec<_> = rules
        .iter()
        .map(|rule| {
            assert_eq!((rule.ip_protocol(), rule.from_port()), (Some("tcp"), rule.to_port()), "{rule:?}");
            assert!(rule.ip_ranges().is_empty() && rule.ipv6_ranges().is_empty(), "{rule:?}");
            format!("{} {}", rule.from_port().unwrap(), pair(rule))
        })
        .collect();
    shown.sort();
    shown
}

#[tokio::test]
async fn a_newer_ubuntu_image_and_another_instance_leave_the_forensic_host_alone() {
    let mut scene = Scene::new("host-kept").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    scene.incident.list(&[&a]).deploy();
    let before = scene.image_of_host().await;
    let newer = cloud().put("ubuntu-image", &json!({})).await["id"].as_str().unwrap().to_owned();
    scene.incident.list(&[&a, &b]).deploy();
    scene.assert_isolated(&[&a, &b]).await;
    assert_eq!(scene.image_of_host().await, before);
    scene.incident.delete().await;

    // The image is the newer one for whoever starts now: the parameter had changed.
    let mut next = Scene::new("host-new").await;
    let c = next.site.plain(&next.ec2, &[0]).await;
    next.incident.list(&[&c]).deploy();
    assert_eq!(next.image_of_host().await.1, newer);
    next.incident.delete().await;
}

#[tokio::test]
async fn forensic_ports_are_opened_and_closed_in_place_and_verified() {
    let mut scene = Scene::new("ports").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.set("ForensicPorts", "22,3389").list(&[&a]).deploy();
    scene.assert_isolated(&[&a]).await;
    let forensic = scene.incident.physical_id("ForensicSecurityGroup").await;
    let host = scene.image_of_host().await;
    assert_eq!(shown(&scene.ingress().await), [format!("22 {forensic}"), format!("3389 {forensic}")]);
    // Nothing is replaced: CloudFormation would refuse that while rollback is disabled, and the new instance would stay open.
    let b = scene.site.plain(&scene.ec2, &[1]).await;
    scene.incident.set("ForensicPorts", "3389").list(&[&a, &b]).deploy();
    assert_eq!(shown(&scene.ingress().await), [format!("3389 {forensic}")]);
    scene.incident.set("ForensicPorts", "22").deploy();
    assert_eq!(shown(&scene.ingress().await), [format!("22 {forensic}")]);
    assert_eq!(scene.image_of_host().await, host);
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.delete().await;
}

/// While rollback is disabled CloudFormation replaces nothing. What would be replaced comes after the isolation, and the way on
/// releases nobody.
#[tokio::test]
async fn a_host_is_not_replaced_while_rollback_is_disabled_and_new_instances_are_isolated_all_the_same() {
    let mut scene = Scene::new("host-replaced").await;
    let (a, b) = (scene.site.plain(&scene.ec2, &[0]).await, scene.site.plain(&scene.ec2, &[1]).await);
    scene.incident.list(&[&a]).deploy();
    let host = scene.image_of_host().await;
    let other = cloud().put("ubuntu-image", &json!({})).await["id"].as_str().unwrap().to_owned();
    let (succeeded, _) = scene.incident.set("ForensicAmiId", other.clone()).list(&[&a, &b]).try_deploy();
    assert!(!succeeded);
    let reasons = scene.incident.reasons("ForensicInstance").await;
    assert_eq!(reasons, ["Replacement type updates not supported on stack with disable-rollback."]);
    scene.assert_isolated(&[&a, &b]).await;
    assert_eq!(scene.image_of_host().await, host);

    scene.incident.options = vec!["--no-disable-rollback"];
    let (succeeded, output) = scene.incident.try_deploy();
    assert!(!succeeded && output.contains("non-terminal [UPDATE_FAILED] state"), "{output}");
    let stack = scene.incident.stack_id().await;
    cloud().cloudformation().await.rollback_stack().stack_name(&stack).send().await.unwrap();
    let on_the_way = ["UPDATE_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"];
    assert_eq!(scene.incident.ends_in(&stack, &on_the_way).await, "UPDATE_ROLLBACK_COMPLETE");
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.deploy();
    let (id, image) = scene.image_of_host().await;
    assert!(id != host.0 && image == other, "{id} {image}");
    scene.assert_isolated(&[&a, &b]).await;
    scene.incident.delete().await;
}

/// EC2 refuses the launch template: the host comes after the isolation.
#[tokio::test]
async fn an_image_parameter_that_ec2_refuses_does_not_hold_up_the_isolation() {
    let mut scene = Scene::new("host-image").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    let template = r#"{"Resources": {"Image": {"Type": "AWS::SSM::Parameter", "Properties":
        {"Name": "/of/the/test/image", "Type": "String", "Value": "ami-0123456789abcdef0"}}}}"#;
    let cloudformation = cloud().cloudformation().await;
    let made = cloudformation.create_stack().stack_name("host-image-parameter").template_body(template).send().await;
    scene.incident.ends_in(made.unwrap().stack_id().unwrap(), &["CREATE_IN_PROGRESS"]).await;
    let (succeeded, _) = scene.incident.set("UbuntuAmi", "/of/the/test/image").list(&[&a]).try_deploy();
    assert!(!succeeded);
    let reasons = scene.incident.reasons("ForensicLaunchTemplate").await;
    assert!(
        reasons[0].contains("Unsupported data type. The following parameter data types are supported"),
        "{reasons:?}"
    );
    scene.assert_isolated(&[&a]).await;
    scene.incident.unset("UbuntuAmi");
    scene
        .incident
        .set("UbuntuAmi", "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id");
    scene.incident.deploy();
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

#[tokio::test]
async fn a_forensic_group_elsewhere_is_let_in_and_no_host_is_created() {
    let mut scene = Scene::new("host-elsewhere").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let own = scene.site.groups[3].clone();
    scene.incident.set("ForensicSecurityGroupId", own.clone()).list(&[&a]).deploy();
    scene.assert_isolated(&[&a]).await;
    assert_eq!(shown(&scene.ingress().await), [format!("22 {own}")]);
    let outputs = scene.incident.outputs().await;
    assert_eq!((outputs.get("ForensicHostSsh"), outputs.get("ForensicHostState")), (None, None));
    assert_eq!(outputs["ForensicSecurityGroupId"], own);
    scene.incident.delete().await;
}

#[tokio::test]
async fn cloudformation_refuses_what_is_no_group_no_port_and_no_checksum() {
    let mut scene = Scene::new("host-forms").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    scene.incident.list(&[&a]);
    for (parameter, values, text) in [
        (
            "ForensicSecurityGroupId",
            vec!["sg-xyz", "sg-0123456789abcdef0/111111111111", "1111/sg-01234567", "web"],
            "must be empty, a group id such as sg-0123456789abcdef0, or account/group such as",
        ),
        (
            "ForensicPorts",
            vec!["ssh", "0", "65536", "22-23", "22,", "22,80,443,3389"],
            "must be one to three port numbers from 1 to 65535 with commas and no blanks, such as 22,3389.",
        ),
        ("CastSha256", vec!["abc"], "must be empty, or 64 digits from 0 to 9 and a to f."),
        ("ForensicAmiId", vec!["ami-1"], "must be empty or an image id such as ami-0123456789abcdef0."),
    ] {
        for value in values {
            let (succeeded, output) = scene.incident.set(parameter, value).try_deploy();
            assert!(!succeeded, "{parameter}={value}");
            assert!(output.contains(parameter) && output.contains(text), "{parameter}={value}: {output}");
        }
        scene.incident.unset(parameter);
    }
}

/// Beside a responder it is in a stack of its own, with rollback: each of these makes another host, and the isolation is not touched.
#[tokio::test]
async fn what_replaces_the_host_of_a_prepared_incident_never_touches_the_isolation() {
    let mut scene = Scene::prepared("host-apart").await;
    let a = scene.site.launch(&scene.ec2, &[&[0, 1], &[2]], 1).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    assert_eq!(scene.incident.host(&scene.site, "host-apart", "22").await, "CREATE_COMPLETE");
    let (isolated, since) = (scene.cards(&[&a]).await, cloud().now().await);

    scene.ec2.create_key_pair().key_name("host-apart-other").send().await.unwrap();
    let range = scene.ec2.describe_vpcs().vpc_ids(&scene.site.vpc).send().await.unwrap();
    let range = range.vpcs()[0].cidr_block().unwrap().replace(".0.0/16", ".200.0/24");
    let subnet = scene.ec2.create_subnet().vpc_id(&scene.site.vpc).cidr_block(range).send().await.unwrap();
    let subnet = subnet.subnet.unwrap().subnet_id.unwrap();
    let image = cloud().put("ubuntu-image", &json!({})).await["id"].as_str().unwrap().to_owned();
    let parameter = json!({"Name": "/host-apart/image", "Type": "String", "DataType": "aws:ec2:image", "Value": image});
    aws(&cloud().credentials(), "ssm", "put_parameter", &parameter).expect("it is put");
    let of = async |scene: &Scene| {
        let id = scene.incident.host_instance().await;
        let answer = scene.ec2.describe_instances().instance_ids(&id).send().await.expect("the host is there");
        answer.reservations()[0].instances()[0].clone()
    };
    let mut given: Vec<(&'static str, &str)> = vec![];
    let mut host = of(&scene).await;
    for (parameter, value, is_replaced) in [
        ("CompanyIp", "203.0.113.8", false),
        ("ForensicPorts", "22,3389", false),
        ("UbuntuAmi", "/host-apart/image", true),
        ("Ec2KeyName", "host-apart-other", true),
        ("ForensicSubnetId", &subnet, true),
        ("ForensicAmiId", &image, true),
    ] {
        given.push((parameter, value));
        let status = scene.incident.host_with(&scene.site, "host-apart", &given, None).await;
        let events = scene.incident.events("host-apart-host").await;
        assert_eq!(status, "UPDATE_COMPLETE", "{parameter}: {events:#?}");
        let now = of(&scene).await;
        assert_eq!(now.instance_id() != host.instance_id(), is_replaced, "{parameter}");
        if is_replaced {
            let old = host.instance_id().unwrap();
            let old = scene.ec2.describe_instances().instance_ids(old).send().await.unwrap();
            let state = old.reservations()[0].instances()[0].state().and_then(|state| state.name()).cloned();
            assert_eq!(state, Some(InstanceStateName::Terminated), "{parameter}");
        }
        assert_eq!(scene.cards(&[&a]).await, isolated, "{parameter}");
        host = now;
    }
    assert_eq!((host.image_id(), host.key_name()), (Some(image.as_str()), Some("host-apart-other")));
    assert_eq!(host.subnet_id(), Some(subnet.as_str()));

    // A host that cannot start leaves the one that is there, by the stack's own rollback.
    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    given.push(("Ec2KeyName", "host-apart"));
    let status = scene.incident.host_with(&scene.site, "host-apart", &given, None).await;
    cloud().set("launch-failure", &json!({"error_code": null})).await;
    assert_eq!(status, "UPDATE_ROLLBACK_COMPLETE");
    assert_eq!(of(&scene).await.instance_id(), host.instance_id());
    assert_eq!(scene.cards(&[&a]).await, isolated);
    assert_eq!(changes_to_others(since, &[]).await, [""; 0], "no interface was touched");
    // The function takes the host for what it is, whichever it is by now.
    scene.incident.set("Rerun", "1");
    assert_eq!(scene.incident.update().await, "UPDATE_COMPLETE", "{}", scene.happened().await);
    scene.assert_isolated(&[&a]).await;
    assert_eq!(scene.incident.outputs().await["NotIsolated"], "");

    assert_eq!(scene.incident.delete_host().await, "DELETE_COMPLETE");
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}

/// A host that cannot start takes back all that came with it, its way into the isolation group too; one whose group is in use stays
/// until it is not. The incident notices neither.
#[tokio::test]
async fn a_host_that_cannot_start_and_one_that_cannot_go_leave_the_isolation_alone() {
    let mut scene = Scene::prepared("host-lives").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let before = scene.cards(&[&a]).await;
    scene.incident.list(&[&a]);
    assert_eq!(scene.incident.create(false).await, "CREATE_COMPLETE", "{}", scene.happened().await);
    let (isolated, since) = (scene.cards(&[&a]).await, cloud().now().await);

    cloud().set("launch-failure", &json!({"error_code": "InsufficientInstanceCapacity"})).await;
    let status = scene.incident.host(&scene.site, "host-lives", "22").await;
    cloud().set("launch-failure", &json!({"error_code": null})).await;
    let events = scene.incident.events("host-lives-host").await;
    assert_eq!(status, "ROLLBACK_COMPLETE", "{events:#?}");
    let is_told = |event: &String| event.starts_with("CREATE_FAILED") && event.contains("InsufficientInstanceCapacity");
    assert!(events.iter().any(is_told), "{events:#?}");
    assert_eq!(scene.ingress().await, [], "nobody is let in any more");
    // CloudFormation takes no update of it.
    assert_eq!(scene.incident.delete_host().await, "DELETE_COMPLETE");
    assert_eq!(scene.incident.host(&scene.site, "host-lives", "22").await, "CREATE_COMPLETE");
    let group = scene.incident.physical_id_in("host-lives-host", "ForensicSecurityGroup").await;

    let card = scene.ec2.create_network_interface().subnet_id(&scene.site.subnet).groups(&group).send().await.unwrap();
    let card = card.network_interface.unwrap().network_interface_id.unwrap();
    assert_eq!(scene.incident.delete_host().await, "DELETE_FAILED");
    let events = scene.incident.events("host-lives-host").await;
    let is_told = |event: &String| event.starts_with("DELETE_FAILED") && event.contains(" ForensicSecurityGroup ");
    assert!(events.iter().any(is_told), "{events:#?}");
    assert_eq!(scene.ingress().await, []);
    assert_eq!(scene.cards(&[&a]).await, isolated);
    scene.ec2.delete_network_interface().network_interface_id(&card).send().await.unwrap();
    assert_eq!(scene.incident.delete_host().await, "DELETE_COMPLETE");

    assert_eq!(changes_to_others(since, &[]).await, [""; 0], "no interface was touched");
    scene.incident.delete().await;
    assert_eq!(scene.cards(&[&a]).await, before);
}
