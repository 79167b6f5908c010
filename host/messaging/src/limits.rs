//! Times and counts of delivery. What an operator may change is in [`Limits`].

use std::time::Duration;

use store::queue::Room;

/// How long activity and finished messages of the queue are kept.
#[derive(Debug, Clone, Copy)]
pub struct ActivityRetention {
    /// Age at which rows of activity are deleted.
    pub age: chrono::Duration,
    /// Time since their end at which messages of the queue are deleted.
    pub queue_age: chrono::Duration,
    /// How often they are.
    pub interval: Duration,
}

/// What an operator may change.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without a sign of life for so long, a server is gone, and what it was delivering is queued again.
    pub server_lease: Duration,
    /// How long an agent may work before its response headers.
    pub header_timeout: Duration,
    /// How long nothing may be heard of an agent during a message, where its heartbeats don't say otherwise.
    pub idle_timeout: Duration,
    /// Every sender is the operator: none counts as a stranger for want of a credential.
    pub is_development: bool,
    /// Calls of agents under way at once.
    pub calls: usize,
    /// Those for senders who showed no credential.
    pub calls_of_strangers: usize,
    /// Calls of one workspace's agent under way at once.
    pub calls_each: usize,
    /// What may wait in the queue.
    pub queue: Room,
}

/// Senders without a credential may fill one of so many parts of the queue.
pub(crate) const ANONYMOUS_PARTS: u64 = 4;

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

/// Bytes of the headers that a queued message is sent with: all that a request may have.
pub(crate) const STORED_HEADER_BYTES: usize = 64 * 1024;

/// How often a queued message is sent before it fails. Tries that don't reach its agent don't count.
pub(crate) const MAX_ATTEMPTS: i32 = 5;

/// Pause after the first try that did not reach the agent, which a heartbeat of the agent ends, and after the first
/// attempt that failed. Each doubles with every failure in a row.
pub(crate) const UNREACHED_BACK_OFF: Duration = Duration::from_secs(1);
pub(crate) const ATTEMPT_BACK_OFF: Duration = Duration::from_secs(5);

/// The longest pause: an agent that was away for an hour gets its messages this long after it is back.
pub(crate) const LONGEST_BACK_OFF: chrono::Duration = chrono::Duration::minutes(5);

/// Queued messages that a server delivers at the same time. A bound on memory: each holds a body of at most 1 MiB, and
/// for a moment an answer of at most 10 MiB.
pub(crate) const CLAIMED_DELIVERIES: usize = 512;

/// Pauses between the tries to store how a delivery ended; the last one repeats.
pub(crate) const STORE_OUTCOME_PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

/// Answers that are remembered for messages that may be sent twice, in bytes: three of the largest. Older ones are read
/// from the database where they are needed.
pub(crate) const REMEMBERED_BYTES: usize = 32 * 1024 * 1024;

/// How long the database may take to say whether a message was delivered before.
pub(crate) const SAME_MESSAGE_LOOKUP: Duration = Duration::from_secs(2);

/// How long a message waits for another server that delivers the same one, where the answer may be a stream: of that
/// it only sees the end.
pub(crate) const SAME_STREAM_PATIENCE: Duration = Duration::from_secs(2);

/// Pauses of a message that waits for another server to deliver the same one.
pub(crate) const SAME_MESSAGE_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
];

/// A server renews its lease so many times within the lease.
pub(crate) const RENEWALS: u32 = 3;

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
