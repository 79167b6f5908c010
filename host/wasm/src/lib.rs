//! The sandbox: everything Isomer knows about running a WebAssembly component, and the only crate
//! that names wasmtime.
//!
//! Phases are types. A [`Sandbox`] is the engine and the linker, made once. [`Sandbox::check`] reads the bytes
//! of a guest over; [`Sandbox::compile`] turns them into a [`Component`], compiled in a process of its own
//! where there is one ([`Compiler`]), [`Sandbox::load`] in this process; [`Sandbox::load_compiled`] takes it from
//! the AOT cache. It is ready to be instantiated. A world's handle
//! ([`adapter::Adapter`], [`template::Resolver`], [`classifier::Classifier`]) makes calls: each has
//! an instance, a memory, a deadline and a log of its own, and leaves nothing behind.
//!
//! What a guest answers is checked here before the host uses it ([`validate`]), and leaves as plain
//! Rust types.

#![deny(unsafe_code)] // two exceptions, with their reasons: `cache` and `compile_process`

pub mod adapter;
mod cache;
mod call;
pub mod classifier;
mod compile;
mod compile_process;
mod compile_result;
mod compiler;
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
mod precheck;
mod sandbox;
mod settings;
mod state;
pub mod template;
mod unavailable;
pub mod validate;
mod world;

pub use cache::{AotCache, is_unfinished};
pub use compile_process::{COMPILE_COMMAND, run_compile_process};
pub use compiler::{CompileError, CompileLimits, Compiler};
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
