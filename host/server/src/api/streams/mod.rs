//! Events as they happen: `/ws` for canvases and agents, and one workspace's as an SSE stream.
//!
//! `handshake` says who may open a socket and what it hears, `places` how many there may be, `source` what
//! comes and in which order; `socket` and `sse` carry it.

mod handshake;
mod places;
mod socket;
mod source;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};

use self::places::Places;
use crate::app::App;
use crate::http::access::workspace;
use crate::http::routes::Register;

/// Limits of streams. [`Limits::default`] is what the server runs with; tests shorten the times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sockets of this process.
    pub sockets: usize,
    /// Sockets of one workspace's agent.
    pub sockets_each: usize,
    /// SSE streams of one workspace.
    pub streams_each: usize,
    /// Events that wait for a slow socket.
    pub socket_queue: usize,
    /// Events that wait for a slow SSE stream.
    pub stream_queue: usize,
    /// Events that are told again to a client that was away; one that missed more reads everything anew.
    pub replay: u64,
    /// Bytes of a message from a client.
    pub inbound: usize,
    /// How often a socket is pinged, and the token looked at that opened it.
    pub ping: Duration,
    /// How long a socket may be silent.
    pub silence: Duration,
    /// How long a client may take for one message.
    pub write: Duration,
    /// How often an SSE stream is pinged, and the token looked at that opened it.
    pub stream_ping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 1_000,
            sockets_each: 10,
            streams_each: 10,
            socket_queue: 256,
            stream_queue: 64,
            replay: 1_000,
            inbound: 4 * 1024,
            ping: Duration::from_secs(30),
            silence: Duration::from_secs(75),
            write: Duration::from_secs(10),
            stream_ping: Duration::from_secs(15),
        }
    }
}

/// What the streams of one server share.
struct Streams {
    limits: Limits,
    sockets: Arc<Places>,
    streams: Arc<Places>,
}

/// `/ws` and `/workspaces/:id/events/stream`.
pub fn routes(app: &App) -> Router<App> {
    routes_within(app, Limits::default())
}

/// The same within other limits.
pub fn routes_within(app: &App, limits: Limits) -> Router<App> {
    let streams = Arc::new(Streams {
        limits,
        sockets: Places::new(limits.sockets, limits.sockets_each),
        streams: Places::new(usize::MAX, limits.streams_each),
    });
    Router::new()
        // Judges its callers itself: most canvases can't show a bearer.
        .endpoint("/ws", get(socket::open))
        .endpoint("/workspaces/{id}/events/stream", workspace(&app.access, get(sse::open)))
        .layer(Extension(streams))
}
