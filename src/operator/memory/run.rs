//! Carries a capture out: one program after the other, with what the desk itself does between them.
//!
//! What the instance says is data of the attacker's: it is shown without control characters, and decides nothing but that the capture ends.

mod process;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use self::process::{Ended, lines_of, run};
use super::broken::{Broken, Why};
use super::image::Image;
use super::lime::Lime;
use super::seen::Seen;
use super::ssh::Line;
use super::{Capture, Destination, NoAvml, avml, scripts};

/// How far it is.
pub trait Watch: Sync {
    fn step(&self, what: &str);
    fn copied(&self, bytes: u64, of: u64, since: Duration);
}

/// What has come so far, by the receiver's account.
struct Received {
    bytes: u64,
    streamed: String,
    written: String,
    lime: Lime,
}

impl Capture {
    /// Reads the memory; returns when the image was read back, or when it is clear why there is none. `stop` ends it early.
    ///
    /// # Errors
    /// There is no whole image.
    pub fn carry_out(&self, watch: &dyn Watch, stop: &AtomicBool) -> Result<Image, Broken> {
        let refuse = |why| Broken { why, is_refused: true, left: vec![] };
        let (avml_sha256, seen) = self.prepare(watch, stop).map_err(refuse)?;
        let began = Instant::now();
        let mut left = Vec::new();
        let result = self.capture(&seen, &avml_sha256, watch, stop, &mut left);
        watch.step("AVML is taken off the instance");
        left.extend(self.clean());
        let (avml, received) = result.map_err(|why| Broken { why, is_refused: false, left: left.clone() })?;
        let Received { bytes, written: sha256, lime, .. } = received;
        let (place, file) = match &self.to {
            Destination::Host(folder) => ("host", format!("{}/{}", folder.0, self.name)),
            Destination::Desk(file) => ("desk", file.display().to_string()),
        };
        Ok(Image {
            instance: self.instance.to_string(),
            incident: self.incident.clone(),
            captured_at: self.at.clone(),
            place,
            forensic_host: self.route.host.at.to_string(),
            file,
            bytes,
            sha256,
            memory_total: seen.memory,
            system_ram: seen.ram,
            left_out: seen.ram.saturating_sub(lime.held),
            records: lime.records,
            kernel: seen.kernel,
            avml,
            avml_sha256,
            seconds: began.elapsed().as_secs(),
            left,
        })
    }

    /// Everything before the instance is touched.
    fn prepare(&self, watch: &dyn Watch, stop: &AtomicBool) -> Result<(String, Seen), Why> {
        let sha256 = avml::check(&self.avml, self.avml_sha256.as_deref(), &self.architecture)?;
        if let Destination::Desk(file) = &self.to {
            for file in [file.clone(), partial(file)] {
                if file.exists() {
                    return Err(Why::Taken(file.display().to_string()));
                }
            }
        }
        self.write_config()?;
        watch.step("the forensic host is asked");
        self.on_host(&self.route.on_host("true"), None, stop)?;
        watch.step("the instance is asked");
        let (looked, text) = lines_of(&self.route.on_instance(&scripts::look()), None, stop)?;
        if looked.code == Some(scripts::NO_SUDO) {
            let (user, instance) = (self.route.target.user.to_string(), self.instance.to_string());
            return Err(Why::NoSudo { user, instance, said: looked.said() });
        }
        self.check_instance(&looked)?;
        let seen = Seen::read(&text, &self.instead);
        let seen = seen.map_err(|why| Why::NotReadable { instance: self.instance.to_string(), why })?;
        let (place, free) = self.room(stop)?;
        if free < seen.room() {
            return Err(Why::NoRoom { place, free, needed: seen.room() });
        }
        Ok((sha256, seen))
    }

    fn write_config(&self) -> Result<(), Why> {
        let folder = Path::new(&self.route.folder);
        let unwritable = |file: &Path, error: std::io::Error| Why::Unwritable {
            file: file.display().to_string(),
            error: error.to_string(),
        };
        private_folder(folder).map_err(|error| unwritable(folder, error))?;
        let file = PathBuf::from(self.route.config_file());
        std::fs::write(&file, self.route.config().join("\n") + "\n").map_err(|error| unwritable(&file, error))
    }

