//! One workspace's events as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use events::{Envelope, Event};
use futures::stream;
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::replay::{Place, Told};
use super::seats::Seat;
use crate::app::App;
use crate::http::access::{Access, Caller, WorkspaceId};
use crate::http::error::{ApiError, refused};
use crate::http::headers::text;
use crate::http::shutdown::Shutdown;

/// Events that a stream may be behind.
const QUEUE: usize = 64;

/// Streams of one workspace at most.
const STREAMS: usize = 10;

/// How often a comment is sent, so that nothing on the way takes the stream for dead.
const PING: Duration = Duration::from_secs(15);

const COMMENT: Bytes = Bytes::from_static(b": ping\n\n");

const HEADERS: [(&str, &str); 4] = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache"),
    ("connection", "keep-alive"),
    ("x-accel-buffering", "no"),
];

pub(super) async fn open(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if app.fleet.directory().get(id).is_none() {
        return Err(ApiError::not_found("workspace not found"));
    }
    let Some(seat) = app.streams.take(Some(id), STREAMS) else {
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many event streams of this workspace"));
    };
    let wants = move |event: &Envelope| event.is_wire() && event.workspace_id() == Some(id);
    let subscription = app.fleet.hub().subscribe(QUEUE, wants);
    let last = text(&headers, HeaderName::from_static("last-event-id")).and_then(|id| id.parse().ok());
    let place = Place::after(&app.fleet, subscription, last, u64::MAX, wants).await;
    let place = place.map_err(|error| refused(error.into(), "failed to verify workspace"))?;
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let following = Following {
        place,
        pings,
        shutdown: app.shutdown.for_one(),
        access: app.access,
        caller,
        greeted: false,
        ended: false,
        _seat: seat,
    };
    let body = Body::from_stream(stream::unfold(following, Following::next));
    Ok((HEADERS, body).into_response())
}

struct Following {
    place: Place,
    pings: Interval,
    shutdown: Shutdown,
    access: Arc<Access>,
    caller: Caller,
    greeted: bool,
    ended: bool,
    _seat: Seat,
}

impl Following {
    /// The next bytes; none at the end. A listener that is too slow is ended: it asks again with the
    /// number of the last event that it had.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.ended {
            return None;
        }
        if !std::mem::replace(&mut self.greeted, true) {
            return Some((Ok(COMMENT), self)); // tells that the stream is open
        }
        let bytes = tokio::select! {
            biased;
            () = self.shutdown.draining() => return None,
            _ = self.pings.tick() => {
                if !self.access.still_good(&self.caller) {
                    return None;
                }
                COMMENT
            }
            told = self.place.next() => match told {
                Told::Event(event) => {
                    self.ended = matches!(event.event(), Some(Event::WorkspaceRemoved(_)));
                    Bytes::from(event.sse())
                }
                Told::Resync | Told::TooSlow | Told::Over => return None,
            },
        };
        Some((Ok(bytes), self))
    }
}
