//! The fleet: the desired and the observed state of every workspace, and the reconciler that makes them
//! agree.
//!
//! [`Fleet`] is the entry. Its verbs (`create`, `batch`, `edit`, `lifecycle`, `remove`) are one change each,
//! committed through [`state::State`]. `machine` computes what an input makes of a row and `decide` the next
//! step, both pure; the `reconciler` takes the step through a [`provision::Backend`].

#![forbid(unsafe_code)]

mod agent_states;
mod agents;
mod asked;
mod background;
mod batch;
mod connection;
mod create;
mod decide;
mod delivery_problems;
mod edit;
mod error;
mod event;
mod explain;
mod fleet;
mod host_directories;
mod lifecycle;
mod limits;
mod machine;
mod new_row;
mod presence;
mod provisioning;
mod queries;
mod reconciler;
mod remove;
pub mod rules;
mod runtimes;
mod templates;
mod wait;
mod work_queue;

#[cfg(test)]
mod fake_backend;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod testing;

pub use agent_states::Metadata;
pub use agents::{Acknowledged, RegisterError, Registered, Registration, Report};
pub use batch::{BatchEntry, BatchPlan};
pub use connection::Connection;
pub use create::{CreateError, Created, NewWorkspace};
pub use delivery_problems::DeliveryProblem;
pub use edit::{Edit, EditError, Edited};
pub use error::WorkspaceError;
pub use explain::{Awaiting, Explanation};
pub use fleet::{Fleet, FleetConfig};
pub use host_directories::HostDirectories;
pub use lifecycle::{HibernateError, LifecycleError, Restarted};
pub use limits::Limits;
pub use new_row::NewWorkspaceRow;
pub use presence::PresenceObserver;
pub use provision::Settings as ProvisionSettings;
pub use queries::MissedEvents;
pub use remove::{Removal, RemoveError};
pub use runtimes::{Adapter, RuntimeInfo, Runtimes};
pub use state::{LiveToken, Workspace, WorkspaceIndex};
pub use templates::{InvalidRuntimeTemplate, RuntimeTemplates};
