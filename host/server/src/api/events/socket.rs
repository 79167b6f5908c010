//! The WebSocket: everything that happens, for the canvas; what concerns it, for an agent.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use events::Envelope;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use super::replay::{Place, Told};
use super::seats::Seat;
use crate::app::App;
use crate::http::access::{Caller, Credentials};
use crate::http::error::ApiError;
use crate::http::headers::text;

/// Events that a socket may be behind.
const QUEUE: usize = 256;

/// Stored events that are replayed at most. Who is farther behind reads the resources again.
const REPLAYED: u64 = 1_000;

/// Bytes that a client may send at once.
const INBOUND: usize = 4 * 1024;

/// Sockets of this process, and of one workspace, at most.
const SOCKETS: usize = 1_000;
const SOCKETS_OF_ONE: usize = 10;

/// How an offered subprotocol begins that carries a bearer, as hexadecimal digits.
const CREDENTIAL: &str = "molecule-auth.";

/// When a socket is pinged and given up.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often it is pinged, and its token looked at again.
    pub ping: Duration,
    /// How long it may be silent.
    pub silence: Duration,
    /// How long one message may take to be taken.
    pub write: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(30),
            silence: Duration::from_secs(75),
            write: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Since {
    since: Option<String>,
}

pub(super) async fn open(
    State(app): State<App>,
    Query(query): Query<Since>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|error| ApiError::bad_request(&error.to_string()))?;
    let listener = Listener::of(&app, &headers)?;
    let full = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many WebSocket connections");
    let seats = [
        Some(app.sockets.take(None, SOCKETS).ok_or_else(full)?),
        listener.agent.map(|id| app.sockets.take(Some(id), SOCKETS_OF_ONE).ok_or_else(full)).transpose()?,
    ];
    let since = query.since.and_then(|since| since.parse().ok());
    let upgrade = upgrade.max_message_size(INBOUND).max_frame_size(INBOUND);
    Ok(upgrade.on_upgrade(move |socket| listen(app, socket, listener, since, seats)))
}

/// Who listens, and as whom.
struct Listener {
    /// The agent's workspace; none for the canvas.
    agent: Option<Uuid>,
    caller: Caller,
}

impl Listener {
    fn of(app: &App, headers: &HeaderMap) -> Result<Self, ApiError> {
        match text(headers, HeaderName::from_static("x-workspace-id")) {
            Some(id) => Self::agent(app, id, &Credentials::of(headers)),
            None => Self::canvas(app, headers),
        }
    }

    fn agent(app: &App, id: &str, credentials: &Credentials<'_>) -> Result<Self, ApiError> {
        let known = Uuid::parse_str(id).ok().filter(|id| app.fleet.directory().get(*id).is_some());
        let id = known.ok_or_else(|| ApiError::unauthorized("invalid workspace auth token"))?;
        let open = matches!(app.access.admin(credentials), Ok(Caller::DevMode | Caller::FreshInstall));
        let caller = match credentials.bearer() {
            // One that never had a token has nothing to show.
            None if open && !app.fleet.tokens().has_any(id) => Caller::FreshInstall,
            None => return Err(ApiError::unauthorized("missing workspace auth token")),
            Some(_) => app.access.workspace(&id.to_string(), credentials)?,
        };
        Ok(Self { agent: Some(id), caller })
    }

    fn canvas(app: &App, headers: &HeaderMap) -> Result<Self, ApiError> {
        let caller = match credential(headers)? {
            Some(bearer) => {
                let admitted = app.access.admin(&Credentials::bearing(&bearer));
                admitted.map_err(|_| ApiError::unauthorized("invalid canvas auth token"))?
            }
            // Web pages can't send a bearer here; that they are ours is all they can show.
            None if app.access.has_admin_token() && !app.cors.names(headers) => {
                return Err(ApiError::unauthorized("canvas auth required"));
            }
            None => Caller::FreshInstall,
        };
        Ok(Self { agent: None, caller })
    }
}

/// The bearer, by header or by an offered subprotocol.
fn credential(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let invalid = || ApiError::unauthorized("invalid WebSocket credential");
    let mut found = Credentials::of(headers).bearer().map(str::to_owned);
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    for digits in
        offered.flat_map(|list| list.split(',')).filter_map(|name| name.trim().strip_prefix(CREDENTIAL))
    {
        let bearer = hex::decode(digits).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let bearer = bearer.filter(|bearer| !bearer.is_empty()).ok_or_else(invalid)?;
        if found.as_ref().is_some_and(|other| *other != bearer) {
            return Err(invalid());
        }
        found = Some(bearer);
    }
    Ok(found)
}

/// Tells until somebody has had enough, and says why at the end.
async fn listen(
    app: App,
    mut socket: WebSocket,
    listener: Listener,
    since: Option<i64>,
    _seats: [Option<Seat>; 2],
) {
    let _open = Open::count();
    let fleet = app.fleet.clone();
    let agent = listener.agent;
    let wants = move |event: &Envelope| {
        event.is_wire()
            && agent.is_none_or(|agent| {
                event.workspace_id().is_some_and(|about| fleet.directory().may_talk(agent, about))
            })
    };
    let subscription = app.fleet.hub().subscribe(QUEUE, wants.clone());
    let (code, reason) = match Place::after(&app.fleet, subscription, since, REPLAYED, wants).await {
        Ok(place) => tell(&app, &mut socket, &listener, place).await,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "events could not be replayed");
            (close_code::ERROR, "platform datastore unavailable — retry shortly")
        }
    };
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // Whoever doesn't take it has gone.
    let _ = timeout(app.timing.write, socket.send(close)).await;
}

async fn tell(
    app: &App,
    socket: &mut WebSocket,
    listener: &Listener,
    mut place: Place,
) -> (u16, &'static str) {
    let timing = app.timing;
    let shutdown = app.shutdown.for_one();
    let mut pings = interval(timing.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.tick().await; // the first is at once
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            biased;
            () = shutdown.draining() => return (close_code::AWAY, "the server is stopping"),
            inbound = socket.recv() => match inbound {
                Some(Ok(Message::Close(_))) | None => return (close_code::NORMAL, ""),
                // What clients send is read and thrown away; that they send is a sign of life.
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
                Some(Err(error)) if is_too_large(&error) => return (close_code::SIZE, "message too large"),
                Some(Err(_)) => return (close_code::PROTOCOL, ""),
            },
            _ = pings.tick() => {
                if heard.elapsed() >= timing.silence {
                    return (close_code::AWAY, "no sign of life");
                }
                if !app.access.still_good(&listener.caller) {
                    return (close_code::POLICY, "the token was revoked");
                }
                Message::Ping(bytes::Bytes::new())
            }
            told = place.next() => match told {
                Told::Event(event) => Message::Text(event.frame().into()),
                Told::Resync => Message::Text(resync().into()),
                Told::TooSlow => return (close_code::AGAIN, "too slow; reconnect and read again"),
                Told::Over => return (close_code::AWAY, "the server is stopping"),
            },
        };
        match timeout(timing.write, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return (close_code::AGAIN, "too slow; reconnect and read again"),
        }
    }
}

fn resync() -> String {
    let at = store::now();
    json!({ "event": "RESYNC_REQUIRED", "payload": {}, "timestamp": at, "workspace_id": "" }).to_string()
}

/// Did the client send more than it may?
fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(tokio_tungstenite::tungstenite::Error::Capacity(_)) = error.downcast_ref() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An open socket, in the metrics.
struct Open;

impl Open {
    fn count() -> Self {
        metrics::gauge!("molecule_websocket_connections_active").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("molecule_websocket_connections_active").decrement(1.0);
    }
}
