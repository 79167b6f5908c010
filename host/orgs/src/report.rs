//! The report of an import: its mode, and the workspaces that it created, kept and removed.

use types::WorkspaceId;

use crate::{channels::SkippedChannel, plan::Action, template::Requirement};

/// What an import does to existing workspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It leaves them alone.
    Merge,
    /// It removes those that have a name of the template, but no place in it.
    Reconcile,
}

impl Mode {
    /// The word for a mode in requests and events; empty for none.
    #[must_use]
    pub fn word(mode: Option<Self>) -> &'static str {
        match mode {
            None => "",
            Some(Self::Merge) => "merge",
            Some(Self::Reconcile) => "reconcile",
        }
    }
}

/// What an import did, or would do.
#[derive(Debug)]
pub struct Imported {
    /// Name of the organization.
    pub org: String,
    /// The mode of the request.
    pub mode: Option<Mode>,
    /// The template's workspaces, parents first, up to the first invalid one.
    pub workspaces: Vec<ImportedWorkspace>,
    /// Removed workspaces: each root, followed by everything below it.
    pub removed: Vec<RemovedWorkspace>,
    /// Why `workspaces` ends before the template does.
    pub error: Option<String>,
    /// The error with the file, line and column of its cause; none for an inline template.
    pub detail: Option<String>,
    /// Missing settings. Only a dry run goes on despite them.
    pub missing_env: Vec<Requirement>,
    /// What of the template has no effect, with its place.
    pub warnings: Vec<String>,
}

/// A workspace of a template.
#[derive(Debug)]
pub struct ImportedWorkspace {
    /// Its id. In a dry run, workspaces to be created have none that would last.
    pub id: WorkspaceId,
    /// Created or kept.
    pub action: Action,
    /// Its name.
    pub name: String,
    /// Index of its parent among the imported workspaces.
    pub parent: Option<usize>,
    /// 1 to 4.
    pub tier: i32,
    /// Its runtime.
    pub runtime: String,
    /// Types of the channels that it got.
    pub channels: Vec<String>,
    /// Channels that it can't have.
    pub channels_skipped: Vec<SkippedChannel>,
}

/// A workspace that has no place in the template.
#[derive(Debug)]
pub struct RemovedWorkspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Names of its ancestors, the root first.
    pub ancestors: Vec<String>,
}

impl Imported {
    /// Number of created workspaces.
    #[must_use]
    pub fn created(&self) -> usize {
        self.workspaces.iter().filter(|workspace| workspace.action == Action::Create).count()
    }
}
