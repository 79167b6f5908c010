//! `GET /workspaces/:id/events/stream`: the events of one workspace as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use events::{Envelope, Received};
use futures::stream::unfold;
use http::{HeaderMap, HeaderName, StatusCode, header};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use types::EventSeq;

use super::event_stream::{Audience, EventStream};
use crate::access::{Access, Caller, WorkspaceAuth};
use crate::app::App;
use crate::connection_limiter::{Key, LimitReached, Permit};
use crate::errors::Refuse as _;
use httpd::error::ApiError;
use httpd::headers::text;
use httpd::shutdown::Shutdown;

const PING: &str = ": ping\n\n";

/// The last event of a workspace.
const REMOVED: &str = "WORKSPACE_REMOVED";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Clients compare these texts.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_TYPE, "text/event-stream"),
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONNECTION, "keep-alive"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

pub(super) async fn open(
    State(app): State<App>,
    WorkspaceAuth { id, caller }: WorkspaceAuth,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (audience, limits) = (Audience::Workspace(id), app.event_limits);
    // The subscription comes before the look-up: a removal in between is delivered as an event.
    let mut events = EventStream::live(&app.fleet, audience, caller.is_proved(), limits.stream_queue);
    if app.fleet.workspaces().get(id).is_none() {
        return Err(ApiError::not_found("workspace not found"));
    }
    let keys = [(Key::All, limits.streams), (Key::Workspace(id), limits.streams_each)];
    let permit = app.streams.acquire(&keys).map_err(too_many)?;
    // Text that is no event number counts as not given: the client may have it from another server.
    let since = text(&headers, LAST_EVENT_ID).and_then(EventSeq::parse);
    if let Some(since) = since {
        let replayed = events.replay(&app.fleet, audience, since, limits.replay).await;
        replayed.or_refuse("failed to verify workspace")?;
    }
    let mut ping = interval_at(Instant::now() + limits.stream_ping, limits.stream_ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (access, shutdown) = (Arc::clone(&app.access), app.shutdown.for_one());
    let stream = Stream { events, ping, access, caller, shutdown, step: Step::Greet, _permit: permit };
    let body = unfold(stream, async |mut stream| Some((stream.next().await?, stream)));
    Ok((HEADERS, Body::from_stream(body)).into_response())
}

fn too_many(_: LimitReached) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many event streams")
}

struct Stream {
    events: EventStream,
    ping: Interval,
    access: Arc<Access>,
    caller: Caller,
    shutdown: Shutdown,
    step: Step,
    _permit: Permit,
}

/// State of a stream.
enum Step {
    /// A ping comes first, so that the client sees the stream open.
    Greet,
    Events,
    /// The workspace was removed.
    End,
}

impl Stream {
    /// The next piece of the body; none at its end.
    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        let piece = match self.step {
            Step::Greet => {
                self.step = Step::Events;
                Bytes::from_static(PING.as_bytes())
            }
            Step::Events => tokio::select! {
                () = self.shutdown.draining() => return None,
                next = self.events.next() => match next {
                    Received::Event(event) => self.frame(&event),
                    // The client comes back with the number of its last event.
                    Received::Lagged | Received::Closed => return None,
                },
                _ = self.ping.tick() => {
                    if !self.access.is_valid(&self.caller) {
                        return None;
                    }
                    Bytes::from_static(PING.as_bytes())
                }
            },
            Step::End => return None,
        };
        Some(Ok(piece))
    }

    fn frame(&mut self, event: &Envelope) -> Bytes {
        if event.name() == REMOVED {
            self.step = Step::End;
        }
        event.sse().into()
    }
}
