//! Activity: what agents did and what was said to them.
//!
//! Rows get their number, and where need be a later time, in the transaction that stores them. So both
//! numbers and times strictly grow in the order of commits, whichever server writes and however long a
//! row waited to be written behind: who reads on from the last row that he saw misses none.

use std::collections::{HashSet, VecDeque};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::Event;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, Order, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use types::{ActivityId, ServerId, WorkspaceId};
use uuid::Uuid;

use crate::{
    CommitError, Mutation, Store, StoreError,
    entity::activity,
    first_answers::{self, FirstAnswer},
    leases,
    transaction::Transaction,
    write_behind::{Buffer, Pending, Room, WriteBehind},
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

/// Rows in one statement at most, a power of two. The statements of all smaller powers are prepared once and
/// fit into the connection's cache.
const STATEMENT_ROWS: usize = 128;

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

// === Writing ===

/// New activity rows.
#[derive(Debug)]
pub struct InsertActivity(pub Vec<ActivityRow>);

#[async_trait]
impl Mutation for InsertActivity {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        Ok(insert(tx, self.0.iter()).await?)
    }
}

/// A row to be written behind, and the event that publishes it once it is readable.
#[derive(Debug)]
pub struct LoggedActivity {
    /// The row.
    pub row: ActivityRow,
    /// None where it would reach no subscriber.
    pub event: Option<Event>,
}

/// A row of something that has not ended. A later row with the same id replaces it. Where none comes, because
/// `owner` ended before, another server finds it by its owner.
#[derive(Debug)]
pub struct StartedActivity {
    /// The row, as far as it is known.
    pub row: ActivityRow,
    /// The server that will write the row at the end.
    pub owner: ServerId,
}

impl WriteBehind for ActivityRow {
    fn add_to(self: Box<Self>, pending: &mut Pending) {
        Box::new(LoggedActivity { row: *self, event: None }).add_to(pending);
    }

    fn bytes(&self) -> Option<usize> {
        Some(self.size())
    }
}

impl WriteBehind for LoggedActivity {
    fn add_to(self: Box<Self>, pending: &mut Pending) {
        pending.with(|buffer: &mut Rows| {
            buffer.bytes += self.size();
            buffer.rows.push_back(*self);
        });
    }

    fn bytes(&self) -> Option<usize> {
        Some(self.size())
    }
}

impl WriteBehind for StartedActivity {
    fn add_to(self: Box<Self>, pending: &mut Pending) {
        pending.with(|buffer: &mut Started| {
            buffer.bytes += self.row.size();
            buffer.rows.push_back(*self);
        });
    }

    fn bytes(&self) -> Option<usize> {
        Some(self.row.size())
    }
}

/// Makes the buffer of rows, so that they are stored before what is in buffers that are made later.
pub(crate) fn make_buffer(pending: &mut Pending) {
    pending.with(|_: &mut Rows| ());
}

/// Rows in the order in which they were written behind; none replaces another.
#[derive(Debug, Default)]
struct Rows {
    rows: VecDeque<LoggedActivity>,
    bytes: usize,
}

/// Apart from [`Rows`]: one statement of Postgres can't write a row as started and as ended.
#[derive(Debug, Default)]
struct Started {
    rows: VecDeque<StartedActivity>,
    bytes: usize,
}

#[async_trait]
impl Buffer for Started {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        self.rows.iter().map(|started| started.row.workspace_id).collect()
    }

    async fn store(&self, tx: &mut Transaction, existing: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        let rows = self.rows.iter().filter(|started| existing.contains(&started.row.workspace_id));
        insert_owned(tx, rows.map(|started| (&started.row, Some(started.owner)))).await
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        let mut taken: Vec<Box<dyn WriteBehind>> = Vec::new();
        while let Some(started) = self.rows.pop_front_if(|started| room.takes(started.row.size())) {
            self.bytes -= started.row.size();
            taken.push(Box::new(started));
        }
        taken
    }
}

#[async_trait]
impl Buffer for Rows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        self.rows.iter().map(|logged| logged.row.workspace_id).collect()
    }

    async fn store(&self, tx: &mut Transaction, existing: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        let rows = self.rows.iter().map(|logged| &logged.row);
        insert(tx, rows.filter(|row| existing.contains(&row.workspace_id))).await
    }

    fn take_events(&mut self) -> Vec<(WorkspaceId, Event)> {
        let events =
            self.rows.iter_mut().filter_map(|logged| Some((logged.row.workspace_id, logged.event.take()?)));
        events.collect()
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        let mut taken: Vec<Box<dyn WriteBehind>> = Vec::new();
        while let Some(row) = self.rows.pop_front_if(|row| room.takes(row.size())) {
            self.bytes -= row.size();
            taken.push(Box::new(row));
        }
        taken
    }
}

