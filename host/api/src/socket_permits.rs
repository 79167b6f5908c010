//! How many WebSockets there may be of which callers: those of events, and those of the web canvas that are passed on.

use std::sync::Arc;

use http::StatusCode;
use httpd::error::ApiError;
use httpd::{CanvasSockets, ClientIp};
use types::WorkspaceId;

use crate::connection_limiter::{ConnectionLimiter, Key, LimitReached};
use crate::event_limits::Limits;

/// Who opens a socket, as far as it matters for how many there may be.
pub(crate) struct Opened {
    /// The workspace whose agent opens it.
    pub(crate) agent: Option<WorkspaceId>,
    /// The client showed a credential, or none is needed because the machine is a developer's own.
    pub(crate) proved: bool,
    pub(crate) is_admin: bool,
}

impl Opened {
    /// What the socket is counted under. Clients that proved nothing never take the last permits, nor do others take
    /// those of the administrator.
    pub(crate) fn keys(&self, limits: &Limits, client: Option<ClientIp>) -> Vec<(Key, usize)> {
        let kept = if self.is_admin { 0 } else { limits.sockets_of_admin };
        let mut keys = vec![(Key::All, limits.sockets.saturating_sub(kept))];
        if !self.proved {
            keys.push((Key::Strangers, limits.sockets_of_strangers));
            let address = client.filter(|client| !client.0.is_loopback());
            keys.extend(address.map(|client| (Key::Address(client.network()), limits.sockets_of_address)));
        }
        keys.extend(self.agent.map(|id| (Key::Workspace(id), limits.sockets_each)));
        keys
    }
}

/// The refusal of a socket.
pub(crate) fn too_many(LimitReached(key): LimitReached) -> ApiError {
    match key {
        Key::Address(_) => {
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many WebSocket connections from this address")
        }
        _ => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many WebSocket connections"),
    }
}

/// Permits for sockets of the web canvas, which count as those of clients that proved nothing.
pub(crate) fn canvas_sockets(sockets: &ConnectionLimiter, limits: Limits) -> CanvasSockets {
    let sockets = sockets.clone();
    Arc::new(move |client| {
        let opened = Opened { agent: None, proved: false, is_admin: false };
        let permit = sockets.acquire(&opened.keys(&limits, client)).map_err(too_many)?;
        Ok(Box::new(permit))
    })
}
