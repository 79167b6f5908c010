//! When a release has failed often enough to be taken out of service.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;
use types::WorkspaceId;

/// Failures in a row that trip the breaker. Few, because each may have cost its caller a deadline;
/// more than one, because one bad input must not disable a guest for all callers.
pub(crate) const FAILURES: usize = 5;

/// What a call was for. A workspace whose calls fail again and again counts once, whatever it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallSubject {
    /// A workspace.
    Workspace(WorkspaceId),
    /// A message of a caller without a credential. All of them count once, for they can write to every workspace.
    Stranger,
    /// An input that belongs to no workspace: its hash.
    Input(u64),
}

impl CallSubject {
    /// The subject that is known, else the input.
    pub(crate) fn of(known: Option<Self>, input: &impl Serialize) -> Self {
        known.unwrap_or_else(|| Self::input(input))
    }

    pub(crate) fn input(input: &impl Serialize) -> Self {
        let mut hasher = DefaultHasher::new();
        // What is serialized to a hasher is not kept: a template has 16 MiB.
        let _ = serde_json::to_writer(HashWriter(&mut hasher), input);
        Self::Input(hasher.finish())
    }
}

struct HashWriter<'a>(&'a mut DefaultHasher);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        bytes.hash(self.0);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Counts failures of one release in a row, each workspace and input once.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    has_failed: AtomicBool,
    in_a_row: Mutex<Vec<CallSubject>>,
}

impl Breaker {
    pub(crate) fn succeeded(&self) {
        // Read first: on the hot path nothing failed, and the cache line stays shared.
        if self.has_failed.load(Ordering::Relaxed) {
            let mut in_a_row = self.in_a_row.lock().unwrap_or_else(PoisonError::into_inner);
            in_a_row.clear();
            self.has_failed.store(false, Ordering::Relaxed);
        }
    }

    /// Notes a failure. True exactly once: for the one that trips.
    pub(crate) fn failed(&self, subject: CallSubject) -> bool {
        let mut in_a_row = self.in_a_row.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_failed.store(true, Ordering::Relaxed);
        if in_a_row.len() >= FAILURES || in_a_row.contains(&subject) {
            return false;
        }
        in_a_row.push(subject);
        in_a_row.len() == FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_trip_and_only_once() {
        let breaker = Breaker::default();
        let fail = |number: usize| breaker.failed(CallSubject::input(&number));
        for number in 1..FAILURES {
            assert!(!fail(number));
        }
        breaker.succeeded();
        for number in 1..FAILURES {
            assert!(!fail(number));
        }
        assert!(fail(FAILURES));
        assert!(!fail(FAILURES + 1));
    }

    #[test]
    fn a_workspace_and_an_input_count_once_however_often_they_fail() {
        let breaker = Breaker::default();
        let workspace = WorkspaceId::random();
        for number in 0..2 * FAILURES {
            assert!(!breaker.failed(CallSubject::of(Some(CallSubject::Workspace(workspace)), &number)));
            assert!(!breaker.failed(CallSubject::of(None, &"the same")));
            assert!(!breaker.failed(CallSubject::Stranger));
        }
        for _ in 4..FAILURES {
            assert!(!breaker.failed(CallSubject::Workspace(WorkspaceId::random())));
        }
        assert!(breaker.failed(CallSubject::Workspace(WorkspaceId::random())));
    }
}
