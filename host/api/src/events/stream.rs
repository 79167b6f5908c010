//! `GET /workspaces/:id/events/stream`: what happens to one workspace, as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use events::{Envelope, Next};
use futures::stream::unfold;
use http::{HeaderMap, HeaderName, StatusCode, header};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::seats::Seat;
use super::source::{Listener, Source};
use crate::access::{Access, Caller, WorkspaceId};
use crate::app::App;
use crate::errors::fleet_error;
use httpd::error::ApiError;
use httpd::headers::text;
use httpd::shutdown::Shutdown;

const PING: &str = ": ping\n\n";

/// The last event of a workspace.
const REMOVED: &str = "WORKSPACE_REMOVED";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How the head of the answer says it; clients compare these.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_TYPE, "text/event-stream"),
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONNECTION, "keep-alive"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

pub(super) async fn open(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (listener, limits) = (Listener::Watcher(id), app.event_limits);
    // Before the workspace is looked for: its end is either seen here or told.
    let mut source = Source::live(&app.fleet, listener, limits.stream_queue);
    if app.fleet.directory().get(id).is_none() {
        return Err(ApiError::not_found("workspace not found"));
    }
    let seat = app.streams.take(Some(id), limits.streams_each).ok_or_else(too_many)?;
    // Whatever isn't a number of ours is no number: the client may have it from another server.
    let since = text(&headers, LAST_EVENT_ID).and_then(|id| id.parse().ok()).filter(|since| *since >= 0);
    if let Some(since) = since {
        let caught_up = source.catch_up(&app.fleet, listener, since, limits.replay).await;
        caught_up.map_err(|error| fleet_error(error.into(), "failed to verify workspace"))?;
    }
    let mut ping = interval_at(Instant::now() + limits.stream_ping, limits.stream_ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (access, shutdown) = (Arc::clone(&app.access), app.shutdown.for_one());
    let stream = Stream { source, ping, access, caller, shutdown, step: Step::Greet, _seat: seat };
    let body = unfold(stream, async |mut stream| Some((stream.next().await?, stream)));
    Ok((HEADERS, Body::from_stream(body)).into_response())
}

fn too_many() -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many event streams")
}

struct Stream {
    source: Source,
    ping: Interval,
    access: Arc<Access>,
    caller: Caller,
    shutdown: Shutdown,
    step: Step,
    _seat: Seat,
}

/// How far a stream is.
enum Step {
    Greet,
    Tell,
    End,
}

impl Stream {
    /// The next piece of the answer; none at its end.
    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        let piece = match self.step {
            Step::Greet => {
                self.step = Step::Tell;
                Bytes::from_static(PING.as_bytes())
            }
            Step::Tell => tokio::select! {
                () = self.shutdown.draining() => return None,
                next = self.source.next() => match next {
                    Next::Event(event) => self.tell(&event),
                    // The client comes back and says what it heard last.
                    Next::Overflowed | Next::Closed => return None,
                },
                _ = self.ping.tick() => {
                    if !self.access.still_good(&self.caller) {
                        return None;
                    }
                    Bytes::from_static(PING.as_bytes())
                }
            },
            Step::End => return None,
        };
        Some(Ok(piece))
    }

    fn tell(&mut self, event: &Envelope) -> Bytes {
        if event.name() == REMOVED {
            self.step = Step::End;
        }
        event.sse().into()
    }
}
