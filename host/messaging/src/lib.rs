//! Messages to agents (A2A): checked, normalized, delivered, and recorded as activity.
//!
//! [`Messaging::deliver`] is the way of every message. How the message reaches its agent depends on the
//! workspace: `poll` stores it as a row of activity for the agent to fetch, `synthetic` lets the runtime's
//! adapter answer, and `push` calls the agent's URL. A message to a busy agent is enqueued and sent when
//! the agent has capacity (`queue`). Nothing here reads the database on the way, except for messages that
//! have to outlive the process.

#![forbid(unsafe_code)]

mod activity;
mod background;
mod caller;
mod deliver;
mod error;
mod limits;
mod pending;
mod poll;
mod push;
mod queries;
mod queue;
mod request;
mod synthetic;

pub use activity::Entry;
pub use caller::Caller;
pub use deliver::{Messaging, Reply, SendRequest};
pub use error::{DeliveryError, LogError};
pub use limits::{ActivityRetention, Limits};
pub use queries::{ActivityError, ActivityQuery, Reader, Report, ReportError};
pub use request::{Malformed, Request};
