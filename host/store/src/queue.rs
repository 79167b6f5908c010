//! Queued messages, for agents that are busy. Each is stored before its sender has an answer.
//!
//! A server claims a message to deliver it (`claims`), and what servers leave behind is put in order by sweeps
//! (`sweep`). All transactions of the queue are in the one order of commits: so what a claim counts is true when it
//! commits, and two servers never lock the same rows in different orders.

mod claims;
mod room;
mod sweep;

use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QuerySelect as _, Statement,
    sea_query::{Expr, ExprTrait as _},
};
use types::{QueueItemId, ServerId, WorkspaceId};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    activity::{self, ActivityRow},
    entity::queued,
    transaction::Transaction,
};

pub use crate::entity::queued::QueueStatus;
pub use claims::{Capacity, Claim, Outcome};
pub use room::{QueueFull, Room};
pub use sweep::{Swept, WaitingWorkspace};

/// Priority of a task; there are no others yet.
const TASK: i32 = 50;

/// A message that waits, or waited, for an agent that is busy.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedRow {
    /// Its id.
    pub id: QueueItemId,
    /// Workspace that the message is for.
    pub workspace_id: WorkspaceId,
    /// Workspace that sent the message; none for users.
    pub caller_id: Option<WorkspaceId>,
    /// Higher ones are first.
    pub priority: i32,
    /// The message, ready to be sent.
    pub body: String,
    /// Its method.
    pub method: String,
    /// Digest by which the same message is recognized when it is sent again.
    pub key: Option<String>,
    /// When it came.
    pub enqueued_at: DateTime<Utc>,
    /// When it was sent, if it is on its way.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When it was delivered.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it loses its meaning.
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was sent, not counting tries that did not reach the agent.
    pub attempts: i32,
    /// Where it stands.
    pub status: QueueStatus,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it may be sent again, unless its agent reports earlier.
    pub not_before: Option<DateTime<Utc>>,
    /// Tries in a row that did not reach the agent.
    pub unreached: i32,
    /// Server that delivers it.
    pub owner: Option<ServerId>,
    /// How often it was claimed.
    pub claim: i64,
    /// Servers and agents that it went through before it was queued.
    pub hops: u32,
    /// Headers that it is sent with, as its sender wrote them down.
    pub headers: Option<String>,
}

/// What became of a message that was to be enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits, or the same message did before.
    Waits(QueuedBefore),
    /// There is no room for it. Nothing was stored.
    Full(QueueFull),
}

/// A message that was queued before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedBefore {
    /// Its id.
    pub id: QueueItemId,
    /// How many waited when it was queued.
    pub depth: u64,
}

impl From<queued::Model> for QueuedRow {
    fn from(row: queued::Model) -> Self {
        Self {
            id: QueueItemId(row.id),
            workspace_id: WorkspaceId(row.workspace_id),
            caller_id: row.caller_id.map(WorkspaceId),
            priority: row.priority,
            body: row.body,
            method: row.method,
            key: row.idempotency_key,
            enqueued_at: row.enqueued_at,
            dispatched_at: row.dispatched_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            attempts: row.attempts,
            status: row.status,
            last_error: row.last_error,
            not_before: row.not_before,
            unreached: row.unreached,
            owner: row.owner.map(ServerId),
            claim: row.claim,
            hops: u32::try_from(row.hops).unwrap_or(u32::MAX),
            headers: row.headers,
        }
    }
}

/// A message to be enqueued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewQueued {
    /// The receiver.
    pub workspace_id: WorkspaceId,
    /// The sender; none for users.
    pub caller_id: Option<WorkspaceId>,
    /// The body as it is sent.
    pub body: String,
    /// JSON-RPC method.
    pub method: String,
    /// Digest by which the same message is recognized when it is sent again.
    pub key: Option<String>,
    /// When it is dropped undelivered.
    pub expires_at: Option<DateTime<Utc>>,
    /// Servers and agents that it went through.
    pub hops: u32,
    /// Headers that it is sent with, in any form of the caller's.
    pub headers: Option<String>,
}

