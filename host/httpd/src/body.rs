//! Bodies of requests in memory.
//!
//! A body is read when its request is admitted, up to the limit of its route. What all bodies of the process take
//! together is limited, too ([`body_budget`](crate::body_budget)): a body keeps its part of that until its last clone
//! is dropped, which is when the handler is done with it.
//!
//! | Refusal | Status |
//! |---|---|
//! | over the limit of the route, announced or sent | 413 |
//! | too slow | 408, and the connection is closed |
//! | no memory for it within [`WAIT`](crate::body_budget::WAIT) | 503 with `Retry-After` |
//! | the client broke off, or the framing is wrong | 400 |

use std::error::Error;

use axum::Extension;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::{Extensions, HeaderMap, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::JSON_BODY_LIMIT;
use crate::body_budget::{self, Admitted, Budget, FREE, NoMemory, WAIT};
use crate::client_ip::Peer;
use crate::error::ApiError;
use crate::headers::text;
use crate::request_body::BodyTimeout;

/// The largest body of a route, where it is not the usual one.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(usize);

impl BodyLimit {
    /// A layer for a route that accepts bodies up to this number of bytes.
    pub const fn layer(bytes: usize) -> Extension<Self> {
        Extension(Self(bytes))
    }

    fn of(extensions: &Extensions) -> usize {
        extensions.get::<Self>().map_or(JSON_BODY_LIMIT, |limit| limit.0)
    }
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the route allows.
    #[error("the request body is too large")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the request body did not arrive in time")]
    Timeout,
    /// There is no memory for it now.
    #[error("other request bodies take the memory")]
    Busy,
    /// The client broke off, or the framing is wrong.
    #[error("the request body could not be read")]
    Broken(#[source] axum::Error),
}

impl From<NoMemory> for BodyError {
    fn from(_: NoMemory) -> Self {
        Self::Busy
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::body_too_large(),
            BodyError::Timeout => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time")
            }
            BodyError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many request bodies at the same time: try again later",
            )
            .with_retry_after(WAIT.as_secs()),
            BodyError::Broken(error) => {
                tracing::debug!(error = &error as &dyn Error, "the body could not be read");
                Self::invalid_body()
            }
        }
    }
}

/// A body as it came, up to the limit of the route ([`BodyLimit`], else 1 MiB).
#[derive(Debug, Clone)]
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let limit = BodyLimit::of(request.extensions());
        Ok(Self(read(request, limit).await?))
    }
}

/// Reads the body of a request.
///
/// # Errors
/// See [`BodyError`].
pub async fn read(request: Request, limit: usize) -> Result<Bytes, BodyError> {
    let admitted = request.extensions().get::<Admitted>().copied();
    if admitted.is_some()
        && let Some(peer) = request.extensions().get::<Peer>()
    {
        peer.requests.set_admitted();
    }
    read_within(request.into_body(), limit, body_budget::of_process(), admitted).await
}

/// Whether a body is announced as so small that it is not counted, with or without a credential.
#[must_use]
pub fn is_free(headers: &HeaderMap) -> bool {
    let announced = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    announced.is_some_and(|length| length <= FREE)
}

async fn read_within(
    mut body: axum::body::Body,
    limit: usize,
    budget: &Budget,
    admitted: Option<Admitted>,
) -> Result<Bytes, BodyError> {
    let announced = body.size_hint();
    let least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
    if least > limit {
        return Err(BodyError::TooLarge);
    }
    let mut reserved = budget.reserve(least, announced.exact().is_some(), admitted).await?;
    let most = announced.exact().map_or(limit, |_| least);
    let mut buffer = Buffer::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(failure)?.into_data() else { continue };
        let length = buffer.len() + data.len();
        if length > limit {
            return Err(BodyError::TooLarge);
        }
        if length > reserved.bytes().max(FREE) {
            // Twice as much as before, as the buffer grows.
            let more = length.max(reserved.bytes().saturating_mul(2)).min(most);
            reserved.extend(more).await?;
        }
        buffer.push(data, reserved.bytes().max(least.min(FREE)));
        // Of an announced body, this was the last byte: there is nothing to wait for.
        if body.is_end_stream() {
            break;
        }
    }
    Ok(reserved.hold(buffer.into_bytes()))
}

