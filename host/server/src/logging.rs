//! Where log lines go and what they look like.
//!
//! Lines go to standard error, so that standard output stays free for what a command prints.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::thread;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::log_buffer::LogBuffer;
use crate::log_writer::LogWriter;

/// Shape of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event, for people
    Text,
    /// One JSON object per line, for log collectors
    Json,
}

/// What is logged when `RUST_LOG` says nothing. What the migrator logs in detail matters to an operator only
/// when it fails.
const DEFAULT_FILTER: &str = "info,sea_orm_migration=warn";

/// Writes the lines that wait when it is dropped: keep it to the end of the process.
#[derive(Debug)]
#[must_use]
pub(crate) struct LogGuard(LogBuffer);

impl LogGuard {
    /// Writes text after the lines that wait, as it is.
    pub(crate) fn print(&self, text: &str) {
        self.0.push(text.as_bytes(), true);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Starts logging for this process. A second call changes nothing.
///
/// # Errors
/// When the thread that writes the lines cannot be started.
pub(crate) fn init(format: LogFormat) -> io::Result<LogGuard> {
    let (filter, ignored) = filter(&std::env::var("RUST_LOG").unwrap_or_default());
    let buffer = LogBuffer::default();
    LogWriter::new(buffer.clone(), io::stderr()).start()?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(buffer.clone());
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    match started {
        Ok(()) => print_panics_through(buffer.clone()),
        Err(error) => tracing::debug!(%error, "logging was already started"),
    }
    for directive in ignored {
        tracing::warn!(%directive, "a part of RUST_LOG is neither a level nor target=level, and is ignored");
    }
    Ok(LogGuard(buffer))
}

/// The filter that `RUST_LOG` describes, and the parts of it that can't be read. (The subscriber's own lenient
/// parser prints them with a macro that panics where standard error can't be written.)
fn filter(directives: &str) -> (EnvFilter, Vec<String>) {
    let parts = || directives.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (valid, ignored): (Vec<&str>, Vec<&str>) =
        parts().partition(|part| is_directive(part) && part.parse::<Directive>().is_ok());
    let valid = if valid.is_empty() { DEFAULT_FILTER.to_owned() } else { valid.join(",") };
    let ignored = ignored.into_iter().map(str::to_owned).collect();
    // The parts were parsed before, so that this cannot fail.
    (EnvFilter::builder().parse(valid).unwrap_or_default(), ignored)
}

/// A level, or what gives a target one. A bare word that is no level is a target for the parser, and silences all others:
/// `warning` would.
fn is_directive(part: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    part.contains('=') || LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level))
}

/// Panic messages stay in order with the log, and a reader of standard error that stalls blocks no thread
/// that panics. A panic may abort the process: the hook waits for the write, for a bounded time.
fn print_panics_through(buffer: LogBuffer) {
    panic::set_hook(Box::new(move |panic| {
        buffer.push(panic_message(panic, &Backtrace::capture()).as_bytes(), true);
        buffer.flush();
    }));
}

/// The text that the standard library prints.
fn panic_message(panic: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let current = thread::current();
    let name = current.name().unwrap_or("<unnamed>");
    let rest = match backtrace.status() {
        BacktraceStatus::Captured => format!("stack backtrace:\n{backtrace}"),
        _ => "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n".to_owned(),
    };
    format!("\nthread '{name}' {panic}\n{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_parts_of_the_filter_are_ignored_by_name() {
        for (directives, effective, expected_ignored) in [
            ("", DEFAULT_FILTER, &[][..]),
            (" , ", DEFAULT_FILTER, &[]),
            ("warn, isomer::access=debug", "isomer::access=debug,warn", &[]),
            ("!!", DEFAULT_FILTER, &["!!"]),
            ("warning", DEFAULT_FILTER, &["warning"]),
            ("0,a,WARN", "warn", &["0", "a"]),
            ("isomer=loud,debug", "debug", &["isomer=loud"]),
        ] {
            let (filter, ignored) = filter(directives);
            let expected = EnvFilter::builder().parse(effective).expect("valid");
            assert_eq!(filter.to_string(), expected.to_string(), "{directives}");
            assert_eq!(ignored, expected_ignored, "{directives}");
        }
    }
}
