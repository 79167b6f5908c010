//! How much one import may be.

/// Files of an uploaded template directory at most.
pub const UPLOAD_FILES: usize = 4_096;

/// Bytes of an uploaded template directory at most, as it travels.
pub const UPLOAD_BYTES: usize = 32 << 20;

/// Bytes of a body with an import's JSON at most.
pub const BODY_BYTES: usize = 4 << 20;

/// Bytes of one file of a template at most.
pub(crate) const FILE_BYTES: u64 = 1 << 20;

/// How often a resolver may ask for more files.
pub(crate) const ROUNDS: usize = 40;

/// Bytes of files that a resolver may be given.
pub(crate) const RESOLVED_BYTES: usize = 16 << 20;

/// Files that a resolver may be given.
pub(crate) const RESOLVED_FILES: usize = 4_096;

/// How large an organisation may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Workspaces of one template, those that are only drawn too.
    pub nodes: usize,
    /// Workspaces below each other.
    pub levels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 2_000, levels: 64 }
    }
}
