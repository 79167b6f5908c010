//! One connection's socket, with the deadlines that hyper does not have.
//!
//! hyper has one timeout, from the end of an answer to the end of the next request's head; it
//! cannot tell an idle connection from a head that drips in. So the socket itself keeps the time.
//! It has to know when a request is in progress: [`Requests`] says so, from the head of the request until the last
//! byte of the answer.
//!
//! | State | Deadline |
//! |---|---|
//! | new, nothing received yet | `header` |
//! | first byte of a head received | `header`, for the whole head |
//! | request in progress | none for reading (a body has its own, see `request_body`) |
//! | between requests | `idle` |
//! | the client takes no bytes of an answer | `idle`, from the last byte it took |
//! | upgraded (WebSocket) | none for reading, the new protocol keeps its own |
//!
//! A missed reading deadline looks to hyper as if the client had hung up, so it closes quietly. Timers are
//! only touched when a read finds nothing and the timer at hand would be too late: a busy
//! keep-alive connection sets one timer per `idle` period, not one per request.
//!
//! Closing lingers: a client that is still sending when we have answered (431, 413) would get a
//! reset that destroys the answer on its way, so what it sends is read and dropped for a moment.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection_table::ConnectionPermit;
use crate::head_scan::HeadScan;
use crate::requests::Requests;

/// Deadlines of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For the head of a request, from its first byte (of the first one: from the first look at the socket).
    pub header: Duration,
    /// For nothing at all: between requests, in the middle of a body, while writing.
    pub idle: Duration,
    /// For reading on after the last answer.
    pub linger: Duration,
    /// For the whole body of a request.
    pub body: Duration,
    /// After this time, a body must have arrived at `body_rate` on average; up to then it may be slower.
    pub body_grace: Duration,
    /// Bytes per second.
    pub body_rate: u32,
}

impl Default for Deadlines {
    /// What the server runs with. An upload of 32 MiB fits into `body` at 10 KiB per second; what routes without a
    /// credential accept is done at `body_rate` long before.
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            linger: Duration::from_secs(2),
            body: Duration::from_secs(60 * 60),
            body_grace: Duration::from_secs(30),
            body_rate: 1024,
        }
    }
}

/// A socket that ends by itself when its client is too slow.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    deadlines: Deadlines,
    /// Dropped when the socket is gone.
    permit: ConnectionPermit,
    /// The state of `requests` that the fields below belong to.
    seen: u64,
    head_begun: bool,
    scan: HeadScan,
    read_by: Option<Instant>,
    write_by: Option<Instant>,
    linger_until: Option<Instant>,
    missed: bool,
    /// A read found nothing while the last answer was under way.
    awaits_sent: bool,
    read_timer: Timer,
    write_timer: Timer,
}

impl Connection {
    /// Wraps an accepted socket.
    pub(crate) fn new(stream: TcpStream, deadlines: Deadlines, permit: ConnectionPermit) -> Self {
        Self {
            stream,
            deadlines,
            seen: permit.requests().state(),
            permit,
            // The first head has its deadline before its first byte, too.
            head_begun: true,
            scan: HeadScan::default(),
            read_by: None,
            write_by: None,
            linger_until: None,
            missed: false,
            awaits_sent: false,
            read_timer: Timer::default(),
            write_timer: Timer::default(),
        }
    }

    /// Forgets the deadline of an earlier request. Returns whether the connection waits for a request.
    fn waits_for_request(&mut self) -> bool {
        let seen = self.permit.requests().state();
        if seen != self.seen {
            self.seen = seen;
            self.head_begun = false;
            self.read_by = None;
        }
        Requests::awaits_head(seen)
    }

    /// Whether the client kept us waiting too long. Wakes the task when it will have.
    fn poll_missed(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.waits_for_request() {
            return false;
        }
        // The client has to take the last answer first, which has a deadline of its own.
        self.awaits_sent = !self.permit.requests().is_sent();
        if self.awaits_sent {
            return false;
        }
        let by = match self.read_by {
            Some(by) => by,
            None => {
                let now = Instant::now();
                self.permit.requests().waits_from(now);
                let Deadlines { header, idle, .. } = self.deadlines;
                *self.read_by.insert(now + if self.head_begun { header } else { idle })
            }
        };
        self.missed = self.read_timer.poll(by, cx);
        self.missed
    }

    /// Fails once the client has taken nothing for the idle time.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let idle = self.deadlines.idle;
        let by = *self.write_by.get_or_insert_with(|| Instant::now() + idle);
        if self.write_timer.poll(by, cx) {
            Poll::Ready(io::ErrorKind::TimedOut.into())
        } else {
            Poll::Pending
        }
    }

    /// The result of a write, or the failure of one that waits for too long.
    fn written<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            if self.write_by.take().is_some() {
                self.permit.requests().set_stalled(false);
            }
            return result;
        }
        if self.write_by.is_none() {
            self.permit.requests().set_stalled(true);
        }
        self.poll_stalled(cx).map(Err)
    }
}

// === Reading ===

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_pending() {
            // Ready without bytes is how a stream ends.
            return if self.poll_missed(cx) { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let received = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        if !received.is_empty() && self.waits_for_request() {
            if !self.head_begun {
                let now = Instant::now();
                self.head_begun = true;
                self.scan = HeadScan::default();
                self.seen = self.permit.requests().head_begun(now);
                self.read_by = Some(now + self.deadlines.header);
            }
            if self.scan.feed(received) {
                self.permit.requests().set_ambiguous();
            }
        }
        result
    }
}

// === Writing ===

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        let result = self.written(result, cx);
        // hyper flushes when its own buffer is empty.
        if matches!(result, Poll::Ready(Ok(()))) {
            self.permit.requests().set_sent();
            // Nothing may wake the task again: the time for the next request begins here.
            if mem::take(&mut self.awaits_sent) && self.poll_missed(cx) {
                cx.waker().wake_by_ref();
            }
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger_until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.missed {
            return Poll::Ready(Ok(()));
        }
        let linger = self.deadlines.linger;
        let until = *self.linger_until.get_or_insert_with(|| Instant::now() + linger);
        let mut scrap = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
            let more = matches!(read, Poll::Ready(Ok(()))) && !buffer.filled().is_empty();
            if self.read_timer.poll(until, cx) || (read.is_ready() && !more) {
                return Poll::Ready(Ok(()));
            }
            if read.is_pending() {
                return Poll::Pending;
            }
        }
    }
}

// === Timer ===

/// A timer that is set late and reset rarely.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Whether `by` has passed. If not, the task is woken when it has (and maybe earlier).
    pub(crate) fn poll(&mut self, by: Instant, cx: &mut Context<'_>) -> bool {
        if Instant::now() >= by {
            return true;
        }
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(by)));
        if sleep.deadline() > by {
            sleep.as_mut().reset(by);
        }
        // A timer set for an earlier deadline is not moved, it fires and is set again here.
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= by {
                return true;
            }
            sleep.as_mut().reset(by);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_timer_fires_at_the_deadline_it_is_asked_about() {
        let mut timer = Timer::default();
        for (first, then) in [(10, 60), (60, 10), (0, 5)] {
            let first = Instant::now() + Duration::from_millis(first);
            let then = Instant::now() + Duration::from_millis(then);
            poll_fn(|cx| Poll::Ready(timer.poll(first, cx))).await;
            let fired = poll_fn(|cx| match timer.poll(then, cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let patience = Duration::from_secs(10);
            tokio::time::timeout(patience, fired).await.expect("it fires");
            assert!(Instant::now() >= then);
        }
    }
}
