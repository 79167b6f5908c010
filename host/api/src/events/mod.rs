//! Events: as a list, over a WebSocket, and as Server-Sent Events.
//!
//! `handshake` decides who may open a socket, [`ConnectionLimiter`] how many may be open, `event_stream` which
//! events come in which order; `socket` and `sse` transport them.

mod event_stream;
mod handshake;
mod list;
mod socket;
mod sse;
mod ticket;
mod without_urls;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;
pub use crate::connection_limiter::{ConnectionLimiter, Key, LimitReached, Permit};
pub use crate::event_limits::Limits;
use httpd::router_ext::RouterExt;

/// `/events`, `/events/:workspaceId`, `/ws`, `/ws/ticket` and `/workspaces/:id/events/stream`.
pub fn routes(_: &App) -> Router<App> {
    Router::new()
        .endpoint("/events", get(list::all))
        .endpoint("/events/{workspaceId}", get(list::of_one))
        .endpoint("/ws", get(socket::open))
        .endpoint("/ws/ticket", post(ticket::make))
        .endpoint("/workspaces/{id}/events/stream", get(sse::open))
}
