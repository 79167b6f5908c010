//! Claims: a server takes a message to deliver it, and stores how that ended.
//!
//! How many messages are on their way to an agent is counted in the rows, so that two servers together send no more
//! than one would. A claim belongs to its server as long as the server renews its lease (see `leases`), and has a
//! number: the outcome of a claim that was lost does not overwrite a newer one.

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, Statement,
    sea_query::{Expr, ExprTrait as _},
};
use types::{QueueItemId, ServerId, WorkspaceId};

use super::{QueuedRow, waits};
use crate::{
    Store, StoreError,
    entity::queued::{self, QueueStatus},
    transaction::Transaction,
};

/// How many messages an agent works on at once, and how many it does, as it reported last.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Messages at once.
    pub max: i32,
    /// Tasks that the agent reported …
    pub active: i32,
    /// … and when.
    pub reported_at: Option<DateTime<Utc>>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// This message is to be delivered.
    Taken(Box<QueuedRow>),
    /// Messages wait; the agent has no capacity, or it is too early to try again.
    Later,
    /// No message waits.
    Empty,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered.
    Completed,
    /// Not delivered, and another attempt would end in the same way.
    Failed(String),
    /// Not delivered: the receiver is gone.
    Dropped(String),
    /// Not delivered. It is queued again, unless there were as many attempts as allowed.
    Attempted {
        /// The reason.
        error: String,
        /// Attempts after which it fails.
        max_attempts: i32,
        /// When it may be sent again.
        not_before: DateTime<Utc>,
    },
    /// The agent was not reached, which counts as no attempt. It is queued again.
    Unreached {
        /// The reason.
        error: String,
        /// When it may be sent again.
        not_before: DateTime<Utc>,
    },
    /// The server stops before the delivery ended, which counts as no attempt. It is queued again.
    Returned,
}