/// Stores rows in their order. One that is stored already stays as it is: after a commit whose answer was
/// lost, rows are stored again. One that is stored as started becomes the new one, at its old place.
pub(crate) async fn insert<'a>(
    tx: &mut Transaction,
    rows: impl Iterator<Item = &'a ActivityRow> + Send,
) -> Result<(), StoreError> {
    insert_owned(tx, rows.map(|row| (row, None))).await
}

async fn insert_owned<'a>(
    tx: &mut Transaction,
    rows: impl Iterator<Item = (&'a ActivityRow, Option<ServerId>)> + Send,
) -> Result<(), StoreError> {
    use activity::Column as C;
    let rows: Vec<_> = rows.collect();
    let known = known_keys(tx, rows.iter().map(|(row, _)| *row)).await?;
    let is_new = |row: &ActivityRow| row.key.as_ref().is_none_or(|key| !known.contains(key));
    let (rows, repeated): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(row, _)| is_new(row));
    if !repeated.is_empty() {
        // Where they were stored as started, the row with their key stands for them.
        activity::Entity::delete_many()
            .filter(C::Id.is_in(repeated.iter().map(|(row, _)| row.id.0)))
            .filter(C::Owner.is_not_null())
            .exec(&tx.db)
            .await?;
    }
    let answers: Vec<_> = rows.iter().filter_map(|(row, _)| Some((row.id, row.answer.as_deref()?))).collect();
    let sequencer = &mut tx.sequencer;
    let rows = rows.into_iter().map(|(row, owner)| {
        let (seq, at) = sequencer.assign_activity(row.created_at);
        let owner = owner.map(|server| server.0);
        activity::Model { owner, ..row.stored(seq, at) }.into_active_model().reset_all()
    });
    let replaced = [
        C::Summary,
        C::ResponseBody,
        C::ToolTrace,
        C::DurationMs,
        C::Status,
        C::ErrorDetail,
        C::IdempotencyKey,
        C::Owner,
    ];
    let mut rows = rows.collect::<Vec<_>>().into_iter();
    while rows.len() > 0 {
        let power = 1 << rows.len().ilog2();
        activity::Entity::insert_many(rows.by_ref().take(STATEMENT_ROWS.min(power)))
            .on_conflict(
                OnConflict::column(C::Id)
                    .update_columns(replaced)
                    .action_and_where(Expr::col((activity::Entity, C::Owner)).is_not_null())
                    .to_owned(),
            )
            .exec_without_returning(&tx.db)
            .await?;
    }
    first_answers::insert_answers(tx, answers).await
}

/// Keys of these rows that a row of the last [`SAME_MESSAGE`] has. All commits have one order, so no index has to keep
/// them unique.
async fn known_keys<'a>(
    tx: &Transaction,
    rows: impl Iterator<Item = &'a ActivityRow>,
) -> Result<HashSet<String>, StoreError> {
    use activity::Column as C;
    let keys: Vec<&str> = rows.filter_map(|row| row.key.as_deref()).collect();
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let known: Vec<String> = activity::Entity::find()
        .select_only()
        .column(C::IdempotencyKey)
        .filter(C::IdempotencyKey.is_in(keys))
        .filter(C::CreatedAt.gt(crate::now() - SAME_MESSAGE))
        .into_tuple()
        .all(&tx.db)
        .await?;
    Ok(known.into_iter().collect())
}

impl LoggedActivity {
    /// Memory that the row and its event take, about: the event has its own copy of the texts.
    fn size(&self) -> usize {
        self.row.size() * if self.event.is_some() { 2 } else { 1 }
    }
}

impl ActivityRow {
    /// Memory that the row takes, about.
    fn size(&self) -> usize {
        let optional = [
            &self.method,
            &self.summary,
            &self.request_body,
            &self.response_body,
            &self.tool_trace,
            &self.error_detail,
        ];
        let optional: usize = optional.into_iter().flatten().map(String::len).sum();
        let answer = self.answer.as_ref().map_or(0, |answer| answer.size());
        size_of::<Self>() + self.activity_type.len() + self.status.len() + optional + answer
    }

    /// The row as it is stored, under this number.
    fn stored(&self, seq: i64, at: DateTime<Utc>) -> activity::Model {
        activity::Model {
            seq,
            id: self.id.0,
            workspace_id: self.workspace_id.0,
            activity_type: self.activity_type.clone(),
            source_id: self.source_id.map(Uuid::from),
            target_id: self.target_id.map(Uuid::from),
            method: self.method.clone(),
            summary: self.summary.clone(),
            request_body: self.request_body.clone(),
            response_body: self.response_body.clone(),
            tool_trace: self.tool_trace.clone(),
            duration_ms: self.duration_ms,
            status: self.status.clone(),
            error_detail: self.error_detail.clone(),
            idempotency_key: self.key.clone(),
            created_at: at,
            owner: None,
        }
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
