//! Work that takes longer than a request: rows with a state, a step and an owner, so that a crash ends
//! in another server's hands or in a named failure, never in nothing.

use std::time::Duration;

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DbBackend, DeriveActiveEnum, EntityTrait as _, EnumIter,
    IntoActiveModel as _, QueryFilter as _, SqlErr, Statement,
    sea_query::{Expr, ExprTrait as _},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

pub use crate::entity::job::Model as JobRow;
use crate::{Store, StoreError, entity::job, workspaces::words};

words! {
    /// Where a job stands.
    JobState {
        /// Somebody works on it, or died doing so.
        Running = "running",
        /// It came to its end.
        Done = "done",
        /// It can't be finished, for the reason given.
        Failed = "failed",
    }
}

/// A job to be started.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What kind of work.
    pub kind: String,
    /// The same key asked again is the same job.
    pub idempotency_key: Option<String>,
    /// The first step.
    pub step: String,
    /// How long the first step may take.
    pub patience: Duration,
    /// What was asked.
    pub request: Value,
}

impl Store {
    /// Starts a job as `owner`, or finds the one with the same key. `true`: it is new.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn start_job(&self, new: NewJob, owner: Uuid) -> Result<(JobRow, bool), StoreError> {
        let now = crate::now();
        let row = JobRow {
            id: Uuid::new_v4(),
            kind: new.kind,
            idempotency_key: new.idempotency_key.clone(),
            state: JobState::Running,
            step: new.step,
            owner: Some(owner),
            epoch: 1,
            deadline: now + new.patience,
            request: new.request,
            result: None,
            error: None,
            created_at: now,
            updated_at: now,
        };
        let inserted =
            job::Entity::insert(row.clone().into_active_model().reset_all()).exec_without_returning(&self.db);
        match (inserted.await, new.idempotency_key) {
            (Ok(_), _) => Ok((row, true)),
            (Err(error), Some(key))
                if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) =>
            {
                let earlier = job::Entity::find().filter(job::Column::IdempotencyKey.eq(key));
                Ok((earlier.one(&self.db).await?.ok_or(StoreError::Gone)?, false))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// A job by id.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn job(&self, id: Uuid) -> Result<Option<JobRow>, StoreError> {
        Ok(job::Entity::find_by_id(id).one(&self.read).await?)
    }

    /// Takes over a job of this kind whose owner let its deadline pass.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn adopt_job(
        &self,
        kind: &str,
        owner: Uuid,
        patience: Duration,
    ) -> Result<Option<JobRow>, StoreError> {
        let skip = if self.backend() == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "UPDATE jobs SET owner = $1, epoch = epoch + 1, deadline = $2, updated_at = $3 \
             WHERE id = (SELECT id FROM jobs WHERE kind = $4 AND state = 'running' AND deadline < $3 \
                         ORDER BY deadline LIMIT 1 {skip}) RETURNING *"
        );
        let now = crate::now();
        let values = [owner.into(), (now + patience).into(), now.into(), kind.into()];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(job::Entity::find().from_raw_sql(statement).one(&self.db).await?)
    }

    /// Notes that the job comes to its next step. `false`: it is somebody else's by now.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn step_job(&self, job: &JobRow, step: &str, patience: Duration) -> Result<bool, StoreError> {
        let now = crate::now();
        let stepped = job::Entity::update_many()
            .col_expr(job::Column::Step, Expr::value(step))
            .col_expr(job::Column::Deadline, Expr::value(now + patience))
            .col_expr(job::Column::UpdatedAt, Expr::value(now))
            .filter(Self::ours(job))
            .exec(&self.db)
            .await?;
        Ok(stepped.rows_affected == 1)
    }

    /// Ends the job, well or with a reason. `false`: it is somebody else's by now.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_job(&self, job: &JobRow, end: Result<Value, String>) -> Result<bool, StoreError> {
        let (state, result, error) = match end {
            Ok(result) => (JobState::Done, Some(result), None),
            Err(reason) => (JobState::Failed, None, Some(reason)),
        };
        let ended = job::Entity::update_many()
            .col_expr(job::Column::State, Expr::value(state.as_str()))
            .col_expr(job::Column::Result, Expr::value(result))
            .col_expr(job::Column::Error, Expr::value(error))
            .col_expr(job::Column::UpdatedAt, Expr::value(crate::now()))
            .filter(Self::ours(job))
            .exec(&self.db)
            .await?;
        Ok(ended.rows_affected == 1)
    }

    fn ours(job: &JobRow) -> sea_orm::sea_query::SimpleExpr {
        job::Column::Id
            .eq(job.id)
            .and(job::Column::Epoch.eq(job.epoch))
            .and(job::Column::State.eq(JobState::Running))
    }
}
