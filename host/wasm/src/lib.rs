//! The sandbox: everything Isomer knows about running a WebAssembly component, and the only crate
//! that names wasmtime.
//!
//! Phases are types. A [`Sandbox`] is the engine and the linker, made once. [`Sandbox::load`] turns
//! bytes into a [`Component`]: compiled (or taken from the AOT cache), its world and version read
//! off its export, its imports checked, ready to be instantiated. A world's handle
//! ([`adapter::Adapter`], [`template::Resolver`], [`classifier::Classifier`]) makes calls: each has
//! an instance, a memory, a deadline and a log of its own, and leaves nothing behind.
//!
//! What a guest answers is checked here before the host uses it ([`validate`]), and leaves as plain
//! Rust types.

#![deny(unsafe_code)] // one exception, with its reason: `cache`

pub mod adapter;
mod cache;
mod call;
pub mod classifier;
mod component;
mod digest;
mod engine;
mod exports;
mod failure;
#[cfg(fuzzing)]
mod fuzz_bytes;
#[cfg(fuzzing)]
pub mod fuzzing;
mod imports;
mod instance_pool;
mod json;
mod limits;
mod load;
mod outcome;
mod sandbox;
mod settings;
mod state;
pub mod template;
pub mod validate;
mod world;

pub use cache::AotCache;
pub use component::Component;
pub use digest::{Digest, ParseDigestError};
pub use failure::{Failure, FailureKind, InvalidOutput, LoadError, SandboxError};
pub use limits::Limits;
pub use outcome::{LogLine, Outcome, Report, Stream};
pub use sandbox::{PoolUse, Sandbox};
pub use settings::{Settings, SettingsError};
pub use world::{FunctionError, World};

use serde::{Deserialize, Serialize};

/// Something a guest will not do, written for the person who can change it. An answer, not a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}{message}", at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default())]
pub struct Problem {
    /// Where: a JSON pointer into settings, or `file:line:column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}
