//! Limits of imports.

/// Files in an uploaded template directory.
pub const UPLOAD_FILES: usize = 4_096;

/// Bytes of an uploaded template directory, as the archive travels.
pub const UPLOAD_BYTES: usize = 32 << 20;

/// Bytes of a JSON request body.
pub const BODY_BYTES: usize = 4 << 20;

/// Values of an inline template: as many as a resolver may make of files.
pub(crate) const INLINE_VALUES: usize = 200_000;

/// Bytes of files that prompts and schedules of one template are read from. More than what workspaces may be set up with,
/// because blanks are cut off.
pub(crate) const PROMPT_BYTES: usize = 48 << 20;

/// Bytes of a value with its variables replaced.
pub(crate) const EXPANDED_BYTES: usize = 64 << 10;

/// Variables of one `.env` file.
pub(crate) const ENV_VARIABLES: usize = 1_000;

/// Bytes that a part of a workspace's setup takes besides its texts, about: a memory, a plugin, a value of its
/// configuration, a name of a category, a schedule.
pub(crate) const PART_BYTES: usize = 100;

/// Bytes that a sealed variable takes besides its name and value, about.
pub(crate) const VARIABLE_BYTES: usize = 250;

/// Bytes of the name of a template's directory in a request.
pub(crate) const DIRECTORY_BYTES: usize = 1 << 10;

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

/// How large an organization may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Workspaces of one template, those with `spawning: false` included.
    pub nodes: usize,
    /// Workspaces nested in each other.
    pub levels: usize,
    /// Bytes that all its workspaces are set up with. A text that several of them share counts once, and each part has
    /// [`PART_BYTES`] besides.
    pub setup_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 2_000, levels: 64, setup_bytes: 32 << 20 }
    }
}
