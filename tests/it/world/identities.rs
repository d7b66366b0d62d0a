//! IAM of the world: instance profiles and their roles, and the policy by which a stack denies credentials.

use std::collections::{BTreeMap, BTreeSet};

use ec2_isolation::operator::ports::{Identities, ProfileRole};
use ec2_isolation::operator::stack::{StackResource, StackView};
use ec2_isolation::ports::Call;

use super::{Data, World};

#[derive(Debug, Default)]
pub struct Iam {
    /// The roles of instance profiles, by the profiles' names.
    pub profiles: BTreeMap<String, Vec<ProfileRole>>,
    /// Roles that have as many policies as their quota allows.
    pub full: BTreeSet<String>,
}

impl Iam {
    fn role(&self, name: &str) -> Option<&ProfileRole> {
        self.profiles.values().flatten().find(|role| role.name == name)
    }

    /// Why IAM attaches no policy to this role (local-aws/iam_rules.py has the sources).
    fn refusal(&self, name: &str) -> Option<String> {
        match self.role(name) {
            None => Some(format!("The role with name {name} cannot be found.")),
            Some(role) if role.is_protected => Some(format!(
                "Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
            )),
            Some(_) if self.full.contains(name) => Some("Cannot exceed quota for PoliciesPerRole: 10".to_owned()),
            Some(_) => None,
        }
    }
}

/// A role that is nobody's but the account's.
pub fn role(name: &str) -> ProfileRole {
    ProfileRole { name: name.to_owned(), is_protected: false }
}

impl World {
    /// An instance profile with these roles.
    pub fn make_profile(&self, profile: &str, roles: &[ProfileRole]) {
        self.data().iam.profiles.insert(profile.to_owned(), roles.to_vec());
    }
}

impl Identities for World {
    async fn roles(&self, profile: &str) -> Call<Option<Vec<ProfileRole>>> {
        let action = "iam:GetInstanceProfile";
        self.call(action, profile.to_owned(), |data| Ok(data.iam.profiles.get(profile).cloned())).await
    }

    async fn role(&self, name: &str) -> Call<Option<ProfileRole>> {
        self.call("iam:GetRole", name.to_owned(), |data| Ok(data.iam.role(name).cloned())).await
    }
}

impl Data {
    /// Makes or changes the policy of a stack that names roles; `verb` is `CREATE` or `UPDATE`.
    pub(super) fn provision_policy(&self, view: &mut StackView, verb: &str) {
        let roles = view.parameters.get("RevokeRoles").cloned().unwrap_or_default();
        if roles.is_empty() {
            return;
        }
        let refusal = roles.split(',').find_map(|role| self.iam.refusal(role));
        let status = format!("{verb}_{}", if refusal.is_some() { "FAILED" } else { "COMPLETE" });
        view.resources.retain(|resource| resource.logical_id != "InstanceCredentialsPolicy");
        view.resources.push(StackResource {
            logical_id: "InstanceCredentialsPolicy".to_owned(),
            physical_id: format!("arn:aws:iam::123456789012:policy/{}", view.name),
            kind: "AWS::IAM::ManagedPolicy".to_owned(),
            status: status.clone(),
            reason: refusal.unwrap_or_default(),
        });
        view.status.status = status;
    }
}
