//! The body of a request, which has to arrive in time: without long pauses, at a minimum rate after a grace, and within
//! a total time. A body that arrives together with its head sets no timer.
//!
//! A body that was not read when the answer begins leaves bytes on the connection, so that it can't carry another
//! request: the answer says so. hyper reads a small rest by itself.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body_budget::FREE;
use crate::connection::{Deadlines, Timer};
use crate::requests::Requests;

/// A client sent a body too slowly, or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body did not arrive in time")]
pub(crate) struct BodyTimeout;

/// A request's body with its deadlines.
pub(crate) struct RequestBody {
    body: Incoming,
    deadlines: Deadlines,
    requests: Arc<Requests>,
    received: u64,
    /// When the server began to wait for it.
    begun: Option<Instant>,
    /// When it began to wait for the next bytes.
    waiting: Option<Instant>,
    timer: Timer,
}

impl RequestBody {
    /// Adds the deadlines to a body. One that is empty has none.
    pub(crate) fn wrap(body: Incoming, deadlines: Deadlines, requests: &Arc<Requests>) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        let requests = Arc::clone(requests);
        requests.set_unread(body.size_hint().exact().is_none_or(|bytes| bytes > FREE as u64));
        let timer = Timer::default();
        Body::new(Self { body, deadlines, requests, received: 0, begun: None, waiting: None, timer })
    }

    /// The time that what has come may take at the minimum rate.
    fn allowed(&self) -> Duration {
        Duration::from_millis(self.received.saturating_mul(1000) / u64::from(self.deadlines.body_rate.max(1)))
    }

    /// When the body is too late, if nothing comes up to then.
    fn due(&mut self) -> Instant {
        let (begun, waiting) = match (self.begun, self.waiting) {
            (Some(begun), Some(waiting)) => (begun, waiting),
            _ => {
                let now = Instant::now();
                let begun = *self.begun.get_or_insert(now);
                self.waiting = Some(now);
                self.requests.body_awaited(now.min(begun + self.allowed()));
                (begun, now)
            }
        };
        let Deadlines { idle, body, body_grace, .. } = self.deadlines;
        let slow = begun + (body_grace + self.allowed()).min(body);
        slow.min(waiting + idle)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if self.waiting.take().is_some() {
                self.requests.body_arrived();
            }
            if let Some(Ok(frame)) = &frame {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            if frame.is_none() || self.body.is_end_stream() {
                self.requests.set_unread(false);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let due = self.due();
        if self.timer.poll(due, cx) {
            return Poll::Ready(Some(Err(BodyTimeout.into())));
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

impl Drop for RequestBody {
    fn drop(&mut self) {
        // The handler answers without the rest.
        if self.waiting.is_some() {
            self.requests.body_arrived();
        }
    }
}
