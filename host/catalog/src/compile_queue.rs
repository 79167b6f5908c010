//! Who compiles next: a bounded queue, fair between guests.
//!
//! Releases that are needed come before pushes. Among each of these, guests take turns, whatever each of them has in
//! the queue. A caller that stops waiting leaves it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::CatalogError;

/// Components compiled at once. Each takes every core for a moment; a second one gets on while one takes long.
const AT_ONCE: usize = 2;

/// Pushes that wait at most, and those of one guest: many pushes of one name keep no other out.
const WAITING: usize = 32;
const WAITING_OF_ONE: usize = 4;

/// Bytes of components that wait at most: two of the largest.
const WAITING_BYTES: usize = 64 << 20;

/// How long a push waits at most.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The queue. Clones are the same one.
#[derive(Clone)]
pub(crate) struct CompileQueue(Arc<Mutex<State>>);

struct State {
    free: usize,
    /// Callers that need a release, and callers that push one.
    needed: Turns,
    pushed: Turns,
    next_id: u64,
    /// Pushes that wait, by guest.
    pushes: Vec<String>,
    push_bytes: usize,
    stopped: bool,
}

/// Callers that wait, by guest; the guest whose turn it is comes first. No list is empty.
type Turns = VecDeque<(String, VecDeque<Waiter>)>;

#[derive(Debug, Clone, Copy)]
enum For {
    Need,
    Push,
}

struct Waiter {
    id: u64,
    turn: oneshot::Sender<Permit>,
}

/// The right to compile.
pub(crate) struct Permit(CompileQueue);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.lock().free += 1;
        self.0.dispatch();
    }
}

impl CompileQueue {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            free: AT_ONCE,
            needed: Turns::new(),
            pushed: Turns::new(),
            next_id: 0,
            pushes: Vec::new(),
            push_bytes: 0,
            stopped: false,
        })))
    }

    /// Counts a push of `guest`, which holds `bytes` as long as it waits: for its permit, or for a compilation that
    /// runs. It is refused where too much waits already.
    pub(crate) fn enqueue<'a>(
        &'a self,
        guest: &'a str,
        bytes: usize,
    ) -> Result<QueuedPush<'a>, CatalogError> {
        let mut state = self.lock();
        let of_this = state.pushes.iter().filter(|name| *name == guest).count();
        let is_full = state.pushes.len() >= WAITING || of_this >= WAITING_OF_ONE;
        if is_full || state.push_bytes.saturating_add(bytes) > WAITING_BYTES {
            return Err(CatalogError::CompilerBusy);
        }
        state.pushes.push(guest.to_owned());
        state.push_bytes += bytes;
        Ok(QueuedPush { queue: self, guest, bytes })
    }

    /// Waits for a permit for `guest`, whose push is counted, and not too long.
    pub(crate) async fn acquire_for_push(&self, guest: &str) -> Result<Permit, CatalogError> {
        match timeout(WAIT_TIMEOUT, self.acquire(For::Push, guest)).await {
            Ok(turn) => turn,
            Err(_) => Err(CatalogError::CompilerBusy),
        }
    }

    /// Waits for a permit for `guest`, whose release is needed. That holds no bytes, and one caller per guest waits.
    pub(crate) async fn acquire_for_need(&self, guest: &str) -> Result<Permit, CatalogError> {
        self.acquire(For::Need, guest).await
    }

    async fn acquire(&self, reason: For, guest: &str) -> Result<Permit, CatalogError> {
        let (turn, granted) = oneshot::channel();
        let id = {
            let mut state = self.lock();
            if state.stopped {
                return Err(CatalogError::Stopping);
            }
            let id = state.next_id;
            state.next_id += 1;
            let waiter = Waiter { id, turn };
            let turns = match reason {
                For::Need => &mut state.needed,
                For::Push => &mut state.pushed,
            };
            match turns.iter_mut().find(|(name, _)| name == guest) {
                Some((_, waiters)) => waiters.push_back(waiter),
                None => turns.push_back((guest.to_owned(), VecDeque::from([waiter]))),
            }
            id
        };
        let _left = Leave { queue: self, id };
        self.dispatch();
        granted.await.map_err(|_| CatalogError::Stopping)
    }

    /// Refuses the callers that wait, and those that come later.
    pub(crate) fn stop(&self) {
        let waiting = {
            let mut state = self.lock();
            state.stopped = true;
            (std::mem::take(&mut state.needed), std::mem::take(&mut state.pushed))
        };
        drop(waiting);
    }

    /// Gives the free permits to the callers whose turn it is.
    fn dispatch(&self) {
        loop {
            // The lock is free again before the permit is sent: one that just left drops it here, which takes the lock.
            let next = self.lock().next();
            let Some(waiter) = next else { return };
            let _ = waiter.turn.send(Permit(self.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a permit for the waiter whose turn it is.
    fn next(&mut self) -> Option<Waiter> {
        if self.free == 0 {
            return None;
        }
        let turns = if self.needed.is_empty() { &mut self.pushed } else { &mut self.needed };
        let (guest, mut waiters) = turns.pop_front()?;
        let waiter = waiters.pop_front()?;
        if !waiters.is_empty() {
            turns.push_back((guest, waiters));
        }
        self.free -= 1;
        Some(waiter)
    }
}

/// Leaves the queue when it is dropped, if still in it.
struct Leave<'a> {
    queue: &'a CompileQueue,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let State { needed, pushed, .. } = &mut *state;
        for turns in [needed, pushed] {
            turns.iter_mut().for_each(|(_, waiters)| waiters.retain(|waiter| waiter.id != self.id));
            turns.retain(|(_, waiters)| !waiters.is_empty());
        }
    }
}

/// A push that waits, counted.
pub(crate) struct QueuedPush<'a> {
    queue: &'a CompileQueue,
    guest: &'a str,
    bytes: usize,
}

