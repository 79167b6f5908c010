//! Messages to agents: checked, brought into one form, delivered, and written down.
//!
//! [`Traffic::deliver`] is the way of every message, whoever sends it. How it reaches its agent depends
//! on who runs that: one that fetches its messages finds them as rows of activity, one that nobody runs
//! is answered for by its runtime's adapter. Nothing here looks into the database on the way.

#![forbid(unsafe_code)]

mod activity;
mod caller;
mod deliver;
mod error;
mod poll;
mod request;
mod synthetic;

pub use activity::Entry;
pub use caller::Caller;
pub use deliver::{Call, Reply, Traffic};
pub use error::DeliveryError;
pub use request::{Malformed, Request};
