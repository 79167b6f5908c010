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
mod claimed;
mod deliver;
mod delivery;
mod error;
mod first_answer;
mod headers;
mod held_claim;
mod in_flight;
mod limits;
mod own_lease;
mod pending;
mod poll;
mod push;
mod queries;
mod queue;
mod recent;
mod relay;
mod reply;
mod request;
mod same_message;
mod stopping;
mod stream;
mod synthetic;

use std::sync::Arc;

use catalog::Catalog;
use fleet::Fleet;
use net::{AgentAuthorities, AgentClient};

pub use activity::Entry;
pub use caller::{Caller, Credential};
pub use deliver::SendRequest;
pub use delivery::Answer;
pub use error::{DeliveryError, LogError};
pub use headers::MessageHeaders;
pub use limits::{ActivityRetention, Limits};
pub use queries::{ActivityError, ActivityList, ActivityQuery, NextRows, Reader, Report, ReportError};
pub use reply::Reply;
pub use request::{Malformed, Request};
pub use store::queue::Room as QueueRoom;
pub use stream::{AgentStream, StreamBroken};

use crate::{
    claimed::Claimed, in_flight::InFlight, own_lease::OwnLease, pending::PendingIndex, recent::Recent,
    stopping::Stopping,
};

/// Delivers messages. Cheap to clone.
#[derive(Clone)]
pub struct Messaging {
    fleet: Fleet,
    catalog: Catalog,
    agents: AgentClient,
    pending: Arc<PendingIndex>,
    running: Arc<Claimed>,
    stopping: Stopping,
    recent: Arc<Recent>,
    in_flight: Arc<InFlight>,
    lease: Arc<OwnLease>,
    limits: Limits,
}

impl Messaging {
    /// Messages go to the workspaces of this fleet; adapters of this catalog translate messages, and answer
    /// for synthetic workspaces. Agents' certificates may be signed by these authorities, besides the system's.
    #[must_use]
    pub fn new(fleet: Fleet, catalog: Catalog, limits: Limits, authorities: AgentAuthorities) -> Self {
        let pending = Arc::<PendingIndex>::default();
        fleet.observe_presence(Arc::clone(&pending) as _);
        let in_flight = Arc::<InFlight>::default();
        fleet.state().hub().observe(Arc::clone(&in_flight) as _);
        let agents = AgentClient::new(fleet.addresses().clone(), authorities, limits.header_timeout);
        let (running, stopping) = (Arc::default(), Stopping::default());
        let (recent, lease) = (Arc::default(), Arc::default());
        Self { fleet, catalog, agents, pending, running, stopping, recent, in_flight, lease, limits }
    }
}
