//! The worlds that this host runs: their names, versions and functions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a guest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// Knows a runtime: `isomer:adapter/runtime-adapter`.
    Adapter,
    /// Resolves org templates: `isomer:template/template-resolver`.
    Template,
    /// Tells hot from cold plugin changes: `isomer:classifier/reload-classifier`.
    Classifier,
}

/// Why a function can't be called by name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// The world has no such function.
    #[error("a {world} has no function `{name}`; it has {}", known.join(", "))]
    Unknown {
        /// The world asked.
        world: World,
        /// The name given.
        name: String,
        /// The names there are.
        known: &'static [&'static str],
    },
    /// The input doesn't have the function's form.
    #[error("the input of `{name}` doesn't fit: {why}")]
    Input {
        /// The function.
        name: String,
        /// Which field, and what is wrong with it.
        why: String,
    },
}

impl World {
    /// Every world.
    pub const ALL: [Self; 3] = [Self::Adapter, Self::Template, Self::Classifier];

    /// The name used in rows, labels and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Template => "template",
            Self::Classifier => "classifier",
        }
    }

    /// The world of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|world| world.as_str() == name)
    }

    /// The interface that a component of this world exports, without its version.
    #[must_use]
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Adapter => "isomer:adapter/adapter",
            Self::Template => "isomer:template/resolver",
            Self::Classifier => "isomer:classifier/classifier",
        }
    }

    /// Versions of the interface that this host runs, newest first.
    #[must_use]
    pub fn versions(self) -> &'static [&'static str] {
        &["0.1.0"]
    }

    /// The functions that [`crate::Component::call_by_name`] knows.
    #[must_use]
    pub fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Adapter => &[
                "validate-settings",
                "describe",
                "plan",
                "runtime-in-config",
                "on-files-changed",
                "synthetic-reply",
                "to-agent",
            ],
            Self::Template => &["validate-settings", "expand"],
            Self::Classifier => &["validate-settings", "classify"],
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
