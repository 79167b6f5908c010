//! The queue of rows that are written behind, between the handles of a writer and its task.
//!
//! Its memory is bounded while the database can't be written: of rows that replace each other only the
//! newest waits, and the others are limited in bytes. What doesn't fit is lost, counted and logged. While
//! the database works, senders of the others wait a moment instead.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::write_behind::{Pending, Room, WriteBehind};

/// Bytes of rows that wait at most, where nothing else is set: some 30,000 messages of usual size, and a
/// small part of the memory of a machine that runs a server.
pub const BEHIND_BYTES: usize = 64 << 20;

/// Rows are stored when this many wait …
const FULL_ROWS: usize = 128;

/// … with those that arrived meanwhile, up to this many in one transaction, and this many bytes …
const FLUSHED_ROWS: usize = 512;
const FLUSHED_BYTES: usize = 8 << 20;

/// … or when the first has waited this long.
const FLUSH_AFTER: Duration = Duration::from_millis(5);

/// Rows from which on a sender waits for those before it …
const CROWDED_ROWS: usize = 1_024;

/// … but no longer than this: a database that does not answer holds up no caller.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// Rows that wait to be stored.
#[derive(Debug)]
pub(crate) struct BehindQueue {
    /// Bytes that wait at most.
    limit: usize,
    waiting: Mutex<Waiting>,
    /// The database could not be written when that was last tried.
    failing: AtomicBool,
    /// Rows are being lost.
    losing: AtomicBool,
    /// Notified of the first row, and when enough wait.
    arrived: Notify,
    /// Notified of rows that were stored, and of a failure.
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pending: Pending,
    /// Those that the limit is for, together with those being stored.
    rows: usize,
    bytes: usize,
    /// Rows lost since there last was room.
    lost: u64,
}

impl BehindQueue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: Mutex::default(),
            failing: AtomicBool::new(false),
            losing: AtomicBool::new(false),
            arrived: Notify::new(),
            room: Notify::new(),
        }
    }

    // === Senders ===

    /// Enqueues a row. Returns at once, except for a moment where many wait of a database that works. Returns
    /// whether the row waits; otherwise it is lost.
    pub(crate) async fn push(&self, entry: Box<dyn WriteBehind>) -> bool {
        if entry.bytes().is_some() && self.is_crowded() {
            let room = async {
                loop {
                    let room = self.room.notified();
                    if !self.is_crowded() {
                        return;
                    }
                    room.await;
                }
            };
            let _ = timeout(ROOM_TIMEOUT, room).await;
        }
        self.try_push(entry)
    }

    /// Enqueues a row, or loses it where it does not fit. Returns whether it waits.
    pub(crate) fn try_push(&self, entry: Box<dyn WriteBehind>) -> bool {
        let bytes = entry.bytes();
        let mut waiting = self.lock();
        if let Some(bytes) = bytes {
            if waiting.bytes.saturating_add(bytes) > self.limit {
                self.lose(waiting, bytes);
                return false;
            }
            waiting.rows += 1;
            waiting.bytes += bytes;
        }
        let was_empty = waiting.pending.is_empty();
        entry.add_to(&mut waiting.pending);
        let full = bytes.is_some() && waiting.rows == FULL_ROWS;
        drop(waiting);
        if was_empty || full {
            self.arrived.notify_one();
        }
        true
    }

    fn lose(&self, mut waiting: MutexGuard<'_, Waiting>, bytes: usize) {
        waiting.lost += 1;
        let (first, rows) = (waiting.lost == 1, waiting.rows);
        self.losing.store(true, Ordering::Relaxed);
        drop(waiting);
        metrics::counter!("isomer_behind_rows_lost_total").increment(1);
        if first {
            let limit = self.limit;
            tracing::error!(
                rows,
                limit,
                bytes,
                "activity is lost from now on: the rows that wait for the database take all the memory that they may"
            );
        }
    }

    fn is_crowded(&self) -> bool {
        !self.is_failing() && self.lock().rows >= CROWDED_ROWS
    }

    /// Whether the database could not be written when that was last tried.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether rows are being lost.
    pub(crate) fn is_losing(&self) -> bool {
        self.losing.load(Ordering::Relaxed)
    }

    // === The writer's task ===

    /// Waits for the first row, or for enough of them. Returns when they are to be stored, where `due` is
    /// the time known so far.
    pub(crate) async fn due(&self, due: Option<Instant>) -> Instant {
        self.arrived.notified().await;
        let now = Instant::now();
        if self.lock().pending.len() >= FULL_ROWS { now } else { due.unwrap_or(now + FLUSH_AFTER) }
    }

    /// The rows for the next transaction, in their order.
    pub(crate) fn take(&self) -> Pending {
        self.lock().pending.take(Room::new(FLUSHED_ROWS, FLUSHED_BYTES))
    }

    /// When the next rows are to be stored, if any wait.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = self.lock();
        let now = Instant::now();
        let due = if waiting.pending.len() >= FULL_ROWS { now } else { now + FLUSH_AFTER };
        (!waiting.pending.is_empty()).then_some(due)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().pending.len()
    }

    /// Notes that rows are done with.
    pub(crate) fn settled(&self, rows: &Pending) {
        let stored = rows.limited();
        let mut waiting = self.lock();
        waiting.rows = waiting.rows.saturating_sub(stored.rows);
        waiting.bytes = waiting.bytes.saturating_sub(stored.bytes);
        let bytes = waiting.bytes;
        drop(waiting);
        metrics::gauge!("isomer_behind_bytes").set(bytes as f64);
        self.room.notify_waiters();
    }

    /// Notes whether the database can be written. Returns whether that is new.
    pub(crate) fn set_failing(&self, failing: bool) -> bool {
        if self.failing.swap(failing, Ordering::Relaxed) == failing {
            return false;
        }
        metrics::gauge!("isomer_database_writable").set(if failing { 0.0 } else { 1.0 });
        self.room.notify_waiters();
        true
    }

    /// Ends the time of losses once there is room again. Returns how many rows were lost.
    pub(crate) fn end_losses(&self) -> Option<u64> {
        if !self.is_losing() {
            return None;
        }
        let mut waiting = self.lock();
        if waiting.bytes > self.limit / 2 {
            return None;
        }
        self.losing.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut waiting.lost))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
