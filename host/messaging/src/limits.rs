//! Times and sizes that messages are delivered by. What an operator would want to change is in
//! [`Limits`].

use std::time::Duration;

use fleet::agent_url::Reach;

/// What an operator may change.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an agent may work before its answer begins.
    pub header_timeout: Duration,
    /// Where agents may be.
    pub reach: Reach,
}

/// How long a connection to an agent may take to open.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for the next message.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Bytes of an agent's answer at most.
pub(crate) const REPLY_BYTES: usize = 10 * 1024 * 1024;

/// How long a turn that another agent began may take, unless that agent says how long it waits. People
/// wait as long as they like.
pub(crate) const TURN: Duration = Duration::from_secs(30 * 60);

/// How long a message from the queue may be on its way before it counts as lost with its server.
pub(crate) const LOST: Duration = Duration::from_secs(35 * 60);

/// How often a message from the queue is tried.
pub(crate) const TRIES: i32 = 5;
