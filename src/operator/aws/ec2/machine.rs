//! What only the capture of memory reads of an instance.

use aws_sdk_ec2::types::{HibernationOptions, Instance, PlatformValues, Reservation};

use crate::aws::ec2::{Ec2, NO_INSTANCE};
use crate::aws::error::call_error;
use crate::model::InstanceId;
use crate::operator::ports::machines::{Machine, Machines};
use crate::ports::Call;

impl Machines for Ec2 {
    async fn machine(&self, instance: &InstanceId) -> Call<Option<Machine>> {
        // An account may hide what another service of AWS manages (EC2 API reference).
        let request = self.client.describe_instances().include_managed_resources(true).instance_ids(instance.as_str());
        match request.send().await.map_err(|error| call_error("ec2:DescribeInstances", &error)) {
            Ok(output) => Ok(output.reservations().iter().flat_map(Reservation::instances).next().map(read)),
            Err(error) if error.code == NO_INSTANCE => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read(instance: &Instance) -> Machine {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let state = instance.state().and_then(|state| state.name());
    Machine {
        state: state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        architecture: instance.architecture().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        platform: text(instance.platform_details()).unwrap_or_default(),
        is_windows: instance.platform() == Some(&PlatformValues::Windows),
        key_name: text(instance.key_name()),
        private_address: text(instance.private_ip_address()).or_else(|| text(instance.ipv6_address())),
        public_address: text(instance.public_ip_address()),
        can_hibernate: instance.hibernation_options().and_then(HibernationOptions::configured).unwrap_or_default(),
    }
}