impl Drop for QueuedPush<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if let Some(at) = state.pushes.iter().position(|name| name == self.guest) {
            state.pushes.swap_remove(at);
        }
        state.push_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds every permit.
    async fn full(queue: &CompileQueue) -> Vec<Permit> {
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(queue.acquire_for_need("busy").await.ok().unwrap());
        }
        held
    }

    #[tokio::test]
    async fn guests_take_turns_whatever_each_has_waiting() {
        let queue = CompileQueue::new();
        let mut held = full(&queue).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting = ["a", "a", "a", "b"].map(|guest| {
            let (queue, order) = (queue.clone(), Arc::clone(&order));
            async move {
                let permit = queue.acquire_for_need(guest).await.ok().unwrap();
                order.lock().unwrap().push(guest);
                drop(permit);
            }
        });
        let [a1, a2, a3, b] = waiting;
        // A permit that the future returned would be held until all are done.
        let release = async { drop(held.pop()) };
        tokio::join!(a1, a2, a3, b, release);
        assert_eq!(*order.lock().unwrap(), ["a", "b", "a", "a"]);
    }

    #[tokio::test]
    async fn a_release_that_is_needed_comes_before_pushes() {
        let queue = CompileQueue::new();
        let mut held = full(&queue).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |who| order.lock().unwrap().push(who);
        let push = async |guest| drop((queue.acquire_for_push(guest).await.ok().unwrap(), note("push")));
        let need = async || drop((queue.acquire_for_need("c").await.ok().unwrap(), note("needed")));
        let release = async { drop(held.pop()) };
        tokio::join!(push("a"), push("b"), need(), release);
        assert_eq!(*order.lock().unwrap(), ["needed", "push", "push"]);
    }

    #[tokio::test]
    async fn a_permit_of_a_caller_that_has_just_left_is_given_back() {
        let queue = CompileQueue::new();
        let held = full(&queue).await;
        let (turn, left) = oneshot::channel();
        drop(left);
        let gone = Waiter { id: u64::MAX, turn };
        queue.lock().pushed.push_back(("a".to_owned(), VecDeque::from([gone])));
        drop(held);
        assert_eq!(queue.lock().free, AT_ONCE);
    }

    #[tokio::test]
    async fn a_caller_that_stops_waiting_leaves_the_queue() {
        let queue = CompileQueue::new();
        let held = full(&queue).await;
        let queued = queue.enqueue("a", 1).ok().unwrap();
        assert!(timeout(Duration::ZERO, queue.acquire_for_push("a")).await.is_err());
        drop(queued);
        assert!(queue.lock().pushed.is_empty());
        assert!(queue.lock().pushes.is_empty());
        drop(held);
        assert_eq!(queue.lock().free, AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn pushes_are_bounded_in_number_bytes_and_time() {
        let queue = CompileQueue::new();
        let _held = full(&queue).await;
        assert!(matches!(queue.enqueue("a", WAITING_BYTES + 1), Err(CatalogError::CompilerBusy)));
        assert!(
            matches!(queue.acquire_for_push("a").await, Err(CatalogError::CompilerBusy)),
            "after a minute"
        );
        let names: Vec<String> = (0..WAITING).map(|number| format!("g{}", number / WAITING_OF_ONE)).collect();
        let mut places: Vec<_> = names.iter().map(|name| queue.enqueue(name, 1).ok().unwrap()).collect();
        assert!(matches!(queue.enqueue("a", 1), Err(CatalogError::CompilerBusy)));
        places.pop();
        assert!(queue.enqueue("g0", 1).is_err(), "it has its share");
        assert!(queue.enqueue("a", 1).is_ok());
        drop(places);
    }

    #[tokio::test]
    async fn a_stop_refuses_callers_that_wait_and_later_ones() {
        let queue = CompileQueue::new();
        let _held = full(&queue).await;
        let stop = async { queue.stop() };
        let (waited, ()) = tokio::join!(queue.acquire_for_need("a"), stop);
        assert!(matches!(waited, Err(CatalogError::Stopping)));
        assert!(matches!(queue.acquire_for_need("a").await, Err(CatalogError::Stopping)));
    }
}
