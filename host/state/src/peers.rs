//! Whether other servers listen on the same database.
//!
//! Rendering ephemeral events and sending them costs more than the requests that cause them, and most
//! deployments are one server. Each server announces itself by a message without events, at once when it
//! receives the first message of another one. Presence is assumed at the start, until the others had time to
//! answer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How often a server announces itself.
pub(crate) const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);

/// A server that sent nothing for so long is gone: several announcements may be lost or late.
const PEER_TIMEOUT: Duration = Duration::from_secs(15);

/// Assumed at the start: the time for a first announcement to be answered.
const ASSUMED_FOR: Duration = Duration::from_secs(3);

/// When another server last sent a message.
#[derive(Debug)]
pub(crate) struct Peers {
    epoch: Instant,
    /// In milliseconds after `epoch`: until when another server is taken to listen.
    until: AtomicU64,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), until: AtomicU64::new(millis(ASSUMED_FOR)) }
    }

    /// Whether another server may be listening.
    pub(crate) fn are_present(&self) -> bool {
        millis(self.epoch.elapsed()) < self.until.load(Ordering::Relaxed)
    }

    /// Notes a message of another server. Returns whether none was known to be there.
    pub(crate) fn record_message(&self) -> bool {
        let now = millis(self.epoch.elapsed());
        self.until.swap(now + millis(PEER_TIMEOUT), Ordering::Relaxed) <= now.max(millis(ASSUMED_FOR))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_server_is_assumed_at_the_start_and_for_a_while_after_each_message() {
        let peers = Peers::new();
        assert!(peers.are_present());
        tokio::time::advance(ASSUMED_FOR).await;
        assert!(!peers.are_present());
        assert!(peers.record_message(), "the first message is answered");
        assert!(peers.are_present());
        tokio::time::advance(PEER_TIMEOUT - Duration::from_millis(1)).await;
        assert!(peers.are_present());
        assert!(!peers.record_message(), "further ones are not");
        tokio::time::advance(PEER_TIMEOUT).await;
        assert!(!peers.are_present());
        assert!(peers.record_message(), "a server that comes back is answered again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_starts_answers_one_that_is_already_there() {
        assert!(Peers::new().record_message());
    }
}
