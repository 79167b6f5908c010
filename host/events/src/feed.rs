//! Tells every listener in this process. A listener that falls behind loses the oldest news and
//! is told how many; nobody who emits ever waits.

use tokio::sync::broadcast;

/// News that a slow listener may be behind before it loses some.
const BACKLOG: usize = 1_024;

/// Where news is emitted and listened to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed<T: Clone> {
    sender: broadcast::Sender<T>,
}

/// A listener's end.
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
    /// Tells everyone who listens now.
    pub fn emit(&self, news: T) {
        // Nobody listening is no fault.
        let _ = self.sender.send(news);
    }

    /// Listens from now on.
    #[must_use]
    pub fn subscribe(&self) -> Listener<T> {
        Listener { receiver: self.sender.subscribe() }
    }
}

impl<T: Clone> Listener<T> {
    /// What comes next; `None` when the feed is gone. `Err` counts what was lost by falling behind.
    pub async fn next(&mut self) -> Option<Result<T, u64>> {
        match self.receiver.recv().await {
            Ok(news) => Some(Ok(news)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Err(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_hears_what_is_emitted_after_it_came_until_the_feed_is_gone() {
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
    async fn who_falls_behind_is_told_how_much_it_lost() {
        let feed = Feed::default();
        let mut listener = feed.subscribe();
        for number in 0..BACKLOG + 5 {
            feed.emit(number);
        }
        assert_eq!(listener.next().await, Some(Err(5)));
        assert_eq!(listener.next().await, Some(Ok(5)));
    }
}
