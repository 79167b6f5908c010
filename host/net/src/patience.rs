//! How long a call may take: until its headers, in silence, and on the whole. One timer per call watches
//! all three, over the head and the body of the response.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// Says when an agent has been silent for too long. Silence is what the caller takes for it: this crate only
/// asks again whenever the time it was told has come.
pub trait IdleClock: fmt::Debug + Send + Sync {
    /// When the silence is too long, unless it ends before.
    fn deadline(&self) -> Instant;
    /// The agent said something just now.
    fn reset(&self);
    /// When [`on_long`](Self::on_long) is to be called, unless the call ends before; `None` once it was.
    fn long_at(&self) -> Option<Instant> {
        None
    }
    /// The call takes long.
    fn on_long(&self) {}
}

/// Bounds of one call, besides those of the client.
#[derive(Debug, Clone, Default)]
pub struct CallLimits {
    /// When the call ends in any case.
    pub deadline: Option<Instant>,
    /// Ends the call when the agent has been silent for too long.
    pub idle: Option<Arc<dyn IdleClock>>,
}

/// Which bound a call exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Expired {
    /// No response headers came in time.
    #[error("no response headers in time")]
    Headers,
    /// Nothing was heard of the agent for too long.
    #[error("nothing was heard of the agent for too long")]
    Idle,
    /// The deadline of the call passed.
    #[error("the deadline passed")]
    Deadline,
}

/// Watches the bounds of one call.
#[derive(Debug)]
pub(crate) struct Watch {
    limits: CallLimits,
    headers: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Watch {
    pub(crate) fn start(limits: CallLimits, header_timeout: Duration) -> Self {
        let now = Instant::now();
        let headers = now.checked_add(header_timeout);
        let first = earliest(&limits, headers).map_or(now, |(at, _)| wake_up(&limits, at));
        Self { limits, headers, timer: Box::pin(sleep_until(first)) }
    }

    /// The response headers are there.
    pub(crate) fn headers_arrived(&mut self) {
        self.headers = None;
    }

    /// The agent said something just now.
    pub(crate) fn heard(&self) {
        if let Some(idle) = &self.limits.idle {
            idle.reset();
        }
    }

    /// Ends when a bound is exceeded. May be dropped and called again.
    pub(crate) async fn expired(&mut self) -> Expired {
        loop {
            self.timer.as_mut().await;
            let now = Instant::now();
            if let Some(idle) =
                self.limits.idle.as_ref().filter(|idle| idle.long_at().is_some_and(|at| at <= now))
            {
                idle.on_long();
            }
            // A bound may have moved since the timer was set.
            match earliest(&self.limits, self.headers) {
                Some((at, expired)) if at <= now => return expired,
                Some((at, _)) => self.timer.as_mut().reset(wake_up(&self.limits, at)),
                None => std::future::pending().await,
            }
        }
    }
}

/// When to look: at the earliest bound, or when the call begins to be a long one.
fn wake_up(limits: &CallLimits, bound: Instant) -> Instant {
    let long = limits.idle.as_ref().and_then(|idle| idle.long_at());
    long.map_or(bound, |long| long.min(bound))
}

fn earliest(limits: &CallLimits, headers: Option<Instant>) -> Option<(Instant, Expired)> {
    let idle = limits.idle.as_ref().map(|idle| (idle.deadline(), Expired::Idle));
    let headers = headers.map(|at| (at, Expired::Headers));
    let deadline = limits.deadline.map(|at| (at, Expired::Deadline));
    [deadline, headers, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Silence(Mutex<Instant>);

    impl IdleClock for Silence {
        fn deadline(&self) -> Instant {
            *self.0.lock().unwrap() + Duration::from_secs(10)
        }

        fn reset(&self) {
            *self.0.lock().unwrap() = Instant::now();
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_bound_ends_the_call() {
        for (headers, deadline, idle, after, expired) in [
            (5, None, false, 5, Expired::Headers),
            (50, Some(3), true, 3, Expired::Deadline),
            (50, Some(30), true, 10, Expired::Idle),
            (50, None, true, 10, Expired::Idle),
        ] {
            let start = Instant::now();
            let silence = || Arc::new(Silence(Mutex::new(start))) as Arc<dyn IdleClock>;
            let limits = CallLimits {
                deadline: deadline.map(|after| start + seconds(after)),
                idle: idle.then(silence),
            };
            assert_eq!(Watch::start(limits, seconds(headers)).expired().await, expired);
            assert_eq!(start.elapsed().as_secs(), after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_anew_with_each_sign_of_life_and_headers_end_their_bound() {
        let start = Instant::now();
        let silence = Arc::new(Silence(Mutex::new(start)));
        let limits = CallLimits { deadline: None, idle: Some(Arc::clone(&silence) as _) };
        let mut watch = Watch::start(limits, seconds(8));
        let waiting = tokio::time::timeout(seconds(7), watch.expired()).await;
        assert!(waiting.is_err());
        watch.headers_arrived();
        silence.reset();
        assert_eq!(watch.expired().await, Expired::Idle);
        assert_eq!(start.elapsed().as_secs(), 17);
    }
}
