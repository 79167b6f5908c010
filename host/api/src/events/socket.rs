//! `/ws`: one task per socket, which writes the events of its stream and discards what clients send.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use events::Received;
use futures::{SinkExt as _, StreamExt as _};
use metrics::gauge;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use types::EventSeq;

use super::event_stream::EventStream;
use super::{Limits, handshake::SocketAuth};
use crate::access::{Access, Caller};
use crate::app::App;
use crate::connection_limiter::Permit;
use crate::extract::given;
use crate::socket_permits::{Opened, too_many};
use httpd::ClientIp;
use httpd::error::ApiError;
use httpd::parameters::Query;
use httpd::shutdown::Shutdown;
use httpd::websocket::{self, Handshake};

/// Deadline for sending the close frame, lingering included.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of a socket's read buffer: small, as there may be many sockets.
const READ_BUFFER: usize = 4 * 1024;

#[derive(Deserialize)]
pub(super) struct Resume {
    since: Option<String>,
}

pub(super) async fn open(
    State(app): State<App>,
    Query(resume): Query<Resume>,
    handshake: Handshake,
    mut auth: SocketAuth,
    client: Option<Extension<ClientIp>>,
) -> Result<Response, ApiError> {
    // Clients that saw no event yet send it empty.
    let since = given(resume.since).as_deref().map(parse).transpose()?;
    let limits = app.event_limits;
    let address = client.map(|Extension(client)| client);
    if auth.ticket.is_some() {
        // It is good once: where there is no room even for the administrator, it stays good.
        let most = Opened { agent: auth.audience.workspace(), proved: true, is_admin: true };
        app.sockets.acquire(&most.keys(&limits, address)).map(drop).map_err(too_many)?;
        auth.redeem(&app).await?;
    }
    let SocketAuth { audience, caller, protocol, .. } = auth;
    let proved = app.access.dev_mode() || caller.as_ref().is_some_and(Caller::is_proved);
    let opened = Opened { agent: audience.workspace(), proved, is_admin: caller == Some(Caller::AdminToken) };
    let permit = app.sockets.acquire(&opened.keys(&limits, address)).map_err(too_many)?;
    let mut events = EventStream::live(&app.fleet, audience, proved, limits.socket_queue);
    if let Some(since) = since {
        let replayed = events.replay(&app.fleet, audience, since, limits.replay).await;
        replayed.map_err(|error| ApiError::platform_unavailable(&error))?;
    }
    let (access, shutdown) = (Arc::clone(&app.access), app.shutdown.for_one());
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(limits.inbound))
        .max_frame_size(Some(limits.inbound));
    Ok(handshake.accept(config, protocol, move |socket| {
        Socket { socket, events, limits, access, caller, shutdown, _open: Open::new(permit) }.run()
    }))
}

fn parse(since: &str) -> Result<EventSeq, ApiError> {
    EventSeq::parse(since).ok_or_else(|| ApiError::bad_request("since must be the number of an event"))
}

/// An open socket in the gauge.
struct Open {
    _permit: Permit,
}

impl Open {
    fn new(permit: Permit) -> Self {
        gauge!("molecule_websocket_connections_active").increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("molecule_websocket_connections_active").decrement(1.0);
    }
}

struct Socket {
    socket: websocket::Socket,
    events: EventStream,
    limits: Limits,
    access: Arc<Access>,
    caller: Option<Caller>,
    shutdown: Shutdown,
    _open: Open,
}

/// Why a socket ends.
enum End {
    /// The client closed the socket.
    Closed,
    /// The connection failed, or the client reads nothing: no close frame reaches it.
    Lost,
    /// The server closes the socket, with a code and a reason.
    Close(CloseCode, &'static str),
}

impl End {
    const SHUTDOWN: Self = Self::Close(CloseCode::Away, "the server is stopping");
    const TIMEOUT: Self = Self::Close(CloseCode::Away, "no message or pong arrived in time");
    const SLOW: Self = Self::Close(CloseCode::Again, "you are too slow; resume with ?since=");
    const REVOKED: Self = Self::Close(CloseCode::Policy, "the token was revoked");
    const TOO_LARGE: Self = Self::Close(CloseCode::Size, "the message is too large");
    const NOT_TEXT: Self = Self::Close(CloseCode::Invalid, "the text is not UTF-8");
    const NOT_WEBSOCKET: Self = Self::Close(CloseCode::Protocol, "that is not WebSocket");
}

impl Socket {
    async fn run(mut self) {
        let Err(end) = self.run_loop().await;
        let why = match end {
            End::Lost => return,
            End::Closed => None,
            End::Close(code, reason) => Some((code, reason)),
        };
        // No more events are sent, so none has to be queued.
        drop(self.events);
        websocket::close(self.socket, why, CLOSE_TIMEOUT).await;
    }

    async fn run_loop(&mut self) -> Result<std::convert::Infallible, End> {
        let now = Instant::now();
        let mut ping = interval_at(now + self.limits.ping, self.limits.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_received = now;
        // Messages do not move the timer: when it fires, it is set again by the time of the last one.
        let mut idle = std::pin::pin!(sleep_until(now + self.limits.silence));
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.draining() => return Err(End::SHUTDOWN),
                message = self.socket.next() => {
                    handle_inbound(message)?;
                    last_received = Instant::now();
                }
                next = self.events.next() => self.handle_event(next).await?,
                _ = ping.tick() => self.keepalive().await?,
                () = &mut idle => {
                    let until = last_received + self.limits.silence;
                    if until <= Instant::now() {
                        return Err(End::TIMEOUT);
                    }
                    idle.as_mut().reset(until);
                }
            }
        }
    }

    async fn handle_event(&mut self, next: Received) -> Result<(), End> {
        match next {
            Received::Event(event) => match Utf8Bytes::try_from(event.frame_bytes()) {
                Ok(text) => self.send(Message::Text(text)).await,
                // It was made of a `String`.
                Err(_) => Ok(()),
            },
            Received::Lagged => Err(End::SLOW),
            Received::Closed => Err(End::SHUTDOWN),
        }
    }

    /// Ends the socket of a revoked token, else sends a ping.
    async fn keepalive(&mut self) -> Result<(), End> {
        if self.caller.as_ref().is_some_and(|caller| !self.access.is_valid(caller)) {
            return Err(End::REVOKED);
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        tokio::select! {
            sent = timeout(self.limits.write, self.socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(failed(&error)),
                Err(_) => Err(End::Lost),
            },
            () = self.shutdown.draining() => Err(End::SHUTDOWN),
        }
    }
}

/// Messages of clients have no meaning; they only show that the client is there.
fn handle_inbound(message: Option<Result<Message, Error>>) -> Result<(), End> {
    match message {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(failed(&error)),
        None => Err(End::Closed),
    }
}

fn failed(error: &Error) -> End {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => End::Closed,
        Error::Capacity(_) => End::TOO_LARGE,
        Error::Utf8(_) => End::NOT_TEXT,
        Error::Protocol(_) => End::NOT_WEBSOCKET,
        error => {
            tracing::debug!(%error, "a socket failed");
            End::Lost
        }
    }
}
