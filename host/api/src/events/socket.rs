//! `/ws`: one task per socket, which writes what its source gives and throws away what it reads.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use events::Next;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode};
use metrics::gauge;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use uuid::Uuid;

use super::seats::Seat;
use super::source::Source;
use super::{Limits, handshake};
use crate::access::{Access, Caller};
use crate::app::App;
use httpd::error::ApiError;
use httpd::parameters::Query;
use httpd::shutdown::Shutdown;
use httpd::websocket::{self, Handshake};

/// How long a client may take for our close frame, lingering included.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a socket needs of us at once; little, as there may be many.
const READ_BUFFER: usize = 4 * 1024;

#[derive(Deserialize)]
pub(super) struct Resume {
    since: Option<String>,
}

pub(super) async fn open(
    State(app): State<App>,
    Query(resume): Query<Resume>,
    headers: HeaderMap,
    handshake: Handshake,
) -> Result<Response, ApiError> {
    let (listener, caller) = handshake::admit(&app, &headers).await?;
    if let Some(caller) = &caller {
        tracing::Span::current().record("caller", tracing::field::display(caller));
    }
    let since = resume.since.as_deref().map(parse).transpose()?;
    let limits = app.event_limits;
    let seats = seats(&app, listener.workspace()).ok_or_else(too_many)?;
    let mut source = Source::live(&app.fleet, listener, limits.socket_queue);
    if let Some(since) = since {
        let caught_up = source.catch_up(&app.fleet, listener, since, limits.replay).await;
        caught_up.map_err(|error| ApiError::platform_unavailable(&error))?;
    }
    let (access, shutdown) = (Arc::clone(&app.access), app.shutdown.for_one());
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(limits.inbound))
        .max_frame_size(Some(limits.inbound));
    Ok(handshake.accept(config, move |socket| {
        Socket { socket, source, limits, access, caller, shutdown, _open: Open::new(seats) }.run()
    }))
}

/// A seat among all, and one of the workspace whose agent listens.
type Taken = (Seat, Option<Seat>);

fn seats(app: &App, workspace: Option<Uuid>) -> Option<Taken> {
    let limits = app.event_limits;
    let among_all = app.sockets.take(None, limits.sockets)?;
    Some(match workspace {
        Some(_) => (among_all, Some(app.sockets.take(workspace, limits.sockets_each)?)),
        None => (among_all, None),
    })
}

fn parse(since: &str) -> Result<i64, ApiError> {
    let since = since.parse().ok().filter(|since| *since >= 0);
    since.ok_or_else(|| ApiError::bad_request("since must be the number of an event"))
}

fn too_many() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many WebSocket connections")
}

/// An open socket, as the gauge counts them.
struct Open {
    _seats: Taken,
}

impl Open {
    fn new(seats: Taken) -> Self {
        gauge!("molecule_websocket_connections_active").increment(1.0);
        Self { _seats: seats }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("molecule_websocket_connections_active").decrement(1.0);
    }
}

struct Socket {
    socket: websocket::Socket,
    source: Source,
    limits: Limits,
    access: Arc<Access>,
    caller: Option<Caller>,
    shutdown: Shutdown,
    _open: Open,
}

/// Why a socket ends.
enum End {
    /// The client left in order.
    Left,
    /// The client is gone, or takes nothing: it can't be told anything.
    Lost,
    /// The client is told why.
    Because(CloseCode, &'static str),
}

impl End {
    const SHUTDOWN: Self = Self::Because(CloseCode::Away, "the server is stopping");
    const SILENT: Self = Self::Because(CloseCode::Away, "nothing was heard from you");
    const SLOW: Self = Self::Because(CloseCode::Again, "you are too slow; resume with ?since=");
    const REVOKED: Self = Self::Because(CloseCode::Policy, "the token was revoked");
    const TOO_LARGE: Self = Self::Because(CloseCode::Size, "the message is too large");
    const NOT_TEXT: Self = Self::Because(CloseCode::Invalid, "the text is not UTF-8");
    const NOT_WEBSOCKET: Self = Self::Because(CloseCode::Protocol, "that is not WebSocket");
}

impl Socket {
    async fn run(mut self) {
        let Err(end) = self.carry().await;
        let why = match end {
            End::Lost => return,
            End::Left => None,
            End::Because(code, reason) => Some((code, reason)),
        };
        // Nothing more is said, so nothing has to wait meanwhile.
        drop(self.source);
        websocket::close(self.socket, why, FAREWELL).await;
    }

    async fn carry(&mut self) -> Result<std::convert::Infallible, End> {
        let now = Instant::now();
        let mut ping = interval_at(now + self.limits.ping, self.limits.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = now;
        // Fires when a client that says nothing is given up; who speaks moves it only once it fires.
        let mut patience = std::pin::pin!(sleep_until(now + self.limits.silence));
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.draining() => return Err(End::SHUTDOWN),
                said = self.socket.next() => {
                    understand(said)?;
                    heard = Instant::now();
                }
                next = self.source.next() => self.tell(next).await?,
                _ = ping.tick() => self.look_after().await?,
                () = &mut patience => {
                    let until = heard + self.limits.silence;
                    if until <= Instant::now() {
                        return Err(End::SILENT);
                    }
                    patience.as_mut().reset(until);
                }
            }
        }
    }

    async fn tell(&mut self, next: Next) -> Result<(), End> {
        match next {
            Next::Event(event) => match Utf8Bytes::try_from(event.frame_bytes()) {
                Ok(text) => self.send(Message::Text(text)).await,
                // It was made of a `String`.
                Err(_) => Ok(()),
            },
            Next::Overflowed => Err(End::SLOW),
            Next::Closed => Err(End::SHUTDOWN),
        }
    }

    async fn look_after(&mut self) -> Result<(), End> {
        if self.caller.as_ref().is_some_and(|caller| !self.access.still_good(caller)) {
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

/// What clients say is thrown away; only how it fails means something.
fn understand(said: Option<Result<Message, Error>>) -> Result<(), End> {
    match said {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(failed(&error)),
        None => Err(End::Left),
    }
}

fn failed(error: &Error) -> End {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => End::Left,
        Error::Capacity(_) => End::TOO_LARGE,
        Error::Utf8(_) => End::NOT_TEXT,
        Error::Protocol(_) => End::NOT_WEBSOCKET,
        error => {
            tracing::debug!(%error, "a socket failed");
            End::Lost
        }
    }
}
