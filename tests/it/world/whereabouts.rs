//! Where interfaces are: attached to an instance of the world, to none, or on their way from one to another.

use std::collections::BTreeMap;

use ec2_isolation::model::{Interface, InterfaceId};

use super::{Data, World, groups};

pub(super) fn interface(id: &str, ids: &[&str], vpc: &str, instance: Option<&str>) -> Interface {
    Interface {
        id: id.parse().unwrap(),
        groups: groups(ids),
        tags: BTreeMap::new(),
        is_trunk: false,
        vpc: Some(vpc.parse().unwrap()),
        instance: instance.map(|instance| instance.parse().unwrap()),
    }
}

impl Data {
    /// Every interface, wherever it is.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.instances.values().flat_map(|instance| &instance.interfaces).chain(&self.loose)
    }

    pub(super) fn interface_mut(&mut self, id: &InterfaceId) -> Option<&mut Interface> {
        let attached = self.instances.values_mut().flat_map(|instance| &mut instance.interfaces);
        attached.chain(&mut self.loose).find(|interface| interface.id == *id)
    }

    fn take(&mut self, id: &str) -> Option<Interface> {
        let attached = self.instances.values_mut().map(|instance| &mut instance.interfaces);
        let mut places = attached.chain([&mut self.loose]);
        places.find_map(|place| {
            let at = place.iter().position(|interface| interface.id.as_str() == id)?;
            Some(place.remove(at))
        })
    }

    pub fn detach(&mut self, interface: &str) {
        if let Some(found) = self.take(interface) {
            self.loose.push(Interface { instance: None, ..found });
        }
    }

    /// To an instance of the world or to one that it does not know.
    pub fn move_to(&mut self, interface: &str, instance: &str) {
        let Some(found) = self.take(interface) else { return };
        let instance = instance.parse().unwrap();
        let found = Interface { instance: Some(instance), ..found };
        match found.instance.as_ref().and_then(|instance| self.instances.get_mut(instance)) {
            Some(instance) => instance.interfaces.push(found),
            None => self.loose.push(found),
        }
    }

    pub fn delete_interface(&mut self, interface: &str) {
        self.take(interface);
    }

    /// Its interfaces and volumes go with it, as they do by default; EC2 shows it a while longer.
    pub fn terminate(&mut self, instance: &str) {
        if let Some(found) = self.instances.get_mut(&instance.parse().unwrap()) {
            found.state = "terminated".to_owned();
            found.vpc = None;
            found.interfaces.clear();
            found.volumes.clear();
        }
    }
}

impl World {
    /// Attaches one more interface, unless it is there.
    pub fn attach(&self, instance: &str, interface: &str, ids: &[&str]) {
        let vpc = self.data().instances.get(&instance.parse().unwrap()).and_then(|instance| instance.vpc.clone());
        if let Some(vpc) = vpc {
            self.attach_in(instance, vpc.as_str(), interface, ids);
        }
    }

    /// The same with one of another VPC.
    pub fn attach_in(&self, instance: &str, vpc: &str, interface: &str, ids: &[&str]) {
        let new = self::interface(interface, ids, vpc, Some(instance));
        let mut data = self.data();
        let Some(instance) = data.instances.get_mut(&instance.parse().unwrap()) else { return };
        if !instance.interfaces.iter().any(|interface| interface.id == new.id) {
            data.originals.insert(new.id.clone(), new.groups.clone());
            data.instances.get_mut(new.instance.as_ref().unwrap()).unwrap().interfaces.push(new);
        }
    }

    pub fn detach(&self, interface: &str) {
        self.data().detach(interface);
    }

    pub fn move_to(&self, interface: &str, instance: &str) {
        self.data().move_to(interface, instance);
    }
}
