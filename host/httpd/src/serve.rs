//! The connection loop: accepts sockets, speaks HTTP/1.1 on them, ends in an orderly way.
//!
//! Our own rather than axum's, because clients of the contract look for header names in title
//! case, and for the deadlines and caps (see [`connection`](super::connection)).
//!
//! - At most `max_connections` sockets, and `connections_per_address` from one address; what happens beyond stands in
//!   `connection_table`.
//! - Running out of file descriptors pauses accepting, and closes connections that wait; nothing else.
//! - Requests may come before the routes are there ([`Routes`]): the server listens first.
//! - Draining: no new sockets; idle ones close at once; open requests get `drain`; then everything
//!   closes. Sockets that were upgraded count as open until their new owner lets go of them.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::SetOnce;
use tokio::time::{sleep, timeout};
use tower::Service;

use crate::capacity::Capacity;
use crate::client_ip::{Peer, TrustedProxies};
use crate::connection::{Connection, Deadlines};
use crate::connection_table::{ConnectionTable, Counted};
use crate::error::ApiError;
use crate::request_body::RequestBody;
use crate::requests::{InFlight, Requests};
use crate::shutdown::Shutdown;

/// Limits of the connection loop. [`Limits::default`] is what the server runs with; tests shorten
/// the times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sockets open at the same time, upgraded ones included.
    pub max_connections: u32,
    /// Those of one address.
    pub connections_per_address: u32,
    /// Bytes of a request's head, start line included; more is answered with 431.
    pub max_head: usize,
    /// Deadlines of one connection.
    pub deadlines: Deadlines,
    /// How long open requests may take once draining has begun.
    pub drain: Duration,
    /// How long a request waits for the routes of a server that starts.
    pub start: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: Capacity::MAX_CONNECTIONS,
            connections_per_address: Capacity::MAX_CONNECTIONS / Capacity::ADDRESS_PART,
            max_head: 64 * 1024,
            deadlines: Deadlines::default(),
            drain: Duration::from_secs(30),
            start: Duration::from_secs(30),
        }
    }
}

/// Bytes of an answer that the kernel takes of us and has not sent yet. Up to megabytes without this: a client that
/// reads slowly would seem to take nothing while they last, and each connection could keep so much memory.
const UNSENT: u32 = 128 * 1024;

/// When the kernel begins to ask a silent client whether it is still there, and how often: a WebSocket may be silent
/// for as long as it likes, and one whose client vanished would stay for ever.
const PROBE_AFTER: Duration = Duration::from_secs(120);
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// How long accepting pauses when the process or the machine is out of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// What requests are answered by. Until the routes are ready, requests wait for them, except those of
/// the routes of the start. Cheap to clone. A clone keeps the routes' state alive.
#[derive(Debug, Clone)]
pub struct Routes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ready: SetOnce<Router>,
    /// For the paths of `early`, and for requests that waited in vain.
    start: Router,
    early: &'static [&'static str],
}

impl Routes {
    /// Routes that are made ready later. Meanwhile `start` answers the paths of `early`, and requests that
    /// waited too long.
    #[must_use]
    pub fn starting(early: &'static [&'static str], start: Router) -> Self {
        Self(Arc::new(Inner { ready: SetOnce::new(), start, early }))
    }

    /// Answers all requests with this router from now on. A second call changes nothing.
    pub fn ready(&self, router: Router) {
        if self.0.ready.set(router).is_err() {
            tracing::debug!("the routes were ready before");
        }
    }

    /// The routes will not be ready: the router of the start answers all requests, also those that wait.
    pub fn abandon(&self) {
        self.ready(self.0.start.clone());
    }

    async fn get(&self, path: &str, limit: Duration) -> &Router {
        match self.0.ready.get() {
            Some(router) => router,
            None if self.0.early.contains(&path) => &self.0.start,
            None => timeout(limit, self.0.ready.wait()).await.unwrap_or(&self.0.start),
        }
    }
}

impl From<Router> for Routes {
    fn from(router: Router) -> Self {
        let routes = Self::starting(&[], Router::new());
        routes.ready(router);
        routes
    }
}

/// The answer to a request beyond those that one client behind a trusted proxy may have in progress.
const TOO_MANY_REQUESTS: &str = "too many requests in progress from this address";

