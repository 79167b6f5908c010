//! What a release did: counted here for the operator, given to the metrics facade for `/metrics`,
//! and written to the store from time to time.

use std::{
    array,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram};
use store::guests::Counters;
use wasm::{FailureKind, Outcome, PoolUse};

const KINDS: usize = FailureKind::ALL.len();

/// Counters of one release of one guest. Counting takes no lock.
pub(crate) struct Stats {
    calls: AtomicU64,
    failures: [AtomicU64; KINDS],
    peak_memory: AtomicU64,
    /// What the store has.
    stored: Mutex<Counters>,
    exported: Exported,
}

/// Handles of the metrics facade, looked up once.
struct Exported {
    answered: Counter,
    failed: [Counter; KINDS],
    seconds: Histogram,
    peak_memory: Gauge,
}

impl Stats {
    /// Goes on from what the store has.
    pub(crate) fn new(guest: &str, release: &str, stored: Counters) -> Self {
        let failures = [stored.traps, stored.timeouts, stored.memory, stored.refused, stored.busy];
        Self {
            calls: AtomicU64::new(stored.calls),
            failures: failures.map(AtomicU64::new),
            peak_memory: AtomicU64::new(stored.peak_memory_bytes),
            stored: Mutex::new(stored),
            exported: Exported::new(guest, release),
        }
    }

    pub(crate) fn record<T>(&self, outcome: &Outcome<T>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let peak = outcome.report.peak_memory as u64;
        if peak > self.peak_memory.fetch_max(peak, Ordering::Relaxed) {
            self.exported.peak_memory.set(peak as f64);
        }
        self.exported.seconds.record(outcome.report.elapsed.as_secs_f64());
        match &outcome.result {
            Ok(_) => self.exported.answered.increment(1),
            Err(failure) => {
                let kind = failure.kind() as usize;
                if let (Some(count), Some(exported)) =
                    (self.failures.get(kind), self.exported.failed.get(kind))
                {
                    count.fetch_add(1, Ordering::Relaxed);
                    exported.increment(1);
                }
            }
        }
    }

    /// Everything so far.
    pub(crate) fn total(&self) -> Counters {
        let [traps, timeouts, memory, refused, busy] =
            array::from_fn(|kind| self.failures.get(kind).map_or(0, |count| count.load(Ordering::Relaxed)));
        Counters {
            calls: self.calls.load(Ordering::Relaxed),
            traps,
            timeouts,
            memory,
            refused,
            busy,
            peak_memory_bytes: self.peak_memory.load(Ordering::Relaxed),
        }
    }

    /// What the store doesn't have yet; `None` if nothing.
    pub(crate) fn unstored(&self) -> Option<Counters> {
        let stored = *self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let total = self.total();
        (total != stored).then(|| Counters {
            calls: total.calls - stored.calls,
            traps: total.traps - stored.traps,
            timeouts: total.timeouts - stored.timeouts,
            memory: total.memory - stored.memory,
            refused: total.refused - stored.refused,
            busy: total.busy - stored.busy,
            peak_memory_bytes: total.peak_memory_bytes,
        })
    }

    /// The store has these too now.
    pub(crate) fn stored(&self, added: &Counters) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        *stored = Counters {
            calls: stored.calls + added.calls,
            traps: stored.traps + added.traps,
            timeouts: stored.timeouts + added.timeouts,
            memory: stored.memory + added.memory,
            refused: stored.refused + added.refused,
            busy: stored.busy + added.busy,
            peak_memory_bytes: added.peak_memory_bytes,
        };
    }
}

impl Exported {
    fn new(guest: &str, release: &str) -> Self {
        let labels = || [("guest", guest.to_owned()), ("release", release.to_owned())];
        let calls = |outcome: &'static str| {
            let [guest, release] = labels();
            metrics::counter!("isomer_guest_calls_total", &[guest, release, ("outcome", outcome.to_owned())])
        };
        Self {
            answered: calls("answered"),
            failed: FailureKind::ALL.map(|kind| calls(kind.as_str())),
            seconds: metrics::histogram!("isomer_guest_call_seconds", &labels()),
            peak_memory: metrics::gauge!("isomer_guest_peak_memory_bytes", &labels()),
        }
    }
}

/// What the instance pool holds. With no call running, everything but the idle bytes is 0.
pub(crate) fn export_pool_use(pool: &PoolUse) {
    for (series, value) in [
        ("isomer_guest_slots_in_use", pool.calls as f64),
        ("isomer_guest_instances", pool.instances as f64),
        ("isomer_guest_memories", pool.memories as f64),
        ("isomer_guest_stacks", pool.stacks as f64),
        ("isomer_guest_idle_bytes", pool.idle_bytes as f64),
    ] {
        metrics::gauge!(series).set(value);
    }
}

/// Help texts for `/metrics`.
pub(crate) fn describe() {
    metrics::describe_gauge!("isomer_guest_slots_in_use", "Calls of guests running now.");
    metrics::describe_gauge!("isomer_guest_instances", "Core instances alive.");
    metrics::describe_gauge!("isomer_guest_memories", "Linear memories in use.");
    metrics::describe_gauge!("isomer_guest_stacks", "Guest stacks in use.");
    metrics::describe_gauge!("isomer_guest_idle_bytes", "Memory that free slots keep for the next call.");
    metrics::describe_counter!("isomer_guest_calls_total", "Calls of guests, by release and outcome.");
    metrics::describe_histogram!("isomer_guest_call_seconds", "Time from a free slot to the checked answer.");
    metrics::describe_gauge!("isomer_guest_peak_memory_bytes", "Largest linear memory of a call.");
}
