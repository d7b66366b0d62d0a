//! An image that was captured.

use serde::Serialize;

/// An image that is whole, as it was read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    pub instance: String,
    pub incident: String,
    /// When it was asked for, in UTC.
    pub captured_at: String,
    /// `host` or `desk`.
    pub place: &'static str,
    pub forensic_host: String,
    pub file: String,
    pub bytes: u64,
    /// Computed while it was received, and again from what was written.
    pub sha256: String,
    /// What the instance calls `MemTotal`.
    pub memory_total: u64,
    /// System RAM in its `/proc/iomem`.
    pub system_ram: u64,
    /// Of System RAM: AVML leaves blocks of zeros out.
    pub left_out: u64,
    pub records: u64,
    pub kernel: String,
    /// What AVML calls itself.
    pub avml: String,
    pub avml_sha256: String,
    pub seconds: u64,
    /// What of it is still on the instance.
    pub left: Vec<String>,
}

impl Image {
    /// What the history of the record says of it.
    #[must_use]
    pub fn history(&self) -> String {
        let Self { bytes, sha256, file, forensic_host, avml, avml_sha256, seconds, .. } = self;
        let at =
            if self.place == "host" { format!("on forensic host {forensic_host}") } else { "at the desk".to_owned() };
        format!(
            "{}: {bytes} bytes with SHA-256 {sha256}, in {file} {at}, in {seconds} s, by {avml} with SHA-256 {avml_sha256}",
            super::CAPTURED
        )
    }
}
