//! What is being done, on standard error: the log lines of the library, for a person.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use ec2_isolation::operator::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::SIGINT;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

pub fn init() {
    // What is to be done was shown before, and how far it is shows by itself.
    let own =
        Targets::new().with_target("ec2_isolation", Level::INFO).with_target("ec2_isolation::reconcile", Level::WARN);
    let _ = tracing_subscriber::registry().with(Lines.with_filter(own)).try_init();
}

/// A line on standard error. A reader that has gone must not stop a restore half-way.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Ends when a person presses Ctrl-C. From the first call on, that ends the program no longer by itself; a second one does.
pub async fn interrupted() {
    static PRESSED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
        let pressed = Arc::new(AtomicBool::new(false));
        // Where it cannot be listened to, Ctrl-C goes on ending the program.
        let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&pressed));
        let _ = signal_hook::flag::register(SIGINT, Arc::clone(&pressed));
        pressed
    });
    while !PRESSED.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How far it is: a bar for each stack on a terminal, a line for each change otherwise.
pub struct Watching {
    bars: MultiProgress,
    shown: Mutex<BTreeMap<String, (ProgressBar, String)>>,
    is_terminal: bool,
}

impl Watching {
    pub fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), shown: Mutex::default(), is_terminal }
    }

    pub fn show(&self, progress: &Progress) {
        let Progress { stack, status, seconds, done, total, what } = progress;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (bar, last) = shown.entry(stack.clone()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(*total as u64));
            let style = ProgressStyle::with_template("{elapsed:>4} {bar:20} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            (bar, String::new())
        });
        let text = format!("{done} of {total} {what}, {stack} {status}");
        bar.set_position(*done as u64);
        bar.set_message(text.clone());
        if !self.is_terminal && text != *last {
            say(format_args!("{seconds:>4} s  {text}"));
        }
        *last = text;
    }

    /// Takes the bars away.
    pub fn end(&self) {
        let _ = self.bars.clear();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.end();
    }
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, fields } = text;
        let sign = if *event.metadata().level() <= Level::WARN { '!' } else { '.' };
        for (n, line) in fields.trim_end().lines().enumerate() {
            let lead = if n == 0 { message.as_str() } else { "" };
            say(format_args!("{sign} {lead}{}{line}", if lead.is_empty() { "" } else { ": " }));
        }
        if fields.trim().is_empty() {
            say(format_args!("{sign} {message}"));
        }
    }
}

/// The message, and `name=value` of each field but a plan, which speaks for itself.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "plan" | "command" => write!(self.fields, "{value:?}"),
            name => write!(self.fields, "{}{name} {value:?}", if self.fields.is_empty() { "" } else { ", " }),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
