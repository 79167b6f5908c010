//! Instances kept for the next call: what a guest gets whose operator chose speed over a fresh
//! instance for each call.
//!
//! An instance that is used again remembers: what it left in its memory is there for the next call.
//! So it is kept only for the guest row that opted in, only after a call that went well, and not for
//! ever.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;

use crate::{limits, state::State};

/// A store with the instance in it, once there is one.
pub(crate) struct Held {
    pub(crate) store: Store<State>,
    pub(crate) instance: Option<Box<dyn Any + Send + Sync>>,
    calls: u32,
    /// A place among the instances that wait, while it does.
    place: Option<OwnedSemaphorePermit>,
}

impl Held {
    pub(crate) fn new(store: Store<State>) -> Self {
        Self { store, instance: None, calls: 0, place: None }
    }
}

/// Instances of one guest row that wait for a call.
pub(crate) struct Reuse {
    idle: Mutex<Vec<Held>>,
    places: Arc<Semaphore>,
}

impl Reuse {
    pub(crate) fn new(places: &Arc<Semaphore>) -> Self {
        Self { idle: Mutex::new(Vec::new()), places: Arc::clone(places) }
    }

    pub(crate) fn take(&self) -> Option<Held> {
        let mut held = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        held.place = None;
        Some(held)
    }

    /// Keeps an instance for the next call, unless it is used up or there is no room.
    pub(crate) fn give_back(&self, mut held: Held) {
        held.calls += 1;
        let used_up =
            held.calls >= limits::REUSE_CALLS || held.store.data().account.memory() > limits::REUSE_MEMORY;
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !used_up && idle.len() < limits::REUSE_INSTANCES {
            held.place = Some(place);
            idle.push(held);
        }
    }
}
