//! What conformance probes found of a component.

use std::fmt;

use serde::Serialize;
use wasm::{Failure, adapter::Description};

/// What the probes found.
#[derive(Debug, Clone, Serialize)]
pub struct Conformance {
    /// One per probe, in the order in which they ran. Nothing runs after a probe that failed.
    pub findings: Vec<Finding>,
    /// What an adapter says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Largest memory of a probe, bytes.
    pub peak_memory_bytes: usize,
    /// Longest probe, microseconds.
    pub slowest_us: u128,
    /// The host had no slot or no room for a probe, or a probe got no answer in time: that may say nothing of the
    /// component.
    #[serde(skip)]
    pub unsure: Option<Failure>,
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tried.
    pub probe: String,
    /// How it went.
    pub verdict: Verdict,
    /// Advice or an error for the author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Guest frames, where the guest trapped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

/// How a probe went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should.
    Ok,
    /// Usable, but near a limit.
    Warning,
    /// Unfit.
    Failed,
}

impl Conformance {
    /// Why the component is unfit, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let failed = self.findings.iter().find(|finding| finding.verdict == Verdict::Failed)?;
        Some(match &failed.detail {
            Some(detail) => format!("{}: {detail}", failed.probe),
            None => failed.probe.clone(),
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        })
    }
}
