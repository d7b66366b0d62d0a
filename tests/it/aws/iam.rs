//! Which role an instance profile holds, on the wire.

use ec2_isolation::operator::ports::{Identities as _, ProfileRole};
use ec2_isolation::ports::Fault;

use super::{iam, wire};

fn role(path: &str, name: &str) -> String {
    format!(
        "<Path>{path}</Path><RoleName>{name}</RoleName><RoleId>AROA1</RoleId><Arn>arn:aws:iam::1:role{path}{name}</Arn>\
         <CreateDate>2026-11-25T03:00:00Z</CreateDate>"
    )
}

fn profile(roles: &str) -> String {
    format!(
        "<GetInstanceProfileResponse><GetInstanceProfileResult><InstanceProfile><Path>/p/</Path>\
         <InstanceProfileName>front</InstanceProfileName><InstanceProfileId>AIPA1</InstanceProfileId>\
         <Arn>arn:aws:iam::1:instance-profile/p/front</Arn><CreateDate>2026-11-25T03:00:00Z</CreateDate>\
         <Roles>{roles}</Roles></InstanceProfile></GetInstanceProfileResult></GetInstanceProfileResponse>"
    )
}

fn refused(code: &str) -> String {
    format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>")
}

#[tokio::test]
async fn a_profile_has_the_names_of_its_roles_without_their_paths() {
    let roles = format!("<member>{}</member>", role("/team/", "web"));
    let (http, seen) = wire(&[(200, &profile(&roles))]);
    let found = iam(http).roles("front").await.unwrap().unwrap();
    assert_eq!(found, [ProfileRole { name: "web".to_owned(), is_protected: false }]);
    let body = seen.lock().unwrap()[0].clone();
    assert!(body.contains("Action=GetInstanceProfile") && body.contains("InstanceProfileName=front"), "{body}");
    let (http, _) = wire(&[(200, &profile(""))]);
    assert_eq!(iam(http).roles("front").await.unwrap(), Some(vec![]));
}

#[tokio::test]
async fn a_role_that_aws_keeps_for_itself_is_known_by_its_path() {
    for (path, is_protected) in
        [("/", false), ("/aws-service-role/ecs.amazonaws.com/", true), ("/aws-reserved/sso.amazonaws.com/", true)]
    {
        let answer = format!(
            "<GetRoleResponse><GetRoleResult><Role>{}</Role></GetRoleResult></GetRoleResponse>",
            role(path, "x")
        );
        let (http, _) = wire(&[(200, &answer)]);
        let found = iam(http).role("x").await.unwrap().unwrap();
        assert_eq!(found, ProfileRole { name: "x".to_owned(), is_protected }, "{path}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_no_error_and_what_may_not_be_read_is() {
    let (http, _) = wire(&[(404, &refused("NoSuchEntity"))]);
    assert_eq!(iam(http.clone()).roles("front").await.unwrap(), None);
    assert_eq!(iam(http).role("web").await.unwrap(), None);
    let (http, _) = wire(&[(403, &refused("AccessDenied"))]);
    let error = iam(http).roles("front").await.unwrap_err();
    assert_eq!((error.action, error.fault), ("iam:GetInstanceProfile", Fault::Denied));
}
