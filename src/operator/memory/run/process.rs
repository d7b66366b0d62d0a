//! One program: what it writes is taken as it comes, and it ends when the operator asks for that.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Why, is_asked};
use crate::operator::memory::ssh::Line;

/// What is taken at once. More would be no faster, and memory stays small whatever the size of an image.
const PIECE: usize = 1 << 18;
/// Of standard error; the end says why.
const MOST_SAID: usize = 4096;
/// Of what is shown of it.
const MOST_SHOWN: usize = 400;
/// Of what a script answers in lines: 65,536 records are 1 TiB of memory.
const MOST_LINES: usize = 1 << 25;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Ctrl-C reaches the program that is waited for, too, and may end it before anybody is told that it was pressed.
const UNTIL_TOLD: Duration = Duration::from_millis(500);

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Nothing if a signal ended it.
    pub code: Option<i32>,
    said: Vec<u8>,
    /// Because the operator asked for it.
    pub is_stopped: bool,
    /// Why what it wrote could not be taken.
    pub unwritten: Option<String>,
}

impl Ended {
    /// What it wrote to standard error, in one line, as far as it fits.
    pub fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.said);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let text = plain(&lines.join(", "));
        let text = text.trim_end_matches('.');
        match text.char_indices().rev().nth(MOST_SHOWN) {
            Some((at, _)) => format!("…{}", text.get(at..).unwrap_or_default()),
            None if text.is_empty() => "it says nothing".to_owned(),
            None => text.to_owned(),
        }
    }
}

/// Without what a terminal would take for commands.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect()
}

/// Runs it to its end and returns what it wrote, too.
pub(super) fn lines_of(line: &Line, input: Option<File>, stop: &AtomicBool) -> Result<(Ended, String), Why> {
    let mut text = Vec::new();
    let ended = run(line, input, stop, &mut |piece| {
        let room = MOST_LINES.saturating_sub(text.len()).min(piece.len());
        text.extend_from_slice(piece.get(..room).unwrap_or_default());
        Ok(())
    })?;
    Ok((ended, String::from_utf8_lossy(&text).into_owned()))
}

/// Runs it to its end. `take` gets what it writes, piece by piece; if it fails, the program is ended.
pub(super) fn run(
    line: &Line,
    input: Option<File>,
    stop: &AtomicBool,
    take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<Ended, Why> {
    let Line { program, arguments } = line;
    let mut command = Command::new(program);
    command.args(arguments).stdin(input.map_or_else(Stdio::null, Stdio::from));
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Why::NoProgram(program),
            _ => Why::NotRun { program, error: error.to_string() },
        })?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let child = Mutex::new(child);
    let is_over = AtomicBool::new(false);
    let (unwritten, said, code) = thread::scope(|scope| {
        let said = scope.spawn(|| tail(err));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if is_asked(stop) {
                    let _ = lock(&child).kill();
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        let unwritten = out.and_then(|out| copy(out, take).err());
        if unwritten.is_some() {
            let _ = lock(&child).kill();
        }
        let code = loop {
            match lock(&child).try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => break status.code(),
                Err(_) => break None,
            }
            thread::sleep(LOOK_EVERY);
        };
        is_over.store(true, Ordering::Relaxed);
        (unwritten, said.join().unwrap_or_default(), code)
    });
    if code != Some(0) && unwritten.is_none() && !is_asked(stop) {
        thread::sleep(UNTIL_TOLD);
    }
    let unwritten = unwritten.map(|error| error.to_string());
    Ok(Ended { code, said, is_stopped: is_asked(stop), unwritten })
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

fn copy(mut from: impl Read, take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => take(buffer.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The end of what it writes.
fn tail(from: Option<impl Read>) -> Vec<u8> {
    let mut end = Vec::new();
    if let Some(from) = from {
        let _ = copy(from, &mut |piece| {
            end.extend_from_slice(piece);
            let over = end.len().saturating_sub(MOST_SAID);
            end.drain(..over);
            Ok(())
        });
    }
    end
}
