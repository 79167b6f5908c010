//! Tickets: each opens one socket, soon after it was made.
//!
//! The database's clock decides when a ticket is too old, so that servers needn't agree on theirs. One that seems to be
//! made in the future is too old as well: the clock was set back.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement};
use types::TokenId;
use uuid::Uuid;

use crate::{Store, StoreError, transaction::Transaction};

/// A ticket. Its text is never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketRow {
    /// SHA-256 of the text.
    pub hash: [u8; 32],
    /// The token that it was made with; none where it was made with another credential.
    pub token: Option<TokenId>,
    /// Who made it: `admin-token`, `org-token:PREFIX` or another name.
    pub made_by: String,
}

impl Store {
    /// Stores a ticket, unless its maker has `limit` unused ones. Deletes those that are too old. Returns whether it is
    /// stored.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn insert_ticket(
        &self,
        ticket: &TicketRow,
        life: Duration,
        limit: i64,
    ) -> Result<bool, StoreError> {
        let (backend, now) = (self.backend(), self.clock_ms());
        // In the one order of changes, so that the count is true.
        let tx = Transaction::begin(self, 0, 0).await?.db;
        let old = format!("DELETE FROM socket_tickets WHERE NOT ({})", is_good(now, life));
        tx.execute_raw(Statement::from_string(backend, old)).await?;
        let count = "SELECT COUNT(*) FROM socket_tickets WHERE made_by = $1";
        let count = Statement::from_sql_and_values(backend, count, [ticket.made_by.as_str().into()]);
        let unused = tx.query_one_raw(count).await?.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0))?;
        let is_stored = unused < limit;
        if is_stored {
            let insert = format!(
                "INSERT INTO socket_tickets (hash, token_id, made_by, made_ms) VALUES ($1, $2, $3, {now})"
            );
            let values = [
                ticket.hash.to_vec().into(),
                ticket.token.map(|token| token.0).into(),
                ticket.made_by.as_str().into(),
            ];
            tx.execute_raw(Statement::from_sql_and_values(backend, insert, values)).await?;
        }
        tx.commit().await?;
        Ok(is_stored)
    }

    /// Takes the ticket with this hash, if there is a good one: of all servers, one gets it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn take_ticket(&self, hash: [u8; 32], life: Duration) -> Result<Option<TicketRow>, StoreError> {
        let backend = self.backend();
        // Invented tickets are not worth a write.
        let known = "SELECT 1 FROM socket_tickets WHERE hash = $1";
        let known = Statement::from_sql_and_values(backend, known, [hash.to_vec().into()]);
        if self.read.query_one_raw(known).await?.is_none() {
            return Ok(None);
        }
        let is_good = is_good(self.clock_ms(), life);
        let take =
            format!("DELETE FROM socket_tickets WHERE hash = $1 RETURNING token_id, made_by, {is_good}");
        let take = Statement::from_sql_and_values(backend, take, [hash.to_vec().into()]);
        let Some(row) = self.db.query_one_raw(take).await? else { return Ok(None) };
        let token: Option<Uuid> = row.try_get_by_index(0)?;
        let ticket = TicketRow { hash, token: token.map(TokenId), made_by: row.try_get_by_index(1)? };
        Ok(row.try_get_by_index::<bool>(2)?.then_some(ticket))
    }
}

/// The SQL condition that a ticket is not too old.
fn is_good(now: &str, life: Duration) -> String {
    format!("(made_ms > {now} - {} AND made_ms <= {now})", life.as_millis())
}
