//! Tickets: what a browser shows in place of a bearer, which it can't send with a WebSocket. Each is good once, and for
//! a short time, so that a URL with a ticket in the log of a proxy opens nothing.

use std::time::Duration;

use state::token_hash;
use store::{StoreError, tickets::TicketRow};
use types::TokenId;

use crate::{
    Credentials, Maker,
    new_token::{TEXT_CHARACTERS, random_text},
};

/// How long a ticket is good.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// Unused tickets of one maker at most. A page needs one for each socket that it opens.
const UNUSED: i64 = 100;

/// A ticket that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The token that it was made with; none where it was made with another credential.
    pub token: Option<TokenId>,
    /// Who made it.
    pub made_by: String,
}

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Its maker uses none.
    #[error("too many unused tickets — retry in {} seconds", TICKET_LIFE.as_secs())]
    TooMany,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Credentials {
    /// Makes a ticket, with this token where it is made with one. Returns its text.
    ///
    /// # Errors
    /// If its maker has too many unused ones, or the database fails.
    pub async fn issue_ticket(&self, token: Option<TokenId>, by: Maker) -> Result<String, TicketError> {
        let text = random_text();
        let row = TicketRow { hash: token_hash(&text), token, made_by: by.name };
        match self.state.store().insert_ticket(&row, TICKET_LIFE, UNUSED).await? {
            true => Ok(text),
            false => Err(TicketError::TooMany),
        }
    }

    /// Takes a ticket: none if it was taken before, here or at another server, is too old, or was never made.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn redeem_ticket(&self, text: &str) -> Result<Option<Ticket>, StoreError> {
        if text.len() != TEXT_CHARACTERS {
            return Ok(None);
        }
        let taken = self.state.store().take_ticket(token_hash(text), TICKET_LIFE).await?;
        Ok(taken.map(|row| Ticket { token: row.token, made_by: row.made_by }))
    }
}
