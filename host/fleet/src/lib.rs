//! The fleet: every workspace with its desired and its observed state, and the reconciler that makes the
//! one the other.
//!
//! [`Fleet`] is the way in. Requests (`create`, `populate`, `edit`, `restart`, `remove` …) are one change
//! each; `machine` says what an input makes of a row and `decide` what to do next, both pure; the
//! `reconciler` does it, through a [`provision::Backend`]. Reads need no database: the [`Directory`] is an
//! index in memory, which `mirror` keeps up to date.

#![forbid(unsafe_code)]

mod agents;
mod bearers;
mod blueprint;
mod connection;
mod create;
mod decide;
mod directory;
mod edit;
mod error;
mod explain;
mod fleet;
mod inbound;
mod lifecycle;
mod limits;
mod machine;
mod messages;
mod mirror;
mod populate;
mod presence;
mod provisioning;
mod queries;
mod reconciler;
mod remove;
pub mod rules;
mod runtimes;
mod secrets;
mod tell;
mod templates;
pub mod tokens;
mod wait;

#[cfg(test)]
mod fake_backend;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod testing;

pub use agents::{Metadata, Registered, Registration, Report};
pub use blueprint::Blueprint;
pub use connection::Connection;
pub use create::{Created, Memory, NewWorkspace};
pub use directory::{Directory, Workspace};
pub use edit::{Edit, Edited};
pub use error::FleetError;
pub use explain::{Awaiting, Explanation};
pub use fleet::{Fleet, Parts};
pub use lifecycle::Restarted;
pub use limits::Limits;
pub use mirror::Mirror;
pub use populate::{Population, Settler};
pub use presence::PresenceObserver;
pub use provision::Settings as ProvisionSettings;
pub use queries::MissedEvents;
pub use remove::Removal;
pub use runtimes::{Adapter, RuntimeInfo, Runtimes};
pub use templates::{InvalidRuntimeTemplate, RuntimeTemplates};
