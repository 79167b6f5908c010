//! Tells every listener in this process. A listener that falls behind loses the oldest events and
//! is told how many; nobody who emits ever waits.

use tokio::sync::broadcast;

use crate::Event;

/// Events that a slow listener may be behind before it loses some.
const BACKLOG: usize = 1_024;

/// Where events are emitted and listened to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub {
    sender: broadcast::Sender<Event>,
}

/// A listener's end.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Event>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG) }
    }
}

impl Hub {
    /// Tells everyone who listens now.
    pub fn emit(&self, event: Event) {
        // Nobody listening is no fault.
        let _ = self.sender.send(event);
    }

    /// Listens from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.sender.subscribe() }
    }
}

impl Subscription {
    /// The next event; `None` when the hub is gone. `Err` counts events lost by falling behind.
    pub async fn next(&mut self) -> Option<Result<Event, u64>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Err(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
