//! How many connections may stay open, by what they are counted under.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use types::WorkspaceId;

/// What open connections are counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// All of them.
    All,
    /// Those whose client proved nothing.
    Strangers,
    /// The same, from one address, or from one /64 of IPv6.
    Address(IpAddr),
    /// Those of the agent of one workspace, or about one workspace.
    Workspace(WorkspaceId),
}

/// Counts open connections. A key without any is not kept. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct ConnectionLimiter(Arc<Mutex<HashMap<Key, usize>>>);

/// The right to keep one connection open, returned when it is dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: ConnectionLimiter,
    keys: Vec<Key>,
}

/// All permits of this key are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached(pub Key);

impl ConnectionLimiter {
    /// Takes one permit of each key, up to the limit of each.
    ///
    /// # Errors
    /// If all permits of one of them are taken. Then none is taken of the others.
    pub fn acquire(&self, keys: &[(Key, usize)]) -> Result<Permit, LimitReached> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |key: &Key| counts.get(key).copied().unwrap_or_default();
        if let Some((key, _)) = keys.iter().find(|(key, limit)| taken(key) >= *limit) {
            return Err(LimitReached(*key));
        }
        let keys: Vec<Key> = keys.iter().map(|(key, _)| *key).collect();
        for key in &keys {
            *counts.entry(*key).or_default() += 1;
        }
        Ok(Permit { limiter: self.clone(), keys })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limiter.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(count) = counts.get_mut(key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_per_key_and_returned() {
        let (limiter, key) = (ConnectionLimiter::default(), Key::Workspace(WorkspaceId::random()));
        let first = limiter.acquire(&[(key, 2)]).expect("free");
        let second = limiter.acquire(&[(key, 2)]).expect("free");
        assert_eq!(limiter.acquire(&[(key, 2)]).err(), Some(LimitReached(key)));
        assert!(limiter.acquire(&[(Key::All, 2)]).is_ok(), "other keys have their own permits");
        drop(first);
        assert!(limiter.acquire(&[(key, 2)]).is_ok());
        drop(second);
        assert!(limiter.0.lock().expect("not poisoned").is_empty(), "keys without connections are removed");
    }

    #[test]
    fn a_refusal_takes_no_permit_of_any_key() {
        let limiter = ConnectionLimiter::default();
        let held = limiter.acquire(&[(Key::All, 5), (Key::Strangers, 1)]).expect("free");
        for _ in 0..10 {
            let refused = limiter.acquire(&[(Key::All, 5), (Key::Strangers, 1)]);
            assert_eq!(refused.err(), Some(LimitReached(Key::Strangers)));
        }
        assert_eq!(limiter.0.lock().expect("not poisoned").get(&Key::All), Some(&1));
        drop(held);
        assert!(limiter.0.lock().expect("not poisoned").is_empty());
    }
}
