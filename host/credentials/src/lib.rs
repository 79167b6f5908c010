//! Credentials: tokens (issued, revoked, authenticated), tickets, inbound secrets, and secrets sealed for the
//! database.
//!
//! A credential is durable before its answer, and a revoked token is refused at once on this server, within
//! a second on the others.

#![forbid(unsafe_code)]

mod error;
mod inbound;
mod new_token;
mod sealed;
mod tickets;
mod token_admin;

use std::sync::Arc;

use state::State;
use store::Cipher;

pub use error::{SealError, TokenError};
pub use new_token::{Maker, NewToken};
pub use tickets::{TICKET_LIFE, Ticket, TicketError};

/// The credentials of the deployment. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    state: State,
    cipher: Arc<Cipher>,
    inbound: Arc<inbound::Cache>,
}

impl Credentials {
    /// Credentials kept in `state`, sealed by `cipher` where they must be readable again.
    #[must_use]
    pub fn new(state: State, cipher: Cipher) -> Self {
        Self { state, cipher: Arc::new(cipher), inbound: Arc::default() }
    }
}
