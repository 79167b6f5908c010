//! The web canvas behind this server: what no route matches goes to `CANVAS_PROXY_URL`, streamed both ways and
//! without credentials.
//!
//! Bounds: an answer must begin within [`HEAD_TIMEOUT`] and go on within [`IDLE_TIMEOUT`]. WebSockets have the limits
//! of this server's own ([`CanvasSockets`]).

use std::any::Any;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures::future::{Either, select};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::time::timeout;
use tower_http::timeout::TimeoutBody;

use crate::body::{self, BodyError};
use crate::client_ip::ClientIp;
use crate::error::ApiError;
use crate::router_ext::Unmatched;
use crate::shutdown::Shutdown;
use crate::websocket::contains_word;

/// Paths of the API: what is unknown below them is an error, not a page.
const API: [&str; 7] =
    ["/workspaces/", "/admin/", "/registry/", "/settings/", "/org/", "/orgs/", "/webhooks/"];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may pause.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one side of a WebSocket may go on after the other has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept. Shorter than servers of pages usually keep theirs (5 s).
const POOL_TIMEOUT: Duration = Duration::from_secs(4);
/// After which silence the system checks whether the canvas is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Headers that concern one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Names this server in what it passes on, as `Via` does: protocol and pseudonym. A request that has it already comes
/// back from a canvas that is a server like this one.
const HOP: &str = "1.1 isomer";
const LEADS_BACK: &str = "CANVAS_PROXY_URL leads back to this server";

/// What pages of the canvas may do. Answers of this server get a stricter policy.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; connect-src 'self' ws: wss:; font-src 'self' data:",
);

/// The right to keep one WebSocket open, returned when it is dropped.
type Permit = Box<dyn Any + Send>;

/// Gives permits for WebSockets of the canvas, by the client's address. They come without a credential.
pub type CanvasSockets = Arc<dyn Fn(Option<ClientIp>) -> Result<Permit, ApiError> + Send + Sync>;

/// The canvas.
pub(crate) struct Canvas {
    /// Scheme and host. A path in the setting is not used.
    origin: Uri,
    client: Client<HttpsConnector<HttpConnector>, Body>,
    sockets: CanvasSockets,
    shutdown: Shutdown,
}

impl Canvas {
    /// The canvas at a URL. `None`: TLS can't be set up.
    pub(crate) fn new(url: &Uri, sockets: CanvasSockets, shutdown: Shutdown) -> Option<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(tls(url.scheme() == Some(&Scheme::HTTPS))?)
            .https_or_http()
            .enable_http1();
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_idle_timeout(POOL_TIMEOUT).pool_timer(TokioTimer::new());
        let client = client.build(tls.wrap_connector(tcp));
        Some(Self { origin: url.clone(), client, sockets, shutdown })
    }

    /// The canvas' answer, or an error for what is below a path of the API.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let mut response = if API.iter().any(|path| request.uri().path().starts_with(path)) {
            ApiError::not_found("not found").into_response()
        } else if passed_here(request.headers()) {
            tracing::warn!("{LEADS_BACK}");
            plain(StatusCode::LOOP_DETECTED, LEADS_BACK)
        } else {
            self.forward(request).await.unwrap_or_else(|error| {
                let error = &*error as &dyn Error;
                if body::is_timeout(error) {
                    return ApiError::from(BodyError::Timeout).into_response();
                }
                tracing::warn!(error, "the canvas (CANVAS_PROXY_URL) does not answer");
                plain(StatusCode::BAD_GATEWAY, "canvas unavailable")
            })
        };
        response.extensions_mut().insert(Unmatched);
        response
    }

    async fn forward(&self, mut request: Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
        let socket = match contains_word(request.headers(), header::UPGRADE, "websocket") {
            true => request.extensions_mut().remove::<OnUpgrade>(),
            false => None,
        };
        let client = request.extensions().get::<ClientIp>().copied();
        let permit = match socket.as_ref().map(|_| (self.sockets)(client)).transpose() {
            Ok(permit) => permit,
            Err(refusal) => return Ok(refusal.into_response()),
        };
        let (parts, body) = request.into_parts();
        let mut onward = http::Request::new(body);
        *onward.method_mut() = parts.method;
        *onward.version_mut() = Version::HTTP_11;
        *onward.uri_mut() = self.target(&parts.uri).ok_or("the path can't be asked for")?;
        *onward.headers_mut() = parts.headers;
        drop_hop_by_hop(onward.headers_mut(), socket.is_some());
        for secret in [header::AUTHORIZATION, header::COOKIE, header::HOST] {
            onward.headers_mut().remove(secret);
        }
        onward.headers_mut().append(header::VIA, HeaderValue::from_static(HOP));
        let answer = timeout(HEAD_TIMEOUT, self.client.request(onward)).await;
        let mut answer = answer.map_err(|_| "no answer in time")??;
        let upgraded = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        if upgraded {
            let theirs = hyper::upgrade::on(&mut answer);
            let (Some(ours), Some(permit)) = (socket, permit) else {
                return Err("an upgrade that was not asked for".into());
            };
            tokio::spawn(pass_on(ours, theirs, self.shutdown.for_one(), permit));
        }
        let (mut parts, body) = answer.into_parts();
        parts.version = Version::HTTP_11;
        drop_hop_by_hop(&mut parts.headers, upgraded);
        parts.headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(PAGE_POLICY);
        Ok(Response::from_parts(parts, Body::new(TimeoutBody::new(IDLE_TIMEOUT, body))))
    }

    fn target(&self, uri: &Uri) -> Option<Uri> {
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let scheme = self.origin.scheme().cloned().unwrap_or(Scheme::HTTP);
        let authority = self.origin.authority()?.clone();
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
    }
}

/// Trusts the certificates that the system trusts. They take a while to read, which only a `secure` canvas needs.
fn tls(secure: bool) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if secure {
        let system = net::system_certificates();
        let system =
            system.inspect_err(|error| tracing::error!(%error, "the canvas can't be reached by TLS")).ok()?;
        roots.add_parsable_certificates(system.certs);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions();
    let config =
        config.inspect_err(|error| tracing::error!(%error, "the canvas can't be reached by TLS")).ok()?;
    Some(config.with_root_certificates(roots).with_no_client_auth())
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// Whether a request was passed on by a server like this one.
fn passed_here(headers: &HeaderMap) -> bool {
    let hops = headers.get_all(header::VIA).iter().filter_map(|value| value.to_str().ok());
    hops.flat_map(|hops| hops.split(',')).any(|hop| hop.trim() == HOP)
}

/// Removes what concerns one connection. An upgrade is asked for, and granted, on each connection anew.
fn drop_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// Carries the bytes of a WebSocket until one side ends it, or the server drains. A client that vanishes is found out
/// by the probes of its connection.
async fn pass_on(ours: OnUpgrade, theirs: OnUpgrade, shutdown: Shutdown, _permit: Permit) {
    let passed = async {
        let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
        let (our_read, our_write) = split(TokioIo::new(ours));
        let (their_read, their_write) = split(TokioIo::new(theirs));
        let (up, down) = (pin!(carry(our_read, their_write)), pin!(carry(their_read, our_write)));
        // What is left of the other direction has a moment: it may never end by itself.
        match select(up, down).await {
            Either::Left((_, rest)) => drop(timeout(CLOSE_TIMEOUT, rest).await),
            Either::Right((_, rest)) => drop(timeout(CLOSE_TIMEOUT, rest).await),
        }
    };
    tokio::select! {
        () = passed => {}
        () = shutdown.draining() => {}
    }
}

/// Carries bytes until their end, and passes that on. Either side may end a socket without ceremony.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
