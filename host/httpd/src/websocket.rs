//! WebSockets as far as every route with one shares them: the handshake and an orderly end.
//!
//! Not axum's own: its socket never gives the connection back, so that what a client still sends when we
//! close would make the kernel throw our close frame away. Ours is closed like any other connection (see
//! [`connection`](super::connection)): it lingers.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::error::ApiError;

/// The only version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// An open socket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A WebSocket handshake, as the argument of a handler. A request that isn't one is refused with
/// 400.
#[derive(Debug)]
pub struct Handshake {
    accept: HeaderValue,
    upgrade: OnUpgrade,
}

impl<S: Send + Sync> FromRequestParts<S> for Handshake {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        Self::of(parts).ok_or_else(|| {
            let error = ApiError::bad_request("not a WebSocket handshake");
            ([(SEC_WEBSOCKET_VERSION, VERSION)], error).into_response()
        })
    }
}

impl Handshake {
    fn of(parts: &mut Parts) -> Option<Self> {
        let headers = &parts.headers;
        let asked = parts.version == Version::HTTP_11
            && contains_word(headers, CONNECTION, "upgrade")
            && contains_word(headers, UPGRADE, "websocket")
            && headers.get(SEC_WEBSOCKET_VERSION) == Some(&VERSION);
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asked)?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()?;
        Some(Self { accept, upgrade: parts.extensions.remove()? })
    }

    /// Accepts the handshake; `run` gets the socket once the client has the answer. `protocol` is the selected
    /// subprotocol.
    pub fn accept<F>(
        self,
        config: WebSocketConfig,
        protocol: Option<HeaderValue>,
        run: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        tokio::spawn(async move {
            match self.upgrade.await {
                Ok(upgraded) => {
                    let stream = TokioIo::new(upgraded);
                    run(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await).await;
                }
                Err(error) => tracing::debug!(%error, "the client left during the handshake"),
            }
        });
        let headers = [
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        if let Some(protocol) = protocol {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// Sends a close frame with a reason, if there is one, and closes the connection. Takes as long as `limit` at
/// most.
pub async fn close(mut socket: Socket, why: Option<(CloseCode, &'static str)>, limit: Duration) {
    let closing = async {
        if let Some((code, reason)) = why {
            let sent = socket.close(Some(CloseFrame { code, reason: reason.into() })).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "the client was gone before the close frame was sent");
            }
        }
        // A client that is gone has closed it already.
        let _ = socket.into_inner().shutdown().await;
    };
    if timeout(limit, closing).await.is_err() {
        tracing::debug!("the client took no close frame");
    }
}

/// Whether `word` is among the comma-separated words of a header.
pub(crate) fn contains_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name);
    let mut words = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.any(|found| found.trim().eq_ignore_ascii_case(word))
}
