//! A body that fails when its sender stops in the middle.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::connection::Timer;

/// A body that fails when its sender stops in the middle.
pub(crate) struct IdleTimeoutBody {
    body: Incoming,
    idle: Duration,
    next_by: Option<Instant>,
    timer: Timer,
}

impl IdleTimeoutBody {
    pub(crate) fn new(body: Incoming, idle: Duration) -> Self {
        Self { body, idle, next_by: None, timer: Timer::default() }
    }
}

impl http_body::Body for IdleTimeoutBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.next_by = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle = self.idle;
        let by = *self.next_by.get_or_insert_with(|| Instant::now() + idle);
        if self.timer.poll(by, cx) {
            return Poll::Ready(Some(Err("the other end stopped sending".into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
