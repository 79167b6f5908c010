//! Times and counts of delivery. What an operator may change is in [`Limits`].

use std::time::Duration;

/// How long activity is kept.
#[derive(Debug, Clone, Copy)]
pub struct ActivityRetention {
    /// Age at which rows are deleted.
    pub age: chrono::Duration,
    /// How often they are.
    pub interval: Duration,
}

/// What an operator may change.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an agent may work before its response headers.
    pub header_timeout: Duration,
    /// How long nothing may be heard of an agent during a message, where its heartbeats don't say otherwise.
    pub idle_timeout: Duration,
}

/// How long a delivery may take that another agent asked for, unless that agent sent a deadline of its own.
/// Users wait as long as they like.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How long a delivery takes until its activity is written, so that a crash leaves a trace of it. Most end
/// before, and are written once.
pub(crate) const LONG_DELIVERY: Duration = Duration::from_secs(1);

/// Rows of servers that ended which are ended at a time.
pub(crate) const ABANDONED_ROWS: u64 = 100;

/// Pieces of a stream that wait for a sender who reads slowly.
pub(crate) const STREAM_CHUNKS: usize = 8;

/// Bytes of a stream that are recorded: as many as of another answer.
pub(crate) const RECORDED_STREAM_BYTES: usize = 10 * 1024 * 1024;

/// Age at which a dequeued message counts as lost with its server, and is requeued.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(35 * 60);

/// How often a queued message is sent before it fails.
pub(crate) const MAX_ATTEMPTS: i32 = 5;

/// Bytes of the rows of activity in one answer at most, by their texts. A row has up to 1 MiB of request and twice
/// 10 MiB of response.
pub(crate) const ACTIVITY_PAGE_BYTES: u64 = 8 * 1024 * 1024;

/// Rows of activity in one answer, unless the client says how many; and at most.
pub(crate) const ACTIVITY_ROWS: u64 = 100;
pub(crate) const MAX_ACTIVITY_ROWS: u64 = 500;

/// Bytes of a text of an activity row at most, apart from its bodies: method, summary, status and error.
pub(crate) const ACTIVITY_TEXT_BYTES: usize = 4096;

/// How often the queue is swept for messages that other servers enqueued or that a crash left.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
