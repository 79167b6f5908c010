//! How many streams may be open: in all, and of one workspace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Places for streams.
pub(super) struct Places {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_workspace: HashMap<Uuid, usize>,
}

/// A taken place; free again with the value.
pub(super) struct Place {
    places: Arc<Places>,
    workspace: Option<Uuid>,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, each, taken: Mutex::default() })
    }

    /// A place, if there is one; `workspace` if the stream is one's own.
    pub(super) fn take(self: &Arc<Self>, workspace: Option<Uuid>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.all >= self.all {
            return None;
        }
        if let Some(workspace) = workspace {
            let own = taken.by_workspace.entry(workspace).or_default();
            if *own >= self.each {
                return None;
            }
            *own += 1;
        }
        taken.all += 1;
        Some(Place { places: Arc::clone(self), workspace })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while it is held.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(workspace) = self.workspace
            && let Some(own) = taken.by_workspace.get_mut(&workspace)
        {
            *own -= 1;
            if *own == 0 {
                taken.by_workspace.remove(&workspace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_each() {
        let places = Places::new(3, 2);
        let (one, other) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let first = places.take(one).expect("the first");
        let _second = places.take(one).expect("the second");
        assert!(places.take(one).is_none(), "two of one at most");
        let third = places.take(other).expect("another's");
        assert!(places.take(None).is_none(), "three in all");
        drop(first);
        let _again = places.take(one).expect("the place of the first");
        drop(third);
        assert_eq!(places.taken().by_workspace.len(), 1, "nothing is kept of those who left");
    }
}
