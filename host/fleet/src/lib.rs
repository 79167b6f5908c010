//! The fleet: every workspace, what is wanted of it, what was seen of it, and who acts.
//!
//! [`Fleet`] is the door. People's wants come in by its functions (`create`, `populate`, `edit`,
//! `lifecycle`, `remove`), each one change; `machine` says what an input makes of a row and `decide` what to do next,
//! both without touching anything; the `reconciler` does it, through a [`Backend`]. Reading needs no
//! database: the [`Directory`] is an image in memory, which `mirror` keeps in step.

#![forbid(unsafe_code)]

mod agents;
pub mod backend;
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
mod histories;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod testing;

pub use agents::{Metadata, Registered, Registration, Report};
pub use backend::Backend;
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
pub use remove::Removal;
pub use runtimes::{Facts, Runtimes};
pub use templates::{InvalidTemplate, Templates};
