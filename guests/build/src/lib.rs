//! Builds guests of this workspace as components. Used by the host's build script for first-party
//! guests and by tests and benches for theirs.
//!
//! The build runs a second cargo inside the first one. It has a target directory of its own, because each
//! cargo locks its target directory while it runs, and it drops the flags that the outer cargo passes down:
//! they are meant for the host's target.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    env, fs, io,
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
    /// The first-party guests can't be listed.
    #[error("the directory of the first-party guests can't be read")]
    List(#[source] io::Error),
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
/// All first-party guests are built with them. Cargo unites the features of shared dependencies over the
/// packages of one invocation, so another selection would build them, and every guest, once more.
///
/// # Errors
/// If cargo can't be run or fails; the message has its output.
pub fn build(workspace: &Path, target_dir: &Path, packages: &[&str]) -> Result<Vec<PathBuf>, BuildError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace).args(["build", "--target", TARGET, "--profile", PROFILE, "--target-dir"]);
    command.arg(target_dir);
    let mut selected: BTreeSet<String> = packages.iter().map(|&package| package.to_owned()).collect();
    selected.extend(first_party(workspace).map_err(BuildError::List)?);
    for package in &selected {
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

/// The packages in `guests` that are components.
fn first_party(workspace: &Path) -> io::Result<Vec<String>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(workspace.join("guests"))? {
        let Ok(manifest) = fs::read_to_string(entry?.path().join("Cargo.toml")) else { continue };
        // The template for new guests is no member of the workspace: its manifest has a `[workspace]` table.
        if manifest.contains("cdylib") && !manifest.contains("[workspace]") {
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
            packages.extend(name.map(str::to_owned));
        }
    }
    Ok(packages)
}

/// The directory in which guests are built: beside the profiles of the host's own target directory,
/// found from a file or directory somewhere below one of them (`OUT_DIR`, or a test's program).
#[must_use]
pub fn target_dir(below: &Path) -> PathBuf {
    // Cargo marks the root of every target directory.
    let root = below.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    root.unwrap_or(below).join("guests")
}
