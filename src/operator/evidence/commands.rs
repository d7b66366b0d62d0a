//! What is run on the forensic host. Pure.

use super::attach::Disk;

/// Bash, to be pasted. It is in no template: each incident fills it in.
const MOUNT: &str = include_str!("../../../forensic-host/mount-evidence");
/// Where the volumes are mounted.
pub(super) const UNMOUNT: &str = "sudo umount /evidence/*/*/*";

/// Mounts what is attached, read-only; nothing if nothing is.
pub(super) fn mount(disks: &[Disk]) -> String {
    let lines =
        disks.iter().filter_map(|disk| Some(format!("{}/{}|{}", disk.instance, disk.of_volume, disk.path.as_ref()?)));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("sudo bash <<'EVIDENCE'\n{}EVIDENCE\n", MOUNT.replace("@disks@", &lines.join("\n")))
}
