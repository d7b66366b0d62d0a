//! What only the capture of memory asks of EC2: the machine itself, and where it is reached.

use std::future::Future;

use crate::model::InstanceId;
use crate::ports::Call;

/// What EC2 shows of the machine that an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// EC2's own word, as in `running`.
    pub state: String,
    /// EC2's own word: `x86_64`, `arm64`, `i386`; empty if it says none.
    pub architecture: String,
    /// EC2's own words, as in `Linux/UNIX` or `Windows with SQL Server Standard`.
    pub platform: String,
    pub is_windows: bool,
    /// The key pair that it was launched with.
    pub key_name: Option<String>,
    /// Of its first interface, in its VPC.
    pub private_address: Option<String>,
    pub public_address: Option<String>,
    /// Hibernation was turned on at its launch; later it cannot be.
    pub can_hibernate: bool,
}

/// EC2, for who has to log in.
pub trait Machines: Send + Sync {
    /// `None` if EC2 does not show the instance.
    fn machine(&self, instance: &InstanceId) -> impl Future<Output = Call<Option<Machine>>> + Send;
}
