//! How many connections may stay open, per key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use types::WorkspaceId;

/// Counts open connections per workspace, or of all under the key `None`. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct ConnectionLimiter(Arc<Mutex<HashMap<Option<WorkspaceId>, usize>>>);

/// The right to keep one connection open, returned when it is dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: ConnectionLimiter,
    key: Option<WorkspaceId>,
}

/// All permits of a key are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached;

impl ConnectionLimiter {
    /// Takes one of the `limit` permits of a key.
    ///
    /// # Errors
    /// If all of them are taken.
    pub fn acquire(&self, key: Option<WorkspaceId>, limit: usize) -> Result<Permit, LimitReached> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= limit {
            return Err(LimitReached);
        }
        *count += 1;
        Ok(Permit { limiter: self.clone(), key })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limiter.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_per_key_and_returned() {
        let (limiter, key) = (ConnectionLimiter::default(), Some(WorkspaceId::random()));
        let first = limiter.acquire(key, 2).expect("free");
        let second = limiter.acquire(key, 2).expect("free");
        assert_eq!(limiter.acquire(key, 2).err(), Some(LimitReached));
        assert!(limiter.acquire(None, 2).is_ok(), "other keys have their own permits");
        drop(first);
        assert!(limiter.acquire(key, 2).is_ok());
        drop(second);
        assert!(limiter.0.lock().expect("not poisoned").is_empty(), "keys without connections are removed");
    }
}
