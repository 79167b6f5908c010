//! What clients read and report over HTTP: activity, reports of agents, messages that wait.

use chrono::{DateTime, Duration, Utc};
use fleet::rules::DeliveryMode;
use store::{
    StoreError,
    activity::{ActivityFilter, ActivityRow, RECEIVED},
    queue::QueuedRow,
};
use types::{ActivityId, QueueItemId, WorkspaceId};
use wire_json::RawJson;

use crate::{
    Messaging,
    activity::Entry,
    error::LogError,
    limits::{ACTIVITY_PAGE_BYTES, ACTIVITY_ROWS, MAX_ACTIVITY_ROWS},
};

/// Kinds of activity that agents may report.
const REPORTED: [&str; 7] =
    ["a2a_send", "a2a_receive", "task_update", "agent_log", "skill_promotion", "memory_write", "error"];

/// The longest time to look back: thirty days, in seconds.
const MAX_LOOK_BACK: i64 = 2_592_000;

/// The rows of activity that a client wants. All given conditions must hold.
#[derive(Debug, Clone)]
pub struct ActivityQuery {
    /// The workspace whose activity is read.
    pub workspace: WorkspaceId,
    /// Only of this kind.
    pub activity_type: Option<String>,
    /// Only rows of agents (`agent`), or of users (`canvas`). Checked after the cursor, as clients expect.
    pub source: Option<String>,
    /// Only rows from or to this workspace.
    pub peer: Option<WorkspaceId>,
    /// Only older rows.
    pub before: Option<DateTime<Utc>>,
    /// Only rows of the last so many seconds.
    pub since_secs: Option<i64>,
    /// Only rows after the one with this id, the oldest first; without it the newest come first. Text that
    /// is no id is the id of no row.
    pub after: Option<String>,
    /// Rows at most, where the client says so.
    pub limit: Option<u64>,
    /// The workspace's own agent asks.
    pub by_own_agent: bool,
}

/// Rows of activity, and where the next ones are if rows were left out because of their size.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityList {
    /// The rows.
    pub rows: Vec<ActivityRow>,
    /// What the next ones are asked for by.
    pub next: Option<NextRows>,
}

/// The parameter that asks for the rows after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextRows {
    /// Those after this row, the oldest first.
    After(ActivityId),
    /// Those before this time, the newest first.
    Before(DateTime<Utc>),
}

/// Why activity could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ActivityError {
    /// The row to read on from does not exist. Pollers begin anew on this answer only.
    #[error(
        "since_id cursor not found (row may have been pruned or belongs to a different workspace); \
         omit since_id to reset"
    )]
    CursorGone,
    /// The row to read on from could not be looked up.
    #[error("cursor lookup failed")]
    Cursor(#[source] StoreError),
    /// The rows could not be read.
    #[error("query failed")]
    Read(#[source] StoreError),
    /// The source is neither agents nor users.
    #[error("source must be 'canvas' or 'agent'")]
    UnknownSource,
}

/// Activity that an agent reports. Texts are not empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Kind of activity.
    pub activity_type: String,
    /// The workspace that the report says it comes from.
    pub source_id: Option<String>,
    /// The workspace that it is about.
    pub target_id: Option<String>,
    /// Method of the message, if it is about one.
    pub method: Option<String>,
    /// One line of text.
    pub summary: Option<String>,
    /// The request.
    pub request_body: Option<RawJson>,
    /// The response.
    pub response_body: Option<RawJson>,
    /// Duration in milliseconds.
    pub duration_ms: Option<i64>,
    /// Outcome; `ok` where it is not given.
    pub status: Option<String>,
    /// What went wrong.
    pub error_detail: Option<String>,
}

/// Why a report was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Agents don't report this kind of activity.
    #[error("invalid activity_type, must be one of: {}", REPORTED.join(", "))]
    UnknownType,
    /// An agent reports for its own workspace only.
    #[error("source_id must match authenticated workspace")]
    ForeignSource,
    /// The target is no id.
    #[error("target_id must be a UUID")]
    InvalidTarget,
    /// The report could not be stored.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The identity under which a message that waits is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// An operator, who may read all.
    Operator,
    /// The agent of a workspace, which may read what it sent and what was sent to it.
    Workspace(WorkspaceId),
}

