//! IAM: whom an instance acts as.

use std::future::Future;

use crate::ports::Call;

/// A role that an instance may act as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRole {
    /// Without path, as IAM's calls and CloudFormation take it.
    pub name: String,
    /// AWS's own, as a service-linked role is: IAM refuses every change of it.
    pub is_protected: bool,
}

/// IAM.
pub trait Identities: Send + Sync {
    /// The roles in the instance profile of this name: at most one today. `None` if there is no such profile.
    fn roles(&self, profile: &str) -> impl Future<Output = Call<Option<Vec<ProfileRole>>>> + Send;
    /// The role of this name. `None` if there is none.
    fn role(&self, name: &str) -> impl Future<Output = Call<Option<ProfileRole>>> + Send;
}
