//! Table `a2a_queue`: messages that wait for an agent that is busy.

use sea_orm::entity::prelude::*;

use crate::queue::QueueStatus;

/// A message that waits, or waited, for an agent that is busy.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "a2a_queue")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Workspace that the message is for.
    pub workspace_id: Uuid,
    /// Workspace that sent the message; none for users.
    pub caller_id: Option<Uuid>,
    /// Higher ones are first.
    pub priority: i32,
    /// The message, ready to be sent.
    #[sea_orm(column_type = "Text")]
    pub body: String,
    /// Its method.
    #[sea_orm(column_type = "Text")]
    pub method: String,
    /// A message with the same key for the same workspace is the same one while it waits.
    #[sea_orm(column_type = "Text", nullable)]
    pub idempotency_key: Option<String>,
    /// When it came.
    pub enqueued_at: DateTimeUtc,
    /// When it was sent, if it is on its way.
    pub dispatched_at: Option<DateTimeUtc>,
    /// When it was delivered.
    pub completed_at: Option<DateTimeUtc>,
    /// When it loses its meaning.
    pub expires_at: Option<DateTimeUtc>,
    /// How often it was sent.
    pub attempts: i32,
    /// Where it stands.
    pub status: QueueStatus,
    /// What went wrong last.
    #[sea_orm(column_type = "Text", nullable)]
    pub last_error: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
