//! Keys of messages that may be sent twice: what became of the first one, and which server delivers it at this moment.
//!
//! A delivered message has its key in its row of activity, a queued one in its row of the queue, both of which are
//! written anyway; `message_answers` has what these rows don't say of the answer. While a message is delivered to an agent
//! that would do its work twice, a claim says so. It is deleted once the row with the key is stored, so that the claim of
//! a server that has ended stands for a delivery of unknown outcome.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, Statement, Value};
use types::{ServerId, WorkspaceId};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    entity::message_answer,
    leases::live_server,
    queue::QueuedBefore,
    statement::batches,
    transaction::Transaction,
    write_behind::{Buffer, Fifo, Pending, Room, WriteBehind},
};

pub use crate::first_answers::{AnswerForm, FirstAnswer};

/// What became of the first message with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// It was stored for its agent to fetch.
    Polled,
    /// It was delivered, and answered.
    Answered {
        /// The answer; none where it is status 200 with the row's response as it is.
        answer: Option<FirstAnswer>,
        /// The row's response.
        response: Option<String>,
    },
    /// It waits in the queue, or was delivered from there.
    Queued(QueuedBefore),
}

/// One server's claim on the delivery of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageClaim {
    /// The message's key.
    pub key: String,
    /// The server that delivers it.
    pub owner: ServerId,
    /// When it was claimed. Tells the claim from an earlier one of the same server, whose release may still wait.
    pub at: DateTime<Utc>,
}

/// Who has the claim on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimHolder {
    /// The server that asks, from now on.
    This,
    /// Another server, at this moment.
    Another,
    /// A server that does not renew its lease and did not say how the delivery did.
    Ended,
}

/// Deletes this very claim, if it is there, with the rows that were written behind before.
#[derive(Debug)]
pub struct ReleaseMessage(pub MessageClaim);

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
        let sql = "SELECT id, response_body, duration_ms FROM activity_logs \
                   WHERE idempotency_key = $1 AND created_at > $2 LIMIT 1";
        let statement = Statement::from_sql_and_values(self.backend(), sql, [key.into(), since.into()]);
        let Some(row) = self.read.query_one_raw(statement).await? else {
            return Ok(self.queued_by_key(key, since).await?.map(Earlier::Queued));
        };
        let (id, response): (Uuid, Option<String>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        // Only a delivery takes time.
        if row.try_get_by_index::<Option<i64>>(2)?.is_none() {
            return Ok(Some(Earlier::Polled));
        }
        let answer = message_answer::Entity::find_by_id(id).one(&self.read).await?.map(FirstAnswer::from);
        Ok(Some(Earlier::Answered { answer, response }))
    }

    /// Makes a claim, unless another server has one, or had one when it ended. `take_over`: what ended servers left is
    /// claimed. Claims from before `since` mean nothing. Returns whose claim there is.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_message(
        &self,
        MessageClaim { key, owner, at }: &MessageClaim,
        since: DateTime<Utc>,
        take_over: bool,
    ) -> Result<ClaimHolder, StoreError> {
        let live = live_server(self.backend(), "message_claims.owner");
        let free = if take_over { format!("OR NOT {live}") } else { String::new() };
        let sql = format!(
            "INSERT INTO message_claims (key, owner, claimed_at) VALUES ($1, $2, $3) \
             ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, claimed_at = excluded.claimed_at \
             WHERE message_claims.owner = excluded.owner OR message_claims.claimed_at < $4 {free} RETURNING key"
        );
        let values = [key.as_str().into(), owner.0.into(), (*at).into(), since.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        if self.db.query_one_raw(statement).await?.is_some() {
            return Ok(ClaimHolder::This);
        }
        if self.is_single_process() {
            return Ok(ClaimHolder::Ended);
        }
        let sql = format!("SELECT 1 FROM message_claims WHERE key = $1 AND NOT {live}");
        let ended = Statement::from_sql_and_values(self.backend(), sql, [key.as_str().into()]);
        let ended = self.db.query_one_raw(ended).await?.is_some();
        Ok(if ended { ClaimHolder::Ended } else { ClaimHolder::Another })
    }

    /// Deletes first answers and claims from before this time, which mean nothing any more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget_messages_before(&self, time: DateTime<Utc>) -> Result<(), StoreError> {
        // In the one order of changes, because the deletion of activity deletes its answers too.
        let tx = Transaction::begin(self, 0, 0).await?.db;
        message_answer::Entity::delete_many()
            .filter(message_answer::Column::CreatedAt.lt(time))
            .exec(&tx)
            .await?;
        let claims = "DELETE FROM message_claims WHERE claimed_at < $1";
        tx.execute_raw(Statement::from_sql_and_values(self.backend(), claims, [time.into()])).await?;
        Ok(tx.commit().await?)
    }
}

impl WriteBehind for ReleaseMessage {
    fn bytes(&self) -> Option<usize> {
        Some(size_of::<Self>() + self.0.key.len())
    }

    fn add_to(self: Box<Self>, pending: &mut Pending) {
        // Its row has to be stored no later.
        crate::activity::make_buffer(pending);
        pending.with(|buffer: &mut Releases| buffer.0.push(*self));
    }
}

#[derive(Debug, Default)]
struct Releases(Fifo<ReleaseMessage>);

#[async_trait]
impl Buffer for Releases {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    async fn store(&self, tx: &mut Transaction, _: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        for claims in batches(self.0.iter().map(|release| &release.0).collect()) {
            let places =
                (0..claims.len()).map(|at| format!("(${}, ${}, ${})", at * 3 + 1, at * 3 + 2, at * 3 + 3));
            let places = places.collect::<Vec<_>>().join(", ");
            let sql =
                format!("DELETE FROM message_claims WHERE (key, owner, claimed_at) IN (VALUES {places})");
            let values = claims.into_iter().flat_map(|MessageClaim { key, owner, at }| {
                [Value::from(key.as_str()), owner.0.into(), (*at).into()]
            });
            tx.db
                .execute_raw(Statement::from_sql_and_values(tx.db.get_database_backend(), sql, values))
                .await?;
        }
        Ok(())
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        self.0.take(room)
    }
}
