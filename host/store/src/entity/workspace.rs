//! Table `workspaces`: what is wanted of each, and what was seen.

use sea_orm::entity::prelude::*;

use crate::workspaces::{Container, DesiredState, Hosting, Status};

/// A workspace: what it is, what is wanted of it, what was seen of it.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "workspaces")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Unique among its siblings that are not removed.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// What it is for.
    #[sea_orm(column_type = "Text", nullable)]
    pub role: Option<String>,
    /// 1 to 4: how much of the host it may touch.
    pub tier: i32,
    /// What runs in it.
    #[sea_orm(column_type = "Text")]
    pub runtime: String,
    /// Who runs it, as the runtime's adapter said when the row was made.
    pub hosting: Hosting,
    /// The workspace above it.
    pub parent_id: Option<Uuid>,
    /// `push` or `poll`: do messages go to it, or does it fetch them?
    #[sea_orm(column_type = "Text")]
    pub delivery_mode: String,
    /// Directory of the host that it works in.
    #[sea_orm(column_type = "Text", nullable)]
    pub workspace_dir: Option<String>,
    /// `none`, `read_only` or `read_write`: what it may do there.
    #[sea_orm(column_type = "Text")]
    pub workspace_access: String,
    /// Cents per month.
    pub budget_limit: Option<i64>,
    /// Tasks that it takes at once.
    pub max_concurrent_tasks: i32,
    /// Minutes without work until it is hibernated; never when none.
    pub hibernation_idle_minutes: Option<i32>,
    /// What it was made from, for the first start: an object.
    pub spec: Json,
    /// What people want of it.
    pub wanted: DesiredState,
    /// Grows with everything that people want of it.
    pub generation: i64,
    /// What clients are told.
    pub status: Status,
    /// Since when.
    pub status_since: DateTimeUtc,
    /// The generation that was last seen to be fulfilled.
    pub observed_generation: i64,
    /// What the backend last said of its container.
    pub container: Container,
    /// Grows with each start. What belongs to an earlier one is ignored.
    pub attempt: i32,
    /// When the present attempt began.
    pub attempt_at: Option<DateTimeUtc>,
    /// Failures in a row, for the back-off.
    pub failures: i32,
    /// No further try before this.
    pub retry_at: Option<DateTimeUtc>,
    /// What else was seen: a list of type, status, reason, message, since.
    pub conditions: Json,
    /// Where its agent is reached.
    #[sea_orm(column_type = "Text", nullable)]
    pub url: Option<String>,
    /// How its agent describes itself.
    pub agent_card: Option<Json>,
    /// The last thing that went wrong, in words for people.
    #[sea_orm(column_type = "Text", nullable)]
    pub last_sample_error: Option<String>,
    /// Grows with each write of the row; a write names the one it began from.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When the row was last written.
    pub updated_at: DateTimeUtc,
    /// When it was removed; set once.
    pub removed_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
