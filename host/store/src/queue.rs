//! Messages that wait for agents that are busy. Each is stored before its sender is told, and taken out
//! by one server at a time; what became of it is written only by whoever took it out last.

use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, DbBackend, DeriveActiveEnum,
    EntityTrait as _, EnumIter, IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _,
    QuerySelect as _, Statement, TransactionTrait as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use serde::Serialize;
use uuid::Uuid;

pub use crate::entity::queued::Model as QueuedRow;
use crate::{
    Store, StoreError,
    activity::{ActivityRow, clean},
    apply,
    entity::queued,
    workspaces::words,
};

/// Priority of a task; there are no others yet.
const TASK: i32 = 50;

words! {
    /// Where a message in the queue stands.
    QueueStatus {
        /// It waits.
        Queued = "queued",
        /// It is on its way.
        Dispatched = "dispatched",
        /// It was delivered.
        Completed = "completed",
        /// It was given up before it was delivered.
        Dropped = "dropped",
        /// It could not be delivered.
        Failed = "failed",
    }
}

/// A message that is to wait.
#[derive(Debug, Clone, PartialEq)]
pub struct NewQueued {
    /// Whom it is for.
    pub workspace_id: Uuid,
    /// Whom it is from; none for people.
    pub caller_id: Option<Uuid>,
    /// The message, ready to be sent.
    pub body: String,
    /// Its method.
    pub method: String,
    /// The same key for the same workspace is the same message, while it waits.
    pub idempotency_key: Option<String>,
    /// When it loses its meaning.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled<'a> {
    /// It was delivered.
    Completed,
    /// It was not, for this reason. It waits again, unless it was tried this often.
    Undelivered {
        /// Why.
        error: &'a str,
        /// After so many tries it failed.
        tries: i32,
    },
}

impl Store {
    /// Lets a message wait, unless it does already, and stores the activity that goes with it in the same
    /// transaction. Returns its id, and how many wait for that workspace.
    ///
    /// # Errors
    /// If the database fails, or the workspace is gone.
    pub async fn enqueue(
        &self,
        new: NewQueued,
        activity: Option<&ActivityRow>,
    ) -> Result<(Uuid, u64), StoreError> {
        let workspace = new.workspace_id;
        let row = QueuedRow {
            id: Uuid::new_v4(),
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
        let tx = self.db.begin().await?;
        if let Some(row) = activity {
            apply::insert_activity(&tx, &[row]).await?;
        }
        let inserted = queued::Entity::insert(row.clone().into_active_model().reset_all())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&tx)
            .await?;
        let mut id = row.id;
        if inserted == 0 {
            let same = queued::Entity::find()
                .filter(queued::Column::WorkspaceId.eq(workspace))
                .filter(queued::Column::IdempotencyKey.eq(row.idempotency_key))
                .filter(queued::Column::Status.is_in([QueueStatus::Queued, QueueStatus::Dispatched]));
            id = same.one(&tx).await?.ok_or(StoreError::Gone)?.id;
        }
        let waiting = queued::Entity::find().filter(queued::Column::WorkspaceId.eq(workspace));
        let depth = waiting.filter(waits(crate::now())).count(&tx).await?;
        tx.commit().await?;
        Ok((id, depth))
    }

    /// A message by id, wherever it stands.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn queued(&self, id: Uuid) -> Result<Option<QueuedRow>, StoreError> {
        Ok(queued::Entity::find_by_id(id).one(&self.read).await?)
    }

    /// Takes out the message that this workspace gets next.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn take_queued(&self, workspace: Uuid) -> Result<Option<QueuedRow>, StoreError> {
        let skip = if self.backend() == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "UPDATE a2a_queue SET status = 'dispatched', dispatched_at = $1, attempts = attempts + 1 \
             WHERE id = (SELECT id FROM a2a_queue WHERE workspace_id = $2 AND status = 'queued' \
                         AND (expires_at IS NULL OR expires_at > $1) \
                         ORDER BY priority DESC, enqueued_at LIMIT 1 {skip}) RETURNING *"
        );
        let values = [crate::now().into(), workspace.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(queued::Entity::find().from_raw_sql(statement).one(&self.db).await?)
    }

    /// Writes down what became of a message, unless somebody else took it out since.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn settle_queued(&self, row: &QueuedRow, settled: Settled<'_>) -> Result<(), StoreError> {
        use queued::Column as C;
        let ours = C::Id.eq(row.id).and(C::Attempts.eq(row.attempts));
        let update = queued::Entity::update_many().filter(ours).filter(C::Status.eq(QueueStatus::Dispatched));
        let update = match settled {
            Settled::Completed => update
                .col_expr(C::Status, Expr::value(QueueStatus::Completed))
                .col_expr(C::CompletedAt, Expr::value(crate::now())),
            Settled::Undelivered { error, tries } => update
                .col_expr(C::Status, Expr::value(after(row.attempts, tries)))
                .col_expr(C::DispatchedAt, Expr::value(None::<DateTime<Utc>>))
                .col_expr(C::LastError, Expr::value(clean(error))),
        };
        update.exec(&self.db).await?;
        Ok(())
    }

    /// Drops what lost its meaning, and lets those wait again that were sent before `lost`: who sent them
    /// is gone. Then tells which workspaces there is a message for.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn tidy_queue(&self, lost: DateTime<Utc>, tries: i32) -> Result<Vec<Uuid>, StoreError> {
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
        let values = [tries.into(), lost.into()];
        self.db.execute_raw(Statement::from_sql_and_values(self.backend(), sql, values)).await?;
        Ok(queued::Entity::find()
            .select_only()
            .column(C::WorkspaceId)
            .distinct()
            .filter(waits(crate::now()))
            .into_tuple()
            .all(&self.db)
            .await?)
    }

    /// Drops what waits since before `time`, for one workspace or for all. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn drop_stale_queued(
        &self,
        time: DateTime<Utc>,
        workspace: Option<Uuid>,
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
            values.push(workspace.into());
        }
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(self.db.execute_raw(statement).await?.rows_affected())
    }
}

fn waits(now: DateTime<Utc>) -> Expr {
    let forever = queued::Column::ExpiresAt.is_null();
    queued::Column::Status.eq(QueueStatus::Queued).and(forever.or(queued::Column::ExpiresAt.gt(now)))
}

/// What a message is after it was not delivered.
fn after(attempts: i32, tries: i32) -> QueueStatus {
    if attempts >= tries { QueueStatus::Failed } else { QueueStatus::Queued }
}
