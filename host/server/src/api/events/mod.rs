//! What happened, for those who ask, and for those who stay: the list, the WebSocket, the stream.

mod list;
mod replay;
mod seats;
mod socket;
mod stream;

use axum::Router;
use axum::routing::get;

pub use self::seats::Seats;
pub use self::socket::Timing;
use crate::app::App;
use crate::http::access::{admin, workspace};
use crate::http::routes::Register;

/// `/events`, `/events/:workspaceId`, `/ws` and `/workspaces/:id/events/stream`.
pub fn routes(app: &App) -> Router<App> {
    let access = &app.access;
    Router::new()
        .endpoint("/events", admin(access, get(list::all)))
        .endpoint("/events/{workspace}", admin(access, get(list::of_one)))
        // Judges its callers itself: web pages can't send headers with a WebSocket.
        .endpoint("/ws", get(socket::open))
        .endpoint("/workspaces/{id}/events/stream", workspace(access, get(stream::open)))
}
