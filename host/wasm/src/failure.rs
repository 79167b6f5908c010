//! How loading and calling a guest can fail, one type per stage.

use std::{fmt, time::Duration};

use local_files::private::PrivateError;
use serde::Serialize;
use types::{clip, printable};

use crate::{World, limits::MESSAGE_BYTES};

/// Bytes that a message repeats of names in a component.
pub(crate) const NAMES: usize = 1 << 10;

/// The sandbox itself could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No engine, neither with the large address-space reservation nor with the small one.
    #[error("the WebAssembly engine could not be set up: {0}")]
    Engine(String),
    /// The AOT cache's directory can't be used.
    #[error("the cache of compiled guests at {path} can't be used")]
    Cache {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: PrivateError,
    },
    /// The thread that ends calls at their deadline could not be started.
    #[error("the deadline thread could not be started")]
    Ticker(#[source] std::io::Error),
}

/// Why bytes are not a guest that this host can run. Written for the guest's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Larger than [`crate::Limits::component_bytes`].
    #[error(
        "the file has {bytes} bytes; a guest may have {limit}. Build with `--release` and strip debug information"
    )]
    TooLarge {
        /// Size of the file.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Not WebAssembly at all.
    #[error("this is not a WebAssembly file (it doesn't begin with `\\0asm`)")]
    NotWasm,
    /// A core module.
    #[error("this is a core WebAssembly module, not a component: build with `--target wasm32-wasip2`")]
    CoreModule,
    /// It has more of something than the compiler handles in time: see the limits in `precheck`.
    #[error("{at} has {found} {what}; {limit} are allowed")]
    TooComplex {
        /// The component, or a module or function in it.
        at: String,
        /// What it has too much of.
        what: &'static str,
        /// How much it has at least: counting ends at the limit.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The process that compiled it died of it.
    #[error(
        "compiling the component {how}. It is compiled again only when somebody pushes it: isomer guest push"
    )]
    CompilerDied {
        /// What happened to the process.
        how: String,
    },
    /// The engine can't compile it: truncated, malformed or of an unknown proposal.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It wants what no guest gets.
    #[error(
        "the component imports {}, which no guest is given. Remove the dependency that needs it",
        clip(names.join(", "), NAMES)
    )]
    Imports {
        /// Names of the imports, with versions.
        names: Vec<String>,
    },
    /// It isn't of a world that we know.
    #[error("a guest exports exactly one of {expected}; this one exports {found}")]
    World {
        /// What the component exports.
        found: String,
        /// What it could export.
        expected: String,
    },
    /// A world that we know, in a version that we don't.
    #[error("the component is built for {world} {found}; this host runs {supported}")]
    Version {
        /// World of the component.
        world: World,
        /// Version in the component.
        found: String,
        /// Versions that this host runs.
        supported: String,
    },
    /// An import has the right name and the wrong version or types.
    #[error("the component's imports don't fit what a guest is given (WASI 0.2): {0}")]
    ImportTypes(String),
    /// The export has the right name and the wrong functions.
    #[error("the component's export doesn't have the world's types: {0}")]
    Shape(String),
}

/// Output of a guest that breaks a rule of the host. The host does not use any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct InvalidOutput {
    /// Which part of the answer: `plan.env[3].name`.
    pub at: String,
    /// What is wrong with it, and what is allowed.
    pub why: String,
}

impl InvalidOutput {
    /// Of both texts, which may repeat what the guest made, the beginning is kept.
    pub(crate) fn new(at: impl Into<String>, why: impl Into<String>) -> Self {
        Self { at: one_line(&clip(at.into(), NAMES)), why: one_line(&clip(why.into(), MESSAGE_BYTES)) }
    }
}

/// A text that may repeat what a guest made, for an error or a log: on one line, of bounded size.
pub(crate) fn one_line(text: &str) -> String {
    // A character becomes ten at most.
    clip(printable(text).into_owned(), 2 * MESSAGE_BYTES)
}

/// An error of the engine, which may repeat names in a component.
pub(crate) fn cause(error: &wasmtime::Error) -> String {
    one_line(&clip(format!("{error:#}"), MESSAGE_BYTES))
}

/// How a call ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest stopped itself: panic, division by zero, stack exhausted, exit.
    #[error("the guest trapped: {message}")]
    Trap {
        /// The trap and, for a panic, what the guest wrote about it.
        message: String,
        /// Guest frames, innermost first.
        backtrace: Vec<String>,
    },
    /// The guest was still busy at its deadline.
    #[error("the guest gave no answer within {limit:?}")]
    Timeout {
        /// The deadline it missed.
        limit: Duration,
        /// Guest frames at that moment, innermost first, where it was computing.
        backtrace: Vec<String>,
    },
    /// The guest wanted more memory, or more table elements, than it may have.
    #[error("the guest wanted more than its {limit}")]
    Memory {
        /// The limit it met, as text with its unit.
        limit: String,
    },
    /// The answer broke a rule.
    #[error("the guest's answer is refused: {0}")]
    InvalidOutput(#[from] InvalidOutput),
    /// No slot was free in time. Not the guest's fault.
    #[error("no {wanted} was free within {waited:?}")]
    Busy {
        /// What the call waited for: a slot, or room for its answer.
        wanted: &'static str,
        /// How long.
        waited: Duration,
    },
}

/// Kinds of [`Failure`], as metrics and release rows name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// [`Failure::Trap`]
    Trap,
    /// [`Failure::Timeout`]
    Timeout,
    /// [`Failure::Memory`]
    Memory,
    /// [`Failure::InvalidOutput`]; `refused` on the wire.
    #[serde(rename = "refused")]
    InvalidOutput,
    /// [`Failure::Busy`]
    Busy,
}

impl FailureKind {
    /// Every kind, in the order in which reports list them.
    pub const ALL: [Self; 5] = [Self::Trap, Self::Timeout, Self::Memory, Self::InvalidOutput, Self::Busy];

    /// The name used in labels and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::InvalidOutput => "refused",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Failure {
    /// Which kind this is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Trap { .. } => FailureKind::Trap,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Memory { .. } => FailureKind::Memory,
            Self::InvalidOutput(_) => FailureKind::InvalidOutput,
            Self::Busy { .. } => FailureKind::Busy,
        }
    }

    /// Guest frames, where the failure has any.
    #[must_use]
    pub fn backtrace(&self) -> &[String] {
        match self {
            Self::Trap { backtrace, .. } | Self::Timeout { backtrace, .. } => backtrace,
            Self::Memory { .. } | Self::InvalidOutput(_) | Self::Busy { .. } => &[],
        }
    }
}