    /// Where the image goes, and how many bytes are free there.
    fn room(&self, stop: &AtomicBool) -> Result<(String, u64), Why> {
        let (place, ended, text) = match &self.to {
            Destination::Host(folder) => {
                let line = self.route.on_host(&scripts::room(&folder.0));
                let (place, known_hosts) = (self.host(), self.route.known_hosts());
                let input = File::open(&known_hosts);
                let input = input.map_err(|error| Why::Unwritable { file: known_hosts, error: error.to_string() })?;
                let (ended, text) = lines_of(&line, Some(input), stop)?;
                (place, ended, text)
            }
            Destination::Desk(file) => {
                let folder = folder_of(file);
                let (ended, text) = lines_of(&df(&folder), None, stop)?;
                (folder, ended, text)
            }
        };
        let free = text.lines().last().and_then(|line| line.split_whitespace().nth(3)).and_then(|kib| kib.parse().ok());
        match free.filter(|_| ended.code == Some(0)) {
            Some(kib) => Ok((place, u64::saturating_mul(kib, 1024))),
            None => Err(Why::RoomUnknown { place, said: ended.said() }),
        }
    }

    /// From the copy of AVML to the image that has its name. What of the image is left otherwise is added to `left`.
    fn capture(
        &self,
        seen: &Seen,
        sha256: &str,
        watch: &dyn Watch,
        stop: &AtomicBool,
        left: &mut Vec<String>,
    ) -> Result<(String, Received), Why> {
        watch.step("AVML is copied to the instance");
        let version = self.place(sha256, stop)?;
        watch.step("the memory is read");
        let began = Instant::now();
        let on_bytes = |bytes| watch.copied(bytes, seen.ram, began.elapsed());
        let most = seen.most();
        let received = match &self.to {
            Destination::Host(_) => self.to_host(most, &on_bytes, stop),
            Destination::Desk(file) => self.to_desk(file, most, &on_bytes, stop),
        };
        let kept = received.and_then(|bytes| {
            watch.step("the image is read back");
            let received = match (&self.to, bytes) {
                (Destination::Host(folder), _) => self.read_back(&folder.0, stop)?,
                (Destination::Desk(file), Some(received)) => read_back(file, received)?,
                (Destination::Desk(file), None) => return Err(Why::NotKept(file.display().to_string())),
            };
            if received.streamed != received.written {
                let Received { streamed, written, .. } = received;
                return Err(Why::Differs { place: self.place_name(), streamed, written });
            }
            let whole = received.lime.check(seen.memory, seen.top);
            whole.map_err(|why| Why::NotWhole { instance: self.instance.to_string(), why })?;
            self.keep(stop)?;
            Ok(received)
        });
        if kept.is_err() {
            left.push(self.partial_is_left());
        }
        Ok((version, kept?))
    }

    /// What AVML calls itself there.
    fn place(&self, sha256: &str, stop: &AtomicBool) -> Result<String, Why> {
        let instance = self.instance.to_string();
        let input = File::open(&self.avml).map_err(|error| {
            Why::Avml(NoAvml::Unreadable { file: self.avml.display().to_string(), error: error.to_string() })
        })?;
        let (ended, text) = lines_of(&self.route.on_instance(&scripts::place(&self.scratch)), Some(input), stop)?;
        let arrived =
            text.lines().find_map(|line| line.strip_prefix("sha256 ")).and_then(|rest| rest.split(' ').next());
        if let Some(arrived) = arrived.filter(|arrived| !arrived.eq_ignore_ascii_case(sha256)) {
            return Err(Why::Changed { instance, sha256: process::plain(arrived) });
        }
        match ended.code {
            Some(0) => Ok(process::plain(text.lines().last().unwrap_or_default())),
            Some(255) | None => self.check_instance(&ended).map(|()| String::new()),
            Some(_) => Err(Why::NotPlaced { instance, scratch: self.scratch.clone(), said: ended.said() }),
        }
    }

