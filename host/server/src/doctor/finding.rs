//! One line of what `isomer doctor` prints.

use std::fmt;

use serde::Serialize;

/// How much a finding matters. The worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Others may do something that they should not.
    Open,
    /// A choice to know about.
    Note,
    /// As it should be.
    Ok,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Open => "open",
            Self::Note => "note",
            Self::Ok => "ok",
        })
    }
}

/// What was found, and for what is open also what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// A setting's variable, or a word for what was looked at.
    pub(super) subject: &'static str,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn open(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Open, subject, text: text.into() }
    }

    pub(super) fn note(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Note, subject, text: text.into() }
    }

    pub(super) fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject, text: text.into() }
    }
}
