//! Keys of messages that may be sent twice: what became of the first one, and which server delivers it at this moment.
//!
//! A delivered message has its key in its row of activity, a queued one in its row of the queue, both of which are
//! written anyway; `message_answers` has what these rows don't say of the answer. While a message is delivered to an agent
//! that would do its work twice, a claim says so. It is deleted once the row with the key is stored, so that the claim of
//! a server that has ended, or of none, stands for a delivery of unknown outcome.

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
    write_behind::{Buffer, Fifo, Limited, Pending, Room, WriteBehind},
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
    /// Servers and agents that the message passed before.
    pub hops: u32,
}

/// Who has the claim on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimHolder {
    /// The server that asks, from now on.
    This,
    /// Another server, at this moment.
    Another,
    /// Another server, and the message of this one comes from that delivery: it has more hops behind it.
    Loop,
    /// A server that does not renew its lease and did not say how the delivery did, or none.
    Ended,
}

/// Ends this very claim, if it is there, with the rows that were written behind before.
#[derive(Debug)]
pub struct ReleaseMessage {
    /// The claim.
    pub claim: MessageClaim,
    /// The claim is known to be there.
    pub is_made: bool,
    /// The delivery ended, but its row is lost: the claim stays without an owner, and says that the outcome is
    /// unknown. Otherwise it is deleted.
    pub is_row_lost: bool,
}

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
        MessageClaim { key, owner, at, hops }: &MessageClaim,
        since: DateTime<Utc>,
        take_over: bool,
    ) -> Result<ClaimHolder, StoreError> {
        let live = live_server(self.backend(), "message_claims.owner");
        let free = if take_over { format!("OR NOT {live}") } else { String::new() };
        let sql = format!(
            "INSERT INTO message_claims (key, owner, claimed_at, hops) VALUES ($1, $2, $3, $5) \
             ON CONFLICT (key) DO UPDATE SET \
               owner = excluded.owner, claimed_at = excluded.claimed_at, hops = excluded.hops \
             WHERE message_claims.owner = excluded.owner OR message_claims.claimed_at < $4 {free} RETURNING key"
        );
        let hops = i64::from(*hops);
        let values = [key.as_str().into(), owner.0.into(), (*at).into(), since.into(), hops.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        if self.db.query_one_raw(statement).await?.is_some() {
            return Ok(ClaimHolder::This);
        }
        if self.is_single_process() {
            return Ok(ClaimHolder::Ended);
        }
        let sql = format!("SELECT {live}, hops < $2 FROM message_claims WHERE key = $1");
        let holder = Statement::from_sql_and_values(self.backend(), sql, [key.as_str().into(), hops.into()]);
        let Some(row) = self.db.query_one_raw(holder).await? else {
            // It was released meanwhile.
            return Ok(ClaimHolder::Another);
        };
        let (is_live, is_passed): (bool, bool) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        Ok(match (is_live, is_passed) {
            (false, _) => ClaimHolder::Ended,
            (true, true) => ClaimHolder::Loop,
            (true, false) => ClaimHolder::Another,
        })
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
    /// That of a claim which was made is never lost: no claims are made while the database can't be written.
    fn bytes(&self) -> Option<usize> {
        (!self.is_made).then_some(size_of::<Self>() + self.claim.key.len())
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

    fn limited(&self) -> Limited {
        self.0.limited()
    }

    async fn store(&self, tx: &mut Transaction, _: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        let (lost, stored): (Vec<_>, Vec<_>) = self.0.iter().partition(|release| release.is_row_lost);
        end_claims(tx, stored, false).await?;
        end_claims(tx, lost, true).await
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        self.0.take(room)
    }
}

/// Deletes the claims, each as it was made, or takes their owners from them.
async fn end_claims(
    tx: &Transaction,
    releases: Vec<&ReleaseMessage>,
    are_rows_lost: bool,
) -> Result<(), StoreError> {
    for releases in batches(releases) {
        let places =
            (0..releases.len()).map(|at| format!("(${}, ${}, ${})", at * 3 + 1, at * 3 + 2, at * 3 + 3));
        let places = places.collect::<Vec<_>>().join(", ");
        let mut values: Vec<Value> = Vec::with_capacity(releases.len() * 3 + 1);
        for ReleaseMessage { claim, .. } in releases {
            values.extend([Value::from(claim.key.as_str()), claim.owner.0.into(), claim.at.into()]);
        }
        let end = if are_rows_lost {
            values.push(Uuid::nil().into());
            format!("UPDATE message_claims SET owner = ${}", values.len())
        } else {
            "DELETE FROM message_claims".to_owned()
        };
        let sql = format!("{end} WHERE (key, owner, claimed_at) IN (VALUES {places})");
        let statement = Statement::from_sql_and_values(tx.db.get_database_backend(), sql, values);
        tx.db.execute_raw(statement).await?;
    }
    Ok(())
}
