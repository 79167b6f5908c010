//! A workspace as far as the plan of its start needs it.

use types::WorkspaceId;

/// What of a workspace's row decides about its container.
#[derive(Debug, Clone, Copy)]
pub struct Workspace<'a> {
    /// Decides about all names.
    pub id: WorkspaceId,
    /// 1 is the first start ever.
    pub attempt: i32,
    /// As people call it.
    pub name: &'a str,
    /// What it is for.
    pub role: Option<&'a str>,
    /// 1 to 4; any other counts as 2.
    pub tier: i32,
    /// Name of the runtime.
    pub runtime: &'a str,
    /// The workspace above it.
    pub parent_id: Option<WorkspaceId>,
    /// Model that it was made with.
    pub model: Option<&'a str>,
    /// Where it works.
    pub directory: Directory<'a>,
}

impl Workspace<'_> {
    pub(crate) fn is_first_attempt(&self) -> bool {
        self.attempt <= 1
    }
}

/// Where a workspace works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory<'a> {
    /// In a volume of its own.
    Volume,
    /// In a directory of the host.
    Host {
        /// Absolute.
        path: &'a str,
        /// The agent can't write there.
        read_only: bool,
    },
}
