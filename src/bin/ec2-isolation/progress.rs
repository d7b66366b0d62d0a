//! What is being done, on standard error: the log lines of the library, for a person.

use std::fmt::{Debug, Display, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

pub fn init() {
    let own = Targets::new().with_target("ec2_isolation", Level::INFO);
    let _ = tracing_subscriber::registry().with(Lines.with_filter(own)).try_init();
}

/// A line on standard error. Nobody reading it any more must not stop a restore half-way.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
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
