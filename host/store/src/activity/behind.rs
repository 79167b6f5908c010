//! Rows of activity that wait to be written behind.

use std::collections::HashSet;

use async_trait::async_trait;
use events::Event;
use types::{ServerId, WorkspaceId};

use super::{
    ActivityRow,
    insert::{insert, insert_owned},
};
use crate::{
    StoreError,
    transaction::Transaction,
    write_behind::{Buffer, Fifo, Limited, Pending, Room, WriteBehind},
};

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
        pending.with(|buffer: &mut Rows| buffer.0.push(*self));
    }

    fn bytes(&self) -> Option<usize> {
        Some(self.size())
    }
}

impl WriteBehind for StartedActivity {
    fn add_to(self: Box<Self>, pending: &mut Pending) {
        pending.with(|buffer: &mut Started| buffer.0.push(*self));
    }

    fn bytes(&self) -> Option<usize> {
        Some(self.row.size())
    }
}

/// Makes the buffer of rows, so that they are stored before what is in buffers that are made later.
pub(crate) fn make_buffer(pending: &mut Pending) {
    pending.with(|_: &mut Rows| ());
}

#[derive(Debug, Default)]
struct Rows(Fifo<LoggedActivity>);

/// Apart from [`Rows`]: one statement of Postgres can't write a row as started and as ended.
#[derive(Debug, Default)]
struct Started(Fifo<StartedActivity>);

#[async_trait]
impl Buffer for Started {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn limited(&self) -> Limited {
        self.0.limited()
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        self.0.iter().map(|started| started.row.workspace_id).collect()
    }

    async fn store(&self, tx: &mut Transaction, existing: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        let rows = self.0.iter().filter(|started| existing.contains(&started.row.workspace_id));
        insert_owned(tx, rows.map(|started| (&started.row, Some(started.owner)))).await
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        self.0.take(room)
    }
}

#[async_trait]
impl Buffer for Rows {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn limited(&self) -> Limited {
        self.0.limited()
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        self.0.iter().map(|logged| logged.row.workspace_id).collect()
    }

    async fn store(&self, tx: &mut Transaction, existing: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        let rows = self.0.iter().map(|logged| &logged.row);
        insert(tx, rows.filter(|row| existing.contains(&row.workspace_id))).await
    }

    fn take_events(&mut self) -> Vec<(WorkspaceId, Event)> {
        let events =
            self.0.iter_mut().filter_map(|logged| Some((logged.row.workspace_id, logged.event.take()?)));
        events.collect()
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        self.0.take(room)
    }
}

impl LoggedActivity {
    /// Memory that the row and its event take, about: the event has its own copy of the texts.
    fn size(&self) -> usize {
        self.row.size() * if self.event.is_some() { 2 } else { 1 }
    }
}

impl ActivityRow {
    /// Memory that the row takes, about.
    pub(super) fn size(&self) -> usize {
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
}
