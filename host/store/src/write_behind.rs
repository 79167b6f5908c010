//! Rows that are not worth a transaction of their own: they are stored with others a moment later, and
//! may be lost with the process.
//!
//! Open like mutations: an entry is a type beside its table, and knows the [`Buffer`] in which entries of
//! its kind wait. `behind` is the queue of them.

use std::{
    any::Any,
    collections::{HashSet, VecDeque},
    fmt::{Debug, Formatter},
    ops::Add,
};

use async_trait::async_trait;
use events::Event;
use types::WorkspaceId;

use crate::{StoreError, transaction::Transaction};

/// A row to be written behind.
pub trait WriteBehind: Debug + Send + Sync + 'static {
    /// Puts the row into the buffer of its kind.
    fn add_to(self: Box<Self>, pending: &mut Pending);

    /// Memory that the row takes while it waits, in bytes; it is lost where that exceeds the limit. None where
    /// something else bounds how many wait: of rows that replace each other there are never more than workspaces
    /// or tokens.
    fn bytes(&self) -> Option<usize> {
        None
    }
}

/// Rows of one kind that wait to be stored: all of them, or the newest of those that replace each other.
#[async_trait]
pub(crate) trait Buffer: Any + Debug + Send + Sync {
    /// Rows that wait.
    fn len(&self) -> usize;

    /// Those of them that the limit is for.
    fn limited(&self) -> Limited {
        Limited::default()
    }

    /// Workspaces without which a row is left out.
    fn workspaces(&self) -> Vec<WorkspaceId> {
        Vec::new()
    }

    /// Stores the rows, except those of workspaces that do not exist.
    async fn store(&self, tx: &mut Transaction, existing: &HashSet<WorkspaceId>) -> Result<(), StoreError>;

    /// Takes the events by which its rows are published, once they are stored.
    fn take_events(&mut self) -> Vec<(WorkspaceId, Event)> {
        Vec::new()
    }

    /// Takes out the oldest rows, as an entry each: as many as there are or `room` has space for.
    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>>;
}

/// Rows that have [`WriteBehind::bytes`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limited {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Add for Limited {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }
}

/// Rows of one kind in the order in which they were written behind; none replaces another.
#[derive(Debug)]
pub(crate) struct Fifo<T> {
    rows: VecDeque<T>,
    limited: Limited,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { rows: VecDeque::new(), limited: Limited::default() }
    }
}

impl<T: WriteBehind> Fifo<T> {
    pub(crate) fn push(&mut self, row: T) {
        if let Some(bytes) = row.bytes() {
            self.limited.rows += 1;
            self.limited.bytes += bytes;
        }
        self.rows.push_back(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn limited(&self) -> Limited {
        self.limited
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.iter_mut()
    }

    /// See [`Buffer::take`].
    pub(crate) fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        let mut taken: Vec<Box<dyn WriteBehind>> = Vec::new();
        while let Some(row) = self.rows.pop_front_if(|row| room.takes(row.bytes().unwrap_or_default())) {
            if let Some(bytes) = row.bytes() {
                self.limited.rows -= 1;
                self.limited.bytes -= bytes;
            }
            taken.push(Box::new(row));
        }
        taken
    }
}

/// What may still be taken for one transaction.
#[derive(Debug)]
pub(crate) struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    pub(crate) const ALL: Self = Self { rows: usize::MAX, bytes: usize::MAX };

    pub(crate) fn new(rows: usize, bytes: usize) -> Self {
        Self { rows, bytes }
    }

    /// Whether a row of this size is taken. One that exceeds the bytes is the last.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        if self.rows == 0 || self.bytes == 0 {
            return false;
        }
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// Everything that waits to be stored.
#[derive(Default)]
pub struct Pending {
    buffers: Vec<Box<dyn Buffer>>,
}

impl Debug for Pending {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("rows", &self.len()).finish_non_exhaustive()
    }
}

impl Pending {
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &dyn Buffer> {
        self.buffers.iter().map(AsRef::as_ref)
    }

    /// Changes the buffer of this kind, which is made where there is none.
    pub(crate) fn with<B: Buffer + Default>(&mut self, change: impl FnOnce(&mut B)) {
        for buffer in &mut self.buffers {
            let buffer: &mut dyn Any = buffer.as_mut();
            if let Some(buffer) = buffer.downcast_mut() {
                return change(buffer);
            }
        }
        let mut buffer = B::default();
        change(&mut buffer);
        self.buffers.push(Box::new(buffer));
    }

    pub(crate) fn len(&self) -> usize {
        self.buffers().map(Buffer::len).sum()
    }

    pub(crate) fn limited(&self) -> Limited {
        self.buffers().map(Buffer::limited).fold(Limited::default(), Limited::add)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out the oldest rows of each kind, as far as there is room.
    pub(crate) fn take(&mut self, mut room: Room) -> Self {
        if room.rows >= self.len() && room.bytes >= self.limited().bytes {
            return std::mem::take(self);
        }
        let mut taken = Self::default();
        for buffer in &mut self.buffers {
            buffer.take(&mut room).into_iter().for_each(|entry| entry.add_to(&mut taken));
        }
        taken
    }

    /// Takes the events by which the rows are published, once they are stored.
    pub(crate) fn take_events(&mut self) -> Vec<(WorkspaceId, Event)> {
        self.buffers.iter_mut().flat_map(|buffer| buffer.take_events()).collect()
    }

    /// Takes out all rows, each by itself.
    pub(crate) fn split(&mut self) -> Vec<Self> {
        let entries = self.buffers.iter_mut().flat_map(|buffer| buffer.take(&mut Room { ..Room::ALL }));
        let one = |entry: Box<dyn WriteBehind>| {
            let mut one = Self::default();
            entry.add_to(&mut one);
            one
        };
        entries.map(one).collect()
    }

    /// Takes back rows that could not be stored.
    pub(crate) fn requeue(&mut self, mut other: Self) {
        let entries = other.buffers.iter_mut().flat_map(|buffer| buffer.take(&mut Room { ..Room::ALL }));
        entries.for_each(|entry| entry.add_to(self));
    }
}