impl Messaging {
    /// Rows of activity.
    ///
    /// # Errors
    /// If the cursor is gone, or the database can't be read.
    pub async fn activity(&self, query: ActivityQuery) -> Result<ActivityList, ActivityError> {
        let oldest_first = self.is_first_poll(&query);
        let store = self.fleet.store();
        let after = match &query.after {
            None => None,
            Some(cursor) => {
                let cursor = ActivityId::parse(cursor).map_err(|_| ActivityError::CursorGone)?;
                let place = store.activity_place(query.workspace, cursor).await;
                Some(place.map_err(ActivityError::Cursor)?.ok_or(ActivityError::CursorGone)?)
            }
        };
        let by_agents = match query.source.as_deref() {
            None => None,
            Some("canvas") => Some(false),
            Some("agent") => Some(true),
            Some(_) => return Err(ActivityError::UnknownSource),
        };
        let since =
            query.since_secs.map(|seconds| store::now() - Duration::seconds(seconds.min(MAX_LOOK_BACK)));
        let filter = ActivityFilter {
            workspace: query.workspace,
            activity_type: query.activity_type,
            by_agents,
            peer: query.peer,
            before: query.before,
            since,
            after,
            oldest_first,
            limit: query.limit.unwrap_or(ACTIVITY_ROWS).min(MAX_ACTIVITY_ROWS),
            bytes: ACTIVITY_PAGE_BYTES,
        };
        let page = store.activity(&filter).await.map_err(ActivityError::Read)?;
        let next = page.rows.last().filter(|_| page.is_cut).map(|last| match after {
            None if !oldest_first => NextRows::Before(last.created_at),
            _ => NextRows::After(last.id),
        });
        Ok(ActivityList { rows: page.rows, next })
    }

    /// Whether an agent that polls reads its messages for the first time. Two clients take the newest 100 rows as
    /// the oldest first, and go on after the last one: newest first, they would miss what came in between.
    fn is_first_poll(&self, query: &ActivityQuery) -> bool {
        let unfiltered = query.after.is_none()
            && query.source.is_none()
            && query.peer.is_none()
            && query.before.is_none()
            && query.activity_type.as_deref() == Some(RECEIVED);
        let workspace = self.fleet.workspaces().get(query.workspace);
        let polls = workspace.is_some_and(|workspace| workspace.row.delivery_mode == DeliveryMode::Poll);
        query.by_own_agent && query.limit == Some(ACTIVITY_ROWS) && unfiltered && polls
    }

    /// Stores what the agent of a workspace reports. The row is readable when this returns.
    ///
    /// # Errors
    /// If the agent may not report that, or it can't be stored.
    pub async fn report(&self, workspace: WorkspaceId, report: Report) -> Result<(), ReportError> {
        if !REPORTED.contains(&report.activity_type.as_str()) {
            return Err(ReportError::UnknownType);
        }
        if report.source_id.is_some_and(|source| WorkspaceId::parse(&source) != Ok(workspace)) {
            return Err(ReportError::ForeignSource);
        }
        let target = report.target_id.map(|target| WorkspaceId::parse(&target)).transpose();
        let entry = Entry {
            workspace_id: workspace,
            activity_type: report.activity_type,
            source_id: Some(workspace),
            target_id: target.map_err(|_| ReportError::InvalidTarget)?,
            method: report.method,
            summary: report.summary,
            request_body: report.request_body,
            response_body: report.response_body,
            tool_trace: None,
            duration_ms: report.duration_ms,
            status: report.status.unwrap_or_else(|| "ok".to_owned()),
            error_detail: report.error_detail,
            key: None,
            answer: None,
            begun: None,
        };
        Ok(self.log(entry).await?)
    }

    /// A queued message, if it is from or for `workspace` and `reader` may read it.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn queued_message(
        &self,
        id: QueueItemId,
        workspace: WorkspaceId,
        reader: Reader,
    ) -> Result<Option<QueuedRow>, StoreError> {
        let concerns =
            |row: &QueuedRow, one: WorkspaceId| row.workspace_id == one || row.caller_id == Some(one);
        let may_read = |row: &QueuedRow| match reader {
            Reader::Operator => true,
            Reader::Workspace(own) => concerns(row, own),
        };
        let row = self.fleet.store().queued(id).await?;
        Ok(row.filter(|row| concerns(row, workspace) && may_read(row)))
    }

    /// Drops messages that wait for longer than `minutes`, for one workspace or for all. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn drop_stale(&self, minutes: i64, workspace: Option<WorkspaceId>) -> Result<u64, StoreError> {
        let before = store::time_ago(Duration::try_minutes(minutes).unwrap_or(Duration::MAX));
        self.fleet.store().drop_stale_queued(before, workspace).await
    }
}
