//! Where log lines go and what they look like.
//!
//! Lines go to standard error, so that standard output stays free for what a command prints.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Shape of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event, for people
    Text,
    /// One JSON object per line, for log collectors
    Json,
}

/// What is logged when `RUST_LOG` says nothing. The migrator tells at length what an operator needs to
/// know only when it fails.
const DEFAULT_FILTER: &str = "info,sea_orm_migration=warn";

/// Starts logging for this process. A second call changes nothing.
pub fn init(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { DEFAULT_FILTER } else { wanted.trim() };
    let filter = EnvFilter::builder().parse_lossy(wanted);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was already started");
    }
}
