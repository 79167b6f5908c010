//! The worlds that this host runs, and how a component says which one it is of.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::LoadError;

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
    pub fn interface(self) -> &'static str {
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

    /// Reads world and version off the names of a component's exports.
    pub(crate) fn of_exports(exports: &[String]) -> Result<(Self, String), LoadError> {
        let wrong = || LoadError::World {
            found: if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") },
            expected: Self::ALL
                .map(|world| format!("{}@{}", world.interface(), world.versions().join("|")))
                .join(", "),
        };
        let [export] = exports else { return Err(wrong()) };
        let (interface, version) = export.split_once('@').ok_or_else(wrong)?;
        let world = Self::ALL.into_iter().find(|world| world.interface() == interface).ok_or_else(wrong)?;
        if !world.versions().contains(&version) {
            return Err(LoadError::Version {
                world,
                found: version.to_owned(),
                supported: world.versions().join(", "),
            });
        }
        Ok((world, version.to_owned()))
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
