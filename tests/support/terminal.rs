//! A terminal with a program in it: what a person sees there, and types.

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::Pty;
use vt100::Parser;

/// Higher than anything that is printed: nothing leaves the screen.
const ROWS: u16 = 400;
const LONGEST_WAIT: Duration = Duration::from_secs(180);
/// What bars are drawn with.
const BAR: [char; 2] = ['█', '░'];

/// Ends the input, and interrupts, as these keys do.
pub const CTRL_D: &str = "\x04";
pub const CTRL_C: &str = "\x03";

pub struct Terminal {
    child: Child,
    keys: Pty,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    parser: Parser,
    /// Rows with a bar, in every state of the screen.
    bars: Vec<String>,
    /// A bar was in a line that is longer than the terminal is wide.
    is_bar_broken: bool,
    has_ended: bool,
}

impl Terminal {
    /// Begins the program in a terminal of so many columns. What of its outputs goes elsewhere, the command says.
    pub fn open(columns: u16, command: impl Into<pty_process::blocking::Command>) -> Self {
        let (keys, program) = pty_process::blocking::open().unwrap();
        keys.resize(Size::new(ROWS, columns)).unwrap();
        let child = command.into().spawn(program).unwrap();
        let [rows, columns] = [ROWS, columns].map(|size| NonZero::new(size).unwrap());
        let parser = Parser::new(rows, columns, 0);
        let seen = Seen { parser, bars: vec![], is_bar_broken: false, has_ended: false };
        let seen = Arc::new(Mutex::new(seen));
        let mut screen = std::fs::File::from(std::os::fd::AsFd::as_fd(&keys).try_clone_to_owned().unwrap());
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // It cannot be read any more once the program has ended.
            while let Ok(read) = screen.read(&mut piece) {
                lock(&shown).take(&piece[..read]);
                if read == 0 {
                    break;
                }
            }
            lock(&shown).has_ended = true;
        });
        Self { child, keys, seen }
    }

    pub fn types(&mut self, keys: &str) -> &mut Self {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Waits until the screen shows this, wherever its lines are broken.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> &mut Self {
        let began = Instant::now();
        let is_shown = |screen: String| screen.split_whitespace().collect::<Vec<_>>().join(" ").contains(text);
        while !is_shown(self.screen()) {
            let is_over = began.elapsed() > LONGEST_WAIT || lock(&self.seen).has_ended && !is_shown(self.screen());
            assert!(!is_over, "{text:?} does not appear in\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(50));
        }
        self
    }

    /// What stands there now.
    pub fn screen(&self) -> String {
        lock(&self.seen).parser.screen().contents()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends_with(mut self, code: i32) -> Shown {
        let began = Instant::now();
        let ended = loop {
            match self.child.try_wait().unwrap() {
                Some(ended) if lock(&self.seen).has_ended => break ended,
                _ if began.elapsed() > LONGEST_WAIT => {
                    let _ = self.child.kill();
                    panic!("it does not end:\n{}", self.screen());
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let screen = self.screen();
        assert_eq!(ended.code(), Some(code), "{ended}:\n{screen}");
        let mut out = String::new();
        if let Some(mut piped) = self.child.stdout.take() {
            piped.read_to_string(&mut out).unwrap();
        }
        let seen = lock(&self.seen);
        let rows = seen.parser.screen();
        let broken = (0..ROWS).filter(|row| rows.row_wrapped(*row));
        let begun = broken.filter_map(|row| rows.rows(0, rows.size().1.get()).nth(row.into()));
        // An ARN may be longer than any line.
        let wide = begun.filter(|row| row.trim().contains(' ')).collect();
        Shown { screen, out, wide, bars: seen.bars.clone(), is_bar_broken: seen.is_bar_broken }
    }
}

/// What is left on the screen at the end, and what went elsewhere.
#[derive(Debug)]
pub struct Shown {
    pub screen: String,
    /// Standard output, if it was piped.
    pub out: String,
    /// How the lines begin that are longer than the terminal is wide, and could have been broken.
    pub wide: Vec<String>,
    /// Each bar that there was.
    pub bars: Vec<String>,
    pub is_bar_broken: bool,
}

impl Shown {
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.screen.contains(text), "{text:?} in\n{}", self.screen);
        self
    }

    pub fn has_bar(&self) -> bool {
        self.screen.contains(BAR)
    }
}

impl Seen {
    fn take(&mut self, bytes: &[u8]) {
        // A line at a time: what is drawn over was seen.
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.parser.process(line);
            let screen = self.parser.screen();
            let (height, width) = screen.size();
            for (row, text) in (0..height.get()).zip(screen.rows(0, width.get())) {
                if text.contains(BAR) {
                    self.is_bar_broken |= screen.row_wrapped(row);
                    if self.bars.last() != Some(&text) {
                        self.bars.push(text);
                    }
                }
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program itself, with a person's home and environment still to be set.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ec2-isolation"));
    command.args(arguments);
    command
}
