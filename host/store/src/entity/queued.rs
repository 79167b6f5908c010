//! Table `a2a_queue`: messages that wait for an agent that is busy.

use sea_orm::entity::prelude::*;

use super::text_enum::text_enum;

text_enum! {
    /// The state of a queued message.
    QueueStatus {
        /// Waits.
        Queued = "queued",
        /// On its way.
        Dispatched = "dispatched",
        /// Delivered.
        Completed = "completed",
        /// Given up before it was delivered.
        Dropped = "dropped",
        /// Could not be delivered.
        Failed = "failed",
    }
}

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "a2a_queue")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: Uuid,
    pub(crate) workspace_id: Uuid,
    pub(crate) caller_id: Option<Uuid>,
    pub(crate) priority: i32,
    #[sea_orm(column_type = "Text")]
    pub(crate) body: String,
    #[sea_orm(column_type = "Text")]
    pub(crate) method: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) idempotency_key: Option<String>,
    pub(crate) enqueued_at: DateTimeUtc,
    pub(crate) dispatched_at: Option<DateTimeUtc>,
    pub(crate) completed_at: Option<DateTimeUtc>,
    pub(crate) expires_at: Option<DateTimeUtc>,
    pub(crate) attempts: i32,
    pub(crate) status: QueueStatus,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) last_error: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