/// The answer to a connection beyond those that its address may have. It is written without waiting, and lost where
/// that does not work: nothing waits for an address that has enough connections.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json; charset=utf-8\r\n\
    Content-Length: 50\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
    {\"error\":\"too many connections from this address\"}";

/// Serves `routes` on `listener` until `shutdown` has run its course.
pub async fn serve(
    listener: TcpListener,
    routes: impl Into<Routes>,
    limits: Limits,
    proxies: TrustedProxies,
    shutdown: Shutdown,
) {
    let routes = routes.into();
    let table = ConnectionTable::new(limits.max_connections, limits.connections_per_address, proxies);
    let mut http = http1::Builder::new();
    http.title_case_headers(true)
        .max_header_size(limits.max_head)
        .max_buf_size(limits.max_head.saturating_mul(2)) // hyper's own is 400 KiB for each connection
        .header_read_timeout(None); // the socket does it, see `connection`
    // Accepted sockets inherit it.
    let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    if let Err(error) = SockRef::from(&listener).set_tcp_keepalive(&keepalive) {
        tracing::warn!(%error, "cannot set SO_KEEPALIVE: connections of clients that vanish may stay");
    }
    if let Err(error) = SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT) {
        tracing::warn!(%error, "cannot set TCP_NOTSENT_LOWAT: answers to slow clients may be cut off in a crowd");
    }
    let accepting = async {
        loop {
            let (stream, peer) = accept(&listener, &table).await;
            let Ok(counted) = table.count(peer.ip()) else {
                let _ = stream.try_write(TOO_MANY);
                continue;
            };
            let Some(permit) = table.permit().await else { return };
            let permit = table.add(counted, permit);
            let id = permit.id();
            let server = Server {
                routes: routes.clone(),
                requests: Arc::clone(permit.requests()),
                client: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                table: Arc::clone(&table),
                limits,
            };
            let socket = Connection::new(stream, limits.deadlines, permit);
            let task = tokio::spawn(serve_connection(http.clone(), socket, server, shutdown.for_one()));
            table.set_task(id, task.abort_handle());
        }
    };
    tokio::select! {
        () = shutdown.draining() => {}
        () = accepting => {}
    }
    drop(listener);
    tokio::select! {
        () = table.empty() => {}
        () = sleep(limits.drain) => tracing::warn!("open requests did not end in time"),
        () = shutdown.ended() => {}
    }
    shutdown.end();
}

/// The next socket.
async fn accept(listener: &TcpListener, table: &ConnectionTable) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return (stream, peer);
            }
            Err(error) if is_of_one_client(&error) => {
                tracing::debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept connections, trying again");
                table.make_room();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an error of `accept` concerns one client only. What is left (no file
/// descriptors, no memory) would come back at once and keep a core busy.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// What the requests of one connection need.
struct Server {
    routes: Routes,
    requests: Arc<Requests>,
    client: SocketAddr,
    table: Arc<ConnectionTable>,
    limits: Limits,
}

/// Speaks HTTP on one socket until it closes or is upgraded.
async fn serve_connection(http: http1::Builder, socket: Connection, server: Server, shutdown: Shutdown) {
    let client = server.client;
    let server = &server;
    let service = service_fn(|request| server.answer(request));
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service).with_upgrades());
    let mut result = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = shutdown.draining() => None,
    };
    if result.is_none() {
        connection.as_mut().graceful_shutdown();
        result = tokio::select! {
            result = connection => Some(result),
            () = shutdown.ended() => None,
        };
    }
    if let Some(Err(error)) = result {
        tracing::debug!(%client, error = &error as &dyn std::error::Error, "connection failed");
    }
}

/// The connection is being closed to make room.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed to make room for others")]
struct Closing;

impl Server {
    /// Hands one request to the router. It is in progress until the last byte of the answer.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<TrackedBody>, Closing> {
        let in_flight = self.requests.begin().ok_or(Closing)?;
        let counted = self.table.count_request(self.client.ip(), request.headers());
        let Ok(counted) = counted else {
            let refusal = ApiError::new(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_REQUESTS).with_retry_after(1);
            let tracked = |body| TrackedBody { body, _in_flight: in_flight, _counted: None };
            return Ok(refusal.into_response().map(tracked));
        };
        let deadlines = self.limits.deadlines;
        let mut request = request.map(|body| RequestBody::wrap(body, deadlines, &self.requests));
        let peer = Peer { address: self.client, requests: Arc::clone(&self.requests) };
        request.extensions_mut().insert(peer);
        let mut router = self.routes.get(request.uri().path(), self.limits.start).await.clone();
        let Ok(mut response) = router.call(request).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            in_flight.upgraded();
        }
        if self.requests.take_unread() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| TrackedBody { body, _in_flight: in_flight, _counted: counted }))
    }
}

// === Bodies ===

/// An answer's body, whose request is in progress until it has been handed over.
struct TrackedBody {
    body: Body,
    _in_flight: InFlight,
    _counted: Option<Counted>,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_connection_is_a_complete_answer() {
        let text = std::str::from_utf8(TOO_MANY).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{text}");
        assert!(head.starts_with("HTTP/1.1 429 ") && !head.contains('\\'), "{text}");
    }

    #[test]
    fn only_errors_of_one_client_are_ignored() {
        assert!(is_of_one_client(&io::ErrorKind::ConnectionAborted.into()));
        const EMFILE: i32 = 24;
        assert!(!is_of_one_client(&io::Error::from_raw_os_error(EMFILE)));
    }
}
