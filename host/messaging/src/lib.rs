//! Messages to agents: checked, brought into one form, delivered, and written down.
//!
//! [`Messaging::deliver`] is the way of every message, whoever sends it. How it reaches its agent depends
//! on who runs that: one that fetches its messages finds them as rows of activity, one that nobody runs
//! is answered for by its runtime's adapter, and every other one is called where it says it is. Nothing
//! here looks into the database on the way, except for messages that have to outlive the process.

#![forbid(unsafe_code)]

mod activity;
mod agent;
mod by_url;
mod caller;
mod deliver;
mod error;
mod limits;
mod poll;
mod queries;
mod queue;
mod request;
mod synthetic;

pub use activity::Entry;
pub use caller::Caller;
pub use deliver::{Call, Messaging, Reply};
pub use error::DeliveryError;
pub use limits::Limits;
pub use queries::{ActivityError, ActivityQuery, Reader, Report, ReportError};
pub use request::{Malformed, Request};
