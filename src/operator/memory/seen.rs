//! What the instance says of itself, and whether its memory can be read. Pure.

use super::lime::{BLOCK, HEADER};

/// What else comes to a disk meanwhile: a log, a colleague's file.
const HEADROOM: u64 = 1 << 30;

/// What [`super::scripts::look`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub machine: String,
    pub kernel: String,
    /// `MemTotal`, in bytes.
    pub memory: u64,
    /// The level in brackets: `none`, `integrity`, `confidentiality`; empty if the kernel does not say.
    pub lockdown: String,
    /// Of System RAM in `/proc/iomem`.
    pub ram: u64,
    /// Its highest address, and one.
    pub top: u64,
}

/// Why its memory cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReadable {
    #[error("it does not say how much memory it has: {0}")]
    Unknown(String),
    #[error(
        "its kernel is locked down for confidentiality (/sys/kernel/security/lockdown): it lets no program read the memory, AVML neither. {0}"
    )]
    LockedDown(String),
    #[error(
        "it shows root no addresses in /proc/iomem: AVML needs CAP_SYS_ADMIN, which this machine gives to no one who logs in"
    )]
    NoRam,
}

impl Seen {
    /// `instead` is what else may be done.
    pub fn read(text: &str, instead: &str) -> Result<Self, NotReadable> {
        let mut seen = Self::default();
        for (key, value) in text.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
            let value = value.trim();
            match key {
                "machine" => seen.machine = value.to_owned(),
                "kernel" => seen.kernel = value.chars().filter(|c| !c.is_control()).take(100).collect(),
                "memory" => seen.memory = value.parse::<u64>().unwrap_or_default().saturating_mul(1024),
                "lockdown" => {
                    let level = value.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                    seen.lockdown = level.map(|(level, _)| level.to_owned()).unwrap_or_default();
                }
                "ram" => seen.add(value),
                _ => {}
            }
        }
        if seen.memory == 0 {
            return Err(NotReadable::Unknown(text.chars().take(300).collect()));
        }
        // Reading /proc/kcore is refused at this level only (LOCKDOWN_KCORE, security/lockdown/lockdown.c of Linux).
        if seen.lockdown == "confidentiality" {
            return Err(NotReadable::LockedDown(instead.to_owned()));
        }
        if seen.top <= 1 {
            return Err(NotReadable::NoRam);
        }
        Ok(seen)
    }

    fn add(&mut self, range: &str) {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((Some(first), Some(last))) = range.split_once('-').map(|(a, b)| (number(a), number(b))) else {
            return;
        };
        let end = last.saturating_add(1);
        self.ram += end.saturating_sub(first);
        self.top = self.top.max(end);
    }

    /// Of an image: all of the memory with a header for each block, and some more blocks, since ranges of memory begin anywhere.
    pub fn most(&self) -> u64 {
        self.ram.max(self.memory) + self.headers() + BLOCK
    }

    fn headers(&self) -> u64 {
        self.ram / BLOCK * HEADER as u64
    }

    /// What the disk needs that takes the image: all of the memory, a header for each block, and something for others.
    pub fn room(&self) -> u64 {
        self.ram.max(self.memory) + self.headers() + HEADROOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "machine x86_64\nkernel 6.8.0-1021-aws\nmemory 3980000\nlockdown none [integrity] confidentiality\n\
                        ram 00001000-0009fbff\nram 00100000-bfffffff\nram 100000000-13fffffff\n";

    #[test]
    fn what_an_instance_says_is_read() {
        let seen = Seen::read(TEXT, "").unwrap();
        assert_eq!((seen.machine.as_str(), seen.kernel.as_str()), ("x86_64", "6.8.0-1021-aws"));
        assert_eq!((seen.memory, seen.top, seen.lockdown.as_str()), (3_980_000 * 1024, 0x1_4000_0000, "integrity"));
        assert_eq!(seen.ram, 0x9ec00 + 0xbff0_0000 + 0x4000_0000);
        assert_eq!(seen.room(), seen.ram + seen.ram / (16 << 20) * 32 + (1 << 30));
    }

    #[track_caller]
    fn check(text: &str, expected: &NotReadable) {
        assert_eq!(Seen::read(text, "Instead.").as_ref(), Err(expected), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let locked = TEXT.replace("[integrity] confidentiality", "integrity [confidentiality]");
        check(&locked, &NotReadable::LockedDown("Instead.".into()));
        check("machine x86_64\n", &NotReadable::Unknown("machine x86_64\n".into()));
        // What /proc/iomem shows to others than root.
        check("memory 100\nram 00000000-00000000\n", &NotReadable::NoRam);
        assert!(Seen::read(&TEXT.replace("none [integrity] confidentiality", ""), "").is_ok());
    }
}