/// Collects frames. A body of one frame is not copied.
#[derive(Default)]
struct Buffer {
    first: Bytes,
    all: BytesMut,
}

impl Buffer {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    /// `capacity` is what all of the body is expected to take.
    fn push(&mut self, data: Bytes, capacity: usize) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(capacity.max(self.len() + data.len()));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

fn failure(error: axum::Error) -> BodyError {
    if is_timeout(&error) { BodyError::Timeout } else { BodyError::Broken(error) }
}

/// Whether a body that came too slowly is the cause of an error.
pub(crate) fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<BodyTimeout>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use futures::stream;
    use http_body::{Frame, SizeHint};
    use tokio::task::JoinSet;
    use uuid::Uuid;

    use super::*;

    /// A body without a known length.
    fn chunked(chunks: &[usize]) -> axum::body::Body {
        let chunks: Vec<_> =
            chunks.iter().map(|size| Ok::<_, Infallible>(Bytes::from(vec![b'x'; *size]))).collect();
        axum::body::Body::from_stream(stream::iter(chunks))
    }

    const ADMIN: Option<Admitted> = Some(Admitted { credential: None });
    const KIB: usize = 1024;
    const LIMIT: usize = 1024 * KIB;

    #[tokio::test]
    async fn bodies_are_read_whole_up_to_the_limit() {
        let budget = Budget::new(100 << 20);
        for (chunks, expected) in [
            (&[][..], Some(0)),
            (&[0, 5], Some(5)),
            (&[10, 20, 30], Some(60)),
            (&[600 * KIB, 400 * KIB, 24 * KIB], Some(LIMIT)),
            (&[600 * KIB, 400 * KIB, 24 * KIB + 1], None),
            (&[LIMIT + 1], None),
        ] {
            let read = read_within(chunked(chunks), LIMIT, &budget, None).await;
            match (&read, expected) {
                (Ok(body), Some(length)) => assert_eq!(body.len(), length),
                (Err(BodyError::TooLarge), None) => {}
                _ => panic!("{chunks:?}: {read:?}"),
            }
        }
        let known = axum::body::Body::from(vec![b'x'; LIMIT + 1]);
        assert!(matches!(read_within(known, LIMIT, &budget, None).await, Err(BodyError::TooLarge)));
        assert!(budget.is_unused(), "all is given back");
    }

