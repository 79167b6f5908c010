//! Connections that stay: how many there are, and how many may be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

/// Who has how many. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Seats(Arc<Mutex<HashMap<Option<Uuid>, usize>>>);

/// One that is taken. Free again when it is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    of: Option<Uuid>,
}

impl Seats {
    /// A seat of a workspace, or among all, if fewer than `limit` are taken.
    #[must_use]
    pub fn take(&self, of: Option<Uuid>, limit: usize) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(of).or_default();
        (*count < limit).then(|| {
            *count += 1;
            Seat { seats: self.clone(), of }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.of) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_and_given_back() {
        let (seats, id) = (Seats::default(), Some(Uuid::new_v4()));
        let first = seats.take(id, 2).expect("free");
        let second = seats.take(id, 2).expect("free");
        assert!(seats.take(id, 2).is_none());
        assert!(seats.take(None, 2).is_some(), "others have their own");
        drop(first);
        assert!(seats.take(id, 2).is_some());
        drop(second);
        assert!(seats.0.lock().expect("not poisoned").is_empty(), "nothing is kept of those who left");
    }
}
