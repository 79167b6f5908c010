//! Where log lines go and what they look like.
//!
//! Lines go to standard error, so that standard output stays free for what a command prints.

use std::io::{self, IsTerminal};
use std::panic;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::log_buffer::LogBuffer;

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
pub struct LogGuard(LogBuffer);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Starts logging for this process. A second call changes nothing.
///
/// # Errors
/// When the thread that writes the lines cannot be started.
pub fn init(format: LogFormat) -> io::Result<LogGuard> {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    let directives = if directives.trim().is_empty() { DEFAULT_FILTER } else { directives.trim() };
    let filter = EnvFilter::builder().parse_lossy(directives);
    let buffer = LogBuffer::start()?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(buffer.clone());
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    match started {
        Ok(()) => flush_before_panics(buffer.clone()),
        Err(error) => tracing::debug!(%error, "logging was already started"),
    }
    Ok(LogGuard(buffer))
}

/// The panic message goes to standard error directly: what was logged before it has to be there first.
fn flush_before_panics(buffer: LogBuffer) {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        buffer.flush();
        print(panic);
    }));
}