    #[tokio::test]
    async fn a_body_keeps_its_part_of_the_budget_as_long_as_it_is_held() {
        let budget = Budget::new(100 << 20);
        for body in [chunked(&[100 * KIB, 100 * KIB]), axum::body::Body::from(vec![b'x'; 100 * KIB])] {
            let body = read_within(body, LIMIT, &budget, ADMIN).await.expect("read");
            let part = body.slice(0..1);
            drop(body);
            assert!(!budget.is_unused());
            drop(part);
            assert!(budget.is_unused());
        }
        let small = read_within(chunked(&[FREE]), LIMIT, &budget, None).await.expect("read");
        assert!(budget.is_unused(), "small bodies are not counted");
        assert_eq!(small.len(), FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_of_strangers_do_not_take_the_part_of_admitted_callers() {
        let budget = Budget::new(10 * LIMIT);
        let mut held = Vec::new();
        let refused = loop {
            match read_within(chunked(&[LIMIT]), LIMIT, &budget, None).await {
                Ok(body) => held.push(body),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, BodyError::Busy), "{refused}");
        let known = read_within(vec![b'x'; LIMIT].into(), LIMIT, &budget, None).await;
        assert!(matches!(known, Err(BodyError::Busy)), "{known:?}");
        let small = read_within(vec![b'x'; 10 * KIB].into(), LIMIT, &budget, None).await;
        assert!(small.is_ok(), "small bodies have a part of their own");
        assert!(read_within(chunked(&[LIMIT]), LIMIT, &budget, ADMIN).await.is_ok());
        held.pop();
        assert!(read_within(chunked(&[LIMIT]), LIMIT, &budget, None).await.is_ok());
    }

    /// A body that announces `announced` bytes and sends `sent` of them at first; the rest never comes.
    fn stopped(announced: u64, sent: usize) -> axum::body::Body {
        struct Stopped(u64, Option<Bytes>);
        impl http_body::Body for Stopped {
            type Data = Bytes;
            type Error = Infallible;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                self.1.take().map_or(Poll::Pending, |sent| Poll::Ready(Some(Ok(Frame::data(sent)))))
            }
            fn size_hint(&self) -> SizeHint {
                SizeHint::with_exact(self.0)
            }
        }
        axum::body::Body::new(Stopped(announced, Some(vec![b'x'; sent].into())))
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_are_only_announced_take_nothing() {
        for (announced, admitted) in
            [(64 * KIB, None), (LIMIT, None), (5 * KIB, ADMIN), (64 * KIB, ADMIN), (LIMIT, ADMIN)]
        {
            let (mut reading, budget) = (JoinSet::new(), Arc::new(Budget::new(6 * LIMIT)));
            for _ in 0..2000 {
                let (body, budget) = (stopped(announced as u64, 100), Arc::clone(&budget));
                reading.spawn(async move { read_within(body, LIMIT, &budget, admitted).await.map(drop) });
            }
            tokio::task::yield_now().await;
            let other = read_within(vec![b'x'; announced].into(), LIMIT, &budget, admitted).await;
            assert!(other.is_ok(), "{announced} {admitted:?}: {other:?}");
            assert!(reading.try_join_next().is_none(), "they are still being read");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_bodies_of_strangers_do_not_take_the_part_of_admitted_callers() {
        let budget = Budget::new(60 * LIMIT);
        let small = |admitted| read_within(vec![b'x'; 64 * KIB].into(), LIMIT, &budget, admitted);
        let (mut strange, mut admitted) = (Vec::new(), Vec::new());
        while let Ok(body) = small(None).await {
            strange.push(body);
        }
        assert_eq!(strange.len(), 160, "a sixth");
        // Theirs overflow into the half for large ones.
        while let Ok(body) = small(ADMIN).await {
            admitted.push(body);
        }
        assert_eq!(admitted.len(), 160 + 480);
        strange.pop();
        assert!(small(None).await.is_ok(), "nor do these take the part of strangers");
        drop((strange, admitted));
        assert!(budget.is_unused(), "all is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_of_one_credential_leave_the_part_of_admitted_callers_to_others() {
        for size in [64 * KIB, LIMIT] {
            let budget = Budget::new(64 * LIMIT);
            let read = async |admitted| {
                let body = axum::body::Body::from(vec![b'x'; size]);
                read_within(body, LIMIT, &budget, admitted).await
            };
            let [one, other] = [1, 2].map(|id| Some(Admitted { credential: Some(Uuid::from_u128(id)) }));
            let mut held = Vec::new();
            let refused = loop {
                match read(one).await {
                    Ok(body) => held.push(body),
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, BodyError::Busy), "{refused}");
            assert_eq!(held.len() * size, 8 * LIMIT, "a quarter of the half");
            assert!(read(other).await.is_ok() && read(ADMIN).await.is_ok());
            held.pop();
            assert!(read(one).await.is_ok());
            drop(held);
            assert!(budget.is_unused(), "all is given back");
            // What is larger than the share has all of it, whether it is announced or not.
            let large = 20 * LIMIT;
            let body = read_within(vec![b'x'; large].into(), large, &budget, one).await.expect("read");
            assert!(read(one).await.is_err() && read(other).await.is_ok());
            drop(body);
            assert!(read_within(chunked(&[LIMIT; 20]), large, &budget, one).await.is_ok());
            assert!(budget.is_unused(), "all is given back");
        }
    }

    #[tokio::test]
    async fn a_body_waits_for_memory() {
        let budget = Budget::new(12 * LIMIT);
        let held = read_within(chunked(&[LIMIT, LIMIT]), 2 * LIMIT, &budget, None).await.expect("read");
        let waiting = read_within(chunked(&[LIMIT]), LIMIT, &budget, None);
        let freed = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let (read, ()) = tokio::join!(waiting, freed);
        assert!(read.is_ok());
    }
}
