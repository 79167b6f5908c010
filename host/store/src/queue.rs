//! Queued messages, for agents that are busy. Each is stored before its sender has an answer, and
//! dequeued by one server at a time; only the server that dequeued it last may write its outcome.

use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QuerySelect as _, Statement,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use types::{QueueItemId, WorkspaceId};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    activity::{self, ActivityRow, clean},
    entity::queued,
    transaction::Transaction,
};

pub use crate::entity::queued::QueueStatus;

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
    /// A message with the same key for the same workspace is the same one while it waits.
    pub idempotency_key: Option<String>,
    /// When it came.
    pub enqueued_at: DateTime<Utc>,
    /// When it was sent, if it is on its way.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When it was delivered.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it loses its meaning.
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was sent.
    pub attempts: i32,
    /// Where it stands.
    pub status: QueueStatus,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl From<QueuedRow> for queued::Model {
    fn from(row: QueuedRow) -> Self {
        Self {
            id: row.id.0,
            workspace_id: row.workspace_id.0,
            caller_id: row.caller_id.map(Uuid::from),
            priority: row.priority,
            body: row.body,
            method: row.method,
            idempotency_key: row.idempotency_key,
            enqueued_at: row.enqueued_at,
            dispatched_at: row.dispatched_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            attempts: row.attempts,
            status: row.status,
            last_error: row.last_error,
        }
    }
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
            idempotency_key: row.idempotency_key,
            enqueued_at: row.enqueued_at,
            dispatched_at: row.dispatched_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            attempts: row.attempts,
            status: row.status,
            last_error: row.last_error,
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
    /// The same key for the same workspace is the same message, while it waits.
    pub idempotency_key: Option<String>,
    /// When it is dropped undelivered.
    pub expires_at: Option<DateTime<Utc>>,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Delivered.
    Completed,
    /// Not delivered. It is queued again, unless there were as many attempts as allowed.
    Undelivered {
        /// The reason.
        error: &'a str,
        /// Attempts after which it failed.
        max_attempts: i32,
    },
}

impl Store {
    /// Enqueues a message, unless it is queued already, and stores the activity that goes with it in the
    /// same transaction. Returns its id, and how many wait for that workspace.
    ///
    /// # Errors
    /// If the database fails, or the workspace is gone.
    pub async fn enqueue(
        &self,
        new: NewQueued,
        activity: Option<&ActivityRow>,
    ) -> Result<(QueueItemId, u64), StoreError> {
        let workspace = new.workspace_id;
        let row = QueuedRow {
            id: QueueItemId::random(),
            workspace_id: workspace,
            caller_id: new.caller_id,
            priority: TASK,
            body: new.body,
            method: clean(&new.method),
            idempotency_key: new.idempotency_key.as_deref().map(clean),
            enqueued_at: crate::now(),
            dispatched_at: None,
            completed_at: None,
            expires_at: new.expires_at,
            attempts: 0,
            status: QueueStatus::Queued,
            last_error: None,
        };
        let mut tx = Transaction::begin(self, 0, 0).await?;
        activity::insert(&mut tx, activity.into_iter()).await?;
        tx.sequencer.save(&tx.db).await?;
        let inserted =
            queued::Entity::insert(queued::Model::from(row.clone()).into_active_model().reset_all())
                .on_conflict(OnConflict::new().do_nothing().to_owned())
                .exec_without_returning(&tx.db)
                .await?;
        let mut id = row.id;
        if inserted == 0 {
            let same = queued::Entity::find()
                .filter(queued::Column::WorkspaceId.eq(workspace.0))
                .filter(queued::Column::IdempotencyKey.eq(row.idempotency_key))
                .filter(queued::Column::Status.is_in([QueueStatus::Queued, QueueStatus::Dispatched]));
            id = QueueItemId(same.one(&tx.db).await?.ok_or(StoreError::Gone)?.id);
        }
        let waiting = queued::Entity::find().filter(queued::Column::WorkspaceId.eq(workspace.0));
        let depth = waiting.filter(waits(crate::now())).count(&tx.db).await?;
        tx.db.commit().await?;
        Ok((id, depth))
    }

