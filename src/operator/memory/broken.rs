//! Why there is no image, and what is left of it.

use super::avml::NoAvml;
use super::lime::Incomplete;
use super::seen::NotReadable;

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error(transparent)]
    Avml(#[from] NoAvml),
    #[error("{0} is not on this machine's PATH: install OpenSSH, or run it from a machine that has it")]
    NoProgram(&'static str),
    #[error("{program} cannot be run: {error}")]
    NotRun { program: &'static str, error: String },
    #[error("{file} cannot be written: {error}")]
    Unwritable { file: String, error: String },
    #[error("{0} is there already, and no image is written over another one: give --to another name")]
    Taken(String),
    #[error("{whom} does not take this user or key: {said}. Give {options}")]
    NotLetIn { whom: String, said: String, options: &'static str },
    #[error(
        "{whom} shows another host key than before: {said}. If the machine was replaced since, delete its line in {known_hosts}; if not, \
         somebody may be between you and it"
    )]
    OtherKey { whom: String, said: String, known_hosts: String },
    #[error(
        "{whom} cannot be reached by ssh: {said}. Check that it runs and listens, and which address its security group lets in"
    )]
    NotReached { whom: String, said: String },
    #[error("user {user} may not become root on {instance} without a password: {said}. Give --user another one")]
    NoSudo { user: String, instance: String, said: String },
    #[error("the memory of {instance} cannot be read: {why}")]
    NotReadable { instance: String, why: NotReadable },
    #[error(
        "{place} has room for {free} bytes, and the image may take {needed}: make room, or give --to another place. A larger disk can be \
         attached to the forensic host"
    )]
    NoRoom { place: String, free: u64, needed: u64 },
    #[error("how much room there is at {place} is not known: {said}")]
    RoomUnknown { place: String, said: String },
    #[error(
        "AVML does not run on {instance}: {said}. If {scratch} is mounted noexec, give --scratch a folder that is not; on a disk, it changes \
         8 MB of evidence there"
    )]
    NotPlaced { instance: String, scratch: String, said: String },
    #[error("what arrived on {instance} is not the AVML that was sent: it has {sha256} there")]
    Changed { instance: String, sha256: String },
    #[error("AVML could not read the memory of {instance} and ended with {code}: {said}. {instead}")]
    AvmlFailed { instance: String, code: i32, said: String, instead: String },
    #[error("the connection broke off after {bytes} bytes: {said}. Run it again: it starts from the beginning")]
    Lost { bytes: u64, said: String },
    #[error(
        "{instance} sends more than its memory: {bytes} bytes, of {most} at most. A process on it writes into the stream"
    )]
    TooMuch { instance: String, bytes: u64, most: u64 },
    #[error("{place} took no more after {bytes} bytes: {said}. Make room, or give --to another place")]
    Full { place: String, bytes: u64, said: String },
    #[error(
        "what was written is not what was received: {written} instead of {streamed}. The disk at {place} is not to be trusted"
    )]
    Differs { place: String, streamed: String, written: String },
    #[error("the image of {instance} is not whole: {why}. Run it again")]
    NotWhole { instance: String, why: Incomplete },
    #[error("the image is whole and could not be given its name: {0}")]
    NotKept(String),
    #[error("stopped after {0} bytes")]
    Stopped(u64),
}

/// A capture that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub why: Why,
    /// Nothing was copied to the instance.
    pub is_refused: bool,
    /// What is left, where, and how it is taken away.
    pub left: Vec<String>,
}
