//! How far the requests of one connection are. Its socket keeps deadlines by it, its service moves it on, and the
//! table of connections closes idle ones when others need the room.

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
    /// Milliseconds after `opened` since when the server waits: for a request or the rest of its head, or for what its
    /// body should have brought by now. [`NOT_YET`] until the socket has found nothing, after it was accepted and after
    /// each answer: what is there already is read before the connection counts as idle.
    waiting_from: AtomicU64,
    /// How far the last answer is that the service handed over: one of the values below, or else the milliseconds after
    /// `opened`, plus one, at which the client began to take nothing of it.
    answer: AtomicU64,
    /// A part of the last request's body is not read, and too large for hyper to read it by itself.
    unread: AtomicBool,
    /// The last head has a length beside chunks. Its request takes this.
    ambiguous: AtomicBool,
    /// The caller of the last request showed a credential, or needs none.
    admitted: AtomicBool,
}

/// All of the answer is sent.
const SENT: u64 = 0;
/// The client takes it.
const TAKEN: u64 = u64::MAX;
/// The server does not wait yet.
const NOT_YET: u64 = u64::MAX;

const PHASES: u64 = 0b111;
/// Before the first request, or in the middle of a head.
const HEAD: u64 = 0;
const IN_PROGRESS: u64 = 1;
/// In progress, and the server waits for more of the request's body.
const RECEIVING: u64 = 2;
/// Between two requests, and nothing of the next one is there.
const BETWEEN: u64 = 3;
/// No request will follow: the connection speaks another protocol, or is being closed to make room.
const LAST: u64 = PHASES;
/// One more change between waiting and in progress.
const CHANGE: u64 = PHASES + 1;

/// How long a client may take nothing of an answer before its connection counts as idle.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// How long what is missing of a body may be under way before its connection counts as idle.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where the caller was admitted: the bodies of others that stopped a moment later are to be closed first.
const PAUSE_OF_ADMITTED: Duration = Duration::from_secs(2);

impl Default for Requests {
    fn default() -> Self {
        Self {
            state: AtomicU64::new(HEAD),
            opened: Instant::now(),
            waiting_from: AtomicU64::new(NOT_YET),
            answer: AtomicU64::new(SENT),
            unread: AtomicBool::new(false),
            ambiguous: AtomicBool::new(false),
            admitted: AtomicBool::new(false),
        }
    }
}

/// An idle connection, which may be closed to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Idle {
    /// How long the server has waited for the client.
    pub(crate) time: Duration,
    /// It waits for a head, which may be under way.
    pub(crate) awaits_head: bool,
    /// The caller of its request was admitted: after all others.
    pub(crate) is_admitted: bool,
}

