//! From what is known of a workspace to the container that runs it.
//!
//! [`plan`] is pure: workspace, what the runtime's adapter answered, secrets and settings become a
//! [`ContainerSpec`], or the reason why the workspace can't start yet ([`NotReady`]). [`Backend`] and
//! [`WorkspaceIo`] are what an engine implements; this crate knows no engine, no database and no clock.

#![forbid(unsafe_code)]

mod backend;
mod config;
mod env;
mod not_ready;
mod plan;
mod settings;
mod spec;
mod tier;
mod workspace;

pub use backend::{Backend, BackendError, ExecOutput, Observation, OwnedContainer, WorkspaceIo};
pub use env::{VISIBLE_ENV, chosen_model, is_ignored_secret};
pub use not_ready::NotReady;
pub use plan::{Request, Runtime, RuntimeTemplate, plan};
pub use settings::{Settings, TierLimits, provision_timeout};
pub use spec::{
    ConfigFile, ConfigSource, ContainerSpec, Image, ImageOrigin, Mount, Network, Privileges, container_name,
};
pub use workspace::{Directory, Workspace};
