//! `memory`: what is printed, how far it is, and that Ctrl-C leaves nothing unnamed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ec2_isolation::operator::{Broken, Capture, Image, Trouble, Watch, wrapped};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::Output;
use crate::commands::{Outcome, Program, confirm, show};
use crate::progress;

/// Of lines, where no bar can be drawn.
const SAY_EVERY: Duration = Duration::from_secs(10);

pub fn print(capture: &Capture, output: Output) -> Outcome {
    let json =
        json!({"instance": capture.instance.to_string(), "incident": capture.incident, "steps": capture.steps()});
    show(output, capture, &json);
    Outcome::Done
}

/// Runs the commands, and records what came of it.
pub async fn run(program: &Program, capture: Capture, yes: bool, output: Output) -> Result<Outcome, Trouble> {
    progress::say(capture.summary());
    confirm(yes, "Read its memory?").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let work = {
        let (capture, stop) = (capture.clone(), Arc::clone(&stop));
        tokio::task::spawn_blocking(move || capture.carry_out(&Copying::new(), &stop))
    };
    tokio::pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        () = progress::interrupted() => {
            progress::tell("The reading ends. What it has left is named; press Ctrl-C again to end at once.");
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    match result {
        Ok(Ok(image)) => captured(program, &capture, &image, output).await,
        Ok(Err(broken)) => failed(broken),
        Err(error) => {
            progress::complain(format_args!("the reading has ended early: {error}"));
            Ok(Outcome::Failed)
        }
    }
}

async fn captured(program: &Program, capture: &Capture, image: &Image, output: Output) -> Result<Outcome, Trouble> {
    let recorded = program.record_memory(capture, image).await;
    show(output, image, image);
    if let Err(why) = &recorded {
        let text = format!("! The image is not in the history of the record: {why}. Write its SHA-256 down.");
        progress::say(wrapped(&text, "  "));
    }
    Ok(Outcome::done(recorded.is_ok() && image.left.is_empty()))
}

fn failed(broken: Broken) -> Result<Outcome, Trouble> {
    let Broken { why, is_refused, left } = broken;
    if is_refused {
        return Err(Trouble::Refused(format!("nothing was changed: {why}")));
    }
    progress::complain(&why);
    left.iter().for_each(|left| progress::say(format_args!("! {left}")));
    Ok(Outcome::Failed)
}

/// A bar where one can be drawn, a line now and then otherwise.
struct Copying {
    bar: ProgressBar,
    said: Mutex<Duration>,
}

impl Copying {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:20} {bytes} of {total_bytes}, {bytes_per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, said: Mutex::default() }
    }
}

impl Watch for Copying {
    fn step(&self, what: &str) {
        self.bar.suspend(|| progress::say(format_args!(". {what}")));
    }

    fn copied(&self, bytes: u64, of: u64, since: Duration) {
        self.bar.set_length(of);
        self.bar.set_position(bytes);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && since >= *said + SAY_EVERY {
            *said = since;
            let rate = bytes / since.as_secs().max(1) / (1 << 20);
            progress::say(format_args!("{:>4} s  {bytes} of {of} bytes, {rate} MiB/s", since.as_secs()));
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
