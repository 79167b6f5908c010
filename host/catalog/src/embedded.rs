//! First-party guests: rows and components that come inside the binary.

use serde_json::Value;
use wasm::{Digest, LoadError, Sandbox};

/// A row of `guests/first-party.yaml` with its component.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) component: &'static str,
    pub(crate) world: &'static str,
    pub(crate) trusted: bool,
    pub(crate) pooled: bool,
    settings: &'static str,
    digest: &'static str,
    pub(crate) bytes: &'static [u8],
}

/// Every first-party row, in the order in which operators see them first.
pub(crate) const ROWS: &[Row] = include!(concat!(env!("OUT_DIR"), "/first_party.rs"));

impl Row {
    pub(crate) fn settings(&self) -> Value {
        // Written by the build script, so it parses.
        serde_json::from_str(self.settings).unwrap_or_default()
    }

    pub(crate) fn digest(&self) -> &'static str {
        self.digest
    }
}

/// Whether a guest of this name comes with this binary: a start makes it where it is missing.
pub(crate) fn is_first_party(name: &str) -> bool {
    ROWS.iter().any(|row| row.name == name)
}

/// The bytes of a first-party component, if `digest` is one of this binary's.
pub(crate) fn bytes(digest: &Digest) -> Option<&'static [u8]> {
    let digest = digest.to_string();
    ROWS.iter().find(|row| row.digest == digest).map(|row| row.bytes)
}

/// Compiles every first-party component into the sandbox's AOT cache; returns the names of their
/// guests with digests. For images: a server that finds the cache filled compiles nothing.
///
/// # Errors
/// If a component can't be compiled, which is a fault of this binary.
pub fn precompile(sandbox: &Sandbox) -> Result<Vec<(&'static str, Digest)>, LoadError> {
    let mut compiled = Vec::new();
    for row in ROWS {
        compiled.push((row.name, sandbox.load(row.bytes)?.digest()));
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_bytes_that_its_digest_says() {
        for row in ROWS {
            assert_eq!(Digest::of(row.bytes).to_string(), row.digest, "{}", row.name);
        }
    }
}
