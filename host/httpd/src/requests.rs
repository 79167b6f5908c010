//! How far the requests of one connection are. Its socket keeps deadlines by it, its service moves it on, and the
//! table of connections closes waiting ones when others need the room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How far the requests of one connection are: the lowest bits are one of the phases below, the others count how often
/// a request began or ended, so that a socket sees that there was one in between.
#[derive(Debug)]
pub(crate) struct Requests {
    state: AtomicU64,
    opened: Instant,
    /// How far the last answer is that the service handed over: one of the values below, or else the milliseconds after
    /// `opened`, plus one, at which the client began to take nothing of it.
    answer: AtomicU64,
    /// A part of the last request's body is not read, and too large for hyper to read it by itself.
    unread: AtomicBool,
}

/// All of the answer is sent.
const SENT: u64 = 0;
/// The client takes it.
const TAKEN: u64 = u64::MAX;

const PHASES: u64 = 0b11;
/// Between requests, or before the first one, or in the middle of a head.
const WAITING: u64 = 0;
const IN_PROGRESS: u64 = 1;
/// In progress, and the server waits for more of the request's body.
const RECEIVING: u64 = 2;
/// No request will follow: the connection speaks another protocol, or is being closed to make room.
const LAST: u64 = 3;
/// One more change between waiting and in progress.
const CHANGE: u64 = PHASES + 1;

/// How long a client may take nothing of an answer before its connection counts as waiting.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// How long a client has to begin its first request before its connection counts as one that nobody uses.
const NEW: Duration = Duration::from_secs(1);

impl Default for Requests {
    fn default() -> Self {
        Self {
            state: AtomicU64::new(WAITING),
            opened: Instant::now(),
            answer: AtomicU64::new(SENT),
            unread: AtomicBool::new(false),
        }
    }
}

impl Requests {
    /// Notes that a request is in progress until the returned value is dropped. None: the connection is being closed.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        let begun = |state: u64| (state & PHASES != LAST).then_some(changed(state, IN_PROGRESS));
        self.update(begun).then(|| InFlight(Arc::clone(self)))
    }

    /// Notes that the server waits for more of a body.
    pub(crate) fn body_awaited(&self) {
        self.update(|state| (state & PHASES == IN_PROGRESS).then_some(state & !PHASES | RECEIVING));
    }

    /// Notes that more of the body is there.
    pub(crate) fn body_arrived(&self) {
        self.update(|state| (state & PHASES == RECEIVING).then_some(state & !PHASES | IN_PROGRESS));
    }

    /// Notes whether a large part of a body is not read.
    pub(crate) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Whether a large part of the last body is not read. Asked once.
    pub(crate) fn take_unread(&self) -> bool {
        self.unread.swap(false, Ordering::Relaxed)
    }

    /// Notes whether the client takes nothing of an answer.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        let since = if stalled { self.age_millis().saturating_add(1) } else { TAKEN };
        self.answer.store(since, Ordering::Release);
    }

    /// Notes that all that the service handed over is sent.
    pub(crate) fn set_sent(&self) {
        self.answer.store(SENT, Ordering::Release);
    }

    /// Takes the connection out of service if it waits for a request, or for the rest of one's body if `receiving`.
    /// Afterwards no request begins on it. Returns whether it was taken out.
    pub(crate) fn close_if_waiting(&self, receiving: bool) -> bool {
        let may_close = |state: u64| match state & PHASES {
            WAITING => !self.is_taking_answer(),
            RECEIVING => receiving,
            _ => false,
        };
        self.update(|state| may_close(state).then_some(state | LAST))
    }

    /// The same, only asked.
    pub(crate) fn is_waiting(&self, receiving: bool) -> bool {
        match self.state() & PHASES {
            WAITING => !self.is_taking_answer(),
            RECEIVING => receiving,
            _ => false,
        }
    }

    /// Whether the connection was opened a moment ago and had no request yet.
    pub(crate) fn is_new(&self) -> bool {
        self.state() == WAITING && self.opened.elapsed() < NEW
    }

    /// Whether an answer is under way to a client that took some of it lately. The service has handed it over, so no
    /// request is in progress any more.
    fn is_taking_answer(&self) -> bool {
        match self.answer.load(Ordering::Acquire) {
            SENT => false,
            TAKEN => true,
            since => u128::from(self.age_millis()) < u128::from(since) + STALLED_AFTER.as_millis(),
        }
    }

    fn age_millis(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn state(&self) -> u64 {
        self.state.load(Ordering::Acquire)
    }

    pub(crate) const fn is_between(state: u64) -> bool {
        state & PHASES == WAITING
    }

    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }
}

const fn changed(state: u64, phase: u64) -> u64 {
    (state & !PHASES).wrapping_add(CHANGE) | phase
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Requests>);

impl InFlight {
    /// Notes that this connection speaks another protocol from now on.
    pub(crate) fn upgraded(&self) {
        self.0.update(|state| Some(state | LAST));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // The socket has not written it yet, or not all of it.
        self.0.set_stalled(false);
        self.0.update(|state| (state & PHASES != LAST).then_some(changed(state, WAITING)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_progress_until_it_is_dropped_or_upgraded() {
        let requests = Arc::new(Requests::default());
        let before = requests.state();
        assert!(Requests::is_between(before));
        let request = requests.begin().expect("open");
        assert!(!Requests::is_between(requests.state()));
        drop(request);
        assert!(Requests::is_between(requests.state()));
        assert_ne!(requests.state(), before, "the socket sees that there was a request");
        let request = requests.begin().expect("open");
        request.upgraded();
        drop(request);
        assert!(!Requests::is_between(requests.state()));
        assert!(!requests.close_if_waiting(true), "another protocol is not interrupted");
    }

    #[test]
    fn only_a_waiting_connection_is_closed_to_make_room() {
        let requests = Arc::new(Requests::default());
        let request = requests.begin().expect("open");
        assert!(!requests.close_if_waiting(true), "the request is being answered");
        requests.body_awaited();
        assert!(requests.is_waiting(true) && !requests.is_waiting(false));
        requests.body_arrived();
        assert!(!requests.close_if_waiting(true), "its body is there");
        drop(request);
        assert!(!requests.close_if_waiting(true), "the answer is not written yet");
        requests.set_stalled(true);
        assert!(!requests.close_if_waiting(true), "the client takes nothing at this moment");
        requests.set_stalled(false);
        assert!(!requests.close_if_waiting(true), "a part of the answer is written");
        requests.set_sent();
        assert!(requests.close_if_waiting(false));
        assert!(requests.begin().is_none(), "no request begins on a closing connection");
    }

    #[test]
    fn a_body_that_does_not_come_does_not_keep_a_connection_open() {
        let requests = Arc::new(Requests::default());
        let request = requests.begin().expect("open");
        requests.body_awaited();
        assert!(requests.close_if_waiting(true));
        drop(request);
        assert!(requests.begin().is_none());
    }
}