impl Store {
    /// Enqueues a message, and stores the activity that goes with it in the same transaction. A message with the
    /// same key that came later than `same_since`, and that waits or was delivered, is the same message, and takes no
    /// more room.
    ///
    /// # Errors
    /// If the database fails, or the workspace is gone.
    pub async fn enqueue(
        &self,
        new: NewQueued,
        activity: Option<&ActivityRow>,
        same_since: DateTime<Utc>,
        room: &Room,
    ) -> Result<Enqueued, StoreError> {
        let workspace = new.workspace_id;
        let bytes = new.body.len() + new.headers.as_deref().map_or(0, str::len);
        let mut row = queued::Model {
            id: QueueItemId::random().0,
            workspace_id: workspace.0,
            caller_id: new.caller_id.map(Uuid::from),
            priority: TASK,
            body: new.body,
            method: new.method,
            idempotency_key: new.key,
            enqueued_at: crate::now(),
            dispatched_at: None,
            completed_at: None,
            expires_at: new.expires_at,
            attempts: 0,
            status: QueueStatus::Queued,
            last_error: None,
            not_before: None,
            unreached: 0,
            owner: None,
            claim: 0,
            finished_at: None,
            hops: new.hops.into(),
            headers: new.headers,
            depth: None,
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        };
        let mut tx = Transaction::begin(self, 0, 0).await?;
        let same = match &row.idempotency_key {
            Some(key) => same_message(&tx.db, key, same_since).await?,
            None => None,
        };
        if same.is_none()
            && let Err(full) = room.check(&tx.db, workspace, row.bytes).await?
        {
            return Ok(Enqueued::Full(full));
        }
        activity::insert(&mut tx, activity.into_iter()).await?;
        tx.sequencer.save(&tx.db).await?;
        let queued = match same {
            Some(same) => same,
            None => {
                let id = QueueItemId(row.id);
                let depth = waiting(&tx.db, workspace).await? + 1;
                row.depth = i64::try_from(depth).ok();
                let insert = queued::Entity::insert(row.into_active_model().reset_all());
                insert.exec_without_returning(&tx.db).await?;
                QueuedBefore { id, depth }
            }
        };
        tx.db.commit().await?;
        Ok(Enqueued::Waits(queued))
    }

    /// The message with this key that came later than `since`, unless it was given up.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn queued_by_key(
        &self,
        key: &str,
        since: DateTime<Utc>,
    ) -> Result<Option<QueuedBefore>, StoreError> {
        same_message(&self.read, key, since).await
    }

    /// A message by id, in whatever state.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn queued(&self, id: QueueItemId) -> Result<Option<QueuedRow>, StoreError> {
        Ok(queued::Entity::find_by_id(id.0).one(&self.read).await?.map(QueuedRow::from))
    }

    /// Drops messages enqueued before `time`, of one workspace or of all. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn drop_stale_queued(
        &self,
        time: DateTime<Utc>,
        workspace: Option<WorkspaceId>,
    ) -> Result<u64, StoreError> {
        let now = crate::now();
        let note = format!("dropped as stale at {}", now.to_rfc3339_opts(SecondsFormat::Secs, true));
        let mut sql = "UPDATE a2a_queue SET status = 'dropped', finished_at = $3, \
                       last_error = CASE WHEN last_error IS NULL THEN CAST($1 AS TEXT) \
                                         ELSE last_error || '; ' || CAST($1 AS TEXT) END \
                       WHERE status = 'queued' AND enqueued_at < $2"
            .to_owned();
        let mut values = vec![note.into(), time.into(), now.into()];
        if let Some(workspace) = workspace {
            sql.push_str(" AND workspace_id = $4");
            values.push(workspace.0.into());
        }
        let tx = Transaction::begin(self, 0, 0).await?.db;
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let dropped = tx.execute_raw(statement).await?.rows_affected();
        tx.commit().await?;
        Ok(dropped)
    }
}

async fn same_message(
    db: &impl sea_orm::ConnectionTrait,
    key: &str,
    since: DateTime<Utc>,
) -> Result<Option<QueuedBefore>, StoreError> {
    use queued::Column as C;
    let found: Option<(Uuid, Uuid, Option<i64>)> = queued::Entity::find()
        .select_only()
        .columns([C::Id, C::WorkspaceId, C::Depth])
        .filter(C::IdempotencyKey.eq(key))
        .filter(C::EnqueuedAt.gt(since))
        .filter(C::Status.is_in([QueueStatus::Queued, QueueStatus::Dispatched, QueueStatus::Completed]))
        .into_tuple()
        .one(db)
        .await?;
    let Some((id, workspace, depth)) = found else { return Ok(None) };
    let depth = match depth.and_then(|depth| u64::try_from(depth).ok()) {
        Some(depth) => depth,
        None => waiting(db, WorkspaceId(workspace)).await?,
    };
    Ok(Some(QueuedBefore { id: QueueItemId(id), depth }))
}

/// How many messages wait for a workspace.
async fn waiting(db: &impl sea_orm::ConnectionTrait, workspace: WorkspaceId) -> Result<u64, StoreError> {
    let of_workspace = queued::Entity::find().filter(queued::Column::WorkspaceId.eq(workspace.0));
    Ok(of_workspace.filter(waits(crate::now())).count(db).await?)
}

fn waits(now: DateTime<Utc>) -> Expr {
    let forever = queued::Column::ExpiresAt.is_null();
    // Databases use a partial index where its condition stands in the query, word for word.
    Expr::cust("status = 'queued'").and(forever.or(queued::Column::ExpiresAt.gt(now)))
}
