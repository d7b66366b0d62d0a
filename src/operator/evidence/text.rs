//! What `evidence` prints.

use std::fmt;

use super::attach::{Attached, VolumeOrder, is_at};
use super::commands::UNMOUNT;
use super::manifest::Manifest;
use super::remove::{Removal, Removed};
use super::share::{ShareOrder, Shared};
use crate::operator::text::{count, wrapped};

impl fmt::Display for VolumeOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bench = &self.bench;
        let new = self.to_make();
        let gib: u64 = new.iter().map(|exhibit| exhibit.details.gib).sum();
        let what = match new.len() {
            0 => "No volume is to be made".to_owned(),
            number => format!(
                "{} to be made, {gib} GiB in all, gp3, which cost until they are taken away",
                count(number, "volume")
            ),
        };
        let place =
            format!("{what}. The forensic host is {} ({}, {}, {}).", bench.id, bench.kind, bench.zone, bench.state);
        writeln!(f, "{}", wrapped(&place, "  "))?;
        for exhibit in self.exhibits.all.iter().filter(|exhibit| !exhibit.is_failed()) {
            let state = match self.found.get(&exhibit.snapshot) {
                Some(volume) if is_at(volume, &bench.id) => format!("{} is attached already", volume.id),
                Some(volume) => format!("{} is there already", volume.id),
                None if exhibit.details.state == "completed" => "a new volume".to_owned(),
                None => format!("a new volume, once the snapshot is complete ({}%)", exhibit.details.percent),
            };
            let key = if exhibit.details.is_encrypted { "encrypted with its key" } else { "not encrypted" };
            let text = format!(
                "  {} {}: {} of {}, {} GiB, {key}: {state}",
                exhibit.instance, exhibit.device, exhibit.snapshot, exhibit.volume, exhibit.details.gib
            );
            writeln!(f, "{}", wrapped(&text, "    "))?;
        }
        self.exhibits.wrong.iter().try_for_each(|wrong| writeln!(f, "{}", wrapped(&format!("! {wrong}"), "  ")))
    }
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<_> = self.disks.iter().filter(|disk| disk.why.is_some()).collect();
        let done = self.disks.len() - open.len();
        let head = match open.len() {
            0 => format!("{} attached to {}, as EC2 shows it.", count(done, "volume"), self.host),
            number => format!(
                "NOT ATTACHED: {number} of {}. Attached to {}: {done}.",
                count(self.disks.len(), "volume"),
                self.host
            ),
        };
        writeln!(f, "{}", wrapped(&head, "  "))?;
        for disk in open {
            let why = disk.why.as_deref().unwrap_or_default();
            let text =
                format!("  {} {} ({} of {}): {why}", disk.instance, disk.of_device, disk.snapshot, disk.of_volume);
            writeln!(f, "{}", wrapped(&text, "    "))?;
        }
        self.said.iter().try_for_each(|said| writeln!(f, "{}", wrapped(&format!("! {said}"), "  ")))?;
        for disk in self.disks.iter().filter(|disk| disk.why.is_none()) {
            let (volume, device) =
                (disk.volume.as_deref().unwrap_or_default(), disk.device.as_deref().unwrap_or_default());
            let text = format!(
                "  {} {}: {volume} at {device}, {} GiB, of {}",
                disk.instance, disk.of_device, disk.gib, disk.snapshot
            );
            writeln!(f, "{}", wrapped(&text, "    "))?;
            writeln!(f, "    {}", disk.path.as_deref().unwrap_or_default())?;
        }
        if self.script.is_empty() {
            return Ok(());
        }
        let warning = "EBS attaches nothing read-only: what keeps these volumes as they are is blockdev and the mount options, so paste this on the \
                       forensic host before anything else touches them. It mounts every file system below /evidence:";
        writeln!(f, "\n{}\n\n{}", wrapped(warning, ""), self.script.trim_end())?;
        let more = "It names what it does not mount. LVM that the host has activated is mounted too. If two disks have one volume group, as disks of one \
                    image do, LVM activates neither: docs/evidence.md has the commands.";
        writeln!(f, "\n{}", wrapped(more, ""))
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib: u64 = self.volumes.iter().map(|made| made.gib).sum();
        match self.volumes.len() {
            0 => writeln!(f, "No volume was made of the snapshots of {}.", self.incident.stack_name)?,
            number => {
                let text = format!(
                    "{} to be detached and deleted, {gib} GiB in all. The snapshots stay. First unmount them on the forensic host:",
                    count(number, "volume")
                );
                writeln!(f, "{}\n  {UNMOUNT}", wrapped(&text, "  "))?;
            }
        }
        for made in &self.volumes {
            writeln!(f, "  {} of {} of {}, {} GiB", made.volume, made.snapshot, made.instance, made.gib)?;
        }
        self.left.iter().try_for_each(|left| writeln!(f, "{}", wrapped(&format!("! {left}"), "  ")))?;
        self.others.iter().try_for_each(|other| writeln!(f, "{}", wrapped(&format!("  not touched: {other}"), "    ")))
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} taken away.", count(self.removed.len(), "volume"), self.incident)?;
        self.removed.iter().try_for_each(|volume| writeln!(f, "  {volume}"))?;
        self.left.iter().try_for_each(|left| writeln!(f, "{}", wrapped(&format!("! {left}"), "  ")))?;
        self.others.iter().try_for_each(|other| writeln!(f, "{}", wrapped(&format!("  not touched: {other}"), "    ")))
    }
}

