//! Why the catalog did not do what was asked.

use std::io;

use store::{CommitError, StoreError};
use wasm::{CompileError, Failure, FunctionError, LoadError, Report, SettingsError};

use crate::{findings::Conformance, runtimes::FALLBACK};

/// Why the catalog did not do what was asked. What answered before answers still.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No guest has that name.
    #[error("guest not found")]
    NoGuest,
    /// The guest has no such release.
    #[error("release not found")]
    NoRelease,
    /// Two releases begin with the digits given.
    #[error("more than one release begins with these digits; give more of them")]
    AmbiguousRelease,
    /// Not a name for a guest.
    #[error("a guest's name is [a-z0-9][a-z0-9-]{{0,63}}")]
    BadName,
    /// The bytes are no guest.
    #[error(transparent)]
    Unloadable(#[from] LoadError),
    /// The component is of another world than the guest.
    #[error(
        "{guest} is a guest of world {has}, the component is of world {pushed}: \
         a guest keeps the world of its first activation; push the component under another name"
    )]
    OtherWorld {
        /// Name of the guest.
        guest: String,
        /// World of the guest.
        has: String,
        /// World of the component.
        pushed: String,
    },
    /// The component failed its probes.
    #[error("the release is unfit: {reason}")]
    Unfit {
        /// The first probe that failed, and why.
        reason: String,
        /// All of them.
        conformance: Box<Conformance>,
    },
    /// A probe got no answer in time, and again none when it was repeated.
    #[error("{reason}, and again when it was repeated: the machine may be too busy; try again later")]
    ProbesTimedOut {
        /// The probe, and what it waited for.
        reason: String,
    },
    /// A way back that no operator chose would rename the guest's runtimes.
    #[error("it answers for other runtimes than the guest does: only an operator can go back to it")]
    OtherRuntimes,
    /// The runtime belongs to another guest.
    #[error(
        "the runtime name `{name}` belongs to guest {guest}, in service or not: push the component as a release of that \
         guest, or give it another name"
    )]
    NameTaken {
        /// The runtime's name or alias.
        name: String,
        /// Name of that guest.
        guest: String,
    },
    /// Not settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A change to the row with which its active release would be unfit.
    #[error("refused: {reason}")]
    RowRefused {
        /// The first probe that fails, and why.
        reason: String,
    },
    /// Only releases that are out of service can be deleted.
    #[error("the release is active; activate another one first")]
    ReleaseActive,
    /// The next start would make the guest again.
    #[error("{0} is a first-party guest, which can't be deleted; disable it: isomer guest disable {0}")]
    FirstParty(String),
    /// The guest answers for the runtime that unknown ones are replaced by.
    #[error("the guest answers for `{FALLBACK}`, the runtime that the server falls back to")]
    AnswersForFallback,
    /// A workspace has a runtime that the guest answers for.
    #[error("the guest answers for the runtime `{runtime}`, which the workspace `{workspace}` has")]
    InUse {
        /// The runtime.
        runtime: String,
        /// Name of one such workspace.
        workspace: String,
    },
    /// There is nothing to go back to.
    #[error("no earlier release to roll back to")]
    NoPreviousRelease,
    /// The guest was changed by another request or another server meanwhile.
    #[error("the guest was changed meanwhile; look at it again")]
    Superseded,
    /// Nothing answers under that name.
    #[error("no release of this guest is in service")]
    NotInService,
    /// The function or its input is wrong.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// The guest failed.
    #[error("{failure}")]
    Failed {
        /// How.
        failure: Box<Failure>,
        /// Digest of the release that failed.
        release: String,
        /// What the call took, and what the guest wrote.
        report: Box<Report>,
    },
    /// The database failed.
    #[error("the change could not be stored")]
    Store(#[from] StoreError),
    /// The database did not say whether it stored the change.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
    /// The bytes of a release aren't what they were.
    #[error("the stored component is missing or damaged; push it again")]
    ComponentMissing,
    /// The disk failed.
    #[error("the directory of components can't be read or written")]
    Disk(#[source] io::Error),
    /// Too many components wait to be compiled.
    #[error("too many components wait to be compiled; try again later")]
    CompilerBusy,
    /// Nothing is compiled any more.
    #[error("the server stops, and compiles nothing any more")]
    Stopping,
    /// No process can be started that compiles.
    #[error("{0}")]
    NoCompiler(CompileError),
    /// A background thread died.
    #[error("loading the component failed in an unforeseen way")]
    Crashed,
}

impl From<io::Error> for CatalogError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Self::ComponentMissing,
            _ => Self::Disk(error),
        }
    }
}

