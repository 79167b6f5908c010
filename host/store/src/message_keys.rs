//! Keys of messages that may be sent twice: what became of the first one, and which server delivers it at this moment.
//!
//! A delivered message has its key in its row of activity, a queued one in its row of the queue, both of which are
//! written anyway; `message_answers` has what these rows don't say of the answer. While a message is delivered to an agent
//! that would do its work twice, a claim says so. It is deleted once the row with the key is stored, so that one whose
//! server has ended says that nobody knows how the delivery did.

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
    transaction::Transaction,
    write_behind::{Buffer, Pending, Room, WriteBehind},
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

/// Who delivers a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageClaim {
    /// The server that asks, from now on.
    Ours,
    /// Another server, at this moment.
    OfAnother,
    /// A server that ended before it said how the delivery did.
    OfEnded,
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

    /// Claims a key for the delivery of its message, unless another server delivers it, or did so when it ended.
    /// `take_over`: what ended servers left is claimed. Claims from before `since` mean nothing.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_message(
        &self,
        key: &str,
        owner: ServerId,
        since: DateTime<Utc>,
        take_over: bool,
    ) -> Result<MessageClaim, StoreError> {
        let live = live_server(self.backend(), "message_claims.owner");
        let free = if take_over { format!("OR NOT {live}") } else { String::new() };
        let sql = format!(
            "INSERT INTO message_claims (key, owner, claimed_at) VALUES ($1, $2, $3) \
             ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, claimed_at = excluded.claimed_at \
             WHERE message_claims.owner = excluded.owner OR message_claims.claimed_at < $4 {free} RETURNING key"
        );
        let values = [key.into(), owner.0.into(), crate::now().into(), since.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        if self.db.query_one_raw(statement).await?.is_some() {
            return Ok(MessageClaim::Ours);
        }
        if self.is_single_process() {
            return Ok(MessageClaim::OfEnded);
        }
        let sql = format!("SELECT 1 FROM message_claims WHERE key = $1 AND NOT {live}");
        let ended = Statement::from_sql_and_values(self.backend(), sql, [key.into()]);
        let ended = self.db.query_one_raw(ended).await?.is_some();
        Ok(if ended { MessageClaim::OfEnded } else { MessageClaim::OfAnother })
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
