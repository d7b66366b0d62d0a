//! AVML as it lies at the desk: whether it is the one that is meant, and for which processor it was built.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Why AVML is not copied to the instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAvml {
    #[error(
        "{file} cannot be read: {error}. Download AVML from the releases of github.com/microsoft/avml, 0.19.0 or newer, and give it with --avml"
    )]
    Unreadable { file: String, error: String },
    #[error(
        "AVML's checksum is not given. {file} has {sha256}: if AVML's release shows this SHA-256, give it with --avml-sha256"
    )]
    Unchecked { file: String, sha256: String },
    #[error(
        "{file} is not what --avml-sha256 says: it has {sha256}. Download it once more, and compare with AVML's release"
    )]
    Other { file: String, sha256: String },
    #[error(
        "{file} was built for {built}, and the instance is {needed}: give a build of AVML for {needed} with --avml"
    )]
    Processor { file: String, built: &'static str, needed: String },
}

/// The SHA-256 of a file, if it is the expected one, and if its processor is the instance's.
pub(super) fn check(file: &Path, expected: Option<&str>, architecture: &str) -> Result<String, NoAvml> {
    let name = file.display().to_string();
    let read = digest(file).and_then(|sha256| Ok((sha256, built_for(file)?)));
    let (sha256, built) = read.map_err(|error| NoAvml::Unreadable { file: name.clone(), error: error.to_string() })?;
    let Some(expected) = expected else { return Err(NoAvml::Unchecked { file: name, sha256 }) };
    if !sha256.eq_ignore_ascii_case(expected) {
        return Err(NoAvml::Other { file: name, sha256 });
    }
    match built.filter(|built| !architecture.is_empty() && *built != architecture) {
        Some(built) => Err(NoAvml::Processor { file: name, built, needed: architecture.to_owned() }),
        None => Ok(sha256),
    }
}

/// In hexadecimal digits.
pub(super) fn digest(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hash)),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// EC2's word for the processor of an ELF file (`e_machine`); nothing if it is no such file.
fn built_for(file: &Path) -> std::io::Result<Option<&'static str>> {
    let mut head = Vec::new();
    File::open(file)?.take(20).read_to_end(&mut head)?;
    let machine = head.strip_prefix(b"\x7fELF").and_then(|rest| rest.get(14..16));
    Ok(match machine {
        Some([62, 0]) => Some("x86_64"),
        Some([183, 0]) => Some("arm64"),
        Some([3, 0]) => Some("i386"),
        Some(_) => Some("another processor"),
        None => None,
    })
}
