//! What an engine implements. Two traits, because they differ by where the engine is: on this machine,
//! behind SSH, or behind a control plane that runs containers but reaches into none.
//!
//! An implementation keeps nothing in memory that it couldn't find again: the engine, asked by name and
//! label, is the truth. Rules for implementations:
//! - Names are given by the caller and are the same each time; nothing is created twice. "Exists already"
//!   and "is gone already" are successes.
//! - What couldn't be found out is [`Observation::Unknown`] or [`BackendError::Unreachable`], never a guess.
//! - The caller sets a deadline and may drop a future at any point; what was begun is found by the next
//!   observation.

use async_trait::async_trait;
use types::WorkspaceId;

use crate::ContainerSpec;

/// What the backend says of a workspace's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The container runs.
    Running {
        /// The attempt that it was started for, by its label.
        attempt: i32,
        /// URL at which the platform reaches the agent.
        url: Option<String>,
    },
    /// The container certainly doesn't run.
    Absent,
    /// The backend did not answer. The reason is for users, without addresses or paths.
    Unknown(String),
}

/// A container that carries the platform's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedContainer {
    /// As [`container_name`](crate::container_name) gives it.
    pub name: String,
    /// By its label.
    pub workspace: WorkspaceId,
    /// By its label.
    pub attempt: i32,
}

/// What a command in a container came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit status.
    pub status: i64,
    /// Standard output and error in the order of writing.
    pub output: Vec<u8>,
}

/// Why a backend couldn't do something. Reasons are for people, without addresses or paths.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The engine can't be asked right now. Trying later makes sense.
    #[error("the backend can't be reached: {reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// The engine says no, and will say so again.
    #[error("the backend refused: {reason}")]
    Refused {
        /// What the engine objects to.
        reason: String,
    },
    /// There is no such container, or no such file in it.
    #[error("not found")]
    NotFound,
}

/// What runs containers.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Sees to it that the container runs. A running one of the same attempt is adopted; any other of
    /// that name is replaced. Returns the URL at which the platform reaches the agent.
    async fn ensure(&self, spec: &ContainerSpec) -> Result<Option<String>, BackendError>;

    /// Looks whether a workspace's container runs.
    async fn observe(&self, workspace: WorkspaceId) -> Observation;

    /// Sees to it that the container doesn't run. Volumes stay.
    async fn stop(&self, workspace: WorkspaceId) -> Result<(), BackendError>;

    /// Sees to it that the container is gone; with `volumes`, what it stored, too.
    async fn remove(&self, workspace: WorkspaceId, volumes: bool) -> Result<(), BackendError>;

    /// Every container that carries the platform's label.
    async fn list(&self) -> Result<Vec<OwnedContainer>, BackendError>;
}

/// What reaches into a workspace's running container. All of it is [`BackendError::NotFound`] where no
/// container runs.
#[async_trait]
pub trait WorkspaceIo: Send + Sync + 'static {
    /// Runs a command and waits for its end.
    async fn exec(&self, workspace: WorkspaceId, command: &[String]) -> Result<ExecOutput, BackendError>;

    /// The last `lines` lines that the container wrote.
    async fn logs(&self, workspace: WorkspaceId, lines: usize) -> Result<Vec<u8>, BackendError>;

    /// Unpacks a tar archive at an absolute path.
    async fn copy_in(&self, workspace: WorkspaceId, path: &str, tar: Vec<u8>) -> Result<(), BackendError>;

    /// What is at an absolute path, as tar archive.
    async fn copy_out(&self, workspace: WorkspaceId, path: &str) -> Result<Vec<u8>, BackendError>;
}
