//! Where releases come from, and what is known of one when it arrives.

use store::guests::{Counters, ReleaseRow, ReleaseState};
use wasm::Digest;

/// Where a release came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Inside the binary.
    Embedded,
    /// The admin API.
    Upload,
    /// The watched directory.
    Folder,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Upload => "upload",
            Self::Folder => "folder",
        }
    }
}

/// The row of a release that was just pushed.
pub(crate) fn new_release(guest: &str, digest: &Digest, size: usize, source: Source, by: &str) -> ReleaseRow {
    ReleaseRow {
        guest: guest.to_owned(),
        digest: digest.to_string(),
        version: None,
        size_bytes: size as u64,
        source: source.as_str().to_owned(),
        pushed_by: by.to_owned(),
        pushed_at: store::now(),
        activated_at: None,
        refused_at: None,
        state: ReleaseState::Staged,
        reason: None,
        counters: Counters::default(),
    }
}
