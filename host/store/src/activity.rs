//! Activity: what agents did and what was said to them.
//!
//! Rows get their number, and where need be a later time, in the transaction that stores them. So both
//! numbers and times strictly grow in the order of commits, whichever server writes and however long a
//! row waited to be written behind: who reads on from the last row that he saw misses none.

mod behind;
mod insert;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, Order, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
    sea_query::{Expr, ExprTrait as _},
};
use types::{ActivityId, ServerId, WorkspaceId};
use uuid::Uuid;

use crate::{
    CommitError, Mutation, Store, StoreError, entity::activity, first_answers::FirstAnswer, leases,
    transaction::Transaction,
};

pub(crate) use self::{behind::make_buffer, insert::insert};
pub use self::{
    behind::{LoggedActivity, StartedActivity},
    insert::InsertActivity,
};

/// Type of a message that a workspace received: that of nearly all rows.
pub const RECEIVED: &str = "a2a_receive";

/// Bytes of a row: its texts, and about as much as the rest has as JSON.
const SIZE: &str = "CAST(400 + octet_length(activity_type) + COALESCE(octet_length(method), 0) \
                    + COALESCE(octet_length(summary), 0) + COALESCE(octet_length(error_detail), 0) \
                    + COALESCE(octet_length(request_body), 0) + COALESCE(octet_length(response_body), 0) \
                    + COALESCE(octet_length(tool_trace), 0) AS BIGINT)";

/// How long a message that is sent twice is the same message.
pub const SAME_MESSAGE: chrono::Duration = chrono::Duration::hours(24);

/// A row of activity. Bodies are JSON texts.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityRow {
    /// Its id. One that is stored already is not stored again.
    pub id: ActivityId,
    /// The workspace in whose activity the row is listed.
    pub workspace_id: WorkspaceId,
    /// Kind of activity.
    pub activity_type: String,
    /// Workspace that acted; none for users.
    pub source_id: Option<WorkspaceId>,
    /// Workspace that the message is for.
    pub target_id: Option<WorkspaceId>,
    /// Its method.
    pub method: Option<String>,
    /// In one line.
    pub summary: Option<String>,
    /// The request.
    pub request_body: Option<String>,
    /// The response.
    pub response_body: Option<String>,
    /// Tools that were used.
    pub tool_trace: Option<String>,
    /// How long it took, milliseconds.
    pub duration_ms: Option<i64>,
    /// How it went.
    pub status: String,
    /// What went wrong.
    pub error_detail: Option<String>,
    /// Digest by which the message is recognized when it is sent again, if it was delivered. A second row with the
    /// key within [`SAME_MESSAGE`] is not stored.
    pub key: Option<String>,
    /// The answer that is given to the same message again, where it is not status 200 with the response as it is here.
    /// Written with the row, and not read with it.
    pub answer: Option<Box<FirstAnswer>>,
    /// When. Stored a little later where another row has that time.
    pub created_at: DateTime<Utc>,
}

/// A filter of rows. All given conditions must hold.
#[derive(Debug, Clone)]
pub struct ActivityFilter {
    /// Workspace in whose activity the rows are listed.
    pub workspace: WorkspaceId,
    /// Only of this kind.
    pub activity_type: Option<String>,
    /// Only those of agents (`true`), or of people (`false`).
    pub by_agents: Option<bool>,
    /// Only those from or to this workspace.
    pub peer: Option<WorkspaceId>,
    /// Only older ones.
    pub before: Option<DateTime<Utc>>,
    /// Only newer ones.
    pub since: Option<DateTime<Utc>>,
    /// Only those after this one; then the oldest come first, else the newest.
    pub after: Option<Place>,
    /// The newest rows are selected, and the oldest of them comes first.
    pub oldest_first: bool,
    /// This many at most.
    pub limit: u64,
    /// Bytes of their texts at most. A first row is there even if it exceeds them.
    pub bytes: u64,
}

/// Rows of activity in the order of their filter.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityPage {
    /// The rows.
    pub rows: Vec<ActivityRow>,
    /// Rows at the end were left out: with them, the page would exceed its bytes.
    pub is_cut: bool,
}

/// The place of a row among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    at: DateTime<Utc>,
    seq: i64,
}

impl Store {
    /// Rows of activity.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn activity(&self, filter: &ActivityFilter) -> Result<ActivityPage, StoreError> {
        use activity::Column as C;
        // Sizes first: a row has up to 30 MiB, and databases know the size of a text without reading it.
        let sizes = selected(filter).select_only().column(C::Seq).expr(Expr::cust(SIZE));
        let mut sizes: Vec<(i64, i64)> = sizes.into_tuple().all(&self.read).await?;
        if filter.oldest_first {
            sizes.reverse();
        }
        let fitting = fitting(sizes.iter().map(|(_, size)| *size), filter.bytes);
        let order: Vec<i64> = sizes.iter().take(fitting).map(|(seq, _)| *seq).collect();
        if order.is_empty() {
            return Ok(ActivityPage { rows: Vec::new(), is_cut: false });
        }
        let ascending = filter.after.is_some() || filter.oldest_first;
        let direction = if ascending { Order::Asc } else { Order::Desc };
        let is_cut = order.len() < sizes.len();
        let rows = activity::Entity::find().filter(C::Seq.is_in(order)).order_by(C::Seq, direction);
        let rows = rows.all(&self.read).await?;
        Ok(ActivityPage { rows: rows.into_iter().map(ActivityRow::from).collect(), is_cut })
    }

    /// The place of a row of this workspace, if it is there.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn activity_place(
        &self,
        workspace: WorkspaceId,
        id: ActivityId,
    ) -> Result<Option<Place>, StoreError> {
        let found: Option<(DateTime<Utc>, i64)> = activity::Entity::find()
            .select_only()
            .columns([activity::Column::CreatedAt, activity::Column::Seq])
            .filter(activity::Column::Id.eq(id.0))
            .filter(activity::Column::WorkspaceId.eq(workspace.0))
            .into_tuple()
            .one(&self.read)
            .await?;
        Ok(found.map(|(at, seq)| Place { at, seq }))
    }
}