    /// A message by id, in whatever state.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn queued(&self, id: QueueItemId) -> Result<Option<QueuedRow>, StoreError> {
        Ok(queued::Entity::find_by_id(id.0).one(&self.read).await?.map(QueuedRow::from))
    }

    /// Dequeues the next message of this workspace.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn dequeue(&self, workspace: WorkspaceId) -> Result<Option<QueuedRow>, StoreError> {
        let skip = if self.backend() == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "UPDATE a2a_queue SET status = 'dispatched', dispatched_at = $1, attempts = attempts + 1 \
             WHERE id = (SELECT id FROM a2a_queue WHERE workspace_id = $2 AND status = 'queued' \
                         AND (expires_at IS NULL OR expires_at > $1) \
                         ORDER BY priority DESC, enqueued_at LIMIT 1 {skip}) RETURNING *"
        );
        let values = [crate::now().into(), workspace.0.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let row = queued::Entity::find().from_raw_sql(statement).one(&self.db).await?;
        Ok(row.map(QueuedRow::from))
    }

    /// Records the outcome of a delivery, unless another server dequeued the message since.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn complete(&self, row: &QueuedRow, outcome: Outcome<'_>) -> Result<(), StoreError> {
        use queued::Column as C;
        let ours = C::Id.eq(row.id.0).and(C::Attempts.eq(row.attempts));
        let update = queued::Entity::update_many().filter(ours).filter(C::Status.eq(QueueStatus::Dispatched));
        let update = match outcome {
            Outcome::Completed => update
                .col_expr(C::Status, Expr::value(QueueStatus::Completed))
                .col_expr(C::CompletedAt, Expr::value(crate::now())),
            Outcome::Undelivered { error, max_attempts } => update
                .col_expr(C::Status, Expr::value(after(row.attempts, max_attempts)))
                .col_expr(C::DispatchedAt, Expr::value(None::<DateTime<Utc>>))
                .col_expr(C::LastError, Expr::value(clean(error))),
        };
        update.exec(&self.db).await?;
        Ok(())
    }

    /// Drops expired messages, and requeues those dispatched before `stale`: the server that dequeued them
    /// is gone. Returns the workspaces for which messages wait.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn requeue_expired(
        &self,
        stale: DateTime<Utc>,
        max_attempts: i32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        use queued::Column as C;
        queued::Entity::update_many()
            .col_expr(C::Status, Expr::value(QueueStatus::Dropped))
            .col_expr(C::LastError, Expr::value("expired"))
            .filter(C::Status.eq(QueueStatus::Queued))
            .filter(C::ExpiresAt.lte(crate::now()))
            .exec(&self.db)
            .await?;
        let sql = "UPDATE a2a_queue SET dispatched_at = NULL, last_error = 'its server ended meanwhile', \
                   status = CASE WHEN attempts >= $1 THEN 'failed' ELSE 'queued' END \
                   WHERE status = 'dispatched' AND dispatched_at < $2";
        let values = [max_attempts.into(), stale.into()];
        self.db.execute_raw(Statement::from_sql_and_values(self.backend(), sql, values)).await?;
        let workspaces: Vec<Uuid> = queued::Entity::find()
            .select_only()
            .column(C::WorkspaceId)
            .distinct()
            .filter(waits(crate::now()))
            .into_tuple()
            .all(&self.db)
            .await?;
        Ok(workspaces.into_iter().map(WorkspaceId).collect())
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
        let note = format!("dropped as stale at {}", crate::now().to_rfc3339_opts(SecondsFormat::Secs, true));
        let mut sql = "UPDATE a2a_queue SET status = 'dropped', \
                       last_error = CASE WHEN last_error IS NULL THEN CAST($1 AS TEXT) \
                                         ELSE last_error || '; ' || CAST($1 AS TEXT) END \
                       WHERE status = 'queued' AND enqueued_at < $2"
            .to_owned();
        let mut values = vec![note.into(), time.into()];
        if let Some(workspace) = workspace {
            sql.push_str(" AND workspace_id = $3");
            values.push(workspace.0.into());
        }
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(self.db.execute_raw(statement).await?.rows_affected())
    }
}

fn waits(now: DateTime<Utc>) -> Expr {
    let forever = queued::Column::ExpiresAt.is_null();
    queued::Column::Status.eq(QueueStatus::Queued).and(forever.or(queued::Column::ExpiresAt.gt(now)))
}

/// The state of a message that was not delivered.
fn after(attempts: i32, max_attempts: i32) -> QueueStatus {
    if attempts >= max_attempts { QueueStatus::Failed } else { QueueStatus::Queued }
}
