//! The events that wait for one subscriber, bounded by number and bytes.

use std::{collections::VecDeque, sync::Arc};

use crate::{Class, Envelope};

/// Bytes of the payloads that wait for one subscriber: an event that logs a call holds the message and its answer, some
/// megabytes each. The frames that are built of them take as much again. A single event may be larger.
pub(super) const PAYLOAD_BYTES: usize = 8 << 20;

pub(super) struct Queue {
    capacity: usize,
    waiting: VecDeque<Arc<Envelope>>,
    payload_bytes: usize,
    end: Option<End>,
}

/// Why a queue takes no more events.
#[derive(Clone, Copy)]
pub(super) enum End {
    Lagged,
    Closed,
}

impl Queue {
    /// A queue of at most `capacity` events, and at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), waiting: VecDeque::new(), payload_bytes: 0, end: None }
    }

    /// Appends an event if there is room, as the module [`super`] says. Returns how many events were dropped for it.
    pub(super) fn push(&mut self, envelope: &Arc<Envelope>) -> u64 {
        if self.end.is_some() {
            return 0;
        }
        if self.has_room(envelope) {
            self.append(envelope);
            return 0;
        }
        if envelope.is_heartbeat() {
            return 1;
        }
        let dropped = u64::from(self.drop_heartbeat());
        if self.has_room(envelope) {
            self.append(envelope);
            return dropped;
        }
        if envelope.class() == Class::Ephemeral {
            return dropped + 1;
        }
        self.waiting = VecDeque::new();
        self.end = Some(End::Lagged);
        dropped
    }

    pub(super) fn pop(&mut self) -> Option<Arc<Envelope>> {
        let envelope = self.waiting.pop_front()?;
        self.payload_bytes -= envelope.payload().len();
        Some(envelope)
    }

    /// How the queue ended, if nothing waits in it. That it lagged is told once.
    pub(super) fn end(&mut self) -> Option<End> {
        let end = self.end?;
        self.end = Some(End::Closed);
        Some(end)
    }

    /// Takes no more events. What waits can still be received.
    pub(super) fn close(&mut self) {
        self.end.get_or_insert(End::Closed);
    }

    fn has_room(&self, envelope: &Envelope) -> bool {
        let bytes = self.payload_bytes.saturating_add(envelope.payload().len());
        self.waiting.is_empty() || self.waiting.len() < self.capacity && bytes <= PAYLOAD_BYTES
    }

    fn append(&mut self, envelope: &Arc<Envelope>) {
        self.payload_bytes = self.payload_bytes.saturating_add(envelope.payload().len());
        self.waiting.push_back(Arc::clone(envelope));
    }

    /// Drops the oldest heartbeat that waits, if any.
    fn drop_heartbeat(&mut self) -> bool {
        let heartbeat = self.waiting.iter().position(|waiting| waiting.is_heartbeat());
        let Some(dropped) = heartbeat.and_then(|at| self.waiting.remove(at)) else { return false };
        self.payload_bytes -= dropped.payload().len();
        true
    }
}
