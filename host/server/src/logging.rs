//! Where log lines go and what they look like.
//!
//! Lines go to standard error, so that standard output stays free for what a command prints.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::thread;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

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
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    let directives = if directives.trim().is_empty() { DEFAULT_FILTER } else { directives.trim() };
    let filter = EnvFilter::builder().parse_lossy(directives);
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
    Ok(LogGuard(buffer))
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
