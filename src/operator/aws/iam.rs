//! IAM's adapter: which role an instance profile holds. The only file that names its SDK.

use aws_sdk_iam::Client;
use aws_sdk_iam::types::Role;

use crate::aws::error::sent;
use crate::operator::ports::{Identities, ProfileRole};
use crate::ports::Call;

/// Where AWS keeps its own: service-linked roles (IAM user guide), and those of Identity Center (rebuy-de/aws-nuke#441).
const PROTECTED: [&str; 2] = ["/aws-service-role/", "/aws-reserved/"];

#[derive(Debug, Clone)]
pub struct Iam(pub Client);

impl Identities for Iam {
    async fn roles(&self, profile: &str) -> Call<Option<Vec<ProfileRole>>> {
        let request = self.0.get_instance_profile().instance_profile_name(profile);
        let found = known(sent("iam:GetInstanceProfile", request.send()).await)?;
        Ok(found.map(|found| found.instance_profile().iter().flat_map(|profile| profile.roles()).map(read).collect()))
    }

    async fn role(&self, name: &str) -> Call<Option<ProfileRole>> {
        let found = known(sent("iam:GetRole", self.0.get_role().role_name(name).send()).await)?;
        Ok(found.and_then(|found| found.role().map(read)))
    }
}

fn known<T>(result: Call<T>) -> Call<Option<T>> {
    match result {
        Err(error) if error.code == "NoSuchEntity" => Ok(None),
        other => other.map(Some),
    }
}

fn read(role: &Role) -> ProfileRole {
    let is_protected = PROTECTED.iter().any(|path| role.path().starts_with(path));
    ProfileRole { name: role.role_name().to_owned(), is_protected }
}