impl Requests {
    /// Notes that a request is in progress until the returned value is dropped. None: the connection is being closed.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        let begun = |state: u64| (state & PHASES != LAST).then_some(changed(state, IN_PROGRESS));
        self.admitted.store(false, Ordering::Relaxed);
        self.update(begun).then(|| InFlight(Arc::clone(self)))
    }

    /// Notes that the caller of the request in progress was admitted.
    pub(crate) fn set_admitted(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// Notes that the first bytes of another request are there. Returns the state that this leads to.
    pub(crate) fn head_begun(&self, now: Instant) -> u64 {
        self.waits_from(now);
        self.update(|state| (state & PHASES == BETWEEN).then_some(state & !PHASES | HEAD));
        self.state()
    }

    /// Notes since when the server waits for a request.
    pub(crate) fn waits_from(&self, from: Instant) {
        let millis = u64::try_from(from.saturating_duration_since(self.opened).as_millis());
        self.waiting_from.store(millis.unwrap_or(NOT_YET), Ordering::Release);
    }

    /// Notes that the server waits for more of a body, which is late since then.
    pub(crate) fn body_awaited(&self, late_from: Instant) {
        self.waits_from(late_from);
        self.update(|state| (state & PHASES == IN_PROGRESS).then_some(state & !PHASES | RECEIVING));
    }

    /// Notes that more of the body is there.
    pub(crate) fn body_arrived(&self) {
        self.update(|state| (state & PHASES == RECEIVING).then_some(state & !PHASES | IN_PROGRESS));
    }

    /// Notes that a head has a length beside chunks.
    pub(crate) fn set_ambiguous(&self) {
        self.ambiguous.store(true, Ordering::Relaxed);
    }

    /// Whether the last head has a length beside chunks. Asked once.
    pub(crate) fn take_ambiguous(&self) -> bool {
        self.ambiguous.swap(false, Ordering::Relaxed)
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
        let since = if stalled { self.age_millis(Instant::now()).saturating_add(1) } else { TAKEN };
        self.answer.store(since, Ordering::Release);
    }

    /// Notes that all that the service handed over is sent.
    pub(crate) fn set_sent(&self) {
        self.answer.store(SENT, Ordering::Release);
    }

    /// Whether all that the service handed over is sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.answer.load(Ordering::Acquire) == SENT
    }

    /// Takes the connection out of service if it is idle. Afterwards no request begins on it. Returns whether it was
    /// taken out.
    pub(crate) fn close_if_idle(&self) -> bool {
        let now = Instant::now();
        self.update(|state| self.idle_in(state, now).map(|_| state | LAST))
    }

    /// How the connection is idle, if it is.
    pub(crate) fn idle(&self, now: Instant) -> Option<Idle> {
        self.idle_in(self.state(), now)
    }

    fn idle_in(&self, state: u64, now: Instant) -> Option<Idle> {
        let age = self.age_millis(now);
        let waited = || Duration::from_millis(age.saturating_sub(self.waiting_from.load(Ordering::Acquire)));
        let idle = |time| Idle { time, awaits_head: false, is_admitted: false };
        match (state & PHASES, self.answer.load(Ordering::Acquire)) {
            // The service has handed an answer over, so that no request is in progress, and the client takes it.
            (HEAD | BETWEEN, TAKEN) => None,
            (HEAD, SENT) => Some(Idle { awaits_head: true, ..idle(waited()) }),
            (BETWEEN, SENT) => Some(idle(waited())),
            (HEAD | BETWEEN, since) => {
                let stalled = Duration::from_millis((age.saturating_add(1)).saturating_sub(since));
                (stalled >= STALLED_AFTER).then(|| idle(stalled))
            }
            (RECEIVING, _) => {
                let is_admitted = self.admitted.load(Ordering::Relaxed);
                let pause = if is_admitted { PAUSE_OF_ADMITTED } else { PAUSE };
                (waited() >= pause).then(|| Idle { is_admitted, ..idle(waited()) })
            }
            _ => None,
        }
    }

    fn age_millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn state(&self) -> u64 {
        self.state.load(Ordering::Acquire)
    }

    /// Whether the server waits for a request or the rest of its head.
    pub(crate) const fn awaits_head(state: u64) -> bool {
        matches!(state & PHASES, HEAD | BETWEEN)
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
        self.0.waiting_from.store(NOT_YET, Ordering::Release);
        self.0.update(|state| (state & PHASES != LAST).then_some(changed(state, BETWEEN)));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn a_request_is_in_progress_until_it_is_dropped_or_upgraded() {
        let requests = Arc::new(Requests::default());
        let before = requests.state();
        assert!(Requests::awaits_head(before));
        let request = requests.begin().expect("open");
        assert!(!Requests::awaits_head(requests.state()));
        drop(request);
        assert!(Requests::awaits_head(requests.state()));
        assert_ne!(requests.state(), before, "the socket sees that there was a request");
        let request = requests.begin().expect("open");
        request.upgraded();
        drop(request);
        assert!(!Requests::awaits_head(requests.state()));
        assert!(!requests.close_if_idle(), "another protocol is not interrupted");
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_idle_connection_is_closed_to_make_room() {
        let requests = Arc::new(Requests::default());
        let request = requests.begin().expect("open");
        assert!(!requests.close_if_idle(), "the request is being answered");
        requests.body_awaited(Instant::now());
        advance(PAUSE).await;
        assert!(requests.idle(Instant::now()).is_some());
        requests.body_arrived();
        assert!(!requests.close_if_idle(), "its body is there");
        drop(request);
        assert!(!requests.close_if_idle(), "the answer is not written yet");
        requests.set_stalled(true);
        assert!(!requests.close_if_idle(), "the client takes nothing at this moment");
        requests.set_stalled(false);
        advance(STALLED_AFTER).await;
        assert!(!requests.close_if_idle(), "a part of the answer is written");
        requests.set_stalled(true);
        advance(STALLED_AFTER).await;
        assert_eq!(requests.idle(Instant::now()).map(|idle| idle.time), Some(STALLED_AFTER));
        requests.set_sent();
        assert!(requests.close_if_idle());
        assert!(requests.begin().is_none(), "no request begins on a closing connection");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_keeps_its_connection_open_as_long_as_it_comes() {
        let requests = Arc::new(Requests::default());
        let _request = requests.begin().expect("open");
        for _ in 0..10 {
            requests.body_awaited(Instant::now());
            advance(PAUSE * 9 / 10).await;
            assert!(!requests.close_if_idle());
            requests.body_arrived();
        }
        // It comes, but not as much as it should.
        requests.body_awaited(Instant::now() - PAUSE * 3);
        let idle = Idle { time: PAUSE * 3, awaits_head: false, is_admitted: false };
        assert_eq!(requests.idle(Instant::now()), Some(idle));
        requests.set_admitted();
        assert_eq!(requests.idle(Instant::now()), Some(Idle { is_admitted: true, ..idle }));
        assert!(requests.close_if_idle());
        assert!(requests.begin().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_head_begins_with_its_first_byte() {
        let requests = Arc::new(Requests::default());
        let idle = || requests.idle(Instant::now()).map(|idle| (idle.time, idle.awaits_head));
        advance(PAUSE).await;
        assert_eq!(idle(), Some((Duration::ZERO, true)), "the socket has not looked yet");
        requests.waits_from(Instant::now());
        advance(PAUSE).await;
        assert_eq!(idle(), Some((PAUSE, true)));
        drop(requests.begin());
        requests.set_sent();
        assert_eq!(idle(), Some((Duration::ZERO, false)), "the socket has not looked yet");
        requests.waits_from(Instant::now());
        advance(PAUSE).await;
        assert_eq!(idle(), Some((PAUSE, false)));
        requests.head_begun(Instant::now());
        assert_eq!(idle(), Some((Duration::ZERO, true)));
    }
}
