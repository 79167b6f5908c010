//! Keys of messages that may be sent twice: what became of the first one, and which server delivers it at this moment.
//!
//! Nothing is written for a key alone. A delivered message has its key in its row of activity, a queued one in its row of
//! the queue, both of which are written anyway. Only where several servers may share the database, a claim says that one
//! of them is delivering a message; it is deleted once the row with the key is stored.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait as _, Statement, Value};
use types::{QueueItemId, ServerId, WorkspaceId};

use crate::{
    Store, StoreError,
    leases::live_server,
    transaction::Transaction,
    write_behind::{Buffer, Pending, Room, WriteBehind},
};

/// What became of the first message with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// It was delivered, with this response as JSON, if it could be read.
    Delivered(Option<String>),
    /// It waits in the queue, or was delivered from there.
    Queued(QueueItemId),
}

/// Deletes the claim of a key, with the rows that were written behind before.
#[derive(Debug)]
pub struct ReleaseMessage(pub String);

impl Store {
    /// What became of the message with this key that came later than `since`, unless it was given up.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn earlier_message(
        &self,
        key: &str,
        since: DateTime<Utc>,
    ) -> Result<Option<Earlier>, StoreError> {
        let sql =
            "SELECT response_body FROM activity_logs WHERE idempotency_key = $1 AND created_at > $2 LIMIT 1";
        let values = [key.into(), since.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        if let Some(row) = self.read.query_one_raw(statement).await? {
            return Ok(Some(Earlier::Delivered(row.try_get_by_index(0)?)));
        }
        Ok(self.queued_by_key(key, since).await?.map(Earlier::Queued))
    }

    /// Claims a key for the delivery of its message. False while another server that lives has it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_message(&self, key: &str, owner: ServerId) -> Result<bool, StoreError> {
        let live = live_server(self.backend(), "message_claims.owner");
        let sql = format!(
            "INSERT INTO message_claims (key, owner, claimed_at) VALUES ($1, $2, $3) \
             ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, claimed_at = excluded.claimed_at \
             WHERE message_claims.owner = excluded.owner OR NOT {live} RETURNING key"
        );
        let values = [key.into(), owner.0.into(), crate::now().into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(self.db.query_one_raw(statement).await?.is_some())
    }
}

/// Memory that a key takes, about.
fn size(key: &str) -> usize {
    size_of::<String>() + key.len()
}

impl WriteBehind for ReleaseMessage {
    fn bytes(&self) -> Option<usize> {
        Some(size(&self.0))
    }

    fn add_to(self: Box<Self>, pending: &mut Pending) {
        // Its row has to be stored no later.
        crate::activity::make_buffer(pending);
        pending.with(|buffer: &mut Releases| buffer.0.push(self.0));
    }
}

#[derive(Debug, Default)]
struct Releases(Vec<String>);

#[async_trait]
impl Buffer for Releases {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|key| size(key)).sum()
    }

    async fn store(&self, tx: &mut Transaction, _: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        let places: Vec<String> = (1..=self.0.len()).map(|number| format!("${number}")).collect();
        let sql = format!("DELETE FROM message_claims WHERE key IN ({})", places.join(", "));
        let keys: Vec<Value> = self.0.iter().map(|key| key.as_str().into()).collect();
        tx.db.execute_raw(Statement::from_sql_and_values(tx.db.get_database_backend(), sql, keys)).await?;
        Ok(())
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        let count = self.0.iter().take_while(|key| room.takes(size(key))).count();
        self.0.drain(..count).map(|key| Box::new(ReleaseMessage(key)) as _).collect()
    }
}
