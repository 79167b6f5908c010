//! Table `jobs`: work that takes longer than a request.

use sea_orm::entity::prelude::*;

use crate::jobs::JobState;

/// Work that takes longer than a request. Whoever owns it carries it from step to step.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What kind of work.
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    /// The same key asked again is the same job.
    #[sea_orm(column_type = "Text", nullable)]
    pub idempotency_key: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// The step that comes next, in the words of its kind.
    #[sea_orm(column_type = "Text")]
    pub step: String,
    /// The server that carries it.
    pub owner: Option<Uuid>,
    /// Grows with each owner; writes of an earlier one are refused.
    pub epoch: i64,
    /// Until when the present step must be done; then somebody else may take the job.
    pub deadline: DateTimeUtc,
    /// What was asked.
    pub request: Json,
    /// What came of it.
    pub result: Option<Json>,
    /// Why it failed.
    #[sea_orm(column_type = "Text", nullable)]
    pub error: Option<String>,
    /// When it was asked.
    pub created_at: DateTimeUtc,
    /// When it last moved.
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
