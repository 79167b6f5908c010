//! What the calls of a guest bring into the server's log: lines that it writes, and failures. Each call's are bounded by
//! the sandbox; here they are per second, because callers decide how many calls there are.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use wasm::{Outcome, Stream};

/// Bytes per second, and as many at once as four calls may write.
const RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(64 << 10);
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(512 << 10);

/// Bytes that a line has beside its text: time, level, names.
const LINE: usize = 150;

/// How much of one guest's log is written.
pub(crate) struct GuestLog {
    limiter: DefaultDirectRateLimiter,
    /// Bytes of text that were dropped since that was last reported.
    dropped: AtomicUsize,
}

impl GuestLog {
    pub(crate) fn new() -> Self {
        let limiter = RateLimiter::direct(Quota::per_second(RATE).allow_burst(BURST));
        Self { limiter, dropped: AtomicUsize::new(0) }
    }

    /// Logs what the guest wrote in a call, and how that failed.
    pub(crate) fn record<T>(&self, guest: &str, release: &str, function: &str, outcome: &Outcome<T>) {
        for line in outcome.report.log.iter().filter(|line| self.admits(line.text.len())) {
            match line.stream {
                Stream::Out => {
                    tracing::info!(target: "isomer::guest", guest, release, "{}", line.text);
                }
                Stream::Err => {
                    tracing::warn!(target: "isomer::guest", guest, release, "{}", line.text);
                }
            }
        }
        self.dropped.fetch_add(outcome.report.log_dropped, Ordering::Relaxed);
        if let Err(failure) = &outcome.result {
            let (text, backtrace) = (failure.to_string(), failure.backtrace().join(" < "));
            if self.admits(text.len() + backtrace.len()) {
                tracing::warn!(guest, release, function, kind = %failure.kind(), backtrace, "{text}");
            }
        }
        if self.dropped.load(Ordering::Relaxed) > 0 && self.has_room(LINE) {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            tracing::warn!(target: "isomer::guest", guest, release, dropped, "log beyond the limit dropped");
        }
    }

    /// Whether a line is written; it counts as dropped otherwise.
    fn admits(&self, bytes: usize) -> bool {
        let admitted = self.has_room(bytes.saturating_add(LINE));
        if !admitted {
            self.dropped.fetch_add(bytes, Ordering::Relaxed);
        }
        admitted
    }

    fn has_room(&self, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).ok().and_then(NonZeroU32::new);
        bytes.is_some_and(|bytes| matches!(self.limiter.check_n(bytes), Ok(Ok(()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_admitted_up_to_the_burst() {
        let log = GuestLog::new();
        let admitted = (0..1_000).filter(|_| log.admits(1_000)).count();
        // A busy machine may take seconds for the loop.
        assert!((455..=800).contains(&admitted), "{admitted}");
        assert_eq!(log.dropped.load(Ordering::Relaxed), (1_000 - admitted) * 1_000);
        assert!(!log.has_room(usize::MAX) && !log.has_room(1 << 20));
    }
}
