//! What only the capture of memory asks of EC2.

use ec2_isolation::model::InstanceId;
use ec2_isolation::operator::ports::machines::{Machine, Machines};
use ec2_isolation::ports::Call;

use super::World;

/// An ordinary one, launched with a key pair.
pub fn machine() -> Machine {
    Machine {
        state: "running".to_owned(),
        architecture: "x86_64".to_owned(),
        platform: "Linux/UNIX".to_owned(),
        is_windows: false,
        key_name: Some("web".to_owned()),
        private_address: Some("10.0.1.5".to_owned()),
        public_address: None,
        can_hibernate: false,
    }
}

impl Machines for World {
    async fn machine(&self, instance: &InstanceId) -> Call<Option<Machine>> {
        self.call("ec2:DescribeInstances", instance.to_string(), |data| {
            let known = data.machines.get(instance).cloned();
            let plain = data.instances.get(instance).map(|found| Machine { state: found.state.clone(), ..machine() });
            Ok(known.or(plain))
        })
        .await
    }
}
