//! Builds guests of this workspace as components. Used by the host's build script for first-party
//! guests and by tests and benches for theirs.
//!
//! The build runs a second cargo inside the first one. It has a target directory of its own, because each
//! cargo locks its target directory while it runs, and it drops the flags that the outer cargo passes down:
//! they are meant for the host's target.

#![forbid(unsafe_code)]

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The target that guests are built for.
const TARGET: &str = "wasm32-wasip2";

/// The cargo profile in the workspace's `Cargo.toml`.
const PROFILE: &str = "guest";

/// Variables of the outer cargo that must not reach the inner one.
const OUTER: &[&str] =
    &["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_MAKEFLAGS"];

/// Why guests could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo is missing or can't be run.
    #[error("cargo could not be started")]
    Start(#[source] io::Error),
    /// Cargo failed.
    #[error(
        "building the guests {} failed. If the target is missing: rustup target add {TARGET}\n{stderr}",
        packages.join(", ")
    )]
    Failed {
        /// The packages to build.
        packages: Vec<String>,
        /// Cargo's output.
        stderr: String,
    },
}

/// Builds `packages` of the workspace at `workspace` below `target_dir` and returns the component
/// files, in the same order.
///
/// # Errors
/// If cargo can't be run or fails; the message has its output.
pub fn build(workspace: &Path, target_dir: &Path, packages: &[&str]) -> Result<Vec<PathBuf>, BuildError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace).args(["build", "--target", TARGET, "--profile", PROFILE, "--target-dir"]);
    command.arg(target_dir);
    for package in packages {
        command.args(["--package", package]);
    }
    for variable in OUTER {
        command.env_remove(variable);
    }
    let output = command.output().map_err(BuildError::Start)?;
    if !output.status.success() {
        return Err(BuildError::Failed {
            packages: packages.iter().map(|&package| package.to_owned()).collect(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    let built = target_dir.join(TARGET).join(PROFILE);
    Ok(packages.iter().map(|package| built.join(format!("{}.wasm", package.replace('-', "_")))).collect())
}

/// The directory in which guests are built: beside the profiles of the host's own target directory,
/// found from a file or directory somewhere below one of them (`OUT_DIR`, or a test's program).
#[must_use]
pub fn target_dir(below: &Path) -> PathBuf {
    // Cargo marks the root of every target directory.
    let root = below.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    root.unwrap_or(below).join("guests")
}