/// The query of a filter, in its order.
fn selected(filter: &ActivityFilter) -> Select<activity::Entity> {
    use activity::Column as C;
    let mut query = activity::Entity::find().filter(C::WorkspaceId.eq(filter.workspace.0));
    if let Some(kind) = &filter.activity_type {
        query = query.filter(C::ActivityType.eq(kind));
        // Databases use a partial index where its condition stands in the query, word for word.
        if kind != RECEIVED {
            query = query.filter(Expr::cust("activity_type <> 'a2a_receive'"));
        }
    }
    match filter.by_agents {
        Some(true) => query = query.filter(C::SourceId.is_not_null()),
        Some(false) => query = query.filter(C::SourceId.is_null()),
        None => {}
    }
    if let Some(peer) = filter.peer {
        let is_peer = |column: C| {
            let found = Expr::col(column).eq(peer.0);
            // The indexes of sources and targets hold other workspaces only, and say so in these words.
            if peer == filter.workspace {
                found
            } else {
                found.and(Expr::col(column).ne(Expr::col(C::WorkspaceId)))
            }
        };
        query = query.filter(is_peer(C::SourceId).or(is_peer(C::TargetId)));
    }
    if let Some(before) = filter.before {
        query = query.filter(C::CreatedAt.lt(before));
    }
    if let Some(since) = filter.since {
        query = query.filter(C::CreatedAt.gt(since));
    }
    match filter.after {
        // Times grow with numbers; this form is one that indexes help with.
        Some(Place { at, seq }) => query
            .filter(C::CreatedAt.gte(at))
            .filter(C::Seq.gt(seq))
            .order_by_asc(C::CreatedAt)
            .order_by_asc(C::Seq),
        None => query.order_by_desc(C::CreatedAt).order_by_desc(C::Seq),
    }
    .limit(filter.limit)
}

/// How many of these sizes fit: all from the beginning as long as their sum does, and the first in any case.
fn fitting(sizes: impl Iterator<Item = i64>, bytes: u64) -> usize {
    let mut sum = 0_u64;
    let sums = sizes.map(|size| {
        sum = sum.saturating_add(size.unsigned_abs());
        sum
    });
    sums.enumerate().take_while(|(at, sum)| *at == 0 || *sum <= bytes).count()
}

// === What ended with its server ===

impl Store {
    /// Rows of what had not ended when its server did: at most `limit`, the oldest first. `server` is the one
    /// that asks.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn abandoned_activity(
        &self,
        server: ServerId,
        limit: u64,
    ) -> Result<Vec<ActivityRow>, StoreError> {
        use activity::Column as C;
        let mut query = activity::Entity::find().filter(C::Owner.is_not_null()).filter(C::Owner.ne(server.0));
        if !self.is_single_process() {
            let live = leases::live_server(self.backend(), "activity_logs.owner");
            query = query.filter(Expr::cust(format!("NOT {live}")));
        }
        let rows = query.order_by_asc(C::Seq).limit(limit).all(&self.read).await?;
        Ok(rows.into_iter().map(ActivityRow::from).collect())
    }
}

/// A row that a server left unended gets its end. Conflicts when it has one by now.
#[derive(Debug)]
pub struct EndAbandonedActivity(pub ActivityRow);

#[async_trait]
impl Mutation for EndAbandonedActivity {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        use activity::Column as C;
        let row = &self.0;
        let ended = activity::Entity::update_many()
            .col_expr(C::Summary, Expr::value(row.summary.clone()))
            .col_expr(C::Status, Expr::value(row.status.clone()))
            .col_expr(C::ErrorDetail, Expr::value(row.error_detail.clone()))
            .col_expr(C::Owner, Expr::value(None::<Uuid>))
            .filter(C::Id.eq(row.id.0))
            .filter(C::Owner.is_not_null())
            .exec(&tx.db)
            .await?;
        if ended.rows_affected == 1 { Ok(()) } else { Err(CommitError::Conflict) }
    }
}

impl From<activity::Model> for ActivityRow {
    fn from(row: activity::Model) -> Self {
        Self {
            id: ActivityId(row.id),
            workspace_id: WorkspaceId(row.workspace_id),
            activity_type: row.activity_type,
            source_id: row.source_id.map(WorkspaceId),
            target_id: row.target_id.map(WorkspaceId),
            method: row.method,
            summary: row.summary,
            request_body: row.request_body,
            response_body: row.response_body,
            tool_trace: row.tool_trace,
            duration_ms: row.duration_ms,
            status: row.status,
            error_detail: row.error_detail,
            key: row.idempotency_key,
            answer: None,
            created_at: row.created_at,
        }
    }
}