    /// Into the forensic host's disk.
    fn to_host(&self, most: u64, on_bytes: &dyn Fn(u64), stop: &AtomicBool) -> Result<Option<Received>, Why> {
        let Destination::Host(folder) = &self.to else { return Ok(None) };
        let script = scripts::receive(&self.route, &self.scratch, &folder.0, &self.name);
        let (mut bytes, mut status, mut rest) = (0, Vec::new(), Vec::new());
        let ended = run(&self.route.on_host_with_key(&script), None, stop, &mut |piece| {
            rest.extend_from_slice(piece);
            while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest.drain(..=at).collect::<Vec<_>>()).into_owned();
                if let Some(at) = line.strip_prefix("at ").and_then(|at| at.trim().parse().ok()) {
                    bytes = at;
                    on_bytes(bytes);
                    not_more_than(most, bytes)?;
                }
                if let Some(codes) = line.strip_prefix("status ") {
                    status = codes.split_whitespace().filter_map(|code| code.parse().ok()).collect();
                }
            }
            Ok(())
        })?;
        self.check_amount(bytes, most)?;
        self.check_stopped(&ended, bytes)?;
        match status.as_slice() {
            [0, 0, 0] => Ok(None),
            [_, tee, hash] if (*tee, *hash) != (0, 0) => {
                Err(Why::Full { place: self.host(), bytes, said: ended.said() })
            }
            [255, ..] => Err(Why::Lost { bytes, said: ended.said() }),
            [code, ..] => Err(self.avml_failed(*code, &ended)),
            [] => Err(Why::Lost { bytes, said: ended.said() }),
        }
    }

    /// Into a file here. It is hashed as it comes, and again from the disk.
    fn to_desk(
        &self,
        file: &Path,
        most: u64,
        on_bytes: &dyn Fn(u64),
        stop: &AtomicBool,
    ) -> Result<Option<Received>, Why> {
        let name = partial(file);
        let created = OpenOptions::new().write(true).create_new(true).open(&name);
        let unwritable =
            |error: std::io::Error| Why::Unwritable { file: name.display().to_string(), error: error.to_string() };
        let mut written = created.map_err(unwritable)?;
        let (mut hash, mut lime) = (Sha256::new(), Lime::default());
        let ended = run(&self.route.on_instance(&scripts::read(&self.scratch)), None, stop, &mut |piece| {
            written.write_all(piece)?;
            hash.update(piece);
            lime.feed(piece);
            on_bytes(lime.bytes);
            not_more_than(most, lime.bytes)
        })?;
        let bytes = lime.bytes;
        self.check_amount(bytes, most)?;
        if let Some(error) = &ended.unwritten {
            return Err(Why::Full { place: self.place_name(), bytes, said: error.clone() });
        }
        self.check_stopped(&ended, bytes)?;
        match ended.code {
            Some(0) => written.sync_all().map_err(unwritable)?,
            Some(255) | None => return Err(Why::Lost { bytes, said: ended.said() }),
            Some(code) => return Err(self.avml_failed(code, &ended)),
        }
        Ok(Some(Received { bytes, streamed: avml::hex(hash), written: String::new(), lime }))
    }

    /// On the forensic host.
    fn read_back(&self, folder: &str, stop: &AtomicBool) -> Result<Received, Why> {
        let line = self.route.on_host(&scripts::verify(folder, &self.name));
        let text = self.on_host(&line, None, stop)?;
        let mut received =
            Received { bytes: 0, streamed: String::new(), written: String::new(), lime: Lime::default() };
        for (key, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            let first = rest.split_whitespace().next().unwrap_or_default();
            match key {
                "streamed" => received.streamed = process::plain(first),
                "written" => received.written = process::plain(first),
                "bytes" => received.bytes = first.parse().unwrap_or_default(),
                "record" => {
                    let numbers: Vec<u64> = rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
                    let header = numbers.try_into().unwrap_or([0; 4]);
                    let behind = received.bytes.saturating_sub(received.lime.bytes + super::lime::HEADER as u64);
                    received.lime.record(header, behind);
                }
                _ => {}
            }
        }
        Ok(received)
    }

    fn keep(&self, stop: &AtomicBool) -> Result<(), Why> {
        match &self.to {
            Destination::Host(folder) => {
                let ended = lines_of(&self.route.on_host(&scripts::keep(&folder.0, &self.name)), None, stop)?.0;
                if ended.code == Some(0) { Ok(()) } else { Err(Why::NotKept(ended.said())) }
            }
            Destination::Desk(file) => {
                std::fs::rename(partial(file), file).map_err(|error| Why::NotKept(error.to_string()))
            }
        }
    }

    /// What stays on the instance, if it cannot be taken off.
    fn clean(&self) -> Option<String> {
        let line = self.route.on_instance(&scripts::clean(&self.scratch));
        let ended = lines_of(&line, None, &AtomicBool::new(false));
        let is_clean = ended.is_ok_and(|(ended, _)| ended.code == Some(0));
        (!is_clean).then(|| {
            format!("{} on {}, in its memory, is left. This takes it away: {line}", self.scratch, self.instance)
        })
    }

    fn partial_is_left(&self) -> String {
        match &self.to {
            Destination::Host(folder) => {
                let file = format!("{}/{}.partial", folder.0, self.name);
                let line = self.route.on_host(&format!("rm -f {}/{}.*", folder.0, self.name));
                format!("{file} on the forensic host is a part of an image, if it is there. This takes it away: {line}")
            }
            Destination::Desk(file) => format!("{} is a part of an image, if it is there", partial(file).display()),
        }
    }

    fn on_host(&self, line: &Line, input: Option<File>, stop: &AtomicBool) -> Result<String, Why> {
        let (ended, text) = lines_of(line, input, stop)?;
        self.check(&ended, self.host(), "--host-user and --host-key")?;
        Ok(text)
    }

    fn check_instance(&self, ended: &Ended) -> Result<(), Why> {
        self.check(ended, format!("instance {} ({})", self.instance, self.route.target.at), "--user and --key")
    }

    fn check(&self, ended: &Ended, whom: String, options: &'static str) -> Result<(), Why> {
        if ended.is_stopped {
            return Err(Why::Stopped(0));
        }
        let said = ended.said();
        match ended.code {
            Some(0) => Ok(()),
            _ if said.contains("Permission denied") => Err(Why::NotLetIn { whom, said, options }),
            _ if said.contains("HOST IDENTIFICATION HAS CHANGED") || said.contains("Host key verification failed") => {
                Err(Why::OtherKey { whom, said, known_hosts: self.route.known_hosts() })
            }
            _ => Err(Why::NotReached { whom, said }),
        }
    }

    fn check_amount(&self, bytes: u64, most: u64) -> Result<(), Why> {
        if bytes <= most { Ok(()) } else { Err(Why::TooMuch { instance: self.instance.to_string(), bytes, most }) }
    }

    fn check_stopped(&self, ended: &Ended, bytes: u64) -> Result<(), Why> {
        if ended.is_stopped { Err(Why::Stopped(bytes)) } else { Ok(()) }
    }

    fn avml_failed(&self, code: i32, ended: &Ended) -> Why {
        let (instance, instead) = (self.instance.to_string(), self.instead.clone());
        Why::AvmlFailed { instance, code, said: ended.said(), instead }
    }

    fn host(&self) -> String {
        format!("forensic host {}", self.route.host.at)
    }

    fn place_name(&self) -> String {
        match &self.to {
            Destination::Host(_) => self.host(),
            Destination::Desk(file) => file.display().to_string(),
        }
    }
}

/// Ends the reading: who sends without end fills the disk of the evidence.
fn not_more_than(most: u64, bytes: u64) -> std::io::Result<()> {
    if bytes <= most { Ok(()) } else { Err(std::io::Error::other("it is more than the memory")) }
}

/// Of a file here.
fn read_back(file: &Path, received: Received) -> Result<Received, Why> {
    let name = partial(file);
    let written = avml::digest(&name);
    let written =
        written.map_err(|error| Why::Unwritable { file: name.display().to_string(), error: error.to_string() })?;
    Ok(Received { written, ..received })
}

/// What it is called until it is known to be whole.
pub(super) fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

pub(super) fn folder_of(file: &Path) -> String {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or_else(|| ".".to_owned(), |folder| folder.display().to_string())
}

pub(super) fn df(folder: &str) -> Line {
    Line { program: "df", arguments: vec!["-Pk".to_owned(), folder.to_owned()] }
}

/// A folder whose files no other user can read.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
}

/// Whether the operator has asked for the end.
fn is_asked(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}
