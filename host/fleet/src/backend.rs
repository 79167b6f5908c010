//! What runs containers, as the reconciler needs it. An implementation keeps nothing in memory that it
//! couldn't find again: the engine, asked by name and label, is the truth.
//!
//! Rules for whoever implements this:
//! - Names are given by the caller and are the same each time; nothing is created twice. "Exists
//!   already" and "is gone already" are successes.
//! - What couldn't be found out is [`Seen::Unknown`] or [`BackendError::Unreachable`], never a guess.
//! - The caller sets a deadline and may drop a future at any point; what was begun is found on the next look.

use async_trait::async_trait;
use uuid::Uuid;

/// What the backend says of a workspace's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It runs.
    Running {
        /// The attempt that it was started for, by its label.
        attempt: i32,
        /// Where the platform reaches it.
        url: Option<String>,
    },
    /// It certainly doesn't run.
    Gone,
    /// The backend could not event, for this reason: for people, without addresses or paths.
    Unknown(String),
}

/// A container to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The workspace.
    pub workspace: Uuid,
    /// Its attempt, for the container's label.
    pub attempt: i32,
    /// Its name, see [`container_name`].
    pub name: String,
    /// What runs in it.
    pub runtime: String,
    /// Base name of its image.
    pub image_base: String,
    /// 1 to 4.
    pub tier: i32,
    /// Variables for it, in order of their names.
    pub env: Vec<(String, String)>,
}

/// A container that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Its name.
    pub name: String,
    /// Its workspace, by its label.
    pub workspace: Uuid,
    /// The attempt, by its label.
    pub attempt: i32,
}

/// What a command in a container came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit status.
    pub status: i64,
    /// What it wrote, standard output and error as they came.
    pub output: Vec<u8>,
}

/// Why a backend couldn't do something.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// It can't be asked right now. Trying later makes sense.
    #[error("the backend can't be reached: {reason}")]
    Unreachable {
        /// In words for people, without addresses or paths.
        reason: String,
    },
    /// It says no, and will say so again.
    #[error("the backend refused: {reason}")]
    Refused {
        /// In words for people, without addresses or paths.
        reason: String,
    },
    /// There is no such container, or no such file in it.
    #[error("not found")]
    NotFound,
}

/// What runs containers.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Sees to it that the container runs. One of the same attempt that runs is adopted; any other of
    /// that name is replaced. Returns where the platform reaches it.
    async fn ensure(&self, spec: &ContainerSpec) -> Result<Option<String>, BackendError>;

    /// Looks whether a workspace's container runs.
    async fn observe(&self, workspace: Uuid) -> Seen;

    /// Sees to it that the container doesn't run. Volumes stay.
    async fn stop(&self, workspace: Uuid) -> Result<(), BackendError>;

    /// Sees to it that the container is gone, and what only it needed; `volumes` too where it says so.
    async fn remove(&self, workspace: Uuid, volumes: bool) -> Result<(), BackendError>;

    /// The last lines that it wrote.
    async fn logs(&self, workspace: Uuid, lines: usize) -> Result<Vec<u8>, BackendError>;

    /// Runs a command in it and waits for its end.
    async fn exec(&self, workspace: Uuid, command: &[String]) -> Result<ExecOutput, BackendError>;

    /// Unpacks a tar archive at a path in it.
    async fn copy_in(&self, workspace: Uuid, path: &str, tar: Vec<u8>) -> Result<(), BackendError>;

    /// A path in it as tar archive.
    async fn copy_out(&self, workspace: Uuid, path: &str) -> Result<Vec<u8>, BackendError>;

    /// Every container that is ours, by label.
    async fn list_owned(&self) -> Result<Vec<Owned>, BackendError>;
}

/// Name of a workspace's container: `ws-` and the first 12 characters of its id.
#[must_use]
pub fn container_name(workspace: Uuid) -> String {
    let id = workspace.hyphenated().to_string();
    format!("ws-{}", id.get(..12).unwrap_or(&id))
}
