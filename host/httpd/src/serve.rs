//! The connection loop: accepts sockets, speaks HTTP/1.1 on them, ends in an orderly way.
//!
//! Our own rather than axum's, because clients of the contract look for header names in title
//! case, and for the deadlines and caps (see [`connection`](super::connection)).
//!
//! - At most `max_connections` sockets; at the cap nothing is accepted, newcomers wait in the
//!   kernel's queue.
//! - Running out of file descriptors pauses accepting, nothing else.
//! - Requests may come before the routes are there ([`Routes`]): the server listens first.
//! - Draining: no new sockets; idle ones close at once; open requests get `drain`; then everything
//!   closes. Sockets that were upgraded count as open until their new owner lets go of them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SetOnce};
use tokio::time::{Instant, sleep, timeout};
use tower::Service;

use super::connection::{Connection, Deadlines, InFlight, Requests, Timer};
use super::shutdown::Shutdown;

/// Limits of the connection loop. [`Limits::default`] is what the server runs with; tests shorten
/// the times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sockets open at the same time, upgraded ones included.
    pub max_connections: u32,
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
            max_connections: 10_000,
            max_head: 64 * 1024,
            deadlines: Deadlines {
                header: Duration::from_secs(10),
                idle: Duration::from_secs(120),
                linger: Duration::from_secs(2),
            },
            drain: Duration::from_secs(30),
            start: Duration::from_secs(30),
        }
    }
}

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

/// Serves `routes` on `listener` until `shutdown` has run its course.
pub async fn serve(listener: TcpListener, routes: impl Into<Routes>, limits: Limits, shutdown: Shutdown) {
    let routes = routes.into();
    let permits = Arc::new(Semaphore::new(limits.max_connections as usize));
    let mut http = http1::Builder::new();
    http.title_case_headers(true).max_header_size(limits.max_head).header_read_timeout(None); // the socket does it, see `connection`
    let accepting = async {
        loop {
            let Some((stream, peer, permit)) = accept(&listener, &permits).await else {
                return;
            };
            let socket = Connection::new(stream, limits.deadlines, permit);
            let connection =
                serve_connection(http.clone(), socket, peer, routes.clone(), limits, shutdown.for_one());
            tokio::spawn(connection);
        }
    };
    tokio::select! {
        () = shutdown.draining() => {}
        () = accepting => {}
    }
    drop(listener);
    tokio::select! {
        // All permits are back when every socket is gone.
        _ = permits.acquire_many(limits.max_connections) => {}
        () = sleep(limits.drain) => tracing::warn!("open requests did not end in time"),
        () = shutdown.ended() => {}
    }
    shutdown.end();
}

/// The next socket and its permit. `None` would mean a closed semaphore; it is never closed.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return Some((stream, peer, permit));
            }
            Err(error) if is_of_one_client(&error) => {
                tracing::debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept connections, trying again");
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

/// Speaks HTTP on one socket until it closes or is upgraded.
async fn serve_connection(
    http: http1::Builder,
    socket: Connection,
    peer: SocketAddr,
    routes: Routes,
    limits: Limits,
    shutdown: Shutdown,
) {
    let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let requests = socket.requests();
    let service = service_fn(|request| answer(request, routes.clone(), client, &requests, limits));
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

/// Hands one request to the router. It is in progress until the last byte of the answer.
async fn answer(
    request: Request<Incoming>,
    routes: Routes,
    client: SocketAddr,
    requests: &Arc<Requests>,
    limits: Limits,
) -> Result<Response<TrackedBody>, Infallible> {
    let in_flight = requests.begin();
    let mut request = request.map(|body| Body::new(IdleTimeoutBody::new(body, limits.deadlines.idle)));
    request.extensions_mut().insert(ConnectInfo(client));
    let mut router = routes.get(request.uri().path(), limits.start).await.clone();
    let response = router.call(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        in_flight.upgraded();
    }
    Ok(response.map(|body| TrackedBody { body, _in_flight: in_flight }))
}

// === Bodies ===

/// A body; fails when its sender stops in the middle.
pub(crate) struct IdleTimeoutBody {
    body: Incoming,
    idle: Duration,
    next_by: Option<Instant>,
    timer: Timer,
}

impl IdleTimeoutBody {
    pub(crate) fn new(body: Incoming, idle: Duration) -> Self {
        Self { body, idle, next_by: None, timer: Timer::default() }
    }
}

impl http_body::Body for IdleTimeoutBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.next_by = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle = self.idle;
        let by = *self.next_by.get_or_insert_with(|| Instant::now() + idle);
        if self.timer.poll(by, cx) {
            return Poll::Ready(Some(Err("the other end stopped sending".into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, whose request is in progress until it has been handed over.
struct TrackedBody {
    body: Body,
    _in_flight: InFlight,
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
    fn only_errors_of_one_client_are_ignored() {
        assert!(is_of_one_client(&io::ErrorKind::ConnectionAborted.into()));
        const EMFILE: i32 = 24;
        assert!(!is_of_one_client(&io::Error::from_raw_os_error(EMFILE)));
    }
}