impl From<CompileError> for CatalogError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Load(error) => Self::Unloadable(error),
            error @ CompileError::NoProcess(_) => Self::NoCompiler(error),
        }
    }
}

impl From<CommitError> for CatalogError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Superseded,
            CommitError::Store(error) => Self::Store(error),
            error => Self::Commit(error),
        }
    }
}

impl CatalogError {
    /// Is it the host that failed, for now? Then the same may succeed later.
    pub(crate) fn is_the_hosts_fault(&self) -> bool {
        match self {
            Self::Failed { failure, .. } => {
                matches!(**failure, Failure::Busy { .. } | Failure::Timeout { .. })
            }
            Self::ProbesTimedOut { .. }
            | Self::Store(_)
            | Self::Commit(_)
            | Self::Disk(_)
            | Self::CompilerBusy
            | Self::NoCompiler(_)
            | Self::Crashed => true,
            _ => false,
        }
    }

    /// Is a release unfit because of this, wherever it is tried? If not, the host failed, and a
    /// release should not be blamed.
    pub(crate) fn is_the_guests_fault(&self) -> bool {
        match self {
            Self::Unloadable(_)
            | Self::OtherWorld { .. }
            | Self::Unfit { .. }
            | Self::NameTaken { .. }
            | Self::Settings(_) => true,
            Self::Failed { failure, .. } => {
                !matches!(**failure, Failure::Busy { .. } | Failure::Timeout { .. })
            }
            Self::NoGuest
            | Self::ProbesTimedOut { .. }
            | Self::OtherRuntimes
            | Self::NoRelease
            | Self::AmbiguousRelease
            | Self::BadName
            | Self::RowRefused { .. }
            | Self::ReleaseActive
            | Self::FirstParty(_)
            | Self::AnswersForFallback
            | Self::InUse { .. }
            | Self::NoPreviousRelease
            | Self::Superseded
            | Self::NotInService
            | Self::Function(_)
            | Self::Store(_)
            | Self::Commit(_)
            | Self::ComponentMissing
            | Self::Disk(_)
            | Self::CompilerBusy
            | Self::Stopping
            | Self::NoCompiler(_)
            | Self::Crashed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_host_could_not_do_is_tried_again_and_blames_no_release() {
        let failed = |failure| CatalogError::Failed {
            failure: Box::new(failure),
            release: String::new(),
            report: Box::default(),
        };
        let limit = Duration::from_secs(2);
        let hosts = [
            failed(Failure::Busy { wanted: "slot", waited: limit }),
            failed(Failure::Timeout { limit, backtrace: Vec::new() }),
            CatalogError::ProbesTimedOut { reason: "describe".to_owned() },
            CatalogError::CompilerBusy,
            CatalogError::NoCompiler(CompileError::NoProcess("none".to_owned())),
        ];
        assert!(hosts.iter().all(|error| error.is_the_hosts_fault() && !error.is_the_guests_fault()));
        let guests = [
            failed(Failure::Memory { limit: "64 MiB".to_owned() }),
            CatalogError::Unloadable(LoadError::NotWasm),
        ];
        assert!(guests.iter().all(|error| !error.is_the_hosts_fault() && error.is_the_guests_fault()));
        // Lost bytes come back by a push only.
        assert!(!CatalogError::ComponentMissing.is_the_hosts_fault());
    }
}
