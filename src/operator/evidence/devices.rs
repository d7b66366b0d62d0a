//! The names under which EC2 attaches volumes. Pure.

use std::collections::BTreeSet;

use crate::model::VolumeId;

/// Names for EBS data volumes, in their order: those that EC2 recommends, then those that it takes as well (EC2 User Guide, "Device
/// names for volumes": `/dev/sd[f-p]`, `/dev/xvd[b-c][a-z]`). More than these 63 no instance type takes beside others.
fn names() -> impl Iterator<Item = String> {
    let more = ('b'..='c').flat_map(|first| ('a'..='z').map(move |second| format!("/dev/xvd{first}{second}")));
    ('f'..='p').map(|letter| format!("/dev/sd{letter}")).chain(more)
}

/// The first name that is free. `/dev/sdf` and `/dev/xvdf` are one name to the kernel of a Xen instance.
pub(super) fn free(taken: &BTreeSet<String>) -> Option<String> {
    let taken: BTreeSet<String> = taken.iter().map(|name| bare(name)).collect();
    names().find(|name| !taken.contains(&bare(name)))
}

/// `f` of `/dev/sdf`, `/dev/xvdf` and `xvdf`.
fn bare(name: &str) -> String {
    let name = name.trim_start_matches("/dev/");
    name.trim_start_matches("xvd").trim_start_matches("sd").trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
}

/// What the host's kernel calls a volume: on Nitro its own name is by no order, so udev's link by the volume's id.
pub(super) fn path(volume: &VolumeId, device: &str, is_nvme: bool) -> String {
    match is_nvme {
        true => format!("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}", volume.as_str().replace('-', "")),
        false => format!("/dev/xvd{}", bare(device)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_follow_each_other_and_none_is_given_twice() {
        let mut all = taken(&["/dev/sda1", "/dev/xvdf", "/dev/sdh"]);
        let mut given = Vec::new();
        while let Some(name) = free(&all) {
            given.push(name.clone());
            all.insert(name);
        }
        assert_eq!(given[..3], ["/dev/sdg", "/dev/sdi", "/dev/sdj"]);
        assert_eq!((given[9].as_str(), given.last().unwrap().as_str()), ("/dev/xvdba", "/dev/xvdcz"));
        assert_eq!(given.len(), 9 + 52);
    }

    #[test]
    fn a_volume_is_found_by_its_id_on_nitro_and_by_its_name_on_xen() {
        let volume = "vol-0123456789abcdef0".parse().unwrap();
        assert_eq!(
            path(&volume, "/dev/sdf", true),
            "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"
        );
        assert_eq!(path(&volume, "/dev/sdf", false), "/dev/xvdf");
        assert_eq!(path(&volume, "/dev/xvdba", false), "/dev/xvdba");
    }
}
