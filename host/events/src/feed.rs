//! A broadcast within this process. A listener that lags loses the oldest items and learns how many;
//! emitting never waits.

use tokio::sync::broadcast;

/// Items that a listener may lag before it loses some.
const BACKLOG: usize = 1_024;

/// The sending end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed<T: Clone> {
    sender: broadcast::Sender<T>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Listener<T: Clone> {
    receiver: broadcast::Receiver<T>,
}

impl<T: Clone> Default for Feed<T> {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG) }
    }
}

impl<T: Clone> Feed<T> {
    /// Sends to every present listener.
    pub fn emit(&self, item: T) {
        // Fails only without listeners.
        let _ = self.sender.send(item);
    }

    /// Listens from now on.
    #[must_use]
    pub fn subscribe(&self) -> Listener<T> {
        Listener { receiver: self.sender.subscribe() }
    }
}

impl<T: Clone> Listener<T> {
    /// The next item; `None` when the feed is dropped. `Err` counts the items lost by lagging.
    pub async fn next(&mut self) -> Option<Result<T, u64>> {
        match self.receiver.recv().await {
            Ok(item) => Some(Ok(item)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Err(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_receives_items_from_its_subscription_until_the_feed_is_dropped() {
        let feed = Feed::default();
        feed.emit(1);
        let mut listener = feed.subscribe();
        feed.emit(2);
        feed.emit(3);
        drop(feed);
        assert_eq!(listener.next().await, Some(Ok(2)));
        assert_eq!(listener.next().await, Some(Ok(3)));
        assert_eq!(listener.next().await, None);
    }

    #[tokio::test]
    async fn a_lagging_listener_learns_how_many_items_it_lost() {
        let feed = Feed::default();
        let mut listener = feed.subscribe();
        for number in 0..BACKLOG + 5 {
            feed.emit(number);
        }
        assert_eq!(listener.next().await, Some(Err(5)));
        assert_eq!(listener.next().await, Some(Ok(5)));
    }
}
