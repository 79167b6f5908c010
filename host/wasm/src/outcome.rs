//! What a call came to: the checked answer or the failure, and a report with the lines that the guest wrote.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// What a call came to, and what it took.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The answer, checked; or why there is none.
    pub result: Result<T, Failure>,
    /// What it took, either way.
    pub report: Report,
}

/// What a call took.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// From the free slot to the checked answer.
    pub elapsed: Duration,
    /// Linear memory at its largest, bytes.
    pub peak_memory: usize,
    /// What the guest wrote, in order.
    pub log: Vec<LogLine>,
    /// Bytes of log that went beyond the limit and were dropped.
    pub log_dropped: usize,
}

/// Where a guest wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A line that a guest wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where to.
    pub stream: Stream,
    /// The line, without its end.
    pub text: String,
}

impl<T> Outcome<T> {
    /// Goes on with the answer, if there is one.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome { result: self.result.map(f), report: self.report }
    }

    pub(crate) fn never_ran(failure: Failure) -> Self {
        Self { result: Err(failure), report: Report::default() }
    }
}
