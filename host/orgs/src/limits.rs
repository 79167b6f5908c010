//! Limits of imports.

use std::time::Duration;

/// Files in an uploaded template directory.
pub const UPLOAD_FILES: usize = 4_096;

/// Bytes of an uploaded template directory, as the archive travels.
pub const UPLOAD_BYTES: usize = 32 << 20;

/// Bytes of a JSON request body.
pub const BODY_BYTES: usize = 4 << 20;

/// Bytes of one file of a template.
pub(crate) const FILE_BYTES: u64 = 1 << 20;

/// Rounds in which a resolver may ask for more files.
pub(crate) const ROUNDS: usize = 40;

/// Bytes of all files that a resolver is given.
pub(crate) const RESOLVED_BYTES: usize = 16 << 20;

/// Files that a resolver is given.
pub(crate) const RESOLVED_FILES: usize = 4_096;

/// Bytes of an organization's name: it is stored with each workspace.
pub(crate) const NAME_BYTES: usize = 255;

/// Bytes of a role: every list of workspaces has it. Real ones have some thousands.
pub(crate) const ROLE_BYTES: usize = 64 << 10;

/// Imports at the same time, dry runs included. Each may take 100 MiB: an archive, its files, and what its workspaces are
/// set up with.
pub(crate) const IMPORTS: usize = 2;

/// How long an import may wait for others.
pub(crate) const IMPORT_PATIENCE: Duration = Duration::from_secs(60);

/// How large an organization may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Workspaces of one template, those with `spawning: false` included.
    pub nodes: usize,
    /// Workspaces nested in each other.
    pub levels: usize,
    /// Bytes that all its workspaces are set up with. A text that several of them share counts once.
    pub setup_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 2_000, levels: 64, setup_bytes: 32 << 20 }
    }
}
