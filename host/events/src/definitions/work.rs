//! Payloads of schedules, approvals, imports, and of our own notices. Fields in alphabetical order.

use serde::{Deserialize, Serialize};
use types::{TokenId, WorkspaceId};
use uuid::Uuid;

use super::fixed::{Approved, Denied};

/// A schedule fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronExecuted {
    /// The schedule.
    pub schedule_id: Uuid,
    /// Its name.
    pub schedule_name: String,
    /// `ok`, `error` or `stale`.
    pub status: String,
}

/// A schedule was due, but its workspace was busy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronSkipped {
    /// Why.
    pub reason: String,
    /// The schedule.
    pub schedule_id: Uuid,
    /// Its name.
    pub schedule_name: String,
}

/// An agent asks for permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequested {
    /// What it filter to do.
    pub action: String,
    /// The request.
    pub approval_id: Uuid,
    /// Why; empty if it didn't say.
    pub reason: String,
    /// For which task; empty if it didn't say.
    pub task_id: String,
}

/// An agent's request, escalated to its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalEscalated {
    /// What it filter to do.
    pub action: String,
    /// The request.
    pub approval_id: Uuid,
    /// The workspace that asks for approval.
    pub from_workspace_id: WorkspaceId,
    /// Why; empty if it didn't say.
    pub reason: String,
}

/// A request was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalApproved {
    /// The request.
    pub approval_id: Uuid,
    /// Name of the person who decided.
    pub decided_by: String,
    /// Always.
    pub decision: Approved,
}

/// A request was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalDenied {
    /// The request.
    pub approval_id: Uuid,
    /// Name of the person who decided.
    pub decided_by: String,
    /// Always.
    pub decision: Denied,
}

/// A request was decided; the form that runtimes wait for. Its frame repeats these at the top level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalDecided {
    /// The request.
    pub approval_id: Uuid,
    /// Name of the person who decided.
    pub decided_by: String,
    /// How.
    pub status: Decision,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go ahead.
    Approved,
    /// Don't.
    Denied,
}

/// An import of an organization began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportStarted {
    /// The template's folder.
    pub dir: String,
    /// How it treats what is there already.
    pub mode: String,
    /// The organization's name.
    pub name: String,
}

/// An import ended, perhaps with faults of single workspaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCompleted {
    /// The error that ended the creating, or empty.
    pub create_error: String,
    /// Workspaces made.
    pub created_count: i64,
    /// The template's folder.
    pub dir: String,
    /// How long it took.
    pub duration_ms: i64,
    /// How it treats what is there already.
    pub mode: String,
    /// The organization's name.
    pub name: String,
    /// Orphans that could not be removed.
    pub reconcile_errors: i64,
    /// Orphans removed.
    pub reconcile_removed_count: i64,
    /// Workspaces that were there already.
    pub skipped_count: i64,
}

/// An import was given up before it made anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportFailed {
    /// The template's folder.
    pub dir: String,
    /// How long it took.
    pub duration_ms: i64,
    /// How many settings are missing.
    pub missing_count: i64,
    /// How it treats what is there already.
    pub mode: String,
    /// The organization's name.
    pub name: String,
    /// Why.
    pub reason: ImportFailure,
}

/// Why an import was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportFailure {
    /// The names of secrets could not be read.
    SecretsLookupFailed,
    /// Settings are missing.
    MissingEnv,
    /// An internal error.
    Internal,
}

/// A token was made, revoked or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenChanged {
    /// The token's row.
    pub token_id: TokenId,
}

/// A guest's row changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestChanged {
    /// Name of the guest row.
    pub guest: String,
}