impl Store {
    /// Ends the back-off of the messages of a workspace whose agent was not reached, because it reported just now.
    /// The back-off of attempts that reached the agent goes on.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_back_off(&self, workspace: WorkspaceId) -> Result<(), StoreError> {
        let tx = Transaction::begin(self, 0, 0).await?.db;
        queued::Entity::update_many()
            .col_expr(queued::Column::NotBefore, Expr::value(None::<DateTime<Utc>>))
            .col_expr(queued::Column::Unreached, Expr::value(0))
            .filter(queued::Column::WorkspaceId.eq(workspace.0))
            .filter(queued::Column::Status.eq(QueueStatus::Queued))
            .filter(queued::Column::Unreached.gt(0))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Claims the next message of this workspace that is due, if its agent has capacity. One whose time is further
    /// off than `longest_wait` is due, because the clock was set back.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_queued(
        &self,
        workspace: WorkspaceId,
        owner: ServerId,
        capacity: Capacity,
        longest_wait: Duration,
    ) -> Result<Claim, StoreError> {
        let now = crate::now();
        let due = "AND (not_before IS NULL OR not_before <= $1 OR not_before > $7)";
        // What was sent after the agent's last report is not in it.
        let sql = format!(
            "UPDATE a2a_queue SET status = 'dispatched', dispatched_at = $1, owner = $2, \
               attempts = attempts + 1, claim = claim + 1 \
             WHERE status = 'queued' AND id = (\
               SELECT id FROM a2a_queue WHERE workspace_id = $3 AND status = 'queued' \
                 AND (expires_at IS NULL OR expires_at > $1) {due} \
               ORDER BY priority DESC, enqueued_at LIMIT 1) \
             AND $4 > (SELECT COUNT(*) FROM a2a_queue WHERE workspace_id = $3 AND status = 'dispatched') \
             AND $4 > $5 + (SELECT COUNT(*) FROM a2a_queue WHERE workspace_id = $3 AND status = 'dispatched' \
               AND dispatched_at > $6) \
             RETURNING *"
        );
        let reported_at = capacity.reported_at.unwrap_or(DateTime::UNIX_EPOCH);
        let values = [
            now.into(),
            owner.0.into(),
            workspace.0.into(),
            i64::from(capacity.max).into(),
            i64::from(capacity.active).into(),
            reported_at.into(),
            (now + longest_wait).into(),
        ];
        let tx = Transaction::begin(self, 0, 0).await?.db;
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let claim = match queued::Entity::find().from_raw_sql(statement).one(&tx).await? {
            Some(row) => Claim::Taken(Box::new(row.into())),
            None => {
                let waiting = queued::Entity::find().filter(queued::Column::WorkspaceId.eq(workspace.0));
                // One that is under way may come back.
                let under_way = queued::Column::Status.eq(QueueStatus::Dispatched);
                match waiting.filter(waits(now).or(under_way)).one(&tx).await? {
                    Some(_) => Claim::Later,
                    None => Claim::Empty,
                }
            }
        };
        tx.commit().await?;
        Ok(claim)
    }

    /// Stores the outcome of a claim, unless the message was claimed again since. That it was delivered, or can't be,
    /// stays true where it was only queued again.
    ///
    /// # Errors
    /// If the database fails; the outcome may be stored again.
    pub async fn finish_claim(
        &self,
        id: QueueItemId,
        claim: i64,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        use queued::Column as C;
        let now = crate::now();
        let ours = C::Id.eq(id.0).and(C::Claim.eq(claim));
        let update = queued::Entity::update_many().filter(ours);
        let ended = |status: QueueStatus| {
            update
                .clone()
                .filter(C::Status.is_in([QueueStatus::Dispatched, QueueStatus::Queued]))
                .col_expr(C::Status, Expr::value(status))
                .col_expr(C::FinishedAt, Expr::value(now))
                .col_expr(C::Owner, Expr::value(None::<uuid::Uuid>))
        };
        let again = |status: Expr| {
            update
                .clone()
                .filter(C::Status.eq(QueueStatus::Dispatched))
                .col_expr(C::Status, status)
                .col_expr(C::DispatchedAt, Expr::value(None::<DateTime<Utc>>))
                .col_expr(C::Owner, Expr::value(None::<uuid::Uuid>))
        };
        let error_of = |error: &str| Expr::value(error);
        let undo = || Expr::col(C::Attempts).sub(1);
        let update = match outcome {
            Outcome::Completed => ended(QueueStatus::Completed).col_expr(C::CompletedAt, Expr::value(now)),
            Outcome::Failed(error) => ended(QueueStatus::Failed).col_expr(C::LastError, error_of(error)),
            Outcome::Dropped(error) => ended(QueueStatus::Dropped).col_expr(C::LastError, error_of(error)),
            Outcome::Attempted { error, max_attempts, not_before } => {
                let exhausted = || Expr::col(C::Attempts).gte(*max_attempts);
                let status = Expr::case(exhausted(), QueueStatus::Failed).finally(QueueStatus::Queued);
                let finished = Expr::case(exhausted(), now).finally(None::<DateTime<Utc>>);
                again(status.into())
                    .col_expr(C::FinishedAt, finished.into())
                    .col_expr(C::LastError, error_of(error))
                    .col_expr(C::Unreached, Expr::value(0))
                    .col_expr(C::NotBefore, Expr::value(*not_before))
            }
            Outcome::Unreached { error, not_before } => again(Expr::value(QueueStatus::Queued))
                .col_expr(C::Attempts, undo())
                .col_expr(C::LastError, error_of(error))
                .col_expr(C::Unreached, Expr::col(C::Unreached).add(1))
                .col_expr(C::NotBefore, Expr::value(*not_before)),
            Outcome::Returned => again(Expr::value(QueueStatus::Queued))
                .col_expr(C::Attempts, undo())
                .col_expr(C::NotBefore, Expr::value(None::<DateTime<Utc>>)),
        };
        update.exec(&self.db).await?;
        Ok(())
    }
}
