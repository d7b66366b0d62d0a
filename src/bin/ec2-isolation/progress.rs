//! What is being done, on standard error: the log lines of the library, for a person.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use ec2_isolation::operator::{Progress, columns, wrapped};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::SIGINT;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// `1999 s  199 of 204 interfaces isolated`, and the bar.
const ROOM_FOR_A_BAR: usize = 52;

pub fn init() {
    // What is to be done was shown before, and how far it is shows by itself.
    let own =
        Targets::new().with_target("ec2_isolation", Level::INFO).with_target("ec2_isolation::reconcile", Level::WARN);
    let _ = tracing_subscriber::registry().with(Lines.with_filter(own)).try_init();
}

/// A line on standard error, above the bars. A reader that has gone must not stop a restore half-way.
pub fn say(line: impl Display) {
    BARS.suspend(|| {
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}

/// The same, in lines that fit. A command in it is broken like the rest: it belongs in a line of its own.
pub fn tell(text: impl Display) {
    say(wrapped(&text.to_string(), "  "));
}

/// The beginning of a line that a person ends.
pub fn ask(question: impl Display) {
    BARS.suspend(|| {
        let mut err = std::io::stderr();
        let _ = write!(err, "{question}").and_then(|()| err.flush());
    });
}

/// Why something was not done. A terminal gets lines that fit; a program that reads it gets one.
pub fn complain(trouble: impl Display) {
    let text = format!("ec2-isolation: {trouble}");
    if std::io::stderr().is_terminal() {
        text.lines().for_each(|line| say(wrapped(line, "  ")));
    } else {
        say(text);
    }
}

/// A person pressed Ctrl-C, while that was waited for.
static PRESSED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// Ctrl-C ends the program: nobody waits for it, or it was pressed before.
static ENDS: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let ends = Arc::new(AtomicBool::new(true));
    // In this order. Where it cannot be listened to, Ctrl-C goes on ending the program.
    let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&ends));
    let _ = signal_hook::flag::register(SIGINT, Arc::clone(&ends));
    let _ = signal_hook::flag::register(SIGINT, Arc::clone(&PRESSED));
    ends
});

/// Ends when a person presses Ctrl-C, from this call on. Otherwise, and the second time, that ends the program.
pub fn interrupted() -> impl Future<Output = ()> {
    struct Waiting;
    impl Drop for Waiting {
        fn drop(&mut self) {
            ENDS.store(true, Ordering::Relaxed);
        }
    }
    ENDS.store(PRESSED.load(Ordering::Relaxed), Ordering::Relaxed);
    let waiting = Waiting;
    async move {
        let _waiting = waiting;
        while !PRESSED.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Hidden unless it is a terminal in which a bar can be drawn over: `TERM=dumb` is none.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// How far it is: a bar for each stack where one can be drawn, a line for each change otherwise.
pub struct Watching {
    shown: Mutex<BTreeMap<String, (ProgressBar, String)>>,
}

impl Watching {
    pub fn new() -> Self {
        Self { shown: Mutex::default() }
    }

    pub fn show(&self, progress: &Progress) {
        let Progress { stack, status, seconds, done, total, what } = progress;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("{done} of {total} {what}, {stack} {status}");
        let (bar, last) = shown.entry(stack.clone()).or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            // No bar where there is no room for it.
            let wide = if columns() < ROOM_FOR_A_BAR { "{msg}\n{prefix}" } else { "{msg}\n{prefix}  {bar:10}" };
            let style = ProgressStyle::with_template(wide);
            (bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())), String::new())
        });
        bar.set_length(*total as u64);
        // A line that fills its terminal is drawn over badly.
        bar.set_message(format!("{status}  {stack}").chars().take(columns() - 1).collect::<String>());
        bar.set_prefix(format!("{seconds:>4} s  {done} of {total} {what}"));
        bar.set_position(*done as u64);
        // Not before it says something.
        if last.is_empty() {
            *bar = BARS.add(bar.clone());
        }
        if BARS.is_hidden() && text != *last {
            say(format_args!("{seconds:>4} s  {text}"));
        }
        *last = text;
    }

    /// Takes the bars away.
    pub fn end(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (bar, _) in std::mem::take(&mut *shown).into_values() {
            bar.finish_and_clear();
            BARS.remove(&bar);
        }
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
