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
    /// When it may be sent again, unless its agent reports earlier.
    pub(crate) not_before: Option<DateTimeUtc>,
    /// Tries in a row that did not reach the agent. They are not attempts.
    pub(crate) unreached: i32,
    /// Server that delivers it.
    pub(crate) owner: Option<Uuid>,
    /// How often it was claimed: the outcome of an earlier claim must not overwrite that of a later one.
    pub(crate) claim: i64,
    /// When it was completed, dropped, or failed.
    pub(crate) finished_at: Option<DateTimeUtc>,
    /// Servers and agents that it went through before it was queued.
    pub(crate) hops: i64,
    /// Headers that it is sent with; a list of names and values as JSON.
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) headers: Option<String>,
    /// How many waited when it was queued, itself included; none of rows of earlier versions.
    pub(crate) depth: Option<i64>,
    /// Bytes of body and headers. Triggers add them up in `a2a_queue_sizes` while the message waits or is on its way.
    pub(crate) bytes: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
