//! Warm instances of one guest, for an operator who chose speed over a fresh instance for each call.
//!
//! A pooled instance keeps its memory from call to call. So only a guest row that opted in has a
//! pool, only calls without an error return their instance to it, and each instance serves a bounded
//! number of calls.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;

use crate::{limits, state::State};

/// A store with the instance in it, once there is one.
pub(crate) struct PooledInstance {
    pub(crate) store: Store<State>,
    pub(crate) instance: Option<Box<dyn Any + Send + Sync>>,
    calls: u32,
    /// Slots that it takes.
    weight: u32,
    /// Held while the instance is idle.
    permit: Option<OwnedSemaphorePermit>,
}

impl PooledInstance {
    pub(crate) fn new(store: Store<State>, weight: u32) -> Self {
        Self { store, instance: None, calls: 0, weight, permit: None }
    }
}

/// Idle instances of one guest row.
pub(crate) struct InstancePool {
    idle: Mutex<Vec<PooledInstance>>,
    /// Shared by all pools of the sandbox.
    permits: Arc<Semaphore>,
}

impl InstancePool {
    pub(crate) fn new(permits: &Arc<Semaphore>) -> Self {
        Self { idle: Mutex::new(Vec::new()), permits: Arc::clone(permits) }
    }

    pub(crate) fn take(&self) -> Option<PooledInstance> {
        let mut pooled = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        pooled.permit = None;
        Some(pooled)
    }

    /// Returns an instance for the next call, unless it is used up or the pool is full.
    pub(crate) fn release(&self, mut pooled: PooledInstance) {
        pooled.calls += 1;
        let used_up = pooled.calls >= limits::POOLED_CALLS
            || pooled.store.data().usage.memory() > limits::POOLED_MEMORY;
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(pooled.weight);
        let Ok(permit) = permit else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !used_up && idle.len() < limits::POOLED_PER_GUEST {
            pooled.permit = Some(permit);
            idle.push(pooled);
        }
    }
}