impl fmt::Display for ShareOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let new = self.to_copy();
        let gib: u64 = new.iter().map(|exhibit| exhibit.details.gib).sum();
        let what = match new.len() {
            0 => "No copy is to be made".to_owned(),
            number => format!(
                "{} to be copied, of volumes of {gib} GiB in all, which cost until they are deleted",
                count(number, "snapshot")
            ),
        };
        let text = format!("{what}. Account {} may use what is listed, with key {}.", self.account, self.key);
        writeln!(f, "{}", wrapped(&text, "  "))?;
        for exhibit in self.exhibits.all.iter().filter(|exhibit| !exhibit.is_failed()) {
            let state = match self.found.get(&exhibit.snapshot) {
                _ if self.needs_no_copy(exhibit) => "has this key, so it is shared itself".to_owned(),
                Some(copy) => format!("{} is its copy, {}", copy.id, copy.state),
                None => "a new copy".to_owned(),
            };
            let text = format!(
                "  {} {}: {}, {} GiB: {state}",
                exhibit.instance, exhibit.device, exhibit.snapshot, exhibit.details.gib
            );
            writeln!(f, "{}", wrapped(&text, "    "))?;
        }
        let wrong = self.exhibits.wrong.iter().chain(&self.unrecorded);
        wrong.into_iter().try_for_each(|wrong| writeln!(f, "{}", wrapped(&format!("! {wrong}"), "  ")))
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<_> = self.snapshots.iter().filter(|snapshot| snapshot.why.is_some()).collect();
        let all = count(self.snapshots.len(), "snapshot");
        let head = match open.len() {
            0 => format!("{all} shared with account {}, as EC2 shows it.", self.account),
            number => format!("NOT SHARED with account {}: {number} of {all}.", self.account),
        };
        writeln!(f, "{}", wrapped(&head, "  "))?;
        for snapshot in &self.snapshots {
            let state = match (&snapshot.why, &snapshot.shared) {
                (Some(why), _) => format!("NOT SHARED: {why}"),
                (None, Some(shared)) if *shared == snapshot.snapshot => "shared itself".to_owned(),
                (None, shared) => format!("shared as {}", shared.as_deref().unwrap_or_default()),
            };
            let text = format!("  {} of {}, {} GiB: {state}", snapshot.snapshot, snapshot.instance, snapshot.gib);
            writeln!(f, "{}", wrapped(&text, "    "))?;
        }
        self.said.iter().try_for_each(|said| writeln!(f, "{}", wrapped(&format!("! {said}"), "  ")))?;
        if self.commands.is_empty() {
            return Ok(());
        }
        let key = format!(
            "The policy of the key must allow account {} kms:DescribeKey, kms:Decrypt, kms:CreateGrant and kms:ReEncrypt*.",
            self.account
        );
        writeln!(f, "\n{}", wrapped(&key, ""))?;
        let text = "A shared snapshot is out of the attacker's reach only once it is copied there. Run these with credentials of that account, and \
                    lock each copy:";
        writeln!(f, "{}", wrapped(text, ""))?;
        self.commands.iter().try_for_each(|command| writeln!(f, "  {command}"))
    }
}

impl Manifest {
    /// What a person is told beside the file.
    #[must_use]
    pub fn summary(&self) -> String {
        let done = self.snapshots.iter().filter(|held| held.digest.is_some()).count();
        let all = count(self.snapshots.len(), "snapshot");
        let mut lines = vec![match self.is_complete {
            true => format!("{all} hashed."),
            false => format!("NOT COMPLETE: {done} of {all} hashed."),
        }];
        let open = self
            .snapshots
            .iter()
            .filter_map(|held| Some(format!("  {} of {}: {}", held.snapshot, held.instance, held.why.as_ref()?)));
        lines.extend(open.map(|text| wrapped(&text, "    ")));
        lines.extend(self.said.iter().map(|said| wrapped(&format!("! {said}"), "  ")));
        lines.join("\n")
    }
}
