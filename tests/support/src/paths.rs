//! Paths, derived from that of the running test program: `TARGET/PROFILE/deps/NAME-HASH`.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The directory with the workspace's `Cargo.toml`.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program under test, which cargo builds with the tests.
#[must_use]
pub fn program_file() -> PathBuf {
    let test = env::current_exe().expect("the process has a file");
    test.ancestors().nth(2).expect("tests are two levels below their profile").join("isomer-under-test")
}

/// A directory that is kept between runs, for files that are expensive to make.
#[must_use]
pub fn scratch() -> PathBuf {
    let test = env::current_exe().expect("the process has a file");
    // Cargo marks the root of every target directory.
    let root = test.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    root.expect("tests run from a target directory").join("tmp")
}

/// Compiled guests, shared by the servers of all tests.
#[must_use]
pub fn compiled_guests() -> PathBuf {
    scratch().join("compiled-guests")
}
