//! What happened, for those who ask, and for those who stay: the list, the WebSocket, the stream.
//!
//! `handshake` says who may open a socket, `seats` how many there may be, `source` what comes and in which
//! order; `socket` and `stream` carry it.

mod handshake;
mod list;
mod seats;
mod socket;
mod source;
mod stream;

use std::time::Duration;

use axum::Router;
use axum::routing::get;

pub use self::seats::Seats;
use crate::access::{admin, workspace};
use crate::app::App;
use httpd::router_ext::RouterExt;

/// Limits of those who stay. [`Limits::default`] is what the server runs with; tests shorten the times.
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

/// `/events`, `/events/:workspaceId`, `/ws` and `/workspaces/:id/events/stream`.
pub fn routes(app: &App) -> Router<App> {
    let access = &app.access;
    Router::new()
        .endpoint("/events", admin(access, get(list::all)))
        .endpoint("/events/{workspaceId}", admin(access, get(list::of_one)))
        // Judges its callers itself: web pages can't send headers with a WebSocket.
        .endpoint("/ws", get(socket::open))
        .endpoint("/workspaces/{id}/events/stream", workspace(access, get(stream::open)))
}
